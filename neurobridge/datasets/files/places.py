"""The places where files of a dataset lie: the cache, a mirror, and Brain-Score's own folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from neurobridge.datasets.files.manifests import File, find_manifest, list_datasets
from neurobridge.datasets.files.members import holds_tree


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
    folder = mirror_folder(mirror)
    return {
        entry.name: next((place for place in places_of(name, entry, folder) if place.exists()), None)
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
    folder = mirror_folder(mirror)
    if folder is None:
        raise FileNotFoundError(
            "found no mirror; expected a folder laid out <dataset>/<file>. Mend: give --mirror DIR, or set NEUROBRIDGE_MIRROR."
        )
    return [
        m.name
        for m in list_datasets()
        if any((folder / m.name / entry.name).exists() or _trees(m.name, entry, folder) for entry in m.files)
    ]


def mirror_folder(mirror: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder of a mirror, the given one or that of NEUROBRIDGE_MIRROR; None where there is none.

    Raises
    ------
    FileNotFoundError
        It is not a folder.
    """
    given = mirror if mirror is not None else os.environ.get("NEUROBRIDGE_MIRROR") or None
    if given is None:
        return None
    folder = Path(given).expanduser()
    # Unlike those of pathlib, it answers for names that no file can have.
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"found no folder at {folder}; expected a mirror laid out <dataset>/<file>. Mend: check --mirror or "
            "NEUROBRIDGE_MIRROR."
        )
    return folder


def _brainio_folder() -> Path:
    # Brain-Score's own default, so that what it downloaded without the variable is found too.
    return Path(os.environ.get("BRAINIO_HOME") or "~/.brainio").expanduser()


def places_of(name: str, entry: File, mirror: Path | None) -> list[Path]:
    """Return the paths at which a file may lie, in the order in which they are tried."""
    ours = [folder / name / entry.name for folder in (mirror, cache_folder()) if folder is not None]
    sha1 = [digest.removeprefix("sha1:") for digest in entry.digests if digest.startswith("sha1:")]
    brainio = [_brainio_folder() / value / entry.name for value in sha1]
    return [*ours, *brainio, *_trees(name, entry, mirror), *_trees(name, entry, cache_folder())]


def _trees(name: str, entry: File, folder: Path | None) -> list[Path]:
    """Return the folder of a dataset where it holds the files of an archive unpacked, as a clone of their repository does."""
    if entry.members is None or folder is None or not holds_tree(folder / name, entry.members):
        return []
    return [folder / name]
