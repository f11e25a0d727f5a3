"""Geodesic distances: shortest paths on a nearest-neighbour graph, from the anchors only."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csgraph

from neurobridge.bridge.cost.metrics import euclidean, lengths
from neurobridge.points.arrays import row_blocks
from neurobridge.points.progress import progress_bar

# Above this many points the exact search (quadratic) gives way to an approximate index.
EXACT_NEIGHBORS = 100_000
# Points of a large component that are tried as the end of its link.
_TRIED = 1000
_ANCHORS_AT_ONCE = 16


class DisconnectedGraphWarning(UserWarning):
    """The neighbour graph had several components, joined by their shortest links."""


def neighbors(X: torch.Tensor, Z: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k nearest rows of Z for each row of X: exactly in blocks, or by faiss for many rows in a Z above `EXACT_NEIGHBORS`.

    Returns
    -------
    distance, index : tensors of shape (n, k)
        Euclidean distances in rising order, and rows of Z. Distances are exact in either case.

    Raises
    ------
    ImportError
        Z is large and the extra ``ann`` is not installed.
    """
    if len(Z) > EXACT_NEIGHBORS and len(X) > _TRIED:
        return _approximate(X, Z, k)
    distance = torch.empty((len(X), k), dtype=X.dtype, device=X.device)
    index = torch.empty((len(X), k), dtype=torch.int64, device=X.device)
    for rows in row_blocks(len(X), len(Z), budget=1 << 22):
        block = euclidean(X[rows], Z)
        distance[rows], index[rows] = block.topk(k, dim=1, largest=False, sorted=True)
    return distance, index


