"""What the main job runs on: a dataset made ready, folds of it, and the compared methods."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurobridge.aligners import BASELINES, AssemblyAligner, BridgeAligner, Map
from neurobridge.assemblies import Pairs, average_repetitions, drop_constant, select
from neurobridge.assemblies.schema import NEUROID_ID, PRESENTATION, STIMULUS_ID
from neurobridge.datasets import Experiment, load
from neurobridge.evaluate import internal_consistency, shuffle_splits, stratified_splits
from neurobridge.features import GaborEnergy, extract
from neurobridge.flow import Training

SIMULATED = "simulated-hvm"
DATASETS = (SIMULATED, "cowley2023-v4-210325", "majajhong2015-it-v6")
# Method name -> coupling and map of the BridgeAligner.
BRIDGES: dict[str, tuple[str, Map]] = {
    "fused": ("fused", "barycentric"),
    "fused-flow": ("fused", "flow"),
    "bridge-flow": ("factored", "flow"),
    "pairs-flow": ("pairs", "flow"),
}
# Those of `BASELINES` that are shown; all of them are compared in analyses/bridge_predictivity.py.
COMPARED = ("ridge", "procrustes")
METHODS = (*BRIDGES, *COMPARED)
HELD_OUT = 0.2
_LAYER = "v1"
# A label with more classes has too few paired examples of each to read anything.
_MOST_CLASSES = 16


@dataclass(frozen=True)
class DemoConfig:
    """What a run depends on; written into ``scores.json``.

    Attributes
    ----------
    dataset : str
    fractions : tuple of float
        Paired stimuli, as fractions of all stimuli.
    n_seeds : int
        Independent draws of held-out stimuli, pairs and network initialisation.
    seed : int
        First seed.
    flow_steps : int
        Training steps of each flow.
    n_permutations : int
        Size of the permutation null.
    """

    dataset: str = SIMULATED
    fractions: tuple[float, ...] = (0.05, 0.10, 0.20)
    n_seeds: int = 2
    seed: int = 0
    flow_steps: int = 250
    n_permutations: int = 1000


class Task(NamedTuple):
    """A dataset made ready: both spaces, one presentation a stimulus, and the ceiling of the recordings."""

    experiment: Experiment
    brain: xr.DataArray
    model: xr.DataArray
    ceiling: xr.DataArray | None
    model_name: str
    labels: tuple[str, ...]


class Fold(NamedTuple):
    """One draw: held-out stimuli, and the training stimuli dealt to either space.

    Paired stimuli are in both pools, every other training stimulus is in one of them, so that no unpaired stimulus
    can be matched with itself.
    """

    brain_train: xr.DataArray
    model_train: xr.DataArray
    brain_test: xr.DataArray
    model_test: xr.DataArray
    pairs: Pairs


def prepare(dataset: str, *, mirror: str | os.PathLike[str] | None = None, seed: int = 0) -> Task:
    """Load a dataset and make its two spaces.

    The model side is the frozen `GaborEnergy` network where the images are there, and the generative latents of the
    stimuli (object, position, size, pose) where they are not public.

    Raises
    ------
    ValueError
        The demo does not know the dataset.
    """
    if dataset not in DATASETS:
        raise ValueError(f"found dataset {dataset!r}; expected one of {DATASETS}. Mend: choose one of them.")
    if dataset == SIMULATED:
        experiment = load(SIMULATED, images_per_object={0: 2, 3: 8}, n_repetitions=10, image_size=64, seed=seed)
    else:
        experiment = load(dataset, mirror=mirror)
    trials = experiment.recordings
    if trials is None:
        raise ValueError(f"{dataset}: found no recordings; expected some. Mend: choose one of {DATASETS}.")
    brain = drop_constant(average_repetitions(trials))
    if brain.ndim == 3:
        brain = brain.isel(time_bin=0, drop=True)
    trials = select(trials, neuroid_id=brain[NEUROID_ID].values)
    ceiling = internal_consistency(trials, seed=seed)["ceiling"] if "repetition" in trials.coords else None
    if experiment.images is not None:
        model = drop_constant(extract(GaborEnergy(), experiment.images, _LAYER))
        model_name = f"frozen GaborEnergy network, layer {_LAYER}"
    elif experiment.latents is not None:
        model = drop_constant(experiment.latents)
        model_name = "HvM generative latents (object, position, size, pose)"
    else:
        raise ValueError(
            f"{dataset}: found neither images nor latents; expected either. Mend: choose one of {DATASETS}."
        )
    names = [name for name in ("category_name", "object_name") if name in brain.coords]
    labels = tuple(name for name in names if len(np.unique(brain[name].values)) <= _MOST_CLASSES)
    return Task(experiment, brain, model, ceiling, model_name, labels)


def draw_fold(task: Task, fraction: float, *, seed: int) -> Fold:
    """Hold out a fifth of the stimuli, pair a fraction of all, and deal the rest to the two spaces in turn."""
    n_stimuli = task.brain.sizes[PRESENTATION]
    if "object_name" in task.brain.coords:
        objects = task.brain["object_name"].values
        splits = stratified_splits(objects, n_splits=1, train_size=1 - HELD_OUT, seed=seed)
    else:
        splits = shuffle_splits(n_stimuli, n_splits=1, train_size=1 - HELD_OUT, seed=seed)
    train, test = splits[0]
    order = np.random.default_rng([seed, 2]).permutation(train)
    n_pairs = round(fraction * n_stimuli)
    paired, rest = order[:n_pairs], order[n_pairs:]
    ids = task.brain[STIMULUS_ID].values
    by_id = {stimulus: row for row, stimulus in enumerate(task.model[STIMULUS_ID].values)}

    def brain_at(rows: np.ndarray) -> xr.DataArray:
        return task.brain.isel({PRESENTATION: np.sort(rows)})

    def model_at(rows: np.ndarray) -> xr.DataArray:
        return task.model.isel({PRESENTATION: [by_id[stimulus] for stimulus in ids[np.sort(rows)]]})

    return Fold(
        brain_at(np.concatenate([paired, rest[0::2]])),
        model_at(np.concatenate([paired, rest[1::2]])),
        brain_at(test),
        model_at(test),
        Pairs(ids[paired], ids[paired]),
    )


def fit_aligners(fold: Fold, config: DemoConfig, seed: int) -> Iterator[tuple[str, AssemblyAligner]]:
    """Fit all of `METHODS` on the same pairs: fused, global and true bridge alignment, and the baselines.

    A coupling is solved once for all the maps that read it.
    """
    # Narrow on purpose: a few hundred points train no wide network.
    flow = {"training": Training(n_steps=config.flow_steps, width=128, depth=2)}
    solved: dict[str, BridgeAligner] = {}
    for method in METHODS:
        if method in COMPARED:
            yield method, BASELINES[method](seed=seed).fit(fold.brain_train, fold.model_train, fold.pairs)
            continue
        coupling, how = BRIDGES[method]
        if coupling not in solved:
            aligner = BridgeAligner(coupling=coupling, map="flow", seed=seed, flow_options=flow)
            solved[coupling] = aligner.fit(fold.brain_train, fold.model_train, fold.pairs)
        yield method, solved[coupling].set_params(map=how)
