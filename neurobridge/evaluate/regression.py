"""Regressions from one space to another, each a plain function: ``fit(X, Y, **options) -> predict``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.linalg

from neurobridge.evaluate.banded import fit_banded
from neurobridge.maps.pls import Predict, centred, fit_pls, linear_predictor
from neurobridge.points.progress import progress_bar
from neurobridge.points.scale import unit_of_cloud

#: Penalties that ridge chooses from, in units of the mean square of the centred features.
ALPHAS = np.logspace(-3, 6, 19)


def fit_ridge(
    X: np.ndarray, Y: np.ndarray, *, alpha: float | None = None, alphas: np.ndarray | tuple[float, ...] | None = None
) -> Predict:
    """Fit a ridge regression, ``min ||Y - X B||^2 + alpha ||B||^2`` with an unpenalised intercept.

    By default every target has its penalty, the one of least exact leave-one-out error; one eigendecomposition serves
    all penalties and targets (scikit-learn's ``RidgeCV(alpha_per_target=True)`` chooses the same). Brain-Score's ``ridge`` is
    ``alpha=1``.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    Y : array of shape (n_samples, n_targets)
    alpha : float, optional
        One penalty for all targets, in units of X squared times samples; nothing is chosen.
    alphas : sequence of float, optional
        Penalties to choose from, in the same units. Default: `ALPHAS`, 19 from 1e-3 to 1e6, times the mean square of the centred
        features, so that the choice does not depend on their unit.

    Returns
    -------
    callable
        Maps (n, n_features) to (n, n_targets).

    Raises
    ------
    ValueError
        A penalty is not positive, or both ``alpha`` and ``alphas`` are given.
    """
    if alpha is not None and alphas is not None:
        raise ValueError(
            "ridge: found both alpha and alphas; expected one of them. Mend: alpha to fix the penalty, alphas to choose from."
        )
    grid = None if alphas is None else np.asarray(alphas, dtype=np.float64)
    if (grid is not None and (grid <= 0).any()) or (alpha is not None and alpha <= 0):
        raise ValueError("ridge: found a penalty that is not positive; expected alpha > 0. Mend: regression='linear'.")
    unit = 1.0 if grid is not None or alpha is not None else unit_of_cloud(np.asarray(X, dtype=np.float64))
    X, Y, x_mean, y_mean = centred(X, Y)
    tall = len(X) >= X.shape[1]
    gram = X.T @ X if tall else X @ X.T
    if alpha is not None:
        gram[np.diag_indices_from(gram)] += alpha
        factor = scipy.linalg.cho_factor(gram, overwrite_a=True, check_finite=False)
        coef = scipy.linalg.cho_solve(factor, X.T @ Y) if tall else X.T @ scipy.linalg.cho_solve(factor, Y)
        return linear_predictor(coef, x_mean, y_mean)
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0)
    if grid is None:
        grid = ALPHAS * (unit * unit or 1.0)
    # Scores of the samples on the principal directions, Z Z^T = X X^T, and their products with the targets.
    Z = X @ vectors if tall else vectors * np.sqrt(values)
    ZtY = Z.T @ Y
    error = np.stack([_leave_one_out(Z, Y, ZtY, values, penalty) for penalty in grid])
    chosen = grid[error.argmin(axis=0)]
    dual = vectors @ ((ZtY if tall else vectors.T @ Y) / (values[:, None] + chosen))
    return linear_predictor(dual if tall else X.T @ dual, x_mean, y_mean)


def _leave_one_out(Z: np.ndarray, Y: np.ndarray, ZtY: np.ndarray, values: np.ndarray, alpha: float) -> np.ndarray:
    """Compute the mean squared leave-one-out error of each target: residuals over ``1 - h_i``, h with the intercept's 1/n."""
    shrunk = 1 / (values + alpha)
    leverage = 1 / len(Z) + np.square(Z) @ shrunk
    residual = Y - Z @ (shrunk[:, None] * ZtY)
    return np.mean(np.square(residual / (1 - leverage)[:, None]), axis=0)


def _ridge_folds(
    X: np.ndarray, Y: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]], alpha: float
) -> list[np.ndarray]:
    """Fit ridge with one penalty on the moments of each fold's training rows: those of all rows less those held out.

    The subtraction costs the square of the features for each *held-out* row. A fold whose held-out rows scatter more than the
    training rows is fitted on its rows, for the difference would lose digits.
    """
    # Ridge with an intercept does not see a shift; about the mean of all rows, the subtracted moments are small.
    X_all, Y_all, _, y_shift = centred(X, Y)
    XtX, XtY = X_all.T @ X_all, X_all.T @ Y_all
    x_total, y_total = X_all.sum(axis=0), Y_all.sum(axis=0)
    x_scatter, y_scatter = np.trace(XtX), np.sum(np.square(Y_all), axis=0)
    predicted = []
    for train, test in folds:
        held_x, held_y, root = X_all[test], Y_all[test], np.sqrt(len(train))
        x_mean, y_mean = (x_total - held_x.sum(axis=0)) / len(train), (y_total - held_y.sum(axis=0)) / len(train)
        # Centring takes n m m^T away as well: one row more, sqrt(n) m.
        less_x, less_y = np.vstack([held_x, root * x_mean]), np.vstack([held_y, root * y_mean])
        if 2 * np.vdot(less_x, less_x) > x_scatter or (2 * np.sum(np.square(less_y), axis=0) > y_scatter).any():
            predicted.append(fit_ridge(X[train], Y[train], alpha=alpha)(X[test]))
            continue
        gram = less_x.T @ less_x
        np.subtract(XtX, gram, out=gram)
        gram[np.diag_indices_from(gram)] += alpha
        factor = scipy.linalg.cho_factor(gram.T, overwrite_a=True, check_finite=False)
        coef = scipy.linalg.cho_solve(factor, XtY - less_x.T @ less_y, check_finite=False)
        predicted.append(held_x @ coef + (y_shift + y_mean - x_mean @ coef))
    return predicted


