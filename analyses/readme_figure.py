"""Draw the figure of the README from kept results: docs/figures/readme.png.

python -m analyses.readme_figure
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from neurobridge.study.tables import mean_ci

mpl.use("Agg")

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: Drawn methods -> colour and line, the same in both panels.
LOOK = {"fused bridge": ("#D55E00", "-", "o"), "other": ("#0072B2", "--", "s"), "third": ("0.5", "-.", "^")}


def curve(ax: Axes, name: str, kind: str, points: dict[int, tuple[float, float]]) -> None:
    """Draw one method: mean and 95 % interval by the number of pairs."""
    color, line, marker = LOOK[kind]
    counts = sorted(points)
    ax.errorbar(
        counts, [points[n][0] for n in counts], yerr=[points[n][1] for n in counts],
        color=color, linestyle=line, marker=marker, markersize=5, capsize=2, label=name,
    )  # fmt: skip


def captions(ax: Axes, records: list[dict[str, Any]]) -> None:
    """Draw how often digits are named rightly through captions, beside a network trained end to end on the same images."""

    def points(method: str, counts: tuple[int, ...]) -> dict[int, tuple[float, float]]:
        by_count = {
            n: [
                r["accuracy"]
                for r in records
                if (r["encoder"], r["method"], r["n_pairs"]) == ("contrastive", method, n)
            ]
            for n in counts
        }
        return {n: mean_ci(values) for n, values in by_count.items() if values}

    curve(
        ax, "bridge to captions", "fused bridge", points("unbalanced", (10, 20)) | points("fused", (50, 100, 600, 3000))
    )
    curve(ax, "network trained end to end", "other", points("end to end", (10, 20, 50, 100, 600, 3000)))
    curve(ax, "the same, augmented", "third", points("end to end, augmented", (10, 20, 50, 100, 600, 3000)))
    chance = max(r["null_95"] for r in records if r["encoder"] == "contrastive" and r.get("null_95"))
    ax.axhline(chance, color="black", linestyle=":", linewidth=1, label="chance (95th pct.)")
    seeds = sorted({r["seed"] for r in records if r["method"] == "fused"})
    ax.set(xlabel="images with a known caption", ylabel="accuracy, 10,000 test digits", ylim=(0, 1.02), xscale="log")
    ax.set_title(f"real MNIST digits, named through text (seeds {seeds[0]} to {seeds[-1]})", fontsize="medium")


def sites(ax: Axes, results: dict[str, Any]) -> None:
    """Draw how well IT sites are predicted from other IT sites, beside ridge regression on the same pairs."""
    rows = [r for r in results["rows"] if (r["set"], r["measure"]) == ("it-halves", "median r")]
    for name, kind, method in (
        ("fused bridge", "fused bridge", "fused"),
        ("ridge on the same pairs", "other", "ridge"),
    ):
        curve(ax, name, kind, {r["n_pairs"]: (r["means"][method]["mean"], r["means"][method]["ci95"]) for r in rows})
    ax.axhline(
        max(r["null"] for r in rows), color="black", linestyle=":", linewidth=1, label="chance (partners permuted)"
    )
    ax.set(xlabel="paired images", ylabel="median r over 84 sites", ylim=(-0.02, 0.8), xscale="log")
    n, seeds = rows[0]["n_test"], rows[0]["seeds"]
    ax.set_title(f"real macaque IT, {n} held-out images (seeds {seeds[0]} to {seeds[-1]})", fontsize="medium")


if __name__ == "__main__":
    kept = DOCS / "results"
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.7), layout="constrained")
    captions(axes[0], json.loads((kept / "image_text" / "scores.json").read_text(encoding="utf-8"))["records"])
    sites(axes[1], json.loads((kept / "benchmarks" / "alignment_quality.json").read_text(encoding="utf-8")))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 0.13))
    fig.savefig(DOCS / "figures" / "readme.png", dpi=150)
