"""Three ways to hold a transport plan: a list of entries, a matrix, or two factors that are never multiplied out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy import sparse

from neurobridge.bridge._arrays import row_blocks
from neurobridge.bridge.cost import BridgeCost


class Plan(Protocol):
    """What a coupling needs of its plan; arrays are float64 numpy."""

    def row_mass(self) -> np.ndarray:
        """Mass of every source point, shape (n,)."""

    def col_mass(self) -> np.ndarray:
        """Mass of every target point, shape (m,)."""

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw pairs in proportion to their mass, two index arrays of shape (n,)."""

    def barycentric(self, Y: np.ndarray) -> np.ndarray:
        """Mean partner of every source point, shape (n, n_target_dims)."""

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Mass of some source points with every target point, shape (n_rows, m)."""

    def transposed(self) -> Plan:
        """The plan with source and target exchanged."""


def _draw(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    cumulative = np.cumsum(weights)
    return np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right").clip(max=len(weights) - 1)


@dataclass(frozen=True, eq=False)
class SparsePlan:
    """A plan with few entries (labelled pairs, exact transport): ``matrix`` in CSR form, shape (n, m)."""

    matrix: sparse.csr_matrix

    def row_mass(self) -> np.ndarray:
        """Mass leaving each source point, shape (n,)."""
        return np.asarray(self.matrix.sum(axis=1)).ravel()

    def col_mass(self) -> np.ndarray:
        """Mass arriving at each target point, shape (m,)."""
        return np.asarray(self.matrix.sum(axis=0)).ravel()

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n index pairs with probability proportional to their mass."""
        entries = self.matrix.tocoo()
        chosen = _draw(entries.data, n, rng)
        return entries.row[chosen].astype(np.int64), entries.col[chosen].astype(np.int64)

    def barycentric(self, Y: np.ndarray) -> np.ndarray:
        """Mean partner of each source point, shape (n, n_target_dims); NaN where it has none."""
        mass = self.row_mass()
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.matrix @ Y) / np.where(mass > 0, mass, np.nan)[:, None]

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Some rows of the plan, shape (n_rows, m)."""
        return np.asarray(self.matrix[index].toarray())

    def transposed(self) -> SparsePlan:
        """Exchange source and target."""
        return SparsePlan(self.matrix.T.tocsr())


@dataclass(frozen=True, eq=False)
class DensePlan:
    """A plan written out: ``matrix`` of shape (n, m), float64."""

    matrix: np.ndarray

    def row_mass(self) -> np.ndarray:
        """Mass leaving each source point, shape (n,)."""
        return self.matrix.sum(axis=1)

    def col_mass(self) -> np.ndarray:
        """Mass arriving at each target point, shape (m,)."""
        return self.matrix.sum(axis=0)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n index pairs with probability proportional to their mass."""
        i = _draw(self.row_mass(), n, rng)
        j = np.empty(n, dtype=np.int64)
        for row in np.unique(i):
            here = np.flatnonzero(i == row)
            j[here] = _draw(self.matrix[row], len(here), rng)
        return i.astype(np.int64), j

    def barycentric(self, Y: np.ndarray) -> np.ndarray:
        """Mean partner of each source point, shape (n, n_target_dims); NaN where it has none."""
        mass = self.row_mass()
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.matrix @ Y) / np.where(mass > 0, mass, np.nan)[:, None]

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Some rows of the plan, shape (n_rows, m)."""
        return self.matrix[index]

    def transposed(self) -> DensePlan:
        """Exchange source and target."""
        return DensePlan(self.matrix.T)


@dataclass(frozen=True, eq=False)
class FactoredPlan:
    """The plan ``diag(u) A B^T diag(v)`` of a softmin bridge, never multiplied out.

    Attributes
    ----------
    cost : BridgeCost
    epsilon : float
    log_u, log_v : float64 tensors of shape (n,) and (m,)
        Log scalings.
    """

    cost: BridgeCost
    epsilon: float
    log_u: torch.Tensor
    log_v: torch.Tensor

    def _log_target(self) -> torch.Tensor:
        # log s_p = log sum_j B_jp v_j: the mass that waits behind each anchor on the target side.
        return self.cost.target_factor.to_anchors(self.log_v, self.epsilon)

    def row_mass(self) -> np.ndarray:
        """Mass leaving each source point, shape (n,)."""
        log_k = self.cost.source_factor.to_points(self._log_target(), self.epsilon)
        return (self.log_u + log_k).exp().cpu().numpy()

    def col_mass(self) -> np.ndarray:
        """Mass arriving at each target point, shape (m,)."""
        log_r = self.cost.source_factor.to_anchors(self.log_u, self.epsilon)
        return (self.log_v + self.cost.target_factor.to_points(log_r, self.epsilon)).exp().cpu().numpy()

    def _anchor_weights(self, distances: torch.Tensor) -> torch.Tensor:
        """``P(p | i)`` proportional to ``A_ip s_p``, shape (n_rows, n_anchors)."""
        return torch.softmax(-distances.double() / self.epsilon + self._log_target(), dim=1)

    def _anchor_images(self, Y: torch.Tensor) -> torch.Tensor:
        """``z_p = sum_j P(j | p) Y_j``, shape (n_anchors, n_target_dims)."""
        factor, log_s = self.cost.target_factor, self._log_target()
        images = torch.zeros((factor.n_anchors, Y.shape[1]), dtype=torch.float64, device=Y.device)
        for rows in row_blocks(factor.n_points, factor.n_anchors):
            scores = -factor.rows(rows).double() / self.epsilon + self.log_v[rows, None] - log_s
            images += torch.nan_to_num(scores.exp(), nan=0.0).T @ Y[rows]
        return images

    def map(self, distances: torch.Tensor, Y: np.ndarray) -> np.ndarray:
        """Mean partner of points given by their anchor distances (n_points, n_anchors), fitted or new."""
        images = self._anchor_images(torch.as_tensor(Y, dtype=torch.float64, device=self.log_v.device))
        out = torch.empty((len(distances), images.shape[1]), dtype=torch.float64, device=images.device)
        for rows in row_blocks(*distances.shape):
            out[rows] = self._anchor_weights(distances[rows]) @ images
        return out.cpu().numpy()

    def barycentric(self, Y: np.ndarray) -> np.ndarray:
        """Mean partner of each source point, shape (n, n_target_dims)."""
        return self.map(self.cost.source_factor.rows(slice(None)), Y)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n index pairs: i by row mass, p given i by ``A_ip s_p``, j given p by ``B_jp v_j``."""
        i = np.sort(_draw(self.row_mass(), n, rng)).astype(np.int64)
        p = np.empty(n, dtype=np.int64)
        for block in row_blocks(n, self.cost.n_anchors):
            rows = torch.as_tensor(i[block], device=self.log_u.device)
            weights = self._anchor_weights(self.cost.source_factor.rows(rows)).cpu().numpy()
            cumulative = np.cumsum(weights, axis=1)
            mark = rng.random(len(weights)) * cumulative[:, -1]
            p[block] = (cumulative < mark[:, None]).sum(axis=1).clip(max=self.cost.n_anchors - 1)
        j = np.empty(n, dtype=np.int64)
        order = np.argsort(p, kind="stable")
        used, starts = np.unique(p[order], return_index=True)
        for anchor, here in zip(used, np.split(order, starts[1:]), strict=True):
            column = self._column(int(anchor))
            j[here] = _draw(np.exp(column - column.max()), len(here), rng)
        shuffle = rng.permutation(n)
        return i[shuffle], j[shuffle]

    def _column(self, anchor: int) -> np.ndarray:
        """``log (B_jp v_j)`` over all target points of one anchor, shape (m,)."""
        factor = self.cost.target_factor
        distance = factor.column(anchor)
        return (-distance.double() / self.epsilon + self.log_v).cpu().numpy()

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Some rows of the plan, shape (n_rows, m)."""
        chosen = torch.as_tensor(index, device=self.log_u.device)
        left = -self.cost.source_factor.rows(chosen).double() / self.epsilon + self.log_u[chosen, None]
        out = torch.empty((len(left), self.cost.shape[1]), dtype=torch.float64, device=left.device)
        for columns in row_blocks(self.cost.shape[1], len(left) * self.cost.n_anchors):
            right = -self.cost.target_factor.rows(columns).double() / self.epsilon + self.log_v[columns, None]
            out[:, columns] = torch.logsumexp(left[:, None, :] + right[None, :, :], dim=2).exp()
        return out.cpu().numpy()

    def transposed(self) -> FactoredPlan:
        """Exchange source and target."""
        return FactoredPlan(self.cost.transposed(), self.epsilon, self.log_v, self.log_u)
