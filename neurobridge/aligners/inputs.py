"""Inputs of an aligner: assemblies or plain arrays, told apart and checked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from neurobridge.assemblies import AssemblyError, require_unique_stimuli, require_varying_neuroids, validate
from neurobridge.points.arrays import Rows, read_blocks
from neurobridge.points.blocks import is_lazy
from neurobridge.points.conversion import real_array, require_real, unlabelled
from neurobridge.points.scale import BLOCK

# Numbers of the largest array that is worked with whole: 134 MB in float64.
_LARGE = 1 << 24


def is_assembly(values: Any, role: str) -> bool:
    """Tell an assembly (True) from a plain array (False).

    Parameters
    ----------
    values : xarray.DataArray, or array of shape (n_rows, n_columns)
        Numpy, torch, dask, zarr, or nested lists of numbers.
    role : {"source", "target"}
        Name of the input in messages.

    Raises
    ------
    AssemblyError
        Neither: a pandas or sparse container, an xarray.Dataset, or nothing.

    Examples
    --------
    >>> import numpy as np
    >>> is_assembly(np.zeros((3, 2)), "source")
    False
    """
    if isinstance(values, xr.DataArray):
        return True
    refused = (
        (isinstance(values, (pd.DataFrame, pd.Series, pd.Index)), "frame.to_numpy()"),
        (isinstance(values, xr.Dataset), "dataset['data']"),
        (sparse.issparse(values), "matrix.toarray()"),
        (values is None, "fit(source, target), as an alignment takes both"),
    )
    for is_it, mend in refused:
        if is_it:
            raise AssemblyError(
                f"{role}: found {type(values).__module__}.{type(values).__name__}; expected an xarray.DataArray, or a "
                f"numpy or torch array of shape (n_rows, n_columns). Mend: {mend}."
            )
    return False


def both_assemblies(source: Any, target: Any) -> bool:
    """Return True for two assemblies and False for two arrays.

    Raises
    ------
    AssemblyError
        One of each, or something that is neither.
    """
    kinds = is_assembly(source, "source"), is_assembly(target, "target")
    if kinds[0] != kinds[1]:
        raise AssemblyError(
            f"source: found {type(source).__name__}, and target: {type(target).__name__}; expected two assemblies or two "
            f"arrays. Mend: {'source' if kinds[0] else 'target'}.values gives the array of an assembly."
        )
    return kinds[0]


def require_fittable(assembly: xr.DataArray, role: str) -> None:
    """Refuse an assembly that is not valid, has a stimulus twice, or neuroids of a single value.

    Raises
    ------
    AssemblyError
        Names the side and what is wrong with it.
    """
    validate(assembly, role=role)
    require_unique_stimuli(assembly, role=role)
    require_varying_neuroids(assembly, role=role)


def read_points(values: Any, role: str) -> np.ndarray:
    """Read a plain array as float64 points of shape (n_rows, n_columns).

    Raises
    ------
    AssemblyError
        Another number of dimensions, none of either, values that are not real numbers, NaN or infinite values.
    """
    array = real_array(values, name=role, error=AssemblyError)
    _require_matrix(array, role)
    points = array.astype(np.float64)
    if not np.isfinite(points).all():
        raise AssemblyError(
            f"{role}: found {int((~np.isfinite(points)).sum())} NaN or infinite values of {points.size}; expected finite "
            f"numbers. Mend: leave those rows out, {role}[np.isfinite({role}).all(axis=1)]."
        )
    return points


def open_points(values: Any, role: str) -> Any:
    """Read a plain array as float64 points, or give a large one as it is, to be read in blocks of rows.

    Parameters
    ----------
    values : array of shape (n_rows, n_columns)
    role : str
        Name of the input in messages.

    Returns
    -------
    array of shape (n_rows, n_columns)
        A large array (`is_large`), in memory, mapped or of dask, is not read, and its values are checked when they are.

    Raises
    ------
    AssemblyError
        As `read_points`.
    """
    if not is_large(values):
        return read_points(values, role)
    array = unlabelled(values)
    array = array if is_lazy(array) else real_array(array, name=role, error=AssemblyError)
    require_real(array, name=role, error=AssemblyError)
    _require_matrix(array, role)
    return array


def is_large(values: Any) -> bool:
    """Tell an array of so many numbers, in memory or not, that it is worked with in blocks of rows and in float32.

    Examples
    --------
    >>> import numpy as np
    >>> is_large(np.zeros((3, 2)))
    False
    """
    return math.prod(getattr(values, "shape", ())) > _LARGE


def _require_matrix(array: Any, role: str) -> None:
    if array.ndim != 2 or 0 in array.shape:
        raise AssemblyError(
            f"{role}: found shape {array.shape}; expected (n_rows, n_columns), neither zero. "
            f"Mend: {role}.reshape(-1, 1) for a single column."
        )


def require_varying_columns(points: Any, role: str) -> None:
    """Refuse columns that hold a single value, as `require_varying_neuroids` does for assemblies.

    Raises
    ------
    AssemblyError
        Counts the constant columns and names the first.
    """
    first, is_constant = None, np.ones(points.shape[1], dtype=bool)
    for _, block in read_blocks(points, BLOCK, role):
        first = block[0] if first is None else first
        is_constant &= (block == first).all(axis=0)
        if not is_constant.any():
            return
    constant = np.flatnonzero(is_constant)
    raise AssemblyError(
        f"{role}: found {len(constant)} column(s) with zero variance over {len(points)} sample(s), the first is "
        f"{constant[0]}; expected columns that vary. Mend: {role}[:, {role}.std(axis=0) > 0], or "
        "sklearn.feature_selection.VarianceThreshold() before the aligner in a pipeline."
    )


def resolve_rows(pairs: Any, n_source: int, n_target: int) -> Rows:
    """Turn any way of naming the pairs of two arrays into source rows and target rows.

    Parameters
    ----------
    pairs : tuple of two int arrays of shape (n_pairs,), bool array of shape (n,), or None
        ``(source_rows, target_rows)``; or, for equally many rows on both sides, which rows i are pairs (i, i): a mask,
        which model selection splits along with the rows; or None for all of them.
    n_source, n_target : int
        Number of rows of each side.

    Returns
    -------
    source_rows, target_rows : int arrays of shape (n_pairs,)

    Raises
    ------
    AssemblyError
        Sides of different lengths without pairs, rows that are not integers or not there, a pair listed twice, or
        fewer than two pairs.

    Examples
    --------
    >>> import numpy as np
    >>> resolve_rows(np.array([True, False, True]), 3, 3)
    (array([0, 2]), array([0, 2]))
    """
    if isinstance(pairs, tuple) and len(pairs) == 2:
        rows = _checked_rows(pairs[0], n_source, "source"), _checked_rows(pairs[1], n_target, "target")
        if len(rows[0]) != len(rows[1]):
            raise AssemblyError(
                f"pairs: found {len(rows[0])} source and {len(rows[1])} target rows; expected as many of each. "
                "Mend: give one target row for each source row."
            )
        if len(np.unique(np.stack(rows), axis=1).T) != len(rows[0]):
            raise AssemblyError(
                f"pairs: found a pair twice among {len(rows[0])}; expected each pair once. "
                "Mend: np.unique(np.stack(pairs), axis=1) leaves out the copies."
            )
    else:
        mask = np.ones(n_source, dtype=bool) if pairs is None else real_array(pairs, name="pairs", error=AssemblyError)
        if mask.dtype != bool or mask.shape != (n_source,):
            raise AssemblyError(
                f"pairs: found {type(pairs).__name__}; expected two index arrays, a mask of shape ({n_source},) or None, "
                "as rows of arrays have no names. Mend: pairs=(source_rows, target_rows)."
            )
        if n_source != n_target:
            raise AssemblyError(
                f"pairs: found {'None' if pairs is None else 'a mask'} for {n_source} source and {n_target} target rows; "
                "expected as many of each, row i of both showing the same. Mend: pairs=(source_rows, target_rows)."
            )
        rows = np.flatnonzero(mask), np.flatnonzero(mask)
    if len(rows[0]) < 2:
        raise AssemblyError(
            f"pairs: found {len(rows[0])} among {n_source} sample(s); expected at least 2. Mend: pair more rows; a map "
            "between two spaces is not determined by one point."
        )
    return rows


def _checked_rows(rows: Any, n: int, role: str) -> np.ndarray:
    index = real_array(rows, name=f"pairs, {role} rows", error=AssemblyError)
    if index.ndim != 1 or index.dtype.kind not in "iu" or (len(index) and not 0 <= index.min() <= index.max() < n):
        extent = f" in [{index.min()}, {index.max()}]" if index.size and index.dtype.kind in "iu" else ""
        raise AssemblyError(
            f"pairs: found {role} rows of shape {index.shape} and dtype {index.dtype}{extent}; expected whole numbers "
            f"in [0, {n - 1}]. Mend: index the {role} array that is passed."
        )
    return index.astype(np.int64)
