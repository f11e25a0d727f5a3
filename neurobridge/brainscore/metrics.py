"""Our metrics behind Brain-Score's interface: two of its assemblies in, one of its scores out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, require_unique_stimuli
from neurobridge.assemblies.ids import find_rows
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.brainscore.aligned import aligned_predictivity
from neurobridge.brainscore.convert import from_brainscore
from neurobridge.evaluate.folds import Splits
from neurobridge.evaluate.metrics import METRICS
from neurobridge.evaluate.regression import REGRESSIONS
from neurobridge.evaluate.score.schema import SPLIT, leading_dims
from neurobridge.evaluate.splits import shuffle_splits, stratified_splits
from neurobridge.evaluate.splits.choice import share_trained_on

#: Every metric by its name: those of `neurobridge.evaluate.metrics.METRICS`, and "bridge".
ALL_METRICS: dict[str, Callable[..., xr.Dataset]] = {**METRICS, "bridge": aligned_predictivity}
#: Those that give one number a site, which the reliability of that site bounds.
SITE_METRICS: tuple[str, ...] = (*REGRESSIONS, "bridge")
#: Those that fit something, and so need folds.
FITTED_METRICS: tuple[str, ...] = (*SITE_METRICS, "cca", "svcca")
#: Brain-Score's defaults of cross-validation (`brainscore_vision.metric_helpers.transformations.Split`).
CROSS_VALIDATION: dict[str, Any] = {
    "splits": 10,
    "train_size": 0.9,
    "stratification_coord": "object_name",
    "random_state": 1,
}
#: Those of its metrics that fit nothing (``cka_cv``, ``rdm_cv``), which are computed on nine tenths of the stimuli, ten times.
UNFITTED_FOLDS: dict[str, Any] = {"test_size": 0.9}
_TEST_SIZE = "test_size"


class BrainScoreMetric:
    """A metric of neurobridge that Brain-Score can call.

    Parameters
    ----------
    name : str
        A key of `ALL_METRICS`.
    crossvalidation_kwargs : mapping, optional
        Some of ``splits``, ``train_size`` or ``test_size``, ``stratification_coord`` (None: do not stratify) and
        ``random_state``, with Brain-Score's defaults: the folds are then its own. A metric that fits nothing is computed once, on
        all stimuli, unless this is given; `UNFITTED_FOLDS` are those of Brain-Score's ``cka_cv`` and ``rdm_cv``.
    **options
        Of the metric, e.g. ``pairs=0.05`` of "bridge", ``n_components`` of "pls".

    Raises
    ------
    AssemblyError
        Unknown metric, or unknown keyword of the cross-validation.

    Examples
    --------
    >>> import neurobridge as nb
    >>> metric = nb.brainscore.BrainScoreMetric("ridge", {"splits": 3, "stratification_coord": None})
    >>> metric(source, target)  # doctest: +SKIP
    """

    def __init__(self, name: str, crossvalidation_kwargs: Mapping[str, Any] | None = None, **options: Any) -> None:
        if name not in ALL_METRICS:
            raise AssemblyError(
                f"found metric {name!r}; expected one of {sorted(ALL_METRICS)}. Mend: choose one of them."
            )
        given = dict(crossvalidation_kwargs or {})
        known = sorted({*CROSS_VALIDATION, _TEST_SIZE})
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise AssemblyError(
                f"crossvalidation_kwargs: found {unknown[0]!r}; expected some of {known}. Mend: leave it out, or use Brain-Score's "
                "own metric."
            )
        if {"train_size", _TEST_SIZE} <= set(given) and given[_TEST_SIZE] is not None:
            raise AssemblyError(
                f"crossvalidation_kwargs: found both train_size={given['train_size']} and test_size={given[_TEST_SIZE]}; expected "
                "one of them. Mend: leave one out."
            )
        self.name, self.options = name, options
        self.cross_validation = {**CROSS_VALIDATION, **given}
        self.in_folds = name in FITTED_METRICS or bool(given)

    def __call__(self, source: xr.DataArray, target: xr.DataArray) -> xr.DataArray:
        """Compare two Brain-Score assemblies of the same stimuli.

        Parameters
        ----------
        source : NeuroidAssembly
            What predicts, e.g. of a model: dims ``(presentation, neuroid)``.
        target : NeuroidAssembly
            What is predicted, averaged over repetitions.

        Returns
        -------
        Score
            Mean over splits of the median over neuroids; ``attrs``: ``raw`` (split, neuroid), ``error``, the standard error over
            splits, and ``neurobridge``, how it was made.

        Raises
        ------
        AssemblyError
            The stimuli differ, or what the metric refuses.
        """
        ours, theirs = from_brainscore(source), from_brainscore(target)
        for role, assembly in (("source", ours), ("target", theirs)):
            require_unique_stimuli(assembly, role=role)
        rows = find_rows(theirs[STIMULUS_ID].values, ours[STIMULUS_ID].values)
        if ours.sizes[PRESENTATION] != theirs.sizes[PRESENTATION] or (rows < 0).any():
            raise AssemblyError(
                f"source: found {ours.sizes[PRESENTATION]} stimuli; expected those of the target ({theirs.sizes[PRESENTATION]}). "
                "Mend: record the model on the benchmark's stimulus set."
            )
        # Brain-Score draws its folds over the target as it stands; `brainscore_splits` over sorted ids, as its benchmarks' are.
        splits = self._splits(theirs) if self.in_folds else None
        score = ALL_METRICS[self.name](
            ours.isel({PRESENTATION: rows}), theirs, splits=splits, n_permutations=0, **self.options
        )
        return to_score(score)

    def _splits(self, target: xr.DataArray) -> Splits:
        how, label = self.cross_validation, self.cross_validation["stratification_coord"]
        test_size = how.get(_TEST_SIZE)
        train_size = how["train_size"] if test_size is None else share_trained_on(target.sizes[PRESENTATION], test_size)
        kwargs = {"n_splits": how["splits"], "train_size": train_size, "seed": how["random_state"]}
        if label is None:
            return shuffle_splits(target.sizes[PRESENTATION], **kwargs)
        if label not in target.coords:
            raise AssemblyError(
                f"target: found no coordinate {label!r} to stratify on; expected it on {PRESENTATION!r}. Mend: "
                "crossvalidation_kwargs={'stratification_coord': None}."
            )
        return stratified_splits(target[label].values, **kwargs)


def to_score(score: xr.Dataset) -> xr.DataArray:
    """Turn a Score of neurobridge into one of Brain-Score.

    Parameters
    ----------
    score : xarray.Dataset
        With ``raw`` (split[, neuroid]).

    Returns
    -------
    brainscore_core.metrics.Score
        Mean over splits of the median over neuroids, not divided by a ceiling; ``raw`` (all values) and ``error`` are in its
        ``attrs``, and so is ``ceiling`` (median over neuroids) where the score has one.

    Raises
    ------
    ImportError
        Brain-Score is not installed.
    ValueError
        The argument is no Score, or several stand side by side in it.

    Examples
    --------
    >>> import neurobridge as nb
    >>> nb.brainscore.to_score(nb.predictivity(source, target))  # doctest: +SKIP
    """
    try:
        from brainscore_core.metrics import Score
    except ImportError as error:
        raise ImportError(
            f"found no usable brainscore_core ({error}); expected the Brain-Score packages. "
            "Mend: pip install -c constraints-brainscore.txt 'neurobridge[brainscore]'."
        ) from error
    if several := leading_dims(score):
        raise ValueError(
            f"score: found whole scores on the dims {several}; expected one score, raw (split[, neuroid]). "
            f"Mend: take one, score.isel({{{several[0]!r}: 0}})."
        )
    raw = score["raw"]
    coords = {str(name): (coord.dims, coord.values) for name, coord in raw.coords.items() if coord.ndim == 1}
    coords[SPLIT] = ((SPLIT,), np.arange(raw.sizes[SPLIT]))
    by_split = raw.values if raw.ndim == 1 else np.median(raw.values, axis=1)
    made = Score(by_split.mean())
    made.attrs[Score.RAW_VALUES_KEY] = Score(raw.values, dims=raw.dims, coords=coords)
    made.attrs["error"] = Score(by_split.std() / np.sqrt(len(by_split)))
    ceiling = float(score["ceiling"].median(skipna=False))
    if np.isfinite(ceiling):
        made.attrs["ceiling"] = Score(ceiling)
    made.attrs["neurobridge"] = dict(score.attrs)
    return made
