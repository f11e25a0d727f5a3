"""Checks of options: whole numbers, and choices from a list."""

from __future__ import annotations

from collections.abc import Container
from numbers import Integral
from typing import Any


def require_count(value: Any, *, name: str, at_least: int = 1, error: type[ValueError] = ValueError) -> int:
    """Return a whole number, refusing fractions, text, truth values, and numbers that are too small or beyond 64 bits.

    Parameters
    ----------
    value : int
        Python's or numpy's.
    name : str
        Name of the argument in messages.
    at_least : int
    error : class
        ValueError or a subclass of it.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        Of the class ``error``.

    Examples
    --------
    >>> import numpy as np
    >>> require_count(np.int64(3), name="n_splits")
    3
    """
    if not _is_whole(value, at_least, 2**63):
        raise error(
            f"found {name}={value!r:.40}; expected a whole number of {at_least} or more. Mend: e.g. {name}={max(at_least, 5)}."
        )
    return int(value)


def require_seed(value: Any, *, name: str = "seed", error: type[ValueError] = ValueError) -> int:
    """Return a seed that numpy and scikit-learn take: a whole number from 0 to 2^32 - 1.

    Parameters
    ----------
    value : int
    name : str
        Name of the argument in messages.
    error : class
        ValueError or a subclass of it.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        Of the class ``error``.

    Examples
    --------
    >>> require_seed(7)
    7
    """
    if not _is_whole(value, 0, 2**32):
        raise error(f"found {name}={value!r:.40}; expected a whole number from 0 to {2**32 - 1}. Mend: e.g. {name}=0.")
    return int(value)


def is_choice(value: Any, choices: Container[Any]) -> bool:
    """Return True for None or a text that is among the choices; whatever else is none, and no error of its own.

    Examples
    --------
    >>> import numpy as np
    >>> is_choice("mean", ("mean", "max")), is_choice(np.array(["mean", "max"]), ("mean", "max")), is_choice([], {})
    (True, False, False)
    """
    return (value is None or isinstance(value, str)) and value in choices


def _is_whole(value: Any, least: int, beyond: int) -> bool:
    """Return True for a whole number from ``least`` up to, and without, ``beyond``; truth values are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) < beyond
