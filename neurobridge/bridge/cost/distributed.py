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

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import dask
import numpy as np
import torch

from neurobridge.bridge.cost.blocks import Block, Carried, LogSums, marginal_change
from neurobridge.bridge.cost.distances import AnchorDistances, positive_unit
from neurobridge.bridge.cost.factors import _BLOCK, DenseFactor, Factor, HalfStep, NearestFactor, column_sums
from neurobridge.bridge.cost.geometry import Scale
from neurobridge.bridge.cost.measure import nearest_anchors, streamed_unit
from neurobridge.bridge.cost.metrics import Metric
from neurobridge.points.arrays import Array, PointSource, row_blocks, to_tensor

# Partial sums added up by one task.
_FAN_IN = 8

Task = Any  # dask.delayed.Delayed


def check_distributed(left: PointSource, right: PointSource, metrics: Sequence[Metric], stream: bool) -> None:
    """Refuse what cannot be computed a chunk at a time.

    Raises
    ------
    ImportError
        The package ``distributed`` is missing.
    ValueError
        Points that are no dask arrays or whose chunks have no known size, distances that need more than two points, or options
        that exclude each other.
    """
    if importlib.util.find_spec("distributed") is None:
        raise ImportError(
            "found distributed=True and no package distributed; expected it. Mend: pip install 'neurobridge[distributed]'."
        )
    for points in (left, right):
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
        if points.device is not None and torch.device(points.device).type != "cpu":
            raise ValueError(
                f"found device={points.device!r} with distributed=True; expected None, since workers compute where they are. "
                "Mend: device=None."
            )
    names = {metric for metric in metrics if isinstance(metric, str)}
    if stream or names & {"geodesic", "precomputed"}:
        raise ValueError(
            f"found distributed=True with stream={stream}, metric={tuple(metrics)!r}; expected stream=False and distances that can "
            "be computed from two points alone. Mend: metric='euclidean', or distributed=False."
        )


class Kept(NamedTuple):
    """What a worker keeps of a chunk: see `DenseFactor` and `NearestFactor`."""

    distances: np.ndarray
    columns: np.ndarray | None
    radius: np.ndarray | None

    def factor(self, n_columns: int) -> DenseFactor | NearestFactor:
        """The ordinary factor of these points."""
        if self.columns is None or self.radius is None:
            return DenseFactor(_tensor(self.distances))
        return NearestFactor(_tensor(self.distances), _tensor(self.columns), n_columns, _tensor(self.radius))


class Measured(NamedTuple):
    """Distances of a chunk before their unit is known; ``total`` is the sum over all anchors, kept or not."""

    kept: Kept
    total: float


class Stepped(NamedTuple):
    """What a half step leaves on a worker: ``log k`` of a chunk, shape (n_rows,), and what it carries to the anchors."""

    log_k: np.ndarray
    total: np.ndarray
    shift: float


@dataclass(frozen=True, eq=False)
class ChunkedState:
    """``log k`` of all points: of each chunk a task that gives it, or None for zeros; plus a constant."""

    parts: tuple[Task | None, ...]
    shift: float = 0.0


def _tensor(array: np.ndarray) -> torch.Tensor:
    # What came over the wire or from disk may not be writeable, which torch does not allow.
    return torch.from_numpy(array if array.flags.writeable else array.copy())


# Tasks: functions of one chunk.


def _measure(chunk: Array, space: AnchorDistances, k: int | None, name: str) -> Measured:
    points = PointSource(to_tensor(np.asarray(chunk), name=name), name)
    n, n_columns = points.shape[0], len(space.anchors)
    if k is not None:
        near, mean = nearest_anchors(points, space, k)
        kept = Kept(near.distances.numpy(), near.index.numpy(), near.radius.numpy())
        return Measured(kept, mean * n * n_columns)
    distances = torch.empty((n, n_columns), dtype=space.anchors.dtype)
    for rows, block in points.blocks(max(points.shape)):
        distances[rows] = space.of(block)
    return Measured(Kept(distances.numpy(), None, None), float(distances.sum(dtype=torch.float64)))


def _scale(measured: Measured, unit: float) -> Kept:
    distances, columns, radius = measured.kept
    scaled = (_tensor(distances) / unit).numpy()
    return Kept(scaled, columns, None if radius is None else (_tensor(radius) / unit).numpy())


def _facts(measured: Measured) -> tuple[float, float]:
    radius = measured.kept.radius
    return measured.total, math.inf if radius is None else float(radius.min())


