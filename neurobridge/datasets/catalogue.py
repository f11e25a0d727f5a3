"""From a name to data in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from neurobridge.datasets import cowley2023, majajhong2015, mnist
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.manifests import find_manifest, unknown_dataset
from neurobridge.datasets.simulated_hvm import NAME as SIMULATED_HVM
from neurobridge.datasets.simulated_hvm import simulate_hvm

LOADERS: dict[str, Callable[..., Experiment]] = {
    cowley2023.NAME: cowley2023.load,
    majajhong2015.NAME: majajhong2015.load,
    mnist.NAME: mnist.load,
}


def load(name: str, *, mirror: str | os.PathLike[str] | None = None, **options: Any) -> Experiment:
    """Load a dataset: fetch and verify its files, and label them.

    Parameters
    ----------
    name : str
        See ``neurobridge data list``. "simulated-hvm" needs no files.
    mirror : path, optional
        Folder with the files, laid out ``<dataset>/<file>``; default: NEUROBRIDGE_MIRROR, or a download.
    **options
        Passed to the loader: e.g. ``part="test"`` for "mnist"; the arguments of `simulate_hvm`.

    Raises
    ------
    UnknownDatasetError
        No dataset has this name, or it has no loader; suggests the nearest.
    DigestError
        A file is not the one the manifest describes.
    """
    if name == SIMULATED_HVM:
        return simulate_hvm(**options)
    if name not in LOADERS:
        find_manifest(name)
        raise unknown_dataset(name, sorted([*LOADERS, SIMULATED_HVM]))
    return LOADERS[name](mirror=mirror, **options)
