"""Orthogonal maps: the rotation that brings one centred cloud of paired points nearest to another."""

from __future__ import annotations

import numpy as np
from scipy import linalg


def rotation_and_scales(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Solve ``min_{s, R} || s X R - Y ||_F`` with ``R^T R = 1``, and the scale of the way back.

    ``R = U V^T`` and ``s = sum S / |X|_F^2`` with the singular values of ``X^T Y = U S V^T``.

    Parameters
    ----------
    X, Y : arrays of shape (n_samples, n_dims)
        Centred; the smaller space padded with zeros.

    Returns
    -------
    rotation : array of shape (n_dims, n_dims)
    scales : tuple of two float
        Forward and backward: each direction has its own least-squares scale, and they are inverse to
        each other only when the fit is perfect.

    References
    ----------
    Schonemann 1966, Psychometrika 31:1.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> rotation, scales = rotation_and_scales(X, 2 * X[:, ::-1])
    >>> bool(np.allclose(rotation, [[0, 1], [1, 0]])), bool(np.allclose(scales, (2.0, 0.5)))
    (True, True)
    """
    U, S, Vt = svd(X.T @ Y)
    return U @ Vt, (S.sum() / (X**2).sum(), S.sum() / (Y**2).sum())


def svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decompose into singular values; by the slower, surer method where the fast one does not converge."""
    try:
        U, S, Vt = np.linalg.svd(matrix, full_matrices=False)
    except np.linalg.LinAlgError:
        U, S, Vt = linalg.svd(matrix, full_matrices=False, lapack_driver="gesvd")
    return U, S, Vt
