"""The bridge cost: the shortest way from x to y over a labelled pair."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from neurobridge.bridge._arrays import Array, points, row_blocks, same_kind
from neurobridge.bridge.distances import AnchorDistances, Metric, Scale, anchor_distances
from neurobridge.bridge.factors import DenseFactor, Factor, NearestFactor, nearest_anchors

Reduce = Literal["softmin", "min"]
Rows = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class BridgeCost:
    """The cost between two spaces, held as its two anchor-distance factors.

    Equation (DESIGN section 4; Gholamzadeh & Sajid 2025)::

        C(x, y)     = min_p [ d_X(x, x_p) + d_Y(y_p, y) ]
        C_eps(x, y) = -eps log sum_p exp(-(d_X(x, x_p) + d_Y(y_p, y)) / eps)

    Attributes
    ----------
    source, target : AnchorDistances
        Scaled distances of each space to the anchors.
    source_factor, target_factor : DenseFactor or NearestFactor
        What the solvers work on: all anchors, or each point's nearest.
    reduce : {"softmin", "min"}
    anchors : tuple of int arrays of shape (n_pairs,)
        Source rows and target rows of the pairs.
    reference : array
        The source array as passed; decides whether results are numpy or torch.
    """

    source: AnchorDistances
    target: AnchorDistances
    source_factor: Factor
    target_factor: Factor
    reduce: Reduce
    anchors: Rows
    reference: Array

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``: source points, target points."""
        return self.source_factor.n_points, self.target_factor.n_points

    @property
    def n_anchors(self) -> int:
        """Number of pairs P."""
        return self.source_factor.n_anchors

    def transposed(self) -> BridgeCost:
        """Exchange source and target."""
        return replace(
            self,
            source=self.target,
            target=self.source,
            source_factor=self.target_factor,
            target_factor=self.source_factor,
            anchors=self.anchors[::-1],
        )

    def truncation_bound(self, epsilon: float) -> float:
        """Bound what keeping only the nearest anchors leaves out of the Gibbs kernel.

        An anchor is left out of ``K_ij`` only if it is beyond the kept radius of i or of j, so its term is at most
        ``exp(-min(r_i, r_j) / eps)``, and ``|K_ij - K_ij(kept)| <= P exp(-min_i,j (r_i, r_j) / eps)`` (K_ij <= P).

        Returns
        -------
        float
            Zero when every anchor is kept.
        """
        radii = [
            float(factor.radius.min())
            for factor in (self.source_factor, self.target_factor)
            if isinstance(factor, NearestFactor)
        ]
        radius = min(radii, default=math.inf)
        return 0.0 if math.isinf(radius) else self.n_anchors * math.exp(-radius / epsilon)

    def dense(self, epsilon: float | None = None, *, memory_limit: float = 2e9) -> Array:
        """Write the cost out as an (n, m) matrix.

        Parameters
        ----------
        epsilon : float, optional
            Temperature of the softmin; needed when ``reduce="softmin"``.
        memory_limit : float
            Bytes the matrix may take.

        Raises
        ------
        MemoryError
            The matrix would be larger than ``memory_limit``.
        ValueError
            ``reduce="softmin"`` without an epsilon.
        """
        if self.reduce == "softmin" and not (epsilon and epsilon > 0):
            raise ValueError(
                f"found epsilon={epsilon} with reduce='softmin'; expected a positive temperature. "
                "Mend: cost.dense(epsilon=0.05), or build the cost with reduce='min'."
            )
        n, m = self.shape
        left, right = self.source_factor.rows(slice(None)), self.target_factor.rows(slice(None))
        check_memory(n * m * left.element_size(), memory_limit, f"the dense {n} x {m} cost")
        out = torch.empty((n, m), dtype=left.dtype, device=left.device)
        for rows in row_blocks(n, m * self.n_anchors):
            paths = left[rows, None, :] + right[None, :, :]
            if self.reduce == "min":
                out[rows] = paths.amin(dim=2)
            else:
                assert epsilon is not None
                out[rows] = -epsilon * torch.logsumexp(-paths / epsilon, dim=2)
        return same_kind(out, self.reference)


