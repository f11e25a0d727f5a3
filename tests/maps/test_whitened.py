"""Whitened maps against Procrustes and least squares, and on halves of real recording sites."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from neurobridge.maps.linear import ridge_map
from neurobridge.maps.principal import PrincipalCoordinates
from neurobridge.maps.whitened import choose_whitened, whitened_candidates, whitened_map
from neurobridge.maps.whitening import WhitenedDesign, WhitenedSettings

PROCRUSTES = WhitenedSettings(power=0.0, exponent=0.0)


def cloud(n: int = 60, d: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) * np.arange(1, d + 1)


def turn(d: int, seed: int = 1) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-12, 9), st.floats(-12, 9), st.floats(0, 1), st.floats(0, 1))
def test_units_offsets_and_rotations_change_nothing(seed, of_x, of_y, power, exponent):
    rng = np.random.default_rng(seed)
    X = cloud(seed=seed)
    Y = X @ rng.normal(size=(5, 3)) + rng.normal(size=(60, 3))
    chosen = WhitenedSettings(power, None, exponent)

    def images(A, B):
        return whitened_map(A[:8], B[:8], source_points=A, target_points=B, settings=chosen)(A)

    expected = images(X, Y)
    moved = images(10**of_x * (X + 3) @ turn(5), 10**of_y * (Y - 2)) / 10**of_y + 2
    np.testing.assert_allclose(moved, expected, atol=1e-6 * np.abs(expected).max())


def test_without_whitening_it_is_procrustes():
    X, Y = cloud(), cloud(seed=1)
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    rotation = linalg.orthogonal_procrustes(X, Y)[0]
    scale = (X @ rotation * Y).sum() / (X**2).sum()
    np.testing.assert_allclose(WhitenedDesign(X, Y).map(X, Y, PROCRUSTES).coef, scale * rotation, atol=1e-10)


def test_fully_whitened_cross_covariance_is_least_squares():
    X, Y = cloud(), cloud(d=3, seed=1)
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    fitted = WhitenedDesign(X, Y).map(X, Y, WhitenedSettings(power=1.0, exponent=1.0))
    np.testing.assert_allclose(fitted.coef, np.linalg.lstsq(X, Y, rcond=None)[0], atol=1e-10)


def test_affinely_related_clouds_are_matched_where_whitening_is_complete():
    X = cloud()
    Y = X @ np.random.default_rng(3).normal(size=(5, 5)) + 4
    full = WhitenedSettings(power=1.0, exponent=0.0)
    np.testing.assert_allclose(WhitenedDesign(X, Y).map(X[:6], Y[:6], full)(X), Y, atol=1e-7)
    assert np.abs(WhitenedDesign(X, Y).map(X[:6], Y[:6], PROCRUSTES)(X) - Y).max() > 0.1


def test_left_out_predictions_are_those_of_maps_without_the_pair():
    X, Y = cloud(), cloud(d=3, seed=1)
    design, weights = WhitenedDesign(X, Y), np.arange(1.0, 11)
    for chosen in (WhitenedSettings(0.7, 2, 0.5, "pairs"), WhitenedSettings(0.3, None, 1.0, "points", 0.2)):
        folds = [np.array([0, 3]), np.array([1, 2, 4]), np.arange(5, 10)]
        predicted = design.left_out(X[:10], Y[:10], [chosen], folds, weights=weights)[chosen]
        for fold in folds:
            kept = np.setdiff1d(np.arange(10), fold)
            expected = design.map(X[kept], Y[kept], chosen, weights=weights[kept])(X[fold])
            np.testing.assert_allclose(design.target.of(expected), predicted[fold], atol=1e-10)


def test_whole_weights_are_repetitions():
    X, Y, weights = cloud(), cloud(seed=1), np.array([1, 2, 3, 1, 1, 2])
    design, chosen = WhitenedDesign(X, Y), WhitenedSettings(0.5, 3, 0.5, "pairs")
    repeated = design.map(*(side[:6].repeat(weights, axis=0) for side in (X, Y)), chosen)
    np.testing.assert_allclose(design.map(X[:6], Y[:6], chosen, weights=weights).coef, repeated.coef, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "d"), [(2, 1), (2, 40), (7, 3), (30, 300)], ids=["two numbers", "two wide", "tall", "wide"]
)
def test_few_points_constant_columns_and_duplicates_give_finite_maps(n, d):
    X = np.random.default_rng(0).normal(size=(n, d))
    X = np.c_[X, np.ones(n)][np.r_[np.arange(n), 0]]
    for chosen in (None, PROCRUSTES, WhitenedSettings(power=1.0, rank=50)):
        images = whitened_map(X[:2], X[:2, :2], source_points=X, target_points=X[:, :2], settings=chosen)(X)
        assert np.isfinite(images).all()


def test_points_that_do_not_vary_go_to_the_mean():
    X, Y = np.ones((5, 3)), cloud(5, 2)
    np.testing.assert_allclose(whitened_map(X, Y)(X), np.tile(Y.mean(axis=0), (5, 1)))
    np.testing.assert_allclose(whitened_map(Y, X)(Y), X)


def test_principal_coordinates_are_those_of_a_decomposition():
    for X in (cloud(40, 6), cloud(6, 40)):
        side, (_, S, Vt) = PrincipalCoordinates(X), np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
        kept = len(side.variances)
        np.testing.assert_allclose(side.variances * side.unit**2, S[:kept] ** 2 / len(X))
        np.testing.assert_allclose(np.abs((side.axes * Vt[:kept].T).sum(axis=0)), 1)


def test_large_clouds_keep_their_leading_components(monkeypatch):
    X = np.random.default_rng(0).normal(size=(80, 60)) / np.arange(1, 61) ** 2
    exact = PrincipalCoordinates(X)
    monkeypatch.setattr("neurobridge.maps.principal._EXACT", 20)
    np.testing.assert_allclose(PrincipalCoordinates(X, max_rank=10).variances, exact.variances[:10], rtol=1e-3)


def test_the_choice_needs_a_convincing_lead():
    X = cloud(200)
    design = WhitenedDesign(X, X @ turn(5))
    candidates = whitened_candidates(40, design.rank)
    assert choose_whitened(design, X[:40], X[:40] @ turn(5), settings=candidates).exponent == 0
    unrelated = cloud(200, seed=5)
    assert choose_whitened(WhitenedDesign(X, unrelated), X[:10], unrelated[:10]) == whitened_candidates(10, 5)[0]


@pytest.mark.parametrize(
    ("change", "facts"),
    [({"power": 1.5}, "1.5"), ({"rank": 0}, "rank=0"), ({"centre": "median"}, "median"), ({"shrinkage": -1}, "-1")],
)
def test_settings_out_of_range_are_refused(change, facts):
    X = cloud()
    with pytest.raises(ValueError, match=facts):
        whitened_map(X, X, settings=WhitenedSettings()._replace(**change))


def test_unpaired_points_of_another_kind_leave_the_mean_to_the_pairs():
    X = cloud(300)
    Y = X @ turn(5)
    shifted = np.r_[Y[:40], Y[40:] + 30]
    design = WhitenedDesign(X, shifted)
    assert choose_whitened(design, X[:40], Y[:40]).centre == "pairs"
    assert choose_whitened(WhitenedDesign(X, Y), X[:40], Y[:40]).centre == "points"


def test_what_does_not_fit_is_refused():
    X = cloud()
    with pytest.raises(ValueError, match=r"5 and 2 .*4 and 2"):
        whitened_map(X[:9], X[:9, :2], source_points=X[:, :4])
    with pytest.raises(ValueError, match=r"\(3,\); expected 9"):
        whitened_map(X[:9], X[:9], weights=np.ones(3))
    with pytest.raises(ValueError, match="positive"):
        WhitenedDesign(X, X, source_weights=np.zeros(60))


def test_halves_of_real_sites_are_matched_better_than_by_ridge_on_twenty_pairs(mirror):
    responses = np.load(mirror / "majajhong2015-it-v6" / "data_subset.npy", allow_pickle=False).astype(float)
    halves = np.array_split(np.random.default_rng(0).permutation(responses.shape[1]), 2)
    scores = []
    for seed in (100, 101):
        order = np.random.default_rng(seed).permutation(len(responses))
        test, pairs, unpaired = order[:128], order[128:148], order[148:]
        X, Y = (responses[np.r_[pairs, unpaired[k::2]]][:, half] for k, half in enumerate(halves))
        scale = X.std(axis=0)
        X, Y = X / scale, Y / Y.std(axis=0)
        maps = whitened_map(X[:20], Y[:20], source_points=X, target_points=Y), ridge_map(X[:20], Y[:20])
        points, truth = responses[test][:, halves[0]] / scale, responses[test][:, halves[1]]
        scores.append([
            np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(each(points).T, truth.T, strict=True)])
            for each in maps
        ])  # fmt: skip
    whitened, ridge = np.mean(scores, axis=0)
    assert whitened > ridge + 0.01
    assert whitened > 0.55
