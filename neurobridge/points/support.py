"""What a flow knows of the cloud it moves points into, so that it can say when they land outside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch


class OffSupportWarning(UserWarning):
    """Transported points lie further from the training points of their space than these lie from each other."""


@dataclass(frozen=True, eq=False)
class Support:
    """A cloud of points, by a seeded subsample and the spacing inside it, in standardised units.

    Attributes
    ----------
    points : float32 array of shape (n_reference, n_dims)
    quantile : float
        Share of the subsample that is nearer to its nearest neighbour than ``radius``.
    radius : float
        A point further than this from all of ``points`` is off the support.
    extent : float
        Largest distance of ``points`` from their mean: a point further than this from all of them has left altogether.
    """

    points: np.ndarray
    quantile: float
    radius: float
    extent: float

    @classmethod
    def fit(cls, Z: np.ndarray, *, quantile: float = 0.99, n_reference: int = 2000, seed: int = 0) -> Support:
        """Subsample standardised points of shape (n_points, n_dims) and measure their spacing."""
        rows = np.random.default_rng([seed, 3]).permutation(len(Z))[:n_reference]
        points = np.ascontiguousarray(Z[np.sort(rows)], dtype=np.float32)
        extent = float(np.linalg.norm(points - points.mean(axis=0), axis=1).max())
        if len(points) == 1:
            return cls(points, quantile, math.sqrt(points.shape[1]), math.sqrt(points.shape[1]))
        spacing = nearest_distance(points, points, leave_out_self=True)
        return cls(points, quantile, float(np.quantile(spacing, quantile)), extent)

    def distance(self, Z: np.ndarray) -> np.ndarray:
        """Distance of standardised points, shape (n_points,), to the nearest of the subsample."""
        return nearest_distance(np.asarray(Z, dtype=np.float32), self.points)

    def off(self, Z: np.ndarray) -> np.ndarray:
        """Whether each standardised point is off the support: bool array of shape (n_points,)."""
        return self.distance(Z) > self.radius

    def expected(self, n: int) -> float:
        """How many of n points of the cloud itself may be off by chance: the mean and three standard deviations.

        Two things vary: which n points they are, and the quantile itself, which the subsample only estimates.
        """
        share = 1 - self.quantile
        return n * share + 3 * math.sqrt(n * share * (1 - share) * (1 + n / len(self.points)))


def nearest_distance(Z: np.ndarray, points: np.ndarray, *, leave_out_self: bool = False) -> np.ndarray:
    """Distance of each row of Z, shape (n, d), to the nearest of ``points``, shape (k, d), in blocks of rows."""
    reference = torch.from_numpy(np.ascontiguousarray(points))
    queries = torch.from_numpy(np.ascontiguousarray(Z))
    step = max(1, (1 << 22) // len(reference))
    nearest = torch.empty(len(queries))
    for start in range(0, len(queries), step):
        block = torch.cdist(queries[start : start + step], reference)
        if leave_out_self:
            rows = torch.arange(len(block))
            block[rows, start + rows] = torch.inf
        nearest[start : start + step] = block.amin(dim=1)
    return nearest.numpy().astype(np.float64)
