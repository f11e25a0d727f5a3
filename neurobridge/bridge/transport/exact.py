"""Exact transport with relaxed marginals: an interior-point method for the potentials, and a sparse plan from them.

The dual of ``min_pi <pi, C> + rho KL(pi 1 | a) + rho KL(pi^T 1 | b)`` is to maximise, under ``f_i + g_j <= C_ij``,
``-rho sum_i a_i (exp(-f_i / rho) - 1) - rho sum_j b_j (exp(-g_j / rho) - 1)``. At the optimum the plan has the marginals
``a exp(-f / rho)`` and ``b exp(-g / rho)``, and is balanced transport between them, by which its few entries are found.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import ot
from scipy import linalg

# Above this weight, in units of the cost, double precision cannot tell the plan from the balanced one.
_LARGEST_WEIGHT = 1e12
# Accuracy of the potentials, far below any tolerance of a plan: the objective is flat at the optimum.
_ACCURACY = 1e-10
_MOST_STEPS = 200
# A plan of less, where one was asked for, is none.
_LEAST_MASS = 1e-200
# Share of the way to the border that a step may go.
_TO_BORDER = 0.995


class RelaxedPlan(NamedTuple):
    """Result of exact transport with relaxed marginals.

    Attributes
    ----------
    matrix : array of shape (n, m)
        The plan; at most n + m - 1 entries are not zero.
    n_iter : int
        Steps of the interior-point method.
    marginal_error : float
        L1 distance of the plan's marginals from those that the potentials imply, over the mass of the plan.
    gap : float
        Duality gap per unit of mass, in the unit of the cost or in rho, if that is smaller: how much lower the objective could
        be at most.
    """

    matrix: np.ndarray
    n_iter: int
    marginal_error: float
    gap: float


class _Potentials(NamedTuple):
    """Potentials of both sides, and the logarithms of the marginals they imply at the best constant between them.

    The constant, ``f = F + t`` and ``g = G - t``, is the one at which both marginals have the same mass. It grows with rho, and
    would take the digits of F and G with it.
    """

    F: np.ndarray
    G: np.ndarray
    log_rows: np.ndarray
    log_columns: np.ndarray

    @classmethod
    def of(cls, F: np.ndarray, G: np.ndarray, log_a: np.ndarray, log_b: np.ndarray, rho: float) -> _Potentials:
        """Find the marginals of potentials."""
        log_rows, log_columns = log_a - F / rho, log_b - G / rho
        shift = (_log_sum(log_rows) - _log_sum(log_columns)) / 2
        return cls(F, G, log_rows - shift, log_columns + shift)

    def marginals(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the marginals, shapes (n,) and (m,)."""
        return np.exp(self.log_rows), np.exp(self.log_columns)


