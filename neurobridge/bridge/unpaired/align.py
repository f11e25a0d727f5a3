"""Alignment of two spaces without a single known pair: provisional anchors, and how far to trust them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from neurobridge.bridge.cost.metrics import Geometry, Metric
from neurobridge.bridge.fused.fuse import fuse
from neurobridge.bridge.fused.result import FusedBridge
from neurobridge.bridge.selftrained import SelfTrainedMap, self_train
from neurobridge.bridge.unpaired.neighbours import (
    csls,
    inside_neighbourhood,
    mutual_nearest,
    mutual_share,
    nearest_rows,
    neighbourhoods,
)
from neurobridge.bridge.unpaired.restarts import REFINEMENTS, SOLVERS, Matcher, Refinement, Restart, Solver
from neurobridge.bridge.unpaired.trust import Trust, measure_trust
from neurobridge.points.arrays import Rows, points
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.memory import check_memory
from neurobridge.points.options import is_choice, require_count, require_options

_FEWEST_POINTS = 20
_FEWEST_ANCHORS = 4
# Anchors without a majority of the votes are kept where fewer than this many would be left.
_ENOUGH_ANCHORS = 10
# The refinement holds matrices between all its points; restarts of low rank do not.
_MOST_REFINED = 2000
# Anchors are mutual nearest neighbours among so many points of each cloud.
_MOST_VOTED = 4000
# One candidate: provisional anchors are no ground to choose between many on.
_SEARCH: dict[str, Any] = {"lams": (0.9,), "epsilons": (0.03,), "n_rounds": (1,), "n_folds": 2}


class UntrustedAlignmentWarning(UserWarning):
    """An alignment without pairs is not supported by the data: a condition of `Trust` failed.

    Examples
    --------
    Two clouds that have nothing in common:

    >>> import warnings
    >>> import numpy as np
    >>> from neurobridge.bridge import UntrustedAlignmentWarning, align_unpaired
    >>> X, Y = np.random.default_rng(0).normal(size=(2, 20, 3))
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     start = align_unpaired(X, Y, n_restarts=2, n_null=1, max_rounds=1)
    >>> [warning.category is UntrustedAlignmentWarning for warning in caught]
    [True]
    """


@dataclass(frozen=True, eq=False, repr=False)
class UnpairedStart:
    """Provisional anchors found without any pair, made by `align_unpaired`.

    Attributes
    ----------
    anchors : tuple of two int arrays of shape (n_anchors,)
        Rows of X and of Y, most confident first.
    confidence : array of shape (n_anchors,)
        Votes of the restarts, in (0, 1]: the share of forward and backward maps that put one end of the anchor into the
        neighbourhood (5 % of the points) of the other; about 0.05 by chance. No vote at all counts as half a vote, so that
        `bridge_cost` takes them.
    bridge : SelfTrainedMap or FusedBridge
        The map of the last round: a rotation trained on all points, or a fused bridge (``refinement``).
    source_rows, target_rows : int arrays
        Rows of X and Y that the bridge was fitted on: all for a rotation, at most ``n_points`` for a fused bridge.
    n_rounds : int
        Rounds of refitting done.
    settled : bool
        True if the anchors stopped changing before ``max_rounds``.
    trust : Trust
        Evidence for or against the alignment.

    Examples
    --------
    See `align_unpaired`.
    """

    anchors: Rows
    confidence: np.ndarray
    bridge: SelfTrainedMap | FusedBridge
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
        """Map points to the target space by the map of the last round.

        Parameters
        ----------
        X_new : array of shape (n_new, n_source_dims)

        Returns
        -------
        array of shape (n_new, n_target_dims)
        """
        return np.asarray(_mapping(self.bridge)(X_new))

    def _facts(self) -> dict[str, str]:
        return {
            "anchors": str(len(self.anchors[0])),
            "points": f"{len(self.source_rows)} x {len(self.target_rows)}",
            "rounds": f"{self.n_rounds}, {'settled' if self.settled else 'not settled'}",
        }

    def __repr__(self) -> str:
        phrases = [f"{value} {name}" for name, value in self._facts().items() if name != "rounds"]
        rounds = f"{'settled' if self.settled else 'not settled'} after {self.n_rounds} rounds"
        return short_repr("UnpairedStart", *phrases, rounds, repr(self.trust))

    def _repr_html_(self) -> str:
        return html_repr("UnpairedStart", {**self._facts(), "trust": repr(self.trust)})


def align_unpaired(
    X: np.ndarray,
    Y: np.ndarray,
    *,
    n_anchors: int = 100,
    n_points: int = 300,
    n_restarts: int = 4,
    n_null: int = 4,
    max_rounds: int = 15,
    refinement: Refinement | None = None,
    solver: Solver = "entropic",
    rank: int = 30,
    metric: Metric = "euclidean",
    n_neighbors: int = 10,
    seed: int = 0,
    memory_limit: float = 2e9,
) -> UnpairedStart:
    """Start an alignment of two spaces from their geometry alone.

    1. Each restart draws four fifths of the points of either space and matches the inner distances of at most ``n_points`` of
       them by Gromov-Wasserstein (`match_geometry`; Alvarez-Melis & Jaakkola 2018 did so for word embeddings). Points that are
       each other's best match under the plan are its anchors. With ``solver="lowrank"`` parts of the clouds are matched instead
       (`match_parts`), whose middle points are the anchors: memory is linear in the points.
    2. From these anchors, of which a twentieth may be right, a rotation is trained on all points that the restart has drawn
       (`self_train`). The restart with the largest share of mutual nearest neighbours is trained further on all points.
    3. Mutual nearest neighbours between images and target points, under the hub-corrected distance CSLS (Conneau et al. 2018),
       are the provisional anchors.
    4. Trust is measured without truth: do restarts on different points agree, do points return to where they were when sent
       forward by one restart and back by another, and is the match better than matches with targets whose parts have been
       rearranged?

    With ``refinement="fused"`` each restart is the coupling over its anchors instead, and step 2 fits fused bridges on mutual
    nearest neighbours until these no longer change (the refinement of Conneau et al. 2018 and Grave et al. 2019, with the fused
    bridge in place of Procrustes): for clouds that are folded differently, which no rotation can align.

    A match by geometry is blind to the symmetries of a cloud, and any two clouds have a best match: read ``trust`` first.

    Parameters
    ----------
    X : array of shape (n, n_source_dims)
        Points of the source space; standardise dimensions beforehand if their units differ.
    Y : array of shape (m, n_target_dims)
        Points of the target space.
    n_anchors : int
        Most anchors to keep, those with most votes first.
    n_points : int
        Most points of each space whose distances are matched, which takes time of their square to cube ("lowrank": square).
        Rotations are trained on all points, fused bridges on so many (at most 2,000).
    n_restarts : int
        At least 2, as agreement needs two.
    n_null : int
        Number of surrogates that the distortion is compared with, at least 1.
    max_rounds : int
        Most rounds of refitting.
    refinement : {"rotation", "fused"}, optional
        Default: "fused" for geodesic distances, which are for differently folded clouds, "rotation" for all others. On a few
        dozen points without noise "fused" finds more partners (all of 40, where "rotation" finds half), and trust is not
        calibrated for it there.
    solver : {"entropic", "lowrank"}
        Gromov-Wasserstein of the restarts. "lowrank" matches ``rank`` parts by squared Euclidean distances, whatever the metric
        of the bridges: for clouds of thousands of points, whose parts a sample of 300 would not show.
    rank : int
        Number of parts of "lowrank", at least 4.
    metric, n_neighbors : see `bridge_cost`
        The inner distance of both spaces: "euclidean" where one is a turned or stretched copy of the other, "geodesic" where
        both are folded differently (real digits: more than three times the gain over chance), at the price of gaps in
        well-separated clusters.
    seed : int
    memory_limit : float
        Bytes the matrices of one restart may take.

    Returns
    -------
    UnpairedStart

    Warns
    -----
    UntrustedAlignmentWarning
        A condition of `Trust` failed.

    Raises
    ------
    ValueError
        Fewer than 20 points in a space, non-finite points, nearly all points the same, or options below their least value.
    MemoryError
        ``n_points`` asks for more than ``memory_limit``.

    References
    ----------
    Mémoli 2011, *Gromov-Wasserstein distances and the metric approach to object matching*. Peyré, Cuturi & Solomon 2016,
    *Gromov-Wasserstein averaging of kernel and distance matrices*. Alvarez-Melis & Jaakkola 2018, *Gromov-Wasserstein alignment
    of word embedding spaces*. Conneau et al. 2018, *Word translation without parallel data*. Grave, Joulin & Berthet 2019,
    *Unsupervised alignment of embeddings with Wasserstein Procrustes*. Scetbon, Peyré & Cuturi 2022, *Linear-time
    Gromov-Wasserstein distances using low rank couplings and costs*.

    Examples
    --------
    A stretched and turned copy of a cloud, rows shuffled:

    >>> import warnings
    >>> import numpy as np
    >>> from neurobridge.bridge import UntrustedAlignmentWarning, align_unpaired
    >>> rng = np.random.default_rng(0)
    >>> X = rng.exponential(size=(100, 6)) * np.linspace(3, 1, 6)
    >>> order = rng.permutation(100)
    >>> Y = 2 * (X @ np.linalg.qr(rng.normal(size=(6, 6)))[0])[order]
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", UntrustedAlignmentWarning)
    ...     start = align_unpaired(X, Y, n_restarts=2, n_null=1, max_rounds=5)
    >>> i, j = start.anchors
    >>> bool((order[j] == i).mean() > 0.8)
    True
    """
    require_options(n_neighbors=n_neighbors, memory_limit=memory_limit, seed=seed)
    _check_options(n_anchors, n_points, n_restarts, n_null, max_rounds, solver, rank, refinement)
    X, Y = _check_points(X, "X"), _check_points(Y, "Y")
    n_used = min(n_points, len(X)), min(n_points, len(Y))
    if solver == "entropic":
        mend = "lower n_points (300 is enough for a start), or solver='lowrank'"
        check_memory(10 * 8.0 * max(n_used) ** 2, memory_limit, f"n_points={n_points}", mend=mend)
    geometry = Geometry(metric, n_neighbors=n_neighbors)
    chosen: Refinement = refinement or ("fused" if "geodesic" in geometry.metrics else "rotation")
    matcher = Matcher(solver, rank, geometry, n_points, chosen)
    rng = np.random.default_rng(seed)
    restarts = [matcher.restart(X, Y, rng) for _ in range(n_restarts)]
    surrogates = [matcher.surrogate(X, Y, rng) for _ in range(n_null)]
    trust = measure_trust(X, Y, restarts, surrogates, rng)
    if chosen == "rotation":
        source_rows, target_rows = np.arange(len(X)), np.arange(len(Y))
        refined = _rotate(X, Y, restarts, n_anchors, max_rounds, rng)
    else:
        source_rows, target_rows = (
            np.sort(rng.choice(len(side), min(size, _MOST_REFINED), replace=False))
            for side, size in zip((X, Y), n_used, strict=True)
        )
        options = _SEARCH | {"metric": metric, "n_neighbors": n_neighbors, "memory_limit": memory_limit, "seed": seed}
        refined = _refine(X[source_rows], Y[target_rows], restarts, n_anchors, max_rounds, options)
    anchors = source_rows[refined.anchors[0]], target_rows[refined.anchors[1]]
    if not trust.trustworthy:
        warnings.warn(
            f"found an alignment without pairs that cannot be trusted: {'; '.join(trust.reasons)}. Expected: {trust.rule}. "
            "Mend: label a few pairs (10 help more than any restart) and use fuse, pass more points (n_points), or another metric.",
            UntrustedAlignmentWarning,
            stacklevel=2,
        )
    return UnpairedStart(
        anchors, refined.confidence, refined.bridge, source_rows, target_rows, refined.n_rounds, refined.settled, trust
    )


def _check_options(
    n_anchors: int,
    n_points: int,
    n_restarts: int,
    n_null: int,
    max_rounds: int,
    solver: str,
    rank: int,
    refinement: str | None,
) -> None:
    require_options(n_anchors=n_anchors, n_points=n_points, n_restarts=n_restarts, n_null=n_null, max_rounds=max_rounds)
    require_count(rank, name="rank", at_least=0)
    for name, value, least in (
        ("n_anchors", n_anchors, _FEWEST_ANCHORS), ("n_points", n_points, _FEWEST_POINTS), ("n_restarts", n_restarts, 2),
        ("n_null", n_null, 1), ("max_rounds", max_rounds, 1), ("rank", rank, _FEWEST_ANCHORS),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"found {name}={value}; expected at least {least}. Mend: leave it out for the default.")
    if not is_choice(solver, SOLVERS):
        raise ValueError(f"found solver={solver!r}; expected 'entropic' or 'lowrank'. Mend: choose one of them.")
    if not is_choice(refinement, (None, *REFINEMENTS)):
        raise ValueError(f"found refinement={refinement!r}; expected 'rotation' or 'fused'. Mend: choose one of them.")


def _check_points(side: np.ndarray, name: str) -> np.ndarray:
    checked = points(side, name=name).double().cpu().numpy()
    if len(checked) < _FEWEST_POINTS:
        raise ValueError(
            f"{name}: found {len(checked)} points; expected at least {_FEWEST_POINTS} to know a space by its geometry. "
            "Mend: pass more points, or label pairs and use fuse."
        )
    return checked


class _Refined(NamedTuple):
    """Anchors of the last round, their votes, the bridge fitted on them, and how the rounds ended."""

    anchors: Rows
    confidence: np.ndarray
    bridge: SelfTrainedMap | FusedBridge
    n_rounds: int
    settled: bool


def _mapping(bridge: SelfTrainedMap | FusedBridge) -> Callable[[np.ndarray], Any]:
    return bridge.forward if isinstance(bridge, SelfTrainedMap) else bridge.map


def _rotate(
    X: np.ndarray, Y: np.ndarray, restarts: list[Restart], n_anchors: int, max_rounds: int, rng: np.random.Generator
) -> _Refined:
    """Train the rotation of the best restart on all points, and take mutual nearest neighbours under it."""
    best = max(restarts, key=lambda restart: mutual_share(restart.map_forward(X), Y, rng))
    trained = self_train(X, Y, start=best.rotation, n_rounds=max_rounds)
    rows, columns = (np.sort(rng.permutation(len(side))[:_MOST_VOTED]) for side in (X, Y))
    i, j = mutual_nearest(csls(np.asarray(trained.forward(X[rows])), Y[columns]))
    candidates = rows[i], columns[j]
    votes = np.zeros(len(i))
    for restart in restarts:
        images, origins = restart.map_forward(X[candidates[0]]), restart.map_backward(Y[candidates[1]])
        votes += inside_neighbourhood(images, Y, candidates[1]) / (2 * len(restarts))
        votes += inside_neighbourhood(origins, X, candidates[0]) / (2 * len(restarts))
    kept = _confident(votes, n_anchors)
    confidence = _confidence(votes[kept], len(restarts))
    return _Refined((candidates[0][kept], candidates[1][kept]), confidence, trained, trained.n_rounds, trained.settled)


def _refine(
    X: np.ndarray, Y: np.ndarray, restarts: list[Restart], n_anchors: int, max_rounds: int, options: dict[str, Any]
) -> _Refined:
    """Fit fused bridges on the mutual nearest neighbours of the last map, until they no longer change."""
    votes = _votes(X, Y, restarts)
    images = min(restarts, key=lambda restart: restart.distortion).map_forward(X)
    earlier: list[set[tuple[int, int]]] = []
    settled = False
    n_rounds = 0
    while n_rounds < max_rounds:
        candidates = mutual_nearest(csls(images, Y))
        kept = _confident(votes[candidates], n_anchors)
        candidates = candidates[0][kept], candidates[1][kept]
        pairs = set(zip(*(side.tolist() for side in candidates), strict=True))
        if pairs in earlier or (earlier and len(pairs) < _FEWEST_ANCHORS):
            # Back at an earlier set that is not the last one: a cycle, which more rounds only repeat.
            settled = pairs == earlier[-1]
            break
        earlier.append(pairs)
        n_rounds += 1
        anchors = candidates
        bridge = fuse(X, Y, anchors, **options)
        images = bridge.map(X)
    return _Refined(anchors, _confidence(votes[anchors], len(restarts)), bridge, n_rounds, settled)


def _votes(X: np.ndarray, Y: np.ndarray, restarts: list[Restart]) -> np.ndarray:
    """Share of the forward and backward maps that put one point into the neighbourhood of the other, shape (n, m)."""
    votes = np.zeros((len(X), len(Y)))
    near_source, near_target = neighbourhoods(X), neighbourhoods(Y)
    for restart in restarts:
        votes += near_target[:, nearest_rows(restart.map_forward(X), Y)].T / (2 * len(restarts))
        votes += near_source[:, nearest_rows(restart.map_backward(Y), X)] / (2 * len(restarts))
    return votes


def _confidence(votes: np.ndarray, n_restarts: int) -> np.ndarray:
    return np.maximum(votes, 0.5 / (2 * n_restarts))


def _confident(votes: np.ndarray, n_anchors: int) -> np.ndarray:
    """Return the anchors with most votes; those without a majority go as long as enough are left."""
    order = np.argsort(-votes, kind="stable")[:n_anchors]
    majority = int((votes[order] >= 0.5).sum())
    return order[: max(majority, min(len(order), _ENOUGH_ANCHORS))]
