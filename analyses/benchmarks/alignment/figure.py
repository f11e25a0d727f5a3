"""The figure of the table: the score of every set over the number of pairs, a line style a method."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from neurobridge import figures
from neurobridge.figures.curves import set_apart
from neurobridge.study.panels import count_ticks, make_panels

mpl.use("Agg")

#: Name in the table -> name in the palette of the package.
NAMES = {"fuse on arrays": "fused on arrays"}


def draw_figure(results: Mapping[str, Any], file: Path) -> None:
    """Draw the score of every set that has more than one number of pairs."""
    panels: dict[str, list[dict[str, Any]]] = {}
    for row in results["rows"]:
        rows = panels.setdefault(row["set"], [])
        if not rows or row["measure"] == rows[0]["measure"]:
            rows.append(row)
    panels = {name: rows for name, rows in panels.items() if len(rows) > 1}
    if not panels:
        return
    methods = list(dict.fromkeys(m for rows in panels.values() for row in rows for m in row["means"]))
    styles = figures.styles_of([NAMES.get(method, method) for method in methods])
    figure, axes = make_panels(len(panels), 4.6, 3.7, columns=min(4, len(panels)))
    for ax, (name, rows) in zip(axes, panels.items(), strict=False):
        cells_of = {
            method: {row["n_pairs"]: row["means"][method] for row in rows if method in row["means"]} for method in methods
        }  # fmt: skip
        lines = {
            method: (np.array(list(points), dtype=float), np.zeros(len(points)), np.ones((2, len(points))))
            for method, points in cells_of.items()
        }
        for (method, points), places in zip(cells_of.items(), set_apart(lines), strict=True):
            if points:
                ax.errorbar(
                    places, [cell["mean"] for cell in points.values()],
                    yerr=[np.nan_to_num(cell["ci95"]) for cell in points.values()], label=method, capsize=2, markersize=4,
                    linewidth=1.2, **styles[NAMES.get(method, method)],
                )  # fmt: skip
        ax.plot([row["n_pairs"] for row in rows], [row["null"] for row in rows], label="chance", **figures.CHANCE)
        ax.set(xscale="log", xlabel="known pairs (log scale)", ylabel=rows[0]["measure"])
        count_ticks(ax, [row["n_pairs"] for row in rows])
        ax.tick_params(axis="x", rotation=60, labelsize="small")
        title = textwrap.fill(results["titles"][name], 44)
        ax.set_title(f"{title}\nn = {rows[0]['n_test']:,} held out", fontsize="small")
    labels = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(labels.values()), list(labels), loc="outside right upper", fontsize="small", frameon=False)
    seeds = results["seeds"]
    figure.supxlabel(
        f"Mean and 95 % interval over seeds {seeds[0]} to {seeds[-1]}; held-out points reach no fit; unpaired pools are disjoint "
        "unless the title says otherwise",
        fontsize="small",
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
