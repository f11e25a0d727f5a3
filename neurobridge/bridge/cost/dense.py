"""Costs that are written out: anybody's matrix, and how far the linear map of the pairs misses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from neurobridge.bridge.cost.protocol import check_rows, written_out
from neurobridge.maps.linear import ridge_map
from neurobridge.points.arrays import Array, Rows, points, same_kind, to_tensor
from neurobridge.points.conversion import real_array
from neurobridge.points.display import Displayed, by
from neurobridge.points.memory import check_memory
from neurobridge.points.scale import unit_of_cloud
from neurobridge.store.kinds import register


@register("dense-cost")
@dataclass(frozen=True, eq=False, repr=False)
class DenseCost(Displayed):
    """A cost between n source and m target points given as a matrix.

    Parameters
    ----------
    matrix : array of shape (n, m)
        Numpy or torch; finite.
    anchors : tuple of two int arrays of shape (n_pairs,), optional
        Source rows and target rows of labelled pairs, for solvers that use them.
    scale : float, optional
        The cost that epsilon and rho are a fraction of: the mean absolute entry by default.

    Raises
    ------
    ValueError
        Not a matrix, values that are not finite, or a matrix of zeros without a scale.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import DenseCost, couple
    >>> cost = DenseCost(np.array([[0.0, 2.0], [2.0, 0.0]]))
    >>> cost.unit
    1.0
    >>> couple(cost, method="exact").dense()
    array([[0.5, 0. ],
           [0. , 0.5]])
    """

    matrix: Array
    anchors: Rows | None = None
    scale: float | None = None

    def _facts(self) -> dict[str, Any]:
        known = {} if self.anchors is None else {"pairs": f"{len(self.anchors[0])} pairs"}
        return {"points": by(*self.shape), **known, "unit": self.unit}

    def __post_init__(self) -> None:
        if not isinstance(self.matrix, torch.Tensor):
            # Frames, masked arrays and lists have no columns to index, or hide values.
            object.__setattr__(self, "matrix", real_array(self.matrix, name="cost"))
        shape = tuple(self.matrix.shape)
        if len(shape) != 2 or 0 in shape:
            raise ValueError(
                f"cost: found a matrix of shape {shape}; expected (n, m), neither zero. "
                "Mend: one row for each source point, one column for each target point."
            )
        if self.anchors is not None:
            check_rows(self.anchors, *shape)
        if not (bool(self._tensor.isfinite().all()) and 0 < self.unit < math.inf):
            raise ValueError(
                f"cost: found a unit of {self.unit}; expected a positive finite one. "
                "Mend: scale=1.0 takes epsilon in the units of the matrix."
            )

    @cached_property
    def _tensor(self) -> torch.Tensor:
        return to_tensor(self.matrix, name="cost")

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``: source points, target points."""
        n, m = self.matrix.shape
        return int(n), int(m)

    @cached_property
    def unit(self) -> float:
        """The cost that epsilon and rho are a fraction of."""
        if self.scale is not None:
            return float(self.scale)
        sizes = self._tensor.abs()
        unit = float(sizes.mean(dtype=torch.float64))
        # The sum may leave double precision where the mean does not.
        return (
            unit if math.isfinite(unit) else float(sizes.max()) * float((sizes / sizes.max()).mean(dtype=torch.float64))
        )

    def rows(self, block: slice | np.ndarray) -> torch.Tensor:
        """Cost of some source points to all target points, tensor of shape (n_rows, m)."""
        return self._tensor[block]

    def subset(self, rows: np.ndarray, columns: np.ndarray) -> DenseCost:
        """The cost between some source points and some target points, in the same unit; without anchors."""
        return DenseCost(self._tensor[rows][:, columns], scale=self.unit)

    def transposed(self) -> DenseCost:
        """Exchange source and target."""
        anchors = None if self.anchors is None else (self.anchors[1], self.anchors[0])
        return DenseCost(self.matrix.T, anchors, self.scale)

    def dense(self, *, memory_limit: float = 2e9) -> Array:
        """Return the matrix, of shape (n, m); refuses above ``memory_limit`` bytes."""
        return same_kind(written_out(self, memory_limit), self.matrix)


def linear_cost(X: Array, Y: Array, pairs: tuple[Array, Array], *, memory_limit: float = 2e9) -> DenseCost:
    """Measure how far the linear map of the pairs misses: a cost without a bridge, for ablations.

    ``C(x, y) = |M x - y|^2 / mean |M x - y|^2``, M the ridge map of the pairs with one penalty for all target dimensions.

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
    Y : array of shape (m, n_target_dims)
    pairs : tuple of two int arrays of shape (n_pairs,)
        Source rows and target rows, at least two pairs.
    memory_limit : float
        Bytes the (n, m) matrix may take.

    Returns
    -------
    DenseCost
        In units of its mean.

    Raises
    ------
    MemoryError
        The matrix would be larger than ``memory_limit``.
    ValueError
        Fewer than two pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge.cost.dense import linear_cost
    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> linear_cost(X, 2 * X, (np.arange(10), np.arange(10))).shape
    (30, 30)
    """
    source, target = (points(side, name=name).double().cpu().numpy() for side, name in ((X, "X"), (Y, "Y")))
    n, m = len(source), len(target)
    rows = check_rows(pairs, n, m)
    check_memory(
        8.0 * n * m,
        memory_limit,
        f"the dense {n} x {m} linear cost",
        mend="use the bridge cost",
        working=24.0 * n * m,
    )
    images = ridge_map(source[rows[0]], target[rows[1]], penalty="shared", unit=unit_of_cloud(source))(source)
    left, right = torch.as_tensor(images), torch.as_tensor(target)
    squares = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").square_()
    return DenseCost((squares / max(float(squares.mean()), 1e-12 * unit_of_cloud(target) ** 2)).numpy(), rows, 1.0)
