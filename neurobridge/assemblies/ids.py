"""Ids of two sides: their rows, and what keeps apart those that print alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from neurobridge.assemblies.labels import plain


def find_rows(ids: npt.ArrayLike, among: npt.ArrayLike) -> np.ndarray:
    """Return the row of each id among others, -1 where there is none.

    Text names a number by its text, as files without types such as csv do: "5" is 5, "05" is not.

    Parameters
    ----------
    ids : array of shape (n,)
    among : array of shape (m,)
        Each once.

    Returns
    -------
    int array of shape (n,)

    Examples
    --------
    >>> find_rows(["5", "7", "05"], [7, 6, 5]).tolist()
    [2, 0, -1]
    """
    wanted, given = plain(ids), plain(among)
    if wanted.dtype.kind == "U" and given.dtype.kind in "iuf":
        given = given.astype(str)
    return np.asarray(pd.Index(given).get_indexer(pd.Index(wanted)))


class Difference(NamedTuple):
    """What keeps apart the ids of two sides that print alike.

    Attributes
    ----------
    what : str
        The difference, with an id of either side as Python writes it.
    first_calls, second_calls : str
        Calls that bring the ids of either side to the same form, to be put behind an ``xarray.DataArray`` or a
        ``pandas.Series`` of them; empty where they stay.

    Examples
    --------
    >>> alike(["a.png"], ["a.png "]).what
    "spaces at the ends: 'a.png' and 'a.png '"
    """

    what: str
    first_calls: str
    second_calls: str


#: Steps that bring text to one form: what differs, the form of a text, and its call behind a DataArray or a Series.
_FORMS: tuple[tuple[str, Callable[[str], str], str], ...] = (
    ("Unicode form (NFC or NFD)", lambda text: unicodedata.normalize("NFC", text), '.str.normalize("NFC")'),
    ("spaces at the ends", str.strip, ".str.strip()"),
    ("capital letters", str.casefold, ".str.casefold()"),
    ("characters that look alike (NFKC)", lambda text: unicodedata.normalize("NFKC", text), '.str.normalize("NFKC")'),
    (
        "invisible characters",
        lambda text: re.sub("[\u00ad\u200b-\u200f\u2060\ufeff]", "", text),
        r'.str.replace("[\u00ad\u200b-\u200f\u2060\ufeff]", "", regex=True)',
    ),
)


def alike(first: npt.ArrayLike, second: npt.ArrayLike) -> Difference | None:
    """Find what keeps apart ids that print alike: their type, Unicode form, spaces or capital letters.

    Parameters
    ----------
    first, second : arrays of shape (n,) and (m,)
        Ids of two sides, none of which is shared.

    Returns
    -------
    Difference or None
        None where no id of one side is like one of the other.

    Examples
    --------
    >>> alike([1, 2], ["2", "3"])
    Difference(what="type: 2 (int64) and '2' (str)", first_calls='.astype(str)', second_calls='')
    """
    left, right = plain(first), plain(second)
    if left.dtype.kind in "iuf" and right.dtype.kind == "U":
        return _number_and_text(left, right, flipped=False)
    if left.dtype.kind == "U" and right.dtype.kind in "iuf":
        return _number_and_text(right, left, flipped=True)
    if left.dtype.kind != "U" or right.dtype.kind != "U":
        return None
    for steps in (*((step,) for step in _FORMS), _FORMS):
        example = _example(left.tolist(), right.tolist(), [form for _, form, _ in steps])
        if example is not None:
            what = steps[0][0] if len(steps) == 1 else "spelling"
            calls = "".join(call for _, _, call in steps)
            return Difference(f"{what}: {example[0]!a} and {example[1]!a}", calls, calls)
    return None


def _example(left: list[str], right: list[str], forms: Sequence[Callable[[str], str]]) -> tuple[str, str] | None:
    """Return the first text of the left that has the form of one of the right, and that one."""

    def formed(text: str) -> str:
        for form in forms:
            text = form(text)
        return text

    of_right = {formed(text): text for text in right}
    return next(((text, of_right[formed(text)]) for text in left if formed(text) in of_right), None)


def _number_and_text(numbers: np.ndarray, text: np.ndarray, *, flipped: bool) -> Difference | None:
    """Compare ids that are numbers with ids that are text; ``flipped`` where the text is the first side."""
    values, words = numbers.tolist(), text.tolist()
    whole = all(np.isfinite(value) and value == int(value) for value in values)
    ways: list[tuple[str, dict[str, Any]]] = [(".astype(str)", {str(value): value for value in values})]
    if whole and numbers.dtype.kind == "f":
        ways.append((".astype(int).astype(str)", {str(int(value)): value for value in values}))
    for calls, by_text in ways:
        word = next((word for word in words if word in by_text), None)
        if word is not None:
            return _of_types(by_text[word], numbers.dtype, word, (calls, ""), flipped)
    # Text such as "007": it is the numbers that keep less.
    read = [_number(word) for word in words]
    given = set(values)
    position = next((k for k, value in enumerate(read) if value in given), None)
    if position is None:
        return None
    complete = all(value is not None for value in read)
    calls = f".astype({'int' if whole and all(re.fullmatch('[+-]?[0-9]+', word) for word in words) else 'float'})"
    return _of_types(read[position], numbers.dtype, words[position], ("", calls if complete else ""), flipped)


def _of_types(number: Any, dtype: np.dtype, word: str, calls: tuple[str, str], flipped: bool) -> Difference:
    shown = f"{np.asarray(number, dtype=dtype).item()!r} ({dtype})", f"{word!r} (str)"
    first, second = shown[::-1] if flipped else shown
    return Difference(f"type: {first} and {second}", *(calls[::-1] if flipped else calls))


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def show_ids(ids: npt.ArrayLike) -> str:
    """Return an id and the type of all as they stand in a message: ``'a.png' (str)`` or ``3 (int64)``.

    Examples
    --------
    >>> show_ids(["a.png"]), show_ids([3, 4])
    ("'a.png' (str)", '3 (int64)')
    """
    values = plain(ids)
    return f"{values.tolist()[0]!a} ({'str' if values.dtype.kind == 'U' else values.dtype})"


def mend_ids(
    first: npt.ArrayLike, second: npt.ArrayLike, first_change: Callable[[str], str], second_change: Callable[[str], str]
) -> tuple[str, str]:
    """Return the difference of ids that print alike and the statements that mend it, both empty where there are none.

    Parameters
    ----------
    first, second : arrays of shape (n,) and (m,)
        Ids of two sides, none of which is shared.
    first_change, second_change : callable
        Gives the statement that changes the ids of a side by the calls of a `Difference`.

    Examples
    --------
    >>> mend_ids([1], ["1"], of_assembly("source"), of_assembly("target"))[1]
    "source = source.assign_coords(stimulus_id=source['stimulus_id'].astype(str))"
    """
    difference = alike(first, second)
    if difference is None:
        return "", ""
    sides = ((first_change, difference.first_calls), (second_change, difference.second_calls))
    return f" (they differ in {difference.what})", "; ".join(change(calls) for change, calls in sides if calls)


def of_assembly(role: str, name: str = "stimulus_id") -> Callable[[str], str]:
    """Return the function that writes the statement which changes a coordinate of an assembly by some calls."""
    key = f"{name}=" if name.isidentifier() else f"**{{{name!r}: "
    end = ")" if name.isidentifier() else "})"
    return lambda calls: f"{role} = {role}.assign_coords({key}{role}[{name!r}]{calls}{end}"
