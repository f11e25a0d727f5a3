"""The ends of a process of this package: signals that let it clean up, and errors told in one line."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from neurobridge._version import __version__

#: Environment variable that makes every error show its traceback.
DEBUG = "NEUROBRIDGE_DEBUG"
#: Exit status of an expected error, of one that was not foreseen, and of a run stopped from the keyboard.
EXPECTED, UNFORESEEN, INTERRUPTED = 1, 70, 130

# By name, as the packages that define them are not imported for this.
_UNREADABLE = {
    "ArrowInvalid",
    "BadZipFile",
    "EOFError",
    "EmptyDataError",
    "JSONDecodeError",
    "LZMAError",
    "ParserError",
    "SafetensorError",
    "TOMLDecodeError",
    "TarError",
    "UnicodeDecodeError",
    "UnpicklingError",
    "error",
}
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_REPORTED = ("numpy", "xarray", "pandas", "torch")


class Terminated(SystemExit):
    """The end that a signal asked for: unlike the signal itself it lets every block clean up what it has begun.

    Attributes
    ----------
    code : int
        Exit status: 128 and the number of the signal, e.g. 143 for SIGTERM.

    Examples
    --------
    >>> Terminated(143).code
    143
    """


@contextmanager
def end_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `Terminated` inside the block; the same signal again ends the process at once.

    Ctrl-C (SIGINT) is a ``KeyboardInterrupt`` as ever. Outside of the main thread, and for signals that the process was
    started to ignore, nothing is changed.

    Examples
    --------
    >>> import signal
    >>> with end_on_signals():
    ...     try:
    ...         signal.raise_signal(signal.SIGTERM)
    ...     except Terminated as end:
    ...         print(end.code)
    143
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    former = {number: signal.getsignal(number) for number in numbers}
    for number, handler in former.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number, handler in former.items():
            if handler == signal.SIG_DFL:
                signal.signal(number, handler)


def _terminate(number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated(128 + number)


def tell_error(error: BaseException, command: Sequence[str]) -> tuple[str, int]:
    """Put an error in one line, and choose the exit status.

    Parameters
    ----------
    error : BaseException
    command : sequence of str
        The words of the command that failed; named where the error itself names no file or option.

    Returns
    -------
    str, int
        The line, and `EXPECTED` or `UNFORESEEN`.

    Examples
    --------
    >>> tell_error(ValueError("found 1; expected 2. Mend: add 1."), ["neurobridge", "demo"])
    ('found 1; expected 2. Mend: add 1.', 1)
    >>> line, status = tell_error(KeyError("x"), ["neurobridge", "demo"])
    >>> "NEUROBRIDGE_DEBUG=1 neurobridge demo" in line, status
    (True, 70)
    """
    text = " ".join(str(error).split())
    if "Mend:" in text:
        return text, EXPECTED
    shown = f"{type(error).__name__}: {text}" if text else type(error).__name__
    called = shlex.join(command)
    if isinstance(error, MemoryError):
        return (
            f"found too little memory for `{called}` ({shown}); expected room for its arrays. Mend: use fewer stimuli or "
            "sites, smaller batches, or a machine with more memory.",
            EXPECTED,
        )
    if isinstance(error, OSError):
        return _tell_system_error(error, called), EXPECTED
    if any(kind.__name__ in _UNREADABLE for kind in type(error).__mro__):
        return (
            f"found a file that cannot be read ({shown}); expected whole files of the kinds that the command takes. Mend: check "
            f"the files named in `{called}`; {DEBUG}=1 {called} shows which.",
            EXPECTED,
        )
    if isinstance(error, ImportError):
        return (
            f"found a package that cannot be imported ({shown}); expected it for `{called}`. Mend: install it, or check "
            "PYTHONPATH.",
            EXPECTED,
        )
    return (
        f"found an error that was not foreseen ({shown}); expected a result, or a message that says what to change. Mend: "
        f"{DEBUG}=1 {called} shows where it comes from; if that is in neurobridge, please report it with that output and: "
        f"{_facts()}.",
        UNFORESEEN,
    )


def _tell_system_error(error: OSError, called: str) -> str:
    place = f" at {error.filename}" if error.filename is not None else f" in `{called}`"
    text = " ".join(str(error).split())
    reason = (
        error.strerror.lower()
        if error.strerror
        else f"{type(error).__name__}: {text}"
        if text
        else type(error).__name__
    )
    if error.errno in _FULL:
        return (
            f"found no space left on the disk{place} ({reason}); expected room for what `{called}` writes. Mend: free some, "
            "or write to another disk, and run it again. A file that was there before is unchanged."
        )
    return (
        f"found {reason}{place}; expected a path that `{called}` can read or write. Mend: check the "
        "path, its kind and its permissions."
    )


def _facts() -> str:
    packages = [
        f"{name} {sys.modules[name].__version__}" for name in _REPORTED if hasattr(sys.modules.get(name), "__version__")
    ]
    return ", ".join(
        [f"neurobridge {__version__}", f"Python {platform.python_version()}", platform.platform(), *packages]
    )


def wants_traceback() -> bool:
    """Tell whether errors are to show their traceback, as `DEBUG` asks for."""
    return os.environ.get(DEBUG, "") not in ("", "0")
