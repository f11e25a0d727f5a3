"""Time of the metric `bridge` at the size of the public recordings, beside ridge on the same folds.

    python analyses/benchmarks/bridge_metric.py [--out results/benchmarks/bridge_metric.json]

3,200 SIMULATED stimuli, a layer of 512 features, 168 sites of IT and 88 of V4 that share latents with it; ten folds of nine
tenths, as in Brain-Score, of which a tenth are pairs for the bridge and all for ridge. Each measurement runs in its own process,
so that its peak RSS is its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from analyses.parts.processes import run_json
from analyses.parts.script import run_script
from neurobridge.assemblies import make_assembly
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

N_STIMULI, N_FEATURES, N_LATENTS = 3200, 512, 20
SITES = {"IT": 168, "V4": 88}
METRICS = ("bridge", "ridge")


def simulate(region: str) -> tuple[Any, Any]:
    """Simulate activations and averaged recordings of a region that share latents, as assemblies."""
    rng = np.random.default_rng([0, SITES[region]])
    latents = rng.normal(size=(N_STIMULI, N_LATENTS))

    def observe(n: int, noise: float) -> np.ndarray:
        return np.tanh(latents @ rng.normal(size=(N_LATENTS, n)) / 4) + noise * rng.normal(size=(N_STIMULI, n))

    stimuli = {"stimulus_id": [f"image{k:05d}" for k in range(N_STIMULI)]}
    layer = make_assembly(observe(N_FEATURES, 0.3), presentation=stimuli, neuroid={"neuroid_id": range(N_FEATURES)})
    sites = {"neuroid_id": range(SITES[region])}
    return layer, make_assembly(observe(SITES[region], 0.6), presentation=stimuli, neuroid=sites)


def measure(region: str, metric: str) -> dict[str, Any]:
    """Score a region over ten folds, and return the score with its time and memory."""
    from neurobridge.brainscore import aligned_predictivity
    from neurobridge.evaluate import aggregate, predictivity
    from neurobridge.evaluate.splits import shuffle_splits

    layer, recordings = simulate(region)
    splits = shuffle_splits(N_STIMULI, n_splits=10, train_size=0.9, seed=0)
    started, wall = time.process_time(), time.perf_counter()
    options: dict[str, Any] = {"splits": splits, "n_permutations": 0}
    if metric == "bridge":
        score = aligned_predictivity(layer, recordings, **options)
    else:
        score = predictivity(layer, recordings, metric, **options)
    return {
        "raw": round(float(aggregate(score)["raw"]), 4), "processor_s": time.process_time() - started,
        "wall_s": time.perf_counter() - wall, "peak_rss_gb": peak_rss() / 1e9,
    }  # fmt: skip


def main(
    case: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    out: Annotated[Path, typer.Option()] = Path("results/benchmarks/bridge_metric.json"),
) -> None:
    if case:
        print(json.dumps(measure(*case)))
        return
    load = os.getloadavg()[0]
    rows = [
        {"region": region, "metric": metric, **run_json([sys.executable, __file__, region, metric])}
        for region in SITES
        for metric in METRICS
    ]
    for row in rows:
        print(row)
    write_json({"rows": rows, "load": load}, out)


if __name__ == "__main__":
    run_script(main, __doc__)
