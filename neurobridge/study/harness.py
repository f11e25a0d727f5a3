"""The harness of studies: cells computed one at a time or several, kept as they come, summarised into tables and figures.

A script of ``analyses/experiments`` names a `Study` and calls `neurobridge.study.main`. The harness gives all of them the same
results folder and the same behaviour: a run that was interrupted goes on where it stopped, and a run that differs in seed, size or
code does not mix with it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neurobridge._version import __version__
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.memory import in_gb, room
from neurobridge.points.progress import progress_bar
from neurobridge.store.atomic import write_json, write_text
from neurobridge.study.cells import compute_cells
from neurobridge.study.machine import machine_facts

#: One measured line: plain values by name.
Record = dict[str, Any]
Cell = dict[str, Any]

#: Extra of the package -> module that it installs.
EXTRAS = {
    "ann": "numba",
    "brainscore": "brainscore_core",
    "distributed": "distributed",
    "rsa": "rsatoolbox",
    "text": "sentence_transformers",
    "vision": "torchvision",
    "weights": "efficientnet_lite_pytorch",
}
#: Exit status of a study's script whose data can neither be found nor fetched.
NO_DATA = 3
RESULTS, RECORDS = "scores.json", "records.jsonl"
# Fields of a line of records.
_LINE = {"cell", "records", "warnings", "seconds", "peak_rss_gb"}
#: Folder beside a study's script with the modules that studies share.
PARTS = "parts"


class StudyError(RuntimeError):
    """A study that cannot start or go on; finished cells are kept."""


@dataclass(frozen=True, repr=False)
class Run:
    """The settings that one run of a study depends on.

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
        For values that several cells need (loaded data, trained encoders); empty at the start of every process.

    Examples
    --------
    >>> from pathlib import Path
    >>> from neurobridge.study import Run
    >>> run = Run(quick=True, seed=3, n_seeds=2, out=Path("results/toy"))
    >>> list(run.seeds)
    [3, 4]
    >>> run
    Run(quick, seeds 3 to 4, out='results/toy', mirror=None)
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

    def _facts(self) -> dict[str, Any]:
        return {"out": str(self.out), "mirror": None if self.mirror is None else str(self.mirror)}

    def _seeds_text(self) -> str:
        return f"seed {self.seed}" if self.n_seeds == 1 else f"seeds {self.seeds.start} to {self.seeds.stop - 1}"

    def __repr__(self) -> str:
        facts = {name: value if value is None else repr(value) for name, value in self._facts().items()}
        return short_repr("Run", "quick" if self.quick else "full", self._seeds_text(), **facts)

    def _repr_html_(self) -> str:
        mode = "quick" if self.quick else "full"
        return html_repr("Run", {"mode": mode, "seeds": self._seeds_text(), **self._facts()})


