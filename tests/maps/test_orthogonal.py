"""Rotations and canonical maps against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes
from sklearn.cross_decomposition import CCA

from neurobridge.maps.canonical import CanonicalDesign
from neurobridge.maps.linear import LinearMap
from neurobridge.maps.orthogonal import rotation_and_scales, svd


def centred(seed: int, n: int = 40, d: int = 5) -> np.ndarray:
    X = np.random.default_rng(seed).normal(size=(n, d))
    return X - X.mean(axis=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_a_turned_and_stretched_cloud_is_turned_back(seed, factor):
    X = centred(seed)
    turn = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(5, 5)))[0]
    rotation, scales = rotation_and_scales(X, factor * X @ turn)
    np.testing.assert_allclose(rotation, turn, atol=1e-8)
    np.testing.assert_allclose(scales, (factor, 1 / factor), rtol=1e-8)


def test_the_residual_is_that_of_scipy():
    X, Y = centred(0), centred(1)
    X, Y = X / np.linalg.norm(X), Y / np.linalg.norm(Y)
    rotation, (scale, _) = rotation_and_scales(X, Y)
    assert ((scale * X @ rotation - Y) ** 2).sum() == pytest.approx(procrustes(X, Y)[2])
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(5), atol=1e-12)


def test_a_decomposition_that_does_not_converge_is_made_by_the_surer_method(monkeypatch):
    def fails(matrix, full_matrices=True):
        raise np.linalg.LinAlgError

    matrix = centred(2)
    expected = np.linalg.svd(matrix)[1]
    monkeypatch.setattr(np.linalg, "svd", fails)
    np.testing.assert_allclose(svd(matrix)[1], expected)


def test_canonical_correlations_are_those_of_sklearn():
    X, noise = centred(3, 200, 4), centred(4, 200, 3)
    Y = X[:, :3] + np.array([0.3, 1.0, 2.0]) * noise
    ours = CanonicalDesign(X, Y).rotated(0.0)[1]
    U, V = CCA(3, max_iter=50_000, tol=1e-12, scale=False).fit_transform(X, Y)
    theirs = [np.corrcoef(U[:, k], V[:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_all_variates_without_a_penalty_are_least_squares():
    X, Y = centred(5, 60, 4), centred(6, 60, 3)
    forward_map = CanonicalDesign(X, Y).map(0.0, 3)
    assert isinstance(forward_map, LinearMap)
    np.testing.assert_allclose(forward_map.coef, np.linalg.lstsq(X, Y, rcond=None)[0], atol=1e-10)


def test_points_that_do_not_vary_have_no_variates():
    design = CanonicalDesign(np.ones((5, 3)), centred(7, 5, 2))
    assert design.rank == 1
    np.testing.assert_allclose(design.map(0.1, 1)(np.ones((2, 3))), 0, atol=1e-12)
