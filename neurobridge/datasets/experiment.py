"""The experiment that a loader returns: recordings, images or sounds, and a stimulus table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
import xarray as xr

from neurobridge.points.display import html_repr, short_repr

Kind = Literal["recorded", "simulated", "stimuli", "embeddings"]


@dataclass(frozen=True, eq=False)
class Experiment:
    """A dataset in memory.

    Attributes
    ----------
    name : str
        Dataset name, as in its manifest.
    kind : {"recorded", "simulated", "stimuli", "embeddings"}
        Where the numbers come from. Simulated data says so here, in ``attrs`` and in every figure.
    stimuli : pandas.DataFrame
        One row a stimulus, with a ``stimulus_id`` column and whatever is known of each.
    recordings : xarray.DataArray or None
        Assembly, dims ``(presentation, neuroid[, time_bin])``, one presentation a trial where trials exist.
    images : xarray.DataArray or None
        Pixels, dims ``(presentation, row, column[, channel])``, uint8 in [0, 255], with a ``stimulus_id`` coordinate;
        may be dask-backed.
    sounds : xarray.DataArray or None
        Samples, dims ``(presentation, sample)``, int16, zero after the end of each sound, with the
        coordinates ``stimulus_id`` and ``n_samples`` (length of each) and the attribute
        ``sampling_rate_hz``; may be dask-backed.
    latents : xarray.DataArray or None
        Assembly of the known generative parameters of each stimulus (object, position, size, pose).
    activations : xarray.DataArray or None
        Assembly of a model's representation of each stimulus, dims ``(presentation, neuroid)``; may be dask-backed.
    rdms : xarray.DataArray or None
        Dissimilarities, dims ``(rdm, stimulus, stimulus_2)`` (or objects in place of stimuli), symmetric with a zero diagonal.
    attrs : mapping
        ``citation``, ``licence``, ``digests`` (file -> digest) and ``note`` (what the data is, and what it is not).
        ``citation`` is in the ``attrs`` of every array and table too.

    Examples
    --------
    >>> import pandas as pd
    >>> Experiment("mine", "stimuli", pd.DataFrame({"stimulus_id": ["a", "b"]}))
    Experiment('mine', stimuli, stimuli=2)
    """

    name: str
    kind: Kind
    stimuli: pd.DataFrame
    recordings: xr.DataArray | None = None
    images: xr.DataArray | None = None
    sounds: xr.DataArray | None = None
    latents: xr.DataArray | None = None
    activations: xr.DataArray | None = None
    rdms: xr.DataArray | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def _facts(self) -> dict[str, Any]:
        parts = ("recordings", "images", "sounds", "latents", "activations", "rdms")
        arrays = {name: getattr(self, name) for name in parts}
        shapes = {name: array.shape for name, array in arrays.items() if array is not None}
        return {"stimuli": len(self.stimuli), **shapes}

    def __repr__(self) -> str:
        return short_repr("Experiment", repr(self.name), self.kind, **self._facts())

    def _repr_html_(self) -> str:
        facts = {"kind": self.kind, **self._facts(), "licence": self.attrs.get("licence", "not stated")}
        return html_repr(f"Experiment {self.name}", facts)