@dataclass(frozen=True, repr=False)
class Study:
    """A question, the cells that answer it, and how they are summarised.

    Attributes
    ----------
    name : str
        Name of the script and of the results folder.
    title : str
        Names the data, and says "simulated" where they are.
    cells : callable
        ``cells(run) -> list of dict``: plain values that name each piece of work, started in this order.
    compute : callable
        ``compute(run, cell) -> list of dict``: the records of one cell, plain values. Random draws must follow from the cell and
        the seed alone, as an interrupted run starts again in the middle. A function of a module; cells that run at the same time
        in several processes share no file.
    finish : callable
        ``finish(run, records) -> dict``: draws figures into ``run.out`` and gives ``note``, ``tables`` (each with ``title``,
        ``columns``, ``rows``), ``claims`` (each with ``claim``, ``verdict``, ``evidence``) and ``digests`` of the data.
    n_seeds : int
        Default number of repetitions of the full mode; the quick mode does one.
    extras : tuple of str
        Extras of the package that it needs.
    memory_gb, disk_gb : float
        Free memory and disk that the full mode needs.

    Examples
    --------
    >>> from neurobridge.study import Study
    >>> study = Study(
    ...     "squares",
    ...     "Simulated squares",
    ...     cells=lambda run: [{"seed": seed} for seed in run.seeds],
    ...     compute=lambda run, cell: [{**cell, "value": cell["seed"] ** 2}],
    ...     finish=lambda run, records: {"note": f"{len(records)} records"},
    ... )
    >>> study
    Study('squares', Simulated squares, n_seeds=5, memory_gb=4, disk_gb=1)
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

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"n_seeds": self.n_seeds, "memory_gb": self.memory_gb, "disk_gb": self.disk_gb}
        return {**facts, "extras": ", ".join(self.extras)} if self.extras else facts

    def __repr__(self) -> str:
        return short_repr("Study", repr(self.name), self.title, **self._facts())

    def _repr_html_(self) -> str:
        return html_repr("Study", {"name": self.name, "title": self.title, **self._facts()})


def run_study(
    study: Study,
    run: Run,
    *,
    fresh: bool = False,
    progress: bool = True,
    n_cells: int | None = None,
    n_processes: int = 1,
) -> dict[str, Any] | None:
    """Compute the cells that are missing, and summarise.

    Parameters
    ----------
    study : Study
        Question, cells and summary.
    run : Run
        Size, seeds and folders.
    fresh : bool
        Start over: drop the records of an earlier run.
    progress : bool
        Show a progress bar.
    n_cells : int, optional
        Compute at most this many cells now, and leave the rest to the next run.
    n_processes : int
        Cells computed at a time, each in a process of one thread. Each process makes what cells share for itself, and needs the
        memory of one run. The numbers are those of one process, to rounding.

    Returns
    -------
    dict or None
        What ``scores.json`` holds; None while cells are missing.

    Raises
    ------
    StudyError
        A missing extra, too little memory or disk, records of a run with another seed, size or code in the folder, or a cell that
        failed.

    Examples
    --------
    >>> import pathlib
    >>> from neurobridge.study import Run, Study, run_study
    >>> study = Study(
    ...     "squares",
    ...     "Simulated squares",
    ...     cells=lambda run: [{"seed": seed} for seed in run.seeds],
    ...     compute=lambda run, cell: [{**cell, "value": cell["seed"] ** 2}],
    ...     finish=lambda run, records: {"note": f"{len(records)} records", "tables": [], "claims": [], "digests": {}},
    ... )
    >>> run = Run(quick=True, seed=3, n_seeds=2, out=pathlib.Path("results"))

    The code of a study is part of its records, so that it has to stand in a file:

    >>> results = run_study(study, run)  # doctest: +SKIP
    >>> [record["value"] for record in results["records"]]  # doctest: +SKIP
    [9, 16]
    """
    _check_resources(study, run, n_processes)
    run.out.mkdir(parents=True, exist_ok=True)
    kept = _open_records(study, run, fresh=fresh)
    cells = list(study.cells(run))
    keys = [_key(cell) for cell in cells]
    missing = [k for k, key in enumerate(keys) if key not in kept]
    with progress_bar(total=len(cells), initial=len(cells) - len(missing), desc=study.name, progress=progress) as bar:
        to_run = [cells[k] for k in missing[: len(missing) if n_cells is None else n_cells]]
        failed: list[tuple[Cell, Exception]] = []
        for place, outcome in compute_cells(study.compute, run, replace(run, shared={}), to_run, n_processes):
            if isinstance(outcome, Exception):
                failed.append((to_run[place], outcome))
                continue
            _keep(run, outcome)
            kept[_key(to_run[place])] = outcome
            bar.update()
    if failed:
        cell, error = failed[0]
        raise StudyError(
            f"cell {cell} failed: {type(error).__name__}: {error} ({len(kept)} of {len(cells)} cells are kept in {run.out}). "
            "Mend: what it names, then run again to go on."
        ) from error
    if any(key not in kept for key in keys):
        return None
    lines = [kept[key] for key in keys]
    records = [record for line in lines for record in line["records"]]
    summary = study.finish(run, records)
    results = {
        "title": study.title + (" (quick mode: proves the code, no claim)" if run.quick else ""),
        "note": summary.pop("note", ""),
        "tables": summary.pop("tables", []),
        "claims": summary.pop("claims", []),
        **summary,
        "records": records,
        "warnings": _counted([text for line in lines for text in line["warnings"]]),
        "run": {
            **_header(study, run),
            "seconds": round(sum(line["seconds"] for line in lines), 1),
            "peak_rss_gb": round(max(line["peak_rss_gb"] for line in lines), 2),
            "processes": n_processes,
            "machine": machine_facts() | ({"threads": 1} if n_processes > 1 else {}),
        },
    }
    write_json(results, run.out / RESULTS)
    return results


def _header(study: Study, run: Run) -> dict[str, Any]:
    script = Path(inspect.getfile(study.compute))
    return {
        "experiment": study.name,
        "quick": run.quick,
        "seed": run.seed,
        "n_seeds": run.n_seeds,
        "neurobridge": __version__,
        "code": _code_digest(script),
    }


def _code_digest(script: Path) -> str:
    """Digest the script, the parts beside it, and the package."""
    package = Path(__file__).parents[1]
    files = [script, *sorted((script.parent / PARTS).rglob("*.py")), *sorted(package.rglob("*.py"))]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def _key(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True, allow_nan=False)


def _open_records(study: Study, run: Run, *, fresh: bool) -> dict[str, dict[str, Any]]:
    """Read the cells that an earlier run of the same kind finished; make the file if there is none."""
    path, header = run.out / RECORDS, _header(study, run)
    lines: list[dict[str, Any]] = []
    if path.exists() and not fresh:
        lines = _read_records(path)
    if lines and lines[0] != header:
        other = sorted(name for name in header if lines[0].get(name) != header[name])
        raise StudyError(
            f"found records of a run with another {', '.join(other)} in {path}; expected those of this run or none. "
            "Mend: --fresh drops them, --out keeps them apart."
        )
    write_text(path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines or [header]))
    return {_key(line["cell"]): line for line in lines[1:]}


def _read_records(path: Path) -> list[dict[str, Any]]:
    try:
        # A killed run may leave half a line at the end: that cell is computed again.
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
        if not all(isinstance(line, dict) for line in lines) or not all(line.keys() >= _LINE for line in lines[1:]):
            raise ValueError("a line is no record")
    except (ValueError, RecursionError) as error:
        raise StudyError(
            f"{path}: found records that cannot be read ({error}); expected those of an earlier run. Mend: --fresh drops them, "
            "--out keeps them apart."
        ) from error
    return lines


def _keep(run: Run, line: dict[str, Any]) -> None:
    with (run.out / RECORDS).open("a") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _counted(texts: list[str]) -> list[str]:
    """Give one line a category of warning: its first message, and how often it came."""
    kinds: dict[str, list[str]] = {}
    for text in texts:
        kinds.setdefault(text.partition(":")[0], []).append(text)
    return [f"{messages[0]} ({len(messages)} times)" for messages in kinds.values()]


def _check_resources(study: Study, run: Run, n_processes: int) -> None:
    for extra in study.extras:
        if importlib.util.find_spec(EXTRAS[extra]) is None:
            raise StudyError(
                f"found no module {EXTRAS[extra]!r}; expected the extra '{extra}'. Mend: pip install 'neurobridge[{extra}]'."
            )
    if run.quick:
        return
    left, needed_gb = room(), min(n_processes, len(study.cells(run))) * study.memory_gb
    if left.n_bytes < needed_gb * 1e9:
        fewer = ", fewer --jobs" if n_processes > 1 else ""
        raise StudyError(
            f"found {in_gb(left.n_bytes)} of memory left by {left.limit}; expected {needed_gb:g} GB for the full mode. "
            f"Mend: {left.mend}{fewer}, or --quick."
        )
    folder = next(parent for parent in (run.out.resolve(), *run.out.resolve().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < study.disk_gb * 1e9:
        raise StudyError(
            f"found {free / 1e9:.1f} GB of free disk at {folder}; expected {study.disk_gb:g} GB for the full mode. "
            "Mend: free some, --out on another disk, or --quick."
        )
