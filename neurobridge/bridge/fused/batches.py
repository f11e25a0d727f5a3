"""Fused bridges of many points: a coarse plan over all of them, and fused transport in minibatches drawn along it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
import torch

from neurobridge.bridge.cost.protocol import Cost, transposed
from neurobridge.bridge.fused.cost import Blend, FusedCost, FusedProblem
from neurobridge.bridge.fused.jobs import Solved, minibatch, refit, solve_minibatch
from neurobridge.bridge.fused.states import State, pinned
from neurobridge.bridge.transport.plans import Plan
from neurobridge.maps.kernel import KernelMap
from neurobridge.points.arrays import PointSource, Rows, row_blocks
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.progress import progress_bar
from neurobridge.points.workers import Runner
from neurobridge.store.kinds import register

# After the rounds on the first minibatch, the maps are refitted on this many images, this many times.
_POOLED_POINTS = 16_000
_POOLED_ROUNDS = 2
# New points are mapped along the plans of minibatches with this many target points together.
_READ_POINTS = 8192


def _part_state_of_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """Rename the rows."""
    names = {"left": "source_rows", "right": "target_rows"}
    return {names.get(name, name): value for name, value in state.items()}


@register("batch-part", version=2, upgrades={1: _part_state_of_0_1})
class Part(NamedTuple):
    """One minibatch of a plan.

    Attributes
    ----------
    source_rows, target_rows : int arrays, rising
        Rows of its points among all.
    log_u, log_v : float64 tensors
        Log scalings of its plan, which hold its share of the total mass.
    """

    source_rows: np.ndarray
    target_rows: np.ndarray
    log_u: torch.Tensor
    log_v: torch.Tensor

    def __repr__(self) -> str:
        return short_repr("Part", f"{len(self.source_rows)} x {len(self.target_rows)} points")


def _plan_state_of_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """Join problem and blend in the cost that was solved."""
    cost = FusedCost(state["problem"], state["blend"])
    return {
        "cost": cost.transposed() if state["flipped"] else cost,
        "epsilon": state["epsilon"],
        "parts": state["parts"],
    }


@register("batch-plan", version=2, upgrades={1: _plan_state_of_0_1})
@dataclass(frozen=True, eq=False, repr=False)
class BatchPlan:
    """A plan in minibatches: ``exp(log_u_i - C_ij / eps + log_v_j)`` inside each, no mass between them.

    All minibatches were solved under the same cost C, the fused cost with one pair of maps and the three means taken on the
    first minibatch. Memory O(n + m): entries are computed again in blocks whenever they are asked for.

    Attributes
    ----------
    cost : Cost
        C between all points, shape (n, m): a `FusedCost`, or that with source and target exchanged.
    epsilon : float
        Entropic temperature.
    parts : list of Part
        The minibatches.
    """

    cost: Cost
    epsilon: float
    parts: list[Part]

    def _mass(self, part: Part, places: np.ndarray) -> torch.Tensor:
        """Mass of some source points of a minibatch, by their place in it, with all its target points, float64."""
        cost = self.cost.subset(part.source_rows[places], part.target_rows).rows(slice(None)).double()
        return (cost / -self.epsilon + part.log_u[places, None] + part.log_v).exp()

    def _blocks(self) -> Iterator[tuple[Part, np.ndarray, torch.Tensor]]:
        """Every minibatch in blocks of its source points: the minibatch, their places in it, their mass."""
        for part in self.parts:
            for block in row_blocks(len(part.source_rows), len(part.target_rows), budget=1 << 23):
                places = np.arange(len(part.source_rows))[block]
                yield part, places, self._mass(part, places)

    def row_mass(self) -> np.ndarray:
        """Sum the mass leaving each source point, shape (n,)."""
        total = np.zeros(self.cost.shape[0])
        for part, places, mass in self._blocks():
            total[part.source_rows[places]] += mass.sum(dim=1).cpu().numpy()
        return total

    def col_mass(self) -> np.ndarray:
        """Sum the mass arriving at each target point, shape (m,)."""
        total = np.zeros(self.cost.shape[1])
        for part, _, mass in self._blocks():
            total[part.target_rows] += mass.sum(dim=0).cpu().numpy()
        return total

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """Draw n index pairs: a minibatch by its size, a source point in it evenly, and a partner along the plan."""
        sizes = np.array([len(part.source_rows) for part in self.parts])
        drawn_parts = rng.choice(len(sizes), n, p=sizes / sizes.sum())
        i, j = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        for number in np.unique(drawn_parts):
            part, draws = self.parts[number], np.flatnonzero(drawn_parts == number)
            places, inverse = np.unique(rng.integers(0, len(part.source_rows), len(draws)), return_inverse=True)
            i[draws] = part.source_rows[places[inverse]]
            for block in row_blocks(len(places), len(part.target_rows), budget=1 << 23):
                cumulative = self._mass(part, places[block]).cumsum(dim=1).cpu().numpy()
                in_block = np.flatnonzero((inverse >= block.start) & (inverse < block.stop))
                row = inverse[in_block] - block.start
                # One rising table for all rows: row r lies between r and r + 1.
                table = (cumulative / cumulative[:, -1:] + np.arange(len(cumulative))[:, None]).ravel()
                entry = np.searchsorted(table, row + rng.random(len(in_block)), side="right")
                column = entry - row * len(part.target_rows)
                j[draws[in_block]] = part.target_rows[column.clip(0, len(part.target_rows) - 1)]
        return i, j

    def barycentric(self, Y: PointSource) -> np.ndarray:
        """Return the mean partner of each source point, shape (n, n_target_dims)."""
        n = self.cost.shape[0]
        weighted, total = np.zeros((n, Y.shape[1])), np.zeros((n, 1))
        for part, places, mass in self._blocks():
            target = Y.block(part.target_rows).to(mass)
            weighted[part.source_rows[places]] += (mass @ target).cpu().numpy()
            total[part.source_rows[places]] += mass.sum(dim=1, keepdim=True).cpu().numpy()
        return weighted / total

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Write some rows of the plan out, shape (n_rows, m)."""
        index = np.asarray(index)
        plan_rows = np.zeros((len(index), self.cost.shape[1]))
        for part in self.parts:
            # Rows of a minibatch are sorted.
            place = np.searchsorted(part.source_rows, index).clip(max=len(part.source_rows) - 1)
            inside = np.flatnonzero(part.source_rows[place] == index)
            if len(inside):
                plan_rows[np.ix_(inside, part.target_rows)] += self._mass(part, place[inside]).cpu().numpy()
        return plan_rows

    def transposed(self) -> BatchPlan:
        """Exchange source and target."""
        parts = [Part(part.target_rows, part.source_rows, part.log_v, part.log_u) for part in self.parts]
        return replace(self, cost=transposed(self.cost), parts=parts)

    def _facts(self) -> dict[str, str]:
        sizes = [f"{len(part.source_rows)} x {len(part.target_rows)}" for part in self.parts[:1]]
        return {"points": "{} x {}".format(*self.cost.shape), "minibatches": f"{len(self.parts)} of {sizes[0]}"}

    def __repr__(self) -> str:
        facts = self._facts()
        return short_repr("BatchPlan", facts["points"], f"{facts['minibatches']} points", epsilon=self.epsilon)

    def _repr_html_(self) -> str:
        return html_repr("BatchPlan", {**self._facts(), "epsilon": self.epsilon})


