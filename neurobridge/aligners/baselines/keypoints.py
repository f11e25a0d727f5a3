"""Keypoint-guided optimal transport: points are matched whose relations to the pairs agree."""

from __future__ import annotations

import numpy as np
import ot
from scipy import sparse
from scipy.spatial.distance import cdist
from scipy.special import entr, softmax

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.bridge import LinearMap, ridge_map
from neurobridge.points.memory import check_memory
from neurobridge.store.kinds import register

# POT's own limit of pivots is too low for thousands of points.
_PIVOTS = 10_000_000
# Numbers in one piece of a temporary.
_BLOCK = 1 << 22


@register("keypoint-aligner")
class KeypointAligner(AssemblyAligner):
    """Keypoint-guided optimal transport by relation preservation (KPG-RL), with the pairs as keypoints.

    Gu, Yang, Zeng, Sun & Xu 2022, NeurIPS (arXiv 2303.13102):

    1. A point's relation to the keypoints is ``R_X(x)_p = softmax_p(-2 ||x - x_p||^2 / (tau max ||x_i - x_j||^2))``; the
       factor 2 is that of the authors' code (github.com/XJTU-XGU/KPG-RL), so that their tau means the same here.
    2. G is the Jensen-Shannon divergence of the relations of a source and a target point, and transport minimises
       ``sum M pi G`` over plans pi; the mask M lets a keypoint move to its partner only.
    3. Keypoints and other points thus never mix, and the linear programme is solved (by POT) for the others alone, each
       side of it with equal masses.
    4. New points are mapped by ridge regression from the source points to their mean partners.

    The n x m divergences are held in memory. Where one side has no points beyond the pairs, the other side's are left out.

    Parameters
    ----------
    tau : float
        Temperature of the relations, without unit; the authors' is 0.1.
    memory_limit : float
        Bytes of the divergences and the plan, above which `fit` refuses.
    seed : int
        Only used to draw pairs when a fraction is given.

    Attributes
    ----------
    plan_ : scipy.sparse.csr_matrix of shape (n_source, n_target)
        Mass 1 / n_pairs between partners; every other source point has mass 1 / (number of these).
    maps_ : tuple of two LinearMap
        Forward and backward.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import KeypointAligner
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> aligner = KeypointAligner().fit(X, -2 * X, pairs=(np.arange(10), np.arange(10)))
    >>> aligner.plan_.shape
    (50, 50)
    >>> aligner.score(X[10:], -2 * X[10:]) > 0.9
    True
    """

    def __init__(self, *, tau: float = 0.1, memory_limit: float = 2e9, seed: int = 0) -> None:
        self.tau = tau
        self.memory_limit = memory_limit
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        if not self.tau > 0:
            raise ValueError(f"found tau={self.tau}; expected a positive number. Mend: leave it out for 0.1.")
        n, m = len(X), len(Y)
        check_memory(
            16.0 * max(n * m, n * n / 2, m * m / 2),
            self.memory_limit,
            f"keypoint-guided transport of {n} x {m} points",
            mend="use BridgeAligner(coupling='factored'), which builds no n x m matrix",
        )
        keypoints = sparse.coo_matrix((np.full(len(rows[0]), 1 / len(rows[0])), rows), shape=(n, m))
        self.plan_ = sparse.csr_matrix(keypoints + self._plan_of_others(X, Y, rows))
        self.maps_ = _partner_ridge(self.plan_, X, Y), _partner_ridge(self.plan_.T.tocsr(), Y, X)

    def _plan_of_others(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> sparse.coo_matrix:
        free = np.setdiff1d(np.arange(len(X)), rows[0]), np.setdiff1d(np.arange(len(Y)), rows[1])
        if min(map(len, free)) == 0:
            return sparse.coo_matrix((len(X), len(Y)))
        left = relations(X, rows[0], self.tau)[free[0]]
        right = relations(Y, rows[1], self.tau)[free[1]]
        guide = jensen_shannon(left, right)
        block = sparse.coo_matrix(ot.emd(ot.unif(len(left)), ot.unif(len(right)), guide, numItermax=_PIVOTS))
        return sparse.coo_matrix((block.data, (free[0][block.row], free[1][block.col])), shape=(len(X), len(Y)))

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self.maps_[0](X)

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self.maps_[1](Y)


def relations(X: np.ndarray, keypoints: np.ndarray, tau: float) -> np.ndarray:
    """Relate each point to the keypoints: the softmax of its squared distances, shape (n, n_keypoints).

    Parameters
    ----------
    X : array of shape (n, d)
    keypoints : int array of shape (n_keypoints,)
        Rows of X.
    tau : float
        In units of half the largest squared distance between two points, as in the authors' code.
    """
    widest = cdist(X, X, "sqeuclidean").max()
    return np.asarray(softmax(-2 * cdist(X, X[keypoints], "sqeuclidean") / (tau * widest), axis=1))


def jensen_shannon(R: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Measure the Jensen-Shannon divergence, in nats, of all rows of R and S, shape (n, m).

    ``H((r + s) / 2) - (H(r) + H(s)) / 2``, H the entropy. scipy's ``cdist(..., "jensenshannon")`` takes a root of it and
    gives NaN for distributions that are equal up to rounding.
    """
    entropies = entr(R).sum(axis=1), entr(S).sum(axis=1)
    out = np.empty((len(R), len(S)))
    step = max(1, _BLOCK // S.size)
    for start in range(0, len(R), step):
        mixed = (R[start : start + step, None, :] + S[None]) / 2
        out[start : start + step] = entr(mixed).sum(axis=2)
    out -= (entropies[0][:, None] + entropies[1][None, :]) / 2
    return np.maximum(out, 0)


def _partner_ridge(plan: sparse.csr_matrix, X: np.ndarray, Y: np.ndarray) -> LinearMap:
    """Fit ridge regression from points to their mean partners; points without partners are left out."""
    mass = np.asarray(plan.sum(axis=1)).ravel()
    coupled = np.flatnonzero(mass > 0)
    return ridge_map(X[coupled], (plan @ Y)[coupled] / mass[coupled, None], penalty="shared", unit=1.0)
