"""Procrustes rotation of the pairs, trained further on the points without a partner."""

from __future__ import annotations

import numpy as np

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.bridge import self_train
from neurobridge.store.kinds import register


@register("self-trained-procrustes")
class SelfTrainedProcrustes(AssemblyAligner):
    """Procrustes rotation of the pairs, refitted on the unpaired points of both spaces.

    1. R is the rotation of the pairs (Schonemann 1966, Psychometrika 31:1), both spaces in standard deviations.
    2. Each point without a partner is given the mean of its ``n_neighbors`` most similar points of the other space, by
       cosines after R that are corrected for hubs (Conneau et al. 2018).
    3. R is refitted on the pairs and these provisional partners, and averaged with the last R; steps 2 and 3 are repeated
       (the idea of mini-vec2vec, Dar 2025). See `neurobridge.bridge.self_train`.

    Parameters
    ----------
    n_rounds : int
        Most rounds of refitting; 0 is the rotation of the pairs.
    n_neighbors : int
        Points that a provisional partner is the mean of.
    seed : int
        Of the points that a round compares where there are more than 20,000, and of the pairs when a fraction is given.

    Attributes
    ----------
    maps_ : tuple of two LinearMap
        Forward and backward, in standard deviations of both spaces.
    n_rounds_ : int
        Rounds done.

    Examples
    --------
    Three pairs of points in eight directions; the other rows are in both spaces, but in unknown order:

    >>> import numpy as np
    >>> from neurobridge.aligners import ProcrustesAligner, SelfTrainedProcrustes
    >>> rng = np.random.default_rng(0)
    >>> X = rng.exponential(size=(200, 8)) ** 2
    >>> Y = np.roll(X, 1, axis=1)
    >>> pairs = np.arange(3), np.arange(3)
    >>> trained, few = SelfTrainedProcrustes(n_neighbors=1), ProcrustesAligner()
    >>> trained.fit(X, Y, pairs).score(X[3:], Y[3:]) > 0.9 > 0.5 > few.fit(X, Y, pairs).score(X[3:], Y[3:])
    True
    """

    def __init__(self, *, n_rounds: int = 15, n_neighbors: int = 10, seed: int = 0) -> None:
        self.n_rounds = n_rounds
        self.n_neighbors = n_neighbors
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        trained = self_train(X, Y, rows, n_rounds=self.n_rounds, n_neighbors=self.n_neighbors, seed=self.seed)
        self.maps_ = trained.forward, trained.backward
        self.n_rounds_ = trained.n_rounds

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self.maps_[0](X)

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self.maps_[1](Y)
