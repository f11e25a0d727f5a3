"""Minibatches of a fused bridge: both sides dealt out along the factored plan of the bridge cost."""

from __future__ import annotations

import math
import warnings
from typing import cast

import numpy as np
import torch

from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.bridge.fused.cost import BRIDGE_EPSILON, FusedProblem
from neurobridge.bridge.transport.couple import couple
from neurobridge.bridge.transport.coupling import ConvergenceWarning
from neurobridge.bridge.transport.plans import FactoredPlan
from neurobridge.points.arrays import Rows, row_blocks

# A coarse plan that is a hundredth off still balances the minibatches.
_COARSE_TOL = 1e-2
# Points of each side that the masses of the anchors are found on, at most.
_COARSE_POINTS = 100_000


def deal(problem: FusedProblem, size: int, rng: np.random.Generator) -> list[Rows]:
    """Cut both sides into minibatches of at most ``size`` points, drawn along the factored plan of the bridge cost.

    Every point draws an anchor from the coarse plan, whose two sides send the same mass over each anchor; then the points of
    each anchor are dealt out evenly. So every minibatch holds its share of each anchor on both sides, up to a point. The first
    holds all pairs. A side that fits into ``size`` is not cut; if one side is cut finer than the other, parts of the other are
    used again.

    Parameters
    ----------
    problem : FusedProblem
    size : int
        Most points a side, at least twice the pairs.
    rng : numpy.random.Generator

    Returns
    -------
    list of tuples of two int arrays
        Sorted source rows and target rows.
    """
    n, m = len(problem.X), len(problem.Y)
    fewer = math.ceil(min(n, m) / size)
    most = fewer * math.ceil(max(n, m) / (size * fewer))
    counts = (fewer, most) if n <= m else (most, fewer)
    strata = draw_anchors(problem, rng)
    source_parts, target_parts = (
        _dealt(stratum, np.unique(paired), count, rng)
        for stratum, paired, count in zip(strata, problem.rows, counts, strict=True)
    )
    return [(source_parts[k % counts[0]], target_parts[k % counts[1]]) for k in range(most)]


def draw_anchors(problem: FusedProblem, rng: np.random.Generator) -> Rows:
    """Draw an anchor for every source and every target point from the factored plan of the bridge cost alone."""
    cost = problem.cost
    drawn = []
    for factor, mass in zip((cost.source_factor, cost.target_factor), anchor_masses(cost, rng), strict=True):
        anchors = np.empty(factor.n_points, dtype=np.int64)
        for rows in row_blocks(factor.n_points, factor.n_anchors, budget=1 << 22):
            cumulative = torch.softmax(factor.log_kernel(rows, BRIDGE_EPSILON) + mass, dim=1).cumsum(dim=1)
            level = torch.as_tensor(rng.random(len(cumulative)), device=cumulative.device)
            columns = torch.searchsorted(cumulative, level[:, None] * cumulative[:, -1:], right=True)[:, 0]
            anchors[rows] = columns.clamp(max=factor.n_anchors - 1).cpu().numpy()
        drawn.append(anchors)
    return drawn[0], drawn[1]


def anchor_masses(cost: BridgeCost, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``log s`` and ``log r`` of the factored plan, shape (n_anchors,), up to a constant.

    Above `_COARSE_POINTS` points a side, s is that of a plan of so many points, and r that of all source points scaled to their
    mass by it.
    """
    if max(cost.shape) > _COARSE_POINTS:
        masses = _masses_of_some(cost, rng)
        if masses is not None:
            return masses
    plan = _coarse_plan(cost)
    return plan.log_s, plan.log_r


def _masses_of_some(cost: BridgeCost, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the masses from some of the points; None if they have no plan along the anchors that each of them keeps."""
    subset_rows = [np.sort(rng.permutation(n)[:_COARSE_POINTS]) for n in cost.shape]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            log_s = _coarse_plan(cost.subset(*subset_rows)).log_s
    except (ConvergenceWarning, FloatingPointError):
        return None
    factor = cost.source_factor
    log_r = factor.to_anchors(-factor.to_points(log_s, BRIDGE_EPSILON), BRIDGE_EPSILON)
    return (log_s, log_r) if bool(torch.isfinite(log_s).all() and torch.isfinite(log_r).all()) else None


def _coarse_plan(cost: BridgeCost) -> FactoredPlan:
    return cast(FactoredPlan, couple(cost, method="factored", epsilon=BRIDGE_EPSILON, tol=_COARSE_TOL).plan)


def _dealt(stratum: np.ndarray, first: np.ndarray, n_parts: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows in equal parts, each with its share of every stratum; the rows of ``first`` in the first part."""
    n = len(stratum)
    sizes = [len(part) for part in np.array_split(np.arange(n), n_parts)]
    sizes[0] -= len(first)
    others = np.setdiff1d(np.arange(n), first)
    order = others[np.lexsort((rng.random(len(others)), stratum[others]))]
    # Every part has its seats evenly along the order.
    seats = np.concatenate([(np.arange(size) + rng.random(size)) / size for size in sizes])
    owner = np.repeat(np.arange(n_parts), sizes)[np.argsort(seats, kind="stable")]
    parts = [order[owner == k] for k in range(n_parts)]
    parts[0] = np.concatenate([first, parts[0]])
    return [np.sort(part) for part in parts]
