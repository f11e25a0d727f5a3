"""Refusal before allocation: how much an operation takes, how much room there is, and what to use instead."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

try:
    import resource
except ImportError:  # Windows, which has no such limits
    resource = None  # type: ignore[assignment]

# Allocations below it are made without a look at the machine.
_SMALL = 32e6
# What an interpreter with torch may take at any time without being asked: thread stacks, arenas, code.
_RESERVE = 64e6
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60


class Room(NamedTuple):
    """Memory that this process may still take.

    Attributes
    ----------
    n_bytes : float
        Infinite where nothing is known.
    limit : str
        What sets it, in words.
    mend : str
        How to have more of it.
    """

    n_bytes: float
    limit: str
    mend: str


def room() -> Room:
    """Measure how much memory this process may still take: by its own limits, those of its group, and what is free.

    Returns
    -------
    Room
        The tightest of the address-space limit (``ulimit -v``), the data limit (``ulimit -d``), the memory limits of the
        control groups (containers, Slurm, systemd) and the free memory of the machine.

    Examples
    --------
    >>> room().n_bytes > 0
    True
    """
    free = _free_memory()
    rooms = [*_process_rooms(), *_group_rooms()]
    if free is not None:
        rooms.append(Room(free, "the free memory of this machine", "end other processes"))
    return min(rooms, key=lambda each: each.n_bytes, default=Room(math.inf, "nothing", ""))


def check_memory(
    needed: float,
    limit: float,
    what: str,
    *,
    mend: str = "use method='factored', which never builds it",
    working: float = 0.0,
) -> None:
    """Refuse an allocation before making it: above a stated limit, or above what the process may still take.

    Parameters
    ----------
    needed : float
        Bytes of the arrays that ``limit`` is about.
    limit : float
        Bytes, ``memory_limit`` of the caller.
    what : str
        The operation, in messages.
    mend : str
        What to do instead.
    working : float
        Bytes that are taken in all while the operation runs, where that is more.

    Raises
    ------
    MemoryError
        With what is needed, what there is, and the mend.

    Examples
    --------
    >>> check_memory(9e9, 4e9, "a cost", mend="nearest=32 keeps each point's nearest anchors")
    Traceback (most recent call last):
    MemoryError: found a cost, which needs 9.00 GB; expected at most 4.00 GB. Mend: nearest=32 keeps each point's nearest ...
    """
    if needed > limit:
        raise MemoryError(
            f"found {what}, which needs {in_gb(needed)}; expected at most {in_gb(limit)}. "
            f"Mend: {mend}, or raise memory_limit."
        )
    taken = max(needed, working)
    if taken < _SMALL:
        return
    left = room()
    if taken > left.n_bytes - _RESERVE:
        raise MemoryError(_no_room(what, f"needs {in_gb(taken)}", left, mend))


def within_room(limit: float) -> float:
    """Return a limit in bytes, or what this process may still take, if that is less.

    Examples
    --------
    >>> within_room(1e6)
    1000000.0
    """
    return limit if limit < _SMALL else max(0.0, min(limit, room().n_bytes - _RESERVE))


@contextlib.contextmanager
def named_shortage(what: str, mend: str) -> Iterator[None]:
    """Say what ran out of memory and what to use instead, where a library says only how many bytes it did not get.

    Raises
    ------
    MemoryError
        In place of numpy's and torch's own.

    Examples
    --------
    >>> with named_shortage("a cost of 9 points", "stream=True"):
    ...     raise MemoryError("Unable to allocate 9. GiB")
    Traceback (most recent call last):
    MemoryError: found a cost of 9 points, which ran out of memory (Unable to allocate 9. GiB); expected ...
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if "Mend:" in str(error) or not (isinstance(error, MemoryError) or _is_shortage(error)):
            raise
        reason = (str(error).splitlines() or ["no more said"])[0]
        raise MemoryError(_no_room(what, f"ran out of memory ({reason})", room(), mend)) from error


def in_gb(n_bytes: float) -> str:
    """Write a number of bytes in GB.

    Examples
    --------
    >>> in_gb(2.5e9)
    '2.50 GB'
    """
    return f"{n_bytes / 1e9:.2f} GB"


def _no_room(what: str, taken: str, left: Room, mend: str) -> str:
    free = max(0.0, left.n_bytes - _RESERVE)
    most = "room for it" if math.isinf(free) else f"at most {in_gb(free)}, left by {left.limit}"
    more = f", or {left.mend}" if left.mend else ""
    return f"found {what}, which {taken}; expected {most}. Mend: {mend}{more}."


def _is_shortage(error: RuntimeError) -> bool:
    text = str(error)
    # torch has no class of its own for the memory of the host.
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text or "not enough memory" in text


def _process_rooms() -> list[Room]:
    if resource is None:
        return []
    try:
        pages = Path("/proc/self/statm").read_text().split()
        size = os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return []
    rooms = []
    for kind, place, name, flag in (
        (resource.RLIMIT_AS, 0, "the address-space limit", "-v"),
        (resource.RLIMIT_DATA, 5, "the data limit", "-d"),
    ):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            words = f"{name} of this process (ulimit {flag})"
            rooms.append(Room(float(limit - int(pages[place]) * size), words, f"raise ulimit {flag}"))
    return rooms


def _group_rooms() -> list[Room]:
    """Room in each control group that this process is in, of version 2 and of version 1."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    rooms = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if not controllers:
            base, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = _CGROUPS / "memory"
        else:
            continue
        group = base / place.strip("/")
        for folder in (group, *group.parents):
            if folder != base and base not in folder.parents:
                break
            limit, used = (_number(folder / name) for name in names[:2])
            if limit is not None and used is not None and limit < _UNLIMITED:
                # Pages of files that were read give way.
                left = limit - used + _inactive(folder / "memory.stat", names[2])
                rooms.append(
                    Room(left, "the memory limit of its control group (container, Slurm)", "ask for more memory")
                )
    return rooms


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _inactive(path: Path, name: str) -> float:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0.0)


def _free_memory() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = {line.split(":")[0]: float(line.split()[1]) for line in lines if ":" in line}
    available = kilobytes.get("MemAvailable")
    return None if available is None else (available + kilobytes.get("SwapFree", 0.0)) * 1024
