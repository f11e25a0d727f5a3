"""Arrays of numpy: npy and npz files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neurobridge.assemblies.readers.contents import Contents, Part
from neurobridge.store.npy import ArrayArchive, read_npy


def npy_contents(path: Path) -> Contents:
    """Return the one array of an npy file.

    Raises
    ------
    ArchiveError
        The file is damaged, or holds Python objects.
    """
    mapped = read_npy(path, mmap=True)
    part = Part(path.stem, mapped.shape, _kind(mapped.dtype), n_bytes=mapped.nbytes)
    return Contents(path, "npy", [part], lambda name: read_npy(path))


def npz_contents(path: Path) -> Contents:
    """Return the arrays of an npz file; those of Python objects are listed as unread.

    Raises
    ------
    ArchiveError
        The archive is damaged, or larger than its size on disk explains.
    """
    parts, unread = [], []
    with ArrayArchive(path) as archive:
        for name in archive.names:
            try:
                header = archive.header(name)
            except ValueError as error:
                unread.append(f"{name} ({error})")
                continue
            parts.append(Part(name, header.shape, _kind(header.dtype), n_bytes=archive.size(name)))

    def read(name: str) -> np.ndarray:
        with ArrayArchive(path) as archive:
            return archive.read(name)

    return Contents(path, "npz", parts, read, unread)


def _kind(dtype: np.dtype) -> str:
    return "text" if dtype.kind in "US" else dtype.name if dtype.kind in "fiub" else "cells"
