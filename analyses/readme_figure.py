"""Draw the figure of the README from kept results: docs/figures/readme.png.

python -m analyses.readme_figure
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from analyses.parts.pictures import save_png
from neurobridge import figures
from neurobridge.figures.curves import set_apart
from neurobridge.study.panels import count_ticks, make_panels
from neurobridge.study.tables import mean_ci

mpl.use("Agg")

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: Number of pairs -> mean, and half of the 95 % interval.
Points = dict[int, tuple[float, float]]
COUNTS = (10, 20, 50, 100, 600, 3000)


def draw(ax: Axes, lines: dict[str, tuple[str, Points]], ticks: tuple[int, ...]) -> None:
    """Draw lines by the number of pairs, each in the style of its method: mean and 95 % interval."""
    rows = {
        name: (np.array(sorted(points), dtype=float), *np.array([points[n] for n in sorted(points)]).T)
        for name, (_, points) in lines.items()
    }
    for (name, (method, _)), places in zip(lines.items(), set_apart(rows), strict=True):
        look = figures.STYLES[method] | {"markersize": 5, "capsize": 2}
        ax.errorbar(places, rows[name][1], yerr=rows[name][2], label=name, **look)
    ax.set_xscale("log")
    count_ticks(ax, ticks)


def captions(ax: Axes, records: list[dict[str, Any]]) -> None:
    """Draw how often digits are named rightly through captions, beside a network trained end to end on the same images."""

    def points(method: str, counts: tuple[int, ...] = COUNTS) -> Points:
        by_count = {
            n: [
                r["accuracy"]
                for r in records
                if (r["encoder"], r["method"], r["n_pairs"]) == ("contrastive", method, n)
            ]
            for n in counts
        }
        return {n: mean_ci(values) for n, values in by_count.items() if values}

    lines = {
        "bridge to captions": ("fused", points("unbalanced", COUNTS[:2]) | points("fused", COUNTS[2:])),
        "network trained end to end": ("end to end", points("end to end")),
        "the same, augmented": ("end to end, augmented", points("end to end, augmented")),
    }
    draw(ax, lines, COUNTS)
    chance = max(r["null_95"] for r in records if r["encoder"] == "contrastive" and r.get("null_95"))
    ax.axhline(chance, label="chance (95th pct.)", **figures.CHANCE)
    seeds = sorted({r["seed"] for r in records if r["method"] == "fused"})
    ax.set(xlabel="images with a known caption", ylabel="accuracy, 10,000 test digits", ylim=(0, 1.06))
    ax.set_title(f"real MNIST digits, named through text\n(seeds {seeds[0]} to {seeds[-1]})", fontsize="medium")


def sites(ax: Axes, results: dict[str, Any]) -> None:
    """Draw how well IT sites are predicted from other IT sites, beside ridge regression on the same pairs."""
    rows = [r for r in results["rows"] if (r["set"], r["measure"]) == ("it-halves", "median r")]
    means = {
        method: {r["n_pairs"]: (r["means"][method]["mean"], r["means"][method]["ci95"]) for r in rows}
        for method in ("fused", "ridge")
    }
    lines = {"fused bridge": ("fused", means["fused"]), "ridge on the same pairs": ("ridge", means["ridge"])}
    draw(ax, lines, (10, 20, 50, 100, 240))
    ax.axhline(max(r["null"] for r in rows), label="chance (partners permuted)", **figures.CHANCE)
    ax.set(xlabel="paired images", ylabel="median r over 84 sites", ylim=(-0.02, 0.8))
    n, seeds = rows[0]["n_test"], rows[0]["seeds"]
    ax.set_title(f"real macaque IT, {n} held-out images\n(seeds {seeds[0]} to {seeds[-1]})", fontsize="medium")


if __name__ == "__main__":
    kept = DOCS / "results"
    figure, axes = make_panels(2, 5.8, 3.4)
    captions(axes[0], json.loads((kept / "image_text" / "scores.json").read_text(encoding="utf-8"))["records"])
    sites(axes[1], json.loads((kept / "benchmarks" / "alignment_quality.json").read_text(encoding="utf-8")))
    for ax in axes:
        figures.legend_beside(ax)
    save_png(figure, DOCS / "figures" / "readme.png")
