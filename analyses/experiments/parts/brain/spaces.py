"""Both spaces of each dataset of the brain and model experiment, and the folds of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from neurobridge.assemblies import average_repetitions, drop_constant, select
from neurobridge.assemblies.schema import NEUROID
from neurobridge.datasets import cache_folder, load, locate
from neurobridge.evaluate import Readout, internal_consistency, train_readout
from neurobridge.evaluate.curves.folds import CurveFold, draw_curve_fold
from neurobridge.features import GaborEnergy, extract, load_model
from neurobridge.study.harness import Run
from neurobridge.study.methods import make_aligner

from ..common import site_halves
from .directions import TO_BRAIN, TO_MODEL

PUBLIC, SIMULATED = "majajhong2015.public", "simulated-hvm"
SESSION = "cowley2023-v4-210325"
NETWORK = "efficientnet-lite0"
#: Stages of the network from the first to the last, for profiles, and every second of them for alignment.
LAYERS = tuple(f"blocks.{k}" for k in (1, 3, 5, 7, 9, 11, 13, 15))
ALIGNED = LAYERS[::2]
#: Cells along each side of an image in which the channels are averaged: of the V4 session, and of the many images of HvM.
GRID, HVM_GRID = 4, 2


class GridMean:
    """Mean of every channel in each cell of a grid: coarse positions are kept, and nothing is fitted.

    Parameters
    ----------
    side : int
        Cells along each side.
    """

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, layer: str, output: torch.Tensor) -> torch.Tensor:
        """Average one batch, (n, channel, row, column), over the cells."""
        return torch.nn.functional.adaptive_avg_pool2d(output, self.side)

    def record(self) -> str:
        """Return the settings."""
        return f"mean in {self.side} x {self.side} cells"


class Sides(NamedTuple):
    """Both spaces of a dataset, one presentation for each stimulus."""

    model: xr.DataArray
    brain: xr.DataArray
    ceiling: xr.DataArray | None
    label: str | None
    simulated: bool
    model_name: str
    digests: dict[str, str]


def hvm(run: Run) -> tuple[Any, bool]:
    """Load the real public recordings where their files are at hand, else the simulated ones."""
    if not run.quick and all(locate(PUBLIC, mirror=run.mirror).values()):
        return load(PUBLIC, mirror=run.mirror), False
    size: dict[str, Any] = (
        {"images_per_object": {0: 1, 3: 4}, "n_repetitions": 5, "image_size": 64} if run.quick else {}
    )
    return load(SIMULATED, **size), True


def averaged(trials: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Average the responses over trials; return them with their split-half reliability."""
    brain = drop_constant(average_repetitions(trials))
    brain = brain.isel(time_bin=0, drop=True) if brain.ndim == 3 else brain
    trials = select(trials, neuroid_id=brain["neuroid_id"].values)
    return brain, internal_consistency(trials, n_bootstrap=0)["ceiling"]


def hvm_sides(run: Run, region: str) -> Sides:
    """Return features of the images, by the network (in the quick mode Gabor energies), and the sites of a region."""

    def make() -> tuple[Any, ...]:
        data, simulated = hvm(run)
        digests = dict(data.attrs["digests"])
        if run.quick:
            features, name = extract(GaborEnergy(), data.images, "v1"), "Gabor energies (v1)"
        else:
            features = network_features(data.images, ALIGNED, HVM_GRID)
            digests[f"{NETWORK} (EfficientNet)"] = str(features.attrs["weights_digest"])
            name = network_name(HVM_GRID)
        return *averaged(data.recordings), drop_constant(features), simulated, name, digests

    brain, ceiling, model, simulated, name, digests = run.once("hvm", make)
    rows = {NEUROID: np.flatnonzero(brain["region"].values == region)}
    return Sides(model, brain.isel(rows), ceiling.isel(rows), "category_name", simulated, name, digests)


def network_features(images: xr.DataArray, layers: tuple[str, ...], grid: int, *, trained: bool = True) -> xr.DataArray:
    """Return features of images by the network, trained on ImageNet or not; kept in the cache folder."""
    with torch.random.fork_rng(devices=[]):
        # Untrained weights are drawn from the global state.
        torch.manual_seed(0)
        loaded = load_model(f"weights:{NETWORK}", pretrained=trained)
    # The animal saw the whole image, so that nothing is cut away.
    whole = replace(loaded.preprocess, crop=None) if loaded.preprocess is not None else None
    features = extract(
        loaded.model,
        images,
        layers,
        preprocess=whole,
        pooling=GridMean(grid),
        identifier=f"{'' if trained else 'untrained '}{loaded.identifier}",
        cache=cache_folder() / "features",
    )
    return features.compute()


