"""Models by name and from disk: weights are data, programs keep what layers they can, and code in a pickle is not run.

timm and torchvision cannot be installed beside every torch; where they are absent, stand-ins with their interface take the same
path, and the tests of the real ones are skipped.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import pickle
import re
import sys
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import xarray as xr
from torch import nn

from neurobridge.assemblies import AssemblyError
from neurobridge.features import (
    ModelError,
    Preprocess,
    Program,
    extract,
    load_model,
    save_reference,
    train_reference,
    weights_digest,
)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.block(x).mean(dim=(2, 3))))


def make_net(seed: int = 0) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Net()
        net.block.norm.running_mean.normal_()
    return net.eval()


def make_images(n: int = 5) -> xr.DataArray:
    return xr.DataArray(
        np.random.default_rng(0).integers(0, 256, size=(n, 12, 12, 3), dtype=np.uint8),
        dims=("presentation", "row", "column", "channel"),
        coords={"stimulus_id": ("presentation", [f"im{k}" for k in range(n)])},
    )


@pytest.fixture
def importable(monkeypatch):
    """A module of one's own, `mine`, that builds networks."""
    module = types.ModuleType("mine")
    module.build, module.number = make_net, (lambda: 3)
    monkeypatch.setitem(sys.modules, "mine", module)


# ---- weights


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_disk_are_those_of_the_model(tmp_path, importable, suffix) -> None:
    trained, path = make_net(1), tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": trained.state_dict(), "epoch": 3}, path)
    else:
        safetensors.torch.save_file(trained.state_dict(), path)
    loaded = load_model("python:mine:build", weights=path)
    assert weights_digest(loaded.model) == weights_digest(trained) != weights_digest(make_net())
    assert loaded.identifier == f"python:mine:build + {path.name}"
    assert loaded.preprocess is None


# ---- programs


