"""Verified files: from a mirror, the cache, Brain-Score's own folder, or their public address."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import filelock

from neurobridge.datasets.files.download import DigestError, DownloadError, download
from neurobridge.datasets.files.manifests import File, find_manifest
from neurobridge.datasets.files.members import pack_tree, tree_problem
from neurobridge.datasets.files.places import cache_folder, locate, mirror_folder, places_of
from neurobridge.datasets.files.verification import make_read_only, problem_of, refuse_wrong, set_aside
from neurobridge.points.progress import progress_bar, write_above
from neurobridge.store.atomic import atomic_path, publish


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
    The files of a git tree may also lie unpacked in ``<mirror>/<dataset>/``, as a clone of their repository: they are packed into
    the cache. What a host of repositories packs is verified file by file, and packed anew.

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
    folder = mirror_folder(mirror)
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
    places = locate(name, mirror=mirror)
    entries = {entry.name: entry for entry in find_manifest(name).files}
    return {
        file: "missing" if place is None else problem_of(place, entries[file]) or "ok" for file, place in places.items()
    }


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
            refuse_wrong(target, entry, "Mend: move it away, or mirror into an empty folder.")
        else:
            source = _fetch_file(name, entry, mirror_folder(mirror), progress, False)
            _copy(source, target, entry, progress, f"{name}/{file}")
        made.append(target)
    return made


def digests_of(name: str) -> dict[str, str]:
    """Return the digests of a dataset's files, for the attributes of what is made from them: the first of each in the manifest."""
    return {entry.name: entry.digests[0] for entry in find_manifest(name).files}


def _fetch_file(name: str, entry: File, mirror: Path | None, progress: bool, copy: bool) -> Path:
    label = f"{name}/{entry.name}"
    target = cache_folder() / name / entry.name
    for place in places_of(name, entry, mirror):
        if not place.exists():
            continue
        if place.is_dir() and entry.members is not None:
            refuse_wrong(place, entry, "Mend: check out the commit that the manifest names, or move the folder away.")
            return _pack(place, target, entry.members)
        if mirror is not None and place == mirror / name / entry.name:
            refuse_wrong(place, entry, "Mend: copy the file again, or run without the mirror.")
            return _keep(place, target, entry, progress, label) if copy else place
        problem = problem_of(place, entry)
        if problem is None:
            return place
        if place == target:
            aside = set_aside(place, entry.name)
            raise DigestError(
                f"{place}: found {problem}. It is not used, and kept as {aside.name}. Mend: run again to fetch it anew."
            )
        warnings.warn(f"{place}: found {problem}. Brain-Score's copy is not used.", UserWarning, stacklevel=2)
    return _download(label, entry, target, progress)


def _pack(place: Path, target: Path, members: Path) -> Path:
    """Pack the files of a tree, which were verified, into the cache."""
    target.parent.mkdir(parents=True, exist_ok=True)
    pack_tree(place, members, target)
    make_read_only(target)
    return target


def _keep(place: Path, target: Path, entry: File, progress: bool, label: str) -> Path:
    if target.exists():
        problem = problem_of(target, entry)
        if problem is None:
            return target
        aside = set_aside(target, entry.name)
        warnings.warn(
            f"{target}: found {problem}. It was kept as {aside.name} and replaced.", UserWarning, stacklevel=2
        )
    return _copy(place, target, entry, progress, label)


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
            progress_bar(
                total=size, desc=label, unit="B", unit_scale=True, unit_divisor=1024, progress=progress
            ) as bar,
        ):
            while piece := reader.read(2**20):
                writer.write(piece)
                bar.update(len(piece))
        refuse_wrong(partial, entry, "Mend: check both disks, and copy again.")
        make_read_only(partial)
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
        write_above(f"{label}: waiting for another process that is fetching it", progress=progress)
        lock.acquire()
    try:
        if target.exists() and problem_of(target, entry) is None:
            # Another process fetched it while this one waited.
            return target
        return _download_alone(label, entry, entry.url, target, progress)
    finally:
        lock.release()


def _download_alone(label: str, entry: File, url: str, target: Path, progress: bool) -> Path:
    partial = target.with_name(f".{target.name}.partial")
    # What a host packs when it is asked has another size than our archive of the same files.
    size = entry.size if entry.members is None else None
    pieced = download(url, partial, size=size, label=label, progress=progress)
    problem = _download_problem(partial, entry)
    if problem is not None and pieced:
        warnings.warn(
            f"{label}: the resumed file is not the right one ({problem}); fetching it whole.", UserWarning, stacklevel=2
        )
        partial.unlink()
        download(url, partial, size=size, label=label, progress=progress)
        problem = _download_problem(partial, entry)
    if problem is not None:
        aside = set_aside(partial, entry.name)
        raise DigestError(
            f"{url}: found {problem}. It is not used, and kept as {aside}. Mend: try again; if it stays, the publisher "
            "has changed the file."
        )
    if entry.members is not None:
        _pack(partial, target, entry.members)
        partial.unlink()
        return target
    make_read_only(partial)
    return publish(partial, target)


def _download_problem(partial: Path, entry: File) -> str | None:
    return problem_of(partial, entry) if entry.members is None else tree_problem(partial, entry.members)
