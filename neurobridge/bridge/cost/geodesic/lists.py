"""Lists of nearest neighbours of all points of a cloud, nearly all of them right: what share of them is measured and returned."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.cost.geodesic.cells import CellIndex
from neurobridge.bridge.cost.geodesic.kernels import compiled, has_numba, join, over_rows, reversed_links, warn_slow
from neurobridge.points.arrays import row_blocks

#: Share of the true nearest neighbours that lists should hold.
RECALL = 0.95
# Lists that joins start from may hold less: what is missing is among the neighbours of those that are there.
_RECALL_BEFORE_JOINS = 0.5
# Cells that a point looks through, of which the least is taken that gives the recall; the last without joins alone.
_PROBES = (4, 8, 16, 32, 64, 128)
_MOST_JOINS = 5
# Points whose neighbours are found exactly, to know the recall.
_TRIED = 256
# No warning without numba below this many points.
_SLOW_ABOVE = 20_000


class Lists(NamedTuple):
    """Nearest neighbours of all points, by places in ``order``.

    Attributes
    ----------
    neighbor : int32 array of shape (n_points, k)
        Places of the k nearest others of each place.
    length : float32 array of shape (n_points, k)
        Euclidean lengths in units of ``unit``, rising.
    order : int64 array of shape (n_points,)
        Row of each place; near points have near places.
    unit : float
    recall : float
        Share of the true k nearest that the lists hold, of a sample of points.
    """

    neighbor: np.ndarray
    length: np.ndarray
    order: np.ndarray
    unit: float
    recall: float


def neighbor_lists(X: torch.Tensor, k: int) -> Lists:
    """List the k nearest others of every point: cells first, then joins of the lists until few neighbours are missing.

    1. Each point looks through the cells around it. How many cells is chosen on a sample of points by the recall.
    2. Each list is joined with those of its members, and of the points that have it in theirs (NN-descent), until the recall
       on the sample is .95. Where it stays below, lists of twice the length, from four times the cells, are joined instead.
       Joins take numba; without it, more cells are looked through.

    Parameters
    ----------
    X : tensor of shape (n_points, n_dims)
    k : int

    References
    ----------
    Dong, Moses & Li 2011, *Efficient k-nearest neighbor graph construction for generic similarity measures* (NN-descent).
    """
    joins = has_numba()
    if not joins and len(X) > _SLOW_ABOVE:
        warn_slow(f"a neighbour graph of {len(X)} points")
    cells = CellIndex.of(X)
    truth = _Truth.of(cells, k)
    recall = RECALL
    if joins:
        recall = _RECALL_BEFORE_JOINS
    n_probes = truth.probes(cells, _PROBES[: -1 if joins else None], recall)
    index, squares = _searched(cells, k, n_probes, truth, joins)
    if joins and truth.recall(squares) < RECALL:
        index, squares = _searched(cells, 2 * k, min(4 * n_probes, _PROBES[-2]), truth, joins)
    index, squares = index[:, :k].copy(), squares[:, :k].copy()
    return Lists(index, np.sqrt(squares), cells.order.cpu().numpy(), cells.unit, truth.recall(squares))


def _searched(cells: CellIndex, k: int, n_probes: int, truth: _Truth, joins: bool) -> tuple[np.ndarray, np.ndarray]:
    """Search lists of k places and squared lengths, and join them."""
    n = len(cells.points)
    index, squares = np.empty((n, k), dtype=np.int32), np.empty((n, k), dtype=np.float32)
    for rows, places in cells.all_points(k=k + 1, n_probes=n_probes):
        index[rows], squares[rows] = _measured(cells.points, rows, places)
    # A cell with fewer points than a list is filled up at infinity.
    index[np.isinf(squares)] = -1
    return _joined_lists(cells.points, index, squares, truth) if joins else (index, squares)


class _Truth(NamedTuple):
    """The squared distance of the k-th nearest other of some places."""

    places: np.ndarray
    limit: np.ndarray
    k: int

    @classmethod
    def of(cls, cells: CellIndex, k: int) -> _Truth:
        n = len(cells.points)
        places = np.unique(np.linspace(0, n - 1, min(n, _TRIED)).astype(np.int64))
        queries = cells.points[torch.as_tensor(places, device=cells.points.device)]
        best = torch.full((len(places), k), torch.inf, device=queries.device)
        for rows in row_blocks(n, len(places), budget=1 << 22):
            squares = torch.cdist(queries, cells.points[rows], compute_mode="use_mm_for_euclid_dist") ** 2
            inside = np.flatnonzero((places >= rows.start) & (places < rows.stop))
            squares[inside, places[inside] - rows.start] = torch.inf
            best = torch.cat([best, squares.topk(min(k, squares.shape[1]), dim=1, largest=False).values], dim=1)
            best = best.topk(k, dim=1, largest=False, sorted=True).values
        # A matrix product rounds: what is a little farther is as near.
        scale = (queries**2).sum(dim=1)
        return cls(places, (best[:, -1] * (1 + 1e-5) + 1e-6 * scale).cpu().numpy(), k)

    def recall(self, squares: np.ndarray) -> float:
        """Return the share of the k nearest that lists hold, by the squared lengths (n_points, k) of all points."""
        return float((squares[self.places, : self.k] <= self.limit[:, None]).mean())

    def probes(self, cells: CellIndex, numbers: tuple[int, ...], recall: float) -> int:
        """Return the first number of cells that gives a recall, or the last."""
        chosen = torch.as_tensor(self.places, device=cells.points.device)
        queries = cells.points[chosen]
        number = np.searchsorted(cells.starts, self.places, side="right") - 1
        cell = torch.as_tensor(number, device=queries.device)
        for n_probes in numbers:
            places = cells.search(queries, k=self.k + 1, n_probes=n_probes, cell=cell)[1]
            lengths = (queries[:, None] - cells.points[places.long()]).norm(dim=2)
            lengths[places == chosen[:, None]] = torch.inf
            near = lengths.sort(dim=1).values[:, : self.k].cpu().numpy() ** 2
            if (near <= self.limit[:, None]).mean() >= recall:
                break
        return n_probes


def _measured(points: torch.Tensor, rows: slice, places: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest others among candidates that hold the point itself, (n_rows, k + 1): places, and squared lengths."""
    n_rows, width = places.shape
    squares = torch.empty(places.shape, device=points.device)
    for part in row_blocks(n_rows, width * points.shape[1], budget=1 << 22):
        here = points[rows.start + part.start : rows.start + part.stop]
        squares[part] = ((here[:, None] - points[places[part].long()]) ** 2).sum(dim=2)
    own = torch.arange(rows.start, rows.stop, device=points.device)[:, None]
    squares[places == own] = torch.inf
    squares, order = squares.sort(dim=1)
    return places.gather(1, order)[:, :-1].cpu().numpy(), squares[:, :-1].cpu().numpy()


def _joined_lists(
    points: torch.Tensor, index: np.ndarray, squares: np.ndarray, truth: _Truth
) -> tuple[np.ndarray, np.ndarray]:
    coordinates = np.ascontiguousarray(points.cpu().numpy())
    n, k = index.shape
    fresh = np.ones((n, k), dtype=np.uint8)
    back, count = np.empty((n, k), dtype=np.int32), np.empty(n, dtype=np.int32)
    for _ in range(_MOST_JOINS):
        if truth.recall(squares) >= RECALL:
            break
        compiled(reversed_links)(index, back, count, 0, n)
        new_index, new_fresh = index.copy(), np.zeros_like(fresh)
        added = over_rows(join, n, coordinates, index, fresh, back, count, new_index, squares, new_fresh)
        index, fresh = new_index, new_fresh
        if sum(added) < 0.001 * n * k:
            break
    return index, squares
