"""The choice of a candidate: cross-validation over the pairs, in both directions at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.fused.candidate import (
    KERNEL_RIDGE,
    MAP_FAMILIES,
    ORTHOGONAL,
    RIDGE,
    SPECTRAL,
    WHITENED,
    Candidate,
    MapFamily,
    Readout,
    readouts_of,
)
from neurobridge.bridge.fused.criteria import Criterion, Held, losses
from neurobridge.bridge.fused.solving.families import CloudProblem, OrthogonalFamily
from neurobridge.bridge.fused.solving.rounds import Round, solve_rounds
from neurobridge.maps.kernel import kernel_map
from neurobridge.maps.spectral import SpectralFeatures, spectral_features, spectral_map
from neurobridge.maps.whitened import choose_whitened, whitened_candidates
from neurobridge.maps.whitening import WhitenedDesign, WhitenedSettings
from neurobridge.points.arrays import Rows

# Rounds and readouts are compared on at most this many points a side, lam and epsilon before them on fewer and in few rounds.
_CHOOSING_POINTS = 700
_SCREENING_POINTS = 300
_SCREENING_ROUNDS = 2
_SCREENING_TOL = 3.0
# As many folds as it takes to leave out this many pairs.
_SCREENING_PAIRS = 60
# Standard errors by which another family of maps has to beat that of the first candidate.
_BEYOND = 2.0
# And another lam and epsilon, or another number of rounds or readout of the same plan.
_BEYOND_IN_FAMILY = 1.0
# Settings of whitened maps that are compared in every fold: fewer than where the map stands alone.
_WHITENED_POWERS, _WHITENED_EXPONENTS, _WHITENED_FOLDS = (0.0, 0.5, 1.0), (0.0, 1.0), 5
_N_FOLDS = 5
_FEWEST_PAIRS = 4
# Up to this many pairs one is left out at a time: ridge on a dozen pairs loses more to every one that is missing than the fused
# bridge does. So few pairs cannot choose among sixteen: the first lam and epsilon are taken.
_ONE_AT_A_TIME = 12
# The candidate where there are too few pairs to choose with.
_DEFAULT = Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="barycentric")
# Plans of orthogonal and whitened maps: the cost is how far the rotation misses alone, by the cosine.
_TURNED = Candidate(lam=1.0, epsilon=0.1, n_rounds=5, readout="linear", map="orthogonal")

#: A point of the grid: lam and epsilon.
GridPoint = tuple[float, float]
#: Losses of held-out pairs, NaN where a pair was not held out, by candidate.
PairLosses = dict[Candidate, np.ndarray]


@dataclass(frozen=True)
class Search:
    """The candidates that cross-validation compares, and how.

    Attributes
    ----------
    lams, epsilons : sequences of float
        The first of each is the one that others have to beat.
    n_rounds, kernel_rounds : sequences of int
        Numbers of linear rounds, and of curved rounds after the most linear ones.
    maps : sequence of str
        Families of maps.
    criterion : {"correlation", "error", "retrieval", "labels"}
    n_folds : int or None
        Folds over the pairs; None leaves it to the number of pairs.
    tol : float
        Marginal error of the plans.
    seed : int
        Seed of the folds, of the points they keep and of the centres of curved maps.
    in_batches : bool
        The plan will be solved in minibatches, which only ridge and kernel maps have.

    Raises
    ------
    ValueError
        An empty sequence, lam outside [0, 1], an epsilon that is not positive, rounds below their least number, or an unknown
        family.
    """

    lams: Sequence[float]
    epsilons: Sequence[float]
    n_rounds: Sequence[int]
    kernel_rounds: Sequence[int]
    maps: Sequence[MapFamily]
    criterion: Criterion
    n_folds: int | None
    tol: float
    seed: int
    in_batches: bool = False

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
        if "ridge" not in self.maps or not set(self.maps) <= set(MAP_FAMILIES):
            raise ValueError(
                f"found maps={tuple(self.maps)}; expected 'ridge', which the others have to beat, and any of {MAP_FAMILIES[1:]}. "
                "Mend: leave maps out for all of them."
            )

    @property
    def turned(self) -> list[MapFamily]:
        """Families whose maps are rotations, with a plan of their own."""
        return [family for family in ("orthogonal", "whitened") if family in self.maps and not self.in_batches]

    @property
    def first(self) -> GridPoint:
        """The lam and epsilon that others have to beat."""
        return self.lams[0], self.epsilons[0]

    @property
    def points(self) -> list[GridPoint]:
        """Each lam beside the first epsilon, and each epsilon beside the first lam."""
        lam, epsilon = self.first
        return list(dict.fromkeys([(each, epsilon) for each in self.lams] + [(lam, each) for each in self.epsilons]))

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


class Fold(NamedTuple):
    """A problem without the points of some pairs, and these points.

    Attributes
    ----------
    held : int array of shape (n_held,)
        Numbers of the pairs held out.
    problem : CloudProblem
        The points and pairs that are fitted on.
    points : tuple of two float32 tensors of shape (n_held, rank)
        Coordinates of the source points and of the target points held out.
    distances : tuple of two float32 tensors of shape (n_held, n_kept_pairs)
        Of these points to the anchors that are left.
    """

    held: np.ndarray
    problem: CloudProblem
    points: tuple[torch.Tensor, torch.Tensor]
    distances: tuple[torch.Tensor, torch.Tensor]


class Ledger:
    """Predictions of held-out pairs, in both directions, by candidate."""

    def __init__(self, problem: CloudProblem) -> None:
        self.shapes = tuple((len(problem.rows[0]), cloud.rank) for cloud in (problem.target, problem.source))
        self.predictions: tuple[dict[Candidate, np.ndarray], dict[Candidate, np.ndarray]] = ({}, {})

    def note(
        self, candidate: Candidate, held: np.ndarray, direction: int, predicted: torch.Tensor | np.ndarray
    ) -> None:
        """Keep the predictions of a fold; direction 0 is forward, 1 backward."""
        kept = self.predictions[direction]
        if candidate not in kept:
            kept[candidate] = np.full(self.shapes[direction], np.nan)
        kept[candidate][held] = predicted.double().cpu().numpy() if isinstance(predicted, torch.Tensor) else predicted


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
        cls, by_direction: Sequence[PairLosses], first: Candidate, screening: dict[GridPoint, float]
    ) -> Choice:
        """Return the choice by losses, the first candidate preferred."""
        chosen, solved, errors = [], [], []
        for pair_losses in by_direction:
            candidate = pick(pair_losses, first)
            with_plan = {each: values for each, values in pair_losses.items() if each.n_rounds}
            chosen.append(candidate)
            solved.append(candidate if candidate.n_rounds else pick(with_plan, first))
            errors.append({each: float(np.nanmean(values)) for each, values in pair_losses.items()})
        return cls(tuple(chosen), tuple(solved), tuple(errors), screening)  # type: ignore[arg-type]


def pick(pair_losses: PairLosses, first: Candidate | None = None) -> Candidate:
    """Return the candidate to use.

    With few pairs the least of many cross-validation losses is mostly chance. So the first candidate stays unless the best of
    its family (same lam, epsilon and maps, other rounds or readout) has a lower loss by more than one standard error of the
    difference over pairs, and this one stays unless the best of all others has one by more than two.

    Parameters
    ----------
    pair_losses : dict of Candidate to array of shape (n_pairs,)
    first : Candidate, optional
        By default nothing is preferred.
    """

    def best(candidates: Sequence[Candidate]) -> Candidate:
        return min(candidates, key=lambda candidate: float(np.nanmean(pair_losses[candidate])))

    if first is None or first not in pair_losses:
        return best(list(pair_losses))
    family = [each for each in pair_losses if each.n_rounds and each.map == first.map]
    chosen = first
    for candidates, beyond in (
        (family, _BEYOND_IN_FAMILY),
        ([each for each in pair_losses if each not in family], _BEYOND),
    ):
        if candidates:
            rival = best(candidates)
            chosen = rival if beats(pair_losses[rival], pair_losses[chosen], beyond) else chosen
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
    choice = Choice.of_losses(losses_of(ledger, search, held), first, screening)
    forward, backward = (
        truth.spread(predictions[candidate])
        for truth, predictions, candidate in zip(held, ledger.predictions, choice.candidates, strict=True)
    )
    return choice._replace(spreads=(forward, backward))


def losses_of(ledger: Ledger, search: Search, held: tuple[Held, Held]) -> list[PairLosses]:
    """Return the losses of held-out pairs, forward and backward."""
    # A frozen classifier reads target points; source points have none.
    criteria: tuple[Criterion, Criterion] = search.criterion, search.criterion
    if held[1].classify is None and search.criterion == "labels":
        criteria = search.criterion, "correlation"
    return [
        {candidate: losses(criterion, predicted, truth) for candidate, predicted in predictions.items()}
        for criterion, predictions, truth in zip(criteria, ledger.predictions, held, strict=True)
    ]


def compare(
    problem: CloudProblem, search: Search, held: tuple[Held, Held]
) -> tuple[Ledger, GridPoint, dict[GridPoint, float]]:
    """Predict every pair from the others by all candidates, at the best lam and epsilon."""
    rng = np.random.default_rng(search.seed)
    n_pairs = len(problem.rows[0])
    one_at_a_time = search.n_folds is None and n_pairs <= _ONE_AT_A_TIME
    n_folds = n_pairs if one_at_a_time else min(search.n_folds or _N_FOLDS, n_pairs)
    folds = list(make_folds(problem, n_folds, _CHOOSING_POINTS, rng))
    best = search.first
    screening: dict[GridPoint, float] = {}
    if folds and not one_at_a_time and len(search.points) > 1:
        best, screening = screen(folds, problem, search, held)
    ledger = Ledger(problem)
    settings = PairMapSettings.of(problem, search) if folds else None
    if best != search.first:
        best = _confirmed(best, folds, problem, search, held)
    for fold in folds:
        _note_pair_maps(ledger, fold, search, settings)
        _note_rounds(ledger, fold, search.longest(best), search)
        for family in search.turned:
            _note_rounds(ledger, fold, replace(_TURNED, map=family), search)
    return ledger, best, screening


def _confirmed(
    best: GridPoint, folds: list[Fold], problem: CloudProblem, search: Search, held: tuple[Held, Held]
) -> GridPoint:
    """Return lam and epsilon that few rounds on few points found best, if all rounds on more points say so too."""
    least = []
    for point in (search.first, best):
        ledger = Ledger(problem)
        for fold in folds:
            _note_rounds(ledger, fold, search.longest(point), search)
        least.append(_least_losses(ledger, search, held))
    return best if beats(least[1], least[0], _BEYOND_IN_FAMILY) else search.first


def _least_losses(ledger: Ledger, search: Search, held: tuple[Held, Held]) -> np.ndarray:
    """Losses of the pairs by the best candidate of each direction, mean of both."""
    return np.mean([min(each.values(), key=np.nanmean) for each in losses_of(ledger, search, held)], axis=0)


def make_folds(problem: CloudProblem, n_folds: int, n_points: int, rng: np.random.Generator) -> Iterator[Fold]:
    """Hold out every pair once; its points leave both clouds, and its anchor is none.

    A stimulus to be predicted later has no partner among the points either. The coordinates and the distances of the points
    that stay are those among all points: no space learns about the other from them.
    """
    sides = problem.rows[0].cpu().numpy(), problem.rows[1].cpu().numpy()
    clouds = problem.source, problem.target
    for held in np.array_split(rng.permutation(len(sides[0])), max(2, n_folds)):
        kept = _pairs_apart(sides, held)
        if len(kept) < 2:
            continue
        rows = [
            np.setdiff1d(_some_rows(len(cloud), side[kept], n_points, rng), side[held])
            for cloud, side in zip(clouds, sides, strict=True)
        ]
        fewer = subset(problem, rows, kept)
        units = [_positive(problem.distances[k][rows[k]][:, kept].mean()) for k in range(2)]
        points = tuple(cloud.coordinates[side[held]] for cloud, side in zip(clouds, sides, strict=True))
        distances = tuple(problem.distances[k][sides[k][held]][:, kept] / units[k] for k in range(2))
        yield Fold(held, fewer, points, distances)  # type: ignore[arg-type]


def subset(problem: CloudProblem, rows: Sequence[np.ndarray], kept: np.ndarray) -> CloudProblem:
    """Keep some points of both sides, sorted rows, and some pairs among them."""
    sides = [side.cpu().numpy()[kept] for side in problem.rows]
    device = problem.device
    distances = [problem.distances[k][rows[k]][:, kept] for k in range(2)]
    return CloudProblem(
        problem.source.subset(rows[0]),
        problem.target.subset(rows[1]),
        tuple(torch.as_tensor(np.searchsorted(rows[k], sides[k]), device=device) for k in range(2)),  # type: ignore[arg-type]
        tuple(part / _positive(part.mean()) for part in distances),  # type: ignore[arg-type]
        problem.seed,
    )


def _positive(mean: torch.Tensor) -> float:
    return max(float(mean), 1e-12)


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
    n_held = np.cumsum([len(fold.held) for fold in folds])
    folds = folds[: int((n_held < _SCREENING_PAIRS).sum()) + 1]
    tol = _SCREENING_TOL * search.tol
    by_point: dict[GridPoint, np.ndarray] = {}
    smaller = [fold._replace(problem=_fewer(fold.problem, rng)) for fold in folds]
    potentials: dict[int, tuple[float, torch.Tensor]] = {}

    def run(point: GridPoint) -> None:
        ledger = Ledger(problem)
        candidate = replace(search.longest(point), n_rounds=_SCREENING_ROUNDS, kernel_rounds=0)
        for number, fold in enumerate(smaller):
            start = potentials.get(number)
            log_v = None if start is None else start[1] * (start[0] / point[1])
            for state in solve_rounds(fold.problem, candidate, tol, tol, log_v=log_v):
                potentials.setdefault(number, (point[1], state.plan.log_v))
            _note_readouts(ledger, fold, state, candidate)
        by_point[point] = _least_losses(ledger, search, held)

    for point in search.points:
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


def _fewer(problem: CloudProblem, rng: np.random.Generator) -> CloudProblem:
    """Keep few points; twice the pairs at least, as without other points there is nothing to align."""
    size = max(_SCREENING_POINTS, 2 * len(problem.rows[0]))
    if size >= max(len(problem.source), len(problem.target)):
        return problem
    rows = [
        _some_rows(len(cloud), side.cpu().numpy(), size, rng)
        for cloud, side in zip((problem.source, problem.target), problem.rows, strict=True)
    ]
    return subset(problem, rows, np.arange(len(problem.rows[0])))


def _note_rounds(ledger: Ledger, fold: Fold, candidate: Candidate, search: Search) -> None:
    """Note all rounds and readouts of a candidate on a fold."""
    noted = 0
    for state in solve_rounds(fold.problem, candidate, search.tol, search.tol):
        n_rounds, kernel_rounds = state.counts
        # Rounds that were left out because nothing moved any more are those of this one.
        reached = range(noted + 1, n_rounds + 1) if not kernel_rounds else (n_rounds,)
        for number in reached:
            if search.holds(number, kernel_rounds) if candidate.map == "ridge" else number == candidate.n_rounds:
                _note_readouts(ledger, fold, state, replace(candidate, n_rounds=number, kernel_rounds=kernel_rounds))
        noted = n_rounds


def _note_readouts(ledger: Ledger, fold: Fold, state: Round, candidate: Candidate) -> None:
    names: dict[Readout, Readout] = dict(
        zip(("barycentric", "linear", "mean"), readouts_of(candidate.kernel_rounds), strict=True)
    )
    for direction in (0, 1):
        predicted = state.predictions(fold.points[direction], fold.distances[direction], backward=direction == 1)
        for readout, values in predicted.items():
            ledger.note(replace(candidate, readout=names[readout]), fold.held, direction, values)


def whitened_settings(design: WhitenedDesign, source: np.ndarray, target: np.ndarray, seed: int) -> WhitenedSettings:
    """Choose the settings of a whitened map by the pairs."""
    tried = [
        each
        for each in whitened_candidates(len(source), design.rank)
        if each.power in _WHITENED_POWERS and each.exponent in _WHITENED_EXPONENTS
    ]
    return choose_whitened(design, source, target, settings=tried, n_folds=_WHITENED_FOLDS, seed=seed)


class PairMapSettings(NamedTuple):
    """Settings of the maps of the pairs, forward and backward, chosen once on all pairs and used in every fold.

    Attributes
    ----------
    whitened : tuple of WhitenedSettings
        Empty where the family is not asked for.
    spectral : tuple of (SpectralFeatures, float)
        The features that are read and their gain; likewise.
    """

    whitened: tuple[WhitenedSettings, ...]
    spectral: tuple[tuple[SpectralFeatures, float], ...]

    @classmethod
    def of(cls, problem: CloudProblem, search: Search) -> PairMapSettings:
        """Choose the settings by leaving out pairs within the clouds of a problem."""
        clouds, known = _numbers(problem)
        design = WhitenedDesign(*clouds) if "whitened" in search.maps else None
        whitened, spectral = [], []
        for direction in (0, 1):
            source, target = known[direction], known[1 - direction]
            if design is not None:
                towards = design if direction == 0 else design.reversed()
                whitened.append(whitened_settings(towards, source, target, search.seed))
            if "spectral" in search.maps:
                features = spectral_features(clouds[direction], seed=search.seed)
                mapping = spectral_map(source, target, features=features, seed=search.seed)
                spectral.append((mapping.features, mapping.gain))
        return cls(tuple(whitened), tuple(spectral))


def _numbers(problem: CloudProblem) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Coordinates of the points and of the paired points of both sides, float64."""
    clouds = [cloud.coordinates.double().cpu().numpy() for cloud in (problem.source, problem.target)]
    return clouds, [points[rows.cpu().numpy()] for points, rows in zip(clouds, problem.rows, strict=True)]


