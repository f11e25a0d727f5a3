"""Ranks of the partner of a point among the points of another cloud, in blocks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from neurobridge.points.arrays import as_points, read_rows
from neurobridge.points.blocks import let_go, row_blocks
from neurobridge.points.options import is_choice
from neurobridge.points.progress import progress_bar

#: Similarities of two points: larger is closer. "euclidean" is the negative distance.
SIMILARITIES = ("cosine", "correlation", "euclidean")
#: Nearest neighbours that measure how much of a hub a point is (CSLS, Conneau et al. 2018).
HUB_NEIGHBORS = 10
# Similarities of directions that differ by less are equal: rounding alone orders them.
_ROUNDING = 1e-12
# Similarities held at a time.
_BLOCK = 1 << 23


class Ranks(NamedTuple):
    """Ranks of the partners of all queries.

    Attributes
    ----------
    rank : array of shape (n_queries,)
        1 is best; ties count half.
    permuted : array of shape (n_permutations, n_queries)
        Ranks of the partners that each permutation deals to the queries, in single precision.
    """

    rank: np.ndarray
    permuted: np.ndarray


def rank_of(similarity: np.ndarray, partner: np.ndarray, *, tolerance: float = 0.0) -> np.ndarray:
    """Return the rank of a similarity within its row: 1 and the number of larger ones; the others that are equal count half.

    Parameters
    ----------
    similarity : array of shape (n_queries, n_points)
    partner : array of shape (n_queries,)
        One of the values of each row.
    tolerance : float
        Values that differ by at most this are equal.

    Returns
    -------
    array of shape (n_queries,)

    Examples
    --------
    >>> import numpy as np
    >>> rank_of(np.array([[3.0, 1.0, 2.0], [5.0, 5.0, 0.0]]), np.array([2.0, 5.0])).tolist()
    [2.0, 1.5]
    """
    n_above = (similarity > (partner + tolerance)[:, None]).sum(axis=1)
    n_level = (similarity >= (partner - tolerance)[:, None]).sum(axis=1) - n_above
    return np.asarray(1 + n_above + (n_level - 1) / 2)


def hub_corrected(similarity: np.ndarray, n_neighbors: int = HUB_NEIGHBORS) -> np.ndarray:
    """Correct similarities for hubs: ``2 s(x, y) - r(x) - r(y)``, r the mean over the nearest of the other side (CSLS).

    A point that is near to everything, a hub, would otherwise be retrieved by many queries (Conneau et al. 2018).

    Parameters
    ----------
    similarity : array of shape (n, m)
    n_neighbors : int
        Nearest of the other side, cut to the points there are.

    Returns
    -------
    array of shape (n, m)

    Examples
    --------
    >>> import numpy as np
    >>> hub_corrected(np.array([[1.0, 0.5], [0.0, 0.5]]), n_neighbors=1).tolist()
    [[0.0, -0.5], [-1.5, 0.0]]
    """
    k = min(n_neighbors, *similarity.shape)
    of_rows = np.partition(similarity, -k, axis=1)[:, -k:].mean(axis=1)
    of_columns = np.partition(similarity, -k, axis=0)[-k:].mean(axis=0)
    return np.asarray(2 * similarity - of_rows[:, None] - of_columns[None, :])


def partner_ranks(
    queries: np.ndarray,
    points: np.ndarray,
    partners: npt.ArrayLike | None = None,
    *,
    similarity: str = "cosine",
    hub_neighbors: int = 0,
    permutations: np.ndarray | None = None,
) -> Ranks:
    """Rank the partner of every query among all points, in blocks of rows: the similarities are never held together.

    Parameters
    ----------
    queries : array of shape (n, n_dims)
    points : array of shape (m, n_dims)
    partners : int array of shape (n,) or (n, n_partners), optional
        Rows of ``points``; of several the best counts and the others are left out of its competitors, and -1 fills a row with
        fewer. Default: the point of the query's own row.
    similarity : {"cosine", "correlation", "euclidean"}
        The last is the negative distance; a point without direction has similarity 0 with all.
    hub_neighbors : int
        Correct for hubs by this many neighbours (`hub_corrected`); 0 for none. It reads all queries at once.
    permutations : int array of shape (n_permutations, n), optional
        ``permutations[p, i]`` is the query whose partners query i is dealt.

    Returns
    -------
    Ranks

    Raises
    ------
    ValueError
        Unknown similarity.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> partner_ranks(X, X).rank.tolist()
    [1.0, 1.0, 1.0]
    >>> partner_ranks(X, X, [1, 0, 0]).rank.tolist()
    [3.0, 3.0, 2.5]
    """
    queries, points, tolerance = prepared_points(queries, points, similarity)
    table = np.arange(len(queries)) if partners is None else np.asarray(partners, dtype=np.intp)
    table = table.reshape(len(queries), -1)
    # A query's own nearness is the same for all points and orders none of them.
    hubs = _nearness(points, queries, similarity, hub_neighbors) if hub_neighbors else None
    rank = np.empty(len(queries))
    n_drawn = 0 if permutations is None else len(permutations)
    permuted = np.empty((n_drawn, len(queries)), dtype=np.float32)
    for rows in row_blocks(len(queries), len(points), budget=_BLOCK):
        block = _similarities(queries[rows], points, similarity)
        if hubs is not None:
            np.multiply(block, 2, out=block)
            block -= hubs
        best, n_level = _best(block, table[rows], tolerance)
        # The competitors of the best partner are the other points, not the query's other partners.
        rank[rows] = rank_of(block, best, tolerance=tolerance) - (n_level - 1) / 2
        if permutations is not None:
            _rank_permuted(block, table[permutations[:, rows]], tolerance, permuted[:, rows])
    return Ranks(rank, permuted)


class Found(NamedTuple):
    """Ranks and nearest points of queries among many points.

    Attributes
    ----------
    rank : array of shape (n_queries,)
        Of the partner of each query: 1 is best; ties count half.
    dealt_rank : array of shape (n_queries,)
        Of the partner of the next query, as it would be by chance.
    nearest : int array of shape (n_queries, n_nearest)
        Rows of the most similar points, the best first.
    similarity : array of shape (n_queries, n_nearest)
    """

    rank: np.ndarray
    dealt_rank: np.ndarray
    nearest: np.ndarray
    similarity: np.ndarray


def ranks_among_many(
    queries: np.ndarray,
    points: Any,
    partners: np.ndarray,
    *,
    similarity: str = "cosine",
    n_nearest: int = 10,
    progress: bool | None = None,
) -> Found:
    """Rank the partner of some queries among points that may lie on disk, and find the nearest: one pass over blocks of points.

    Parameters
    ----------
    queries : array of shape (n_queries, n_dims)
    points : array of shape (m, n_dims)
        In memory, mapped, or of dask.
    partners : int array of shape (n_queries,)
        Row of ``points`` that is the partner of each query.
    similarity : {"cosine", "correlation", "euclidean"}
    n_nearest : int
    progress : bool, optional
        Show a bar of the blocks.

    Returns
    -------
    Found

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> found = ranks_among_many(X[:2] + 0.1, X, np.array([0, 1]), n_nearest=2)
    >>> found.rank.tolist(), found.dealt_rank.tolist(), found.nearest.tolist()
    ([1.0, 1.0], [3.0, 3.0], [[0, 2], [1, 2]])
    """
    points = as_points(points, "points")
    n, m = len(queries), points.shape[0]
    order, place = np.unique(partners, return_inverse=True)
    truth = read_rows(points, order, "points")[place]
    known, truth, tolerance = prepared_points(queries, truth, similarity)
    dealt = np.roll(truth, -1, axis=0)
    marks = [_similarity_of_rows(known, side, similarity) for side in (truth, dealt)]
    own = [np.zeros(n), np.zeros(n)]
    k = min(n_nearest, m)
    best, rows_of_best = np.full((n, 0), -np.inf), np.empty((n, 0), dtype=np.int64)
    blocks = row_blocks(m, n, budget=_BLOCK)
    for rows in progress_bar(blocks, progress=progress, desc="retrieval", leave=False):
        block = _similarities(
            known, prepared_points(queries[:1], read_rows(points, rows, "points"), similarity)[1], similarity
        )
        let_go(points)
        for total, mark in zip(own, marks, strict=True):
            total += (
                (block > (mark + tolerance)[:, None]).sum(axis=1) + (block >= (mark - tolerance)[:, None]).sum(axis=1)
            ) / 2
        here = np.argpartition(block, -min(k, block.shape[1]), axis=1)[:, -min(k, block.shape[1]) :]
        best = np.hstack([best, np.take_along_axis(block, here, axis=1)])
        rows_of_best = np.hstack([rows_of_best, here + rows.start])
        kept = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best, rows_of_best = (np.take_along_axis(each, kept, axis=1) for each in (best, rows_of_best))
    # Each partner is level with itself.
    return Found(own[0] + 0.5, own[1] + 0.5, rows_of_best, best)


def _similarity_of_rows(A: np.ndarray, B: np.ndarray, similarity: str) -> np.ndarray:
    return -np.linalg.norm(A - B, axis=1) if similarity == "euclidean" else (A * B).sum(axis=1)


def prepared_points(queries: np.ndarray, points: np.ndarray, similarity: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Return both sides ready for inner products, in double precision, and the difference that rounding leaves.

    Raises
    ------
    ValueError
        Unknown similarity.
    """
    if not is_choice(similarity, SIMILARITIES) or similarity is None:
        raise ValueError(
            f"found similarity={similarity!r:.60}; expected one of {list(SIMILARITIES)}. Mend: similarity='cosine'."
        )
    sides = [np.asarray(side, dtype=np.float64) for side in (queries, points)]
    if similarity == "euclidean":
        return sides[0], sides[1], _ROUNDING * max(float(np.abs(side).max(initial=0)) for side in sides)
    if similarity == "correlation":
        sides = [side - side.mean(axis=1, keepdims=True) for side in sides]
    return _directions(sides[0]), _directions(sides[1]), _ROUNDING


