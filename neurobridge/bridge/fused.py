"""The fused bridge: geometry where it helps, the linear map of the pairs where it does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import ot
import torch

from neurobridge.bridge._arrays import row_blocks
from neurobridge.bridge.cost import BridgeCost, Rows, bridge_cost, check_memory
from neurobridge.bridge.coupling import Coupling
from neurobridge.bridge.distances import Metric, Scale
from neurobridge.bridge.factors import DenseFactor
from neurobridge.bridge.linear import LinearMap, ridge_map
from neurobridge.bridge.plans import DensePlan

# Temperature of the softmin over bridges; the transport has its own epsilon, in units of the mean fused cost.
_BRIDGE_EPSILON = 0.05
_FEWEST_PAIRS = 4

Readout = Literal["barycentric", "linear"]


class Candidate(NamedTuple):
    """One way to align: chosen among by cross-validation over the pairs.

    Attributes
    ----------
    lam : float
        Weight of the linear map in the cost; 0 is the bridge alone.
    epsilon : float
        Entropic temperature, as a fraction of the mean fused cost.
    n_rounds : int
        Solved plans; after each, the linear map is refitted on the barycentric image. 0 with readout "linear" is ridge on the pairs.
    readout : {"barycentric", "linear"}
        How points are mapped: mean partner under the last plan, or the refitted linear map.
    """

    lam: float
    epsilon: float
    n_rounds: int
    readout: Readout


RIDGE = Candidate(1.0, math.inf, 0, "linear")
# What is used when there are too few pairs to choose with.
_DEFAULT = Candidate(0.9, 0.1, 1, "barycentric")


@dataclass(frozen=True, eq=False)
class FusedBridge:
    """A fitted fused bridge, made by `fuse`.

    Attributes
    ----------
    candidate : Candidate
        The one that was chosen.
    errors : dict of Candidate to float
        Mean squared error of held-out pairs, in units of the target's variance over the pairs; empty if there were too few pairs.
    coupling : Coupling
        The last plan, dense; for flow matching.
    linear : LinearMap
        The last linear map, source to target.
    """

    candidate: Candidate
    errors: dict[Candidate, float]
    coupling: Coupling
    linear: LinearMap
    _state: _State

    @property
    def anchors(self) -> Rows:
        """Source and target rows of the pairs."""
        return self.coupling.anchors

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """Draw pairs of rows with probability proportional to the plan."""
        return self.coupling.sample(n, rng)

    def map(self, X_new: np.ndarray) -> np.ndarray:
        """Map points, fitted or new, into the target space.

        Parameters
        ----------
        X_new : array of shape (n_new, n_source_dims)

        Returns
        -------
        array of shape (n_new, n_target_dims)
        """
        return self._state.read(self.candidate.readout, np.asarray(X_new, dtype=np.float64))


def fuse(
    X: np.ndarray,
    Y: np.ndarray,
    pairs: Rows,
    *,
    metric: Metric = "geodesic",
    scale: Scale = "mean",
    n_neighbors: int = 10,
    lams: Sequence[float] = (0.6, 0.9),
    epsilons: Sequence[float] = (0.03, 0.1),
    n_rounds: Sequence[int] = (1, 3, 8),
    n_folds: int = 5,
    tol: float = 1e-3,
    seed: int = 0,
    memory_limit: float = 4e9,
    device: str | torch.device | None = None,
) -> FusedBridge:
    """Fit a fused bridge: transport under the bridge cost and the linear map of the pairs together.

    The cost is ``C_fused(x, y) = (1 - lam) C(x, y) / mean C + lam |M x - y|^2 / mean |M x - y|^2`` with C the softmin bridge and M a
    ridge map fitted on the pairs. The entropic plan under it gives every source point a barycentric image; M is refitted on these
    images (pairs keep their true partners) and the plan solved again, for some rounds.

    lam, epsilon, the number of rounds and the readout are chosen by cross-validation over the pairs: each fold's pairs are taken
    out of *both* point clouds, as a stimulus to be predicted later has no partner among the points either. Ridge on the pairs is among
    the candidates, so that where the geometry does not help the result is ridge.

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
        Standardised source points, paired or not.
    Y : array of shape (m, n_target_dims)
        Standardised target points.
    pairs : tuple of two int arrays of shape (n_pairs,)
        Rows of X and of Y that show the same thing.
    metric, scale, n_neighbors : see `bridge_cost`
    lams, epsilons, n_rounds : sequences
        Candidates; all combinations are tried.
    n_folds : int
        Folds over the pairs. With fewer than four pairs nothing is chosen: lam 0.9, epsilon 0.1, one round.
    tol : float
        Marginal error at which a plan is accepted.
    seed : int
        Of the folds.
    memory_limit : float
        Bytes the n x m matrices may take.
    device : str, optional

    Returns
    -------
    FusedBridge

    Raises
    ------
    MemoryError
        Five n x m matrices would not fit into ``memory_limit``.
    ValueError
        Bad points or pairs, see `bridge_cost`; lam outside [0, 1], or a candidate list that is empty.
    """
    if not (lams and epsilons and n_rounds) or not all(0 <= lam <= 1 for lam in lams) or min(n_rounds) < 1:
        raise ValueError(
            f"found lams={tuple(lams)}, epsilons={tuple(epsilons)}, n_rounds={tuple(n_rounds)}; expected at least one of each, "
            "lam in [0, 1] and rounds of at least 1. Mend: leave them out for the defaults."
        )
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    rows: Rows = (np.asarray(pairs[0]), np.asarray(pairs[1]))
    check_memory(5 * 8.0 * len(X) * len(Y), memory_limit, f"a fused bridge of {len(X)} x {len(Y)} points")
    settings = _Settings(metric, scale, n_neighbors, tol, device)
    paths = list(itertools.product(lams, epsilons))
    errors: dict[Candidate, float] = {}
    chosen = _DEFAULT
    if len(rows[0]) >= _FEWEST_PAIRS:
        errors = _cross_validate(
            X, Y, rows, paths, sorted(set(n_rounds)), min(n_folds, len(rows[0]) // 2), seed, settings
        )
        chosen = min(errors, key=lambda candidate: errors[candidate])
    # Ridge needs no plan to map with; the flow still needs one to be trained on.
    solved = chosen if chosen.n_rounds else min(
        (c for c in errors if c.n_rounds), key=lambda candidate: errors[candidate]
    )  # fmt: skip
    *_, state = _solve(X, Y, rows, solved.lam, solved.epsilon, solved.n_rounds, settings)
    if chosen == RIDGE:
        state = replace(state, linear=ridge_map(X[rows[0]], Y[rows[1]]))
    coupling = Coupling(
        state.cost, DensePlan(state.plan()), "fused", solved.epsilon, None,
        np.full(len(X), 1 / len(X)), np.full(len(Y), 1 / len(Y)), state.marginal_error <= 10 * tol, state.n_iter,
        state.marginal_error,
    )  # fmt: skip
    return FusedBridge(chosen, errors, coupling, state.linear, state)


class _Settings(NamedTuple):
    metric: Metric
    scale: Scale
    n_neighbors: int
    tol: float
    device: str | torch.device | None


@dataclass(frozen=True, eq=False)
class _State:
    """One solved round: the map before it, the plan's potentials, and the map refitted after it."""

    cost: BridgeCost
    X: np.ndarray
    Y: np.ndarray
    before: LinearMap
    linear: LinearMap
    lam: float
    epsilon: float
    units: tuple[float, float]
    log_u: torch.Tensor
    log_v: torch.Tensor
    n_iter: int
    marginal_error: float

    def read(self, readout: Readout, X_new: np.ndarray) -> np.ndarray:
        if readout == "linear":
            return self.linear(X_new)
        target = torch.as_tensor(self.Y, device=self.log_v.device)
        out = np.empty((len(X_new), self.Y.shape[1]))
        for block in row_blocks(len(X_new), len(self.Y)):
            new = X_new[block]
            distances = self.cost.source.of(torch.as_tensor(new))
            moved = replace(self.cost, source_factor=DenseFactor(distances), reference=distances)
            bridge = torch.as_tensor(moved.dense(_BRIDGE_EPSILON, memory_limit=math.inf), dtype=torch.float64)
            cost = _blend(bridge, _squares(self.before(new), self.Y, bridge.device), self.lam, self.units)
            out[block] = (torch.softmax(-cost / self.epsilon + self.log_v, dim=1) @ target).cpu().numpy()
        return out

    def plan(self) -> np.ndarray:
        bridge = torch.as_tensor(self.cost.dense(_BRIDGE_EPSILON, memory_limit=math.inf), dtype=torch.float64)
        cost = _blend(bridge, _squares(self.before(self.X), self.Y, bridge.device), self.lam, self.units)
        return (self.log_u[:, None] - cost / self.epsilon + self.log_v).exp().cpu().numpy()