def _add_facts(parts: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(part[0] for part in parts), min(part[1] for part in parts)


def _some(kept: Kept, rows: slice | np.ndarray) -> Kept:
    columns, radius = (None if part is None else part[rows] for part in kept[1:])
    return Kept(kept.distances[rows], columns, radius)


def _beside(_: Kept, values: np.ndarray) -> np.ndarray:
    # Depends on the distances so that it runs where they lie.
    return values


def _step(kept: Kept, column: np.ndarray, mass: np.ndarray, damping: float, epsilon: float) -> Stepped:
    log_k, carried = kept.factor(len(column)).step(_tensor(column), _tensor(mass), damping, epsilon)
    return Stepped(log_k.numpy(), carried.total.numpy(), carried.shift)


def _log_k(state: Stepped | np.ndarray | None, shift: float, n_rows: int) -> torch.Tensor:
    if state is None:
        return torch.full((n_rows,), shift, dtype=torch.float64)
    return _tensor(state.log_k if isinstance(state, Stepped) else state) + shift


def _carry(
    new: Stepped, old: Stepped | np.ndarray | None, shift: float, mass: np.ndarray, damping: float
) -> tuple[np.ndarray, float, float]:
    error = marginal_change(_tensor(mass), _tensor(new.log_k), _log_k(old, shift, len(mass)), damping)
    return new.total, new.shift, error


def _add_carried(parts: list[tuple[np.ndarray, float, float]]) -> tuple[np.ndarray, float, float]:
    whole = Carried(_tensor(parts[0][0]), parts[0][1])
    for total, shift, _ in parts[1:]:
        whole = whole.plus(Carried(_tensor(total), shift))
    return whole.total.numpy(), whole.shift, sum(part[2] for part in parts)


def _sum_logs(kept: Kept, log_point: np.ndarray, epsilon: float, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    values = _tensor(log_point)
    sums = column_sums(kept.factor(n_columns), lambda rows: values[rows], epsilon)
    return sums.peak.numpy(), sums.total.numpy()


def _sum_again(
    kept: Kept, new: Stepped, mass: np.ndarray, damping: float, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    return _sum_logs(kept, np.log(mass) - damping * new.log_k, epsilon, len(new.total))


def _add_logs(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    whole = LogSums(*map(_tensor, parts[0]))
    for part in parts[1:]:
        whole = whole.plus(LogSums(*map(_tensor, part)))
    return whole.peak.numpy(), whole.total.numpy()


def _total(mass: np.ndarray, power: float, state: Stepped | np.ndarray | None, shift: float) -> float:
    return float(torch.logsumexp(_tensor(mass).log() + power * _log_k(state, shift, len(mass)), 0))


def _add_totals(parts: list[float]) -> float:
    return float(np.logaddexp.reduce(parts))


def _whole_log_k(state: Stepped | np.ndarray | None, shift: float, n_rows: int) -> np.ndarray:
    return _log_k(state, shift, n_rows).numpy()


def _points(kept: Kept, column: np.ndarray, epsilon: float) -> np.ndarray:
    return kept.factor(len(column)).to_points(_tensor(column), epsilon).numpy()


# The client's side. All that moves between client and workers goes through these two.


def _task(function: Callable[..., Any], *inputs: Any) -> Task:
    return dask.delayed(function, pure=False, traverse=False)(*inputs)


def _persist(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Have tasks run, their results kept where they were computed."""
    return tuple(dask.persist(*tasks))


def _compute(tasks: Sequence[Task]) -> tuple[Any, ...]:
    """Bring results of tasks to the client."""
    return dask.compute(*tasks)


def _added(parts: Sequence[Task], add: Callable[[list[Any]], Any]) -> Any:
    """Add partial results on the workers, in groups, and bring the one sum here."""
    parts = list(parts)
    while len(parts) > 1:
        parts = [_task(add, parts[start : start + _FAN_IN]) for start in range(0, len(parts), _FAN_IN)]
    return _compute(parts)[0]


def spread(
    points: PointSource, space: AnchorDistances, k: int | None, scale: Scale
) -> tuple[AnchorDistances, DistributedFactor]:
    """Have the workers measure their chunks.

    Parameters
    ----------
    points : PointSource
        Of a dask array of shape (n_points, n_dims).
    space : AnchorDistances
        Of unit 1, with the anchors in memory.
    k : int or None
        Nearest anchors to keep of each point; None keeps all.
    scale : {"mean", "median", "none"}

    Returns
    -------
    AnchorDistances
        With its unit.
    DistributedFactor
    """
    array = points.data.rechunk({1: -1})
    chunks = [(int(n), chunk) for n, chunk in zip(array.chunks[0], array.to_delayed().ravel(), strict=True) if n]
    # Once in the graph, not once a task.
    sent = dask.delayed(space, pure=False, traverse=False)
    measured = _persist([_task(_measure, chunk, sent, k, points.name) for _, chunk in chunks])
    total, radius = _added([_task(_facts, part) for part in measured], _add_facts)
    n, n_columns = points.shape[0], len(space.anchors)
    unit = positive_unit(total / (n * n_columns), scale) if scale == "mean" else streamed_unit(points, space, scale)
    parts = _persist([_task(_scale, part, unit) for part in measured])
    sizes = tuple(size for size, _ in chunks)
    return replace(space, unit=unit), DistributedFactor(parts, sizes, n_columns, k, radius / unit)


@dataclass(frozen=True, eq=False)
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
            for rows in row_blocks(size, self.k or self.n_all, budget=_BLOCK):
                (kept,) = _compute([_task(_some, part, rows)])
                yield slice(start + rows.start, start + rows.stop), _block(kept)
            start += size

    def take(self, index: torch.Tensor | slice) -> Block:
        """Some rows, brought to the client."""
        return _block(self._fetch(index))

    def subset(self, index: torch.Tensor) -> Factor:
        """The factor of some of the points: on the workers where the index rises, else brought to the client."""
        rows = index.cpu().numpy()
        if not (np.diff(rows) > 0).all() or rows[0] < 0:
            return replace(self._fetch(index).factor(self.n_all), group=self.group, log_weight=self.log_weight)
        chosen = [(part, local) for part, local, _ in self._by_chunk(rows)]
        parts = _persist([_task(_some, part, local) for part, local in chosen])
        return replace(self, parts=parts, sizes=tuple(len(local) for _, local in chosen))

    def place(self, values: torch.Tensor) -> tuple[Task, ...]:
        """Bring one value a point, shape (n_points,), beside the distances."""
        pieces = values.double().cpu().numpy()
        # One call a chunk, as a graph should not hold much data; each piece a copy, not a view of the whole.
        return tuple(
            _persist([_task(_beside, part, pieces[rows].copy())])[0]
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
        totals = [_task(_total, m, power, part, state.shift) for m, part in zip(mass, state.parts, strict=True)]
        return torch.tensor(_added(totals, _add_totals), dtype=torch.float64)

    def log_k(self, state: ChunkedState) -> torch.Tensor:
        """``log k`` of a state, brought to the client: shape (n_points,), float64."""
        found = _compute(
            [_task(_whole_log_k, part, state.shift, size) for part, size in zip(state.parts, self.sizes, strict=True)]
        )
        return torch.from_numpy(np.concatenate(found))

    def half_step(
        self, log_anchor: torch.Tensor, mass: tuple[Task, ...], damping: float, epsilon: float, state: ChunkedState
    ) -> HalfStep:
        """Update the scaling of these points, and carry it to the anchors: `Factor.half_step`, a task a chunk."""
        column = self.to_columns(log_anchor)
        sent = column.numpy()
        new = _persist(
            [_task(_step, part, sent, m, damping, epsilon) for part, m in zip(self.parts, mass, strict=True)]
        )
        carried = [
            _task(_carry, step, old, state.shift, m, damping)
            for step, old, m in zip(new, state.parts, mass, strict=True)
        ]
        total, shift, error = _added(carried, _add_carried)

        def exact() -> LogSums:
            again = [
                _task(_sum_again, part, step, m, damping, epsilon)
                for part, step, m in zip(self.parts, new, mass, strict=True)
            ]
            return LogSums(*map(_tensor, _added(again, _add_logs)))

        return self.finished(column, Carried(_tensor(total), shift), error, ChunkedState(new), exact)

    def to_points(self, log_anchor: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_p w_p exp(-D_ip / eps + log_anchor_p)``, shape (n_points,), float64."""
        column = self.to_columns(log_anchor).numpy()
        found = _compute([_task(_points, part, column, epsilon) for part in self.parts])
        return torch.from_numpy(np.concatenate(found))

    def log_sums(self, log_point: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_i exp(-D_ic / eps + log_point_i)`` by column, shape (n_columns,), float64."""
        sums = [
            _task(_sum_logs, part, values, epsilon, self.n_all)
            for part, values in zip(self.parts, self.place(log_point), strict=True)
        ]
        return LogSums(*map(_tensor, _added(sums, _add_logs))).log()

    def _slices(self) -> list[slice]:
        stops = np.cumsum(self.sizes).tolist()
        return [slice(stop - size, stop) for stop, size in zip(stops, self.sizes, strict=True)]

    def _by_chunk(self, rows: np.ndarray) -> list[tuple[Task, np.ndarray, np.ndarray]]:
        """Chunks that hold some of the rows: the chunk, the rows within it, and their places among those asked for."""
        home = np.searchsorted(np.cumsum(self.sizes), rows, side="right")
        places = [(c, np.flatnonzero(home == c)) for c in np.unique(home)]
        starts = [piece.start for piece in self._slices()]
        return [(self.parts[c], rows[place] - starts[c], place) for c, place in places]

    def _fetch(self, index: torch.Tensor | slice) -> Kept:
        rows = np.arange(self.n_points)[index] if isinstance(index, slice) else index.cpu().numpy() % self.n_points
        chosen = self._by_chunk(rows)
        found = _compute([_task(_some, part, local) for part, local, _ in chosen])
        if not found:
            return _compute([_task(_some, self.parts[0], slice(0))])[0]
        order = np.argsort(np.concatenate([place for _, _, place in chosen]))
        distances, columns, radius = (
            None if side[0] is None else np.concatenate(side)[order] for side in zip(*found, strict=True)
        )
        assert distances is not None
        return Kept(distances, columns, radius)


def _block(kept: Kept) -> Block:
    return Block(_tensor(kept.distances), None if kept.columns is None else _tensor(kept.columns))
