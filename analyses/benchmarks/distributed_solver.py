"""The factored solver on two dask workers beside the same solve in memory.

    python analyses/benchmarks/distributed_solver.py [--n 400000] [--runs 3] [--out docs/results/benchmarks/distributed.json]

Gaussian clouds, drawn chunk by chunk on the workers, never by the client. Each side of the
comparison has its own process. In memory: one thread. On dask: two workers of one thread each
(threads of torch that share a busy machine wait for each other). Peak RSS is the kernel's mark of
each process, its imports included (stated beside it for the workers). Bytes are those of the
pickled results and graphs; `between_workers` is what the workers count themselves. A quarter of
the points is measured too: what travels must not grow with them, beyond a task's description and
its vector for each further chunk.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analyses.parts.processes import run_json
from analyses.parts.script import one_of, run_script
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np

    from neurobridge.bridge import BridgeCost

D, P, NEAREST, EPSILON, CHUNK, N_ITER, N_WORKERS = 32, 500, 32, 0.05, 25_000, 6, 2


def cloud(block_info: Any = None, seed: int = 0) -> np.ndarray:
    """Draw one chunk of a Gaussian cloud."""
    import numpy as np

    (start, stop), _ = block_info[None]["array-location"]
    return np.random.default_rng([seed, start]).standard_normal((stop - start, D), dtype=np.float32)


def clouds(n: int) -> list[da.Array]:
    """Make both clouds as dask arrays of shape (n, 32)."""
    import dask.array as da

    chunks = (da.core.normalize_chunks(CHUNK, (n,))[0], (D,))
    return [
        da.map_blocks(cloud, chunks=chunks, dtype="float32", meta=da.empty(0).astype("f4")._meta, seed=s)
        for s in (0, 1)
    ]


def iteration_seconds(cost: BridgeCost, n_iter: int) -> float:
    """Return the seconds of an iteration.

    They are the difference of two solves, so that the work done once falls out.
    """
    import warnings

    from neurobridge.bridge import couple

    seconds = []
    for count in (2, 2 + n_iter):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # stopped early on purpose
            start = time.perf_counter()
            couple(cost, epsilon=EPSILON, tol=0.0, max_iter=count)
            seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / n_iter


def in_memory(n: int) -> dict:
    """Measure build and iterations in memory, on one thread."""
    import numpy as np
    import torch

    from neurobridge.bridge import bridge_cost

    torch.set_num_threads(1)
    X, Y = (side.compute(scheduler="synchronous") for side in clouds(n))
    start = time.perf_counter()
    cost = bridge_cost(X, Y, (np.arange(P), np.arange(P)), nearest=NEAREST)
    build = time.perf_counter() - start
    return {"build_s": build, "iteration_s": iteration_seconds(cost, N_ITER), "peak_rss_gb": peak_rss() / 1e9}


def on_workers(n: int) -> dict:
    """Measure build, iterations and traffic on worker processes."""
    import cloudpickle
    import numpy as np
    from distributed import Client, LocalCluster

    from neurobridge.bridge import bridge_cost
    from neurobridge.bridge.cost import distributed

    received_bytes, sent_bytes = [], []
    compute, persist = distributed._compute, distributed._persist

    def counted_compute(tasks: Any) -> Any:
        results = compute(tasks)
        received_bytes.append(len(pickle.dumps(results)))
        sent_bytes.append(len(cloudpickle.dumps([dict(task.__dask_graph__()) for task in tasks])))
        return results

    def counted_persist(tasks: Any) -> Any:
        sent_bytes.append(len(cloudpickle.dumps([dict(task.__dask_graph__()) for task in tasks])))
        return persist(tasks)

    options = {"n_workers": N_WORKERS, "threads_per_worker": 1, "memory_limit": "2GB", "dashboard_address": ":0"}
    with LocalCluster(**options) as local, Client(local) as client:
        client.run(lambda: __import__("neurobridge.bridge.cost.distributed"))
        rss_imports = client.run(peak_rss)
        X, Y = clouds(n)
        start = time.perf_counter()
        cost = bridge_cost(X, Y, (np.arange(P), np.arange(P)), nearest=NEAREST, distributed=True)
        build = time.perf_counter() - start
        rss_built = client.run(peak_rss)
        seconds = iteration_seconds(cost, N_ITER)
        transferred_bytes = client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total)
        # Counting takes time and is done apart: bytes of two more iterations, over those of any solve.
        distributed._compute, distributed._persist = counted_compute, counted_persist
        counts = []
        for n_iter in (2, 4):
            received_bytes.clear()
            sent_bytes.clear()
            transferred_before = sum(client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values())
            solve(cost, n_iter)
            transferred_after = sum(client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values())
            counts.append((sum(received_bytes), sum(sent_bytes), transferred_after - transferred_before))
        distributed._compute, distributed._persist = compute, persist
        return {
            "build_s": build,
            "iteration_s": seconds,
            "worker_peak_rss_gb": max(client.run(peak_rss).values()) / 1e9,
            "worker_peak_rss_built_gb": max(rss_built.values()) / 1e9,
            "worker_rss_imports_gb": max(rss_imports.values()) / 1e9,
            "client_peak_rss_gb": peak_rss() / 1e9,
            "bytes_iteration": {
                name: (counts[1][i] - counts[0][i]) / 2
                for i, name in enumerate(("to_client", "to_workers", "between_workers"))
            },
            "between_workers_all": sum(transferred_bytes.values()),
        }


def solve(cost: BridgeCost, n_iter: int) -> None:
    """Solve with a given number of iterations."""
    import warnings

    from neurobridge.bridge import couple

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        couple(cost, epsilon=EPSILON, tol=0.0, max_iter=n_iter)


def largest_difference(n: int) -> float:
    """Return the largest difference of log scalings on threads from those in memory.

    It is relative to the largest of them.
    """
    import numpy as np

    from neurobridge.bridge import bridge_cost, couple

    X, Y = clouds(n)
    pairs = (np.arange(P), np.arange(P))
    dask_coupling = couple(bridge_cost(X, Y, pairs, nearest=NEAREST, distributed=True), epsilon=EPSILON, tol=1e-5)
    memory_coupling = couple(bridge_cost(X.compute(), Y.compute(), pairs, nearest=NEAREST), epsilon=EPSILON, tol=1e-5)
    return max(
        float(np.abs(a - b).max() / np.abs(b).max())
        for a, b in zip(dask_coupling.log_scalings, memory_coupling.log_scalings, strict=True)
    )


TASKS = {"memory": in_memory, "workers": on_workers, "agree": largest_difference}


def run_task(task: str, n: int) -> dict:
    """Run a task in a process of its own, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return run_json([sys.executable, __file__, "--task", task, "--n", str(n)], environment)


