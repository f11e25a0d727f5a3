"""Solved rounds written out in the units of the points: the same maps and partners as the rounds in principal coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurobridge.bridge import Candidate, bridge_cost
from neurobridge.bridge.fused.cost import FusedProblem
from neurobridge.bridge.fused.solving.families import CloudProblem
from neurobridge.bridge.fused.solving.rounds import solve_rounds
from neurobridge.bridge.fused.states import State
from neurobridge.maps.kernel import KernelMap
from neurobridge.points.scale import unit_of_cloud

RNG = np.random.default_rng(0)
LATENTS = RNG.normal(size=(70, 4))
X = 1e-3 * (LATENTS[:60] @ RNG.normal(size=(4, 6)) + 0.1 * RNG.normal(size=(60, 6)) + 7)
Y = 50 * (np.tanh(LATENTS[5:] @ RNG.normal(size=(4, 5))) + 0.1 * RNG.normal(size=(65, 5)))
PAIRS = np.arange(5, 17), np.arange(12)
NEW_X, NEW_Y = X[30:40] + 1e-4 * RNG.normal(size=(10, 6)), Y[30:40] + RNG.normal(size=(10, 5))
CANDIDATES = {
    "ridge": Candidate(lam=0.7, epsilon=0.1, n_rounds=2, readout="linear"),
    "bridge alone": Candidate(lam=0.0, epsilon=0.1, n_rounds=1, readout="linear"),
    "curved": Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="kernel", kernel_rounds=2),
    "orthogonal": Candidate(lam=1.0, epsilon=0.1, n_rounds=3, readout="linear", map="orthogonal"),
    "whitened": Candidate(lam=0.6, epsilon=0.1, n_rounds=3, readout="linear", map="whitened"),
    "curved after a rotation": Candidate(
        lam=0.9, epsilon=0.1, n_rounds=1, readout="kernel", kernel_rounds=1, map="orthogonal"
    ),
}


def solved(candidate, metric="euclidean"):
    cost = bridge_cost(X, Y, PAIRS, metric=metric)
    problem = FusedProblem(cost, X, Y, PAIRS, (unit_of_cloud(X), unit_of_cloud(Y)))
    *_, last = solve_rounds(CloudProblem.of(problem, 0), candidate, 1e-4, 1e-3)
    return problem, last, State.of_round(last, problem)


def close(ours, theirs, tolerance=1e-4):
    np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max(), rtol=0)


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("metric", ["euclidean", "geodesic"])
def test_a_state_maps_new_points_as_its_round_does(name, metric):
    problem, last, state = solved(CANDIDATES[name], metric)
    source, target = last.problem.source, last.problem.target
    sides = (
        (NEW_X, problem.cost.source, source, target, state.barycentric, state.forward, False),
        (NEW_Y, problem.cost.target, target, source, state.origins, state.backward, True),
    )
    for new, distances, cloud, other, partners, mapping, backward in sides:
        predicted = last.predictions(
            cloud.coordinates_of(new), distances.of(torch.as_tensor(new)).float(), backward=backward
        )
        close(partners(new), other.points_of(predicted["barycentric"]), 1e-3)
        close(mapping(new), other.points_of(predicted["linear"]))
        assert isinstance(mapping, KernelMap) == (CANDIDATES[name].kernel_rounds > 0)
    close(state.images, target.points_of(last.images))


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_cost_and_the_plan_of_a_state_are_those_of_its_round(name):
    problem, last, state = solved(CANDIDATES[name])
    source, target = last.problem.source.coordinates, last.problem.target.coordinates
    cost = last.cost(source, target, last.problem.bridge)
    close(state.cost.dense(), cost.numpy(), 1e-4)
    plan = state.matrix(problem.bridge())
    assert plan.sum() == pytest.approx(1, rel=1e-3)
    assert np.abs(plan.sum(axis=1) - 1 / 60).sum() < 1e-3
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 65, rtol=1e-2)
    # Fitted points and the plan's rows are one and the same.
    unpaired = np.setdiff1d(np.arange(60), PAIRS[0])
    close(state.barycentric(X), plan @ Y / plan.sum(axis=1)[:, None], 2e-3)
    close(state.images[unpaired], (plan @ Y / plan.sum(axis=1)[:, None])[unpaired], 2e-3)
    np.testing.assert_allclose(state.images[PAIRS[0]], Y[PAIRS[1]], rtol=1e-4, atol=1e-4)


def test_rounds_count_themselves_and_end_early_where_nothing_moves():
    problem, *_ = solved(CANDIDATES["ridge"])
    clouds = CloudProblem.of(problem, 0)
    few = Candidate(lam=0.9, epsilon=0.1, n_rounds=2, readout="linear", kernel_rounds=2)
    assert [state.counts for state in solve_rounds(clouds, few, 1e-3, 1e-3)] == [(1, 0), (2, 0), (2, 1), (2, 2)]
    many = Candidate(lam=0.9, epsilon=0.1, n_rounds=60, readout="linear")
    rounds = list(solve_rounds(clouds, many, 1e-5, 1e-2))
    assert len(rounds) < 30
    assert rounds[-1].counts == (60, 0)
    # The last plan is solved to its own tolerance, also where the rounds ended early.
    assert rounds[-1].plan.marginal_error <= 1e-5
    moved = (rounds[-1].images - rounds[-2].images).square().sum() / rounds[-1].images.square().sum()
    assert float(moved.sqrt()) < 0.05
