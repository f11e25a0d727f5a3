"""An assembly from an array, the names of its axes, and tables of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.forms import id_texts, normalized_ids
from neurobridge.assemblies.labels import plain
from neurobridge.assemblies.readers.axes import arranged
from neurobridge.assemblies.readers.names import with_ids
from neurobridge.assemblies.readers.notes import Notes, some
from neurobridge.assemblies.schema import (
    NEUROID,
    NEUROID_ID,
    PRESENTATION,
    REPETITION,
    STIMULUS_ID,
    TIME_BIN,
    make_assembly,
)
from neurobridge.points.conversion import real_array


class Marks(NamedTuple):
    """What is set on all of a recording.

    Attributes
    ----------
    session, animal : str or None
        Coordinates of all sites: names, or columns that have them.
    qualify_ids : tuple of str
        Ids that session and animal are put before.
    id_form : tuple of str
        Forms that the stimulus ids are brought to, keys of `ID_FORMS`.
    """

    session: str | None = None
    animal: str | None = None
    qualify_ids: tuple[str, ...] = (NEUROID_ID,)
    id_form: tuple[str, ...] = ()

    def prefixes(self, table: pd.DataFrame) -> list[str]:
        """Return what stands before the ids of a table, a row each: animal and session, names or the columns that have them."""
        given = [value for value in (self.animal, self.session) if value]
        parts = [id_texts(table[v].to_numpy()) if v in table else np.full(len(table), v) for v in given]
        return ["-".join(row) for row in zip(*parts, strict=True)]


def assemble(
    values: np.ndarray,
    axes: Sequence[str],
    tables: Mapping[str, pd.DataFrame],
    *,
    notes: Notes,
    marks: Marks,
    attrs: Mapping[str, Any],
) -> xr.DataArray:
    """Make an assembly of an array and the tables of its axes.

    Presentations and sites without a single value are left out, which is noted; a missing value beside others is kept as NaN.

    Parameters
    ----------
    values : array
    axes : sequence of str
        Names of its axes, see `name_axes`.
    tables : mapping of str to pandas.DataFrame
        One row for each index of ``presentation``, ``neuroid`` and ``time_bin``; sites without a table are numbered. Where
        repetitions are an axis, the table of presentations has a row a stimulus, or a row a stimulus and repetition.
    notes : Notes
    marks : Marks
    attrs : mapping

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    AssemblyError
        A table has another number of rows than the array, no column of ids, or the assembly breaks the schema.
    """
    values, n_repetitions = arranged(real_array(values, name="values", error=AssemblyError), axes)
    trials = _trials(tables.get(PRESENTATION), values.shape[0], n_repetitions, notes)
    sites = _sites(tables.get(NEUROID), values.shape[1], notes)
    time_bin = _time_bins(tables.get(TIME_BIN), values.shape[2], notes) if values.ndim == 3 else None
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros((1,) * values.ndim, dtype=bool)
    if missing.any():
        rows = np.asarray(~missing.reshape(len(values), -1).all(axis=1))
        columns = np.asarray(~missing.all(axis=tuple(axis for axis in range(values.ndim) if axis != 1)))
        if not rows.all():
            notes.leave_out(f"{int((~rows).sum())} of {len(rows)} presentations, which have no value of any site")
        if not columns.all():
            notes.leave_out(
                f"{int((~columns).sum())} of {len(columns)} sites, which have no value ({some(sites.loc[~columns, NEUROID_ID], 3)})"
            )
        values = values[rows][:, columns]
        trials, sites = trials.loc[rows].reset_index(drop=True), sites.loc[columns].reset_index(drop=True)
    trials = _marked_stimuli(trials, marks, notes)
    sites = _marked_sites(sites, trials, marks, notes)
    trials = _with_repetition(trials, notes)
    sites = _without_clashes(trials, sites, time_bin, notes)
    n_missing = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
    facts = {"n_missing_values": n_missing} if n_missing else {}
    return make_assembly(
        values,
        presentation=_columns(trials, notes, "trials"),
        neuroid=_columns(sites, notes, "sites"),
        time_bin=None if time_bin is None else _columns(time_bin, notes, "time bins"),
        attrs={**attrs, **facts, **notes.attrs()},
    )


def _trials(table: pd.DataFrame | None, n_rows: int, n_repetitions: int, notes: Notes) -> pd.DataFrame:
    if table is None or not len(table.columns):
        raise AssemblyError(
            f"found {n_rows} presentations and no ids of stimuli for them{_unread(notes)}; expected a table with one row each. "
            "Mend: trials='trials.csv' (--trials), with a column stimulus_id; or columns={'stimulus_id': NAME} (--map) of what is "
            "in the file."
        )
    n_stimuli = n_rows // n_repetitions if n_repetitions else n_rows
    if n_repetitions and len(table) == n_stimuli:
        table = table.loc[table.index.repeat(n_repetitions)].reset_index(drop=True)
        if REPETITION not in table:
            table[REPETITION] = np.tile(np.arange(n_repetitions), n_stimuli)
    if len(table) != n_rows:
        raise AssemblyError(
            f"trials: found {len(table)} rows for {n_rows} presentations; expected as many. Mend: leave rows out of the table "
            "or of the "
            "values, or name the axes: dims='neuroid,presentation' (--dims)."
        )
    return with_ids(table, STIMULUS_ID, notes, what="trials")


def _unread(notes: Notes) -> str:
    """Name what was left out of the file: the ids may be in it."""
    return f" (left out: {some(notes.left_out)})" if notes.left_out else ""


def _sites(table: pd.DataFrame | None, n_sites: int, notes: Notes) -> pd.DataFrame:
    if table is None or not len(table.columns):
        notes.guess(f"{n_sites} sites have no ids and are numbered: --sites TABLE names them")
        return pd.DataFrame({NEUROID_ID: [f"site-{k:0{len(str(n_sites - 1))}d}" for k in range(n_sites)]})
    if len(table) != n_sites:
        raise AssemblyError(
            f"sites: found {len(table)} rows for {n_sites} sites; expected as many. Mend: leave rows out of the table or of "
            "the values."
        )
    return with_ids(table, NEUROID_ID, notes, what="sites")


def _time_bins(table: pd.DataFrame | None, n_bins: int, notes: Notes) -> pd.DataFrame:
    if table is None or not len(table.columns):
        notes.guess(f"{n_bins} time bins have no times and are numbered: --bin START:STOP:WIDTH names them")
        return pd.DataFrame({TIME_BIN: np.arange(n_bins)})
    if len(table) != n_bins:
        raise AssemblyError(
            f"time bins: found times of {len(table)} for {n_bins}; expected as many. Mend: bins=(start, stop, width) with "
            f"(stop - start) / width = {n_bins} (--bin)."
        )
    if "time" in table and "time_bin_start" not in table:
        times = plain(table["time"].to_numpy(), name="time")
        table = table.rename(columns={"time": "time_bin_start"})
        steps = np.diff(times) if times.dtype.kind in "fiu" else np.empty(0)
        if len(steps) and steps[0] > 0 and np.allclose(steps, steps[0]) and "time_bin_end" not in table:
            notes.guess(f"a time is the start of its bin, and bins are {steps[0]:g} wide, as times are apart")
            table = table.assign(time_bin_end=table["time_bin_start"] + steps[0])
    return table


def _marked_stimuli(trials: pd.DataFrame, marks: Marks, notes: Notes) -> pd.DataFrame:
    prefixes = marks.prefixes(trials) if STIMULUS_ID in marks.qualify_ids else []
    if prefixes:
        ids = [f"{prefix}-{name}" for prefix, name in zip(prefixes, trials[STIMULUS_ID], strict=True)]
        trials = trials.assign(**{STIMULUS_ID: ids})
        notes.guess(f"ids of stimuli begin with {some(dict.fromkeys(prefixes), 3)}, as asked")
    if not marks.id_form:
        return trials
    changed = normalized_ids(trials[STIMULUS_ID].to_numpy(), marks.id_form)
    n_changed = int((changed != trials[STIMULUS_ID].to_numpy()).sum())
    notes.guess(
        f"stimulus ids were brought to the form {', '.join(marks.id_form)}, as asked: {n_changed} of {len(changed)} changed"
    )
    return trials.assign(**{STIMULUS_ID: changed})


def _marked_sites(sites: pd.DataFrame, trials: pd.DataFrame, marks: Marks, notes: Notes) -> pd.DataFrame:
    given = {name: value for name, value in (("animal", marks.animal), ("session", marks.session)) if value}
    prefixes = marks.prefixes(sites)
    for name, value in given.items():
        if value in sites:
            sites = sites.assign(**{name: id_texts(sites[value].to_numpy())})
            continue
        if value in trials:
            raise AssemblyError(
                f"{name}: found {value!r}, a column of the trials and not of the sites; expected a name, or a column of the "
                "sites, whose "
                f"ids it qualifies. Mend: another name, or a column {value!r} in the table of sites."
            )
        if name in sites and set(id_texts(sites[name].to_numpy()).tolist()) != {value}:
            notes.leave_out(f"column {name!r} of the sites, in place of which {value!r} was given")
        sites = sites.assign(**{name: [value] * len(sites)})
    if NEUROID_ID in marks.qualify_ids and prefixes:
        ids = [f"{prefix}-{site}" for prefix, site in zip(prefixes, sites[NEUROID_ID], strict=True)]
        sites = sites.assign(**{NEUROID_ID: ids})
        shown = some(dict.fromkeys(prefixes), 3)
        notes.guess(
            f"ids of sites begin with {shown}, as they are of one session or animal: --qualify none leaves them"
        )
    return sites


def _with_repetition(trials: pd.DataFrame, notes: Notes) -> pd.DataFrame:
    """Number the presentations of each stimulus where no column does."""
    repetition = trials.groupby(STIMULUS_ID, sort=False).cumcount().to_numpy()
    if REPETITION in trials or not repetition.any():
        return trials
    notes.guess("presentations of a stimulus are numbered as repetitions in the order of the trials")
    return trials.assign(**{REPETITION: repetition})


def _without_clashes(
    trials: pd.DataFrame, sites: pd.DataFrame, time_bin: pd.DataFrame | None, notes: Notes
) -> pd.DataFrame:
    taken = (
        {str(name) for name in trials}
        | {PRESENTATION, TIME_BIN}
        | (set() if time_bin is None else set(map(str, time_bin)))
    )
    clashes = [str(name) for name in sites if str(name) in taken]
    if clashes:
        notes.guess(f"columns {some(clashes)} of the sites are called neuroid_..., as trials have the same names")
    return sites.rename(columns={name: f"neuroid_{name}" for name in clashes})


def _columns(table: pd.DataFrame, notes: Notes, what: str) -> dict[str, np.ndarray]:
    """Return the columns that can be labels; others are noted."""
    columns: dict[str, np.ndarray] = {}
    for name in table.columns:
        try:
            columns[str(name)] = plain(table[name].to_numpy(), name=f"{what}, column {name!r}")
        except AssemblyError as error:
            if name in (STIMULUS_ID, NEUROID_ID, REPETITION):
                raise
            notes.leave_out(f"column {name!r} of {what} ({str(error).split(';')[0]})")
    return columns
