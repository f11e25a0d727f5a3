"""Files of features that may be larger than memory, as lazy arrays with their stimulus ids.

====================  =================================================================================================
``X.npy``             array (n, d), memory-mapped; beside it ``X.csv`` with a column ``stimulus_id`` (and ``wnid``), a row each
``X.npz``             ``features`` (n, d), ``stimulus_id`` (n,) and perhaps ``wnid`` (n,); ``np.savez`` is memory-mapped, a
                      compressed file is one chunk and may hold at most 1 GiB: write several
``X.nc``              a netCDF assembly, one variable (presentation, neuroid), as `neurobridge.save_assembly` writes it
``X.zarr``            the same as zarr, or a group with the arrays of an npz (needs the extra ``zarr``)
====================  =================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import dask.array
import numpy as np

from neurobridge.assemblies import AssemblyError, as_matrix, open_assembly, read_table
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.points.conversion import require_real
from neurobridge.store.archives import ArchiveError
from neurobridge.store.npy import ArrayArchive, read_npy

# Largest compressed file that is read as one chunk.
LIMIT_BYTES = 2**30
_ARRAYS = "arrays 'features' (n, d) and 'stimulus_id' (n,)"


class FeatureFileError(ValueError):
    """A file of features that is not as described; the message says what was found, expected and how to mend it."""


class Features(NamedTuple):
    """The contents of a file: ``values``, a dask array of shape (n, d), and the labels of its rows, text arrays of shape (n,)."""

    values: dask.array.Array
    stimulus_id: np.ndarray
    wnid: np.ndarray


def find_feature_files(folder: Path) -> list[Path]:
    """Return the feature files of a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in READERS and not path.name.startswith("."))


def open_features(path: Path, rows: int) -> Features:
    """Open one file lazily, in chunks of ``rows`` rows.

    Raises
    ------
    FeatureFileError
        The arrays are missing, hold no real numbers, or their lengths or dimensions do not fit; a row has no id.
    ImportError
        A zarr file without the extra ``zarr``.
    """
    features = READERS[path.suffix](path, rows)
    require_real(features.values, name=str(path), error=FeatureFileError)
    n = features.values.shape[0] if features.values.ndim == 2 else -1
    if not n == len(features.stimulus_id) == len(features.wnid):
        raise FeatureFileError(
            f"{path}: found features of shape {features.values.shape} and {len(features.stimulus_id)} stimulus ids; expected "
            f"(n, d) and n. "
            "Mend: write one row and one id a stimulus."
        )
    return features


def _wrong(path: Path, contents: str, expected: str) -> FeatureFileError:
    return FeatureFileError(
        f"{path}: found {contents}; expected {expected}. Mend: see neurobridge.datasets.files.feature_files."
    )


def _labelled(path: Path, values: dask.array.Array, ids: Any, wnids: Any) -> Features:
    try:
        ids = present_labels(
            ids, name="stimulus_id", role=str(path), mend="write the file again with an id in every row"
        )
    except AssemblyError as error:
        raise FeatureFileError(str(error)) from error
    wnids = np.full(len(ids), "") if wnids is None else plain(wnids, name="wnid")
    return Features(values, ids.astype(str), wnids.astype(str))


class _Mapped:
    """A memory-mapped array that dask does not take for one in memory, which it would copy when it cuts it into chunks."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.array(self.array[index])


def _lazy(array: Any, rows: int) -> dask.array.Array:
    # A random name: dask would otherwise digest the whole file.
    return dask.array.from_array(array, chunks=(rows, *array.shape[1:]), name=False)


def _npy(path: Path, rows: int) -> Features:
    table_path = path.with_suffix(".csv")
    if not table_path.exists():
        raise _wrong(path, f"no {table_path.name} beside it", "a table with a column stimulus_id, a row each")
    try:
        table = read_table(table_path, what="labels of features", required=("stimulus_id",), numbers=False)
    except AssemblyError as error:
        raise FeatureFileError(str(error)) from error
    try:
        values = read_npy(path, mmap=True)
    except ArchiveError as error:
        raise FeatureFileError(str(error)) from error
    return _labelled(path, _lazy(_Mapped(values), rows), table["stimulus_id"], table.get("wnid"))


def _npz(path: Path, rows: int) -> Features:
    try:
        with ArrayArchive(path) as arrays:
            if not {"features", "stimulus_id"} <= set(arrays.names):
                raise _wrong(path, f"{arrays.names}", _ARRAYS)
            ids, wnids = arrays.read("stimulus_id"), arrays.read("wnid") if "wnid" in arrays.names else None
            header, size, mapped = arrays.header("features"), arrays.size("features"), arrays.map("features")
    except ArchiveError as error:
        raise FeatureFileError(str(error)) from error
    if mapped is not None:
        return _labelled(path, _lazy(_Mapped(mapped), rows), ids, wnids)
    if size > LIMIT_BYTES:
        raise _wrong(
            path,
            f"{size / 2**30:.2f} GiB of compressed features, which cannot be read in parts",
            f"at most {LIMIT_BYTES / 2**30:.2f} GiB a compressed file, or np.savez, or several files",
        )

    def read() -> np.ndarray:
        with ArrayArchive(path) as arrays:
            return arrays.read("features")

    values = dask.array.from_delayed(dask.delayed(read)(), shape=header.shape, dtype=header.dtype)
    return _labelled(path, values, ids, wnids)


def _assembly(path: Path, rows: int) -> Features:
    assembly = open_assembly(path, chunks={"presentation": rows})
    if assembly.ndim != 2:
        as_matrix(assembly.isel(presentation=slice(0, 1)), role=str(path))
        assembly = assembly.isel(time_bin=0)
    wnids = assembly["wnid"].values if "wnid" in assembly.coords else None
    return _labelled(path, assembly.data, assembly["stimulus_id"].values, wnids)


def _zarr(path: Path, rows: int) -> Features:
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            f"{path}: found no package zarr; expected it for this file. Mend: pip install 'neurobridge[zarr]'."
        ) from error
    group = zarr.open_group(str(path), mode="r")
    names = sorted(group.array_keys())
    if "data" in names and "features" not in names:
        return _assembly(path, rows)
    if not {"features", "stimulus_id"} <= set(names):
        raise _wrong(path, f"{names}", _ARRAYS)
    arrays: dict[str, Any] = dict(group.arrays())
    wnids = arrays["wnid"][:] if "wnid" in arrays else None
    return _labelled(path, _lazy(arrays["features"], rows), arrays["stimulus_id"][:], wnids)


READERS: dict[str, Callable[[Path, int], Features]] = {".npy": _npy, ".npz": _npz, ".nc": _assembly, ".zarr": _zarr}
