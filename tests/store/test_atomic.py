"""Files and folders appear whole or not at all, and what dead processes left is swept."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from neurobridge.store.atomic import (
    OLD,
    atomic_folder,
    atomic_path,
    sweep_partials,
    write_bytes,
    write_json,
    write_text,
)

DIES = """
import os, sys
from neurobridge.store.atomic import atomic_folder, atomic_path
writer = atomic_folder if sys.argv[2] == "folder" else atomic_path
with writer(sys.argv[1]) as partial:
    (partial / "part" if partial.is_dir() else partial).write_text("half")
    os._exit(0)
"""
WAITS = """
import sys, time
from neurobridge.store.atomic import atomic_path
with atomic_path(sys.argv[1]) as partial:
    partial.write_text("half")
    print("written", flush=True)
    sys.stdin.readline()
"""


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole_into_a_folder_that_was_missing(tmp_path):
    assert write_bytes(tmp_path / "a" / "b.raw", b"\0\1").read_bytes() == b"\0\1"
    assert write_text(tmp_path / "a" / "c.txt", "Fläche").read_text(encoding="utf-8") == "Fläche"
    assert write_json({"x": [1, None]}, tmp_path / "a" / "d.json").read_text() == '{\n "x": [\n  1,\n  null\n ]\n}\n'
    assert _names(tmp_path / "a") == ["b.raw", "c.txt", "d.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.txt") as partial:
        assert partial.write_text("new") / 0
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(float("nan"), tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass  # nothing was written
    assert (tmp_path / "a.txt").read_text() == "old"
    assert _names(tmp_path) == ["a.txt"]


def test_a_folder_replaces_a_folder(tmp_path):
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "store") as partial:
            (partial / "sub").mkdir()
            (partial / "sub" / text).write_text(text)
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "store") as partial:
        assert (partial / "new").write_text("new") / 0
    assert _names(tmp_path) == ["store"]
    assert _names(tmp_path / "store" / "sub") == ["new"]


def test_a_read_only_file_is_published(tmp_path):
    with atomic_path(tmp_path / "a") as partial:
        partial.write_text("data")
        partial.chmod(0o444)
    assert not (tmp_path / "a").stat().st_mode & 0o222


def test_data_are_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(descriptor):
        events.append(os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2])
        fsync(descriptor)

    def noting_replace(source, target):
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    write_text(tmp_path / "a.txt", "x")
    assert events[0].startswith(".a.txt.")
    assert events[1:] == ["rename", tmp_path.name]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_dead_process_left_is_swept_by_the_next_write(kind, tmp_path):
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "a"), kind], check=True)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.")
    assert left.name.endswith(".partial")
    write_text(tmp_path / "b", "whole")
    assert _names(tmp_path) == ["b"]


def test_what_a_live_process_writes_is_left_alone(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(tmp_path / "a")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip() == "written"
    (partial,) = tmp_path.iterdir()
    os.utime(partial, (0, 0))
    assert sweep_partials(tmp_path) == []
    process.communicate("go on\n", timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "a").read_text() == "half"
    assert _names(tmp_path) == ["a"]


def test_partials_of_another_machine_are_swept_once_they_are_old(tmp_path):
    partial = tmp_path / f".a.{os.getpid()}-{'0' * 6}{'1' * 8}.partial"
    partial.write_text("half")
    # Not ours: a download to be resumed, and a user's file.
    others = [tmp_path / ".a.2020.partial", tmp_path / ".a.partial", tmp_path / "a.partial"]
    for other in others:
        other.write_text("mine")
        os.utime(other, (0, 0))
    assert sweep_partials(tmp_path) == []
    long_ago = time.time() - OLD - 60
    os.utime(partial, (long_ago, long_ago))
    assert sweep_partials(tmp_path) == [partial]
    assert _names(tmp_path) == sorted(other.name for other in others)


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    payloads = [bytes([k]) * 10_000 for k in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda payload: write_bytes(tmp_path / "a", payload), payloads * 4))
    assert (tmp_path / "a").read_bytes() in payloads
    assert _names(tmp_path) == ["a"]
    assert np.unique(np.frombuffer((tmp_path / "a").read_bytes(), np.uint8)).size == 1
