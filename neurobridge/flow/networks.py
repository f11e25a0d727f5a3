"""Velocity networks: v(t, x_t | condition)."""

from __future__ import annotations

import math

import torch
from torch import nn


def time_embedding(t: torch.Tensor, n_frequencies: int) -> torch.Tensor:
    """Embed times of shape (batch, 1) as sines and cosines of shape (batch, 2 n_frequencies)."""
    octaves = 2.0 ** torch.arange(n_frequencies, dtype=t.dtype, device=t.device)
    angles = math.pi * t * octaves
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.down(nn.functional.silu(self.up(self.norm(h))))


class VelocityMLP(nn.Module):
    """Residual MLP with a time embedding and layer normalisation.

    Starts as the zero field, so an untrained flow leaves its base unchanged.

    Parameters
    ----------
    n_dims : int
        Dimensions of the state.
    n_condition : int
        Dimensions of the condition; 0 for none.
    width, depth : int
        Hidden units, and residual blocks.
    n_frequencies : int
        Octaves of the time embedding.
    """

    def __init__(
        self, n_dims: int, n_condition: int = 0, *, width: int = 128, depth: int = 2, n_frequencies: int = 4
    ) -> None:
        super().__init__()
        self.n_frequencies = n_frequencies
        self.enter = nn.Linear(n_dims + n_condition + 2 * n_frequencies, width)
        self.blocks = nn.ModuleList(_Residual(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, n_dims)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, t: torch.Tensor, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Return the velocity, shape (batch, n_dims), at times (batch, 1), states (batch, n_dims), conditions."""
        parts = [x, time_embedding(t, self.n_frequencies)]
        if condition is not None:
            parts.append(condition)
        h = self.enter(torch.cat(parts, dim=1))
        for block in self.blocks:
            h = block(h)
        return self.leave(self.norm(h))
