"""Draw time and memory of every stage against points, dimensions and pairs from the kept results.

The figure is docs/figures/cost_against_size.png.

python -m analyses.cost_figure
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

from analyses.parts.pictures import save_png
from neurobridge import figures
from neurobridge.study.panels import make_panels

mpl.use("Agg")

DOCS = Path(__file__).resolve().parents[1] / "docs"
KEPT = DOCS / "results" / "benchmarks"
#: Solvers of the coupling at one size: name in the records -> label and marker.
PEERS = {"pot": ("POT Sinkhorn", "s"), "ott": ("ott Sinkhorn", "^")}
DASHES = ("-", "--", ":", "-.")

#: Name of a curve -> points a side, seconds, GB.
Curves = dict[str, list[tuple[int, float, float]]]


def _kept(name: str) -> Any:
    return json.loads((KEPT / f"{name}.json").read_text())


def curves() -> Curves:
    """Return the measured curves; the seconds of the coupling are of the clock, those of the others of the processor."""
    coupling, geodesic, fused, road = map(_kept, ("coupling", "geodesic_scale", "fused_scale", "road"))
    found: Curves = {
        "Euclidean distances, nearest kept": [
            (int(n), row["build_s"], row["peak_gb"]) for n, row in coupling["scale"].items()
        ],
        "factored coupling": [
            (int(n), row["seconds"] - row["build_s"], row["peak_gb"]) for n, row in coupling["scale"].items()
        ],
        "geodesic distances, 1,000 pairs": [
            (row["n"], row["cpu_seconds"], row["peak_rss_gb"]) for row in geodesic["records"]
        ],
    }
    for dims, n_pairs in sorted({(row["dims"], row["n_pairs"]) for row in fused["records"]}):
        found[f"fused bridge, {dims} dims, {n_pairs:,} pairs"] = [
            (row["n"], row["cpu_seconds"], row["peak_rss_gb"])
            for row in fused["records"]
            if (row["dims"], row["n_pairs"]) == (dims, n_pairs)
        ]
    found["files to report (road), 64 dims, 1,000 pairs"] = [
        (row["n"], row["cpu_seconds"], max(step["peak_rss_gb"] for step in row["steps"].values()))
        for row in road["records"]
    ]
    return found


def draw() -> Path:
    """Draw both panels, and return the file."""
    figure, axes = make_panels(2, 6.2, 4.4)
    colours = [mpl.colormaps["viridis"](level / 8) for level in range(9)]
    for number, (name, rows) in enumerate(curves().items()):
        points, seconds, memory = zip(*sorted(rows), strict=True)
        look = {"color": colours[number % len(colours)], "linestyle": DASHES[number % 4], "marker": "oDvP"[number % 4]}
        axes[0].plot(points, seconds, label=name, **look)
        axes[1].plot(points, memory, **look)
    coupling = _kept("coupling")
    n_peer = coupling["setting"]["n_peer"]
    for name, (label, marker) in PEERS.items():
        if name in coupling["peers"]:
            axes[0].plot(
                [n_peer], [coupling["peers"][name]["seconds"]], color="0.3", linestyle="", marker=marker,
                label=f"{label} at {n_peer:,}",
            )  # fmt: skip
            axes[1].plot(
                [n_peer], [coupling["peers"][name]["extra_gb"]], color="0.3", linestyle="", marker=marker
            )  # fmt: skip
    for ax, label in zip(axes, ("seconds", "peak RSS (GB)"), strict=True):
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("points a side")
        ax.set_ylabel(label)
    axes[1].set_yticks([0.5, 1, 2, 4, 6], labels=["0.5", "1", "2", "4", "6"], minor=False)
    axes[1].minorticks_off()
    axes[1].axhline(4, color="0.5", linestyle=":", linewidth=1)
    axes[1].annotate("4 GB", (4e4, 4), xytext=(0, 3), textcoords="offset points", fontsize="small", color="0.4")
    figures.panel_letters(axes)
    figures.shared_legend(axes)
    figure.supxlabel(
        "Simulated points; coupling and its distances: seconds of the clock; the others: processor seconds of one thread",
        fontsize="small",
    )
    path = DOCS / "figures" / "cost_against_size.png"
    save_png(figure, path)
    return path


if __name__ == "__main__":
    print(draw())
