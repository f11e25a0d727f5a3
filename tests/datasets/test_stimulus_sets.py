"""Loaders of images, sounds and embeddings in archives: on real files where a mirror is present, on broken ones everywhere."""

from __future__ import annotations

import io
import pickle
import wave
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neurobridge.assemblies import AssemblyError, open_assembly, save_assembly
from neurobridge.datasets import ArchiveError, fetch, load
from neurobridge.datasets.files.archives import KeptArchive
from neurobridge.datasets.files.sounds import decode_wav, zip_sounds
from neurobridge.datasets.loaders import cifar10, fsdd, imagenet_sample, things_similarity
from neurobridge.datasets.loaders.things_similarity import read_categories
from tests.refusals import refused


def jpeg(value=0, size=(32, 32)):
    stream = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(stream, format="JPEG")
    return stream.getvalue()


def wav(samples=(1, -2, 3), rate=8000, channels=1, width=2):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, dtype=f"<i{width}").tobytes())
    return stream.getvalue()


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Write an archive and other files, and let a loader take them for those of its dataset."""

    def make(module, members, **others):
        with zipfile.ZipFile(tmp_path / "members.zip", "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        paths = dict.fromkeys(("images.zip", "recordings.zip"), tmp_path / "members.zip")
        for name, data in others.items():
            path = tmp_path / name.replace("__", ".")
            path.write_bytes(data)
            paths[path.name] = path
        monkeypatch.setattr(module, "fetch", lambda *a, **k: paths)

    return make


# -- things-similarity ------------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.parametrize("group", ["female", "male", "Group1", "Group2"])
def test_rows_of_things_are_those_of_the_table_of_categories(mirror, group):
    experiment = load("things-similarity", group=group, mirror=mirror)
    assert experiment.activations.shape == (1854, 90)
    assert set(experiment.activations["group"].values) == {group}
    assert experiment.stimuli["stimulus_id"].tolist()[::1853] == ["aardvark", "zucchini"]
    assert experiment.stimuli["category_name"].nunique() == 28
    values = experiment.activations.values.astype(np.float64)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    similarity = values @ values.T
    np.fill_diagonal(similarity, -1)
    nearest = similarity.argmax(axis=1)
    category = experiment.stimuli["category_name"].to_numpy()
    assert (category[nearest] == category).mean() > 0.55
    # The check has teeth: categories that are a row out of place are those of strangers.
    shifted = np.roll(category, 1)
    assert (shifted[nearest] == shifted).mean() < 0.15


@pytest.mark.realdata
def test_groups_of_things_share_their_rows(mirror, tmp_path):
    female, male = (load("things-similarity", group=group, mirror=mirror) for group in ("female", "male"))
    first, second = (np.corrcoef(each.activations.values) for each in (female, male))
    upper = np.triu_indices(len(first), 1)
    assert np.corrcoef(first[upper], second[upper])[0, 1] > 0.8
    shifted = np.roll(second, 1, axis=(0, 1))
    assert np.corrcoef(first[upper], shifted[upper])[0, 1] < 0.3
    assert set(female.attrs["digests"]) == {"female_embeddings.npy", "category_mat_manual_preprocessed.csv"}
    kept = open_assembly(save_assembly(female.activations, tmp_path / "things.nc"))
    assert kept["category_name"].values.tolist() == female.stimuli["category_name"].tolist()


def test_an_unknown_group_is_refused():
    with refused(ValueError, "'Group9'", "'Group4'"):
        load("things-similarity", group="Group9")


def npy(shape):
    stream = io.BytesIO()
    np.save(stream, np.zeros(shape, dtype=np.float32))
    return stream.getvalue()


def test_an_embedding_of_other_objects_is_refused(files):
    table = {"category_mat_manual_preprocessed__csv": b",animal,tool\nape,1,0\nsaw,0,1\n"}
    files(things_similarity, {}, **table, male_embeddings__npy=npy((1, 3, 4)))
    with refused(AssemblyError, "'male'", (1, 3, 4), "(1, 2,"):
        load("things-similarity", group="male")
    files(things_similarity, {}, **table, male_embeddings__npy=npy((1, 2, 4)))
    made = load("things-similarity", group="male").activations
    assert made["category_name"].values.tolist() == ["animal", "tool"]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (",animal,tool\nape,1,1\nsaw,0,1\n", ["1 of 2"]),
        (",animal,tool\nape,0,0\nsaw,0,0\n", ["2 of 2"]),
        (",animal,tool\nape,1,0\nape,0,1\n", ["1 different"]),
        (",animal,tool\nape,2,-1\n", ["1 of 1"]),
        (",animal,tool\nape,one,0\n", []),
        ("", []),
    ],
)
def test_a_table_without_one_category_each_is_refused(tmp_path, text, facts):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with refused(AssemblyError, path, *facts):
        read_categories(path)


# -- fsdd -------------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_spoken_digits_are_whole_and_split_as_published(mirror):
    experiment = load("fsdd", mirror=mirror)
    sounds, stimuli = experiment.sounds, experiment.stimuli
    assert sounds.shape == (3000, 18262)
    assert sounds.chunks is not None
    assert sounds.attrs["sampling_rate_hz"] == 8000
    counts = stimuli.groupby(["digit", "speaker"])["split"].value_counts().unique().tolist()
    assert sorted(counts) == [5, 45]
    assert stimuli.loc[stimuli["split"] == "test", "index"].unique().tolist() == [0, 1, 2, 3, 4]
    assert stimuli["speaker"].nunique() == 6
    row = stimuli["stimulus_id"].tolist().index("7_jackson_32")
    labels = {name: sounds[name].values[row] for name in ("category_name", "digit", "speaker", "index", "split")}
    assert labels == {"category_name": "7", "digit": 7, "speaker": "jackson", "index": 32, "split": "train"}
    with zipfile.ZipFile(fetch("fsdd", mirror=mirror)["recordings.zip"]) as archive:
        data = archive.read("recordings/7_jackson_32.wav")
    stored = np.frombuffer(data[44:], dtype="<i2")
    samples, n_samples = sounds[row].values, int(sounds["n_samples"][row])
    assert n_samples == len(stored)
    assert np.array_equal(samples[:n_samples], stored)
    assert not samples[n_samples:].any()


def recordings(n=7, **changed):
    members = {f"recordings/{k % 2}_eve_{k}.wav": wav(range(1, k + 2)) for k in range(n)}
    return {**members, **changed}


def test_parts_of_spoken_digits(files):
    files(fsdd, recordings(12))
    whole, test, train = (load("fsdd", part=part, chunk=2) for part in ("all", "test", "train"))
    assert whole.stimuli["stimulus_id"].tolist()[:3] == ["0_eve_0", "0_eve_2", "0_eve_4"]
    assert whole.stimuli["index"].tolist() == [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]
    assert test.stimuli["index"].tolist() == [0, 2, 4, 1, 3]
    assert sorted([*test.stimuli["file"], *train.stimuli["file"]]) == sorted(whole.stimuli["file"])
    assert test.sounds.values.tolist()[1] == [1, 2, 3, 0, 0]
    assert test.sounds["n_samples"].values.tolist() == [1, 3, 5, 2, 4]
    assert "sounds=(5, 5)" in repr(test)


def test_broken_archives_of_sounds_are_refused(files, tmp_path):
    files(fsdd, recordings(**{"recordings/eleven.wav": wav()}))
    with refused(AssemblyError, "7 recordings", "recordings/eleven.wav"):
        load("fsdd")
    files(fsdd, recordings(**{"recordings/3_eve_0.wav": b"RIFF"}))
    with refused(ArchiveError, "recordings/3_eve_0.wav"):
        load("fsdd")
    files(fsdd, recordings(**{"recordings/3_eve_0.wav": wav(rate=16000)}))
    with refused(ArchiveError, [8000, 16000]):
        load("fsdd")
    files(fsdd, {})
    with refused(AssemblyError, "0 recordings"):
        load("fsdd")
    (tmp_path / "members.zip").write_bytes(b"no zip")
    with refused(ArchiveError, tmp_path / "members.zip"):
        load("fsdd")
    with refused(ValueError, "'validation'", "'train'"):
        load("fsdd", part="validation")


@pytest.mark.parametrize(
    ("data", "facts"),
    [
        (wav(channels=2, samples=range(4)), ["2 channel(s) of 16 bits"]),
        (wav(width=1, samples=[]), ["8 bits", "0 samples"]),
        (wav(samples=[]), ["0 samples"]),
        (wav(samples=range(50))[:-10], ["50 samples"]),
        (b"", []),
    ],
)
def test_other_sounds_are_refused(data, facts):
    with refused(ArchiveError, "a.wav", *facts):
        decode_wav(data, "a.wav")


@settings(max_examples=30, deadline=None)
@given(samples=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50), rate=st.integers(1, 192_000))
def test_samples_come_as_they_were_written(samples, rate):
    values, stated = decode_wav(wav(samples, rate), "a.wav")
    assert values.dtype == np.int16
    assert (values.tolist(), stated) == (samples, rate)


def test_an_archive_stays_open_and_travels_as_its_path(tmp_path):
    path = tmp_path / "sounds.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.wav", wav([5, 6]))
    kept = KeptArchive(path)
    assert kept.open() is kept.open()
    again = pickle.loads(pickle.dumps(kept))
    assert again.open() is not kept.open()
    samples, lengths, rate = zip_sounds(again, ["a.wav", "a.wav"])
    assert (samples.compute().tolist(), lengths.tolist(), rate) == ([[5, 6], [5, 6]], [2, 2], 8000)
    with refused(ArchiveError, path, "no names"):
        zip_sounds(path, [])


# -- cifar10 ----------------------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_cifar_images_are_lazy_and_labelled_by_their_folders(mirror):
    experiment = load("cifar10", part="all", mirror=mirror)
    images, stimuli = experiment.images, experiment.stimuli
    assert images.shape == (60_000, 32, 32, 3)
    assert images.chunks is not None
    assert stimuli.groupby(["split", "category_name"]).size().value_counts().to_dict() == {5000: 10, 1000: 10}
    row = stimuli["stimulus_id"].tolist().index("train-frog-0123")
    assert [images[name].values[row] for name in ("category_name", "split")] == ["frog", "train"]
    with zipfile.ZipFile(fetch("cifar10", mirror=mirror)["images.zip"]) as archive:
        stored = Image.open(io.BytesIO(archive.read("train/frog/0123.jpg")))
    assert np.array_equal(images[row].values, np.asarray(stored))


def test_parts_of_cifar(files):
    members = {
        f"{part}/{name}/000{k}.jpg": jpeg(50 * k)
        for part in ("train", "test")
        for name in ("cat", "owl")
        for k in (0, 1)
    }
    files(cifar10, members)
    train, both = load("cifar10"), load("cifar10", part="all")
    assert train.stimuli["stimulus_id"].tolist() == [
        "train-cat-0000",
        "train-cat-0001",
        "train-owl-0000",
        "train-owl-0001",
    ]
    assert both.stimuli["split"].tolist() == ["test"] * 4 + ["train"] * 4
    assert [int(value) for value in train.images[:, 0, 0, 0]] == pytest.approx([0, 50, 0, 50], abs=3)
    assert train.images.attrs["identifier"] == "cifar10-train"


def test_broken_archives_of_cifar_are_refused(files):
    files(cifar10, {"train/cat/0000.jpg": jpeg(), "readme.txt": b"hello"})
    with refused(AssemblyError, "1 other members", "readme.txt"):
        load("cifar10")
    files(cifar10, {"train/cat/0000.jpg": jpeg()})
    with refused(AssemblyError, "0 images", "'test'"):
        load("cifar10", part="test")
    files(cifar10, {"train/cat/0000.jpg": jpeg(), "train/cat/0001.jpg": jpeg(size=(8, 8))})
    with refused(ArchiveError, (8, 8, 3), (32, 32, 3)):
        load("cifar10").images.compute()
    files(cifar10, {"train/cat/0000.jpg": b"no image"})
    with refused(ArchiveError, "train/cat/0000.jpg"):
        load("cifar10")
    with refused(ValueError, "'validation'", "'test'"):
        load("cifar10", part="validation")


# -- imagenet-sample --------------------------------------------------------------------------------------------------


@pytest.mark.realdata
def test_one_image_of_each_imagenet_class(mirror):
    experiment = load("imagenet-sample", mirror=mirror)
    assert experiment.images.shape == (1000, 256, 256, 3)
    assert experiment.stimuli["class_index"].tolist() == list(range(1000))
    assert experiment.images["category_name"].values[[0, 999]].tolist() == ["tench", "toilet tissue"]
    row = experiment.images[3].values
    with zipfile.ZipFile(fetch("imagenet-sample", mirror=mirror)["images.zip"]) as archive:
        stored = np.asarray(Image.open(io.BytesIO(archive.read("n01491361_tiger_shark.jpg"))))
    left = (stored.shape[1] - 256) // 2
    assert np.array_equal(row, stored[:, left : left + 256])


CLASSES = b"wnid,class_name,file\nn02,bee,b.jpg\nn01,ant,a.jpg\n"


def test_squares_are_cut_from_the_centre_of_images_of_any_size(files):
    files(imagenet_sample, {"a.jpg": jpeg(80, (300, 90)), "b.jpg": jpeg(40, (64, 128))}, classes__csv=CLASSES)
    experiment = load("imagenet-sample", resize=64, size=48)
    assert experiment.images.shape == (2, 48, 48, 3)
    assert experiment.stimuli["class_index"].tolist() == [1, 0]
    assert experiment.images.values[..., 0].mean(axis=(1, 2)) == pytest.approx([40, 80], abs=3)


def test_broken_imagenet_samples_are_refused(files):
    with refused(ValueError, "imagenet-sample", "resize=10", "size=12"):
        load("imagenet-sample", resize=10, size=12)
    files(imagenet_sample, {"a.jpg": jpeg()}, classes__csv=CLASSES)
    with refused(ArchiveError, "1 of 2", "b.jpg"):
        load("imagenet-sample")
    files(imagenet_sample, {"a.jpg": jpeg()}, classes__csv=b"wnid,file\nn01,a.jpg\n")
    with refused(AssemblyError, "classes.csv", "class_name"):
        load("imagenet-sample")
    files(imagenet_sample, {"a.jpg": jpeg()}, classes__csv=CLASSES.replace(b"n02", b"n01"))
    with refused(AssemblyError, "1 classes in 2 rows"):
        load("imagenet-sample")
