"""Anchor distances: agreement with scipy, invariances, graphs."""

from __future__ import annotations

from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import floyd_warshall
from scipy.spatial.distance import cdist

from neurobridge.bridge import METRICS, DisconnectedGraphWarning, anchor_distances
from neurobridge.bridge.cost.distances import Anchors
from neurobridge.bridge.cost.distributed import DistributedFactor
from neurobridge.bridge.cost.in_memory import DenseFactor, NearestFactor, StreamedFactor
from neurobridge.bridge.cost.metrics import Geometry
from neurobridge.points.arrays import PointSource
from tests.refusals import refused

SCIPY_NAMES = {
    "euclidean": "euclidean",
    "sqeuclidean": "sqeuclidean",
    "cosine": "cosine",
    "correlation": "correlation",
}


def _points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)))


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_agree_with_scipy(metric):
    X, Z = _points(23, 6), _points(7, 6, seed=1)
    np.testing.assert_allclose(
        METRICS[metric](X, Z).numpy(), cdist(X.numpy(), Z.numpy(), SCIPY_NAMES[metric]), atol=1e-12
    )


@pytest.mark.parametrize("metric", [*METRICS, "geodesic"])
def test_an_anchor_is_at_distance_zero_from_itself(metric):
    X = _points(40, 5)
    fitted = anchor_distances(X, np.arange(6), metric=metric).fitted
    assert torch.equal(torch.diagonal(fitted[:6]), torch.zeros(6, dtype=torch.float64))
    assert (fitted >= 0).all()


@pytest.mark.parametrize(("scale", "statistic"), [("mean", torch.mean), ("median", None)])
def test_the_unit_of_length_makes_the_scaled_distances_one(scale, statistic):
    fitted = anchor_distances(_points(50, 4), np.arange(10), scale=scale).fitted
    value = statistic(fitted) if statistic else np.median(fitted.numpy())
    assert float(value) == pytest.approx(1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-50, 50))
def test_invariant_to_rotation_translation_and_scaling(seed, factor, shift):
    X = _points(30, 4, seed)
    rotation = torch.linalg.qr(_points(4, 4, seed + 1)).Q
    for metric in ("euclidean", "geodesic"):
        before = anchor_distances(X, np.arange(5), metric=metric, n_neighbors=29).fitted
        after = anchor_distances(factor * X @ rotation + shift, np.arange(5), metric=metric, n_neighbors=29).fitted
        torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-8)


def test_geodesic_is_the_shortest_path_on_the_neighbour_graph():
    X = _points(60, 3).numpy()
    full = cdist(X, X)
    k = 6
    graph = np.zeros_like(full)
    for i, order in enumerate(np.argsort(full, axis=1)):
        graph[i, order[1 : k + 1]] = full[i, order[1 : k + 1]]
    expected = floyd_warshall(np.maximum(graph, graph.T), directed=False)
    found = anchor_distances(torch.from_numpy(X), np.arange(9), metric="geodesic", scale="none", n_neighbors=k)
    np.testing.assert_allclose(found.fitted.numpy(), expected[:, :9], rtol=1e-12)


def test_geodesic_follows_a_curve_where_euclid_cuts_across():
    angle = np.linspace(0, 1.9 * np.pi, 400)
    circle = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    found = anchor_distances(circle, np.array([0, 399]), metric="geodesic", scale="none", n_neighbors=2)
    assert float(found.fitted[399, 0]) == pytest.approx(1.9 * np.pi, rel=1e-3)


@pytest.mark.parametrize("metric", [*METRICS, "geodesic"])
def test_new_points_are_measured_like_fitted_ones(metric):
    X = _points(50, 4)
    space = anchor_distances(X, np.arange(7), metric=metric)
    torch.testing.assert_close(space.of(X), space.fitted, rtol=1e-9, atol=1e-12)


