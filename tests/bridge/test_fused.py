"""The fused bridge: what it recovers, what it falls back to, what must not matter, and what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from neurobridge.bridge import ConvergenceWarning, bridge_cost, fuse, ridge_map
from neurobridge.bridge._rounds import bridge_matrix, sinkhorn
from neurobridge.bridge.fused import KERNEL_RIDGE, RIDGE, Candidate, CoreWarning
from neurobridge.bridge.kernel import kernel_map

# Clusters this far apart leave the graph in pieces, which is joined and said; test_distances holds that.
pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning")

# Few candidates: the choice among many is tested once.
QUICK = {"n_rounds": (10,), "kernel_rounds": (0,), "n_folds": 3, "n_neighbors": 8}


def clustered(n, *, bent=False, n_pairs=10, seed=0, noise=0.02, n_clusters=8, n_dims=6):
    """Two pools of the same clustered cloud without common points but the pairs; the second is seen through an unknown map."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(n_clusters, n_dims))
    Z = centres[rng.integers(0, n_clusters, 2 * n + 100)] + 0.6 * rng.normal(size=(2 * n + 100, n_dims))
    mix = rng.normal(size=(n_dims, 9)) / 2
    image = np.tanh(Z @ mix / 2) * 2 + 0.15 * Z @ mix if bent else Z @ mix
    image = image + noise * rng.normal(size=image.shape)
    # Source: the cloud in ten dimensions, most of them noise, so that few pairs do not determine the map.
    X = np.hstack([Z, 0.3 * rng.normal(size=(len(Z), 4))])
    X, Y = (side - side.mean(axis=0) for side in (X, image))
    X, Y = X / X.std(), Y / Y.std()
    known, test = np.arange(n_pairs), np.arange(2 * n, 2 * n + 100)
    left = np.concatenate([known, np.arange(n_pairs, n)])
    right = np.concatenate([known, np.arange(n, 2 * n - n_pairs)])
    return X[left], Y[right], (known, known), X[test], Y[test]


def r2(predicted, truth):
    return 1 - ((predicted - truth) ** 2).sum() / ((truth - truth.mean(axis=0)) ** 2).sum()


X, Y, PAIRS, NEW, TRUTH = clustered(150, n_pairs=8)


@pytest.mark.parametrize("bent", [False, True])
def test_unpaired_points_help_where_pairs_are_few(bent):
    # A mean over draws: with a dozen pairs, the choice on a single one rests on little.
    lost = []
    for seed in (1, 2, 3):
        # A straight relation of no more dimensions than pairs would be ridge's own.
        X, Y, pairs, new, truth = clustered(200, bent=bent, n_pairs=12, seed=seed, n_dims=16)
        ridge = r2(ridge_map(X[:12], Y[:12], penalty="shared")(new), truth)
        ours = r2(fuse(X, Y, pairs, n_rounds=(1, 10), kernel_rounds=(0, 1), n_folds=4).map(new), truth)
        lost.append((1 - ours, 1 - ridge))
    fused_error, ridge_error = np.mean(lost, axis=0)
    assert fused_error < 0.7 * ridge_error


@pytest.mark.parametrize("bent", [False, True])
def test_where_the_unpaired_points_are_noise_the_pairs_decide(bent):
    rng = np.random.default_rng(2)
    Z = rng.normal(size=(160, 3))
    image = np.sin(2 * Z) @ rng.normal(size=(3, 5)) if bent else Z @ rng.normal(size=(3, 5))
    known = np.arange(60)
    # Points of both pools that have nothing to do with each other, nor with the pairs.
    X = np.vstack([Z[:60], 4 + rng.exponential(size=(140, 3))])
    Y = np.vstack([image[:60], -3 * rng.exponential(size=(140, 5))])
    bridge = fuse(X, Y, (known, known), metric="euclidean", n_rounds=(1, 5), kernel_rounds=(0, 1))
    best = max(
        r2(fit(Z[60:]), image[60:]) for fit in (ridge_map(X[:60], Y[:60], penalty="shared"), kernel_map(X[:60], Y[:60]))
    )
    assert r2(bridge.map(Z[60:]), image[60:]) > best - 0.02
    assert bridge.candidate in ((KERNEL_RIDGE,) if bent else (RIDGE, KERNEL_RIDGE))
    # The flow still has a plan to be trained on.
    assert bridge.coupling.converged
    i, j = bridge.sample(50, np.random.default_rng(0))
    assert i.max() < 200
    assert j.max() < 200


