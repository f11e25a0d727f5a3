"""``neurobridge run``: experiments by name, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from neurobridge.cli.common import Json, Mirror, Seed, print_json, print_tables
from neurobridge.store.endings import INTERRUPTED
from neurobridge.study.harness import NO_DATA, RESULTS
from neurobridge.study.processes import Children


class Place(NamedTuple):
    """A package of experiments: the folder that must be on the path, and the package's name."""

    root: Path
    package: str

    @property
    def folder(self) -> Path:
        """The folder of the scripts."""
        return self.root.joinpath(*self.package.split("."))


_ROOT = Path(__file__).parents[2]
#: Where the scripts lie: in the wheel, or beside the package in a checkout.
PLACES = (Place(_ROOT, "neurobridge.experiments"), Place(_ROOT, "analyses.experiments"))
#: Exit status of an experiment that did not fail -> word for it.
ENDS = {0: "done", NO_DATA: "skipped: no data"}


def list_scripts() -> dict[str, Place]:
    """List the experiments by name, each with the package that holds its script."""
    place = next((place for place in PLACES if place.folder.is_dir()), None)
    scripts = [] if place is None else sorted(place.folder.glob("[!_]*.py"))
    return {} if place is None else {path.stem: place for path in scripts}


def run_command(
    name: Annotated[str | None, typer.Argument(help="Experiment; without one, their names are listed.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Run every experiment.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time; with --all, experiments.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Small versions: they prove the code and no claim.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results folders.")] = Path("results"),
    mirror: Mirror = None,
    seed: Seed = 0,
    n_seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="Repetitions; default by experiment.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Drop the records of an earlier run.")] = False,
    as_json: Json = False,
) -> None:
    """Run an experiment, or all of them: tables, figures and scores.json into ``<out>/<name>``; an interrupted run goes on.

    With ``--all``, an experiment whose data can neither be found nor fetched is skipped and listed as such. With
    ``--jobs`` above one, cells are computed in processes of one thread each; with ``--all``, experiments are, and the output
    of one is printed when it ends.
    """
    scripts = list_scripts()
    if name is None and not every:
        if as_json:
            print_json(list(scripts))
        else:
            typer.echo("\n".join(scripts) if scripts else "found no experiment")
        return
    if name is not None and (every or name not in scripts):
        raise ValueError(
            f"found experiment {name!r}{' and --all' if every else ''}; expected one of {list(scripts)}, or --all alone. "
            "Mend: neurobridge run lists them."
        )
    arguments = [
        *(["--quick"] if quick else []),
        *(["--fresh"] if fresh else []),
        *([] if mirror is None else ["--mirror", str(mirror)]),
        *([] if n_seeds is None else ["--seeds", str(n_seeds)]),
        "--seed",
        str(seed),
    ]
    if name is not None:
        folder = _folder(out, name, quick)
        arguments += ["--out", str(folder), "--jobs", str(jobs), *(["--json"] if as_json else [])]
        with Children() as children:
            ended = _run_script(children, scripts[name], name, arguments)
        raise typer.Exit(INTERRUPTED if ended is None else _status(ended))
    _run_all(scripts, arguments, out, quick, as_json, jobs)


def _folder(out: Path, name: str, quick: bool) -> Path:
    return out / name / "quick" if quick else out / name


def _run_script(
    children: Children, place: Place, name: str, arguments: list[str], **options: Any
) -> subprocess.CompletedProcess[bytes] | None:
    """Run the script as a module: its siblings are imported from its package, wherever that lies."""
    paths = [str(place.root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    # -P: a folder of the same name in the working directory is not meant.
    command = [sys.executable, "-P", "-m", f"{place.package}.{name}", *arguments]
    return children.run(command, env=environment, **options)


def _status(ended: subprocess.CompletedProcess[bytes]) -> int:
    """Return the exit status of a process, as a shell gives it: 128 and the number of the signal that ended it."""
    return ended.returncode if ended.returncode >= 0 else 128 - ended.returncode


def _run_all(scripts: dict[str, Place], arguments: list[str], out: Path, quick: bool, as_json: bool, jobs: int) -> None:
    interrupted = threading.Event()

    def run(name: str) -> dict[str, Any] | None:
        if interrupted.is_set():
            return None
        folder = _folder(out, name, quick)
        if not as_json and jobs == 1:
            typer.echo(f"{name} ...")
        started = time.monotonic()
        # One experiment's threads, memory and failure are its own.
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if jobs > 1 else {}
        if as_json:
            options["stdout"] = subprocess.DEVNULL
        ended = _run_script(children, scripts[name], name, [*arguments, "--out", str(folder)], **options)
        if ended is None:
            return None
        if not as_json and jobs > 1:
            typer.echo(f"{name} ...\n{ended.stdout.decode(errors='replace')}")
        status = _status(ended)
        if status == INTERRUPTED:
            interrupted.set()
        return {
            "name": name,
            "ended": ENDS.get(status, f"failed ({status})"),
            "seconds": round(time.monotonic() - started, 1),
            "out": str(folder),
            "claims": _claims(folder) if status == 0 else [],
        }

    # The pool is left last: its threads wait for the children.
    with ThreadPoolExecutor(jobs) as pool, Children() as children:
        rows = [row for row in pool.map(run, scripts) if row is not None]
    failed = [row["name"] for row in rows if row["ended"] not in ENDS.values()]
    if as_json:
        print_json(rows)
    else:
        columns = ["name", "ended", "seconds", "out"]
        table = {"title": "experiments", "columns": columns, "rows": [[row[key] for key in columns] for row in rows]}
        print_tables([table])
    if failed:
        typer.echo(f"neurobridge: failed: {', '.join(failed)}; finished cells are kept. Run again to go on.", err=True)
        raise typer.Exit(1)


def _claims(folder: Path) -> list[dict[str, Any]]:
    path = folder / RESULTS
    return json.loads(path.read_text())["claims"] if path.exists() else []
