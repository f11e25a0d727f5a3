"""Wrong pairs: which look wrong, and if pairs of this precision could show it at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binom

from neurobridge.bridge.diagnosis.statistics import coordinates, ranks_of_partners

# Thresholds; docs/diagnostics.md gives the reason of each.
LEAST_SUSPECT_RANK, LARGEST_SUSPECT_RANK = 0.25, 0.4
MOST_OUTLIERS = 0.1
FEWEST_OUTLIERS = 3
LARGEST_MEDIAN_RANK = 0.2
#: Share of the pairs that are exchanged in a simulation.
EXCHANGED = 0.25
#: Least share of the simulations in which exchanged pairs are noticed, for silence to mean anything.
LEAST_POWER = 0.8

_SIMULATIONS = 12
# With 20 simulated pairs, 3 of 30 healthy draws had false alarms at 0.25, none of 24 at 0.4.
_FEWEST_FOR_LEAST_RANK = 40
_FEWEST_PAIRS = 8
# Of more pairs so many are drawn for the simulations, which makes them cautious.
_MOST_SIMULATED = 100

Answer = Literal["wrong pairs", "none seen", "cannot tell"]


@dataclass(frozen=True)
class WrongPairs:
    """Answer to the question if pairs are wrong, and how much it is worth.

    Attributes
    ----------
    answer : {"wrong pairs", "none seen", "cannot tell"}
        "wrong pairs" where more pairs look wrong than imprecision explains; "none seen" where that is not so and it would
        have been noticed; "cannot tell" where it might not have been.
    power : float
        Share of simulations in which it was noticed that a quarter of the user's own pairs had been exchanged among
        themselves; NaN below eight pairs, and where wrong pairs were found.
    reason : str
        Why, in a sentence with its numbers.

    Examples
    --------
    Forty pairs whose relation is mostly noise, and others whose relation is clear:

    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, diagnose
    >>> X, noise = np.random.default_rng(0).normal(size=(2, 80, 6))
    >>> pairs = np.arange(40), np.arange(40)
    >>> diagnose(bridge_cost(X, X + 2 * noise, pairs), warn=False).wrong_pairs.answer
    'cannot tell'
    >>> verdict = diagnose(bridge_cost(X, X + 0.1 * noise, pairs), warn=False).wrong_pairs
    >>> verdict.answer, verdict.power > 0.8
    ('none seen', True)
    """

    answer: Answer
    power: float
    reason: str


def suspect_rank(pair_rank: np.ndarray) -> float:
    """Return the rank above which a pair looks wrong: eight times the median rank, from 0.25 to 0.4; 0.4 below 40 pairs."""
    least = LEAST_SUSPECT_RANK if len(pair_rank) >= _FEWEST_FOR_LEAST_RANK else LARGEST_SUSPECT_RANK
    return float(np.clip(8 * np.median(pair_rank), least, LARGEST_SUSPECT_RANK))


def suspects(pair_rank: np.ndarray) -> np.ndarray:
    """Return the pairs that look wrong, worst first; none where the pairs predict one another too poorly to tell."""
    can_tell = float(np.median(pair_rank)) <= LARGEST_MEDIAN_RANK
    suspect = np.flatnonzero(pair_rank > suspect_rank(pair_rank)) if can_tell else np.empty(0, dtype=np.int64)
    return suspect[np.argsort(-pair_rank[suspect], kind="stable")]


def many_suspects(pair_rank: np.ndarray) -> bool:
    """Tell if more pairs look wrong than a few, and than right but imprecise pairs leave by chance."""
    n_suspect = len(suspects(pair_rank))
    return n_suspect / len(pair_rank) > MOST_OUTLIERS and n_suspect >= max(FEWEST_OUTLIERS, _by_chance(pair_rank))


def judge(C: np.ndarray, D: np.ndarray, pair_rank: np.ndarray, rng: np.random.Generator) -> WrongPairs:
    """Answer if pairs are wrong.

    Parameters
    ----------
    C, D : arrays of shape (k, k)
        Distances between the anchors of either space.
    pair_rank : array of shape (k,)
        From `pair_ranks`.
    rng : numpy.random.Generator
        Of the exchanges.

    Returns
    -------
    WrongPairs
    """
    k = len(pair_rank)
    if k < _FEWEST_PAIRS:
        return WrongPairs("cannot tell", float("nan"), f"{k} pairs are fewer than {_FEWEST_PAIRS}")
    if many_suspects(pair_rank):
        n_suspect = len(suspects(pair_rank))
        share = suspect_rank(pair_rank)
        reason = f"{n_suspect} of {k} pairs have more than {share:.0%} of the wrong partners nearer than their own"
        return WrongPairs("wrong pairs", float("nan"), reason)
    power = _power(C, D, rng)
    reason = f"of {_SIMULATIONS} exchanges of {EXCHANGED * 100:.0f} % of these pairs, {power * 100:.0f} % were noticed"
    if power >= LEAST_POWER:
        return WrongPairs("none seen", power, reason)
    median = float(np.median(pair_rank))
    known = (
        "no better than chance" if median >= 0.45 else "too poorly" if median > LARGEST_MEDIAN_RANK else "imprecisely"
    )
    return WrongPairs(
        "cannot tell", power, f"the pairs predict one another {known} (median rank {median:.2f}): {reason}"
    )


def _power(C: np.ndarray, D: np.ndarray, rng: np.random.Generator) -> float:
    """Return the share of exchanges of a quarter of the pairs, each with another of them, that `many_suspects` notices."""
    drawn = np.sort(rng.permutation(len(C))[:_MOST_SIMULATED])
    left, right = coordinates(C[np.ix_(drawn, drawn)]), coordinates(D[np.ix_(drawn, drawn)])
    n_exchanged = max(FEWEST_OUTLIERS, round(EXCHANGED * len(drawn)))
    noticed = 0
    for _ in range(_SIMULATIONS):
        exchanged, partner = rng.permutation(len(drawn))[:n_exchanged], np.arange(len(drawn))
        partner[exchanged] = np.roll(exchanged, 1)
        noticed += many_suspects(ranks_of_partners(left, right[partner]))
    return noticed / _SIMULATIONS


def _by_chance(pair_rank: np.ndarray) -> int:
    """Suspects that right but imprecise pairs exceed one time in 1,000, were their ranks exponential with the same median."""
    beyond = 2.0 ** (-suspect_rank(pair_rank) / max(float(np.median(pair_rank)), 1e-3))
    return int(binom.ppf(0.999, len(pair_rank), beyond)) + 1
