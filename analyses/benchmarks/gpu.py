"""The method on a GPU: tests, couplings, fused bridges, flows and extraction, beside the floors of the device.

    python analyses/benchmarks/gpu.py [--device cuda] [--quick] [--limit 480] [--out docs/results/benchmarks/gpu.json]

Two floors are measured first: how many bytes a second the device copies, and how many operations a
second its matrix product does in float32. Of every job the least bytes and operations that it must
move and do are counted; its share of the floor is the time that these would take divided by the
time measured. Simulated points and images. The first run of a job warms it up on few points; jobs
start only while a minute of the limit is left, and what did not run is named in the record.

``--device cpu --quick`` checks the script where there is no GPU, in a minute; its numbers say
nothing of a GPU. Whether this script has run on one is written in docs/scale.md.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import xarray as xr

from analyses.benchmarks.parts.sheet import DIMS, points
from analyses.parts.script import run_script
from neurobridge.bridge import Candidate, bridge_cost, couple, fuse
from neurobridge.features import GaborEnergy, extract
from neurobridge.flow import ConditionalFlow, Training
from neurobridge.points.devices import find_device
from neurobridge.store.atomic import write_json

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("tests/bridge/fused/test_gpu.py", "tests/flow/test_gpu.py")
P, EPSILON, N_ITER, LEFT = 1000, 0.05, 10, 60.0
FULL = {"pairs": P, "coupling": 640_000, "fuse": 20_000, "flow_steps": 2000, "width": 512, "images": 2048}
QUICK = {"pairs": 50, "coupling": 2000, "fuse": 600, "flow_steps": 20, "width": 32, "images": 16}


def waited(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Return the wall seconds of a call, the device's work included."""
    waited(device)
    started = time.perf_counter()
    work()
    waited(device)
    return time.perf_counter() - started


def floors(device: torch.device, quick: bool) -> dict[str, float]:
    """Measure the bytes a second of a copy, read and written, and the operations a second of a matrix product."""
    size, side = (1 << 22, 512) if quick else (1 << 28, 8192)
    source = torch.ones(size, device=device)
    target = torch.empty_like(source)
    A = torch.ones((side, side), device=device)
    product = torch.empty_like(A)
    copy = min(timed(lambda: target.copy_(source), device) for _ in range(5))
    matmul = min(timed(lambda: torch.mm(A, A, out=product), device) for _ in range(5))
    return {"bytes_per_s": 8.0 * size / copy, "operations_per_s": 2.0 * side**3 / matmul}


def coupling(n: int, pairs: int, device: torch.device) -> tuple[float, float, float]:
    """Solve for ten iterations on distances to all anchors: seconds, least bytes, least operations."""
    X, Y = (torch.as_tensor(points(n, seed), device=device) for seed in (1, 2))
    rows = np.arange(pairs), np.arange(pairs)

    def solve() -> None:
        cost = bridge_cost(X, Y, rows, memory_limit=1e11)
        couple(cost, epsilon=EPSILON, tol=0.0, max_iter=N_ITER)

    entries = 2.0 * n * pairs
    # Distances are written once, and read once by each half step; a pass exponentiates and adds every entry.
    return timed(solve, device), 4 * entries * (1 + N_ITER), entries * (2 * DIMS + 4 * N_ITER)


def fused(n: int, pairs: int, device: torch.device) -> tuple[float, float, float]:
    """Fit one candidate in minibatches of 2,000 points at most: seconds, least bytes, least operations."""
    X, Y = (torch.as_tensor(points(n, seed), device=device) for seed in (1, 2))
    size, pairs = min(2000, n // 2), min(pairs, n // 8)
    candidate = Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="linear")
    rows = np.arange(pairs), np.arange(pairs)
    seconds = timed(lambda: fuse(X, Y, rows, metric="euclidean", candidate=candidate, minibatch_size=size), device)
    entries = float(n) * size
    return seconds, 4 * entries * 12, entries * (2 * pairs + 8 * DIMS)


