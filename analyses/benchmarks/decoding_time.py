"""Speed of decoding in time beside a loop over scikit-learn, as a sliding estimator runs it.

    python analyses/benchmarks/decoding_time.py [--out results/benchmarks/decoding_time.json]

150 time bins x 132 sites x 400 trials (80 stimuli, five repetitions, 8 classes), simulated; logistic
readouts, ten folds of whole stimuli, no permutations: 1,500 fits. Each runs in a process of its own;
arrays are made before the clock starts. Processor seconds count all threads. The peer is scikit-learn's
``StandardScaler`` and ``LogisticRegression`` at their defaults, on the same folds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from analyses.parts.processes import run_json
from analyses.parts.script import run_script
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

if TYPE_CHECKING:
    import xarray as xr

#: The package is imported from where this script imports it; threads are the package's own.
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
N_BINS, N_SITES, N_STIMULI, N_REPETITIONS, N_CLASSES = 150, 132, 80, 5, 8


def recordings() -> xr.DataArray:
    """Simulate trials whose classes and stimuli differ about 500 ms, over correlated noise."""
    from neurobridge.assemblies import make_assembly

    rng = np.random.default_rng(0)
    stimulus, start = np.tile(np.arange(N_STIMULI), N_REPETITIONS), 10 * np.arange(N_BINS)
    means = rng.normal(size=(N_CLASSES, N_SITES))[np.arange(N_STIMULI) % N_CLASSES] + rng.normal(
        size=(N_STIMULI, N_SITES)
    )
    mixing = rng.normal(size=(N_SITES, N_SITES)) * np.exp(-np.arange(N_SITES) / 20) / 3
    values = np.empty((len(stimulus), N_SITES, N_BINS), dtype=np.float32)
    for k, gain in enumerate(np.exp(-(((start - 500) / 200) ** 2) / 2)):
        noise = rng.normal(size=(len(stimulus), N_SITES)) @ mixing.T + rng.normal(size=(len(stimulus), N_SITES)) / 2
        values[:, :, k] = noise + gain * means[stimulus]
    return make_assembly(
        values,
        presentation={"stimulus_id": stimulus, "object": stimulus % N_CLASSES},
        neuroid={"neuroid_id": range(N_SITES)},
        time_bin={"time_bin_start": start, "time_bin_end": start + 10},
    )


def ours(trials: xr.DataArray) -> np.ndarray:
    """Decode with the package; accuracies of shape (n_bins,)."""
    from neurobridge import decode

    return decode(trials, "object", by="time_bin", n_permutations=0, progress=False)["raw"].mean("split").values


def peer(trials: xr.DataArray) -> np.ndarray:
    """Decode with a loop over scikit-learn."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from neurobridge.splits import stratified_group_splits

    labels = trials["object"].values
    folds = stratified_group_splits(labels, trials["stimulus_id"].values)
    accuracies = np.empty((N_BINS, len(folds)))
    for k in range(N_BINS):
        X = trials.values[:, :, k].astype(np.float64)
        for j, (train, test) in enumerate(folds):
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(X[train], labels[train])
            accuracies[k, j] = model.score(X[test], labels[test])
    return accuracies.mean(axis=1)


TASKS = {"neurobridge": ours, "scikit-learn loop": peer}


def measure(task: str) -> dict[str, Any]:
    """Run a task in this process."""
    trials = recordings()
    before, wall, cpu = peak_rss(), time.perf_counter(), time.process_time()
    accuracies = TASKS[task](trials)
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_rss_over_data": peak_rss() - before,
        "accuracies": accuracies.round(4).tolist(),
    }


def main(
    out: Annotated[Path, typer.Option(help="File of the results.")] = Path("results/benchmarks/decoding_time.json"),
    task: Annotated[str | None, typer.Option(help="Run one task and print it as JSON.")] = None,
) -> None:
    """Measure both, print the ratio and write the file."""
    if task is not None:
        print(json.dumps(measure(task)))
        return
    load = os.getloadavg()[0]
    results: dict[str, Any] = {
        name: run_json([sys.executable, str(Path(__file__).resolve()), "--task", name], ENVIRONMENT) for name in TASKS
    }
    results["load"] = load
    mine, other = results["neurobridge"], results["scikit-learn loop"]
    results["ratio"] = {name: other[name] / mine[name] for name in ("seconds", "cpu_seconds")}
    results["largest_difference_of_accuracy"] = float(
        np.abs(np.subtract(mine["accuracies"], other["accuracies"])).max()
    )
    write_json(results, out)
    print(json.dumps({name: value for name, value in results.items() if name not in TASKS}, indent=1))


if __name__ == "__main__":
    run_script(main, __doc__)
