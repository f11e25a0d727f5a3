"""The download of a file over HTTP: resumed where it stopped, retried with backoff, refused before it is too large."""

from __future__ import annotations

import json
import re
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import requests

from neurobridge._version import __version__
from neurobridge.points.progress import progress_bar
from neurobridge.store.atomic import write_json

# Attempts in a row that bring nothing new; each pause is twice the one before.
ATTEMPTS = 4
PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
# Seconds to connect, and between two pieces of the body.
TIMEOUT_S = (10.0, 30.0)
# Left free on the disk, so that other programs can go on.
RESERVE_BYTES = 64 * 2**20
_PIECE = 2**16
_PASSING = {408, 425, 429}


class DigestError(ValueError):
    """A file is not the one the manifest describes; it was kept aside, not used and not deleted."""


class DownloadError(OSError):
    """A file cannot be downloaded, and no other place has it."""


class _PassingError(Exception):
    """A failure that may have passed at the next attempt."""

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


def download(url: str, partial: Path, *, size: int | None, label: str, progress: bool = False) -> bool:
    """Download to ``partial``, going on from the bytes that it holds already, also those of a killed process.

    The server is asked for the rest with ``Range``, and with ``If-Range`` where it gave an ETag or a date, so that two
    versions of a file are not mixed; a server that ignores ranges sends everything anew. Beside ``partial`` lies
    ``<partial>.json`` with the address and the version that the bytes are from. The digest is the caller's to check.

    Parameters
    ----------
    url : str
    partial : path
        File to fill; its folder exists.
    size : int or None
        Bytes that the manifest states, compared with what the server announces before anything is read.
    label : str
        Name in messages and in the progress bar.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    bool
        True if the file was pieced together from more than one answer: a wrong digest may then be the pieces' fault.

    Raises
    ------
    DigestError
        The server announces, or sends, another number of bytes.
    DownloadError
        A permanent refusal (403, 404, ...), too little space on the disk, or several attempts in a row without a new byte.
    """
    state = partial.with_name(f"{partial.name}.json")
    pieced, failures = False, 0
    most = _length(partial)
    with (
        requests.Session() as session,
        progress_bar(total=size, desc=label, unit="B", unit_scale=True, unit_divisor=1024, progress=progress) as bar,
    ):
        while True:
            try:
                start = _start(url, partial, state, size)
                pieced |= start > 0
                _attempt(session, url, partial, state, start, size, label, bar)
                state.unlink(missing_ok=True)
                return pieced
            except (_PassingError, requests.RequestException) as error:
                if isinstance(error, (ValueError, requests.TooManyRedirects)):
                    # requests says with a ValueError that the address itself is wrong.
                    raise _refused(label, url, str(error)) from error
                failures = 1 if _length(partial) > most else failures + 1
                most = max(most, _length(partial))
                if failures >= ATTEMPTS:
                    raise DownloadError(
                        f"{label}: found no answer with the file at {url} in {ATTEMPTS} attempts ({error}); {most} bytes are kept. "
                        f"Mend: check "
                        "the connection and run again to go on from there, or take the file from a folder with --mirror."
                    ) from error
                requested = error.pause_s if isinstance(error, _PassingError) else 0.0
                pause = min(max(PAUSE_S * 2 ** (failures - 1), requested), LONGEST_PAUSE_S)
                warnings.warn(f"{url}: {error}; trying again in {pause:g} s.", UserWarning, stacklevel=2)
                time.sleep(pause)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _start(url: str, partial: Path, state: Path, size: int | None) -> int:
    """Return the number of bytes to go on from: those of the same address, and not more than the file has."""
    length = _length(partial)
    if length and (_read(state).get("url") != url or (size is not None and length > size)):
        partial.unlink()
        return 0
    return length


def _read(state: Path) -> dict[str, Any]:
    try:
        contents = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Absent, or cut off when a process was killed: then nothing is known of the bytes.
        return {}
    return contents if isinstance(contents, dict) else {}


