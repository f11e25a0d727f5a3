"""Shared response of several spaces, each of which has seen a part of the stimuli: array kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neurobridge.maps.linear import LinearMap
from neurobridge.maps.orthogonal import nearest_rotation, svd
from neurobridge.points.arrays import pad_to
from neurobridge.store.kinds import register

#: Share of the variance of a space that its principal components keep, and how many there are at most.
_KEPT, _MOST = 0.99, 256
_LEAST_NOISE = 1e-6
_ROUNDS, _SETTLED = 50, 1e-3


@register("common-ends")
class Ends(NamedTuple):
    """The maps of one space: into the common space and out of it.

    Attributes
    ----------
    encode : LinearMap
        From standard deviations of the space to common coordinates.
    decode : LinearMap
        Back.
    """

    encode: LinearMap
    decode: LinearMap


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Principal coordinates of a cloud, whitened in part.

    Attributes
    ----------
    mean : array of shape (n_dims,)
    into, back : arrays of shape (n_dims, n_kept) and (n_kept, n_dims)
    """

    mean: np.ndarray
    into: np.ndarray
    back: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray, whitening: float) -> Coordinates:
        """Decompose all points of a space, paired or not.

        Parameters
        ----------
        points : array of shape (n_points, n_dims)
        whitening : float
            Component k is divided by its variance to the power of ``whitening / 2``: 0 leaves the shape of the cloud, 1 makes
            it round.
        """
        mean = points.mean(axis=0)
        centred = points - mean
        tall = len(centred) >= centred.shape[1]
        variances, vectors = np.linalg.eigh(centred.T @ centred if tall else centred @ centred.T)
        variances, vectors = np.maximum(variances[::-1], 0), vectors[:, ::-1]
        # The last component of a whole cloud is kept, though rounding may leave its share below 1.
        n_kept = int(np.searchsorted(np.cumsum(variances) / variances.sum(), _KEPT)) + 1
        n_kept = min(n_kept, _MOST, int((variances > 1e-12 * variances[0]).sum()))
        variances, vectors = variances[:n_kept], vectors[:, :n_kept]
        axes = vectors if tall else centred.T @ (vectors / np.sqrt(variances))
        spread = (variances / len(points)) ** (whitening / 2)
        return cls(mean, axes / spread, (axes * spread).T)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the coordinates of points, shape (n_points, n_kept)."""
        return (points - self.mean) @ self.into

    def ends(self, encode: np.ndarray, decode: np.ndarray, mean: np.ndarray) -> Ends:
        """Combine maps between coordinates and the common space, about a mean in coordinates, with the coordinates."""
        n_kept, n_dims = self.back.shape
        center, zero = self.mean + mean[:n_kept] @ self.back, np.zeros(encode.shape[1])
        return Ends(
            LinearMap(self.into @ encode[:n_kept], center, zero, zero),
            LinearMap(decode[:, :n_kept] @ self.back, zero, center, np.zeros(n_dims)),
        )


def fit_shared_response(
    views: dict[str, np.ndarray], clouds: dict[str, np.ndarray], n_dims: int, whitening: float
) -> dict[str, Ends]:
    """Fit a probabilistic shared response to views of which some are missing, by expectation maximisation.

    ``x_s = W_s g + noise``, ``W_s^T W_s = I``, ``g ~ N(0, Sigma)``, noise ``N(0, sigma_s^2 I)`` in each space s, over the
    spaces that have seen the stimulus (Chen et al. 2015, NeurIPS 28, with missing views):

    1. Each stimulus has the posterior ``C = (Sigma^-1 + sum_s W_s^T W_s / sigma_s^2)^-1``,
       ``E g = C sum_s W_s^T x_s / sigma_s^2``; a space counts by the inverse of its noise.
    2. ``W_s`` is the rotation nearest to ``sum x_s E g^T``, ``Sigma`` the mean of ``E g g^T``, ``sigma_s^2`` what is left.

    Parameters
    ----------
    views : dict of str to array of shape (n_stimuli, n_space_dims)
        NaN in the rows of stimuli that a space has not seen.
    clouds : dict of str to array of shape (n_points, n_space_dims)
        All points of each space, whose principal components are read.
    n_dims : int
        Dimensions of the common space.
    whitening : float
        As in `Coordinates`.

    Returns
    -------
    dict of str to Ends
        Points are encoded by their posterior mean given this one view.
    """
    coordinates = {name: Coordinates.fit(clouds[name], whitening) for name in views}
    seen = {name: np.isfinite(values[:, 0]) for name, values in views.items()}
    read = {name: coordinates[name](values[seen[name]]) for name, values in views.items()}
    means = {name: values.mean(axis=0) for name, values in read.items()}
    X = {name: pad_to(values - means[name], max(n_dims, values.shape[1])) for name, values in read.items()}
    patterns, pattern = np.unique(np.stack([*seen.values()], axis=1), axis=0, return_inverse=True)
    pattern = pattern.ravel()
    G = _start(X, seen, n_dims)
    W = {name: nearest_rotation(values.T @ G[seen[name]], cutoff=0) for name, values in X.items()}
    spread = {name: float(np.square(values).mean()) for name, values in X.items()}
    noise = {name: max(value / 2, _LEAST_NOISE) for name, value in spread.items()}
    sigma = np.eye(n_dims)
    for _ in range(_ROUNDS):
        projected = np.zeros_like(G)
        for name, values in X.items():
            projected[seen[name]] += values @ W[name] / noise[name]
        inverse = np.linalg.pinv(sigma, hermitian=True)
        covariances = []
        for number, row in enumerate(patterns):
            weight = sum(1 / noise[name] for name, is_seen in zip(X, row, strict=True) if is_seen)
            covariances.append(np.linalg.inv(inverse + weight * np.eye(n_dims)))
            G[pattern == number] = projected[pattern == number] @ covariances[number]
        before = dict(noise)
        for name, values in X.items():
            mine = G[seen[name]]
            counts = np.bincount(pattern[seen[name]], minlength=len(patterns))
            moment = mine.T @ mine + np.tensordot(counts, covariances, axes=1)
            cross = values.T @ mine
            W[name] = nearest_rotation(cross, cutoff=0)
            residual = np.square(values).sum() - 2 * np.vdot(cross, W[name]) + np.trace(moment)
            noise[name] = max(float(residual) / values.size, _LEAST_NOISE)
        second = G.T @ G + np.tensordot(np.bincount(pattern, minlength=len(patterns)), covariances, axes=1)
        sigma = second / len(G) + 1e-10 * np.trace(second) / len(G) * np.eye(n_dims)
        # Noise of less than a hundredth of the spread would shrink for ever.
        if all(abs(noise[name] - before[name]) <= _SETTLED * max(before[name], spread[name] / 100) for name in noise):
            break
    inverse = np.linalg.pinv(sigma, hermitian=True)
    ends = {}
    for name in X:
        gain = np.linalg.inv(inverse * noise[name] + np.eye(n_dims))
        ends[name] = coordinates[name].ends(W[name] @ gain, W[name].T, means[name])
    return ends


def _start(X: dict[str, np.ndarray], seen: dict[str, np.ndarray], n_dims: int) -> np.ndarray:
    """Return the leading left singular vectors of all views side by side, zero where missing, (n_stimuli, n_dims)."""
    n = len(next(iter(seen.values())))
    whole = []
    for name, values in X.items():
        filled = np.zeros((n, values.shape[1]))
        filled[seen[name]] = values / max(float(np.linalg.norm(values)), 1e-300)
        whole.append(filled)
    return svd(np.hstack(whole), full_matrices=False)[0][:, :n_dims] * np.sqrt(n)


def fit_generalised_procrustes(views: dict[str, np.ndarray], clouds: dict[str, np.ndarray]) -> dict[str, Ends]:
    """Rotate and scale several spaces onto their mean, over the views that each has (Gower 1975, Psychometrika 40:33).

    The smaller spaces are padded with zeros. The space with the most views comes first and the others one by one, each
    turned onto the mean of those before it on the stimuli that it shares with them; then each in turn onto the mean of all
    others, until nothing moves.

    Parameters
    ----------
    views, clouds
        As in `fit_shared_response`.

    Returns
    -------
    dict of str to Ends
        Either way has the scale of its own least squares.
    """
    coordinates = {name: Coordinates.fit(clouds[name], 0.0) for name in views}
    seen = {name: np.isfinite(values[:, 0]) for name, values in views.items()}
    read = {name: coordinates[name](values[seen[name]]) for name, values in views.items()}
    n_dims = max(values.shape[1] for values in read.values())
    means = {name: values.mean(axis=0) for name, values in read.items()}
    n = len(next(iter(seen.values())))
    X = {}
    for name, values in read.items():
        X[name] = np.zeros((n, n_dims))
        # Spaces of many dimensions do not outweigh the others.
        centred = pad_to(values - means[name], n_dims)
        X[name][seen[name]] = centred / np.sqrt(np.square(centred).mean())
    turned: dict[str, np.ndarray] = {}
    rotation: dict[str, np.ndarray] = {}

    def mean_of(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        counts = np.sum([seen[name] for name in names], axis=0)
        return np.sum([turned[name] for name in names], axis=0) / np.maximum(counts, 1)[:, None], counts > 0

    def turn(name: str, onto: list[str]) -> float:
        mean, known = mean_of(onto)
        both = known & seen[name]
        rotation[name] = nearest_rotation(X[name][both].T @ mean[both], cutoff=0)
        before = turned.get(name)
        turned[name] = X[name] @ rotation[name]
        return np.inf if before is None else float(np.square(turned[name] - before).sum() / np.square(before).sum())

    first = max(X, key=lambda name: int(seen[name].sum()))
    rotation[first], turned[first] = np.eye(n_dims), X[first].copy()
    while len(turned) < len(X):
        known = mean_of(list(turned))[1]
        turn(
            max((name for name in X if name not in turned), key=lambda name: int((known & seen[name]).sum())), [*turned]
        )
    for _ in range(_ROUNDS):
        if max(turn(name, [other for other in X if other != name]) for name in X) < _SETTLED**2:
            break
    ends = {}
    mean = mean_of(list(X))[0]
    for name, values in read.items():
        original, common = pad_to(values - means[name], n_dims), mean[seen[name]]
        product = float(np.vdot(original @ rotation[name], common))
        encode = rotation[name] * product / max(float(np.square(original).sum()), 1e-300)
        decode = rotation[name].T * product / max(float(np.square(common).sum()), 1e-300)
        ends[name] = coordinates[name].ends(encode, decode, means[name])
    return ends
