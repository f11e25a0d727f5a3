"""The HvM stimulus table, and published summaries of it."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError, make_assembly, read_table
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.fetch import fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.store.npy import read_npy

NAME = "hvm-metadata"
TABLE = "2020-11-22_hvm_from_dldata.csv"
SIMILARITY = "it_object_similarity.npy"
SPLIT = {"train": "public_train_image_ids.txt", "test": "public_test_image_ids.txt"}
_COLUMNS = {
    "id": "stimulus_id",
    "obj": "object_name",
    "category": "category_name",
    "var": "variation",
    "bg_id": "background_id",
}
_POSE = ("ty", "tz", "s", "rxy", "rxz", "ryz", "rxy_semantic", "rxz_semantic", "ryz_semantic")


def hvm_stimuli(*, mirror: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Read the HvM stimulus table: 5760 images, in file order.

    Returns
    -------
    pandas.DataFrame
        ``stimulus_id``, ``object_name``, ``category_name``, ``variation`` (0, 3 or 6), ``background_id``; position ``ty``, ``tz``
        and size ``s`` in the units of HvM's table; rotations ``rxy``, ``rxz``, ``ryz`` in degrees, and ``_semantic`` ones
        from a pose comparable between objects.
    """
    table = read_table(fetch(NAME, files=[TABLE], mirror=mirror)[TABLE], what="stimuli", required=tuple(_COLUMNS))
    table = table.rename(columns=_COLUMNS)[[*_COLUMNS.values(), *_POSE]]
    return table.assign(variation=table["variation"].str.removeprefix("V").astype(int))


def load(*, mirror: str | os.PathLike[str] | None = None, split: bool = False, similarity: bool = False) -> Experiment:
    """Load the stimulus table and, where asked for, the published summaries, which have to be supplied (they are at no address).

    Parameters
    ----------
    mirror : path, optional
        Folder with the files.
    split : bool
        Add a column ``split``: "train" or "test" for the 3200 public images of a published split, "" for the others.
    similarity : bool
        Give ``rdms``: 1 - Pearson similarity of the variation-6 object means of 168 IT sites, dims (rdm, object, object_2).

    Raises
    ------
    DownloadError
        A summary is asked for and not at hand.
    AssemblyError
        A summary does not fit the table.
    """
    manifest = find_manifest(NAME)
    files = [TABLE, *(SPLIT.values() if split else []), *([SIMILARITY] if similarity else [])]
    paths = fetch(NAME, files=files, mirror=mirror)
    about = describe(manifest, files)
    stimuli = hvm_stimuli(mirror=mirror)
    if split:
        part = pd.Series("", index=stimuli["stimulus_id"])
        for name, file in SPLIT.items():
            ids = paths[file].read_text(encoding="utf-8").split()
            if not part.index.isin(ids).sum() == len(ids):
                raise AssemblyError(
                    f"{file}: found ids that {TABLE} lacks, or an id twice; expected public images. Mend: fetch both again."
                )
            part[ids] = name
        stimuli = stimuli.assign(split=part.to_numpy())
    rdms = None
    if similarity:
        attrs = assembly_attrs(manifest, about, units="1 - Pearson correlation of object means over 168 IT sites")
        rdms = _dissimilarity(read_npy(paths[SIMILARITY]), stimuli).assign_attrs(attrs)
    return make_experiment(manifest, about, stimuli, rdms=rdms)


def _dissimilarity(similarity: np.ndarray, stimuli: pd.DataFrame) -> xr.DataArray:
    objects = stimuli[["category_name", "object_name"]].drop_duplicates().sort_values(["category_name", "object_name"])
    n = len(objects)
    if similarity.shape != (n, n) or np.abs(similarity - similarity.T).max() > 1e-6:
        raise AssemblyError(
            f"{SIMILARITY}: found an array of shape {similarity.shape}; expected a symmetric one of shape ({n}, {n}). Mend: "
            f"supply it "
            "again."
        )
    values = 1 - similarity
    np.fill_diagonal(values, 0.0)
    names = {str(name): objects[name].to_numpy().astype(str) for name in objects}
    coords: dict[str, tuple[str, np.ndarray]] = {"region": ("rdm", np.array(["IT"]))}
    for name, values_of in names.items():
        coords |= {name: ("object", values_of), f"{name}_2": ("object_2", values_of)}
    return xr.DataArray(values[None], dims=("rdm", "object", "object_2"), coords=coords)


def pose_latents(stimuli: pd.DataFrame, *, attrs: Mapping[str, object]) -> xr.DataArray:
    """Return the generative parameters of HvM stimuli as an assembly.

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
