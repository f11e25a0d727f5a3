"""Assemblies on disk: one variable, flat coordinates, readable by Brain-Score's AssemblyLoader."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies.schema import STIMULUS_ID, AssemblyError, plain, validate

_JSON_PREFIX = "json:"


def save_assembly(assembly: xr.DataArray, path: str | os.PathLike[str], *, compress: bool = True) -> Path:
    """Write an assembly as netCDF, atomically: a reader sees the old file or the new one, never half of one.

    The file holds one variable ``data`` and flat coordinates, the layout that Brain-Score's AssemblyLoader reads.
    Attributes that netCDF cannot hold (dict, list, bool, None) are stored as JSON text and restored on reading.

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
    """
    validate(assembly)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Brain-Score reads back through open_dataarray, which keeps the attributes of the variable, not of the file.
    dataset = assembly.rename("data").to_dataset()
    dataset["data"].attrs = {key: _encode(value) for key, value in assembly.attrs.items()}
    encoding = {"data": {"zlib": True, "complevel": 4}} if compress else {}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        dataset.to_netcdf(partial, engine="netcdf4", encoding=encoding)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def open_assembly(path: str | os.PathLike[str]) -> xr.DataArray:
    """Read an assembly from netCDF: any file with one data variable, whatever its name.

    ``image_id`` is copied to ``stimulus_id`` where the file is older than that name.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    AssemblyError
        The file cannot be read as netCDF, holds several variables, or does not meet the schema.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"found no file at {path}; expected a netCDF assembly. Mend: check the path.")
    try:
        with xr.open_dataset(path, engine="netcdf4") as dataset:
            dataset = dataset.load()
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
    assembly = dataset[names[0]].rename("data")
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


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim <= 1 and value.dtype.kind in "fiu":
        return value
    if isinstance(value, (str, int, float, np.number)) and not isinstance(value, bool):
        return value
    return _JSON_PREFIX + json.dumps(value)


def _decode(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_JSON_PREFIX):
        return json.loads(value[len(_JSON_PREFIX) :])
    return value
