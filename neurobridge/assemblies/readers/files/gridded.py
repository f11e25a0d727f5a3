"""netCDF of other programs, with their groups, and zarr: variables whose axes have names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from neurobridge.assemblies.readers.contents import Contents, Part, unreadable
from neurobridge.assemblies.storage.netcdf import check_netcdf, check_zarr


def netcdf_contents(path: Path) -> Contents:
    """Return the variables of a netCDF file, those of groups by their paths.

    Raises
    ------
    AssemblyError
        The file is damaged, or declares far more than it can hold.
    """
    check_netcdf(path)
    try:
        with netCDF4.Dataset(path) as file:
            parts = [_part(name, variable) for name, variable in _variables(file)]
    except Exception as error:
        raise unreadable(path, error, "a netCDF file") from error

    def read(name: str) -> np.ndarray:
        try:
            with netCDF4.Dataset(path) as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                variable = dict(_variables(file))[name]
                values = variable[...]
                if variable.dtype != str and variable.dtype.kind == "S":
                    return np.asarray(netCDF4.chartostring(np.ma.filled(values, b"")))
        except (Exception, MemoryError) as error:
            raise unreadable(path, error, f"a netCDF file, at {name}") from error
        return _filled(values)

    return Contents(path, "netCDF", parts, read)


def _variables(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, variable in group.variables.items():
        yield f"{above}{name}", variable
    for name, inner in group.groups.items():
        yield from _variables(inner, f"{above}{name}/")


def _part(name: str, variable: Any) -> Part:
    shape, dims = tuple(variable.shape), tuple(variable.dimensions)
    if variable.dtype == str:
        return Part(name, shape, "text", dims, 8 * int(np.prod(shape, dtype=np.float64)))
    if variable.dtype.kind == "S":
        return Part(name, shape[:-1], "text", dims[:-1], int(np.prod(shape, dtype=np.float64)))
    if not isinstance(variable.dtype, np.dtype) or variable.dtype.kind not in "fiub":
        return Part(name, shape, "cells", dims)
    # Packed numbers become fractions; masked ones, NaN.
    kind = variable.dtype if not hasattr(variable, "scale_factor") else np.dtype(np.float64)
    return Part(name, shape, kind.name, dims, int(np.prod(shape, dtype=np.float64)) * kind.itemsize)


def _filled(values: Any) -> np.ndarray:
    if not isinstance(values, np.ma.MaskedArray):
        return np.asarray(values)
    if not np.ma.getmaskarray(values).any():
        return np.asarray(values.data)
    if values.dtype.kind not in "fiub":
        return np.asarray(values.filled(""))
    return np.where(np.ma.getmaskarray(values), np.nan, np.asarray(values.data, dtype=np.float64))


def zarr_contents(path: Path) -> Contents:
    """Return the arrays of a zarr folder, those of groups by their paths.

    Raises
    ------
    AssemblyError
        The folder is damaged, declares far more than it can hold, or would run code when it is read.
    ImportError
        The package zarr is missing.
    """
    check_zarr(path)
    import zarr

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = zarr.open(str(path), mode="r")
            arrays = {path.stem: opened} if not hasattr(opened, "members") else dict(_arrays(opened))
            parts = [_zarr_part(name, array) for name, array in arrays.items()]
    except Exception as error:
        raise unreadable(path, error, "a zarr folder") from error

    def read(name: str) -> np.ndarray:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return np.asarray(arrays[name][...])
        except (Exception, MemoryError) as error:
            raise unreadable(path, error, f"a zarr folder, at {name}") from error

    return Contents(path, "zarr", parts, read)


def _arrays(group: Any) -> Iterator[tuple[str, Any]]:
    for name, item in sorted(group.members(max_depth=None)):
        if not hasattr(item, "members"):
            yield name, item


def _zarr_part(name: str, array: Any) -> Part:
    dims = array.attrs.get("_ARRAY_DIMENSIONS") or getattr(array.metadata, "dimension_names", None) or ()
    named = tuple(str(dim) for dim in dims if dim is not None)
    dtype = np.dtype(array.dtype)
    kind = dtype.name if dtype.kind in "fiub" else "text" if dtype.kind in "USOT" else "cells"
    size = int(np.prod(array.shape, dtype=np.float64))
    return Part(name, tuple(array.shape), kind, named if len(named) == array.ndim else (), size * dtype.itemsize)


def of_assembly_layout(contents: Contents) -> bool:
    """Tell whether a file is an assembly as it stands: its one array of values has the dimensions of one, and ids."""
    values = [part for part in contents.parts if part.n_axes > 1 and part.holds_numbers]
    names = {part.name for part in contents.parts}
    dims = {"presentation", "neuroid", "time_bin"}
    return (
        len(values) == 1
        and set(values[0].dims) <= dims
        and bool({"stimulus_id", "image_id"} & names)
        and "neuroid_id" in names
    )


def is_zarr(path: Path) -> bool:
    """Tell a zarr folder by its files."""
    return path.is_dir() and any((path / mark).exists() for mark in (".zgroup", ".zarray", ".zmetadata", "zarr.json"))
