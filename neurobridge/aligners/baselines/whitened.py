"""Procrustes rotation after whitening by the covariances of all points, paired or not."""

from __future__ import annotations

import numpy as np

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.maps.whitened import choose_whitened, whitened_candidates
from neurobridge.maps.whitening import WhitenedDesign, WhitenedSettings
from neurobridge.store.kinds import register


@register("whitened-procrustes")
class WhitenedProcrustes(AssemblyAligner):
    """Turn the pairs in coordinates that are whitened by the covariances of all points of both spaces.

    With principal axes V, variances L and mean of all points of a space, paired or not, ``a = L^(-power/2) V^T (x - mean)``
    and b likewise, the pairs give ``sum_p a_p b_p^T = U S W^T`` and the map ``b = s W S^exponent U^T a``, coloured back by
    ``L'^(power/2)``. See `neurobridge.maps.whitened.whitened_map`. The unpaired points thus tell the covariances and the
    means, and the pairs only which axes belong together.

    Parameters
    ----------
    power : float, optional
        Share of whitening, in [0, 1].
    rank : int, optional
        Principal components of either space.
    exponent : float, optional
        Of the singular values, in [0, 1]: 0 is a rotation, as in Procrustes; 1 with ``power=1`` is regression. Default,
        for all three: what predicts left-out pairs best (ten folds, `neurobridge.maps.whitened.choose_whitened`), for
        each direction.
    seed : int
        Of the folds, and of the pairs when a fraction is given.

    Attributes
    ----------
    chosen_ : tuple of two tuples
        Power, rank, exponent, centre and shrinkage, forward and backward.
    maps_ : tuple of two LinearMap
        Forward and backward, in standard deviations of both spaces.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import WhitenedProcrustes
    >>> rng = np.random.default_rng(0)
    >>> latents = rng.normal(size=(300, 5))
    >>> X, Y = latents @ rng.normal(size=(5, 8)), latents @ rng.normal(size=(5, 6))
    >>> WhitenedProcrustes().fit(X, Y, pairs=(np.arange(12), np.arange(12))).score(X[12:], Y[12:]) > 0.9
    True
    """

    def __init__(
        self, *, power: float | None = None, rank: int | None = None, exponent: float | None = None, seed: int = 0
    ) -> None:
        self.power = power
        self.rank = rank
        self.exponent = exponent
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        design, pairs = WhitenedDesign(X, Y), (X[rows[0]], Y[rows[1]])
        directions = (design, *pairs), (design.reversed(), *pairs[::-1])
        chosen = tuple(self._choose(*direction) for direction in directions)
        self.maps_ = tuple(each.map(x, y, best) for (each, x, y), best in zip(directions, chosen, strict=True))
        self.chosen_ = tuple(tuple(best) for best in chosen)

    def _choose(self, design: WhitenedDesign, X: np.ndarray, Y: np.ndarray) -> WhitenedSettings:
        given = {"power": self.power, "rank": self.rank, "exponent": self.exponent}
        given = {name: value for name, value in given.items() if value is not None}
        candidates = list(dict.fromkeys(each._replace(**given) for each in whitened_candidates(len(X), design.rank)))
        return choose_whitened(design, X, Y, settings=candidates if given else None, seed=self.seed)

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.maps_[0](X))

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return np.asarray(self.maps_[1](Y))
