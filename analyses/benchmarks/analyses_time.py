"""Speed and memory of inference on RDMs, crossnobis distances, variance partitions and retrieval beside their peers.

    python analyses/benchmarks/analyses_time.py [--out results/benchmarks/analyses_time.json] [--only retrieval]

SIMULATED data, seed 0. The peers: rsatoolbox's ``eval_dual_bootstrap`` and ``calc_rdm``; himalaya's ``GroupRidgeCV`` in a loop
over folds and subsets of the spaces; scikit-learn's ``cosine_similarity`` with scipy's ``rankdata`` and a loop over permutations.
Both get the same arrays, draws, folds, penalties and permutations, and what they return is compared: a difference above the
tolerance of the case ends the script. Each run is a process of its own on one thread; packages are imported and arrays made before
the clock starts. Processor seconds count; memory is the peak of the process less its peak before the run. Medians of three runs,
ours and the peer's in turn.

From 100 stimuli on, rsatoolbox 0.3.2 stops with an error in a bootstrap of its whitened comparators (sparse matrices of integers),
and with 80 stimuli and 200 draws it had not ended after two minutes of wall time: that case is smaller.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from analyses.parts.processes import run_json
from analyses.parts.script import one_of, run_script
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
#: The package is imported from where this script imports it.
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | THREADS
N_RUNS = 3
OURS, PEER = "neurobridge", "peer"
#: What is measured: it returns the numbers that are compared, one array.
Run = Callable[[], np.ndarray]


class Case(NamedTuple):
    """One analysis.

    Attributes
    ----------
    title, size, peer : str
        What is computed, on how much, and by whom else.
    ours, theirs : callable
        Import, make the arrays and return the run.
    compared : str
        The numbers that both return.
    tolerance : float
        Of their largest difference, relative to the largest of the peer's.
    """

    title: str
    size: str
    peer: str
    ours: Callable[[], Run]
    theirs: Callable[[], Run]
    compared: str
    tolerance: float


# Inference on RDMs

N_SUBJECTS, N_MODELS = 6, 5


def geometries(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Simulate squared distances of models and subjects: (n_models, n, n), (n_subjects, n, n)."""
    from scipy.spatial.distance import pdist, squareform

    rng = np.random.default_rng(0)
    signal = rng.normal(size=(n, 20))

    def squares(noise: Sequence[float]) -> np.ndarray:
        clouds = (signal + level * rng.normal(size=signal.shape) for level in noise)
        return np.stack([squareform(pdist(cloud, "sqeuclidean")) for cloud in clouds])

    return squares([0.5 * (k + 1) for k in range(N_MODELS)]), squares([1.0] * N_SUBJECTS)


def our_inference(n: int, n_draws: int, comparator: str) -> Run:
    from neurobridge.similarity import compare_rsa_models

    models, subjects = geometries(n)
    named = {f"model {k}": square for k, square in enumerate(models)}

    def run() -> np.ndarray:
        score = compare_rsa_models(named, subjects, comparator=comparator, n_bootstrap=n_draws)
        return np.concatenate([score["raw"].values, score["sem"].values])

    return run


def their_inference(n: int, n_draws: int, comparator: str) -> Run:
    from rsatoolbox.inference import evaluate
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs

    from neurobridge.evaluate.similarity.inference.bootstrap import draw_samples

    models, subjects = geometries(n)
    upper = np.triu_indices(n, 1)
    fixed = [ModelFixed(f"model {k}", square[upper]) for k, square in enumerate(models)]
    draws = iter(draw_samples(n, N_SUBJECTS, n_draws, 0))

    def sample(rdms: Any, **_: str) -> tuple[Any, np.ndarray, np.ndarray]:
        draw = next(draws)
        drawn = rdms.subsample("index", draw.subjects).subsample_pattern("index", draw.stimuli)
        return drawn, draw.subjects, draw.stimuli

    # rsatoolbox draws from numpy's global state: it is given the draws of ours.
    setattr(evaluate, "bootstrap_sample", sample)  # noqa: B010
    data = RDMs(subjects[:, upper[0], upper[1]])

    def run() -> np.ndarray:
        value = evaluate.eval_fixed(fixed, data, method=comparator).evaluations.mean(axis=(0, 2))
        variances = evaluate.eval_dual_bootstrap(fixed, data, method=comparator, N=n_draws).model_var
        return np.concatenate([value, np.sqrt(variances)])

    return run


