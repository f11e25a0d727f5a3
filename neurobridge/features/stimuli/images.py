"""Pixels of stimuli, a batch at a time: from an array, files in a folder, or members of a zip."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError, coords_of
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.features.stimuli.collections import FILE_COLUMNS, Root, Stimuli, collect
from neurobridge.features.stimuli.decoding import decode
from neurobridge.points.blocks import row_blocks
from neurobridge.store.archives import Archive, ArchiveError

Pixels = np.ndarray | list[np.ndarray]
#: Largest size of one image file in an archive.
FILE_BYTES = 2**28
_LAYOUTS = (("presentation", "row", "column"), ("presentation", "row", "column", "channel"))
#: Most pixels that are decoded for one block of rows.
BLOCK_BYTES = 4 * 2**30


class Source(Protocol):
    """Stimuli in order, with their coordinates, read in blocks of rows."""

    coords: dict[str, np.ndarray]
    attrs: dict[str, Any]

    def __len__(self) -> int:
        """Count the stimuli."""

    def blocks(self, batch_size: int) -> list[slice]:
        """Return the rows that are read together."""

    def read(self, rows: slice) -> Pixels:
        """Read a uint8 array of shape (n, row, column[, channel]), or a list of such images where their sizes differ."""

    def digest(self) -> str:
        """Return the sha256 of the pixels or files, the coordinates and the attributes."""


def as_source(stimuli: Stimuli, root: Root = None) -> Source:
    """Wrap an array of pixels, or a stimulus table and where its files are; see `collect` for what else stimuli can be.

    Raises
    ------
    AssemblyError
        What is given is neither, or is not complete.
    """
    images, root = collect(stimuli, root)
    if isinstance(images, pd.DataFrame):
        if isinstance(root, np.ndarray):
            return ArraySource(_labelled(images, root))
        return TableSource(images, root)
    if root is not None:
        raise AssemblyError(
            f"root: found {type(root).__name__} beside stimuli of type {type(images).__name__}; expected root only with a "
            "table. Mend: leave it out."
        )
    _check_array(images)
    return ArraySource(images)


class ArraySource:
    """Pixels in a labelled array, in memory or dask-backed."""

    def __init__(self, images: xr.DataArray) -> None:
        _check_array(images)
        self._images = images
        self.coords = {name: column for name, (_, column) in coords_of(images, "presentation").items()}
        self.attrs = {str(key): value for key, value in images.attrs.items()}

    def __len__(self) -> int:
        """Count the stimuli."""
        return self._images.sizes["presentation"]

    def blocks(self, batch_size: int) -> list[slice]:
        """Return batches; where the array has chunks, as many whole ones as fit in a batch, at least one."""
        chunks = self._images.chunks
        if not chunks:
            return row_blocks(len(self), 1, budget=batch_size)
        edges = [0]
        for stop in np.cumsum(chunks[0]).tolist():
            if len(edges) > 1 and stop - edges[-2] <= batch_size:
                edges[-1] = stop
            elif stop > edges[-1]:
                edges.append(stop)
        return [slice(*edge) for edge in pairwise(edges)]

    def read(self, rows: slice) -> np.ndarray:
        """Read rows as one array."""
        return np.array(self._images.isel(presentation=rows).values, order="C")

    def digest(self) -> str:
        """Digest the pixels: this reads all of them once."""
        sha = hashlib.sha256(str(self._images.shape).encode())
        for rows in self.blocks(64):
            sha.update(self.read(rows).data)
        return _digest(sha, self.coords, self.attrs)


class TableSource:
    """Image files that a table names, in a folder or a zip. All are read as RGB.

    A file whose EXIF tag asks for the picture to be turned or mirrored is refused, as programs differ in whether they do, and only
    the experimenter knows what subjects saw; so is a file of several pictures (animation, pages).

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``stimulus_id`` and ``file`` (or ``filename``); the others are carried along as coordinates.
    root : path, optional
        Folder that the files are relative to, or a zip whose members they are. Default: the current folder.
    """

    def __init__(self, table: pd.DataFrame, root: str | os.PathLike[str] | None) -> None:
        self.coords, self._files = _columns(table)
        self.attrs = {str(key): value for key, value in table.attrs.items()}
        self._root = Path(root) if root is not None else Path()
        self._archive: Archive | None = None
        if self._root.is_file():
            try:
                # Kept open: its list of members can be long, and threads may read from one zip at once.
                self._archive = Archive(self._root)
            except ArchiveError as error:
                raise AssemblyError(f"root: {error}") from error
            missing = [file for file in self._files if file not in self._archive]
        else:
            missing = [file for file in self._files if not (self._root / file).is_file()]
        if missing:
            raise AssemblyError(
                f"stimuli: found no {missing[0]!r} in {self._root} ({len(missing)} of {len(self._files)} files missing); expected "
                "all that the table names. Mend: pass their folder or zip as root=..."
            )

    def __len__(self) -> int:
        """Count the stimuli."""
        return len(self._files)

    def blocks(self, batch_size: int) -> list[slice]:
        """Return batches."""
        return row_blocks(len(self), 1, budget=batch_size)

    def read(self, rows: slice) -> Pixels:
        """Decode rows; one array if all have the same size, else a list."""
        images: list[np.ndarray] = []
        contents = self._bytes(rows)
        for stimulus, file in zip(self.coords["stimulus_id"][rows], self._files[rows], strict=True):
            what = f"stimulus {str(stimulus)!r} ({file})"
            images.append(decode(_next_bytes(contents, what), what))
            n_bytes = sum(image.nbytes for image in images)
            if n_bytes > BLOCK_BYTES:
                raise AssemblyError(
                    f"{what}: found {n_bytes / 2**30:.1f} GiB of pixels in {len(images)} images that are read together; expected "
                    f"at most {BLOCK_BYTES / 2**30:.1f} GiB. Mend: batch_size={max(1, len(images) - 1)}."
                )
        return np.stack(images) if len({image.shape for image in images}) == 1 else images

    def digest(self) -> str:
        """Digest the files as they are stored, without decoding them."""
        sha = hashlib.sha256(b"files, read as RGB")
        for rows in self.blocks(64):
            for data in self._bytes(rows):
                sha.update(hashlib.sha256(data).digest())
        return _digest(sha, self.coords, self.attrs)

    def _bytes(self, rows: slice) -> Iterator[bytes]:
        for file in self._files[rows]:
            yield (
                (self._root / file).read_bytes() if self._archive is None else self._archive.read(file, most=FILE_BYTES)
            )


def _next_bytes(contents: Iterator[bytes], what: str) -> bytes:
    """Return the bytes of the next file; an error of the disk or the archive comes with the name of the stimulus."""
    try:
        return next(contents)
    except MemoryError:
        raise
    except ArchiveError as error:
        raise AssemblyError(f"{what}: {error}") from error
    # A member that is encrypted, damaged or packed in an unknown way ends in almost any exception.
    except Exception as error:
        raise AssemblyError(
            f"{what}: found a file that cannot be read ({type(error).__name__}: {error}); expected its bytes. Mend: check that it "
            "can be opened, or leave the row out of the table."
        ) from error


def read_ahead(source: Source, blocks: Sequence[slice], workers: int) -> Generator[tuple[slice, Pixels], None, None]:
    """Read blocks in order, while the caller computes on those before; with no workers, when they are asked for.

    At most ``workers + 1`` blocks are held beside the one in use.
    """
    if workers == 0:
        for rows in blocks:
            yield rows, source.read(rows)
        return
    waiting: list[tuple[slice, Future[Pixels]]] = []
    with ThreadPoolExecutor(workers, thread_name_prefix="images") as pool:
        try:
            for rows in blocks:
                waiting.append((rows, pool.submit(source.read, rows)))
                if len(waiting) > workers:
                    first, pixels = waiting.pop(0)
                    yield first, pixels.result()
            while waiting:
                first, pixels = waiting.pop(0)
                yield first, pixels.result()
        finally:
            for _, pixels in waiting:
                pixels.cancel()


def pixel_digests(pixels: Pixels) -> list[str]:
    """Return the sha256 of each image's size and pixels; grey, stored in one channel or in three, is the same image."""
    digests = []
    for image in pixels:
        if image.ndim == 3 and (image == image[..., :1]).all():
            image = image[..., 0]
        digests.append(hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest())
    return digests


