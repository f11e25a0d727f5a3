"""The minibatches of a fused bridge on two dask workers of one thread each, beside one process of one thread.

    python analyses/benchmarks/distributed_fuse.py [--size 100000 --size 400000] [--runs 2] [--out FILE]

Simulated points of `fused_scale.py`, written to npy files; a given candidate, so that nothing is searched for. Every run has
processes of its own. Both forms run in turns, so that a busy machine is busy for both; the load average before each run is kept,
and the processor seconds of the client and of each worker, which other work disturbs less than the clock. A worker has imported
what it needs before the clock starts, and keeps the memory it has freed (`ENVIRONMENT`).

The record ends with ``seconds = fixed + n (alone + shared / workers)``, fitted to all runs: with the clock, and with processor
seconds, where those of the busiest worker stand for the time that the client waits.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from analyses.parts.processes import run_json
from analyses.parts.script import run_script
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

DIMS, N_PAIRS, MINIBATCH, SEED, N_WORKERS = 64, 100, 2000, 0, 2
FORMS = ("process", "workers")
#: Threads of every process, and what glibc keeps of freed memory: dask's workers give it back at once unless told so.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
}


def write(folder: Path, n: int) -> dict[str, Any]:
    """Write the points of both spaces."""
    from analyses.benchmarks.fused_scale import write_spaces

    write_spaces(folder, n, DIMS, N_PAIRS, SEED)
    return {}


def fitted(folder: Path, form: str) -> dict[str, Any]:
    """Fit one bridge; keep what it maps new points to."""
    import torch

    from neurobridge.bridge import Candidate, MinibatchWarning, fuse

    torch.set_num_threads(1)
    X, Y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("source", "target"))
    candidate = Candidate(lam=0.9, epsilon=0.05, n_rounds=5, readout="barycentric")
    pairs = np.arange(N_PAIRS), np.arange(N_PAIRS)
    started, cpu_started = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MinibatchWarning)
        bridge = fuse(
            X, Y, pairs, metric="euclidean", candidate=candidate, minibatch_size=MINIBATCH, seed=SEED,
            distributed=form == "workers",
        )  # fmt: skip
    row = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
    np.save(folder / f"{form}.npy", bridge.map(np.load(folder / "source_test.npy")[:2000]))
    return row | {"peak_rss_gb": peak_rss() / 1e9, "marginal_error": bridge.coupling.marginal_error}


def in_a_process(folder: Path, n: int) -> dict[str, Any]:
    """Fit in this process."""
    return fitted(folder, "process")


def on_workers(folder: Path, n: int) -> dict[str, Any]:
    """Fit with two workers of one thread each."""
    from distributed import Client, LocalCluster

    options = {"n_workers": N_WORKERS, "threads_per_worker": 1, "memory_limit": None, "dashboard_address": ":0"}
    with LocalCluster(**options) as local, Client(local) as client:
        client.run(lambda: __import__("neurobridge.bridge.fused.jobs"))
        cpu_before = client.run(time.process_time)
        row = fitted(folder, "workers")
        cpu_after = client.run(time.process_time)
        worker_peaks = client.run(peak_rss).values()
    return row | {
        "worker_cpu_seconds": sorted(cpu_after[name] - cpu_before[name] for name in cpu_before),
        "worker_peak_rss_gb": max(worker_peaks) / 1e9,
    }


JOBS = {"write": write, "process": in_a_process, "workers": on_workers}


def job_in_a_process(job: str, folder: Path, n: int) -> dict[str, Any]:
    """Run a job in a process of its own."""
    load = os.getloadavg()[0]
    row = run_json([sys.executable, __file__, job, str(folder), str(n)], os.environ | ENVIRONMENT)
    return {"n": n, "form": job, "load_average_before": load, **row}


def path_seconds(row: dict[str, Any]) -> float:
    """Return processor seconds along the longest path: those of the client, and of the worker that it waits for."""
    return row["cpu_seconds"] + max(row.get("worker_cpu_seconds", [0.0]))


def model(rows: list[dict[str, Any]], seconds: list[float]) -> dict[str, float]:
    """Fit ``fixed + n (alone + shared / workers)`` by least squares."""
    n = np.array([row["n"] for row in rows], dtype=float)
    workers = np.array([N_WORKERS if row["form"] == "workers" else 1 for row in rows])
    design = np.column_stack([np.ones(len(n)), n, n / workers])
    fixed, alone, shared = np.linalg.lstsq(design, np.array(seconds), rcond=None)[0]
    return {"fixed_s": fixed, "alone_s_a_million": 1e6 * alone, "shared_s_a_million": 1e6 * shared}


def main(
    sizes: Annotated[list[int] | None, typer.Option("--size", help="Points a side, may be repeated.")] = None,
    n_runs: Annotated[int, typer.Option("--runs")] = 2,
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/distributed_fuse.json"),
    case: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> None:
    if case:
        print(json.dumps(JOBS[case[0]](Path(case[1]), int(case[2]))))
        return
    rows: list[dict[str, Any]] = []
    differences: dict[str, float] = {}
    for n in sizes or (100_000, 400_000):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            job_in_a_process("write", folder, n)
            for _ in range(n_runs):
                for form in FORMS:
                    rows.append(job_in_a_process(form, folder, n))
                    print(json.dumps(rows[-1]), flush=True)
                ours, theirs = (np.load(folder / f"{form}.npy") for form in reversed(FORMS))
                differences[str(n)] = float(np.abs(ours - theirs).max() / theirs.std())
                write_json(record(rows, differences), out_file)


def record(rows: list[dict[str, Any]], differences: dict[str, float]) -> dict[str, Any]:
    """Return what is kept of the runs so far."""
    several = len({row["n"] for row in rows}) > 1
    return {
        "data": "simulated",
        "rows": rows,
        "largest_difference_in_standard_deviations": differences,
        "model_of_the_clock": model(rows, [row["seconds"] for row in rows]) if several else None,
        "model_of_processor_time": model(rows, [path_seconds(row) for row in rows]) if several else None,
        "settings": {
            "dims": DIMS, "pairs": N_PAIRS, "minibatch_size": MINIBATCH, "seed": SEED, "workers": N_WORKERS,
            "environment": ENVIRONMENT,
        },
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
    }  # fmt: skip


if __name__ == "__main__":
    run_script(main, __doc__)
