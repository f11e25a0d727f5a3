"""Options that the commands share, and their output as tables or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random draw.")]


def make_console() -> Console:
    """Console on stdout, wide enough where the output is piped."""
    console = Console()
    # Piped output has no width of its own; wrapped cells could not be read.
    return console if console.is_terminal else Console(width=140)


def print_json(value: Any) -> None:
    """Print plain data as JSON."""
    typer.echo(json.dumps(value, indent=1))


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
