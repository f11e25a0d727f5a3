"""Distances between two sets of points of one space, and the settings of them in both spaces."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from neurobridge.points.options import is_choice, require_count

MetricName = Literal["euclidean", "sqeuclidean", "cosine", "correlation", "geodesic", "precomputed"]
Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Metric = MetricName | Distance

#: Metrics that need more than two points: see `Geometry`.
OF_ALL_POINTS = ("geodesic", "precomputed")


def euclidean(X: torch.Tensor, Z: torch.Tensor) -> torch.Tensor:
    """Return ``||x - z||`` of shape (n, k); zero exactly where x equals z."""
    power = _power(X, Z)
    if power != 1:
        return euclidean(X / power, Z / power) * power
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
    X, Z = _near_one(X), _near_one(Z)
    return cosine(X - X.mean(dim=1, keepdim=True), Z - Z.mean(dim=1, keepdim=True))


def lengths(differences: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean lengths of vectors along the last axis, also where their squares leave the precision."""
    power = _power(differences, differences)
    return differences.norm(dim=-1) if power == 1 else (differences / power).norm(dim=-1) * power


def _power(X: torch.Tensor, Z: torch.Tensor) -> float:
    """Return the power of two that both are divided by, so that squares neither vanish nor overflow; 1 for usual sizes."""
    if not X.numel() or not Z.numel():
        return 1.0
    peak = max(float(bound.abs()) for side in (X, Z) for bound in side.aminmax())
    low, high = (-36, 50) if X.dtype == torch.float32 else (-400, 400)
    exponent = math.frexp(peak)[1] if 0 < peak < math.inf else 0
    return 1.0 if low <= exponent <= high else math.ldexp(1.0, exponent)


def _near_one(X: torch.Tensor) -> torch.Tensor:
    """Divide every vector by a power of two, which changes no digit, so that its largest number is near 1."""
    exponent = torch.frexp(X.abs().amax(dim=1, keepdim=True)).exponent
    # Twice half of it: a power of two beyond the precision has no number of its own.
    half = exponent // 2
    return torch.ldexp(torch.ldexp(X, -half), half - exponent)


def _unit(X: torch.Tensor) -> torch.Tensor:
    X = _near_one(X)
    norm = X.norm(dim=1, keepdim=True)
    zero = int((norm == 0).sum())
    if zero:
        raise ValueError(
            f"found {zero} zero (or constant) vectors; expected every point to have a direction for the cosine and "
            "correlation metrics. Mend: drop them, or use metric='euclidean'."
        )
    return X / norm


#: Distances between two sets of points: name -> f(X, Z) from tensors (n, d) and (k, d) to distances (n, k).
METRICS: dict[str, Distance] = {
    "euclidean": euclidean,
    "sqeuclidean": sqeuclidean,
    "cosine": cosine,
    "correlation": correlation,
}


def _fast_euclidean(X: torch.Tensor, Z: torch.Tensor) -> torch.Tensor:
    # One matrix product; centred first, so that little is lost to cancellation. Not exactly zero where x equals z.
    power = _power(X, Z)
    if power != 1:
        return _fast_euclidean(X / power, Z / power) * power
    centre = Z.mean(dim=0)
    return torch.cdist(X - centre, Z - centre, compute_mode="use_mm_for_euclid_dist")


#: For metrics whose anchors are many: the same numbers to rounding, at the speed of a matrix product.
FAST: dict[str, Distance] = {"euclidean": _fast_euclidean, "sqeuclidean": lambda X, Z: _fast_euclidean(X, Z) ** 2}


def distance_function(metric: Metric) -> tuple[str, Distance]:
    """Look a metric up: its name and ``f(X, Z)`` from (n, d) and (k, d) to distances (n, k).

    Raises
    ------
    ValueError
        Unknown metric.
    """
    if callable(metric):
        return getattr(metric, "__name__", type(metric).__name__), _checked(metric)
    if not is_choice(metric, METRICS):
        raise ValueError(
            f"found metric {metric!r}; expected one of {[*METRICS, *OF_ALL_POINTS]} or a function. "
            "Mend: choose one of them."
        )
    return metric, METRICS[metric]


