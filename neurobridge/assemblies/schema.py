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
from neurobridge.assemblies.missing import refuse_non_finite
from neurobridge.points.blocks import is_dask
from neurobridge.points.conversion import real_array, require_real, unlabelled, working_dtype
from neurobridge.points.options import require_options

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
        Responses or activations, any real dtype: what `numpy.asarray` takes, torch tensors, or dask, which stays lazy. NaN is a
        missing value; infinite values are refused, and so are masked ones, whose mask an assembly cannot hold.
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
    _refuse_masked(data)
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
    _refuse_repeated_names(columns)
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
            if name in (STIMULUS_ID, NEUROID_ID, REPETITION):
                mend = (
                    f"kept = ~neurobridge.assemblies.missing_rows({name}), and values and all columns of {dim} at kept"
                )
                present_labels(flat, name=str(name), role="make_assembly", mend=mend)
            coords[str(name)] = (dim, flat)
    assembly = xr.DataArray(data, dims=dims, coords=coords, attrs=dict(attrs or {}), name="data")
    return _validated(assembly, "assembly", allow_missing=True, in_making=True)


def _refuse_masked(values: Any) -> None:
    """Refuse masked values: they become missing ones by the word of the user alone."""
    n_masked = int(np.ma.getmaskarray(values).sum()) if isinstance(values, np.ma.MaskedArray) else 0
    if n_masked:
        raise AssemblyError(
            f"values: found {n_masked} masked values of {values.size}; expected numbers, NaN where one is missing. Mend: "
            "make_assembly(values.astype(float).filled(numpy.nan), ...) keeps them as missing."
        )


def _refuse_repeated_names(columns: Mapping[str, Mapping[Any, Any] | pd.DataFrame]) -> None:
    """Refuse a name that two columns have, or a dimension and a column of another: an array keeps one of the two."""
    holders: dict[str, str] = {dim: f"the dimension {dim!r}" for dim in columns}
    for dim, table in columns.items():
        for key, _ in table.items():
            name = str(key)
            if name in holders and name != dim:
                raise AssemblyError(
                    f"found a coordinate {name!r} of {dim!r}, and {holders[name]} has that name too; expected each name once. "
                    f"Mend: rename one of them, e.g. {dim}_{name}."
                )
            holders[name] = f"a coordinate of {dim!r}"


def validate(assembly: xr.DataArray, *, role: str = "assembly", allow_missing: bool = False) -> xr.DataArray:
    """Check an assembly against the schema and return it unchanged.

    An assembly may hold missing values (NaN), as recordings do. What needs a value of every site refuses them; what counts them
    and leaves them out site by site (`average_repetitions`, ceilings, predictivity, correlations) allows them.

    Parameters
    ----------
    assembly : xarray.DataArray
        Candidate, dims ``(presentation, neuroid[, time_bin])``.
    role : str
        Name of the argument in messages, e.g. "source" or "recordings".
    allow_missing : bool
        Allow NaN, a missing value.

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    AssemblyError
        Wrong type or dims, MultiIndex, missing or mis-shaped ``stimulus_id`` / ``neuroid_id``, a row without an id or
        ``repetition``, empty dimension, duplicate neuroids, duplicate (stimulus, repetition) presentations, values that are
        no real numbers, infinite values, or NaN where missing values are not allowed.

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
    require_options(allow_missing=allow_missing, error=AssemblyError)
    return _validated(assembly, role, allow_missing=allow_missing)


def _validated(
    assembly: xr.DataArray, role: str, *, allow_missing: bool = False, in_making: bool = False
) -> xr.DataArray:
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
        refuse_non_finite(assembly, assembly.values, role, allow_missing=allow_missing, in_making=in_making)
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


def blocks(
    assembly: xr.DataArray, *, role: str = "assembly", allow_missing: bool = False
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the values of successive presentations with their rows, one dask chunk at a time (or all at once, if in memory).

    Floating values are float32 or float64 in the byte order of this machine, which every library computes with.

    Raises
    ------
    AssemblyError
        Infinite values, or NaN where missing values are not allowed: `validate` sees them only in arrays that are in memory.
    """
    data = assembly.data
    if not is_dask(data):
        values = _read(data, role)
        refuse_non_finite(assembly, values, role, allow_missing=allow_missing)
        yield slice(0, assembly.sizes[PRESENTATION]), values
        return
    stops = np.cumsum(data.chunks[0]).tolist()
    for start, stop in zip([0, *stops], stops, strict=False):
        values = _read(data[start:stop], role)
        refuse_non_finite(assembly, values, role, start=start, allow_missing=allow_missing)
        yield slice(start, stop), values


def _read(data: Any, role: str) -> np.ndarray:
    values = real_array(data, name=role, error=AssemblyError)
    return values.astype(working_dtype(values.dtype), copy=False) if values.dtype.kind == "f" else values


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


def as_matrix(
    assembly: xr.DataArray,
    *,
    role: str = "assembly",
    dtype: npt.DTypeLike = np.float64,
    allow_missing: bool = False,
) -> np.ndarray:
    """Return the values as an array with one row a presentation.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid)`` or ``(presentation, neuroid, time_bin)`` with one time bin.
    role : str
        Name of the argument in messages.
    dtype : dtype
        Of the array; the default is double precision.
    allow_missing : bool
        Allow NaN, a missing value.

    Returns
    -------
    array of shape (n_presentations, n_neuroids)

    Raises
    ------
    AssemblyError
        More than one time bin is present, infinite values, or NaN where missing values are not allowed.

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
    parts = [np.asarray(values, dtype=dtype) for _, values in blocks(assembly, role=role, allow_missing=allow_missing)]
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
