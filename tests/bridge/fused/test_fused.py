"""The fused bridge: what it recovers, what it falls back to, what must not matter, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurobridge.bridge import Candidate, fuse, kernel_map, ridge_map
from neurobridge.bridge.fused.candidate import KERNEL_RIDGE, RIDGE
from neurobridge.points.scale import unit_of_cloud
from tests.bridge.fused.pools import ONE, QUICK, clustered, r2

# Clusters this far apart leave the graph in pieces, which is joined and said; test_distances holds that.
pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning")

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
        X, Y, pairs, new, truth = clustered(150, bent=bent, n_pairs=12, seed=seed, n_dims=16)
        ridge = r2(ridge_map(X[:12], Y[:12], penalty="shared")(new), truth)
        ours = r2(fuse(X, Y, pairs, n_rounds=(1, 5), kernel_rounds=(0, 1), n_folds=4, **ONE).map(new), truth)
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


def turned_and_reordered(rng):
    """Rotations of both spaces, and their points and pairs, turned and in another order."""
    turns = [np.linalg.qr(rng.normal(size=(k, k)))[0] for k in (X.shape[1], Y.shape[1])]
    orders = [rng.permutation(len(side)) for side in (X, Y)]
    pairs = tuple(np.argsort(order)[side] for order, side in zip(orders, PAIRS, strict=True))
    return turns, ((X @ turns[0])[orders[0]], (Y @ turns[1])[orders[1]], pairs)


def test_rotations_and_the_order_of_points_do_not_matter():
    turns, others = turned_and_reordered(np.random.default_rng(3))
    # Correlations of single dimensions change with the dimensions; squared errors do not.
    options = QUICK | {"criterion": "error"}
    plain, other = fuse(X, Y, PAIRS, **options), fuse(*others, **options)
    assert (other.candidate, other.candidate_back) == (plain.candidate, plain.candidate_back)
    np.testing.assert_allclose(other.map(NEW @ turns[0]), plain.map(NEW) @ turns[1], atol=1e-4)
    np.testing.assert_allclose(other.map_back(TRUTH @ turns[1]), plain.map_back(TRUTH) @ turns[0], atol=1e-4)
    for ours, theirs in ((other.errors, plain.errors), (other.errors_back, plain.errors_back)):
        # Eigenvectors of a neighbour graph are read in the order of the points.
        for candidate in (each for each in ours if each.map != "spectral"):
            assert ours[candidate] == pytest.approx(theirs[candidate], abs=1e-4)


@pytest.mark.parametrize("family", ["ridge", "orthogonal", "whitened"])
@pytest.mark.parametrize("readout", ["linear", "barycentric"])
def test_rotations_do_not_matter_to_any_candidate(family, readout):
    turns, others = turned_and_reordered(np.random.default_rng(4))
    candidate = Candidate(lam=0.9, epsilon=0.05, n_rounds=3, readout=readout, map=family)
    plain, other = (fuse(*given, candidate=candidate, metric="euclidean") for given in ((X, Y, PAIRS), others))
    np.testing.assert_allclose(other.map(NEW @ turns[0]), plain.map(NEW) @ turns[1], atol=1e-3)
    np.testing.assert_allclose(other.map_back(TRUTH @ turns[1]), plain.map_back(TRUTH) @ turns[0], atol=1e-3)


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


def test_new_points_that_do_not_fit_are_refused(quick):
    with pytest.raises(ValueError, match=r"^X_new: .*\b9\b.*\b10\b"):
        quick.map(NEW[:, :9])
    with pytest.raises(ValueError, match=r"^X_new: .*\(10,\)"):
        quick.map(NEW[0])
    with pytest.raises(ValueError, match=r"^X_new: .*\b1 NaN"):
        quick.map(np.where(np.arange(NEW.size).reshape(NEW.shape) == 3, np.nan, NEW))


@pytest.mark.parametrize("curved", [0, 1])
def test_a_given_candidate_maps_as_where_it_was_chosen(curved):
    chosen = fuse(X, Y, PAIRS, **QUICK | {"n_rounds": (2,), "kernel_rounds": (curved,), "maps": ("ridge",)})
    assert chosen.candidate.n_rounds == 2
    given = fuse(X, Y, PAIRS, candidate=chosen.candidate, n_neighbors=8)
    assert given.candidate == chosen.candidate
    assert given.errors == {}
    assert given.screening == {}
    np.testing.assert_array_equal(given.map(NEW), chosen.map(NEW))
