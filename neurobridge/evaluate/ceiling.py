"""Ceilings: the reliability of recordings over repetitions and across animals."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse
from sklearn.model_selection import ShuffleSplit

from neurobridge.assemblies import (
    AssemblyError,
    average_repetitions,
    coords_of,
    require_varying_neuroids,
    validate,
)
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, REPETITION, STIMULUS_ID, blocks
from neurobridge.evaluate.correlation import MIN_CORRELATED, pearson
from neurobridge.evaluate.folds import Splits
from neurobridge.evaluate.predict import GivenSplits, predictivity
from neurobridge.evaluate.score.schema import SPLIT, make_score, neuroid_score, score_attrs, warn_low_ceilings
from neurobridge.evaluate.splits import animal_splits, resolve_splits
from neurobridge.points.blocks import row_blocks
from neurobridge.points.conversion import real_array

#: Stimuli that split halves need. Over four, the r of two unrelated halves is uniform on [-1, 1], and the mean of
#: 2 r / (1 + r) does not exist.
MIN_STIMULI = 5
# Least r of two halves: towards -1, where few stimuli lie on a falling line by chance, 2 r / (1 + r) has no bound.
_MIN_R = -0.999
# Presentations whose responses are turned to double precision at a time.
_CHUNK = 8192


def spearman_brown(r: np.ndarray, factor: float = 2.0) -> np.ndarray:
    """Predict the reliability of a measurement ``factor`` times as long (Spearman 1910, Brown 1910).

    Parameters
    ----------
    r : array of any shape
        Correlation of two measurements of the length at hand.
    factor : float

    Returns
    -------
    array of the shape of r
        ``factor r / (1 + (factor - 1) r)``; NaN where the denominator is not positive: no reliability makes two measurements
        as contrary as that.

    Examples
    --------
    >>> from neurobridge.evaluate import spearman_brown
    >>> [round(float(spearman_brown(0.5, factor=factor)), 2) for factor in (2, 3)]
    [0.67, 0.75]
    """
    r = real_array(r, name="r").astype(np.float64, copy=False)
    denominator = 1 + (factor - 1) * r
    return (factor * r / np.where(denominator > 0, denominator, np.nan))[()]


def internal_consistency(
    recordings: xr.DataArray,
    *,
    n_splits: int = 10,
    halves: str = "stimulus",
    n_bootstrap: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Estimate the reliability of every neuroid by split halves of its repetitions, Spearman-Brown corrected.

    The repetitions of each stimulus are dealt at random into two halves; the halves' averages are correlated over stimuli, and the
    correlation r of two halves is extrapolated to all repetitions, ``2 r / (1 + r)`` (Spearman 1910, Brown 1910).

    A model that predicts the noiseless response correlates with the average over all repetitions at most by the *square root* of
    this reliability; ``r^2`` is therefore normalised by the reliability itself.

    Parameters
    ----------
    recordings : xarray.DataArray
        One presentation a trial, dims ``(presentation, neuroid[, time_bin of size 1])``; five stimuli or more, every one at
        least twice.
    n_splits : int
        Random halvings that are averaged.
    halves : {"stimulus", "repetition"}
        "stimulus" deals the repetitions of every stimulus afresh, as evenly as they can be. "repetition" puts whole repetition
        numbers into one half, the same for all stimuli; with ``seed=1`` these are the halves of Brain-Score's
        ``internal_consistency``.
    n_bootstrap : int
        Draws of the stimuli, with replacement, for the intervals; 0 leaves them out. In a draw without variation r counts as 0,
        below -0.999 as that.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int

    Returns
    -------
    xarray.Dataset
        Score: ``raw`` (split, neuroid), the correlation of the halves; ``ceiling`` (neuroid), the mean corrected reliability,
        which chance makes negative for a neuroid without signal and which is not clipped (a warning counts those not above
        zero), and NaN with a warning where two halves have r below -0.999; no null, and nothing normalised. And ``ceiling_low`` and
        ``ceiling_high`` (neuroid), percentiles of the bootstrap; ``median``, ``median_low`` and
        ``median_high``, the median over neuroids and its interval. Attribute ``error``: standard error of the median over the
        halvings.

    Raises
    ------
    AssemblyError
        Fewer than five stimuli; a stimulus has one presentation only, or none in one half; a neuroid is constant; no
        ``repetition`` to halve by.

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
    validate(recordings, role="recordings")
    require_varying_neuroids(recordings, role="recordings")
    if recordings.ndim == 3:
        if recordings.sizes[recordings.dims[2]] != 1:
            raise AssemblyError(
                f"recordings: found {recordings.sizes[recordings.dims[2]]} time bins; expected one. "
                "Mend: select one, e.g. recordings.isel(time_bin=0)."
            )
        recordings = recordings.isel({recordings.dims[2]: 0})
    codes, ids = pd.factorize(np.asarray(recordings[STIMULUS_ID].values))
    if len(ids) < MIN_STIMULI:
        raise AssemblyError(
            f"recordings: found {len(ids)} stimuli; expected at least {MIN_STIMULI}: over fewer, the correlation of two halves "
            "says nothing of their reliability. Mend: keep the repetitions of more stimuli, or score without a ceiling."
        )
    in_first_half = deal_halves(recordings, codes, np.asarray(ids), halves, n_splits, seed)
    means = half_means(recordings, codes, in_first_half)

    raw, n_constant = [], 0
    for first_half, second_half in means:
        r, varies = pearson(first_half, second_half)
        raw.append(r)
        n_constant += int((~varies).sum())
    if n_constant:
        warnings.warn(
            f"found {n_constant} neuroid(s) constant in one half of the repetitions; their halves count as r = 0.",
            UserWarning,
            stacklevel=2,
        )
    halves_r = np.stack(raw)
    corrected = spearman_brown(np.where(halves_r < _MIN_R, np.nan, halves_r))
    undefined = np.isnan(corrected).any(axis=0)
    if undefined.any():
        warnings.warn(
            f"found {int(undefined.sum())} neuroid(s) whose halves are contrary (r below {_MIN_R}), e.g. "
            f"{str(recordings[NEUROID_ID].values[undefined][0])!r}; their ceiling is NaN, and the median leaves them out.",
            UserWarning,
            stacklevel=2,
        )
    ceiling = corrected.mean(axis=0)
    n_low = warn_low_ceilings(ceiling, stacklevel=2)
    by_split = np.median(corrected[:, ~undefined], axis=1) if not undefined.all() else np.full(n_splits, np.nan)
    extra: dict[str, Any] = {"median": float(by_split.mean())}
    if n_bootstrap:
        drawn = _bootstrap(means, n_bootstrap, seed)
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        low, high = (np.where(undefined, np.nan, bound) for bound in np.quantile(drawn, tails, axis=0))
        median_low, median_high = np.quantile(np.median(drawn, axis=1), tails)
        extra |= {"ceiling_low": (NEUROID, low), "ceiling_high": (NEUROID, high)}
        extra |= {"median_low": float(median_low), "median_high": float(median_high)}
    attrs = {
        "metric": "split-half Pearson, Spearman-Brown",
        "splits": f"{n_splits} halvings by {halves}",
        "n_stimuli": len(ids),
        "n_bootstrap": n_bootstrap,
        "confidence": confidence,
        "error": float(by_split.std() / np.sqrt(n_splits)),
        "n_ceilings_not_positive": n_low,
    }
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


def deal_halves(
    recordings: xr.DataArray, codes: np.ndarray, ids: np.ndarray, halves: str, n_splits: int, seed: int
) -> np.ndarray:
    """Deal the presentations into halves: bool array of shape (n_splits, n_presentations), true for the first half."""
    if halves not in _DEAL:
        raise AssemblyError(f"found halves={halves!r}; expected one of {sorted(_DEAL)}. Mend: choose one of them.")
    counts = np.bincount(codes)
    if counts.min() < 2:
        unrepeated = ids[int(counts.argmin())]
        raise AssemblyError(
            f"found {int((counts < 2).sum())} stimuli with one presentation, e.g. {str(unrepeated)!r}; expected at least two "
            "repetitions of each. Mend: select the repeated stimuli, or use a ceiling that needs no repetitions."
        )
    first = _DEAL[halves](recordings, codes, counts, n_splits, seed)
    for half in first:
        share = np.bincount(codes, weights=half, minlength=len(counts))
        one_sided = (share == 0) | (share == counts)
        if one_sided.any():
            raise AssemblyError(
                f"found {int(one_sided.sum())} stimuli without a presentation in one half, e.g. {str(ids[one_sided][0])!r}; "
                "expected each in both. "
                "Mend: halves='stimulus', which deals the repetitions of every stimulus evenly."
            )
    return first


def _deal_stimulus(_: xr.DataArray, codes: np.ndarray, counts: np.ndarray, n_splits: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    first = np.empty((n_splits, len(codes)), dtype=bool)
    for half in first:
        order = np.lexsort((rng.random(len(codes)), codes))
        rank = np.empty(len(codes), dtype=np.intp)
        rank[order] = np.arange(len(codes)) - np.repeat(starts, counts)
        # Which half gets the odd one out is drawn per stimulus, so neither half is favoured.
        half[:] = (rank + rng.integers(0, 2, size=len(counts))[codes]) % 2 == 0
    return first


def _deal_repetition(
    recordings: xr.DataArray, codes: np.ndarray, counts: np.ndarray, n_splits: int, seed: int
) -> np.ndarray:
    if REPETITION not in recordings.coords or recordings[REPETITION].dims != (PRESENTATION,):
        raise AssemblyError(
            "recordings: found no coordinate 'repetition' on 'presentation'; expected it to halve by repetition numbers. "
            "Mend: halves='stimulus'."
        )
    numbers, code = np.unique(recordings[REPETITION].values, return_inverse=True)
    drawn = ShuffleSplit(n_splits, train_size=0.5, random_state=seed).split(numbers)
    return np.stack([np.isin(code, train) for train, _ in drawn])


_DEAL: dict[str, Callable[[xr.DataArray, np.ndarray, np.ndarray, int, int], np.ndarray]] = {
    "stimulus": _deal_stimulus,
    "repetition": _deal_repetition,
}


def half_means(recordings: xr.DataArray, codes: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Average both halves of all halvings, array of shape (n_splits, 2, n_stimuli, n_neuroids).

    The recordings are read once: presentations are gathered stimulus by stimulus, a piece at a time, and one sparse product
    gives the sums of all halves. Double precision, so that a constant response stays constant.
    """
    n_splits, n_stimuli = len(first), int(codes.max()) + 1
    sums = np.zeros((2 * n_splits, n_stimuli, recordings.sizes[NEUROID]))
    side = np.concatenate([first, ~first])
    for rows, values in blocks(recordings, role="recordings"):
        start = rows.start
        order = np.argsort(codes[rows], kind="stable")
        for part_rows in row_blocks(len(order), 1, budget=_CHUNK):
            chunk = order[part_rows]
            code, inside = codes[start + chunk], side[:, start + chunk]
            base, width = int(code[0]), int(code[-1] - code[0]) + 1
            half, column = np.nonzero(inside)
            indicator = sparse.csr_matrix(
                (np.ones(len(half)), (half * width + code[column] - base, column)),
                shape=(len(side) * width, len(chunk)),
            )
            part = indicator @ values[chunk].astype(np.float64)
            sums[:, base : base + width] += part.reshape(len(side), width, -1)
    counts = np.stack([np.bincount(codes, weights=half, minlength=n_stimuli) for half in side])
    sums /= counts[:, :, None]
    return sums.reshape(2, n_splits, n_stimuli, -1).swapaxes(0, 1)


