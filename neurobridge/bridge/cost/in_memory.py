"""Ways to hold the distances of a space in this process: all of them, those to the nearest anchors, or none.

Each class measures its distances itself: ``DenseFactor.measure(points, anchors, geometry)``. Nothing here holds an array of
n x P elements unless `DenseFactor` was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from neurobridge.bridge.cost.blocks import Block
from neurobridge.bridge.cost.distances import (
    AnchorDistances,
    Anchors,
    check_precomputed,
    is_single,
    positive_unit,
    streamed_unit,
    unit_of_length,
)
from neurobridge.bridge.cost.factors import BLOCK_ELEMENTS, Factor
from neurobridge.bridge.cost.graph import geodesic, nearest_geodesic
from neurobridge.bridge.cost.metrics import Geometry, Metric, Scale, distance_function, lengths
from neurobridge.bridge.cost.protocol import check_rows
from neurobridge.points.arrays import Array, PointSource, row_blocks
from neurobridge.store.kinds import register


@register("dense-factor")
@dataclass(frozen=True, eq=False, repr=False)
class DenseFactor(Factor):
    """Every anchor kept: ``distances`` of shape (n_points, n_columns)."""

    distances: torch.Tensor
    group: torch.Tensor | None = None
    log_weight: torch.Tensor | None = None

    @classmethod
    def measure(cls, points: PointSource, anchors: Anchors, geometry: Geometry) -> tuple[AnchorDistances, DenseFactor]:
        """Measure every point's distance to every anchor.

        Parameters
        ----------
        points : PointSource
            Of shape (n_points, n_dims); with ``metric="precomputed"``, the distances of shape (n_points, n_pairs).
        anchors : Anchors
        geometry : Geometry
            Of one space.

        Returns
        -------
        AnchorDistances
            Measures further points.
        DenseFactor

        Raises
        ------
        ValueError
            Distances that are none, or all points coincide so that no unit of length exists.
        """
        X = points.block(slice(None))
        metric, function, recall = geometry.metrics[0], None, 1.0
        if metric == "precomputed":
            X = check_precomputed(X, len(anchors.rows))
            # Distances to the anchors that are different points.
            X = X if anchors.group is None else X[:, anchors.first]
            distances = X.clone()
        elif metric == "geodesic":
            distances, recall = geodesic(X, anchors.columns, n_neighbors=geometry.n_neighbors)
        else:
            function = distance_function(metric)[1]
        chosen = X[torch.as_tensor(anchors.columns, device=X.device)]
        if function is not None:
            distances = torch.empty((len(X), len(chosen)), dtype=X.dtype, device=X.device)
            for rows in row_blocks(len(X), max(len(chosen), X.shape[1]), budget=1 << 22):
                distances[rows] = function(X[rows], chosen)
        unit = unit_of_length(distances, geometry.scale)
        distances /= unit
        factor = cls(distances, anchors.group_on(X.device))
        space = AnchorDistances.of_points(
            anchors.of_pairs(chosen), unit, geometry, held=factor, graph_points=X if metric == "geodesic" else None,
            recall=recall,
        )  # fmt: skip
        return space, factor

    @property
    def holding(self) -> str:
        """Which distances are held, in a few words."""
        return "all distances"

    @property
    def n_points(self) -> int:
        """Number of points n."""
        return self.distances.shape[0]

    @property
    def n_columns(self) -> int:
        """Number of different anchor points."""
        return self.distances.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the distances lie."""
        return self.distances.device

    def blocks(self) -> Iterator[tuple[slice, Block]]:
        """All rows, block by block."""
        for rows in row_blocks(*self.distances.shape, budget=BLOCK_ELEMENTS):
            yield rows, Block(self.distances[rows], None)

    def take(self, index: torch.Tensor | slice) -> Block:
        """Return some rows."""
        return Block(self.distances[index], None)

    def subset(self, index: torch.Tensor) -> DenseFactor:
        """The factor of some of the points."""
        return DenseFactor(self.distances[index], self.group, self.log_weight)


