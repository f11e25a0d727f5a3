"""Speed of the metrics, and of the whole IT benchmark, beside Brain-Score's own.

    python analyses/benchmarks/predictivity.py [--peer-python PYTHON] [--threads 1] [--out results/benchmarks/predictivity.json]

3200 stimuli (64 objects) x 1000 features x 168 sites, float32, simulated; internal consistency on
147,200 presentations x 256 sites; the whole benchmark (select IT, average, ceiling, pls) on
148,480 x 256 with two threads. Every run has its own process; arrays are made before the clock
starts; medians of three for ours, one run for Brain-Score (``--peer-runs``). ``--peer-python``
names the interpreter of the environment with brainscore_vision; run with that interpreter,
everything is measured in the one environment. Nothing is permuted or bootstrapped where
Brain-Score does not either; ``*_full`` is ours with its default null and intervals. Finished tasks
are kept in the output file and not run again unless ``--fresh``.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from analyses.parts.processes import ProcessError, run_json
from analyses.parts.script import one_of, run_script
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

if TYPE_CHECKING:
    import xarray as xr

N_STIMULI, N_FEATURES, N_IT, N_V4, N_REPETITIONS = 3200, 1000, 168, 88, 46
TARGETS = {"pls": 25, "ridge": 5, "neuron_to_neuron": 20, "rdm": 5, "consistency": 10}
OPTIONS: dict[str, dict[str, Any]] = {"ridge": {"alpha": 1.0}}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Times = dict[str, float]


def clock() -> Times:
    """Return wall and processor seconds.

    On a busy machine only the second tells what a task costs.
    """
    return {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}


def elapsed(started: Times) -> Times:
    """Return the seconds since a reading of `clock`."""
    return {name: seconds - started[name] for name, seconds in clock().items()}


def latents() -> np.ndarray:
    """Draw the latents of all stimuli."""
    return np.random.default_rng(0).standard_normal((N_STIMULI, 60), dtype=np.float32)


def responses(n_sites: int, seed: int) -> np.ndarray:
    """Mix the latents into the responses of sites."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((60, n_sites), dtype=np.float32) / np.float32(np.sqrt(60))
    return latents() @ mixing


def stimuli() -> dict[str, np.ndarray]:
    """Make the coordinates of the stimuli."""
    return {
        "stimulus_id": np.array([f"image{k:05d}" for k in range(N_STIMULI)]),
        "object_name": np.array([f"object{k % 64:02d}" for k in range(N_STIMULI)]),
    }


def spaces() -> tuple[xr.DataArray, xr.DataArray]:
    """Simulate features and sites."""
    from neurobridge.assemblies import make_assembly

    rng = np.random.default_rng(3)
    features = np.maximum(responses(N_FEATURES, 1), 0)
    features += 0.3 * rng.standard_normal(features.shape, dtype=np.float32)
    sites = responses(N_IT, 2) + 0.5 * rng.standard_normal((N_STIMULI, N_IT), dtype=np.float32)
    source = make_assembly(
        features,
        presentation=stimuli(),
        neuroid={"neuroid_id": [f"f{k:04d}" for k in range(N_FEATURES)], "layer": ["layer"] * N_FEATURES},
    )
    target = make_assembly(
        sites,
        presentation=stimuli(),
        neuroid={"neuroid_id": [f"site{k:03d}" for k in range(N_IT)], "region": ["IT"] * N_IT},
    )
    return source, target


