"""Distances inside one space, from every point to the anchors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csgraph

from neurobridge.bridge._arrays import row_blocks

Metric = Literal["euclidean", "sqeuclidean", "cosine", "correlation", "geodesic"]
Scale = Literal["mean", "median", "none"]


class DisconnectedGraphWarning(UserWarning):
    """The neighbour graph had several components, joined by their shortest links."""


def euclidean(X: torch.Tensor, Z: torch.Tensor) -> torch.Tensor:
    """Return ``||x - z||`` of shape (n, k); zero exactly where x equals z."""
    return torch.cdist(X, Z, compute_mode="donot_use_mm_for_euclid_dist")


def sqeuclidean(X: torch.Tensor, Z: torch.Tensor) -> torch.Tensor:
    """Return ``||x - z||^2`` of shape (n, k)."""
    return euclidean(X, Z) ** 2


def cosine(X: torch.Tensor, Z: torch.Tensor) -> torch.Tensor:
    """Return ``1 - cos(x, z) = ||x/|x| - z/|z| ||^2 / 2`` of shape (n, k).

    Raises
    ------
    ValueError
        A vector is zero, so it has no direction.
    """
    return sqeuclidean(_unit(X), _unit(Z)) / 2


def correlation(X: torch.Tensor, Z: torch.Tensor) -> torch.Tensor:
    """Return ``1 - Pearson correlation`` over dimensions, of shape (n, k).

    Raises
    ------
    ValueError
        A vector is constant over its dimensions.
    """
    return cosine(X - X.mean(dim=1, keepdim=True), Z - Z.mean(dim=1, keepdim=True))


def _unit(X: torch.Tensor) -> torch.Tensor:
    norm = X.norm(dim=1, keepdim=True)
    zero = int((norm == 0).sum())
    if zero:
        raise ValueError(
            f"found {zero} zero (or constant) vectors; expected every point to have a direction for the cosine and "
            "correlation metrics. Mend: drop them, or use metric='euclidean'."
        )
    return X / norm


METRICS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "euclidean": euclidean,
    "sqeuclidean": sqeuclidean,
    "cosine": cosine,
    "correlation": correlation,
}


@dataclass(frozen=True, eq=False)
class AnchorDistances:
    """Distances of one space to its P anchors, able to measure points that were not there when it was fitted.

    Attributes
    ----------
    fitted : tensor of shape (n_points, n_anchors)
        Scaled distances of the fitted points.
    anchors : tensor of shape (n_anchors, n_dims)
    unit : float
        What every distance is divided by (the mean or median anchor distance), so that epsilon is dimensionless.
    metric : str
    graph_points : tensor of shape (n_points, n_dims) or None
        The points of the neighbour graph, kept for the geodesic metric only.
    n_neighbors : int
        Neighbours a point is linked to in the graph.
    """

    fitted: torch.Tensor
    anchors: torch.Tensor
    unit: float
    metric: str
    graph_points: torch.Tensor | None = None
    n_neighbors: int = 10

    def of(self, X: torch.Tensor) -> torch.Tensor:
        """Measure new points of shape (n_new, n_dims): scaled distances to the anchors, (n_new, n_anchors).

        On the graph, a new point enters through its neighbours: ``d(x, x_p) = min_k |x - x_k| + d(x_k, x_p)``.
        """
        if X.shape[1] != self.anchors.shape[1]:
            raise ValueError(
                f"found points of {X.shape[1]} dimensions; expected {self.anchors.shape[1]} as in fitting. "
                "Mend: pass the same neuroids, in the same order."
            )
        X = X.to(self.anchors)
        if self.graph_points is None:
            return METRICS[self.metric](X, self.anchors) / self.unit
        distance, index = neighbors(X, self.graph_points, min(self.n_neighbors, len(self.graph_points)))
        out = torch.empty((len(X), len(self.anchors)), dtype=self.fitted.dtype, device=self.fitted.device)
        for rows in row_blocks(len(X), index.shape[1] * len(self.anchors)):
            through = distance[rows, :, None] / self.unit + self.fitted[index[rows]]
            out[rows] = through.amin(dim=1)
        return out


def anchor_distances(
    X: torch.Tensor,
    anchor_rows: np.ndarray,
    *,
    metric: str = "euclidean",
    scale: str = "mean",
    n_neighbors: int = 10,
) -> AnchorDistances:
    """Measure every point's distance to the anchors of its own space.

    Parameters
    ----------
    X : tensor of shape (n_points, n_dims)
    anchor_rows : int array of shape (n_anchors,)
        Rows of X that are anchors.
    metric : {"euclidean", "sqeuclidean", "cosine", "correlation", "geodesic"}
        "geodesic" is the shortest path on the ``n_neighbors`` nearest-neighbour graph of all points.
    scale : {"mean", "median", "none"}
        Divide by the mean or median anchor distance.

    Raises
    ------
    ValueError
        Unknown metric or scale, or all points coincide so that no unit of length exists.
    """
    anchors = X[torch.as_tensor(anchor_rows, device=X.device)]
    if metric == "geodesic":
        raw = geodesic(X, anchor_rows, n_neighbors=n_neighbors)
    elif metric in METRICS:
        raw = torch.empty((len(X), len(anchors)), dtype=X.dtype, device=X.device)
        for rows in row_blocks(len(X), max(len(anchors), X.shape[1])):
            raw[rows] = METRICS[metric](X[rows], anchors)
    else:
        raise ValueError(
            f"found metric {metric!r}; expected one of {[*METRICS, 'geodesic']}. Mend: choose one of them."
        )
    unit = _unit_of_length(raw, scale)
    raw /= unit
    graph_points = X if metric == "geodesic" else None
    return AnchorDistances(raw, anchors, unit, metric, graph_points, n_neighbors)


def _unit_of_length(distances: torch.Tensor, scale: str) -> float:
    if scale == "none":
        return 1.0
    if scale == "mean":
        unit = float(distances.mean(dtype=torch.float64))
    elif scale == "median":
        unit = float(np.median(distances.cpu().numpy()))
    else:
        raise ValueError(f"found scale {scale!r}; expected 'mean', 'median' or 'none'. Mend: choose one of them.")
    if not unit > 0:
        raise ValueError(
            f"found a {scale} anchor distance of {unit}; expected a positive unit of length. "
            "Mend: drop duplicate points, or use scale='none'."
        )
    return unit


def neighbors(X: torch.Tensor, Z: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k nearest rows of Z for each row of X, exactly and in blocks.

    Returns
    -------
    distance, index : tensors of shape (n, k)
        Euclidean distances in rising order, and rows of Z.
    """
    distance = torch.empty((len(X), k), dtype=X.dtype, device=X.device)
    index = torch.empty((len(X), k), dtype=torch.int64, device=X.device)
    for rows in row_blocks(len(X), len(Z)):
        found = euclidean(X[rows], Z).topk(k, dim=1, largest=False, sorted=True)
        distance[rows], index[rows] = found.values, found.indices
    return distance, index


