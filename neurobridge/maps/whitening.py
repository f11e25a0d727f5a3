"""Whitening of two spaces by the covariances of all their points, and the maps that pairs turn between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from neurobridge.maps.linear import LinearMap, checked_samples
from neurobridge.maps.orthogonal import svd
from neurobridge.maps.principal import MAX_RANK, PrincipalCoordinates, checked_cloud, checked_weights
from neurobridge.points.arrays import Array
from neurobridge.points.options import is_choice

Centre = Literal["points", "pairs"]


class WhitenedSettings(NamedTuple):
    """Settings of a whitened map.

    Attributes
    ----------
    power : float
        Share of whitening, in [0, 1]: 0 turns the principal components as they are, 1 gives all of them unit variance.
    rank : int or None
        Principal components kept of either space; None for all (at most 512).
    exponent : float
        Of the singular values of the pairs' cross-covariance, in [0, 1]: 0 is a rotation (Procrustes), 1 is the
        cross-covariance itself (regression, if ``power`` is 1).
    centre : {"points", "pairs"}
        Mean that goes to the other mean: that of all points, which few pairs know better, or that of the pairs, where
        the unpaired points of the two spaces are of different kinds.
    shrinkage : float
        Added to every variance before whitening, in units of the mean variance.

    Examples
    --------
    >>> WhitenedSettings(power=1.0, rank=20)
    WhitenedSettings(power=1.0, rank=20, exponent=0.5, centre='points', shrinkage=0.0)
    """

    power: float = 0.5
    rank: int | None = None
    exponent: float = 0.5
    centre: Centre = "points"
    shrinkage: float = 0.0


class WhitenedDesign:
    """Whitened maps between two spaces: the covariances of all points are decomposed once, for every setting and all pairs.

    With principal axes ``V``, variances ``L`` and mean of all points of a space, a pair has the coordinates
    ``a = L^(-power/2) V^T (x - mean)`` and ``b``, likewise, of y. Then

        ``sum_p w_p a_p b_p^T = U S W^T``,    ``b(x) = s W S^exponent U^T a(x)``,    ``y(x) = mean' + V' L'^(power/2) b(x)``

    with the scale ``s`` of least squares over the pairs, in the units of y. With ``power=0, exponent=0`` this is Procrustes
    in principal coordinates (on the directions that the pairs span), with ``power=1`` the singular values estimate canonical
    correlations.

    Parameters
    ----------
    source_points : array of shape (n_source, n_source_dims)
        All points of the source, paired or not.
    target_points : array of shape (n_target, n_target_dims)
        Likewise.
    source_weights, target_weights : arrays of shape (n_source,) and (n_target,), optional
        Of the points in the covariances; equal by default.
    max_rank : int
        Largest number of components of either space.

    Attributes
    ----------
    source, target : PrincipalCoordinates

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4)) * [4, 3, 2, 1]
    >>> Y = X @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    >>> design = WhitenedDesign(X, Y)
    >>> bool(np.allclose(design.map(X[:5], Y[:5], WhitenedSettings(power=0, exponent=0))(X), Y))
    True
    >>> bool(np.allclose(design.reversed().map(Y[:5], X[:5], WhitenedSettings(power=0, exponent=0))(Y), X))
    True
    """

    def __init__(
        self,
        source_points: Array,
        target_points: Array,
        *,
        source_weights: Array | None = None,
        target_weights: Array | None = None,
        max_rank: int = MAX_RANK,
    ) -> None:
        self.source, self.target = (
            PrincipalCoordinates(*checked_cloud(cloud, weights, name), max_rank=max_rank)
            for cloud, weights, name in (
                (source_points, source_weights, "source_points"), (target_points, target_weights, "target_points"),
            )
        )  # fmt: skip

    @property
    def rank(self) -> int:
        """Largest rank of a map."""
        return min(len(self.source.variances), len(self.target.variances))

    def reversed(self) -> WhitenedDesign:
        """Return the design of the maps from target to source; nothing is decomposed again."""
        design = object.__new__(WhitenedDesign)
        design.source, design.target = self.target, self.source
        return design

    def map(
        self, X: Array, Y: Array, settings: WhitenedSettings | None = None, *, weights: Array | None = None
    ) -> LinearMap:
        """Fit the map of the pairs.

        Parameters
        ----------
        X : array of shape (n_pairs, n_source_dims)
        Y : array of shape (n_pairs, n_target_dims)
        settings : WhitenedSettings, optional
        weights : array of shape (n_pairs,), optional
            Of the pairs; equal by default.

        Returns
        -------
        LinearMap

        Raises
        ------
        ValueError
            Lengths differ, fewer than two pairs, weights that are not positive, or settings out of range.
        """
        X, Y = checked_samples(X, Y)
        settings = _checked(WhitenedSettings() if settings is None else settings)
        share = checked_weights(weights, len(X), "weights")
        centres = self._centres(X, Y, share, settings.centre)
        whiten = _lengths(self.source, settings), _lengths(self.target, settings)
        A, B = (
            side.of(points, centre)[:, : len(length)] / length
            for side, points, centre, length in zip((self.source, self.target), (X, Y), centres, whiten, strict=True)
        )
        left, right = _turn(_factors(A, B, share), settings.exponent)
        scale = _scale(A @ left @ right, B, whiten[1], share)
        into = self.source.axes[:, : len(whiten[0])] / whiten[0] @ left
        out = scale * right * whiten[1] @ self.target.axes[:, : len(whiten[1])].T
        coef = into @ out * (self.target.unit / self.source.unit)
        return LinearMap(coef, *centres, np.full(len(centres[1]), np.nan))

    def left_out(
        self,
        X: Array,
        Y: Array,
        settings: Iterable[WhitenedSettings],
        folds: Iterable[np.ndarray],
        *,
        weights: Array | None = None,
    ) -> dict[WhitenedSettings, np.ndarray]:
        """Predict every pair from the pairs of the other folds, in principal coordinates of the target.

        A left-out pair still counts in the covariances and means of either space, as an unpaired point does.

        Parameters
        ----------
        X, Y : arrays of shape (n_pairs, n_source_dims) and (n_pairs, n_target_dims)
        settings : iterable of WhitenedSettings
        folds : iterable of int arrays
            Rows that are left out together; each leaves at least one pair.
        weights : array of shape (n_pairs,), optional

        Returns
        -------
        dict of WhitenedSettings to array of shape (n_pairs, target rank)
            Distances and inner products are those of the predictions in the target's space, in units of the target, from
            the mean of its points. Multiplied with ``target.axes.T * target.unit`` they are the predictions themselves.
        """
        X, Y = checked_samples(X, Y)
        share, folds = checked_weights(weights, len(X), "weights"), list(folds)
        points = self.source.of(X), self.target.of(Y)
        predictions: dict[WhitenedSettings, np.ndarray] = {
            _checked(each): np.zeros_like(points[1]) for each in settings
        }
        # Settings that differ in their exponent alone share every decomposition.
        alike: dict[WhitenedSettings, list[WhitenedSettings]] = {}
        for each in predictions:
            alike.setdefault(each._replace(exponent=0.0), []).append(each)
        for common, group in alike.items():
            whiten = _lengths(self.source, common), _lengths(self.target, common)
            A = points[0][:, : len(whiten[0])] / whiten[0]
            for fold in folds:
                kept = np.setdiff1d(np.arange(len(X)), fold)
                part = share[kept] / share[kept].sum()
                means = part @ A[kept], part @ points[1][kept]
                if common.centre == "points":
                    means = np.zeros_like(means[0]), np.zeros_like(means[1])
                known, images = A[kept] - means[0], (points[1][kept] - means[1])[:, : len(whiten[1])] / whiten[1]
                factors = _factors(known, images, part)
                for each in group:
                    left, right = _turn(factors, each.exponent)
                    scale = _scale(known @ left @ right, images, whiten[1], part)
                    predictions[each][fold] = means[1]
                    predictions[each][fold, : len(whiten[1])] += scale * (A[fold] - means[0]) @ left @ right * whiten[1]
        return predictions

    def _centres(
        self, X: np.ndarray, Y: np.ndarray, share: np.ndarray, centre: Centre
    ) -> tuple[np.ndarray, np.ndarray]:
        return (self.source.mean, self.target.mean) if centre == "points" else (share @ X, share @ Y)


def _checked(settings: WhitenedSettings) -> WhitenedSettings:
    in_range = 0 <= settings.power <= 1 and 0 <= settings.exponent <= 1 and 0 <= settings.shrinkage < np.inf
    if (
        not in_range
        or not is_choice(settings.centre, ("points", "pairs"))
        or (settings.rank is not None and settings.rank < 1)
    ):
        raise ValueError(
            f"found {settings}; expected power and exponent in [0, 1], a rank of at least 1 or None, centre 'points' or "
            "'pairs', shrinkage of at least 0. Mend: WhitenedSettings() has the defaults."
        )
    return settings


def _lengths(side: PrincipalCoordinates, settings: WhitenedSettings) -> np.ndarray:
    """Return the lengths that the coordinates are divided by, shape (rank,)."""
    variances = side.variances[: settings.rank]
    if not len(variances):
        return variances
    return np.asarray((variances + settings.shrinkage * side.variances.mean()) ** (settings.power / 2))


def _factors(A: np.ndarray, B: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decompose the cross-covariance of whitened pairs into ``(r_x, k)``, ``(k,)`` and ``(k, r_y)``, k its rank."""
    if 0 in (A.shape[1], B.shape[1]):
        return np.zeros((A.shape[1], 0)), np.zeros(0), np.zeros((0, B.shape[1]))
    rows = share[:, None] * A
    if len(A) < min(A.shape[1], B.shape[1]):
        # The product has at most as many directions as there are pairs: decompose it among them.
        (left, R_a), (right, R_b) = np.linalg.qr(rows.T), np.linalg.qr(B.T)
        U, S, Vt = svd(R_a @ R_b.T)
        U, Vt = left @ U, Vt @ right.T
    else:
        U, S, Vt = svd(rows.T @ B, full_matrices=False)
    kept = int(np.count_nonzero(1e-10 * S[0] < S)) if S[0] > 0 else 0
    return U[:, :kept], S[:kept], Vt[:kept]


def _turn(factors: tuple[np.ndarray, np.ndarray, np.ndarray], exponent: float) -> tuple[np.ndarray, np.ndarray]:
    """Return two factors of the turn from whitened source to whitened target, ``(r_x, k)`` and ``(k, r_y)``."""
    U, S, Vt = factors
    return U * S**exponent, Vt


def _scale(predicted: np.ndarray, B: np.ndarray, lengths: np.ndarray, share: np.ndarray) -> float:
    """Return the scale of least squares, in the unwhitened coordinates of the target."""
    predicted, B = predicted * lengths, B * lengths
    square = float(share @ (predicted**2).sum(axis=1))
    return float(share @ (predicted * B).sum(axis=1)) / square if square > 0 else 0.0
