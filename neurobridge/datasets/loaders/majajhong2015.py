"""Real macaque IT of Majaj & Hong 2015: the 640 high-variation images of Animals and Boats."""

from __future__ import annotations

import os

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.fetch import digests_of, fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.datasets.loaders.hvm import NAME as HVM
from neurobridge.datasets.loaders.hvm import TABLE, hvm_stimuli, pose_latents
from neurobridge.store.npy import read_npy

NAME = "majajhong2015-it-v6"


def load(*, mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load the 168 IT sites and the generative latents of the stimuli; the images are not public.

    Row i of the recordings is row i of the HvM table restricted to variation 6 and the two categories, in file order.

    Raises
    ------
    AssemblyError
        The file does not have one row an image.
    """
    values = read_npy(fetch(NAME, mirror=mirror)["data_subset.npy"])
    table = hvm_stimuli(mirror=mirror)
    stimuli = table[(table["variation"] == 6) & table["category_name"].isin(["Animals", "Boats"])].reset_index(
        drop=True
    )
    if values.shape != (len(stimuli), 168):
        raise AssemblyError(
            f"{NAME}: found responses of shape {values.shape}; expected ({len(stimuli)}, 168). Mend: fetch the files again."
        )
    manifest = find_manifest(NAME)
    about = describe(manifest, more={TABLE: digests_of(HVM)[TABLE]})
    attrs = assembly_attrs(manifest, about, units="normalised firing rate, averaged over trials and 70-170 ms")
    presentation = {str(name): stimuli[name].to_numpy() for name in stimuli}
    neuroid = {"neuroid_id": [f"it-{k:03d}" for k in range(168)], "region": ["IT"] * 168}
    recordings = make_assembly(values, presentation=presentation, neuroid=neuroid, attrs=attrs)
    return make_experiment(manifest, about, stimuli, recordings=recordings, latents=pose_latents(stimuli, attrs=attrs))
