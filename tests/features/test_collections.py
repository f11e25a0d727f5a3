"""Stimuli without a finished table: a folder, a glob, a zip, a csv of trials, a StimulusSet, a list, plain pixels."""

from __future__ import annotations

import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from PIL import Image

import neurobridge as nb
from neurobridge.assemblies import AssemblyError
from neurobridge.features.loading import ModelError
from tests.refusals import refused, warned

MODEL = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
NAMES = ["a.png", "b.png", "c.JPG", "d.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stimuli") / "shown"
    folder.mkdir()
    for k, name in enumerate(NAMES):
        Image.fromarray(np.full((6, 6, 3), 40 * k, np.uint8)).save(folder / name)
    (folder / "readme.txt").write_text("no image")
    (folder / "more").mkdir()
    Image.fromarray(np.full((6, 6, 3), 200, np.uint8)).save(folder / "more" / "e.png")
    with zipfile.ZipFile(folder.parent / "shown.zip", "w") as archive:
        for name in NAMES:
            archive.write(folder / name, f"shown/{name}")
    return folder


def ids(stimuli, **options):
    return nb.extract(MODEL, stimuli, "1", **options)["stimulus_id"].values.tolist()


def test_a_folder_a_glob_a_zip_and_a_list_have_the_names_of_their_files_as_ids(folder):
    expected = nb.extract(MODEL, pd.DataFrame({"stimulus_id": NAMES, "file": NAMES}), "1", root=folder)
    for stimuli in (
        folder,
        str(folder),
        str(folder / "*"),
        folder.parent / "shown.zip",
        [folder / name for name in NAMES],
    ):
        activations = nb.extract(MODEL, stimuli, "1")
        assert activations["stimulus_id"].values.tolist() == NAMES
        np.testing.assert_array_equal(activations.values, expected.values)
    assert ids(str(folder / "**" / "*.png")) == ["a.png", "b.png", "d.png", "e.png"]


@pytest.mark.parametrize("with_extension", [True, False])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_table_of_trials_names_images_with_or_without_extension(folder, tmp_path, with_extension, kind):
    names = NAMES if with_extension else [name.partition(".")[0] for name in NAMES]
    trials = pd.DataFrame({"trial": range(8), "image_name": names * 2, "category": list("xyzw") * 2})
    trials.to_csv(tmp_path / "trials.csv", index=False)
    root = folder if kind == "folder" else folder.parent / "shown.zip"
    for stimuli in (tmp_path / "trials.csv", trials):
        if with_extension:
            activations = nb.extract(MODEL, stimuli, "1", root=root)
        else:
            with warned(UserWarning, "joined 4 ids", "'a'", "a.png"):
                activations = nb.extract(MODEL, stimuli, "1", root=root)
        assert activations["stimulus_id"].values.tolist() == names
        assert activations["category"].values.tolist() == list("xyzw")
        assert "trial" not in activations.coords
        np.testing.assert_array_equal(activations.values, nb.extract(MODEL, folder, "1").values)


def test_activations_of_a_folder_join_recordings_with_or_without_extension(folder):
    model = nb.extract(MODEL, folder, "1")
    for names in (NAMES[::-1], [name.partition(".")[0] for name in NAMES[::-1]]):
        recordings = nb.read_recordings(np.arange(12.0).reshape(4, 3), trials=names)
        if names[0] == "d.png":
            matched = nb.match_stimuli(model, recordings)
        else:
            with warned(UserWarning, "joined 4 ids"):
                matched = nb.match_stimuli(model, recordings)
        np.testing.assert_array_equal(matched.target.values, recordings.values[::-1])


class StimulusSet(pd.DataFrame):
    """What Brain-Score's class gives: a table, and the path of each stimulus."""

    _metadata = ("stimulus_paths",)


def test_a_stimulus_set_knows_its_files(folder):
    stimuli = StimulusSet({"stimulus_id": ["s3", "s1"], "object_name": ["cat", "dog"], "filename": ["gone", "gone"]})
    stimuli.stimulus_paths = {"s1": str(folder / "a.png"), "s3": str(folder / "c.JPG"), "s9": "unused"}
    activations = nb.extract(MODEL, stimuli, "1")
    assert activations["stimulus_id"].values.tolist() == ["s3", "s1"]
    assert activations["object_name"].values.tolist() == ["cat", "dog"]
    np.testing.assert_array_equal(activations.values, nb.extract(MODEL, folder, "1").values[[2, 0]])
    stimuli.stimulus_paths = {"s1": str(folder / "a.png")}
    with refused(AssemblyError, "1 of 2", "'s3'"):
        nb.extract(MODEL, stimuli, "1")


def test_plain_pixels_have_the_numbers_of_their_rows_as_ids(folder):
    pixels = np.stack([np.asarray(Image.open(folder / name)) for name in NAMES])
    activations = nb.extract(MODEL, pixels, "1")
    assert activations["stimulus_id"].values.tolist() == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(activations.values, nb.extract(MODEL, folder, "1").values)
    labelled = xr.DataArray(
        pixels, dims=("presentation", "row", "column", "channel"), coords={"stimulus_id": ("presentation", NAMES)}
    )
    assert ids(labelled) == NAMES


def test_what_holds_no_images_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with refused(AssemblyError, "empty", "**"):
        ids(tmp_path / "empty")
    with refused(AssemblyError, "*.bmp"):
        ids(str(folder / "*.bmp"))
    with pytest.raises(FileNotFoundError, match="Mend"):
        ids(tmp_path / "none")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "a.png").write_bytes((folder / "a.png").read_bytes())
    with refused(AssemblyError, "two files 'a.png'"):
        ids([folder / "a.png", tmp_path / "again" / "a.png"])
    with refused(AssemblyError, "2 of 3 ids", "'A.png'", "capital letters", "--root"):
        ids(pd.DataFrame({"image": ["A.png", "z.png", "b.png"]}), root=folder)
    with refused(AssemblyError, "(4, 4)"):
        ids(np.zeros((4, 4), np.uint8))


def test_the_reference_that_needs_no_training_has_a_name():
    assert isinstance(nb.load_model("gabor_energy").model, nb.features.GaborEnergy)
    with refused(ModelError, "'conv_net'", "trained"):
        nb.load_model("conv_net")
