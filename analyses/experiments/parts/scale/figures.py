"""Figures of the scale experiment, drawn from its records."""

from __future__ import annotations

from typing import Any

from neurobridge import figures
from neurobridge.study.harness import Record, Run
from neurobridge.study.panels import make_panels, save_panels
from neurobridge.study.tables import select_records

from .design import seeds_of
from .tables import average

_MARKS = {"euclidean": ("s", figures.PALETTE["keypoints"]), "geodesic": ("o", figures.PALETTE["bridge"])}
_SHOWN: dict[str, dict[str, Any]] = {
    "geodesic: flow": figures.STYLES["bridge-flow"],
    "geodesic: kernel map": figures.STYLES["bridge, kernel readout"],
    "euclidean: flow": {"color": figures.PALETTE["keypoints"], "marker": "s", "linestyle": "-"},
    "euclidean: kernel map": {"color": figures.PALETTE["keypoints"], "marker": "^", "linestyle": "--"},
    "pairs: kernel map": figures.STYLES["pairs, kernel readout"],
    "pairs: flow": figures.STYLES["pairs-flow"],
    "pairs: ridge": figures.STYLES["ridge"],
}


def draw_accuracy(run: Run, scores: list[Record], across: list[int], counts: list[int]) -> dict[str, str]:
    """Draw accuracy by points a side, a panel for each number of pairs."""
    figure, axes = make_panels(len(counts), 4.0, columns=len(counts))
    common_seeds = {r["seed"] for r in select_records(scores, n=across[-1])}
    for ax, n_pairs in zip(axes, counts, strict=True):
        for name, style in _SHOWN.items():
            group = select_records(scores, method=name, n_pairs=n_pairs)
            sizes_run = [n for n in across if select_records(group, n=n)]
            if sizes_run:
                # A line uses the same seeds at every size: differences between seeds must not look like effects of size.
                same = [r for r in group if r["seed"] in common_seeds]
                ax.plot(
                    sizes_run, [average(same, "accuracy", n=n) for n in sizes_run], label=name, markersize=5, **style
                )
            for r in (r for r in group if r["seed"] not in common_seeds):
                ax.plot(
                    r["n"] * 0.75, r["accuracy"], color=style["color"], marker=style["marker"], markersize=3, alpha=0.7
                )
        ax.axhline(average(scores, "ceiling"), label="head, true latents (ceiling)", **figures.CEILING)
        ax.axhline(average(scores, "null_95"), label="chance, 95 %", **figures.CHANCE)
        ax.set(xscale="log", yscale="logit", xlabel="points a side", ylim=(0.09, 0.97), title=f"{n_pairs} pairs")
        ax.set_xlim(across[0] * 0.6, across[-1] * 1.4)
        ax.set_yticks(ticks := [0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95], labels=[f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    axes[0].set_ylabel("accuracy, moved test digits (logit scale)")
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize="small", frameon=False)
    text = f"Real MNIST digits, deformed; {scores[0]['n_test']} test digits; lines: one seed; small: others ({seeds_of(run)})"
    return save_panels(figure, run, "accuracy", text)


def draw_cost(run: Run, features: list[Record], costs: list[Record]) -> dict[str, str]:
    """Draw time by stage and peak memory, by points a side."""
    figure, axes = make_panels(2, 5.6)

    def plot_line(ax: Any, group: list[Record], value: str, label: str, **style: Any) -> None:
        sizes_run = sorted({r["n"] for r in group})
        ax.plot(sizes_run, [average(group, value, n=n) for n in sizes_run], label=label, **style)

    plot_line(axes[0], features, "features_s", "features, both sides", color="0.35", marker="D", linestyle="-.")
    for metric, (marker, colour) in _MARKS.items():
        of_metric = select_records(costs, metric=metric, n_pairs=100)
        plot_line(axes[0], of_metric, "distances_s", f"{metric} distances", color=colour, marker=marker)
        plot_line(
            axes[0],
            of_metric,
            "transport_s",
            f"{metric} transport",
            color=colour,
            marker=marker,
            linestyle="--",
            mfc="white",
        )
    plot_line(axes[0], of_metric, "flow_s", "flow", color="0.6", marker="x", linestyle=":")
    for metric, n_pairs in sorted({(r["metric"], r["n_pairs"]) for r in costs}):
        style = {
            "marker": _MARKS[metric][0],
            "color": _MARKS[metric][1],
            "linestyle": {20: ":", 100: "-", 1000: "--"}[n_pairs],
        }
        plot_line(
            axes[1],
            select_records(costs, metric=metric, n_pairs=n_pairs),
            "rss_gb",
            f"{metric}, {n_pairs} pairs",
            **style,
        )
    plot_line(axes[1], features, "rss_gb", "features", color="0.35", marker="D", linestyle="-.")
    axes[1].axhline(average(costs, "rss_start_gb"), color="k", linewidth=1, linestyle=":", label="imports alone")
    last = max(r["n"] for r in costs)
    for ax, top in zip(axes, (average(features, "features_s", n=last), average(costs, "rss_gb", n=last)), strict=True):
        ax.plot([last / 30, last], [top / 30, top], color="0.85", linewidth=4, zorder=0, label="slope 1")
        ax.set(xscale="log", yscale="log", xlabel="points a side")
        figures.legend_beside(ax)
    axes[0].set(ylabel="processor s", title="time by stage, 100 pairs")
    axes[1].set(ylabel="GB", title="peak RSS of the process")
    text = "Real MNIST digits, deformed; 64 and 32 dimensions; mean over seeds; no n x n matrix is built"
    return save_panels(figure, run, "cost", text)
