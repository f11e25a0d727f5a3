"""Nearest neighbours between clouds: neighbourhoods, nearest points, and mutual nearest points."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.distance import cdist

from neurobridge.points.arrays import Rows

# A hit is right when it falls among this share of the nearest points; chance is the same share for evenly used targets.
_NEIGHBOURHOOD = 0.05
_CSLS_NEIGHBOURS = 10


def neighbourhoods(X: np.ndarray) -> np.ndarray:
    """Mark the nearest 5 % of every point, itself included.

    Parameters
    ----------
    X : array of shape (n, n_dims)

    Returns
    -------
    bool array of shape (n, n)
        True where column j is among the nearest of row i.
    """
    k = max(1, math.ceil(_NEIGHBOURHOOD * len(X)))
    nearest = np.argpartition(cdist(X, X), k - 1, axis=1)[:, :k]
    inside = np.zeros((len(X), len(X)), dtype=bool)
    np.put_along_axis(inside, nearest, True, axis=1)
    return inside


def nearest_rows(images: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return the row of Y nearest to every image, shape (n_images,)."""
    return cdist(images, Y).argmin(axis=1)


def csls(images: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Correct distances for hubs (CSLS, Conneau et al. 2018).

    ``2 d(x, y) - r(x) - r(y)``, r the mean distance of a point to its ten nearest of the other cloud.

    Parameters
    ----------
    images : array of shape (n, n_dims)
    Y : array of shape (m, n_dims)

    Returns
    -------
    array of shape (n, m)
    """
    distance = cdist(images, Y)
    k = min(_CSLS_NEIGHBOURS, *distance.shape)
    of_images = np.partition(distance, k - 1, axis=1)[:, :k].mean(axis=1)
    of_targets = np.partition(distance, k - 1, axis=0)[:k].mean(axis=0)
    return 2 * distance - of_images[:, None] - of_targets[None, :]


def mutual_nearest(cost: np.ndarray) -> Rows:
    """Return the rows and columns of a cost matrix that are each other's cheapest.

    Raises
    ------
    ValueError
        Fewer than two.

    Examples
    --------
    >>> i, j = mutual_nearest(np.array([[0.0, 2.0, 3.0], [2.0, 4.0, 1.0]]))
    >>> i, j
    (array([0, 1]), array([0, 2]))
    """
    cheapest_column, cheapest_row = cost.argmin(axis=1), cost.argmin(axis=0)
    i = np.flatnonzero(cheapest_row[cheapest_column] == np.arange(len(cost)))
    return at_least_two((i, cheapest_column[i]), *cost.shape)


def at_least_two(anchors: Rows, n: int, m: int) -> Rows:
    """Return anchors between n and m points, refusing fewer than two."""
    if len(anchors[0]) < 2:
        raise ValueError(
            f"found {len(anchors[0])} mutual nearest neighbours between {n} and {m} points; expected at least 2. "
            "Mend: drop duplicate points; nearly all of them coincide."
        )
    return anchors
