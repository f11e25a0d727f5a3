"""A cloud of points in the coordinates of its principal axes: what the rounds of the fused bridge work in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from neurobridge.points.scale import unit_of_cloud

# Axes with less than this share of the largest standard deviation hold rounding alone.
_NEGLIGIBLE = 1e-7


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points as float32 coordinates along the principal axes of a cloud, in units of its size.

    Ridge, kernel and orthogonal maps, and squared and cosine distances about the centre, do not change when a cloud is turned.
    So they are computed in as few coordinates as the cloud has rank, and centred numbers of size one lose nothing in float32.

    Attributes
    ----------
    coordinates : float32 tensor of shape (n, rank)
    centre : array of shape (n_dims,)
    axes : array of shape (n_dims, rank)
        Orthonormal columns, from the most to the least variance.
    unit : float
        Length of one in these coordinates: `unit_of_cloud`.
    """

    coordinates: torch.Tensor
    centre: np.ndarray
    axes: np.ndarray
    unit: float

    @classmethod
    def of(cls, points: np.ndarray, device: torch.device | str = "cpu") -> Cloud:
        """Turn a cloud to its principal axes.

        Parameters
        ----------
        points : float64 array of shape (n, n_dims)
        device : torch.device
            Where the coordinates are kept.

        Returns
        -------
        Cloud
            With ``rank <= min(n - 1, n_dims)`` coordinates, at least one.
        """
        centre, unit = points.mean(axis=0), unit_of_cloud(points)
        scaled = (points - centre) / unit
        n, n_dims = scaled.shape
        gram = scaled.T @ scaled if n_dims <= n else scaled @ scaled.T
        values, vectors = np.linalg.eigh(gram)
        values, vectors = values[::-1], vectors[:, ::-1]
        rank = max(1, int((values > _NEGLIGIBLE**2 * max(values[0], 0.0)).sum()))
        axes = vectors[:, :rank] if n_dims <= n else _columns(scaled.T @ vectors[:, :rank])
        return cls(torch.as_tensor(scaled @ axes, device=device).float(), centre, axes, unit)

    def __len__(self) -> int:
        """Number of points n."""
        return len(self.coordinates)

    @property
    def rank(self) -> int:
        """Number of coordinates."""
        return self.coordinates.shape[1]

    def subset(self, rows: np.ndarray) -> Cloud:
        """Keep some points; centre, axes and unit stay."""
        return replace(self, coordinates=self.coordinates[torch.as_tensor(rows, device=self.coordinates.device)])

    def coordinates_of(self, points: np.ndarray) -> torch.Tensor:
        """Return the coordinates of points (n_new, n_dims) of the same space, float32 (n_new, rank)."""
        turned = (points - self.centre) / self.unit @ self.axes
        return torch.as_tensor(turned, device=self.coordinates.device).float()

    def points_of(self, coordinates: torch.Tensor) -> np.ndarray:
        """Return the points of coordinates (n_new, rank), float64 (n_new, n_dims)."""
        return self.directions_of(coordinates.double().cpu().numpy()) + self.centre

    def directions_of(self, coordinates: np.ndarray) -> np.ndarray:
        """Return differences of points from the centre, (n_new, n_dims)."""
        return np.asarray(coordinates @ self.axes.T * self.unit)


def _columns(matrix: np.ndarray) -> np.ndarray:
    """Columns of nearly orthogonal vectors, made orthonormal."""
    return np.asarray(np.linalg.qr(matrix)[0])
