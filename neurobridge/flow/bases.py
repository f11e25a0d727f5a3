"""Starts of paths: in the target's space at an image of the source, at the padded source, or at noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from neurobridge.flow.ode import Field
from neurobridge.points.arrays import pad_to
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.scale import Standardiser

Base = Literal["affine", "pad", "noise"]
#: Bases that have a name; a fitted map, or two, is a base as well.
BASES: tuple[Base, ...] = ("affine", "pad", "noise")
#: Name of a base of one or two maps given by the user.
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


@dataclass(frozen=True, eq=False, repr=False)
class StandardisedMap:
    """A map between two spaces in their own units, applied to standardised points.

    Attributes
    ----------
    point_map : callable
        Takes points of shape (n_points, d), gives points of shape (n_points, d_other), both in their own units.
    start_scale, end_scale : Standardiser
        Of the space the map leaves, and of the space it reaches.
    """

    point_map: PointMap
    start_scale: Standardiser
    end_scale: Standardiser

    def __call__(self, Z: np.ndarray) -> np.ndarray:
        """Map standardised points of shape (n_points, d) to standardised points of shape (n_points, d_other).

        Raises
        ------
        ValueError
            The map gives another shape, or values that are not finite.
        """
        images = np.asarray(self.point_map(self.start_scale.backward(Z)), dtype=np.float64)
        expected = (len(Z), len(self.end_scale.mean))
        if images.shape != expected or not np.isfinite(images).all():
            raise ValueError(
                f"found a base map that gives shape {images.shape}, finite: {bool(np.isfinite(images).all())}; expected "
                f"finite points of shape {expected}. Mend: give a map of points of the one space to points of the other."
            )
        return self.end_scale.forward(images)

    def __repr__(self) -> str:
        name = getattr(self.point_map, "__qualname__", type(self.point_map).__name__)
        return short_repr("StandardisedMap", name, f"{len(self.start_scale.mean)} -> {len(self.end_scale.mean)} dims")


@dataclass(frozen=True, eq=False, repr=False)
class VelocityField:
    """A trained velocity network and the base its paths start from, in standardised units.

    Attributes
    ----------
    velocity : nn.Module
    base : {"affine", "pad", "noise", "maps"}
    n_start, n_end : int
        Dimensions of the two spaces.
    base_map : LinearMap, StandardisedMap or None
        Map of standardised points whose images are the starts, where the base is "affine" or "maps".
    """

    velocity: nn.Module
    base: str
    n_start: int
    n_end: int
    base_map: PointMap | None

    @property
    def n_state(self) -> int:
        """Dimensions of the state that moves."""
        return max(self.n_start, self.n_end) if self.base == "pad" else self.n_end

    @property
    def n_condition(self) -> int:
        """Dimensions of the condition, 0 for none."""
        return self.n_start if self.base in ("affine", "noise") else 0

    def start(self, Z: np.ndarray, *, row: int = 0, seed: int = 0, sample: int = 0) -> np.ndarray:
        """Return the starts of paths.

        Parameters
        ----------
        Z : array of shape (n_points, n_start)
            Standardised points.
        row : int
            Number of the first of them among all points, which noise depends on.
        seed, sample : int
            Of the noise.

        Returns
        -------
        array of shape (n_points, n_state)

        Raises
        ------
        ValueError
            The base needs a map and has none.
        """
        if self.base == "noise":
            return noise_rows(row, row + len(Z), self.n_end, seed=seed, sample=sample)
        if self.base == "pad":
            return pad_to(Z, self.n_state)
        if self.base_map is None:
            raise ValueError(f"found base {self.base!r} without its map; expected one. Mend: fit again.")
        return self.base_map(Z)

    def at(self, condition: torch.Tensor | None) -> Field:
        """Return the velocity as ``field(t, state)``, at a fixed condition of shape (n_points, n_condition)."""

        def velocity(t: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
            return self.velocity(t.expand(len(state), 1), state, condition)

        return velocity

    def _facts(self) -> dict[str, Any]:
        n_parameters = sum(p.numel() for p in self.velocity.parameters())
        return {"base": self.base, "dims": f"{self.n_start} -> {self.n_end}", "parameters": n_parameters}

    def __repr__(self) -> str:
        facts = self._facts()
        return short_repr("VelocityField", facts["base"], f"{facts['dims']} dims", parameters=facts["parameters"])

    def _repr_html_(self) -> str:
        return html_repr("VelocityField", self._facts())
