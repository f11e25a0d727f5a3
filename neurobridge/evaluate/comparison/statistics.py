"""Paired differences of drawn scores, corrected p-values, and ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import false_discovery_control, rankdata

from neurobridge.evaluate.comparison.spaces import interval


class Paired(NamedTuple):
    """Differences of all ordered pairs of models, arrays of shape (n_models, n_models); NaN on the diagonal.

    Attributes
    ----------
    difference, low, high : arrays
        Row minus column, with the bounds of its interval.
    p_value, p_corrected : arrays
        Two-sided, of a difference of zero; corrected for all pairs of models.
    """

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray
    p_corrected: np.ndarray


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values for their number, stepping down (Holm 1979): the chance of one false alarm or more stays below the level.

    Parameters
    ----------
    p : array of shape (n_tests,)

    Returns
    -------
    array of shape (n_tests,)

    Examples
    --------
    >>> import numpy as np
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


#: Corrections of p-values for the number of pairs: "holm" bounds the chance of any false alarm, "fdr" the share of false ones among
#: the significant pairs (Benjamini & Hochberg 1995).
CORRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"holm": holm, "fdr": false_discovery_control}


def corrected_draws(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Shrink draws of stimuli and sites towards the value, to the variance that both together have.

    Drawing two factors at once counts what belongs to neither alone three times. From the variances of drawing both, the stimuli
    and the sites, ``2 (v_stimuli + v_sites) - v_both`` counts it once (Schütt et al. 2023, eLife, equation 14); it is kept
    between the larger of the two single ones and that of both.

    Parameters
    ----------
    values : array of shape (n,)
    draws : array of shape (n, 3, n_draws)
        Of both, of stimuli alone and of sites alone.

    Returns
    -------
    array of shape (n, n_draws)
    """
    if draws.shape[2] == 0:
        return draws[:, 0]
    both, stimuli, sites = np.moveaxis(draws.var(axis=2), 1, 0)
    variance = np.clip(
        2 * (stimuli + sites) - both, np.maximum(stimuli, sites), np.maximum(both, np.maximum(stimuli, sites))
    )
    factor = np.sqrt(np.divide(variance, both, out=np.ones_like(both), where=both > 0))
    return np.asarray(values[:, None] + factor[:, None] * (draws[:, 0] - values[:, None]))


def paired_differences(values: np.ndarray, draws: np.ndarray, correction: str, confidence: float) -> Paired:
    """Compare all pairs of models on the same draws.

    Parameters
    ----------
    values : array of shape (n_models,)
    draws : array of shape (n_models, 3, n_draws)
        Of both, of stimuli alone and of sites alone; draw d is of the same ones for all models.
    correction : str
        A key of `CORRECTIONS`.
    confidence : float

    Returns
    -------
    Paired
    """
    n, _, n_draws = draws.shape
    difference = values[:, None] - values[None, :]
    low, high, p, corrected = (np.full((n, n), np.nan) for _ in range(4))
    np.fill_diagonal(difference, np.nan)
    first, second = np.triu_indices(n, k=1)
    if n_draws and len(first):
        drawn = corrected_draws(difference[first, second], draws[first] - draws[second])
        below, above = interval(drawn, confidence, axis=1)
        rarer = np.minimum((drawn <= 0).sum(axis=1), (drawn >= 0).sum(axis=1))
        raw = np.minimum(1, 2 * (1 + rarer) / (1 + n_draws))
        both = (first, second), (second, first)
        for at, bounds in zip(both, ((below, above), (-above, -below)), strict=True):
            low[at], high[at] = bounds
            p[at], corrected[at] = raw, CORRECTIONS[correction](raw)
    return Paired(difference, low, high, p, corrected)


def ranks(values: np.ndarray, draws: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank models, 1 the best and equals in the middle; with the interval of each rank over the draws.

    Returns
    -------
    rank, low, high : arrays of shape (n_models,)
    """
    low, high = interval(rankdata(-draws, axis=0), confidence, axis=1)
    return rankdata(-values), low, high
