"""Scores of the similarity of two assemblies without a fit: CKA, RDMs, RSA, Procrustes distance."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, average_repetitions, validate
from neurobridge.assemblies.schema import STIMULUS_ID
from neurobridge.evaluate.predict import GivenSplits
from neurobridge.evaluate.score.schema import SPLIT
from neurobridge.evaluate.similarity.arrays import Scorer, cka_scorer, procrustes_scorer
from neurobridge.evaluate.similarity.comparators import COMPARATORS, PREPARE, rdm_scorer
from neurobridge.evaluate.similarity.distances import DISTANCES
from neurobridge.evaluate.similarity.rdms import (
    crossvalidated_rdm,
    rdm_noise_ceiling,
    subject_rdms,
    subjects_of,
)
from neurobridge.evaluate.similarity.scorers import score_unfitted
from neurobridge.evaluate.time_bins.stacking import score_bins
from neurobridge.points.options import is_choice, require_options
from neurobridge.points.scale import within_range

SUBJECT = "subject"


def cka(
    source: xr.DataArray,
    target: xr.DataArray,
    splits: GivenSplits = None,
    *,
    unbiased: bool = True,
    ceiling: float | None = None,
    by: str | None = None,
    n_permutations: int = 100,
    seed: int = 0,
) -> xr.Dataset:
    """Score the linear centred kernel alignment of two assemblies; nothing is fitted.

    The estimators are those of `linear_cka`.

    Parameters
    ----------
    source, target : xarray.DataArray
        Dims ``(presentation, neuroid)``, one presentation a stimulus; joined on ``stimulus_id``.
    splits : Splits, str or sequence of (train, test), optional
        One value on the held-out rows of each fold. Default: all shared stimuli, one value.
    unbiased : bool
        The estimator that is zero on average for unrelated data (Brain-Score's ``cka``), or Kornblith's (``cka_biased``).
    ceiling : float, optional
        ``normalized = raw / ceiling``.
    by : {"time_bin"}, optional
        Score every time bin: one side or both have bins, and the Score has the leading dim ``time_bin``.
    n_permutations : int
        Size of the null: the stimuli of one side are shuffled.
    seed : int

    Returns
    -------
    xarray.Dataset
        Score with ``raw`` (split).

    Raises
    ------
    AssemblyError
        Bad assemblies or splits.
    ValueError
        Fewer than four stimuli a fold.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import cka
    >>> rng = np.random.default_rng(0)  # simulated: the second space is the first, rotated, with noise
    >>> features = rng.normal(size=(60, 5))
    >>> responses = features @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 0.3 * rng.normal(size=(60, 5))
    >>> names = {"presentation": {"stimulus_id": range(60)}, "neuroid": {"neuroid_id": range(5)}}
    >>> model, brain = make_assembly(features, **names), make_assembly(responses, **names)
    >>> score = cka(model, brain, n_permutations=99)
    >>> float(score["raw"].mean()) > 0.7, float(score["p_value"])
    (True, 0.01)
    """
    require_options(unbiased=unbiased)
    if by is not None:
        metric = partial(
            cka, splits=splits, unbiased=unbiased, ceiling=ceiling, n_permutations=n_permutations, seed=seed
        )
        return score_bins(metric, by, source, target)
    return score_unfitted(
        source,
        target,
        splits,
        lambda X, Y, stimuli: cka_scorer(X, Y, unbiased=unbiased),
        metric="cka, unbiased" if unbiased else "cka, biased",
        ceiling=ceiling,
        n_permutations=n_permutations,
        seed=seed,
    )


def cka_biased(source: xr.DataArray, target: xr.DataArray, splits: GivenSplits = None, **options: Any) -> xr.Dataset:
    """Score Kornblith's CKA: ``cka(..., unbiased=False)``.

    Parameters
    ----------
    source, target, splits, **options
        As in `cka`.

    Returns
    -------
    xarray.Dataset
        Score with ``raw`` (split).

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import cka_biased
    >>> rng = np.random.default_rng(0)  # simulated: the second space is the first, rotated, with noise
    >>> features = rng.normal(size=(60, 5))
    >>> responses = features @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 0.3 * rng.normal(size=(60, 5))
    >>> names = {"presentation": {"stimulus_id": range(60)}, "neuroid": {"neuroid_id": range(5)}}
    >>> model, brain = make_assembly(features, **names), make_assembly(responses, **names)
    >>> float(cka_biased(model, brain, n_permutations=0)["raw"].mean()) > 0.7
    True
    """
    return cka(source, target, splits, unbiased=False, **options)


def procrustes(
    source: xr.DataArray,
    target: xr.DataArray,
    splits: GivenSplits = None,
    *,
    n_permutations: int = 100,
    seed: int = 0,
) -> xr.Dataset:
    """Score the angular Procrustes distance in radians: smaller is more similar; ``p_value`` counts permutations at most as far.

    The distance is that of `procrustes_distance`.

    Parameters
    ----------
    source, target, splits, n_permutations, seed
        As in `cka`.

    Returns
    -------
    xarray.Dataset
        Score with ``raw`` (split), attribute ``smaller_is_better`` = 1.

    Raises
    ------
    AssemblyError
        Bad assemblies or splits.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import procrustes
    >>> rng = np.random.default_rng(0)  # simulated: the second space is the first, rotated, with noise
    >>> features = rng.normal(size=(60, 5))
    >>> responses = features @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 0.3 * rng.normal(size=(60, 5))
    >>> names = {"presentation": {"stimulus_id": range(60)}, "neuroid": {"neuroid_id": range(5)}}
    >>> model, brain = make_assembly(features, **names), make_assembly(responses, **names)
    >>> score = procrustes(model, brain, n_permutations=99)
    >>> float(score["raw"].mean()) < float(score["null"].min())
    True
    """
    return score_unfitted(
        source,
        target,
        splits,
        lambda X, Y, stimuli: procrustes_scorer(X, Y),
        metric="procrustes, radians",
        ceiling=None,
        n_permutations=n_permutations,
        seed=seed,
        smaller_is_better=True,
    )


def rdm_similarity(
    source: xr.DataArray,
    target: xr.DataArray,
    splits: GivenSplits = None,
    *,
    distance: str = "correlation",
    comparator: str = "spearman",
    whiten: bool = False,
    ceiling: float | None = None,
    by: str | None = None,
    n_permutations: int = 100,
    seed: int = 0,
) -> xr.Dataset:
    """Score the similarity of the dissimilarity matrices of both sides; the defaults are Brain-Score's ``rdm``.

    Parameters
    ----------
    source, target, splits, ceiling, by, n_permutations, seed
        As in `cka`. With ``distance="crossvalidated"`` the target is recordings with repetitions.
    distance : str
        A key of `DISTANCES`, or "crossvalidated": unbiased distances of the target (`crossvalidated_rdm`), squared Euclidean
        ones of the source.
    comparator : str
        One of `COMPARATORS`: see `compare_rdms`.
    whiten : bool
        Whiten by the noise of the repetitions, for cross-validated distances.

    Returns
    -------
    xarray.Dataset
        Score with ``raw`` (split).

    Raises
    ------
    AssemblyError
        Bad assemblies or splits, unknown distance or comparator.
    ValueError
        Dissimilarities that are all equal, or not defined for a stimulus, which is named.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import rdm_similarity
    >>> rng = np.random.default_rng(0)  # simulated: the second space is the first, rotated, with noise
    >>> features = rng.normal(size=(60, 5))
    >>> responses = features @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 0.3 * rng.normal(size=(60, 5))
    >>> names = {"presentation": {"stimulus_id": range(60)}, "neuroid": {"neuroid_id": range(5)}}
    >>> model, brain = make_assembly(features, **names), make_assembly(responses, **names)
    >>> score = rdm_similarity(model, brain, distance="euclidean", n_permutations=99)
    >>> float(score["raw"].mean()) > 0.7, float(score["p_value"])
    (True, 0.01)
    """
    require_options(whiten=whiten, error=AssemblyError)
    if by is not None:
        metric = partial(
            rdm_similarity,
            splits=splits,
            distance=distance,
            comparator=comparator,
            whiten=whiten,
            ceiling=ceiling,
            n_permutations=n_permutations,
            seed=seed,
        )
        return score_bins(metric, by, source, target)
    _known(distance, (*DISTANCES, "crossvalidated"), "distance")
    _known(comparator, COMPARATORS, "comparator")
    name = f"rdm, {distance}, {comparator}"
    if distance != "crossvalidated":

        def scorer(X: np.ndarray, Y: np.ndarray, stimuli: np.ndarray) -> Scorer:
            first, second = (DISTANCES[distance](within_range(space), stimuli) for space in (X, Y))
            return rdm_scorer(first, second, len(X), comparator=comparator)

        return score_unfitted(
            source, target, splits, scorer, metric=name, ceiling=ceiling, n_permutations=n_permutations, seed=seed
        )
    validate(target, role="target")
    square = crossvalidated_rdm(target, whiten=whiten)
    average = average_repetitions(target)
    row_of = {stimulus: row for row, stimulus in enumerate(square[STIMULUS_ID].values)}

    def crossvalidated(X: np.ndarray, Y: np.ndarray, stimuli: np.ndarray) -> Scorer:
        rows = np.array([row_of[stimulus] for stimulus in stimuli])
        second = square.values[np.ix_(rows, rows)][~np.tri(len(rows), dtype=bool)]
        return rdm_scorer(DISTANCES["sqeuclidean"](within_range(X)), second, len(rows), comparator=comparator)

    return score_unfitted(
        source,
        average,
        splits,
        crossvalidated,
        metric=name,
        ceiling=ceiling,
        n_permutations=n_permutations,
        seed=seed,
    )


def rsa(
    source: xr.DataArray,
    target: xr.DataArray,
    splits: GivenSplits = None,
    *,
    subject: str = "animal",
    distance: str = "correlation",
    comparator: str = "spearman",
    by: str | None = None,
    n_permutations: int = 100,
    seed: int = 0,
) -> xr.Dataset:
    """Score the source's RDM against that of every subject, between the bounds that the subjects' agreement sets.

    Parameters
    ----------
    source, target, splits, by, n_permutations, seed
        As in `cka`.
    subject : str
        Coordinate of the target's neuroids.
    distance : str
        A key of `DISTANCES`.
    comparator : str
        One of `COMPARATORS`: see `compare_rdms`.

    Returns
    -------
    xarray.Dataset
        Score with ``raw`` (split), the mean over subjects; ``raw_by_subject`` (split, subject); ``ceiling``, the upper bound of
        Nili et al. 2014, and ``ceiling_lower``, the lower, both means over splits; ``normalized = raw / ceiling``.

    Raises
    ------
    AssemblyError
        Bad assemblies or splits, one subject only, unknown distance or comparator.
    ValueError
        A subject's dissimilarities are all equal, or not defined for a stimulus; the subject is named.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import rsa
    >>> rng = np.random.default_rng(0)  # simulated: the second space is the first, rotated, with noise
    >>> features = rng.normal(size=(60, 5))
    >>> responses = features @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 0.3 * rng.normal(size=(60, 5))
    >>> sites = {"neuroid_id": range(5), "animal": ["a", "a", "a", "b", "b"]}
    >>> names = {"presentation": {"stimulus_id": range(60)}, "neuroid": sites}
    >>> model, brain = make_assembly(features, **names), make_assembly(responses, **names)
    >>> score = rsa(model, brain, distance="euclidean", n_permutations=99)
    >>> bool(score["ceiling_lower"] < score["ceiling"]), score["raw_by_subject"].sizes["subject"]
    (True, 2)
    """
    if by is not None:
        metric = partial(
            rsa,
            splits=splits,
            subject=subject,
            distance=distance,
            comparator=comparator,
            n_permutations=n_permutations,
            seed=seed,
        )
        return score_bins(metric, by, source, target)
    _known(distance, tuple(DISTANCES), "distance")
    _known(comparator, COMPARATORS, "comparator")
    bounds: list[tuple[float, float]] = []
    by_subject: list[list[float]] = []
    validate(target, role="target")
    labels = subjects_of(target, subject, distance)

    names = [f"{subject} {str(name)!r}" for name in np.unique(labels)]

    def scorer(X: np.ndarray, Y: np.ndarray, stimuli: np.ndarray) -> Scorer:
        rdms = subject_rdms(within_range(Y), labels, distance, stimuli)
        model = DISTANCES[distance](within_range(X), stimuli)
        bounds.append(rdm_noise_ceiling(rdms, comparator=comparator, subjects=names))
        each = [rdm_scorer(model, d, len(X), comparator=comparator) for d in rdms]
        by_subject.append([score(slice(None)) for score in each])
        if comparator in PREPARE:
            # The mean of inner products is one inner product: one product a permutation, however many subjects.
            pooled = np.mean([PREPARE[comparator](d) for d in rdms], axis=0)
            length = float(np.linalg.norm(pooled))
            pooled_score = rdm_scorer(PREPARE[comparator](model), pooled / length, len(X), comparator="cosine")
            return lambda order: length * pooled_score(order)
        return lambda order: float(np.mean([score(order) for score in each]))

    score = score_unfitted(
        source,
        target,
        splits,
        scorer,
        metric=f"rsa, {distance}, {comparator}, by {subject}",
        ceiling=lambda: float(np.mean([upper for _, upper in bounds])),
        n_permutations=n_permutations,
        seed=seed,
    )
    return score.assign(
        ceiling_lower=float(np.mean([lower for lower, _ in bounds])), raw_by_subject=((SPLIT, SUBJECT), by_subject)
    ).assign_coords({SUBJECT: np.unique(labels)})


def _known(value: str, names: tuple[str, ...], kind: str) -> None:
    if value is None or not is_choice(value, names):
        raise AssemblyError(f"found {kind} {value!r}; expected one of {sorted(names)}. Mend: choose one of them.")
