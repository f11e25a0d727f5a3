"""Distances between the responses to all pairs of stimuli; responses that have none are refused by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from neurobridge.evaluate.correlation import unit_rows
from neurobridge.points.blocks import row_blocks
from neurobridge.points.scale import within_range


def _correlation(X: npt.ArrayLike, stimuli: npt.ArrayLike | None = None) -> np.ndarray:
    X = within_range(_responses(X))
    centred = X - X.mean(axis=1, keepdims=True)
    unit, norm = unit_rows(centred, out=centred)
    flat = norm <= 1e-13 * np.sqrt(X.shape[1]) * np.abs(X).max(axis=1)
    _refuse_undefined(flat, "the same response in all neuroids", "no correlation", stimuli)
    n, begin = len(unit), 0
    distances = np.empty(n * (n - 1) // 2)
    # Rows of the upper triangle in blocks that stay in the cache: the square matrix is never there.
    for rows in row_blocks(n, 1, budget=256):
        block = unit[rows] @ unit[rows.start :].T
        for k, row in enumerate(block, start=1):
            kept = distances[begin : begin + len(row) - k]
            np.subtract(1, row[k:], out=kept)
            begin += len(kept)
    return distances


def _cosine(X: npt.ArrayLike, stimuli: npt.ArrayLike | None = None) -> np.ndarray:
    X = within_range(_responses(X))
    _refuse_undefined(np.linalg.norm(X, axis=1) == 0, "no response in any neuroid", "no angle", stimuli)
    return pdist(X, "cosine")


def _euclidean(X: npt.ArrayLike, stimuli: npt.ArrayLike | None = None) -> np.ndarray:
    return _finite(pdist(_responses(X), "euclidean"))


def _sqeuclidean(X: npt.ArrayLike, stimuli: npt.ArrayLike | None = None) -> np.ndarray:
    X = _responses(X)
    return _finite(pdist(X, "sqeuclidean") / X.shape[1])


def _poisson(
    X: npt.ArrayLike, stimuli: npt.ArrayLike | None = None, *, prior_lambda: float = 1.0, prior_weight: float = 0.1
) -> np.ndarray:
    X = _responses(X)
    _refuse_undefined(np.any(X < 0, axis=1), "negative responses", "no rate of a Poisson variable", stimuli)
    rates = (X + prior_lambda * prior_weight) / (1 + prior_weight)
    logs = np.log(rates)
    # Differences keep what products of large rates with logs would cancel.
    n, begin = len(rates), 0
    distances = np.empty(n * (n - 1) // 2)
    for row in range(n - 1):
        end = begin + n - 1 - row
        distances[begin:end] = ((rates[row + 1 :] - rates[row]) * (logs[row + 1 :] - logs[row])).mean(axis=1)
        begin = end
    return distances


def _responses(X: npt.ArrayLike) -> np.ndarray:
    values = np.asarray(X, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"rdm: found responses of shape {values.shape}, {int((~np.isfinite(values)).sum())} of them NaN or infinite; expected "
            "finite ones of shape (n_stimuli, n_neuroids). Mend: leave out the stimuli or neuroids without a value."
        )
    return values


def _finite(distances: np.ndarray) -> np.ndarray:
    if not np.isfinite(distances).all():
        raise ValueError(
            "rdm: found distances beyond the range of double precision; expected finite ones. Mend: divide the responses by their "
            "largest value."
        )
    return distances


def _refuse_undefined(undefined: np.ndarray, what: str, missing: str, stimuli: npt.ArrayLike | None) -> None:
    if not undefined.any():
        return
    rows = np.flatnonzero(undefined)
    names = [f"row {row}" for row in rows[:3]] if stimuli is None else np.asarray(stimuli)[rows[:3]].tolist()
    raise ValueError(
        f"rdm: found {len(rows)} stimuli of {len(undefined)} with {what}, {names}{' ...' if len(rows) > 3 else ''}; expected "
        f"responses that differ: {missing} is defined. Mend: distance='euclidean', or leave these stimuli out."
    )


#: Distance between the responses to two stimuli, arrays (n_stimuli, n_neuroids) -> (n_pairs,), pairs in the order of scipy's pdist.
#: ``stimuli``, their ids, are named where a distance is not defined.
DISTANCES: dict[str, Callable[..., np.ndarray]] = {
    "correlation": _correlation,
    "euclidean": _euclidean,
    "sqeuclidean": _sqeuclidean,
    "cosine": _cosine,
    "poisson": _poisson,
}