def test_a_fallback_is_exactly_the_map_of_the_pairs():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(80, 3)), rng.normal(size=(80, 4))
    known = np.arange(40)
    Y[:40] = X[:40] @ rng.normal(size=(3, 4))
    bridge = fuse(X, Y, (known, known), metric="euclidean", **QUICK)
    assert bridge.candidate == RIDGE
    np.testing.assert_array_equal(bridge.map(X), ridge_map(X[:40], Y[:40], penalty="shared")(X))
    np.testing.assert_array_equal(bridge.linear(X), bridge.map(X))


def test_the_choice_is_the_candidate_of_least_error():
    bridge = fuse(X, Y, PAIRS, n_rounds=(1, 4), kernel_rounds=(0, 1), lams=(0.5, 0.9), n_folds=3)
    # Two paths of: 1 and 4 linear rounds and 1 curved one, three readouts each; ridge and kernel ridge.
    assert len(bridge.errors) == 2 * 3 * 3 + 2
    assert bridge.errors[bridge.candidate] == min(bridge.errors.values())
    assert {c.readout for c in bridge.errors if c.kernel_rounds} == {"barycentric", "kernel", "mean"}
    assert all(np.isfinite(list(bridge.errors.values())))


def test_rotations_and_the_order_of_points_do_not_matter():
    plain = fuse(X, Y, PAIRS, **QUICK)
    rng = np.random.default_rng(3)
    turns = [np.linalg.qr(rng.normal(size=(k, k)))[0] for k in (X.shape[1], Y.shape[1])]
    orders = [rng.permutation(len(side)) for side in (X, Y)]
    pairs = tuple(np.argsort(order)[side] for order, side in zip(orders, PAIRS, strict=True))
    other = fuse((X @ turns[0])[orders[0]], (Y @ turns[1])[orders[1]], pairs, **QUICK)
    assert other.candidate == plain.candidate
    np.testing.assert_allclose(other.map(NEW @ turns[0]), plain.map(NEW) @ turns[1], atol=2e-2)
    assert r2(other.map(NEW @ turns[0]) @ turns[1].T, plain.map(NEW)) > 0.9999


def test_held_out_points_never_matter_and_the_seed_decides():
    first, second = (fuse(X, Y, PAIRS, seed=4, **QUICK) for _ in range(2))
    alone = first.map(NEW[:5])
    # Points mapped beside others, or after others, are mapped the same.
    second.map(NEW + 10)
    np.testing.assert_allclose(second.map(NEW)[:5], alone, rtol=1e-12, atol=1e-12)
    assert first.errors == second.errors
    draws = [bridge.sample(100, np.random.default_rng(1)) for bridge in (first, second)]
    np.testing.assert_array_equal(draws[0], draws[1])


def test_the_barycentric_readout_is_that_of_the_coupling():
    bridge = fuse(X, Y, (PAIRS[0][:3], PAIRS[1][:3]))
    assert bridge.candidate.readout == "barycentric"
    np.testing.assert_allclose(bridge.map(X), bridge.coupling.barycentric(Y), atol=1e-3)
    np.testing.assert_allclose(bridge.coupling.row_mass, 1 / len(X), rtol=2e-2)
    assert abs(bridge.coupling.col_mass - 1 / len(Y)).sum() < 2e-3


def test_with_too_few_pairs_nothing_is_chosen():
    bridge = fuse(X, Y, (PAIRS[0][:3], PAIRS[1][:3]))
    assert bridge.errors == {}
    assert bridge.candidate == Candidate(0.9, 0.1, 1, "barycentric")
    assert np.isfinite(bridge.map(NEW)).all()
    assert len(fuse(X, Y, (PAIRS[0][:4], PAIRS[1][:4]), **QUICK).errors) > 0
    with pytest.raises(ValueError, match=r"pairs: found 1; expected at least 2"):
        fuse(X, Y, (PAIRS[0][:1], PAIRS[1][:1]))


def test_many_sources_may_share_a_target():
    # Four known images a caption.
    i, j = np.arange(32), np.repeat(np.arange(8), 4)
    images = np.vstack([X[:8].repeat(4, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(32, X.shape[1])), X[8:]])
    bridge = fuse(images, Y, (i, j), **QUICK)
    np.testing.assert_array_equal(bridge.anchors, (i, j))
    assert r2(bridge.map(NEW), TRUTH) > 0.5
    # One target at all: every fold would leave no pair beside it, so nothing can be chosen.
    assert fuse(images, Y, (i, np.zeros(32, dtype=int))).errors == {}


def test_float32_is_taken():
    bridge = fuse(X.astype(np.float32), Y.astype(np.float32), PAIRS, **QUICK)
    assert bridge.map(NEW.astype(np.float32)).dtype == np.float64
    assert r2(bridge.map(NEW), fuse(X, Y, PAIRS, **QUICK).map(NEW)) > 0.999


