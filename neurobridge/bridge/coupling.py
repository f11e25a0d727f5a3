"""From a cost to a coupling: who goes with whom, and how much."""

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

from neurobridge.bridge._arrays import Array, points, same_kind, to_tensor
from neurobridge.bridge.cost import BridgeCost, check_memory
from neurobridge.bridge.plans import DensePlan, FactoredPlan, Plan, SparsePlan


class ConvergenceWarning(UserWarning):
    """A solver stopped before its marginals were within tolerance."""


@dataclass(frozen=True, eq=False)
class Coupling:
    """A transport plan between n source and m target points.

    Attributes
    ----------
    cost : BridgeCost
        The problem that was solved.
    plan : Plan
        The plan; ask the coupling, not the plan.
    method : str
    epsilon : float
        Entropic temperature (0 for methods that use none).
    unbalanced : float or None
        Weight rho of the KL penalty on the marginals; None for a balanced plan.
    a, b : arrays of shape (n,) and (m,)
        Marginals asked for.
    converged : bool
        True only if the plan is finite and its marginal error is within the tolerance.
    n_iter : int
    marginal_error : float
        L1 distance of the plan's marginals to those asked for; for an unbalanced plan, the L1 change of its
        marginals over the last iteration.
    """

    cost: BridgeCost
    plan: Plan
    method: str
    epsilon: float
    unbalanced: float | None
    a: np.ndarray
    b: np.ndarray
    converged: bool
    n_iter: int
    marginal_error: float

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``."""
        return self.cost.shape

    @property
    def anchors(self) -> tuple[np.ndarray, np.ndarray]:
        """Source and target rows of the labelled pairs."""
        return self.cost.anchors

    @property
    def row_mass(self) -> np.ndarray:
        """Mass leaving each source point, shape (n,)."""
        return self.plan.row_mass()

    @property
    def col_mass(self) -> np.ndarray:
        """Mass arriving at each target point, shape (m,)."""
        return self.plan.col_mass()

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw pairs with probability proportional to the plan.

        Parameters
        ----------
        n : int
            Number of draws.
        rng : numpy.random.Generator

        Returns
        -------
        i, j : int arrays of shape (n,)
            Source rows and target rows.
        """
        return self.plan.sample(n, rng)

    def barycentric(self, Y: Array) -> Array:
        """Map each source point to the mean of its partners, ``T(x_i) = sum_j P_ij Y_j / sum_j P_ij``.

        Parameters
        ----------
        Y : array of shape (m, n_target_dims)

        Returns
        -------
        array of shape (n, n_target_dims)
            NaN for points without partners (unlabelled points of ``method="pairs"``).
        """
        target = self._target(Y)
        return same_kind(torch.as_tensor(self.plan.barycentric(target)), Y)

    def map(self, X_new: Array, Y: Array) -> Array:
        """Map points never seen in fitting, from their distances to the anchors alone.

        Parameters
        ----------
        X_new : array of shape (n_new, n_source_dims)
        Y : array of shape (m, n_target_dims)

        Returns
        -------
        array of shape (n_new, n_target_dims)

        Raises
        ------
        ValueError
            The coupling is not factored: no formula for unseen points exists.
        """
        if not isinstance(self.plan, FactoredPlan):
            raise ValueError(
                f"found a coupling of method {self.method!r}; expected 'factored' to map unseen points. "
                "Mend: couple(cost, method='factored'), or train a ConditionalFlow on this coupling."
            )
        distances = self.cost.source.of(points(X_new, name="X_new"))
        return same_kind(torch.as_tensor(self.plan.map(distances, self._target(Y))), Y)

    def conditional(self, i: int | np.ndarray) -> np.ndarray:
        """Distribution of partners of one source point, shape (m,), or of several, shape (len(i), m)."""
        rows = self.plan.rows(np.atleast_1d(np.asarray(i)))
        mass = rows.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            distribution = rows / np.where(mass > 0, mass, np.nan)
        return distribution[0] if np.ndim(i) == 0 else distribution

    def dense(self, *, memory_limit: float = 2e9) -> np.ndarray:
        """Write the plan out as an (n, m) float64 matrix; refuses above ``memory_limit`` bytes."""
        n, m = self.shape
        check_memory(8.0 * n * m, memory_limit, f"the dense {n} x {m} plan")
        return self.plan.rows(np.arange(n))

    def transposed(self) -> Coupling:
        """Exchange source and target."""
        return replace(self, cost=self.cost.transposed(), plan=self.plan.transposed(), a=self.b, b=self.a)

    def _target(self, Y: Array) -> np.ndarray:
        target = points(Y, name="Y").double().cpu().numpy()
        if len(target) != self.shape[1]:
            raise ValueError(
                f"Y: found {len(target)} rows; expected {self.shape[1]}, one for each target point of the coupling. "
                "Mend: pass the target array the cost was built from."
            )
        return target


@dataclass(frozen=True)
class _Problem:
    cost: BridgeCost
    a: np.ndarray
    b: np.ndarray
    epsilon: float
    unbalanced: float | None
    tol: float
    max_iter: int
    memory_limit: float


