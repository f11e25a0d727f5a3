"""MATLAB files of version 5: variables, structures by dots, and cells of text; version 7.3 is HDF5 and read there."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.io
from scipy import sparse

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.readers.contents import Contents, Part, unreadable
from neurobridge.assemblies.storage.netcdf import read_elsewhere
from neurobridge.store.archive_formats import explained_bytes
from neurobridge.store.archives import LIMITS

_HEADER, _COMPRESSED = 128, 15
_PIECE = 2**20


def matlab_contents(path: Path) -> Contents:
    """Return the variables of a MATLAB file of version 4 to 7 (not 7.3).

    Fields of a structure have its name before a dot; a structure array gives a column a field, and cells of single values or
    texts become a column. Objects of classes of MATLAB (tables, strings) are named with the line of MATLAB that turns them into
    structures and cells; the format of their contents is not public.

    Raises
    ------
    AssemblyError
        The file is damaged, or unpacks to more than its size explains.
    """
    _refuse_bombs(path)
    read_elsewhere(path, "matlab")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = scipy.io.loadmat(path, squeeze_me=False, chars_as_strings=True)
    # Damaged bytes end in almost any exception of the reader.
    except (Exception, MemoryError) as error:
        raise unreadable(path, error, "a MATLAB file") from error
    arrays: dict[str, np.ndarray] = {}
    unread: list[str] = []
    for name, value in loaded.items():
        if not name.startswith("__"):
            _flatten(name, value, arrays, unread)
    parts = [Part(name, array.shape, _kind(array), n_bytes=array.nbytes) for name, array in arrays.items()]
    return Contents(path, "MATLAB", parts, arrays.__getitem__, unread)


#: Class of MATLAB -> the line that turns a variable of it into what other programs read.
_LINES = {
    "table": "{0} = table2struct({0}, 'ToScalar', true)",
    "timetable": "{0} = table2struct(timetable2table({0}), 'ToScalar', true)",
    "string": "{0} = cellstr({0})",
    "categorical": "{0} = cellstr({0})",
    "datetime": "{0} = cellstr(string({0}))",
    "duration": "{0} = seconds({0})",
}


def object_note(name: str, kind: str) -> str:
    """Name a variable that is an object of a class of MATLAB, with the line of MATLAB that mends it.

    Examples
    --------
    >>> object_note("image_name", "string")
    'image_name (a MATLAB string object; in MATLAB: image_name = cellstr(image_name), then save it again)'
    """
    line = _LINES.get(kind, "{0} = struct({0})").format(name)
    return f"{name} (a MATLAB {kind} object; in MATLAB: {line}, then save it again)"


def _ascii(text: Any) -> str:
    return text.decode("ascii", "replace") if isinstance(text, bytes) else str(text or "")


def _flatten(name: str, value: Any, arrays: dict[str, np.ndarray], unread: list[str], depth: int = 0) -> None:
    if sparse.issparse(value):
        value = _dense(name, value)
    if type(value).__name__ == "MatlabOpaque":
        item = value.ravel()[0]
        # In a variable of its own the name stands inside the object.
        own_name, kind = (_ascii(item[field]) for field in ("s0", "s2"))
        unread.append(object_note(own_name or name, kind))
    elif not isinstance(value, np.ndarray) or type(value).__name__ == "MatlabFunction" or depth > 16:
        unread.append(f"{name} (a {type(value).__name__})")
    elif value.dtype.names is None:
        text = value.dtype.kind == "U" and value.ndim == 1
        arrays[name] = np.char.rstrip(value) if text else value
    elif value.size == 1:
        for field in value.dtype.names:
            _flatten(f"{name}.{field}", value[field].ravel()[0], arrays, unread, depth + 1)
    else:
        for field in value.dtype.names:
            arrays[f"{name}.{field}"] = value[field].ravel()


def _dense(name: str, value: Any) -> np.ndarray:
    n_bytes = 8 * value.shape[0] * value.shape[1]
    if n_bytes > 2**31:
        raise AssemblyError(
            f"{name}: found a sparse matrix of shape {value.shape}; expected at most 2 GiB as a full one. Mend: full() of a "
            "part of it."
        )
    return value.toarray()


def _kind(array: np.ndarray) -> str:
    if array.dtype.kind in "US":
        return "text"
    if array.dtype.kind != "O":
        return array.dtype.name if array.dtype.kind in "fiub" else "cells"
    cells = array.ravel()
    words = sum(isinstance(cell, np.ndarray) and cell.dtype.kind == "U" for cell in cells)
    return "text" if words == len(cells) and len(cells) else "cells"


def _refuse_bombs(path: Path) -> None:
    """Count what the packed variables unpack to, a piece at a time, before anything is allocated for them."""
    size = path.stat().st_size
    most = explained_bytes(size, LIMITS)
    with path.open("rb") as stream:
        head = stream.read(_HEADER)
        order: Any = "big" if head[126:128] == b"MI" else "little"
        if head[126:128] not in (b"MI", b"IM"):
            return
        total = 0
        while len(tag := stream.read(8)) == 8:
            kind, length = int.from_bytes(tag[:4], order), int.from_bytes(tag[4:], order)
            after = stream.tell() + length
            if kind == _COMPRESSED:
                total += _unpacked(stream, length, most - total)
                if total > most:
                    raise AssemblyError(
                        f"{path}: found more than {most} bytes in {size}, unpacked; expected no more than 200 for each. Mend: do "
                        "not use this file if you do not know its origin; if you do, save it with '-v7.3' or without compression."
                    )
            stream.seek(after)


def _unpacked(stream: BinaryIO, length: int, most: int) -> int:
    """Return the bytes that a packed element holds, up to just above ``most``; a damaged one counts as far as it goes."""
    unpacker, total = zlib.decompressobj(), 0
    while length > 0 and (piece := stream.read(min(_PIECE, length))):
        length -= len(piece)
        while piece:
            try:
                total += len(unpacker.decompress(piece, _PIECE))
            except zlib.error:
                return total
            piece = unpacker.unconsumed_tail
            if total > most:
                return total
    return total
