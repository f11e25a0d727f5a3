"""NWB files (extra ``io``): spikes of units, or a processed table or series, with the trials of the session."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.labels import plain
from neurobridge.assemblies.readers.contents import unreadable
from neurobridge.assemblies.readers.files.hdf5 import require_io
from neurobridge.assemblies.readers.notes import some
from neurobridge.assemblies.schema import NEUROID_ID
from neurobridge.assemblies.storage.netcdf import check_hdf5


class Session(NamedTuple):
    """What is read of an NWB file.

    Attributes
    ----------
    trials : pandas.DataFrame or None
        With ``start_time`` and ``stop_time``, in seconds.
    units : dict of str to array of shape (n_spikes,)
        Times in seconds.
    observed : dict of str to array of shape (n_intervals, 2)
        Of the units that state it.
    sites : pandas.DataFrame or None
        Columns of the units.
    others : dict of str to str
        Tables and series by their names, with their shapes.
    """

    trials: pd.DataFrame | None
    units: dict[str, np.ndarray]
    observed: dict[str, np.ndarray]
    sites: pd.DataFrame | None
    others: dict[str, str]


class Series(NamedTuple):
    """Values over time: samples of shape (n_samples, n_channels) and their times in seconds."""

    values: np.ndarray
    times: np.ndarray


@contextmanager
def _opened(path: Path, *, checked: bool = False) -> Iterator[Any]:
    pynwb = require_io("pynwb", path, "NWB files")
    if not checked:
        check_hdf5(path)
    with warnings.catch_warnings():
        # hdmf warns about every older version of the format.
        warnings.simplefilter("ignore")
        try:
            with pynwb.NWBHDF5IO(str(path), "r", load_namespaces=True) as stream:
                yield stream.read()
        except (AssemblyError, ImportError):
            raise
        # Damaged and foreign files end in almost any exception of the library.
        except (Exception, MemoryError) as error:
            raise unreadable(path, error, "an NWB file") from error


def read_session(path: Path, trials: str | None = None) -> Session:
    """Read the trials and the units of an NWB file, and list what else it holds.

    Parameters
    ----------
    path : Path
    trials : str, optional
        Name of the table of intervals; ``trials`` or the only one by default.

    Raises
    ------
    AssemblyError
        The file is no whole NWB file.
    ImportError
        pynwb is missing.
    """
    with _opened(path) as file:
        tables = {str(name): table for name, table in (file.intervals or {}).items()}
        if file.trials is not None:
            tables["trials"] = file.trials
        name = trials or ("trials" if "trials" in tables else next(iter(tables), None) if len(tables) == 1 else None)
        if trials is not None and trials not in tables:
            raise AssemblyError(
                f"{path}: found tables of intervals {some(tables)}; expected {trials!r}. Mend: name one of them."
            )
        units, observed, sites = _units(file.units)
        others = {key: _shape(item) for key, item in _items(file).items()}
        others |= {f"intervals/{key}": _shape(table) for key, table in tables.items() if key != name}
        return Session(None if name is None else _frame(tables[name]), units, observed, sites, others)


def _units(units: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], pd.DataFrame | None]:
    if units is None:
        return {}, {}, None
    ids = [str(value) for value in units.id[:]]
    spikes, observed = {}, {}
    if "spike_times" in units.colnames:
        spikes = {
            site: np.sort(np.asarray(units.get_unit_spike_times(k), dtype=np.float64)) for k, site in enumerate(ids)
        }
    if "obs_intervals" in units.colnames:
        observed = {site: np.asarray(units.get_unit_obs_intervals(k), dtype=np.float64) for k, site in enumerate(ids)}
    sites = _frame(
        units, without=("spike_times", "obs_intervals", "waveform_mean", "waveform_sd", "waveforms", "spike_amplitudes")
    )
    # The table's own number of a unit, whatever other names it has.
    sites = sites.rename(columns={NEUROID_ID: f"{NEUROID_ID}_in_file"})
    sites.insert(0, NEUROID_ID, ids)
    return spikes, observed, sites


def _frame(table: Any, without: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return the columns of a table with a value a row; those of lists and references are left out."""
    columns = {}
    for name in table.colnames:
        if name in without:
            continue
        try:
            column = np.asarray(table[name].data[:])
            if len(column) == len(table) and column.ndim == 1 and column.dtype.kind in "biufUSO":
                columns[str(name)] = plain(column, name=str(name))
        except Exception:  # a column of references, which is no label
            continue
    return pd.DataFrame(columns)


