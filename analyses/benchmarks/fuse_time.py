"""Processor time of a fused bridge at once, both directions, beside ridge on the pairs.

    python analyses/benchmarks/fuse_time.py [--runs 3] [--out FILE]

The points are simulated: two noisy views of twelve latents, 256 and 384 dimensions, whose pools share the pairs alone. One
process of one thread; seconds of the processor, medians of the runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from analyses.benchmarks.parts.timing import timed
from analyses.parts.script import run_script
from neurobridge.bridge import fuse, ridge_map
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

SIZES = ((272, 32), (2000, 100))
DIMS = (256, 384)


def simulate(n: int, n_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Simulate both pools; the first points of both are the pairs."""
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(2 * n, 12))
    X, Y = (
        np.tanh(latents @ rng.normal(size=(12, dims)) / 3) + noise * rng.normal(size=(2 * n, dims))
        for dims, noise in zip(DIMS, (0.4, 0.5), strict=True)
    )
    return X[:n], np.r_[Y[:n_pairs], Y[n + n_pairs : 2 * n]]


def median_seconds(call: Callable[[], Any], n_runs: int) -> float:
    """Return the median processor seconds of some calls."""
    return statistics.median(timed(call)[1] for _ in range(n_runs))


def measure(n: int, n_pairs: int, n_runs: int) -> dict[str, float]:
    """Measure one size."""
    X, Y = simulate(n, n_pairs)
    pairs = np.arange(n_pairs), np.arange(n_pairs)

    def both_ridges() -> None:
        ridge_map(X[:n_pairs], Y[:n_pairs])
        ridge_map(Y[:n_pairs], X[:n_pairs])

    both_ridges()
    return {
        "n": n, "n_pairs": n_pairs, "fuse_s": median_seconds(lambda: fuse(X, Y, pairs, seed=0), n_runs),
        "ridge_s": median_seconds(both_ridges, n_runs), "peak_rss_gb": peak_rss() / 1e9,
    }  # fmt: skip


def main(
    n_runs: Annotated[int, typer.Option("--runs", min=1)] = 3,
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/fuse_time.json"),
) -> None:
    torch.set_num_threads(1)
    rows = []
    for n, n_pairs in SIZES:
        rows.append(measure(n, n_pairs, n_runs))
        print(rows[-1], flush=True)
    write_json({"data": "simulated", "dims": DIMS, "runs": n_runs, "rows": rows}, out_file)


if __name__ == "__main__":
    run_script(main, __doc__)