def _bootstrap(means: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Estimate the ceiling of every neuroid over resampled stimuli, array of shape (n_bootstrap, n_neuroids)."""
    # How often each stimulus is drawn; weighted moments then replace the resampled arrays.
    weights = _resamples(means.shape[2], n_bootstrap, seed)
    total = np.zeros((n_bootstrap, means.shape[3]))
    for pair in means:
        centred = pair - pair.mean(axis=1, keepdims=True)
        scale = centred.std(axis=1, keepdims=True)
        total += _corrected(centred / np.where(scale > 0, scale, 1), weights)
    return total / len(means)


def _resamples(n_stimuli: int, n_bootstrap: int, seed: int) -> np.ndarray:
    """Draw the weights of resampled stimuli, array of shape (n_bootstrap, n_stimuli), rows that sum to 1.

    Rows with fewer than three different stimuli, over which r is always 1 or -1, are drawn again.
    """
    rng = np.random.default_rng(seed)
    even = np.full(n_stimuli, 1 / n_stimuli)
    counts = rng.multinomial(n_stimuli, even, size=n_bootstrap)
    while (few := np.flatnonzero((counts > 0).sum(axis=1) < 3)).size:
        counts[few] = rng.multinomial(n_stimuli, even, size=len(few))
    weights = counts.astype(np.float32)
    weights /= n_stimuli
    return weights


def _corrected(pair: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Estimate the corrected reliability of every resample and neuroid from two standardised halves.

    Moments in single precision; where a resample leaves little of the variance, as of a site that responds to one stimulus, these
    have no digits left and are computed again in double precision.

    Parameters
    ----------
    pair : array of shape (2, n_stimuli, n_neuroids)
    weights : array of shape (n_bootstrap, n_stimuli)

    Returns
    -------
    array of shape (n_bootstrap, n_neuroids)
        0 for a resample in which a half does not vary.
    """
    r, doubtful = _weighted_r(pair.astype(np.float32), weights, 1e-3)
    sites = np.flatnonzero(doubtful.any(axis=0))
    if sites.size:
        exact, constant = _weighted_r(pair[:, :, sites].astype(np.float64), weights.astype(np.float64), 1e-12)
        r[:, sites] = np.where(doubtful[:, sites], np.where(constant, 0, exact), r[:, sites])
    return spearman_brown(np.maximum(r, _MIN_R))


def _weighted_r(pair: np.ndarray, weights: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted correlations, and where a variance is below ``floor`` of the second moment: no r is known there."""
    a, b = pair
    ma, mb, aa, bb, ab = np.split(weights @ np.concatenate([a, b, a * a, b * b, a * b], axis=1), 5, axis=1)
    unknown = ~((aa - ma**2 > floor * aa) & (bb - mb**2 > floor * bb))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (ab - ma * mb) / np.sqrt((aa - ma**2) * (bb - mb**2)), unknown


def cross_animal_consistency(
    recordings: xr.DataArray,
    *,
    regression: str = "pls",
    animal: str = "animal",
    splits: GivenSplits = None,
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
        With the coordinate ``animal`` on ``neuroid``; averaged over repetitions if stimuli repeat.
    regression : str
        A key of `REGRESSIONS`.
    animal : str
        Coordinate that tells the animals apart.
    splits, ceiling, normalization, n_permutations, seed, **options
        As in `predictivity`; the same stimulus splits for every animal.

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
    validate(recordings, role="recordings")
    by_animal = animal_splits(recordings, animal=animal)
    if pd.Index(recordings[STIMULUS_ID].values).has_duplicates:
        recordings = average_repetitions(recordings)
    folds: Splits = resolve_splits(recordings, splits, min_held_out=MIN_CORRELATED)
    parts = [
        predictivity(
            recordings.isel({NEUROID: others}),
            recordings.isel({NEUROID: predicted}),
            regression,
            splits=folds,
            n_permutations=n_permutations // len(by_animal),
            seed=seed,
            **options,
        )
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
        stacklevel=2,
    )
