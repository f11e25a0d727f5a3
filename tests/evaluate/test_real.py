"""The same functions on real recordings."""

from __future__ import annotations

import numpy as np
import pytest

import neurobridge as nb
from neurobridge.assemblies import make_assembly, split_halves
from neurobridge.datasets.loaders import hvm
from neurobridge.evaluate import METRICS, aggregate, group_splits, internal_consistency, rdm

pytestmark = pytest.mark.realdata


def test_rdm_of_it_is_the_published_one(mirror):
    it = nb.load("majajhong2015-it-v6", mirror=mirror).recordings
    objects = np.unique(it["object_name"].values)
    means = np.stack([it.values[it["object_name"].values == name].mean(axis=0) for name in objects])
    ours = rdm(
        make_assembly(means, presentation={"stimulus_id": objects}, neuroid={"neuroid_id": it["neuroid_id"].values})
    )
    published = hvm.load(mirror=mirror, similarity=True).rdms.isel(rdm=0)
    names = published["object_name"].values
    rows = [int(np.flatnonzero(names == name)[0]) for name in objects]
    assert np.allclose(ours.values, published.values[np.ix_(rows, rows)], atol=1e-5)


def test_ceilings_of_v4_neurons_are_those_of_explicit_halves(mirror):
    trials = nb.load("cowley2023-v4-210325", mirror=mirror).recordings
    trials = nb.assemblies.drop_constant(trials)
    counts = trials["stimulus_id"].to_series().map(trials["stimulus_id"].to_series().value_counts())
    trials = trials.isel(presentation=np.flatnonzero(counts.values >= 2))
    score = internal_consistency(trials, n_bootstrap=50)
    assert 0.3 < score["median"].item() < 1
    slow = []
    for seed in range(10):
        one, other = (half.values.reshape(half.shape[0], -1) for half in split_halves(trials, seed=seed))
        r = np.array([np.corrcoef(one[:, k], other[:, k])[0, 1] for k in range(one.shape[1])])
        slow.append(np.median(2 * r / (1 + r)))
    assert score["median"].item() == pytest.approx(np.mean(slow), abs=4 * np.std(slow) / np.sqrt(5) + 0.005)


def test_the_pose_of_an_object_predicts_it_but_less_for_new_objects(mirror):
    data = nb.load("majajhong2015-it-v6", mirror=mirror)
    known = aggregate(METRICS["ridge"](data.latents, data.recordings, n_permutations=20), n_bootstrap=0)
    objects = data.recordings["object_name"].values
    new = aggregate(
        METRICS["ridge"](data.latents, data.recordings, splits=group_splits(objects), n_permutations=20), n_bootstrap=0
    )
    assert known["p_value"] == pytest.approx(1 / 21)
    assert 0 < new["raw"] < known["raw"]
