"""Program that reads the header and the text of a netCDF or HDF5 file, or a MATLAB file, within limits of memory and time.

A damaged file then harms no other process.

Run by `netcdf.read_elsewhere` as a file, with a path, the numbers of bytes and seconds, and the library (``netcdf``, ``hdf5``,
``matlab``);
imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from typing import Any


def limit_resources(n_bytes: int, seconds: int) -> None:
    """Let this process take so many bytes and seconds of computing more than it has now, where the system can say so."""
    try:
        import resource
    except ImportError:
        return
    with open("/proc/self/statm") as stream:
        pages = int(stream.read().split()[0])
    used = resource.getrusage(resource.RUSAGE_SELF)
    for kind, limit in (
        (resource.RLIMIT_AS, pages * resource.getpagesize() + n_bytes),
        (resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(kind, (limit, hard))


def read_netcdf(netCDF4: Any, path: str) -> None:
    """Read every attribute, and every variable that is no array of numbers or characters."""
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        groups: list[Any] = [file]
        while groups:
            group = groups.pop()
            groups += group.groups.values()
            for holder in (group, *group.variables.values()):
                for name in holder.ncattrs():
                    holder.getncattr(name)
            for variable in group.variables.values():
                if variable.dtype is str or variable.dtype.kind not in "iufS":
                    variable[...]


def read_hdf5(h5py: Any, path: str) -> None:
    """Read every attribute, and every dataset that is no array of numbers."""

    def visit(_: str, item: Any) -> None:
        dict(item.attrs)
        if (
            isinstance(item, h5py.Dataset)
            and item.dtype.kind not in "iufb"
            and not item.is_virtual
            and not item.external
        ):
            item[()]

    with h5py.File(path, "r") as file:
        dict(file.attrs)
        file.visititems(visit)


def read_matlab(io: Any, path: str) -> None:
    """Read all of a MATLAB file: its reader has no checks of its own, and ends the process where lengths are damaged."""
    warnings.simplefilter("ignore")
    io.loadmat(path)


READERS = {"netcdf": ("netCDF4", read_netcdf), "hdf5": ("h5py", read_hdf5), "matlab": ("scipy.io", read_matlab)}

if __name__ == "__main__":
    name, read = READERS[sys.argv[4]]
    # Before the limits: what the library takes for itself is not the file's.
    library = importlib.import_module(name)
    with contextlib.suppress(OSError):
        limit_resources(int(sys.argv[2]), int(sys.argv[3]))
    print("ready", flush=True)
    try:
        read(library, sys.argv[1])
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)
