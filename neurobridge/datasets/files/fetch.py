"""Verified files: from a mirror, the cache, Brain-Score's own folder, or their public address."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import filelock
import platformdirs
from tqdm.auto import tqdm

from neurobridge.datasets.files.download import DigestError, DownloadError, download
from neurobridge.datasets.files.manifests import File, find_manifest, list_datasets
from neurobridge.store.atomic import atomic_path, move, publish

__all__ = [
    "DigestError",
    "DownloadError",
    "cache_folder",
    "copy_to_mirror",
    "digests_of",
    "fetch",
    "locate",
    "mirrored",
    "path_of",
    "verify",
]


def cache_folder() -> Path:
    """Return the folder of downloaded files: ``NEUROBRIDGE_HOME``, or the platform's user cache.

    Examples
    --------
    >>> import os
    >>> os.environ["NEUROBRIDGE_HOME"] = "my-cache"
    >>> cache_folder().name
    'my-cache'
    >>> del os.environ["NEUROBRIDGE_HOME"]
    """
    given = os.environ.get("NEUROBRIDGE_HOME")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("neurobridge"))


def path_of(name: str) -> Path:
    """Return the folder in the cache where a dataset's files are kept, whether or not they are there.

    Parameters
    ----------
    name : str
        Dataset, as `list_datasets` names it.

    Raises
    ------
    UnknownDatasetError
        No dataset has this name.

    Examples
    --------
    >>> path_of("mnist").name
    'mnist'
    """
    return cache_folder() / find_manifest(name).name


def fetch(
    name: str,
    *,
    files: Sequence[str] | None = None,
    mirror: str | os.PathLike[str] | None = None,
    progress: bool = True,
    copy: bool = False,
) -> dict[str, Path]:
    """Get the files of a dataset, and those of others it requires, each verified against its digest on every call.

    Files are looked for in the mirror (never written to), then in the cache, then where Brain-Score keeps its downloads
    (``$BRAINIO_HOME/<sha1>/<file>``), and are downloaded last: resumed, retried, once for all processes, and read-only afterwards.

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
    copy : bool
        Copy files of a mirror into the cache, so that later calls need no mirror. Default: read them in place.

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

    Examples
    --------
    A dataset of one file, described by a manifest and taken from a mirror:

    >>> import hashlib, os, pathlib
    >>> pathlib.Path("mirror/my-data").mkdir(parents=True)
    >>> _ = pathlib.Path("mirror/my-data/rates.csv").write_text("1,2,3")
    >>> digest = hashlib.sha256(b"1,2,3").hexdigest()
    >>> pathlib.Path("manifests").mkdir()
    >>> _ = pathlib.Path("manifests/my-data.toml").write_text(f'''
    ... name = "my-data"
    ... version = "1"
    ... title = "Three rates"
    ... kind = "recorded"
    ... access = "user-supplied"
    ... licence = "none stated"
    ... note = "An example."
    ... post_processing = "none"
    ... citation = "@misc{{me}}"
    ... [[files]]
    ... name = "rates.csv"
    ... origin = "my rig"
    ... digests = ["sha256:{digest}"]
    ... ''')
    >>> os.environ["NEUROBRIDGE_MANIFESTS"] = "manifests"
    >>> fetch("my-data", mirror="mirror")["rates.csv"].read_text()
    '1,2,3'
    >>> verify("my-data", mirror="mirror")
    {'rates.csv': 'ok'}
    >>> del os.environ["NEUROBRIDGE_MANIFESTS"]
    """
    manifest = find_manifest(name)
    folder = _mirror(mirror)
    for required, needed in manifest.requires.items():
        fetch(required, files=needed, mirror=mirror, progress=progress, copy=copy)
    entries = manifest.files if files is None else [manifest.file(file) for file in files]
    return {entry.name: _fetch_file(name, entry, folder, progress, copy) for entry in entries}


def verify(name: str, *, mirror: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Check the files of a dataset that are at hand, without downloading.

    Parameters
    ----------
    name : str
        Dataset, as `list_datasets` names it.
    mirror : path, optional
        Folder with the files, laid out ``<dataset>/<file>``; default: NEUROBRIDGE_MIRROR.

    Returns
    -------
    dict of str to str
        For each file "ok", "missing", or what is wrong with it.

    Examples
    --------
    >>> import os
    >>> os.environ["NEUROBRIDGE_HOME"] = "an-empty-cache"
    >>> os.makedirs("an-empty-mirror")
    >>> set(verify("mnist", mirror="an-empty-mirror").values())
    {'missing'}
    >>> del os.environ["NEUROBRIDGE_HOME"]

    `fetch` has an example with a file.
    """
    found = locate(name, mirror=mirror)
    entries = {entry.name: entry for entry in find_manifest(name).files}
    return {
        file: "missing" if place is None else _problem(place, entries[file]) or "ok" for file, place in found.items()
    }


