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


def nearest_rotation(cross: np.ndarray, *, cutoff: float = 1e-5) -> np.ndarray:
    """Return the rotation R that maximises ``tr(R^T cross)``: the orthogonal fit to a cross-covariance.

    ``R = U V^T`` over the singular values of ``cross = U S V^T`` that are above ``cutoff`` times the largest. Directions
    below it were not seen in the fit; R sends them to zero, instead of turning them by chance.

    Parameters
    ----------
    cross : array of shape (n_source_dims, n_target_dims)
        ``X^T W Y`` of centred points, with weights W.
    cutoff : float

    Returns
    -------
    array of shape (n_source_dims, n_target_dims)
        With orthonormal rows, or columns if they are fewer, where ``cross`` has full rank; a partial isometry otherwise.

    Examples
    --------
    >>> turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> bool(np.allclose(nearest_rotation(np.diag([5.0, 2.0]) @ turn), turn))
    True
    >>> nearest_rotation(np.array([[2.0, 0.0], [0.0, 0.0]])).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    U, S, Vt = svd(cross, full_matrices=False)
    seen = cutoff * S.max(initial=0.0) < S
    return U[:, seen] @ Vt[seen]


def svd(matrix: np.ndarray, *, full_matrices: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decompose into singular values; by the slower, surer method where the fast one does not converge."""
    try:
        U, S, Vt = np.linalg.svd(matrix, full_matrices=full_matrices)
    except np.linalg.LinAlgError:
        U, S, Vt = linalg.svd(matrix, full_matrices=full_matrices, lapack_driver="gesvd")
    return U, S, Vt
