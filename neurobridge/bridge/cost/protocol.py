"""The interface between a cost and what solves, reads or blends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from neurobridge.points.arrays import Array, Rows
from neurobridge.points.conversion import real_array
from neurobridge.points.display import Displayed, by
from neurobridge.points.memory import check_memory
from neurobridge.store.kinds import register


@runtime_checkable
class Cost(Protocol):
    """A cost between n source and m target points, read by rows.

    Any object with these four members can be given to `couple`. A cost that knows labelled pairs has, in addition, an
    attribute ``anchors``: source rows and target rows of the pairs, two int arrays of the same length.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import Cost, DenseCost
    >>> isinstance(DenseCost(np.eye(3)), Cost)
    True
    """

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``: source points, target points."""

    @property
    def unit(self) -> float:
        """The cost that the temperature epsilon (and the weight rho) is a fraction of."""

    def rows(self, block: slice | np.ndarray) -> torch.Tensor:
        """Cost of some source points to all target points, tensor of shape (n_rows, m)."""

    def subset(self, rows: np.ndarray, columns: np.ndarray) -> Cost:
        """The cost between some source points and some target points, in the same unit."""


def anchors_of(cost: Cost | None) -> Rows:
    """Return source rows and target rows of the pairs a cost knows; empty if it knows none."""
    anchors = getattr(cost, "anchors", None)
    return (np.empty(0, dtype=np.int64),) * 2 if anchors is None else anchors


def written_out(
    cost: Cost, memory_limit: float, *, mend: str = "pass a cost of fewer points", working: float = 0.0
) -> torch.Tensor:
    """Write a cost out as a tensor of shape (n, m).

    Parameters
    ----------
    cost : Cost
    memory_limit : float
        Bytes that the matrix may take.
    mend : str
    working : float
        Bytes that the caller takes besides, for which there has to be room.

    Raises
    ------
    MemoryError
        The matrix would be larger than ``memory_limit`` bytes, or the process has no room for it.
    """
    n, m = cost.shape
    size = cost.rows(slice(0, 1)).element_size()
    check_memory(n * m * size, memory_limit, f"the dense {n} x {m} cost", mend=mend, working=working)
    return cost.rows(slice(None))


@register("transposed-cost")
@dataclass(frozen=True, eq=False, repr=False)
class TransposedCost(Displayed):
    """Any cost with source and target exchanged, through the protocol alone.

    Attributes
    ----------
    cost : Cost
        The cost before the exchange, of shape (m, n).
    """

    cost: Cost

    def _facts(self) -> dict[str, Any]:
        return {"points": by(*self.shape), "cost": type(self.cost).__name__}

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``: source points, target points."""
        return self.cost.shape[1], self.cost.shape[0]

    @property
    def unit(self) -> float:
        """The unit of the cost."""
        return self.cost.unit

    @property
    def anchors(self) -> Rows:
        """Source rows and target rows of the pairs."""
        source, target = anchors_of(self.cost)
        return target, source

    def rows(self, block: slice | np.ndarray) -> torch.Tensor:
        """Cost of some source points to all target points, tensor of shape (n_rows, m)."""
        whole, chosen = np.arange(self.cost.shape[0]), np.arange(self.cost.shape[1])[block]
        return self.cost.subset(whole, chosen).rows(slice(None)).T

    def subset(self, rows: np.ndarray, columns: np.ndarray) -> TransposedCost:
        """The cost between some source points and some target points."""
        return TransposedCost(self.cost.subset(columns, rows))

    def transposed(self) -> Cost:
        """The cost before the exchange."""
        return self.cost


def transposed(cost: Cost) -> Cost:
    """Exchange source and target: by the cost's own method, where it has one."""
    exchange = getattr(cost, "transposed", None)
    return TransposedCost(cost) if exchange is None else exchange()


def check_rows(pairs: tuple[Array, Array], n: int, m: int) -> Rows:
    """Return the pairs as two int64 arrays of shape (n_pairs,), rows of n source and m target points.

    Raises
    ------
    ValueError
        Different lengths, no pair, or rows that are no whole numbers or outside the points.
    """
    if isinstance(pairs, str) or not hasattr(pairs, "__len__") or len(pairs) != 2:
        kind = (
            f"{type(pairs).__name__} of shape {np.shape(pairs)}" if isinstance(pairs, np.ndarray) else f"{pairs!r:.60}"
        )
        raise ValueError(
            f"pairs: found {kind}; expected two index arrays of the same length, since rows of arrays have no names. "
            "Mend: pass (source_rows, target_rows); np.flatnonzero(mask) turns a mask into rows."
        )
    rows = [real_array(side, name="pairs") for side in pairs]
    if rows[0].ndim != 1 or rows[0].shape != rows[1].shape:
        raise ValueError(
            f"pairs: found {[side.shape for side in rows]}; expected two index arrays of the same length. "
            "Mend: pass (source_rows, target_rows)."
        )
    if len(rows[0]) == 0:
        raise ValueError("pairs: found none; expected at least one. Mend: label points in both spaces.")
    for side, size, name in ((rows[0], n, "source"), (rows[1], m, "target")):
        if side.dtype.kind not in "iu" or side.min() < 0 or side.max() >= size:
            raise ValueError(
                f"pairs: found {name} rows of dtype {side.dtype} in [{side.min()}, {side.max()}]; expected integers in "
                f"[0, {size - 1}]. Mend: index the {name} array you passed."
            )
    return rows[0].astype(np.int64), rows[1].astype(np.int64)
