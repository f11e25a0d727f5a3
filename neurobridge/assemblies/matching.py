"""Joining of two assemblies on the stimuli that they share."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.forms import normalized_ids
from neurobridge.assemblies.ids import join_rows, joined_message, mend_ids, of_assembly, show_ids
from neurobridge.assemblies.labels import plain
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID, require_unique_stimuli
from neurobridge.points.display import html_repr, short_repr

_LOG = logging.getLogger(__name__)


class Matched(NamedTuple):
    """Two assemblies with the same stimuli in the same order, and the ids that were left out.

    Attributes
    ----------
    source, target : xarray.DataArray
        The shared stimuli, in the source's order.
    dropped_source, dropped_target : arrays of str
        Ids that only one of the two has.

    Examples
    --------
    See `match_stimuli`.
    """

    source: xr.DataArray
    target: xr.DataArray
    dropped_source: np.ndarray
    dropped_target: np.ndarray

    def __repr__(self) -> str:
        return short_repr("Matched", **self._facts())

    def _repr_html_(self) -> str:
        return html_repr("Matched", self._facts())

    def _facts(self) -> dict[str, int]:
        return {
            "n_shared": self.source.sizes[PRESENTATION],
            "n_dropped_source": len(self.dropped_source),
            "n_dropped_target": len(self.dropped_target),
        }

    def report(self) -> str:
        """Return a sentence with the number of shared stimuli and of those that each side had alone.

        Returns
        -------
        str
        """
        return (
            f"{self.source.sizes[PRESENTATION]} stimuli in both; dropped {len(self.dropped_source)} of the source"
            f"{_example(self.dropped_source)} and {len(self.dropped_target)} of the target{_example(self.dropped_target)}."
        )


def _example(ids: np.ndarray) -> str:
    return f" (e.g. {str(ids[0])!r})" if len(ids) else ""


def match_stimuli(source: xr.DataArray, target: xr.DataArray, *, how: str = "inner") -> Matched:
    """Join two assemblies on ``stimulus_id``, in the source's order.

    Ids are compared as text (`neurobridge.assemblies.forms.id_texts`): 5 and "5" are the same. Ids that differ by the extension
    of a file name alone ("a.png" on one side, "a" on the other) are joined, too. Each side keeps its own ids.

    Parameters
    ----------
    source, target : xarray.DataArray
        Assemblies with one presentation a stimulus.
    how : {"inner"}
        An outer join is refused: it would have to make up responses to stimuli that were never shown.

    Returns
    -------
    Matched
        Both with the shared stimuli in the same order, and the ids that each side had alone.

    Warns
    -----
    UserWarning
        Ids were joined without the file extension of one side; or some of the ids left out on both sides print alike, such as
        "a.png" and "A.png".

    Raises
    ------
    AssemblyError
        No stimulus is shared (the message shows in what ids that print alike differ), one is presented more than once or
        has no id, or ``how`` is not "inner".

    Examples
    --------
    >>> from neurobridge.assemblies import make_assembly, match_stimuli
    >>> def simulated(ids):
    ...     values = [[float(k)] for k in range(len(ids))]
    ...     return make_assembly(values, presentation={"stimulus_id": ids}, neuroid={"neuroid_id": ["n0"]})
    >>> source, target = simulated(["a", "b", "c", "d"]), simulated(["d", "c", "b"])
    >>> matched = match_stimuli(source, target)
    >>> matched
    Matched(n_shared=3, n_dropped_source=1, n_dropped_target=0)
    >>> matched.target["stimulus_id"].values.tolist()
    ['b', 'c', 'd']
    """
    if how != "inner":
        raise AssemblyError(
            f"match_stimuli: found how={how!r}; expected 'inner': other joins would fill in responses that were never measured. "
            "Mend: leave it out; the result's dropped_source and dropped_target say what was left out."
        )
    for role, assembly in (("source", source), ("target", target)):
        require_unique_stimuli(assembly, role=role)
    left, right = (plain(a.coords[STIMULUS_ID].values) for a in (source, target))
    joined = join_rows(left, right)
    rows = joined.rows
    kept = rows >= 0
    if not kept.any():
        difference, mend = mend_ids(left, right, of_assembly("source"), of_assembly("target"))
        raise AssemblyError(
            f"found no stimulus_id shared by source (e.g. {show_ids(left)}) and target (e.g. {show_ids(right)}){difference}; "
            f"expected at least one. Mend: {mend or 'check that both use the same naming, or pass a table of pairs'}."
        )
    unused = np.setdiff1d(np.arange(len(right)), rows[kept])
    _LOG.info(
        "matched %d stimuli; left out %d of the source and %d of the target", kept.sum(), (~kept).sum(), len(unused)
    )
    if joined.by_extension.any():
        warnings.warn(joined_message(joined, left, right, ("source", "target")), UserWarning, stacklevel=2)
    _warn_of_alike(left[~kept], right[unused])
    return Matched(
        source.isel({PRESENTATION: np.flatnonzero(kept)}),
        target.isel({PRESENTATION: rows[kept]}),
        np.asarray(left[~kept]),
        np.asarray(right[unused]),
    )


def _warn_of_alike(left: np.ndarray, right: np.ndarray) -> None:
    if not (len(left) and len(right)):
        return
    difference, mend = mend_ids(left, right, of_assembly("source"), of_assembly("target"))
    if mend:
        warnings.warn(
            f"found {len(left)} ids of the source and {len(right)} of the target left out, some of which print alike{difference}. "
            f"Mend: where they name the same stimulus, {mend}.",
            UserWarning,
            stacklevel=3,
        )


def normalize_ids(assembly: xr.DataArray, forms: str | Sequence[str]) -> xr.DataArray:
    """Bring the stimulus ids of an assembly to a form in which they match those of another one.

    Parameters
    ----------
    assembly : xarray.DataArray
    forms : str or sequence of str
        Applied in their order: "stem" (no file extension), "name" (no folder before the name), "casefold", "nfc" and "nfkc"
        (Unicode forms), "strip" (no spaces at the ends), "visible" (no invisible characters). Ids become text.

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    AssemblyError
        A form is unknown, or different stimuli would have one id.

    Examples
    --------
    >>> from neurobridge.assemblies import make_assembly, normalize_ids
    >>> shown = make_assembly(
    ...     [[1.0], [2.0]], presentation={"stimulus_id": ["set/A.png", "set/b.jpg"]}, neuroid={"neuroid_id": ["n0"]}
    ... )  # simulated
    >>> normalize_ids(shown, ("name", "stem", "casefold"))["stimulus_id"].values.tolist()
    ['a', 'b']
    """
    names = tuple(part.strip() for part in forms.split(",")) if isinstance(forms, str) else tuple(forms)
    ids = normalized_ids(assembly.coords[STIMULUS_ID].values, names)
    return assembly.assign_coords({STIMULUS_ID: (PRESENTATION, ids)})
