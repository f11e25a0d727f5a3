"""Fused bridges in minibatches: how points are dealt, what must agree with all points at once, and when there is no room."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from neurobridge.bridge import Candidate, ConvergenceWarning, MinibatchWarning, bridge_cost, couple, fuse
from neurobridge.bridge.fused.cost import BRIDGE_EPSILON, FusedProblem
from neurobridge.bridge.fused.dealing import anchor_masses, deal, draw_anchors
from neurobridge.maps.kernel import KernelMap
from tests.bridge.fused.pools import QUICK, clustered, r2

# Clusters this far apart leave the graph in pieces, which is joined and said; test_distances holds that.
pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning")

X, Y, PAIRS, NEW, TRUTH = clustered(150, n_pairs=8)
RIDGE = QUICK | {"maps": ("ridge",)}


def test_images_of_pairs_are_their_partners_in_minibatches_as_well():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(300, 3))
    A, B = Z @ rng.normal(size=(3, 4)), Z[::-1] @ rng.normal(size=(3, 5))
    pairs = np.arange(10), np.arange(299, 289, -1)
    bridge = fuse(
        A, B, pairs, minibatch_size=100, lams=(0.9,), epsilons=(0.05,), n_rounds=(2,), kernel_rounds=(0,), n_folds=2
    )
    first = bridge._states[0]
    i, j = first.problem.rows
    assert len(i) == 10
    np.testing.assert_array_equal(first.images[i], first.problem.Y[j])
    assert all(len(state.problem.rows[0]) == 0 for state in bridge._states[1:])


def test_minibatches_are_drawn_along_the_coarse_plan():
    X, Y, pairs, *_ = clustered(400, n_pairs=10, seed=5)
    problem = FusedProblem(bridge_cost(X, Y, pairs), X, Y, pairs)
    batches = deal(problem, 100, np.random.default_rng(0))
    # Every point once, on both sides, and the pairs together in the first.
    for side, n in ((0, 400), (1, 400)):
        np.testing.assert_array_equal(np.sort(np.concatenate([rows[side] for rows in batches])), np.arange(n))
    assert {len(left) for left, _ in batches} == {100}
    assert {len(right) for _, right in batches} == {100}
    assert set(pairs[0]) <= set(batches[0][0])
    # What the coarse plan sends over an anchor lies in every minibatch, on both sides, to a few points.
    plan = couple(problem.cost, epsilon=BRIDGE_EPSILON, tol=1e-6).plan
    mass = np.exp((plan.log_r + plan.log_s).numpy())
    drawn = draw_anchors(problem, np.random.default_rng(0))
    for left, right in batches[1:]:
        counts = [np.bincount(drawn[side][rows], minlength=10) for side, rows in ((0, left), (1, right))]
        whole = [
            np.bincount(drawn[side], minlength=10) * len(rows) / n
            for side, rows, n in ((0, left, 400), (1, right, 400))
        ]
        # The first holds the pairs, whatever their anchors; the others share what is left.
        assert max(np.abs(a - b).max() for a, b in zip(counts, whole, strict=True)) <= 4
    for side, n in ((0, 400), (1, 400)):
        shares = np.bincount(drawn[side], minlength=10) / n
        assert np.abs(shares - mass).sum() < 5 * np.sqrt(10 / n)


def unequal(n, nearest=None):
    """A problem whose clusters hold other shares of the points on each side."""
    X, Y, pairs, *_ = clustered(n, n_pairs=10, seed=1)
    closest = ((Y[:, None] - Y[None, :10]) ** 2).sum(axis=2).argmin(axis=1)
    rare = (closest % 2 == 1) & (np.arange(n) >= 10)
    Y = Y[~rare | (np.random.default_rng(0).random(n) < 0.2)]
    return FusedProblem(bridge_cost(X, Y, pairs, nearest=nearest), X, Y, pairs)


def imbalance(drawn):
    """L1 distance between the shares in which both sides drew the anchors."""
    shares = [np.bincount(side, minlength=10) / len(side) for side in drawn]
    return np.abs(shares[0] - shares[1]).sum()


@pytest.mark.parametrize("nearest", [None, 4])
def test_anchor_masses_of_some_points_balance_all_of_them(nearest, monkeypatch):
    problem = unequal(3000, nearest)
    log_s, log_r = anchor_masses(problem.cost, np.random.default_rng(0))
    monkeypatch.setattr("neurobridge.bridge.fused.dealing._COARSE_POINTS", 1000)
    of_some = anchor_masses(problem.cost, np.random.default_rng(0))
    shares = [torch.softmax(masses[0] + masses[1], dim=0).numpy() for masses in ((log_s, log_r), of_some)]
    assert np.abs(shares[0] - shares[1]).sum() < 0.1
    # Both sides draw each anchor equally often, to the noise of 3,000 draws; without the plan they do not.
    assert imbalance(draw_anchors(problem, np.random.default_rng(0))) < 3 * np.sqrt(10 / 3000)
    without = torch.zeros(10, dtype=torch.float64)
    monkeypatch.setattr("neurobridge.bridge.fused.dealing.anchor_masses", lambda cost, rng: (without, without))
    assert imbalance(draw_anchors(problem, np.random.default_rng(0))) > 3 * np.sqrt(10 / 3000)


@pytest.mark.parametrize(("nearest", "n_some"), [(4, 3), (1, 20)])
def test_anchor_masses_are_those_of_all_points_where_some_have_no_plan(nearest, n_some, monkeypatch):
    X, Y, pairs, *_ = clustered(300, n_pairs=20, seed=1)
    cost = bridge_cost(X, Y, pairs, nearest=nearest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        of_all = anchor_masses(cost, np.random.default_rng(0))
        monkeypatch.setattr("neurobridge.bridge.fused.dealing._COARSE_POINTS", n_some)
        of_some = anchor_masses(cost, np.random.default_rng(0))
    for expected, found in zip(of_all, of_some, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_parts_of_a_smaller_side_are_used_again():
    X, Y, pairs, *_ = clustered(300, n_pairs=6, seed=2)
    few = FusedProblem(bridge_cost(X, Y[:40], pairs), X, Y[:40], pairs)
    batches = deal(few, 60, np.random.default_rng(0))
    assert [len(left) for left, _ in batches] == [60] * 5
    for _, right in batches:
        np.testing.assert_array_equal(right, np.arange(40))
    coupling = fuse(X, Y[:40], pairs, minibatch_size=60, **QUICK).coupling
    np.testing.assert_allclose(coupling.col_mass, 1 / 40, rtol=1e-4)
    assert np.abs(coupling.row_mass - 1 / 300).sum() < 2e-3
    assert coupling.row_mass.sum() == pytest.approx(1, rel=1e-6)


@pytest.fixture(scope="module")
def whole_and_batched():
    X, Y, pairs, *_ = clustered(600, bent=True, n_pairs=12, seed=5)
    limit = 40.0 * 200**2
    with pytest.warns(MinibatchWarning, match=r"600 x 600 .* 200 .*Mend: minibatch_size=200") as caught:
        batched = fuse(X, Y, pairs, memory_limit=limit, **RIDGE)
    # The warning names the line that called.
    assert [warning.filename for warning in caught if warning.category is MinibatchWarning] == [__file__]
    return fuse(X, Y, pairs, minibatch_size=None, **RIDGE), batched


def test_minibatches_agree_with_all_points_at_once(whole_and_batched):
    X, Y, pairs, new, truth = clustered(600, bent=True, n_pairs=12, seed=5)
    whole, batched = whole_and_batched
    assert (whole.minibatch_size, batched.minibatch_size) == (None, 200)
    assert batched.candidate == whole.candidate
    assert batched.candidate.n_rounds
    with warnings.catch_warnings():
        warnings.simplefilter("error", MinibatchWarning)
        named = fuse(X, Y, pairs, minibatch_size=200, **RIDGE)
    np.testing.assert_array_equal(named.map(new), batched.map(new))
    assert r2(batched.map(new), truth) > r2(whole.map(new), truth) - 0.02
    assert r2(batched.map(new), whole.map(new)) > 0.97
    assert r2(batched.coupling.barycentric(Y), whole.coupling.barycentric(Y)) > 0.95


def test_minibatches_keep_the_marginals(whole_and_batched):
    coupling = whole_and_batched[1].coupling
    assert coupling.converged
    assert np.abs(coupling.row_mass - 1 / 600).sum() < 2e-3
    np.testing.assert_allclose(coupling.col_mass, 1 / 600, rtol=1e-4)
    assert coupling.marginal_error == pytest.approx(np.abs(coupling.row_mass - 1 / 600).sum(), abs=2e-4)


def test_a_plan_in_minibatches_answers_as_a_dense_one(whole_and_batched):
    _, Y, *_ = clustered(600, bent=True, n_pairs=12, seed=5)
    coupling = whole_and_batched[1].coupling
    dense = coupling.dense()
    assert coupling.shape == dense.shape == (600, 600)
    np.testing.assert_allclose(dense.sum(axis=1), coupling.row_mass, rtol=1e-6)
    np.testing.assert_allclose(dense.sum(axis=0), coupling.col_mass, rtol=1e-6)
    np.testing.assert_allclose(coupling.barycentric(Y), dense @ Y / dense.sum(axis=1)[:, None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(coupling.transposed().dense(), dense.T, rtol=1e-5, atol=1e-12)
    # Draws fall where the plan has mass, in proportion to it.
    i, j = coupling.sample(40_000, np.random.default_rng(0))
    assert dense[i, j].min() > 0
    left, right = np.arange(600) % 7, np.arange(600) % 5
    table = np.zeros((7, 5))
    np.add.at(table, (left[i], right[j]), 1 / len(i))
    expected = np.zeros((7, 5))
    np.add.at(expected, (left[:, None], right[None, :]), dense)
    assert np.abs(table - expected).sum() < 4 * np.sqrt(35 / len(i))
    drawn = np.zeros((600, Y.shape[1]))
    np.add.at(drawn, i, Y[j])
    means = drawn / np.bincount(i, minlength=600)[:, None]
    assert r2(means, coupling.barycentric(Y)) > 0.95


def test_a_fused_bridge_without_room_is_refused():
    with pytest.raises(MemoryError, match=r"150 x 150 .* 0.00 GB.*Mend: minibatch_size='auto'"):
        fuse(X, Y, PAIRS, minibatch_size=None, memory_limit=40.0 * 100**2)


def test_minibatches_as_large_as_the_points_are_all_of_them():
    assert fuse(X, Y, PAIRS, minibatch_size=1000, **QUICK).minibatch_size is None


def test_curved_rounds_in_minibatches_curve_both_maps():
    X, Y, pairs, new, truth = clustered(300, bent=True, n_pairs=30, seed=5)
    candidate = Candidate(lam=0.9, epsilon=0.05, n_rounds=1, readout="kernel", kernel_rounds=1)
    whole, batched = (fuse(X, Y, pairs, candidate=candidate, minibatch_size=size) for size in (None, 150))
    for bridge in (whole, batched):
        assert isinstance(bridge.forward, KernelMap)
        assert isinstance(bridge.backward, KernelMap)
    assert r2(batched.map(new), truth) > r2(whole.map(new), truth) - 0.03
    assert r2(batched.map_back(truth), new) > r2(whole.map_back(truth), new) - 0.03


@pytest.mark.parametrize("minibatch_size", [None, 60])
def test_both_directions_of_one_candidate_share_their_plans(minibatch_size):
    candidate = Candidate(lam=0.9, epsilon=0.05, n_rounds=2, readout="mean")
    bridge = fuse(X, Y, PAIRS, candidate=candidate, minibatch_size=minibatch_size)
    assert bridge._states is bridge._back_states
    images, origins = bridge.map(X), bridge.map_back(Y)
    assert r2(images[8:], bridge.coupling.barycentric(Y)[8:]) > 0.9
    assert r2(origins[8:], bridge.coupling.transposed().barycentric(X)[8:]) > 0.9
