"""Which layer for which region: chosen by cross-validation on training stimuli alone, then scored on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from neurobridge.assemblies import AssemblyError, match_stimuli, select
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, STIMULUS_ID, plain
from neurobridge.evaluate.predict import predictivity
from neurobridge.evaluate.scores import PERMUTATION, SPLIT
from neurobridge.evaluate.splits import Splits, shuffle_splits, stratified_splits

LAYER = "layer"


@dataclass(frozen=True, eq=False)
class LayerChoice:
    """The layer a region is committed to, and the evidence.

    Attributes
    ----------
    layer : str
        Of the highest median predictivity on the training stimuli, the earlier of equals.
    scores : xarray.Dataset
        Of all layers, in the model's order, on the training stimuli: ``raw`` (layer, split, neuroid), ``null``
        (layer, permutation), ``ceiling`` (neuroid), ``n_units`` (layer).
    held_out : xarray.Dataset or None
        Score of the chosen layer alone, fitted on all training stimuli, on the stimuli that had no part in the choice.
    """

    layer: str
    scores: xr.Dataset
    held_out: xr.Dataset | None


def select_layer(
    activations: xr.DataArray,
    recordings: xr.DataArray,
    *,
    region: str | None = None,
    train: float | Sequence[str] | npt.NDArray[np.str_] = 0.8,
    regression: str = "pls",
    splits: Splits | Sequence[tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
    ceiling: xr.DataArray | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> LayerChoice:
    """Choose the layer that predicts a region best, without looking at the stimuli that will score it.

    Brain-Score's commitment of a model's layers to regions (Schrimpf et al. 2018). The best of many layers is a maximum over noise:
    its cross-validated score is too high, ``held_out`` is not.

    Parameters
    ----------
    activations : xarray.DataArray
        Assembly with a ``layer`` coordinate on ``neuroid``, one presentation a stimulus, layers in the model's order.
    recordings : xarray.DataArray
        Assembly of responses averaged over repetitions, joined on ``stimulus_id``.
    region : str, optional
        Keep the neuroids with this ``region``; default: all of them.
    train : float or sequence of str
        Share of the shared stimuli to choose on (drawn with `seed`, stratified on ``object_name`` where it is there), or their
        ids.
    regression : str
        A key of `REGRESSIONS`.
    splits : Splits or sequence of (train, test), optional
        Rows of the training stimuli in the activations' order. Default: as in `predictivity`.
    ceiling : xarray.DataArray, optional
        Reliability of each neuroid of `recordings`.
    n_permutations, seed : int
        As in `predictivity`; `seed` also draws the training stimuli.

    Raises
    ------
    AssemblyError
        No ``layer`` coordinate, no such region, ids in `train` that are not shared, a share outside (0, 1), or what `predictivity`
        refuses.
    """
    if LAYER not in activations.coords or activations.coords[LAYER].dims != (NEUROID,):
        raise AssemblyError(
            f"activations: found coordinates {sorted(map(str, activations.coords))}; expected 'layer' on 'neuroid'. "
            "Mend: extract(model, images, layers), or assembly.assign_coords(layer=('neuroid', names))."
        )
    if region is not None:
        recordings = select(recordings, region=region)
    if ceiling is not None and region is not None:
        ceiling = ceiling.isel({NEUROID: np.isin(ceiling["neuroid_id"].values, recordings["neuroid_id"].values)})
    source, target = match_stimuli(activations, recordings)[:2]
    chosen_on, kept_back = _divide(target, train, seed)
    names = list(dict.fromkeys(source[LAYER].values.tolist()))
    of_layer = {name: source.isel({NEUROID: np.flatnonzero(source[LAYER].values == name)}) for name in names}
    inner = target.isel({PRESENTATION: chosen_on})
    scores = [
        predictivity(
            assembly.isel({PRESENTATION: chosen_on}),
            inner,
            regression,
            splits=splits,
            ceiling=ceiling,
            n_permutations=n_permutations,
            seed=seed,
        )
        for assembly in of_layer.values()
    ]
    medians = [float(np.median(score["raw"].values, axis=1).mean()) for score in scores]
    layer = names[int(np.argmax(medians))]
    held_out = None
    if len(kept_back):
        held_out = predictivity(
            of_layer[layer],
            target,
            regression,
            splits=Splits([(chosen_on, kept_back)], "one: training stimuli, the others"),
            ceiling=ceiling,
            n_permutations=n_permutations,
            seed=seed,
        )
        held_out.attrs.update(layer=layer, region=region or "all")
    attrs = {**scores[0].attrs, "layer": layer, "region": region or "all", "n_held_out": len(kept_back)}
    table = xr.Dataset(
        {
            "raw": ((LAYER, SPLIT, NEUROID), np.stack([score["raw"].values for score in scores])),
            "null": ((LAYER, PERMUTATION), np.stack([score["null"].values for score in scores])),
            "ceiling": (NEUROID, scores[0]["ceiling"].values),
            "n_units": (LAYER, np.array([assembly.sizes[NEUROID] for assembly in of_layer.values()])),
        },
        coords={**{name: (NEUROID, scores[0][name].values) for name in _on_neuroid(scores[0])}, LAYER: np.array(names)},
        attrs=attrs,
    )
    return LayerChoice(layer, table, held_out)


def _on_neuroid(score: xr.Dataset) -> list[str]:
    # A recording's own "layer" (cortical depth) would clash with the model's.
    return [str(name) for name, coord in score.coords.items() if coord.dims == (NEUROID,) and name != LAYER]


def _divide(
    target: xr.DataArray, train: float | Sequence[str] | np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to choose on and rows kept back."""
    ids = target[STIMULUS_ID].values
    if isinstance(train, (int, float)):
        if not 0 < train < 1:
            raise AssemblyError(
                f"train: found {train}; expected a share between 0 and 1. Mend: train=0.8, or the training stimulus ids."
            )
        if "object_name" in target.coords:
            drawn = stratified_splits(target["object_name"].values, n_splits=1, train_size=train, seed=seed)
        else:
            drawn = shuffle_splits(len(ids), n_splits=1, train_size=train, seed=seed)
        return np.sort(drawn[0][0]), np.sort(drawn[0][1])
    wanted = plain(np.asarray(train))
    unknown = wanted[~np.isin(wanted, ids)]
    if len(wanted) == 0 or len(unknown):
        shown = f"{len(unknown)} id(s) that are not shared, e.g. {str(unknown[0])!r}" if len(unknown) else "no ids"
        raise AssemblyError(
            f"train: found {shown}; expected ids of the {len(ids)} stimuli that both assemblies have. Mend: check the ids."
        )
    mask = np.isin(ids, wanted)
    return np.flatnonzero(mask), np.flatnonzero(~mask)
