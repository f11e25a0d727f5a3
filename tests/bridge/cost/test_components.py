"""Components of a neighbour graph: joined by a minimum spanning tree of their shortest links, few or thousands."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csgraph, csr_matrix
from scipy.spatial.distance import cdist

from neurobridge.bridge import DisconnectedGraphWarning
from neurobridge.bridge.cost import graph as graph_module
from neurobridge.bridge.cost.geodesic.components import joining_links
from neurobridge.bridge.cost.graph import neighbor_graph, neighbors


def outside(points):
    """What finds the nearest point of another component, by all distances."""

    def nearest(some, label):
        gaps = cdist(points[some], points)
        gaps[label[some, None] == label] = np.inf
        return gaps.min(axis=1), gaps.argmin(axis=1)

    return nearest


def tree_length(points, label):
    """Length of the minimum spanning tree of components, by all links."""
    n = label.max() + 1
    gaps = np.full((n, n), np.inf)
    distance = cdist(points, points)
    for a in range(n):
        for b in range(n):
            if a != b:
                gaps[a, b] = distance[np.ix_(label == a, label == b)].min()
    return csgraph.minimum_spanning_tree(csr_matrix(np.where(np.isinf(gaps), 0, gaps))).sum()


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 40), n_components=st.integers(1, 12), seed=st.integers(0, 2**16))
def test_links_are_a_minimum_spanning_tree(n, n_components, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 3))
    label = np.unique(rng.integers(0, n_components, n), return_inverse=True)[1]
    if label.max() == 0:
        return
    nearest = outside(points)
    links = joining_links(label, nearest, nearest, most=n)
    assert len(links.length) == label.max()
    np.testing.assert_allclose(links.length, np.linalg.norm(points[links.source] - points[links.target], axis=1))
    np.testing.assert_allclose(links.length.sum(), tree_length(points, label))
    joined = csr_matrix((np.ones(len(links.length)), (label[links.source], label[links.target])), (n, n))
    assert csgraph.connected_components(joined)[0] == n - label.max()


def test_the_smallest_component_is_sought_exactly_where_no_other_found_a_link():
    points = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [30.0]])
    label = np.array([0, 0, 0, 1, 1, 2])  # the last two together are as large as the first
    asked = []

    def nothing(some, label):
        return np.full(len(some), np.inf), np.zeros(len(some), dtype=int)

    def exactly(some, label):
        asked.append(some.tolist())
        return outside(points)(some, label)

    links = joining_links(label, nothing, exactly, most=6)
    assert sorted(links.length.tolist()) == [8.0, 19.0]
    assert asked[0] == [5]


@pytest.mark.parametrize("most", [1, 2, 7])
def test_at_most_so_many_points_of_a_component_are_asked(most):
    rng = np.random.default_rng(0)
    points, label = rng.normal(size=(60, 2)), np.repeat([0, 1, 2], [30, 20, 10])
    asked = []

    def nearest(some, label):
        asked.append(np.bincount(label[some], minlength=3))
        return outside(points)(some, label)

    joining_links(label, nearest, nearest, most=most)
    assert asked[0].tolist() == [0, min(most, 20), min(most, 10)]


@pytest.mark.parametrize("n_dims", [2, 30])
@pytest.mark.parametrize("n", [80, 700])
def test_neighbours_of_other_labels_alone(n, n_dims):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn((n, n_dims), generator=generator, dtype=torch.float64)
    label = torch.randint(0, 4, (n,), generator=generator)
    distance, index = neighbors(X, X, 1, apart=(label, label))
    truth = torch.cdist(X, X)
    truth[label[:, None] == label] = torch.inf
    torch.testing.assert_close(distance[:, 0], truth.min(dim=1).values)
    assert bool((label[index[:, 0]] != label).all())


def clusters(n_clusters, n_dims=6, size=25, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_clusters, n_dims))
    return torch.from_numpy(np.repeat(centres, size, axis=0) + 1e-3 * rng.normal(size=(n_clusters * size, n_dims)))


@pytest.mark.parametrize("is_large", [False, True])
def test_hundreds_of_components_are_joined_as_short_as_can_be(is_large, monkeypatch):
    X = clusters(200).float()
    if is_large:
        monkeypatch.setattr(graph_module, "EXACT_NEIGHBORS", 100)
    with pytest.warns(DisconnectedGraphWarning, match="found a neighbour graph of 200 components"):
        graph = neighbor_graph(X, 5)
    assert csgraph.connected_components(graph.links)[0] == 1
    label = np.repeat(np.arange(200), 25)
    of_place = label if graph.order is None else label[graph.order]
    links = graph.links.tocoo()
    apart = of_place[links.row] != of_place[links.col]
    assert apart.sum() == 2 * 199
    total = graph.unit * links.data[apart].sum() / 2
    expected = tree_length(X.double().numpy(), label)
    # Large graphs look through the cells around some points.
    assert expected * (1 - 1e-5) <= total <= expected * (1.02 if is_large else 1 + 1e-5)


def test_far_clusters_of_a_large_graph_are_joined(monkeypatch):
    monkeypatch.setattr(graph_module, "EXACT_NEIGHBORS", 100)
    near = clusters(1, size=3000)
    X = torch.cat([near, near + 50, near[:40] - 70]).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DisconnectedGraphWarning)
        graph = neighbor_graph(X, 5)
    assert csgraph.connected_components(graph.links)[0] == 1
