"""Bootstrap of the comparison of RDMs, over stimuli, over subjects, or over both: array kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.stats

from neurobridge.evaluate.similarity.comparators import POOLED, WHITENED, tau_a, whitened_moments

#: Stimuli that a draw has at the least.
FEWEST_STIMULI = 3


class Draw(NamedTuple):
    """One bootstrap sample.

    Attributes
    ----------
    stimuli : int array of shape (n_stimuli,)
        Rows, with replacement.
    subjects : int array of shape (n_subjects,)
    """

    stimuli: np.ndarray
    subjects: np.ndarray


def draw_samples(n_stimuli: int, n_subjects: int, n_bootstrap: int, seed: int) -> list[Draw]:
    """Draw stimuli and subjects with replacement, as many as there are."""
    rng = np.random.default_rng(seed)
    return [
        Draw(rng.integers(0, n_stimuli, n_stimuli), rng.integers(0, n_subjects, n_subjects)) for _ in range(n_bootstrap)
    ]


class Compared:
    """RDMs of models and of subjects on some rows of the stimuli, ready to be compared.

    Pairs of a row with its own copy are left out: they have a distance of zero in every RDM.

    Parameters
    ----------
    models : array of shape (n_models, n, n)
    subjects : array of shape (n_subjects, n, n)
    rows : int array
        Stimuli, with replacement.
    comparator : str
        One of `COMPARATORS`.
    """

    def __init__(self, models: np.ndarray, subjects: np.ndarray, rows: np.ndarray, comparator: str) -> None:
        self.comparator, self.n = comparator, len(rows)
        self.upper = np.triu_indices(len(rows), 1)
        left, right = rows[self.upper[0]], rows[self.upper[1]]
        self.apart = left != right
        self._subjects = subjects[:, left[self.apart], right[self.apart]]
        #: Similarity of every model and subject, (n_models, n_subjects).
        self.similarity = self._compare(models[:, left[self.apart], right[self.apart]], self._subjects)
        self._pooled = _for_averages(self._subjects, POOLED.get(comparator, comparator))

    def evaluate(self, subjects: np.ndarray) -> np.ndarray:
        """Return the mean over subjects of each model's similarity, then the lower and the upper noise ceiling.

        Parameters
        ----------
        subjects : int array
            Subjects, with replacement. For the lower ceiling all copies of a subject are left out together.

        Returns
        -------
        array of shape (n_models + 2,)
            The lower ceiling of a single subject is NaN.
        """
        different, counts = np.unique(subjects, return_counts=True)
        total = counts @ self._pooled[different]
        others = total - counts[:, None] * self._pooled[different]
        upper = self._compare(total[None], self._subjects[different]).mean()
        lower = np.nan
        if len(different) > 1:
            lower = float(np.mean(np.diag(self._compare(others, self._subjects[different]))))
        return np.concatenate([self.similarity[:, subjects].mean(axis=1), [lower, upper]])

    def _compare(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        if self.comparator in WHITENED:
            moments = [self._moments(values).reshape(len(values), -1) for values in (first, second)]
            return moments[0] @ moments[1].T
        if self.comparator in ("kendall", "tau-a", "tau-b"):
            tau = tau_a if self.comparator == "tau-a" else _tau_b
            return np.array([[tau(a, b) for b in second] for a in first])
        return _directions(first, self.comparator) @ _directions(second, self.comparator).T

    def _moments(self, values: np.ndarray) -> np.ndarray:
        kept = np.eye(self.n, dtype=bool)
        rows, columns = self.upper[0][self.apart], self.upper[1][self.apart]
        kept[rows, columns] = kept[columns, rows] = True
        squares = np.zeros((len(values), self.n, self.n))
        squares[:, rows, columns] = squares[:, columns, rows] = values
        return whitened_moments(squares, kept, WHITENED[self.comparator])


def _tau_b(first: np.ndarray, second: np.ndarray) -> float:
    tau = float(scipy.stats.kendalltau(first, second)[0])
    return tau if np.isfinite(tau) else 0.0


def _directions(values: np.ndarray, comparator: str) -> np.ndarray:
    """Return rows whose inner products are the similarities; a row without anything that differs is zero."""
    if comparator in ("spearman", "rho-a"):
        values = scipy.stats.rankdata(values, axis=1)
    centred = values if comparator == "cosine" else values - values.mean(axis=1, keepdims=True)
    if comparator == "rho-a":
        n = float(values.shape[1])
        return centred * np.sqrt(12 / (n**3 - n))
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    floor = 1e-13 * np.sqrt(values.shape[1]) * np.abs(values).max(axis=1, keepdims=True)
    return centred / np.where(norm > floor, norm, np.inf)


def _for_averages(values: np.ndarray, comparator: str) -> np.ndarray:
    return scipy.stats.rankdata(values, axis=1) if comparator == "spearman" else _directions(values, comparator)


def dual_variance(
    both: np.ndarray, subjects: np.ndarray, stimuli: np.ndarray, n_subjects: int, n_stimuli: int
) -> np.ndarray:
    """Combine the variances of three bootstraps into that of new subjects and new stimuli.

    Drawing subjects and stimuli at once counts the variance of a single measurement, which neither of them shares, up to three
    times. With ``a = n_s / (n_s - 1)`` of the subjects and ``b`` of the stimuli likewise::

        V = a V_subjects + b V_stimuli - a b (V_both - V_subjects - V_stimuli)

    no smaller than ``a V_subjects`` and ``b V_stimuli``, and no larger than ``V_both`` (Schutt et al. 2023, eLife 12:e82566;
    rsatoolbox).

    Parameters
    ----------
    both, subjects, stimuli : arrays of the same shape
        Variances when both are drawn, the subjects alone, the stimuli alone.
    n_subjects, n_stimuli : int

    Returns
    -------
    array of the same shape

    Examples
    --------
    Without an interaction the variances add up:

    >>> float(dual_variance(np.array(3.0), np.array(1.0), np.array(2.0), 10**9, 10**9).round(6))
    3.0
    """
    a, b = n_subjects / (n_subjects - 1), n_stimuli / (n_stimuli - 1)
    variance = a * subjects + b * stimuli - a * b * (both - subjects - stimuli)
    least = np.maximum(a * subjects, b * stimuli)
    return np.asarray(np.minimum(np.maximum(variance, least), both))
