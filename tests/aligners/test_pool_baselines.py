"""Baselines that learn from unpaired points: whitened Procrustes, spectral ridge, fused Gromov-Wasserstein transport."""

from __future__ import annotations

import numpy as np
import pytest

from neurobridge.aligners import FUGW, ProcrustesAligner, RidgeAligner, SpectralRidge, WhitenedProcrustes
from neurobridge.aligners.baselines.fugw import fused_unbalanced_gromov_wasserstein

PAIRS = np.arange(10), np.arange(10)


def latent_spaces(n=150, seed=0):
    """Simulate two noisy linear views of five latents, whose stretches differ."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n, 5)) * [3, 2, 1.5, 1, 0.7]
    return tuple(latents @ rng.normal(size=(5, d)) + 0.2 * rng.normal(size=(n, d)) for d in (12, 9))


@pytest.mark.parametrize("kind", [WhitenedProcrustes, SpectralRidge])
def test_unpaired_points_help_in_both_directions(kind):
    X, Y = latent_spaces()
    alone, with_pool = kind().fit(X[:10], Y[:10]), kind().fit(X[:110], Y[:110], PAIRS)
    if kind is SpectralRidge:
        X = np.c_[np.cos(X[:, :1]), np.sin(X[:, :1])]
        Y = X[:, :1] ** 3
        alone, with_pool = (kind(n_neighbors=5).fit(X[:n], Y[:n], PAIRS) for n in (10, 110))
    assert with_pool.score(X[110:], Y[110:]) > alone.score(X[110:], Y[110:])
    assert np.isfinite(with_pool.inverse_transform(Y)).all()


def test_whitened_procrustes_is_better_than_both_parents_where_latents_are_shared():
    X, Y = latent_spaces()
    scores = [kind().fit(X[:110], Y[:110], PAIRS).score(X[110:], Y[110:]) for kind in (
        WhitenedProcrustes, ProcrustesAligner, RidgeAligner,
    )]  # fmt: skip
    assert scores[0] == max(scores)


def test_given_settings_are_kept():
    X, Y = latent_spaces(40)
    chosen = WhitenedProcrustes(power=0.3, rank=2, exponent=1.0).fit(X, Y, PAIRS).chosen_
    assert [each[:3] for each in chosen] == [(0.3, 2, 1.0)] * 2
    assert {each[2] for each in WhitenedProcrustes(exponent=0.25).fit(X, Y, PAIRS).chosen_} == {0.25}


def test_fused_transport_helps_where_pairs_are_few():
    X, Y = latent_spaces()
    pairs = np.arange(4), np.arange(4)
    aligner = FUGW().fit(X[:110], Y[:110], pairs)
    assert aligner.score(X[110:], Y[110:]) > RidgeAligner().fit(X[:110], Y[:110], pairs).score(X[110:], Y[110:])
    assert 0.5 < aligner.mass_ <= 1.01


def test_a_point_far_from_all_others_raises_the_entropy_and_no_error():
    X, Y = latent_spaces(40)
    assert FUGW().fit(X, Y, PAIRS).epsilon_ == 0.01
    far = X + 300 * (np.arange(40) == 39)[:, None]
    aligner = FUGW().fit(far, Y, PAIRS)
    assert aligner.epsilon_ > 0.01
    assert np.isfinite(aligner.transform(X)).all()


def test_what_is_too_large_or_has_no_plan_is_refused_with_numbers(monkeypatch):
    X, Y = latent_spaces(40)
    with pytest.raises(MemoryError, match=r"40 x 40 .*memory_limit"):
        FUGW(memory_limit=1e4).fit(X, Y, PAIRS)
    with pytest.raises(ValueError, match=r"40 x 40 .*1.0e\+07 .* 1.0e\+06.*operation_limit"):
        FUGW(operation_limit=1e6).fit(X, Y, PAIRS)
    for settings in ({"rho": 0}, {"epsilon": -1}, {"alpha": -1}):
        with pytest.raises(ValueError, match="=".join(map(str, next(iter(settings.items()))))):
            FUGW(**settings).fit(X, Y, PAIRS)

    def fails(*_, **__):
        raise ValueError("There is NaN in coupling.")

    monkeypatch.setattr("neurobridge.aligners.baselines.fugw.fused_unbalanced_gromov_wasserstein", fails)
    with pytest.raises(ValueError, match=r"40 x 40 .*NaN.*epsilon="):
        FUGW().fit(X, Y, PAIRS)


def test_fused_transport_minimises_the_distance_of_distances():
    X = np.random.default_rng(0).normal(size=(20, 2))
    C = np.linalg.norm(X[:, None] - X, axis=2)
    order = np.random.default_rng(1).permutation(20)
    plan = fused_unbalanced_gromov_wasserstein(
        C, C[np.ix_(order, order)], reg_marginals=10.0, epsilon=0.01, alpha=10.0,
        M=((C[:, None, order[:5]] - C[order][None][:, :, order[:5]]) ** 2).mean(axis=2), unbalanced_solver="sinkhorn",
    )[0]  # fmt: skip
    np.testing.assert_array_equal(order[plan.argmax(axis=1)], np.arange(20))
