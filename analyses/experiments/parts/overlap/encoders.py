"""Encoders of the same stimuli, by set: networks, filters, recordings, latents and captions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from neurobridge.assemblies import average_repetitions
from neurobridge.assemblies.schema import NEUROID, PRESENTATION
from neurobridge.datasets import load
from neurobridge.features import GaborEnergy, Preprocess, captions_from_templates, embed_text, extract, train_reference
from neurobridge.study.harness import Run

from ..common import site_halves
from ..digits import WORDS

ENCODERS = {
    "MNIST": ("pixels", "conv_net", "conv_vae", "conv_contrastive", "gabor", "captions"),
    "V4": ("V4", "pixels", "colour", "v1", "v2"),
    "IT": ("IT half 1", "IT half 2", "latents: object", "latents: pose"),
    "Flickr8k": ("CLIP", "MiniLM"),
    "SIMULATED": ("IT", "V4", "v1", "v2", "latents"),
}
LABELS = {"MNIST": "category_name", "IT": "object_name", "SIMULATED": "category_name"}


def encoders_of(run: Run, name: str) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    """Return the encoders of a set, by name, and the digests of its data."""
    makers = {
        "MNIST": mnist_encoders,
        "V4": v4_encoders,
        "IT": it_encoders,
        "Flickr8k": flickr_encoders,
        "SIMULATED": simulated_encoders,
    }
    return run.once(name, lambda: makers[name](run))


def layer_encoders(
    images: xr.DataArray, layers: tuple[str, ...], *, size: int = 8, preprocess: Preprocess | None = None
) -> dict[str, xr.DataArray]:
    """Return pixels and layers of the Gabor model as encoders."""
    pixels = torch.nn.Sequential()
    pixels.add_module("pixels", torch.nn.Identity())
    return {
        "pixels": extract(pixels, images, "pixels", preprocess=Preprocess(size=size)),
        **{layer: extract(GaborEnergy(), images, layer, preprocess=preprocess) for layer in layers},
    }


def mnist_encoders(run: Run) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    """Return six encoders of real MNIST digits."""
    train, test = (load("mnist", part=part, mirror=run.mirror) for part in ("train", "test"))
    images: Any = test.images
    images = images.isel({PRESENTATION: slice(400)})
    training_images: Any = train.images
    training_images = training_images.isel({PRESENTATION: slice(5000)})
    label = LABELS["MNIST"]
    sides = layer_encoders(images, ("v1",), preprocess=Preprocess(size=56))
    sides["gabor"] = sides.pop("v1")
    kinds: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("conv_net", "features", {"labels": label}),
        ("conv_vae", "encoder.mean", {}),
        ("conv_contrastive", "encoder.latents", {}),
    )
    for kind, layer, options in kinds:
        reference = train_reference(kind, training_images, seed=run.seed, **options)
        sides[kind] = extract(reference.model, images, layer, preprocess=reference.preprocess)
    digits = [str(value) for value in images[label].values]
    captions = captions_from_templates(
        [WORDS[digit] for digit in digits], stimulus_id=images["stimulus_id"].values.tolist(), seed=run.seed
    )
    captions[label] = digits
    sides["captions"] = embed_text(captions)
    return sides, {**train.attrs["digests"], **test.attrs["digests"]}


def v4_encoders(run: Run) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    """Return real V4 beside pixels and Gabor layers."""
    data: Any = load("cowley2023-v4-210325", mirror=run.mirror)
    sides = {"V4": average_repetitions(data.recordings), **layer_encoders(data.images, ("colour", "v1", "v2"))}
    return sides, dict(data.attrs["digests"])


def object_and_pose(latents: xr.DataArray) -> dict[str, xr.DataArray]:
    """Split latents into those of the object and those of its pose."""
    is_object = np.char.startswith(latents["neuroid_id"].values.astype(str), "object=")
    columns_of = {"object": np.flatnonzero(is_object), "pose": np.flatnonzero(~is_object)}
    return {f"latents: {name}": latents.isel({NEUROID: columns}) for name, columns in columns_of.items()}


def it_encoders(run: Run) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    """Return halves of the real IT sites beside the latents of their stimuli."""
    data: Any = load("majajhong2015-it-v6", mirror=run.mirror)
    halves = site_halves(data.recordings)
    return {"IT half 1": halves[0], "IT half 2": halves[1], **object_and_pose(data.latents)}, dict(
        data.attrs["digests"]
    )


def flickr_encoders(run: Run) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    """Return CLIP and MiniLM embeddings of Flickr8k."""
    data: Any = load("clip-flickr8k", mirror=run.mirror)
    text = embed_text(pd.DataFrame(data.stimuli)[["stimulus_id", "caption"]])
    return {"CLIP": data.activations, "MiniLM": text}, dict(data.attrs["digests"])


def simulated_encoders(run: Run) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    """Return simulated IT and V4 beside Gabor layers and latents."""
    data: Any = load("simulated-hvm", images_per_object={0: 1, 3: 5}, n_repetitions=10, image_size=64, seed=run.seed)
    brain = average_repetitions(data.recordings).isel(time_bin=0, drop=True)
    sides = {region: brain.isel({NEUROID: np.flatnonzero(brain["region"].values == region)}) for region in ("IT", "V4")}
    layers = layer_encoders(data.images, ("v1", "v2"))
    return {**sides, "v1": layers["v1"], "v2": layers["v2"], "latents": data.latents}, dict(data.attrs["digests"])
