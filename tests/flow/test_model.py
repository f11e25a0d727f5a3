"""Flows between known distributions, both ways, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurobridge.flow import BASES, ConditionalFlow, Standardiser


class Matching:
    """A known coupling: row i of the source belongs to row i of the target."""

    def __init__(self, n: int, n_anchors: int = 20) -> None:
        self.n = n
        self.anchors = (np.arange(n_anchors), np.arange(n_anchors))

    def sample(self, n, rng):
        rows = rng.integers(0, self.n, n)
        return rows, rows


class Independent(Matching):
    """The product coupling."""

    def sample(self, n, rng):
        return rng.integers(0, self.n, n), rng.integers(0, self.n, n)


def _spaces(n: int = 600, d_source: int = 3, d_target: int = 5, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d_source)) * [1, 2, 3][:d_source] + 5
    W = rng.normal(size=(d_source, d_target))
    return X, np.sin((X - 5) @ W / 3) + 0.3 * (X - 5) @ W


def _error(found, truth):
    return float(((found - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


@pytest.mark.parametrize(("base", "worst"), [("affine", 0.03), ("pad", 0.15), ("noise", 0.15)])
def test_learns_a_nonlinear_map_on_unseen_points(base, worst):
    X, Y = _spaces()
    flow = ConditionalFlow(base, n_steps=800, seed=0).fit(X[:500], Y[:500], Matching(500))
    assert _error(flow.transport(X[500:]), Y[500:]) < worst
    assert flow.losses_[-50:].mean() < flow.losses_[:50].mean()


@pytest.mark.parametrize("base", BASES)
def test_backward_reaches_the_source_space(base):
    X, Y = _spaces()
    flow = ConditionalFlow(base, n_steps=600, seed=0).fit(X, Y, Matching(600))
    back = flow.transport(Y, "backward")
    assert back.shape == X.shape
    assert _error(back, X) < 0.3


def test_a_padded_flow_is_its_own_inverse():
    X, Y = _spaces(d_target=3)
    flow = ConditionalFlow("pad", n_steps=200, seed=0).fit(X, Y, Matching(600))
    there = flow.transport(X, method="dopri5")
    assert np.linalg.norm(flow.transport(there, "backward", method="dopri5") - X) / np.linalg.norm(X) < 1e-3


def test_gaussian_to_gaussian_matches_the_closed_form():
    # With standardised marginals and an independent coupling the flow of N(0, 1) to N(0, 1) is a time change whose
    # end map is the identity: transport must give mean and spread of the target, monotonically.
    rng = np.random.default_rng(0)
    X, Y = rng.normal(2, 3, size=(4000, 1)), rng.normal(-1, 0.5, size=(4000, 1))
    flow = ConditionalFlow("pad", n_steps=800, sigma=0.0, seed=0).fit(X, Y, Independent(4000))
    moved = flow.transport(X)
    expected = (X - X.mean()) / X.std() * Y.std() + Y.mean()
    assert np.sqrt(np.mean((moved - expected) ** 2)) < 0.08 * Y.std()


def test_noise_gives_a_spread_of_samples():
    X, Y = _spaces(n=400)
    flow = ConditionalFlow("noise", n_steps=300, seed=0).fit(X, Y, Independent(400))
    samples = flow.transport(X[:50], n_samples=40)
    assert samples.shape == (40, 50, 5)
    # The target does not depend on the source here: every source's samples spread like the whole target.
    np.testing.assert_allclose(samples.std(axis=0).mean(axis=0), Y.std(axis=0), rtol=0.25)


@pytest.mark.parametrize("base", BASES)
def test_the_same_seed_gives_the_same_numbers_and_leaves_the_global_state_alone(base):
    X, Y = _spaces(n=100)
    before = torch.random.get_rng_state()
    runs = [ConditionalFlow(base, n_steps=20, seed=s).fit(X, Y, Matching(100)).transport(X) for s in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert torch.equal(before, torch.random.get_rng_state())


def test_units_of_the_spaces_do_not_matter():
    X, Y = _spaces(n=200)
    plain = ConditionalFlow(n_steps=50, seed=0).fit(X, Y, Matching(200)).transport(X)
    scaled = ConditionalFlow(n_steps=50, seed=0).fit(1000 * X - 7, 0.01 * Y + 3, Matching(200))
    np.testing.assert_allclose(scaled.transport(1000 * X - 7), 0.01 * plain + 3, rtol=1e-3, atol=1e-5)


def test_constant_dimensions_survive_standardisation():
    X = np.concatenate([np.random.default_rng(0).normal(size=(30, 2)), np.ones((30, 1))], axis=1)
    scale = Standardiser.fit(X)
    np.testing.assert_allclose(scale.backward(scale.forward(X)), X)
    assert np.isfinite(scale.forward(X)).all()


def test_bad_requests_are_refused():
    X, Y = _spaces(n=50)
    with pytest.raises(ValueError, match=r"found base 'linear'; expected one of"):
        ConditionalFlow("linear")
    with pytest.raises(RuntimeError, match=r"not fitted.*Mend: call fit"):
        ConditionalFlow().transport(X)
    flow = ConditionalFlow(n_steps=2).fit(X, Y, Matching(50))
    with pytest.raises(ValueError, match=r"X: found 5 dimensions; expected 3 for forward transport"):
        flow.transport(Y)
    with pytest.raises(ValueError, match=r"found direction 'sideways'"):
        flow.transport(X, "sideways")
    with pytest.raises(ValueError, match=r"n_samples=3 with base='affine'"):
        flow.transport(X, n_samples=3)
    with pytest.raises(ValueError, match=r"X: found shape \(50, 3\) with NaN"):
        flow.transport(np.where(X.max() - 1e-9 < X, np.nan, X))
    with pytest.raises(FloatingPointError, match=r"found a loss of .* at step .*Mend: lower learning_rate"):
        ConditionalFlow(n_steps=200, learning_rate=1e20).fit(X, Y, Matching(50))