def _note_pair_maps(ledger: Ledger, fold: Fold, search: Search, settings: PairMapSettings | None) -> None:
    """Note the maps of the pairs alone, in both directions."""
    assert settings is not None
    clouds, known = _numbers(fold.problem)
    new = [points.double().cpu().numpy() for points in fold.points]
    ridge = fold.problem.pair_maps
    for direction, mapping in enumerate((ridge.forward, ridge.backward)):
        ledger.note(RIDGE, fold.held, direction, mapping(fold.points[direction]))
    if "orthogonal" in search.maps:
        turned = OrthogonalFamily(fold.problem).start()
        for direction, mapping in enumerate((turned.forward, turned.backward)):
            ledger.note(ORTHOGONAL, fold.held, direction, mapping(fold.points[direction]))
    design = WhitenedDesign(*clouds) if settings.whitened else None
    for direction in (0, 1):
        source, target = known[direction], known[1 - direction]
        if max(search.kernel_rounds):
            curved = kernel_map(source, target, seed=search.seed)
            ledger.note(KERNEL_RIDGE, fold.held, direction, curved(new[direction]))
        if design is not None:
            towards = design if direction == 0 else design.reversed()
            mapped = towards.map(source, target, settings.whitened[direction])(new[direction])
            ledger.note(WHITENED, fold.held, direction, mapped)
        if settings.spectral:
            features, gain = settings.spectral[direction]
            spectral = spectral_map(source, target, features=features, gains=(gain,), shares=(1,), seed=search.seed)
            ledger.note(SPECTRAL, fold.held, direction, spectral(new[direction]))
