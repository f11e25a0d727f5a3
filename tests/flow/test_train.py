"""Training: early stopping, averaging, precision, minibatch re-coupling, and stops with a message."""

from __future__ import annotations

import math
import sys

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone

from neurobridge.flow import ODE, ConditionalFlow, Training, recouple, squared_distance, train
from neurobridge.flow.train import learning_rate
from tests.refusals import refused

undertrained = pytest.mark.filterwarnings("ignore::neurobridge.points.support.OffSupportWarning")


def test_the_schedule_is_a_cosine():
    options = Training(n_steps=100, learning_rate=0.5).resolved()
    assert learning_rate(0, options) == 0.5
    assert learning_rate(50, options) == pytest.approx(0.25)
    assert learning_rate(100, options) == pytest.approx(0, abs=1e-12)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 100)
    for step in range(100):
        assert optimiser.param_groups[0]["lr"] == pytest.approx(learning_rate(step, options), rel=1e-9)
        optimiser.step()
        schedule.step()


@undertrained
def test_early_stopping_keeps_the_weights_that_did_best_on_rows_not_trained_on(known):
    # 20 pairs of pure noise: nothing to learn, so training betters the training loss alone.
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 5)), rng.normal(size=(20, 8))
    training = Training(n_steps=250, width=64, batch_size=128, validate_every=10, patience=5)
    flow = ConditionalFlow("noise", training=training.replace(validation=0.25)).fit(X, Y, known.Matching(20))
    assert len(flow.losses_) < 250
    assert len(flow.losses_) == 10 * (len(flow.validation_losses_) - 1)
    assert len(flow.validation_losses_) - 1 - flow.validation_losses_.argmin() == 5
    full = ConditionalFlow("noise", training=training).fit(X, Y, known.Matching(20))
    assert len(full.losses_) == 250
    assert len(full.validation_losses_) == 0
    assert full.losses_[-50:].mean() < flow.losses_[-50:].mean()


@undertrained
def test_with_validation_a_flow_that_learns_nothing_stays_at_its_linear_base(known):
    # Few pairs, and more noise than signal: a flow that runs on memorises the targets and does worse than the ridge map.
    rng = np.random.default_rng(0)
    W = rng.normal(size=(8, 12))
    X = rng.normal(size=(100 + 500, 8))
    Y = X @ W + 4 * rng.normal(size=(600, 12))
    flow, unstopped = (
        ConditionalFlow(training=Training(validation=share, n_steps=150, width=64, learning_rate=4e-3)).fit(
            X[:100], Y[:100], known.Matching(100, 100)
        )
        for share in (0.2, 0.0)
    )
    error, worse, linear = (
        float(np.square(moved - Y[100:]).mean())
        for moved in (flow.transport(X[100:]), unstopped.transport(X[100:]), flow.start(X[100:]))
    )
    assert error < 1.05 * linear
    assert worse > 1.3 * linear


def test_with_validation_a_flow_that_has_something_to_learn_learns_it(known):
    X, Y = known.spaces()
    training = Training(validation=0.1, n_steps=300, width=64, batch_size=128, learning_rate=3e-3)
    flow = ConditionalFlow(training=training).fit(X[:500], Y[:500], known.Matching(500))
    left = np.square(flow.transport(X[500:]) - Y[500:]).sum() / np.square(flow.start(X[500:]) - Y[500:]).sum()
    assert left < 0.2
    assert len(flow.losses_) == 300


def test_held_out_rows_are_never_trained_on(known, monkeypatch):
    X, Y = known.spaces(n=10)
    batches = []
    draw_batch = train.draw_batch

    def spy(points, i, j, options, generator):
        batches.append(i.clone())
        return draw_batch(points, i, j, options, generator)

    monkeypatch.setattr(train, "draw_batch", spy)
    ConditionalFlow("pad", training=Training(n_steps=30, validation=0.3)).fit(X, Y, known.Matching(10))
    held, trained = set(batches[0].tolist()), {int(k) for batch in batches[1:] for k in batch}
    assert len(held) == 3
    assert trained == set(range(10)) - held
    assert all(len(batch) == 256 for batch in batches[1:])


def test_a_share_that_leaves_nothing_is_refused(known):
    X, Y = known.spaces(n=2)
    with refused(ValueError, "validation=0.9", 2, "validation=0"):
        ConditionalFlow("pad", training=Training(n_steps=5, validation=0.9)).fit(X, Y, known.Matching(2, 2))


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_a_loss_that_is_not_finite_stops_training(validation, known):
    X, Y = known.spaces(n=50)
    for n_steps, rate in ((200, 1e20), (2, 1e38)):
        training = Training(n_steps=n_steps, learning_rate=rate, validation=validation)
        with refused(FloatingPointError, "training=Training(learning_rate="):
            ConditionalFlow(training=training).fit(X, Y, known.Matching(50))


def test_mixed_precision_learns_the_same_map(known):
    # bfloat16, and float16 with a scaled loss.
    X, Y = known.spaces(n=200)
    plain, mixed, half = (
        ConditionalFlow("pad", training=Training(n_steps=60, width=32, batch_size=128, mixed_precision=precision)).fit(
            X, Y, known.Matching(200)
        )
        for precision in (False, True, "float16")
    )
    for flow, tolerance in ((mixed, 0.05), (half, 0.1)):
        assert not np.array_equal(plain.losses_, flow.losses_)
        assert next(flow.forward_.velocity.parameters()).dtype == torch.float32
        assert flow.losses_[-30:].mean() == pytest.approx(plain.losses_[-30:].mean(), rel=tolerance)


