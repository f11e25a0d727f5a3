"""Opening of netCDF and zarr, with damaged files kept from taking the machine's memory or time."""

from __future__ import annotations

import importlib
import json
import mmap
import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import netCDF4
import numpy as np
import xarray as xr
from xarray.backends import CachingFileManager, NetCDF4DataStore

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.storage import probe

_HDF5 = b"\x89HDF\r\n\x1a\n"
# Other first bytes that the library goes on from: netCDF 3, and HDF4 where it was built with it.
_OTHERS = (b"CDF", b"\x0e\x03\x13\x01")
_HEAP = b"GCOL"
# Deflate shrinks nothing more than 1032 times; below the floor nobody needs protection.
_LARGEST_RATIO, _FLOOR = 1100, 2**26
# Of the heaps in a file, those in so many of its first bytes are looked at.
_SCANNED = 2**28
# What the program that reads a suspect file may take, beside a share for the file's size; the wait is for a busy machine.
_PROBE_BYTES, _PROBE_SECONDS, _PROBE_WAIT = 2**29, 2, 120
_COMPLETE = {"netcdf": "netCDF file or zarr folder", "hdf5": "HDF5 file", "matlab": "MATLAB file"}
_RAW: dict[str, Any] = {"mask_and_scale": False, "decode_times": False, "decode_timedelta": False}


def open_netcdf(path: Path) -> xr.Dataset:
    """Open a netCDF file lazily, text decoded and nothing else.

    HDF5 protects the headers of new files with checksums, but not the heaps that hold text of any length, nor older headers: what a
    damaged one says can take gigabytes, or never end. Files that depend on those are first read by a process of its own.

    Raises
    ------
    AssemblyError
        The library cannot read the file, or the file declares far more than it can hold.
    """
    check_netcdf(path)
    try:
        # By its own opener: old versions of xarray give the file that had the path before, where that is still open.
        opened: Any = CachingFileManager(cast("Any", partial(netCDF4.Dataset)), str(path), mode="r")
        return xr.open_dataset(NetCDF4DataStore(opened), **_RAW)
    except Exception as error:
        raise unreadable(path, error) from error


def check_netcdf(path: Path) -> None:
    """Refuse a netCDF file that would take the machine's memory or time, or that declares far more than it can hold.

    Raises
    ------
    AssemblyError
        See `open_netcdf`.
    """
    try:
        safe, suspect = _first_look(path)
        if suspect:
            read_elsewhere(path)
        with netCDF4.Dataset(path) as file:
            variables = list(_variables(file))
            _refuse_bombs(path, path.stat().st_size, ((v.shape, v.dtype) for v in variables))
            if safe and any(v.dtype is str or v.dtype.kind not in "iufS" for v in variables):
                read_elsewhere(path)
    except AssemblyError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def check_hdf5(path: Path) -> None:
    """Refuse an HDF5 file that would take the machine's memory or time, as `check_netcdf` does (package h5py).

    Raises
    ------
    AssemblyError
        The library cannot read the file, or the file declares far more than it can hold.
    """
    h5py = importlib.import_module("h5py")
    try:
        safe, suspect = _first_look(path)
        if not (safe or suspect):
            raise unreadable(path, "it does not begin as HDF5 does", _COMPLETE["hdf5"])
        read_elsewhere(path, "hdf5")
        shapes: list[tuple[tuple[int, ...], Any]] = []
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda _, item: shapes.append((item.shape, item.dtype)) if getattr(item, "shape", None) else None
            )
        _refuse_bombs(path, path.stat().st_size, shapes)
    except AssemblyError:
        raise
    except Exception as error:
        raise unreadable(path, error, _COMPLETE["hdf5"]) from error


def check_zarr(path: Path) -> None:
    """Refuse a zarr folder that declares far more than it can hold, or whose values are pickled, as reading those runs code.

    Raises
    ------
    AssemblyError
        See `open_zarr`.
    ImportError
        The package zarr is missing.
    """
    require_zarr(path)
    import zarr

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for mark in (".zarray", "zarr.json", ".zmetadata"):
                for file in path.rglob(mark):
                    if _names_pickle(json.loads(file.read_text(encoding="utf-8"))):
                        raise AssemblyError(
                            f"{file}: found values that are pickled; expected numbers or text, as reading pickles runs code. "
                            "Mend: write "
                            "the folder again with a plain dtype."
                        )
            opened: Any = zarr.open(str(path), mode="r")
            arrays = [opened] if not hasattr(opened, "members") else [m for _, m in opened.members(max_depth=None)]
            shapes = [(array.shape, array.dtype) for array in arrays if hasattr(array, "shape")]
        if _declared(shapes) > _FLOOR:
            _refuse_bombs(path, sum(file.stat().st_size for file in path.rglob("*") if file.is_file()), shapes)
    except AssemblyError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def _names_pickle(metadata: Any) -> bool:
    """Look for a codec that runs code among the metadata of an array, however deep."""
    if isinstance(metadata, dict):
        codec = str(metadata.get("id", metadata.get("name", ""))).casefold()
        return "pickle" in codec or any(_names_pickle(value) for value in metadata.values())
    return isinstance(metadata, list) and any(_names_pickle(value) for value in metadata)


def _variables(group: Any) -> Iterator[Any]:
    yield from group.variables.values()
    for inner in group.groups.values():
        yield from _variables(inner)


