"""One loader of weights: whatever a published file wraps them in, the right ones are loaded or none, and nothing is executed."""

from __future__ import annotations

import argparse
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel

from neurobridge.features import ModelError, load_weights, weights_digest


def make_net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Linear(4, 2)))
        net.norm.running_mean.normal_()
    return net


TRAINED = make_net(5)
STATE = TRAINED.state_dict()


def prefixed(prefix: str, state: dict = STATE) -> dict:
    return {prefix + name: value for name, value in state.items()}


def optimiser() -> dict:
    adam = torch.optim.Adam(make_net().parameters())
    for group in adam.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    adam.step()
    return adam.state_dict()


WITHOUT_COUNTERS = {name: value for name, value in STATE.items() if "num_batches" not in name}
PUBLISHED = {
    "plain": STATE,
    "DataParallel": {"state_dict": nn.DataParallel(TRAINED).state_dict()},
    "compiled": prefixed("_orig_mod."),
    "compiled and parallel": prefixed("module._orig_mod."),
    "a part compiled": {name.replace("conv.", "conv._orig_mod."): value for name, value in STATE.items()},
    "FSDP": prefixed("_fsdp_wrapped_module."),
    "Lightning": {"state_dict": prefixed("model."), "optimizer_states": [optimiser()], "epoch": 3},
    "optimiser beside": {"model": STATE, "optimizer": optimiser(), "epoch": 3, "rng": torch.get_rng_state()},
    "deep": {"checkpoint": {"generator": {"weights": STATE}}},
    "a prefix": prefixed("backbone."),
    "a prefix, before counters": {"model_state_dict": prefixed("module.encoder.", WITHOUT_COUNTERS)},
    "before counters": WITHOUT_COUNTERS,
    "arguments": {"model": STATE, "args": argparse.Namespace(lr=0.1, widths=[1, 2]), "best": np.float64(0.3)},
    "averaged": AveragedModel(TRAINED).state_dict(),
    "an equal copy": {"model": STATE, "ema": {name: value.clone() for name, value in STATE.items()}},
    "numbers between": {**STATE, "epoch": 3},
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_published_checkpoints_are_read(tmp_path, kind) -> None:
    torch.save(PUBLISHED[kind], tmp_path / "w.pth")
    assert weights_digest(load_weights(make_net(), tmp_path / "w.pth")) == weights_digest(TRAINED)


@given(
    prefix=st.lists(st.sampled_from(["module", "model", "_orig_mod", "net", "a", "weight"]), max_size=3),
    keys=st.lists(st.sampled_from(["state_dict", "model", "ema", "conv"]), max_size=3),
    has_counters=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_any_prefix_inside_any_keys(tmp_path_factory, prefix, keys, has_counters) -> None:
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    checkpoint = prefixed("".join(f"{part}." for part in prefix), STATE if has_counters else WITHOUT_COUNTERS)
    for key in keys:
        checkpoint = {key: checkpoint, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "epoch": 1}
    torch.save(checkpoint, path)
    assert weights_digest(load_weights(make_net(), path)) == weights_digest(TRAINED)


class Compiled(nn.Module):
    """Names its entries as torch.compile does, without a compiler."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model


@pytest.mark.parametrize("wrap", [nn.DataParallel, Compiled])
def test_a_wrapped_model_takes_the_weights_of_the_plain_one(tmp_path, wrap) -> None:
    torch.save(STATE, tmp_path / "w.pth")
    net = make_net()
    load_weights(wrap(net), tmp_path / "w.pth")
    assert weights_digest(net) == weights_digest(TRAINED)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("index", torch.arange(3), persistent=False)


def test_tied_weights_and_buffers_that_the_model_makes_itself(tmp_path) -> None:
    path, weight = tmp_path / "w.safetensors", torch.eye(3)
    safetensors.torch.save_file({"first.weight": weight, "index": torch.arange(3)}, path)
    assert torch.equal(load_weights(Tied(), path).second.weight, weight)
    safetensors.torch.save_file({"first.weight": weight, "index": torch.arange(3) + 1}, path)
    with pytest.raises(ModelError, match=r"1 unexpected \['index'\]"):
        load_weights(Tied(), path)


class WithHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.projection = TRAINED, nn.Linear(2, 2, bias=False)


def without(name: str) -> dict:
    return {key: value for key, value in STATE.items() if key != name}


@pytest.mark.parametrize(
    ("checkpoint", "facts"),
    [
        (without("head.bias"), r"1 missing.*\['head\.bias'\]"),
        (prefixed("module.", without("norm.running_mean")), r"1 missing.*\['norm\.running_mean'\]"),
        ({"model": {**STATE, "other": torch.zeros(1)}}, r"'model'.* 0 missing.* 1 unexpected \['other'\]"),
        ({**STATE, "head.bias": torch.zeros(6)}, r" 1 of another .*\['head\.bias'\]"),
        ({**STATE, "head.bias": torch.zeros(2, dtype=torch.int8)}, r" 1 of another .*\['head\.bias'\]"),
        ({**STATE, "head.bias": torch.zeros(2, dtype=torch.complex64)}, r" 1 of another .*\['head\.bias'\]"),
        (WithHead().state_dict(), r"1 unexpected \['projection\.weight'\]"),
        ({"model": STATE, "ema": make_net(1).state_dict()}, r"\['ema', 'model'\].*checkpoint\['ema'\]"),
        ({**prefixed("student."), **prefixed("teacher.", make_net(1).state_dict())}, " 8 unexpected"),
        ({"optimizer": optimiser()}, "dict"),
        ([1, 2], "list"),
        ({}, "dict"),
    ],
)
def test_other_weights_are_refused_and_change_nothing(tmp_path, checkpoint, facts) -> None:
    path = tmp_path / "w.pth"
    torch.save(checkpoint, path)
    net = make_net(2)
    with pytest.raises(ModelError, match=facts) as caught:
        load_weights(net, path)
    assert "Mend:" in str(caught.value)
    assert str(path) in str(caught.value)
    assert weights_digest(net) == weights_digest(make_net(2))


def test_one_of_two_sets_is_loaded_as_the_message_says(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": make_net(1).state_dict(), "ema": STATE}, "w.pth")
    with pytest.raises(ModelError) as caught:
        load_weights(make_net(), "w.pth")
    code = str(caught.value).partition("save one alone, ")[2].partition(", and load that")[0]
    exec(code, {"torch": torch})
    assert weights_digest(load_weights(make_net(), "weights.pth")) == weights_digest(TRAINED)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"PK\x03\x04junk", b"\x80\x02}q\x00.", b"\xff" * 99, bytes(range(256)) * 9]
)
def test_bytes_that_are_no_weights_are_refused(tmp_path, suffix, content) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=str(path)):
        load_weights(make_net(), path)


@given(place=st.floats(0, 1), value=st.integers(1, 255), keep=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_a_damaged_file_is_refused_or_read_whole(tmp_path_factory, place, value, keep) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    torch.save({"model": STATE, "epoch": 3}, folder / "w.pth")
    data = bytearray((folder / "w.pth").read_bytes())
    data[int(place * (len(data) - 1))] ^= value
    for content in (bytes(data), bytes(data[: int(keep * len(data))])):
        (folder / "w.pth").write_bytes(content)
        try:
            load_weights(make_net(), folder / "w.pth")
        except ModelError as error:
            assert "Mend:" in str(error)  # noqa: PT017


def test_missing_files_and_folders_are_refused(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.pt"):
        load_weights(make_net(), tmp_path / "gone.pt")
    for name in ("folder.pth", "folder.safetensors"):
        (tmp_path / name).mkdir()
        with pytest.raises(ModelError, match=name):
            load_weights(make_net(), tmp_path / name)


class Bomb:
    """Pickled, it asks for a folder to be made by whoever reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "pickle", "in arguments"])
def test_a_pickle_that_wants_code_executed_is_refused_and_nothing_runs(tmp_path, how) -> None:
    path, mark = tmp_path / "w.pt", tmp_path / "executed"
    bomb = argparse.Namespace(bomb=Bomb(mark)) if how == "in arguments" else Bomb(mark)
    if how == "pickle":
        path.write_bytes(pickle.dumps({"bomb": bomb}, protocol=2))
    else:
        torch.save({"model": STATE, "args": bomb}, path)
    with pytest.raises(ModelError, match=r"w\.pt"):
        load_weights(make_net(), path)
    assert not mark.exists()
