"""ImageNet from a folder of one's own: images and feature files, lazily, with names, and clear refusals."""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurobridge.assemblies import AssemblyError, make_assembly, save_assembly, validate
from neurobridge.datasets import FeatureFileError, load
from neurobridge.datasets.files import feature_files as feature_module
from neurobridge.datasets.loaders.imagenet import read_class_names
from tests.refusals import refused

CLASSES = {"n01440764": "tench, Tinca tinca", "n01443537": "goldfish, Carassius auratus"}


def draw(path, value, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, dtype=np.uint8)).save(path)


@pytest.fixture
def images(tmp_path):
    """Two classes of three images each, wide and tall."""
    for c, wnid in enumerate(CLASSES):
        for k in range(3):
            draw(tmp_path / wnid / f"{wnid}_{k}.JPEG", 40 * (3 * c + k), (40, 30) if k else (30, 50))
    return tmp_path


def test_images_are_scaled_cut_and_read_a_chunk_at_a_time(images):
    experiment = load("imagenet", folder=images, resize=16, size=12, chunk=4)
    assert experiment.kind == "stimuli"
    assert experiment.images.shape == (6, 12, 12, 3)
    assert experiment.images.chunks[0] == (4, 2)
    assert experiment.images.values[:, 6, 6, 0].tolist() == pytest.approx([0, 40, 80, 120, 160, 200], abs=3)
    assert experiment.stimuli["stimulus_id"].tolist()[:2] == ["n01440764_0", "n01440764_1"]
    assert experiment.stimuli["category_name"].tolist() == experiment.stimuli["wnid"].tolist()
    assert experiment.images["stimulus_id"].values.tolist() == experiment.stimuli["stimulus_id"].tolist()
    assert "citation" in experiment.images.attrs
    assert "ImageNet" in experiment.attrs["licence"]


def test_scaling_is_bilinear_on_the_shorter_side_and_the_cut_is_central(tmp_path):
    ramp = np.repeat(np.tile(np.arange(0, 200, 2, dtype=np.uint8), (50, 1))[:, :, None], 3, axis=2)
    (tmp_path / "n1").mkdir()
    Image.fromarray(ramp).save(tmp_path / "n1" / "a.png")
    pixels = load("imagenet", folder=tmp_path, resize=25, size=25).images.values[0]
    # 100 x 50 becomes 50 x 25; columns 12 to 37 of it, each twice as steep.
    assert np.allclose(np.diff(pixels[0, :, 0].astype(int)), 4)
    assert pixels[0, :, 0].mean() == pytest.approx(ramp[0, :, 0].mean(), abs=2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("LOC_synset_mapping.txt", "".join(f"{wnid} {text}\n" for wnid, text in CLASSES.items())),
        ("words.txt", "".join(f"{wnid}\t{text}\n" for wnid, text in CLASSES.items())),
        ("imagenet_class_index.json", json.dumps({str(k): list(pair) for k, pair in enumerate(CLASSES.items())})),
        ("mine.json", json.dumps(CLASSES)),
    ],
)
def test_class_names_are_read(images, tmp_path, name, text):
    (images / name).write_text(text)
    assert read_class_names(images / name) == CLASSES
    given = {"class_names": images / name} if name.startswith("mine") else {}
    experiment = load("imagenet", folder=images, resize=16, size=16, **given)
    assert experiment.images["category_name"].values[-1] == "goldfish, Carassius auratus"


def rows(n=3000, d=5):
    return np.arange(n * d, dtype=np.float32).reshape(n, d)


def ids(n=3000, start=0):
    return np.array([f"val_{k:05d}" for k in range(start, start + n)])


def wnids(n=3000):
    return np.array([list(CLASSES)[k % 2] for k in range(n)])


def write(folder, kind):
    if kind == ".npy":
        np.save(folder / "x.npy", rows())
        pd.DataFrame({"stimulus_id": ids(), "wnid": wnids()}).to_csv(folder / "x.csv", index=False)
    elif kind == ".npz":
        np.savez(folder / "x.npz", features=rows(), stimulus_id=ids(), wnid=wnids())
    elif kind == "compressed":
        np.savez_compressed(folder / "x.npz", features=rows(), stimulus_id=ids(), wnid=wnids())
    elif kind == "fortran":
        np.savez(folder / "x.npz", features=np.asfortranarray(rows()), stimulus_id=ids(), wnid=wnids())
    elif kind == ".nc":
        presentation = {"stimulus_id": ids(), "wnid": wnids()}
        save_assembly(
            make_assembly(rows(), presentation=presentation, neuroid={"neuroid_id": np.arange(5)}), folder / "x.nc"
        )
    elif kind == ".zarr":
        zarr = pytest.importorskip("zarr", minversion="3")
        group = zarr.open_group(str(folder / "x.zarr"), mode="w", zarr_format=2)
        group.create_array("features", data=rows(), chunks=(1000, 5))
        group.create_array("stimulus_id", data=ids())
        group.create_array("wnid", data=wnids())


