"""Jobs that do not depend on each other: one after another in this process, or on the workers of a dask client.

Nothing here imports dask before a client is asked for.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import starmap
from typing import Any

from threadpoolctl import threadpool_limits

#: A function that calls another with the arguments of one job after another, and gives the results in the order of the jobs.
Runner = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]

# Jobs a thread that are sent before the result of the first is read: no worker waits, and the scheduler holds few inputs.
_AHEAD = 2


def require_distributed() -> None:
    """Refuse to go on without the package ``distributed``.

    Raises
    ------
    ImportError
    """
    if importlib.util.find_spec("distributed") is None:
        raise ImportError(
            "found distributed=True and no package distributed; expected it. Mend: pip install 'neurobridge[distributed]'."
        )


def require_workers_device(device: Any) -> None:
    """Refuse a device that workers, which compute where they are, may not have.

    Parameters
    ----------
    device : str, torch.device or None

    Raises
    ------
    ValueError
    """
    if device is not None and not str(device).startswith("cpu"):
        raise ValueError(
            f"found device={str(device)!r} with distributed=True; expected None, since workers compute where they are. "
            "Mend: device=None."
        )


def active_client() -> Any:
    """Return the client of ``dask.distributed`` that is active.

    Raises
    ------
    ImportError
        The package ``distributed`` is missing.
    ValueError
        No client is active.
    """
    require_distributed()
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        raise ValueError(
            "found distributed=True and no client of dask; expected one that is active. Mend: from distributed import Client; "
            "client = Client(n_workers=2, threads_per_worker=1), or distributed=False."
        ) from None


def n_worker_threads() -> int | None:
    """Return the threads that the workers of the active client have together; None where no client is active.

    Examples
    --------
    >>> from neurobridge.points.workers import n_worker_threads
    >>> n_worker_threads() is None
    True
    """
    try:
        return sum(active_client().nthreads().values())
    except (ImportError, ValueError):
        return None


def job_runner(distributed: bool) -> Runner:
    """Return what runs jobs: this process, as `itertools.starmap` does, or the workers of the active client.

    Parameters
    ----------
    distributed : bool
        Run them on the workers. A job whose worker died is run again by another; its arguments are sent with it, so that nothing
        has to be kept on a worker, and its warnings are given here. The jobs are read as they are sent, a few ahead of the results.

    Raises
    ------
    ImportError, ValueError
        As `active_client`.

    Examples
    --------
    >>> from neurobridge.points.workers import job_runner
    >>> list(job_runner(False)(pow, [(2, 3), (3, 2)]))
    [8, 9]
    """
    if not distributed:
        return starmap
    client = active_client()

    def run(function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        futures: deque[Any] = deque()
        try:
            for number, job in enumerate(jobs):
                if number % 16 == 0:
                    # Workers may join and leave.
                    most = _AHEAD * max(1, sum(client.nthreads().values())) + 1
                while len(futures) >= most:
                    yield _heard(futures.popleft().result())
                with warnings.catch_warnings():
                    # The arguments are meant to lie with the scheduler, from where they are sent again if a worker dies.
                    warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
                    futures.append(client.submit(_single, function, *job, pure=False))
            while futures:
                yield _heard(futures.popleft().result())
        finally:
            for future in futures:
                future.cancel()

    return run


def shared_value(value: Any, *, distributed: bool) -> Any:
    """Return what jobs of `job_runner` take in place of a value that all of them need: the function receives the value.

    Parameters
    ----------
    value : object
        It is sent to a worker once, not with every job; if the workers that have it die, the scheduler sends it again.
    distributed : bool
        As of `job_runner`; False returns the value.

    Examples
    --------
    >>> from neurobridge.points.workers import job_runner, shared_value
    >>> base = shared_value(2, distributed=False)
    >>> list(job_runner(False)(pow, [(base, 3), (base, 4)]))
    [8, 16]
    """
    if not distributed:
        return value
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
        return active_client().submit(_itself, value, pure=False)


def _itself(value: Any) -> Any:
    return value


def _single(function: Callable[..., Any], *arguments: Any) -> tuple[Any, list[Warning]]:
    """Call a function, and return its warnings too, in a worker, which has as many jobs as threads: BLAS gets one of them."""
    with threadpool_limits(limits=1, user_api="blas"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*arguments)
    return result, [each.message for each in caught if isinstance(each.message, Warning)]


def _heard(answer: tuple[Any, list[Warning]]) -> Any:
    """Return the result of a job, and give its warnings here."""
    result, given = answer
    for warning in given:
        warnings.warn(warning, stacklevel=4)
    return result
