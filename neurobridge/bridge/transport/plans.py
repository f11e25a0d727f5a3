"""Ways to hold a transport plan: a list of entries, a matrix, two factors never multiplied out, or pinned pairs and a rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from scipy import sparse

from neurobridge.bridge.cost.blocks import column_shares, log_product
from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.points.arrays import PointSource, Rows, row_blocks
from neurobridge.points.display import Displayed, by
from neurobridge.store.kinds import register


class Plan(Protocol):
    """The interface of a plan to its coupling; arrays are float64 numpy."""

    def row_mass(self) -> np.ndarray:
        """Mass of every source point, shape (n,)."""

    def col_mass(self) -> np.ndarray:
        """Mass of every target point, shape (m,)."""

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw pairs in proportion to their mass, two index arrays of shape (n,)."""

    def barycentric(self, Y: PointSource) -> np.ndarray:
        """Mean partner of every source point, shape (n, n_target_dims)."""

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Mass of some source points with every target point, shape (n_rows, m)."""

    def transposed(self) -> Plan:
        """The plan with source and target exchanged."""


def _draw(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    cumulative = np.cumsum(weights)
    return np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right").clip(max=len(weights) - 1)


def _whole(Y: PointSource) -> np.ndarray:
    return Y.block(slice(None)).double().cpu().numpy()


@register("sparse-plan")
@dataclass(frozen=True, eq=False, repr=False)
class SparsePlan(Displayed):
    """A plan with few entries: labelled pairs, exact transport.

    Attributes
    ----------
    matrix : CSR matrix of shape (n, m)
    pairs : tuple of two int arrays of shape (n_pairs,), optional
        Where all mass lies on pairs of the same mass: the pairs, which are then drawn by their number.
    """

    matrix: sparse.csr_matrix
    pairs: Rows | None = None

    def _facts(self) -> dict[str, Any]:
        return {"points": by(*self.matrix.shape), "entries": f"{self.matrix.nnz} entries"}

    @classmethod
    def of_pairs(cls, pairs: Rows, shape: tuple[int, int]) -> SparsePlan:
        """Give every pair the same mass, one in all."""
        mass = np.full(len(pairs[0]), 1 / len(pairs[0]))
        return cls(sparse.csr_matrix((mass, pairs), shape=shape), pairs)

    def row_mass(self) -> np.ndarray:
        """Mass leaving each source point, shape (n,)."""
        return np.asarray(self.matrix.sum(axis=1)).ravel()

    def col_mass(self) -> np.ndarray:
        """Mass arriving at each target point, shape (m,)."""
        return np.asarray(self.matrix.sum(axis=0)).ravel()

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n index pairs with probability proportional to their mass."""
        if self.pairs is not None:
            number = rng.integers(len(self.pairs[0]), size=n)
            return self.pairs[0][number], self.pairs[1][number]
        entries = self.matrix.tocoo()
        chosen = _draw(entries.data, n, rng)
        return entries.row[chosen].astype(np.int64), entries.col[chosen].astype(np.int64)

    def barycentric(self, Y: PointSource) -> np.ndarray:
        """Mean partner of each source point, shape (n, n_target_dims); NaN where it has none."""
        mass = self.row_mass()
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.matrix @ _whole(Y)) / np.where(mass > 0, mass, np.nan)[:, None]

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return some rows of the plan, shape (n_rows, m)."""
        return np.asarray(self.matrix[index].toarray())

    def transposed(self) -> SparsePlan:
        """Exchange source and target."""
        return SparsePlan(self.matrix.T.tocsr(), None if self.pairs is None else (self.pairs[1], self.pairs[0]))


@register("dense-plan")
@dataclass(frozen=True, eq=False, repr=False)
class DensePlan(Displayed):
    """A plan written out: ``matrix`` of shape (n, m), float64."""

    matrix: np.ndarray

    def _facts(self) -> dict[str, Any]:
        return {"points": by(*self.matrix.shape)}

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
            draws = np.flatnonzero(i == row)
            j[draws] = _draw(self.matrix[row], len(draws), rng)
        return i.astype(np.int64), j

    def barycentric(self, Y: PointSource) -> np.ndarray:
        """Mean partner of each source point, shape (n, n_target_dims); NaN where it has none."""
        mass = self.row_mass()
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.matrix @ _whole(Y)) / np.where(mass > 0, mass, np.nan)[:, None]

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return some rows of the plan, shape (n_rows, m)."""
        return self.matrix[index]

    def transposed(self) -> DensePlan:
        """Exchange source and target."""
        return DensePlan(self.matrix.T)


