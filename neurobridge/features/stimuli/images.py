"""Pixels of stimuli, a batch at a time: from an array, files in a folder, or members of a zip."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr
from PIL import ExifTags, Image

from neurobridge.assemblies import AssemblyError, coords_of
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.points.blocks import row_blocks

Pixels = np.ndarray | list[np.ndarray]
Root = str | os.PathLike[str] | np.ndarray | None
FILE_COLUMNS = ("file", "filename")
_LAYOUTS = (("presentation", "row", "column"), ("presentation", "row", "column", "channel"))
_OPAQUE, _WITH_ALPHA = ("1", "L", "RGB", "P"), ("LA", "PA", "RGBA")


class Source(Protocol):
    """Stimuli in order, with their coordinates, read in blocks of rows."""

    coords: dict[str, np.ndarray]
    attrs: dict[str, Any]

    def __len__(self) -> int:
        """Count the stimuli."""

    def blocks(self, batch_size: int) -> list[slice]:
        """Rows that are read together."""

    def read(self, rows: slice) -> Pixels:
        """uint8 array of shape (n, row, column[, channel]), or a list of such images where their sizes differ."""

    def digest(self) -> str:
        """sha256 of the pixels or files, the coordinates and the attributes."""


def as_source(stimuli: xr.DataArray | pd.DataFrame, root: Root = None) -> Source:
    """Wrap an array of pixels, or a stimulus table and where its files are.

    Raises
    ------
    AssemblyError
        What is given is neither, or is not complete.
    """
    if isinstance(stimuli, pd.DataFrame):
        if isinstance(root, np.ndarray):
            return ArraySource(_labelled(stimuli, root))
        return TableSource(stimuli, root)
    if root is not None:
        raise AssemblyError(
            f"root: found {type(root).__name__} beside stimuli of type {type(stimuli).__name__}; expected root only with a "
            "table. Mend: leave it out."
        )
    _check_array(stimuli)
    return ArraySource(stimuli)


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
        """Batches; where the array has chunks, as many whole ones as fit in a batch, at least one."""
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
        self._archive: zipfile.ZipFile | None = None
        if self._root.is_file():
            try:
                # Kept open: its list of members can be long, and threads may read from one ZipFile at once.
                self._archive = zipfile.ZipFile(self._root)
            except (zipfile.BadZipFile, OSError) as error:
                raise AssemblyError(
                    f"root: found {self._root}, which cannot be read as zip ({error}); expected a folder or a zip. "
                    "Mend: check the path, or fetch the archive again."
                ) from error
            have = set(self._archive.namelist())
            missing = [file for file in self._files if file not in have]
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
        """Batches."""
        return row_blocks(len(self), 1, budget=batch_size)

    def read(self, rows: slice) -> Pixels:
        """Decode rows; one array if all have the same size, else a list."""
        images = [
            _decode(data, f"stimulus {str(self.coords['stimulus_id'][rows][k])!r} ({self._files[rows][k]})")
            for k, data in enumerate(self._bytes(rows))
        ]
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
            yield (self._root / file).read_bytes() if self._archive is None else self._archive.read(file)


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
    """sha256 of each image's size and pixels; grey, stored in one channel or in three, is the same image."""
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


def _decode(data: bytes, what: str) -> np.ndarray:
    """RGB pixels of one file; refuses what does not say by itself which pixels were seen."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if (n_frames := getattr(image, "n_frames", 1)) > 1:
                raise AssemblyError(
                    f"{what}: found {n_frames} pictures in one file; expected one. Mend: save the one that subjects saw by itself."
                )
            if (orientation := _orientation(image)) in range(2, 9):
                raise AssemblyError(
                    f"{what}: found EXIF orientation {orientation}, a picture to be turned or mirrored; expected pixels as they "
                    "were seen. Mend: PIL.ImageOps.exif_transpose where the subjects saw it so, or drop the tag, and save it again."
                )
            if image.mode in _WITH_ALPHA or "transparency" in image.info:
                if np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                    raise AssemblyError(
                        f"{what}: found an image with transparent pixels; expected opaque ones. Mend: put it on the background "
                        "that the subjects saw, and save it again."
                    )
            elif image.mode not in _OPAQUE:
                raise AssemblyError(
                    f"{what}: found an image of mode {image.mode}; expected 8 bits a channel, grey or RGB. Mend: convert it, "
                    "scaled as the subjects saw it."
                )
            return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except AssemblyError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise AssemblyError(
            f"{what}: found a file that cannot be read as an image ({error}); expected JPEG, PNG or another format that pillow "
            "knows. Mend: leave the row out of the table, or replace the file."
        ) from error


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    # A broken tag turns the picture nowhere, and its pixels are whole.
    except (SyntaxError, ValueError, struct.error):
        return 1


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