def relaxed_plan(
    cost: np.ndarray, a: np.ndarray, b: np.ndarray, rho: float, *, unit: float, max_iter: int, n_pivots: int
) -> RelaxedPlan:
    """Solve exact transport whose marginals are held by a KL penalty.

    Parameters
    ----------
    cost : float64 array of shape (n, m)
    a, b : arrays of shape (n,) and (m,)
        Positive masses, of any total.
    rho : float
        Weight of the penalty, in the units of the cost.
    unit : float
        Cost that the accuracy is a fraction of.
    max_iter : int
        Most steps of the interior-point method; it takes 15 to 60.
    n_pivots : int
        Most pivots of the network simplex.

    Returns
    -------
    RelaxedPlan

    References
    ----------
    Mehrotra 1992 (predictor and corrector steps). Sejourne, Vialard & Peyre 2022, *Faster unbalanced optimal transport* (the
    constant between the potentials).

    Examples
    --------
    >>> plan = relaxed_plan(np.array([[0.0, 2.0]]), np.ones(1), np.ones(2), 1.0, unit=1.0, max_iter=100, n_pivots=1000)
    >>> plan.matrix.round(3).tolist()
    [[0.939, 0.127]]
    """
    rho = min(rho, _LARGEST_WEIGHT * unit)
    # Mass changes by exp(-f / rho): a small rho asks for potentials that are right to a fraction of it.
    unit = min(unit, rho)
    # The unknowns of the rows are solved for last: they are those of the smaller side.
    if cost.shape[0] > cost.shape[1]:
        turned = relaxed_plan(cost.T, b, a, rho, unit=unit, max_iter=max_iter, n_pivots=n_pivots)
        return turned._replace(matrix=turned.matrix.T)
    log_a, log_b = np.log(a), np.log(b)
    # Masses near 1; plan and masses grow together.
    log_total = (_log_sum(log_a) + _log_sum(log_b)) / 2
    log_a, log_b = log_a - log_total, log_b - log_total
    # Entries without mass may under- or overflow on the way; the certificate below judges the result.
    with np.errstate(all="ignore"):
        interior, potentials, n_iter = _solve_interior(cost, log_a, log_b, rho, unit, min(max_iter, _MOST_STEPS))
        rows, columns = interior.sum(axis=1), interior.sum(axis=0)
        mass = float(rows.sum())
    if not _LEAST_MASS < mass < math.inf:
        mass = 0.0 if mass <= _LEAST_MASS else math.nan
        return RelaxedPlan(np.full(cost.shape, mass), n_iter, mass, mass)
    shares, log = ot.emd(rows / mass, columns / columns.sum(), cost, numItermax=n_pivots, log=True)
    # Dual feasible to the last bit, which a certificate has to be.
    F = (cost - potentials.G).min(axis=1)
    G = (cost - F[:, None]).min(axis=0)
    slack = np.maximum(cost - F[:, None] - G, 0)
    with np.errstate(all="ignore"):
        implied = _Potentials.of(F, G, log_a, log_b, rho).marginals()
    misfits = [(shares.sum(axis=axis), marginal / mass) for axis, marginal in ((1, implied[0]), (0, implied[1]))]
    # <pi, C - f - g> + rho KL(pi 1 | a exp(-f / rho)) + rho KL(pi^T 1 | b exp(-g / rho)): no difference of large numbers.
    gap = float((shares * slack).sum() + rho * sum(_kl(p, q) for p, q in misfits))
    error = float(sum(np.abs(p - q).sum() for p, q in misfits))
    return RelaxedPlan(
        shares * (mass * math.exp(log_total)), n_iter, error, gap / unit if log["warning"] is None else math.inf
    )


def _solve_interior(
    cost: np.ndarray, log_a: np.ndarray, log_b: np.ndarray, rho: float, unit: float, max_iter: int
) -> tuple[np.ndarray, _Potentials, int]:
    """Follow the central path ``pi_ij (C_ij - f_i - g_j) = mu`` to mu near 0: plan without zeros, potentials, steps."""
    F = cost.min(axis=1) / 2
    G = (cost - F[:, None]).min(axis=0)
    potentials = _Potentials.of(F - unit / 2, G - unit / 2, log_a, log_b, rho)
    slack = cost - potentials.F[:, None] - potentials.G
    plan = 1 / slack
    plan *= np.exp(np.clip(_log_sum(potentials.log_rows), -50, 0)) / plan.sum()
    before = math.inf
    for n_iter in range(max_iter):
        sums, mass = (plan.sum(axis=1), plan.sum(axis=0)), float(plan.sum())
        if not _LEAST_MASS < mass < math.inf:
            return plan, potentials, n_iter
        residual = sum(float(np.abs(p - q).sum()) for p, q in zip(sums, potentials.marginals(), strict=True)) / mass
        complementarity = float((plan * slack).sum()) / (unit * mass)
        # Where rounding keeps the marginals from their last digits, further steps change nothing.
        solved = complementarity <= _ACCURACY and (residual <= _ACCURACY or residual > before / 2)
        newton = None if solved else _NewtonSystem.of(plan, slack, sums, potentials, rho)
        if newton is None:
            return plan, potentials, n_iter
        before = residual
        mu = complementarity * unit * mass / plan.size
        if mu <= 0:
            return plan, potentials, n_iter
        _, _, slack_step, plan_step = newton.solve(np.zeros_like(plan))
        ahead = _to_border(plan, plan_step), _to_border(slack, slack_step)
        mu_ahead = float(((plan + ahead[0] * plan_step) * (slack + ahead[1] * slack_step)).mean())
        centred = (max(mu_ahead, 0.0) / mu) ** 3 * mu
        F_step, G_step, slack_step, plan_step = newton.solve((centred - plan_step * slack_step) / slack)
        dual_share = min(1.0, _TO_BORDER * _to_border(slack, slack_step))
        plan = plan + min(1.0, _TO_BORDER * _to_border(plan, plan_step)) * plan_step
        slack = slack + dual_share * slack_step
        potentials = _Potentials.of(
            potentials.F + dual_share * F_step, potentials.G + dual_share * G_step, log_a, log_b, rho
        )
    return plan, potentials, max_iter


