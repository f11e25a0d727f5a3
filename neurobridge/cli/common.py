"""Options that the commands share, and their output as tables or JSON."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich import box
from rich.console import Console
from rich.table import Table

Mirror = Annotated[
    Path | None,
    typer.Option(
        "--mirror",
        help="Folder with the files, laid out <dataset>/<file>; else NEUROBRIDGE_MIRROR or a download.",
    ),
]
_json_stream: ContextVar[TextIO | None] = ContextVar("json_stream", default=None)


@contextlib.contextmanager
def _json_alone_on_stdout() -> Iterator[None]:
    """Send to stderr what anybody else prints, a model's own code for example, so that stdout is one JSON document."""
    token = _json_stream.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _json_stream.reset(token)


def _reserve_stdout(context: typer.Context, value: bool) -> bool:
    if value and not context.resilient_parsing:
        context.with_resource(_json_alone_on_stdout())
    return value


Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON instead of tables; all else goes to stderr.", callback=_reserve_stdout),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]


def make_console() -> Console:
    """Return a console on stdout, wide enough where the output is piped."""
    console = Console()
    # Piped output has no width of its own; wrapped cells could not be read.
    return console if console.is_terminal else Console(width=140)


def print_json(value: Any) -> None:
    """Print plain data as JSON; numbers that JSON cannot hold (NaN, infinities) are null."""
    typer.echo(json.dumps(_json_values(value), indent=1, allow_nan=False), file=_json_stream.get())


def _json_values(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_values(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_values(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_tables(tables: list[dict[str, Any]]) -> None:
    """Print tables: each has ``title``, ``columns`` and ``rows``; the first column is aligned left, the others right."""
    console = make_console()
    for spec in tables:
        table = Table(title=spec["title"], title_justify="left", box=box.SIMPLE_HEAD)
        for position, column in enumerate(spec["columns"]):
            left = position == 0 or column in spec.get("left", ())
            table.add_column(column, justify="left" if left else "right", overflow="fold")
        for row in spec["rows"]:
            table.add_row(*map(str, row))
        console.print(table)