@register("nearest-factor")
@dataclass(frozen=True, eq=False, repr=False)
class NearestFactor(Factor):
    """Only the k nearest anchors of each point kept.

    Attributes
    ----------
    distances : tensor of shape (n_points, k)
        Infinite where a point has fewer than k anchors in reach.
    index : int32 tensor of shape (n_points, k)
        Which columns they are.
    n_all : int
        Number of different anchor points.
    radius : tensor of shape (n_points,)
        Distance below which no anchor was left out; infinite if none was.
    """

    distances: torch.Tensor
    index: torch.Tensor
    n_all: int
    radius: torch.Tensor
    group: torch.Tensor | None = None
    log_weight: torch.Tensor | None = None

    @classmethod
    def measure(
        cls, points: PointSource, anchors: Anchors, geometry: Geometry, *, nearest: int
    ) -> tuple[AnchorDistances, NearestFactor]:
        """Measure every point's distances, block by block, and keep those to its nearest anchors.

        Parameters
        ----------
        points, anchors, geometry : see `DenseFactor.measure`
        nearest : int
            Anchors to keep of each point.

        Returns
        -------
        AnchorDistances
        NearestFactor
        """
        k = min(nearest, len(anchors.columns))
        if geometry.metric == "precomputed":
            space, dense = DenseFactor.measure(points, anchors, geometry)
            return space, replace(nearest_of(dense.distances, k), group=dense.group)
        if geometry.metric == "geodesic":
            return cls._on_graph(points.block(slice(None)), anchors, geometry, k)
        space = AnchorDistances.unscaled(points, anchors, geometry)
        factor, mean = nearest_anchors(points, space, k)
        unit = positive_unit(mean, "mean") if geometry.scale == "mean" else streamed_unit(points, space, geometry.scale)
        factor.distances.div_(unit)
        factor.radius.div_(unit)
        return space.scaled(unit, anchors), replace(factor, group=anchors.group_on(factor.device))

    @classmethod
    def _on_graph(
        cls, X: torch.Tensor, anchors: Anchors, geometry: Geometry, k: int
    ) -> tuple[AnchorDistances, NearestFactor]:
        paths = nearest_geodesic(X, anchors.columns, k, n_neighbors=geometry.n_neighbors)
        unit = 1.0
        if geometry.scale != "none":
            unit = positive_unit(paths.mean if geometry.scale == "mean" else paths.median, geometry.scale)
        factor = cls(
            paths.distances / unit, paths.columns, len(anchors.columns), paths.radius / unit, anchors.group_on(X.device)
        )
        chosen = anchors.of_pairs(X[torch.as_tensor(anchors.columns, device=X.device)])
        space = AnchorDistances.of_points(chosen, unit, geometry, held=factor, graph_points=X, recall=paths.recall)
        return space, factor

    @property
    def holding(self) -> str:
        """Which distances are held, in a few words."""
        return f"{self.distances.shape[1]} nearest anchors"

    @property
    def n_points(self) -> int:
        """Number of points n."""
        return self.distances.shape[0]

    @property
    def n_columns(self) -> int:
        """Number of different anchor points."""
        return self.n_all

    @property
    def device(self) -> torch.device:
        """Where the distances lie."""
        return self.distances.device

    @property
    def reach(self) -> float:
        """Distance below which no anchor was left out of any point."""
        return float(self.radius.min())

    def blocks(self) -> Iterator[tuple[slice, Block]]:
        """All rows, block by block."""
        for rows in row_blocks(*self.distances.shape, budget=BLOCK_ELEMENTS):
            # Both gathering and adding by column take long integers.
            yield rows, Block(self.distances[rows], self.index[rows].long())

    def take(self, index: torch.Tensor | slice) -> Block:
        """Return some rows."""
        return Block(self.distances[index], self.index[index])

    def subset(self, index: torch.Tensor) -> NearestFactor:
        """The factor of some of the points."""
        return NearestFactor(
            self.distances[index], self.index[index], self.n_all, self.radius[index], self.group, self.log_weight
        )


def _streamed_state_of_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """Rename what measures the points."""
    return {("space" if name == "measure" else name): value for name, value in state.items()}


@register("streamed-factor", version=2, upgrades={1: _streamed_state_of_0_1})
@dataclass(frozen=True, eq=False, repr=False)
class StreamedFactor(Factor):
    """Every anchor kept, no distance: they are computed from the points on every pass, block by block.

    Attributes
    ----------
    points : PointSource
        In memory, on disk or dask-backed.
    space : AnchorDistances
        Measures the points.
    """

    points: PointSource
    space: AnchorDistances
    group: torch.Tensor | None = None
    log_weight: torch.Tensor | None = None

    @classmethod
    def measure(
        cls, points: PointSource, anchors: Anchors, geometry: Geometry
    ) -> tuple[AnchorDistances, StreamedFactor]:
        """Measure the unit of length, and keep no distance.

        Parameters
        ----------
        points, anchors, geometry : see `DenseFactor.measure`

        Returns
        -------
        AnchorDistances
        StreamedFactor
        """
        space = AnchorDistances.unscaled(points, anchors, geometry)
        space = replace(space, unit=streamed_unit(points, space, geometry.scale))
        return space.scaled(space.unit, anchors), cls(points, space, anchors.group_on(space.anchors.device))

    @property
    def holding(self) -> str:
        """Which distances are held, in a few words."""
        return "no distances"

    @property
    def n_points(self) -> int:
        """Number of points n."""
        return self.points.shape[0]

    @property
    def n_columns(self) -> int:
        """Number of different anchor points."""
        return len(self.space.anchors)

    @property
    def device(self) -> torch.device:
        """Where distances are computed."""
        return self.space.anchors.device

    def blocks(self) -> Iterator[tuple[slice, Block]]:
        """All rows, block by block."""
        for rows in self.points.slices(max(self.n_columns, self.points.shape[1])):
            yield rows, Block(self.space.of(self.points.block(rows), fast=True), None)

    def take(self, index: torch.Tensor | slice) -> Block:
        """Return some rows."""
        return Block(self.space.of(self.points.block(index), fast=True), None)

    def subset(self, index: torch.Tensor) -> DenseFactor:
        """The factor of some of the points, their distances kept."""
        return DenseFactor(self.take(index).distances, self.group, self.log_weight)


