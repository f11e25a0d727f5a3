"""Variance partitioning: what each of several spaces predicts alone, and what they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, coords_of
from neurobridge.assemblies.schema import NEUROID
from neurobridge.evaluate.banded import fit_banded
from neurobridge.evaluate.comparison.spaces import checked_names, drawn_counts, in_order_of, interval, shared_target
from neurobridge.evaluate.folds import GivenSplits, Splits
from neurobridge.evaluate.score.schema import SPLIT, make_score, reliability_of, score_attrs, warn_low_ceilings
from neurobridge.evaluate.splits import resolve_splits
from neurobridge.points.options import require_count, require_options, require_share
from neurobridge.points.progress import progress_bar

PART, SUBSET = "part", "subset"
#: Text between the names of spaces that share a part.
AND = " + "
_MOST_SPACES = 4


def partition_variance(
    spaces: Mapping[str, xr.DataArray],
    recordings: xr.DataArray,
    *,
    splits: GivenSplits = None,
    ceiling: xr.DataArray | None = None,
    n_iter: int = 20,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    progress: bool = False,
) -> xr.Dataset:
    r"""Divide the variance that several spaces predict into unique and shared parts, site by site, on held-out stimuli.

    1. Banded ridge (`fit_banded`, one band a space; extra ``himalaya``) is fitted on the training stimuli of every fold, for every
       subset S of the spaces; weights and penalties are chosen inside the training stimuli.
    2. ``R2(S) = 1 - sum_i (y_i - yhat_i)^2 / sum_i (y_i - ybar)^2`` over all held-out stimuli i, ybar the mean of the fold's
       training stimuli.
    3. The part of exactly the spaces in S, among all spaces U, is (commonality analysis, Newton & Spurrell 1967)
       ``sum over T in S of (-1)^(|T| + 1) R2(T + (U - S))``: for two spaces A and B, ``R2(AB) - R2(B)`` is unique to A and
       ``R2(A) + R2(B) - R2(AB)`` is shared. The parts add up to R2(U).

    Parts are differences of held-out values: none is clipped, and one that is truly zero is slightly negative as often as positive.

    Parameters
    ----------
    spaces : mapping of str to xarray.DataArray
        Two to four assemblies of predictors, one presentation a stimulus. Names must not contain " + ".
    recordings : xarray.DataArray
        Averaged over repetitions; joined with all spaces on ``stimulus_id``.
    splits : Splits, str or sequence of (train, test), optional
        Rows of the shared stimuli in the order of the recordings. Default: "kfold,n_splits=5".
    ceiling : xarray.DataArray, optional
        Reliability of each site (``internal_consistency(trials)["ceiling"]``): the largest R2 that a perfect model can reach.
    n_iter : int
        Weights of the bands that are tried: see `fit_banded`.
    n_bootstrap : int
        Draws of the stimuli, with replacement, for the intervals; the fits are not repeated. 0 for none.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int
        Of the weights and the draws.
    progress : bool
        Show a progress bar over the fits.

    Returns
    -------
    xarray.Dataset
        Score with the leading dim ``part`` ("gabor", "deep", "gabor + deep"): ``raw`` (part, split, neuroid), ``ceiling``,
        ``normalized = value / ceiling``; and over all held-out stimuli together ``value``, ``low`` and ``high`` (part, neuroid),
        ``median``, ``median_low`` and ``median_high`` (part) over sites, ``normalized_median``, ``normalized_low`` and
        ``normalized_high`` (part) of the values in units of the ceilings, over the sites with a positive one, ``r2``
        (subset, neuroid) and ``r2_median`` (subset). No null.

    Raises
    ------
    AssemblyError
        Bad assemblies or splits, fewer than two or more than four spaces, a name with " + ".
    ModuleNotFoundError
        The extra ``himalaya`` is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> rng = np.random.default_rng(0)  # simulated: A sees the first two latents, B the last two; sites see the first and last
    >>> latents, mixing = rng.normal(size=(200, 3)), rng.normal(size=(2, 8))
    >>> def labelled(values):
    ...     columns = {"neuroid_id": range(values.shape[1])}
    ...     return nb.make_assembly(values, presentation={"stimulus_id": range(200)}, neuroid=columns)
    >>> brain = labelled(latents[:, [0, 2]] @ mixing + 0.5 * rng.normal(size=(200, 8)))
    >>> parts = nb.partition_variance({"A": labelled(latents[:, :2]), "B": labelled(latents[:, 1:])}, brain, n_iter=3)
    >>> parts["part"].values.tolist()
    ['A', 'B', 'A + B']
    >>> bool(parts["median_low"].sel(part="A") > 0.1), bool(abs(parts["median"].sel(part="A + B")) < 0.05)
    (True, True)
    """
    names = checked_names(spaces, at_least=2, at_most=_MOST_SPACES)
    if any(AND in name for name in names):
        raise AssemblyError(
            f"partition_variance: found the names {names}; expected none with {AND!r}, which joins them. Mend: other names."
        )
    require_share(confidence, name="confidence", error=AssemblyError)
    require_options(n_bootstrap=n_bootstrap, seed=seed, progress=progress, error=AssemblyError)
    require_count(n_iter, name="n_iter", error=AssemblyError)
    target = shared_target(spaces, recordings)
    Y = as_matrix(target, role="recordings")
    X = {name: as_matrix(in_order_of(spaces[name], target, name), role=name) for name in names}
    folds = resolve_splits(target, "kfold,n_splits=5" if splits is None else splits, min_held_out=2)
    subsets = list(_subsets(names))
    explained = np.empty((len(subsets), len(folds), Y.shape[1]))
    # Squared errors of every stimulus, and its squared distances from the training mean, summed over the folds that hold it out.
    errors, spread = np.zeros((len(subsets), *Y.shape)), np.zeros(Y.shape)
    fits = [(fold, k) for fold in range(len(folds)) for k in range(len(subsets))]
    for fold, k in progress_bar(fits, desc="partition", progress=progress, leave=False):
        train, test = folds[fold]
        squares = np.square(Y[test] - Y[train].mean(axis=0))
        values = np.hstack([X[name] for name in subsets[k]])
        bands = np.repeat(subsets[k], [X[name].shape[1] for name in subsets[k]])
        predicted = fit_banded(values[train], Y[train], bands=bands, n_iter=n_iter, seed=seed)(values[test])
        residual = np.square(Y[test] - predicted)
        errors[k, test] += residual
        explained[k, fold] = _r2(residual.sum(axis=0), squares.sum(axis=0))
        if k == 0:
            spread[test] += squares
    mixing = _parts_of_subsets(names, subsets)
    counts = drawn_counts(len(Y), n_bootstrap, seed)
    r2 = np.stack([_r2(error.sum(axis=0), spread.sum(axis=0)) for error in errors])
    of_draws = counts @ spread
    drawn = np.tensordot(mixing, np.stack([_r2(counts @ error, of_draws) for error in errors]), axes=1)
    reliability = reliability_of(ceiling, target)
    warn_low_ceilings(reliability, stacklevel=2)
    return _score(
        names,
        subsets,
        mixing,
        by_fold=explained,
        r2=r2,
        drawn=drawn,
        reliability=reliability,
        target=target,
        folds=folds,
        confidence=confidence,
        attrs=score_attrs(
            {
                "metric": "variance partition, banded ridge, R2",
                "splits": folds.description,
                "n_stimuli": len(Y),
                "spaces": names,
                "n_iter": n_iter,
                "n_bootstrap": n_bootstrap,
                "confidence": confidence,
            },
            len(folds),
            0,
            seed,
            (*(spaces[name] for name in names), recordings),
        ),
    )


def _subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    """Yield every subset of the names that is not empty, the smaller first."""
    for size in range(1, len(names) + 1):
        yield from combinations(names, size)


def _parts_of_subsets(names: list[str], subsets: list[tuple[str, ...]]) -> np.ndarray:
    """Return the matrix (n_parts, n_subsets) that makes parts of the R2 of the subsets; parts stand in the order of subsets."""
    column = {frozenset(subset): k for k, subset in enumerate(subsets)}
    mixing = np.zeros((len(subsets), len(subsets)))
    for row, part in enumerate(subsets):
        others = frozenset(names) - frozenset(part)
        for inner in (frozenset[str](), *map(frozenset, _subsets(list(part)))):
            # Of no space at all nothing is predicted.
            if inner | others:
                mixing[row, column[inner | others]] += (-1) ** (len(inner) + 1)
    return mixing


def _r2(errors: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return ``1 - errors / spread``; NaN where nothing varies."""
    return np.asarray(1 - np.divide(errors, spread, out=np.full(errors.shape, np.nan), where=spread > 0))


