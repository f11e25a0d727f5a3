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


def test_align_says_that_ids_of_two_files_differ_in_type(tmp_path, monkeypatch, capsys):
    text, numbers = save(list("0123456789"), tmp_path / "text.nc"), save(range(10), tmp_path / "numbers.nc")
    command = ["neurobridge", "align", text, numbers, "--method", "ridge", "--out", tmp_path / "a.nc"]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    with pytest.raises(SystemExit):
        main()
    message = capsys.readouterr().err
    assert "'0' (str) and 0 (int64)" in message
    assert "Mend: " in message
    # A table of pairs, which has no types, joins them.
    table = Pairs(list("01234"), list("01234")).save(tmp_path / "pairs.csv")
    run("align", text, numbers, "--pairs", table, "--method", "ridge", "--out", tmp_path / "a.nc")


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
