"""Correlation of predicted with observed responses, site by site, with its ceiling and its permutation null."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, match_stimuli, require_varying_neuroids, validate
from neurobridge.assemblies.missing import sites_by_missing
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID
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
        A row that misses a value (NaN) of a column on either side is left out of that column.

    Returns
    -------
    r : array of shape (n_columns,)
        Pearson's r; 0 where a column does not vary.
    varies : bool array of shape (n_columns,)
        Whether both columns vary, up to rounding.
    """
    r, varies = np.empty(X.shape[1]), np.empty(X.shape[1], dtype=bool)
    for columns, _, (U, left), (V, right) in _unit_parts(X, Y):
        r[columns], varies[columns] = np.clip((U * V).sum(axis=0), -1, 1), left & right
    return r, varies


_Unit = tuple[np.ndarray, np.ndarray]


def _unit_parts(X: np.ndarray, Y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, _Unit, _Unit]]:
    """Yield the columns that miss the same rows, the rows that they have, and both sides of them in `unit_columns`."""
    absent = np.isnan(X) | np.isnan(Y)
    for columns, rows in sites_by_missing(absent):
        whole = len(columns) == X.shape[1] and len(rows) == len(X)
        parts = (X, Y) if whole else (X[np.ix_(rows, columns)], Y[np.ix_(rows, columns)])
        yield columns, rows, unit_columns(parts[0]), unit_columns(parts[1])


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
    predicted: np.ndarray, observed: np.ndarray, rng: np.random.Generator, n: int, groups: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Correlate columns ``n`` times, with the stimuli of the predictions shuffled anew.

    Parameters
    ----------
    predicted, observed : arrays of shape (n_stimuli, n_columns)
        Missing values are left out as in `pearson`; the stimuli of a column are shuffled among those that it has.
    rng : numpy.random.Generator
    n : int
        Number of permutations.
    groups : array of int of shape (n_stimuli,), optional
        Rows of the same number (trials of a stimulus) have the same prediction and exchange it as a whole.

    Yields
    ------
    array of shape (n_columns,)
    """
    if groups is not None:
        yield from _permuted_by_group(predicted, observed, rng, n, groups)
        return
    parts = []
    for columns, rows, (U, _), (V, _) in _unit_parts(predicted, observed):
        place = np.full(len(predicted), -1)
        place[rows] = np.arange(len(rows))
        parts.append((columns, place, U, V))
    for _ in range(n):
        shuffled, r = rng.permutation(len(predicted)), np.empty(predicted.shape[1])
        for columns, place, U, V in parts:
            order = place[shuffled]
            r[columns] = np.einsum("ij,ij->j", U[order[order >= 0]], V)
        yield r


def _permuted_by_group(
    predicted: np.ndarray, observed: np.ndarray, rng: np.random.Generator, n: int, groups: np.ndarray
) -> Iterator[np.ndarray]:
    parts = []
    for columns, rows, (U, _), (V, _) in _unit_parts(predicted, observed):
        numbers, first, codes = np.unique(groups[rows], return_index=True, return_inverse=True)
        parts.append((columns, numbers, U[first], codes.ravel(), V))
    for _ in range(n):
        keys, r = rng.random(int(groups.max()) + 1), np.empty(predicted.shape[1])
        for columns, numbers, of_group, codes, V in parts:
            U = of_group[np.argsort(keys[numbers])[codes]]
            # Groups of different sizes change the mean and the length of the shuffled predictions.
            length = np.sqrt(np.maximum(np.square(U).sum(axis=0) - len(U) * U.mean(axis=0) ** 2, 0))
            r[columns] = np.einsum("ij,ij->j", U, V) / np.where(length > 1e-12, length, np.inf)
        yield r


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
        these stimuli. Missing values (NaN) of either side are left out site by site.
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

        A neuroid whose *prediction* is constant gets r = 0, with a warning. Where values are missing, ``n_stimuli_of_site``
        (neuroid) counts the stimuli that each site has, and the attribute ``n_missing_values`` the others.

    Raises
    ------
    AssemblyError
        Different neuroids, no shared stimulus, fewer than three stimuli (of any neuroid), an observed neuroid that is constant,
        infinite values.

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
        validate(assembly, role=role, allow_missing=True)
    matched = match_stimuli(predicted, observed)
    require_varying_neuroids(matched.target, role="observed")
    ids, expected = predicted[NEUROID_ID].values, observed[NEUROID_ID].values
    if not np.array_equal(ids, expected):
        raise AssemblyError(
            f"predicted: found {len(ids)} neuroids (first {str(ids[0])!r}); expected the {len(expected)} of observed (first "
            f"{str(expected[0])!r}) in the same order. Mend: select the same neuroids on both sides."
        )
    fold = (
        as_matrix(matched.source, role="predicted", allow_missing=True),
        as_matrix(matched.target, role="observed", allow_missing=True),
    )
    score = score_folds(
        [fold],
        like=observed,
        ceiling=ceiling,
        normalization=normalization,
        n_permutations=n_permutations,
        seed=seed,
        attrs={"metric": "pearson", "splits": "one, given", "n_stimuli": len(fold[0])},
        sources=(predicted, observed),
    )
    return count_missing(score, np.isnan(fold[0]) | np.isnan(fold[1]))


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
    groups: Sequence[np.ndarray] | None = None,
    stacklevel: int = 2,
) -> xr.Dataset:
    """Make a Score from the predicted and observed responses of every fold, arrays (n_stimuli, n_neuroids); NaN is missing.

    ``groups`` has, for every fold, the numbers of the rows that the null exchanges as wholes: trials of a stimulus.
    """
    n_held_out = min(len(predicted) for predicted, _ in folds)
    if n_held_out < MIN_CORRELATED:
        raise AssemblyError(
            f"found {n_held_out} held-out stimuli; expected at least {MIN_CORRELATED} to correlate over. "
            "Mend: predict more stimuli that were not trained on."
        )
    known = np.stack([(~np.isnan(predicted) & ~np.isnan(observed)).sum(axis=0) for predicted, observed in folds])
    refuse_too_few(known.min(axis=0), like, MIN_CORRELATED, "held-out stimuli of a split")
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
        for row, r in enumerate(permuted_correlations(*folds[k], rng, n, groups[k] if groups else None)):
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


def refuse_too_few(known: np.ndarray, like: xr.DataArray, least: int, what: str) -> None:
    """Refuse sites of which too few values are known.

    Parameters
    ----------
    known : int array of shape (n_neuroids,)
    like : xarray.DataArray
        Its neuroids.
    least : int
    what : str
        Of which the values are, in the message.

    Raises
    ------
    AssemblyError
        Counts the sites, names one and offers the call that leaves out those that miss much.
    """
    few = known < least
    if few.any():
        raise AssemblyError(
            f"found {int(few.sum())} of {few.size} neuroid(s) with fewer than {least} values of the {what}, e.g. "
            f"{str(like[NEUROID_ID].values[few][0])!r} with {int(known[few][0])}; expected at least {least}. "
            "Mend: neurobridge.assemblies.drop_incomplete(recordings, presentations=False) leaves out neuroids that miss much."
        )


def count_missing(score: xr.Dataset, absent: np.ndarray) -> xr.Dataset:
    """Return a Score by site with the counts of missing values, or the same one where nothing is missing.

    Parameters
    ----------
    score : xarray.Dataset
    absent : bool array of shape (n_stimuli, n_neuroids)
    """
    if not absent.any():
        return score
    counted = score.assign(n_stimuli_of_site=(NEUROID, (~absent).sum(axis=0)))
    return counted.assign_attrs(n_missing_values=int(absent.sum()))
