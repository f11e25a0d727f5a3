"""Counts of spikes in windows and bins after the onsets of trials."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.forms import id_texts
from neurobridge.assemblies.labels import plain
from neurobridge.assemblies.readers.assemble import Marks, assemble
from neurobridge.assemblies.readers.frames import Table, as_frame
from neurobridge.assemblies.readers.names import KNOWN, known_column, renamed, require_mapped
from neurobridge.assemblies.readers.notes import Notes, some
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, STIMULUS_ID, TIME_BIN
from neurobridge.points.memory import check_memory

Windows = Mapping[str, tuple[float, float]]
Spikes = str | os.PathLike[str] | pd.DataFrame | Mapping[Any, npt.ArrayLike]


def count_spikes(
    spikes: Spikes,
    trials: Table,
    *,
    windows: Windows | None = None,
    bins: tuple[float, float, float] | None = None,
    sites: Table | None = None,
    columns: Mapping[str, str] | None = None,
    sampling_rate: float = 1.0,
    observed: Mapping[Any, npt.ArrayLike] | None = None,
    session: str | None = None,
    animal: str | None = None,
    qualify_ids: Sequence[str] = (NEUROID_ID,),
) -> xr.DataArray:
    r"""Count the spikes of every site in windows or bins after the onset of every trial.

    The count of site :math:`j` in trial :math:`i` and a window :math:`[a, b)` is the number of its spikes at times :math:`t` with
    :math:`o_i + a \le t < o_i + b`, where :math:`o_i` is the onset: a spike on the edge of two bins is in the later one.

    Parameters
    ----------
    spikes : mapping of site to array of shape (n_spikes,), table or path
        Times of spikes. A table (csv, parquet) has a column of times and one of sites, a spike a row.
    trials : path, table or mapping
        One row a trial, with ``stimulus_id`` and ``onset``, or columns of usual names ("image", "start_time").
    windows : mapping of str to (start, stop), optional
        Named windows in milliseconds after onset, e.g. ``{"early": (70, 120), "late": (120, 170)}``.
    bins : (start, stop, width), optional
        Bins of equal width in milliseconds after onset, in place of windows.
    sites : path, table or sequence of ids, optional
        Sites to keep, with further columns. A site without spikes has counts of zero. Default: those that have spikes.
    columns : mapping of str to str, optional
        Names of columns, ours to theirs: ``{"stimulus_id": "image_name", "onset": "t0", "time": "t", "neuroid_id": "cluster"}``.
    sampling_rate : float
        Units of the times and onsets in a second: 1 for seconds, 1000 for milliseconds, 30000 for samples at 30 kHz.
    observed : mapping of site to array of shape (n_intervals, 2), optional
        When a site was observed, in the unit of the times. A trial of which a window is not inside is missing (NaN) there.
    session, animal : str, optional
        Coordinates of all sites; they qualify ids, see `read_recordings`.
    qualify_ids : sequence of str
        See `read_recordings`.

    Returns
    -------
    xarray.DataArray
        Dims ``(presentation, neuroid, time_bin)``, with ``time_bin_start`` and ``time_bin_end`` in milliseconds, and
        ``time_bin_name`` of named windows. The attribute ``units`` is "spikes".

    Raises
    ------
    AssemblyError
        Windows and bins are both given or both missing, or are empty; a table lacks a column; no spike falls into any window,
        as happens where times and onsets differ in unit.

    Examples
    --------
    >>> import neurobridge as nb
    >>> spikes = {"unit 1": [0.08, 0.10, 1.30], "unit 2": [1.11]}  # seconds, simulated
    >>> trials = {"stimulus_id": ["a.png", "b.png"], "onset": [0.0, 1.0]}
    >>> counts = nb.count_spikes(spikes, trials, windows={"response": (70, 170)})
    >>> counts.sel(time_bin=0).values.tolist(), counts["time_bin_end"].values.tolist()
    ([[2.0, 0.0], [0.0, 1.0]], [170.0])
    >>> nb.count_spikes(spikes, trials, bins=(50, 350, 100)).sum("presentation").values.tolist()
    [[2.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    notes, columns = Notes(), dict(columns or {})
    times = _times_by_site(spikes, columns, notes)
    table = as_frame(trials, what="trials", ids=STIMULUS_ID, text=tuple(columns.values()))
    of_sites = None if sites is None else as_frame(sites, what="sites", ids=NEUROID_ID, text=tuple(columns.values()))
    marks = Marks(session=session, animal=animal, qualify_ids=tuple(qualify_ids))
    return counted(
        times, table, of_sites, windows=windows, bins=bins, columns=columns, sampling_rate=sampling_rate, observed=observed,
        notes=notes, marks=marks,
    )  # fmt: skip


def counted(
    times: Mapping[str, np.ndarray],
    trials: pd.DataFrame,
    sites: pd.DataFrame | None,
    *,
    windows: Windows | None,
    bins: tuple[float, float, float] | None,
    columns: Mapping[str, str],
    sampling_rate: float,
    observed: Mapping[Any, npt.ArrayLike] | None,
    notes: Notes,
    marks: Marks,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Count spikes, sorted by site, in windows of trials that are a table; see `count_spikes`."""
    starts, stops, names = window_edges(windows, bins)
    if not (np.isfinite(sampling_rate) and sampling_rate > 0):
        raise AssemblyError(
            f"sampling_rate: found {sampling_rate}; expected units in a second, above 0. Mend: 1 for seconds."
        )
    trials = renamed(trials, columns, notes)
    onsets = onsets_of(trials, notes)
    of_sites = None if sites is None else renamed(sites, columns, notes)
    require_mapped(columns, notes, [*trials.columns, *(() if of_sites is None else of_sites.columns)])
    if of_sites is None:
        of_sites = pd.DataFrame({NEUROID_ID: list(times)})
    else:
        name = NEUROID_ID if NEUROID_ID in of_sites else known_column(list(of_sites.columns), NEUROID_ID)
        listed = set() if name is None else set(id_texts(of_sites[name].to_numpy()).tolist())
        unlisted = [site for site in times if site not in listed]
        if unlisted:
            notes.leave_out(
                f"spikes of {len(unlisted)} sites that the table of sites does not list ({some(unlisted, 3)})"
            )
        of_sites = of_sites.rename(columns={name: NEUROID_ID}) if name else of_sites
        of_sites = of_sites.assign(**{NEUROID_ID: id_texts(of_sites[NEUROID_ID].to_numpy())}) if name else of_sites
    ids = of_sites[NEUROID_ID].tolist() if NEUROID_ID in of_sites else []
    shape = (len(onsets), len(ids), len(starts))
    check_memory(
        8.0 * np.prod(np.array(shape, dtype=float)),
        np.inf,
        f"counts of shape {shape}",
        mend="wider bins, or a part of the trials",
    )
    counts = np.zeros(shape)
    scale = sampling_rate / 1000.0
    first, last = onsets[:, None] + starts * scale, onsets[:, None] + stops * scale
    for column, site in enumerate(ids):
        train = times.get(site, np.empty(0))
        counts[:, column] = np.searchsorted(train, last, "left") - np.searchsorted(train, first, "left")
    if not counts.any():
        spans = [(train[0], train[-1]) for train in times.values() if len(train)]
        shown = f"spikes from {min(a for a, _ in spans):g} to {max(b for _, b in spans):g}" if spans else "no spikes"
        raise AssemblyError(
            f"found {shown} and onsets from {onsets.min():g} to {onsets.max():g}, and none in the windows; expected both in "
            "one unit and "
            "on one clock. Mend: sampling_rate=1000 (--sampling-rate) where they are in milliseconds, 30000 for samples at 30 kHz."
        )
    for column, site in enumerate(ids):
        if observed is not None and site in observed:
            counts[:, column][~_inside(first, last, np.asarray(observed[site], dtype=np.float64))] = np.nan
    time_bin = {"time_bin_start": starts, "time_bin_end": stops, **({"time_bin_name": names} if names else {})}
    tables = {PRESENTATION: trials, NEUROID: of_sites, TIME_BIN: pd.DataFrame(time_bin)}
    return assemble(
        counts,
        (PRESENTATION, NEUROID, TIME_BIN),
        tables,
        notes=notes,
        marks=marks,
        attrs={**(attrs or {}), "units": "spikes"},
    )


def window_edges(
    windows: Windows | None, bins: tuple[float, float, float] | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the starts, the stops (ms) and the names of windows, or of bins of equal width.

    Raises
    ------
    AssemblyError
        Both or none are given, one is empty, or the width does not divide the span.

    Examples
    --------
    >>> starts, stops, names = window_edges(None, (0, 100, 50))
    >>> starts.tolist(), stops.tolist(), names
    ([0.0, 50.0], [50.0, 100.0], [])
    """
    mend = "Mend: windows={'response': (70, 170)} (--window response=70:170), or bins=(0, 300, 20) (--bin 0:300:20), in ms."
    if (windows is None) == (bins is None) or (windows is not None and not len(windows)):
        raise AssemblyError(
            f"found {'both windows and bins' if windows else 'neither windows nor bins'}; expected one of them to count "
            f"spikes in. {mend}"
        )
    try:
        if windows is not None:
            edges = np.array([tuple(map(float, edge)) for edge in windows.values()], dtype=np.float64)
            starts, stops = edges.T
        else:
            start, stop, width = map(float, bins or ())
            n_bins = round((stop - start) / width) if width > 0 and np.isfinite([start, stop, width]).all() else 0
            if n_bins < 1 or abs(start + n_bins * width - stop) > 1e-6 * width:
                raise ValueError("the width does not divide the span")
            starts = start + width * np.arange(n_bins)
            stops = np.append(starts[1:], stop)
    except (TypeError, ValueError, OverflowError) as error:
        raise AssemblyError(
            f"found windows={windows}, bins={bins} ({error}); expected a start and a stop for each window, or a start, a stop "
            "and a "
            f"width that divides the time between them. {mend}"
        ) from error
    if not (np.isfinite(starts).all() and (starts < stops).all()):
        raise AssemblyError(
            f"found windows from {starts.tolist()} to {stops.tolist()}; expected each to stop after its start. {mend}"
        )
    return starts, stops, [str(name) for name in windows or ()]


def by_site(times: np.ndarray, sites: np.ndarray, what: str) -> dict[str, np.ndarray]:
    """Sort times of spikes by their sites, which are listed beside them.

    Raises
    ------
    AssemblyError
        The two differ in length, or a time is no number.
    """
    labels = id_texts(sites, name=f"{what}, sites")
    if times.shape != labels.shape or times.ndim != 1:
        raise AssemblyError(
            f"{what}: found {times.shape} times and {labels.shape} sites; expected one of each for a spike. Mend: name both "
            "columns, "
            "columns={'time': NAME, 'neuroid_id': NAME} (--map)."
        )
    codes, ids = pd.factorize(labels)
    order = np.argsort(codes, kind="stable")
    stops = np.cumsum(np.bincount(codes, minlength=len(ids)))[:-1]
    return {str(site): _sorted(train, what) for site, train in zip(ids, np.split(times[order], stops), strict=True)}


def _sorted(train: Any, what: str) -> np.ndarray:
    values = plain(np.asarray(train).ravel() if np.size(train) else np.empty(0), name=f"{what}, times")
    if values.dtype.kind not in "fiu" or not np.isfinite(values.astype(np.float64)).all():
        raise AssemblyError(
            f"{what}: found times that are no finite numbers; expected numbers. Mend: leave those spikes out."
        )
    return np.sort(values.astype(np.float64))


def _times_by_site(spikes: Spikes, columns: dict[str, str], notes: Notes) -> dict[str, np.ndarray]:
    if isinstance(spikes, Mapping) and not isinstance(spikes, pd.DataFrame):
        ids = id_texts(list(spikes), name="sites of spikes").tolist()
        return {site: _sorted(train, f"spikes of {site}") for site, train in zip(ids, spikes.values(), strict=True)}
    table = as_frame(spikes, what="spikes", ids=NEUROID_ID, text=tuple(columns.values()))
    return spikes_of_table(table, columns, notes, what="spikes")


def spikes_of_table(
    table: pd.DataFrame, columns: Mapping[str, str], notes: Notes, *, what: str
) -> dict[str, np.ndarray]:
    """Return the times of spikes by site from a table with a spike a row."""
    # Names of trials may be among the names of columns, too: only those of spikes are looked for here.
    table = renamed(table, {ours: theirs for ours, theirs in columns.items() if ours in ("time", NEUROID_ID)}, notes)
    for ours in ("time", NEUROID_ID):
        if ours in table:
            continue
        theirs = known_column(list(table.columns), ours)
        if theirs is None:
            raise AssemblyError(
                f"{what}: found columns {some(table.columns, 20)}; expected one of times and one of sites "
                f"({some(KNOWN[ours], 6)}). "
                f"Mend: columns={{{ours!r}: NAME}} (--map {ours}=NAME)."
            )
        notes.guess(f"column {theirs!r} of {what} is {ours}: --map {ours}=NAME takes another")
        table = table.rename(columns={theirs: ours})
    return by_site(plain(table["time"].to_numpy(), name=f"{what}, times"), table[NEUROID_ID].to_numpy(), what)


def onsets_of(trials: pd.DataFrame, notes: Notes) -> np.ndarray:
    """Return the onset of every trial, from a column of that or of a usual name."""
    if not len(trials):
        raise AssemblyError("trials: found a table without rows; expected at least one trial. Mend: check the table.")
    name = "onset" if "onset" in trials else known_column(list(trials.columns), "onset")
    if name is None:
        raise AssemblyError(
            f"trials: found columns {some(trials.columns, 20)}; expected 'onset', the time of the stimulus. Mend: "
            "columns={'onset': NAME} (--map onset=NAME)."
        )
    if name != "onset":
        notes.guess(f"column {name!r} of trials is the onset: --map onset=NAME takes another")
    onsets = plain(trials[name].to_numpy(), name=f"trials, column {name!r}")
    if onsets.dtype.kind not in "fiu" or not np.isfinite(onsets.astype(np.float64)).all():
        raise AssemblyError(
            f"trials: found {onsets.dtype} with missing or no numbers in {name!r}; expected an onset for each trial. Mend: leave "
            "out the trials without one, or columns={'onset': NAME} (--map onset=NAME)."
        )
    return onsets.astype(np.float64)


def _inside(first: np.ndarray, last: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """Tell which windows, of shape (n_trials, n_windows), lie in one of the intervals, of shape (n_intervals, 2)."""
    intervals = intervals.reshape(-1, 2)[np.argsort(intervals.reshape(-1, 2)[:, 0])]
    if not len(intervals):
        return np.zeros(first.shape, dtype=bool)
    place = np.searchsorted(intervals[:, 0], first, "right") - 1
    return (place >= 0) & (last <= intervals[np.maximum(place, 0), 1])