def _directions(X: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return np.divide(X, length, out=np.zeros_like(X), where=length > 0)


def _similarities(queries: np.ndarray, points: np.ndarray, similarity: str) -> np.ndarray:
    return -cdist(queries, points) if similarity == "euclidean" else queries @ points.T


def _nearness(points: np.ndarray, others: np.ndarray, similarity: str, k: int) -> np.ndarray:
    """Return the mean similarity of every point to its k nearest others, shape (n_points,)."""
    k = min(k, len(others))
    out = np.empty(len(points))
    for rows in row_blocks(len(points), len(others), budget=_BLOCK):
        block = _similarities(points[rows], others, similarity)
        block.partition(len(others) - k, axis=1)
        out[rows] = block[:, len(others) - k :].mean(axis=1)
    return out


def _best(block: np.ndarray, table: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the best similarity of a partner in each row, and the number of partners that are level with it."""
    values = np.where(table < 0, -np.inf, np.take_along_axis(block, np.maximum(table, 0), axis=1))
    best = values.max(axis=1)
    return best, (values >= (best - tolerance)[:, None]).sum(axis=1)


def _rank_permuted(block: np.ndarray, tables: np.ndarray, tolerance: float, out: np.ndarray) -> None:
    """Write the ranks of the partners of every permutation, from one sort of each row; tables (n_permutations, n_rows, q)."""
    ordered = np.sort(block, axis=1)
    m = block.shape[1]
    for row, values in enumerate(block):
        table = tables[:, row]
        of_partners = np.where(table < 0, -np.inf, values[np.maximum(table, 0)])
        best = of_partners.max(axis=1)
        level_partners = (of_partners >= (best - tolerance)[:, None]).sum(axis=1)
        n_above = m - np.searchsorted(ordered[row], best + tolerance, side="right")
        n_level = m - np.searchsorted(ordered[row], best - tolerance, side="left") - n_above
        out[:, row] = 1 + n_above + (n_level - level_partners) / 2
