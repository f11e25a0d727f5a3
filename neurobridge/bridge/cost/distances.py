"""Distances inside one space, from points to the anchors: fitted points and points that come later."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from neurobridge.bridge.cost.factors import Factor
from neurobridge.bridge.cost.geodesic.cells import CellIndex
from neurobridge.bridge.cost.graph import EXACT_NEIGHBORS, neighbors
from neurobridge.bridge.cost.metrics import FAST, METRICS, OF_ALL_POINTS, Distance, Geometry, Scale, distance_function
from neurobridge.points.arrays import PointSource, row_blocks
from neurobridge.points.display import Displayed
from neurobridge.store.errors import StateFileError
from neurobridge.store.kinds import build, fields_of, register

# New points for which an index of the neighbour graph's points is not worth its time.
_FEW_POINTS = 256
# Rows whose distances stand for all when a unit of length cannot be taken from every one of them.
_UNIT_ROWS = 4096
# Distances whose mean is taken at once.
_WHOLE = 1 << 24


@dataclass(frozen=True, eq=False, repr=False)
class Anchors(Displayed):
    """The paired points of one space, and which of them are the same point.

    Attributes
    ----------
    rows : int array of shape (n_pairs,)
        Row of each pair.
    columns : int array of shape (n_columns,)
        Rows of the different points among them; in the order of the pairs where all are different.
    first : int array of shape (n_columns,)
        The first pair of each column.
    group : int64 tensor of shape (n_pairs,) or None
        Column of each pair, where several pairs are the same point.
    """

    rows: np.ndarray
    columns: np.ndarray
    first: np.ndarray
    group: torch.Tensor | None

    def _facts(self) -> dict[str, Any]:
        return {"pairs": f"{len(self.rows)} pairs", "points": f"{len(self.columns)} points"}

    @classmethod
    def of(cls, rows: np.ndarray) -> Anchors:
        """Find the different points among the rows of the pairs."""
        unique, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
        if len(unique) == len(rows):
            return cls(rows, rows, np.arange(len(rows)), None)
        return cls(rows, unique, first, torch.as_tensor(inverse.reshape(-1), dtype=torch.int64))

    def group_on(self, device: torch.device) -> torch.Tensor | None:
        """Return the column of each pair on a device."""
        return None if self.group is None else self.group.to(device)

    def of_pairs(self, values: torch.Tensor) -> torch.Tensor:
        """Repeat values of shape (n_columns, n_dims) for every pair, (n_pairs, n_dims)."""
        group = self.group_on(values.device)
        return values if group is None else values[group]


def _state_of_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """Hold the distances as a factor; the functions were never on disk."""
    distances = state["distances"]
    held = None if distances is None else build("dense-factor", 1, {"distances": distances}, {})
    dropped = ("distances", "function", "graph_rows")
    return {name: value for name, value in state.items() if name not in dropped} | {"held": held}


@register("anchor-distances", version=2, upgrades={1: _state_of_0_1})
@dataclass(frozen=True, eq=False, repr=False)
class AnchorDistances(Displayed):
    """The distances of one space to its P anchors, of points that were there in fitting and of new ones.

    Attributes
    ----------
    anchors : tensor of shape (n_anchors, n_dims)
    unit : float
        Length that every distance is divided by (the mean or median anchor distance), so that epsilon is dimensionless.
    metric : str
        A key of `METRICS`, "geodesic", "precomputed", or the name of ``function``.
    function : callable or None
        Distance between points, where the metric is a function of the caller's.
    held : Factor or None
        Scaled distances of the fitted points, where they are kept in this process and `fitted` or the graph reads them.
    graph_points : tensor of shape (n_points, n_dims) or None
        The points of the neighbour graph, kept for the geodesic metric only.
    n_neighbors : int
        Neighbours a point is linked to in the graph.
    recall : float
        Share of the true nearest neighbours that the graph links, on a sample of points; 1 where all are.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from neurobridge.bridge import anchor_distances
    >>> space = anchor_distances(torch.tensor([[0.0], [1.0], [3.0]]), np.array([0]), scale="none")
    >>> space.of(torch.tensor([[5.0]]))
    tensor([[5.]])
    """

    anchors: torch.Tensor
    unit: float
    metric: str
    function: Distance | None = None
    held: Factor | None = None
    graph_points: torch.Tensor | None = None
    n_neighbors: int = 10
    recall: float = 1.0

    def _facts(self) -> dict[str, Any]:
        held = {} if self.held is None else {"points": f"{self.held.n_points} points fitted"}
        recall = {} if self.recall == 1 else {"recall of neighbours": round(self.recall, 3)}
        return {"anchors": f"{len(self.anchors)} anchors", "metric": self.metric, **held, **recall, "unit": self.unit}

    def to_state(self) -> dict[str, Any]:
        """Return the state on disk: all but the function, which is code."""
        return fields_of(self, without=("function",))

    @classmethod
    def from_state(cls, state: dict[str, Any], given: Mapping[str, Any]) -> AnchorDistances:
        """Build from the state on disk; a metric that is a function is taken from ``given["metric"]`` by its name.

        Raises
        ------
        StateFileError
            The function was not given.
        """
        metric, metrics = state["metric"], given.get("metric")
        if metric in METRICS or metric in OF_ALL_POINTS:
            return cls(**state)
        functions = [each for each in (metrics if isinstance(metrics, tuple) else (metrics,)) if callable(each)]
        named = dict(map(distance_function, functions))
        if metric not in named:
            raise StateFileError(
                f"found the metric {metric!r}, a function; expected it among {sorted(named)}. Mend: load(folder, metric=...) with "
                "the function of fitting, under its own name."
            )
        return cls(**state, function=named[metric])

    @classmethod
    def of_points(
        cls,
        anchors: torch.Tensor,
        unit: float,
        geometry: Geometry,
        *,
        held: Factor | None = None,
        graph_points: torch.Tensor | None = None,
        recall: float = 1.0,
    ) -> AnchorDistances:
        """Build from anchors of shape (n_anchors, n_dims) and the settings of one space."""
        metric = geometry.metrics[0]
        if isinstance(metric, str):
            return cls(anchors, unit, metric, None, held, graph_points, geometry.n_neighbors, recall)
        return cls(anchors, unit, *distance_function(metric), held, graph_points, geometry.n_neighbors, recall)

    @classmethod
    def unscaled(cls, points: PointSource, anchors: Anchors, geometry: Geometry) -> AnchorDistances:
        """Read the different anchors from points that may lie on disk; the unit is 1, an anchor a column."""
        order = np.argsort(anchors.columns)
        chosen = points.block(anchors.columns[order])[torch.as_tensor(np.argsort(order))]
        return cls.of_points(chosen, 1.0, geometry)

    def scaled(self, unit: float, anchors: Anchors) -> AnchorDistances:
        """Return the same in a unit of length, an anchor a pair."""
        return replace(self, unit=unit, anchors=anchors.of_pairs(self.anchors))

    @cached_property
    def _cells(self) -> CellIndex | None:
        """Cells in which new points look for their neighbours: made by the first that ask, kept for the others."""
        points = self.graph_points
        return None if points is None or len(points) <= EXACT_NEIGHBORS else CellIndex.of(points)

    @property
    def fitted(self) -> torch.Tensor:
        """Scaled distances of the fitted points, shape (n_points, n_anchors).

        Raises
        ------
        ValueError
            They were not kept, since only the nearest anchors were, or since they are streamed.
        """
        if self.held is None or not math.isinf(self.held.reach):
            raise ValueError(
                "found a cost that keeps no full distance matrix (nearest anchors or stream=True); expected one. "
                "Mend: build it with nearest=None and stream=False."
            )
        return self.held.rows(slice(None))

    def of(self, X: torch.Tensor, *, fast: bool = False) -> torch.Tensor:
        """Measure points of shape (n_new, n_dims): scaled distances to the anchors, (n_new, n_anchors).

        On the graph, a new point enters through its neighbours: ``d(x, x_p) = min_k |x - x_k| + d(x_k, x_p)``.

        Parameters
        ----------
        X : tensor of shape (n_new, n_dims)
            For the precomputed metric: distances to the anchors, (n_new, n_anchors).
        fast : bool
            Euclidean distances by matrix product: right to rounding, not exactly zero at the anchors.

        Raises
        ------
        ValueError
            Points of another number of dimensions.
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
            function = METRICS[self.metric] if self.function is None else self.function
            function = FAST.get(self.metric, function) if fast else function
            return function(X, self.anchors) / self.unit
        assert self.held is not None
        n_neighbors = min(self.n_neighbors, len(self.graph_points))
        # A handful of points is compared with all before cells are made for it.
        cells = self._cells if len(X) > _FEW_POINTS or "_cells" in vars(self) else None
        distance, index = neighbors(X, self.graph_points, n_neighbors, cells=cells)
        out = torch.empty((len(X), len(self.anchors)), dtype=X.dtype, device=X.device)
        for rows in row_blocks(len(X), index.shape[1] * len(self.anchors), budget=1 << 22):
            beyond = self.held.rows(index[rows].reshape(-1)).reshape(*index[rows].shape, -1)
            out[rows] = (distance[rows, :, None] / self.unit + beyond).amin(dim=1)
        return out


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


