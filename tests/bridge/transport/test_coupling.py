"""Couplings: factored equals dense, marginals, limits, sampling, and what is refused."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from neurobridge.bridge import SOLVERS, ConvergenceWarning, bridge_cost, couple
from tests.refusals import refused

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)), RNG.normal(size=(35, 6))
PAIRS = (np.arange(6), np.arange(6))
COST = bridge_cost(X, Y, PAIRS)
GLOBAL = [method for method in SOLVERS if method != "pairs"]


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(3, 30), m=st.integers(3, 30), n_pairs=st.integers(2, 40),
    epsilon=st.floats(0.05, 1.0), seed=st.integers(0, 1000),
)  # fmt: skip
def test_factored_equals_dense_sinkhorn(n, m, n_pairs, epsilon, seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, 3)), rng.normal(size=(m, 5))
    pairs = (rng.integers(0, n, n_pairs), rng.integers(0, m, n_pairs))
    if len(set(pairs[0])) < 2 or len(set(pairs[1])) < 2:
        return
    a, b = rng.uniform(0.5, 2, n), rng.uniform(0.5, 2, m)
    cost = bridge_cost(X, Y, pairs)
    factored = couple(cost, epsilon=epsilon, tol=1e-11, max_iter=100_000, a=a, b=b)
    matrix = ot.bregman.sinkhorn(
        a / a.sum(), b / b.sum(), cost.at(epsilon).dense(), epsilon, method="sinkhorn_log", stopThr=1e-12,
        numItermax=100_000,
    )  # fmt: skip
    np.testing.assert_allclose(factored.dense(), matrix, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("method", GLOBAL)
def test_marginals_are_kept(method):
    a, b = RNG.uniform(1, 2, 40), RNG.uniform(1, 2, 35)
    coupling = couple(COST, method=method, epsilon=0.1, tol=1e-8, a=a, b=b)
    assert coupling.converged
    assert coupling.marginal_error <= 1e-8
    np.testing.assert_allclose(coupling.row_mass, a / a.sum(), atol=1e-8)
    np.testing.assert_allclose(coupling.col_mass, b / b.sum(), atol=1e-8)
    np.testing.assert_allclose(coupling.dense().sum(axis=1), coupling.row_mass, atol=1e-12)


def test_exact_plan_is_the_hungarian_assignment():
    cost = bridge_cost(X[:30], Y[:30], PAIRS, reduce="min")
    plan = couple(cost, method="exact").dense()
    rows, columns = linear_sum_assignment(cost.dense())
    assert (plan * cost.dense()).sum() == pytest.approx(cost.dense()[rows, columns].mean())
    np.testing.assert_array_equal(plan > 0, plan == 1 / 30)


def test_the_entropic_cost_approaches_the_exact_cost():
    cost = bridge_cost(X[:30], Y[:30], PAIRS, reduce="min")
    exact = (couple(cost, method="exact").dense() * cost.dense()).sum()
    gaps = []
    for epsilon in (0.3, 0.1, 0.03, 0.01):
        plan = couple(cost, method="sinkhorn", epsilon=epsilon, tol=1e-7, max_iter=50_000).dense()
        gaps.append((plan * cost.dense()).sum() - exact)
    assert gaps == sorted(gaps, reverse=True)
    assert 0 <= gaps[-1] < 0.05


def test_inside_one_cell_the_bridge_is_indifferent():
    # Over a single hub the cost is d_X + d_Y: every plan with the same marginals costs the same, and the entropic
    # optimum is their product. Only other pairs, or a fused cost, tell points of one cell apart.
    pairs = (np.array([0, 0]), np.array([0, 0]))
    coupling = couple(bridge_cost(X, Y, pairs), epsilon=0.1, tol=1e-12)
    np.testing.assert_allclose(coupling.dense(), np.full((40, 35), 1 / (40 * 35)), rtol=1e-9)


@pytest.mark.parametrize("rho", [0.05, 0.5, 5.0])
def test_unbalanced_factored_agrees_with_pot(rho):
    a, b = RNG.uniform(0.01, 0.05, 40), RNG.uniform(0.01, 0.05, 35)
    ours = couple(COST, epsilon=0.1, unbalanced=rho, tol=1e-10, max_iter=50_000, a=a, b=b)
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        a,
        b,
        COST.at(0.1).dense(),
        0.1,
        rho,
        method="sinkhorn_stabilized",
        reg_type="kl",
        stopThr=1e-12,
        numItermax=50_000,
    )
    np.testing.assert_allclose(ours.dense(), theirs, rtol=1e-6, atol=1e-12)
    dense = couple(COST, method="sinkhorn", epsilon=0.1, unbalanced=rho, tol=1e-10, max_iter=50_000, a=a, b=b)
    np.testing.assert_allclose(dense.dense(), theirs, rtol=1e-6, atol=1e-12)


def test_unbalanced_limits():
    balanced = couple(COST, epsilon=0.1, tol=1e-9).dense()
    strict = couple(COST, epsilon=0.1, unbalanced=1e5, tol=1e-9, max_iter=50_000).dense()
    np.testing.assert_allclose(strict, balanced, atol=1e-5)
    loose = couple(COST, epsilon=0.1, unbalanced=1e-9, tol=1e-12).dense()
    # Without a penalty on the marginals the optimum is a b^T exp(-C / eps), point by point.
    np.testing.assert_allclose(loose, np.exp(-COST.at(0.1).dense() / 0.1) / (40 * 35), rtol=1e-5)


def test_unbalanced_exact_lowers_the_objective_of_the_balanced_plan():
    a, b, cost = np.full(40, 1 / 40), np.full(35, 1 / 35), COST.at(0.1).dense()

    def kl(p, q):
        positive = p > 0
        return (p[positive] * np.log(p[positive] / q[positive])).sum() - p.sum() + q.sum()

    def objective(plan):
        return (plan * cost).sum() + 0.5 * kl(plan.sum(1), a) + 0.5 * kl(plan.sum(0), b)

    found = couple(COST, method="exact", epsilon=0.1, unbalanced=0.5, tol=1e-5, max_iter=20_000)
    assert objective(found.dense()) < objective(couple(COST, method="exact", epsilon=0.1).dense())


def test_unbalanced_leaves_an_outlier_out():
    far = np.concatenate([X, np.full((1, 4), 50.0)])
    coupling = couple(bridge_cost(far, Y, PAIRS), epsilon=0.1, unbalanced=0.5)
    assert coupling.row_mass[-1] < 0.01 * np.median(coupling.row_mass)


def test_pairs_method_couples_the_pairs_and_nothing_else():
    coupling = couple(COST, method="pairs")
    expected = np.zeros((40, 35))
    expected[PAIRS] = 1 / 6
    np.testing.assert_allclose(coupling.dense(), expected)
    mapped = coupling.barycentric(Y)
    np.testing.assert_allclose(mapped[:6], Y[:6])
    assert np.isnan(mapped[6:]).all()


@pytest.mark.parametrize("method", SOLVERS)
def test_sampling_follows_the_plan(method):
    coupling = couple(COST, method=method, epsilon=0.2)
    n = 200_000
    i, j = coupling.sample(n, np.random.default_rng(0))
    counts = np.zeros(coupling.shape)
    np.add.at(counts, (i, j), 1)
    plan = coupling.dense()
    deviation = (counts - n * plan) / np.sqrt(np.maximum(n * plan, 1))
    assert np.abs(deviation).max() < 6
    assert (deviation**2).mean() < 1.2
    again = coupling.sample(n, np.random.default_rng(0))
    np.testing.assert_array_equal(np.stack(again), np.stack((i, j)))


@pytest.mark.parametrize("method", GLOBAL)
def test_barycentric_is_the_mean_partner(method):
    coupling = couple(COST, method=method, epsilon=0.1, tol=1e-9)
    plan = coupling.dense()
    np.testing.assert_allclose(coupling.barycentric(Y), plan @ Y / plan.sum(1, keepdims=True), atol=1e-9)
    np.testing.assert_allclose(coupling.conditional(np.arange(40)) @ Y, coupling.barycentric(Y), atol=1e-9)


@pytest.mark.parametrize("nearest", [None, 3])
def test_unseen_points_map_like_fitted_ones(nearest):
    cost = bridge_cost(X, Y, PAIRS, nearest=nearest)
    coupling = couple(cost, epsilon=0.3, unbalanced=1.0)
    if nearest is None:
        np.testing.assert_allclose(coupling.map(X, Y), coupling.barycentric(Y), atol=1e-10)
    assert isinstance(coupling.map(torch.from_numpy(X), torch.from_numpy(Y)), torch.Tensor)


def test_keeping_every_anchor_changes_nothing():
    full = couple(COST, epsilon=0.1, tol=1e-9)
    kept = couple(bridge_cost(X, Y, PAIRS, nearest=6), epsilon=0.1, tol=1e-9)
    np.testing.assert_allclose(kept.dense(), full.dense(), rtol=1e-8)
    np.testing.assert_allclose(kept.barycentric(Y), full.barycentric(Y), atol=1e-8)
    i, j = kept.sample(1000, np.random.default_rng(0))
    assert i.max() < 40
    assert j.max() < 35


@pytest.mark.parametrize("method", GLOBAL)
def test_transposed_coupling_is_the_transpose(method):
    coupling = couple(COST, method=method, epsilon=0.1)
    np.testing.assert_allclose(coupling.transposed().dense(), coupling.dense().T, rtol=1e-10)


def test_permuting_points_permutes_the_plan():
    order = RNG.permutation(40)
    place = np.argsort(order)
    moved = couple(bridge_cost(X[order], Y, (place[PAIRS[0]], PAIRS[1])), epsilon=0.1, tol=1e-10).dense()
    np.testing.assert_allclose(moved, couple(COST, epsilon=0.1, tol=1e-10).dense()[order], rtol=1e-7)


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1e-8])
@pytest.mark.filterwarnings("ignore::neurobridge.bridge.transport.coupling.ConvergenceWarning")
def test_a_tiny_epsilon_never_claims_what_is_not_so(epsilon):
    try:
        coupling = couple(COST, epsilon=epsilon, max_iter=200)
    except FloatingPointError as error:
        assert "try" in str(error)  # noqa: PT017
        return
    assert np.isfinite(coupling.dense()).all()
    if coupling.converged:
        np.testing.assert_allclose(coupling.row_mass, 1 / 40, atol=1e-5)
        np.testing.assert_allclose(coupling.col_mass, 1 / 35, atol=1e-5)


def test_too_few_iterations_warn_and_are_not_called_converged():
    with pytest.warns(ConvergenceWarning, match=r"\b1\b.*max_iter"):
        coupling = couple(COST, epsilon=0.05, tol=1e-12, max_iter=1)
    assert not coupling.converged


@pytest.mark.parametrize(
    ("options", "error", "facts"),
    [
        ({"method": "greedy"}, ValueError, ["method", "'greedy'", "'exact'"]),
        ({"epsilon": 0.0}, ValueError, ["epsilon=0.0"]),
        ({"epsilon": float("nan")}, ValueError, ["epsilon=nan"]),
        ({"unbalanced": -1.0}, ValueError, ["unbalanced=-1.0"]),
        ({"a": np.ones(3)}, ValueError, ["a: ", (3,), (40,)]),
        ({"b": np.zeros(35)}, ValueError, ["b: ", (35,), 0.0]),
        ({"method": "pairs", "unbalanced": 1.0}, ValueError, ["method='pairs'", "unbalanced"]),
        ({"method": "sinkhorn", "memory_limit": 10}, MemoryError, ["40 x 35", "method='factored'"]),
    ],
)
def test_bad_options_are_refused(options, error, facts):
    with refused(error, *facts):
        couple(COST, **options)


def test_the_factored_solver_refuses_the_hard_minimum():
    with refused(ValueError, "reduce='min'", "method='factored'"):
        couple(bridge_cost(X, Y, PAIRS, reduce="min"))


def test_only_factored_couplings_map_unseen_points():
    with refused(ValueError, "'exact'", "'factored'"):
        couple(COST, method="exact").map(X, Y)


def test_a_target_of_another_length_is_refused():
    with refused(ValueError, "Y: ", 34, 35):
        couple(COST, epsilon=0.1).barycentric(Y[:34])


def test_a_dense_plan_above_the_limit_is_refused():
    with pytest.raises(MemoryError, match=r"40 x 35 plan"):
        couple(COST, epsilon=0.1).dense(memory_limit=100)


@pytest.mark.parametrize("method", ["factored", "sinkhorn"])
def test_over_a_single_pair_the_plan_is_the_independent_one(method):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(9, 3)), rng.normal(size=(7, 4))
    a, b = rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(7))
    coupling = couple(bridge_cost(X, Y, (np.array([4]), np.array([2]))), method=method, epsilon=0.1, a=a, b=b)
    np.testing.assert_allclose(coupling.dense(), np.outer(a, b), atol=1e-9)
    assert coupling.converged
