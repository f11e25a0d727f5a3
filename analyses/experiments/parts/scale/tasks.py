"""Tasks that `scale` runs in processes of their own, so that the peak RSS of each is its own.

python -m analyses.experiments.parts.scale.tasks {deform,align} FOLDER OPTIONS
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurobridge.bridge import Coupling, bridge_cost, couple, kernel_map
from neurobridge.features import load_reference
from neurobridge.features.references.conv import random_views
from neurobridge.flow import ConditionalFlow, Training
from neurobridge.study.machine import peak_rss

SIDES = ("source", "target")
PAIRS = (20, 100, 1000)
#: Arguments of `random_views`, small enough that digits stay legible.
VIEW = {"rotation": 12.0, "scale": 0.12, "shear": 0.15, "shift": 0.06, "elastic": 0.03, "contrast": 0.0}
#: Chosen on development digits at 10,000 points among epsilon .01 to .2 and 8 to 32 anchors, balanced and not.
EPSILON, NEAREST, TOL = 0.05, 8, 1e-3
#: Draws of the plan for the training of a flow, and points whose mean partners the kernel map is fitted to.
N_DRAWS, N_SMOOTHED = 128_000, 2000
#: Readouts by metric. Geodesic plans leave out the mean partner, whose formula lost anchors when this was designed.
READOUTS = {"euclidean": ("mean partner", "kernel map", "flow"), "geodesic": ("kernel map", "flow")}
_BLOCK = 512


def run_task(task: str, folder: Path, **options: Any) -> dict[str, Any]:
    """Run a task in a process of its own and repeat its warnings here."""
    command = [sys.executable, "-m", __name__, task, str(folder), json.dumps(options)]
    completed = subprocess.run(command, capture_output=True, text=True)
    if completed.returncode:
        raise RuntimeError(f"{task} {options}: {(completed.stderr.strip().splitlines() or ['killed'])[-1]}")
    results: dict[str, Any] = json.loads(completed.stdout.strip().splitlines()[-1])
    for text in results.pop("warnings"):
        warnings.warn(text, stacklevel=2)
    return results


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Measure the processor seconds of a stage; other work on the machine does not count."""
    started = time.process_time()
    yield
    seconds[stage] = time.process_time() - started


def deform(folder: Path, *, n: int, seed: int, first: int) -> dict[str, Any]:
    """Write the latents of digits deformed on the fly, block by block, and their classes.

    The rows of a side: 1,000 images that are the same on both, so that the last P of them can be
    pairs; then images of its own.
    """
    images, digits = np.load(folder / "images.npy", mmap_mode="r"), np.load(folder / "digits.npy")
    order = np.random.default_rng(seed).permutation(np.arange(first, len(images)))
    shared, *side_rows = order[: PAIRS[-1]], *np.array_split(order[PAIRS[-1] :], 2)
    cpu_started, wall_started, dims = time.process_time(), time.perf_counter(), {}
    for k, side in enumerate(SIDES):
        encoder: Any = load_reference(folder / side).model.encoder
        parts = [(shared, 0), (np.resize(side_rows[k], n - PAIRS[0]), k + 1)]
        with (folder / f"{side}.f32").open("wb") as file, torch.inference_mode():
            for rows, stream in parts:
                stream_seed = np.random.SeedSequence([seed, stream]).generate_state(1)[0]
                generator = torch.Generator().manual_seed(int(stream_seed))
                for start in range(0, len(rows), _BLOCK):
                    pixels = torch.from_numpy(images[rows[start : start + _BLOCK]]).float().div(255)[:, None]
                    latents = encoder(random_views(pixels, generator, **VIEW)).numpy()
                    file.write(latents.tobytes())
        np.save(folder / f"{side}_digits.npy", np.concatenate([digits[rows] for rows, _ in parts]))
        dims[side] = latents.shape[1]
    return {
        "dims": dims, "n_bases": len(side_rows[0]), "features_s": time.process_time() - cpu_started,
        "wall_s": time.perf_counter() - wall_started, "rss_gb": peak_rss() / 1e9,
    }  # fmt: skip


def load_points(folder: Path, dims: dict[str, int], n: int, n_pairs: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return both sides as memory maps of n rows, the pairs first, and their digits."""
    rows = slice(PAIRS[-1] - n_pairs, PAIRS[-1] - n_pairs + n)
    maps = [np.memmap(folder / f"{s}.f32", np.float32, "r").reshape(-1, dims[s])[rows] for s in SIDES]
    return maps, [np.load(folder / f"{side}_digits.npy")[rows] for side in SIDES]


def align(
    folder: Path, *, dims: dict[str, int], n: int, n_pairs: int, metric: Any, seed: int, n_steps: int | None
) -> dict[str, Any]:
    """Align both sides and move the test digits into ``moved.npz``.

    The stages are distances, transport, readouts of the plan, and a flow trained on it.
    """
    rss, wall_started = {"start": peak_rss()}, time.perf_counter()
    (X, Y), (source_digits, target_digits) = load_points(folder, dims, n, n_pairs)
    test_points, rng = np.load(folder / "test_source.npy"), np.random.default_rng(seed)
    seconds: dict[str, float] = {}
    with timed(seconds, "distances"):
        pairs = (np.arange(n_pairs), np.arange(n_pairs))
        cost = bridge_cost(X, Y, pairs, metric=metric, nearest=NEAREST)
    with timed(seconds, "transport"):
        coupling = couple(cost, epsilon=EPSILON, tol=TOL)
    rss["transport"] = peak_rss()
    moved = {}
    if "mean partner" in READOUTS[metric]:
        with timed(seconds, "map"):
            moved["mean partner"] = coupling.map(test_points, Y)
    with timed(seconds, "kernel map"):
        smoothed_rows = rng.permutation(n)[:N_SMOOTHED]
        smooth_map = kernel_map(X[smoothed_rows], coupling.barycentric(Y)[smoothed_rows], seed=seed)
        moved["kernel map"] = smooth_map(test_points)
    with timed(seconds, "draws"):
        i, j = coupling.sample(N_DRAWS, rng)
    with timed(seconds, "flow"):
        drawn_pairs = Coupling.of_pairs((np.arange(len(i)), np.arange(len(i))), (len(i), len(i)))
        training = Training(validation=0.2, n_steps=n_steps)
        flow = ConditionalFlow(smooth_map, training=training, seed=seed).fit(X[i], Y[j], drawn_pairs)
        moved["flow"] = flow.transport(test_points)
    np.savez(folder / "moved.npz", **moved)
    return {
        **{f"{stage}_s": value for stage, value in seconds.items()},
        "wall_s": time.perf_counter() - wall_started, "rss_start_gb": rss["start"] / 1e9,
        "rss_transport_gb": rss["transport"] / 1e9, "rss_gb": peak_rss() / 1e9,
        "purity": float((source_digits[i] == target_digits[j]).mean()), "iterations": coupling.n_iter,
        "marginal_error": coupling.marginal_error, "truncation_bound": cost.truncation_bound(EPSILON),
    }  # fmt: skip


def main() -> None:
    """Run the task that the command line names."""
    task, folder, options = sys.argv[1:]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tasks: dict[str, Callable[..., dict[str, Any]]] = {"deform": deform, "align": align}
        results = tasks[task](Path(folder), **json.loads(options))
    texts = [f"{warning.category.__name__}: {warning.message}" for warning in caught]
    print(json.dumps({**results, "warnings": texts}, allow_nan=False))


if __name__ == "__main__":
    main()
