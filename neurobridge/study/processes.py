"""Processes that end with the one that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from types import TracebackType
from typing import Any, Self, TypeVar

Result = TypeVar("Result")

#: Settings under which the libraries of a new process take one thread each.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
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


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Start processes with one thread each: several of them would wait for each other on the same cores."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def call_in_processes(
    function: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    n_processes: int,
    *,
    ends_all: Callable[[Result], bool] = lambda result: False,
) -> Iterator[tuple[int, Result]]:
    """Call a function with each set of arguments, in processes of one thread each.

    A process ends with the one that started it, however that ended. Where this process is interrupted, or a call raises, the
    calls that run are ended with their processes.

    Parameters
    ----------
    function : callable
        Of a module, so that a new process can import it.
    calls : sequence of tuple
        The arguments of each call; they can be pickled.
    n_processes : int
        1 calls in this process.
    ends_all : callable
        ``ends_all(result)`` is True where no further call is to start; those that run are waited for, and yielded.

    Yields
    ------
    place : int
        Of the call among ``calls``; calls are yielded as they end.
    result
        What the function returned.

    Examples
    --------
    >>> dict(call_in_processes(pow, [(2, 3), (3, 2)], n_processes=1))
    {0: 8, 1: 9}
    """
    if n_processes <= 1 or len(calls) < 2:
        for place, arguments in enumerate(calls):
            result = function(*arguments)
            yield place, result
            if ends_all(result):
                return
        return
    spawn, others = multiprocessing.get_context("spawn"), set(multiprocessing.active_children())
    with one_thread(), ProcessPoolExecutor(n_processes, mp_context=spawn, initializer=_end_with_parent) as pool:
        places = {pool.submit(function, *arguments): place for place, arguments in enumerate(calls)}
        try:
            for future in as_completed(places):
                if future.cancelled():
                    continue
                result = future.result()
                if ends_all(result):
                    for waiting in places:
                        waiting.cancel()
                yield places[future], result
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def _end_with_parent() -> None:
    """Watch the process that started this one: a killed parent leaves no order to end."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
