"""The RSA figure of docs/features.md: kriegeskorte2008 beside monkey and human IT.

python analyses/features_rsa.py --mirror DIR [--figure docs/figures/features_rsa.png] [--out
docs/results/features_rsa.json]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from analyses.parts.script import run_script
from neurobridge import figures
from neurobridge.datasets import load
from neurobridge.evaluate import rdm
from neurobridge.evaluate.similarity.comparators import compare_rdms, rdm_scorer
from neurobridge.evaluate.similarity.rdms import rdm_noise_ceiling
from neurobridge.features import GaborEnergy, Preprocess, extract
from neurobridge.store.atomic import write_json

N_PERMUTATIONS = 1000


def main(
    mirror: Annotated[Path | None, typer.Option("--mirror")] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    figure_file: Annotated[Path, typer.Option("--figure")] = Path("docs/figures/features_rsa.png"),
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/features_rsa.json"),
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    kriegeskorte: Any = load("kriegeskorte2008", mirror=mirror)
    n = kriegeskorte.images.sizes["presentation"]
    upper = np.triu_indices(n, 1)
    subjects = sorted({name for name in kriegeskorte.rdms["subject"].values.tolist() if len(name) == 2})
    human = np.stack(
        [kriegeskorte.rdms.values[kriegeskorte.rdms["subject"].values == name].mean(axis=0)[upper] for name in subjects]
    )
    monkey = kriegeskorte.rdms.values[kriegeskorte.rdms["species"].values == "monkey"][0][upper]
    lower_bound, upper_bound = rdm_noise_ceiling(human)
    pixels = torch.nn.Sequential()
    pixels.add_module("pixels", torch.nn.Identity())
    layers = ["colour", "v1", "v2"]
    gabor = extract(GaborEnergy(), kriegeskorte.images, layers)
    models = {"pixels 32 x 32": extract(pixels, kriegeskorte.images, "pixels", preprocess=Preprocess(size=32))}
    models |= {f"Gabor {layer}": gabor.isel(neuroid=np.flatnonzero(gabor["layer"].values == layer)) for layer in layers}
    rdms = {name: rdm(activations).values[upper] for name, activations in models.items()}
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(N_PERMUTATIONS)]
    results, nulls = {}, []
    for name, model in rdms.items():
        scorers = [rdm_scorer(model, item, n) for item in human]
        null = np.array([np.mean([score(order) for score in scorers]) for order in orders])
        nulls.append(null)
        by_subject = [compare_rdms(model, item) for item in human]
        results[name] = {
            "human": float(np.mean(by_subject)),
            "by_subject": by_subject,
            "p_value": float((1 + (null >= np.mean(by_subject)).sum()) / (1 + N_PERMUTATIONS)),
            "monkey": compare_rdms(model, monkey),
        }
    results["monkey IT"] = {
        "human": float(np.mean(by_subject := [compare_rdms(monkey, item) for item in human])),
        "by_subject": by_subject,
    }
    chance = float(np.quantile(np.stack(nulls), 0.95))
    figure, axes = plt.subplots(1, 3, figsize=(14.5, 3.9), layout="constrained", width_ratios=[1.5, 1, 1])
    positions = np.arange(len(results))
    axes[0].axhspan(
        lower_bound, upper_bound, color="0.85", label=f"noise ceiling {lower_bound:.2f} to {upper_bound:.2f}"
    )
    axes[0].axhline(chance, label=f"chance (95th pct.) {chance:.2f}", **figures.CHANCE)
    axes[0].bar(
        positions,
        [row["human"] for row in results.values()],
        color=figures.PALETTE["bridge"],
        edgecolor="black",
        label="human IT, mean",
    )
    for position, row in zip(positions, results.values(), strict=True):
        axes[0].plot([position] * len(subjects), row["by_subject"], "o", color="black", markersize=3,
                     label="each of 4 subjects" if position == 0 else None)  # fmt: skip
        if "monkey" in row:
            axes[0].plot(
                position,
                row["monkey"],
                "D",
                color=figures.PALETTE["fused"],
                markersize=6,
                label="monkey IT" if position == 0 else None,
            )
    axes[0].set_xticks(positions, labels=list(results), rotation=20, ha="right", rotation_mode="anchor")
    axes[0].set(ylabel="Spearman's rho of dissimilarities", title=f"{n} images, {len(upper[0])} pairs")
    figures.legend_beside(axes[0])
    squares = {"Gabor v2": rdms["Gabor v2"], f"human IT, mean of {len(subjects)}": human.mean(axis=0)}
    for axis, (name, condensed) in zip(axes[1:], squares.items(), strict=True):
        square = np.zeros((n, n))
        # Rank-transformed, as Spearman's rho sees them.
        square[upper] = condensed.argsort().argsort() / (len(condensed) - 1)
        picture = axis.imshow(square + square.T, cmap="cividis", interpolation="nearest")
        axis.set(title=name, xlabel="image", ylabel="image")
    figure.colorbar(picture, ax=axes[2], label="dissimilarity, 1 - r (rank)")
    figures.panel_letters(axes)
    figure.savefig(figure_file, dpi=150)
    out = {"seed": seed, "noise_ceiling": [lower_bound, upper_bound], "chance_95": chance, "models": results}
    write_json(out, out_file)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    run_script(main, __doc__)
