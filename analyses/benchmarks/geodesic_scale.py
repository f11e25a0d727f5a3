"""The geodesic bridge from ten thousand to 1.28 million points a side, and its neighbours beside those of libraries.

    python analyses/benchmarks/geodesic_scale.py [--size 10000 ...] [--neighbours] [--threads 2] [--out FILE]

Points are simulated: two draws of the curved six-dimensional sheet in 64 dimensions of
`analyses/benchmarks/coupling.py`, 1,000 pairs, 10 neighbours, the 32 nearest anchors kept. Every
measurement runs in its own process, so that its peak RSS is its own; kernels are compiled before
the clock starts, once a machine. ``--neighbours`` measures the neighbour lists alone, on one
thread, beside faiss and pynndescent where they are installed, with settings of about the same
recall (for pynndescent with and without its compilation, which every process repeats). Records
are kept as they come, and a second run goes on from them.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from analyses.benchmarks.parts.sheet import DIMS, points
from analyses.parts.processes import ProcessError, run_json
from analyses.parts.script import run_script
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

SIZES = (10_000, 40_000, 160_000, 640_000, 1_280_000)
P, NEAREST, N_NEIGHBORS, NEIGHBOUR_SIZE, N_TRIED = 1000, 32, 10, 160_000, 500
#: Libraries with settings that give a recall near .95 on the sheet.
LIBRARIES = ("ours", "faiss-ivf", "faiss-hnsw", "faiss-nndescent", "pynndescent", "pynndescent-warm")


def cost_seconds(n: int, n_threads: int) -> dict[str, Any]:
    """Measure the distances of both sides."""
    import torch

    from neurobridge.bridge import bridge_cost

    torch.set_num_threads(n_threads)
    # Twice as many points as are exact: their neighbours and their paths take the compiled route.
    warm = points(20_000, 3)
    bridge_cost(warm, warm, (np.arange(400), np.arange(400)), metric="geodesic", nearest=4)
    X, Y = points(n, 1), points(n, 2)
    started, cpu_started = time.perf_counter(), time.process_time()
    cost = bridge_cost(X, Y, (np.arange(P), np.arange(P)), metric="geodesic", nearest=NEAREST, n_neighbors=N_NEIGHBORS)
    return {
        "n": n, "threads": n_threads, "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started, "recall": [cost.source.recall, cost.target.recall],
        "peak_rss_gb": peak_rss() / 1e9, "points_gb": (X.nbytes + Y.nbytes) / 1e9, "load_average": os.getloadavg()[0],
    }  # fmt: skip


def library_neighbours(name: str, X: np.ndarray, k: int) -> np.ndarray:
    """Return the k nearest others of every row by a library, itself among them in faiss."""
    n, d = X.shape
    if name.startswith("pynndescent"):
        # By name: the library has no types.
        descent = importlib.import_module("pynndescent").NNDescent
        if name.endswith("warm"):
            descent(X[:5000], n_neighbors=k + 1, n_jobs=1, random_state=0)
        global _started
        _started = time.process_time()
        return descent(X, n_neighbors=k + 1, n_jobs=1, random_state=0).neighbor_graph[0]
    import faiss

    index: Any
    faiss.omp_set_num_threads(1)
    if name == "faiss-nndescent":
        index = faiss.IndexNNDescentFlat(d, 2 * k, faiss.METRIC_L2)
        index.nndescent.iter = 8
        index.add(X)
        return faiss.vector_to_array(index.nndescent.final_graph).reshape(n, -1)[:, :k]
    if name == "faiss-hnsw":
        index = faiss.IndexHNSWFlat(d, 16)
        index.hnsw.efConstruction, index.hnsw.efSearch = 40, 32
    else:
        n_cells = int(2 * math.sqrt(n))
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, n_cells)
        index.cp.niter = 8
        index.train(X[:: max(1, n // (40 * n_cells))])
        index.nprobe = 12
    index.add(X)
    return index.search(X, k + 1)[1]


def neighbour_seconds(name: str) -> dict[str, Any]:
    """Measure the neighbour lists of one side on one thread, and their recall on some points."""
    import torch

    from neurobridge.bridge.cost.geodesic.lists import neighbor_lists

    torch.set_num_threads(1)
    X = points(NEIGHBOUR_SIZE, 1)
    tried = np.random.default_rng(0).choice(len(X), N_TRIED, replace=False)
    exact = np.empty((N_TRIED, N_NEIGHBORS + 1), dtype=np.int64)
    for place, row in enumerate(tried):
        exact[place] = np.argpartition(((X - X[row]) ** 2).sum(axis=1), N_NEIGHBORS + 1)[: N_NEIGHBORS + 1]
    if name == "ours":
        neighbor_lists(torch.as_tensor(points(20_000, 3)), N_NEIGHBORS)
    global _started
    _started = time.process_time()
    if name == "ours":
        lists = neighbor_lists(torch.as_tensor(X), N_NEIGHBORS)
        index = lists.order[lists.neighbor[np.argsort(lists.order)]]
    else:
        index = library_neighbours(name, X, N_NEIGHBORS)
    seconds = time.process_time() - _started
    hits = [len({*exact[p]} & {*index[row]} - {row}) / N_NEIGHBORS for p, row in enumerate(tried)]
    return {
        "name": name,
        "n": len(X),
        "cpu_seconds": seconds,
        "recall": float(np.mean(hits)),
        "peak_rss_gb": peak_rss() / 1e9,
    }


_started = 0.0


def slope(records: list[dict[str, Any]], key: str) -> float | None:
    """Return the log-log slope of a value against the number of points."""
    if len(records) < 2:
        return None
    return float(np.polyfit([math.log(r["n"]) for r in records], [math.log(r[key]) for r in records], 1)[0])


def main(
    sizes: Annotated[list[int] | None, typer.Option("--size", help="Points a side, may be repeated.")] = None,
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="Measure the neighbour lists beside libraries instead.")
    ] = False,
    n_threads: Annotated[int, typer.Option("--threads")] = 2,
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/geodesic_scale.json"),
    case: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> None:
    if case:
        print(
            json.dumps(neighbour_seconds(case[1]) if case[0] == "lists" else cost_seconds(int(case[1]), int(case[2])))
        )
        return
    results = json.loads(out_file.read_text()) if out_file.exists() else {"records": [], "neighbours": []}
    results["setting"] = {
        "data": "simulated", "dims": DIMS, "pairs": P, "nearest": NEAREST, "n_neighbors": N_NEIGHBORS, "seeds": [1, 2],
    }  # fmt: skip
    results["machine"] = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    if neighbours:
        tasks = [
            ("neighbours", ["lists", name])
            for name in LIBRARIES
            if name not in {r["name"] for r in results["neighbours"]}
        ]
    else:
        tasks = [
            ("records", ["cost", str(n), str(n_threads)]) for n in sizes or SIZES
            if (n, n_threads) not in {(r["n"], r["threads"]) for r in results["records"]}
        ]  # fmt: skip
    for key, task in tasks:
        try:
            results[key].append(run_json([sys.executable, __file__, *task]))
        except ProcessError as error:
            print(f"{' '.join(task)}: not run: {error}")
            continue
        print(results[key][-1], flush=True)
        results["records"].sort(key=lambda row: row["n"])
        results["slope"] = {name: slope(results["records"], name) for name in ("seconds", "cpu_seconds")}
        write_json(results, out_file)


if __name__ == "__main__":
    run_script(main, __doc__)
