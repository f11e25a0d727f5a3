"""Exact transport with relaxed marginals: optimality, both limits, and numbers at the ends of double precision."""

from __future__ import annotations

import math
import warnings

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.bridge import ConvergenceWarning, DenseCost, bridge_cost, couple
from neurobridge.bridge.transport.exact import relaxed_plan
from tests.refusals import refused


def spaces(seed=0, n=24, m=31, metric="euclidean"):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, 5)), rng.normal(size=(m, 7))
    return bridge_cost(X, Y, (np.arange(6), np.arange(6)), metric=metric)


def objective(P, C, a, b, rho):
    def kl(p, q):
        return np.where(p > 0, p * np.log(np.maximum(p, 1e-300) / q), 0).sum() - p.sum() + q.sum()

    return (P * C).sum() + rho * (kl(P.sum(1), a) + kl(P.sum(0), b))


def reduced_costs(P, C, a, b, rho):
    rows, columns = (np.maximum(P.sum(axis=axis), 1e-300) for axis in (1, 0))
    return C + rho * np.log(rows / a)[:, None] + rho * np.log(columns / b)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 12), m=st.integers(1, 12), rho=st.floats(-1, 4).map(lambda power: 10**power), seed=st.integers(0, 99)
)  # fmt: skip
def test_no_entry_could_be_cheaper_and_every_entry_with_mass_is_as_cheap_as_it_gets(n, m, rho, seed):
    rng = np.random.default_rng(seed)
    C, a, b = rng.random((n, m)), rng.random(n) + 0.1, rng.random(m) + 0.1
    coupling = couple(C, method="exact", unbalanced=rho, a=a, b=b)
    P, unit = coupling.dense(), C.mean()
    assert coupling.converged
    assert (P > 0).sum() <= n + m - 1
    reduced = reduced_costs(P, C, a, b, rho * unit)
    share = P / P.sum()
    # Entries of next to no mass weigh nothing, and rounding decides their price.
    assert (reduced[share.sum(1) > 1e-6][:, share.sum(0) > 1e-6] > -1e-4 * unit).all()
    assert np.abs(reduced[share > 1e-6]).max() < 1e-4 * unit


@pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")
@pytest.mark.parametrize("rho", [0.1, 1.0, 10.0])
def test_the_objective_is_that_of_a_general_solver_or_lower(rho):
    cost = spaces()
    C, a, b = cost.at(0.05).dense(), np.full(24, 1 / 24), np.full(31, 1 / 31)
    peer = ot.unbalanced.lbfgsb_unbalanced(a, b, C, reg=0, reg_m=rho, reg_div="kl", numItermax=2000)
    ours = couple(cost, method="exact", unbalanced=rho)
    values = objective(ours.dense(), C, a, b, rho), objective(peer, C, a, b, rho)
    assert values[0] <= values[1] + 1e-12
    assert values[0] == pytest.approx(values[1], abs=1e-4)


def test_the_plan_approaches_the_balanced_one_as_the_weight_grows():
    cost = spaces()
    balanced = couple(cost, method="exact").dense()
    distances = []
    for rho in (10.0, 1e3, 1e5, 1e9, 1e30):
        coupling = couple(cost, method="exact", unbalanced=rho)
        assert coupling.converged
        assert (coupling.dense() > 0).sum() <= 24 + 31 - 1
        distances.append(np.abs(coupling.dense() - balanced).sum())
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 1e-2
    assert distances[-1] < 1e-9


def test_a_small_weight_leaves_what_costs_anything():
    coupling = couple(np.array([[0.0, 1.0], [1.0, 3.0]]), method="exact", unbalanced=1e-3)
    assert coupling.converged
    np.testing.assert_allclose(coupling.dense(), [[0.5, 0], [0, 0]], atol=1e-9)


def test_masses_of_different_totals_meet_in_the_middle():
    cost = DenseCost(np.zeros((2, 3)), scale=1.0)
    coupling = couple(cost, method="exact", unbalanced=1.0, a=np.ones(2), b=3 * np.ones(3))
    assert coupling.row_mass.sum() == pytest.approx(math.sqrt(2 * 9), rel=1e-6)


