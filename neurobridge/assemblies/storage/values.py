"""Attributes as text: a reversible encoding of what netCDF and zarr cannot hold under its own name and type."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from neurobridge.assemblies.errors import AssemblyError

# Attributes of this package, on any variable: the version, what could not keep its name, a coordinate's name and dtype.
FORMAT_ATTR, COLLECTED_ATTR = "neurobridge_format", "neurobridge_attrs"
NAME_ATTR, DTYPE_ATTR = "neurobridge_name", "neurobridge_dtype"
COMPANION_ATTR = "companion_of"

_JSON_PREFIX = "json:"
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.@+-]{0,99}")
# Names that the CF and HDF5 conventions give a meaning: a reader would rescale, mask or hide what carries them.
_RESERVED = {
    "add_offset", "bounds", "calendar", "coordinates", "dtype", "grid_mapping", "missing_value", "scale_factor",
    "valid_max", "valid_min", "valid_range", "CLASS", "DIMENSION_LIST", "NAME", "REFERENCE_LIST", COMPANION_ATTR,
}  # fmt: skip
_TIME_UNITS = {"days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"}
_TYPED = {"i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"}
_EXACT_KINDS = {"b", "i", "u", "f", "c", "U", "S", "M", "m", "O"}


def encode_attrs(
    attrs: Mapping[Any, Any], *, typed: bool, where: str, mend: str, taken: Iterable[str] = ()
) -> dict[str, Any]:
    """Encode attributes so that the file gives back the same names, types and values.

    An attribute whose name and value mean nothing to a convention is stored as it is. Other values become JSON text under
    their own name, and other names are collected in one attribute, ``neurobridge_attrs``.

    Parameters
    ----------
    attrs : mapping
        Names, usually text, to values.
    typed : bool
        The container keeps the numpy type of numbers and one-dimensional arrays (netCDF does, zarr does not).
    where, mend : str
        For messages: whose attributes they are, and the expression that names them.
    taken : iterable of str
        Further names that the variable needs for itself.

    Returns
    -------
    dict of str to text, numbers, or arrays of shape (n,)

    Raises
    ------
    AssemblyError
        A value is not plain data; the message names the attribute.
    """
    encoded: dict[str, Any] = {}
    collected = []
    for key, value in attrs.items():
        try:
            if not _is_plain_name(key, value, taken):
                collected.append([to_json(key), to_json(value)])
            elif _is_plain_value(value, typed):
                encoded[key] = _native(value)
            else:
                encoded[key] = _JSON_PREFIX + dump(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise AssemblyError(
                f"{where}: found the attribute {key!r} of type {type(value).__name__} ({error}); expected text, numbers, None, "
                f"or lists, tuples, dicts and arrays of them. Mend: {mend}[{key!r}] = str({mend}[{key!r}])."
            ) from error
    if collected:
        encoded[COLLECTED_ATTR] = _JSON_PREFIX + json.dumps(collected)
    return encoded


def decode_attrs(stored: Mapping[Any, Any]) -> dict[Any, Any]:
    """Decode what `encode_attrs` gave; attributes of other programs come out as they are.

    Raises
    ------
    ValueError
        A text that should be JSON is not.
    """
    attrs: dict[Any, Any] = {}
    for key, value in stored.items():
        if key in (FORMAT_ATTR, NAME_ATTR, DTYPE_ATTR, COLLECTED_ATTR):
            continue
        attrs[str(key)] = load(value) if isinstance(value, str) else _native(value)
    if COLLECTED_ATTR in stored:
        attrs.update((from_json(key), from_json(value)) for key, value in _load_raw(stored[COLLECTED_ATTR]))
    return attrs


def dump(value: Any) -> str:
    """Write one value as JSON text, the same for equal values of one type.

    Raises
    ------
    TypeError
        The value is not plain data.
    """
    return json.dumps(to_json(value))


def load(text: str) -> Any:
    """Read an attribute's text: JSON where it says so, else itself."""
    return from_json(_load_raw(text)) if text.startswith(_JSON_PREFIX) else text


def differing_attrs(written: Mapping[Any, Any], read: Mapping[Any, Any]) -> list[Any]:
    """List the names of attributes that differ, in value or in type, between two mappings."""
    before = {dump(key): (key, dump(value)) for key, value in written.items()}
    after = {dump(key): (key, dump(value)) for key, value in read.items()}
    return [(before.get(key) or after[key])[0] for key in {**before, **after} if before.get(key) != after.get(key)]


