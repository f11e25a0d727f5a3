"""Comparators of representational dissimilarity matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.stats

from neurobridge.evaluate.similarity.ranks import ALL_EQUAL, average_ranks, rank_correlation
from neurobridge.points.conversion import real_array
from neurobridge.points.options import is_choice
from neurobridge.points.scale import within_range

Scorer = Callable[[np.ndarray | slice], float]


def upper_triangle(square: np.ndarray) -> np.ndarray:
    """Return the values above the diagonal, row by row: one of every pair."""
    return square[upper_mask(len(square))]


def upper_mask(n: int) -> np.ndarray:
    """Return a mask (n, n) of the places above the diagonal."""
    return ~np.tri(n, dtype=bool)


def _spearman(values: np.ndarray) -> np.ndarray:
    ranks = average_ranks(values)
    ranks -= (len(ranks) + 1) / 2
    return _unit(ranks, len(ranks), out=ranks)


def _pearson(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    return _unit(centred, float(np.abs(values).max(initial=0)), out=centred)


def _cosine(values: np.ndarray) -> np.ndarray:
    return _unit(values, float(np.abs(values).max(initial=0)))


def _unit(values: np.ndarray, magnitude: float, out: np.ndarray | None = None) -> np.ndarray:
    norm = np.linalg.norm(values)
    # What rounding alone leaves of equal numbers of that magnitude.
    if norm <= 1e-13 * np.sqrt(len(values)) * magnitude:
        raise ValueError(ALL_EQUAL)
    return np.divide(values, norm, out=out)


#: Comparators that are an inner product of two prepared RDMs, arrays (n_pairs,).
PREPARE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "spearman": _spearman,
    "pearson": _pearson,
    "cosine": _cosine,
}
#: How two RDMs can be compared.
COMPARATORS = ("cosine", "kendall", "pearson", "spearman")


def compare_rdms(first: np.ndarray, second: np.ndarray, *, comparator: str = "spearman") -> float:
    """Compare two RDMs by their dissimilarities of the same pairs.

    ``spearman`` and ``pearson`` correlate the dissimilarities; ``cosine`` does not centre them, for distances with a true zero
    (cross-validated ones); ``kendall`` is tau-b.

    Parameters
    ----------
    first, second : arrays of shape (n_pairs,)
        Dissimilarities in the same order of pairs.
    comparator : {"spearman", "pearson", "cosine", "kendall"}

    Returns
    -------
    float
        In [-1, 1].

    Raises
    ------
    ValueError
        Unknown comparator, different lengths, dissimilarities that are all equal, or some that are NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.similarity import compare_rdms
    >>> round(compare_rdms(np.array([0.1, 0.5, 0.9]), np.array([1.0, 2.0, 4.0])), 3)
    1.0
    """
    if not is_choice(comparator, COMPARATORS):
        raise ValueError(
            f"rdm: found comparator {comparator!r}; expected one of {list(COMPARATORS)}. Mend: choose one of them."
        )
    first, second = dissimilarities(first), dissimilarities(second)
    if first.shape != second.shape:
        raise ValueError(
            f"rdm: found dissimilarities of shape {first.shape} and {second.shape}; expected two of the same length. "
            "Mend: compare RDMs of the same stimuli."
        )
    if comparator == "kendall":
        return _kendall(_untied(first), _untied(second))
    if comparator == "spearman":
        return rank_correlation(first, second)
    prepare = PREPARE[comparator]
    return float(prepare(first) @ prepare(second))


def dissimilarities(condensed: npt.ArrayLike) -> np.ndarray:
    """Read the dissimilarities of an RDM, refusing those that are not defined."""
    values = real_array(condensed, name="rdm").astype(np.float64, copy=False)
    undefined = ~np.isfinite(values)
    if values.ndim != 1 or undefined.any():
        at = f", the first of pair {int(undefined.argmax())}" if undefined.any() else ""
        raise ValueError(
            f"rdm: found dissimilarities of shape {values.shape}, {int(undefined.sum())} of them NaN or infinite{at}; expected "
            "finite ones of shape (n_pairs,). Mend: leave out the stimuli whose distance is not defined, from both RDMs."
        )
    return within_range(values)


def _untied(values: np.ndarray) -> np.ndarray:
    """Rank values, refusing equal ones: ties are those of Spearman's coefficient."""
    ranks = average_ranks(values)
    if not len(ranks) or ranks.min() == ranks.max():
        raise ValueError(ALL_EQUAL)
    return ranks


def _kendall(first: np.ndarray, second: np.ndarray) -> float:
    return float(scipy.stats.kendalltau(first, second)[0])


def rdm_scorer(first: np.ndarray, second: np.ndarray, n: int, *, comparator: str = "spearman") -> Scorer:
    """Prepare ``score(order)``, the comparison when the stimuli of the second RDM are taken in that order (Mantel 1967).

    Parameters
    ----------
    first, second : arrays of shape (n_pairs,)
    n : int
        Number of stimuli.

    Raises
    ------
    ValueError
        As `compare_rdms`.
    """
    observed = compare_rdms(first, second, comparator=comparator)
    first, second = dissimilarities(first), dissimilarities(second)

    def square(condensed: np.ndarray) -> np.ndarray:
        full = np.zeros((n, n))
        full[upper_mask(n)] = condensed
        return full + full.T

    prepared: list[np.ndarray] = []

    def score(order: np.ndarray | slice) -> float:
        if isinstance(order, slice):
            return observed
        if not prepared:
            prepare = _untied if comparator == "kendall" else PREPARE[comparator]
            prepared.extend([square(prepare(first)), square(prepare(second))])
        if comparator == "kendall":
            return _kendall(upper_triangle(prepared[0]), upper_triangle(prepared[1][order][:, order]))
        return float(np.sum(prepared[0] * prepared[1][order][:, order]) / 2)

    return score
