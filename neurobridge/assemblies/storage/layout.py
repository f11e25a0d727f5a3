"""The layout of an assembly in a file: one variable ``data`` and flat coordinates, whatever their names and dtypes were."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, TIME_BIN
from neurobridge.assemblies.storage.columns import (
    as_column,
    decode_column,
    encode_column,
    free_name,
    same_column,
    stored_names,
)
from neurobridge.assemblies.storage.values import (
    COMPANION_ATTR,
    DTYPE_ATTR,
    FORMAT_ATTR,
    NAME_ATTR,
    decode_attrs,
    differing_attrs,
    dump,
    encode_attrs,
    load,
)

Chunks = Mapping[str, int] | Literal["auto"] | Callable[[xr.DataArray], Mapping[str, int]] | None

# Version 1 is that of neurobridge 0.1, whose files do not say so.
FORMAT = 2


def require_storable(assembly: xr.DataArray, *, role: str = "assembly") -> xr.DataArray:
    """Refuse an assembly that a file cannot give back the same; nothing is written, and no values are read.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``; its coordinates and attributes are checked.
    role : str
        Name of the argument in messages.

    Returns
    -------
    xarray.DataArray
        The same assembly.

    Raises
    ------
    AssemblyError
        A coordinate or an attribute cannot be held; the message names it.

    Examples
    --------
    >>> from neurobridge.assemblies import AssemblyError, make_assembly, require_storable
    >>> assembly = make_assembly([[1.0]], presentation={"stimulus_id": ["a"]}, neuroid={"neuroid_id": ["n0"]})
    >>> try:
    ...     require_storable(assembly.assign_attrs(model=print))
    ... except AssemblyError as error:
    ...     print(str(error).split("; expected")[0])
    assembly: found the attribute 'model' of type builtin_function_or_method (builtin_function_or_method is not plain data)
    """
    to_dataset(assembly, typed=True, role=role)
    return assembly


def to_dataset(assembly: xr.DataArray, *, typed: bool, role: str = "assembly") -> xr.Dataset:
    """Lay an assembly out for a file.

    Parameters
    ----------
    assembly : xarray.DataArray
        Validated; may be dask-backed.
    typed : bool
        The file is netCDF, which keeps the type of numbers in attributes but has no float16.
    role : str
        Name of the assembly in messages.

    Returns
    -------
    xarray.Dataset
        Variable ``data``; numbers and text alone, no encodings of the file that the assembly came from.

    Raises
    ------
    AssemblyError
        A coordinate or an attribute cannot be held; the message names it.
    """
    dims = tuple(map(str, assembly.dims))
    coords = _stored_coords(assembly, typed, role, "assembly")
    for dim in dims:
        on_dim = [name for name, (along, _, _) in coords.items() if tuple(along) == (dim,)]
        if len(on_dim) == 1 and on_dim != [dim]:
            # Without a second coordinate Brain-Score would name the first after the dimension.
            number = free_name(f"{dim}_num", {name.casefold() for name in coords})
            coords[number] = (dim, np.arange(assembly.sizes[dim]), {COMPANION_ATTR: on_dim[0]})
    # Brain-Score reads through open_dataarray, which keeps the attributes of the variable, not of the file.
    attrs = encode_attrs(assembly.attrs, typed=typed, where=role, mend="assembly.attrs")
    values, marks = _stored_values(assembly, typed, role)
    variable = xr.Variable(dims, values, {**attrs, **marks, FORMAT_ATTR: FORMAT})
    return xr.Dataset({"data": variable}, coords=coords)


def variables_to_dataset(given: xr.Dataset, *, role: str) -> xr.Dataset:
    """Lay variables that share coordinates, such as those of a score, out for a netCDF file.

    Parameters
    ----------
    given : xarray.Dataset
        Variables of numbers, booleans, dates or text, whose names netCDF can hold.
    role : str
        Name of the dataset in messages and in the code that they give.

    Returns
    -------
    xarray.Dataset
        The same variables, coordinates and attributes, each encoded as those of an assembly are.

    Raises
    ------
    AssemblyError
        A variable, a coordinate or an attribute cannot be held; the message names it.
    """
    variables: dict[Hashable, Any] = {}
    for name, variable in given.data_vars.items():
        place = f"{role}[{name!r}]"
        stored, marks = encode_column(as_column(variable.values), f"{role}: variable {name!r}", f"{place}.astype(str)")
        attrs = encode_attrs(variable.attrs, typed=True, where=place, mend=f"{place}.attrs", taken=marks)
        variables[name] = (variable.dims, stored, {**attrs, **marks})
    attrs = encode_attrs(given.attrs, typed=True, where=role, mend=f"{role}.attrs")
    return xr.Dataset(variables, coords=_stored_coords(given, True, role, role), attrs=attrs)


def _stored_coords(labelled: xr.DataArray | xr.Dataset, typed: bool, role: str, expression: str) -> dict[str, Any]:
    """Encode all coordinates: the name in the file to dimensions, values and attributes."""
    names = stored_names(list(labelled.coords), tuple(map(str, labelled.dims)))
    coords: dict[str, Any] = {}
    for name, coord in labelled.coords.items():
        place = f"{expression}[{name!r}]"
        mend = f"{expression}.assign_coords({{{name!r}: ({coord.dims!r}, {place}.values.astype(str))}})"
        where = f"{role}: coordinate {name!r}"
        stored, marks = encode_column(as_column(coord.values), where, mend)
        attrs = encode_attrs(coord.attrs, typed=typed, where=where, mend=f"{place}.attrs", taken=marks)
        if names[name] != name:
            marks = {**marks, NAME_ATTR: dump(name)}
        coords[names[name]] = (coord.dims, stored, {**attrs, **marks})
    return coords


def _stored_values(assembly: xr.DataArray, typed: bool, role: str) -> tuple[Any, dict[str, str]]:
    data, dtype = assembly.data, assembly.dtype
    if dtype.kind == "b":
        return data.astype(np.int8), {"dtype": "bool"}
    if dtype == np.float16 and typed:
        return data.astype(np.float32), {DTYPE_ATTR: "float16"}
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise AssemblyError(
            f"{role}: found values of dtype {dtype}; expected at most 64 bits each. Mend: assembly.astype('float64')."
        )
    return data.astype(dtype.newbyteorder("="), copy=False), {}


def from_dataset(dataset: xr.Dataset, *, role: str, chunks: Chunks = None) -> xr.DataArray:
    """Read the assembly in a dataset that was opened without conventions for numbers and dates: ours, or another program's.

    Parameters
    ----------
    dataset : xarray.Dataset
        With text decoded, values lazy.
    role : str
        Path, for messages.
    chunks : mapping of dimension to size, "auto", or a function of the assembly that gives either, optional
        Make the values a dask array. Default: read them now.

    Returns
    -------
    xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])`` where the file has them, not validated. The coordinates are in memory.

    Raises
    ------
    AssemblyError
        There is not one variable of values, two coordinates have one name, or a newer version wrote the file.
    """
    main = _only_variable(dataset, role)
    values = dataset[main].variable
    version = values.attrs.get(FORMAT_ATTR, 1)
    if version > FORMAT:
        raise AssemblyError(
            f"{role}: found format {version} of neurobridge's files; expected at most {FORMAT}. "
            "Mend: pip install --upgrade neurobridge."
        )
    coords: dict[Hashable, xr.Variable] = {}
    for key in dataset.variables:
        variable = dataset[key].variable
        if key == main or COMPANION_ATTR in variable.attrs or not set(variable.dims) <= set(values.dims):
            continue
        name = load("json:" + variable.attrs[NAME_ATTR]) if NAME_ATTR in variable.attrs else key
        if name in coords:
            raise AssemblyError(
                f"{role}: found two coordinates {name!r}; expected one. Mend: rename one of them in the file."
            )
        coords[name] = _read_labels(variable)
    as_float16 = values.attrs.get(DTYPE_ATTR) == "float16" and values.dtype == np.float32
    values = _decode_conventions(values, dates=False)
    values.attrs = {**decode_attrs(dataset.attrs), **values.attrs}
    # Through a dataset: an array made of the variable itself would be read now.
    assembly = xr.Dataset({"data": values})["data"].assign_coords(coords)
    order = [dim for dim in (PRESENTATION, NEUROID, TIME_BIN) if dim in assembly.dims]
    if set(order) == set(assembly.dims):
        # Files of Brain-Score may have the neuroids first.
        assembly = assembly.transpose(*order)
    if callable(chunks):
        chunks = chunks(assembly)
    # The values alone: an assembly's own `chunk` makes its labels lazy too.
    assembly = assembly.load() if chunks is None else assembly.copy(data=assembly.variable.chunk(chunks).data)
    return assembly.astype(np.float16) if as_float16 else assembly


def _only_variable(dataset: xr.Dataset, role: str) -> Hashable:
    names = list(dataset.data_vars)
    if len(names) > 1:
        # Where a file does not say which variables label the others, those of one dimension do.
        names = [name for name in names if dataset[name].ndim > 1] or names
    if len(names) != 1:
        raise AssemblyError(
            f"{role}: found variables {sorted(map(str, dataset.data_vars))}; expected exactly one. "
            "Mend: save one assembly a file."
        )
    return names[0]


def _read_labels(variable: xr.Variable) -> xr.Variable:
    attrs = dict(variable.attrs)
    column = decode_column(np.asarray(variable.values), attrs)
    if column is None:
        decoded = _decode_conventions(variable, dates=True)
        return xr.Variable(decoded.dims, as_column(decoded.values), decoded.attrs)
    if column.dtype.kind in "Mm":
        attrs.pop("units", None)
    return xr.Variable(variable.dims, column, decode_attrs(attrs))


def _decode_conventions(variable: xr.Variable, *, dates: bool) -> xr.Variable:
    """Apply scales, fill values and dates as CF names them, which this package never writes; what it means is no attribute then."""
    raw = variable.to_base_variable()
    kept: dict[str, Any] = {}
    units = raw.attrs.get("units", "")
    if not isinstance(units, str) or "since" in units.lower():
        try:
            decoded = _by_xarray(raw) if dates else None
        # "seconds since stimulus onset" is a unit in words, and xarray raises several classes for it.
        except Exception:
            decoded = None
        if decoded is None:
            kept = {name: raw.attrs[name] for name in ("units", "calendar") if name in raw.attrs}
            raw = raw.copy(deep=False)
            raw.attrs = {name: value for name, value in raw.attrs.items() if name not in kept}
            decoded = _by_xarray(raw)
    else:
        decoded = _by_xarray(raw)
    decoded.attrs = decode_attrs({**kept, **decoded.attrs})
    # Packing of the file would be used again for other values.
    decoded.encoding = {}
    return decoded


def _by_xarray(variable: xr.Variable) -> xr.Variable:
    return xr.conventions.decode_cf_variable("data", variable, concat_characters=False, decode_timedelta=False)


def describe_differences(written: xr.DataArray, read: xr.DataArray) -> list[str]:
    """List what differs between an assembly and what was read back, by its header and coordinates; empty where nothing does."""
    differences = []
    if (written.dims, written.shape, written.dtype.newbyteorder("=")) != (read.dims, read.shape, read.dtype):
        differences.append(f"values of {read.dtype} {read.shape} on {read.dims}")
    differences += [f"attribute {name!r}" for name in differing_attrs(written.attrs, read.attrs)]
    for name in dict.fromkeys([*written.coords, *read.coords]):
        if name not in written.coords or name not in read.coords:
            differences.append(f"coordinate {name!r} missing or new")
            continue
        before, after = written.coords[name], read.coords[name]
        if before.dims != after.dims or not same_column(as_column(before.values), as_column(after.values)):
            differences.append(f"coordinate {name!r}")
        differences += [f"attribute {key!r} of {name!r}" for key in differing_attrs(before.attrs, after.attrs)]
    return differences
