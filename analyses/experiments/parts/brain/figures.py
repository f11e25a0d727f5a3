"""Figures of the brain and model experiment, drawn from its records."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurobridge import figures
from neurobridge.study.harness import Record, Run
from neurobridge.study.panels import count_ticks, curves_of, make_panels, save_panels
from neurobridge.study.tables import select_records

from .directions import TO_BRAIN, TO_MODEL
from .summary import dataset_title, mean_curve, records_to_brain

Figures = list[dict[str, str]]


def how_many_figure(run: Run, facts: dict[str, Record], records: list[Record], needed: list[Record]) -> Figures:
    """Draw how many paired images a lab needs: fused and ridge, relative to ridge on all pairs."""
    figure, axes = make_panels(len(facts), 6.6, 4.0, columns=3)
    for ax, (dataset, fact) in zip(axes, facts.items(), strict=True):
        of_direction = records_to_brain(dataset, records)
        n_all_pairs = max(r["n_pairs"] for r in of_direction)
        best = float(np.mean([r["r"] for r in of_direction if r["n_pairs"] == n_all_pairs]))
        for method in ("fused", "ridge"):
            counts, mean = mean_curve(of_direction, method)
            spread = [[r["r"] / best for r in select_records(of_direction, method=method, n_pairs=n)] for n in counts]
            bars = np.array([[m / best - min(v), max(v) - m / best] for m, v in zip(mean, spread, strict=True)]).T
            ax.errorbar(counts, mean / best, yerr=bars, capsize=2, markersize=5, label=method, **figures.STYLES[method])
        ax.axhline(
            1, color="black", linestyle=":", linewidth=1, label=f"ridge, all {n_all_pairs} paired: r = {best:.2f}"
        )
        chance = max(r["null_95"] for r in of_direction) / best
        ax.axhline(chance, color="0.5", linestyle="--", linewidth=1, label="chance (95th pct.)")
        rows = [row for row in needed if row["dataset"] == dataset and row["share"] in (0.2, 0.5)]
        for row in rows:
            if row["fused_pairs"] is not None:
                height = row["ridge_r"] / best
                ax.annotate(
                    "", xy=(row["fused_pairs"], height), xytext=(row["ridge_pairs"], height),
                    arrowprops={"arrowstyle": "->", "color": "black", "linewidth": 1.2},
                )  # fmt: skip
                middle = np.sqrt(row["fused_pairs"] * row["ridge_pairs"])
                ax.text(
                    middle, height - 0.035, f"{row['ridge_pairs']} → {row['shown']}", ha="center", va="top", fontsize=8,
                    zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
                )  # fmt: skip
        ceiling = fact["ceiling"]
        ceiling_text = (
            "no ceiling known" if ceiling is None else f"ceiling r = {ceiling:.2f}, {ceiling / best:.1f} on this axis"
        )
        ax.set_xscale("log")
        count_ticks(ax, sorted({r["n_pairs"] for r in of_direction}))
        ax.tick_params(axis="x", rotation=45)
        ax.set_ylim(min(0, ax.get_ylim()[0]), None)
        ax.set_xlabel("paired images (count, log scale)")
        ax.set_ylabel("held-out r, share of all pairs' ridge")
        ax.set_title(
            f"{dataset_title(fact, dataset)}\n{fact['n_model']} dims -> {fact['n_sites']} sites; {ceiling_text}",
            fontsize="small",
        )
        figures.legend_beside(ax)
    text = (
        "How many paired images does a lab need? Model to brain, median r over sites on held-out images. "
        "Arrows: pairs of ridge → pairs with which fused reaches the same. Bars: range of the seeds, the same for both."
    )
    return [save_panels(figure, run, "brain_model", text)]


def learning_figures(run: Run, facts: dict[str, Record], records: list[Record]) -> Figures:
    """Draw every method, a figure for each direction."""
    out = []
    for direction, name in ((TO_BRAIN, "curves_to_brain"), (TO_MODEL, "curves_to_model")):
        figure, axes = make_panels(len(facts), 5.6, 4.4, columns=3)
        for ax, (dataset, fact) in zip(axes, facts.items(), strict=True):
            of_direction = select_records(records, dataset=dataset, direction=direction)
            of_direction = [r for r in of_direction if r["n_pairs"] < max(o["n_pairs"] for o in of_direction)]
            figures.learning_curve(
                curves_of(of_direction, "r"), ax=ax, ylabel="median r on held-out stimuli",
                null=max(r["null_95"] for r in of_direction),
                ceiling=fact["ceiling"] if direction == TO_BRAIN else None, title=dataset_title(fact, dataset),
            )  # fmt: skip
            count_ticks(ax, sorted({r["n_pairs"] for r in of_direction}))
        _one_legend(figure, axes)
        limit = "" if direction == TO_BRAIN else "; no ceiling is known for model dimensions"
        text = f"{direction}: held-out r of every method. Bars: range of the seeds{limit}; points set apart sideways a little."
        out.append(save_panels(figure, run, name, text))
    return out


def _one_legend(figure: Any, axes: Any) -> None:
    """Put one legend beside the panels, and name the straight lines under each title."""
    methods: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        lines = [label for label in labels if label.startswith(("ceiling", "chance", "before"))]
        ax.set_title("\n".join([ax.get_title(), "; ".join(lines)]), fontsize="small")
        methods |= {label: item for item, label in zip(handles, labels, strict=True) if label not in lines}
        ax.legend().remove()
    figure.legend(methods.values(), methods.keys(), loc="outside right upper", fontsize="small", frameon=False)


def decoding_figure(run: Run, facts: dict[str, Record], records: list[Record]) -> Figures:
    """Draw accuracy after transport, beside the source's own head, the ceiling and chance."""
    labelled = {dataset: fact for dataset, fact in facts.items() if fact["label"]}
    panels = [
        (dataset, of_direction)
        for dataset in labelled
        for of_direction in (TO_BRAIN, TO_MODEL)
        if of_direction == TO_MODEL or "latents" not in dataset
    ]
    figure, axes = make_panels(len(panels), 5.2, 4.0, columns=3)
    for ax, (dataset, direction) in zip(axes, panels, strict=True):
        of_direction = select_records(records, dataset=dataset, direction=direction)
        of_direction = [r for r in of_direction if r["n_pairs"] < max(o["n_pairs"] for o in of_direction)]
        compared = [r for r in of_direction if r["method"] in ("fused", "ridge", "bridge", "relative", "keypoints")]
        figures.learning_curve(
            curves_of(compared, "accuracy"), ax=ax, ylabel=f"accuracy of {facts[dataset]['label']}",
            null=float(np.mean([r["accuracy_null_95"] for r in compared])),
            ceiling=float(np.mean([r["accuracy_ceiling"] for r in compared])),
            title=f"{dataset_title(facts[dataset], dataset)}\n{direction}: the target's frozen head",
        )  # fmt: skip
        source_accuracy = float(np.mean([r["accuracy_source"] for r in compared]))
        ax.axhline(
            source_accuracy,
            color="black",
            linestyle="-.",
            linewidth=1,
            label=f"before: source's own head {source_accuracy:.2f}",
        )
    _one_legend(figure, axes)
    text = (
        "Decoding before and after transport, held-out stimuli; heads (shrinkage LDA) are trained on their own space's training "
        "stimuli and frozen. Ceiling: the head on the true held-out features. Bars: range of the seeds."
    )
    return [save_panels(figure, run, "decoding", text)]
