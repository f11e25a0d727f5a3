"""The two spaces of a fitted aligner: which points belong to one, and how mapped points are handed back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.aligners.inputs import is_assembly, is_large, read_points
from neurobridge.assemblies import AssemblyError, as_matrix, coords_of, validate
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION
from neurobridge.flow import Direction, OffSupportWarning, Standardiser, Support
from neurobridge.points.arrays import Array, same_kind
from neurobridge.points.blocks import let_go, row_blocks
from neurobridge.points.conversion import unlabelled

OFF_SUPPORT = "off_support"
# Rows of a large array that are mapped together.
_ROWS = 1 << 16

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")
#: The sides that a direction leaves and reaches.
ENDS: dict[Direction, tuple[str, str]] = {"forward": ("source", "target"), "backward": ("target", "source")}

Labels = dict[str, tuple[str, np.ndarray]]


class Space(NamedTuple):
    """One side of a fitted aligner.

    Attributes
    ----------
    role : {"source", "target"}
    scale : Standardiser
    support : Support
        The cloud of fitting, in standard deviations.
    neuroids : dict of str to (dim, values), or None
        Coordinates of the neuroids; None where the aligner was fitted on arrays.
    """

    role: str
    scale: Standardiser
    support: Support
    neuroids: Labels | None

    def check(self, points: xr.DataArray | Array) -> None:
        """Refuse points of another space, or of another kind than those of fitting.

        Raises
        ------
        AssemblyError
            An array for an assembly or the reverse, an assembly that is not valid, or other neuroids.
        """
        given = is_assembly(points, self.role)
        if given != (self.neuroids is not None):
            kinds = ("an assembly", "arrays") if given else (type(points).__name__, "assemblies")
            mend = (
                f"{self.role}.values" if given else "neurobridge.make_assembly(values, presentation=..., neuroid=...)"
            )
            raise AssemblyError(
                f"{self.role}: found {kinds[0]}; expected what the aligner was fitted on, {kinds[1]}. Mend: {mend}."
            )
        if self.neuroids is None:
            shape, expected = np.shape(points), len(self.scale.mean)
            if len(shape) == 2 and shape[1] != expected:
                raise AssemblyError(
                    f"{self.role}: found {shape[1]} columns; expected the {expected} of fitting. "
                    "Mend: select and order them as in fitting."
                )
            return
        validate(points, role=self.role)
        ids, fitted_ids = points.coords[NEUROID_ID].values, self.neuroids[NEUROID_ID][1]
        if not np.array_equal(ids, fitted_ids):
            raise AssemblyError(
                f"{self.role}: found {len(ids)} neuroids (first {str(ids[0])!r}); expected the {len(fitted_ids)} of fitting (first "
                f"{str(fitted_ids[0])!r}) in the same order. Mend: select and order them as in fitting."
            )

    def blocks(self, points: xr.DataArray | Array) -> list[slice]:
        """Cut points into rows that are read together: the chunks of what is backed by dask, blocks of large arrays, or all."""
        array = unlabelled(points)
        chunks = getattr(array, "chunks", None)
        if chunks is not None and (self.neuroids is not None or is_large(array)):
            edges = np.cumsum([0, *chunks[0]]).tolist()
            return [slice(*ends) for ends in pairwise(edges)]
        return row_blocks(len(array), 1, budget=_ROWS) if self.neuroids is None and is_large(array) else [slice(None)]

    def standardised(self, points: xr.DataArray | Array, rows: slice = slice(None)) -> np.ndarray:
        """Read some points of the space in standard deviations, shape (n_rows, n_dims)."""
        if self.neuroids is not None:
            return self.scale.forward(as_matrix(points.isel({PRESENTATION: rows}), role=self.role))
        return self.scale.forward(read_points(points if rows == slice(None) else points[rows], role=self.role))

    def distance(self, mapped: np.ndarray) -> np.ndarray:
        """Measure how far standardised points are from the support, shape (n_points,).

        Raises
        ------
        FloatingPointError
            Values that are NaN or infinite.
        """
        if not np.isfinite(mapped).all():
            raise FloatingPointError(
                f"found {int((~np.isfinite(mapped)).sum())} mapped values of {mapped.size} that are NaN or infinite; expected "
                "finite ones. Mend: check that the presentations are on the scale of those in fitting."
            )
        return self.support.distance(mapped)

    def flag_off_support(
        self, distance: np.ndarray, *, warn: bool, stacklevel: int, directions_alone: bool = False
    ) -> np.ndarray:
        """Flag points that lie off the support, by their distances to it; both of shape (n_points,).

        Warns
        -----
        OffSupportWarning
            Where asked for: more points off the support than chance allows, or any of them far off. Where ``directions_alone``
            are compared and none is far off, the message is short and without numbers, so that it is shown once.
        """
        support = self.support
        off = distance > support.radius
        if warn and (off.sum() > support.expected(len(off)) or distance.max() > support.extent):
            direction = "forward" if self.role == "target" else "backward"
            flags = (
                f"aligner.support_[{direction!r}].off(aligner.{self.role}_scale_.forward(mapped))"
                if self.neuroids is None
                else f"the coordinate {OFF_SUPPORT!r}"
            )
            if directions_alone and distance.max() <= support.extent:
                warnings.warn(
                    f"found mapped presentations off the support of the {self.role}: criterion='retrieval' chooses a map by "
                    "directions, and not by lengths. Mend: none is needed to seek partners by cosine or correlation; where values "
                    f"of neuroids count, criterion='correlation'. {flags} tells which.",
                    OffSupportWarning,
                    stacklevel=stacklevel + 1,
                )
                return off
            warnings.warn(
                f"found {int(off.sum())} of {len(off)} mapped presentations off the support of the {self.role} (further from its "
                f"nearest training point than {support.quantile:g} of these are from theirs, {support.radius:.3g} standard "
                f"deviations; the furthest {distance.max():.3g}); expected about {len(off) * (1 - support.quantile):.3g}. Mend: "
                f"{flags} tells which; leave them out, or fit on stimuli like them and on more pairs.",
                OffSupportWarning,
                stacklevel=stacklevel + 1,
            )
        return off

    def handed_back(
        self, values: np.ndarray, off: np.ndarray, points: xr.DataArray | Array, attrs: dict[str, Any]
    ) -> xr.DataArray | Array:
        """Return mapped points in the form of the points that were mapped.

        Parameters
        ----------
        values : array of shape (n_points, n_dims)
            In the units of the space.
        off : bool array of shape (n_points,)
        points : xarray.DataArray or array
            What was mapped: presentation coordinates and attrs are its own, or its kind of array.
        attrs : dict
            Further attrs of an assembly.
        """
        if self.neuroids is None:
            return same_kind(values, points)
        counts = {"n_off_support": int(off.sum()), "support_quantile": self.support.quantile}
        return xr.DataArray(
            values,
            dims=(PRESENTATION, NEUROID),
            coords={**coords_of(points, PRESENTATION), OFF_SUPPORT: (PRESENTATION, off), **self.neuroids},
            attrs={**points.attrs, **attrs, **counts},
            name="data",
        )


def moved_points(
    points: xr.DataArray | Array,
    entry: Space,
    arrival: Space,
    mapping: Callable[[np.ndarray], np.ndarray],
    *,
    rows_alone: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Map points from one space to another, a block of rows at a time where they are large or backed by dask.

    Parameters
    ----------
    points : xarray.DataArray or array
    entry, arrival : Space
    mapping : callable
        From standardised points to standardised points.
    rows_alone : bool
        A point is mapped the same whatever others are mapped with it; otherwise all are mapped at once.

    Returns
    -------
    values : array of shape (n_points, n_dims)
        In the units of the space of arrival.
    distances : array of shape (n_points,)
        To its support.
    """
    blocks = entry.blocks(points) if rows_alone else [slice(None)]
    if len(blocks) == 1:
        mapped = mapping(entry.standardised(points))
        return arrival.scale.backward(mapped), arrival.distance(mapped)
    n_points = np.shape(points)[0]
    values, distances = np.empty((n_points, len(arrival.scale.mean))), np.empty(n_points)
    for rows in blocks:
        mapped = mapping(entry.standardised(points, rows))
        values[rows], distances[rows] = arrival.scale.backward(mapped), arrival.distance(mapped)
        let_go(points)
    return values, distances
