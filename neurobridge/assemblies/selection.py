"""Selection of parts of an assembly: by the values of its coordinates, and without missing labels or constant neuroids."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.labels import missing_rows, plain
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, blocks
from neurobridge.points.options import is_number, require_options

_LOG = logging.getLogger(__name__)


def select(assembly: xr.DataArray, **wanted: Any) -> xr.DataArray:
    """Keep the presentations and neuroids with the wanted coordinate values.

    For example ``select(recordings, region="IT", animal=["Chabo", "Tito"], variation=6)``.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``; may be dask-backed.
    **wanted
        Coordinate name to one value or a sequence of values. Conditions on one dimension all have to hold.

    Returns
    -------
    xarray.DataArray
        The same dims, in the original order.

    Raises
    ------
    AssemblyError
        There is no such coordinate, or nothing has the wanted values (the message lists some that exist).

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly, select
    >>> recordings = make_assembly(
    ...     np.arange(8.0).reshape(2, 4),  # simulated
    ...     presentation={"stimulus_id": ["a", "b"]},
    ...     neuroid={"neuroid_id": range(4), "region": ["V4", "IT", "IT", "V4"]},
    ... )
    >>> select(recordings, region="IT").values.tolist()
    [[1.0, 2.0], [5.0, 6.0]]
    """
    kept: dict[str, np.ndarray] = {}
    for name, values in wanted.items():
        if name not in assembly.coords or assembly.coords[name].ndim != 1:
            flat = sorted(str(key) for key, coord in assembly.coords.items() if coord.ndim == 1)
            raise AssemblyError(
                f"select: found coordinates {flat}; expected {name!r} among them. Mend: check the spelling."
            )
        (dim,) = map(str, assembly.coords[name].dims)
        column = plain(assembly.coords[name].values, name=name)
        among = plain(np.atleast_1d(values))
        if {column.dtype.kind, among.dtype.kind} & {"U"} and column.dtype.kind != among.dtype.kind:
            # numpy would compare text with numbers without complaint, and find nothing.
            raise AssemblyError(
                f"select: found {name}={values!r} for a coordinate of dtype {column.dtype}; expected values of that kind, e.g. "
                f"{column[:1].tolist()}. Mend: convert them."
            )
        mask = kept.get(dim, np.ones(len(column), dtype=bool)) & np.isin(column, among)
        if not mask.any():
            existing = np.unique(column)
            shown = ", ".join(map(str, existing[:8])) + (", ..." if len(existing) > 8 else "")
            raise AssemblyError(
                f"select: found nothing with {name}={values!r} (and the conditions before it); expected some of {shown}. "
                "Mend: widen the selection."
            )
        kept[dim] = mask
    return assembly.isel({dim: np.flatnonzero(mask) for dim, mask in kept.items()})


def drop_missing(assembly: xr.DataArray, name: str) -> xr.DataArray:
    """Leave out the presentations, neuroids or time bins without a value of a coordinate.

    Parameters
    ----------
    assembly : xarray.DataArray
        Need not meet the schema yet: ids may be missing.
    name : str
        Coordinate with one dimension.

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    AssemblyError
        No such coordinate.

    Examples
    --------
    >>> from neurobridge.assemblies import drop_missing, make_assembly
    >>> photos = make_assembly(
    ...     [[1.0], [2.0], [3.0]],  # simulated
    ...     presentation={"stimulus_id": ["a", "b", "c"], "caption": ["a dog", None, "a cat"]},
    ...     neuroid={"neuroid_id": ["n0"]},
    ... )
    >>> drop_missing(photos, "caption")["stimulus_id"].values.tolist()
    ['a', 'c']
    """
    if name not in assembly.coords or assembly.coords[name].ndim != 1:
        flat = sorted(str(key) for key, coord in assembly.coords.items() if coord.ndim == 1)
        raise AssemblyError(f"found coordinates {flat}; expected {name!r} among them. Mend: check the spelling.")
    column = assembly.coords[name]
    return assembly.isel({column.dims[0]: np.flatnonzero(~missing_rows(column.values))})


def drop_incomplete(assembly: xr.DataArray, *, max_missing: float = 0.1, presentations: bool = True) -> xr.DataArray:
    """Leave out the neuroids that miss many values, then the presentations that miss any.

    What needs a value of every site (alignment, RSA, CKA, decoding) takes the result. Of an assembly in which nothing is missing
    nothing is left out.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``; NaN is a missing value.
    max_missing : float
        Largest share of missing values, in [0, 1], of a neuroid that is kept.
    presentations : bool
        Leave out the presentations that still miss a value. False keeps them, with their NaN.

    Returns
    -------
    xarray.DataArray
        The same order; ``attrs["dropped_incomplete_neuroids"]`` and ``attrs["dropped_incomplete_presentations"]`` count what was
        left out.

    Raises
    ------
    AssemblyError
        Nothing would be left, or the share is outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import drop_incomplete, make_assembly
    >>> recordings = make_assembly(
    ...     [[1.0, np.nan, 2.0], [3.0, np.nan, 4.0], [np.nan, 5.0, 6.0]],  # simulated
    ...     presentation={"stimulus_id": ["a", "b", "c"]},
    ...     neuroid={"neuroid_id": ["n0", "n1", "n2"]},
    ... )
    >>> drop_incomplete(recordings, max_missing=0.5).values.tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    require_options(presentations=presentations, error=AssemblyError)
    if not is_number(max_missing) or not 0 <= max_missing <= 1:
        raise AssemblyError(
            f"drop_incomplete: found max_missing={max_missing!r:.60}; expected a share in [0, 1]. Mend: e.g. max_missing=0.1."
        )
    absent = missing_values(assembly)
    kept = absent.mean(axis=0) <= max_missing
    rows = ~absent[:, kept].any(axis=1) if presentations else np.ones(len(absent), dtype=bool)
    if not (kept.any() and rows.any()):
        sizes = f"{int(kept.sum())} of {kept.size} neuroids and {int(rows.sum()) if kept.any() else 0} of {rows.size} presentations"
        raise AssemblyError(
            f"drop_incomplete: found {sizes} with max_missing={max_missing}; expected some of both. Mend: "
            + (
                "a smaller max_missing, which leaves out more neuroids and fewer presentations."
                if kept.any()
                else "a larger max_missing."
            )
        )
    if not (kept.all() and rows.all()):
        _LOG.info(
            "left out %d of %d neuroids and %d of %d presentations with missing values",
            (~kept).sum(), kept.size, (~rows).sum(), rows.size,
        )  # fmt: skip
    return assembly.isel({PRESENTATION: np.flatnonzero(rows), NEUROID: np.flatnonzero(kept)}).assign_attrs(
        dropped_incomplete_neuroids=int((~kept).sum()), dropped_incomplete_presentations=int((~rows).sum())
    )


