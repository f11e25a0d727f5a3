"""What makes the bridge scale: nearest, streamed and grouped factors, points read from disk, and what is refused."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from neurobridge.bridge import bridge_cost, couple
from neurobridge.bridge.cost.graph import geodesic, nearest_geodesic
from neurobridge.bridge.cost.in_memory import DenseFactor
from tests.refusals import refused

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 4)), RNG.normal(size=(50, 6))
PAIRS = (np.arange(8), np.arange(8))


def test_streamed_distances_give_the_kept_ones_plan():
    kept = couple(bridge_cost(X, Y, PAIRS), epsilon=0.1, tol=1e-10)
    streamed = couple(bridge_cost(X, Y, PAIRS, stream=True), epsilon=0.1, tol=1e-10)
    np.testing.assert_allclose(streamed.dense(), kept.dense(), rtol=1e-6)
    np.testing.assert_allclose(streamed.barycentric(Y), kept.barycentric(Y), atol=1e-8)
    np.testing.assert_allclose(streamed.map(X[:5], Y), kept.map(X[:5], Y), atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"nearest": 3}, {"stream": True}])
@pytest.mark.parametrize("lazy", ["memmap", "dask"])
def test_points_on_disk_or_in_chunks_give_the_same_coupling(options, lazy, tmp_path):
    def on_disk(array, name):
        if lazy == "dask":
            return da.from_array(array, chunks=(17, -1))
        np.save(tmp_path / name, array)
        return np.load(tmp_path / name, mmap_mode="r")

    inside = couple(bridge_cost(X, Y, PAIRS, **options), epsilon=0.3, tol=1e-9)
    outside = couple(bridge_cost(on_disk(X, "x.npy"), on_disk(Y, "y.npy"), PAIRS, **options), epsilon=0.3, tol=1e-9)
    np.testing.assert_allclose(outside.dense(), inside.dense(), rtol=1e-6)
    np.testing.assert_allclose(outside.barycentric(on_disk(Y, "z.npy")), inside.barycentric(Y), atol=1e-7)


def test_values_that_are_not_finite_are_found_when_a_lazy_block_is_read():
    broken = X.copy()
    broken[40, 2] = np.nan
    with refused(ValueError, "X: ", "1 NaN"):
        bridge_cost(da.from_array(broken, chunks=(20, -1)), Y, PAIRS, nearest=3)


def test_an_anchor_in_several_pairs_is_kept_once_and_changes_nothing():
    i, j = np.array([0, 1, 2, 3, 4, 5]), np.array([7, 7, 7, 9, 9, 1])
    cost = bridge_cost(X, Y, (i, j), scale="none")
    assert cost.target_factor.n_columns == 3
    assert cost.source_factor.n_columns == 6
    left, right = cdist(X, X[i]), cdist(Y, Y[j])
    by_hand = -0.2 * np.log(np.exp(-(left[:, None] + right[None]) / 0.2).sum(axis=2))
    np.testing.assert_allclose(cost.at(0.2).dense(), by_hand, rtol=1e-9)
    coupling = couple(cost, epsilon=0.2, tol=1e-11)
    np.testing.assert_allclose(coupling.col_mass, 1 / 50, atol=1e-10)
    np.testing.assert_allclose(coupling.dense().sum(axis=0), 1 / 50, atol=1e-10)
    plan = coupling.dense()
    np.testing.assert_allclose(coupling.barycentric(Y), plan @ Y / plan.sum(1, keepdims=True), atol=1e-9)
    back = coupling.transposed()
    np.testing.assert_allclose(back.barycentric(X), plan.T @ X / plan.T.sum(1, keepdims=True), atol=1e-9)
    rows, columns = coupling.sample(100_000, np.random.default_rng(0))
    counts = np.zeros(coupling.shape)
    np.add.at(counts, (rows, columns), 1)
    assert np.abs((counts - 1e5 * plan) / np.sqrt(np.maximum(1e5 * plan, 1))).max() < 6


@pytest.mark.parametrize("nearest", [None, 4])
def test_confidence_multiplies_a_pairs_term(nearest):
    confidence = np.linspace(0.2, 1, 8)
    cost = bridge_cost(X, Y, PAIRS, confidence=confidence, scale="none", nearest=nearest)
    if nearest is None:
        paths = cdist(X, X[:8])[:, None] + cdist(Y, Y[:8])[None]
        by_hand = -0.3 * np.log((confidence * np.exp(-paths / 0.3)).sum(axis=2))
        np.testing.assert_allclose(cost.at(0.3).dense(), by_hand, rtol=1e-9)
    coupling = couple(cost, epsilon=0.5, tol=1e-10, max_iter=20_000)
    plan = coupling.dense()
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 60, atol=1e-9)
    np.testing.assert_allclose(coupling.barycentric(Y), plan @ Y / plan.sum(1, keepdims=True), atol=1e-8)
    np.testing.assert_allclose(coupling.transposed().dense(), plan.T, rtol=1e-9)
    if nearest is None:
        np.testing.assert_allclose(coupling.map(X, Y), coupling.barycentric(Y), atol=1e-8)


def test_a_pair_of_no_confidence_to_speak_of_is_as_good_as_none():
    without = couple(bridge_cost(X, Y, (np.arange(7), np.arange(7)), scale="none"), epsilon=0.3, tol=1e-10).dense()
    doubted = bridge_cost(X, Y, PAIRS, scale="none", confidence=np.r_[np.ones(7), 1e-200])
    np.testing.assert_allclose(couple(doubted, epsilon=0.3, tol=1e-10).dense(), without, rtol=1e-7)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 25), m=st.integers(2, 25), n_pairs=st.integers(2, 60), seed=st.integers(0, 500))
def test_any_shape_keeps_its_marginals(n, m, n_pairs, seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, 2)).astype(np.float32), rng.normal(size=(m, 3)).astype(np.float32)
    pairs = rng.integers(0, n, n_pairs), rng.integers(0, m, n_pairs)
    if len(set(pairs[0])) < 2 or len(set(pairs[1])) < 2:
        return
    a = rng.uniform(0.1, 1, n)
    coupling = couple(bridge_cost(X, Y, pairs), epsilon=0.2, tol=1e-4, max_iter=50_000, a=a)
    assert coupling.converged
    np.testing.assert_allclose(coupling.row_mass, a / a.sum(), atol=2e-4)
    np.testing.assert_allclose(coupling.col_mass, 1 / m, atol=2e-4)


def test_all_distances_equal_gives_the_product_of_the_marginals():
    simplex = np.eye(12)
    coupling = couple(bridge_cost(simplex, simplex, (np.arange(2, 4), np.arange(2, 4)), reduce="softmin"), epsilon=1.0)
    away = np.setdiff1d(np.arange(12), [2, 3])
    block = coupling.dense()[np.ix_(away, away)]
    np.testing.assert_allclose(block, block[0, 0], rtol=1e-9)


def test_duplicate_points_share_their_partners():
    doubled = np.concatenate([X, X])
    coupling = couple(bridge_cost(doubled, Y, PAIRS), epsilon=0.1, tol=1e-10)
    mapped = coupling.barycentric(Y)
    np.testing.assert_allclose(mapped[:60], mapped[60:], atol=1e-9)


def test_the_plan_does_not_see_rotation_shift_or_scale():
    rotation = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    moved = couple(bridge_cost(3 * X @ rotation + 7, Y, PAIRS), epsilon=0.1, tol=1e-10).dense()
    np.testing.assert_allclose(moved, couple(bridge_cost(X, Y, PAIRS), epsilon=0.1, tol=1e-10).dense(), rtol=1e-6)


def test_anchors_go_to_their_partners_as_the_temperature_falls():
    Z = np.random.default_rng(5).normal(size=(60, 6))
    coupling = couple(bridge_cost(X, Z, (np.arange(60), np.arange(60))), epsilon=0.01, tol=1e-6, max_iter=50_000)
    np.testing.assert_array_equal(coupling.conditional(np.arange(60)).argmax(axis=1), np.arange(60))


def test_a_single_source_point_spreads_over_all_targets():
    cost = bridge_cost(X[:1], Y, (np.array([0, 0]), np.array([1, 2])), scale="none")
    np.testing.assert_allclose(couple(cost, epsilon=0.2, tol=1e-10).dense(), np.full((1, 50), 1 / 50), atol=1e-9)


# Pinned pairs and warm starts


@pytest.mark.parametrize("method", ["factored", "sinkhorn", "exact"])
def test_pinned_points_go_to_their_partner_alone(method):
    coupling = couple(bridge_cost(X[:50], Y, PAIRS), method=method, epsilon=0.2, tol=1e-8, pinned=True)
    plan = coupling.dense()
    np.testing.assert_allclose(plan[:8], np.eye(8, 50) / 50, atol=1e-12)
    np.testing.assert_allclose(plan[:, :8], np.eye(50, 8) / 50, atol=1e-12)
    np.testing.assert_allclose(plan.sum(1), 1 / 50, atol=1e-7)
    np.testing.assert_allclose(plan.sum(0), 1 / 50, atol=1e-7)
    np.testing.assert_allclose(coupling.barycentric(Y)[:8], Y[:8], atol=1e-12)
    np.testing.assert_allclose(coupling.barycentric(Y), plan @ Y / plan.sum(1, keepdims=True), atol=1e-8)
    np.testing.assert_allclose(coupling.transposed().dense(), plan.T, atol=1e-12)
    i, j = coupling.sample(20_000, np.random.default_rng(0))
    assert (j[i < 8] == i[i < 8]).all()
    assert abs((i < 8).mean() - 8 / 50) < 0.01


def test_pinned_masses_are_adapted_where_the_two_sides_differ():
    coupling = couple(bridge_cost(X, Y, PAIRS), epsilon=0.2, tol=1e-8, pinned=True)
    assert coupling.a.sum() == pytest.approx(1)
    assert coupling.b.sum() == pytest.approx(1)
    np.testing.assert_allclose(coupling.row_mass, coupling.a, atol=1e-8)
    np.testing.assert_allclose(coupling.col_mass, coupling.b, atol=1e-8)
    np.testing.assert_allclose(coupling.a[:8], (1 / 60 + 1 / 50) / 2)


def test_pinning_refuses_what_it_cannot_honour():
    everything = bridge_cost(X[:8], Y[:8], PAIRS)
    with refused(ValueError, "0 source", "0 target", "method='pairs'"):
        couple(everything, pinned=True)
    with refused(ValueError, "pinned=True", "unbalanced=1.0"):
        couple(bridge_cost(X, Y, PAIRS), pinned=True, unbalanced=1.0)
    with refused(ValueError, "pinned=True", "method='pairs'"):
        couple(bridge_cost(X, Y, PAIRS), method="pairs", pinned=True)


def test_a_warm_start_saves_iterations_and_changes_nothing():
    cost = bridge_cost(X, Y, PAIRS)
    first = couple(cost, epsilon=0.12, tol=1e-9)
    cold = couple(cost, epsilon=0.1, tol=1e-9)
    warm = couple(cost, epsilon=0.1, tol=1e-9, init=first)
    assert warm.n_iter < cold.n_iter
    np.testing.assert_allclose(warm.dense(), cold.dense(), rtol=1e-6)
    assert couple(cost, epsilon=0.1, tol=1e-9, init=cold).n_iter <= 2
    with refused(ValueError, "init: ", 50, 40):
        couple(bridge_cost(X, Y[:40], PAIRS), init=first)
    with refused(ValueError, "init=", "method='exact'"):
        couple(cost, method="exact", init=first)


def test_pairs_carry_mass_by_confidence():
    confidence = np.linspace(0.2, 1, 8)
    coupling = couple(bridge_cost(X, Y, PAIRS, confidence=confidence), method="pairs")
    np.testing.assert_allclose(coupling.dense()[PAIRS], confidence / confidence.sum())
    np.testing.assert_allclose(coupling.transposed().dense()[PAIRS], confidence / confidence.sum())


def test_pinning_and_a_warm_start_exclude_each_other():
    cost = bridge_cost(X, Y, PAIRS)
    with refused(ValueError, "pinned=True", "init"):
        couple(cost, pinned=True, init=couple(cost))


@pytest.mark.parametrize(("epsilon", "rho"), [(0.05, 50.0), (0.05, 1.0), (0.02, 1.0), (0.02, 0.1)])
def test_unbalanced_dense_and_factored_agree_at_small_temperatures(epsilon, rho):
    cost = bridge_cost(X, Y, PAIRS)
    plans = [
        couple(cost, method=method, epsilon=epsilon, unbalanced=rho, tol=1e-10, max_iter=50_000)
        for method in ("sinkhorn", "factored")
    ]
    assert all(plan.converged for plan in plans)
    np.testing.assert_allclose(plans[0].dense(), plans[1].dense(), rtol=1e-5, atol=1e-12)


def test_the_exact_plan_does_not_stop_short_of_the_optimum():
    rng = np.random.default_rng(0)
    cost = bridge_cost(rng.normal(size=(500, 4)), rng.normal(size=(500, 5)), PAIRS, reduce="min")
    coupling = couple(cost, method="exact", max_iter=10)
    assert coupling.converged
    rows, columns = linear_sum_assignment(cost.dense())
    assert coupling.expected_cost() == pytest.approx(cost.dense()[rows, columns].mean(), rel=1e-9)


def test_columns_without_mass_leave_no_nan():
    i, far = np.array([0, 0, 1, 2, 3, 4, 5, 6]), Y.copy()
    far[:2] += 1000
    coupling = couple(bridge_cost(X, far, (i, np.arange(8)), nearest=3), epsilon=0.3, pinned=True)
    assert np.isfinite(coupling.barycentric(far)).all()


@pytest.mark.parametrize("scale", ["mean", "median"])
def test_the_unit_of_length_does_not_depend_on_how_many_anchors_are_kept(scale):
    cloud = np.random.default_rng(2).uniform(size=(200, 2))
    pairs = (np.arange(16), np.arange(16))
    units = [
        bridge_cost(cloud, cloud, pairs, metric="geodesic", scale=scale, nearest=k).source.unit for k in (None, 3, 16)
    ]
    np.testing.assert_allclose(units, units[0], rtol=1e-6)


def test_a_graph_without_links_is_refused():
    with refused(ValueError, "n_neighbors=0", 1):
        bridge_cost(X, Y, PAIRS, metric="geodesic", n_neighbors=0)


# Entropy and expected cost


@pytest.mark.parametrize("method", ["pairs", "exact", "sinkhorn", "factored"])
def test_entropy_and_expected_cost_are_their_sums(method):
    cost = bridge_cost(X, Y, PAIRS)
    coupling = couple(cost, method=method, epsilon=0.2)
    plan = coupling.dense()
    positive = plan[plan > 0]
    assert coupling.entropy() == pytest.approx(-(positive * np.log(positive)).sum(), rel=1e-6)
    assert coupling.expected_cost() == pytest.approx((plan * cost.at(0.2).dense()).sum(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("method", ["sinkhorn", "factored"])
def test_sampled_entropy_and_cost_agree_with_the_sums(method, monkeypatch):
    coupling = couple(bridge_cost(X, Y, PAIRS), method=method, epsilon=0.2)
    exact = coupling.entropy(), coupling.expected_cost()
    monkeypatch.setattr("neurobridge.bridge.transport.coupling._MOST_ENTRIES", 100)
    assert coupling.entropy(n_samples=40_000) == pytest.approx(exact[0], abs=0.03)
    assert coupling.expected_cost(n_samples=40_000) == pytest.approx(exact[1], abs=0.03)


# Metrics


def test_a_metric_may_be_a_function_or_one_for_each_space():
    def manhattan(A, B):
        return torch.cdist(A, B, p=1)

    cost = bridge_cost(X, Y, PAIRS, metric=(manhattan, "cosine"), scale="none", reduce="min")
    left, right = cdist(X, X[:8], "cityblock"), cdist(Y, Y[:8], "cosine")
    np.testing.assert_allclose(cost.dense(), (left[:, None] + right[None]).min(axis=2), atol=1e-9)


def test_a_metric_that_gives_no_distances_is_refused():
    def wrong(A, B):
        return torch.zeros(len(A), 1)

    with refused(ValueError, "metric 'wrong'", (60, 1)):
        bridge_cost(X, Y, PAIRS, metric=wrong)
    with refused(ValueError, "smallest value -"):
        bridge_cost(X, Y, PAIRS, metric=lambda A, B: -torch.cdist(A, B))


def test_precomputed_distances_are_taken_as_they_are():
    D, E = cdist(X, X[:8]), cdist(Y, Y[:8])
    given_ = bridge_cost(D, E, PAIRS, metric="precomputed")
    np.testing.assert_allclose(given_.at(0.1).dense(), bridge_cost(X, Y, PAIRS).at(0.1).dense(), rtol=1e-9)
    coupling = couple(given_, epsilon=0.1)
    np.testing.assert_allclose(
        coupling.map(D[:4], Y), couple(bridge_cost(X, Y, PAIRS), epsilon=0.1).map(X[:4], Y), atol=1e-6
    )
    with refused(ValueError, "metric='precomputed'", (60, 4), "8 anchors"):
        bridge_cost(X, E, PAIRS, metric="precomputed")


def test_geodesics_to_the_nearest_anchors_are_those_of_all_anchors():
    cloud = torch.as_tensor(np.random.default_rng(1).uniform(size=(500, 2)))
    rows = np.arange(40)
    full = geodesic(cloud, rows)[0].numpy()
    found = nearest_geodesic(cloud, rows, 5)
    kept = found.distances.numpy()
    reached = np.isfinite(kept)
    assert reached[:, 0].any()
    assert reached.mean() > 0.8
    np.testing.assert_allclose(
        kept[reached], np.take_along_axis(full, found.columns.numpy().astype(int), axis=1)[reached], rtol=1e-5
    )
    # Nothing nearer than the stated radius was left out.
    for i in range(500):
        left_out = np.setdiff1d(np.arange(40), found.columns[i].numpy()[reached[i]])
        assert full[i, left_out].min() >= float(found.radius[i]) * (1 - 1e-5)
    assert found.mean == pytest.approx(full.mean(), rel=0.2)


def test_nearest_geodesic_cost_agrees_with_the_full_one_where_anchors_are_kept():
    cloud, other = np.random.default_rng(2).uniform(size=(200, 2)), np.random.default_rng(3).uniform(size=(150, 3))
    pairs = (np.arange(12), np.arange(12))
    options = {"metric": "geodesic", "scale": "none"}
    full, kept = bridge_cost(cloud, other, pairs, **options), bridge_cost(cloud, other, pairs, nearest=12, **options)
    np.testing.assert_allclose(kept.at(0.1).dense(), full.at(0.1).dense(), rtol=1e-5)
    coupling = couple(kept, epsilon=0.1)
    assert np.isfinite(coupling.map(cloud[:5] + 0.01, other)).all()


# Refusals


def test_distances_above_the_limit_are_refused_before_they_are_measured():
    with refused(MemoryError, "60 + 50", "8 pairs", "nearest=32", "stream=True"):
        bridge_cost(X, Y, PAIRS, memory_limit=1000)
    assert bridge_cost(X, Y, PAIRS, memory_limit=1000, stream=True).shape == (60, 50)


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"stream": True, "nearest": 3}, ["stream=True", "nearest=3"]),
        ({"stream": True, "metric": "geodesic"}, ["stream=True", "nearest=None", "metric='geodesic'"]),
        ({"confidence": np.ones(3)}, ["confidence: ", (3,), (8,), "(0, 1]"]),
        ({"confidence": np.zeros(8)}, ["confidence: ", (8,), [0.0, 0.0]]),
        ({"confidence": np.ones(8), "reduce": "min"}, ["confidence", "reduce='min'"]),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, facts):
    with refused(ValueError, *facts):
        bridge_cost(X, Y, PAIRS, **options)


def test_full_distances_of_a_truncated_cost_are_not_there_and_it_says_so():
    with refused(ValueError, "nearest=None", "stream=False"):
        _ = bridge_cost(X, Y, PAIRS, nearest=3).source.fitted
    with refused(ValueError, "'factored'"):
        _ = couple(bridge_cost(X, Y, PAIRS), method="pairs").log_scalings


def test_mass_that_underflows_is_summed_again_in_the_log_domain():
    # At this temperature the second anchor's mass is far below what a product of float32 numbers can hold.
    distances = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float32)
    factor = DenseFactor(distances)
    mass = torch.full((2,), 0.5, dtype=torch.float64)
    step = factor.half_step(torch.zeros(2, dtype=torch.float64), mass, 1.0, 1e-3, torch.zeros(2, dtype=torch.float64))
    assert float(step.log_anchor[0]) == pytest.approx(0.0, abs=1e-6)
    assert float(step.log_anchor[1]) == pytest.approx(-1000.0, abs=1e-3)
