"""Every command meets every kind of bad input with one line that names it, and no traceback."""

from __future__ import annotations

import json
import os
import signal
import sys
import types
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import nn

from neurobridge.assemblies import open_assembly, save_assembly
from neurobridge.cli.app import app, main
from neurobridge.store.endings import DEBUG

EXTRACT = [
    "features",
    "extract",
    "--model",
    "python:mine:build",
    "--stimuli",
    "{table}",
    "--layer",
    "0",
    "--out",
    "{out}",
]
# Per command: its arguments, of which "{bad}" is the bad path, and "{out}" a path to write to.
PATHS = {
    "align source": ["align", "{bad}", "{good}", "--out", "{out}"],
    "align target": ["align", "{good}", "{bad}", "--out", "{out}"],
    "align --pairs": ["align", "{good}", "{good}", "--out", "{out}", "--method", "ridge", "--pairs", "{bad}"],
    "score source": ["score", "{bad}", "{good}"],
    "score target": ["score", "{good}", "{bad}"],
    "score --activations": ["score", "--benchmark", "simulated-hvm.IT-pls", "--activations", "{bad}"],
    "import path": ["import", "{bad}", "--out", "{out}"],
    "import --trials": ["import", "{good}", "--trials", "{bad}.csv", "--out", "{out}"],
    "average path": ["average", "{bad}", "--out", "{out}"],
    "join first": ["join", "{bad}", "{good}", "--out", "{out}"],
    "join second": ["join", "{good}", "{bad}", "--out", "{out}"],
    "ceiling path": ["ceiling", "{bad}", "--out", "{out}"],
    "road features": ["road", "{bad}", "{bad}", "--out", "{out}"],
    "curve source": ["curve", "{bad}", "{good}", "--pairs", "5", "--out", "{out}"],
    "curve target": ["curve", "{good}", "{bad}", "--pairs", "5", "--out", "{out}"],
    "curve --ceiling": ["curve", "{good}", "{good}", "--pairs", "5", "--ceiling", "{bad}", "--out", "{out}"],
    "compare model": ["compare", "{good}", "{bad}", "--recordings", "{good}", "--out", "{out}"],
    "decode path": ["decode", "{bad}", "stimulus_id", "--out", "{out}"],
    "rsa model": ["rsa", "{good}", "{bad}", "--recordings", "{good}", "--bootstrap", "stimuli", "--out", "{out}"],
    "rsa --recordings": ["rsa", "{good}", "--recordings", "{good}", "--recordings", "{bad}", "--out", "{out}"],
    "retrieve source": ["retrieve", "{bad}", "{good}"],
    "retrieve target": ["retrieve", "{good}", "{bad}"],
    "retrieve --fitted-pairs": ["retrieve", "{good}", "{good}", "--fitted-pairs", "{bad}"],
    "plot path": ["plot", "{bad}", "--out", "{out}/figure.png"],
    "report folder": ["report", "{bad}"],
    "extract --model": [*EXTRACT, "--model", "{bad}"],
    "extract --stimuli": [*EXTRACT, "--stimuli", "{bad}.csv"],
    "extract --root": [*EXTRACT, "--root", "{bad}"],
    "extract --weights": [*EXTRACT, "--weights", "{bad}"],
    "extract --pca": [*EXTRACT, "--pooling", "pca:2", "--pca", "{bad}"],
    "extract --fit-on": [*EXTRACT, "--pooling", "pca:2", "--fit-on", "{bad}.csv"],
    "fetch --mirror": ["data", "fetch", "mnist", "--mirror", "{bad}"],
    "verify --mirror": ["data", "verify", "mnist", "--mirror", "{bad}"],
    "path --mirror": ["data", "path", "mnist", "--mirror", "{bad}", "--json"],
    "list --mirror": ["data", "list", "--mirror", "{bad}"],
    "mirror --mirror": ["data", "mirror", "{out}", "mnist", "--mirror", "{bad}"],
    "demo --mirror": ["demo", "--dataset", "cowley2023-v4-210325", "--mirror", "{bad}", "--out", "{out}"],
    "train --mirror": ["features", "train", "conv_net", "--mirror", "{bad}", "--out", "{out}"],
}
# Paths that a command writes to, of which "{bad}" cannot be written.
OUTPUTS = {
    "align --out": ["align", "{good}", "{good}", "--method", "ridge", "--pairs", "0.5", "--out", "{bad}"],
    "plot --out": ["plot", "{good}", "--out", "{bad}"],
    "rsa --out": [
        "rsa",
        "{good}",
        "--recordings",
        "{good}",
        "--bootstrap",
        "stimuli",
        "--n-bootstrap",
        "20",
        "--out",
        "{bad}",
    ],
    "retrieve --out": ["retrieve", "{good}", "{good}", "--out", "{bad}"],
    "score --out": ["score", "{good}", "{good}", "--regression", "ridge", "--out", "{bad}"],
    "extract --out": [*EXTRACT[:-1], "{bad}"],
}
# Options that take numbers or one of a list of words, with a value that is none.
VALUES = [
    ["align", "{good}", "{good}", "--out", "{out}", "--method", "magic"],
    *(["align", "{good}", "{good}", "--out", "{out}", "--pairs", value] for value in ("nan", "inf", "-3", "0", "1.5", "1e400")),
    ["align", "{good}", "{good}", "--out", "{out}", "--pairs", "10000"],
    ["align", "{good}", "{good}", "--out", "{out}", "--seed", "x"],
    ["align", "{good}", "{good}", "--out", "{out}", "--seed", "-1"],
    ["curve", "{good}", "{good}", "--pairs", "5", "--out", "{out}", "--plan", "0.5"],
    ["join", "--out", "{out}", "{good}"],
    ["join", "--out", "{out}", "{good}", "{good}"],
    ["join", "{good}", "{table}", "--out", "{out}", "--name", "day1"],
    ["road", "{good}", "{good}", "--out", "{out}", "--metric", "magic"],
    ["road", "{good}", "{good}", "--out", "{out}", "--similarity", "magic"],
    ["road", "{good}", "{good}", "--out", "{out}", "--pairs", "1"],
    ["score", "{good}", "{good}", "--regression", "magic"],
    ["score", "{good}", "{good}", "--splits", "magic"],
    ["score", "{good}", "{good}", "--n-splits", "0"],
    ["score", "{good}", "{good}", "--n-splits", "3"],
    ["score", "{good}", "{good}", "--test-size", "0.2"],
    ["score", "{good}", "{good}", "--splits", "kfold", "--n-splits", "1000"],
    ["score", "{good}", "{good}", "--splits", "shuffle", "--test-size", "nan"],
    ["score", "{good}", "{good}", "--splits", "shuffle", "--test-size", "1"],
    ["score", "{good}", "{good}", "--group", "nothing"],
    ["score", "{good}", "{good}", "--splits", "kfold", "--test-size", "0.2"],
    ["score", "{good}"],
    ["decode", "{good}", "--out", "{out}", "what"],
    ["decode", "{good}", "stimulus_id", "--out", "{out}", "--by-time", "--across-time"],
    ["decode", "{good}", "stimulus_id", "--out", "{out}", "--by-time", "--time-bin", "0"],
    ["decode", "{good}", "stimulus_id", "--out", "{out}", "--across", "stimulus_id", "--splits", "kfold"],
    ["rsa", "{good}", "--out", "{out}", "--recordings", "{good}"],
    ["rsa", "{good}", "{good}", "--out", "{out}", "--recordings", "{good}"],
    ["rsa", "{good}", "--recordings", "{good}", "--out", "{out}", "--distance", "magic"],
    ["rsa", "{good}", "--recordings", "{good}", "--out", "{out}", "--comparator", "magic"],
    ["rsa", "{good}", "--recordings", "{good}", "--out", "{out}", "--bootstrap", "magic"],
    ["rsa", "{good}", "--recordings", "{good}", "--out", "{out}", "--n-bootstrap", "19"],
    ["retrieve", "{good}", "{good}", "--out", "{out}", "--similarity", "magic"],
    ["retrieve", "{good}", "{good}", "--out", "{out}", "--hub-correction", "magic"],
    ["retrieve", "{good}", "{good}", "--out", "{out}", "--ks", "0"],
    ["retrieve", "{good}", "{good}", "--out", "{out}", "--fitted-pairs", "1.5"],
    ["retrieve", "{good}", "{good}", "--out", "{out}", "--fitted-pairs", "29"],
    ["plot", "{good}", "--out", "{out}/figure.gif"],
    ["plot", "{good}", "--out", "{out}/figure.png", "--style", "cell"],
    ["score", "--activations", "{good}", "--benchmark", "what"],
    ["demo", "--dataset", "what"],
    ["demo", "--seeds", "many"],
    ["run", "what"],
    ["run", "--all", "--jobs", "0"],
    ["data", "show", "what"],
    ["data", "fetch", "what"],
    ["data", "verify", "what"],
    ["data", "path", "what"],
    ["data", "mirror", "{out}", "what"],
    ["features", "train", "what", "--out", "{out}", "--dataset", "what"],
    ["features", "train", "conv_net", "--out", "{out}", "--images", "none"],
    *(
        [*EXTRACT, *values]
        for values in (
            ["--size", "0"],
            ["--mean", "a,b"],
            ["--std", "0"],
            ["--crop", "-1"],
            ["--pooling", "pca:0"],
            ["--dtype", "text"],
            ["--device", "abacus"],
            ["--device", "cuda:99"],
            ["--device", "meta"],
            ["--model", "python:mine:absent"],
            ["--model", "python:math:sqrt"],
            ["--model", "python:nowhere:build"],
            ["--model", "what:net"],
        )
    ),
]  # fmt: skip


