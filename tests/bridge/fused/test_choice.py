"""The choice of a candidate: the folds it rests on, the rule of standard errors, and what each criterion finds best."""

from __future__ import annotations

import inspect
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurobridge.bridge import CRITERIA, Candidate, bridge_cost, fuse, ridge_map
from neurobridge.bridge.fused.candidate import RIDGE, SELF_TRAINED
from neurobridge.bridge.fused.choosing.choice import Choice, beats, losses_of, pick, temperatures
from neurobridge.bridge.fused.choosing.folds import enough_folds, make_folds
from neurobridge.bridge.fused.choosing.ledger import Ledger
from neurobridge.bridge.fused.choosing.search import Search
from neurobridge.bridge.fused.chosen import held_pairs
from neurobridge.bridge.fused.cost import FusedProblem
from neurobridge.bridge.fused.solving.families import CloudProblem
from neurobridge.maps.kernel import kernel_map
from neurobridge.maps.relative import relative_map
from neurobridge.maps.spectral import spectral_map
from neurobridge.points.scale import unit_of_cloud
from tests.bridge.fused.pools import ONE, clustered, r2

# Clusters this far apart leave the graph in pieces, which is joined and said; test_distances holds that.
pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning")

X, Y, PAIRS, NEW, TRUTH = clustered(150, n_pairs=8)


def test_all_rounds_readouts_and_families_are_compared_at_one_lam_and_epsilon():
    bridge = fuse(X, Y, PAIRS, n_rounds=(4, 1), kernel_rounds=(0, 1), lams=(0.5, 0.9), epsilons=(0.02,), n_folds=3)
    assert set(bridge.screening) == {(0.5, 0.02), (0.9, 0.02)}
    assert all(np.isfinite(list(bridge.screening.values())))
    for errors in (bridge.errors, bridge.errors_back):
        ridge = [each for each in errors if each.n_rounds and each.map == "ridge"]
        # 4 and 1 linear rounds and 1 curved one, three readouts each; rotations in two kinds of coordinates, likewise.
        assert len(ridge) == 3 * 3
        assert len({each.lam for each in ridge}) == 1
        assert {each.readout for each in ridge if each.kernel_rounds} == {"barycentric", "kernel", "mean"}
        assert len([each for each in errors if each.n_rounds]) == 3 * 3 + 2 * 3
        assert {(each.map, each.readout) for each in errors if not each.n_rounds} == {
            ("ridge", "linear"), ("ridge", "kernel"), ("orthogonal", "linear"), ("whitened", "linear"), ("spectral", "linear"),
            ("relative", "linear"),
        }  # fmt: skip
        assert all(np.isfinite(list(errors.values())))
    chosen = (bridge.candidate, bridge.errors), (bridge.candidate_back, bridge.errors_back)
    for candidate, errors in chosen:
        lam = next(each.lam for each in errors if each.n_rounds and each.map == "ridge")
        first = Candidate(lam=lam, epsilon=0.02, n_rounds=4, readout="linear")
        assert candidate == first or errors[candidate] < errors[first]


def test_families_that_are_not_asked_for_are_not_tried():
    bridge = fuse(X, Y, PAIRS, maps=("ridge", "orthogonal"), n_rounds=(1,), kernel_rounds=(0,), n_folds=2, **ONE)
    assert {each.map for each in bridge.errors} == {"ridge", "orthogonal"}
    assert not any(each.readout == "kernel" for each in bridge.errors)
    assert bridge.screening == {}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_many_points_begin_with_a_sharper_plan(criterion):
    few, many = (temperatures(criterion, n, 13) for n in (700, 701))
    assert sorted(few) == sorted(many)
    assert many[0] == 0.02
    assert few[0] == (0.05 if criterion in ("correlation", "error") else 0.02)
    assert temperatures(criterion, 701, 12) == few
    # As many points are compared as there are.
    assert temperatures(criterion, 800, 400) == few


