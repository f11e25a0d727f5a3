"""Scores of time bins: the bins one by one, clusters with a closed case and at their level, onset and peak."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neurobridge as nb
from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.evaluate import (
    METRICS,
    aggregate,
    cluster_test,
    cross_animal_consistency,
    find_clusters,
    internal_consistency,
    predictivity,
    time_course,
)
from neurobridge.evaluate.decoding import generalise_time
from neurobridge.evaluate.score.schema import check_score, make_score, score_attrs
from neurobridge.evaluate.similarity import cka, rdm_consistency, rdm_similarity, rsa
from tests.refusals import refused

START = np.array([0, 20, 40, 60])


def trials(onset=2, n_stimuli=24, n_repetitions=3, gap=3.0, n_bins=4, seed=0, d=6):
    """Simulate trials of two categories whose responses differ from the bin ``onset`` on."""
    rng = np.random.default_rng(seed)
    stimulus = np.tile(np.arange(n_stimuli), n_repetitions)
    signal = rng.normal(size=(n_stimuli, d)) + gap * (np.arange(n_stimuli) % 2)[:, None]
    values = rng.normal(size=(len(stimulus), d, n_bins))
    values[:, :, onset:] += signal[stimulus][:, :, None]
    start = 20 * np.arange(n_bins)
    return make_assembly(
        values,
        presentation={
            "stimulus_id": stimulus,
            "repetition": np.repeat(np.arange(n_repetitions), n_stimuli),
            "object": np.array(["car", "face"])[stimulus % 2],
        },
        neuroid={"neuroid_id": range(d), "animal": np.array(["a", "b"])[np.arange(d) % 2]},
        time_bin={"time_bin_start": start, "time_bin_end": start + 20},
    )


def model_of(data, seed=1):
    late = nb.average_repetitions(data).values[:, :, -1]
    rng = np.random.default_rng(seed)
    return make_assembly(
        late @ rng.normal(size=(late.shape[1], 5)),
        presentation={"stimulus_id": np.arange(len(late))},
        neuroid={"neuroid_id": range(5)},
    )


# ---- clusters --------------------------------------------------------------------------------------------------


def test_clusters_by_hand():
    """Permutations of 0 and 1 alone: units, masses and p in closed form."""
    null = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=float)
    clusters = cluster_test(np.array([1.0, 1.0, 0.0, 1.0]), null, forming=0.5)
    # In every bin two of four values are 1: units are +1 and -1, the median is 1/2; in the third bin one of four, sqrt(3).
    assert clusters.labels.tolist() == [1, 1, 0, 2]
    assert clusters.masses.tolist() == pytest.approx([2.0, 1.0])
    # Largest masses: 2 (observed), 1, 1 + sqrt(3), 1.
    assert clusters.p_values.tolist() == pytest.approx([2 / 4, 4 / 4])


def test_the_observed_values_are_one_of_the_permutations():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 30))
    p_values = []
    for k in range(20):
        clusters = cluster_test(values[k], np.delete(values, k, axis=0), forming=0.2)
        p_values.append(clusters.p_values.min(initial=1))
    # The k-th largest of 20 has p = k / 20 exactly.
    assert sorted(p_values) == pytest.approx(np.arange(1, 21) / 20)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_clusters_do_not_depend_on_the_unit_of_a_bin(seed, scale, shift):
    rng = np.random.default_rng(seed)
    observed, null = rng.normal(size=12) + 1, rng.normal(size=(30, 12))
    factor = 1 + (scale - 1) * (np.arange(12) % 2)
    one, other = cluster_test(observed, null), cluster_test(factor * observed + shift, factor * null + shift)
    assert np.array_equal(one.labels, other.labels)
    assert np.allclose(one.p_values, other.p_values)


def test_areas_of_two_times_are_clusters():
    rng = np.random.default_rng(0)
    observed = rng.normal(size=(10, 10))
    observed[6:, 6:] += 6
    clusters = cluster_test(observed, rng.normal(size=(99, 10, 10)))
    number = clusters.labels[8, 8]
    assert (clusters.labels[6:, 6:] == number).all()
    assert clusters.p_values[number - 1] == pytest.approx(0.01)


def test_what_makes_no_clusters_is_refused():
    null = np.zeros((5, 3))
    with refused(ValueError, "(4,)", "(5, 3)"):
        cluster_test(np.zeros(4), null)
    with refused(ValueError, "1 NaN"):
        cluster_test(np.array([np.nan, 0, 0]), null)
    with refused(ValueError, "forming=1"):
        cluster_test(np.zeros(3), null, forming=1)
    assert len(cluster_test(np.zeros(3), null).masses) == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_clusters_alarm_at_the_stated_level():
    """200 data sets of smooth noise without an effect, refitted nulls: any significant cluster in at most 5 % of them."""
    alarms = []
    for seed in range(200):
        rng = np.random.default_rng(7000 + seed)
        noise = rng.normal(size=(32, 3, 10))
        smooth = sum(noise[:, :, k : k + 6] for k in range(5))
        data = make_assembly(
            smooth,
            presentation={"stimulus_id": range(32), "object": np.arange(32) % 2},
            neuroid={"neuroid_id": range(3)},
            time_bin={"time_bin_start": np.arange(6), "time_bin_end": np.arange(6) + 1},
        )
        score = nb.decode(data, "object", by="time_bin", splits="kfold,label=object,n_splits=4", refit=True,
                          n_permutations=39, seed=seed, progress=False)  # fmt: skip
        alarms.append(bool(time_course(score)["significant"].any()))
    assert np.mean(alarms) <= 0.095


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_clusters_of_the_fast_null_alarm_at_most_at_the_stated_level():
    alarms = []
    for seed in range(200):
        data = trials(gap=0.0, seed=9000 + seed, n_bins=10, onset=0)
        score = nb.decode(data, "object", by="time_bin", n_permutations=99, seed=seed, progress=False)
        alarms.append(bool(time_course(score)["significant"].any()))
    assert np.mean(alarms) <= 0.095


# ---- decoding --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readout", ["logistic", "lda"])
def test_bins_are_decoded_as_they_are_alone(readout):
    data = trials()
    score = nb.decode(data, "object", by="time_bin", readout=readout, n_permutations=30)
    assert score["raw"].dims == ("time_bin", "split")
    assert score["null"].dims == ("time_bin", "permutation")
    assert score["time_bin_start"].values.tolist() == START.tolist()
    for k in (0, 3):
        alone = nb.decode(data.isel(time_bin=k), "object", readout=readout, n_permutations=30)
        for name in ("raw", "null", "p_value", "confusion"):
            assert np.array_equal(score[name].values[k], alone[name].values), name
    assert aggregate(score)["p_value"].values[3] < 0.05
    with refused(AssemblyError, "4 time bins"):
        nb.decode(data, "object")
    with refused(AssemblyError, "('presentation', 'neuroid')", "time_bin"):
        nb.decode(data.isel(time_bin=0), "object", by="time_bin")


def test_onset_and_peak_of_a_known_course():
    course = time_course(nb.decode(trials(), "object", by="time_bin", n_permutations=99))
    assert course["significant"].values.tolist() == [False, False, True, True]
    assert (float(course["onset"]), float(course["offset"])) == (50.0, 70.0)
    assert float(course["peak"]) in (50.0, 70.0)
    assert course["time"].values.tolist() == [10, 30, 50, 70]
    flat = time_course(nb.decode(trials(gap=0.0), "object", by="time_bin", n_permutations=99))
    assert np.isnan(float(flat["onset"]))


def test_distances_peak_where_they_are_smallest():
    attrs = score_attrs({"metric": "distance", "splits": "given", "n_stimuli": 9}, 1, 49, 0)
    null = np.random.default_rng(0).normal(5, 1, size=(4, 49))
    score = make_score([5.0, 5.0, 0.0, 5.0], ("time_bin",), null=null, smaller_is_better=True, attrs=attrs)
    course = time_course(score)
    assert (float(course["peak"]), float(course["peak_value"])) == (2.0, 0.0)
    assert course["significant"].values.tolist() == [False, False, True, False]
    with refused(ValueError, "()", "time_bin"):
        time_course(score.isel(time_bin=0))


def test_a_stable_code_generalises_and_the_diagonal_is_decoding():
    data = trials()
    score = generalise_time(data, "object", n_permutations=99)
    check_score(score)
    assert score["raw"].dims == ("trained", "tested", "split")
    assert score["trained"].values.tolist() == [10, 30, 50, 70]
    assert score["tested_end"].values.tolist() == [20, 40, 60, 80]
    by_bin = nb.decode(data, "object", by="time_bin", n_permutations=99)
    for name in ("raw", "null"):
        assert np.array_equal(np.diagonal(score[name].values).T, by_bin[name].values), name
    mean = score["raw"].mean("split").values
    assert mean[2:, 2:].min() > 0.9
    assert mean[:2].max() < 0.8
    kept = find_clusters(score)["significant"].values
    assert kept[2:, 2:].all()
    assert kept.sum() <= 6
    lda = (
        generalise_time(data.isel(time_bin=[0, 3]), "object", readout="lda", n_permutations=0)["raw"]
        .mean("split")
        .values
    )
    assert lda[1, 1] > 0.9 > lda[0, 0]


# ---- other scores ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [rsa, rdm_similarity, cka])
def test_similarities_of_bins_are_those_of_the_bins_alone(metric):
    data = nb.average_repetitions(trials())
    model = model_of(trials())
    score = check_score(metric(model, data, by="time_bin", n_permutations=9))
    alone = metric(model, data.isel(time_bin=3), n_permutations=9)
    for name in ("raw", "null", "ceiling"):
        assert np.array_equal(score[name].values[3], alone[name].values, equal_nan=True), name
    assert score["raw"].values[3].mean() > score["raw"].values[0].mean()
    assert METRICS["rdm"](model, data, by="time_bin", n_permutations=0)["raw"].dims == ("time_bin", "split")


@pytest.mark.parametrize(("regression", "options"), [("ridge", {}), ("linear", {}), ("pls", {"n_components": 3})])
def test_bins_are_predicted_as_they_are_alone(regression, options):
    data, model = trials(n_stimuli=30), model_of(trials(n_stimuli=30))
    ceiling = internal_consistency(data.isel(time_bin=3), n_bootstrap=0)["ceiling"]
    ceiling = ceiling.expand_dims(time_bin=4) if regression == "ridge" else None
    score = check_score(
        predictivity(model, data, regression, by="time_bin", ceiling=ceiling, n_permutations=9, **options)
    )
    alone = predictivity(
        model,
        data.isel(time_bin=3),
        regression,
        ceiling=None if ceiling is None else ceiling[3],
        n_permutations=9,
        **options,
    )
    for name in ("raw", "null", "normalized"):
        assert np.allclose(score[name].values[3], alone[name].values, equal_nan=True), name
    whole = model.expand_dims(time_bin=4).transpose("presentation", "neuroid", "time_bin")
    if regression == "linear":
        both = predictivity(whole, data, regression, by="time_bin", n_permutations=0)
        assert np.allclose(both["raw"], score["raw"])


def test_ceilings_of_bins_and_a_silent_site():
    data = trials(onset=0)
    values = data.values.copy()
    values[:, 0, 0] = 0
    silent = data.copy(data=values)
    with pytest.warns(UserWarning, match=r"in 1 of 4") as told:
        score = internal_consistency(silent, by="time_bin", n_bootstrap=5)
    assert {str(warning.message)[:20] for warning in told} == {"in 1 of 4 time bins,"}
    assert score["ceiling"].dims == ("time_bin", "neuroid")
    assert score["ceiling"].values[0, 0] == 0
    alone = internal_consistency(data.isel(time_bin=3), n_bootstrap=5)
    assert np.allclose(score["ceiling"].values[3], alone["ceiling"].values)
    assert score["median"].dims == ("time_bin",)
    with pytest.warns(UserWarning, match=r"constant"):
        r = predictivity(model_of(data), silent, "ridge", by="time_bin", n_permutations=0)["raw"].values
    assert (r[0, :, 0] == 0).all()


def test_ceilings_across_animals_and_of_rdms_have_a_bin_each():
    data = trials(onset=0)
    across = cross_animal_consistency(data, regression="ridge", by="time_bin", n_permutations=8)
    alone = cross_animal_consistency(data.isel(time_bin=3), regression="ridge", n_permutations=8)
    assert across["raw"].dims == ("time_bin", "split", "neuroid")
    for name in ("raw", "null", "null_site_95"):
        np.testing.assert_allclose(across[name].values[3], alone[name].values)
    geometry = rdm_consistency(data, n_splits=2, by="time_bin")
    assert geometry["ceiling"].dims == ("time_bin",)
    np.testing.assert_allclose(
        geometry["ceiling"].values[2], rdm_consistency(data.isel(time_bin=2), n_splits=2)["ceiling"]
    )
    with refused(AssemblyError, "recordings", "time_bin"):
        rdm_consistency(data.isel(time_bin=0), by="time_bin")


def test_bins_that_do_not_match_are_refused():
    data = nb.average_repetitions(trials())
    with refused(AssemblyError, "3", "4", "time bins"):
        rsa(data.isel(time_bin=slice(0, 3)), data, by="time_bin")
    with refused(AssemblyError, "3", "4", "time bins"):
        predictivity(data.isel(time_bin=slice(0, 3)), data, "ridge", by="time_bin")
    with refused(AssemblyError, "target", "time_bin"):
        rsa(data.isel(time_bin=0), data.isel(time_bin=0), by="time_bin")
