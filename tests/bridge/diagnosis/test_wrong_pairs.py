"""Verdict on wrong pairs: it tells where it can, and says so where it cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neurobridge.bridge import bridge_cost, diagnose


def views(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Simulate two noisy linear views of four latents."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n, 4))
    return tuple(latents @ rng.normal(size=(4, d)) + noise * rng.normal(size=(n, d)) for d in (8, 6))


def exchanged(n: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return partners of which a share is exchanged, and which those are."""
    partner, wrong = np.arange(n), np.random.default_rng(seed).permutation(n)[: round(share * n)]
    partner[wrong] = np.roll(wrong, 1)
    return partner, wrong


def verdict(X: np.ndarray, Y: np.ndarray, partner: np.ndarray):
    return diagnose(bridge_cost(X, Y, (np.arange(len(partner)), partner)), warn=False)


@pytest.mark.parametrize(("share", "answer"), [(0, "none seen"), (0.3, "wrong pairs"), (0.5, "wrong pairs")])
@pytest.mark.parametrize("seed", [0, 1])
def test_precise_pairs_tell(share, answer, seed):
    partner, wrong = exchanged(60, share, seed)
    report = verdict(*views(60, 0.1, seed), partner)
    assert report.wrong_pairs.answer == answer
    assert ("NoisyAnchorsWarning" in report.findings) == (answer == "wrong pairs")
    if share:
        # More than half of the pairs named are wrong ones by chance in neither case.
        assert np.isin(report.outliers, wrong).mean() > 0.8
        assert np.isin(wrong, report.outliers).mean() > 0.4
        assert math.isnan(report.wrong_pairs.power)
    else:
        assert report.wrong_pairs.power >= 0.8


@pytest.mark.parametrize("share", [0, 0.25, 1])
def test_imprecise_pairs_do_not_tell(share):
    report = verdict(*views(40, 3.0), exchanged(40, share)[0])
    assert report.wrong_pairs.answer == "cannot tell"
    assert report.wrong_pairs.power < 0.8
    assert f"{np.median(report.pair_rank):.2f}" in report.wrong_pairs.reason
    assert "cannot tell" in report.summary()
    assert "cannot tell" in repr(report)
    assert report.to_dict()["wrong_pairs"]["answer"] == "cannot tell"


def test_pairs_that_are_all_wrong_are_never_called_right():
    X, Y = views(60, 0.1)
    assert verdict(X, Y, exchanged(60, 1.0)[0]).wrong_pairs.answer == "cannot tell"


def test_a_handful_of_pairs_does_not_tell():
    report = verdict(*views(6, 0.0), np.arange(6))
    assert report.wrong_pairs.answer == "cannot tell"
    assert "6" in report.wrong_pairs.reason


def test_the_same_seed_gives_the_same_answer():
    X, Y = views(30, 0.5)
    reports = [diagnose(bridge_cost(X, Y, (np.arange(30), np.arange(30))), warn=False, seed=3) for _ in range(2)]
    assert reports[0].wrong_pairs == reports[1].wrong_pairs


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 1])
def test_halves_of_real_v4_sites_do_not_tell(mirror, share):
    responses = np.load(mirror / "cowley2023-v4-210325" / "responses_210325.npy", allow_pickle=False)
    mean = np.nanmean(responses, axis=2).T
    mean = mean[np.isfinite(mean).all(axis=1)]
    halves = np.array_split(np.random.default_rng(0).permutation(mean.shape[1]), 2)
    images = np.random.default_rng(1).permutation(len(mean))[:60]
    X, Y = (mean[images][:, half] for half in halves)
    report = verdict(X / X.std(axis=0), Y / Y.std(axis=0), exchanged(60, share)[0])
    assert report.wrong_pairs.answer == "cannot tell"
    assert report.wrong_pairs.power < 0.8
    assert len(report.outliers) <= 3
