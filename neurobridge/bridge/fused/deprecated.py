"""Forms of version 0.1 that go on working for one release, with a `DeprecationWarning`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from neurobridge.deprecations import END

_Class = TypeVar("_Class", bound=type)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def warn_deprecated(old: str, new: str, *, stacklevel: int) -> None:
    """Warn of a form of version 0.1 and say how it is written now.

    Parameters
    ----------
    old, new : str
        Both forms, as a user types them.
    stacklevel : int
        1 is the caller of this function, as in `warnings.warn`.
    """
    message = f"found {old}, as in version 0.1; expected {new}. Mend: write {new}; the old form ends in version {END}."
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)


def takes_positions(*names: str) -> Callable[[_Class], _Class]:
    """Let a keyword-only dataclass take the values of some fields by position, with a `DeprecationWarning`."""

    def decorate(record: _Class) -> _Class:
        by_keyword = record.__init__  # type: ignore[misc]

        @wraps(by_keyword)
        def by_position_or_keyword(self: Any, *values: Any, **named: Any) -> None:
            if values:
                twice = [name for name in names[: len(values)] if name in named]
                if len(values) > len(names) or twice:
                    raise TypeError(
                        f"found {len(values)} positional values and {sorted(named)}; expected each of {[*names]} once. "
                        f"Mend: name them, {record.__name__}({names[0]}=..., {names[1]}=..., ...)."
                    )
                named |= dict(zip(names, values, strict=False))
                written = ", ".join(f"{name}={value!r}" for name, value in named.items())
                warn_deprecated(
                    f"positional values of {record.__name__}", f"{record.__name__}({written})", stacklevel=2
                )
            by_keyword(self, **named)

        record.__init__ = by_position_or_keyword  # type: ignore[misc]
        return record

    return decorate


def renamed_arguments(
    **new_names: str,
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Take keyword arguments under their old names too, with a `DeprecationWarning`: old name = new name."""

    def decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @wraps(function)
        def renamed(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            for old, new in new_names.items():
                if old not in kwargs:
                    continue
                if new in kwargs:
                    raise TypeError(f"found both {old} and {new}; expected {new} alone. Mend: leave {old} out.")
                kwargs[new] = kwargs.pop(old)
                warn_deprecated(f"the argument {old}", f"{new}={kwargs[new]!r}", stacklevel=2)
            return function(*args, **kwargs)

        return renamed

    return decorate
