"""Correlation of predicted with observed responses, site by site, with its ceiling and its permutation null."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, match_stimuli, require_varying_neuroids, validate
from neurobridge.assemblies.schema import NEUROID_ID
from neurobridge.evaluate.scores import PERMUTATION, SPLIT, fold_null, neuroid_score, p_value, score_attrs

__all__ = [
    "PERMUTATION",
    "SPLIT",
    "correlate",
    "fold_null",
    "p_value",
    "pearson",
    "permuted_median",
    "score_attrs",
    "score_folds",
]


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
    (U, left), (V, right) = _unit_columns(X), _unit_columns(Y)
    return np.clip((U * V).sum(axis=0), -1, 1), left & right


def _unit_columns(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centred = X - X.mean(axis=0)
    norm = np.linalg.norm(centred, axis=0)
    # What rounding alone leaves of a constant column.
    floor = 1e-13 * np.sqrt(len(X)) * np.abs(X).max(axis=0)
    varies = norm > floor
    return centred / np.where(varies, norm, np.inf), varies


def permuted_median(predicted: np.ndarray, observed: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """Median correlation over columns when the stimuli of the predictions are shuffled.

    Parameters
    ----------
    predicted, observed : arrays of shape (n_stimuli, n_columns)
    rng : numpy.random.Generator
    n : int
        Number of permutations.

    Returns
    -------
    array of shape (n,)
    """
    U, V = _unit_columns(predicted)[0], _unit_columns(observed)[0]
    null = np.empty(n)
    for k in range(n):
        null[k] = np.median(np.einsum("ij,ij->j", U[rng.permutation(len(U))], V))
    return null


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
        A key of `NORMALIZATIONS`: "explained_variance" or "squared_ratio".
    n_permutations : int
        Size of the null: the stimuli of the predictions are shuffled, median over neuroids.
    seed : int

    Returns
    -------
    xarray.Dataset
        ``raw`` (split, neuroid) with one split; ``ceiling`` (neuroid), NaN if unknown; ``normalized`` (neuroid)
        ``= r |r| / ceiling``, NaN where the ceiling is not positive, with a warning; ``null`` (permutation); ``p_value``
        ``= (1 + #{null >= median r}) / (1 + n_permutations)``.

        A neuroid whose *prediction* is constant gets r = 0, with a warning.

    Raises
    ------
    AssemblyError
        Different neuroids, no shared stimulus, fewer than three stimuli, an observed neuroid that is constant, NaN.
    """
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
    if min(len(predicted) for predicted, _ in folds) < 3:
        raise AssemblyError(
            f"found {min(len(p) for p, _ in folds)} held-out stimuli; expected at least 3 to correlate over. Mend: hold out more."
        )
    raw, n_constant = [], 0
    for predicted, observed in folds:
        r, varies = pearson(predicted, observed)
        raw.append(r)
        n_constant += int((~varies).sum())
    if n_constant:
        warnings.warn(
            f"found {n_constant} constant prediction(s) (or held-out responses); they are scored r = 0. "
            "Check the fit if this is unexpected.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    null = fold_null(
        len(folds), n_permutations, seed, lambda k, rng, n: permuted_median(folds[k][0], folds[k][1], rng, n)
    )
    attrs = score_attrs({**attrs, "n_constant_predictions": n_constant}, len(folds), n_permutations, seed, sources)
    return neuroid_score(
        np.stack(raw),
        null,
        like=like,
        ceiling=ceiling,
        normalization=normalization,
        attrs=attrs,
        stacklevel=stacklevel + 1,
    )
