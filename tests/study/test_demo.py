"""The main job on small data: what it writes, what it holds out, that it repeats."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neurobridge.assemblies import make_assembly, open_assembly
from neurobridge.datasets import Experiment, load
from neurobridge.evaluate.curves.folds import draw_curve_fold
from neurobridge.study import write_report
from neurobridge.study.demo import SIMULATED, DemoConfig, run_demo
from neurobridge.study.demo import task as demo_task
from neurobridge.study.demo.task import COMPARED, draw_fold, fit_aligners, prepare
from neurobridge.study.methods import BRIDGES, make_aligner
from tests.refusals import refused

SMALL = {"fractions": (0.1, 0.2), "n_seeds": 1, "flow_steps": 5, "n_permutations": 20}
N_OBJECTS, N_VIEWS, N_TRIALS = 10, 12, 4
N_STIMULI = N_OBJECTS * N_VIEWS


def small_experiment(images: bool = False) -> Experiment:
    """Make sites that see the latents of the stimuli, and noise of their own on each trial."""
    rng = np.random.default_rng(0)
    objects = np.repeat(np.arange(N_OBJECTS), N_VIEWS)
    latents = np.c_[rng.normal(size=(N_OBJECTS, 3))[objects], rng.normal(size=(N_STIMULI, 3))]
    means = np.tanh(latents @ rng.normal(size=(6, 10)) / 2)
    trials = np.concatenate([means + 0.2 * rng.normal(size=means.shape) for _ in range(N_TRIALS)])
    labels = {
        "stimulus_id": [f"image{k:03d}" for k in range(N_STIMULI)],
        "object_name": [f"object{k}" for k in objects],
        "category_name": [f"category{k // 2}" for k in objects],
    }
    repeated = {name: values * N_TRIALS for name, values in labels.items()}
    repeated["repetition"] = np.repeat(np.arange(N_TRIALS), N_STIMULI).tolist()
    recordings = make_assembly(trials, presentation=repeated, neuroid={"neuroid_id": [f"site{k}" for k in range(10)]})
    known = make_assembly(latents, presentation=labels, neuroid={"neuroid_id": [f"latent{k}" for k in range(6)]})
    pixels = xr.DataArray(
        rng.integers(0, 256, (N_STIMULI, 48, 48), dtype=np.uint8),
        dims=("presentation", "row", "column"),
        coords={"stimulus_id": ("presentation", labels["stimulus_id"])},
    )
    sides = {"images": pixels} if images else {"latents": known}
    return Experiment(SIMULATED, "simulated", pd.DataFrame(labels), recordings=recordings, **sides)


@contextmanager
def loaded_by(loader):
    """Let the demo load its data by a function of the name and the options."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_task, "load", loader)
        yield


FEW_CANDIDATES = {"lams": (0.5, 0.9), "epsilons": (0.05,), "n_rounds": (1,), "kernel_rounds": (0,), "n_folds": 2}


@contextmanager
def fewer_candidates():
    """Let the fused bridge choose between two candidates: its search is proven by tests of its own."""

    def make_faster(name, seed, **options):
        few = {"fuse_options": FEW_CANDIDATES} if BRIDGES.get(name, {}).get("coupling") == "fused" else {}
        return make_aligner(name, seed, **options, **few)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_task, "make_aligner", make_faster)
        yield


@contextmanager
def simulated_in_small(images=False):
    """The demo in small: its simulator is proven by the tests of the datasets."""
    with loaded_by(lambda name, **options: small_experiment(images)), fewer_candidates():
        yield


@pytest.fixture(scope="module")
def task():
    with simulated_in_small():
        return prepare(SIMULATED)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    with simulated_in_small():
        return run_demo(DemoConfig(**SMALL), folder, progress=False), folder


def test_the_simulated_data_are_asked_for_in_full():
    asked = {}

    def load_small(name, **options):
        asked.update(options, name=name)
        return small_experiment()

    with loaded_by(load_small):
        prepare(SIMULATED, seed=3)
    size = {"images_per_object": {0: 2, 3: 8}, "n_repetitions": 10, "image_size": 64}
    assert asked == {"name": SIMULATED, "seed": 3, **size}


def test_the_model_side_is_a_network_where_there_are_images_and_else_the_latents(task):
    with simulated_in_small(images=True):
        seen = prepare(SIMULATED)
    assert "GaborEnergy" in seen.model_name
    assert seen.model.sizes == {"presentation": N_STIMULI, "neuroid": seen.model.sizes["neuroid"]}
    assert set(seen.model["layer"].values) == {"v1"}
    assert "latents" in task.model_name
    assert task.model.sizes["neuroid"] == 6
    for ready in (seen, task):
        assert ready.ceiling.sizes["neuroid"] == ready.brain.sizes["neuroid"]
        assert ready.labels == ("category_name", "object_name")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:found . of 256 ceiling:UserWarning")
def test_the_simulator_s_own_data_are_made_ready():
    fewer = {"images_per_object": {3: 1}, "image_size": 48}
    with loaded_by(lambda name, **options: load(name, **{**options, **fewer}, quiet=True)):
        task = prepare(SIMULATED)
    assert task.brain.sizes["presentation"] == task.model.sizes["presentation"] == 64
    assert task.labels == ("category_name",)


@pytest.mark.parametrize("seed", range(3))
def test_held_out_stimuli_are_in_no_pool_and_unpaired_ones_in_one_only(task, seed):
    fold = draw_fold(task, 0.1, seed=seed)
    brain, model = (set(pool["stimulus_id"].values) for pool in (fold.source_train, fold.target_train))
    test = fold.source_test["stimulus_id"].values
    assert test.tolist() == fold.target_test["stimulus_id"].values.tolist()
    assert not set(test) & (brain | model)
    assert brain & model == set(fold.pairs.source_id) == set(fold.pairs.target_id)
    assert len(fold.pairs) == round(0.1 * N_STIMULI)
    assert len(brain | model | set(test)) == N_STIMULI


