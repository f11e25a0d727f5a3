"""Readouts of many time bins: trained bin by bin on the same folds, several at a time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from neurobridge.assemblies import as_matrix
from neurobridge.assemblies.schema import blocks
from neurobridge.evaluate.decoding.readouts import check_training, fit_readout
from neurobridge.maps.logistic import fit_logistic
from neurobridge.points.blocks import row_blocks
from neurobridge.points.devices import usable_cores
from neurobridge.points.memory import check_memory
from neurobridge.points.progress import progress_bar

#: Values of the bins that are fitted at a time: larger blocks leave the processor's cache.
BUDGET = 1 << 19
#: Values of all fits below which starting threads takes longer than the fits.
SMALL = 1 << 20
Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)


def check_room(assembly: xr.DataArray) -> xr.DataArray:
    """Return an assembly whose values, and the training trials of a fold, there is room for in double precision.

    Raises
    ------
    MemoryError
        There is not.
    """
    first = "recordings.isel(time_bin=[0]) decodes one bin; " if assembly.ndim == 3 else ""
    check_memory(
        3 * 8.0 * assembly.size, math.inf, f"a decoding of {' x '.join(map(str, assembly.shape))} values",
        mend=f"{first}recordings.isel(neuroid=slice(0, 500)) decodes from 500 neuroids",
    )  # fmt: skip
    return assembly


def bin_arrays(assembly: xr.DataArray, *, role: str = "assembly") -> np.ndarray:
    """Return the values bin by bin, array of shape (n_bins, n_presentations, n_neuroids); one bin without ``time_bin``."""
    check_room(assembly)
    if assembly.ndim == 2:
        return as_matrix(assembly, role=role)[None]
    parts = [np.asarray(values, dtype=np.float64) for _, values in blocks(assembly, role=role)]
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return np.ascontiguousarray(np.moveaxis(whole, 2, 0))


def in_threads(
    tasks: Sequence[Any], run: Callable[[Any], Result], *, description: str, progress: bool
) -> Iterator[Result]:
    """Run tasks on the processors that this process may use, and yield their results in order."""
    usable = usable_cores()
    # BLAS threads on the small products of a fit wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        if usable == 1 or len(tasks) == 1:
            yield from progress_bar(map(run, tasks), total=len(tasks), desc=description, progress=progress)
            return
        with ThreadPoolExecutor(min(usable, len(tasks)), thread_name_prefix="readouts") as pool:
            yield from progress_bar(pool.map(run, tasks), total=len(tasks), desc=description, progress=progress)


def read_folds(
    X: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    label: str,
    readout: str,
    seed: int,
    *,
    across: bool = False,
    threads: bool = True,
    progress: bool = False,
) -> list[np.ndarray]:
    """Train a readout of every bin on every fold, and read the held-out trials with it.

    Parameters
    ----------
    X : array of shape (n_bins, n_trials, n_sites)
    labels : array of shape (n_trials,)
    folds : sequence of (train, test)
    label, readout, seed
        As in `decode`.
    across : bool
        Read the trials of every bin with the readout of each; else those of its bin.
    threads : bool
        Use all processors.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of array of shape (n_bins, n_test), or (n_bins, n_bins, n_test) with ``across``
        A fold each: numbers of the classes among the sorted ones of ``labels``. The first dimension is the bin of training.
    """
    classes = np.unique(labels)
    for train, _ in folds:
        check_training(labels[train], label, readout)
    bins = row_blocks(len(X), X.shape[1] * X.shape[2], budget=BUDGET)

    def run(task: tuple[tuple[np.ndarray, np.ndarray], slice]) -> np.ndarray:
        (train, test), part = task
        present = np.unique(labels[train])
        numbers = np.searchsorted(classes, present)
        if readout == "logistic":
            codes = np.searchsorted(present, labels[train])
            chosen = _read_logistic(X[part][:, train], codes, X[:, test] if across else X[part][:, test], across)
            return numbers[chosen]
        read = []
        for k in range(part.start, part.stop):
            model = fit_readout(X[k][train], labels[train], label, readout, seed)
            held_out = X[:, test].reshape(-1, X.shape[2]) if across else X[k][test]
            chosen = np.searchsorted(classes, model.predict(held_out))
            read.append(chosen.reshape(len(X), -1) if across else chosen)
        return np.stack(read)

    started = time.perf_counter()
    tasks = list(product(folds, bins))
    parts = (
        list(in_threads(tasks, run, description="readouts", progress=progress)) if threads else list(map(run, tasks))
    )
    if threads:
        # Refits of permutations run in threads of their own, and are logged as a whole.
        _LOG.info(
            "fitted %d %s readouts of %s: %d classes, %d trials, %d sites, %d folds, %d time bins, %.2f s",
            len(folds) * len(X), readout, label, len(classes), *X.shape[1:], len(folds), len(X), time.perf_counter() - started,
        )  # fmt: skip
    return [np.concatenate(parts[k : k + len(bins)]) for k in range(0, len(parts), len(bins))]


def read_draws(
    draws: Sequence[tuple[tuple[np.ndarray, np.ndarray], ...]], readout: str, label: str, seed: int
) -> np.ndarray:
    """Train a readout on each draw and return the fraction of its test trials that are read rightly.

    Parameters
    ----------
    draws : sequence of ((X_train, codes_train), (X_test, codes_test))
        Arrays of shape (n, n_sites) and (n,), the same in all draws; every class is in both.
    readout, label, seed
        As in `decode`.

    Returns
    -------
    array of shape (n_draws,)
    """
    if readout != "logistic":
        return np.array(
            [
                (fit_readout(X, y, label, readout, seed).predict(X_test) == truth).mean()
                for (X, y), (X_test, truth) in draws
            ]
        )
    correct: list[np.ndarray] = []
    for part in row_blocks(len(draws), draws[0][0][0].size, budget=BUDGET):
        (X, codes), (held_out, truth) = (
            [np.stack(arrays) for arrays in zip(*side, strict=True)] for side in zip(*draws[part], strict=True)
        )
        correct.extend((_read_logistic(X, codes, held_out, False) == truth).mean(axis=1))
    return np.array(correct)


def _read_logistic(X: np.ndarray, codes: np.ndarray, held_out: np.ndarray, across: bool) -> np.ndarray:
    """Read held-out trials with logistic regressions of standardised responses.

    Parameters
    ----------
    X : array of shape (n_bins, n_train, n_sites)
    codes : array of int of shape (n_train,) or (n_bins, n_train)
    held_out : array of shape (n_bins or more, n_test, n_sites)
    across : bool
        Read the trials of every bin with each readout; else those of its bin.

    Returns
    -------
    array of int of shape (n_bins, n_test), or (n_bins, n_held_out_bins, n_test)
    """
    mean, scale = moments(X)
    weights, intercepts = fit_logistic((X - mean) / scale, codes, int(codes.max()) + 1)
    # Trials are read in their own units: the scales go into the weights.
    weights /= scale
    intercepts -= (weights @ mean.transpose(0, 2, 1))[:, :, 0]
    if not across:
        return np.argmax(weights @ held_out.transpose(0, 2, 1) + intercepts[:, :, None], axis=1)
    flat = held_out.reshape(-1, held_out.shape[2])
    read = [np.argmax(flat @ w.T + b, axis=1) for w, b in zip(weights, intercepts, strict=True)]
    return np.stack(read).reshape(len(X), *held_out.shape[:2])


def moments(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations over samples, arrays of shape (n_bins, 1, n_sites).

    A site that does not vary, up to rounding, has the scale 1, as in scikit-learn's ``StandardScaler``.
    """
    n = X.shape[1]
    mean = X.mean(axis=1, keepdims=True)
    variance = X.var(axis=1, keepdims=True)
    rounding = np.finfo(np.float64).eps * n
    constant = variance <= rounding * variance + (rounding * mean) ** 2
    return mean, np.sqrt(np.where(constant, 1, variance))
