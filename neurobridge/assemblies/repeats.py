"""Repeated presentations: averages and split halves, by sparse products rather than groupby."""

from __future__ import annotations

import logging
import time

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.labels import missing_rows, plain
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, REPETITION, blocks, coords_of, present_ids, validate
from neurobridge.points.conversion import working_dtype
from neurobridge.points.options import require_count, require_options

_LOG = logging.getLogger(__name__)


def average_repetitions(assembly: xr.DataArray, *, skipna: bool = True, min_repetitions: int = 1) -> xr.DataArray:
    """Average all presentations of each stimulus, site by site over the values that are there.

    A missing value (NaN) is left out of the average of its site and counted; it costs no other site its value. Stimuli may have
    been presented different numbers of times.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``, stimuli presented any number of times.
    skipna : bool
        Average the values that are there. False makes an average missing where one of its values is.
    min_repetitions : int
        Fewest values of an average: with fewer it is missing. Stimuli without a site that has as many are left out.

    Returns
    -------
    xarray.DataArray
        One presentation a stimulus, in order of first appearance. Presentation coordinates that are constant
        within every stimulus are kept, the others are dropped; ``n_repetitions`` counts the averaged presentations. Where values
        are missing, ``fewest_repetitions`` (presentation) is the smallest number of values of a site, and the attributes
        ``n_missing_values`` and ``n_missing_averages`` count the missing values of the trials and of the result.
        ``n_dropped_stimuli`` counts those with too few repetitions, where there are any.

    Raises
    ------
    AssemblyError
        The assembly does not meet the schema, or no stimulus has enough repetitions.

    Examples
    --------
    >>> from neurobridge.assemblies import average_repetitions, make_assembly
    >>> trials = make_assembly(
    ...     [[1.0, 10.0], [3.0, 30.0], [5.0, 50.0], [7.0, 70.0]],  # simulated: two stimuli, two repetitions, two sites
    ...     presentation={"stimulus_id": ["a", "a", "b", "b"], "repetition": [0, 1, 0, 1]},
    ...     neuroid={"neuroid_id": ["n0", "n1"]},
    ... )
    >>> average_repetitions(trials).values.tolist()
    [[2.0, 20.0], [6.0, 60.0]]
    >>> average_repetitions(trials.where(trials > 1)).values.tolist()  # the first value is missing
    [[3.0, 20.0], [6.0, 60.0]]
    """
    validate(assembly, allow_missing=True)
    require_options(skipna=skipna, error=AssemblyError)
    require_count(min_repetitions, name="min_repetitions", error=AssemblyError)
    codes, _ = _stimulus_codes(assembly)
    started = time.perf_counter()
    averaged = _average(
        assembly, codes, np.ones(len(codes), dtype=bool), skipna=skipna, min_repetitions=int(min_repetitions)
    )
    facts = [averaged.attrs.get(name, 0) for name in ("n_missing_values", "n_dropped_stimuli")]
    _LOG.info(
        "averaged %d presentations of %d neuroids to %d stimuli: %d missing values, %d stimuli left out, %.2f s",
        len(codes), assembly.sizes[NEUROID], averaged.sizes[PRESENTATION], *facts, time.perf_counter() - started,
    )  # fmt: skip
    return averaged


