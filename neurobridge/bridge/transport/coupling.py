"""The coupling of two spaces: who goes with whom, and how much."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.bridge.cost.protocol import Cost, anchors_of, check_rows, transposed
from neurobridge.bridge.transport.plans import FactoredPlan, Plan, SparsePlan
from neurobridge.points.arrays import Array, PointSource, Rows, row_blocks, same_kind
from neurobridge.points.display import Displayed, by
from neurobridge.points.memory import check_memory
from neurobridge.store.kinds import register

# Entries up to which entropy and expected cost are summed rather than sampled.
_MOST_ENTRIES = 4_000_000


class ConvergenceWarning(UserWarning):
    """A solver stopped before its marginals were within tolerance."""


def _state_of_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """Give the cost the temperature that it was solved at."""
    cost = state["cost"]
    if isinstance(cost, BridgeCost) and cost.reduce == "softmin" and cost.epsilon is None and state["epsilon"] > 0:
        cost = cost.at(state["epsilon"])
    return {**state, "cost": cost}


@register("coupling", version=2, upgrades={1: _state_of_0_1})
@dataclass(frozen=True, eq=False, repr=False)
class Coupling(Displayed):
    """A transport plan between n source and m target points: made by `couple`, or by `of_pairs` from known pairs.

    Attributes
    ----------
    cost : Cost or None
        The cost that was solved, a softmin at its temperature; None for a plan of known pairs, which takes none.
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
        True only if the plan is finite, its marginal error is within the tolerance, and the solver did not give up early. An
        unbalanced exact plan is also within the tolerance of the optimum, by its duality gap.
    n_iter : int
        0 where the solver does not count.
    marginal_error : float
        L1 distance of the plan's marginals to those asked for. For an unbalanced plan, the L1 change of its
        marginals over the last iteration, or for ``method="exact"`` their L1 distance, as a share of the mass,
        to those that the dual potentials imply.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, couple
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(60, 4)), rng.normal(size=(50, 6))
    >>> coupling = couple(bridge_cost(X, Y, (np.arange(8), np.arange(8))), epsilon=0.1)
    >>> coupling.barycentric(Y).shape
    (60, 6)
    >>> coupling.map(X[:3] + 0.1, Y).shape
    (3, 6)
    >>> i, j = coupling.sample(1000, rng)
    """

    cost: Cost | None
    plan: Plan
    method: str
    epsilon: float
    unbalanced: float | None
    a: np.ndarray
    b: np.ndarray
    converged: bool
    n_iter: int
    marginal_error: float

    def _facts(self) -> dict[str, Any]:
        steps = f" in {self.n_iter} iterations" if self.n_iter else ""
        facts = {
            "points": by(*self.shape), "method": self.method, "epsilon": self.epsilon or None,
            "unbalanced": self.unbalanced,
            "state": f"{'converged' if self.converged else 'not converged'}{steps}",
            "marginal_error": self.marginal_error if self.n_iter else None,
        }  # fmt: skip
        return {name: value for name, value in facts.items() if value is not None}

    @classmethod
    def of_pairs(cls, pairs: tuple[Array, Array], shape: tuple[int, int]) -> Coupling:
        """Couple known pairs and nothing else, each with the same mass, without any cost.

        Parameters
        ----------
        pairs : tuple of two int arrays of shape (n_pairs,)
            Source rows and target rows.
        shape : tuple of two int
            ``(n, m)``: source points, target points.

        Returns
        -------
        Coupling
            Of method "pairs"; `sample` draws every pair with the same probability.

        Raises
        ------
        ValueError
            Different lengths, no pair, or a row outside ``shape``.

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge.bridge import Coupling
        >>> coupling = Coupling.of_pairs((np.array([0, 2]), np.array([1, 0])), (3, 2))
        >>> coupling.dense()
        array([[0. , 0.5],
               [0. , 0. ],
               [0.5, 0. ]])
        """
        plan = SparsePlan.of_pairs(check_rows(pairs, *shape), shape)
        return cls(None, plan, "pairs", 0.0, None, plan.row_mass(), plan.col_mass(), True, 0, 0.0)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``: source points, target points."""
        return len(self.a), len(self.b)

    @property
    def anchors(self) -> Rows:
        """Source and target rows of the labelled pairs; empty where the cost knows none."""
        if isinstance(self.plan, SparsePlan) and self.plan.pairs is not None:
            return self.plan.pairs
        return anchors_of(self.cost)

    @property
    def log_scalings(self) -> tuple[np.ndarray, np.ndarray]:
        """``log u`` and ``log v`` of a factored plan ``pi_ij = u_i K_ij v_j``, shapes (n,) and (m,).

        Raises
        ------
        ValueError
            The coupling is not factored.
        """
        plan = self._factored_plan("scalings")
        return plan.log_u.cpu().numpy(), plan.log_v.cpu().numpy()

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
        """Map each source point to the mean of its partners, ``T(x_i) = sum_j pi_ij Y_j / sum_j pi_ij``.

        Parameters
        ----------
        Y : array of shape (m, n_target_dims)

        Returns
        -------
        array of shape (n, n_target_dims)
            NaN for points without partners (unlabelled points of ``method="pairs"``). Y is read block by block under a factored
            coupling, so it may be a memory map or dask-backed.
        """
        return same_kind(self.plan.barycentric(self._target(Y)), Y)

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
        plan = self._factored_plan("a formula for unseen points")
        target, new = self._target(Y), PointSource.of(X_new, name="X_new")
        # Once for all blocks: a pass over all target points.
        images = plan.anchor_images(target)
        parts = [
            plan.map(plan.cost.source.of(block), images)
            for _, block in new.blocks(max(new.shape[1], plan.cost.n_anchors))
        ]
        return same_kind(np.concatenate(parts), Y)

    def entropy(self, *, n_samples: int = 100_000, seed: int = 0) -> float:
        """Entropy ``-sum_ij pi_ij log pi_ij`` of the plan, scaled to mass one; ``log(n m)`` at most.

        Exact up to four million entries; above, the mean of ``-log pi_ij`` over ``n_samples`` seeded draws from the plan, whose
        standard error is about ``1 / sqrt(n_samples)``.
        """
        i, j, share = self._entries(n_samples, seed)
        if share is None:
            return math.log(float(self.row_mass.sum())) - float(self._log_entries(i, j).mean())
        return float(-(share * np.log(share)).sum())

    def expected_cost(self, *, n_samples: int = 100_000, seed: int = 0) -> float:
        """Mean cost ``<pi, C>`` of the plan under the cost that was solved, scaled to mass one: exact or sampled as `entropy` is.

        Raises
        ------
        ValueError
            A coupling without a cost, as that of `of_pairs`.
        """
        i, j, share = self._entries(n_samples, seed)
        cost = self._cost_of(i, j)
        return float(cost.mean()) if share is None else float((share * cost).sum())

    def _entries(self, n_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return all entries with mass and the share each has of it; of a large plan draws from it, and None."""
        n, m = self.shape
        if isinstance(self.plan, SparsePlan):
            entries = self.plan.matrix.tocoo()
            i, j, weight = entries.row, entries.col, entries.data
        elif n * m <= _MOST_ENTRIES:
            matrix = self.plan.rows(np.arange(n))
            i, j = matrix.nonzero()
            weight = matrix[i, j]
        else:
            return *self.plan.sample(n_samples, np.random.default_rng(seed)), None
        return i, j, weight / weight.sum()

    def _log_entries(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """``log pi_ij`` of some entries, shape (n_entries,)."""
        if isinstance(self.plan, FactoredPlan):
            return self.plan.log_entries(i, j)
        rows, place = np.unique(i, return_inverse=True)
        mass = np.empty(len(i))
        for part in row_blocks(len(rows), self.shape[1], budget=1 << 23):
            inside = (place >= part.start) & (place < part.stop)
            mass[inside] = self.plan.rows(rows[part])[place[inside] - part.start, j[inside]]
        return np.log(mass)

    def _cost_of(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Cost of some entries, shape (n_entries,)."""
        if self.cost is None:
            raise ValueError(
                "found a coupling of known pairs, which has no cost; expected one. "
                "Mend: couple(bridge_cost(X, Y, pairs), method='pairs')."
            )
        if isinstance(self.cost, BridgeCost):
            return self.cost.entries(i, j)
        rows, place = np.unique(i, return_inverse=True)
        out = np.empty(len(i))
        for part in row_blocks(len(rows), self.shape[1], budget=1 << 23):
            inside = (place >= part.start) & (place < part.stop)
            block = self.cost.rows(rows[part]).double().cpu().numpy()
            out[inside] = block[place[inside] - part.start, j[inside]]
        return out

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
        cost = None if self.cost is None else transposed(self.cost)
        return replace(self, cost=cost, plan=self.plan.transposed(), a=self.b, b=self.a)

    def _factored_plan(self, what: str) -> FactoredPlan:
        if not isinstance(self.plan, FactoredPlan):
            raise ValueError(
                f"found a coupling of method {self.method!r}; expected 'factored' (not pinned), which alone has {what}. "
                "Mend: couple(cost, method='factored'), or train a ConditionalFlow on this coupling."
            )
        return self.plan

    def _target(self, Y: Array) -> PointSource:
        target = PointSource.of(Y, name="Y")
        if target.shape[0] != self.shape[1]:
            raise ValueError(
                f"Y: found {target.shape[0]} rows; expected {self.shape[1]}, one for each target point of the coupling. "
                "Mend: pass the target array the cost was built from."
            )
        return target
