"""The fused cost: that of its definition, the one that was solved, and one like any other to the solvers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from neurobridge.bridge import Candidate, Cost, FusedCost, bridge_cost, couple, fuse
from neurobridge.bridge.fused.cost import BRIDGE_EPSILON

RNG = np.random.default_rng(0)
LATENTS = RNG.normal(size=(120, 4))
X, Y = LATENTS[:90], LATENTS[:70] @ RNG.normal(size=(4, 5))
X, Y = X / X.std(), (Y - Y.mean(axis=0)) / Y.std()
PAIRS = np.arange(12), np.arange(12)
LINEAR = Candidate(lam=0.7, epsilon=0.1, n_rounds=2, readout="barycentric")
CURVED = Candidate(lam=0.7, epsilon=0.1, n_rounds=1, readout="kernel", kernel_rounds=1)


@pytest.fixture(scope="module", params=["all at once", "curved", "minibatches"])
def coupling(request):
    options = {
        "all at once": {"candidate": LINEAR},
        "curved": {"candidate": CURVED},
        "minibatches": {"candidate": LINEAR, "minibatch_size": 30},
    }[request.param]
    return fuse(X, Y, PAIRS, metric="euclidean", tol=1e-5, **options).coupling


def test_the_cost_is_that_of_its_definition(coupling):
    cost = coupling.cost
    blend = cost.blend
    bridge = bridge_cost(X, Y, PAIRS).at(BRIDGE_EPSILON).dense()
    forward = cdist(blend.forward(X), Y, "sqeuclidean")
    backward = cdist(X, blend.backward(Y), "sqeuclidean")
    weights = (1 - blend.lam, blend.lam / 2, blend.lam / 2)
    terms = zip(weights, (bridge, forward, backward), blend.units, strict=True)
    expected = sum(weight * term / unit for weight, term, unit in terms)
    np.testing.assert_allclose(cost.dense(), expected, rtol=1e-4, atol=1e-4)


def test_every_term_has_mean_one_where_its_mean_was_taken(coupling):
    parts = getattr(coupling.plan, "parts", None)
    # All minibatches share one cost; its means are those of the first.
    rows = (np.arange(90), np.arange(70)) if parts is None else (parts[0].source_rows, parts[0].target_rows)
    assert float(coupling.cost.subset(*rows).dense().mean()) == pytest.approx(1, rel=1e-5)
    assert coupling.cost.unit == 1


def test_the_expected_cost_is_that_of_the_plan_under_what_was_solved(coupling):
    plan, cost = coupling.dense(), coupling.cost.dense()
    share = plan / plan.sum()
    assert coupling.expected_cost() == pytest.approx((share * cost).sum(), rel=1e-5)
    # A plan that was optimised costs less than the independent one.
    assert coupling.expected_cost() < 0.5 * cost.mean()
    sampled = share.ravel().cumsum().searchsorted(np.random.default_rng(0).random(4000))
    assert cost.ravel()[sampled.clip(max=cost.size - 1)].mean() == pytest.approx(coupling.expected_cost(), rel=0.2)


def test_the_plan_is_the_entropic_one_of_its_cost(coupling):
    if hasattr(coupling.plan, "parts"):
        for part in coupling.plan.parts:
            cost = coupling.cost.subset(part.source_rows, part.target_rows)
            inside = coupling.dense()[np.ix_(part.source_rows, part.target_rows)]
            again = couple(cost, method="sinkhorn", epsilon=coupling.epsilon, tol=1e-8).dense()
            assert np.abs(inside / inside.sum() - again).sum() < 1e-3
    else:
        again = couple(coupling.cost, method="sinkhorn", epsilon=coupling.epsilon, tol=1e-8)
        assert np.abs(coupling.dense() - again.dense()).sum() < 1e-3
        np.testing.assert_array_equal(again.anchors, PAIRS)


def test_rows_parts_and_the_exchange_of_sides_agree_with_the_matrix(coupling):
    cost = coupling.cost
    matrix = cost.dense()
    close = {"rtol": 1e-5, "atol": 1e-5}
    assert isinstance(cost, Cost)
    assert cost.shape == matrix.shape == (90, 70)
    some, others = np.array([40, 3, 88]), np.array([69, 0, 5, 13])
    np.testing.assert_allclose(cost.rows(some).numpy(), matrix[some], **close)
    np.testing.assert_allclose(cost.rows(slice(7, 30)).numpy(), matrix[7:30], **close)
    np.testing.assert_allclose(cost.subset(some, others).dense(), matrix[np.ix_(some, others)], **close)
    np.testing.assert_allclose(cost.transposed().rows(slice(None)).numpy(), matrix.T, **close)
    assert len(cost.subset(some, others).anchors[0]) == 0
    np.testing.assert_array_equal(cost.transposed().anchors, PAIRS[::-1])
    with pytest.raises(MemoryError, match="90 x 70"):
        cost.dense(memory_limit=100)


def test_the_exchanged_coupling_costs_the_same(coupling):
    assert coupling.transposed().expected_cost() == pytest.approx(coupling.expected_cost(), rel=1e-4)


def test_lam_zero_is_the_bridge_and_lam_one_the_maps():
    for lam in (0.0, 1.0):
        candidate = Candidate(lam=lam, epsilon=0.1, n_rounds=1, readout="barycentric")
        cost = fuse(X, Y, PAIRS, metric="euclidean", candidate=candidate).coupling.cost
        assert isinstance(cost, FusedCost)
        bridge = bridge_cost(X, Y, PAIRS).at(BRIDGE_EPSILON).dense()
        same = np.allclose(cost.dense(), bridge / bridge.mean(), rtol=1e-4, atol=1e-5)
        assert same == (lam == 0)
