"""An experiment: cells computed one at a time, kept as they come, summarised into tables and figures.

A script of ``analyses/experiments`` names an `Experiment` and calls `main`; what is here gives every one of them the same command
line, the same results folder and the same manners: a run that was interrupted goes on where it stopped, and a run that differs in
seed, size or code does not mix with it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import inspect
import json
import os
import platform
import resource
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

from neurobridge._version import __version__
from neurobridge.datasets import DownloadError

Record = dict[str, Any]
Cell = dict[str, Any]

#: Module that tells whether an extra is installed.
EXTRAS = {
    "ann": "faiss",
    "brainscore": "brainscore_core",
    "distributed": "distributed",
    "rsa": "rsatoolbox",
    "text": "sentence_transformers",
    "vision": "torchvision",
}
RESULTS, RECORDS = "scores.json", "records.jsonl"
#: Exit status of an experiment whose data can neither be found nor fetched.
NO_DATA = 3


class ExperimentError(RuntimeError):
    """An experiment that cannot start or go on; finished cells are kept."""


@dataclass(frozen=True)
class Run:
    """What one run of an experiment depends on.

    Attributes
    ----------
    quick : bool
        A small version, at most 90 s on two cores, that proves the code and no claim.
    seed : int
        First seed.
    n_seeds : int
        Independent repetitions: seeds ``seed .. seed + n_seeds - 1``.
    out : pathlib.Path
        Results folder.
    mirror : pathlib.Path or None
        Folder with the real data files, ``<dataset>/<file>``.
    shared : dict
        For what several cells need (loaded data, trained encoders); empty at the start of every process.
    """

    quick: bool
    seed: int
    n_seeds: int
    out: Path
    mirror: Path | None = None
    shared: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def seeds(self) -> range:
        """The seeds of the repetitions."""
        return range(self.seed, self.seed + self.n_seeds)

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """Return ``shared[key]``, made on first use."""
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]


@dataclass(frozen=True)
class Experiment:
    """One question, the cells that answer it, and how they are summarised.

    Attributes
    ----------
    name : str
        Name of the script and of the results folder.
    title : str
        Says what it runs on, and "simulated" where that is so.
    cells : callable
        ``cells(run) -> list of dict``: plain values that name each piece of work, computed in this order.
    compute : callable
        ``compute(run, cell) -> list of dict``: the records of one cell, plain values. Random draws must follow from the cell and
        the seed alone, as an interrupted run starts again in the middle.
    finish : callable
        ``finish(run, records) -> dict``: draws figures into ``run.out`` and gives ``note``, ``tables`` (each with ``title``,
        ``columns``, ``rows``), ``claims`` (each with ``claim``, ``verdict``, ``evidence``) and ``digests`` of the data.
    n_seeds : int
        Default number of repetitions of the full mode; the quick mode does one.
    extras : tuple of str
        Extras of the package that it needs.
    memory_gb, disk_gb : float
        What the full mode needs.
    """

    name: str
    title: str
    cells: Callable[[Run], Sequence[Cell]]
    compute: Callable[[Run, Cell], list[Record]]
    finish: Callable[[Run, list[Record]], dict[str, Any]]
    n_seeds: int = 5
    extras: tuple[str, ...] = ()
    memory_gb: float = 4.0
    disk_gb: float = 1.0


def run_experiment(
    experiment: Experiment, run: Run, *, fresh: bool = False, progress: bool = True, n_cells: int | None = None
) -> dict[str, Any] | None:
    """Compute the cells that are not there yet, and summarise.

    Parameters
    ----------
    experiment : Experiment
    run : Run
    fresh : bool
        Start over: drop the records of an earlier run.
    progress : bool
        Show a progress bar.
    n_cells : int, optional
        Compute at most this many cells now, and leave the rest to the next run.

    Returns
    -------
    dict or None
        What ``scores.json`` holds; None while cells are missing.

    Raises
    ------
    ExperimentError
        A missing extra, too little memory or disk, records of a run with another seed, size or code in the folder, or a cell that
        failed.
    """
    _check_room(experiment, run)
    run.out.mkdir(parents=True, exist_ok=True)
    kept = _open_records(experiment, run, fresh=fresh)
    cells = list(experiment.cells(run))
    keys = [_key(cell) for cell in cells]
    missing = [k for k, key in enumerate(keys) if key not in kept]
    with tqdm(total=len(cells), initial=len(cells) - len(missing), desc=experiment.name, disable=not progress) as bar:
        for k in missing[: len(missing) if n_cells is None else n_cells]:
            kept[keys[k]] = _compute(experiment, run, cells[k], len(kept), len(cells))
            bar.update()
    if any(key not in kept for key in keys):
        return None
    lines = [kept[key] for key in keys]
    records = [record for line in lines for record in line["records"]]
    found = experiment.finish(run, records)
    results = {
        "title": experiment.title + (" (quick mode: proves the code, no claim)" if run.quick else ""),
        "note": found.pop("note", ""),
        "tables": found.pop("tables", []),
        "claims": found.pop("claims", []),
        **found,
        "records": records,
        "warnings": _counted([text for line in lines for text in line["warnings"]]),
        "run": {
            **_header(experiment, run),
            "seconds": round(sum(line["seconds"] for line in lines), 1),
            "peak_rss_gb": round(max(line["peak_rss_gb"] for line in lines), 2),
            "machine": machine(),
        },
    }
    write_json(results, run.out / RESULTS)
    return results


def main(experiment: Experiment, arguments: Sequence[str] | None = None) -> NoReturn:
    """Command line of an experiment's script; see ``--help``."""
    parser = argparse.ArgumentParser(prog=f"neurobridge run {experiment.name}", description=experiment.title)
    parser.add_argument("--quick", action="store_true", help="at most 90 s on two cores; proves the code, no claim")
    parser.add_argument("--seed", type=int, default=0, help="first seed (default 0)")
    parser.add_argument(
        "--seeds", type=_positive, default=None, help=f"repetitions (default {experiment.n_seeds}, quick 1)"
    )
    parser.add_argument("--out", type=Path, default=None, help="results folder (default results/<name>)")
    parser.add_argument("--mirror", type=Path, default=None, help="folder with the data files; else NEUROBRIDGE_MIRROR")
    parser.add_argument("--fresh", action="store_true", help="drop the records of an earlier run")
    parser.add_argument("--cells", type=int, default=None, help="compute at most this many cells now")
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of tables")
    options = parser.parse_args(arguments)
    mirror = options.mirror or os.environ.get("NEUROBRIDGE_MIRROR")
    run = Run(
        quick=options.quick,
        seed=options.seed,
        n_seeds=(1 if options.quick else experiment.n_seeds) if options.seeds is None else options.seeds,
        out=options.out or Path("results") / experiment.name / ("quick" if options.quick else ""),
        mirror=None if mirror is None else Path(mirror),
    )
    try:
        results = run_experiment(experiment, run, fresh=options.fresh, progress=not options.json, n_cells=options.cells)
    except KeyboardInterrupt:
        print(
            f"{experiment.name}: interrupted; finished cells are kept in {run.out}. Run again to go on.",
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    except (ExperimentError, ValueError, OSError, MemoryError, ImportError) as error:
        print(f"{experiment.name}: {error}", file=sys.stderr)
        raise SystemExit(NO_DATA if _lacks_data(error) else 1) from error
    if options.json:
        print(json.dumps(results, indent=1))
    elif results is None:
        print(f"{experiment.name}: cells are left; run again to go on")
    else:
        _show(results, run.out)
    raise SystemExit(0)


def _lacks_data(error: BaseException | None) -> bool:
    return error is not None and (isinstance(error, DownloadError) or _lacks_data(error.__cause__))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {number}; expected at least 1")
    return number


def write_json(value: Any, path: Path) -> None:
    """Write plain data as JSON, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    os.replace(partial, path)


def peak_rss() -> int:
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss starts at the peak of the process that started this one.
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def machine() -> dict[str, Any]:
    """What numbers may depend on: versions, processor, threads."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "xarray": xr.__version__,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def _header(experiment: Experiment, run: Run) -> dict[str, Any]:
    script = Path(inspect.getfile(experiment.compute))
    return {
        "experiment": experiment.name,
        "quick": run.quick,
        "seed": run.seed,
        "n_seeds": run.n_seeds,
        "neurobridge": __version__,
        "code": _code_digest(script),
    }


def _code_digest(script: Path) -> str:
    """Of the script, of what lies shared beside it, and of the package."""
    here = Path(__file__).parents[1]
    files = [script, *sorted(script.parent.glob("_*.py")), *sorted(here.rglob("*.py"))]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def _key(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True, allow_nan=False)


def _open_records(experiment: Experiment, run: Run, *, fresh: bool) -> dict[str, dict[str, Any]]:
    """Read the cells that an earlier run of the same kind finished; make the file if there is none."""
    path, header = run.out / RECORDS, _header(experiment, run)
    lines: list[dict[str, Any]] = []
    if path.exists() and not fresh:
        # A killed run may leave half a line at the end: that cell is computed again.
        whole = path.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
    if lines and lines[0] != header:
        other = sorted(name for name in header if lines[0].get(name) != header[name])
        raise ExperimentError(
            f"found records of a run with another {', '.join(other)} in {path}; expected those of this run or none. "
            "Mend: --fresh drops them, --out keeps them apart."
        )
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines or [header]))
    os.replace(partial, path)
    return {_key(line["cell"]): line for line in lines[1:]}


