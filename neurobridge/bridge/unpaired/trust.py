"""The verdict on an alignment that no known pair supports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neurobridge.bridge.unpaired.neighbours import mutual_share, nearest_rows, neighbourhoods
from neurobridge.bridge.unpaired.restarts import Restart, Surrogate
from neurobridge.points.display import html_repr, short_repr

#: Conditions of `Trust.trustworthy`; docs/diagnostics.md gives the reason of each.
LEAST_STABILITY = 0.5
LEAST_CYCLE = 0.5
MOST_DISTORTION = 0.75

_PROBES = 500


@dataclass(frozen=True, repr=False)
class Trust:
    """Evidence for or against an alignment that was found without pairs; no truth is used.

    Shares are in [0, 1]; a neighbourhood is the nearest 5 % of the points. An alignment is trustworthy if all four hold:

    1. stability, as ``(value - chance) / (1 - chance)``, is at least 0.5;
    2. cycle, likewise, is at least 0.5;
    3. the median distortion is at most 0.75 of the surrogates' median, and below all of the surrogates;
    4. the median of ``mutual`` is above all of ``null_mutual``.

    So a trustworthy alignment is expected to send at least half of the points, beyond chance, to the right neighbourhood; it
    does not promise the exact partner.

    Attributes
    ----------
    stability : float
        Share of probe points that two restarts, run on different subsamples, send to the same neighbourhood; mean over pairs
        of restarts.
    stability_chance : float
        The same with the points of one restart exchanged at random.
    cycle : float
        Share of probe points that come back to their own neighbourhood when sent forward by one restart and back by another.
    cycle_chance : float
        The same, returning from the image of another point.
    distortions : tuple of float
        Gromov-Wasserstein distortion of each restart (0: isometry, 1: independent plan).
    null_distortions : tuple of float
        The same towards surrogates of the target with the same clusters and spread, otherwise arranged.
    reasons : tuple of str
        Conditions that failed; empty if trustworthy.
    mutual : tuple of float
        Share of points that are mutual nearest neighbours (hubs corrected) under the map of each restart.
    null_mutual : tuple of float
        The same towards the surrogates.

    Examples
    --------
    >>> from neurobridge.bridge import Trust
    >>> trust = Trust(0.9, 0.05, 0.8, 0.05, (0.02, 0.03), (0.4, 0.5), ())
    >>> trust.trustworthy
    True
    >>> trust
    Trust(trustworthy, stability=0.9, cycle=0.8, distortion=0.025, null_distortion=0.45)
    """

    stability: float
    stability_chance: float
    cycle: float
    cycle_chance: float
    distortions: tuple[float, ...]
    null_distortions: tuple[float, ...]
    reasons: tuple[str, ...]
    mutual: tuple[float, ...] = ()
    null_mutual: tuple[float, ...] = ()

    @property
    def trustworthy(self) -> bool:
        """True if every condition of `rule` holds."""
        return not self.reasons

    @property
    def expected(self) -> float:
        """Stability beyond chance, ``(stability - chance) / (1 - chance)``.

        It predicts the share of points, beyond chance, whose images land in the neighbourhood of their true partner
        (docs/diagnostics.md has the reliability curve).
        """
        return beyond_chance(self.stability, self.stability_chance)

    @property
    def rule(self) -> str:
        """The conditions, in words."""
        return (
            f"trustworthy if stability and cycle, both as (value - chance) / (1 - chance), are at least {LEAST_STABILITY} and "
            f"{LEAST_CYCLE}, the median distortion is at most {MOST_DISTORTION} of the surrogates' median and below them all, and "
            "the median share of mutual nearest neighbours is above those of all surrogates"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON."""
        plain = asdict(self)
        for name in ("distortions", "null_distortions", "reasons", "mutual", "null_mutual"):
            plain[name] = list(plain[name])
        return {**plain, "trustworthy": self.trustworthy, "expected": self.expected, "rule": self.rule}

    def _facts(self) -> dict[str, float]:
        return {
            "stability": self.stability,
            "cycle": self.cycle,
            "distortion": float(np.median(self.distortions)),
            "null_distortion": float(np.median(self.null_distortions)),
        }

    def __repr__(self) -> str:
        return short_repr("Trust", "trustworthy" if self.trustworthy else "NOT trustworthy", **self._facts())

    def _repr_html_(self) -> str:
        chances = {"stability by chance": self.stability_chance, "cycle by chance": self.cycle_chance}
        return html_repr(
            "Trust", {"trustworthy": self.trustworthy, **self._facts(), **chances, "reasons": self.reasons}
        )


