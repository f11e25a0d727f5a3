"""The way in which tests of units account for a room: every public callable is tried, or is in a table with a reason."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import ModuleType

from hypothesis import strategies as st

#: From femtotesla to counts.
UNITS = st.floats(-15, 9).map(lambda exponent: float(10**exponent))

#: Reasons why a public callable has no property of units of its own.
SETTINGS = "settings: pure numbers, names and seeds"
PROTOCOL = "a protocol, which computes nothing"
TYPE = "the type of an argument"
MESSAGE = "an error or a warning"
COUNTS = "its input is counts, ids, labels or correlations, which have no unit"


def public_callables(*rooms: ModuleType) -> set[str]:
    """Return the names of functions and classes that rooms export; of a room without a face, those that its modules define."""
    names: set[str] = set()
    for room in rooms:
        exported = [name for name in dir(room) if callable(getattr(room, name)) and not name.startswith("_")]
        names.update(exported or _defined_in_modules(room))
    return names


def check_every_callable_is_tried(
    *rooms: ModuleType, tried: Iterable[str], inside: Mapping[str, str], without: Mapping[str, str]
) -> None:
    """Fail where a public callable of a room is accounted for nowhere or twice, or a name is no public callable.

    Parameters
    ----------
    *rooms : module
    tried : iterable of str
        Callables that a property test calls.
    inside : mapping of str to str
        Callables that the test of another calls, with the name of the other.
    without : mapping of str to str
        Callables that have no units, with the reason.
    """
    public, tried = public_callables(*rooms), set(tried)
    assert public, rooms
    assert public - tried - set(inside) - set(without) == set(), "not accounted for"
    assert (set(inside) | set(without)) - public == set(), "no public callable"
    assert [set(inside) & set(without), tried & set(inside), tried & set(without)] == [set()] * 3, "accounted for twice"
    assert set(inside.values()) <= tried, "inside of what is not tried"
    assert all(without.values()), "no reason"


def _defined_in_modules(room: ModuleType) -> set[str]:
    names: set[str] = set()
    for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
        content = vars(importlib.import_module(module.name)).items()
        names.update(
            name
            for name, value in content
            if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.name
        )
    return names
