"""Folds that cannot leak: rows, groups, conditions and animals on one side each; fits that never see what is held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import (
    METRICS,
    REGRESSIONS,
    Splits,
    animal_splits,
    condition_splits,
    group_splits,
    kfold_splits,
    predictivity,
    shuffle_splits,
    stratified_splits,
)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(10, 80), k=st.integers(2, 5), seed=st.integers(0, 1000))
def test_kfold_holds_every_row_out_once(n, k, seed):
    splits = kfold_splits(n, n_splits=k, seed=seed)
    assert sorted(np.concatenate([test for _, test in splits]).tolist()) == list(range(n))
    expected = KFold(k, shuffle=True, random_state=seed).split(np.empty((n, 0)))
    assert all(np.array_equal(test, theirs) for (_, test), (_, theirs) in zip(splits, expected, strict=True))


def test_stratified_kfold_deals_every_class_evenly():
    labels = np.repeat(["a", "b"], [20, 40])
    for _, test in kfold_splits(60, n_splits=4, labels=labels):
        assert (np.sum(labels[test] == "a"), np.sum(labels[test] == "b")) == (5, 10)


@settings(max_examples=25, deadline=None)
@given(labels=st.lists(st.integers(0, 6), min_size=12, max_size=60), parts=st.integers(2, 3), seed=st.integers(0, 99))
def test_groups_are_never_parted(labels, parts, seed):
    labels = np.array([*labels, 0, 1, 2])
    splits = group_splits(labels, n_splits=parts, seed=seed)
    held_out = np.concatenate([test for _, test in splits])
    assert sorted(held_out.tolist()) == list(range(len(labels)))
    for train, test in splits:
        assert not set(labels[train]) & set(labels[test])


def test_one_group_at_a_time_by_default():
    labels = np.array(["car", "face", "car", "plane"])
    assert {tuple(labels[test]) for _, test in group_splits(labels)} == {("car", "car"), ("face",), ("plane",)}


def test_variations_0_and_3_train_and_6_is_held_out():
    variation = np.array([0, 3, 6, 6, 3, 0, 9])
    ((train, test),) = condition_splits(variation, train=[0, 3], test=[6])
    assert train.tolist() == [0, 1, 4, 5]
    assert test.tolist() == [2, 3]


def recordings(n: int = 40) -> object:
    rng = np.random.default_rng(0)
    return make_assembly(
        rng.normal(size=(n, 6)),
        presentation={"stimulus_id": [f"s{k:02d}" for k in range(n)]},
        neuroid={"neuroid_id": list("abcdef"), "animal": ["Tito", "Chabo", "Tito", "Tito", "Chabo", "Tito"]},
    )


def test_animals_are_parted_by_their_sites_and_not_by_stimuli():
    splits = animal_splits(recordings())
    assert [test.tolist() for _, test in splits] == [[1, 4], [0, 2, 3, 5]]
    assert [train.tolist() for train, _ in splits] == [[0, 2, 3, 5], [1, 4]]
    with pytest.raises(AssemblyError, match=r"neuroid.*presentation.*Mend"):
        predictivity(recordings(), recordings(), splits=splits)


def test_folds_are_copies_that_cannot_be_changed():
    train = np.arange(5)
    splits = Splits([(train, [5, 6])])
    train[:] = 6
    assert splits[0][0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="read-only"):
        splits[0][1][0] = 0


def test_leaking_folds_cannot_be_built():
    with pytest.raises(AssemblyError, match=r"1 group.*0.*'car'.*Mend"):
        Splits([([0, 1], [2, 3])], groups=["car", "face", "car", "plane"])
    with pytest.raises(AssemblyError, match=r"2 group.*3.*Mend"):
        Splits([([0, 1], [2, 3])], groups=["car", "face"])
    with pytest.raises(AssemblyError, match=r"bool.*np.flatnonzero"):
        Splits([(np.array([True, False]), np.array([False, True]))])
    with pytest.raises(AssemblyError, match=r"twice.*fold 0.*Mend"):
        Splits([([0, 0, 1], [2])])
    with pytest.raises(AssemblyError, match=r"found condition 3 both.*Mend"):
        condition_splits([0, 3, 6], train=[0, 3], test=[3, 6])
    with pytest.raises(AssemblyError, match=r"9.*\[0, 3, 6\].*Mend"):
        condition_splits([0, 3, 6], train=[0], test=[9])
    with pytest.raises(AssemblyError, match=r"1 group.*Mend"):
        group_splits(["car", "car"])
    for n_rows, train_size in ((1, 0.9), (10, 1.0), (10, 0.0), (10, 1.5)):
        with pytest.raises(AssemblyError, match=rf"{n_rows} row.*train_size={train_size}.*Mend"):
            shuffle_splits(n_rows, train_size=train_size)
    with pytest.raises(AssemblyError, match=r"found no fold.*Mend"):
        shuffle_splits(10, n_splits=0)
    with pytest.raises(AssemblyError, match=r"n_splits=5.*2.*Mend"):
        kfold_splits(6, n_splits=5, labels=["a"] * 4 + ["b"] * 2)
    with pytest.raises(AssemblyError, match=r"3 labels.*6.*Mend"):
        kfold_splits(6, n_splits=2, labels=["a"] * 3)
    with pytest.raises(AssemblyError, match=r"'monkey'.*Mend"):
        animal_splits(recordings(), animal="monkey")
    with pytest.raises(AssemblyError, match=r"'Tito'.*Mend"):
        animal_splits(recordings().isel(neuroid=[0, 2]))


def test_a_fit_never_sees_what_is_held_out(monkeypatch):
    """Every row carries its number: what the fit is given is exactly the training rows of the fold."""
    rng = np.random.default_rng(0)
    rows = np.arange(60.0)
    source = _labelled(np.column_stack([rows, rng.normal(size=(60, 3))]))
    target = _labelled(np.column_stack([rows, rng.normal(size=(60, 2))]))
    seen = []

    def spy(X, Y):
        assert np.array_equal(X[:, 0], Y[:, 0])
        seen.append(X[:, 0])
        return lambda new: np.column_stack([new[:, 0], new[:, 1:3]])

    def spy_cca(X, Y, **_):
        spy(X, Y)
        return (lambda new: new[:, :1]), (lambda new: new[:, :1])

    monkeypatch.setitem(REGRESSIONS, "spy", spy)
    monkeypatch.setattr("neurobridge.evaluate.similarity.canonical.fit_cca", spy_cca)
    splits = kfold_splits(60, n_splits=4)
    predictivity(source, target, "spy", splits=splits, n_permutations=0)
    METRICS["cca"](source, target, splits=splits, n_permutations=0)
    assert len(seen) == 8
    for fold, fitted in enumerate(seen):
        assert np.array_equal(fitted, rows[splits[fold % 4][0]])


def test_all_metrics_share_one_set_of_folds():
    rng = np.random.default_rng(0)
    target = recordings(60)
    source = target.copy(data=target.values + 0.1 * rng.normal(size=target.shape))
    splits = stratified_splits(np.arange(60) % 3, n_splits=4, train_size=0.5)
    for name, metric in METRICS.items():
        score = metric(source, target.isel(neuroid=[0, 1, 2, 4]) if name != "rsa" else _wide(target), splits=splits)
        assert score.attrs["n_splits"] == 4, name
        assert score.attrs["splits"].endswith(splits.description), name
        assert score["raw"].sizes["split"] == 4, name


def _wide(target):
    return target.assign_coords(animal=("neuroid", ["a", "b"] * 3))


@pytest.mark.parametrize("regression", sorted(REGRESSIONS))
def test_noise_is_at_chance_when_whole_objects_are_held_out(regression):
    """Responses that share nothing but an object's offset: rows of an object in training would predict the others."""
    rng = np.random.default_rng(1)
    objects = np.repeat(np.arange(16), 12)
    source = _labelled(rng.normal(size=(16, 30))[objects] + 0.01 * rng.normal(size=(192, 30)))
    target = _labelled(rng.normal(size=(16, 5))[objects] + 0.01 * rng.normal(size=(192, 5)))
    leaking = predictivity(source, target, regression, splits=shuffle_splits(192, n_splits=3), n_permutations=0)
    whole = predictivity(source, target, regression, splits=group_splits(objects, n_splits=4), n_permutations=0)
    assert abs(whole["raw"].values.mean()) < 0.35
    assert leaking["raw"].values.mean() > whole["raw"].values.mean() + 0.3


def _labelled(values):
    return make_assembly(
        values,
        presentation={"stimulus_id": [f"s{k:03d}" for k in range(len(values))]},
        neuroid={"neuroid_id": [f"n{k}" for k in range(values.shape[1])]},
    )
