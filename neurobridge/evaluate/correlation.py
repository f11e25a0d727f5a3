"""Correlation of predicted with observed responses, site by site, with its ceiling and its permutation null."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, match_stimuli, require_varying_neuroids, validate
from neurobridge.assemblies.schema import NEUROID_ID
from neurobridge.evaluate.score.permutation import fold_null
from neurobridge.evaluate.score.schema import neuroid_score, score_attrs
from neurobridge.points.options import require_options
from neurobridge.points.scale import within_range

#: Stimuli that a correlation needs: over two it is always 1 or -1.
MIN_CORRELATED = 3
# Correlations of single sites that are kept for the null of a single site; of more, evenly spaced permutations are kept.
N_KEPT = 1 << 24


def pearson(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlate the columns of two arrays.

    Parameters
    ----------
    X, Y : arrays of shape (n_samples, n_columns)

    Returns
    -------
    r : array of shape (n_columns,)
        Pearson's r; 0 where a column does not vary.
    varies : bool array of shape (n_columns,)
        Whether both columns vary, up to rounding.
    """
    (U, left), (V, right) = unit_columns(X), unit_columns(Y)
    return np.clip((U * V).sum(axis=0), -1, 1), left & right


def unit_columns(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre columns and scale them to unit length.

    Parameters
    ----------
    X : array of shape (n_samples, n_columns)

    Returns
    -------
    unit : array of shape (n_samples, n_columns)
        Zero where a column does not vary.
    varies : bool array of shape (n_columns,)
    """
    X = within_range(X)
    centred = X - X.mean(axis=0)
    norm = np.linalg.norm(centred, axis=0)
    # What rounding alone leaves of a constant column.
    floor = 1e-13 * np.sqrt(len(X)) * np.abs(X).max(axis=0)
    varies = norm > floor
    return centred / np.where(varies, norm, np.inf), varies


def warn_constant(n_constant: int, what: str, *, stacklevel: int) -> None:
    """Warn of columns that do not vary, whose correlation is scored as 0: no linear relation can be seen in them."""
    if n_constant:
        warnings.warn(
            f"found {n_constant} constant {what}; they are scored r = 0. Check the fit if this is unexpected.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def unit_rows(X: np.ndarray, *, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scale rows to unit length; a row of zeros stays.

    Parameters
    ----------
    X : array of shape (n_rows, n_columns)
    out : array of the shape of X, optional
        Where the result is written; X itself saves a copy.

    Returns
    -------
    unit : array of shape (n_rows, n_columns)
    norm : array of shape (n_rows,)
        Euclidean lengths of the rows of X.
    """
    norm = np.linalg.norm(X, axis=1)
    return np.divide(X, np.where(norm > 0, norm, 1)[:, None], out=out), norm


def permuted_correlations(
    predicted: np.ndarray, observed: np.ndarray, rng: np.random.Generator, n: int
) -> Iterator[np.ndarray]:
    """Correlate columns ``n`` times, with the stimuli of the predictions shuffled anew.

    Parameters
    ----------
    predicted, observed : arrays of shape (n_stimuli, n_columns)
    rng : numpy.random.Generator
    n : int
        Number of permutations.

    Yields
    ------
    array of shape (n_columns,)
    """
    U, V = unit_columns(predicted)[0], unit_columns(observed)[0]
    for _ in range(n):
        yield np.einsum("ij,ij->j", U[rng.permutation(len(U))], V)


def correlate(
    predicted: xr.DataArray,
    observed: xr.DataArray,
    *,
    ceiling: xr.DataArray | None = None,
    normalization: str = "explained_variance",
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Correlate predictions with observations of held-out stimuli.

    Parameters
    ----------
    predicted, observed : xarray.DataArray
        Assemblies with the same neuroids in the same order; joined on ``stimulus_id``. Neither may have been fitted on
        these stimuli.
    ceiling : xarray.DataArray, optional
        Reliability of each neuroid, dims ``(neuroid,)``: see `internal_consistency`.
    normalization : str
        A key of `NORMALIZATIONS`: "explained_variance", "squared_ratio" or "noise_corrected", r with responses without noise.
    n_permutations : int
        Size of the null: the stimuli of the predictions are shuffled, median over neuroids.
    seed : int

    Returns
    -------
    xarray.Dataset
        Score: ``raw`` (split, neuroid) with one split; ``ceiling`` (neuroid), NaN if unknown; ``normalized`` (neuroid)
        ``= r |r| / ceiling``, NaN where the ceiling is not positive, with a warning; ``null`` (permutation), of the median over
        neuroids; ``p_value`` ``= (1 + #{null >= median r}) / (1 + n_permutations)``; ``null_site_95``, the 95 % quantile of r
        of single neuroids over all permutations: the chance level of one site, above that of the median.

        A neuroid whose *prediction* is constant gets r = 0, with a warning.

    Raises
    ------
    AssemblyError
        Different neuroids, no shared stimulus, fewer than three stimuli, an observed neuroid that is constant, NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import correlate
    >>> rng = np.random.default_rng(0)  # simulated: responses of 20 sites, and predictions with as much noise as signal
    >>> responses = rng.normal(size=(60, 20))
    >>> names = {"presentation": {"stimulus_id": range(60)}, "neuroid": {"neuroid_id": range(20)}}
    >>> observed = make_assembly(responses, **names)
    >>> predicted = make_assembly(responses + rng.normal(size=(60, 20)), **names)
    >>> score = correlate(predicted, observed, n_permutations=99)
    >>> score["raw"].dims, float(score["p_value"])
    (('split', 'neuroid'), 0.01)
    >>> round(float(score["raw"].median()), 1)
    0.7
    """
    require_options(n_permutations=n_permutations, seed=seed, error=AssemblyError)
    for role, assembly in (("predicted", predicted), ("observed", observed)):
        validate(assembly, role=role)
    matched = match_stimuli(predicted, observed)
    require_varying_neuroids(matched.target, role="observed")
    ids, expected = predicted[NEUROID_ID].values, observed[NEUROID_ID].values
    if not np.array_equal(ids, expected):
        raise AssemblyError(
            f"predicted: found {len(ids)} neuroids (first {str(ids[0])!r}); expected the {len(expected)} of observed (first "
            f"{str(expected[0])!r}) in the same order. Mend: select the same neuroids on both sides."
        )
    fold = as_matrix(matched.source, role="predicted"), as_matrix(matched.target, role="observed")
    return score_folds(
        [fold],
        like=observed,
        ceiling=ceiling,
        normalization=normalization,
        n_permutations=n_permutations,
        seed=seed,
        attrs={"metric": "pearson", "splits": "one, given", "n_stimuli": len(fold[0])},
        sources=(predicted, observed),
    )


def score_folds(
    folds: list[tuple[np.ndarray, np.ndarray]],
    *,
    like: xr.DataArray,
    ceiling: xr.DataArray | None,
    normalization: str,
    n_permutations: int,
    seed: int,
    attrs: dict[str, Any],
    sources: tuple[xr.DataArray, ...],
    stacklevel: int = 2,
) -> xr.Dataset:
    """Make a Score from the predicted and observed responses of every fold, arrays (n_stimuli, n_neuroids)."""
    n_held_out = min(len(predicted) for predicted, _ in folds)
    if n_held_out < MIN_CORRELATED:
        raise AssemblyError(
            f"found {n_held_out} held-out stimuli; expected at least {MIN_CORRELATED} to correlate over. "
            "Mend: predict more stimuli that were not trained on."
        )
    raw, n_constant = [], 0
    for predicted, observed in folds:
        r, varies = pearson(predicted, observed)
        raw.append(r)
        n_constant += int((~varies).sum())
    warn_constant(n_constant, "prediction(s) (or held-out responses)", stacklevel=stacklevel + 1)
    step = -(-n_permutations * raw[0].size // N_KEPT)
    site_null: list[np.ndarray] = []

    def draw(k: int, rng: np.random.Generator, n: int) -> np.ndarray:
        medians = np.empty(n)
        for row, r in enumerate(permuted_correlations(*folds[k], rng, n)):
            medians[row] = np.median(r)
            if row % step == 0:
                site_null.append(r)
        return medians

    null = fold_null(len(folds), n_permutations, seed, draw)
    attrs = score_attrs({**attrs, "n_constant_predictions": n_constant}, len(folds), n_permutations, seed, sources)
    return neuroid_score(
        np.stack(raw),
        null,
        null_site_95=float(np.quantile(np.concatenate(site_null), 0.95)) if site_null else np.nan,
        like=like,
        ceiling=ceiling,
        normalization=normalization,
        attrs=attrs,
        stacklevel=stacklevel + 1,
    )
