"""Tables of the command line: read as Python reads them, whatever the ids look like."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from neurobridge.assemblies import Pairs, make_assembly, open_assembly, save_assembly
from neurobridge.cli.app import app, main

WORDS = ["NA", "null", "None", "nan", "007", "7", "1e5", "True", "inf", "N/A"]


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def save(ids, path):
    values = np.random.default_rng(0).normal(size=(len(ids), 3))
    return save_assembly(
        make_assembly(values, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": range(3)}), path
    )


@pytest.mark.parametrize("ids", [WORDS, list(range(10)), [0.5 * k for k in range(10)]], ids=["words", "int", "float"])
def test_align_reads_pairs_as_python_saves_them(tmp_path, ids):
    data = save(ids, tmp_path / "data.nc")
    table = Pairs(ids[:5], ids[:5]).save(tmp_path / "pairs.csv")
    out = tmp_path / "aligned.nc"
    summary = json.loads(run("align", data, data, "--pairs", table, "--method", "ridge", "--out", out, "--json"))
    assert summary["n_pairs"] == 5
    assert open_assembly(out)["stimulus_id"].values.tolist() == ids


def test_align_joins_ids_that_are_numbers_in_one_file_and_text_in_the_other(tmp_path):
    text, numbers = save(list("0123456789"), tmp_path / "text.nc"), save(range(10), tmp_path / "numbers.nc")
    for pairs in ([], ["--pairs", Pairs(list("01234"), list("01234")).save(tmp_path / "pairs.csv")]):
        summary = json.loads(
            run("align", text, numbers, *pairs, "--method", "ridge", "--out", tmp_path / "a.nc", "--json")
        )
        assert summary["n_pairs"] == (5 if pairs else 10)


def test_align_shows_ids_that_differ_and_the_command_that_joins_them(tmp_path, monkeypatch, capsys):
    small, large = save(["a.png", "b.png"], tmp_path / "a.nc"), save(["A.png", "B.png"], tmp_path / "b.nc")
    command = ["neurobridge", "align", small, large, "--method", "ridge", "--out", tmp_path / "c.nc"]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    with pytest.raises(SystemExit):
        main()
    message = capsys.readouterr().err
    assert "'a.png' and 'A.png'" in message
    assert "neurobridge import FILE --ids casefold --out NEW" in message
    for name in ("a", "b"):
        run("import", tmp_path / f"{name}.nc", "--ids", "casefold", "--out", tmp_path / f"new-{name}.nc")
    run("align", tmp_path / "new-a.nc", tmp_path / "new-b.nc", "--method", "ridge", "--out", tmp_path / "c.nc")


def test_features_of_stimuli_whose_names_are_words_of_other_programs(tmp_path, monkeypatch):
    module = types.ModuleType("mine")
    module.build = lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())
    monkeypatch.setitem(sys.modules, "mine", module)
    for k in range(len(WORDS)):
        Image.fromarray(np.full((8, 8, 3), 20 * k, dtype=np.uint8)).save(tmp_path / f"{k}.png")
    rows = [f"{k},{word},{k}.png,{k / 2}\n" for k, word in enumerate(WORDS)]
    (tmp_path / "stimuli.csv").write_text(",stimulus_id,file,size\n" + "".join(rows))
    out = tmp_path / "features.nc"
    fixed = ["--model", "python:mine:build", "--stimuli", tmp_path / "stimuli.csv", "--layer", "0", "--out", out]
    run("features", "extract", *fixed, "--json")
    features = open_assembly(out)
    assert features["stimulus_id"].values.tolist() == WORDS
    assert features["size"].values.tolist() == [k / 2 for k in range(len(WORDS))]
