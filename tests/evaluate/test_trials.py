"""Decoding and prediction of single trials: what stays together, folds, and nulls at their stated level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import neurobridge as nb
from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import generalise, predictivity, train_readout
from neurobridge.evaluate.correlation import permuted_correlations
from neurobridge.evaluate.decoding.readouts import READOUTS
from neurobridge.evaluate.decoding.trials import Reading, label_null, label_shuffler, trials_of
from neurobridge.evaluate.splits import stratified_group_splits
from tests.refusals import refused


def trials(n_stimuli=24, n_repetitions=4, n_classes=3, gap=0.0, spread=1.0, d=6, seed=0, **more):
    """Simulate trials: classes a gap apart, stimuli that differ within classes, noise of 1."""
    rng = np.random.default_rng(seed)
    stimulus = np.tile(np.arange(n_stimuli), n_repetitions)
    means = spread * rng.normal(size=(n_stimuli, d)) + gap * np.eye(n_classes, d)[np.arange(n_stimuli) % n_classes]
    coords = {
        "stimulus_id": [f"s{k:03d}" for k in stimulus],
        "repetition": np.repeat(np.arange(n_repetitions), n_stimuli),
        "object": np.array([f"c{k}" for k in range(n_classes)])[stimulus % n_classes],
    }
    return make_assembly(
        means[stimulus] + rng.normal(size=(len(stimulus), d)),
        presentation={**coords, **{name: np.asarray(values)[stimulus] for name, values in more.items()}},
        neuroid={"neuroid_id": range(d)},
    )


# ---- folds -----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(n_groups=st.integers(6, 30), n_classes=st.integers(2, 3), pure=st.booleans(), seed=st.integers(0, 99))
def test_groups_stay_whole_and_classes_are_on_both_sides(n_groups, n_classes, pure, seed):
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, 3 * n_groups)])
    labels = groups % n_classes if pure else np.arange(len(groups)) % n_classes
    folds = stratified_group_splits(labels, groups, n_splits=2, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(len(groups)))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert len(set(labels[train])) == n_classes
        if pure:
            assert len(set(labels[test])) == n_classes


def test_the_default_folds_are_as_many_as_the_rarest_class_has_stimuli():
    assert nb.decode(trials(n_stimuli=12), "object", n_permutations=0).sizes["split"] == 4
    assert nb.decode(trials(n_stimuli=60), "object", n_permutations=0).sizes["split"] == 10
    score = nb.decode(trials(n_stimuli=12), "object", group=None, n_permutations=0)
    assert (score.sizes["split"], score.attrs["group"], score.attrs["n_trials"]) == (10, "", 48)


@pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")
def test_accuracy_of_trials_is_that_of_a_loop_over_scikit_learn():
    data = trials(gap=2.0)
    score = nb.decode(data, "object", n_permutations=0)
    folds = stratified_group_splits(data["object"].values, data["stimulus_id"].values, n_splits=8)
    expected = []
    for train, test in folds:
        model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=10_000))
        model.fit(data.values[train], data["object"].values[train])
        expected.append(model.score(data.values[test], data["object"].values[test]))
    assert np.allclose(score["raw"].values, expected)
    assert score["confusion"].values.sum() == 96
    assert score.attrs["n_stimuli"] == 24


def test_trials_of_a_stimulus_on_both_sides_are_read_by_their_stimulus():
    """Labels are random: only a readout that saw other trials of the same stimuli can read them."""
    rng = np.random.default_rng(1)
    data = trials(n_stimuli=20, spread=3.0, d=20, word=rng.permutation(np.array(["x", "y"] * 10)))
    whole = float(nb.decode(data, "word", n_permutations=0)["raw"].mean())
    apart = float(nb.decode(data, "word", group=None, n_permutations=0)["raw"].mean())
    assert abs(whole - 0.5) < 0.25
    assert apart > 0.75
    identity = nb.decode(data, "stimulus_id", group=None, n_permutations=20)
    assert float(identity["raw"].mean()) > 0.8
    assert float(identity["p_value"]) == pytest.approx(1 / 21)


def test_refusals_name_the_mend_that_works():
    data = trials()
    with refused(AssemblyError, "24 of 24 classes", "stimulus_id", "group=None"):
        nb.decode(data, "stimulus_id")
    with refused(AssemblyError, "stimulus_id of fold 0", "splits='group,label=stimulus_id,n_splits=5'"):
        nb.decode(data, "object", splits="kfold,n_splits=4")
    score = nb.decode(data, "object", splits="group,label=stimulus_id,n_splits=5", n_permutations=0)
    assert score.sizes["split"] == 5
    with refused(AssemblyError, "'session'"):
        nb.decode(data, "object", group="session")
    with refused(AssemblyError, "by='trial'", "time_bin"):
        nb.decode(data, "object", by="trial")
    with refused(AssemblyError, "2 parts", "n_splits=9"):
        stratified_group_splits(data["object"].values, data["stimulus_id"].values, n_splits=9)


def test_a_frozen_readout_takes_trials_and_generalise_keeps_stimuli_whole():
    data = trials(gap=4.0, variation=np.arange(24) // 3 % 2)
    known = data["stimulus_id"].values < "s012"
    head = train_readout(data[known], "object", readout="lda")
    assert len(head.trained_on) == 12
    score = head.score(data[~known], n_permutations=50)
    assert score.attrs["n_stimuli"] == 12
    assert float(score["p_value"]) < 0.05
    with refused(AssemblyError, "12 stimuli"):
        head.score(data[known])
    table = generalise(data, "object", n_splits=4, n_permutations=50)
    assert "24 whole groups" in table.attrs["splits"]
    assert table["raw"].mean() > 0.7


# ---- nulls -----------------------------------------------------------------------------------------------------


def test_labels_are_exchanged_by_group_or_within_groups():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), [1, 2, 3, 1, 2, 3])
    pure = np.array(list("abcdef"))[groups]
    shuffled = label_shuffler(pure, groups)(rng)
    assert sorted({shuffled[groups == g][0] for g in range(6)}) == list("abcdef")
    assert all(len(set(shuffled[groups == g])) == 1 for g in range(6))
    mixed = np.arange(12) % 2
    blocks = np.repeat([0, 1, 2], 4)
    for _ in range(5):
        drawn = label_shuffler(mixed, blocks)(rng)
        assert [drawn[blocks == b].sum() for b in range(3)] == [2, 2, 2]


def test_the_null_of_disjoint_folds_has_the_variance_of_half_of_them():
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    readings = [Reading(rng.permutation(truth), truth) for _ in range(10)]
    single = label_null(readings, 4000, 0)
    half = label_null(readings, 4000, 0, disjoint=True)
    assert single.mean() == pytest.approx(0.5, abs=0.01)
    assert half.mean() == pytest.approx(0.5, abs=0.01)
    assert half.var() == pytest.approx(single.var() / 5, rel=0.15)
    rows = [Reading(np.stack([r.predicted, 1 - r.predicted]), r.truth) for r in readings]
    both = label_null(rows, 50, 0, disjoint=True)
    assert np.allclose(both[0], half[:50]) or both.shape == (2, 50)
    assert np.allclose(both.sum(axis=0), 1)


def test_a_constant_group_coordinate_of_single_presentations_changes_nothing():
    data = nb.average_repetitions(trials(n_stimuli=30, gap=1.0))
    assert trials_of(data, "object", "stimulus_id", role="assembly").group is None
    assert nb.decode(data, "object", group=None, n_permutations=9).equals(nb.decode(data, "object", n_permutations=9))


def test_refitting_gives_an_exact_test_and_agrees_with_the_fast_null():
    data = trials(n_stimuli=24, n_repetitions=2, gap=5.0)
    exact = nb.decode(data, "object", readout="centroid", refit=True, n_permutations=19)
    fast = nb.decode(data, "object", readout="centroid", n_permutations=19)
    assert exact["raw"].equals(fast["raw"])
    assert "trained on shuffled labels" in exact.attrs["null"]
    assert "half of the folds" in fast.attrs["null"]
    assert float(exact["p_value"]) == float(fast["p_value"]) == pytest.approx(1 / 20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("readout", ["logistic", "centroid", "lda", "ridge"])
def test_trials_without_an_effect_are_called_significant_at_most_at_the_stated_level(readout):
    """Stimuli differ, classes do not: 200 simulations, alpha .05; with trials exchanged it would be many more."""
    by_group, by_trial = [], []
    for seed in range(200):
        data = trials(n_stimuli=20, n_classes=2, spread=1.5, d=10, seed=1000 + seed)
        score = nb.decode(data, "object", readout=readout, n_permutations=99, seed=seed)
        by_group.append(float(score["p_value"]))
        by_trial.append(float(nb.decode(data, "object", readout=readout, group=None, n_permutations=99)["p_value"]))
    # The upper end of a binomial 99 % interval about .05.
    assert np.mean(np.array(by_group) <= 0.05) <= 0.095
    assert np.mean(np.array(by_trial) <= 0.05) > 0.25


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_exact_null_holds_its_level():
    alarms = []
    for seed in range(200):
        data = trials(n_stimuli=12, n_classes=2, spread=1.5, d=6, seed=3000 + seed)
        score = nb.decode(data, "object", readout="centroid", refit=True, n_permutations=39, seed=seed, progress=False)
        alarms.append(float(score["p_value"]) <= 0.05)
    assert 0.01 <= np.mean(alarms) <= 0.095


# ---- prediction ------------------------------------------------------------------------------------------------


def model_of(data, seed=5):
    ids = np.unique(data["stimulus_id"].values)
    average = nb.average_repetitions(data).values
    rng = np.random.default_rng(seed)
    X = average @ rng.normal(size=(average.shape[1], 4)) + 0.1 * rng.normal(size=(len(ids), 4))
    return make_assembly(X, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": range(4)})


def test_averages_are_fitted_and_single_trials_predicted():
    data = trials(n_stimuli=40, n_repetitions=5, spread=2.0)
    model = model_of(data)
    single = predictivity(model, data, "ridge", n_permutations=99)
    average = predictivity(model, nb.average_repetitions(data), "ridge", n_permutations=99)
    assert single.attrs["splits"] == average.attrs["splits"]
    assert (single.attrs["n_stimuli"], single.attrs["n_trials"]) == (40, 200)
    assert float(single["raw"].mean()) < float(average["raw"].mean())
    assert float(single["p_value"]) <= 0.05
    shuffled = data.isel(presentation=np.random.default_rng(0).permutation(200))
    assert np.allclose(predictivity(model, shuffled, "ridge", n_permutations=0)["raw"], single["raw"])


def test_a_trial_is_predicted_from_the_stimuli_that_are_trained_on():
    data = trials(n_stimuli=12, n_repetitions=3)
    model = model_of(data)
    fold = (np.arange(8), np.arange(8, 12))
    score = predictivity(model, data, "linear", splits=[fold], n_permutations=0)
    average = nb.average_repetitions(data).values
    design = np.column_stack([model.values, np.ones(12)])
    coef = np.linalg.lstsq(design[:8], average[:8], rcond=None)[0]
    rows = np.flatnonzero(data["stimulus_id"].values >= "s008")
    predicted = (design @ coef)[np.searchsorted(model["stimulus_id"].values, data["stimulus_id"].values[rows])]
    expected = [np.corrcoef(predicted[:, k], data.values[rows, k])[0, 1] for k in range(6)]
    assert np.allclose(score["raw"].values[0], expected)


def test_whole_objects_are_held_out_where_the_group_says_so():
    data = trials(n_stimuli=40, n_classes=5)
    score = predictivity(model_of(data), data, "ridge", group="object", n_permutations=0)
    assert "5 whole groups" in score.attrs["splits"]


def test_shuffled_predictions_of_groups_are_correlations():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(5), [1, 2, 3, 4, 2])
    predicted, observed = rng.normal(size=(5, 3))[groups], rng.normal(size=(12, 3))
    observed[3, 1] = np.nan
    (drawn,) = permuted_correlations(predicted, observed, np.random.default_rng(4), 1, groups)
    keys = np.random.default_rng(4).random(5)
    first = np.unique(groups, return_index=True)[1]
    shuffled = predicted[first[np.argsort(keys)]][groups]
    for k in range(3):
        kept = ~np.isnan(observed[:, k])
        assert drawn[k] == pytest.approx(np.corrcoef(shuffled[kept, k], observed[kept, k])[0, 1])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_null_of_predicted_trials_holds_its_level():
    alarms = []
    for seed in range(200):
        data = trials(n_stimuli=30, n_repetitions=4, spread=1.5, d=1, seed=5000 + seed)
        rng = np.random.default_rng(seed)
        ids = np.unique(data["stimulus_id"].values)
        model = make_assembly(
            rng.normal(size=(30, 3)), presentation={"stimulus_id": ids}, neuroid={"neuroid_id": range(3)}
        )
        score = predictivity(model, data, "ridge", n_permutations=99, seed=seed)
        alarms.append(float(score["p_value"]) <= 0.05)
    assert np.mean(alarms) <= 0.095


def test_every_readout_reads_trials():
    data = trials(gap=4.0, n_stimuli=12)
    for readout in READOUTS:
        assert float(nb.decode(data, "object", readout=readout, n_permutations=0)["raw"].mean()) > 0.5
