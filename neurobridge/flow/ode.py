"""Transport along a velocity field: fixed-step Runge-Kutta rules, and torchdiffeq where steps should adapt."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torchdiffeq

Field = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Integrated(NamedTuple):
    """End state of shape (batch, dims), and how often the field was evaluated."""

    x: torch.Tensor
    n_evaluations: int


def euler_step(field: Field, t: torch.Tensor, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """One step of order 1."""
    return x + h * field(t, x)


def midpoint_step(field: Field, t: torch.Tensor, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """One step of order 2."""
    return x + h * field(t + h / 2, x + h / 2 * field(t, x))


def rk4_step(field: Field, t: torch.Tensor, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """One step of order 4."""
    k1 = field(t, x)
    k2 = field(t + h / 2, x + h / 2 * k1)
    k3 = field(t + h / 2, x + h / 2 * k2)
    k4 = field(t + h, x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


STEPS: dict[str, Callable[[Field, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "euler": euler_step,
    "midpoint": midpoint_step,
    "rk4": rk4_step,
}


def integrate(
    field: Field,
    x: torch.Tensor,
    *,
    t_start: float = 0.0,
    t_end: float = 1.0,
    method: str = "midpoint",
    n_steps: int = 20,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Integrated:
    """Solve ``dx/dt = field(t, x)`` from ``t_start`` to ``t_end`` (backward in time if it is smaller).

    Parameters
    ----------
    field : callable
        Takes a scalar time tensor and a state of shape (batch, dims), gives the velocity.
    x : tensor of shape (batch, dims)
    method : {"euler", "midpoint", "rk4", "dopri5"}
        "dopri5" is torchdiffeq's adaptive solver, within ``rtol`` and ``atol``; the others take ``n_steps`` equal steps.

    Raises
    ------
    ValueError
        Unknown method or fewer than one step.
    FloatingPointError
        The state became non-finite: the field sends points away without bound.
    """
    evaluations = 0

    def counted(t: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        return field(t, state)

    if method in STEPS:
        if n_steps < 1:
            raise ValueError(f"found n_steps={n_steps}; expected at least 1. Mend: use 20.")
        times = torch.linspace(t_start, t_end, n_steps + 1, dtype=x.dtype, device=x.device)
        for step in range(n_steps):
            x = STEPS[method](counted, times[step], x, times[step + 1] - times[step])
    elif method == "dopri5":
        span = torch.tensor([t_start, t_end], dtype=x.dtype, device=x.device)
        x = torchdiffeq.odeint(counted, x, span, method="dopri5", rtol=rtol, atol=atol)[-1]
    else:
        raise ValueError(f"found method {method!r}; expected one of {[*STEPS, 'dopri5']}. Mend: choose one of them.")
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).any(dim=1).sum())
        raise FloatingPointError(
            f"found {bad} of {len(x)} transported points that are not finite; expected a bounded flow. "
            "Mend: train on more pairs, use base='affine' instead of 'pad', or lower the learning rate."
        )
    return Integrated(x, evaluations)