def unit_of_length(distances: torch.Tensor, scale: Scale) -> float:
    """Return the mean or median of distances, or 1.

    Raises
    ------
    ValueError
        A unit that is not positive.
    """
    if scale == "none":
        return 1.0
    if scale == "mean":
        if distances.numel() <= _WHOLE:
            return positive_unit(float(distances.mean(dtype=torch.float64)), scale)
        # A mean in float64 makes a copy.
        blocks = row_blocks(*distances.shape, budget=_WHOLE)
        total = sum(float(distances[rows].sum(dtype=torch.float64)) for rows in blocks)
        return positive_unit(total / distances.numel(), scale)
    return positive_unit(float(np.median(distances.cpu().numpy())), scale)


def streamed_unit(points: PointSource, space: AnchorDistances, scale: Scale) -> float:
    """Read the unit of length block by block: the mean of all distances, or the median of those of evenly spaced rows."""
    if scale == "mean":
        total = sum(
            float(space.of(block, fast=is_single(points)).sum(dtype=torch.float64))
            for _, block in points.blocks(max(len(space.anchors), points.shape[1]))
        )
        return positive_unit(total / (points.shape[0] * len(space.anchors)), scale)
    rows = np.unique(np.linspace(0, points.shape[0] - 1, min(points.shape[0], _UNIT_ROWS)).astype(np.int64))
    return unit_of_length(space.of(points.block(rows), fast=is_single(points)), scale)


def is_single(points: PointSource) -> bool:
    """Tell whether points are float32, whose distances a matrix product may measure; it loses half the digits near zero."""
    return points.element_size == 4


def positive_unit(unit: float, scale: Scale) -> float:
    """Refuse a unit of length that is not positive."""
    if not 0 < unit < float("inf"):
        raise ValueError(
            f"found a {scale} anchor distance of {unit}; expected a positive finite unit of length. Mend: drop duplicate points; "
            "where the numbers are very small or very large, divide them by their size, X / numpy.abs(X).max(), or pass float64."
        )
    return unit
