"""Presentations of several recordings under each other's stimuli: which row of each is which row of the joined one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.forms import id_texts
from neurobridge.assemblies.ids import join_rows, joined_message, mend_ids, of_assembly, show_ids
from neurobridge.assemblies.labels import missing_rows, plain
from neurobridge.assemblies.schema import PRESENTATION, REPETITION, STIMULUS_ID, coords_of


class JoinedRows(NamedTuple):
    """Rows of every part in the joined presentations.

    Attributes
    ----------
    ids : array of shape (n_rows,)
        Stimulus of each joined presentation.
    repetition : array of int of shape (n_rows,), or None
        Number of the trial within its stimulus, from 0; None where no part repeats a stimulus.
    rows : list of int arrays of shape (n_rows,)
        For each part, its row that stands in each joined presentation; -1 where it has none.
    n_left_out : list of int
        For each part, the number of its stimuli that were left out.
    """

    ids: np.ndarray
    repetition: np.ndarray | None
    rows: list[np.ndarray]
    n_left_out: list[int]


def join_presentations(parts: Mapping[str, xr.DataArray], *, all_stimuli: bool) -> JoinedRows:
    """Find the presentations of one stimulus in all parts.

    The k-th trial of a stimulus in one part stands beside the k-th of the others, in the order of ``repetition``, else of the
    rows. Where a part has fewer trials than another, it has none in the last rows of that stimulus.

    Parameters
    ----------
    parts : mapping of str to xarray.DataArray
        Assemblies by the name that messages give them.
    all_stimuli : bool
        Keep the stimuli of any part. False keeps those of all parts.

    Returns
    -------
    JoinedRows
        In the order of the stimuli of the first part, then of those that it lacks.

    Raises
    ------
    AssemblyError
        No stimulus is in all parts, or averages stand beside single trials.
    """
    uniques, codes = zip(*(_stimuli(part) for part in parts.values()), strict=True)
    _refuse_averages_beside_trials(parts, codes)
    known, places = _joined_ids(list(parts), list(uniques))
    has = np.zeros((len(parts), len(known)), dtype=bool)
    for k, place in enumerate(places):
        has[k, place] = True
    kept = np.asarray(has.any(axis=0) if all_stimuli else has.all(axis=0))
    if not kept.any():
        _refuse_nothing_shared(list(parts), list(uniques), has)
    number = np.cumsum(kept) - 1
    counts = np.zeros((len(parts), int(kept.sum())), dtype=np.intp)
    ranks, stimuli = [], []
    for k, (part, code) in enumerate(zip(parts.values(), codes, strict=True)):
        stimulus = np.where(kept[places[k]][code], number[places[k]][code], -1)
        np.add.at(counts[k], stimulus[stimulus >= 0], 1)
        ranks.append(_ranks(part, code))
        stimuli.append(stimulus)
    n_trials = counts.max(axis=0)
    starts = np.cumsum(n_trials) - n_trials
    rows = []
    for stimulus, rank in zip(stimuli, ranks, strict=True):
        of_part = np.full(int(n_trials.sum()), -1, dtype=np.intp)
        used = np.flatnonzero(stimulus >= 0)
        of_part[starts[stimulus[used]] + rank[used]] = used
        rows.append(of_part)
    whole = np.repeat(np.arange(len(n_trials)), n_trials)
    repetition = np.arange(len(whole)) - starts[whole] if n_trials.max() > 1 else None
    return JoinedRows(known[kept][whole], repetition, rows, [int((has[k] & ~kept).sum()) for k in range(len(parts))])


def shared_columns(
    parts: Mapping[str, xr.DataArray], joined: JoinedRows, taken: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the columns of presentations that all parts have and agree on, and the names of the others.

    Parameters
    ----------
    parts : mapping of str to xarray.DataArray
    joined : JoinedRows
    taken : sequence of str
        Names that are no columns of the joined presentations.

    Returns
    -------
    columns : dict of str to array of shape (n_rows,)
        Each value is that of the first part that has the presentation.
    left_out : list of str
        Columns that a part lacks, or in which parts differ for a presentation.
    """
    tables = [coords_of(part, PRESENTATION) for part in parts.values()]
    names = dict.fromkeys(name for table in tables for name in table)
    columns: dict[str, np.ndarray] = {}
    left_out = []
    for name in names:
        if name in (STIMULUS_ID, REPETITION):
            continue
        column = None
        if name not in taken and all(name in table for table in tables):
            column = _agreed([plain(table[name][1], name=name) for table in tables], joined.rows)
        if column is None:
            left_out.append(name)
        else:
            columns[name] = column
    return columns, left_out


