"""The road from loose files: responses, a table and a folder of jpg images of the V4 session give what the loader gives."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import neurobridge as nb
from neurobridge.cli.app import app
from neurobridge.store.archives import Archive
from tests.refusals import warned

pytestmark = pytest.mark.realdata
SESSION = "cowley2023-v4-210325"


@pytest.fixture(scope="module")
def loose(mirror, tmp_path_factory):
    """Files as a laboratory has them: npy, csv, a folder of images; the names in the csv have no extension."""
    folder = tmp_path_factory.mktemp("loose")
    if not (mirror / SESSION).is_dir():
        pytest.skip(f"real data: the mirror has no {SESSION}")
    shutil.copy(mirror / SESSION / "responses_210325.npy", folder / "responses.npy")
    with Archive(mirror / SESSION / "images_210325.zip") as archive:
        (folder / "images").mkdir()
        names = [name for name in archive.names if name.endswith(".jpg")]
        for name in names:
            (folder / "images" / name.rpartition("/")[2]).write_bytes(archive.read(name))
    stems = [name.rpartition("/")[2].removesuffix(".jpg") for name in names]
    pd.DataFrame({"image_name": stems}).to_csv(folder / "trials.csv", index=False)
    return folder


def test_loose_files_give_what_the_loader_gives(loose, mirror):
    recordings = nb.read_recordings(
        loose / "responses.npy",
        trials=loose / "trials.csv",
        columns={"stimulus_id": "image_name"},
        dims="neuroid,image,repetition",
        session="210325",
    )
    expected = nb.load(SESSION, mirror=mirror).recordings
    np.testing.assert_array_equal(recordings.values, expected.values)
    for name in ("repetition", "session"):
        assert recordings[name].values.tolist() == expected[name].values.tolist()
    ids = [f"210325-{name}" for name in recordings["stimulus_id"].values.tolist()]
    assert ids == expected["stimulus_id"].values.tolist()
    assert recordings["neuroid_id"].values[:2].tolist() == ["210325-site-00", "210325-site-01"]
    # 24 % of the places in the file are padding.
    assert any("1560 of 6400 presentations" in line for line in recordings.attrs["left_out"])


def test_the_command_line_walks_from_loose_files_to_matched_spaces(loose, monkeypatch):
    monkeypatch.chdir(loose)
    commands = [
        "import responses.npy --trials trials.csv --map stimulus_id=image_name --dims neuroid,image,repetition --out rec.nc",
        "features extract --model gabor_energy --stimuli images/image000*.jpg --layer v1 --out model.nc",
    ]
    for command in commands:
        result = CliRunner().invoke(app, command.split())
        assert result.exit_code == 0, (result.output, result.exception)
    recordings = nb.average_repetitions(nb.open_assembly("rec.nc"))
    with warned(UserWarning, "joined 9 ids", "image0001.jpg"):
        matched = nb.match_stimuli(nb.open_assembly("model.nc"), recordings)
    assert (matched.source.shape, matched.target.shape) == ((9, 384), (9, 50))
