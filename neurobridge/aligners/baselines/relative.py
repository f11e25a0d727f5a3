"""Relative representations: a stimulus described by its similarity to the pairs."""

from __future__ import annotations

import numpy as np

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.maps.relative import cosines, relative_map
from neurobridge.store.kinds import register


@register("relative-aligner")
class RelativeAligner(AssemblyAligner):
    """Relative representations with the pairs as anchors, decoded by the target space's own decoder.

    1. A point is described by its cosine similarities to the anchors of its space (Moschella et al. 2023, ICLR, arXiv
       2209.15430), ``r_X(x)_p = cos(x, x_p)`` and ``r_Y(y)_p = cos(y, y_p)``, which two spaces share if they differ by a
       rotation and a scale; the distance from the origin is lost.
    2. As in the paper's zero-shot stitching, a decoder D from r_Y back to y is trained in the target space alone, on all
       its points, paired or not.
    3. The decoder then reads r_X: ``x -> D(r_X(x))``.

    D is linear with a ridge penalty, chosen by the squared error of ``D(r_X(x_p))`` on pairs that are neither anchors nor
    in D's training (five folds).

    Parameters
    ----------
    seed : int
        Of the folds, and of the pairs when a fraction is given.

    Attributes
    ----------
    alpha_ : tuple of two float
        Penalty of the decoder, forward and backward.
    anchors_ : tuple of two arrays of shape (n_pairs, n_dims)
        The paired source and target points, in standard deviations.
    decoders_ : tuple of two LinearMap
        From relative coordinates to the target's space, and to the source's.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import RelativeAligner
    >>> X = np.random.default_rng(0).normal(size=(80, 3))
    >>> aligner = RelativeAligner().fit(X, 2 * X[:, ::-1], pairs=(np.arange(20), np.arange(20)))
    >>> aligner.score(X[20:], 2 * X[20:, ::-1]) > 0.8
    True
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        # Points in standard deviations are centred already.
        maps = (
            relative_map(X, Y, rows, centred=False, seed=self.seed),
            relative_map(Y, X, rows[::-1], centred=False, seed=self.seed),
        )
        self.alpha_ = maps[0].alpha, maps[1].alpha
        self.anchors_ = maps[0].anchors, maps[1].anchors
        self.decoders_ = maps[0].decoder, maps[1].decoder

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self.decoders_[0](cosines(X, self.anchors_[0]))

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self.decoders_[1](cosines(Y, self.anchors_[1]))