def nearest_anchors(points: PointSource, space: AnchorDistances, k: int) -> tuple[NearestFactor, float]:
    """Keep the k nearest anchors of every point, block by block; also the mean of all distances."""
    n, n_columns = points.shape[0], len(space.anchors)
    anchors = space.anchors
    distances = torch.empty((n, k), dtype=anchors.dtype, device=anchors.device)
    index = torch.empty((n, k), dtype=torch.int32, device=anchors.device)
    radius = torch.full((n,), math.inf, dtype=anchors.dtype, device=anchors.device)
    total = 0.0
    for rows, block in points.blocks(max(n_columns, points.shape[1])):
        block_distances = space.of(block, fast=is_single(points))
        total += float(block_distances.sum(dtype=torch.float64))
        part = nearest_of(block_distances, k)
        # The search may round; what is kept is exact, so that an anchor is at distance zero from itself.
        if is_single(points) and space.metric in ("euclidean", "sqeuclidean"):
            exact = lengths(block[:, None, :] - anchors[part.index])
            part = replace(part, distances=exact if space.metric == "euclidean" else exact**2)
        distances[rows], index[rows], radius[rows] = part.distances, part.index, part.radius
    return NearestFactor(distances, index, n_columns, radius), total / (n * n_columns)


def nearest_of(distances: torch.Tensor, k: int) -> NearestFactor:
    """Keep the k smallest of each row of (n_points, n_columns) distances."""
    n_columns = distances.shape[1]
    if k >= n_columns:
        values, indices = distances.sort(dim=1)
        radius = torch.full((len(distances),), math.inf, dtype=distances.dtype, device=distances.device)
        return NearestFactor(values, indices.to(torch.int32), n_columns, radius)
    values, indices = distances.topk(k + 1, dim=1, largest=False, sorted=True)
    return NearestFactor(
        values[:, :k].contiguous(), indices[:, :k].to(torch.int32), n_columns, values[:, k].contiguous()
    )


def anchor_distances(
    X: Array,
    anchor_rows: Array,
    *,
    metric: Metric = "euclidean",
    scale: Scale = "mean",
    n_neighbors: int = 10,
) -> AnchorDistances:
    """Measure every point's distance to the anchors of its own space, and keep them all.

    Parameters
    ----------
    X : array of shape (n_points, n_dims)
        Torch or numpy. For ``metric="precomputed"``: the distances themselves, (n_points, n_anchors), in the order of
        ``anchor_rows``.
    anchor_rows : int array of shape (n_anchors,)
        Rows of X that are anchors.
    metric : {"euclidean", "sqeuclidean", "cosine", "correlation", "geodesic", "precomputed"} or callable
        "geodesic" is the shortest path on the ``n_neighbors`` nearest-neighbour graph of all points
        (Tenenbaum, de Silva & Langford 2000). A callable takes tensors (n, d) and (k, d) and gives
        distances (n, k).
    scale : {"mean", "median", "none"}
        Divide by the mean or median anchor distance.
    n_neighbors : int
        Links of a point in the graph of ``metric="geodesic"``.

    Returns
    -------
    AnchorDistances

    Raises
    ------
    ValueError
        Unknown metric or scale, distances that are none, or all points coincide so that no unit of length
        exists.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from neurobridge.bridge import anchor_distances
    >>> X = torch.tensor([[0.0], [1.0], [3.0]])
    >>> anchor_distances(X, np.array([0]), scale="none").fitted
    tensor([[0.],
            [1.],
            [3.]])
    """
    source = PointSource.of(X, name="X")
    rows = check_rows((anchor_rows, anchor_rows), source.shape[0], source.shape[0])[0]
    anchors = Anchors(rows, rows, np.arange(len(rows)), None)
    return DenseFactor.measure(source, anchors, Geometry(metric, scale, n_neighbors))[0]
