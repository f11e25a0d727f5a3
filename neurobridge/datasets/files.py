"""Verified files: from a mirror, the cache, or their public address."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import pooch

from neurobridge.datasets.manifests import File, find_manifest

_ATTEMPTS = 3
_PAUSE_S = 1.0


class DigestError(ValueError):
    """A file is not the one the manifest describes; it was kept aside, not used and not deleted."""


class DownloadError(OSError):
    """A file could not be had from anywhere."""


def cache_folder() -> Path:
    """Folder of downloaded files: ``NEUROBRIDGE_HOME``, or the platform's user cache."""
    given = os.environ.get("NEUROBRIDGE_HOME")
    return Path(given).expanduser() if given else Path(pooch.os_cache("neurobridge"))


def fetch(
    name: str,
    *,
    files: Sequence[str] | None = None,
    mirror: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> dict[str, Path]:
    """Get the files of a dataset, and those of others it requires, each verified against its digest on every call.

    Files are looked for in the mirror (read in place, never written to), then in the cache, and are downloaded last.

    Parameters
    ----------
    name : str
        Dataset.
    files : sequence of str, optional
        Which of its files; all by default.
    mirror : path, optional
        Folder laid out ``<dataset>/<file>``; default: the environment variable NEUROBRIDGE_MIRROR.
    progress : bool
        Show a progress bar while downloading.

    Returns
    -------
    dict of str to pathlib.Path
        The dataset's own files.

    Raises
    ------
    UnknownDatasetError
        No dataset has this name.
    FileNotFoundError
        The mirror is not a folder.
    DigestError
        A file is not the one described. In the cache it is renamed, in the mirror it is left as it is.
    DownloadError
        A file has no public address, or it could not be downloaded.
    """
    manifest = find_manifest(name)
    folder = _mirror(mirror)
    for required, needed in manifest.requires.items():
        fetch(required, files=needed, mirror=mirror, progress=progress)
    entries = manifest.files if files is None else [manifest.file(file) for file in files]
    return {entry.name: _fetch_file(name, entry, folder, progress) for entry in entries}


def verify(name: str, *, mirror: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Check the files of a dataset that are at hand, without downloading.

    Returns
    -------
    dict of str to str
        For each file "ok", "missing", or what is wrong with it.
    """
    status = {}
    folder = _mirror(mirror)
    for entry in find_manifest(name).files:
        places = [place for place in _places(name, entry, folder) if place.exists()]
        status[entry.name] = (_problem(places[0], entry) or "ok") if places else "missing"
    return status


def digests_of(name: str) -> dict[str, str]:
    """Digests of a dataset's files, for the attributes of what is made from them."""
    return {entry.name: entry.digests[0] for entry in find_manifest(name).files}


def _mirror(mirror: str | os.PathLike[str] | None) -> Path | None:
    given = mirror if mirror is not None else os.environ.get("NEUROBRIDGE_MIRROR") or None
    if given is None:
        return None
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"found no folder at {folder}; expected a mirror laid out <dataset>/<file>. Mend: check --mirror or "
            "NEUROBRIDGE_MIRROR."
        )
    return folder


def _places(name: str, entry: File, mirror: Path | None) -> list[Path]:
    return [folder / name / entry.name for folder in (mirror, cache_folder()) if folder is not None]


def _fetch_file(name: str, entry: File, mirror: Path | None, progress: bool) -> Path:
    for place in _places(name, entry, mirror):
        if not place.exists():
            continue
        problem = _problem(place, entry)
        if problem is None:
            return place
        if mirror is not None and place == mirror / name / entry.name:
            raise DigestError(
                f"{place}: found {problem}. It is not used, and left where it is. Mend: copy the file again, or run without "
                "the mirror."
            )
        aside = _set_aside(place, entry.name)
        raise DigestError(
            f"{place}: found {problem}. It is not used, and kept as {aside.name}. Mend: run again to fetch it anew."
        )
    return _download(name, entry, cache_folder() / name / entry.name, progress)


def _problem(path: Path, entry: File) -> str | None:
    """Say what is wrong with a file, or None."""
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        return f"{size} bytes; expected {entry.size}"
    for digest in entry.digests:
        algorithm = digest.partition(":")[0]
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, algorithm).hexdigest()
        if f"{algorithm}:{found}" != digest:
            return f"{algorithm}:{found}; expected {digest}"
    return None


def _set_aside(path: Path, name: str) -> Path:
    with path.open("rb") as stream:
        short = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    aside = path.with_name(f".bad-{short}-{name}")
    os.replace(path, aside)
    return aside


def _download(name: str, entry: File, target: Path, progress: bool) -> Path:
    if entry.url is None:
        raise DownloadError(
            f"{name}/{entry.name}: found no copy in a mirror or in {cache_folder()}, and no public address ({entry.origin}); "
            f"expected it to be supplied. Mend: put it at {target}, or give --mirror."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    downloader = pooch.HTTPDownloader(progressbar=progress, timeout=30)
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                downloader(entry.url, str(partial), None)
                break
            except OSError as error:
                # requests' errors are OSErrors too.
                if attempt == _ATTEMPTS:
                    raise DownloadError(
                        f"{name}/{entry.name}: found no way to download {entry.url} in {_ATTEMPTS} attempts ({error}). Mend: check "
                        "the connection, or take the file from a folder with --mirror."
                    ) from error
                warnings.warn(
                    f"{entry.url}: attempt {attempt} failed ({error}); trying again.", UserWarning, stacklevel=2
                )
                time.sleep(_PAUSE_S * 2 ** (attempt - 1))
        problem = _problem(partial, entry)
        if problem is not None:
            aside = _set_aside(partial, entry.name)
            raise DigestError(
                f"{entry.url}: found {problem}. It is not used, and kept as {aside}. Mend: try again; if it stays, the publisher "
                "has changed the file."
            )
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target
