"""Families of maps: how the two maps of a fused bridge start on the pairs, are refitted on images, and miss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch

from neurobridge.bridge.cost.blocks import log_product
from neurobridge.bridge.fused.cost import BRIDGE_EPSILON, FusedProblem
from neurobridge.bridge.fused.solving.clouds import Cloud
from neurobridge.bridge.fused.solving.designs import (
    AffineMap,
    CloudMap,
    KernelDesign,
    OrthogonalDesign,
    RidgeDesign,
    cosine_distances,
    squared_distances,
)
from neurobridge.maps.linear import ridge_map

_ORTHOGONAL_PAIR_WEIGHT = 10.0
_DAMPING = 0.5


class Maps(NamedTuple):
    """The maps of both directions, and what an orthogonal family keeps of its fit."""

    forward: CloudMap
    backward: CloudMap
    rotation: torch.Tensor | None = None
    covariance: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class CloudProblem:
    """Two clouds in their principal coordinates, the pairs among them, and the distances to the anchors.

    Attributes
    ----------
    source, target : Cloud
        Of n and m points.
    rows : tuple of two int tensors of shape (n_pairs,)
        Rows of both clouds that are pairs.
    distances : tuple of two float32 tensors of shape (n, n_pairs) and (m, n_pairs)
        To the anchors of each side, in units of their mean.
    seed : int
        Of the centres of curved maps.
    """

    source: Cloud
    target: Cloud
    rows: tuple[torch.Tensor, torch.Tensor]
    distances: tuple[torch.Tensor, torch.Tensor]
    seed: int

    @classmethod
    def of(cls, problem: FusedProblem, seed: int) -> CloudProblem:
        """Turn the clouds of a problem to their principal axes."""
        cost = problem.cost
        device = cost.source_factor.device
        clouds = Cloud.of(problem.X, device), Cloud.of(problem.Y, device)
        rows = tuple(torch.as_tensor(side, device=device) for side in problem.rows)
        distances = (cost.source_factor.rows(slice(None)).float(), cost.target_factor.rows(slice(None)).float())
        return cls(*clouds, rows, distances, seed)  # type: ignore[arg-type]

    @property
    def n_smaller(self) -> int:
        """Number of points of the smaller cloud."""
        return min(len(self.source), len(self.target))

    @property
    def device(self) -> torch.device:
        """Where the coordinates and distances lie."""
        return self.source.coordinates.device

    @cached_property
    def _bridge_and_unit(self) -> tuple[torch.Tensor, float]:
        bridge = self._softmin(*self.distances)
        # Near the anchors a softmin is negative; its mean is a unit only while it is positive.
        unit = max(float(bridge.mean(dtype=torch.float64)), 1e-12)
        return bridge.div_(unit), unit

    @property
    def bridge(self) -> torch.Tensor:
        """The softmin bridge cost between all points, float32 (n, m), in units of its mean."""
        return self._bridge_and_unit[0]

    @property
    def bridge_unit(self) -> float:
        """Mean of the bridge cost over all points."""
        return self._bridge_and_unit[1]

    def bridge_between(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the bridge cost between points whose distances to the anchors are given, in the same unit."""
        return self._softmin(source, target) / self.bridge_unit

    @staticmethod
    def _softmin(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        paths = log_product(source.double() / -BRIDGE_EPSILON, target.double() / -BRIDGE_EPSILON)
        return (-BRIDGE_EPSILON * paths).float()

    @cached_property
    def pair_maps(self) -> Maps:
        """Ridge maps of the pairs, one penalty each by exact leave-one-out error."""
        known = [cloud.coordinates[rows] for cloud, rows in zip((self.source, self.target), self.rows, strict=True)]
        return Maps(_pair_ridge(known[0], known[1]), _pair_ridge(known[1], known[0]))

    @cached_property
    def ridge_designs(self) -> tuple[RidgeDesign, RidgeDesign]:
        """Both clouds decomposed for ridge regression on their images."""
        source, target = self.rows
        return RidgeDesign(self.source.coordinates, source), RidgeDesign(self.target.coordinates, target)

    @cached_property
    def kernel_designs(self) -> tuple[KernelDesign, KernelDesign]:
        """Both clouds decomposed for kernel ridge regression on their images."""
        source, target = self.rows
        return (
            KernelDesign(self.source.coordinates, source, self.seed),
            KernelDesign(self.target.coordinates, target, self.seed),
        )


def _pair_ridge(source: torch.Tensor, target: torch.Tensor) -> CloudMap:
    fitted = ridge_map(source.double().cpu().numpy(), target.double().cpu().numpy(), penalty="shared", unit=1.0)
    coef, centre, image_centre = (
        torch.as_tensor(part, device=source.device).to(source) for part in (fitted.coef, fitted.x_mean, fitted.y_mean)
    )
    return AffineMap(coef, centre, image_centre, float(fitted.alpha[0]))


class Family(Protocol):
    """One way to fit the maps M and N, and to measure how far they miss."""

    def start(self) -> Maps:
        """Fit both maps to the pairs."""
        ...

    def refit(self, images: torch.Tensor, origins: torch.Tensor, last: Maps) -> Maps:
        """Fit both maps to the images of all source points and the origins of all target points."""
        ...

    def misses(self, maps: Maps, source: torch.Tensor, target: torch.Tensor) -> list[torch.Tensor]:
        """Measure how far the maps miss between points of both clouds, a matrix a term of the fused cost."""
        ...


class RidgeFamily:
    """Ridge maps; they miss by squared distances in both spaces."""

    def __init__(self, problem: CloudProblem) -> None:
        self.problem = problem

    def start(self) -> Maps:
        """Fit both maps to the pairs."""
        return self.problem.pair_maps

    def refit(self, images: torch.Tensor, origins: torch.Tensor, last: Maps) -> Maps:
        """Fit both maps to images and origins."""
        source, target = self.problem.ridge_designs
        return Maps(source.fit(images), target.fit(origins))

    def misses(self, maps: Maps, source: torch.Tensor, target: torch.Tensor) -> list[torch.Tensor]:
        """Return ``|M x - y|^2`` and ``|x - N y|^2``."""
        return [
            squared_distances(maps.forward(source), target),
            squared_distances(source, maps.backward(target)),
        ]


class KernelFamily(RidgeFamily):
    """Kernel ridge maps, for the curved rounds that follow linear ones."""

    def refit(self, images: torch.Tensor, origins: torch.Tensor, last: Maps) -> Maps:
        """Fit both maps to images and origins."""
        source, target = self.problem.kernel_designs
        return Maps(source.fit(images), target.fit(origins))


class OrthogonalFamily:
    """A rotation between rescaled coordinates; it misses by one minus the cosine there."""

    def __init__(self, problem: CloudProblem, power: float = 0.0, rank: int | None = None) -> None:
        self.problem = problem
        self.design = OrthogonalDesign(
            problem.source.coordinates, problem.target.coordinates, problem.rows, power, rank,
            _ORTHOGONAL_PAIR_WEIGHT, _DAMPING,
        )  # fmt: skip

    def start(self) -> Maps:
        """Fit both maps to the pairs."""
        return Maps(*self.design.start())

    def refit(self, images: torch.Tensor, origins: torch.Tensor, last: Maps) -> Maps:
        """Fit both maps to images and origins."""
        return Maps(*self.design.refit(images, origins, last.covariance))

    def misses(self, maps: Maps, source: torch.Tensor, target: torch.Tensor) -> list[torch.Tensor]:
        """Return ``1 - cos(R u, v)`` of the rescaled coordinates u and v."""
        u, v = self.design.view(source, 0), self.design.view(target, 1)
        assert maps.rotation is not None
        return [cosine_distances(u @ maps.rotation, v)]
