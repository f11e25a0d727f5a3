"""Two spaces without a single known pair: find provisional anchors, and say how far to trust them."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from neurobridge.bridge.cost.bridge import bridge_cost
from neurobridge.bridge.cost.metrics import Metric
from neurobridge.bridge.fused.fuse import FusedBridge, fuse
from neurobridge.bridge.transport.coupling import ConvergenceWarning, Coupling, couple
from neurobridge.bridge.unpaired.gromov import inner_distances, match_geometry, scrambled
from neurobridge.bridge.unpaired.lowrank import match_parts
from neurobridge.bridge.unpaired.trust import LEAST_CYCLE, LEAST_STABILITY, MOST_DISTORTION, Trust
from neurobridge.points.arrays import Rows, points
from neurobridge.points.memory import check_memory

# A hit is right when it falls among this share of the nearest points; chance is the same share for evenly used targets.
_NEIGHBOURHOOD = 0.05
_PROBES = 500
_FEWEST_POINTS = 20
_FEWEST_ANCHORS = 4
_CSLS_NEIGHBOURS = 10
# The refinement holds matrices between all its points; restarts of low rank do not.
_MOST_REFINED = 2000
# One candidate: provisional anchors are no ground to choose between many on.
_ROUND: dict[str, Any] = {"lams": (0.9,), "epsilons": (0.03,), "n_rounds": (1,), "n_folds": 2}

Solver = Literal["entropic", "lowrank"]


class UntrustedAlignmentWarning(UserWarning):
    """An alignment without pairs that the data do not support."""


@dataclass(frozen=True, eq=False)
class UnpairedStart:
    """Provisional anchors found without any pair, made by `align_unpaired`.

    Attributes
    ----------
    anchors : tuple of two int arrays of shape (n_anchors,)
        Rows of X and of Y, most confident first.
    confidence : array of shape (n_anchors,)
        Votes of the restarts, in [0, 1]: the share of forward and backward maps that put one end of the anchor into the
        neighbourhood (5 % of the points) of the other; about 0.05 by chance.
    bridge : FusedBridge
        The fused bridge of the last round, between the points used.
    source_rows, target_rows : int arrays
        Rows of X and Y that the bridge was fitted on: all, or a sample of ``n_points``.
    n_rounds : int
        Rounds of refitting done.
    settled : bool
        Whether the anchors stopped changing before ``max_rounds``.
    trust : Trust
    """

    anchors: Rows
    confidence: np.ndarray
    bridge: FusedBridge
    source_rows: np.ndarray
    target_rows: np.ndarray
    n_rounds: int
    settled: bool
    trust: Trust

    @property
    def trustworthy(self) -> bool:
        """Short for ``trust.trustworthy``."""
        return self.trust.trustworthy

    def map(self, X_new: np.ndarray) -> np.ndarray:
        """Map points of shape (n_new, n_source_dims) to the target space by the last fused bridge."""
        return self.bridge.map(X_new)


class _Geometry(NamedTuple):
    """How two samples of points are matched by their inner distances."""

    solver: Solver
    rank: int
    metric: Metric
    n_neighbors: int

    def match(self, left: np.ndarray, right: np.ndarray, rng: np.random.Generator) -> tuple[Rows, float]:
        """Anchors and distortion."""
        if self.solver == "lowrank":
            parts = match_parts(left, right, rng, rank=self.rank)
            return _two_at_least(parts.anchors(left, right), len(left), len(right)), parts.distortion
        C, D = (inner_distances(side, metric=self.metric, n_neighbors=self.n_neighbors) for side in (left, right))
        match = match_geometry(C, D, rng)
        return _mutual(-match.plan), match.distortion


class _Restart(NamedTuple):
    forward: Coupling
    target: np.ndarray
    source: np.ndarray
    distortion: float

    def there(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.forward.map(X, self.target))

    def back(self, Y: np.ndarray) -> np.ndarray:
        return np.asarray(self.forward.transposed().map(Y, self.source))


def align_unpaired(
    X: np.ndarray,
    Y: np.ndarray,
    *,
    n_anchors: int = 100,
    n_points: int = 300,
    n_restarts: int = 4,
    n_null: int = 4,
    max_rounds: int = 10,
    solver: Solver = "entropic",
    rank: int = 30,
    metric: Metric = "euclidean",
    n_neighbors: int = 10,
    seed: int = 0,
    memory_limit: float = 2e9,
) -> UnpairedStart:
    """Start an alignment of two spaces from their geometry alone.

    1. Each restart draws four fifths of the points (at most ``n_points``) of either space and matches their inner distances by
       Gromov-Wasserstein (`match_geometry`; Alvarez-Melis & Jaakkola 2018 did so for word embeddings). Points that are each other's
       best match under the plan become its anchors, and the bridge over them its map. With ``solver="lowrank"`` parts of the clouds
       are matched instead (`match_parts`), whose middle points are the anchors: memory is linear in the points.
    2. The least distorting restart gives the first map. Mutual nearest neighbours between images and target points, under the
       hub-corrected distance CSLS (Conneau et al. 2018), are the provisional anchors; a fused bridge is fitted on them, its map
       gives new mutual nearest neighbours, and so on until the anchors no longer change (the refinement of Conneau et al. 2018 and
       Grave et al. 2019, with the fused bridge in place of Procrustes).
    3. Trust is measured without truth: do restarts on different points agree, do points come home when sent forward by one restart
       and back by another, and is the distortion below that towards targets whose parts have been rearranged?

    A match by geometry is blind to the symmetries of a cloud, and any two clouds have a best match: read ``trust`` first.

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
        Points of the source space; standardise dimensions beforehand if their units differ.
    Y : array of shape (m, n_target_dims)
        Points of the target space.
    n_anchors : int
        Anchors kept at most, those with most votes first.
    n_points : int
        Points of each space used at most; time grows with its square to cube ("lowrank": square, the refinement on at most 2,000).
    n_restarts : int
        At least 2, as agreement needs two.
    n_null : int
        Surrogates that the distortion is compared with, at least 1.
    max_rounds : int
        Rounds of refitting at most.
    solver : {"entropic", "lowrank"}
        Gromov-Wasserstein of the restarts. "lowrank" matches ``rank`` parts by squared Euclidean distances, whatever the metric of
        the bridges: for clouds of thousands of points, whose parts a sample of 300 would not show.
    rank : int
        Parts of "lowrank", at least 4.
    metric, n_neighbors : see `bridge_cost`
        The inner distance of both spaces: "euclidean" where one is a turned or stretched copy of the other, "geodesic" where both
        are folded differently (real digits: more than three times the gain over chance), at the price of gaps in well-separated
        clusters.
    seed : int
    memory_limit : float
        Bytes the matrices of one restart may take.

    Returns
    -------
    UnpairedStart

    Warns
    -----
    UntrustedAlignmentWarning
        The rule of `Trust` is not met.

    Raises
    ------
    ValueError
        Fewer than 20 points in a space, non-finite points, nearly all points the same, or options below their least value.
    MemoryError
        ``n_points`` asks for more than ``memory_limit``.

    References
    ----------
    Mémoli 2011, *Gromov-Wasserstein distances and the metric approach to object matching*. Peyré, Cuturi & Solomon 2016,
    *Gromov-Wasserstein averaging of kernel and distance matrices*. Alvarez-Melis & Jaakkola 2018, *Gromov-Wasserstein alignment of
    word embedding spaces*. Conneau et al. 2018, *Word translation without parallel data*. Grave, Joulin & Berthet 2019,
    *Unsupervised alignment of embeddings with Wasserstein Procrustes*. Scetbon, Peyré & Cuturi 2022, *Linear-time
    Gromov-Wasserstein distances using low rank couplings and costs*.
    """
    for name, value, least in (
        ("n_anchors", n_anchors, _FEWEST_ANCHORS), ("n_points", n_points, _FEWEST_POINTS), ("n_restarts", n_restarts, 2),
        ("n_null", n_null, 1), ("max_rounds", max_rounds, 1), ("rank", rank, _FEWEST_ANCHORS),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"found {name}={value}; expected at least {least}. Mend: leave it out for the default.")
    if solver not in ("entropic", "lowrank"):
        raise ValueError(f"found solver={solver!r}; expected 'entropic' or 'lowrank'. Mend: choose one of them.")
    X, Y = (points(side, name=name).double().cpu().numpy() for side, name in ((X, "X"), (Y, "Y")))
    for side, name in ((X, "X"), (Y, "Y")):
        if len(side) < _FEWEST_POINTS:
            raise ValueError(
                f"{name}: found {len(side)} points; expected at least {_FEWEST_POINTS} to know a space by its geometry. "
                "Mend: pass more points, or label pairs and use fuse."
            )
    used = min(n_points, len(X)), min(n_points, len(Y))
    if solver == "entropic":
        mend = "lower n_points (300 is enough for a start), or solver='lowrank'"
        check_memory(10 * 8.0 * max(used) ** 2, memory_limit, f"n_points={n_points}", mend=mend)
    geometry = _Geometry(solver, rank, metric, n_neighbors)
    rng = np.random.default_rng(seed)
    restarts = [_restart(X, Y, n_points, geometry, rng) for _ in range(n_restarts)]
    nulls = [_null(X, Y, n_points, geometry, rng) for _ in range(n_null)]
    trust = _trust(X, Y, restarts, nulls, rng)
    a, b = (
        np.sort(rng.choice(len(side), min(size, _MOST_REFINED), replace=False))
        for side, size in zip((X, Y), used, strict=True)
    )
    anchors, votes, bridge, n_rounds, settled = _refine(
        X[a], Y[b], restarts, n_anchors, max_rounds, metric, n_neighbors, memory_limit, seed
    )
    start = UnpairedStart((a[anchors[0]], b[anchors[1]]), votes, bridge, a, b, n_rounds, settled, trust)
    if not trust.trustworthy:
        warnings.warn(
            f"found an alignment without pairs that cannot be trusted: {'; '.join(trust.reasons)}. Expected: {trust.rule}. "
            "Mend: label a few pairs (10 help more than any restart) and use fuse, pass more points (n_points), or another metric.",
            UntrustedAlignmentWarning,
            stacklevel=2,
        )
    return start


def _sample(X: np.ndarray, n_points: int, rng: np.random.Generator) -> np.ndarray:
    return X[rng.choice(len(X), min(n_points, math.ceil(0.8 * len(X))), replace=False)]


def _restart(X: np.ndarray, Y: np.ndarray, n_points: int, geometry: _Geometry, rng: np.random.Generator) -> _Restart:
    left, right = _sample(X, n_points, rng), _sample(Y, n_points, rng)
    rows, distortion = geometry.match(left, right, rng)
    cost = bridge_cost(left, right, rows, metric=geometry.metric, n_neighbors=geometry.n_neighbors)
    with warnings.catch_warnings():
        # The map of one restart is a vote, which needs no exact marginals.
        warnings.simplefilter("ignore", ConvergenceWarning)
        coupling = couple(cost, epsilon=0.05, tol=1e-3, max_iter=200)
    return _Restart(coupling, right, left, distortion)


def _null(X: np.ndarray, Y: np.ndarray, n_points: int, geometry: _Geometry, rng: np.random.Generator) -> float:
    left, right = _sample(X, n_points, rng), scrambled(_sample(Y, n_points, rng), rng)
    return geometry.match(left, right, rng)[1]


def _mutual(cost: np.ndarray) -> Rows:
    """Rows and columns that are each other's cheapest."""
    forward, backward = cost.argmin(axis=1), cost.argmin(axis=0)
    i = np.flatnonzero(backward[forward] == np.arange(len(cost)))
    return _two_at_least((i, forward[i]), *cost.shape)