def geodesic(X: torch.Tensor, anchor_rows: np.ndarray, *, n_neighbors: int = 10) -> torch.Tensor:
    """Measure shortest paths from the anchors to all points on a symmetric nearest-neighbour graph.

    Parameters
    ----------
    X : tensor of shape (n_points, n_dims)
    anchor_rows : int array of shape (n_anchors,)
    n_neighbors : int
        Links a point has to its nearest others.

    Returns
    -------
    tensor of shape (n_points, n_anchors)

    Warns
    -----
    DisconnectedGraphWarning
        The graph fell into components, which were joined by their shortest links.

    References
    ----------
    Tenenbaum, de Silva & Langford 2000 (Isomap).
    """
    k = min(n_neighbors, len(X) - 1)
    if k < 1:
        return torch.zeros((len(X), len(anchor_rows)), dtype=X.dtype, device=X.device)
    distance, index = neighbors(X, X, k + 1)
    rows = np.repeat(np.arange(len(X)), k + 1)
    columns = index.cpu().numpy().ravel()
    weights = distance.cpu().numpy().astype(np.float64).ravel()
    off_diagonal = rows != columns
    # A sparse graph reads an exact zero as "no edge": duplicates keep a link of negligible length.
    positive = weights[weights > 0]
    tiny = 1e-9 * float(np.median(positive)) if positive.size else 1e-12
    graph = sparse.csr_matrix(
        (np.maximum(weights, tiny)[off_diagonal], (rows[off_diagonal], columns[off_diagonal])),
        shape=(len(X), len(X)),
    )
    graph = _joined(graph.maximum(graph.T), X)
    paths = csgraph.dijkstra(graph, directed=False, indices=np.asarray(anchor_rows))
    return torch.as_tensor(np.ascontiguousarray(paths.T), dtype=X.dtype, device=X.device)


def _joined(graph: sparse.csr_matrix, X: torch.Tensor) -> sparse.csr_matrix:
    n_components, label = csgraph.connected_components(graph, directed=False)
    if n_components == 1:
        return graph
    links = 0
    longest = 0.0
    graph = graph.tolil()
    while n_components > 1:
        smallest = int(np.bincount(label).argmin())
        inside, outside = np.flatnonzero(label == smallest), np.flatnonzero(label != smallest)
        distance, index = neighbors(X[torch.as_tensor(inside)], X[torch.as_tensor(outside)], 1)
        near = int(distance[:, 0].argmin())
        i, j, length = inside[near], outside[int(index[near, 0])], float(distance[near, 0])
        graph[i, j] = graph[j, i] = length
        links, longest = links + 1, max(longest, length)
        # Relabel by hand: one merged component, labels kept dense for bincount.
        label[inside] = label[j]
        label = np.unique(label, return_inverse=True)[1]
        n_components -= 1
    warnings.warn(
        f"found a neighbour graph of {links + 1} components; expected one. Joined them by their {links} shortest links "
        f"(longest {longest:.3g}). Mend: raise n_neighbors, or check for outliers.",
        DisconnectedGraphWarning,
        stacklevel=4,
    )
    return graph.tocsr()
