"""Correlation of predicted with observed responses, site by site, with its ceiling and its permutation null."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from neurobridge._version import __version__
from neurobridge.assemblies import (
    AssemblyError,
    as_matrix,
    coords_of,
    match_stimuli,
    require_varying_neuroids,
    validate,
)
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID

SPLIT, PERMUTATION = "split", "permutation"


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
    n_permutations : int
        Size of the null: the stimuli of the predictions are shuffled, median over neuroids.
    seed : int

    Returns
    -------
    xarray.Dataset
        ``raw`` (split, neuroid) with one split; ``ceiling`` (neuroid), NaN if unknown; ``normalized`` (neuroid)
        ``= r |r| / ceiling``, NaN where the ceiling is not positive; ``null`` (permutation); ``p_value``
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
    n_permutations: int,
    seed: int,
    attrs: dict[str, Any],
    sources: tuple[xr.DataArray, ...],
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
            stacklevel=3,
        )
    reliability = _reliability(ceiling, like)
    mean = np.mean(raw, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised = np.where(reliability > 0, mean * np.abs(mean) / reliability, np.nan)
    null = fold_null(
        len(folds), n_permutations, seed, lambda k, rng, n: permuted_median(folds[k][0], folds[k][1], rng, n)
    )
    return xr.Dataset(
        {
            "raw": ((SPLIT, NEUROID), np.stack(raw)),
            "ceiling": (NEUROID, reliability),
            "normalized": (NEUROID, normalised),
            "null": (PERMUTATION, null),
            "p_value": p_value(float(np.mean(np.median(raw, axis=1))), null),
        },
        coords=coords_of(like, NEUROID),
        attrs=score_attrs({**attrs, "n_constant_predictions": n_constant}, len(folds), n_permutations, seed, sources),
    )


def fold_null(
    n_folds: int, n_permutations: int, seed: int, draw: Callable[[int, np.random.Generator, int], np.ndarray]
) -> np.ndarray:
    """Draw a permutation null, each permutation from one fold in turn.

    Held-out sets of different folds overlap, so averaging independent shuffles over folds would make the null too narrow. The null
    of single folds is wider than that of their mean: p-values are conservative.
    """
    rng = np.random.default_rng(seed)
    share = [len(range(k, n_permutations, n_folds)) for k in range(n_folds)]
    return np.concatenate([draw(k, rng, n) for k, n in enumerate(share) if n] or [np.empty(0)])


def p_value(observed: float, null: np.ndarray) -> float:
    """One-sided permutation p-value, ``(1 + #{null >= observed}) / (1 + n)`` (Phipson & Smyth 2010)."""
    return float((1 + (null >= observed).sum()) / (1 + null.size))


def score_attrs(
    attrs: dict[str, Any], n_splits: int, n_permutations: int, seed: int, sources: tuple[xr.DataArray, ...]
) -> dict[str, Any]:
    """Attributes of a Score: plain values, so that it can be written as netCDF."""
    digests = {key: value for source in sources for key, value in dict(source.attrs.get("digests", {})).items()}
    return {
        **attrs,
        "n_splits": n_splits,
        "n_permutations": n_permutations,
        "seed": seed,
        "digests": json.dumps(digests, sort_keys=True),
        "neurobridge": __version__,
    }


def _reliability(ceiling: xr.DataArray | None, like: xr.DataArray) -> np.ndarray:
    if ceiling is None:
        return np.full(like.sizes[NEUROID], np.nan)
    if ceiling.dims != (NEUROID,) or NEUROID_ID not in ceiling.coords:
        raise AssemblyError(
            f"ceiling: found dims {ceiling.dims} and coordinates {sorted(map(str, ceiling.coords))}; expected ('neuroid',) with "
            "neuroid_id. Mend: ceiling=internal_consistency(recordings)['ceiling']."
        )
    if not np.array_equal(ceiling[NEUROID_ID].values, like[NEUROID_ID].values):
        raise AssemblyError(
            f"ceiling: found {ceiling.sizes[NEUROID]} neuroids; expected the {like.sizes[NEUROID]} that are scored, in the same "
            "order. Mend: select the same neuroids in the ceiling."
        )
    return np.asarray(ceiling.values, dtype=np.float64)
