"""Files of features that may be larger than memory, as lazy arrays with their stimulus ids.

====================  =================================================================================================
``X.npy``             array (n, d), memory-mapped; beside it ``X.csv`` with a column ``stimulus_id`` (and ``wnid``), a row each
``X.npz``             ``features`` (n, d), ``stimulus_id`` (n,) and perhaps ``wnid`` (n,); ``np.savez`` is memory-mapped, a
                      compressed file is one chunk and may hold at most 1 GiB: write several
``X.nc``              a netCDF assembly, one variable (presentation, neuroid), as `neurobridge.save_assembly` writes it
``X.zarr``            a group with the arrays of an npz (needs the extra ``zarr``)
====================  =================================================================================================
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import dask.array
import numpy as np

from neurobridge.assemblies import AssemblyError, as_matrix, open_assembly, read_table
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.points.conversion import require_real

# Largest compressed file that is read as one chunk.
LIMIT_BYTES = 2**30
_ARRAYS = "arrays 'features' (n, d) and 'stimulus_id' (n,)"


class FeatureFileError(ValueError):
    """A file of features that is not as described; the message says what was found, expected and how to mend it."""


class Features(NamedTuple):
    """One file: ``values``, a dask array of shape (n, d), and the labels of its rows, text arrays of shape (n,)."""

    values: dask.array.Array
    stimulus_id: np.ndarray
    wnid: np.ndarray


def find_feature_files(folder: Path) -> list[Path]:
    """Feature files of a folder, sorted by name."""
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


def _wrong(path: Path, found: str, expected: str) -> FeatureFileError:
    return FeatureFileError(
        f"{path}: found {found}; expected {expected}. Mend: see neurobridge.datasets.files.feature_files."
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
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise _wrong(path, f"a file that numpy cannot map ({error})", "a plain array") from error
    return _labelled(path, _lazy(_Mapped(values), rows), table["stimulus_id"], table.get("wnid"))


def _npz(path: Path, rows: int) -> Features:
    if not zipfile.is_zipfile(path):
        raise _wrong(path, "a file that is no npz archive", _ARRAYS)
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = set(stored.files)
            if not {"features", "stimulus_id"} <= names:
                raise _wrong(path, f"{sorted(names)}", _ARRAYS)
            ids, wnids = stored["stimulus_id"], stored["wnid"] if "wnid" in names else None
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("features.npy")
    except FeatureFileError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise _wrong(path, f"a file that numpy cannot read ({error})", _ARRAYS) from error
    if member.compress_type == zipfile.ZIP_STORED:
        return _labelled(path, _lazy(_Mapped(_map_member(path, member)), rows), ids, wnids)
    if member.file_size > LIMIT_BYTES:
        raise _wrong(
            path,
            f"{member.file_size / 2**30:.2f} GiB of compressed features, which cannot be read in parts",
            f"at most {LIMIT_BYTES / 2**30:.2f} GiB a compressed file, or np.savez, or several files",
        )
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        shape, _, dtype = _header(stream, path)

    def read() -> np.ndarray:
        with np.load(path, allow_pickle=False) as stored:
            return stored["features"]

    values = dask.array.from_delayed(dask.delayed(read)(), shape=shape, dtype=dtype)
    return _labelled(path, values, ids, wnids)


def _header(stream: Any, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise _wrong(path, f"npy version {version}", "1.0 or 2.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise _wrong(path, "Python objects", "numbers")
    return shape, fortran, dtype


def _map_member(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Map an uncompressed member of an npz: its bytes lie in the zip as they are."""
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        local = stream.read(30)
        # The name and the extra field of the local header, whose lengths may differ from the directory's.
        stream.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
        shape, fortran, dtype = _header(stream, path)
        offset = stream.tell()
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")


def _nc(path: Path, rows: int) -> Features:
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
    if not {"features", "stimulus_id"} <= set(names):
        raise _wrong(path, f"{names}", _ARRAYS)
    arrays: dict[str, Any] = dict(group.arrays())
    wnids = arrays["wnid"][:] if "wnid" in arrays else None
    return _labelled(path, _lazy(arrays["features"], rows), arrays["stimulus_id"][:], wnids)


READERS: dict[str, Callable[[Path, int], Features]] = {".npy": _npy, ".npz": _npz, ".nc": _nc, ".zarr": _zarr}
