"""Points beyond the core of a fused bridge: potentials extended to them, and a plan that is never written out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from neurobridge.bridge._arrays import PointSource, row_blocks
from neurobridge.bridge._rounds import Problem, State, bridge_matrix
from neurobridge.bridge.cost import Rows

# Target points that a block of drawn source points chooses among: the minibatch of `PotentialPlan.sample`.
_MINIBATCH = 4096


def core_rows(problem: Problem, size: int, rng: np.random.Generator) -> Rows:
    """All pairs and a random choice of other points, up to ``size`` a side; sorted rows of source and target."""
    sides = []
    for n, paired in ((len(problem.X), problem.rows[0]), (len(problem.Y), problem.rows[1])):
        paired = np.unique(paired)
        others = np.setdiff1d(np.arange(n), paired)
        chosen = rng.permutation(others)[: max(0, size - len(paired))]
        sides.append(np.sort(np.concatenate([paired, chosen])))
    return sides[0], sides[1]


@dataclass(frozen=True, eq=False)
class PotentialPlan:
    """The plan ``exp(log_u_i - C_ij / eps + log_v_j)`` over all points, computed again in blocks whenever it is asked for.

    The potentials are those of a plan solved on a core, each extended by one half step over the core's other side:
    ``log_u(x) = -log n - log sum_j exp(log_v_j - C(x, y_j) / eps)`` (Pooladian & Niles-Weed 2021). Row and column sums are
    therefore 1/n and 1/m up to what the core, a random sample, leaves out.

    Attributes
    ----------
    problem : Problem
        All points.
    state : State
        Solved on the core.
    log_u, log_v : float64 tensors of shape (n,) and (m,)
    flipped : bool
        Whether source and target have changed roles.
    """

    problem: Problem
    state: State
    log_u: torch.Tensor
    log_v: torch.Tensor
    flipped: bool = False

    @classmethod
    def extend(cls, problem: Problem, state: State, rows: Rows) -> PotentialPlan:
        """Extend a state solved on core ``rows`` to all points of a problem."""
        n, m = len(problem.X), len(problem.Y)
        inner_u, inner_v = state.plan.log_u, state.plan.log_v
        plan = cls(problem, state, inner_u.new_empty(n), inner_v.new_empty(m))
        for block in row_blocks(n, len(rows[1])):
            scores = plan._scores(np.arange(n)[block], rows[1])
            plan.log_u[block] = -math.log(n) - torch.logsumexp(scores + inner_v, dim=1)
        for block in row_blocks(m, len(rows[0])):
            scores = plan._scores(rows[0], np.arange(m)[block])
            plan.log_v[block] = -math.log(m) - torch.logsumexp(scores + inner_u[:, None], dim=0)
        return plan

    def _scores(self, left: np.ndarray, right: np.ndarray) -> torch.Tensor:
        """``-C / eps`` between some source and some target points of the problem, float64."""
        problem = self.problem
        bridge = bridge_matrix(problem.cost.subset(left, right))
        return self.state.blend(bridge, problem.X[left], problem.Y[right]).double() / -self.state.epsilon

    def _blocks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        n, m = len(self.log_u), len(self.log_v)
        for block in row_blocks(n, m):
            yield block, self._mass(np.arange(n)[block], np.arange(m))

    def _mass(self, i: np.ndarray, j: np.ndarray) -> torch.Tensor:
        scores = self._scores(j, i).T if self.flipped else self._scores(i, j)
        device = scores.device
        left, right = (torch.as_tensor(side, device=device) for side in (i, j))
        return (scores + self.log_u[left, None] + self.log_v[right]).exp()

    def row_mass(self) -> np.ndarray:
        """Mass leaving each source point, shape (n,)."""
        return np.concatenate([mass.sum(dim=1).cpu().numpy() for _, mass in self._blocks()])

    def col_mass(self) -> np.ndarray:
        """Mass arriving at each target point, shape (m,)."""
        return self.transposed().row_mass()

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """Draw n index pairs: source points evenly, partners along the plan among a random minibatch of targets.

        Up to 4,096 source points at a time share a minibatch of up to 4,096 target points. With at most that many targets the
        draws follow the plan's rows exactly; with more, in the mean over minibatches, to the order of their inverse size.
        """
        i = rng.integers(0, len(self.log_u), n)
        j = np.empty(n, dtype=np.int64)
        for start in range(0, n, _MINIBATCH):
            here = slice(start, start + _MINIBATCH)
            targets = rng.permutation(len(self.log_v))[:_MINIBATCH]
            rows, place = np.unique(i[here], return_inverse=True)
            cumulative = self._mass(rows, targets).cumsum(dim=1).cpu().numpy()
            marks = rng.random(len(place)) * cumulative[place, -1]
            j[here] = [
                targets[min(int(np.searchsorted(cumulative[row], mark, side="right")), len(targets) - 1)]
                for row, mark in zip(place, marks, strict=True)
            ]
        return i.astype(np.int64), j

    def barycentric(self, Y: PointSource) -> np.ndarray:
        """Mean partner of each source point, shape (n, n_target_dims)."""
        target = Y.block(slice(None)).double().to(self.log_u.device)
        return np.concatenate(
            [((mass @ target) / mass.sum(dim=1, keepdim=True)).cpu().numpy() for _, mass in self._blocks()]
        )

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Some rows of the plan, shape (n_rows, m)."""
        return self._mass(np.asarray(index), np.arange(len(self.log_v))).cpu().numpy()

    def transposed(self) -> PotentialPlan:
        """The plan with source and target exchanged."""
        return replace(self, log_u=self.log_v, log_v=self.log_u, flipped=not self.flipped)
