"""Schema of an assembly: a plain, validated ``xarray.DataArray`` with flat coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from neurobridge.points.blocks import is_dask

PRESENTATION, NEUROID, TIME_BIN = "presentation", "neuroid", "time_bin"
STIMULUS_ID, NEUROID_ID, REPETITION = "stimulus_id", "neuroid_id", "repetition"

_LAYOUTS = ((PRESENTATION, NEUROID), (PRESENTATION, NEUROID, TIME_BIN))


class AssemblyError(ValueError):
    """Error of an array that does not meet the schema; the message says what was found, expected and how to mend it.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import AssemblyError, validate
    >>> try:
    ...     validate(np.zeros((3, 2)))
    ... except AssemblyError as error:
    ...     print(str(error).split(". Mend")[0])
    assembly: found ndarray; expected an xarray.DataArray
    """


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
        Responses or activations, any real dtype; numpy or dask.
    presentation, neuroid, time_bin : mapping of str to array of shape (n,)
        Coordinates of each dimension. ``presentation`` needs ``stimulus_id``, ``neuroid`` needs ``neuroid_id``.
    attrs : mapping, optional
        Free metadata: identifier, digests, citation.

    Returns
    -------
    xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``.

    Raises
    ------
    AssemblyError
        A coordinate is missing or has the wrong length, or the values break the schema (see `validate`).

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
    data: Any = values if is_dask(values) else np.asarray(values)
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
            flat = plain(column)
            if flat.shape != (size,):
                raise AssemblyError(
                    f"found coordinate {name!r} of shape {flat.shape}; expected ({size},) to match dimension "
                    f"{dim!r}. Mend: give one {name!r} for each {dim}."
                )
            coords[str(name)] = (dim, flat)
    return validate(xr.DataArray(data, dims=dims, coords=coords, attrs=dict(attrs or {}), name="data"))


def plain(column: Any) -> np.ndarray:
    """Return a coordinate as a numpy array, text as fixed-width ``<U`` (never object or an extension type)."""
    array = np.asarray(column)
    if array.dtype.kind in "OTS":
        kinds = {type(value) for value in array.ravel().tolist()}
        if kinds <= {str, np.str_, bytes}:
            decoded = [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()]
            return np.array(decoded, dtype=str).reshape(array.shape)
        if kinds <= {int, float, bool, np.int64, np.float64}:
            return np.array(array.tolist())
        return array.astype(str)
    return array


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
        Wrong type or dims, MultiIndex, missing or mis-shaped ``stimulus_id`` / ``neuroid_id``, empty dimension, duplicate
        neuroids, duplicate (stimulus, repetition) presentations, non-numeric dtype, NaN or infinite values.

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
    if REPETITION in assembly.coords and assembly.coords[REPETITION].dims == (PRESENTATION,):
        _refuse_duplicates(assembly, [STIMULUS_ID, REPETITION], role)
    if assembly.dtype.kind not in "fiub":
        raise AssemblyError(
            f"{role}: found dtype {assembly.dtype}; expected real numbers. Mend: assembly.astype('float32')."
        )
    # A dask-backed assembly is checked block by block when it is computed, not here.
    if not is_dask(assembly.data):
        _refuse_non_finite(assembly, assembly.values, role)
    return assembly


def _refuse_duplicates(assembly: xr.DataArray, names: Sequence[str], role: str) -> None:
    keys = pd.MultiIndex.from_arrays([np.asarray(assembly.coords[name].values) for name in names])
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

    Raises
    ------
    AssemblyError
        A chunk holds NaN or infinite values, which `validate` can only see in arrays that are in memory.
    """
    data = assembly.data
    if not is_dask(data):
        yield slice(0, assembly.sizes[PRESENTATION]), np.asarray(data)
        return
    stops = np.cumsum(data.chunks[0]).tolist()
    for start, stop in zip([0, *stops], stops, strict=False):
        values = np.asarray(data[start:stop])
        _refuse_non_finite(assembly, values, role, start=start)
        yield slice(start, stop), values


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
        A ``stimulus_id`` appears twice; average the repetitions first.

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
    ids = pd.Index(assembly.coords[STIMULUS_ID].values)
    duplicated = ids.duplicated()
    if duplicated.any():
        raise AssemblyError(
            f"{role}: found {int(duplicated.sum())} duplicate stimulus_id, e.g. {str(ids[duplicated][0])!r}; expected one "
            "presentation a stimulus. Mend: neurobridge.average_repetitions(assembly)."
        )
    return assembly


def require_varying_neuroids(assembly: xr.DataArray, *, role: str = "assembly") -> xr.DataArray:
    """Refuse neuroids whose response never changes: no correlation or scaling is defined for them.

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
        A neuroid is constant; the message names one and the call that drops them.

    Examples
    --------
    >>> from neurobridge.assemblies import make_assembly, require_varying_neuroids
    >>> assembly = make_assembly(
    ...     [[0.0, 1.0], [0.5, 2.0]], presentation={"stimulus_id": ["a", "b"]}, neuroid={"neuroid_id": [0, 1]}
    ... )  # simulated
    >>> require_varying_neuroids(assembly) is assembly
    True
    """
    constant = _constant(assembly)
    if constant.any():
        ids = assembly.coords[NEUROID_ID].values[constant]
        raise AssemblyError(
            f"{role}: found {len(ids)} neuroid(s) with zero variance over {assembly.sizes[PRESENTATION]} presentations, "
            f"e.g. {str(ids[0])!r}; expected responses that vary. Mend: neurobridge.assemblies.drop_constant(assembly)."
        )
    return assembly


def drop_constant(assembly: xr.DataArray) -> xr.DataArray:
    """Leave out neuroids whose response is the same for every presentation.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``.

    Returns
    -------
    xarray.DataArray
        The same assembly without constant neuroids; ``attrs["dropped_constant_neuroids"]`` counts them.

    Examples
    --------
    >>> from neurobridge.assemblies import drop_constant, make_assembly
    >>> assembly = make_assembly(
    ...     [[0.0, 1.0], [0.0, 2.0]], presentation={"stimulus_id": ["a", "b"]}, neuroid={"neuroid_id": ["n0", "n1"]}
    ... )  # simulated: the first site is silent
    >>> drop_constant(assembly)["neuroid_id"].values.tolist()
    ['n1']
    """
    constant = _constant(assembly)
    kept = assembly.isel({NEUROID: np.flatnonzero(~constant)})
    return kept.assign_attrs(dropped_constant_neuroids=int(constant.sum()))


def _constant(assembly: xr.DataArray) -> np.ndarray:
    low = high = None
    for _, values in blocks(assembly):
        axes = (0,) if values.ndim == 2 else (0, 2)
        below, above = values.min(axis=axes), values.max(axis=axes)
        low = below if low is None else np.minimum(low, below)
        high = above if high is None else np.maximum(high, above)
    return np.asarray(low == high)


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
