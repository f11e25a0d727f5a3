"""`neurobridge import`: files of a laboratory on the command line, with sentences of what was read, guessed and left out."""

from __future__ import annotations

import json
import re
import shlex
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import neurobridge as nb
from neurobridge.cli.app import app, main


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(size=(6, 3))
    values[1, 2] = np.nan
    np.save("responses.npy", values)
    trials = pd.DataFrame({"trial": range(6), "image_name": ["a.png", "b.png", "c.png"] * 2, "picture": list("xyzxyz")})
    trials.to_csv("trials.csv", index=False)
    pd.DataFrame({"unit": ["u0", "u1", "u2"], "region": ["V4"] * 3}).to_csv("sites.csv", index=False)
    return values


def run(line):
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def fail(line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    return capsys.readouterr().err


def test_the_first_command_of_the_road(lab):
    shown = run("neurobridge import responses.npy --trials trials.csv --map stimulus_id=image_name --out rec.nc")
    recordings = nb.open_assembly("rec.nc")
    np.testing.assert_array_equal(recordings.values, lab)
    assert recordings["stimulus_id"].values.tolist() == ["a.png", "b.png", "c.png"] * 2
    assert recordings["repetition"].values.tolist() == [0, 0, 0, 1, 1, 1]
    assert "read 6 presentations of 3 stimuli, 2 times each, 3 sites from responses.npy" in shown
    assert "missing: 1 of 18 values" in shown
    assert re.search(r"guessed: 3 sites .* --sites", shown)
    assert "next: neurobridge ceiling rec.nc" in shown


def test_json_says_the_same(lab):
    line = "neurobridge import responses.npy --trials trials.csv --sites sites.csv --session 1 --animal PE --out rec.nc --json"
    summary = json.loads(run(line))
    assert summary["shape"] == [6, 3]
    assert (summary["n_stimuli"], summary["n_missing_values"]) == (3, 1)
    assert any("'image_name' of trials is stimulus_id" in sentence for sentence in summary["guessed"])
    assert nb.open_assembly("rec.nc")["neuroid_id"].values.tolist() == ["PE-1-u0", "PE-1-u1", "PE-1-u2"]
    line = line.replace("--json", "--qualify none --json")
    run(line)
    assert nb.open_assembly("rec.nc")["neuroid_id"].values.tolist() == ["u0", "u1", "u2"]


def test_inspect_shows_what_is_in_a_file_and_the_command_that_reads_it(lab):
    np.savez("two.npz", early=lab, late=lab + 1, image_id=np.arange(6))
    shown = run("neurobridge import --inspect two.npz")
    for word in ("early", "late", "6 x 3", "stimulus_id", "npz"):
        assert word in shown
    command = re.search(r"next: (neurobridge import .*? --out \S+\.nc)", shown)[1]
    run(command)
    assert nb.open_assembly("recordings.nc").attrs["variable"] == "early"
    listed = json.loads(run("neurobridge import two.npz --inspect --json"))
    assert {part["name"] for part in listed["contents"]} == {"early", "late", "image_id"}


def test_spikes_are_counted_in_windows_and_bins(lab):
    pd.DataFrame({"unit": ["a", "a", "b"], "time": [0.1, 1.1, 1.12]}).to_csv("spikes.csv", index=False)
    pd.DataFrame({"image": ["x", "y"], "onset": [0.0, 1.0]}).to_csv("shown.csv", index=False)
    run("neurobridge import spikes.csv --trials shown.csv --window early=70:120 --window late=120:170 --out w.nc")
    windows = nb.open_assembly("w.nc")
    assert windows.sum("neuroid").values.tolist() == [[1, 0], [1, 1]]
    assert windows["time_bin_name"].values.tolist() == ["early", "late"]
    run("neurobridge import spikes.csv --trials shown.csv --bin 0:200:100 --out b.nc")
    assert nb.open_assembly("b.nc")["time_bin_start"].values.tolist() == [0, 100]


def test_ids_are_brought_to_a_form_in_a_file_that_is_one_already(lab):
    run("neurobridge import responses.npy --trials trials.csv --out rec.nc")
    run("neurobridge import rec.nc --ids stem --out stem.nc")
    stem = nb.open_assembly("stem.nc")
    assert stem["stimulus_id"].values.tolist() == ["a", "b", "c"] * 2
    assert stem.attrs["read_from"] == "responses.npy"
    assert any("is stimulus_id" in line for line in stem.attrs["guessed"])


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        ("neurobridge import responses.npy --out x.nc", ("6 presentations", "--trials")),
        ("neurobridge import responses.npy --trials trials.csv", ("no --out", "--out recordings.nc")),
        ("neurobridge import responses.npy --trials trials.csv --out x.csv", ("x.csv", "--out x.nc")),
        ("neurobridge import responses.npy --trials trials.csv --map image --out x.nc", ("--map", "'image'")),
        (
            "neurobridge import responses.npy --trials trials.csv --map stimulus_id=img --out x.nc",
            ("'img'", "image_name"),
        ),
        ("neurobridge import responses.npy --trials trials.csv --bin 0:10 --out x.nc", ("--bin", "0:10")),
        ("neurobridge import responses.npy --trials trials.csv --window a --out x.nc", ("--window", "'a'")),
        ("neurobridge import responses.npy --trials trials.csv --qualify site --out x.nc", ("--qualify", "'site'")),
        ("neurobridge import responses.npy --trials none.csv --out x.nc", ("none.csv",)),
        ("neurobridge import none.npy --out x.nc", ("none.npy",)),
    ],
)
def test_mistakes_are_told_in_one_line_with_a_mend(lab, line, facts, monkeypatch, capsys):
    message = fail(line, monkeypatch, capsys)
    assert "Mend:" in message
    assert "Traceback" not in message
    for fact in facts:
        assert fact in message
