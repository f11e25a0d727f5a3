"""The factors of the Gibbs kernel ``K = A B^T``: what solvers and plans need of the distances, however they are held.

Every factor is a sequence of blocks of rows; what a solver or a plan needs is a sum over them. `neurobridge.bridge.cost.in_memory`
and `neurobridge.bridge.cost.distributed` have the ways to hold the distances.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from neurobridge.bridge.cost.blocks import (
    Block,
    Carried,
    LogSums,
    column_shares,
    draw_in_columns,
    marginal_change,
    weighted_sums,
)
from neurobridge.points.arrays import row_blocks
from neurobridge.points.display import Displayed

# Elements of a block: its temporaries stay in the processor's cache.
BLOCK_ELEMENTS = 1 << 21
# Anchor masses below this share are summed again in the log domain, where nothing underflows.
_WEAK = 1e-25


class HalfStep(NamedTuple):
    """Result of one half of a Sinkhorn iteration: a vector over anchors, the error of the marginal, and ``log k``."""

    log_anchor: torch.Tensor
    error: float
    state: Any


class Factor(Displayed):
    """Scaled distances of n points to P anchors, as ``log A = -D / epsilon``.

    Attributes
    ----------
    group : int64 tensor of shape (n_anchors,), optional
        Column of each anchor, where several anchors are the same point (many images, one caption): its distances are kept once.
    log_weight : float64 tensor of shape (n_anchors,), optional
        Log of the confidence in each pair.
    """

    group: torch.Tensor | None
    log_weight: torch.Tensor | None

    @property
    @abstractmethod
    def holding(self) -> str:
        """Which distances are held, in a few words."""

    def _facts(self) -> dict[str, Any]:
        return {"points": f"{self.n_points} points", "anchors": f"{self.n_anchors} anchors", "held": self.holding}

    @property
    @abstractmethod
    def n_points(self) -> int:
        """Number of points n."""

    @property
    @abstractmethod
    def n_columns(self) -> int:
        """Number of different anchor points."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the distances lie."""

    @abstractmethod
    def blocks(self) -> Iterator[tuple[slice, Block]]:
        """All rows, block by block."""

    @abstractmethod
    def take(self, index: torch.Tensor | slice) -> Block:
        """Return some rows."""

    @abstractmethod
    def subset(self, index: torch.Tensor) -> Factor:
        """The factor of some of the points."""

    def grouped(self, group: torch.Tensor | None) -> Factor:
        """The same with several anchors a column."""
        return replace(cast(Any, self), group=group)

    def weighted(self, log_weight: torch.Tensor) -> Factor:
        """The same with a confidence in each pair."""
        return replace(cast(Any, self), log_weight=log_weight)

    @property
    def n_anchors(self) -> int:
        """Number of pairs P."""
        return self.n_columns if self.group is None else len(self.group)

    def to_columns(self, log_anchor: torch.Tensor) -> torch.Tensor:
        """Add confidence, and gather anchors that are the same point: (n_anchors,) to (n_columns,)."""
        log_anchor = log_anchor.double()
        if self.log_weight is not None:
            log_anchor = log_anchor + self.log_weight
        if self.group is None:
            return log_anchor
        peak = torch.full((self.n_columns,), -math.inf, dtype=torch.float64, device=self.device)
        peak.scatter_reduce_(0, self.group, log_anchor, "amax")
        safe = torch.nan_to_num(peak, neginf=0.0)
        total = torch.zeros_like(peak).scatter_add_(0, self.group, (log_anchor - safe[self.group]).exp())
        return safe + total.log()

    def from_columns(self, log_column: torch.Tensor) -> torch.Tensor:
        """Give every anchor its column's value, confidence included: (n_columns,) to (n_anchors,)."""
        log_anchor = log_column if self.group is None else log_column[self.group]
        return log_anchor if self.log_weight is None else log_anchor + self.log_weight

    def to_points(self, log_anchor: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_p w_p exp(-D_ip / eps + log_anchor_p)``, shape (n_points,), float64."""
        column = self.to_columns(log_anchor)
        out = torch.empty(self.n_points, dtype=torch.float64, device=self.device)
        for rows, block in self.blocks():
            out[rows] = torch.logsumexp(block.scores(column, epsilon), dim=1).double()
        return out

    def to_anchors(self, log_point: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log w_p sum_i exp(-D_ip / eps + log_point_i)``, shape (n_anchors,), float64."""
        return self.from_columns(self.log_sums(log_point, epsilon))

    def log_sums(self, log_point: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_i exp(-D_ic / eps + log_point_i)`` by column, shape (n_columns,), float64."""
        return column_sums(self, lambda rows: log_point[rows], epsilon).log()

    @property
    def reach(self) -> float:
        """Distance below which no anchor was left out of any point; infinite if none was."""
        return math.inf

    # What a solver carries between half steps has a value a point and lies where the distances lie: these methods alone look.

    def place(self, values: torch.Tensor) -> Any:
        """Bring one value a point, shape (n_points,), to where the distances lie."""
        return values

    def start_state(self, log_k: torch.Tensor | None = None) -> Any:
        """State to start from: ``log k`` of shape (n_points,), zeros by default, so that ``u = a``."""
        return torch.zeros(self.n_points, dtype=torch.float64, device=self.device) if log_k is None else log_k

    def shift_state(self, state: Any, constant: float) -> Any:
        """Add a constant to ``log k``."""
        return state + constant

    def log_total(self, mass: Any, power: float, state: Any) -> torch.Tensor:
        """``log sum_i a_i k_i^power``, a number."""
        return torch.logsumexp(mass.log() + power * state, 0)

    def log_k(self, state: Any) -> torch.Tensor:
        """``log k`` of a state, shape (n_points,), float64."""
        return state

    def half_step(self, log_anchor: torch.Tensor, mass: Any, damping: float, epsilon: float, state: Any) -> HalfStep:
        """Update the scaling of these points, and carry it to the anchors, in one pass over the blocks.

        ``log k_i = log sum_p A_ip s_p``, ``log u_i = log a_i - damping log k_i``, ``r_p = sum_i A_ip u_i``.

        The pass works with ``E_ip = A_ip s_p / max_p``, which is at most one, so no exponential overflows; anchors whose mass
        underflows all the same are summed again in the log domain.

        Parameters
        ----------
        log_anchor : tensor of shape (n_anchors,)
            ``log s``.
        mass : float64 tensor of shape (n_points,)
            Marginal a, as `place` gave it.
        damping : float
            1 for balanced transport, ``rho / (rho + eps)`` for unbalanced.
        epsilon : float
        state : float64 tensor of shape (n_points,)
            ``log k`` of the step before, or `start_state`.

        Returns
        -------
        HalfStep
            ``log r``; the L1 change that this update makes to the marginal, ``sum_i |u_i k_i - u_i(old) k_i|`` (for balanced
            transport: the error of the marginal before it); and ``log k``.
        """
        column = self.to_columns(log_anchor)
        new, carried = self.step(column, mass, damping, epsilon)
        error = marginal_change(mass, new, state, damping)
        return self.finished(
            column,
            carried,
            error,
            new,
            lambda: column_sums(self, lambda rows: mass[rows].log() - damping * new[rows], epsilon),
        )

    def step(
        self, column: torch.Tensor, mass: torch.Tensor, damping: float, epsilon: float
    ) -> tuple[torch.Tensor, Carried]:
        """``log k`` of these points, shape (n_points,), and what they carry to the columns, each times its ``exp(column)``."""
        new = torch.empty(self.n_points, dtype=torch.float64, device=self.device)
        # The weights of a block are divided by their largest; the shift carries the common scale of all blocks.
        carried = Carried(torch.zeros(self.n_columns, dtype=torch.float64, device=self.device), -math.inf)
        for rows, block in self.blocks():
            scores = block.scores(column, epsilon)
            peak = scores.amax(dim=1)
            shares = torch.sub(scores, peak[:, None], out=scores).exp_()
            sums = shares.sum(dim=1, dtype=torch.float64)
            log_k = peak.double() + sums.log()
            new[rows] = log_k
            weight = mass[rows].log() + peak.double() - damping * log_k
            top = float(weight.max())
            carried = carried.plus(Carried(weighted_sums(block, shares, (weight - top).exp(), self.n_columns), top))
        return new, carried

    def finished(
        self, column: torch.Tensor, carried: Carried, error: float, state: Any, exact: Callable[[], LogSums]
    ) -> HalfStep:
        """End a half step; ``exact`` sums again, in the log domain, what the columns receive."""
        total = carried.total
        log_column = total.log() + carried.shift - column
        weak = ~(total > _WEAK * total.max()) | ~torch.isfinite(column)
        if bool(weak.any()):
            log_column = torch.where(weak, exact().log(), log_column)
        return HalfStep(self.from_columns(log_column), error, state)

    def rows(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Distances of some points to all anchors, shape (n_rows, n_anchors), infinite where left out."""
        block = self.take(index)
        full = block.distances
        if block.columns is not None:
            full = torch.full((len(full), self.n_columns), math.inf, dtype=full.dtype, device=full.device)
            # Where fewer than k anchors are in reach the list ends with a column at infinity, which may be one of those in reach.
            full = full.scatter_reduce_(1, block.columns.long(), block.distances, "amin")
        return full if self.group is None else full[:, self.group]

    def log_kernel(self, index: torch.Tensor | slice, epsilon: float) -> torch.Tensor:
        """``log w_p A_ip`` of some points, shape (n_rows, n_anchors), float64."""
        return self.log_terms(self.rows(index), epsilon)

    def log_terms(self, distances: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log w_p A_ip`` from distances to all anchors, as `rows` returns them; shape (n_rows, n_anchors), float64."""
        scores = distances.double() / -epsilon
        return scores if self.log_weight is None else scores + self.log_weight

    def draw(
        self, anchors: np.ndarray, log_point: torch.Tensor, epsilon: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw a point for each anchor, with probability proportional to ``A_ip exp(log_point_i)``.

        Two passes: one sums the weights of every block, which decides how many points it gives; the other draws inside blocks
        from cumulative tables.

        Parameters
        ----------
        anchors : int array of shape (n_draws,)
        log_point : float64 tensor of shape (n_points,)

        Returns
        -------
        int array of shape (n_draws,)
        """
        columns = anchors if self.group is None else self.group.cpu().numpy()[anchors]
        shares = column_shares(log_point, self.log_sums(log_point, epsilon), epsilon)
        sums = [block.column_sums(shares(rows, block), self.n_columns).cpu().numpy() for rows, block in self.blocks()]
        table = np.cumsum(np.stack(sums), axis=0)
        mark = rng.random(len(columns)) * table[-1, columns]
        home = np.empty(len(columns), dtype=np.int64)
        for part in row_blocks(len(columns), len(table)):
            home[part] = (table[:, columns[part]] <= mark[part]).sum(axis=0).clip(max=len(table) - 1)
        drawn = np.empty(len(columns), dtype=np.int64)
        for number, (rows, block) in enumerate(self.blocks()):
            here = np.flatnonzero(home == number)
            if len(here):
                values = block.matrix(shares(rows, block), self.n_columns)
                drawn[here] = rows.start + draw_in_columns(values, columns[here], rng)
        return drawn


def column_sums(factor: Factor, log_point: Callable[[slice], torch.Tensor], epsilon: float) -> LogSums:
    """``sum_i exp(-D_ic / eps + log_point(rows)_i)`` by column, in the log domain."""
    peak = torch.full((factor.n_columns,), -math.inf, dtype=torch.float64, device=factor.device)
    sums = LogSums(peak, torch.zeros_like(peak))
    for rows, block in factor.blocks():
        scores = torch.add(log_point(rows)[:, None].to(block.distances.dtype), block.distances, alpha=-1 / epsilon)
        if block.columns is None:
            top = scores.amax(dim=0).double()
        else:
            top = torch.full_like(peak, -math.inf)
            top.scatter_reduce_(0, block.columns.long().reshape(-1), scores.double().reshape(-1), "amax")
        higher = torch.maximum(sums.peak, top)
        safe = torch.nan_to_num(higher, neginf=0.0)
        part = block.column_sums((scores - block.spread(safe.to(scores.dtype))).exp_(), factor.n_columns)
        sums = LogSums(higher, sums.total * (sums.peak - safe).exp() + part)
    return sums
