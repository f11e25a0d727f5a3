"""Candidates: records by keyword, and those of version 0.1 by position; which of them can be solved."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest

import neurobridge.bridge
from neurobridge.bridge import Candidate, MinibatchWarning, fuse
from neurobridge.bridge.fused.candidate import RIDGE

RNG = np.random.default_rng(0)
LATENTS = RNG.normal(size=(60, 3))
X, Y, NEW = LATENTS @ RNG.normal(size=(3, 5)), LATENTS @ RNG.normal(size=(3, 4)), RNG.normal(size=(6, 5))
PAIRS = np.arange(8), np.arange(8)
EUCLIDEAN = {"metric": "euclidean"}
LINEAR = Candidate(lam=0.9, epsilon=0.02, n_rounds=1, readout="linear")


def test_candidates_are_equal_hashed_and_ordered_by_their_fields():
    twin = Candidate(readout="linear", n_rounds=1, epsilon=0.02, lam=0.9, kernel_rounds=0)
    assert twin == LINEAR
    assert {LINEAR: 1.0}[twin] == 1.0
    assert replace(LINEAR, n_rounds=2) != LINEAR
    fields = list(itertools.product((0.5, 0.9), (0.02, 0.1), (1, 5), ("barycentric", "mean"), (0, 1)))
    names = ("lam", "epsilon", "n_rounds", "readout", "kernel_rounds")
    candidates = [Candidate(**dict(zip(names, values, strict=True))) for values in fields[::-1]]
    assert sorted(candidates) == candidates[::-1]


def test_a_candidate_survives_copies_and_its_repr_makes_it_again():
    for twin in (copy.deepcopy(LINEAR), pickle.loads(pickle.dumps(LINEAR)), eval(repr(LINEAR))):
        assert twin == LINEAR
    with pytest.raises(AttributeError):
        LINEAR.lam = 0.5


def test_the_positions_of_version_0_1_work_with_a_warning_that_shows_the_keywords():
    with pytest.warns(DeprecationWarning, match=r"lam=0\.9, epsilon=0\.1, n_rounds=1, readout='barycentric'") as caught:
        old = Candidate(0.9, 0.1, 1, "barycentric")
    assert [warning.filename for warning in caught] == [__file__]
    assert old == Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="barycentric")
    with pytest.warns(DeprecationWarning, match="kernel_rounds=2"):
        assert Candidate(0.9, 0.1, 1, "kernel", kernel_rounds=2).kernel_rounds == 2
    with pytest.warns(DeprecationWarning, match="by name") as caught:
        lam, *_ = old
    assert lam == 0.9
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((0.9,), {"lam": 0.5, "epsilon": 0.1, "n_rounds": 1, "readout": "mean"}),
        ((0.9, 0.1, 1, "mean", 0, 7), {}),
        ((), {"lam": 0.9}),
        ((), {"lam": 0.9, "epsilon": 0.1, "n_rounds": 1, "readout": "mean", "n_folds": 3}),
    ],
)
def test_fields_given_twice_or_never_or_unknown_are_refused(values, named):
    with pytest.raises(TypeError):
        Candidate(*values, **named)


@pytest.mark.parametrize(
    "candidate",
    [
        RIDGE,
        replace(LINEAR, n_rounds=0),
        replace(LINEAR, lam=1.2),
        replace(LINEAR, epsilon=0.0),
        replace(LINEAR, epsilon=np.inf),
        replace(LINEAR, n_rounds=1.5),
        replace(LINEAR, readout="kernel"),
        replace(LINEAR, kernel_rounds=1),
        replace(LINEAR, readout="nearest"),
        replace(LINEAR, lam="much"),
        replace(LINEAR, epsilon=np.array([0.1, 0.2])),
        (0.9, 0.02),
        (0.9, 0.02, 0, "linear"),
        "linear",
    ],
    ids=str,
)
def test_a_candidate_that_cannot_be_solved_is_refused_with_one_that_can(candidate):
    with pytest.raises(ValueError, match=r"candidate=") as refusal:
        fuse(X, Y, PAIRS, candidate=candidate)
    mend = str(refusal.value).rpartition("e.g. ")[2].rstrip(".")
    assert fuse(X, Y, PAIRS, candidate=eval(mend), **EUCLIDEAN).candidate == eval(mend)


def test_a_plain_tuple_of_version_0_1_is_taken_with_a_warning():
    with pytest.warns(DeprecationWarning, match="Candidate") as caught:
        bridge = fuse(X, Y, PAIRS, candidate=(0.9, 0.02, 1, "linear"), **EUCLIDEAN)
    assert [warning.filename for warning in caught] == [__file__]
    assert bridge.candidate == LINEAR


def test_the_old_name_of_the_minibatch_size_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match="minibatch_size=30") as caught:
        old = fuse(X, Y, PAIRS, candidate=LINEAR, core=30, **EUCLIDEAN)
    assert [warning.filename for warning in caught] == [__file__]
    new = fuse(X, Y, PAIRS, candidate=LINEAR, minibatch_size=30, **EUCLIDEAN)
    np.testing.assert_array_equal(old.map(NEW), new.map(NEW))
    with pytest.warns(DeprecationWarning, match="minibatch_size"):
        assert old.core == 30
    with pytest.raises(TypeError, match="core and minibatch_size"):
        fuse(X, Y, PAIRS, candidate=LINEAR, core=30, minibatch_size=30)


def test_the_old_name_of_the_warning_is_the_same_class():
    with pytest.warns(DeprecationWarning, match="neurobridge.bridge.MinibatchWarning") as caught:
        old = neurobridge.bridge.CoreWarning
    assert [warning.filename for warning in caught] == [__file__]
    assert old is MinibatchWarning
