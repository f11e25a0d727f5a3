"""Flows between known distributions, both ways, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from neurobridge.bridge import bridge_cost
from neurobridge.flow import (
    BASES,
    ODE,
    ConditionalFlow,
    FlowNotFittedError,
    Standardiser,
    Training,
    VelocityMLP,
    default_size,
)
from tests.refusals import refused

undertrained = pytest.mark.filterwarnings("ignore::neurobridge.points.support.OffSupportWarning")


def _error(moved, truth):
    return float(((moved - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


@undertrained
@pytest.mark.parametrize(("base", "worst"), [("affine", 0.03), ("pad", 0.15), ("noise", 0.15)])
def test_learns_a_nonlinear_map_on_unseen_points(base, worst, flows):
    X, Y = flows.new
    assert _error(flows.of[base].transport(X), Y) < worst
    assert flows.of[base].losses_[-50:].mean() < flows.of[base].losses_[:50].mean()


@undertrained
@pytest.mark.parametrize("base", BASES)
def test_backward_reaches_the_source_space(base, flows):
    X, Y = flows.new
    moved = flows.of[base].transport(Y, "backward")
    assert moved.shape == X.shape
    assert _error(moved, X) < 0.3


def test_gaussian_to_gaussian_matches_the_closed_form(known):
    # With standardised marginals and an independent coupling the flow of N(0, 1) to N(0, 1) is a time change whose
    # end map is the identity: transport must give mean and spread of the target, monotonically.
    rng = np.random.default_rng(0)
    X, Y = rng.normal(2, 3, size=(4000, 1)), rng.normal(-1, 0.5, size=(4000, 1))
    flow = ConditionalFlow("pad", training=Training(n_steps=400, sigma=0.0, width=64)).fit(
        X, Y, known.Independent(4000)
    )
    moved = flow.transport(X)
    expected = (X - X.mean()) / X.std() * Y.std() + Y.mean()
    assert np.sqrt(np.mean((moved - expected) ** 2)) < 0.08 * Y.std()


@undertrained
def test_a_correlated_gaussian_is_reached_by_the_symmetric_root(known):
    # Independent coupling of N(0, I) and N(m, S): the marginal velocity is linear, and the end map is m + S^(1/2) x.
    rng = np.random.default_rng(1)
    S = np.array([[1.0, 0.8], [0.8, 1.0]])
    values, vectors = np.linalg.eigh(S)
    root = vectors * np.sqrt(values) @ vectors.T
    X, Y = rng.normal(size=(4000, 2)), rng.multivariate_normal([3, -1], S, size=4000)
    flow = ConditionalFlow("pad", training=Training(n_steps=500, sigma=0.0, width=64)).fit(
        X, Y, known.Independent(4000)
    )
    moved = flow.transport(X)
    assert np.sqrt(np.mean((moved - (X @ root + [3, -1])) ** 2)) < 0.12
    np.testing.assert_allclose(np.cov(moved.T), S, atol=0.12)


@pytest.mark.parametrize("base", BASES)
@undertrained
def test_the_same_seed_gives_the_same_numbers_and_leaves_the_global_state_alone(base, known):
    X, Y = known.spaces(n=100)
    before = torch.random.get_rng_state()
    runs = [
        ConditionalFlow(base, training=Training(n_steps=20, width=32), seed=s)
        .fit(X, Y, known.Matching(100))
        .transport(X)
        for s in (3, 3, 4)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_units_of_the_spaces_do_not_matter(known):
    X, Y = known.spaces(n=200)
    plain = ConditionalFlow(training=Training(n_steps=50, width=32)).fit(X, Y, known.Matching(200)).transport(X)
    scaled = ConditionalFlow(training=Training(n_steps=50, width=32)).fit(
        1000 * X - 7, 0.01 * Y + 3, known.Matching(200)
    )
    np.testing.assert_allclose(scaled.transport(1000 * X - 7), 0.01 * plain + 3, rtol=1e-3, atol=1e-5)


def test_constant_dimensions_survive_standardisation():
    X = np.concatenate([np.random.default_rng(0).normal(size=(30, 2)), np.full((30, 1), 0.1)], axis=1)
    scale = Standardiser.fit(X)
    np.testing.assert_allclose(scale.backward(scale.forward(X)), X)
    assert scale.std[2] == 1
    np.testing.assert_allclose(scale.forward(X).std(axis=0), [1, 1, 0], atol=1e-12)


def test_standardisation_reads_blocks_as_it_reads_the_whole(monkeypatch):
    X = np.random.default_rng(0).normal(5, 2, size=(101, 3))
    monkeypatch.setattr("neurobridge.points.scale.BLOCK", 10)
    scale = Standardiser.fit(X)
    np.testing.assert_allclose(scale.mean, X.mean(axis=0))
    np.testing.assert_allclose(scale.std, X.std(axis=0))


class _Plain(nn.Module):
    """A user's network: same signature, nothing else in common."""

    def __init__(self, n_dims, n_condition):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(1 + n_dims + n_condition, 64), nn.SiLU(), nn.Dropout(0.1), nn.Linear(64, n_dims)
        )

    def forward(self, t, x, condition):
        return self.layers(torch.cat([t, x] if condition is None else [t, x, condition], dim=1))


