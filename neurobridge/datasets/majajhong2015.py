"""Real macaque IT of Majaj & Hong 2015: the 640 high-variation images of Animals and Boats."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files import digests_of, fetch
from neurobridge.datasets.hvm import NAME as HVM
from neurobridge.datasets.hvm import TABLE, hvm_stimuli
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.datasets.manifests import find_manifest

NAME = "majajhong2015-it-v6"


def load(*, mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load the 168 IT sites and the generative latents of the stimuli; the images are not public.

    Row i of the recordings is row i of the HvM table restricted to variation 6 and the two categories, in file order.

    Raises
    ------
    AssemblyError
        The file does not have one row an image.
    """
    values = np.load(fetch(NAME, mirror=mirror)["data_subset.npy"], allow_pickle=False)
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


def pose_latents(stimuli: pd.DataFrame, *, attrs: Mapping[str, object]) -> xr.DataArray:
    """Generative parameters of HvM stimuli as an assembly.

    Parameters
    ----------
    stimuli : pandas.DataFrame
        With the columns of `hvm_stimuli`.

    Returns
    -------
    xarray.DataArray
        One neuroid an object (1 where it is shown), ``ty``, ``tz``, ``log2(s)``, and the cosine and sine of the three semantic
        rotations, so that 180 and -180 degrees are the same pose.
    """
    columns = {f"object={name}": stimuli["object_name"].eq(name) for name in sorted(set(stimuli["object_name"]))}
    columns |= {"ty": stimuli["ty"], "tz": stimuli["tz"], "log2(s)": np.log2(stimuli["s"])}
    for angle in ("rxy_semantic", "rxz_semantic", "ryz_semantic"):
        radians = np.deg2rad(stimuli[angle])
        columns |= {f"cos({angle})": np.cos(radians), f"sin({angle})": np.sin(radians)}
    values = np.stack([np.asarray(column, dtype=np.float64) for column in columns.values()], axis=1)
    return make_assembly(
        values,
        presentation={str(name): stimuli[name].to_numpy() for name in stimuli},
        neuroid={"neuroid_id": list(columns), "layer": ["latents"] * len(columns)},
        attrs=attrs,
    )
