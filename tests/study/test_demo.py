"""The main job, small, on every dataset: what it writes, what it holds out, what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from neurobridge.assemblies import open_assembly
from neurobridge.study.demo import SIMULATED, DemoConfig, run_demo
from neurobridge.study.demo.task import METHODS, draw_fold, fit_aligners, prepare
from neurobridge.study.report import write_report

SMALL = {"fractions": (0.1, 0.2), "n_seeds": 1, "flow_steps": 5, "n_permutations": 20}


@pytest.fixture(scope="module")
def task():
    return prepare(SIMULATED)


def test_held_out_stimuli_are_in_no_pool_and_unpaired_ones_in_one_only(task):
    for seed in range(3):
        fold = draw_fold(task, 0.1, seed=seed)
        brain, model = (set(pool["stimulus_id"].values) for pool in (fold.brain_train, fold.model_train))
        test = set(fold.brain_test["stimulus_id"].values)
        assert test == set(fold.model_test["stimulus_id"].values)
        assert not test & (brain | model)
        assert brain & model == set(fold.pairs.source_id) == set(fold.pairs.target_id)
        assert len(fold.pairs) == 64
        assert len(brain | model | test) == 640


def test_held_out_responses_never_matter(task):
    """Spoil every held-out response: what the aligner makes of other stimuli must not change."""
    config = DemoConfig(**SMALL)
    fold = draw_fold(task, 0.1, seed=0)
    held_out = fold.brain_test["stimulus_id"].values

    def spoil(space, value):
        rows = np.isin(space["stimulus_id"].values, held_out)
        return space.copy(data=np.where(rows[:, None], value, space.values))

    spoiled = task._replace(brain=spoil(task.brain, 1e3), model=spoil(task.model, -7.0))
    other = draw_fold(spoiled, 0.1, seed=0)
    moved = [
        {method: aligner.transform(drawn.brain_train).values for method, aligner in fit_aligners(drawn, config, 0)}
        for drawn in (fold, other)
    ]
    assert tuple(moved[0]) == METHODS
    for method in METHODS:
        assert np.array_equal(moved[0][method], moved[1][method]), method


def check(results, out, *, labels):
    assert json.loads((out / "scores.json").read_text()) == json.loads(json.dumps(results))
    aligned = open_assembly(out / "aligned.nc")
    assert aligned.sizes["presentation"] == results["predictivity"][0]["n_stimuli"]
    names = {"learning_curve", "sites"} | ({"decoding"} if labels else set())
    for name in names:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (out / f"{name}.svg").read_text()
    assert {row["method"] for row in results["predictivity"]} == set(METHODS)
    assert {row["label"] for row in results["decoding"]} == set(labels)
    for row in results["predictivity"]:
        assert -1 <= row["median_r"] <= 1
        assert 0 < row["p_value"] <= 1
    for row in results["decoding"]:
        assert 0 <= row["accuracy"] <= 1
    assert write_report(out).exists()


def test_the_simulated_demo_writes_everything_and_calls_itself_simulated(tmp_path):
    results = run_demo(DemoConfig(**SMALL), tmp_path, progress=False)
    check(results, tmp_path, labels=["category_name"])
    assert results["title"].startswith("Simulated data")
    assert results["run"]["kind"] == "simulated"
    assert results["warnings"] == []
    assert "SIMULATED" in (tmp_path / "learning_curve.svg").read_text()
    again = run_demo(DemoConfig(**SMALL), tmp_path / "again", progress=False)
    assert again["predictivity"] == results["predictivity"]
    assert again["decoding"] == results["decoding"]
    assert (tmp_path / "again" / "learning_curve.svg").read_bytes() == (tmp_path / "learning_curve.svg").read_bytes()


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("dataset", "labels"), [("cowley2023-v4-210325", []), ("majajhong2015-it-v6", ["category_name", "object_name"])]
)
def test_the_same_job_runs_on_real_recordings(mirror, tmp_path, dataset, labels):
    results = run_demo(DemoConfig(dataset=dataset, **SMALL), tmp_path, mirror=mirror, progress=False)
    check(results, tmp_path, labels=labels)
    assert results["title"] == f"Real data: {dataset}"
    assert results["run"]["digests"]
    ridge = [row for row in results["predictivity"] if row["method"] == "ridge" and row["fraction"] == 0.2]
    assert all(row["median_r"] > row["null_95"] for row in ridge)
    # Latents of 16 objects are 16 clusters; that their graph is joined by hand is said.
    said = any("neighbour graph of 16 components" in warning for warning in results["warnings"])
    assert said == (dataset == "majajhong2015-it-v6")
    assert (results["ceiling"] is not None) == (dataset == "cowley2023-v4-210325")


def test_an_unknown_dataset_is_refused():
    with pytest.raises(ValueError, match=r"found dataset 'mnist'; expected one of \('simulated-hvm'.*Mend"):
        prepare("mnist")
