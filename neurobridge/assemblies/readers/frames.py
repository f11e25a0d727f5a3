"""Tables: of trials, of sites, and of responses, one value a row (long) or one trial a row (wide)."""

from __future__ import annotations

import csv
import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.forms import id_texts
from neurobridge.assemblies.labels import plain
from neurobridge.assemblies.readers.contents import unreadable
from neurobridge.assemblies.readers.files.hdf5 import require_io
from neurobridge.assemblies.readers.names import KNOWN, OF_TRIALS, key, known_column
from neurobridge.assemblies.readers.notes import Notes, some
from neurobridge.assemblies.schema import NEUROID_ID, REPETITION, STIMULUS_ID
from neurobridge.assemblies.tables import NO_NUMBER, SEPARATORS, SPREADSHEETS, read_table, separator_of
from neurobridge.points.memory import check_memory
from neurobridge.store.npy import read_npy

Table = str | os.PathLike[str] | pd.DataFrame | Mapping[str, Any] | Sequence[Any] | np.ndarray
PARQUET = (".parquet", ".pq")
#: Columns of ids: text in a csv file, whatever they look like.
ID_COLUMNS = tuple({*KNOWN[STIMULUS_ID], *KNOWN[NEUROID_ID]} - {"id", "label", "name", "sites", "units", "cells"})


def is_table(path: Path) -> bool:
    """Tell a table by the end of its name."""
    return path.suffix.casefold() in (*SEPARATORS, *SPREADSHEETS, *PARQUET)


def read_frame(path: Path, *, what: str, text: Sequence[str] = ()) -> pd.DataFrame:
    """Read a csv, tsv or parquet table; ids, and the columns in ``text``, are text in a csv or tsv file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    AssemblyError
        It is no such table.
    ImportError
        A parquet file without pyarrow.
    """
    if not path.exists():
        raise FileNotFoundError(f"found no file at {path}; expected a table ({what}). Mend: check the path.")
    if path.suffix.casefold() not in PARQUET:
        ids = [name for name in _header(path) if key(name) in ID_COLUMNS]
        return read_table(path, what=what, text=(*ids, *text))
    parquet = require_io("pyarrow", path, "parquet tables") and __import__("pyarrow.parquet").parquet
    try:
        with parquet.ParquetFile(path) as file:
            n_bytes = 16.0 * file.metadata.num_rows * file.metadata.num_columns
            check_memory(n_bytes, np.inf, f"the table {path.name}", mend="a table of fewer rows")
            table = file.read()
        # Text that is no UTF-8 would fail only when it is looked at.
        table.validate(full=True)
        return table.to_pandas().reset_index(drop=True)
    except MemoryError:
        raise
    # Damaged bytes end in almost any exception of the library.
    except Exception as error:
        raise unreadable(path, error, "a parquet table") from error


def _header(path: Path) -> list[str]:
    """Return the names in the first line of a csv file; none where it is no text, which is told when the table is read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return [name.strip() for name in next(csv.reader(stream, delimiter=separator_of(path)), [])]
    except (UnicodeDecodeError, csv.Error):
        return []


def as_frame(given: Table, *, what: str, ids: str, text: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table of trials or sites from a path, a table, a mapping of columns, or the ids alone.

    Parameters
    ----------
    given : path, table, mapping or sequence
        A csv, tsv or parquet file, an npy file of ids, a table, a mapping of name to column, or a sequence of ids.
    what : str
        Name of the table in messages.
    ids : str
        Name of the column of ids, where these are given alone.
    text : sequence of str
        Columns of a csv file that stay text.
    """
    if isinstance(given, pd.DataFrame):
        return given.reset_index(drop=True)
    if isinstance(given, Mapping):
        columns = {str(name): plain(column, name=f"{what}, column {name!r}") for name, column in given.items()}
        if len({column.shape for column in columns.values()}) > 1 or any(
            column.ndim != 1 for column in columns.values()
        ):
            shapes = {name: column.shape for name, column in columns.items()}
            raise AssemblyError(
                f"{what}: found columns of shapes {shapes}; expected one length. Mend: one value a row in each."
            )
        return pd.DataFrame(columns)
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        if path.suffix.casefold() == ".npy":
            return pd.DataFrame({ids: _vector(read_npy(path), str(path))})
        return read_frame(path, what=what, text=text)
    return pd.DataFrame({ids: _vector(plain(given, name=what), what)})


