"""Ridge regression on the pairs, from points beside spectral features that all points of the space teach."""

from __future__ import annotations

import numpy as np

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.maps.spectral import spectral_map
from neurobridge.store.kinds import register


@register("spectral-ridge")
class SpectralRidge(AssemblyAligner):
    """Ridge regression on the pairs, from ``[x, psi(x)]``: points beside smooth functions on their neighbour graph.

    psi are the leading eigenvectors of the normalised Laplacian of the neighbour graph of all points of the space, paired
    or not (Belkin & Niyogi 2003, Neural Computation 15:1373), extended to new points by Nystroem's formula. See
    `neurobridge.maps.spectral.spectral_map`. Each direction uses the points of the space it maps from.

    Parameters
    ----------
    n_features : int
        Eigenvectors at most; all, half or a quarter of them are used, whichever predicts left-out pairs best.
    n_neighbors : int
        Links of a point.
    seed : int
        Of the points of the graph where there are more than 20,000, and of the pairs when a fraction is given.

    Attributes
    ----------
    maps_ : tuple of two SpectralMap
        Forward and backward, in standard deviations of both spaces.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_moons
    >>> from neurobridge.aligners import SpectralRidge
    >>> X, moon = make_moons(400, noise=0.05, random_state=0)
    >>> Y = np.c_[moon, X[:, 0]]
    >>> SpectralRidge().fit(X, Y, pairs=(np.arange(16), np.arange(16))).score(X[16:], Y[16:]) > 0.95
    True
    """

    def __init__(self, *, n_features: int = 30, n_neighbors: int = 10, seed: int = 0) -> None:
        self.n_features = n_features
        self.n_neighbors = n_neighbors
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        left, right = X[rows[0]], Y[rows[1]]
        self.maps_ = tuple(
            spectral_map(
                known,
                images,
                source_points=cloud,
                n_features=self.n_features,
                n_neighbors=self.n_neighbors,
                seed=self.seed,
            )
            for known, images, cloud in ((left, right, X), (right, left, Y))
        )

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.maps_[0](X))

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return np.asarray(self.maps_[1](Y))