@pytest.mark.parametrize("factor", [1e-300, 1e-160, 1e-9, 1e9, 1e160, 1e300])
@pytest.mark.parametrize(
    "options", [{"method": "exact"}, {"method": "exact", "unbalanced": 1.0}, {"method": "sinkhorn"}]
)
def test_the_plan_does_not_depend_on_the_unit_of_the_cost(factor, options):
    C = np.random.default_rng(0).random((9, 8))
    here, there = couple(C, **options), couple(C * factor, **options)
    assert there.converged
    np.testing.assert_allclose(there.dense(), here.dense(), atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
@pytest.mark.parametrize("method", ["exact", "sinkhorn"])
@pytest.mark.parametrize("unbalanced", [None, 0.1, 1e4])
def test_one_point_a_side_is_enough(shape, method, unbalanced):
    coupling = couple(np.random.default_rng(0).random(shape) + 0.5, method=method, unbalanced=unbalanced)
    assert coupling.converged
    assert np.isfinite(coupling.dense()).all()
    assert (coupling.dense() > 0).any()


def test_duplicated_points_share_the_mass_of_one():
    C = np.random.default_rng(0).random((5, 6))
    once = couple(C, method="exact", unbalanced=1.0, a=np.full(5, 4.0), b=np.ones(6))
    often = couple(np.repeat(C, 4, axis=0), method="exact", unbalanced=C.mean() / C.mean(), a=np.ones(20), b=np.ones(6))
    assert often.converged
    np.testing.assert_allclose(often.dense().reshape(5, 4, 6).sum(1).sum(1), once.row_mass, rtol=1e-5)


@pytest.mark.parametrize(
    ("cost", "options", "error", "facts"),
    [
        (np.ones((2, 2)), {"unbalanced": math.inf}, ValueError, ["unbalanced=inf", None]),
        (np.array([[1.0, math.inf], [1.0, 1.0]]), {}, ValueError, ["1 NaN", 4]),
        (np.ones((2, 2)), {"a": np.array([0.0, 1.0])}, ValueError, ["a: ", (2,), 0.0]),
        (np.ones((2, 2)), {"a": np.array([1e-300, 1e100])}, ValueError, ["a: ", 1e-300, 1e100]),
        (np.ones((2, 2)), {"b": np.full(2, 1e308), "unbalanced": 1.0}, ValueError, ["b: ", "inf"]),
        (DenseCost(np.ones((2, 2)), scale=1e-300), {"epsilon": 1e-30}, ValueError, ["epsilon=1e-30", 1e-300]),
        (np.ones((2, 2)), {"unbalanced": 1e-4}, FloatingPointError, ["unbalanced"]),
        (-np.ones((2, 2)), {"unbalanced": 1e-4}, FloatingPointError, ["unbalanced"]),
    ],
)
def test_what_has_no_finite_plan_is_refused(cost, options, error, facts):
    with refused(error, *facts):
        couple(cost, method="exact", **options)


@settings(max_examples=40, deadline=None)
@given(
    method=st.sampled_from(["exact", "sinkhorn", "factored"]), epsilon=st.sampled_from([1e-12, 1e-3, 0.05, 1e3, 1e300]),
    rho=st.sampled_from([None, 1e-12, 1e-3, 1.0, 1e6, 1e300]), spread=st.sampled_from([0, 5, 100]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_plan_is_finite_or_an_error(method, epsilon, rho, spread, seed):
    rng = np.random.default_rng(seed)
    cost = (
        spaces(seed, 8, 7) if method == "factored" else rng.random((8, 7)) * 10.0 ** rng.integers(-spread, spread + 1)
    )
    masses = [10.0 ** rng.uniform(-spread, spread, size) for size in (8, 7)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        refusal, coupling = "", None
        try:
            coupling = couple(
                cost, method=method, epsilon=epsilon, unbalanced=rho, a=masses[0], b=masses[1], max_iter=200
            )
        except (ValueError, FloatingPointError) as error:
            refusal = str(error)
    if coupling is None:
        assert "Mend" in refusal
        return
    P = coupling.dense()
    assert np.isfinite(P).all()
    assert (P >= 0).all()
    assert P.sum() > 0
    assert math.isfinite(coupling.marginal_error)


def test_too_few_steps_are_not_called_converged():
    with pytest.warns(ConvergenceWarning, match=r"\b2\b.*max_iter"):
        coupling = couple(spaces(), method="exact", unbalanced=1.0, max_iter=2)
    assert not coupling.converged


def test_the_gap_bounds_how_far_the_objective_is_from_the_best():
    C = np.random.default_rng(1).random((6, 5))
    a, b = np.ones(6), np.ones(5)
    best = objective(relaxed_plan(C, a, b, 0.5, unit=1.0, max_iter=100, n_pivots=10**6).matrix, C, a, b, 0.5)
    for max_iter in (1, 3, 5):
        rough = relaxed_plan(C, a, b, 0.5, unit=1.0, max_iter=max_iter, n_pivots=10**6)
        excess = (objective(rough.matrix, C, a, b, 0.5) - best) / rough.matrix.sum()
        assert excess <= rough.gap * 0.5 + 1e-12