def split_halves(assembly: xr.DataArray, *, seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Split the repetitions of every stimulus at random into two halves and average each.

    Stimuli are stratified: each is in both halves, with equal counts (one apart where the number of
    repetitions is odd).

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``, every stimulus presented at least twice.
    seed : int
        Seed of the random assignment.

    Returns
    -------
    first, second : xarray.DataArray
        Averaged halves with the same stimuli in the same order. Missing values (NaN) are left out of the averages, site by site;
        an average is missing where a site has no value in that half.

    Raises
    ------
    AssemblyError
        A stimulus has fewer than two presentations.

    Examples
    --------
    >>> from neurobridge.assemblies import make_assembly, split_halves
    >>> trials = make_assembly(
    ...     [[1.0, 10.0], [3.0, 30.0], [5.0, 50.0], [7.0, 70.0]],  # simulated: two stimuli, two repetitions, two sites
    ...     presentation={"stimulus_id": ["a", "a", "b", "b"], "repetition": [0, 1, 0, 1]},
    ...     neuroid={"neuroid_id": ["n0", "n1"]},
    ... )
    >>> first, second = split_halves(trials, seed=0)
    >>> ((first + second) / 2).values.tolist()
    [[2.0, 20.0], [6.0, 60.0]]
    """
    validate(assembly, allow_missing=True)
    codes, ids = _stimulus_codes(assembly)
    counts = np.bincount(codes)
    if counts.min() < 2:
        unrepeated = ids[int(counts.argmin())]
        raise AssemblyError(
            f"found {int((counts < 2).sum())} stimuli with one presentation, e.g. {str(unrepeated)!r}; expected at least two "
            "repetitions of each. Mend: select the repeated stimuli, or use a ceiling that needs no repetitions."
        )
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(codes)), codes))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rank = np.empty(len(codes), dtype=np.intp)
    rank[order] = np.arange(len(codes)) - np.repeat(starts, counts)
    # Which half gets the odd one out is drawn per stimulus, so neither half is favoured.
    flip = rng.integers(0, 2, size=len(counts))
    first = (rank + flip[codes]) % 2 == 0
    return _average(assembly, codes, first), _average(assembly, codes, ~first)


def _stimulus_codes(assembly: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    codes, ids = pd.factorize(present_ids(assembly))
    return codes, np.asarray(ids)


def bootstrap_repetitions(assembly: xr.DataArray, *, seed: int) -> xr.DataArray:
    """Draw the repetitions of every stimulus with replacement, as many as there are, and average them.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``, one presentation a trial.
    seed : int
        Seed of the draw.

    Returns
    -------
    xarray.DataArray
        One presentation a stimulus, as `average_repetitions` gives them: missing values (NaN) are left out site by site.

    Raises
    ------
    AssemblyError
        The assembly does not meet the schema.

    Examples
    --------
    >>> from neurobridge.assemblies import bootstrap_repetitions, make_assembly
    >>> trials = make_assembly(
    ...     [[1.0, 10.0], [3.0, 30.0], [5.0, 50.0], [7.0, 70.0]],  # simulated: two stimuli, two repetitions, two sites
    ...     presentation={"stimulus_id": ["a", "a", "b", "b"], "repetition": [0, 1, 0, 1]},
    ...     neuroid={"neuroid_id": ["n0", "n1"]},
    ... )
    >>> bootstrap_repetitions(trials, seed=0)["n_repetitions"].values.tolist()
    [2, 2]
    """
    validate(assembly, allow_missing=True)
    codes, _ = _stimulus_codes(assembly)
    counts = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    by_stimulus = np.argsort(codes, kind="stable")
    stimulus = np.repeat(np.arange(len(counts)), counts)
    drawn = by_stimulus[starts[stimulus] + np.random.default_rng(seed).integers(0, counts[stimulus])]
    return _average(assembly, codes, np.bincount(drawn, minlength=len(codes)))


def _average(
    assembly: xr.DataArray, codes: np.ndarray, weight: np.ndarray, *, skipna: bool = True, min_repetitions: int = 1
) -> xr.DataArray:
    """Average the presentations of each stimulus, each counted ``weight`` times, one dask chunk at a time."""
    n_stimuli = int(codes.max()) + 1
    weight = weight.astype(np.intp)
    counts = np.bincount(codes, weights=weight, minlength=n_stimuli).astype(np.intp)
    out_dtype = working_dtype(assembly.dtype) if assembly.dtype.kind == "f" else np.dtype(np.float64)
    total: np.ndarray | None = None
    n_missing: np.ndarray | int = 0
    for rows, values in blocks(assembly, allow_missing=True):
        counted = np.flatnonzero(weight[rows])
        indicator = sparse.csr_matrix(
            (weight[rows][counted].astype(out_dtype), (codes[rows][counted], counted)), shape=(n_stimuli, len(values))
        )
        flat = values.reshape(len(values), -1)
        absent = np.isnan(flat) if flat.dtype.kind == "f" else np.zeros((1, 1), dtype=bool)
        if absent.any():
            flat = np.where(absent, 0, flat)
            n_missing = n_missing + np.asarray(indicator @ absent.astype(np.float64))
        part = np.asarray(indicator @ flat)
        total = part if total is None else total + part
    assert total is not None
    has_missing = isinstance(n_missing, np.ndarray)
    n_values = np.rint(counts[:, None] - n_missing)
    enough = (n_values >= min_repetitions) & (skipna | (np.asarray(n_missing) == 0))
    means = total / np.where(enough, n_values, np.nan).astype(out_dtype)
    kept = enough.any(axis=1) if min_repetitions > 1 else np.ones(n_stimuli, dtype=bool)
    if not kept.any():
        raise AssemblyError(
            f"average_repetitions: found no stimulus of {n_stimuli} with {min_repetitions} values of a site, the most are "
            f"{int(n_values.max())}; expected some. Mend: min_repetitions={max(1, int(n_values.max()))}."
        )
    facts: dict[str, int] = {}
    if has_missing:
        facts = {"n_missing_values": int(np.rint(np.sum(n_missing))), "n_missing_averages": int((~enough[kept]).sum())}
    if not kept.all():
        facts["n_dropped_stimuli"] = int((~kept).sum())

    _, first_rows = np.unique(codes, return_index=True)
    coords = {}
    for name, (_, labels) in coords_of(assembly, PRESENTATION).items():
        column = plain(labels, name=name)
        head = column[first_rows]
        same = head[codes] == column
        absent = missing_rows(column)
        same |= absent & absent[first_rows][codes]
        if name != REPETITION and same.all():
            coords[name] = (PRESENTATION, head)
    coords["n_repetitions"] = (PRESENTATION, counts)
    if has_missing:
        coords["fewest_repetitions"] = (PRESENTATION, n_values.min(axis=1).astype(np.intp))
    for dim in map(str, assembly.dims[1:]):
        coords.update(coords_of(assembly, dim))
    averaged = xr.DataArray(
        means.reshape((n_stimuli, *assembly.shape[1:])),
        dims=assembly.dims,
        coords=coords,
        attrs={**assembly.attrs, **facts},
        name=assembly.name,
    )
    return averaged if kept.all() else averaged.isel({PRESENTATION: np.flatnonzero(kept)})
