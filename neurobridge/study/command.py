"""The command line of a study's script."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import matplotlib as mpl
import typer

from neurobridge.datasets import DownloadError
from neurobridge.store.endings import INTERRUPTED, Terminated, end_on_signals, tell_error, wants_traceback
from neurobridge.study.harness import NO_DATA, RESULTS, Run, Study, run_study


def main(study: Study, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line of a study's script and exit.

    The exit status is 0 when all is done (or the asked number of cells is), `NO_DATA` when the data can neither be found nor
    fetched, 130 when interrupted, 143 when ended by SIGTERM, 2 on wrong options and 1 on every other error, which is one message
    on stderr; with NEUROBRIDGE_DEBUG=1 it is a traceback.

    Parameters
    ----------
    study : Study
    arguments : sequence of str, optional
        Those of the process by default; ``--help`` lists the options.

    Raises
    ------
    SystemExit
        Always.

    Examples
    --------
    >>> from neurobridge.study import Study, main
    >>> study = Study("empty", "Simulated: no cell", lambda run: [], lambda run, cell: [], lambda run, records: {})
    >>> try:
    ...     main(study, ["--seeds", "0"])
    ... except SystemExit as end:
    ...     print(end.code)
    2
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command(help=study.title)
    def run_command(
        quick: Annotated[
            bool, typer.Option("--quick", help="At most 90 s on two cores; proves the code, no claim.")
        ] = False,
        seed: Annotated[int, typer.Option("--seed", min=0, help="First seed.")] = 0,
        n_seeds: Annotated[
            int | None,
            typer.Option("--seeds", min=1, help="Repetitions; by default those of the study, 1 with --quick."),
        ] = None,
        out: Annotated[Path | None, typer.Option("--out", help="Results folder (default results/<name>).")] = None,
        mirror: Annotated[
            Path | None, typer.Option("--mirror", help="Folder with the data files; else NEUROBRIDGE_MIRROR.")
        ] = None,
        fresh: Annotated[bool, typer.Option("--fresh", help="Drop the records of an earlier run.")] = False,
        n_cells: Annotated[
            int | None, typer.Option("--cells", min=0, help="Compute at most this many cells now.")
        ] = None,
        jobs: Annotated[
            int, typer.Option("--jobs", min=1, help="Cells at a time, each in a process of one thread.")
        ] = 1,
        as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of tables.")] = False,
    ) -> None:
        given = mirror or os.environ.get("NEUROBRIDGE_MIRROR")
        run = Run(
            quick=quick,
            seed=seed,
            n_seeds=(1 if quick else study.n_seeds) if n_seeds is None else n_seeds,
            out=out or Path("results") / study.name / ("quick" if quick else ""),
            mirror=None if given is None else Path(given),
        )
        _run(study, run, as_json=as_json, fresh=fresh, n_cells=n_cells, n_processes=jobs)

    # A script only writes its figures; it never shows them.
    mpl.use("Agg")
    with end_on_signals():
        app(args=None if arguments is None else list(arguments), prog_name=f"neurobridge run {study.name}")
    raise SystemExit(0)


def _run(study: Study, run: Run, *, as_json: bool, **options: Any) -> None:
    # What others print must not mix with the results.
    printed = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    try:
        with printed:
            results = run_study(study, run, progress=not as_json, **options)
    except KeyboardInterrupt:
        _tell_kept(study, run, "interrupted")
        raise SystemExit(INTERRUPTED) from None
    except Terminated:
        _tell_kept(study, run, "ended by a signal")
        raise
    except Exception as error:
        if wants_traceback():
            raise
        line, status = tell_error(error, sys.argv)
        typer.echo(f"{study.name}: {line}", err=True)
        raise SystemExit(NO_DATA if _lacks_data(error) else status) from error
    if as_json:
        typer.echo(json.dumps(results, indent=1))
    elif results is None:
        typer.echo(f"{study.name}: cells are left; run again to go on")
    else:
        _show(results, run.out)


def _tell_kept(study: Study, run: Run, what: str) -> None:
    typer.echo(f"{study.name}: {what}; finished cells are kept in {run.out}. Run again to go on.", err=True)


def _lacks_data(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, DownloadError) or _lacks_data(error.__cause__))


def _show(results: dict[str, Any], out: Path) -> None:
    typer.echo(f"{results['title']}\n{results['note']}")
    for table in results["tables"]:
        rows = [[str(cell) for cell in row] for row in (table["columns"], *table["rows"])]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        typer.echo(f"\n{table['title']}")
        for row in rows:
            first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            typer.echo("  ".join([first.strip().ljust(widths[0]), *others]))
    for claim in results["claims"]:
        typer.echo(f"\n{claim['claim']}: {claim['verdict']} ({claim['evidence']})")
    for warning in results["warnings"]:
        typer.echo(f"warning: {warning}")
    run = results["run"]
    typer.echo(f"\n{run['seconds']} s, {run['peak_rss_gb']} GB peak; {RESULTS} and figures are in {out}")