def fit_linear(X: np.ndarray, Y: np.ndarray) -> Predict:
    """Fit ordinary least squares with an intercept, minimum-norm where there are no more samples than features."""
    X, Y, x_mean, y_mean = centred(X, Y)
    # Centring takes a rank: LAPACK's own cut-off would keep the direction that rounding left of it.
    cutoff = max(X.shape) * np.finfo(np.float64).eps
    return linear_predictor(scipy.linalg.lstsq(X, Y, cond=cutoff, check_finite=False)[0], x_mean, y_mean)


def fit_neuron_to_neuron(X: np.ndarray, Y: np.ndarray) -> Predict:
    """Predict each target by the one feature that correlates most with it on the training stimuli (Arend et al. 2018).

    The prediction is the feature itself, in its own units; a feature that does not vary is never chosen.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    Y : array of shape (n_samples, n_targets)

    Raises
    ------
    ValueError
        No feature varies.
    """
    X, Y = (np.asarray(A, dtype=np.float64) for A in (X, Y))
    largest = np.abs(X).max(axis=0)
    X = X - X.mean(axis=0)
    norm = np.linalg.norm(X, axis=0)
    varies = norm > 1e-13 * np.sqrt(len(X)) * largest
    if not varies.any():
        raise ValueError(
            f"neuron_to_neuron: found {len(norm)} features that do not vary over the training stimuli; expected one that does. "
            "Mend: neurobridge.assemblies.drop_constant(source)."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(varies[:, None], (X.T @ (Y - Y.mean(axis=0))) / norm[:, None], -np.inf)
    chosen = r.argmax(axis=0)
    return lambda new: np.asarray(new)[:, chosen]


#: Regressions by name: ``fit(X, Y, **options)`` returns a function that predicts.
REGRESSIONS: dict[str, Callable[..., Predict]] = {
    "pls": fit_pls,
    "ridge": fit_ridge,
    "linear": fit_linear,
    "neuron_to_neuron": fit_neuron_to_neuron,
}

#: Regressions that penalise bands of features apart, ``fit(X, Y, bands=labels, **options)``: the labels are a coordinate of the
#: predictors.
BANDED_REGRESSIONS: dict[str, Callable[..., Predict]] = {"banded": fit_banded}


#: Regressions that fit every target by itself, whatever the others are.
BY_TARGET = (fit_ridge, fit_linear, fit_neuron_to_neuron)


def predict_held_out(
    fit: Callable[..., Predict],
    X: np.ndarray,
    Y: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    progress: bool = False,
    **options: Any,
) -> list[np.ndarray]:
    """Predict the held-out rows of every fold, each from its training rows alone.

    ``fit(X[train], Y[train], **options)(X[test])``; ridge with one given ``alpha`` does the same from moments where each fold
    trains on all rows that it does not hold out, on more than it holds out and on no fewer than there are features.

    Parameters
    ----------
    fit : callable
        As in `REGRESSIONS`.
    X : array of shape (n_samples, n_features)
    Y : array of shape (n_samples, n_targets)
    folds : sequence of (train, test)
        Integer rows; none is on both sides of a fold or twice on one.
    progress : bool
        Show a progress bar over the folds.
    **options
        Of ``fit``.

    Returns
    -------
    list of array of shape (n_test, n_targets)
    """
    if fit is fit_ridge and options.keys() == {"alpha"} and (options["alpha"] or 0) > 0 and len(folds) > 1:
        min_train = max(X.shape[1], len(X) // 2 + 1)
        if all(len(train) >= min_train and len(train) + len(test) == len(X) for train, test in folds):
            return _ridge_folds(X, Y, folds, options["alpha"])
    return [
        fit(X[train], Y[train], **options)(X[test])
        for train, test in progress_bar(folds, progress=progress, desc="folds")
    ]