def _solve(
    X: np.ndarray, Y: np.ndarray, rows: Rows, lam: float, epsilon: float, n_rounds: int, settings: _Settings
) -> list[_State]:
    """Solve and refit ``n_rounds`` times; the state of every round."""
    cost = bridge_cost(
        X,
        Y,
        rows,
        metric=settings.metric,
        scale=settings.scale,
        n_neighbors=settings.n_neighbors,
        device=settings.device,
    )
    return _rounds(cost, X, Y, lam, epsilon, n_rounds, settings)


def _rounds(
    cost: BridgeCost, X: np.ndarray, Y: np.ndarray, lam: float, epsilon: float, n_rounds: int, settings: _Settings
) -> list[_State]:
    i, j = cost.anchors
    linear = ridge_map(X[i], Y[j])
    bridge = torch.as_tensor(cost.dense(_BRIDGE_EPSILON, memory_limit=math.inf), dtype=torch.float64)
    target = torch.as_tensor(Y, device=bridge.device)
    a, b = (torch.full((k,), 1.0 / k, dtype=torch.float64, device=bridge.device) for k in bridge.shape)
    states: list[_State] = []
    start: tuple[torch.Tensor, torch.Tensor] | None = None
    for _ in range(n_rounds):
        squares = _squares(linear(X), Y, bridge.device)
        units = _positive(bridge.mean()), _positive(squares.mean())
        fused = _blend(bridge, squares, lam, units)
        # POT checks the L2 error of one marginal every ten steps; L1 is at most sqrt(m) times that.
        plan, log = ot.bregman.sinkhorn_log(
            a, b, fused, epsilon, numItermax=2000, stopThr=settings.tol / math.sqrt(len(b)), log=True, warn=False,
            warmstart=start,
        )  # fmt: skip
        log_u, log_v = start = log["log_u"], log["log_v"]
        images = (torch.softmax(-fused / epsilon + log_v, dim=1) @ target).cpu().numpy()
        images[i] = Y[j]
        before, linear = linear, ridge_map(X, images)
        error = float((plan.sum(0) - b).abs().sum() + (plan.sum(1) - a).abs().sum())
        states.append(
            _State(cost, X, Y, before, linear, lam, epsilon, units, log_u, log_v, int(log["niter"]) + 1, error)
        )
    return states