@pytest.mark.parametrize("kind", [".npy", ".npz", "compressed", "fortran", ".nc", ".zarr"])
def test_features_are_labelled_and_lazy(tmp_path, kind):
    write(tmp_path, kind)
    (tmp_path / "words.txt").write_text("".join(f"{wnid}\t{text}\n" for wnid, text in CLASSES.items()))
    experiment = load("imagenet", folder=tmp_path)
    activations = experiment.activations
    assert activations.chunks is not None
    assert max(activations.chunks[0]) <= (3000 if kind == "compressed" else 1024)
    assert validate(activations).shape == (3000, 5)
    assert np.array_equal(activations.values, rows())
    assert activations.isel(presentation=-1).values.tolist() == rows()[-1].tolist()
    assert activations["stimulus_id"].values.tolist() == ids().tolist()
    assert activations["category_name"].values[1] == CLASSES["n01443537"]
    assert experiment.images is None


def test_shards_are_joined(tmp_path):
    for k in range(3):
        np.savez(tmp_path / f"part{k}.npz", features=rows(100) + k, stimulus_id=ids(100, 100 * k))
    experiment = load("imagenet", folder=tmp_path)
    assert experiment.activations.shape == (300, 5)
    assert experiment.stimuli["file"].tolist()[::100] == ["part0.npz", "part1.npz", "part2.npz"]
    assert experiment.activations.values[200].tolist() == (rows(1)[0] + 2).tolist()


