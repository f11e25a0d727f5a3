"""What an alignment is scored by on held-out points: correlation, retrieval, and a frozen readout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyses.parts.scores import r2
from neurobridge.evaluate.correlation import pearson
from neurobridge.points.ranks import HUB_NEIGHBORS, partner_ranks


def median_r(images: np.ndarray, truth: np.ndarray) -> float:
    """Return the median over target dimensions of Pearson's r over held-out points; 0 for an image that does not vary.

    Target dimensions that do not vary among the held-out points are left out.
    """
    varying = np.ptp(truth, axis=0) > 0
    return float(np.median(pearson(images[:, varying], truth[:, varying])[0]))


def recalls(queries: np.ndarray, gallery: np.ndarray, at: tuple[int, ...]) -> dict[str, float]:
    """Return the shares of queries whose partner is among the k nearest by cosine, plain and hub-corrected."""
    out: dict[str, float] = {}
    for name, n_neighbors in (("", 0), (", CSLS", HUB_NEIGHBORS)):
        ranks = partner_ranks(queries, gallery, hub_neighbors=n_neighbors).rank
        out |= {f"R@{k}{name}": float((ranks <= k).mean()) for k in at}
    return out


@dataclass(frozen=True, eq=False)
class Head:
    """Frozen linear readout of a target space, on points in the units of a draw.

    Attributes
    ----------
    weight, bias : arrays of shape (n_classes, n_all_dims) and (n_classes,)
    mean : array of shape (n_all_dims,)
    unit : float
        A point z of a draw is ``(y - mean) / unit`` in the dimensions that vary in its pool.
    kept : bool array of shape (n_all_dims,)
        Those dimensions; the others are at their mean.
    """

    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    unit: float
    kept: np.ndarray

    def decision_function(self, points: np.ndarray) -> np.ndarray:
        """Return the scores of the classes, shape (n, n_classes)."""
        return self.complete(points) @ self.weight.T + self.bias

    def predict(self, points: np.ndarray) -> np.ndarray:
        """Return the class of each point, shape (n,)."""
        return self.decision_function(points).argmax(axis=1)

    def complete(self, points: np.ndarray) -> np.ndarray:
        """Return points of all dimensions in the target's own units, shape (n, n_all_dims)."""
        out = np.tile(self.mean, (len(points), 1))
        out[:, self.kept] += points * self.unit
        return out


def readout_scores(images: np.ndarray, truth: np.ndarray, head: Head, labels: np.ndarray) -> dict[str, float]:
    """Return the accuracy of a frozen head on images of held-out points, and R^2 of their dimensions."""
    return {
        "accuracy": float((head.predict(images) == labels).mean()),
        "R^2": r2(head.complete(images), head.complete(truth)),
    }
