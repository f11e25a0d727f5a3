"""Real macaque V4 and IT of Majaj & Hong 2015, Brain-Score's public split: single trials, and the images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError, open_assembly, read_table
from neurobridge.assemblies.labels import plain
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.archives import zip_images
from neurobridge.datasets.files.fetch import digests_of, fetch
from neurobridge.datasets.files.manifests import Manifest, find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment

NAME, TEMPORAL = "majajhong2015.public", "majajhong2015.temporal.public"
RESPONSES, TEMPORAL_RESPONSES = "assy_dicarlo_MajajHong2015_public.nc", "assy_dicarlo_MajajHong2015_temporal_public.nc"
TABLE, IMAGES = "stimulus_hvm-public.csv", "stimulus_hvm-public.zip"
# Brain-Score's table calls the file within the archive by the first name, older ones by the second.
_FILE_COLUMNS = ("filename", "image_file_name")


def load(
    *,
    mirror: str | os.PathLike[str] | None = None,
    images: bool = True,
    chunks: Mapping[str, int] | Literal["auto"] | None = None,
) -> Experiment:
    """Load 148,480 trials of 88 V4 and 168 IT sites, the stimulus table, and the 3200 images.

    Parameters
    ----------
    mirror : path, optional
        Folder with the files.
    images : bool
        Give the images too: a lazy array, decoded from the archive when it is read. False: that archive is not fetched.
    chunks : mapping or "auto", optional
        Read the recordings lazily, e.g. ``{"presentation": 3200}``; default: all of them now.

    Returns
    -------
    Experiment
        ``recordings`` (presentation, neuroid, time_bin), float32, one row a trial; ``stimuli`` with ``stimulus_id`` and, for each
        image, its object, category, position, size and pose; ``images`` (presentation, row, column[, channel]), uint8.

    Raises
    ------
    AssemblyError
        The recordings show stimuli that the table lacks, or the table names no files.
    ArchiveError
        The archive is broken, or lacks images that the table names.
    """
    files = [RESPONSES, TABLE, *([IMAGES] if images else [])]
    paths = fetch(NAME, files=files, mirror=mirror)
    manifest = find_manifest(NAME)
    units = "firing rate in 70-170 ms, as Brain-Score stores it"
    return _experiment(manifest, describe(manifest, files), paths, RESPONSES, units, chunks)


def load_temporal(
    *,
    mirror: str | os.PathLike[str] | None = None,
    images: bool = True,
    chunks: Mapping[str, int] | Literal["auto"] | None = "auto",
) -> Experiment:
    """Load the trials of "majajhong2015.public" in time bins; table and images are those of that dataset.

    Parameters
    ----------
    mirror : path, optional
        Folder with the files.
    images : bool
        As `load` takes it.
    chunks : mapping or "auto", optional
        How the recordings are read lazily; None reads all of them now, which takes 150 MB a time bin.

    Returns
    -------
    Experiment
        As `load` gives it; ``recordings`` has ``time_bin_start`` and ``time_bin_end`` in ms on ``time_bin``.

    Raises
    ------
    AssemblyError, ArchiveError
        As `load`.
    """
    files = [TABLE, *([IMAGES] if images else [])]
    paths = fetch(TEMPORAL, mirror=mirror) | fetch(NAME, files=files, mirror=mirror)
    manifest = find_manifest(TEMPORAL)
    shared = digests_of(NAME)
    about = describe(manifest, more={file: shared[file] for file in files})
    units = "firing rate in each time bin, as Brain-Score stores it"
    return _experiment(manifest, about, paths, TEMPORAL_RESPONSES, units, chunks)


def _experiment(
    manifest: Manifest,
    about: Mapping[str, Any],
    paths: Mapping[str, Path],
    responses: str,
    units: str,
    chunks: Mapping[str, int] | Literal["auto"] | None,
) -> Experiment:
    """Join the trials of a file with the stimulus table, and with the images where they were fetched."""
    stimuli = read_stimuli(paths[TABLE])
    attrs = assembly_attrs(manifest, about, units=units)
    recordings = _with_labels(open_assembly(paths[responses], chunks=chunks), stimuli).assign_attrs(attrs)
    pixels = _lazy_images(paths[IMAGES], stimuli, attrs) if IMAGES in paths else None
    return make_experiment(manifest, about, stimuli, recordings=recordings, images=pixels)


def _with_labels(recordings: xr.DataArray, stimuli: pd.DataFrame) -> xr.DataArray:
    """Add what the table knows of each stimulus and the recordings do not, as Brain-Score does when it loads them."""
    ids, inverse = np.unique(recordings["stimulus_id"].values, return_inverse=True)
    row = pd.Index(stimuli["stimulus_id"].astype(str)).get_indexer(pd.Index(ids.astype(str)))
    if (row < 0).any():
        raise AssemblyError(
            f"{NAME}: found {int((row < 0).sum())} stimuli in the recordings that {TABLE} lacks, e.g. "
            f"{str(ids[row < 0][0])!r}; expected "
            "all of them. Mend: fetch both files again."
        )
    absent = [str(name) for name in stimuli if name not in recordings.coords and name not in _FILE_COLUMNS]
    labels = {name: ("presentation", plain(stimuli[name], name=name)[row][inverse]) for name in absent}
    return recordings.assign_coords(labels)


def read_stimuli(path: Path) -> pd.DataFrame:
    """Read a stimulus table of Brain-Score; ``image_id`` is copied to ``stimulus_id`` where the file is older than that name.

    Raises
    ------
    AssemblyError
        No ids, or an id twice.
    """
    table = read_table(path, what="stimuli")
    if "stimulus_id" not in table and "image_id" in table:
        table = table.assign(stimulus_id=table["image_id"])
    if "stimulus_id" not in table or not table["stimulus_id"].is_unique:
        raise AssemblyError(
            f"{path}: found columns {list(map(str, table))}; expected stimulus_id (or image_id), each once. Mend: fetch it again."
        )
    return table.loc[:, [not str(name).startswith("Unnamed") for name in table]]


def _lazy_images(path: Path, stimuli: pd.DataFrame, attrs: Mapping[str, object]) -> xr.DataArray:
    column = next((name for name in _FILE_COLUMNS if name in stimuli), None)
    if column is None:
        raise AssemblyError(
            f"{NAME}: found columns {list(map(str, stimuli))}; expected one of {list(_FILE_COLUMNS)}, the file of each "
            f"image. Mend: "
            "fetch the table again, or load(..., images=False)."
        )
    pixels = zip_images(path, stimuli[column].astype(str).tolist())
    labels = ("stimulus_id", "object_name", "category_name", "variation", "background_id")
    coords = {name: ("presentation", plain(stimuli[name], name=name)) for name in labels if name in stimuli}
    return xr.DataArray(
        pixels, dims=("presentation", "row", "column", "channel")[: pixels.ndim], coords=coords, attrs=dict(attrs)
    )
