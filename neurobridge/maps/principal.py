"""Principal coordinates of a cloud: its mean, axes and variances, decomposed once."""

from __future__ import annotations

import numpy as np
from scipy import linalg
from sklearn.utils.extmath import randomized_svd

from neurobridge.maps.linear import checked_samples
from neurobridge.points.arrays import Array
from neurobridge.points.blocks import row_blocks
from neurobridge.points.conversion import real_array
from neurobridge.points.scale import unit_of_cloud

#: Largest number of components of a space.
MAX_RANK = 512

# Variances below this share of the largest are rounding.
_VARIANCE = 1e-12
# Both sides of a covariance above it: its leading components alone, by random projections.
_EXACT = 2048


class PrincipalCoordinates:
    """Mean, leading principal axes and variances of a cloud, in units of the cloud.

    Parameters
    ----------
    points : array of shape (n_points, n_dims)
    weights : array of shape (n_points,), optional
        Of the points; equal by default.
    max_rank : int
        Largest number of components.

    Attributes
    ----------
    mean : array of shape (n_dims,)
    unit : float
        Root mean square deviation over all dimensions.
    axes : array of shape (n_dims, rank)
        Orthonormal, of falling variance; none where the points do not vary.
    variances : array of shape (rank,)
        In units of ``unit ** 2``.

    Notes
    -----
    Exact where the points or the dimensions number at most 2,048, through the smaller of both Gram matrices; else the
    leading components come from random projections (Halko, Martinsson & Tropp 2011, SIAM Review 53:217), always the same.

    Examples
    --------
    >>> cloud = PrincipalCoordinates(np.array([[3.0, 1.0], [-3.0, 1.0], [0.0, 1.0]]))
    >>> cloud.axes.shape, np.abs(cloud.of(np.array([[6.0, 1.0]]))).round(2).tolist()
    ((2, 1), [[3.46]])
    """

    def __init__(self, points: np.ndarray, weights: np.ndarray | None = None, *, max_rank: int = MAX_RANK) -> None:
        n, d = points.shape
        share = np.full(n, 1 / n) if weights is None else weights / weights.sum()
        self.mean = share @ points
        self.unit = unit_of_cloud(points)
        k = min(max_rank, n, d)
        if min(n, d) > _EXACT:
            _, S, Vt = randomized_svd(self._rows(points, share), k, n_iter=4, random_state=0)
            variances, axes = S**2, Vt.T
        elif d <= n:
            gram = np.zeros((d, d))
            for block in row_blocks(n, d, budget=1 << 22):
                rows = self._rows(points[block], share[block])
                gram += rows.T @ rows
            variances, axes = linalg.eigh(gram, subset_by_index=[d - k, d - 1])
        else:
            rows = self._rows(points, share)
            variances, left = linalg.eigh(rows @ rows.T, subset_by_index=[n - k, n - 1])
            axes = rows.T @ left
        order = np.argsort(variances)[::-1]
        order = order[variances[order] > _VARIANCE * max(variances.max(initial=0.0), 0.0)]
        lengths = np.linalg.norm(axes[:, order], axis=0)
        self.axes, self.variances = axes[:, order] / lengths, variances[order]

    def _rows(self, points: np.ndarray, share: np.ndarray) -> np.ndarray:
        return (points - self.mean) / self.unit * np.sqrt(share)[:, None]

    def of(self, points: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
        """Return the coordinates of points of shape (n, n_dims), from their own or another centre, shape (n, rank)."""
        return (points - (self.mean if centre is None else centre)) / self.unit @ self.axes


def checked_weights(weights: Array | None, n: int, name: str) -> np.ndarray:
    """Convert weights of n points to shares that sum to one; equal ones where none are given.

    Raises
    ------
    ValueError
        Another shape, or weights that are not positive and finite.
    """
    share = np.full(n, 1 / n) if weights is None else real_array(weights, name=name).astype(np.float64)
    if share.shape != (n,) or not (np.isfinite(share) & (share > 0)).all():
        raise ValueError(
            f"{name}: found shape {share.shape}; expected {n} positive finite numbers. Mend: drop points of weight 0."
        )
    return share / share.sum()


def checked_cloud(points: Array, weights: Array | None, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert all points of a space, and their weights to shares."""
    cloud, _ = checked_samples(points, points)
    return cloud, None if weights is None else checked_weights(weights, len(cloud), f"weights of {name}")
