"""Neural predictivity: cross-validated prediction of one space from another on held-out stimuli."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, match_stimuli, require_varying_neuroids, validate
from neurobridge.assemblies.schema import STIMULUS_ID
from neurobridge.evaluate.banded import BANDS, band_labels
from neurobridge.evaluate.correlation import MIN_CORRELATED, score_folds
from neurobridge.evaluate.folds import GivenSplits
from neurobridge.evaluate.regression import BANDED_REGRESSIONS, REGRESSIONS, predict_held_out
from neurobridge.evaluate.splits import resolve_splits
from neurobridge.points.options import is_choice, require_options


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
        Assembly of the predicted responses, likewise; recordings are averaged over repetitions first.
    regression : {"pls", "ridge", "linear", "neuron_to_neuron", "banded"}
        A key of `REGRESSIONS`. "pls" has Brain-Score's 25 components, unscaled; "ridge" chooses a penalty for each neuroid;
        "banded" does so for each of its bands, by himalaya (extra ``himalaya``).
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
    **options
        Of the regression: ``n_components`` of pls; ``alpha`` or ``alphas`` of ridge (Brain-Score's ridge is ``alpha=1``);
        ``bands`` of banded, the name of a coordinate of the source's neuroids, by default ``layer``, and its ``n_iter``, ``alphas``
        and ``n_folds``. Its weights are drawn with ``seed``, too.

    Returns
    -------
    xarray.Dataset
        The Score that `correlate` describes, with one row of ``raw`` a split.

    Raises
    ------
    AssemblyError
        Bad assemblies (no shared or duplicate stimuli, NaN, constant target neuroids), unknown regression or option, bad splits.
    ModuleNotFoundError
        "banded" without the extra ``himalaya``.

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
    regressions = {**REGRESSIONS, **BANDED_REGRESSIONS}
    if not is_choice(regression, regressions):
        raise AssemblyError(
            f"found regression {regression!r}; expected one of {sorted(regressions)}. Mend: choose one of them."
        )
    fit = regressions[regression]
    known = [name for name, p in inspect.signature(fit).parameters.items() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise AssemblyError(f"{regression}: found option {unknown[0]!r}; expected some of {known}. Mend: leave it out.")
    require_options(n_permutations=n_permutations, seed=seed, error=AssemblyError)
    if regression in BANDED_REGRESSIONS:
        options = {"bands": BANDS, **options}
    shown = "".join(f", {name}={np.asarray(value).tolist()}" for name, value in sorted(options.items()))
    if regression in BANDED_REGRESSIONS:
        options = {**options, "bands": band_labels(source, options["bands"]), "seed": seed}
    matched = matched_spaces(source, target)
    X, Y = matched.X, matched.Y
    folds = resolve_splits(matched.target, splits, min_held_out=MIN_CORRELATED)
    held_out = predict_held_out(fit, X, Y, folds, **options)
    predicted = [(values, Y[test]) for values, (_, test) in zip(held_out, folds, strict=True)]
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


def matched_spaces(source: xr.DataArray, target: xr.DataArray) -> MatchedSpaces:
    """Check two assemblies and take the values of their shared stimuli.

    Raises
    ------
    AssemblyError
        Bad assemblies, no shared stimulus, or a target neuroid that is constant over the shared ones.
    """
    for role, assembly in (("source", source), ("target", target)):
        validate(assembly, role=role)
    matched = match_stimuli(source, target)
    require_varying_neuroids(matched.target, role="target")
    X, Y = as_matrix(matched.source, role="source"), as_matrix(matched.target, role="target")
    return MatchedSpaces(X, Y, matched.target, np.asarray(matched.target[STIMULUS_ID].values))
