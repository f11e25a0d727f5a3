"""From a name to data in memory."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import Any

from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.manifests import find_manifest, unknown_dataset
from neurobridge.datasets.labels import cite
from neurobridge.datasets.loaders import (
    cifar10,
    clip,
    cowley2023,
    fsdd,
    hvm,
    imagenet,
    imagenet_sample,
    kriegeskorte2008,
    majajhong2015,
    majajhong_public,
    mnist,
    things_similarity,
)
from neurobridge.datasets.simulated.hvm import NAME as SIMULATED_HVM
from neurobridge.datasets.simulated.hvm import simulate_hvm

#: Reader of each dataset, by name; `load` calls it.
LOADERS: dict[str, Callable[..., Experiment]] = {
    cifar10.NAME: cifar10.load,
    clip.CLASSES: clip.load_class_text,
    clip.FLICKR: clip.load_flickr8k,
    cowley2023.NAME: cowley2023.load,
    fsdd.NAME: fsdd.load,
    hvm.NAME: hvm.load,
    imagenet.NAME: imagenet.load,
    imagenet_sample.NAME: imagenet_sample.load,
    kriegeskorte2008.NAME: kriegeskorte2008.load,
    majajhong2015.NAME: majajhong2015.load,
    majajhong_public.NAME: majajhong_public.load,
    majajhong_public.TEMPORAL: majajhong_public.load_temporal,
    mnist.NAME: mnist.load,
    majajhong2015.PSYCH253: majajhong2015.load_psych253,
    things_similarity.NAME: things_similarity.load,
}


def load(name: str, *, mirror: str | os.PathLike[str] | None = None, quiet: bool = False, **options: Any) -> Experiment:
    """Load a dataset: fetch and verify its files, and label them.

    On the first use of a dataset in a process, whom to cite and what the data is not are printed on stderr.

    Parameters
    ----------
    name : str
        See ``neurobridge data list``. "simulated-hvm" needs no files.
    mirror : path, optional
        Folder with the files, laid out ``<dataset>/<file>``; default: NEUROBRIDGE_MIRROR, or a download.
    quiet : bool
        Do not print the citation (it stays in ``attrs``); the environment variable NEUROBRIDGE_QUIET does so everywhere.
    **options
        Passed to the loader: e.g. ``part="test"`` for "mnist", ``group="male"`` for "things-similarity", ``folder=...`` for
        "imagenet"; the arguments of `simulate_hvm`.

    Returns
    -------
    Experiment
        Recordings, images, sounds, latents, activations or RDMs, and the table of stimuli.

    Raises
    ------
    UnknownDatasetError
        No dataset has this name, or it has no loader; suggests the nearest.
    DigestError
        A file is not the one the manifest describes.

    Examples
    --------
    >>> import neurobridge as nb
    >>> nb.load("simulated-hvm", images_per_object={3: 1}, n_repetitions=2, image_size=32, quiet=True)
    Experiment('simulated-hvm', simulated, stimuli=64, recordings=(128, 256, 1), images=(64, 32, 32), latents=(64, 73))

    Of recordings at hand in a folder:

    >>> v4 = nb.load("cowley2023-v4-210325", mirror="../shared/data")  # doctest: +SKIP
    """
    experiment = simulate_hvm(**options) if name == SIMULATED_HVM else _loader(name)(mirror=mirror, **options)
    if not quiet:
        cite(name, experiment.attrs["citation"], experiment.attrs["note"])
    return experiment


def has_loader(name: str) -> bool:
    """Tell whether `load` can read a dataset; the files of any dataset can be fetched.

    Parameters
    ----------
    name : str
        Dataset, as `list_datasets` names it.

    Examples
    --------
    >>> has_loader("mnist"), has_loader("no-such-dataset")
    (True, False)
    """
    return name in {*LOADERS, SIMULATED_HVM} or re.fullmatch(cowley2023.PATTERN, name) is not None


def _loader(name: str) -> Callable[..., Experiment]:
    if name in LOADERS:
        return LOADERS[name]
    find_manifest(name)
    session = re.fullmatch(cowley2023.PATTERN, name)
    if session:
        return functools.partial(cowley2023.load, session=session[1])
    raise unknown_dataset(name, sorted([*LOADERS, SIMULATED_HVM]))
