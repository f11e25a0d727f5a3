"""CIFAR-10 as JPEG files: 60,000 colour images of ten classes, read from their archive when they are needed."""

from __future__ import annotations

import os
import re

import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.archives import KeptArchive, zip_images
from neurobridge.datasets.files.fetch import fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.points.options import is_choice

NAME = "cifar10"
IMAGES = "images.zip"
PARTS = ("train", "test", "all")
_MEMBER = re.compile(r"(train|test)/([a-z]+)/(\d{4})\.jpg")


def load(*, part: str = "train", chunk: int = 256, mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load one part of CIFAR-10, or both, from the archive; a chunk of images is in memory at a time.

    The images are JPEG files: not bit-identical to the original arrays.

    Parameters
    ----------
    part : {"train", "test", "all"}
        50,000 images, 10,000, or all of them, the test images first.
    chunk : int
        Images a chunk.
    mirror : path, optional
        Folder with the file.

    Returns
    -------
    Experiment
        ``images`` (presentation, row 32, column 32, channel 3), uint8, dask-backed, with the
        coordinates ``stimulus_id`` ("train-frog-0001"), ``category_name`` and ``split``;
        ``stimuli`` with the same labels and ``file``, the member of the archive.

    Raises
    ------
    ValueError
        There is no such part, or ``chunk`` is below 1.
    AssemblyError
        A member of the archive is not named <train or test>/<class>/<number>.jpg.
    ArchiveError
        The archive or an image in it is broken.
    """
    if not is_choice(part, PARTS) or chunk < 1:
        raise ValueError(
            f"{NAME}: found part {part!r} and chunk {chunk}; expected one of {list(PARTS)}, and 1 or more. Mend: part='train'."
        )
    path = fetch(NAME, mirror=mirror)[IMAGES]
    archive = KeptArchive(path)
    files = archive.open().names
    matches = [_MEMBER.fullmatch(file) for file in files]
    labels = [m.groups() for m in matches if m is not None and part in ("all", m[1])]
    foreign = [file for file, m in zip(files, matches, strict=True) if m is None]
    if foreign or not labels:
        raise AssemblyError(
            f"{path}: found {len(labels)} images of the part {part!r}, and {len(foreign)} other members, "
            f"e.g. {foreign[:1]}; expected <train or test>/<class>/<number>.jpg alone. Mend: fetch it again."
        )
    stimuli = pd.DataFrame(
        {
            "stimulus_id": ["-".join(label) for label in labels],
            "category_name": [category for _, category, _ in labels],
            "split": [split for split, _, _ in labels],
            "file": [f"{split}/{category}/{number}.jpg" for split, category, number in labels],
        }
    )
    manifest = find_manifest(NAME)
    about = describe(manifest)
    images = xr.DataArray(
        zip_images(archive, stimuli["file"].tolist(), chunk=chunk, mode="RGB"),
        dims=("presentation", "row", "column", "channel"),
        coords={
            name: ("presentation", stimuli[name].to_numpy().astype(str))
            for name in ("stimulus_id", "category_name", "split")
        },
        attrs=assembly_attrs(manifest, about, identifier=f"{NAME}-{part}"),
    )
    return make_experiment(manifest, about, stimuli, images=images)