def _attempt(
    session: requests.Session,
    url: str,
    partial: Path,
    state: Path,
    start: int,
    size: int | None,
    label: str,
    bar: Any,
) -> None:
    if size is not None and start == size:
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": f"neurobridge/{__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
        validator = _read(state).get("validator")
        headers |= {"If-Range": validator} if validator else {}
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        start, total = _accept(response, url, partial, start, label)
        if total is not None and size is not None and total != size:
            raise DigestError(
                f"{url}: found {total} bytes announced; expected {size}. Nothing was downloaded. Mend: the publisher may have "
                "changed the file; look for a newer manifest, or take the old file from a folder with --mirror."
            )
        if total is not None and total == start > 0:
            return
        _require_space(partial.parent, max(total or size or 0, 1) - start, label)
        if not start:
            _remember(state, url, response)
        bar.total = total or size
        bar.n = start
        bar.refresh()
        _pour(response, partial, start, size, label, bar)


def _accept(response: requests.Response, url: str, partial: Path, start: int, label: str) -> tuple[int, int | None]:
    """Return the position at which the body of an answer begins, and the length of the whole file where the server states it."""
    code = response.status_code
    content_range = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    total = int(content_range[2]) if content_range and content_range[2] != "*" else None
    if code == 416 and start:
        if total == start:
            return start, total
        partial.unlink()
        raise _PassingError(f"the server has no bytes after the {start} at hand; starting over")
    if code in _PASSING or code >= 500:
        raise _PassingError(f"found HTTP status {code}", _retry_after(response))
    if code == 206 and start:
        if not content_range or content_range[1] is None or int(content_range[1]) != start:
            partial.unlink()
            raise _PassingError(f"the server sent other bytes than those after the {start} at hand; starting over")
        return start, total
    if code != 200:
        raise _refused(label, url, f"HTTP status {code} {response.reason}")
    length = response.headers.get("Content-Length")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return 0, int(length) if length and length.isdigit() and not encoded else None


def _refused(label: str, url: str, why: str) -> DownloadError:
    return DownloadError(
        f"{label}: found {why} at {url}; expected the file. It was not tried again. Mend: check the address in the manifest and "
        "your access, or take the file from a folder with --mirror."
    )


def _retry_after(response: requests.Response) -> float:
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else 0.0


def _require_space(folder: Path, needed: int, label: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed + RESERVE_BYTES > free:
        raise DownloadError(
            f"{label}: found {free / 1e6:.1f} MB free in {folder}; expected {needed / 1e6:.1f} MB and "
            f"{RESERVE_BYTES / 1e6:.0f} MB to "
            "spare. Mend: make room, or set NEUROBRIDGE_HOME to a folder on a larger disk."
        )


def _remember(state: Path, url: str, response: requests.Response) -> None:
    tag = response.headers.get("ETag", "")
    # A weak ETag does not promise the same bytes.
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")
    write_json({"url": url, "validator": validator}, state)


def _pour(response: requests.Response, partial: Path, start: int, size: int | None, label: str, bar: Any) -> None:
    position = start
    # Unbuffered: what has arrived survives a killed process.
    with partial.open("ab" if start else "wb", buffering=0) as stream:
        for piece in response.iter_content(_PIECE):
            position += len(piece)
            if size is not None and position > size:
                raise DigestError(
                    f"{response.url}: found more than {size} bytes; expected {size}. Mend: the publisher may have changed "
                    f"the file; "
                    "look for a newer manifest, or take the old file from a folder with --mirror."
                )
            try:
                stream.write(piece)
            except OSError as error:
                raise DownloadError(
                    f"{label}: found that {partial} cannot be written ({error}); expected room and permission. Mend: make room, or "
                    "set NEUROBRIDGE_HOME to another folder."
                ) from error
            bar.update(len(piece))
    if size is not None and position < size:
        raise _PassingError(f"the connection ended after {position} of {size} bytes")
