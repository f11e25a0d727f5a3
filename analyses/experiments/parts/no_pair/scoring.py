"""How often a point finds its partner among all points of the other cloud, and what chance gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from neurobridge.bridge.unpaired.neighbours import neighbourhoods
from neurobridge.bridge.unpaired.trust import beyond_chance
from neurobridge.points.ranks import hub_corrected

from ..common import cosines
from .spaces import Task

TOPS = (1, 5, 10)
N_PERMUTATIONS = 200


def similarity_of(images: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return the hub-corrected cosines about the mean of the target, shape (n, m): what all maps are ranked by."""
    middle = Y.mean(axis=0)
    return hub_corrected(cosines(images - middle + 1e-12, Y - middle + 1e-12))


def score(similarity: np.ndarray, task: Task, asked: np.ndarray, seed: int) -> dict[str, Any]:
    """Score which target points are most similar to the points asked for.

    Parameters
    ----------
    similarity : array of shape (n, m)
        A plan, or similarities of mapped points.
    task : Task
    asked : int array
        Rows whose partners were not known.
    seed : int
        Of the permutations.

    Returns
    -------
    dict
        ``top`` by k, the share whose partner is among the k most similar of all target points (ties count half), and
        ``null_95`` by k, the 95 % quantile where partners are permuted; ``p`` of the top 10, of digits of the top 1;
        ``right``, the share beyond chance whose most similar point is among the nearest 5 % of the partner's neighbours (of
        digits: shows the digit); ``n_test``.
    """
    rank = rankdata(-similarity, axis=1)[asked]
    partners = task.partners[asked]
    best = np.stack([rank[:, columns].min(axis=1) for columns in partners], axis=1)
    rng = np.random.default_rng([seed, 23])
    every = np.arange(len(asked))
    permuted = np.stack([best[every, rng.permutation(len(asked))] for _ in range(N_PERMUTATIONS)])
    top = {str(k): float((np.diag(best) <= k).mean()) for k in TOPS}
    null = {k: (permuted <= k).mean(axis=1) for k in TOPS}
    main = main_top(task)
    nearest = similarity[asked].argmax(axis=1)
    if task.labels is None:
        inside = neighbourhoods(task.Y)[partners[:, 0]]
        share, chance = inside[every, nearest].mean(), inside[:, nearest].mean()
    else:
        labels = task.labels[partners[:, 0]]
        share, chance = (labels == task.labels[nearest]).mean(), (labels[:, None] == task.labels[nearest]).mean()
    return {
        "top": top, "null_95": {str(k): float(np.quantile(null[k], 0.95)) for k in TOPS},
        "p": (1 + int((null[main] >= top[str(main)]).sum())) / (N_PERMUTATIONS + 1),
        "right": round(beyond_chance(float(share), float(chance)), 5), "n_test": len(asked), "n": len(task.Y),
    }  # fmt: skip


def main_top(task: Task) -> int:
    """Return the k that is judged: 10, and 1 where any point of the class is a partner."""
    return 10 if task.labels is None else 1
