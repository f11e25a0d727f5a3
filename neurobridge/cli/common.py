"""Options that the commands share, and their output as tables or JSON."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
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
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


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
        context.with_resource(_set(_quiet))
    return value


Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON instead of tables; all else goes to stderr.", callback=_reserve_stdout),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]


def is_quiet() -> bool:
    """Return True where a command was asked to print its result alone."""
    return _quiet.get()


def tell(sentence: str) -> None:
    """Print a sentence about what was done; nothing with ``--quiet`` and ``--json``."""
    if not is_quiet():
        typer.echo(sentence)


def require_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is none of those an option takes.

    Raises
    ------
    ValueError
        Names the option, the word and the choices.
    """
    if value not in choices:
        raise ValueError(f"{option}: found {value!r}; expected one of {list(choices)}. Mend: {option} {choices[0]}.")


@contextlib.contextmanager
def _set(variable: ContextVar[bool]) -> Iterator[None]:
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)


@contextlib.contextmanager
def _environment(name: str) -> Iterator[None]:
    """Set a variable to 1 for as long as a command runs; processes that it starts have it too."""
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Write the package's log to stderr, a line an event."""
    log, handler = logging.getLogger("neurobridge"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _switch(*resources: Callable[[], Any]) -> Callable[[typer.Context, bool], bool]:
    def turn(context: typer.Context, value: bool) -> bool:
        if value and not context.resilient_parsing:
            for resource in resources:
                context.with_resource(resource())
        return value

    return turn


_NO_BARS = functools.partial(_environment, "NEUROBRIDGE_NO_PROGRESS")
_PANEL: dict[str, Any] = {"is_eager": True, "expose_value": False, "rich_help_panel": "Output"}


def _switches(
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Show no progress bars.", callback=_switch(_NO_BARS), **_PANEL)
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            help="Print no sentences and no progress bars; results and errors alone.",
            callback=_switch(_NO_BARS, functools.partial(_set, _quiet)),
            **_PANEL,
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", help="Write what is read, fitted and written to stderr.", callback=_switch(_logging), **_PANEL
        ),
    ] = False,
) -> None: ...


def output_switches() -> list[Any]:
    """Make the options that every command has: --no-progress, --quiet and --verbose."""
    app = typer.Typer(add_completion=False)
    app.command("switches")(_switches)
    return [option for option in typer.main.get_command(app).params if option.name != "help"]


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
