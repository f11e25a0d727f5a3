"""Extraction beside the bare forward pass and a hand-written hook loop; memory by stimuli.

    python analyses/benchmarks/features.py [--runs 5] [--only resnet18] [--out docs/results/benchmarks/features.json]

Each part is written when it is done; --only measures one of them again and keeps the others.

Two networks with random weights: a ResNet-18 (written out here) on 224 x 224 images, and a small
convolutional network on 96 x 96, for which the work around the forward pass weighs most. Images
are simulated: smoothed noise, saved as JPEG. One torch thread.

`bare` runs the model on batches that lie in memory, ready to use: no files, no hooks, nothing
kept. `loop` is what one writes by hand: open with pillow, scale, forward with hooks, append to a
list, concatenate. `memory` and `stream` are `extract`, from the files to an array and to netCDF,
everything counted: digests of weights and stimuli, checks, labels, the file. The four take turns
in one process, so that a busy machine is busy for all; the ratio to `bare` is taken within a turn,
then the median over turns.

thingsvision is not among the peers: its release 2.7.3 needs torchvision 0.15.2 (of torch 2.0),
tensorflow below 2.16 and numpy below 2, none of which goes beside the torch used here.

For the memory, extraction to netCDF runs in a process of its own at 1k, 4k and 16k stimuli (rows
of a table that name 256 files again and again), 4096 units kept of each; its peak RSS is compared.

`workers` shows 640 images to the ResNet-18 in this process and on two dask workers of one thread each, in turns; the workers keep
the memory they have freed.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from PIL import Image
from torch import nn

from analyses.benchmarks.distributed_fuse import ENVIRONMENT
from analyses.benchmarks.parts.timing import timed
from analyses.parts.processes import run_json
from analyses.parts.script import one_of, run_script
from neurobridge.features import Preprocess, extract
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STIMULI = (1_000, 4_000, 16_000)
N_WORKERS, N_SHOWN = 2, 640


class Block(nn.Module):
    """Residual block: two 3 x 3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, n_in, row, column) to (n, n_out, row / stride, column / stride)."""
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


def resnet18() -> nn.Module:
    """Build a ResNet-18 with random weights."""
    widths = [64, 64, 128, 256, 512]
    stages = [nn.Sequential(Block(a, b, 1 if a == b else 2), Block(b, b, 1)) for a, b in pairwise(widths)]
    stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def small_network() -> nn.Module:
    """Build a small convolutional network with random weights."""
    widths = [3, 16, 32, 64]
    stages = [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU()) for a, b in pairwise(widths)]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(4096, 100))


# Model, pixels a side, images, batch, layers.
CASES = {
    "resnet18": (resnet18, 224, 192, 32, ["2", "4", "5"]),
    "small": (small_network, 96, 2048, 64, ["2", "4"]),
}


PARTS = (*CASES, "memory", "workers")


def write_images(folder: Path, n: int, size: int) -> pd.DataFrame:
    """Write JPEG files of smoothed noise, and their table."""
    rng = np.random.default_rng(0)
    names = [f"{k:05d}.jpg" for k in range(n)]
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 256, size=(size // 8, size // 8, 3), dtype=np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(folder / name, quality=90)
    return pd.DataFrame({"stimulus_id": [name.removesuffix(".jpg") for name in names], "file": names})


def load_batch(folder: Path, names: list[str]) -> torch.Tensor:
    """Read and standardise images, shape (n, 3, row, column)."""
    pixels = np.stack([np.asarray(Image.open(folder / name).convert("RGB"), dtype=np.float32) for name in names])
    scaled = (pixels / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def hand_written(model: nn.Module, folder: Path, table: pd.DataFrame, batch_size: int, layers: list[str]) -> np.ndarray:
    """Extract with the hook loop that one writes by hand."""
    outputs_by_layer: dict[str, list[np.ndarray]] = {name: [] for name in layers}
    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_hook(
            lambda module, inputs, output, name=name: outputs_by_layer[name].append(output.flatten(1).cpu().numpy())
        )
        for name in layers
    ]
    files = table["file"].tolist()
    with torch.no_grad():
        for start in range(0, len(files), batch_size):
            model(load_batch(folder, files[start : start + batch_size]))
    for handle in handles:
        handle.remove()
    return np.concatenate([np.concatenate(parts) for parts in outputs_by_layer.values()], axis=1)


def throughput(case: str, runs: int) -> dict[str, object]:
    """Measure images a second of the four tasks, in turns, and their ratio to the bare pass."""
    make_model, size, n, batch_size, layers = CASES[case]
    torch.manual_seed(0)
    model = make_model().eval()
    timings_by_task: dict[str, list[tuple[float, float]]] = {"bare": [], "loop": [], "memory": [], "stream": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_images(folder, n, size)
        files = table["file"].tolist()
        batches = [load_batch(folder, files[start : start + batch_size]) for start in range(0, n, batch_size)]
        arguments: dict[str, Any] = {
            "root": folder,
            "batch_size": batch_size,
            "preprocess": Preprocess(mean=MEAN, std=STD),
        }

        def bare() -> None:
            with torch.no_grad():
                for batch in batches:
                    model(batch)

        def stream() -> None:
            extract(model, table, layers, out=folder / "a.nc", **arguments)
            (folder / "a.nc").unlink()

        tasks: dict[str, Callable[[], Any]] = {
            "bare": bare,
            "loop": lambda: hand_written(model, folder, table, batch_size, layers),
            "memory": lambda: extract(model, table, layers, **arguments),
            "stream": stream,
        }
        activations = tasks["memory"]().values
        difference = float(np.abs(activations - tasks["loop"]()).max() / np.abs(activations).max())
        bare()
        for _ in range(runs):
            for task, work in tasks.items():
                timings_by_task[task].append(timed(work))
    rows = {}
    for task, timings in timings_by_task.items():
        ratios = [
            bare_timing[0] / timing[0] for bare_timing, timing in zip(timings_by_task["bare"], timings, strict=True)
        ]
        rows[task] = {
            "images_per_s": n / statistics.median(wall for wall, _ in timings),
            "of_bare": statistics.median(ratios),
            "of_bare_lowest": min(ratios),
            "of_bare_highest": max(ratios),
            "cpu_s_per_image": statistics.median(cpu for _, cpu in timings) / n,
        }
    return {
        "n_images": n,
        "size": size,
        "batch_size": batch_size,
        "n_units": int(activations.shape[1]),
        "largest_relative_difference_to_loop": difference,
        "runs": runs,
        "tasks": rows,
    }


def extraction_memory(n: int) -> dict[str, float]:
    """Measure the peak RSS of one extraction to netCDF, in this process."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_images(folder, 256, 96)["file"].tolist()
        table = pd.DataFrame(
            {"stimulus_id": [f"s{k:06d}" for k in range(n)], "file": [files[k % 256] for k in range(n)]}
        )
        before = peak_rss() / 1e9
        started = time.perf_counter()
        result = extract(small_network(), table, "4", root=folder, batch_size=64, out=folder / "a.nc")
        seconds = time.perf_counter() - started
        return {
            "n_stimuli": n,
            "peak_rss_gb": peak_rss() / 1e9,
            "peak_rss_gb_before": before,
            "result_gb": result.size * 4 / 1e9,
            "seconds": seconds,
        }


