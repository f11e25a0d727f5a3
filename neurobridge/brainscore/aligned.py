"""Bridge predictivity in Brain-Score's cross-validation: align on a share of the training stimuli, correlate on the held-out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from neurobridge.aligners import AssemblyAligner, BridgeAligner
from neurobridge.assemblies import AssemblyError, as_matrix, drop_constant, match_stimuli, require_varying_neuroids
from neurobridge.assemblies import validate as validate_assembly
from neurobridge.assemblies.schema import NEUROID, PRESENTATION
from neurobridge.evaluate.correlation import MIN_CORRELATED, score_folds
from neurobridge.evaluate.predict import GivenSplits
from neurobridge.evaluate.splits import resolve_splits

PAIRS = 0.1


def aligned_predictivity(
    source: xr.DataArray,
    target: xr.DataArray,
    aligner: AssemblyAligner | None = None,
    *,
    pairs: float = PAIRS,
    splits: GivenSplits = None,
    ceiling: xr.DataArray | None = None,
    normalization: str = "explained_variance",
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Align the source to the target with a few pairs, and correlate what is transported with held-out responses.

    In every fold the aligner is fitted on the training stimuli of both spaces, of which it is told for a share ``pairs`` only that
    they are the same; the others are points without partners. Neither space's held-out stimuli are seen in fitting.

    Parameters
    ----------
    source : xarray.DataArray
        Assembly of activations, dims ``(presentation, neuroid)``, one presentation a stimulus.
    target : xarray.DataArray
        Assembly of recordings, likewise; average over repetitions first.
    aligner : AssemblyAligner, optional
        Cloned for every fold. Default: the fused bridge with its barycentric map, ``BridgeAligner(map="barycentric", seed=seed)``.
    pairs : float
        Share of the training stimuli that are pairs, in (0, 1].
    splits, ceiling, normalization, n_permutations
        As in `neurobridge.predictivity`.
    seed : int
        Of the pairs, a draw of its own for every fold, and of the null.

    Returns
    -------
    xarray.Dataset
        The Score that `neurobridge.correlate` describes, with one row of ``raw`` a split.

    Raises
    ------
    AssemblyError
        Bad assemblies or splits, a share outside (0, 1], or one that leaves fewer than two pairs.

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> values = np.random.default_rng(0).normal(size=(20, 3))
    >>> stimuli = {"stimulus_id": [f"s{k}" for k in range(20)]}
    >>> assembly = nb.make_assembly(values, presentation=stimuli, neuroid={"neuroid_id": ["a", "b", "c"]})
    >>> source = assembly
    >>> target = assembly.copy(data=values @ np.array([[0, 1, 0], [1, 0, 0], [0, 0, 2.0]]))
    >>> splits = nb.splits.kfold_splits(20, n_splits=2)
    >>> ridge = nb.aligners.RidgeAligner()
    >>> score = nb.brainscore.aligned_predictivity(source, target, ridge, pairs=1.0, splits=splits, n_permutations=10)
    >>> float(nb.aggregate(score)["raw"]) > 0.9
    True
    """
    if not 0 < pairs <= 1:
        raise AssemblyError(
            f"pairs: found {pairs}; expected a share of the training stimuli in (0, 1]. Mend: pairs={PAIRS}."
        )
    for role, assembly in (("source", source), ("target", target)):
        validate_assembly(assembly, role=role)
    matched = match_stimuli(source, target)
    require_varying_neuroids(matched.target, role="target")
    folds = resolve_splits(matched.target, splits, min_held_out=MIN_CORRELATED)
    template = BridgeAligner(map="barycentric", seed=seed) if aligner is None else aligner
    predicted, n_dropped = [], 0
    for number, (train, test) in enumerate(folds):
        seen = drop_constant(matched.source.isel({PRESENTATION: train}))
        n_dropped = max(n_dropped, source.sizes[NEUROID] - seen.sizes[NEUROID])
        kept = _positions(matched.source, seen)
        fitted = clone(template).set_params(seed=seed + number)
        fitted.fit(seen, matched.target.isel({PRESENTATION: train}), float(pairs))
        moved = fitted.transform(matched.source.isel({PRESENTATION: test, NEUROID: kept}))
        observed = as_matrix(matched.target.isel({PRESENTATION: test}), role="target")
        predicted.append((as_matrix(moved, role="aligned"), observed))
    if n_dropped:
        warnings.warn(
            f"found up to {n_dropped} of {source.sizes[NEUROID]} source neuroids constant over the training stimuli of a fold; "
            "they were left out of it.",
            UserWarning,
            stacklevel=2,
        )
    attrs: dict[str, Any] = {
        "metric": f"{type(template).__name__}, {pairs:.0%} of the training stimuli paired, pearson",
        "splits": folds.description,
        "n_stimuli": matched.source.sizes[PRESENTATION],
    }
    return score_folds(
        predicted,
        like=target,
        ceiling=ceiling,
        normalization=normalization,
        n_permutations=n_permutations,
        seed=seed,
        attrs=attrs,
        sources=(source, target),
    )


def _positions(whole: xr.DataArray, part: xr.DataArray) -> np.ndarray:
    return np.flatnonzero(np.isin(whole["neuroid_id"].values, part["neuroid_id"].values))
