"""Relative representations: a point described by its cosines to the pairs, and read by a decoder of the other space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurobridge.maps.folds import folds_of, least_error
from neurobridge.maps.linear import Decomposition, LinearMap, checked_samples, mapped_points
from neurobridge.points.arrays import Array, Rows, same_kind
from neurobridge.points.display import Displayed
from neurobridge.store.kinds import register

#: Penalties of the decoder that `relative_map` compares; cosines have no unit.
ALPHAS: tuple[float, ...] = tuple(np.logspace(-4, 4, 17).tolist())
# A decoder of P cosines learns nothing more from more points.
_MOST_POINTS = 20_000
# More cosines describe a point no better; the decoder takes time that grows with their cube.
_MOST_ANCHORS = 1000


@register("relative-map")
@dataclass(frozen=True, eq=False, repr=False)
class RelativeMap(Displayed):
    """The map ``x -> D(cos(x - centre, anchors))`` of `relative_map`.

    Attributes
    ----------
    anchors : array of shape (n_pairs, n_source_dims)
        Paired source points, from the centre of their space.
    centre : array of shape (n_source_dims,)
    decoder : LinearMap
        From the cosines of a point of the other space to the anchors there, to that point.

    Examples
    --------
    See `relative_map`.
    """

    anchors: np.ndarray
    centre: np.ndarray
    decoder: LinearMap

    @property
    def alpha(self) -> float:
        """Penalty of the decoder."""
        return float(self.decoder.alpha[0])

    def _facts(self) -> dict[str, Any]:
        dims = f"{self.anchors.shape[1]} to {self.decoder.coef.shape[1]} dims"
        return {"dims": dims, "anchors": f"{len(self.anchors)} anchors", "alpha": self.alpha}

    def __call__(self, X: Array) -> Array:
        """Map points of shape (n_points, n_source_dims) to (n_points, n_target_dims); numpy or torch, and the same out."""
        points = mapped_points(X, len(self.centre))
        return same_kind(self.decoder(cosines(points - self.centre, self.anchors)), X)


def relative_map(
    source_points: Array,
    target_points: Array,
    rows: Rows,
    *,
    alpha: float | None = None,
    centred: bool = True,
    seed: int = 0,
) -> RelativeMap:
    """Fit a decoder of relative representations: it learns from all target points, paired or not.

    1. A point is described by its cosines to the anchors of its space,
       ``r_X(x)_p = cos(x, x_p)`` and ``r_Y(y)_p = cos(y, y_p)``, which two spaces share if they differ by a rotation and a
       scale (Moschella et al. 2023).
    2. A ridge decoder D from r_Y(y) back to y is trained on all target points, as in the paper's zero-shot stitching.
    3. The map is ``x -> D(r_X(x))``.

    Parameters
    ----------
    source_points : array of shape (n, n_source_dims)
    target_points : array of shape (m, n_target_dims)
    rows : tuple of two int arrays of shape (n_pairs,)
        Rows of both that are pairs. Of more than 1,000 so many are drawn.
    alpha : float, optional
        Penalty of the decoder; by default that of least squared error ``|D(r_X(x_p)) - y_p|^2`` on pairs that are neither anchors
        nor in D's training (five folds).
    centred : bool
        Cosines about the mean of the points of a space; False for cosines about its origin.
    seed : int
        Of these folds, of the pairs where there are more than 1,000, and of the points that the decoder learns from where there
        are more than 20,000.

    Returns
    -------
    RelativeMap

    Raises
    ------
    ValueError
        Values that are not finite, fewer than two points, or fewer than two pairs.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(80, 3))
    >>> turned = relative_map(X, 2 * X[:, ::-1], (np.arange(20), np.arange(20)))
    >>> turned(X[:5]).shape
    (5, 3)

    References
    ----------
    Moschella et al. 2023, *Relative representations enable zero-shot latent space communication*, ICLR, arXiv 2209.15430.
    """
    X, Y = (checked_samples(side, side)[0] for side in (source_points, target_points))
    i, j = (np.asarray(side) for side in rows)
    if len(i) < 2:
        raise ValueError(f"found {len(i)} pairs; expected at least two. Mend: pass more pairs.")
    if len(i) > _MOST_ANCHORS:
        kept = np.sort(np.random.default_rng([seed, 1]).permutation(len(i))[:_MOST_ANCHORS])
        i, j = i[kept], j[kept]
    centre, target_centre = (side.mean(axis=0) * centred for side in (X, Y))
    X, Y = X - centre, Y - target_centre
    learned_from = np.union1d(j, np.random.default_rng(seed).permutation(len(Y))[:_MOST_POINTS])
    if alpha is None:
        alpha = _penalty(X, Y, (i, j), learned_from, seed)
    decoder = Decoder(cosines(Y[learned_from], Y[j]), Y[learned_from] + target_centre, alpha).at(alpha)
    return RelativeMap(X[i], centre, decoder)


def _penalty(X: np.ndarray, Y: np.ndarray, rows: Rows, learned_from: np.ndarray, seed: int) -> float:
    errors = []
    for anchors, left_out in folds_of(len(rows[0]), seed):
        # The left-out pairs' targets must not have trained the decoder.
        train_rows = np.setdiff1d(learned_from, rows[1][left_out])
        decoder = Decoder(cosines(Y[train_rows], Y[rows[1][anchors]]), Y[train_rows])
        query, truth = cosines(X[rows[0][left_out]], X[rows[0][anchors]]), Y[rows[1][left_out]]
        errors.append({alpha: float(((decoder.at(alpha)(query) - truth) ** 2).sum()) for alpha in ALPHAS})
    return least_error(errors)


def cosines(X: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Compute the cosine similarity of every point to every anchor, shape (n, n_anchors); 0 for a point at the origin."""
    norms = np.linalg.norm(X, axis=1, keepdims=True), np.linalg.norm(anchors, axis=1, keepdims=True)
    unit, axes = X / np.where(norms[0] > 0, norms[0], 1), anchors / np.where(norms[1] > 0, norms[1], 1)
    return np.asarray(unit @ axes.T)


class Decoder:
    """Ridge from relative coordinates to the space they describe, decomposed once for every penalty."""

    def __init__(self, R: np.ndarray, Y: np.ndarray, least_penalty: float = ALPHAS[0]) -> None:
        self.means = R.mean(axis=0), Y.mean(axis=0)
        self.samples = Decomposition.of(R - self.means[0], least_penalty)
        self.projected = self.samples.left.T @ (Y - self.means[1])

    def at(self, alpha: float) -> LinearMap:
        """Return the decoder with one penalty."""
        return LinearMap(self.samples.shrunk(self.projected, alpha), *self.means, np.full(len(self.means[1]), alpha))
