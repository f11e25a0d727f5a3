"""Figures of the disentanglement experiment, drawn from its records."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurobridge import figures
from neurobridge.study.harness import Record, Run
from neurobridge.study.panels import make_panels, save_panels
from neurobridge.study.tables import mean_ci, select_records

from .design import DATA, MAPS, N_LATENTS, N_PAIRS, betas, turns
from .factors import (
    factor_data,
    sizes,
)  # fmt: skip


def _plot_line(ax: Any, records: list[Record], value: str, shift: int = 0, **style: Any) -> None:
    """Plot means and intervals by beta.

    A shift to the side keeps bars from hiding each other.
    """
    across = sorted({r["beta"] for r in records})
    results = [mean_ci([r[value] for r in select_records(records, beta=beta)]) for beta in across]
    means, bars = [m for m, _ in results], [np.nan_to_num(half) for _, half in results]
    x = [beta * 2 ** (0.07 * shift) for beta in across]
    ax.errorbar(x, means, yerr=bars, capsize=2, markersize=5, elinewidth=0.7, **style)


def draw_disentanglement(run: Run, records: list[Record]) -> None:
    """Draw disentanglement and alignment by beta, and one against the other."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(20, 8.8), layout="constrained")
    grey: dict[str, Any] = {"color": "0.4", "marker": "s", "linestyle": "--", "fillstyle": "none"}
    chance: dict[str, Any] = {"color": "0.6", "linestyle": ":", "label": "chance"}
    top: dict[str, Any] = {"color": "black", "linestyle": ":", "marker": "x", "label": "all pairs (ceiling)"}
    for row, (data, title) in zip(axes, DATA.items(), strict=True):
        vaes = select_records(records, kind="vae", data=data)
        alignments = select_records(records, kind="alignment", data=data)
        counts = sorted({r["n_pairs"] for r in alignments})
        _plot_line(row[0], vaes, "dci", -1, label="DCI", color=figures.PALETTE["pls"], marker="o")
        _plot_line(row[0], vaes, "mig", 1, label="MIG", color=figures.PALETTE["cca"], marker="^", linestyle="-.")
        _plot_line(row[0], vaes, "dci_rotated", 0, label="DCI, latents rotated", **grey)
        _plot_line(row[0], vaes, "dci_null", 2, **chance)
        row[0].set(ylabel="disentanglement (0 to 1)", title=f"{title}: disentanglement", ylim=(-0.05, 0.8))
        for k, n in enumerate(counts):
            for j, name in enumerate(MAPS):
                is_open = n != counts[-1]
                style = {
                    **figures.STYLES[name],
                    "fillstyle": "none" if is_open else "full",
                    "linestyle": "--" if is_open else "-",
                }
                group = select_records(alignments, method=name, n_pairs=n, rotated=False)
                _plot_line(row[1], group, "r2", 2 * k + j - 2, label=f"{name}, {n} pairs", **style)
        _plot_line(row[1], select_records(alignments, method="all pairs"), "r2", 2, **top)
        _plot_line(row[1], select_records(alignments, method="chance", n_pairs=counts[-1]), "r2", -3, **chance)
        row[1].set(ylabel="held-out R²", title=f"{title}: alignment", ylim=(-0.2, 1.05))
        row[1].set_yticks(np.arange(-0.2, 1.01, 0.2))
        for ax in row[:2]:
            ax.set_xscale("log", base=2)
            ax.set_xticks(betas(run), labels=[f"{beta:g}" for beta in betas(run)])
            ax.set_xlabel("beta (log scale)")
            figures.legend_beside(ax)
        for rotated, fill in ((False, "full"), (True, "none")):
            group = select_records(alignments, method="fused", n_pairs=counts[-1], rotated=rotated)
            r2_of = {(r["beta"], r["seed"]): r["r2"] for r in group}
            for k, beta in enumerate(betas(run)):
                points = [r for r in select_records(vaes, beta=beta) if (beta, r["seed"]) in r2_of]
                x = [r["dci_rotated" if rotated else "dci"] for r in points]
                y = [r2_of[beta, r["seed"]] for r in points]
                label = f"beta {beta:g}" if not rotated else "open: rotated" if k == 0 else None
                row[2].plot(x, y, "osD^vP*"[k], color="black", fillstyle=fill, markersize=6, label=label)
        row[2].set(
            xlabel="DCI disentanglement",
            ylabel=f"held-out R², fused, {counts[-1]} pairs",
            title=f"{title}: R² and DCI",
        )
        figures.legend_beside(row[2])
    n = sizes(run)
    caption = (
        f"Above SIMULATED, below real; {N_LATENTS} latents, {run.n_seeds} seed(s), bars 95 % CI; {n.factors} images measure, "
        f"{n.align // 5} held out of alignment; right: one mark for each VAE"
    )
    save_panels(figure, run, "disentanglement", caption)


def draw_known_truth(run: Run, truth: list[Record]) -> None:
    """Draw scenes, and R^2 of rotated true factors against their DCI."""
    figure, axes = make_panels(2, 6.0, 4.2)
    figures.contact_sheet(
        factor_data(run, "scenes").measured[:40], ax=axes[0], n_columns=8, title="SIMULATED scenes (24 x 24 pixels)"
    )
    for name in MAPS:
        results = [[mean_ci([r[c] for r in select_records(truth, turn=t)]) for t in turns(run)] for c in ("dci", name)]
        axes[1].errorbar(
            [m for m, _ in results[0]], [m for m, _ in results[1]], yerr=[np.nan_to_num(h) for _, h in results[1]], capsize=2,
            label=f"{name}, {N_PAIRS[-1]} pairs", **figures.STYLES[name],
        )  # fmt: skip
    axes[1].axhline(0, color="0.6", linestyle=":", label="chance (0)")
    axes[1].set(xlabel="DCI disentanglement of the turned code", ylabel="held-out R² (ceiling 1)", ylim=(-0.05, 1.02))
    axes[1].set_title("true factors as a code, turned (simulated)", fontsize="medium")
    figures.legend_beside(axes[1])
    caption = f"{run.n_seeds} seed(s), bars 95 % CI; {sizes(run).align // 5} scenes held out"
    save_panels(figure, run, "known_truth", caption)
