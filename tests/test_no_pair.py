"""Parts of the experiment without a pair: plans with marginals, distances, shares of partners and their chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from neurobridge.study import Run


@pytest.fixture
def parts(script):
    return lambda name: script(f"experiments/parts/no_pair/{name}")


def task_of(parts, n=60, seed=0, labels=None):
    rng = np.random.default_rng(seed)
    X = rng.exponential(size=(n, 5)) * np.arange(1, 6)
    order = rng.permutation(n)
    Y = (X @ np.linalg.qr(rng.normal(size=(6, 5)))[0].T)[order]
    partner = np.argsort(order)
    if labels is None:
        return parts("spaces").Task(X, Y, partner[:, None], partner)
    partners = np.stack([np.flatnonzero(labels[order] == label) for label in labels])
    return parts("spaces").Task(X, Y, partners, partner, labels[order])


@given(n=st.integers(2, 12), m=st.integers(2, 12), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_plan_is_given_its_marginals(script, n, m, seed):
    scaled = script("experiments/parts/no_pair/restarts").scaled
    # Some entries hold nearly nothing, so that scaling alone does not end.
    plan = np.random.default_rng(seed).random((n, m)) ** 40 + 1e-12
    mended = scaled(plan, n_rounds=3)
    assert mended.min() >= 0
    np.testing.assert_allclose(mended.sum(axis=1), 1 / n, rtol=1e-9)
    np.testing.assert_allclose(mended.sum(axis=0), 1 / m, rtol=1e-9)
    np.testing.assert_allclose(scaled(mended), mended, atol=1e-12)


def test_the_distance_is_that_of_pot_beside_the_independent_plan(parts):
    task = task_of(parts, n=24)
    restarts = parts("restarts")
    trials = restarts.entropic_trials(task.X, task.Y, np.random.default_rng(0), n_trials=4, max_iter=5)
    solved = [trial for trial in trials if np.isfinite(trial.distance)]
    assert len(solved) >= 2
    p = ot.unif(24)
    C, D = cdist(task.X, task.X), cdist(task.Y, task.Y)
    matrices = ot.gromov.init_matrix(C, D, p, p)
    for trial in solved:
        expected = ot.gromov.gwloss(*matrices, trial.plan) / ot.gromov.gwloss(*matrices, np.outer(p, p))
        assert trial.distance == pytest.approx(expected, rel=1e-8)
    assert restarts.least_distance(trials).distance == min(trial.distance for trial in solved)
    assert restarts.least_distance([trials[0]._replace(distance=np.nan)]) is None


def test_partners_that_are_most_similar_are_all_right(parts):
    scoring, task = parts("scoring"), task_of(parts)
    similarity = -cdist(task.X, task.X)[:, np.argsort(task.pairs)]
    every = np.arange(60)
    results = scoring.score(similarity, task, every, seed=0)
    assert results["top"] == {"1": 1.0, "5": 1.0, "10": 1.0}
    assert results["right"] == 1
    assert results["p"] == pytest.approx(1 / 201)
    assert 10 / 60 <= results["null_95"]["10"] < 0.5
    rng = np.random.default_rng(1)
    by_chance = scoring.score(rng.normal(size=(60, 60)), task, every[:40], seed=0)
    assert by_chance["n_test"] == 40
    assert by_chance["p"] > 0.01
    assert abs(by_chance["right"]) < 0.2


def test_any_point_of_the_class_is_a_partner(parts):
    labels = np.repeat(np.arange(4), 15)
    scoring, task = parts("scoring"), task_of(parts, labels=labels)
    # One other point of the class is the most similar.
    similarity = np.zeros((60, 60))
    similarity[np.arange(60), task.partners[:, 3]] = 1
    results = scoring.score(similarity, task, np.arange(60), seed=0)
    assert scoring.main_top(task) == 1
    assert results["top"]["1"] == results["right"] == 1
    assert 0.25 <= results["null_95"]["1"] < 0.6
    rows = parts("methods").few_rows(task, np.random.default_rng(0))
    assert np.unique(task.labels[task.pairs[rows]], return_counts=True)[1].tolist() == [5, 5, 5, 5]


def test_held_out_images_know_nothing_of_their_pair(parts):
    task, methods = task_of(parts), parts("methods")
    wrong = task._replace(pairs=np.roll(task.pairs, 1))
    for name in methods.CEILINGS:
        right = methods.held_out_images(task, name, seed=0)
        assert np.abs(right - task.Y[task.pairs]).mean() < np.abs(task.Y - task.Y.mean(axis=0)).mean()
        assert not np.allclose(right, methods.held_out_images(wrong, name, seed=0))


def test_every_cell_is_a_set_and_a_method_and_mouse_needs_a_mirror(script, tmp_path):
    study = script("experiments/no_pair").STUDY
    spaces = script("experiments/parts/no_pair/spaces")
    run = Run(quick=False, seed=0, n_seeds=3, out=Path(tmp_path), mirror=tmp_path)
    named = {cell["set"] for cell in study.cells(run)}
    assert named == {*spaces.RELATED, spaces.THINGS_FLICKR, spaces.V4_IT}
    assert {cell["work"] for cell in study.cells(run) if cell["set"] in spaces.CONTROLS} == {
        "unpaired", "entropic GW, restarts", "low-rank GW",
    }  # fmt: skip
