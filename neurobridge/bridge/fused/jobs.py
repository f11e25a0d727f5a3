"""The parts of a fused bridge in minibatches that do not depend on each other, as jobs of this process or of workers."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from neurobridge.bridge.fused.cost import AnyMap, FusedCost
from neurobridge.bridge.fused.solving.sinkhorn import Potentials, fine_enough, scaled_sinkhorn
from neurobridge.bridge.fused.states import curved_map, mean_partners, pair_weights
from neurobridge.maps.linear import ridge_map
from neurobridge.points.arrays import Rows


class Solved(NamedTuple):
    """A solved minibatch.

    Attributes
    ----------
    plan : Potentials
    images : array of shape (n, n_target_dims)
        Mean partner of every source point; none where they were not asked for.
    origins : array of shape (m, n_source_dims)
        Mean partner of every target point, likewise.
    """

    plan: Potentials
    images: np.ndarray
    origins: np.ndarray


def minibatch(cost: FusedCost, rows: Rows) -> FusedCost:
    """Cut out the cost of a minibatch: what `solve_minibatch` needs, in the precision of the points, and nothing else."""
    problem = cost.problem
    bridge = problem.cost.subset(*rows).without_points()
    return replace(cost, problem=replace(problem, cost=bridge, X=problem.X[rows[0]], Y=problem.Y[rows[1]]))


def solve_minibatch(cost: FusedCost, epsilon: float, tol: float, with_images: bool) -> Solved:
    """Solve the plan of a minibatch.

    Parameters
    ----------
    cost : FusedCost
        Of `minibatch`, shape (n, m).
    epsilon : float
    tol : float
        Marginal error at which the plan is accepted.
    with_images : bool
        Compute the mean partners.

    Returns
    -------
    Solved
    """
    problem = cost.problem
    X, Y = (side.astype(np.float64, copy=False) for side in (problem.X, problem.Y))
    cost = replace(cost, problem=replace(problem, X=X, Y=Y))
    scaled = fine_enough(cost.rows(slice(None)), tol).div_(-epsilon)
    plan = scaled_sinkhorn(scaled, tol, relax=True)
    if not with_images:
        return Solved(plan, np.empty((0, Y.shape[1])), np.empty((0, X.shape[1])))
    return Solved(plan, *mean_partners(scaled.float(), plan, cost.problem))


def refit(
    points: np.ndarray, images: np.ndarray, paired_rows: np.ndarray, unit: float, seed: int, is_curved: bool
) -> AnyMap:
    """Fit the map of one direction to images: ridge with one penalty, or the kernel map of the curved rounds.

    Parameters
    ----------
    points : array of shape (n, n_dims)
    images : array of shape (n, n_dims of the other space)
        Pairs with their true partners.
    paired_rows : int array
        Points of pairs, which weigh more in a curved map.
    unit : float
        Length that ridge penalties are measured in.
    seed : int
        Of the centres of the curved map.
    is_curved : bool
    """
    if is_curved:
        return curved_map(points, images, pair_weights(len(points), paired_rows), seed)
    return ridge_map(points, images, penalty="shared", unit=unit)