def recordings(n_presentations: int) -> xr.DataArray:
    """Simulate single trials of V4 and IT sites."""
    from neurobridge.assemblies import make_assembly

    n_sites = N_IT + N_V4
    rows = np.arange(n_presentations) % N_STIMULI
    values = np.random.default_rng(4).standard_normal((n_presentations, n_sites), dtype=np.float32)
    values *= 2
    values += responses(n_sites, 5)[rows]
    return make_assembly(
        values,
        presentation={name: column[rows] for name, column in stimuli().items()}
        | {"repetition": np.arange(n_presentations) // N_STIMULI},
        neuroid={"neuroid_id": [f"site{k:03d}" for k in range(n_sites)], "region": ["IT"] * N_IT + ["V4"] * N_V4},
    )


def score_ours(name: str, full: bool = False) -> tuple[Times, np.ndarray]:
    """Time one of our metrics."""
    from neurobridge.evaluate import METRICS

    source, target = spaces()
    null_options = {} if full else {"n_permutations": 0}
    started = clock()
    score = METRICS[name.removesuffix("_per_site")](source, target, **OPTIONS.get(name, {}), **null_options)
    return elapsed(started), score["raw"].values


def score_peer(name: str) -> tuple[Times, np.ndarray]:
    """Time Brain-Score's metric of the same name."""
    from brainscore_vision.metrics.cka.metric import CKA
    from brainscore_vision.metrics.rdm.metric import RDMMetric
    from brainscore_vision.metrics.regression_correlation import metric as m

    from neurobridge.brainscore import to_brainscore

    regressions = {
        "pls": m.pls_regression,
        "ridge": m.ridge_regression,
        "linear": m.linear_regression,
        "neuron_to_neuron": m.single_regression,
    }
    if name in regressions:
        metric = m.CrossRegressedCorrelation(regression=regressions[name](), correlation=m.pearsonr_correlation())
    else:
        metric = {"cka": CKA, "rdm": RDMMetric}[name]()
    source, target = map(to_brainscore, spaces())
    started = clock()
    score = metric(source, target)
    times = elapsed(started)
    return times, by_neuroid(score) if name in regressions else np.atleast_1d(score.values)


def by_neuroid(score: Any) -> np.ndarray:
    """Return the raw values of a Brain-Score score, sorted by split and site."""
    while "raw" in score.attrs:
        score = score.attrs["raw"]
    score = score.transpose("split", "neuroid").sortby("split")
    return score.values[:, np.argsort(score["neuroid_id"].values)]


def sklearn_ridge_per_site() -> tuple[Times, np.ndarray]:
    """Score by the search of scikit-learn that `METRICS["ridge"]` replaces, on our splits."""
    from sklearn.linear_model import RidgeCV

    from neurobridge.evaluate.correlation import pearson
    from neurobridge.evaluate.regression import ALPHAS
    from neurobridge.evaluate.splits import resolve_splits

    source, target = spaces()
    X, Y = source.values.astype(np.float64), target.values.astype(np.float64)
    started = clock()
    raw = [
        pearson(RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(X[train], Y[train]).predict(X[test]), Y[test])[0]
        for train, test in resolve_splits(target, None)
    ]
    return elapsed(started), np.stack(raw)


def ours_consistency(full: bool = False) -> tuple[Times, np.ndarray]:
    """Time our internal consistency."""
    from neurobridge.evaluate import internal_consistency

    assembly = recordings(N_STIMULI * N_REPETITIONS)
    started = clock()
    ceiling = internal_consistency(assembly) if full else internal_consistency(assembly, n_bootstrap=0)
    return elapsed(started), np.atleast_1d(ceiling["median"].values)


def peer_consistency() -> tuple[Times, np.ndarray]:
    """Time Brain-Score's internal consistency."""
    from brainscore_vision.metrics.internal_consistency.ceiling import InternalConsistency

    from neurobridge.brainscore import to_brainscore

    assembly = to_brainscore(recordings(N_STIMULI * N_REPETITIONS))
    started = clock()
    ceiling = InternalConsistency()(assembly)
    return elapsed(started), np.atleast_1d(ceiling.values)


def ours_benchmark() -> tuple[Times, np.ndarray]:
    """Time the whole IT benchmark with our functions."""
    from neurobridge.assemblies import average_repetitions, select
    from neurobridge.evaluate import aggregate, internal_consistency, predictivity

    source, _ = spaces()
    trials = recordings(148_480)
    started = clock()
    it_trials = select(trials, region="IT")
    ceiling = internal_consistency(it_trials)["ceiling"]
    summary = aggregate(predictivity(source, average_repetitions(it_trials), "pls", ceiling=ceiling))
    return elapsed(started), np.array([summary["normalized"]])


def peer_benchmark() -> tuple[Times, np.ndarray]:
    """Time the whole IT benchmark with those of Brain-Score."""
    from brainscore_vision.benchmark_helpers.neural_common import average_repetition, explained_variance
    from brainscore_vision.metrics.internal_consistency.ceiling import InternalConsistency
    from brainscore_vision.metrics.regression_correlation import metric as m

    from neurobridge.assemblies import select
    from neurobridge.brainscore import to_brainscore

    source = to_brainscore(spaces()[0])
    it_trials = to_brainscore(select(recordings(148_480), region="IT"))
    started = clock()
    ceiling = InternalConsistency()(it_trials)
    pls = m.CrossRegressedCorrelation(regression=m.pls_regression(), correlation=m.pearsonr_correlation())
    score = explained_variance(pls(source, average_repetition(it_trials)), ceiling)
    return elapsed(started), np.atleast_1d(score.values)


METRIC_NAMES = ("pls", "ridge", "linear", "neuron_to_neuron", "cka", "rdm")
TASKS: dict[str, Callable[[], tuple[Times, np.ndarray]]] = {
    **{f"ours_{name}": partial(score_ours, name) for name in METRIC_NAMES},
    "ours_ridge_per_site": lambda: score_ours("ridge_per_site"),
    "ours_pls_full": lambda: score_ours("pls", full=True),
    "ours_consistency": ours_consistency,
    "ours_consistency_full": lambda: ours_consistency(full=True),
    "ours_benchmark": ours_benchmark,
    **{f"peer_{name}": partial(score_peer, name) for name in METRIC_NAMES},
    "peer_ridge_per_site": sklearn_ridge_per_site,
    "peer_consistency": peer_consistency,
    "peer_benchmark": peer_benchmark,
}


def measure(task: str, python: str, runs: int, threads: int) -> dict[str, Any] | None:
    """Run a task in fresh processes.

    Returns all seconds, their median, the peak RSS, and the values of the last run.
    """
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads)), "RESULTCACHING_DISABLE": "1"}
    environment["BS_INSTALL_DEPENDENCIES"] = "no"
    command = [python, "-W", "ignore", __file__, "--task", task]
    results = []
    for _ in range(runs):
        try:
            results.append(run_json(command, environment))
        except ProcessError as error:
            print(f"{task:24s} not run: {error}")
            return None
    seconds = [run["seconds"] for run in results]
    return {
        "seconds": statistics.median(seconds),
        "runs": seconds,
        "cpu_seconds": statistics.median(run["cpu_seconds"] for run in results),
        "peak_rss_gb": max(run["peak_rss_gb"] for run in results),
        "threads": threads,
        "values": results[-1]["values"],
        "versions": results[-1]["versions"],
    }


