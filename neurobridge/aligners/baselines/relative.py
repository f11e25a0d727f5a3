"""Relative representations: a stimulus described by its similarity to the pairs."""

from __future__ import annotations

import numpy as np

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.aligners.baselines.subspaces import folds_of, least_error
from neurobridge.maps.linear import LinearMap
from neurobridge.store.kinds import register

ALPHAS: tuple[float, ...] = tuple(np.logspace(-4, 4, 17).tolist())


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
        self.alpha_ = self._penalty(X, Y, rows), self._penalty(Y, X, rows[::-1])
        self.anchors_ = X[rows[0]], Y[rows[1]]
        self.decoders_ = (
            _Decoder(cosines(Y, self.anchors_[1]), Y).at(self.alpha_[0]),
            _Decoder(cosines(X, self.anchors_[0]), X).at(self.alpha_[1]),
        )

    def _penalty(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> float:
        errors = []
        for anchors, left_out in folds_of(len(rows[0]), self.seed):
            # The left-out pairs' targets must not have trained the decoder.
            train_rows = np.setdiff1d(np.arange(len(Y)), rows[1][left_out])
            decoder = _Decoder(cosines(Y[train_rows], Y[rows[1][anchors]]), Y[train_rows])
            query, truth = cosines(X[rows[0][left_out]], X[rows[0][anchors]]), Y[rows[1][left_out]]
            errors.append({alpha: float(((decoder.at(alpha)(query) - truth) ** 2).sum()) for alpha in ALPHAS})
        return least_error(errors)

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self.decoders_[0](cosines(X, self.anchors_[0]))

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self.decoders_[1](cosines(Y, self.anchors_[1]))


def cosines(X: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Compute the cosine similarity of every point to every anchor, shape (n, n_anchors); 0 for a point at the origin."""
    norms = np.linalg.norm(X, axis=1, keepdims=True), np.linalg.norm(anchors, axis=1, keepdims=True)
    unit, axes = X / np.where(norms[0] > 0, norms[0], 1), anchors / np.where(norms[1] > 0, norms[1], 1)
    return unit @ axes.T


class _Decoder:
    """Ridge from relative coordinates to the space they describe, decomposed once for every penalty."""

    def __init__(self, R: np.ndarray, Y: np.ndarray) -> None:
        self.means = R.mean(axis=0), Y.mean(axis=0)
        U, self.S, self.Vt = np.linalg.svd(R - self.means[0], full_matrices=False)
        self.projected = U.T @ (Y - self.means[1])

    def at(self, alpha: float) -> LinearMap:
        """Return the decoder with one penalty."""
        coef = self.Vt.T @ ((self.S / (self.S**2 + alpha))[:, None] * self.projected)
        return LinearMap(coef, *self.means, np.full(len(self.means[1]), alpha))
