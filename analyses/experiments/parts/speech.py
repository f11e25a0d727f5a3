"""Images of digits, spoken digits and captions as three frozen spaces; encoders trained without labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.datasets import load
from neurobridge.features import extract, log_mel, train_reference
from neurobridge.study.harness import Run

from .classes import Space, make_head, turned_components
from .mnist import N_CAPTIONS, captions, digit_head, digits, kept_reference

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
#: The published split; any other split holds out every recording of one speaker.
OFFICIAL = "official"
SPLITS = (OFFICIAL, *SPEAKERS)
#: Recordings of a speaker and digit that no split trains on: the published test set.
N_TEST = 5
N_IMAGES, N_TEST_IMAGES = 6000, 1000
#: Of the encoder of sounds: bands and parts of the duration, and principal components that are kept.
N_MELS, N_PARTS, N_COMPONENTS = 40, 16, 60
#: Name, layer and arguments of the encoder of images, and the number of its training images.
IMAGE_ENCODER, IMAGE_LAYER = "conv_contrastive", "encoder.latents"
IMAGE_ARGUMENTS, N_ENCODER = {"width": 16, "epochs": 4}, 20_000


class Recordings(NamedTuple):
    """Log-mel spectrograms of all recordings, (n, bands times parts), and who says what in them."""

    spectrograms: np.ndarray
    digit: np.ndarray
    speaker: np.ndarray
    number: np.ndarray


def recordings(run: Run) -> Recordings:
    """Load the spoken digits once in a process."""

    def make() -> Recordings:
        data: Any = load("fsdd", mirror=run.mirror)
        sounds = data.sounds
        if run.quick:
            sounds = sounds.isel(presentation=np.flatnonzero(sounds["index"].values < 3 * N_TEST))
        values = log_mel(sounds, n_mels=N_MELS, n_parts=N_PARTS)
        columns = [values[name].values for name in ("category_name", "speaker", "index")]
        return Recordings(values.values.astype(float), columns[0].astype(str), columns[1].astype(str), columns[2])

    return run.once("recordings", make)


def sound_rows(speaker: np.ndarray, index: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are trained on and those that are tested on.

    Parameters
    ----------
    speaker, index : arrays of shape (n,)
        Who speaks, and the number of the recording among those of its speaker and digit.
    split : str
        "official", or a speaker of whom nothing is trained on.
    """
    trained, tested = index >= N_TEST, index < N_TEST
    if split != OFFICIAL:
        trained, tested = trained & (speaker != split), speaker == split
    return np.flatnonzero(trained), np.flatnonzero(tested)


def sound_space(run: Run, split: str) -> Space:
    """Return the spoken digits as principal components of the training recordings' log-mel spectrograms."""

    def make() -> Space:
        spoken = recordings(run)
        train, test = sound_rows(spoken.speaker, spoken.number, split)
        points = turned_components(spoken.spectrograms[train], spoken.spectrograms[test], N_COMPONENTS)
        labels = spoken.digit[train]
        return Space("sounds", points[0], labels, points[1], spoken.digit[test], make_head(points[0], labels))

    return run.once(f"sounds {split}", make)


def sound_pictures(run: Run, split: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the spectrograms of training and test as grey pictures, for a net that is trained end to end."""
    spoken = recordings(run)
    train, test = sound_rows(spoken.speaker, spoken.number, split)
    low, high = np.quantile(spoken.spectrograms[train], (0.01, 0.99))
    grey = np.uint8(255 * np.clip((spoken.spectrograms - low) / (high - low), 0, 1)).reshape(-1, N_MELS, N_PARTS)
    pictures = xr.DataArray(
        grey, dims=("presentation", "row", "column"),
        coords={
            "category_name": ("presentation", spoken.digit),
            "stimulus_id": ("presentation", [f"recording-{k}" for k in range(len(grey))]),
        },
    )  # fmt: skip
    return pictures[train], pictures[test]


def image_space(run: Run) -> Space:
    """Return images of digits as latents of a contrastive encoder of training images."""

    def make() -> Space:
        mnist = digits(run)
        n_train, n_test = (1000, 200) if run.quick else (N_IMAGES, N_TEST_IMAGES)
        if run.quick:
            encoder = train_reference(IMAGE_ENCODER, mnist.train[:n_train], seed=0, epochs=1)
        else:
            encoder = kept_reference(IMAGE_ENCODER, mnist.train[:N_ENCODER], seed=0, **IMAGE_ARGUMENTS)
        points = [
            extract(encoder.model, part, IMAGE_LAYER, preprocess=encoder.preprocess, batch_size=500).values.astype(
                float
            )
            for part in (mnist.train[:n_train], mnist.test[:n_test])
        ]
        labels = mnist.labels[:n_train]
        return Space("images", points[0], labels, points[1], mnist.test_labels[:n_test], make_head(points[0], labels))

    return run.once("images", make)


def caption_space(run: Run) -> Space:
    """Return captions of digits as MiniLM embeddings; held-out ones are in wordings that nothing was fitted on."""

    def make() -> Space:
        text = captions(run, 200 if run.quick else N_CAPTIONS)
        head: Any = digit_head(run, text)
        return Space("captions", text.pool, text.labels, text.new, text.new_labels, head)

    return run.once("caption space", make)


def space_of(run: Run, name: str, split: str) -> Space:
    """Return one of the three spaces."""
    if name == "sounds":
        return sound_space(run, split)
    return image_space(run) if name == "images" else caption_space(run)


def digests(run: Run) -> dict[str, str]:
    """Return the digests of the files of images and sounds."""
    return {**digits(run).digests, **load("fsdd", mirror=run.mirror).attrs["digests"]}