def _first_look(path: Path) -> tuple[bool, bool]:
    """Tell whether the headers are under checksums and the heaps are sound, and, where not, whether the library would read on."""
    with path.open("rb") as stream:
        head = stream.read(9)
        safe = head[:8] == _HDF5 and len(head) > 8 and head[8] >= 2 and _heaps_are_sound(stream.fileno())
        return safe, not safe and _is_parsed(stream)


def open_zarr(path: Path) -> xr.Dataset:
    """Open a zarr folder lazily, text decoded and nothing else.

    Raises
    ------
    AssemblyError
        The library cannot read the folder, or it declares far more than it can hold.
    ImportError
        The package zarr is missing.
    """
    check_zarr(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            return xr.open_dataset(path, engine="zarr", chunks=None, **_RAW)
    except Exception as error:
        raise unreadable(path, error) from error


def require_zarr(path: Path) -> None:
    """Refuse a zarr path where zarr is not installed."""
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{path}: found no package zarr; expected it for a zarr folder. Mend: pip install 'neurobridge[zarr]', or write .nc."
        ) from error


def unreadable(path: Path, error: object, complete: str = "netCDF file or zarr folder") -> AssemblyError:
    """Make the error of a file that its library cannot read; ``complete`` says what a whole one is."""
    reason = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(error)
    return AssemblyError(
        f"{path}: found what cannot be read as an assembly ({reason}); expected a complete {complete}. "
        "Mend: fetch or write it again; it may be truncated or damaged."
    )


def read_elsewhere(path: Path, library: str = "netcdf") -> None:
    """Read the header and the text in a process with a limit of memory and time, and pass on what went wrong.

    Parameters
    ----------
    path : Path
    library : {"netcdf", "hdf5", "matlab"}
        That reads it; "matlab" reads all, as damaged files end the process of scipy's reader.

    Raises
    ------
    AssemblyError
        The library raised, took more than the limits, or ended the process.
    """
    if not sys.executable:
        return
    size = path.stat().st_size
    seconds = _PROBE_SECONDS + size // 2**24
    numbers = (str(_PROBE_BYTES + 64 * size), str(seconds))
    command = [sys.executable, "-P", str(Path(probe.__file__)), str(path), *numbers, library]
    # Each thread of a linear algebra library would take memory of its own.
    settings = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_WAIT + seconds, env=settings, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise unreadable(path, f"the library does not end in {seconds} s", _COMPLETE[library]) from error
    lines = done.stdout.splitlines()
    if not lines:
        warnings.warn(
            f"{path}: read without a limit of memory, as no process for it starts ({done.stderr[-200:]})", stacklevel=4
        )
    elif done.returncode:
        reason = lines[-1] if len(lines) > 1 else f"the library was stopped in {seconds} s, with code {done.returncode}"
        raise unreadable(path, reason, _COMPLETE[library])


def _is_parsed(stream: BinaryIO) -> bool:
    """Whether the library reads on after the first bytes; HDF5 looks for its own at 0, 512, 1024, 2048, ... (user blocks)."""
    at, size = 0, os.fstat(stream.fileno()).st_size
    while at < size:
        stream.seek(at)
        head = stream.read(len(_HDF5))
        if head == _HDF5 or (at == 0 and head.startswith(_OTHERS)):
            return True
        at = 2 * at or 512
    return False


def _heaps_are_sound(descriptor: int) -> bool:
    """Walk through the global heaps of an HDF5 file: objects of no size send the library round for ever."""
    size = os.fstat(descriptor).st_size
    with mmap.mmap(descriptor, min(size, _SCANNED), access=mmap.ACCESS_READ) as data:
        at = data.find(_HEAP)
        while at >= 0:
            if not _heap_is_sound(data, at):
                return False
            at = data.find(_HEAP, at + 4)
    return True


def _heap_is_sound(data: mmap.mmap, at: int) -> bool:
    end = at + int.from_bytes(data[at + 8 : at + 16], "little")
    if data[at + 4 : at + 5] != b"\x01" or end > len(data):
        return False
    place = at + 16
    while place + 16 <= end:
        index = int.from_bytes(data[place : place + 2], "little")
        size = int.from_bytes(data[place + 8 : place + 16], "little")
        # The object with index 0 is the free space, which counts its own header.
        step = size if index == 0 else 16 + -(-size // 8) * 8
        if step < 16 or place + step > end:
            return False
        place += step
    return True


def _declared(shapes: Iterable[tuple[tuple[int, ...], Any]]) -> int:
    # Python's integers: a product of damaged sizes does not wrap around.
    total = 0
    for shape, dtype in shapes:
        n = 1
        for length in shape:
            n *= int(length)
        total += n * (np.dtype(dtype).itemsize if isinstance(dtype, np.dtype) else 8)
    return total


def _refuse_bombs(path: Path, stored: int, shapes: Iterable[tuple[tuple[int, ...], Any]]) -> None:
    declared = _declared(shapes)
    if declared > max(_FLOOR, _LARGEST_RATIO * stored):
        raise AssemblyError(
            f"{path}: found a header that declares {declared / 2**20:.0f} MiB in {stored / 2**20:.2f} MiB; expected at most "
            f"{_LARGEST_RATIO} times what is stored. Mend: fetch or write it again; it may be damaged."
        )
