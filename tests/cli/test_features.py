"""`neurobridge features extract`: help, JSON, files in the assembly's form, and one message for each mistake."""

from __future__ import annotations

import json
import re
import sys
import types
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import xarray as xr
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from neurobridge.assemblies import open_assembly
from neurobridge.cli.app import app, main
from neurobridge.datasets import load
from neurobridge.features import GaborEnergy, extract


def build() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 5))


@pytest.fixture
def stimuli(tmp_path, monkeypatch):
    """A csv beside its images, a second one with other images, and an importable model."""
    module = types.ModuleType("mine")
    module.build = build
    monkeypatch.setitem(sys.modules, "mine", module)
    rng = np.random.default_rng(0)
    for name, n in (("shown", 6), ("other", 12)):
        for k in range(n):
            Image.fromarray(rng.integers(0, 256, size=(16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{name}{k}.png")
        files = [f"{name}{k}.png" for k in range(n)]
        table = pd.DataFrame({"stimulus_id": range(100, 100 + n), "file": files, "object_name": ["a", "b"] * (n // 2)})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def run(folder, *arguments, code=0):
    fixed = ["features", "extract", "--model", "python:mine:build", "--stimuli", folder / "shown.csv"]
    result = CliRunner().invoke(app, [str(part) for part in (*fixed, "--out", folder / "out.nc", *arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def fail(folder, monkeypatch, capsys, *arguments) -> str:
    """Message on stderr of a call that ends with exit code 1."""
    fixed = ["neurobridge", "features", "extract", "--model", "python:mine:build", "--stimuli", folder / "shown.csv"]
    fixed += ["--out", folder / "out.nc", "--layer", "4"]
    monkeypatch.setattr(sys, "argv", [str(part) for part in (*fixed, *arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert "Mend:" in message
    assert "Traceback" not in message
    return message


def test_help_names_the_options() -> None:
    text = CliRunner().invoke(app, ["features", "extract", "--help"], env={"COLUMNS": "200"}).stdout
    for option in ("--json", "--seed", "--out", "--mirror", "--layer", "--pooling", "--weights"):
        assert option in text


def test_extract_writes_an_assembly_and_says_what_it_is(stimuli) -> None:
    arguments = [
        "--layer",
        "0",
        "--layer",
        "4",
        "--size",
        12,
        "--mean",
        "0.5",
        "--visual-degrees",
        8,
        "--batch-size",
        4,
    ]
    summary = json.loads(run(stimuli, *arguments, "--json"))
    assembly = open_assembly(stimuli / "out.nc")
    assert summary["shape"] == list(assembly.shape) == [6, 4 * 10 * 10 + 5]
    assert summary["layers"] == ["0", "4"]
    assert summary["model"] == "python:mine:build"
    assert summary["extraction_key"] == assembly.attrs["extraction_key"]
    assert json.loads(summary["preprocessing"])["mean"] == [0.5]
    assert assembly.attrs["visual_degrees"] == 8
    assert list(assembly.coords["stimulus_id"].values) == [str(k) for k in range(100, 106)]
    assert list(assembly.coords["object_name"].values) == ["a", "b"] * 3
    again = json.loads(run(stimuli, *arguments, "--json"))
    assert again["extraction_key"] == summary["extraction_key"]
    told = run(stimuli, *arguments)
    assert "6 stimuli" in told
    assert summary["weights_digest"] not in told


def test_weights_from_a_file(stimuli) -> None:
    state = {name: value * 0 for name, value in build().state_dict().items()}
    safetensors.torch.save_file(state, stimuli / "w.safetensors")
    summary = json.loads(run(stimuli, "--layer", "4", "--weights", stimuli / "w.safetensors", "--json"))
    assert summary["model"] == "python:mine:build + w.safetensors"
    assert not open_assembly(stimuli / "out.nc").values.any()


@pytest.mark.parametrize(("pooling", "width"), [("mean", 4), ("sparse:7", 7), ("gaussian:7", 7)])
def test_poolings(stimuli, pooling, width) -> None:
    summary = json.loads(run(stimuli, "--layer", "0", "--pooling", pooling, "--json"))
    assert summary["shape"] == [6, width]


def test_several_poolings_of_one_run(stimuli) -> None:
    arguments = ["--layer", "0", "--pooling", "mean", "--pooling", "sparse:7", "--json"]
    summary = json.loads(run(stimuli, *arguments))
    assert summary["shape"] == [6, 4 + 7]
    assert summary["pooling"][0] == "mean"
    assert open_assembly(stimuli / "out.nc")["pooling"].values.tolist() == ["mean"] * 4 + ["sparse:7"] * 7


def test_components_are_fitted_on_other_images_and_kept(stimuli) -> None:
    arguments = ["--layer", "0", "--pooling", "pca:3", "--pca", stimuli / "pca.safetensors", "--json"]
    fitted = json.loads(run(stimuli, *arguments, "--fit-on", stimuli / "other.csv"))
    assert fitted["shape"] == [6, 3]
    assert json.loads(fitted["pooling"])["pca"]["n_fitted_on"] == 12
    kept = json.loads(run(stimuli, *arguments))
    assert kept["extraction_key"] == fitted["extraction_key"]


def test_images_of_a_dataset(stimuli, monkeypatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 16, 16, 3), dtype=np.uint8)
    images = xr.DataArray(
        pixels,
        dims=("presentation", "row", "column", "channel"),
        coords={"stimulus_id": ("presentation", list("abcde"))},
    )
    asked = []

    def load(name, *, mirror):
        asked.append((name, mirror))
        return types.SimpleNamespace(images=images)

    monkeypatch.setattr("neurobridge.datasets.load", load)
    summary = json.loads(run(stimuli, "--stimuli", "some-dataset", "--mirror", stimuli, "--layer", "4", "--json"))
    assert asked == [("some-dataset", stimuli)]
    np.testing.assert_array_equal(open_assembly(summary["out"]).values, extract(build(), images, "4").values)


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--pooling", "max"], ["--pooling", "'max'", "pca:K"]),
        (["--pooling", "pca:3"], ["--fit-on", "--pca"]),
        (["--mean", "a,b"], ["--mean", "'a,b'"]),
        (["--stimuli", "gone.csv"], ["gone.csv"]),
        (["--stimuli", "clip-class-text", "--root", "."], ["--root", "'clip-class-text'"]),
        (["--layer", "conv"], ["'conv'"]),
        (["--weights", "gone.pt"], ["gone.pt"]),
        (["--dtype", "float16"], ["float16", ".zarr"]),
        (["--pooling", "pca:3", "--pooling", "pca:2"], ["pca 2 times"]),
    ],
)
def test_mistakes_are_one_message(stimuli, monkeypatch, capsys, arguments, facts) -> None:
    message = fail(stimuli, monkeypatch, capsys, *arguments)
    assert all(fact in message for fact in facts)


def test_components_that_saw_the_stimuli_or_are_of_another_number_are_refused(stimuli, monkeypatch, capsys) -> None:
    same = ["--layer", "0", "--pooling", "pca:3", "--fit-on", stimuli / "shown.csv"]
    assert "6 images" in fail(stimuli, monkeypatch, capsys, *same)
    file = stimuli / "pca.safetensors"
    run(stimuli, "--layer", "0", "--pooling", "pca:3", "--pca", file, "--fit-on", stimuli / "other.csv")
    other = ["--layer", "0", "--pooling", "pca:4", "--pca", file]
    assert "3 components" in fail(stimuli, monkeypatch, capsys, *other)


def test_a_dataset_without_images_is_refused(stimuli, monkeypatch, capsys) -> None:
    nothing = types.SimpleNamespace(images=None)
    monkeypatch.setattr("neurobridge.datasets.load", lambda name, mirror: nothing)
    assert "'x'" in fail(stimuli, monkeypatch, capsys, "--stimuli", "x")


@pytest.mark.realdata
def test_real_images_of_cowley2023(mirror, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NEUROBRIDGE_QUIET", "1")

    def every_fifth(name, **options):
        return SimpleNamespace(images=load(name, **options).images[::5])

    monkeypatch.setattr("neurobridge.datasets.load", every_fifth)
    fixed = ["features", "extract", "--model", "python:neurobridge.features:GaborEnergy", "--layer", "v1"]
    arguments = ["--stimuli", "cowley2023-v4-210325", "--mirror", mirror, "--out", tmp_path / "a.nc", "--json"]
    result = CliRunner().invoke(app, [*fixed, *map(str, arguments)])
    assert result.exit_code == 0, (result.output, result.exception)
    assert json.loads(result.stdout)["shape"] == [128, 384]
    streamed, images = open_assembly(tmp_path / "a.nc"), every_fifth("cowley2023-v4-210325", mirror=mirror).images[:64]
    np.testing.assert_allclose(streamed.values[:64], extract(GaborEnergy(), images, "v1").values, rtol=1e-5, atol=1e-6)


def test_a_program_needs_trust_and_the_help_says_why(stimuli, monkeypatch, capsys) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(build()).save(stimuli / "net.ts")
    message = fail(stimuli, monkeypatch, capsys, "--model", stimuli / "net.ts")
    assert "--trust" in message
    assert "net.ts" in message
    summary = json.loads(run(stimuli, "--model", stimuli / "net.ts", "--trust", "--layer", "output", "--json"))
    assert summary["shape"] == [6, 5]
    text = CliRunner().invoke(app, ["features", "extract", "--help"], env={"COLUMNS": "300"}).stdout
    assert re.search(r"--trust.*code", text)


def test_axes_are_given_by_layer(stimuli, monkeypatch, capsys) -> None:
    summary = json.loads(run(stimuli, "--layer", "0", "--axes", "0=presentation,channel,column,row", "--json"))
    assembly = open_assembly(summary["out"])
    assert json.loads(assembly.attrs["axes"]) == {"0": ["presentation", "channel", "column", "row"]}
    for axes in ("0", "0=presentation,channel,height,width", "9=presentation,channel"):
        assert axes[0] in fail(stimuli, monkeypatch, capsys, "--axes", axes)
    twice = fail(stimuli, monkeypatch, capsys, "--axes", "4=presentation,channel", "--axes", "4=presentation,token")
    assert "4=presentation,token" in twice


def test_a_table_with_the_index_column_of_pandas_is_shown(stimuli) -> None:
    table = pd.read_csv(stimuli / "shown.csv").assign(**{"size/deg": 8.0, "object name": "x"})
    table.to_csv(stimuli / "shown.csv")
    run(stimuli, "--layer", "4", "--json")
    read = open_assembly(stimuli / "out.nc")
    assert {"size/deg", "object name"} <= set(read.coords)


def test_columns_with_names_of_the_units_are_refused_before_the_work(stimuli, monkeypatch, capsys) -> None:
    pd.read_csv(stimuli / "shown.csv").assign(row=1, layer="fg").to_csv(stimuli / "shown.csv", index=False)
    monkeypatch.setattr(nn.Sequential, "forward", None)
    assert "['layer', 'row']" in fail(stimuli, monkeypatch, capsys)
    assert not (stimuli / "out.nc").exists()


def test_a_zarr_of_extract_is_aligned(stimuli) -> None:
    pytest.importorskip("zarr", minversion="3")
    run(stimuli, "--layer", "4", "--out", stimuli / "out.zarr", "--dtype", "float16")
    run(stimuli, "--layer", "0")
    files = [stimuli / "out.zarr", stimuli / "out.nc", "--method", "ridge", "--out", stimuli / "moved.zarr"]
    result = CliRunner().invoke(app, ["align", *map(str, files)])
    assert result.exit_code == 0, (result.output, result.exception)
    assert open_assembly(stimuli / "moved.zarr").sizes == open_assembly(stimuli / "out.nc").sizes
