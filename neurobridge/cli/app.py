"""The application `neurobridge` and its commands, each in a module that is imported when it is called."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from typing import Annotated, Any, NoReturn

import typer

from neurobridge._version import __version__
from neurobridge.cli.lazy import LazyCommand, LazyGroup
from neurobridge.store.endings import DEBUG, INTERRUPTED, Terminated, end_on_signals, tell_error, wants_traceback

COMMANDS = {
    "demo": LazyCommand(
        "neurobridge.cli.demo:demo_command",
        "Run the main job: recordings and model aligned over 5, 10 and 20 % of the stimuli, scored with ceiling and chance.",
    ),
    "data": LazyCommand("neurobridge.cli.data:data_app", "List, show, fetch, verify, find and mirror datasets."),
    "import": LazyCommand(
        "neurobridge.cli.importing:import_command",
        "Read recordings from a laboratory's own files and write them as an assembly, or show what is in a file.",
    ),
    "features": LazyCommand("neurobridge.cli.features:features_app", "Activations of frozen models."),
    "average": LazyCommand(
        "neurobridge.cli.average:average_command",
        "Average the trials of every stimulus, site by site over the values that are there.",
    ),
    "join": LazyCommand(
        "neurobridge.cli.join:join_command",
        "Join recordings of several sessions, animals or days of the same stimuli into one population of sites.",
    ),
    "ceiling": LazyCommand(
        "neurobridge.cli.ceiling:ceiling_command",
        "Estimate the reliability of every site by split halves of its trials, Spearman-Brown corrected.",
    ),
    "align": LazyCommand(
        "neurobridge.cli.align:align_command",
        "Align one assembly to another over their pairs and write it in the other's space.",
    ),
    "road": LazyCommand(
        "neurobridge.cli.road:road_command",
        "Align two large feature files, move one, seek held-out partners and report; a killed run goes on.",
    ),
    "curve": LazyCommand(
        "neurobridge.cli.curve:curve_command",
        "Score aligned activations on held-out stimuli, from few pairs to many, and write table, figure and Dataset.",
    ),
    "score": LazyCommand(
        "neurobridge.cli.score:score_command",
        "Score activations on a benchmark, or one assembly as predictor of another: cross-validated, with ceiling and chance.",
    ),
    "decode": LazyCommand(
        "neurobridge.cli.decode:decode_command",
        "Decode a label from recordings on held-out stimuli, with chance: at once, in time or across conditions.",
    ),
    "retrieve": LazyCommand(
        "neurobridge.cli.retrieve:retrieve_command",
        "Seek the partner of every stimulus among those of the other space, in both directions, with chance.",
    ),
    "plot": LazyCommand(
        "neurobridge.cli.plot:plot_command",
        "Draw the figure of a result as PNG, SVG and PDF: learning curve, sites, confusions, plan, dissimilarities, ...",
    ),
    "compare": LazyCommand(
        "neurobridge.cli.compare:compare_command",
        "Compare models on the same recordings: scores, paired differences, corrected p-values and ranks.",
    ),
    "rsa": LazyCommand(
        "neurobridge.cli.rsa:rsa_command",
        "Compare the dissimilarities of models with those of several subjects: noise ceiling, paired differences, corrected p.",
    ),
    "report": LazyCommand(
        "neurobridge.cli.report:report_command",
        "Write one self-contained HTML page on results: findings, figures, tables, data, methods, references.",
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
    debug: Annotated[bool, typer.Option("--debug", help=f"Show the traceback of an error, as {DEBUG}=1 does.")] = False,
) -> None:
    if debug:
        # Processes that a command starts show theirs too.
        os.environ[DEBUG] = "1"
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line and exit.

    The exit status is 0 when all is done, 1 on an expected error and 70 on one that was not foreseen, each told in one line on
    stderr; 2 on wrong options; 128 and the number of the signal where one ended it: 130 for Ctrl-C, 143 for SIGTERM. A traceback
    is shown with ``--debug`` or NEUROBRIDGE_DEBUG=1 alone.

    Raises
    ------
    SystemExit
        Always.
    """
    # A library's user sees where a warning comes from; whom commands warn reads a sentence.
    warnings.showwarning = _tell_warning  # type: ignore[assignment]
    with end_on_signals():
        try:
            status = _run()
        except Terminated as end:
            status = int(str(end.code))
            _tell(f"ended by {signal.Signals(status - 128).name}; what was written whole is kept.")
        except Exception as error:
            if wants_traceback():
                raise
            line, status = tell_error(error, ["neurobridge", *sys.argv[1:]])
            _tell(line)
    raise SystemExit(status)


def _run() -> int:
    """Run the application and return its exit status."""
    try:
        app(prog_name="neurobridge")
    except Terminated:
        raise
    except SystemExit as end:
        # Output that cannot be written is an error, too.
        sys.stdout.flush()
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if status == INTERRUPTED:
            _tell("interrupted; what was written whole is kept.")
        return status
    return 0


def _tell_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if not issubclass(category, DeprecationWarning) or wants_traceback():
        _tell(f"warning: {message}")


def _tell(line: str) -> None:
    # Where nobody listens any more, the exit status is all there is to say.
    with contextlib.suppress(OSError):
        typer.echo(f"neurobridge: {line}", err=True)