def _approximate(X: torch.Tensor, Z: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            f"found {len(Z)} points and no faiss; expected it for neighbour graphs above {EXACT_NEIGHBORS} points. "
            "Mend: pip install 'neurobridge[ann]', or metric='euclidean'."
        ) from error
    base = np.ascontiguousarray(Z.cpu().numpy(), dtype=np.float32)
    faiss.omp_set_num_threads(torch.get_num_threads())
    n_cells = int(2 * math.sqrt(len(base)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(base.shape[1]), base.shape[1], n_cells)
    index.cp.seed = 0
    index.cp.niter = 8
    step = max(1, len(base) // (40 * n_cells))
    index.train(base[::step])
    index.add(base)
    index.nprobe = 12
    distance = torch.empty((len(X), k), dtype=X.dtype, device=X.device)
    nearest = torch.empty((len(X), k), dtype=torch.int64, device=X.device)
    for rows in row_blocks(len(X), 1, budget=1 << 16):
        block = X[rows]
        places = index.search(np.ascontiguousarray(block.cpu().numpy(), dtype=np.float32), k)[1]
        # A cell with fewer than k points is filled up with -1: repeat the nearest.
        candidates = torch.as_tensor(np.where(places < 0, places[:, :1], places), device=X.device)
        exact = lengths(block[:, None, :] - Z[candidates])
        order = exact.argsort(dim=1)
        distance[rows], nearest[rows] = exact.gather(1, order), candidates.gather(1, order)
    return distance, nearest


def neighbor_graph(X: torch.Tensor, n_neighbors: int) -> sparse.csr_matrix:
    """Link every point with its nearest others, symmetrically; components are joined by their shortest links.

    Above `EXACT_NEIGHBORS` points a link is the shortest from 1,000 evenly spaced points of the smaller component.

    Returns
    -------
    scipy.sparse.csr_matrix of shape (n_points, n_points)
        Euclidean lengths.

    Raises
    ------
    ValueError
        ``n_neighbors`` below one.

    Warns
    -----
    DisconnectedGraphWarning
        The graph fell into components.
    """
    if n_neighbors < 1:
        raise ValueError(f"found n_neighbors={n_neighbors}; expected at least 1 link a point. Mend: try 10.")
    n, k = len(X), min(n_neighbors, len(X) - 1)
    if k < 1:
        return sparse.csr_matrix((n, n))
    distance, index = neighbors(X, X, k + 1)
    columns, weights = index.cpu().numpy().astype(np.int32), distance.cpu().numpy()
    # A sparse graph reads an exact zero as "no edge": duplicates keep a link of negligible length.
    positive = weights[weights > 0]
    tiny = 1e-9 * float(np.median(positive)) if positive.size else 1e-12
    rows = np.repeat(np.arange(n, dtype=np.int32), k + 1)
    off = rows != columns.ravel()
    links = np.maximum(weights.ravel()[off].astype(np.float64), tiny)
    graph = sparse.csr_matrix((links, (rows[off], columns.ravel()[off])), shape=(n, n))
    return _joined(graph.maximum(graph.T).tocsr(), X)


def _joined(graph: sparse.csr_matrix, X: torch.Tensor) -> sparse.csr_matrix:
    n_components, label = csgraph.connected_components(graph, directed=False)
    if n_components == 1:
        return graph
    links: list[tuple[int, int, float]] = []
    while n_components > 1:
        smallest = int(np.bincount(label).argmin())
        inside, outside = np.flatnonzero(label == smallest), np.flatnonzero(label != smallest)
        if len(label) > EXACT_NEIGHBORS:
            inside = inside[np.unique(np.linspace(0, len(inside) - 1, min(len(inside), _TRIED)).astype(int))]
        distance, index = neighbors(X[torch.as_tensor(inside)], X[torch.as_tensor(outside)], 1)
        near = int(distance[:, 0].argmin())
        i, j = int(inside[near]), int(outside[int(index[near, 0])])
        links.append((i, j, float(distance[near, 0])))
        # Relabel by hand: one merged component, labels kept dense for bincount.
        label[label == smallest] = label[j]
        label = np.unique(label, return_inverse=True)[1]
        n_components -= 1
    rows, columns, spans = map(np.array, zip(*links, strict=True))
    extra = sparse.csr_matrix((spans, (rows, columns)), shape=graph.shape)
    warnings.warn(
        f"found a neighbour graph of {len(links) + 1} components; expected one. Joined them by their {len(links)} shortest "
        f"links (longest {spans.max():.3g}). Mend: raise n_neighbors, or check for outliers.",
        DisconnectedGraphWarning,
        stacklevel=4,
    )
    return graph.maximum(extra.maximum(extra.T)).tocsr()


def geodesic(X: torch.Tensor, anchor_rows: np.ndarray, *, n_neighbors: int = 10) -> torch.Tensor:
    """Measure shortest paths from the anchors to all points on a symmetric nearest-neighbour graph.

    Parameters
    ----------
    X : tensor of shape (n_points, n_dims)
    anchor_rows : int array of shape (n_anchors,)
    n_neighbors : int
        Links a point has to its nearest others.

    Returns
    -------
    tensor of shape (n_points, n_anchors)

    Warns
    -----
    DisconnectedGraphWarning
        The graph fell into components, which were joined by their shortest links.

    References
    ----------
    Tenenbaum, de Silva & Langford 2000 (Isomap).
    """
    graph = neighbor_graph(X, n_neighbors)
    out = torch.empty((len(X), len(anchor_rows)), dtype=X.dtype, device=X.device)
    for columns in row_blocks(len(anchor_rows), len(X), budget=1 << 24):
        paths = csgraph.dijkstra(graph, directed=True, indices=np.asarray(anchor_rows)[columns])
        out[:, columns] = torch.as_tensor(paths.T, dtype=X.dtype, device=X.device)
    return out


class NearestPaths(NamedTuple):
    """Shortest paths to the anchors in reach: see `nearest_geodesic`."""

    distances: torch.Tensor
    columns: torch.Tensor
    radius: torch.Tensor
    mean: float
    median: float


def nearest_geodesic(
    X: torch.Tensor, anchor_rows: np.ndarray, k: int, *, n_neighbors: int = 10, progress: bool = False
) -> NearestPaths:
    """Measure shortest paths to the k nearest anchors of every point, without those to the others.

    Searches stop at a radius, within which an anchor has four times the share k/P of the points, by a sample of the anchors.
    Points that reach fewer than k keep those they reach, and at least the nearest.

    Returns
    -------
    NearestPaths
        ``distances`` and ``columns`` of shape (n_points, k), infinite and 0 where fewer anchors are in reach; ``radius``, shape
        (n_points,), below which none was left out; and the mean and median of all n x P distances, by a sample of the anchors.
    """
    graph = neighbor_graph(X, n_neighbors)
    anchor_rows = np.asarray(anchor_rows)
    n, n_anchors = len(X), len(anchor_rows)
    sampled = np.unique(np.linspace(0, n_anchors - 1, min(n_anchors, 16)).astype(int))
    full = csgraph.dijkstra(graph, directed=True, indices=anchor_rows[sampled])
    mean, median = float(full.mean()), float(np.median(full))
    # Seen from an anchor, the share k/P of the points has it among its k nearest: search four times that share.
    limit = float(np.quantile(full, min(1.0, 4.0 * k / n_anchors)))
    first = csgraph.dijkstra(graph, directed=True, indices=anchor_rows, min_only=True, return_predecessors=True)
    nearest, source = first[0], first[2]
    del full, first
    column_of = {int(row): column for column, row in enumerate(anchor_rows)}
    best = np.full((n, k), np.inf, dtype=np.float32)
    which = np.zeros((n, k), dtype=np.int32)
    batches = range(0, n_anchors, _ANCHORS_AT_ONCE)
    for start in progress_bar(batches, desc="shortest paths", progress=progress, leave=False):
        columns = np.arange(start, min(start + _ANCHORS_AT_ONCE, n_anchors), dtype=np.int32)
        paths = csgraph.dijkstra(graph, directed=True, indices=anchor_rows[columns], limit=limit)
        reached = np.flatnonzero(np.isfinite(paths).any(axis=0))
        for rows in row_blocks(len(reached), k + len(columns), budget=1 << 21):
            here = reached[rows]
            candidates = np.concatenate([best[here], paths[:, here].T.astype(np.float32)], axis=1)
            names = np.concatenate([which[here], np.broadcast_to(columns, (len(here), len(columns)))], axis=1)
            kept = np.argpartition(candidates, k - 1, axis=1)[:, :k]
            best[here] = np.take_along_axis(candidates, kept, axis=1)
            which[here] = np.take_along_axis(names, kept, axis=1)
    alone = ~np.isfinite(best).any(axis=1)
    best[alone, 0] = nearest[alone]
    which[alone, 0] = [column_of[int(row)] for row in source[alone]]
    # A full list leaves out only what is farther than its last; a short one only what is beyond the search.
    radius = np.where(np.isfinite(best).all(axis=1), best.max(axis=1), np.maximum(limit, best[:, 0]))
    radius = np.where(alone, nearest, radius).astype(np.float32)
    if k >= n_anchors and not np.isinf(best).any():
        radius[:] = np.inf
    tensors = [torch.as_tensor(array, device=X.device) for array in (best, which, radius)]
    return NearestPaths(tensors[0].to(X.dtype), tensors[1], tensors[2].to(X.dtype), mean, median)