def _vector(values: np.ndarray, what: str) -> np.ndarray:
    if values.ndim != 1 or values.dtype.kind not in "USiuf":
        raise AssemblyError(
            f"{what}: found an array of shape {values.shape} of {values.dtype}; expected one id a row. Mend: a table with "
            "named columns."
        )
    return plain(values, name=what)


def is_long(table: pd.DataFrame) -> bool:
    """Tell a table with one value a row: it has a column of values, one of sites, and one of trials or stimuli."""
    columns = list(map(str, table.columns))
    value, site = known_column(columns, "value"), known_column(columns, NEUROID_ID)
    rows = known_column(columns, STIMULUS_ID) or known_column(columns, "trial")
    return None not in (value, site, rows) and len({value, site, rows}) == 3


def from_long(
    table: pd.DataFrame,
    notes: Notes,
    *,
    what: str,
    qualify: Mapping[str, Sequence[str]] | None = None,
) -> tuple[np.ndarray, tuple[str, ...], dict[str, pd.DataFrame]]:
    """Spread a table with one value a row out.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns for the value, the site, the stimulus or trial, and perhaps a time; ours or known names.
    notes : Notes
    what : str
    qualify : mapping of str to sequence of str, optional
        Columns whose values are put before ids, by ``neuroid_id`` and ``stimulus_id``.

    Returns
    -------
    values : array of shape (n_presentations, n_neuroids[, n_time_bins])
        NaN where the table has no row.
    axes : tuple of str
    tables : dict of str to pandas.DataFrame
        Of each axis.

    Raises
    ------
    AssemblyError
        A value is listed twice, a trial shows two stimuli, or the values are no numbers.
    MemoryError
        The array would be larger than the memory.
    """
    table = _qualified(_named(table, notes, what), qualify or {}, notes)
    numbers = plain(table["value"].to_numpy(), name=f"{what}, column 'value'")
    if numbers.dtype.kind not in "fiub":
        raise AssemblyError(
            f"{what}: found {numbers.dtype} in the column of values; expected numbers. Mend: columns={{'value': NAME}} (--map "
            "value=NAME)."
        )
    trial_keys = (
        [name for name in ("session", "trial") if name in table] if "trial" in table else [STIMULUS_ID, REPETITION]
    )
    trial_keys = [name for name in trial_keys if name in table]
    time_keys = [name for name in ("time_bin_start", "time_bin_end", "time") if name in table]
    rows, n_rows, first_rows = _numbered(table, trial_keys)
    columns, n_columns, first_columns = _numbered(table, [NEUROID_ID])
    bins, n_bins, first_bins = (
        _numbered(table, time_keys[:1], sort=True) if time_keys else (np.zeros(len(table), int), 1, np.zeros(1, int))
    )
    shape = (n_rows, n_columns, n_bins)
    check_memory(
        8.0 * np.prod(np.array(shape, dtype=float)),
        np.inf,
        f"the responses of {what}, {shape}",
        mend="a part of the table",
    )
    place = np.ravel_multi_index((rows, columns, bins), shape)
    repeated = pd.Index(place).duplicated()
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        shown = {name: str(table[name].iloc[row]) for name in (*trial_keys, NEUROID_ID, *time_keys)}
        raise AssemblyError(
            f"{what}: found {int(repeated.sum())} values beside another of the same {', '.join(shown)}, e.g. {shown}; "
            "expected one. "
            "Mend: name the column that tells the trials apart, columns={'trial': NAME} (--map trial=NAME), or 'repetition'."
        )
    values = np.full(shape, np.nan)
    values.ravel()[place] = numbers
    if "trial" in trial_keys and STIMULUS_ID in table:
        _refuse_two_stimuli(table, rows, first_rows, what)
    of_rows, of_columns = _constant(table, rows, first_rows), _constant(table, columns, first_columns)
    taken = {"value", *time_keys, *trial_keys, STIMULUS_ID, NEUROID_ID}
    of_columns = [
        name
        for name in of_columns
        if (name not in taken and name not in of_rows) or name in ("region", "animal", "layer", "hemisphere")
    ]
    of_rows = [name for name in of_rows if name not in of_columns and name not in ("value", NEUROID_ID, *time_keys)]
    lost = [name for name in map(str, table.columns) if name not in (*of_rows, *of_columns, *taken)]
    if lost:
        notes.leave_out(f"columns {some(lost)} of {what}, which are constant neither in a trial nor in a site")
    tables = {
        "presentation": table.iloc[first_rows][of_rows].reset_index(drop=True),
        "neuroid": table.iloc[first_columns][[NEUROID_ID, *of_columns]].reset_index(drop=True),
    }
    if not time_keys:
        return values[:, :, 0], ("presentation", "neuroid"), tables
    tables["time_bin"] = table.iloc[first_bins][time_keys].reset_index(drop=True)
    return values, ("presentation", "neuroid", "time_bin"), tables


