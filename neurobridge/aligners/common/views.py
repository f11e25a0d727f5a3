"""Views of stimuli: which rows of several spaces show the same thing, over all pairs together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from neurobridge.aligners.inputs import (
    both_assemblies,
    read_points,
    require_fittable,
    require_varying_columns,
    resolve_rows,
)
from neurobridge.assemblies import AssemblyError, as_matrix, resolve_pairs
from neurobridge.assemblies.ids import find_rows
from neurobridge.assemblies.schema import STIMULUS_ID
from neurobridge.points.arrays import Array, Rows

Edge = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Views:
    """Points of several spaces, by the shared stimuli that they show.

    Attributes
    ----------
    points : dict of str to array of shape (n_points, n_dims)
    stimulus : dict of str to int array of shape (n_points,)
        Number of the shared stimulus of each point, -1 for a point without a partner in any space.
    n_stimuli : int
        Shared stimuli: seen in two spaces at least.
    """

    points: dict[str, np.ndarray]
    stimulus: dict[str, np.ndarray]
    n_stimuli: int

    def of(self, name: str) -> np.ndarray:
        """Return the views of the shared stimuli in one space, (n_stimuli, n_dims), NaN where there is none.

        Where several points of a space show the same stimulus, the view is their mean.
        """
        points, stimulus = self.points[name], self.stimulus[name]
        paired = stimulus >= 0
        sums = np.zeros((self.n_stimuli, points.shape[1]))
        np.add.at(sums, stimulus[paired], points[paired])
        counts = np.bincount(stimulus[paired], minlength=self.n_stimuli).astype(np.float64)
        counts[counts == 0] = np.nan
        return sums / counts[:, None]

    def seen(self, name: str) -> np.ndarray:
        """Tell which shared stimuli have a view in a space, bool array of shape (n_stimuli,)."""
        seen = np.zeros(self.n_stimuli, dtype=bool)
        seen[self.stimulus[name][self.stimulus[name] >= 0]] = True
        return seen

    def without(self, stimuli: np.ndarray) -> Views:
        """Leave out some shared stimuli, and every point that shows them."""
        number = np.full(self.n_stimuli + 1, -1)
        kept = np.setdiff1d(np.arange(self.n_stimuli), stimuli)
        number[kept] = np.arange(len(kept))
        rows = {name: ~np.isin(code, stimuli) for name, code in self.stimulus.items()}
        return Views(
            {name: values[rows[name]] for name, values in self.points.items()},
            {name: number[code[rows[name]]] for name, code in self.stimulus.items()},
            len(kept),
        )


def view_stimuli(points: Mapping[str, np.ndarray], rows: Mapping[Edge, Rows]) -> Views:
    """Number the stimuli that are shared: rows that pairs join, over any number of spaces, show the same one.

    Parameters
    ----------
    points : mapping of str to array of shape (n_points, n_dims)
    rows : mapping of (str, str) to two int arrays of shape (n_pairs,)
        Rows of the first and of the second space that show the same thing.

    Examples
    --------
    A pair of "a" and "b" and a pair of "b" and "c" at the same row of "b" are three views of one stimulus:

    >>> clouds = {name: np.zeros((2, 1)) for name in "abc"}
    >>> views = view_stimuli(clouds, {("a", "b"): (np.array([0]), np.array([1])), ("b", "c"): (np.array([1]), np.array([0]))})
    >>> {name: codes.tolist() for name, codes in views.stimulus.items()}
    {'a': [0, -1], 'b': [-1, 0], 'c': [0, -1]}
    """
    # The same numbers, and so the same folds, in whatever order the spaces were given.
    names = sorted(points)
    begins = dict(zip(names, np.cumsum([0, *(len(points[name]) for name in names)]), strict=False))
    total = sum(len(values) for values in points.values())
    left = np.concatenate([begins[a] + pair[0] for (a, _), pair in rows.items()])
    right = np.concatenate([begins[b] + pair[1] for (_, b), pair in rows.items()])
    graph = sparse.coo_matrix((np.ones(len(left)), (left, right)), shape=(total, total))
    label = connected_components(graph, directed=False)[1]
    paired = np.zeros(total, dtype=bool)
    paired[left] = paired[right] = True
    stimulus = np.full(total, -1)
    shared, stimulus[paired] = np.unique(label[paired], return_inverse=True)
    ends = {name: slice(begins[name], begins[name] + len(points[name])) for name in names}
    return Views({name: points[name] for name in names}, {name: stimulus[ends[name]] for name in names}, len(shared))


def read_spaces(spaces: Any) -> tuple[dict[str, np.ndarray], bool]:
    """Read the points of every space, and tell whether they are assemblies.

    Raises
    ------
    AssemblyError
        No mapping of at least two names to spaces, assemblies with arrays, or a space that cannot be fitted.
    """
    if not isinstance(spaces, Mapping) or len(spaces) < 2 or not all(isinstance(name, str) for name in spaces):
        kinds = (
            f"{len(spaces)} of {sorted(map(repr, spaces))}" if isinstance(spaces, Mapping) else type(spaces).__name__
        )
        raise AssemblyError(
            f"spaces: found {kinds}; expected a dict of at least two names, each a text, to assemblies or to arrays. "
            'Mend: fit({"a": A, "b": B, "c": C}, pairs={("a", "b"): None, ("b", "c"): None}).'
        )
    first = next(iter(spaces.values()))
    labelled = {both_assemblies(first, space) for space in spaces.values()} == {True}
    points: dict[str, np.ndarray] = {}
    for name, space in spaces.items():
        if labelled:
            require_fittable(space, f"space {name!r}")
            points[name] = as_matrix(space, role=f"space {name!r}")
        else:
            points[name] = read_points(space, f"space {name!r}")
            require_varying_columns(points[name], f"space {name!r}")
    return points, labelled


def read_pairs(
    spaces: Mapping[str, xr.DataArray | Array], pairs: Any, *, labelled: bool, seed: int
) -> tuple[dict[Edge, Any], dict[Edge, Rows]]:
    """Read the pairs of every two spaces that have some, as they were named and as rows.

    Raises
    ------
    AssemblyError
        No mapping, keys that are no two spaces, spaces that no pairs connect, or pairs that `resolve_pairs` or `resolve_rows`
        refuse.
    """
    named: dict[Edge, Any] = {}
    rows: dict[Edge, Rows] = {}
    for (left, right), given in _named_edges(spaces, pairs, labelled).items():
        a, b = spaces[left], spaces[right]
        try:
            if labelled:
                named[left, right] = resolve_pairs(a, b, given, seed=seed)
                rows[left, right] = named[left, right].indices(a, b)
            else:
                named[left, right] = rows[left, right] = resolve_rows(given, len(a), len(b))
        except AssemblyError as error:
            raise AssemblyError(f"{left!r} and {right!r}: {error}") from error
    require_connected(list(spaces), list(rows))
    return named, rows


def _named_edges(spaces: Mapping[str, Any], pairs: Any, labelled: bool) -> dict[Edge, Any]:
    if pairs is None:
        edges = list(combinations(spaces, 2))
        return {edge: None for edge in edges if not labelled or _n_shared(*(spaces[name] for name in edge)) >= 2}
    if not isinstance(pairs, Mapping):
        raise AssemblyError(
            f"pairs: found {type(pairs).__name__}; expected a dict from two names of spaces to their pairs. "
            f"Mend: pairs={{{tuple(list(spaces)[:2])!r}: None}} for all the stimuli that these two share."
        )
    known: set[frozenset[str]] = set()
    for edge in pairs:
        is_edge = isinstance(edge, tuple) and len(edge) == 2 and len({*edge} & {*spaces}) == 2
        if not is_edge or frozenset(edge) in known:
            why = "a second time" if is_edge else f"with the spaces {list(spaces)}"
            raise AssemblyError(
                f"pairs: found the key {edge!r} {why}; expected two different spaces of these, each two once. "
                f"Mend: keys like {tuple(list(spaces)[:2])!r}; leave out spaces without pairs between them."
            )
        known.add(frozenset(edge))
    return dict(pairs)


def _n_shared(left: xr.DataArray, right: xr.DataArray) -> int:
    return int((find_rows(left[STIMULUS_ID].values, right[STIMULUS_ID].values) >= 0).sum())


def groups_of(names: Sequence[str], edges: Sequence[Edge]) -> list[list[str]]:
    """Return the spaces that paths of edges connect, group by group.

    Examples
    --------
    >>> groups_of(["a", "b", "c"], [("a", "c")])
    [['a', 'c'], ['b']]
    """
    groups = [{name} for name in names]
    for edge in edges:
        touched = [group for group in groups if group & {*edge}]
        groups = [group for group in groups if not group & {*edge}] + [set().union(*touched)]
    return sorted((sorted(group) for group in groups), key=lambda group: group[0])


def require_connected(names: Sequence[str], edges: Sequence[Edge]) -> None:
    """Refuse spaces between which no path of pairs leads.

    Raises
    ------
    AssemblyError
        Names the groups.
    """
    groups = groups_of(names, edges)
    if len(groups) > 1:
        shown = "; ".join(", ".join(map(repr, group)) for group in groups)
        a, b = groups[0][0], groups[1][0]
        raise AssemblyError(
            f"pairs: found {len(groups)} groups of spaces without a path of pairs from one to another: {shown}; expected one "
            f"group. Mend: give pairs between two groups, e.g. pairs={{({a!r}, {b!r}): ...}}; fit each group alone; or estimate "
            f"pairs with neurobridge.bridge.align_unpaired on the arrays of {a!r} and {b!r}, which says whether to trust it."
        )