def test_a_disconnected_graph_is_joined_by_its_shortest_link_and_says_so():
    X = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]], dtype=torch.float64)
    with pytest.warns(DisconnectedGraphWarning, match=r"\b2\b.*\b8\b.*n_neighbors"):
        space = anchor_distances(X, np.array([0]), metric="geodesic", scale="none", n_neighbors=1)
    np.testing.assert_allclose(space.fitted[:, 0].numpy(), [0, 1, 2, 10, 11, 12])


def test_duplicate_points_stay_linked_in_the_graph():
    X = torch.cat([_points(20, 3)] * 2)
    space = anchor_distances(X, np.arange(4), metric="geodesic", scale="none")
    torch.testing.assert_close(space.fitted[:20], space.fitted[20:], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"metric": "manhattan"}, ["metric", "'manhattan'", "geodesic"]),
        ({"scale": "max"}, ["scale", "'max'", "'mean'"]),
    ],
)
def test_unknown_options_are_refused(options, facts):
    with refused(ValueError, *facts):
        anchor_distances(_points(10, 3), np.arange(3), **options)


def test_coinciding_points_have_no_unit_of_length():
    with refused(ValueError, "mean", "0.0"):
        anchor_distances(torch.ones(5, 2), np.arange(2))


def test_a_zero_vector_has_no_direction():
    X = _points(5, 3)
    X[2] = 0
    with pytest.raises(ValueError, match=r"found 1 zero.*Mend"):
        anchor_distances(X, np.arange(2), metric="cosine")


def test_new_points_of_other_dimensions_are_refused():
    with refused(ValueError, 2, 3):
        anchor_distances(_points(5, 3), np.arange(2)).of(_points(4, 2))


def test_a_short_list_of_anchors_keeps_the_first_one():
    # Two of three anchors in reach; the list is padded with column 0, which is one of the two.
    distances = torch.tensor([[0.5, 1.0, torch.inf], [0.25, torch.inf, torch.inf]])
    index = torch.tensor([[0, 2, 0], [0, 0, 0]], dtype=torch.int32)
    factor = NearestFactor(distances, index, 3, torch.full((2,), torch.inf))
    inf = float("inf")
    np.testing.assert_array_equal(factor.rows(slice(None)).numpy(), [[0.5, inf, 1.0], [0.25, inf, inf]])
    np.testing.assert_array_equal(factor.log_kernel(torch.tensor([1]), 0.5).numpy(), [[-0.5, -inf, -inf]])


HOLDERS = {
    "all": DenseFactor.measure,
    "nearest": partial(NearestFactor.measure, nearest=6),
    "streamed": StreamedFactor.measure,
    "on workers": DistributedFactor.measure,
    "nearest on workers": partial(DistributedFactor.measure, nearest=6),
}


@pytest.mark.parametrize(
    "rows", [np.array([4, 0, 9, 2, 7, 30]), np.array([4, 0, 4, 2, 0, 30])], ids=["different", "shared"]
)
@pytest.mark.parametrize("scale", ["mean", "median", "none"])
@pytest.mark.parametrize("holder", HOLDERS)
def test_every_way_to_hold_distances_holds_the_same(holder, scale, rows):
    X = _points(50, 4).numpy()
    by_hand = cdist(X, X[rows])
    different = cdist(X, X[np.unique(rows)])
    unit = {"mean": different.mean(), "median": np.median(different), "none": 1.0}[scale]
    lazy = "workers" in holder
    points = PointSource.of(da.from_array(X, chunks=(20, -1)) if lazy else X, name="X")
    with dask.config.set(scheduler="threads", num_workers=1):
        space, factor = HOLDERS[holder](points, Anchors.of(rows), Geometry("euclidean", scale))
        held = factor.rows(slice(None)).numpy()
    assert space.unit == pytest.approx(unit)
    np.testing.assert_allclose(held, by_hand / unit, atol=1e-6)
    np.testing.assert_allclose(space.of(torch.as_tensor(X[:3])).numpy(), by_hand[:3] / unit, atol=1e-9)
    assert (factor.n_points, factor.n_anchors, factor.n_columns) == (50, 6, len(np.unique(rows)))
