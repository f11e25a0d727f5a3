"""Neural predictivity: how well one space predicts the other on held-out stimuli, cross-validated."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, match_stimuli, require_varying_neuroids, validate
from neurobridge.evaluate.correlation import score_folds
from neurobridge.evaluate.regression import REGRESSIONS, predict_held_out
from neurobridge.evaluate.scores import aggregate
from neurobridge.evaluate.splits import Splits, resolve_splits

__all__ = ["aggregate", "predictivity"]

GivenSplits = Splits | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]] | None


def predictivity(
    source: xr.DataArray,
    target: xr.DataArray,
    regression: str = "pls",
    *,
    splits: GivenSplits = None,
    ceiling: xr.DataArray | None = None,
    normalization: str = "explained_variance",
    n_permutations: int = 1000,
    seed: int = 0,
    **options: Any,
) -> xr.Dataset:
    """Predict every neuroid of the target from the source, and correlate on held-out stimuli.

    Parameters
    ----------
    source : xarray.DataArray
        Assembly of predictors, dims ``(presentation, neuroid)``, one presentation a stimulus.
    target : xarray.DataArray
        Assembly of what is predicted, likewise; recordings are averaged over repetitions first.
    regression : {"pls", "ridge", "linear", "neuron_to_neuron"}
        A key of `REGRESSIONS`. "pls" has Brain-Score's 25 components, unscaled; "ridge" chooses a penalty for each neuroid.
    splits : Splits or sequence of (train, test), optional
        Rows of the shared stimuli in the source's order. Default: Brain-Score's ten stratified 90/10 splits on ``object_name``
        with random state 1, or shuffled ones where there is no such coordinate.
    ceiling : xarray.DataArray, optional
        Reliability of each target neuroid: ``internal_consistency(recordings)["ceiling"]``.
    normalization : str
        A key of `NORMALIZATIONS`: "explained_variance" (``r |r| / ceiling``) or "squared_ratio" (``r |r| / ceiling^2``).
    n_permutations : int
        Size of the null: the held-out stimuli of the predictions are shuffled.
    seed : int
    **options
        Of the regression: ``n_components`` of pls; ``alpha`` or ``alphas`` of ridge (Brain-Score's ridge is ``alpha=1``).

    Returns
    -------
    xarray.Dataset
        The Score that `correlate` describes, with one row of ``raw`` a split.

    Raises
    ------
    AssemblyError
        Bad assemblies (no shared or duplicate stimuli, NaN, constant target neuroids), unknown regression or option, bad splits.
    """
    if regression not in REGRESSIONS:
        raise AssemblyError(
            f"found regression {regression!r}; expected one of {sorted(REGRESSIONS)}. Mend: choose one of them."
        )
    fit = REGRESSIONS[regression]
    known = [name for name, p in inspect.signature(fit).parameters.items() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise AssemblyError(f"{regression}: found option {unknown[0]!r}; expected some of {known}. Mend: leave it out.")
    X, Y, folds = matched_arrays(source, target, splits)
    held_out = predict_held_out(fit, X, Y, folds, **options)
    predicted = [(values, Y[test]) for values, (_, test) in zip(held_out, folds, strict=True)]
    shown = "".join(f", {name}={np.asarray(value).tolist()}" for name, value in sorted(options.items()))
    return score_folds(
        predicted,
        like=target,
        ceiling=ceiling,
        normalization=normalization,
        n_permutations=n_permutations,
        seed=seed,
        attrs={"metric": f"{regression}{shown}, pearson", "splits": folds.description, "n_stimuli": len(X)},
        sources=(source, target),
    )


def matched_arrays(
    source: xr.DataArray, target: xr.DataArray, splits: GivenSplits
) -> tuple[np.ndarray, np.ndarray, Splits]:
    """Values of the shared stimuli, arrays (n_stimuli, n_neuroids), and the folds of their rows."""
    for role, assembly in (("source", source), ("target", target)):
        validate(assembly, role=role)
    matched = match_stimuli(source, target)
    require_varying_neuroids(matched.target, role="target")
    X, Y = as_matrix(matched.source, role="source"), as_matrix(matched.target, role="target")
    return X, Y, resolve_splits(matched.target, splits)