class Bomb:
    """Pickled, it asks for a file to be made by whoever reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "net.pt2"
    n = torch.export.Dim("n", min=1, max=4096)
    example = torch.zeros(2, 3, 12, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(make_net(), (example,), dynamic_shapes=({0: n},)), path)
        fixed = torch.export.export(make_net(), (example,))
        torch.export.save(fixed, path.with_name("fixed.pt2"))
    return path


@pytest.fixture(scope="module")
def scripted(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "net.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(make_net()).save(path)
    return path


def test_programs_are_read_where_they_are_trusted_alone(exported, scripted, monkeypatch) -> None:
    def read(*arguments: object, **options: object) -> None:
        raise AssertionError("a program was read")

    monkeypatch.setattr(torch.export, "load", read)
    monkeypatch.setattr(torch.jit, "load", read)
    for path in (exported, scripted):
        for options in ({}, {"trust": False}):
            with pytest.raises(ModelError, match=f"{path.name}.*trust=True.*--trust.*python:MODULE:NAME"):
                load_model(str(path), **options)
    with pytest.raises(AssertionError, match="a program was read"):
        load_model(str(scripted), trust=True)


def test_code_in_the_symbols_of_a_program_does_not_run(exported, tmp_path) -> None:
    mark, spoiled = tmp_path / "executed", tmp_path / "net.pt2"
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(spoiled, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith(".json"):
                code = json.dumps(f"__import__('os').mkdir({str(mark)!r})")
                data = re.sub(rb'"expr_str": *"[^"]*"', b'"expr_str": ' + code.encode(), data)
            target.writestr(entry, data)
    assert spoiled.read_bytes() != exported.read_bytes()
    with pytest.raises(ModelError, match=r"net\.pt2"):
        load_model(str(spoiled))
    assert not mark.exists()


def test_a_program_that_cannot_be_read_is_refused(exported, scripted, tmp_path) -> None:
    for path in (exported, scripted):
        spoiled = tmp_path / path.name
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(spoiled, "w") as target:
            for entry in source.infolist():
                is_data = entry.filename.endswith((".json", ".pkl", ".pt"))
                target.writestr(entry, b"{}" if is_data else source.read(entry))
        with pytest.raises(ModelError, match=path.name):
            load_model(str(spoiled), trust=True)


def test_an_exported_program_keeps_its_layers(exported) -> None:
    loaded, images = load_model(str(exported), trust=True), make_images()
    names = ["block.conv", "block", "head"]
    got = extract(loaded.model, images, names, batch_size=2, identifier=loaded.identifier)
    expected = extract(make_net(), images, names)
    np.testing.assert_allclose(got.values, expected.values, atol=1e-5)
    assert list(got.coords["neuroid_id"].values) == list(expected.coords["neuroid_id"].values)
    assert got.attrs["model"] == "net.pt2"
    assert got.attrs["weights_digest"] == expected.attrs["weights_digest"]
    with pytest.raises(AssemblyError, match=r"'block.cnv'.*'block.conv'"):
        extract(loaded.model, images, "block.cnv")


def test_an_exported_program_for_one_batch_size_is_refused(exported) -> None:
    with pytest.raises(ModelError, match=r"\(2, 3, 12, 12\).*dynamic_shapes"):
        load_model(str(exported.with_name("fixed.pt2")), trust=True)


def test_code_in_the_pickles_of_an_exported_program_is_refused(exported, tmp_path) -> None:
    mark, spoiled = tmp_path / "executed", tmp_path / "net.pt2"
    buffer = io.BytesIO()
    torch.save((Bomb(mark),), buffer)
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(spoiled, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(entry, buffer.getvalue() if "sample_inputs" in entry.filename else data)
    with pytest.raises(ModelError, match=r"net\.pt2"):
        load_model(str(spoiled), trust=True)
    assert not mark.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(spoiled, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, source.read(entry))
        target.writestr("net/data/constants/opaque_obj_0", pickle.dumps(Bomb(mark)))
    with pytest.raises(ModelError, match="opaque_obj_0"):
        load_model(str(spoiled), trust=True)


def test_torchscript_gives_its_output_and_says_why_no_more(scripted) -> None:
    loaded, images = load_model(str(scripted), trust=True), make_images()
    got = extract(loaded.model, images, "*", batch_size=2)
    assert got.attrs["layers"] == ["output"]
    np.testing.assert_allclose(got.values, extract(make_net(), images, "head").values, atol=1e-5)
    with pytest.raises(AssemblyError, match=r"(?s)'program.block'.*TorchScript"):
        extract(loaded.model, images, "program.block")
    with pytest.raises(AssemblyError, match=r"Program\(model\).*'output'"):
        extract(loaded.model.program, images, "block")
    assert isinstance(loaded.model, Program)


def test_programs_that_differ_in_code_alone_have_other_keys(scripted, tmp_path) -> None:
    class Twice(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.drop(self.block(x).mean(dim=(2, 3)))) * 2

    twice = Twice().eval()
    twice.load_state_dict(make_net().state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(twice).save(tmp_path / "net.ts")
    keys = set()
    for path in (scripted, tmp_path / "net.ts", scripted):
        loaded = load_model(str(path), trust=True)
        keys.add(extract(loaded.model, make_images(), "output", cache=tmp_path).attrs["extraction_key"])
    assert len(keys) == 2


def test_a_program_loaded_again_hits_the_cache(exported, tmp_path) -> None:
    keys = [
        extract(load_model(str(exported), trust=True).model, make_images(), "head", cache=tmp_path).attrs[
            "extraction_key"
        ]
        for _ in range(2)
    ]
    assert keys[0] == keys[1]


def test_torchscript_programs_that_differ_in_an_attribute_alone_have_other_keys(tmp_path) -> None:
    class Gained(Net):
        def __init__(self, gain: float) -> None:
            super().__init__()
            self.gain = gain

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.drop(self.block(x).mean(dim=(2, 3)))) * self.gain

    keys = []
    for gain in (2.0, 3.0, 2.0):
        model = Gained(gain).eval()
        model.load_state_dict(make_net().state_dict())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(model).save(tmp_path / "net.ts")
        loaded = load_model(str(tmp_path / "net.ts"), trust=True)
        keys.append(extract(loaded.model, make_images(), "output", cache=tmp_path).attrs["extraction_key"])
    assert keys[0] == keys[2] != keys[1]


def test_weights_beside_a_program_are_refused(exported) -> None:
    with pytest.raises(ModelError, match=r"w\.safetensors.*net\.pt2"):
        load_model(str(exported), weights="w.safetensors")


# ---- names


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet50", "'resnet50'.*timm:NAME"),
        ("python:mine:gone", "mine:gone"),
        ("python:not_there:build", "not_there:build.*PYTHONPATH=\\. "),
        ("python:", "python:MODULE:NAME"),
        ("python:mine:number", "mine:number.* int"),
    ],
)
def test_names_that_are_no_models_are_refused(importable, spec, message) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(spec)
    assert "Mend:" in str(caught.value)


def test_a_file_of_python_code_is_answered_with_the_name_to_use(tmp_path) -> None:
    path = tmp_path / "mymodel.py"
    path.write_text("def build(): ...\n")
    with pytest.raises(ModelError, match=rf"mymodel\.py.*python:mymodel:NAME.*PYTHONPATH={tmp_path}"):
        load_model(str(path))


def test_a_reference_folder_comes_with_its_preprocessing(tmp_path) -> None:
    reference = train_reference("gabor_energy", make_images(), preprocess=Preprocess(size=64))
    save_reference(reference, tmp_path / "kept")
    loaded = load_model(str(tmp_path / "kept"))
    assert weights_digest(loaded.model) == weights_digest(reference.model)
    assert loaded.preprocess == reference.preprocess
    assert loaded.identifier == reference.card["name"]


def test_a_file_that_is_no_program_is_refused(tmp_path) -> None:
    torch.save(make_net().state_dict(), tmp_path / "w.pt")
    (tmp_path / "text").write_text("hello")
    for name in ("w.pt", "text"):
        with pytest.raises(ModelError, match=f"{name}.*weights="):
            load_model(str(tmp_path / name))


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_missing_package_names_the_extra(monkeypatch, package) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} .*neurobridge\[vision\]"):
        load_model(f"{package}:resnet18")


@pytest.fixture
def stand_in_timm(monkeypatch):
    """The part of timm that is used, over a local module."""
    timm = types.ModuleType("timm")
    timm.is_model = lambda name: name == "tiny"
    timm.list_models = lambda pattern: ["tiny"]
    timm.asked = []

    def create_model(name: str, *, pretrained: bool) -> nn.Module:
        timm.asked.append((name, pretrained, os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")))
        return make_net()

    timm.create_model = create_model
    config = {
        "input_size": (3, 10, 10),
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.2, 0.2),
        "crop_pct": 0.9,
        "interpolation": "bicubic",
    }
    timm.config = config
    timm.data = types.SimpleNamespace(resolve_model_data_config=lambda model: config)
    monkeypatch.setitem(sys.modules, "timm", timm)
    return timm


def test_timm_names_come_with_their_preprocessing(stand_in_timm, tmp_path) -> None:
    loaded = load_model("timm:tiny")
    assert stand_in_timm.asked == [("tiny", True, "1")]
    assert loaded.preprocess == Preprocess(
        size=(10, 10),
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.2),
        grayscale=False,
        crop=0.9,
        interpolation="bicubic",
    )
    assert extract(loaded.model, make_images(), "head", preprocess=loaded.preprocess).shape == (5, 5)
    safetensors.torch.save_file(make_net(1).state_dict(), tmp_path / "w.safetensors")
    replaced = load_model("timm:tiny", weights=tmp_path / "w.safetensors")
    assert stand_in_timm.asked[1][1] is False
    assert weights_digest(replaced.model) == weights_digest(make_net(1))
    assert replaced.preprocess == loaded.preprocess
    with pytest.raises(ModelError, match=r"'tinny'.*\['tiny'\]"):
        load_model("timm:tinny")


@pytest.mark.parametrize(("mode", "share", "crop"), [("center", 1.0, 1.0), ("center", 0.9, 0.9), ("squash", 1.0, None)])
def test_timm_crops_that_can_be_declared_are(stand_in_timm, mode, share, crop) -> None:
    stand_in_timm.config.update(crop_mode=mode, crop_pct=share)
    assert load_model("timm:tiny").preprocess.crop == crop


@pytest.mark.parametrize(("mode", "share"), [("squash", 0.9), ("border", 1.0), ("border", 0.9)])
def test_timm_crops_that_cannot_be_declared_are_refused(stand_in_timm, mode, share) -> None:
    stand_in_timm.config.update(crop_mode=mode, crop_pct=share)
    with pytest.raises(ModelError, match=rf"timm:tiny.*'{mode}'.* {share}"):
        load_model("timm:tiny")


@pytest.fixture
def stand_in_torchvision(monkeypatch):
    """The part of torchvision that is used, over a local module."""
    shown = types.SimpleNamespace(
        crop_size=[8],
        resize_size=[10],
        mean=(0.1, 0.2, 0.3),
        std=(1.0, 1.0, 1.0),
        interpolation=types.SimpleNamespace(value="bilinear"),
    )
    default = types.SimpleNamespace(transforms=lambda: shown)
    asked = []
    models = types.SimpleNamespace(
        list_models=lambda module: ["tiny"],
        get_model_weights=lambda name: types.SimpleNamespace(DEFAULT=default),
        get_model=lambda name, weights: asked.append(weights) or make_net(),
    )
    module = types.ModuleType("torchvision")
    module.models, module.asked, module.default = models, asked, default
    monkeypatch.setitem(sys.modules, "torchvision", module)
    return module


def test_torchvision_names_come_with_their_preprocessing(stand_in_torchvision) -> None:
    loaded = load_model("torchvision:tiny")
    assert loaded.identifier == "torchvision:tiny"
    assert loaded.preprocess == Preprocess(size=8, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), grayscale=False, crop=0.8)
    load_model("torchvision:tiny", pretrained=False)
    assert stand_in_torchvision.asked == [stand_in_torchvision.default, None]
    with pytest.raises(ModelError, match=r"'tinyy'.*\['tiny'\]"):
        load_model("torchvision:tinyy")


@pytest.mark.parametrize("spec", ["timm:resnet18", "torchvision:resnet18"])
def test_real_packages_untrained(spec) -> None:
    try:
        importlib.import_module(spec.partition(":")[0])
    # A torchvision built for another torch fails with RuntimeError or AttributeError.
    except (ImportError, RuntimeError, AttributeError) as error:
        pytest.skip(f"extra vision: {error}")
    loaded = load_model(spec, pretrained=False)
    assert loaded.preprocess is not None
    assert loaded.preprocess.size == (224, 224)
    got = extract(loaded.model, make_images(2), ["layer1.0", "layer4"], preprocess=loaded.preprocess, pooling="mean")
    assert (got.coords["layer"].values == "layer4").sum() == 512
