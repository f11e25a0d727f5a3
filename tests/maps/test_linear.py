"""The ridge map of the pairs against scikit-learn and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV

from neurobridge.bridge import ridge_map
from neurobridge.maps.linear import ALPHAS, Decomposition, best_shared_penalty, leave_one_out

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(40, 8), (12, 30)])
def test_agrees_with_scikit_learn(shape):
    X = RNG.normal(size=shape) + 3
    Y = X @ RNG.normal(size=(shape[1], 5)) + RNG.normal(size=(shape[0], 5)) * [0.1, 1, 3, 10, 30]
    alphas = (0.1, 1.0, 10.0, 100.0, 1000.0)
    ours = ridge_map(X, Y, alphas=alphas, unit=1.0)
    theirs = RidgeCV(alphas=alphas, alpha_per_target=True).fit(X, Y)
    np.testing.assert_array_equal(ours.alpha, theirs.alpha_)
    np.testing.assert_allclose(ours(X), theirs.predict(X), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", [(40, 8), (12, 30)])
@pytest.mark.parametrize("weakest", [ALPHAS[0], 1e-14])
def test_both_ways_to_decompose_solve_the_normal_equations(shape, weakest):
    # Lengths over four decades, and two columns that are the same.
    A = RNG.normal(size=shape) * np.logspace(-2, 2, shape[1])
    A[:, 0] = A[:, 1]
    Y, samples = RNG.normal(size=(shape[0], 3)), Decomposition.of(A, weakest)
    for alpha in (ALPHAS[0], np.array([ALPHAS[0], 1.0, ALPHAS[-1]])):
        penalties = np.broadcast_to(alpha, 3)
        expected = np.stack(
            [
                Ridge(alpha=each, fit_intercept=False, solver="svd").fit(A, y).coef_
                for each, y in zip(penalties, Y.T, strict=True)
            ],
            axis=1,
        )
        np.testing.assert_allclose(samples.coef(Y, alpha), expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(samples.scores @ samples.scores.T, A @ A.T, atol=1e-9 * np.vdot(A, A))


def test_a_penalty_weaker_than_rounding_of_squares_is_not_lost():
    # The squares of the short direction are below what A A^T rounds.
    turn = np.linalg.qr(RNG.normal(size=(2, 2)))[0]
    A = turn @ np.diag([1e6, 1e-3])
    assert Decomposition.of(A, 1e-9).coef(A, 1e-9)[1, 1] == pytest.approx(1e-6 / (1e-6 + 1e-9), rel=1e-4)


def test_leave_one_out_is_what_leaving_one_out_gives():
    X, alphas = RNG.normal(size=(15, 4)), (0.5, 5.0, 50.0)
    Y = X[:, :1] + RNG.normal(size=(15, 1))
    errors = []
    for alpha in alphas:
        left_out = [
            Y[i] - Ridge(alpha=alpha).fit(np.delete(X, i, 0), np.delete(Y, i, 0)).predict(X[i : i + 1])[0]
            for i in range(15)
        ]
        errors.append(np.mean(np.square(left_out)))
    assert ridge_map(X, Y, alphas=alphas, unit=1.0).alpha[0] == alphas[int(np.argmin(errors))]


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"\b3\b.*\b4\b"):
        ridge_map(np.ones((3, 2)), np.ones((4, 2)))


def test_a_shared_penalty_turns_with_the_target_space():
    X = RNG.normal(size=(12, 6))
    Y = X @ RNG.normal(size=(6, 8)) + RNG.normal(size=(12, 8)) * np.linspace(0.1, 5, 8)
    turn = np.linalg.qr(RNG.normal(size=(8, 8)))[0]
    plain, turned = ridge_map(X, Y, penalty="shared"), ridge_map(X, Y @ turn, penalty="shared")
    assert len(set(plain.alpha)) == 1
    np.testing.assert_array_equal(plain.alpha, turned.alpha)
    np.testing.assert_allclose(plain(X) @ turn, turned(X), atol=1e-10)


def test_the_shared_penalty_is_that_of_least_summed_error():
    X, alphas = RNG.normal(size=(15, 4)), (0.5, 5.0, 50.0)
    Y = X[:, :2] * [1, 5] + RNG.normal(size=(15, 2))
    errors = []
    for alpha in alphas:
        left_out = [
            Y[i] - Ridge(alpha=alpha).fit(np.delete(X, i, 0), np.delete(Y, i, 0)).predict(X[i : i + 1])[0]
            for i in range(15)
        ]
        errors.append(np.sum(np.square(left_out)))
    assert set(ridge_map(X, Y, alphas=alphas, penalty="shared", unit=1.0).alpha) == {alphas[int(np.argmin(errors))]}


def test_unknown_penalties_are_refused():
    with pytest.raises(ValueError, match=r"penalty='none'.*'per-target'.*'shared'"):
        ridge_map(np.ones((3, 2)), np.ones((3, 2)), penalty="none")


@given(st.integers(0, 10_000), st.sampled_from([(210, 30), (210, 400), (400, 12)]), st.floats(0.1, 30))
@settings(max_examples=50, deadline=None)
def test_of_many_samples_the_best_shared_penalty_is_found_without_trying_all(seed, shape, noise):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=shape) / np.sqrt(np.arange(1, shape[1] + 1))
    Y = X @ rng.normal(size=(shape[1], 3)) + noise * rng.normal(size=(shape[0], 3))
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    alphas = tuple(np.logspace(-3, 5, 33))
    samples, mean_leverage = Decomposition.of(X, alphas[0]), np.full(len(X), 1 / len(X))
    errors = leave_one_out(samples, Y, alphas, mean_leverage, cap=0.999).sum(axis=1)
    order = rng.permutation(len(alphas))
    place, error = best_shared_penalty(samples, Y, tuple(np.array(alphas)[order]), mean_leverage, cap=0.999)
    assert error == pytest.approx(errors[order[place]])
    assert error == pytest.approx(errors.min(), rel=1e-3)
