"""The rounds of the fused bridge: solve a plan, refit the maps on its images, and solve again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.cost.in_memory import DenseFactor
from neurobridge.bridge.fused.candidate import Candidate, Readout
from neurobridge.bridge.fused.cost import AnyMap, Blend, FusedCost, FusedProblem, binary_unit, bridge_matrix
from neurobridge.maps.kernel import KernelMap, kernel_map
from neurobridge.points.arrays import row_blocks
from neurobridge.points.display import html_repr, short_repr
from neurobridge.store.kinds import register

#: Which of the candidate ridge penalties each map has, forward and backward; None where it was not searched for.
Penalties = tuple[int | None, int | None]

# A pair is known, an image is a guess: squared errors of pairs count this many times in the curved refit.
_PAIR_WEIGHT = 10.0
_MAX_ITER = 2000
# Scalings beyond exp(+-30) are absorbed into the potentials, long before float32 ends at exp(88).
_ABSORB = 30.0
_REFIT_SHAPE = ((1.0, 0.9),)
_REFIT_ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0)
# The curved refit runs in every round: fewer centres than a map fitted once.
_REFIT_CENTRES = 400


@register("fused-potentials")
class Potentials(NamedTuple):
    """A solved plan ``P_ij = exp(log_u_i - C_ij / eps + log_v_j)``.

    Attributes
    ----------
    log_u, log_v : float64 tensors of shape (n,) and (m,)
    n_iter : int
    marginal_error : float
        L1 error of the row marginal.
    """

    log_u: torch.Tensor
    log_v: torch.Tensor
    n_iter: int
    marginal_error: float

    def __repr__(self) -> str:
        size = f"{len(self.log_u)} x {len(self.log_v)}"
        return short_repr("Potentials", size, n_iter=self.n_iter, marginal_error=self.marginal_error)


def sinkhorn(cost: torch.Tensor, epsilon: float, tol: float, log_v: torch.Tensor | None = None) -> Potentials:
    """Solve entropic transport between uniform marginals by matrix-vector products.

    The kernel ``K_ij = exp(log_u_i - C_ij / eps + log_v_j)`` holds the potentials. It starts from one step in the log domain,
    so that every row and column has mass; scalings that leave a safe range are absorbed into the potentials and K is built
    again (stabilised scaling, Schmitzer 2019).

    Parameters
    ----------
    cost : float32 tensor of shape (n, m)
    epsilon : float
        Entropic temperature, in the unit of the cost.
    tol : float
        L1 error of the row marginal at which the plan is accepted; the column marginal is exact.
    log_v : float64 tensor of shape (m,), optional
        Log scaling to start from.

    Returns
    -------
    Potentials
        Finite also where ``tol`` was not reached within 2,000 iterations.

    References
    ----------
    Schmitzer 2019, *Stabilized sparse scaling algorithms for entropy regularized transport problems*.

    Examples
    --------
    >>> plan = sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 0.1, 1e-6)
    >>> (plan.log_u[:, None] + plan.log_v).shape, plan.marginal_error < 1e-6
    (torch.Size([2, 2]), True)
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


@dataclass(frozen=True, kw_only=True)
class RoundSettings:
    """Settings of the rounds that are the same for every candidate.

    Attributes
    ----------
    tol : float
        Marginal error at which the last plan is accepted.
    tol_before : float
        Marginal error at which the plans before the last are accepted.
    seed : int
        Seed of the centres of the curved map.
    """

    tol: float
    tol_before: float
    seed: int


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Results of another candidate on the same problem, from which the rounds start.

    Attributes
    ----------
    log_v : float64 tensor of shape (m,), optional
        Log scaling that the first plan starts from.
    penalties : tuple of two int, optional
        Ridge penalties, forward and backward, near which the first search looks; by default it tries all.
    """

    log_v: torch.Tensor | None = None
    penalties: Penalties = (None, None)


_COLD = WarmStart()


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
        Indices of their ridge penalties.
    """

    problem: FusedProblem
    blend: Blend
    epsilon: float
    plan: Potentials
    images: np.ndarray
    forward: AnyMap
    backward: AnyMap
    penalties: Penalties = (None, None)

    @property
    def cost(self) -> FusedCost:
        """The fused cost that the plan was solved under."""
        return FusedCost(self.problem, self.blend)

    def barycentric(self, X_new: np.ndarray) -> np.ndarray:
        """Return the mean partner of points, fitted or new, under the plan.

        Parameters
        ----------
        X_new : array of shape (n_new, n_source_dims)

        Returns
        -------
        float64 array of shape (n_new, n_target_dims)
        """
        problem = self.problem
        target = torch.as_tensor(problem.Y, dtype=torch.float64, device=self.plan.log_v.device)
        partners = np.empty((len(X_new), problem.Y.shape[1]))
        for block in row_blocks(len(X_new), len(problem.Y)):
            scores = -self.cost_of_new(X_new[block]).double() / self.epsilon + self.plan.log_v
            partners[block] = (torch.softmax(scores, dim=1) @ target).cpu().numpy()
        return partners

    def cost_of_new(self, X_new: np.ndarray) -> torch.Tensor:
        """Return the fused cost between new points and the target points of the problem, shape (n_new, m)."""
        cost = self.problem.cost
        distances = cost.source.of(torch.as_tensor(X_new))
        factor = DenseFactor(distances, log_weight=cost.source_factor.log_weight)
        bridge = bridge_matrix(replace(cost, source_factor=factor))
        return self.blend(bridge, X_new, self.problem.Y)

    def matrix(self, bridge: torch.Tensor) -> np.ndarray:
        """Write the plan out, float64 of shape (n, m), from the bridge cost of the problem."""
        cost = self.blend(bridge, self.problem.X, self.problem.Y).double()
        return cost.div_(-self.epsilon).add_(self.plan.log_u[:, None]).add_(self.plan.log_v).exp_().cpu().numpy()

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


