"""The application `neurobridge` and its commands, each in a module that is imported when it is called."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from neurobridge._version import __version__
from neurobridge.cli.lazy import LazyCommand, LazyGroup

COMMANDS = {
    "demo": LazyCommand(
        "neurobridge.cli.demo:demo_command",
        "Run the main job: recordings and model aligned over 5, 10 and 20 % of the stimuli, scored with ceiling and chance.",
    ),
    "data": LazyCommand("neurobridge.cli.data:data_app", "List, show, fetch, verify, find and mirror datasets."),
    "features": LazyCommand("neurobridge.cli.features:features_app", "Activations of frozen models."),
    "align": LazyCommand(
        "neurobridge.cli.align:align_command",
        "Align one assembly to another over their pairs and write it in the other's space.",
    ),
    "score": LazyCommand(
        "neurobridge.cli.score:score_command",
        "Score activations on a benchmark, or one assembly as predictor of another: cross-validated, with ceiling and chance.",
    ),
    "report": LazyCommand(
        "neurobridge.cli.report:report_command", "Write one self-contained HTML page from a results folder."
    ),
    "run": LazyCommand(
        "neurobridge.cli.run:run_command",
        "Run an experiment, or all of them: tables, figures and scores.json into <out>/<name>; an interrupted run goes on.",
    ),
    "brainscore": LazyCommand(
        "neurobridge.cli.brainscore:brainscore_app",
        "Link our metrics and benchmarks into the installed Brain-Score, and take them out again.",
    ),
}


class Commands(LazyGroup):
    """The group of all commands."""

    lazy_commands = COMMANDS


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Align brain recordings and model activations through a few shared stimuli.",
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; expected errors are one message on stderr and exit code 1, not a traceback."""
    try:
        app(prog_name="neurobridge")
    except (ValueError, OSError, MemoryError, RuntimeError, FloatingPointError, ImportError) as error:
        typer.echo(f"neurobridge: {error}", err=True)
        raise SystemExit(1) from error
    raise SystemExit(0)
