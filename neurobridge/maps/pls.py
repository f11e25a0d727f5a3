"""Partial least squares: the improved kernel algorithm of Dayal and MacGregor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg

Predict = Callable[[np.ndarray], np.ndarray]


def fit_pls(X: np.ndarray, Y: np.ndarray, *, n_components: int = 25) -> Predict:
    """Partial least squares by the kernel algorithm, unscaled, as Brain-Score's regression.

    Works on ``X^T X`` and ``X^T Y`` alone (improved kernel algorithm 2 of Dayal & MacGregor 1997, J. Chemometrics 11:73). Each
    component's leading direction comes from an exact eigendecomposition, so nothing iterates; scikit-learn's NIPALS agrees once its
    ``tol`` is small enough to have converged.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    Y : array of shape (n_samples, n_targets)
    n_components : int
        At most; no more than samples - 1 and features are used, and extraction stops when the residual covariance is zero.

    Returns
    -------
    callable
        Maps (n, n_features) to (n, n_targets).
    """
    X, Y, x_mean, y_mean = centred(X, Y)
    # PLS does not see rotations: wide data is worked on in the coordinates of its row space, n x n instead of p x p.
    basis = None
    if X.shape[1] > X.shape[0]:
        values, U = np.linalg.eigh(X @ X.T)
        kept = values > values[-1] * len(X) * np.finfo(np.float64).eps
        root = np.sqrt(values[kept])
        basis = X.T @ (U[:, kept] / root)
        X = U[:, kept] * root
    XtX, XtY = X.T @ X, X.T @ Y
    scale = np.linalg.norm(XtY)
    n_components = min(n_components, len(X) - 1, X.shape[1])
    rotations = np.zeros((X.shape[1], n_components))
    x_loadings, y_loadings = np.zeros((X.shape[1], n_components)), np.zeros((Y.shape[1], n_components))
    for k in range(n_components):
        if np.linalg.norm(XtY) <= 1e-12 * scale:
            break
        weight = _leading_left(XtY)
        # Orthogonal to the deflated loadings: r_k = w_k - sum_j (p_j . w_k) r_j.
        rotation = weight - rotations[:, :k] @ (x_loadings[:, :k].T @ weight)
        XtXr = XtX @ rotation
        variance = rotation @ XtXr
        if variance <= 0:
            break
        rotations[:, k], x_loadings[:, k] = rotation, XtXr / variance
        y_loadings[:, k] = XtY.T @ rotation / variance
        XtY = XtY - variance * np.outer(x_loadings[:, k], y_loadings[:, k])
    coef = rotations @ y_loadings.T
    if basis is not None:
        coef = basis @ coef
    return linear_predictor(coef, x_mean, y_mean)


def _leading_left(M: np.ndarray) -> np.ndarray:
    """Leading left singular vector, through the smaller Gram matrix."""
    tall = M.shape[1] <= M.shape[0]
    gram = M.T @ M if tall else M @ M.T
    last = len(gram) - 1
    leading = scipy.linalg.eigh(gram, subset_by_index=[last, last], check_finite=False)[1][:, 0]
    vector = M @ leading if tall else leading
    return vector / np.linalg.norm(vector)


def centred(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Subtract the column means: centred X and Y in float64, and both means."""
    x_mean, y_mean = X.mean(axis=0, dtype=np.float64), Y.mean(axis=0, dtype=np.float64)
    return X - x_mean, Y - y_mean, x_mean, y_mean


def linear_predictor(coef: np.ndarray, x_mean: np.ndarray, y_mean: np.ndarray) -> Predict:
    """Return ``x -> (x - x_mean) @ coef + y_mean``."""
    intercept = y_mean - x_mean @ coef
    return lambda new: new @ coef + intercept