def locate(name: str, *, mirror: str | os.PathLike[str] | None = None) -> dict[str, Path | None]:
    """Return where each file of a dataset would be read from, without downloading or checking it.

    Parameters
    ----------
    name : str
        Dataset, as `list_datasets` names it.
    mirror : path, optional
        Folder with the files, laid out ``<dataset>/<file>``; default: NEUROBRIDGE_MIRROR.

    Examples
    --------
    >>> import os, pathlib
    >>> os.environ["NEUROBRIDGE_HOME"] = "an-empty-cache"
    >>> pathlib.Path("mirror/hvm-metadata").mkdir(parents=True)
    >>> set(locate("hvm-metadata", mirror="mirror").values())
    {None}
    >>> del os.environ["NEUROBRIDGE_HOME"]
    """
    folder = _mirror(mirror)
    return {
        entry.name: next((place for place in _places(name, entry, folder) if place.exists()), None)
        for entry in find_manifest(name).files
    }


def mirrored(mirror: str | os.PathLike[str] | None = None) -> list[str]:
    """Return the names of the datasets of which a mirror holds a file.

    Parameters
    ----------
    mirror : path, optional
        Folder with the files, laid out ``<dataset>/<file>``; default: NEUROBRIDGE_MIRROR.

    Raises
    ------
    FileNotFoundError
        No mirror is given, or it is not a folder.

    Examples
    --------
    >>> import pathlib
    >>> pathlib.Path("mirror/mnist").mkdir(parents=True)
    >>> name = find_manifest("mnist").files[0].name
    >>> pathlib.Path("mirror/mnist", name).touch()
    >>> mirrored("mirror")
    ['mnist']
    """
    folder = _mirror(mirror)
    if folder is None:
        raise FileNotFoundError(
            "found no mirror; expected a folder laid out <dataset>/<file>. Mend: give --mirror DIR, or set NEUROBRIDGE_MIRROR."
        )
    return [m.name for m in list_datasets() if any((folder / m.name / entry.name).exists() for entry in m.files)]


