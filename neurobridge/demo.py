"""The main job, the same for every dataset: recordings and model aligned over a few pairs, scored with ceiling and chance."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

import neurobridge
from neurobridge import figures
from neurobridge.aligner import AssemblyAligner, BridgeAligner
from neurobridge.assemblies import Pairs, average_repetitions, drop_constant, save_assembly
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, STIMULUS_ID
from neurobridge.baselines import ProcrustesAligner, RidgeAligner
from neurobridge.datasets import Experiment, load
from neurobridge.evaluate import (
    correlate,
    cross_decode,
    internal_consistency,
    shuffle_splits,
    stratified_splits,
)
from neurobridge.features import GaborEnergy, extract

SIMULATED = "simulated-hvm"
DATASETS = (SIMULATED, "cowley2023-v4-210325", "majajhong2015-it-v6")
FRACTIONS = (0.05, 0.10, 0.20)
TO_BRAIN, TO_MODEL = "model -> recordings", "recordings -> model"
_HELD_OUT = 0.2


@dataclass(frozen=True)
class DemoConfig:
    """What a run depends on; written into ``scores.json``.

    Attributes
    ----------
    dataset : str
    fractions : tuple of float
        Paired stimuli, as fractions of all stimuli.
    n_seeds : int
        Independent draws of held-out stimuli, pairs and network initialisation.
    seed : int
        First seed.
    flow_steps : int
        Training steps of each flow.
    n_permutations : int
        Size of the permutation null.
    """

    dataset: str = SIMULATED
    fractions: tuple[float, ...] = FRACTIONS
    n_seeds: int = 3
    seed: int = 0
    flow_steps: int = 400
    n_permutations: int = 1000


class Task(NamedTuple):
    """A dataset made ready: both spaces, one presentation a stimulus, and the ceiling of the recordings."""

    experiment: Experiment
    brain: xr.DataArray
    model: xr.DataArray
    ceiling: xr.DataArray | None
    model_name: str
    labels: tuple[str, ...]


class Fold(NamedTuple):
    """One draw: held-out stimuli, and the training stimuli dealt to either space.

    Paired stimuli are in both pools, every other training stimulus is in one of them, so that no unpaired stimulus
    can be matched with itself.
    """

    brain_train: xr.DataArray
    model_train: xr.DataArray
    brain_test: xr.DataArray
    model_test: xr.DataArray
    pairs: Pairs


def prepare(dataset: str, *, mirror: str | os.PathLike[str] | None = None, seed: int = 0) -> Task:
    """Load a dataset and make its two spaces.

    The model side is the frozen `GaborEnergy` network where the images are there, and the generative latents of the
    stimuli (object, position, size, pose) where they are not public.

    Raises
    ------
    ValueError
        The demo does not know the dataset.
    """
    if dataset == SIMULATED:
        experiment = load(SIMULATED, images_per_object={0: 2, 3: 4, 6: 4}, n_repetitions=10, image_size=64, seed=seed)
    elif dataset in DATASETS:
        experiment = load(dataset, mirror=mirror)
    else:
        raise ValueError(f"found dataset {dataset!r}; expected one of {DATASETS}. Mend: choose one of them.")
    trials = experiment.recordings
    assert trials is not None
    if "region" in trials.coords and len(set(trials["region"].values.tolist())) > 1:
        trials = trials.isel({NEUROID: np.flatnonzero(trials["region"].values == "IT")})
    brain = drop_constant(average_repetitions(trials))
    if brain.ndim == 3:
        brain = brain.isel(time_bin=0, drop=True)
    ceiling = None
    if "repetition" in trials.coords:
        consistency = internal_consistency(trials, seed=seed)
        ceiling = consistency["ceiling"]
    if experiment.images is not None:
        network = GaborEnergy()
        model = drop_constant(extract(network, experiment.images, network.default_layer))
        model_name = f"frozen GaborEnergy network, layer {network.default_layer}"
    else:
        assert experiment.latents is not None
        model = drop_constant(experiment.latents)
        model_name = "HvM generative latents (object, position, size, pose)"
    labels = tuple(name for name in ("category_name", "object_name") if name in brain.coords)
    return Task(experiment, brain, model, ceiling, model_name, labels)


def draw_fold(task: Task, fraction: float, *, seed: int) -> Fold:
    """Hold out a fifth of the stimuli, pair a fraction of all, and deal the rest to the two spaces in turn."""
    if "object_name" in task.brain.coords:
        splits = stratified_splits(
            task.brain["object_name"].values, n_splits=1, train_size=1 - _HELD_OUT, seed=seed
        )
    else:
        splits = shuffle_splits(task.brain.sizes[PRESENTATION], n_splits=1, train_size=1 - _HELD_OUT, seed=seed)
    train, test = splits[0]
    order = np.random.default_rng([seed, 2]).permutation(train)
    n_pairs = round(fraction * task.brain.sizes[PRESENTATION])
    paired, rest = order[:n_pairs], order[n_pairs:]
    ids = task.brain[STIMULUS_ID].values
    brain_rows, model_rows = np.concatenate([paired, rest[0::2]]), np.concatenate([paired, rest[1::2]])
    by_id = {stimulus: row for row, stimulus in enumerate(task.model[STIMULUS_ID].values)}

    def model_at(rows: np.ndarray) -> xr.DataArray:
        return task.model.isel({PRESENTATION: [by_id[stimulus] for stimulus in ids[rows]]})

    return Fold(
        task.brain.isel({PRESENTATION: np.sort(brain_rows)}),
        model_at(np.sort(model_rows)),
        task.brain.isel({PRESENTATION: test}),
        model_at(test),
        Pairs(ids[paired], ids[paired]),
    )


def aligners(config: DemoConfig, seed: int) -> dict[str, AssemblyAligner]:
    """The compared methods: global and true bridge alignment, ridge and Procrustes, all on the same pairs."""
    flow = {"n_steps": config.flow_steps}
    return {
        "bridge": BridgeAligner(seed=seed, flow_options=flow),
        "bridge-pairs": BridgeAligner(coupling="pairs", seed=seed, flow_options=flow),
        "ridge": RidgeAligner(seed=seed),
        "procrustes": ProcrustesAligner(seed=seed),
    }


def run_demo(
    config: DemoConfig,
    out: str | os.PathLike[str],
    *,
    mirror: str | os.PathLike[str] | None = None,
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
    records: list[dict[str, Any]] = []
    decodings: list[dict[str, Any]] = []
    shown: dict[str, dict[str, xr.Dataset]] = {}
    n_fits = config.n_seeds * len(config.fractions) * len(aligners(config, 0))
    with tqdm(total=n_fits, desc="align", disable=not progress) as bar:
        for seed in range(config.seed, config.seed + config.n_seeds):
            for fraction in config.fractions:
                fold = draw_fold(task, fraction, seed=seed)
                key = {"seed": seed, "fraction": fraction, "n_pairs": len(fold.pairs)}
                for method, aligner in aligners(config, seed).items():
                    aligner.fit(fold.brain_train, fold.model_train, fold.pairs)
                    moved = {
                        TO_BRAIN: aligner.inverse_transform(fold.model_test),
                        TO_MODEL: aligner.transform(fold.brain_test),
                    }
                    scores = _predictivity(task, fold, moved, config, seed)
                    records += [{**key, "method": method, **_summary(name, s)} for name, s in scores.items()]
                    decodings += [{**key, **row} for row in _decode_moved(task, fold, moved, method, config, seed)]
                    if fraction == max(config.fractions) and seed == config.seed:
                        shown[method] = scores
                        if method == "bridge":
                            save_assembly(moved[TO_MODEL], out / "aligned.nc")
                    bar.update()
                decodings += [{**key, **row} for row in _decode_within(task, fold, config, seed)]
    elapsed = time.monotonic() - started
    results = _results(task, config, records, decodings, elapsed)
    _write_json(results, out / "scores.json")
    _draw(task, config, records, decodings, shown, out)
    return results


def _predictivity(
    task: Task, fold: Fold, moved: dict[str, xr.DataArray], config: DemoConfig, seed: int
) -> dict[str, xr.Dataset]:
    observed = {TO_BRAIN: fold.brain_test, TO_MODEL: fold.model_test}
    ceilings = {TO_BRAIN: task.ceiling, TO_MODEL: None}
    scores = {}
    for name, predicted in moved.items():
        # A unit that happens to be constant on the held-out stimuli has no correlation to speak of.
        truth = drop_constant(observed[name])
        kept = np.isin(predicted["neuroid_id"].values, truth["neuroid_id"].values)
        ceiling = ceilings[name]
        scores[name] = correlate(
            predicted.isel({NEUROID: np.flatnonzero(kept)}),
            truth,
            ceiling=None if ceiling is None else ceiling.isel({NEUROID: np.flatnonzero(kept)}),
            n_permutations=config.n_permutations,
            seed=seed,
        )
    return scores


def _summary(direction: str, score: xr.Dataset) -> dict[str, Any]:
    null = score["null"].values
    r = float(np.median(score["raw"].mean("split").values))
    normalised = score["normalized"].values
    return {
        "direction": direction,
        "median_r": r,
        "null_mean": float(null.mean()),
        "null_95": float(np.quantile(null, 0.95)),
        "p_value": float((1 + (null >= r).sum()) / (1 + null.size)),
        "median_normalised": float(np.nanmedian(normalised)) if np.isfinite(normalised).any() else None,
        "n_stimuli": int(score.attrs["n_stimuli"]),
        "n_neuroids": int(score.sizes["neuroid"]),
    }


def _decode_moved(
    task: Task, fold: Fold, moved: dict[str, xr.DataArray], method: str, config: DemoConfig, seed: int
) -> Iterator[dict[str, Any]]:
    """Readouts trained in one space and frozen, reading what was transported into it."""
    for label in task.labels:
        for name, trained_on in ((TO_MODEL, fold.model_train), (TO_BRAIN, fold.brain_train)):
            score = cross_decode(
                trained_on, moved[name], label, n_permutations=config.n_permutations, seed=seed
            )
            yield _accuracy(label, f"{name}, {method}", score)


def _decode_within(task: Task, fold: Fold, config: DemoConfig, seed: int) -> Iterator[dict[str, Any]]:
    """Readouts without any transport: what each space holds by itself."""
    paired = np.isin(fold.brain_train[STIMULUS_ID].values, fold.pairs.source_id)
    spaces = {
        "recordings, own readout": (fold.brain_train, fold.brain_test),
        "recordings, labels of the pairs only": (
            fold.brain_train.isel({PRESENTATION: np.flatnonzero(paired)}),
            fold.brain_test,
        ),
        "model, own readout": (fold.model_train, fold.model_test),
    }
    for label in task.labels:
        for name, (train, test) in spaces.items():
            score = cross_decode(train, test, label, n_permutations=config.n_permutations, seed=seed)
            yield _accuracy(label, name, score)


def _accuracy(label: str, name: str, score: xr.Dataset) -> dict[str, Any]:
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
    task: Task,
    config: DemoConfig,
    records: list[dict[str, Any]],
    decodings: list[dict[str, Any]],
    elapsed: float,
) -> dict[str, Any]:
    experiment = task.experiment
    word = "Simulated" if experiment.kind == "simulated" else "Real"
    ceiling = None if task.ceiling is None else task.ceiling.values
    note = (
        f"{word} data. {experiment.attrs.get('note', '')} {task.brain.sizes[PRESENTATION]} stimuli, "
        f"{task.brain.sizes[NEUROID]} sites; model side: {task.model_name}, {task.model.sizes[NEUROID]} dimensions. "
        f"{_HELD_OUT:.0%} of the stimuli held out; every other unpaired stimulus is seen by one space only."
    )
    return {
        "title": f"{word} data: {experiment.name}",
        "note": note,
        "tables": [_predictivity_table(config, records, ceiling), *_decoding_tables(task, config, decodings)],
        "predictivity": records,
        "decoding": decodings,
        "ceiling": None
        if ceiling is None
        else {"median": float(np.median(ceiling)), "n_below_zero": int((ceiling < 0).sum()), "n": int(ceiling.size)},
        "run": {
            **asdict(config),
            "kind": experiment.kind,
            "digests": dict(experiment.attrs.get("digests", {})),
            "citation": experiment.attrs.get("citation", ""),
            "neurobridge": neurobridge.__version__,
            "versions": {"torch": torch.__version__, "numpy": np.__version__, "xarray": xr.__version__},
            "seconds": round(elapsed, 1),
            "peak_rss_gb": round(peak_rss() / 1e9, 2),
        },
    }


def peak_rss() -> int:
    """Largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


