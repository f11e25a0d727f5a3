"""Distances between clouds against closed forms, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import ortho_group, wasserstein_distance

from neurobridge.evaluate.similarity.distribution import frechet_distance, median_distance, mmd, sliced_wasserstein
from tests.refusals import refused

ALL = [sliced_wasserstein, mmd, frechet_distance]


def cloud(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.parametrize("d", [2, 7])
def test_a_shift_is_seen_by_each_direction_as_its_share(d):
    X = cloud(20, d)
    shift = np.arange(1.0, d + 1)
    # E (u . v)^2 over the sphere is |v|^2 / d.
    found = sliced_wasserstein(X, X + shift, n_projections=20_000, seed=1)
    assert found == pytest.approx(np.linalg.norm(shift) / np.sqrt(d), rel=0.02)


def test_one_dimension_has_one_slice():
    X, Y = cloud(30, 1), 2 * cloud(50, 1, seed=1) + 1
    for seed in (0, 1):
        found = sliced_wasserstein(X, Y, p=1, n_projections=3, seed=seed)
        assert found == pytest.approx(wasserstein_distance(X[:, 0], Y[:, 0]))


def test_directions_belong_to_the_seed():
    X, Y = cloud(50, 4), cloud(60, 4, seed=1)
    assert sliced_wasserstein(X, Y, seed=3) == sliced_wasserstein(X, Y, seed=3)
    assert sliced_wasserstein(X, Y, seed=3) != sliced_wasserstein(X, Y, seed=4)
    assert sliced_wasserstein(X, X) == pytest.approx(0, abs=1e-12)


def test_the_mean_discrepancy_is_the_sum_over_different_pairs():
    X, Y = cloud(5, 2), cloud(4, 2, seed=1) + 1

    def k(a, b):
        return np.exp(-np.sum((a - b) ** 2) / (2 * 0.7**2))

    within_x = np.mean([k(X[i], X[j]) for i in range(5) for j in range(5) if i != j])
    within_y = np.mean([k(Y[i], Y[j]) for i in range(4) for j in range(4) if i != j])
    between = np.mean([k(x, y) for x in X for y in Y])
    assert mmd(X, Y, bandwidth=0.7) == pytest.approx(within_x + within_y - 2 * between, rel=1e-12)


def test_the_mean_discrepancy_of_two_gaussians():
    # Under k of bandwidth h, E k(x, y) for N(a, 1) and N(b, 1) is h / sqrt(h^2 + 2) exp(-(a - b)^2 / (2 (h^2 + 2))).
    X, Y, h = cloud(4000, 1), cloud(3000, 1, seed=1) + 1.5, 0.8
    same = h / np.sqrt(h**2 + 2)
    exact = 2 * same * (1 - np.exp(-(1.5**2) / (2 * (h**2 + 2))))
    assert mmd(X, Y, bandwidth=h) == pytest.approx(exact, rel=0.03)


def test_the_mean_discrepancy_has_no_bias():
    draws = [mmd(cloud(20, 3, seed=s), cloud(30, 3, seed=1000 + s), bandwidth=1.5) for s in range(300)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(len(draws))
    assert min(draws) < 0 < max(draws)


def test_blocks_do_not_matter(monkeypatch):
    X, Y = cloud(70, 3), cloud(90, 3, seed=1)
    whole = mmd(X, Y)
    monkeypatch.setattr("neurobridge.evaluate.similarity.distribution.BLOCK", 16)
    assert mmd(X, Y) == pytest.approx(whole, rel=1e-10)


def test_the_median_is_that_of_all_points_together():
    X, Y = cloud(40, 3), cloud(30, 3, seed=1) + 2
    assert mmd(X, Y) == mmd(X, Y, bandwidth=median_distance(np.concatenate([X, Y])))
    Z = np.array([[0.0], [1.0], [3.0]])
    assert median_distance(Z) == 2


def test_the_median_of_many_points_is_that_of_some(monkeypatch):
    X = cloud(3000, 2)
    whole = median_distance(X)
    monkeypatch.setattr("neurobridge.evaluate.similarity.distribution.N_MEDIAN", 300)
    assert median_distance(X) == pytest.approx(whole, rel=0.1)
    assert median_distance(X) != whole


@given(st.integers(1, 6), st.integers(2, 40), st.integers(2, 40), st.integers(0, 1000))
def test_frechet_is_the_formula_and_is_symmetric(d, n, m, seed):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, d)), 1.5 * rng.normal(size=(m, d)) + 1
    S, T = np.atleast_2d(np.cov(X.T)), np.atleast_2d(np.cov(Y.T))
    values, vectors = np.linalg.eigh(S)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ T @ root), 0)).sum()
    exact = np.sum((X.mean(0) - Y.mean(0)) ** 2) + np.trace(S) + np.trace(T) - 2 * shared
    assert frechet_distance(X, Y) == pytest.approx(exact, rel=1e-6, abs=1e-6)
    assert frechet_distance(Y, X) == pytest.approx(frechet_distance(X, Y), rel=1e-9, abs=1e-9)


def test_frechet_agrees_with_the_matrix_root():
    X, Y = cloud(300, 5) @ cloud(5, 5, seed=2), cloud(200, 5, seed=1) + 1
    S, T = np.cov(X.T), np.cov(Y.T)
    exact = np.sum((X.mean(0) - Y.mean(0)) ** 2) + np.trace(S + T - 2 * sqrtm(S @ T).real)
    assert frechet_distance(X, Y) == pytest.approx(exact, rel=1e-8)


def test_frechet_of_a_shifted_and_stretched_cloud():
    X = cloud(100, 3)
    assert frechet_distance(X, X) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(X, X + np.array([3, 0, 4])) == pytest.approx(25)
    assert frechet_distance(X, 3 * (X - X.mean(0)) + X.mean(0)) == pytest.approx(4 * np.trace(np.cov(X.T)))


@pytest.mark.parametrize("distance", ALL)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_rotating_both_clouds_changes_little_or_nothing(distance, seed):
    X, Y = cloud(40, 3, seed), cloud(50, 3, seed + 1) + 1
    Q = ortho_group.rvs(3, random_state=seed)
    rel = 0.2 if distance is sliced_wasserstein else 1e-9  # other directions are drawn, in effect
    assert distance(X @ Q, Y @ Q) == pytest.approx(distance(X, Y), rel=rel)


@pytest.mark.parametrize("distance", ALL)
def test_points_that_cannot_be_compared_are_refused(distance):
    X = cloud(10, 3)
    with pytest.raises(ValueError, match=r"3 dimensions.*2.*Mend"):
        distance(X, X[:, :2])
    for bad in (X[0], X[:1], X[:, :0], np.where(X.max() == X, np.nan, X)):
        with pytest.raises(ValueError, match=r"Y.*shape.*Mend"):
            distance(X, bad)


def test_settings_out_of_range_are_refused():
    X = cloud(10, 3)
    with refused(ValueError, "n_projections=0", "p=2"):
        sliced_wasserstein(X, X, n_projections=0)
    with pytest.raises(ValueError, match=r"p=0.*1.*Mend"):
        sliced_wasserstein(X, X, p=0)
    for width in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match=r"bandwidth.*Mend"):
            mmd(X, X, bandwidth=width)
    with pytest.raises(ValueError, match=r"0.0"):
        mmd(np.zeros((5, 2)), np.zeros((4, 2)))
