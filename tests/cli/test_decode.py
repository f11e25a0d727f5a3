"""`neurobridge decode` as a user runs it."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import neurobridge as nb
from neurobridge.cli.app import app


@pytest.fixture
def recordings(tmp_path):
    """Simulated: 24 stimuli of two categories and two conditions in three trials, three time bins, one site that lacks much."""
    rng = np.random.default_rng(0)
    stimulus = np.tile(np.arange(24), 3)
    values = rng.normal(size=(72, 5, 3)) + 2.5 * (stimulus % 2)[:, None, None] * np.array([0, 1, 1])
    values[rng.random(72) < 0.4, 4] = np.nan
    trials = nb.make_assembly(
        values,
        presentation={
            "stimulus_id": stimulus,
            "repetition": np.repeat(range(3), 24),
            "object": np.array(["car", "face"])[stimulus % 2],
            "variation": (stimulus // 2) % 2,
        },
        neuroid={"neuroid_id": range(5)},
        time_bin={"time_bin_start": [0, 20, 40], "time_bin_end": [20, 40, 60]},
    )
    return nb.save_assembly(trials, tmp_path / "trials.nc")


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_label_is_decoded_with_its_ceiling_and_reported(recordings, tmp_path):
    out = tmp_path / "out"
    told = run("decode", recordings, "object", "--time-bin", 2, "--ceiling", "--n-permutations", 39, "--out", out)
    assert "left out 1 of 5 sites" in told
    assert f"next: neurobridge report {out}" in told
    results = json.loads((out / "scores.json").read_text())
    alone = nb.decode(nb.open_assembly(recordings).isel(time_bin=2, neuroid=range(4)), "object", n_permutations=39)
    assert results["scores"]["accuracy"] == pytest.approx(float(alone["raw"].mean()))
    assert results["scores"]["p_value"] == pytest.approx(float(alone["p_value"]))
    assert results["scores"]["ceiling_low"] <= results["scores"]["ceiling"] <= results["scores"]["ceiling_high"]
    assert {path.name for path in out.glob("*.png")} == {"decoding.png", "ceiling.png"}
    assert "left out" not in run("report", out, "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "object decoded from trials.nc" in page
    assert "without noise it would be" in page


def test_trials_that_miss_a_value_are_left_out_and_averaging_is_proposed(recordings, tmp_path):
    trials = nb.open_assembly(recordings).isel(time_bin=[2])
    trials[:3, 0] = np.nan
    holed = nb.save_assembly(trials.isel(neuroid=range(4)), tmp_path / "holed.nc")
    told = run("decode", holed, "object", "--n-permutations", 19, "--out", tmp_path / "out")
    assert "left out 3 of 72 presentations" in told
    command = re.search(r"neurobridge (average .* --out \S+\.nc)\.$", told, flags=re.MULTILINE)
    run(*shlex.split(command[1]))
    averages = shlex.split(command[1])[-1]
    assert "left out" not in run("decode", averages, "object", "--n-permutations", 19, "--out", tmp_path / "averaged")


@pytest.mark.parametrize(
    ("option", "dims"),
    [("--by-time", ("time_bin",)), ("--across-time", ("trained", "tested")), ("--across", ("trained", "tested"))],
)
def test_a_label_is_decoded_in_time_and_across_conditions(recordings, tmp_path, option, dims):
    options = [option, "variation", "--time-bin", 1] if option == "--across" else [option]
    shown = json.loads(
        run("decode", recordings, "object", *options, "--n-permutations", 19, "--out", tmp_path / "out", "--json")
    )
    with xr.open_dataset(tmp_path / "out" / "score.nc") as score:
        assert score["p_value"].dims == dims
        assert shown["scores"]["largest"] == pytest.approx(float(score["raw"].mean("split").max()))
    assert (tmp_path / "out" / "decoding.png").is_file()
    if option == "--by-time":
        assert shown["scores"]["peak"] in (30, 50)
