"""Speed and memory of the bridge, beside its peers and up to 1.28 million points a side.

    python analyses/benchmarks/coupling.py [--quick] [--geodesic] [--peer-python PYTHON] [--out FILE] [--redraw]

Points are simulated: a curved six-dimensional sheet in 64 dimensions, two independent draws. Every
measurement runs in its own process, so that its peak RSS is its own; the points are made before
the clock starts. Medians of several runs; the file keeps all. ``--peer-python`` names the
interpreter of an environment with ott-jax.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from analyses.benchmarks.parts.sheet import DIMS, points
from analyses.parts.processes import ProcessError, run_json
from analyses.parts.script import run_script
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

if TYPE_CHECKING:
    from neurobridge.bridge import BridgeCost

N_PEER, P_PEER, TOL = 10_000, 200, 1e-3
P, NEAREST, EPSILON = 1000, 32, 0.05
SIZES = (10_000, 40_000, 160_000, 640_000, 1_280_000)
MOST_GB = 3


def small_cost() -> BridgeCost:
    """Make the bridge cost of the problem that all solvers share."""
    from neurobridge.bridge import bridge_cost

    pairs = (np.arange(P_PEER), np.arange(P_PEER))
    return bridge_cost(points(N_PEER, 1).astype(np.float64), points(N_PEER, 2).astype(np.float64), pairs)


def solve_ours() -> dict:
    """Measure `couple` on the shared problem."""
    from neurobridge.bridge import couple

    cost = small_cost()
    before = peak_rss() / 1e9
    started = time.perf_counter()
    coupling = couple(cost, epsilon=EPSILON, tol=TOL)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "extra_gb": peak_rss() / 1e9 - before,
        "iterations": coupling.n_iter,
        "error": coupling.marginal_error,
    }


def solve_pot() -> dict:
    """Measure POT's log-domain Sinkhorn on the same dense cost."""
    import ot

    dense = small_cost().at(EPSILON).dense()
    a = np.full(N_PEER, 1 / N_PEER)
    before = peak_rss() / 1e9
    started = time.perf_counter()
    # POT stops on the L2 error of one marginal; times the root of its length it bounds the L1 error.
    plan, log = ot.bregman.sinkhorn(
        a, a, dense, EPSILON, method="sinkhorn_log", stopThr=TOL / math.sqrt(N_PEER), numItermax=2000, log=True, warn=False
    )  # fmt: skip
    seconds = time.perf_counter() - started
    extra = peak_rss() / 1e9 - before + dense.nbytes / 1e9
    error = float(np.abs(plan.sum(0) - a).sum() + np.abs(plan.sum(1) - a).sum())
    return {"seconds": seconds, "extra_gb": extra, "iterations": int(log["niter"]) + 1, "error": error}


def solve_pot_low_rank() -> dict:
    """Measure POT's low-rank Sinkhorn.

    It solves another problem (squared Euclidean cost, rank 200), the closest that POT has without
    an n x m matrix.
    """
    import warnings

    import ot

    X, Y = points(N_PEER, 1).astype(np.float64), points(N_PEER, 2).astype(np.float64)
    before = peak_rss() / 1e9
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Q, R, _ = ot.lowrank_sinkhorn(X, Y, reg=EPSILON, rank=P_PEER, numItermax=200, stopThr=TOL, seed_init=0)
    seconds = time.perf_counter() - started
    error = float(np.abs(Q.sum(1) - 1 / N_PEER).sum() + np.abs(R.sum(1) - 1 / N_PEER).sum())
    return {"seconds": seconds, "extra_gb": peak_rss() / 1e9 - before, "iterations": None, "error": error}


