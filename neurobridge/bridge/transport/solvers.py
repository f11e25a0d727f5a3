"""Solvers: from a problem to a plan, one function a method."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ot
import torch
from scipy import sparse

from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.bridge.cost.protocol import Cost, anchors_of, written_out
from neurobridge.bridge.transport.exact import relaxed_plan
from neurobridge.bridge.transport.plans import DensePlan, FactoredPlan, PinnedPlan, Plan, SparsePlan
from neurobridge.points.arrays import Rows, to_tensor
from neurobridge.points.display import Displayed, by

# POT's own limit of pivots is far too low for the sizes that method is meant for.
_PIVOTS = 10_000_000


@dataclass(frozen=True, repr=False)
class Problem(Displayed):
    """A transport problem as a solver takes it: see `couple`.

    Attributes
    ----------
    cost : Cost
    a, b : arrays of shape (n,) and (m,)
        Marginals.
    epsilon : float
        Entropic temperature, in units of the cost.
    unbalanced : float or None
        Weight rho of the KL penalty on the marginals, in units of the cost.
    tol : float
        Largest accepted L1 error of the marginals.
    max_iter : int
    memory_limit : float
        Bytes.
    log_v : array of shape (m,), optional
        Log scaling to start from.
    """

    cost: Cost
    a: np.ndarray
    b: np.ndarray
    epsilon: float
    unbalanced: float | None
    tol: float
    max_iter: int
    memory_limit: float
    log_v: np.ndarray | None = None

    def _facts(self) -> dict[str, Any]:
        facts = {
            "points": by(*self.cost.shape), "cost": type(self.cost).__name__, "epsilon": self.epsilon,
            "unbalanced": self.unbalanced, "tol": self.tol, "max_iter": self.max_iter,
        }  # fmt: skip
        return {name: value for name, value in facts.items() if value is not None}


@dataclass(frozen=True, repr=False)
class Solution(Displayed):
    """A plan, and how it was reached.

    Attributes
    ----------
    plan : Plan
    n_iter : int
        0 where the solver does not count.
    marginal_error : float
    finished : bool
        False where the solver gave up early, or its plan is not within tolerance of the optimum.
    gap : float or None
        Duality gap, where the solver has one.
    """

    plan: Plan
    n_iter: int
    marginal_error: float
    finished: bool = True
    gap: float | None = None

    def _facts(self) -> dict[str, Any]:
        return {"plan": type(self.plan).__name__, "n_iter": self.n_iter, "marginal_error": self.marginal_error}


def _pairs(problem: Problem) -> Solution:
    """Labelled pairs alone (the paper's true alignment): every pair the same mass, or in proportion to the confidence in it."""
    i, j = _labelled(problem.cost, "method='pairs'")
    log_weight = None
    if isinstance(problem.cost, BridgeCost):
        log_weight = problem.cost.source_factor.log_weight
        if log_weight is None:
            log_weight = problem.cost.target_factor.log_weight
    mass = np.ones(len(i)) if log_weight is None else log_weight.exp().cpu().numpy()
    mass = mass / mass.sum()
    return Solution(SparsePlan(sparse.csr_matrix((mass, (i, j)), shape=problem.cost.shape)), 0, 0.0)


def _labelled(cost: Cost, asked: str) -> Rows:
    """Rows of the pairs a cost knows, at least one."""
    rows = anchors_of(cost)
    if not len(rows[0]):
        raise ValueError(
            f"found {asked} and a {type(cost).__name__} without labelled pairs; expected some. "
            "Mend: DenseCost(matrix, anchors=(source_rows, target_rows)), or Coupling.of_pairs(pairs, shape)."
        )
    return rows


def _written_out(problem: Problem, *, copies: int) -> tuple[np.ndarray, Problem]:
    """Write the cost out in units near 1, so that no solver meets numbers at the ends of double precision.

    Parameters
    ----------
    problem : Problem
    copies : int
        Float64 matrices of the size of the cost that the solver holds at a time.

    Returns
    -------
    matrix : float64 array of shape (n, m)
        The cost divided by the power of two next to its unit, which changes no digit.
    Problem
        The same problem in these units.
    """
    factored = isinstance(problem.cost, BridgeCost)
    mend = "use method='factored', which never builds it" if factored else "pass a cost of fewer points"
    n, m = problem.cost.shape
    dense = written_out(problem.cost, problem.memory_limit, mend=mend, working=8.0 * copies * n * m)
    matrix = to_tensor(dense, name="the dense cost (nearest anchors may leave pairs without a bridge)")
    exponent = 1 - math.frexp(problem.cost.unit)[1]
    rho = None if problem.unbalanced is None else math.ldexp(problem.unbalanced, exponent)
    scaled = replace(problem, epsilon=math.ldexp(problem.epsilon, exponent), unbalanced=rho)
    return np.ldexp(matrix.double().cpu().numpy(), exponent), scaled


def _exact(problem: Problem) -> Solution:
    """Unregularised transport: network simplex by POT (balanced) or an interior-point method before it (unbalanced)."""
    cost, problem = _written_out(problem, copies=6 if problem.unbalanced is None else 14)
    a, b = problem.a, problem.b
    # The network simplex counts pivots, not sweeps: max_iter may raise POT's own limit, never lower it.
    n_pivots = max(_PIVOTS, problem.max_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if problem.unbalanced is None:
            matrix, log = ot.emd(a, b, cost, numItermax=n_pivots, log=True)
            plan = SparsePlan(sparse.csr_matrix(matrix))
            return Solution(plan, 0, _l1(plan, a, b), finished=log["warning"] is None)
        unit = 2 * math.frexp(problem.cost.unit)[0]
        relaxed = relaxed_plan(cost, a, b, problem.unbalanced, unit=unit, max_iter=problem.max_iter, n_pivots=n_pivots)
    plan = SparsePlan(sparse.csr_matrix(relaxed.matrix))
    return Solution(plan, relaxed.n_iter, relaxed.marginal_error, relaxed.gap <= max(problem.tol, 1e-9), relaxed.gap)


def _sinkhorn(problem: Problem) -> Solution:
    """Entropic transport on the written-out cost in the log domain; balanced, by POT."""
    cost, problem = _written_out(problem, copies=5)
    a, b = problem.a, problem.b
    if problem.unbalanced is not None:
        return _unbalanced_sinkhorn(problem, cost)
    # What overflows at a tiny epsilon is refused by `couple`.
    with np.errstate(all="ignore"):
        matrix, log = ot.bregman.sinkhorn(
            a, b, cost, problem.epsilon, method="sinkhorn_log", stopThr=problem.tol / math.sqrt(len(b)),
            numItermax=problem.max_iter, log=True, warn=False,
        )  # fmt: skip
    plan = DensePlan(np.asarray(matrix))
    return Solution(plan, int(log["niter"]) + 1, _l1(plan, a, b))


def _unbalanced_sinkhorn(problem: Problem, cost: np.ndarray) -> Solution:
    """Unbalanced transport in the log domain (Chizat et al. 2018): POT's stabilised solver loses its way at small epsilon."""
    assert problem.unbalanced is not None
    epsilon, rho = problem.epsilon, problem.unbalanced
    damping = rho / (rho + epsilon)
    scores = torch.as_tensor(cost) / -epsilon
    log_a, log_b = (torch.as_tensor(np.log(mass)) for mass in (problem.a, problem.b))
    log_u, log_v = log_a.clone(), log_b.clone()
    error, iteration = math.inf, 0
    while iteration < problem.max_iter and error > problem.tol:
        iteration += 1
        log_u = log_a - damping * torch.logsumexp(scores + log_v, dim=1)
        log_k = torch.logsumexp(scores + log_u[:, None], dim=0)
        new = log_b - damping * log_k
        error = float(((new + log_k).exp() - (log_v + log_k).exp()).abs().sum())
        log_v = new
        # The best constant to move between the potentials: see `_factored`.
        move = [torch.logsumexp(la - epsilon / rho * (lu - la), 0) for la, lu in ((log_a, log_u), (log_b, log_v))]
        constant = float(rho / 2 * (move[0] - move[1])) / epsilon
        log_u, log_v = log_u + constant, log_v - constant
    plan = DensePlan((log_u[:, None] + scores + log_v).exp().numpy())
    return Solution(plan, iteration, error)


def _factored(problem: Problem) -> Solution:
    """Entropic transport on the two factors of the softmin bridge: O((n + m) P) a step, O((n + m) k) if truncated.

    What goes from one space to the other in an iteration are two vectors of length P.
    """
    cost, epsilon, rho = problem.cost, problem.epsilon, problem.unbalanced
    if not isinstance(cost, BridgeCost):
        raise ValueError(
            f"found a {type(cost).__name__} with method='factored'; expected a BridgeCost, whose kernel is a product of two "
            "factors. Mend: method='sinkhorn' for any cost, or bridge_cost(X, Y, pairs)."
        )
    if cost.reduce != "softmin":
        raise ValueError(
            f"found reduce={cost.reduce!r} with method='factored'; expected 'softmin', whose kernel is a product. "
            "Mend: bridge_cost(..., reduce='softmin'), or method='sinkhorn'."
        )
    left, right = cost.source_factor, cost.target_factor
    a, b = torch.as_tensor(problem.a, device=left.device), torch.as_tensor(problem.b, device=right.device)
    damping = 1.0 if rho is None else rho / (rho + epsilon)
    log_v = b.log() if problem.log_v is None else torch.as_tensor(problem.log_v, device=right.device)
    masses = left.place(a), right.place(b)
    state = right.start_state((b.log() - log_v) / damping)
    log_s = right.to_anchors(log_v, epsilon)
    log_k = left.start_state()
    error, iteration = math.inf, 0
    while iteration < problem.max_iter:
        iteration += 1
        source = left.half_step(log_s, masses[0], damping, epsilon, log_k)
        target = right.half_step(source.log_anchor, masses[1], damping, epsilon, state)
        # Row sums are exact after the update of u (balanced), so the columns carry the whole error.
        error, log_k = target.error, source.state
        if not math.isfinite(error) or error <= problem.tol:
            break
        state, log_s = target.state, target.log_anchor
        if rho is not None:
            # The best constant to move from one potential to the other, without which large rho converges at the pace of eps / rho
            # (Sejourne, Vialard & Peyre 2022).
            power = epsilon * damping / rho
            move = left.log_total(masses[0], power, log_k) - right.log_total(masses[1], power, state)
            constant = float(rho / 2 * move)
            log_s = log_s - constant / epsilon
            state = right.shift_state(state, constant / (epsilon * damping))
    plan = FactoredPlan(cost, epsilon, a.log() - damping * left.log_k(log_k), b.log() - damping * right.log_k(state))
    return Solution(plan, iteration, error)


#: Solvers of `couple` by the name of the method: functions from a problem to a plan.
SOLVERS: dict[str, Callable[[Problem], Solution]] = {
    "pairs": _pairs,
    "exact": _exact,
    "sinkhorn": _sinkhorn,
    "factored": _factored,
}


def solve_pinned(problem: Problem, solver: Callable[[Problem], Solution]) -> tuple[Problem, Solution]:
    """Give every pair its mass, and solve for the points without a partner."""
    cost = problem.cost
    if problem.unbalanced is not None:
        raise ValueError(
            f"found pinned=True with unbalanced={problem.unbalanced}; expected balanced transport, since "
            "pinned points have no slack. Mend: unbalanced=None, or pinned=False."
        )
    i, j = _labelled(cost, "pinned=True")
    a, b = problem.a, problem.b
    degrees = np.bincount(i, minlength=len(a)), np.bincount(j, minlength=len(b))
    mass = (a[i] / degrees[0][i] + b[j] / degrees[1][j]) / 2
    matrix = sparse.csr_matrix((mass, (i, j)), shape=cost.shape)
    free = np.flatnonzero(degrees[0] == 0), np.flatnonzero(degrees[1] == 0)
    share = 1.0 - float(mass.sum())
    if not len(free[0]) or not len(free[1]) or share <= 0:
        raise ValueError(
            f"found {len(free[0])} source and {len(free[1])} target points without a partner, sharing a mass of {share:.3g}; "
            "expected some on both sides. Mend: method='pairs', which couples the labelled points alone."
        )
    rest = [side[points] / side[points].sum() for side, points in zip((a, b), free, strict=True)]
    inner = replace(problem, cost=cost.subset(*free), a=rest[0], b=rest[1], log_v=None)
    solved = solver(inner)
    plan = PinnedPlan(solved.plan, SparsePlan(matrix), free[0], free[1], share)
    a, b = np.asarray(matrix.sum(axis=1)).ravel(), np.asarray(matrix.sum(axis=0)).ravel()
    a[free[0]], b[free[1]] = share * rest[0], share * rest[1]
    return replace(problem, a=a, b=b), Solution(plan, solved.n_iter, share * solved.marginal_error)


def _l1(plan: Plan, a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(plan.row_mass() - a).sum() + np.abs(plan.col_mass() - b).sum())
