"""`neurobridge score` and `neurobridge brainscore` as a user runs them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from neurobridge import brainscore
from neurobridge.assemblies import make_assembly, save_assembly
from neurobridge.cli.app import app, main


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def simulated(tmp_path, monkeypatch):
    """Activations of every stimulus of an experiment that stands in for the simulated one: 50 stimuli, 3 trials, 6 sites."""
    from neurobridge.datasets import Experiment, catalogue

    rng = np.random.default_rng(0)
    latents, ids = rng.normal(size=(50, 4)), [f"s{k}" for k in range(50)]
    sites = latents @ rng.normal(size=(4, 6))
    trials = make_assembly(
        np.concatenate([sites + rng.normal(size=sites.shape) for _ in range(3)]),
        presentation={"stimulus_id": ids * 3, "repetition": np.repeat(range(3), 50)},
        neuroid={"neuroid_id": [f"n{k}" for k in range(6)], "region": ["IT"] * 4 + ["V4"] * 2},
    )
    about = {"citation": "nobody", "note": "SIMULATED"}
    small = Experiment("simulated-hvm", "simulated", pd.DataFrame({"stimulus_id": ids}), recordings=trials, attrs=about)
    monkeypatch.setattr(catalogue, "simulate_hvm", lambda: small)
    monkeypatch.setenv("NEUROBRIDGE_QUIET", "1")
    units = make_assembly(
        latents, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": [f"z{k}" for k in range(4)]}
    )
    return save_assembly(units, tmp_path / "latents.nc")


def test_a_benchmark_gives_a_table_json_and_a_figure_by_site(simulated, tmp_path):
    out = tmp_path / "results"
    arguments = ("score", "--benchmark", "simulated-hvm.IT-ridge", "--activations", simulated, "--out", out)
    summary = json.loads(run(*arguments, "--json"))
    assert summary["benchmark"] == "simulated-hvm.IT-ridge"
    assert summary["kind"] == "simulated"
    assert summary["n_neuroids"] == 4
    assert summary["p_value"] < 0.05
    assert summary["normalized"] == pytest.approx(summary["raw"] ** 2 / summary["ceiling"])
    assert json.loads((out / "score.json").read_text()) == summary
    for figure in summary["figures"]:
        assert figure.startswith(str(out))
    assert (out / "sites.png").stat().st_size > 1000
    assert "SIMULATED" in (out / "sites.svg").read_text()
    with xr.open_dataset(out / "score.nc") as score:
        assert score["raw"].shape == (10, 4)
    text = run("score", "--benchmark", "simulated-hvm.V4-cka", "--activations", simulated)
    assert "SIMULATED" in text
    assert "note: no ceiling" in text


@pytest.fixture
def real_activations(mirror, tmp_path):
    import neurobridge as nb

    recordings = nb.load("cowley2023-v4-210325", mirror=mirror, quiet=True).images
    ids = recordings["stimulus_id"].values
    pixels = recordings.values[:, ::16, ::16].reshape(len(ids), -1).astype("float32")
    names = [f"pixel-{k}" for k in range(pixels.shape[1])]
    made = make_assembly(pixels, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": names})
    return save_assembly(made, tmp_path / "pixels.nc")


@pytest.mark.realdata
def test_real_recordings_of_v4(real_activations, mirror, monkeypatch):
    monkeypatch.setenv("NEUROBRIDGE_QUIET", "1")
    name = "cowley2023-v4-210325.V4-ridge"
    text = run("score", "--benchmark", name, "--activations", real_activations, "--mirror", mirror, "--json")
    summary = json.loads(text)
    assert summary["kind"] == "recorded"
    assert summary["n_stimuli"] == 640
    assert 0 < summary["ceiling"] < 1
    assert "figures" not in summary


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score"], "no --benchmark; expected two files"),
        (["score", "a.nc", "b.nc", "--activations", "c.nc"], "expected two files, or --benchmark"),
        (["score", "--benchmark", "simulated-hvm.IT-pls"], "expected --activations alone"),
        (["score", "a.nc", "--benchmark", "x.IT-pls", "--activations", "c.nc"], "expected --activations alone"),
        (["score", "--benchmark", "x.IT-pls", "--activations", "nowhere.nc"], "found no file at nowhere.nc"),
    ],
)
def test_contradictions_are_one_message(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["neurobridge", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def few(tmp_path):
    """Fifteen stimuli, one image an object, in two sessions; the target is linear in the source."""
    source = np.random.default_rng(0).normal(size=(15, 3))
    labels = {
        "stimulus_id": [f"s{k:02d}" for k in range(15)],
        "object_name": [f"o{k}" for k in range(15)],
        "session": [0, 1, 2] * 5,
    }
    paths = []
    for name, values in (("source", source), ("target", source @ np.diag([1.0, 2.0, 3.0]))):
        made = make_assembly(values, presentation=labels, neuroid={"neuroid_id": list("abc")})
        paths.append(save_assembly(made, tmp_path / f"{name}.nc"))
    return paths


@pytest.mark.parametrize(
    ("options", "description", "n_splits"),
    [
        (["--splits", "kfold", "--n-splits", "3"], "3-fold", 3),
        (["--splits", "kfold,n_splits=3"], "3-fold", 3),
        (["--splits", "kfold", "--n-splits", "5", "--group", "session"], "5-fold stratified", 5),
        (["--splits", "shuffle", "--test-size", "0.4", "--n-splits", "4"], "4 shuffled, 60% trained on", 4),
        (["--splits", "stratified", "--group", "session", "--test-size", "0.2"], "10 stratified, 80% trained on", 10),
        (["--group", "session"], "3 parts of 3 whole groups", 3),
        (["--splits", "condition,label=session,train=0|1,test=2"], "train [0, 1], test [2]", 1),
    ],
)
def test_splits_of_two_files_are_chosen_by_options(few, tmp_path, options, description, n_splits):
    out = tmp_path / "score.nc"
    summary = json.loads(run("score", *few, "--regression", "ridge", *options, "--out", out, "--json"))
    assert description in summary["splits"]
    assert summary["raw"] > 0.9
    with xr.open_dataset(out) as score:
        assert score.sizes["split"] == n_splits


@pytest.mark.parametrize(
    "options", [["--n-splits", "3"], ["--splits", "kfold"], ["--test-size", "0.3"], ["--group", "session"]]
)
def test_a_benchmark_has_its_own_splits(few, monkeypatch, capsys, options):
    arguments = ["score", "--benchmark", "simulated-hvm.IT-pls", "--activations", str(few[0]), *options]
    monkeypatch.setattr("sys.argv", ["neurobridge", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert f"{options[0]}={options[1]}" in capsys.readouterr().err


def test_an_unknown_benchmark_lists_what_there_is(tmp_path, monkeypatch, capsys):
    path = save_assembly(
        make_assembly(np.eye(3), presentation={"stimulus_id": list("abc")}, neuroid={"neuroid_id": list("xyz")}),
        tmp_path / "a.nc",
    )
    monkeypatch.setattr("sys.argv", ["neurobridge", "score", "--benchmark", "hvm.IT-pls", "--activations", str(path)])
    with pytest.raises(SystemExit):
        main()
    message = capsys.readouterr().err
    assert "majajhong2015.public" in message
    assert "Traceback" not in message


def test_link_status_and_unlink(tmp_path, monkeypatch):
    for kind in ("metrics", "benchmarks"):
        (tmp_path / kind).mkdir()
    monkeypatch.setattr(brainscore.links, "library_folder", lambda: tmp_path)
    assert "absent" in run("brainscore", "status")
    assert len(json.loads(run("brainscore", "link", "--json"))) == 2
    shown = json.loads(run("brainscore", "status", "--json"))
    assert {entry["state"] for entry in shown["links"].values()} == {"linked"}
    assert shown["environment"]["BS_INSTALL_DEPENDENCIES"] == "no"
    assert "linked" in run("brainscore", "link")
    assert run("brainscore", "unlink").count("removed") == 2
    assert "nothing was linked" in run("brainscore", "unlink")
    assert json.loads(run("brainscore", "unlink", "--json")) == []
    assert not list(tmp_path.glob("*/*"))