def _named(table: pd.DataFrame, notes: Notes, what: str) -> pd.DataFrame:
    """Give the columns of a long table our names, and its ids as text."""
    table = table.set_axis([str(name) for name in table.columns], axis=1)
    for ours in ("value", STIMULUS_ID, NEUROID_ID, "trial", REPETITION, "time"):
        bins = {"time_bin_start", "time_bin_end"} & set(table.columns)
        if ours in table or (ours == "time" and bins):
            continue
        theirs = known_column([name for name in table.columns if name not in KNOWN], ours)
        if theirs is not None:
            notes.guess(f"column {theirs!r} of {what} is {ours}: --map {ours}=NAME takes another")
            table = table.rename(columns={theirs: ours})
    for ours in (STIMULUS_ID, NEUROID_ID):
        if ours in table:
            table[ours] = id_texts(table[ours].to_numpy(), name=f"{what}, column {ours!r}")
    return table


def _qualified(table: pd.DataFrame, qualify: Mapping[str, Sequence[str]], notes: Notes) -> pd.DataFrame:
    """Put the values of columns before ids; note sites that several sessions or animals share, where that was not asked for."""
    for ours, names in qualify.items():
        if ours in table and names:
            parts = [id_texts(table[name].to_numpy(), name=name) for name in (*names, ours)]
            table = table.assign(**{ours: ["-".join(row) for row in zip(*parts, strict=True)]})
    for name in ("animal", "session"):
        if (
            name in table
            and name not in qualify.get(NEUROID_ID, ())
            and (table.groupby(NEUROID_ID)[name].nunique() > 1).any()
        ):
            notes.guess(
                f"sites of one id in several values of {name!r} are the same sites: --{name} {name} tells them apart"
            )
    return table


def _numbered(table: pd.DataFrame, names: Sequence[str], *, sort: bool = False) -> tuple[np.ndarray, int, np.ndarray]:
    """Number the different rows of some columns, in order of appearance, with the first row of each."""
    if not names:
        return np.zeros(len(table), dtype=int), 1, np.zeros(1, dtype=int)
    codes = table.groupby(list(names), sort=sort, dropna=False).ngroup().to_numpy()
    _, first = np.unique(codes, return_index=True)
    return codes, len(first), first


def _constant(table: pd.DataFrame, codes: np.ndarray, first: np.ndarray) -> list[str]:
    names = []
    for name in map(str, table.columns):
        column = pd.factorize(table[name], use_na_sentinel=False)[0]
        if (column == column[first][codes]).all():
            names.append(name)
    return names


