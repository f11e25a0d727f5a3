"""Support of a cloud of points, by which points outside it are flagged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from neurobridge.points.arrays import as_points, read_rows
from neurobridge.points.blocks import row_blocks
from neurobridge.points.conversion import real_array
from neurobridge.points.display import html_repr, short_repr
from neurobridge.store.kinds import register

# Squares of larger numbers leave float32.
_LARGEST = 1e18


class OffSupportWarning(UserWarning):
    """Warning that moved points lie further from the training points of their space than these lie from each other.

    Examples
    --------
    >>> import warnings
    >>> warnings.simplefilter("ignore", OffSupportWarning)
    """


@register("support")
@dataclass(frozen=True, eq=False, repr=False)
class Support:
    """Support of a cloud of points: a seeded subsample and the spacing inside it, in standardised units.

    Attributes
    ----------
    points : float32 array of shape (n_reference, n_dims)
    quantile : float
        Share of the subsample that is nearer to its nearest neighbour than ``radius``.
    radius : float
        A point further than this from all of ``points`` is off the support.
    extent : float
        Largest distance of ``points`` from their mean: a point further than this from all of them lies outside the
        whole cloud.

    Examples
    --------
    >>> import numpy as np
    >>> cloud = np.random.default_rng(0).normal(size=(500, 2))
    >>> support = Support.fit(cloud)
    >>> support  # doctest: +ELLIPSIS
    Support(500 x 2, quantile=0.99, radius=..., extent=...)
    >>> support.off(np.array([[0.0, 0.0], [9.0, 9.0]])).tolist()
    [False, True]
    """

    points: np.ndarray
    quantile: float
    radius: float
    extent: float

    @classmethod
    def fit(cls, Z: np.ndarray, *, quantile: float = 0.99, n_reference: int = 2000, seed: int = 0) -> Support:
        """Subsample points and measure their spacing.

        Parameters
        ----------
        Z : array of shape (n_points, n_dims)
            Standardised points.
        quantile : float
            In (0, 1].
        n_reference : int
            Size of the subsample.
        seed : int

        Returns
        -------
        Support

        Raises
        ------
        ValueError
            Not points, values that are not finite in float32, or a quantile outside (0, 1].
        """
        if not 0 < quantile <= 1:
            raise ValueError(f"found quantile={quantile}; expected a share in (0, 1]. Mend: leave it out for 0.99.")
        Z = as_points(Z, "Z")
        rows = np.random.default_rng([seed, 3]).permutation(len(Z))[:n_reference]
        with np.errstate(over="ignore"):
            points = np.ascontiguousarray(read_rows(Z, np.sort(rows), "Z"), dtype=np.float32)
        if float(np.abs(points).max()) > _LARGEST:
            raise ValueError(
                f"Z: found values of up to {np.abs(points).max():.3g}; expected standardised points. "
                "Mend: Standardiser.fit(Z).forward(Z)."
            )
        extent = float(np.linalg.norm(points - points.mean(axis=0), axis=1).max())
        if len(points) == 1:
            return cls(points, quantile, math.sqrt(points.shape[1]), math.sqrt(points.shape[1]))
        spacing = nearest_distance(points, points, leave_out_self=True)
        return cls(points, quantile, float(np.quantile(spacing, quantile)), extent)

    def distance(self, Z: np.ndarray) -> np.ndarray:
        """Return the distance of points to the nearest of the subsample.

        Parameters
        ----------
        Z : array of shape (n_points, n_dims)
            Standardised points.

        Returns
        -------
        array of shape (n_points,)

        Raises
        ------
        ValueError
            Not points of these dimensions.
        """
        Z = as_points(Z, "Z")
        if Z.shape[1] != self.points.shape[1]:
            raise ValueError(
                f"Z: found {Z.shape[1]} dimensions; expected {self.points.shape[1]}, those of the cloud. "
                "Mend: measure points of the same space."
            )
        return nearest_distance(real_array(Z, name="Z").astype(np.float32, copy=False), self.points)

    def off(self, Z: np.ndarray) -> np.ndarray:
        """Flag standardised points, shape (n_points, n_dims), off the support: bool array of shape (n_points,)."""
        return self.distance(Z) > self.radius

    def expected(self, n: int) -> float:
        """Return the number of n points of the cloud itself that may be off by chance.

        It is the mean plus three standard deviations. Two things vary: the draw of the n points, and the quantile itself,
        which the subsample only estimates.
        """
        share = 1 - self.quantile
        return n * share + 3 * math.sqrt(n * share * (1 - share) * (1 + n / len(self.points)))

    def _facts(self) -> dict[str, float]:
        return {"quantile": self.quantile, "radius": self.radius, "extent": self.extent}

    def __repr__(self) -> str:
        return short_repr("Support", " x ".join(map(str, self.points.shape)), **self._facts())

    def _repr_html_(self) -> str:
        n_points, n_dims = self.points.shape
        return html_repr("Support", {"points": n_points, "dims": n_dims, **self._facts()})


def nearest_distance(Z: np.ndarray, points: np.ndarray, *, leave_out_self: bool = False) -> np.ndarray:
    """Return the distance of each row of Z, shape (n, d), to the nearest of ``points``, shape (k, d), by blocks of rows."""
    reference = torch.from_numpy(np.ascontiguousarray(points))
    queries = torch.from_numpy(np.ascontiguousarray(Z))
    nearest = torch.empty(len(queries))
    for rows in row_blocks(len(queries), len(reference), budget=1 << 22):
        block = torch.cdist(queries[rows], reference)
        if leave_out_self:
            place = torch.arange(len(block))
            block[place, rows.start + place] = torch.inf
        nearest[rows] = block.amin(dim=1)
    return nearest.numpy().astype(np.float64)
