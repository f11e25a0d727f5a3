"""The inputs of the main job: a dataset made ready, folds of it, and the fitted methods."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurobridge.aligners import AssemblyAligner
from neurobridge.assemblies import average_repetitions, drop_constant, select
from neurobridge.assemblies.schema import NEUROID, NEUROID_ID, PRESENTATION, STIMULUS_ID
from neurobridge.datasets import Experiment, load
from neurobridge.evaluate import internal_consistency
from neurobridge.evaluate.curves.folds import CurveFold, draw_curve_fold
from neurobridge.features import GaborEnergy, extract
from neurobridge.flow import Training
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.options import is_choice
from neurobridge.study.methods import BRIDGES, make_aligner

SIMULATED = "simulated-hvm"
DATASETS = (SIMULATED, "cowley2023-v4-210325", "majajhong2015-it-v6")
#: Compared in the demo; all methods are compared in analyses/bridge_predictivity.py.
COMPARED = ("fused", "fused-flow", "bridge-flow", "pairs-flow", "ridge", "procrustes")
HELD_OUT = 0.2
_LAYER = "v1"
# A label with more classes has too few paired examples of each to read anything.
_MOST_CLASSES = 16


@dataclass(frozen=True)
class DemoConfig:
    """The settings of a demo run; written into ``scores.json``.

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
        Training steps of the flows that start at the ridge map of the pairs; one from the fused map takes its default.
    n_permutations : int
        Size of the permutation null.

    Examples
    --------
    >>> from neurobridge.study.demo import DemoConfig
    >>> DemoConfig(n_seeds=1).fractions
    (0.05, 0.1, 0.2)
    """

    dataset: str = SIMULATED
    fractions: tuple[float, ...] = (0.05, 0.10, 0.20)
    n_seeds: int = 2
    seed: int = 0
    flow_steps: int = 250
    n_permutations: int = 1000

    def _repr_html_(self) -> str:
        return html_repr("DemoConfig", asdict(self))


class Task(NamedTuple):
    """A dataset made ready: both spaces, one presentation a stimulus, and the ceiling of the recordings."""

    experiment: Experiment
    brain: xr.DataArray
    model: xr.DataArray
    ceiling: xr.DataArray | None
    model_name: str
    labels: tuple[str, ...]

    def __repr__(self) -> str:
        sizes = f"{self.brain.sizes[PRESENTATION]} stimuli", f"{self.brain.sizes[NEUROID]} sites"
        return short_repr("Task", repr(self.experiment.name), *sizes, model=self.model_name, labels=self.labels)


def prepare(dataset: str, *, mirror: str | os.PathLike[str] | None = None, seed: int = 0) -> Task:
    """Load a dataset and make its two spaces.

    The model side is the frozen `GaborEnergy` network where the images are there, and the generative latents of the
    stimuli (object, position, size, pose) where they are not public.

    Raises
    ------
    ValueError
        The demo does not know the dataset.
    """
    if not is_choice(dataset, DATASETS):
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


def draw_fold(task: Task, fraction: float, *, seed: int) -> CurveFold:
    """Hold out a fifth of the stimuli, pair a fraction of all, and deal the rest to the two spaces in turn.

    Parameters
    ----------
    task : Task
    fraction : float
        Paired stimuli, as a fraction of all stimuli.
    seed : int

    Returns
    -------
    CurveFold
        Source: the recordings; target: the model. Held-out stimuli stand in the order of the recordings.
    """
    fold = draw_curve_fold(
        task.brain,
        task.model,
        round(fraction * task.brain.sizes[PRESENTATION]),
        seed=seed,
        held_out=HELD_OUT,
        stratify="object_name" if "object_name" in task.brain.coords else None,
    )
    place = {stimulus: row for row, stimulus in enumerate(task.brain[STIMULUS_ID].values)}
    # The permutation nulls depend on the order.
    order = np.argsort([place[stimulus] for stimulus in fold.source_test[STIMULUS_ID].values])
    return fold._replace(
        source_test=fold.source_test.isel({PRESENTATION: order}),
        target_test=fold.target_test.isel({PRESENTATION: order}),
    )


def fit_aligners(fold: CurveFold, config: DemoConfig, seed: int) -> Iterator[tuple[str, AssemblyAligner]]:
    """Fit all of `COMPARED` on the same pairs: fused, global and true bridge alignment, and two baselines.

    A coupling is solved once for all the maps that read it.

    Yields
    ------
    name : str
    aligner : AssemblyAligner
        Fitted; it is good until the next one is asked for.
    """
    # Narrow on purpose: a few hundred points train no wide network.
    training = Training(width=128, depth=2)
    solved: dict[str, AssemblyAligner] = {}
    for method in COMPARED:
        settings = BRIDGES.get(method)
        if settings is None:
            aligner = make_aligner(method, seed)
            yield method, aligner.fit(fold.source_train, fold.target_train, fold.pairs)
            continue
        coupling = settings["coupling"]
        if coupling not in solved:
            n_steps = None if coupling == "fused" else config.flow_steps
            options = {"training": training.replace(n_steps=n_steps)}
            aligner = make_aligner(method, seed, map="flow", flow_options=options)
            solved[coupling] = aligner.fit(fold.source_train, fold.target_train, fold.pairs)
        yield method, solved[coupling].set_params(map=settings["map"])
