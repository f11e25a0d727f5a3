"""Components of a neighbour graph, and the shortest links that join them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.hierarchy import DisjointSet

from neurobridge.bridge.cost.geodesic.cells import CellIndex
from neurobridge.points.blocks import row_blocks

# Cells that a point looks through for one of another component.
_PROBES = 16
# Points that look through the cells together.
_TOGETHER = 1 << 16
#: Gives, for some points, the length of the shortest link to another component and the point there; infinite where none was found.
NearestOutside = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Links(NamedTuple):
    """Links between points of a graph: their ends, and their lengths."""

    source: np.ndarray
    target: np.ndarray
    length: np.ndarray


def joining_links(label: np.ndarray, nearest_outside: NearestOutside, exactly: NearestOutside, most: int) -> Links:
    """Return the links that join all components: a minimum spanning tree of them (Boruvka's algorithm).

    In each round every component but the largest takes its shortest link to another, so that at most half of them are left.

    Parameters
    ----------
    label : int array of shape (n_points,)
        Component of each point, from 0.
    nearest_outside : NearestOutside
        Called with points and the present components of all points.
    exactly : NearestOutside
        The same, which finds a link of any point; asked for the smallest component where no other has found a link.
    most : int
        Points of a component that are asked for links, evenly spaced.

    Examples
    --------
    >>> points = np.array([0.0, 1.0, 10.0, 11.0, 14.0])
    >>> def nearest(some, label):
    ...     gaps = np.abs(points[some, None] - points)
    ...     gaps[label[some, None] == label] = np.inf
    ...     return gaps.min(axis=1), gaps.argmin(axis=1)
    >>> links = joining_links(np.array([0, 0, 1, 1, 2]), nearest, nearest, most=5)
    >>> sorted(links.length.tolist())
    [3.0, 9.0]
    """
    label, found = label.copy(), []
    while label.max() > 0:
        sizes = np.bincount(label)
        points = _some_of_each(label, sizes, most)
        lengths, others = nearest_outside(points, label)
        if not np.isfinite(lengths).any():
            # Of those that were asked: the largest was not.
            smallest = label[points[sizes[label[points]].argmin()]]
            points = points[label[points] == smallest]
            lengths, others = exactly(points, label)
        order = np.argsort(lengths, kind="stable")
        shortest = order[np.unique(label[points[order]], return_index=True)[1]]
        merged = DisjointSet(range(len(sizes)))
        for link in shortest[np.argsort(lengths[shortest], kind="stable")]:
            if np.isfinite(lengths[link]) and merged.merge(int(label[points[link]]), int(label[others[link]])):
                found.append((points[link], others[link], lengths[link]))
        roots = np.array([merged[component] for component in range(len(sizes))])
        label = np.unique(roots, return_inverse=True)[1][label]
    source, target, length = map(np.array, zip(*found, strict=True))
    return Links(source, target, length)


def nearest_outside_in_cells(cells: CellIndex) -> NearestOutside:
    """Return what looks through the cells around points for those of other components, by places and units of the cells."""
    points = cells.points

    def nearest(places: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        component = torch.as_tensor(label, device=points.device)
        cell = np.searchsorted(cells.starts, places, side="right") - 1
        lengths, others = np.empty(len(places), dtype=np.float32), np.empty(len(places), dtype=np.int64)
        for rows in row_blocks(len(places), 1, budget=_TOGETHER):
            some = torch.as_tensor(places[rows], device=points.device)
            squares, found = cells.search(
                points[some], k=1, n_probes=_PROBES, cell=torch.as_tensor(cell[rows], device=points.device),
                apart=(component[some], component),
            )  # fmt: skip
            place = found[:, 0].long()
            # The search rounds.
            length = (points[some] - points[place]).norm(dim=1)
            length[squares[:, 0].isinf()] = torch.inf
            lengths[rows], others[rows] = length.cpu().numpy(), place.cpu().numpy()
        return lengths, others

    return nearest


def _some_of_each(label: np.ndarray, sizes: np.ndarray, most: int) -> np.ndarray:
    """Points of every component but the largest, at most so many of each, evenly spaced."""
    order = np.argsort(label, kind="stable")
    rank = np.arange(len(label)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    size = sizes[label[order]]
    share = np.minimum(size, most)
    is_kept = (rank * share) // size != ((rank - 1) * share) // size
    return order[is_kept & (label[order] != sizes.argmax())]
