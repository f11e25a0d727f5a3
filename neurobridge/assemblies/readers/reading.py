"""One reading of recordings: how each kind of file becomes an array with tables of its axes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.forms import id_texts
from neurobridge.assemblies.labels import plain
from neurobridge.assemblies.readers.assemble import Marks, assemble
from neurobridge.assemblies.readers.axes import name_axes
from neurobridge.assemblies.readers.contents import Contents, column_of
from neurobridge.assemblies.readers.files.nwb import Series, averaged, read_item, read_session, require_table, summary
from neurobridge.assemblies.readers.formats import contents_of
from neurobridge.assemblies.readers.frames import as_frame, from_long, from_wide, is_long
from neurobridge.assemblies.readers.labelling import label_axes, named_vectors
from neurobridge.assemblies.readers.names import known_column, renamed, require_mapped
from neurobridge.assemblies.readers.notes import Notes, some
from neurobridge.assemblies.readers.spikes import Windows, by_site, counted, onsets_of, spikes_of_table, window_edges
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, STIMULUS_ID, TIME_BIN, coords_of
from neurobridge.assemblies.tables import naming


class Reading:
    """One reading: the options of the caller, and the notes that are taken."""

    def __init__(
        self,
        trials: Any,
        sites: Any,
        variable: str | Sequence[str] | None,
        columns: dict[str, str],
        dims: str | Sequence[str] | None,
        windows: Windows | None,
        bins: tuple[float, float, float] | None,
        sampling_rate: float,
        marks: Marks,
    ) -> None:
        self.trials, self.sites, self.variable, self.columns, self.dims = trials, sites, variable, columns, dims
        self.windows, self.bins, self.sampling_rate, self.marks = windows, bins, sampling_rate, marks
        self.notes = Notes()

    @property
    def counts(self) -> bool:
        """True where spikes are to be counted, or samples averaged."""
        return self.windows is not None or self.bins is not None

    def table(self, given: Any, what: str, own_id: str) -> pd.DataFrame | None:
        """Return a table of the caller with our names; None where none was given."""
        if given is None:
            return None
        frame = as_frame(given, what=what, ids=own_id, text=tuple(self.columns.values()))
        return renamed(frame, self.columns, self.notes)

    def finish(
        self, values: np.ndarray, axes: Sequence[str], tables: dict[str, pd.DataFrame], attrs: Mapping[str, Any]
    ) -> xr.DataArray:
        """Check that every name of the caller was used, and make the assembly."""
        require_mapped(self.columns, self.notes, [name for table in tables.values() for name in table.columns])
        if isinstance(self.trials, (str, os.PathLike)):
            attrs = {**attrs, "trials_from": Path(self.trials).name}
        if isinstance(self.sites, (str, os.PathLike)):
            attrs = {**attrs, "sites_from": Path(self.sites).name}
        return assemble(values, axes, tables, notes=self.notes, marks=self.marks, attrs=attrs)

    def count(
        self,
        times: Mapping[str, np.ndarray],
        trials: pd.DataFrame,
        sites: pd.DataFrame | None,
        attrs: Any,
        observed: Any = None,
    ) -> xr.DataArray:
        """Count spikes in the windows or bins of the caller."""
        return counted(
            times, trials, sites, windows=self.windows, bins=self.bins, columns=self.columns, sampling_rate=self.sampling_rate,
            observed=observed, notes=self.notes, marks=self.marks, attrs=attrs,
        )  # fmt: skip

    def require_trials(self, what: str) -> pd.DataFrame:
        """Return the table of trials, which spikes need."""
        if self.trials is None:
            raise AssemblyError(
                f"{what}: found spike times and no trials; expected a table of trials with stimulus_id and onset. Mend: "
                "trials='trials.csv' (--trials)."
            )
        return as_frame(self.trials, what="trials", ids=STIMULUS_ID, text=tuple(self.columns.values()))

    # -- Formats --------------------------------------------------------------------------------------------------------

    def of_table(self, table: pd.DataFrame, what: str, attrs: Mapping[str, Any]) -> xr.DataArray:
        """Read one table: of values, of trials with a column a site, or of spikes."""
        if not len(table):
            raise AssemblyError(f"{what}: found a table without rows; expected responses. Mend: check the file.")
        if self.counts:
            times = spikes_of_table(table, self.columns, self.notes, what=what)
            return self.count(times, self.require_trials(what), self.table(self.sites, "sites", NEUROID_ID), attrs)
        table = renamed(table, self.columns, self.notes)
        if self.variable is None and is_long(table):
            named = [value for value in (self.marks.animal, self.marks.session) if value is not None and value in table]
            qualify = dict.fromkeys(self.marks.qualify_ids, named)
            values, axes, tables = from_long(table, self.notes, what=what, qualify=qualify)
            # Their values are in the ids and in the columns already.
            animal, session = (None if mark in named else mark for mark in (self.marks.animal, self.marks.session))
            self.marks = self.marks._replace(animal=animal, session=session)
            self._join_trials(tables)
        else:
            values, axes, tables = from_wide(table, self.variable, self.notes, what=what)
            given = self.table(self.trials, "trials", STIMULUS_ID)
            if given is not None:
                tables[PRESENTATION] = _beside(given, tables[PRESENTATION])
        self._join_sites(tables)
        return self.finish(values, axes, tables, attrs)

    def _join_trials(self, tables: dict[str, pd.DataFrame]) -> None:
        """Add the columns of the caller's trials to those of a long table, by the trial, or else by the stimulus."""
        given = self.table(self.trials, "trials", STIMULUS_ID)
        if given is None:
            return
        name = "trial" if "trial" in given else known_column(list(given.columns), "trial")
        if name is not None and "trial" in tables[PRESENTATION]:
            given = given.rename(columns={name: "trial"})
            with naming(self.trials):
                tables[PRESENTATION] = _looked_up(tables[PRESENTATION], given, "trial", "trials")
        else:
            theirs = known_column(list(given.columns), STIMULUS_ID)
            given = given if theirs is None or STIMULUS_ID in given else given.rename(columns={theirs: STIMULUS_ID})
            with naming(self.trials):
                tables[PRESENTATION] = _looked_up(tables[PRESENTATION], given, STIMULUS_ID, "trials")

    def _join_sites(self, tables: dict[str, pd.DataFrame]) -> None:
        given = self.table(self.sites, "sites", NEUROID_ID)
        if given is not None:
            theirs = NEUROID_ID if NEUROID_ID in given else known_column(list(given.columns), NEUROID_ID)
            given = given if theirs is None else given.rename(columns={theirs: NEUROID_ID})
            with naming(self.sites):
                tables[NEUROID] = _looked_up(tables[NEUROID], given, NEUROID_ID, "sites")

    def of_contents(self, contents: Contents, attrs: Mapping[str, Any]) -> xr.DataArray:
        """Read a file of named arrays: one with the responses, and vectors that label its axes."""
        name = self.variable
        if name is not None and not isinstance(name, str):
            raise AssemblyError(
                f"variable: found {name!r}; expected one name of {contents.listed()}. Mend: variable='NAME'."
            )
        if self.counts and not (name and contents.part(name).holds_numbers and contents.part(name).n_axes > 1):
            spikes = self._spikes_of(contents, name)
            if spikes is not None:
                return self.count(
                    spikes, self.require_trials(contents.path.name), self.table(self.sites, "sites", NEUROID_ID), attrs
                )
        part = contents.values(name)
        given = {
            PRESENTATION: self.table(self.trials, "trials", STIMULUS_ID),
            NEUROID: self.table(self.sites, "sites", NEUROID_ID),
        }
        vectors = named_vectors(contents, part, self.columns, self.notes)
        shape = part.shape if part.n_axes > 1 or len(part.shape) > 1 else (*part.shape, 1)
        lengths = {dim: len(table) for dim, table in given.items() if table is not None}
        for ours, dim in ((STIMULUS_ID, PRESENTATION), (NEUROID_ID, NEUROID), ("time", TIME_BIN)):
            named = ours if ours in vectors else known_column(list(vectors), ours)
            if named is not None and dim not in lengths:
                lengths[dim] = len(vectors[named][1])
        if self.bins is not None:
            lengths[TIME_BIN] = len(window_edges(None, self.bins)[0])
        what = f"{part.name} of {contents.path.name}"
        axes = name_axes(shape, given=self.dims, in_file=part.dims, lengths=lengths, what=what, notes=self.notes)
        tables = label_axes(
            vectors, dict(zip(axes, shape, strict=True)), dict(zip(part.dims, axes, strict=False)), self.notes
        )
        for dim, table in given.items():
            if table is not None:
                tables[dim] = _beside(table, tables.get(dim))
        if self.bins is not None:
            starts, stops, _ = window_edges(None, self.bins)
            tables[TIME_BIN] = pd.DataFrame({"time_bin_start": starts, "time_bin_end": stops})
        values = contents.read(part).reshape(shape)
        return self.finish(
            values,
            axes,
            {dim: table for dim, table in tables.items() if len(table.columns)},
            {**attrs, "variable": part.name},
        )

    def _spikes_of(self, contents: Contents, name: str | None) -> dict[str, np.ndarray] | None:
        """Return spikes by site: a cell a site, or a vector of times beside one of sites; None where the file has neither."""
        cells = [part for part in contents.parts if part.dtype == "cells"] if name is None else [contents.part(name)]
        vectors = [part.name for part in contents.parts if part.n_axes == 1]
        time = self.columns.get("time") or known_column(vectors, "time")
        site = self.columns.get(NEUROID_ID) or known_column([v for v in vectors if v != time], NEUROID_ID)
        if time is not None and site is not None and name is None:
            self.notes.mapped |= {"time", NEUROID_ID} & set(self.columns)
            if not {"time", NEUROID_ID} <= set(self.columns):
                self.notes.guess(
                    f"spike times are in {time!r}, their sites in {site!r}: --map time=NAME, --map neuroid_id=NAME"
                )
            times, labels = (column_of(contents, contents.part(part)) for part in (time, site))
            if times is not None and labels is not None:
                return by_site(plain(times, name=time), plain(labels, name=site), contents.path.name)
        if len(cells) == 1 and cells[0].dtype == "cells":
            trains = contents.read(cells[0]).ravel()
            self.notes.guess(f"each cell of {cells[0].name!r} holds the spike times of a site")
            width = len(str(max(len(trains) - 1, 0)))
            return {
                f"site-{k:0{width}d}": np.sort(np.asarray([] if train is None else train, dtype=np.float64).ravel())
                for k, train in enumerate(trains)
            }
        return None

    def of_nwb(self, path: Path, attrs: Mapping[str, Any]) -> xr.DataArray:
        """Read an NWB file: the spikes of its units, or one of its tables or series."""
        own = self.trials if isinstance(self.trials, str) and self.trials.startswith("intervals/") else None
        session = read_session(path, None if own is None else own.removeprefix("intervals/"))
        given = None if own is not None or self.trials is None else self.require_trials(path.name)
        sites = session.sites if self.sites is None else as_frame(self.sites, what="sites", ids=NEUROID_ID)
        if self.variable is None:
            if not session.units or not self.counts:
                raise AssemblyError(
                    f"{path}: found {some([f'{n} ({w})' for n, w in summary(session).items()], 12) or 'nothing'}; expected to "
                    "be told "
                    "what to read. Mend: windows={'response': (70, 170)} or bins=(0, 300, 20) for the spikes of units "
                    "(--window, --bin, "
                    "in ms), or variable='NAME' (--var) for a table or series."
                )
            trials = require_table(session, path) if given is None else given
            return self.count(session.units, trials, sites, attrs, session.observed)
        if not isinstance(self.variable, str):
            raise AssemblyError(f"variable: found {self.variable!r}; expected one name. Mend: variable='NAME'.")
        item = read_item(path, self.variable)
        if isinstance(item, pd.DataFrame):
            self.variable, self.trials = None, given
            if given is None and session.trials is not None and len(session.trials) == len(item) and not is_long(item):
                self.trials = session.trials
            return self.of_table(item, f"{self.variable or 'a table'} of {path.name}", attrs)
        trials = renamed(require_table(session, path) if given is None else given, self.columns, self.notes)
        tables = {PRESENTATION: trials} | (
            {} if self.sites is None or sites is None else {NEUROID: renamed(sites, self.columns, self.notes)}
        )
        attrs = {**attrs, "variable": self.variable}
        return self._of_series(item, trials, tables, attrs)

    def _of_series(
        self, series: Series, trials: pd.DataFrame, tables: dict[str, pd.DataFrame], attrs: Mapping[str, Any]
    ) -> xr.DataArray:
        if not self.counts:
            if len(series.values) != len(trials):
                raise AssemblyError(
                    f"{attrs['variable']}: found {len(series.values)} samples and {len(trials)} trials; expected one a trial, "
                    "or windows to "
                    "average in. Mend: windows={'response': (70, 170)} (--window response=70:170), in ms."
                )
            self.notes.guess(
                f"each of the {len(series.values)} samples of {attrs['variable']} is a trial, in the order of the trials"
            )
            return self.finish(series.values, (PRESENTATION, NEUROID), tables, attrs)
        starts, stops, names = window_edges(self.windows, self.bins)
        values = averaged(series, onsets_of(trials, self.notes) / self.sampling_rate, starts, stops)
        tables[TIME_BIN] = pd.DataFrame(
            {"time_bin_start": starts, "time_bin_end": stops, **({"time_bin_name": names} if names else {})}
        )
        return self.finish(values, (PRESENTATION, NEUROID, TIME_BIN), tables, attrs)

    def of_spike_folder(self, path: Path, attrs: Mapping[str, Any]) -> xr.DataArray:
        """Read ``spike_times.npy`` and ``spike_clusters.npy``, as Kilosort and Phy write them."""
        if not self.counts:
            window_edges(self.windows, self.bins)
        times, clusters = (contents_of(path / f"{name}.npy", "npy") for name in ("spike_times", "spike_clusters"))
        read = [np.asarray(each.read(each.parts[0])).ravel() for each in (times, clusters)]
        if self.sampling_rate == 1.0:
            self.notes.guess("spike times are in seconds: --sampling-rate 30000 where they are samples at 30 kHz")
        return self.count(
            by_site(read[0], read[1], path.name),
            self.require_trials(path.name),
            self.table(self.sites, "sites", NEUROID_ID),
            attrs,
        )

    def of_assembly(self, assembly: xr.DataArray, attrs: Mapping[str, Any]) -> xr.DataArray:
        """Take a file that is an assembly already, with the tables and marks of the caller."""
        dims = tuple(map(str, assembly.dims))
        tables = {
            dim: pd.DataFrame({name: column for name, (_, column) in coords_of(assembly, dim).items()}) for dim in dims
        }
        for dim, given, what, own_id in (
            (PRESENTATION, self.trials, "trials", STIMULUS_ID),
            (NEUROID, self.sites, "sites", NEUROID_ID),
        ):
            tables[dim] = renamed(tables[dim], self.columns, self.notes)
            table = self.table(given, what, own_id)
            if table is not None:
                with naming(given):
                    tables[dim] = _looked_up(tables[dim], table, own_id, what)
        before = {str(name): value for name, value in assembly.attrs.items() if name != "n_missing_values"}
        for name, sentences in (("guessed", self.notes.guessed), ("left_out", self.notes.left_out)):
            # Of its own reading, which goes on to be true.
            sentences[:0] = [str(sentence) for sentence in np.atleast_1d(before.pop(name, []))]
        if "read_from" in before:
            attrs = {**attrs, **{name: before[name] for name in ("read_from", "format", "sha256") if name in before}}
        return self.finish(assembly.values, dims, tables, {**before, **attrs})


