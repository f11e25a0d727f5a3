"""Simulated points near a curved sheet, which benchmarks of scale share."""

from __future__ import annotations

import numpy as np

DIMS = 64


def points(n: int, seed: int) -> np.ndarray:
    """Simulate points near a curved six-dimensional sheet, float32 of shape (n, 64)."""
    rng = np.random.default_rng(seed)
    sheet = rng.standard_normal((n, 6), dtype=np.float32)
    mixing = np.random.default_rng(99).standard_normal((6, DIMS)).astype(np.float32)
    return np.sin(sheet @ mixing) + 0.05 * rng.standard_normal((n, DIMS), dtype=np.float32)
