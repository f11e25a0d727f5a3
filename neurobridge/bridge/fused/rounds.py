"""The inside of the fused bridge: solve a plan, refit the maps on its images, solve again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.bridge.cost.in_memory import DenseFactor
from neurobridge.maps.kernel import KernelMap, kernel_map
from neurobridge.maps.linear import LinearMap, RidgeDesign, ridge_map
from neurobridge.points.arrays import Rows, row_blocks

#: Which of the candidate ridge penalties each map has, forward and backward; None where it was not searched for.
Penalties = tuple[int | None, int | None]

# Temperature of the softmin over bridges; the transport has its own epsilon, in units of the mean fused cost.
BRIDGE_EPSILON = 0.05
# A pair is known, an image is a guess: squared errors of pairs count this many times in the curved refit.
PAIR_WEIGHT = 10.0
_MAX_ITER = 2000
# Scalings beyond exp(+-30) are absorbed into the potentials, long before float32 ends at exp(88).
_ABSORB = 30.0
_REFIT_SHAPE = ((1.0, 0.9),)
_REFIT_ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0)
# The curved refit runs in every round: fewer centres than a map fitted once.
_REFIT_CENTRES = 400


class Potentials(NamedTuple):
    """A solved plan ``exp(log_u_i - C_ij / eps + log_v_j)``, float64."""

    log_u: torch.Tensor
    log_v: torch.Tensor
    n_iter: int
    marginal_error: float


def sinkhorn(cost: torch.Tensor, epsilon: float, tol: float, log_v: torch.Tensor | None = None) -> Potentials:
    """Entropic transport between uniform marginals: matrix-vector products on a kernel that holds the potentials.

    ``K_ij = exp(log_u_i - C_ij / eps + log_v_j)`` starts from one step in the log domain, so that every row and column has mass;
    scalings that leave a safe range are absorbed into the potentials and K is built again (Schmitzer 2019, stabilised scaling).

    Parameters
    ----------
    cost : float32 tensor of shape (n, m)
    epsilon : float
    tol : float
        L1 error of the row marginal; columns are exact.
    log_v : float64 tensor of shape (m,), optional
        Where to start.
    """
    n, m = cost.shape
    a, b = 1.0 / n, 1.0 / m
    log_v = torch.full((m,), math.log(b), dtype=torch.float64, device=cost.device) if log_v is None else log_v
    log_u = torch.zeros(n, dtype=torch.float64, device=cost.device)
    # float32 sums of some thousand terms are right to about 1e-6.
    scaled = (cost.double() if tol < 1e-5 else cost) / -epsilon
    n_iter, error = 0, math.inf
    while n_iter < _MAX_ITER:
        log_u = math.log(a) - torch.logsumexp(scaled + log_v.to(scaled), dim=1).double()
        log_v = math.log(b) - torch.logsumexp(scaled + log_u.to(scaled)[:, None], dim=0).double()
        kernel = (scaled + log_u.to(scaled)[:, None]).add_(log_v.to(scaled)).exp_()
        u, v = torch.ones_like(kernel[:, 0]), torch.ones_like(kernel[0])
        while n_iter < _MAX_ITER:
            rows = kernel @ v
            error = float((u * rows - a).abs().sum(dtype=torch.float64))
            if error <= tol:
                break
            new_u = a / rows
            new_v = b / (new_u @ kernel)
            n_iter += 1
            peak = max(float(new_u.log().abs().max()), float(new_v.log().abs().max()))
            if not peak <= _ABSORB:
                break
            u, v = new_u, new_v
        log_u, log_v = log_u + u.double().log(), log_v + v.double().log()
        if error <= tol:
            break
    return Potentials(log_u, log_v, n_iter + 1, error)


@dataclass(frozen=True, eq=False)
class Problem:
    """What a fused bridge is fitted to.

    Attributes
    ----------
    cost : BridgeCost
        Between the points below.
    X, Y : float64 arrays of shape (n, n_source_dims) and (m, n_target_dims)
    rows : tuple of int arrays
        The pairs among the points.
    """

    cost: BridgeCost
    X: np.ndarray
    Y: np.ndarray
    rows: Rows

    def subset(self, left: np.ndarray, right: np.ndarray) -> Problem:
        """The problem of some points (sorted rows, all pairs among them); distances stay those measured among all."""
        rows = np.searchsorted(left, self.rows[0]), np.searchsorted(right, self.rows[1])
        return Problem(self.cost.subset(left, right), self.X[left], self.Y[right], rows)

    @cached_property
    def designs(self) -> tuple[RidgeDesign, RidgeDesign]:
        """Both sides decomposed for ridge regression, whatever the plan."""
        return RidgeDesign(self.X), RidgeDesign(self.Y)

    @cached_property
    def pair_maps(self) -> tuple[LinearMap, LinearMap]:
        """Ridge maps of the pairs, forward and backward."""
        ends = self.X[self.rows[0]], self.Y[self.rows[1]]
        return ridge_map(*ends, penalty="shared"), ridge_map(*ends[::-1], penalty="shared")

    def bridge(self) -> torch.Tensor:
        """The softmin bridge cost, float32 tensor of shape (n, m)."""
        return bridge_matrix(self.cost)


def bridge_matrix(cost: BridgeCost) -> torch.Tensor:
    """Write the softmin bridge cost out, float32, where the distances lie."""
    return cost.at(BRIDGE_EPSILON).rows(slice(None)).float()


@dataclass(frozen=True, eq=False)
class Blend:
    """The fused cost of one round, for any points.

    ``C_fused = (1 - lam) C / mean C + lam/2 |M x - y|^2 / mean |M x - y|^2 + lam/2 |x - N y|^2 / mean |x - N y|^2``
    """

    forward: LinearMap | KernelMap
    backward: LinearMap | KernelMap
    lam: float
    units: tuple[float, float, float]

    @classmethod
    def of(
        cls,
        forward: LinearMap | KernelMap,
        backward: LinearMap | KernelMap,
        lam: float,
        bridge: torch.Tensor,
        problem: Problem,
    ) -> tuple[Blend, torch.Tensor]:
        """The blend whose three terms have mean one on a problem, and the cost there."""
        there, back = _residuals(forward, backward, problem.X, problem.Y, bridge.device)
        units = _positive(bridge), _positive(there), _positive(back)
        blend = cls(forward, backward, lam, units)
        return blend, blend._sum(bridge, there, back)

    def __call__(self, bridge: torch.Tensor, X: np.ndarray, Y: np.ndarray) -> torch.Tensor:
        """Fused cost between points X and Y whose bridge cost is given, shape (n, m)."""
        return self._sum(bridge, *_residuals(self.forward, self.backward, X, Y, bridge.device))

    def _sum(self, bridge: torch.Tensor, there: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
        out = bridge * ((1 - self.lam) / self.units[0])
        return out.add_(there, alpha=self.lam / 2 / self.units[1]).add_(back, alpha=self.lam / 2 / self.units[2])


def _residuals(
    forward: LinearMap | KernelMap, backward: LinearMap | KernelMap, X: np.ndarray, Y: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    return _squares(forward(X), Y, device), _squares(X, backward(Y), device)


def _squares(A: np.ndarray, B: np.ndarray, device: torch.device) -> torch.Tensor:
    # Centred before rounding to float32: a common offset would eat the digits of the differences.
    centre = B.mean(axis=0)
    left, right = (torch.as_tensor(side - centre, device=device).float() for side in (A, B))
    product = torch.addmm((right**2).sum(dim=1)[None, :], left, right.T, alpha=-2)
    return product.add_((left**2).sum(dim=1)[:, None]).clamp_(min=0)


def _positive(matrix: torch.Tensor) -> float:
    # A softmin cost is negative near the anchors; its mean is its unit only while it is positive.
    return max(float(matrix.mean(dtype=torch.float64)), 1e-12)


@dataclass(frozen=True, eq=False)
class State:
    """One solved round: the cost it was solved under, the plan's potentials, and the maps refitted after it."""

    problem: Problem
    blend: Blend
    epsilon: float
    plan: Potentials
    images: np.ndarray
    forward: LinearMap | KernelMap
    backward: LinearMap | KernelMap
    penalties: Penalties = (None, None)

    def barycentric(self, X_new: np.ndarray) -> np.ndarray:
        """Mean partner of points, fitted or new, under the plan."""
        problem = self.problem
        target = torch.as_tensor(problem.Y, dtype=torch.float64, device=self.plan.log_v.device)
        out = np.empty((len(X_new), problem.Y.shape[1]))
        for block in row_blocks(len(X_new), len(problem.Y)):
            scores = -self.cost_of_new(X_new[block]).double() / self.epsilon + self.plan.log_v
            out[block] = (torch.softmax(scores, dim=1) @ target).cpu().numpy()
        return out

    def cost_of_new(self, X_new: np.ndarray) -> torch.Tensor:
        """Fused cost between new points and the target points of the problem, shape (n_new, m)."""
        cost = self.problem.cost
        distances = cost.source.of(torch.as_tensor(X_new))
        factor = DenseFactor(distances, log_weight=cost.source_factor.log_weight)
        moved = replace(cost, source_factor=factor)
        return self.blend(bridge_matrix(moved), X_new, self.problem.Y)

    def matrix(self, bridge: torch.Tensor) -> np.ndarray:
        """The plan written out, (n, m) float64."""
        cost = self.blend(bridge, self.problem.X, self.problem.Y).double()
        return cost.div_(-self.epsilon).add_(self.plan.log_u[:, None]).add_(self.plan.log_v).exp_().cpu().numpy()