def test_fuse_begins_with_the_temperature_of_its_size():
    rng = np.random.default_rng(5)
    latents = rng.normal(size=(720, 2))
    both = latents @ rng.normal(size=(2, 3)), latents @ rng.normal(size=(2, 4))
    pairs = np.arange(14), np.arange(14)
    small = {"lams": (1.0,), "n_rounds": (1,), "kernel_rounds": (0,), "maps": ("ridge",), "n_folds": 2}
    for n, first in ((700, 0.05), (720, 0.02)):
        bridge = fuse(both[0], both[1][:n], pairs, **small)
        assert next(iter(bridge.screening)) == (1.0, first)


def test_the_default_grid_reaches_the_bridge_alone_and_the_maps_alone():
    lams, epsilons = (
        inspect.signature(fuse).parameters["lams"].default,
        temperatures("correlation", len(X), len(PAIRS[0])),
    )
    assert 0.0 in lams
    assert len(set(epsilons)) >= 3
    bridge = fuse(X, Y, PAIRS, n_rounds=(2,), kernel_rounds=(0,), n_folds=2, n_neighbors=8)
    # Plans of rotations know the maps alone.
    assert {each.lam for each in bridge.errors if each.map in ("orthogonal", "whitened")} == {1.0}
    # Each of both beside the first of the other, and at most one more: both at their best.
    apart = {(lam, epsilons[0]) for lam in lams} | {(lams[0], epsilon) for epsilon in epsilons}
    assert apart <= set(bridge.screening) <= set(itertools.product(lams, epsilons))
    assert len(bridge.screening) <= len(apart) + 1
    assert all(np.isfinite(list(bridge.screening.values())))


