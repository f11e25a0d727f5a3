"""The table of docs/features.md: what the latents of the reference models tell of real digits.

    python analyses/features_references.py --mirror DIR [--kept results/references] [--out docs/results/features_references.json]

Each reference is trained on the 60,000 digits of MNIST's training part and kept; one that is kept
already is read. Its readouts are fitted on the first 10,000 of them and tested on the 10,000 of
the test part. Processor seconds, not wall: other work on the machine counts less.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from analyses.parts.script import one_of, run_script
from neurobridge.datasets import load
from neurobridge.features import Reference, extract, load_reference, save_reference, train_reference
from neurobridge.store.atomic import write_json

LAYERS = {"conv_net": "features", "conv_vae": "encoder.mean", "conv_contrastive": "encoder.latents"}
N_FIT, N_LABELS, N_DRAWS = 10_000, 100, 5


def load_or_train(
    name: str, references_folder: Path, images: xr.DataArray, seed: int, threads: int
) -> tuple[Reference, float]:
    """Read a kept reference, or train and keep it.

    Returns it with the processor seconds of its training.
    """
    folder = references_folder / f"{name}-{seed}"
    if (folder / "card.json").exists():
        return load_reference(folder), float((folder / "seconds.txt").read_text())
    start = time.process_time()
    reference = train_reference(name, images, seed=seed, threads=threads)
    seconds = time.process_time() - start
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seconds.txt").write_text(f"{seconds:.1f}")
    save_reference(reference, folder)
    return reference, seconds


def quality(A: np.ndarray, a: np.ndarray, B: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return accuracies on (B, b) of readouts fitted on (A, a), or on 100 labelled rows of it."""
    mean, scale = A.mean(axis=0), A.std(axis=0).mean()
    A, B = (A - mean) / scale, (B - mean) / scale
    few_label_scores = []
    for draw in range(N_DRAWS):
        rows = np.random.default_rng(draw).choice(len(A), N_LABELS, replace=False)
        few_label_scores.append(
            (
                LogisticRegression(max_iter=1000).fit(A[rows], a[rows]).score(B, b),
                KNeighborsClassifier(1).fit(A[rows], a[rows]).score(B, b),
            )
        )
    variances = np.linalg.eigvalsh(np.cov(A.T))
    return {
        "linear": float(LogisticRegression(max_iter=300).fit(A, a).score(B, b)),
        "nearest_5": float(KNeighborsClassifier(5).fit(A, a).score(B, b)),
        "linear_100_labels": float(np.mean(few_label_scores, axis=0)[0]),
        "nearest_100_labels": float(np.mean(few_label_scores, axis=0)[1]),
        "effective_dimensions": float(variances.sum() ** 2 / (variances**2).sum()),
    }


def main(
    mirror: Annotated[Path | None, typer.Option("--mirror")] = None,
    references_folder: Annotated[Path, typer.Option("--kept")] = Path("results/references"),
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/features_references.json"),
    seed: Annotated[int, typer.Option("--seed")] = 0,
    n_threads: Annotated[int, typer.Option("--threads")] = 1,
    only: Annotated[list[str] | None, typer.Option("--only", callback=one_of(LAYERS), help="May be repeated.")] = None,
) -> None:
    train: Any = load("mnist", part="train", mirror=mirror).images
    test: Any = load("mnist", part="test", mirror=mirror).images
    fitted_on = train.isel(presentation=slice(N_FIT))
    results: dict[str, Any] = json.loads(out_file.read_text()) if out_file.exists() else {}
    for name in only or LAYERS:
        reference, seconds = load_or_train(name, references_folder, train, seed, n_threads)
        views = [extract(reference.model, part, LAYERS[name]).values.astype(float) for part in (fitted_on, test)]
        labels = [part["category_name"].values for part in (fitted_on, test)]
        card = reference.card
        results[name] = {
            "layer": LAYERS[name],
            "n_units": views[0].shape[1],
            "n_parameters": card["n_parameters"],
            "epochs": card["training"]["epochs"],
            "threads": card["training"]["threads"],
            "seed": card["training"]["seed"],
            "training_processor_seconds": round(seconds, 1),
            "final_loss": card["training"]["losses"][-1],
            "weights_digest": card["weights_digest"],
            **quality(views[0], labels[0], views[1], labels[1]),
        }
        print(name, json.dumps(results[name]), flush=True)
        write_json(results, out_file)


if __name__ == "__main__":
    run_script(main, __doc__)
