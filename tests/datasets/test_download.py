"""The bad-server matrix: every way in which a download goes wrong ends in the right bytes or in one clear error."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from neurobridge.cli import main
from neurobridge.datasets import DigestError, DownloadError, fetch
from neurobridge.datasets.files import download as engine
from tests.refusals import refused

HALF = 2**19
pytestmark = pytest.mark.filterwarnings("ignore:http.*trying again:UserWarning")


@pytest.fixture
def content(source):
    return bytes(source.content)


def bring() -> bytes:
    return fetch("made", progress=False)["a.bin"].read_bytes()


def kept(home):
    return sorted(path.name for path in (home / "made").iterdir())


def test_good(source, home, describe, content):
    describe(source.url)
    assert bring() == content
    assert kept(home) == ["a.bin"]
    assert (home / "made" / "a.bin").stat().st_mode & 0o222 == 0
    assert bring() == content
    assert len(source.requests) == 1
    assert source.requests[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "range-less"])
@pytest.mark.parametrize("etag", ['"1"', 'W/"1"', None])
def test_truncated_is_completed(source, home, describe, content, ranges, etag):
    source.ranges, source.etag, source.cuts = ranges, etag, [HALF]
    describe(source.url)
    assert bring() == content
    start = int(source.requests[1]["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= HALF
    assert source.requests[1].get("if-range") == (etag if etag == '"1"' else None)
    assert source.sent <= HALF + len(content) - (start if ranges else 0)


def test_truncated_each_time_goes_on_as_long_as_bytes_come(source, home, describe, content):
    source.cuts = [2**17] * 20
    describe(source.url)
    assert bring() == content
    assert len(source.requests) > engine.ATTEMPTS


def test_truncated_without_end_fails_and_the_next_run_goes_on(source, home, describe, content):
    source.cuts = [HALF, *[0] * 10]
    describe(source.url)
    with refused(DownloadError, source.url, "4 attempts", "bytes"):
        bring()
    assert kept(home) == [".a.bin.partial", ".a.bin.partial.json"]
    source.cuts, source.sent = [], 0
    assert bring() == content
    assert source.sent < len(content)
    assert kept(home) == ["a.bin"]


def test_slow_but_steady(source, home, describe, content, monkeypatch):
    monkeypatch.setattr(engine, "TIMEOUT_S", (5.0, 0.5))
    source.pause_s = 0.05
    describe(source.url)
    assert bring() == content
    assert len(source.requests) == 1


def test_stalled_is_taken_up_again(source, home, describe, content, monkeypatch):
    monkeypatch.setattr(engine, "TIMEOUT_S", (5.0, 0.2))
    source.cuts, source.stall_s = [HALF], 1.0
    describe(source.url)
    assert bring() == content
    assert "range" in source.requests[1]


def test_wrong_digest_is_kept_aside_and_not_used(source, home, describe, content):
    source.content = content[::-1]
    describe(source.url)
    with refused(DigestError, source.url, "sha256:", ".bad-"):
        bring()
    (name,) = kept(home)
    assert name.startswith(".bad-")
    assert (home / "made" / name).read_bytes() == content[::-1]


def test_another_size_is_refused_before_anything_is_read(source, home, describe, content):
    source.content = content * 20
    describe(source.url)
    with refused(DigestError, source.url, 20 * len(content), len(content)):
        bring()
    assert kept(home) == []


def test_more_than_was_promised_is_cut_off(source, home, describe, content):
    source.content, source.chunked = content * 3, True
    describe(source.url)
    with refused(DigestError, source.url, f"more than {len(content)} bytes"):
        bring()
    assert not (home / "made" / "a.bin").exists()


def test_unannounced_length_is_fine_and_a_short_one_is_not(source, home, describe, content):
    source.chunked = True
    describe(source.url)
    assert bring() == content
    shutil.rmtree(home / "made")
    source.content = content[:HALF]
    with refused(DigestError, source.url, HALF, len(content)):
        bring()
    assert kept(home) == [".a.bin.partial", ".a.bin.partial.json"]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_permanent_refusal_is_not_tried_again(source, home, describe, status):
    source.statuses = [status]
    describe(source.url)
    with refused(DownloadError, source.url, status):
        bring()
    assert len(source.requests) == 1
    assert kept(home) == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again(source, home, describe, content, status):
    source.statuses = [status, status]
    describe(source.url)
    with pytest.warns(UserWarning, match=rf"{source.url}.*\b{status}\b"):
        assert bring() == content
    assert len(source.requests) == 3


def test_backoff_doubles_and_honours_retry_after(source, home, describe, monkeypatch):
    pauses = []
    monkeypatch.setattr(engine, "PAUSE_S", 1.0)
    monkeypatch.setattr(engine.time, "sleep", pauses.append)
    source.statuses = [500] * engine.ATTEMPTS
    describe(source.url)
    with pytest.raises(DownloadError):
        bring()
    assert pauses == [1.0, 2.0, 4.0]
    source.statuses, source.retry_after = [429, 429], "7"
    bring()
    assert [pause for pause in pauses[3:] if pause] == [7.0, 7.0]


def test_nobody_listens(home, describe):
    describe("http://127.0.0.1:9/a.bin")
    with refused(DownloadError, "http://127.0.0.1:9/a.bin", "4 attempts", "refused", "0 bytes"):
        bring()


def test_an_impossible_address_is_not_tried_again(home, describe):
    describe("http://[bad/a.bin")
    with refused(DownloadError, "http://[bad/a.bin"):
        bring()


def test_a_new_version_is_not_mixed_with_the_old_one(source, home, describe, content):
    old = bytes(reversed(content))
    source.content, source.cuts, source.etag = old, [HALF, *[0] * 10], '"old"'
    describe(source.url)
    with pytest.raises(DownloadError):
        bring()
    source.content, source.cuts, source.etag = content, [], '"new"'
    assert bring() == content
    assert source.requests[-1]["if-range"] == '"old"'


def test_a_resumed_file_that_is_wrong_is_fetched_whole(source, home, describe, content):
    source.etag = None
    describe(source.url)
    (home / "made").mkdir(parents=True)
    (home / "made" / ".a.bin.partial").write_bytes(b"x" * HALF)
    (home / "made" / ".a.bin.partial.json").write_text(json.dumps({"url": source.url, "validator": None}))
    with pytest.warns(UserWarning, match=r"made/a\.bin.*sha256:"):
        assert bring() == content
    assert [request.get("range") for request in source.requests] == [f"bytes={HALF}-", None]


@pytest.mark.parametrize("state", ["{", "[]", '{"url": "http://elsewhere.org/a.bin"}', None])
def test_bytes_of_unknown_origin_are_not_built_upon(source, home, describe, content, state):
    describe(source.url)
    (home / "made").mkdir(parents=True)
    (home / "made" / ".a.bin.partial").write_bytes(b"x" * HALF)
    if state is not None:
        (home / "made" / ".a.bin.partial.json").write_text(state)
    assert bring() == content
    assert "range" not in source.requests[0]


def test_a_whole_partial_needs_no_more_bytes(source, home, describe, content):
    for size in (len(content), None):
        describe(source.url, size=size)
        (home / "made").mkdir(parents=True)
        (home / "made" / ".a.bin.partial").write_bytes(content)
        (home / "made" / ".a.bin.partial.json").write_text(json.dumps({"url": source.url, "validator": '"1"'}))
        assert bring() == content
        shutil.rmtree(home / "made")
    assert source.sent == 0


def test_a_partial_that_is_too_long_starts_over(source, home, describe, content):
    describe(source.url, size=None)
    (home / "made").mkdir(parents=True)
    (home / "made" / ".a.bin.partial").write_bytes(content + b"x")
    (home / "made" / ".a.bin.partial.json").write_text(json.dumps({"url": source.url, "validator": '"1"'}))
    with pytest.warns(UserWarning, match=rf"{source.url}.*\b{len(content) + 1}\b"):
        assert bring() == content


def test_other_bytes_than_those_asked_for_start_over(source, home, describe, content):
    source.cuts, source.content_range = [HALF], f"bytes 7-{len(content) - 1}/{len(content)}"
    describe(source.url)
    with pytest.warns(UserWarning, match=rf"{source.url}.*\d+"):
        assert bring() == content


def test_too_little_disk_is_said_before_anything_is_written(source, home, describe, monkeypatch):
    describe(source.url)
    usage = shutil.disk_usage(".")._replace(free=engine.RESERVE_BYTES)
    monkeypatch.setattr(engine.shutil, "disk_usage", lambda folder: usage)
    with refused(DownloadError, "67.1 MB", "1.0 MB", "67 MB", home / "made"):
        bring()
    assert len(source.requests) == 1
    assert kept(home) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up_is_said_and_not_tried_again(source, home, describe):
    describe(source.url)
    (home / "made").mkdir(parents=True)
    (home / "made" / ".a.bin.partial").symlink_to("/dev/full")
    with refused(DownloadError, home / "made" / ".a.bin.partial", "No space left"):
        bring()
    assert len(source.requests) == 1


def start() -> subprocess.Popen[str]:
    """A process that is ready to fetch "made" and does so when a line is written to it."""
    code = (
        "from neurobridge.datasets import fetch; print('ready', flush=True); input(); "
        "print(fetch('made', progress=False)['a.bin'])"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)


def release(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_killed_process_is_taken_up_where_it_was(source, home, describe, content, number):
    source.pause_s = 0.2
    describe(source.url)
    process = start()
    release(process)
    partial = home / "made" / ".a.bin.partial"
    deadline = time.monotonic() + 120
    while not (partial.exists() and partial.stat().st_size > 2**17):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number
    length = partial.stat().st_size
    assert 0 < length < len(content)
    source.pause_s = 0.0
    assert bring() == content
    assert source.requests[-1]["range"] == f"bytes={length}-"
    assert kept(home) == ["a.bin"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_on_the_command_line_leaves_a_download_resumable(
    source, home, describe, content, monkeypatch, capsys, number, status
):
    describe(source.url)
    pieces = engine.requests.Response.iter_content

    def interrupted(response, size):
        for position, piece in enumerate(pieces(response, size)):
            if position == 3 and len(source.requests) == 1:
                signal.raise_signal(number)
            yield piece

    monkeypatch.setattr(engine.requests.Response, "iter_content", interrupted)
    monkeypatch.setattr(sys, "argv", ["neurobridge", "data", "fetch", "made", "--json"])
    for expected in (status, 0):
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == expected
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        assert (output.out == "") == (expected != 0)
        if expected:
            assert kept(home) == [".a.bin.partial", ".a.bin.partial.json"]
    assert json.loads(output.out) == {"made": {"a.bin": str(home / "made" / "a.bin")}}
    assert (home / "made" / "a.bin").read_bytes() == content
    assert source.requests[1]["range"] == f"bytes={3 * 2**16}-"
    assert kept(home) == ["a.bin"]


def test_two_processes_make_one_download(source, home, describe, content):
    source.pause_s = 0.1
    describe(source.url)
    first, second = start(), start()
    release(first, second)
    for process in (first, second):
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert out.strip() == str(home / "made" / "a.bin")
    assert len(source.requests) == 1
    assert hashlib.sha256((home / "made" / "a.bin").read_bytes()).digest() == hashlib.sha256(content).digest()