class Solution(NamedTuple):
    """A solved fused bridge.

    Attributes
    ----------
    states : list of State
        What new points are mapped along: the last round, or several minibatches, the first with the last maps.
    plan : Plan
        The plan between all points.
    cost : FusedCost
        The cost it was solved under.
    n_iter : int
        Iterations of the plan, or the most of a minibatch.
    marginal_error : float
        L1 error of the row marginal of the plan.
    """

    states: list[State]
    plan: Plan
    cost: FusedCost
    n_iter: int
    marginal_error: float


def complete(
    problem: FusedProblem,
    first: State,
    batches: list[Rows],
    tol: float,
    seed: int,
    *,
    whole: bool = True,
    run: Runner = starmap,
) -> Solution:
    """Go from the first minibatch, where the rounds have run, to all minibatches.

    The maps are refitted on the images of several minibatches, twice; then every minibatch is solved under the fused cost of
    the last maps, with the three means of the first minibatch.

    Parameters
    ----------
    problem : FusedProblem
        All points.
    first : State
        The last round on the first minibatch.
    batches : list of tuples of two int arrays
        As `deal` returned them.
    tol : float
        Marginal error at which a plan is accepted.
    seed : int
        Seed of the centres of the curved map.
    whole : bool
        Solve all minibatches. Otherwise only those that the maps are fitted on and that new points are read along: the plan has
        no others, and the marginal error is theirs.
    run : Runner
        Where minibatches are solved and maps are refitted: see `job_runner`.

    Returns
    -------
    Solution
    """
    bridge = first.problem.bridge()
    state = first
    lam, epsilon = first.blend.lam, first.epsilon
    n_pooled = min(len(batches), max(1, _POOLED_POINTS // len(batches[0][0])))
    for _ in range(_POOLED_ROUNDS):
        blend, _ = Blend.of(state.forward, state.backward, lam, bridge, first.problem)
        solved = _solved(FusedCost(problem, blend), epsilon, batches[:n_pooled], tol, n_pooled, run)
        state = _refitted(problem, list(solved), batches, replace(state, blend=blend), seed, run)
    blend, _ = Blend.of(state.forward, state.backward, lam, bridge, first.problem)
    cost = FusedCost(problem, blend)
    # A part of the smaller side is used in several minibatches: they are weighted by their source points.
    n_read = min(len(batches), max(1, _READ_POINTS // len(batches[0][1])))
    solved_batches = batches if whole else batches[: max(n_pooled, n_read)]
    n_used = sum(len(source_rows) for source_rows, _ in solved_batches)
    states, parts, pooled = [], [], []
    n_iter, error = 0, 0.0
    # In one piece: a small tensor that stays after each minibatch would keep the memory of its large ones from being used again.
    device = first.plan.log_u.device
    kept = [
        torch.empty(sum(map(len, side)), dtype=torch.float64, device=device)
        for side in zip(*solved_batches, strict=True)
    ]
    ends = [0, 0]
    results = _solved(cost, epsilon, solved_batches, tol, max(n_pooled, n_read), run)
    bar = progress_bar(results, progress=None, desc="minibatches", leave=False, total=len(solved_batches))
    for number, (rows, batch) in enumerate(zip(solved_batches, bar, strict=True)):
        # Divided twice, as the other way round rounds differently.
        share = len(rows[0]) / len(problem.X) / (n_used / len(problem.X))
        views = []
        for k, scaling in enumerate((batch.plan.log_u + math.log(share), batch.plan.log_v)):
            views.append(kept[k][ends[k] : ends[k] + len(scaling)].copy_(scaling))
            ends[k] += len(scaling)
        parts.append(Part(rows[0], rows[1], views[0], views[1]))
        n_iter, error = max(n_iter, batch.plan.n_iter), error + share * batch.plan.marginal_error
        if number < n_pooled:
            pooled.append(batch)
        if number < n_read:
            # All pairs are in the first minibatch.
            part = problem.without_pairs(*rows) if number else first.problem
            images = pinned(batch.images, part.rows[0], part.Y[part.rows[1]])
            states.append(State(part, blend, epsilon, batch.plan, images, state.forward, state.backward))
    last = _refitted(problem, pooled, batches, replace(states[0], blend=blend), seed, run)
    states[0] = replace(states[0], forward=last.forward, backward=last.backward)
    return Solution(states, BatchPlan(cost, epsilon, parts), cost, n_iter, error)


def _solved(
    cost: FusedCost, epsilon: float, batches: list[Rows], tol: float, n_with_images: int, run: Runner
) -> Iterator[Solved]:
    """Solve minibatches, the first of them with the images of their points."""
    jobs = ((minibatch(cost, rows), epsilon, tol, number < n_with_images) for number, rows in enumerate(batches))
    return run(solve_minibatch, jobs)


def _refitted(
    problem: FusedProblem, solved: list[Solved], batches: list[Rows], state: State, seed: int, run: Runner
) -> State:
    """The maps refitted on the images of several minibatches, pairs with their true partners."""
    i, j = problem.rows
    source_rows, first_source = np.unique(
        np.concatenate([rows[0] for rows in batches[: len(solved)]]), return_index=True
    )
    target_rows, first_target = np.unique(
        np.concatenate([rows[1] for rows in batches[: len(solved)]]), return_index=True
    )
    paired_source, paired_target = np.searchsorted(source_rows, i), np.searchsorted(target_rows, j)
    images = np.concatenate([batch.images for batch in solved])[first_source]
    origins = np.concatenate([batch.origins for batch in solved])[first_target]
    images = pinned(images, paired_source, problem.Y[j])
    origins = pinned(origins, paired_target, problem.X[i])
    is_curved = isinstance(state.forward, KernelMap)
    forward, backward = run(
        refit,
        [
            (problem.X[source_rows], images, paired_source, problem.units[0], seed, is_curved),
            (problem.Y[target_rows], origins, paired_target, problem.units[1], seed, is_curved),
        ],
    )
    return replace(state, images=images, forward=forward, backward=backward)
