"""Vectors in a file of arrays, as labels of the axes of the responses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.labels import plain
from neurobridge.assemblies.readers.axes import one_row_each
from neurobridge.assemblies.readers.contents import Contents, Part, column_of
from neurobridge.assemblies.readers.names import KNOWN, axis_of, key
from neurobridge.assemblies.readers.notes import Notes
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, STIMULUS_ID, TIME_BIN

_ID_OF = {PRESENTATION: STIMULUS_ID, NEUROID: NEUROID_ID, TIME_BIN: "time"}
Vectors = dict[str, tuple[Part, np.ndarray]]


def named_vectors(contents: Contents, main: Part, columns: Mapping[str, str], notes: Notes) -> Vectors:
    """Return the vectors of a file by our names where ``columns`` maps them, else by the last of their own names.

    Parameters
    ----------
    contents : Contents
    main : Part
        The responses, which are left out.
    columns : mapping of str to str
        Ours to theirs.
    notes : Notes
    """
    ours = {}
    for name, theirs in columns.items():
        try:
            ours[contents.part(theirs).name] = name
        except AssemblyError:
            continue
    notes.mapped |= set(ours.values())
    vectors: Vectors = {}
    for part in contents.parts:
        if part.name == main.name:
            continue
        name = ours.get(part.name) or part.name.replace("/", ".").rpartition(".")[2]
        column = _labels(contents, part)
        if column is None:
            if part.n_axes > 1 or part.name in ours or part.dtype == "cells":
                notes.leave_out(f"{part.name} {part.shape} {part.dtype}, which is no vector of labels")
        elif name in vectors:
            notes.leave_out(f"{part.name}, as another vector is called {name!r}")
        else:
            vectors[name] = (part, column)
    for unread in contents.unread:
        notes.leave_out(unread)
    return vectors


def _labels(contents: Contents, part: Part) -> np.ndarray | None:
    column = column_of(contents, part)
    if column is None:
        return None
    try:
        return one_row_each(plain(column, name=part.name))
    except AssemblyError:
        return None


def label_axes(
    vectors: Vectors, sizes: Mapping[str, int], axis_names: Mapping[str, str], notes: Notes
) -> dict[str, pd.DataFrame]:
    """Put vectors on the axes that they label: by the name of their own axis, by their name, or by their length.

    Parameters
    ----------
    vectors : dict
    sizes : mapping of str to int
        Length of each dimension of the responses.
    axis_names : mapping of str to str
        Dimension by the name of an axis in the file.
    notes : Notes

    Returns
    -------
    dict of str to pandas.DataFrame
    """
    columns: dict[str, dict[str, np.ndarray]] = {dim: {} for dim in _ID_OF}
    for name, (part, column) in vectors.items():
        fitting = [dim for dim, size in sizes.items() if size == len(column) and dim in columns]
        dim = axis_names.get(part.dims[0]) if len(part.dims) == 1 else None
        if dim is None and len(fitting) > 1:
            dim = next(
                (d for d in fitting if key(name) in (d, _ID_OF[d], *KNOWN[_ID_OF[d]]) or axis_of(name) == d), None
            )
            if dim is None:
                notes.leave_out(f"{part.name} {part.shape}, as {' and '.join(fitting)} have this length")
                continue
        elif dim is None and fitting:
            dim = fitting[0]
        if dim in columns and len(column) == sizes.get(dim):
            columns[dim][name] = column
        elif len(column) > 1:
            notes.leave_out(f"{part.name} {part.shape}, which labels no axis")
    return {dim: pd.DataFrame(named) for dim, named in columns.items() if named}
