"""Folds over the pairs: problems without the points of some pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.fused.solving.families import CloudProblem
from neurobridge.points.arrays import Rows


class Fold(NamedTuple):
    """A problem without the points of some pairs, and these points.

    Attributes
    ----------
    held : int array of shape (n_held,)
        Numbers of the pairs held out.
    problem : CloudProblem
        The points and pairs that are fitted on.
    points : tuple of two float32 tensors of shape (n_held, rank)
        Coordinates of the source points and of the target points held out.
    distances : tuple of two float32 tensors of shape (n_held, n_kept_pairs)
        Of these points to the anchors that are left.
    """

    held: np.ndarray
    problem: CloudProblem
    points: tuple[torch.Tensor, torch.Tensor]
    distances: tuple[torch.Tensor, torch.Tensor]


def make_folds(problem: CloudProblem, n_folds: int, n_points: int, rng: np.random.Generator) -> Iterator[Fold]:
    """Hold out every pair once; its points leave both clouds, and its anchor is none.

    A stimulus to be predicted later has no partner among the points either. The coordinates and the distances of the points
    that stay are those among all points: no space learns about the other from them.
    """
    sides = problem.rows[0].cpu().numpy(), problem.rows[1].cpu().numpy()
    clouds = problem.source, problem.target
    for held in np.array_split(rng.permutation(len(sides[0])), max(2, n_folds)):
        kept = pairs_apart(sides, held)
        if len(kept) < 2:
            continue
        rows = [
            np.setdiff1d(some_rows(len(cloud), side[kept], n_points, rng), side[held])
            for cloud, side in zip(clouds, sides, strict=True)
        ]
        fewer, units = subset(problem, rows, kept)
        points = tuple(cloud.coordinates[side[held]] for cloud, side in zip(clouds, sides, strict=True))
        distances = tuple(problem.distances[k][sides[k][held]][:, kept] / units[k] for k in range(2))
        yield Fold(held, fewer, points, distances)  # type: ignore[arg-type]


def enough_folds(folds: Iterable[Fold], n_pairs: int) -> list[Fold]:
    """Return the first folds that hold out so many pairs together; all, where all hold out fewer."""
    kept: list[Fold] = []
    for fold in folds:
        kept.append(fold)
        if sum(len(each.held) for each in kept) >= n_pairs:
            break
    return kept


def subset(
    problem: CloudProblem, rows: Sequence[np.ndarray], kept: np.ndarray
) -> tuple[CloudProblem, tuple[float, float]]:
    """Keep some points of both sides, sorted rows, and some pairs among them; return the new units of their distances, too."""
    sides = [side.cpu().numpy()[kept] for side in problem.rows]
    device = problem.device
    distances = [problem.distances[k][rows[k]][:, kept] for k in range(2)]
    units = _positive(distances[0].mean()), _positive(distances[1].mean())
    fewer = CloudProblem(
        problem.source.subset(rows[0]),
        problem.target.subset(rows[1]),
        tuple(torch.as_tensor(np.searchsorted(rows[k], sides[k]), device=device) for k in range(2)),  # type: ignore[arg-type]
        tuple(part / unit for part, unit in zip(distances, units, strict=True)),  # type: ignore[arg-type]
        problem.seed,
    )
    return fewer, units


def _positive(mean: torch.Tensor) -> float:
    return max(float(mean), 1e-12)


def pairs_apart(rows: Rows, held: np.ndarray) -> np.ndarray:
    """Pairs that share no point with those held out."""
    i, j = rows
    kept = np.setdiff1d(np.arange(len(i)), held)
    return kept[~np.isin(i[kept], i[held]) & ~np.isin(j[kept], j[held])]


def some_rows(n: int, paired: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Keep all paired points and a random choice of others, up to ``size``; sorted."""
    paired = np.unique(paired)
    others = np.setdiff1d(np.arange(n), paired)
    return np.sort(np.concatenate([paired, rng.permutation(others)[: max(0, size - len(paired))]]))


def fewer_points(problem: CloudProblem, n_points: int, rng: np.random.Generator) -> CloudProblem:
    """Keep few points; twice the pairs at least, as without other points there is nothing to align."""
    size = max(n_points, 2 * len(problem.rows[0]))
    if size >= max(len(problem.source), len(problem.target)):
        return problem
    rows = [
        some_rows(len(cloud), side.cpu().numpy(), size, rng)
        for cloud, side in zip((problem.source, problem.target), problem.rows, strict=True)
    ]
    return subset(problem, rows, np.arange(len(problem.rows[0])))[0]
