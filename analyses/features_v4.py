"""The V4 figure of docs/features.md: predictivity of real images by depth of the layer.

    python analyses/features_v4.py --mirror DIR [--figure docs/figures/features_v4.png] [--out docs/results/features_v4.json]

Layers are chosen on the first 512 images, on which the arguments of GaborEnergy were also chosen;
the last 128 have no part in either.
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
from neurobridge.assemblies import average_repetitions
from neurobridge.datasets import load
from neurobridge.evaluate import aggregate, internal_consistency, select_layer
from neurobridge.features import REFERENCES, GaborEnergy, Preprocess, extract, train_reference
from neurobridge.store.atomic import write_json

N_TRAIN = 512


def main(
    mirror: Annotated[Path | None, typer.Option("--mirror")] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    figure_file: Annotated[Path, typer.Option("--figure")] = Path("docs/figures/features_v4.png"),
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/features_v4.json"),
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    v4: Any = load("cowley2023-v4-210325", mirror=mirror)
    recordings = average_repetitions(v4.recordings)
    ceiling = internal_consistency(v4.recordings)["ceiling"]
    train = v4.images["stimulus_id"].values[:N_TRAIN]
    small = Preprocess(size=32)
    trained = train_reference(
        "conv_contrastive",
        v4.images.isel(presentation=slice(N_TRAIN)),
        epochs=40,
        batch_size=128,
        preprocess=small,
        seed=seed,
    )
    pixels = torch.nn.Sequential()
    pixels.add_module("pixels", torch.nn.Identity())
    activations = {
        "8 x 8 pixels": extract(pixels, v4.images, "pixels", preprocess=Preprocess(size=8)),
        "GaborEnergy": extract(GaborEnergy(), v4.images, ["colour", "v1", "v2"]),
        "conv_contrastive": extract(
            trained.model, v4.images, REFERENCES["conv_contrastive"].layers, preprocess=trained.preprocess
        ),
    }
    choices: dict[str, Any] = {
        name: select_layer(assembly, recordings, train=train, regression="ridge", ceiling=ceiling, seed=seed)
        for name, assembly in activations.items()
    }
    results: dict[str, Any] = {
        name: {
            "layer": choice.layer,
            "by_layer": dict(
                zip(
                    choice.scores["layer"].values.tolist(),
                    np.median(choice.scores["raw"], axis=2).mean(axis=1).round(4).tolist(),
                    strict=True,
                )
            ),
            "held_out": aggregate(choice.held_out),
        }
        for name, choice in choices.items()
    }
    bound = float(np.sqrt(np.median(ceiling)))
    figure, axes = plt.subplots(1, 2, figsize=(13, 3.9), layout="constrained")
    figures.layer_profile(
        {name: choice.scores for name, choice in choices.items()},
        ax=axes[0],
        ceiling=bound,
        title=f"macaque V4, {recordings.sizes['neuroid']} neurons, {N_TRAIN} images",
    )
    best = choices["GaborEnergy"]
    figures.sites(
        {"ridge": best.held_out},
        ax=axes[1],
        title=f"GaborEnergy {best.layer}, {best.scores.attrs['n_held_out']} other images",
    )
    figures.panel_letters(axes)
    figure.savefig(figure_file, dpi=150)
    write_json({"seed": seed, "ceiling_r": bound, "models": results}, out_file)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    run_script(main, __doc__)
