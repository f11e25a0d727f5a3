"""Real macaque V4 of Cowley et al. 2023: one session, with its trials and the images shown."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files import digests_of, fetch
from neurobridge.datasets.manifests import find_manifest

NAME = "cowley2023-v4-210325"


def load(*, mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load 50 V4 neurons on 640 images, 6 to 10 trials each, and the images (112 x 112 RGB).

    The file pads missing trials with NaN, at the same places for all neurons; they are left out.

    Raises
    ------
    AssemblyError
        A trial is missing for some neurons only, or images and responses differ in number.
    """
    paths = fetch(NAME, mirror=mirror)
    counts = np.load(paths["responses_210325.npy"], allow_pickle=False)
    files, pixels = _images(paths["images_210325.zip"])
    n_neuroids, n_images, _ = counts.shape
    if len(pixels) != n_images:
        raise AssemblyError(
            f"{NAME}: found {len(pixels)} images and responses to {n_images}; expected as many. Mend: fetch the files again."
        )
    missing = np.isnan(counts)
    if not (missing == missing[:1]).all():
        raise AssemblyError(
            f"{NAME}: found trials that are missing for some neurons only; expected whole trials. Mend: fetch the files again."
        )
    shown = ~missing[0]
    image, repetition = np.nonzero(shown)
    ids = np.array([Path(file).stem for file in files])
    manifest = find_manifest(NAME)
    attrs = {"identifier": NAME, "kind": manifest.kind, "digests": digests_of(NAME), "units": "spikes per 100 ms"}
    recordings = make_assembly(
        counts[:, shown].T,
        presentation={"stimulus_id": ids[image], "repetition": repetition},
        neuroid={"neuroid_id": [f"v4-{k:02d}" for k in range(n_neuroids)], "region": ["V4"] * n_neuroids},
        attrs=attrs,
    )
    images = xr.DataArray(
        pixels,
        dims=("presentation", "row", "column", "channel"),
        coords={"stimulus_id": ("presentation", ids)},
        attrs=attrs,
    )
    return Experiment(
        NAME,
        manifest.kind,
        pd.DataFrame({"stimulus_id": ids, "file": files, "n_repetitions": shown.sum(axis=1)}),
        recordings=recordings,
        images=images,
        attrs={
            "citation": manifest.citation,
            "licence": manifest.licence,
            "note": manifest.note,
            "digests": attrs["digests"],
        },
    )


def _images(path: Path) -> tuple[list[str], np.ndarray]:
    """File names in order, and their pixels of shape (n_images, 112, 112, 3)."""
    with zipfile.ZipFile(path) as archive:
        files = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        pixels = [np.asarray(Image.open(io.BytesIO(archive.read(file))).convert("RGB")) for file in files]
    return files, np.stack(pixels)
