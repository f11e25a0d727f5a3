"""Labels of presentations and neuroids: columns of one type, and rows without a value."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.points.conversion import is_missing, is_tensor, real_array


def plain(column: Any, *, name: str = "column") -> np.ndarray:
    """Return labels as a numpy array of one type in native byte order: text as ``<U``, never objects or extension types.

    Parameters
    ----------
    column : array-like of shape (n,)
        Text, numbers, booleans or dates; bytes are read as UTF-8, cells of MATLAB (arrays of one element) as their
        element, float16 as float32.
    name : str
        Name of the column in messages.

    Returns
    -------
    array of shape (n,)
        A missing value (None, NaN, NaT, ``pandas.NA``, masked, an empty cell) is NaN among numbers, NaT among dates and
        the empty text among text: `missing_rows` finds all of these. Text beside numbers becomes text.

    Raises
    ------
    AssemblyError
        A row that holds several values, masked integers, bytes that are not UTF-8, integers that no type holds exactly,
        or different values that become the same text, such as 1 and "1".
    """
    if is_tensor(column):
        array = real_array(column, name=name, error=AssemblyError)
    elif isinstance(column, np.ma.MaskedArray):
        array = _unmasked(column, name)
    elif isinstance(column, (list, tuple)):
        # numpy would turn [1, "1"] and ["a", nan] into text before anybody can see what was there.
        array = np.empty(len(column), dtype=object)
        for row, value in enumerate(column):
            array[row] = value
    else:
        array = np.asarray(column)
    if array.dtype.kind in "OTS":
        return _of_one_type(array.ravel().tolist(), name).reshape(array.shape)
    if array.dtype.kind == "f":
        return np.asarray(array, dtype=_float_type(array.dtype))
    return np.asarray(array, dtype=array.dtype.newbyteorder("="))


def _float_type(dtype: np.dtype) -> np.dtype:
    return np.dtype({2: np.float32, 4: np.float32}.get(dtype.itemsize, np.float64))


def _unmasked(column: np.ma.MaskedArray, name: str) -> np.ndarray:
    mask = np.ma.getmaskarray(column)
    if not mask.any():
        return np.asarray(column.data)
    if column.dtype.kind in "biu":
        raise AssemblyError(
            f"{name}: found {int(mask.sum())} masked values of {mask.size} among {column.dtype}, for which there is no NaN; "
            "expected a value in every row. Mend: leave those rows out, or column.astype(float).filled(numpy.nan)."
        )
    if column.dtype.kind == "f":
        return np.asarray(column.filled(np.nan))
    return np.asarray(np.where(mask, None, column.data.astype(object)))


def _of_one_type(values: Sequence[Any], name: str) -> np.ndarray:
    cells = [_content(value, row, name) for row, value in enumerate(values)]
    absent = np.array([is_missing(cell) for cell in cells], dtype=bool)
    present = [cell for cell, is_absent in zip(cells, absent, strict=True) if not is_absent]
    if all(isinstance(cell, str) for cell in present) and present:
        return np.array(["" if is_absent else cell for cell, is_absent in zip(cells, absent, strict=True)], dtype=str)
    if all(isinstance(cell, (Real, Decimal)) for cell in present):
        return _numbers(cells, absent, present, name)
    return _as_text(cells, absent, name)


def _content(value: Any, row: int, name: str) -> Any:
    """Return what is in a cell: arrays of one element are how scipy reads cells of MATLAB, empty ones are its empty cells."""
    while isinstance(value, np.ndarray):
        if value.size > 1:
            break
        value = value.ravel()[0] if value.size else None
    if isinstance(value, (bytes, np.bytes_)):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise AssemblyError(
                f"{name}: found the bytes {value!r:.60} in row {row}, which are not UTF-8; expected text. "
                "Mend: [value.decode('latin-1') for value in column], or the encoding that they were written in."
            ) from error
    if isinstance(value, (list, tuple, set, dict, np.ndarray, np.void)):
        raise AssemblyError(
            f"{name}: found {value!r:.60} in row {row}; expected a single value in every row. "
            "Mend: join its values into text, or give each a column of its own."
        )
    return value.item() if isinstance(value, (np.bool_, np.number)) else value


def _numbers(cells: Sequence[Any], absent: np.ndarray, present: Sequence[Any], name: str) -> np.ndarray:
    if all(isinstance(cell, bool) for cell in present) and present and not absent.any():
        return np.array(cells, dtype=bool)
    whole = [int(cell) for cell in present if isinstance(cell, Integral)]
    if whole and len(whole) == len(cells):
        integers = np.array(whole)
        if integers.dtype.kind in "iu":
            return integers
    elif all(abs(number) <= 2**53 for number in whole):
        return np.array([np.nan if a else float(cell) for cell, a in zip(cells, absent, strict=True)])
    largest = max(whole, key=abs)
    raise AssemblyError(
        f"{name}: found the integer {largest} {'beside missing values or fractions' if len(whole) < len(cells) else ''}; "
        "expected integers that a numpy type holds exactly. Mend: give them as text, [str(value) for value in column]."
    )


def _as_text(cells: Sequence[Any], absent: np.ndarray, name: str) -> np.ndarray:
    first: dict[str, Any] = {}
    for cell, is_absent in zip(cells, absent, strict=True):
        if is_absent:
            continue
        other = first.setdefault(str(cell), cell)
        if isinstance(other, str) != isinstance(cell, str):
            raise AssemblyError(
                f"{name}: found {other!r} ({type(other).__name__}) and {cell!r} ({type(cell).__name__}), which are different "
                "values with the same text; expected one type in a column. Mend: [str(value) for value in column] where both "
                "mean the same."
            )
    return np.array(["" if a else str(cell) for cell, a in zip(cells, absent, strict=True)], dtype=str)


def missing_rows(column: npt.ArrayLike) -> np.ndarray:
    """Flag the rows of a column of labels that hold no value: None, NaN, NaT, ``pandas.NA``, blank text.

    Parameters
    ----------
    column : array-like of shape (n,)

    Returns
    -------
    bool array of shape (n,)

    Examples
    --------
    >>> from neurobridge.assemblies import missing_rows
    >>> missing_rows(["dog", None, "", "NA"]).tolist()
    [False, True, True, False]
    """
    values = plain(column)
    if values.dtype.kind == "U":
        return (values == "") | np.char.isspace(values)
    if values.dtype.kind in "Mm":
        return np.isnat(values)
    return np.isnan(values) if values.dtype.kind in "fc" else np.zeros(values.shape, dtype=bool)


def present_labels(column: npt.ArrayLike, *, name: str, role: str, mend: str | None = None) -> np.ndarray:
    """Return labels as `plain` does, and refuse missing ones: a missing value is never a value.

    Parameters
    ----------
    column : array-like of shape (n,)
    name : str
        Name of the labels in messages, e.g. "stimulus_id" or "label".
    role : str
        Name of the argument in messages, e.g. "source" or "splits".
    mend : str, optional
        How to leave the rows out; by default for an array of labels.

    Returns
    -------
    array of shape (n,)

    Raises
    ------
    AssemblyError
        Counts the missing labels and names their rows.
    """
    values = plain(column, name=name)
    absent = np.flatnonzero(missing_rows(values).ravel())
    if len(absent):
        mend = (
            mend
            or "leave those rows out of the data and of the labels: kept = ~neurobridge.assemblies.missing_rows(labels)"
        )
        rows = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
        raise AssemblyError(
            f"{role}: found {len(absent)} of {values.size} {name} missing (None, NaN, NaT or blank), row{'s' * (len(absent) > 1)} "
            f"{rows}; expected a value in every row. Mend: {mend}."
        )
    return values
