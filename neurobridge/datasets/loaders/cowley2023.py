"""Real macaque V4 of Cowley et al. 2023: one session, with its trials and the images shown."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.archives import members_of, zip_images
from neurobridge.datasets.files.fetch import fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.store.npy import read_npy

SESSION = "210325"
NAME = f"cowley2023-v4-{SESSION}"
# Sister sessions: a manifest of this name in a folder of NEUROBRIDGE_MANIFESTS, and two files named alike.
PATTERN = r"cowley2023-v4-(\d{6})"
# From the table of sessions in data_V4_responses/readme.txt, beside the files of the manifest.
_ANIMALS = {range(190923, 190930): "WE", range(201016, 210327): "PE", range(210620, 211104): "RA"}


def load(*, session: str = SESSION, mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load the V4 neurons of one session (210325: 50 neurons, 640 images, 6 to 10 trials each), and the images (112 x 112 RGB).

    The file pads missing trials with NaN, at the same places for all neurons; they are left out. Every session shows images and
    has neurons of its own, so ``stimulus_id`` ("210325-image0001") and ``neuroid_id`` ("v4-210325-00") carry the session. The
    neurons have the coordinates ``session`` and ``animal`` ("WE", "PE" or "RA"; blank on days that are not theirs).

    Parameters
    ----------
    session : str
        Six digits. Only 210325 comes with the package; others need a manifest ``cowley2023-v4-<session>.toml`` with the size
        and the digest of ``responses_<session>.npy`` and ``images_<session>.zip``, in a folder that NEUROBRIDGE_MANIFESTS names.
    mirror : path, optional
        Folder with the files.

    Raises
    ------
    UnknownDatasetError
        The session has no manifest.
    AssemblyError
        A trial is missing for some neurons only, or images and responses differ in number.
    ArchiveError
        The archive of images is broken.
    """
    name = f"cowley2023-v4-{session}"
    responses, archive = f"responses_{session}.npy", f"images_{session}.zip"
    manifest = find_manifest(name)
    paths = fetch(name, files=[responses, archive], mirror=mirror)
    counts = read_npy(paths[responses])
    files, pixels = _images(paths[archive])
    n_neuroids, n_images, _ = counts.shape
    if len(pixels) != n_images:
        raise AssemblyError(
            f"{name}: found {len(pixels)} images and responses to {n_images}; expected as many. Mend: fetch the files again."
        )
    missing = np.isnan(counts)
    if not (missing == missing[:1]).all():
        raise AssemblyError(
            f"{name}: found trials that are missing for some neurons only; expected whole trials. Mend: fetch the files again."
        )
    shown = ~missing[0]
    image, repetition = np.nonzero(shown)
    ids = np.array([f"{session}-{Path(file).stem}" for file in files])
    animal = next((name for sessions, name in _ANIMALS.items() if int(session) in sessions), "")
    about = describe(manifest, [responses, archive])
    attrs = assembly_attrs(manifest, about, units="spikes per 100 ms")
    recordings = make_assembly(
        counts[:, shown].T,
        presentation={"stimulus_id": ids[image], "repetition": repetition},
        neuroid={
            "neuroid_id": [f"v4-{session}-{k:02d}" for k in range(n_neuroids)],
            "region": ["V4"] * n_neuroids,
            "session": [session] * n_neuroids,
            "animal": [animal] * n_neuroids,
        },
        attrs=attrs,
    )
    images = xr.DataArray(
        pixels,
        dims=("presentation", "row", "column", "channel"),
        coords={"stimulus_id": ("presentation", ids)},
        attrs=attrs,
    )
    stimuli = pd.DataFrame({"stimulus_id": ids, "file": files, "n_repetitions": shown.sum(axis=1)})
    return make_experiment(manifest, about, stimuli, recordings=recordings, images=images)


def _images(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the file names in order, and their pixels of shape (n_images, 112, 112, 3)."""
    files = members_of(path, suffixes=(".jpg",))
    return files, zip_images(path, files).compute()
