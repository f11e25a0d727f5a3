"""Formats of files: which one a path has, what is in it, and how it reads."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.readers.contents import Contents, Part
from neurobridge.assemblies.readers.files.arrays import npy_contents, npz_contents
from neurobridge.assemblies.readers.files.gridded import is_zarr, netcdf_contents, zarr_contents
from neurobridge.assemblies.readers.files.hdf5 import hdf5_contents
from neurobridge.assemblies.readers.files.matlab import matlab_contents
from neurobridge.assemblies.readers.files.nwb import read_session, summary
from neurobridge.assemblies.readers.frames import is_long, read_frame
from neurobridge.assemblies.readers.names import axis_of, known_column
from neurobridge.assemblies.schema import NEUROID_ID, STIMULUS_ID
from neurobridge.assemblies.tables import refuse_spreadsheet

_ENDINGS = {
    ".npy": "npy", ".npz": "npz", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".pq": "parquet",
    ".mat": "MATLAB", ".nwb": "NWB",
    ".h5": "HDF5", ".hdf5": "HDF5", ".hdf": "HDF5", ".nc": "netCDF", ".nc4": "netCDF", ".cdf": "netCDF",
}  # fmt: skip
#: Formats of tables, whose columns are described in place of arrays.
TABLES = ("csv", "tsv", "parquet")
_READERS = {
    "npy": npy_contents, "npz": npz_contents, "MATLAB": matlab_contents, "HDF5": hdf5_contents, "netCDF": netcdf_contents,
    "zarr": zarr_contents,
}  # fmt: skip
_SPIKES = ("spike_times.npy", "spike_clusters.npy")


def format_of(path: Path) -> str:
    """Return the format of a file or folder by its name, and by its first bytes where programs share a name.

    Raises
    ------
    FileNotFoundError
        There is nothing at the path.
    AssemblyError
        The format is not known.

    Examples
    --------
    >>> import numpy as np
    >>> np.save("rates.npy", np.eye(2))
    >>> format_of(Path("rates.npy"))
    'npy'
    """
    # Unlike that of pathlib, it answers for names that no file can have.
    if not os.path.exists(path):
        raise FileNotFoundError(f"found no file at {path}; expected recordings. Mend: check the path.")
    if path.is_dir():
        if is_zarr(path):
            return "zarr"
        if all((path / name).is_file() for name in _SPIKES):
            return "spike folder"
        raise AssemblyError(
            f"{path}: found a folder that is no zarr folder and has no {' and '.join(_SPIKES)}; expected one of these, or a "
            "file. Mend: "
            "name the file in it."
        )
    refuse_spreadsheet(path, "recordings")
    kind = _ENDINGS.get(path.suffix.casefold())
    if kind is None:
        raise AssemblyError(
            f"{path}: found a name that ends in {path.suffix!r}; expected one of {', '.join(_ENDINGS)}, or .zarr. Mend: save "
            "it in one of these formats."
        )
    if kind == "MATLAB" and _is_hdf5(path):
        return "HDF5"
    return kind


def _is_hdf5(path: Path) -> bool:
    """Tell a MATLAB file of version 7.3, which has the mark of HDF5 behind a block of its own."""
    with path.open("rb") as stream:
        return any(stream.seek(place) == place and stream.read(4) == b"\x89HDF" for place in (0, 512, 1024, 2048))


def contents_of(path: Path, kind: str) -> Contents:
    """Return the arrays in a file of a format that holds arrays."""
    return _READERS[kind](path)


def inspect_recordings(path: str | os.PathLike[str]) -> pd.DataFrame:
    """List what is in a file of recordings, without making an assembly of it.

    Parameters
    ----------
    path : path
        Any that `read_recordings` takes.

    Returns
    -------
    pandas.DataFrame
        One row an array, column or table: ``name``, ``shape``, ``dtype``, ``dims`` (names of axes in the file) and ``use``: what
        `read_recordings` would take it for by its name alone, empty where it says nothing. The attribute ``format`` names the
        format.

    Raises
    ------
    FileNotFoundError, AssemblyError, ArchiveError, ImportError
        As `read_recordings`.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import inspect_recordings
    >>> np.savez("day1.npz", rates=np.zeros((20, 5)), image_id=np.arange(20))  # simulated
    >>> inspect_recordings("day1.npz")[["name", "shape", "use"]].values.tolist()
    [['image_id', '20', 'stimulus_id'], ['rates', '20 x 5', 'responses']]
    """
    path = Path(path)
    kind = format_of(path)
    rows: list[tuple[str, str, str, str, str]]
    if kind in TABLES:
        table = read_frame(path, what=path.name)
        long = is_long(table)
        rows = [(str(name), str(len(table)), _dtype(table[name]), "", _use(str(name), long)) for name in table.columns]
    elif kind == "NWB":
        rows = [
            (name, what, "", "", "counts in windows" if name == "units" else "")
            for name, what in summary(read_session(path)).items()
        ]
    else:
        places = [path / name for name in _SPIKES] if kind == "spike folder" else [path]
        every = [contents_of(place, "npy" if kind == "spike folder" else kind) for place in places]
        kind = every[0].format if kind != "spike folder" else kind
        rows = [
            (part.name, " x ".join(map(str, part.shape)), part.dtype, ", ".join(part.dims), _use_of_part(part))
            for contents in every
            for part in contents.parts
        ]
        rows += [(name, "", "not read", "", "") for contents in every for name in contents.unread]
    shown = pd.DataFrame(rows, columns=["name", "shape", "dtype", "dims", "use"])
    shown.attrs["format"] = kind
    return shown


def _dtype(column: pd.Series) -> str:
    return "text" if column.dtype.kind not in "fiubMm" else str(column.dtype)


def _use(name: str, long: bool) -> str:
    wanted = (STIMULUS_ID, NEUROID_ID, "trial", "repetition", *(("value", "time") if long else ("onset",)))
    return next((ours for ours in wanted if known_column([name], ours) is not None), "")


def _use_of_part(part: Part) -> str:
    name = part.name.replace("/", ".").rpartition(".")[2]
    if part.holds_numbers and part.n_axes > 1:
        return "responses"
    if part.n_axes != 1:
        return ""
    ours = next((ours for ours in (STIMULUS_ID, NEUROID_ID, "time", "repetition") if known_column([name], ours)), "")
    return ours or (axis_of(name) or "")
