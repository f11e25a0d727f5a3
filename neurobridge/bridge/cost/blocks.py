"""Arithmetic on blocks of rows of a factor: sums by column without overflow, and draws in proportion to the entries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from neurobridge.points.arrays import row_blocks

# In float32 the terms of a softmin are kept down to this power of two of the largest: products of two are normal numbers.
_LEAST = -116 * math.log(2)


class Block(NamedTuple):
    """Scaled distances of some rows to anchors: (n_rows, k), with the columns they belong to, or all columns in order."""

    distances: torch.Tensor
    columns: torch.Tensor | None

    def spread(self, log_column: torch.Tensor) -> torch.Tensor:
        """A value a column, shape (n_columns,), as it meets the distances: broadcasts against (n_rows, k)."""
        return log_column if self.columns is None else log_column[self.columns]

    def scores(self, log_column: torch.Tensor, epsilon: float) -> torch.Tensor:
        """``-D / epsilon + log_column``, shape (n_rows, k)."""
        spread = self.spread(log_column.to(self.distances.dtype))
        if self.columns is None:
            return torch.add(spread, self.distances, alpha=-1 / epsilon)
        return spread.add_(self.distances, alpha=-1 / epsilon)

    def column_sums(self, values: torch.Tensor, n_columns: int) -> torch.Tensor:
        """Sum values of shape (n_rows, k) by column: (n_columns,), float64."""
        if self.columns is None:
            return values.sum(dim=0, dtype=torch.float64)
        total = torch.zeros(n_columns, dtype=torch.float64, device=values.device)
        return total.scatter_add_(0, self.columns.reshape(-1).long(), values.double().reshape(-1))

    def matrix(self, values: torch.Tensor, n_columns: int) -> np.ndarray | sparse.csr_matrix:
        """Values of shape (n_rows, k) as an (n_rows, n_columns) matrix."""
        array = values.cpu().numpy()
        if self.columns is None:
            return array
        n_rows, k = array.shape
        pointers = np.arange(0, n_rows * k + 1, k)
        names = self.columns.cpu().numpy().reshape(-1)
        return sparse.csr_matrix((array.reshape(-1), names, pointers), shape=(n_rows, n_columns))


class Carried(NamedTuple):
    """Part of ``sum_i A_ic u_i`` as ``exp(shift) total``, with ``total`` of shape (n_columns,): parts add without overflow."""

    total: torch.Tensor
    shift: float

    def plus(self, other: Carried) -> Carried:
        """Add the part of other points."""
        higher = max(self.shift, other.shift)
        total = self.total * math.exp(self.shift - higher) + other.total * math.exp(other.shift - higher)
        return Carried(total, higher)


class LogSums(NamedTuple):
    """Part of a sum over points, by column, as ``peak + log total``; both of shape (n_columns,), float64."""

    peak: torch.Tensor
    total: torch.Tensor

    def plus(self, other: LogSums) -> LogSums:
        """Add the part of other points."""
        peak = torch.maximum(self.peak, other.peak)
        safe = torch.nan_to_num(peak, neginf=0.0)
        total = self.total * (self.peak - safe).exp() + other.total * (other.peak - safe).exp()
        return LogSums(peak, total)

    def log(self) -> torch.Tensor:
        """The logarithm of the sum, shape (n_columns,)."""
        return torch.nan_to_num(self.peak, neginf=0.0) + self.total.log()


def weighted_sums(block: Block, shares: torch.Tensor, weight: torch.Tensor, n_columns: int) -> torch.Tensor:
    """``sum_i weight_i shares_ic`` by column, float64; may overwrite the shares."""
    if block.columns is None:
        return (weight.to(shares.dtype) @ shares).double()
    return block.column_sums(shares.mul_(weight.to(shares.dtype)[:, None]), n_columns)


def marginal_change(mass: torch.Tensor, new: torch.Tensor, old: torch.Tensor, damping: float) -> float:
    """L1 change of a marginal when ``log k`` goes from old to new: ``sum_i |u_i k_i - u_i(old) k_i|``; all shape (n_points,)."""
    error = 0.0
    for rows in row_blocks(len(mass), 1, budget=1 << 16):
        log_mass, log_k = mass[rows].log(), new[rows]
        after = (log_mass + (1 - damping) * log_k).exp()
        error += float((after - (log_mass + log_k - damping * old[rows]).exp()).abs().sum())
    return error


def column_shares(
    log_point: torch.Tensor, log_sums: torch.Tensor, epsilon: float
) -> Callable[[slice, Block], torch.Tensor]:
    """Return a function of a block: the share of its rows in the mass of their columns.

    ``A_ic exp(log_point_i - log_sums_c)``, shape (n_rows, k), float64.
    """
    # A column without mass stays without: its entries are exp(-inf), not exp(inf).
    unit = torch.where(torch.isfinite(log_sums), -log_sums, log_sums)

    def shares(rows: slice, block: Block) -> torch.Tensor:
        return (block.scores(unit, epsilon).double() + log_point[rows, None]).exp()

    return shares


def draw_in_columns(
    values: np.ndarray | sparse.csr_matrix, columns: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw a row for each given column, in proportion to the column's entries."""
    if isinstance(values, np.ndarray):
        used, columns = np.unique(columns, return_inverse=True)
        pointers = np.arange(len(used) + 1) * len(values)
        entries, rows = np.ascontiguousarray(values[:, used].T).reshape(-1), None
    else:
        by_column = values.tocsc()
        pointers, entries, rows = by_column.indptr, by_column.data, by_column.indices
    ends = np.concatenate([[0.0], np.cumsum(entries, dtype=np.float64)])
    first, last = pointers[columns], pointers[columns + 1]
    # Rising marks walk through the table once.
    order = np.argsort(first, kind="stable")
    mark = (ends[first] + rng.random(len(columns)) * (ends[last] - ends[first]))[order]
    place = np.empty(len(columns), dtype=np.int64)
    place[order] = np.searchsorted(ends, mark, side="right") - 1
    place = place.clip(first, np.maximum(first, last - 1))
    return place - first if rows is None else rows[place]


