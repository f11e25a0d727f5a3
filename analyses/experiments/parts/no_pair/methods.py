"""Alignments of two clouds without a pair, with a few, and with all: similarities of their points, and what they cost."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

from neurobridge.bridge import UntrustedAlignmentWarning, align_unpaired, ridge_map, self_train
from neurobridge.bridge.unpaired.lowrank import match_parts
from neurobridge.bridge.unpaired.neighbours import mutual_nearest
from neurobridge.study.harness import Record, Run

from .restarts import entropic_trials, least_distance
from .scoring import main_top, score, similarity_of
from .spaces import THINGS_ALL, Task

UNPAIRED, ON_ANCHORS = "unpaired", "self-trained, its anchors"
GW, GW_TRAINED, LOW_RANK = "entropic GW, restarts", "entropic GW, then self-trained", "low-rank GW"
FEW, TRAINED, RIDGE = "self-trained, 20 pairs", "self-trained, all pairs", "ridge, all pairs"
WITHOUT, CEILINGS = (UNPAIRED, ON_ANCHORS, GW, GW_TRAINED, LOW_RANK), (TRAINED, RIDGE)
#: Pieces of work, some of which score two methods.
ALL_PAIRS = "all pairs"
WORK, WORK_OF_CONTROLS = (UNPAIRED, GW, LOW_RANK, FEW, ALL_PAIRS), (UNPAIRED, GW, LOW_RANK)
N_PAIRS, N_FOLDS = 20, 5
#: POT's low-rank solver takes minutes in hundreds of dimensions: beyond the first number it reads the second.
MOST_DIMS, N_COMPONENTS = 100, 30
#: Starts and most steps of the entropic restarts: of a few hundred points, and of all objects.
BUDGET, BUDGET_ALL, BUDGET_QUICK = (12, 60), (4, 25), (3, 20)


def budget(run: Run, name: str) -> tuple[int, int]:
    """Return the starts and the most steps of the entropic restarts on a set."""
    return BUDGET_QUICK if run.quick else BUDGET_ALL if name == THINGS_ALL else BUDGET


def align(run: Run, name: str, method: str, task: Task, seed: int) -> list[Record]:
    """Align a task by a method, and score it; the start without pairs also gives anchors, which are trained on."""
    if method == UNPAIRED:
        return unpaired(task, seed)
    if method == GW:
        return restarts(task, seed, *budget(run, name))
    started = time.process_time()
    rng = np.random.default_rng([seed, 7])
    every = np.arange(len(task.X))
    if method == LOW_RANK:
        X, Y = (_reduced(side) for side in (task.X, task.Y))
        parts = match_parts(X, Y, rng, rank=min(30, len(task.X) // 4))
        similarity = (parts.left / parts.mass) @ parts.right.T
        return [_record(method, similarity, task, every, seed, started)]
    if method == FEW:
        known = few_rows(task, rng)
        trained = self_train(task.X, task.Y, (known, task.pairs[known]))
        asked = np.setdiff1d(every, known)
        return [_record(method, similarity_of(trained.forward(task.X), task.Y), task, asked, seed, started)]
    return [
        _record(ceiling, similarity_of(held_out_images(task, ceiling, seed), task.Y), task, every, seed, started)
        for ceiling in CEILINGS
    ]


def _reduced(X: np.ndarray) -> np.ndarray:
    """Keep the first principal components of a cloud of many dimensions."""
    if X.shape[1] <= MOST_DIMS:
        return X
    return np.asarray(PCA(N_COMPONENTS, svd_solver="covariance_eigh").fit_transform(X))


def unpaired(task: Task, seed: int) -> list[Record]:
    """Align without a pair by the package's default, and train a rotation on the anchors of that start."""
    started = time.process_time()
    with warnings.catch_warnings():
        # The verdict is recorded.
        warnings.simplefilter("ignore", UntrustedAlignmentWarning)
        start = align_unpaired(task.X, task.Y, seed=seed)
    every = np.arange(len(task.X))
    i, j = start.anchors
    trust = start.trust
    record = _record(UNPAIRED, similarity_of(start.map(task.X), task.Y), task, every, seed, started)
    record |= {
        "trusted": trust.trustworthy, "expected": round(trust.expected, 5), "reasons": list(trust.reasons),
        "trust": {key: value for key, value in trust.to_dict().items() if key not in ("rule", "reasons")},
        "n_anchors": len(i), "anchors_right": float((task.partners[i] == j[:, None]).any(axis=1).mean()),
    }  # fmt: skip
    started = time.process_time()
    trained = self_train(task.X, task.Y, start.anchors)
    on_anchors = _record(ON_ANCHORS, similarity_of(trained.forward(task.X), task.Y), task, every, seed, started)
    on_anchors["seconds"] = round(on_anchors["seconds"] + record["seconds"], 2)
    return [record, on_anchors]


