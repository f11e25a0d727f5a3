"""Kriegeskorte et al. 2008: 92 images, their categories, and dissimilarities in monkey and human IT."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.io
import xarray as xr
from scipy.spatial.distance import squareform

from neurobridge.assemblies import AssemblyError
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.fetch import fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment

NAME = "kriegeskorte2008"
SUPPLEMENT, SUBJECTS = "Kriegeskorte_Neuron2008_supplementalData.mat", "92_brainRDMs.mat"
_N = 92
# The file's abbreviations, spelt out.
_VECTORS = {
    "inanim": "inanimate", "nonhumani": "nonhuman", "natObj": "natural_object", "artiObj": "artificial_object",
    "monkeyape": "monkey_or_ape",
}  # fmt: skip
_GROUPS = {"mIT_674neurons": ("monkey", "674 neurons"), "hITvisStim_316vx": ("human", "316 voxels, average")}


def load(*, mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load the 92 images, their 12 category vectors, and 10 dissimilarity matrices.

    Returns
    -------
    Experiment
        ``stimuli``: ``stimulus_id``, ``category_name`` (6 categories), and one boolean column a category vector; ``images``
        (presentation 92, row 175, column 175, channel 3), uint8; ``rdms`` (rdm 10, stimulus 92, stimulus_2 92), 1 - Pearson
        correlation: monkey IT, the human average, then 4 human subjects x 2 sessions. Coordinates of ``rdm``: ``rdm_id``,
        ``species``, ``region``, ``subject``, ``session`` (0 where averaged).

    Raises
    ------
    AssemblyError
        A file does not hold what was published.
    """
    paths = fetch(NAME, mirror=mirror)
    manifest = find_manifest(NAME)
    about = describe(manifest)
    supplement = _read(paths[SUPPLEMENT], ["stimuli_92objs", "categoryVectors", "categoryLabels", "RDMs_mIT_hIT_fig1"])
    subjects = _read(paths[SUBJECTS], ["RDMs"])["RDMs"].ravel()
    shown = supplement["stimuli_92objs"].ravel()
    ids = np.array([f"kriegeskorte-{k + 1:02d}" for k in range(len(shown))])
    labels = [str(label) for label in supplement["categoryLabels"]]
    vectors = {_VECTORS.get(label, label): supplement["categoryVectors"][:, k] > 0 for k, label in enumerate(labels)}
    stimuli = pd.DataFrame(
        {"stimulus_id": ids, "category_name": [str(image["category"]) for image in shown], **vectors}
    )
    images = xr.DataArray(
        np.stack([image["image"] for image in shown]),
        dims=("presentation", "row", "column", "channel"),
        coords={
            "stimulus_id": ("presentation", ids),
            "category_name": ("presentation", _text(stimuli["category_name"])),
        },
        attrs=assembly_attrs(manifest, about),
    )
    rdms = _rdms([*supplement["RDMs_mIT_hIT_fig1"].ravel(), *subjects], ids)
    attrs = assembly_attrs(manifest, about, units="1 - Pearson correlation")
    return make_experiment(manifest, about, stimuli, images=images, rdms=rdms.assign_attrs(attrs))


def _text(column: pd.Series) -> np.ndarray:
    return column.to_numpy().astype(str)


def _read(path: Path, names: list[str]) -> dict[str, Any]:
    # Structures come as numpy records, never as Python objects of the file's choosing.
    try:
        contents = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=True, variable_names=names)
    # Damaged bytes end in almost any error of the reader.
    except Exception as error:
        raise AssemblyError(
            f"{path}: found a file that cannot be read as MATLAB 5 ({error}); expected the published one. Mend: fetch it again."
        ) from error
    missing = [name for name in names if name not in contents]
    if missing:
        raise AssemblyError(f"{path}: found no {missing}; expected {names}. Mend: fetch the file again.")
    return contents


def _rdms(records: list[Any], ids: np.ndarray) -> xr.DataArray:
    values, coords = [], []
    for record in records:
        name, matrix = str(record["name"]), np.asarray(record["RDM"], dtype=np.float64)
        matrix = squareform(matrix) if matrix.ndim == 1 else matrix
        if matrix.shape != (_N, _N) or len(ids) != _N or not np.array_equal(matrix, matrix.T):
            raise AssemblyError(
                f"{NAME}: found the dissimilarities {name!r} of shape {matrix.shape} for {len(ids)} images; expected a "
                f"symmetric matrix "
                f"of {_N} images. Mend: fetch the files again."
            )
        values.append(matrix)
        if name in _GROUPS:
            species, subject = _GROUPS[name]
            coords.append((name, species, subject, 0))
        else:
            # "hIT | BE | Session: 1"
            _, subject, session = (part.strip() for part in name.split("|"))
            coords.append((name, "human", subject, int(session.removeprefix("Session:"))))
    columns = [np.array(column) for column in zip(*coords, strict=True)]
    named = dict(zip(("rdm_id", "species", "subject", "session"), columns, strict=True))
    return xr.DataArray(
        np.stack(values),
        dims=("rdm", "stimulus", "stimulus_2"),
        coords={
            **{name: ("rdm", column) for name, column in named.items()},
            "region": ("rdm", np.full(len(values), "IT")),
            "stimulus_id": ("stimulus", ids),
            "stimulus_id_2": ("stimulus_2", ids),
        },
    )
