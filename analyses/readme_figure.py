"""Draw the figure of the README from the kept records of `brain_model`: docs/figures/readme.png.

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
from neurobridge.study.panels import count_ticks, error_bars, make_panels
from neurobridge.study.tables import select_records

mpl.use("Agg")

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: Set -> title of its panel, and its methods with their names.
PANELS: dict[str, tuple[str, dict[str, str]]] = {
    "v4-session, EfficientNet": (
        "seen by a deep network, EfficientNet-Lite0",
        {"fused": "neurobridge (fused bridge)", "ridge": "ridge on the same pairs", "relative": "relative representations"},
    ),
    "v4-session, Gabor": (
        "seen by Gabor filters",
        {
            "fused": "neurobridge (fused bridge)", "ridge": "ridge on the same pairs", "procrustes": "Procrustes",
            "relative": "relative representations",
        },
    ),
}  # fmt: skip
TICKS = (5, 32, 64, 128, 320, 512)


def draw(ax: Axes, records: list[dict[str, Any]], dataset: str) -> None:
    """Draw the correlation with held-out recordings over the number of shared images; bars are the range over seeds."""
    title, methods = PANELS[dataset]
    group = select_records([r for r in records if "direction" in r], dataset=dataset, direction="model -> brain")
    for method, name in reversed(methods.items()):
        of_method = select_records(group, method=method)
        counts = sorted({r["n_pairs"] for r in of_method})
        values = [[r["r"] for r in select_records(of_method, n_pairs=n)] for n in counts]
        look = figures.STYLES[method] | {"markersize": 6, "capsize": 2, "linewidth": 2.6 if method == "fused" else 1.6}
        ax.errorbar(counts, [np.mean(v) for v in values], yerr=error_bars(values), label=name, **look)
    (ceiling,) = (r["ceiling"] for r in records if r.get("about") == dataset)
    null = max(r["null_95"] for r in group)
    ax.axhline(ceiling, **figures.CEILING)
    ax.axhline(null, **figures.CHANCE)
    ax.annotate(
        f"noise ceiling of the recordings, {ceiling:.2f}",
        (5, ceiling),
        (0, -11),
        textcoords="offset points",
        fontsize=9,
    )
    ax.annotate(
        f"chance (95th pct.), {null:.2f}", (512, null), (0, -12), textcoords="offset points", ha="right", fontsize=9
    )
    ax.set_xscale("log")
    count_ticks(ax, TICKS)
    ax.set(ylim=(-0.02, 0.92), xlabel="images shared by brain and model")
    n_seeds = len({r["seed"] for r in select_records(group, method="fused")})
    ax.set_title(f"{title} ({n_seeds} seeds)", fontsize=11)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    kept = json.loads((DOCS / "results" / "brain_model" / "scores.json").read_text(encoding="utf-8"))["records"]
    figure, axes = make_panels(len(PANELS), 5.0, 3.9)
    for panel, name in zip(axes, PANELS, strict=True):
        draw(panel, kept, name)
    axes[0].set_ylabel("median r, 50 neurons of macaque V4\n(128 held-out images)")
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=4, fontsize=9.5, frameon=False)
    save_png(figure, DOCS / "figures" / "readme.png")
