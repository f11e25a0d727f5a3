"""Files from a mirror, the cache and a (local) public address: verified each time, never lost."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest

from neurobridge.datasets import DigestError, DownloadError, fetch, verify
from neurobridge.datasets.manifests import File, Manifest

CONTENT = b"responses of a site" * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    failures = 0
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        if self.path == "/flaky" and type(self).failures > 0:
            type(self).failures -= 1
            self.send_error(503)
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        content = b"something else" if self.path == "/changed" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    Handler.failures = Handler.requests = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROBRIDGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NEUROBRIDGE_MIRROR", raising=False)
    monkeypatch.setattr("neurobridge.datasets.files._PAUSE_S", 0.0)
    return tmp_path / "home"


@pytest.fixture
def describe(monkeypatch):
    """Pretend there is one dataset, "made", with one file."""

    def make(url: str | None, algorithms: tuple[str, ...] = ("sha256",), size: int | None = len(CONTENT)) -> None:
        digests = tuple(f"{name}:{hashlib.new(name, CONTENT).hexdigest()}" for name in algorithms)
        manifest = Manifest(
            name="made", version="1", title="made", kind="recorded", access="public", licence="none stated", citation="@misc{x}",
            note="made", files=(File(name="a.bin", url=url, size=size, digests=digests, origin="supplied by the tester"),),
        )  # fmt: skip
        monkeypatch.setattr("neurobridge.datasets.files.find_manifest", lambda name: manifest)

    return make


@pytest.mark.parametrize("algorithms", [("sha256",), ("md5",), ("sha1",), ("sha256", "md5")])
def test_download_is_verified_cached_and_not_repeated(server, home, describe, algorithms):
    describe(f"{server}/a", algorithms)
    path = fetch("made", progress=False)["a.bin"]
    assert path == home / "made" / "a.bin"
    assert path.read_bytes() == CONTENT
    assert fetch("made", progress=False)["a.bin"] == path
    assert Handler.requests == 1
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]
    assert verify("made") == {"a.bin": "ok"}


def test_a_progress_bar_is_shown(server, home, describe, capsys):
    describe(f"{server}/a")
    fetch("made")
    assert "100%" in capsys.readouterr().err


def test_a_wrong_download_is_kept_aside_and_not_used(server, home, describe):
    describe(f"{server}/changed", size=None)
    with pytest.raises(DigestError, match=r"changed: found sha256:.*; expected sha256:.*kept as .*\.bad-.*Mend"):
        fetch("made", progress=False)
    (kept,) = (home / "made").iterdir()
    assert kept.name.startswith(".bad-")
    assert kept.name.endswith("a.bin")
    assert kept.read_bytes() == b"something else"


def test_a_wrong_size_is_said(server, home, describe):
    describe(f"{server}/changed")
    with pytest.raises(DigestError, match=rf"found 14 bytes; expected {len(CONTENT)}"):
        fetch("made", progress=False)


def test_a_damaged_cache_is_set_aside_and_fetched_anew_on_the_next_call(server, home, describe):
    describe(f"{server}/a")
    path = fetch("made", progress=False)["a.bin"]
    damaged = b"X" + CONTENT[1:]
    path.write_bytes(damaged)
    assert verify("made")["a.bin"].startswith("sha256:")
    with pytest.raises(DigestError, match=r"a\.bin: found sha256:.*not used, and kept as \.bad-.*Mend: run again"):
        fetch("made", progress=False)
    assert [p.read_bytes() for p in path.parent.glob(".bad-*")] == [damaged]
    assert fetch("made", progress=False)["a.bin"].read_bytes() == CONTENT


def test_a_mirror_is_read_in_place_and_never_written_to(server, home, describe, tmp_path):
    describe(f"{server}/a")
    mirrored = tmp_path / "mirror" / "made" / "a.bin"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(CONTENT)
    assert fetch("made", mirror=tmp_path / "mirror")["a.bin"] == mirrored
    assert verify("made", mirror=tmp_path / "mirror") == {"a.bin": "ok"}
    mirrored.write_bytes(b"X" + CONTENT[1:])
    with pytest.raises(DigestError, match=r"It is not used, and left where it is.*Mend"):
        fetch("made", mirror=tmp_path / "mirror")
    assert mirrored.read_bytes() == b"X" + CONTENT[1:]
    assert Handler.requests == 0
    assert not home.exists()


def test_the_mirror_of_the_environment_is_used(home, describe, tmp_path, monkeypatch):
    describe(None)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a.bin").write_bytes(CONTENT)
    monkeypatch.setenv("NEUROBRIDGE_MIRROR", str(tmp_path))
    assert fetch("made")["a.bin"] == tmp_path / "made" / "a.bin"
    with pytest.raises(FileNotFoundError, match=r"found no folder at .*nowhere; expected a mirror.*Mend"):
        fetch("made", mirror=tmp_path / "nowhere")


def test_a_file_that_the_mirror_lacks_is_downloaded(server, home, describe, tmp_path):
    describe(f"{server}/a")
    assert fetch("made", mirror=tmp_path, progress=False)["a.bin"] == home / "made" / "a.bin"


def test_failures_are_retried_and_then_said(server, home, describe):
    describe(f"{server}/flaky")
    Handler.failures = 2
    with pytest.warns(UserWarning, match="attempt .* failed"):
        assert fetch("made", progress=False)["a.bin"].read_bytes() == CONTENT
    describe(f"{server}/missing")
    (home / "made" / "a.bin").unlink()
    with (
        pytest.warns(UserWarning, match="attempt"),
        pytest.raises(DownloadError, match=r"found no way to download .*missing in 3 attempts.*Mend.*--mirror"),
    ):
        fetch("made", progress=False)
    assert list((home / "made").iterdir()) == []


def test_a_file_without_an_address_has_to_be_supplied(home, describe):
    describe(None)
    assert verify("made") == {"a.bin": "missing"}
    with pytest.raises(
        DownloadError,
        match=r"no public address \(supplied by the tester\).*expected it to be supplied.*Mend: put it at",
    ):
        fetch("made")


def test_an_unknown_file_of_a_dataset_is_refused(home, describe):
    describe(None)
    with pytest.raises(ValueError, match=r"found a request for 'b.bin'; expected one of \['a.bin'\].*Mend"):
        fetch("made", files=["b.bin"])


@pytest.mark.realdata
def test_the_mirror_at_hand_is_whole(mirror):
    names = [folder.name for folder in Path(mirror).iterdir() if folder.is_dir()]
    found = {name: verify(name, mirror=mirror) for name in names}
    assert names
    assert all(status == "ok" for files in found.values() for status in files.values()), json.dumps(found, indent=1)
