"""Schema of an assembly: a plain, validated ``xarray.DataArray`` with flat coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.points.blocks import is_dask
from neurobridge.points.conversion import real_array, require_real, unlabelled, working_dtype

PRESENTATION, NEUROID, TIME_BIN = "presentation", "neuroid", "time_bin"
STIMULUS_ID, NEUROID_ID, REPETITION = "stimulus_id", "neuroid_id", "repetition"

_LAYOUTS = ((PRESENTATION, NEUROID), (PRESENTATION, NEUROID, TIME_BIN))


def make_assembly(
    values: npt.ArrayLike,
    *,
    presentation: Mapping[str, npt.ArrayLike] | pd.DataFrame,
    neuroid: Mapping[str, npt.ArrayLike] | pd.DataFrame,
    time_bin: Mapping[str, npt.ArrayLike] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Build an assembly from an array and its flat coordinates, and validate it.

    Parameters
    ----------
    values : array of shape (n_presentations, n_neuroids) or (n_presentations, n_neuroids, n_time_bins)
        Responses or activations, any real dtype: what `numpy.asarray` takes, masked arrays (masked is missing), torch
        tensors, or dask, which stays lazy.
    presentation, neuroid, time_bin : mapping of str to array of shape (n,)
        Coordinates of each dimension. ``presentation`` needs ``stimulus_id``, ``neuroid`` needs ``neuroid_id``. Missing
        values (None, NaN, NaT, ``pandas.NA``) become NaN among numbers and the empty text among text; ids have none.
    attrs : mapping, optional
        Free metadata: identifier, digests, citation.

    Returns
    -------
    xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``.

    Raises
    ------
    AssemblyError
        A coordinate is missing, has the wrong length or mixes what cannot be told apart (see the message), or the values
        are no real numbers or break the schema (see `validate`).

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> recordings = make_assembly(
    ...     np.random.default_rng(0).normal(size=(3, 2)),  # simulated
    ...     presentation={"stimulus_id": ["a.png", "b.png", "c.png"], "category_name": ["car", "car", "face"]},
    ...     neuroid={"neuroid_id": ["site 1", "site 2"], "region": ["IT", "IT"]},
    ... )
    >>> dict(recordings.sizes), recordings["region"].dims
    ({'presentation': 3, 'neuroid': 2}, ('neuroid',))
    """
    data = unlabelled(values)
    if is_dask(data):
        require_real(data, name="values", error=AssemblyError)
    else:
        data = real_array(data, name="values", error=AssemblyError)
    columns: dict[str, Mapping[Any, Any] | pd.DataFrame] = {PRESENTATION: presentation, NEUROID: neuroid}
    if time_bin is not None:
        columns[TIME_BIN] = time_bin
    dims = tuple(columns)
    if data.ndim != len(dims):
        raise AssemblyError(
            f"found values of shape {data.shape}; expected {len(dims)} dimensions {dims}. "
            "Mend: pass one axis for each of presentation and neuroid, and time_bin coordinates for a third."
        )
    coords = {}
    for dim, size in zip(dims, data.shape, strict=True):
        for name, column in columns[dim].items():
            flat = plain(column, name=f"coordinate {name!r}")
            if flat.shape != (size,):
                flatten = "numpy.ravel(column)" if flat.size == size else f"give one {name!r} for each {dim}"
                raise AssemblyError(
                    f"found coordinate {name!r} of shape {flat.shape}; expected ({size},) to match dimension "
                    f"{dim!r}. Mend: {flatten}."
                )
            coords[str(name)] = (dim, flat)
    return validate(xr.DataArray(data, dims=dims, coords=coords, attrs=dict(attrs or {}), name="data"))


