"""Parts of an assembly, by the values of its coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies.schema import AssemblyError, plain


def select(assembly: xr.DataArray, **wanted: Any) -> xr.DataArray:
    """Keep what has the wanted coordinate values: ``select(recordings, region="IT", animal=["Chabo", "Tito"], variation=6)``.

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
        There is no such coordinate, or nothing has the wanted values (the message lists those there are).
    """
    kept: dict[str, np.ndarray] = {}
    for name, values in wanted.items():
        if name not in assembly.coords or assembly.coords[name].ndim != 1:
            flat = sorted(str(key) for key, coord in assembly.coords.items() if coord.ndim == 1)
            raise AssemblyError(
                f"select: found coordinates {flat}; expected {name!r} among them. Mend: check the spelling."
            )
        (dim,) = map(str, assembly.coords[name].dims)
        column = assembly.coords[name].values
        among = plain(np.atleast_1d(values))
        if {column.dtype.kind, among.dtype.kind} & {"U"} and column.dtype.kind != among.dtype.kind:
            # numpy would compare text with numbers without complaint, and find nothing.
            raise AssemblyError(
                f"select: found {name}={values!r} for a coordinate of dtype {column.dtype}; expected values of that kind, e.g. "
                f"{column[0]!r}. Mend: convert them."
            )
        mask = kept.get(dim, np.ones(len(column), dtype=bool)) & np.isin(column, among)
        if not mask.any():
            there = np.unique(column)
            shown = ", ".join(map(str, there[:8])) + (", ..." if len(there) > 8 else "")
            raise AssemblyError(
                f"select: found nothing with {name}={values!r} (and the conditions before it); expected some of {shown}. "
                "Mend: widen the selection."
            )
        kept[dim] = mask
    return assembly.isel({dim: np.flatnonzero(mask) for dim, mask in kept.items()})
