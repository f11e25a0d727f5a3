"""The fused bridge: what it recovers, what it falls back to, what must not matter, and what it refuses."""

from __future__ import annotations

import inspect
import itertools
import warnings

import numpy as np
import pytest
import torch

from neurobridge.bridge import (
    Candidate,
    ConvergenceWarning,
    MinibatchWarning,
    bridge_cost,
    couple,
    fuse,
    kernel_map,
    ridge_map,
)
from neurobridge.bridge.fused.batches import deal, draw_anchors
from neurobridge.bridge.fused.candidate import KERNEL_RIDGE, RIDGE
from neurobridge.bridge.fused.choice import beats, make_folds
from neurobridge.bridge.fused.cost import BRIDGE_EPSILON, FusedProblem, bridge_matrix
from neurobridge.bridge.fused.rounds import sinkhorn
from neurobridge.maps.linear import unit_of_cloud

# Clusters this far apart leave the graph in pieces, which is joined and said; test_distances holds that.
pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning")

# Few candidates: the choice among many is tested once.
ONE = {"lams": (0.9,), "epsilons": (0.02,)}
QUICK = ONE | {"n_rounds": (10,), "kernel_rounds": (0,), "n_folds": 3, "n_neighbors": 8}


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


@pytest.fixture(scope="module")
def quick():
    return fuse(X, Y, PAIRS, **QUICK)


@pytest.mark.parametrize("bent", [False, True])
def test_unpaired_points_help_where_pairs_are_few(bent):
    # A mean over draws: with a dozen pairs, the choice on a single one rests on little.
    lost = []
    for seed in (1, 2):
        # A straight relation of no more dimensions than pairs would be ridge's own.
        X, Y, pairs, new, truth = clustered(200, bent=bent, n_pairs=12, seed=seed, n_dims=16)
        ridge = r2(ridge_map(X[:12], Y[:12], penalty="shared")(new), truth)
        ours = r2(fuse(X, Y, pairs, n_rounds=(1, 5), kernel_rounds=(0, 1), **ONE).map(new), truth)
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
    bridge = fuse(X, Y, (known, known), metric="euclidean", n_rounds=(1, 5), kernel_rounds=(0, 1), **ONE)
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
    np.testing.assert_array_equal(bridge.map(X), ridge_map(X[:40], Y[:40], penalty="shared", unit=unit_of_cloud(X))(X))
    np.testing.assert_array_equal(bridge.linear(X), bridge.map(X))


def test_the_choice_is_the_candidate_of_least_error():
    bridge = fuse(X, Y, PAIRS, n_rounds=(1, 4), kernel_rounds=(0, 1), lams=(0.5, 0.9), epsilons=(0.02,), n_folds=3)
    # At the chosen lam: 1 and 4 linear rounds and 1 curved one, three readouts each; ridge and kernel ridge.
    assert len(bridge.errors) == 3 * 3 + 2
    assert bridge.errors[bridge.candidate] == min(bridge.errors.values())
    assert {c.readout for c in bridge.errors if c.kernel_rounds} == {"barycentric", "kernel", "mean"}
    assert all(np.isfinite(list(bridge.errors.values())))
    assert set(bridge.screening) == {(0.5, 0.02), (0.9, 0.02)}
    assert len({c.lam for c in bridge.errors if c.n_rounds}) == 1


def test_the_default_grid_reaches_the_bridge_alone_and_the_maps_alone():
    lams, epsilons = (inspect.signature(fuse).parameters[name].default for name in ("lams", "epsilons"))
    assert {0.0, 1.0} < set(lams)
    assert len(set(epsilons)) >= 3
    bridge = fuse(X, Y, PAIRS, n_rounds=(2,), kernel_rounds=(0,), n_folds=2, n_neighbors=8)
    # Each of both beside the first of the other, and at most one more: both at their best.
    apart = {(lam, epsilons[0]) for lam in lams} | {(lams[0], epsilon) for epsilon in epsilons}
    assert apart <= set(bridge.screening) <= set(itertools.product(lams, epsilons))
    assert len(bridge.screening) <= len(apart) + 1
    assert all(np.isfinite(list(bridge.screening.values())))


