"""Real MNIST beside captions of many wordings: frozen encoders, the pools, the digit head, and training end to end."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from _digits import NAMES
from sklearn.linear_model import LogisticRegression

from neurobridge.datasets import load
from neurobridge.datasets.files import cache_folder
from neurobridge.experiment import Run
from neurobridge.features import captions_from_templates, embed_text, extract
from neurobridge.features import conv as conv_module
from neurobridge.features import training as training_module
from neurobridge.features.conv import random_views
from neurobridge.features.training import Reference, load_reference, save_reference, train_reference

DIGITS = list(NAMES)
N_DEVELOPMENT = 10_000
"""The first training digits: settings were looked at on them, and no run draws a pool of them."""

WHO = (
    "somebody wrote", "a child drew", "the clerk noted", "a student copied", "here we see", "this shows", "there is",
    "one can read",
)  # fmt: skip
WHAT = (
    "{a}", "the digit {label}", "the number {label}", "a handwritten {label}", "the numeral {label}",
    "a carefully drawn {label}", "a sketchy {label}", "the figure {label}", "a small {label}", "the symbol {label}",
)  # fmt: skip
WHERE = ("", "on paper", "in ink", "on a white card", "in the corner of a page", "on the blackboard")
WORDINGS = [f"{who} {what} {where}".strip() for who in WHO for what in WHAT for where in WHERE]

#: name -> reference, layer, arguments of its training. Every one is trained on the images alone.
ENCODERS: dict[str, tuple[str, str, dict[str, int]]] = {
    "contrastive": ("conv_contrastive", "encoder.latents", {"width": 32, "epochs": 12}),
    "contrastive, short": ("conv_contrastive", "encoder.latents", {"width": 16, "epochs": 3}),
    "VAE": ("conv_vae", "encoder.mean", {"epochs": 3}),
}


class Digits(NamedTuple):
    """Images and digits, official parts."""

    train: xr.DataArray
    test: xr.DataArray
    labels: np.ndarray
    test_labels: np.ndarray
    digests: dict[str, str]


class Captions(NamedTuple):
    """Embedded captions with their digits: those of the pool, and those in wordings that nothing was fitted on."""

    pool: np.ndarray
    labels: np.ndarray
    new: np.ndarray
    new_labels: np.ndarray


def digits(run: Run) -> Digits:
    """MNIST, once a process."""

    def make() -> Digits:
        train, test = (load("mnist", part=part, mirror=run.mirror) for part in ("train", "test"))
        images = [one.images for one in (train, test)]
        labels = [one["category_name"].values.astype(str) for one in images]
        return Digits(*images, *labels, {**train.attrs["digests"], **test.attrs["digests"]})

    return run.once("digits", make)


def kept_reference(name: str, images: xr.DataArray, **arguments: Any) -> Reference:
    """Train a reference, or read it back if the same was trained before (same code, images and arguments)."""
    sha = hashlib.sha256(json.dumps([name, arguments], sort_keys=True).encode())
    for module in (conv_module, training_module):
        sha.update(Path(str(module.__file__)).read_bytes())
    sha.update(np.ascontiguousarray(images.values).data)
    folder = cache_folder() / "references" / f"{name}-{sha.hexdigest()[:16]}"
    if not (folder / training_module.CARD).exists():
        save_reference(train_reference(name, images, **arguments), folder)
    return load_reference(folder)


def latents(run: Run, encoder: str) -> tuple[np.ndarray, np.ndarray]:
    """What a frozen encoder says of the training and of the test images, (60000, d) and (10000, d)."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        name, layer, arguments = ENCODERS[encoder]
        found = digits(run)
        if run.quick:
            reference = train_reference(name, found.train[:3000], seed=0, epochs=2)
        else:
            reference = kept_reference(name, found.train, seed=0, **arguments)
        sides = (found.train[: 4000 if run.quick else None], found.test[: 1000 if run.quick else None])
        read = [extract(reference.model, one, layer, preprocess=reference.preprocess, batch_size=512) for one in sides]
        return read[0].values.astype(float), read[1].values.astype(float)

    return run.once(f"latents of {encoder}", make)


def captions(run: Run, n: int = 4000) -> Captions:
    """Different captions, as many of each digit, in five sixths of the wordings; and 800 in the others."""

    def make() -> Captions:
        order = np.random.default_rng(0).permutation(len(WORDINGS))
        cut = len(WORDINGS) * 5 // 6
        out = []
        for part, count in ((order[:cut], n // 10), (order[cut:], 10 if run.quick else 80)):
            table = captions_from_templates(DIGITS, [WORDINGS[k] for k in part], names=NAMES, n_captions=count)
            text = embed_text(table)
            out += [text.values.astype(float), text["category_name"].values.astype(str)]
        return Captions(*out)

    return run.once(f"captions {n}", make)


def digit_head(run: Run, text: Captions) -> LogisticRegression:
    """Reads a digit from an embedded caption; fitted on captions alone, once a process."""
    return run.once(
        f"head {len(text.pool)}", lambda: LogisticRegression(C=100, max_iter=2000).fit(text.pool, text.labels)
    )


def said_of(labels: np.ndarray, text: Captions, rng: np.random.Generator) -> np.ndarray:
    """A row of the captions for every image, of its digit."""
    said = np.empty(len(labels), dtype=int)
    for digit in DIGITS:
        own = np.flatnonzero(labels == digit)
        said[own] = rng.choice(np.flatnonzero(text.labels == digit), len(own))
    return said


def balanced(labels: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of n images, as many of each digit as there are (to one), in random order."""
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), dtype=int)
    for digit in DIGITS:
        own = order[labels[order] == digit]
        rank[own] = np.arange(len(own))
    # Of the last incomplete round, some digits at random.
    turn = np.lexsort((rng.random(len(labels)), rank))
    return rng.permutation(turn[:n])


def end_to_end(images: xr.DataArray, *, augmented: bool, seed: int, steps: int = 1200) -> Reference:
    """The conv net trained on the labels of these images alone, or on random views of them.

    Views are made anew until there are 20,000 images or ten views of each, whichever is fewer or comes to one view at least.
    """
    n = images.sizes["presentation"]
    if augmented:
        images = with_views(images, max(1, min(200, 20_000 // n)), seed)
        n = images.sizes["presentation"]
    batch = int(np.clip(n // 8, 8, 128))
    return train_reference("conv_net", images, seed=seed, batch_size=batch, epochs=max(3, -(-steps * batch // n)))


def with_views(images: xr.DataArray, copies: int, seed: int) -> xr.DataArray:
    """The images, and random views of each."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.from_numpy(np.ascontiguousarray(images.values)).float().div(255)[:, None]
    views = [np.uint8(255 * random_views(pixels, generator)[:, 0].clamp(0, 1).numpy()) for _ in range(copies)]
    labels = np.tile(images["category_name"].values, copies + 1)
    return xr.DataArray(
        np.concatenate([images.values, *views]),
        dims=images.dims,
        coords={"category_name": ("presentation", labels)},
    )


def named(reference: Reference, images: xr.DataArray) -> np.ndarray:
    """What a classifier calls the images."""
    scores = extract(reference.model, images, "head", preprocess=reference.preprocess, batch_size=512).values
    return np.asarray(reference.card["classes"])[scores.argmax(axis=1)]