def on_workers(runs: int) -> dict[str, Any]:
    """Measure the wall seconds of an extraction in this process and on workers."""
    from distributed import Client, LocalCluster

    os.environ.update(ENVIRONMENT)
    make_model, size, _, batch_size, _ = CASES["resnet18"]
    torch.manual_seed(0)
    model = make_model().eval()
    seconds: dict[str, list[float]] = {"process": [], "workers": []}
    options = {"n_workers": N_WORKERS, "threads_per_worker": 1, "memory_limit": None, "dashboard_address": ":0"}
    with tempfile.TemporaryDirectory() as name, LocalCluster(**options) as local, Client(local) as client:
        folder = Path(name)
        table = write_images(folder, N_SHOWN, size)
        client.run(torch.set_num_threads, 1)

        def recorded(distributed: bool) -> np.ndarray:
            activations = extract(
                model, table, ["4", "5"], root=folder, batch_size=batch_size, pooling="mean", distributed=distributed,
                preprocess=Preprocess(mean=MEAN, std=STD),
            )  # fmt: skip
            return np.asarray(activations.values)

        process_values, worker_values = recorded(False), recorded(True)
        for _ in range(runs):
            for where in seconds:
                seconds[where].append(timed(partial(recorded, where == "workers"))[0])
    return {
        "n_images": N_SHOWN, "size": size, "n_workers": N_WORKERS, "runs": runs, "seconds": seconds,
        "ratio": statistics.median(a / b for a, b in zip(*seconds.values(), strict=True)),
        "largest_relative_difference": float(np.abs(process_values - worker_values).max() / np.abs(process_values).max()),
    }  # fmt: skip


def main(
    n_runs: Annotated[int, typer.Option("--runs")] = 5,
    only: Annotated[str | None, typer.Option("--only", callback=one_of(PARTS))] = None,
    n_stimuli: Annotated[
        int | None, typer.Option("--memory", help="Measure the memory for so many stimuli, in this process.")
    ] = None,
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/benchmarks/features.json"),
) -> None:
    torch.set_num_threads(1)
    if n_stimuli:
        print(json.dumps(extraction_memory(n_stimuli)))
        return
    machine = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "torch_threads": 1,
    }
    results = json.loads(out_file.read_text()) if out_file.exists() else {}
    results["machine"] = machine
    for part in PARTS if only is None else (only,):
        load_before = os.getloadavg()[0]
        if part == "memory":
            results[part] = [memory_in_process(n) for n in STIMULI]
        elif part == "workers":
            results[part] = on_workers(n_runs) | {"load_average_before": load_before}
            print(f"{N_WORKERS} workers: {results[part]['ratio']:.2f} times as fast as one process", flush=True)
        else:
            results[part] = throughput(part, n_runs) | {"load_average_before": load_before}
            for task, row in results[part]["tasks"].items():
                print(
                    f"{part:9s} {task:7s} {row['images_per_s']:8.1f} images/s  {row['of_bare']:.3f} of bare", flush=True
                )
        write_json(results, out_file)


def memory_in_process(n: int) -> dict[str, float]:
    """Measure the peak RSS of an extraction in a process of its own."""
    row = run_json([sys.executable, __file__, "--memory", str(n)])
    print(f"{n:6d} stimuli: peak {row['peak_rss_gb']:.3f} GB for a result of {row['result_gb']:.3f} GB", flush=True)
    return row


if __name__ == "__main__":
    run_script(main, __doc__)
