"""Assemblies on disk: one variable, flat coordinates, readable by Brain-Score's AssemblyLoader."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from neurobridge.assemblies.schema import NEUROID, PRESENTATION, STIMULUS_ID, TIME_BIN, AssemblyError, plain, validate
from neurobridge.store.atomic import atomic_path

_JSON_PREFIX = "json:"


def save_assembly(assembly: xr.DataArray, path: str | os.PathLike[str], *, compress: bool = True) -> Path:
    """Write an assembly as netCDF, atomically: a reader sees the old file or the new one, never half of one.

    A dask-backed assembly is computed and written chunk by chunk.

    The file holds one variable ``data`` and flat coordinates, the layout that Brain-Score's AssemblyLoader
    reads. Attributes that netCDF cannot hold (dict, list, bool, None) are stored as JSON text and restored on
    reading. A dimension with one coordinate gets a second one in the file, ``<dim>_num``, which
    `open_assembly` leaves out: without it Brain-Score would name the first after the dimension.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``.
    path : path
        Target file; missing parent folders are made.
    compress : bool
        Deflate the values (lossless).

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    AssemblyError
        The assembly does not meet the schema, or an attribute is not plain data.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from neurobridge.assemblies import make_assembly, open_assembly, save_assembly
    >>> assembly = make_assembly(
    ...     [[1.0, 2.0]], presentation={"stimulus_id": ["a"]}, neuroid={"neuroid_id": ["n0", "n1"]}
    ... )  # simulated
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_assembly(assembly, Path(folder) / "responses.nc")
    ...     read = open_assembly(path)
    >>> path.name
    'responses.nc'
    """
    validate(assembly)
    path = Path(path)
    # Brain-Score reads through open_dataarray, which keeps the attributes of the variable, not of the file.
    dataset = assembly.rename("data").to_dataset()
    dataset["data"].attrs = {str(key): _encode(str(key), value) for key, value in assembly.attrs.items()}
    for dim in map(str, assembly.dims):
        names = [str(name) for name, coord in assembly.coords.items() if coord.dims == (dim,)]
        if len(names) == 1 and names != [dim]:
            number = np.arange(assembly.sizes[dim])
            dataset = dataset.assign_coords({f"{dim}_num": (dim, number, {"companion_of": names[0]})})
    encoding = {"data": {"zlib": True, "complevel": 4}} if compress else {}
    with atomic_path(path) as partial:
        dataset.to_netcdf(partial, engine="netcdf4", encoding=encoding)
    return path


def open_assembly(
    path: str | os.PathLike[str], *, chunks: Mapping[str, int] | Literal["auto"] | None = None
) -> xr.DataArray:
    """Read an assembly from netCDF: any file with one data variable, whatever its name and the order of its dimensions.

    ``image_id`` is copied to ``stimulus_id`` where the file is older than that name.

    Parameters
    ----------
    path : path
    chunks : mapping of dimension to size, or "auto", optional
        Read lazily, as dask chunks: for files larger than memory. The values are then checked for NaN as they are read, the
        file stays open, and chunks should span all neuroids, e.g. ``{"presentation": 4096}``. Default: read everything now.

    Returns
    -------
    xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``, flat coordinates.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    AssemblyError
        The file cannot be read as netCDF, holds several variables, or does not meet the schema.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from neurobridge.assemblies import make_assembly, open_assembly, save_assembly
    >>> assembly = make_assembly(
    ...     [[1.0, 2.0]], presentation={"stimulus_id": ["a"]}, neuroid={"neuroid_id": ["n0", "n1"]}
    ... )  # simulated
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_assembly(assembly, Path(folder) / "responses.nc")
    ...     read = open_assembly(path)
    >>> read.identical(assembly)
    True
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"found no file at {path}; expected a netCDF assembly. Mend: check the path.")
    try:
        # Units such as "seconds" in the attributes must not turn numbers into time differences.
        dataset = xr.open_dataset(path, engine="netcdf4", decode_timedelta=False)
        if chunks is None:
            with dataset:
                dataset.load()
    except (OSError, RuntimeError) as error:
        raise AssemblyError(
            f"{path}: found a file that netCDF cannot read ({error}); expected a complete netCDF4 file. "
            "Mend: fetch or write it again; it may be truncated."
        ) from error
    names = list(dataset.data_vars)
    if len(names) != 1:
        raise AssemblyError(
            f"{path}: found variables {sorted(map(str, names))}; expected exactly one. Mend: save one assembly a file."
        )
    companions = [name for name, coord in dataset.coords.items() if "companion_of" in coord.attrs]
    assembly = dataset[names[0]].drop_vars(companions).rename("data")
    if chunks is not None:
        # Labels are always needed as a whole, and small.
        assembly = assembly.assign_coords({name: coord.load() for name, coord in assembly.coords.items()}).chunk(chunks)
    layout = [dim for dim in (PRESENTATION, NEUROID, TIME_BIN) if dim in assembly.dims]
    if set(assembly.dims) == set(layout):
        # Files of Brain-Score may have the neuroids first.
        assembly = assembly.transpose(*layout)
    attrs = {**dataset.attrs, **assembly.attrs}
    assembly.attrs = {str(key): _decode(value) for key, value in attrs.items()}
    text = {
        name: (coord.dims, plain(coord.values))
        for name, coord in assembly.coords.items()
        if coord.dtype.kind not in "fiubM"
    }
    assembly = assembly.assign_coords(text)
    if STIMULUS_ID not in assembly.coords and "image_id" in assembly.coords:
        image_id = assembly.coords["image_id"]
        assembly = assembly.assign_coords({STIMULUS_ID: (image_id.dims, image_id.values)})
    return validate(assembly, role=str(path))


def _encode(key: str, value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 1 and len(value) > 1 and value.dtype.kind in "fiu":
        return value
    if isinstance(value, str) and not value.startswith(_JSON_PREFIX):
        return value
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        return value
    try:
        return _JSON_PREFIX + json.dumps(value, default=_plain_data)
    except TypeError as error:
        raise AssemblyError(
            f"attribute {key!r}: found {type(value).__name__} ({error}); expected text, numbers, or lists "
            f"and dicts of them. Mend: assembly.attrs.pop({key!r})."
        ) from error


def _plain_data(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not plain data")


def _decode(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_JSON_PREFIX):
        return json.loads(value[len(_JSON_PREFIX) :])
    return value