def _digest(sha: Any, coords: dict[str, np.ndarray], attrs: dict[str, Any]) -> str:
    labels = {name: column.astype(str).tolist() for name, column in coords.items()}
    sha.update(json.dumps([labels, attrs], sort_keys=True, default=str).encode())
    return "sha256:" + sha.hexdigest()


def _columns(table: pd.DataFrame) -> tuple[dict[str, np.ndarray], list[str]]:
    names = [name for name in FILE_COLUMNS if name in table.columns]
    if "stimulus_id" not in table.columns or not names or not len(table):
        raise AssemblyError(
            f"stimuli: found a table of {len(table)} rows with columns {list(map(str, table.columns))}; expected at least one row, "
            "'stimulus_id' and 'file'. Mend: table.rename(columns={...: 'stimulus_id', ...: 'file'})."
        )
    coords = {str(name): plain(table[name], name=f"stimuli, column {name!r}") for name in table.columns}
    for name in ("stimulus_id", names[0]):
        mend = f"table[~neurobridge.assemblies.missing_rows(table[{name!r}])]"
        present_labels(coords[name], name=name, role="stimuli", mend=mend)
    return coords, coords[names[0]].astype(str).tolist()


def _labelled(table: pd.DataFrame, pixels: np.ndarray) -> xr.DataArray:
    if len(table) != len(pixels) or pixels.ndim not in (3, 4):
        raise AssemblyError(
            f"root: found pixels of shape {pixels.shape} for a table of {len(table)} rows; expected (n_rows, row, column"
            "[, channel]). Mend: one image a row, in the same order."
        )
    coords = {
        str(name): ("presentation", plain(table[name], name=f"stimuli, column {name!r}")) for name in table.columns
    }
    return xr.DataArray(pixels, dims=_LAYOUTS[pixels.ndim - 3], coords=coords, attrs=dict(table.attrs))


