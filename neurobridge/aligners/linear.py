"""Ridge and Procrustes on the pairs."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.bridge import ridge_map
from neurobridge.points.arrays import pad_to


class RidgeAligner(AssemblyAligner):
    """Ridge regression on the pairs alone, one leave-one-out penalty a target neuroid.

    Parameters
    ----------
    seed : int
        Only used to draw pairs when a fraction is given.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        left, right = X[rows[0]], Y[rows[1]]
        self.maps_ = ridge_map(left, right), ridge_map(right, left)

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self.maps_[0](X)

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self.maps_[1](Y)


class ProcrustesAligner(AssemblyAligner):
    """Rotation, scale and shift of the pairs: ``min_{s, R} || s X R - Y ||_F`` with ``R^T R = 1`` (Schonemann 1966).

    The smaller space is padded with zeros, so that a rotation exists between spaces of different dimensions.

    Parameters
    ----------
    seed : int
        Only used to draw pairs when a fraction is given.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        self._n_dims = max(X.shape[1], Y.shape[1])
        left, right = pad_to(X[rows[0]], self._n_dims), pad_to(Y[rows[1]], self._n_dims)
        self._means = left.mean(axis=0), right.mean(axis=0)
        left, right = left - self._means[0], right - self._means[1]
        U, S, Vt = _svd(left.T @ right)
        self.rotation_ = U @ Vt
        # Each direction has its own least-squares scale; the two agree only when the fit is perfect.
        self.scale_ = S.sum() / (left**2).sum(), S.sum() / (right**2).sum()
        self._n_out = X.shape[1], Y.shape[1]

    def _forward(self, X: np.ndarray) -> np.ndarray:
        centred = pad_to(X, self._n_dims) - self._means[0]
        return (self.scale_[0] * centred @ self.rotation_ + self._means[1])[:, : self._n_out[1]]

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        centred = pad_to(Y, self._n_dims) - self._means[1]
        return (self.scale_[1] * centred @ self.rotation_.T + self._means[0])[:, : self._n_out[0]]


def _svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Singular value decomposition; by the slower, surer method where the fast one does not converge, as on some of low rank."""
    try:
        U, S, Vt = np.linalg.svd(matrix)
    except np.linalg.LinAlgError:
        U, S, Vt = linalg.svd(matrix, lapack_driver="gesvd")
    return U, S, Vt
