"""Frozen models, pools, couplings and the judge of the generation experiment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from neurobridge.assemblies import make_assembly
from neurobridge.bridge import Coupling, bridge_cost, couple, ridge_map
from neurobridge.datasets import load
from neurobridge.evaluate import generate, generation_fidelity
from neurobridge.features import Reference, captions_from_templates, embed_text, extract, train_reference
from neurobridge.study.harness import Run

from ..common import cosines
from ..digits import NAMES
from ..digits import WORDINGS as PLAIN_WORDINGS

WORDINGS = (
    *PLAIN_WORDINGS, "a drawing of the digit {label}", "here we see {a}", "the number {label}, written by hand",
    "what is shown is {a}",
)  # fmt: skip
NEW_WORDINGS = (
    "somebody drew {a}", "handwriting of the digit {label}", "the symbol {label} on a dark ground", "a number: {label}",
)  # fmt: skip
# Settings were chosen on the first 5,000 training digits and four other wordings; pools lie beyond these digits.
LATENTS, BETA = 24, 0.5
DEVELOPMENT, EPSILON, UNBALANCED = 10_000, 0.02, 0.1
DIGITS = list(NAMES)


class Size(NamedTuple):
    """Images that train the models and fill a pool, epochs, flow steps, and images made."""

    train: int
    pool: int
    vae_epochs: int
    contrastive_epochs: int
    n_steps: int
    n_made: int


class Models(NamedTuple):
    """Frozen models, embedded captions of both kinds of wording, images, and their latents."""

    judge: Reference
    vae: Reference
    captions: xr.DataArray
    new_captions: xr.DataArray
    test: xr.DataArray
    labels: np.ndarray
    latents: np.ndarray
    embeddings: np.ndarray


def size(run: Run) -> Size:
    """Return the size of a run."""
    return Size(3000, 600, 5, 1, 150, 400) if run.quick else Size(60_000, 6000, 6, 4, 2500, 2000)


def parts(run: Run) -> list[Any]:
    """Load the training and the test part of MNIST once in a process."""
    return run.once("mnist", lambda: [load("mnist", part=part, mirror=run.mirror) for part in ("train", "test")])


def frozen_models(run: Run) -> Models:
    """Train the models and compute all latents once in a process."""

    def make() -> Models:
        n = size(run)
        train, test = parts(run)
        images = train.images[: n.train]
        judge = train_reference("conv_net", images, seed=0)
        vae = train_reference(
            "conv_vae",
            images,
            seed=0,
            epochs=n.vae_epochs,
            batch_size=64 if run.quick else None,
            n_latents=LATENTS,
            beta=BETA,
        )
        contrastive = train_reference("conv_contrastive", images, seed=0, epochs=n.contrastive_epochs)

        def read_layer(model: Reference, layer: str) -> np.ndarray:
            return extract(model.model, images, layer, preprocess=model.preprocess, batch_size=512).values.astype(float)

        embeddings = read_layer(contrastive, "encoder.latents")
        text = [
            embed_text(captions_from_templates(DIGITS, wordings, names=NAMES, n_captions=2 * len(wordings)))
            for wordings in (WORDINGS, NEW_WORDINGS)
        ]
        return Models(
            judge, vae, text[0], text[1], test.images, images["category_name"].values.astype(str), read_layer(vae, "encoder.mean"),
            (embeddings - embeddings.mean(axis=0)) / embeddings.std(axis=0),
        )  # fmt: skip

    return run.once("models", make)


def draw_pool(run: Run, cell: dict[str, Any], frozen: Models) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a pool of images, the known ones among them, and a caption for every image.

    There are as many known images of each digit.
    """
    rng = np.random.default_rng([cell["seed"], 5])
    first = 0 if run.quick else DEVELOPMENT
    pool = first + rng.permutation(len(frozen.labels) - first)[: size(run).pool]
    pool_digits, caption_digits = frozen.labels[pool], frozen.captions["category_name"].values
    known_rows = np.concatenate([np.flatnonzero(pool_digits == digit)[: cell["n_pairs"] // 10] for digit in DIGITS])
    rows_of = {digit: np.flatnonzero(caption_digits == digit) for digit in DIGITS}
    return pool, known_rows, np.array([rng.choice(rows_of[digit]) for digit in pool_digits])


def couple_pool(
    frozen: Models, pool: np.ndarray, known_rows: np.ndarray, caption_rows: np.ndarray
) -> tuple[Any, np.ndarray, Any]:
    """Couple the captions of a pool with its images.

    Returns the map of captions to the space where distances are taken, the mapped captions, and
    the plans by balance.
    """
    text = frozen.captions.values.astype(float)
    used_captions, row = np.unique(caption_rows, return_inverse=True)
    embeddings = frozen.embeddings[pool]
    to_images = ridge_map(text[caption_rows[known_rows]], embeddings[known_rows])
    X = to_images(text[used_captions])
    cost = bridge_cost(X, embeddings, (row[known_rows], known_rows), metric=("cosine", "geodesic"))
    mass, uniform = np.bincount(row) / len(row), np.full(len(pool), 1 / len(pool))
    rhos = (UNBALANCED, None)
    plans = {rho: couple(cost, epsilon=EPSILON, unbalanced=rho, a=mass, b=uniform, tol=1e-4) for rho in rhos}
    return to_images, X, plans


def nearest_caption(X: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return the fitted caption nearest to each new one, by cosine."""
    return cosines(new, X).argmax(axis=1)


def draw_partners(plan: Coupling, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a partner of each caption from the plan's conditional."""
    used_rows, inverse = np.unique(rows, return_inverse=True)
    share = plan.conditional(used_rows)
    return np.array([rng.choice(share.shape[1], p=share[k]) for k in inverse])


def decode(frozen: Models, latents: np.ndarray, wanted: np.ndarray) -> xr.DataArray:
    """Decode latents into images with the frozen decoder."""
    assembly = make_assembly(
        np.asarray(latents, dtype=np.float32),
        presentation={"stimulus_id": [f"made-{k}" for k in range(len(latents))], "category_name": wanted},
        neuroid={"neuroid_id": [f"latent-{k}" for k in range(latents.shape[1])]},
    )
    return generate(assembly, frozen.vae.model.decoder)  # type: ignore[arg-type]


def score_images(frozen: Models, images: xr.DataArray, seed: int) -> dict[str, Any]:
    """Score images by the judge: agreement, Frechet distance and spread.

    Beside them stand as many reconstructions and real digits.
    """
    n, net = images.sizes["presentation"], frozen.judge.model
    real, other_images = frozen.test[:n], frozen.test[n : 2 * n]
    codes = extract(frozen.vae.model, other_images, "encoder.mean", preprocess=frozen.vae.preprocess, batch_size=512)
    rebuilt = decode(frozen, codes.values, other_images["category_name"].values.astype(str))

    def features(pixels: torch.Tensor) -> torch.Tensor:
        return net.features(net.conv2(net.conv1(pixels)))  # type: ignore[operator]

    score = generation_fidelity(
        images, "category_name", classifier=net, classes=DIGITS, features=features, real=real, reconstructions=rebuilt,
        n_permutations=200, seed=seed,
    )  # fmt: skip
    agreement, frechet = (score[key].values.tolist() for key in ("agreement", "frechet"))
    spreads = [within_class_variance(features, item) for item in (images, rebuilt, real)]
    return {
        "agreement": agreement[0], "agreement_reconstructed": agreement[1], "agreement_real": agreement[2],
        "frechet": frechet[0], "frechet_reconstructed": frechet[1], "frechet_real": frechet[2],
        "spread": spreads[0] / spreads[2], "spread_reconstructed": spreads[1] / spreads[2],
        "null_95": float(np.quantile(score["null"].values, 0.95)), "chance": float(score["null"].mean()), "n_images": n,
    }  # fmt: skip


def within_class_variance(features: Callable[[torch.Tensor], torch.Tensor], images: xr.DataArray) -> float:
    """Return the total variance of the features within a class, mean over classes."""
    pixels = images.values.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
    with torch.no_grad():
        values = features(torch.from_numpy(pixels[:, None])).numpy()
    labels = images["category_name"].values
    return float(np.mean([values[labels == digit].var(axis=0).sum() for digit in np.unique(labels)]))
