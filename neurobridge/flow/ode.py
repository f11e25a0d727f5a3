"""Transport along a velocity field: fixed-step Runge-Kutta rules, and torchdiffeq where steps should adapt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torchdiffeq

from neurobridge.flow.settings import COUNT, POSITIVE, Settings
from neurobridge.points.arrays import require_tensor
from neurobridge.points.display import html_repr, short_repr
from neurobridge.store.kinds import register

Field = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Step = Callable[[Field, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Integrated(NamedTuple):
    """End state of an integration, with the number of evaluations of the field.

    Attributes
    ----------
    x : tensor of shape (batch, dims)
    n_evaluations : int

    Examples
    --------
    >>> import torch
    >>> integrate(lambda t, x: -x, torch.ones(3, 2), n_steps=5)
    Integrated(3 x 2, n_evaluations=10)
    """

    x: torch.Tensor
    n_evaluations: int

    def __repr__(self) -> str:
        return short_repr("Integrated", " x ".join(map(str, self.x.shape)), n_evaluations=self.n_evaluations)

    def _repr_html_(self) -> str:
        return html_repr("Integrated", {"shape": tuple(self.x.shape), "evaluations": self.n_evaluations})


@register("flow-ode")
@dataclass(frozen=True, repr=False, kw_only=True)
class ODE(Settings):
    """Settings of the transport along a velocity field.

    Parameters
    ----------
    method : {"euler", "midpoint", "rk4", "dopri5"}
        "dopri5" is torchdiffeq's adaptive solver, within ``rtol`` and ``atol``; the others take ``n_steps`` equal
        steps.
    n_steps : int
        Equal steps from start to end.
    rtol, atol : float
        Relative and absolute error allowed in a step of "dopri5", in standard deviations of the training points.
    chunk_size : int
        Points moved at a time by a flow, which bounds the memory of transport; `integrate` moves all at once.

    Raises
    ------
    ValueError
        An unknown method, or a setting out of range.

    Examples
    --------
    >>> ODE(method="rk4", n_steps=8)
    ODE(method=rk4, n_steps=8)
    """

    method: str = "midpoint"
    n_steps: int = 16
    rtol: float = 1e-6
    atol: float = 1e-6
    chunk_size: int = 16384

    def __post_init__(self) -> None:
        self._check(
            {
                "method": (lambda method: method in SOLVERS, f"one of {list(SOLVERS)}"),
                "n_steps": COUNT,
                "rtol": POSITIVE,
                "atol": POSITIVE,
                "chunk_size": COUNT,
            }
        )


Solver = Callable[[Field, torch.Tensor, float, float, ODE], torch.Tensor]


def euler_step(field: Field, t: torch.Tensor, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Take one step of order 1, ``x + h f(t, x)`` (Hairer, Norsett & Wanner 1993, eq. I.7.3)."""
    return x + h * field(t, x)


def midpoint_step(field: Field, t: torch.Tensor, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Take one step of order 2, ``x + h f(t + h/2, x + h/2 f(t, x))`` (Hairer, Norsett & Wanner 1993, eq. II.1.4)."""
    return x + h * field(t + h / 2, x + h / 2 * field(t, x))


def rk4_step(field: Field, t: torch.Tensor, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Take one step of order 4 by the classical rule (Hairer, Norsett & Wanner 1993, table II.1.2)."""
    k1 = field(t, x)
    k2 = field(t + h / 2, x + h / 2 * k1)
    k3 = field(t + h / 2, x + h / 2 * k2)
    k4 = field(t + h, x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


#: The fixed-step rules: ``step(field, t, x, h)`` gives the state at ``t + h``.
STEPS: dict[str, Step] = {"euler": euler_step, "midpoint": midpoint_step, "rk4": rk4_step}


def _fixed(step: Step) -> Solver:
    def solve(field: Field, x: torch.Tensor, t_start: float, t_end: float, ode: ODE) -> torch.Tensor:
        times = torch.linspace(t_start, t_end, ode.n_steps + 1, dtype=x.dtype, device=x.device)
        for t, t_next in pairwise(times):
            x = step(field, t, x, t_next - t)
        return x

    return solve


def dopri5(field: Field, x: torch.Tensor, t_start: float, t_end: float, ode: ODE) -> torch.Tensor:
    """Solve by the adaptive rule of Dormand & Prince (1980), order 5(4), by torchdiffeq."""
    span = torch.tensor([t_start, t_end], dtype=x.dtype, device=x.device)
    try:
        return torchdiffeq.odeint(field, x, span, method="dopri5", rtol=ode.rtol, atol=ode.atol)[-1]
    except AssertionError as error:
        # torchdiffeq asserts when its step shrinks to nothing or the state is not finite: the field has no bound there.
        raise FloatingPointError(
            f"found a velocity that the adaptive solver cannot follow ({error}); expected a bounded flow. Mend: train on more "
            "pairs, use base='affine' instead of 'pad', or keep to points near those of fitting."
        ) from error


#: Every rule of `integrate`, by the name of its ``method``.
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

    Equation 1 of Lipman et al. 2023 (arXiv 2210.02747). The fixed-step rules are those of Hairer, Norsett & Wanner
    1993 (I.7, II.1), the adaptive one that of Dormand & Prince 1980.

    Parameters
    ----------
    field : callable
        Takes a scalar time tensor and a state of shape (batch, dims), gives the velocity of shape (batch, dims).
    x : tensor of shape (batch, dims)
        State at ``t_start``.
    t_start, t_end : float
    method : {"euler", "midpoint", "rk4", "dopri5"}
        "dopri5" is torchdiffeq's adaptive solver, within ``rtol`` and ``atol``; the others take ``n_steps`` equal
        steps.
    n_steps : int
    rtol, atol : float
        In the units of x.

    Returns
    -------
    Integrated
        The end state, shape (batch, dims), and the number of evaluations of the field.

    Raises
    ------
    ValueError
        Not a floating tensor of two dimensions, unknown method, fewer than one step, or tolerances that are not positive.
    FloatingPointError
        The state became non-finite: the field sends points away without bound.

    Examples
    --------
    >>> import torch
    >>> end, n_evaluations = integrate(lambda t, x: -x, torch.ones(1, 1, dtype=torch.float64), method="rk4")
    >>> round(end.item(), 6), n_evaluations  # exp(-1)
    (0.367879, 80)
    """
    ode = ODE(method=method, n_steps=n_steps, rtol=rtol, atol=atol)
    evaluations = 0

    def counted(t: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        return field(t, state)

    x = SOLVERS[method](counted, require_tensor(x, name="x"), t_start, t_end, ode)
    if not bool(torch.isfinite(x).all()):
        n_bad = int((~torch.isfinite(x)).any(dim=1).sum())
        raise FloatingPointError(
            f"found {n_bad} of {len(x)} transported points that are not finite; expected a bounded flow. "
            "Mend: train on more pairs, use base='affine' instead of 'pad', or lower the learning rate."
        )
    return Integrated(x, evaluations)
