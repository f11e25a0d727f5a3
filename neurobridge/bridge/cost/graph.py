"""Geodesic distances: shortest paths on a nearest-neighbour graph, from the anchors only."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csgraph

from neurobridge.bridge.cost.geodesic.cells import CellIndex
from neurobridge.bridge.cost.geodesic.components import joining_links, nearest_outside_in_cells
from neurobridge.bridge.cost.geodesic.lists import RECALL, neighbor_lists
from neurobridge.bridge.cost.geodesic.paths import all_paths, nearest_paths
from neurobridge.bridge.cost.metrics import euclidean, lengths
from neurobridge.points.arrays import row_blocks

# Above this many points the exact search (quadratic) is slower than lists that miss a few neighbours.
EXACT_NEIGHBORS = 10_000
# Below this many points distances are those of `euclidean`; above, they are sought by a product of matrices.
_SMALL = 500
_SPARE = 8
# Cells that new points look through.
_PROBES = 16
# Distances that are measured to find the link of a component.
_TRIED = 1 << 27


class DisconnectedGraphWarning(UserWarning):
    """The neighbour graph had several components, joined by their shortest links."""


class NeighborRecallWarning(UserWarning):
    """The neighbour graph misses more of the true nearest neighbours than it should."""


class NeighborGraph(NamedTuple):
    """Links of every point with its nearest others.

    Attributes
    ----------
    links : CSR matrix of shape (n_points, n_points)
        Symmetric lengths in units of ``unit``, between places of ``order``; float32 where lists are approximate.
    order : int64 array of shape (n_points,), or None
        Row of each place; None where places are rows.
    unit : float
    recall : float
        Share of the true nearest neighbours that are linked, on a sample of points; 1 where all are.
    """

    links: sparse.csr_matrix
    order: np.ndarray | None
    unit: float
    recall: float

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return the places of some rows."""
        if self.order is None:
            return rows
        place = np.empty(len(self.order), dtype=np.int64)
        place[self.order] = np.arange(len(self.order))
        return place[rows]

    def in_rows(self, values: np.ndarray) -> torch.Tensor:
        """Bring values of all places, shape (n_points, ...), to the order of the rows."""
        if self.order is None:
            return torch.as_tensor(values)
        out = np.empty_like(values)
        out[self.order] = values
        return torch.as_tensor(out)


