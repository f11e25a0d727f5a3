"""The main job, the same for every dataset: align over a few pairs, then score with ceiling and chance."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from neurobridge._version import __version__
from neurobridge.assemblies import drop_constant, save_assembly
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, STIMULUS_ID
from neurobridge.evaluate import Readout, correlate, train_readout
from neurobridge.evaluate.curves.folds import CurveFold
from neurobridge.points.progress import progress_bar
from neurobridge.store.atomic import write_json
from neurobridge.study.demo.tables import (
    TO_BRAIN,
    TO_MODEL,
    decoding_tables,
    draw_figures,
    predictivity_table,
)
from neurobridge.study.demo.task import COMPARED, HELD_OUT, DemoConfig, Task, draw_fold, fit_aligners, prepare
from neurobridge.study.harness import Record
from neurobridge.study.machine import peak_rss
from neurobridge.study.processes import call_in_processes

_FEW = "pairs only"


def run_demo(
    config: DemoConfig,
    out: str | os.PathLike[str],
    *,
    mirror: str | os.PathLike[str] | None = None,
    n_processes: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Run the main job and write figures, ``scores.json`` and ``aligned.nc`` into a folder.

    Parameters
    ----------
    config : DemoConfig
    out : path
        Results folder; made if missing.
    mirror : path, optional
        Folder with the real data files, instead of a download.
    n_processes : int
        Draws computed at a time, each in a process of one thread. What they give does not depend on it. Above 1, a script
        that calls this guards it by ``if __name__ == "__main__":``.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        What ``scores.json`` holds.
    """
    started = time.monotonic()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    task = prepare(config.dataset, mirror=mirror, seed=config.seed)
    seeds = range(config.seed, config.seed + config.n_seeds)
    calls = [(task, config, seed, fraction) for seed in seeds for fraction in config.fractions]
    cells: dict[int, _Cell] = {}
    with progress_bar(total=len(calls), desc="align", progress=progress) as bar:
        for place, cell in call_in_processes(_run_cell, calls, n_processes):
            cells[place] = cell
            bar.update()
    ordered = [cells[place] for place in range(len(calls))]
    records = [record for cell in ordered for record in cell.records]
    decodings = [record for cell in ordered for record in cell.decodings]
    # The first seed with most pairs is the one that is drawn.
    shown = ordered[int(np.argmax(config.fractions))]
    save_assembly(shown.aligned, out / "aligned.nc")
    drawn = draw_figures(task, config, records, decodings, {m: shown.to_brain[m] for m in ("fused", "ridge")}, out)
    results = _results(task, config, records, decodings, seconds=time.monotonic() - started)
    # Of one process: those of several at a time are not added.
    results["run"]["peak_rss_gb"] = round(max(peak_rss(), *(cell.peak_rss for cell in ordered)) / 1e9, 2)
    results["warnings"] = _summarise([warning for cell in ordered for warning in cell.warnings])
    results["figures"] = drawn
    write_json(results, out / "scores.json")
    return results


class _Cell(NamedTuple):
    """What all methods gave on one draw with one number of pairs."""

    records: list[Record]
    decodings: list[Record]
    to_brain: dict[str, xr.Dataset]
    aligned: xr.DataArray
    warnings: list[tuple[str, int, str]]
    peak_rss: int


def _run_cell(task: Task, config: DemoConfig, seed: int, fraction: float) -> _Cell:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Of a library's future, not of these data.
        warnings.simplefilter("ignore", DeprecationWarning)
        fold = draw_fold(task, fraction, seed=seed)
        key = {"seed": seed, "fraction": fraction, "n_pairs": len(fold.pairs)}
        readouts = _readouts(task, fold, seed)
        tests = {
            "recordings, own readout": (TO_BRAIN, fold.source_test),
            "recordings, labels of the pairs only": (_FEW, fold.source_test),
            "model, own readout": (TO_MODEL, fold.target_test),
        }
        records: list[Record] = []
        to_brain: dict[str, xr.Dataset] = {}
        moved: dict[str, dict[str, xr.DataArray]] = {}
        for method, aligner in fit_aligners(fold, config, seed):
            moved[method] = {
                TO_BRAIN: aligner.inverse_transform(fold.target_test),
                TO_MODEL: aligner.transform(fold.source_test),
            }
            scores = _predictivity(task, fold, moved[method], config, seed)
            records += [{**key, "method": method, **_summary(name, s)} for name, s in scores.items()]
            to_brain[method] = scores[TO_BRAIN]
            tests |= {
                f"{direction}, {method}": (direction, transported) for direction, transported in moved[method].items()
            }
        decodings = [{**key, **row} for row in _decode(readouts, tests, config, seed)]
    warned = [(w.filename, w.lineno, str(w.message)) for w in caught]
    return _Cell(records, decodings, to_brain, moved[COMPARED[0]][TO_MODEL], warned, peak_rss())


