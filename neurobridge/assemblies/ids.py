"""Ids of two sides: their rows, and what keeps apart those that print alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from neurobridge.assemblies.forms import ID_FORMS, id_texts, without_extension
from neurobridge.assemblies.labels import plain


def find_rows(ids: npt.ArrayLike, among: npt.ArrayLike) -> np.ndarray:
    """Return the row of each id among others, -1 where there is none.

    Ids are compared as text, by the rule of `id_texts`: "5" is 5 and 5.0, "05" is not.

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
    rows = np.asarray(pd.Index(id_texts(given)).get_indexer(pd.Index(id_texts(wanted))))
    if (rows < 0).any() and {wanted.dtype.kind, given.dtype.kind} == {"U", "f"}:
        # A csv file has "1.0" for 1.0 where its column holds fractions, too.
        decimals = np.asarray(pd.Index(given.astype(str)).get_indexer(pd.Index(wanted.astype(str))))
        rows = np.where(rows < 0, decimals, rows)
    return rows


class Joined(NamedTuple):
    """Rows of ids among others, some of which differ by the file extension alone.

    Attributes
    ----------
    rows : int array of shape (n,)
        -1 where there is none.
    by_extension : bool array of shape (n,)
        Those that were joined without the extension of one side.
    """

    rows: np.ndarray
    by_extension: np.ndarray


def join_rows(ids: npt.ArrayLike, among: npt.ArrayLike) -> Joined:
    """Return the row of each id among others as `find_rows` does, and join the rest where one side alone has file extensions.

    Parameters
    ----------
    ids : array of shape (n,)
    among : array of shape (m,)
        Each once.

    Returns
    -------
    Joined

    Examples
    --------
    >>> joined = join_rows(["a", "b", "c"], ["c", "b.png", "a.png"])
    >>> joined.rows.tolist(), joined.by_extension.tolist()
    ([2, 1, 0], [True, True, False])
    """
    wanted, given = plain(ids), plain(among)
    rows = find_rows(wanted, given)
    by_extension = np.zeros(len(rows), dtype=bool)
    left, right = np.flatnonzero(rows < 0), np.setdiff1d(np.arange(len(given)), rows)
    if len(left) and len(right):
        sides = [id_texts(wanted[left]), id_texts(given[right])]
        stems = [without_extension(side) for side in sides]
        if (stems[0] is None) != (stems[1] is None):
            first, second = (side if stem is None else stem for side, stem in zip(sides, stems, strict=True))
            inner = find_rows(first, second)
            known = left[inner >= 0]
            rows[known] = right[inner[inner >= 0]]
            by_extension[known] = True
    return Joined(rows, by_extension)


def joined_message(joined: Joined, ids: npt.ArrayLike, among: npt.ArrayLike, sides: tuple[str, str]) -> str:
    """Return the warning of ids that were joined without an extension: how many, an example, and a call that ends it."""
    row = int(np.flatnonzero(joined.by_extension)[0])
    pair = str(id_texts(ids)[row]), str(id_texts(among)[joined.rows[row]])
    return (
        f"joined {int(joined.by_extension.sum())} ids of {sides[0]} and {sides[1]} that differ by the file extension alone, e.g. "
        f"{pair[0]!a} and {pair[1]!a}. Mend: nothing where they are the same stimuli; to have no extensions in either, "
        "neurobridge.assemblies.normalize_ids(assembly, 'stem'), or neurobridge import FILE --ids stem --out NEW."
    )


class Difference(NamedTuple):
    """What keeps apart the ids of two sides that print alike.

    Attributes
    ----------
    what : str
        The difference, with an id of either side as Python writes it.
    first_calls, second_calls : str
        Calls that bring the ids of either side to the same form, to be put behind an ``xarray.DataArray`` or a
        ``pandas.Series`` of them; empty where they stay.
    forms : tuple of str
        Keys of `ID_FORMS` that bring both sides to the same form; empty where the types differ.

    Examples
    --------
    >>> alike(["a.png"], ["a.png "]).what
    "spaces at the ends: 'a.png' and 'a.png '"
    """

    what: str
    first_calls: str
    second_calls: str
    forms: tuple[str, ...] = ()


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
    Difference(what="type: 2 (int64) and '2' (str)", first_calls='.astype(str)', second_calls='', forms=())
    """
    left, right = plain(first), plain(second)
    if left.dtype.kind in "iuf" and right.dtype.kind == "U":
        return _number_and_text(left, right, flipped=False)
    if left.dtype.kind == "U" and right.dtype.kind in "iuf":
        return _number_and_text(right, left, flipped=True)
    if left.dtype.kind != "U" or right.dtype.kind != "U":
        return None
    of_text = tuple(name for name in ID_FORMS if name not in ("stem", "name"))
    for names in (*((name,) for name in ID_FORMS), of_text, tuple(ID_FORMS)):
        forms = [ID_FORMS[name] for name in names]
        example = _example(left.tolist(), right.tolist(), [form.apply for form in forms])
        if example is not None:
            what = forms[0].what if len(forms) == 1 else "spelling"
            calls = "".join(form.call for form in forms)
            return Difference(f"{what}: {example[0]!a} and {example[1]!a}", calls, calls, names)
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
    if not len(values):
        return "none"
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
    command = ""
    if difference.forms:
        command = f"; for both files, neurobridge import FILE --ids {','.join(difference.forms)} --out NEW gives them one form"
    return f" (they differ in {difference.what}{command})", "; ".join(change(calls) for change, calls in sides if calls)


def of_assembly(role: str, name: str = "stimulus_id") -> Callable[[str], str]:
    """Return the function that writes the statement which changes a coordinate of an assembly by some calls."""
    key = f"{name}=" if name.isidentifier() else f"**{{{name!r}: "
    end = ")" if name.isidentifier() else "})"
    return lambda calls: f"{role} = {role}.assign_coords({key}{role}[{name!r}]{calls}{end}"