@register("factored-plan")
@dataclass(frozen=True, eq=False, repr=False)
class FactoredPlan(Displayed):
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

    def _facts(self) -> dict[str, Any]:
        return {"points": by(*self.cost.shape), "pairs": f"{self.cost.n_anchors} pairs", "epsilon": self.epsilon}

    @cached_property
    def _target_sums(self) -> torch.Tensor:
        """``log sum_j B_jc v_j`` of each different target anchor, shape (n_columns,)."""
        return self.cost.target_factor.log_sums(self.log_v, self.epsilon)

    @cached_property
    def log_s(self) -> torch.Tensor:
        """``log s_p = log sum_j B_jp v_j``: the mass that waits behind each anchor on the target side, shape (n_anchors,)."""
        return self.cost.target_factor.from_columns(self._target_sums)

    @cached_property
    def log_r(self) -> torch.Tensor:
        """``log r_p = log w_p sum_i A_ip u_i``, shape (n_anchors,)."""
        return self.cost.source_factor.to_anchors(self.log_u, self.epsilon)

    @property
    def _log_pair(self) -> torch.Tensor:
        """``log w_p s_p``: what draws a source point to pair p, besides its distance; shape (n_anchors,)."""
        log_weight = self.cost.source_factor.log_weight
        return self.log_s if log_weight is None else self.log_s + log_weight

    def row_mass(self) -> np.ndarray:
        """Mass leaving each source point, shape (n,)."""
        log_k = self.cost.source_factor.to_points(self.log_s, self.epsilon)
        return (self.log_u + log_k).exp().cpu().numpy()

    def col_mass(self) -> np.ndarray:
        """Mass arriving at each target point, shape (m,)."""
        return (self.log_v + self.cost.target_factor.to_points(self.log_r, self.epsilon)).exp().cpu().numpy()

    def anchor_images(self, Y: PointSource) -> torch.Tensor:
        """``z_c = sum_j pi(j | c) Y_j``, one for each different target anchor, shape (n_columns, n_target_dims), float64."""
        factor = self.cost.target_factor
        shares = column_shares(self.log_v, self._target_sums, self.epsilon)
        images = torch.zeros((factor.n_columns, Y.shape[1]), dtype=torch.float64, device=factor.device)
        for rows, block in factor.blocks():
            share, part = shares(rows, block), Y.block(rows).double().to(images.device)
            if block.columns is None:
                images += share.T @ part
            else:
                product = block.matrix(share, factor.n_columns).T @ part.cpu().numpy()
                images += torch.as_tensor(np.asarray(product), device=images.device)
        return images if factor.group is None else images[factor.group]

    def map(self, distances: torch.Tensor, images: torch.Tensor) -> np.ndarray:
        """Mean partner of points given by their anchor distances (n_points, n_anchors), fitted or new, from `anchor_images`."""
        out = torch.empty((len(distances), images.shape[1]), dtype=torch.float64, device=images.device)
        for rows in row_blocks(*distances.shape, budget=1 << 22):
            out[rows] = torch.softmax(-distances[rows].double() / self.epsilon + self._log_pair, dim=1) @ images
        return out.cpu().numpy()

    def barycentric(self, Y: PointSource) -> np.ndarray:
        """Mean partner of each source point, shape (n, n_target_dims), in the precision of Y."""
        factor = self.cost.source_factor
        images = self.anchor_images(Y)
        if factor.group is not None:
            images = self._grouped(images)
        column = factor.to_columns(self.log_s)
        double = Y.element_size == 8
        out = np.empty((factor.n_points, images.shape[1]), dtype=np.float64 if double else np.float32)
        table = images.cpu().numpy()
        for rows, block in factor.blocks():
            weights = torch.softmax(block.scores(column, self.epsilon), dim=1)
            out[rows] = block.matrix(weights, factor.n_columns) @ table.astype(out.dtype)
        return out

    def _grouped(self, images: torch.Tensor) -> torch.Tensor:
        """Images of source columns: the mean over the pairs that share one, by the mass each has on the target side."""
        factor = self.cost.source_factor
        assert factor.group is not None
        # A column without mass on the target side is nobody's partner; its image must not be NaN all the same.
        share = torch.nan_to_num((self._log_pair - factor.to_columns(self.log_s)[factor.group]).exp(), nan=0.0)
        total = torch.zeros((factor.n_columns, images.shape[1]), dtype=torch.float64, device=images.device)
        return total.index_add_(0, factor.group, share[:, None] * images)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n index pairs: an anchor p by ``r_p s_p``, then i by ``A_ip u_i`` and j by ``B_jp v_j``, independent given p."""
        mass = (self.log_r + self.log_s).cpu().numpy()
        p = _draw(np.exp(mass - mass.max()), n, rng)
        i = self.cost.source_factor.draw(p, self.log_u, self.epsilon, rng)
        j = self.cost.target_factor.draw(p, self.log_v, self.epsilon, rng)
        return i, j

    def log_entries(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """``log pi_ij`` of some entries, shape (n_entries,)."""
        left, right = self.cost.source_factor, self.cost.target_factor
        out = np.empty(len(i))
        for part in row_blocks(len(i), left.n_anchors, budget=1 << 22):
            rows, columns = (torch.as_tensor(side[part], device=self.log_u.device) for side in (i, j))
            both = left.log_kernel(rows, self.epsilon) + right.log_kernel(columns, self.epsilon)
            out[part] = (torch.logsumexp(both, dim=1) + self.log_u[rows] + self.log_v[columns]).cpu().numpy()
        return out

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return some rows of the plan, shape (n_rows, m)."""
        chosen = torch.as_tensor(index, device=self.log_u.device)
        left = self.cost.source_factor.log_kernel(chosen, self.epsilon) + self.log_u[chosen, None]
        out = torch.empty((len(left), self.cost.shape[1]), dtype=torch.float64, device=left.device)
        for columns in row_blocks(self.cost.shape[1], max(len(left), self.cost.n_anchors), budget=1 << 23):
            right = self.cost.target_factor.log_kernel(columns, self.epsilon) + self.log_v[columns, None]
            out[:, columns] = log_product(left, right).exp()
        return out.cpu().numpy()

    def transposed(self) -> FactoredPlan:
        """Exchange source and target."""
        return FactoredPlan(self.cost.transposed(), self.epsilon, self.log_v, self.log_u)


