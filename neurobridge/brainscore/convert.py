"""Assemblies across the border: flat coordinates here, MultiIndexes and subclasses there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError, coords_of, validate
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, STIMULUS_ID, TIME_BIN, plain

_ID_OF = {PRESENTATION: STIMULUS_ID, NEUROID: NEUROID_ID}
_STIMULUS_SET = "stimulus_set"


def to_brainscore(assembly: xr.DataArray, cls: type[xr.DataArray] | None = None) -> xr.DataArray:
    """Hand an assembly to Brain-Score: its class, with the coordinates of each dimension in a MultiIndex.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``, flat coordinates.
    cls : type, optional
        A Brain-Score assembly class; default ``NeuroidAssembly``.

    Returns
    -------
    NeuroidAssembly
        Same values, coordinates and attributes.

    Raises
    ------
    ImportError
        Brain-Score is not installed and no class is given.
    AssemblyError
        The assembly does not meet the schema.

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> values = np.random.default_rng(0).normal(size=(20, 3))
    >>> stimuli = {"stimulus_id": [f"s{k}" for k in range(20)]}
    >>> assembly = nb.make_assembly(values, presentation=stimuli, neuroid={"neuroid_id": ["a", "b", "c"]})
    >>> import xarray as xr
    >>> nb.brainscore.to_brainscore(assembly, xr.DataArray).dims  # by default Brain-Score's own class
    ('presentation', 'neuroid')
    """
    validate(assembly)
    cls = cls or _neuroid_assembly()
    coords: dict[str, Any] = {
        str(name): (coord.dims, coord.values) for name, coord in assembly.coords.items() if coord.ndim != 1
    }
    for dim in map(str, assembly.dims):
        columns = coords_of(assembly, dim)
        if len(columns) == 1 and dim not in columns:
            # Brain-Score would make it an index named after the dimension: its name is lost.
            ((name, (_, values)),) = columns.items()
            coords[dim] = pd.MultiIndex.from_arrays([values], names=[name])
        else:
            coords.update(columns)
    return cls(assembly.data, dims=assembly.dims, coords=coords, attrs=dict(assembly.attrs), name=assembly.name)


def from_brainscore(assembly: xr.DataArray) -> xr.DataArray:
    """Turn a Brain-Score assembly, or any DataArray with MultiIndexes, into a plain, flat one.

    Needs no Brain-Score package. Dimensions come out in the order ``(presentation, neuroid[, time_bin])``;
    ``image_id`` is copied to ``stimulus_id`` where that is missing; an only coordinate that became the index
    of its dimension is ``stimulus_id`` or ``neuroid_id`` again; the bounds of a squeezed time bin become the
    scalar coordinates ``time_bin_start`` and ``time_bin_end``. The attribute ``stimulus_set`` (a table
    object, whose columns are already presentation coordinates) is left out.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``presentation``, ``neuroid`` and perhaps ``time_bin``, in any order. May be dask-backed.

    Returns
    -------
    xarray.DataArray
        Validated assembly.

    Raises
    ------
    AssemblyError
        Not a DataArray, a scalar coordinate that holds a tuple, or what `validate` refuses.

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> values = np.random.default_rng(0).normal(size=(20, 3))
    >>> stimuli = {"stimulus_id": [f"s{k}" for k in range(20)]}
    >>> assembly = nb.make_assembly(values, presentation=stimuli, neuroid={"neuroid_id": ["a", "b", "c"]})
    >>> stacked = assembly.rename(stimulus_id="image_id").set_index(presentation=["image_id"])
    >>> nb.brainscore.from_brainscore(stacked).coords["stimulus_id"].dims
    ('presentation',)
    """
    if not isinstance(assembly, xr.DataArray):
        raise AssemblyError(
            f"found {type(assembly).__name__}; expected a Brain-Score assembly or another xarray.DataArray. "
            "Mend: load it with AssemblyLoader, or read its file with neurobridge.open_assembly."
        )
    if type(assembly).__name__ == "Score":
        raise AssemblyError(
            f"found a Score of Brain-Score with dims {assembly.dims}; expected an assembly of responses. Mend: read its numbers "
            "as they are, float(score) and score.attrs['raw'].values."
        )
    coords = _flat_coords(assembly)
    if STIMULUS_ID not in coords and "image_id" in coords:
        coords[STIMULUS_ID] = coords["image_id"]
    attrs = {str(key): value for key, value in assembly.attrs.items() if key != _STIMULUS_SET}
    flat = xr.DataArray(assembly.data, dims=assembly.dims, coords=coords, attrs=attrs, name="data")
    order = [dim for dim in (PRESENTATION, NEUROID, TIME_BIN) if dim in flat.dims]
    if len(order) == flat.ndim:
        flat = flat.transpose(*order)
    return validate(flat, role="Brain-Score assembly", allow_missing=True)


def _flat_coords(assembly: xr.DataArray) -> dict[str, tuple[Any, np.ndarray]]:
    indexes = {str(dim): index for dim, index in assembly.indexes.items() if dim in assembly.dims}
    nested = {dim: index for dim, index in indexes.items() if isinstance(index, pd.MultiIndex)}
    coords: dict[str, tuple[Any, np.ndarray]] = {
        str(level): (dim, plain(index.get_level_values(position)))
        for dim, index in nested.items()
        for position, level in enumerate(index.names)
    }
    for key, coord in assembly.coords.items():
        name = str(key)
        if name in coords or name in nested:
            continue
        if coord.ndim == 0 and coord.dtype.kind == "O":
            coords.update(_scalar(name, coord.item()))
        else:
            coords[name] = (coord.dims, plain(coord.values))
    for dim, identifier in _ID_OF.items():
        on_dim = [name for name, (dims, _) in coords.items() if dims in (dim, (dim,))]
        if on_dim == [dim]:
            coords[identifier] = coords.pop(dim)
    return coords


def _scalar(name: str, value: Any) -> dict[str, tuple[tuple[()], np.ndarray]]:
    if not isinstance(value, tuple):
        return {name: ((), plain(value))}
    bounds = (f"{TIME_BIN}_start", f"{TIME_BIN}_end")
    if name == TIME_BIN and len(value) == 2:
        return {bound: ((), np.asarray(edge)) for bound, edge in zip(bounds, value, strict=True)}
    raise AssemblyError(
        f"found the scalar coordinate {name!r} = {value!r}, the rest of a selected MultiIndex; expected "
        f"single values. Mend: assembly.drop_vars({name!r})."
    )


def _neuroid_assembly() -> type[xr.DataArray]:
    try:
        from brainscore_core.supported_data_standards.brainio.assemblies import NeuroidAssembly
    except ImportError as error:
        raise ImportError(
            f"found no usable brainscore_core ({error}); expected the Brain-Score packages. "
            "Mend: pip install 'neurobridge[brainscore]'."
        ) from error
    return NeuroidAssembly
