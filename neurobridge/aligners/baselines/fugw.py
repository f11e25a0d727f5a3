"""Fused unbalanced Gromov-Wasserstein transport, with distances to the pairs as features."""

from __future__ import annotations

import warnings

import numpy as np
from ot.gromov import fused_unbalanced_gromov_wasserstein
from scipy.spatial.distance import cdist

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.maps.linear import LinearMap, ridge_map
from neurobridge.points.memory import check_memory
from neurobridge.points.options import is_number
from neurobridge.store.kinds import register

_ITERATIONS, _SCALING_ITERATIONS = 20, 100
_TOLERANCE = 1e-5
# exp(-700) is the least number of float64; costs move while plans do.
_LARGEST_EXPONENT = 300.0
# Matrices of n x m points that POT holds at once, as measured.
_MATRICES = 8


@register("fugw")
class FUGW(AssemblyAligner):
    """Fused unbalanced Gromov-Wasserstein transport over all points, read by ridge regression.

    1. Distances within a space, divided by their mean, are C and D. A point is described by its distances to the pairs:
       ``M_ij = mean_p (C_ip - D_jp)^2``.
    2. Plans pi and psi minimise (Thual et al. 2022, NeurIPS, arXiv 2206.09398) ``sum (C_ik - D_jl)^2 pi_ij psi_kl + alpha / 2 sum
       (pi + psi)_ij M_ij + rho KL(marginals of pi x psi | uniform) + epsilon KL(pi x psi | uniform)``, solved by POT's
       ``fused_unbalanced_gromov_wasserstein`` in at most 20 alternations. Where a point is so far from
       all others that its kernel would underflow, epsilon is 1/300 of the cost of its cheapest partner (``epsilon_``).
    3. Ridge regression maps source points to their mean partners; a paired point has its partner alone.

    The matrices of n x n, n x m and m x m numbers are held in memory, and an alternation takes of the order of ``n m (n + m)``
    operations: what would be too large is refused.

    Parameters
    ----------
    alpha : float
        Weight of the distances to the pairs beside the distances within the spaces.
    rho : float
        Cost of mass that stays behind; large values send all of it.
    epsilon : float
        Entropy, in units of the squared distances.
    memory_limit : float
        Bytes of all matrices, above which `fit` refuses.
    operation_limit : float
        Floating-point operations of the alternations, above which `fit` refuses; the default is about a quarter of an
        hour on a core.
    seed : int
        Only used to draw pairs when a fraction is given.

    Attributes
    ----------
    maps_ : tuple of two LinearMap
        Forward and backward, in standard deviations of both spaces.
    epsilon_ : float
        Entropy used: ``epsilon``, or more where a point is far from all others.
    mass_ : float
        Transported mass; 1 where none stayed behind.

    Notes
    -----
    alpha and epsilon were chosen on development draws of real IT and V4 sites (10, 20 and 60 pairs; seeds 100 to 102). There
    rho of 0.1 to 10 hardly differ, but small ones let all mass vanish where the spaces are unrelated.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import FUGW
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> aligner = FUGW().fit(X, -2 * X, pairs=(np.arange(10), np.arange(10)))
    >>> aligner.score(X[10:], -2 * X[10:]) > 0.9
    True
    """

    def __init__(
        self,
        *,
        alpha: float = 10.0,
        rho: float = 10.0,
        epsilon: float = 0.01,
        memory_limit: float = 2e9,
        operation_limit: float = 1e13,
        seed: int = 0,
    ) -> None:
        self.alpha = alpha
        self.rho = rho
        self.epsilon = epsilon
        self.memory_limit = memory_limit
        self.operation_limit = operation_limit
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        self._check(len(X), len(Y))
        C, D = (_relative_distances(side) for side in (X, Y))
        M = cdist(C[:, rows[0]], D[:, rows[1]], "sqeuclidean") / len(rows[0])
        plan = self._plan(C, D, M)
        self.mass_ = float(plan.sum())
        self.maps_ = _partner_ridge(plan, X, Y, rows), _partner_ridge(plan.T, Y, X, rows[::-1])

    def _check(self, n: int, m: int) -> None:
        for name in ("rho", "epsilon"):
            if not (is_number(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(
                    f"found {name}={getattr(self, name)}; expected a positive number. Mend: leave it out for the default."
                )
        if not self.alpha >= 0:
            raise ValueError(f"found alpha={self.alpha}; expected at least 0. Mend: leave it out for the default.")
        mend = "pass fewer unpaired points, or use BridgeAligner(coupling='factored'), which builds no n x m matrix"
        needed = 8.0 * (n * n + m * m + _MATRICES * n * m)
        check_memory(needed, self.memory_limit, f"fused Gromov-Wasserstein transport of {n} x {m} points", mend=mend)
        operations = 4.0 * _ITERATIONS * n * m * (n + m)
        if operations > self.operation_limit:
            raise ValueError(
                f"found fused Gromov-Wasserstein transport of {n} x {m} points, which takes up to {operations:.1e} operations; "
                f"expected at most {self.operation_limit:.1e}. Mend: {mend}, or raise operation_limit."
            )

    def _plan(self, C: np.ndarray, D: np.ndarray, M: np.ndarray) -> np.ndarray:
        self.epsilon_ = max(self.epsilon, _least_cost(C, D, self.alpha * M) / _LARGEST_EXPONENT)
        try:
            with warnings.catch_warnings():
                # POT goes on with the plan before last where numbers overflow.
                warnings.filterwarnings("error", "Numerical errors")
                with np.errstate(all="ignore"):
                    plan = fused_unbalanced_gromov_wasserstein(
                        C, D, reg_marginals=float(self.rho), epsilon=self.epsilon_, alpha=self.alpha, M=M,
                        unbalanced_solver="sinkhorn", max_iter=_ITERATIONS, max_iter_ot=_SCALING_ITERATIONS, tol=_TOLERANCE,
                    )[0]  # fmt: skip
        except (ValueError, UserWarning) as error:
            raise ValueError(
                f"found no plan of {len(C)} x {len(D)} points at epsilon={self.epsilon_:g}, rho={self.rho:g} (POT: {error}); "
                f"expected a finite one. Mend: FUGW(epsilon={10 * self.epsilon_:g}), or a larger rho."
            ) from error
        return np.asarray(plan)

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.maps_[0](X))

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return np.asarray(self.maps_[1](Y))


def _least_cost(C: np.ndarray, D: np.ndarray, linear: np.ndarray) -> float:
    """Return the cost of the cheapest partner of the point whose cheapest partner costs most, under the uniform plan."""
    cost = (C**2).mean(axis=1)[:, None] + (D**2).mean(axis=1) - 2 * np.outer(C.mean(axis=1), D.mean(axis=1)) + linear
    return float(max(cost.min(axis=1).max(), cost.min(axis=0).max()))


def _relative_distances(X: np.ndarray) -> np.ndarray:
    distances = cdist(X, X)
    return distances / distances.mean()


def _partner_ridge(plan: np.ndarray, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> LinearMap:
    """Fit ridge regression from points to their mean partners; points without partners are left out."""
    mass = plan.sum(axis=1)
    coupled = np.setdiff1d(np.flatnonzero(mass > 0), rows[0])
    images = plan[coupled] @ Y / mass[coupled, None]
    return ridge_map(
        np.concatenate([X[rows[0]], X[coupled]]), np.concatenate([Y[rows[1]], images]), penalty="shared", unit=1.0
    )
