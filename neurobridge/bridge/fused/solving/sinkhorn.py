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


@register("fused-potentials")
class Potentials(NamedTuple):
    """A solved plan ``P_ij = exp(log_u_i - C_ij / eps + log_v_j)``.

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


def sinkhorn(cost: torch.Tensor, epsilon: float, tol: float, log_v: torch.Tensor | None = None) -> Potentials:
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

    Returns
    -------
    Potentials
        Finite also where ``tol`` was not reached within 2,000 iterations.

    References
    ----------
    Schmitzer 2019, *Stabilized sparse scaling algorithms for entropy regularized transport problems*.

    Examples
    --------
    >>> plan = sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.1, 1e-6)
    >>> (plan.log_u[:, None] + plan.log_v).shape, plan.marginal_error < 1e-6
    (torch.Size([2, 2]), True)
    """
    n, m = cost.shape
    a, b = 1.0 / n, 1.0 / m
    log_v = torch.full((m,), math.log(b), dtype=torch.float64, device=cost.device) if log_v is None else log_v
    log_u = torch.zeros(n, dtype=torch.float64, device=cost.device)
    # float32 sums of some thousand terms are right to about 1e-6.
    scaled = (cost.double() if tol < 1e-5 else cost) / -epsilon
    n_iter, error = 0, math.inf
    while n_iter < _MAX_ITER:
        log_u = math.log(a) - torch.logsumexp(scaled + log_v.to(scaled), dim=1).double()
        log_v = math.log(b) - torch.logsumexp(scaled + log_u.to(scaled)[:, None], dim=0).double()
        kernel = (scaled + log_u.to(scaled)[:, None]).add_(log_v.to(scaled)).exp_()
        u, v = torch.ones_like(kernel[:, 0]), torch.ones_like(kernel[0])
        while n_iter < _MAX_ITER:
            rows = kernel @ v
            error = float((u * rows - a).abs().sum(dtype=torch.float64))
            if error <= tol:
                break
            new_u = a / rows
            new_v = b / (new_u @ kernel)
            n_iter += 1
            peak = max(float(new_u.log().abs().max()), float(new_v.log().abs().max()))
            if not peak <= _ABSORB:
                break
            u, v = new_u, new_v
        log_u, log_v = log_u + u.double().log(), log_v + v.double().log()
        if error <= tol:
            break
    return Potentials(log_u, log_v, n_iter + 1, error)
