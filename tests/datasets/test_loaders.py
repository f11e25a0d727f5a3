"""The loaders, on real files where a mirror is present, and on broken ones everywhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import xarray as xr
from PIL import Image

from neurobridge.assemblies import (
    AssemblyError,
    average_repetitions,
    match_stimuli,
    open_assembly,
    save_assembly,
    validate,
)
from neurobridge.datasets import LOADERS, Experiment, UnknownDatasetError, fetch, load
from neurobridge.datasets.loaders import hvm as hvm_module
from neurobridge.datasets.loaders import kriegeskorte2008 as kriegeskorte_module
from neurobridge.datasets.loaders.hvm import hvm_stimuli, pose_latents
from neurobridge.datasets.loaders.mnist import read_idx
from neurobridge.evaluate import internal_consistency
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[2]


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
@pytest.mark.parametrize(
    "name",
    [
        "cifar10",
        "clip-class-text",
        "clip-flickr8k",
        "cowley2023-v4-210325",
        "fsdd",
        "hvm-metadata",
        "imagenet-sample",
        "kriegeskorte2008",
        "majajhong2015-it-v6",
        "mnist",
        "things-similarity",
    ],
)
def test_every_part_carries_its_citation_and_digests(mirror, name):
    experiment = load(name, mirror=mirror, quiet=True)
    assert experiment.name == name
    assert experiment.attrs["citation"].strip().startswith("@")
    parts = [getattr(experiment, part) for part in ("recordings", "images", "sounds", "latents", "activations", "rdms")]
    for part in (part for part in parts if part is not None):
        assert part.attrs["citation"] == experiment.attrs["citation"]
        assert part.attrs["kind"] == experiment.kind
        assert set(part.attrs["digests"].items()) <= set(experiment.attrs["digests"].items())
    assert experiment.stimuli.attrs["citation"] == experiment.attrs["citation"]
    assert experiment.stimuli["stimulus_id"].is_unique


@pytest.mark.realdata
def test_hvm_summaries_fit_the_table(mirror):
    experiment = load("hvm-metadata", mirror=mirror, split=True, similarity=True)
    counts = experiment.stimuli.groupby(["split", "variation"]).size().to_dict()
    assert counts == {("train", 0): 516, ("train", 3): 2044, ("test", 0): 124, ("test", 3): 516, ("", 6): 2560}
    assert experiment.rdms.shape == (1, 64, 64)
    assert (
        experiment.rdms["object_name"].values[:2].tolist() == sorted(set(experiment.rdms["object_name"].values[:8]))[:2]
    )
    # Objects of one category are more alike than those of two.
    category = experiment.rdms["category_name"].values
    same = category[:, None] == category
    values = experiment.rdms.values[0]
    assert values[same & ~np.eye(64, dtype=bool)].mean() < values[~same].mean() - 0.1


@pytest.mark.realdata
def test_kriegeskorte_group_matrix_is_the_average_of_its_subjects(mirror):
    experiment = load("kriegeskorte2008", mirror=mirror)
    rdms = experiment.rdms
    assert experiment.images.shape == (92, 175, 175, 3)
    assert experiment.images.dtype == np.uint8
    assert rdms.shape == (10, 92, 92)
    assert np.array_equal(rdms.values, rdms.values.transpose(0, 2, 1))
    assert (np.diagonal(rdms.values, axis1=1, axis2=2) == 0).all()
    assert dict(zip(*np.unique(rdms["species"].values, return_counts=True), strict=True)) == {"human": 9, "monkey": 1}
    session = rdms["session"].values
    assert sorted(set(rdms["subject"].values[session > 0])) == ["BE", "KO", "SN", "TI"]
    # Published separately: the order of images is the same in both files.
    average = rdms.values[session > 0].mean(axis=0)
    published = rdms.values[1]
    assert np.abs(average - published).max() < 1e-6
    shifted = np.roll(average, 1, axis=(0, 1))
    assert np.abs(shifted - published).max() > 0.1
    stimuli = experiment.stimuli
    assert stimuli["category_name"].nunique() == 6
    assert (stimuli["animate"] != stimuli["inanimate"]).all()
    assert stimuli["animate"].sum() == 48
    # The category vectors fit the categories, and both fit the order of the matrices: animates are alike.
    assert stimuli.loc[stimuli["category_name"].str.contains("face"), "face"].all()
    animate = stimuli["animate"].to_numpy()
    monkey = rdms.values[0]
    assert monkey[np.ix_(animate, animate)].mean() < monkey[np.ix_(animate, ~animate)].mean()


@pytest.mark.realdata
def test_clip_embeddings_and_captions_are_in_one_space(mirror):
    flickr = load("clip-flickr8k", mirror=mirror)
    classes = load("clip-class-text", mirror=mirror)
    assert flickr.activations.shape == (1000, 512)
    assert classes.activations.shape == (1203, 512)
    assert flickr.activations.dtype == classes.activations.dtype == np.float32
    assert np.allclose(np.linalg.norm(flickr.activations.values, axis=1), 1, atol=2e-3)
    assert flickr.activations["caption"].values[0].startswith("A black dog is running after a white dog")
    # Rows are where they should be: the text "dog" is nearer to images whose caption says dog.
    dog = classes.activations.values[classes.stimuli["category_name"].tolist().index("dog")]
    similarity = flickr.activations.values @ (dog / np.linalg.norm(dog))
    says = flickr.stimuli["caption"].str.contains(r"\bdogs?\b", case=False).to_numpy()
    assert says.sum() > 100
    above = similarity[says][:, None] > similarity[~says]
    assert above.mean() > 0.95
    shifted = np.roll(similarity, 1)
    assert (shifted[says][:, None] > shifted[~says]).mean() < 0.6
    assert classes.stimuli["stimulus_id"].iloc[-1] == "lvis-1203"


@pytest.mark.realdata
def test_clip_assemblies_can_be_saved(mirror, tmp_path):
    activations = load("clip-flickr8k", mirror=mirror).activations
    xr.testing.assert_identical(open_assembly(save_assembly(activations, tmp_path / "clip.nc")), activations)


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
    assert set(trials["session"].values) == {"210325"}
    assert set(trials["animal"].values) == {"PE"}
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
    with refused(ValueError, "'validation'", ["test", "train"]):
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
    with refused(AssemblyError, path, f"{len(data)} bytes"):
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
        "neurobridge.datasets.loaders.majajhong2015.fetch",
        lambda *a, **k: {"data_subset.npy": tmp_path / "data_subset.npy"},
    )
    monkeypatch.setattr("neurobridge.datasets.loaders.majajhong2015.hvm_stimuli", lambda **k: stimuli)
    with refused(AssemblyError, (3, 168), (2, 168)):
        load("majajhong2015-it-v6")


def jpegs(path, n=3, names="image{:04d}.jpg"):
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(n):
            stream = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), 20 * k, dtype=np.uint8)).save(stream, format="JPEG")
            archive.writestr(names.format(k + 1), stream.getvalue())


@pytest.fixture
def sister_session(tmp_path, monkeypatch):
    """A made-up session 990101, supplied by its user: two files in a mirror, and their manifest in a folder."""

    def make(counts, n_images=3, session="990101"):
        folder = tmp_path / "mirror" / f"cowley2023-v4-{session}"
        folder.mkdir(parents=True)
        np.save(folder / f"responses_{session}.npy", counts)
        jpegs(folder / f"images_{session}.zip", n_images)
        manifests = tmp_path / "manifests"
        manifests.mkdir(exist_ok=True)
        text = (ROOT / "data_manifests" / "cowley2023-v4-210325.toml").read_text().partition("[[files]]")[0]
        text = text.replace("210325", session)
        for path in sorted(folder.iterdir()):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            text += f'[[files]]\nname = "{path.name}"\norigin = "mine"\nsize = {path.stat().st_size}\n'
            text += f'digests = ["sha256:{digest}"]\n'
        (manifests / f"cowley2023-v4-{session}.toml").write_text(text)
        monkeypatch.setenv("NEUROBRIDGE_MANIFESTS", str(manifests))
        return tmp_path / "mirror"

    return make


def test_a_sister_session_needs_only_a_manifest(sister_session):
    counts = np.arange(60, dtype=float).reshape(4, 3, 5)
    counts[:, 1, 3:] = np.nan
    experiment = load("cowley2023-v4-990101", mirror=sister_session(counts))
    assert experiment.name == "cowley2023-v4-990101"
    assert experiment.recordings.shape == (13, 4)
    assert experiment.images.shape == (3, 8, 8, 3)
    assert experiment.stimuli["n_repetitions"].tolist() == [5, 3, 5]
    assert set(experiment.attrs["digests"]) == {"responses_990101.npy", "images_990101.zip"}


def test_sister_sessions_share_neither_images_nor_neurons(sister_session):
    counts = np.random.default_rng(0).poisson(5, size=(4, 3, 5)).astype(float)
    sessions = ("990101", "190925", "211022")
    mirrors = [sister_session(counts, session=session) for session in sessions]
    experiments = [load(f"cowley2023-v4-{name}", mirror=path) for name, path in zip(sessions, mirrors, strict=True)]
    averaged = [average_repetitions(experiment.recordings) for experiment in experiments]
    with pytest.raises(AssemblyError, match=r"no stimulus_id shared.*'990101-image0001'.*'190925-image0001'"):
        match_stimuli(averaged[0], averaged[1])
    ids = [set(recordings["neuroid_id"].values) for recordings in averaged]
    assert ids[0].isdisjoint(ids[1])
    assert [set(recordings["session"].values) for recordings in averaged] == [{name} for name in sessions]
    # A made-up day, and two of the table that the authors give beside their files.
    assert [set(recordings["animal"].values) for recordings in averaged] == [{""}, {"WE"}, {"RA"}]
    for experiment in experiments:
        shown = set(experiment.recordings["stimulus_id"].values)
        assert shown == set(experiment.images["stimulus_id"].values) == set(experiment.stimuli["stimulus_id"])
    assert len(match_stimuli(averaged[0], averaged[0]).source) == 3


def test_a_session_without_a_manifest_is_unknown():
    with refused(UnknownDatasetError, "'cowley2023-v4-990101'", "'cowley2023-v4-210325'"):
        load("cowley2023-v4-990101")


@pytest.mark.parametrize(
    ("spoil", "facts"),
    [
        (lambda counts: counts[:, :2], ["3 images", "responses to 2"]),
        (lambda counts: np.where(np.arange(4)[:, None, None] == 0, np.nan, counts), ["trials", "some neurons"]),
    ],
)
def test_an_inconsistent_session_is_refused(sister_session, spoil, facts):
    mirror = sister_session(spoil(np.ones((4, 3, 5))))
    with refused(AssemblyError, "cowley2023-v4-990101", *facts):
        load("cowley2023-v4-990101", mirror=mirror)


def test_inconsistent_hvm_summaries_are_refused(monkeypatch, tmp_path):
    stimuli = pd.DataFrame({"stimulus_id": ["a", "b"], "category_name": ["C", "C"], "object_name": ["x", "y"]})
    (tmp_path / "train").write_text("a\nelsewhere\n")
    (tmp_path / "test").write_text("b\n")
    np.save(tmp_path / "similarity.npy", np.ones((3, 3)))
    paths = {"public_train_image_ids.txt": tmp_path / "train", "public_test_image_ids.txt": tmp_path / "test"}
    paths["it_object_similarity.npy"] = tmp_path / "similarity.npy"
    monkeypatch.setattr(hvm_module, "fetch", lambda *a, **k: paths)
    monkeypatch.setattr(hvm_module, "hvm_stimuli", lambda **k: stimuli)
    with refused(AssemblyError, "public_train_image_ids.txt"):
        load("hvm-metadata", split=True)
    with refused(AssemblyError, (3, 3), (2, 2)):
        load("hvm-metadata", similarity=True)


def test_broken_kriegeskorte_files_are_refused(monkeypatch, tmp_path):
    path = tmp_path / "x.mat"
    path.write_bytes(b"not matlab at all" * 20)
    monkeypatch.setattr(
        kriegeskorte_module,
        "fetch",
        lambda *a, **k: dict.fromkeys([kriegeskorte_module.SUPPLEMENT, kriegeskorte_module.SUBJECTS], path),
    )
    with refused(AssemblyError, path):
        load("kriegeskorte2008")
    scipy.io.savemat(path, {"other": 1})
    with refused(AssemblyError, path, "stimuli_92objs"):
        load("kriegeskorte2008")
    record = {"name": "hIT | BE | Session: 1", "RDM": np.zeros((3, 3))}
    with refused(AssemblyError, "'hIT | BE | Session: 1'", (3, 3), 92):
        kriegeskorte_module._rdms([record], np.arange(92))


def test_broken_clip_files_are_refused(monkeypatch, tmp_path):
    np.save(tmp_path / "v.npy", np.ones((2, 4), dtype=np.float16))
    (tmp_path / "c.json").write_text('["one caption"]')
    (tmp_path / "i.json").write_text('[{"id": 7, "name": "x"}]')
    paths = {"clip_embeddings.npy": tmp_path / "v.npy", "captions.json": tmp_path / "c.json"}
    paths["lvis_v1_train_cat_info.json"] = tmp_path / "i.json"
    monkeypatch.setattr("neurobridge.datasets.loaders.clip.fetch", lambda *a, **k: paths)
    with refused(AssemblyError, (2, 4), "1 labels"):
        load("clip-flickr8k")
    with refused(AssemblyError, "1 to 1"):
        load("clip-class-text")


def test_the_citation_is_printed_once_and_quietly_not_at_all(monkeypatch, capsys):
    monkeypatch.setattr("neurobridge.datasets.labels._cited", set())
    made = Experiment("made", "recorded", pd.DataFrame(), attrs={"citation": "@misc{made}", "note": "Not a cake."})
    for name in ("made", "other"):
        monkeypatch.setitem(LOADERS, name, lambda **_: made)
    load("made", quiet=True)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("NEUROBRIDGE_QUIET", "1")
    load("made")
    assert capsys.readouterr() == ("", "")
    monkeypatch.delenv("NEUROBRIDGE_QUIET")
    load("made")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "made: Not a cake.\nPlease cite (NEUROBRIDGE_QUIET=1 hides this):\n@misc{made}\n"
    load("made")
    assert capsys.readouterr() == ("", "")
    load("other")
    assert "other: Not a cake." in capsys.readouterr().err


def test_pose_latents_do_not_break_at_half_a_turn():
    pose = {"ty": 0.1, "tz": 0.2, "s": 2.0, "rxz_semantic": 0.0, "ryz_semantic": 0.0}
    rows = [
        {"stimulus_id": f"s{k}", "object_name": "boat", "rxy_semantic": angle, **pose}
        for k, angle in enumerate((-179.999, 179.999))
    ]
    latents = validate(pose_latents(pd.DataFrame(rows), attrs={}))
    assert np.allclose(latents.values[0], latents.values[1], atol=1e-4)
    assert latents.sel(neuroid=latents["neuroid_id"].values == "log2(s)").values.ravel().tolist() == [1.0, 1.0]
