"""Pseudo-populations: no trial on both sides, every trial used before any twice, and accuracies that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from neurobridge.assemblies import AssemblyError, make_assembly, validate
from neurobridge.evaluate.decoding import decode_pseudo_population, pseudo_population
from neurobridge.evaluate.score.schema import check_score
from tests.refusals import refused


def session(
    first_site=0, n_stimuli=12, n_repetitions=4, n_sites=3, gap=0.0, missing=0.0, seed=0, numbered=False, first=0
):
    """Simulate a session; ``numbered`` gives every trial and site a value of its own."""
    rng = np.random.default_rng(seed + first_site)
    stimulus = np.tile(np.arange(n_stimuli), n_repetitions)
    n = len(stimulus)
    values = rng.normal(size=(n, n_sites)) + gap * (stimulus % 2)[:, None]
    if numbered:
        values = np.arange(n)[:, None] + 1000.0 * (first_site + np.arange(n_sites))
    values[rng.random(values.shape) < missing] = np.nan
    return make_assembly(
        values,
        presentation={"stimulus_id": stimulus + first, "object": np.array(["car", "face"])[stimulus % 2]},
        neuroid={"neuroid_id": first_site + np.arange(n_sites)},
    )


@settings(max_examples=20, deadline=None)
@given(
    missing=st.sampled_from([0.0, 0.15]),
    group=st.sampled_from([None, "stimulus_id"]),
    within=st.sampled_from([None, "stimulus_id"]),
    held_out=st.sampled_from([0.25, 0.5]),
    seed=st.integers(0, 99),
)
def test_no_trial_is_on_both_sides_and_classes_are_equal(missing, group, within, held_out, seed):
    parts = [
        session(0, missing=missing, numbered=True, seed=seed),
        session(3, 12, 6, missing=missing, numbered=True, seed=seed),
    ]
    train, test = pseudo_population(parts, "object", group=group, within=within, held_out=held_out, seed=seed)
    assert validate(train).sizes["neuroid"] == 6
    for site in range(6):
        used = [set(side.values[:, site]) for side in (train, test)]
        assert not used[0] & used[1]
        rows = {int(value) - 1000 * site for side in used for value in side}
        assert max(rows) < len(parts[site // 3])
        if group == "stimulus_id":
            stimuli = [{int(value - 1000 * site) % 12 for value in side} for side in used]
            assert not stimuli[0] & stimuli[1]
    for side in (train, test):
        classes, counts = np.unique(side["object"].values, return_counts=True)
        assert classes.tolist() == ["car", "face"]
        assert len(set(counts)) == 1
        assert (side.values.astype(int) % 1000 % 2 == (side["object"].values == "face")[:, None]).all()
    assert not set(train["stimulus_id"].values) & set(test["stimulus_id"].values)


def test_a_trial_is_used_twice_only_after_all_others():
    data = session(numbered=True)
    train, _ = pseudo_population(data, "object", n_train=40, within=None, group=None, held_out=0.5)
    for site in range(3):
        counts = np.unique(train.values[train["object"].values == "car", site], return_counts=True)[1]
        assert counts.sum() == 40
        assert counts.max() - counts.min() <= 1
    default, _ = pseudo_population(data, "object", within=None, group=None, held_out=0.5)
    assert np.unique(default.values[:, 0]).size == len(default)


def test_trials_of_one_stimulus_alone_are_joined_within_stimuli():
    train, test = pseudo_population([session(0, numbered=True), session(3, numbered=True)], "object", group=None)
    for side in (train, test):
        stimuli = side.values.astype(int) % 1000 % 12
        assert (stimuli == stimuli[:, :1]).all()
    joined, _ = pseudo_population([session(0, numbered=True), session(3, numbered=True)], "object", within=None)
    stimuli = joined.values.astype(int) % 1000 % 12
    assert (stimuli != stimuli[:, :1]).any()


def test_independent_sites_reach_the_closed_form_by_number():
    """Sites with d' 0.6 each, trials that differ in noise alone: accuracy of k sites is Phi(0.3 sqrt(k))."""
    data = session(n_stimuli=4, n_repetitions=150, n_sites=24, gap=0.6)
    score = check_score(
        decode_pseudo_population(
            data,
            "object",
            n_sites=(1, 4, 24),
            readout="centroid",
            group=None,
            n_draws=12,
            n_permutations=9,
            progress=False,
        )
    )
    assert score["raw"].dims == ("n_sites", "draw")
    assert np.allclose(score["raw"].mean("draw"), norm.cdf(0.3 * np.sqrt([1, 4, 24])), atol=0.07)
    assert np.allclose(score["null"].mean("permutation"), 0.5, atol=0.1)
    assert score["p_value"].values[-1] == pytest.approx(1 / (1 + score.attrs["n_permutations"]))


