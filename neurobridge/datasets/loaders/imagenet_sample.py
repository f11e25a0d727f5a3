"""One image of each of the 1,000 ImageNet classes, read from their archive when they are needed."""

from __future__ import annotations

import os

import numpy as np
import xarray as xr
from PIL import Image

from neurobridge.assemblies import AssemblyError, read_table
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.archives import zip_images
from neurobridge.datasets.files.fetch import fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.datasets.loaders.imagenet import central_square, check_sizes

NAME = "imagenet-sample"
IMAGES, TABLE = "images.zip", "classes.csv"


def load(
    *, resize: int = 256, size: int = 256, chunk: int = 50, mirror: str | os.PathLike[str] | None = None
) -> Experiment:
    """Load 1,000 images, one of each class, from the archive; a chunk of images is in memory at a time.

    With the default sizes, the central crop that ImageNet models are tested with (0.875 of 256
    pixels) is still to be made, as the ``preprocess`` of `load_model` does.

    Parameters
    ----------
    resize : int
        Pixels of the shorter side, bilinear. It is 256 already in 903 images, and smaller in 97.
    size : int
        Pixels of the square that is cut from the centre, at most ``resize``.
    chunk : int
        Images a chunk.
    mirror : path, optional
        Folder with the files.

    Returns
    -------
    Experiment
        ``images`` (presentation 1000, row, column, channel 3), uint8, dask-backed, with the
        coordinates ``stimulus_id`` (the WordNet id), ``wnid``, ``category_name`` and
        ``class_index`` (0 to 999, by WordNet id, as networks number their outputs); ``stimuli``
        with the same labels and ``file``, the member of the archive.

    Raises
    ------
    ValueError
        Sizes out of range.
    AssemblyError
        The table lacks a column, or has a class twice.
    ArchiveError
        The archive is broken, or lacks images that the table names.
    """
    check_sizes(NAME, resize, size, chunk)
    paths = fetch(NAME, mirror=mirror)
    table = read_table(paths[TABLE], what="classes", required=("wnid", "class_name", "file"), numbers=False)
    if not table["wnid"].is_unique:
        raise AssemblyError(
            f"{paths[TABLE]}: found {table['wnid'].nunique()} classes in {len(table)} rows; expected each once. "
            "Mend: fetch it again."
        )
    stimuli = table.rename(columns={"class_name": "category_name"})[["wnid", "category_name", "file"]]
    stimuli = stimuli.assign(class_index=stimuli["wnid"].rank().astype(int) - 1)
    stimuli.insert(0, "stimulus_id", stimuli["wnid"])
    manifest = find_manifest(NAME)
    about = describe(manifest)

    def prepare(pixels: np.ndarray) -> np.ndarray:
        return central_square(Image.fromarray(pixels), resize, size)

    labels = ("stimulus_id", "wnid", "category_name")
    images = xr.DataArray(
        zip_images(paths[IMAGES], stimuli["file"].tolist(), chunk=chunk, mode="RGB", prepare=prepare),
        dims=("presentation", "row", "column", "channel"),
        coords={
            **{name: ("presentation", stimuli[name].to_numpy().astype(str)) for name in labels},
            "class_index": ("presentation", stimuli["class_index"].to_numpy()),
        },
        attrs=assembly_attrs(manifest, about),
    )
    return make_experiment(manifest, about, stimuli, images=images)