def _items(file: Any) -> dict[str, Any]:
    """Return tables and series with values of numbers by their paths."""
    items: dict[str, Any] = {}
    for module in (file.processing or {}).values():
        for name, item in module.data_interfaces.items():
            items |= _inner(f"processing/{module.name}/{name}", item)
    for place, group in (("acquisition", file.acquisition), ("analysis", file.analysis), ("scratch", file.scratch)):
        for name, item in (group or {}).items():
            items |= _inner(f"{place}/{name}", item)
    return items


def _inner(path: str, item: Any) -> dict[str, Any]:
    if hasattr(item, "colnames") or hasattr(item, "data"):
        return {path: item}
    for holder in ("roi_response_series", "time_series", "electrical_series"):
        if hasattr(item, holder):
            return {f"{path}/{name}": inner for name, inner in getattr(item, holder).items()}
    return {}


def _shape(item: Any) -> str:
    if hasattr(item, "colnames"):
        return f"table of {len(item)} rows: {some(item.colnames)}"
    return f"{type(item).__name__} {tuple(getattr(item.data, 'shape', ()))}"


def read_item(path: Path, name: str) -> pd.DataFrame | Series:
    """Read a processed table or a series of an NWB file.

    Parameters
    ----------
    path : Path
        Of a file that `read_session` has read.
    name : str
        Its path, or the end of it.

    Raises
    ------
    AssemblyError
        There is not one such item, or its values are no numbers.
    """
    with _opened(path, checked=True) as file:
        items = _items(file)
        wanted = name.strip("/")
        chosen = [key for key in items if key == wanted] or [key for key in items if key.endswith(f"/{wanted}")]
        if len(chosen) != 1:
            raise AssemblyError(
                f"{path}: found {len(chosen)} items {name!r} among {some(items, 12)}; expected one. Mend: --var with one of "
                "these, or "
                "windows or bins for the spikes of its units (--window response=70:170)."
            )
        item = items[chosen[0]]
        if hasattr(item, "colnames"):
            return _frame(item)
        values = np.asarray(item.data[:])
        if values.dtype.kind not in "fiub" or values.ndim not in (1, 2):
            raise AssemblyError(
                f"{path}: found {values.dtype} {values.shape} in {chosen[0]}; expected numbers (time, channel)."
            )
        values = values.reshape(len(values), -1) * float(item.conversion or 1.0)
        if item.timestamps is not None:
            times = np.asarray(item.timestamps[:], dtype=np.float64)
        else:
            times = float(item.starting_time or 0.0) + np.arange(len(values)) / float(item.rate)
        return Series(values, times)


def averaged(series: Series, onsets: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Average the samples of a series in windows after onsets; a window without a sample is missing.

    Parameters
    ----------
    series : Series
    onsets : array of shape (n_trials,)
        Seconds.
    starts, stops : arrays of shape (n_windows,)
        Milliseconds.

    Returns
    -------
    array of shape (n_trials, n_channels, n_windows)
    """
    first = np.searchsorted(series.times, onsets[:, None] + starts / 1000, "left")
    last = np.searchsorted(series.times, onsets[:, None] + stops / 1000, "left")
    out = np.full((len(onsets), series.values.shape[1], len(starts)), np.nan)
    for trial, window in np.ndindex(len(onsets), len(starts)):
        if last[trial, window] > first[trial, window]:
            out[trial, :, window] = series.values[first[trial, window] : last[trial, window]].mean(axis=0)
    return out


def summary(session: Session) -> Mapping[str, str]:
    """Return what an NWB file holds, by name."""
    parts: dict[str, str] = {}
    if session.units:
        parts["units"] = f"spike times of {len(session.units)} units, {sum(map(len, session.units.values()))} spikes"
    if session.trials is not None:
        parts["trials"] = f"table of {len(session.trials)} rows: {some(session.trials.columns, 12)}"
    return {**parts, **session.others}


def require_table(session: Session, path: Path) -> pd.DataFrame:
    """Return the trials of a session; an error where there are none."""
    if session.trials is None:
        raise AssemblyError(
            f"{path}: found no table of trials ({some(session.others) or 'no other tables'}); expected one. Mend: "
            "trials='trials.csv' "
            "(--trials), with onsets in seconds, or trials='intervals/NAME' for a table of intervals of the file."
        )
    return session.trials