@dataclass(frozen=True)
class _Solution:
    plan: Plan
    n_iter: int
    marginal_error: float


def _pairs(problem: _Problem) -> _Solution:
    """Labelled pairs alone (the paper's true alignment): every pair the same mass."""
    i, j = problem.cost.anchors
    mass = np.full(len(i), 1.0 / len(i))
    return _Solution(SparsePlan(sparse.csr_matrix((mass, (i, j)), shape=problem.cost.shape)), 0, 0.0)


def _dense_cost(problem: _Problem) -> np.ndarray:
    dense = problem.cost.dense(problem.epsilon, memory_limit=problem.memory_limit)
    matrix = to_tensor(dense, name="the dense cost (nearest anchors may leave pairs without a bridge)")
    return matrix.double().cpu().numpy()


def _exact(problem: _Problem) -> _Solution:
    """Unregularised transport by POT: network simplex (balanced) or majorisation-minimisation (unbalanced)."""
    cost, a, b = _dense_cost(problem), problem.a, problem.b
    if problem.unbalanced is None:
        matrix, log = ot.emd(a, b, cost, numItermax=problem.max_iter, log=True)
        plan = sparse.csr_matrix(matrix)
        return _Solution(SparsePlan(plan), int(log.get("numiter", 1)), _l1(SparsePlan(plan), a, b))
    # POT stops on the L2 change of the plan, which bounds the L1 change up to the root of its size.
    stop = problem.tol / math.sqrt(cost.size)
    matrix = ot.unbalanced.mm_unbalanced(
        a, b, cost, problem.unbalanced, div="kl", numItermax=problem.max_iter, stopThr=stop
    )
    # It does not say whether it converged: one more step tells how far the marginals still move.
    again = SparsePlan(
        sparse.csr_matrix(
            ot.unbalanced.mm_unbalanced(a, b, cost, problem.unbalanced, G0=matrix, div="kl", numItermax=1)
        )
    )
    error = _l1(again, matrix.sum(axis=1), matrix.sum(axis=0))
    return _Solution(again, problem.max_iter, error)


def _sinkhorn(problem: _Problem) -> _Solution:
    """Entropic transport on the written-out cost by POT, in the log domain."""
    cost, a, b = _dense_cost(problem), problem.a, problem.b
    options: dict[str, Any] = {"numItermax": problem.max_iter, "log": True, "warn": False}
    if problem.unbalanced is None:
        matrix, log = ot.bregman.sinkhorn(
            a,
            b,
            cost,
            problem.epsilon,
            method="sinkhorn_log",
            stopThr=problem.tol / math.sqrt(len(b)),
            **options,
        )
        plan = DensePlan(np.asarray(matrix))
        return _Solution(plan, int(log["niter"]) + 1, _l1(plan, a, b))
    matrix, log = ot.unbalanced.sinkhorn_unbalanced(
        a, b, cost, problem.epsilon, problem.unbalanced, method="sinkhorn_stabilized", reg_type="kl",
        stopThr=problem.tol, **options,
    )  # fmt: skip
    errors = log["err"]
    return _Solution(DensePlan(np.asarray(matrix)), 10 * len(errors), float(errors[-1]) if errors else math.inf)


def _factored(problem: _Problem) -> _Solution:
    """Entropic transport on the two factors of the softmin bridge: O((n + m) P) a step, O((n + m) k) if truncated."""
    cost, epsilon, rho = problem.cost, problem.epsilon, problem.unbalanced
    if cost.reduce != "softmin":
        raise ValueError(
            f"found reduce={cost.reduce!r} with method='factored'; expected 'softmin', whose kernel is a product. "
            "Mend: bridge_cost(..., reduce='softmin'), or method='sinkhorn'."
        )
    device = cost.source.fitted.device
    log_a, log_b = (torch.as_tensor(np.log(mass), device=device) for mass in (problem.a, problem.b))
    damping = 1.0 if rho is None else rho / (rho + epsilon)
    b = torch.as_tensor(problem.b, device=device)
    log_u, log_v = log_a.clone(), log_b.clone()
    error, iteration = math.inf, 0
    previous = torch.zeros_like(b)
    while iteration < problem.max_iter and error > problem.tol:
        iteration += 1
        log_s = cost.target_factor.to_anchors(log_v, epsilon)
        log_u = log_a - damping * cost.source_factor.to_points(log_s, epsilon)
        log_r = cost.source_factor.to_anchors(log_u, epsilon)
        log_kt = cost.target_factor.to_points(log_r, epsilon)
        column = (log_v + log_kt).exp()
        # Row sums are exact after the update of u (balanced), so the columns carry the whole error.
        error = float((column - (b if rho is None else previous)).abs().sum())
        previous = column
        if not math.isfinite(error):
            break
        if error > problem.tol:
            log_v = log_b - damping * log_kt
    return _Solution(FactoredPlan(cost, epsilon, log_u, log_v), iteration, error)


