"""Figures of the overlap experiment, drawn from its records."""

from __future__ import annotations

import numpy as np

from neurobridge import figures
from neurobridge.study.harness import Record, Run
from neurobridge.study.panels import save_panels
from neurobridge.study.tables import format_p, select_records

from .agreement import DISTANCES, MEASURES, N_PAIRS, alignment_quality
from .encoders import ENCODERS

MARKERS = dict(zip(ENCODERS, ("o", "s", "^", "*", "D"), strict=True))
COLOURS = dict(
    zip(ENCODERS, (figures.PALETTE[k] for k in ("ridge", "fused", "procrustes", "pls", "fused-flow")), strict=True)
)


def scatter_figure(run: Run, records: list[Record], plain: list[Record], rows: list[Record]) -> dict[str, str]:
    """Draw alignment against overlap, a panel for each measure."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 8), sharey=True, layout="constrained")
    for ax, row in zip(axes.flat, rows, strict=True):
        measure = row["measure"]
        noisy = [r for r in records if r["change"]]
        ax.plot([r["overlap"][measure] for r in noisy], alignment_quality(noisy, "bridge"), "x", color="0.6", markersize=4,
                label="noise added or shuffled")  # fmt: skip
        for name in dict.fromkeys(r["set"] for r in plain):
            group = select_records(plain, set=name)
            ax.plot([r["overlap"][measure] for r in group], alignment_quality(group, "bridge"), MARKERS[name], color=COLOURS[name],
                    label=name if name == "SIMULATED" else f"{name} (real)")  # fmt: skip
        chance = float(np.mean([d["null_95"] for r in plain for d in r["alignment"]["bridge"]]))
        ax.axhline(chance, color="0.5", linestyle="--", linewidth=1, label="chance (95th pct.) of r")
        nulls = [r["null"][measure] for r in plain if measure in r["null"]]
        if nulls:
            ax.axvline(
                float(np.mean(nulls)),
                color="0.5",
                linestyle=":",
                linewidth=1,
                label="overlap of shuffled stimuli, mean",
            )
        ax.set_xlabel(measure.replace("_", " ") + (" (less is more overlap)" if measure in DISTANCES else ""))
        ax.set_title(
            f"real pairs: rho {row['rho']:.2f} [{row['low']:.2f}, {row['high']:.2f}], {format_p(row['p'])}",
            fontsize="small",
        )
    for ax in axes[:, 0]:
        ax.set_ylabel(f"held-out r of the bridge, {N_PAIRS} pairs")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small", frameon=False)
    text = (
        f"Overlap on training stimuli against held-out r of the bridge, {len(plain)} encoder pairs as they are. "
        "rho: signed so that positive is more overlap, better alignment; ceiling of r is 1 where the target is no recording."
    )
    return save_panels(figure, run, "overlap", text)


def rank_figure(run: Run, results: dict[str, list[Record]]) -> dict[str, str]:
    """Draw the rank correlations by group of encoder pairs."""
    from matplotlib import pyplot as plt

    names = [name for name in results if name.split(",")[0] in ("real", "within sets", "recordings") or "less" in name]
    figure, ax = plt.subplots(figsize=(9.5, 0.85 * len(names) + 1.8), layout="constrained")
    markers = ("o", "s", "^", "D", "v", "P")
    for k, measure in enumerate(MEASURES):
        rows = [next(r for r in results[name] if r["measure"] == measure) for name in names]
        heights = np.arange(len(names)) + (k - 2.5) * 0.12
        rho = np.array([r["rho"] for r in rows])
        # A percentile interval may leave out the estimate.
        bars = np.array([[max(r["rho"] - r["low"], 0) for r in rows], [max(r["high"] - r["rho"], 0) for r in rows]])
        ax.errorbar(
            rho, heights, xerr=bars, fmt=markers[k], markersize=5, capsize=2, color=f"{0.12 * k:.2f}", label=measure
        )
    for k, name in enumerate(names):
        bound = float(np.mean([r["null_95"] for r in results[name]]))
        ax.plot(
            [bound, bound],
            [k - 0.45, k + 0.45],
            color=figures.PALETTE["fused"],
            linestyle="--",
            label="chance (95 % of the null)" if k == 0 else None,
        )
    ax.axvline(0, color="0.5", linewidth=1)
    ax.axvline(1, color="black", linewidth=1, linestyle=":", label="ceiling: the same ranks")
    places = [name.replace(", ", ",\n") for name in names]
    counts = [results[name][0]["n"] for name in names]
    ax.set_yticks(range(len(names)), labels=[f"{place} (n = {n})" for place, n in zip(places, counts, strict=True)])
    ax.invert_yaxis()
    ax.set_xlabel("Spearman correlation of overlap with alignment,\n95 % bootstrap interval over encoder pairs")
    figures.legend_beside(ax)
    caption = "Rank correlation of every overlap measure with alignment, by group of encoder pairs."
    return save_panels(figure, run, "ranks", caption)
