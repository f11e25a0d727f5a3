"""The fused bridge: geometry where it helps, the map of the pairs where it does not."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from neurobridge.bridge._arrays import points
from neurobridge.bridge._core import PotentialPlan, core_rows
from neurobridge.bridge._rounds import Problem, State, solve
from neurobridge.bridge.cost import BridgeCost, Rows, bridge_cost, check_memory
from neurobridge.bridge.coupling import ConvergenceWarning, Coupling
from neurobridge.bridge.distances import Metric, Scale
from neurobridge.bridge.kernel import KernelMap, kernel_map
from neurobridge.bridge.linear import LinearMap, ridge_map
from neurobridge.bridge.plans import DensePlan

_FEWEST_PAIRS = 4
# The bridge cost, the two squared residuals and the kernel in float32, blocks of it and the plan in float64.
_BYTES_PER_ENTRY = 40.0
# Candidates are compared on at most this many points a side; the winner is fitted on all of them.
_CHOOSING_POINTS = 1000
_LARGEST_CORE = 4000

Readout = Literal["barycentric", "linear", "kernel", "mean"]
AnyMap = LinearMap | KernelMap


class CoreWarning(UserWarning):
    """The plan was solved on a core of the points, since all of them would not fit into the memory limit."""


class Candidate(NamedTuple):
    """One way to align: chosen among by cross-validation over the pairs.

    Attributes
    ----------
    lam : float
        Weight of the maps in the cost; 0 is the bridge alone.
    epsilon : float
        Entropic temperature, as a fraction of the mean fused cost.
    n_rounds : int
        Solved plans after which linear maps are refitted on the barycentric images. 0: a map of the pairs alone.
    readout : {"barycentric", "linear", "kernel", "mean"}
        How points are mapped: mean partner under the last plan, the last map by its kind, or half of each.
    kernel_rounds : int
        Rounds after those, with a curved map forward.
    """

    lam: float
    epsilon: float
    n_rounds: int
    readout: Readout
    kernel_rounds: int = 0


#: Ridge and kernel ridge on the pairs, without any plan.
RIDGE = Candidate(1.0, math.inf, 0, "linear")
KERNEL_RIDGE = Candidate(1.0, math.inf, 0, "kernel")
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
        The last plan; for flow matching. Dense, or with a core: computed in blocks whenever it is asked for.
    linear : LinearMap
        The linear map, source to target: of the pairs if ridge was chosen, otherwise refitted on the last images.
    forward : LinearMap or KernelMap
        The map that readouts "linear", "kernel" and "mean" use.
    core : int or None
        Points a side the plan was solved on; None if on all.
    """

    candidate: Candidate
    errors: dict[Candidate, float]
    coupling: Coupling
    linear: LinearMap
    forward: AnyMap
    core: int | None
    _state: State

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

        Raises
        ------
        ValueError
            Another number of dimensions than in fitting, or values that are not finite.
        """
        new = points(np.asarray(X_new, dtype=np.float64), name="X_new").numpy()
        fitted = self._state.problem.X.shape[1]
        if new.shape[1] != fitted:
            raise ValueError(
                f"X_new: found {new.shape[1]} dimensions; expected {fitted} as in fitting. Mend: pass the same dimensions, in the "
                "same order."
            )
        return _read(self._state, self.forward, self.candidate.readout, new)


def _read(state: State, forward: AnyMap, readout: Readout, X_new: np.ndarray) -> np.ndarray:
    if readout == "barycentric":
        return state.barycentric(X_new)
    if readout == "mean":
        return (state.barycentric(X_new) + forward(X_new)) / 2
    return forward(X_new)


# The rounds alternate between torch and numpy: two pools of threads that wait for each other take four times as long.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fuse(
    X: np.ndarray,
    Y: np.ndarray,
    pairs: Rows,
    *,
    metric: Metric = "geodesic",
    scale: Scale = "mean",
    n_neighbors: int = 10,
    lams: Sequence[float] = (0.9,),
    epsilons: Sequence[float] = (0.02,),
    n_rounds: Sequence[int] = (1, 5, 20),
    kernel_rounds: Sequence[int] = (0, 1, 3),
    n_folds: int = 5,
    tol: float = 1e-3,
    seed: int = 0,
    core: int | Literal["auto"] | None = "auto",
    memory_limit: float = 4e9,
    device: str | torch.device | None = None,
) -> FusedBridge:
    """Fit a fused bridge: transport under the bridge cost and the maps of the pairs, both ways, together.

    With C the softmin bridge, M a map forward and N a map backward, both ridge on the pairs at first::

        C_fused(x, y) = (1 - lam) C(x, y) / mean C + lam/2 |M x - y|^2 / mean |M x - y|^2 + lam/2 |x - N y|^2 / mean |x - N y|^2

    The entropic plan under it gives every source point a barycentric image in the target and every target point one in the source;
    M and N are refitted on these images (pairs keep their true partners) and the plan solved again, for some rounds. Judging a
    match from both sides is what makes the rounds find the way: a wrong match that M tolerates, N usually does not. At last M may
    become a kernel ridge map (`kernel_map`), in which a pair counts ten times as much as an image.

    Which lam, epsilon, number of rounds and readout is chosen by cross-validation over the pairs, on at most 1,000 points a side:
    each fold's pairs are taken out of *both* point clouds, as a stimulus to be predicted later has no partner among the points
    either. Ridge and kernel ridge on the pairs are among the candidates, so that where the geometry does not help the result is one
    of them.

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
        Source points, paired or not. Centre them, and divide all dimensions by one number: dimensions that hardly vary are noise
        which scaling one by one would blow up.
    Y : array of shape (m, n_target_dims)
        Target points, likewise.
    pairs : tuple of two int arrays of shape (n_pairs,)
        Rows of X and of Y that show the same thing.
    metric, scale, n_neighbors : see `bridge_cost`
    lams, epsilons : sequences
        Candidates; all combinations are tried.
    n_rounds : sequence of int
        Numbers of linear rounds to choose from, at least 1.
    kernel_rounds : sequence of int
        Numbers of curved rounds to choose from, after the most linear ones; (0,) for none.
    n_folds : int
        Folds over the pairs. With fewer than four pairs nothing is chosen: lam 0.9, epsilon 0.1, one round.
    tol : float
        Marginal error at which a plan is accepted; on the way to the last one ten times as much is.
    seed : int
        Of the folds, of the centres of the curved map, and of the core.
    core : int, "auto" or None
        Points a side, all pairs and a random choice of others, on which the plan is solved: memory O(core^2). Distances are
        those among all points; the others get their images along the core's plan, and the map is refitted on the images of all.
        None solves on all points and refuses above ``memory_limit``. "auto" solves on all points where they fit, otherwise on a
        core, and warns.
    memory_limit : float
        Bytes the n x m matrices may take.
    device : str, optional

    Returns
    -------
    FusedBridge

    Raises
    ------
    MemoryError
        ``core=None`` and the n x m matrices would not fit into ``memory_limit``, or a core that would not, or one that
        fits could not hold the pairs.
    ValueError
        Bad points or pairs, see `bridge_cost`; lam outside [0, 1], an epsilon that is not positive, a candidate list that is empty,
        or a core smaller than the pairs.

    Warns
    -----
    CoreWarning
        ``core="auto"`` solved on a core.
    ConvergenceWarning
        The last plan missed its tolerance.

    Notes
    -----
    2,000 x 2,000 points of 32 and 128 dimensions with 10 to 480 pairs take 17 to 27 s on one core.

    The choice knows no more than the pairs tell. With a dozen pairs or fewer single draws can come out below ridge on simulated
    clouds (R^2 .90 instead of .94). In a straight, almost noise-free relation of about as many dimensions as there are pairs,
    leaving pairs out costs ridge more than the fused bridge, which is then chosen although ridge on all pairs is better (six
    dimensions and eight pairs: .90 instead of .99; with twelve pairs ridge is chosen).
    """
    rounds, curved = sorted(set(n_rounds)), sorted(set(kernel_rounds))
    if (
        not (lams and epsilons and rounds and curved)
        or not all(0 <= lam <= 1 for lam in lams)
        or min(epsilons) <= 0
        or rounds[0] < 1
        or curved[0] < 0
    ):
        raise ValueError(
            f"found lams={tuple(lams)}, epsilons={tuple(epsilons)}, n_rounds={tuple(n_rounds)}, "
            f"kernel_rounds={tuple(kernel_rounds)}; expected at least one of each, lam in [0, 1], epsilon above 0, linear rounds "
            "of at least 1 and curved ones of at least 0. Mend: leave them out for the defaults."
        )
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    rows: Rows = (np.asarray(pairs[0]), np.asarray(pairs[1]))

    def measure(X: np.ndarray, Y: np.ndarray, rows: Rows) -> BridgeCost:
        return bridge_cost(
            X, Y, rows, metric=metric, scale=scale, n_neighbors=n_neighbors, memory_limit=memory_limit, device=device
        )

    size = _core_size(core, X, Y, rows, memory_limit)
    whole = Problem(measure(X, Y, rows), X, Y, rows)
    errors: dict[Candidate, float] = {}
    chosen = solved = _DEFAULT
    if len(rows[0]) >= _FEWEST_PAIRS:
        plan = _Plan(list(itertools.product(lams, epsilons)), rounds, curved, 10 * tol, seed)
        errors = _cross_validate(X, Y, rows, plan, min(n_folds, len(rows[0])), measure)
    if errors:
        chosen = min(errors, key=lambda candidate: errors[candidate])
        # A map of the pairs needs no plan to map with; the flow still needs one to be trained on.
        solved = chosen if chosen.n_rounds else min((c for c in errors if c.n_rounds), key=lambda c: errors[c])
    inner = None if size is None else core_rows(whole, size, np.random.default_rng(seed))
    problem = whole if inner is None else whole.subset(*inner)
    bridge = problem.bridge()
    *_, state = solve(
        problem, bridge, solved.lam, solved.epsilon, solved.n_rounds, solved.kernel_rounds, (10 * tol, tol), seed
    )
    converged = state.plan.marginal_error <= tol
    if not converged:
        warnings.warn(
            f"found a marginal error of {state.plan.marginal_error:.2g} after {state.plan.n_iter} iterations at epsilon "
            f"{solved.epsilon}; expected {tol:.2g}. Mend: raise epsilon or tol.",
            ConvergenceWarning,
            stacklevel=3,
        )
    transport: DensePlan | PotentialPlan
    if inner is None:
        transport, images = DensePlan(state.matrix(bridge)), state.images
    else:
        transport, images = PotentialPlan.extend(whole, state, inner), state.barycentric(X)
        images[inner[0]] = state.images
    coupling = Coupling(
        whole.cost, transport, "fused", solved.epsilon, None, np.full(len(X), 1 / len(X)), np.full(len(Y), 1 / len(Y)),
        converged, state.plan.n_iter, state.plan.marginal_error,
    )  # fmt: skip
    linear, forward = _maps(chosen, state, X, Y, rows, images, seed)
    return FusedBridge(chosen, errors, coupling, linear, forward, size, state)


def _maps(
    chosen: Candidate, state: State, X: np.ndarray, Y: np.ndarray, rows: Rows, images: np.ndarray, seed: int
) -> tuple[LinearMap, AnyMap]:
    """The linear map, and the one to read with, refitted on the images of all points."""
    i, j = rows
    linear = ridge_map(X[i], Y[j], penalty="shared") if chosen == RIDGE else ridge_map(X, images, penalty="shared")
    if chosen == KERNEL_RIDGE:
        return linear, kernel_map(X[i], Y[j], seed=seed)
    if chosen.kernel_rounds:
        return linear, state.forward if len(X) == len(state.problem.X) else state.refit(X, images, i, seed)
    return linear, linear


def _core_size(
    core: int | Literal["auto"] | None, X: np.ndarray, Y: np.ndarray, rows: Rows, memory_limit: float
) -> int | None:
    """Points a side to solve on; None for all."""
    if X.ndim != 2 or Y.ndim != 2:
        return None  # bridge_cost says what is wrong
    n, m, n_pairs = len(X), len(Y), max(len(np.unique(side)) for side in rows)
    fits = _BYTES_PER_ENTRY * n * m <= memory_limit
    if core is None or (core == "auto" and fits):
        whole = f"a fused bridge of {n} x {m} points"
        mend = "core='auto' or core=2000 solves on some of the points"
        check_memory(_BYTES_PER_ENTRY * n * m, memory_limit, whole, mend=mend)
        return None
    if core == "auto":
        size = min(_LARGEST_CORE, int(math.sqrt(memory_limit / _BYTES_PER_ENTRY)))
        if size < 2 * n_pairs:
            raise MemoryError(
                f"found {n_pairs} pairs and room for a core of {size} points a side in {memory_limit / 1e9:.2f} GB; "
                f"expected at least {2 * n_pairs}. Mend: raise memory_limit, or name a core."
            )
        warnings.warn(
            f"found a fused bridge of {n} x {m} points, which needs {_BYTES_PER_ENTRY * n * m / 1e9:.2f} GB of at most "
            f"{memory_limit / 1e9:.2f} GB. Solved on a core of {size} points a side. Mend: core={size} says that it is meant, "
            "or raise memory_limit.",
            CoreWarning,
            stacklevel=4,
        )
        return size
    if isinstance(core, bool) or not isinstance(core, (int, np.integer)) or core < max(n_pairs, 2):
        raise ValueError(
            f"found core={core!r} with {n_pairs} paired points; expected 'auto', None, or a whole number of at least that many. "
            "Mend: core=2000, or leave it out."
        )
    smaller = f"a fused bridge on a core of {core} points"
    check_memory(_BYTES_PER_ENTRY * core * core, memory_limit, smaller, mend="name a smaller core")
    return int(core) if core < max(n, m) else None


class _Plan(NamedTuple):
    """What cross-validation tries."""

    paths: list[tuple[float, float]]
    n_rounds: list[int]
    kernel_rounds: list[int]
    tol: float
    seed: int


def _cross_validate(
    X: np.ndarray,
    Y: np.ndarray,
    rows: Rows,
    plan: _Plan,
    n_folds: int,
    measure: Callable[[np.ndarray, np.ndarray, Rows], BridgeCost],
) -> dict[Candidate, float]:
    """Mean squared error of held-out pairs for every candidate, over the variance of the paired targets."""
    i, j = rows
    variance = float(((Y[j] - Y[j].mean(axis=0)) ** 2).sum(axis=1).mean()) or 1.0
    totals: dict[Candidate, float] = {}
    rng = np.random.default_rng(plan.seed)
    order = rng.permutation(len(i))
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

        add(RIDGE, ridge_map(X[i[kept]], Y[j[kept]], penalty="shared")(new))
        if plan.kernel_rounds[-1]:
            add(KERNEL_RIDGE, kernel_map(X[i[kept]], Y[j[kept]], seed=plan.seed)(new))
        whole = Problem(measure(X[left], Y[right], inner), X[left], Y[right], inner)
        problem = whole.subset(*core_rows(whole, _CHOOSING_POINTS, rng))
        bridge = problem.bridge()
        for lam, epsilon in plan.paths:
            most = plan.n_rounds[-1]
            states = solve(problem, bridge, lam, epsilon, most, plan.kernel_rounds[-1], (plan.tol, plan.tol), plan.seed)
            for count, state in enumerate(states, start=1):
                linear, curved = min(count, most), max(0, count - most)
                if not (linear in plan.n_rounds if not curved else curved in plan.kernel_rounds):
                    continue
                if count == most and 0 not in plan.kernel_rounds:
                    continue
                readouts: tuple[Readout, ...] = ("barycentric", "kernel" if curved else "linear", "mean")
                for readout in readouts:
                    add(
                        Candidate(lam, epsilon, linear, readout, curved),
                        _read(state, state.forward, readout, new),
                    )
    return {candidate: total / len(i) for candidate, total in totals.items()}
