"""Entropic transport between uniform marginals, on a cost that is written out."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from neurobridge.points.display import short_repr
from neurobridge.store.kinds import register

_MAX_ITER = 2000
# Scalings beyond exp(+-30) are absorbed into the potentials, long before float32 ends at exp(88).
_ABSORB = 30.0
# Overrelaxation: plain steps before the rate is looked at, how little it may still change, the largest power, and the growth
# of the error at which it is given up.
_SEEN, _STEADY, _LARGEST, _ASTRAY = 8, 0.2, 1.95, 20.0
# Gain in the power that is worth a change, and the times that it is tried again after it led astray.
_WORTH, _LIVES = 0.03, 3


@register("fused-potentials")
class Potentials(NamedTuple):
    """A solved plan ``pi_ij = exp(log_u_i - C_ij / eps + log_v_j)``.

    Attributes
    ----------
    log_u, log_v : float64 tensors of shape (n,) and (m,)
    n_iter : int
    marginal_error : float
        L1 error of the row marginal.
    """

    log_u: torch.Tensor
    log_v: torch.Tensor
    n_iter: int
    marginal_error: float

    def __repr__(self) -> str:
        size = f"{len(self.log_u)} x {len(self.log_v)}"
        return short_repr("Potentials", size, n_iter=self.n_iter, marginal_error=self.marginal_error)


def sinkhorn(
    cost: torch.Tensor, epsilon: float, tol: float, log_v: torch.Tensor | None = None, *, relax: bool = False
) -> Potentials:
    """Solve entropic transport between uniform marginals by matrix-vector products.

    The kernel ``K_ij = exp(log_u_i - C_ij / eps + log_v_j)`` holds the potentials. It starts from one step in the log domain,
    so that every row and column has mass; scalings that leave a safe range are absorbed into the potentials and K is built
    again (stabilised scaling, Schmitzer 2019).

    Parameters
    ----------
    cost : float32 tensor of shape (n, m)
    epsilon : float
        Entropic temperature, in the unit of the cost.
    tol : float
        L1 error of the row marginal at which the plan is accepted; the column marginal is exact.
    log_v : float64 tensor of shape (m,), optional
        Log scaling to start from.
    relax : bool
        Overrelax the scalings, ``u <- u^(1 - w) (a / K v)^w``, by the w that is best for the rate at which the error falls, as soon
        as that is known: a fifth of the iterations where they are many, and seldom more than without. The plan is another one
        within ``tol``.

    Returns
    -------
    Potentials
        Finite also where ``tol`` was not reached within 2,000 iterations.

    References
    ----------
    Schmitzer 2019, *Stabilized sparse scaling algorithms for entropy regularized transport problems*. Lehmann, von Renesse,
    Sambale & Uschmajew 2022, *A note on overrelaxation in the Sinkhorn algorithm*, Optimization Letters 16:2209.

    Examples
    --------
    >>> plan = sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.1, 1e-6)
    >>> (plan.log_u[:, None] + plan.log_v).shape, plan.marginal_error < 1e-6
    (torch.Size([2, 2]), True)
    """
    return scaled_sinkhorn(fine_enough(cost, tol) / -epsilon, tol, log_v, relax=relax)


def fine_enough(cost: torch.Tensor, tol: float) -> torch.Tensor:
    """Return a cost in the precision that a tolerance needs: float32 sums of some thousand terms are right to about 1e-6."""
    return cost.double() if tol < 1e-5 else cost


def scaled_sinkhorn(
    scaled: torch.Tensor, tol: float, log_v: torch.Tensor | None = None, *, relax: bool = False
) -> Potentials:
    """Solve as `sinkhorn` does, for ``-C / epsilon`` of shape (n, m)."""
    n, m = scaled.shape
    a, b = 1.0 / n, 1.0 / m
    log_v = torch.full((m,), math.log(b), dtype=torch.float64, device=scaled.device) if log_v is None else log_v
    log_u = torch.zeros(n, dtype=torch.float64, device=scaled.device)
    n_iter, error = 0, math.inf
    pace = _Pace(relax)
    # One matrix for all that is computed of them: memory that the system gives anew costs as much time as an exponential.
    kernel = torch.empty_like(scaled)
    while n_iter < _MAX_ITER:
        log_u = math.log(a) - _log_sums(torch.add(scaled, log_v.to(scaled), out=kernel), 1).double()
        log_v = math.log(b) - _log_sums(torch.add(scaled, log_u.to(scaled)[:, None], out=kernel), 0).double()
        torch.add(scaled, log_u.to(scaled)[:, None], out=kernel).add_(log_v.to(scaled)).exp_()
        u, v = torch.ones_like(kernel[:, 0]), torch.ones_like(kernel[0])
        while n_iter < _MAX_ITER:
            rows = kernel @ v
            error = float((u * rows - a).abs().sum(dtype=torch.float64))
            if error <= tol and not pace.is_ahead:
                break
            power = pace.after(error, error <= tol)
            new_u = a / rows if power == 1 else u * (a / (u * rows)) ** power
            columns = new_u @ kernel
            new_v = b / columns if power == 1 else v * (b / (v * columns)) ** power
            n_iter += 1
            peak = max(float(new_u.log().abs().max()), float(new_v.log().abs().max()))
            if not peak <= _ABSORB:
                pace.fall_back()
                break
            u, v = new_u, new_v
        log_u, log_v = log_u + u.double().log(), log_v + v.double().log()
        if error <= tol:
            break
    return Potentials(log_u, log_v, n_iter + 1, error)


def _log_sums(scores: torch.Tensor, dim: int) -> torch.Tensor:
    """Return ``logsumexp(scores, dim)``; overwrites the scores."""
    top = scores.amax(dim=dim, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0.0)
    return scores.sub_(top).exp_().sum(dim=dim).log_().add_(top.squeeze(dim))


class _Pace:
    """Power of the next step: 1 until the rate of the error is known, then that of the best overrelaxation.

    Where errors fall by the factor r at the power w, they would at power 1 by ``l = (r + w - 1)^2 / (r w^2)``, and fall fastest at
    ``w = 2 / (1 + sqrt(1 - l))`` (Young 1954, of successive overrelaxation).
    """

    def __init__(self, relax: bool) -> None:
        self.n_lives = _LIVES if relax else 0
        self.power, self.errors, self.least = 1.0, list[float](), math.inf

    @property
    def is_ahead(self) -> bool:
        """True where the last step was overrelaxed, so that no marginal is exact."""
        return self.power != 1

    def fall_back(self) -> None:
        """Take plain steps until the rate is known again; after some times for good."""
        self.n_lives -= self.is_ahead
        self.power, self.errors, self.least = 1.0, [], math.inf

    def after(self, error: float, is_reached: bool) -> float:
        """Return the power of the step that follows an error."""
        if self.n_lives <= 0:
            return 1.0
        if is_reached:
            # A plain step makes the column marginal exact.
            self.power, self.errors = 1.0, []
            return 1.0
        if self.is_ahead and error > _ASTRAY * self.least:
            self.fall_back()
        self.errors.append(error)
        self.least = min(self.least, error)
        if len(self.errors) > _SEEN:
            rates = [after / before for before, after in zip(self.errors[-3:], self.errors[-2:], strict=False)]
            rate = max(rates)
            if self.power - 1 < rate < 1 and rate - min(rates) < _STEADY * (1 - rate):
                plain = min((rate + self.power - 1) ** 2 / (rate * self.power**2), 1.0)
                best = min(2 / (1 + math.sqrt(1 - plain)), _LARGEST)
                if best > self.power + _WORTH:
                    self.power, self.errors, self.least = best, [], error
        return self.power
