"""The rule on missing values: NaN is a missing value where one is allowed and refused elsewhere; infinite is refused everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError

_STIMULUS_ID, _NEUROID_ID = "stimulus_id", "neuroid_id"


def refuse_non_finite(
    assembly: xr.DataArray,
    values: np.ndarray,
    role: str,
    *,
    start: int = 0,
    allow_missing: bool = False,
    in_making: bool = False,
) -> None:
    """Refuse infinite values and, unless they are allowed, missing ones (NaN).

    Parameters
    ----------
    assembly : xarray.DataArray
        Gives the ids that the message names.
    values : array of shape (n_presentations, n_neuroids[, n_time_bins])
        All values of the assembly, or a block of its presentations.
    role : str
        Name of the argument in messages.
    start : int
        Presentation of the first row of ``values``.
    allow_missing : bool
        NaN is a missing value; otherwise it is refused too.
    in_making : bool
        The assembly is being made of ``values``: the message mends these.

    Raises
    ------
    AssemblyError
        Counts the values, names the first and offers a call that leaves them out.
    """
    # One reduction decides; locating the offenders is only paid for when there are some.
    if values.dtype.kind != "f" or np.isfinite(values.sum(dtype=np.float64)):
        return
    infinite = np.isinf(values)
    bad = infinite if allow_missing else ~np.isfinite(values)
    if not bad.any():
        return
    where = np.argwhere(bad)[0]
    stimulus = assembly.coords[_STIMULUS_ID].values[start + where[0]]
    neuroid = assembly.coords[_NEUROID_ID].values[where[1]]
    what = "infinite values" if allow_missing else "NaN or infinite values"
    raise AssemblyError(
        f"{role}: found {int(bad.sum())} {what} of {values.size}, first at stimulus {str(stimulus)!r}, neuroid {str(neuroid)!r}; "
        f"expected finite numbers. Mend: {_mend(assembly, role, bool(infinite.any()), in_making)}."
    )


def _mend(assembly: xr.DataArray, role: str, infinite: bool, in_making: bool) -> str:
    if in_making:
        return "values = numpy.where(numpy.isfinite(values), values, numpy.nan), which makes them missing values"
    name = role if role.isidentifier() else "assembly"
    as_missing = f"{name}.where(numpy.isfinite({name})), which makes them missing values; then " if infinite else ""
    drop = (
        f"neurobridge.assemblies.drop_incomplete({name}), which leaves out neuroids and presentations that miss values"
    )
    if pd.Index(assembly.coords[_STIMULUS_ID].values).has_duplicates:
        drop = f"neurobridge.average_repetitions({name}), which averages what is there, or {drop}"
    return f"{as_missing}{drop}"


def sites_by_missing(absent: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the sites that miss the same rows, with the rows that they have.

    Parameters
    ----------
    absent : bool array of shape (n_rows, n_sites)

    Yields
    ------
    sites : int array
    rows : int array
        Rising.

    Examples
    --------
    >>> import numpy as np
    >>> absent = np.array([[False, True, False], [False, False, False]])
    >>> [(sites.tolist(), rows.tolist()) for sites, rows in sites_by_missing(absent)]
    [([0, 2], [0, 1]), ([1], [1])]
    """
    if not absent.any():
        yield np.arange(absent.shape[1]), np.arange(len(absent))
        return
    patterns: dict[bytes, list[int]] = {}
    for site, key in enumerate(np.packbits(absent, axis=0).T):
        patterns.setdefault(key.tobytes(), []).append(site)
    for sites in patterns.values():
        yield np.array(sites), np.flatnonzero(~absent[:, sites[0]])
