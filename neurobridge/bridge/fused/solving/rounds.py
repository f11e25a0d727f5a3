"""The rounds of the fused bridge on clouds: solve a plan, refit the maps on its images, and solve again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from neurobridge.bridge.fused.candidate import Candidate, Readout
from neurobridge.bridge.fused.solving.families import (
    CloudProblem,
    Family,
    KernelFamily,
    Maps,
    OrthogonalFamily,
    RidgeFamily,
)
from neurobridge.bridge.fused.solving.sinkhorn import Potentials, sinkhorn

_SMALLEST_UNIT = 1e-12
# Linear rounds end when no image moves any more: by less than this part of the spread of all images.
_SETTLED = 0.02


def family_of(problem: CloudProblem, candidate: Candidate) -> Family:
    """Return the family of a candidate with a plan, on a problem."""
    if candidate.map == "orthogonal":
        return OrthogonalFamily(problem)
    if candidate.map == "whitened":
        return OrthogonalFamily(problem, power=0.5, rank=max(2, len(problem.rows[0]) // 2))
    return RidgeFamily(problem)


@dataclass(frozen=True, eq=False)
class Round:
    """One solved round.

    Attributes
    ----------
    problem : CloudProblem
    family : Family
        How the maps of the cost miss.
    lam, epsilon : float
    cost_maps : Maps
        The maps in the cost that was solved.
    units : tuple of float
        Mean miss of each term over all points.
    plan : Potentials
    maps : Maps
        Refitted on the images of this plan.
    images, origins : float32 tensors of shape (n, target rank) and (m, source rank)
        Mean partner of every point; the true partner for points of pairs.
    counts : tuple of two int
        Rounds so far, linear and curved. Where the linear ones have settled, all that were asked for.
    """

    problem: CloudProblem
    family: Family
    lam: float
    epsilon: float
    cost_maps: Maps
    units: tuple[float, ...]
    plan: Potentials
    maps: Maps
    images: torch.Tensor
    origins: torch.Tensor
    counts: tuple[int, int]

    def cost(self, source: torch.Tensor, target: torch.Tensor, bridge: torch.Tensor) -> torch.Tensor:
        """Return the fused cost of this round between points whose bridge cost is given."""
        return blended(self.family, self.cost_maps, self.units, self.lam, source, target, bridge)

    def partners(self, new: torch.Tensor, distances: torch.Tensor, *, backward: bool) -> torch.Tensor:
        """Return the mean partner of new points of a side under the plan.

        Parameters
        ----------
        new : tensor of shape (n_new, rank)
            Coordinates of source points, or of target points where ``backward``.
        distances : tensor of shape (n_new, n_pairs)
            To the anchors of their side.
        """
        problem = self.problem
        if backward:
            bridge = problem.bridge_between(problem.distances[0], distances)
            cost = self.cost(problem.source.coordinates, new, bridge).T
            return torch.softmax(cost / -self.epsilon + self.plan.log_u.to(cost), dim=1) @ problem.source.coordinates
        bridge = problem.bridge_between(distances, problem.distances[1])
        cost = self.cost(new, problem.target.coordinates, bridge)
        return torch.softmax(cost / -self.epsilon + self.plan.log_v.to(cost), dim=1) @ problem.target.coordinates

    def predictions(self, new: torch.Tensor, distances: torch.Tensor, *, backward: bool) -> dict[Readout, torch.Tensor]:
        """Return the predictions of all three readouts for new points; that of the maps is called "linear"."""
        mapped = (self.maps.backward if backward else self.maps.forward)(new)
        partners = self.partners(new, distances, backward=backward)
        return _readouts(partners, mapped)

    def mean_predictions(self, *, backward: bool) -> dict[Readout, torch.Tensor]:
        """Return the mean of the predictions for the points of a side, shape (rank,); marginals of the plan are uniform."""
        here, there, mapping = self.problem.source, self.problem.target, self.maps.forward
        if backward:
            here, there, mapping = there, here, self.maps.backward
        return _readouts(there.coordinates.mean(dim=0), mapping.mean_over(here.coordinates))


def _readouts(partners: torch.Tensor, mapped: torch.Tensor) -> dict[Readout, torch.Tensor]:
    return {"barycentric": partners, "linear": mapped, "mean": (partners + mapped) / 2}


def blended(
    family: Family,
    maps: Maps,
    units: tuple[float, ...],
    lam: float,
    source: torch.Tensor,
    target: torch.Tensor,
    bridge: torch.Tensor,
) -> torch.Tensor:
    """Blend the bridge cost with the misses of the maps, each in its unit."""
    total = bridge * (1 - lam)
    for term, unit in zip(family.misses(maps, source, target), units, strict=True):
        total.add_(term, alpha=lam / (len(units) * unit))
    return total


def solve_rounds(
    problem: CloudProblem,
    candidate: Candidate,
    tol: float,
    tol_before: float,
    *,
    log_v: torch.Tensor | None = None,
) -> Iterator[Round]:
    """Solve the plan and refit the maps, round by round, under the settings of a candidate.

    The maps are those of the candidate's family for ``n_rounds`` rounds, or until the images have settled; then both are curved
    for ``kernel_rounds``.

    Parameters
    ----------
    problem : CloudProblem
    candidate : Candidate
        Its readout is not used.
    tol, tol_before : float
        L1 marginal errors of the last plan, and of the plans before it.
    log_v : tensor of shape (m,), optional
        Log scaling that the first plan starts from.

    Yields
    ------
    Round
    """
    X, Y, (i, j) = problem.source.coordinates, problem.target.coordinates, problem.rows
    family = family_of(problem, candidate)
    maps, lam, n_all = family.start(), candidate.lam, candidate.n_rounds + candidate.kernel_rounds
    known = Known(i, Y[j], len(X)), Known(j, X[i], len(Y))
    images = origins = torch.empty(0)
    number = 0
    while number < n_all:
        number += 1
        if number == candidate.n_rounds + 1:
            family = KernelFamily(problem)
            # The images of the last linear round, read through curved maps.
            maps = family.refit(images, origins, maps)
        misses = family.misses(maps, X, Y)
        units = tuple(max(float(miss.mean(dtype=torch.float64)), _SMALLEST_UNIT) for miss in misses)
        cost = misses[0].mul_(lam / (len(units) * units[0]))
        for miss, unit in zip(misses[1:], units[1:], strict=True):
            cost.add_(miss, alpha=lam / (len(units) * unit))
        if lam < 1:
            cost.add_(problem.bridge, alpha=1 - lam)
        plan = sinkhorn(cost, candidate.epsilon, tol if number == n_all else tol_before, log_v)
        log_v = plan.log_v
        weight = cost.div_(-candidate.epsilon).add_(plan.log_u.to(cost)[:, None]).add_(plan.log_v.to(cost)).exp_()
        last = images
        images = known[0].pin((weight @ Y) / weight.sum(dim=1, keepdim=True))
        origins = known[1].pin((weight.T @ X) / weight.sum(dim=0)[:, None])
        refitted = family.refit(images, origins, maps)
        if 1 < number < candidate.n_rounds and _moved(last, images) < _SETTLED:
            # The last plan of all is solved to its own tolerance.
            accurate = candidate.kernel_rounds or plan.marginal_error <= tol
            number = candidate.n_rounds if accurate else candidate.n_rounds - 1
        counts = min(number, candidate.n_rounds), max(0, number - candidate.n_rounds)
        yield Round(problem, family, lam, candidate.epsilon, maps, units, plan, refitted, images, origins, counts)
        maps = refitted


def linear_rounds(rounds: Iterator[Round], n_rounds: int) -> Iterator[Round]:
    """Go through the linear rounds of `solve_rounds`, of ``n_rounds`` at most; the curved ones can be asked for afterwards."""
    for state in rounds:
        yield state
        if state.counts[0] == n_rounds:
            return


def _moved(last: torch.Tensor, images: torch.Tensor) -> float:
    """Root mean square step of the images, in units of their spread."""
    spread = (images - images.mean(dim=0)).square().sum()
    return float(((images - last).square().sum() / spread.clamp(min=torch.finfo(images.dtype).tiny)).sqrt())


class Known:
    """The true partners of the points of pairs; the mean of several where a point is in several pairs."""

    def __init__(self, rows: torch.Tensor, partners: torch.Tensor, n_points: int) -> None:
        self.rows, place = torch.unique(rows, return_inverse=True)
        total = torch.zeros((len(self.rows), partners.shape[1]), dtype=partners.dtype, device=partners.device)
        total.index_add_(0, place, partners)
        self.partners = total / torch.bincount(place, minlength=len(self.rows))[:, None]

    def pin(self, images: torch.Tensor) -> torch.Tensor:
        """Replace the images of these points by their partners; overwrites the images."""
        images[self.rows] = self.partners
        return images
