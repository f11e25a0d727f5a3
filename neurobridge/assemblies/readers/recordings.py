"""Recordings of a laboratory, from the files in which it keeps them, to an assembly."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies.readers.assemble import Marks
from neurobridge.assemblies.readers.contents import Contents, Part
from neurobridge.assemblies.readers.files.gridded import of_assembly_layout
from neurobridge.assemblies.readers.formats import TABLES, contents_of, format_of
from neurobridge.assemblies.readers.frames import Table, read_frame
from neurobridge.assemblies.readers.reading import Reading
from neurobridge.assemblies.readers.spikes import Windows
from neurobridge.assemblies.schema import NEUROID_ID
from neurobridge.assemblies.storage.files import open_assembly

Source = str | os.PathLike[str] | pd.DataFrame | np.ndarray


def read_recordings(
    source: Source,
    *,
    trials: Table | None = None,
    sites: Table | None = None,
    variable: str | Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    dims: str | Sequence[str] | None = None,
    windows: Windows | None = None,
    bins: tuple[float, float, float] | None = None,
    sampling_rate: float = 1.0,
    session: str | None = None,
    animal: str | None = None,
    qualify_ids: Sequence[str] = (NEUROID_ID,),
    ids: str | Sequence[str] = (),
) -> xr.DataArray:
    """Read recordings from a laboratory's own files as an assembly.

    The format follows from the file: npy, npz, csv, tsv, parquet, MATLAB (5 and 7.3), HDF5, NWB, zarr, netCDF, or a folder with
    ``spike_times.npy`` and ``spike_clusters.npy``. HDF5, MATLAB 7.3, NWB and parquet need the extra ``io``. Ids become text
    (7 and 7.0 are "7"). Nothing is guessed in silence: what the caller did not say stands in ``attrs["guessed"]``, what is not
    in the assembly in ``attrs["left_out"]``. Missing values (NaN) are kept and counted in ``attrs["n_missing_values"]``;
    presentations and sites without any value are left out.

    Parameters
    ----------
    source : path, pandas.DataFrame or array
        The responses: a file, a table with one value a row (long) or one trial a row (wide), or an array.
    trials : path, table, mapping or sequence of ids, optional
        One row a presentation, with ``stimulus_id``: csv, tsv, parquet, npy of ids, a table. For NWB also the name of its table of
        intervals, ``"intervals/NAME"``. Not needed where the file itself has ids.
    sites : path, table, mapping or sequence of ids, optional
        One row a site, with ``neuroid_id``. Sites without ids are numbered.
    variable : str or sequence of str, optional
        Which array of a file with several: a name, a path in HDF5, netCDF groups or zarr (``"/day1/rates"``), a field of a MATLAB
        structure (``"data.rates"``), an item of an NWB file. For a wide table the columns of sites, names or patterns
        (``"site_*"``).
    columns : mapping of str to str, optional
        Names of columns or variables, ours to theirs: ``{"stimulus_id": "image_name", "category_name": "class"}``.
    dims : str or sequence of str, optional
        What the axes of the array are, in its order: ``"neuroid,presentation,repetition"``. Words: presentation (trial, stimulus,
        image), neuroid (site, unit, channel, cell), time_bin (time), repetition. By default by the names in the file and by the
        lengths of the tables.
    windows : mapping of str to (start, stop), optional
        For spike times: count in named windows, milliseconds after onset.
    bins : (start, stop, width), optional
        For spike times: count in bins, milliseconds after onset. For an array with a time axis: the times of its bins.
    sampling_rate : float
        For spike times: their units in a second.
    session, animal : str, optional
        Names that become coordinates of all sites; or the names of columns of the sites, or of a long table, that have them.
    qualify_ids : sequence of str
        Where session or animal are given: which ids they are put before ("PE-210325-site-07"), ``neuroid_id`` and
        ``stimulus_id``. Default: those of sites, as the sites of two sessions are different ones.
    ids : str or sequence of str
        Forms that the stimulus ids are brought to: "stem" (no file extension), "name" (no folders), "casefold", "nfc", "nfkc",
        "strip", "visible".

    Returns
    -------
    xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``. Attributes: ``read_from`` (names of the files), ``format``, ``sha256`` of the
        file, ``guessed``, ``left_out``, ``n_missing_values``.

    Raises
    ------
    FileNotFoundError
        A file is not there.
    AssemblyError
        A file is damaged or holds what is not asked for, a column is missing, or lengths disagree. The message lists what there is.
    ArchiveError
        An npy or npz file is damaged, or holds Python objects, which are never read.
    ImportError
        A package of the extra ``io`` or ``zarr`` is missing.
    MemoryError
        The array would be larger than the memory.

    Warns
    -----
    UserWarning
        The lengths of a square array do not say which axis is which.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import neurobridge as nb
    >>> np.save("responses.npy", [[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]])  # simulated: two trials, three sites
    >>> pd.DataFrame({"trial": [1, 2], "image_name": ["a.png", "b.png"]}).to_csv("trials.csv", index=False)
    >>> recordings = nb.read_recordings("responses.npy", trials="trials.csv", columns={"stimulus_id": "image_name"})
    >>> dict(recordings.sizes), recordings["stimulus_id"].values.tolist(), recordings.attrs["n_missing_values"]
    ({'presentation': 2, 'neuroid': 3}, ['a.png', 'b.png'], 1)
    """
    columns = {str(ours): str(theirs) for ours, theirs in dict(columns or {}).items()}
    forms = tuple(part.strip() for part in ids.split(",")) if isinstance(ids, str) and ids else tuple(ids)
    marks = Marks(session, animal, tuple(qualify_ids), forms)
    reading = Reading(trials, sites, variable, columns, dims, windows, bins, sampling_rate, marks)
    if isinstance(source, pd.DataFrame):
        return reading.of_table(source.reset_index(drop=True), "the table", {"format": "table"})
    if not isinstance(source, (str, os.PathLike)):
        array = np.asarray(source)
        part = Part(
            "array", array.shape, "cells" if array.dtype.kind == "O" else array.dtype.name, n_bytes=array.nbytes
        )
        return reading.of_contents(Contents(Path("array"), "array", [part], lambda name: array), {"format": "array"})
    path = Path(source)
    kind = format_of(path)
    attrs = {"read_from": path.name, "format": kind}
    if path.is_file():
        attrs["sha256"] = digest(path)
    if kind in TABLES:
        return reading.of_table(read_frame(path, what=path.name, text=tuple(columns.values())), path.name, attrs)
    if kind == "NWB":
        return reading.of_nwb(path, attrs)
    if kind == "spike folder":
        return reading.of_spike_folder(path, attrs)
    contents = contents_of(path, kind)
    if of_assembly_layout(contents) and variable is None:
        return reading.of_assembly(open_assembly(path), attrs)
    return reading.of_contents(contents, attrs)


def digest(path: Path) -> str:
    """Return the sha256 of a file, read a piece at a time."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
