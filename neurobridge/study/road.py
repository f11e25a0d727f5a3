"""The road of many points: from two files of features to a report, in steps that a killed run goes on from."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import dask.array as da
import numpy as np
import torch

from neurobridge._version import __version__
from neurobridge.aligners import BridgeAligner
from neurobridge.assemblies import read_table
from neurobridge.assemblies.readers.recordings import digest
from neurobridge.assemblies.storage.netcdf import check_zarr
from neurobridge.bridge import CostEstimate, estimate_cost, ridge_map
from neurobridge.flow import OffSupportWarning
from neurobridge.points.arrays import as_points, read_rows
from neurobridge.points.blocks import is_dask, let_go, row_blocks
from neurobridge.points.conversion import unlabelled
from neurobridge.points.memory import check_memory
from neurobridge.points.progress import progress_bar
from neurobridge.points.ranks import Found, ranks_among_many
from neurobridge.store.atomic import atomic_path, write_json, write_text
from neurobridge.store.npy import read_npy
from neurobridge.study.machine import peak_rss
from neurobridge.study.pages.make import report

_BLOCK = 1 << 16
_KS = (1, 5, 10)
_N_BOOTSTRAP = 1000
# New points a second of one thread, and products of a query with a point, measured.
_MAPPED_A_SECOND, _SIMILARITIES_A_SECOND = 30_000, 1e8
ROWS, ALIGNER, ALIGNED, NEAREST = "rows.csv", "aligner", "aligned.npy", "nearest.npy"


@dataclass(frozen=True)
class Road:
    """Two files of features, and what is asked of them.

    Attributes
    ----------
    source, target : path
        npy files or zarr folders of arrays of shape (n_rows, n_dims), a row a stimulus.
    out : path
        Folder of the results.
    n_pairs : int
        Pairs that the alignment is fitted on, drawn from the partners.
    n_queries : int
        Partners that are held out of the fit, on both sides, and whose partners are sought among all rows of the target.
    partners : path, optional
        Table (csv) with source_row and target_row; by default row i of both files shows the same.
    metric, similarity : str
        Of the bridge, see `neurobridge.bridge.fuse`; of the retrieval, see `neurobridge.retrieve`.
    seed : int
    options : dict
        Further arguments of `neurobridge.bridge.fuse`.
    """

    source: Path
    target: Path
    out: Path
    n_pairs: int = 1000
    n_queries: int = 2000
    partners: Path | None = None
    metric: str = "euclidean"
    similarity: str = "cosine"
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def sides(self) -> tuple[Any, Any]:
        """Open both files without reading them."""
        return open_features(self.source), open_features(self.target)

    def read_rows(self) -> dict[str, np.ndarray]:
        """Read the rows that were drawn: "pair" and "query", int arrays of shape (n, 2) of source rows and target rows."""
        with (self.out / ROWS).open(newline="") as stream:
            drawn = [(row["role"], int(row["source_row"]), int(row["target_row"])) for row in csv.DictReader(stream)]
        return {
            role: np.array([rows for name, *rows in drawn if name == role], dtype=np.int64).reshape(-1, 2)
            for role in ("pair", "query")
        }


def open_features(path: Path) -> Any:
    """Open an npy file or a zarr folder of shape (n_rows, n_dims): a memory map or a dask array, of which nothing is read.

    Raises
    ------
    FileNotFoundError, ValueError
        Nothing is there, or no array of two dimensions.
    """
    if not path.is_dir():
        return as_points(read_npy(path, mmap=True), str(path))
    check_zarr(path)
    import zarr

    opened: Any = zarr.open(str(path), mode="r")
    if hasattr(opened, "keys"):
        names = sorted(opened.keys())
        if "data" not in names:
            raise ValueError(
                f"{path}: found a zarr group of {names}; expected an array, or a group with the array 'data'. Mend: name the "
                f"folder of the array, e.g. {path / (names or ['features'])[0]}."
            )
        opened = opened["data"]
    return as_points(unlabelled(opened), str(path))


def expected_cost(road: Road) -> tuple[CostEstimate, dict[str, float]]:
    """Predict time and memory of the alignment, and the seconds of every step."""
    (n, d), (m, e) = (side.shape for side in road.sides())
    estimate = estimate_cost(n, m, (d, e), road.n_pairs, metric=road.metric, method="fused")
    return estimate, {
        "rows": 1e-8 * (n * d + m * e),
        "align": estimate.seconds,
        "transform": n / _MAPPED_A_SECOND / (1 + 0.7 * (torch.get_num_threads() - 1)),
        "retrieval": road.n_queries * m / _SIMILARITIES_A_SECOND,
        "report": 1.0,
    }


def walk(road: Road, *, progress: bool = False, tell: Callable[[str], None] = lambda sentence: None) -> dict[str, Any]:
    """Go all steps that are not done: rows, align, transform, retrieval, report.

    A step writes its files whole or not at all, and then ``steps/<name>.json`` with a digest of all that it rests on: the files of
    features, the options, and the steps before. A step whose digest is the same, and whose files are there, is skipped.

    Parameters
    ----------
    road : Road
    progress : bool
        Show bars with the time left.
    tell : callable
        Takes sentences about what is done.

    Returns
    -------
    dict
        ``measures``, and for every step ``skipped``, ``seconds`` and ``peak_rss_gb`` of the process.

    Raises
    ------
    MemoryError
        The alignment needs more than there is.
    ValueError
        Too few partners.
    """
    estimate, seconds = expected_cost(road)
    check_memory(
        estimate.n_bytes, math.inf, f"a road of {road.source.name} and {road.target.name}",
        mend="metric='euclidean' takes no neighbour graph; fewer principal components take less of everything",
    )  # fmt: skip
    key = _text_digest([__version__, *map(_digest, (road.source, road.target)), _options(road)])
    done: dict[str, Any] = {}
    total = math.ceil(sum(seconds.values()))
    with progress_bar(progress=progress, total=total, unit="s", desc="road") as bar:
        for number, (name, step) in enumerate(STEPS.items(), start=1):
            key = _text_digest([key, name])
            mark = road.out / "steps" / f"{name}.json"
            record = _record(mark, key, road.out)
            bar.set_description(name)
            if record is None:
                tell(f"step {number} of {len(STEPS)}, {name}: about {seconds[name]:.0f} s.")
                started = time.perf_counter()
                files = step(road, progress)
                record = {
                    "key": key, "files": {file: _size(road.out / file) for file in files},
                    "seconds": time.perf_counter() - started, "peak_rss_gb": peak_rss() / 1e9, "skipped": False,
                }  # fmt: skip
                write_json(record, mark)
            else:
                record = {**record, "skipped": True}
                tell(f"step {number} of {len(STEPS)}, {name}: done before.")
            done[name] = {each: record[each] for each in ("skipped", "seconds", "peak_rss_gb")}
            bar.update(seconds[name])
    return {"measures": json.loads((road.out / "retrieval.json").read_text()), "steps": done}


def draw_rows(road: Road, progress: bool) -> list[str]:
    """Draw the pairs and the queries, and write them as a table."""
    n, m = (side.shape[0] for side in road.sides())
    partners = _partners(road, n, m)
    needed = road.n_pairs + road.n_queries
    if len(partners) < needed:
        raise ValueError(
            f"{road.partners or road.source}: found {len(partners)} partners; expected at least {needed}, "
            f"{road.n_pairs} to fit on and {road.n_queries} to seek. "
            f"Mend: --pairs {max(2, len(partners) // 2)} --queries {len(partners) // 2}."
        )
    drawn = partners[np.random.default_rng(road.seed).permutation(len(partners))]
    queries, others = drawn[: road.n_queries], drawn[road.n_queries :]
    # A row that is sought is in no pair.
    free = ~np.isin(others[:, 0], queries[:, 0]) & ~np.isin(others[:, 1], queries[:, 1])
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["role", "source_row", "target_row"])
    for role, rows in (("pair", others[free][: road.n_pairs]), ("query", queries)):
        writer.writerows([role, *row] for row in rows.tolist())
    write_text(road.out / ROWS, lines.getvalue())
    return [ROWS]


def align(road: Road, progress: bool) -> list[str]:
    """Fit the bridge on all rows but those that are sought, and save it."""
    rows, clouds, pairs = road.read_rows(), [], []
    for k, side in enumerate(road.sides()):
        kept = np.setdiff1d(np.arange(side.shape[0]), rows["query"][:, k])
        whole = side if is_dask(side) else da.from_array(side, chunks=(_BLOCK, -1), name=False)
        clouds.append(whole[kept])
        pairs.append(np.searchsorted(kept, rows["pair"][:, k]))
    aligner = BridgeAligner(cast(Any, road.metric), seed=road.seed, fuse_options=road.options or None)
    aligner.fit(clouds[0], clouds[1], (pairs[0], pairs[1]), progress=progress)
    aligner.save(road.out / ALIGNER)
    return [ALIGNER]


def transform(road: Road, progress: bool) -> list[str]:
    """Map all source rows into the space of the target, float32, a block at a time."""
    source, target = road.sides()
    aligner = BridgeAligner.load(road.out / ALIGNER)
    shape = (source.shape[0], target.shape[1])
    with atomic_path(road.out / ALIGNED) as partial, partial.open("wb") as stream, warnings.catch_warnings():
        # Rows that were held out are few; what lies off the support is told by the retrieval.
        warnings.simplefilter("ignore", OffSupportWarning)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        blocks = row_blocks(shape[0], 1, budget=_BLOCK)
        for block in progress_bar(blocks, progress=progress, desc="transform", leave=False):
            stream.write(aligner.transform(read_rows(source, block)).astype("<f4").tobytes())
            let_go(source)
    return [ALIGNED]


def retrieve(road: Road, progress: bool) -> list[str]:
    """Seek the partners of the rows that were held out among all rows of the target."""
    source, target = road.sides()
    rows = road.read_rows()
    asked, sought = rows["query"].T
    aligned = read_npy(road.out / ALIGNED, mmap=True)
    images = np.asarray(aligned[asked], dtype=np.float64)
    found = ranks_among_many(images, target, sought, similarity=road.similarity, progress=progress)
    order, place = np.unique(sought, return_inverse=True)
    truth = read_rows(target, order)[place]
    pairs = [_some(side, rows["pair"][:, k]) for k, side in enumerate((source, target))]
    by_ridge = ridge_map(pairs[0], pairs[1], penalty="shared")(_some(source, asked))
    measures = {
        "n_queries": len(asked), "n_points": target.shape[0], "n_pairs": len(rows["pair"]), "similarity": road.similarity,
        "seed": road.seed, "r2": _r2(images, truth), "r2_of_ridge_of_the_pairs": _r2(by_ridge, truth),
        "retrieval": _measures(found, target.shape[0], road.seed),
    }  # fmt: skip
    with atomic_path(road.out / NEAREST) as partial, partial.open("wb") as stream:
        np.save(stream, found.nearest)
    write_json(measures, road.out / "retrieval.json")
    return [NEAREST, "retrieval.json"]


def write_page(road: Road, progress: bool) -> list[str]:
    """Write ``scores.json`` and the page."""
    measures = json.loads((road.out / "retrieval.json").read_text())
    columns = ["measure", "value", "95 % low", "95 % high", "chance", "partners dealt"]
    names = ("value", "low", "high", "chance", "dealt")
    results = {
        "title": f"{road.source.name} aligned to {road.target.name}",
        "note": f"{measures['n_pairs']:,} pairs; {measures['n_queries']:,} stimuli held out of the fit on both sides, whose "
        f"partners are sought among {measures['n_points']:,} rows of the target by {road.similarity}; seed {road.seed}. R^2 of "
        f"held-out rows {measures['r2']:.3f}, of ridge on the pairs {measures['r2_of_ridge_of_the_pairs']:.3f}.",
        "tables": [
            {
                "title": "Retrieval of held-out partners", "columns": columns,
                "rows": [
                    [name, *(f"{row[each]:.4g}" for each in names)] for name, row in measures["retrieval"].items()
                ],
            }
        ],
        "run": {"version": __version__, **json.loads(_options(road))},
    }  # fmt: skip
    write_json(results, road.out / "scores.json")
    report(results, road.out / "report.html")
    return ["scores.json", "report.html"]


#: The steps, in their order: functions that write files into the folder and return their names.
STEPS: dict[str, Callable[[Road, bool], list[str]]] = {
    "rows": draw_rows, "align": align, "transform": transform, "retrieval": retrieve, "report": write_page,
}  # fmt: skip


def _partners(road: Road, n: int, m: int) -> np.ndarray:
    if road.partners is None:
        if n != m:
            raise ValueError(
                f"{road.source} and {road.target}: found {n} and {m} rows and no table of partners; expected as many of "
                "both, row i of both showing the same. "
                "Mend: --partners TABLE.csv with source_row and target_row."
            )
        return np.stack([np.arange(n)] * 2, axis=1)
    table = read_table(road.partners, what="partners", required=("source_row", "target_row"))
    rows = np.stack([np.asarray(table[name]) for name in ("source_row", "target_row")], axis=1)
    whole = rows.dtype.kind == "i" and len(rows) and (rows >= 0).all() and (rows < [n, m]).all()
    if not whole:
        raise ValueError(
            f"{road.partners}: found {len(rows)} rows of {rows.dtype}; expected source_row and target_row as whole numbers below "
            f"{n} and {m}. Mend: count rows from 0."
        )
    return rows


def _some(side: Any, rows: np.ndarray) -> np.ndarray:
    order, place = np.unique(rows, return_inverse=True)
    return read_rows(side, order)[place]


def _r2(images: np.ndarray, truth: np.ndarray) -> float:
    return float(1 - np.square(images - truth).sum() / np.square(truth - truth.mean(axis=0)).sum())


def _share_within(k: int, ranks: np.ndarray) -> Any:
    return (ranks <= k).mean(axis=-1)


def _measures(found: Found, m: int, seed: int) -> dict[str, dict[str, float]]:
    """Return value, interval over queries, chance, and the value of dealt partners, of every measure."""
    measures: dict[str, tuple[Callable[[np.ndarray], Any], float]] = {
        **{f"R@{k}": (partial(_share_within, k), min(k, m) / m) for k in _KS},
        "median_rank": (lambda ranks: np.median(ranks, axis=-1), (m + 1) / 2),
        "identification": (lambda ranks: 1 - (ranks.mean(axis=-1) - 1) / max(m - 1, 1), 0.5),
    }
    n = len(found.rank)
    draws = np.random.default_rng(seed).integers(0, n, (_N_BOOTSTRAP, n))
    table = {}
    for name, (measure, chance) in measures.items():
        low, high = np.quantile(measure(found.rank[draws]), (0.025, 0.975))
        value, dealt = float(measure(found.rank)), float(measure(found.dealt_rank))
        table[name] = {"value": value, "low": float(low), "high": float(high), "chance": chance, "dealt": dealt}
    return table


def _options(road: Road) -> str:
    kept = {name: value for name, value in asdict(road).items() if name not in ("out", "source", "target")}
    return json.dumps(
        {**kept, "partners": None if road.partners is None else digest(road.partners)}, sort_keys=True, default=str
    )


def _record(mark: Path, key: str, out: Path) -> dict[str, Any] | None:
    """Return the record of a step that is done, with the same inputs and all its files; otherwise None."""
    try:
        record = json.loads(mark.read_text())
        same = record["key"] == key and all(_size(out / file) == size for file, size in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return dict(record) if same else None


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    return os.stat(path).st_size


def _digest(path: Path) -> str:
    if not path.is_dir():
        return digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return _text_digest([f"{file.relative_to(path)} {digest(file)}" for file in files])


def _text_digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