def restarts(task: Task, seed: int, n_trials: int, max_iter: int) -> list[Record]:
    """Run the entropic restarts, take the plan of least distance, and score every plan beside it.

    A rotation is trained from the chosen plan too: its mutual best matches are where the training starts.
    """
    started = time.process_time()
    trials = entropic_trials(task.X, task.Y, np.random.default_rng([seed, 7]), n_trials=n_trials, max_iter=max_iter)
    seconds = time.process_time() - started
    chosen = least_distance(trials)
    every, main = np.arange(len(task.X)), str(main_top(task))
    similarity = np.zeros((len(task.X), len(task.Y))) if chosen is None else chosen.plan
    record = _record(GW, similarity, task, every, seed, started) | {"seconds": round(seconds, 2)}
    solved = [trial for trial in trials if np.isfinite(trial.distance)]
    scores = [score(trial.plan, task, every, seed) for trial in solved]
    record |= {
        "n_trials": n_trials, "n_failed": n_trials - len(solved),
        "trials": [
            {"epsilon": round(trial.epsilon, 5), "distance": round(trial.distance, 5), "top": each["top"][main],
             "right": each["right"]}
            for trial, each in zip(solved, scores, strict=True)
        ],
    }  # fmt: skip
    if chosen is None:
        return [record]
    started = time.process_time()
    trained = self_train(task.X, task.Y, start=mutual_nearest(-chosen.plan))
    on_plan = _record(GW_TRAINED, similarity_of(trained.forward(task.X), task.Y), task, every, seed, started)
    on_plan["seconds"] = round(on_plan["seconds"] + seconds, 2)
    return [record, on_plan]


def few_rows(task: Task, rng: np.random.Generator) -> np.ndarray:
    """Draw the rows of the known pairs; as many of each digit where there are digits."""
    if task.labels is None:
        return rng.permutation(len(task.X))[:N_PAIRS]
    labels = task.labels[task.pairs]
    classes = np.unique(labels)
    return np.concatenate([
        rng.permutation(np.flatnonzero(labels == name))[: N_PAIRS // len(classes)] for name in classes
    ])  # fmt: skip


def held_out_images(task: Task, method: str, seed: int) -> np.ndarray:
    """Map every point by the pairs of the other four fifths; the rotation is trained on the points without a pair too."""
    images = np.empty((len(task.X), task.Y.shape[1]))
    for train, test in KFold(N_FOLDS, shuffle=True, random_state=seed).split(task.X):
        if method == RIDGE:
            images[test] = ridge_map(task.X[train], task.Y[task.pairs[train]], penalty="shared")(task.X[test])
        else:
            images[test] = self_train(task.X, task.Y, (train, task.pairs[train])).forward(task.X[test])
    return images


def _record(
    method: str, similarity: np.ndarray, task: Task, asked: np.ndarray, seed: int, started: float
) -> dict[str, Any]:
    seconds = round(time.process_time() - started, 2)
    return {"method": method, **score(similarity, task, asked, seed), "seconds": seconds, "main": main_top(task)}
