"""Missing values cost the site that misses them, and no other; without any, nothing changes to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.aligners import RidgeAligner
from neurobridge.assemblies import AssemblyError, average_repetitions, drop_incomplete, make_assembly, missing_values
from neurobridge.evaluate import (
    METRICS,
    correlate,
    draw_curve_fold,
    internal_consistency,
    learning_curve,
    predictivity,
)
from neurobridge.evaluate.splits import kfold_splits
from tests.refusals import refused, warned

N_STIMULI, N_SITES, N_REPETITIONS = 40, 4, 4


def trials_of(seed, n_repetitions=N_REPETITIONS):
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(N_STIMULI, N_SITES))
    return make_assembly(
        np.concatenate([signal + rng.normal(size=signal.shape) for _ in range(n_repetitions)]),
        presentation={
            "stimulus_id": np.tile([f"s{k}" for k in range(N_STIMULI)], n_repetitions),
            "repetition": np.repeat(np.arange(n_repetitions), N_STIMULI),
        },
        neuroid={"neuroid_id": [f"n{k}" for k in range(N_SITES)]},
    )


def features_of(seed, n_features=5):
    values = np.random.default_rng([seed, 1]).normal(size=(N_STIMULI, n_features))
    ids = {"stimulus_id": [f"s{k}" for k in range(N_STIMULI)]}
    return make_assembly(values, presentation=ids, neuroid={"neuroid_id": range(n_features)})


def with_holes(assembly, share, seed):
    return assembly.where(np.random.default_rng([seed, 2]).random(assembly.shape) >= share)


def alone(assembly, site):
    """One site on the presentations that it has."""
    part = assembly.isel(neuroid=[site])
    return part.isel(presentation=np.flatnonzero(np.isfinite(part.values[:, 0])))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.02, 0.1, 0.3]), st.integers(1, 3))
def test_averages_are_those_of_each_site_alone(seed, share, least):
    trials = with_holes(trials_of(seed), share, seed)
    averaged = average_repetitions(trials, min_repetitions=least)
    for site in range(N_SITES):
        single = average_repetitions(alone(trials, site), min_repetitions=least)
        column = averaged.isel(neuroid=site)
        known = np.flatnonzero(np.isfinite(column.values))
        expected = dict(zip(single["stimulus_id"].values, single.values[:, 0], strict=True))
        assert set(column["stimulus_id"].values[known]) == set(expected)
        np.testing.assert_allclose(
            column.values[known], [expected[key] for key in column["stimulus_id"].values[known]], rtol=1e-12
        )
    if missing_values(trials).any():
        assert averaged.attrs["n_missing_values"] == int(np.isnan(trials.values).sum())
        assert averaged.attrs["n_missing_averages"] == int(np.isnan(averaged.values).sum())


def test_a_missing_value_costs_one_average_where_it_is_not_skipped():
    trials = trials_of(0)
    trials.values[0, 1] = np.nan
    kept, lost = average_repetitions(trials), average_repetitions(trials, skipna=False)
    assert np.isfinite(kept.values).all()
    assert np.argwhere(np.isnan(lost.values)).tolist() == [[0, 1]]
    assert kept["fewest_repetitions"].values[:2].tolist() == [N_REPETITIONS - 1, N_REPETITIONS]
    lazy = average_repetitions(trials.chunk({"presentation": 7}))
    np.testing.assert_allclose(lazy.values, kept.values, rtol=1e-12)


def test_stimuli_with_too_few_repetitions_are_left_out_and_counted():
    trials = trials_of(0)
    rows = [k for k in range(trials.sizes["presentation"]) if k < N_STIMULI or k % N_STIMULI < 30]
    averaged = average_repetitions(trials.isel(presentation=rows), min_repetitions=2)
    assert averaged.sizes["presentation"] == 30
    assert averaged.attrs["n_dropped_stimuli"] == N_STIMULI - 30
    with refused(AssemblyError, "9 values", "most are 4", "min_repetitions=4"):
        average_repetitions(trials, min_repetitions=9)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.02, 0.1, 0.3]))
@pytest.mark.filterwarnings("ignore:found .* ceiling", "ignore:found .* one presentation")
def test_ceilings_are_those_of_each_site_alone(seed, share):
    trials = with_holes(trials_of(seed), share, seed)
    score = internal_consistency(trials, n_splits=3, n_bootstrap=20, seed=seed)
    for site in range(N_SITES):
        single = internal_consistency(alone(trials, site), n_splits=3, n_bootstrap=20, seed=seed)
        for name in ("raw", "ceiling", "ceiling_low", "ceiling_high"):
            np.testing.assert_allclose(
                score[name].isel(neuroid=site).values, single[name].isel(neuroid=0).values, rtol=1e-5, atol=1e-6
            )
    assert score.attrs["n_missing_values"] == int(np.isnan(trials.values).sum())


def test_two_percent_of_missing_values_cost_two_percent_of_the_trials():
    trials = with_holes(trials_of(3), 0.02, 3)
    complete = np.isfinite(trials.values).all(axis=1)
    assert complete.mean() < 0.95
    known = np.isfinite(trials.values).sum()
    averaged = average_repetitions(trials)
    assert averaged.attrs["n_missing_values"] == trials.size - known
    assert internal_consistency(trials, n_bootstrap=0)["n_stimuli_of_site"].values.tolist() == [N_STIMULI] * N_SITES


def test_stimuli_shown_once_are_left_out_of_the_ceiling():
    trials = trials_of(1)
    rows = [k for k in range(trials.sizes["presentation"]) if k < N_STIMULI or k % N_STIMULI < 30]
    unequal = trials.isel(presentation=rows)
    with warned(UserWarning, "10 of 40", "'s30'"):
        score = internal_consistency(unequal, n_bootstrap=0)
    repeated = trials.isel(presentation=[k for k in range(trials.sizes["presentation"]) if k % N_STIMULI < 30])
    assert score.identical(internal_consistency(repeated, n_bootstrap=0))
    with refused(AssemblyError, "found 0 of 40 stimuli", "at least 5"):
        internal_consistency(trials.isel(presentation=slice(0, N_STIMULI)))


def test_a_site_with_too_few_repeated_stimuli_has_no_ceiling():
    trials = trials_of(2)
    trials.values[3:, 2] = np.nan
    with warned(UserWarning, "1 neuroid", "'n2'", "fewer than 5"):
        score = internal_consistency(trials, n_bootstrap=10)
    assert np.isnan(score["ceiling"].values).tolist() == [False, False, True, False]
    assert np.isfinite(score["median"].item())
    assert np.isfinite(score["median_low"].item())


@settings(max_examples=6, deadline=None)
@given(
    st.integers(0, 1000), st.sampled_from([0.02, 0.1, 0.2]), st.sampled_from(["ridge", "linear", "neuron_to_neuron"])
)
def test_predictivity_is_that_of_each_site_alone(seed, share, regression):
    source, target = features_of(seed), with_holes(average_repetitions(trials_of(seed)), share, seed)
    folds = kfold_splits(N_STIMULI, n_splits=3, seed=seed)
    if min((~missing_values(target)[test]).sum(axis=0).min() for _, test in folds) < 3:
        return
    score = predictivity(source, target, regression, splits=folds, n_permutations=5)
    for site in range(N_SITES):
        single = alone(target, site)
        place = {key: row for row, key in enumerate(single["stimulus_id"].values)}
        stimuli = [f"s{k}" for k in range(N_STIMULI)]
        local = [
            tuple([place[stimuli[row]] for row in rows if stimuli[row] in place] for rows in fold) for fold in folds
        ]
        expected = predictivity(source, single, regression, splits=local, n_permutations=0)
        np.testing.assert_allclose(
            score["raw"].isel(neuroid=site).values, expected["raw"].isel(neuroid=0).values, rtol=1e-8, atol=1e-10
        )
    if missing_values(target).any():
        assert score["n_stimuli_of_site"].values.tolist() == (~missing_values(target)).sum(axis=0).tolist()


def test_pls_says_that_sites_are_fitted_apart():
    source, target = features_of(0), average_repetitions(trials_of(0))
    target.values[2, 1] = np.nan
    with warned(UserWarning, "1 missing values of 160"):
        score = predictivity(source, target, "pls", n_components=2, splits="kfold,n_splits=3", n_permutations=0)
    assert np.isfinite(score["raw"].values).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.02, 0.2]))
def test_correlations_are_those_of_each_site_alone(seed, share):
    predicted, observed = (average_repetitions(trials_of(s)) for s in (seed, seed + 1))
    predicted, observed = with_holes(predicted, share, seed), with_holes(observed, share, seed + 5)
    score = correlate(predicted, observed, n_permutations=20)
    for site in range(N_SITES):
        x, y = predicted.values[:, site], observed.values[:, site]
        known = np.isfinite(x) & np.isfinite(y)
        assert score["raw"].values[0, site] == pytest.approx(np.corrcoef(x[known], y[known])[0, 1], abs=1e-10)
    assert np.isfinite(score["null"].values).all()


def test_the_null_of_missing_values_is_centred():
    predicted = with_holes(average_repetitions(trials_of(0)), 0.3, 1)
    null = correlate(predicted, average_repetitions(trials_of(0)), n_permutations=300)["null"].values
    assert abs(null.mean()) < 0.03
    assert null.max() < 0.6


def test_without_missing_values_scores_are_the_same_to_the_bit():
    """What no NaN is in takes the branch that reads whole arrays, whatever other sites do."""
    trials, source = trials_of(0), features_of(0)
    target = average_repetitions(trials)
    assert set(target.attrs) == set()
    assert "fewest_repetitions" not in target.coords
    for score in (
        internal_consistency(trials, n_bootstrap=5),
        predictivity(source, target, "ridge", n_permutations=5),
        correlate(target, target, n_permutations=5),
    ):
        assert "n_stimuli_of_site" not in score
        assert "n_missing_values" not in score.attrs


def test_a_site_with_too_little_left_is_named():
    source, target = features_of(0), average_repetitions(trials_of(0))
    target.values[4:, 3] = np.nan
    with refused(AssemblyError, "1 of 4 neuroid", "'n3'", "drop_incomplete"):
        predictivity(source, target, "ridge")
    kept = drop_incomplete(target, presentations=False)
    assert kept["neuroid_id"].values.tolist() == ["n0", "n1", "n2"]
    assert predictivity(source, kept, "ridge", n_permutations=0).sizes["neuroid"] == 3


@pytest.mark.parametrize("name", ["rdm", "cka", "cca"])
def test_what_needs_full_vectors_refuses_and_its_mend_works(name):
    source, target = features_of(0), with_holes(average_repetitions(trials_of(0)), 0.05, 0)
    if name not in METRICS:
        pytest.skip(f"no metric {name}")
    with refused(AssemblyError, "NaN", "drop_incomplete(target)"):
        METRICS[name](source, target)
    assert np.isfinite(METRICS[name](source, drop_incomplete(target), n_permutations=2)["raw"].values).all()


def test_alignment_refuses_and_its_mend_works():
    source, target = features_of(0), with_holes(average_repetitions(trials_of(0)), 0.05, 0)
    with refused(AssemblyError, "NaN", "drop_incomplete(target)"):
        RidgeAligner().fit(source, target, 10)
    complete = drop_incomplete(target)
    assert complete.attrs["dropped_incomplete_presentations"] == int(missing_values(target).any(axis=1).sum())
    assert RidgeAligner().fit(source, complete, 10).transform(source).shape == (N_STIMULI, N_SITES)


def test_a_learning_curve_trains_on_complete_stimuli_and_scores_site_by_site():
    source, target = features_of(0), with_holes(average_repetitions(trials_of(0)), 0.05, 0)
    fold = draw_curve_fold(source, target, 8, seed=0)
    assert not missing_values(fold.target_train).any()
    assert missing_values(fold.target_test).any()
    whole = draw_curve_fold(source, average_repetitions(trials_of(0)), 8, seed=0)
    assert fold.target_test["stimulus_id"].values.tolist() == whole.target_test["stimulus_id"].values.tolist()
    curve = learning_curve(
        source, target, {"ridge": RidgeAligner()}, n_pairs=(5, 10), n_seeds=2, n_permutations=3, progress=False
    )
    assert np.isfinite(curve["raw"].values).all()
    with refused(AssemblyError, "32 pairs", "miss a value", "drop_incomplete"):
        draw_curve_fold(source, target, 32, seed=0)


def test_what_is_left_out_is_counted_and_never_all():
    target = average_repetitions(trials_of(0))
    assert drop_incomplete(target).equals(target)
    target.values[:, 0] = np.nan
    target.values[0, 1] = np.nan
    kept = drop_incomplete(target, max_missing=0.5)
    assert kept.shape == (N_STIMULI - 1, N_SITES - 1)
    assert (kept.attrs["dropped_incomplete_neuroids"], kept.attrs["dropped_incomplete_presentations"]) == (1, 1)
    with refused(AssemblyError, "0 of 40 presentations", "max_missing"):
        drop_incomplete(target, max_missing=1.0)
    with refused(AssemblyError, "max_missing=1.5"):
        drop_incomplete(target, max_missing=1.5)
