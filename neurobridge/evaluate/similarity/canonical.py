"""Scores of canonical correlations on held-out stimuli."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neurobridge.evaluate.correlation import MIN_CORRELATED, pearson, warn_constant
from neurobridge.evaluate.predict import GivenSplits, matched_spaces
from neurobridge.evaluate.similarity.arrays import Scorer, fit_cca
from neurobridge.evaluate.similarity.scorers import score_rows
from neurobridge.evaluate.splits import resolve_splits


def cca(
    source: xr.DataArray,
    target: xr.DataArray,
    splits: GivenSplits = None,
    *,
    n_components: int | None = None,
    variance: float | None = None,
    ceiling: float | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Score the mean canonical correlation on held-out stimuli; the directions are fitted on the training stimuli.

    Parameters
    ----------
    source, target, ceiling, seed
        As in `cka`.
    splits : Splits, str or sequence of (train, test), optional
        Default: Brain-Score's, as in `predictivity`.
    n_components : int, optional
        Canonical pairs averaged; default all. The training correlation is *not* reported: it grows with the number of features.
    variance : float, optional
        Keep the leading principal components of either side that hold this share first; `svcca` has 0.99.
    n_permutations : int
        Size of the null: held-out stimuli of one side are shuffled.

    Returns
    -------
    xarray.Dataset
        Score with ``raw`` (split).

    Raises
    ------
    AssemblyError
        Bad assemblies or splits.
    ValueError
        ``n_components`` or ``variance`` out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import cca
    >>> rng = np.random.default_rng(0)  # simulated: the second space is the first, rotated, with noise
    >>> features = rng.normal(size=(60, 5))
    >>> responses = features @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 0.3 * rng.normal(size=(60, 5))
    >>> names = {"presentation": {"stimulus_id": range(60)}, "neuroid": {"neuroid_id": range(5)}}
    >>> model, brain = make_assembly(features, **names), make_assembly(responses, **names)
    >>> float(cca(model, brain, n_permutations=0)["raw"].mean()) > 0.7
    True
    """
    matched = matched_spaces(source, target)
    X, Y = matched.X, matched.Y
    folds = resolve_splits(matched.target, splits, min_held_out=MIN_CORRELATED)
    n_constant = 0

    def scorer(X_held: np.ndarray, Y_held: np.ndarray, number: int) -> Scorer:
        train = folds[number][0]
        to_x, to_y = fit_cca(X[train], Y[train], n_components=n_components, variance=variance)
        U, V = to_x(X_held), to_y(Y_held)
        nonlocal n_constant
        n_constant += int((~pearson(U, V)[1]).sum())
        return lambda order: float(pearson(U, V[order])[0].mean())

    name = "cca" if variance is None else f"svcca, {variance:.0%} of the variance"
    score = score_rows(
        len(X),
        [test for _, test in folds],
        lambda held_out, number: scorer(X[held_out], Y[held_out], number),
        splits_name=folds.description,
        metric=f"{name}, held out",
        ceiling=ceiling,
        n_permutations=n_permutations,
        seed=seed,
        sources=(source, target),
    )
    warn_constant(n_constant, "projection(s) of the held-out stimuli", stacklevel=2)
    return score


def svcca(
    source: xr.DataArray, target: xr.DataArray, splits: GivenSplits = None, *, variance: float = 0.99, **options: Any
) -> xr.Dataset:
    """Score `cca` between the principal components that hold 99% of the variance of either side (Raghu et al. 2017).

    Parameters
    ----------
    source, target, splits, **options
        As in `cca`.
    variance : float
        Share of the variance that the kept components hold, in (0, 1].

    Returns
    -------
    xarray.Dataset
        Score with ``raw`` (split).

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import svcca
    >>> rng = np.random.default_rng(0)  # simulated: the second space is the first, rotated, with noise
    >>> features = rng.normal(size=(60, 5))
    >>> responses = features @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 0.3 * rng.normal(size=(60, 5))
    >>> names = {"presentation": {"stimulus_id": range(60)}, "neuroid": {"neuroid_id": range(5)}}
    >>> model, brain = make_assembly(features, **names), make_assembly(responses, **names)
    >>> float(svcca(model, brain, n_permutations=0)["raw"].mean()) > 0.7
    True
    """
    return cca(source, target, splits, variance=variance, **options)
