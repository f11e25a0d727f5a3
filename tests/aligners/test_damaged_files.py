"""Files whose digests were made to fit their damage: an error of ours, or an aligner that maps."""

from __future__ import annotations

import copy
import hashlib
import json
import random

import numpy as np
import pytest
import safetensors.torch
import torch

from neurobridge.aligners import BridgeAligner, RelativeAligner, RidgeAligner, load
from neurobridge.aligners.storage import AlignerFileError
from neurobridge.flow import ConditionalFlow, FlowFileError, Training
from neurobridge.store.state import sealed

JUNK = (None, True, -1, 0, 1e400, float("nan"), "x", "", [], {}, [1, 2], {"a": 1}, "kernel-map", 10**30)
X = np.random.default_rng(0).normal(size=(30, 4))
Y = X[:, :3] + 0.1 * np.random.default_rng(1).normal(size=(30, 3))
PAIRS = np.arange(10), np.arange(10)


def places(tree, here=()):
    if here:
        yield here
    branches = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, branch in branches:
        yield from places(branch, (*here, key))


def damaged_header(header, draw):
    header = copy.deepcopy({name: value for name, value in header.items() if name != "digest"})
    *path, last = draw.choice(list(places(header)))
    branch = header
    for key in path:
        branch = branch[key]
    if isinstance(branch, dict) and draw.random() < 0.3:
        del branch[last]
    else:
        branch[last] = draw.choice(JUNK)
    return header


def damaged_tensors(tensors, draw):
    name = draw.choice(sorted(tensors))
    tensor = tensors[name]
    changes = (
        dict,
        lambda: {name: tensor.to(torch.int8)},
        lambda: {name: tensor.reshape(-1)[:-1].clone()},
        lambda: {name: torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else tensor[:0]},
        lambda: {name: tensor.new_zeros(())},
    )
    return {key: value for key, value in tensors.items() if key != name} | draw.choice(changes)()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    options = {"n_rounds": (1,), "kernel_rounds": (0,), "lams": (0.9,), "epsilons": (0.05,)}
    aligners = (
        RidgeAligner(),
        RelativeAligner(),
        BridgeAligner(map="barycentric", fuse_options=options),
        BridgeAligner(
            coupling="factored",
            map="flow",
            epsilon=0.5,
            flow_options={"training": Training(n_steps=2, width=4, depth=1)},
        ),
    )
    folders = []
    for aligner in aligners:
        folders.append(tmp_path_factory.mktemp("saved"))
        aligner.fit(X, Y, PAIRS).save(folders[-1])
    return folders


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_aligner_is_refused_or_maps(seed, saved, tmp_path):
    draw = random.Random(seed)
    folder = saved[seed % len(saved)]
    header = json.loads((folder / "aligner.json").read_text())
    payload = next(folder.glob("*.safetensors")).read_bytes()
    if draw.random() < 0.6:
        header = damaged_header(header, draw)
    else:
        tensors = damaged_tensors(safetensors.torch.load(payload), draw)
        payload = safetensors.torch.save(tensors)
        payload = payload if draw.random() < 0.7 else payload[: draw.randrange(len(payload))]
        header = {key: value for key, value in header.items() if key != "digest"}
        header |= {"sha256": hashlib.sha256(payload).hexdigest()}
        header["shapes"] = {key: list(value.shape) for key, value in tensors.items()}
    name = header.get("tensors")
    (tmp_path / (name if isinstance(name, str) and name else "none.safetensors")).write_bytes(payload)
    (tmp_path / "aligner.json").write_bytes(sealed(header))
    refusal, aligner = None, None
    try:
        aligner = load(tmp_path)
    except AlignerFileError as error:
        refusal = str(error)
    if aligner is None:
        assert str(tmp_path) in refusal
        assert "Mend" in refusal
        return
    assert np.isfinite(aligner.transform(X)).all()
    assert np.isfinite(aligner.inverse_transform(Y)).all()
    assert type(aligner).__name__ in repr(aligner)


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[" * 100_000, b"", b"{}", b"null", b'{"kind": 3}'])
def test_what_is_no_header_is_refused(content, tmp_path):
    for name, read, error in (
        ("aligner.json", load, AlignerFileError),
        ("flow.json", ConditionalFlow.load, FlowFileError),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(error, match=f"{name}.*Mend"):
            read(tmp_path)


def test_a_file_that_cannot_be_read_is_named(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pathlib.Path.read_bytes", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(AlignerFileError, match=r"aligner\.json.*\(Permission denied\)"):
        load(saved[0])
