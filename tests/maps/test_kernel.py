"""The kernel ridge map against scikit-learn and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.kernel_ridge import KernelRidge

from neurobridge.bridge import ridge_map
from neurobridge.maps.kernel import kernel_map

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)) + 2
Y = np.stack([np.sin(2 * X[:, 0]), X[:, 1] * X[:, 2], X[:, 0]], axis=1)
NEW = RNG.normal(size=(20, 3)) + 2


def gram(A, B, X, width, mix, weights):
    share = weights / weights.sum()
    mean = share @ X
    length = share @ ((X - mean) ** 2).sum(axis=1)
    squares = ((A[:, None] - B[None]) ** 2).sum(axis=2)
    return mix * np.exp(-squares / (2 * width**2)) + (1 - mix) * (A - mean) @ (B - mean).T / length


def test_agrees_with_scikit_learn():
    width, mix, alpha = np.median(pdist(X)), 0.7, 0.05
    ours = kernel_map(X, Y, shapes=[(1.0, mix)], alphas=(alpha,))
    # Ours has a free offset: centre the kernel and the targets for theirs.
    ones = np.ones(len(X))
    K, K_new = gram(X, X, X, width, mix, ones), gram(NEW, X, X, width, mix, ones)
    centred = K - K.mean(0) - K.mean(1)[:, None] + K.mean()
    centred_new = K_new - K_new.mean(1)[:, None] - K.mean(0) + K.mean()
    theirs = KernelRidge(alpha=alpha, kernel="precomputed").fit(centred, Y - Y.mean(0))
    np.testing.assert_allclose(ours(NEW), theirs.predict(centred_new) + Y.mean(0), rtol=1e-4, atol=1e-4)


def test_its_linear_limit_is_ridge():
    length = ((X - X.mean(0)) ** 2).sum(1).mean()
    ours = kernel_map(X, Y, shapes=[(1.0, 0.0)], alphas=(0.1,))
    theirs = ridge_map(X, Y, alphas=(0.1 * length,), unit=1.0)
    np.testing.assert_allclose(ours(NEW), theirs(NEW), rtol=1e-8, atol=1e-10)


def test_whole_weights_are_repeated_samples():
    weights = RNG.integers(1, 4, len(X)).astype(float)
    repeated = np.repeat(np.arange(len(X)), weights.astype(int))
    # A linear kernel, whose width does not depend on how often samples are repeated; penalties in units of the mean weight.
    weighted = kernel_map(X, Y, weights=weights, shapes=[(1.0, 0.0)], alphas=(0.1,))
    plain = kernel_map(X[repeated], Y[repeated], shapes=[(1.0, 0.0)], alphas=(0.1 * weights.mean(),))
    np.testing.assert_allclose(weighted(NEW), plain(NEW), rtol=1e-8, atol=1e-10)


def test_leave_one_out_is_what_leaving_one_out_gives():
    width, mix, alpha = np.median(pdist(X)), 0.9, 0.1
    fit = kernel_map(X, Y, shapes=[(1.0, mix)], alphas=(alpha,))
    # The features are kept as fitted on all (their scale, not their values, knows the sample left out).
    K = gram(X, X, X, width, mix, np.ones(len(X)))
    errors = []
    for i in range(len(X)):
        rest = np.delete(np.arange(len(X)), i)
        inner = K[np.ix_(rest, rest)]
        mean = inner.mean(0)
        centred = inner - mean - mean[:, None] + inner.mean()
        row = K[i, rest] - K[i, rest].mean() - mean + inner.mean()
        weights = np.linalg.solve(centred + alpha * np.eye(len(rest)), Y[rest] - Y[rest].mean(0))
        errors.append(((Y[i] - Y[rest].mean(0) - row @ weights) ** 2).sum())
    assert fit.loo_error == pytest.approx(np.mean(errors), rel=1e-3)


def test_a_bent_relation_is_learned_and_a_straight_one_is_left_straight():
    many = RNG.normal(size=(300, 3))
    bent = np.stack([np.sin(2 * many[:, 0]), many[:, 1] ** 2], axis=1)
    test = RNG.normal(size=(200, 3))
    truth = np.stack([np.sin(2 * test[:, 0]), test[:, 1] ** 2], axis=1)
    assert ((kernel_map(many, bent)(test) - truth) ** 2).sum() < 0.3 * (
        (ridge_map(many, bent)(test) - truth) ** 2
    ).sum()
    few = kernel_map(many[:12], many[:12] @ np.ones((3, 2)))
    np.testing.assert_allclose(few(test), test @ np.ones((3, 2)), atol=0.05)
    assert few.mix == 0.0


def test_fewer_centres_than_samples_come_close():
    many, test = RNG.normal(size=(500, 2)), RNG.normal(size=(300, 2))
    exact, few = (kernel_map(many, np.sin(2 * many[:, :1]), n_centres=k, seed=1) for k in (500, 100))
    assert len(few.centres) == 100
    assert np.sqrt(np.mean((exact(test) - few(test)) ** 2)) < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": [(0.0, 0.5)]}, r"shapes=\(\(0\.0, 0\.5\),\).*width > 0"),
        ({"shapes": []}, r"shapes=.*width > 0"),
        ({"n_centres": 0}, r"n_centres=0;.*one centre"),
        ({"weights": np.zeros(60)}, r"weights.*\(60,\).*\b60 positive"),
        ({"weights": np.ones(3)}, r"weights.*\(3,\).*\b60 positive"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kernel_map(X, Y, **options)


def test_samples_that_coincide_have_no_width_but_a_map():
    same = kernel_map(np.ones((5, 2)), np.arange(10.0).reshape(5, 2))
    np.testing.assert_allclose(same(np.ones((1, 2))), [[4.0, 5.0]])


def test_points_beyond_the_squares_of_float64_are_refused():
    with pytest.raises(ValueError, match=r"X: .*1e\+300.*float64"):
        kernel_map(np.array([[0.0], [0.0], [1e300]]), np.eye(3))