class _NewtonSystem(NamedTuple):
    """The equations of a Newton step, the rows' unknowns left: ``S F_step = right side``, with its Cholesky factor."""

    plan: np.ndarray
    weight: np.ndarray
    row_target: np.ndarray
    column_target: np.ndarray
    column_diagonal: np.ndarray
    factor: tuple[np.ndarray, bool]

    @classmethod
    def of(
        cls,
        plan: np.ndarray,
        slack: np.ndarray,
        sums: tuple[np.ndarray, np.ndarray],
        potentials: _Potentials,
        rho: float,
    ) -> _NewtonSystem | None:
        """Build and factor the system; None where rounding has used it up.

        Marginals r are linearised in ``f = -rho log(r / a)``, which stays near its tangent over more orders of magnitude than
        ``r = a exp(-f / rho)`` does.
        """
        weight = plan / slack
        row_target = sums[0] * (1 - np.log(sums[0]) + potentials.log_rows)
        column_target = sums[1] * (1 - np.log(sums[1]) + potentials.log_columns)
        row_diagonal, column_diagonal = sums[0] / rho + weight.sum(axis=1), sums[1] / rho + weight.sum(axis=0)
        system = -(weight / column_diagonal) @ weight.T
        # A trace of the diagonal keeps the constant between the potentials from making it singular.
        system[np.diag_indices_from(system)] += row_diagonal * (1 + 1e-14)
        try:
            factor = linalg.cho_factor(system, overwrite_a=True)
        except (linalg.LinAlgError, ValueError):
            return None
        return cls(plan, weight, row_target, column_target, column_diagonal, factor)

    def solve(self, centred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the steps of F, G, slack and plan towards a plan of ``centred``, where complementarity decides."""
        row_misfit = self.row_target - centred.sum(axis=1)
        column_misfit = self.column_target - centred.sum(axis=0)
        right = row_misfit - self.weight @ (column_misfit / self.column_diagonal)
        F_step = linalg.cho_solve(self.factor, right, check_finite=False)
        G_step = (column_misfit - self.weight.T @ F_step) / self.column_diagonal
        slack_step = -(F_step[:, None] + G_step)
        return F_step, G_step, slack_step, centred - self.plan - self.weight * slack_step


def _to_border(values: np.ndarray, step: np.ndarray) -> float:
    """Share of a step, at most 1, after which the first of positive values is zero."""
    ratios = np.where(step < 0, values / -step, np.inf)
    return min(1.0, float(ratios.min()))


def _log_sum(values: np.ndarray) -> float:
    peak = values.max()
    return float(peak + np.log(np.exp(values - peak).sum()))


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    """``sum p log(p / q) - p + q``, accurate where both are nearly the same."""
    q = np.maximum(q, 1e-300)
    with np.errstate(all="ignore"):
        excess = (p - q) / q
        terms = np.where(np.abs(excess) < 1e-4, q * excess**2 / 2 * (1 - excess / 3), p * np.log(p / q) - p + q)
    return float(np.where(p > 0, terms, q).sum())
