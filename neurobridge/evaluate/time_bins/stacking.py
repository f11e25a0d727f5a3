"""Scores bin by bin, side by side in one Score."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, coords_of, validate
from neurobridge.assemblies.schema import PRESENTATION, TIME_BIN
from neurobridge.evaluate.score.schema import check_score
from neurobridge.points.options import is_choice

#: Attributes of a Score that count what happened in its bins.
COUNTS = ("n_constant_predictions", "n_ceilings_not_positive", "n_items_left_out")


def require_by(by: str | None) -> None:
    """Refuse a dimension other than time bins.

    Raises
    ------
    AssemblyError
        ``by`` is neither None nor "time_bin".
    """
    if not is_choice(by, (None, TIME_BIN)):
        raise AssemblyError(
            f"found by={by!r:.40}; expected {TIME_BIN!r} or None. Mend: by='time_bin', or leave it out."
        )


def require_bins(assembly: xr.DataArray, *, role: str = "assembly") -> xr.DataArray:
    """Refuse an assembly without time bins, and return it.

    Raises
    ------
    AssemblyError
        No dimension ``time_bin``.
    """
    if TIME_BIN not in assembly.dims:
        raise AssemblyError(
            f"{role}: found dims {tuple(map(str, assembly.dims))}; expected {TIME_BIN!r} among them. Mend: leave by out, or "
            f"{role}.expand_dims(time_bin=1).transpose('{PRESENTATION}', 'neuroid', 'time_bin')."
        )
    return assembly


def score_bins(
    metric: Callable[..., xr.Dataset], by: str, *assemblies: xr.DataArray, roles: Sequence[str] = ("source", "target")
) -> xr.Dataset:
    """Score every time bin, and stack the Scores: leading dim ``time_bin``.

    Parameters
    ----------
    metric : callable
        Takes the assemblies, each of one bin, and gives a Score.
    by : {"time_bin"}
    *assemblies : xarray.DataArray
        At least one with time bins. One without them, or with a single bin, stands beside every bin of the others.
    roles : sequence of str
        Names of the assemblies in messages.

    Returns
    -------
    xarray.Dataset
        Score.

    Raises
    ------
    AssemblyError
        No assembly with bins, or different numbers of them.
    """
    require_by(by)
    for assembly, role in zip(assemblies, roles, strict=True):
        validate(assembly, role=role, allow_missing=True)
    with_bins = [a for a in assemblies if TIME_BIN in a.dims]
    if not with_bins:
        require_bins(assemblies[-1], role=roles[len(assemblies) - 1])
    sizes = [int(a.sizes[TIME_BIN]) for a in with_bins]
    n_bins = max(sizes)
    if set(sizes) - {1, n_bins}:
        raise AssemblyError(
            f"found {sizes[0]} and {sizes[1]} time bins; expected the same number on both sides, or one on one side. "
            "Mend: select the same bins of both, e.g. assembly.isel(time_bin=slice(0, n))."
        )
    like = next(a for a in with_bins if a.sizes[TIME_BIN] == n_bins)
    return gather_bins(lambda k: metric(*(one_bin(a, k) for a in assemblies)), like, stacklevel=4)


def gather_bins(score: Callable[[int], xr.Dataset], like: xr.DataArray, *, stacklevel: int = 3) -> xr.Dataset:
    """Score the time bins of an assembly one after the other, and stack the Scores; warnings are told once, with a count.

    Parameters
    ----------
    score : callable
        Gives the Score of a bin from its number.
    like : xarray.DataArray
        Has the time bins.
    stacklevel : int
        Of the warnings.

    Returns
    -------
    xarray.Dataset
        Score with the leading dim ``time_bin``.
    """
    scores, counts = [], Counter[str]()
    first: dict[str, str] = {}
    n_bins = int(like.sizes[TIME_BIN])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(n_bins):
            before = len(caught)
            scores.append(score(k))
            # The same warning has other numbers in other bins.
            of_bin = {re.sub(r"[0-9]", "", str(warning.message)): str(warning.message) for warning in caught[before:]}
            counts.update(of_bin.keys())
            first = of_bin | first
    for key, count in counts.items():
        warnings.warn(f"in {count} of {n_bins} time bins, e.g.: {first[key]}", UserWarning, stacklevel=stacklevel)
    return stack_scores(scores, like)


def one_bin(assembly: xr.DataArray, k: int) -> xr.DataArray:
    """Return a time bin of an assembly, or the assembly where it has none; of a single bin, that one."""
    if TIME_BIN not in assembly.dims:
        return assembly
    return assembly.isel({TIME_BIN: min(k, assembly.sizes[TIME_BIN] - 1)}, drop=True)


def stack_scores(scores: Sequence[xr.Dataset], like: xr.DataArray) -> xr.Dataset:
    """Put the Scores of the time bins of an assembly side by side, with the coordinates of the bins.

    Parameters
    ----------
    scores : sequence of xarray.Dataset
        One a bin.
    like : xarray.DataArray
        Has the coordinates of the bins.

    Returns
    -------
    xarray.Dataset
        Score with the leading dim ``time_bin``.
    """
    first = scores[0]
    data = {
        name: ((TIME_BIN, *variable.dims), np.stack([score[name].values for score in scores]))
        for name, variable in first.data_vars.items()
    }
    counts = {name: int(sum(score.attrs[name] for score in scores)) for name in COUNTS if name in first.attrs}
    stacked = xr.Dataset(data, coords={**first.coords, **coords_of(like, TIME_BIN)}, attrs={**first.attrs, **counts})
    return check_score(stacked)
