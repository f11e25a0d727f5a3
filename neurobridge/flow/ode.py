"""Transport along a velocity field: fixed-step Runge-Kutta rules, and torchdiffeq where steps should adapt."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
import torchdiffeq

Field = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Step = Callable[[Field, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Integrated(NamedTuple):
    """End state of shape (batch, dims), and how often the field was evaluated."""

    x: torch.Tensor
    n_evaluations: int


class Tolerance(NamedTuple):
    """What a solver is given: equal steps for the fixed-step rules, relative and absolute error for the adaptive one."""

    n_steps: int = 20
    rtol: float = 1e-6
    atol: float = 1e-6


Solver = Callable[[Field, torch.Tensor, float, float, Tolerance], torch.Tensor]


def euler_step(field: Field, t: torch.Tensor, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """One step of order 1, ``x + h f(t, x)`` (Hairer, Norsett & Wanner 1993, eq. I.7.3)."""
    return x + h * field(t, x)


def midpoint_step(field: Field, t: torch.Tensor, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """One step of order 2, ``x + h f(t + h/2, x + h/2 f(t, x))`` (Hairer, Norsett & Wanner 1993, eq. II.1.4)."""
    return x + h * field(t + h / 2, x + h / 2 * field(t, x))


def rk4_step(field: Field, t: torch.Tensor, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """One step of order 4, the classical rule (Hairer, Norsett & Wanner 1993, table II.1.2)."""
    k1 = field(t, x)
    k2 = field(t + h / 2, x + h / 2 * k1)
    k3 = field(t + h / 2, x + h / 2 * k2)
    k4 = field(t + h, x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


STEPS: dict[str, Step] = {"euler": euler_step, "midpoint": midpoint_step, "rk4": rk4_step}


def _fixed(step: Step) -> Solver:
    def solve(field: Field, x: torch.Tensor, t_start: float, t_end: float, tolerance: Tolerance) -> torch.Tensor:
        if tolerance.n_steps < 1:
            raise ValueError(f"found n_steps={tolerance.n_steps}; expected at least 1. Mend: use 20.")
        times = torch.linspace(t_start, t_end, tolerance.n_steps + 1, dtype=x.dtype, device=x.device)
        for now, then in pairwise(times):
            x = step(field, now, x, then - now)
        return x

    return solve


def dopri5(field: Field, x: torch.Tensor, t_start: float, t_end: float, tolerance: Tolerance) -> torch.Tensor:
    """Dormand & Prince 5(4) with adaptive steps, by torchdiffeq."""
    if not (tolerance.rtol > 0 and tolerance.atol > 0):
        raise ValueError(f"found rtol={tolerance.rtol}, atol={tolerance.atol}; expected both positive. Mend: use 1e-6.")
    span = torch.tensor([t_start, t_end], dtype=x.dtype, device=x.device)
    try:
        return torchdiffeq.odeint(field, x, span, method="dopri5", rtol=tolerance.rtol, atol=tolerance.atol)[-1]
    except AssertionError as error:
        # torchdiffeq asserts when its step shrinks to nothing or the state is not finite: the field has no bound there.
        raise FloatingPointError(
            f"found a velocity that the adaptive solver cannot follow ({error}); expected a bounded flow. Mend: train on more "
            "pairs, use base='affine' instead of 'pad', or keep to points near those of fitting."
        ) from error


SOLVERS: dict[str, Solver] = {**{name: _fixed(step) for name, step in STEPS.items()}, "dopri5": dopri5}


def integrate(
    field: Field,
    x: torch.Tensor,
    *,
    t_start: float = 0.0,
    t_end: float = 1.0,
    method: str = "midpoint",
    n_steps: int = 20,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Integrated:
    """Solve ``dx/dt = field(t, x)`` from ``t_start`` to ``t_end`` (backward in time if it is smaller).

    Equation 1 of Lipman et al. 2023 (arXiv 2210.02747).

    Parameters
    ----------
    field : callable
        Takes a scalar time tensor and a state of shape (batch, dims), gives the velocity.
    x : tensor of shape (batch, dims)
    method : {"euler", "midpoint", "rk4", "dopri5"}
        "dopri5" is torchdiffeq's adaptive solver, within ``rtol`` and ``atol``; the others take ``n_steps`` equal steps.

    Returns
    -------
    Integrated
        The end state, shape (batch, dims), and the number of evaluations of the field.

    Raises
    ------
    ValueError
        Unknown method, fewer than one step, or tolerances that are not positive.
    FloatingPointError
        The state became non-finite: the field sends points away without bound.
    """
    if method not in SOLVERS:
        raise ValueError(f"found method {method!r}; expected one of {list(SOLVERS)}. Mend: choose one of them.")
    evaluations = 0

    def counted(t: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        return field(t, state)

    x = SOLVERS[method](counted, x, t_start, t_end, Tolerance(n_steps, rtol, atol))
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).any(dim=1).sum())
        raise FloatingPointError(
            f"found {bad} of {len(x)} transported points that are not finite; expected a bounded flow. "
            "Mend: train on more pairs, use base='affine' instead of 'pad', or lower the learning rate."
        )
    return Integrated(x, evaluations)