def test_sites_that_lack_trials_are_no_obstacle_and_are_counted():
    data = session(n_stimuli=40, n_repetitions=1, n_sites=30, gap=2.0)
    values = data.values.copy()
    values[np.arange(7), np.arange(7)] = np.nan
    score = decode_pseudo_population(data.copy(data=values), "object", n_draws=3, n_permutations=3, progress=False)
    assert score["raw"].sizes == {"n_sites": 1, "draw": 3}
    assert (score.attrs["n_missing"], score.attrs["n_incomplete"]) == (7, 7)
    assert float(score["raw"].mean()) > 0.9
    same = decode_pseudo_population(data.copy(data=values), "object", n_draws=3, n_permutations=3, progress=False)
    assert score.identical(same)
    other = decode_pseudo_population(
        data.copy(data=values), "object", n_draws=3, n_permutations=3, seed=1, progress=False
    )
    assert not other["null"].equals(score["null"])


def test_what_cannot_be_joined_is_refused_with_the_mend():
    apart = [session(0), session(3, first=12)]
    with refused(AssemblyError, "24 of 24 values", "within=None"):
        pseudo_population(apart, "object")
    assert pseudo_population(apart, "object", within=None).train.sizes["neuroid"] == 6
    with refused(AssemblyError, "3 neuroid_id"):
        pseudo_population([session(0), session(0)], "object")
    with refused(AssemblyError, "n_sites=[4]", "3"):
        decode_pseudo_population(session(0), "object", n_sites=[4])
    with refused(AssemblyError, "held_out=1"):
        pseudo_population(session(0), "object", held_out=1)
    with refused(AssemblyError, "no session"):
        pseudo_population([], "object")
    mixed = session(0).assign_coords(word=("presentation", np.arange(48) % 5))
    with refused(AssemblyError, "stimulus_id", "group=None"):
        pseudo_population(mixed, "word")
    values = session(0).values.copy()
    values[1::2, 2] = np.nan
    with refused(AssemblyError, "0 trials of 'face' at site '2'"):
        pseudo_population(session(0).copy(data=values), "object", within=None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("within", [None, "stimulus_id"])
def test_pseudo_populations_without_an_effect_alarm_at_the_stated_level(within):
    """Stimuli differ, classes do not; two sessions with missing trials: 200 simulations, alpha .05."""
    alarms = []
    for seed in range(200):
        rng = np.random.default_rng(11_000 + seed)
        parts = []
        for first_site in (0, 4):
            means = rng.normal(size=(16, 4))
            stimulus = np.tile(np.arange(16), 4)
            values = means[stimulus] + rng.normal(size=(64, 4))
            values[rng.random(values.shape) < 0.05] = np.nan
            parts.append(
                make_assembly(
                    values,
                    presentation={"stimulus_id": stimulus, "object": stimulus % 2},
                    neuroid={"neuroid_id": first_site + np.arange(4)},
                )
            )
        score = decode_pseudo_population(
            parts, "object", readout="centroid", within=within, n_draws=5, n_permutations=39, seed=seed, progress=False
        )
        alarms.append(float(score["p_value"].item()) <= 0.05)
    assert np.mean(alarms) <= 0.095