@register("pinned-plan")
@dataclass(frozen=True, eq=False, repr=False)
class PinnedPlan(Displayed):
    """A plan in which labelled points go to their partners alone.

    Attributes
    ----------
    rest : Plan
        Plan between the unlabelled points.
    pinned : SparsePlan
        Mass of the pairs, shape (n, m).
    free_rows, free_columns : int arrays, rising
        Where the unlabelled points lie among all.
    share : float
        What the masses of ``rest`` are multiplied by.
    """

    rest: Plan
    pinned: SparsePlan
    free_rows: np.ndarray
    free_columns: np.ndarray
    share: float

    def _facts(self) -> dict[str, Any]:
        pinned = f"{self.pinned.matrix.nnz} pinned entries"
        return {
            "points": by(*self.pinned.matrix.shape),
            "pinned": pinned,
            "rest": type(self.rest).__name__,
            "share": self.share,
        }

    def row_mass(self) -> np.ndarray:
        """Mass leaving each source point, shape (n,)."""
        mass = self.pinned.row_mass()
        mass[self.free_rows] = self.share * self.rest.row_mass()
        return mass

    def col_mass(self) -> np.ndarray:
        """Mass arriving at each target point, shape (m,)."""
        mass = self.pinned.col_mass()
        mass[self.free_columns] = self.share * self.rest.col_mass()
        return mass

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n index pairs with probability proportional to their mass."""
        masses = self.share * self.rest.row_mass().sum(), self.pinned.row_mass().sum()
        from_rest = rng.random(n) * sum(masses) < masses[0]
        i, j = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        n_rest = int(from_rest.sum())
        if n_rest:
            rows, columns = self.rest.sample(n_rest, rng)
            i[from_rest], j[from_rest] = self.free_rows[rows], self.free_columns[columns]
        if n_rest < n:
            i[~from_rest], j[~from_rest] = self.pinned.sample(n - n_rest, rng)
        return i, j

    def barycentric(self, Y: PointSource) -> np.ndarray:
        """Mean partner of each source point, shape (n, n_target_dims)."""
        out = self.pinned.barycentric(Y)
        out[self.free_rows] = self.rest.barycentric(PointSource.of(Y.block(self.free_columns), name=Y.name))
        return out

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return some rows of the plan, shape (n_rows, m)."""
        index = np.asarray(index)
        out = self.pinned.rows(index)
        place = np.searchsorted(self.free_rows, index).clip(max=len(self.free_rows) - 1)
        free = self.free_rows[place] == index
        if free.any():
            out[np.ix_(free, self.free_columns)] = self.share * self.rest.rows(place[free])
        return out

    def transposed(self) -> PinnedPlan:
        """Exchange source and target."""
        return PinnedPlan(
            self.rest.transposed(), self.pinned.transposed(), self.free_columns, self.free_rows, self.share
        )
