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


def _rho_a(values: np.ndarray) -> np.ndarray:
    ranks = average_ranks(values)
    n = float(len(ranks))
    return (ranks - (n + 1) / 2) * np.sqrt(12 / (n**3 - n))


#: Comparators that are an inner product of two prepared RDMs of unit length, arrays (n_pairs,).
PREPARE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "spearman": _spearman,
    "pearson": _pearson,
    "corr": _pearson,
    "cosine": _cosine,
}
_PRODUCTS = {**PREPARE, "rho-a": _rho_a}
#: Comparators that count the pairs of pairs in the same order.
_ORDERED = ("kendall", "tau-a", "tau-b")
# 0 where everything is tied, which is refused as for the others.
_DEFINED_FOR_TIES = ("tau-a", "rho-a")
#: Comparators in the metric in which the errors of distances are independent; True where the mean is taken out first.
WHITENED = {"corr_cov": True, "cosine_cov": False}
#: How two RDMs can be compared.
COMPARATORS = tuple(sorted({*_PRODUCTS, *_ORDERED, *WHITENED}))
#: The form in which RDMs of several subjects are averaged where it is not that of the comparator itself.
POOLED = {
    "kendall": "spearman", "tau-a": "spearman", "tau-b": "spearman", "rho-a": "spearman", "corr_cov": "pearson",
    "cosine_cov": "cosine",
}  # fmt: skip


def compare_rdms(first: np.ndarray, second: np.ndarray, *, comparator: str = "spearman") -> float:
    """Compare two RDMs by their dissimilarities of the same pairs.

    - "spearman" and "pearson" correlate the dissimilarities; "cosine" does not centre them, for distances with a true zero
      (cross-validated ones).
    - "kendall" is Kendall's tau-b. "tau-a" and "rho-a" do not divide by what is not tied, so that a model that predicts ties, as
      one of categories does, is not preferred (Nili et al. 2014; Schutt et al. 2023). "rho-a" is the mean of Spearman's
      coefficient over all ways to break the ties: ``12 sum r_i s_i / (n^3 - n)`` of centred ranks.
    - "cosine_cov" and "corr_cov" are cosine and correlation after whitening by the covariance of the errors of squared
      distances, which share stimuli (Diedrichsen et al. 2021, arXiv 2007.02789). "cosine_cov" is the linear CKA of the
      doubly centred ``-D / 2`` (eq. 25); it wants squared distances, cross-validated at best.

    Parameters
    ----------
    first, second : arrays of shape (n_pairs,)
        Dissimilarities in the same order of pairs; of all pairs of some stimuli for "cosine_cov" and "corr_cov".
    comparator : str
        One of `COMPARATORS`. Also under the names of rsatoolbox: "corr" is "pearson", "tau-b" is "kendall".

    Returns
    -------
    float
        In [-1, 1].

    Raises
    ------
    ValueError
        Unknown comparator, different lengths, dissimilarities that are all equal (which "cosine" and "cosine_cov" compare), or
        some that are NaN or infinite.

    References
    ----------
    Nili, Wingfield, Walther, Su, Marslen-Wilson & Kriegeskorte 2014, PLoS Comput Biol 10:e1003553.
    Schutt, Kipnis, Diedrichsen & Kriegeskorte 2023, eLife 12:e82566.
    Diedrichsen, Berlot, Mur, Schutt, Shahbazi & Kriegeskorte 2021, Comparing representational geometries using whitened
    unbiased-distance-matrix similarity.

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
    if comparator in _DEFINED_FOR_TIES:
        for values in (first, second):
            _untied(values)
    if first.shape != second.shape:
        raise ValueError(
            f"rdm: found dissimilarities of shape {first.shape} and {second.shape}; expected two of the same length. "
            "Mend: compare RDMs of the same stimuli."
        )
    if comparator in _ORDERED:
        return _tau(comparator)(_ranks(comparator)(first), _ranks(comparator)(second))
    if comparator == "spearman":
        return rank_correlation(first, second)
    if comparator in WHITENED:
        return float(np.vdot(_whitened(first, comparator), _whitened(second, comparator)))
    prepare = _PRODUCTS[comparator]
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


def tau_a(first: np.ndarray, second: np.ndarray) -> float:
    """Compute Kendall's tau-a of arrays of shape (n_pairs,): concordant less discordant pairs, over all pairs."""
    total = len(first) * (len(first) - 1) / 2
    untied = []
    for values in (first, second):
        counts = np.unique(values, return_counts=True)[1].astype(np.float64)
        untied.append(total - float((counts * (counts - 1)).sum()) / 2)
    # scipy's tau-b divides the same difference by the pairs that are not tied.
    return _kendall(first, second) * float(np.sqrt(untied[0] * untied[1])) / total if min(untied) > 0 else 0.0


