"""Real macaque recordings of Majaj & Hong 2015, averaged: IT on 640 images, and V4 and IT on all 5,760."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.assemblies.schema import NEUROID_ID, STIMULUS_ID
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.fetch import digests_of, fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.datasets.loaders.hvm import NAME as HVM
from neurobridge.datasets.loaders.hvm import TABLE, hvm_stimuli, pose_latents
from neurobridge.store.npy import read_npy

NAME, PSYCH253 = "majajhong2015-it-v6", "psych253"
RESPONSES = "neural_data.npy"
#: Sites of "psych253"; those that are not IT are V4.
N_SITES = 296
# Correlation over 640 images below which a column is not the same site: one row out of place costs about .001.
_SAME = 1 - 1e-6


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


def load_psych253(*, mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load 168 IT and 128 V4 sites, one row an image, and the generative latents of the stimuli; there are no images.

    The file names neither rows nor columns. Row i is row i of the HvM table in file order, and the IT columns are found and
    proven by the 168 sites of "majajhong2015-it-v6": on its 640 images, row by row, each of them has one column here with the
    same values, up to a factor and a constant. The sites keep their ids of "majajhong2015-it-v6"; the
    remaining columns are V4 by their number.

    Parameters
    ----------
    mirror : path, optional
        Folder with the files.

    Returns
    -------
    Experiment
        ``recordings`` (presentation 5760, neuroid 296) with ``region`` and ``file_column`` on the neuroids;
        ``attrs["proof"]`` is the smallest correlation of an IT column with the site that proves it.

    Raises
    ------
    AssemblyError
        The file has another shape or values that are not numbers, or a site of "majajhong2015-it-v6" has no column.
    """
    values = read_npy(fetch(PSYCH253, mirror=mirror)[RESPONSES])
    stimuli = hvm_stimuli(mirror=mirror)
    if values.shape != (len(stimuli), N_SITES) or values.dtype.kind != "f" or not np.isfinite(values).all():
        raise AssemblyError(
            f"{PSYCH253}: found {RESPONSES} of shape {values.shape}, {values.dtype}; expected finite numbers of shape "
            f"({len(stimuli)}, {N_SITES}). Mend: fetch the file again."
        )
    known: Any = load(mirror=mirror).recordings
    rows = pd.Index(stimuli["stimulus_id"]).get_indexer(pd.Index(known[STIMULUS_ID].values))
    columns, agreement = match_columns(values[rows], known.values)
    rest = np.setdiff1d(np.arange(N_SITES), columns)
    ids = dict(zip(columns.tolist(), known[NEUROID_ID].values.tolist(), strict=True))
    ids |= {int(column): f"v4-{k:03d}" for k, column in enumerate(rest)}
    manifest = find_manifest(PSYCH253)
    about = describe(
        manifest,
        more={
            TABLE: digests_of(HVM)[TABLE],
            **digests_of(NAME),
        },
    )
    attrs = assembly_attrs(
        manifest,
        about,
        units="averaged over trials and 70-170 ms, normalised as published",
        proof=float(agreement.min()),
    )
    recordings = make_assembly(
        values,
        presentation={str(name): stimuli[name].to_numpy() for name in stimuli},
        neuroid={
            "neuroid_id": [ids[column] for column in range(N_SITES)],
            "region": ["IT" if column in set(columns.tolist()) else "V4" for column in range(N_SITES)],
            "file_column": np.arange(N_SITES),
        },
        attrs=attrs,
    )
    return make_experiment(manifest, about, stimuli, recordings=recordings, latents=pose_latents(stimuli, attrs=attrs))


def match_columns(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the column of every known site by its correlation over the rows, which are the same in both.

    Parameters
    ----------
    values : array of shape (n_rows, n_columns)
    known : array of shape (n_rows, n_sites)

    Returns
    -------
    columns : int array of shape (n_sites,)
        Each another one.
    agreement : array of shape (n_sites,)
        Pearson correlation of each site with its column.

    Raises
    ------
    AssemblyError
        A site has no column with its values, or two sites have the same.

    Examples
    --------
    >>> known = np.random.default_rng(0).normal(size=(50, 2))  # simulated
    >>> match_columns(2 * known[:, ::-1] + 1, known)[0]
    array([1, 0])
    """
    units = []
    for array in (values, known):
        centred = np.asarray(array, dtype=np.float64) - np.mean(array, axis=0, dtype=np.float64)
        norms = np.linalg.norm(centred, axis=0)
        units.append(np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0))
    correlations = units[1].T @ units[0]
    columns = correlations.argmax(axis=1)
    agreement = correlations.max(axis=1)
    n_lost = int((agreement < _SAME).sum())
    if n_lost or len(np.unique(columns)) < len(columns):
        raise AssemblyError(
            f"{PSYCH253}: found {n_lost} of {known.shape[1]} IT sites of {NAME!r} without a column of their values "
            f"(smallest correlation {agreement.min():.6f}), and {len(columns) - len(np.unique(columns))} that share one; expected "
            "a column each. Mend: fetch both files again; if it stays, the rows are in another order than the HvM table."
        )
    return columns, agreement
