"""Spikes become counts: closed forms, the edges of windows, and every way in which spikes lie in files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

import neurobridge as nb
from neurobridge.assemblies import AssemblyError
from tests.refusals import refused

SPIKES = {"u0": [0.07, 0.10, 0.17, 1.12], "u1": [1.05, 1.20]}
TRIALS = {"stimulus_id": ["a", "b"], "onset": [0.0, 1.0]}


def table():
    rows = [(site, time) for site, times in SPIKES.items() for time in times]
    return pd.DataFrame(rows, columns=["cluster_id", "spike_time"])


def test_a_window_holds_its_start_and_not_its_stop():
    counts = nb.count_spikes(SPIKES, TRIALS, windows={"response": (70, 170), "late": (170, 300)})
    assert counts.dims == ("presentation", "neuroid", "time_bin")
    assert counts.sel(time_bin=0).values.tolist() == [[2, 0], [1, 0]]
    assert counts.sel(time_bin=1).values.tolist() == [[1, 0], [0, 1]]
    assert counts["time_bin_name"].values.tolist() == ["response", "late"]
    assert counts["time_bin_start"].values.tolist() == [70, 170]
    assert counts.attrs["units"] == "spikes"


@settings(max_examples=30, deadline=None)
@given(
    times=st.lists(st.integers(0, 2000), max_size=40),
    onsets=st.lists(st.integers(0, 1500), min_size=1, max_size=6),
    start=st.integers(-200, 200),
    width=st.integers(1, 60),
    n_bins=st.integers(1, 8),
)
def test_counts_are_those_of_a_histogram_and_bins_add_up(times, onsets, start, width, n_bins):
    stop = start + n_bins * width
    trials = {"stimulus_id": [f"s{k}" for k in range(len(onsets))], "onset": onsets}
    inside = [[sum(o + start <= t < o + stop for t in times)] for o in onsets]
    if not np.any(inside):
        return
    spikes = {"u": np.array(times, dtype=float)}
    bins = nb.count_spikes(spikes, trials, bins=(start, stop, width), sampling_rate=1000)
    whole = nb.count_spikes(spikes, trials, windows={"all": (start, stop)}, sampling_rate=1000)
    np.testing.assert_array_equal(bins.sum("time_bin").values, inside)
    np.testing.assert_array_equal(whole.values[:, :, 0], inside)
    edges = np.arange(start, stop + 1, width)
    for k, onset in enumerate(onsets):
        expected, _ = np.histogram(np.array([t for t in times if t < onset + stop]), bins=np.array([*edges]) + onset)
        np.testing.assert_array_equal(bins.values[k, 0], expected)


def test_every_form_of_spikes_gives_the_same_counts(tmp_path):
    expected = nb.count_spikes(SPIKES, TRIALS, bins=(0, 300, 50))
    trials = pd.DataFrame(TRIALS)
    table().sample(frac=1, random_state=0).to_csv(tmp_path / "spikes.csv", index=False)
    trials.to_csv(tmp_path / "trials.csv", index=False)
    np.savez(
        tmp_path / "spikes.npz",
        spike_times=table()["spike_time"],
        spike_clusters=table()["cluster_id"].to_numpy().astype(str),
    )
    (tmp_path / "phy").mkdir()
    np.save(
        tmp_path / "phy" / "spike_times.npy",
        np.round(30000 * table()["spike_time"].to_numpy()).astype(np.uint64)[:, None],
    )
    np.save(tmp_path / "phy" / "spike_clusters.npy", np.array([0, 0, 0, 0, 1, 1], dtype=np.int32))
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = np.array(SPIKES["u0"])[:, None], np.array(SPIKES["u1"])[None]
    scipy.io.savemat(tmp_path / "spikes.mat", {"units": cells})
    counts = {
        "table": nb.count_spikes(table(), trials, bins=(0, 300, 50)),
        "csv": nb.read_recordings(tmp_path / "spikes.csv", trials=tmp_path / "trials.csv", bins=(0, 300, 50)),
        "npz": nb.read_recordings(tmp_path / "spikes.npz", trials=trials, bins=(0, 300, 50)),
        "cells": nb.read_recordings(tmp_path / "spikes.mat", trials=trials, bins=(0, 300, 50)),
        "folder": nb.read_recordings(
            tmp_path / "phy",
            trials=trials.assign(onset=[0, 30000]),
            bins=(0, 300, 50),
            sampling_rate=30000,
        ),
    }
    for form, read in counts.items():
        order = np.argsort(read["neuroid_id"].values)
        np.testing.assert_array_equal(read.values[:, order], expected.values, err_msg=form)
    assert counts["csv"]["neuroid_id"].values.tolist().count("u0") == 1
    assert counts["folder"]["neuroid_id"].values.tolist() == ["0", "1"]


def test_sites_are_those_of_the_table(tmp_path):
    sites = {"unit": ["u1", "u7"], "region": ["IT", "V4"]}
    counts = nb.count_spikes(SPIKES, TRIALS, windows={"r": (0, 300)}, sites=sites)
    assert counts["neuroid_id"].values.tolist() == ["u1", "u7"]
    assert counts.values[:, :, 0].tolist() == [[0, 0], [2, 0]]
    assert any("u0" in line for line in counts.attrs["left_out"])


def test_a_trial_outside_the_observed_time_of_a_site_is_missing():
    counts = nb.count_spikes(SPIKES, TRIALS, windows={"r": (0, 300)}, observed={"u1": [[0.9, 1.4]]})
    np.testing.assert_array_equal(counts.values[:, :, 0], [[3, np.nan], [1, 2]])
    assert counts.attrs["n_missing_values"] == 1


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({}, ("neither windows nor bins", "--window")),
        ({"windows": {"r": (0, 100)}, "bins": (0, 100, 10)}, ("both windows and bins",)),
        ({"bins": (0, 100, 30)}, ("(0, 100, 30)", "divides")),
        ({"bins": (0, 100, 0)}, ("(0, 100, 0)",)),
        ({"windows": {"r": (100, 100)}}, ("100.0", "stop after its start")),
        ({"windows": {"r": (5000, 6000)}}, ("spikes from 0.07 to 1.2", "onsets from 0 to 1", "--sampling-rate")),
        ({"bins": (0, 100, 10), "sampling_rate": 0}, ("sampling_rate", "found 0")),
        ({"windows": {"r": (0, 300)}, "columns": {"onset": "t0"}}, ("'t0'", "stimulus_id")),
    ],
)
def test_what_cannot_be_counted_is_refused(options, facts):
    with refused(AssemblyError, *facts):
        nb.count_spikes(SPIKES, TRIALS, **options)


def test_trials_need_onsets_and_spikes_need_trials(tmp_path):
    with refused(AssemblyError, "category", "'onset'", "--map"):
        nb.count_spikes(SPIKES, {"stimulus_id": ["a"], "category": ["x"]}, bins=(0, 100, 10))
    with refused(AssemblyError, "'onset'", "float64"):
        nb.count_spikes(SPIKES, {"stimulus_id": ["a", "b"], "onset": [0, None]}, bins=(0, 100, 10))
    np.savez(tmp_path / "s.npz", spike_times=[0.1], units=["a"])
    with refused(AssemblyError, "no trials", "--trials"):
        nb.read_recordings(tmp_path / "s.npz", bins=(0, 100, 10))
