"""Where files come from: a mirror, the cache, Brain-Score's folder, a (local) public address; verified each time, never lost."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import filelock
import pytest

from neurobridge.datasets import (
    DigestError,
    DownloadError,
    UnknownDatasetError,
    cache_folder,
    copy_to_mirror,
    fetch,
    list_datasets,
    locate,
    mirrored,
    path_of,
    verify,
)
from tests.refusals import refused


@pytest.fixture
def content(source):
    return bytes(source.content)


@pytest.fixture
def mirror_folder(tmp_path, content):
    """A mirror that holds "made"."""
    folder = tmp_path / "mirror"
    (folder / "made").mkdir(parents=True)
    (folder / "made" / "a.bin").write_bytes(content)
    return folder


@pytest.mark.parametrize("algorithms", [("sha256",), ("md5",), ("sha1",), ("sha256", "md5")])
def test_download_is_verified_cached_and_not_repeated(source, home, describe, content, algorithms):
    describe(source.url, algorithms)
    path = fetch("made", progress=False)["a.bin"]
    assert path == home / "made" / "a.bin" == path_of("made") / "a.bin"
    assert path.read_bytes() == content
    assert fetch("made", progress=False)["a.bin"] == path
    assert len(source.requests) == 1
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]
    assert verify("made") == {"a.bin": "ok"}
    assert locate("made") == {"a.bin": path}


def test_one_of_the_accepted_digests_is_enough_and_none_is_too_few(source, home, describe, content):
    other = "sha256:" + "0" * 64
    describe(source.url, digests=(other,))
    assert fetch("made", progress=False)["a.bin"].read_bytes() == content
    describe(source.url, (), digests=(other, "md5:" + "0" * 32))
    status = verify("made")["a.bin"]
    assert re.fullmatch(r"sha256:\w+, md5:\w+; expected sha256:0+ or md5:0+", status)


def test_a_progress_bar_is_shown_where_it_is_wanted(source, home, describe, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    describe(source.url)
    fetch("made")
    shown = capsys.readouterr()
    assert "100%" in shown.err
    assert shown.out == ""
    (home / "made" / "a.bin").unlink()
    fetch("made", progress=False)
    assert capsys.readouterr() == ("", "")


def test_one_waits_for_another_and_says_so(source, home, describe, content, monkeypatch, capsys):
    describe(source.url)
    (home / ".locks").mkdir(parents=True)
    other = filelock.FileLock(home / ".locks" / "made--a.bin.lock")
    other.acquire()
    asked = []

    def wait(lock, timeout=None, **_):
        asked.append(timeout)
        if timeout == 0:
            raise filelock.Timeout(lock.lock_file)
        # The other process is done.
        (home / "made" / "a.bin").write_bytes(content)
        other.release()

    monkeypatch.setattr(filelock.FileLock, "acquire", wait)
    assert fetch("made")["a.bin"].read_bytes() == content
    assert asked == [0, None]
    assert "waiting for another process" in capsys.readouterr().err
    assert source.requests == []


def test_a_damaged_cache_is_set_aside_and_fetched_anew_on_the_next_call(source, home, describe, content):
    describe(source.url)
    path = fetch("made", progress=False)["a.bin"]
    damaged = b"X" + content[1:]
    path.chmod(0o644)
    path.write_bytes(damaged)
    assert verify("made")["a.bin"].startswith("sha256:")
    with refused(DigestError, path, "sha256:", ".bad-"):
        fetch("made", progress=False)
    assert [p.read_bytes() for p in path.parent.glob(".bad-*")] == [damaged]
    assert fetch("made", progress=False)["a.bin"].read_bytes() == content


def test_a_mirror_is_read_in_place_and_never_written_to(source, home, describe, content, mirror_folder):
    describe(source.url)
    mirrored_file = mirror_folder / "made" / "a.bin"
    assert fetch("made", mirror=mirror_folder)["a.bin"] == mirrored_file
    assert verify("made", mirror=mirror_folder) == {"a.bin": "ok"}
    mirrored_file.write_bytes(b"X" + content[1:])
    with refused(DigestError, mirrored_file, "sha256:"):
        fetch("made", mirror=mirror_folder)
    assert mirrored_file.read_bytes() == b"X" + content[1:]
    assert source.requests == []
    assert not home.exists()


def test_a_mirror_is_copied_into_the_cache_where_that_is_asked(
    home, describe, content, mirror_folder, capsys, monkeypatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    describe(None)
    kept = fetch("made", mirror=mirror_folder, copy=True)["a.bin"]
    assert kept == home / "made" / "a.bin"
    assert kept.read_bytes() == content
    assert kept.stat().st_mode & 0o222 == 0
    assert "100%" in capsys.readouterr().err
    shutil.rmtree(mirror_folder)
    assert fetch("made")["a.bin"] == kept


def test_a_damaged_cache_is_replaced_from_the_mirror_aloud(home, describe, content, mirror_folder):
    describe(None)
    (home / "made").mkdir(parents=True)
    (home / "made" / "a.bin").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match=rf"7 bytes.*{len(content)}.*\.bad-"):
        fetch("made", mirror=mirror_folder, copy=True, progress=False)
    assert verify("made") == {"a.bin": "ok"}
    assert fetch("made", mirror=mirror_folder, copy=True, progress=False)["a.bin"] == home / "made" / "a.bin"


def test_the_mirror_of_the_environment_is_used(home, describe, mirror_folder, monkeypatch, tmp_path):
    describe(None)
    monkeypatch.setenv("NEUROBRIDGE_MIRROR", str(mirror_folder))
    assert fetch("made")["a.bin"] == mirror_folder / "made" / "a.bin"
    assert mirrored() == ["made"]
    with refused(FileNotFoundError, tmp_path / "nowhere", "--mirror"):
        fetch("made", mirror=tmp_path / "nowhere")


def test_what_a_mirror_holds(home, describe, mirror_folder, tmp_path):
    describe(None)
    (mirror_folder / "mnist").mkdir()
    assert mirrored(mirror_folder) == ["made"]
    with refused(FileNotFoundError, "--mirror", "NEUROBRIDGE_MIRROR"):
        mirrored()


def test_a_file_that_the_mirror_lacks_is_downloaded(source, home, describe, tmp_path):
    describe(source.url)
    assert fetch("made", mirror=tmp_path, progress=False)["a.bin"] == home / "made" / "a.bin"


def test_what_brain_score_downloaded_is_used_in_place(source, home, describe, content, tmp_path):
    describe(source.url, ("sha1",))
    theirs = tmp_path / "brainio" / hashlib.sha1(content).hexdigest() / "a.bin"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(content)
    assert fetch("made", progress=False)["a.bin"] == theirs
    assert verify("made") == {"a.bin": "ok"}
    assert source.requests == []
    assert not home.exists()


def test_a_damaged_file_of_brain_score_is_left_alone_and_not_used(source, home, describe, content, tmp_path):
    describe(source.url, ("sha1",))
    theirs = tmp_path / "brainio" / hashlib.sha1(content).hexdigest() / "a.bin"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"half")
    with pytest.warns(UserWarning, match=rf"4 bytes.*{len(content)}"):
        assert fetch("made", progress=False)["a.bin"] == home / "made" / "a.bin"
    assert theirs.read_bytes() == b"half"


def test_a_dataset_that_needs_another_fetches_it(source, home, describe):
    describe(source.url, name="base")
    describe(source.url, more='requires = {base = ["a.bin"]}')
    assert set(fetch("made", progress=False)) == {"a.bin"}
    assert (home / "base" / "a.bin").exists()


def test_a_file_without_an_address_has_to_be_supplied(home, describe):
    describe(None)
    assert verify("made") == {"a.bin": "missing"}
    assert locate("made") == {"a.bin": None}
    with refused(DownloadError, "supplied by the tester", home / "made" / "a.bin"):
        fetch("made")


def test_an_unknown_file_of_a_dataset_is_refused(home, describe):
    describe(None)
    with refused(ValueError, "'b.bin'", ["a.bin"]):
        fetch("made", files=["b.bin"])


@pytest.mark.parametrize("act", [path_of, verify, locate, fetch])
def test_unknown_datasets_are_refused(home, act):
    with refused(UnknownDatasetError, "'mnits'", "'mnist'"):
        act("mnits")


def test_the_default_cache_is_the_users(monkeypatch):
    monkeypatch.delenv("NEUROBRIDGE_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert "neurobridge" in cache_folder().parts


def test_a_cache_that_cannot_be_written_is_said(source, home, describe, tmp_path, monkeypatch):
    describe(source.url)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("NEUROBRIDGE_HOME", str(tmp_path / "file"))
    with refused(DownloadError, tmp_path / "file", "NEUROBRIDGE_HOME"):
        fetch("made", progress=False)
    assert source.requests == []


def test_copy_to_mirror_gives_a_mirror(source, home, describe, content, tmp_path):
    describe(source.url, name="base")
    describe(source.url, more='requires = {base = ["a.bin"]}')
    folder = tmp_path / "new" / "mirror"
    made = copy_to_mirror(folder, ["made"], progress=False)
    assert made == [folder / "made" / "a.bin", folder / "base" / "a.bin"]
    assert all(path.read_bytes() == content for path in made)
    assert mirrored(folder) == ["base", "made"]
    assert verify("made", mirror=folder) == {"a.bin": "ok"}
    assert copy_to_mirror(folder, ["made"], progress=False) == made
    made[0].chmod(0o644)
    made[0].write_bytes(b"other")
    with refused(DigestError, made[0], "5 bytes", len(content)):
        copy_to_mirror(folder, ["made"], progress=False)
    assert made[0].read_bytes() == b"other"


def test_copy_to_mirror_wants_names_and_room(home, describe, mirror_folder, tmp_path, monkeypatch):
    describe(None)
    with refused(ValueError, "neurobridge data list"):
        copy_to_mirror(tmp_path / "new", [])
    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with refused(DownloadError, "made/a.bin", "0.0 MB", "1.0 MB", tmp_path / "new"):
        copy_to_mirror(tmp_path / "new", ["made"], mirror=mirror_folder, progress=False)


@pytest.mark.realdata
def test_the_mirror_at_hand_is_whole(mirror):
    described = {manifest.name for manifest in list_datasets()}
    names = [folder.name for folder in Path(mirror).iterdir() if folder.name in described]
    assert names
    status = {name: verify(name, mirror=mirror) for name in names}
    assert names
    # A mirror may lack a file of a dataset; what it has is right.
    states = {state for files in status.values() for state in files.values()}
    assert states <= {"ok", "missing"}, json.dumps(status, indent=1)
    assert all("ok" in files.values() for files in status.values())
    assert mirrored(mirror) == sorted(names)
    assert set(names) <= {manifest.name for manifest in list_datasets()}
