"""The straight path between coupled points, and the loss that regresses its velocity."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

Velocity = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


class PathSample(NamedTuple):
    """A point on the path: ``t`` of shape (batch, 1), ``x_t`` and its velocity ``dx_t`` of shape (batch, dims)."""

    t: torch.Tensor
    x_t: torch.Tensor
    dx_t: torch.Tensor


def sample_path(
    x_0: torch.Tensor, x_1: torch.Tensor, *, sigma: float = 0.0, generator: torch.Generator | None = None
) -> PathSample:
    """Draw ``t ~ U(0, 1)`` and ``x_t = (1 - t) x_0 + t x_1 + sigma z``, whose velocity is ``x_1 - x_0``.

    Equations 14-16 of Tong et al. 2024 (arXiv 2302.00482) with (x_0, x_1) drawn from a coupling.

    Parameters
    ----------
    x_0, x_1 : tensors of shape (batch, dims)
        Coupled start and end points.
    sigma : float
        Width of the path, in the units of x.
    generator : torch.Generator, optional
        On the device of x.
    """
    t = torch.rand((len(x_0), 1), dtype=x_0.dtype, device=x_0.device, generator=generator)
    x_t = (1 - t) * x_0 + t * x_1
    if sigma:
        x_t = x_t + sigma * torch.randn(x_t.shape, dtype=x_t.dtype, device=x_t.device, generator=generator)
    return PathSample(t, x_t, x_1 - x_0)


def flow_matching_loss(velocity: Velocity, sample: PathSample, condition: torch.Tensor | None) -> torch.Tensor:
    """``E || v(t, x_t | c) - dx_t ||^2``, mean over batch and dimensions (Lipman et al. 2023, eq. 9)."""
    return (velocity(sample.t, sample.x_t, condition) - sample.dx_t).square().mean()
