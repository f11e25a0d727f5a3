"""The linear map of the pairs: ridge regression with leave-one-out choice of the penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

ALPHAS: tuple[float, ...] = tuple(np.logspace(-3, 5, 33).tolist())

Penalty = Literal["per-target", "shared"]


@dataclass(frozen=True, eq=False)
class LinearMap:
    """An affine map ``x -> (x - x_mean) @ coef + y_mean``.

    Attributes
    ----------
    coef : array of shape (n_source_dims, n_target_dims)
    x_mean : array of shape (n_source_dims,)
    y_mean : array of shape (n_target_dims,)
    alpha : array of shape (n_target_dims,)
        Ridge penalty of each target dimension; all the same if it was shared.
    """

    coef: np.ndarray
    x_mean: np.ndarray
    y_mean: np.ndarray
    alpha: np.ndarray

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """Map points of shape (n_points, n_source_dims) to (n_points, n_target_dims)."""
        return (X - self.x_mean) @ self.coef + self.y_mean


def ridge_map(
    X: np.ndarray, Y: np.ndarray, *, alphas: tuple[float, ...] = ALPHAS, penalty: Penalty = "per-target"
) -> LinearMap:
    """Fit a ridge map from X to Y, with the penalty of least exact leave-one-out error.

    With the thin SVD ``X - mean = U S V^T`` and ``h = diag(U (S^2 / (S^2 + alpha)) U^T) + 1/n``, the leave-one-out
    residual is ``(Y - Y_hat) / (1 - h)``; every penalty costs one product (Hoerl & Kennard 1970; Golub et al. 1979).

    Parameters
    ----------
    X : array of shape (n_samples, n_source_dims)
    Y : array of shape (n_samples, n_target_dims)
    alphas : tuple of float
        Candidate penalties, in units of the summed squares of X.
    penalty : {"per-target", "shared"}
        One penalty a target dimension, which suits recordings: every site has its own noise, and its axis means something. Or one
        for all dimensions, by their summed error: the map then turns with any rotation of the target space, and the choice rests
        on all dimensions at once, which is what counts when samples are few. On MNIST features (128 dimensions) "shared" gives an
        R^2 of .24 against .20 at 10 samples, .52 against .46 at 20, and the same from 100 on. `fuse` uses "shared".

    Raises
    ------
    ValueError
        Lengths differ, there are fewer than two samples, or an unknown penalty.
    """
    X, Y = checked_samples(X, Y)
    if penalty not in ("per-target", "shared"):
        raise ValueError(f"found penalty={penalty!r}; expected 'per-target' or 'shared'. Mend: choose one of them.")
    x_mean, y_mean = X.mean(axis=0), Y.mean(axis=0)
    U, S, Vt = np.linalg.svd(X - x_mean, full_matrices=False)
    centred = Y - y_mean
    errors = leave_one_out(U * S, S**2, centred, alphas, np.full(len(X), 1 / len(X)), cap=1 - 1e-9)
    if penalty == "shared":
        errors = np.broadcast_to(errors.sum(axis=1, keepdims=True), errors.shape)
    alpha = np.asarray(alphas)[errors.argmin(axis=0)]
    weights = S[:, None] / (S[:, None] ** 2 + alpha[None, :])
    return LinearMap(Vt.T @ (weights * (U.T @ centred)), x_mean, y_mean, alpha)


def checked_samples(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float64 copies of equally many source and target rows, at least two."""
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    if len(X) != len(Y) or len(X) < 2:
        raise ValueError(
            f"found {len(X)} source and {len(Y)} target rows; expected the same number, at least 2. "
            "Mend: pass one target row for each source row."
        )
    return X, Y


def leave_one_out(
    Z: np.ndarray,
    squares: np.ndarray,
    Y: np.ndarray,
    alphas: tuple[float, ...],
    own: np.ndarray,
    *,
    cap: float,
) -> np.ndarray:
    """Summed squared leave-one-out residuals of ridge on orthogonal features.

    Parameters
    ----------
    Z : array of shape (n_samples, n_features)
        Centred features whose columns are orthogonal.
    squares : array of shape (n_features,)
        Squared lengths of the columns.
    Y : array of shape (n_samples, n_targets)
        Centred targets.
    alphas : tuple of float
    own : array of shape (n_samples,)
        Leverage of the mean: 1/n, or each sample's share of the weight.
    cap : float
        Largest leverage: a sample that determines its own prediction says nothing.

    Returns
    -------
    array of shape (n_alphas, n_targets)
    """
    projected = Z.T @ Y
    errors = np.empty((len(alphas), Y.shape[1]))
    for row, alpha in enumerate(alphas):
        shrink = 1 / (squares + alpha)
        leverage = np.minimum(Z**2 @ shrink + own, cap)
        residual = (Y - Z @ (shrink[:, None] * projected)) / (1 - leverage)[:, None]
        errors[row] = (residual**2).sum(axis=0)
    return errors
