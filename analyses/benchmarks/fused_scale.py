"""The fused bridge from 20,000 to 1.28 million points a side: time, memory, held-out R^2, and new points a second.

    python analyses/benchmarks/fused_scale.py [--size 20000 --size 100000 ...] [--dims 64] [--pairs 100] [--out FILE]

Points are simulated: 20 clusters in ten latent dimensions, seen through two bent maps in so many dimensions with noise, and
written to npy files, which the bridge is given as memory maps. The two pools share no point but the pairs; 20,000 others are
held out. Every measurement runs in its own process, so that its peak RSS is its own. Records are kept as they come, and a
second run goes on from them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer

import neurobridge
from analyses.parts.scores import r2
from analyses.parts.script import one_of, run_script
from neurobridge.bridge import MinibatchWarning, estimate_cost, fuse, ridge_map
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

N_TEST, N_CLUSTERS, N_LATENTS, N_DRAWS = 20_000, 20, 10, 100_000
_BLOCK = 50_000
# Draws and row sums compute all of the plan anew, which takes as long as its minibatches did.
_WHOLE_PLAN = 100_000

#: Points a side.
SIZES = (20_000, 100_000, 300_000, 1_280_000)


def write_spaces(folder: Path, n: int, dims: int, n_pairs: int, seed: int) -> None:
    """Simulate both pools, held-out source points and their true targets, and write them as float32 in npy files."""
    rng, fixed_rng = np.random.default_rng(seed), np.random.default_rng(99)
    centres = 2 * fixed_rng.normal(size=(N_CLUSTERS, N_LATENTS))
    projections = [fixed_rng.normal(size=(N_LATENTS, dims)) / 3 for _ in range(2)]

    def latents(size: int) -> np.ndarray:
        return centres[rng.integers(0, N_CLUSTERS, size)] + rng.normal(size=(size, N_LATENTS))

    def observe(Z: np.ndarray, k: int) -> np.ndarray:
        points = np.tanh(Z @ projections[k])
        return (points + 0.1 * rng.normal(size=points.shape)).astype(np.float32)

    pair_latents, test_latents = latents(n_pairs), latents(N_TEST)
    some = latents(_BLOCK)
    means, units = zip(*((seen.mean(axis=0), seen.std()) for seen in (observe(some, k) for k in range(2))), strict=True)
    for k, name in enumerate(("source", "target")):
        out = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (n, dims))
        for start in range(0, n, _BLOCK):
            Z = latents(min(_BLOCK, n - start))
            if start == 0:
                Z[:n_pairs] = pair_latents
            out[start : start + len(Z)] = (observe(Z, k) - means[k]) / units[k]
        np.save(folder / f"{name}_test.npy", (observe(test_latents, k) - means[k]) / units[k])


def measure(folder: Path, n_pairs: int, metric: Any, seed: int) -> dict[str, Any]:
    """Measure one fit."""
    X, Y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("source", "target"))
    new, truth = (np.load(folder / f"{name}_test.npy") for name in ("source", "target"))
    pairs, n = (np.arange(n_pairs), np.arange(n_pairs)), len(X)
    expected = estimate_cost(n, n, X.shape[1], n_pairs, metric=metric, method="fused", n_threads=1)
    rss_before = peak_rss() / 1e9
    started, cpu_started = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MinibatchWarning)
        bridge = fuse(X, Y, pairs, metric=metric, minibatch_size=2000, seed=seed)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    fit_rss = peak_rss() / 1e9
    bridge.map(new[:10])
    cpu_started = time.process_time()
    mapped = bridge.map(new)
    map_seconds = time.process_time() - cpu_started
    agreement = None if bridge.distilled[0] is None else bridge.distilled[0].agreement
    by_plan = replace(bridge, distilled=(None, None)).map(new[:4000])
    rows, drawn = None, None
    if n <= _WHOLE_PLAN:
        rows = bridge.coupling.row_mass
        i, j = bridge.sample(N_DRAWS, np.random.default_rng(seed))
        drawn = r2(Y[j], bridge.linear(X[i]))
    return {
        "n": n, "dims": X.shape[1], "n_pairs": n_pairs, "metric": metric, "seed": seed, "seconds": seconds, "cpu_seconds": cpu,
        "cpu_seconds_expected": expected.seconds, "gb_expected": expected.n_bytes / 1e9, "peak_rss_gb": fit_rss,
        "peak_rss_gb_of_the_data": rss_before, "new_points_a_cpu_second": len(new) / map_seconds,
        "agreement_of_the_kernel_map": agreement, "n_bridges": cast(Any, bridge.coupling.cost).bridge.n_anchors,
        # A map of the pairs alone has no temperature.
        "candidate": [None if value == math.inf else value for value in dataclasses.astuple(bridge.candidate)],
        "marginal_error": bridge.coupling.marginal_error,
        "row_marginal_l1": None if rows is None else float(np.abs(rows - 1 / n).sum()),
        "r2": r2(mapped, truth), "r2_by_the_plan": r2(by_plan, truth[:4000]), "r2_linear_readout": r2(bridge.linear(new), truth),
        "r2_ridge": r2(ridge_map(X[:n_pairs], Y[:n_pairs], penalty="shared")(new), truth),
        "r2_of_drawn_partners": drawn,
    }  # fmt: skip


def measure_in_processes(n: int, dims: int, n_pairs: int, metric: str, seed: int, folder: Path) -> dict[str, Any]:
    """Write the points and measure one fit, each in a process of its own."""
    for job in ("write", "measure"):
        subprocess.run([sys.executable, __file__, job, *map(str, (n, dims, n_pairs, metric, seed, folder))], check=True)
    return json.loads((folder / "row.json").read_text())


def main(
    sizes: Annotated[list[int] | None, typer.Option("--size", help="Points a side, may be repeated.")] = None,
    dims: Annotated[int, typer.Option(help="Dimensions of both spaces.")] = 64,
    n_pairs: Annotated[int, typer.Option("--pairs")] = 100,
    metric: Annotated[str, typer.Option("--metric", callback=one_of(["euclidean", "geodesic"]))] = "euclidean",
    seed: Annotated[int, typer.Option("--seed")] = 0,
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/fused_scale.json"),
    case: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> None:
    torch.set_num_threads(1)
    if case:
        job, (n, dims, n_pairs), metric = case[0], map(int, case[1:4]), case[4]
        seed, folder = int(case[5]), Path(case[6])
        if job == "write":
            write_spaces(folder, n, dims, n_pairs, seed)
        else:
            (folder / "row.json").write_text(json.dumps(measure(folder, n_pairs, metric, seed)))
        return
    records = json.loads(out_file.read_text())["records"] if out_file.exists() else []
    header = {
        "data": "simulated", "n_test": N_TEST, "minibatch_size": 2000, "neurobridge": neurobridge.__version__,
        "machine": {"processor": platform.machine(), "system": platform.system(), "torch": torch.__version__, "torch_threads": 1},
    }  # fmt: skip
    for n in sizes or SIZES:
        key = (n, dims, n_pairs, metric, seed)
        if any((r["n"], r["dims"], r["n_pairs"], r["metric"], r["seed"]) == key for r in records):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            row = measure_in_processes(n, dims, n_pairs, metric, seed, Path(scratch))
        records.append(row)
        write_json({**header, "records": records}, out_file)
        rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
        print(rounded, flush=True)


if __name__ == "__main__":
    run_script(main, __doc__)
