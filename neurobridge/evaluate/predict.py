"""Neural predictivity: cross-validated prediction of one space from another on held-out stimuli."""

from __future__ import annotations

import inspect
import logging
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import (
    AssemblyError,
    as_matrix,
    average_repetitions,
    coords_of,
    match_stimuli,
    require_varying_neuroids,
    validate,
)
from neurobridge.assemblies.missing import sites_by_missing
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, STIMULUS_ID, TIME_BIN
from neurobridge.evaluate.banded import BANDS, band_labels
from neurobridge.evaluate.correlation import MIN_CORRELATED, count_missing, refuse_too_few, score_folds
from neurobridge.evaluate.folds import GivenSplits, Splits
from neurobridge.evaluate.regression import BANDED_REGRESSIONS, BY_TARGET, REGRESSIONS, predict_held_out
from neurobridge.evaluate.splits import resolve_splits
from neurobridge.evaluate.time_bins.stacking import gather_bins, one_bin, require_bins, require_by
from neurobridge.points.options import is_choice, require_options
from neurobridge.points.progress import progress_bar

_LOG = logging.getLogger(__name__)


def predictivity(
    source: xr.DataArray,
    target: xr.DataArray,
    regression: str = "pls",
    *,
    splits: GivenSplits = None,
    group: str | None = STIMULUS_ID,
    by: str | None = None,
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
        Assembly of the predicted responses: averaged over repetitions, or single trials. Of these, the averages over the training
        trials of each stimulus are fitted, and single held-out trials are predicted. A missing value (NaN) leaves its stimulus out
        of the training and the held-out stimuli of that site alone; see below.
    regression : {"pls", "ridge", "linear", "neuron_to_neuron", "banded"}
        A key of `REGRESSIONS`. "pls" has Brain-Score's 25 components, unscaled; "ridge" chooses a penalty for each neuroid;
        "banded" does so for each of its bands, by himalaya (extra ``himalaya``).
    splits : Splits, str or sequence of (train, test), optional
        Rows of the shared stimuli in the source's order, or a text such as "kfold,n_splits=5" (`splits_from_text`). Default:
        Brain-Score's ten stratified 90/10 splits on ``object_name`` with random state 1, or shuffled ones where there is no such
        coordinate; of few stimuli more are held out, at least three: see `resolve_splits`.
    group : str, optional
        Coordinate of the target's presentations: those with the same value stay on one side of every fold, by default the trials
        of a stimulus. Of another coordinate (objects, sessions) whole groups are held out in turn, ten parts at most. None deals
        single trials, so that a stimulus may be on both sides; ``splits`` are then rows of the target's trials.
    by : {"time_bin"}, optional
        Predict every time bin of the target, on the same folds, from the source or from the same bin of it.
    ceiling : xarray.DataArray, optional
        Reliability of each target neuroid: ``internal_consistency(recordings)["ceiling"]``, which is of averages, not of single
        trials.
    normalization : str
        A key of `NORMALIZATIONS`: "explained_variance" (``r |r| / ceiling``), "squared_ratio" (``r |r| / ceiling^2``)
        or "noise_corrected" (``r / sqrt(ceiling)``).
    n_permutations : int
        Size of the null: the held-out stimuli of the predictions are shuffled.
    seed : int
    progress : bool
        Show a progress bar, on a terminal.
    **options
        Of the regression: ``n_components`` of pls; ``alpha`` or ``alphas`` of ridge (Brain-Score's ridge is ``alpha=1``);
        ``bands`` of banded, the name of a coordinate of the source's neuroids, by default ``layer``, and its ``n_iter``, ``alphas``
        and ``n_folds``. Its weights are drawn with ``seed``, too.

    Returns
    -------
    xarray.Dataset
        The Score that `correlate` describes, with one row of ``raw`` a split. With ``by="time_bin"`` all has the leading dim
        ``time_bin``; a site that is constant in a bin has r = 0 there, with a warning. The null shuffles stimuli, whose trials
        stay together.

    Raises
    ------
    AssemblyError
        Bad assemblies (no shared stimuli, duplicate ones in the source, NaN in the source, constant target neuroids, fewer than
        three held-out values of a target neuroid in a split), unknown regression or option, bad splits.
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
    require_options(
        n_permutations=n_permutations, seed=seed, group=group, by=by, progress=progress, error=AssemblyError
    )
    if regression in BANDED_REGRESSIONS:
        options = {"bands": BANDS, **options}
    shown = "".join(f", {name}={np.asarray(value).tolist()}" for name, value in sorted(options.items()))
    if regression in BANDED_REGRESSIONS:
        options = {**options, "bands": band_labels(source, options["bands"]), "seed": seed}
    if by is None:
        parts = _hold_out(source, target, fit, splits, group, options, progress)
        _warn_of_parts(regression, parts.absent)

    def score_of(parts: _HeldOut, ceiling: xr.DataArray | None, stacklevel: int) -> xr.Dataset:
        score = score_folds(
            parts.folds,
            like=target,
            ceiling=ceiling,
            normalization=normalization,
            n_permutations=n_permutations,
            seed=seed,
            attrs={"metric": f"{regression}{shown}, pearson", **parts.attrs},
            sources=(source, target),
            groups=parts.groups,
            stacklevel=stacklevel,
        )
        return count_missing(score, parts.absent)

    if by is None:
        return score_of(parts, ceiling, 3)
    require_by(by)
    require_bins(target, role="target")
    validate(target, role="target", allow_missing=True)
    of_bin = _bins_held_out(source, target, fit, splits, group, options, progress)
    return gather_bins(lambda k: score_of(of_bin(k), None if ceiling is None else one_bin(ceiling, k), 3), target)


def _warn_of_parts(regression: str, absent: np.ndarray) -> None:
    if regression == "pls" and absent.any():
        warnings.warn(
            f"pls: found {int(absent.sum())} missing values of {absent.size} in the target; sites that miss different stimuli are "
            "fitted apart and share no components. Mend: regression='ridge' fits every site by itself in any case.",
            UserWarning,
            stacklevel=3,
        )


class _HeldOut(NamedTuple):
    """Predictions of held-out presentations.

    Attributes
    ----------
    folds : list of (predicted, observed)
        Arrays of shape (n_test, n_neuroids).
    groups : list of array of int of shape (n_test,), or None
        Stimulus of each held-out trial; None where no stimulus repeats.
    absent : bool array of shape (n_presentations, n_neuroids)
        Missing values.
    attrs : dict
    """

    folds: list[tuple[np.ndarray, np.ndarray]]
    groups: list[np.ndarray] | None
    absent: np.ndarray
    attrs: dict[str, Any]


def _hold_out(
    source: xr.DataArray,
    target: xr.DataArray,
    fit: Any,
    splits: GivenSplits,
    group: str | None,
    options: dict[str, Any],
    progress: bool,
    *,
    varying: bool = True,
) -> _HeldOut:
    """Predict held-out presentations of the target, trained on averages over those of a stimulus."""
    validate(target, role="target", allow_missing=True)
    repeated = pd.Index(target[STIMULUS_ID].values).has_duplicates
    averages = average_repetitions(target) if repeated else target
    X, Y, matched, stimuli = matched_spaces(source, averages, allow_missing=True, varying=varying)
    if not repeated or group is not None:
        folds = resolve_splits(matched, _group_text(matched, splits, group), min_held_out=MIN_CORRELATED)
        predicted = _predict_by_site(fit, X, Y, folds, matched, options, progress)
        attrs = {"splits": folds.description, "n_stimuli": len(X)}
        if not repeated:
            pairs = [(values, Y[test]) for values, (_, test) in zip(predicted, folds, strict=True)]
            return _HeldOut(pairs, None, np.isnan(Y), attrs)
    place = pd.Index(stimuli).get_indexer(pd.Index(target[STIMULUS_ID].values))
    kept = np.flatnonzero(place >= 0)
    place, trials = place[kept], as_matrix(target.isel({PRESENTATION: kept}), role="target", allow_missing=True)
    if group is not None:
        rows = [np.flatnonzero(np.isin(place, test)) for _, test in folds]
        # Held-out stimuli are in the order of the fold.
        of_trial = [
            np.argsort(test)[np.searchsorted(np.sort(test), place[r])] for (_, test), r in zip(folds, rows, strict=True)
        ]
        pairs = [(values[k], trials[r]) for values, k, r in zip(predicted, of_trial, rows, strict=True)]
    else:
        drawn = resolve_splits(target.isel({PRESENTATION: kept}), splits, min_held_out=MIN_CORRELATED)
        rows = [test for _, test in drawn]
        pairs = [
            (_predict_trials(fit, X, trials, place, train, options)[place[test]], trials[test]) for train, test in drawn
        ]
        attrs = {"splits": f"{drawn.description}, of single trials", "n_stimuli": len(X)}
    attrs |= {"n_trials": len(trials), "group": group or ""}
    return _HeldOut(pairs, [place[r] for r in rows], np.isnan(trials), attrs)


def _predict_trials(
    fit: Any, X: np.ndarray, trials: np.ndarray, place: np.ndarray, train: np.ndarray, options: dict[str, Any]
) -> np.ndarray:
    """Predict all stimuli, array (n_stimuli, n_neuroids), from the averages over training trials of those that have some."""
    if np.isnan(trials).any():
        raise AssemblyError(
            f"target: found {int(np.isnan(trials).sum())} missing values in single trials with group=None; expected none. "
            "Mend: leave group out, or neurobridge.assemblies.drop_incomplete(target)."
        )
    shown, codes = np.unique(place[train], return_inverse=True)
    sums = np.zeros((len(shown), trials.shape[1]))
    np.add.at(sums, codes.ravel(), trials[train])
    return np.asarray(fit(X[shown], sums / np.bincount(codes.ravel())[:, None], **options)(X))


def _group_text(matched: xr.DataArray, splits: GivenSplits, group: str | None) -> GivenSplits:
    """Return the splits, or those of whole groups where a coordinate other than the stimuli is named."""
    if splits is not None or group in (None, STIMULUS_ID):
        return splits
    n_groups = len(np.unique(matched[group].values)) if group in matched.coords else 2
    return f"group,label={group},n_splits={min(10, n_groups)}"


def _bins_held_out(
    source: xr.DataArray,
    target: xr.DataArray,
    fit: Any,
    splits: GivenSplits,
    group: str | None,
    options: dict[str, Any],
    progress: bool,
) -> Callable[[int], _HeldOut]:
    """Return a function that gives the predictions of a time bin from its number.

    Regressions that fit every target by itself are fitted to the sites of all bins at a time.
    """
    n_bins, n_sites = target.sizes[TIME_BIN], target.sizes[NEUROID]
    source_bins = source.sizes.get(TIME_BIN, 1)
    if source_bins not in (1, n_bins):
        raise AssemblyError(
            f"found {source_bins} time bins of the source and {n_bins} of the target; expected the same number, or one of the "
            "source. Mend: select the same bins of both, e.g. assembly.isel(time_bin=slice(0, n))."
        )
    require_varying_neuroids(target, role="target")
    arguments = (fit, splits, group, options, progress)
    if fit not in BY_TARGET or source_bins > 1 or bool(target.isnull().any()):
        return lambda k: _hold_out(one_bin(source, k), one_bin(target, k), *arguments, varying=False)
    flat = xr.DataArray(
        target.values.transpose(0, 2, 1).reshape(len(target), -1),
        dims=(PRESENTATION, NEUROID),
        coords={**coords_of(target, PRESENTATION), NEUROID_ID: (NEUROID, np.arange(n_bins * n_sites))},
    )
    whole = _hold_out(source, flat, *arguments, varying=False)

    def of_bin(k: int) -> _HeldOut:
        sites = slice(k * n_sites, (k + 1) * n_sites)
        pairs = [(predicted[:, sites], observed[:, sites]) for predicted, observed in whole.folds]
        return whole._replace(folds=pairs, absent=whole.absent[:, sites])

    return of_bin


def _predict_by_site(
    fit: Any, X: np.ndarray, Y: np.ndarray, folds: Splits, like: xr.DataArray, options: dict[str, Any], progress: bool
) -> list[np.ndarray]:
    """Predict the held-out rows of every fold; sites that miss the same rows are fitted together on the rows that they have."""
    absent = np.isnan(Y)
    started = time.perf_counter()
    if absent.any():
        predicted = _predict_around_missing(fit, X, Y, folds, like, options, progress)
    else:
        predicted = predict_held_out(fit, X, Y, folds, progress=progress, **options)
    _LOG.info(
        "predicted %d neuroids from %d on held-out parts of %d stimuli, %s; %d values missing, %.2f s",
        Y.shape[1], X.shape[1], len(X), folds.description, absent.sum(), time.perf_counter() - started,
    )  # fmt: skip
    return predicted


def _predict_around_missing(
    fit: Any, X: np.ndarray, Y: np.ndarray, folds: Splits, like: xr.DataArray, options: dict[str, Any], progress: bool
) -> list[np.ndarray]:
    absent = np.isnan(Y)
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


def matched_spaces(
    source: xr.DataArray, target: xr.DataArray, *, allow_missing: bool = False, varying: bool = True
) -> MatchedSpaces:
    """Check two assemblies and take the values of their shared stimuli.

    ``allow_missing`` allows NaN in the target, ``varying=False`` neuroids that are constant.

    Raises
    ------
    AssemblyError
        Bad assemblies, no shared stimulus, or a target neuroid that is constant over the shared ones.
    """
    for role, assembly in (("source", source), ("target", target)):
        validate(assembly, role=role, allow_missing=allow_missing and role == "target")
    matched = match_stimuli(source, target)
    if varying:
        require_varying_neuroids(matched.target, role="target")
    X = as_matrix(matched.source, role="source")
    Y = as_matrix(matched.target, role="target", allow_missing=allow_missing)
    return MatchedSpaces(X, Y, matched.target, np.asarray(matched.target[STIMULUS_ID].values))
