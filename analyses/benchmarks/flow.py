"""Flow training and transport beside a minibatch-OT loop written with torchcfm.

    python analyses/benchmarks/flow.py --peer-python .venv-torchcfm/bin/python [--runs 3] [--anew] [--redraw]

The peer needs an environment of its own (torchcfm pulls in torchdyn):

    python -m venv .venv-torchcfm && .venv-torchcfm/bin/pip install torch==2.13.0 torchcfm

Both sides train the same network (`VelocityMLP`, loaded from this checkout), on the same Gaussian
clouds, with AdamW, the same batch, one thread. The peer's loop is the one of its README: no
averaged weights, no clipping, no schedule; ours has all three. Three of ours: `coupling` draws
from a plan solved beforehand (whose solving is not counted), `minibatch` re-solves transport in
every minibatch as the peer does, `affine` is the default flow, which conditions on the source. Two
floors: `floor`, the network's matrix products alone, and `bare`, forward, backward and the
optimiser's step on one batch that never changes: what a loop around the same network cannot beat.
`bfloat16` is `coupling` in mixed precision, which is another computation and stands in no ratio.
Every measurement has its own process, so that its peak RSS is its own; ours and the peer's take
turns, so that a busy machine is busy for both. Medians, per wall second and per processor second.
Our transport also looks for points off the support; the peer's does not. `demo` is one flow of
`neurobridge demo` on its simulated recordings, both directions, as the demo trains it and with the
defaults, on two threads. Runs are kept as they come, and a second call makes those that are
missing (`--anew` forgets them).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DIMENSIONS, SAMPLES = (16, 64, 128, 256, 512, 1024), (1_000, 10_000, 100_000, 1_000_000)
N, D, BATCH, SIGMA, ODE_STEPS, N_MOVED = 5_000, 128, 256, 0.1, 16, 10_000
TASKS = ("coupling", "minibatch", "affine", "peer", "bfloat16", "bare", "floor")
#: Task -> label, a key of the palette, and how its line is drawn.
LABELS = {
    "coupling": ("plan solved beforehand", "fused", "o-"),
    "minibatch": ("re-solved in each minibatch", "pairs", "s--"),
    "affine": ("default (affine, conditioned)", "ridge", "^-."),
    "peer": ("torchcfm loop", "cca", "v:"),
    "bfloat16": ("plan solved beforehand, bfloat16", "fused-flow", "D--"),
    "bare": ("forward, backward, optimiser", "pls", "--"),
    "floor": ("matrix products alone", "pls", "-"),
}


def peak_rss_gb() -> float:
    """Return the peak RSS of this process.

    The peer's interpreter has no neurobridge to ask, nor typer.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in status if line.startswith("VmHWM"))


