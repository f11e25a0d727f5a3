"""The fused bridge from 2,500 to a million points a side: time, memory and held-out R^2.

    python analyses/benchmarks/fused_scale.py [--size 2500 --size 10000 ...] [--out FILE] [--core 2000]

Points are simulated: 20 clusters in ten latent dimensions, seen through two bent maps in 32 and 48
dimensions with noise. The two pools share no point but the pairs; 2,000 others are held out. Every
measurement runs in its own process, so that its peak RSS is its own. At sizes where all points can
be solved at once both ways run, and the R^2 of one's images as a prediction of the other's tells
how far they agree. Records are kept as they come, and a second run goes on from them.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import neurobridge
from analyses.parts.scores import r2
from analyses.parts.script import one_of, run_script
from neurobridge.bridge import MinibatchWarning, fuse, ridge_map
from neurobridge.maps.kernel import kernel_map
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

N_PAIRS, N_TEST, N_CLUSTERS, N_LATENTS, N_DRAWS = 30, 2000, 20, 10, 100_000
# Most points that are also solved all at once (40 bytes an entry).
WHOLE = 10_000

#: Points a side.
SIZES = (2500, 10_000, 100_000, 1_000_000)


def spaces(n: int, seed: int) -> tuple[np.ndarray, ...]:
    """Simulate both pools, held-out source points and their true targets, float32."""
    rng = np.random.default_rng(seed)
    fixed_rng = np.random.default_rng(99)
    centres = 2 * fixed_rng.normal(size=(N_CLUSTERS, N_LATENTS))
    projections = fixed_rng.normal(size=(N_LATENTS, 32)) / 3, fixed_rng.normal(size=(N_LATENTS, 48)) / 3

    def latents(size: int) -> np.ndarray:
        return centres[rng.integers(0, N_CLUSTERS, size)] + rng.normal(size=(size, N_LATENTS))

    def observe(Z: np.ndarray, k: int) -> np.ndarray:
        points = np.tanh(Z @ projections[k])
        return (points + 0.1 * rng.normal(size=points.shape)).astype(np.float32)

    pair_latents, test_latents = latents(N_PAIRS), latents(N_TEST)
    X = np.concatenate([observe(pair_latents, 0), observe(latents(n - N_PAIRS), 0)])
    Y = np.concatenate([observe(pair_latents, 1), observe(latents(n - N_PAIRS), 1)])
    test_points, truth = observe(test_latents, 0), observe(test_latents, 1)
    means, units = [side.mean(axis=0) for side in (X, Y)], [np.float32(side.std()) for side in (X, Y)]
    return (
        (X - means[0]) / units[0],
        (Y - means[1]) / units[1],
        (test_points - means[0]) / units[0],
        (truth - means[1]) / units[1],
    )


def measure(n: int, minibatch_size: int | None, metric: Any, seed: int, images: Path) -> dict[str, Any]:
    """Measure one fit; the images of the held-out points go to a file."""
    X, Y, test_points, truth = spaces(n, seed)
    pairs = np.arange(N_PAIRS), np.arange(N_PAIRS)
    rss_before = peak_rss() / 1e9
    started, cpu_started = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MinibatchWarning)
        bridge = fuse(X, Y, pairs, metric=metric, minibatch_size=minibatch_size, seed=seed)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    started = time.perf_counter()
    mapped = bridge.map(test_points)
    map_seconds = time.perf_counter() - started
    started = time.perf_counter()
    i, j = bridge.sample(N_DRAWS, np.random.default_rng(seed))
    draw_seconds = time.perf_counter() - started
    np.save(images, mapped)
    rows, columns = bridge.coupling.row_mass, bridge.coupling.col_mass
    return {
        "n": n, "core": minibatch_size, "metric": metric, "seed": seed, "seconds": seconds, "cpu_seconds": cpu,
        "seconds_to_map_2000": map_seconds, "seconds_to_draw_100000": draw_seconds, "peak_rss_gb": peak_rss() / 1e9,
        "peak_rss_gb_of_the_data": rss_before, "candidate": list(dataclasses.astuple(bridge.candidate)),
        "row_marginal_l1": float(np.abs(rows - 1 / n).sum()), "column_marginal_l1": float(np.abs(columns - 1 / n).sum()),
        "r2": r2(mapped, truth), "r2_linear_readout": r2(bridge.linear(test_points), truth),
        "r2_ridge": r2(ridge_map(X[:N_PAIRS], Y[:N_PAIRS], penalty="shared")(test_points), truth),
        "r2_kernel_ridge": r2(kernel_map(X[:N_PAIRS], Y[:N_PAIRS])(test_points), truth),
        "r2_of_drawn_partners": r2(Y[j], bridge.linear(X[i])),
    }  # fmt: skip


def measure_in_process(n: int, minibatch_size: int | None, metric: str, seed: int, folder: Path) -> dict[str, Any]:
    """Measure one fit in a process of its own."""
    out = folder / f"{n}-{minibatch_size}-{metric}-{seed}.json"
    arguments = [str(n), str(minibatch_size or 0), metric, str(seed), str(out)]
    subprocess.run([sys.executable, __file__, *arguments], check=True)
    return json.loads(out.read_text())


def main(
    sizes: Annotated[
        list[int] | None, typer.Option("--size", help="Points a side, may be repeated; 2,500 to a million by default.")
    ] = None,
    largest_minibatch: Annotated[
        int, typer.Option("--core", help="Most points a side of a minibatch; 500 at the least size.")
    ] = 2000,
    metric: Annotated[str, typer.Option("--metric", callback=one_of(["euclidean", "geodesic"]))] = "euclidean",
    n_seeds: Annotated[int, typer.Option("--seeds")] = 1,
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/fused_scale.json"),
    case: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> None:
    torch.set_num_threads(1)
    if case:
        path = Path(case[4])
        row = measure(int(case[0]), int(case[1]) or None, case[2], int(case[3]), path.with_suffix(".npy"))
        path.write_text(json.dumps(row))
        return
    records = json.loads(out_file.read_text())["records"] if out_file.exists() else []
    header = {
        "data": "simulated", "n_pairs": N_PAIRS, "n_test": N_TEST, "neurobridge": neurobridge.__version__,
        "machine": {"processor": platform.machine(), "system": platform.system(), "torch": torch.__version__, "torch_threads": 1},
    }  # fmt: skip
    for n in sizes or SIZES:
        minibatch_size = 500 if n < 2 * largest_minibatch else largest_minibatch
        for seed in range(n_seeds):
            kept_records = [r for r in records if (r["n"], r["metric"], r["seed"]) == (n, metric, seed)]
            if any(r["core"] == minibatch_size for r in kept_records):
                continue
            with tempfile.TemporaryDirectory() as folder:
                results = [measure_in_process(n, minibatch_size, metric, seed, Path(folder))]
                if n <= WHOLE:
                    results.append(measure_in_process(n, None, metric, seed, Path(folder)))
                    images = [np.load(Path(folder) / f"{n}-{c}-{metric}-{seed}.npy") for c in (minibatch_size, None)]
                    results[0]["r2_of_all_at_once_by_minibatches"] = r2(images[0], images[1])
            records += results
            write_json({**header, "records": records}, out_file)
            for row in results:
                print(
                    {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()},
                    flush=True,
                )


if __name__ == "__main__":
    run_script(main, __doc__)
