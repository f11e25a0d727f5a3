"""Splits and readouts: a missing label is never a class, a group or an animal."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import neurobridge as nb
from neurobridge.assemblies import AssemblyError, drop_missing
from neurobridge.evaluate.decoding import choices, tabulate_choices
from neurobridge.evaluate.folds import Splits
from neurobridge.evaluate.splits import animal_splits, condition_splits, group_splits, kfold_splits, stratified_splits
from tests.refusals import refused

LABELS = {
    "None": ["a", None, "b"] * 10,
    "NaN": [1.0, np.nan, 2.0] * 10,
    "blank": ["a", "", "b"] * 10,
    "pandas.NA": pd.array([1, None, 2] * 10, dtype="Int64"),
    "NaT": np.array(["2020", "NaT", "2021"] * 10, dtype="datetime64[Y]"),
    "categories": pd.Categorical(["a", None, "b"] * 10),
}
SPLITS = {
    "stratified": lambda labels: stratified_splits(labels, train_size=0.5),
    "k-fold": lambda labels: kfold_splits(30, labels=labels),
    "groups": group_splits,
    "given": lambda labels: Splits([(range(15), range(15, 30))], groups=labels),
}


@pytest.mark.parametrize("kind", sorted(LABELS))
@pytest.mark.parametrize("splits", sorted(SPLITS))
def test_splits_refuse_missing_labels(splits, kind):
    counts = "5 of 15" if splits == "given" else "10 of 30"
    name = "group" if splits in ("given", "groups") else "label"
    with refused(AssemblyError, counts, repr(name), "rows 1, 4, 7", "missing_rows"):
        SPLITS[splits](LABELS[kind])


def test_rows_that_no_fold_uses_may_be_without_a_group():
    assert len(Splits([([0], [1])], groups=["a", "b", None])) == 1
    ((train, test),) = condition_splits([0, 3, np.nan, 6], train=[0, 3], test=[6])
    assert (train.tolist(), test.tolist()) == ([0, 1], [3])


@pytest.fixture
def recordings():
    values = np.random.default_rng(0).normal(size=(30, 4))
    presentation = {"stimulus_id": range(30), "category_name": LABELS["None"]}
    return nb.make_assembly(
        values, presentation=presentation, neuroid={"neuroid_id": range(4), "animal": ["x", "y", None, "x"]}
    )


@pytest.mark.parametrize(
    "read",
    [
        lambda a: nb.decode(a, "category_name", n_permutations=0),
        lambda a: nb.decoding.train_readout(a, "category_name"),
        lambda a: choices(a, "category_name", n_repeats=1, readout="lda"),
    ],
)
def test_readouts_refuse_missing_labels_and_the_mend_leaves_them_out(recordings, read):
    with refused(AssemblyError, "10 of 30", "'category_name'", "drop_missing"):
        read(recordings)
    assert read(drop_missing(recordings, "category_name")) is not None


def test_a_site_without_an_animal_is_no_animal(recordings):
    with refused(AssemblyError, "1 of 4", "'animal'", "row 2"):
        animal_splits(recordings)
    assert len(animal_splits(drop_missing(recordings, "animal"))) == 2


@pytest.mark.parametrize("column", ["stimulus_id", "truth", "choice"])
def test_trials_without_an_answer_are_refused(column):
    trials = {"stimulus_id": ["a", "a", "b"], "truth": ["car", "car", "face"], "choice": ["car", "face", "face"]}
    trials[column] = [trials[column][0], None, trials[column][2]]
    with refused(AssemblyError, "1 of 3", repr(column), "row 1"):
        tabulate_choices(**trials)
