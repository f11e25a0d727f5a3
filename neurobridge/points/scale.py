"""Standardisation of a point cloud, and reading clouds a block of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurobridge.points.arrays import read_blocks

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
        for _, block in read_blocks(X, BLOCK):
            total += block.sum(axis=0)
        mean = total / len(X)
        squares = np.zeros(X.shape[1])
        for _, block in read_blocks(X, BLOCK):
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


def standardised(X: Any, scale: Standardiser) -> np.ndarray:
    """Standardise all rows into one float32 array, a block at a time, so that no float64 copy of X exists."""
    out = np.empty(X.shape, dtype=np.float32)
    for rows, block in read_blocks(X, BLOCK):
        out[rows] = scale.forward(block)
    return out
