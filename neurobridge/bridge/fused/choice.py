"""What a fused bridge is chosen by: cross-validation over the pairs, in two stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.bridge.fused.rounds import Penalties, Problem, State, solve
from neurobridge.maps.kernel import KernelMap, kernel_map
from neurobridge.maps.linear import LinearMap, ridge_map
from neurobridge.points.arrays import Rows

# Rounds and readouts are compared on at most this many points a side, lam and epsilon before them on fewer and in few rounds.
_CHOOSING_POINTS = 1000
_SCREENING_POINTS = 400
# (rounds, how many lam and epsilon go that far): successive halving.
_SCREENING = ((3, 4), (10, 2))
_SCREENING_TOL = 3.0
# Standard errors by which another lam and epsilon has to beat the first.
_BEYOND = 2.0
# As many folds as it takes to leave out this many pairs.
_SCREENING_PAIRS = 60
# Distances are measured anew without each fold's points: above this many points a side, among a random part of them.
_MEASURED_POINTS = 10_000
N_FOLDS = 5
# Up to this many pairs one is left out at a time: ridge on a dozen pairs loses more to every one that is missing than the fused
# bridge does. There are more folds then; the rounds run on fewer points in each, which costs as much. So few pairs cannot choose
# among sixteen: the first lam and epsilon are taken.
_ONE_AT_A_TIME = 12
_FEWER_POINTS = 700

Readout = Literal["barycentric", "linear", "kernel", "mean"]
AnyMap = LinearMap | KernelMap
Measure = Callable[[np.ndarray, np.ndarray, Rows], BridgeCost]
Path = tuple[float, float]


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


class Search(NamedTuple):
    """What cross-validation tries; the first lam and the first epsilon are those that others have to beat."""

    lams: Sequence[float]
    epsilons: Sequence[float]
    n_rounds: list[int]
    kernel_rounds: list[int]
    tol: float
    seed: int


class Fold(NamedTuple):
    """A problem without the points of some pairs, and these pairs: their numbers, source points and target points."""

    held: np.ndarray
    whole: Problem
    new: np.ndarray
    truth: np.ndarray


class Chosen(NamedTuple):
    """Mean squared error of held-out pairs over the variance of the paired targets: of lam and epsilon, of candidates."""

    screening: dict[Path, float]
    errors: dict[Candidate, float]


def read(states: Sequence[State], forward: AnyMap, readout: Readout, X_new: np.ndarray) -> np.ndarray:
    """Map points by a readout; the barycentric one is the mean over states, which were solved on different points."""
    if readout in ("linear", "kernel"):
        return forward(X_new)
    image = np.mean([state.barycentric(X_new) for state in states], axis=0)
    return image if readout == "barycentric" else (image + forward(X_new)) / 2


def some_rows(n: int, paired: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """All paired points and a random choice of others, up to ``size``; sorted."""
    paired = np.unique(paired)
    others = np.setdiff1d(np.arange(n), paired)
    return np.sort(np.concatenate([paired, rng.permutation(others)[: max(0, size - len(paired))]]))


def _subset(problem: Problem, size: int, rng: np.random.Generator) -> Problem:
    return problem.subset(
        some_rows(len(problem.X), problem.rows[0], size, rng), some_rows(len(problem.Y), problem.rows[1], size, rng)
    )


def choose(X: np.ndarray, Y: np.ndarray, rows: Rows, search: Search, n_folds: int | None, measure: Measure) -> Chosen:
    """Compare lam and epsilon by successive halving, then the rounds and readouts of the best, ridge and kernel ridge."""
    rng = np.random.default_rng(search.seed)
    n_pairs = len(rows[0])
    n_points = _CHOOSING_POINTS
    first = search.lams[0], search.epsilons[0]
    screening: dict[Path, float] = {}
    best = first
    singly = n_folds is None and n_pairs <= _ONE_AT_A_TIME
    if singly:
        n_points = _FEWER_POINTS
        folds = list(_folds(X, Y, rows, n_pairs, 2 * n_points, rng, measure))
    else:
        folds = list(_folds(X, Y, rows, min(n_folds or N_FOLDS, n_pairs), _MEASURED_POINTS, rng, measure))
        if max(len(search.lams), len(search.epsilons)) > 1 and folds:
            best, screening = _screen(folds, search, n_pairs, rng)
    if not folds:
        return Chosen({}, {})
    # The same points for both: what is compared is lam and epsilon.
    problems = [_subset(fold.whole, n_points, rng) for fold in folds]
    runs = {path: _path_errors(folds, problems, path, search, n_pairs) for path in dict.fromkeys((first, best))}
    if len(runs) > 1:
        # A few rounds on few points told them apart; all rounds on more points have to confirm it.
        ends = [min(found.values(), key=np.nanmean) for found in runs.values()]
        del runs[first if beats(ends[1], ends[0]) else best]
    (found,) = runs.values()
    errors = _pair_errors(folds, search, n_pairs) | found
    variance = float(((Y[rows[1]] - Y[rows[1]].mean(axis=0)) ** 2).sum(axis=1).mean()) or 1.0
    return Chosen(
        {path: error / variance for path, error in screening.items()},
        {candidate: float(np.nanmean(found)) / variance for candidate, found in errors.items()},
    )


def _kept(rows: Rows, held: np.ndarray) -> np.ndarray:
    """Pairs that share no point with those held out."""
    i, j = rows
    kept = np.setdiff1d(np.arange(len(i)), held)
    return kept[~np.isin(i[kept], i[held]) & ~np.isin(j[kept], j[held])]


def _folds(
    X: np.ndarray, Y: np.ndarray, rows: Rows, n_folds: int, n_points: int, rng: np.random.Generator, measure: Measure
) -> Iterator[Fold]:
    i, j = rows
    order = rng.permutation(len(i))
    for held in np.array_split(order, max(2, n_folds)):
        kept = _kept(rows, held)
        if len(kept) < 2:
            continue
        # A stimulus to be predicted later has no partner among the points either: the held-out points leave both clouds.
        left = np.setdiff1d(some_rows(len(X), i[kept], n_points, rng), i[held])
        right = np.setdiff1d(some_rows(len(Y), j[kept], n_points, rng), j[held])
        inner = np.searchsorted(left, i[kept]), np.searchsorted(right, j[kept])
        yield Fold(held, Problem(measure(X[left], Y[right], inner), X[left], Y[right], inner), X[i[held]], Y[j[held]])


def _pair_errors(folds: list[Fold], search: Search, n_pairs: int) -> dict[Candidate, np.ndarray]:
    """Squared errors, one a pair, of ridge and kernel ridge."""
    errors = {RIDGE: np.full(n_pairs, np.nan)}
    if search.kernel_rounds[-1]:
        errors[KERNEL_RIDGE] = np.full(n_pairs, np.nan)
    for fold in folds:
        i, j = fold.whole.rows
        ends = fold.whole.X[i], fold.whole.Y[j]
        for candidate, found in errors.items():
            fit: AnyMap = (
                ridge_map(*ends, penalty="shared") if candidate == RIDGE else kernel_map(*ends, seed=search.seed)
            )
            found[fold.held] = _squares(fit(fold.new), fold.truth)
    return errors


def _squares(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return ((predicted - truth) ** 2).sum(axis=1)


def _screen(
    folds: list[Fold], search: Search, n_pairs: int, rng: np.random.Generator
) -> tuple[Path, dict[Path, float]]:
    """The best lam and epsilon on few points: each of both for one round, the best of these for more.

    The first path stays unless another's error is lower by more than two standard errors of the difference over pairs: with a
    dozen pairs the least of many errors is mostly the luckiest.
    """
    few = int((np.cumsum([len(fold.held) for fold in folds]) < _SCREENING_PAIRS).sum()) + 1
    folds = folds[:few]
    # Twice the pairs at least: without other points there is nothing to align.
    problems = [_subset(f.whole, max(_SCREENING_POINTS, 2 * len(f.whole.rows[0])), rng) for f in folds]
    bridges = [problem.bridge() for problem in problems]
    runs: dict[Path, list[Iterator[State]]] = {}
    errors: dict[Path, np.ndarray] = {}
    # Potentials go from one temperature to the next of the same cost, and the search for penalties from where the first ended.
    warm: dict[tuple[float, int], torch.Tensor] = {}
    penalties: list[Penalties] = [(None, None)] * len(folds)
    most = _SCREENING[-1][0]
    tols = _SCREENING_TOL * search.tol, _SCREENING_TOL * search.tol

    def go(path: Path, n_rounds: int) -> None:
        """Go on by some rounds, and note the errors of the best readout."""
        lam, epsilon = path
        found: dict[Readout, np.ndarray] = {}
        new = path not in runs
        for k, fold in enumerate(folds):
            if new:
                start = warm.get((lam, k))
                runs.setdefault(path, []).append(
                    solve(
                        problems[k], bridges[k], lam, epsilon, most, 0, tols, search.seed,
                        None if start is None else start / epsilon, penalties[k],
                    )
                )  # fmt: skip
            for _ in range(n_rounds):
                state = next(runs[path][k])
            if new:
                warm[lam, k], penalties[k] = state.plan.log_v * epsilon, state.penalties
            for readout in ("barycentric", "linear", "mean"):
                values = found.setdefault(readout, np.full(n_pairs, np.nan))
                values[fold.held] = _squares(read([state], state.forward, readout, fold.new), fold.truth)
        errors[path] = min(found.values(), key=np.nanmean)

    def mean_error(path: Path) -> float:
        return float(np.nanmean(errors[path]))

    # One after the other, then both at their best.
    first = search.lams[0], search.epsilons[0]
    for path in dict.fromkeys([(lam, first[1]) for lam in search.lams] + [(first[0], e) for e in search.epsilons]):
        go(path, 1)
    both = (
        min(search.lams, key=lambda lam: mean_error((lam, first[1]))),
        min(search.epsilons, key=lambda epsilon: mean_error((first[0], epsilon))),
    )
    if both not in errors:
        go(both, 1)
    alive, done = list(errors), 1
    for rounds, n_alive in _SCREENING:
        ranked = sorted(alive, key=mean_error)
        alive = [path for path in alive if path in ranked[:n_alive] or path == first]
        for path in alive:
            go(path, rounds - done)
        done = rounds
    best = min(alive, key=mean_error)
    return best if beats(errors[best], errors[first]) else first, {path: mean_error(path) for path in errors}


def beats(errors: np.ndarray, those_of_first: np.ndarray) -> bool:
    """Whether errors, one a pair and NaN where none was left out, are lower by two standard errors of the difference."""
    gain = (those_of_first - errors)[~np.isnan(errors)]
    return len(gain) > 1 and bool(gain.mean() > _BEYOND * gain.std(ddof=1) / math.sqrt(len(gain)))


def _path_errors(
    folds: list[Fold], problems: list[Problem], path: Path, search: Search, n_pairs: int
) -> dict[Candidate, np.ndarray]:
    """Squared errors, one a pair, of all rounds and readouts at one lam and epsilon."""
    errors: dict[Candidate, np.ndarray] = {}
    lam, epsilon = path
    most = search.n_rounds[-1]
    for fold, problem in zip(folds, problems, strict=True):
        states = solve(
            problem,
            problem.bridge(),
            lam,
            epsilon,
            most,
            search.kernel_rounds[-1],
            (search.tol, search.tol),
            search.seed,
        )
        for count, state in enumerate(states, start=1):
            linear, curved = min(count, most), max(0, count - most)
            if not (linear in search.n_rounds if not curved else curved in search.kernel_rounds):
                continue
            if count == most and 0 not in search.kernel_rounds:
                continue
            readouts: tuple[Readout, ...] = ("barycentric", "kernel" if curved else "linear", "mean")
            for readout in readouts:
                found = errors.setdefault(Candidate(lam, epsilon, linear, readout, curved), np.full(n_pairs, np.nan))
                found[fold.held] = _squares(read([state], state.forward, readout, fold.new), fold.truth)
    return errors
