"""Fused bridges of unusual points and pairs: few dimensions, none to spare, many times the same, all of them pairs."""

from __future__ import annotations

import numpy as np
import pytest

from neurobridge.bridge import CRITERIA, Candidate, FusedBridge, fuse
from tests.bridge.fused.pools import r2

# Points that are the same many times have neighbours at no distance.
pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning")

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(90, 3))
X, Y = Z @ RNG.normal(size=(3, 5)), Z @ RNG.normal(size=(3, 4))
CLOUDS = X[:60], np.vstack([Y[:10], Y[60:]])
NEW, TRUTH = X[40:60], Y[40:60]
PAIRS = np.arange(10), np.arange(10)
FAST = {"n_rounds": (2, 1), "kernel_rounds": (0, 1), "lams": (0.9, 0.0), "epsilons": (0.05,), "n_folds": 3}


def monotone(points):
    return points[:, :1], np.exp(points[:, :1] / 3)


CASES = {
    "one dimension to four": (CLOUDS[0][:, :1], CLOUDS[1], PAIRS),
    "four dimensions to one": (CLOUDS[0], CLOUDS[1][:, :1], PAIRS),
    "one dimension to one": (*monotone(CLOUDS[0]), PAIRS),
    "all points are pairs": (X[:12], Y[:12], (np.arange(12), np.arange(12))),
    "all source points are pairs": (X[:12], Y, (np.arange(12), np.arange(12))),
    "four pairs": (*CLOUDS, (np.arange(4), np.arange(4))),
    "two pairs": (*CLOUDS, (np.arange(2), np.arange(2))),
    "a pair given twice": (*CLOUDS, (np.r_[PAIRS[0], 0, 1], np.r_[PAIRS[1], 0, 1])),
    "a point in two pairs": (*CLOUDS, (np.r_[PAIRS[0], 0, 10], np.r_[PAIRS[1], 11, 0])),
    "constant dimensions": (
        np.c_[CLOUDS[0], np.full((60, 2), 3.0)], np.c_[np.zeros(len(CLOUDS[1])), CLOUDS[1]], PAIRS,
    ),
    "points many times": (CLOUDS[0].repeat(3, axis=0), CLOUDS[1].repeat(2, axis=0), (np.arange(0, 30, 3), np.arange(0, 20, 2))),
    "more dimensions than points": (X[:14] @ RNG.normal(size=(5, 40)), Y[:14] @ RNG.normal(size=(4, 60)), PAIRS),
    "far from the origin": (CLOUDS[0] + 1e4, CLOUDS[1] - 1e4, PAIRS),
}  # fmt: skip


@pytest.mark.parametrize("minibatch_size", [None, 24], ids=["all at once", "minibatches"])
@pytest.mark.parametrize("name", CASES)
def test_both_maps_are_finite_and_the_plan_is_one(name, minibatch_size):
    A, B, pairs = CASES[name]
    bridge = fuse(A, B, pairs, minibatch_size=minibatch_size, **FAST)
    assert isinstance(bridge, FusedBridge)
    images, origins = bridge.map(A), bridge.map_back(B)
    assert images.shape == (len(A), B.shape[1])
    assert origins.shape == (len(B), A.shape[1])
    assert np.isfinite(images).all()
    assert np.isfinite(origins).all()
    assert bridge.coupling.converged
    assert np.abs(bridge.coupling.row_mass - 1 / len(A)).sum() < 2e-3
    for errors in (bridge.errors, bridge.errors_back):
        assert all(np.isfinite(list(errors.values())))
        assert bool(errors) == (len(pairs[0]) >= 4)
    # Images of what does not vary do not vary.
    flat = B.std(axis=0) < 1e-9
    np.testing.assert_allclose(images[:, flat], B[: len(A), flat][0][None].repeat(len(A), axis=0), atol=1e-6)


@pytest.mark.parametrize("criterion", [each for each in CRITERIA if each != "labels"])
@pytest.mark.parametrize("name", ["all points are pairs", "one dimension to one", "constant dimensions"])
def test_every_criterion_takes_them(name, criterion):
    A, B, pairs = CASES[name]
    bridge = fuse(A, B, pairs, criterion=criterion, **FAST)
    assert all(np.isfinite(list(bridge.errors.values())))
    assert np.isfinite(bridge.map(A)).all()


def test_a_pair_given_twice_changes_no_map_of_the_images():
    twice = CASES["a pair given twice"]
    candidate = Candidate(lam=0.9, epsilon=0.05, n_rounds=2, readout="mean")
    plain = fuse(*CLOUDS, PAIRS, candidate=candidate)
    doubled = fuse(*twice, candidate=candidate)
    assert r2(doubled.map(NEW), plain.map(NEW)) > 0.98


@pytest.mark.parametrize("bent", [False, True])
def test_the_way_back_is_as_good_as_the_way_there_from_the_other_side(bent):
    A, B = CLOUDS[0], np.tanh(CLOUDS[1]) if bent else CLOUDS[1]
    truth = np.tanh(TRUTH) if bent else TRUTH
    forward, exchanged = fuse(A, B, PAIRS, **FAST), fuse(B, A, PAIRS[::-1], **FAST)
    assert r2(forward.map(NEW), truth) == pytest.approx(r2(exchanged.map_back(NEW), truth), abs=0.02)
    assert r2(forward.map_back(truth), NEW) == pytest.approx(r2(exchanged.map(truth), NEW), abs=0.02)
    for first, second in ((forward.errors, exchanged.errors_back), (forward.errors_back, exchanged.errors)):
        assert first.keys() == second.keys()
        np.testing.assert_allclose(list(first.values()), list(second.values()), atol=0.05)


def test_a_seed_gives_the_same_bridge_to_the_last_bit():
    first, second = (fuse(*CLOUDS, PAIRS, seed=3, **FAST) for _ in range(2))
    assert (first.candidate, first.candidate_back) == (second.candidate, second.candidate_back)
    assert first.errors == second.errors
    assert first.errors_back == second.errors_back
    assert first.screening == second.screening
    np.testing.assert_array_equal(first.map(NEW), second.map(NEW))
    np.testing.assert_array_equal(first.map_back(TRUTH), second.map_back(TRUTH))


def test_new_points_of_the_way_back_that_do_not_fit_are_refused():
    bridge = fuse(*CLOUDS, PAIRS, **FAST | {"lams": (0.9,), "kernel_rounds": (0,)})
    with pytest.raises(ValueError, match=r"^Y_new: .*\b3\b.*\b4\b"):
        bridge.map_back(TRUTH[:, :3])
    with pytest.raises(ValueError, match=r"^Y_new: .*\b1 NaN"):
        bridge.map_back(np.where(np.arange(TRUTH.size).reshape(TRUTH.shape) == 3, np.nan, TRUTH))