def validate(assembly: xr.DataArray, *, role: str = "assembly") -> xr.DataArray:
    """Check an assembly against the schema and return it unchanged.

    Parameters
    ----------
    assembly : xarray.DataArray
        Candidate, dims ``(presentation, neuroid[, time_bin])``.
    role : str
        Name of the argument in messages, e.g. "source" or "recordings".

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    AssemblyError
        Wrong type or dims, MultiIndex, missing or mis-shaped ``stimulus_id`` / ``neuroid_id``, a row without an id or
        ``repetition``, empty dimension, duplicate neuroids, duplicate (stimulus, repetition) presentations, values that are
        no real numbers, NaN or infinite values.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurobridge.assemblies import validate
    >>> array = xr.DataArray(
    ...     np.zeros((2, 3)),  # simulated
    ...     dims=("presentation", "neuroid"),
    ...     coords={"stimulus_id": ("presentation", ["a", "b"]), "neuroid_id": ("neuroid", [0, 1, 2])},
    ... )
    >>> validate(array) is array
    True
    """
    if not isinstance(assembly, xr.DataArray):
        raise AssemblyError(
            f"{role}: found {type(assembly).__name__}; expected an xarray.DataArray. "
            "Mend: build one with neurobridge.make_assembly(values, presentation=..., neuroid=...)."
        )
    dims = tuple(map(str, assembly.dims))
    if dims not in _LAYOUTS:
        raise AssemblyError(
            f"{role}: found dims {dims}; expected {_LAYOUTS[0]} or {_LAYOUTS[1]}. "
            "Mend: rename or transpose, e.g. assembly.transpose('presentation', 'neuroid')."
        )
    for dim in dims:
        if isinstance(assembly.indexes.get(dim), pd.MultiIndex):
            raise AssemblyError(
                f"{role}: found a MultiIndex on {dim!r}; expected flat coordinates. "
                f"Mend: assembly.reset_index({dim!r}), or neurobridge.brainscore.from_brainscore(assembly)."
            )
        if assembly.sizes[dim] == 0:
            raise AssemblyError(f"{role}: found an empty {dim!r}; expected at least one. Mend: widen the selection.")
    for name, dim in ((STIMULUS_ID, PRESENTATION), (NEUROID_ID, NEUROID)):
        if name not in assembly.coords:
            raise AssemblyError(
                f"{role}: found coordinates {sorted(map(str, assembly.coords))}; expected {name!r} on {dim!r}. "
                f"Mend: assembly.assign_coords({name}=({dim!r}, ids))."
            )
        if assembly.coords[name].dims != (dim,):
            raise AssemblyError(
                f"{role}: found {name!r} on {assembly.coords[name].dims}; expected it on ({dim!r},). "
                f"Mend: assembly.assign_coords({name}=({dim!r}, ids))."
            )
    _refuse_duplicates(assembly, [NEUROID_ID], role)
    present_ids(assembly, role=role)
    if REPETITION in assembly.coords and assembly.coords[REPETITION].dims == (PRESENTATION,):
        _refuse_duplicates(assembly, [STIMULUS_ID, REPETITION], role)
    if assembly.dtype.kind not in "fiub":
        require_real(assembly, name=role, error=AssemblyError)
        raise AssemblyError(
            f"{role}: found values of dtype {assembly.dtype}; expected real numbers. Mend: assembly.astype('float64')."
        )
    # A dask-backed assembly is checked block by block when it is computed, not here.
    if not is_dask(assembly.data):
        _refuse_non_finite(assembly, assembly.values, role)
    return assembly


def present_ids(assembly: xr.DataArray, name: str = STIMULUS_ID, *, role: str = "assembly") -> np.ndarray:
    """Return the ids of an assembly, and refuse missing ones.

    Parameters
    ----------
    assembly : xarray.DataArray
    name : str
        Coordinate: ``stimulus_id``, ``neuroid_id`` or ``repetition``.
    role : str
        Name of the argument in messages.

    Raises
    ------
    AssemblyError
        Counts the missing ids and names their rows.
    """
    mend = (
        f"neurobridge.assemblies.drop_missing({role if role.isidentifier() else 'assembly'}, {name!r}) leaves them out"
    )
    return present_labels(assembly.coords[name].values, name=name, role=role, mend=mend)


def _refuse_duplicates(assembly: xr.DataArray, names: Sequence[str], role: str) -> None:
    keys = pd.MultiIndex.from_arrays([present_ids(assembly, name, role=role) for name in names])
    duplicated = keys.duplicated()
    if duplicated.any():
        label = " and ".join(names)
        shown = ", ".join(map(str, keys[duplicated][0]))
        raise AssemblyError(
            f"{role}: found {int(duplicated.sum())} duplicate {label}, e.g. {shown!r}; expected each once. "
            f"Mend: drop the copies, or give each its own {names[-1]!r}."
        )