def _check_array(images: Any) -> None:
    mend = "Mend: pass Experiment.images, or build one with dims (presentation, row, column, channel) and stimulus_id."
    if not isinstance(images, xr.DataArray):
        raise AssemblyError(
            f"images: found {type(images).__name__}; expected an xarray.DataArray of pixels or a stimulus table. {mend}"
        )
    dims = tuple(map(str, images.dims))
    if dims not in _LAYOUTS:
        raise AssemblyError(f"images: found dims {dims}; expected {_LAYOUTS[0]} or {_LAYOUTS[1]}. {mend}")
    if images.dtype != np.uint8:
        raise AssemblyError(
            f"images: found dtype {images.dtype}; expected uint8 pixels in [0, 255]. Mend: keep the pixels "
            "as stored and give scaling and normalisation as preprocess=Preprocess(...)."
        )
    if dims == _LAYOUTS[1] and images.sizes["channel"] not in (1, 3):
        raise AssemblyError(
            f"images: found {images.sizes['channel']} channels; expected 1 (grey) or 3 (RGB). Mend: drop the "
            "alpha channel."
        )
    if 0 in images.shape:
        raise AssemblyError(f"images: found shape {images.shape}; expected at least one pixel of one image. {mend}")
    if isinstance(images.indexes.get("presentation"), pd.MultiIndex):
        raise AssemblyError(
            "images: found a MultiIndex on 'presentation'; expected flat coordinates. "
            "Mend: images.reset_index('presentation')."
        )
    if "stimulus_id" not in images.coords or images.coords["stimulus_id"].dims != ("presentation",):
        raise AssemblyError(
            f"images: found coordinates {sorted(map(str, images.coords))}; expected 'stimulus_id' on "
            "'presentation'. Mend: images.assign_coords(stimulus_id=('presentation', ids))."
        )
