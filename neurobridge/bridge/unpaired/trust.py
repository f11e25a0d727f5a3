"""The verdict on an alignment that no known pair supports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

#: What `Trust.trustworthy` asks; reasons in docs/diagnostics.md.
LEAST_STABILITY = 0.5
LEAST_CYCLE = 0.5
MOST_DISTORTION = 0.5


@dataclass(frozen=True)
class Trust:
    """How far an alignment found without pairs may be believed; no truth is used.

    Attributes
    ----------
    stability : float
        Share of probe points that two restarts, run on different subsamples, send to the same neighbourhood; mean over pairs of
        restarts.
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
        Which conditions failed; empty if trustworthy.
    """

    stability: float
    stability_chance: float
    cycle: float
    cycle_chance: float
    distortions: tuple[float, ...]
    null_distortions: tuple[float, ...]
    reasons: tuple[str, ...]

    @property
    def trustworthy(self) -> bool:
        """Whether every condition of `rule` holds."""
        return not self.reasons

    @property
    def rule(self) -> str:
        """The conditions, in words."""
        return (
            f"trustworthy if stability and cycle, both as (found - chance) / (1 - chance), are at least {LEAST_STABILITY} and "
            f"{LEAST_CYCLE}, and the median distortion is at most {MOST_DISTORTION} of the surrogates' median and below them all"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        out = asdict(self)
        for name in ("distortions", "null_distortions", "reasons"):
            out[name] = list(out[name])
        return {**out, "trustworthy": self.trustworthy, "rule": self.rule}