def solve(
    problem: FusedProblem,
    candidate: Candidate,
    settings: RoundSettings,
    *,
    bridge: torch.Tensor | None = None,
    start: WarmStart = _COLD,
) -> Iterator[State]:
    """Solve the plan and refit the maps, round by round, under the lam and epsilon of a candidate.

    The maps are linear for ``candidate.n_rounds`` rounds; then the forward map is curved for ``candidate.kernel_rounds``.

    Parameters
    ----------
    problem : FusedProblem
    candidate : Candidate
        Its readout is not used.
    settings : RoundSettings
    bridge : float32 tensor of shape (n, m), optional
        The bridge cost of the problem, where it has been written out already.
    start : WarmStart, optional

    Yields
    ------
    State
        After every round.
    """
    bridge = problem.bridge() if bridge is None else bridge
    X, Y, (source_rows, target_rows) = problem.X, problem.Y, problem.rows
    source_design, target_design = problem.designs
    weights = pair_weights(len(X), source_rows)
    forward: AnyMap
    backward: AnyMap
    forward, backward = problem.pair_maps
    images: np.ndarray | None = None
    log_v, penalties = start.log_v, start.penalties
    n_linear, n_all = candidate.n_rounds, candidate.n_rounds + candidate.kernel_rounds
    for number in range(1, n_all + 1):
        if number == n_linear + 1 and images is not None:
            # The images of the last linear round, read through a curved map.
            forward = curved_map(X, images, weights, settings.seed)
        blend, cost = Blend.of(forward, backward, candidate.lam, bridge, problem)
        tol = settings.tol if number == n_all else settings.tol_before
        plan = sinkhorn(cost, candidate.epsilon, tol, log_v)
        log_v = plan.log_v
        images, origins = mean_partners(cost, plan, candidate.epsilon, problem)
        images, origins = pinned(images, source_rows, Y[target_rows]), pinned(origins, target_rows, X[source_rows])
        backward, backward_penalty = target_design.shared(origins, penalties[1])
        if number > n_linear:
            forward, forward_penalty = curved_map(X, images, weights, settings.seed), penalties[0]
        else:
            forward, forward_penalty = source_design.shared(images, penalties[0])
        penalties = forward_penalty, backward_penalty
        yield State(problem, blend, candidate.epsilon, plan, images, forward, backward, penalties)


def predict(states: Sequence[State], forward: AnyMap, readout: Readout, X_new: np.ndarray) -> np.ndarray:
    """Map points by a readout.

    Parameters
    ----------
    states : sequence of State
        Solved on different target points; the barycentric readout is the mean over them.
    forward : LinearMap or KernelMap
        Map of the readouts "linear", "kernel" and "mean".
    readout : {"barycentric", "linear", "kernel", "mean"}
        Which of the predictions is returned, see `Candidate`.
    X_new : array of shape (n_new, n_source_dims)

    Returns
    -------
    float64 array of shape (n_new, n_target_dims)
    """
    if readout in ("linear", "kernel"):
        return forward(X_new)
    partners = np.mean([state.barycentric(X_new) for state in states], axis=0)
    return partners if readout == "barycentric" else (partners + forward(X_new)) / 2


def pair_weights(n_points: int, paired_rows: np.ndarray) -> np.ndarray:
    """Return the weights of the samples of a refit, in which a pair counts ten times as much as an image."""
    weights = np.ones(n_points)
    weights[paired_rows] = _PAIR_WEIGHT
    return weights


def curved_map(X: np.ndarray, images: np.ndarray, weights: np.ndarray, seed: int) -> KernelMap:
    """Fit the kernel map of the curved rounds on images."""
    return kernel_map(
        X, images, weights=weights, shapes=_REFIT_SHAPE, alphas=_REFIT_ALPHAS, n_centres=_REFIT_CENTRES, seed=seed
    )


def mean_partners(
    cost: torch.Tensor, plan: Potentials, epsilon: float, problem: FusedProblem
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean partner of every source point and of every target point; overwrites the cost matrix."""
    weight = cost.div_(-epsilon).add_(plan.log_u.float()[:, None]).add_(plan.log_v.float()).exp_()
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
