"""`neurobridge features train`: a reference model from a seed, with its card."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from neurobridge.cli.choices import REFERENCES
from neurobridge.cli.common import Json, Mirror, Seed, print_json, print_tables


def train_command(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(REFERENCES)}.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights (safetensors) and the model card.")],
    dataset: Annotated[str, typer.Option(help="Dataset with images; of mnist, the training part.")] = "mnist",
    n_images: Annotated[
        int | None, typer.Option("--images", min=2, help="Images drawn to train on (default: all).")
    ] = None,
    labels: Annotated[str, typer.Option(help="Coordinate with the classes; conv_net alone uses it.")] = "category_name",
    size: Annotated[int | None, typer.Option(min=4, help="Resize the images to this many pixels a side.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images (default: the recipe's).")] = None,
    latents: Annotated[
        int | None, typer.Option(min=1, help="Latent dimensions of conv_vae (default 32) and conv_contrastive (64).")
    ] = None,
    beta: Annotated[float | None, typer.Option(min=0, help="Weight of the divergence in conv_vae (default 1).")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads; the weights may depend on it in the last bits.")] = 1,
    mirror: Mirror = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a small reference model on a dataset's images and write weights and model card."""
    import numpy as np

    from neurobridge.datasets import load
    from neurobridge.features import Preprocess, save_reference, train_reference

    images = load(dataset, mirror=mirror).images
    if images is None:
        raise ValueError(f"dataset {dataset!r}: found no images; expected some. Mend: choose mnist, for example.")
    if n_images is not None:
        n = images.sizes["presentation"]
        if n_images > n:
            raise ValueError(f"--images: found {n_images}; expected at most the {n} of {dataset}. Mend: leave it out.")
        images = images.isel(presentation=np.sort(np.random.default_rng(seed).choice(n, n_images, replace=False)))
    arguments: dict[str, Any] = {"n_latents": latents, "beta": beta}
    start = time.perf_counter()
    reference = train_reference(
        name,
        images,
        labels=labels,
        seed=seed,
        epochs=epochs,
        preprocess=None if size is None else Preprocess(size=size),
        threads=threads,
        progress=not as_json,
        **{key: value for key, value in arguments.items() if value is not None},
    )
    seconds = time.perf_counter() - start
    save_reference(reference, out)
    card = reference.card
    losses = card["training"]["losses"] if card["training"] else []
    summary = {
        "out": str(out),
        "name": name,
        "seed": seed,
        "n_images": images.sizes["presentation"],
        "n_parameters": card["n_parameters"],
        "final_loss": losses[-1] if losses else None,
        "weights_digest": card["weights_digest"],
        "seconds": round(seconds, 1),
    }
    if as_json:
        print_json(summary)
    else:
        rows = [[key, value] for key, value in summary.items()]
        print_tables([{"title": f"reference {name}", "columns": ["what", "value"], "rows": rows}])
