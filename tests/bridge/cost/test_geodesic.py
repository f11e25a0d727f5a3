"""Geodesic distances of many points: neighbours in cells, joined lists, and compiled shortest paths beside SciPy's.

Most tests run the kernels as plain Python, which needs no numba; one slow test compiles them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial.distance import cdist

from neurobridge.bridge import DisconnectedGraphWarning, bridge_cost, couple
from neurobridge.bridge.cost import graph as graph_module
from neurobridge.bridge.cost.geodesic import kernels, lists, paths
from neurobridge.bridge.cost.geodesic.cells import CellIndex
from neurobridge.bridge.cost.graph import NeighborRecallWarning, geodesic, nearest_geodesic, neighbor_graph, neighbors


@pytest.fixture
def interpreted(monkeypatch):
    """Run the kernels as they are written, whether numba is installed or not."""
    monkeypatch.setattr(kernels, "compiled", lambda kernel: kernel)
    monkeypatch.setattr(lists, "compiled", lambda kernel: kernel)
    monkeypatch.setattr(lists, "has_numba", lambda: True)
    monkeypatch.setattr(paths, "has_numba", lambda: True)


@pytest.fixture
def large(monkeypatch):
    """Have a few hundred points take the ways of many."""
    monkeypatch.setattr(graph_module, "EXACT_NEIGHBORS", 100)
    monkeypatch.setattr("neurobridge.bridge.cost.distances.EXACT_NEIGHBORS", 100)
    monkeypatch.setattr(paths, "_FEW_PATHS", 0)


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setattr(lists, "has_numba", lambda: False)
    monkeypatch.setattr(paths, "has_numba", lambda: False)


def cloud(n: int, dims: int, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(n, dims)).astype(np.float32))


def random_graph(n: int, k: int, seed: int) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    rows, columns = np.repeat(np.arange(n), k), rng.integers(0, n, n * k)
    chain = np.arange(n - 1), np.arange(1, n)
    rows, columns = np.concatenate([rows, chain[0]]), np.concatenate([columns, chain[1]])
    off = rows != columns
    weights = rng.uniform(0.1, 1.0, off.sum()).astype(np.float32)
    graph = sparse.csr_matrix((weights, (rows[off], columns[off])), shape=(n, n))
    return graph.maximum(graph.T).tocsr()


def recall(found: np.ndarray, true: np.ndarray) -> float:
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, true, strict=True)])


# Neighbours


def test_cells_hold_every_point_once_and_all_of_them_together_give_the_nearest():
    X = cloud(3000, 4)
    cells = CellIndex.of(X)
    assert sorted(cells.order.tolist()) == list(range(3000))
    np.testing.assert_allclose(cells.points * cells.unit + cells.mean, X[cells.order], atol=1e-5)
    places = cells.search(cells.scaled(X[:50]), k=6, n_probes=cells.n_cells)[1]
    exact = np.argsort(cdist(X[:50], X), axis=1)[:, :6]
    assert recall(cells.order[places.long()].numpy(), exact) > 0.999


def test_cells_of_points_that_are_the_same_stay_small():
    X = cloud(3, 4)[torch.arange(9000) % 3]
    cells = CellIndex.of(X)
    assert np.diff(cells.starts).max() <= 8 * 256
    assert sorted(cells.order.tolist()) == list(range(9000))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neighbours_by_a_product_of_matrices_are_those_of_all_distances(dtype):
    X = cloud(2500, 6).to(dtype) * 1e-3 + 5
    distance, index = neighbors(X[:300], X, 7)
    exact = cdist(X[:300].double(), X.double())
    np.testing.assert_allclose(distance, np.sort(exact, axis=1)[:, :7], rtol=1e-3, atol=1e-9)
    assert recall(index.numpy(), np.argsort(exact, axis=1)[:, :7]) > 0.99


@pytest.mark.usefixtures("interpreted")
def test_joined_lists_hold_nearly_all_neighbours_and_the_recall_says_how_many(monkeypatch):
    monkeypatch.setattr(lists, "_PROBES", (3, 3))
    monkeypatch.setattr("neurobridge.bridge.cost.geodesic.cells._CELL_SIZE", 40)
    X = cloud(700, 5)
    result = lists.neighbor_lists(X, 6)
    found = result.order[result.neighbor[np.argsort(result.order)]]
    full = cdist(X, X) + np.diag(np.full(700, np.inf))
    share = recall(found, np.argsort(full, axis=1)[:, :6])
    assert share > 0.93
    assert abs(share - result.recall) < 0.03
    rows = np.arange(700)[:, None]
    np.testing.assert_allclose(result.length[np.argsort(result.order)] * result.unit, full[rows, found], rtol=1e-4)


@pytest.mark.usefixtures("large", "without_numba")
def test_without_numba_more_cells_are_looked_through():
    X = cloud(2500, 5)
    graph = neighbor_graph(X, 6)
    assert 0.95 <= graph.recall <= 1
    assert (graph.links != graph.links.T).nnz == 0
    place = graph.places(np.arange(2500))
    i, j = 7, int(cdist(X[7:8], X).argsort()[0, 1])
    assert graph.links[place[i], place[j]] * graph.unit == pytest.approx(float((X[i] - X[j]).norm()), rel=1e-4)


def test_without_numba_a_large_graph_warns(monkeypatch, without_numba):
    monkeypatch.setattr(lists, "_SLOW_ABOVE", 100)
    with pytest.warns(kernels.SlowRouteWarning, match=r"neurobridge\[ann\]"):
        lists.neighbor_lists(cloud(300, 3), 3)
    monkeypatch.setattr(paths, "_FEW_PATHS", 0)
    monkeypatch.setattr(paths, "_MANY_PATHS", 100)
    with pytest.warns(kernels.SlowRouteWarning, match="shortest paths"):
        paths.nearest_paths(random_graph(60, 3, 0), np.arange(5), 2)


@pytest.mark.usefixtures("large", "without_numba")
def test_a_graph_that_misses_neighbours_warns_of_it(monkeypatch):
    monkeypatch.setattr(lists, "_PROBES", (3,))
    with pytest.warns(NeighborRecallWarning, match="of the 10 nearest neighbours of 3000 points of 40 dimensions"):
        neighbor_graph(cloud(3000, 40), 10)


@pytest.mark.usefixtures("large", "without_numba")
def test_components_of_a_large_graph_are_joined():
    X = torch.cat([cloud(600, 3), cloud(400, 3, 1) + 50])
    with pytest.warns(DisconnectedGraphWarning, match="2 components"):
        distance = geodesic(X, np.array([0, 700]))[0]
    gap = float(torch.cdist(X[:600], X[600:]).min())
    assert float(distance[700, 0]) >= gap
    assert bool(distance.isfinite().all())


# Paths


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 60), st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**16))
def test_both_ways_give_the_same_paths(n, k_links, k, seed):
    graph = random_graph(n, k_links, seed)
    anchors = np.random.default_rng(seed).permutation(n)[:12]
    k = min(k, len(anchors))
    full = csgraph.dijkstra(graph, indices=anchors).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "compiled", lambda kernel: kernel)
        np.testing.assert_allclose(paths._relaxed(paths._arrays(graph), anchors), full, rtol=1e-5)
        distance, column = paths._merged(paths._arrays(graph), anchors, k)
    np.testing.assert_allclose(distance, np.sort(full, axis=1)[:, :k], rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(full, column.astype(int), axis=1), distance, rtol=1e-5)
    assert all(len(set(row)) == k for row in column)
    searched = paths._searched(graph, anchors, k, np.inf, False)
    np.testing.assert_allclose(np.sort(searched[0], axis=1), distance, rtol=1e-5)
    np.testing.assert_allclose(searched[2], distance[:, -1], rtol=1e-5)


@pytest.mark.usefixtures("large", "interpreted")
def test_a_cost_of_many_points_is_that_of_few(monkeypatch):
    X, Y = cloud(160, 2), cloud(150, 3, 1)
    pairs, options = (np.arange(12), np.arange(12)), {"metric": "geodesic", "nearest": 12}
    many = bridge_cost(X, Y, pairs, **options)
    monkeypatch.undo()
    few = bridge_cost(X, Y, pairs, **options)
    assert many.source.recall > 0.95
    assert few.source.recall == 1
    both = [np.asarray(each.at(0.1).dense()).ravel() for each in (many, few)]
    assert np.corrcoef(both)[0, 1] > 0.999
    assert many.source.unit == pytest.approx(few.source.unit, rel=0.02)


@pytest.mark.usefixtures("large", "without_numba")
def test_new_points_find_their_neighbours_in_cells_that_are_made_once(monkeypatch):
    X, Y = cloud(600, 2), cloud(300, 3, 1)
    pairs = np.arange(12), np.arange(12)
    cost = bridge_cost(X, Y, pairs, metric="geodesic", nearest=4)
    made = []
    original = CellIndex.of.__func__
    monkeypatch.setattr(CellIndex, "of", classmethod(lambda cls, points: made.append(1) or original(cls, points)))
    coupling = couple(cost, epsilon=0.2)
    new = cloud(900, 2, 5)
    images = coupling.map(new, Y)
    coupling.map(new, Y)
    assert len(made) == 1
    monkeypatch.setattr("neurobridge.bridge.cost.distances.EXACT_NEIGHBORS", 10_000)
    again = couple(bridge_cost(X, Y, pairs, metric="geodesic", nearest=4), epsilon=0.2).map(new, Y)
    assert np.corrcoef(np.ravel(images), np.ravel(again))[0, 1] > 0.999


@pytest.mark.slow
def test_compiled_kernels_agree_with_scipy_on_a_cloud_of_many_points():
    pytest.importorskip("numba", reason="the extra `ann` is not installed")
    X = cloud(12_000, 5)
    result = nearest_geodesic(X, np.arange(400), 8)
    assert result.recall >= 0.95
    graph = neighbor_graph(X, 10)
    full = csgraph.dijkstra(graph.links, indices=graph.places(np.arange(400)))[:, graph.places(np.arange(12_000))].T
    np.testing.assert_allclose(result.distances / graph.unit, np.sort(full, axis=1)[:, :8], rtol=1e-5)
    np.testing.assert_allclose(geodesic(X, np.arange(400))[0] / graph.unit, full, rtol=1e-5)
