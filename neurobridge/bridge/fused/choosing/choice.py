"""The choice of a candidate: cross-validation over the pairs, in both directions at once."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.fused.candidate import AVERAGE, RIDGE, SELF_TRAINED, Candidate
from neurobridge.bridge.fused.choosing.criteria import Criterion, Held, losses
from neurobridge.bridge.fused.choosing.folds import Fold, enough_folds, fewer_points, make_folds
from neurobridge.bridge.fused.choosing.ledger import (
    FEW_POINTS,
    Ledger,
    PairMapSettings,
    note_pair_maps,
    note_readouts,
    note_rounds,
)
from neurobridge.bridge.fused.choosing.search import GridPoint, Search
from neurobridge.bridge.fused.solving.families import CloudProblem
from neurobridge.bridge.fused.solving.rounds import Round, linear_rounds, solve_rounds
from neurobridge.points.progress import progress_bar

_LOG = logging.getLogger(__name__)

# Rounds and readouts are compared on at most this many points a side, lam and epsilon before them on fewer and in few rounds.
_CHOOSING_POINTS = 700
_SCREENING_POINTS = 300
_SCREENING_ROUNDS = 2
_SCREENING_TOL = 3.0
# As many folds as it takes to leave out this many pairs, in the screening and afterwards.
_SCREENING_PAIRS, _CHOOSING_PAIRS = 60, 400
# From so many held-out pairs on, rounds that are behind by more standard errors than this in both directions are given up.
_RACE_PAIRS, _BEHIND = 20, 1.0
# Standard errors by which another family of maps has to beat that of the first candidate.
_BEYOND = 2.0
# And another lam and epsilon, or another number of rounds or readout of the same plan.
_BEYOND_IN_FAMILY = 1.0
# One more for either choice where there are few points.
_MORE_AMONG_FEW = 1.0
_N_FOLDS = 5
_FEWEST_PAIRS = 4
# Up to this many pairs one is left out at a time: ridge on a dozen pairs loses more to every one that is missing than the fused
# bridge does. So few pairs cannot choose among sixteen: the first lam and epsilon are taken.
_ONE_AT_A_TIME = 12
# The first is the one that others have to beat: sharp plans find partners, soft ones average noise away.
_SOFT, _SHARP = (0.05, 0.02, 0.1, 0.01), (0.02, 0.05, 0.1, 0.01)
# The candidate where there are too few pairs to choose with.
_DEFAULT = Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="barycentric")
# Plans of orthogonal and whitened maps: the cost is how far the rotation misses alone, by the cosine.
_TURNED = Candidate(lam=1.0, epsilon=0.1, n_rounds=5, readout="linear", map="orthogonal")

#: Losses of held-out pairs, NaN where a pair was not held out, by candidate.
PairLosses = dict[Candidate, np.ndarray]


class Choice(NamedTuple):
    """The chosen candidates and the losses they were chosen by.

    Attributes
    ----------
    candidates : tuple of two Candidate
        Forward and backward.
    solved : tuple of two Candidate
        Those whose plans are solved: the best with a plan, as a map of the pairs alone has none.
    errors : tuple of two dict of Candidate to float
        Mean loss of held-out pairs under the criterion; empty if nothing was compared.
    screening : dict of (lam, epsilon) to float
        Mean loss over both directions, on few points and in few rounds.
    spreads : tuple of two float, optional
        Factors by which held-out predictions of the chosen candidates spread as far as their truths.
    """

    candidates: tuple[Candidate, Candidate]
    solved: tuple[Candidate, Candidate]
    errors: tuple[dict[Candidate, float], dict[Candidate, float]]
    screening: dict[GridPoint, float]
    spreads: tuple[float, float] | None = None

    @classmethod
    def given(cls, candidate: Candidate) -> Choice:
        """Return the choice of a candidate that was compared with none."""
        return cls((candidate, candidate), (candidate, candidate), ({}, {}), {})

    @classmethod
    def of_losses(
        cls,
        by_direction: Sequence[PairLosses],
        first: Candidate,
        screening: dict[GridPoint, float],
        n_points: float = math.inf,
    ) -> Choice:
        """Return the choice by losses, the first candidate preferred."""
        chosen, solved, errors = [], [], []
        for pair_losses in by_direction:
            candidate = pick(pair_losses, first, n_points)
            with_plan = {each: values for each, values in pair_losses.items() if each.n_rounds}
            chosen.append(candidate)
            solved.append(candidate if candidate.n_rounds else pick(with_plan, first, n_points))
            errors.append({each: float(np.nanmean(values)) for each, values in pair_losses.items()})
        return cls(tuple(chosen), tuple(solved), tuple(errors), screening)  # type: ignore[arg-type]


def temperatures(criterion: Criterion, n_points: int, n_pairs: int) -> tuple[float, ...]:
    """Return the candidate temperatures of a criterion; the first is the one that others have to beat.

    Among more points than candidates are compared on, the plan at one temperature averages over more partners than the comparison
    shows, so that a sharper one comes first. Up to twelve pairs a soft one does.

    Parameters
    ----------
    criterion : {"correlation", "error", "retrieval", "labels"}
    n_points : int
        Points of a plan on its smaller side, pairs included.
    n_pairs : int
    """
    has_more = n_points > max(_CHOOSING_POINTS, 2 * n_pairs)
    return _SHARP if criterion in ("labels", "retrieval") or (has_more and n_pairs > _ONE_AT_A_TIME) else _SOFT


def pick(pair_losses: PairLosses, first: Candidate | None = None, n_points: float = math.inf) -> Candidate:
    """Return the candidate to use.

    With few pairs the least of many cross-validation losses is mostly chance. So the first candidate stays unless the best of
    its family (same lam, epsilon and maps, other rounds or readout) has a lower loss by more than one standard error of the
    difference over pairs, and this one stays unless the best of all others has one by more than two. Either margin is one wider
    where there are few points, whose plans differ by chance. An average of maps of the pairs, which is a candidate there, replaces
    what was chosen unless its loss is higher by more than three standard errors, and a self-trained rotation unless its loss is
    higher by more than one. Ridge of the pairs replaces either if its loss is lower by more than one.

    Parameters
    ----------
    pair_losses : dict of Candidate to array of shape (n_pairs,)
    first : Candidate, optional
        By default nothing is preferred.
    n_points : float
        Points of a plan on its smaller side, pairs included.
    """

    def best(candidates: Sequence[Candidate]) -> Candidate:
        return min(candidates, key=lambda candidate: float(np.nanmean(pair_losses[candidate])))

    if first is None or first not in pair_losses:
        return best(list(pair_losses))
    more = _MORE_AMONG_FEW if n_points <= FEW_POINTS else 0.0
    family = [each for each in pair_losses if each.n_rounds and each.map == first.map]
    chosen = first
    for candidates, beyond in (
        (family, _BEYOND_IN_FAMILY + more),
        ([each for each in pair_losses if each not in family], _BEYOND + more),
    ):
        if candidates:
            rival = best(candidates)
            chosen = rival if beats(pair_losses[rival], pair_losses[chosen], beyond) else chosen
    # The average errs less than its maps, and the rotation learns from all points, so that both have to be beaten; nothing is
    # knowingly worse than ridge of the pairs.
    for preferred, beyond in ((AVERAGE, _BEYOND + more), (SELF_TRAINED, _BEYOND_IN_FAMILY)):
        if preferred in pair_losses and not beats(pair_losses[chosen], pair_losses[preferred], beyond):
            chosen = preferred
    if RIDGE in pair_losses and beats(pair_losses[RIDGE], pair_losses[chosen], _BEYOND_IN_FAMILY):
        chosen = RIDGE
    return chosen


def choose(problem: CloudProblem, search: Search, held: tuple[Held, Held]) -> Choice:
    """Compare lam and epsilon, then rounds, readouts and families of maps, in both directions.

    Parameters
    ----------
    problem : CloudProblem
        All points and all pairs.
    search : Search
    held : tuple of two Held
        What predictions of target points, and of source points, are compared with.

    Returns
    -------
    Choice
        Lam 0.9, epsilon 0.1 and one round, without losses, where there are too few pairs to choose with.
    """
    n_pairs = len(problem.rows[0])
    if n_pairs < _FEWEST_PAIRS:
        return Choice.given(_DEFAULT)
    ledger, best, screening = compare(problem, search, held)
    if not ledger.predictions[0]:
        return Choice.given(_DEFAULT)
    first = replace(search.longest(best), n_rounds=search.n_rounds[0], readout="linear", kernel_rounds=0)
    choice = Choice.of_losses(losses_of(ledger, search, held), first, screening, problem.n_smaller)
    forward, backward = (
        truth.spread(predictions[candidate])
        for truth, predictions, candidate in zip(held, ledger.predictions, choice.candidates, strict=True)
    )
    for direction, candidate, errors in zip(("forward", "backward"), choice.candidates, choice.errors, strict=True):
        _LOG.info("%s: chose %s among %d candidates", direction, candidate, len(errors))
    return choice._replace(spreads=(forward, backward))


def losses_of(ledger: Ledger, search: Search, held: tuple[Held, Held]) -> list[PairLosses]:
    """Return the losses of held-out pairs, forward and backward."""
    # A frozen classifier reads target points; source points have none.
    criteria: tuple[Criterion, Criterion] = search.criterion, search.criterion
    if held[1].classify is None and search.criterion == "labels":
        criteria = search.criterion, "correlation"
    return [
        {
            candidate: losses(criterion, predicted, truth, origins[candidate])
            for candidate, predicted in predictions.items()
        }
        for criterion, predictions, origins, truth in zip(
            criteria, ledger.predictions, ledger.origins, held, strict=True
        )
    ]


def compare(
    problem: CloudProblem, search: Search, held: tuple[Held, Held]
) -> tuple[Ledger, GridPoint, dict[GridPoint, float]]:
    """Predict every pair from the others by all candidates, at the best lam and epsilon."""
    rng = np.random.default_rng(search.seed)
    n_pairs = len(problem.rows[0])
    one_at_a_time = search.n_folds is None and n_pairs <= _ONE_AT_A_TIME
    n_folds = n_pairs if one_at_a_time else min(search.n_folds or _N_FOLDS, n_pairs)
    dealt = make_folds(problem, n_folds, _CHOOSING_POINTS, rng)
    folds = list(dealt) if search.n_folds else enough_folds(dealt, _CHOOSING_PAIRS)
    best = search.first
    screening: dict[GridPoint, float] = {}
    if folds and not one_at_a_time and len(search.points) > 1:
        best, screening = screen(folds, problem, search, held)
    ledger = Ledger(problem)
    settings = PairMapSettings.of(problem, search) if folds else None
    for fold in progress_bar(folds, progress=None, desc="maps of the pairs", leave=False):
        note_pair_maps(ledger, fold, search, settings)
    # What few rounds on few points found best stays so only if all linear rounds on more points say so too.
    runs = {point: _Run(point, folds, problem, search) for point in (search.first, best)}
    for run in runs.values():
        run.go_through_linear_rounds()
        if not run.ledger.predictions[0]:
            # No number of linear rounds alone is a candidate.
            run.go_through_curved_rounds(held)
    if len(runs) == 2:
        of_first, of_best = (_least_losses(run.ledger, search, held) for run in runs.values())
        best = best if beats(of_best, of_first, _BEYOND_IN_FAMILY) else search.first
    run = runs[best]
    run.go_through_curved_rounds(held)
    for family in search.turned:
        candidate = replace(_TURNED, map=family)
        steps = ((fold, solve_rounds(fold.problem, candidate, search.tol, search.tol)) for fold in folds)
        run.race(steps, candidate, held, f"{family} rounds")
    ledger.add(run.ledger)
    return ledger, best, screening


class _Run:
    """Predictions of every pair after all numbers of rounds at one lam and epsilon, and of what races with them."""

    def __init__(self, point: GridPoint, folds: list[Fold], problem: CloudProblem, search: Search) -> None:
        self.folds, self.problem, self.search = folds, problem, search
        self.candidate = search.longest(point)
        self.ledger = Ledger(problem)
        self.rounds = [solve_rounds(fold.problem, self.candidate, search.tol, search.tol) for fold in folds]

    def go_through_linear_rounds(self) -> None:
        steps = zip(self.folds, self.rounds, strict=True)
        for fold, rounds in progress_bar(
            steps, progress=None, desc="linear rounds", leave=False, total=len(self.folds)
        ):
            linear = linear_rounds(rounds, self.candidate.n_rounds)
            note_rounds(self.ledger, fold, self.candidate, self.search, linear)

    def go_through_curved_rounds(self, held: tuple[Held, Held]) -> None:
        self.race(zip(self.folds, self.rounds, strict=True), self.candidate, held, "curved rounds")

    def race(
        self, steps: Iterable[tuple[Fold, Iterator[Round]]], candidate: Candidate, held: tuple[Held, Held], name: str
    ) -> None:
        """Note the rounds of a candidate on all folds, unless, after any of them, it is behind in both directions."""
        entrant, n_held = Ledger(self.problem), 0
        for fold, rounds in progress_bar(steps, progress=None, desc=name, leave=False, total=len(self.folds)):
            note_rounds(entrant, fold, candidate, self.search, rounds)
            n_held += len(fold.held)
            if n_held >= _RACE_PAIRS and fold is not self.folds[-1] and self._is_behind(entrant, held):
                return
        self.ledger.add(entrant)

    def _is_behind(self, entrant: Ledger, held: tuple[Held, Held]) -> bool:
        """Return True if what is noted beats an entrant in both directions, on the pairs that the entrant has seen."""
        if not (self.ledger.predictions[0] and entrant.predictions[0]):
            return False
        noted, entered = (losses_of(each, self.search, held) for each in (self.ledger.like(entrant), entrant))
        return all(
            beats(min(ours.values(), key=np.nanmean), min(theirs.values(), key=np.nanmean), _BEHIND)
            for ours, theirs in zip(noted, entered, strict=True)
        )


def _least_losses(ledger: Ledger, search: Search, held: tuple[Held, Held]) -> np.ndarray:
    """Losses of the pairs by the best candidate of each direction, mean of both."""
    return np.mean([min(each.values(), key=np.nanmean) for each in losses_of(ledger, search, held)], axis=0)


def screen(
    folds: list[Fold], problem: CloudProblem, search: Search, held: tuple[Held, Held]
) -> tuple[GridPoint, dict[GridPoint, float]]:
    """Compare lam and epsilon on few points and in few rounds.

    The first point stays unless the loss of the best is lower by more than one standard error of the difference over pairs:
    with a dozen pairs the least of many cross-validation losses is mostly chance.

    Returns
    -------
    best : tuple of two float
    losses : dict of (lam, epsilon) to float
        Mean over directions.
    """
    rng = np.random.default_rng(search.seed)
    folds = enough_folds(folds, _SCREENING_PAIRS)
    tol = _SCREENING_TOL * search.tol
    by_point: dict[GridPoint, np.ndarray] = {}
    smaller = [fold._replace(problem=fewer_points(fold.problem, _SCREENING_POINTS, rng)) for fold in folds]
    potentials: dict[int, tuple[float, torch.Tensor]] = {}

    def run(point: GridPoint) -> None:
        ledger = Ledger(problem)
        candidate = replace(search.longest(point), n_rounds=_SCREENING_ROUNDS, kernel_rounds=0)
        for number, fold in enumerate(smaller):
            start = potentials.get(number)
            log_v = None if start is None else start[1] * (start[0] / point[1])
            for state in solve_rounds(fold.problem, candidate, tol, tol, log_v=log_v):
                potentials.setdefault(number, (point[1], state.plan.log_v))
            note_readouts(ledger, fold, state, candidate)
        by_point[point] = _least_losses(ledger, search, held)

    for point in progress_bar(search.points, progress=None, desc="temperatures", leave=False):
        run(point)
    mean = {point: float(np.nanmean(values)) for point, values in by_point.items()}
    both = (
        min(search.lams, key=lambda lam: mean[lam, search.epsilons[0]]),
        min(search.epsilons, key=lambda epsilon: mean[search.lams[0], epsilon]),
    )
    if both not in by_point:
        run(both)
        mean[both] = float(np.nanmean(by_point[both]))
    best = min(mean, key=mean.__getitem__)
    is_better = beats(by_point[best], by_point[search.first], _BEYOND_IN_FAMILY)
    return (best if is_better else search.first), mean


def beats(loss: np.ndarray, loss_of_first: np.ndarray, beyond: float) -> bool:
    """Return True if losses are lower than those of the first by more than some standard errors of the difference.

    Both have one value a pair, NaN where a pair was not held out.
    """
    gain = (loss_of_first - loss)[~np.isnan(loss)]
    return len(gain) > 1 and bool(gain.mean() > beyond * gain.std(ddof=1) / math.sqrt(len(gain)))
