"""The check of a file against its manifest, and what is done with a file that fails it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from neurobridge.datasets.files.download import DigestError
from neurobridge.datasets.files.manifests import File
from neurobridge.datasets.files.members import GIT_BLOB, tree_problem
from neurobridge.store.atomic import move


def problem_of(path: Path, entry: File) -> str | None:
    """Tell what is wrong with a file; None where it has the size and one of the accepted digests.

    An archive of a tree is right, too, where its members are those of the tree, whatever packed them; so is a folder of them.
    """
    if path.is_dir():
        return f"a folder; expected {entry.name}" if entry.members is None else tree_problem(path, entry.members)
    problem = _problem_as_a_whole(path, entry)
    if problem is None or entry.members is None:
        return problem
    inside = tree_problem(path, entry.members, exact=True)
    return None if inside is None else f"{problem}; and in it {inside}"


def _problem_as_a_whole(path: Path, entry: File) -> str | None:
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        return f"{size} bytes; expected {entry.size}"
    digests: dict[str, str] = {}
    for digest in entry.digests:
        algorithm = digest.partition(":")[0]
        if algorithm not in digests:
            digests[algorithm] = f"{algorithm}:{digest_of_file(path, algorithm)}"
        if digests[algorithm] == digest:
            return None
    return f"{', '.join(digests.values())}; expected {' or '.join(entry.digests)}"


def digest_of_file(path: Path, algorithm: str) -> str:
    """Return the digest of a file, as hexadecimal digits.

    Parameters
    ----------
    path : path
    algorithm : {"md5", "sha1", "sha256", "git-blob-sha1"}
        The last is the name that git gives to the contents: sha1 of ``blob <size>``, a zero byte and the bytes.
    """
    with path.open("rb") as stream:
        if algorithm != GIT_BLOB:
            return hashlib.file_digest(stream, algorithm).hexdigest()
        started = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        return hashlib.file_digest(stream, lambda: started).hexdigest()


def refuse_wrong(path: Path, entry: File, mend: str) -> None:
    """Refuse a file that fails the check; it stays where it is.

    Raises
    ------
    DigestError
        With what is wrong, and ``mend``.
    """
    problem = problem_of(path, entry)
    if problem is not None:
        raise DigestError(f"{path}: found {problem}. It is not used, and left where it is. {mend}")


def set_aside(path: Path, name: str) -> Path:
    """Rename a file, so that it is not used and not lost; return its new path."""
    with path.open("rb") as stream:
        short = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    aside = path.with_name(f".bad-{short}-{name}")
    return move(path, aside)


def make_read_only(path: Path) -> None:
    """Make a file read-only."""
    path.chmod(path.stat().st_mode & ~0o222)
