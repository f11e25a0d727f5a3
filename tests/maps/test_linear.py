"""The ridge map of the pairs against scikit-learn and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV

from neurobridge.bridge import ridge_map
from neurobridge.maps.canonical import CanonicalDesign
from neurobridge.maps.kernel import kernel_map
from neurobridge.maps.orthogonal import rotation_and_scales
from neurobridge.maps.pls import fit_pls

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(40, 8), (12, 30)])
def test_agrees_with_scikit_learn(shape):
    X = RNG.normal(size=shape) + 3
    Y = X @ RNG.normal(size=(shape[1], 5)) + RNG.normal(size=(shape[0], 5)) * [0.1, 1, 3, 10, 30]
    alphas = (0.1, 1.0, 10.0, 100.0, 1000.0)
    ours = ridge_map(X, Y, alphas=alphas)
    theirs = RidgeCV(alphas=alphas, alpha_per_target=True).fit(X, Y)
    np.testing.assert_array_equal(ours.alpha, theirs.alpha_)
    np.testing.assert_allclose(ours(X), theirs.predict(X), rtol=1e-8, atol=1e-8)


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
    assert ridge_map(X, Y, alphas=alphas).alpha[0] == alphas[int(np.argmin(errors))]


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
    assert set(ridge_map(X, Y, alphas=alphas, penalty="shared").alpha) == {alphas[int(np.argmin(errors))]}


def test_unknown_penalties_are_refused():
    with pytest.raises(ValueError, match=r"penalty='none'.*'per-target'.*'shared'"):
        ridge_map(np.ones((3, 2)), np.ones((3, 2)), penalty="none")


@settings(max_examples=20, deadline=None)
@given(units=st.tuples(st.floats(-15, 9), st.floats(-15, 9)))
@pytest.mark.parametrize("fit", [
    ridge_map,
    lambda X, Y: ridge_map(X, Y, penalty="shared"),
    lambda X, Y: kernel_map(X, Y, n_centres=20),
    lambda X, Y: CanonicalDesign(X, Y).map(0.1, 2),
    lambda X, Y: fit_pls(X, Y, n_components=2),
])  # fmt: skip
def test_a_map_does_not_depend_on_units(fit, units):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4)) * [1, 2, 3, 50]
    Y = X @ rng.normal(size=(4, 3)) + rng.normal(size=(30, 3))
    of_x, of_y = (10**exponent for exponent in units)
    expected = fit(X[:25], Y[:25])(X)
    np.testing.assert_allclose(fit(of_x * X[:25], of_y * Y[:25])(of_x * X) / of_y, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(exponent=st.floats(-15, 9))
def test_a_rotation_does_not_depend_on_units(exponent):
    rng, unit = np.random.default_rng(0), 10**exponent
    X, Y = rng.normal(size=(2, 20, 3))
    rotation, scales = rotation_and_scales(X, Y)
    turned, moved = rotation_and_scales(unit * X, Y)
    np.testing.assert_allclose(turned, rotation, atol=1e-9)
    np.testing.assert_allclose([moved[0] * unit, moved[1] / unit], scales)


def test_points_that_do_not_vary_keep_their_penalty():
    assert ridge_map(np.full((5, 2), 0.1), np.arange(5.0)[:, None])(np.full((1, 2), 0.1)) == pytest.approx(2)


def test_what_is_not_finite_is_refused():
    X = np.ones((4, 2))
    X[1, 1] = np.nan
    with pytest.raises(ValueError, match=r"X: found 1 NaN.*of 8.*Mend"):
        ridge_map(X, np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"Y: found 1 NaN.*Mend"):
        kernel_map(np.ones((4, 2)), X)
