"""Statistics and data that several experiments share."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurobridge.assemblies.schema import NEUROID


def shuffled_accuracies(
    predicted: np.ndarray, truth: np.ndarray, rng: np.random.Generator, n: int = 200
) -> list[float]:
    """Return the accuracies of predicted names where the truth is permuted."""
    return [float((predicted == rng.permutation(truth)).mean()) for _ in range(n)]


def cosines(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the cosine of every row of A (n, d) with every row of B (m, d), shape (n, m)."""
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (A, B)]
    return unit[0] @ unit[1].T


def site_halves(recordings: xr.DataArray) -> list[xr.DataArray]:
    """Split the sites into two halves, always the same."""
    order = np.random.default_rng(0).permutation(recordings.sizes[NEUROID])
    return [recordings.isel({NEUROID: np.sort(part)}) for part in np.array_split(order, 2)]