def _stimuli(part: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different stimuli in their order, and the number of that of each row."""
    ids = plain(part.coords[STIMULUS_ID].values, name=STIMULUS_ID)
    codes, unique = pd.factorize(ids)
    return np.asarray(unique), codes


def _ranks(part: xr.DataArray, codes: np.ndarray) -> np.ndarray:
    """Number the trials of each stimulus from 0."""
    has_number = REPETITION in part.coords and part.coords[REPETITION].dims == (PRESENTATION,)
    order = np.lexsort(([part.coords[REPETITION].values] if has_number else []) + [codes])
    counts = np.bincount(codes)
    ranks = np.empty(len(codes), dtype=np.intp)
    ranks[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def _joined_ids(names: list[str], uniques: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return all different ids, those of the first part as they are, and the place of the ids of each part among them."""
    known, places = uniques[0], [np.arange(len(uniques[0]))]
    for name, ids in zip(names[1:], uniques[1:], strict=True):
        joined = join_rows(ids, known)
        if joined.by_extension.any():
            warnings.warn(joined_message(joined, ids, known, (name, names[0])), UserWarning, stacklevel=4)
        place, new = joined.rows.copy(), joined.rows < 0
        place[new] = len(known) + np.arange(int(new.sum()))
        both = (known, ids[new])
        known = np.concatenate(both if known.dtype.kind == ids.dtype.kind else [id_texts(each) for each in both])
        places.append(place)
    return known, places


def _refuse_averages_beside_trials(parts: Mapping[str, xr.DataArray], codes: Sequence[np.ndarray]) -> None:
    repeated = [len(code) > int(code.max()) + 1 for code in codes]
    averages = [name for name, part in parts.items() if "n_repetitions" in part.coords]
    if any(repeated) and averages:
        trials = [name for name, is_repeated in zip(parts, repeated, strict=True) if is_repeated]
        raise AssemblyError(
            f"found averages in {averages[0]} (they have n_repetitions) and single trials in {trials[0]}; expected averages of "
            "all, or trials of all. Mend: neurobridge.average_repetitions(assembly) of those with trials, or neurobridge average "
            f"{trials[0]} --out NEW.nc, and join the averages."
        )


def _refuse_nothing_shared(names: list[str], uniques: list[np.ndarray], has: np.ndarray) -> None:
    in_all = has[0]
    other = next(k for k in range(1, len(has)) if not (in_all := in_all & has[k]).any())
    first, second = names[0], names[other]
    difference, mend = mend_ids(uniques[0], uniques[other], of_assembly("first"), of_assembly("second"))
    if other == 1 or not (has[0] & has[other]).any():
        sides = f"{first} (e.g. {show_ids(uniques[0])}) and {second} (e.g. {show_ids(uniques[other])})"
    else:
        sides = f"the first {other + 1} recordings, {first} to {second}"
    raise AssemblyError(
        f"found no stimulus_id shared by {sides}{difference}; expected at least one in all. Mend: "
        f"{f'{mend}; otherwise ' if mend else ''}all_stimuli=True (--all-stimuli) keeps all, with NaN where a session lacks one."
    )


def _agreed(columns: list[np.ndarray], rows: list[np.ndarray]) -> np.ndarray | None:
    """Return the value of each joined row, or None where two parts have different ones."""
    if len({column.dtype.kind for column in columns}) > 1:
        columns = [id_texts(column) for column in columns]
    whole = np.concatenate(columns)
    starts = np.cumsum([0, *(len(column) for column in columns[:-1])])
    absent = missing_rows(whole)
    chosen = np.full(len(rows[0]), -1, dtype=np.intp)
    for start, of_part in zip(starts, rows, strict=True):
        here = of_part >= 0
        new = here & (chosen < 0)
        chosen[new] = start + of_part[new]
        mine, first = start + of_part[here], chosen[here]
        if not ((whole[mine] == whole[first]) | (absent[mine] & absent[first])).all():
            return None
    return whole[chosen]
