"""Repeated presentations: averages and split halves, by sparse products rather than groupby."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.labels import missing_rows, plain
from neurobridge.assemblies.schema import PRESENTATION, REPETITION, blocks, coords_of, present_ids, validate
from neurobridge.points.conversion import working_dtype


def average_repetitions(assembly: xr.DataArray) -> xr.DataArray:
    """Average all presentations of each stimulus.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``, stimuli presented any number of times.

    Returns
    -------
    xarray.DataArray
        One presentation a stimulus, in order of first appearance. Presentation coordinates that are constant
        within every stimulus are kept, the others are dropped; ``n_repetitions`` counts the averaged presentations.

    Raises
    ------
    AssemblyError
        The assembly does not meet the schema.

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
    """
    validate(assembly)
    codes, _ = _stimulus_codes(assembly)
    return _average(assembly, codes, np.ones(len(codes), dtype=bool))


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
        Averaged halves with the same stimuli in the same order.

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
    validate(assembly)
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
        One presentation a stimulus, as `average_repetitions` gives them.

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
    validate(assembly)
    codes, _ = _stimulus_codes(assembly)
    counts = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    by_stimulus = np.argsort(codes, kind="stable")
    stimulus = np.repeat(np.arange(len(counts)), counts)
    drawn = by_stimulus[starts[stimulus] + np.random.default_rng(seed).integers(0, counts[stimulus])]
    return _average(assembly, codes, np.bincount(drawn, minlength=len(codes)))


def _average(assembly: xr.DataArray, codes: np.ndarray, weight: np.ndarray) -> xr.DataArray:
    """Average the presentations of each stimulus, each counted ``weight`` times, one dask chunk at a time."""
    n_stimuli = int(codes.max()) + 1
    weight = weight.astype(np.intp)
    counts = np.bincount(codes, weights=weight, minlength=n_stimuli).astype(np.intp)
    out_dtype = working_dtype(assembly.dtype) if assembly.dtype.kind == "f" else np.dtype(np.float64)
    total: np.ndarray | None = None
    for rows, values in blocks(assembly):
        counted = np.flatnonzero(weight[rows])
        indicator = sparse.csr_matrix(
            (weight[rows][counted].astype(out_dtype), (codes[rows][counted], counted)), shape=(n_stimuli, len(values))
        )
        part = np.asarray(indicator @ values.reshape(len(values), -1))
        total = part if total is None else total + part
    assert total is not None
    means = total / counts[:, None].astype(out_dtype)

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
    for dim in map(str, assembly.dims[1:]):
        coords.update(coords_of(assembly, dim))
    return xr.DataArray(
        means.reshape((n_stimuli, *assembly.shape[1:])),
        dims=assembly.dims,
        coords=coords,
        attrs=dict(assembly.attrs),
        name=assembly.name,
    )
