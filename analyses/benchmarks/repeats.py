"""Averages of repetitions and split-half consistency beside Brain-Score's own code.

    python analyses/benchmarks/repeats.py [--out results/benchmarks/repeats.json]

147,200 presentations (3200 stimuli x 46 repetitions) x 256 neuroids, float32, simulated noise.
Each measurement runs in its own process, so that its peak RSS is its own; medians of three.
Brain-Score's internal consistency runs where brainscore_vision is installed (its environment,
PYTHONPATH set to this checkout).
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analyses.parts.processes import ProcessError, run_json
from analyses.parts.script import one_of, run_script
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

if TYPE_CHECKING:
    import xarray as xr

N_STIMULI, N_REPETITIONS, N_NEUROIDS, N_SPLITS = 3200, 46, 256, 10


def simulate_recordings() -> xr.DataArray:
    """Simulate single trials, shape (147200, 256)."""
    import numpy as np

    from neurobridge.assemblies import make_assembly

    rng = np.random.default_rng(0)
    values = rng.standard_normal((N_REPETITIONS, N_STIMULI, N_NEUROIDS), dtype=np.float32)
    values += rng.standard_normal((N_STIMULI, N_NEUROIDS), dtype=np.float32)
    ids = np.array([f"image{k:05d}" for k in range(N_STIMULI)])
    return make_assembly(
        values.reshape(-1, N_NEUROIDS),
        presentation={
            "stimulus_id": np.tile(ids, N_REPETITIONS),
            "object_name": np.tile([f"object{k % 64}" for k in range(N_STIMULI)], N_REPETITIONS),
            "repetition": np.repeat(np.arange(N_REPETITIONS), N_STIMULI),
        },
        neuroid={"neuroid_id": [f"n{k}" for k in range(N_NEUROIDS)], "region": ["V4"] * 88 + ["IT"] * 168},
    )


def ours_average(assembly: xr.DataArray) -> float:
    from neurobridge.assemblies import average_repetitions

    return float(average_repetitions(assembly).values.mean())


def ours_consistency(assembly: xr.DataArray) -> float:
    from neurobridge.evaluate import internal_consistency

    return float(internal_consistency(assembly, n_splits=N_SPLITS)["ceiling"].median())


def brainscore_average(assembly: xr.DataArray) -> tuple[float, float]:
    from brainscore_vision.benchmark_helpers.neural_common import average_repetition

    from neurobridge.brainscore import to_brainscore

    brainscore_assembly = to_brainscore(assembly.assign_coords(image_id=assembly["stimulus_id"]))
    started = time.perf_counter()
    average = average_repetition(brainscore_assembly)
    return float(average.values.mean()), time.perf_counter() - started


def brainscore_consistency(assembly: xr.DataArray) -> tuple[float, float]:
    from brainscore_vision.metrics.internal_consistency.ceiling import InternalConsistency

    from neurobridge.brainscore import to_brainscore

    brainscore_assembly = to_brainscore(assembly)
    started = time.perf_counter()
    ceiling = InternalConsistency()(brainscore_assembly)
    return float(ceiling.values), time.perf_counter() - started


TASKS = {f.__name__: f for f in (ours_average, ours_consistency, brainscore_average, brainscore_consistency)}


def measure(task: str) -> dict[str, float]:
    """Run one task in this process.

    The assembly itself is counted in the peak, not in the seconds.
    """
    assembly = simulate_recordings()
    started = time.perf_counter()
    value = TASKS[task](assembly)
    seconds = time.perf_counter() - started
    if isinstance(value, tuple):
        value, seconds = value
    return {
        "value": value,
        "seconds": seconds,
        "peak_rss_gb": peak_rss() / 1e9,
    }


def main(
    task_name: Annotated[str | None, typer.Option("--task", callback=one_of(sorted(TASKS)))] = None,
    n_runs: Annotated[int, typer.Option("--runs")] = 3,
    out_file: Annotated[Path, typer.Option("--out")] = Path("results/benchmarks/repeats.json"),
) -> None:
    if task_name:
        print(json.dumps(measure(task_name)))
        return
    rows = {}
    environment = {**os.environ, "RESULTCACHING_DISABLE": "1"}
    for task in TASKS:
        runs = []
        for _ in range(n_runs if task.startswith("ours") else 1):
            command = [sys.executable, __file__, "--task", task]
            try:
                runs.append(run_json(command, environment))
            except ProcessError as error:
                print(f"{task:24s} not run: {error}")
                break
        if runs:
            rows[task] = {key: statistics.median(run[key] for run in runs) for key in runs[0]} | {"n_runs": len(runs)}
            print(
                f"{task:24s} {rows[task]['seconds']:8.2f} s  {rows[task]['peak_rss_gb']:.2f} GB  value {rows[task]['value']:.4f}"
            )
    for quantity in ("average", "consistency"):
        if f"brainscore_{quantity}" in rows:
            ratio = rows[f"brainscore_{quantity}"]["seconds"] / rows[f"ours_{quantity}"]["seconds"]
            rows[f"ratio_{quantity}"] = ratio
            print(f"{quantity}: Brain-Score takes {ratio:.1f} times as long")
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "processor": platform.machine()}
    write_json({"rows": rows, "machine": machine}, out_file)


if __name__ == "__main__":
    run_script(main, __doc__)
