"""The command line of a script."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import typer


def run_script(main: Callable[..., None], description: str | None) -> NoReturn:
    """Run a function as the command line of its script, with the text of the module as help."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help=description)(main)
    app()
    raise SystemExit(0)


def one_of(names: Iterable[str]) -> Callable[[Any], Any]:
    """Make the check of an option that takes one of some names, or several of them."""
    known = list(names)

    def check(value: Any) -> Any:
        values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise typer.BadParameter(f"found {unknown[0]!r}; expected one of {known}. Mend: choose one of them.")
        return value

    return check
