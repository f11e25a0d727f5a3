"""A web server on loopback that misbehaves to order, and datasets that it serves."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

CONTENT = np.random.default_rng(0).bytes(2**20)


@dataclass
class Source:
    """What the server holds, and how it serves it."""

    content: bytes = CONTENT
    ranges: bool = True
    etag: str | None = '"1"'
    # For successive requests: a status to fail with, or None.
    statuses: list[int | None] = field(default_factory=list)
    # For successive requests: body bytes after which the connection is cut, or None.
    cuts: list[int | None] = field(default_factory=list)
    # Seconds between pieces of 64 KiB.
    pause_s: float = 0.0
    # Seconds of silence after the cut, before the connection closes.
    stall_s: float = 0.0
    announced: int | None = None
    chunked: bool = False
    retry_after: str | None = None
    content_range: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        source: Source = self.server.source
        source.requests.append({key.lower(): value for key, value in self.headers.items()})
        self.close_connection = True
        status = source.statuses.pop(0) if source.statuses else None
        if status is not None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            if source.retry_after:
                self.send_header("Retry-After", source.retry_after)
            self.end_headers()
            return
        start, asked = 0, source.requests[-1].get("range")
        same = source.requests[-1].get("if-range", source.etag) == source.etag
        if asked and source.ranges and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(source.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(source.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            last, total = len(source.content) - 1, len(source.content)
            self.send_header("Content-Range", source.content_range or f"bytes {start}-{last}/{total}")
        else:
            self.send_response(200)
        if source.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(source.announced or len(source.content) - start))
        if source.etag:
            self.send_header("ETag", source.etag)
        self.send_header("Connection", "close")
        self.end_headers()
        self.pour(source, source.content[start:])

    def pour(self, source: Source, body: bytes) -> None:
        cut = source.cuts.pop(0) if source.cuts else None
        body = body if cut is None else body[:cut]
        try:
            for k in range(0, len(body), 2**16):
                piece = body[k : k + 2**16]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if source.chunked else piece)
                source.sent += len(piece)
                time.sleep(source.pause_s)
            if source.chunked:
                self.wfile.write(b"0\r\n\r\n")
            if cut is not None:
                time.sleep(source.stall_s)
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The client went away, as a killed one does.
            return

    def log_message(self, *arguments):
        pass


@pytest.fixture
def source():
    """The content and the behaviour of a server that is running at ``source.url``."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.source = Source(url=f"http://127.0.0.1:{server.server_port}/a.bin")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server.source
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache, no mirror, nothing of Brain-Score's, and no waiting between attempts."""
    monkeypatch.setenv("NEUROBRIDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BRAINIO_HOME", str(tmp_path / "brainio"))
    monkeypatch.delenv("NEUROBRIDGE_MIRROR", raising=False)
    monkeypatch.setattr("neurobridge.datasets.files.download.PAUSE_S", 0.0)
    return tmp_path / "home"


@pytest.fixture
def describe(tmp_path, monkeypatch):
    """Write the manifest of a dataset, "made" unless named, with one file "a.bin", into a folder of one's own."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    monkeypatch.setenv("NEUROBRIDGE_MANIFESTS", str(folder))

    def make(
        url: str | None,
        algorithms: tuple[str, ...] = ("sha256",),
        *,
        size: int | None = len(CONTENT),
        digests: tuple[str, ...] = (),
        name: str = "made",
        more: str = "",
    ) -> None:
        digests = (
            *digests,
            *(f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}" for algorithm in algorithms),
        )
        lines = [f'name = "{name}"', 'version = "1"', 'title = "made"', 'kind = "recorded"', 'access = "public"']
        lines += ['licence = "none stated"', 'citation = "@misc{x}"', 'note = "made"', 'post_processing = "none"', more]
        lines += ["[[files]]", 'name = "a.bin"', f"digests = {list(digests)}", 'origin = "supplied by the tester"']
        lines += [f'url = "{url}"'] if url else []
        lines += [f"size = {size}"] if size else []
        (folder / f"{name}.toml").write_text("\n".join(lines))

    return make
