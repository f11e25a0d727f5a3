"""Split halves of repetitions: how they are dealt, averaged, and extrapolated to all repetitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse
from sklearn.model_selection import ShuffleSplit

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, REPETITION, STIMULUS_ID, blocks
from neurobridge.evaluate.correlation import pearson
from neurobridge.points.blocks import row_blocks
from neurobridge.points.conversion import real_array
from neurobridge.points.options import is_choice

#: Stimuli that split halves need. Over four, the r of two unrelated halves is uniform on [-1, 1], and the mean of
#: 2 r / (1 + r) does not exist.
MIN_STIMULI = 5
#: Least r of two halves: towards -1, where few stimuli lie on a falling line by chance, 2 r / (1 + r) has no bound.
MIN_R = -0.999
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


def deal_halves(
    recordings: xr.DataArray, codes: np.ndarray, ids: np.ndarray, halves: str, n_splits: int, seed: int
) -> np.ndarray:
    """Deal the presentations into halves: bool array of shape (n_splits, n_presentations), true for the first half."""
    if not is_choice(halves, _DEAL):
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


def bootstrap_reliability(means: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
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
    return spearman_brown(np.maximum(r, MIN_R))


def _weighted_r(pair: np.ndarray, weights: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted correlations, and where a variance is below ``floor`` of the second moment: no r is known there."""
    a, b = pair
    ma, mb, aa, bb, ab = np.split(weights @ np.concatenate([a, b, a * a, b * b, a * b], axis=1), 5, axis=1)
    unknown = ~((aa - ma**2 > floor * aa) & (bb - mb**2 > floor * bb))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (ab - ma * mb) / np.sqrt((aa - ma**2) * (bb - mb**2)), unknown


class SiteHalves(NamedTuple):
    """Halves of the sites that miss the same presentations.

    Attributes
    ----------
    sites : int array of shape (n_sites,)
    halves_r : array of shape (n_splits, n_sites)
        NaN where there are too few stimuli.
    drawn : array of shape (n_bootstrap, n_sites)
    n_stimuli, n_constant : int
    """

    sites: np.ndarray
    halves_r: np.ndarray
    drawn: np.ndarray
    n_stimuli: int
    n_constant: int


def halves_of_sites(
    recordings: xr.DataArray,
    sites: np.ndarray,
    rows: np.ndarray,
    *,
    halves: str,
    n_splits: int,
    n_bootstrap: int,
    seed: int,
) -> SiteHalves:
    """Correlate the halves of some sites over the presentations that they have, of the stimuli with two or more."""
    codes, ids = pd.factorize(np.asarray(recordings[STIMULUS_ID].values[rows]))
    repeated = np.bincount(codes)[codes] > 1
    if not repeated.all():
        rows = rows[repeated]
        codes, ids = pd.factorize(np.asarray(recordings[STIMULUS_ID].values[rows]))
    if len(ids) < MIN_STIMULI:
        nothing = np.full((n_splits, len(sites)), np.nan), np.full((n_bootstrap, len(sites)), np.nan)
        return SiteHalves(sites, *nothing, n_stimuli=len(ids), n_constant=0)
    if len(rows) < recordings.sizes[PRESENTATION] or len(sites) < recordings.sizes[NEUROID]:
        recordings = recordings.isel({PRESENTATION: rows, NEUROID: sites})
    in_first_half = deal_halves(recordings, codes, np.asarray(ids), halves, n_splits, seed)
    means = half_means(recordings, codes, in_first_half)
    raw, n_constant = [], 0
    for first_half, second_half in means:
        r, varies = pearson(first_half, second_half)
        raw.append(r)
        n_constant += int((~varies).sum())
    drawn = bootstrap_reliability(means, n_bootstrap, seed) if n_bootstrap else np.empty((0, len(sites)))
    return SiteHalves(sites, np.stack(raw), drawn, len(ids), n_constant)


def gather_sites(arrays: list[np.ndarray], parts: list[SiteHalves]) -> np.ndarray:
    """Put the columns of all parts in the order of the sites."""
    if len(parts) == 1:
        return arrays[0]
    return np.concatenate(arrays, axis=1)[:, np.argsort(np.concatenate([part.sites for part in parts]))]
