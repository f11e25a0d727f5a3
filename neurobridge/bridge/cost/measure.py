"""From the points of one space to the factor of the kernel it gives."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from neurobridge.bridge.cost.distances import (
    AnchorDistances,
    anchor_distances,
    check_precomputed,
    positive_unit,
    unit_of_length,
)
from neurobridge.bridge.cost.factors import DenseFactor, Factor, NearestFactor, StreamedFactor
from neurobridge.bridge.cost.geometry import Scale
from neurobridge.bridge.cost.graph import nearest_geodesic
from neurobridge.bridge.cost.metrics import Metric, distance_function
from neurobridge.points.arrays import PointSource

# Rows whose distances stand for all when a unit of length cannot be taken from every one of them.
_UNIT_ROWS = 4096


def measure(
    points: PointSource,
    rows: np.ndarray,
    metric: Metric,
    scale: Scale,
    nearest: int | None,
    n_neighbors: int,
    stream: bool,
    distributed: bool = False,
) -> tuple[AnchorDistances, Factor]:
    """Measure one space from its points to its anchors.

    Parameters
    ----------
    points : PointSource
    rows : int array of shape (n_pairs,)
        Rows that are anchors.
    metric, scale, nearest, n_neighbors, stream, distributed : see `neurobridge.bridge.bridge_cost`

    Returns
    -------
    AnchorDistances
        How points of this space are measured, fitted or new.
    Factor
        The distances of the fitted points, or the way to compute them again.
    """
    unique, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    # Pairs keep their order where every anchor is another point; otherwise each different point is a column.
    repeated = len(unique) < len(rows)
    columns = unique if repeated else rows
    if metric == "precomputed" and repeated:
        points = PointSource(check_precomputed(points.block(slice(None)), len(rows))[:, first], points.name)
    group = torch.as_tensor(inverse.reshape(-1), dtype=torch.int64) if repeated else None
    if stream:
        space = _unscaled(points, columns, metric)
        space = replace(space, unit=streamed_unit(points, space, scale))
        return _expanded(space, group), StreamedFactor(points, space, _on(group, space))
    if distributed:
        from neurobridge.bridge.cost.distributed import spread  # dask is imported by who uses it

        k = None if nearest is None else min(nearest, len(columns))
        space, held = spread(points, _unscaled(points, columns, metric), k, scale)
        return _expanded(space, group), held.grouped(group)
    if nearest is not None and metric not in ("geodesic", "precomputed"):
        space, kept = _nearest(points, _unscaled(points, columns, metric), min(nearest, len(columns)), scale)
        return _expanded(space, group), kept.grouped(_on(group, space))
    X = points.block(slice(None))
    if nearest is not None and metric == "geodesic":
        found = nearest_geodesic(X, columns, min(nearest, len(columns)), n_neighbors=n_neighbors)
        units = {"none": 1.0, "mean": found.mean, "median": found.median}
        unit = positive_unit(units[scale], scale) if scale in units else unit_of_length(found.distances, scale)
        factor: Factor = NearestFactor(
            found.distances / unit, found.columns, len(columns), found.radius / unit, _on(group, X)
        )
        anchors = X[torch.as_tensor(columns, device=X.device)]
        space = AnchorDistances(
            anchors,
            unit,
            "geodesic",
            graph_points=X,
            graph_rows=factor.grouped(None).rows,
            n_neighbors=n_neighbors,
        )
        return _expanded(space, group), factor
    space = anchor_distances(X, columns, metric=metric, scale=scale, n_neighbors=n_neighbors)
    factor = DenseFactor(space.fitted, _on(group, X))
    if nearest is not None:
        factor = nearest_of(space.fitted, min(nearest, len(columns))).grouped(_on(group, X))
    return _expanded(space, group), factor


def _on(group: torch.Tensor | None, like: torch.Tensor | AnchorDistances) -> torch.Tensor | None:
    device = like.device if isinstance(like, torch.Tensor) else like.anchors.device
    return None if group is None else group.to(device)


def _expanded(space: AnchorDistances, group: torch.Tensor | None) -> AnchorDistances:
    """One anchor a pair again, for points measured later."""
    if group is None:
        return space
    group = _on(group, space)
    rows = space.graph_rows
    return replace(
        space,
        anchors=space.anchors[group],
        distances=None if space.distances is None else space.distances[:, group],
        graph_rows=None if rows is None else lambda index: rows(index)[:, group],
    )


def _unscaled(points: PointSource, rows: np.ndarray, metric: Metric) -> AnchorDistances:
    name, function = distance_function(metric)
    order = np.argsort(rows)
    anchors = points.block(rows[order])[torch.as_tensor(np.argsort(order))]
    return AnchorDistances(anchors, 1.0, name, function)


def streamed_unit(points: PointSource, space: AnchorDistances, scale: Scale) -> float:
    """Unit of length read block by block: the mean of all distances, or the median of those of evenly spaced rows."""
    if scale == "mean":
        total = sum(
            float(space.of(block, fast=_rounds(points)).sum(dtype=torch.float64))
            for _, block in points.blocks(max(len(space.anchors), points.shape[1]))
        )
        return positive_unit(total / (points.shape[0] * len(space.anchors)), scale)
    rows = np.unique(np.linspace(0, points.shape[0] - 1, min(points.shape[0], _UNIT_ROWS)).astype(np.int64))
    return unit_of_length(space.of(points.block(rows), fast=_rounds(points)), scale)


def _rounds(points: PointSource) -> bool:
    # Who passes float64 wants its digits; a product of matrices loses half of them near zero.
    return points.element_size == 4


def _nearest(
    points: PointSource, space: AnchorDistances, k: int, scale: Scale
) -> tuple[AnchorDistances, NearestFactor]:
    kept, mean = nearest_anchors(points, space, k)
    unit = positive_unit(mean, scale) if scale == "mean" else streamed_unit(points, space, scale)
    kept.distances.div_(unit)
    kept.radius.div_(unit)
    return replace(space, unit=unit), kept


def nearest_anchors(points: PointSource, space: AnchorDistances, k: int) -> tuple[NearestFactor, float]:
    """Keep the k nearest anchors of every point, block by block; also the mean of all distances."""
    n, n_columns = points.shape[0], len(space.anchors)
    anchors = space.anchors
    distances = torch.empty((n, k), dtype=anchors.dtype, device=anchors.device)
    index = torch.empty((n, k), dtype=torch.int32, device=anchors.device)
    radius = torch.full((n,), math.inf, dtype=anchors.dtype, device=anchors.device)
    total = 0.0
    for rows, block in points.blocks(max(n_columns, points.shape[1])):
        found = space.of(block, fast=_rounds(points))
        total += float(found.sum(dtype=torch.float64))
        part = nearest_of(found, k)
        # The search may round; what is kept is exact, so that an anchor is at distance zero from itself.
        if _rounds(points) and space.metric in ("euclidean", "sqeuclidean"):
            exact = (block[:, None, :] - anchors[part.index]).norm(dim=2)
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
    found = distances.topk(k + 1, dim=1, largest=False, sorted=True)
    kept = found.values[:, :k].contiguous(), found.indices[:, :k].to(torch.int32)
    return NearestFactor(*kept, n_columns, found.values[:, k].contiguous())
