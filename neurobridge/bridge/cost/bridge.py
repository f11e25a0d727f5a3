"""The bridge cost: the shortest way from x to y over a labelled pair."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from neurobridge.bridge.cost.distances import AnchorDistances, Metric, Scale
from neurobridge.bridge.cost.factors import Factor
from neurobridge.bridge.cost.measure import measure
from neurobridge.points.arrays import Array, PointSource, Rows, row_blocks, same_kind
from neurobridge.points.memory import check_memory

Reduce = Literal["softmin", "min"]


@dataclass(frozen=True, eq=False)
class BridgeCost:
    """The cost between two spaces, held as its two anchor-distance factors.

    Equation (Gholamzadeh & Sajid 2025; with confidence w_p in each pair, 1 by default)::

        C(x, y)     = min_p [ d_X(x, x_p) + d_Y(y_p, y) ]
        C_eps(x, y) = -eps log sum_p w_p exp(-(d_X(x, x_p) + d_Y(y_p, y)) / eps)

    Attributes
    ----------
    source, target : AnchorDistances
        How points of each space are measured.
    source_factor, target_factor : DenseFactor, NearestFactor, StreamedFactor or DistributedFactor
        What the solvers work on: all anchors, each point's nearest, all of them computed again on every pass, or either of the
        first two on the workers of dask.
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

    def subset(self, rows: np.ndarray, columns: np.ndarray) -> BridgeCost:
        """The cost between some source points and some target points, over the same pairs; it has no anchor rows of its own."""
        none = np.empty(0, dtype=np.int64)
        return replace(
            self,
            source_factor=self.source_factor.subset(torch.as_tensor(rows, device=self.source_factor.device)),
            target_factor=self.target_factor.subset(torch.as_tensor(columns, device=self.target_factor.device)),
            anchors=(none, none),
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
        radius = min(self.source_factor.reach, self.target_factor.reach)
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
        dtype = next(self.source_factor.blocks())[1].distances.dtype
        check_memory(n * m * dtype.itemsize, memory_limit, f"the dense {n} x {m} cost")
        out = torch.empty((n, m), dtype=dtype, device=self.source_factor.device)
        if self.reduce == "min":
            right = self.target_factor.rows(slice(None))
            for rows in row_blocks(n, m * self.n_anchors):
                out[rows] = (self.source_factor.rows(rows)[:, None, :] + right[None, :, :]).amin(dim=2)
        else:
            assert epsilon is not None
            log_right = self.target_factor.log_kernel(slice(None), epsilon)
            for rows in row_blocks(n, max(m, self.n_anchors), budget=1 << 23):
                log_k = log_product(self.source_factor.log_kernel(rows, epsilon), log_right)
                out[rows] = (-epsilon * log_k).to(dtype)
        return same_kind(out, self.reference)


def log_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``log sum_p exp(left_ip + right_jp)``, (n, m), float64: a matrix product; what underflows in it, singly."""
    tops = [torch.nan_to_num(side.amax(dim=1), neginf=0.0) for side in (left, right)]
    product = (left - tops[0][:, None]).exp() @ (right - tops[1][:, None]).exp().T
    out = product.log() + tops[0][:, None] + tops[1]
    low = (product < 1e-280).nonzero()
    for some in row_blocks(len(low), left.shape[1], budget=1 << 22):
        i, j = low[some].T
        out[i, j] = torch.logsumexp(left[i] + right[j], dim=1)
    return out


def bridge_cost(
    X: Array,
    Y: Array,
    pairs: tuple[Array, Array],
    *,
    metric: Metric | tuple[Metric, Metric] = "euclidean",
    scale: Scale = "mean",
    reduce: Reduce = "softmin",
    nearest: int | None = None,
    n_neighbors: int = 10,
    confidence: Array | None = None,
    stream: bool = False,
    distributed: bool = False,
    memory_limit: float = 4e9,
    device: str | torch.device | None = None,
) -> BridgeCost:
    """Measure how far apart points of two spaces are, over the labelled pairs.

    Parameters
    ----------
    X : array of shape (n_source, n_source_dims)
        Points of the source space, paired or not; numpy or torch. A memory map or a dask array is read block by block.
    Y : array of shape (n_target, n_target_dims)
        Points of the target space.
    pairs : tuple of two int arrays of shape (n_pairs,)
        One pair at least; over a single one every path leads through it, and all plans with the same marginals cost the same.
        ``X[pairs[0][p]]`` and ``Y[pairs[1][p]]`` are the same thing seen in both spaces. A point may be in several pairs (many
        images, one caption): its distances are computed and kept once.
    metric : str, callable, or a tuple of two
        Distance inside each space: "euclidean", "sqeuclidean", "cosine", "correlation", "geodesic" (shortest paths on the
        neighbour graph of all points), "precomputed" (X or Y holds the distances to the anchors, (n, n_pairs)), or a function
        from tensors (n, d), (k, d) to distances (n, k). A tuple gives each space its own.
    scale : {"mean", "median", "none"}
        Unit of length of each space, so that epsilon is dimensionless. With ``nearest`` or ``stream`` the median is that of 4,096
        evenly spaced rows (with ``distributed`` too), and the geodesic mean that of paths from 16 anchors.
    reduce : {"softmin", "min"}
        "softmin" makes the Gibbs kernel an exact product of the two factors; "min" is the paper's cost.
    nearest : int, optional
        Keep only this many nearest anchors of each point: memory O((n + m) k). See `BridgeCost.truncation_bound`.
    n_neighbors : int
        Links a point has in the graph of ``metric="geodesic"``.
    confidence : array of shape (n_pairs,), optional
        Weight of each pair in (0, 1], for noisy labels: multiplies its term of the softmin.
    stream : bool
        Keep no distances, compute them again on every pass: memory O(n d) whatever the number of pairs, more time.
    distributed : bool
        Keep the distances on the workers of dask, a task a row chunk: X and Y are dask arrays, and an iteration of the factored
        solver moves vectors of one value a pair. Runs on the active client, or on threads where there is none; the client must
        stay open while the cost and its couplings are used. See `neurobridge.bridge.cost.distributed`.
    memory_limit : float
        Bytes the kept distances may take (on all workers together, where ``distributed``).
    device : str, optional
        Where to compute; the device of the input by default.

    Returns
    -------
    BridgeCost

    Raises
    ------
    ValueError
        Mismatched lengths, no pair, a pair outside the data, non-finite values, an unknown option, or options that
        exclude each other.
    MemoryError
        The distances would take more than ``memory_limit``; says how much, and what to use instead.
    """
    if reduce not in ("softmin", "min"):
        raise ValueError(f"found reduce={reduce!r}; expected 'softmin' or 'min'. Mend: choose one of them.")
    if nearest is not None and nearest < 1:
        raise ValueError(f"found nearest={nearest}; expected at least 1 anchor. Mend: nearest=None keeps all of them.")
    metrics = metric if isinstance(metric, tuple) else (metric, metric)
    if stream and (nearest is not None or {"geodesic", "precomputed"} & {m for m in metrics if isinstance(m, str)}):
        raise ValueError(
            f"found stream=True with nearest={nearest}, metric={metric!r}; expected nearest=None and distances that can be "
            "computed from two points alone. Mend: stream=False, or nearest=None and metric='euclidean'."
        )
    left, right = PointSource.of(X, name="X", device=device), PointSource.of(Y, name="Y", device=device)
    if distributed:
        from neurobridge.bridge.cost.distributed import check_distributed  # dask is imported by who uses it

        check_distributed(left, right, metrics, stream)
    anchors = _anchor_rows(pairs, left.shape[0], right.shape[0])
    log_weight = _log_confidence(confidence, len(anchors[0]), reduce, left)
    sizes = [_bytes_kept(side, rows, nearest, stream) for side, rows in zip((left, right), anchors, strict=True)]
    check_memory(
        sum(sizes),
        memory_limit,
        f"a cost of {left.shape[0]} + {right.shape[0]} points and {len(anchors[0])} pairs",
        mend="nearest=32 keeps each point's nearest anchors, stream=True keeps no distances",
    )
    source, source_factor = measure(left, anchors[0], metrics[0], scale, nearest, n_neighbors, stream, distributed)
    target, target_factor = measure(right, anchors[1], metrics[1], scale, nearest, n_neighbors, stream, distributed)
    if log_weight is not None:
        # Once: the weight of a pair belongs to the product, not to both factors.
        source_factor = source_factor.weighted(log_weight)
    return BridgeCost(source, target, source_factor, target_factor, reduce, anchors, X)


def _bytes_kept(points: PointSource, rows: np.ndarray, nearest: int | None, stream: bool) -> float:
    if stream:
        return 0.0
    n_columns = len(np.unique(rows))
    if nearest is None:
        return points.shape[0] * n_columns * points.element_size
    return points.shape[0] * min(nearest, n_columns) * (points.element_size + 4.0)


def _log_confidence(confidence: Array | None, n_pairs: int, reduce: str, left: PointSource) -> torch.Tensor | None:
    if confidence is None:
        return None
    weight = torch.as_tensor(confidence, dtype=torch.float64).cpu()
    if reduce != "softmin":
        raise ValueError(
            "found confidence with reduce='min'; expected reduce='softmin', since a minimum has no weights. "
            "Mend: reduce='softmin', or leave out the pairs you do not trust."
        )
    if weight.shape != (n_pairs,) or not bool(((weight > 0) & (weight <= 1)).all()):
        raise ValueError(
            f"confidence: found shape {tuple(weight.shape)} with values in [{float(weight.min())}, {float(weight.max())}]; "
            f"expected ({n_pairs},) values in (0, 1]. Mend: one for each pair; drop pairs of confidence zero."
        )
    return weight.log().to(left.data.device if isinstance(left.data, torch.Tensor) else left.device or "cpu")


def _anchor_rows(pairs: tuple[Array, Array], n: int, m: int) -> Rows:
    rows = [np.asarray(side.cpu() if isinstance(side, torch.Tensor) else side) for side in pairs]
    if len(rows) != 2 or rows[0].ndim != 1 or rows[0].shape != rows[1].shape:
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
