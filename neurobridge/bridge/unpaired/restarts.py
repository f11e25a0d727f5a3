"""Restarts: matches of two subsamples by their inner distances, and the same towards surrogates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from neurobridge.bridge.cost.measured import measured_cost
from neurobridge.bridge.cost.metrics import Geometry
from neurobridge.bridge.selftrained import self_train
from neurobridge.bridge.transport.couple import couple
from neurobridge.bridge.transport.coupling import ConvergenceWarning
from neurobridge.bridge.unpaired.gromov import inner_distances, match_geometry, scrambled
from neurobridge.bridge.unpaired.lowrank import match_parts
from neurobridge.bridge.unpaired.neighbours import at_least_two, mutual_nearest, mutual_share
from neurobridge.points.arrays import Rows
from neurobridge.points.display import short_repr

Solver = Literal["entropic", "lowrank"]
Refinement = Literal["rotation", "fused"]
REFINEMENTS: tuple[Refinement, ...] = ("rotation", "fused")
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
        Most points of each cloud that are matched.
    refinement : {"rotation", "fused"}
        The map over the anchors of a match: a rotation that is trained on all points drawn (`self_train`), or the coupling
        over the anchors.
    """

    solver: Solver
    rank: int
    geometry: Geometry
    n_points: int
    refinement: Refinement

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
        """Match subsamples of two clouds, and fit maps in both directions over the anchors of the match."""
        source, target = self.draw(X, rng), self.draw(Y, rng)
        rows, columns = (rng.permutation(len(side))[: self.n_points] for side in (source, target))
        anchors, distortion = self.match(source[rows], target[columns], rng)
        if self.refinement == "rotation":
            trained = self_train(source, target, start=(rows[anchors[0]], columns[anchors[1]]))
            return Restart(trained.forward, trained.backward, distortion, trained.rotation)
        source, target = source[rows], target[columns]
        cost = measured_cost(source, target, anchors, self.geometry)
        with warnings.catch_warnings():
            # The map of one restart is a vote, which needs no exact marginals.
            warnings.simplefilter("ignore", ConvergenceWarning)
            coupling = couple(cost, epsilon=0.05, tol=1e-3, max_iter=200)
        backward = coupling.transposed()
        return Restart(lambda Z: coupling.map(Z, target), lambda Z: backward.map(Z, source), distortion, None)

    def surrogate(self, X: np.ndarray, Y: np.ndarray, rng: np.random.Generator) -> Surrogate:
        """Match with a surrogate of the target, of which parts have been rearranged, as a restart would."""
        rearranged = scrambled(Y, rng)
        restart = self.restart(X, rearranged, rng)
        return Surrogate(restart.distortion, mutual_share(restart.map_forward(X), rearranged, rng))

    def draw(self, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw four fifths of the points."""
        return X[rng.choice(len(X), math.ceil(_DRAWN * len(X)), replace=False)]


class Surrogate(NamedTuple):
    """Distortion of a match with a surrogate, and the share of points that are mutual nearest neighbours after it."""

    distortion: float
    mutual: float


@dataclass(frozen=True, eq=False, repr=False)
class Restart:
    """A match of two subsamples, as a map in both directions.

    Attributes
    ----------
    forward, backward : callables
        Map points of shape (n_points, n_dims) of one cloud into the other.
    distortion : float
        Gromov-Wasserstein distortion of the match.
    rotation : array of shape (n_source_dims, n_target_dims), or None
        Of a self-trained map.
    """

    forward: Callable[[np.ndarray], Any]
    backward: Callable[[np.ndarray], Any]
    distortion: float
    rotation: np.ndarray | None

    def map_forward(self, X: np.ndarray) -> np.ndarray:
        """Map source points to the target space, shape (n_points, n_target_dims)."""
        return np.asarray(self.forward(X))

    def map_backward(self, Y: np.ndarray) -> np.ndarray:
        """Map target points to the source space, shape (n_points, n_source_dims)."""
        return np.asarray(self.backward(Y))

    def __repr__(self) -> str:
        kind = "coupling" if self.rotation is None else "rotation"
        return short_repr("Restart", kind, distortion=self.distortion)
