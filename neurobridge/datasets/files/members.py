"""Archives of a public tree of files: a table names their paths, sizes and digests, whatever program packed them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from neurobridge.datasets.files.manifest_lines import ManifestError
from neurobridge.store.archives import Archive, ArchiveError
from neurobridge.store.atomic import atomic_path

#: Digest by which git names the contents of a file: sha1 of ``blob <size>``, a zero byte and the bytes.
GIT_BLOB = "git-blob-sha1"
#: Columns of a table of members, comma-separated, sorted by path.
COLUMNS = ("path", "size", GIT_BLOB)
# Every member gets this date, so that two packings of the same files do not differ in it.
_DATE = (1980, 1, 1, 0, 0, 0)
_PATH = re.compile(r"(?!/)(?!.*(^|/)\.\.?(/|$))[^\\,\r\n\x00]+(?<!/)")


class Member(NamedTuple):
    """A file of a tree.

    Attributes
    ----------
    size : int
        Bytes.
    digest : str
        40 hexadecimal digits, of kind `GIT_BLOB`.
    """

    size: int
    digest: str


class Files(NamedTuple):
    """Files of an archive or of a folder, by the paths of the tree.

    Attributes
    ----------
    names : set of str
    read : callable
        From a name to the bytes of the file.
    """

    names: set[str]
    read: Callable[[str], bytes]


def git_blob_sha1(content: bytes) -> str:
    """Return the digest by which git names the contents of a file, 40 hexadecimal digits.

    Examples
    --------
    >>> git_blob_sha1(b"")  # the empty file of every repository
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def read_members(table: Path) -> dict[str, Member]:
    """Read a table of members: path, size and git blob digest of every file of a tree, in the order of the table.

    Parameters
    ----------
    table : path
        Text with the line ``path,size,git-blob-sha1`` and a line a file; no path holds a comma.

    Raises
    ------
    ManifestError
        The table is not there, has other columns, or a line is no file of a tree; names the line.
    """
    return _read_members(table, table.stat().st_mtime_ns if table.is_file() else None)


@functools.lru_cache(maxsize=8)
def _read_members(table: Path, changed: int | None) -> dict[str, Member]:
    if changed is None:
        raise ManifestError(f"found no file at {table}; expected a table of members. Mend: install neurobridge again.")
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{table}: found text that is not UTF-8 ({error}); expected a table. Mend: correct it."
        ) from error
    header = ",".join(COLUMNS)
    if not lines or lines[0] != header:
        raise ManifestError(f"{table}, line 1: found {lines[:1]}; expected {header!r}. Mend: correct the first line.")
    members: dict[str, Member] = {}
    for number, line in enumerate(lines[1:], start=2):
        path, *rest = line.split(",")
        plain = len(rest) == 2 and re.fullmatch(r"\d{1,15}", rest[0]) and re.fullmatch(r"[0-9a-f]{40}", rest[1])
        if not plain or not _PATH.fullmatch(path) or path in members:
            raise ManifestError(
                f"{table}, line {number}: found {line!r:.120}; expected a relative path that stands in no other line, a number of "
                "bytes and 40 hexadecimal digits. Mend: correct the line."
            )
        members[path] = Member(int(rest[0]), rest[1])
    if not members:
        raise ManifestError(f"{table}: found no file; expected at least one. Mend: correct it.")
    return members


def holds_tree(folder: Path, table: Path) -> bool:
    """Tell if a folder seems to hold the files of a table: the first of them is there."""
    if not folder.is_dir():
        return False
    return (folder / next(iter(read_members(table)))).is_file()


@contextlib.contextmanager
def open_files(place: Path, first: str) -> Iterator[Files]:
    """Open a folder or an archive; the folders in an archive that lie above the tree are left out of the names.

    Parameters
    ----------
    place : path
        Folder, zip or tar file.
    first : str
        A path of the tree, by which the top folder is found: the archives that hosts of repositories pack have one.

    Raises
    ------
    ArchiveError
        `Archive` refuses the file.
    """
    if place.is_dir():
        yield Files(
            {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()},
            lambda name: (place / name).read_bytes(),
        )
        return
    with Archive(place) as archive:
        tops = [name.removesuffix(first) for name in archive.names if name == first or name.endswith(f"/{first}")]
        top = min(tops, key=len, default="")
        yield Files(
            {name.removeprefix(top) for name in archive.names if name.startswith(top)},
            lambda name: archive.read(f"{top}{name}"),
        )


def tree_problem(place: Path, table: Path, *, exact: bool = False) -> str | None:
    """Tell what is wrong with a folder or an archive that has to hold the files of a table.

    Parameters
    ----------
    place : path
        Folder, zip or tar file.
    table : path
        Of `read_members`.
    exact : bool
        Refuse an archive that holds anything else, or that has the files below another folder.

    Returns
    -------
    str or None
        None where every file is there and has its size and digest.
    """
    members = read_members(table)
    try:
        with open_files(place, next(iter(members))) as files:
            missing = [path for path in members if path not in files.names]
            wrong = [
                path
                for path, member in members.items()
                if path in files.names and not _is_member(files.read(path), member)
            ]
            others = sorted(files.names - set(members))
        if exact and not missing and not others:
            with Archive(place) as archive:
                others = sorted(set(archive.names) - set(members))
    except ArchiveError as error:
        return f"an archive that cannot be read ({error})"
    if missing or wrong:
        return (
            f"{len(missing)} of {len(members)} files missing and {len(wrong)} with another size or digest, "
            f"e.g. {(missing + wrong)[0]!r}; expected those of {table.name}"
        )
    return (
        f"{len(others)} other files, e.g. {others[0]!r}; expected those of {table.name} alone"
        if exact and others
        else None
    )


def pack_tree(place: Path, table: Path, target: Path) -> Path:
    """Write the files of a table, from a folder or an archive, into a zip; each is verified before it is written.

    Parameters
    ----------
    place : path
        Folder, zip or tar file that has no `tree_problem`.
    table : path
    target : path
        The zip, which appears whole or not at all.

    Raises
    ------
    ArchiveError
        A file has changed since `tree_problem` looked at it.
    """
    members = read_members(table)
    with (
        open_files(place, next(iter(members))) as files,
        atomic_path(target) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for path, member in members.items():
            content = files.read(path)
            if not _is_member(content, member):
                raise ArchiveError(
                    f"{place}: found {len(content)} other bytes in {path!r}; expected those of {table.name}. Mend: let nothing "
                    "write there, and run again."
                )
            info = zipfile.ZipInfo(path, _DATE)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, content)
    return target


def _is_member(content: bytes, member: Member) -> bool:
    return len(content) == member.size and git_blob_sha1(content) == member.digest