def to_json(value: Any) -> Any:
    """Turn plain data into what JSON holds, with a tag for each type that JSON does not know.

    Raises
    ------
    TypeError
        The value, or a part of it, is not plain data.
    """
    if value is None or isinstance(value, (bool, str)):
        return str.__str__(value) if isinstance(value, str) else value
    if isinstance(value, (int, np.int64)):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"__float__": str(float(value))}
    if isinstance(value, list):
        return [to_json(part) for part in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("__") for key in value):
            return {str.__str__(key): to_json(part) for key, part in value.items()}
        return {"__dict__": [[to_json(key), to_json(part)] for key, part in value.items()]}
    for tag, (kind, encode, _) in _TAGS.items():
        if isinstance(value, kind):
            return {tag: encode(value)}
    if value is pd.NA or value is pd.NaT:
        return {"__missing__": "NA" if value is pd.NA else "NaT"}
    raise TypeError(f"{type(value).__name__} is not plain data")


def from_json(value: Any) -> Any:
    """Invert `to_json`."""
    if isinstance(value, list):
        return [from_json(part) for part in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value)) if len(value) == 1 else None
    if tag == "__float__":
        return float(value[tag])
    if tag == "__dict__":
        return {from_json(key): from_json(part) for key, part in value[tag]}
    if tag == "__missing__":
        return pd.NA if value[tag] == "NA" else pd.NaT
    if tag in _TAGS:
        return _TAGS[tag][2](value[tag])
    return {key: from_json(part) for key, part in value.items()}


def _array_to_json(value: np.ndarray | np.generic) -> dict[str, Any]:
    dtype = value.dtype
    exact = dtype.kind in _EXACT_KINDS and not (dtype.kind in "fc" and dtype.newbyteorder("=").char in "gG")
    if not exact or isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{type(value).__name__} of dtype {dtype} has no exact text")
    flat = np.asarray(value).reshape(-1)
    parts = flat.astype("i8") if dtype.kind in "Mm" else flat
    return {"dtype": dtype.str, "shape": list(value.shape), "values": [to_json(part) for part in parts.tolist()]}


def _array_from_json(stored: dict[str, Any]) -> np.ndarray:
    dtype, parts = np.dtype(stored["dtype"]), [from_json(part) for part in stored["values"]]
    if dtype.kind == "O":
        flat = np.empty(len(parts), dtype=object)
        for at, part in enumerate(parts):
            flat[at] = part
    elif dtype.kind in "Mm":
        flat = np.array(parts, dtype="i8").astype(dtype)
    else:
        flat = np.array(parts, dtype=dtype)
    return flat.reshape(stored["shape"])


_TAGS: dict[str, tuple[Any, Any, Any]] = {
    "__tuple__": (tuple, lambda value: [to_json(part) for part in value], lambda parts: tuple(map(from_json, parts))),
    "__scalar__": (np.generic, _array_to_json, lambda stored: _array_from_json(stored)[()]),
    "__array__": (np.ndarray, _array_to_json, _array_from_json),
    "__bytes__": (bytes, lambda value: value.decode("latin-1"), lambda text: text.encode("latin-1")),
    "__complex__": (
        complex,
        lambda value: [to_json(value.real), to_json(value.imag)],
        lambda parts: complex(*map(from_json, parts)),
    ),
}


def _load_raw(text: str) -> Any:
    return json.loads(text.removeprefix(_JSON_PREFIX))


def _native(value: Any) -> Any:
    """Python's own numbers for those that both numpy and Python have."""
    if isinstance(value, (np.int64, np.float64)):
        return value.item()
    if isinstance(value, int):
        return int(value)
    return str.__str__(value) if isinstance(value, str) else value


def _is_plain_name(key: Any, value: Any, taken: Iterable[str]) -> bool:
    if not isinstance(key, str) or not _PLAIN_NAME.fullmatch(key) or key.startswith("neurobridge_"):
        return False
    if key == "units":
        # A reader would take numbers with units of time for dates or durations, and old versions of xarray expect text.
        words = value.lower().split() if isinstance(value, str) else ["since"]
        return key not in taken and "since" not in words and not (len(words) == 1 and words[0] in _TIME_UNITS)
    return key not in _RESERVED and key not in taken


def _is_plain_value(value: Any, typed: bool) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return not value.startswith(_JSON_PREFIX) and "\0" not in value and _is_unicode(value)
    if isinstance(value, (int, np.int64)):
        return -(2**63) <= int(value) < 2**63
    if isinstance(value, float):
        return typed or math.isfinite(value)
    if not typed or not isinstance(value, (np.generic, np.ndarray)) or isinstance(value, np.ma.MaskedArray):
        return False
    # netCDF takes an array of one number for the number.
    return (
        value.dtype.isnative
        and value.dtype.str[1:] in _TYPED
        and (isinstance(value, np.generic) or (value.ndim == 1 and len(value) > 1))
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
