"""The cells of a study, computed in this process or in several."""

from __future__ import annotations

import json
import pickle
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

from neurobridge.study.machine import peak_rss
from neurobridge.study.processes import call_in_processes

Settings = TypeVar("Settings", bound=Hashable)
#: What a cell is computed by: from the settings of a run and the values that name the cell to its records.
Compute = Callable[[Settings, dict[str, Any]], list[dict[str, Any]]]
#: The line of records of a cell, or the error that ended it.
Outcome = dict[str, Any] | Exception

# The settings that a process was first given: what its cells share is kept with them.
_SETTINGS: dict[Hashable, Any] = {}


def compute_cells(
    compute: Compute[Settings], here: Settings, away: Settings, cells: Sequence[dict[str, Any]], n_processes: int
) -> Iterator[tuple[int, Outcome]]:
    """Compute cells.

    Parameters
    ----------
    compute : callable
        Of a module, where there are several processes.
    here : Settings
        What ``compute`` is given in this process.
    away : Settings
        The same for other processes, without what the cells here share.
    cells : sequence of dict
    n_processes : int

    Yields
    ------
    place : int
        Of the cell, as they end.
    outcome : dict or Exception
        Cell, records, warnings, seconds and peak RSS in GB; or the error.
    """
    if n_processes == 1:
        for place, cell in enumerate(cells):
            yield place, _outcome(compute, here, cell)
        return
    yield from call_in_processes(_outcome_there, [(compute, away, cell) for cell in cells], n_processes)


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


def _outcome_there(compute: Compute[Settings], settings: Settings, cell: dict[str, Any]) -> Outcome:
    outcome = _outcome(compute, _SETTINGS.setdefault(settings, settings), cell)
    try:
        pickle.loads(pickle.dumps(outcome))
    except Exception:
        # An error that does not travel is told in words.
        return RuntimeError(f"{type(outcome).__name__}: {outcome}")
    return outcome
