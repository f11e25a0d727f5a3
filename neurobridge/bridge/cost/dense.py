"""The cost without a bridge, as an ablation: how far the map of the pairs misses."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch

from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.maps.linear import ridge_map
from neurobridge.points.arrays import Rows
from neurobridge.points.memory import check_memory


class LinearCost(BridgeCost):
    """``C(x, y) = |M x - y|^2 / mean |M x - y|^2``, M the ridge map of the pairs; for the solvers that write the cost out.

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
    Y : array of shape (m, n_target_dims)
    rows : tuple of two int arrays of shape (n_pairs,)
    """

    def __init__(self, X: np.ndarray, Y: np.ndarray, rows: Rows) -> None:
        mapped = ridge_map(X[rows[0]], Y[rows[1]], penalty="shared")(X)
        for name, value in {"ends": (mapped, Y), "anchors": rows, "reduce": "min", "reference": X}.items():
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``: source points, target points."""
        left, right = self.ends
        return len(left), len(right)

    @property
    def n_anchors(self) -> int:
        """Number of pairs P."""
        return len(self.anchors[0])

    def truncation_bound(self, epsilon: float) -> float:
        """Nothing is left out."""
        return 0.0

    def dense(self, epsilon: float | None = None, *, memory_limit: float = 2e9) -> np.ndarray:
        """Write the cost out as an (n, m) matrix, refusing above ``memory_limit`` bytes."""
        n, m = self.shape
        check_memory(8.0 * n * m, memory_limit, f"the dense {n} x {m} linear cost", mend="use cost='bridge'")
        left, right = (torch.as_tensor(side) for side in self.ends)
        squares = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").square_()
        return (squares / max(float(squares.mean()), 1e-12)).numpy()

    def transposed(self) -> LinearCost:
        """Exchange source and target; the cost stays the forward map's."""
        turned = object.__new__(LinearCost)
        state = {"ends": self.ends[::-1], "anchors": self.anchors[::-1], "reduce": "min", "reference": self.ends[1]}
        for name, value in state.items():
            object.__setattr__(turned, name, value)
        return turned

    ends: tuple[np.ndarray, np.ndarray]

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"found cost='linear' asked for {name!r}; expected cost='bridge', which alone has factors. Mend: cost='bridge'."
        )

    def subset(self, *_: Any) -> NoReturn:
        """Refused: no solver of this cost takes a part of it."""
        raise ValueError("found a part asked of cost='linear'; expected cost='bridge'. Mend: cost='bridge'.")
