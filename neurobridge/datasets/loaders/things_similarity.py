"""Human similarity embeddings of the 1,854 THINGS objects, one for each group of people."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.fetch import fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.points.options import is_choice
from neurobridge.store.npy import read_npy

NAME = "things-similarity"
TABLE = "category_mat_manual_preprocessed.csv"
#: File of each group. Row i is the same object in all of them.
GROUPS = {
    "female": "female_embeddings.npy",
    "male": "male_embeddings.npy",
    **{f"Group{k}": f"THINGS_embedding_Group{k}.npy" for k in (1, 2, 3, 4)},
}


def load(*, group: str = "female", mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load the embedding of one group of people: 1,854 objects, 90 dimensions.

    The files of the embeddings name no rows. That row i is object i of the table of categories was
    checked with the table: in female, male, Group1 and Group2 the nearest neighbour (cosine) of 58
    to 60 % of the objects is of their category, and of 11 to 13 % when the table is shifted by a
    row. This tells the rows of one category from those of another, but not from each other.

    Parameters
    ----------
    group : {"female", "male", "Group1", "Group2", "Group3", "Group4"}
        Group of people.
    mirror : path, optional
        Folder with the files.

    Returns
    -------
    Experiment
        ``activations`` (presentation 1854, neuroid 90), float32, with the coordinates
        ``stimulus_id`` (name of the object) and ``category_name`` (one of 28, "others" among them)
        on presentation, ``group`` on neuroid; ``stimuli`` with the same labels.

    Raises
    ------
    ValueError
        There is no such group.
    AssemblyError
        The table has no single category for each object, or another number of objects than the embedding.
    """
    if not is_choice(group, GROUPS):
        raise ValueError(f"{NAME}: found group {group!r}; expected one of {list(GROUPS)}. Mend: group='female'.")
    files = [TABLE, GROUPS[group]]
    paths = fetch(NAME, files=files, mirror=mirror)
    stimuli = read_categories(paths[TABLE])
    values = read_npy(paths[GROUPS[group]])
    if values.ndim != 3 or values.shape[:2] != (1, len(stimuli)):
        raise AssemblyError(
            f"{NAME}: found the embedding of {group!r} of shape {values.shape}; expected (1, {len(stimuli)}, dimensions). Mend: "
            "fetch the files again."
        )
    manifest = find_manifest(NAME)
    about = describe(manifest, files)
    n_dimensions = values.shape[2]
    activations = make_assembly(
        values[0],
        presentation={str(column): stimuli[column].to_numpy() for column in stimuli},
        neuroid={
            "neuroid_id": [f"{group}-{k:02d}" for k in range(n_dimensions)],
            "layer": ["similarity"] * n_dimensions,
            "group": [group] * n_dimensions,
        },
        attrs=assembly_attrs(manifest, about, identifier=f"{NAME}-{group}", group=group),
    )
    return make_experiment(manifest, about, stimuli, activations=activations)


def read_categories(path: Path) -> pd.DataFrame:
    """Read the table of objects and categories: 1 in the column of an object's category, 0 elsewhere.

    Returns
    -------
    pandas.DataFrame
        ``stimulus_id`` (name of the object) and ``category_name``, in the order of the file.

    Raises
    ------
    AssemblyError
        An object is there twice, or has no category or several.
    """
    try:
        # The names have a column without a name, which `read_table` takes for an index of pandas.
        frame = pd.read_csv(path, index_col=0, keep_default_na=False)
        member = frame.to_numpy(dtype=np.float64)
    except (ValueError, TypeError, OSError, IndexError) as error:
        raise AssemblyError(
            f"{path}: found a table that cannot be read ({error}); expected objects by categories, 0 or 1. Mend: fetch it again."
        ) from error
    wrong = ~(((member == 0) | (member == 1)).all(axis=1) & (member.sum(axis=1) == 1)) if member.size else np.ones(1)
    if wrong.any() or not frame.index.is_unique:
        raise AssemblyError(
            f"{path}: found {int(wrong.sum())} of {len(frame)} objects without one category, and {frame.index.nunique()} "
            "different names; expected one category and one name each. Mend: fetch it again."
        )
    names = np.array([str(column) for column in frame.columns])
    return pd.DataFrame(
        {"stimulus_id": frame.index.to_numpy().astype(str), "category_name": names[member.argmax(axis=1)]}
    )
