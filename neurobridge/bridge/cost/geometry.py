"""The settings of the distances inside both spaces, as one object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from neurobridge.bridge.cost.metrics import METRICS, OF_ALL_POINTS, Metric

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
            if not callable(metric) and metric not in (*METRICS, *OF_ALL_POINTS):
                raise ValueError(
                    f"found metric {metric!r}; expected one of {[*METRICS, *OF_ALL_POINTS]} or a function. "
                    "Mend: choose one of them."
                )
        if self.scale not in SCALES:
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

    def transposed(self) -> Geometry:
        """Return the same settings with source and target exchanged."""
        return replace(self, metric=self.metric[::-1]) if isinstance(self.metric, tuple) else self
