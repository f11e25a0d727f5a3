"""MNIST: 70,000 handwritten digits and their labels."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError
from neurobridge.datasets.experiment import Experiment
from neurobridge.datasets.files.fetch import fetch
from neurobridge.datasets.files.manifests import find_manifest
from neurobridge.datasets.labels import assembly_attrs, describe, make_experiment
from neurobridge.points.options import is_choice
from neurobridge.store.archives import read_gzip

NAME = "mnist"
_PARTS = {"train": "train", "test": "t10k"}


def load(*, part: str = "train", mirror: str | os.PathLike[str] | None = None) -> Experiment:
    """Load one part of MNIST.

    Parameters
    ----------
    part : {"train", "test"}
        60,000 or 10,000 digits of 28 x 28 pixels.

    Raises
    ------
    ValueError
        There is no such part.
    AssemblyError
        A file is not in IDX format.
    """
    if not is_choice(part, _PARTS):
        raise ValueError(f"mnist: found part {part!r}; expected one of {sorted(_PARTS)}. Mend: part='train'.")
    files = [f"{_PARTS[part]}-images-idx3-ubyte.gz", f"{_PARTS[part]}-labels-idx1-ubyte.gz"]
    paths = fetch(NAME, files=files, mirror=mirror)
    pixels, labels = (read_idx(paths[file]) for file in files)
    ids = np.array([f"mnist-{part}-{k:05d}" for k in range(len(pixels))])
    names = labels.astype(str)
    manifest = find_manifest(NAME)
    about = describe(manifest, files)
    images = xr.DataArray(
        pixels,
        dims=("presentation", "row", "column"),
        coords={"stimulus_id": ("presentation", ids), "category_name": ("presentation", names)},
        attrs=assembly_attrs(manifest, about, identifier=f"{NAME}-{part}"),
    )
    stimuli = pd.DataFrame({"stimulus_id": ids, "category_name": names})
    return make_experiment(manifest, about, stimuli, images=images)


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes.

    Raises
    ------
    ArchiveError
        The file is no whole gzip file.
    AssemblyError
        Another format, or another number of bytes than the header states.
    """
    data = read_gzip(path)
    zero, kind, n_dims = struct.unpack_from(">HBB", data) if len(data) >= 4 else (1, 0, 0)
    shape = struct.unpack_from(f">{n_dims}I", data, 4) if zero == 0 and len(data) >= 4 + 4 * n_dims else ()
    body = np.frombuffer(data, dtype=np.uint8, offset=min(len(data), 4 + 4 * n_dims))
    if zero != 0 or kind != 8 or not shape or body.size != int(np.prod(shape)):
        raise AssemblyError(
            f"{path}: found {len(data)} bytes that are not one IDX array of unsigned bytes; expected the official MNIST file. "
            "Mend: fetch it again."
        )
    return body.reshape(shape)