def blocks(assembly: xr.DataArray, *, role: str = "assembly") -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the values of successive presentations with their rows, one dask chunk at a time (or all at once, if in memory).

    Floating values are float32 or float64 in the byte order of this machine, which every library computes with.

    Raises
    ------
    AssemblyError
        A chunk holds NaN or infinite values, which `validate` can only see in arrays that are in memory.
    """
    data = assembly.data
    if not is_dask(data):
        yield slice(0, assembly.sizes[PRESENTATION]), _read(data, role)
        return
    stops = np.cumsum(data.chunks[0]).tolist()
    for start, stop in zip([0, *stops], stops, strict=False):
        values = _read(data[start:stop], role)
        _refuse_non_finite(assembly, values, role, start=start)
        yield slice(start, stop), values


def _read(data: Any, role: str) -> np.ndarray:
    values = real_array(data, name=role, error=AssemblyError)
    return values.astype(working_dtype(values.dtype), copy=False) if values.dtype.kind == "f" else values


def _refuse_non_finite(assembly: xr.DataArray, values: np.ndarray, role: str, *, start: int = 0) -> None:
    # One reduction decides; locating the offenders is only paid for when there are some.
    if values.dtype.kind != "f" or np.isfinite(values.sum(dtype=np.float64)):
        return
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    where = np.argwhere(bad)[0]
    stimulus = assembly.coords[STIMULUS_ID].values[start + where[0]]
    neuroid = assembly.coords[NEUROID_ID].values[where[1]]
    raise AssemblyError(
        f"{role}: found {int(bad.sum())} NaN or infinite values of {values.size}, first at stimulus {str(stimulus)!r}, "
        f"neuroid {str(neuroid)!r}; expected finite numbers. Mend: drop the missing presentations, e.g. "
        "assembly.isel(presentation=np.isfinite(assembly.values).all(axis=1))."
    )


def require_unique_stimuli(assembly: xr.DataArray, *, role: str = "assembly") -> xr.DataArray:
    """Refuse an assembly in which a stimulus was presented more than once.

    Parameters
    ----------
    assembly : xarray.DataArray
    role : str
        Name of the argument in messages.

    Returns
    -------
    xarray.DataArray
        The same assembly.

    Raises
    ------
    AssemblyError
        A ``stimulus_id`` appears twice (average the repetitions first) or is missing.

    Examples
    --------
    >>> from neurobridge.assemblies import average_repetitions, make_assembly, require_unique_stimuli
    >>> trials = make_assembly(
    ...     [[1.0, 10.0], [3.0, 30.0], [5.0, 50.0], [7.0, 70.0]],  # simulated: two stimuli, two repetitions, two sites
    ...     presentation={"stimulus_id": ["a", "a", "b", "b"], "repetition": [0, 1, 0, 1]},
    ...     neuroid={"neuroid_id": ["n0", "n1"]},
    ... )
    >>> require_unique_stimuli(average_repetitions(trials)).sizes["presentation"]
    2
    """
    ids = pd.Index(present_ids(assembly, role=role))
    duplicated = ids.duplicated()
    if duplicated.any():
        raise AssemblyError(
            f"{role}: found {int(duplicated.sum())} duplicate stimulus_id, e.g. {str(ids[duplicated][0])!r}; expected one "
            "presentation a stimulus. Mend: neurobridge.average_repetitions(assembly)."
        )
    return assembly


def as_matrix(assembly: xr.DataArray, *, role: str = "assembly", dtype: npt.DTypeLike = np.float64) -> np.ndarray:
    """Return the values as an array with one row a presentation.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid)`` or ``(presentation, neuroid, time_bin)`` with one time bin.
    role : str
        Name of the argument in messages.
    dtype : dtype
        Of the array; the default is double precision.

    Returns
    -------
    array of shape (n_presentations, n_neuroids)

    Raises
    ------
    AssemblyError
        More than one time bin is present, or (of a dask-backed assembly) NaN or infinite values.

    Examples
    --------
    >>> from neurobridge.assemblies import as_matrix, make_assembly
    >>> assembly = make_assembly(
    ...     [[1, 2], [3, 4]], presentation={"stimulus_id": ["a", "b"]}, neuroid={"neuroid_id": [0, 1]}
    ... )  # simulated
    >>> as_matrix(assembly).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    if assembly.ndim == 3:
        if assembly.sizes[TIME_BIN] != 1:
            raise AssemblyError(
                f"{role}: found {assembly.sizes[TIME_BIN]} time bins; expected one. "
                "Mend: select one, e.g. assembly.isel(time_bin=0)."
            )
        assembly = assembly.isel({TIME_BIN: 0})
    parts = [np.asarray(values, dtype=dtype) for _, values in blocks(assembly, role=role)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def coords_of(assembly: xr.DataArray, dim: str) -> dict[str, tuple[str, np.ndarray]]:
    """Return the flat coordinates that lie on one dimension, ready for ``xr.DataArray(coords=...)``.

    Parameters
    ----------
    assembly : xarray.DataArray
    dim : str
        "presentation", "neuroid" or "time_bin".

    Returns
    -------
    dict of str to (dim, array of shape (n,))

    Examples
    --------
    >>> from neurobridge.assemblies import coords_of, make_assembly
    >>> assembly = make_assembly(
    ...     [[1, 2]], presentation={"stimulus_id": ["a"]}, neuroid={"neuroid_id": [0, 1], "region": ["V4", "IT"]}
    ... )  # simulated
    >>> sorted(coords_of(assembly, "neuroid"))
    ['neuroid_id', 'region']
    """
    return {
        str(name): (dim, np.asarray(coord.values)) for name, coord in assembly.coords.items() if coord.dims == (dim,)
    }
