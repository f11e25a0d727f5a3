"""Criteria: closed forms of the losses, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from neurobridge.bridge import CRITERIA, Candidate, fuse
from neurobridge.bridge.fused.choosing.criteria import Held, losses

RNG = np.random.default_rng(0)
AXES = 2.5 * np.linalg.qr(RNG.normal(size=(6, 3)))[0]
TRUTH, OTHERS = RNG.normal(size=(25, 3)), RNG.normal(size=(50, 3))
CENTRE = np.zeros(6)
HELD = Held(TRUTH, OTHERS, AXES, CENTRE)
PREDICTED = 0.7 * TRUTH + RNG.normal(size=TRUTH.shape)
X, Y, PAIRS = RNG.normal(size=(30, 3)), RNG.normal(size=(28, 2)), (np.arange(6), np.arange(6))
QUICK = {
    "metric": "euclidean",
    "n_rounds": (1,),
    "kernel_rounds": (0,),
    "lams": (0.9,),
    "epsilons": (0.1,),
    "n_folds": 2,
}


def sign(points):
    return (points[:, 0] > 0).astype(int)


def by_labels(truth=TRUTH):
    return Held(truth, OTHERS, AXES, CENTRE, classify=sign, labels=sign(truth @ AXES.T))


def test_the_mean_loss_of_correlation_is_one_minus_the_mean_correlation():
    def correlations(predicted, truth):
        return np.array([np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T, truth.T, strict=True)])

    r = correlations(PREDICTED @ AXES.T, TRUTH @ AXES.T)
    assert losses("correlation", PREDICTED, HELD).mean() == pytest.approx(1 - r.mean(), abs=1e-12)
    # Of each dimension alone, whatever its unit.
    scaled = Held(TRUTH, OTHERS, np.diag([1e-9, 1.0, 1e9]), np.zeros(3))
    r = correlations(PREDICTED, TRUTH)
    assert losses("correlation", PREDICTED, scaled).mean() == pytest.approx(1 - r.mean(), abs=1e-9)
    flat = Held(TRUTH * [1, 1, 0], OTHERS, np.eye(3), np.zeros(3))
    # A dimension in which the truth does not vary says nothing.
    assert losses("correlation", PREDICTED, flat).mean() == pytest.approx(1 - r[:2].mean(), abs=1e-12)


def test_correlations_are_about_what_the_fits_predict_on_average():
    # A shift that differs from fold to fold says nothing about the order of stimuli.
    shifts = RNG.normal(size=PREDICTED.shape)
    expected = losses("correlation", PREDICTED, HELD)
    np.testing.assert_allclose(losses("correlation", PREDICTED + shifts, HELD, shifts), expected, atol=1e-12)
    # Means of the others, one pair left out at a time, are constant predictions, whose own correlation is -1.
    held = Held(TRUTH, OTHERS, AXES, CENTRE)
    of_others = (TRUTH.sum(axis=0) - TRUTH) / (len(TRUTH) - 1)
    assert losses("correlation", of_others, held).mean() == pytest.approx(2)
    rounded = of_others.astype(np.float32).astype(float)
    assert losses("correlation", of_others, held, rounded).mean() == pytest.approx(1)
    # Of retrieval and error the place in the space is part.
    for criterion in ("error", "retrieval"):
        loss = losses(criterion, PREDICTED, HELD)
        np.testing.assert_array_equal(losses(criterion, PREDICTED, HELD, shifts), loss)


def test_the_loss_of_error_is_one_for_the_mean_of_the_truths():
    squares = ((PREDICTED - TRUTH) ** 2).sum(axis=1)
    variance = ((TRUTH - TRUTH.mean(axis=0)) ** 2).sum(axis=1).mean()
    np.testing.assert_allclose(losses("error", PREDICTED, HELD), squares / variance, rtol=1e-12)
    mean = np.repeat(TRUTH.mean(axis=0)[None], len(TRUTH), axis=0)
    assert losses("error", mean, HELD).mean() == pytest.approx(1)


def expected_ranks(images, points, others):
    def cosine(A, B):
        A, B = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (A, B))
        return A @ B.T

    gallery = np.vstack([points, others])
    forward, backward = cosine(images, gallery), cosine(points, images)
    k = np.arange(len(points))
    rank = 1 + (forward > forward[k, k][:, None]).sum(axis=1)
    rank_back = 1 + (backward > backward[k, k][:, None]).sum(axis=1)
    return (np.log(rank) / np.log(len(gallery)) + np.log(rank_back) / np.log(len(points))) / 2


@pytest.mark.parametrize("centre", [np.zeros(6), RNG.normal(size=6)], ids=["about the centre", "about another origin"])
def test_the_loss_of_retrieval_is_the_logarithm_of_the_rank_by_cosine(centre):
    # Predictions that are shrunk towards the centre are spread as far as the truths first.
    spread = np.sqrt((TRUTH**2).sum() / (PREDICTED**2).sum())
    sides = [side @ AXES.T + centre for side in (spread * PREDICTED, TRUTH, OTHERS)]
    expected = expected_ranks(*sides)
    for shrunk in (1.0, 0.1):
        loss = losses("retrieval", shrunk * PREDICTED, Held(TRUTH, OTHERS, AXES, centre))
        np.testing.assert_allclose(loss, expected, atol=1e-12)
    # Partners may be sought in other coordinates than those of the points.
    loss = losses("retrieval", PREDICTED, Held(TRUTH, OTHERS, AXES, centre, lambda points: points[:, :3]))
    np.testing.assert_allclose(loss, expected_ranks(*(side[:, :3] for side in sides)), atol=1e-12)


def test_the_loss_of_labels_is_half_wrong_ones_and_half_that_of_correlation():
    wrong = sign(PREDICTED @ AXES.T) != sign(TRUTH @ AXES.T)
    expected = (wrong + losses("correlation", PREDICTED, HELD)) / 2
    np.testing.assert_allclose(losses("labels", PREDICTED, by_labels()), expected, atol=1e-12)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_perfect_prediction_has_no_loss_and_pairs_that_were_not_held_out_none_either(criterion):
    held = by_labels() if criterion == "labels" else HELD
    np.testing.assert_allclose(losses(criterion, TRUTH, held), 0, atol=1e-12)
    some = np.where(np.arange(len(TRUTH))[:, None] < 10, PREDICTED, np.nan)
    loss = losses(criterion, some, held)
    assert np.isnan(loss[10:]).all()
    few = Held(TRUTH[:10], OTHERS, AXES, CENTRE, None, held.classify, None if held.labels is None else held.labels[:10])
    np.testing.assert_allclose(loss[:10], losses(criterion, PREDICTED[:10], few), atol=1e-12)
    nothing = losses(criterion, np.full_like(TRUTH, np.nan), held)
    assert np.isnan(nothing).all()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_constant_prediction_is_no_better_than_chance(level):
    centred = TRUTH - TRUTH.mean(axis=0)
    held = Held(centred, OTHERS, AXES, CENTRE)
    constant = np.full_like(centred, level)
    assert losses("correlation", constant, held).mean() == pytest.approx(1)
    assert losses("error", constant, held).mean() > 1 - 1e-9
    # Ranks of a partner at random.
    ranks = [np.log(np.arange(1, n + 1)).mean() / np.log(n) for n in (len(TRUTH) + len(OTHERS), len(TRUTH))]
    assert losses("retrieval", constant, held).mean() > np.mean(ranks) - 0.1
    if level == 0:
        assert losses("retrieval", constant, held).mean() > np.mean(ranks)


LABELS = np.arange(6) % 2
REFUSED = {
    "unknown": ({"criterion": "accuracy"}, r"criterion='accuracy'.*'correlation', 'error', 'retrieval', 'labels'"),
    "a classifier that is not read": ({"classifier": sign}, r"criterion='correlation'.*criterion='labels'"),
    "labels that are not read": ({"criterion": "error", "labels": LABELS}, r"criterion='error'"),
    "no classifier": ({"criterion": "labels", "labels": LABELS}, r"classifier=None and labels=given"),
    "no labels": ({"criterion": "labels", "classifier": sign}, r"labels=None"),
    "no classifier but a name": ({"criterion": "labels", "classifier": "svm", "labels": LABELS}, r"classifier='svm'"),
    "too few labels": ({"criterion": "labels", "classifier": sign, "labels": LABELS[:5]}, r"\(5,\).*\(6,\)"),
    "scores": (
        {"criterion": "labels", "classifier": lambda points: points, "labels": LABELS},
        r"classifier.*\(6, 2\).*\b6 points",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_criterion_cannot_use_is_refused(case):
    options, message = REFUSED[case]
    with pytest.raises(ValueError, match=f"{message}.*Mend"):
        fuse(X, Y, PAIRS, **QUICK, **options)


class Predictor:
    def predict(self, points):
        return sign(points)


def test_a_classifier_reads_points_in_the_units_of_the_target_and_is_called_or_predicts():
    seen = []

    def classifier(points):
        seen.append(points)
        return sign(points)

    far = 1e3 * Y + 5e3
    bridges = [
        fuse(X, far, PAIRS, criterion="labels", classifier=each, labels=LABELS, **QUICK)
        for each in (classifier, Predictor())
    ]
    assert bridges[0].errors == bridges[1].errors
    assert all(points.shape == (6, 2) for points in seen)
    assert abs(np.concatenate(seen).mean() - far.mean()) < 2 * far.std()
    correlation = fuse(X, far, PAIRS, **QUICK).errors
    for candidate, error in bridges[0].errors.items():
        n_wrong = 6 * (2 * error - correlation[candidate])
        assert n_wrong == pytest.approx(round(n_wrong), abs=1e-6)
        assert -1e-6 < n_wrong < 6 + 1e-6
    assert bridges[0].criterion == "labels"


def test_images_of_retrieval_spread_as_far_as_held_out_points():
    pulled = fuse(X, Y, PAIRS, criterion="retrieval", **QUICK)
    plain = fuse(X, Y, PAIRS, candidate=pulled.candidate, metric="euclidean") if pulled.candidate.n_rounds else None
    assert min(pulled.spreads) > 0
    if plain is not None:
        centre = Y.mean(axis=0)
        np.testing.assert_allclose(pulled.map(X) - centre, pulled.spreads[0] * (plain.map(X) - centre), atol=1e-9)
    # Where nothing is held out: as far as the points of the space.
    candidate = Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="mean")
    given = fuse(X, Y, PAIRS, criterion="retrieval", candidate=candidate, metric="euclidean")
    for images, points in ((given.map(X), Y), (given.map_back(Y), X)):
        centre = points.mean(axis=0)
        spread = [np.sqrt(((side - centre) ** 2).sum(axis=1).mean()) for side in (images, points)]
        assert spread[0] == pytest.approx(spread[1], rel=1e-6)
    assert fuse(X, Y, PAIRS, **QUICK).spreads == (1.0, 1.0)


def test_held_out_predictions_say_how_far_images_spread():
    assert HELD.spread(TRUTH / 4) == pytest.approx(4)
    assert HELD.spread(np.zeros_like(TRUTH)) == 1
    some = np.where(np.arange(len(TRUTH))[:, None] < 10, TRUTH / 2, np.nan)
    assert HELD.spread(some) == pytest.approx(2)


def test_where_partners_are_sought_reaches_the_choice_alone():
    seen = []

    def own_units(points):
        seen.append(points.shape[1])
        return points + 3

    bridge = fuse(X, Y, PAIRS, criterion="retrieval", sought_in=(own_units, own_units), **QUICK)
    assert set(seen) == {2, 3}
    assert bridge.map(X).shape == (30, 2)
