"""Pairs from any form in which a caller names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.ids import find_rows, join_rows, show_ids
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.assemblies.pairs import Pairs
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID


def resolve_pairs(
    source: xr.DataArray,
    target: xr.DataArray,
    pairs: Pairs | pd.DataFrame | Mapping[str, npt.ArrayLike] | Sequence[Any] | np.ndarray | int | float | None,
    *,
    seed: int = 0,
    stratify: str | None = None,
) -> Pairs:
    """Turn any form in which pairs are named into `Pairs`.

    Parameters
    ----------
    source, target : xarray.DataArray
        Assemblies with one presentation a stimulus.
    pairs : Pairs, table, int, float, sequence of ids, or None
        Ready-made pairs; a table with ``source_id`` and ``target_id``; a number (``int``) or a fraction (``float`` in
        (0, 1]) of the shared stimuli, drawn with ``seed``; the ids of shared stimuli; or None for all shared stimuli.
    seed : int
        Of the draw of a number or a fraction.
    stratify : str, optional
        Coordinate of the source, e.g. ``category_name``: the drawn pairs then represent every class.

    Returns
    -------
    Pairs

    Raises
    ------
    AssemblyError
        Fewer than two pairs result, no stimulus is shared, or a pair id is unknown.

    Examples
    --------
    >>> from neurobridge.assemblies import make_assembly, resolve_pairs
    >>> def simulated(ids):
    ...     values = [[float(k)] for k in range(len(ids))]
    ...     return make_assembly(values, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": ["n0"]})
    >>> source, target = simulated(["a", "b", "c", "d"]), simulated(["d", "c", "b"])
    >>> resolve_pairs(source, target, None).source_id.tolist()
    ['b', 'c', 'd']
    >>> len(resolve_pairs(source, target, 0.7, seed=0)), len(resolve_pairs(source, target, 3))
    (2, 3)
    >>> resolve_pairs(source, target, ["d", "b"]).source_id.tolist()
    ['d', 'b']
    """
    if pairs is None:
        resolved = Pairs.shared(source, target)
    elif isinstance(pairs, (Pairs, pd.DataFrame, Mapping)):
        resolved = _typed(pairs if isinstance(pairs, Pairs) else Pairs.from_table(pairs), source, target)
    elif isinstance(pairs, (int, float, np.integer)) and not isinstance(pairs, bool):
        size = pairs if isinstance(pairs, float) else int(pairs)
        shared = Pairs.shared(source, target)
        resolved = shared.draw(size, seed=seed, stratify=_labels_of(shared, source, stratify))
    elif isinstance(pairs, (list, tuple, np.ndarray)) and _are_names(pairs):
        resolved = _named(source, target, plain(pairs, name="pairs"))
    else:
        raise AssemblyError(
            f"pairs: found {type(pairs).__name__}; expected Pairs, a table, a number (int) or fraction (float) of the shared "
            "stimuli, a list of their ids, or None. Mend: e.g. pairs=20, or pairs=['s0001', 's0002']."
        )
    if len(resolved) < 2:
        raise AssemblyError(
            f"pairs: found {len(resolved)}; expected at least 2. Mend: pair more stimuli; a map between two spaces is "
            "not determined by one point."
        )
    return resolved


def _are_names(pairs: Sequence[Any] | np.ndarray) -> bool:
    if isinstance(pairs, np.ndarray):
        return pairs.ndim == 1 and pairs.dtype.kind in "UTO"
    return any(isinstance(entry, str) for entry in pairs)


def _typed(pairs: Pairs, source: xr.DataArray, target: xr.DataArray) -> Pairs:
    """Return pairs with ids of the types of the assemblies: a csv file holds text, where these may have numbers."""
    columns = [pairs.source_id, pairs.target_id]
    for side, assembly in enumerate((source, target)):
        given = plain(assembly.coords[STIMULUS_ID].values)
        if given.dtype.kind != columns[side].dtype.kind:
            rows = find_rows(columns[side], given)
            columns[side] = given[rows] if (rows >= 0).all() else columns[side]
    unchanged = columns[0] is pairs.source_id and columns[1] is pairs.target_id
    return pairs if unchanged else Pairs(*columns)


def _named(source: xr.DataArray, target: xr.DataArray, ids: np.ndarray) -> Pairs:
    """Pair the stimuli of these ids, in this order."""
    pairs = Pairs.shared(source, target)
    shared = pairs.source_id
    rows = join_rows(ids, shared).rows
    if (rows < 0).any():
        unknown = ids[rows < 0]
        raise AssemblyError(
            f"pairs: found {len(unknown)} of {len(ids)} ids that are not in both assemblies, e.g. {show_ids(unknown)}; expected "
            f"ids of shared stimuli, e.g. {show_ids(shared)}. Mend: leave them out, or pass a table with source_id and target_id."
        )
    return Pairs(shared[rows], pairs.target_id[rows])


def _labels_of(pairs: Pairs, source: xr.DataArray, label: str | None) -> np.ndarray | None:
    if label is None:
        return None
    if label not in source.coords or source.coords[label].dims != (PRESENTATION,):
        raise AssemblyError(
            f"source: found coordinates {sorted(map(str, source.coords))}; expected {label!r} on presentation to stratify on. "
            f"Mend: source.assign_coords({label}=('presentation', labels))."
        )
    labels = source.coords[label].values[find_rows(pairs.source_id, source.coords[STIMULUS_ID].values)]
    mend = f"source = neurobridge.assemblies.drop_missing(source, {label!r}), or another label"
    return present_labels(labels, name=label, role="source", mend=mend)
