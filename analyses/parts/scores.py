"""Scores of mapped points."""

from __future__ import annotations

import numpy as np


def r2(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return R^2 over all dimensions together, of arrays of shape (n_points, n_dimensions)."""
    return float(1 - ((predicted - truth) ** 2).sum() / ((truth - truth.mean(axis=0)) ** 2).sum())