# Crossnobis distances

N_CONDITIONS, N_RUNS_OF_SCANS, N_SITES = 200, 20, 150


def scans() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate responses with correlated noise: (n_presentations, n_sites), and the condition and the scan of each."""
    rng = np.random.default_rng(0)
    condition = np.tile(np.arange(N_CONDITIONS), N_RUNS_OF_SCANS)
    mixing = np.eye(N_SITES) + 0.1 * rng.normal(size=(N_SITES, N_SITES))
    noise = rng.normal(size=(len(condition), N_SITES)) @ mixing
    responses = rng.normal(size=(N_CONDITIONS, N_SITES))[condition] / 2 + noise
    return responses, condition, np.repeat(np.arange(N_RUNS_OF_SCANS), N_CONDITIONS)


def our_crossnobis() -> Run:
    from neurobridge import make_assembly
    from neurobridge.similarity import crossvalidated_rdm

    responses, condition, scan = scans()
    recordings = make_assembly(
        responses,
        presentation={"stimulus_id": condition, "repetition": scan},
        neuroid={"neuroid_id": range(N_SITES)},
    )
    return lambda: crossvalidated_rdm(recordings, whiten=True).values[np.triu_indices(N_CONDITIONS, 1)]


def their_crossnobis() -> Run:
    from rsatoolbox.data import Dataset
    from rsatoolbox.data.noise import prec_from_unbalanced
    from rsatoolbox.rdm import calc_rdm

    responses, condition, scan = scans()
    data = Dataset(responses, obs_descriptors={"stimulus": condition, "run": scan})

    def run() -> np.ndarray:
        noise = prec_from_unbalanced(data, "stimulus", method="shrinkage_eye")
        rdm = calc_rdm(data, method="crossnobis", descriptor="stimulus", cv_descriptor="run", noise=noise)
        return np.asarray(getattr(rdm, "dissimilarities")[0])  # noqa: B009

    return run


# Variance partition

N_IMAGES, SIZES, N_TARGETS, N_WEIGHTS = 1000, {"A": 60, "B": 120}, 168, 10
QUIET = {"progress_bar": False, "warn": False}


def predictors() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Simulate two spaces that share some of their latents, and sites that are driven by both."""
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(N_IMAGES, 60))
    seen = {"A": latents[:, :40], "B": 5 * latents[:, 20:]}
    spaces = {
        name: seen[name] @ rng.normal(size=(40, size)) / 6 + rng.normal(size=(N_IMAGES, size))
        for name, size in SIZES.items()
    }
    return spaces, latents @ rng.normal(size=(60, N_TARGETS)) / 8 + rng.normal(size=(N_IMAGES, N_TARGETS))


def our_partition() -> Run:
    importlib.import_module("himalaya.ridge")  # Else the fit imports it.

    from neurobridge import make_assembly, partition_variance

    def labelled(values: np.ndarray) -> Any:
        sites = {"neuroid_id": range(values.shape[1])}
        return make_assembly(values, presentation={"stimulus_id": range(N_IMAGES)}, neuroid=sites)

    spaces, Y = predictors()
    named, recordings = {name: labelled(X) for name, X in spaces.items()}, labelled(Y)

    def run() -> np.ndarray:
        return partition_variance(named, recordings, n_iter=N_WEIGHTS, n_bootstrap=0)["r2"].values.ravel()

    return run


