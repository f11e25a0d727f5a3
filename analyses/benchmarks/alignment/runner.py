"""The cells of the table: computed in several processes, kept as they come, and read again by the next run."""

from __future__ import annotations

import json
import subprocess
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

import neurobridge
from analyses.benchmarks.alignment.draws import Draw
from analyses.benchmarks.alignment.methods import registry
from analyses.benchmarks.alignment.protocols import PROTOCOLS, make_draw, pair_counts, size_of
from neurobridge.study.machine import peak_rss
from neurobridge.study.processes import call_in_processes

Record = dict[str, Any]
ROOT = Path(__file__).resolve().parents[3]
N_NULL = 20
_KEY = ("set", "n_pairs", "seed", "method")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A method on a draw."""

    set: str
    n_pairs: int
    seed: int
    method: str

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what names the cell among the records."""
        return tuple(getattr(self, name) for name in _KEY)


def make_cells(
    sets: Sequence[str], seeds: Sequence[int], methods: Sequence[str], counts: Sequence[int] | None = None
) -> list[Cell]:
    """Return the cells of sets, seeds and methods; the cells of one draw follow each other."""
    known = registry()
    return [
        Cell(set=name, n_pairs=n, seed=seed, method=method)
        for name in sets
        for seed in seeds
        for n in pair_counts(name)
        if counts is None or n in counts
        for method in methods
        if known[method].runs_on(name, n, set(PROTOCOLS[size_of(name).name].measures.values()))
    ]


@lru_cache(maxsize=1)
def _draw(name: str, n_pairs: int, seed: int, mirror: Path | None, cache: Path) -> Draw:
    return make_draw(name, n_pairs, seed, mirror=mirror, cache=cache)


def compute(cell: Cell, mirror: Path | None, cache: Path) -> Record:
    """Fit and score a method on a draw; a failure is a record with its error."""
    draw = _draw(cell.set, cell.n_pairs, cell.seed, mirror, cache)
    record: Record = {
        **asdict(cell), "n_test": len(draw.test_ids), "n_source": len(draw.source), "n_target": len(draw.target),
        "version": version(), "data": draw.digest(),
    }  # fmt: skip
    memory_is_its_own = forget_peak()
    started = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            images = registry()[cell.method].run(draw)
    except Exception as error:
        # A method that refuses few pairs has an empty cell, and says why.
        return {**record, "error": f"{type(error).__name__}: {error}"[:300]}
    seconds = time.process_time() - started
    return {
        **record,
        "scores": rounded(draw.score(images.forward, images.backward)),
        "null": rounded(draw.null(images.forward, images.backward, n=N_NULL)),
        "seconds": round(seconds, 3),
        "peak_rss_gb": round(peak_rss() / 1e9, 3) if memory_is_its_own else None,
        "chosen": images.chosen,
    }


def rounded(scores: dict[str, float]) -> dict[str, float]:
    """Round scores to five digits."""
    return {name: round(value, 5) for name, value in scores.items()}


def forget_peak() -> bool:
    """Set the peak of this process's memory to what it holds now; False where the system cannot."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


@lru_cache(maxsize=1)
def version() -> str:
    """Return the version of the package, with the commit where there is one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=8"]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    commit = completed.stdout.strip()
    return neurobridge.__version__ + (f"+{commit}" if completed.returncode == 0 and commit else "")


def read_records(file: Path) -> list[Record]:
    """Read kept records: the last of each cell, without those that failed; a line that was cut off is left out."""
    records: dict[tuple[Any, ...], Record] = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                record = json.loads(line)
                records[tuple(record[name] for name in _KEY)] = record
    return list(records.values())


def run_cells(
    cells: Sequence[Cell],
    file: Path,
    *,
    mirror: Path | None,
    cache: Path,
    n_processes: int = 2,
    again: bool = False,
    progress: bool = True,
) -> list[Record]:
    """Compute the cells that are missing and return the records of all cells.

    Parameters
    ----------
    cells : sequence of Cell
    file : path
        Records, a JSON line each, added as they come.
    mirror, cache : path
        See `make_draw`.
    n_processes : int
        1 computes in this process.
    again : bool
        Compute kept cells, too: the last record of a cell counts. Cells that failed are always tried again.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        The kept records of a draw were measured on different points.
    """
    done = {} if again else {tuple(r[k] for k in _KEY): r for r in read_records(file) if "error" not in r}
    missing = [cell for cell in cells if cell.key not in done]
    file.parent.mkdir(parents=True, exist_ok=True)
    with (
        file.open("a", encoding="utf-8") as stream,
        tqdm(total=len(cells), initial=len(cells) - len(missing), desc="cells", disable=not progress) as bar,
    ):
        if stream.tell() and not file.read_bytes().endswith(b"\n"):
            stream.write("\n")
        for record in _computed(missing, mirror, cache, n_processes):
            stream.write(json.dumps(record) + "\n")
            stream.flush()
            bar.set_postfix_str(f"{record['set']}, {record['n_pairs']} pairs, {record['method']}")
            bar.update()
    keys = {cell.key for cell in cells}
    records = [record for record in read_records(file) if tuple(record[k] for k in _KEY) in keys]
    require_same_draws(records)
    return records


def require_same_draws(records: Sequence[Record]) -> None:
    """Refuse records of one draw whose points were not the same."""
    digests: dict[tuple[Any, ...], str] = {}
    for record in records:
        draw = record["set"], record["n_pairs"], record["seed"]
        if digests.setdefault(draw, record["data"]) != record["data"]:
            raise ValueError(
                f"found records of {draw[0]}, {draw[1]} pairs, seed {draw[2]} with the data {digests[draw]} and {record['data']} "
                f"({record['method']}); expected the same points for all methods. Mend: --again, with the same data and cache."
            )


def _computed(cells: Sequence[Cell], mirror: Path | None, cache: Path, n_processes: int) -> Iterator[Record]:
    if n_processes <= 1 or len(cells) < 2:
        for cell in cells:
            yield compute(cell, mirror, cache)
        return
    # What takes long to make is made here, not by each of the processes.
    for name, seed in dict.fromkeys((cell.set, cell.seed) for cell in cells):
        _draw(name, next(cell.n_pairs for cell in cells if cell.set == name), seed, mirror, cache)
    for _, record in call_in_processes(compute, [(cell, mirror, cache) for cell in cells], n_processes):
        yield record
