"""The road from two files of features to a report: seconds and peak RSS of every step, and what retrieval finds.

    python analyses/benchmarks/road.py [--size 200000 --size 1280000] [--dims 64] [--pairs 1000] [--out FILE]

The two files are simulated as in `fused_scale.py` (20 clusters in ten latent dimensions, seen through two bent maps with noise),
here with a partner for every row. ``neurobridge road`` runs as a process of its own, with the threads that this process is given
(OMP_NUM_THREADS). The peak RSS of a step is that of the run up to its end.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import neurobridge
from analyses.benchmarks.fused_scale import N_CLUSTERS, N_LATENTS
from analyses.parts.script import run_script
from neurobridge.store.atomic import write_json

_BLOCK = 50_000
N_QUERIES = 2000


def write_views(folder: Path, n: int, dims: int, seed: int) -> None:
    """Write two views of the same latents, float32 in npy files: row i of both shows the same."""
    rng, fixed_rng = np.random.default_rng(seed), np.random.default_rng(99)
    centres = 2 * fixed_rng.normal(size=(N_CLUSTERS, N_LATENTS))
    projections = [fixed_rng.normal(size=(N_LATENTS, dims)) / 3 for _ in range(2)]
    views = [
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (n, dims)) for name in ("source", "target")
    ]
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        latents = centres[rng.integers(0, N_CLUSTERS, size)] + rng.normal(size=(size, N_LATENTS))
        for view, projection in zip(views, projections, strict=True):
            points = np.tanh(latents @ projection)
            view[start : start + size] = points + 0.1 * rng.normal(size=points.shape)


def measure(n: int, dims: int, n_pairs: int, seed: int) -> dict[str, Any]:
    """Write the files and walk the road."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_views(folder, n, dims, seed)
        neurobridge_command = str(Path(sys.executable).with_name("neurobridge"))
        command = [
            neurobridge_command, "road", str(folder / "source.npy"), str(folder / "target.npy"), "--out", str(folder / "road"),
            "--pairs", str(n_pairs), "--queries", str(N_QUERIES), "--seed", str(seed), "--json", "--no-progress",
        ]  # fmt: skip
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        walked = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "n": n, "dims": dims, "n_pairs": n_pairs, "n_queries": N_QUERIES, "seed": seed,
            "seconds": time.perf_counter() - started,
            "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "load_average_after": os.getloadavg()[0], "measures": walked["measures"], "steps": walked["steps"],
        }  # fmt: skip


def main(
    sizes: Annotated[list[int] | None, typer.Option("--size", help="Rows of each file, may be repeated.")] = None,
    dims: Annotated[int, typer.Option(help="Dimensions of both spaces.")] = 64,
    n_pairs: Annotated[int, typer.Option("--pairs")] = 1000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/road.json"),
) -> None:
    records: list[dict[str, Any]] = []
    for n in sizes or (200_000, 1_280_000):
        records.append(measure(n, dims, n_pairs, seed))
        header = {
            "data": "simulated", "neurobridge": neurobridge.__version__, "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
            "machine": {"processor": platform.machine(), "system": platform.system(), "torch": torch.__version__},
        }  # fmt: skip
        write_json({**header, "records": records}, out_file)
        print(json.dumps(records[-1]), flush=True)


if __name__ == "__main__":
    run_script(main, __doc__)