def measure_trust(
    X: np.ndarray, Y: np.ndarray, restarts: list[Restart], surrogates: list[Surrogate], rng: np.random.Generator
) -> Trust:
    """Compare restarts with one another and with surrogates, on at most 500 probe points a side.

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
    Y : array of shape (m, n_target_dims)
    restarts : list of Restart
        At least two.
    surrogates : list of Surrogate
        At least one.
    rng : numpy.random.Generator

    Returns
    -------
    Trust
    """
    mutual = [mutual_share(restart.map_forward(X), Y, rng) for restart in restarts]
    X, Y = (side[rng.permutation(len(side))[:_PROBES]] for side in (X, Y))
    near_source, near_target = neighbourhoods(X), neighbourhoods(Y)
    targets = [nearest_rows(restart.map_forward(X), Y) for restart in restarts]
    agreements, agreements_by_chance, returns, returns_by_chance = [], [], [], []
    for r, first in enumerate(targets):
        for second in targets[r + 1 :]:
            agreements.append(float(near_target[first, second].mean()))
            # The mean over all exchanges of points, instead of a random few.
            agreements_by_chance.append(float(near_target[np.ix_(first, second)].mean()))
        origins = restarts[(r + 1) % len(restarts)].map_backward(Y[first])
        returned = nearest_rows(origins, X)
        returns.append(float(near_source[np.arange(len(X)), returned].mean()))
        returns_by_chance.append(float(near_source[:, returned].mean()))
    stability, stability_chance = float(np.mean(agreements)), float(np.mean(agreements_by_chance))
    cycle, cycle_chance = float(np.mean(returns)), float(np.mean(returns_by_chance))
    distortions = [restart.distortion for restart in restarts]
    reasons = []
    for name, value, chance, least in (
        ("stability", stability, stability_chance, LEAST_STABILITY), ("cycle", cycle, cycle_chance, LEAST_CYCLE)
    ):  # fmt: skip
        beyond = beyond_chance(value, chance)
        if beyond < least:
            reasons.append(f"{name} {value:.2f} with chance {chance:.2f} ({beyond:.2f} beyond chance, not {least})")
    null_distortions = [surrogate.distortion for surrogate in surrogates]
    middle, null = float(np.median(distortions)), float(np.median(null_distortions))
    least_null = min(null_distortions)
    if middle > MOST_DISTORTION * null or middle >= least_null:
        reasons.append(
            f"distortion {middle:.3f}, beside {null:.3f} (least {least_null:.3f}) towards rearranged surrogates"
        )
    null_mutual = [surrogate.mutual for surrogate in surrogates]
    if np.median(mutual) <= max(null_mutual):
        reasons.append(
            f"{np.median(mutual):.2f} of the points are mutual nearest neighbours, beside {max(null_mutual):.2f} of a surrogate"
        )
    return Trust(
        stability,
        stability_chance,
        cycle,
        cycle_chance,
        tuple(distortions),
        tuple(null_distortions),
        tuple(reasons),
        tuple(mutual),
        tuple(null_mutual),
    )


def beyond_chance(value: float, chance: float) -> float:
    """Return ``(value - chance) / (1 - chance)``: 0 at chance, 1 at certainty."""
    return (value - chance) / max(1 - chance, 1e-12)
