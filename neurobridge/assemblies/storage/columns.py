"""Coordinates and values as numbers and text that netCDF and zarr both hold, with the dtype to restore beside them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.storage.values import DTYPE_ATTR, dump, load, to_json

_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,99}")
# xarray names the dimension of characters of text so.
_CHARACTERS = re.compile(r"string\d+")
_CF_UNITS = {
    "D": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds",
}  # fmt: skip
_TEXT, _OBJECT = "text", "object"


def as_column(values: Any) -> np.ndarray:
    """Return labels as a numpy array of the plainest dtype that keeps each value: text as ``<U``, objects of one type as that type.

    Labels of several types stay objects; byte order becomes the machine's. `neurobridge.assemblies.labels.plain` goes further,
    for comparison: it makes one type of several and one value of all that is missing, which a file must not.

    Parameters
    ----------
    values : array_like or pandas extension array, of shape (n,)

    Returns
    -------
    array of shape (n,)
    """
    array = np.asarray(values)
    if array.dtype.kind in "OT":
        labels = [value.item() if isinstance(value, np.generic) else value for value in array.ravel().tolist()]
        array = _objects(labels).reshape(array.shape)
        kinds = {type(value) for value in labels}
        for kind, dtype in ((str, str), (bool, bool), (int, np.int64), (float, np.float64)):
            if kinds and all(issubclass(other, kind) for other in kinds) and not (kind is int and bool in kinds):
                return _cast(array, dtype)
        return array
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _objects(labels: list[Any]) -> np.ndarray:
    array = np.empty(len(labels), dtype=object)
    for at, label in enumerate(labels):
        array[at] = label
    return array


def _cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    try:
        plainer = array.astype(dtype)
    # An integer beyond 64 bits.
    except OverflowError:
        return array
    # Text of fixed width loses zeros at its end.
    return plainer if dtype is np.float64 or (plainer == array).all() else array


def encode_column(values: np.ndarray, where: str, mend: str) -> tuple[np.ndarray, dict[str, str]]:
    """Encode one coordinate.

    Parameters
    ----------
    values : array of shape (n,)
        As `as_column` gives it.
    where, mend : str
        For messages: the coordinate, and how to convert it to text.

    Returns
    -------
    stored : array of shape (n,)
        Integers, float32, float64 or text.
    attrs : dict of str to str
        What restores the dtype; empty where the file keeps it.

    Raises
    ------
    AssemblyError
        The dtype, or one of the labels, cannot be held.
    """
    dtype = values.dtype
    if dtype.kind in "iu" or dtype in (np.float32, np.float64):
        return values, {}
    if dtype.kind == "b":
        # The convention of xarray, which other programs know too.
        return values.astype(np.int8), {"dtype": "bool"}
    if dtype == np.float16:
        return values.astype(np.float32), {DTYPE_ATTR: "float16"}
    if dtype.kind in "Mm":
        return values.view(np.int64), {DTYPE_ATTR: str(dtype), **_units(values)}
    if dtype.kind == "U" and _is_plain_text(values):
        return values, {}
    try:
        cells = [dump(value) for value in values.ravel().tolist()]
    except (TypeError, ValueError, RecursionError) as error:
        raise AssemblyError(
            f"{where}: found labels of dtype {dtype} ({error}); expected text, numbers, booleans, dates or durations. Mend: {mend}."
        ) from error
    if dtype.kind not in "OUSc" or dtype.char == "G":
        raise AssemblyError(f"{where}: found labels of dtype {dtype}; expected at most 64 bits each. Mend: {mend}.")
    restored = {"O": _OBJECT, "U": _TEXT}.get(dtype.kind, dtype.str)
    return np.array(cells, dtype=str).reshape(values.shape), {DTYPE_ATTR: restored}


def decode_column(stored: np.ndarray, attrs: Mapping[Any, Any]) -> np.ndarray | None:
    """Decode what `encode_column` gave; None where another program has written the coordinate anew, in its own way."""
    kind = attrs.get(DTYPE_ATTR)
    if kind == "float16":
        return stored.astype(np.float16) if stored.dtype.kind == "f" else None
    if kind is not None and kind.startswith(("datetime64", "timedelta64")):
        dtype = np.dtype(kind)
        ours = stored.dtype == np.int64 and attrs.get("units", None) in (None, _unit_text(dtype))
        return stored.view(dtype) if ours else None
    if kind is None or stored.dtype.kind not in "OU":
        return None
    labels = _objects([load("json:" + cell) for cell in stored.ravel().tolist()])
    if kind != _OBJECT:
        labels = labels.astype(str if kind == _TEXT else np.dtype(kind))
    return labels.reshape(stored.shape)


def same_column(written: np.ndarray, read: np.ndarray) -> bool:
    """Say whether two columns hold the same labels of the same kind; NaN and NaT equal themselves."""
    if written.shape != read.shape or written.dtype.kind != read.dtype.kind:
        return False
    if written.dtype.kind == "O":
        return all(map(_same_label, written.ravel().tolist(), read.ravel().tolist()))
    return np.array_equal(written, read, equal_nan=written.dtype.kind in "fcMm")


def stored_names(names: list[Hashable], dims: tuple[str, ...]) -> dict[Hashable, str]:
    """Name each coordinate in the file: its own name where every reader can take that, else the nearest such name."""
    taken = {"data", *dims}
    chosen: dict[Hashable, str] = {}
    for name in names:
        if isinstance(name, str) and (name in dims or (_is_plain_name(name) and name.casefold() not in taken)):
            chosen[name] = name
            taken.add(name.casefold())
    for name in names:
        if name in chosen:
            continue
        base = re.sub(r"[^A-Za-z0-9_]+", "_", str(name)).strip("_")[:80] or "coordinate"
        base = base if _is_plain_name(base) else f"coordinate_{base}"
        new, count = base, 1
        while new.casefold() in taken:
            count += 1
            new = f"{base}_{count}"
        chosen[name] = new
        taken.add(new.casefold())
    return chosen


def free_name(wanted: str, taken: set[str]) -> str:
    """Return the name, with a low line at its end for each time that it is taken."""
    while wanted.casefold() in taken:
        wanted += "_"
    return wanted


def _is_plain_name(name: str) -> bool:
    return bool(_PLAIN_NAME.fullmatch(name)) and not _CHARACTERS.fullmatch(name)


def _is_plain_text(values: np.ndarray) -> bool:
    joined = "".join(values.ravel().tolist())
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in joined


def _units(values: np.ndarray) -> dict[str, str]:
    """Give CF units, by which other programs read dates and durations; they cannot read a missing one."""
    text = None if np.isnat(values).any() else _unit_text(values.dtype)
    return {} if text is None else {"units": text}


def _unit_text(dtype: np.dtype) -> str | None:
    unit, count = np.datetime_data(dtype)
    if count != 1 or unit not in _CF_UNITS:
        return None
    return _CF_UNITS[unit] + (" since 1970-01-01" if dtype.kind == "M" else "")


def _same_label(before: Any, after: Any) -> bool:
    return type(before) is type(after) and to_json(before) == to_json(after)
