"""A disk that is full, said in words."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from neurobridge.store.errors import DiskFullError

# No space on the device, a quota that is used up, a file above the limit of the process or of the file system.
_CODES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# A library that hides the error of the system is believed to have met a full disk if this many bytes do not fit either.
_PROBE = 1 << 16


@contextlib.contextmanager
def named_full_disk(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say that a disk is full, and of which file, whatever the writer made of it.

    Parameters
    ----------
    path : path
        File or folder that is written.

    Raises
    ------
    DiskFullError
        The block failed for want of space. What it wrote is removed by whoever made it, as after any failure.

    Examples
    --------
    >>> try:
    ...     with named_full_disk("results/scores.nc"):
    ...         raise OSError(errno.ENOSPC, "No space left on device")
    ... except DiskFullError as error:
    ...     print(error.strerror.partition(";")[0])
    results/scores.nc: found no space left on the disk
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        code = _code_of(error)
        if code is None and not isinstance(error, ValueError):
            code = _probed(Path(path).parent)
        if code is None:
            raise
        raise DiskFullError(code, _message(Path(path), code)) from error


def _message(path: Path, code: int) -> str:
    if code == errno.EFBIG:
        found, mend = (
            "a file larger than the limit of this process (ulimit -f) or of the file system",
            "raise the limit",
        )
    elif code == errno.EDQUOT:
        found, mend = "a disk quota that is used up", "remove what is no longer needed"
    else:
        found, mend = "no space left on the disk", "free some"
    return (
        f"{path}: found {found}; expected room for it. What was written of it has been removed; a file that had this name before "
        f"is as it was. Mend: {mend}, or save to another disk, and save again."
    )


def _code_of(error: BaseException) -> int | None:
    """Return the reason of the system among an error and what it came from."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _CODES:
            return seen.errno
        seen = seen.__cause__ or seen.__context__
    return None


def _probed(folder: Path) -> int | None:
    """Try to write a little; return the reason of the system if that fails for want of space."""
    probe = folder / f".probe-{secrets.token_hex(8)}"
    try:
        with open(probe, "xb") as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno if error.errno in _CODES else None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return None
