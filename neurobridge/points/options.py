"""Checks of options: what each may be by its name, whole numbers, and choices from a list."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Kind:
    """What an option may be: a test, its name in messages, and an example.

    Attributes
    ----------
    expected : str
    example : str
        As it is typed.
    holds : callable
        True for a value of this kind; it never raises.
    or_none : bool
        None is of this kind, too.
    """

    expected: str
    example: str
    holds: Callable[[Any], bool]
    or_none: bool = False


def require_options(*, error: type[ValueError] = ValueError, **options: Any) -> None:
    """Refuse options that are not of their kind, before they reach code that would fail in words of its own.

    The kinds stand in `KINDS`, so that an option means the same in every function; ranges are left to the function.

    Parameters
    ----------
    error : class
        ValueError or a subclass of it.
    **options
        Values by the names of the options.

    Raises
    ------
    ValueError
        Of the class ``error``, with the option, its value and what is expected.

    Examples
    --------
    >>> require_options(epsilon=0.05, max_iter=100, seed=0)
    >>> require_options(max_iter="many")
    Traceback (most recent call last):
    ValueError: found max_iter='many'; expected a whole number of 0 or more. Mend: leave it out, or e.g. max_iter=5.
    """
    for name, value in options.items():
        kind = KINDS[name]
        if not (kind.holds(value) or (value is None and kind.or_none)):
            what = f"{kind.expected}, or None" if kind.or_none else kind.expected
            raise error(
                f"found {name}={value!r:.60}; expected {what}. Mend: leave it out, or e.g. {name}={kind.example}."
            )


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
    if not is_whole(value, at_least):
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
    if not is_whole(value, 0, 2**32):
        raise error(f"found {name}={value!r:.40}; expected a whole number from 0 to {2**32 - 1}. Mend: e.g. {name}=0.")
    return int(value)


def require_share(value: Any, *, name: str, error: type[ValueError] = ValueError) -> float:
    """Return a share above 0 and below 1.

    Parameters
    ----------
    value : float
    name : str
        Name of the argument in messages.
    error : class
        ValueError or a subclass of it.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        Of the class ``error``.

    Examples
    --------
    >>> require_share(0.95, name="confidence")
    0.95
    """
    if not (is_number(value) and 0 < value < 1):
        raise error(f"found {name}={value!r:.40}; expected a share in (0, 1). Mend: e.g. {name}=0.95.")
    return float(value)


def is_choice(value: Any, choices: Container[Any]) -> bool:
    """Return True for None or a text that is among the choices; whatever else is none, and no error of its own.

    Examples
    --------
    >>> import numpy as np
    >>> is_choice("mean", ("mean", "max")), is_choice(np.array(["mean", "max"]), ("mean", "max")), is_choice([], {})
    (True, False, False)
    """
    return (value is None or isinstance(value, str)) and value in choices


def is_number(value: Any) -> bool:
    """Return True for a real number that is not NaN, Python's or numpy's; truth values are none.

    Examples
    --------
    >>> import numpy as np
    >>> is_number(np.float32(0.5)), is_number(float("nan")), is_number([0.5])
    (True, False, False)
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    return isinstance(value, Real) and not isinstance(value, bool) and bool(value == value)


def is_sequence_of(holds: Callable[[Any], bool], value: Any) -> bool:
    """Return True for a sequence or a one-dimensional array of at least one value that all pass a test; a text is none.

    Examples
    --------
    >>> is_sequence_of(is_number, (0.1, 1)), is_sequence_of(is_number, "12"), is_sequence_of(is_number, ())
    (True, False, False)
    """
    is_row = isinstance(value, np.ndarray) and value.ndim == 1
    is_listed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return (is_row or is_listed) and len(value) > 0 and all(map(holds, value))


def is_whole(value: Any, least: int = 0, beyond: int = 2**63) -> bool:
    """Return True for a whole number from ``least`` up to, and without, ``beyond``; truth values are none.

    Examples
    --------
    >>> is_whole(3), is_whole(3.0), is_whole(True)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) < beyond


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_width_and_mix(value: Any) -> bool:
    return is_sequence_of(is_number, value) and len(value) == 2


def _named(kind: Kind, names: str) -> dict[str, Kind]:
    return dict.fromkeys(names.split(), kind)


_WHOLE = Kind("a whole number of 0 or more", "5", is_whole)
_NUMBER = Kind("a number", "1.0", is_number)

#: What options may be, by name.
KINDS = {
    "seed": Kind(f"a whole number from 0 to {2**32 - 1}", "0", partial(is_whole, beyond=2**32)),
    **_named(
        _WHOLE,
        "max_iter max_points max_rounds n_anchors n_bootstrap n_centres n_features n_neighbors n_null n_permutations n_points "
        "n_projections n_restarts n_rounds n_splits",
    ),
    **_named(replace(_WHOLE, or_none=True), "n_canonical n_components n_folds nearest rank"),
    **_named(
        _NUMBER, "alpha confidence damping memory_limit operation_limit p pair_weight rho support_quantile tau tol"
    ),
    **_named(replace(_NUMBER, or_none=True), "epsilon exponent penalty power unbalanced unit"),
    **_named(
        Kind("True or False", "True", _is_flag),
        "all_stimuli allow_missing compress distributed equal graded lazy numbers overwrite pinned presentations pretrained "
        "progress refit skipna smaller_is_better stream trust unbiased warn whiten",
    ),
    **_named(Kind("a name", "'stimulus_id'", _is_text, or_none=True), "by group within"),
    "alphas": Kind("a sequence of numbers", "(0.1, 1.0)", partial(is_sequence_of, is_number)),
    "shapes": Kind(
        "a sequence of (width, mix), width > 0 and mix in [0, 1]",
        "((1.0, 0.5),)",
        partial(is_sequence_of, _is_width_and_mix),
    ),
}
