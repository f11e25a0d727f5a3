"""Spectral features: smooth functions on the neighbour graph of a cloud, which unpaired points teach and pairs read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import linalg, sparse
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.neighbors import NearestNeighbors

from neurobridge.maps.linear import LinearMap, RidgeDesign, checked_samples, mapped_points, ridge_map
from neurobridge.points.arrays import Array, same_kind
from neurobridge.points.display import Displayed
from neurobridge.points.options import require_options
from neurobridge.points.scale import unit_of_cloud
from neurobridge.store.kinds import register

#: Lengths of the spectral features, in units of the cloud, that `spectral_map` compares.
GAINS: tuple[float, ...] = (0.3, 1.0, 3.0)

# Of the features, those that `spectral_map` compares: all, half, a quarter.
SHARES = (1, 2, 4)
# Up to so many points all eigenvectors are computed; Lanczos' method needs many more points than vectors.
_DENSE = 400
# An eigenvalue near or below zero belongs to a function that changes sign from neighbour to neighbour.
_LEAST_EIGENVALUE = 0.05
# Exponent of the weakest link.
_FARTHEST = 30.0


@register("spectral-features")
@dataclass(frozen=True, eq=False, repr=False)
class SpectralFeatures(Displayed):
    """Leading eigenvectors of the normalised Laplacian of a neighbour graph, for its own points and for new ones.

    A new point has the weights ``w_i = exp(-|x - x_i|^2 / (s(x) s_i))`` to its nearest points and the features
    ``psi(x) = sum_i w_i psi_i / (lambda sum_i w_i)`` (Nystroem's extension; Bengio et al. 2004), s the distance to the
    last neighbour.

    Attributes
    ----------
    points : array of shape (n_points, n_dims)
        Points of the graph.
    vectors : array of shape (n_points, n_features)
        Eigenvectors ``psi`` of the random walk on the graph, of unit variance, the constant left out.
    eigenvalues : array of shape (n_features,)
        Of the random walk, falling from 1.
    widths : array of shape (n_points,)
        Distance of each point to its last neighbour.
    n_neighbors : int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) + 9])
    >>> features = spectral_features(X, n_features=3)
    >>> features
    SpectralFeatures(80 points, 2 dims, 3 features, n_neighbors=10)
    >>> bool(np.ptp(np.sign(features(X[:40])[:, 0])) == 0)
    True
    """

    points: np.ndarray
    vectors: np.ndarray
    eigenvalues: np.ndarray
    widths: np.ndarray
    n_neighbors: int

    def _facts(self) -> dict[str, Any]:
        n, k = self.vectors.shape
        return {
            "points": f"{n} points", "dims": f"{self.points.shape[1]} dims", "features": f"{k} features",
            "n_neighbors": self.n_neighbors,
        }  # fmt: skip

    def __call__(self, X: Array) -> Array:
        """Return the features of points of shape (n, n_dims), shape (n, n_features); numpy or torch, and the same out."""
        rows = mapped_points(X, self.points.shape[1]).astype(np.float64, copy=False)
        distance, index = nearest(self.points, rows, self.n_neighbors)
        weights = _affinity(distance, _positive(distance[:, -1:]), self.widths[index])
        weights /= weights.sum(axis=1, keepdims=True)
        features = np.zeros((len(rows), self.vectors.shape[1]))
        for neighbour in range(index.shape[1]):
            features += weights[:, neighbour, None] * self.vectors[index[:, neighbour]]
        return same_kind(features / self.eigenvalues, X)

    def leading(self, n_features: int) -> SpectralFeatures:
        """Return the smoothest features alone."""
        return replace(self, vectors=self.vectors[:, :n_features], eigenvalues=self.eigenvalues[:n_features])


def spectral_features(
    points: Array, *, n_features: int = 30, n_neighbors: int = 10, max_points: int = 20_000, seed: int = 0
) -> SpectralFeatures:
    """Compute the leading eigenvectors of the normalised Laplacian of the neighbour graph of a cloud.

    1. Every point is linked with its nearest others by ``exp(-|x - x'|^2 / (s s'))``, s the distance to the last of them
       (self-tuning; Zelnik-Manor & Perona 2004), and the links are made symmetric.
    2. With the degrees D, the eigenvectors u of ``D^(-1/2) W D^(-1/2)`` with the largest eigenvalues below the trivial one
       are smooth on the graph (Belkin & Niyogi 2003); ``psi = D^(-1/2) u`` are those of the random walk.

    Parameters
    ----------
    points : array of shape (n_points, n_dims)
        Paired or not.
    n_features : int
        At most; two less than points at most.
    n_neighbors : int
        Links of a point; fewer where there are fewer points.
    max_points : int
        Of more points, so many are drawn for the graph; the others are as new ones.
    seed : int
        Of that draw.

    Returns
    -------
    SpectralFeatures
        Does not depend on the unit of the points; between the signs of an eigenvector, and between vectors of equal
        eigenvalue, the choice is arbitrary, which a ridge map on all of them does not see.

    Raises
    ------
    ValueError
        Fewer than two points, values that are not finite, or settings below one.

    Examples
    --------
    A line that is bent becomes straight: the first feature orders its points.

    >>> angle = np.linspace(0, 5, 200)
    >>> features = spectral_features(np.c_[np.cos(angle), np.sin(angle)], n_features=1, n_neighbors=4)
    >>> steps = np.diff(features.vectors[:, 0])
    >>> bool((steps > 0).all() or (steps < 0).all())
    True

    References
    ----------
    Belkin & Niyogi 2003, Neural Computation 15:1373. Bengio et al. 2004, NeurIPS 16. Zelnik-Manor & Perona 2004, NeurIPS 17.
    """
    require_options(n_features=n_features, n_neighbors=n_neighbors, max_points=max_points, seed=seed)
    if min(n_features, n_neighbors) < 1 or max_points < 2:
        raise ValueError(
            f"found n_features={n_features}, n_neighbors={n_neighbors}, max_points={max_points}; expected at least 1, 1 and 2. "
            "Mend: leave them out for the defaults."
        )
    cloud, _ = checked_samples(points, points)
    if len(cloud) > max_points:
        cloud = cloud[np.sort(np.random.default_rng(seed).permutation(len(cloud))[:max_points])]
    n = len(cloud)
    k = min(n_neighbors, n - 1)
    distance, index = nearest(cloud, cloud, k + 1)
    # Among duplicates a point need not be the first of its own neighbours.
    itself = index == np.arange(n)[:, None]
    itself[~itself.any(axis=1), -1] = True
    distance, index = distance[~itself].reshape(n, k), index[~itself].reshape(n, k)
    widths = _positive(distance[:, -1])
    values = _affinity(distance, widths[:, None], widths[index])
    graph = sparse.csr_matrix((values.ravel(), (np.repeat(np.arange(n), k), index.ravel())), shape=(n, n))
    graph = graph.maximum(graph.T)
    root = np.sqrt(np.asarray(graph.sum(axis=1)).ravel())
    scaled = sparse.csr_matrix(sparse.diags(1 / root) @ graph @ sparse.diags(1 / root))
    eigenvalues, vectors = _leading(scaled, root / np.linalg.norm(root), max(1, min(n_features, n - 2)))
    smooth = eigenvalues > _LEAST_EIGENVALUE
    vectors = vectors[:, smooth] / root[:, None]
    return SpectralFeatures(cloud, vectors / np.sqrt((vectors**2).mean(axis=0)), eigenvalues[smooth], widths, k)


@register("spectral-map")
@dataclass(frozen=True, eq=False, repr=False)
class SpectralMap(Displayed):
    """A ridge map on points beside their spectral features: ``x -> readout([x / unit, gain * psi(x)])``.

    Attributes
    ----------
    features : SpectralFeatures
    readout : LinearMap
    unit : float
        Root mean square deviation of the source, over all dimensions.
    gain : float
        Weight of each feature beside a dimension of the source, all being of unit variance.

    Examples
    --------
    >>> X = np.linspace(-1, 1, 60)[:, None]
    >>> spectral_map(X[::6], np.abs(X[::6]), source_points=X)
    SpectralMap(1 to 1 dims, 2 features, gain=3)
    """

    features: SpectralFeatures
    readout: LinearMap
    unit: float
    gain: float

    def _facts(self) -> dict[str, Any]:
        dims = f"{self.features.points.shape[1]} to {self.readout.coef.shape[1]} dims"
        return {"dims": dims, "features": f"{len(self.features.eigenvalues)} features", "gain": self.gain}

    def __call__(self, X: Array) -> Array:
        """Map points of shape (n_points, n_source_dims) to (n_points, n_target_dims); numpy or torch, and the same out."""
        points = mapped_points(X, self.features.points.shape[1]).astype(np.float64, copy=False)
        return same_kind(self.readout(_beside(points, self.features(points), self.unit, self.gain)), X)


def spectral_map(
    X: Array,
    Y: Array,
    *,
    source_points: Array | None = None,
    features: SpectralFeatures | None = None,
    n_features: int = 30,
    n_neighbors: int = 10,
    gains: tuple[float, ...] = GAINS,
    shares: tuple[int, ...] = SHARES,
    seed: int = 0,
) -> SpectralMap:
    """Fit ridge regression on points beside their spectral features; number, weight and penalty by leave-one-out error.

    All, half or a quarter of the features are used, whichever predicts left-out pairs best: few pairs read few features.

    Parameters
    ----------
    X : array of shape (n_pairs, n_source_dims)
    Y : array of shape (n_pairs, n_target_dims)
    source_points : array of shape (n_source, n_source_dims), optional
        All points of the source, paired or not; the pairs by default.
    features : SpectralFeatures, optional
        Of the source, where they are already known.
    n_features, n_neighbors, seed : int
        See `spectral_features`.
    gains : tuple of float
        Weights of a feature beside a dimension of the source, to choose from.
    shares : tuple of int
        Which parts of the features to choose from: all (1), half of them (2), ...

    Returns
    -------
    SpectralMap

    Raises
    ------
    ValueError
        Lengths or dimensions differ, fewer than two pairs, values that are not finite, or settings out of range.

    Examples
    --------
    Sixteen pairs read which of two moons a point is on, where a line cannot:

    >>> from sklearn.datasets import make_moons
    >>> X, moon = make_moons(400, noise=0.05, random_state=0)
    >>> curved = spectral_map(X[:16], moon[:16, None].astype(float), source_points=X)
    >>> bool(((curved(X)[:, 0] > 0.5) == moon).mean() > 0.95)
    True
    """
    X, Y = checked_samples(X, Y)
    if not gains or not all(0 <= gain < np.inf for gain in gains):
        raise ValueError(f"found gains={gains}; expected numbers of at least 0. Mend: leave them out.")
    cloud = X if source_points is None else checked_samples(source_points, source_points)[0]
    if features is None:
        features = spectral_features(cloud, n_features=n_features, n_neighbors=n_neighbors, seed=seed)
    if features.points.shape[1] != X.shape[1]:
        raise ValueError(
            f"found pairs of {X.shape[1]} source dimensions and features of {features.points.shape[1]}; expected the same. "
            "Mend: pass source_points with the columns of X."
        )
    unit, smooth = unit_of_cloud(cloud), features(X)
    counts = dict.fromkeys(max(1, smooth.shape[1] // share) for share in shares) if smooth.shape[1] else {0: None}
    least, gain, count = np.inf, gains[0], next(iter(counts))
    for tried in ((g, k) for k in counts for g in gains):
        rows = _beside(X, smooth[:, : tried[1]], unit, tried[0])
        error = RidgeDesign(rows, unit=unit_of_cloud(rows)).least_error(Y)
        if error < least:
            least, (gain, count) = error, tried
    readout = ridge_map(_beside(X, smooth[:, :count], unit, gain), Y, penalty="shared")
    return SpectralMap(features.leading(count), readout, unit, gain)


def nearest(cloud: np.ndarray, X: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest points of a cloud: Euclidean distances in units of the cloud, and rows, both of shape (n, k)."""
    mean, unit = cloud.mean(axis=0), unit_of_cloud(cloud)
    search = NearestNeighbors(n_neighbors=k).fit((cloud - mean) / unit)
    distance, index = search.kneighbors((X - mean) / unit)
    return distance, index


