"""Zip files that are not trusted, and images that are read when they are needed."""

from __future__ import annotations

import io
import stat
import uuid
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import dask.array
import numpy as np
from PIL import Image

# Far above any stimulus set here, far below what fills a disk or the memory.
LIMIT_BYTES = 20 * 10**9


class ArchiveError(ValueError):
    """A zip file that is broken, or that holds what a stimulus archive has no use for."""


def members_of(path: Path, *, suffixes: Sequence[str] = (), limit: int = LIMIT_BYTES) -> list[str]:
    """Names of the files in a zip, sorted, after all of its entries were checked.

    Nothing is ever unpacked to disk by neurobridge; the check refuses archives that would do harm where someone else unpacks them.

    Parameters
    ----------
    path : path
        Zip file.
    suffixes : sequence of str, optional
        Endings to keep, lower case, e.g. ``(".jpg", ".png")``; all by default.
    limit : int
        Largest sum of the uncompressed sizes, in bytes.

    Raises
    ------
    ArchiveError
        Not a zip, an entry that leads out of the folder, a link, a name that appears twice, or too many bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ArchiveError(
            f"{path}: found a file that cannot be read as zip ({error}); expected a complete archive. Mend: fetch it again."
        ) from error
    seen: set[str] = set()
    for entry in entries:
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        outside = not parts or parts[0].startswith("/") or ".." in parts or ":" in parts[0]
        if outside or stat.S_ISLNK(entry.external_attr >> 16):
            raise ArchiveError(
                f"{path}: found the entry {entry.filename!r}, which leads out of the archive's folder or is a link; expected plain "
                "relative names. Mend: do not use this file; fetch it again from its publisher."
            )
        if entry.filename in seen:
            raise ArchiveError(
                f"{path}: found {entry.filename!r} twice; expected each name once. Mend: fetch the file again from its publisher."
            )
        seen.add(entry.filename)
    total = sum(entry.file_size for entry in entries)
    if total > limit:
        raise ArchiveError(
            f"{path}: found {total / 1e9:.2f} GB uncompressed in {path.stat().st_size / 1e9:.2f} GB; expected at most "
            f"{limit / 1e9:.2f} "
            "GB. Mend: do not use this file; fetch it again from its publisher."
        )
    files = sorted(entry.filename for entry in entries if not entry.is_dir())
    return [name for name in files if not suffixes or name.lower().endswith(tuple(suffixes))]


def zip_images(path: Path, names: Sequence[str], *, chunk: int = 64) -> dask.array.Array:
    """Images of a zip as one lazy array; a chunk is decoded when it is computed, and nothing is unpacked to disk.

    Parameters
    ----------
    path : path
        Zip file.
    names : sequence of str
        Members, in the order of the result. All must have the size of the first; grey ones stay grey if the first is.
    chunk : int
        Images a chunk.

    Returns
    -------
    dask array of shape (n_images, n_rows, n_columns[, 3])
        uint8.

    Raises
    ------
    ArchiveError
        The archive fails `members_of`, or lacks one of the names.
    """
    missing = sorted(set(names) - set(members_of(path)))
    if missing or not names:
        raise ArchiveError(
            f"{path}: found {len(missing)} of {len(names)} images missing, e.g. {missing[:1]}; expected all that the "
            f"stimulus table "
            "names, and at least one. Mend: fetch the archive and the table again."
        )
    with zipfile.ZipFile(path) as archive:
        mode = "L" if Image.open(io.BytesIO(archive.read(names[0]))).mode in ("1", "L", "I;16") else "RGB"
        first = decode(archive.read(names[0]), mode)

    def read(rows: np.ndarray) -> np.ndarray:
        with zipfile.ZipFile(path) as archive:
            return stack([decode(archive.read(names[k]), mode) for k in rows], first.shape, f"{path}")

    return lazy_rows(read, len(names), first.shape, chunk)


def decode(data: bytes, mode: str) -> np.ndarray:
    """Pixels of an image file, uint8 array of shape (n_rows, n_columns) or (n_rows, n_columns, 3)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode))


def stack(images: Sequence[np.ndarray], shape: tuple[int, ...], where: str) -> np.ndarray:
    """Stack images that must have one shape.

    Raises
    ------
    ArchiveError
        One of them has another.
    """
    for image in images:
        if image.shape != shape:
            raise ArchiveError(
                f"{where}: found an image of shape {image.shape}; expected {shape}, as the first one. Mend: fetch the file again."
            )
    return np.stack(images) if images else np.empty((0, *shape), dtype=np.uint8)


def lazy_rows(
    read: Callable[[np.ndarray], np.ndarray],
    n_rows: int,
    shape: tuple[int, ...],
    chunk: int,
    dtype: Any = np.uint8,
) -> dask.array.Array:
    """Array whose rows are made by ``read(row_numbers)``, a chunk at a time; shape (n_rows, *shape)."""
    rows = dask.array.arange(n_rows, chunks=chunk)
    return rows.map_blocks(
        read,
        # Its own name: dask would otherwise digest everything that the function refers to.
        name=f"rows-{uuid.uuid4().hex}",
        dtype=dtype,
        chunks=(rows.chunks[0], *((side,) for side in shape)),
        new_axis=list(range(1, len(shape) + 1)),
        meta=np.empty((0,) * (len(shape) + 1), dtype=dtype),
    )
