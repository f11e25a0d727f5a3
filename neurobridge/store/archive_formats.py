"""The formats behind `neurobridge.store.archives`: the entries of a zip or tar file, and bounded reading of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import threading
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

# A few bytes of other methods can stand for gigabytes, and zipfile unpacks them in one step.
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_UNPACKERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


class ArchiveError(ValueError):
    """An archive that is broken, or that holds what an archive of data has no use for."""


class Limits(NamedTuple):
    """The size that an archive may have.

    Attributes
    ----------
    total : int
        Bytes of all members, unpacked.
    member : int
        Bytes of one member that is read into memory.
    ratio : float
        Unpacked bytes for each byte on disk, of a member and of the archive.
    harmless : int
        Bytes up to which the ratio is not asked for: a blank image may be packed a thousandfold.
    members : int
        Number of entries.

    Examples
    --------
    >>> Limits(members=10)._replace(total=100).total
    100
    """

    total: int = 20 * 10**9
    member: int = 2**31
    ratio: float = 200.0
    harmless: int = 2**26
    members: int = 2_000_000


LIMITS = Limits()


class Entry(NamedTuple):
    """One entry of an archive; ``handle`` is what its reader opens."""

    name: str
    size: int
    packed: int | None
    is_folder: bool
    problem: str
    handle: Any


class Reader(Protocol):
    """The part of zipfile and tarfile that `Archive` needs; ``turn`` is held while a member is read."""

    turn: AbstractContextManager[Any]

    def entries(self) -> list[Entry]:
        """List the entries."""

    def open(self, entry: Entry) -> IO[bytes]:
        """Open the file of an entry."""

    def close(self) -> None:
        """Close the archive."""


def explained_bytes(packed: int, limits: Limits) -> int:
    """Return the bytes that a packed size can stand for."""
    return max(limits.harmless, int(limits.ratio * packed))


def too_large(path: Path, size: str, most: int, what: str) -> ArchiveError:
    """Make the error for ``size`` unpacked bytes where ``most`` are allowed."""
    return ArchiveError(
        f"{path}: found {size} bytes in the {what}, unpacked, of {path.stat().st_size} on disk; expected at most {most}. Mend: do "
        "not use this file if you do not know its origin; if you do, pack it again in parts, or without compression."
    )


def open_reader(path: Path, limits: Limits) -> Reader:
    """Open a file as zip where it is one, else as tar."""
    if zipfile.is_zipfile(path):
        return ZipReader(path)
    return TarReader(path, limits)


class ZipReader:
    """A zip file."""

    def __init__(self, path: Path) -> None:
        # A zip file may be read by several threads at once.
        self.turn: AbstractContextManager[Any] = nullcontext()
        self._file = zipfile.ZipFile(path)

    def entries(self) -> list[Entry]:
        """List the entries, with what is wrong with each."""
        return [
            Entry(
                info.filename,
                0 if info.is_dir() else info.file_size,
                info.compress_size,
                info.is_dir(),
                self._problem(info),
                info,
            )
            for info in self._file.infolist()
        ]

    def open(self, entry: Entry) -> IO[bytes]:
        """Open the file of an entry."""
        return self._file.open(entry.handle)

    def close(self) -> None:
        """Close the archive."""
        self._file.close()

    @staticmethod
    def _problem(info: zipfile.ZipInfo) -> str:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            return "is a link or a device"
        if "\0" in info.orig_filename:
            return "has a name that is cut off by a zero byte"
        if info.flag_bits & 0x1:
            return "is encrypted"
        if info.compress_type not in _METHODS:
            return (
                f"is packed with method {info.compress_type} (only {' and '.join(_METHODS.values())} members are read)"
            )
        return ""


class TarReader:
    """A tar file, packed or not."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.turn: AbstractContextManager[Any] = threading.Lock()
        with path.open("rb") as stream:
            start = stream.read(6)
        unpack = next((unpack for magic, unpack in _UNPACKERS.items() if start.startswith(magic)), open)
        opened: Any = unpack(path, "rb")
        most = min(limits.total, explained_bytes(path.stat().st_size, limits))
        self._stream = _Counted(opened, path, most)
        try:
            self._file = tarfile.TarFile(fileobj=self._stream)
        except BaseException:
            self._stream.close()
            raise

    def entries(self) -> list[Entry]:
        """List the entries, with what is wrong with each."""
        members = self._file.getmembers()
        # tarfile takes a damaged header in the middle for the end.
        self._stream.seek(self._file.offset)
        if self._stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"the list of members breaks off after {len(members)}")
        return [
            Entry(info.name, info.size if info.isfile() else 0, None, info.isdir(), self._problem(info), info)
            for info in members
            if info.name != "."
        ]

    def open(self, entry: Entry) -> IO[bytes]:
        """Open the file of an entry."""
        stream = self._file.extractfile(entry.handle)
        if stream is None:
            raise tarfile.ReadError("not a file")
        return stream

    def close(self) -> None:
        """Close the archive."""
        self._file.close()
        self._stream.close()

    @staticmethod
    def _problem(info: tarfile.TarInfo) -> str:
        return "" if info.isfile() or info.isdir() else "is a link or a device"


class _Counted(io.RawIOBase):
    """A stream of which no more than a number of bytes is unpacked."""

    def __init__(self, stream: IO[bytes], path: Path, most: int) -> None:
        self._inner, self._path, self._most = stream, path, most

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._inner.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and offset > self._most:
            raise too_large(self._path, str(offset), self._most, "tar file")
        return self._inner.seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        left = self._most - self._inner.tell()
        data = self._inner.read(left + 1 if size is None or size < 0 else min(size, left + 1))
        if len(data) > left:
            raise too_large(self._path, "more", self._most, "tar file")
        return data

    def close(self) -> None:
        self._inner.close()
        super().close()