def _squares(Z: np.ndarray, Y: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.cdist(torch.as_tensor(Z, device=device), torch.as_tensor(Y, device=device)) ** 2


def _blend(bridge: torch.Tensor, squares: torch.Tensor, lam: float, units: tuple[float, float]) -> torch.Tensor:
    return (1 - lam) / units[0] * bridge + lam / units[1] * squares


def _positive(value: torch.Tensor) -> float:
    # A softmin cost is negative near the anchors; its mean is its unit only while it is positive.
    return max(float(value), 1e-12)


def _cross_validate(
    X: np.ndarray,
    Y: np.ndarray,
    rows: Rows,
    paths: list[tuple[float, float]],
    n_rounds: list[int],
    n_folds: int,
    seed: int,
    settings: _Settings,
) -> dict[Candidate, float]:
    """Mean squared error of held-out pairs for every candidate, over the variance of the paired targets."""
    i, j = rows
    variance = float(((Y[j] - Y[j].mean(axis=0)) ** 2).sum(axis=1).mean()) or 1.0
    totals: dict[Candidate, float] = {}
    order = np.random.default_rng(seed).permutation(len(i))
    for held in np.array_split(order, max(2, n_folds)):
        kept = np.setdiff1d(order, held)
        left, right = np.setdiff1d(np.arange(len(X)), i[held]), np.setdiff1d(np.arange(len(Y)), j[held])
        # A point in several pairs leaves with the first of them; so do its other pairs.
        kept = kept[np.isin(i[kept], left) & np.isin(j[kept], right)]
        if len(kept) < 2:
            continue
        inner = np.searchsorted(left, i[kept]), np.searchsorted(right, j[kept])
        new, truth = X[i[held]], Y[j[held]]

        def add(candidate: Candidate, predicted: np.ndarray, truth: np.ndarray = truth) -> None:
            totals[candidate] = totals.get(candidate, 0.0) + float(((predicted - truth) ** 2).sum()) / variance

        add(RIDGE, ridge_map(X[i[kept]], Y[j[kept]])(new))
        cost = bridge_cost(
            X[left], Y[right], inner, metric=settings.metric, scale=settings.scale, n_neighbors=settings.n_neighbors,
            device=settings.device,
        )  # fmt: skip
        for lam, epsilon in paths:
            # Choosing needs no exact marginals.
            states = _rounds(
                cost, X[left], Y[right], lam, epsilon, n_rounds[-1], settings._replace(tol=10 * settings.tol)
            )
            for count in n_rounds:
                for readout in ("barycentric", "linear"):
                    add(Candidate(lam, epsilon, count, readout), states[count - 1].read(readout, new))
    return {candidate: total / len(i) for candidate, total in totals.items()}
