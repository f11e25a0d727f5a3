"""Permutation nulls and their p-values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurobridge.points.options import require_options


def fold_null(
    n_folds: int, n_permutations: int, seed: int, draw: Callable[[int, np.random.Generator, int], np.ndarray]
) -> np.ndarray:
    """Draw a permutation null, each permutation from one fold in turn.

    Held-out sets of different folds overlap, so averaging independent shuffles over folds would make the null too narrow. The null
    of single folds is wider than that of their mean: p-values are conservative.

    Parameters
    ----------
    n_folds, n_permutations, seed : int
    draw : callable
        ``draw(fold, rng, n)`` gives ``n`` permutations of a fold, array of shape (n, ...).

    Returns
    -------
    array of shape (n_permutations, ...)
        Permutations of the first fold first.
    """
    require_options(n_permutations=n_permutations, seed=seed)
    rng = np.random.default_rng(seed)
    share = [len(range(k, n_permutations, n_folds)) for k in range(n_folds)]
    return np.concatenate([draw(k, rng, n) for k, n in enumerate(share) if n] or [np.empty(0)])


def p_value(observed: float, null: np.ndarray) -> float:
    """Compute the one-sided permutation p-value, ``(1 + #{null >= observed}) / (1 + n)`` (Phipson & Smyth 2010).

    Parameters
    ----------
    observed : float
    null : array of shape (n_permutations,)
        NaN stands for a permutation that was not drawn.

    Returns
    -------
    float
        NaN without a null, or where the observed value is NaN.
    """
    drawn = null[~np.isnan(null)]
    if not drawn.size or np.isnan(observed):
        return np.nan
    return float((1 + (drawn >= observed).sum()) / (1 + drawn.size))