SOLVERS: dict[str, Callable[[_Problem], _Solution]] = {
    "pairs": _pairs,
    "exact": _exact,
    "sinkhorn": _sinkhorn,
    "factored": _factored,
}


def _l1(plan: Plan, a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(plan.row_mass() - a).sum() + np.abs(plan.col_mass() - b).sum())


def couple(
    cost: BridgeCost,
    *,
    method: str = "factored",
    epsilon: float = 0.05,
    tol: float = 1e-6,
    max_iter: int = 5000,
    a: Array | None = None,
    b: Array | None = None,
    unbalanced: float | None = None,
    memory_limit: float = 2e9,
) -> Coupling:
    """Solve for the coupling of two spaces under a bridge cost.

    Balanced, entropic: ``min_P <P, C> + eps KL(P | a b^T)`` with ``P 1 = a, P^T 1 = b``. Unbalanced replaces the
    constraints by ``rho KL(P 1 | a) + rho KL(P^T 1 | b)``.

    Parameters
    ----------
    cost : BridgeCost
    method : {"pairs", "exact", "sinkhorn", "factored"}
        Which to choose: "pairs" when only the labelled pairs may speak (any size); "exact" for up to about 5,000 x
        5,000 points and a sharp plan; "sinkhorn" for ``reduce="min"`` up to about 10,000 x 10,000; "factored" otherwise,
        as it never builds the n x m matrix.
    epsilon : float
        Entropic temperature, and that of the softmin, as a fraction of the mean anchor distance.
    tol : float
        Largest accepted L1 error of the marginals.
    max_iter : int
    a, b : arrays of shape (n,) and (m,), optional
        Positive marginals, uniform by default; scaled to sum to one when balanced.
    unbalanced : float, optional
        Weight rho of the KL penalty on the marginals; None keeps them exactly.
    memory_limit : float
        Bytes a dense method may take for the n x m matrix.

    Returns
    -------
    Coupling

    Warns
    -----
    ConvergenceWarning
        The tolerance was not reached in ``max_iter`` iterations.

    Raises
    ------
    ValueError
        Unknown method, non-positive epsilon, marginals of the wrong length or not positive, or options that the
        method cannot honour.
    FloatingPointError
        The plan holds non-finite values; the message suggests a larger epsilon.
    """
    if method not in SOLVERS:
        raise ValueError(f"found method {method!r}; expected one of {sorted(SOLVERS)}. Mend: choose one of them.")
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(
            f"found epsilon={epsilon}; expected a positive fraction of the mean anchor distance. Mend: try 0.05."
        )
    if unbalanced is not None and not unbalanced > 0:
        raise ValueError(
            f"found unbalanced={unbalanced}; expected a positive weight rho, or None. Mend: try 1.0; larger is stricter."
        )
    if method == "pairs" and not (a is None and b is None and unbalanced is None):
        raise ValueError(
            "found marginals or unbalanced with method='pairs'; expected neither, since the labelled pairs fix the plan. "
            "Mend: leave them out, or use method='factored'."
        )
    n, m = cost.shape
    problem = _Problem(
        cost,
        _marginal(a, n, "a", normalise=unbalanced is None),
        _marginal(b, m, "b", normalise=unbalanced is None),
        float(epsilon), unbalanced, tol, max_iter, memory_limit,
    )  # fmt: skip
    solution = SOLVERS[method](problem)
    total = float(solution.plan.row_mass().sum())
    if not (math.isfinite(solution.marginal_error) and math.isfinite(total) and total > 0):
        raise FloatingPointError(
            f"found a plan of mass {total} after {solution.n_iter} iterations; expected finite positive mass. "
            f"Mend: raise epsilon (found {epsilon}; try {max(0.01, 10 * epsilon):.3g})"
            + ("" if cost.truncation_bound(epsilon) == 0 else ", or keep more nearest anchors")
            + "."
        )
    # The exact solver answers to rounding, not to tol.
    converged = solution.marginal_error <= max(tol, 1e-9)
    if not converged:
        warnings.warn(
            f"{method}: found a marginal error of {solution.marginal_error:.2e} after {solution.n_iter} iterations; "
            f"expected at most {tol:.0e}. Mend: raise max_iter (found {max_iter}) or epsilon (found {epsilon}).",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Coupling(
        cost, solution.plan, method, float(epsilon), unbalanced, problem.a, problem.b,
        converged, solution.n_iter, solution.marginal_error,
    )  # fmt: skip


def _marginal(mass: Array | None, size: int, name: str, *, normalise: bool) -> np.ndarray:
    if mass is None:
        return np.full(size, 1.0 / size)
    marginal = to_tensor(mass, name=name).double().cpu().numpy()
    if marginal.shape != (size,) or not (marginal > 0).all():
        raise ValueError(
            f"{name}: found shape {marginal.shape}, smallest value {marginal.min() if marginal.size else None}; expected "
            f"({size},) positive masses. Mend: give each point a positive mass, or drop points of mass zero."
        )
    return marginal / marginal.sum() if normalise else marginal
