"""`neurobridge compare` as a user runs it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import neurobridge as nb
from neurobridge.assemblies.storage.files import save_variables
from neurobridge.cli.app import app
from neurobridge.evaluate.comparison.regressed import Regressed


@pytest.fixture
def files(tmp_path):
    """Simulated: two models and the trials of six sites of two animals, on 40 stimuli; one model lacks a stimulus."""
    rng = np.random.default_rng(0)
    latents, ids = rng.normal(size=(40, 4)), [f"s{k:02d}" for k in range(40)]

    def save(name, values, stimuli=ids, **columns):
        neuroid = {"neuroid_id": range(values.shape[1]), **columns}
        return nb.save_assembly(nb.make_assembly(values, presentation=stimuli, neuroid=neuroid), tmp_path / name)

    stimuli = {"stimulus_id": ids}
    sites = latents @ rng.normal(size=(4, 6))
    trials = np.concatenate([sites + rng.normal(size=sites.shape) for _ in range(3)])
    repeated = {"stimulus_id": ids * 3, "repetition": np.repeat(range(3), 40)}
    return {
        "all": save("all.nc", latents, stimuli),
        "half": save("half.nc", latents[:39, :2], {"stimulus_id": ids[:39]}),
        "recordings": save("it.nc", trials, repeated, animal=["a", "b"] * 3),
    }


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_comparison_is_written_told_and_not_computed_twice(files, tmp_path, monkeypatch):
    ceiling = save_variables(
        nb.internal_consistency(nb.open_assembly(files["recordings"]), n_splits=3, n_bootstrap=0), tmp_path / "c.nc"
    )
    out = tmp_path / "comparison"
    command = ("compare", files["all"], files["half"], "--recordings", files["recordings"], "--ceiling", ceiling,
               "--n-bootstrap", 40, "--out", out)  # fmt: skip
    told = run(*command)
    assert "Read 2 models and 6 sites; 39 stimuli are in all of them, 1 of the recordings are left out." in told
    assert f"Next: neurobridge report {out}" in told
    monkeypatch.setattr(Regressed, "score", None)
    summary = json.loads(run(*command, "--json"))
    assert summary == json.loads((out / "scores.json").read_text())
    models = pd.read_csv(out / "models.csv")
    assert models[models["metric"] == "ridge"]["model"].tolist() == ["all", "half"]
    assert models["normalized"].notna().all()
    assert len(pd.read_csv(out / "pairs.csv")) == 2
    with xr.open_dataset(out / "comparison.nc") as comparison:
        assert comparison["value"].sizes == {"metric": 2, "model": 2}
    page = run("report", out, "--out", tmp_path / "page.html")
    assert "left out" not in page
    html = (tmp_path / "page.html").read_text()
    for words in ("all, half compared on it.nc", "Models under ridge, the best first", "differences are significant"):
        assert words in html
    assert {path.name for path in out.glob("*.png")} == {"comparison_ridge.png", "comparison_rsa.png"}


def test_files_that_cannot_be_compared_are_refused(files, tmp_path):
    common = ("--recordings", files["recordings"], "--out", tmp_path / "out")
    with pytest.raises(ValueError, match=r"1 model\(s\).*compare a\.nc b\.nc"):
        run("compare", files["all"], *common)
    twin = files["all"].rename(tmp_path.joinpath("elsewhere").mkdir() or tmp_path / "elsewhere" / "half.nc")
    with pytest.raises(ValueError, match=r"both named 'half'"):
        run("compare", twin, files["half"], *common)
    with pytest.raises(ValueError, match=r"half\.nc.*expected a ceiling of every site"):
        run("compare", twin, tmp_path / "it.nc", "--ceiling", files["half"], *common)


def test_missing_values_are_left_out_site_by_site_or_with_their_stimuli(files, tmp_path):
    trials = nb.open_assembly(files["recordings"])
    values = trials.values.copy()
    values[trials["stimulus_id"].values == "s03", 1] = np.nan
    lacking = nb.save_assembly(trials.copy(data=values), tmp_path / "lacking.nc")
    common = ("compare", files["all"], files["half"], "--recordings", lacking, "--n-bootstrap", 5)
    told = run(*common, "--metrics", "ridge", "--out", tmp_path / "ridge")
    assert "3 of 720 values are missing" in told
    assert "39 stimuli are in all of them" in told
    told = run(*common, "--out", tmp_path / "both")
    assert "left out 1 of 40 stimuli" in told
    assert "38 stimuli are in all of them" in told


def test_one_animal_is_compared_by_rdm_and_ceilings_that_are_not_there_are_a_dash(files, tmp_path):
    one = nb.select(nb.open_assembly(files["recordings"]), animal="a")
    recordings = nb.save_assembly(one, tmp_path / "one.nc")
    line = ("compare", files["all"], files["half"], "--recordings", recordings, "--n-bootstrap", 5)
    told = run(*line, "--out", tmp_path / "out")
    assert "two animals" in told
    assert "rdm has no ceiling" in told
    assert "ridge has no ceiling here" in told
    assert "nan" not in told
    with xr.open_dataset(tmp_path / "out" / "comparison.nc") as comparison:
        assert comparison["metric"].values.tolist() == ["ridge", "rdm"]
    with pytest.raises(ValueError, match=r"1 animal.*--metrics rdm"):
        run(*line, "--metrics", "rsa", "--out", tmp_path / "rsa")
    nobody = nb.save_assembly(one.drop_vars("animal"), tmp_path / "nobody.nc")
    with pytest.raises(ValueError, match=r"no coordinate 'animal'.*--metrics rdm"):
        run(*line[:4], nobody, "--metrics", "rsa", "--out", tmp_path / "rsa")
