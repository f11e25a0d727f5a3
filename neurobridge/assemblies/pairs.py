"""Pairs of stimuli that are known in both spaces."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from neurobridge.assemblies.matching import match_stimuli
from neurobridge.assemblies.schema import (
    PRESENTATION,
    STIMULUS_ID,
    AssemblyError,
    plain,
    require_unique_stimuli,
)
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
        The two columns differ in length, or a pair is listed twice.

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
        source, target = plain(self.source_id), plain(self.target_id)
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
        """Pair every stimulus that is in both assemblies with itself, in the source's order.

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
        ids = matched.source.coords[STIMULUS_ID].values
        return cls(ids, ids)

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
            A column is missing, or a pair is listed twice.
        """
        missing = [name for name in ("source_id", "target_id") if name not in table]
        if missing:
            raise AssemblyError(
                f"pairs table: found columns {sorted(map(str, table))}; expected source_id and target_id. "
                "Mend: rename the columns."
            )
        return cls(plain(table["source_id"]), plain(table["target_id"]))

    @classmethod
    def by_label(cls, source: xr.DataArray, target: xr.DataArray, label: str) -> Pairs:
        """Pair every source stimulus with every target stimulus of the same label (many images, one caption).

        Parameters
        ----------
        source, target : xarray.DataArray
        label : str
            Presentation coordinate of both.

        Returns
        -------
        Pairs

        Raises
        ------
        AssemblyError
            The coordinate is missing, or no label is shared.
        """
        columns = []
        for role, assembly in (("source", source), ("target", target)):
            if label not in assembly.coords:
                raise AssemblyError(
                    f"{role}: found coordinates {sorted(map(str, assembly.coords))}; expected {label!r}. "
                    f"Mend: assembly.assign_coords({label}=('presentation', labels))."
                )
            ids = assembly.coords[STIMULUS_ID].values
            columns.append(pd.DataFrame({f"{role}_id": ids, "label": assembly.coords[label].values}))
        merged = columns[0].merge(columns[1], on="label", how="inner")
        if merged.empty:
            raise AssemblyError(f"pairs: found no {label!r} shared by source and target; expected at least one. "
                                "Mend: check the spelling of the labels on both sides.")  # fmt: skip
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
            More pairs are asked for than there are, the fraction is outside (0, 1], or there are more classes than pairs to draw.
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
            chosen = self._stratified(size, plain(stratify), rng)
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
            rows = pd.Index(assembly.coords[STIMULUS_ID].values).get_indexer(pd.Index(ids))
            if (rows < 0).any():
                unknown = ids[rows < 0]
                raise AssemblyError(
                    f"pairs: found {len(unknown)} {role} id(s) that are not in the data, e.g. {str(unknown[0])!r}; expected ids "
                    f"among the {len(assembly[PRESENTATION])} {role} stimuli. Mend: drop those pairs or load their data."
                )
            rows_of_role.append(rows)
        return rows_of_role[0], rows_of_role[1]


def resolve_pairs(
    source: xr.DataArray,
    target: xr.DataArray,
    pairs: Pairs | pd.DataFrame | Mapping[str, npt.ArrayLike] | Sequence[Any] | np.ndarray | int | float | None,
    *,
    seed: int = 0,
    stratify: str | None = None,
) -> Pairs:
    """Turn any form in which pairs are named into `Pairs`.

    Parameters
    ----------
    source, target : xarray.DataArray
        Assemblies with one presentation a stimulus.
    pairs : Pairs, table, int, float, sequence of ids, or None
        Ready-made pairs; a table with ``source_id`` and ``target_id``; a number (``int``) or a fraction (``float`` in
        (0, 1]) of the shared stimuli, drawn with ``seed``; the ids of shared stimuli; or None for all shared stimuli.
    seed : int
        Of the draw of a number or a fraction.
    stratify : str, optional
        Coordinate of the source, e.g. ``category_name``: the drawn pairs then represent every class.

    Returns
    -------
    Pairs

    Raises
    ------
    AssemblyError
        Fewer than two pairs result, no stimulus is shared, or a pair id is unknown.

    Examples
    --------
    >>> from neurobridge.assemblies import make_assembly, resolve_pairs
    >>> def simulated(ids):
    ...     values = [[float(k)] for k in range(len(ids))]
    ...     return make_assembly(values, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": ["n0"]})
    >>> source, target = simulated(["a", "b", "c", "d"]), simulated(["d", "c", "b"])
    >>> resolve_pairs(source, target, None).source_id.tolist()
    ['b', 'c', 'd']
    >>> len(resolve_pairs(source, target, 0.7, seed=0)), len(resolve_pairs(source, target, 3))
    (2, 3)
    >>> resolve_pairs(source, target, ["d", "b"]).source_id.tolist()
    ['d', 'b']
    """
    if pairs is None:
        resolved = Pairs.shared(source, target)
    elif isinstance(pairs, Pairs):
        resolved = pairs
    elif isinstance(pairs, (pd.DataFrame, Mapping)):
        resolved = Pairs.from_table(pairs)
    elif isinstance(pairs, (int, float, np.integer)) and not isinstance(pairs, bool):
        size = pairs if isinstance(pairs, float) else int(pairs)
        shared = Pairs.shared(source, target)
        resolved = shared.draw(size, seed=seed, stratify=_labels_of(shared, source, stratify))
    elif isinstance(pairs, (list, tuple, np.ndarray)) and np.asarray(pairs).dtype.kind in "UTO" and np.ndim(pairs) == 1:
        resolved = _named(source, target, np.asarray(pairs))
    else:
        raise AssemblyError(
            f"pairs: found {type(pairs).__name__}; expected Pairs, a table, a number (int) or fraction (float) of the shared "
            "stimuli, a list of their ids, or None. Mend: e.g. pairs=20, or pairs=['s0001', 's0002']."
        )
    if len(resolved) < 2:
        raise AssemblyError(
            f"pairs: found {len(resolved)}; expected at least 2. Mend: pair more stimuli; a map between two spaces is "
            "not determined by one point."
        )
    return resolved


def _named(source: xr.DataArray, target: xr.DataArray, ids: np.ndarray) -> Pairs:
    """Pair the stimuli of these ids, in this order."""
    unknown = sorted(set(ids.tolist()) - set(Pairs.shared(source, target).source_id.tolist()), key=str)
    if unknown:
        raise AssemblyError(
            f"pairs: found {len(unknown)} of {len(ids)} ids that are not in both assemblies, e.g. {unknown[0]!r}; expected ids of "
            "shared stimuli. Mend: leave them out, or pass a table with source_id and target_id."
        )
    return Pairs(ids, ids)


def _labels_of(pairs: Pairs, source: xr.DataArray, label: str | None) -> np.ndarray | None:
    if label is None:
        return None
    if label not in source.coords or source.coords[label].dims != (PRESENTATION,):
        raise AssemblyError(
            f"source: found coordinates {sorted(map(str, source.coords))}; expected {label!r} on presentation to stratify on. "
            f"Mend: source.assign_coords({label}=('presentation', labels))."
        )
    rows = pd.Index(source.coords[STIMULUS_ID].values).get_indexer(pd.Index(pairs.source_id))
    return np.asarray(source.coords[label].values[rows])