def log_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``log sum_p exp(left_ip + right_jp)``, (n, m), float64: a matrix product; what underflows in it, singly."""
    tops = [torch.nan_to_num(side.amax(dim=1), neginf=0.0) for side in (left, right)]
    product = (left - tops[0][:, None]).exp() @ (right - tops[1][:, None]).exp().T
    out = product.log() + tops[0][:, None] + tops[1]
    low = (product < 1e-280).nonzero()
    for part in row_blocks(len(low), left.shape[1], budget=1 << 22):
        i, j = low[part].T
        out[i, j] = torch.logsumexp(left[i] + right[j], dim=1)
    return out


class SingleTerms(NamedTuple):
    """Exponentials of rows of logarithms in float32.

    Attributes
    ----------
    terms : float32 tensor of shape (n_rows, n_terms)
        In units of the largest of each row, times a power of two that keeps products of two such numbers normal.
    tops : float64 tensor of shape (n_rows,)
        Logarithm of that unit.
    is_wide : bool tensor of shape (n_rows,)
        Where float32 does not hold all finite terms.
    """

    terms: torch.Tensor
    tops: torch.Tensor
    is_wide: torch.Tensor

    @classmethod
    def of(cls, logs: torch.Tensor) -> SingleTerms:
        """Take the exponentials of logarithms (n_rows, n_terms), each row in its own unit."""
        tops = torch.nan_to_num(logs.amax(dim=1), neginf=0.0)
        relative = logs - tops[:, None]
        low = relative < _LEAST
        # Sums of as many products stay below the largest float32.
        shift = math.floor((126 - math.log2(max(logs.shape[1], 1))) / 2) * math.log(2)
        terms = (relative + shift).float().exp_().masked_fill_(low, 0.0)
        return cls(terms, tops - shift, (low & torch.isfinite(relative)).any(dim=1))


def single_log_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``log sum_p exp(left_ip + right_jp)``, (n, m), float32: `log_product` to the rounding of float32, several times faster."""
    of_rows, of_columns = SingleTerms.of(left), SingleTerms.of(right)
    if bool(of_columns.is_wide.any()):
        return log_product(left, right).float()
    out = (of_rows.terms @ of_columns.terms.T).log_()
    out.add_(of_rows.tops.float()[:, None]).add_(of_columns.tops.float())
    wide = of_rows.is_wide.nonzero()[:, 0]
    if len(wide):
        out[wide] = log_product(left[wide], right).float()
    return out
