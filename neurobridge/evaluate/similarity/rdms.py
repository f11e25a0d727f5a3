"""Representational dissimilarity matrices: distances, cross-validated distances, comparators, noise ceilings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.covariance import ledoit_wolf

from neurobridge.assemblies import AssemblyError, as_matrix, coords_of, validate
from neurobridge.assemblies.labels import present_labels
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, REPETITION, STIMULUS_ID
from neurobridge.evaluate.similarity.comparators import (
    COMPARATORS,
    POOLED,
    PREPARE,
    compare_rdms,
    dissimilarities,
    upper_mask,
    upper_triangle,
)
from neurobridge.evaluate.similarity.distances import DISTANCES
from neurobridge.points.conversion import real_array
from neurobridge.points.options import is_choice, require_options

MAHALANOBIS = "mahalanobis"


def rdm(
    assembly: xr.DataArray, *, distance: str = "correlation", noise: xr.DataArray | np.ndarray | None = None
) -> xr.DataArray:
    """Compute the dissimilarity of every pair of stimuli.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid)``, one presentation a stimulus.
    distance : {"correlation", "euclidean", "sqeuclidean", "cosine", "poisson", "mahalanobis"}
        - "correlation": ``1 - r`` over neuroids (Kriegeskorte et al. 2008).
        - "sqeuclidean": the mean squared difference over neuroids; rsatoolbox calls it "euclidean". "euclidean" is the root
          of the summed squares.
        - "poisson": for rates or counts, ``mean (l_i - l_j) (log l_i - log l_j)`` over neuroids, the symmetrised divergence of
          two Poisson variables, ``l = (x + .1) / 1.1`` as in rsatoolbox (Schutt et al. 2023).
        - "mahalanobis": squared, ``(x_i - x_j)^T S^-1 (x_i - x_j) / n_neuroids`` with the covariance S of the noise. It is
          biased upwards by noise; `crossvalidated_rdm` with ``whiten=True`` (crossnobis) is not.
    noise : xarray.DataArray, or array of shape (n_neuroids, n_neuroids), optional
        For "mahalanobis": recordings with repetitions, whose residuals are read (`noise_covariance`), or the covariance S
        itself. rsatoolbox takes its inverse.

    Returns
    -------
    xarray.DataArray
        Dims ``(presentation, presentation_2)``, symmetric, zero diagonal.

    Raises
    ------
    AssemblyError
        Unknown distance, an assembly that breaks the schema, or noise that is missing, not asked for, of other neuroids, or no
        covariance.
    ValueError
        A stimulus without a response ("cosine"), with the same response in all neuroids ("correlation") or with a negative one
        ("poisson"); it is named.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import rdm
    >>> responses = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 2.0, 1.0]])  # simulated
    >>> assembly = make_assembly(
    ...     responses, presentation={"stimulus_id": ["a", "b", "c"]}, neuroid={"neuroid_id": range(3)}
    ... )
    >>> rdm(assembly).values.round(3).tolist()
    [[0.0, 0.0, 2.0], [0.0, 0.0, 2.0], [2.0, 2.0, 0.0]]
    """
    validate(assembly)
    known = sorted([*DISTANCES, MAHALANOBIS])
    if not is_choice(distance, known):
        raise AssemblyError(f"found distance {distance!r}; expected one of {known}. Mend: choose one of them.")
    if (distance == MAHALANOBIS) != (noise is not None):
        raise AssemblyError(
            f"found distance {distance!r} {'without' if noise is None else 'with'} noise; expected noise with 'mahalanobis' alone. "
            f"Mend: rdm(assembly, distance='mahalanobis', noise=trials), or {'another distance' if noise is None else 'no noise'}."
        )
    X = as_matrix(assembly)
    if noise is not None:
        whitener = whitener_of(_covariance_for(assembly, noise))
        return _as_square(DISTANCES["sqeuclidean"](X @ whitener, assembly[STIMULUS_ID].values), assembly)
    return _as_square(DISTANCES[distance](X, assembly[STIMULUS_ID].values), assembly)


def _covariance_for(assembly: xr.DataArray, noise: xr.DataArray | np.ndarray) -> np.ndarray:
    n = assembly.sizes[NEUROID]
    if isinstance(noise, xr.DataArray) and PRESENTATION in noise.dims:
        validate(noise, role="noise")
        ids, expected = noise[NEUROID_ID].values, assembly[NEUROID_ID].values
        if not np.array_equal(ids, expected):
            raise AssemblyError(
                f"noise: found {len(ids)} neuroids, the first {str(ids[0])!r}; expected the {n} of the assembly in the same order, "
                f"the first {str(expected[0])!r}. Mend: select and order them alike."
            )
        return noise_covariance(noise)
    matrix = real_array(noise, name="noise", error=AssemblyError).astype(np.float64, copy=False)
    if matrix.shape != (n, n) or not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T):
        raise AssemblyError(
            f"noise: found an array of shape {matrix.shape}; expected a finite symmetric covariance of shape ({n}, {n}), or "
            "recordings with repetitions. Mend: neurobridge.similarity.noise_covariance(trials)."
        )
    return matrix


def whitener_of(covariance: np.ndarray) -> np.ndarray:
    """Return W with ``W^T S W = 1`` of a covariance S of shape (n_neuroids, n_neuroids).

    Raises
    ------
    AssemblyError
        S has directions without variance.
    """
    values, vectors = np.linalg.eigh(covariance)
    if not values[0] > 1e-12 * abs(values[-1]):
        raise AssemblyError(
            f"noise: found a covariance with {int((values <= 1e-12 * abs(values[-1])).sum())} of {len(values)} directions without "
            "variance; expected a positive definite one. Mend: neurobridge.similarity.noise_covariance(trials), which shrinks it."
        )
    return vectors / np.sqrt(values)


def noise_covariance(recordings: xr.DataArray) -> np.ndarray:
    """Estimate the covariance of the noise over neuroids from repeated presentations.

    The covariance of the residuals about each stimulus' mean, shrunk by the rule of Ledoit & Wolf 2004 (J Multivariate Anal
    88:365); the means take one degree of freedom a stimulus.

    Parameters
    ----------
    recordings : xarray.DataArray
        One presentation a trial; stimuli may have different numbers of them.

    Returns
    -------
    array of shape (n_neuroids, n_neuroids)
        In the squared units of the recordings.

    Raises
    ------
    AssemblyError
        No stimulus was presented twice, or the repetitions are all the same.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import noise_covariance
    >>> rng = np.random.default_rng(0)  # simulated: eight stimuli, fifty repetitions with independent noise of variance 4
    >>> signal = np.tile(rng.normal(size=(8, 3)), (50, 1))
    >>> trials = make_assembly(
    ...     signal + 2 * rng.normal(size=(400, 3)),
    ...     presentation={"stimulus_id": list("abcdefgh") * 50},
    ...     neuroid={"neuroid_id": range(3)},
    ... )
    >>> noise_covariance(trials).diagonal().round().tolist()
    [4.0, 4.0, 4.0]
    """
    validate(recordings, role="recordings")
    codes, _ = pd.factorize(np.asarray(recordings[STIMULUS_ID].values))
    counts = np.bincount(codes)
    if counts.max() < 2:
        raise AssemblyError(
            f"recordings: found one presentation of each of {len(counts)} stimuli; expected repetitions, whose differences are the "
            "noise. Mend: pass the trials before they are averaged."
        )
    X = as_matrix(recordings, role="recordings")
    return _residual_covariance(X - X.mean(axis=0), codes, counts)


def _as_square(condensed: np.ndarray, like: xr.DataArray) -> xr.DataArray:
    n = like.sizes[PRESENTATION]
    square = np.zeros((n, n))
    square[upper_mask(n)] = condensed
    return xr.DataArray(
        square + square.T, dims=(PRESENTATION, f"{PRESENTATION}_2"), coords=coords_of(like, PRESENTATION), name="rdm"
    )


def crossvalidated_rdm(recordings: xr.DataArray, *, whiten: bool = False) -> xr.DataArray:
    """Estimate squared distances without bias from repeated presentations (Walther et al. 2016); whitened, crossnobis.

    ``d_ij = mean over r != s of (x_ir - x_jr) . (x_is - x_js) / n_neuroids``: only different repetitions are multiplied, so
    noise adds nothing on average and the distance of two equal responses is zero on average, below it half of the time. Stimuli
    may have different numbers of repetitions; pairs of presentations with the same repetition number are left out.

    Parameters
    ----------
    recordings : xarray.DataArray
        One presentation a trial with ``repetition``; every stimulus at least twice.
    whiten : bool
        Divide by the covariance of the noise over neuroids (residuals about each stimulus' mean, Ledoit-Wolf shrinkage).

    Returns
    -------
    xarray.DataArray
        Dims ``(presentation, presentation_2)``, stimuli in order of first appearance; not clipped at zero.

    Raises
    ------
    AssemblyError
        No ``repetition``, a stimulus presented once, or, with ``whiten``, repetitions without noise.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.similarity import crossvalidated_rdm
    >>> rng = np.random.default_rng(0)  # simulated: eight stimuli with the same response, ten noisy repetitions
    >>> trials = make_assembly(
    ...     rng.normal(size=(80, 20)),
    ...     presentation={"stimulus_id": list("abcdefgh") * 10, "repetition": np.repeat(np.arange(10), 8)},
    ...     neuroid={"neuroid_id": range(20)},
    ... )
    >>> abs(float(crossvalidated_rdm(trials).mean())) < 0.05
    True
    """
    require_options(whiten=whiten, error=AssemblyError)
    validate(recordings, role="recordings")
    if REPETITION not in recordings.coords or recordings[REPETITION].dims != (PRESENTATION,):
        raise AssemblyError(
            "recordings: found no coordinate 'repetition' on 'presentation'; expected it to cross-validate. Mend: add "
            "it, or use rdm()."
        )
    codes, ids = pd.factorize(np.asarray(recordings[STIMULUS_ID].values))
    counts = np.bincount(codes)
    if counts.min() < 2:
        raise AssemblyError(
            f"recordings: found {int((counts < 2).sum())} stimuli with one presentation, e.g. "
            f"{str(ids[counts.argmin()])!r}; expected at "
            "least two of each. Mend: select the repeated stimuli, or use rdm()."
        )
    X = as_matrix(recordings, role="recordings")
    X = X - X.mean(axis=0)
    if whiten:
        X = X @ whitener_of(_residual_covariance(X, codes, counts))
    n, repetitions = len(counts), np.asarray(recordings[REPETITION].values)
    sums = np.zeros((n, X.shape[1]))
    np.add.at(sums, codes, X)
    products, pairs = sums @ sums.T, np.outer(counts, counts).astype(np.float64)
    for number in np.unique(repetitions):
        rows = np.flatnonzero(repetitions == number)
        same = np.ix_(codes[rows], codes[rows])
        products[same] -= X[rows] @ X[rows].T
        pairs[same] -= 1
    inner = products / pairs
    squared_norm = np.diag(inner)
    square = (squared_norm[:, None] + squared_norm[None, :] - 2 * inner) / X.shape[1]
    _, first = np.unique(codes, return_index=True)
    return _as_square(upper_triangle(square), recordings.isel({PRESENTATION: first}))


def _residual_covariance(X: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    means = np.zeros((len(counts), X.shape[1]))
    np.add.at(means, codes, X)
    residual = X - (means / counts[:, None])[codes]
    if np.abs(residual).max() <= 1e-13 * np.abs(X).max():
        raise AssemblyError(
            f"recordings: found no noise in {len(X)} presentations of {len(counts)} stimuli; expected repetitions that differ, to "
            "whiten by. Mend: whiten=False."
        )
    # The mean takes one degree of freedom of every stimulus.
    covariance: np.ndarray = ledoit_wolf(residual)[0] * len(X) / (len(X) - len(counts))
    return covariance


def rdm_noise_ceiling(
    rdms: np.ndarray, *, comparator: str = "spearman", subjects: Sequence[str] | None = None
) -> tuple[float, float]:
    """Bound the mean similarity of any model to these subjects' RDMs from below and above (Nili et al. 2014).

    Upper: each subject with the mean of all, itself included; no RDM does better on average. Lower: with the mean of the others.
    The RDMs are averaged as the comparator sees them: ranks for spearman, rho-a and the taus, standardised for pearson and
    corr_cov, unit length for cosine and cosine_cov.

    Parameters
    ----------
    rdms : array of shape (n_subjects, n_pairs)
    comparator : str
        One of `COMPARATORS`.
    subjects : sequence of n_subjects str, optional
        Names for the message of an error; their numbers by default.

    Returns
    -------
    lower, upper : float

    Raises
    ------
    ValueError
        Fewer than two subjects; a subject whose dissimilarities are all equal or not finite, which is named; or dissimilarities
        that cancel in their average.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.similarity import rdm_noise_ceiling
    >>> rng = np.random.default_rng(0)  # simulated: four subjects with one RDM, measured with noise
    >>> lower, upper = rdm_noise_ceiling(rng.uniform(size=45) + 0.2 * rng.normal(size=(4, 45)))
    >>> round(lower, 1), round(upper, 1)
    (0.8, 0.9)
    """
    rdms = real_array(rdms, name="rdms").astype(np.float64, copy=False)
    if rdms.ndim != 2 or len(rdms) < 2:
        raise ValueError(
            f"rdm: found RDMs of shape {rdms.shape}; expected at least two subjects. Mend: keep all subjects."
        )
    names = [f"subject {k}" for k in range(len(rdms))] if subjects is None else list(subjects)
    if not is_choice(comparator, COMPARATORS):
        raise ValueError(
            f"rdm: found comparator {comparator!r}; expected one of {list(COMPARATORS)}. Mend: choose one of them."
        )
    prepare = PREPARE[POOLED.get(comparator, comparator)]
    seen = np.stack(
        [_of_subject(name, lambda d: prepare(dissimilarities(d)), d) for name, d in zip(names, rdms, strict=True)]
    )
    total = seen.sum(axis=0)
    others = [total - left_out for left_out in seen]
    if min(float(np.linalg.norm(average)) for average in (total, *others)) <= 1e-12 * len(rdms):
        raise ValueError(
            f"rdm: found RDMs of {len(rdms)} subjects that cancel in their average; expected subjects that agree in part: no bound "
            "is defined. Mend: compare a model with each subject by compare_rdms."
        )
    upper = [compare_rdms(d, total, comparator=comparator) for d in rdms]
    lower = [compare_rdms(d, average, comparator=comparator) for d, average in zip(rdms, others, strict=True)]
    return float(np.mean(lower)), float(np.mean(upper))


def _of_subject(name: str, measure: Callable[..., np.ndarray], *arguments: Any) -> np.ndarray:
    """Call with arguments; an error begins with the subject's name."""
    try:
        return measure(*arguments)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def subjects_of(recordings: xr.DataArray, subject: str, distance: str) -> np.ndarray:
    """Return the subject of each site, array of shape (n_neuroids,).

    Raises
    ------
    AssemblyError
        No such coordinate on ``neuroid``, one subject only, or a subject with too few sites for correlation distances.
    """
    if not isinstance(subject, str) or subject not in recordings.coords or recordings[subject].dims != (NEUROID,):
        raise AssemblyError(
            f"target: found no coordinate {subject!r} on 'neuroid'; expected the subject of each site. "
            f"Mend: target.assign_coords({subject}=('neuroid', names)), or the metric 'rdm' (--metrics rdm), which takes all "
            "sites as one."
        )
    mend = f"neurobridge.assemblies.drop_missing(recordings, {subject!r}) leaves them out"
    labels = present_labels(recordings[subject].values, name=subject, role="recordings", mend=mend).astype(str)
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or (distance == "correlation" and counts.min() < 3):
        raise AssemblyError(
            f"target: found {len(counts)} {subject}(s), the smallest with {counts.min()} site(s); expected at least "
            "two, and three sites each for correlation distances. Mend: keep the sites of all animals, or use the metric 'rdm' "
            "(--metrics rdm)."
        )
    return labels


def subject_rdms(
    responses: np.ndarray, labels: np.ndarray, distance: str, stimuli: np.ndarray | None = None
) -> np.ndarray:
    """Compute one RDM a subject, in sorted order, from its sites: array of shape (n_subjects, n_pairs).

    Raises
    ------
    ValueError
        A subject's distance is not defined for a stimulus; both are named.
    """
    return np.stack(
        [
            _of_subject(f"subject {str(name)!r}", DISTANCES[distance], responses[:, labels == name], stimuli)
            for name in np.unique(labels)
        ]
    )