def flow(steps: int, width: int, device: torch.device) -> tuple[float, float, float]:
    """Train a velocity field: seconds, least bytes, least operations."""

    class Rows:
        """Stand-in for a plan solved beforehand: row i goes with row i."""

        anchors = np.arange(100), np.arange(100)

        def sample(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            i = rng.integers(0, 5000, size)
            return i, i

    X, Y = points(5000, 1), points(5000, 2)
    batch = 256
    training = Training(n_steps=steps, batch_size=batch, width=width)
    model = ConditionalFlow("pad", training=training, device=str(device))
    seconds = timed(lambda: model.fit(X, Y, Rows()), device)
    weights = 2.0 * DIMS * width + 2 * width**2
    # Forward, and twice as much backward; weights, gradients and two moments are read and written.
    return seconds, steps * 32 * weights, steps * 6 * batch * weights


def extraction(n: int, device: torch.device) -> tuple[float, float, float]:
    """Take Gabor energies of images: seconds, least bytes; its operations are not counted."""
    pixels = np.random.default_rng(0).integers(0, 255, (n, 96, 96)).astype(np.uint8)
    ids = ("presentation", [f"image{k}" for k in range(n)])
    images = xr.DataArray(pixels, dims=("presentation", "row", "column"), coords={"stimulus_id": ids})
    seconds = timed(lambda: extract(GaborEnergy(), images, "v1", device=str(device), progress=False), device)
    return seconds, 4.0 * pixels.size, 0.0


def main(
    device_name: Annotated[str, typer.Option("--device")] = "cuda",
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, as a check of the script.")] = False,
    limit_s: Annotated[float, typer.Option("--limit", help="Seconds after which nothing more is started.")] = 480.0,
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/gpu.json"),
) -> None:
    started = time.monotonic()
    device = find_device(device_name)
    assert isinstance(device, torch.device)
    sizes = QUICK if quick else FULL
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "torch": torch.__version__, "quick": quick, "sizes": sizes, "floors": floors(device, quick), "jobs": {}, "not_run": [],
    }  # fmt: skip
    jobs: dict[str, tuple[Callable[..., Any], tuple[int, ...], tuple[int, ...]]] = {
        "coupling": (coupling, (2000, 50), (sizes["coupling"], sizes["pairs"])),
        "fuse": (fused, (600, 50), (sizes["fuse"], sizes["pairs"])),
        "flow": (flow, (20, 32), (sizes["flow_steps"], sizes["width"])),
        "extraction": (extraction, (16,), (sizes["images"],)),
    }
    for name, (job, few, many) in jobs.items():
        if time.monotonic() - started > limit_s - LEFT:
            results["not_run"].append(name)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # couplings are stopped early on purpose
            job(*few, device)
            seconds, n_bytes, n_operations = job(*many, device)
        rates = results["floors"]
        results["jobs"][name] = {
            "seconds": seconds, "of_bandwidth": n_bytes / rates["bytes_per_s"] / seconds,
            "of_matmul": n_operations / rates["operations_per_s"] / seconds,
        }  # fmt: skip
        print(name, {key: round(value, 4) for key, value in results["jobs"][name].items()}, flush=True)
        write_json(results, out_file)
    left = limit_s - (time.monotonic() - started)
    if quick or left < LEFT:
        results["not_run"].append("tests")
    else:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "", *TESTS]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=left)
            results["tests"] = {
                "passed": done.returncode == 0,
                "last_line": (done.stdout.strip().splitlines() or [""])[-1],
            }
        except subprocess.TimeoutExpired:
            results["not_run"].append("tests")
    results["seconds"] = time.monotonic() - started
    write_json(results, out_file)
    print({key: results.get(key) for key in ("device", "floors", "tests", "not_run", "seconds")})


if __name__ == "__main__":
    run_script(main, __doc__)
