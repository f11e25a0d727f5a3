"""The choice of a candidate: cross-validation over the pairs, in two stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.fused.candidate import KERNEL_RIDGE, RIDGE, Candidate, Readout, readouts_of
from neurobridge.bridge.fused.cost import AnyMap, FusedProblem
from neurobridge.bridge.fused.rounds import RoundSettings, State, WarmStart, predict, solve
from neurobridge.maps.kernel import kernel_map
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
_N_FOLDS = 5
_FEWEST_PAIRS = 4
# Up to this many pairs one is left out at a time: ridge on a dozen pairs loses more to every one that is missing than the fused
# bridge does. There are more folds then; the rounds run on fewer points in each, which costs as much. So few pairs cannot choose
# among sixteen: the first lam and epsilon are taken.
_ONE_AT_A_TIME = 12
_FEWER_POINTS = 700
# The candidate where there are too few pairs to choose with.
_DEFAULT = Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="barycentric")

#: Makes the problem of some points and their pairs.
Pose = Callable[[np.ndarray, np.ndarray, Rows], FusedProblem]
#: A point of the grid: lam and epsilon.
GridPoint = tuple[float, float]


@dataclass(frozen=True)
class Search:
    """The candidates that cross-validation compares, and how.

    Attributes
    ----------
    lams, epsilons : sequences of float
        The first of each is the one that others have to beat.
    n_rounds, kernel_rounds : sequences of int
        Numbers of linear rounds, and of curved rounds after the most linear ones.
    n_folds : int or None
        Folds over the pairs; None leaves it to the number of pairs.
    tol : float
        Marginal error of the plans.
    seed : int
        Seed of the folds, of the points they keep and of the centres of curved maps.

    Raises
    ------
    ValueError
        An empty sequence, lam outside [0, 1], an epsilon that is not positive, or rounds below their least number.
    """

    lams: Sequence[float]
    epsilons: Sequence[float]
    n_rounds: Sequence[int]
    kernel_rounds: Sequence[int]
    n_folds: int | None
    tol: float
    seed: int

    def __post_init__(self) -> None:
        empty = not (self.lams and self.epsilons and self.n_rounds and self.kernel_rounds)
        if (
            empty
            or not all(0 <= lam <= 1 for lam in self.lams)
            or min(self.epsilons) <= 0
            or min(self.n_rounds) < 1
            or min(self.kernel_rounds) < 0
        ):
            raise ValueError(
                f"found lams={tuple(self.lams)}, epsilons={tuple(self.epsilons)}, n_rounds={tuple(self.n_rounds)}, "
                f"kernel_rounds={tuple(self.kernel_rounds)}; expected at least one of each, lam in [0, 1], epsilon above 0, "
                "linear rounds of at least 1 and curved ones of at least 0. Mend: leave them out for the defaults."
            )

    @property
    def first(self) -> GridPoint:
        """The lam and epsilon that others have to beat."""
        return self.lams[0], self.epsilons[0]

    @property
    def rounds(self) -> RoundSettings:
        """Settings of the rounds on the folds."""
        return RoundSettings(tol=self.tol, tol_before=self.tol, seed=self.seed)

    def longest(self, point: GridPoint) -> Candidate:
        """Return the candidate that goes through all rounds at a lam and epsilon."""
        lam, epsilon = point
        return Candidate(
            lam=lam,
            epsilon=epsilon,
            n_rounds=max(self.n_rounds),
            readout="barycentric",
            kernel_rounds=max(self.kernel_rounds),
        )

    def holds(self, n_rounds: int, kernel_rounds: int) -> bool:
        """Return True if a number of linear and curved rounds is among the candidates."""
        if kernel_rounds:
            return kernel_rounds in self.kernel_rounds
        # The most linear rounds alone are a candidate only where no curved round is one.
        return n_rounds in self.n_rounds and (n_rounds < max(self.n_rounds) or 0 in self.kernel_rounds)


class Choice(NamedTuple):
    """A chosen candidate and the errors it was chosen by.

    Errors are mean squared errors of held-out pairs over the variance of the paired targets.

    Attributes
    ----------
    candidate : Candidate
        The candidate of least error.
    solved : Candidate
        The one whose plan is solved: the best with a plan, as a map of the pairs alone has none.
    errors : dict of Candidate to float
        Empty if nothing was compared.
    screening : dict of (lam, epsilon) to float
        Errors on few points and in few rounds.
    """

    candidate: Candidate
    solved: Candidate
    errors: dict[Candidate, float]
    screening: dict[GridPoint, float]

    @classmethod
    def given(cls, candidate: Candidate) -> Choice:
        """Return the choice of a candidate that was compared with none."""
        return cls(candidate, candidate, {}, {})

    @classmethod
    def of_errors(cls, errors: dict[Candidate, float], screening: dict[GridPoint, float]) -> Choice:
        """Return the choice of the candidate of least error."""
        with_plan = [candidate for candidate in errors if candidate.n_rounds]
        candidate = min(errors, key=lambda candidate: errors[candidate])
        solved = min(with_plan, key=lambda candidate: errors[candidate])
        return cls(candidate, solved, errors, screening)


class Fold(NamedTuple):
    """A problem without the points of some pairs, and these pairs.

    Attributes
    ----------
    held : int array of shape (n_held,)
        Numbers of the pairs held out.
    problem : FusedProblem
        The points and pairs that are fitted on.
    held_source, held_target : arrays of shape (n_held, n_dims)
        Source points and target points of the pairs held out.
    """

    held: np.ndarray
    problem: FusedProblem
    held_source: np.ndarray
    held_target: np.ndarray

    def squared_errors(self, predicted: np.ndarray) -> np.ndarray:
        """Squared error of the prediction of every held-out target, shape (n_held,)."""
        return ((predicted - self.held_target) ** 2).sum(axis=1)


def choose(X: np.ndarray, Y: np.ndarray, rows: Rows, search: Search, pose: Pose) -> Choice:
    """Compare lam and epsilon by successive halving, then the rounds and readouts of the best, ridge and kernel ridge.

    Parameters
    ----------
    X : float64 array of shape (n, n_source_dims)
    Y : float64 array of shape (m, n_target_dims)
    rows : tuple of two int arrays of shape (n_pairs,)
    search : Search
    pose : callable
        From points, points and pairs to their problem.

    Returns
    -------
    Choice
        Lam 0.9, epsilon 0.1 and one round, without errors, where there are too few pairs to choose with.
    """
    rng = np.random.default_rng(search.seed)
    n_pairs = len(rows[0])
    if n_pairs < _FEWEST_PAIRS:
        return Choice.given(_DEFAULT)
    screening: dict[GridPoint, float] = {}
    best = search.first
    if search.n_folds is None and n_pairs <= _ONE_AT_A_TIME:
        n_points = _FEWER_POINTS
        folds = list(make_folds(X, Y, rows, n_pairs, 2 * n_points, rng, pose))
    else:
        n_points = _CHOOSING_POINTS
        n_folds = min(search.n_folds or _N_FOLDS, n_pairs)
        folds = list(make_folds(X, Y, rows, n_folds, _MEASURED_POINTS, rng, pose))
        if max(len(search.lams), len(search.epsilons)) > 1 and folds:
            best, screening = _Screening(folds, search, n_pairs, rng).run()
    if not folds:
        return Choice.given(_DEFAULT)
    # The same points for both: the comparison is of lam and epsilon.
    problems = [_subset(fold.problem, n_points, rng) for fold in folds]
    errors_at = {
        point: _errors_of_rounds(folds, problems, search, point, n_pairs)
        for point in dict.fromkeys((search.first, best))
    }
    if len(errors_at) > 1:
        # A few rounds on few points told them apart; all rounds on more points have to confirm it.
        of_first, of_best = (min(errors.values(), key=np.nanmean) for errors in errors_at.values())
        del errors_at[search.first if beats(of_best, of_first) else best]
    (errors_of_rounds,) = errors_at.values()
    pair_errors = _errors_of_pair_maps(folds, search, n_pairs) | errors_of_rounds
    variance = float(((Y[rows[1]] - Y[rows[1]].mean(axis=0)) ** 2).sum(axis=1).mean()) or 1.0
    return Choice.of_errors(
        {candidate: float(np.nanmean(errors)) / variance for candidate, errors in pair_errors.items()},
        {point: error / variance for point, error in screening.items()},
    )


def beats(errors: np.ndarray, errors_of_first: np.ndarray) -> bool:
    """Return True if errors are lower than those of the first by more than two standard errors of the difference.

    Both have one value a pair, NaN where a pair was not held out.
    """
    gain = (errors_of_first - errors)[~np.isnan(errors)]
    return len(gain) > 1 and bool(gain.mean() > _BEYOND * gain.std(ddof=1) / math.sqrt(len(gain)))


def make_folds(
    X: np.ndarray, Y: np.ndarray, rows: Rows, n_folds: int, n_points: int, rng: np.random.Generator, pose: Pose
) -> Iterator[Fold]:
    """Hold out every pair once; its points leave both clouds.

    A stimulus to be predicted later has no partner among the points either.
    """
    i, j = rows
    order = rng.permutation(len(i))
    for held in np.array_split(order, max(2, n_folds)):
        kept = _pairs_apart(rows, held)
        if len(kept) < 2:
            continue
        source_rows = np.setdiff1d(_some_rows(len(X), i[kept], n_points, rng), i[held])
        target_rows = np.setdiff1d(_some_rows(len(Y), j[kept], n_points, rng), j[held])
        pairs = np.searchsorted(source_rows, i[kept]), np.searchsorted(target_rows, j[kept])
        source, target = X[source_rows], Y[target_rows]
        yield Fold(held, pose(source, target, pairs), X[i[held]], Y[j[held]])


def _pairs_apart(rows: Rows, held: np.ndarray) -> np.ndarray:
    """Pairs that share no point with those held out."""
    i, j = rows
    kept = np.setdiff1d(np.arange(len(i)), held)
    return kept[~np.isin(i[kept], i[held]) & ~np.isin(j[kept], j[held])]


def _some_rows(n: int, paired: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """All paired points and a random choice of others, up to ``size``; sorted."""
    paired = np.unique(paired)
    others = np.setdiff1d(np.arange(n), paired)
    return np.sort(np.concatenate([paired, rng.permutation(others)[: max(0, size - len(paired))]]))


def _subset(problem: FusedProblem, size: int, rng: np.random.Generator) -> FusedProblem:
    return problem.subset(
        _some_rows(len(problem.X), problem.rows[0], size, rng), _some_rows(len(problem.Y), problem.rows[1], size, rng)
    )


class _Screening:
    """Comparison of lam and epsilon on few points and in few rounds, by successive halving.

    Potentials go from one temperature to the next of the same lam, and the search for ridge penalties from where it ended before.
    """

    def __init__(self, folds: list[Fold], search: Search, n_pairs: int, rng: np.random.Generator) -> None:
        n_held = np.cumsum([len(fold.held) for fold in folds])
        self.folds = folds[: int((n_held < _SCREENING_PAIRS).sum()) + 1]
        self.search, self.n_pairs = search, n_pairs
        # Twice the pairs at least: without other points there is nothing to align.
        self.problems = [
            _subset(fold.problem, max(_SCREENING_POINTS, 2 * len(fold.problem.rows[0])), rng) for fold in self.folds
        ]
        self.bridges = [problem.bridge() for problem in self.problems]
        self.starts = [WarmStart() for _ in self.folds]
        # Potentials in units of the cost, by lam and fold.
        self.potentials: dict[tuple[float, int], torch.Tensor] = {}
        self.runs: dict[GridPoint, list[Iterator[State]]] = {}
        self.errors: dict[GridPoint, np.ndarray] = {}

    def run(self) -> tuple[GridPoint, dict[GridPoint, float]]:
        """Return the best lam and epsilon, and the mean errors of all.

        Each lam beside the first epsilon and each epsilon beside the first lam go through one round, then both at their best;
        the best of these go on. The first point stays unless the error of the best is lower by more than two standard errors
        of the difference over pairs: with a dozen pairs the least of many cross-validation errors is mostly chance.
        """
        lams, epsilons, first = self.search.lams, self.search.epsilons, self.search.first
        points = [(lam, first[1]) for lam in lams] + [(first[0], epsilon) for epsilon in epsilons]
        for point in dict.fromkeys(points):
            self.advance(point, 1)
        both = (
            min(lams, key=lambda lam: self.mean_error((lam, first[1]))),
            min(epsilons, key=lambda epsilon: self.mean_error((first[0], epsilon))),
        )
        if both not in self.errors:
            self.advance(both, 1)
        alive, n_done = list(self.errors), 1
        for n_rounds, n_alive in _SCREENING:
            ranked = sorted(alive, key=self.mean_error)
            alive = [point for point in alive if point in ranked[:n_alive] or point == first]
            for point in alive:
                self.advance(point, n_rounds - n_done)
            n_done = n_rounds
        best = min(alive, key=self.mean_error)
        chosen = best if beats(self.errors[best], self.errors[first]) else first
        return chosen, {point: self.mean_error(point) for point in self.errors}

    def advance(self, point: GridPoint, n_rounds: int) -> None:
        """Go on by some rounds on every fold, and note the errors of the best readout."""
        is_new = point not in self.runs
        if is_new:
            self.runs[point] = [self._started(point, k) for k in range(len(self.folds))]
        errors: dict[Readout, np.ndarray] = {readout: np.full(self.n_pairs, np.nan) for readout in readouts_of(0)}
        for k, fold in enumerate(self.folds):
            for _ in range(n_rounds):
                state = next(self.runs[point][k])
            if is_new:
                lam, epsilon = point
                self.potentials[lam, k] = state.plan.log_v * epsilon
                self.starts[k] = replace(self.starts[k], penalties=state.penalties)
            for readout, values in errors.items():
                predicted = predict([state], state.forward, readout, fold.held_source)
                values[fold.held] = fold.squared_errors(predicted)
        self.errors[point] = min(errors.values(), key=np.nanmean)

    def mean_error(self, point: GridPoint) -> float:
        return float(np.nanmean(self.errors[point]))

    def _started(self, point: GridPoint, k: int) -> Iterator[State]:
        lam, epsilon = point
        potential = self.potentials.get((lam, k))
        start = replace(self.starts[k], log_v=None if potential is None else potential / epsilon)
        candidate = replace(self.search.longest(point), n_rounds=_SCREENING[-1][0], kernel_rounds=0)
        tol = _SCREENING_TOL * self.search.tol
        settings = replace(self.search.rounds, tol=tol, tol_before=tol)
        return solve(self.problems[k], candidate, settings, bridge=self.bridges[k], start=start)


def _errors_of_pair_maps(folds: list[Fold], search: Search, n_pairs: int) -> dict[Candidate, np.ndarray]:
    """Squared errors, one a pair, of ridge and kernel ridge on the pairs alone."""
    candidates = (RIDGE, KERNEL_RIDGE) if max(search.kernel_rounds) else (RIDGE,)
    errors = {candidate: np.full(n_pairs, np.nan) for candidate in candidates}
    for fold in folds:
        i, j = fold.problem.rows
        source, target = fold.problem.X[i], fold.problem.Y[j]
        for candidate, values in errors.items():
            pair_map: AnyMap
            if candidate == RIDGE:
                pair_map = fold.problem.ridge_forward(source, target)
            else:
                pair_map = kernel_map(source, target, seed=search.seed)
            values[fold.held] = fold.squared_errors(pair_map(fold.held_source))
    return errors


def _errors_of_rounds(
    folds: list[Fold], problems: list[FusedProblem], search: Search, point: GridPoint, n_pairs: int
) -> dict[Candidate, np.ndarray]:
    """Squared errors, one a pair, of all rounds and readouts at one lam and epsilon."""
    errors: dict[Candidate, np.ndarray] = {}
    longest = search.longest(point)
    for fold, problem in zip(folds, problems, strict=True):
        for number, state in enumerate(solve(problem, longest, search.rounds), start=1):
            n_rounds, kernel_rounds = min(number, longest.n_rounds), max(0, number - longest.n_rounds)
            if not search.holds(n_rounds, kernel_rounds):
                continue
            for readout in readouts_of(kernel_rounds):
                candidate = replace(longest, n_rounds=n_rounds, readout=readout, kernel_rounds=kernel_rounds)
                values = errors.setdefault(candidate, np.full(n_pairs, np.nan))
                values[fold.held] = fold.squared_errors(predict([state], state.forward, readout, fold.held_source))
    return errors
