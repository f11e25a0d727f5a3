"""The fused bridge: geometry where it helps, the map of the pairs where it does not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from neurobridge.bridge.cost.bridge import BridgeCost, bridge_cost
from neurobridge.bridge.cost.geometry import Scale
from neurobridge.bridge.cost.metrics import Metric
from neurobridge.bridge.fused.batches import BatchPlan, complete, deal
from neurobridge.bridge.fused.choice import KERNEL_RIDGE, RIDGE, AnyMap, Candidate, Chosen, Search, choose, read
from neurobridge.bridge.fused.rounds import Problem, State, solve
from neurobridge.bridge.transport.coupling import ConvergenceWarning, Coupling
from neurobridge.bridge.transport.plans import DensePlan
from neurobridge.maps.kernel import kernel_map
from neurobridge.maps.linear import LinearMap, ridge_map
from neurobridge.points.arrays import Array, Rows, host, points, same_kind
from neurobridge.points.memory import check_memory

__all__ = ["KERNEL_RIDGE", "RIDGE", "Candidate", "CoreWarning", "FusedBridge", "fuse"]

_FEWEST_PAIRS = 4
# The bridge cost, the two squared residuals and the kernel in float32, blocks of it and the plan in float64.
_BYTES_PER_ENTRY = 40.0
_LARGEST_CORE = 2000
# What is used when there are too few pairs to choose with.
_DEFAULT = Candidate(0.9, 0.1, 1, "barycentric")


class CoreWarning(UserWarning):
    """The plan was solved in minibatches of the points, since all at once would not fit into the memory limit."""


@dataclass(frozen=True, eq=False)
class FusedBridge:
    """A fitted fused bridge, made by `fuse`.

    Attributes
    ----------
    candidate : Candidate
        The one that was chosen.
    errors : dict of Candidate to float
        Mean squared error of held-out pairs, in units of the target's variance over the pairs, of all rounds and readouts at the
        chosen lam and epsilon, of ridge and of kernel ridge; empty if there were too few pairs.
    screening : dict of (lam, epsilon) to float
        The same for each lam and epsilon, on fewer points and in few rounds, by which they were chosen; empty if there was one.
    coupling : Coupling
        The last plan; for flow matching. Dense, or with a core: in minibatches, computed whenever it is asked for.
    linear : LinearMap
        The linear map, source to target: of the pairs if ridge was chosen, otherwise refitted on the last images.
    forward : LinearMap or KernelMap
        The map that readouts "linear", "kernel" and "mean" use.
    core : int or None
        Most points a side of the minibatches the plan was solved in; None if all points were solved at once.
    """

    candidate: Candidate
    errors: dict[Candidate, float]
    screening: dict[tuple[float, float], float]
    coupling: Coupling
    linear: LinearMap
    forward: AnyMap
    core: int | None
    _states: list[State]

    @property
    def anchors(self) -> Rows:
        """Source and target rows of the pairs."""
        return self.coupling.anchors

    def sample(self, n: int, rng: np.random.Generator) -> Rows:
        """Draw pairs of rows with probability proportional to the plan."""
        return self.coupling.sample(n, rng)

    def map(self, X_new: Array) -> Array:
        """Map points, fitted or new, into the target space.

        Parameters
        ----------
        X_new : array of shape (n_new, n_source_dims)
            Numpy or torch, on any device.

        Returns
        -------
        array of shape (n_new, n_target_dims)
            Float64, of the kind and on the device of ``X_new``.

        Raises
        ------
        ValueError
            Another number of dimensions than in fitting, or values that are not finite.
        """
        new = points(np.asarray(host(X_new), dtype=np.float64), name="X_new").numpy()
        fitted = self._states[0].problem.X.shape[1]
        if new.shape[1] != fitted:
            raise ValueError(
                f"X_new: found {new.shape[1]} dimensions; expected {fitted} as in fitting. Mend: pass the same dimensions, in the "
                "same order."
            )
        return same_kind(read(self._states, self.forward, self.candidate.readout, new), X_new)


# The rounds alternate between torch and numpy: two pools of threads that wait for each other take four times as long.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fuse(
    X: Array,
    Y: Array,
    pairs: tuple[Array, Array],
    *,
    metric: Metric = "geodesic",
    scale: Scale = "mean",
    n_neighbors: int = 10,
    lams: Sequence[float] = (0.9, 0.0, 0.5, 1.0),
    epsilons: Sequence[float] = (0.02, 0.01, 0.05, 0.1),
    n_rounds: Sequence[int] = (1, 5, 20),
    kernel_rounds: Sequence[int] = (0, 1, 3),
    n_folds: int | None = None,
    tol: float = 1e-3,
    seed: int = 0,
    candidate: Candidate | None = None,
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

    All is chosen by cross-validation over the pairs: each fold's pairs are taken out of *both* point clouds, as a stimulus to be
    predicted later has no partner among the points either. First lam and epsilon, one after the other and then both at their
    best, by successive halving on some 400 points a side; the first of each stays unless others are better by more than two
    standard errors of the difference, there and again over all rounds. Then, with them and on at most 1,000 points, the number
    of rounds and the readout. Ridge and kernel ridge on the pairs are among the candidates, so that where the geometry does
    not help the result is one of them.

    Points of which the n x m matrices would not fit are cut into minibatches drawn along the factored plan of the bridge over all
    points (`couple`): every point draws an anchor from it, and the points of each anchor are dealt out evenly, so that a minibatch
    holds on both sides what the coarse plan sends over each anchor. The rounds run in the first, which holds all pairs, and go on
    with the images of several; then every minibatch is solved. Memory O((n + m) P).

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
        Source points, paired or not; numpy or torch. Centre them, and divide all dimensions by one number: dimensions that hardly
        vary are noise which scaling one by one would blow up.
    Y : array of shape (m, n_target_dims)
        Target points, likewise.
    pairs : tuple of two int arrays of shape (n_pairs,)
        Rows of X and of Y that show the same thing.
    metric, scale, n_neighbors : see `bridge_cost`
    lams, epsilons : sequences
        Candidates. The first of each is the one that others have to beat; up to twelve pairs it is
        taken, unless ``n_folds`` is given.
    n_rounds : sequence of int
        Numbers of linear rounds to choose from, at least 1.
    kernel_rounds : sequence of int
        Numbers of curved rounds to choose from, after the most linear ones; (0,) for none.
    n_folds : int, optional
        Folds over the pairs: five by default; up to twelve pairs, one a pair (and on at most 700 points) for the rounds and the
        readout. With fewer than four pairs nothing is chosen: lam 0.9, epsilon 0.1, one round.
    tol : float
        Marginal error at which a plan is accepted; on the way to the last one ten times as much is.
    seed : int
        Of the folds, of the centres of the curved map, and of the minibatches.
    candidate : Candidate, optional
        Take this one and choose nothing, so that nothing is cross-validated and ``lams``, ``epsilons``, ``n_rounds``,
        ``kernel_rounds`` and ``n_folds`` go unused. For where the squared error of single pairs is not what counts: with
        captions of many wordings most of it is the wording, and the candidate that names the digit best is not the one of
        least error.
    core : int, "auto" or None
        Most points a side that are solved at once, at least twice the pairs: memory O(core^2), time O((n + m) core). None solves
        all points at once and refuses above ``memory_limit``. "auto" does so where they fit, otherwise in minibatches of at most
        2,000, and warns.
    memory_limit : float
        Bytes the n x m matrices may take.
    device : str, optional
        Where costs and plans are computed; the device of X by default. Maps are fitted on the CPU.

    Returns
    -------
    FusedBridge

    Raises
    ------
    MemoryError
        ``core=None`` and the n x m matrices would not fit into ``memory_limit``, or minibatches that would not, or those
        that fit could not hold the pairs.
    ValueError
        Bad points or pairs, see `bridge_cost`; lam outside [0, 1], an epsilon that is not positive, a candidate list that is empty,
        a candidate without rounds or with a readout that its rounds do not have, or a core smaller than twice the pairs.

    Warns
    -----
    CoreWarning
        ``core="auto"`` solved in minibatches.
    ConvergenceWarning
        The last plan missed its tolerance.

    Notes
    -----
    2,000 x 2,000 points of 32 and 128 dimensions with 10 to 480 pairs take 15 to 30 s on one core.

    The choice knows no more than the pairs tell. With a dozen pairs or fewer single draws can come out below ridge, on simulated
    clouds and on recordings.
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
    if candidate is not None:
        candidate = _checked(candidate)
    if device is None and isinstance(X, torch.Tensor):
        device = X.device
    # Distances in the precision of the points, maps in float64.
    given = host(X), host(Y)
    X, Y = (np.asarray(side, dtype=np.float64) for side in given)
    rows: Rows = (host(pairs[0]), host(pairs[1]))

    def measure(X: np.ndarray, Y: np.ndarray, rows: Rows) -> BridgeCost:
        return bridge_cost(
            X, Y, rows, metric=metric, scale=scale, n_neighbors=n_neighbors, memory_limit=memory_limit, device=device
        )

    size = _core_size(core, X, Y, rows, memory_limit)
    whole = Problem(measure(*given, rows), X, Y, rows)
    found = Chosen({}, {})
    chosen = solved = candidate or _DEFAULT
    if candidate is None and len(rows[0]) >= _FEWEST_PAIRS:
        search = Search(lams, epsilons, rounds, curved, 10 * tol, seed)
        found = choose(X, Y, rows, search, n_folds, measure)
    errors = found.errors
    if errors:
        chosen = min(errors, key=lambda candidate: errors[candidate])
        # A map of the pairs needs no plan to map with; the flow still needs one to be trained on.
        solved = chosen if chosen.n_rounds else min((c for c in errors if c.n_rounds), key=lambda c: errors[c])
    batches = [(np.arange(len(X)), np.arange(len(Y)))]
    if size is not None:
        batches = deal(whole, size, np.random.default_rng(seed))
    problem = whole if len(batches) == 1 else whole.subset(*batches[0])
    bridge = problem.bridge()
    *_, state = solve(
        problem, bridge, solved.lam, solved.epsilon, solved.n_rounds, solved.kernel_rounds, (10 * tol, tol), seed
    )
    states, n_iter, error = [state], state.plan.n_iter, state.plan.marginal_error
    transport: DensePlan | BatchPlan
    if len(batches) == 1:
        transport = DensePlan(state.matrix(bridge))
    else:
        states, transport, n_iter, error = complete(whole, state, batches, solved.lam, tol, seed)
    if error > tol:
        warnings.warn(
            f"found a marginal error of {error:.2g} after {n_iter} iterations at epsilon {solved.epsilon}; expected {tol:.2g}. "
            "Mend: raise epsilon or tol.",
            ConvergenceWarning,
            stacklevel=3,
        )
    coupling = Coupling(
        whole.cost, transport, "fused", solved.epsilon, None, np.full(len(X), 1 / len(X)), np.full(len(Y), 1 / len(Y)),
        error <= tol, n_iter, error,
    )  # fmt: skip
    linear, forward = _maps(chosen, states[0], X, Y, rows, seed)
    return FusedBridge(chosen, errors, found.screening, coupling, linear, forward, size, states)


def _checked(candidate: Candidate) -> Candidate:
    """A candidate that can be solved as it is."""
    try:
        found = Candidate(*candidate)
        readouts = ("barycentric", "kernel" if found.kernel_rounds else "linear", "mean")
        whole = all(isinstance(count, (int, np.integer)) for count in (found.n_rounds, found.kernel_rounds))
        usable = (
            whole
            and found.n_rounds >= 1
            and found.kernel_rounds >= 0
            and 0 <= found.lam <= 1
            and 0 < found.epsilon < math.inf
            and found.readout in readouts
        )
    except TypeError:
        usable = False
    if not usable:
        raise ValueError(
            f"found candidate={candidate!r}; expected Candidate(lam in [0, 1], epsilon above 0, n_rounds of at least 1, readout, "
            "kernel_rounds of at least 0) with the readout 'barycentric' or 'mean', 'linear' without curved rounds or 'kernel' "
            "with them. Mend: e.g. Candidate(0.9, 0.02, 5, 'linear')."
        )
    return found


def _maps(
    chosen: Candidate, state: State, X: np.ndarray, Y: np.ndarray, rows: Rows, seed: int
) -> tuple[LinearMap, AnyMap]:
    """The linear map, and the one to read with: of the pairs, or refitted on the last images."""
    i, j = rows
    if chosen == RIDGE:
        linear = ridge_map(X[i], Y[j], penalty="shared")
    elif isinstance(state.forward, LinearMap):
        linear = state.forward
    else:
        linear = ridge_map(state.problem.X, state.images, penalty="shared")
    if chosen == KERNEL_RIDGE:
        return linear, kernel_map(X[i], Y[j], seed=seed)
    return linear, state.forward if chosen.kernel_rounds else linear


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
        mend = "core='auto' or core=2000 solves in minibatches"
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
            f"{memory_limit / 1e9:.2f} GB. Solved in minibatches of {size} points a side. Mend: core={size} says that it is meant, "
            "or raise memory_limit.",
            CoreWarning,
            stacklevel=4,
        )
        return size
    if isinstance(core, bool) or not isinstance(core, (int, np.integer)) or core < 2 * max(n_pairs, 1):
        raise ValueError(
            f"found core={core!r} with {n_pairs} paired points; expected 'auto', None, or a whole number of at least twice as "
            "many. Mend: core=2000, or leave it out."
        )
    smaller = f"a fused bridge on a core of {core} points"
    check_memory(_BYTES_PER_ENTRY * core * core, memory_limit, smaller, mend="name a smaller core")
    return int(core) if core < max(n, m) else None