def test_a_core_comes_close_to_all_points():
    X, Y, pairs, new, truth = clustered(400, n_pairs=10, seed=5)
    whole = fuse(X, Y, pairs, core=None, **QUICK)
    limit = 40.0 * 200**2
    with pytest.raises(
        MemoryError, match=r"found a fused bridge of 400 x 400 points, which needs 0.01 GB.*core='auto'"
    ):
        fuse(X, Y, pairs, core=None, memory_limit=limit)
    with pytest.warns(
        CoreWarning, match=r"Solved on a core of 200 points a side. Mend: core=200 says that it is meant"
    ):
        core = fuse(X, Y, pairs, memory_limit=limit, **QUICK)
    assert (whole.core, core.core) == (None, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CoreWarning)
        named = fuse(X, Y, pairs, core=200, memory_limit=limit, **QUICK)
    np.testing.assert_array_equal(named.map(new), core.map(new))
    assert r2(core.map(new), truth) > r2(whole.map(new), truth) - 0.05
    assert r2(core.map(new), whole.map(new)) > 0.9
    # The plan reaches all points, in rows and draws of the right mass, and sends them where the whole plan does.
    coupling = core.coupling
    assert coupling.shape == (400, 400)
    assert np.abs(400 * coupling.row_mass - 1).mean() < 0.3
    assert coupling.row_mass.sum() == pytest.approx(1, rel=0.05)
    assert coupling.col_mass.sum() == pytest.approx(coupling.row_mass.sum(), rel=1e-6)
    assert r2(coupling.barycentric(Y), whole.coupling.barycentric(Y)) > 0.9
    i, j = core.sample(4000, np.random.default_rng(0))
    assert len(np.unique(i)) > 390
    assert len(np.unique(j)) > 300
    expected = (coupling.conditional(np.unique(i)) @ Y)[np.searchsorted(np.unique(i), i)]
    assert r2(Y[j], expected) > 0.5
    back = coupling.transposed()
    np.testing.assert_allclose(back.dense(), coupling.dense().T, rtol=1e-9)


def test_a_core_as_large_as_the_points_is_all_of_them():
    assert fuse(X, Y, PAIRS, core=1000, **QUICK).core is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lams": (1.5,)}, r"found lams=\(1.5,\).*lam in \[0, 1\]"),
        ({"lams": ()}, r"found lams=\(\).*at least one of each"),
        ({"epsilons": (0.0,)}, r"epsilons=\(0.0,\).*epsilon above 0"),
        ({"n_rounds": (0,)}, r"n_rounds=\(0,\).*linear rounds of at least 1"),
        ({"kernel_rounds": (-1,)}, r"kernel_rounds=\(-1,\).*curved ones of at least 0"),
        ({"core": 5}, r"found core=5 with 8 paired points; expected 'auto', None, or a whole number"),
        ({"core": "most"}, r"found core='most'"),
        ({"core": 2.5}, r"found core=2.5"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fuse(X, Y, PAIRS, **options)


def test_bad_points_and_no_room_are_refused():
    with pytest.raises(ValueError, match=r"X: found 1 NaN or infinite"):
        fuse(np.where(np.arange(len(X))[:, None] + np.arange(X.shape[1]) == 0, np.nan, X), Y, PAIRS)
    with pytest.raises(ValueError, match=r"X: found shape \(150,\)"):
        fuse(X[:, 0], Y, PAIRS)
    with pytest.raises(MemoryError, match=r"found 8 pairs and room for a core of 15 points a side"):
        fuse(X, Y, PAIRS, memory_limit=40.0 * 15**2 + 1)
    with pytest.raises(MemoryError, match=r"found a fused bridge on a core of 100 points"):
        fuse(X, Y, PAIRS, core=100, memory_limit=1e5)


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
    with pytest.warns(ConvergenceWarning, match=r"marginal error .* at epsilon 1e-06; expected"):
        bridge = fuse(X, Y, PAIRS, epsilons=(1e-6,), n_rounds=(1,), kernel_rounds=(0,), n_folds=2, tol=1e-12)
    assert not bridge.coupling.converged
    assert np.isfinite(bridge.map(NEW)).all()


def test_new_points_that_do_not_fit_are_refused():
    bridge = fuse(X, Y, PAIRS, **QUICK)
    with pytest.raises(ValueError, match=r"X_new: found 9 dimensions; expected 10 as in fitting"):
        bridge.map(NEW[:, :9])
    with pytest.raises(ValueError, match=r"X_new: found shape \(10,\); expected \(n_points, n_dims\)"):
        bridge.map(NEW[0])
    with pytest.raises(ValueError, match=r"X_new: found 1 NaN or infinite values"):
        bridge.map(np.where(np.arange(NEW.size).reshape(NEW.shape) == 3, np.nan, NEW))
