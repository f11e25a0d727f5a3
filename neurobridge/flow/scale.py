"""Standardisation of a point cloud, and reading clouds a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

BLOCK = 16384


@dataclass(frozen=True)
class Standardiser:
    """Zero mean and unit variance in each dimension, from training points alone.

    Attributes
    ----------
    mean, std : arrays of shape (n_dims,)
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, X: Any) -> Standardiser:
        """Take mean and standard deviation of X, shape (n_points, n_dims); constant dimensions keep their unit."""
        total = np.zeros(X.shape[1])
        for _, block in row_blocks(X, BLOCK):
            total += block.sum(axis=0)
        mean = total / len(X)
        squares = np.zeros(X.shape[1])
        for _, block in row_blocks(X, BLOCK):
            squares += np.square(block - mean).sum(axis=0)
        std = np.sqrt(squares / len(X))
        # Rounding leaves a constant dimension a spread of about 1e-16 of its mean, which must not become its unit.
        return cls(mean, np.where(std > 1e-12 * np.abs(mean), std, 1.0))

    def forward(self, X: np.ndarray) -> np.ndarray:
        """Standardise points of shape (n_points, n_dims)."""
        return (X - self.mean) / self.std

    def backward(self, Z: np.ndarray) -> np.ndarray:
        """Undo `forward`."""
        return Z * self.std + self.mean


def as_points(X: Any, name: str) -> Any:
    """Return ``X`` as something of shape (n_points, n_dims) that slices by rows: numpy, torch and dask stay themselves.

    Raises
    ------
    ValueError
        Not two-dimensional, or empty.
    """
    X = X if hasattr(X, "shape") and hasattr(X, "ndim") else np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(
            f"{name}: found shape {tuple(X.shape)}; expected (n_points, n_dims), neither zero. "
            "Mend: reshape to two dimensions."
        )
    return X


def is_lazy(X: Any) -> bool:
    """Whether ``X`` is a dask array, told without importing dask."""
    return hasattr(X, "__dask_graph__") and hasattr(X, "map_blocks")


def read_rows(X: Any, rows: Any, name: str = "X") -> np.ndarray:
    """Read some rows as float64.

    Raises
    ------
    ValueError
        Values that are NaN or infinite.
    """
    part = X[rows]
    values = np.asarray(part.detach().cpu() if isinstance(part, torch.Tensor) else part, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name}: found shape {tuple(X.shape)} with NaN or infinite values; expected finite values of shape "
            "(n_points, n_dims). Mend: drop or impute those rows."
        )
    return values


def row_blocks(X: Any, size: int, name: str = "X") -> Iterator[tuple[slice, np.ndarray]]:
    """Read ``X`` in blocks of ``size`` rows, float64, each with the rows it covers."""
    for start in range(0, len(X), size):
        rows = slice(start, min(start + size, len(X)))
        yield rows, read_rows(X, rows, name)


def standardised(X: Any, scale: Standardiser) -> np.ndarray:
    """Standardise all rows into one float32 array, a block at a time, so that no float64 copy of X exists."""
    out = np.empty(X.shape, dtype=np.float32)
    for rows, block in row_blocks(X, BLOCK):
        out[rows] = scale.forward(block)
    return out