def test_the_scale_of_float16_losses_is_kept_with_the_rest(known, tmp_path, monkeypatch, interrupted):
    X, Y = known.spaces(n=60)
    training = Training(n_steps=40, checkpoint_every=10, width=16, batch_size=32, mixed_precision="float16")
    whole = ConditionalFlow("pad", training=training).fit(X, Y, known.Matching(60))
    kept = ConditionalFlow("pad", training=training.replace(checkpoint=tmp_path))
    interrupted(25, clone(kept), X, Y, known.Matching(60))
    scales = []
    step = train.training_step
    monkeypatch.setattr(
        train, "training_step", lambda state, *rest: (scales.append(state.scaler.get_scale()), step(state, *rest))
    )
    resumed = clone(kept).fit(X, Y, known.Matching(60))
    assert len(scales) == 20
    assert min(scales) > 1
    np.testing.assert_array_equal(resumed.losses_, whole.losses_)


def test_the_average_of_the_weights_is_the_one_that_moves_points(known):
    X, Y = known.spaces(n=100)
    last, mean = (
        ConditionalFlow(training=Training(n_steps=60, width=32, ema=ema)).fit(X, Y, known.Matching(100)).transport(X)
        for ema in (0.0, 0.99)
    )
    assert not np.array_equal(last, mean)


@pytest.mark.parametrize("progress", [False, True])
def test_the_progress_bar_shows_the_loss(progress, known, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    X, Y = known.spaces(n=30)
    ConditionalFlow("pad", training=Training(n_steps=60, width=32, progress=progress)).fit(X, Y, known.Matching(30))
    assert ("loss=" in capsys.readouterr().err) == progress


@pytest.mark.parametrize("n_dims", [1, 3, 20])
def test_recoupling_a_minibatch_is_exact_transport(n_dims):
    generator = torch.Generator().manual_seed(n_dims)
    x_0, x_1 = (torch.randn(40, n_dims, dtype=torch.float64, generator=generator) for _ in range(2))
    partners = recouple(x_0, x_1)
    assert sorted(partners.tolist()) == list(range(40))
    cost = squared_distance(x_0, x_1)
    torch.testing.assert_close(cost, torch.cdist(x_0, x_1).square())
    exact = ot.emd2(np.full(40, 1 / 40), np.full(40, 1 / 40), cost.numpy())
    assert float(cost[torch.arange(40), partners].mean()) == pytest.approx(exact, rel=1e-9)
    if n_dims == 1:
        assert torch.equal(x_0[:, 0].argsort(), x_1[partners, 0].argsort())


@given(st.integers(1, 30), st.integers(0, 10_000), st.sampled_from(["whole", "wide", "offset"]))
def test_recoupling_any_cost_is_the_assignment_of_least_cost(n, seed, kind):
    rng = np.random.default_rng(seed)
    cost = {
        "whole": rng.integers(0, 4, (n, n)).astype(float),
        "wide": np.exp(3 * rng.normal(size=(n, n))),
        "offset": rng.random((n, n)) + 1e4 * rng.random((n, 1)) - 1e4 * rng.random((1, n)),
    }[kind]
    partners = recouple(torch.zeros(n, 1), torch.zeros(n, 1), lambda a, b: torch.from_numpy(cost)).numpy()
    rows, columns = linear_sum_assignment(cost)
    assert sorted(partners) == list(range(n))
    assert cost[rows, partners].sum() == pytest.approx(cost[rows, columns].sum(), rel=1e-9, abs=1e-9)


def test_bad_minibatch_costs_are_refused():
    x = torch.zeros(4, 2)
    with refused(ValueError, (4,), (4, 4)):
        recouple(x, x, lambda a, b: torch.zeros(4))
    with refused(ValueError, "finite: False"):
        recouple(x, x, lambda a, b: torch.full((4, 4), math.nan))


def test_recoupling_inside_a_coarse_plan_straightens_the_paths(known):
    # The coarse plan is the product coupling: inside a minibatch the exact plan is close to the optimal one, so paths
    # cross less, the loss that is left falls, and Euler in two steps does nearly as well as in many.
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(1000, 2)), rng.normal(size=(1000, 2)) * [1, 2] + 4
    training = Training(n_steps=200, batch_size=128, sigma=0.0, width=64)
    plain, resolved = (
        ConditionalFlow("pad", training=training.replace(minibatch_ot=recoupled), ode=ODE(method="euler")).fit(
            X, Y, known.Independent(1000)
        )
        for recoupled in (False, True)
    )
    assert resolved.losses_[-100:].mean() < 0.25 * plain.losses_[-100:].mean()

    def bend(flow):
        exact = flow.transport(X, method="dopri5")
        flow.set_params(ode__n_steps=2)
        return float(np.abs(flow.transport(X) - exact).mean())

    assert bend(resolved) < 0.5 * bend(plain)


def test_a_minibatch_cost_of_ones_own_is_used(known):
    X, Y = known.spaces(n=60, d_target=3)
    called = []

    def cost(x_0, x_1):
        called.append(x_0.shape)
        return squared_distance(x_0, x_1)

    ConditionalFlow("pad", training=Training(n_steps=3, minibatch_ot=True, minibatch_cost=cost, batch_size=16)).fit(
        X, Y, known.Matching(60)
    )
    assert called == [(16, 3)] * 3