def _tau(comparator: str) -> Callable[[np.ndarray, np.ndarray], float]:
    return tau_a if comparator == "tau-a" else _kendall


def _ranks(comparator: str) -> Callable[[np.ndarray], np.ndarray]:
    return average_ranks if comparator == "tau-a" else _untied


def _whitened(values: np.ndarray, comparator: str) -> np.ndarray:
    """Return the unit second moment (n, n) whose inner product is the whitened comparator."""
    n = round((1 + np.sqrt(1 + 8 * len(values))) / 2)
    if n * (n - 1) // 2 != len(values):
        raise ValueError(
            f"rdm: found {len(values)} dissimilarities for comparator {comparator!r}; expected all pairs of some stimuli, "
            f"n (n - 1) / 2. Mend: comparator={POOLED[comparator]!r}, or RDMs without missing pairs."
        )
    square = np.zeros((1, n, n))
    square[0][upper_mask(n)] = values
    moment = whitened_moments(square + square.transpose(0, 2, 1), np.ones((n, n), dtype=bool), WHITENED[comparator])[0]
    if not moment.any():
        raise ValueError(ALL_EQUAL)
    return moment


def whitened_moments(squares: np.ndarray, kept: np.ndarray, centred: bool) -> np.ndarray:
    """Return the second moments of RDMs, of unit length, in which the errors of squared distances are independent.

    ``G = -D / 2``, less ``(b_i + b_j) / 2`` so that the kept entries of every row sum to zero (Diedrichsen et al. 2021).

    Parameters
    ----------
    squares : array of shape (n_rdms, n, n)
        Symmetric, with a diagonal of zeros.
    kept : bool array of shape (n, n)
        Entries that are read; the diagonal is.
    centred : bool
        Take the mean of the kept dissimilarities out first.

    Returns
    -------
    array of shape (n_rdms, n, n)
        Zero where an RDM has nothing that differs.
    """
    n = len(kept)
    pairs = kept & ~np.eye(n, dtype=bool)
    D = np.where(pairs, squares, 0.0)
    length = np.abs(D).max(axis=(1, 2), initial=0.0)
    if centred:
        D = np.where(pairs, D - (D.sum(axis=(1, 2)) / max(int(pairs.sum()), 1))[:, None, None], 0.0)
    G = D / -2
    # Rows in which nothing but the diagonal is kept would leave the solution open.
    b = np.linalg.solve(np.diag(kept.sum(axis=1)) + kept, 2 * G.sum(axis=2).T).T
    G = np.where(kept, G - (b[:, :, None] + b[:, None, :]) / 2, 0.0)
    norm = np.sqrt(np.square(G).sum(axis=(1, 2)))
    norm[norm <= 1e-13 * n * length] = np.inf
    return G / norm[:, None, None]


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
    if comparator in WHITENED:
        moments = [_whitened(values, comparator) for values in (first, second)]
        return lambda order: (
            observed if isinstance(order, slice) else float(np.vdot(moments[0], moments[1][order][:, order]))
        )

    def square(condensed: np.ndarray) -> np.ndarray:
        full = np.zeros((n, n))
        full[upper_mask(n)] = condensed
        return full + full.T

    prepared: list[np.ndarray] = []

    def score(order: np.ndarray | slice) -> float:
        if isinstance(order, slice):
            return observed
        if not prepared:
            prepare = _ranks(comparator) if comparator in _ORDERED else _PRODUCTS[comparator]
            prepared.extend([square(prepare(first)), square(prepare(second))])
        if comparator in _ORDERED:
            return _tau(comparator)(upper_triangle(prepared[0]), upper_triangle(prepared[1][order][:, order]))
        return float(np.sum(prepared[0] * prepared[1][order][:, order]) / 2)

    return score
