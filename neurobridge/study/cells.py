"""The cells of a study, computed in this process or in several."""

from __future__ import annotations

import json
import pickle
import time
import traceback
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from neurobridge.study.machine import peak_rss
from neurobridge.study.processes import call_in_processes

Settings = TypeVar("Settings", bound=Hashable)
#: What computes a cell: a function of the settings of a run and of the values that name the cell, which returns records.
Compute = Callable[[Settings, dict[str, Any]], list[dict[str, Any]]]
#: The line of records of a cell, or the error that ended it.
Outcome = dict[str, Any] | Exception

# The settings that a worker was first given: what its cells share is kept with them.
_KEPT_SETTINGS: dict[Hashable, Any] = {}


def compute_cells(
    compute: Compute[Settings],
    own_settings: Settings,
    worker_settings: Settings,
    cells: Sequence[dict[str, Any]],
    n_processes: int,
) -> Iterator[tuple[int, Outcome]]:
    """Compute cells one after another, or several at a time in processes of their own.

    After a cell that failed no other starts; those that run are waited for, and yielded.

    Parameters
    ----------
    compute : callable
        With several processes it must be a function of a module, since the processes import it.
    own_settings : Settings
        What ``compute`` is given in this process.
    worker_settings : Settings
        The same for other processes, without what the cells of this process share.
    cells : sequence of dict
    n_processes : int
        A single cell is computed in this process.

    Yields
    ------
    place : int
        Place of the cell in ``cells``; cells are yielded as they end.
    outcome : dict or Exception
        Cell, records, warnings, seconds and peak RSS in GB; or the error.
    """
    if n_processes == 1 or len(cells) < 2:
        own_calls = [(compute, own_settings, cell) for cell in cells]
        yield from call_in_processes(_outcome, own_calls, 1, ends_all=_is_failure)
        return
    calls = [(compute, worker_settings, cell) for cell in cells]
    for place, answer in call_in_processes(_outcome_in_worker, calls, n_processes, ends_all=_is_failure):
        yield place, _chained(answer) if isinstance(answer, list) else answer


def _is_failure(answer: Any) -> bool:
    return not isinstance(answer, dict)


def _outcome(compute: Compute[Settings], settings: Settings, cell: dict[str, Any]) -> Outcome:
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            records = compute(settings, cell)
            json.dumps(records, allow_nan=False)
        except Exception as error:
            return error
    return {
        "cell": cell,
        "records": records,
        "warnings": [f"{warning.category.__name__}: {warning.message}" for warning in caught],
        "seconds": round(time.perf_counter() - started, 3),
        "peak_rss_gb": round(peak_rss() / 1e9, 3),
    }


def _outcome_in_worker(
    compute: Compute[Settings], settings: Settings, cell: dict[str, Any]
) -> dict[str, Any] | list[Exception]:
    """Return the line of a cell, or its error with the causes of it, which pickling would drop."""
    outcome = _outcome(compute, _KEPT_SETTINGS.setdefault(settings, settings), cell)
    if not isinstance(outcome, Exception):
        return outcome
    outcome.add_note("".join(traceback.format_exception(outcome)))
    chain: list[Exception] = []
    cause: BaseException | None = outcome
    while isinstance(cause, Exception):
        chain.append(_picklable(cause))
        cause = cause.__cause__
    return chain


def _picklable(error: Exception) -> Exception:
    """Return the error, or one with its type and message where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _chained(errors: list[Exception]) -> Exception:
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]
