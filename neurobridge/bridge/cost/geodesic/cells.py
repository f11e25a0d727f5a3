"""Cells of near points, in which nearest neighbours are looked for: all of it products of matrices, on any device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from neurobridge.points.blocks import row_blocks

# Points of a cell, on average, and cells around each that a search chooses from.
_CELL_SIZE = 256
_NEAR_CELLS = 128
_SAMPLE_OF_A_CENTRE = 64
_STEPS = 4
# Points whose neighbours are looked for together; a cell is read once for all of them.
_TOGETHER = 1 << 18


@dataclass(frozen=True, eq=False)
class CellIndex:
    """Points of a space in the order of their cells, which are those of k-means in two levels.

    Attributes
    ----------
    points : float32 tensor of shape (n_points, n_dims)
        Less their mean, in units of ``unit``, cell after cell.
    order : int64 tensor of shape (n_points,)
        Row that each of them has in the array of the caller.
    starts : int64 array of shape (n_cells + 1,)
        First point of each cell, and their number.
    centres : float32 tensor of shape (n_cells, n_dims)
    near : int64 tensor of shape (n_cells, n_near)
        Nearest cells of each cell.
    coarse : float32 tensor of shape (n_coarse, n_dims)
        Centres of the upper level.
    near_coarse : int64 tensor of shape (n_coarse, n_near_coarse)
        Nearest cells of each of these.
    mean : tensor of shape (n_dims,)
    unit : float
        Root mean square of the coordinates of the points less their mean.
    """

    points: torch.Tensor
    order: torch.Tensor
    starts: np.ndarray
    centres: torch.Tensor
    near: torch.Tensor
    coarse: torch.Tensor
    near_coarse: torch.Tensor
    mean: torch.Tensor
    unit: float

    @classmethod
    def of(cls, X: torch.Tensor, *, seed: int = 0) -> CellIndex:
        """Cut points of shape (n_points, n_dims) into cells; the same seed gives the same cells.

        Examples
        --------
        >>> index = CellIndex.of(torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)))
        >>> distance, rows = index.search(index.points[:2], k=1, n_probes=1)
        >>> index.order[rows.long()].shape
        torch.Size([2, 1])
        """
        n, generator = len(X), torch.Generator().manual_seed(seed)
        mean = X.mean(dim=0)
        unit = _root_mean_square(X, mean)

        def some(rows: slice | torch.Tensor) -> torch.Tensor:
            return ((X[rows] - mean) / unit).float()

        n_coarse = max(1, int(math.sqrt(n / _CELL_SIZE)))
        chosen = torch.randperm(n, generator=generator)[: _SAMPLE_OF_A_CENTRE * n_coarse].to(X.device)
        coarse = _means(some(chosen), n_coarse, generator)
        label = torch.cat([_nearest(some(rows), coarse) for rows in _large_blocks(X)])
        fine = []
        for _, members in groups(label, n_coarse):
            n_cells = max(1, round(len(members) / _CELL_SIZE))
            sample = torch.randperm(len(members), generator=generator)[: _SAMPLE_OF_A_CENTRE * n_cells].to(X.device)
            fine.append(_means(some(members[sample]), n_cells, generator))
        centres = torch.cat(fine)
        near = _nearest_of(centres, centres, min(_NEAR_CELLS, len(centres)))
        near_coarse = _nearest_of(coarse, centres, min(len(centres), 4 * max(n_coarse, _NEAR_CELLS // 2)))
        upper = (coarse, near_coarse, centres, near)
        cell = torch.cat([_locate(some(rows), label[rows], *upper) for rows in _large_blocks(X)])
        del label
        order = torch.argsort(cell, stable=True)
        sizes = torch.bincount(cell, minlength=len(centres)).cpu().numpy()
        points = torch.empty(X.shape, dtype=torch.float32, device=X.device)
        for rows in _large_blocks(X):
            points[rows] = some(order[rows])
        starts, parent = _cut(sizes)
        if len(parent) > len(sizes):
            child = torch.as_tensor(parent, device=X.device)
            centres = centres[child]
            near = _nearest_of(centres, centres, min(_NEAR_CELLS, len(centres)))
            near_coarse = _nearest_of(coarse, centres, min(len(centres), near_coarse.shape[1]))
        return cls(points, order, starts, centres, near, coarse, near_coarse, mean, unit)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.centres)

    def scaled(self, X: torch.Tensor) -> torch.Tensor:
        """Bring points of the caller's to the coordinates of ``points``."""
        return ((X.to(self.mean) - self.mean) / self.unit).float()

    def search(
        self,
        queries: torch.Tensor,
        *,
        k: int,
        n_probes: int,
        cell: torch.Tensor | None = None,
        apart: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Find near points of each query in the cells around it.

        Parameters
        ----------
        queries : float32 tensor of shape (n_queries, n_dims)
            In the coordinates of ``points``.
        k : int
        n_probes : int
            Cells that are looked through for each query.
        cell : int64 tensor of shape (n_queries,), optional
            Nearest cell of each query, where it is known.
        apart : tuple of two int64 tensors of shape (n_queries,) and (n_points,), optional
            Labels of the queries and of the points: a query finds points of other labels alone.

        Returns
        -------
        distance : float32 tensor of shape (n_queries, k)
            Squared, to the rounding of a matrix product, rising; infinite where the cells hold fewer points.
        place : int32 tensor of shape (n_queries, k)
            In ``points``.
        """
        if cell is None:
            label = _nearest(queries, self.coarse)
            cell = _locate(queries, label, self.coarse, self.near_coarse, self.centres, self.near)
        n_probes = min(n_probes, self.near.shape[1])
        probed = self._probed(queries, cell, n_probes)
        distance = torch.full((len(probed), k), math.inf, device=queries.device)
        place = torch.zeros((len(probed), k), dtype=torch.int32, device=queries.device)
        for number, slot in groups(probed, self.n_cells):
            first, last = int(self.starts[number]), int(self.starts[number + 1])
            if first == last:
                continue
            squares = _relative_squares(queries[slot // n_probes], self.points[first:last])
            if apart is not None:
                squares[apart[0][slot // n_probes][:, None] == apart[1][first:last]] = math.inf
            kept = min(k, last - first)
            values, columns = squares.topk(kept, dim=1, largest=False, sorted=False)
            distance[slot, :kept], place[slot, :kept] = values, (columns + first).to(torch.int32)
        shape = len(queries), n_probes * k
        values, columns = distance.reshape(shape).topk(k, dim=1, largest=False, sorted=True)
        return values + (queries**2).sum(dim=1, keepdim=True), place.reshape(shape).gather(1, columns)

    def all_points(self, *, k: int, n_probes: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Find near points of the points themselves, which are among them, some at a time: (n_rows, k) places of `search`."""
        sizes = torch.as_tensor(np.diff(self.starts), device=self.points.device)
        cell = torch.repeat_interleave(torch.arange(self.n_cells, device=self.points.device), sizes)
        for rows in row_blocks(len(self.points), n_probes * k, budget=_TOGETHER * 44):
            yield rows, self.search(self.points[rows], k=k, n_probes=n_probes, cell=cell[rows])[1]

    def _probed(self, queries: torch.Tensor, cell: torch.Tensor, n_probes: int) -> torch.Tensor:
        probed = torch.empty((len(queries), n_probes), dtype=torch.int64, device=queries.device)
        for number, members in groups(cell, self.n_cells):
            choice = self.near[number]
            squares = _relative_squares(queries[members], self.centres[choice])
            probed[members] = choice[squares.topk(n_probes, dim=1, largest=False, sorted=False).indices]
        return probed.reshape(-1)


def groups(label: torch.Tensor, n_groups: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Give every label in use with the places that have it, which rise.

    Examples
    --------
    >>> list(groups(torch.tensor([2, 0, 2]), 3))
    [(0, tensor([1])), (2, tensor([0, 2]))]
    """
    order = torch.argsort(label, stable=True)
    stops = torch.bincount(label, minlength=n_groups).cumsum(0).tolist()
    start = 0
    for number, stop in enumerate(stops):
        if stop > start:
            yield number, order[start:stop]
        start = stop


def _large_blocks(X: torch.Tensor) -> list[slice]:
    return row_blocks(*X.shape, budget=1 << 25)


def _root_mean_square(X: torch.Tensor, mean: torch.Tensor) -> float:
    # The largest deviation first: squares of very small or large numbers leave the precision.
    peak = max(float((X[rows] - mean).abs().max()) for rows in _large_blocks(X))
    if peak == 0:
        return 1.0
    total = sum(float((((X[rows] - mean) / peak) ** 2).sum(dtype=torch.float64)) for rows in _large_blocks(X))
    return peak * math.sqrt(total / X.numel())


def _relative_squares(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """Squared distances (n, k) less the squared length of each row of A, which does not change what is nearest."""
    return torch.addmm((B**2).sum(dim=1)[None], A, B.T, alpha=-2)


def _nearest(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """Row of B nearest to each row of A, (n,)."""
    out = torch.empty(len(A), dtype=torch.int64, device=A.device)
    for rows in row_blocks(len(A), len(B), budget=1 << 22):
        out[rows] = _relative_squares(A[rows], B).argmin(dim=1)
    return out


def _nearest_of(A: torch.Tensor, B: torch.Tensor, k: int) -> torch.Tensor:
    """Rows of B nearest to each row of A, (n, k)."""
    blocks = row_blocks(len(A), len(B), budget=1 << 22)
    return torch.cat([_relative_squares(A[rows], B).topk(k, dim=1, largest=False).indices for rows in blocks])


def _means(sample: torch.Tensor, n_means: int, generator: torch.Generator) -> torch.Tensor:
    """K-means of a sample, a few steps from points of it: (n_means, n_dims)."""
    means = sample[torch.randperm(len(sample), generator=generator)[:n_means].to(sample.device)].clone()
    for _ in range(_STEPS):
        label = _nearest(sample, means)
        size = torch.bincount(label, minlength=len(means))
        total = torch.zeros_like(means).index_add_(0, label, sample)
        used = size > 0
        means[used] = total[used] / size[used, None]
    return means


def _locate(
    X: torch.Tensor,
    label: torch.Tensor,
    coarse: torch.Tensor,
    near_coarse: torch.Tensor,
    centres: torch.Tensor,
    near: torch.Tensor,
) -> torch.Tensor:
    """Nearest cell of each point, (n,): of those near its centre of the upper level, then of those near that cell."""
    cell = torch.empty_like(label)
    for number, members in groups(label, len(coarse)):
        choice = near_coarse[number]
        cell[members] = choice[_nearest(X[members], centres[choice])]
    out = torch.empty_like(cell)
    for number, members in groups(cell, len(centres)):
        choice = near[number]
        out[members] = choice[_nearest(X[members], centres[choice])]
    return out


def _cut(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut cells that are too large (of points that are the same, say) into several with one centre: starts, and old cells."""
    n_pieces = np.maximum(1, -(-sizes // (8 * _CELL_SIZE)))
    parent = np.repeat(np.arange(len(sizes)), n_pieces)
    number = np.arange(len(parent)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    share = sizes[parent], n_pieces[parent]
    piece = share[0] * (number + 1) // share[1] - share[0] * number // share[1]
    return np.concatenate([[0], np.cumsum(piece)]), parent
