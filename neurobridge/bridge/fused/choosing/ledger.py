"""Predictions of held-out pairs by all candidates."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.average import PointMap, average_maps
from neurobridge.bridge.fused.candidate import (
    AVERAGE,
    AVERAGED,
    KERNEL_RIDGE,
    ORTHOGONAL,
    RELATIVE,
    RIDGE,
    SELF_TRAINED,
    SPECTRAL,
    WHITENED,
    Candidate,
    Readout,
    readouts_of,
)
from neurobridge.bridge.fused.choosing.folds import Fold
from neurobridge.bridge.fused.choosing.search import Search
from neurobridge.bridge.fused.solving.designs import CloudMap
from neurobridge.bridge.fused.solving.families import CloudProblem, Maps, OrthogonalFamily
from neurobridge.bridge.fused.solving.rounds import Round
from neurobridge.bridge.selftrained import self_train
from neurobridge.maps.kernel import kernel_map
from neurobridge.maps.relative import RelativeMap, relative_map
from neurobridge.maps.spectral import SpectralFeatures, spectral_features, spectral_map
from neurobridge.maps.whitened import choose_whitened, whitened_candidates
from neurobridge.maps.whitening import WhitenedDesign, WhitenedSettings

#: Up to so many points in the smaller cloud there are few: maps of the pairs are averaged, and the margins of the choice wider.
FEW_POINTS = 100
# Settings of whitened maps that are compared: fewer than where the map stands alone.
_WHITENED_POWERS, _WHITENED_EXPONENTS, _WHITENED_FOLDS = (0.0, 0.5, 1.0), (0.0, 1.0), 5


class Ledger:
    """Predictions of held-out pairs, in both directions, by candidate, and what the same fits predict on average."""

    def __init__(self, problem: CloudProblem) -> None:
        self.shapes = tuple((len(problem.rows[0]), cloud.rank) for cloud in (problem.target, problem.source))
        self.predictions: tuple[dict[Candidate, np.ndarray], dict[Candidate, np.ndarray]] = ({}, {})
        self.origins: tuple[dict[Candidate, np.ndarray], dict[Candidate, np.ndarray]] = ({}, {})

    def note(
        self,
        candidate: Candidate,
        held: np.ndarray,
        direction: int,
        predicted: torch.Tensor | np.ndarray,
        mean: torch.Tensor | np.ndarray,
        n_points: int,
    ) -> None:
        """Keep the predictions of a fold; direction 0 is forward, 1 backward.

        ``mean`` is what the fit predicts on average. The origin is the mean of it, which counts as ``n_points`` predictions, and of
        those of the held-out pairs.
        """
        values = _numpy(predicted)
        origin = (n_points * _numpy(mean) + values.sum(axis=0)) / (n_points + len(values))
        for notes, noted in ((self.predictions, values), (self.origins, origin)):
            kept = notes[direction]
            if candidate not in kept:
                kept[candidate] = np.full(self.shapes[direction], np.nan)
            kept[candidate][held] = noted

    def add(self, other: Ledger) -> None:
        """Take over the predictions of other candidates."""
        for kept, added in zip(self.predictions + self.origins, other.predictions + other.origins, strict=True):
            kept.update(added)

    def like(self, other: Ledger) -> Ledger:
        """Return these predictions, of the pairs that another ledger has predictions of."""
        fewer = copy.copy(self)
        fewer.predictions = tuple(
            {
                candidate: np.where(np.isfinite(next(iter(known.values()))), values, np.nan)
                for candidate, values in kept.items()
            }
            for kept, known in zip(self.predictions, other.predictions, strict=True)
        )  # type: ignore[assignment]
        return fewer


def _numpy(values: torch.Tensor | np.ndarray) -> np.ndarray:
    return values.double().cpu().numpy() if isinstance(values, torch.Tensor) else values


def note_rounds(ledger: Ledger, fold: Fold, candidate: Candidate, search: Search, rounds: Iterable[Round]) -> None:
    """Note the readouts of the rounds of a candidate on a fold."""
    noted = 0
    for state in rounds:
        n_rounds, kernel_rounds = state.counts
        # Rounds that were left out because nothing moved any more are those of this one.
        reached = range(noted + 1, n_rounds + 1) if not kernel_rounds else (n_rounds,)
        for number in reached:
            if search.holds(number, kernel_rounds) if candidate.map == "ridge" else number == candidate.n_rounds:
                note_readouts(ledger, fold, state, replace(candidate, n_rounds=number, kernel_rounds=kernel_rounds))
        noted = n_rounds


def note_readouts(ledger: Ledger, fold: Fold, state: Round, candidate: Candidate) -> None:
    """Note the predictions of all readouts of a round, in both directions."""
    names: dict[Readout, Readout] = dict(
        zip(("barycentric", "linear", "mean"), readouts_of(candidate.kernel_rounds), strict=True)
    )
    for direction in (0, 1):
        backward = direction == 1
        predicted = state.predictions(fold.points[direction], fold.distances[direction], backward=backward)
        means = state.mean_predictions(backward=backward)
        n_points = len(fold.problem.target if backward else fold.problem.source)
        for readout, values in predicted.items():
            ledger.note(
                replace(candidate, readout=names[readout]), fold.held, direction, values, means[readout], n_points
            )


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
    relative : tuple of float
        Penalties of the decoders; likewise.
    averages : bool
        The maps are averaged, too.
    """

    whitened: tuple[WhitenedSettings, ...]
    spectral: tuple[tuple[SpectralFeatures, float], ...]
    relative: tuple[float, ...]
    averages: bool

    @classmethod
    def of(cls, problem: CloudProblem, search: Search) -> PairMapSettings:
        """Choose the settings by leaving out pairs within the clouds of a problem."""
        clouds, known, rows = _numbers(problem)
        design = WhitenedDesign(*clouds) if "whitened" in search.maps else None
        whitened, spectral, relative = [], [], []
        for direction in (0, 1):
            source, target = known[direction], known[1 - direction]
            if design is not None:
                towards = design if direction == 0 else design.reversed()
                whitened.append(whitened_settings(towards, source, target, search.seed))
            if "spectral" in search.maps:
                features = spectral_features(clouds[direction], seed=search.seed)
                mapping = spectral_map(source, target, features=features, seed=search.seed)
                spectral.append((mapping.features, mapping.gain))
            if "relative" in search.maps:
                relative.append(_relative(clouds, rows, direction, None, search.seed).alpha)
        averages = search.averages and problem.n_smaller <= FEW_POINTS
        return cls(tuple(whitened), tuple(spectral), tuple(relative), averages)


