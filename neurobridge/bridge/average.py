"""The average of several maps of the same pairs, whose errors differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurobridge.maps.linear import mapped_points
from neurobridge.points.arrays import Array, same_kind
from neurobridge.points.display import Displayed
from neurobridge.store.kinds import register

PointMap = Callable[[np.ndarray], np.ndarray]

# The spread of a map's images is measured on at most so many points.
_MOST_POINTS = 500
# Smaller parts of the largest spread are rounding.
_ROUNDING = 1e-6


@register("average-map")
@dataclass(frozen=True, eq=False, repr=False)
class AverageMap(Displayed):
    """The average of K maps, each brought to the mean spread of all::

        x -> mean_k [m_k + s / s_k (M_k x - m_k)],    s = mean_k s_k

    Attributes
    ----------
    maps : tuple of K maps
        M_k, from points (n_points, n_source_dims) to (n_points, n_target_dims).
    means : array of shape (K, n_target_dims)
        m_k, the mean image of a cloud.
    spreads : array of shape (K,)
        s_k, the root mean square distance of these images from their mean.
    n_source_dims : int

    Examples
    --------
    See `average_maps`.
    """

    maps: tuple[PointMap, ...]
    means: np.ndarray
    spreads: np.ndarray
    n_source_dims: int

    @property
    def mean(self) -> np.ndarray:
        """Mean image of the cloud, shape (n_target_dims,)."""
        return np.asarray(self.means.mean(axis=0))

    def _facts(self) -> dict[str, Any]:
        return {"dims": f"{self.n_source_dims} to {self.means.shape[1]} dims", "maps": f"{len(self.maps)} maps"}

    def __call__(self, X: Array) -> Array:
        """Map points of shape (n_points, n_source_dims) to (n_points, n_target_dims); numpy or torch, and the same out."""
        points = mapped_points(X, self.n_source_dims)
        # A map whose images are all alike has nothing to be brought to a spread.
        varies = self.spreads > _ROUNDING * self.spreads.max()
        factors = np.divide(self.spreads.mean(), self.spreads, out=np.ones_like(self.spreads), where=varies)
        parts = zip(self.maps, self.means, factors, strict=True)
        images = self.mean + sum(factor * (mapping(points) - mean) for mapping, mean, factor in parts) / len(self.maps)
        return same_kind(np.asarray(images), X)


def average_maps(maps: Sequence[PointMap], points: np.ndarray, *, seed: int = 0) -> AverageMap:
    """Average maps of the same pairs.

    Errors of maps that learn differently from few pairs are partly independent, so that their average errs less than each. A
    map that shrinks what it is unsure of would hardly count beside one that does not; so each is brought to the same spread.

    Parameters
    ----------
    maps : sequence of maps
    points : array of shape (n_points, n_source_dims)
        Of the cloud, paired or not. The spreads are measured on at most 500 of them.
    seed : int
        Of their draw.

    Returns
    -------
    AverageMap

    Examples
    --------
    A map and the same map shrunk to a third agree about the direction:

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 3))
    >>> average = average_maps([lambda x: 3 * x, lambda x: x], X)
    >>> average
    AverageMap(3 to 3 dims, 2 maps)
    >>> bool(np.allclose(average(X) - average(X).mean(axis=0), 2 * (X - X.mean(axis=0))))
    True

    References
    ----------
    Breiman 1996, *Stacked regressions*, Machine Learning 24:49.
    """
    sample = points[np.sort(np.random.default_rng(seed).permutation(len(points))[:_MOST_POINTS])]
    images = np.stack([mapping(sample) for mapping in maps]).astype(np.float64)
    means = images.mean(axis=1)
    spreads = np.sqrt(np.square(images - means[:, None]).sum(axis=2).mean(axis=1))
    return AverageMap(tuple(maps), means, spreads, points.shape[1])
