"""Plans of numbers of pairs: power laws that are known, intervals with known coverage, pilots of simulated sites."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.aligners import RidgeAligner
from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import CurveSettings, curve_dataset, learning_curve, plan_from_curve, plan_pairs
from neurobridge.evaluate.curves.extrapolation import EXPONENTS, fit_power_laws, resampled_means, weights_of
from tests.refusals import refused

COUNTS = (8, 16, 32, 64, 128)


def curve_of(draws, counts=COUNTS, names=("ridge",), ceiling=None):
    """Return the learning curve of draws, array of shape (n_draws, n_counts)."""
    records = [
        {"aligner": name, "n_pairs": n, "seed": k, "raw": float(value), "n_stimuli": 20, "null": []}
        for name in names
        for k, row in enumerate(draws)
        for n, value in zip(counts, row, strict=True)
    ]
    made = curve_dataset(records, list(names), CurveSettings(n_pairs=counts, n_seeds=len(draws)))
    return made if ceiling is None else made.assign(ceiling=ceiling)


@given(
    plateau=st.floats(0.2, 0.95),
    share=st.floats(0.1, 0.9),
    k=st.integers(0, len(EXPONENTS) - 1),
    weights=st.lists(st.floats(0.1, 10), min_size=5, max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_a_curve_that_follows_the_law_is_recovered(plateau, share, k, weights):
    unit = np.exp(np.log(COUNTS).mean())
    curve = plateau - share * plateau * (np.array(COUNTS) / unit) ** -EXPONENTS[k]
    laws = fit_power_laws(np.array(COUNTS), curve[None], np.array(weights))
    beyond = np.array([4, 1000])
    expected = plateau - share * plateau * (beyond / unit) ** -EXPONENTS[k]
    np.testing.assert_allclose(laws.at(beyond)[0], expected, atol=1e-6)
    score = float(laws.at(np.array([300.0]))[0, 0])
    np.testing.assert_allclose(laws.pairs_for(score), 300, rtol=1e-5)


def test_the_plateau_is_bounded_and_is_never_reached():
    # A line in log pairs has no plateau: that of the fit is the largest score that is possible.
    curve = 0.1 * np.log(np.array(COUNTS))
    for most in (1.0, 0.7):
        laws = fit_power_laws(np.array(COUNTS), curve[None], np.ones(5), most=most)
        assert laws.plateau[0] <= most
        assert np.isinf(laws.pairs_for(most))[0]
        assert np.isfinite(laws.pairs_for(0.6))[0]
    flat = fit_power_laws(np.array(COUNTS), np.full((1, 5), 0.3), np.ones(5))
    assert flat.plateau[0] == pytest.approx(0.3)
    assert np.isinf(flat.pairs_for(0.31))[0]
    assert flat.pairs_for(0.2)[0] == 0
    falling = fit_power_laws(np.array(COUNTS), np.linspace(0.4, 0.2, 5)[None], np.ones(5))
    assert (falling.loss[0], falling.plateau[0]) == (0, pytest.approx(0.3))


def test_weights_follow_the_variance_and_no_point_stands_alone():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 3)) * np.array([1.0, 2.0, 0.001])
    weights = weights_of(draws)
    assert weights[0] / weights[1] == pytest.approx(4, rel=0.15)
    assert weights.max() == pytest.approx(20)
    assert weights_of(np.ones((3, 4))).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_resampled_means_have_the_variance_of_draws_that_share_stimuli(overlap):
    draws = np.random.default_rng(0).normal(size=(10, 2))
    means = resampled_means(draws, n_bootstrap=20_000, overlap=overlap, seed=0)
    np.testing.assert_allclose(means.mean(axis=0), draws.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(means.var(axis=0), (0.1 + overlap) * draws.var(axis=0, ddof=1), rtol=0.05)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Simulated: 80 pilots whose draws are independent, so that nothing is widened."""
    rng = np.random.default_rng(0)
    truth = 0.6 - 0.8 * np.array(COUNTS) ** -0.6
    wanted, n_true = 0.6 - 0.8 * 300**-0.6, 300
    inside, factors = [], []
    for _ in range(80):
        draws = truth + 0.03 * rng.normal(size=(12, 1)) + 0.02 * rng.normal(size=(12, 5))
        plan = plan_from_curve(curve_of(draws), wanted, held_out=1e-9, n_bootstrap=200)
        inside.append(plan.low <= n_true <= plan.high)
        factors.append(plan.n_pairs / n_true)
    assert 0.86 <= np.mean(inside) <= 1
    assert 0.7 < np.median(factors) < 1.5


