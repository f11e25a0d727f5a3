"""Reliability of an RDM over repetitions, and the similarity that a perfect model has with it."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies import AssemblyError, require_varying_neuroids, validate
from neurobridge.assemblies.schema import STIMULUS_ID
from neurobridge.evaluate.halves import MIN_R, deal_halves, half_means, spearman_brown
from neurobridge.evaluate.score.schema import SPLIT, make_score, score_attrs
from neurobridge.evaluate.similarity.comparators import COMPARATORS, compare_rdms
from neurobridge.evaluate.similarity.distances import DISTANCES
from neurobridge.evaluate.time_bins.stacking import score_bins
from neurobridge.points.options import is_choice, require_count, require_options

_FEWEST = 5


def rdm_consistency(
    recordings: xr.DataArray,
    *,
    distance: str = "correlation",
    comparator: str = "spearman",
    n_splits: int = 10,
    halves: str = "stimulus",
    by: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Estimate how similar a perfect model's RDM is to that of the recordings, from split halves of the repetitions.

    1. The repetitions of each stimulus are dealt into two halves, whose averages have an RDM each; ``raw`` is their similarity r.
    2. The reliability of the RDM over all repetitions is ``2 r / (1 + r)`` (Spearman 1910, Brown 1910).
    3. A model with the RDM of the responses without noise has a similarity of the root of this reliability: ``ceiling``.

    Parameters
    ----------
    recordings : xarray.DataArray
        One presentation a trial, dims ``(presentation, neuroid)``; five stimuli or more, every one at least twice.
    distance : str
        A key of `DISTANCES`.
    comparator : str
        One of `COMPARATORS`.
    n_splits : int
        Random halvings.
    halves : {"stimulus", "repetition"}
        As in `internal_consistency`.
    by : {"time_bin"}, optional
        A ceiling for every time bin, from the same halves: all has the leading dim ``time_bin``.
    seed : int

    Returns
    -------
    xarray.Dataset
        Score: ``raw`` (split); ``ceiling``, for ``rdm_similarity(..., ceiling=)``, NaN with a warning where the halves do not
        agree; ``reliability``, the mean over halvings; no null, and nothing normalised.

    Raises
    ------
    AssemblyError
        Bad recordings, a stimulus with one presentation, or an unknown option.
    ValueError
        A distance that is not defined for a stimulus, or dissimilarities that are all equal.

    Notes
    -----
    The correction takes errors of both halves for independent and of one size. Noise adds to plain distances in both halves alike
    if sites or stimuli differ in their noise, and the ceiling is then too high; distances that shrink with noise, as
    "correlation", bend it. "sqeuclidean" with "pearson" or "corr_cov" is the case in which it holds.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import rdm_consistency
    >>> rng = np.random.default_rng(0)  # simulated: 30 stimuli, 6 repetitions, as much noise as signal in each
    >>> trials = make_assembly(
    ...     np.tile(rng.normal(size=(30, 20)), (6, 1)) + rng.normal(size=(180, 20)),
    ...     presentation={"stimulus_id": np.tile(np.arange(30), 6), "repetition": np.repeat(np.arange(6), 30)},
    ...     neuroid={"neuroid_id": range(20)},
    ... )
    >>> score = rdm_consistency(trials, distance="sqeuclidean", comparator="pearson")
    >>> bool(score["raw"].mean() < score["reliability"] < score["ceiling"])
    True
    """
    require_options(seed=seed, error=AssemblyError)
    n_splits = require_count(n_splits, name="n_splits", error=AssemblyError)
    for name, value, allowed in (("distance", distance, tuple(DISTANCES)), ("comparator", comparator, COMPARATORS)):
        if not is_choice(value, allowed):
            raise AssemblyError(f"found {name} {value!r}; expected one of {sorted(allowed)}. Mend: choose one of them.")
    validate(recordings, role="recordings")
    require_varying_neuroids(recordings, role="recordings")
    estimate = partial(
        _consistency, distance=distance, comparator=comparator, n_splits=n_splits, halves=halves, seed=seed
    )
    return estimate(recordings) if by is None else score_bins(estimate, by, recordings, roles=("recordings",))


def _consistency(
    recordings: xr.DataArray, *, distance: str, comparator: str, n_splits: int, halves: str, seed: int
) -> xr.Dataset:
    """Estimate the consistency as `rdm_consistency` does, of valid recordings without time bins."""
    codes, ids = pd.factorize(np.asarray(recordings[STIMULUS_ID].values))
    if len(ids) < _FEWEST or recordings.ndim != 2:
        raise AssemblyError(
            f"recordings: found {len(ids)} stimuli and dims {recordings.dims}; expected at least {_FEWEST} and dims (presentation, "
            "neuroid). Mend: more stimuli, and by='time_bin' or recordings.isel(time_bin=0) where there are time bins."
        )
    in_first_half = deal_halves(recordings, codes, np.asarray(ids), halves, n_splits, seed)
    measure = DISTANCES[distance]
    r = np.array(
        [
            compare_rdms(*(measure(half, ids) for half in pair), comparator=comparator)
            for pair in half_means(recordings, codes, in_first_half)
        ]
    )
    reliability = float(spearman_brown(np.maximum(r, MIN_R)).mean())
    if not reliability > 0:
        warnings.warn(
            f"found RDMs of two halves with a mean similarity of {r.mean():.3g}; expected it above zero. The ceiling is NaN: these "
            "recordings show no geometry that repeats.",
            UserWarning,
            stacklevel=3,
        )
    attrs = {
        "metric": f"split-half rdm, {distance}, {comparator}, Spearman-Brown",
        "splits": f"{n_splits} halvings by {halves}",
        "n_stimuli": len(ids),
    }
    return make_score(
        r,
        (SPLIT,),
        ceiling=np.sqrt(reliability) if reliability > 0 else np.nan,
        # The ceiling is that of other scores, not of the similarity of two halves.
        normalized=np.nan,
        extra={"reliability": reliability},
        attrs=score_attrs(attrs, n_splits, 0, seed, (recordings,)),
    )
