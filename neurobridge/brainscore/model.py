"""Anything with activations as Brain-Score's experimental subject: a model, an aligned model, a table of activations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurobridge.aligners import AssemblyAligner
from neurobridge.assemblies import AssemblyError, as_matrix, coords_of, require_unique_stimuli, validate
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, STIMULUS_ID, TIME_BIN, plain
from neurobridge.brainscore.convert import to_brainscore

Activations = xr.DataArray | Callable[[Any], xr.DataArray]
_ANY = "*"


class AlignedBrainModel:
    """Brain-Score's `BrainModel` interface around activations, which an aligner may first move into the recordings' space.

    Parameters
    ----------
    activations : xarray.DataArray, callable, or mapping of region to either
        An assembly ``(presentation, neuroid)`` of every stimulus that will be shown, or a function that is given the stimuli (a
        Brain-Score ``StimulusSet``, or what was passed to `look_at`) and extracts one. A mapping gives each region its own.
    identifier : str
    aligner : AssemblyAligner, or mapping of region to one, optional
        Fitted on activations with the same neuroids; what is recorded is then its ``transform``.
    visual_degrees : int
        Field of view of the model: stimuli of another size are cropped or padded by Brain-Score before they are shown. Precomputed
        activations do not see that; give the size at which they were extracted.

    Raises
    ------
    AssemblyError
        An assembly is not one, or shows a stimulus twice.

    Examples
    --------
    >>> import numpy as np
    >>> import neurobridge as nb
    >>> values = np.random.default_rng(0).normal(size=(20, 3))
    >>> stimuli = {"stimulus_id": [f"s{k}" for k in range(20)]}
    >>> assembly = nb.make_assembly(values, presentation=stimuli, neuroid={"neuroid_id": ["a", "b", "c"]})
    >>> model = nb.brainscore.AlignedBrainModel({"IT": assembly}, "my-model")
    >>> model.identifier, model.visual_degrees()
    ('my-model', 8)
    >>> model.start_recording("IT", [(70, 170)])
    >>> model.look_at(stimuli)  # doctest: +SKIP
    """

    def __init__(
        self,
        activations: Activations | Mapping[str, Activations],
        identifier: str,
        *,
        aligner: AssemblyAligner | Mapping[str, AssemblyAligner] | None = None,
        visual_degrees: int = 8,
    ) -> None:
        self._activations: Mapping[str, Activations] = (
            activations if isinstance(activations, Mapping) else {_ANY: activations}
        )
        for region, given in self._activations.items():
            if not callable(given):
                validate(given, role=f"activations of {region}")
                require_unique_stimuli(given, role=f"activations of {region}")
        self._aligners: Mapping[str, AssemblyAligner] = (
            {} if aligner is None else aligner if isinstance(aligner, Mapping) else {_ANY: aligner}
        )
        self._identifier = identifier
        self._visual_degrees = visual_degrees
        self._region: str | None = None
        self._time_bins: list[tuple[int, int]] = []

    @property
    def identifier(self) -> str:
        """Name of the model in scores."""
        return self._identifier

    def visual_degrees(self) -> int:
        """Field of view of the model, degrees."""
        return self._visual_degrees

    def start_task(self, task: str, fitting_stimuli: Any = None) -> None:
        """Begin a task; only "passive" viewing is known.

        Raises
        ------
        NotImplementedError
            Another task.
        """
        if task != "passive":
            raise NotImplementedError(
                f"found task {task!r}; expected 'passive': activations alone answer no questions. Mend: train a readout with "
                "neurobridge.evaluate.train_readout and score its choices."
            )
        self._region, self._time_bins = None, []

    def start_recording(self, recording_target: str, time_bins: Iterable[Any]) -> None:
        """Begin to record a region.

        Parameters
        ----------
        recording_target : str
            Region, e.g. "IT".
        time_bins : iterable of (start, end)
            Milliseconds. Tuples, or arrays that hold one: Brain-Score hands over 0-d arrays of a tuple where it squeezed the time.

        Raises
        ------
        AssemblyError
            There are no activations of this region, or a time bin is no pair of numbers.
        """
        self._of(self._activations, recording_target, "activations")
        if self._aligners:
            self._of(self._aligners, recording_target, "an aligner")
        bins = [_bounds(time_bin) for time_bin in time_bins]
        if not bins:
            raise AssemblyError("found no time bin; expected at least one. Mend: time_bins=[(70, 170)].")
        self._region, self._time_bins = recording_target, bins

    def look_at(self, stimuli: Any, number_of_trials: int = 1) -> xr.DataArray | None:
        """Show stimuli and hand over what is recorded of them.

        Parameters
        ----------
        stimuli : StimulusSet or list of paths
            Paths are known by their stem.
        number_of_trials : int
            Ignored: activations have no noise.

        Returns
        -------
        NeuroidAssembly, or None in a passive task without a recording
            Dims ``(presentation, neuroid, time_bin)``, the stimuli in the order given, with the columns of the stimulus set. A
            model without time gives every time bin the same response.

        Raises
        ------
        AssemblyError
            A stimulus has no activation.
        """
        if self._region is None:
            return None
        table = _table(stimuli)
        given = self._of(self._activations, self._region, "activations")
        shown = given(stimuli) if callable(given) else given
        if callable(given):
            validate(shown, role="extracted activations")
            require_unique_stimuli(shown, role="extracted activations")
        rows = pd.Index(shown[STIMULUS_ID].values.astype(str)).get_indexer(pd.Index(table[STIMULUS_ID].astype(str)))
        if (rows < 0).any():
            missing = table[STIMULUS_ID].to_numpy()[rows < 0]
            raise AssemblyError(
                f"activations: found none for {len(missing)} of {len(table)} stimuli, e.g. {str(missing[0])!r}; expected all. "
                "Mend: extract them for the stimuli of the benchmark, under the same stimulus_id."
            )
        seen = shown.isel({PRESENTATION: rows})
        if self._aligners:
            seen = self._of(self._aligners, self._region, "an aligner").transform(seen)
        return self._recorded(seen, table)

    def _recorded(self, seen: xr.DataArray, table: pd.DataFrame) -> xr.DataArray:
        values = np.repeat(as_matrix(seen, role="activations")[:, :, None], len(self._time_bins), axis=2)
        presentation = {str(name): (PRESENTATION, plain(table[name].to_numpy())) for name in table}
        neuroid = {name: column for name, column in coords_of(seen, NEUROID).items() if name not in presentation}
        neuroid.setdefault(NEUROID_ID, (NEUROID, seen[NEUROID_ID].values))
        # A level more than the id: Brain-Score loses the name of an only coordinate when it selects.
        neuroid["recorded_region"] = (NEUROID, np.repeat(str(self._region), values.shape[1]))
        starts, ends = zip(*self._time_bins, strict=True)
        coords = {
            **presentation,
            **neuroid,
            f"{TIME_BIN}_start": (TIME_BIN, np.array(starts)),
            f"{TIME_BIN}_end": (TIME_BIN, np.array(ends)),
        }
        attrs = {"identifier": self._identifier}
        recorded = xr.DataArray(values, dims=(PRESENTATION, NEUROID, TIME_BIN), coords=coords, attrs=attrs, name="data")
        return to_brainscore(recorded)

    def _of(self, given: Mapping[str, Any], region: str, what: str) -> Any:
        if region in given:
            return given[region]
        if _ANY in given:
            return given[_ANY]
        raise AssemblyError(
            f"{self._identifier}: found {what} for {sorted(given)}; expected also {region!r}, which is to be recorded. "
            f"Mend: pass {{{region!r}: ...}}."
        )


def _bounds(time_bin: Any) -> tuple[int, int]:
    value = time_bin.item() if isinstance(time_bin, np.ndarray | xr.DataArray) and time_bin.ndim == 0 else time_bin
    edges = np.asarray(value, dtype=object).ravel()
    if len(edges) != 2 or not all(isinstance(edge, int | float | np.number) for edge in edges):
        raise AssemblyError(
            f"time_bins: found {time_bin!r}; expected (start, end) in milliseconds. Mend: time_bins=[(70, 170)]."
        )
    return int(edges[0]), int(edges[1])


def _table(stimuli: Any) -> pd.DataFrame:
    if isinstance(stimuli, pd.DataFrame):
        if STIMULUS_ID not in stimuli:
            raise AssemblyError(
                f"stimuli: found columns {list(map(str, stimuli))}; expected {STIMULUS_ID!r} among them. "
                "Mend: rename the column of ids."
            )
        return pd.DataFrame(stimuli).loc[:, [not str(name).startswith("Unnamed") for name in stimuli]]
    return pd.DataFrame({STIMULUS_ID: [Path(str(path)).stem for path in stimuli]})
