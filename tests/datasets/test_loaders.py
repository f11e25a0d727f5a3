"""The loaders, on real files where a mirror is present, and on broken ones everywhere."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pandas as pd
import pytest

from neurobridge.assemblies import AssemblyError, average_repetitions, validate
from neurobridge.datasets import fetch, load
from neurobridge.datasets.majajhong2015 import hvm_stimuli, pose_latents
from neurobridge.datasets.mnist import read_idx
from neurobridge.evaluate import internal_consistency


@pytest.mark.realdata
def test_majajhong_row_order_is_proven_by_the_published_similarity(mirror):
    experiment = load("majajhong2015-it-v6", mirror=mirror)
    recordings = experiment.recordings
    frame = pd.DataFrame(recordings.values.astype(np.float64))
    keys = [recordings["category_name"].values, recordings["object_name"].values]
    means = frame.groupby(keys).mean().to_numpy()
    path = fetch("hvm-metadata", files=["it_object_similarity.npy"], mirror=mirror)["it_object_similarity.npy"]
    published = np.load(path, allow_pickle=False)[:16, :16]
    assert np.abs(np.corrcoef(means) - published).max() < 1e-6
    # The check has teeth: one row out of place breaks it.
    shifted = frame.groupby([np.roll(key, 1) for key in keys]).mean().to_numpy()
    assert np.abs(np.corrcoef(shifted) - published).max() > 1e-3


@pytest.mark.realdata
def test_majajhong_is_labelled(mirror):
    experiment = load("majajhong2015-it-v6", mirror=mirror)
    assert experiment.kind == "recorded"
    assert experiment.recordings.shape == (640, 168)
    assert sorted(set(experiment.recordings["category_name"].values)) == ["Animals", "Boats"]
    assert set(experiment.recordings["variation"].values) == {6}
    assert np.unique(experiment.recordings["object_name"].values, return_counts=True)[1].tolist() == [40] * 16
    assert experiment.latents.shape == (640, 16 + 3 + 6)
    assert "private split" in experiment.attrs["note"]
    assert set(experiment.attrs["digests"]) == {"data_subset.npy", "2020-11-22_hvm_from_dldata.csv"}


@pytest.mark.realdata
def test_hvm_table_has_the_published_design(mirror):
    table = hvm_stimuli(mirror=mirror)
    assert table["variation"].value_counts().to_dict() == {0: 640, 3: 2560, 6: 2560}
    assert table["object_name"].nunique() == 64
    assert table["stimulus_id"].is_unique


@pytest.mark.realdata
def test_cowley_trials_and_images_belong_together(mirror):
    experiment = load("cowley2023-v4-210325", mirror=mirror)
    trials = experiment.recordings
    assert trials.shape == (4840, 50)
    counts = np.unique(trials["stimulus_id"].values, return_counts=True)[1]
    assert (len(counts), counts.min(), counts.max()) == (640, 6, 10)
    assert experiment.images.shape == (640, 112, 112, 3)
    assert experiment.images.dtype == np.uint8
    averaged = average_repetitions(trials)
    assert averaged["stimulus_id"].values.tolist() == experiment.images["stimulus_id"].values.tolist()
    raw = np.load(fetch("cowley2023-v4-210325", mirror=mirror)["responses_210325.npy"], allow_pickle=False)
    assert np.allclose(averaged.values, np.nanmean(raw, axis=2).T)
    assert 0.5 < float(internal_consistency(trials)["raw"].mean("split").median()) < 0.75


@pytest.mark.realdata
@pytest.mark.parametrize(("part", "n", "first"), [("train", 60_000, "5"), ("test", 10_000, "7")])
def test_mnist_is_the_official_one(mirror, part, n, first):
    experiment = load("mnist", part=part, mirror=mirror)
    assert experiment.images.shape == (n, 28, 28)
    assert experiment.images["category_name"].values[0] == first
    assert len(set(experiment.images["category_name"].values)) == 10
    assert experiment.stimuli["stimulus_id"].is_unique


def test_mnist_refuses_other_parts():
    with pytest.raises(ValueError, match=r"found part 'validation'; expected one of \['test', 'train'\].*Mend"):
        load("mnist", part="validation")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        struct.pack(">HBBI", 0, 8, 1, 9) + b"abc",
        struct.pack(">HBBI", 0, 13, 1, 1) + b"abcd",
        b"\x01" * 40,
    ],
)
def test_a_broken_idx_file_is_refused(tmp_path, data):
    path = tmp_path / "digits.gz"
    path.write_bytes(gzip.compress(data))
    with pytest.raises(AssemblyError, match=r"digits.gz: found .* bytes that are not one IDX array.*Mend"):
        read_idx(path)


def test_idx_arrays_are_read(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "digits.gz"
    path.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, *values.shape) + values.tobytes()))
    assert np.array_equal(read_idx(path), values)


def test_a_shortened_majajhong_file_is_refused(monkeypatch, tmp_path):
    np.save(tmp_path / "data_subset.npy", np.ones((3, 168), dtype=np.float32))
    stimuli = pd.DataFrame({"variation": [6, 6], "category_name": ["Animals", "Boats"]})
    monkeypatch.setattr(
        "neurobridge.datasets.majajhong2015.fetch", lambda *a, **k: {"data_subset.npy": tmp_path / "data_subset.npy"}
    )
    monkeypatch.setattr("neurobridge.datasets.majajhong2015.hvm_stimuli", lambda **k: stimuli)
    with pytest.raises(AssemblyError, match=r"found responses of shape \(3, 168\); expected \(2, 168\).*Mend"):
        load("majajhong2015-it-v6")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda counts: counts[:, :2], r"found 3 images and responses to 2; expected as many.*Mend"),
        (
            lambda counts: np.where(np.arange(4)[:, None, None] == 0, np.nan, counts),
            r"missing for some neurons only; expected whole trials",
        ),
    ],
)
def test_an_inconsistent_cowley_file_is_refused(monkeypatch, tmp_path, spoil, message):
    np.save(tmp_path / "responses.npy", spoil(np.ones((4, 3, 5))))
    paths = {"responses_210325.npy": tmp_path / "responses.npy", "images_210325.zip": tmp_path / "none.zip"}
    monkeypatch.setattr("neurobridge.datasets.cowley2023.fetch", lambda *a, **k: paths)
    monkeypatch.setattr(
        "neurobridge.datasets.cowley2023._images", lambda path: (["a", "b", "c"], np.zeros((3, 8, 8, 3), np.uint8))
    )
    with pytest.raises(AssemblyError, match=message):
        load("cowley2023-v4-210325")


def test_pose_latents_do_not_break_at_half_a_turn():
    pose = {"ty": 0.1, "tz": 0.2, "s": 2.0, "rxz_semantic": 0.0, "ryz_semantic": 0.0}
    rows = [
        {"stimulus_id": f"s{k}", "object_name": "boat", "rxy_semantic": angle, **pose}
        for k, angle in enumerate((-179.999, 179.999))
    ]
    latents = validate(pose_latents(pd.DataFrame(rows), attrs={}))
    assert np.allclose(latents.values[0], latents.values[1], atol=1e-4)
    assert latents.sel(neuroid=latents["neuroid_id"].values == "log2(s)").values.ravel().tolist() == [1.0, 1.0]