def _summarise(caught: list[tuple[str, int, str]]) -> list[str]:
    """Give one line for each place (file, line) that warned: its first message, and how often."""
    places: dict[tuple[str, int], list[str]] = {}
    for file, line, message in caught:
        places.setdefault((file, line), []).append(message)
    return [f"{messages[0]} ({len(messages)} times)" for messages in places.values()]


def _predictivity(
    task: Task, fold: CurveFold, moved: dict[str, xr.DataArray], config: DemoConfig, seed: int
) -> dict[str, xr.Dataset]:
    observed = {TO_BRAIN: fold.source_test, TO_MODEL: fold.target_test}
    scores = {}
    for direction, predicted in moved.items():
        # A unit that happens to be constant on the held-out stimuli has no correlation to speak of.
        truth = drop_constant(observed[direction])
        kept = {NEUROID: np.flatnonzero(np.isin(predicted["neuroid_id"].values, truth["neuroid_id"].values))}
        ceiling = task.ceiling if direction == TO_BRAIN else None
        scores[direction] = correlate(
            predicted.isel(kept),
            truth,
            ceiling=None if ceiling is None else ceiling.isel(kept),
            n_permutations=config.n_permutations,
            seed=seed,
        )
    return scores


def _summary(direction: str, score: xr.Dataset) -> Record:
    null = score["null"].values
    r = float(np.median(score["raw"].mean("split").values))
    normalised = score["normalized"].values
    return {
        "direction": direction,
        "median_r": r,
        "null_mean": float(null.mean()),
        "null_95": float(np.quantile(null, 0.95)),
        "p_value": float(score["p_value"]),
        "median_normalised": float(np.nanmedian(normalised)) if np.isfinite(normalised).any() else None,
        "n_stimuli": int(score.attrs["n_stimuli"]),
        "n_neuroids": int(score.sizes[NEUROID]),
    }


def _readouts(task: Task, fold: CurveFold, seed: int) -> dict[tuple[str, str], Readout]:
    """Readouts of every label, trained in one space and frozen."""
    paired = np.isin(fold.source_train[STIMULUS_ID].values, fold.pairs.source_id)
    spaces = {
        TO_BRAIN: fold.source_train,
        TO_MODEL: fold.target_train,
        _FEW: fold.source_train.isel({PRESENTATION: np.flatnonzero(paired)}),
    }
    return {
        (label, space): train_readout(train, label, seed=seed)
        for label in task.labels
        for space, train in spaces.items()
    }


def _decode(
    readouts: dict[tuple[str, str], Readout], tests: dict[str, tuple[str, xr.DataArray]], config: DemoConfig, seed: int
) -> Iterator[Record]:
    """Read every test assembly, given as ``{name: (space it lies in, assembly)}``, with the readouts of its space."""
    for label in dict.fromkeys(label for label, _ in readouts):
        for name, (space, assembly) in tests.items():
            score = readouts[label, space].score(assembly, n_permutations=config.n_permutations, seed=seed)
            yield _accuracy(label, name, score)


def _accuracy(label: str, name: str, score: xr.Dataset) -> Record:
    null = score["null"].values
    return {
        "label": label,
        "name": name,
        "accuracy": float(score["raw"].values.mean()),
        "chance": float(null.mean()),
        "chance_95": float(np.quantile(null, 0.95)),
        "n_test": int(score.attrs["n_stimuli"]),
    }


def _results(
    task: Task, config: DemoConfig, records: list[Record], decodings: list[Record], *, seconds: float
) -> dict[str, Any]:
    experiment = task.experiment
    word = "Simulated" if experiment.kind == "simulated" else "Real"
    ceiling = None
    if task.ceiling is not None:
        values = task.ceiling.values
        ceiling = {
            "median": float(np.median(values)),
            "n_below_zero": int((values < 0).sum()),
            "n": values.size,
        }
    return {
        "title": f"{word} data: {experiment.name}",
        "note": f"{experiment.attrs.get('note', '')} {task.brain.sizes[PRESENTATION]} stimuli, "
        f"{task.brain.sizes[NEUROID]} sites; model side: {task.model_name}, {task.model.sizes[NEUROID]} dimensions. "
        f"{HELD_OUT:.0%} of the stimuli held out; every unpaired training stimulus is seen by one space only.".strip(),
        "tables": [predictivity_table(task, config, records), *decoding_tables(task, config, decodings)],
        "predictivity": records,
        "decoding": decodings,
        "ceiling": ceiling,
        "run": {
            **asdict(config),
            "kind": experiment.kind,
            "digests": dict(experiment.attrs.get("digests", {})),
            "citation": experiment.attrs.get("citation", ""),
            "neurobridge": __version__,
            "versions": {"torch": torch.__version__, "numpy": np.__version__, "xarray": xr.__version__},
            "seconds": round(seconds, 1),
        },
    }