def _compute(experiment: Experiment, run: Run, cell: Cell, done: int, total: int) -> dict[str, Any]:
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            records = experiment.compute(run, cell)
            json.dumps(records, allow_nan=False)
        except Exception as error:
            raise ExperimentError(
                f"cell {cell} failed: {type(error).__name__}: {error} ({done} of {total} cells are kept in {run.out}). "
                "Mend: what it names, then run again to go on."
            ) from error
    line = {
        "cell": cell,
        "records": records,
        "warnings": [f"{warning.category.__name__}: {warning.message}" for warning in caught],
        "seconds": round(time.perf_counter() - started, 3),
        "peak_rss_gb": round(peak_rss() / 1e9, 3),
    }
    with (run.out / RECORDS).open("a") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return line


def _counted(texts: list[str]) -> list[str]:
    """One line a kind of warning: its first message, and how often."""
    kinds: dict[str, list[str]] = {}
    for text in texts:
        kinds.setdefault(text.partition(":")[0], []).append(text)
    return [f"{same[0]} ({len(same)} times)" for same in kinds.values()]


def _check_room(experiment: Experiment, run: Run) -> None:
    for extra in experiment.extras:
        if importlib.util.find_spec(EXTRAS[extra]) is None:
            raise ExperimentError(
                f"found no module {EXTRAS[extra]!r}; expected the extra '{extra}'. Mend: pip install 'neurobridge[{extra}]'."
            )
    if run.quick:
        return
    available = available_memory()
    if available is not None and available < experiment.memory_gb * 1e9:
        raise ExperimentError(
            f"found {available / 1e9:.1f} GB of free memory; expected {experiment.memory_gb:g} GB for the full mode. "
            "Mend: free some, or --quick."
        )
    folder = next(parent for parent in (run.out.resolve(), *run.out.resolve().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < experiment.disk_gb * 1e9:
        raise ExperimentError(
            f"found {free / 1e9:.1f} GB of free disk at {folder}; expected {experiment.disk_gb:g} GB for the full mode. "
            "Mend: free some, --out on another disk, or --quick."
        )


def available_memory() -> int | None:
    """Memory that can still be had, in bytes; None where the system does not say."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    lines = path.read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _show(results: dict[str, Any], out: Path) -> None:
    print(f"{results['title']}\n{results['note']}")
    for table in results["tables"]:
        rows = [[str(cell) for cell in row] for row in (table["columns"], *table["rows"])]
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        print(f"\n{table['title']}")
        for row in rows:
            first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join([first.strip().ljust(widths[0]), *others]))
    for claim in results["claims"]:
        print(f"\n{claim['claim']}: {claim['verdict']} ({claim['evidence']})")
    for warning in results["warnings"]:
        print(f"warning: {warning}")
    print(
        f"\n{results['run']['seconds']} s, {results['run']['peak_rss_gb']} GB peak; {RESULTS} and figures are in {out}"
    )
