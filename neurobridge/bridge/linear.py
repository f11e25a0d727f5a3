"""The linear map of the pairs: ridge regression with leave-one-out choice of the penalty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALPHAS: tuple[float, ...] = tuple(np.logspace(-3, 5, 33).tolist())


@dataclass(frozen=True, eq=False)
class LinearMap:
    """An affine map ``x -> (x - x_mean) @ coef + y_mean``.

    Attributes
    ----------
    coef : array of shape (n_source_dims, n_target_dims)
    x_mean : array of shape (n_source_dims,)
    y_mean : array of shape (n_target_dims,)
    alpha : array of shape (n_target_dims,)
        Ridge penalty of each target dimension.
    """

    coef: np.ndarray
    x_mean: np.ndarray
    y_mean: np.ndarray
    alpha: np.ndarray

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Map points of shape (n_points, n_source_dims) to (n_points, n_target_dims)."""
        return (X - self.x_mean) @ self.coef + self.y_mean


def ridge_map(X: np.ndarray, Y: np.ndarray, *, alphas: tuple[float, ...] = ALPHAS) -> LinearMap:
    """Fit a ridge map from X to Y, one penalty a target dimension by exact leave-one-out error.

    With the thin SVD ``X - mean = U S V^T`` and ``h = diag(U (S^2 / (S^2 + alpha)) U^T) + 1/n``, the leave-one-out
    residual is ``(Y - Y_hat) / (1 - h)``; every penalty costs one product (Hoerl & Kennard 1970; Golub et al. 1979).

    Parameters
    ----------
    X : array of shape (n_samples, n_source_dims)
    Y : array of shape (n_samples, n_target_dims)
    alphas : tuple of float
        Candidate penalties, in units of the summed squares of X.

    Raises
    ------
    ValueError
        Lengths differ, or there are fewer than two samples.
    """
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    if len(X) != len(Y) or len(X) < 2:
        raise ValueError(
            f"found {len(X)} source and {len(Y)} target rows; expected the same number, at least 2. "
            "Mend: pass one target row for each source row."
        )
    x_mean, y_mean = X.mean(axis=0), Y.mean(axis=0)
    U, S, Vt = np.linalg.svd(X - x_mean, full_matrices=False)
    UtY = U.T @ (Y - y_mean)
    best_error = np.full(Y.shape[1], np.inf)
    best_alpha = np.full(Y.shape[1], alphas[-1])
    for alpha in alphas:
        shrink = S**2 / (S**2 + alpha)
        leverage = np.minimum((U**2) @ shrink + 1.0 / len(X), 1 - 1e-9)
        residual = (Y - y_mean - U @ (shrink[:, None] * UtY)) / (1 - leverage)[:, None]
        error = (residual**2).mean(axis=0)
        better = error < best_error
        best_error[better], best_alpha[better] = error[better], alpha
    weights = S[:, None] / (S[:, None] ** 2 + best_alpha[None, :])
    return LinearMap(Vt.T @ (weights * UtY), x_mean, y_mean, best_alpha)
