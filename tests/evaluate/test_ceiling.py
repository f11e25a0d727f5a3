"""Ceilings: known reliability, intervals that cover it, halves as they should be, and across animals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.assemblies import AssemblyError, make_assembly, split_halves
from neurobridge.evaluate import cross_animal_consistency, internal_consistency, predictivity, spearman_brown
from tests.refusals import refused, warned


@pytest.mark.parametrize("halves", ["stimulus", "repetition"])
def test_intervals_cover_the_known_reliability(make_random_assembly, halves):
    covered = []
    for seed in range(12):
        trials = make_random_assembly(150, 5, n_repetitions=6, noise=2.0, seed=seed)
        score = internal_consistency(trials, halves=halves, seed=seed)
        known = 1 / (1 + 2.0**2 / 6)
        assert (score["ceiling_low"] < score["ceiling"]).all()
        assert (score["ceiling"] < score["ceiling_high"]).all()
        assert score["median_low"].item() < score["median"].item() < score["median_high"].item()
        covered += ((score["ceiling_low"] <= known) & (known <= score["ceiling_high"])).values.tolist()
    # 60 intervals of 95%; they leave out the noise of the halvings and are a little narrow.
    assert np.mean(covered) > 0.8


def test_intervals_narrow_with_the_number_of_stimuli(make_random_assembly):
    few, many = (
        internal_consistency(make_random_assembly(n, 8, n_repetitions=4, noise=1.0), n_splits=4) for n in (100, 1600)
    )
    width = [float((s["ceiling_high"] - s["ceiling_low"]).mean()) for s in (few, many)]
    assert width[0] / width[1] == pytest.approx(4, rel=0.4)


def test_the_sums_of_all_halves_are_the_averages_of_each(make_random_assembly):
    """Every halving gives the correlation of two halves that together are all presentations."""
    from neurobridge.evaluate.halves import deal_halves, half_means

    trials = make_random_assembly(30, 4, n_repetitions=5)
    codes = np.tile(np.arange(30), 5)
    first = deal_halves(trials, codes, np.arange(30), "stimulus", 3, 0)
    means = half_means(trials, codes, first)
    for half, (one, other) in zip(first, means, strict=True):
        for stimulus in range(30):
            mine = codes == stimulus
            assert abs(int(half[mine].sum()) * 2 - 5) == 1
            assert np.allclose(one[stimulus], trials.values[mine & half].mean(axis=0))
            assert np.allclose(other[stimulus], trials.values[mine & ~half].mean(axis=0))


def test_order_and_chunks_of_presentations_do_not_matter(make_random_assembly):
    trials = make_random_assembly(40, 6, n_repetitions=4)
    reference = internal_consistency(trials, halves="repetition", n_bootstrap=0)
    shuffled = trials.isel(presentation=np.random.default_rng(0).permutation(160))
    again = internal_consistency(shuffled, halves="repetition", n_bootstrap=0)
    chunked = internal_consistency(trials.chunk({"presentation": 37}), halves="repetition", n_bootstrap=0)
    assert np.allclose(again["raw"].values, reference["raw"].values)
    assert np.allclose(chunked["raw"].values, reference["raw"].values)


def test_the_mean_over_halvings_is_that_of_split_halves(make_random_assembly):
    """The same truth by the slow road: `split_halves`, one halving at a time."""
    trials = make_random_assembly(400, 5, n_repetitions=6, noise=2.0)
    slow = []
    for seed in range(30):
        one, other = (half.values for half in split_halves(trials, seed=seed))
        slow.append([np.corrcoef(one[:, k], other[:, k])[0, 1] for k in range(5)])
    fast = internal_consistency(trials, n_splits=30, n_bootstrap=0)["raw"].values
    error = np.std(slow, axis=0) / np.sqrt(30) * np.sqrt(2)
    assert (np.abs(np.mean(slow, axis=0) - fast.mean(axis=0)) < 4 * error).all()


def test_a_response_constant_in_one_half_is_said():
    values = np.zeros((12, 2))
    values[:, 1] = np.arange(12)
    values[0, 0] = 1
    trials = make_assembly(
        values,
        presentation={"stimulus_id": list("abcdef") * 2, "repetition": [0] * 6 + [1] * 6},
        neuroid={"neuroid_id": ["x", "y"]},
    )
    with (
        pytest.warns(UserWarning, match=r"3 neuroid"),
        pytest.warns(UserWarning, match="1.*2 ceiling"),
    ):
        score = internal_consistency(trials, n_splits=3, halves="repetition", n_bootstrap=0)
    assert np.allclose(score["raw"].values, [[0, 1]] * 3)


def test_a_time_bin_of_one_is_squeezed_and_two_are_refused(make_random_assembly):
    trials = make_random_assembly(20, 3, n_repetitions=2)
    timed = make_assembly(
        np.stack([trials.values, trials.values], axis=2),
        presentation={name: trials[name].values for name in ("stimulus_id", "repetition")},
        neuroid={"neuroid_id": trials["neuroid_id"].values},
        time_bin={"time_bin_start": [70, 170], "time_bin_end": [170, 270]},
    )
    one = internal_consistency(timed.isel(time_bin=[0]), n_bootstrap=0)
    assert np.allclose(one["raw"].values, internal_consistency(trials, n_bootstrap=0)["raw"].values)
    with pytest.raises(AssemblyError, match=r"2 time.*Mend"):
        internal_consistency(timed)


def test_halves_that_cannot_bedeal_halves_are_refused(make_random_assembly):
    trials = make_random_assembly(10, 3, n_repetitions=4)
    with pytest.raises(AssemblyError, match=r"halves='odd'.*Mend"):
        internal_consistency(trials, halves="odd")
    with pytest.raises(AssemblyError, match=r"'repetition'.*Mend"):
        internal_consistency(trials.drop_vars("repetition"), halves="repetition")
    lonely = trials.isel(presentation=np.flatnonzero((trials["repetition"] < 2) | (trials["stimulus_id"] != "s0000")))
    assert internal_consistency(lonely, n_bootstrap=0)["raw"].shape == (10, 3)
    with pytest.raises(AssemblyError, match=r"1 stimuli.*'s0000'.*Mend"):
        internal_consistency(lonely, halves="repetition")


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("halves", ["stimulus", "repetition"])
def test_few_stimuli_have_no_ceiling(make_random_assembly, n, halves):
    with refused(AssemblyError, f"{n} stimuli", "at least 5"):
        internal_consistency(make_random_assembly(n, 3, n_repetitions=4), halves=halves)


@settings(max_examples=10, deadline=None)
@given(n=st.integers(5, 12), seed=st.integers(0, 1000))
def test_ceilings_of_noise_are_finite_from_five_stimuli_on(n, seed):
    values = np.random.default_rng(seed).normal(size=(4 * n, 3))
    trials = make_assembly(
        values,
        presentation={"stimulus_id": list(range(n)) * 4, "repetition": np.repeat(range(4), n)},
        neuroid={"neuroid_id": range(3)},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        score = internal_consistency(trials, n_bootstrap=40, seed=seed)
    for name in ("ceiling", "ceiling_low", "ceiling_high", "median_low", "median_high"):
        assert np.isfinite(score[name].values).all(), name
    assert (score["ceiling_high"] <= 1 + 1e-6).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), offset=st.floats(0, 100))
def test_bounds_of_a_site_that_responds_to_one_stimulus_are_those_of_its_resamples(seed, offset):
    """Most of such a site's resamples have no variance, or rounding alone."""
    rng = np.random.default_rng(seed)
    values = np.full((160, 2), offset)
    values[:, 1] = rng.normal(size=160)
    values[[3, 43, 83, 123], 0] += 5 + rng.normal(size=4)
    trials = make_assembly(
        values,
        presentation={"stimulus_id": list(range(40)) * 4, "repetition": np.repeat(range(4), 40)},
        neuroid={"neuroid_id": ["sparse", "noise"]},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        score = internal_consistency(trials, n_bootstrap=60, seed=seed)
    # The halves lie on one line wherever the stimulus is drawn; without it r counts as 0.
    assert score["ceiling"].values[0] == pytest.approx(1)
    assert score["ceiling_low"].values[0] == pytest.approx(0, abs=1e-6)
    assert score["ceiling_high"].values[0] == pytest.approx(1)


def test_halves_that_are_exactly_contrary_have_no_reliability():
    response = np.array([0.0, 1, 2, 3, 4, 5])
    values = np.column_stack([np.tile(response, 2), np.concatenate([response, -response])])
    trials = make_assembly(
        values,
        presentation={"stimulus_id": list("abcdef") * 2, "repetition": [0] * 6 + [1] * 6},
        neuroid={"neuroid_id": ["agrees", "contrary"]},
    )
    with warned(UserWarning, "1 neuroid", "'contrary'", "NaN"):
        score = internal_consistency(trials, halves="repetition", n_splits=2)
    assert score["ceiling"].values[0] == pytest.approx(1)
    assert np.isnan([score[name].values[1] for name in ("ceiling", "ceiling_low", "ceiling_high")]).all()
    assert float(score["median"]) == pytest.approx(1)


@given(r=st.floats(-1, 1), factor=st.floats(1, 20))
def test_no_negative_correlation_becomes_a_positive_reliability(r, factor):
    corrected = spearman_brown(r, factor)
    assert np.isnan(corrected) or (corrected <= 1 + 1e-9 and np.sign(corrected) in (np.sign(r), 0))
    assert np.isnan(spearman_brown(np.array([-1.0, -0.6]), 3)).all()


def test_spearman_brown_undoes_itself():
    r = np.linspace(0.05, 0.95, 7)
    assert np.allclose(spearman_brown(spearman_brown(r, 3.0), 1 / 3), r)


@pytest.fixture
def two_animals() -> xr.DataArray:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(160, 4))
    values = signal @ rng.normal(size=(4, 12)) + 0.3 * rng.normal(size=(160, 12))
    return make_assembly(
        values,
        presentation={"stimulus_id": [f"s{k:03d}" for k in range(160)]},
        neuroid={"neuroid_id": [f"n{k:02d}" for k in range(12)], "animal": ["Tito", "Chabo", "Tito"] * 4},
    )


def test_animals_predict_each_other_site_by_site(two_animals):
    score = cross_animal_consistency(two_animals, regression="ridge", n_permutations=40)
    assert np.array_equal(score["neuroid_id"].values, two_animals["neuroid_id"].values)
    assert (score["raw"].mean("split") > 0.8).all()
    assert score["p_value"].item() == pytest.approx(1 / 41)
    tito = two_animals["animal"].values == "Tito"
    alone = predictivity(two_animals.isel(neuroid=~tito), two_animals.isel(neuroid=tito), "ridge", n_permutations=0)
    assert np.allclose(score["raw"].values[:, tito], alone["raw"].values)


def test_an_animal_with_nothing_in_common_is_at_chance(two_animals):
    alien = two_animals.copy(deep=True)
    rows = alien["animal"].values == "Chabo"
    alien.values[:, rows] = np.random.default_rng(5).normal(size=(160, rows.sum()))
    score = cross_animal_consistency(alien, regression="ridge", n_permutations=40)
    assert score["p_value"].item() > 0.05