def missing_values(assembly: xr.DataArray) -> np.ndarray:
    """Tell which values are missing (NaN), in any time bin.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``.

    Returns
    -------
    bool array of shape (n_presentations, n_neuroids)

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly, missing_values
    >>> recordings = make_assembly(
    ...     [[1.0, np.nan]], presentation={"stimulus_id": ["a"]}, neuroid={"neuroid_id": ["n0", "n1"]}
    ... )  # simulated
    >>> missing_values(recordings).tolist()
    [[False, True]]
    """
    absent = np.zeros((assembly.sizes[PRESENTATION], assembly.sizes[NEUROID]), dtype=bool)
    if assembly.dtype.kind == "f":
        for rows, values in blocks(assembly, allow_missing=True):
            absent[rows] = np.isnan(values) if values.ndim == 2 else np.isnan(values).any(axis=2)
    return absent


def require_varying_neuroids(assembly: xr.DataArray, *, role: str = "assembly") -> xr.DataArray:
    """Refuse neuroids whose response never changes or is never known: no correlation or scaling is defined for them.

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
    """Leave out neuroids whose response is the same for every presentation, missing ones aside.

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
    if constant.any():
        _LOG.info("left out %d of %d neuroids whose response never changes", constant.sum(), len(constant))
    return kept.assign_attrs(dropped_constant_neuroids=int(constant.sum()))


def _constant(assembly: xr.DataArray) -> np.ndarray:
    if 0 in assembly.shape:
        # No value varies.
        return np.ones(assembly.sizes[NEUROID], dtype=bool)
    low = high = None
    for _, values in blocks(assembly, allow_missing=True):
        axes = (0,) if values.ndim == 2 else (0, 2)
        # Of these two NaN comes only where nothing is known.
        below, above = np.fmin.reduce(values, axis=axes), np.fmax.reduce(values, axis=axes)
        low = below if low is None else np.fmin(low, below)
        high = above if high is None else np.fmax(high, above)
    assert low is not None
    assert high is not None
    return np.asarray(~(low < high))
