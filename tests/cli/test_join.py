"""`neurobridge join`: what it writes is what Python gives, and it says what it left out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import neurobridge as nb
from neurobridge.assemblies import join_sites
from neurobridge.cli.app import app


def run(*words, ok=True):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert (result.exit_code == 0) == ok, result.output + str(result.exception)
    return result.stdout if ok else str(result.exception)


def day(stimuli, n_trials, n_sites=2, seed=0, **neuroid):
    rng = np.random.default_rng(seed)
    ids = [f"s{k}" for k in stimuli] * n_trials
    return nb.make_assembly(
        rng.normal(size=(len(ids), n_sites)),
        presentation={"stimulus_id": ids, "repetition": np.repeat(range(n_trials), len(stimuli))},
        neuroid={"neuroid_id": [f"site-{k}" for k in range(n_sites)], **neuroid},
    )


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Trials of two days of five and six stimuli, four of them shared; simulated."""
    folder = tmp_path_factory.mktemp("days")
    nb.save_assembly(day(range(5), 3), folder / "monday.nc")
    nb.save_assembly(day(range(1, 7), 2, n_sites=3, seed=1), folder / "tuesday.nc")
    nb.save_assembly(day(range(5), 3, animal=["Chabo", "Chabo"]), folder / "chabo.nc")
    return folder


def test_common_stimuli_are_joined_and_the_others_counted(days, tmp_path):
    monday, tuesday = days / "monday.nc", days / "tuesday.nc"
    text = run("join", monday, tuesday, "--out", tmp_path / "both.nc")
    expected = join_sites({"monday": nb.open_assembly(monday), "tuesday": nb.open_assembly(tuesday)})
    joined = nb.open_assembly(tmp_path / "both.nc")
    assert joined.identical(expected)
    assert joined["neuroid_id"].values.tolist()[1:3] == ["monday-site-1", "tuesday-site-0"]
    for fact in (
        f"1 stimuli of {monday}", f"2 stimuli of {tuesday}", "--all-stimuli", "12 of 60 values are missing", "monday-site-0",
        "12 presentations of 4 stimuli", "neurobridge ceiling",
    ):  # fmt: skip
        assert fact in text


def test_all_stimuli_and_names(days, tmp_path):
    line = ("join", days / "monday.nc", days / "tuesday.nc", "--out", tmp_path / "all.zarr", "--all-stimuli")
    pytest.importorskip("zarr", reason="zarr is an extra")
    facts = json.loads(run(*line, "--by", "animal", "--name", "Tito", "--name", "Nano", "--json"))
    joined = nb.open_assembly(tmp_path / "all.zarr")
    assert facts["shape"] == list(joined.shape)
    assert facts["joined"] == ["Tito", "Nano"]
    assert facts["n_missing_values"] == int(np.isnan(joined.values).sum()) > 0
    assert sorted(set(joined["stimulus_id"].values.tolist())) == [f"s{k}" for k in range(7)]
    assert joined["animal"].values.tolist() == ["Tito"] * 2 + ["Nano"] * 3


def test_the_animal_of_a_file_is_its_own(days, tmp_path):
    run("join", days / "chabo.nc", days / "tuesday.nc", "--by", "animal", "--out", tmp_path / "both.nc")
    animals = nb.open_assembly(tmp_path / "both.nc")["animal"].values.tolist()
    assert animals == ["Chabo"] * 2 + ["tuesday"] * 3


def test_averages_go_on_to_score(days, tmp_path):
    for name in ("monday", "tuesday"):
        run("average", days / f"{name}.nc", "--out", tmp_path / f"{name}.nc")
    text = run("join", tmp_path / "monday.nc", tmp_path / "tuesday.nc", "--out", tmp_path / "both.nc")
    assert nb.open_assembly(tmp_path / "both.nc").shape == (4, 5)
    assert "neurobridge score" in text


def test_names_are_as_many_as_files(days, tmp_path):
    error = run("join", days / "monday.nc", days / "tuesday.nc", "--name", "x", "--out", tmp_path / "b.nc", ok=False)
    assert "found 1 names" in error
    assert not (tmp_path / "b.nc").exists()
