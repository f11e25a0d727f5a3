"""Fused bridges of many points: a coarse plan over all of them, and fused transport in minibatches drawn along it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.fused.rounds import (
    BRIDGE_EPSILON,
    Blend,
    Potentials,
    Problem,
    State,
    bridge_matrix,
    curved,
    mean_partners,
    pair_weights,
    pinned,
    sinkhorn,
)
from neurobridge.bridge.transport.coupling import couple
from neurobridge.bridge.transport.plans import FactoredPlan
from neurobridge.maps.kernel import KernelMap
from neurobridge.maps.linear import LinearMap, ridge_map
from neurobridge.points.arrays import PointSource, Rows, row_blocks

# The dealing forgives: a coarse plan that is a hundredth off still balances the minibatches.
_COARSE_TOL = 1e-2
# After the rounds on the first minibatch, the maps are refitted on this many images, this many times.
_POOLED_POINTS = 16_000
_POOLED_ROUNDS = 2
# New points are mapped along the plans of minibatches with this many target points together.
_READ_POINTS = 8192


class Part(NamedTuple):
    """A minibatch of a plan: rows of its source and target points, and the log scalings of its share of the whole."""

    left: np.ndarray
    right: np.ndarray
    log_u: torch.Tensor
    log_v: torch.Tensor


def deal(problem: Problem, size: int, rng: np.random.Generator) -> list[Rows]:
    """Cut both sides into minibatches of at most ``size`` points, drawn along the factored bridge plan over all points.

    Every point draws an anchor from the coarse plan, whose two sides send the same mass over each anchor; then the points of each
    anchor are dealt out evenly. So every minibatch holds its share of each anchor on both sides, up to a point. The first holds
    all pairs. A side that fits into ``size`` is not cut; if one is cut finer than the other, parts of the other are used again.

    Returns
    -------
    list of tuples of two int arrays
        Sorted source rows and target rows.
    """
    n, m = len(problem.X), len(problem.Y)
    fewer = math.ceil(min(n, m) / size)
    most = fewer * math.ceil(max(n, m) / (size * fewer))
    counts = (fewer, most) if n <= m else (most, fewer)
    strata = anchors_drawn(problem, rng)
    sides = [
        _dealt(stratum, np.unique(paired), count, rng)
        for stratum, paired, count in zip(strata, problem.rows, counts, strict=True)
    ]
    return [(sides[0][k % counts[0]], sides[1][k % counts[1]]) for k in range(most)]


def anchors_drawn(problem: Problem, rng: np.random.Generator) -> Rows:
    """An anchor for every source and every target point, drawn from the factored plan of the bridge alone."""
    plan = couple(problem.cost, method="factored", epsilon=BRIDGE_EPSILON, tol=_COARSE_TOL).plan
    assert isinstance(plan, FactoredPlan)
    drawn = []
    for factor, mass in ((problem.cost.source_factor, plan.log_s), (problem.cost.target_factor, plan.log_r)):
        out = np.empty(factor.n_points, dtype=np.int64)
        for rows in row_blocks(factor.n_points, factor.n_anchors, budget=1 << 22):
            share = torch.softmax(factor.log_kernel(rows, BRIDGE_EPSILON) + mass, dim=1).cumsum(dim=1)
            mark = torch.as_tensor(rng.random(len(share)), device=share.device)
            found = torch.searchsorted(share, mark[:, None] * share[:, -1:], right=True)[:, 0]
            out[rows] = found.clamp(max=factor.n_anchors - 1).cpu().numpy()
        drawn.append(out)
    return drawn[0], drawn[1]


def _dealt(stratum: np.ndarray, first: np.ndarray, n_parts: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows in equal parts, each with its share of every stratum; the rows of ``first`` in the first part."""
    n = len(stratum)
    sizes = [len(part) for part in np.array_split(np.arange(n), n_parts)]
    sizes[0] -= len(first)
    others = np.setdiff1d(np.arange(n), first)
    order = others[np.lexsort((rng.random(len(others)), stratum[others]))]
    # Every part has its seats evenly along the order.
    seats = np.concatenate([(np.arange(size) + rng.random(size)) / size for size in sizes])
    owner = np.repeat(np.arange(n_parts), sizes)[np.argsort(seats, kind="stable")]
    parts = [order[owner == k] for k in range(n_parts)]
    parts[0] = np.concatenate([first, parts[0]])
    return [np.sort(part) for part in parts]


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """A plan in minibatches: ``exp(log_u_i - C_ij / eps + log_v_j)`` inside each, nothing between them; memory O(n + m).

    Entries are computed again in blocks whenever they are asked for.

    Attributes
    ----------
    problem : Problem
        All points.
    blend : Blend
        The fused cost.
    epsilon : float
    parts : list of Part
    flipped : bool
        Whether source and target have changed roles.
    """

    problem: Problem
    blend: Blend
    epsilon: float
    parts: list[Part]
    flipped: bool = False

    def _mass(self, part: Part, some: np.ndarray) -> torch.Tensor:
        """Mass of some source points of a minibatch, by their place in it, with all its target points, float64."""
        left, right = part.left[some], part.right
        ends = (right, left) if self.flipped else (left, right)
        cost = self.blend(
            bridge_matrix(self.problem.cost.subset(*ends)), self.problem.X[ends[0]], self.problem.Y[ends[1]]
        ).double()
        cost = cost.T if self.flipped else cost
        return (cost / -self.epsilon + part.log_u[some, None] + part.log_v).exp()

    def _blocks(self) -> Iterator[tuple[Part, np.ndarray, torch.Tensor]]:
        for part in self.parts:
            for rows in row_blocks(len(part.left), len(part.right), budget=1 << 23):
                some = np.arange(len(part.left))[rows]
                yield part, some, self._mass(part, some)

    @property
    def _shape(self) -> tuple[int, int]:
        n, m = len(self.problem.X), len(self.problem.Y)
        return (m, n) if self.flipped else (n, m)

    def row_mass(self) -> np.ndarray:
        """Mass leaving each source point, shape (n,)."""
        out = np.zeros(self._shape[0])
        for part, some, mass in self._blocks():
            out[part.left[some]] += mass.sum(dim=1).cpu().numpy()
        return out

    def col_mass(self) -> np.ndarray:
        """Mass arriving at each target point, shape (m,)."""
        out = np.zeros(self._shape[1])
        for part, _, mass in self._blocks():
            out[part.right] += mass.sum(dim=0).cpu().numpy()
        return out

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """Draw n index pairs: a minibatch by its size, a source point in it evenly, and a partner along the plan."""
        sizes = np.array([len(part.left) for part in self.parts])
        k = rng.choice(len(sizes), n, p=sizes / sizes.sum())
        i, j = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        for number in np.unique(k):
            part, here = self.parts[number], np.flatnonzero(k == number)
            drawn, place = np.unique(rng.integers(0, len(part.left), len(here)), return_inverse=True)
            i[here] = part.left[drawn[place]]
            for rows in row_blocks(len(drawn), len(part.right), budget=1 << 23):
                cumulative = self._mass(part, drawn[rows]).cumsum(dim=1).cpu().numpy()
                mine = np.flatnonzero((place >= rows.start) & (place < rows.stop))
                row = place[mine] - rows.start
                # One rising table for all rows: row r lies between r and r + 1.
                table = (cumulative / cumulative[:, -1:] + np.arange(len(cumulative))[:, None]).ravel()
                found = np.searchsorted(table, row + rng.random(len(mine)), side="right") - row * len(part.right)
                j[here[mine]] = part.right[found.clip(0, len(part.right) - 1)]
        return i, j

    def barycentric(self, Y: PointSource) -> np.ndarray:
        """Mean partner of each source point, shape (n, n_target_dims)."""
        n = self._shape[0]
        out, total = np.zeros((n, Y.shape[1])), np.zeros((n, 1))
        for part, some, mass in self._blocks():
            target = Y.block(part.right).to(mass)
            out[part.left[some]] += (mass @ target).cpu().numpy()
            total[part.left[some]] += mass.sum(dim=1, keepdim=True).cpu().numpy()
        return out / total

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Some rows of the plan, shape (n_rows, m)."""
        index = np.asarray(index)
        out = np.zeros((len(index), self._shape[1]))
        for part in self.parts:
            # Rows of a minibatch are sorted.
            place = np.searchsorted(part.left, index).clip(max=len(part.left) - 1)
            mine = np.flatnonzero(part.left[place] == index)
            if len(mine):
                out[np.ix_(mine, part.right)] += self._mass(part, place[mine]).cpu().numpy()
        return out

    def transposed(self) -> BatchPlan:
        """The plan with source and target exchanged."""
        parts = [Part(part.right, part.left, part.log_v, part.log_u) for part in self.parts]
        return replace(self, parts=parts, flipped=not self.flipped)


class Completed(NamedTuple):
    """A fused plan over all points: the minibatches to read new points with, the plan, its worst, and the last maps."""

    states: list[State]
    plan: BatchPlan
    n_iter: int
    marginal_error: float


def complete(whole: Problem, core: State, batches: list[Rows], lam: float, tol: float, seed: int) -> Completed:
    """Go from the first minibatch, where the rounds have run, to all: refit the maps on more images, then solve every minibatch.

    Parameters
    ----------
    whole : Problem
        All points.
    core : State
        The last round on the first minibatch.
    batches : list of Rows
        As `deal` gave them.
    lam, tol, seed : see `solve`
    """
    bridge = core.problem.bridge()
    state = core
    n_pooled = min(len(batches), max(1, _POOLED_POINTS // len(batches[0][0])))
    for _ in range(_POOLED_ROUNDS):
        blend, _ = Blend.of(state.forward, state.backward, lam, bridge, core.problem)
        solved = [_solved(whole, blend, core.epsilon, rows, tol, state) for rows in batches[:n_pooled]]
        state = _refitted(whole, solved, batches, replace(state, blend=blend), seed)
    blend, _ = Blend.of(state.forward, state.backward, lam, bridge, core.problem)
    n_read = min(len(batches), max(1, _READ_POINTS // len(batches[0][1])))
    states, parts, pooled = [], [], []
    n_iter, error = 0, 0.0
    for number, rows in enumerate(batches):
        found = _solved(whole, blend, core.epsilon, rows, tol, state)
        plan, share = found[0], len(rows[0]) / len(whole.X)
        # A part of the other side may be used several times: its minibatches are weighted by their source points.
        used = sum(len(other[0]) for other in batches) / len(whole.X)
        share /= used
        parts.append(Part(*rows, plan.log_u + math.log(share), plan.log_v))
        n_iter, error = max(n_iter, plan.n_iter), error + share * plan.marginal_error
        if number < n_pooled:
            pooled.append(found)
        if number < n_read:
            # All pairs are in the first minibatch.
            known = core.problem.rows if not number else (np.empty(0, dtype=np.int64),) * 2
            problem = Problem(whole.cost.subset(*rows), whole.X[rows[0]], whole.Y[rows[1]], known)
            images = pinned(found[1], known[0], problem.Y[known[1]])
            states.append(State(problem, blend, core.epsilon, plan, images, state.forward, state.backward))
    last = _refitted(whole, pooled, batches, replace(states[0], blend=blend), seed)
    states[0] = replace(states[0], forward=last.forward, backward=last.backward)
    return Completed(states, BatchPlan(whole, blend, core.epsilon, parts), n_iter, error)


_Solved = tuple[Potentials, np.ndarray, np.ndarray]


def _solved(whole: Problem, blend: Blend, epsilon: float, rows: Rows, tol: float, like: State) -> _Solved:
    """Potentials of a minibatch, and the images of its points both ways."""
    left, right = rows
    X, Y = whole.X[left], whole.Y[right]
    cost = blend(bridge_matrix(whole.cost.subset(left, right)), X, Y)
    plan = sinkhorn(cost, epsilon, tol)
    ends = [torch.as_tensor(side, dtype=torch.float32, device=cost.device) for side in (X, Y)]
    return (plan, *mean_partners(cost, plan, epsilon, *ends))


def _refitted(whole: Problem, solved: list[_Solved], batches: list[Rows], state: State, seed: int) -> State:
    """The maps refitted on the images of several minibatches, pairs with their true partners."""
    i, j = whole.rows
    ends = [np.concatenate([rows[side] for rows in batches[: len(solved)]]) for side in (0, 1)]
    left, first = np.unique(ends[0], return_index=True)
    right, second = np.unique(ends[1], return_index=True)
    images = np.concatenate([found[1] for found in solved])[first]
    origins = np.concatenate([found[2] for found in solved])[second]
    images = pinned(images, np.searchsorted(left, i), whole.Y[j])
    origins = pinned(origins, np.searchsorted(right, j), whole.X[i])
    X, Y = whole.X[left], whole.Y[right]
    forward: LinearMap | KernelMap
    if isinstance(state.blend.forward, KernelMap):
        forward = curved(X, images, pair_weights(len(X), np.searchsorted(left, i)), seed)
    else:
        forward = ridge_map(X, images, penalty="shared")
    return replace(state, images=images, forward=forward, backward=ridge_map(Y, origins, penalty="shared"))