def _numbers(problem: CloudProblem) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Coordinates of the points and of the paired points of both sides, float64, and the rows of the latter."""
    clouds = [_numpy(cloud.coordinates) for cloud in (problem.source, problem.target)]
    rows = [side.cpu().numpy() for side in problem.rows]
    return clouds, [points[paired] for points, paired in zip(clouds, rows, strict=True)], rows


def _relative(
    clouds: list[np.ndarray], rows: list[np.ndarray], direction: int, alpha: float | None, seed: int
) -> RelativeMap:
    source, target = direction, 1 - direction
    return relative_map(clouds[source], clouds[target], (rows[source], rows[target]), alpha=alpha, seed=seed)


def note_pair_maps(ledger: Ledger, fold: Fold, search: Search, settings: PairMapSettings | None) -> None:
    """Note the maps of the pairs alone, in both directions."""
    assert settings is not None
    clouds, known, rows = _numbers(fold.problem)
    new = [_numpy(points) for points in fold.points]
    fitted: tuple[dict[Candidate, PointMap], dict[Candidate, PointMap]] = {}, {}

    def note(candidate: Candidate, direction: int, mapping: PointMap, mean: np.ndarray) -> None:
        fitted[direction][candidate] = mapping
        ledger.note(candidate, fold.held, direction, mapping(new[direction]), mean, len(clouds[direction]))

    def note_on_clouds(candidate: Candidate, maps: Maps) -> None:
        for direction, mapping in enumerate((maps.forward, maps.backward)):
            points = (fold.problem.source, fold.problem.target)[direction].coordinates
            note(candidate, direction, partial(_mapped, mapping, points), _numpy(mapping.mean_over(points)))

    note_on_clouds(RIDGE, fold.problem.pair_maps)
    if "orthogonal" in search.maps:
        note_on_clouds(ORTHOGONAL, OrthogonalFamily(fold.problem).start())
    if search.trains_rotations:
        trained = self_train(clouds[0], clouds[1], (rows[0], rows[1]), seed=search.seed)
        for direction, rotation in enumerate((trained.forward, trained.backward)):
            note(SELF_TRAINED, direction, rotation, _mean_of_affine(rotation, clouds[direction]))
    design = WhitenedDesign(*clouds) if settings.whitened else None
    for direction in (0, 1):
        source, target = known[direction], known[1 - direction]
        # On average a regression with an intercept predicts the mean target of its pairs, and a decoder that is trained on all
        # target points nearly theirs.
        pair_mean, target_mean = target.mean(axis=0), clouds[1 - direction].mean(axis=0)
        if max(search.kernel_rounds):
            note(KERNEL_RIDGE, direction, kernel_map(source, target, seed=search.seed), pair_mean)
        if design is not None:
            towards = design if direction == 0 else design.reversed()
            whitened = towards.map(source, target, settings.whitened[direction])
            note(WHITENED, direction, whitened, _mean_of_affine(whitened, clouds[direction]))
        if settings.spectral:
            features, gain = settings.spectral[direction]
            spectral = spectral_map(source, target, features=features, gains=(gain,), seed=search.seed)
            note(SPECTRAL, direction, spectral, pair_mean)
        if settings.relative:
            relative = _relative(clouds, rows, direction, settings.relative[direction], search.seed)
            note(RELATIVE, direction, relative, target_mean)
        if settings.averages:
            parts = [fitted[direction][replace(RIDGE, map=family)] for family in AVERAGED]
            average = average_maps(parts, clouds[direction], seed=search.seed)
            note(AVERAGE, direction, average, average.mean)


def _mapped(mapping: CloudMap, like: torch.Tensor, points: np.ndarray) -> np.ndarray:
    return _numpy(mapping(torch.as_tensor(points).to(like)))


def _mean_of_affine(mapping: PointMap, points: np.ndarray) -> np.ndarray:
    return mapping(points.mean(axis=0, keepdims=True))[0]
