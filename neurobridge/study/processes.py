"""Processes that end with the one that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

# Seconds that a process has to clean up before it is killed.
PATIENCE_S = 10.0


class Children:
    """Processes started in a block; where the block ends by an error or a signal, they and what they started are ended.

    Each is the head of a process group of its own, so that Ctrl-C reaches it through this process alone. `run` may be
    called from several threads at once.

    Examples
    --------
    >>> import sys
    >>> with Children() as children:
    ...     children.run([sys.executable, "-c", "raise SystemExit(3)"]).returncode
    3
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.end(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes] | None:
        """Run a command to its end, as ``subprocess.run`` does.

        Parameters
        ----------
        command : sequence of str
        **options
            Of ``subprocess.Popen``.

        Returns
        -------
        subprocess.CompletedProcess or None
            None where `end` was called before: then nothing is started.
        """
        with self._lock:
            if self._ended:
                return None
            process = subprocess.Popen(command, start_new_session=True, **options)
            self._running.add(process)
        output, errors = process.communicate()
        with self._lock:
            self._running.discard(process)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to all that run, wait for `PATIENCE_S` seconds, and kill what is left; nothing starts afterwards."""
        with self._lock:
            self._ended = True
            running = list(self._running)
        for process in running:
            _send(process, number)
        deadline = time.monotonic() + PATIENCE_S
        try:
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            # Also what an ended process has started itself.
            for process in running:
                _send(process, getattr(signal, "SIGKILL", signal.SIGTERM))


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.terminate()
