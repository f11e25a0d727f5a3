"""Joining of the sites of several recordings of the same stimuli into one population."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.forms import id_texts
from neurobridge.assemblies.joining.rows import JoinedRows, join_presentations, shared_columns
from neurobridge.assemblies.labels import plain, present_labels
from neurobridge.assemblies.schema import (
    NEUROID,
    NEUROID_ID,
    PRESENTATION,
    REPETITION,
    STIMULUS_ID,
    TIME_BIN,
    blocks,
    coords_of,
    make_assembly,
    validate,
)
from neurobridge.points.conversion import working_dtype
from neurobridge.points.memory import check_memory
from neurobridge.points.options import require_options

_LOG = logging.getLogger(__name__)
_RESERVED = (PRESENTATION, NEUROID, TIME_BIN, STIMULUS_ID, NEUROID_ID, REPETITION)


def join_sites(
    recordings: Mapping[str, xr.DataArray] | Sequence[xr.DataArray],
    *,
    by: str = "session",
    all_stimuli: bool = False,
) -> xr.DataArray:
    """Join recordings of several sessions, animals or days of the same stimuli into one population.

    1. Stimuli are matched by their ids, by the rule of `match_stimuli`; those that not all recordings have are left out.
    2. Of single trials, the k-th trial of a stimulus in one session stands beside the k-th of the others. Where a session has
       fewer trials than another, its values are missing (NaN) in the last trials of that stimulus.
    3. Sites get the coordinate ``by``. Where an id of a site occurs in several recordings, all ids are qualified by it,
       "day1-site-07".

    Sites of different sessions were not recorded together: the joined trials hold no noise that they share
    (`neurobridge.decoding.pseudo_population` joins trials at random for the same reason).

    Parameters
    ----------
    recordings : mapping of str to xarray.DataArray, or sequence of xarray.DataArray
        Two or more assemblies, all of averages or all of single trials, with the same time bins. The keys of a mapping are the
        values of ``by`` for recordings without that coordinate.
    by : str
        Coordinate of the sites that tells the recordings apart: "session", "animal", or another name.
    all_stimuli : bool
        Keep the stimuli that any recording has, with NaN for the sites of the others.

    Returns
    -------
    xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``, in the order of the first recording. Columns of the presentations are kept
        where all recordings have and agree on them; columns of the sites are kept, empty where a recording lacks them. The
        attributes: ``joined`` (names), ``n_left_out_stimuli`` (for each recording), ``left_out_columns``, ``qualified_ids`` (1 or
        0), and ``n_missing_values`` where values are missing.

    Raises
    ------
    AssemblyError
        There are fewer than two recordings, one does not meet the schema or does not name its session, no stimulus is in all,
        averages stand beside trials, time bins differ, or two recordings of one session have sites of one id.
    MemoryError
        The joined array would not fit into memory.

    Warns
    -----
    UserWarning
        Ids were joined without the file extension of one side.

    Examples
    --------
    >>> from neurobridge.assemblies import join_sites, make_assembly
    >>> def simulated(ids, n_sites):
    ...     values = [[float(k)] * n_sites for k in range(len(ids))]
    ...     sites = [f"site-{k}" for k in range(n_sites)]
    ...     return make_assembly(values, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": sites})
    >>> both = join_sites({"day1": simulated(["a", "b", "c"], 1), "day2": simulated(["c", "a"], 2)})
    >>> both["stimulus_id"].values.tolist(), both["neuroid_id"].values.tolist()
    (['a', 'c'], ['day1-site-0', 'day2-site-0', 'day2-site-1'])
    >>> both.values.tolist()
    [[0.0, 1.0, 1.0], [2.0, 0.0, 0.0]]
    >>> both["session"].values.tolist(), both.attrs["n_left_out_stimuli"]
    (['day1', 'day2', 'day2'], [1, 0])
    """
    require_options(all_stimuli=all_stimuli, error=AssemblyError)
    if not isinstance(by, str) or not by or by in _RESERVED:
        raise AssemblyError(
            f"join_sites: found by={by!r:.60}; expected the name of a coordinate of the sites. Mend: by='session' (--by session)."
        )
    parts = _parts(recordings)
    labels = {
        name: _labels(part, by, name if isinstance(recordings, Mapping) else None, name) for name, part in parts.items()
    }
    time_bin = _time_bins(parts)
    joined = join_presentations(parts, all_stimuli=all_stimuli)
    neuroid, qualified = _sites(parts, labels, by)
    columns, left_out = shared_columns(parts, joined, [*neuroid, *(time_bin or ())])
    left_out = [name for name in left_out if name != by]
    values = _values(parts, joined)
    n_missing = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
    presentation = {STIMULUS_ID: joined.ids, **columns}
    if joined.repetition is not None:
        presentation[REPETITION] = joined.repetition
    facts: dict[str, Any] = {
        "joined": list(dict.fromkeys(np.concatenate(list(labels.values())).tolist())),
        "n_left_out_stimuli": joined.n_left_out,
        "left_out_columns": left_out,
        "qualified_ids": int(qualified),
        **({"n_missing_values": n_missing} if n_missing else {}),
    }
    _LOG.info(
        "joined %d recordings to %d presentations of %d sites; left out %s of their stimuli; %d values are missing",
        len(parts), *values.shape[:2], joined.n_left_out, n_missing,
    )  # fmt: skip
    return make_assembly(
        values, presentation=presentation, neuroid=neuroid, time_bin=time_bin, attrs={**_shared_attrs(parts), **facts}
    )


def _parts(recordings: Any) -> dict[str, xr.DataArray]:
    """Return the recordings by the names that messages give them."""
    if isinstance(recordings, Mapping):
        parts = {str(name): part for name, part in recordings.items()}
    elif isinstance(recordings, Sequence) and not isinstance(recordings, str):
        parts = {f"recordings[{k}]": part for k, part in enumerate(recordings)}
    else:
        raise AssemblyError(
            f"join_sites: found {type(recordings).__name__}; expected several recordings. "
            "Mend: neurobridge.assemblies.join_sites({'day1': first, 'day2': second})."
        )
    if len(parts) < 2:
        raise AssemblyError(
            f"join_sites: found {len(parts)} recordings; expected two or more. "
            "Mend: neurobridge.assemblies.join_sites({'day1': first, 'day2': second})."
        )
    for name, part in parts.items():
        validate(part, role=name, allow_missing=True)
    return parts


def _labels(part: xr.DataArray, by: str, given: str | None, role: str) -> np.ndarray:
    """Return the session of each site, as text: its coordinate, that of all presentations, or the name that was given."""
    column = part.coords.get(by)
    if column is not None and column.dims == (NEUROID,):
        return id_texts(present_labels(column.values, name=by, role=role), name=by)
    if column is not None and column.dims in ((), (PRESENTATION,)):
        different = np.unique(id_texts(np.atleast_1d(plain(column.values, name=by))))
        if len(different) == 1 and different[0]:
            return np.repeat(different, part.sizes[NEUROID])
    if given is None:
        raise AssemblyError(
            f"{role}: found no {by!r} of its sites; expected one. Mend: neurobridge.assemblies.join_sites({{'day1': first, 'day2': "
            f"second}}), whose keys are the values of {by!r}."
        )
    return np.repeat(np.array([given]), part.sizes[NEUROID])


def _time_bins(parts: Mapping[str, xr.DataArray]) -> dict[str, np.ndarray] | None:
    (first, *others) = parts
    bins = {name: {key: v for key, (_, v) in coords_of(part, TIME_BIN).items()} for name, part in parts.items()}
    for name in others:
        same = parts[name].dims == parts[first].dims and parts[name].shape[2:] == parts[first].shape[2:]
        if not same or any(
            key in bins[first] and not np.array_equal(value, bins[first][key]) for key, value in bins[name].items()
        ):
            sizes = [f"{parts[each].sizes.get(TIME_BIN, 'no')} time bins in {each}" for each in (first, name)]
            raise AssemblyError(
                f"found {sizes[0]} and {sizes[1]}, at other times or of another number; expected the same. Mend: count the spikes "
                "of all in the same bins (bins=, or neurobridge import --bin), or join one bin of each, assembly.isel(time_bin=0) "
                "(--time-bin 0)."
            )
    if parts[first].ndim == 2:
        return None
    return {key: value for key, value in bins[first].items() if all(key in bins[name] for name in others)}


def _sites(
    parts: Mapping[str, xr.DataArray], labels: Mapping[str, np.ndarray], by: str
) -> tuple[dict[str, np.ndarray], bool]:
    """Return the columns of all sites, and whether their ids were qualified."""
    tables = {name: coords_of(part, NEUROID) for name, part in parts.items()}
    names = [name for name in dict.fromkeys(key for table in tables.values() for key in table) if name != by]
    sizes = [part.sizes[NEUROID] for part in parts.values()]
    neuroid = {
        name: _stacked([table[name][1] if name in table else None for table in tables.values()], sizes, name)
        for name in names
    }
    neuroid[by] = np.concatenate(list(labels.values()))
    ids = id_texts(neuroid[NEUROID_ID])
    unqualified = len(np.unique(ids)) == len(ids)
    if unqualified:
        return neuroid, False
    ids = np.array([f"{label}-{site}" for label, site in zip(neuroid[by], ids, strict=True)])
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise AssemblyError(
            f"found {int((counts > 1).sum())} sites in several recordings of one {by}, e.g. {str(unique[counts > 1][0])!r}; "
            "expected each site once. Mend: neurobridge.assemblies.join_sites({'first': first, 'second': second}, by='part'), or "
            "neurobridge join FIRST SECOND --by part --name first --name second --out NEW.nc."
        )
    return {**neuroid, NEUROID_ID: ids}, True


def _stacked(columns: Sequence[np.ndarray | None], sizes: Sequence[int], name: str) -> np.ndarray:
    """Put columns under each other, missing where a recording has none; text beside numbers becomes text."""
    known = [None if column is None else plain(column, name=name) for column in columns]
    kinds = {"U" if column.dtype.kind == "U" else "number" for column in known if column is not None}
    if len(kinds) > 1:
        known = [None if column is None else id_texts(column, name=name) for column in known]
    if all(column is not None for column in known):
        return np.concatenate([column for column in known if column is not None])
    cells = [[None] * n if column is None else column.tolist() for column, n in zip(known, sizes, strict=True)]
    return plain([cell for part in cells for cell in part], name=name)


def _values(parts: Mapping[str, xr.DataArray], joined: JoinedRows) -> np.ndarray:
    """Return the values of all parts in the joined presentations, NaN where a part has none."""
    complete = all((rows >= 0).all() for rows in joined.rows)
    counts = [part.dtype.kind != "f" for part in parts.values()]
    dtypes = [working_dtype(part.dtype) if part.dtype.kind == "f" else np.dtype(float) for part in parts.values()]
    whole = complete and all(counts)
    dtype = np.result_type(*(part.dtype for part in parts.values()) if whole else dtypes)
    first = next(iter(parts.values()))
    shape = (len(joined.ids), sum(part.sizes[NEUROID] for part in parts.values()), *first.shape[2:])
    check_memory(
        math.prod(shape) * dtype.itemsize,
        math.inf,
        f"an array of {' x '.join(map(str, shape))} joined values",
        mend="join fewer time bins or sites, assembly.isel(time_bin=0) or neurobridge.select(assembly, region='IT')",
    )
    values = np.zeros(shape, dtype=dtype) if whole else np.full(shape, np.nan, dtype=dtype)
    column = 0
    for (name, part), rows in zip(parts.items(), joined.rows, strict=True):
        place = np.full(part.sizes[PRESENTATION], -1, dtype=np.intp)
        place[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
        sites = slice(column, column + part.sizes[NEUROID])
        for some, block in blocks(part, role=name, allow_missing=True):
            used = place[some] >= 0
            values[place[some][used], sites] = block[used]
        column = sites.stop
    return values


def _shared_attrs(parts: Mapping[str, xr.DataArray]) -> dict[str, Any]:
    """Return the attributes that are the same for all; counts are of each alone."""
    (first, *others) = parts.values()
    return {
        str(key): value
        for key, value in first.attrs.items()
        if not str(key).startswith(("n_", "dropped_"))
        and all(key in other.attrs and _same(other.attrs[key], value) for other in others)
    }


def _same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and bool(np.array_equal(np.asarray(first), np.asarray(second)))