def _refuse_two_stimuli(table: pd.DataFrame, rows: np.ndarray, first: np.ndarray, what: str) -> None:
    ids = table[STIMULUS_ID].to_numpy()
    other = ids != ids[first][rows]
    if other.any():
        row = int(np.flatnonzero(other)[0])
        raise AssemblyError(
            f"{what}: found the stimuli {ids[first][rows][row]!r} and {ids[row]!r} in the trial {str(table['trial'].iloc[row])!r}; "
            "expected one "
            "in a trial. Mend: a column that numbers trials through all sessions, columns={'trial': NAME} (--map trial=NAME), or a "
            "column named session beside it."
        )


def from_wide(
    table: pd.DataFrame, variable: str | Sequence[str] | None, notes: Notes, *, what: str
) -> tuple[np.ndarray, tuple[str, ...], dict[str, pd.DataFrame]]:
    """Take the sites of a table with one trial a row and one column a site.

    Parameters
    ----------
    table : pandas.DataFrame
    variable : str or sequence of str, optional
        Names or patterns (``site_*``) of the columns of sites. By default the columns of numbers whose names are numbered, or
        else all columns of numbers but those that usually describe trials.
    notes : Notes
    what : str

    Returns
    -------
    values, axes, tables
        As `from_long`.

    Raises
    ------
    AssemblyError
        No column is one of a site, or one holds no numbers.
    """
    table = table.set_axis([str(name) for name in table.columns], axis=1)
    held = {name: _numbers_of(table[name], name) for name in table.columns}
    numeric = [name for name in table.columns if held[name] is not None]
    if variable is not None:
        wanted = (
            [part.strip() for part in variable.split(",")] if isinstance(variable, str) else list(map(str, variable))
        )
        sites = [name for name in table.columns if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)]
    else:
        sites = _columns_of_sites(table, held)
        if sites:
            others = [name for name in table.columns if name not in sites]
            notes.guess(
                f"{len(sites)} columns of {what} are sites ({some(sites, 3)}), the others describe trials ({some(others)}): "
                "--var 'PATTERN*' takes others"
            )
    wrong = [name for name in sites if name not in numeric]
    if not sites or wrong:
        raise AssemblyError(
            f"{what}: found {f'text in {some(wrong)}' if wrong else 'no columns of sites'} among the columns "
            f"{some(table.columns, 20)}; "
            "expected columns of numbers, one a site. Mend: variable='site_*' (--var 'site_*'), or, for a table with one "
            "value a row, columns={'value': NAME, 'neuroid_id': NAME} (--map)."
        )
    values = np.column_stack([np.asarray(held[name], dtype=np.float64) for name in sites])
    tables = {"presentation": table.drop(columns=sites), "neuroid": pd.DataFrame({NEUROID_ID: sites})}
    return values, ("presentation", "neuroid"), tables


def _numbers_of(column: pd.Series, name: str) -> np.ndarray | None:
    """Return the numbers of a column, NaN of one that is empty; None where it holds text."""
    values = plain(column.to_numpy(), name=f"column {name!r}")
    if values.dtype.kind in "fiub":
        return values
    return (
        np.full(len(values), np.nan)
        if values.dtype.kind == "U" and all(c.strip() in NO_NUMBER for c in values)
        else None
    )


def _columns_of_sites(table: pd.DataFrame, held: dict[str, np.ndarray | None]) -> list[str]:
    """Choose the columns of numbers whose names are numbered, or else all but those that usually describe trials."""
    of_trials = (*OF_TRIALS, *KNOWN[STIMULUS_ID], *KNOWN[REPETITION], *KNOWN["trial"])
    free = [name for name, numbers in held.items() if numbers is not None and key(name) not in of_trials]
    counted = [name for name in free if re.search(r"\d", name)]
    if len(counted) > 1:
        return counted
    # An empty column without a number in its name may be anything.
    return [name for name in free if table[name].dtype.kind in "fiub"]