def build() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())


@pytest.fixture(scope="module")
def good(tmp_path_factory, make_random_assembly) -> str:
    """A good assembly: one file for all."""
    return str(save_assembly(make_random_assembly(30, 4, seed=0), tmp_path_factory.mktemp("good") / "good.nc"))


@pytest.fixture
def inputs(tmp_path, monkeypatch, good) -> dict[str, str]:
    """Good files to stand beside the bad one, and an importable model."""
    module = types.ModuleType("mine")
    module.build = build
    monkeypatch.setitem(sys.modules, "mine", module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEUROBRIDGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NEUROBRIDGE_MIRROR", raising=False)
    rng = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    (tmp_path / "table.csv").write_text("stimulus_id,file\n" + "".join(f"{k},{k}.png\n" for k in range(3)))
    return {"good": good, "table": str(tmp_path / "table.csv"), "out": str(tmp_path / "out.nc")}


def fill(arguments: list[str], **values: str) -> list[str]:
    return [argument.format(**values) for argument in arguments]


def call(arguments: list[str], monkeypatch, capsys) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command line, in this process; an exception that leaves it fails the test."""
    monkeypatch.setattr(sys, "argv", ["neurobridge", *arguments])
    monkeypatch.setenv("COLUMNS", "1000")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(SystemExit) as end:
            main()
    output = capsys.readouterr()
    return end.value.code, output.out, output.err


def refused(arguments: list[str], facts: list[str], monkeypatch, capsys) -> str:
    status, _, message = call(arguments, monkeypatch, capsys)
    assert status in (1, 2), message
    assert "Traceback" not in message
    assert "not foreseen" not in message
    for fact in facts:
        assert fact in message
    if status == 1:
        assert message.startswith("neurobridge: ")
        assert message.strip().count("\n") == 0
        assert "Mend:" in message
    return message


def missing(path: Path) -> None:
    pass


def folder(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.touch()


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def text(path: Path) -> None:
    path.write_text("the quick, brown\nfox", encoding="utf-8")


def json_list(path: Path) -> None:
    path.write_text("[1, 2]")


def broken_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.png", bytes(200))
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)


def tensors(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


def array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros((3, 2)))


KINDS = [missing, folder, empty, random_bytes, text, json_list, broken_zip, tensors, array]
# A folder is what a mirror is; what it lacks is downloaded.
CASES = [(name, kind) for name in PATHS for kind in KINDS if not (name.endswith("--mirror") and kind is folder)]


@pytest.mark.parametrize(("name", "kind"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_bad_files_are_named_in_one_line(inputs, tmp_path, monkeypatch, capsys, name, kind):
    (word,) = {word for word in PATHS[name] if "{bad}" in word}
    kind(tmp_path / word.format(bad="bad"))
    refused(fill(PATHS[name], bad=str(tmp_path / "bad"), **inputs), [str(tmp_path / "bad")], monkeypatch, capsys)
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_that_cannot_be_written_are_named_in_one_line(inputs, tmp_path, monkeypatch, capsys, name):
    (tmp_path / "file").touch()
    bad = tmp_path / "file" / "out.nc"
    refused(fill(OUTPUTS[name], bad=str(bad), **inputs), [str(tmp_path / "file")], monkeypatch, capsys)
    bad = tmp_path / "taken.nc"
    bad.mkdir()
    refused(fill(OUTPUTS[name], bad=str(bad), **inputs), ["taken.nc"], monkeypatch, capsys)
    assert not list(tmp_path.rglob(".*.partial"))


@pytest.mark.parametrize("arguments", VALUES, ids=lambda arguments: " ".join(arguments[:1] + arguments[-2:]))
def test_bad_values_are_named_in_one_line(inputs, tmp_path, monkeypatch, capsys, arguments):
    message = refused(fill(arguments, **inputs), [], monkeypatch, capsys)
    assert any(word.format(**inputs) in message for word in arguments[-2:])
    assert not Path(inputs["out"]).exists()


def commands(group: typer.core.TyperGroup, words: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        known = group.lazy_commands[name].load(name) if hasattr(group, "lazy_commands") else command
        yield from commands(known, (*words, name)) if hasattr(known, "commands") else [" ".join((*words, name))]


def test_every_command_is_tried():
    tried = {" ".join(arguments) for arguments in [*PATHS.values(), *OUTPUTS.values(), *VALUES]}
    untried = {
        name for name in commands(typer.main.get_command(app)) if not any(words.startswith(name) for words in tried)
    }
    # These take no input; what they meet is tested in tests/brainscore.
    assert untried == {"brainscore link", "brainscore unlink", "brainscore status"}


def test_an_unforeseen_error_tells_what_to_report_and_a_variable_shows_the_traceback(inputs, monkeypatch, capsys):
    def fail(*arguments, **options):
        return {}["absent"]

    monkeypatch.setattr("neurobridge.study.pages.make.report", fail)
    status, _, message = call(["report", "results"], monkeypatch, capsys)
    assert status == 70
    assert message.count("\n") == 1
    for fact in ("KeyError: 'absent'", f"{DEBUG}=1 neurobridge report results", "Python 3", "numpy"):
        assert fact in message
    monkeypatch.setenv(DEBUG, "1")
    monkeypatch.setattr(sys, "argv", ["neurobridge", "report", "results"])
    with pytest.raises(KeyError, match="absent"):
        main()
    monkeypatch.setenv(DEBUG, "0")
    monkeypatch.setattr(sys, "argv", ["neurobridge", "--debug", "report", "results"])
    with pytest.raises(KeyError, match="absent"):
        main()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["data", "list", "--json"], ["--version"]])
def test_a_full_disk_is_said_in_one_line(inputs, monkeypatch, capsys, arguments):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        status, _, message = call(arguments, monkeypatch, capsys)
        monkeypatch.undo()
        # What could not be written may still be in the buffer.
        with suppress(OSError):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert status == 1
    assert "no space left on the disk" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("out", ["out.nc", "out.zarr"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_an_extraction_leaves_it_resumable(
    inputs, tmp_path, monkeypatch, capsys, request, out, number, status
):
    arguments = [*fill(OUTPUTS["extract --out"], bad=str(tmp_path / out), **inputs), "--batch-size", "1", "--json"]
    if out.endswith("zarr"):
        pytest.importorskip("zarr")

    class Ended(nn.Sequential):
        def forward(self, images):
            if len(calls) == 2:
                signal.raise_signal(number)
            calls.append(len(images))
            return super().forward(images)

    # A run that a shell put into the background ignores SIGINT.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, handler))
    calls: list[int] = []
    sys.modules["mine"].build = lambda: Ended(*build())
    ended, output, message = call(arguments, monkeypatch, capsys)
    assert (ended, output) == (status, "")
    assert "Traceback" not in message
    assert message.startswith("neurobridge: ")
    assert not (tmp_path / "out.nc").exists()
    calls.append(0)
    ended, output, _ = call(arguments, monkeypatch, capsys)
    assert ended == 0
    assert json.loads(output)["shape"] == [3, 4 * 6 * 6]
    if out.endswith("nc"):
        resumed = open_assembly(tmp_path / out).values
        sys.modules["mine"].build = build
        arguments[arguments.index(str(tmp_path / out))] = str(tmp_path / "whole.nc")
        call(arguments, monkeypatch, capsys)
        np.testing.assert_array_equal(resumed, open_assembly(tmp_path / "whole.nc").values)
    assert not [path for path in tmp_path.glob(".*") if path.suffix != ".lock"]


def test_stdout_is_json_whatever_else_is_printed(inputs, monkeypatch, capsys):
    def noisy():
        print("loading ...")
        warnings.warn("an old model", UserWarning, stacklevel=2)
        return build()

    sys.modules["mine"].build = noisy
    arguments = fill(OUTPUTS["extract --out"], bad=inputs["out"], **inputs)
    status, output, message = call([*arguments, "--json"], monkeypatch, capsys)
    assert status == 0
    assert json.loads(output)["shape"] == [3, 4 * 6 * 6]
    assert "loading ..." in message
    status, output, _ = call([*arguments, "--overwrite"], monkeypatch, capsys)
    assert status == 0
    assert "loading ..." in output


def test_numbers_that_json_cannot_hold_are_null(inputs, monkeypatch, capsys):
    monkeypatch.setattr(
        "neurobridge.evaluate.aggregate", lambda score: {"raw": float("nan"), "cells": [float("inf"), 1.0], "n": 3}
    )
    status, output, _ = call(
        ["score", inputs["good"], inputs["good"], "--regression", "ridge", "--json"], monkeypatch, capsys
    )
    assert status == 0
    summary = json.loads(output, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (summary["raw"], summary["cells"], summary["n"]) == (None, [None, 1.0], 3)
