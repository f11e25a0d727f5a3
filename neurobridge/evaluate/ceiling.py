"""How well recordings predict themselves: the ceiling of every comparison."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

from neurobridge.assemblies import as_matrix, coords_of, require_varying_neuroids, split_halves
from neurobridge.assemblies.schema import NEUROID, PRESENTATION
from neurobridge.evaluate.correlation import SPLIT, pearson, score_attrs


def spearman_brown(r: np.ndarray, factor: float = 2.0) -> np.ndarray:
    """Reliability of a measurement ``factor`` times as long: ``factor r / (1 + (factor - 1) r)``."""
    return factor * r / (1 + (factor - 1) * r)


def internal_consistency(recordings: xr.DataArray, *, n_splits: int = 10, seed: int = 0) -> xr.Dataset:
    """Split-half reliability of every neuroid over repetitions, Spearman-Brown corrected.

    The repetitions of each stimulus are dealt at random into two halves; the halves' averages are correlated over stimuli, and the
    correlation r of two halves is extrapolated to all repetitions, ``2 r / (1 + r)`` (Spearman 1910, Brown 1910).

    A model that predicts the noiseless response correlates with the average over all repetitions at most by the *square root* of
    this reliability; ``r^2`` is therefore normalised by the reliability itself.

    Parameters
    ----------
    recordings : xarray.DataArray
        One presentation a trial, dims ``(presentation, neuroid[, time_bin of size 1])``; every stimulus at least twice.
    n_splits : int
        Random halvings that are averaged.
    seed : int

    Returns
    -------
    xarray.Dataset
        ``raw`` (split, neuroid), the correlation of the halves; ``ceiling`` (neuroid), the mean corrected reliability, which
        chance makes negative for a neuroid without signal and which is not clipped.

    Raises
    ------
    AssemblyError
        A stimulus has one presentation only, or a neuroid is constant.
    """
    require_varying_neuroids(recordings, role="recordings")
    raw, n_constant = [], 0
    for child in np.random.SeedSequence(seed).generate_state(n_splits):
        halves = split_halves(recordings, seed=int(child))
        r, varies = pearson(*(as_matrix(half, role="recordings") for half in halves))
        raw.append(r)
        n_constant += int((~varies).sum())
    if n_constant:
        warnings.warn(
            f"found {n_constant} neuroid(s) constant in one half of the repetitions; their halves count as r = 0.",
            UserWarning,
            stacklevel=2,
        )
    halves_r = np.stack(raw)
    attrs = {
        "metric": "split-half Pearson, Spearman-Brown",
        "splits": f"{n_splits} halvings",
        "n_stimuli": halves[0].sizes[PRESENTATION],
    }
    return xr.Dataset(
        {"raw": ((SPLIT, NEUROID), halves_r), "ceiling": (NEUROID, spearman_brown(halves_r).mean(axis=0))},
        coords=coords_of(recordings, NEUROID),
        attrs=score_attrs(attrs, n_splits, 0, seed, (recordings,)),
    )