def copy_to_mirror(
    folder: str | os.PathLike[str],
    names: Sequence[str],
    *,
    mirror: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> list[Path]:
    """Copy datasets, and what they require, into a folder that serves as ``mirror`` where there is no internet.

    Parameters
    ----------
    folder : path
        Made if it is missing. Files that are there and right stay as they are.
    names : sequence of str
        Datasets.
    mirror : path, optional
        Where to take files from, before the cache and the internet.
    progress : bool
        Show progress bars.

    Returns
    -------
    list of pathlib.Path
        The verified files in ``folder``.

    Raises
    ------
    ValueError
        No dataset is named.
    DigestError
        A file that is already in ``folder`` is not the one described; it is left as it is.

    Examples
    --------
    >>> copy_to_mirror("for-the-cluster", ["simulated-hvm"])  # made from a seed: it has no files
    []
    >>> copy_to_mirror("for-the-cluster", ["mnist"], mirror="../shared/data")  # doctest: +SKIP
    """
    if not names:
        raise ValueError("found no dataset to mirror; expected at least one name. Mend: neurobridge data list.")
    wanted: dict[tuple[str, str], File] = {}
    for name in names:
        manifest = find_manifest(name)
        wanted |= {(name, entry.name): entry for entry in manifest.files}
        for required, needed in manifest.requires.items():
            wanted |= {(required, file): find_manifest(required).file(file) for file in needed}
    made = []
    for (name, file), entry in wanted.items():
        target = Path(folder).expanduser() / name / file
        if target.exists():
            _refuse_wrong(target, entry, "Mend: move it away, or mirror into an empty folder.")
        else:
            source = _fetch_file(name, entry, _mirror(mirror), progress, False)
            _copy(source, target, entry, progress, f"{name}/{file}")
        made.append(target)
    return made


def digests_of(name: str) -> dict[str, str]:
    """Digests of a dataset's files, for the attributes of what is made from them: the first that each manifest lists."""
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


def _brainio_folder() -> Path:
    # Brain-Score's own default, so that what it downloaded without the variable is found too.
    return Path(os.environ.get("BRAINIO_HOME") or "~/.brainio").expanduser()


def _places(name: str, entry: File, mirror: Path | None) -> list[Path]:
    own = [folder / name / entry.name for folder in (mirror, cache_folder()) if folder is not None]
    sha1 = [digest.removeprefix("sha1:") for digest in entry.digests if digest.startswith("sha1:")]
    return own + [_brainio_folder() / value / entry.name for value in sha1]


def _fetch_file(name: str, entry: File, mirror: Path | None, progress: bool, copy: bool) -> Path:
    label = f"{name}/{entry.name}"
    target = cache_folder() / name / entry.name
    for place in _places(name, entry, mirror):
        if not place.exists():
            continue
        if mirror is not None and place == mirror / name / entry.name:
            _refuse_wrong(place, entry, "Mend: copy the file again, or run without the mirror.")
            return _keep(place, target, entry, progress, label) if copy else place
        problem = _problem(place, entry)
        if problem is None:
            return place
        if place == target:
            aside = _set_aside(place, entry.name)
            raise DigestError(
                f"{place}: found {problem}. It is not used, and kept as {aside.name}. Mend: run again to fetch it anew."
            )
        warnings.warn(f"{place}: found {problem}. Brain-Score's copy is not used.", UserWarning, stacklevel=2)
    return _download(label, entry, target, progress)


def _keep(place: Path, target: Path, entry: File, progress: bool, label: str) -> Path:
    if target.exists():
        problem = _problem(target, entry)
        if problem is None:
            return target
        aside = _set_aside(target, entry.name)
        warnings.warn(
            f"{target}: found {problem}. It was kept as {aside.name} and replaced.", UserWarning, stacklevel=2
        )
    return _copy(place, target, entry, progress, label)


def _usable(path: Path, entry: File) -> bool:
    return path.exists() and _problem(path, entry) is None


def _refuse_wrong(path: Path, entry: File, mend: str) -> None:
    problem = _problem(path, entry)
    if problem is not None:
        raise DigestError(f"{path}: found {problem}. It is not used, and left where it is. {mend}")


def _problem(path: Path, entry: File) -> str | None:
    """Say what is wrong with a file, or None: it must have the size, and one of the accepted digests."""
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        return f"{size} bytes; expected {entry.size}"
    found: dict[str, str] = {}
    for digest in entry.digests:
        algorithm = digest.partition(":")[0]
        if algorithm not in found:
            with path.open("rb") as stream:
                found[algorithm] = f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"
        if found[algorithm] == digest:
            return None
    return f"{', '.join(found.values())}; expected {' or '.join(entry.digests)}"


def _set_aside(path: Path, name: str) -> Path:
    with path.open("rb") as stream:
        short = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    aside = path.with_name(f".bad-{short}-{name}")
    return move(path, aside)


def _protect(path: Path) -> None:
    """Make a file read-only."""
    path.chmod(path.stat().st_mode & ~0o222)


def _copy(source: Path, target: Path, entry: File, progress: bool, label: str) -> Path:
    """Copy a verified file, and verify the copy before it gets its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size = source.stat().st_size
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise DownloadError(
            f"{label}: found {free / 1e6:.1f} MB free in {target.parent}; expected {size / 1e6:.1f} MB for a copy. Mend: "
            f"make room, "
            "or choose a folder on a larger disk."
        )
    with atomic_path(target) as partial:
        with (
            source.open("rb") as reader,
            partial.open("wb") as writer,
            tqdm(total=size, desc=label, unit="B", unit_scale=True, unit_divisor=1024, disable=not progress) as bar,
        ):
            while piece := reader.read(2**20):
                writer.write(piece)
                bar.update(len(piece))
        _refuse_wrong(partial, entry, "Mend: check both disks, and copy again.")
        _protect(partial)
    return target


def _download(label: str, entry: File, target: Path, progress: bool) -> Path:
    if entry.url is None:
        raise DownloadError(
            f"{label}: found no copy in a mirror or in {cache_folder()}, and no public address ({entry.origin}); "
            f"expected it to be supplied. Mend: put it at {target}, or give --mirror."
        )
    locks = cache_folder() / ".locks"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        locks.mkdir(exist_ok=True)
    except OSError as error:
        raise DownloadError(
            f"{label}: found a cache folder that cannot be written, {cache_folder()} ({error}); expected one of your own. "
            f"Mend: set "
            "NEUROBRIDGE_HOME to a folder that you may write in."
        ) from error
    lock = filelock.FileLock(locks / f"{label.replace('/', '--')}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if progress:
            tqdm.write(f"{label}: waiting for another process that is fetching it", file=sys.stderr)
        lock.acquire()
    try:
        if _usable(target, entry):
            # Another process fetched it while this one waited.
            return target
        return _download_alone(label, entry, entry.url, target, progress)
    finally:
        lock.release()


def _download_alone(label: str, entry: File, url: str, target: Path, progress: bool) -> Path:
    partial = target.with_name(f".{target.name}.partial")
    pieced = download(url, partial, size=entry.size, label=label, progress=progress)
    problem = _problem(partial, entry)
    if problem is not None and pieced:
        warnings.warn(
            f"{label}: the resumed file is not the right one ({problem}); fetching it whole.", UserWarning, stacklevel=2
        )
        partial.unlink()
        download(url, partial, size=entry.size, label=label, progress=progress)
        problem = _problem(partial, entry)
    if problem is not None:
        aside = _set_aside(partial, entry.name)
        raise DigestError(
            f"{url}: found {problem}. It is not used, and kept as {aside}. Mend: try again; if it stays, the publisher "
            "has changed the file."
        )
    _protect(partial)
    return publish(partial, target)
