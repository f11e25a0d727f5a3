"""Axes of an array: which of them are presentations, sites, time bins and repetitions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.readers.names import axis_of
from neurobridge.assemblies.readers.notes import Notes, some
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, REPETITION, TIME_BIN

_WORDS = f"{PRESENTATION} (trial, stimulus, image), {NEUROID} (site, unit, channel), {TIME_BIN} (time), {REPETITION}"
#: Arrangements that are tried for an array of two axes, in order.
_ORDERS = ((PRESENTATION, NEUROID), (NEUROID, PRESENTATION))


def name_axes(
    shape: tuple[int, ...],
    *,
    given: str | Sequence[str] | None,
    in_file: Sequence[str],
    lengths: dict[str, int],
    what: str,
    notes: Notes,
) -> tuple[str, ...]:
    """Name the axes of an array.

    Parameters
    ----------
    shape : tuple of int
    given : str or sequence of str, optional
        Names by the caller, e.g. ``"neuroid,presentation,repetition"``.
    in_file : sequence of str
        Names in the file; empty where it has none.
    lengths : dict of str to int
        Known lengths of the dimensions ``presentation`` and ``neuroid``, from tables and ids.
    what : str
        The array, in messages.
    notes : Notes
        Takes what is guessed.

    Returns
    -------
    tuple of str
        Of ``presentation``, ``neuroid``, ``time_bin`` and ``repetition``, each once.

    Raises
    ------
    AssemblyError
        The names do not fit the array, or nothing says which axis is which.
    """
    if given is not None:
        words = [word.strip() for word in given.split(",")] if isinstance(given, str) else [str(word) for word in given]
        return _checked(words, shape, what)
    axes = [axis_of(word) for word in in_file]
    named = len(axes) == len(shape) == len(set(axes)) and None not in axes
    if named and {PRESENTATION, NEUROID} <= set(axes):
        notes.guess(
            f"the axes of {what} are {', '.join(map(str, axes))}, by their names {', '.join(in_file)} in the file"
        )
        return tuple(str(axis) for axis in axes)
    if len(shape) == 2:
        return _two_axes(shape, lengths, what, notes)
    if len(shape) == 3 and TIME_BIN in lengths:
        return _three_axes(shape, lengths, what, notes)
    called = f" named {', '.join(in_file)}" if in_file else ""
    raise AssemblyError(
        f"{what}: found {len(shape)} axes of lengths {shape}{called}; expected two, or names for them, as a third may be time bins "
        f"or repetitions. Mend: dims='presentation,neuroid,time_bin' or dims='neuroid,presentation,repetition' in the order of "
        f"the array, or --dims on the command line; words: {_WORDS}."
    )


def _checked(words: Sequence[str], shape: tuple[int, ...], what: str) -> tuple[str, ...]:
    axes = [axis_of(word) for word in words]
    wrong = [word for word, axis in zip(words, axes, strict=True) if axis is None]
    repeated = len(set(axes)) < len(axes)
    if wrong or repeated or len(axes) != len(shape) or not {PRESENTATION, NEUROID} <= set(axes):
        raise AssemblyError(
            f"dims: found {some(words)} for {what} of shape {shape}; expected {len(shape)} different words, {PRESENTATION} and "
            f"{NEUROID} among them. Mend: choose from {_WORDS}, in the order of the array."
        )
    return tuple(str(axis) for axis in axes)


def _fits(axes: Sequence[str], shape: tuple[int, ...], lengths: dict[str, int]) -> bool:
    return all(lengths.get(axis, size) == size for axis, size in zip(axes, shape, strict=True))


def _two_axes(shape: tuple[int, ...], lengths: dict[str, int], what: str, notes: Notes) -> tuple[str, ...]:
    fitting = [axes for axes in _ORDERS if _fits(axes, shape, lengths)]
    if not fitting:
        known = ", ".join(f"{size} for {axis}" for axis, size in sorted(lengths.items()) if axis != TIME_BIN)
        raise AssemblyError(
            f"{what}: found an array of shape {shape} and ids {known}; expected an axis of each length. Mend: give tables with "
            "one row for each presentation and each site of the array, or name the axes: "
            "dims='neuroid,presentation' (--dims)."
        )
    if len(fitting) == 1:
        if lengths and fitting[0] != _ORDERS[0]:
            notes.guess(f"the first axis of {what} {shape} is the sites, by its length")
        return fitting[0]
    if lengths:
        warnings.warn(
            f"{what}: found an array of shape {shape}, whose lengths do not say which axis is which; rows were taken as "
            "presentations. Mend: dims='presentation,neuroid' (--dims) says so, dims='neuroid,presentation' the contrary.",
            UserWarning,
            stacklevel=5,
        )
    notes.guess(
        f"rows of {what} {shape} are presentations, columns are sites: dims='neuroid,presentation' (--dims) turns them"
    )
    return fitting[0]


def _three_axes(shape: tuple[int, ...], lengths: dict[str, int], what: str, notes: Notes) -> tuple[str, ...]:
    fitting = [axes for axes in permutations((PRESENTATION, NEUROID, TIME_BIN)) if _fits(axes, shape, lengths)]
    if len(fitting) == 1:
        notes.guess(f"the axes of {what} {shape} are {', '.join(fitting[0])}, by their lengths")
        return fitting[0]
    raise AssemblyError(
        f"{what}: found an array of shape {shape}, and {len(fitting)} ways to name its axes by the lengths "
        f"{dict(sorted(lengths.items()))}; expected one. Mend: dims='presentation,neuroid,time_bin' (--dims), in the order of "
        "the array."
    )


def arranged(values: np.ndarray, axes: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return an array as (presentation[ x repetition], neuroid[, time_bin]), and the number of repetitions, 0 where no axis is.

    Presentations come stimulus by stimulus, all repetitions of one before those of the next.

    Examples
    --------
    >>> array, n_repetitions = arranged(np.zeros((50, 640, 10)), ("neuroid", "presentation", "repetition"))
    >>> array.shape, n_repetitions
    ((6400, 50), 10)
    """
    order = [axis for axis in (PRESENTATION, REPETITION, NEUROID, TIME_BIN) if axis in axes]
    values = np.transpose(values, [list(axes).index(axis) for axis in order])
    if REPETITION not in axes:
        return values, 0
    n_repetitions = values.shape[1]
    return values.reshape(values.shape[0] * n_repetitions, *values.shape[2:]), n_repetitions


def one_row_each(column: Any) -> np.ndarray | None:
    """Return a vector of a row a thing, also where it is stored as one row or one column; None where it is no vector."""
    array = column if isinstance(column, np.ndarray) else np.asarray(column)
    if array.ndim == 1:
        return array
    return array.ravel() if array.ndim == 2 and 1 in array.shape else None