def neighbors(
    X: torch.Tensor,
    Z: torch.Tensor,
    k: int,
    *,
    cells: CellIndex | None = None,
    apart: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k nearest rows of Z for each row of X: exactly, or in cells of near points where these are given.

    Parameters
    ----------
    X : tensor of shape (n, n_dims)
    Z : tensor of shape (n_points, n_dims)
    k : int
    cells : CellIndex, optional
        Of Z.
    apart : tuple of two int tensors of shape (n,) and (n_points,), optional
        Labels of the rows of X and of Z: a row finds rows of other labels alone. Not with ``cells``.

    Returns
    -------
    distance, index : tensors of shape (n, k)
        Euclidean distances in rising order, and rows of Z. Distances are exact in either case.
    """
    distance = torch.empty((len(X), k), dtype=X.dtype, device=X.device)
    index = torch.empty((len(X), k), dtype=torch.int64, device=X.device)
    if cells is None and len(Z) <= _SMALL:
        for rows in row_blocks(len(X), len(Z), budget=1 << 22):
            block = euclidean(X[rows], Z)
            if apart is not None:
                block[apart[0][rows][:, None] == apart[1]] = torch.inf
            distance[rows], index[rows] = block.topk(k, dim=1, largest=False, sorted=True)
        return distance, index
    n_spare = min(k + _SPARE, len(Z))
    if cells is None:
        centre = Z.mean(dim=0)
        unit = float((Z - centre).abs().max()) or 1.0
        base = ((Z - centre) / unit).double()
    # Cells are read once for all points that look through them: the more at once, the better.
    for rows in row_blocks(len(X), len(Z) if cells is None else 64, budget=1 << 22):
        if cells is None:
            block = torch.cdist(((X[rows] - centre) / unit).double(), base, compute_mode="use_mm_for_euclid_dist")
            if apart is not None:
                block[apart[0][rows][:, None] == apart[1]] = torch.inf
            candidates = block.topk(n_spare, dim=1, largest=False).indices
        else:
            candidates = cells.order[cells.search(cells.scaled(X[rows]), k=n_spare, n_probes=_PROBES)[1].long()]
        for part in row_blocks(len(candidates), n_spare * Z.shape[1], budget=1 << 22):
            here = slice(rows.start + part.start, rows.start + part.stop)
            # The search rounds; what is returned is exact.
            exact = lengths(X[here][:, None, :] - Z[candidates[part]])
            if apart is not None:
                exact[apart[0][here][:, None] == apart[1][candidates[part]]] = torch.inf
            nearest = exact.argsort(dim=1, stable=True)[:, :k]
            distance[here], index[here] = exact.gather(1, nearest), candidates[part].gather(1, nearest)
    return distance, index


def neighbor_graph(X: torch.Tensor, n_neighbors: int) -> NeighborGraph:
    """Link every point with its nearest others, symmetrically; components are joined by their shortest links.

    Up to `EXACT_NEIGHBORS` points the nearest are exact. Above, they are those of `neighbor_lists`, .95 of them at least where
    that is cheaper than all; and links between components are sought in the cells around evenly spaced points of each.

    Raises
    ------
    ValueError
        ``n_neighbors`` below one.

    Warns
    -----
    DisconnectedGraphWarning
        The graph fell into components.
    NeighborRecallWarning
        Fewer than .95 of the nearest neighbours were found.
    """
    if n_neighbors < 1:
        raise ValueError(f"found n_neighbors={n_neighbors}; expected at least 1 link a point. Mend: try 10.")
    n, k = len(X), min(n_neighbors, len(X) - 1)
    if k < 1:
        return NeighborGraph(sparse.csr_matrix((n, n)), None, 1.0, 1.0)
    if n <= EXACT_NEIGHBORS:
        distance, index = neighbors(X, X, k + 1)
        columns, weights = index.cpu().numpy().astype(np.int32), distance.cpu().numpy()
        rows = np.repeat(np.arange(n, dtype=np.int32), k + 1)
        off = rows != columns.ravel()
        graph = _symmetric(rows[off], columns.ravel()[off], weights.ravel()[off].astype(np.float64), n)
        return NeighborGraph(_joined(graph, X, None, 1.0), None, 1.0, 1.0)
    lists = neighbor_lists(X, k)
    if lists.recall < RECALL:
        warnings.warn(
            f"found {lists.recall:.2f} of the {k} nearest neighbours of {n} points of {X.shape[1]} dimensions; expected {RECALL} "
            "for shortest paths. Mend: keep fewer dimensions, those of the first principal components, or metric='euclidean'.",
            NeighborRecallWarning,
            stacklevel=4,
        )
    rows = np.repeat(np.arange(n, dtype=np.int32), k)
    there = lists.neighbor.ravel() >= 0
    graph = _symmetric(rows[there], lists.neighbor.ravel()[there], lists.length.ravel()[there], n)
    order, unit, recall = lists.order, lists.unit, lists.recall
    del lists
    return NeighborGraph(_joined(graph, X, order, unit), order, unit, recall)


def _symmetric(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, n: int) -> sparse.csr_matrix:
    # A sparse graph reads an exact zero as "no edge": duplicates keep a link of negligible length.
    positive = weights[weights > 0]
    tiny = 1e-9 * float(np.median(positive)) if positive.size else 1e-12
    graph = sparse.csr_matrix((np.maximum(weights, weights.dtype.type(tiny)), (rows, columns)), shape=(n, n))
    return graph.maximum(graph.T).tocsr()


def _joined(graph: sparse.csr_matrix, X: torch.Tensor, order: np.ndarray | None, unit: float) -> sparse.csr_matrix:
    n_components, label = csgraph.connected_components(graph, directed=False)
    if n_components == 1:
        return graph

    def exactly(rows: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        component, some = torch.as_tensor(label, device=X.device), torch.as_tensor(rows, device=X.device)
        distance, index = neighbors(X[some], X, 1, apart=(component[some], component))
        return distance[:, 0].cpu().numpy(), index[:, 0].cpu().numpy()

    if order is None:
        source, target, length = joining_links(label, exactly, exactly, most=len(label))
    else:
        cells = CellIndex.of(X)
        rows = cells.order.cpu().numpy()
        place_of_row = np.argsort(order)

        def exactly_in_cells(places: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            of_rows = np.empty_like(label)
            of_rows[rows] = label
            distance, others = exactly(rows[places], of_rows)
            return distance / cells.unit, np.argsort(rows)[others]

        most = max(16, _TRIED // len(label))
        links = joining_links(label[place_of_row[rows]], nearest_outside_in_cells(cells), exactly_in_cells, most=most)
        source, target = (place_of_row[rows[ends]] for ends in links[:2])
        length = links.length * (cells.unit / unit)
    extra = sparse.csr_matrix((length.astype(graph.dtype), (source, target)), shape=graph.shape)
    warnings.warn(
        f"found a neighbour graph of {n_components} components; expected one. Joined them by their {n_components - 1} shortest "
        f"links (longest {unit * length.max():.3g}). Mend: raise n_neighbors, or check for outliers.",
        DisconnectedGraphWarning,
        stacklevel=4,
    )
    return graph.maximum(extra.maximum(extra.T)).tocsr()


def graph_bytes(n_points: int, n_dims: int, n_neighbors: int, n_kept: int, *, nearest: bool) -> float:
    """Estimate what is taken beside the points and the result while geodesic distances of one space are measured, in bytes.

    Parameters
    ----------
    n_points, n_dims, n_neighbors : int
    n_kept : int
        Anchors kept of each point.
    nearest : bool
        They are its nearest.

    Examples
    --------
    >>> graph_bytes(1_280_000, 64, 10, 32, nearest=True) < 1.2e9
    True
    """
    lists = n_points * (4.0 * n_dims + 30.0 * n_neighbors) + min(2.5e8, 2e3 * n_points)
    # Links of a point in both directions, in three matrices while they are made symmetric.
    links = 54.0 * n_neighbors * n_points
    # Lists of the nearest in two copies; distances from a few anchors, or from as many as are written at once.
    paths = n_points * (16.0 * n_neighbors + (18.0 * n_kept if nearest else min(4.0 * n_kept, 2.7e8 / n_points + 64)))
    return max(lists, links, paths)


def geodesic(X: torch.Tensor, anchor_rows: np.ndarray, *, n_neighbors: int = 10) -> tuple[torch.Tensor, float]:
    """Measure shortest paths from the anchors to all points on a symmetric nearest-neighbour graph.

    Parameters
    ----------
    X : tensor of shape (n_points, n_dims)
    anchor_rows : int array of shape (n_anchors,)
    n_neighbors : int
        Links a point has to its nearest others.

    Returns
    -------
    distance : tensor of shape (n_points, n_anchors)
    recall : float
        Of the neighbours, see `NeighborGraph`.

    Warns
    -----
    DisconnectedGraphWarning
        The graph fell into components, which were joined by their shortest links.
    NeighborRecallWarning
        The graph misses more neighbours than it should.

    References
    ----------
    Tenenbaum, de Silva & Langford 2000 (Isomap).
    """
    graph = neighbor_graph(X, n_neighbors)
    anchors = graph.places(np.asarray(anchor_rows))
    out = np.empty((len(X), len(anchors)), dtype=torch.empty(0, dtype=X.dtype).numpy().dtype)
    all_paths(graph.links, anchors, out)
    distance = graph.in_rows(out).to(X.device)
    return distance if graph.unit == 1 else distance.mul_(graph.unit), graph.recall


class NearestPaths(NamedTuple):
    """Shortest paths to the anchors in reach: see `nearest_geodesic`."""

    distances: torch.Tensor
    columns: torch.Tensor
    radius: torch.Tensor
    mean: float
    median: float
    recall: float


def nearest_geodesic(
    X: torch.Tensor, anchor_rows: np.ndarray, k: int, *, n_neighbors: int = 10, progress: bool | None = None
) -> NearestPaths:
    """Measure shortest paths to the k nearest anchors of every point, without those to the others: see `nearest_paths`.

    Returns
    -------
    NearestPaths
        ``distances`` and ``columns`` of shape (n_points, k), infinite and 0 where fewer anchors are in reach; ``radius``, shape
        (n_points,), below which none was left out; the mean and median of all n x P distances, by a sample of the anchors; and
        the recall of the neighbours.
    """
    graph = neighbor_graph(X, n_neighbors)
    paths = nearest_paths(graph.links, graph.places(np.asarray(anchor_rows)), k, progress=progress)
    distances, columns, radius = (graph.in_rows(values).to(X.device) for values in paths[:3])
    unit = graph.unit
    return NearestPaths(
        distances.to(X.dtype) * unit,
        columns,
        radius.to(X.dtype) * unit,
        paths.mean * unit,
        paths.median * unit,
        graph.recall,
    )
