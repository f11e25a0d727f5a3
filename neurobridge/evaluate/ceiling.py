"""Ceilings: the reliability of recordings over repetitions and across animals."""

from __future__ import annotations

import logging
import time
import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import (
    AssemblyError,
    average_repetitions,
    coords_of,
    missing_values,
    require_varying_neuroids,
    validate,
)
from neurobridge.assemblies.missing import sites_by_missing
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.correlation import MIN_CORRELATED
from neurobridge.evaluate.folds import Splits
from neurobridge.evaluate.halves import MIN_R, MIN_STIMULI, gather_sites, halves_of_sites, spearman_brown
from neurobridge.evaluate.predict import GivenSplits, predictivity
from neurobridge.evaluate.score.schema import SPLIT, make_score, neuroid_score, score_attrs, warn_low_ceilings
from neurobridge.evaluate.splits import animal_splits, resolve_splits
from neurobridge.evaluate.time_bins.stacking import score_bins
from neurobridge.points.options import require_count, require_options, require_share
from neurobridge.points.progress import progress_bar

_LOG = logging.getLogger(__name__)


def internal_consistency(
    recordings: xr.DataArray,
    *,
    n_splits: int = 10,
    halves: str = "stimulus",
    by: str | None = None,
    n_bootstrap: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    """Estimate the reliability of every neuroid by split halves of its repetitions, Spearman-Brown corrected.

    The repetitions of each stimulus are dealt at random into two halves; the halves' averages are correlated over stimuli, and the
    correlation r of two halves is extrapolated to all repetitions, ``2 r / (1 + r)`` (Spearman 1910, Brown 1910).

    A model that predicts the noiseless response correlates with the average over all repetitions at most by the *square root* of
    this reliability; ``r^2`` is therefore normalised by the reliability itself.

    Parameters
    ----------
    recordings : xarray.DataArray
        One presentation a trial, dims ``(presentation, neuroid[, time_bin])``, one time bin without ``by``; five stimuli or
        more that were presented twice or more, not necessarily equally often.
    n_splits : int
        Random halvings that are averaged.
    halves : {"stimulus", "repetition"}
        "stimulus" deals the repetitions of every stimulus afresh, as evenly as they can be. "repetition" puts whole repetition
        numbers into one half, the same for all stimuli; with ``seed=1`` these are the halves of Brain-Score's
        ``internal_consistency``.
    by : {"time_bin"}, optional
        Estimate the reliability in every time bin, by the same halves: all has the leading dim ``time_bin``.
    n_bootstrap : int
        Draws of the stimuli, with replacement, for the intervals; 0 leaves them out. In a draw without variation r counts as 0,
        below -0.999 as that.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int
    progress : bool
        Show a progress bar over groups of sites that miss the same trials, on a terminal.

    Returns
    -------
    xarray.Dataset
        Score: ``raw`` (split, neuroid), the correlation of the halves; ``ceiling`` (neuroid), the mean corrected reliability,
        which chance makes negative for a neuroid without signal and which is not clipped (a warning counts those not above
        zero), and NaN with a warning where two halves have r below -0.999 or a site has fewer than five stimuli; no null, and
        nothing normalised. And ``ceiling_low`` and ``ceiling_high`` (neuroid), percentiles of the bootstrap; ``median``,
        ``median_low`` and ``median_high``, the median over neuroids and its interval. Attribute ``error``: standard error of the
        median over the halvings. Where values are missing, ``n_stimuli_of_site`` (neuroid) counts the stimuli of each site and
        the attribute ``n_missing_values`` the values.

    Warns
    -----
    UserWarning
        Counts what was left out or cannot be defined.

    Raises
    ------
    AssemblyError
        Fewer than five stimuli with two presentations; a stimulus with none in one half (by repetition); a neuroid is constant;
        no ``repetition`` to halve by.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import internal_consistency
    >>> rng = np.random.default_rng(0)  # simulated: 3 sites, 4 repetitions, as much noise as signal in each
    >>> signal = rng.normal(size=(100, 3))
    >>> trials = make_assembly(
    ...     np.concatenate([signal + rng.normal(size=(100, 3)) for _ in range(4)]),
    ...     presentation={"stimulus_id": np.tile(np.arange(100), 4), "repetition": np.repeat(np.arange(4), 100)},
    ...     neuroid={"neuroid_id": range(3)},
    ... )
    >>> ceiling = internal_consistency(trials, n_bootstrap=0)["ceiling"]  # in expectation 1 / (1 + 1 / 4)
    >>> round(float(ceiling.mean()), 1)
    0.8
    """
    require_options(n_bootstrap=n_bootstrap, confidence=confidence, seed=seed, progress=progress, error=AssemblyError)
    require_count(n_splits, name="n_splits", error=AssemblyError)
    require_share(confidence, name="confidence", error=AssemblyError)
    validate(recordings, role="recordings", allow_missing=True)
    require_varying_neuroids(recordings, role="recordings")
    estimate = partial(
        _consistency,
        n_splits=n_splits,
        halves=halves,
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        seed=seed,
        progress=progress,
    )
    if by is not None:
        return score_bins(estimate, by, recordings, roles=("recordings",))
    if recordings.ndim == 3:
        if recordings.sizes[recordings.dims[2]] != 1:
            raise AssemblyError(
                f"recordings: found {recordings.sizes[recordings.dims[2]]} time bins; expected one. "
                "Mend: select one, e.g. recordings.isel(time_bin=0), or by='time_bin'."
            )
        recordings = recordings.isel({recordings.dims[2]: 0})
    return estimate(recordings)


def _consistency(
    recordings: xr.DataArray,
    *,
    n_splits: int,
    halves: str,
    n_bootstrap: int,
    confidence: float,
    seed: int,
    progress: bool,
) -> xr.Dataset:
    """Estimate the reliability as `internal_consistency` does, of valid recordings without time bins."""
    started = time.perf_counter()
    n_stimuli = _warn_of_single(recordings, stacklevel=3)
    absent = missing_values(recordings)
    parts = [
        halves_of_sites(recordings, sites, rows, halves=halves, n_splits=n_splits, n_bootstrap=n_bootstrap, seed=seed)
        for sites, rows in progress_bar(list(sites_by_missing(absent)), progress=progress, desc="ceilings")
    ]
    halves_r = gather_sites([part.halves_r for part in parts], parts)
    n_of_site = gather_sites([np.full((1, len(part.sites)), part.n_stimuli) for part in parts], parts)[0]
    too_few = n_of_site < MIN_STIMULI
    if too_few.all():
        raise AssemblyError(
            f"recordings: found {int(n_of_site.max())} of {len(np.unique(recordings[STIMULUS_ID].values))} stimuli with two "
            f"presentations or more; expected at least {MIN_STIMULI}: over fewer, the correlation of two halves says nothing of "
            "their reliability. Mend: keep the repetitions of more stimuli, or score without a ceiling."
        )
    n_constant = sum(part.n_constant for part in parts)
    if n_constant:
        warnings.warn(
            f"found {n_constant} neuroid(s) constant in one half of the repetitions; their halves count as r = 0.",
            UserWarning,
            stacklevel=3,
        )
    if too_few.any():
        warnings.warn(
            f"found {int(too_few.sum())} neuroid(s) with fewer than {MIN_STIMULI} stimuli of two presentations or more, e.g. "
            f"{str(recordings[NEUROID_ID].values[too_few][0])!r}; their ceiling is NaN, and the median leaves them out.",
            UserWarning,
            stacklevel=3,
        )
    corrected = spearman_brown(np.where(halves_r < MIN_R, np.nan, halves_r))
    contrary = np.isnan(corrected).any(axis=0) & ~too_few
    if contrary.any():
        warnings.warn(
            f"found {int(contrary.sum())} neuroid(s) whose halves are contrary (r below {MIN_R}), e.g. "
            f"{str(recordings[NEUROID_ID].values[contrary][0])!r}; their ceiling is NaN, and the median leaves them out.",
            UserWarning,
            stacklevel=3,
        )
    undefined = contrary | too_few
    ceiling = corrected.mean(axis=0)
    n_low = warn_low_ceilings(ceiling, stacklevel=3)
    by_split = np.median(corrected[:, ~undefined], axis=1) if not undefined.all() else np.full(n_splits, np.nan)
    _LOG.info(
        "ceilings: median %.3f over %d of %d neuroids, %d presentations of %d stimuli, %d halvings, %d draws, %.2f s",
        by_split.mean(), (~undefined).sum(), len(undefined), recordings.sizes[PRESENTATION], n_stimuli, n_splits, n_bootstrap,
        time.perf_counter() - started,
    )  # fmt: skip
    extra: dict[str, Any] = {"median": float(by_split.mean())}
    if n_bootstrap:
        drawn = gather_sites([part.drawn for part in parts], parts)
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        low, high = (np.where(undefined, np.nan, bound) for bound in np.quantile(drawn, tails, axis=0))
        median_low, median_high = np.quantile(np.median(drawn[:, ~too_few], axis=1), tails)
        extra |= {"ceiling_low": (NEUROID, low), "ceiling_high": (NEUROID, high)}
        extra |= {"median_low": float(median_low), "median_high": float(median_high)}
    attrs = {
        "metric": "split-half Pearson, Spearman-Brown",
        "splits": f"{n_splits} halvings by {halves}",
        "n_stimuli": n_stimuli,
        "n_bootstrap": n_bootstrap,
        "confidence": confidence,
        "error": float(by_split.std() / np.sqrt(n_splits)),
        "n_ceilings_not_positive": n_low,
    }
    if absent.any():
        extra["n_stimuli_of_site"] = (NEUROID, n_of_site)
        attrs["n_missing_values"] = int(absent.sum())
    return make_score(
        halves_r,
        (SPLIT, NEUROID),
        ceiling=ceiling,
        # The reliability is the ceiling of other scores, not of the correlation of two halves.
        normalized=np.full(len(ceiling), np.nan),
        extra=extra,
        coords=coords_of(recordings, NEUROID),
        attrs=score_attrs(attrs, n_splits, 0, seed, (recordings,)),
    )


def _warn_of_single(recordings: xr.DataArray, *, stacklevel: int) -> int:
    """Warn of stimuli that were presented once, and return the number of the others."""
    codes, ids = pd.factorize(np.asarray(recordings[STIMULUS_ID].values))
    single = np.bincount(codes) < 2
    if single.any() and not single.all():
        warnings.warn(
            f"found {int(single.sum())} of {len(ids)} stimuli with one presentation, e.g. {str(ids[single][0])!r}; they "
            "have no two halves and are left out.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return int((~single).sum())


def cross_animal_consistency(
    recordings: xr.DataArray,
    *,
    regression: str = "pls",
    animal: str = "animal",
    splits: GivenSplits = None,
    by: str | None = None,
    ceiling: xr.DataArray | None = None,
    normalization: str = "explained_variance",
    n_permutations: int = 1000,
    seed: int = 0,
    **options: Any,
) -> xr.Dataset:
    """Predict every animal's sites from the other animals' sites, on held-out stimuli: a ceiling across animals.

    It is the score that a perfect model of *another brain* of the species reaches with these sites. It is bounded by the number
    of sites of the predicting animals and by their noise, so a model with many features may exceed it.

    Parameters
    ----------
    recordings : xarray.DataArray
        With the coordinate ``animal`` on ``neuroid``; averaged over repetitions if stimuli repeat. Every site predicts and so
        needs a value of every stimulus: missing values that are left in the averages are refused.
    regression : str
        A key of `REGRESSIONS`.
    animal : str
        Coordinate that tells the animals apart.
    splits, ceiling, normalization, n_permutations, seed, **options
        As in `predictivity`; the same stimulus splits for every animal.
    by : {"time_bin"}, optional
        Every time bin from the same bin of the other animals: all has the leading dim ``time_bin``.

    Returns
    -------
    xarray.Dataset
        The Score of all sites, in the order of the recordings; ``null`` holds the permutations of every animal in turn, and
        ``null_site_95`` is the largest of the animals.

    Raises
    ------
    AssemblyError
        No such coordinate, one animal only, or an error of `predictivity`.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import cross_animal_consistency
    >>> rng = np.random.default_rng(0)  # simulated: sites of two animals share four latents
    >>> responses = rng.normal(size=(100, 4)) @ rng.normal(size=(4, 12)) + rng.normal(size=(100, 12))
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(100)},
    ...     neuroid={"neuroid_id": range(12), "animal": ["first", "second"] * 6},
    ... )
    >>> score = cross_animal_consistency(recordings, regression="ridge", n_permutations=100)
    >>> score["raw"].sizes["neuroid"], float(score["raw"].median()) > float(score["null_site_95"])
    (12, True)
    """
    validate(recordings, role="recordings", allow_missing=True)
    by_animal = animal_splits(recordings, animal=animal)
    if pd.Index(recordings[STIMULUS_ID].values).has_duplicates:
        recordings = average_repetitions(recordings)
    validate(recordings, role="recordings")
    folds: Splits = resolve_splits(recordings, splits, min_held_out=MIN_CORRELATED)
    options |= {
        "regression": regression,
        "splits": folds,
        "seed": seed,
        "n_permutations": n_permutations // len(by_animal),
    }
    named: dict[str, Any] = {"animal": animal, "ceiling": ceiling, "normalization": normalization}
    estimate: Any = partial(_across, by_animal=by_animal, options=options, **named)
    return estimate(recordings) if by is None else score_bins(estimate, by, recordings, roles=("recordings",))


def _across(
    recordings: xr.DataArray, *, by_animal: Splits, animal: str, ceiling: Any, normalization: str, options: Any
) -> xr.Dataset:
    """Predict the sites of every animal in turn, of averaged recordings without time bins."""
    parts = [
        predictivity(recordings.isel({NEUROID: others}), recordings.isel({NEUROID: predicted}), **options)
        for others, predicted in by_animal
    ]
    order = np.argsort(np.concatenate([predicted for _, predicted in by_animal]))
    null = np.concatenate([part["null"].values for part in parts])
    return neuroid_score(
        np.concatenate([part["raw"].values for part in parts], axis=1)[:, order],
        null,
        null_site_95=max(float(part["null_site_95"]) for part in parts),
        like=recordings,
        ceiling=ceiling,
        normalization=normalization,
        attrs=parts[0].attrs
        | {"metric": f"across {animal}s: {parts[0].attrs['metric']}", "n_permutations": len(null)}
        | {"n_constant_predictions": sum(part.attrs["n_constant_predictions"] for part in parts)},
        stacklevel=3,
    )
