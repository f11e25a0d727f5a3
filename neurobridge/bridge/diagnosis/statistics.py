"""Statistics of anchors on the two matrices of their inner distances, C and D of shape (k, k)."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

_PENALTIES = np.logspace(-4, 1, 8)
_TRIMMINGS, _KEPT = 3, 0.6


def loo_rank(C: np.ndarray, D: np.ndarray) -> float:
    """Return the mean rank of the true partner under the min bridge cost without the two pairs compared.

    Parameters
    ----------
    C, D : arrays of shape (k, k)

    Returns
    -------
    float
        From 0 (first) to 1 (last), 0.5 by chance; NaN below three anchors.
    """
    k = len(C)
    if k < 3:
        return math.nan
    ranks = np.empty(k)
    for p in range(k):
        paths = C[p][:, None] + D
        paths[p] = np.inf
        np.fill_diagonal(paths, np.inf)
        costs = paths.min(axis=0)
        ranks[p] = ((costs < costs[p]).sum() + 0.5 * ((costs == costs[p]).sum() - 1)) / (k - 1)
    return float(ranks.mean())


def pair_ranks(C: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Rank every true partner by its distance from what the other pairs predict.

    Parameters
    ----------
    C, D : arrays of shape (k, k)

    Returns
    -------
    array of shape (k,)
        Share of wrong partners that lie nearer, mean of both directions, 0.5 by chance; NaN below four anchors.
    """
    if len(C) < 4:
        return np.full(len(C), math.nan)
    return ranks_of_partners(coordinates(C), coordinates(D))


def ranks_of_partners(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rank every true partner, as `pair_ranks`, from coordinates of shape (k, n_dims) of both spaces, a row a pair.

    Wrong pairs spoil the map that should show them: three times it is fitted again on the 60 % of the pairs that rank best
    (concentration steps of least trimmed squares; Rousseeuw & Van Driessen 2006). A pair is never predicted by itself.
    """
    k = len(left)
    ranks = _ranks(left, right, np.arange(k))
    for _ in range(_TRIMMINGS):
        ranks = _ranks(left, right, np.sort(np.argsort(ranks, kind="stable")[: max(3, round(_KEPT * k))]))
    return ranks


def _ranks(left: np.ndarray, right: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Rank partners by maps of the kept pairs, the mean of both directions."""
    ranks = []
    for source, target in ((left, right), (right, left)):
        residual = _residuals(source, target, kept)
        error = np.linalg.norm(residual, axis=1)
        # What rounding alone tells apart is level.
        level = 1e-9 * math.sqrt(float(np.square(target).sum(axis=1).mean()))
        ranks.append((cdist(target - residual, target) < error[:, None] - level).sum(axis=1) / (len(left) - 1))
    return (ranks[0] + ranks[1]) / 2


def coordinates(C: np.ndarray) -> np.ndarray:
    """Return points whose distances are C, as far as C is Euclidean: classical scaling (Torgerson 1952)."""
    values, vectors = np.linalg.eigh(_gram(C))
    kept = values > 1e-9 * max(values[-1], 1e-300)
    return vectors[:, kept] * np.sqrt(values[kept])


def _gram(C: np.ndarray) -> np.ndarray:
    centre = np.eye(len(C)) - 1 / len(C)
    return -0.5 * centre @ C**2 @ centre


def _residuals(A: np.ndarray, B: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Residuals of the kept pairs' ridge map, for the kept ones left out; one penalty, as coordinates have no meaning alone."""
    if A.shape[1] == 0 or B.shape[1] == 0:
        return B - B[kept].mean(axis=0)
    A, B = A - A[kept].mean(axis=0), B - B[kept].mean(axis=0)
    U, S, Vt = np.linalg.svd(A[kept], full_matrices=False)
    if S[0] == 0:
        return B
    projected = U.T @ B[kept]
    best, least, penalty = B[kept], math.inf, math.inf
    for alpha in S[0] ** 2 * _PENALTIES:
        shrink = S**2 / (S**2 + alpha)
        leverage = (U**2 @ shrink + 1 / len(kept)).clip(max=1 - 1e-9)
        residual = (B[kept] - U @ (shrink[:, None] * projected)) / (1 - leverage)[:, None]
        error = float((residual**2).sum())
        if error < least:
            best, least, penalty = residual, error, alpha
    residuals = B - A @ (Vt.T @ ((S / (S**2 + penalty))[:, None] * projected))
    residuals[kept] = best
    return residuals


def mantel(C: np.ndarray, D: np.ndarray, n_permutations: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Test the correlation of two distance matrices by exchanging anchors (Mantel 1967).

    Parameters
    ----------
    C, D : arrays of shape (k, k)
    n_permutations : int
    rng : numpy.random.Generator

    Returns
    -------
    correlation, p_value, null_95 : float
        Spearman correlation of the distances, its one-sided p-value, and the 95 % quantile of the permuted correlations.
    """
    k = len(C)
    upper = np.triu_indices(k, 1)
    if k < 3:
        return math.nan, 1.0, math.nan
    left = rankdata(C[upper])
    left -= left.mean()
    ranks = np.zeros((k, k))
    ranks[upper] = rankdata(D[upper])
    ranks += ranks.T
    right = ranks[upper] - ranks[upper].mean()
    scale = np.linalg.norm(left) * np.linalg.norm(right)
    if scale == 0:
        return 0.0, 1.0, 0.0
    observed = float(left @ right / scale)
    null = np.empty(n_permutations)
    for t in range(n_permutations):
        order = rng.permutation(k)
        null[t] = left @ ranks[np.ix_(order, order)][upper] / scale
    p_value = (1 + int((null >= observed - 1e-12).sum())) / (1 + n_permutations)
    return observed, p_value, float(np.quantile(null, 0.95))


def directions(C: np.ndarray) -> float:
    """Count the directions that anchors span, by a participation ratio corrected for their number.

    Parameters
    ----------
    C : array of shape (k, k)

    Returns
    -------
    float
        Infinite if every anchor lies in a new direction.
    """
    k = len(C)
    values = np.linalg.eigvalsh(_gram(C)).clip(min=0)
    if values.sum() <= 0:
        return 0.0
    # k points have k - 1 directions at most: there the correction has nothing left to tell.
    inverse = float((values**2).sum() / values.sum() ** 2) - 1 / (k - 1)
    return 1 / inverse if inverse > 1e-9 else math.inf
