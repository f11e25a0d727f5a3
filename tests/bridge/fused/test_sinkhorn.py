"""The transport solver of the rounds: its marginals, the log domain, cold temperatures, and a start that is nearly there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neurobridge.bridge import ConvergenceWarning, bridge_cost, fuse
from neurobridge.bridge.fused.cost import bridge_matrix
from neurobridge.bridge.fused.solving.sinkhorn import sinkhorn
from tests.bridge.fused.pools import ONE, clustered

# Clusters this far apart leave the graph in pieces, which is joined and said; test_distances holds that.
pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning")

X, Y, PAIRS, NEW, TRUTH = clustered(150, n_pairs=8)


@pytest.mark.parametrize("shape", [(40, 30), (1, 7), (7, 1), (25, 60)])
@pytest.mark.parametrize("epsilon", [0.02, 0.5])
def test_marginals_are_uniform_to_the_tolerance(shape, epsilon):
    cost = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    plan = sinkhorn(cost, epsilon, 1e-6)
    mass = (plan.log_u[:, None] + plan.log_v - cost.double() / epsilon).exp()
    assert float((mass.sum(dim=1) - 1 / shape[0]).abs().sum()) <= 2e-6
    np.testing.assert_allclose(mass.sum(dim=0), 1 / shape[1], rtol=1e-6)
    assert plan.marginal_error <= 1e-6


def test_a_start_at_the_solution_is_the_solution_in_one_step():
    cost = torch.rand((40, 30), generator=torch.Generator().manual_seed(1))
    cold = sinkhorn(cost, 0.02, 1e-6)
    warm = sinkhorn(cost, 0.02, 1e-6, cold.log_v)
    assert warm.n_iter == 1 < cold.n_iter
    np.testing.assert_allclose(warm.log_u[:, None] + warm.log_v, cold.log_u[:, None] + cold.log_v, atol=1e-3)


@pytest.mark.parametrize("epsilon", [1.0, 0.05, 0.003])
def test_the_solver_agrees_with_the_log_domain(epsilon):
    cost = bridge_matrix(bridge_cost(X, Y, PAIRS))
    fast = sinkhorn(cost, epsilon, 1e-8)
    assert fast.marginal_error <= 1e-8 or epsilon < 0.01
    log_v = torch.full((len(Y),), -np.log(len(Y)), dtype=torch.float64)
    exact = cost.double() / -epsilon
    for _ in range(3000):
        log_u = -np.log(len(X)) - torch.logsumexp(exact + log_v, dim=1)
        log_v = -np.log(len(Y)) - torch.logsumexp(exact + log_u[:, None], dim=0)
    ours, theirs = ((exact + s[0][:, None] + s[1]).exp() for s in ((fast.log_u, fast.log_v), (log_u, log_v)))
    assert float((ours - theirs).abs().sum()) < 1e-3


def test_a_tiny_epsilon_ends_finite():
    cost = 50 * torch.rand((40, 30), generator=torch.Generator().manual_seed(0))
    plan = sinkhorn(cost, 1e-3, 1e-3)
    assert bool(torch.isfinite(plan.log_u).all() and torch.isfinite(plan.log_v).all())
    assert plan.n_iter >= 1
    with pytest.warns(ConvergenceWarning, match=r"epsilon 1e-06\b.*\b1e-12\b"):
        bridge = fuse(
            X, Y, PAIRS, **ONE | {"epsilons": (1e-6,)}, n_rounds=(1,), kernel_rounds=(0,), n_folds=2, tol=1e-12
        )
    assert not bridge.coupling.converged
    assert np.isfinite(bridge.map(NEW)).all()


def small_cost(n: int, m: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    cost = torch.as_tensor(np.square(rng.normal(size=(n, 1, 2)) - rng.normal(size=(m, 2))).sum(axis=2)).float()
    return cost / cost.mean()


# The examples stand on a plateau first, or fall slowly near the tolerance.
@settings(max_examples=25, deadline=None)
@given(st.integers(3, 60), st.integers(3, 60), st.floats(0.02, 1.0), st.integers(0, 10**6))
@example(3, 7, 0.02, 0)
@example(8, 4, 0.02, 459790)
@example(7, 7, 0.02, 408199)
def test_overrelaxed_scalings_reach_the_same_plan(n, m, epsilon, seed):
    cost = small_cost(n, m, seed)
    plain, relaxed = (sinkhorn(cost, epsilon, 1e-4, relax=relax) for relax in (False, True))
    plans = [(cost.double() / -epsilon + each.log_u[:, None] + each.log_v).exp() for each in (plain, relaxed)]
    np.testing.assert_allclose(plans[1].sum(dim=0), 1 / m, rtol=1e-3)
    if max(plain.marginal_error, relaxed.marginal_error) <= 1e-4:
        assert float((plans[0] - plans[1]).abs().sum()) < 0.05


def test_overrelaxation_saves_iterations_over_many_small_problems():
    rng = np.random.default_rng(0)
    n_iter = np.zeros((60, 2))
    for taken in n_iter:
        n, m, seed = rng.integers([3, 3, 0], [60, 60, 10**6])
        cost = small_cost(n, m, seed)
        taken[:] = [sinkhorn(cost, 0.02, 1e-4, relax=relax).n_iter for relax in (False, True)]
    assert n_iter[:, 1].sum() < 0.6 * n_iter[:, 0].sum()
    assert np.mean(n_iter[:, 1] <= 1.5 * n_iter[:, 0] + 20) > 0.9


def test_overrelaxation_saves_most_of_many_iterations():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 300, 3))
    cost = torch.as_tensor(np.square(X[:, None] - Y[None]).sum(axis=2)).float()
    cost /= cost.mean()
    plain, relaxed = (sinkhorn(cost, 0.005, 1e-4, relax=relax) for relax in (False, True))
    assert plain.n_iter > 100
    assert relaxed.n_iter < plain.n_iter / 2
