"""Arrays in npy and npz files that come from outside: a header is compared with the bytes there are before anything is read."""

from __future__ import annotations

import io
import os
import tokenize
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from neurobridge.store.archives import LIMITS, Archive, ArchiveError, Limits

_VERSIONS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Header(NamedTuple):
    """The header of an npy file.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        Of plain values: arrays of Python objects are refused, as reading them runs code.
    fortran : bool
        True where columns lie together.
    offset : int
        Bytes of the header itself.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int


def read_npy(path: str | os.PathLike[str], *, mmap: bool = False) -> np.ndarray:
    """Read an array from an npy file.

    Parameters
    ----------
    path : path
    mmap : bool
        Map the file instead of reading it: for arrays larger than memory.

    Returns
    -------
    numpy.ndarray
        Of the shape and dtype in the header.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ArchiveError
        The file is no npy file of plain values, or holds another number of bytes than its header states.

    Examples
    --------
    >>> import numpy as np
    >>> np.save("rates.npy", np.eye(2))
    >>> read_npy("rates.npy").tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"found no file at {path}; expected an npy file. Mend: check the path.")
    try:
        with path.open("rb") as stream:
            header = _header(stream, path.stat().st_size, str(path))
        # An empty file cannot be mapped.
        return np.load(path, mmap_mode="r" if mmap and 0 not in header.shape else None, allow_pickle=False)
    except ArchiveError:
        raise
    except (OSError, ValueError) as error:
        raise _unreadable(str(path), error) from error


class ArrayArchive:
    """An npz file whose members and headers are checked.

    Parameters
    ----------
    path : path
    limits : Limits
        Largest sizes of the archive.

    Attributes
    ----------
    names : list of str
        The arrays in it, sorted.

    Raises
    ------
    ArchiveError
        The file is no zip file, or is refused by `Archive`.

    Examples
    --------
    >>> import numpy as np
    >>> np.savez("spaces.npz", source=np.zeros((3, 2)), target=np.ones(3))
    >>> with ArrayArchive("spaces.npz") as arrays:
    ...     arrays.names, arrays.header("source").shape, arrays.read("target").tolist()
    (['source', 'target'], (3, 2), [1.0, 1.0, 1.0])
    """

    def __init__(self, path: str | os.PathLike[str], *, limits: Limits = LIMITS) -> None:
        self.path = Path(path)
        if not zipfile.is_zipfile(self.path):
            raise ArchiveError(
                f"{self.path}: found a file that is no zip archive; expected an npz file of arrays. Mend: check the path, "
                "or write it again with np.savez."
            )
        self._archive = Archive(self.path, limits=limits)
        self.names = sorted(name.removesuffix(".npy") for name in self._archive.names if name.endswith(".npy"))

    def __enter__(self) -> ArrayArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def size(self, name: str) -> int:
        """Return the bytes of an array, unpacked, with its header."""
        return self._archive.size(f"{name}.npy")

    def header(self, name: str) -> Header:
        """Return the shape and dtype of an array without reading its values."""
        size = self.size(name)
        return self._archive.unpack(f"{name}.npy", lambda stream: _header(stream, size, f"{self.path}: {name}"))

    def read(self, name: str) -> np.ndarray:
        """Return an array.

        Raises
        ------
        ArchiveError
            There is no such array, it is larger than ``limits.member``, or its bytes are damaged.
        """
        self.header(name)
        payload = self._archive.read(f"{name}.npy")
        return np.lib.format.read_array(io.BytesIO(payload), allow_pickle=False)

    def map(self, name: str) -> np.ndarray | None:
        """Map an array whose bytes lie in the file as they are; None where they are packed."""
        header = self.header(name)
        with zipfile.ZipFile(self.path) as archive:
            member = archive.getinfo(f"{name}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            return None
        if 0 in header.shape:
            return np.empty(header.shape, header.dtype)
        with self.path.open("rb") as stream:
            stream.seek(member.header_offset)
            local = stream.read(30)
        # The name and the extra field of the local header, whose lengths may differ from the directory's.
        start = (
            member.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        )
        order: Any = "F" if header.fortran else "C"
        return np.memmap(
            self.path, dtype=header.dtype, mode="r", offset=start + header.offset, shape=header.shape, order=order
        )


def _header(stream: IO[bytes], size: int, where: str) -> Header:
    """Read a header, and refuse one that the ``size`` bytes of the file do not bear out."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _VERSIONS:
            raise ArchiveError(
                f"{where}: found npy version {version}; expected one of {sorted(_VERSIONS)}. Mend: write it again with np.save "
                "from an array with a plain dtype."
            )
        shape, fortran, dtype = _VERSIONS[version](stream)
        offset = stream.tell()
    except ArchiveError:
        raise
    except (
        ValueError,
        TypeError,
        SyntaxError,
        EOFError,
        KeyError,
        OverflowError,
        RecursionError,
        MemoryError,
        # Of numpy, which reads the headers of Python 2 once more; from Python 3.12 on no SyntaxError.
        tokenize.TokenError,
    ) as error:
        raise _unreadable(where, error) from error
    if dtype.hasobject:
        raise ArchiveError(
            f"{where}: found Python objects; expected numbers or text, as reading objects runs code. Mend: write it again with "
            "array.astype(str) or array.astype(float)."
        )
    expected = offset + dtype.itemsize * _product(shape)
    if any(side < 0 for side in shape) or expected != size:
        raise ArchiveError(
            f"{where}: found {size} bytes, where the header states shape {shape} of {dtype}; expected {expected}. Mend: the file "
            "is cut off, damaged or holds several arrays; fetch it again, or write one array with np.save."
        )
    return Header(shape, dtype, fortran, offset)


def _product(shape: tuple[int, ...]) -> int:
    # Not of numpy, whose integers overflow.
    product = 1
    for side in shape:
        product *= side
    return product


def _unreadable(where: str, error: BaseException) -> ArchiveError:
    return ArchiveError(
        f"{where}: found no array that numpy can read ({type(error).__name__}: {error}); expected an npy file of numbers or text. "
        "Mend: check the path, or write it again with np.save."
    )
