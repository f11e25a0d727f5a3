"""Pairs as the plan that a flow draws from; imports next to nothing, as a process that measures its memory uses it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Known(NamedTuple):
    """Pairs, each as likely: row ``anchors[0][p]`` of the source with row ``anchors[1][p]`` of the target."""

    shape: tuple[int, int]
    anchors: tuple[np.ndarray, np.ndarray]

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw pairs of rows."""
        some = rng.integers(len(self.anchors[0]), size=n)
        return self.anchors[0][some], self.anchors[1][some]
