"""Names under which laboratories keep ids, values and axes, and the columns of an assembly that they are read as."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.forms import id_texts
from neurobridge.assemblies.labels import missing_rows
from neurobridge.assemblies.readers.notes import Notes, some
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, REPETITION, STIMULUS_ID, TIME_BIN

#: Names of columns that are taken for one of ours, the first one that is there; capitals, spaces and hyphens do not count.
KNOWN: dict[str, tuple[str, ...]] = {
    STIMULUS_ID: (
        "stimulus_id", "image_id", "stimulus_name", "image_name", "stimulus", "image", "image_file_name", "image_file",
        "stimulus_file", "filename", "file_name", "file", "picture", "stim_id", "stim_name", "stim", "img", "stimuli", "images",
        "image_names", "image_ids", "stimulus_ids", "video", "sound", "caption", "sentence",
    ),
    NEUROID_ID: (
        "neuroid_id", "site_id", "unit_id", "neuron_id", "channel_id", "electrode_id", "cell_id", "roi_id", "voxel_id",
        "cluster_id", "site", "unit", "neuron", "channel", "electrode", "cell", "roi", "voxel", "cluster", "neuroid", "unit_ids",
        "site_ids", "neuron_ids", "cell_ids", "channel_ids", "sites", "units", "neurons", "channels", "cells", "site_names",
        "channel_names", "spike_clusters", "clusters", "id", "label", "name",
    ),
    REPETITION: ("repetition", "repeat", "rep", "repetition_number", "repeat_number", "repeats", "repetitions"),
    "trial": ("trial", "trial_id", "trial_number", "presentation", "presentation_id", "trials"),
    "value": (
        "value", "response", "rate", "firing_rate", "spike_count", "count", "counts", "spikes", "activity", "dff", "df_f", "beta",
        "amplitude", "values", "responses",
    ),
    "time": ("time", "time_bin_start", "time_bin", "bin", "t", "spike_time", "spike_times", "times", "timestamp", "timestamps"),
    "onset": (
        "onset", "stimulus_onset", "stim_on_time", "stim_on", "start_time", "onset_time", "image_on", "start", "time", "t_on",
    ),
}  # fmt: skip
#: Names of axes.
AXES: dict[str, tuple[str, ...]] = {
    PRESENTATION: ("presentation", "trial", "stimulus", "image", "stim", "picture", "sample", "condition"),
    NEUROID: ("neuroid", "site", "unit", "neuron", "channel", "cell", "electrode", "roi", "voxel", "feature"),
    TIME_BIN: ("time_bin", "time", "bin", "t", "timepoint"),
    REPETITION: ("repetition", "repeat", "rep"),
}
#: Columns of a wide table of trials that are numbers and no sites.
OF_TRIALS = (
    "trial", "block", "run", "day", "date", "session", "repetition", "onset", "offset", "start_time", "stop_time", "duration",
    "start", "stop", "time", "size", "scale", "s", "tx", "ty", "tz", "x", "y", "z", "rxy", "rxz", "ryz", "rotation",
    "contrast", "orientation", "variation", "background_id", "index", "order", "reaction_time", "rt", "correct", "eye_x", "eye_y",
)  # fmt: skip


def key(name: object) -> str:
    """Return a name as names are compared: in small letters, with ``_`` between its words.

    Examples
    --------
    >>> key("Image Name"), key("image-name")
    ('image_name', 'image_name')
    """
    return re.sub(r"[\s\-.]+", "_", str(name).strip()).casefold()


def axis_of(word: object) -> str | None:
    """Return the dimension of an assembly that a word names, singular or plural; None where it names none.

    Examples
    --------
    >>> axis_of("Units"), axis_of("images"), axis_of("depth")
    ('neuroid', 'presentation', None)
    """
    plain = key(word)
    singular = {plain, plain.removesuffix("s"), plain.removesuffix("es"), plain.removesuffix("_id")}
    if plain == "stimuli":
        return PRESENTATION
    return next((axis for axis, words in AXES.items() if singular & set(words)), None)


def known_column(columns: Sequence[object], ours: str) -> str | None:
    """Return the column that is known to hold one of ours, the first in the order of `KNOWN`; None where none is.

    Examples
    --------
    >>> known_column(["Trial", "Image Name"], "stimulus_id")
    'Image Name'
    """
    by_key: dict[str, str] = {}
    for column in columns:
        by_key.setdefault(key(column), str(column))
    return next((by_key[name] for name in KNOWN[ours] if name in by_key), None)


def renamed(table: pd.DataFrame, columns: Mapping[str, str], notes: Notes) -> pd.DataFrame:
    """Return a table whose columns have our names, where ``columns`` maps ours to theirs and theirs are there.

    A column that has one of our names, and is not the one that was named, is kept as ``<name>_in_file``.
    """
    names = {str(name) for name in table.columns}
    table = table.set_axis([str(name) for name in table.columns], axis=1)
    changes = {theirs: ours for ours, theirs in columns.items() if theirs in names}
    if len(changes) < sum(theirs in names for theirs in columns.values()):
        twice = next(theirs for theirs in columns.values() if list(columns.values()).count(theirs) > 1)
        raise AssemblyError(
            f"columns: found the column {twice!r} under several names in {dict(columns)}; expected it once. Mend: leave one out."
        )
    notes.mapped |= set(changes.values())
    displaced = {ours: f"{ours}_in_file" for theirs, ours in changes.items() if ours in names and ours not in changes}
    displaced = {old: new for old, new in displaced.items() if changes.get(old) is None}
    return table.rename(columns=displaced).rename(columns=changes)


def require_mapped(columns: Mapping[str, str], notes: Notes, seen: Sequence[object]) -> None:
    """Refuse a name of ``columns`` that stands in none of the tables that were read."""
    unused = [name for name in columns if name not in notes.mapped]
    if unused:
        theirs = columns[unused[0]]
        raise AssemblyError(
            f"columns: found no column {theirs!r} for {unused[0]!r}; expected one of {some(sorted(set(map(str, seen))), 20)}. "
            f"Mend: columns={{{unused[0]!r}: ...}} with one of these, or --map {unused[0]}=NAME."
        )


def with_ids(table: pd.DataFrame, ours: str, notes: Notes, *, what: str) -> pd.DataFrame:
    """Return a table with the column ``ours`` of ids as text, taken from a column with a known name where it has none.

    Raises
    ------
    AssemblyError
        No column has a known name, or a row has no id.
    """
    if ours not in table.columns:
        theirs = known_column(list(table.columns), ours)
        if theirs is None:
            raise AssemblyError(
                f"{what}: found columns {some(table.columns, 20)}; expected {ours!r}, or one of the usual names "
                f"({some(KNOWN[ours][:8], 8)}, ...). Mend: columns={{{ours!r}: NAME}}, or --map {ours}=NAME on the command line."
            )
        others = [name for name in map(str, table.columns) if name != theirs and key(name) in KNOWN[ours][:14]]
        beside = f" (there are {some(others)}, too)" if others else ""
        notes.guess(f"column {theirs!r} of {what} is {ours}{beside}: --map {ours}=NAME takes another")
        table = table.rename(columns={theirs: ours})
    ids = id_texts(table[ours].to_numpy(), name=f"{what}, column {ours!r}")
    absent = np.flatnonzero(missing_rows(ids))
    if len(absent):
        raise AssemblyError(
            f"{what}: found {len(absent)} of {len(ids)} rows without {ours}, the first in row {absent[0] + 1}; expected one in "
            f"every row. Mend: fill it, or leave the rows out of the table and of the values."
        )
    table = table.copy()
    table[ours] = ids
    return table
