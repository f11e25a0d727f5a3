"""Signals let a process clean up, and every error is one line with what to do."""

from __future__ import annotations

import errno
import json
import signal
import threading
import tomllib
import zipfile
import zlib

import pytest
from safetensors import SafetensorError

from neurobridge.store.atomic import atomic_path
from neurobridge.store.endings import EXPECTED, UNFORESEEN, Terminated, end_on_signals, tell_error, wants_traceback

COMMAND = ["neurobridge", "align", "a b.nc"]


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_a_block_with_its_status_and_files_are_cleaned_up(tmp_path, name, code):
    number = getattr(signal, name)
    former = signal.getsignal(number)

    def write():
        with end_on_signals(), atomic_path(tmp_path / "a.nc") as partial:
            partial.write_bytes(b"half")
            signal.raise_signal(number)

    with pytest.raises(Terminated) as end:
        write()
    assert end.value.code == code
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is former


def test_signals_that_are_ignored_stay_so_and_threads_change_nothing():
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with end_on_signals():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)
    handlers = []

    def enter():
        with end_on_signals():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


def raised(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("error", "facts", "status"),
    [
        (ValueError("found 1;\n expected 2. Mend: add 1."), ["found 1; expected 2. Mend: add 1."], EXPECTED),
        (MemoryError("7 TiB"), ["7 TiB", "memory"], EXPECTED),
        (OSError(errno.ENOSPC, "No space left on device", "x/o.nc"), ["x/o.nc", "no space left"], EXPECTED),
        (OSError(errno.ENOSPC, "No space left on device"), ["a b.nc", "no space left"], EXPECTED),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "folder"), ["folder", "is a directory"], EXPECTED),
        (PermissionError(errno.EACCES, "Permission denied", "locked"), ["locked", "permission denied"], EXPECTED),
        (OSError("odd"), ["odd", "a b.nc"], EXPECTED),
        (OSError(), ["OSError", "a b.nc"], EXPECTED),
        (ModuleNotFoundError("No module named 'zarr'"), ["zarr", "a b.nc"], EXPECTED),
        (zipfile.BadZipFile("Bad CRC"), ["BadZipFile", "Bad CRC", "a b.nc"], EXPECTED),
        (zlib.error("Error -3"), ["Error -3", "a b.nc"], EXPECTED),
        (SafetensorError("header too large"), ["SafetensorError", "header too large"], EXPECTED),
        (EOFError(), ["EOFError"], EXPECTED),
        (raised(json.loads, "{"), ["JSONDecodeError"], EXPECTED),
        (raised(tomllib.loads, "="), ["TOMLDecodeError"], EXPECTED),
        (raised(b"\xff".decode), ["UnicodeDecodeError"], EXPECTED),
        (KeyError("title"), ["KeyError", "'title'", "neurobridge", "Python"], UNFORESEEN),
        (AssertionError(), ["AssertionError", "NEUROBRIDGE_DEBUG=1 neurobridge align 'a b.nc'"], UNFORESEEN),
        (TypeError("unsupported\noperand"), ["unsupported operand"], UNFORESEEN),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_error_is_one_line_with_its_facts(error, facts, status):
    line, chosen = tell_error(error, COMMAND)
    assert chosen == status
    assert "\n" not in line
    for fact in ("Mend:", *facts):
        assert fact in line


def test_tracebacks_are_asked_for_by_a_variable(monkeypatch):
    for value, wanted in (("", False), ("0", False), ("1", True)):
        monkeypatch.setenv("NEUROBRIDGE_DEBUG", value)
        assert wants_traceback() == wanted
    monkeypatch.delenv("NEUROBRIDGE_DEBUG")
    assert not wants_traceback()