def test_the_fold_is_that_of_the_learning_curve_in_the_order_of_the_recordings(task):
    fold = draw_fold(task, 0.1, seed=1)
    curve = draw_curve_fold(task.brain, task.model, len(fold.pairs), seed=1, stratify="object_name")
    assert fold.source_train.identical(curve.source_train)
    assert fold.target_train.identical(curve.target_train)
    assert fold.pairs.source_id.tolist() == curve.pairs.source_id.tolist()
    held_out = np.isin(task.brain["stimulus_id"].values, curve.source_test["stimulus_id"].values)
    assert fold.source_test.identical(task.brain.isel(presentation=np.flatnonzero(held_out)))


def test_held_out_responses_never_matter(task):
    """Spoil every held-out response: the images of other stimuli must not change."""
    config = DemoConfig(**SMALL)
    fold = draw_fold(task, 0.2, seed=0)
    held_out = fold.source_test["stimulus_id"].values

    def spoil(space, value):
        rows = np.isin(space["stimulus_id"].values, held_out)
        return space.copy(data=np.where(rows[:, None], value, space.values))

    spoiled = task._replace(brain=spoil(task.brain, 1e3), model=spoil(task.model, -7.0))
    other = draw_fold(spoiled, 0.2, seed=0)
    with simulated_in_small():
        images = [
            {method: aligner.transform(drawn.source_train).values for method, aligner in fit_aligners(drawn, config, 0)}
            for drawn in (fold, other)
        ]
    assert tuple(images[0]) == COMPARED
    for method in COMPARED:
        assert np.array_equal(images[0][method], images[1][method]), method


def check(results, out, *, labels):
    assert json.loads((out / "scores.json").read_text()) == json.loads(json.dumps(results))
    aligned = open_assembly(out / "aligned.nc")
    assert aligned.sizes["presentation"] == results["predictivity"][0]["n_stimuli"]
    names = {"learning_curve", "sites"} | ({"decoding"} if labels else set())
    for name in names:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (out / f"{name}.svg").read_text()
    assert {row["method"] for row in results["predictivity"]} == set(COMPARED)
    assert {row["label"] for row in results["decoding"]} == set(labels)
    for row in results["predictivity"]:
        assert -1 <= row["median_r"] <= 1
        assert 0 < row["p_value"] <= 1
    for row in results["decoding"]:
        assert 0 <= row["accuracy"] <= 1
    assert write_report(out).exists()


def test_the_simulated_demo_writes_everything_and_calls_itself_simulated(first_run):
    results, out = first_run
    check(results, out, labels=["category_name", "object_name"])
    assert results["title"].startswith("Simulated data")
    assert results["run"]["kind"] == "simulated"
    # Of 24 held-out stimuli, one or two may be further out than the training stimuli.
    assert all("off the support" in warning for warning in results["warnings"])
    assert "SIMULATED" in (out / "learning_curve.svg").read_text()
    assert {row["fraction"] for row in results["predictivity"]} == set(SMALL["fractions"])


def test_the_same_seed_gives_the_same_demo(first_run, tmp_path):
    results, _ = first_run
    largest = max(SMALL["fractions"])
    with simulated_in_small():
        again = run_demo(DemoConfig(**{**SMALL, "fractions": (largest,)}), tmp_path, progress=False)
    for kind in ("predictivity", "decoding"):
        assert again[kind] == [record for record in results[kind] if record["fraction"] == largest]


def every_third_stimulus(name, **options):
    whole = load(name, quiet=True, **options)
    kept = np.unique(whole.stimuli["stimulus_id"])[::3]
    parts = {part: getattr(whole, part) for part in ("recordings", "images", "latents")}
    return replace(whole, **{
        part: data.isel(presentation=np.isin(data["stimulus_id"].values, kept))
        for part, data in parts.items() if data is not None
    })  # fmt: skip


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("dataset", "labels"), [("cowley2023-v4-210325", []), ("majajhong2015-it-v6", ["category_name", "object_name"])]
)
def test_the_same_job_runs_on_real_recordings(mirror, tmp_path, dataset, labels):
    config = DemoConfig(dataset=dataset, **{**SMALL, "fractions": (0.2,)})
    # The default search on real recordings is proven by the tests of the aligners.
    with fewer_candidates(), nullcontext() if labels else loaded_by(every_third_stimulus):
        results = run_demo(config, tmp_path, mirror=mirror, progress=False)
    check(results, tmp_path, labels=labels)
    assert results["title"] == f"Real data: {dataset}"
    assert results["run"]["digests"]
    ridge = [row for row in results["predictivity"] if row["method"] == "ridge"]
    assert all(row["median_r"] > row["null_95"] for row in ridge)
    # Latents of 16 objects are 16 clusters; that their graph is joined by hand is said.
    warned = any("neighbour graph of 16 components" in warning for warning in results["warnings"])
    assert warned == (dataset == "majajhong2015-it-v6")
    assert (results["ceiling"] is not None) == (dataset == "cowley2023-v4-210325")


def test_an_unknown_dataset_is_refused():
    with refused(ValueError, "'mnist'", "simulated-hvm"):
        prepare("mnist")


def test_settings_and_task_are_shown_in_short(task):
    for shown, fact in ((DemoConfig(), "simulated-hvm"), (task, f"{N_STIMULI} stimuli")):
        assert fact in repr(shown)
        assert len(repr(shown)) <= 400
    assert "<table>" in DemoConfig()._repr_html_()
