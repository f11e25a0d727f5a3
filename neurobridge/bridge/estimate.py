"""What a bridge will cost: time and memory from sizes alone, after a calibration of a fraction of a second."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from neurobridge.bridge.cost.graph import EXACT_NEIGHBORS, graph_bytes
from neurobridge.bridge.cost.metrics import METRICS
from neurobridge.bridge.fused.sizes import BYTES_PER_ENTRY, LARGEST_MINIBATCH, SHARE_OF_DISTANCES
from neurobridge.points.display import Displayed
from neurobridge.points.memory import in_gb, room
from neurobridge.points.options import is_choice, require_count

# Processor seconds that `_calibration` took on the machine on which the constants below were measured.
_REFERENCE_SECONDS = 0.125
# What two threads gain on these loops, most of which wait for memory: measured 1.6 to 1.8.
_THREAD_GAIN = 0.7
_ITERATIONS = 6
# Minibatches that the maps of both directions are refitted and read on, beside all those of the plan.
_POOLED_MINIBATCHES = 32
# Kernel maps that stand for the plan of more points than these, both directions.
_READ_BY_PLAN, _DISTILLED = 100_000, 12.0
# Of `fuse`, by default.
_MEMORY_LIMIT = 4e9
# Points of a fold of the search, at least, and bytes that all folds take for each pair of them.
_FOLD_POINTS, _BYTES_OF_FOLDS = 700, 160.0
# An interpreter with torch, numba and this package.
_INTERPRETER = 4.5e8

Method = Literal["factored", "fused"]


@dataclass(frozen=True, repr=False)
class CostEstimate(Displayed):
    """Time and memory that a bridge is expected to take on this machine.

    Attributes
    ----------
    seconds : float
        Of all stages, on ``n_threads`` threads of a machine that does nothing else.
    n_bytes : float
        Peak memory of the process, the points included.
    stages : dict of str to float
        Seconds of each stage.
    n_threads : int
        Threads that were reckoned with.

    Examples
    --------
    See `estimate_cost`.
    """

    seconds: float
    n_bytes: float
    stages: dict[str, float]
    n_threads: int

    @property
    def fits(self) -> bool:
        """True where the memory is there now, by the limits of the process and of the machine."""
        return self.n_bytes - _INTERPRETER <= room().n_bytes

    def _facts(self) -> dict[str, Any]:
        threads = f"{self.n_threads} thread{'s' if self.n_threads > 1 else ''}"
        return {"time": f"{self.seconds:.3g} s on {threads}", "memory": in_gb(self.n_bytes)}


def estimate_cost(
    n: int,
    m: int,
    dims: int | tuple[int, int],
    pairs: int,
    *,
    metric: str = "euclidean",
    nearest: int | None = None,
    n_neighbors: int = 10,
    method: Method = "factored",
    minibatch_size: int | None = None,
    n_threads: int | None = None,
    element_size: int = 4,
) -> CostEstimate:
    """Predict how long a bridge takes and how much memory, without making it.

    Each stage is a sum of products of the sizes with measured constants, which are scaled by how fast this machine does a small
    matrix product and a selection (measured once a process, 0.2 s). On the machine of `docs/scale.md` the prediction is within
    a factor of 1.5 of the processor time measured; other work on the machine is not foreseen.

    Parameters
    ----------
    n, m : int
        Source points and target points.
    dims : int or tuple of two int
        Dimensions of both spaces.
    pairs : int
        Labelled pairs P.
    metric : str
        As for `bridge_cost`: "geodesic", or a distance between two points.
    nearest : int, optional
        Anchors kept of each point; None keeps all.
    n_neighbors : int
        Links of a point in the graph of the geodesic metric.
    method : {"factored", "fused"}
        "factored": `bridge_cost` and `couple`. "fused": `fuse`.
    minibatch_size : int, optional
        Of `fuse`; 2,000 by default where all points do not fit at once.
    n_threads : int, optional
        As many as torch uses by default.
    element_size : int
        Bytes of a number: 4 for float32, 8 for float64.

    Returns
    -------
    CostEstimate

    Raises
    ------
    ValueError
        Sizes that are not positive whole numbers, or an unknown metric or method.

    Examples
    --------
    >>> import neurobridge as nb
    >>> small = nb.estimate_cost(10_000, 10_000, 64, 100)
    >>> large = nb.estimate_cost(1_280_000, 1_280_000, 64, 1000, metric="geodesic", nearest=32)
    >>> large.seconds > 50 * small.seconds, large.n_bytes < 4e9
    (True, True)
    >>> sorted(large.stages)
    ['distances', 'plan']
    """
    width = dims if isinstance(dims, tuple) else (dims, dims)
    for name, number in {"n": n, "m": m, "dims": min(width), "pairs": pairs}.items():
        require_count(number, name=name)
    if not is_choice(metric, (*METRICS, "geodesic")):
        raise ValueError(
            f"found metric={metric!r}; expected one of {[*METRICS, 'geodesic']}. Mend: metric='euclidean' for a function."
        )
    if not is_choice(method, ("factored", "fused")):
        raise ValueError(f"found method={method!r}; expected 'factored' or 'fused'. Mend: choose one of them.")
    n_threads = torch.get_num_threads() if n_threads is None else n_threads
    at_once = _minibatch(n, m, minibatch_size) if method == "fused" else None
    led_over = pairs
    if at_once is not None:
        led_over = min(pairs, int(SHARE_OF_DISTANCES * _MEMORY_LIMIT / ((n + m) * element_size)) or 1)
    kept = led_over if nearest is None else min(nearest, led_over)
    sides = tuple(zip((n, m), width, strict=True))
    stages = {
        "distances": sum(_distance_seconds(size, d, led_over, kept, metric, nearest) for size, d in sides),
        "plan": 16e-9 * _ITERATIONS * (n + m) * kept,
    }
    held = sum(size * d * element_size for size, d in sides)
    factors = (n + m) * kept * (element_size + (0.0 if nearest is None else 4.0))
    working = 1.3e8
    if metric == "geodesic":
        working = max(graph_bytes(size, d, n_neighbors, kept, nearest=nearest is not None) for size, d in sides)
    if method == "fused":
        stages |= _fused_stages(n, m, width, pairs, led_over, at_once)
        # At once the maps are fitted on copies of the points in float64.
        held += 0 if at_once else sum(size * d * 8 for size, d in sides)
        working = max(working, BYTES_PER_ENTRY * (at_once**2 if at_once else n * m))
        # Folds of the search are held together.
        working += 2.5e8 + _BYTES_OF_FOLDS * max(_FOLD_POINTS, 2 * pairs) ** 2 if at_once else 0.0
    speed = _calibration() / _REFERENCE_SECONDS / (1 + _THREAD_GAIN * (n_threads - 1))
    stages = {name: seconds * speed for name, seconds in stages.items()}
    return CostEstimate(sum(stages.values()), _INTERPRETER + held + factors + working, stages, n_threads)


def _distance_seconds(n: int, d: int, pairs: int, kept: int, metric: str, nearest: int | None) -> float:
    if metric != "geodesic":
        return n * pairs * (0.7e-9 * d if nearest is None else 11e-9 + 0.08e-9 * d)
    lists = n * n * (4e-9 + 0.14e-9 * d) if n <= EXACT_NEIGHBORS else n * (24e-6 + 0.25e-6 * d)
    paths = 0.15e-6 * n * pairs if nearest is None else n * (4.5e-6 + 0.4e-6 * kept)
    return lists + paths


def _minibatch(n: int, m: int, minibatch_size: int | None) -> int | None:
    if minibatch_size is not None:
        return minibatch_size if minibatch_size < max(n, m) else None
    return LARGEST_MINIBATCH if BYTES_PER_ENTRY * n * m > 4e9 else None


def _fused_stages(
    n: int, m: int, width: tuple[int, int], pairs: int, led_over: int, size: int | None
) -> dict[str, float]:
    search = 6.0 + 2.4e-4 * pairs * sum(width)
    if size is None:
        entry = 30e-9 + 0.2e-9 * pairs + 0.06e-9 * sum(width)
        return {"search": search, "minibatches": 25 * entry * n * m}
    entry = 35e-9 + 0.05e-9 * led_over + 0.03e-9 * sum(width)
    n_batches = math.ceil(max(n, m) / size)
    refits = 3 * (0.5 + 2.5e-5 * sum(d * d for d in width))
    # Passes over all points: reading them, drawing their anchors, cutting them out.
    passes = (n + m) * (15e-6 + 0.05e-6 * sum(width))
    stages = {"search": search, "minibatches": (n_batches + _POOLED_MINIBATCHES) * entry * size**2 + refits + passes}
    return stages | ({"readout": _DISTILLED} if max(n, m) > _READ_BY_PLAN else {})


@cache
def _calibration() -> float:
    """Processor seconds of a matrix product and a selection on one thread, the least of three."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2048, 64, generator=generator), torch.randn(64, 8192, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(3):
            started = time.process_time()
            (left @ right).topk(11, dim=1, largest=False)
            seconds.append(time.process_time() - started)
    finally:
        torch.set_num_threads(before)
    return min(seconds)
