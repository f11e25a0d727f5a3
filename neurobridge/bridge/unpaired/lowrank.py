"""Low-rank Gromov-Wasserstein: two clouds matched part by part, in memory linear in their points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import ot
from scipy.spatial.distance import cdist

from neurobridge.points.arrays import row_blocks
from neurobridge.points.display import short_repr

# POT's own stopping threshold ends at the independent plan, before the parts have formed (docs/diagnostics.md).
_TOL = 1e-9
_MAX_ITER = 1000


class LowRankPlan(NamedTuple):
    """A plan ``pi = Q diag(1/g) R^T`` of rank r: parts of one cloud matched to parts of the other.

    Attributes
    ----------
    left, right : arrays of shape (n, rank) and (m, rank)
        Q and R: the mass of each point in each part.
    mass : array of shape (rank,)
        g, the mass of the parts.
    distortion : float
        ``sum_ijkl (C_ik - D_jl)^2 pi_ij pi_kl`` of squared distances, over its value for the independent plan.
    """

    left: np.ndarray
    right: np.ndarray
    mass: np.ndarray
    distortion: float

    def anchors(self, X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the middle point of every part in either cloud.

        Parts that share their middle point with another are left out.

        Parameters
        ----------
        X, Y : arrays of shape (n, n_source_dims) and (m, n_target_dims)

        Returns
        -------
        i, j : int arrays of shape (n_anchors,), at most ``rank``
            Rows of X and of Y.
        """
        middles = []
        for points, weight in ((X, self.left), (Y, self.right)):
            centres = (weight / weight.sum(axis=0)).T @ points
            middles.append(cdist(centres, points).argmin(axis=1))
        i, j = middles
        unshared = (np.bincount(i, minlength=len(X))[i] == 1) & (np.bincount(j, minlength=len(Y))[j] == 1)
        return i[unshared], j[unshared]

    def __repr__(self) -> str:
        size = f"{len(self.left)} x {len(self.right)}"
        return short_repr("LowRankPlan", size, rank=len(self.mass), distortion=self.distortion)


def match_parts(X: np.ndarray, Y: np.ndarray, rng: np.random.Generator, *, rank: int = 30) -> LowRankPlan:
    """Match two clouds by Gromov-Wasserstein transport of low rank (Scetbon, Peyré & Cuturi 2022), with POT's solver.

    The squared Euclidean distances are never written out, as they have rank ``dims + 2``: memory O((n + m)(dims + rank)).

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
    Y : array of shape (m, n_target_dims)
    rng : numpy.random.Generator
        Of the solver's start.
    rank : int
        Number of parts, cut to the number of points.

    Returns
    -------
    LowRankPlan

    Raises
    ------
    ValueError
        All points of a cloud are the same.
    """
    for side, name in ((X, "X"), (Y, "Y")):
        if not side.std() > 0:
            raise ValueError(
                f"{name}: found {len(side)} points that coincide; expected a positive unit of length. Mend: drop duplicates."
            )
    # One unit of length a cloud: the solver's steps are in absolute terms.
    X, Y = ((side - side.mean(axis=0)) / side.std() for side in (X, Y))
    left, right, mass = ot.gromov.lowrank_gromov_wasserstein_samples(
        X, Y, rank=min(rank, len(X), len(Y)), stopThr=_TOL, numItermax=_MAX_ITER,
        seed_init=int(rng.integers(2**31 - 1)), warn=False,
    )  # fmt: skip
    return LowRankPlan(left, right, mass, _distortion(X, Y, left, right, mass))


def _distortion(X: np.ndarray, Y: np.ndarray, left: np.ndarray, right: np.ndarray, mass: np.ndarray) -> float:
    """``<C^2> + <D^2> - 2 tr(Q^T C Q g^-1 R^T D R g^-1)``, each cloud's distances divided by their mean, over that of p q^T."""
    (square_x, inner_x), (square_y, inner_y) = _moments(X, left), _moments(Y, right)
    cross = float(((inner_x / mass[:, None]) * (inner_y.T / mass[None, :])).sum())
    # The distances of each cloud have mean one: so has their product under the independent plan.
    return (square_x + square_y - 2 * cross) / (square_x + square_y - 2)


def _moments(X: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean square of a cloud's squared distances divided by their mean, and ``W^T C W``; in blocks of rows."""
    total, square = 0.0, 0.0
    inner = np.zeros((weight.shape[1],) * 2)
    for rows in row_blocks(len(X), len(X)):
        block = cdist(X[rows], X, "sqeuclidean")
        total += float(block.sum())
        square += float((block**2).sum())
        inner += weight[rows].T @ (block @ weight)
    mean = total / len(X) ** 2
    return square / len(X) ** 2 / mean**2, inner / mean