def anonymous_bytes():
    """Memory of this process that is not backed by a file."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
@pytest.mark.parametrize("kind", ["npy", pytest.param("npz", marks=pytest.mark.slow)])
def test_a_gigabyte_of_features_is_never_in_memory(tmp_path, kind):
    shape = (50_000, 5120)
    labels = np.array([f"i{k}" for k in range(shape[0])])
    values = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=shape)
    values[[0, 25_000, -1]] = 1.0
    values.flush()
    pd.DataFrame({"stimulus_id": labels}).to_csv(tmp_path / "x.csv", index=False)
    if kind == "npz":
        np.savez(tmp_path / "x.npz", features=values, stimulus_id=labels)
        (tmp_path / "x.npy").unlink()
    del values
    before = anonymous_bytes()
    activations = load("imagenet", folder=tmp_path, quiet=True).activations
    total, most = 0.0, 0
    for start in range(0, shape[0], 5120):
        total += float(activations.data[start : start + 5120].sum().compute())
        most = max(most, anonymous_bytes())
    assert total == 3 * 5120
    assert most - before < 3e8


@pytest.mark.parametrize(
    ("spoil", "facts"),
    [
        (lambda f: np.save(f / "y.npy", rows(3)), ["y.npy", "y.csv", "stimulus_id"]),
        (
            lambda f: (np.save(f / "y.npy", rows(3)), (f / "y.csv").write_text("id\n1\n")),
            ["y.csv", ["id"], "stimulus_id"],
        ),
        (
            lambda f: (np.save(f / "y.npy", rows(3)), (f / "y.csv").write_text("stimulus_id\n1\n")),
            ["y.npy", (3, 5), "1 stimulus ids"],
        ),
        (
            lambda f: (np.save(f / "y.npy", np.array([{}])), (f / "y.csv").write_text("stimulus_id\n1\n")),
            ["y.npy", "objects"],
        ),
        (lambda f: np.savez(f / "y.npz", data=rows(3)), ["y.npz", ["data"], "'features'"]),
        (lambda f: (f / "y.npz").write_bytes(b"no zip"), ["y.npz"]),
        (lambda f: np.savez(f / "y.npz", features=rows(3), stimulus_id=np.array([{}])), ["y.npz", "stimulus_id"]),
        (lambda f: np.savez(f / "y.npz", features=rows(3)[:, 0], stimulus_id=ids(3)), ["y.npz", (3,)]),
        (lambda f: np.savez(f / "y.npz", features=rows(3, 6), stimulus_id=ids(3)), [[5, 6]]),
    ],
)
def test_bad_feature_files_are_refused(tmp_path, spoil, facts):
    np.savez(tmp_path / "x.npz", features=rows(3), stimulus_id=ids(3, 10))
    spoil(tmp_path)
    with refused(FeatureFileError, *facts):
        load("imagenet", folder=tmp_path)


def test_python_objects_and_unknown_versions_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", features=np.array([[{}]]), stimulus_id=ids(1))
    with refused(FeatureFileError, "x.npz", "features"):
        load("imagenet", folder=tmp_path)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, rows(1), version=(3, 0))
    np.savez(tmp_path / "x.npz", stimulus_id=ids(1))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("features.npy", stream.getvalue())
    with refused(FeatureFileError, "x.npz", (3, 0), [(1, 0), (2, 0)]):
        load("imagenet", folder=tmp_path)


@pytest.mark.parametrize("n_bins", [1, 2])
def test_an_assembly_with_one_time_bin_is_read_and_one_with_more_is_refused(tmp_path, n_bins):
    values = np.repeat(rows(7)[:, :, None], n_bins, axis=2)
    bins = {"time_bin_start": np.arange(n_bins), "time_bin_end": np.arange(n_bins) + 1}
    assembly = make_assembly(
        values, presentation={"stimulus_id": ids(7)}, neuroid={"neuroid_id": np.arange(5)}, time_bin=bins
    )
    save_assembly(assembly, tmp_path / "x.nc")
    if n_bins == 1:
        assert np.array_equal(load("imagenet", folder=tmp_path).activations.values, rows(7))
    else:
        with refused(AssemblyError, "x.nc", "2 time bins"):
            load("imagenet", folder=tmp_path)


def test_a_large_compressed_file_is_refused(tmp_path, monkeypatch):
    write(tmp_path, "compressed")
    monkeypatch.setattr(feature_module, "LIMIT_BYTES", 1000)
    with refused(FeatureFileError, ".npz", "GiB", "np.savez"):
        load("imagenet", folder=tmp_path)


def test_zarr_says_which_extra_is_missing(tmp_path, monkeypatch):
    (tmp_path / "x.zarr").mkdir()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with refused(ImportError, "x.zarr", "pip install 'neurobridge[zarr]'"):
        load("imagenet", folder=tmp_path)


def test_a_zarr_group_without_its_arrays_is_refused(tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=2).create_array("other", data=rows(3))
    with refused(FeatureFileError, ["other"], "'features'"):
        load("imagenet", folder=tmp_path)


def test_the_folder_may_lie_in_a_mirror(images, tmp_path, monkeypatch):
    monkeypatch.delenv("NEUROBRIDGE_MIRROR", raising=False)
    with refused(FileNotFoundError, "imagenet", "folder="):
        load("imagenet")
    with refused(FileNotFoundError, tmp_path / "imagenet", "folder="):
        load("imagenet", mirror=tmp_path)
    os.symlink(images, tmp_path / "imagenet")
    assert len(load("imagenet", mirror=tmp_path).stimuli) == 6


def test_ambiguous_empty_and_impossible_requests_are_refused(images, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with refused(FileNotFoundError, empty, "feature files"):
        load("imagenet", folder=empty)
    with refused(FileNotFoundError, images, "features"):
        load("imagenet", folder=images, read="features")
    with refused(ValueError, "resize=10", "size=12", "chunk=64"):
        load("imagenet", folder=images, resize=10, size=12)
    np.savez(images / "x.npz", features=rows(3), stimulus_id=ids(3))
    with refused(ValueError, images, "read='images'", "read='features'"):
        load("imagenet", folder=images)
    assert load("imagenet", folder=images, read="images").images is not None
    assert load("imagenet", folder=images, read="features").activations.shape == (3, 5)


def test_broken_images_tables_and_ids_are_refused(images, tmp_path):
    (images / "n01440764" / "n01440764_1.JPEG").write_bytes(b"not an image")
    with refused(ValueError, "n01440764_1.JPEG"):
        load("imagenet", folder=images).images.compute()
    table = tmp_path / "names.txt"
    table.write_text("only-one-word\n")
    with refused(ValueError, table, "LOC_synset"):
        load("imagenet", folder=images, class_names=table)
    draw(images / "n01443537" / "n01440764_0.JPEG", 3)
    with refused(ValueError, "1 stimulus ids", "'n01440764_0'"):
        load("imagenet", folder=images)
