"""Scores of prepared comparisons: on all stimuli, or on the held-out stimuli of every fold."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.evaluate.predict import GivenSplits, matched_spaces
from neurobridge.evaluate.score.schema import score_attrs, split_score
from neurobridge.evaluate.similarity.arrays import Scorer
from neurobridge.evaluate.splits import resolve_splits
from neurobridge.points.options import require_options

_LOG = logging.getLogger(__name__)


def score_unfitted(
    source: xr.DataArray,
    target: xr.DataArray,
    splits: GivenSplits,
    scorer: Callable[[np.ndarray, np.ndarray, np.ndarray], Scorer],
    **rest: Any,
) -> xr.Dataset:
    """Score a comparison without a fit: on the held-out rows of every fold, or on all stimuli at once.

    ``scorer(X, Y, stimuli)`` prepares the comparison of some rows of both spaces, whose stimulus ids are ``stimuli``.
    """
    matched = matched_spaces(source, target)
    X, Y = matched.X, matched.Y
    if splits is None:
        chosen, held_out = [np.arange(len(X))], "all stimuli"
    else:
        folds = resolve_splits(matched.target, splits)
        chosen, held_out = [test for _, test in folds], f"held-out stimuli of {folds.description}"
    return score_rows(
        len(X),
        chosen,
        lambda rows, _: scorer(X[rows], Y[rows], matched.stimuli[rows]),
        splits_name=held_out,
        sources=(source, target),
        **rest,
    )


def score_rows(
    n_stimuli: int,
    folds: list[np.ndarray],
    scorer: Callable[[np.ndarray, int], Scorer],
    *,
    metric: str,
    splits_name: str,
    ceiling: float | Callable[[], float] | None,
    n_permutations: int,
    seed: int,
    sources: tuple[xr.DataArray, ...],
    smaller_is_better: bool = False,
) -> xr.Dataset:
    """Score the rows of every fold; ``scorer(rows, fold)`` prepares a comparison, the null permutes one side of it."""
    require_options(n_permutations=n_permutations, seed=seed)
    if not callable(ceiling):
        _require_one(ceiling, metric)
    rng = np.random.default_rng(seed)
    raw, null = [], []
    started = time.perf_counter()
    for number, rows in enumerate(folds):
        score = scorer(rows, number)
        raw.append(score(slice(None)))
        # As in `fold_null`: each permutation from one fold in turn.
        null += [score(rng.permutation(len(rows))) for _ in range(number, n_permutations, len(folds))]
    _LOG.info(
        "compared %s: %d stimuli, %s, %d permutations, %.2f s",
        metric, n_stimuli, splits_name, n_permutations, time.perf_counter() - started,
    )  # fmt: skip
    bound = ceiling() if callable(ceiling) else ceiling
    _require_one(bound, metric)
    return split_score(
        np.asarray(raw),
        np.asarray(null),
        ceiling=bound,
        normalization="ratio",
        attrs=score_attrs(
            {"metric": metric, "splits": splits_name, "n_stimuli": n_stimuli}, len(folds), n_permutations, seed, sources
        ),
        smaller_is_better=smaller_is_better,
        stacklevel=4,
    )


def _require_one(ceiling: Any, metric: str) -> None:
    if ceiling is not None and not isinstance(np.asarray(ceiling).tolist(), Real):
        shown = f"of {np.size(ceiling)} values" if np.ndim(ceiling) else f"{ceiling!r:.60}"
        raise ValueError(
            f"{metric}: found a ceiling {shown}; expected one number, since this metric has one value for all sites, or None. "
            "Mend: leave it out; for RDMs, nb.similarity.rdm_consistency(recordings)['ceiling']."
        )