def _beside(table: pd.DataFrame, other: pd.DataFrame | None) -> pd.DataFrame:
    """Return a table with the further columns of another one that has as many rows."""
    if other is None or len(other) != len(table):
        return table
    return table.assign(**{str(name): other[name].to_numpy() for name in other if name not in table})


def _looked_up(table: pd.DataFrame, other: pd.DataFrame, name: str, what: str) -> pd.DataFrame:
    """Add the columns of another table by ids that both have.

    Raises
    ------
    AssemblyError
        The other table lacks the ids, some of them, or has one twice.
    """
    if name not in other or name not in table:
        raise AssemblyError(
            f"{what}: found columns {some(other, 20)} beside responses with {some(table, 20)}; expected {name!r} in both. Mend: "
            f"columns={{{name!r}: NAME}} (--map {name}=NAME)."
        )
    keys = pd.Index(id_texts(other[name].to_numpy(), name=name))
    if keys.has_duplicates:
        raise AssemblyError(
            f"{what}: found {name} {keys[keys.duplicated()][0]!r} in several rows; expected each once. Mend: drop the copies."
        )
    rows = keys.get_indexer(pd.Index(id_texts(table[name].to_numpy(), name=name)))
    if (rows < 0).any():
        first = table[name].iloc[int(np.flatnonzero(rows < 0)[0])]
        raise AssemblyError(
            f"{what}: found no row for {int((rows < 0).sum())} of {len(rows)} {name}, e.g. {str(first)!r}; expected one for "
            "each. Mend: "
            "add the rows, or leave these responses out."
        )
    return table.assign(**{str(n): other[n].to_numpy()[rows] for n in other if n != name})
