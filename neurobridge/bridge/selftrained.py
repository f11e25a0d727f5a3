"""Self-trained rotations: orthogonal maps that are refitted on the unpaired points of both clouds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from neurobridge.bridge.cost.protocol import check_rows
from neurobridge.maps.linear import LinearMap
from neurobridge.maps.orthogonal import nearest_rotation
from neurobridge.points.arrays import Array, Rows, points
from neurobridge.points.blocks import row_blocks
from neurobridge.points.display import Displayed
from neurobridge.points.options import require_options
from neurobridge.points.scale import unit_of_cloud

# Similarities held at once: 64 MB of them.
_BLOCK = 1 << 24
_TINY = 1e-12
_NO_ROWS: Rows = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


@dataclass(frozen=True, eq=False, repr=False)
class SelfTrainedMap(Displayed):
    """A rotation between two clouds in both directions, made by `self_train`.

    Attributes
    ----------
    forward, backward : LinearMap
        ``x -> s (x - x_mean) R + y_mean`` and ``y -> t (y - y_mean) R^T + x_mean``, in the units of the points given.
    rotation : array of shape (n_source_dims, n_target_dims)
        R: its rows, or its columns if they are fewer, are orthonormal.
    scales : tuple of two float
        s and t, each of least squares over pairs and provisional partners; their product is below 1 unless the fit is perfect.
    n_rounds : int
        Rounds of refitting done.
    settled : bool
        True if the rotation stopped changing before the last round.

    Examples
    --------
    See `self_train`.
    """

    forward: LinearMap
    backward: LinearMap
    rotation: np.ndarray
    scales: tuple[float, float]
    n_rounds: int
    settled: bool

    def _facts(self) -> dict[str, Any]:
        n, m = self.rotation.shape
        return {"dims": f"{n} to {m} dims", "rounds": self.n_rounds, "settled": self.settled}


class _Guess(NamedTuple):
    """Points without a known partner and their provisional partners: of the source, and of the target."""

    forward: Rows
    backward: Rows


def self_train(
    X: Array,
    Y: Array,
    pairs: Rows | None = None,
    *,
    start: Rows | np.ndarray | None = None,
    n_rounds: int = 15,
    n_neighbors: int = 10,
    damping: float = 0.5,
    pair_weight: float = 1.0,
    tol: float = 1e-3,
    max_points: int = 20_000,
    seed: int = 0,
) -> SelfTrainedMap:
    """Fit a rotation on a few pairs, and refit it on the points without a partner.

    Both clouds are centred on the mean of all their points and divided by one unit of length. Then, with the rotation R of
    the pairs (or of ``start``), each round does this:

    1. Every source point x without a known partner is compared with every target point y by the cosine ``c`` of x R and y,
       corrected for hubs (CSLS, Conneau et al. 2018): ``2 c(x, y) - r(x) - r(y)``, r the mean cosine of a point with its
       nearest points of the other cloud.
    2. The mean of its ``n_neighbors`` most similar target points is its provisional partner. Target points without a known
       partner get provisional source partners likewise.
    3. R is refitted orthogonally on the pairs and all provisional partners, ``U V^T`` of the singular value decomposition of
       the weighted cross-covariance (Schonemann 1966), and averaged with the last one: ``(1 - damping) R + damping R_new``.

    A rotation keeps the whole geometry of the source cloud, which is why it can be trained on its own guesses without
    shrinking. The scheme is that of mini-vec2vec (Dar 2025), with known pairs in place of its matching of cluster centres.

    Memory: 64 MB of similarities at a time, beside copies of both clouds in single precision. A round costs
    ``O(n m (n_dims + log n))`` time and one decomposition of an ``n_source_dims x n_target_dims`` matrix.

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
    Y : array of shape (m, n_target_dims)
    pairs : tuple of two int arrays of shape (n_pairs,), optional
        Rows of X and of Y known to be partners; they stay so in every round.
    start : tuple of two int arrays, or array of shape (n_source_dims, n_target_dims), optional
        Where the first rotation comes from, if not from the pairs: a provisional matching (rows of X and of Y), which is
        forgotten after the first round, or a matrix whose nearest rotation is taken.
    n_rounds : int
        Most rounds; 0 gives the rotation of the pairs.
    n_neighbors : int
        Points that a provisional partner is the mean of, and neighbours of r; cut to the points there are.
    damping : float
        Share of the new rotation in the average, in (0, 1].
    pair_weight : float
        Weight of a known pair, in provisional partners.
    tol : float
        The rotation has settled when a round changes it by less, as a share of its own norm.
    max_points : int
        Most points of a cloud that a round compares; of larger clouds every round draws others.
    seed : int
        Of these draws; smaller clouds need no chance.

    Returns
    -------
    SelfTrainedMap

    Raises
    ------
    ValueError
        Neither pairs nor a start, pairs that tell no direction, points that all coincide, NaN, or options out of range.

    References
    ----------
    Dar 2025, *mini-vec2vec: scaling universal geometry alignment with linear transformations*. Conneau et al. 2018, *Word
    translation without parallel data*. Schonemann 1966, Psychometrika 31:1.

    Examples
    --------
    A turned noisy copy of a cloud in more dimensions, of which three pairs are known, too few for eight directions:

    >>> import numpy as np
    >>> from neurobridge.bridge import self_train
    >>> rng = np.random.default_rng(0)
    >>> X = rng.exponential(size=(200, 8)) * np.arange(1, 9)
    >>> Y = X @ np.linalg.qr(rng.normal(size=(10, 8)))[0].T + 0.1 * rng.normal(size=(200, 10))
    >>> pairs = np.arange(3), np.arange(3)
    >>> few, trained = (self_train(X, Y, pairs, n_rounds=n_rounds, n_neighbors=1) for n_rounds in (0, 30))
    >>> error = [float(np.abs(each.forward(X) - Y).mean()) for each in (few, trained)]
    >>> error[1] < 0.05 * error[0]
    True
    """
    require_options(seed=seed)
    _check_options(n_rounds, n_neighbors, damping, pair_weight, tol, max_points)
    source, target = _Cloud.of(X, "X"), _Cloud.of(Y, "Y")
    sizes = len(source.points), len(target.points)
    known = _NO_ROWS if pairs is None else check_rows(pairs, *sizes)
    kept = pair_weight * _cross(source.points[known[0]], target.points[known[1]])
    rotation = nearest_rotation(kept if start is None else _start(source.points, target.points, start))
    if not rotation.any():
        raise ValueError(
            f"found {len(known[0])} pairs and {'no start' if start is None else 'a start'}, which tell no direction; expected "
            "pairs or a start away from the means of the clouds. Mend: pass more pairs, or start=(source_rows, target_rows)."
        )
    free = tuple(~np.isin(np.arange(size), rows) for size, rows in zip(sizes, known, strict=True))
    rng = np.random.default_rng(seed)

    def guess() -> _Guess:
        rows, columns = (_drawn(size, max_points, rng) for size in sizes)
        of_source, of_target = provisional_partners(source.points[rows], target.points[columns], rotation, n_neighbors)
        asked, answered = free[0][rows], free[1][columns]
        return _Guess(
            (source.points[rows[asked]], of_source[asked]), (target.points[columns[answered]], of_target[answered])
        )

    settled, n_done = not (free[0].any() or free[1].any()), 0
    while n_done < n_rounds and not settled:
        forward, backward = guess()
        cross = 2 * kept + _cross(*forward) + _cross(*backward).T
        averaged = (1 - damping) * rotation + damping * nearest_rotation(cross)
        change = float(np.linalg.norm(averaged - rotation) / np.linalg.norm(averaged))
        rotation, n_done, settled = averaged, n_done + 1, change < tol
    rotation = nearest_rotation(rotation)
    forward, backward = guess()
    weight = np.sqrt(pair_weight)
    left, right = weight * source.points[known[0]], weight * target.points[known[1]]
    unit = target.unit / source.unit
    scales = (
        unit * _scale(rotation, np.vstack([left, forward[0]]), np.vstack([right, forward[1]])),
        1 / unit * _scale(rotation.T, np.vstack([right, backward[0]]), np.vstack([left, backward[1]])),
    )
    return SelfTrainedMap(
        LinearMap(scales[0] * rotation, source.mean, target.mean, np.zeros(rotation.shape[1])),
        LinearMap(scales[1] * rotation.T, target.mean, source.mean, np.zeros(rotation.shape[0])),
        rotation,
        scales,
        n_done,
        settled,
    )


def provisional_partners(
    X: np.ndarray, Y: np.ndarray, rotation: np.ndarray, n_neighbors: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Average, for each point, the most similar points of the other cloud: hub-corrected cosines under a rotation.

    ``2 c(x, y) - r(x) - r(y)``, c the cosine of x R and y in the space of fewer dimensions, r the mean cosine of a point with
    its ``n_neighbors`` nearest of the other cloud (CSLS, Conneau et al. 2018). At most 64 MB of cosines are held at a time.

    Parameters
    ----------
    X, Y : arrays of shape (n, n_source_dims) and (m, n_target_dims)
        Centred.
    rotation : array of shape (n_source_dims, n_target_dims)
        R.
    n_neighbors : int
        Cut to the points there are.

    Returns
    -------
    of_source : array of shape (n, n_target_dims)
    of_target : array of shape (m, n_source_dims)

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> of_source, of_target = provisional_partners(X, X[[2, 0, 1]], np.eye(2), n_neighbors=1)
    >>> of_source.tolist() == X.tolist()
    True
    """
    turn = rotation.astype(X.dtype)
    # In the space of fewer dimensions, so that exchanging the clouds exchanges the partners.
    turned, fixed = (X, Y @ turn.T) if X.shape[1] < Y.shape[1] else (X @ turn, Y)
    turned, fixed = unit_rows(turned), unit_rows(fixed)
    hubs = _nearness(turned, fixed, n_neighbors), _nearness(fixed, turned, n_neighbors)
    return _partners(turned, fixed, hubs[1], Y, n_neighbors), _partners(fixed, turned, hubs[0], X, n_neighbors)


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Divide each point by its norm; points at the origin stay there."""
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), _TINY)


class _Cloud(NamedTuple):
    """A centred cloud in single precision, in units of its root mean square deviation."""

    points: np.ndarray
    mean: np.ndarray
    unit: float

    @classmethod
    def of(cls, x: Array, name: str) -> _Cloud:
        X = points(x, name=name).double().cpu().numpy()
        if not (X[0] != X).any():
            raise ValueError(
                f"{name}: found {len(X)} points that coincide; expected at least two that differ. Mend: drop duplicates."
            )
        mean, unit = X.mean(axis=0), unit_of_cloud(X)
        return cls(((X - mean) / unit).astype(np.float32), mean, unit)


def _check_options(
    n_rounds: int, n_neighbors: int, damping: float, pair_weight: float, tol: float, max_points: int
) -> None:
    require_options(
        n_rounds=n_rounds,
        n_neighbors=n_neighbors,
        damping=damping,
        pair_weight=pair_weight,
        tol=tol,
        max_points=max_points,
    )
    for name, value, least in (
        ("n_rounds", n_rounds, 0),
        ("n_neighbors", n_neighbors, 1),
        ("max_points", max_points, 2),
    ):
        if value < least:
            raise ValueError(f"found {name}={value}; expected at least {least}. Mend: leave it out for the default.")
    if not 0 < damping <= 1:
        raise ValueError(f"found damping={damping}; expected in (0, 1]. Mend: use 0.5.")
    if not (0 < pair_weight < np.inf and tol >= 0):
        raise ValueError(
            f"found pair_weight={pair_weight}, tol={tol}; expected a positive finite weight and no negative tolerance. "
            "Mend: leave them out for the defaults."
        )


def _start(X: np.ndarray, Y: np.ndarray, start: Rows | np.ndarray) -> np.ndarray:
    """Return the cross-covariance of a provisional matching, or the matrix itself."""
    if isinstance(start, tuple):
        rows, columns = check_rows(start, len(X), len(Y))
        return _cross(X[rows], Y[columns])
    expected = X.shape[1], Y.shape[1]
    if np.shape(start) != expected:
        raise ValueError(
            f"found start of shape {np.shape(start)}; expected {expected} or two index arrays. "
            "Mend: start=(source_rows, target_rows)."
        )
    return np.asarray(start, dtype=float)


def _cross(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    return (X.T @ Y).astype(float)


def _drawn(size: int, most: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(size) if size <= most else np.sort(rng.choice(size, most, replace=False))


def _blocks(queries: np.ndarray, others: np.ndarray, n_gathered: int) -> list[slice]:
    return row_blocks(len(queries), max(len(others), n_gathered), budget=_BLOCK)


def _nearness(queries: np.ndarray, others: np.ndarray, k: int) -> np.ndarray:
    """Mean cosine of every query with its k nearest others, shape (n_queries,)."""
    k = min(k, len(others))
    out = np.empty(len(queries), dtype=queries.dtype)
    for rows in _blocks(queries, others, 0):
        out[rows] = np.partition(queries[rows] @ others.T, -k, axis=1)[:, -k:].mean(axis=1)
    return out


def _partners(queries: np.ndarray, others: np.ndarray, nearness: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """Mean value of the k others that are nearest to every query, hubs corrected."""
    k = min(k, len(others))
    out = np.empty((len(queries), values.shape[1]), dtype=values.dtype)
    for rows in _blocks(queries, others, k * values.shape[1]):
        # The query's own nearness is the same for all others.
        similarity = 2 * (queries[rows] @ others.T) - nearness
        nearest = np.argpartition(similarity, -k, axis=1)[:, -k:]
        out[rows] = values[nearest].mean(axis=1)
    return out


def _scale(rotation: np.ndarray, X: np.ndarray, partners: np.ndarray) -> float:
    """Least-squares scale of X R towards the partners."""
    turned = X @ rotation
    return float((turned * partners).sum() / np.square(turned).sum())
