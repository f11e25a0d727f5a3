"""Distances inside one space, from points to the anchors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from neurobridge.bridge.cost.geometry import Scale
from neurobridge.bridge.cost.graph import geodesic, neighbors
from neurobridge.bridge.cost.metrics import FAST, Distance, Metric, distance_function
from neurobridge.points.arrays import row_blocks


@dataclass(frozen=True, eq=False)
class AnchorDistances:
    """How far points of one space are from its P anchors; measures points that were not there in fitting as well.

    Attributes
    ----------
    anchors : tensor of shape (n_anchors, n_dims)
    unit : float
        What every distance is divided by (the mean or median anchor distance), so that epsilon is dimensionless.
    metric : str
    function : callable or None
        Distance between points; None for the geodesic and precomputed metrics.
    distances : tensor of shape (n_points, n_anchors) or None
        Scaled distances of the fitted points, where they were kept.
    graph_points : tensor of shape (n_points, n_dims) or None
        The points of the neighbour graph, kept for the geodesic metric only.
    graph_rows : callable or None
        Scaled geodesic distances of some fitted points to all anchors, where they are not kept densely.
    n_neighbors : int
        Neighbours a point is linked to in the graph.
    """

    anchors: torch.Tensor
    unit: float
    metric: str
    function: Distance | None = None
    distances: torch.Tensor | None = None
    graph_points: torch.Tensor | None = None
    graph_rows: Callable[[torch.Tensor], torch.Tensor] | None = None
    n_neighbors: int = 10

    @property
    def fitted(self) -> torch.Tensor:
        """Scaled distances of the fitted points, shape (n_points, n_anchors).

        Raises
        ------
        ValueError
            They were not kept, since only the nearest anchors were, or since they are streamed.
        """
        if self.distances is None:
            raise ValueError(
                "found a cost that keeps no full distance matrix (nearest anchors or stream=True); expected one. "
                "Mend: build it with nearest=None and stream=False."
            )
        return self.distances

    def of(self, X: torch.Tensor, *, fast: bool = False) -> torch.Tensor:
        """Measure points of shape (n_new, n_dims): scaled distances to the anchors, (n_new, n_anchors).

        On the graph, a new point enters through its neighbours: ``d(x, x_p) = min_k |x - x_k| + d(x_k, x_p)``.

        Parameters
        ----------
        X : tensor of shape (n_new, n_dims)
            For the precomputed metric: distances to the anchors, (n_new, n_anchors).
        fast : bool
            Euclidean distances by matrix product: right to rounding, not exactly zero at the anchors.
        """
        width = len(self.anchors) if self.metric == "precomputed" else self.anchors.shape[1]
        if X.shape[1] != width:
            raise ValueError(
                f"found points of {X.shape[1]} dimensions; expected {width} as in fitting. "
                "Mend: pass the same neuroids, in the same order."
            )
        X = X.to(self.anchors)
        if self.metric == "precomputed":
            return X / self.unit
        if self.graph_points is None:
            function = FAST.get(self.metric, self.function) if fast else self.function
            assert function is not None
            return function(X, self.anchors) / self.unit
        distance, index = neighbors(X, self.graph_points, min(self.n_neighbors, len(self.graph_points)))
        read = self.graph_rows or self.fitted.__getitem__
        out = torch.empty((len(X), len(self.anchors)), dtype=X.dtype, device=X.device)
        for rows in row_blocks(len(X), index.shape[1] * len(self.anchors), budget=1 << 22):
            through = distance[rows, :, None] / self.unit + read(index[rows].reshape(-1)).reshape(
                *index[rows].shape, -1
            )
            out[rows] = through.amin(dim=1)
        return out


def anchor_distances(
    X: torch.Tensor,
    anchor_rows: np.ndarray,
    *,
    metric: Metric = "euclidean",
    scale: Scale = "mean",
    n_neighbors: int = 10,
) -> AnchorDistances:
    """Measure every point's distance to the anchors of its own space, and keep them all.

    Parameters
    ----------
    X : tensor of shape (n_points, n_dims)
        For ``metric="precomputed"``: the distances themselves, (n_points, n_anchors), in the order of ``anchor_rows``.
    anchor_rows : int array of shape (n_anchors,)
        Rows of X that are anchors.
    metric : {"euclidean", "sqeuclidean", "cosine", "correlation", "geodesic", "precomputed"} or callable
        "geodesic" is the shortest path on the ``n_neighbors`` nearest-neighbour graph of all points. A callable takes tensors
        (n, d) and (k, d) and gives distances (n, k).
    scale : {"mean", "median", "none"}
        Divide by the mean or median anchor distance.

    Raises
    ------
    ValueError
        Unknown metric or scale, distances that are none, or all points coincide so that no unit of length exists.
    """
    anchors = X[torch.as_tensor(anchor_rows, device=X.device)]
    function = None
    if metric == "geodesic":
        raw = geodesic(X, anchor_rows, n_neighbors=n_neighbors)
    elif metric == "precomputed":
        raw = check_precomputed(X, len(anchor_rows)).clone()
    else:
        _, function = distance_function(metric)
        raw = torch.empty((len(X), len(anchors)), dtype=X.dtype, device=X.device)
        for rows in row_blocks(len(X), max(len(anchors), X.shape[1]), budget=1 << 22):
            raw[rows] = function(X[rows], anchors)
    unit = unit_of_length(raw, scale)
    raw /= unit
    graph_points = X if metric == "geodesic" else None
    name = metric if isinstance(metric, str) else distance_function(metric)[0]
    return AnchorDistances(anchors, unit, name, function, raw, graph_points, None, n_neighbors)


def check_precomputed(D: torch.Tensor, n_anchors: int) -> torch.Tensor:
    """Check a matrix of distances to the anchors.

    Raises
    ------
    ValueError
        Another number of anchors, or negative distances.
    """
    if D.shape[1] != n_anchors or bool((D < 0).any()):
        raise ValueError(
            f"metric='precomputed': found shape {tuple(D.shape)}, smallest value {float(D.min())}; expected distances of "
            f"every point to the {n_anchors} anchors, none below zero. Mend: pass D[:, p] = d(x, x_p), in the order of the pairs."
        )
    return D


def unit_of_length(distances: torch.Tensor, scale: str) -> float:
    """Mean or median of distances, or 1.

    Raises
    ------
    ValueError
        Unknown scale, or a unit that is not positive.
    """
    if scale == "none":
        return 1.0
    if scale == "mean":
        return positive_unit(float(distances.mean(dtype=torch.float64)), scale)
    if scale == "median":
        return positive_unit(float(np.median(distances.cpu().numpy())), scale)
    raise ValueError(f"found scale {scale!r}; expected 'mean', 'median' or 'none'. Mend: choose one of them.")


def positive_unit(unit: float, scale: str) -> float:
    """Refuse a unit of length that is not positive."""
    if not 0 < unit < float("inf"):
        raise ValueError(
            f"found a {scale} anchor distance of {unit}; expected a positive unit of length. "
            "Mend: drop duplicate points, or use scale='none'."
        )
    return unit
