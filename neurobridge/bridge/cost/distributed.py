"""A factor whose distances live on the workers of dask, a task a row chunk.

The points never leave the workers, nor do distances, scalings or anything else with a value a point while a solver runs. A half
step sends each chunk a vector over anchors and brings one back, added up on the way in groups of `_FAN_IN`, so that the client
sees a single vector whatever the number of chunks.

A worker may die at any time. What is kept of a chunk is known to dask as a task on the chunk of the array, and is computed again
from it. ``log k`` of a half step stays on the workers for the next one to compare with; it depends on the distances and on the
vector its own step was sent, never on the step before, so nothing has to be replayed. (An array that was scattered or persisted
by hand is only as safe as it is itself.)

Whatever scheduler is active runs the tasks: the client of ``dask.distributed``, or threads of this process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch

from neurobridge.bridge.cost import tasks
from neurobridge.bridge.cost.blocks import Block, Carried, LogSums
from neurobridge.bridge.cost.distances import AnchorDistances, Anchors, positive_unit, streamed_unit
from neurobridge.bridge.cost.factors import BLOCK_ELEMENTS, Factor, HalfStep
from neurobridge.bridge.cost.metrics import Geometry
from neurobridge.points.arrays import PointSource, row_blocks
from neurobridge.points.display import Displayed
from neurobridge.points.workers import n_worker_threads, require_distributed, require_workers_device

# Partial sums added up by one task.
_FAN_IN = 8
# Chunks are joined until each thread has so many, and bytes of points that they may have then.
_CHUNKS_A_THREAD, _MOST_BYTES = 2, 1 << 28

Task = Any  # dask.delayed.Delayed


def check_distributed(sides: Sequence[PointSource], geometry: Geometry, stream: bool) -> None:
    """Refuse what cannot be computed a chunk at a time.

    Raises
    ------
    ImportError
        The package ``distributed`` is missing.
    ValueError
        Points that are no dask arrays or whose chunks have no known size, distances that need more than two points, or options
        that exclude each other.
    """
    require_distributed()
    for points in sides:
        require_workers_device(points.device)
    # A graph needs all points in one memory: each side is a job of its own.
    if geometry.is_graph and not stream:
        return
    for points in sides:
        if not hasattr(points.data, "__dask_graph__"):
            raise ValueError(
                f"{points.name}: found {type(points.data).__name__} with distributed=True; expected a dask array, whose row "
                "chunks go to the workers. Mend: dask.array.from_array(array, chunks=(100_000, -1)), or distributed=False."
            )
        if any(math.isnan(size) for chunks in points.data.chunks for size in chunks):
            raise ValueError(
                f"{points.name}: found a dask array whose chunks have no known size; expected known sizes. "
                "Mend: array.compute_chunk_sizes()."
            )
    if stream or geometry.needs_all_points:
        raise ValueError(
            f"found distributed=True with stream={stream}, metric={geometry.metrics!r}; expected stream=False and distances "
            "that workers can measure. Mend: metric='euclidean' or 'geodesic', or distributed=False."
        )


@dataclass(frozen=True, eq=False, repr=False)
class ChunkedState(Displayed):
    """``log k`` of all points: of each chunk a task that gives it, or None for zeros; plus a constant."""

    parts: tuple[Task | None, ...]
    shift: float = 0.0

    def _facts(self) -> dict[str, Any]:
        return {"chunks": f"{len(self.parts)} chunks", "shift": self.shift}


# The client's side. All that moves between client and workers goes through these two.


def _dask() -> ModuleType:
    # Half a second that only distributed=True has to pay.
    import dask

    return dask


def _task(function: Callable[..., Any], *inputs: Any) -> Task:
    return _dask().delayed(function, pure=False, traverse=False)(*inputs)


def _sent(value: Any) -> Task:
    """Put a value into the graph once, for all tasks that take it."""
    return _dask().delayed(value, pure=False, traverse=False)


def _persist(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Have tasks run, their results kept where they were computed."""
    return tuple(_dask().persist(*tasks))


def _compute(tasks: Sequence[Task]) -> tuple[Any, ...]:
    """Bring results of tasks to the client."""
    return _dask().compute(*tasks)


def _added(parts: Sequence[Task], add: Callable[[list[Any]], Any]) -> Any:
    """Add partial results on the workers, in groups, and bring the one sum here."""
    parts = list(parts)
    while len(parts) > 1:
        parts = [_task(add, parts[start : start + _FAN_IN]) for start in range(0, len(parts), _FAN_IN)]
    return _compute(parts)[0]


def joined(sizes: Sequence[int], n_bytes: float) -> tuple[int, ...]:
    """Join neighbouring chunks, so that every thread of the workers has about two, of at most 256 MB of points.

    A task costs a millisecond or two wherever it runs, so that many small chunks take longer than the work on them. Chunks stay as
    they are where no client is active.

    Parameters
    ----------
    sizes : sequence of int
        Rows of each chunk.
    n_bytes : float
        Of all points.

    Returns
    -------
    tuple of int
        Each the sum of neighbours.
    """
    n_threads = n_worker_threads()
    if not n_threads:
        return tuple(sizes)
    n_wanted = max(_CHUNKS_A_THREAD * n_threads, math.ceil(n_bytes / _MOST_BYTES))
    # A chunk belongs to the share of the rows that its middle lies in.
    middles = np.cumsum(sizes) - np.asarray(sizes) / 2
    shares = np.floor(middles / sum(sizes) * n_wanted)
    return tuple(int(np.asarray(sizes)[shares == share].sum()) for share in np.unique(shares))


