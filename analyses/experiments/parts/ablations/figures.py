"""Gains of each part and lines of each sweep from the ablations' records, and both figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurobridge import figures
from neurobridge.study.harness import Record, Run
from neurobridge.study.panels import make_panels, save_panels
from neurobridge.study.tables import mean_ci

from .design import DEFAULT, DENSE, KERNEL, LABELS, N_SLOW, PARTS, SETTINGS, SWEEPS
from .gains import gain, swept
from .problems import IMAGES

#: Look of a second reference beside the ceiling.
_SECOND: dict[str, Any] = {"color": "0.6", "linestyle": "-", "linewidth": 1}


def draw_parts(run: Run, records: list[Record], n_test: dict[str, int]) -> dict[str, str]:
    """Draw the differences with their intervals, a panel for each setting."""
    figure, axes = make_panels(2, 5.6, 5.6)
    names = list(PARTS)
    markers = {DEFAULT: "o", KERNEL: "s", DENSE: "^"}
    for ax, setting in zip(axes, SETTINGS, strict=True):
        for row, part in enumerate(names):
            middle, half = mean_ci(gain(records, setting, part))
            ax.errorbar(
                middle, row, xerr=0 if np.isnan(half) else half, fmt=markers[PARTS[part]], color="black", capsize=3,
                markerfacecolor="black" if PARTS[part] == DEFAULT else "white", markersize=5,
            )  # fmt: skip
        ax.axvline(0, color="black", linewidth=0.8, linestyle="--")
        ax.grid(axis="x", alpha=0.3)
        ax.locator_params(axis="x", nbins=5)
        ax.set(
            title=f"{LABELS[setting]}, n = {n_test[setting]}", xlabel="difference to what it is compared with",
            yticks=range(len(names)), yticklabels=names if ax is axes[0] else [], ylim=(len(names) - 0.4, -0.6),
        )  # fmt: skip
    shapes = {
        "against the default": ("o", "black"),
        "against the default through kernel ridge": ("s", "white"),
        "against softmin by sinkhorn": ("^", "white"),
    }
    handles = [
        axes[0].plot([], [], marker=m, color="black", linestyle="", markerfacecolor=face, label=name)[0]
        for name, (m, face) in shapes.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize="small", frameon=False)
    text = (
        "Real data: MNIST and captions, IT sites. What replacing each part changes, 100 pairs; mean and 95 % "
        f"interval over seeds {run.seeds.start}-{run.seeds.stop - 1}, paired (images: dense plans, flows and fused "
        f"the first {N_SLOW}); dashed: no change"
    )
    return save_panels(figure, run, "contributions", text)


def draw_sweeps(
    run: Run,
    records: list[Record],
    chance: dict[str, float],
    references: dict[str, dict[str, list[float]]],
    n_test: dict[str, int],
) -> dict[str, str]:
    """Draw the sweeps: a row for each setting, a column for each sweep."""
    figure, axes = make_panels(8, 3.6, 3.1, columns=4)
    names: dict[str, Any] = {}
    for panel, ax in enumerate(axes):
        setting, name = SETTINGS[panel // 4], list(SWEEPS)[panel % 4]
        lines = swept(records, setting, name)
        levels = sorted({level for line in lines.values() for level in line}, key=lambda v: (v < 0, v))
        position = {level: k for k, level in enumerate(levels)}
        for line_index, (part, line) in enumerate(lines.items()):
            values = [mean_ci(line[level]) for level in line]
            spread = [0 if np.isnan(half) else half for _, half in values]
            positions = [position[level] + 0.07 * (line_index - (len(lines) - 1) / 2) for level in line]
            # Outliers are not a level of imbalance, so that no line leads to them.
            joined = [k for k, level in enumerate(line) if level >= 0]
            style = {"markersize": 5, **figures.STYLES[part]}
            ax.errorbar(positions, [m for m, _ in values], yerr=spread, capsize=2, **{**style, "linestyle": ""})
            ax.plot([positions[k] for k in joined], [values[k][0] for k in joined], **style)
            names.setdefault(part, style)
        ax.axhline(chance[setting], **figures.CHANCE)
        for reference, look in zip(references[setting].values(), (figures.CEILING, _SECOND), strict=False):
            ax.axhline(float(np.mean(reference)), **look)
        ax.set_ylim(0, 1.08 * max(float(np.mean(reference)) for reference in references[setting].values()))
        ax.set_xticks(range(len(levels)), ["20 %\noutliers" if v < 0 else f"{v:g}" for v in levels])
        ax.set(xlabel=SWEEPS[name], ylabel=f"{LABELS[setting]} (n = {n_test[setting]})" if panel % 4 == 0 else "")
    handles = [
        axes[0].plot([], [], label=f"unbalanced, {part}" if part.startswith("rho") else part, **style)[0]
        for part, style in names.items()
    ]
    figure.legend(handles=handles, loc="outside right upper", fontsize="small", frameon=False)
    text = (
        "Real data: MNIST and captions above, IT sites below. Mean and 95 % interval over seeds "
        f"{run.seeds.start}-{run.seeds.stop - 1}. Dashed: chance (95 % of the null); above it "
        + "; ".join(" (dotted), ".join(references[s]) + (" (grey)" if s == IMAGES else " (dotted)") for s in SETTINGS)
    )
    return save_panels(figure, run, "sweeps", text)