@undertrained
@pytest.mark.parametrize("base", BASES)
def test_any_module_of_the_signature_can_be_the_velocity(base, known):
    X, Y = known.spaces(n=300)
    before = torch.random.get_rng_state()
    runs = [
        ConditionalFlow(base, training=Training(network=_Plain, n_steps=250, batch_size=128), seed=1)
        .fit(X, Y, known.Matching(300))
        .transport(X)
        for _ in range(2)
    ]
    assert _error(runs[0], Y) < 0.5
    np.testing.assert_array_equal(*runs)  # dropout draws from torch's global state, which is seeded and given back
    assert torch.equal(before, torch.random.get_rng_state())


def test_networks_that_do_not_fit_are_refused(known):
    X, Y = known.spaces(n=50)

    def fit(network):
        ConditionalFlow(training=Training(network=network, n_steps=1)).fit(X, Y, known.Matching(50))

    with refused(TypeError, "_Plain", "(n_dims, n_condition)"):
        fit(_Plain(5, 3))
    with refused(TypeError, "int", "torch.nn.Module"):
        fit(lambda n_dims, n_condition: 3)
    with refused(ValueError, "trainable"):
        fit(lambda n_dims, n_condition: _Plain(n_dims, n_condition).requires_grad_(False))
    with refused(ValueError, (2, 6), (2, 5)):
        fit(lambda n_dims, n_condition: VelocityWider(n_dims, n_condition))


class VelocityWider(nn.Module):
    def __init__(self, n_dims, n_condition):
        super().__init__()
        self.leave = nn.Linear(n_dims + n_condition, n_dims + 1)

    def forward(self, t, x, condition):
        return self.leave(torch.cat([x, condition], dim=1))


@pytest.mark.parametrize(
    ("n_dims", "n_condition", "size"),
    [(3, 5, (128, 2)), (128, 32, (128, 2)), (129, 0, (256, 3)), (32, 500, (512, 3)), (5000, 10, (1024, 3))],
)
def test_the_default_size_follows_the_dimensions(n_dims, n_condition, size):
    assert default_size(n_dims, n_condition) == size
    network = VelocityMLP(n_dims, n_condition)
    assert (network.enter.out_features, len(network.blocks)) == size


def test_a_cost_in_place_of_its_coupling_is_refused(known):
    X, Y = known.spaces(30)
    with refused(TypeError, "BridgeCost", "couple(cost)"):
        ConditionalFlow().fit(X, Y, bridge_cost(X, Y, ([0, 1], [0, 1])))


def test_bad_settings_are_refused(known):
    X, Y = known.spaces(n=50)
    for flow, error, facts in (
        (ConditionalFlow("linear"), ValueError, ["'linear'", "affine"]),
        (ConditionalFlow(support_quantile=2), ValueError, ["support_quantile=2"]),
        (ConditionalFlow(training={"n_steps": 3}), TypeError, ["dict", "training=Training("]),
        (ConditionalFlow(ode="rk4"), TypeError, ["str", "ode=ODE("]),
        (
            ConditionalFlow("noise", training=Training(minibatch_ot=True)),
            ValueError,
            ["minibatch_ot=True", "'noise'"],
        ),
    ):
        with refused(error, *facts):
            flow.fit(X, Y, known.Matching(50))
    flow = ConditionalFlow()
    coupling = known.Matching(50)
    coupling.shape = (50, 51)
    with refused(ValueError, 50, (50, 51)):
        flow.fit(X, Y, coupling)


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        *((Training, name, value) for name, value in {
            "n_steps": 0, "batch_size": 0, "learning_rate": 0.0, "weight_decay": -1.0, "sigma": -0.1, "ema": 1.0,
            "clip": 0.0, "validation": 1.0, "patience": 0, "validate_every": 0, "checkpoint_every": 0, "width": 2.5,
            "depth": -1, "mixed_precision": "float8",
        }.items()),
        *((ODE, name, value) for name, value in {
            "method": "heun", "n_steps": None, "rtol": 0.0, "atol": -1.0, "chunk_size": "all",
        }.items()),
        (ODE, "method", None),
        (Training, "resume", 1),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_where_they_are_made(settings, name, value):
    with refused(ValueError, f"{name}={value!r}", settings.__name__):
        settings(**{name: value})


def test_bad_requests_of_transport_are_refused(known, tmp_path):
    X, Y = known.spaces(n=50)
    with pytest.raises(FlowNotFittedError, match=r"Mend: call fit"):
        ConditionalFlow().transport(X)
    with pytest.raises(FlowNotFittedError, match=r"Mend: call fit"):
        ConditionalFlow().save(tmp_path)
    flow = ConditionalFlow(training=Training(n_steps=2, width=16)).fit(X, Y, known.Matching(50))
    with refused(ValueError, "X: ", 5, 3, "forward"):
        flow.transport(Y)
    with pytest.raises(ValueError, match=r"X: found shape \(3,\)"):
        flow.transport([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"'sideways'"):
        flow.transport(X, "sideways")
    with pytest.raises(ValueError, match=r"n_samples=3 .*'affine'"):
        flow.transport(X, n_samples=3)
    with pytest.raises(ValueError, match=r"chunk_size=0"):
        flow.transport(X, chunk_size=0)
    with pytest.raises(ValueError, match=r"'heun'"):
        flow.transport(X, method="heun")
    with refused(ValueError, "X: ", (50, 3), "NaN"):
        flow.transport(np.where(X.max() - 1e-9 < X, np.nan, X))
    with pytest.raises(ValueError, match=r"49 .*50 "):
        flow.retrace(Y[:49], X)
