"""Tables and figures of the main job, from its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from neurobridge import figures
from neurobridge.assemblies.schema import PRESENTATION
from neurobridge.study.demo.task import COMPARED, DemoConfig, Task
from neurobridge.study.harness import Record
from neurobridge.study.tables import format_value, select_records

TO_BRAIN, TO_MODEL = "model -> recordings", "recordings -> model"


def ceiling_on_r(task: Task, direction: str) -> float | None:
    """Return the largest median correlation in reach, the root of the sites' reliability; None if unknown."""
    if task.ceiling is None or direction != TO_BRAIN:
        return None
    return float(np.median(np.sqrt(np.maximum(task.ceiling.values, 0))))


def _mean(rows: Sequence[Record], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


def predictivity_table(task: Task, config: DemoConfig, records: list[Record]) -> Record:
    """Tabulate correlations on held-out stimuli: a row a direction and method, a column a share of pairs."""
    largest = max(config.fractions)
    rows = []
    for direction in (TO_BRAIN, TO_MODEL):
        for method in COMPARED:
            group = select_records(records, direction=direction, method=method)
            r = [
                format_value(_mean(select_records(group, fraction=fraction), "median_r"))
                for fraction in config.fractions
            ]
            chance, worst = (
                format_value(_mean(group, "null_95")),
                format_value(float(np.max([row["p_value"] for row in group]))),
            )
            normalised = format_value(_mean(select_records(group, fraction=largest), "median_normalised"))
            rows.append([direction, method, *r, chance, worst, format_value(ceiling_on_r(task, direction)), normalised])
    n_pairs = [select_records(records, fraction=fraction)[0]["n_pairs"] for fraction in config.fractions]
    shares = [f"{fraction:.0%} ({n})" for fraction, n in zip(config.fractions, n_pairs, strict=True)]
    return {
        "title": f"Median Pearson r on {records[0]['n_stimuli']} held-out stimuli by share (count) of paired stimuli, "
        f"mean over {config.n_seeds} seeds",
        "columns": [
            "direction",
            "method",
            *shares,
            "chance 95%",
            "largest p",
            "ceiling on r",
            f"r^2/ceiling, {largest:.0%}",
        ],
        "rows": rows,
    }


def decoding_tables(task: Task, config: DemoConfig, decodings: list[Record]) -> list[Record]:
    """Tabulate decoding accuracies by readout and share of pairs, one table a label."""
    tables = []
    for label in task.labels:
        chosen = select_records(decodings, label=label)
        rows = []
        for name in _in_order(chosen):
            cells = [
                format_value(_mean(select_records(chosen, name=name, fraction=f), "accuracy")) for f in config.fractions
            ]
            rows.append([name, *cells, format_value(_mean(select_records(chosen, name=name), "chance"))])
        n_classes = len(set(task.brain[label].values.tolist()))
        tables.append(
            {
                "title": f"Decoding {label} ({n_classes} classes) of {chosen[0]['n_test']} held-out stimuli, accuracy, "
                f"mean over {config.n_seeds} seeds",
                "columns": [
                    "readout",
                    *(f"{fraction:.0%} paired" for fraction in config.fractions),
                    "chance",
                ],
                "rows": rows,
            }
        )
    return tables


def _in_order(rows: Sequence[Record]) -> list[str]:
    return sorted({row["name"] for row in rows}, key=lambda name: ("->" in name, name))


def draw_figures(
    task: Task,
    config: DemoConfig,
    records: list[Record],
    decodings: list[Record],
    shown: dict[str, xr.Dataset],
    out: Path,
) -> list[dict[str, str]]:
    """Write the figures of a run as PNG, SVG and PDF.

    Parameters
    ----------
    shown : mapping of method to Score
        Scores by site of the first seed at the largest share of pairs.

    Returns
    -------
    list of dict
        ``file`` and ``caption`` of each.
    """
    written = []
    import matplotlib.pyplot as plt

    word = "SIMULATED" if task.experiment.kind == "simulated" else "real"
    name, largest = task.experiment.name, max(config.fractions)
    caption = (
        f"{name} ({word}); n = {records[0]['n_stimuli']} held-out stimuli; {config.n_seeds} seeds from {config.seed}, "
        "bars: range"
    )
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.9), layout="constrained", sharey=True)
    for ax, direction in zip(axes, (TO_BRAIN, TO_MODEL), strict=True):
        rows = select_records(records, direction=direction)
        figures.learning_curve(
            _curves(rows, config),
            ax=ax,
            null=_mean(rows, "null_95"),
            ceiling=ceiling_on_r(task, direction),
            title=direction,
            ylabel="median Pearson r, held-out stimuli" if direction == TO_BRAIN else "",
        )
    figures.shared_legend(axes)
    figures.panel_letters(axes)
    figure.suptitle(caption, fontsize="small")
    figures.save_figure(figure, out, "learning_curve")
    text = f"Held-out median r of every method by number of paired stimuli, with chance and ceiling; {caption}."
    written.append({"file": "learning_curve.png", "caption": text})

    figure, ax = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    figures.sites(shown, ax=ax, title=f"{TO_BRAIN} by site, {largest:.0%} paired")
    n_test = records[0]["n_stimuli"]
    figure.suptitle(f"{name} ({word}); n = {n_test} held-out stimuli, seed {config.seed}", fontsize="small")
    figures.save_figure(figure, out, "sites")
    text = (
        f"Held-out r of every site against its reliability, or its rank without trials, {largest:.0%} paired; dashed: 95 % of the "
        f"null of one site; n = {n_test} stimuli, seed {config.seed}."
    )
    written.append({"file": "sites.png", "caption": text})

    if task.labels:
        size = (6.4 * len(task.labels), 4.8)
        figure, axes = plt.subplots(1, len(task.labels), figsize=size, layout="constrained", squeeze=False)
        for ax, label in zip(axes[0], task.labels, strict=True):
            rows = _bars(select_records(decodings, label=label, fraction=largest))
            figures.accuracies(rows, ax=ax, label=label, title=f"{largest:.0%} paired")
        figure.suptitle(caption, fontsize="small")
        figures.save_figure(figure, out, "decoding")
        text = f"Decoding {' and '.join(task.labels)} with {largest:.0%} paired, dashed: chance; {caption}."
        written.append({"file": "decoding.png", "caption": text})
    if task.experiment.images is not None:
        images = task.experiment.images
        chosen = np.linspace(0, images.sizes[PRESENTATION] - 1, 24).astype(int)
        figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
        title = f"{name} ({word}): 24 of {images.sizes[PRESENTATION]} images"
        figures.contact_sheet(images.isel({PRESENTATION: chosen}), ax=ax, title=title)
        figures.save_figure(figure, out, "stimuli")
        written.append({"file": "stimuli.png", "caption": f"{title}."})
    return written


def _curves(rows: list[Record], config: DemoConfig) -> dict[str, tuple[list[float], list[list[float]]]]:
    curves = {}
    for method in COMPARED:
        groups = [select_records(rows, method=method, fraction=fraction) for fraction in config.fractions]
        n_pairs = [float(group[0]["n_pairs"]) for group in groups]
        curves[method] = (n_pairs, [[row["median_r"] for row in group] for group in groups])
    return curves


def _bars(rows: list[Record]) -> list[Record]:
    bars = []
    for name in _in_order(rows):
        group = select_records(rows, name=name)
        chance = float(np.mean([row["chance"] for row in group]))
        bars.append({"name": name, "accuracy": [row["accuracy"] for row in group], "chance": chance})
    return bars