def _cell(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _select(rows: Sequence[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _predictivity_table(
    config: DemoConfig, records: list[dict[str, Any]], ceiling: np.ndarray | None
) -> dict[str, Any]:
    rows = []
    for direction in (TO_BRAIN, TO_MODEL):
        for fraction in config.fractions:
            for method in aligners(config, 0):
                group = _select(records, direction=direction, fraction=fraction, method=method)
                reach = None if ceiling is None or direction == TO_MODEL else float(np.median(np.sqrt(ceiling.clip(0))))
                rows.append(
                    [direction, f"{fraction:.0%} ({group[0]['n_pairs']})", method, _cell(_mean(group, "median_r")),
                     _cell(_mean(group, "null_95")), _cell(max(row["p_value"] for row in group)), _cell(reach),
                     _cell(_mean(group, "median_normalised"))]
                )  # fmt: skip
    return {
        "title": f"Predictivity on {records[0]['n_stimuli']} held-out stimuli, mean over {config.n_seeds} seeds",
        "columns": ["direction", "pairs", "method", "median r", "chance (95th pct.)", "largest p", "ceiling on r", "r^2 / ceiling"],
        "rows": rows,
    }  # fmt: skip


def _decoding_tables(task: Task, config: DemoConfig, decodings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tables = []
    for label in task.labels:
        chosen = _select(decodings, label=label)
        rows = []
        for name in dict.fromkeys(row["name"] for row in chosen):
            cells = [_cell(_mean(_select(chosen, name=name, fraction=f), "accuracy")) for f in config.fractions]
            rows.append([name, *cells, _cell(_mean(_select(chosen, name=name), "chance"))])
        n_classes = len(set(task.brain[label].values.tolist()))
        tables.append(
            {
                "title": f"Decoding {label} ({n_classes} classes) of {chosen[0]['n_test']} held-out stimuli, accuracy",
                "columns": ["readout", *(f"{fraction:.0%} paired" for fraction in config.fractions), "chance"],
                "rows": rows,
            }
        )
    return tables


def _write_json(results: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    os.replace(partial, path)


def _draw(
    task: Task,
    config: DemoConfig,
    records: list[dict[str, Any]],
    decodings: list[dict[str, Any]],
    shown: dict[str, dict[str, xr.Dataset]],
    out: Path,
) -> None:
    import matplotlib.pyplot as plt

    word = "SIMULATED" if task.experiment.kind == "simulated" else "real"
    caption = (
        f"{task.experiment.name} ({word}); {records[0]['n_stimuli']} held-out stimuli, {config.n_seeds} seeds "
        f"from {config.seed}, bars: range"
    )
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained", sharey=True)
    for ax, direction in zip(axes, (TO_BRAIN, TO_MODEL), strict=True):
        rows = _select(records, direction=direction)
        ceiling = None
        if task.ceiling is not None and direction == TO_BRAIN:
            ceiling = float(np.median(np.sqrt(task.ceiling.values.clip(0))))
        figures.learning_curve(
            _curves(rows, config), ax=ax, null=_mean(rows, "null_95"), ceiling=ceiling, title=direction,
            ylabel="median Pearson r, held-out stimuli",
        )  # fmt: skip
    axes[1].set_ylabel("")
    figure.suptitle(caption, fontsize="small")
    figures.save_figure(figure, out, "learning_curve")

    figure, ax = plt.subplots(figsize=(5.2, 4.2), layout="constrained")
    per_site = {method: shown[method][TO_BRAIN] for method in ("bridge", "ridge")}
    largest = f"{max(config.fractions):.0%}"
    figures.sites(
        per_site, ax=ax, null=_mean(_select(records, direction=TO_BRAIN), "null_95"),
        title=f"{TO_BRAIN} by site, {largest} paired",
    )  # fmt: skip
    figure.suptitle(f"{task.experiment.name} ({word}); seed {config.seed}", fontsize="small")
    figures.save_figure(figure, out, "sites")

    if task.labels:
        figure, axes = plt.subplots(
            1, len(task.labels), figsize=(6.2 * len(task.labels), 4.6), layout="constrained", squeeze=False
        )
        for ax, label in zip(axes[0], task.labels, strict=True):
            figures.accuracies(_bars(decodings, label, config), ax=ax, label=label, title=f"{largest} paired")
        figure.suptitle(caption, fontsize="small")
        figures.save_figure(figure, out, "decoding")
    if task.experiment.images is not None:
        images = task.experiment.images
        chosen = np.linspace(0, images.sizes[PRESENTATION] - 1, 24).astype(int)
        figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
        figures.contact_sheet(
            images.isel({PRESENTATION: chosen}), ax=ax, title=f"{task.experiment.name} ({word}): 24 of the images"
        )
        figures.save_figure(figure, out, "stimuli")


def _curves(
    rows: list[dict[str, Any]], config: DemoConfig
) -> dict[str, tuple[list[float], list[list[float]]]]:
    curves = {}
    for method in aligners(config, 0):
        groups = [_select(rows, method=method, fraction=fraction) for fraction in config.fractions]
        curves[method] = (
            [float(group[0]["n_pairs"]) for group in groups],
            [[row["median_r"] for row in group] for group in groups],
        )
    return curves


def _bars(decodings: list[dict[str, Any]], label: str, config: DemoConfig) -> list[dict[str, Any]]:
    chosen = _select(decodings, label=label, fraction=max(config.fractions))
    names = sorted({row["name"] for row in chosen}, key=lambda name: ("->" in name, name))
    return [
        {
            "name": name,
            "accuracy": [row["accuracy"] for row in _select(chosen, name=name)],
            "chance": float(np.mean([row["chance"] for row in _select(chosen, name=name)])),
        }
        for name in names
    ]
