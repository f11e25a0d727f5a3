"""The command line: every command has help, does its work, and fails with one message."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import neurobridge
from neurobridge.aligners import BridgeAligner, RidgeAligner
from neurobridge.assemblies import open_assembly, save_assembly
from neurobridge.cli.app import app, main

COMMANDS = [
    ["demo"],
    ["align"],
    ["score"],
    ["plot"],
    ["report"],
    ["data"],
]


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def files(tmp_path, make_random_assembly):
    source = make_random_assembly(60, 8, seed=0)
    weights = np.random.default_rng(2).normal(size=(8, 5))
    target = make_random_assembly(60, 5, seed=1).copy(data=source.values @ weights)
    return save_assembly(source, tmp_path / "source.nc"), save_assembly(target, tmp_path / "target.nc")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command):
    assert "Usage" in run(*command, "--help")


def test_version_is_printed():
    assert run("--version").strip() == neurobridge.__version__


def test_score_reads_zarr(files, tmp_path):
    pytest.importorskip("zarr", minversion="3")
    source = save_assembly(open_assembly(files[0]), tmp_path / "source.zarr")
    assert json.loads(run("score", source, files[1], "--regression", "ridge", "--json"))["raw"] > 0.9


@pytest.mark.parametrize("method", ["ridge", "procrustes"])
def test_align_writes_an_assembly_in_the_targets_space(files, tmp_path, method):
    out = tmp_path / "aligned.nc"
    summary = json.loads(run("align", *files, "--out", out, "--pairs", 0.5, "--method", method, "--json"))
    assert summary["n_pairs"] == 30
    aligned, target = open_assembly(out), open_assembly(files[1])
    assert aligned["neuroid_id"].values.tolist() == target["neuroid_id"].values.tolist()
    if method == "ridge":
        assert np.corrcoef(aligned.values.ravel(), target.values.ravel())[0, 1] > 0.99


def test_align_chooses_by_a_criterion_and_reads_a_layer(files, tmp_path):
    source = open_assembly(files[0])
    layers = np.where(np.arange(source.sizes["neuroid"]) % 2, "odd", "even")
    save_assembly(source.assign_coords(layer=("neuroid", layers)), tmp_path / "layers.nc")
    options = ("--pairs", 0.5, "--criterion", "error", "--representation", "odd", "--json")
    summary = json.loads(run("align", tmp_path / "layers.nc", files[1], "--out", tmp_path / "a.nc", *options))
    assert (summary["criterion"], summary["representation"]) == ("error", "odd")
    by_hand = BridgeAligner(criterion="error", representation="odd").fit(
        open_assembly(tmp_path / "layers.nc"), open_assembly(files[1]), pairs=0.5
    )
    np.testing.assert_allclose(
        open_assembly(tmp_path / "a.nc").values, by_hand.transform(open_assembly(tmp_path / "layers.nc")), rtol=1e-4
    )


def test_align_takes_a_table_of_pairs(files, tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("source_id,target_id\n" + "".join(f"s{i:04d},s{i:04d}\n" for i in range(25)))
    text = run("align", *files, "--out", tmp_path / "a.nc", "--pairs", table, "--method", "ridge")
    assert "over 25 pairs" in text


def test_score_prints_and_writes(files, tmp_path):
    out = tmp_path / "scores" / "score.nc"
    summary = json.loads(run("score", *files, "--regression", "ridge", "--out", out, "--json"))
    assert summary["raw"] > 0.99
    assert summary["p_value"] < 0.01
    with xr.open_dataset(out) as score:
        assert score["raw"].shape == (10, 5)
    assert "p_value" in run("score", *files, "--regression", "linear")


def test_report_writes_a_page(tmp_path):
    results = {"title": "t", "note": "n", "tables": [], "run": {}}
    (tmp_path / "scores.json").write_text(json.dumps(results))
    assert f"wrote {tmp_path / 'report.html'}: 0 figure(s)" in run("report", tmp_path)
    assert (tmp_path / "report.html").exists()
    assert json.loads(run("report", tmp_path, "--out", tmp_path / "new" / "a.html", "--title", "mine", "--json"))
    assert "<title>mine</title>" in (tmp_path / "new" / "a.html").read_text()


def test_results_on_disk_are_drawn_and_told(files, tmp_path):
    score, saved = tmp_path / "score.nc", tmp_path / "aligner"
    run("score", *files, "--regression", "ridge", "--splits", "shuffle,n_splits=2", "--out", score, "--json")
    RidgeAligner().fit(*map(open_assembly, files), pairs=30).save(saved)
    drawn = json.loads(run("plot", score, "--out", tmp_path / "new" / "sites.png", "--style", "nature", "--json"))
    assert [path.name for path in map(Path, drawn["files"])] == ["sites.png", "sites.svg", "sites.pdf"]
    assert all(Path(path).stat().st_size > 1000 for path in drawn["files"])
    assert "60 stimuli" in drawn["caption"]
    assert "5 sites" in drawn["alt_text"]
    assert "Caption: Standard deviation" in run("plot", saved)
    assert (tmp_path / "aligner.png").exists()
    assert "60 stimuli" in run("plot", files[1], "--out", tmp_path / "rdm")
    printed = run("report", score, saved, "--out", tmp_path / "both.html")
    assert f"read {score}, {saved}.\n" in printed
    assert "2 figure(s)" in printed
    page = (tmp_path / "both.html").read_text()
    assert page.count("<figure>") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["align", "a.nc", "b.nc", "--out", "c.nc", "--method", "magic"], "found method 'magic'"),
        (["align", "a.nc", "b.nc", "--out", "c.nc", "--criterion", "labels"], "found 'labels'"),
        (
            ["align", "a.nc", "b.nc", "--out", "c.nc", "--method", "ridge", "--criterion", "error"],
            "{'criterion': 'error'}",
        ),
        (["score", "nowhere.nc", "b.nc"], "found no file at nowhere.nc"),
        (["report", "nowhere"], "found nothing at nowhere"),
        (["demo", "--dataset", "what"], "found dataset 'what'"),
    ],
)
def test_expected_errors_are_one_message_and_no_traceback(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["neurobridge", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("neurobridge: ")
    assert message in printed
    assert "Traceback" not in printed
