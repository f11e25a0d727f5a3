"""Figures of the generation experiment, drawn from its records and kept images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from neurobridge import figures
from neurobridge.study.harness import Record, Run
from neurobridge.study.panels import count_ticks, make_panels, save_panels
from neurobridge.study.tables import mean_ci, select_records

from .models import size

LABELS = {
    "barycentric": "mean partner",
    "plan": "drawn from the plan",
    "plan-balanced": "drawn from the balanced plan",
    "flow": "flow from noise",
    "flow-barycentric": "flow from mean partner",
    "all labels": "flow under the class, all labels, end to end",
}


def sheet_file(run: Run, method: str, n_pairs: int) -> Path:
    """Return the file that keeps the images of a method."""
    return run.out / f"sheet-{method.replace(' ', '-')}-{n_pairs}.npy"


#: Method of generation -> its line style: that of the aligner where it is one, else a style that no aligner has.
STYLE_OF = figures.styles_of(LABELS) | {
    "barycentric": figures.STYLES["fused"],
    "flow": figures.STYLES["fused-flow"],
}


def draw_scores(run: Run, records: list[Record], counts: list[int], methods: list[str]) -> None:
    """Draw agreement, Frechet distance and spread by known pairs."""
    figure, axes = make_panels(3, 6.6, 4.2)
    pairs, all_labels = select_records(records, kind="pairs"), select_records(records, kind="all labels")
    labels = {"agreement": "agreement of the judge", "frechet": "Frechet distance (squared feature units)",
              "spread": "variance within a class (real = 1)"}  # fmt: skip
    for ax, (key, label) in zip(axes, labels.items(), strict=True):
        for name in methods:
            results = [mean_ci([r[key] for r in select_records(pairs, method=name, n_pairs=n)]) for n in counts]
            ax.errorbar(counts, [m for m, _ in results], yerr=[np.nan_to_num(h) for _, h in results], capsize=2, markersize=5,
                        label=LABELS[name], **STYLE_OF[name])  # fmt: skip
        lines = {
            "flow, all labels": (mean_ci([r[key] for r in all_labels])[0], "-"),
            "reconstructions (ceiling)": (records[0][f"{key}_reconstructed"], ":"),
        }
        if key == "agreement":
            lines |= {"chance (95th pct.)": (float(np.mean([r["null_95"] for r in pairs])), "--")}
        for k, (name, (value, dashes)) in enumerate(lines.items()):
            ax.axhline(
                value, color=("black", "black", "0.5")[k], linestyle=dashes, linewidth=1, label=f"{name} {value:.2f}"
            )
        ax.set(xscale="log", xlabel="captioned images known (count, log scale)", ylabel=label)
        ax.set_yscale("log" if key == "frechet" else "linear")
        ax.set_ylim({"agreement": (0, 1.05), "frechet": (4, 2000), "spread": (0, 3.2)}[key])
        count_ticks(ax, counts)
        figures.legend_beside(ax)
    caption = (
        f"Real MNIST; {records[0]['n_images']} images for each method and seed, new wordings; {run.n_seeds} seed(s), "
        "bars 95 % CI"
    )
    save_panels(figure, run, "generation", caption)


def draw_contact_sheet(run: Run, most_pairs: int, methods: list[str]) -> None:
    """Draw five images of each digit for every method."""
    figure, axes = make_panels(len(methods), 3.1, 6.4)
    for ax, name in zip(axes, methods, strict=True):
        images = np.load(
            sheet_file(run, name, size(run).train if name == "all labels" else most_pairs), allow_pickle=False
        )
        # The images are in the order of the captions, hence of the digits.
        shown = images.reshape(10, -1, *images.shape[1:])[:, :: len(images) // 50].reshape(-1, *images.shape[1:])
        figures.contact_sheet(
            xr.DataArray(shown, dims=("presentation", "row", "column")), ax=ax, n_columns=5,
            title=LABELS[name],
        )  # fmt: skip
    caption = (
        f"Real MNIST; a row for each digit, 0 to 9, five images each; {most_pairs} known pairs (right: all labels); "
        f"seed {run.seed}"
    )
    save_panels(figure, run, "contact_sheet", caption)