def solve(
    problem: Problem,
    bridge: torch.Tensor,
    lam: float,
    epsilon: float,
    n_rounds: int,
    kernel_rounds: int,
    tols: tuple[float, float],
    seed: int,
    log_v: torch.Tensor | None = None,
    penalties: Penalties = (None, None),
) -> Iterator[State]:
    """Solve and refit: ``n_rounds`` times with linear maps, then ``kernel_rounds`` times with a curved forward map.

    Parameters
    ----------
    problem : Problem
    bridge : tensor of shape (n, m)
        Its bridge cost.
    lam, epsilon : float
    n_rounds, kernel_rounds : int
    tols : tuple of two float
        Marginal error of the plans on the way, and of the last.
    seed : int
        Of the centres of the curved map.
    log_v : float64 tensor of shape (m,), optional
        Where the first plan starts.
    penalties : tuple of two int, optional
        Where the search for the ridge penalties of both maps starts; all are tried at first by default.
    """
    X, Y, (i, j) = problem.X, problem.Y, problem.rows
    weights = pair_weights(len(X), i)
    points_x, points_y = (torch.as_tensor(side, device=bridge.device).float() for side in (X, Y))
    forward: LinearMap | KernelMap
    backward: LinearMap | KernelMap
    forward, backward = problem.pair_maps
    images: np.ndarray | None = None
    total = n_rounds + kernel_rounds
    designs = problem.designs
    for count in range(1, total + 1):
        if count == n_rounds + 1 and images is not None:
            # The images of the last linear round, read through a curved map.
            forward = curved(X, images, weights, seed)
        blend, cost = Blend.of(forward, backward, lam, bridge, problem)
        plan = sinkhorn(cost, epsilon, tols[count == total], log_v)
        log_v = plan.log_v
        there, back = mean_partners(cost, plan, epsilon, points_x, points_y)
        images, origins = pinned(there, i, Y[j]), pinned(back, j, X[i])
        backward, last = designs[1].shared(origins, penalties[1])
        if count > n_rounds:
            forward, penalties = curved(X, images, weights, seed), (penalties[0], last)
        else:
            forward, first = designs[0].shared(images, penalties[0])
            penalties = first, last
        yield State(problem, blend, epsilon, plan, images, forward, backward, penalties)