def _checked(function: Distance) -> Distance:
    def measure(X: torch.Tensor, Z: torch.Tensor) -> torch.Tensor:
        distances = torch.as_tensor(function(X, Z)).to(X)
        finite = distances.shape == (len(X), len(Z)) and bool(torch.isfinite(distances).all())
        if not finite or bool((distances < 0).any()):
            raise ValueError(
                f"metric {getattr(function, '__name__', function)!r}: found shape {tuple(distances.shape)}, smallest value "
                f"{float(distances.min()) if distances.numel() else None}; expected finite distances, none below zero, of shape "
                f"({len(X)}, {len(Z)}). Mend: return one distance for each row of X and of Z."
            )
        return distances

    return measure


Scale = Literal["mean", "median", "none"]
SCALES: tuple[Scale, ...] = ("mean", "median", "none")


@dataclass(frozen=True)
class Geometry:
    """Settings of the distances inside the source and the target space.

    Public functions take the three settings as keyword arguments and build this object once; everything below them passes
    it on.

    Parameters
    ----------
    metric : str, callable, or a tuple of two
        Distance inside each space: a key of `METRICS`, "geodesic", "precomputed", or a function from tensors (n, d) and
        (k, d) to distances (n, k). A tuple gives the source and the target space their own.
    scale : {"mean", "median", "none"}
        Unit of length of each space: its mean or median anchor distance, or 1.
    n_neighbors : int
        Links of a point in the graph of ``metric="geodesic"``.

    Raises
    ------
    ValueError
        Unknown metric or scale, or a tuple of another length than two.

    Examples
    --------
    >>> Geometry(("cosine", "geodesic")).sides[1].metric
    'geodesic'
    """

    metric: Metric | tuple[Metric, Metric] = "euclidean"
    scale: Scale = "mean"
    n_neighbors: int = 10

    def __post_init__(self) -> None:
        metrics = self.metric if isinstance(self.metric, tuple) else (self.metric,)
        if len(metrics) > 2 or not metrics:
            raise ValueError(
                f"found {len(metrics)} metrics; expected one, or one for each of the two spaces. "
                "Mend: metric=('cosine', 'geodesic'), or a single name."
            )
        for metric in metrics:
            is_function = callable(metric) and not isinstance(metric, type)
            if not is_function and not (isinstance(metric, str) and metric in (*METRICS, *OF_ALL_POINTS)):
                raise ValueError(
                    f"found metric {metric!r}; expected one of {[*METRICS, *OF_ALL_POINTS]} or a function. "
                    "Mend: choose one of them."
                )
        require_count(self.n_neighbors, name="n_neighbors")
        if not is_choice(self.scale, SCALES):
            raise ValueError(
                f"found scale {self.scale!r}; expected 'mean', 'median' or 'none'. Mend: choose one of them."
            )

    @property
    def sides(self) -> tuple[Geometry, Geometry]:
        """The settings of the source space and those of the target space, each with a single metric."""
        source, target = self.metrics
        return replace(self, metric=source), replace(self, metric=target)

    @property
    def metrics(self) -> tuple[Metric, Metric]:
        """The metric of the source space and that of the target space."""
        return (self.metric[0], self.metric[-1]) if isinstance(self.metric, tuple) else (self.metric, self.metric)

    @property
    def needs_all_points(self) -> bool:
        """True where a distance needs more than its two points: the geodesic and the precomputed metric."""
        return any(isinstance(metric, str) and metric in OF_ALL_POINTS for metric in self.metrics)

    @property
    def is_graph(self) -> bool:
        """True where a space has a neighbour graph of all its points."""
        return any(isinstance(metric, str) and metric == "geodesic" for metric in self.metrics)

    def transposed(self) -> Geometry:
        """Return the same settings with source and target exchanged."""
        return replace(self, metric=self.metric[::-1]) if isinstance(self.metric, tuple) else self
