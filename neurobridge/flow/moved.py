"""Flat settings of version 0.1, which belong to `Training` and `ODE` now."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from neurobridge.flow.ode import ODE
from neurobridge.flow.settings import Training

#: Keyword of version 0.1 -> (argument of `ConditionalFlow`, setting of that object).
MOVED: dict[str, tuple[str, str]] = {
    **{field.name: ("training", field.name) for field in fields(Training)},
    **{field.name: ("ode", field.name) for field in fields(ODE)},
    "n_steps": ("training", "n_steps"),
    "ode_steps": ("ode", "n_steps"),
}
_CLASSES = {"training": Training, "ode": ODE}


class FlatSettings:
    """Keywords and attributes of version 0.1, which work for one release with a DeprecationWarning."""

    training: Training
    ode: ODE

    def _take_flat(self, flat: dict[str, Any]) -> None:
        """Put keywords of version 0.1 where they belong."""
        unknown = sorted(set(flat) - set(MOVED))
        if unknown:
            raise TypeError(
                f"found keyword arguments {unknown}; expected base, training, ode, support_quantile, seed or device. "
                "Mend: settings of training go into training=Training(...), those of transport into ode=ODE(...)."
            )
        for holder, cls in _CLASSES.items():
            changes = {MOVED[name][1]: value for name, value in flat.items() if MOVED[name][0] == holder}
            if changes:
                old = ", ".join(name for name in flat if MOVED[name][0] == holder)
                _warn(f"the keywords {old} of ConditionalFlow", f"{holder}={cls.__name__}({_typed(changes)})", 4)
                setattr(self, holder, getattr(self, holder).replace(**changes))

    # A type checker must not take every name for an attribute.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name not in MOVED:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            holder, field = MOVED[name]
            _warn(f"the attribute {name} of ConditionalFlow", f"{holder}.{field}", 3)
            return getattr(getattr(self, holder), field)

        def __setattr__(self, name: str, value: Any) -> None:
            if name not in MOVED:
                return super().__setattr__(name, value)
            holder, field = MOVED[name]
            _warn(f"setting the attribute {name} of ConditionalFlow", f"set_params({holder}__{field}=...)", 3)
            return super().__setattr__(holder, getattr(self, holder).replace(**{field: value}))


def _warn(old: str, new: str, stacklevel: int) -> None:
    warnings.warn(
        f"found {old}, the form of version 0.1; expected {new}. Mend: write {new}; the old form goes in the next release.",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def _typed(changes: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}={getattr(value, '__qualname__', '...') if callable(value) else repr(value)}"
        for name, value in changes.items()
    )
