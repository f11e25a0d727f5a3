"""Nearest neighbours between clouds: neighbourhoods, nearest points, and mutual nearest points."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.distance import cdist

from neurobridge.points.arrays import Rows
from neurobridge.points.blocks import row_blocks

# A hit is right when it falls among this share of the nearest points; chance is the same share for evenly used targets.
_NEIGHBOURHOOD = 0.05
_CSLS_NEIGHBOURS = 10
_MOST_COMPARED = 2000


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


def inside_neighbourhood(images: np.ndarray, Y: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """Tell which images have their nearest point of Y among the nearest 5 % of their partner's neighbours.

    Parameters
    ----------
    images : array of shape (n, n_dims)
    Y : array of shape (m, n_dims)
    partners : int array of shape (n,)
        Rows of Y.

    Returns
    -------
    bool array of shape (n,)
    """
    k = max(1, math.ceil(_NEIGHBOURHOOD * len(Y)))
    inside = np.empty(len(images), dtype=bool)
    for rows in row_blocks(len(images), len(Y)):
        distances = cdist(Y[partners[rows]], Y)
        radius = np.partition(distances, k - 1, axis=1)[:, k - 1]
        inside[rows] = distances[np.arange(len(distances)), nearest_rows(images[rows], Y)] <= radius
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


def mutual_share(images: np.ndarray, Y: np.ndarray, rng: np.random.Generator) -> float:
    """Return the share of images and targets that are each other's nearest, hubs corrected, of at most 2,000 of each.

    Parameters
    ----------
    images : array of shape (n, n_dims)
    Y : array of shape (m, n_dims)
    rng : numpy.random.Generator
        Of the points compared where there are more.

    Returns
    -------
    float
        Mutual nearest neighbours, as a share of the smaller number of points.
    """
    images, Y = (side[rng.permutation(len(side))[:_MOST_COMPARED]] for side in (images, Y))
    cost = csls(images, Y)
    column, row = cost.argmin(axis=1), cost.argmin(axis=0)
    return float((row[column] == np.arange(len(images))).sum() / min(cost.shape))


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
