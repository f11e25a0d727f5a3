"""Self-trained rotations: closed forms, invariances, and the gain from points without a partner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import cdist

from neurobridge.bridge import self_train, selftrained
from neurobridge.bridge.selftrained import provisional_partners
from neurobridge.maps.orthogonal import nearest_rotation


def turned_cloud(seed=0, n=200, d=6, d_target=6, noise=0.1):
    """A skewed cloud and its turned copy."""
    rng = np.random.default_rng(seed)
    X = rng.exponential(size=(n, d)) * np.arange(1, d + 1)
    turn = np.linalg.qr(rng.normal(size=(max(d, d_target),) * 2))[0][:d, :d_target]
    return X, X @ turn + noise * rng.normal(size=(n, d_target)), turn


FEW = np.arange(4), np.arange(4)


@given(seed=st.integers(0, 50), n=st.integers(6, 30), shapes=st.tuples(st.integers(1, 5), st.integers(1, 5)))
@settings(max_examples=20, deadline=None)
def test_with_every_point_paired_it_is_procrustes(seed, n, shapes):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, shapes[0])), rng.normal(size=(n, shapes[1]))
    every = np.arange(n)
    fitted = self_train(X, Y, (every, every))
    A, B = (np.pad(side - side.mean(axis=0), ((0, 0), (0, max(shapes) - side.shape[1]))) for side in (X, Y))
    value = orthogonal_procrustes(A, B)[1]
    # The rotation is not unique where singular values vanish; what it attains is.
    assert np.trace(fitted.rotation.T @ A[:, : shapes[0]].T @ B[:, : shapes[1]]) == pytest.approx(value, rel=1e-4)
    assert fitted.scales[0] == pytest.approx(value / np.square(A[:, : shapes[0]] @ fitted.rotation).sum(), rel=1e-4)
    assert (fitted.n_rounds, fitted.settled) == (0, True)


@pytest.mark.parametrize(("d", "d_target"), [(10, 10), (10, 13), (13, 10)])
def test_unpaired_points_mend_what_few_pairs_cannot_tell(d, d_target):
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(13, 13)))[0][:d, :d_target]
    centres = rng.normal(size=(40, d))
    # Fifteen points of each cluster, and none of a cluster the same in both clouds, but for six pairs.
    source, target = (np.repeat(centres, 15, axis=0) + 0.2 * rng.normal(size=(600, d)) for _ in range(2))
    rows = np.arange(0, 90, 15)
    target[rows] = source[rows]
    few, trained = (self_train(source, target @ turn, (rows, rows), n_rounds=rounds) for rounds in (0, 15))
    error = [np.linalg.norm(each.rotation - nearest_rotation(turn)) for each in (few, trained)]
    assert error[1] < 0.5 * error[0]


def test_a_turned_copy_is_found_in_both_directions():
    X, Y, turn = turned_cloud(noise=0.0)
    order = np.random.default_rng(1).permutation(len(X))
    trained = self_train(X, 5 * Y[order] + 3, (order[:4], np.arange(4)), n_rounds=40, n_neighbors=1)
    np.testing.assert_allclose(trained.rotation, turn, atol=1e-4)
    np.testing.assert_allclose(trained.forward(X), 5 * Y + 3, atol=1e-2)
    np.testing.assert_allclose(trained.backward(5 * Y + 3), X, atol=1e-2)
    assert trained.settled


def test_a_start_is_forgotten_and_a_pair_is_not():
    X, Y, turn = turned_cloud()
    wrong = np.r_[np.arange(1, 20), 0]
    from_start = self_train(X, Y, start=(np.arange(60), np.r_[wrong, np.arange(20, 60)]), n_rounds=40, n_neighbors=1)
    from_matrix = self_train(X, Y, start=turn, n_rounds=40, n_neighbors=1)
    np.testing.assert_allclose(from_start.rotation, from_matrix.rotation, atol=5e-3)
    wrong_pairs = self_train(X, Y, (np.arange(20), wrong), n_rounds=40, n_neighbors=1, pair_weight=1e6)
    A, B = X - X.mean(axis=0), Y - Y.mean(axis=0)
    np.testing.assert_allclose(wrong_pairs.rotation, nearest_rotation(A[:20].T @ B[wrong]), atol=1e-3)


@pytest.mark.parametrize("factors", [(1e-9, 1.0), (3.7e4, 1e7)])
def test_it_depends_on_no_unit_and_no_origin(factors):
    X, Y, _ = turned_cloud()
    plain = self_train(X, Y, FEW)
    scaled = self_train(factors[0] * (X - 3), factors[1] * (Y + 8), FEW)
    np.testing.assert_allclose(scaled.rotation, plain.rotation, atol=1e-4)
    np.testing.assert_allclose(
        scaled.forward(factors[0] * (X - 3)) / factors[1], plain.forward(X) + 8, rtol=1e-3, atol=1e-3
    )


def test_it_turns_with_the_clouds():
    X, Y, _ = turned_cloud()
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(6, 6)))[0]
    np.testing.assert_allclose(
        self_train(X @ turn, Y, FEW).rotation, turn.T @ self_train(X, Y, FEW).rotation, atol=1e-4
    )


def test_exchanging_the_clouds_exchanges_the_maps():
    X, Y, _ = turned_cloud(d_target=8)
    forward, backward = self_train(X, Y, FEW), self_train(Y, X, FEW)
    np.testing.assert_allclose(forward.rotation, backward.rotation.T, atol=1e-4)
    np.testing.assert_allclose(forward.scales, backward.scales[::-1], rtol=1e-4)


def test_partners_are_those_of_the_written_out_similarity():
    rng = np.random.default_rng(0)
    X, Y, turn = rng.normal(size=(30, 4)), rng.normal(size=(25, 5)), np.linalg.qr(rng.normal(size=(5, 5)))[0][:4]
    of_source, of_target = provisional_partners(X, Y, turn, 3)
    cosine = 1 - cdist(X, Y @ turn.T, "cosine")
    nearness = np.sort(cosine, axis=1)[:, -3:].mean(axis=1), np.sort(cosine, axis=0)[-3:].mean(axis=0)
    corrected = 2 * cosine - nearness[0][:, None] - nearness[1][None]
    np.testing.assert_allclose(of_source, Y[np.argsort(corrected, axis=1)[:, -3:]].mean(axis=1))
    np.testing.assert_allclose(of_target, X[np.argsort(corrected, axis=0)[-3:].T].mean(axis=1))


def test_blocks_change_nothing(monkeypatch):
    X, Y, _ = turned_cloud(n=80)
    whole = self_train(X, Y, FEW, n_rounds=3)
    monkeypatch.setattr(selftrained, "_BLOCK", 500)
    np.testing.assert_allclose(self_train(X, Y, FEW, n_rounds=3).rotation, whole.rotation, atol=1e-4)


def test_large_clouds_are_drawn_from_and_the_seed_decides():
    X, Y, turn = turned_cloud()
    first, second, third = (self_train(X, Y, FEW, max_points=60, n_neighbors=1, n_rounds=40, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.rotation, second.rotation)
    assert (first.rotation != third.rotation).any()
    assert np.linalg.norm(first.rotation - turn) < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_rounds": -1}, r"n_rounds=-1\b.*\b0\b"),
        ({"n_neighbors": 0}, r"n_neighbors=0\b.*\b1\b"),
        ({"damping": 0.0}, r"damping=0\.0\b"),
        ({"pair_weight": 0.0}, r"pair_weight=0\.0\b"),
        ({"max_points": 1}, r"max_points=1\b.*\b2\b"),
        ({"start": np.eye(3)}, r"\(3, 3\).*\(6, 6\)"),
        ({"start": np.zeros((6, 6))}, r"\b4 pairs and a start"),
    ],
)
def test_bad_options_are_refused(options, message):
    X, Y, _ = turned_cloud(n=20)
    with pytest.raises(ValueError, match=message):
        self_train(X, Y, FEW, **options)


def test_no_pairs_and_bad_points_are_refused():
    X, Y, _ = turned_cloud(n=20)
    with pytest.raises(ValueError, match=r"\b0 pairs and no start"):
        self_train(X, Y)
    with pytest.raises(ValueError, match=r"^X: .*\b20 points\b.*coincide"):
        self_train(np.ones_like(X), Y, FEW)
    with pytest.raises(ValueError, match=r"^Y: .*\b120 NaN"):
        self_train(X, np.full_like(Y, np.nan), FEW)
    with pytest.raises(ValueError, match=r"\[0, 25\].*\[0, 19\]"):
        self_train(X, Y, (np.array([0, 25]), np.array([0, 1])))
