"""Folds that cannot leak: rows, groups, conditions and animals on one side each; fits that never see what is held out."""

from __future__ import annotations

import re

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
    brainscore_splits,
    condition_splits,
    decode,
    group_splits,
    kfold_splits,
    predictivity,
    shuffle_splits,
    stratified_splits,
)
from neurobridge.evaluate.splits import resolve_splits, splits_from_text
from tests.refusals import refused, warned


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
    with refused(AssemblyError, "neuroid", "presentation"):
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
    with refused(AssemblyError, "condition 3"):
        condition_splits([0, 3, 6], train=[0, 3], test=[3, 6])
    with pytest.raises(AssemblyError, match=r"9.*\[0, 3, 6\].*Mend"):
        condition_splits([0, 3, 6], train=[0], test=[9])
    with pytest.raises(AssemblyError, match=r"1 group.*Mend"):
        group_splits(["car", "car"])
    for n_rows, train_size in ((1, 0.9), (10, 1.0), (10, 0.0), (10, 1.5)):
        with refused(AssemblyError, f"{n_rows} row", f"train_size={train_size}"):
            shuffle_splits(n_rows, train_size=train_size)
    with refused(AssemblyError, "n_splits=0"):
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


# ---- Defaults and texts ----------------------------------------------------------------------------------------


def stimuli(n: int, **labels: object) -> object:
    return make_assembly(
        np.random.default_rng(0).normal(size=(n, 3)),
        presentation={"stimulus_id": [f"s{k:03d}" for k in range(n)], **labels},
        neuroid={"neuroid_id": range(3)},
    )


@pytest.mark.parametrize("n", [6, 7, 10, 15, 20, 21, 40])
def test_the_default_holds_out_enough_to_correlate_over(n):
    folds = resolve_splits(stimuli(n), None, min_held_out=3)
    assert {len(test) for _, test in folds} == {max(3, -(-n // 10))}
    score = predictivity(stimuli(n), stimuli(n), "ridge", n_permutations=0)
    assert score["raw"].shape == (10, 3)
    if n > 20:
        assert all(
            np.array_equal(mine[1], theirs[1])
            for mine, theirs in zip(folds, brainscore_splits(stimuli(n)), strict=True)
        )


@pytest.mark.parametrize("n", [2, 5])
def test_too_few_stimuli_are_refused_with_the_number_that_is_enough(n):
    with refused(AssemblyError, f"{n} stimuli", "at least 6"):
        predictivity(stimuli(n), stimuli(n), "ridge")


@pytest.mark.parametrize("metric", ["ridge", "cca"])
def test_given_folds_that_hold_out_too_few_name_some_that_do(metric):
    assembly = stimuli(12)
    with refused(AssemblyError, "2 held-out", "12", "'kfold,n_splits=4'"):
        METRICS[metric](assembly, assembly, kfold_splits(12, n_splits=6))
    METRICS[metric](assembly, assembly, "kfold,n_splits=4", n_permutations=0)


def test_one_image_an_object_is_shuffled_and_said():
    alone = stimuli(40, object_name=[f"o{k}" for k in range(40)])
    with warned(UserWarning, "40 objects", "40 stimuli", "splits='shuffle'"):
        folds = resolve_splits(alone, None)
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(folds, resolve_splits(stimuli(40), None), strict=True))
    # What needs no folds draws none.
    assert METRICS["cka"](alone, alone, n_permutations=0)["raw"].item() == pytest.approx(1)
    with refused(AssemblyError, "'o0' with 1", "splits='shuffle'"):
        decode(alone, "object_name")
    with pytest.raises(AssemblyError, match=r"'o0' with 1"):
        brainscore_splits(alone)


@settings(max_examples=25, deadline=None)
@given(n_classes=st.integers(2, 12), each=st.integers(2, 5))
def test_every_class_is_held_out_by_default_and_by_the_mend(n_classes, each):
    labels = np.repeat(np.arange(n_classes), each)
    folds = resolve_splits(stimuli(len(labels), label=labels), None, stratify="label")
    assert all(len(np.unique(labels[side])) == n_classes for fold in folds for side in fold)
    if 0.1 * len(labels) < n_classes - 1:
        with pytest.raises(AssemblyError) as error:
            stratified_splits(labels)
        train_size = float(re.search(r"Mend: train_size=([\d.]+),", str(error.value))[1])
        assert len(stratified_splits(labels, train_size=train_size)) == 10


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("shuffle", (10, 54, 6)),
        ("shuffle, n_splits=3, train_size=0.5, seed=2", (3, 30, 30)),
        ("stratified,train_size=0.8", (10, 48, 12)),
        ("stratified,label=variation", (10, 54, 6)),
        ("kfold", (5, 48, 12)),
        ("kfold,n_splits=3,label=object_name", (3, 40, 20)),
        ("group,label=object_name", (6, 50, 10)),
        ("group,label=object_name,n_splits=2", (2, 30, 30)),
        ("condition,label=variation,train=0|3,test=6", (1, 40, 20)),
        ("condition,label=object_name,train=o1,test=o2|o3", (1, 10, 20)),
        ("brainscore", (10, 54, 6)),
    ],
)
def test_a_text_draws_the_folds_that_it_names(text, sizes):
    labels = {"object_name": [f"o{k % 6}" for k in range(60)], "variation": np.repeat([0, 3, 6], 20)}
    assembly = stimuli(60, **labels)
    folds = splits_from_text(text, assembly)
    assert (len(folds), len(folds[0][0]), len(folds[0][1])) == sizes
    # The same stimuli, whatever their order.
    order = np.random.default_rng(0).permutation(60)
    shuffled = splits_from_text(text, assembly.isel(presentation=order))
    for (_, test), (_, again) in zip(folds, shuffled, strict=True):
        assert set(test) == set(order[again])
    if "group" in text:
        objects = assembly["object_name"].values
        assert all(not set(objects[train]) & set(objects[test]) for train, test in folds)
    scored = predictivity(assembly, assembly, "linear", splits=text, n_permutations=0)
    assert scored.attrs["splits"] == folds.description


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("loo", r"'loo'.*kfold"),
        ("", r"''.*kfold"),
        ("kfold,k=3", r"'k'.*n_splits"),
        ("kfold,n_splits", r"'n_splits'.*name=value"),
        ("kfold,n_splits=many", r"n_splits='many'.*number"),
        ("kfold,n_splits=1", r"n_splits=1"),
        ("shuffle,train_size=2", r"train_size=2"),
        ("group", r"label None.*'group,label=variation'"),
        ("group,label=colour", r"'stimulus_id', 'variation'.*'colour'.*'group,label=variation'"),
        ("stratified", r"'object_name'"),
        ("condition,label=variation,train=0", r"no conditions"),
        ("condition,label=variation,train=0,test=easy", r"'easy'.*numbers"),
        ("condition,label=variation,train=0,test=9", r"condition 9"),
    ],
)
def test_texts_that_name_no_folds_are_refused(text, facts):
    with pytest.raises(AssemblyError, match=facts) as error:
        splits_from_text(text, stimuli(30, variation=np.repeat([0, 3, 6], 10)))
    assert "Mend: " in str(error.value)