def their_partition() -> Run:
    from neurobridge.splits import kfold_splits

    ridge = importlib.import_module("himalaya.ridge")

    spaces, Y = predictors()
    folds = kfold_splits(N_IMAGES, n_splits=5)
    alphas = np.logspace(-3, 6, 10)

    def run() -> np.ndarray:
        r2 = []
        for names in (["A"], ["B"], ["A", "B"]):
            errors, spread = np.zeros(N_TARGETS), np.zeros(N_TARGETS)
            for train, test in folds:
                # Each band in units of its own spread.
                parts = [spaces[name] / np.sqrt(spaces[name][train].var(axis=0).mean()) for name in names]
                options = {"n_iter": N_WEIGHTS if len(names) > 1 else 1, "alphas": alphas} | QUIET
                groups = np.repeat(np.arange(len(names)), [part.shape[1] for part in parts])
                model = ridge.GroupRidgeCV(groups, cv=5, fit_intercept=True, solver_params=options, random_state=0)
                X = np.hstack(parts)
                errors += np.square(Y[test] - model.fit(X[train], Y[train]).predict(X[test])).sum(axis=0)
                spread += np.square(Y[test] - Y[train].mean(axis=0)).sum(axis=0)
            r2.append(1 - errors / spread)
        return np.concatenate(r2)

    return run


# Retrieval

N_POINTS, N_DIMS, N_PERMUTATIONS = 2000, 64, 1000