def medians(runs: list[dict]) -> dict:
    """Return the medians over runs, also of nested values."""
    return {
        key: medians([run[key] for run in runs])
        if isinstance(value, dict)
        else statistics.median(run[key] for run in runs)
        for key, value in runs[0].items()
    }


def main(
    n_points: Annotated[int, typer.Option("--n")] = 400_000,
    n_runs: Annotated[int, typer.Option("--runs")] = 3,
    task_name: Annotated[
        str | None,
        typer.Option("--task", help="Measure one thing in this process and print it.", callback=one_of(TASKS)),
    ] = None,
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/distributed.json"),
) -> None:
    if task_name:
        print(json.dumps(TASKS[task_name](n_points)))
        return
    load_average, sizes = os.getloadavg()[0], (n_points // 4, n_points)
    rows: dict[str, Any] = {}
    for n in sizes:
        runs: dict[str, list[dict]] = {"memory": [], "workers": []}
        for _ in range(n_runs if n == n_points else 1):
            for task in runs:  # in turns, so that a busy machine is busy for both
                runs[task].append(run_task(task, n))
        rows |= {f"{task}/{n}": medians(task_runs) for task, task_runs in runs.items()}
        print(json.dumps({key: rows[key] for key in rows if key.endswith(f"/{n}")}, indent=1))
    result = {
        "rows": rows,
        "largest_relative_difference": run_task("agree", sizes[0]),
        "settings": {
            "d": D, "pairs": P, "nearest": NEAREST, "epsilon": EPSILON, "chunk_rows": CHUNK, "workers": N_WORKERS,
            "iterations_timed": N_ITER, "runs": n_runs, "runs_at_the_smaller_size": 1,
        },
        "machine": {"cores": os.cpu_count(), "load_average_at_start": load_average, "python": platform.python_version()},
    }  # fmt: skip
    write_json(result, out_file)


if __name__ == "__main__":
    run_script(main, __doc__)