_OTT = """
import json, sys, time
import numpy as np
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
from ott.geometry.geometry import Geometry
from ott.problems.linear.linear_problem import LinearProblem
from ott.solvers.linear.sinkhorn import Sinkhorn
cost = jnp.asarray(np.load(sys.argv[1]))
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024 / 1e9
before = peak()
solver = jax.jit(Sinkhorn(threshold=float(sys.argv[3]), max_iterations=2000))
problem = LinearProblem(Geometry(cost_matrix=cost, epsilon=float(sys.argv[2])))
solver(problem).f.block_until_ready()
started = time.perf_counter()
out = solver(problem)
out.f.block_until_ready()
seconds = time.perf_counter() - started
plan = out.matrix
n = len(cost)
error = float(jnp.abs(plan.sum(0) - 1 / n).sum() + jnp.abs(plan.sum(1) - 1 / n).sum())
extra = peak() - before + cost.nbytes / 1e9
print(json.dumps({"seconds": seconds, "extra_gb": extra, "iterations": int(out.n_iters), "error": error}))
"""


def solve_ott(python: str) -> dict:
    """Run Sinkhorn of ott on the same dense cost, compiled before the clock starts."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cost.npy"
        np.save(file, small_cost().at(EPSILON).dense())
        return run_json([python, "-c", _OTT, str(file), str(EPSILON), str(TOL)])


def solve_large(n: int, kind: str) -> dict:
    """Measure distances, solve and draws of one large problem."""
    import torch

    from neurobridge.bridge import bridge_cost, couple

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    X, Y = points(n, 1), points(n, 2)
    pairs = (np.arange(P), np.arange(P))
    options: dict = {"stream": True} if kind == "streamed" else {"nearest": NEAREST}
    if kind == "geodesic":
        options["metric"] = "geodesic"
    started = time.perf_counter()
    cost = bridge_cost(X, Y, pairs, **options)
    build = time.perf_counter() - started
    coupling = couple(cost, epsilon=EPSILON, tol=TOL, max_iter=2000)
    total = time.perf_counter() - started
    solve_gb = peak_rss() / 1e9
    result = {
        "seconds": total, "build_s": build, "iterations": coupling.n_iter, "error": coupling.marginal_error,
        "s_per_iteration": (total - build) / coupling.n_iter, "peak_gb": solve_gb,
        "truncation_bound": cost.truncation_bound(EPSILON),
    }  # fmt: skip
    if kind != "streamed":
        started = time.perf_counter()
        coupling.sample(1_000_000, np.random.default_rng(0))
        result["sample_1m_s"] = time.perf_counter() - started
    return result


def measure(task: list[str], repeats: int) -> dict | None:
    """Run a task several times in processes of its own; None where it cannot run."""
    runs = []
    for _ in range(repeats):
        try:
            runs.append(run_json([sys.executable, __file__, *task]))
        except ProcessError as error:
            print(f"{' '.join(task):28s} not run: {error}")
            return None
    medians = {k: statistics.median(r[k] for r in runs) if runs[0][k] is not None else None for k in runs[0]}
    print(f"{' '.join(task):28s} " + "  ".join(f"{k} {v:.4g}" for k, v in medians.items() if v is not None), flush=True)
    return {**medians, "all_seconds": [r["seconds"] for r in runs]}


def draw(results: dict, path: Path) -> None:
    """Draw seconds and peak memory against the number of points."""
    import matplotlib as mpl

    mpl.use("Agg")

    # Imported here: the processes that are timed load nothing that they do not need.
    from analyses.parts.pictures import save_png
    from neurobridge import figures
    from neurobridge.study.panels import make_panels

    figure, axes = make_panels(2, 4.6, 3.6)
    rows = {int(n): row for n, row in results["scale"].items() if row}
    sizes = sorted(rows)
    colours = figures.PALETTE
    marks = (("streamed", "s", colours["ridge"]), ("geodesic", "^", colours["keypoints"]))
    for ax, key, label in zip(axes, ("seconds", "peak_gb"), ("distances + solve (s)", "peak RSS (GB)"), strict=True):
        ax.loglog(sizes, [rows[n][key] for n in sizes], "o-", color=colours["bridge"], label=f"nearest {NEAREST}")
        for kind, marker, colour in marks:
            if results.get(kind):
                ax.loglog([SIZES[-1]], [results[kind][key]], marker, color=colour, label=kind)
        ax.set(xlabel="points a side (count, log scale)", ylabel=label)
    axes[1].axhline(MOST_GB, color="0.6", linestyle=":", label=f"{MOST_GB} GB")
    axes[1].set_yticks(ticks := [0.5, 1, 2, 3], labels=[f"{tick:g}" for tick in ticks])
    axes[1].yaxis.set_minor_formatter("")
    figures.panel_letters(axes)
    figures.shared_legend(axes)
    figure.supxlabel(
        f"Simulated points, {DIMS} dimensions, P = {P}, epsilon {EPSILON}, marginal error {TOL}, seeds 1 and 2; medians",
        fontsize="small",
    )
    save_png(figure, path)


def main(
    task_name: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, one run each.")] = False,
    geodesic: Annotated[
        bool, typer.Option("--geodesic", help="With geodesic costs at the largest size (needs the extra `ann`).")
    ] = False,
    peer_python: Annotated[str | None, typer.Option("--peer-python")] = None,
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/coupling.json"),
    figure_file: Annotated[Path, typer.Option("--figure")] = Path("docs/figures/coupling_benchmark.png"),
    redraw: Annotated[bool, typer.Option("--redraw", help="Draw the kept results again, and measure nothing.")] = False,
) -> None:
    if redraw:
        draw(json.loads(out_file.read_text()), figure_file)
        return
    if task_name:
        name, *task_options = task_name
        if name == "large":
            print(json.dumps(solve_large(int(task_options[0]), task_options[1])))
        else:
            tasks: dict[str, Any] = {
                "ours": solve_ours,
                "pot": solve_pot,
                "pot-low-rank": solve_pot_low_rank,
                "ott": solve_ott,
            }
            print(json.dumps(tasks[name](*task_options)))
        return
    n_runs = 1 if quick else 3
    peers: dict[str, Any] = {
        "ours": measure(["ours"], n_runs),
        "pot": measure(["pot"], 1),
        "pot-low-rank": measure(["pot-low-rank"], 1),
    }
    if peer_python:
        peers["ott"] = measure(["ott", peer_python], 1)
    sizes = SIZES[:3] if quick else SIZES
    scale: dict[str, Any] = {str(n): measure(["large", str(n), "nearest"], n_runs) for n in sizes}
    results: dict = {"peers": peers, "scale": scale}
    if not quick:
        results["streamed"] = measure(["large", str(SIZES[-1]), "streamed"], 1)
        if geodesic:
            results["geodesic"] = measure(["large", str(SIZES[-1]), "geodesic"], 1)
    measured_sizes = [n for n in sizes if scale[str(n)]]
    seconds = [math.log(scale[str(n)]["seconds"]) for n in measured_sizes]
    results["slope"] = float(np.polyfit([math.log(n) for n in measured_sizes], seconds, 1)[0])
    ours_row = peers["ours"]
    results["ratios"] = {
        name: {
            "time": peer["seconds"] / ours_row["seconds"],
            "memory": peer["extra_gb"] / max(ours_row["extra_gb"], 1e-3),
        }
        for name, peer in peers.items()
        if peer and name != "ours"
    }
    results["setting"] = {
        "n_peer": N_PEER,
        "pairs_peer": P_PEER,
        "pairs": P,
        "dims": DIMS,
        "nearest": NEAREST,
        "epsilon": EPSILON,
        "tol": TOL,
        "data": "simulated",
    }
    results["machine"] = {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    print(json.dumps({"slope": results["slope"], "ratios": results["ratios"]}, indent=1))
    write_json(results, out_file)
    draw(results, figure_file)


if __name__ == "__main__":
    run_script(main, __doc__)