def check_memory(needed: float, limit: float, what: str) -> None:
    """Refuse an allocation above a stated limit before making it."""
    if needed > limit:
        raise MemoryError(
            f"found {what}, which needs {needed / 1e9:.2f} GB; expected at most {limit / 1e9:.2f} GB. "
            "Mend: use method='factored', which never builds it, or raise memory_limit."
        )


def bridge_cost(
    X: Array,
    Y: Array,
    pairs: tuple[Array, Array],
    *,
    metric: Metric = "euclidean",
    scale: Scale = "mean",
    reduce: Reduce = "softmin",
    nearest: int | None = None,
    n_neighbors: int = 10,
    device: str | torch.device | None = None,
) -> BridgeCost:
    """Measure how far apart points of two spaces are, over the labelled pairs.

    Parameters
    ----------
    X : array of shape (n_source, n_source_dims)
        Points of the source space, paired or not; numpy or torch.
    Y : array of shape (n_target, n_target_dims)
        Points of the target space.
    pairs : tuple of two int arrays of shape (n_pairs,)
        ``X[pairs[0][p]]`` and ``Y[pairs[1][p]]`` are the same thing seen in both spaces.
    metric : {"euclidean", "sqeuclidean", "cosine", "correlation", "geodesic"}
        Distance inside each space.
    scale : {"mean", "median", "none"}
        Unit of length of each space, so that epsilon is dimensionless.
    reduce : {"softmin", "min"}
        "softmin" makes the Gibbs kernel an exact product of the two factors; "min" is the paper's cost.
    nearest : int, optional
        Keep only this many nearest anchors of each point; see `BridgeCost.truncation_bound`.
    n_neighbors : int
        Links a point has in the graph of ``metric="geodesic"``.
    device : str, optional
        Where to compute; the device of the input by default.

    Returns
    -------
    BridgeCost

    Raises
    ------
    ValueError
        Mismatched lengths, fewer than two pairs, a pair outside the data, non-finite values, an unknown option.
    """
    left, right = points(X, name="X", device=device), points(Y, name="Y", device=device)
    if reduce not in ("softmin", "min"):
        raise ValueError(f"found reduce={reduce!r}; expected 'softmin' or 'min'. Mend: choose one of them.")
    anchors = _anchor_rows(pairs, len(left), len(right))
    source = anchor_distances(left, anchors[0], metric=metric, scale=scale, n_neighbors=n_neighbors)
    target = anchor_distances(right, anchors[1], metric=metric, scale=scale, n_neighbors=n_neighbors)
    factors: list[Factor] = [
        DenseFactor(side.fitted) if nearest is None else nearest_anchors(side.fitted, nearest)
        for side in (source, target)
    ]
    return BridgeCost(source, target, factors[0], factors[1], reduce, anchors, X)


def _anchor_rows(pairs: tuple[Array, Array], n: int, m: int) -> Rows:
    rows = [np.asarray(side.cpu() if isinstance(side, torch.Tensor) else side) for side in pairs]
    if len(rows) != 2 or rows[0].ndim != 1 or rows[0].shape != rows[1].shape:
        raise ValueError(
            f"pairs: found {[side.shape for side in rows]}; expected two index arrays of the same length. "
            "Mend: pass (source_rows, target_rows)."
        )
    if len(rows[0]) < 2:
        raise ValueError(f"pairs: found {len(rows[0])}; expected at least 2. Mend: label more points in both spaces.")
    for side, size, name in ((rows[0], n, "source"), (rows[1], m, "target")):
        if side.dtype.kind not in "iu" or side.min() < 0 or side.max() >= size:
            raise ValueError(
                f"pairs: found {name} rows of dtype {side.dtype} in [{side.min()}, {side.max()}]; expected integers in "
                f"[0, {size - 1}]. Mend: index the {name} array you passed."
            )
    return rows[0].astype(np.int64), rows[1].astype(np.int64)
