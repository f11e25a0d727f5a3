"""Flows and checkpoints on disk: the same numbers back, after a kill as well, and files that do not fit refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from sklearn.base import clone

from neurobridge.flow import BASES, ODE, ConditionalFlow, FlowFileError, Training, VelocityMLP
from neurobridge.store.state import read_state, sealed, write_state
from tests.refusals import refused

undertrained = pytest.mark.filterwarnings("ignore::neurobridge.points.support.OffSupportWarning")


def _weights(flow):
    fields = [flow.forward_] if flow.backward_ is None else [flow.forward_, flow.backward_]
    return [value for field in fields for value in field.velocity.state_dict().values()]


def _small(n_dims, n_condition):
    return VelocityMLP(n_dims, n_condition, width=16, depth=1)


@undertrained
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("network", [None, _small])
def test_a_flow_that_is_loaded_gives_the_same_numbers(base, network, known, tmp_path):
    X, Y = known.spaces(n=80)
    training = Training(network=network, n_steps=30, validation=0.1, width=32)
    flow = ConditionalFlow(base, training=training, ode=ODE(n_steps=5, method="rk4"), seed=2)
    flow.fit(X, Y, known.Matching(80))
    assert flow.save(tmp_path / "kept") == tmp_path / "kept" / "flow.json"
    again = ConditionalFlow.load(tmp_path / "kept", network=network)
    for direction, points, other in (("forward", X, Y), ("backward", Y, X)):
        np.testing.assert_array_equal(again.transport(points, direction), flow.transport(points, direction))
        np.testing.assert_array_equal(again.off_support(3 * other, direction), flow.off_support(3 * other, direction))
        np.testing.assert_array_equal(again.start(points, direction), flow.start(points, direction))
    np.testing.assert_array_equal(again.losses_, flow.losses_)
    assert again.get_params() == flow.get_params()
    # Fitting the loaded flow anew is fitting the first one.
    np.testing.assert_array_equal(again.fit(X, Y, known.Matching(80)).losses_, flow.losses_)


def test_saving_again_replaces_and_leaves_others_alone(known, tmp_path):
    X, Y = known.spaces(n=40)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "flow-of-mine.safetensors").write_text("mine")
    for seed in (0, 1):
        ConditionalFlow(training=Training(n_steps=5, width=16), seed=seed).fit(X, Y, known.Matching(40)).save(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 5
    assert {".flow.lock", "notes.txt", "flow-of-mine.safetensors", "flow.json"} < set(names)
    assert ConditionalFlow.load(tmp_path).seed == 1
    for path in tmp_path.iterdir():
        assert not path.read_bytes().startswith(b"\x80"), "a pickle"


def _edit(path, **changes):
    header = json.loads(path.read_text())
    for key, value in changes.items():
        header[key] = value
    del header["digest"]
    path.write_bytes(sealed(header))


def test_files_that_do_not_fit_are_refused(known, tmp_path):
    X, Y = known.spaces(n=40)
    path = ConditionalFlow(training=Training(n_steps=5, width=16)).fit(X, Y, known.Matching(40)).save(tmp_path / "flow")
    text, weights = path.read_text(), path.parent / json.loads(path.read_text())["tensors"]
    payload = weights.read_bytes()

    def check(*facts, network=None):
        with refused(FlowFileError, *facts):
            ConditionalFlow.load(path.parent, network=network)
        path.write_text(text)
        weights.write_bytes(payload)

    with refused(FlowFileError, "flow.json"):
        ConditionalFlow.load(tmp_path)
    path.write_text("{")
    check("JSON")
    path.write_text("[1]")
    check("'list'", "'neurobridge flow'")
    _edit(path, kind="soup")
    check("'soup'", "'neurobridge flow'")
    _edit(path, format_version=99)
    check("version 99")
    _edit(path, n_source_dims=4)
    check("!= ")
    _edit(path, settings={**json.loads(text)["settings"], "width": 64})
    check("!= ", "network", "width", "depth")
    _edit(path, settings={"base": "affine"})
    check("'width'")
    _edit(path, shapes={})
    check("tensors")
    _edit(path, network="Mine")
    check("Mine", "load(folder, network=...)")
    check("tensors", network=_small)
    weights.write_bytes(payload[:-1] + b"x")
    check("digest")
    weights.unlink()
    with refused(FlowFileError, "safetensors"):
        ConditionalFlow.load(path.parent)


def test_a_write_that_is_cut_short_leaves_the_old_state(tmp_path, monkeypatch):
    old, new = {"a": torch.zeros(3)}, {"a": torch.ones(3)}
    write_state(tmp_path, "s", old, {"step": 1}, kind="test")
    replace = os.replace
    for stop_at in (0, 1):
        calls = []

        def cut(source, target, calls=calls, stop_at=stop_at):
            if len(calls) == stop_at:
                raise OSError("cut")
            calls.append(target)
            replace(source, target)

        monkeypatch.setattr(os, "replace", cut)
        with pytest.raises(OSError, match="cut"):
            write_state(tmp_path, "s", new, {"step": 2}, kind="test")
        tensors, header = read_state(tmp_path, "s", kind="test")
        assert header["step"] == 1
        assert torch.equal(tensors["a"], old["a"])
    monkeypatch.setattr(os, "replace", replace)
    write_state(tmp_path, "s", new, {"step": 2}, kind="test")
    assert len(list(tmp_path.iterdir())) == 3  # JSON, tensors, lock: the next write clears what was left behind


@pytest.mark.parametrize(("base", "stop"), [("affine", 35), ("affine", 64), ("pad", 65), ("noise", 95)])
@pytest.mark.parametrize("validation", [0.0, 0.2])
@undertrained
def test_a_run_that_is_interrupted_continues_to_the_same_weights(base, stop, validation, known, tmp_path, interrupted):
    X, Y = known.spaces(n=60)
    training = Training(
        n_steps=100, checkpoint_every=15, batch_size=32, width=16, depth=1,
        validation=validation, validate_every=12, patience=4,
    )  # fmt: skip
    whole = ConditionalFlow(base, training=training).fit(X, Y, known.Matching(60))
    kept = ConditionalFlow(base, training=training.replace(checkpoint=tmp_path))
    interrupted(stop, clone(kept), X, Y, known.Matching(60))
    resumed = clone(kept).fit(X, Y, known.Matching(60))
    assert resumed.resumed_at_["forward"] == stop // 15 * 15
    np.testing.assert_array_equal(resumed.losses_, whole.losses_)
    np.testing.assert_array_equal(resumed.validation_losses_, whole.validation_losses_)
    assert all(torch.equal(a, b) for a, b in zip(_weights(resumed), _weights(whole), strict=True))
    # A run that had ended is read, not trained again.
    again = clone(kept).fit(X, Y, known.Matching(60))
    assert set(again.resumed_at_.values()) == {len(whole.losses_)}
    assert all(torch.equal(a, b) for a, b in zip(_weights(again), _weights(whole), strict=True))


def _far(i, j):
    return np.zeros((len(i), len(j)))


def test_a_checkpoint_of_another_run_is_refused(known, tmp_path):
    X, Y = known.spaces(n=60)
    training = Training(n_steps=4, checkpoint=tmp_path, width=16)
    first = ConditionalFlow("pad", training=training).fit(X, Y, known.Matching(60))

    def check(*facts, points=X, coupling=known.Matching, **changes):
        with refused(FlowFileError, *facts):
            ConditionalFlow("pad", training=training.replace(**changes)).fit(points, Y, coupling(60))

    check("batch_size 256 != 7", batch_size=7)
    check("minibatch_cost None != ", "_far", minibatch_cost=_far)
    check("(data ", points=X**2)
    check("(data ", coupling=known.Independent)
    check("tensors", network=_small)
    anew = ConditionalFlow("pad", training=training.replace(n_steps=5, resume=False)).fit(X, Y, known.Matching(60))
    assert anew.resumed_at_ == {"forward": 0}
    assert not np.array_equal(anew.losses_[:4], first.losses_)


SCRIPT = textwrap.dedent(
    """
    import os, signal, sys, warnings
    import numpy as np
    import torch
    from neurobridge.flow import ConditionalFlow, Training

    folder, out = sys.argv[1:]
    kill, count, calls = "never", 0, 0

    def die_at(event):
        global calls
        if event == kill:
            calls += 1
            if calls == count:
                os.kill(os.getpid(), signal.SIGKILL)

    class Matching:
        anchors = np.arange(20), np.arange(20)

        def sample(self, n, rng):
            die_at("draw")
            rows = rng.integers(0, 60, n)
            return rows, rows

    replace = os.replace

    def replacing(source, target):
        die_at("write")
        replace(source, target)

    os.replace = replacing
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 3)), rng.normal(size=(60, 5))
    training = Training(n_steps=150, checkpoint_every=25, batch_size=32, width=16)
    kept = ConditionalFlow(training=training.replace(checkpoint=folder))
    # While the forward field writes its last checkpoint, after the tensors and before the JSON; then within the backward field.
    # A fork before anything is computed saves two imports of torch, and of what its first optimiser imports.
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    for kill, count in (("write", 12), ("draw", 5)):
        child = os.fork()
        if child == 0:
            kept.fit(X, Y, Matching())
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    kill = "never"
    kept.fit(X, Y, Matching()).save(out + "/resumed")
    ConditionalFlow(training=training).fit(X, Y, Matching()).save(out + "/whole")
    print(kept.resumed_at_)
    """
)


def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(tmp_path):
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "kept"), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    whole, resumed = (read_state(tmp_path / name, "flow", kind="neurobridge flow") for name in ("whole", "resumed"))
    assert whole[1]["sha256"] == resumed[1]["sha256"]
    assert all(torch.equal(whole[0][key], resumed[0][key]) for key in whole[0])
    assert done.stdout.strip() == "{'forward': 150, 'backward': 50}"