def _score(
    names: list[str],
    subsets: list[tuple[str, ...]],
    mixing: np.ndarray,
    *,
    by_fold: np.ndarray,
    r2: np.ndarray,
    drawn: np.ndarray,
    reliability: np.ndarray,
    target: xr.DataArray,
    folds: Splits,
    confidence: float,
    attrs: dict[str, Any],
) -> xr.Dataset:
    """Make a Score of the R2 of subsets by fold (subset, split, neuroid) and over all stimuli (subset, neuroid)."""
    value = mixing @ r2
    low, high = interval(drawn, confidence, axis=1)
    medians = interval(np.median(drawn, axis=2), confidence, axis=1)
    reliable = reliability > 0
    normalised = {"normalized_median": np.full(len(value), np.nan)}
    normalised |= {f"normalized_{side}": np.full(len(value), np.nan) for side in ("low", "high")}
    if reliable.any():
        units = reliability[reliable]
        bounds = interval(np.median(drawn[:, :, reliable] / units, axis=2), confidence, axis=1)
        normalised = {
            "normalized_median": np.median(value[:, reliable] / units, axis=1),
            "normalized_low": bounds[0],
            "normalized_high": bounds[1],
        }
    labels = [AND.join(subset) for subset in subsets]
    return make_score(
        np.tensordot(mixing, by_fold, axes=1),
        (PART, SPLIT, NEUROID),
        ceiling=reliability,
        normalized=np.where(reliable, value / np.where(reliable, reliability, 1), np.nan),
        normalization="ratio",
        extra={
            "value": ((PART, NEUROID), value),
            "low": ((PART, NEUROID), low),
            "high": ((PART, NEUROID), high),
            "median": (PART, np.median(value, axis=1)),
            "median_low": (PART, medians[0]),
            "median_high": (PART, medians[1]),
            **{name: (PART, values) for name, values in normalised.items()},
            "r2": ((SUBSET, NEUROID), r2),
            "r2_median": (SUBSET, np.median(r2, axis=1)),
        },
        coords={**coords_of(target, NEUROID), PART: labels, SUBSET: labels},
        attrs={**attrs, "n_sites": target.sizes[NEUROID], "n_held_out": int(sum(len(test) for _, test in folds))},
    )