def pair_weights(n: int, paired: np.ndarray) -> np.ndarray:
    """Weights of the samples of a refit: a pair counts more than an image."""
    weights = np.ones(n)
    weights[paired] = PAIR_WEIGHT
    return weights


def curved(X: np.ndarray, images: np.ndarray, weights: np.ndarray, seed: int) -> KernelMap:
    """Refit the kernel map on the images."""
    return kernel_map(
        X, images, weights=weights, shapes=_REFIT_SHAPE, alphas=_REFIT_ALPHAS, n_centres=_REFIT_CENTRES, seed=seed
    )


def mean_partners(
    cost: torch.Tensor, plan: Potentials, epsilon: float, points_x: torch.Tensor, points_y: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Mean partner of every source point and of every target point; the cost matrix is used up."""
    weight = cost.div_(-epsilon).add_(plan.log_u.float()[:, None]).add_(plan.log_v.float()).exp_()
    return _mean_partner(weight, points_y), _mean_partner(weight.T, points_x)


def _mean_partner(weight: torch.Tensor, points: torch.Tensor) -> np.ndarray:
    return ((weight @ points) / weight.sum(dim=1, keepdim=True)).double().cpu().numpy()


def pinned(images: np.ndarray, rows: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """Give the points of pairs their true partner; the mean of them, if they have several."""
    known, place = np.unique(rows, return_inverse=True)
    total = np.zeros((len(known), partners.shape[1]))
    np.add.at(total, place, partners)
    images[known] = total / np.bincount(place)[:, None]
    return images
