"""One draw of a protocol: pools, pairs, held-out points, and how images of the held-out points are scored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from analyses.benchmarks.alignment.measures import Head, median_r, readout_scores, recalls
from neurobridge.points.arrays import Rows

Criterion = Literal["correlation", "retrieval", "labels", "error"]
#: Images of the held-out points in the target space, and of the held-out targets in the source space where both are asked for.
Scorer = Callable[[np.ndarray, "np.ndarray | None"], dict[str, float]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Draw:
    """A draw of a set: what a method may see, and what it is judged by.

    Attributes
    ----------
    set : str
    n_pairs, seed : int
    source, target : float64 arrays of shape (n_source, n_source_dims), (n_target, n_target_dims)
        Pools: the paired points, and unpaired ones. Dimensions that do not vary in a pool are left out.
    pairs : tuple of two int arrays of shape (n_pairs,)
        Rows of both pools; empty without pairs.
    source_test, target_test : arrays of shape (n_test, ...)
        Held-out points, partners in the same row.
    source_ids, target_ids, test_ids : int arrays
        Identity of the rows of both pools and of the held-out points.
    measures : mapping of str to str
        Each measure of the row and the criterion of `BridgeAligner` that goes with it; the first is the row's score.
    both_ways : bool
        Whether images of the held-out targets in the source space are scored, too.
    scorer : callable
    labels : int array of shape (n_pairs,), optional
        Classes of the paired points.
    classifier : Head, optional
        Frozen readout of the target space, on points in the units of this draw.
    """

    set: str
    n_pairs: int
    seed: int
    source: np.ndarray
    target: np.ndarray
    pairs: Rows
    source_test: np.ndarray
    target_test: np.ndarray
    source_ids: np.ndarray
    target_ids: np.ndarray
    test_ids: np.ndarray
    measures: Mapping[str, Criterion]
    scorer: Scorer
    both_ways: bool = False
    labels: np.ndarray | None = None
    classifier: Head | None = None

    @property
    def criterion(self) -> Criterion:
        """Criterion of the row's score."""
        return next(iter(self.measures.values()))

    def score(self, forward: np.ndarray, backward: np.ndarray | None = None) -> dict[str, float]:
        """Score images of the held-out points: a value for each of ``measures``.

        Parameters
        ----------
        forward : array of shape (n_test, n_target_dims)
            Images of ``source_test``.
        backward : array of shape (n_test, n_source_dims), optional
            Images of ``target_test``; needed with ``both_ways``.
        """
        scores = self.scorer(forward, backward)
        return {name: scores[name] for name in self.measures}

    def score_aligner(self, aligner: Any) -> dict[str, float]:
        """Fit an aligner on the pools and score it."""
        aligner.fit(self.source, self.target, self.pairs)
        backward = aligner.inverse_transform(self.target_test) if self.both_ways else None
        return self.score(aligner.transform(self.source_test), backward)

    def null(self, forward: np.ndarray, backward: np.ndarray | None = None, *, n: int = 100) -> dict[str, float]:
        """Return the mean score of the same images, dealt to the held-out points at random."""
        rng = np.random.default_rng([self.seed, self.n_pairs, 17])
        totals = dict.fromkeys(self.measures, 0.0)
        for _ in range(n):
            order = rng.permutation(len(forward))
            values = self.score(forward[order], None if backward is None else backward[order])
            totals = {name: totals[name] + values[name] / n for name in totals}
        return totals

    def digest(self) -> str:
        """Digest the pools, the pairs and the held-out points: the first 16 digits of a sha256."""
        sha = hashlib.sha256()
        for array in (self.source, self.target, *self.pairs, self.source_test, self.target_test):
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()[:16]


def varying(pool: np.ndarray) -> np.ndarray:
    """Mark the dimensions that vary in a pool."""
    return np.ptp(pool, axis=0) > 0


def correlation_scorer(target_test: np.ndarray) -> Scorer:
    """Return the scorer by the median r over target dimensions."""
    return partial(_correlation, target_test)


def retrieval_scorer(source_test: np.ndarray, target_test: np.ndarray, at: tuple[int, ...]) -> Scorer:
    """Return the scorer by ranks of the partner, mean of both directions where both are given."""
    return partial(_retrieval, source_test, target_test, at)


def readout_scorer(target_test: np.ndarray, head: Head, labels: np.ndarray) -> Scorer:
    """Return the scorer by a frozen head and R^2."""
    return partial(_readout, target_test, head, labels)


def _correlation(truth: np.ndarray, forward: np.ndarray, backward: np.ndarray | None) -> dict[str, float]:
    return {"median r": median_r(forward, truth)}


def _retrieval(
    source: np.ndarray, target: np.ndarray, at: tuple[int, ...], forward: np.ndarray, backward: np.ndarray | None
) -> dict[str, float]:
    directions = [recalls(forward, target, at)]
    if backward is not None:
        directions.append(recalls(backward, source, at))
    return {name: float(np.mean([values[name] for values in directions])) for name in directions[0]}


def _readout(
    truth: np.ndarray, head: Head, labels: np.ndarray, forward: np.ndarray, backward: np.ndarray | None
) -> dict[str, float]:
    return readout_scores(forward, truth, head, labels)