@dataclass(frozen=True, eq=False, repr=False)
class DistributedFactor(Factor):
    """Distances kept by the workers of dask: all anchors, or the nearest k of each point.

    Memory: a worker holds what `DenseFactor` or `NearestFactor` would of its chunks, three float64 values a point, and the
    temporaries of the chunk it works on, which are a block of it. The client holds vectors over anchors while a solver runs, and
    a block of distances at a time when a plan reads them.

    Attributes
    ----------
    parts : tuple of dask.delayed.Delayed
        `Kept` of each chunk, persisted.
    sizes : tuple of int
        Points in each chunk.
    n_all : int
        Number of different anchor points.
    k : int or None
        Anchors kept of each point; None is all of them.
    radius : float
        Scaled distance below which no anchor was left out; infinite if none was.
    """

    parts: tuple[Task, ...]
    sizes: tuple[int, ...]
    n_all: int
    k: int | None
    radius: float
    group: torch.Tensor | None = None
    log_weight: torch.Tensor | None = None

    @classmethod
    def measure(
        cls, points: PointSource, anchors: Anchors, geometry: Geometry, *, nearest: int | None = None
    ) -> tuple[AnchorDistances, DistributedFactor]:
        """Have the workers measure their chunks.

        Parameters
        ----------
        points : PointSource
            Of a dask array of shape (n_points, n_dims).
        anchors : Anchors
        geometry : Geometry
            Of one space.
        nearest : int, optional
            Anchors to keep of each point; None keeps all.

        Returns
        -------
        AnchorDistances
        DistributedFactor
        """
        space, n, n_columns = AnchorDistances.unscaled(points, anchors, geometry), points.shape[0], len(anchors.columns)
        k = None if nearest is None else min(nearest, n_columns)
        array = points.data.rechunk({1: -1})
        array = array.rechunk({0: joined(array.chunks[0], n * array.shape[1] * array.dtype.itemsize)})
        chunks = [
            (int(size), chunk) for size, chunk in zip(array.chunks[0], array.to_delayed().ravel(), strict=True) if size
        ]
        # Once in the graph, not once a task.
        sent = _sent(space)
        measured = _persist([_task(tasks.measure_chunk, chunk, sent, k, points.name) for _, chunk in chunks])
        total, radius = _added([_task(tasks.total_and_reach, part) for part in measured], tasks.add_totals_and_reaches)
        mean = total / (n * n_columns)
        unit = positive_unit(mean, "mean") if geometry.scale == "mean" else streamed_unit(points, space, geometry.scale)
        parts = _persist([_task(tasks.in_units, part, unit) for part in measured])
        sizes = tuple(size for size, _ in chunks)
        return space.scaled(unit, anchors), cls(parts, sizes, n_columns, k, radius / unit, anchors.group)

    @property
    def holding(self) -> str:
        """Which distances are held, in a few words."""
        nearest = "all distances" if self.k is None else f"{self.k} nearest anchors"
        return f"{nearest} in {len(self.parts)} chunks"

    @property
    def n_points(self) -> int:
        """Number of points n."""
        return sum(self.sizes)

    @property
    def n_columns(self) -> int:
        """Number of different anchor points."""
        return self.n_all

    @property
    def device(self) -> torch.device:
        """Where vectors over anchors lie: the client's memory."""
        return torch.device("cpu")

    @property
    def reach(self) -> float:
        """Distance below which no anchor was left out of any point."""
        return self.radius

    def blocks(self) -> Iterator[tuple[slice, Block]]:
        """All rows, block by block, each brought to the client when its turn comes."""
        start = 0
        for part, size in zip(self.parts, self.sizes, strict=True):
            for rows in row_blocks(size, self.k or self.n_all, budget=BLOCK_ELEMENTS):
                (kept,) = _compute([_task(tasks.take_rows, part, rows)])
                yield slice(start + rows.start, start + rows.stop), _block(kept)
            start += size

    def take(self, index: torch.Tensor | slice) -> Block:
        """Bring some rows to the client."""
        return _block(self._fetch(index))

    def subset(self, index: torch.Tensor) -> Factor:
        """The factor of some of the points: on the workers where the index rises, else brought to the client."""
        rows = index.cpu().numpy()
        if not (np.diff(rows) > 0).all() or rows[0] < 0:
            return replace(self._fetch(index).factor(self.n_all), group=self.group, log_weight=self.log_weight)
        chosen = [(part, local) for part, local, _ in self._by_chunk(rows)]
        parts = _persist([_task(tasks.take_rows, part, local) for part, local in chosen])
        return replace(self, parts=parts, sizes=tuple(len(local) for _, local in chosen))

    def place(self, values: torch.Tensor) -> tuple[Task, ...]:
        """Bring one value a point, shape (n_points,), beside the distances."""
        pieces = values.double().cpu().numpy()
        # One call a chunk, as a graph should not hold much data; each piece a copy, not a view of the whole.
        return tuple(
            _persist([_task(tasks.place_beside, part, pieces[rows].copy())])[0]
            for part, rows in zip(self.parts, self._slices(), strict=True)
        )

    def start_state(self, log_k: torch.Tensor | None = None) -> ChunkedState:
        """State to start from: ``log k`` of shape (n_points,), zeros by default."""
        if log_k is None or not bool(log_k.any()):
            return ChunkedState((None,) * len(self.parts))
        return ChunkedState(self.place(log_k))

    def shift_state(self, state: ChunkedState, constant: float) -> ChunkedState:
        """Add a constant to ``log k``."""
        return replace(state, shift=state.shift + constant)

    def log_total(self, mass: tuple[Task, ...], power: float, state: ChunkedState) -> torch.Tensor:
        """``log sum_i a_i k_i^power``, a number."""
        totals = [
            _task(tasks.log_total, m, power, part, state.shift) for m, part in zip(mass, state.parts, strict=True)
        ]
        return torch.tensor(_added(totals, tasks.add_log_totals), dtype=torch.float64)

    def log_k(self, state: ChunkedState) -> torch.Tensor:
        """``log k`` of a state, brought to the client: shape (n_points,), float64."""
        parts = _compute(
            [
                _task(tasks.whole_log_k, part, state.shift, size)
                for part, size in zip(state.parts, self.sizes, strict=True)
            ]
        )
        return torch.from_numpy(np.concatenate(parts))

    def half_step(
        self, log_anchor: torch.Tensor, mass: tuple[Task, ...], damping: float, epsilon: float, state: ChunkedState
    ) -> HalfStep:
        """Update the scaling of these points, and carry it to the anchors: `Factor.half_step`, a task a chunk."""
        column = self.to_columns(log_anchor)
        sent = column.numpy()
        new = _persist(
            [_task(tasks.half_step, part, sent, m, damping, epsilon) for part, m in zip(self.parts, mass, strict=True)]
        )
        carried = [
            _task(tasks.carry_to_anchors, step, old, state.shift, m, damping)
            for step, old, m in zip(new, state.parts, mass, strict=True)
        ]
        total, shift, error = _added(carried, tasks.add_carried)

        def exact() -> LogSums:
            again = [
                _task(tasks.sum_again, part, step, m, damping, epsilon)
                for part, step, m in zip(self.parts, new, mass, strict=True)
            ]
            return LogSums(*map(tasks.to_torch, _added(again, tasks.add_sums)))

        return self.finished(column, Carried(tasks.to_torch(total), shift), error, ChunkedState(new), exact)

    def to_points(self, log_anchor: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_p w_p exp(-D_ip / eps + log_anchor_p)``, shape (n_points,), float64."""
        column = self.to_columns(log_anchor).numpy()
        parts = _compute([_task(tasks.to_points, part, column, epsilon) for part in self.parts])
        return torch.from_numpy(np.concatenate(parts))

    def log_sums(self, log_point: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_i exp(-D_ic / eps + log_point_i)`` by column, shape (n_columns,), float64."""
        sums = [
            _task(tasks.sum_by_column, part, values, epsilon, self.n_all)
            for part, values in zip(self.parts, self.place(log_point), strict=True)
        ]
        return LogSums(*map(tasks.to_torch, _added(sums, tasks.add_sums))).log()

    def _slices(self) -> list[slice]:
        stops = np.cumsum(self.sizes).tolist()
        return [slice(stop - size, stop) for stop, size in zip(stops, self.sizes, strict=True)]

    def _by_chunk(self, rows: np.ndarray) -> list[tuple[Task, np.ndarray, np.ndarray]]:
        """Chunks that hold some of the rows: the chunk, the rows within it, and their places among those asked for."""
        home = np.searchsorted(np.cumsum(self.sizes), rows, side="right")
        places = [(c, np.flatnonzero(home == c)) for c in np.unique(home)]
        starts = [piece.start for piece in self._slices()]
        return [(self.parts[c], rows[place] - starts[c], place) for c, place in places]

    def _fetch(self, index: torch.Tensor | slice) -> tasks.Kept:
        rows = np.arange(self.n_points)[index] if isinstance(index, slice) else index.cpu().numpy() % self.n_points
        chosen = self._by_chunk(rows)
        pieces = _compute([_task(tasks.take_rows, part, local) for part, local, _ in chosen])
        if not pieces:
            return _compute([_task(tasks.take_rows, self.parts[0], slice(0))])[0]
        order = np.argsort(np.concatenate([place for _, _, place in chosen]))
        distances, columns, radius = (
            None if side[0] is None else np.concatenate(side)[order] for side in zip(*pieces, strict=True)
        )
        assert distances is not None
        return tasks.Kept(distances, columns, radius)


def _block(kept: tasks.Kept) -> Block:
    return Block(tasks.to_torch(kept.distances), None if kept.columns is None else tasks.to_torch(kept.columns))