def clouds(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw both Gaussian clouds, shape (n, d)."""
    import numpy as np

    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), dtype=np.float32)
    return X, rng.standard_normal((n, d), dtype=np.float32) + 2


# As in parts/timing.py: the interpreter of a peer runs this file alone.
def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the wall and the processor seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_ours(task: str, n: int, d: int, n_steps: int, n_moved: int) -> dict[str, float]:
    """Measure training and transport of `ConditionalFlow`."""
    import numpy as np
    import torch

    from neurobridge.flow import ConditionalFlow, Training

    torch.set_num_threads(1)

    class Rows:
        """Stand-in for a plan solved beforehand.

        Row i goes with row i, or with any row (the product, for `minibatch`).
        """

        anchors = np.arange(100), np.arange(100)

        def sample(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            i = rng.integers(0, n, size)
            return i, rng.integers(0, n, size) if task == "minibatch" else i

    X, Y = clouds(n, d)

    def fit(steps: int) -> ConditionalFlow:
        base: Literal["affine", "pad"] = "affine" if task == "affine" else "pad"
        training = Training(
            n_steps=steps, batch_size=BATCH, sigma=SIGMA, minibatch_ot=task == "minibatch",
            mixed_precision=task == "bfloat16",
        )  # fmt: skip
        return ConditionalFlow(base, training=training).fit(X, Y, Rows())

    # The startup (standardising, the support, building networks) is measured apart and subtracted.
    fit(1)
    startup = timed(lambda: fit(1))
    flows = []
    full_fit = timed(lambda: flows.append(fit(n_steps)))
    steps = (n_steps - 1) * (2 if task == "affine" else 1)
    transport_times = timed(lambda: flows[0].transport(np.resize(X, (n_moved, d)), method="midpoint"))
    return rates(full_fit[0] - startup[0], full_fit[1] - startup[1], steps, transport_times, n_moved) | {
        "fit_s": full_fit[0],
        "once_s": startup[0],
    }


def measure_peer(n: int, d: int, n_steps: int, n_moved: int) -> dict[str, float]:
    """Measure training and transport of a torchcfm loop on the same network."""
    import torch
    import torchdiffeq
    from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher

    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = importlib.util.spec_from_file_location("networks", ROOT / "neurobridge/flow/networks.py")
    assert spec is not None
    assert spec.loader is not None
    networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(networks)
    network = networks.VelocityMLP(d)
    X, Y = (torch.as_tensor(Z) for Z in clouds(n, d))
    matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=SIGMA)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)

    def steps(count: int) -> None:
        for _ in range(count):
            x_0, x_1 = X[torch.randint(0, n, (BATCH,))], Y[torch.randint(0, n, (BATCH,))]
            t, x_t, u_t = matcher.sample_location_and_conditional_flow(x_0, x_1)
            optimiser.zero_grad()
            loss = (network(t[:, None], x_t) - u_t).square().mean()
            loss.backward()
            optimiser.step()

    def move() -> None:
        with torch.inference_mode():
            x = X[torch.arange(n_moved) % n]
            torchdiffeq.odeint(
                lambda t, x: network(t.expand(len(x), 1), x), x, torch.linspace(0, 1, ODE_STEPS + 1), method="midpoint"
            )

    steps(3)
    return rates(*timed(lambda: steps(n_steps)), n_steps, timed(move), n_moved)


def rates(
    wall: float, cpu: float, n_steps: int, transport_times: tuple[float, float], n_moved: int
) -> dict[str, float]:
    """Turn times into steps and points a second."""
    return {
        "steps_per_s": n_steps / wall,
        "steps_per_cpu_s": n_steps / cpu,
        "points_per_s": n_moved / transport_times[0],
        "points_per_cpu_s": n_moved / transport_times[1],
        "peak_rss_gb": peak_rss_gb(),
    }


def product_steps(d: int) -> dict[str, float]:
    """Measure the steps a second of the network's matrix products alone, forward and backward."""
    import torch

    from neurobridge.flow import default_size

    torch.set_num_threads(1)
    width, depth = default_size(d)
    shapes = [(d + 8, width), *[(width, width)] * (2 * depth), (width, d)]
    products = []
    for k, m in shapes:
        h, W, g = torch.randn(BATCH, k), torch.randn(k, m), torch.randn(BATCH, m)
        products += [(h, W), (h.T, g)] + ([(g, W.T)] if (k, m) != shapes[0] else [])

    def work(count: int) -> None:
        for _ in range(count):
            for left, right in products:
                left @ right

    count = 200 if d <= 256 else 20
    work(5)
    wall, cpu = timed(lambda: work(count))
    return {"steps_per_s": count / wall, "steps_per_cpu_s": count / cpu}


def bare_steps(d: int) -> dict[str, float]:
    """Measure the steps a second of forward, backward and AdamW on one batch.

    There are no draws, no path, no clipping and no average.
    """
    import torch

    from neurobridge.flow import Training, VelocityMLP
    from neurobridge.flow.state import make_optimiser

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = VelocityMLP(d)
    optimiser = make_optimiser(network.parameters(), Training(), torch.device("cpu"))
    t, x, u = torch.rand(BATCH, 1), torch.randn(BATCH, d), torch.randn(BATCH, d)

    def work(count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad(set_to_none=True)
            (network(t, x) - u).square().mean().backward()
            optimiser.step()

    count = 200 if d <= 256 else 20
    work(3)
    wall, cpu = timed(lambda: work(count))
    return {"steps_per_s": count / wall, "steps_per_cpu_s": count / cpu}


def measure_demo() -> dict[str, float]:
    """Measure the fit of one flow of the demo, on two threads.

    Once with the demo's settings, and once with the package's.
    """
    import torch

    from neurobridge.aligners import BridgeAligner
    from neurobridge.flow import Training
    from neurobridge.study.demo.task import SIMULATED, DemoConfig, draw_fold, prepare

    torch.set_num_threads(2)
    fold = draw_fold(prepare(SIMULATED), 0.1, seed=0)
    seconds: dict[str, float] = {
        "n_source": fold.source_train.shape[0], "source_dims": fold.source_train.shape[1], "n_target": fold.target_train.shape[0],
        "target_dims": fold.target_train.shape[1],
    }  # fmt: skip
    # The pairs alone cost nothing to solve, and a flow's steps cost the same whatever plan they are drawn from.
    default = Training(validation=0.0)
    settings = {"demo": default.replace(n_steps=DemoConfig().flow_steps, width=128, depth=2), "default": default}
    for name, training in settings.items():
        aligner = BridgeAligner(coupling="pairs", map="flow", flow_options={"training": training})
        seconds[f"{name}_fit_s"], seconds[f"{name}_fit_cpu_s"] = timed(
            partial(aligner.fit, fold.source_train, fold.target_train, fold.pairs)
        )
    return seconds | {"peak_rss_gb": peak_rss_gb()}


def run_task(arguments: argparse.Namespace) -> dict[str, float]:
    """Run the task that the command line names."""
    if arguments.task == "demo":
        return measure_demo()
    if arguments.task in ("floor", "bare"):
        return {"floor": product_steps, "bare": bare_steps}[arguments.task](arguments.d)
    size = (arguments.n, arguments.d, arguments.steps, arguments.moved)
    return measure_peer(*size) if arguments.task == "peer" else measure_ours(arguments.task, *size)


def repeat(
    cases: list[tuple[str, int, int]], arguments: argparse.Namespace, runs_by_case: dict[str, list[dict[str, float]]]
) -> None:
    """Run every case until it has `runs` measurements, in turns, and keep each as it comes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for count in range(arguments.runs):
        for task, n, d in cases:
            key = f"{task}/{n}/{d}"
            if len(runs_by_case.get(key, ())) > count or (task == "peer" and arguments.peer_python is None):
                continue
            steps, moved = (150, N_MOVED) if d <= 128 else (60, N_MOVED // 2) if d <= 256 else (12, 500)
            sizes = {"n": n, "d": d, "steps": steps, "moved": max(moved, min(n, 100_000))}
            command = [arguments.peer_python if task == "peer" else sys.executable, __file__, "--task", task]
            command += [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
            completed = subprocess.run(command, capture_output=True, text=True, env=environment)
            if completed.returncode:
                raise SystemExit(f"{key} failed:\n{completed.stderr}")
            runs_by_case.setdefault(key, []).append(json.loads(completed.stdout.strip().splitlines()[-1]))
            print(key, " ".join(f"{name}={value:.4g}" for name, value in runs_by_case[key][-1].items()), flush=True)
            write(arguments, runs_by_case)


def write(arguments: argparse.Namespace, runs_by_case: dict[str, list[dict[str, float]]]) -> dict:
    """Write medians, ratios and all runs into the file that a later call goes on from."""
    rows = {
        key: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for key, runs in runs_by_case.items()
    }
    machine = {
        "python": platform.python_version(), "cores": os.cpu_count(), "processor": platform.machine(), "threads": 1,
        "load_average": os.getloadavg()[0],
    }  # fmt: skip
    result = {"rows": rows, "ratio_to_peer": ratios(rows), "batch": BATCH, "machine": machine, "runs": runs_by_case}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def ratios(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Divide ours, and the bare steps, by the peer's where both ran at the same size."""
    out = {}
    for key, own_row in rows.items():
        task, size = key.split("/", 1)
        peer_row = rows.get(f"peer/{size}")
        if peer_row and task in ("coupling", "minibatch", "affine", "bare", "floor"):
            out[key] = {
                name: own_row[name] / peer_row[name] for name in peer_row if name in own_row and name != "peak_rss_gb"
            }
    return out


def draw(result: dict, path: Path) -> None:
    """Draw training steps, transport and memory."""
    import matplotlib as mpl

    mpl.use("Agg")

    # Imported here: the processes that are timed load nothing that they do not need.
    from analyses.parts.pictures import save_png
    from neurobridge import figures
    from neurobridge.study.panels import make_panels

    rows = result["rows"]
    figure, axes = make_panels(3, 5.6, 3.8)
    for task, (label, family, line) in LABELS.items():
        look: dict = {"color": figures.PALETTE[family], "linewidth": 1.2, "markersize": 4}
        points = sorted(
            (int(key.split("/")[2]), value) for key, value in rows.items() if key.startswith(f"{task}/{N}/")
        )
        if points:
            x = [p[0] for p in points]
            axes[0].plot(x, [p[1]["steps_per_cpu_s"] for p in points], line, **look)
            moves = task not in ("floor", "bare", "bfloat16")
            # The legend stands beside the second panel and names the lines of both.
            axes[1].plot(
                x if moves else [],
                [p[1]["points_per_cpu_s"] for p in points] if moves else [],
                line,
                label=label,
                **look,
            )
    points = sorted((int(key.split("/")[1]), value) for key, value in rows.items() if key.endswith("/32"))
    for key, label, family, line in (
        ("peak_rss_gb", "peak RSS (GB)", "procrustes", "o-"),
        ("once_s", "paid once in fit (s)", "keypoints", "s--"),
    ):
        axes[2].plot(
            [p[0] for p in points],
            [p[1][key] for p in points],
            line,
            color=figures.PALETTE[family],
            markersize=4,
            label=label,
        )
    axes[0].set(xlabel="dimensions of both spaces", ylabel="training steps per processor second")
    axes[1].set(xlabel="dimensions of both spaces", ylabel="points moved per processor second")
    axes[2].set(xlabel="points in each space (32 dimensions)", ylabel="GB, or seconds")
    for ax in axes:
        ax.set(xscale="log", yscale="log")
    for ax in axes[1:]:
        figures.legend_beside(ax)
    figures.panel_letters(axes)
    caption = f"Simulated, n = {N:,} points, batch {BATCH}, one thread, midpoint {ODE_STEPS} steps, seed 0, medians of "
    # The runs themselves are kept since they can be gone on from; older results say how many they were.
    caption += str(max(map(len, result["runs"].values())) if "runs" in result else result["n_runs"])
    figure.supxlabel(caption, fontsize="small")
    save_png(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=(*TASKS, "demo"))
    for name, value in (("n", N), ("d", D), ("steps", 200), ("moved", N_MOVED), ("runs", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peer-python", default=None, help="interpreter of an environment with torchcfm")
    parser.add_argument("--anew", action="store_true", help="forget the runs that are kept")
    parser.add_argument("--out", type=Path, default=Path("docs/results/benchmarks/flow.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/flow_benchmark.png"))
    parser.add_argument("--redraw", action="store_true", help="draw the kept results again, and measure nothing")
    arguments = parser.parse_args()
    if arguments.task:
        print(json.dumps(run_task(arguments)))
        return
    if arguments.redraw:
        draw(json.loads(arguments.out.read_text()), arguments.figure)
        return
    runs_by_case: dict[str, list[dict[str, float]]] = {}
    if arguments.out.exists() and not arguments.anew:
        runs_by_case = json.loads(arguments.out.read_text()).get("runs", {})
    repeat([(task, N, d) for d in DIMENSIONS for task in TASKS], arguments, runs_by_case)
    repeat([("affine", n, 32) for n in SAMPLES], arguments, runs_by_case)
    repeat([("demo", 0, 0)], arguments, runs_by_case)
    result = write(arguments, runs_by_case)
    draw(result, arguments.figure)
    print(json.dumps(result["ratio_to_peer"], indent=1))


if __name__ == "__main__":
    main()
