"""Relative representations: what they do not see, what their decoder learns from, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from neurobridge.maps.relative import relative_map

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)) + 3
TURN = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
ROWS = np.arange(30), np.arange(30)


def test_a_rotation_a_scale_and_a_shift_of_the_source_are_not_seen():
    plain = relative_map(X, X, ROWS, alpha=0.1)
    moved = relative_map(5 * X @ TURN - 7, X, ROWS, alpha=0.1)
    np.testing.assert_allclose(moved(5 * X @ TURN - 7), plain(X), atol=1e-10)


def test_the_map_is_the_target_decoder_of_source_cosines():
    """A plain computation: ridge from the target's cosines to the target, read with the source's cosines."""
    Y = np.tanh(X @ TURN)

    def described(points, anchors):
        return np.array([[p @ a / np.linalg.norm(p) / np.linalg.norm(a) for a in anchors] for p in points])

    source, target = X - X.mean(axis=0), Y - Y.mean(axis=0)
    R = described(target, target[:30])
    R_mean = R.mean(axis=0)
    coef = np.linalg.solve((R - R_mean).T @ (R - R_mean) + 0.1 * np.eye(30), (R - R_mean).T @ target)
    expected = (described(source, source[:30]) - R_mean) @ coef + Y.mean(axis=0)
    np.testing.assert_allclose(relative_map(X, Y, ROWS, alpha=0.1)(X), expected, atol=1e-8)


def test_unpaired_target_points_teach_the_decoder_and_source_points_the_centre_alone():
    Y = np.tanh(X @ TURN)
    fitted = relative_map(X, Y, ROWS, alpha=0.1)
    other = np.vstack([Y[:30], RNG.permuted(Y[30:], axis=0)])
    assert not np.allclose(relative_map(X, other, ROWS, alpha=0.1)(X), fitted(X), atol=1e-3)
    order = np.r_[np.arange(30), 30 + RNG.permutation(90)]
    np.testing.assert_allclose(relative_map(X[order], Y, ROWS, alpha=0.1)(X), fitted(X), atol=1e-10)


def test_the_penalty_is_the_best_for_left_out_pairs():
    # Clear structure wants less shrinkage than noise of the same size.
    noisy = X @ TURN + 2 * RNG.normal(size=X.shape)
    assert relative_map(X, X @ TURN, ROWS).alpha < relative_map(X, noisy, ROWS).alpha


def test_of_thousands_of_pairs_a_thousand_are_anchors():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1300, 4))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    fitted = relative_map(points, points @ TURN, (np.arange(1300), np.arange(1300)), alpha=0.1)
    assert fitted.anchors.shape == (1000, 4)
    np.testing.assert_allclose(fitted(points), points @ TURN, atol=0.1)


@pytest.mark.parametrize(
    ("source", "target", "rows", "fact"),
    [
        (np.full((5, 2), np.nan), np.ones((5, 2)), ROWS, "10 NaN"),
        (np.eye(3), np.eye(3), ([0], [0]), "1 pairs"),
    ],
)
def test_what_cannot_be_fitted_is_refused(source, target, rows, fact):
    with pytest.raises(ValueError, match=f"{fact}.*Mend"):
        relative_map(source, target, rows)
