"""Solved rounds as they are kept: what maps points under a plan, in the units of the points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from neurobridge.bridge.cost.in_memory import DenseFactor
from neurobridge.bridge.fused.cost import AnyMap, Blend, FusedCost, FusedProblem, binary_unit, bridge_matrix
from neurobridge.bridge.fused.solving.clouds import Cloud
from neurobridge.bridge.fused.solving.designs import (
    KERNEL_ALPHAS,
    KERNEL_CENTRES,
    KERNEL_MIX,
    KERNEL_PAIR_WEIGHT,
    AffineMap,
    CloudMap,
    CurvedMap,
    RidgeFit,
)
from neurobridge.bridge.fused.solving.families import OrthogonalFamily
from neurobridge.bridge.fused.solving.rounds import Round
from neurobridge.bridge.fused.solving.sinkhorn import Potentials
from neurobridge.maps.kernel import KernelMap, kernel_map
from neurobridge.maps.linear import LinearMap
from neurobridge.points.arrays import row_blocks
from neurobridge.points.display import html_repr, short_repr
from neurobridge.store.kinds import register

#: Which of the candidate ridge penalties each map has, forward and backward; None where it was not searched for.
Penalties = tuple[int | None, int | None]


@register("fused-round")
@dataclass(frozen=True, eq=False, repr=False)
class State:
    """One solved round: the cost it was solved under, the plan's potentials, and the maps refitted after it.

    Attributes
    ----------
    problem : FusedProblem
    blend : Blend
        The fused cost of this round.
    epsilon : float
        Entropic temperature, as a fraction of the mean fused cost.
    plan : Potentials
    images : array of shape (n, n_target_dims)
        Mean partner of every source point under the plan; the true partner for points of pairs.
    forward, backward : LinearMap or KernelMap
        Maps refitted on the images of this round.
    penalties : tuple of two int or None
        Indices of their ridge penalties in files of earlier versions; they are read, and not used.
    """

    problem: FusedProblem
    blend: Blend
    epsilon: float
    plan: Potentials
    images: np.ndarray
    forward: AnyMap
    backward: AnyMap
    penalties: Penalties = (None, None)

    @classmethod
    def of_round(cls, state: Round, problem: FusedProblem) -> State:
        """Write a round on clouds out in the units of the points of its problem."""
        source, target = state.problem.source, state.problem.target
        maps, units, views = state.cost_maps, state.units, None
        if isinstance(state.family, OrthogonalFamily):
            views = _views(state)
            units = units[0], units[0]
        else:
            units = units[0] * target.unit**2, units[1] * source.unit**2
        blend = Blend(
            points_map(maps.forward, source, target),
            points_map(maps.backward, target, source),
            state.lam,
            (state.problem.bridge_unit, *units),
            views,
        )
        images = target.points_of(state.images)
        forward, backward = (
            points_map(state.maps.forward, source, target),
            points_map(state.maps.backward, target, source),
        )
        return cls(problem, blend, state.epsilon, state.plan, images, forward, backward)

    @property
    def cost(self) -> FusedCost:
        """The fused cost that the plan was solved under."""
        return FusedCost(self.problem, self.blend)

    def barycentric(self, X_new: np.ndarray, distances: torch.Tensor | None = None) -> np.ndarray:
        """Return the mean partner of points, fitted or new, under the plan.

        Parameters
        ----------
        X_new : array of shape (n_new, n_source_dims)
        distances : tensor of shape (n_new, n_pairs), optional
            Of these points to the anchors of the source space, where they are known.

        Returns
        -------
        float64 array of shape (n_new, n_target_dims)
        """
        problem = self.problem
        target = torch.as_tensor(problem.Y, dtype=torch.float64, device=self.plan.log_v.device)
        partners = np.empty((len(X_new), problem.Y.shape[1]))
        for block in row_blocks(len(X_new), len(problem.Y)):
            near = None if distances is None else distances[block]
            scores = -self.cost_of_new(X_new[block], near).double() / self.epsilon + self.plan.log_v
            partners[block] = (torch.softmax(scores, dim=1) @ target).cpu().numpy()
        return partners

    def origins(self, Y_new: np.ndarray, distances: torch.Tensor | None = None) -> np.ndarray:
        """Return the mean source partner of target points, fitted or new, under the plan.

        Parameters
        ----------
        Y_new : array of shape (n_new, n_target_dims)
        distances : tensor of shape (n_new, n_pairs), optional
            Of these points to the anchors of the target space, where they are known.

        Returns
        -------
        float64 array of shape (n_new, n_source_dims)
        """
        problem, cost = self.problem, self.problem.cost
        source = torch.as_tensor(problem.X, dtype=torch.float64, device=self.plan.log_u.device)
        partners = np.empty((len(Y_new), problem.X.shape[1]))
        for block in row_blocks(len(Y_new), len(problem.X)):
            new = Y_new[block]
            near = cost.target.of(torch.as_tensor(new)) if distances is None else distances[block]
            factor = DenseFactor(near, log_weight=cost.target_factor.log_weight)
            bridge = bridge_matrix(replace(cost, target_factor=factor))
            scores = -self.blend(bridge, problem.X, new).T.double() / self.epsilon + self.plan.log_u
            partners[block] = (torch.softmax(scores, dim=1) @ source).cpu().numpy()
        return partners

    def cost_of_new(self, X_new: np.ndarray, distances: torch.Tensor | None = None) -> torch.Tensor:
        """Return the fused cost between new points and the target points of the problem, shape (n_new, m)."""
        cost = self.problem.cost
        distances = cost.source.of(torch.as_tensor(X_new)) if distances is None else distances
        factor = DenseFactor(distances, log_weight=cost.source_factor.log_weight)
        bridge = bridge_matrix(replace(cost, source_factor=factor))
        return self.blend(bridge, X_new, self.problem.Y)

    def matrix(self, bridge: torch.Tensor) -> np.ndarray:
        """Write the plan out, float64 of shape (n, m), from the bridge cost of the problem."""
        cost = self.blend(bridge, self.problem.X, self.problem.Y).double()
        return cost.div_(-self.epsilon).add_(self.plan.log_u[:, None]).add_(self.plan.log_v).exp_().cpu().numpy()

    def without_distances(self) -> State:
        """Return the state as it is kept where no new point is measured: without what measures one."""
        return replace(self, problem=replace(self.problem, cost=self.problem.cost.without_points()))

    def __repr__(self) -> str:
        maps = f"{type(self.forward).__name__} forward", f"{type(self.backward).__name__} backward"
        return short_repr("State", repr(self.problem), repr(self.plan), *maps, lam=self.blend.lam, epsilon=self.epsilon)

    def _repr_html_(self) -> str:
        facts = {
            "problem": repr(self.problem),
            "lam": self.blend.lam,
            "epsilon": self.epsilon,
            "iterations": self.plan.n_iter,
            "marginal error": self.plan.marginal_error,
            "forward map": type(self.forward).__name__,
            "backward map": type(self.backward).__name__,
        }
        return html_repr("State", facts)


def points_map(mapping: CloudMap, source: Cloud, target: Cloud) -> AnyMap:
    """Write a map between clouds out as one between points."""
    if isinstance(mapping, CurvedMap):
        design, readout = mapping.design, mapping.readout
        coef = readout.coef.double().cpu().numpy()
        whiten = design.whiten.double().cpu().numpy()
        n_curved = whiten.shape[1]
        middle, offset = (part.double().cpu().numpy() for part in (readout.centre, readout.image_centre))
        return KernelMap(
            source.points_of(design.centres),
            target.directions_of(whiten @ coef[:n_curved]),
            source.axes @ target.directions_of(design.linear * coef[n_curved:]) / source.unit,
            source.points_of(design.x_centre[None])[0],
            target.centre + target.directions_of(offset - middle @ coef),
            design.width * source.unit, mapping.mix, mapping.alpha, mapping.error * target.unit**2,
        )  # fmt: skip
    if isinstance(mapping, RidgeFit):
        mapping = mapping.affine
    assert isinstance(mapping, AffineMap)
    coef = source.axes @ target.directions_of(mapping.coef.double().cpu().numpy()) / source.unit
    centre, image_centre = source.points_of(mapping.centre[None])[0], target.points_of(mapping.image_centre[None])[0]
    return LinearMap(coef, centre, image_centre, np.full(len(image_centre), mapping.alpha))


def _views(state: Round) -> tuple[LinearMap, LinearMap]:
    """The maps from points to the coordinates in which a rotation misses by the cosine."""
    family, rotation = state.family, state.cost_maps.rotation
    assert isinstance(family, OrthogonalFamily)
    assert rotation is not None
    views = []
    for side, cloud in enumerate((state.problem.source, state.problem.target)):
        scale = family.design.scales[side].double().cpu().numpy()
        coef = cloud.axes[:, : len(scale)] * scale / cloud.unit
        coef = coef @ rotation.double().cpu().numpy() if side == 0 else coef
        centre = cloud.points_of(family.design.centres[side][None])[0]
        views.append(LinearMap(coef, centre, np.zeros(coef.shape[1]), np.zeros(coef.shape[1])))
    return views[0], views[1]


def pair_weights(n_points: int, paired_rows: np.ndarray) -> np.ndarray:
    """Return the weights of the samples of a refit, in which a pair counts ten times as much as an image."""
    weights = np.ones(n_points)
    weights[paired_rows] = KERNEL_PAIR_WEIGHT
    return weights


def curved_map(X: np.ndarray, images: np.ndarray, weights: np.ndarray, seed: int) -> KernelMap:
    """Fit the kernel map of the curved rounds on images."""
    return kernel_map(
        X,
        images,
        weights=weights,
        shapes=((1.0, KERNEL_MIX),),
        alphas=KERNEL_ALPHAS,
        n_centres=KERNEL_CENTRES,
        seed=seed,
    )


def mean_partners(scaled: torch.Tensor, plan: Potentials, problem: FusedProblem) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean partner of every source point and of every target point; overwrites ``scaled``, ``-C / epsilon``."""
    weight = scaled.add_(plan.log_u.float()[:, None]).add_(plan.log_v.float()).exp_()
    return (
        _mean_partner(weight, problem.Y, binary_unit(problem.units[1])),
        _mean_partner(weight.T, problem.X, binary_unit(problem.units[0])),
    )


def _mean_partner(weight: torch.Tensor, points: np.ndarray, power: float) -> np.ndarray:
    single = torch.as_tensor(points / power, device=weight.device).float()
    return ((weight @ single) / weight.sum(dim=1, keepdim=True)).double().cpu().numpy() * power


def pinned(images: np.ndarray, rows: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """Replace the images of paired points by their true partner, or by the mean of several; overwrites the images."""
    paired, place = np.unique(rows, return_inverse=True)
    total = np.zeros((len(paired), partners.shape[1]))
    np.add.at(total, place, partners)
    images[paired] = total / np.bincount(place)[:, None]
    return images
