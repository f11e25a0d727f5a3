"""Where a path starts: in the target's space at an image of the source, at the padded source, or at noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from neurobridge.flow.ode import Field
from neurobridge.points.arrays import pad_to
from neurobridge.points.scale import Standardiser

Base = Literal["affine", "pad", "noise"]
BASES: tuple[Base, ...] = ("affine", "pad", "noise")
# What a flow whose base is maps of the user's calls it.
MAPS = "maps"
#: Takes points of shape (n_points, d), gives their images of shape (n_points, d_other).
PointMap = Callable[[np.ndarray], np.ndarray]
_TILE = 1024


def noise_rows(start: int, stop: int, n_dims: int, *, seed: int, sample: int) -> np.ndarray:
    """Draw rows ``start`` to ``stop`` of an endless standard Gaussian matrix, shape (stop - start, n_dims).

    A row depends on the seed, the sample and its own number alone, so that chunks of any size give the same samples.
    """
    tiles = range(start // _TILE, (stop - 1) // _TILE + 1)
    drawn = [np.random.default_rng([seed, 1, sample, tile]).standard_normal((_TILE, n_dims)) for tile in tiles]
    first = start - tiles.start * _TILE
    return np.concatenate(drawn)[first : first + stop - start]


@dataclass(frozen=True, eq=False)
class Between:
    """A map between the spaces in their own units, as one between standardised points.

    Attributes
    ----------
    image : callable
    begin, end : Standardiser
        Of the space it leaves, and of the one it arrives in.
    """

    image: PointMap
    begin: Standardiser
    end: Standardiser

    def __call__(self, Z: np.ndarray) -> np.ndarray:
        """Map standardised points of shape (n_points, d) to standardised points (n_points, d_other).

        Raises
        ------
        ValueError
            The map gives another shape, or values that are not finite.
        """
        found = np.asarray(self.image(self.begin.backward(Z)), dtype=np.float64)
        expected = (len(Z), len(self.end.mean))
        if found.shape != expected or not np.isfinite(found).all():
            raise ValueError(
                f"found a base map that gives shape {found.shape}, finite: {bool(np.isfinite(found).all())}; expected finite "
                f"points of shape {expected}. Mend: give a map of points of the one space to points of the other."
            )
        return self.end.forward(found)


@dataclass(frozen=True, eq=False)
class Way:
    """A trained velocity field and the base it starts from, in standardised units.

    Attributes
    ----------
    velocity : nn.Module
    base : {"affine", "pad", "noise", "maps"}
    n_start, n_end : int
        Dimensions of the two spaces.
    image : LinearMap, Between or None
        Where an affine base, or one of a map of the user's, starts.
    """

    velocity: nn.Module
    base: str
    n_start: int
    n_end: int
    image: PointMap | None

    @property
    def n_state(self) -> int:
        """Dimensions of the state that moves."""
        return max(self.n_start, self.n_end) if self.base == "pad" else self.n_end

    @property
    def n_condition(self) -> int:
        """Dimensions of the condition, 0 for none."""
        return self.n_start if self.base in ("affine", "noise") else 0

    def start(self, Z: np.ndarray, *, row: int = 0, seed: int = 0, sample: int = 0) -> np.ndarray:
        """Return where the paths of standardised points Z begin, shape (n_points, n_state); Z begins at row ``row``."""
        if self.base == "noise":
            return noise_rows(row, row + len(Z), self.n_end, seed=seed, sample=sample)
        if self.base == "pad":
            return pad_to(Z, self.n_state)
        if self.image is None:
            raise ValueError(f"found base {self.base!r} without its map; expected one. Mend: fit again.")
        return self.image(Z)

    def field(self, condition: torch.Tensor | None) -> Field:
        """Return the velocity as ``field(t, state)``, at a fixed condition of shape (n_points, n_condition)."""

        def velocity(t: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
            return self.velocity(t.expand(len(state), 1), state, condition)

        return velocity