def run_task(task: str) -> None:
    """Run a task in this process and print what it took."""
    import sklearn
    import xarray

    times, values = TASKS[task]()
    versions = {"python": platform.python_version(), "numpy": np.__version__, "xarray": xarray.__version__}
    versions["scikit-learn"] = sklearn.__version__
    print(json.dumps({**times, "peak_rss_gb": peak_rss() / 1e9, "values": values.tolist(), "versions": versions}))


def main(
    task_name: Annotated[str | None, typer.Option("--task", callback=one_of(sorted(TASKS)))] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Name without ours_/peer_, e.g. consistency; may be repeated.")
    ] = None,
    peer_python: Annotated[str, typer.Option("--peer-python")] = sys.executable,
    n_runs: Annotated[int, typer.Option("--runs")] = 3,
    n_peer_runs: Annotated[int, typer.Option("--peer-runs")] = 1,
    n_threads: Annotated[int, typer.Option("--threads")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh")] = False,
    out_file: Annotated[Path, typer.Option("--out")] = Path("results/benchmarks/predictivity.json"),
) -> None:
    if task_name:
        run_task(task_name)
        return
    resumes = out_file.exists() and not fresh
    result = json.loads(out_file.read_text()) if resumes else {"rows": {}}
    rows = result["rows"]
    for task in TASKS:
        side, name = task.split("_", 1)
        if task in rows or (only and name not in only):
            continue
        threads = 2 if name == "benchmark" else n_threads
        python, runs = (sys.executable, n_runs) if side == "ours" else (peer_python, n_peer_runs)
        row = measure(task, python, runs, threads)
        if row is None:
            continue
        rows[task] = row
        print(
            f"{task:24s} {row['seconds']:8.2f} s  {row['cpu_seconds']:8.2f} cpu s  {row['peak_rss_gb']:.2f} GB",
            flush=True,
        )
        write_json(result, out_file)
    for name in (*METRIC_NAMES, "ridge_per_site", "consistency", "benchmark"):
        if {f"ours_{name}", f"peer_{name}"} <= set(rows):
            our_row, peer_row = rows[f"ours_{name}"], rows[f"peer_{name}"]
            ratio = peer_row["seconds"] / our_row["seconds"]
            difference = float(np.abs(np.asarray(our_row["values"]) - np.asarray(peer_row["values"])).max())
            result[f"ratio_{name}"], result[f"difference_{name}"] = ratio, difference
            target_text = f" (bar {TARGETS[name]})" if name in TARGETS else ""
            print(f"{name:24s} {ratio:8.1f} times{target_text}, largest difference {difference:.1e}")
    result["machine"] = {"cores": os.cpu_count(), "processor": platform.machine()}
    write_json(result, out_file)


if __name__ == "__main__":
    run_script(main, __doc__)
