"""The fused bridge: geometry where it helps, the map of the pairs where it does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from neurobridge.bridge.cost.measured import measured_cost
from neurobridge.bridge.cost.metrics import Geometry, Metric, Scale
from neurobridge.bridge.cost.protocol import check_rows
from neurobridge.bridge.fused.batches import Solution, complete
from neurobridge.bridge.fused.candidate import MAP_FAMILIES, Candidate, MapFamily, check_candidate
from neurobridge.bridge.fused.choosing.choice import Choice, choose, temperatures
from neurobridge.bridge.fused.choosing.criteria import Criterion, check_criterion, known_criterion
from neurobridge.bridge.fused.choosing.search import Search
from neurobridge.bridge.fused.chosen import backward_map, choosing_problem, forward_maps, held_pairs, with_spreads
from neurobridge.bridge.fused.cost import FusedProblem
from neurobridge.bridge.fused.dealing import deal
from neurobridge.bridge.fused.deprecated import renamed_arguments
from neurobridge.bridge.fused.result import FusedBridge
from neurobridge.bridge.fused.sizes import check_distributed_minibatches, check_minibatch_size, thinned
from neurobridge.bridge.fused.solving.families import CloudProblem
from neurobridge.bridge.fused.solving.rounds import solve_rounds
from neurobridge.bridge.fused.states import State
from neurobridge.bridge.transport.coupling import ConvergenceWarning, Coupling
from neurobridge.bridge.transport.plans import DensePlan
from neurobridge.points.arrays import Array, Rows, in_memory
from neurobridge.points.memory import named_shortage
from neurobridge.points.options import is_choice, is_whole, require_options
from neurobridge.points.scale import unit_of_cloud
from neurobridge.points.workers import Runner, job_runner

_SHORTAGE = "minibatch_size=500, or couple(bridge_cost(X, Y, pairs)), which builds no n x m matrix"
# A plan of more points a side is read by a kernel map of so many centres, if that explains so much of what the plan reads.
_READ_BY_PLAN, _CENTRES, _LEAST_AGREEMENT = 100_000, 1000, 0.99
# Marginal errors accepted before the last plan, in units of that of the last.
_TOL_BEFORE = 10


@renamed_arguments(core="minibatch_size")
def fuse(
    X: Array,
    Y: Array,
    pairs: tuple[Array, Array],
    *,
    metric: Metric | tuple[Metric, Metric] = "geodesic",
    scale: Scale = "mean",
    n_neighbors: int = 10,
    lams: Sequence[float] = (0.9, 0.0, 0.5),
    epsilons: Sequence[float] | None = None,
    n_rounds: Sequence[int] = (5, 1, 20),
    kernel_rounds: Sequence[int] = (0, 1, 3),
    maps: Sequence[MapFamily] = MAP_FAMILIES,
    criterion: Criterion = "correlation",
    classifier: Any = None,
    labels: Array | None = None,
    sought_in: tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]] | None = None,
    n_folds: int | None = None,
    tol: float = 1e-3,
    seed: int = 0,
    candidate: Candidate | None = None,
    minibatch_size: int | Literal["auto"] | None = "auto",
    memory_limit: float = 4e9,
    readout_centres: int | Literal["auto"] | None = "auto",
    distributed: bool = False,
    device: str | torch.device | None = None,
) -> FusedBridge:
    """Fit a fused bridge: transport under the bridge cost and the maps of the pairs, in both directions, together.

    With C the softmin bridge cost, M a forward map and N a backward map, both fitted to the pairs at first::

        C_fused(x, y) = (1 - lam) C(x, y) / mean C
                        + lam/2 |M x - y|^2 / mean |M x - y|^2 + lam/2 |x - N y|^2 / mean |x - N y|^2

    1. The entropic plan under C_fused gives every source point an image in the target space, the mean of its partners, and
       every target point one in the source space.
    2. M and N are refitted on these images (pairs keep their true partners), and the plan is solved again, for some rounds,
       or until the images have settled. A wrong match that M tolerates is usually expensive under N; this is why both maps
       are in the cost.
    3. M and N are of one family: ridge regression; a rotation and a scale (Procrustes); or a rotation between coordinates
       that are whitened by the covariances of all points. Where they are rotations, both squared distances give way to
       one term, ``1 - cos`` between the turned source point and the target point.
    4. In the last rounds both may be kernel ridge maps (`kernel_map`), in which a pair counts ten times as much as an image.

    One search chooses for both directions, by cross-validation over the pairs. The pairs of a fold are taken out of both
    point clouds, since a stimulus to be predicted later has no partner among the points either.

    1. Lam and epsilon of the ridge family, each beside the first of the other and then both at their best, in two rounds on
       some 300 points a side. The first of each is kept unless others are better by more than one standard error of the
       difference, here and again over all linear rounds.
    2. The number of rounds and the readout, at this lam and epsilon and on at most 700 points a side; rotations, at lam 1
       and epsilon .1; and maps of the pairs alone: ridge and kernel ridge, Procrustes, a whitened map, ridge on spectral
       features of the neighbour graph, a decoder of the cosines to the pairs (`neurobridge.maps.whitened`,
       `neurobridge.maps.spectral`, `neurobridge.maps.relative`), and, where a side has up to 100 points, the average of the
       ridge, whitened, spectral and relative maps (`neurobridge.bridge.average`).
    3. Each direction takes its own candidate. The first one, ridge maps with the first number of rounds read through M, stays
       unless the best of the ridge family with a plan is better by one standard error, and that one stays unless the best
       of all others is better by two (where a side has up to 100 points, by two and by three): with few pairs the least of
       many losses is mostly chance. The average of maps is chosen unless it is worse by three standard errors, a self-trained
       rotation (``criterion="retrieval"``) unless it is worse by one. Ridge of the pairs needs one.

    Points whose n x m matrices would not fit into memory are cut into minibatches drawn along the factored plan of the bridge
    cost (`couple`; above 100,000 points a side, on 100,000 of them): every point draws an anchor from it, and the points of
    each anchor are dealt out evenly, so that a minibatch holds on both sides what the coarse plan sends over each anchor. The
    rounds run in the first minibatch, which holds all pairs, and go on with the images of several; then every minibatch is
    solved, all under one fused cost whose means are those of the first. Memory O((n + m) P). Their plans are of the ridge family.

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
        Source points, paired or not; numpy or torch. Centre them. Their unit does not matter; scaling dimensions one by one
        would inflate those that hardly vary.
    Y : array of shape (m, n_target_dims)
        Target points, likewise.
    pairs : tuple of two int arrays of shape (n_pairs,)
        Rows of X and of Y that show the same thing.
    metric, scale, n_neighbors : see `bridge_cost`
    lams, epsilons : sequences of float
        Candidate weights of the maps in [0, 1], and temperatures as fractions of the mean fused cost. The first of each is the
        one that others have to beat; up to twelve pairs it is taken, unless ``n_folds`` is given. Temperatures are by default
        those of the criterion: .02 comes first for "retrieval" and "labels", .05 for "correlation" and "error". It is .02 for
        these, too, where a plan has more than 700 points a side (and twice the pairs) and there are more than twelve pairs:
        candidates are compared on 700 points, among which a plan averages over fewer partners than among all.
    n_rounds : sequence of int
        Candidate numbers of linear rounds, at least 1. The first is the one that others have to beat.
    kernel_rounds : sequence of int
        Candidate numbers of curved rounds, which follow the most linear ones; (0,) for none, and for no kernel ridge on the
        pairs either.
    maps : sequence of {"ridge", "orthogonal", "whitened", "spectral", "relative", "average", "selftrained"}
        Families of maps that are compared, see `Candidate`; "ridge" is always among them, "selftrained" with
        ``criterion="retrieval"`` alone, "average" with "correlation" and at most 100 points on one of the sides. It needs
        "whitened", "spectral" and "relative" beside it.
    criterion : {"correlation", "error", "retrieval", "labels"}
        What a candidate is chosen for, on pairs that were held out:

        - "correlation": mean over dimensions of the correlation of predictions and truth, as a loss ``1 - r``.
        - "error": squared error, in units of the variance of the held-out points.
        - "retrieval": logarithm of the rank of the true partner by cosine, over that of the number of candidates, mean of both
          ways: held-out pairs and up to 1,000 unpaired points are looked through. Images are rescaled to spread as far from
          the centre as held-out points do (``FusedBridge.spreads``).
        - "labels": share of predictions that ``classifier`` gives another label than ``labels``, and the loss of "correlation",
          half of each: a handful of right and wrong answers alone says little. Source points have no classifier: the way
          back is chosen by correlation.
    classifier : callable, or object with ``predict``, optional
        With ``criterion="labels"``: fitted before, and frozen. From target points (n_points, n_target_dims), in the units of
        Y, to labels (n_points,).
    labels : array of shape (n_pairs,), optional
        With ``criterion="labels"``: the label of every pair, in the order of ``pairs``.
    sought_in : tuple of two callables, optional
        With ``criterion="retrieval"``: from source points and from target points, (n_points, n_dims), to the coordinates in which
        partners are sought by cosine; by default those of X and Y. Standardised points are taken back to their own units so.
    n_folds : int, optional
        Number of folds over the pairs. The default is five, of which the first are used that hold out 400 pairs together; up
        to twelve pairs it is one fold a pair (on at most 700 points), for the rounds, the readout and the family alone. With
        fewer than four pairs nothing is chosen: lam 0.9, epsilon 0.1, one round. Curved rounds, and rotations with a plan, are
        given up after any fold, from 20 held-out pairs on, that finds them behind by one standard error in both directions.
    tol : float
        L1 marginal error at which the last plan is accepted; ten times as much is accepted of the plans before it.
    seed : int
        Seed of the folds, of the centres of the curved map, and of the minibatches.
    candidate : Candidate, optional
        Use this candidate for both directions and choose nothing, so that ``lams``, ``epsilons``, ``n_rounds``,
        ``kernel_rounds``, ``maps`` and ``n_folds`` have no effect, and ``criterion`` none but that of "retrieval" on the spread.
    minibatch_size : int, "auto" or None
        Most points a side that are solved at once, at least twice the pairs: memory O(minibatch_size^2), time O((n + m)
        minibatch_size). None solves all points at once and refuses above ``memory_limit``. "auto" does so where they fit,
        otherwise it solves in minibatches of at most 2,000 points and warns.
    memory_limit : float
        Bytes the n x m matrices may take.
    readout_centres : int, "auto" or None
        Centres of a kernel map that is fitted to the mean partners of ten times as many points, and reads new points in place of
        the plan, some five times faster. None: the plan reads them. "auto": 1,000 where a plan in minibatches has more than 100,000
        points a side, and only if it explains .99 of the plan's readout by its leave-one-out error; ``FusedBridge.distilled``.
    distributed : bool
        Solve minibatches, refit the maps of the two directions and measure the geodesic distances of both spaces on the workers of
        the active dask client. Each is sent what it needs, so a worker that dies loses nothing. Other distances, the coarse plan
        and the search stay in this process, as does the result, which is that of one process.
    device : str, optional
        Where costs, plans and the maps of the rounds are computed; the device of X by default. Maps of the pairs alone are
        fitted on the CPU.

    Returns
    -------
    FusedBridge

    Raises
    ------
    MemoryError
        ``minibatch_size=None`` and the n x m matrices would not fit into ``memory_limit``, or minibatches that would not, or
        those that fit could not hold the pairs.
    ValueError
        Bad points or pairs, see `bridge_cost`; lam outside [0, 1], an epsilon that is not positive, an empty sequence of
        candidates, an unknown family of maps; an unknown criterion, "labels" without a classifier and one label a pair, or
        these without it; a candidate without rounds, with a readout that its rounds do not have, or of another family than ridge
        in minibatches; or minibatches smaller than twice the pairs. ``distributed=True`` without a client, without minibatches,
        or on another device than the CPU.
    ImportError
        ``distributed=True`` without the package ``distributed``.

    Warns
    -----
    MinibatchWarning
        ``minibatch_size="auto"`` solved in minibatches.
    ConvergenceWarning
        The last plan missed its tolerance.

    Notes
    -----
    The rounds work in the coordinates of the principal axes of both clouds, in float32, as nothing in them changes when a cloud
    is turned; what is kept is in the units of the points. How long they take: see docs/benchmarks.md.

    The choice rests on the pairs alone. With a dozen pairs or fewer single draws can come out below ridge, on simulated clouds
    and on recordings.

    References
    ----------
    The bridge cost: Gholamzadeh & Sajid 2025, *Model alignment using inter-modal bridges*. Penalties of the ridge maps in the
    rounds: Golub, Heath & Wahba 1979, Technometrics 21:215. The fused cost and its rounds are this package's own.

    Examples
    --------
    Two views of the same latents, of which ten points are known in both:

    >>> import numpy as np
    >>> from neurobridge.bridge import fuse
    >>> rng = np.random.default_rng(0)
    >>> latents = rng.normal(size=(80, 3))
    >>> X, Y = latents @ rng.normal(size=(3, 5)), latents @ rng.normal(size=(3, 4))
    >>> few = {"lams": (0.9,), "epsilons": (0.02,), "n_rounds": (1,), "kernel_rounds": (0,)}
    >>> fused = fuse(X, Y, (np.arange(10), np.arange(10)), maps=("ridge", "orthogonal"), **few)
    >>> sorted({(each.map, each.n_rounds) for each in fused.errors})
    [('orthogonal', 0), ('orthogonal', 5), ('ridge', 0), ('ridge', 1)]
    >>> error = ((fused.map(X) - Y) ** 2).mean() / Y.var()
    >>> bool(error < 0.05)
    True

    The way back comes with it:

    >>> fused.map_back(Y).shape
    (80, 5)
    """
    require_options(tol=tol, memory_limit=memory_limit, distributed=distributed)
    if not (readout_centres is None or is_choice(readout_centres, ("auto",)) or is_whole(readout_centres, 1)):
        raise ValueError(
            f"found readout_centres={readout_centres!r}; expected 'auto', None, or a whole number of at least 1. "
            "Mend: leave it out."
        )
    criterion = known_criterion(criterion)
    search = Search(
        lams, (1.0,) if epsilons is None else epsilons, n_rounds, kernel_rounds, maps, criterion, n_folds, _TOL_BEFORE * tol, seed,
    )  # fmt: skip
    candidate = None if candidate is None else check_candidate(candidate)
    geometry = Geometry(metric, scale, n_neighbors)
    if device is None and isinstance(X, torch.Tensor):
        device = X.device

    source, target = (in_memory(side, name=name) for side, name in ((X, "X"), (Y, "Y")))
    rows = check_rows(pairs, len(source), len(target))
    pair_labels = check_criterion(criterion, classifier, labels, len(rows[0]))
    size = check_minibatch_size(minibatch_size, source, target, rows, memory_limit)
    if epsilons is None:
        n_points = min(len(source), len(target), size or len(source))
        search = replace(search, epsilons=temperatures(criterion, n_points, len(rows[0])))
    if distributed:
        check_distributed_minibatches(size, minibatch_size, (len(source), len(target)), device)
    run = job_runner(distributed)
    # Distances in the precision of the points, maps in float64: a minibatch at a time, so that no cloud is copied whole.
    X, Y = (source, target) if size else (side.astype(np.float64, copy=False) for side in (source, target))
    bridges = rows if size is None else thinned(rows, (X, Y), geometry, memory_limit, seed)
    if size is not None and candidate is not None and candidate.map != "ridge":
        raise ValueError(
            f"found candidate={candidate!r} for a plan in minibatches of {size} points; expected map='ridge', the maps that "
            "minibatches are refitted with. Mend: minibatch_size=None, or map='ridge'."
        )
    # The rounds alternate between torch and numpy: two pools of threads that wait for each other take four times as long.
    what = f"a fused bridge of {len(X)} x {len(Y)} points"
    with threadpool_limits(limits=1, user_api="blas"), named_shortage(what, _SHORTAGE):
        cost = measured_cost(
            source, target, bridges, geometry, distributed=distributed and geometry.is_graph, memory_limit=memory_limit,
            device=device,
        )  # fmt: skip
        problem = FusedProblem(cost, X, Y, rows, (unit_of_cloud(X), unit_of_cloud(Y)))
        clouds = None if size is not None else CloudProblem.of(problem, seed)
        if candidate is None:
            search = replace(search, in_batches=size is not None)
            fewer = choosing_problem(problem, clouds, geometry, seed)
            choice = choose(fewer, search, held_pairs(fewer, classifier, pair_labels, sought_in))
        else:
            choice = Choice.given(candidate)
        solutions = _solve_both(problem, clouds, choice, size, tol, seed, run)
        states, back_states = (solution.states for solution in solutions)
        linear, forward = forward_maps(choice.candidates[0], problem, clouds, states[0], seed)
        backward = backward_map(choice.candidates[1], problem, clouds, back_states[0], seed)
    coupling = _coupling(solutions[0], choice.solved[0].epsilon, tol)
    missed = [each for each in zip(solutions, choice.solved, strict=True) if each[0].marginal_error > tol]
    if missed:
        solution, solved = missed[0]
        warnings.warn(
            f"found a marginal error of {solution.marginal_error:.2g} after {solution.n_iter} iterations at epsilon "
            f"{solved.epsilon}; expected {tol:.2g}. Mend: raise epsilon or tol.",
            ConvergenceWarning,
            stacklevel=3,
        )
    bridge = FusedBridge(
        *choice.candidates, *choice.errors, criterion, choice.screening, coupling, linear, forward, backward, (1.0, 1.0), size,
        states, back_states,
    )  # fmt: skip
    # Here, too: a second thread of BLAS costs more than it brings on a busy machine.
    with threadpool_limits(limits=1, user_api="blas"):
        bridge = _distilled(bridge, readout_centres, (X, Y), seed, run)
    return with_spreads(bridge, choice.spreads) if criterion == "retrieval" else bridge


def _distilled(bridge: FusedBridge, n_centres: int | str | None, clouds: Rows, seed: int, run: Runner) -> FusedBridge:
    """Let kernel maps read new points, where they are asked for, or where there are many points and they are as good."""
    if n_centres is None or n_centres != "auto":
        return bridge if n_centres is None else bridge.with_distilled(int(n_centres), clouds, seed, run=run)
    if bridge.minibatch_size is None or max(map(len, clouds)) <= _READ_BY_PLAN:
        return bridge
    return bridge.with_distilled(_CENTRES, clouds, seed, least=_LEAST_AGREEMENT, run=run)


def _solve_both(
    problem: FusedProblem,
    clouds: CloudProblem | None,
    choice: Choice,
    size: int | None,
    tol: float,
    seed: int,
    run: Runner,
) -> tuple[Solution, Solution]:
    """Solve the plan of the forward candidate and the maps of the backward one: one run where lam, epsilon and maps agree."""

    def solve(candidate: Candidate, *, whole: bool = True) -> Solution:
        if clouds is None:
            return _solve_in_batches(problem, candidate, size, tol, seed, whole=whole, run=run)
        return _solve(problem, clouds, candidate, tol)

    first, second = choice.solved
    forward = solve(first)
    return forward, forward if replace(second, readout=first.readout) == first else solve(second, whole=False)


def _solve(problem: FusedProblem, clouds: CloudProblem, candidate: Candidate, tol: float) -> Solution:
    """Run the rounds on all points at once."""
    *_, last = solve_rounds(clouds, candidate, tol, _TOL_BEFORE * tol)
    state = State.of_round(last, problem)
    plan = DensePlan(state.matrix(problem.bridge()))
    return Solution([state], plan, state.cost, state.plan.n_iter, state.plan.marginal_error)


def _solve_in_batches(
    problem: FusedProblem,
    candidate: Candidate,
    size: int | None,
    tol: float,
    seed: int,
    *,
    whole: bool,
    run: Runner,
) -> Solution:
    """Run the rounds on the first minibatch, and then solve all, or those that map new points."""
    assert size is not None
    batches = deal(problem, size, np.random.default_rng(seed))
    first = problem.subset(*batches[0]) if len(batches) > 1 else problem
    state = State.of_round([*solve_rounds(CloudProblem.of(first, seed), candidate, tol, _TOL_BEFORE * tol)][-1], first)
    if len(batches) > 1:
        return complete(problem, state, batches, tol, seed, whole=whole, run=run)
    plan = DensePlan(state.matrix(first.bridge()))
    return Solution([state], plan, state.cost, state.plan.n_iter, state.plan.marginal_error)


def _coupling(solution: Solution, epsilon: float, tol: float) -> Coupling:
    n, m = solution.cost.shape
    return Coupling(
        cost=solution.cost,
        plan=solution.plan,
        method="fused",
        epsilon=epsilon,
        unbalanced=None,
        a=np.full(n, 1 / n),
        b=np.full(m, 1 / m),
        converged=solution.marginal_error <= tol,
        n_iter=solution.n_iter,
        marginal_error=solution.marginal_error,
    )