def network_name(grid: int, *, trained: bool = True) -> str:
    """Return the name of the features that are aligned."""
    return f"{'the real' if trained else 'an untrained'} EfficientNet-Lite0, {len(ALIGNED)} layers in {grid} x {grid} cells"


def session_data(run: Run) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray, dict[str, str]]:
    """Return the responses of the V4 session, their reliability, the images and the digests of the files."""

    def make() -> tuple[Any, ...]:
        data: Any = load(SESSION, mirror=run.mirror)
        return *averaged(data.recordings), data.images, dict(data.attrs["digests"])

    return run.once("v4", make)


def session_features(run: Run, kind: str) -> xr.DataArray:
    """Return features of the session's images: "Gabor", "EfficientNet" or "untrained EfficientNet"; kept in the cache folder."""
    images = session_data(run)[2]

    def make() -> xr.DataArray:
        if kind == "Gabor":
            return drop_constant(extract(GaborEnergy(), images, ["colour", "v1", "v2"]))
        return drop_constant(network_features(images, LAYERS, GRID, trained=not kind.startswith("untrained")))

    return run.once(f"v4 {kind}", make)


def session_sides(run: Run, kind: str) -> Sides:
    """Return features of a model, and the real V4 session."""
    brain, ceiling, _, digests = session_data(run)
    features = session_features(run, kind)
    if kind == "Gabor":
        return Sides(select(features, layer="v1"), brain, ceiling, None, False, "Gabor energies (v1)", digests)
    features = select(features, layer=list(ALIGNED))
    name = network_name(GRID, trained=not kind.startswith("untrained"))
    weights = {f"{NETWORK} ({kind})": str(features.attrs["weights_digest"])}
    return Sides(features, brain, ceiling, None, False, name, digests | weights)


def it_sides(run: Run, kind: str) -> Sides:
    """Return latents or half of the sites, and real IT sites."""
    data: Any = run.once("it", lambda: load("majajhong2015-it-v6", mirror=run.mirror))
    brain, digests = drop_constant(data.recordings), dict(data.attrs["digests"])
    if kind == "latents":
        latents = drop_constant(data.latents)
        return Sides(latents, brain, None, "object_name", False, "generative latents (object, pose)", digests)
    first, second = site_halves(brain)
    return Sides(first, second, None, "object_name", False, "the other half of the IT sites", digests)


def is_hvm(dataset: str) -> bool:
    """Return True for a region of HvM, recorded or simulated."""
    return dataset.startswith(("hvm-", f"{SIMULATED}-"))


def sides(run: Run, dataset: str) -> Sides:
    """Return both spaces of a dataset."""
    name, _, kind = dataset.partition(", ")
    if is_hvm(name):
        return hvm_sides(run, name.rpartition("-")[2])
    return session_sides(run, kind) if name == "v4-session" else it_sides(run, kind)


class PreparedFold(NamedTuple):
    """Fold with the frozen readouts of both spaces, and ridge's prediction of the brain."""

    fold: CurveFold
    heads: dict[str, Readout]
    ridge: xr.DataArray


def prepare_fold(run: Run, spaces: Sides, cell: dict[str, Any]) -> PreparedFold:
    """Draw the fold of a cell.

    The last one is kept: the methods follow each other on it.
    """
    key = cell["dataset"], cell["seed"], cell["n_pairs"]
    if run.shared.get("drawn", (None,))[0] != key:
        fold = draw_curve_fold(
            spaces.model, spaces.brain, cell["n_pairs"], seed=cell["seed"], stratify=spaces.label and "object_name"
        )
        # A dimension that happens to be constant in a pool cannot be scaled.
        model, brain = drop_constant(fold.source_train), drop_constant(fold.target_train)
        fold = CurveFold(
            model, brain, same_neuroids(fold.source_test, model), same_neuroids(fold.target_test, brain), fold.pairs
        )
        heads = {}
        if spaces.label:
            heads = {
                side: train_readout(train, spaces.label, readout="lda", seed=cell["seed"])
                for side, train in ((TO_MODEL, model), (TO_BRAIN, brain))
            }
        ridge = make_aligner("ridge", cell["seed"]).fit(model, brain, fold.pairs).transform(fold.source_test)
        run.shared["drawn"] = key, PreparedFold(fold, heads, ridge)
    return run.shared["drawn"][1]


def same_neuroids(test: xr.DataArray, train: xr.DataArray) -> xr.DataArray:
    """Keep the neuroids that the training assembly has."""
    return test.isel({NEUROID: np.isin(test["neuroid_id"].values, train["neuroid_id"].values)})
