"""Entropic Gromov-Wasserstein from many random plans and temperatures, of which the least distance is taken (GWTune)."""

from __future__ import annotations

import time
import warnings
from typing import NamedTuple

import numpy as np
import ot
from scipy.spatial.distance import cdist

#: Range of the temperature, as a share of the mean squared distance. GWTune's tutorial on THINGS samples 1 to 10, which is
#: .0007 to .007 of it; ten times more reaches the other sets.
EPSILONS = (0.0007, 0.07)
_ENOUGH = 1e-4
_NOTHING = 1e-12
# Larger clouds are solved in single precision.
_MOST_DOUBLE = 1000


class Trial(NamedTuple):
    """One start: its temperature, and the distance of its plan as a share of that of the independent plan; NaN if it failed."""

    epsilon: float
    distance: float
    plan: np.ndarray
    seconds: float


def random_plan(n: int, m: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a plan with uniform marginals: uniform numbers, scaled."""
    return scaled(rng.random((n, m)))


def scaled(plan: np.ndarray, n_rounds: int = 200) -> np.ndarray:
    """Give a plan the uniform marginals that an unfinished solver has missed.

    Rows and columns are scaled in turn; what is then missing is made up for as in Altschuler, Weed & Rigollet 2017: too heavy rows
    and columns are cut, and the rest of the mass is dealt by a plan of rank one.

    Parameters
    ----------
    plan : array of shape (n, m)
    n_rounds : int
        Most rounds of scaling; they end where the mass of the rows is right to one part in ten thousand.

    Returns
    -------
    array of shape (n, m)
    """
    n, m = plan.shape
    for _ in range(n_rounds):
        plan = plan / (n * plan.sum(axis=1, keepdims=True))
        plan /= m * plan.sum(axis=0)
        if not abs(plan.sum(axis=1) - 1 / n).sum() > _ENOUGH:
            break
    plan = plan * np.minimum(1, 1 / (n * plan.sum(axis=1, keepdims=True)))
    plan *= np.minimum(1, 1 / (m * plan.sum(axis=0)))
    rows, columns = np.maximum(1 / n - plan.sum(axis=1), 0), np.maximum(1 / m - plan.sum(axis=0), 0)
    # Of a plan that is right but for rounding nothing is missing.
    return np.asarray(plan + rows[:, None] * columns / max(rows.sum(), _NOTHING))


def entropic_trials(
    X: np.ndarray, Y: np.ndarray, rng: np.random.Generator, *, n_trials: int, max_iter: int
) -> list[Trial]:
    """Solve entropic Gromov-Wasserstein by POT from random plans at random temperatures.

    Sasaki, Takeda, Abe & Oizumi 2023 (GWTune): the temperature is drawn log-uniformly, and the distance alone chooses. Their
    Optuna sampler of temperatures is replaced by independent draws.

    Parameters
    ----------
    X, Y : arrays of shape (n, n_source_dims) and (m, n_target_dims)
    rng : numpy.random.Generator
    n_trials : int
    max_iter : int
        Steps of a trial at most.

    Returns
    -------
    list of Trial
    """
    C, D = cdist(X, X), cdist(Y, Y)
    unit = np.sqrt(((C**2).mean() + (D**2).mean()) / 2)
    kind = np.float64 if max(len(C), len(D)) <= _MOST_DOUBLE else np.float32
    C, D = (C / unit).astype(kind), (D / unit).astype(kind)
    constant = (C.astype(float) ** 2).mean() + (D.astype(float) ** 2).mean()
    chance = constant - 2 * C.mean(dtype=float) * D.mean(dtype=float)
    trials = []
    for _ in range(n_trials):
        epsilon = float(np.exp(rng.uniform(*np.log(EPSILONS))))
        start = random_plan(len(C), len(D), rng).astype(kind)
        started = time.process_time()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # A temperature below what the solver can represent is a failed trial.
            warnings.simplefilter("ignore")
            plan = ot.gromov.entropic_gromov_wasserstein(
                C, D, symmetric=True, epsilon=epsilon, G0=start, max_iter=max_iter, tol=1e-7,
                numItermax=100, stopThr=1e-6, warn=False,
            )  # fmt: skip
            plan = scaled(np.asarray(plan, dtype=float))
        distance = float(constant - 2 * ((C @ plan.astype(kind) @ D) * plan).sum(dtype=float)) / chance
        trials.append(Trial(epsilon, distance, plan, time.process_time() - started))
    return trials


def least_distance(trials: list[Trial]) -> Trial | None:
    """Return the trial of least distance; None if all failed."""
    solved = [trial for trial in trials if np.isfinite(trial.distance)]
    return min(solved, key=lambda trial: trial.distance) if solved else None
