"""The Free Spoken Digit Dataset: 3,000 recordings of ten digits and six speakers, read from their archive."""

from __future__ import annotations

import os
import re

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.archives import KeptArchive
from neurobridge.datasets.files.fetch import fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.files.sounds import zip_sounds
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.points.options import is_choice

NAME = "fsdd"
SOUNDS = "recordings.zip"
PARTS = ("train", "test", "all")
#: Recordings of each speaker and digit that are the published test set: those numbered 0 to 4.
N_TEST = 5
_MEMBER = re.compile(r"recordings/(\d)_([a-z]+)_(\d+)\.wav")


def load(*, part: str = "all", chunk: int = 256, mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load the recordings, in the order of digit, speaker and index; a chunk is in memory at a time.

    The published split: recordings 0 to 4 of each speaker and digit are for testing, 5 to 49 for
    training.

    Parameters
    ----------
    part : {"train", "test", "all"}
        2,700 recordings, 300, or all of them.
    chunk : int
        Recordings a chunk.
    mirror : path, optional
        Folder with the file.

    Returns
    -------
    Experiment
        ``sounds`` (presentation, sample), int16, dask-backed: each recording from its first sample
        on, then zeros. Coordinates: ``stimulus_id`` ("7_jackson_32"), ``category_name`` (the digit
        as text, as of "mnist"), ``digit``, ``speaker``, ``index``, ``split`` and ``n_samples``, the
        length of each recording; ``attrs["sampling_rate_hz"]`` is 8000. ``stimuli`` has the same
        labels and ``file``, the member of the archive.

    Raises
    ------
    ValueError
        There is no such part, or ``chunk`` is below 1.
    AssemblyError
        A member of the archive is not named recordings/<digit>_<speaker>_<index>.wav.
    ArchiveError
        The archive or a recording in it is broken.
    """
    if not is_choice(part, PARTS) or chunk < 1:
        raise ValueError(
            f"{NAME}: found part {part!r} and chunk {chunk}; expected one of {list(PARTS)}, and 1 or more. Mend: part='train'."
        )
    path = fetch(NAME, mirror=mirror)[SOUNDS]
    archive = KeptArchive(path)
    files = archive.open().names
    matches = [_MEMBER.fullmatch(file) for file in files]
    labels = sorted((int(m[1]), m[2], int(m[3])) for m in matches if m is not None)
    if len(labels) < len(files) or not labels:
        foreign = [file for file, m in zip(files, matches, strict=True) if m is None]
        raise AssemblyError(
            f"{path}: found {len(labels)} recordings, and {len(foreign)} members that are none, e.g. {foreign[:1]}; expected "
            "recordings/<digit>_<speaker>_<index>.wav alone. Mend: fetch it again."
        )
    digits, speakers, indices = (list(column) for column in zip(*labels, strict=True))
    stimuli = pd.DataFrame({"digit": digits, "speaker": speakers, "index": indices})
    stimuli["split"] = np.where(stimuli["index"] < N_TEST, "test", "train")
    if part != "all":
        stimuli = stimuli[stimuli["split"] == part].reset_index(drop=True)
    ids = [
        f"{digit}_{speaker}_{k}" for digit, speaker, k in stimuli[["digit", "speaker", "index"]].itertuples(index=False)
    ]
    stimuli.insert(0, "stimulus_id", ids)
    stimuli.insert(1, "category_name", stimuli["digit"].astype(str))
    samples, lengths, rate = zip_sounds(archive, [f"recordings/{name}.wav" for name in ids], chunk=chunk)
    stimuli = stimuli.assign(n_samples=lengths, file=[f"recordings/{name}.wav" for name in ids])
    manifest = find_manifest(NAME)
    about = describe(manifest)
    texts, numbers = ("stimulus_id", "category_name", "speaker", "split"), ("digit", "index", "n_samples")
    sounds = xr.DataArray(
        samples,
        dims=("presentation", "sample"),
        coords={
            **{name: ("presentation", stimuli[name].to_numpy().astype(str)) for name in texts},
            **{name: ("presentation", stimuli[name].to_numpy()) for name in numbers},
        },
        attrs=assembly_attrs(manifest, about, identifier=f"{NAME}-{part}", sampling_rate_hz=rate),
    )
    return make_experiment(manifest, about, stimuli, sounds=sounds)