def test_a_plan_rises_with_the_score_and_predicts_what_it_fitted():
    rng = np.random.default_rng(1)
    draws = 0.7 - np.array(COUNTS) ** -0.5 + 0.01 * rng.normal(size=(8, 5))
    curve = curve_of(draws)
    plans = [plan_from_curve(curve, score) for score in (0.5, 0.6, 0.65)]
    assert plans[0].n_pairs < plans[1].n_pairs < plans[2].n_pairs
    assert all(plan.low <= plan.n_pairs <= plan.high for plan in plans)
    predicted = plans[0].predict([*COUNTS, 512])
    np.testing.assert_allclose(predicted["mean"][:5], draws.mean(axis=0), atol=0.02)
    assert (predicted["low"] <= predicted["mean"]).all()
    assert (predicted["mean"] <= predicted["high"]).all()
    assert float(predicted["mean"].sel(n_pairs=512)) == pytest.approx(0.7 - 512**-0.5, abs=0.03)
    # Without a score, nine tenths of the plateau.
    assert plan_from_curve(curve).score == pytest.approx(0.9 * plans[0].plateau)
    assert "n_pairs=" in repr(plans[0])
    assert f"{0.65:.3f}" in plans[2].summary()
    assert "times as many" in plans[2].summary()


def test_a_score_above_the_ceiling_needs_unlimited_pairs():
    draws = 0.7 - np.array(COUNTS) ** -0.5 + 0.01 * np.random.default_rng(1).normal(size=(8, 5))
    plan = plan_from_curve(curve_of(draws, ceiling=0.65), 0.66)
    assert np.isinf(plan.n_pairs)
    assert np.isinf(plan.high)
    assert plan.plateau <= 0.65
    assert "unlimited" in plan.summary()


def spaces(n, noise, seed=0):
    """Simulated: sites that are linear in twelve features, with noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 12))
    mixing = np.random.default_rng(99).normal(size=(12, 6)) / np.sqrt(12)
    sites = features @ mixing + noise * rng.normal(size=(n, 6))
    ids = {"stimulus_id": [f"{seed}-{k}" for k in range(n)]}
    return tuple(
        make_assembly(values, presentation=ids, neuroid={"neuroid_id": range(values.shape[1])})
        for values in (features, sites)
    )


def test_a_pilot_foretells_what_more_pairs_give():
    model, recordings = spaces(100, 1.5)
    plan = plan_pairs(recordings, model, aligner=RidgeAligner(), n_seeds=4, progress=False)
    assert plan.n_largest == 80
    assert plan.curve["n_pairs"].values.tolist()[0] == 6
    large = learning_curve(
        *spaces(500, 1.5, seed=1),
        {"ridge": RidgeAligner()},
        n_pairs=(320,),
        n_seeds=2,
        n_permutations=0,
        progress=False,
    )
    predicted = plan.predict(320)
    truth = float(large["mean"].item())
    assert predicted["low"].item() <= truth <= predicted["high"].item()
    assert abs(predicted["mean"].item() - truth) < 0.1
    again = plan_from_curve(plan.curve)
    assert (again.n_pairs, again.low, again.high) == (plan.n_pairs, plan.low, plan.high)


def test_what_cannot_be_planned_is_refused():
    draws = 0.7 - np.array(COUNTS) ** -0.5 + 0.01 * np.random.default_rng(1).normal(size=(8, 5))
    with refused(ValueError, "3 numbers of pairs", "8 draws", "n_pairs=(10, 20, 40, 80)"):
        plan_from_curve(curve_of(draws[:, :3], COUNTS[:3]))
    with refused(ValueError, "2 draws"):
        plan_from_curve(curve_of(draws[:2]))
    for name, value in (("level", 1.0), ("score", 1.5), ("held_out", 0)):
        with refused(ValueError, f"{name}={value}"):
            plan_from_curve(curve_of(draws), **{name: value})
    with refused(ValueError, "n_bootstrap"):
        plan_from_curve(curve_of(draws), n_bootstrap=3)
    two = curve_of(draws, names=("ridge", "pls"))
    with refused(ValueError, "aligner=None", ["ridge", "pls"]):
        plan_from_curve(two)
    assert plan_from_curve(two, aligner="pls").curve["aligner"].values.tolist() == ["pls"]
    with refused(ValueError, "learning_curve"):
        plan_from_curve(two["raw"])
    gone = draws.copy()
    gone[2, 1] = np.nan
    with refused(ValueError, "1 of 40 scores"):
        plan_from_curve(curve_of(gone))
    model, recordings = spaces(9, 1.0)
    with refused(AssemblyError, "9 shared stimuli", "n_pairs="):
        plan_pairs(recordings, model, aligner=RidgeAligner(), progress=False)
    with refused(ValueError, "n_pairs"):
        plan_from_curve(curve_of(draws)).predict(1)
