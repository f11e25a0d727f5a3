"""Restarts: matches of two subsamples by their inner distances, and the same towards surrogates."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neurobridge.bridge.cost.measured import measured_cost
from neurobridge.bridge.cost.metrics import Geometry
from neurobridge.bridge.transport.couple import couple
from neurobridge.bridge.transport.coupling import ConvergenceWarning, Coupling
from neurobridge.bridge.unpaired.gromov import inner_distances, match_geometry, scrambled
from neurobridge.bridge.unpaired.lowrank import match_parts
from neurobridge.bridge.unpaired.neighbours import at_least_two, mutual_nearest
from neurobridge.points.arrays import Rows
from neurobridge.points.display import short_repr

Solver = Literal["entropic", "lowrank"]
SOLVERS: tuple[Solver, ...] = ("entropic", "lowrank")
# Share of the points that a restart draws.
_DRAWN = 0.8


@dataclass(frozen=True)
class Matcher:
    """Settings of the matching of two clouds by their inner distances.

    Attributes
    ----------
    solver : {"entropic", "lowrank"}
        Gromov-Wasserstein between points (`match_geometry`) or between parts (`match_parts`).
    rank : int
        Number of parts.
    geometry : Geometry
        Settings of the distances inside both clouds.
    n_points : int
        Most points of each cloud that are drawn.
    """

    solver: Solver
    rank: int
    geometry: Geometry
    n_points: int

    def match(self, X: np.ndarray, Y: np.ndarray, rng: np.random.Generator) -> tuple[Rows, float]:
        """Match two clouds: their anchors, at least two, and the distortion of the match."""
        if self.solver == "lowrank":
            parts = match_parts(X, Y, rng, rank=self.rank)
            return at_least_two(parts.anchors(X, Y), len(X), len(Y)), parts.distortion
        C, D = (
            inner_distances(side, metric=metric, n_neighbors=self.geometry.n_neighbors)
            for side, metric in zip((X, Y), self.geometry.metrics, strict=True)
        )
        match = match_geometry(C, D, rng)
        return mutual_nearest(-match.plan), match.distortion

    def restart(self, X: np.ndarray, Y: np.ndarray, rng: np.random.Generator) -> Restart:
        """Match subsamples of two clouds, and couple them over the anchors of the match."""
        source, target = self.draw(X, rng), self.draw(Y, rng)
        rows, distortion = self.match(source, target, rng)
        cost = measured_cost(source, target, rows, self.geometry)
        with warnings.catch_warnings():
            # The map of one restart is a vote, which needs no exact marginals.
            warnings.simplefilter("ignore", ConvergenceWarning)
            coupling = couple(cost, epsilon=0.05, tol=1e-3, max_iter=200)
        return Restart(coupling, source, target, distortion)

    def null_distortion(self, X: np.ndarray, Y: np.ndarray, rng: np.random.Generator) -> float:
        """Distortion of a match with a surrogate of the target, of which parts have been rearranged."""
        source, target = self.draw(X, rng), scrambled(self.draw(Y, rng), rng)
        return self.match(source, target, rng)[1]

    def draw(self, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw four fifths of the points, at most ``n_points``."""
        return X[rng.choice(len(X), min(self.n_points, math.ceil(_DRAWN * len(X))), replace=False)]


@dataclass(frozen=True, eq=False, repr=False)
class Restart:
    """A match of two subsamples, as a map in both directions.

    Attributes
    ----------
    coupling : Coupling
        Factored coupling over the anchors of the match.
    source, target : arrays of shape (n_drawn, n_dims)
        The subsamples.
    distortion : float
        Gromov-Wasserstein distortion of the match.
    """

    coupling: Coupling
    source: np.ndarray
    target: np.ndarray
    distortion: float

    def map_forward(self, X: np.ndarray) -> np.ndarray:
        """Map source points to the target space, shape (n_points, n_target_dims)."""
        return np.asarray(self.coupling.map(X, self.target))

    def map_backward(self, Y: np.ndarray) -> np.ndarray:
        """Map target points to the source space, shape (n_points, n_source_dims)."""
        return np.asarray(self.coupling.transposed().map(Y, self.source))

    def __repr__(self) -> str:
        size = f"{len(self.source)} x {len(self.target)} points"
        return short_repr("Restart", size, f"{len(self.coupling.anchors[0])} anchors", distortion=self.distortion)
