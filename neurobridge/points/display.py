"""How results print: one short line in a terminal, a small table in a notebook."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

LIMIT = 400


def format_fact(value: Any) -> str:
    """Format one fact: floats with four significant digits, sequences by their first entries and their length."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)) and len(value) > 4:
        return f"[{', '.join(map(format_fact, value[:3]))}, ... {len(value)} in all]"
    text = str(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def short_repr(name: str, *parts: str, **facts: Any) -> str:
    """Return ``Name(part, ..., fact=value, ...)``, at most 400 characters long.

    Parameters
    ----------
    name : str
        The class.
    *parts : str
        Phrases that stand as they are, e.g. ``"80 x 80"`` or ``"converged in 12 iterations"``.
    **facts
        Named values.

    Examples
    --------
    >>> short_repr("Coupling", "80 x 60", "converged", epsilon=0.05)
    'Coupling(80 x 60, converged, epsilon=0.05)'
    """
    inside = ", ".join([*parts, *(f"{key}={format_fact(value)}" for key, value in facts.items())])
    text = f"{name}({inside})"
    return text if len(text) <= LIMIT else f"{text[: LIMIT - 4]}...)"


def html_repr(name: str, facts: Mapping[str, Any]) -> str:
    """Return an HTML table of facts, a row each, under the name of the class.

    Examples
    --------
    >>> html_repr("Pairs", {"pairs": 20})
    '<table><caption>Pairs</caption><tr><th>pairs</th><td>20</td></tr></table>'
    """
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(format_fact(value))}</td></tr>"
        for key, value in facts.items()
    )
    return f"<table><caption>{html.escape(name)}</caption>{rows}</table>"


class Displayed(ABC):
    """A result that prints its facts: in one line in a terminal, as a table in a notebook.

    Subclasses that are dataclasses say ``repr=False``, or their generated ``__repr__`` prints every array they hold.
    """

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """Facts worth printing, by name; in a line, text stands without its name."""

    def __repr__(self) -> str:
        facts = self._facts()
        phrases = [value for value in facts.values() if isinstance(value, str)]
        named = {name: value for name, value in facts.items() if not isinstance(value, str)}
        return short_repr(type(self).__name__, *phrases, **named)

    def _repr_html_(self) -> str:
        return html_repr(type(self).__name__, self._facts())


def by(*sizes: int) -> str:
    """Return sizes as ``"80 x 60"``."""
    return " x ".join(map(str, sizes))
