"""Sizes, numbers of pairs, methods and thresholds of the scale experiment."""

from __future__ import annotations

from neurobridge.study.harness import Run

from .tasks import PAIRS

#: Points a side -> seeds.
SIZES = {10_000: 3, 120_000: 1, 400_000: 1, 1_280_000: 1}
QUICK = {2000: 1}
METRICS = ("euclidean", "geodesic")
LOCAL = ("ridge", "kernel map", "flow")
LABELS = "labels of the pairs, source alone"
STAGES = ("distances", "transport", "map", "kernel map", "draws", "flow")
#: Loss up to which accuracy counts as kept, gap to the best that counts as failing, and slope that counts as linear.
KEPT, FAILS, LINEAR = 0.02, 0.1, 1.1


def sizes(run: Run) -> dict[int, int]:
    """Return the points a side of a run, with their numbers of seeds."""
    return QUICK if run.quick else SIZES


def counts_of(run: Run, n: int, metric: str) -> tuple[int, ...]:
    """Return the numbers of pairs of a size and metric.

    The graphs of the geodesic metric take most of the time: fewer of them are made at the larger
    sizes.
    """
    if run.quick:
        return (100,)
    return PAIRS if metric == "euclidean" else (20, 100) if n <= 120_000 else (100,)


def seeds_of(run: Run) -> str:
    """Format the numbers of seeds by size."""
    return ", ".join(f"{min(k, run.n_seeds)} at {n:,}" for n, k in sizes(run).items())
