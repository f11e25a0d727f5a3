"""Natural images seen by a frozen network, and captions and names in a frozen text encoder."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.datasets import load
from neurobridge.datasets.files.places import cache_folder
from neurobridge.features import captions_from_templates, embed_text, extract, load_model
from neurobridge.study.harness import Run

from .classes import Space, make_head, turned_components

NETWORK, LAYER = "weights:efficientnet-lite0", "pool"
#: Pixels a side at which the network sees the images of CIFAR-10; those of ImageNet have the network's own size.
SIDE, QUICK_SIDE = 160, 64
#: Images a forward pass: small ones stay in the processor's cache.
_BATCH = 8
N_EACH, N_TEST_EACH = 1000, 200
#: Principal components of the features of the training images that all methods read.
N_COMPONENTS = 256
N_CAPTIONS = 2500
NAMES = {
    "airplane": ["airplane", "plane", "jet", "aircraft"], "automobile": ["automobile", "car", "sedan"],
    "bird": ["bird", "songbird"], "cat": ["cat", "kitten"], "deer": ["deer", "stag"], "dog": ["dog", "puppy"],
    "frog": ["frog", "toad"], "horse": ["horse", "pony"], "ship": ["ship", "boat", "vessel"],
    "truck": ["truck", "lorry"],
}  # fmt: skip
OPENINGS = (
    "a photo of", "a picture that shows", "here we see", "somebody photographed", "there is", "a blurred image of",
    "one can make out", "the camera caught",
)  # fmt: skip
PHRASES = ("{a}", "the {label}", "a small {label}", "a large {label}", "one {label}", "some kind of {label}")
SCENES = ("", "in daylight", "from the side", "at a distance", "close to the camera", "on a cloudy day")
WORDINGS = [f"{opening} {phrase} {scene}".strip() for opening in OPENINGS for phrase in PHRASES for scene in SCENES]


class Named(NamedTuple):
    """One image of each class as features, (n, n_units), and the embedded names of the classes, (n, n_dims)."""

    images: np.ndarray
    names: np.ndarray


def cifar_images(run: Run, part: str) -> xr.DataArray:
    """Return the first images of each class of a part of CIFAR-10, the same number of each."""
    each = (15 if part == "train" else 5) if run.quick else N_EACH if part == "train" else N_TEST_EACH
    images = cifar(run, part).images
    labels = images["category_name"].values
    rows = [np.flatnonzero(labels == name)[:each] for name in sorted(NAMES)]
    return images[np.sort(np.concatenate(rows))]


def cifar(run: Run, part: str) -> Any:
    """Load a part of CIFAR-10 once in a process."""
    return run.once(f"cifar {part}", lambda: load("cifar10", part=part, mirror=run.mirror))


def features(run: Run, images: xr.DataArray, **changes: Any) -> np.ndarray:
    """Return the pooled activations of the network, (n, 1280); a finished extraction is kept for the next run.

    The changes are to the preprocessing that was published with the weights.
    """
    loaded = run.once("network", lambda: load_model(NETWORK))
    preprocess = dataclasses.replace(loaded.preprocess, **changes | ({"size": QUICK_SIDE} if run.quick else {}))
    kept: dict[str, Any] = {} if run.quick else {"cache": cache_folder() / "natural_images"}
    values = extract(
        loaded.model, images, LAYER, batch_size=_BATCH, preprocess=preprocess, identifier=loaded.identifier, **kept
    )
    return np.asarray(values.values, dtype=float)


def image_space(run: Run) -> Space:
    """Return CIFAR-10 images as principal components of the network's features, fitted on the training images."""

    def make() -> Space:
        parts = [cifar_images(run, part) for part in ("train", "test")]
        points = [features(run, part, size=SIDE, crop=None) for part in parts]
        mean, std = points[0].mean(axis=0), points[0].std(axis=0) + 1e-6
        scaled = [(side - mean) / std for side in points]
        train, test = turned_components(scaled[0], scaled[1], 64 if run.quick else N_COMPONENTS)
        labels, test_labels = (part["category_name"].values.astype(str) for part in parts)
        return Space("images", train, labels, test, test_labels, make_head(train, labels))

    return run.once("images", make)


def caption_space(run: Run) -> Space:
    """Return captions of the classes as MiniLM embeddings; held-out ones are in wordings that nothing was fitted on."""

    def make() -> Space:
        order = np.random.default_rng(0).permutation(len(WORDINGS))
        cut = len(WORDINGS) * 5 // 6
        sides: list[np.ndarray] = []
        for part, each in ((order[:cut], 15 if run.quick else N_CAPTIONS // 10), (order[cut:], 5 if run.quick else 80)):
            wordings = [WORDINGS[k] for k in part]
            text = embed_text(captions_from_templates(sorted(NAMES), wordings, names=NAMES, n_captions=each))
            sides += [text.values.astype(float), text["category_name"].values.astype(str)]
        train, labels, test, test_labels = sides
        return Space("captions", train, labels, test, test_labels, make_head(train, labels))

    return run.once("captions", make)


def sample(run: Run) -> Any:
    """Load the sample of ImageNet once in a process."""
    return run.once("sample", lambda: load("imagenet-sample", mirror=run.mirror))


def named(run: Run) -> Named:
    """Return one image of each ImageNet class, and the names of the classes."""

    def make() -> Named:
        images = sample(run).images[:: 10 if run.quick else 1]
        text = embed_text([f"a photo of a {name}" for name in images["category_name"].values])
        return Named(features(run, images), text.values.astype(float))

    return run.once("named", make)


def views(images: xr.DataArray, copies: int, seed: int) -> xr.DataArray:
    """Add copies of each image, mirrored or not and shifted by up to four pixels."""
    rng = np.random.default_rng([seed, 29])
    pixels = images.values
    n, height, width = pixels.shape[:3]
    padded = np.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    parts = [pixels]
    for _ in range(copies):
        down: np.ndarray = rng.integers(9, size=(n,))
        right: np.ndarray = rng.integers(9, size=(n,))
        flip: np.ndarray = rng.random((n,)) < 0.5
        rows = down[:, None, None] + np.arange(height)[None, :, None]
        columns = right[:, None, None] + np.where(flip[:, None], np.arange(width)[::-1], np.arange(width))[:, None, :]
        parts.append(padded[np.arange(n)[:, None, None], rows, columns])
    labels = np.tile(images["category_name"].values.astype(str), copies + 1)
    return xr.DataArray(np.concatenate(parts), dims=images.dims, coords={"category_name": ("presentation", labels)})


def digests(run: Run) -> dict[str, str]:
    """Return the digests of the files of both sets."""
    return {
        **{f"cifar10/{name}": value for name, value in cifar(run, "train").attrs["digests"].items()},
        **{f"imagenet-sample/{name}": value for name, value in sample(run).attrs["digests"].items()},
    }
