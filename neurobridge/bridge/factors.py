"""The two factors of the Gibbs kernel ``K = A B^T``, all anchors or the nearest few, worked on in the log domain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from neurobridge.bridge._arrays import row_blocks


class Factor(Protocol):
    """Scaled distances of n points to P anchors, as ``log A = -D / epsilon``."""

    @property
    def n_points(self) -> int:
        """Number of points, n."""

    @property
    def n_anchors(self) -> int:
        """Number of anchors, P."""

    def to_points(self, log_anchor: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_p exp(-D_ip / eps + log_anchor_p)``, shape (n_points,)."""

    def to_anchors(self, log_point: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_i exp(-D_ip / eps + log_point_i)``, shape (n_anchors,)."""

    def rows(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Distances of some points to all anchors, shape (n_rows, n_anchors), infinite where left out."""

    def column(self, anchor: int) -> torch.Tensor:
        """Distances of all points to one anchor, shape (n_points,), infinite where left out."""


@dataclass(frozen=True, eq=False)
class DenseFactor:
    """Every anchor kept: ``distances`` of shape (n_points, n_anchors)."""

    distances: torch.Tensor

    @property
    def n_points(self) -> int:
        """Number of points n."""
        return self.distances.shape[0]

    @property
    def n_anchors(self) -> int:
        """Number of anchors P."""
        return self.distances.shape[1]

    def to_points(self, log_anchor: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_p exp(-D_ip / eps + log_anchor_p)``, shape (n_points,), float64."""
        out = torch.empty(self.n_points, dtype=torch.float64, device=self.distances.device)
        shift = log_anchor.to(self.distances.dtype)
        for rows in row_blocks(*self.distances.shape):
            out[rows] = torch.logsumexp(self.distances[rows] * (-1 / epsilon) + shift, dim=1).double()
        return out

    def to_anchors(self, log_point: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_i exp(-D_ip / eps + log_point_i)``, shape (n_anchors,), float64."""
        out = torch.full((self.n_anchors,), -math.inf, dtype=torch.float64, device=self.distances.device)
        shift = log_point.to(self.distances.dtype)
        for rows in row_blocks(*self.distances.shape):
            part = torch.logsumexp(self.distances[rows] * (-1 / epsilon) + shift[rows, None], dim=0).double()
            out = torch.logaddexp(out, part)
        return out

    def rows(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Distances of some points to all anchors, shape (n_rows, n_anchors)."""
        return self.distances[index]

    def column(self, anchor: int) -> torch.Tensor:
        """Distances of all points to one anchor, shape (n_points,)."""
        return self.distances[:, anchor]


@dataclass(frozen=True, eq=False)
class NearestFactor:
    """Only the k nearest anchors of each point kept.

    Attributes
    ----------
    distances : tensor of shape (n_points, k)
    index : int64 tensor of shape (n_points, k)
        Which anchors they are.
    n_all : int
        Number of anchors P.
    radius : tensor of shape (n_points,)
        Distance of the nearest anchor left out; infinite if none was.
    """

    distances: torch.Tensor
    index: torch.Tensor
    n_all: int
    radius: torch.Tensor

    @property
    def n_points(self) -> int:
        """Number of points n."""
        return self.distances.shape[0]

    @property
    def n_anchors(self) -> int:
        """Number of anchors P."""
        return self.n_all

    def to_points(self, log_anchor: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_p exp(-D_ip / eps + log_anchor_p)`` over the kept anchors, shape (n_points,), float64."""
        out = torch.empty(self.n_points, dtype=torch.float64, device=self.distances.device)
        shift = log_anchor.to(self.distances.dtype)
        for rows in row_blocks(*self.distances.shape):
            scores = self.distances[rows] * (-1 / epsilon) + shift[self.index[rows]]
            out[rows] = torch.logsumexp(scores, dim=1).double()
        return out

    def to_anchors(self, log_point: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``log sum_i exp(-D_ip / eps + log_point_i)`` over points that kept p, shape (n_anchors,), float64."""
        peak = torch.full((self.n_all,), -math.inf, dtype=self.distances.dtype, device=self.distances.device)
        total = torch.zeros(self.n_all, dtype=torch.float64, device=self.distances.device)
        shift = log_point.to(self.distances.dtype)
        blocks = row_blocks(*self.distances.shape)
        for rows in blocks:
            scores = self.distances[rows] * (-1 / epsilon) + shift[rows, None]
            peak.scatter_reduce_(0, self.index[rows].reshape(-1), scores.reshape(-1), "amax")
        safe = torch.where(torch.isfinite(peak), peak, torch.zeros_like(peak))
        for rows in blocks:
            scores = self.distances[rows] * (-1 / epsilon) + shift[rows, None] - safe[self.index[rows]]
            total.scatter_add_(0, self.index[rows].reshape(-1), scores.exp().double().reshape(-1))
        return safe.double() + total.log()

    def rows(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Distances of some points to all anchors, shape (n_rows, n_anchors), infinite where left out."""
        kept = self.distances[index]
        full = torch.full((len(kept), self.n_all), math.inf, dtype=kept.dtype, device=kept.device)
        return full.scatter_(1, self.index[index], kept)

    def column(self, anchor: int) -> torch.Tensor:
        """Distances of all points to one anchor, shape (n_points,), infinite where left out."""
        here = self.index == anchor
        far = torch.full_like(self.distances, math.inf)
        return torch.where(here, self.distances, far).amin(dim=1)


def nearest_anchors(distances: torch.Tensor, k: int) -> NearestFactor:
    """Keep the k nearest anchors of each point and remember how near the next one was.

    Parameters
    ----------
    distances : tensor of shape (n_points, n_anchors)
    k : int
        Anchors kept, at least 1.
    """
    n_anchors = distances.shape[1]
    if k < 1:
        raise ValueError(f"found nearest={k}; expected at least 1. Mend: keep e.g. the 32 nearest anchors, or None.")
    k = min(k, n_anchors)
    asked = min(k + 1, n_anchors)
    found = distances.topk(asked, dim=1, largest=False, sorted=True)
    radius = (
        found.values[:, k].clone()
        if asked > k
        else torch.full((len(distances),), math.inf, dtype=distances.dtype, device=distances.device)
    )
    return NearestFactor(found.values[:, :k].contiguous(), found.indices[:, :k].contiguous(), n_anchors, radius)