def _affinity(distance: np.ndarray, of_point: np.ndarray, of_neighbour: np.ndarray) -> np.ndarray:
    """Weigh the links of every point, its nearest one with 1 at most; no weight vanishes, or a point would be cut off."""
    exponent = distance / of_point * (distance / of_neighbour)
    return np.exp(-np.minimum(exponent, _FARTHEST))


def _positive(widths: np.ndarray) -> np.ndarray:
    """Replace the widths of points with as many duplicates as neighbours by the smallest of others."""
    positive = widths[widths > 0]
    return np.where(widths > 0, widths, positive.min() if len(positive) else 1.0)


def _leading(scaled: sparse.csr_matrix, trivial: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest eigenvalues, falling, and vectors, of a graph whose trivial eigenvector is turned around."""
    n = len(trivial)
    if n <= _DENSE or 3 * k > n:
        values, vectors = linalg.eigh(scaled.toarray() - 2 * np.outer(trivial, trivial), subset_by_index=[n - k, n - 1])
    else:
        turned = LinearOperator((n, n), matvec=lambda v: scaled @ v - 2 * trivial * (trivial @ v), dtype=np.float64)
        values, vectors = eigsh(turned, k, which="LA", v0=np.random.default_rng(0).normal(size=n))
    order = np.argsort(-values, kind="stable")
    return values[order], vectors[:, order]


def _beside(X: np.ndarray, features: np.ndarray, unit: float, gain: float) -> np.ndarray:
    return np.hstack([X / unit, gain * features])
