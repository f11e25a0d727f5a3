"""Tasks of a distributed cost: functions of one chunk of rows, run where the chunk lies, and sums of their results."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.cost.blocks import Carried, LogSums, marginal_change
from neurobridge.bridge.cost.distances import AnchorDistances
from neurobridge.bridge.cost.factors import column_sums
from neurobridge.bridge.cost.in_memory import DenseFactor, NearestFactor, nearest_anchors
from neurobridge.points.arrays import Array, PointSource, to_tensor


class Kept(NamedTuple):
    """Distances that a worker keeps of a chunk: see `DenseFactor` and `NearestFactor`."""

    distances: np.ndarray
    columns: np.ndarray | None
    radius: np.ndarray | None

    def factor(self, n_columns: int) -> DenseFactor | NearestFactor:
        """Build the factor of these points in memory."""
        if self.columns is None or self.radius is None:
            return DenseFactor(to_torch(self.distances))
        return NearestFactor(to_torch(self.distances), to_torch(self.columns), n_columns, to_torch(self.radius))


class Measured(NamedTuple):
    """Distances of a chunk before their unit is known; ``total`` is the sum over all anchors, kept or not."""

    kept: Kept
    total: float


class Stepped(NamedTuple):
    """The result of a half step on a worker: ``log k`` of a chunk, shape (n_rows,), and what it carries to the anchors."""

    log_k: np.ndarray
    total: np.ndarray
    shift: float


def to_torch(array: np.ndarray) -> torch.Tensor:
    """Return a tensor over the same memory."""
    # What came over the wire or from disk may not be writeable, which torch does not allow.
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def measure_chunk(chunk: Array, space: AnchorDistances, k: int | None, name: str) -> Measured:
    """Measure the points of a chunk to all anchors; keep all distances, or the k smallest of each."""
    points = PointSource(to_tensor(chunk, name=name), name)
    n, n_columns = points.shape[0], len(space.anchors)
    if k is not None:
        near, mean = nearest_anchors(points, space, k)
        kept = Kept(near.distances.numpy(), near.index.numpy(), near.radius.numpy())
        return Measured(kept, mean * n * n_columns)
    distances = torch.empty((n, n_columns), dtype=space.anchors.dtype)
    for rows, block in points.blocks(max(points.shape)):
        distances[rows] = space.of(block)
    return Measured(Kept(distances.numpy(), None, None), float(distances.sum(dtype=torch.float64)))


def in_units(measured: Measured, unit: float) -> Kept:
    """Divide the distances by their unit."""
    distances, columns, radius = measured.kept
    scaled = (to_torch(distances) / unit).numpy()
    return Kept(scaled, columns, None if radius is None else (to_torch(radius) / unit).numpy())


def total_and_reach(measured: Measured) -> tuple[float, float]:
    """Return the sum of all distances, and the smallest radius below which none was left out."""
    radius = measured.kept.radius
    return measured.total, math.inf if radius is None else float(radius.min())


def add_totals_and_reaches(parts: list[tuple[float, float]]) -> tuple[float, float]:
    """Add the sums, take the smallest radius."""
    return sum(part[0] for part in parts), min(part[1] for part in parts)


def take_rows(kept: Kept, rows: slice | np.ndarray) -> Kept:
    """Return what is kept of some points."""
    columns, radius = (None if part is None else part[rows] for part in kept[1:])
    return Kept(kept.distances[rows], columns, radius)


def place_beside(_: Kept, values: np.ndarray) -> np.ndarray:
    """Return the values: a task that depends on the distances, so that it runs where they lie."""
    return values


def half_step(kept: Kept, column: np.ndarray, mass: np.ndarray, damping: float, epsilon: float) -> Stepped:
    """Update the scaling of the points of a chunk: `Factor.step`."""
    log_k, carried = kept.factor(len(column)).step(to_torch(column), to_torch(mass), damping, epsilon)
    return Stepped(log_k.numpy(), carried.total.numpy(), carried.shift)


def _log_k(state: Stepped | np.ndarray | None, shift: float, n_rows: int) -> torch.Tensor:
    if state is None:
        return torch.full((n_rows,), shift, dtype=torch.float64)
    return to_torch(state.log_k if isinstance(state, Stepped) else state) + shift


def carry_to_anchors(
    new: Stepped, old: Stepped | np.ndarray | None, shift: float, mass: np.ndarray, damping: float
) -> tuple[np.ndarray, float, float]:
    """Return what a half step carries to the anchors, and the change it made to the marginal."""
    error = marginal_change(to_torch(mass), to_torch(new.log_k), _log_k(old, shift, len(mass)), damping)
    return new.total, new.shift, error


def add_carried(parts: list[tuple[np.ndarray, float, float]]) -> tuple[np.ndarray, float, float]:
    """Add what several chunks carry, and the changes they made."""
    whole = Carried(to_torch(parts[0][0]), parts[0][1])
    for total, shift, _ in parts[1:]:
        whole = whole.plus(Carried(to_torch(total), shift))
    return whole.total.numpy(), whole.shift, sum(part[2] for part in parts)


def sum_by_column(kept: Kept, log_point: np.ndarray, epsilon: float, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum over the points of a chunk by column, in the log domain: peak and total."""
    values = to_torch(log_point)
    sums = column_sums(kept.factor(n_columns), lambda rows: values[rows], epsilon)
    return sums.peak.numpy(), sums.total.numpy()


def sum_again(
    kept: Kept, new: Stepped, mass: np.ndarray, damping: float, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sum what a half step carries once more, in the log domain."""
    return sum_by_column(kept, np.log(mass) - damping * new.log_k, epsilon, len(new.total))


def add_sums(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Add sums in the log domain."""
    whole = LogSums(*map(to_torch, parts[0]))
    for part in parts[1:]:
        whole = whole.plus(LogSums(*map(to_torch, part)))
    return whole.peak.numpy(), whole.total.numpy()


def log_total(mass: np.ndarray, power: float, state: Stepped | np.ndarray | None, shift: float) -> float:
    """Return ``log sum_i a_i k_i^power`` of a chunk."""
    return float(torch.logsumexp(to_torch(mass).log() + power * _log_k(state, shift, len(mass)), 0))


def add_log_totals(parts: list[float]) -> float:
    """Add numbers given by their logarithms."""
    return float(np.logaddexp.reduce(parts))


def whole_log_k(state: Stepped | np.ndarray | None, shift: float, n_rows: int) -> np.ndarray:
    """Return ``log k`` of a chunk."""
    return _log_k(state, shift, n_rows).numpy()


def to_points(kept: Kept, column: np.ndarray, epsilon: float) -> np.ndarray:
    """Return ``log sum_p w_p exp(-D_ip / eps + log_anchor_p)`` of the points of a chunk: `Factor.to_points`."""
    return kept.factor(len(column)).to_points(to_torch(column), epsilon).numpy()
