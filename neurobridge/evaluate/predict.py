"""Neural predictivity: how well one space predicts the other on held-out stimuli, cross-validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, match_stimuli, require_varying_neuroids, validate
from neurobridge.evaluate.correlation import score_folds
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.splits import Splits, resolve_splits


def predictivity(
    source: xr.DataArray,
    target: xr.DataArray,
    regression: str = "pls",
    *,
    splits: Splits | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
    ceiling: xr.DataArray | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Predict every neuroid of the target from the source, and correlate on held-out stimuli.

    Parameters
    ----------
    source : xarray.DataArray
        Assembly of predictors, dims ``(presentation, neuroid)``, one presentation a stimulus.
    target : xarray.DataArray
        Assembly of what is predicted, likewise; recordings are averaged over repetitions first.
    regression : {"pls", "ridge", "linear"}
        A key of `REGRESSIONS`. "pls" has Brain-Score's 25 components, unscaled.
    splits : Splits or sequence of (train, test), optional
        Rows of the shared stimuli in the source's order. Default: Brain-Score's ten stratified 90/10 splits on ``object_name``
        with random state 1, or shuffled ones where there is no such coordinate.
    ceiling : xarray.DataArray, optional
        Reliability of each target neuroid: ``internal_consistency(recordings)["ceiling"]``.
    n_permutations : int
        Size of the null: the held-out stimuli of the predictions are shuffled.
    seed : int

    Returns
    -------
    xarray.Dataset
        The Score that `correlate` describes, with one row of ``raw`` a split.

    Raises
    ------
    AssemblyError
        Bad assemblies (no shared or duplicate stimuli, NaN, constant target neuroids), unknown regression, bad splits.
    """
    if regression not in REGRESSIONS:
        raise AssemblyError(
            f"found regression {regression!r}; expected one of {sorted(REGRESSIONS)}. Mend: choose one of them."
        )
    for role, assembly in (("source", source), ("target", target)):
        validate(assembly, role=role)
    matched = match_stimuli(source, target)
    require_varying_neuroids(matched.target, role="target")
    X, Y = as_matrix(matched.source, role="source"), as_matrix(matched.target, role="target")
    folds = resolve_splits(matched.target, splits)
    fit = REGRESSIONS[regression]
    # RidgeCV gives (n,) for one target.
    predicted = [(fit(X[train], Y[train])(X[test]).reshape(len(test), -1), Y[test]) for train, test in folds]
    return score_folds(
        predicted,
        like=target,
        ceiling=ceiling,
        n_permutations=n_permutations,
        seed=seed,
        attrs={"metric": f"{regression}, pearson", "splits": folds.description, "n_stimuli": len(X)},
        sources=(source, target),
    )


def aggregate(score: xr.Dataset) -> dict[str, Any]:
    """Reduce a Score to single numbers, by Brain-Score's rule: median over neuroids, mean over splits.

    Parameters
    ----------
    score : xarray.Dataset
        From `predictivity` or `correlate`.

    Returns
    -------
    dict
        ``raw``; ``raw_sem`` over splits; ``ceiling``, the median over neuroids, or None; ``normalized = raw |raw| / ceiling``
        of these two, or None; ``normalized_median`` of the single neuroids, or None; ``null_mean`` and ``null_95``; ``p_value``;
        ``n_stimuli``, ``n_neuroids``, ``n_splits``, ``seed``, ``metric``.
    """
    by_split = np.median(score["raw"].values, axis=1)
    raw, reliability = float(by_split.mean()), score["ceiling"].values
    known = bool(np.isfinite(reliability).all())
    ceiling = float(np.median(reliability)) if known else None
    null = score["null"].values
    normalised = score["normalized"].values
    return {
        "metric": str(score.attrs["metric"]),
        "raw": raw,
        "raw_sem": float(by_split.std(ddof=1) / np.sqrt(len(by_split))) if len(by_split) > 1 else None,
        "ceiling": ceiling,
        "normalized": raw * abs(raw) / ceiling if ceiling is not None and ceiling > 0 else None,
        "normalized_median": float(np.nanmedian(normalised)) if np.isfinite(normalised).any() else None,
        "null_mean": float(null.mean()) if null.size else None,
        "null_95": float(np.quantile(null, 0.95)) if null.size else None,
        "p_value": float(score["p_value"]),
        "n_stimuli": int(score.attrs["n_stimuli"]),
        "n_neuroids": int(score.sizes["neuroid"]),
        "n_splits": int(score.attrs["n_splits"]),
        "seed": int(score.attrs["seed"]),
    }
