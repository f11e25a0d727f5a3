"""Images of an archive, read when they are needed."""

from __future__ import annotations

import io
import struct
import threading
import uuid
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
from PIL import Image

from neurobridge.store.archives import LIMITS, Archive, ArchiveError, Limits

__all__ = ["ArchiveError", "KeptArchive", "decode", "lazy_rows", "members_of", "stack", "zip_images"]

#: Bytes of one image file, packed as its format packs it.
IMAGE_BYTES = 2**28
#: Pixels of one image: far above any stimulus, far below what fills the memory.
IMAGE_PIXELS = 2**26


class KeptArchive:
    """An archive that is checked once and stays open, for arrays that read from it chunk by chunk.

    Checking 60,000 members takes a second, and a chunk a hundredth of that. Only the path travels to another process, which
    checks the archive again.

    Parameters
    ----------
    path : path
        Zip or tar file; opened by the first call of `open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.Lock()
        self._archive: Archive | None = None

    def __reduce__(self) -> tuple[type[KeptArchive], tuple[Path]]:
        return KeptArchive, (self.path,)

    def open(self) -> Archive:
        """Return the open archive.

        Raises
        ------
        ArchiveError
            `Archive` refuses the file.
        """
        with self._turn:
            if self._archive is None:
                self._archive = Archive(self.path)
                weakref.finalize(self, self._archive.close)
            return self._archive


def members_of(path: Path, *, suffixes: Sequence[str] = (), limits: Limits = LIMITS) -> list[str]:
    """Return the names of the files in an archive, sorted, after all of its entries were checked.

    Parameters
    ----------
    path : path
        Zip or tar file.
    suffixes : sequence of str, optional
        Endings to keep, lower case, e.g. ``(".jpg", ".png")``; all by default.
    limits : Limits
        Largest sizes.

    Raises
    ------
    ArchiveError
        `Archive` refuses the file.
    """
    with Archive(path, limits=limits) as archive:
        return [name for name in archive.names if not suffixes or name.lower().endswith(tuple(suffixes))]


def zip_images(
    path: Path | KeptArchive,
    names: Sequence[str],
    *,
    chunk: int = 64,
    mode: str | None = None,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dask.array.Array:
    """Return the images of an archive as one lazy array; a chunk is decoded when it is computed.

    Parameters
    ----------
    path : path or KeptArchive
        Zip or tar file. A packed tar file is unpacked from its start for every chunk.
    names : sequence of str
        Members, in the order of the result. All must have the size of the first.
    chunk : int
        Images a chunk.
    mode : {"L", "RGB"}, optional
        Grey or colours; by default as the first image is stored.
    prepare : callable, optional
        Applied to the pixels of each image, e.g. to bring them to one size.

    Returns
    -------
    dask array of shape (n_images, n_rows, n_columns[, 3])
        uint8.

    Raises
    ------
    ArchiveError
        The archive fails `members_of`, or lacks one of the names.
    """
    kept = path if isinstance(path, KeptArchive) else KeptArchive(path)
    archive, path = kept.open(), kept.path
    missing = sorted(name for name in set(names) if name not in archive)
    if missing or not names:
        raise ArchiveError(
            f"{path}: found {len(missing)} of {len(names)} images missing, e.g. {missing[:1]}; expected all that the "
            "stimulus table names, and at least one. Mend: fetch the archive and the table again."
        )

    def pixels(archive: Archive, name: str, mode: str | None) -> np.ndarray:
        image = decode(archive.read(name, most=IMAGE_BYTES), mode, f"{path}: {name}")
        return image if prepare is None else prepare(image)

    first = pixels(archive, names[0], mode)
    mode = mode or ("L" if first.ndim == 2 else "RGB")

    def read(rows: np.ndarray) -> np.ndarray:
        archive = kept.open()
        return stack([pixels(archive, names[k], mode) for k in rows], first.shape, f"{path}")

    return lazy_rows(read, len(names), first.shape, chunk)


def decode(data: bytes, mode: str | None, where: str) -> np.ndarray:
    """Return the pixels of an image file, uint8 array of shape (n_rows, n_columns) or (n_rows, n_columns, 3).

    Parameters
    ----------
    data : bytes
    mode : {"L", "RGB"} or None
        Grey or colours; by default as the image is stored.
    where : str
        Name of the file in messages.

    Raises
    ------
    ArchiveError
        The bytes are no whole image, or one of more than `IMAGE_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            # pillow warns from a size on that is refused here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
        with image:
            n_pixels = image.width * image.height
            if n_pixels > IMAGE_PIXELS:
                raise ArchiveError(
                    f"{where}: found an image of {image.width} x {image.height} pixels; expected at most {IMAGE_PIXELS} pixels. "
                    "Mend: scale it down to what the subjects saw."
                )
            return np.asarray(image.convert(mode or ("L" if image.mode in ("1", "L", "I;16") else "RGB")))
    except ArchiveError:
        raise
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise ArchiveError(
            f"{where}: found a file that cannot be read as an image ({type(error).__name__}: {error}); expected JPEG, PNG or "
            "another format that pillow knows. Mend: fetch the file again."
        ) from error


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
    """Return an array whose rows are made by ``read(row_numbers)``, a chunk at a time; shape (n_rows, *shape)."""
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
