"""State on disk: any change shows, and who reads while others write has the old state or the new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from neurobridge.aligners import AlignerFileError, AssemblyAligner, RidgeAligner, load
from neurobridge.flow import ConditionalFlow, FlowFileError, Training
from neurobridge.store.errors import StateFileError
from neurobridge.store.state import read_state, whole, write_state


def _aligner(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(20, 2))
    return RidgeAligner(seed=seed).fit(X, X @ rng.normal(size=(2, 2)))


def _flow():
    X = np.random.default_rng(0).normal(size=(20, 2))

    class Matching:
        anchors = np.arange(8), np.arange(8)

        def sample(self, n, rng):
            rows = rng.integers(0, 20, n)
            return rows, rows

    return ConditionalFlow("pad", training=Training(n_steps=2, width=8, depth=0)).fit(X, X, Matching())


def _flips(text, positions):
    """One change of one character at each position: another digit for a digit, another letter, another blank."""
    for at in positions:
        old = text[at]
        new = str((int(old) + 1) % 10) if old.isdigit() else " \n"[old == " "] if old.isspace() else chr(ord(old) ^ 1)
        yield at, text[:at] + new + text[at + 1 :]


@pytest.mark.parametrize(
    ("saved", "name", "error", "loaded"),
    [
        (lambda: _aligner(0), "aligner.json", AlignerFileError, AssemblyAligner.load),
        (_flow, "flow.json", FlowFileError, ConditionalFlow.load),
    ],
    ids=["aligner", "flow"],
)
def test_a_change_of_any_character_is_refused(saved, name, error, loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    saved().save(tmp_path)
    path = tmp_path / name
    text = path.read_text()
    digits = [at for at, character in enumerate(text) if character.isdigit()]
    others = range(0, len(text), 7)
    for at, changed in _flips(text, sorted({*digits, *others, *range(120), len(text) - 1})):
        path.write_text(changed)
        with pytest.raises(error) as caught:
            loaded(tmp_path)
        assert "Mend" in str(caught.value), (at, text[max(0, at - 20) : at + 20])
    for changed in (text[:-1], text + " ", text.replace('"digest"', '"Digest"'), "", "{}", "[]"):
        path.write_text(changed)
        with pytest.raises(error):
            loaded(tmp_path)
    path.write_text(text)
    loaded(tmp_path)


def test_a_state_without_its_digest_is_no_state_of_0_1(tmp_path):
    path = write_state(tmp_path, "s", {"a": torch.zeros(2)}, {}, kind="test")
    header = json.loads(path.read_text())
    del header["digest"]
    path.write_text(json.dumps(header))
    with pytest.raises(StateFileError, match="found no digest"):
        read_state(tmp_path, "s", kind="test")


def test_saving_the_same_state_again_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b", "b"):
        _aligner(0).save(tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_damaged_file_is_mended_by_saving_again(tmp_path):
    _aligner(0).save(tmp_path)
    (weights,) = tmp_path.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(AlignerFileError, match="digest"):
        load(tmp_path)
    _aligner(0).save(tmp_path)
    load(tmp_path)


def test_a_read_only_folder_is_read_and_nothing_is_written_to_it(tmp_path):
    _aligner(0).save(tmp_path)
    (tmp_path / ".aligner.lock").unlink()
    before = sorted(tmp_path.iterdir())
    tmp_path.chmod(0o555)
    try:
        load(tmp_path)
    finally:
        tmp_path.chmod(0o755)
    assert sorted(tmp_path.iterdir()) == before


def test_a_reader_that_was_overtaken_reads_again(tmp_path):
    path = tmp_path / "s.json"
    path.write_text("0")
    seen = []

    def read():
        seen.append(path.read_text())
        if len(seen) < 5:
            fresh = tmp_path / "fresh"
            fresh.write_text(str(len(seen)))
            fresh.replace(path)
            raise StateFileError("overtaken")
        return seen[-1]

    assert whole(path, read) == "4"


def test_a_state_that_is_damaged_is_refused_soon(tmp_path):
    (tmp_path / "s.json").write_text("{")
    start = time.perf_counter()
    with pytest.raises(StateFileError, match="not JSON"):
        read_state(tmp_path, "s", kind="test")
    assert time.perf_counter() - start < 2


# ---- several processes


def _save_often(folder, seed, stop_at):
    torch.set_num_threads(1)
    aligner = _aligner(seed)
    while time.time() < stop_at:
        aligner.save(folder)


def _start(function, *args):
    """Start a function of this file in a process of its own, wherever the file lies."""
    code = f"import runpy; runpy.run_path({__file__!r})[{function.__name__!r}](*{args!r})"
    return subprocess.Popen([sys.executable, "-c", code])


def _ended(processes):
    return [process.wait(60) for process in processes]


@pytest.mark.slow
def test_two_processes_save_and_a_third_reads_a_whole_state_at_every_moment(tmp_path):
    _aligner(0).save(tmp_path)
    seeds = {0, 1}
    stop_at = time.time() + 12
    processes = [_start(_save_often, str(tmp_path), seed, stop_at) for seed in seeds]
    read = [load(tmp_path).seed for _ in iter(lambda: time.time() < stop_at, False)]
    assert _ended(processes) == [0, 0]
    assert set(read) == seeds
    assert len(read) > 50
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert not list(tmp_path.glob(".*.partial"))


def test_a_saver_that_is_killed_leaves_a_whole_state_and_the_next_one_sweeps(tmp_path):
    _aligner(0).save(tmp_path)
    assert _ended([_start(_killed_while_saving, str(tmp_path))]) == [7]
    assert load(tmp_path).seed == 0
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert len(list(tmp_path.glob(".*.partial"))) == 1
    _aligner(2).save(tmp_path)
    assert load(tmp_path).seed == 2
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert not list(tmp_path.glob(".*.partial"))


def _killed_while_saving(folder):
    replace = os.replace

    def dies(source, target):
        if str(target).endswith("aligner.json"):
            os._exit(7)
        replace(source, target)

    os.replace = dies
    _aligner(1).save(folder)
