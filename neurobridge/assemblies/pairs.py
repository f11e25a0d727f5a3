"""Pairs of stimuli that are known in both spaces."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.ids import join_rows, joined_message, mend_ids, of_assembly, show_ids
from neurobridge.assemblies.labels import missing_rows, plain, present_labels
from neurobridge.assemblies.matching import match_stimuli
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID, present_ids, require_unique_stimuli
from neurobridge.assemblies.tables import read_table
from neurobridge.points.display import format_fact, html_repr, short_repr
from neurobridge.store.atomic import atomic_path
from neurobridge.store.kinds import register


@register("pairs")
@dataclass(frozen=True, eq=False)
class Pairs:
    """Anchor pairs: ``source_id[p]`` in one space shows the same thing as ``target_id[p]`` in the other.

    Parameters
    ----------
    source_id, target_id : array of str, shape (n_pairs,)
        Stimulus ids. An id may appear in several pairs (many images, one caption).

    Raises
    ------
    AssemblyError
        The two columns differ in length, an id is missing, or a pair is listed twice.

    Examples
    --------
    >>> from neurobridge.assemblies import Pairs
    >>> pairs = Pairs(["photo 1", "photo 2", "photo 3"], ["a dog", "a cat", "a dog"])
    >>> pairs
    Pairs(3 pairs of 3 source and 2 target stimuli: 'photo 1' - 'a dog', 'photo 2' - 'a cat', 'photo 3' - 'a dog')
    >>> len(pairs.draw(2, seed=0))
    2
    """

    source_id: np.ndarray
    target_id: np.ndarray

    def __post_init__(self) -> None:
        source, target = (
            present_labels(ids, name=f"{role}_id", role="pairs", mend="drop the rows without an id on either side")
            for role, ids in (("source", self.source_id), ("target", self.target_id))
        )
        if source.shape != target.shape or source.ndim != 1:
            raise AssemblyError(
                f"pairs: found {source.shape} source ids and {target.shape} target ids; expected two equally long "
                "columns. Mend: give one target id for each source id."
            )
        repeated = pd.MultiIndex.from_arrays([source, target]).duplicated()
        if repeated.any():
            row = int(np.flatnonzero(repeated)[0])
            raise AssemblyError(
                f"pairs: found the pair ({str(source[row])!r}, {str(target[row])!r}) twice; expected each pair once. "
                "Mend: drop the duplicate rows."
            )
        object.__setattr__(self, "source_id", source)
        object.__setattr__(self, "target_id", target)

    def __len__(self) -> int:
        return len(self.source_id)

    def __repr__(self) -> str:
        facts = self._facts()
        sizes = (
            f"{facts['pairs']} pairs of {facts['source stimuli']} source and {facts['target stimuli']} target stimuli"
        )
        return short_repr("Pairs", f"{sizes}: {facts['first']}" if len(self) else sizes)

    def _repr_html_(self) -> str:
        return html_repr("Pairs", self._facts())

    def _facts(self) -> dict[str, Any]:
        shown = zip(self.source_id[:3].tolist(), self.target_id[:3].tolist(), strict=True)
        first = [f"{format_fact(repr(source))} - {format_fact(repr(target))}" for source, target in shown]
        return {
            "pairs": len(self),
            "source stimuli": len(np.unique(self.source_id)),
            "target stimuli": len(np.unique(self.target_id)),
            "first": ", ".join(first) + (", ..." if len(self) > 3 else ""),
        }

    @classmethod
    def shared(cls, source: xr.DataArray, target: xr.DataArray) -> Pairs:
        """Pair every stimulus that is in both assemblies with itself, in the source's order; each side by its own id.

        Parameters
        ----------
        source, target : xarray.DataArray
            Assemblies with one presentation a stimulus.

        Returns
        -------
        Pairs

        Raises
        ------
        AssemblyError
            No stimulus is shared, or one is presented more than once.
        """
        matched = match_stimuli(source, target)
        return cls(matched.source.coords[STIMULUS_ID].values, matched.target.coords[STIMULUS_ID].values)

    @classmethod
    def from_table(cls, table: pd.DataFrame | Mapping[str, Any]) -> Pairs:
        """Read pairs from a table with the columns ``source_id`` and ``target_id``.

        Parameters
        ----------
        table : pandas.DataFrame or mapping of str to sequence

        Returns
        -------
        Pairs

        Raises
        ------
        AssemblyError
            A column or an id is missing, or a pair is listed twice.
        """
        missing = [name for name in ("source_id", "target_id") if name not in table]
        if missing:
            raise AssemblyError(
                f"pairs table: found columns {sorted(map(str, table))}; expected source_id and target_id. "
                "Mend: rename the columns."
            )
        return cls(*(plain(table[name], name=name) for name in ("source_id", "target_id")))

    @classmethod
    def by_label(cls, source: xr.DataArray, target: xr.DataArray, label: str) -> Pairs:
        """Pair every source stimulus with every target stimulus of the same label (many images, one caption).

        Parameters
        ----------
        source, target : xarray.DataArray
        label : str
            Presentation coordinate of both. Stimuli without a label (None, NaN, NaT, blank text) are in no pair.

        Returns
        -------
        Pairs

        Warns
        -----
        UserWarning
            Counts the stimuli without a label.

        Raises
        ------
        AssemblyError
            The coordinate is missing, no label is shared, or a stimulus without an id has a label.

        Examples
        --------
        >>> from neurobridge.assemblies import Pairs, make_assembly
        >>> photos = make_assembly(
        ...     [[1.0], [2.0], [3.0]],  # simulated
        ...     presentation={"stimulus_id": ["p0", "p1", "p2"], "animal": ["dog", "cat", "dog"]},
        ...     neuroid={"neuroid_id": ["n0"]},
        ... )
        >>> words = make_assembly(
        ...     [[1.0], [2.0]],
        ...     presentation={"stimulus_id": ["w0", "w1"], "animal": ["dog", "cow"]},
        ...     neuroid={"neuroid_id": ["n0"]},
        ... )
        >>> Pairs.by_label(photos, words, "animal").source_id.tolist()
        ['p0', 'p2']
        """
        tables = [_labelled(assembly, role, label) for role, assembly in (("source", source), ("target", target))]
        of_source, of_target = (table["label"].to_numpy() for table in tables)
        # pandas refuses to join text with numbers.
        comparable = len({kind == "U" for kind in (plain(of_source).dtype.kind, plain(of_target).dtype.kind)}) == 1
        merged = tables[0].merge(tables[1], on="label", how="inner") if comparable else tables[0].iloc[:0]
        if merged.empty:
            sides = of_assembly("source", label), of_assembly("target", label)
            difference, mend = mend_ids(of_source, of_target, *sides)
            raise AssemblyError(
                f"pairs: found no {label!r} shared by source (e.g. {show_ids(of_source)}) and target (e.g. "
                f"{show_ids(of_target)}){difference}; expected at least one. "
                f"Mend: {mend or 'check the spelling of the labels on both sides'}."
            )
        return cls.from_table(merged)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Pairs:
        """Read pairs from a csv file with the columns ``source_id`` and ``target_id``; ids are text, "NA" and "007" too.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        AssemblyError
            The file is no table, a column is missing or an id is empty.
        """
        return cls.from_table(read_table(path, what="pairs", required=("source_id", "target_id"), numbers=False))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write pairs as csv, atomically; missing parent folders are made.

        Parameters
        ----------
        path : path

        Returns
        -------
        pathlib.Path
            The file written.
        """
        path = Path(path)
        table = pd.DataFrame({"source_id": self.source_id, "target_id": self.target_id})
        with atomic_path(path) as partial:
            table.to_csv(partial, index=False)
        return path

    def draw(self, size: int | float, *, seed: int, stratify: npt.ArrayLike | None = None) -> Pairs:
        """Draw pairs without replacement: a count (``int``) or a fraction (``float`` in (0, 1]).

        Parameters
        ----------
        size : int or float
            A fraction is rounded, and at least two pairs.
        seed : int
        stratify : array of shape (n_pairs,), optional
            Class of each pair. Every class is drawn in proportion to its size, and at least once.

        Returns
        -------
        Pairs

        Raises
        ------
        AssemblyError
            More pairs are asked for than there are, the fraction is outside (0, 1], a class is missing, or there are more
            classes than pairs to draw.
        """
        if isinstance(size, float):
            if not 0 < size <= 1:
                raise AssemblyError(
                    f"pairs: found fraction {size}; expected a value in (0, 1]. Mend: e.g. 0.1 for 10%."
                )
            size = max(2, round(size * len(self)))
        if not 1 <= size <= len(self):
            raise AssemblyError(
                f"pairs: found a request for {size} of {len(self)} pairs; expected between 1 and {len(self)}. "
                "Mend: ask for fewer."
            )
        rng = np.random.default_rng(seed)
        if stratify is None:
            chosen = np.sort(rng.choice(len(self), size=size, replace=False))
        else:
            labels = present_labels(
                stratify, name="label", role="pairs", mend="leave those pairs out, or stratify on another label"
            )
            chosen = self._stratified(size, labels, rng)
        return Pairs(self.source_id[chosen], self.target_id[chosen])

    def _stratified(self, size: int, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if labels.shape != (len(self),):
            raise AssemblyError(
                f"pairs: found labels of shape {labels.shape}; expected ({len(self)},), one a pair. Mend: index the labels by the "
                "pairs' stimuli."
            )
        classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        if len(classes) > size:
            raise AssemblyError(
                f"pairs: found {len(classes)} classes and {size} pairs to draw; expected at least one pair a class. "
                "Mend: draw more, or stratify on a coarser label."
            )
        # Largest remainders, after one pair for each class.
        share = np.maximum(size * counts / len(self), 1)
        quota = np.maximum(np.floor(share).astype(int), 1)
        while quota.sum() > size:
            quota[np.argmax(np.where(quota > 1, quota - share, -np.inf))] -= 1
        while quota.sum() < size:
            quota[np.argmax(np.where(quota < counts, share - quota, -np.inf))] += 1
        order = rng.permutation(len(self))
        rank = np.empty(len(self), dtype=int)
        for code in range(len(classes)):
            members = order[codes[order] == code]
            rank[members] = np.arange(len(members))
        return np.flatnonzero(rank < quota[codes])

    def indices(self, source: xr.DataArray, target: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the pairs in two assemblies.

        Ids of pairs that are text name ids that are numbers by their text, as a csv file does: "5" is 5, "05" is not.

        Parameters
        ----------
        source, target : xarray.DataArray
            Assemblies with one presentation a stimulus.

        Returns
        -------
        i, j : int arrays of shape (n_pairs,)
            ``source[i[p]]`` and ``target[j[p]]`` are pair p.

        Raises
        ------
        AssemblyError
            A pair id is not in the data, or a stimulus is presented more than once.
        """
        rows_of_role = []
        for role, assembly, ids in (("source", source, self.source_id), ("target", target, self.target_id)):
            require_unique_stimuli(assembly, role=role)
            given = assembly.coords[STIMULUS_ID].values
            joined = join_rows(ids, given)
            rows = joined.rows
            if joined.by_extension.any():
                warnings.warn(joined_message(joined, ids, given, ("pairs", role)), UserWarning, stacklevel=2)
            if (rows < 0).any():
                unknown = ids[rows < 0]
                difference, mend = mend_ids(unknown, given, _of_pairs(role), of_assembly(role))
                raise AssemblyError(
                    f"pairs: found {len(unknown)} {role} id(s) that are not in the data, e.g. {show_ids(unknown)}; expected ids "
                    f"among the {len(given)} {role} stimuli, e.g. {show_ids(given)}{difference}. "
                    f"Mend: {mend or 'drop those pairs or load their data'}."
                )
            rows_of_role.append(rows)
        return rows_of_role[0], rows_of_role[1]


def _of_pairs(role: str) -> Callable[[str], str]:
    """Return the function that writes the statement which changes the ids of one side of pairs by some calls."""
    columns = {side: f"pairs.{side}_id" for side in ("source", "target")}

    def change(calls: str) -> str:
        changed = {**columns, role: f"pandas.Series({columns[role]}){calls}"}
        return f"pairs = neurobridge.Pairs({changed['source']}, {changed['target']})"

    return change


def _labelled(assembly: xr.DataArray, role: str, label: str) -> pd.DataFrame:
    """Return the id and the label of the stimuli that have a label; warn of those that have none."""
    if label not in assembly.coords or assembly.coords[label].dims != (PRESENTATION,):
        raise AssemblyError(
            f"{role}: found coordinates {sorted(map(str, assembly.coords))}; expected {label!r} on presentation. "
            f"Mend: assembly.assign_coords({label}=('presentation', labels))."
        )
    ids, labels = present_ids(assembly, role=role), plain(assembly.coords[label].values, name=label)
    absent = missing_rows(labels)
    if absent.all():
        raise AssemblyError(
            f"{role}: found no {label!r} of {len(labels)} stimuli that is not missing; expected labels. "
            f"Mend: assembly.assign_coords({label}=('presentation', labels))."
        )
    if absent.any():
        warnings.warn(
            f"{role}: found {int(absent.sum())} of {len(labels)} stimuli without {label!r}, e.g. {show_ids(ids[absent])}; they are "
            f"in no pair. Mend: neurobridge.assemblies.drop_missing({role}, {label!r}) leaves them out beforehand.",
            UserWarning,
            stacklevel=3,
        )
    return pd.DataFrame({f"{role}_id": ids[~absent], "label": labels[~absent]})
