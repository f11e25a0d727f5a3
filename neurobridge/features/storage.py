"""Where activations go while they are made: an array in memory, or a file that survives a kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import dask.array
import filelock
import numpy as np
import torch
import xarray as xr

from neurobridge.assemblies import AssemblyError, make_assembly, open_assembly, require_storable, save_assembly
from neurobridge.features.reduction import Part
from neurobridge.store.atomic import sweep_partials, write_json

DTYPES = ("float32", "float16")
KEY = "extraction_key"
# Part of every key: raised when the same inputs come to give other values or labels, so that files of earlier are not taken.
FORMAT = 3
_CHUNK_BYTES = 32 * 2**20
# A kill loses at most this much work, and committing stays far below the cost of a forward pass.
_COMMIT_BYTES = 4 * 2**20


def units_of(with_pooling: bool) -> tuple[str, ...]:
    """Return the coordinates that a unit has beside its id."""
    return ("layer", *(["pooling"] if with_pooling else []), "channel", "row", "column")


def extraction_key(**parts: Any) -> str:
    """Return the sha256 of everything that the values and labels of a result follow from, and of `FORMAT`."""
    return "sha256:" + hashlib.sha256(json.dumps({"format": FORMAT, **parts}, sort_keys=True).encode()).hexdigest()


class Layout:
    """The columns of the result that belong to each layer and pooling.

    Parameters
    ----------
    shapes : mapping of Part to tuple
        Shape of one image's activations in each.
    """

    def __init__(self, shapes: Mapping[Part, tuple[int, ...]]) -> None:
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        edges = np.cumsum([0, *(int(np.prod(shape)) for shape in self.shapes.values())]).tolist()
        self.width = edges[-1]
        self.columns = {name: slice(*edges[k : k + 2]) for k, name in enumerate(self.shapes)}

    def fill(self, target: np.ndarray, activations: Mapping[Part, torch.Tensor], ids: Sequence[Any]) -> None:
        """Write one batch into rows of the result.

        Raises
        ------
        AssemblyError
            Sizes differ from those before, or a value does not fit in the type of `target`.
        """
        shapes = {name: tuple(tensor.shape[1:]) for name, tensor in activations.items()}
        if shapes != self.shapes:
            raise AssemblyError(
                f"found {Layout(shapes).width} units at stimulus {ids[0]!r}, {self.width} "
                "before; expected the same for all images. Mend: name layers whose size does not depend "
                "on the input."
            )
        for name, tensor in activations.items():
            part = target[:, self.columns[name]]
            with np.errstate(over="ignore"):
                part[...] = tensor.flatten(1).numpy()
            if target.dtype == np.float16 and not np.isfinite(part).all():
                raise AssemblyError(
                    f"layer {name.layer!r}: found activations up to {float(tensor.abs().max()):.3g} in the batch of "
                    f"stimulus {ids[0]!r}; expected at most 65504, the largest float16. Mend: dtype='float32'."
                )

    def coords(self) -> dict[str, np.ndarray]:
        """Return the neuroid coordinates: ``neuroid_id``, ``layer``, ``pooling`` of several, ``channel``, ``row``, ``column``."""
        keys = units_of(any(name.pooling for name in self.shapes))
        columns: dict[str, list[np.ndarray]] = {key: [] for key in keys}
        for name, shape in self.shapes.items():
            grid = np.indices(shape).reshape(len(shape), -1)
            absent = np.full(grid.shape[1], -1)
            axes = {1: ("channel",), 2: ("row", "channel"), 3: ("channel", "row", "column")}[len(shape)]
            place = dict(zip(axes, grid, strict=True))
            place |= {key: np.full(grid.shape[1], value) for key, value in name._asdict().items()}
            for key in keys:
                columns[key].append(place.get(key, absent))
        joined = {key: np.concatenate(parts) for key, parts in columns.items()}
        ids = [".".join(map(str, fields)) for fields in zip(*(joined[key].tolist() for key in joined), strict=True)]
        return {"neuroid_id": np.array(ids), **joined}


class Memory:
    """The whole result in one array."""

    def __init__(self, n: int, dtype: str, max_bytes: int) -> None:
        self._n, self._dtype, self._max_bytes = n, np.dtype(dtype), max_bytes
        self.layout: Layout | None = None
        self.image_shape: tuple[int, ...] | None = None
        self.n_done = 0

    def write(self, row: int, activations: Mapping[Part, torch.Tensor], ids: Sequence[Any]) -> None:
        """Keep the activations of the images from this row on."""
        if self.layout is None:
            self.layout = Layout({name: tuple(tensor.shape[1:]) for name, tensor in activations.items()})
            needed = self._dtype.itemsize * self._n * self.layout.width
            if needed > self._max_bytes:
                raise AssemblyError(
                    f"found {self._n} images x {self.layout.width} units = {needed / 2**30:.1f} GiB; expected at most "
                    f"{self._max_bytes / 2**30:.1f} GiB. Mend: name fewer layers, use pooling='mean', stream to a file with "
                    "out=..., or raise max_bytes."
                )
            self._values = np.empty((self._n, self.layout.width), dtype=self._dtype)
        self.layout.fill(self._values[row : row + len(ids)], activations, ids)

    def commit(self, n_done: int) -> None:
        """Do nothing: memory does not outlive the process."""

    def finish(self, presentation: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> xr.DataArray:
        """Label the result."""
        assert self.layout is not None
        return make_assembly(self._values, presentation=presentation, neuroid=self.layout.coords(), attrs=attrs)


class Partial:
    """Rows appended to a raw file, and a journal of how many are whole; the finished file appears at once, at the end.

    HDF5 cannot be trusted after a kill in the middle of a write; a raw file that is cut back to what the journal says can. While
    the finished file is written the disk holds the values twice.
    """

    def __init__(self, path: Path, key: str, n: int, dtype: str) -> None:
        self.path, self._key, self._n, self._dtype = path, key, n, np.dtype(dtype)
        self.layout: Layout | None = None
        self.image_shape: tuple[int, ...] | None = None
        self.n_done = 0
        self._folder = path.with_name(f".{path.name}.partial")
        self._raw, self._journal = self._folder / "values.raw", self._folder / "progress.json"
        self._file: BinaryIO | None = None
        self._committed = 0

    def __enter__(self) -> Partial:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes with one goal: the second waits, then finds the work done.
        self._lock = filelock.FileLock(self.path.with_name(f".{self.path.name}.lock"))
        self._lock.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
        self._lock.release()

    def discard(self) -> None:
        """Remove what was left of this extraction, as by a kill after the finished file was written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def resume(self) -> int:
        """Look for rows that an earlier process left, and return how many of them are whole."""
        self._folder.mkdir(exist_ok=True)
        # Of a process killed while it wrote the finished file.
        sweep_partials(self.path.parent)
        state = self._earlier_state()
        if state is None:
            self._file = self._raw.open("w+b")
            return 0
        self.layout = state["layout"]
        self.image_shape = tuple(state["image_shape"])
        self._file = self._raw.open("r+b")
        self.n_done = self._committed = min(state["n_done"], self._raw.stat().st_size // self._row_bytes())
        return self.n_done

    def _earlier_state(self) -> dict[str, Any] | None:
        """Read the journal; None, with a warning if there is something to lose, where it is not one of this extraction."""
        if not self._journal.exists():
            return None
        try:
            state = json.loads(self._journal.read_text(encoding="utf-8"))
            n_rows, is_same = int(state["n_done"]), state["key"] == self._key
            state["layout"] = Layout({Part(*names): tuple(shape) for *names, shape in state["shapes"]})
            reason = "" if is_same else f"{n_rows} rows of an extraction with other weights, stimuli or settings"
            if is_same and not self._raw.exists():
                reason = f"a journal of {n_rows} rows, and no rows"
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"a journal that cannot be read ({type(error).__name__}: {error})"
        if not reason:
            return state
        warnings.warn(
            f"{self._folder}: found {reason}; they are deleted and this extraction starts at the first stimulus.",
            stacklevel=5,
        )
        return None

    def rewind(self, n_done: int) -> None:
        """Cut back to whole blocks of this run."""
        assert self._file is not None
        self.n_done = self._committed = n_done
        offset = n_done * self._row_bytes() if self.layout else 0
        self._file.truncate(offset)
        self._file.seek(offset)

    def write(self, row: int, activations: Mapping[Part, torch.Tensor], ids: Sequence[Any]) -> None:
        """Append the activations of the images from this row on."""
        assert self._file is not None
        if self.layout is None:
            self.layout = Layout({name: tuple(tensor.shape[1:]) for name, tensor in activations.items()})
            self._check_disk()
        values = np.empty((len(ids), self.layout.width), dtype=self._dtype)
        self.layout.fill(values, activations, ids)
        self._file.write(values.data)

    def commit(self, n_done: int) -> None:
        """Make the rows so far survive a kill: values first, then the journal."""
        assert self._file is not None
        self.n_done = n_done
        if (n_done - self._committed) * self._row_bytes() < _COMMIT_BYTES and n_done < self._n:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        assert self.layout is not None
        shapes = [[*part, shape] for part, shape in self.layout.shapes.items()]
        state = {"key": self._key, "n_done": n_done, "shapes": shapes, "image_shape": self.image_shape}
        write_json(state, self._journal)
        self._committed = n_done

    def finish(self, presentation: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> xr.DataArray:
        """Write the finished file, atomically, and open it lazily."""
        assert self._file is not None
        assert self.layout is not None
        self._file.close()
        rows = max(1, _CHUNK_BYTES // self._row_bytes())
        raw = _RawRows(self._raw, (self._n, self.layout.width), self._dtype)
        lazy = dask.array.from_array(
            raw,
            chunks=(rows, self.layout.width),
            name=f"activations-{self._key}",
            asarray=False,
            meta=np.empty((0, 0), raw.dtype),
        )
        assembly = make_assembly(lazy, presentation=presentation, neuroid=self.layout.coords(), attrs=attrs)
        # One thread, so that one chunk is in memory at a time.
        with dask.config.set(scheduler="synchronous"):
            save_assembly(assembly, self.path, compress=False)
        shutil.rmtree(self._folder)
        return open_features(self.path)

    def _row_bytes(self) -> int:
        return self._dtype.itemsize * self.layout.width if self.layout else 1

    def _check_disk(self) -> None:
        needed, free = 2 * self._n * self._row_bytes(), shutil.disk_usage(self._folder).free
        if needed > free:
            raise AssemblyError(
                f"out: found {free / 1e9:.1f} GB free at {self.path.parent}; expected {needed / 1e9:.1f} GB for {self._n} stimuli "
                "(the values twice, while the file is finished). Mend: another disk, fewer layers, or a pooling."
            )


class _RawRows:
    """Rows of a raw file, read when asked for and not mapped: mapped pages would count as the process's memory."""

    ndim = 2

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        start, stop, _ = index[0].indices(self.shape[0])
        width, size = self.shape[1], self.dtype.itemsize
        flat = np.fromfile(self.path, dtype=self.dtype, count=(stop - start) * width, offset=start * width * size)
        return flat.reshape(stop - start, width)[:, index[1]]


def open_features(path: str | os.PathLike[str], *, rows: int | None = None) -> xr.DataArray:
    """Open extracted activations lazily, netCDF or zarr.

    Parameters
    ----------
    path : path
        ``.nc`` file or ``.zarr`` folder that `extract` wrote.
    rows : int, optional
        Presentations a chunk; default: 32 MiB.

    Returns
    -------
    xarray.DataArray
        Dask-backed assembly; ``.load()`` brings it into memory.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    AssemblyError
        It is no assembly.
    ImportError
        A zarr folder without the extra ``zarr``.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import neurobridge as nb
    >>> pixels = np.random.default_rng(0).integers(0, 255, (6, 48, 48)).astype(np.uint8)
    >>> ids = ("presentation", [f"image{k}" for k in range(6)])
    >>> images = xr.DataArray(pixels, dims=("presentation", "row", "column"), coords={"stimulus_id": ids})
    >>> _ = nb.extract(nb.features.GaborEnergy(n_scales=2), images, "v1", out="kept.nc", progress=False)
    >>> open_features("kept.nc").sizes["neuroid"]
    192
    """

    def chunks(assembly: xr.DataArray) -> dict[str, int]:
        row = assembly.dtype.itemsize * assembly.sizes["neuroid"]
        return {"presentation": rows or max(1, _CHUNK_BYTES // row), "neuroid": -1}

    return open_assembly(path, chunks=chunks)


def check_result(
    presentation: Mapping[str, np.ndarray], attrs: Mapping[str, Any], *, to_file: bool, with_pooling: bool = False
) -> None:
    """Refuse labels of stimuli that the result cannot have, before anything is computed: `finish` would find them at the end.

    Parameters
    ----------
    presentation : mapping of str to array of shape (n_stimuli,)
        Coordinates of the stimuli.
    attrs : mapping
        Attributes of the result.
    to_file : bool
        The result is written to a file.
    with_pooling : bool
        The result has several poolings.

    Raises
    ------
    AssemblyError
        A coordinate has the name of one of the units, the labels break the schema, or a file cannot hold them.
    """
    places = {name: np.array([0]) for name in units_of(with_pooling)}
    one_unit: dict[str, np.ndarray] = {"neuroid_id": np.array(["0"]), **places}
    taken = [name for name in one_unit if name in presentation]
    if taken:
        raise AssemblyError(
            f"stimuli: found the columns {taken}; expected other names, as the units of a network have coordinates of these. Mend: "
            f"rename them in the table, e.g. stimuli.rename(columns={{{taken[0]!r}: 'stimulus_{taken[0]}'}})."
        )
    values = np.zeros((len(next(iter(presentation.values()))), 1), dtype=np.float32)
    sample = make_assembly(values, presentation=presentation, neuroid=one_unit, attrs=attrs)
    if to_file:
        require_storable(sample, role="stimuli")


def find_done(path: Path, key: str, *, overwrite: bool) -> xr.DataArray | None:
    """Open the finished file of this very extraction; None where there is none.

    Raises
    ------
    AssemblyError
        Something else is there and may not be overwritten.
    """
    if not path.exists():
        return None
    try:
        features = open_features(path)
        stored_key = features.attrs.get(KEY, "none")
    except AssemblyError as error:
        stored_key = f"unreadable ({error})"
    if stored_key == key:
        return features
    if overwrite:
        return None
    raise AssemblyError(
        f"out: found another file at {path} (extraction key {stored_key}); expected none, or one of the same weights, stimuli and "
        f"settings ({key}). Mend: another path, or overwrite=True."
    )
