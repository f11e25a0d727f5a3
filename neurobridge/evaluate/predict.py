"""Neural predictivity: cross-validated prediction of one space from another on held-out stimuli."""

from __future__ import annotations

import inspect
import warnings
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, match_stimuli, require_varying_neuroids, validate
from neurobridge.assemblies.missing import sites_by_missing
from neurobridge.assemblies.schema import STIMULUS_ID
from neurobridge.evaluate.correlation import MIN_CORRELATED, count_missing, refuse_too_few, score_folds
from neurobridge.evaluate.folds import GivenSplits, Splits
from neurobridge.evaluate.regression import REGRESSIONS, predict_held_out
from neurobridge.evaluate.splits import resolve_splits
from neurobridge.points.options import is_choice, require_options
from neurobridge.points.progress import progress_bar


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
    progress: bool = False,
    **options: Any,
) -> xr.Dataset:
    """Predict every neuroid of the target from the source, and correlate on held-out stimuli.

    Sites that miss the same stimuli are fitted together, each group on the stimuli that it has, over the same folds: a site has
    the score that it would have alone on its own stimuli. "pls" shares its components among the sites that are fitted together,
    so that a site with missing values has components of its own (a warning says so).

    Parameters
    ----------
    source : xarray.DataArray
        Assembly of predictors, dims ``(presentation, neuroid)``, one presentation a stimulus.
    target : xarray.DataArray
        Assembly of the predicted responses, likewise; recordings are averaged over repetitions first. A missing value (NaN)
        leaves its stimulus out of the training and the held-out stimuli of that site alone; see below.
    regression : {"pls", "ridge", "linear", "neuron_to_neuron"}
        A key of `REGRESSIONS`. "pls" has Brain-Score's 25 components, unscaled; "ridge" chooses a penalty for each neuroid.
    splits : Splits, str or sequence of (train, test), optional
        Rows of the shared stimuli in the source's order, or a text such as "kfold,n_splits=5" (`splits_from_text`). Default:
        Brain-Score's ten stratified 90/10 splits on ``object_name`` with random state 1, or shuffled ones where there is no such
        coordinate; of few stimuli more are held out, at least three: see `resolve_splits`.
    ceiling : xarray.DataArray, optional
        Reliability of each target neuroid: ``internal_consistency(recordings)["ceiling"]``.
    normalization : str
        A key of `NORMALIZATIONS`: "explained_variance" (``r |r| / ceiling``) or "squared_ratio" (``r |r| / ceiling^2``).
    n_permutations : int
        Size of the null: the held-out stimuli of the predictions are shuffled.
    seed : int
    progress : bool
        Show a progress bar, on a terminal.
    **options
        Of the regression: ``n_components`` of pls; ``alpha`` or ``alphas`` of ridge (Brain-Score's ridge is ``alpha=1``).

    Returns
    -------
    xarray.Dataset
        The Score that `correlate` describes, with one row of ``raw`` a split.

    Raises
    ------
    AssemblyError
        Bad assemblies (no shared or duplicate stimuli, NaN in the source, constant target neuroids, fewer than three held-out
        values of a target neuroid in a split), unknown regression or option, bad splits.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import predictivity
    >>> rng = np.random.default_rng(0)  # simulated: ten sites that are linear in six features
    >>> features = rng.normal(size=(100, 6))
    >>> responses = features @ rng.normal(size=(6, 10)) + rng.normal(size=(100, 10))
    >>> stimuli = {"stimulus_id": range(100)}
    >>> model = make_assembly(features, presentation=stimuli, neuroid={"neuroid_id": range(6)})
    >>> brain = make_assembly(responses, presentation=stimuli, neuroid={"neuroid_id": range(10)})
    >>> score = predictivity(model, brain, "ridge", n_permutations=99)
    >>> dict(score["raw"].sizes), float(score["p_value"])
    ({'split': 10, 'neuroid': 10}, 0.01)
    """
    if not is_choice(regression, REGRESSIONS):
        raise AssemblyError(
            f"found regression {regression!r}; expected one of {sorted(REGRESSIONS)}. Mend: choose one of them."
        )
    fit = REGRESSIONS[regression]
    known = [name for name, p in inspect.signature(fit).parameters.items() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise AssemblyError(f"{regression}: found option {unknown[0]!r}; expected some of {known}. Mend: leave it out.")
    require_options(n_permutations=n_permutations, seed=seed, progress=progress, error=AssemblyError)
    matched = matched_spaces(source, target, allow_missing=True)
    X, Y = matched.X, matched.Y
    folds = resolve_splits(matched.target, splits, min_held_out=MIN_CORRELATED)
    held_out = _predict_by_site(fit, X, Y, folds, matched.target, options, progress)
    if regression == "pls" and np.isnan(Y).any():
        warnings.warn(
            f"pls: found {int(np.isnan(Y).sum())} missing values of {Y.size} in the target; sites that miss different stimuli are "
            "fitted apart and share no components. Mend: regression='ridge' fits every site by itself in any case.",
            UserWarning,
            stacklevel=2,
        )
    predicted = [(values, Y[test]) for values, (_, test) in zip(held_out, folds, strict=True)]
    shown = "".join(f", {name}={np.asarray(value).tolist()}" for name, value in sorted(options.items()))
    score = score_folds(
        predicted,
        like=target,
        ceiling=ceiling,
        normalization=normalization,
        n_permutations=n_permutations,
        seed=seed,
        attrs={"metric": f"{regression}{shown}, pearson", "splits": folds.description, "n_stimuli": len(X)},
        sources=(source, target),
    )
    return count_missing(score, np.isnan(Y))


def _predict_by_site(
    fit: Any, X: np.ndarray, Y: np.ndarray, folds: Splits, like: xr.DataArray, options: dict[str, Any], progress: bool
) -> list[np.ndarray]:
    """Predict the held-out rows of every fold; sites that miss the same rows are fitted together on the rows that they have."""
    absent = np.isnan(Y)
    if not absent.any():
        return predict_held_out(fit, X, Y, folds, progress=progress, **options)
    n_train = np.stack([(~absent[train]).sum(axis=0) for train, _ in folds]).min(axis=0)
    refuse_too_few(n_train, like, 2, "training stimuli of a split")
    n_test = np.stack([(~absent[test]).sum(axis=0) for _, test in folds]).min(axis=0)
    refuse_too_few(n_test, like, MIN_CORRELATED, "held-out stimuli of a split")
    predicted = [np.full((len(test), Y.shape[1]), np.nan) for _, test in folds]
    for sites, rows in progress_bar(list(sites_by_missing(absent)), progress=progress, desc="sites"):
        place = np.full(len(X), -1)
        place[rows] = np.arange(len(rows))
        inside = [(place[train], place[test]) for train, test in folds]
        local = [(train[train >= 0], test[test >= 0]) for train, test in inside]
        parts = predict_held_out(fit, X[rows], Y[np.ix_(rows, sites)], local, **options)
        for values, (_, test), part in zip(predicted, inside, parts, strict=True):
            values[np.ix_(test >= 0, sites)] = part
    return predicted


class MatchedSpaces(NamedTuple):
    """Values of the stimuli that two assemblies share, in the source's order.

    Attributes
    ----------
    X, Y : arrays of shape (n_stimuli, n_neuroids)
        Of the source and of the target.
    target : xarray.DataArray
        The target's shared stimuli in that order, whose labels splits are drawn by.
    stimuli : array of shape (n_stimuli,)
        Their ids.
    """

    X: np.ndarray
    Y: np.ndarray
    target: xr.DataArray
    stimuli: np.ndarray


def matched_spaces(source: xr.DataArray, target: xr.DataArray, *, allow_missing: bool = False) -> MatchedSpaces:
    """Check two assemblies and take the values of their shared stimuli; ``allow_missing`` allows NaN in the target.

    Raises
    ------
    AssemblyError
        Bad assemblies, no shared stimulus, or a target neuroid that is constant over the shared ones.
    """
    for role, assembly in (("source", source), ("target", target)):
        validate(assembly, role=role, allow_missing=allow_missing and role == "target")
    matched = match_stimuli(source, target)
    require_varying_neuroids(matched.target, role="target")
    X = as_matrix(matched.source, role="source")
    Y = as_matrix(matched.target, role="target", allow_missing=allow_missing)
    return MatchedSpaces(X, Y, matched.target, np.asarray(matched.target[STIMULUS_ID].values))
