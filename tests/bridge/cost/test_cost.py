"""The bridge cost against its definition, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from neurobridge.bridge import bridge_cost
from tests.refusals import refused

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 4)), RNG.normal(size=(25, 6))
PAIRS = (np.array([0, 3, 5, 7]), np.array([1, 2, 9, 4]))


def _by_hand(X, Y, pairs):
    left, right = cdist(X, X[pairs[0]]), cdist(Y, Y[pairs[1]])
    return left[:, None, :] / left.mean() + right[None, :, :] / right.mean()


def test_min_cost_is_the_shortest_way_over_a_pair():
    np.testing.assert_allclose(
        bridge_cost(X, Y, PAIRS, reduce="min").dense(), _by_hand(X, Y, PAIRS).min(axis=2), rtol=1e-12
    )


def test_softmin_cost_is_the_log_sum():
    paths = _by_hand(X, Y, PAIRS)
    expected = -0.1 * np.log(np.exp(-paths / 0.1).sum(axis=2))
    np.testing.assert_allclose(bridge_cost(X, Y, PAIRS).at(0.1).dense(), expected, rtol=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1.0), st.integers(2, 20), st.integers(0, 1000))
def test_softmin_lies_within_eps_log_p_below_the_min(epsilon, n_pairs, seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    pairs = (np.arange(n_pairs), np.arange(n_pairs))
    shortest = bridge_cost(X, Y, pairs, reduce="min").dense()
    soft = bridge_cost(X, Y, pairs).at(epsilon).dense()
    assert (soft <= shortest + 1e-9).all()
    assert (soft >= shortest - epsilon * math.log(n_pairs) - 1e-9).all()


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine", "correlation", "geodesic"])
def test_pairs_cost_nothing(metric):
    cost = bridge_cost(X, Y, PAIRS, metric=metric, reduce="min").dense()
    np.testing.assert_array_equal(cost[PAIRS], 0)


def test_the_order_of_the_pairs_does_not_matter():
    shuffled = tuple(side[::-1].copy() for side in PAIRS)
    np.testing.assert_allclose(
        bridge_cost(X, Y, shuffled).at(0.1).dense(), bridge_cost(X, Y, PAIRS).at(0.1).dense(), atol=1e-12
    )


def test_many_source_points_may_share_one_target_point():
    pairs = (np.array([0, 1, 2]), np.array([4, 4, 5]))
    cost = bridge_cost(X, Y, pairs, reduce="min").dense()
    np.testing.assert_array_equal(cost[pairs], 0)


def test_transposed_cost_is_the_transpose():
    cost = bridge_cost(X, Y, PAIRS)
    np.testing.assert_allclose(cost.transposed().at(0.1).dense(), cost.at(0.1).dense().T, rtol=1e-12)


@pytest.mark.parametrize("nearest", [1, 3, 4, 100])
def test_nearest_anchors_err_within_the_stated_bound(nearest):
    full, kept = bridge_cost(X, Y, PAIRS), bridge_cost(X, Y, PAIRS, nearest=nearest)
    epsilon = 0.2
    missing = np.exp(-full.at(epsilon).dense() / epsilon) - np.exp(-kept.at(epsilon).dense() / epsilon)
    bound = kept.truncation_bound(epsilon)
    assert missing.min() >= -1e-12
    assert missing.max() <= bound + 1e-12
    assert (bound == 0) == (nearest >= 4)


def test_torch_in_torch_out_and_numpy_in_numpy_out():
    from_torch = bridge_cost(torch.from_numpy(X), torch.from_numpy(Y), PAIRS).at(0.1).dense()
    assert isinstance(from_torch, torch.Tensor)
    np.testing.assert_array_equal(from_torch.numpy(), bridge_cost(X, Y, PAIRS).at(0.1).dense())


def test_inputs_of_any_layout_give_the_same_cost():
    expected = bridge_cost(X, Y, PAIRS).at(0.1).dense()
    wide = np.zeros((30, 8))
    wide[:, ::2] = X
    frozen = Y.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(bridge_cost(wide[:, ::2], frozen, PAIRS).at(0.1).dense(), expected)
    single = bridge_cost(X.astype(np.float32), Y.astype(np.float32), PAIRS).at(0.1).dense()
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("pairs", "facts"),
    [
        (([0, 1], [0]), ["pairs: "]),
        (([], []), ["pairs: ", "none"]),
        (([0, 30], [0, 1]), ["source rows", [0, 30], [0, 29]]),
        (([0, 1], [0, -1]), ["target rows", [-1, 0], [0, 24]]),
        (([0.5, 1.0], [0, 1]), ["source rows", "float64"]),
    ],
)
def test_bad_pairs_are_refused(pairs, facts):
    with refused(ValueError, *facts):
        bridge_cost(X, Y, tuple(np.asarray(side) for side in pairs))


@pytest.mark.parametrize(
    ("pairs", "facts"),
    [
        (None, ["None"]),
        (20, ["20"]),
        ("all", ["'all'"]),
        (np.ones(30, bool), [(30,)]),
        (np.zeros((7, 2), int), [(7, 2)]),
    ],
)
def test_pairs_of_another_form_are_refused_by_name(pairs, facts):
    with refused(ValueError, "pairs: ", "(source_rows, target_rows)", *facts):
        bridge_cost(X, Y, pairs)


def test_non_finite_points_are_refused():
    broken = X.copy()
    broken[3, 1] = np.inf
    with refused(ValueError, "X: ", "1 NaN", 120):
        bridge_cost(broken, Y, PAIRS)


def test_wrong_shapes_and_options_are_refused():
    with refused(ValueError, "Y: ", (25,), "(n_points, n_dims)"):
        bridge_cost(X, Y[:, 0], PAIRS)
    with refused(ValueError, "reduce='mean'", "'softmin'", "'min'"):
        bridge_cost(X, Y, PAIRS, reduce="mean")
    with refused(ValueError, "nearest=0", 1):
        bridge_cost(X, Y, PAIRS, nearest=0)
    with refused(ValueError, "reduce='softmin'", "cost.at(0.05)"):
        bridge_cost(X, Y, PAIRS).dense()


def test_a_dense_cost_above_the_limit_is_refused_before_it_is_built():
    with refused(MemoryError, "30 x 25", "method='factored'"):
        bridge_cost(X, Y, PAIRS).at(0.1).dense(memory_limit=100)
