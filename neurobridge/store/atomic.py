"""Files and folders that appear whole or not at all: written under a temporary name, synced to the disk, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neurobridge.store.space import named_full_disk

# Temporary name of a file: the process that writes it, a tag of the machine it runs on, and a random part.
_PARTIAL = re.compile(r"\..+\.(?P<pid>\d+)-(?P<machine>[0-9a-f]{6})[0-9a-f]{8}\.partial")
# A partial of another machine, whose processes cannot be asked, counts as left behind after this many seconds.
OLD = 7 * 24 * 3600.0
# Seconds by which the clock of a disk and that of the processes may differ.
_CLOCKS_APART = 60.0


def write_bytes(path: str | os.PathLike[str], payload: bytes) -> Path:
    """Write bytes to a file, whole or not at all; missing parent folders are made.

    Parameters
    ----------
    path : path
    payload : bytes

    Returns
    -------
    pathlib.Path
        The file written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_bytes(f"{folder}/values.raw", b"abc").read_bytes()
    b'abc'
    """
    path = Path(path)
    with atomic_path(path) as partial:
        partial.write_bytes(payload)
    return path


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write text to a file in UTF-8, whole or not at all; missing parent folders are made.

    Examples
    --------
    >>> import tempfile
    >>> write_text(f"{tempfile.mkdtemp()}/notes.txt", "one line").read_text()
    'one line'
    """
    return write_bytes(path, text.encode())


def write_json(value: Any, path: str | os.PathLike[str]) -> Path:
    """Write plain data to a file as JSON, whole or not at all; missing parent folders are made.

    Parameters
    ----------
    value : plain data
        Dicts, lists, text, numbers, None.
    path : path

    Raises
    ------
    ValueError
        A number is NaN or infinite, which JSON cannot hold.
    TypeError
        A value is no plain data.

    Examples
    --------
    >>> import tempfile
    >>> print(write_json({"n": 1}, f"{tempfile.mkdtemp()}/scores.json").read_text())
    {
     "n": 1
    }
    <BLANKLINE>
    """
    return write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write a file to; it gets its name when the block ends, and is removed if the block fails.

    Whoever reads ``path`` meanwhile, or after a kill, finds the old file or the new one. The file and its folder are
    synced to the disk before and after the rename. What dead processes left in the folder is swept first. The
    temporary name says nothing about the format, so a writer that goes by the suffix must be told it.

    Parameters
    ----------
    path : path
        Of the file; missing parent folders are made.

    Yields
    ------
    pathlib.Path
        In the same folder. Nothing is there yet.

    Raises
    ------
    DiskFullError
        The disk is full; what was written of the file is removed, and the old file is as it was.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "table.csv"
    >>> with atomic_path(path) as partial:
    ...     _ = partial.write_text("a,b")
    >>> [file.name for file in path.parent.iterdir()]
    ['table.csv']
    """
    path = Path(path)
    sweep_partials(path.parent)
    partial = _partial_of(path)
    try:
        with named_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder to fill; it takes the place of the folder ``path`` when the block ends.

    A folder cannot replace another in one step: for the time between two renames there is none. It is removed if the
    block fails.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "store.zarr"
    >>> with atomic_folder(path) as partial:
    ...     _ = (partial / "0").write_bytes(b"abc")
    >>> [file.name for file in path.iterdir()]
    ['0']
    """
    path = Path(path)
    sweep_partials(path.parent)
    partial, replaced = _partial_of(path), _partial_of(path)
    try:
        with named_full_disk(path):
            partial.mkdir(parents=True)
            yield partial
            for file in [*partial.rglob("*"), partial]:
                _sync(file)
            if path.exists():
                move(path, replaced)
            move(partial, path)
    finally:
        for left in (partial, replaced):
            shutil.rmtree(left, ignore_errors=True)


def publish(partial: Path, path: Path) -> Path:
    """Sync a finished file to the disk and give it its name, replacing what has that name.

    Returns
    -------
    pathlib.Path
        The file under its name.
    """
    _sync(partial)
    return move(partial, path)


def move(source: Path, target: Path) -> Path:
    """Rename a file or a folder within one file system, replacing a file of that name, and sync the folder."""
    os.replace(source, target)
    _sync(target.parent)
    return target


def sweep_partials(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove the temporary files and folders that dead processes left in a folder.

    Those of processes that run are left alone. Where that cannot be known, as on another machine of a shared disk,
    they are removed once they are `OLD`.

    Returns
    -------
    list of pathlib.Path
        What was removed.

    Examples
    --------
    >>> import tempfile
    >>> sweep_partials(tempfile.mkdtemp())
    []
    """
    swept = []
    for path in Path(folder).glob(".*.partial"):
        match = _PARTIAL.fullmatch(path.name)
        if match is None or not _left_behind(path, int(match["pid"]), match["machine"]):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        swept.append(path)
    return swept


def _partial_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{_machine()}{secrets.token_hex(4)}.partial")


def _machine() -> str:
    """Tag of the machine, and of the container in it, within which a process number means one process."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()}|{space}".encode()).hexdigest()[:6]


def _left_behind(path: Path, pid: int, machine: str) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    # Elsewhere than on POSIX systems signal 0 would end the process.
    if machine == _machine() and os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
        # The number may have gone to another process since: a writer is older than what it wrote, which nobody can date back.
        started = _start_of(pid)
        return started is not None and started > status.st_ctime + _CLOCKS_APART
    return time.time() - status.st_mtime > OLD


def _start_of(pid: int) -> float | None:
    """Time at which a process started, in seconds since the epoch; None where the system does not say."""
    try:
        # The name of the program, in parentheses, may hold spaces.
        ticks = float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        lines = Path("/proc/stat").read_text().splitlines()
        booted = next(float(line.split()[1]) for line in lines if line.startswith("btime "))
        return booted + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _sync(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk."""
    if path.is_dir():
        # Not every system can sync a folder; the rename is whole all the same.
        with contextlib.suppress(OSError):
            _sync_descriptor(os.open(path, os.O_RDONLY))
        return
    # A read-only file can be synced too, but for Windows, which wants a descriptor that may write.
    _sync_descriptor(os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR))


def _sync_descriptor(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
