"""The road of a laboratory: from the files on its disk to the page that is sent, in Python and on the command line."""

from __future__ import annotations

import os
import re
import resource
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import neurobridge as nb
from neurobridge.aligners import RidgeAligner
from neurobridge.assemblies import missing_values
from neurobridge.cli.app import app

#: The page that walks the road; its commands and its Python are run here.
PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "own_recordings.md"
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
#: Command, as it is typed -> the lines that the page shows below it.
ROAD = {
    block.splitlines()[0].removeprefix("$ "): block.splitlines()[1:]
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
}
N_IMAGES, N_SITES = 120, 8


def test_the_page_walks_the_whole_road():
    assert list(ROAD) == [
        "neurobridge import responses.npy --trials trials.csv --map stimulus_id=image_name --out rec.nc",
        "neurobridge ceiling rec.nc --out ceiling.nc",
        "neurobridge average rec.nc --out avg.nc",
        "neurobridge features extract --model gabor_energy --stimuli FOLDER --layer v1 --out model.nc",
        "neurobridge align model.nc avg.nc --pairs 20 --out aligned.nc",
        "neurobridge curve model.nc avg.nc --pairs 10,20,40 --ceiling ceiling.nc --out curve/",
        "neurobridge report curve/",
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The simulated files that the page writes."""
    folder = tmp_path_factory.mktemp("road")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(PYTHON[0], str(PAGE), "exec"), {})
    return folder


def form(line: str) -> str:
    """A printed line without its numbers, whose last digits may differ between machines."""
    return re.sub(r"[\d.,]*\d", "#", line.strip())


def run(line: str, *more: str) -> str:
    result = CliRunner().invoke(app, [*shlex.split(line)[1:], *more])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_road_of_commands(files, monkeypatch):
    monkeypatch.chdir(files)
    printed = {}
    for line, shown in ROAD.items():
        # Five seeds of a search by cross-validation take a minute; the slow test below runs the command as it stands.
        more = ("--seeds", "1", "--methods", "ridge", "--n-permutations", "20") if " curve " in line else ()
        printed[shlex.split(line)[1]] = run(line, *more)
        sentences = {form(each) for each in printed[shlex.split(line)[1]].splitlines()}
        if not more:
            assert [each for each in shown if each != "[...]" and form(each) not in sentences] == []
    rec, avg, aligned = (nb.open_assembly(f"{name}.nc") for name in ("rec", "avg", "aligned"))
    n_missing = int(missing_values(rec).sum())
    assert 0.01 * rec.size < n_missing < 0.03 * rec.size
    assert f"{n_missing} of {rec.size:,} values are missing" in printed["ceiling"]
    for name in ("ceiling", "align", "curve"):
        assert f"left out 1 of {N_SITES} sites" in printed[name]
    assert avg.attrs["n_missing_values"] == n_missing
    assert aligned.shape == (N_IMAGES, N_SITES - 1)
    with xr.open_dataset("curve/learning_curve.nc") as curve:
        assert curve["n_pairs"].values.tolist() == [10, 20, 40]
        assert np.isfinite(curve["normalized"].values).all()
        assert float(curve["raw"].max()) > 0.5
    assert Path("curve/report.html").stat().st_size > 10_000
    # What comes next is the next command of the road, as typed.
    for name, following in (("ceiling", 2), ("average", 3), ("align", 5)):
        assert f"next: {list(ROAD)[following]}\n" in printed[name]
    assert "next: neurobridge report curve" in printed["curve"]
    # A second model, and both beside each other.
    nb.save_assembly(nb.open_assembly("model.nc")[:, ::8], "few.nc")
    line = "neurobridge compare model.nc few.nc --recordings rec.nc --ceiling ceiling.nc --out comparison/"
    assert f"left out 1 of {N_SITES} sites" in run(line, "--metrics", "ridge")
    run("neurobridge report comparison/")
    with xr.open_dataset("comparison/comparison.nc") as comparison:
        assert comparison["model"].values.tolist() == ["model", "few"]
        assert float(comparison["value"].sel(model="model").item()) > 0.5
    assert Path("comparison/report.html").stat().st_size > 10_000


def test_the_road_in_python(files, monkeypatch):
    monkeypatch.chdir(files)
    names: dict = {}
    for number, block in enumerate(PYTHON[1:], start=1):
        exec(compile(block, f"{PAGE}, block {number}", "exec"), names)
    assert names["aligned"].shape == names["averages"].shape == (N_IMAGES, N_SITES - 1)
    assert names["averages"].attrs["n_missing_values"] > 0
    assert float(names["curve"]["mean"].sel(n_pairs=40).max()) > 0.5
    assert Path(names["page"]).exists()


def loose_session(mirror: Path, folder: Path) -> None:
    """Write the V4 session as a laboratory has it: responses of trials, a table of trials, and a folder of images."""
    source = mirror / "cowley2023-v4-210325"
    (folder / "FOLDER").mkdir()
    with zipfile.ZipFile(source / "images_210325.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for name in names:
            (folder / "FOLDER" / Path(name).name).write_bytes(archive.read(name))
    counts = np.load(source / "responses_210325.npy")
    image, day = np.nonzero(~np.isnan(counts[0]))
    np.save(folder / "responses.npy", counts[:, image, day].T)
    shown = {"image_name": [Path(names[row]).name for row in image], "repetition": day}
    pd.DataFrame(shown).to_csv(folder / "trials.csv", index=False)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.timeout(1200)
def test_the_road_of_commands_on_a_real_session(mirror, tmp_path):
    """Every command in a process of its own; together they take less than three minutes of processor time."""
    loose_session(mirror, tmp_path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for line in ROAD:
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                "from neurobridge.cli.app import main; main()",
                *shlex.split(line)[1:],
            ],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 180
    with xr.open_dataset(tmp_path / "curve" / "learning_curve.nc") as curve:
        assert curve["raw"].shape == (2, 3, 5)
        assert (curve["p_value"].values <= 0.1).mean() > 0.9
        # More pairs predict better, and nothing is better than perfect.
        assert (np.diff(curve["mean"].values, axis=1) > 0).all()
        assert float(curve["raw"].max()) < float(curve["ceiling"])
    assert (tmp_path / "curve" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.timeout(1200)
def test_the_road_in_python_on_a_real_session(mirror, tmp_path, monkeypatch):
    loose_session(mirror, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF)
    recordings = nb.read_recordings("responses.npy", trials="trials.csv", columns={"stimulus_id": "image_name"})
    ceiling = nb.internal_consistency(recordings)["ceiling"]
    averages = nb.average_repetitions(recordings)
    model = nb.extract(nb.features.GaborEnergy(), "FOLDER", "v1")
    aligners = {"fused": nb.BridgeAligner(), "ridge": RidgeAligner()}
    aligned = aligners["fused"].fit(model, averages, pairs=20).transform(model)
    assert aligned.shape == averages.shape == (640, 50)
    curve = nb.learning_curve(
        model, averages, aligners, n_pairs=(10, 20, 40), n_seeds=2, ceiling=ceiling, journal="records.jsonl"
    )
    page = Path(nb.report(curve, "report.html"))
    assert page.stat().st_size > 10_000
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 180
    whole = nb.load("cowley2023-v4-210325", mirror=mirror).recordings
    expected = nb.average_repetitions(whole)
    np.testing.assert_allclose(averages.values, expected.values, rtol=1e-6)