def groups(seed, *, n=160, n_groups=8):
    """Two pools of the same groups, whose centres lie unrelated in either space; and pairs, two or three a group."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % n_groups
    X, Y = (4 * rng.normal(size=(n_groups, 2))[label] + 0.3 * rng.normal(size=(n, 2)) for _ in range(2))
    return X / X.std(), Y / Y.std(), (np.arange(20), np.arange(20))


def test_lam_is_zero_where_maps_know_nothing_and_one_where_distances_know_nothing():
    fast = {
        "epsilons": (0.05,), "n_rounds": (2,), "kernel_rounds": (0,), "n_folds": 4, "n_neighbors": 8, "maps": ("ridge",),
    }  # fmt: skip
    X, Y, pairs = groups(3)
    # No linear map sends eight centres of a plane anywhere.
    apart = fuse(X, Y, pairs, lams=(1.0, 0.0), **fast)
    assert apart.screening[0.0, 0.05] < 0.5 * apart.screening[1.0, 0.05]
    assert apart.candidate.lam == 0.0
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(220, 4))
    image = Z @ rng.normal(size=(4, 6))
    noise = {side.shape[1]: rng.random((500, 500)) for side in (Z, image)}

    def unrelated(A, B):
        # Distances that have nothing to do with where the points are.
        keys = [(1e4 * side.abs().sum(dim=1)).long() % 500 for side in (A, B)]
        return torch.as_tensor(noise[A.shape[1]])[keys[0][:, None], keys[1][None, :]]

    straight = fuse(Z[:120], np.vstack([image[:20], image[120:]]), pairs, metric=unrelated, lams=(0.0, 1.0), **fast)
    assert straight.screening[1.0, 0.05] < 0.5 * straight.screening[0.0, 0.05]
    assert straight.candidate.lam == 1.0


def test_another_lam_has_to_beat_the_first_beyond_chance():
    rng = np.random.default_rng(0)
    first = rng.random(10)
    assert not beats(first, first, 1.0)
    assert beats(first - 0.1, first, 1.0)
    # A gain of a tenth of what errors differ by.
    noisy = first + rng.permutation(np.linspace(-1, 1, 10)) - 0.1
    assert noisy.mean() < first.mean()
    assert not beats(noisy, first, 1.0)
    # Pairs that were not left out say nothing.
    assert not beats(np.where(np.arange(10) < 9, np.nan, first - 1), first, 1.0)


def test_ridge_on_about_as_many_pairs_as_dimensions_loses_little():
    lost = [_lost_to_ridge(seed) for seed in range(3)]
    # Eight pairs do not always show a first candidate with a plan to be worse by two standard errors.
    assert max(lost) < 0.1
    assert np.mean(lost) < 0.04


def _lost_to_ridge(seed):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(300, 6))
    X, Y = Z, Z @ rng.normal(size=(6, 9)) + 0.02 * rng.normal(size=(300, 9))
    known = np.arange(8)
    bridge = fuse(X[:100], np.vstack([Y[:8], Y[100:192]]), (known, known), n_rounds=(1, 5), kernel_rounds=(0,), **ONE)
    ridge = r2(ridge_map(X[:8], Y[:8], penalty="shared")(X[200:]), Y[200:])
    assert ridge > 0.95
    return ridge - r2(bridge.map(X[200:]), Y[200:])


def problem_of(A, B, rows):
    cost = bridge_cost(A, B, rows)
    return CloudProblem.of(FusedProblem(cost, A, B, rows, (unit_of_cloud(A), unit_of_cloud(B))), 0)


def test_the_first_folds_that_hold_out_enough_pairs_are_used():
    folds = list(make_folds(problem_of(X, Y, PAIRS), 4, 1000, np.random.default_rng(0)))
    n_pairs, held = len(PAIRS[0]), len(folds[0].held)
    assert [len(enough_folds(folds, n)) for n in (1, held, held + 1, n_pairs, n_pairs + 1)] == [1, 1, 2, 4, 4]


@pytest.mark.parametrize(("options", "n_held"), [({}, 400), ({"n_folds": 5}, 1000)])
def test_of_many_pairs_enough_are_held_out(options, n_held):
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(1100, 3))
    A, B = latents @ rng.normal(size=(3, 5)), latents @ rng.normal(size=(3, 4))
    few = {"lams": (0.9,), "epsilons": (0.05,), "n_rounds": (1,), "kernel_rounds": (0,), "maps": ("ridge",)}
    seen = set()

    def classify(points):
        seen.add(len(points))
        return np.zeros(len(points))

    rows = np.arange(1000), np.arange(1000)
    fuse(A, B, rows, criterion="labels", classifier=classify, labels=np.zeros(1000), **few, **options)
    assert seen == {n_held}


def test_rounds_that_are_clearly_behind_are_given_up():
    # What is linear up to small noise is read best by a linear map; of two moons a curved one reads more.
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(300, 4))
    linear = latents @ rng.normal(size=(4, 4)), latents @ rng.normal(size=(4, 4))
    linear = tuple(side + 0.01 * rng.normal(size=side.shape) for side in linear)
    curved = latents, np.c_[np.sin(3 * latents[:, :2]), latents[:, 2:] ** 2]
    rows = np.arange(100), np.arange(100)
    few = {
        "lams": (0.9,),
        "epsilons": (0.05,),
        "n_rounds": (1,),
        "kernel_rounds": (0, 2),
        "maps": ("ridge", "orthogonal"),
    }
    of_linear, of_curved = (fuse(*clouds, rows, seed=0, **few).errors for clouds in (linear, curved))
    # Five folds of 24 pairs hold out 20 after the fourth.
    of_few = fuse(*linear, (rows[0][:24], rows[1][:24]), seed=0, **few).errors
    assert not any(each.kernel_rounds for each in of_few)
    assert {(each.map, each.n_rounds > 0) for each in of_linear if each.kernel_rounds} == set()
    assert ("orthogonal", 5) not in {(each.map, each.n_rounds) for each in of_linear}
    assert {each.kernel_rounds for each in of_curved if each.n_rounds} == {0, 2}


def test_what_a_fold_holds_out_is_in_neither_cloud():
    problem = problem_of(X, Y, PAIRS)
    folds = list(make_folds(problem, 4, 1000, np.random.default_rng(0)))
    assert sorted(np.concatenate([fold.held for fold in folds])) == list(range(len(PAIRS[0])))
    for fold in folds:
        kept = np.setdiff1d(np.arange(len(PAIRS[0])), fold.held)
        clouds = problem.source, problem.target
        fitted = fold.problem.source, fold.problem.target
        for side in (0, 1):
            rows = np.setdiff1d(np.arange(len(clouds[side])), PAIRS[side][fold.held])
            np.testing.assert_array_equal(fitted[side].coordinates, clouds[side].coordinates[rows])
            np.testing.assert_array_equal(fold.points[side], clouds[side].coordinates[PAIRS[side][fold.held]])
            # No anchor is a point that was held out.
            distances = problem.distances[side][:, kept]
            unit = distances[rows].mean()
            np.testing.assert_allclose(fold.problem.distances[side], distances[rows] / unit, rtol=1e-6)
            np.testing.assert_allclose(fold.distances[side], distances[PAIRS[side][fold.held]] / unit, rtol=1e-6)
            np.testing.assert_array_equal(rows[fold.problem.rows[side]], PAIRS[side][kept])


def test_which_pairs_are_held_out_together_does_not_reach_what_is_fitted():
    # Partners of the held-out pairs exchanged among them: every fold is as before.
    problem = problem_of(X, Y, PAIRS)
    for fold in make_folds(problem, 2, 1000, np.random.default_rng(0)):
        exchanged = PAIRS[1].copy()
        exchanged[fold.held] = exchanged[fold.held][::-1]
        others = make_folds(problem_of(X, Y, (PAIRS[0], exchanged)), 2, 1000, np.random.default_rng(0))
        (other,) = [each for each in others if set(each.held) == set(fold.held)]
        np.testing.assert_array_equal(other.problem.bridge, fold.problem.bridge)
        np.testing.assert_array_equal(other.problem.target.coordinates, fold.problem.target.coordinates)


def test_a_point_of_several_pairs_is_held_out_of_all_of_them():
    pairs = np.array([0, 0, 0, 1, 2, 3, 4, 5]), np.array([0, 1, 2, 3, 3, 4, 5, 6])
    problem = problem_of(X, Y, pairs)
    folds = list(make_folds(problem, 8, 1000, np.random.default_rng(0)))
    assert len(folds) == 8
    for fold in folds:
        i, j = fold.problem.rows
        assert len(fold.problem.source) == len(X) - len(set(pairs[0][fold.held]))
        for side, rows, cloud in ((0, i, fold.problem.source), (1, j, fold.problem.target)):
            held = fold.points[side]
            assert not (cloud.coordinates[rows][:, None] == held[None]).all(dim=2).any()


def candidates(n):
    return [Candidate(lam=0.9, epsilon=0.02, n_rounds=k + 1, readout="linear") for k in range(n)]


def test_a_rival_of_the_family_needs_one_standard_error_and_another_family_two():
    first, other = candidates(2)
    turned = replace(other, map="orthogonal", lam=1.0)
    loss = np.random.default_rng(0).random(16)
    # A gain whose standard error is .1.
    spread = np.tile([-1.0, 1.0], 8)
    spread = 0.1 * np.sqrt(16) * spread / spread.std(ddof=1)
    for gain in (0.05, 0.15, 0.25, 0.35):
        beyond_one, beyond_two, beyond_three = gain > 0.1, gain > 0.2, gain > 0.3
        better = loss - gain - spread
        # One more among few points.
        for n_points, of_family, of_others in ((100, beyond_two, beyond_three), (101, beyond_one, beyond_two)):
            assert pick({first: loss, other: better}, first, n_points) == (other if of_family else first)
            assert pick({first: loss, turned: better}, first, n_points) == (turned if of_others else first)
        # Nothing is knowingly worse than ridge of the pairs.
        assert pick({first: loss, RIDGE: better}, first) == (RIDGE if beyond_one else first)
        # A rotation that learns from all points has to be beaten.
        assert pick({first: better, SELF_TRAINED: loss}, first) == (first if beyond_one else SELF_TRAINED)
        assert pick({first: loss, SELF_TRAINED: better}, first) == SELF_TRAINED
    # Nothing is preferred where there is no first one.
    assert pick({first: loss, other: loss - 1e-6}) == other


def test_pairs_that_were_not_held_out_have_no_say():
    first, other = candidates(2)
    loss = np.r_[np.ones(8), np.nan]
    assert pick({first: loss, other: np.r_[np.full(8, 0.5), np.nan]}, first) == other


def ledger_of(predictions, problem):
    """A ledger in which every candidate predicted all pairs, forward and backward."""
    ledger = Ledger(problem)
    everyone = np.arange(len(problem.rows[0]))
    for candidate, sides in predictions.items():
        for direction, predicted in enumerate(sides):
            # The origin of all is the centre.
            ledger.note(candidate, everyone, direction, predicted, -predicted.mean(axis=0), len(predicted))
    return ledger


def test_each_criterion_chooses_what_is_best_for_it():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(60, 4))
    # The dimensions are the principal axes.
    points = np.linalg.qr(draws - draws.mean(axis=0))[0] * [3.0, 2.0, 1.5, 1.0]
    pairs = np.arange(40), np.arange(40)
    problem = problem_of(points, points, pairs)
    truth = problem.target.coordinates[:40].double().numpy()
    labels = (truth[:, 0] > 0).astype(int)
    axis = problem.target.axes[:, 0]

    def classifier(given):
        return ((given - points.mean(axis=0)) @ axis > 0).astype(int)

    noise = rng.normal(size=truth.shape)
    names = ("correlation", "error", "retrieval", "labels")
    best = dict(zip(names, candidates(4), strict=True))
    # The right class, and more noise than that of least error.
    named = truth + 0.5 * noise
    named[:, 0] = np.abs(named[:, 0]) * (2 * labels - 1)
    predicted = {
        # Each coordinate along the truth, in units of its own.
        "correlation": truth * [0.3, 3.0, 0.2, 8.0] + 0.02 * noise,
        "error": truth + 0.3 * noise,
        # The right direction, at any length.
        "retrieval": truth * np.exp(1.2 * rng.normal(size=(40, 1))),
        "labels": named,
    }
    # What is best for another aim names the class of ten points near the border wrongly.
    near = np.argsort(np.abs(truth[:, 0]))[:10]
    for name in ("correlation", "error", "retrieval"):
        predicted[name][near, 0] = -0.2 * truth[near, 0]
    ledger = ledger_of({best[name]: (values, values) for name, values in predicted.items()}, problem)
    for criterion in CRITERIA:
        search = Search((0.9,), (0.02,), (1,), (0,), ("ridge",), criterion, None, 1e-2, 0)
        given = (classifier, labels) if criterion == "labels" else (None, None)
        losses = losses_of(ledger, search, held_pairs(problem, *given, None))
        choice = Choice.of_losses(losses, None, {})
        assert choice.candidates[0] == best[criterion]
        # Source points have no classifier.
        assert choice.candidates[1] == best["correlation" if criterion == "labels" else criterion]
        assert choice.errors[0][best[criterion]] == pytest.approx(np.nanmean(losses[0][best[criterion]]))


def test_maps_of_the_pairs_predict_on_average_what_they_are_judged_about():
    rng = np.random.default_rng(0)
    source, pairs = rng.normal(size=(200, 6)), np.arange(30)
    target = np.tanh(source @ rng.normal(size=(6, 4)))
    for mapping in (
        kernel_map(source[pairs], target[pairs]),
        spectral_map(source[pairs], target[pairs], source_points=source),
    ):
        np.testing.assert_allclose(mapping(source[pairs]).mean(axis=0), target[pairs].mean(axis=0), atol=1e-9)
    relative = relative_map(source, target, (pairs, pairs))(source)
    assert np.abs(relative.mean(axis=0) - target.mean(axis=0)).max() < 0.1 * relative.std()


def test_without_a_relation_every_candidate_is_judged_at_chance():
    # A fit without a pair moves away from it, in both clouds and in the pairs: not even a shrunk map may be judged by that.
    errors = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X, Y = rng.normal(size=(36, 6)), rng.normal(size=(36, 5))
        errors.append(fuse(X, Y, (np.arange(10), np.arange(10)), seed=seed).errors)
    for candidate in set.intersection(*map(set, errors)):
        values = np.array([each[candidate] for each in errors])
        assert abs(values.mean() - 1) < 3 * values.std(ddof=1) / np.sqrt(len(values)) + 0.05, candidate
