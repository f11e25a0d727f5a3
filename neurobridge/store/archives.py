"""The one reader of archives that come from outside: zip (npz too), tar and gzip files, checked before they are unpacked.

Nothing is ever written to disk. An archive is refused as a whole when one entry of it would do harm anywhere: a path that
leads out of the folder, a link or a device, a name that two files share on some system, an encrypted member, or more bytes
than its size on disk can explain.
"""

from __future__ import annotations

import gzip
import lzma
import os
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self, TypeVar

from neurobridge.store.archive_formats import (
    LIMITS,
    ArchiveError,
    Entry,
    Limits,
    Reader,
    explained_bytes,
    open_reader,
    too_large,
)

__all__ = ["LIMITS", "Archive", "ArchiveError", "Limits", "read_gzip"]

_T = TypeVar("_T")

_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    OverflowError,
)
_PIECE = 2**20


class Archive:
    """An archive whose entries were all checked; a member is unpacked when it is read.

    Parameters
    ----------
    path : path
        A zip or npz file, or a tar file, which may be packed with gzip, bzip2 or xz.
    limits : Limits
        Largest sizes.

    Attributes
    ----------
    names : list of str
        The files in it, sorted; folders are left out.

    Raises
    ------
    ArchiveError
        The file is no such archive, or one of its entries is refused.

    Examples
    --------
    >>> import zipfile
    >>> with zipfile.ZipFile("images.zip", "w") as archive:
    ...     archive.writestr("a.txt", "one line")
    >>> with Archive("images.zip") as archive:
    ...     archive.names, archive.read("a.txt")
    (['a.txt'], b'one line')
    """

    def __init__(self, path: str | os.PathLike[str], *, limits: Limits = LIMITS) -> None:
        self.path, self.limits = Path(path), limits
        try:
            self._reader: Reader = open_reader(self.path, limits)
        except ArchiveError:
            raise
        except (*_BROKEN, MemoryError) as error:
            raise _broken(self.path, error) from error
        try:
            entries = self._reader.entries()
            _check(self.path, entries, limits)
        except ArchiveError:
            self.close()
            raise
        except (*_BROKEN, MemoryError) as error:
            self.close()
            raise _broken(self.path, error) from error
        self._entries = {entry.name: entry for entry in entries if not entry.is_folder}
        self.names = sorted(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def size(self, name: str) -> int:
        """Return the size of a member, unpacked, in bytes."""
        return self._entry(name).size

    def read(self, name: str, *, most: int | None = None) -> bytes:
        """Return the bytes of a member.

        Parameters
        ----------
        name : str
            One of ``names``.
        most : int, optional
            Largest size in bytes; by default ``limits.member``.

        Raises
        ------
        ArchiveError
            There is no such member, it is larger, or its bytes are damaged.
        """
        entry, most = self._entry(name), self.limits.member if most is None else most
        if entry.size > most:
            raise ArchiveError(
                f"{self.path}: found {entry.size / 1e6:.1f} MB in the member {name!r}; expected at most {most / 1e6:.1f} MB. "
                "Mend: leave it out, or split it into smaller files."
            )
        return self.unpack(name, lambda stream: stream.read())

    def unpack(self, name: str, use: Callable[[IO[bytes]], _T]) -> _T:
        """Call ``use`` with the open member; an error of the archive is an `ArchiveError` that names the member."""
        entry = self._entry(name)
        try:
            with self._reader.turn, self._reader.open(entry) as stream:
                return use(stream)
        except ArchiveError:
            raise
        except (*_BROKEN, MemoryError) as error:
            raise ArchiveError(
                f"{self.path}: found a member {name!r} that cannot be unpacked ({_shown(error)}); expected whole bytes. Mend: "
                "the file is damaged; fetch or write it again."
            ) from error

    def _entry(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise ArchiveError(
                f"{self.path}: found no member {name!r} among {len(self.names)}, e.g. {self.names[:3]}; expected it. Mend: check "
                "the name, or fetch the archive again."
            ) from None


def read_gzip(path: str | os.PathLike[str], *, limits: Limits = LIMITS) -> bytes:
    """Return the unpacked bytes of a gzip file.

    Parameters
    ----------
    path : path
    limits : Limits
        Of which ``member``, ``ratio`` and ``harmless`` are used.

    Raises
    ------
    ArchiveError
        The file is no whole gzip file, or unpacks to more than the limits allow.

    Examples
    --------
    >>> import gzip
    >>> with gzip.open("digits.gz", "wb") as stream:
    ...     _ = stream.write(b"0123")
    >>> read_gzip("digits.gz")
    b'0123'
    """
    path = Path(path)
    try:
        most = min(limits.member, explained_bytes(path.stat().st_size, limits))
        if path.stat().st_size == 0:
            raise EOFError("the file is empty")
        pieces, total = [], 0
        with gzip.open(path, "rb") as stream:
            while piece := stream.read(_PIECE):
                total += len(piece)
                if total > most:
                    raise too_large(path, "more", most, "gzip file")
                pieces.append(piece)
    except ArchiveError:
        raise
    except (*_BROKEN, MemoryError) as error:
        raise _broken(path, error) from error
    return b"".join(pieces)


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _broken(path: Path, error: BaseException) -> ArchiveError:
    return ArchiveError(
        f"{path}: found a file that cannot be read as an archive ({_shown(error)}); expected a complete zip, tar or gzip file. "
        "Mend: check the path, or fetch the file again."
    )


def _check(path: Path, entries: list[Entry], limits: Limits) -> None:
    if len(entries) > limits.members:
        raise ArchiveError(
            f"{path}: found {len(entries)} entries; expected at most {limits.members}. Mend: pack them into several archives."
        )
    for entry in entries:
        _check_place(path, entry)
        if entry.packed is not None and entry.size > explained_bytes(entry.packed, limits):
            raise too_large(path, str(entry.size), explained_bytes(entry.packed, limits), f"member {entry.name!r}")
    _check_collisions(path, entries)
    total, on_disk = sum(entry.size for entry in entries), path.stat().st_size
    most = min(limits.total, explained_bytes(on_disk, limits))
    if total > most:
        raise too_large(path, str(total), most, f"archive of {len(entries)} entries")
    packed = sum(entry.packed or 0 for entry in entries)
    if packed > on_disk:
        raise ArchiveError(
            f"{path}: found members of {packed} packed bytes in a file of {on_disk}: they overlap; expected each byte in one "
            "member. Mend: do not use this file; fetch it again from its publisher."
        )


def _check_place(path: Path, entry: Entry) -> None:
    problem = entry.problem
    parts = PurePosixPath(entry.name.replace("\\", "/")).parts
    if not parts or parts[0].startswith("/") or ".." in parts or ":" in parts[0] or "\0" in entry.name:
        problem = "leads out of the folder of the archive"
    if problem:
        raise ArchiveError(
            f"{path}: found the entry {entry.name!r}, which {problem}; expected plain files under relative names. Mend: do not use "
            "this file if you do not know its origin; if you do, pack it again."
        )


def _check_collisions(path: Path, entries: list[Entry]) -> None:
    """Refuse two files that would be one on a system that does not tell capitals, or composed from decomposed letters."""
    files: dict[str, str] = {}
    folders: set[str] = set()
    for entry in entries:
        if entry.is_folder:
            continue
        key = _key(entry.name)
        if key in files:
            raise ArchiveError(
                f"{path}: found {entry.name!r} beside {files[key]!r}; expected each name once, also where capitals are not told "
                "apart. Mend: rename one of them, and pack the archive again."
            )
        files[key] = entry.name
        folders.update(_parents(key))
    for key in files.keys() & folders:
        raise ArchiveError(
            f"{path}: found {files[key]!r} as a file and as a folder; expected one of them. Mend: pack the archive again."
        )


def _key(name: str) -> str:
    return "/".join(PurePosixPath(unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()).parts)


def _parents(key: str) -> Iterable[str]:
    place = key.rfind("/")
    while place > 0:
        yield key[:place]
        place = key.rfind("/", 0, place)
