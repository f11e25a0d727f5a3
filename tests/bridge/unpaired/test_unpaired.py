"""Alignment without a pair: what it recovers on known copies, and that it says so when there is nothing to recover."""

from __future__ import annotations

import json
import warnings

import numpy as np
import ot
import pytest
from scipy.spatial.distance import cdist

from neurobridge.bridge import (
    FusedBridge,
    SelfTrainedMap,
    UnpairedStart,
    UntrustedAlignmentWarning,
    align_unpaired,
    bridge_cost,
)
from neurobridge.bridge.unpaired import lowrank
from neurobridge.bridge.unpaired.gromov import inner_distances, match_geometry, scrambled, signature_cost
from neurobridge.bridge.unpaired.lowrank import match_parts
from neurobridge.bridge.unpaired.neighbours import (
    inside_neighbourhood,
    mutual_nearest,
    mutual_share,
    nearest_rows,
    neighbourhoods,
)

FAST = {"n_restarts": 2, "n_null": 2}
ONE_ROUND = {**FAST, "max_rounds": 1}
# The verdict is asked for, or beside the point.
QUIET = pytest.mark.filterwarnings("ignore::neurobridge.bridge.UntrustedAlignmentWarning")


def cloud(seed: int, n: int, n_dims: int = 5, n_clusters: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of unequal size and spread: no rotation maps it on itself."""
    rng = np.random.default_rng(seed)
    centres = 4 * rng.normal(size=(n_clusters, n_dims))
    label = rng.choice(n_clusters, n, p=rng.dirichlet(np.full(n_clusters, 5.0)))
    spread = rng.uniform(0.3, 1.5, size=(n_clusters, n_dims))
    return centres[label] + spread[label] * rng.normal(size=(n, n_dims)), label


def copy(X: np.ndarray, seed: int, n_dims: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Turned into a larger space, shuffled, noisy; and where each row went."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(n_dims, X.shape[1])))[0]
    order = rng.permutation(len(X))
    return (X @ turn.T + noise * rng.normal(size=(len(X), n_dims)))[order], np.argsort(order)


@pytest.fixture(scope="module")
def recovered() -> tuple[UnpairedStart, np.ndarray, np.ndarray, np.ndarray]:
    X, _ = cloud(1, 90)
    Y, where = copy(X, 101, n_dims=12, noise=0.1)
    return align_unpaired(X, Y, **FAST), where, X, Y


def test_a_turned_noisy_copy_in_a_larger_space_is_recovered(recovered):
    start, where, X, Y = recovered
    i, j = start.anchors
    chance = 1 / len(Y)
    assert len(i) >= 50
    assert (where[i] == j).mean() > 0.9 > 50 * chance
    # All points, not the anchors alone: half or more land nearest to the true partner's 5 %.
    hits = cdist(start.map(X), Y).argmin(axis=1)
    near = np.argsort(cdist(Y, Y), axis=1)[:, :5]
    assert np.mean([hit in near[where[row]] for row, hit in enumerate(hits)]) > 0.7
    assert isinstance(start.bridge, SelfTrainedMap)
    np.testing.assert_allclose(start.bridge.rotation @ start.bridge.rotation.T, np.eye(5), atol=1e-6)


def test_what_is_recovered_is_called_trustworthy(recovered):
    start = recovered[0]
    trust = start.trust
    assert start.trustworthy
    assert trust.reasons == ()
    assert trust.stability > 0.5 > 0.15 > trust.stability_chance
    assert trust.cycle > 0.5 > 0.15 > trust.cycle_chance
    assert len(trust.distortions) == 2
    assert max(trust.distortions) < min(trust.null_distortions)
    assert np.median(trust.mutual) > max(trust.null_mutual)
    assert trust.expected == pytest.approx((trust.stability - trust.stability_chance) / (1 - trust.stability_chance))
    assert json.loads(json.dumps(trust.to_dict()))["trustworthy"] is True


def test_confidence_is_a_share_of_votes_in_falling_order(recovered):
    confidence = recovered[0].confidence
    assert ((confidence > 0) & (confidence <= 1)).all()
    assert (np.diff(confidence) <= 0).all()


def test_anchors_without_a_vote_can_be_the_pairs_of_a_cost():
    # A cloud of few different points, and one that was made of two copies: nothing in common that the restarts agree on.
    X = np.clip(np.round(np.random.default_rng(92).normal(size=(20, 2))), 0, 63)
    Y = np.round(np.random.default_rng(7).normal(size=(12, 2)) * 16) / 16
    Y = np.vstack([Y, Y[::-1] + 1.0])
    with pytest.warns(UntrustedAlignmentWarning):
        start = align_unpaired(X, Y, n_anchors=4, n_restarts=2, n_null=1, max_rounds=1, n_neighbors=3)
    assert start.confidence.min() == pytest.approx(1 / 8)
    assert np.isfinite(bridge_cost(X, Y, start.anchors, confidence=start.confidence).at(0.1).dense()).all()


@pytest.mark.parametrize("kind", ["other clusters", "one Gaussian"])
def test_spaces_with_nothing_in_common_are_not_trusted(kind):
    X, _ = cloud(2, 40)
    Y = cloud(52, 40, n_dims=7)[0] if kind == "other clusters" else np.random.default_rng(3).normal(size=(40, 7))
    with pytest.warns(UntrustedAlignmentWarning, match=r"stability|cycle|distortion") as caught:
        start = align_unpaired(X, Y, **ONE_ROUND)
    assert [warning.filename for warning in caught] == [__file__]
    assert not start.trustworthy
    assert start.trust.reasons
    assert all(reason in str(caught[0].message) for reason in start.trust.reasons)


def test_a_symmetric_cloud_is_not_trusted():
    # Every corner of a regular simplex looks like any other: 6! matches are equally good.
    rng = np.random.default_rng(0)
    corners = np.repeat(6 * np.eye(6), 6, axis=0)
    X, Y = (corners + rng.normal(size=corners.shape) for _ in range(2))
    with pytest.warns(UntrustedAlignmentWarning, match="stability"):
        align_unpaired(X, Y, **ONE_ROUND)


@QUIET
def test_the_same_seed_gives_the_same_anchors():
    X, _ = cloud(1, 20)
    Y, _ = copy(X, 5, n_dims=8, noise=0.0)
    first, second = (align_unpaired(X, Y, seed=3, **{**ONE_ROUND, "n_null": 1}) for _ in range(2))
    np.testing.assert_array_equal(first.anchors, second.anchors)
    assert first.trust == second.trust


@QUIET
def test_more_points_than_n_points_are_sampled():
    X, _ = cloud(1, 150)
    Y, _ = copy(X, 5, n_dims=8, noise=0.0)
    start = align_unpaired(X, Y, n_points=25, n_anchors=8, **{**ONE_ROUND, "n_null": 1})
    # The rotation is trained on all points, the fused bridge on those that were drawn.
    assert len(start.source_rows) == len(start.target_rows) == 150
    assert len(start.anchors[0]) <= 8
    assert start.map(X[:5]).shape == (5, 8)
    fused = align_unpaired(X, Y, n_points=25, n_anchors=8, refinement="fused", **{**ONE_ROUND, "n_null": 1})
    assert isinstance(fused.bridge, FusedBridge)
    assert len(fused.source_rows) == len(fused.target_rows) == 25
    assert np.isin(fused.anchors[0], fused.source_rows).all()
    assert np.isin(fused.anchors[1], fused.target_rows).all()
    assert fused.map(X[:5]).shape == (5, 8)


@QUIET
@pytest.mark.slow
def test_unrelated_clouds_are_not_trusted():
    trusted = 0
    for seed in range(100, 108):
        X, _ = cloud(seed, 120, n_dims=3 + seed % 4, n_clusters=3 + seed % 5)
        Y, _ = cloud(seed + 500, 120, n_dims=3 + (seed // 3) % 5, n_clusters=3 + (seed // 2) % 5)
        trusted += align_unpaired(X, Y, max_rounds=1).trustworthy
    assert trusted == 0


def test_signatures_see_no_rotation_and_know_their_own_points():
    X, _ = cloud(0, 50)
    Y, where = copy(X, 1, n_dims=9, noise=0.0)
    cost = signature_cost(inner_distances(X), inner_distances(Y))
    np.testing.assert_allclose(cost[np.arange(50), where], 0, atol=1e-12)
    np.testing.assert_array_equal(cost.argmin(axis=1), where)


def test_geometry_of_an_exact_copy_is_matched_without_distortion():
    X, _ = cloud(0, 50)
    Y, where = copy(X, 1, n_dims=9, noise=0.0)
    match = match_geometry(inner_distances(X), inner_distances(3 * Y), np.random.default_rng(0))
    np.testing.assert_array_equal(match.plan.argmax(axis=1), where)
    np.testing.assert_allclose(match.plan.sum(axis=0), 1 / 50, atol=1e-9)
    assert abs(match.distortion) < 1e-9


def test_distortion_agrees_with_its_definition():
    rng = np.random.default_rng(0)
    C, D = inner_distances(rng.normal(size=(12, 3))), inner_distances(rng.normal(size=(9, 2)))
    match = match_geometry(C, D, rng)
    squares = (C[:, None, :, None] - D[None, :, None, :]) ** 2
    independent = np.full((12, 9), 1 / 108)
    value, chance = (np.einsum("ijkl,ij,kl->", squares, plan, plan) for plan in (match.plan, independent))
    assert match.distortion == pytest.approx(value / chance, rel=1e-9)


def test_surrogates_keep_spread_and_lose_arrangement():
    X, label = cloud(0, 200)
    surrogate = scrambled(X, np.random.default_rng(0), n_cells=6)
    assert surrogate.shape == X.shape
    assert not np.allclose(surrogate, X)
    # Inside a cluster nothing moved but its centre.
    for cluster in np.unique(label):
        left, right = (side[label == cluster] for side in (X, surrogate))
        assert np.median(np.abs(cdist(left, left) - cdist(right, right))) < 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_restarts": 1}, r"n_restarts=1\b.*\b2\b"),
        ({"n_points": 5}, r"n_points=5\b.*\b20\b"),
        ({"n_anchors": 1}, r"n_anchors=1\b.*\b4\b"),
        ({"n_null": 0}, r"n_null=0\b.*\b1\b"),
        ({"max_rounds": 0}, r"max_rounds=0\b.*\b1\b"),
        ({"rank": 2}, r"rank=2\b.*\b4\b"),
        ({"refinement": "ridge"}, r"refinement='ridge'.*'rotation'.*'fused'"),
        ({"solver": "exact"}, r"solver='exact'.*'entropic'.*'lowrank'"),
    ],
)
def test_bad_options_are_refused(options, message):
    X, _ = cloud(0, 30)
    with pytest.raises(ValueError, match=message):
        align_unpaired(X, X, **options)


def test_bad_points_are_refused():
    X, _ = cloud(0, 30)
    with pytest.raises(ValueError, match=r"^Y: .*\b10 points\b.*\b20\b"):
        align_unpaired(X, X[:10])
    with pytest.raises(ValueError, match=r"^X: .*\b150 NaN"):
        align_unpaired(np.full_like(X, np.nan), X)
    with pytest.raises(ValueError, match=r"unit of length"):
        align_unpaired(np.ones((30, 2)), X)
    with pytest.raises(ValueError, match=r"^X: .*\b24 points\b"):
        align_unpaired(np.ones((30, 2)), X, solver="lowrank")


def test_votes_count_images_near_the_partner():
    Y, _ = cloud(0, 60)
    partners = np.arange(10)
    near = neighbourhoods(Y)[partners, nearest_rows(Y[:10] + 0.5, Y)]
    np.testing.assert_array_equal(inside_neighbourhood(Y[:10] + 0.5, Y, partners), near)


def test_every_point_of_a_copy_is_a_mutual_neighbour():
    X, _ = cloud(0, 60)
    rng = np.random.default_rng(0)
    assert mutual_share(X, rng.permutation(X), rng) == 1
    assert mutual_share(X, rng.normal(size=X.shape), rng) < 0.9


def test_points_that_all_coincide_have_no_mutual_neighbours():
    with pytest.raises(ValueError, match=r"\b1 mutual\b.*\b5 and 5\b.*\b2\b"):
        mutual_nearest(np.zeros((5, 5)))


def test_memory_is_refused_before_it_is_taken():
    X, _ = cloud(0, 100)
    with pytest.raises(MemoryError, match=r"n_points=300\b"):
        align_unpaired(X, X, memory_limit=1000)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_of_a_turned_copy_find_their_copies(seed):
    X, label = cloud(seed, 300)
    Y, where = copy(X, 100 + seed, n_dims=12, noise=0.1)
    match = match_parts(X, Y, np.random.default_rng(0), rank=10)
    i, j = match.anchors(X, Y)
    copied = label[np.argsort(where)]
    assert len(i) >= 4
    # By chance, and by always naming the largest cluster.
    assert (label[i] == copied[j]).mean() >= 0.9 > 1.5 * np.bincount(label).max() / len(X)


def test_the_distortion_of_parts_is_the_written_out_one():
    X, _ = cloud(0, 60)
    Y, _ = copy(X, 100, n_dims=8, noise=0.1)
    match = match_parts(X, Y, np.random.default_rng(0), rank=5)
    C, D = (cdist(side, side, "sqeuclidean") for side in (X, Y))
    C, D, p = C / C.mean(), D / D.mean(), ot.unif(60)
    plan = match.left @ np.diag(1 / match.mass) @ match.right.T
    terms = ot.gromov.init_matrix(C, D, p, p, "square_loss")
    written = ot.gromov.gwloss(*terms, plan) / ot.gromov.gwloss(*terms, np.outer(p, p))
    # The solver's marginals are right to a thousandth, the constant terms here are those of exact ones.
    assert match.distortion == pytest.approx(written, abs=5e-3)
    assert 0 <= match.distortion < 0.3


def test_an_unpaired_start_by_parts_recovers_a_copy(monkeypatch):
    # Parts need not be final where a rotation is trained from them.
    monkeypatch.setattr(lowrank, "_MAX_ITER", 200)
    X, label = cloud(2, 70)
    Y, where = copy(X, 102, n_dims=12, noise=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrustedAlignmentWarning)
        start = align_unpaired(X, Y, solver="lowrank", rank=8, **{**FAST, "n_null": 1})
    i, j = start.anchors
    assert (where[i] == j).mean() > 0.5 > 20 / len(X)
    assert (label[i] == label[np.argsort(where)][j]).mean() > 0.9
