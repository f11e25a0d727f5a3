"""Spectral features against their definition, and maps that read them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_moons, make_swiss_roll

from neurobridge.maps.linear import ridge_map
from neurobridge.maps.spectral import nearest, spectral_features, spectral_map


def test_a_circle_has_the_harmonics_of_a_circle():
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    features = spectral_features(np.c_[np.cos(angle), np.sin(angle)], n_features=4, n_neighbors=6)
    harmonics = np.stack([f(k * angle) for k in (1, 2) for f in (np.cos, np.sin)])
    overlaps = np.linalg.svd(harmonics @ features.vectors / 240 * np.sqrt(2), compute_uv=False)
    np.testing.assert_allclose(overlaps, 1, atol=1e-3)
    np.testing.assert_allclose((features.vectors**2).mean(axis=0), 1)


def test_lanczos_and_the_dense_method_agree():
    X = make_swiss_roll(500, random_state=0)[0]
    sparse_way, dense_way = spectral_features(X, n_features=6), spectral_features(X, n_features=200)
    np.testing.assert_allclose(sparse_way.eigenvalues, dense_way.eigenvalues[:6], atol=1e-8)
    np.testing.assert_allclose(np.abs((sparse_way.vectors * dense_way.vectors[:, :6]).mean(axis=0)), 1, atol=1e-6)


def test_new_points_have_the_features_of_where_they_lie():
    X = make_swiss_roll(900, random_state=0)[0]
    features = spectral_features(X[::2], n_features=5, n_neighbors=8)
    all_features = spectral_features(X, n_features=5, n_neighbors=8)
    overlap = np.corrcoef(features(X[1::2])[:, 0], all_features.vectors[1::2, 0])[0, 1]
    assert abs(overlap) > 0.95
    np.testing.assert_allclose(features(X[::2])[:, 0], features.vectors[:, 0], atol=0.35)


@settings(max_examples=5, deadline=None)
@given(st.floats(-12, 9), st.floats(-12, 9))
def test_units_and_offsets_change_nothing(of_x, of_y):
    X, moon = make_moons(120, noise=0.05, random_state=0)
    Y = np.c_[moon, X[:, 0]]
    expected = spectral_map(X[:20], Y[:20], source_points=X)(X)
    moved = spectral_map(10**of_x * (X[:20] + 5), 10**of_y * Y[:20], source_points=10**of_x * (X + 5))
    np.testing.assert_allclose(moved(10**of_x * (X + 5)) / 10**of_y, expected, atol=1e-6)


@pytest.mark.parametrize(
    "points",
    [
        np.arange(2.0)[:, None], np.arange(3.0)[:, None], np.ones((30, 2)), np.repeat(np.arange(3.0), 15)[:, None],
        np.r_[np.zeros((20, 2)), np.random.default_rng(0).normal(size=(20, 2)), [[1e6, 0]]],
        np.random.default_rng(0).normal(size=(20, 400)),
    ],
    ids=["two", "three", "all the same", "ties", "duplicates and one far away", "wide"],
)  # fmt: skip
def test_few_points_and_duplicates_give_finite_features(points):
    features = spectral_features(points)
    assert np.isfinite(features.vectors).all()
    assert np.isfinite(features(points + 0.1)).all()
    fitted = spectral_map(points[[0, -1]], points[[0, -1]], source_points=points)
    assert np.isfinite(fitted(points)).all()


def test_parts_that_are_not_linked_have_indicators():
    X = np.r_[np.random.default_rng(0).normal(size=(2, 50, 2)).reshape(100, 2)] + np.repeat([0, 100], 50)[:, None]
    features = spectral_features(X, n_features=1)
    assert features.eigenvalues[0] == pytest.approx(1)
    assert np.ptp(features.vectors[:50]) == pytest.approx(0, abs=1e-6)
    assert features.vectors[0, 0] * features.vectors[99, 0] < 0


def test_large_clouds_are_drawn_from():
    X = np.random.default_rng(0).normal(size=(300, 2))
    features = spectral_features(X, max_points=100, n_features=3)
    assert features.vectors.shape == (100, 3)
    assert features(X).shape == (300, 3)


def test_neighbours_are_exact():
    cloud, X = np.random.default_rng(0).normal(size=(2, 40, 30)) * 1e-9 + 1
    distance, index = nearest(cloud, X, 3)
    exact = np.linalg.norm(X[:, None] - cloud, axis=2)
    np.testing.assert_array_equal(index, np.argsort(exact, axis=1)[:, :3])
    assert (np.diff(distance, axis=1) >= 0).all()


def test_sixteen_pairs_read_two_moons_and_a_line_does_not_lose():
    X, moon = make_moons(300, noise=0.05, random_state=1)
    Y = moon[:, None].astype(float)
    errors = [((fit(X)[:, 0] > 0.5) != moon).mean() for fit in (
        spectral_map(X[:16], Y[:16], source_points=X), ridge_map(X[:16], Y[:16], penalty="shared"),
    )]  # fmt: skip
    assert errors[0] < 0.02 < errors[1]
    line = np.random.default_rng(0).normal(size=(300, 5))
    straight = spectral_map(line[:40], line[:40, :2], source_points=line)
    np.testing.assert_allclose(straight(line), line[:, :2], atol=0.02)


def test_what_does_not_fit_is_refused():
    X = np.random.default_rng(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match=r"3 .* 2;"):
        spectral_map(X, X, source_points=X[:, :2])
    with pytest.raises(ValueError, match="n_features=0"):
        spectral_features(X, n_features=0)
    with pytest.raises(ValueError, match=r"\(-1,\)"):
        spectral_map(X, X, gains=(-1,))