def groups(seed, *, n=160, n_groups=8):
    """Two pools of the same groups, whose centres lie unrelated in either space; and pairs, two or three a group."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % n_groups
    X, Y = (4 * rng.normal(size=(n_groups, 2))[label] + 0.3 * rng.normal(size=(n, 2)) for _ in range(2))
    return X / X.std(), Y / Y.std(), (np.arange(20), np.arange(20))


def test_lam_is_zero_where_maps_know_nothing_and_one_where_distances_know_nothing():
    fast = {"epsilons": (0.05,), "n_rounds": (2,), "kernel_rounds": (0,), "n_folds": 4, "n_neighbors": 8}
    X, Y, pairs = groups(3)
    # No linear map sends eight centres of a plane anywhere.
    apart = fuse(X, Y, pairs, lams=(1.0, 0.0), **fast)
    assert apart.screening[0.0, 0.05] < 0.5 * apart.screening[1.0, 0.05]
    assert apart.candidate.lam == 0.0
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(220, 4))
    image = Z @ rng.normal(size=(4, 6))
    noise = {side.shape[1]: rng.random((500, 500)) for side in (Z, image)}

    def unrelated(A, B):
        # Distances that have nothing to do with where the points are.
        keys = [(1e4 * side.abs().sum(dim=1)).long() % 500 for side in (A, B)]
        return torch.as_tensor(noise[A.shape[1]])[keys[0][:, None], keys[1][None, :]]

    straight = fuse(Z[:120], np.vstack([image[:20], image[120:]]), pairs, metric=unrelated, lams=(0.0, 1.0), **fast)
    assert straight.screening[1.0, 0.05] < 0.5 * straight.screening[0.0, 0.05]
    assert straight.candidate.lam == 1.0


def test_another_lam_has_to_beat_the_first_beyond_chance():
    rng = np.random.default_rng(0)
    first = rng.random(10)
    assert not beats(first, first)
    assert beats(first - 0.1, first)
    # A gain of a tenth of what errors differ by.
    noisy = first + rng.permutation(np.linspace(-1, 1, 10)) - 0.1
    assert noisy.mean() < first.mean()
    assert not beats(noisy, first)
    # Pairs that were not left out say nothing.
    assert not beats(np.where(np.arange(10) < 9, np.nan, first - 1), first)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ridge_on_about_as_many_pairs_as_dimensions_is_kept(seed):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(500, 6))
    X, Y = Z, Z @ rng.normal(size=(6, 9)) + 0.02 * rng.normal(size=(500, 9))
    known = np.arange(8)
    bridge = fuse(X[:200], np.vstack([Y[:8], Y[200:392]]), (known, known), n_rounds=(1, 5), kernel_rounds=(0, 1), **ONE)
    ridge = r2(ridge_map(X[:8], Y[:8], penalty="shared")(X[400:]), Y[400:])
    assert ridge > 0.95
    assert r2(bridge.map(X[400:]), Y[400:]) > ridge - 0.02


def test_rotations_and_the_order_of_points_do_not_matter(quick):
    rng = np.random.default_rng(3)
    turns = [np.linalg.qr(rng.normal(size=(k, k)))[0] for k in (X.shape[1], Y.shape[1])]
    orders = [rng.permutation(len(side)) for side in (X, Y)]
    pairs = tuple(np.argsort(order)[side] for order, side in zip(orders, PAIRS, strict=True))
    other = fuse((X @ turns[0])[orders[0]], (Y @ turns[1])[orders[1]], pairs, **QUICK)
    assert other.candidate == quick.candidate
    np.testing.assert_allclose(other.map(NEW @ turns[0]), quick.map(NEW) @ turns[1], atol=2e-2)
    assert r2(other.map(NEW @ turns[0]) @ turns[1].T, quick.map(NEW)) > 0.9999


def test_held_out_points_never_matter_and_the_seed_decides():
    first, second = (fuse(X, Y, PAIRS, seed=4, **QUICK) for _ in range(2))
    alone = first.map(NEW[:5])
    # Points mapped beside others, or after others, are mapped the same.
    second.map(NEW + 10)
    np.testing.assert_allclose(second.map(NEW)[:5], alone, rtol=1e-12, atol=1e-12)
    assert first.errors == second.errors
    draws = [bridge.sample(100, np.random.default_rng(1)) for bridge in (first, second)]
    np.testing.assert_array_equal(draws[0], draws[1])


def test_what_a_fold_holds_out_is_in_neither_cloud():
    def pose(A, B, rows):
        return FusedProblem(bridge_cost(A, B, rows), A, B, rows)

    def folds(A, B):
        return list(make_folds(A, B, PAIRS, 4, 1000, np.random.default_rng(0), pose))

    plain = folds(X, Y)
    assert sorted(np.concatenate([fold.held for fold in plain])) == list(range(len(PAIRS[0])))
    for k, fold in enumerate(plain):
        i, j = PAIRS[0][fold.held], PAIRS[1][fold.held]
        moved = X.copy(), Y.copy()
        moved[0][i], moved[1][j] = 1e6, -1e6
        other = folds(*moved)[k]
        # Perturbed without limit, and nothing that is fitted on changes.
        for name in ("X", "Y"):
            np.testing.assert_array_equal(getattr(other.problem, name), getattr(fold.problem, name))
        np.testing.assert_array_equal(other.problem.cost.at(0.1).dense(), fold.problem.cost.at(0.1).dense())
        assert (other.held_source == 1e6).all()
        assert (other.held_target == -1e6).all()


def test_images_of_pairs_are_their_partners_in_minibatches_as_well():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(300, 3))
    A, B = Z @ rng.normal(size=(3, 4)), Z[::-1] @ rng.normal(size=(3, 5))
    pairs = np.arange(10), np.arange(299, 289, -1)
    bridge = fuse(
        A, B, pairs, minibatch_size=100, lams=(0.9,), epsilons=(0.05,), n_rounds=(2,), kernel_rounds=(0,), n_folds=2
    )
    first = bridge._states[0]
    i, j = first.problem.rows
    assert len(i) == 10
    np.testing.assert_array_equal(first.images[i], first.problem.Y[j])
    assert all(len(state.problem.rows[0]) == 0 for state in bridge._states[1:])


def test_the_barycentric_readout_is_that_of_the_coupling():
    bridge = fuse(X, Y, (PAIRS[0][:3], PAIRS[1][:3]))
    assert bridge.candidate.readout == "barycentric"
    np.testing.assert_allclose(bridge.map(X), bridge.coupling.barycentric(Y), atol=1e-3)
    np.testing.assert_allclose(bridge.coupling.row_mass, 1 / len(X), rtol=2e-2)
    assert abs(bridge.coupling.col_mass - 1 / len(Y)).sum() < 2e-3


def test_with_too_few_pairs_nothing_is_chosen():
    bridge = fuse(X, Y, (PAIRS[0][:3], PAIRS[1][:3]))
    assert bridge.errors == {}
    assert bridge.candidate == Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="barycentric")
    assert np.isfinite(bridge.map(NEW)).all()
    assert len(fuse(X, Y, (PAIRS[0][:4], PAIRS[1][:4]), **QUICK).errors) > 0
    with pytest.raises(ValueError, match=r"\b1 source and 1 target\b.*\b2\b"):
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


def test_tensors_in_tensors_out(quick):
    tensors = [torch.as_tensor(side) for side in (X, Y, NEW)]
    theirs = fuse(tensors[0], tensors[1], tuple(torch.as_tensor(side) for side in PAIRS), **QUICK)
    mapped = theirs.map(tensors[2])
    assert isinstance(mapped, torch.Tensor)
    np.testing.assert_array_equal(mapped.numpy(), quick.map(NEW))
    assert isinstance(theirs.map(NEW), np.ndarray)
    assert isinstance(theirs.linear(tensors[2]), torch.Tensor)
    np.testing.assert_array_equal(theirs.forward(tensors[2]).numpy(), theirs.forward(NEW))


def test_float32_is_taken(quick):
    bridge = fuse(X.astype(np.float32), Y.astype(np.float32), PAIRS, **QUICK)
    assert bridge.map(NEW.astype(np.float32)).dtype == np.float64
    assert r2(bridge.map(NEW), quick.map(NEW)) > 0.999


def test_minibatches_are_drawn_along_the_coarse_plan():
    X, Y, pairs, *_ = clustered(400, n_pairs=10, seed=5)
    problem = FusedProblem(bridge_cost(X, Y, pairs), X, Y, pairs)
    batches = deal(problem, 100, np.random.default_rng(0))
    # Every point once, on both sides, and the pairs together in the first.
    for side, n in ((0, 400), (1, 400)):
        np.testing.assert_array_equal(np.sort(np.concatenate([rows[side] for rows in batches])), np.arange(n))
    assert {len(left) for left, _ in batches} == {100}
    assert {len(right) for _, right in batches} == {100}
    assert set(pairs[0]) <= set(batches[0][0])
    # What the coarse plan sends over an anchor lies in every minibatch, on both sides, to a few points.
    plan = couple(problem.cost, epsilon=BRIDGE_EPSILON, tol=1e-6).plan
    mass = np.exp((plan.log_r + plan.log_s).numpy())
    drawn = draw_anchors(problem, np.random.default_rng(0))
    for left, right in batches[1:]:
        counts = [np.bincount(drawn[side][rows], minlength=10) for side, rows in ((0, left), (1, right))]
        whole = [
            np.bincount(drawn[side], minlength=10) * len(rows) / n
            for side, rows, n in ((0, left, 400), (1, right, 400))
        ]
        # The first holds the pairs, whatever their anchors; the others share what is left.
        assert max(np.abs(a - b).max() for a, b in zip(counts, whole, strict=True)) <= 4
    for side, n in ((0, 400), (1, 400)):
        shares = np.bincount(drawn[side], minlength=10) / n
        assert np.abs(shares - mass).sum() < 5 * np.sqrt(10 / n)


def test_parts_of_a_smaller_side_are_used_again():
    X, Y, pairs, *_ = clustered(300, n_pairs=6, seed=2)
    few = FusedProblem(bridge_cost(X, Y[:40], pairs), X, Y[:40], pairs)
    batches = deal(few, 60, np.random.default_rng(0))
    assert [len(left) for left, _ in batches] == [60] * 5
    for _, right in batches:
        np.testing.assert_array_equal(right, np.arange(40))
    coupling = fuse(X, Y[:40], pairs, minibatch_size=60, **QUICK).coupling
    np.testing.assert_allclose(coupling.col_mass, 1 / 40, rtol=1e-4)
    assert np.abs(coupling.row_mass - 1 / 300).sum() < 2e-3
    assert coupling.row_mass.sum() == pytest.approx(1, rel=1e-6)


@pytest.fixture(scope="module")
def whole_and_batched():
    X, Y, pairs, *_ = clustered(600, bent=True, n_pairs=12, seed=5)
    limit = 40.0 * 200**2
    with pytest.warns(MinibatchWarning, match=r"600 x 600 .* 200 .*Mend: minibatch_size=200") as caught:
        batched = fuse(X, Y, pairs, memory_limit=limit, **QUICK)
    # The warning names the line that called.
    assert [warning.filename for warning in caught if warning.category is MinibatchWarning] == [__file__]
    return fuse(X, Y, pairs, minibatch_size=None, **QUICK), batched


def test_minibatches_agree_with_all_points_at_once(whole_and_batched):
    X, Y, pairs, new, truth = clustered(600, bent=True, n_pairs=12, seed=5)
    whole, batched = whole_and_batched
    assert (whole.minibatch_size, batched.minibatch_size) == (None, 200)
    assert batched.candidate == whole.candidate
    assert batched.candidate.n_rounds
    with warnings.catch_warnings():
        warnings.simplefilter("error", MinibatchWarning)
        named = fuse(X, Y, pairs, minibatch_size=200, **QUICK)
    np.testing.assert_array_equal(named.map(new), batched.map(new))
    assert r2(batched.map(new), truth) > r2(whole.map(new), truth) - 0.02
    assert r2(batched.map(new), whole.map(new)) > 0.97
    assert r2(batched.coupling.barycentric(Y), whole.coupling.barycentric(Y)) > 0.95


def test_minibatches_keep_the_marginals(whole_and_batched):
    coupling = whole_and_batched[1].coupling
    assert coupling.converged
    assert np.abs(coupling.row_mass - 1 / 600).sum() < 2e-3
    np.testing.assert_allclose(coupling.col_mass, 1 / 600, rtol=1e-4)
    assert coupling.marginal_error == pytest.approx(np.abs(coupling.row_mass - 1 / 600).sum(), abs=2e-4)


def test_a_plan_in_minibatches_answers_as_a_dense_one(whole_and_batched):
    _, Y, *_ = clustered(600, bent=True, n_pairs=12, seed=5)
    coupling = whole_and_batched[1].coupling
    dense = coupling.dense()
    assert coupling.shape == dense.shape == (600, 600)
    np.testing.assert_allclose(dense.sum(axis=1), coupling.row_mass, rtol=1e-6)
    np.testing.assert_allclose(dense.sum(axis=0), coupling.col_mass, rtol=1e-6)
    np.testing.assert_allclose(coupling.barycentric(Y), dense @ Y / dense.sum(axis=1)[:, None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(coupling.transposed().dense(), dense.T, rtol=1e-5, atol=1e-12)
    # Draws fall where the plan has mass, in proportion to it.
    i, j = coupling.sample(40_000, np.random.default_rng(0))
    assert dense[i, j].min() > 0
    left, right = np.arange(600) % 7, np.arange(600) % 5
    table = np.zeros((7, 5))
    np.add.at(table, (left[i], right[j]), 1 / len(i))
    expected = np.zeros((7, 5))
    np.add.at(expected, (left[:, None], right[None, :]), dense)
    assert np.abs(table - expected).sum() < 4 * np.sqrt(35 / len(i))
    drawn = np.zeros((600, Y.shape[1]))
    np.add.at(drawn, i, Y[j])
    means = drawn / np.bincount(i, minlength=600)[:, None]
    assert r2(means, coupling.barycentric(Y)) > 0.95


def test_a_fused_bridge_without_room_is_refused():
    with pytest.raises(MemoryError, match=r"150 x 150 .* 0.00 GB.*Mend: minibatch_size='auto'"):
        fuse(X, Y, PAIRS, minibatch_size=None, memory_limit=40.0 * 100**2)


def test_minibatches_as_large_as_the_points_are_all_of_them():
    assert fuse(X, Y, PAIRS, minibatch_size=1000, **QUICK).minibatch_size is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lams": (1.5,)}, r"lams=\(1.5,\)"),
        ({"lams": ()}, r"lams=\(\)"),
        ({"epsilons": (0.0,)}, r"epsilons=\(0.0,\)"),
        ({"n_rounds": (0,)}, r"n_rounds=\(0,\)"),
        ({"kernel_rounds": (-1,)}, r"kernel_rounds=\(-1,\)"),
        ({"minibatch_size": 15}, r"minibatch_size=15\b.*\b8\b.*\b16\b"),
        ({"minibatch_size": "most"}, r"minibatch_size='most'"),
        ({"minibatch_size": 2.5}, r"minibatch_size=2.5"),
        ({"minibatch_size": True}, r"minibatch_size=True"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fuse(X, Y, PAIRS, **options)


def test_bad_points_and_no_room_are_refused():
    with pytest.raises(ValueError, match=r"^X: .*\b1 NaN"):
        fuse(np.where(np.arange(len(X))[:, None] + np.arange(X.shape[1]) == 0, np.nan, X), Y, PAIRS)
    with pytest.raises(ValueError, match=r"^X: .*\(150,\)"):
        fuse(X[:, 0], Y, PAIRS)
    with pytest.raises(MemoryError, match=r"\b8 pairs\b.*\b15\b.*\b16\b"):
        fuse(X, Y, PAIRS, memory_limit=40.0 * 15**2 + 1)
    with pytest.raises(MemoryError, match=r"\b100 points\b"):
        fuse(X, Y, PAIRS, minibatch_size=100, memory_limit=1e5)


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


def test_new_points_that_do_not_fit_are_refused(quick):
    with pytest.raises(ValueError, match=r"^X_new: .*\b9\b.*\b10\b"):
        quick.map(NEW[:, :9])
    with pytest.raises(ValueError, match=r"^X_new: .*\(10,\)"):
        quick.map(NEW[0])
    with pytest.raises(ValueError, match=r"^X_new: .*\b1 NaN"):
        quick.map(np.where(np.arange(NEW.size).reshape(NEW.shape) == 3, np.nan, NEW))


@pytest.mark.parametrize("curved", [0, 1])
def test_a_given_candidate_maps_as_where_it_was_chosen(curved):
    chosen = fuse(X, Y, PAIRS, **QUICK | {"n_rounds": (2,), "kernel_rounds": (curved,)})
    assert chosen.candidate.n_rounds == 2
    given = fuse(X, Y, PAIRS, candidate=chosen.candidate, n_neighbors=8)
    assert given.candidate == chosen.candidate
    assert given.errors == {}
    assert given.screening == {}
    np.testing.assert_array_equal(given.map(NEW), chosen.map(NEW))
