"""Program that reads the header and the text of a netCDF file within limits of memory and time.

A damaged file then harms no other process.

Run by `netcdf.open_netcdf` as a file, with a path and the numbers of bytes and seconds; imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import netCDF4


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


def read(path: str) -> None:
    """Read every attribute, and every variable that is no array of numbers or characters."""
    with netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        holders: list[Any] = [file, *file.variables.values()]
        for holder in holders:
            for name in holder.ncattrs():
                holder.getncattr(name)
        for variable in file.variables.values():
            if variable.dtype is str or variable.dtype.kind not in "iufS":
                variable[...]


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        limit_resources(int(sys.argv[2]), int(sys.argv[3]))
    print("ready", flush=True)
    try:
        read(sys.argv[1])
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)
