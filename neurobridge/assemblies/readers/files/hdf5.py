"""HDF5 files: datasets by their paths, and MATLAB files of version 7.3, whose cells are references (extra ``io``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.readers.contents import Contents, Part, unreadable
from neurobridge.assemblies.readers.files.matlab import object_note
from neurobridge.assemblies.storage.netcdf import check_hdf5

_CLASS, _DECODED = "MATLAB_class", "MATLAB_object_decode"
# Value of the attribute for objects of classes, whose contents lie in a block of another format.
_OBJECT = 3


def require_io(package: str, path: Path, what: str) -> Any:
    """Import a package of the extra ``io``.

    Raises
    ------
    ImportError
        It is not installed; the message names the extra.
    """
    try:
        return __import__(package)
    except ImportError as error:
        raise ImportError(
            f"{path}: found no package {package}; expected it for {what}. Mend: pip install 'neurobridge[io]'."
        ) from error


def hdf5_contents(path: Path) -> Contents:
    """Return the datasets of an HDF5 file by their paths; links are not followed, and neither are datasets in other files.

    Raises
    ------
    AssemblyError
        The file is damaged, or declares far more than it can hold.
    ImportError
        h5py is missing.
    """
    h5py = require_io("h5py", path, "HDF5 and MATLAB 7.3 files")
    check_hdf5(path)
    parts: list[Part] = []
    unread: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith(("#refs#", "#subsystem#")):
            part = _part(h5py, name, item)
            if isinstance(part, str):
                unread.append(part if part.startswith(name) else f"/{name} ({part})")
            else:
                parts.append(part)

    try:
        with h5py.File(path, "r") as file:
            is_matlab = any(_CLASS in item.attrs for item in file.values() if item is not None)
            file.visititems(visit)
    # Damaged bytes end in almost any exception of the library.
    except Exception as error:
        raise unreadable(path, error, "an HDF5 file") from error

    def read(name: str) -> np.ndarray:
        try:
            with h5py.File(path, "r") as file:
                return _values(h5py, file, file[name])
        except AssemblyError:
            raise
        except (Exception, MemoryError) as error:
            raise unreadable(path, error, f"an HDF5 file, at {name}") from error

    return Contents(path, "MATLAB 7.3" if is_matlab else "HDF5", parts, read, unread)


def _part(h5py: Any, name: str, dataset: Any) -> Part | str:
    """Return the part of a dataset, or why it is not read."""
    if dataset.is_virtual or dataset.external:
        return "its values lie in other files"
    if dataset.shape is None:
        return "empty"
    kind = _matlab_class(dataset)
    # MATLAB keeps its columns together, h5py reads rows.
    shape = dataset.shape[::-1] if kind else dataset.shape
    if kind == "char":
        return Part(name, (shape[0],), "text", n_bytes=dataset.size)
    if kind == "cell":
        return Part(name, shape, "cells", n_bytes=8 * dataset.size)
    if kind and dataset.attrs.get(_DECODED) == _OBJECT:
        return object_note(name, kind)
    if "MATLAB_empty" in dataset.attrs or kind in ("function_handle", "string", "table"):
        return f"a MATLAB {kind}, empty or an object"
    if h5py.check_string_dtype(dataset.dtype) is not None or dataset.dtype.kind in "SU":
        return Part(name, shape, "text", _dims(dataset), 8 * dataset.size)
    if dataset.dtype.kind not in "fiub":
        return f"of type {dataset.dtype}"
    return Part(
        name, shape, dataset.dtype.name, _dims(dataset) if not kind else (), dataset.size * dataset.dtype.itemsize
    )


def _dims(dataset: Any) -> tuple[str, ...]:
    labels = tuple(dim.label or (Path(dim[0].name).name if len(dim) else "") for dim in dataset.dims)
    return labels if all(labels) else ()


def _matlab_class(dataset: Any) -> str:
    value = dataset.attrs.get(_CLASS, b"")
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _values(h5py: Any, file: Any, dataset: Any) -> np.ndarray:
    kind = _matlab_class(dataset)
    if kind == "cell":
        references = dataset[()].T
        cells = np.empty(references.size, dtype=object)
        for position, reference in enumerate(references.ravel()):
            cells[position] = _cell(h5py, file, reference)
        return cells.reshape(references.shape)
    if kind == "char":
        return np.array(_texts(dataset[()]), dtype=str)
    values = dataset[()]
    if kind:
        return np.asarray(values).T
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(values, dtype=object)
    return np.asarray(values)


def _cell(h5py: Any, file: Any, reference: Any) -> Any:
    if not isinstance(reference, h5py.Reference) or not reference:
        return None
    item = file[reference]
    if not isinstance(item, h5py.Dataset) or "MATLAB_empty" in item.attrs or _matlab_class(item) == "cell":
        return None
    values = item[()]
    if _matlab_class(item) == "char":
        return _texts(values)[0] if values.size else ""
    return np.asarray(values).T.ravel()


def _texts(codes: np.ndarray) -> Sequence[str]:
    """Return the rows of a MATLAB array of characters, kept as numbers of UTF-16 with one column a text."""
    rows = np.atleast_2d(np.asarray(codes, dtype=np.uint16).T)
    return [
        row.tobytes().decode("utf-16-le" if row.dtype.isnative else "utf-16-be", "replace").rstrip(" \0")
        for row in np.ascontiguousarray(rows)
    ]