def two_spaces() -> tuple[np.ndarray, np.ndarray]:
    """Simulate points and their noisy copies."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(N_POINTS, N_DIMS))
    return points + 1.5 * rng.normal(size=points.shape), points


def our_retrieval() -> Run:
    from neurobridge import make_assembly, retrieve

    names = {"presentation": {"stimulus_id": range(N_POINTS)}, "neuroid": {"neuroid_id": range(N_DIMS)}}
    source, target = (make_assembly(points, **names) for points in two_spaces())

    def run() -> np.ndarray:
        score = retrieve(source, target, n_permutations=N_PERMUTATIONS, n_bootstrap=0)
        return np.concatenate([score["raw"].values.ravel(), score["null"].values.ravel()])

    return run


def their_retrieval() -> Run:
    from scipy.stats import rankdata
    from sklearn.metrics.pairwise import cosine_similarity

    source, target = two_spaces()

    def measures(rank: np.ndarray) -> list[float]:
        shares = [float((rank <= k).mean()) for k in (1, 5, 10)]
        return [*shares, float(np.median(rank)), float(1 - (rank.mean() - 1) / (N_POINTS - 1))]

    def run() -> np.ndarray:
        rng = np.random.default_rng(0)
        raw, null, rows = [], [], np.arange(N_POINTS)
        for queries, points in ((source, target), (target, source)):
            ranks = rankdata(-cosine_similarity(queries, points), axis=1)
            raw.append(measures(ranks[rows, rows]))
            null.append([measures(ranks[rows, rng.permutation(N_POINTS)]) for _ in range(N_PERMUTATIONS)])
        return np.concatenate([np.ravel(raw), np.swapaxes(null, 1, 2).ravel()])

    return run


_INFERENCE = f"stimuli x {N_SUBJECTS} subjects x {N_MODELS} models"
CASES = {
    "rsa_corr": Case(
        "`compare_rsa_models`, pearson", f"100 {_INFERENCE}, 200 draws", "rsatoolbox `eval_dual_bootstrap`, corr",
        lambda: our_inference(100, 200, "pearson"), lambda: their_inference(100, 200, "corr"), "values and standard errors", 1e-7,
    ),
    "rsa_corr_cov": Case(
        "`compare_rsa_models`, corr_cov", f"50 {_INFERENCE}, 50 draws", "rsatoolbox `eval_dual_bootstrap`, corr_cov",
        lambda: our_inference(50, 50, "corr_cov"), lambda: their_inference(50, 50, "corr_cov"), "values and standard errors", 1e-7,
    ),
    "crossnobis": Case(
        "`crossvalidated_rdm`, whitened", f"{N_CONDITIONS} conditions x {N_RUNS_OF_SCANS} runs x {N_SITES} sites",
        "rsatoolbox `calc_rdm`, crossnobis, and its noise precision", our_crossnobis, their_crossnobis, "all distances", 1e-7,
    ),
    "partition": Case(
        "`partition_variance`",
        f"{N_IMAGES:,} stimuli x bands of {SIZES['A']} and {SIZES['B']} x {N_TARGETS} sites, {N_WEIGHTS} weights",
        "a loop over himalaya's `GroupRidgeCV`", our_partition, their_partition, "R2 of every subset and site", 1e-6,
    ),
    "retrieval": Case(
        "`retrieve`", f"{N_POINTS:,} x {N_POINTS:,} points of {N_DIMS} dimensions, {N_PERMUTATIONS:,} permutations",
        "`cosine_similarity`, `rankdata` and a loop", our_retrieval, their_retrieval, "measures and their null", 1e-9,
    ),
}  # fmt: skip


def measure(case: str, who: str) -> dict[str, Any]:
    """Run a case in this process."""
    run = (CASES[case].ours if who == OURS else CASES[case].theirs)()
    before, wall, cpu = peak_rss(), time.perf_counter(), time.process_time()
    # rsatoolbox shows a progress bar.
    with contextlib.redirect_stderr(io.StringIO()):
        numbers = run()
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_rss_over_data": peak_rss() - before,
        "numbers": numbers.tolist(),
    }


def beside_the_peer(name: str, n_runs: int) -> dict[str, Any]:
    """Measure a case in processes of their own, and compare what the two return."""
    case, runs = CASES[name], {OURS: list[dict[str, Any]](), PEER: list[dict[str, Any]]()}
    for _ in range(n_runs):
        for who, measured in runs.items():
            command = [sys.executable, str(Path(__file__).resolve()), "--task", f"{name}/{who}"]
            measured.append(run_json(command, ENVIRONMENT))
    ours, theirs = (np.array(measured[0]["numbers"]) for measured in runs.values())
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if not difference <= case.tolerance:
        raise SystemExit(
            f"{name}: found a relative difference of {difference:.1e} from the peer; expected at most {case.tolerance:.0e} of "
            f"{case.compared}. Mend: compare the two outside of the timing."
        )
    result: dict[str, Any] = {
        "title": case.title, "size": case.size, "peer_title": case.peer, "compared": case.compared,
        "tolerance": case.tolerance, "largest_relative_difference": difference, "n_runs": n_runs,
    }  # fmt: skip
    for who, measured in runs.items():
        keys = [key for key in measured[0] if key != "numbers"]
        result[who] = {key: statistics.median(one[key] for one in measured) for key in keys}
        result[who]["all_cpu_seconds"] = [one["cpu_seconds"] for one in measured]
    result["ratio"] = {key: result[PEER][key] / result[OURS][key] for key in ("seconds", "cpu_seconds")}
    return result


def main(
    out: Annotated[Path, typer.Option(help="File of the results.")] = Path("results/benchmarks/analyses_time.json"),
    only: Annotated[list[str] | None, typer.Option(help="Cases; all by default.", callback=one_of(CASES))] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each, whose median counts.")] = N_RUNS,
    task: Annotated[str | None, typer.Option(help="Run CASE/neurobridge or CASE/peer and print it as JSON.")] = None,
) -> None:
    """Measure all cases, print the ratios and write the file."""
    if task is not None:
        print(json.dumps(measure(*task.split("/"))))
        return
    results: dict[str, Any] = {"load": os.getloadavg()[0], "cases": {}}
    for name in only or CASES:
        results["cases"][name] = beside_the_peer(name, runs)
        print(json.dumps({name: results["cases"][name]}, indent=1))
        write_json(results, out)


if __name__ == "__main__":
    run_script(main, __doc__)
