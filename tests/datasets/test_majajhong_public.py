"""MajajHong2015.public, proven with SIMULATED files of the real layout: small in the default run, of the real size when slow."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from neurobridge.assemblies import AssemblyError, average_repetitions, validate
from neurobridge.datasets import ArchiveError, load
from neurobridge.datasets.files import manifests
from neurobridge.datasets.loaders.majajhong_public import read_stimuli
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[2]
BINS = ("time_bin_start", "time_bin_end")


@pytest.fixture
def files(script, tmp_path, monkeypatch):
    """Simulated files, 128 images and 448 trials, in a mirror; ``use()`` writes their manifest after any change."""
    benchmark = script("benchmarks/majajhong_public")
    folder = tmp_path / "mirror" / "majajhong2015.public"
    benchmark.make(folder, images_per_object={0: 1, 3: 1}, repetitions={0: 3, 3: 4}, side=16)
    monkeypatch.setattr(manifests, "manifest_folders", lambda: [tmp_path / "manifests"])

    def use():
        benchmark.write_manifest(folder, tmp_path / "manifests", "http://127.0.0.1:9")
        return tmp_path / "mirror"

    return folder, use


def test_trials_labels_and_images_belong_together(files):
    _, use = files
    experiment = load("majajhong2015.public", mirror=use())
    trials = validate(experiment.recordings)
    assert trials.shape == (448, 256, 1)
    assert trials.dtype == np.float32
    assert trials.dims == ("presentation", "neuroid", "time_bin")
    assert dict(zip(*np.unique(trials["region"].values, return_counts=True), strict=True)) == {"IT": 168, "V4": 88}
    assert set(trials["animal"].values) == {"Chabo", "Tito"}
    assert (trials["time_bin_start"].item(), trials["time_bin_end"].item()) == (70, 170)
    on_presentation = {name for name, coord in trials.coords.items() if coord.dims == ("presentation",)}
    assert {
        "stimulus_id",
        "image_id",
        "repetition",
        "object_name",
        "category_name",
        "variation",
        "s",
        "ty",
        "tz",
    } <= on_presentation
    assert {"rxy", "rxz", "ryz", "background_id", "size", "rxy_semantic"} <= on_presentation
    assert all(coord.dtype.kind in "iufU" for coord in trials.coords.values())
    table = experiment.stimuli.set_index("stimulus_id")
    assert (table.loc[trials["stimulus_id"].values, "object_name"].to_numpy() == trials["object_name"].values).all()
    assert average_repetitions(trials).shape == (128, 256, 1)
    assert experiment.images.shape == (128, 16, 16, 3)
    assert experiment.images["stimulus_id"].values.tolist() == experiment.stimuli["stimulus_id"].tolist()
    # The pixels are those of the file that the table names, not of the archive's order.
    assert experiment.images[5].values[0, 0, 0] == 5
    for part in (trials, experiment.images):
        assert part.attrs["citation"].strip().startswith("@article{majaj2015")
        assert part.attrs["kind"] == "recorded"
    assert trials.attrs["note"].startswith("SIMULATED")
    assert "private" in experiment.attrs["note"]


def test_lazy_recordings_are_the_same_and_images_can_be_left_out(files):
    folder, use = files
    mirror = use()
    eager = load("majajhong2015.public", mirror=mirror).recordings
    (folder / "stimulus_hvm-public.zip").unlink()
    experiment = load("majajhong2015.public", mirror=mirror, images=False, chunks={"presentation": 100})
    assert experiment.images is None
    assert experiment.recordings.chunks[0] == (100, 100, 100, 100, 48)
    xr.testing.assert_equal(experiment.recordings.compute(), eager)


def rewrite(path, change):
    with xr.open_dataset(path, engine="netcdf4") as opened:
        dataset = change(opened.load())
    path.unlink()
    # Older xarray would write the names of coordinates that are no longer there.
    for name in dataset.variables:
        dataset[name].encoding = {}
    dataset.encoding = {}
    dataset.to_netcdf(path, engine="netcdf4")


def test_labels_that_the_recordings_lack_come_from_the_table(files):
    folder, use = files
    eager = load("majajhong2015.public", mirror=use()).recordings
    bare = ["stimulus_id", "object_name", "category_name", "variation", "s", "ty", "background_id"]
    rewrite(folder / "assy_dicarlo_MajajHong2015_public.nc", lambda dataset: dataset.drop_vars(bare))
    again = load("majajhong2015.public", mirror=use()).recordings
    for name in bare:
        if eager[name].dtype.kind == "f":
            # Versions of pandas round the last digits of a number differently.
            assert np.allclose(again[name].values, eager[name].values, rtol=1e-10, atol=0)
        else:
            assert again[name].values.tolist() == eager[name].values.tolist()


def test_neuroids_first_is_the_same(files):
    folder, use = files
    eager = load("majajhong2015.public", mirror=use()).recordings
    path = folder / "assy_dicarlo_MajajHong2015_public.nc"
    rewrite(path, lambda dataset: dataset.transpose("neuroid", "presentation", "time_bin"))
    xr.testing.assert_equal(load("majajhong2015.public", mirror=use()).recordings, eager)


def test_grey_images_and_the_older_name_of_the_file_column(files, tmp_path):
    folder, use = files
    table = pd.read_csv(folder / "stimulus_hvm-public.csv").rename(columns={"filename": "image_file_name"})
    table.to_csv(folder / "stimulus_hvm-public.csv", index=False)
    Image.fromarray(np.zeros((16, 16), dtype=np.uint8)).save(tmp_path / "grey.png")
    with zipfile.ZipFile(folder / "stimulus_hvm-public.zip", "w") as archive:
        for name in table["image_file_name"]:
            archive.write(tmp_path / "grey.png", name)
    images = load("majajhong2015.public", mirror=use()).images
    assert images.dims == ("presentation", "row", "column")
    assert images.shape == (128, 16, 16)


def test_files_that_do_not_belong_together_are_refused(files):
    folder, use = files
    path = folder / "stimulus_hvm-public.csv"
    table = pd.read_csv(path, index_col=0)
    table.iloc[1:].to_csv(path)
    with refused(AssemblyError, "1 stimuli", "stimulus_hvm-public.csv"):
        load("majajhong2015.public", mirror=use())
    table.drop(columns="filename").to_csv(path)
    with refused(AssemblyError, ["filename", "image_file_name"], "images=False"):
        load("majajhong2015.public", mirror=use())
    table.assign(filename="elsewhere.png").to_csv(path)
    with refused(ArchiveError, ["elsewhere.png"]):
        load("majajhong2015.public", mirror=use())


@pytest.mark.parametrize("table", ["a,b\n1,2\n", "stimulus_id\nx\nx\n"])
def test_a_table_without_ids_is_refused(tmp_path, table):
    (tmp_path / "t.csv").write_text(table)
    with refused(AssemblyError, "t.csv", "stimulus_id"):
        read_stimuli(tmp_path / "t.csv")


@pytest.mark.slow
def test_the_real_size_is_fetched_and_loaded_within_a_gigabyte(script, tmp_path):
    rows = script("benchmarks/majajhong_public").run(tmp_path)
    sys.stdout.write(json.dumps(rows, indent=1))
    assert rows["load"]["shape"] == rows["lazy"]["shape"] == [148_480, 256, 1]
    assert rows["load"]["images"] == [3200, 256, 256, 3]
    assert rows["load"]["peak_rss_gb"] <= 1.0
    assert rows["lazy"]["peak_rss_gb"] <= 1.0
    assert rows["load"]["seconds"] <= 10
    shutil.rmtree(tmp_path / "files")


def test_time_bins_share_table_and_images_with_the_public_set(files, tmp_path):
    """SIMULATED: the trials of the stand-in, repeated in three time bins."""
    folder, use = files
    use()
    averaged = folder / "assy_dicarlo_MajajHong2015_public.nc"
    name = "assy_dicarlo_MajajHong2015_temporal_public.nc"
    other = tmp_path / "mirror" / "majajhong2015.temporal.public" / name
    other.parent.mkdir()
    with xr.open_dataset(averaged, engine="netcdf4") as opened:
        single = opened.load()
    bins = [single.assign_coords({k: ("time_bin", [single[k].item() + 20 * n]) for k in BINS}) for n in range(3)]
    whole = xr.concat(bins, dim="time_bin", data_vars="all", coords="minimal", compat="override", join="override")
    for variable in whole.variables:
        whole[variable].encoding = {}
    whole.to_netcdf(other, engine="netcdf4")
    text = (ROOT / "data_manifests" / "majajhong2015.temporal.public.toml").read_text()
    digest = hashlib.sha1(other.read_bytes()).hexdigest()
    (tmp_path / "manifests" / "majajhong2015.temporal.public.toml").write_text(
        text.replace("093ac35b3e8464c676d24cf38238415d4d6a9448", digest)
    )
    experiment = load("majajhong2015.temporal.public", mirror=tmp_path / "mirror")
    trials = validate(experiment.recordings)
    assert trials.shape == (448, 256, 3)
    assert trials.chunks is not None
    assert trials["time_bin_start"].values.tolist() == [70, 90, 110]
    assert experiment.images.shape == (128, 16, 16, 3)
    public = load("majajhong2015.public", mirror=tmp_path / "mirror").recordings
    assert np.array_equal(trials.isel(time_bin=1).values, public.isel(time_bin=0).values)
    assert trials["object_name"].values.tolist() == public["object_name"].values.tolist()
    assert set(experiment.attrs["digests"]) == {name, "stimulus_hvm-public.csv", "stimulus_hvm-public.zip"}
    (folder / "stimulus_hvm-public.zip").unlink()
    assert load("majajhong2015.temporal.public", mirror=tmp_path / "mirror", images=False).images is None
