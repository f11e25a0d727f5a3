"""What is computed once for a model and a metric, and how it is kept on disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies.schema import NEUROID
from neurobridge.assemblies.storage.files import save_variables
from neurobridge.evaluate.score.schema import SPLIT

DRAW, DRAWN = "draw", "drawn"


class Cell(NamedTuple):
    """Scores of one model under one metric.

    Attributes
    ----------
    by_split : array of shape (n_splits,)
        The metric on the held-out stimuli of each fold; of metrics by site, the median over sites.
    site_value : array of shape (n_sites,)
        Mean over folds; NaN where the metric has no sites.
    draws : array of shape (3, n_bootstrap)
        The mean over folds on stimuli and sites that are drawn with replacement, on drawn stimuli alone and on drawn sites
        alone: the same ones for every model.
    layer : list of str
        The layer that each fold chose on its training stimuli.
    """

    by_split: np.ndarray
    site_value: np.ndarray
    draws: np.ndarray
    layer: list[str]


def digest_of(*parts: np.ndarray | Sequence[str] | str) -> str:
    """Return the sha256 of arrays and texts, in their order."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"{part.dtype.str}{part.shape}".encode())
            sha.update(np.ascontiguousarray(part).tobytes())
        else:
            sha.update("\0".join([part] if isinstance(part, str) else part).encode())
        sha.update(b"\1")
    return sha.hexdigest()


def path_of(folder: Path, metric: str, model: str) -> Path:
    """Return the file of a cell; models whose names differ have different files."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", model)[:60]
    return folder / f"{metric}-{readable}-{digest_of(model)[:8]}.nc"


def keep_cell(cell: Cell, path: Path, fingerprint: str) -> None:
    """Write a cell, under a partial name until it is whole."""
    save_variables(
        xr.Dataset(
            {
                "by_split": (SPLIT, cell.by_split),
                "site_value": (NEUROID, cell.site_value),
                "draws": ((DRAWN, DRAW), cell.draws),
                "layer": (SPLIT, np.array(cell.layer, dtype=str)),
            },
            attrs={"fingerprint": fingerprint},
        ),
        path,
    )


def kept_cell(path: Path, fingerprint: str) -> Cell | None:
    """Return the cell of a file if it was computed from the same data with the same settings, else None."""
    if not path.is_file():
        return None
    with xr.open_dataset(path, engine="netcdf4") as kept:
        if kept.attrs.get("fingerprint") != fingerprint:
            return None
        layers = [str(name) for name in kept["layer"].values]
        return Cell(kept["by_split"].values, kept["site_value"].values, kept["draws"].values, layers)