def _two_at_least(anchors: Rows, n: int, m: int) -> Rows:
    if len(anchors[0]) < 2:
        raise ValueError(
            f"found {len(anchors[0])} mutual nearest neighbours between {n} and {m} points; expected at least 2. "
            "Mend: drop duplicate points; nearly all of them coincide."
        )
    return anchors


def _csls(images: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Distances less the mean distance of either point to its nearest others, so that hubs win less often."""
    distance = cdist(images, Y)
    k = min(_CSLS_NEIGHBOURS, *distance.shape)
    left = np.partition(distance, k - 1, axis=1)[:, :k].mean(axis=1)
    right = np.partition(distance, k - 1, axis=0)[:k].mean(axis=0)
    return 2 * distance - left[:, None] - right[None, :]


def _neighbourhoods(X: np.ndarray) -> np.ndarray:
    """Whether column j is among the nearest 5 % of row i (itself included), shape (n, n)."""
    k = max(1, math.ceil(_NEIGHBOURHOOD * len(X)))
    nearest = np.argpartition(cdist(X, X), k - 1, axis=1)[:, :k]
    inside = np.zeros((len(X), len(X)), dtype=bool)
    np.put_along_axis(inside, nearest, True, axis=1)
    return inside


def _hits(images: np.ndarray, Y: np.ndarray) -> np.ndarray:
    return cdist(images, Y).argmin(axis=1)


def _refine(
    X: np.ndarray,
    Y: np.ndarray,
    restarts: list[_Restart],
    n_anchors: int,
    max_rounds: int,
    metric: Metric,
    n_neighbors: int,
    memory_limit: float,
    seed: int,
) -> tuple[Rows, np.ndarray, FusedBridge, int, bool]:
    """Fused bridge on the mutual nearest neighbours of the last map, until they no longer change."""
    votes = np.zeros((len(X), len(Y)))
    near_x, near_y = _neighbourhoods(X), _neighbourhoods(Y)
    for restart in restarts:
        votes += near_y[:, _hits(restart.there(X), Y)].T / (2 * len(restarts))
        votes += near_x[:, _hits(restart.back(Y), X)] / (2 * len(restarts))
    images = min(restarts, key=lambda restart: restart.distortion).there(X)
    seen: list[set[tuple[int, int]]] = []
    settled, best = False, None
    for n_rounds in range(1, max_rounds + 1):
        anchors = _confident(_mutual(_csls(images, Y)), votes, n_anchors)
        chosen = set(zip(*(side.tolist() for side in anchors), strict=True))
        if chosen in seen or (best is not None and len(chosen) < _FEWEST_ANCHORS):
            # Back at an earlier set that is not the last one: a cycle, which more rounds only repeat.
            settled = bool(seen) and chosen == seen[-1]
            n_rounds -= 1
            break
        seen.append(chosen)
        bridge = fuse(
            X, Y, anchors, metric=metric, n_neighbors=n_neighbors, memory_limit=memory_limit, seed=seed, **_ROUND
        )
        best = anchors, bridge
        images = bridge.map(X)
    assert best is not None
    anchors, bridge = best
    return anchors, votes[anchors], bridge, n_rounds, settled


def _confident(anchors: Rows, votes: np.ndarray, n_anchors: int) -> Rows:
    """Keep the anchors with most votes; those without a majority go as long as enough are left."""
    order = np.argsort(-votes[anchors], kind="stable")[:n_anchors]
    majority = int((votes[anchors][order] >= 0.5).sum())
    kept = order[: max(majority, min(len(order), 10))]
    return anchors[0][kept], anchors[1][kept]


def _trust(
    X: np.ndarray, Y: np.ndarray, restarts: list[_Restart], nulls: list[float], rng: np.random.Generator
) -> Trust:
    X, Y = (side[rng.permutation(len(side))[:_PROBES]] for side in (X, Y))
    near_x, near_y = _neighbourhoods(X), _neighbourhoods(Y)
    there = [_hits(restart.there(X), Y) for restart in restarts]
    agreed, agreed_chance, home, home_chance = [], [], [], []
    for r, first in enumerate(there):
        for second in there[r + 1 :]:
            agreed.append(float(near_y[first, second].mean()))
            # The mean over all exchanges of points, instead of a random few.
            agreed_chance.append(float(near_y[np.ix_(first, second)].mean()))
        back = restarts[(r + 1) % len(restarts)].back(Y[first])
        returned = _hits(back, X)
        home.append(float(near_x[np.arange(len(X)), returned].mean()))
        home_chance.append(float(near_x[:, returned].mean()))
    stability, stability_chance = float(np.mean(agreed)), float(np.mean(agreed_chance))
    cycle, cycle_chance = float(np.mean(home)), float(np.mean(home_chance))
    distortions = [restart.distortion for restart in restarts]
    reasons = []
    for name, value, chance, least in (
        ("stability", stability, stability_chance, LEAST_STABILITY), ("cycle", cycle, cycle_chance, LEAST_CYCLE)
    ):  # fmt: skip
        beyond = (value - chance) / max(1 - chance, 1e-12)
        if beyond < least:
            reasons.append(f"{name} {value:.2f} with chance {chance:.2f} ({beyond:.2f} beyond chance, not {least})")
    middle, null = float(np.median(distortions)), float(np.median(nulls))
    if middle > MOST_DISTORTION * null or middle >= min(nulls):
        reasons.append(
            f"distortion {middle:.3f}, beside {null:.3f} (least {min(nulls):.3f}) towards rearranged surrogates"
        )
    return Trust(stability, stability_chance, cycle, cycle_chance, tuple(distortions), tuple(nulls), tuple(reasons))
