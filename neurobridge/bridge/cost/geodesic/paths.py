"""Shortest paths on a graph from anchors to all points, or to each point from its nearest anchors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from neurobridge.bridge.cost.geodesic.kernels import (
    has_numba,
    over_rows,
    relax_all,
    relax_nearest,
    take_changed,
    warn_slow,
)
from neurobridge.points.blocks import row_blocks
from neurobridge.points.progress import progress_bar

# Paths below which compiling costs more than it saves, and above which doing without is slow.
_FEW_PATHS = 4_000_000
_MANY_PATHS = 20_000_000
_ANCHORS_AT_ONCE = 16
# Paths that are held beside the result.
_HELD = 1 << 26


class Paths(NamedTuple):
    """Shortest paths to the anchors in reach, of all points.

    Attributes
    ----------
    distance : float32 array of shape (n_points, k)
        Infinite where fewer anchors are in reach.
    column : int32 array of shape (n_points, k)
        Which anchors; 0 at infinity.
    radius : float32 array of shape (n_points,)
        Length below which no anchor was left out.
    mean, median : float
        Of all n x P lengths, by a sample of the anchors.
    """

    distance: np.ndarray
    column: np.ndarray
    radius: np.ndarray
    mean: float
    median: float


def all_paths(graph: sparse.csr_matrix, anchors: np.ndarray, out: np.ndarray) -> None:
    """Write the lengths of the shortest paths from all anchors to all points to ``out``, shape (n_points, n_anchors).

    Compiled where there are many and numba is there: rounds over the points, in which each shortens its paths by those of its
    neighbours that changed, all anchors at once; these lengths are sums of float32 numbers.
    """
    if not _compiled(out.size):
        for columns in row_blocks(len(anchors), len(out), budget=1 << 24):
            out[:, columns] = csgraph.dijkstra(graph, directed=True, indices=anchors[columns]).T
        return
    arrays = _arrays(graph)
    for columns in row_blocks(len(anchors), len(out), budget=_HELD):
        out[:, columns] = _relaxed(arrays, anchors[columns])


def nearest_paths(graph: sparse.csr_matrix, anchors: np.ndarray, k: int, *, progress: bool | None = None) -> Paths:
    """Measure the shortest paths from every point to its k nearest anchors, without those to the others.

    Compiled where there are many paths and numba is there: rounds over the points, in which each merges into its list of k
    anchors what is new in the lists of its neighbours. All lists are full. Without numba: Dijkstra's searches from all anchors,
    up to a radius within which an anchor has four times the share k/P of the points; points that reach fewer than k anchors
    keep those that they reach, and at least the nearest.
    """
    n, n_anchors = graph.shape[0], len(anchors)
    sampled = np.unique(np.linspace(0, n_anchors - 1, min(n_anchors, 16)).astype(int))
    compiled = _compiled(n * n_anchors)
    if compiled:
        full = _relaxed(_arrays(graph), anchors[sampled])
    else:
        full = csgraph.dijkstra(graph, directed=True, indices=anchors[sampled])
    mean, median = float(full.mean(dtype=np.float64)), float(np.median(full))
    if compiled:
        del full
        distance, column = _merged(_arrays(graph), anchors, k)
        radius = distance[:, -1].copy()
    else:
        # Seen from an anchor, the share k/P of the points has it among its k nearest: search four times that share.
        limit = float(np.quantile(full, min(1.0, 4.0 * k / n_anchors)))
        del full
        distance, column, radius = _searched(graph, anchors, k, limit, progress)
    if k >= n_anchors and not np.isinf(distance).any():
        radius[:] = np.inf
    return Paths(distance, column, radius, mean, median)


def _compiled(n_paths: int) -> bool:
    if n_paths <= _FEW_PATHS:
        return False
    if has_numba():
        return True
    if n_paths > _MANY_PATHS:
        warn_slow(f"{n_paths} shortest paths")
    return False


def _arrays(graph: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return graph.indptr, graph.indices, graph.data.astype(np.float32, copy=False)


def _relaxed(arrays: tuple[np.ndarray, ...], anchors: np.ndarray) -> np.ndarray:
    n = len(arrays[0]) - 1
    distance = np.full((n, len(anchors)), np.inf, dtype=np.float32)
    distance[anchors, np.arange(len(anchors))] = 0
    active, next_active = np.zeros(n, dtype=np.uint8), np.zeros(n, dtype=np.uint8)
    active[anchors] = 1
    while active.any():
        next_active[:] = 0
        over_rows(relax_all, n, *arrays, distance, active, next_active)
        active, next_active = next_active, active
    return distance


def _merged(arrays: tuple[np.ndarray, ...], anchors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    n = len(arrays[0]) - 1
    distance, column = np.full((n, k), np.inf, dtype=np.float32), np.zeros((n, k), dtype=np.int32)
    column[:] = -1
    fresh = np.zeros((n, k), dtype=np.uint8)
    distance[anchors, 0], column[anchors, 0], fresh[anchors, 0] = 0, np.arange(len(anchors)), 1
    active, changed = np.zeros(n, dtype=np.uint8), np.zeros(n, dtype=np.uint8)
    active[anchors] = 1
    new = np.empty_like(distance), np.empty_like(column), np.empty_like(fresh)
    while any(over_rows(relax_nearest, n, *arrays, distance, column, fresh, active, *new, changed)):
        over_rows(take_changed, n, distance, column, fresh, active, *new, changed)
    return distance, np.maximum(column, 0, out=column)


def _searched(
    graph: sparse.csr_matrix, anchors: np.ndarray, k: int, limit: float, progress: bool | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, n_anchors = graph.shape[0], len(anchors)
    first = csgraph.dijkstra(graph, directed=True, indices=anchors, min_only=True, return_predecessors=True)
    nearest, source = first[0], first[2]
    column_of = {int(row): column for column, row in enumerate(anchors)}
    best = np.full((n, k), np.inf, dtype=np.float32)
    which = np.zeros((n, k), dtype=np.int32)
    batches = range(0, n_anchors, _ANCHORS_AT_ONCE)
    for start in progress_bar(batches, desc="shortest paths", progress=progress, leave=False):
        columns = np.arange(start, min(start + _ANCHORS_AT_ONCE, n_anchors), dtype=np.int32)
        paths = csgraph.dijkstra(graph, directed=True, indices=anchors[columns], limit=limit)
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
    return best, which, np.where(alone, nearest, radius).astype(np.float32)
