"""Train a small reference model, from a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from neurobridge._version import __version__
from neurobridge.assemblies import AssemblyError
from neurobridge.features.models.frozen import weights_digest
from neurobridge.features.references.files import Reference, freeze
from neurobridge.features.references.recipes import REFERENCES, Loss, Recipe
from neurobridge.features.stimuli.preprocess import Preprocess
from neurobridge.points.options import is_choice
from neurobridge.points.progress import progress_bar

_LIMIT = 4 * 2**30
_FEWEST_PIXELS = 4


def train_reference(
    name: str,
    images: xr.DataArray,
    *,
    labels: str = "category_name",
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    preprocess: Preprocess | None = None,
    threads: int = 1,
    progress: bool = False,
    **arguments: Any,
) -> Reference:
    """Train a small model on images, from a seed.

    Parameters
    ----------
    name : {"conv_net", "conv_vae", "conv_contrastive", "gabor_energy"}
        A key of `REFERENCES`: a classifier, a variational autoencoder, an encoder trained to ignore distortions (both without
        labels), and a bank of Gabor filters in which nothing is trained.
    images : xarray.DataArray
        uint8 pixels, dims ``(presentation, row, column[, channel])``. Leave out those that are to be tested on.
    labels : str
        Coordinate with the class of each image; "conv_net" alone uses it.
    seed : int
        Of the weights, the order of the images and all noise.
    epochs, batch_size : int, optional
        Passes over the images, and images a step; default: the recipe's, made for 60,000 digits.
    preprocess : Preprocess, optional
        Default: pixels in [0, 1].
    threads : int
        Of torch while it trains; another number may change the last bits of the weights. More than one helps on idle cores
        only: on busy ones threads wait for each other.
    progress : bool
        Show a progress bar.
    **arguments
        Of the model: ``n_latents``, ``beta``, ``n_features``, ``temperature``, ...

    Returns
    -------
    Reference

    Raises
    ------
    AssemblyError
        Unknown name, images that are not images, missing labels, or fewer than two classes or images.
    FloatingPointError
        The loss is not finite.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import neurobridge as nb
    >>> pixels = np.random.default_rng(0).integers(0, 255, (6, 48, 48)).astype(np.uint8)
    >>> ids = ("presentation", [f"image{k}" for k in range(6)])
    >>> images = xr.DataArray(pixels, dims=("presentation", "row", "column"), coords={"stimulus_id": ids})
    >>> reference = nb.features.train_reference("conv_vae", images, epochs=1, progress=False)
    >>> reference
    Reference('conv_vae', ConvVAE, ... parameters, seed=0, epochs=1)
    """
    if not is_choice(name, REFERENCES):
        raise AssemblyError(
            f"reference: found {name!r}; expected one of {sorted(REFERENCES)}. Mend: choose one of them."
        )
    recipe = REFERENCES[name]
    if recipe.loss is not None:
        recipe = replace(recipe, epochs=epochs or recipe.epochs, batch_size=batch_size or recipe.batch_size)
    preprocess = preprocess or Preprocess()
    pixels = _pixels(images)
    classes, codes = _classes(images, labels) if recipe.supervised else ([], None)
    shape = tuple(preprocess(torch.from_numpy(pixels[:1].copy())).shape[1:])
    known = {"channels": shape[0], "size": shape[-1], "n_classes": len(classes)}
    if "size" in recipe.inferred and shape[1] != shape[2]:
        raise AssemblyError(
            f"images: found {shape[1]} x {shape[2]} pixels; expected square ones for {name}. Mend: preprocess=Preprocess(size=32)."
        )
    if min(shape[1:]) < _FEWEST_PIXELS:
        raise AssemblyError(
            f"images: found {shape[1]} x {shape[2]} pixels; expected at least {_FEWEST_PIXELS} x {_FEWEST_PIXELS}, as the layers "
            "halve them twice. Mend: preprocess=Preprocess(size=32)."
        )
    arguments = {**{key: known[key] for key in recipe.inferred}, **arguments}
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]), _threads(threads):
        torch.default_generator.manual_seed(seed)
        try:
            model = recipe.build(**arguments)
        except TypeError as error:
            raise AssemblyError(
                f"{name}: found the arguments {sorted(arguments)} ({error}); expected those of {recipe.build.__name__}. "
                "Mend: see its documentation."
            ) from error
        if recipe.loss is not None:
            losses = _fit(model, recipe, recipe.loss, pixels, codes, preprocess, seed, progress)
    card = {
        "name": name,
        "neurobridge": __version__,
        "torch": torch.__version__.split("+")[0],
        "arguments": arguments,
        "layers": list(recipe.layers),
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "weights_digest": weights_digest(model),
        "input": list(shape),
        "preprocessing": json.loads(json.dumps(asdict(preprocess))),
        "labels": labels if recipe.supervised else None,
        "classes": classes,
        "training": {
            "seed": seed,
            "threads": threads,
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate,
            "losses": losses,
        }
        if recipe.loss is not None
        else None,
        "data": _data(images, pixels, codes) if recipe.loss is not None else None,
    }
    return Reference(freeze(model), card)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit(
    model: torch.nn.Module,
    recipe: Recipe,
    loss_of: Loss,
    pixels: np.ndarray,
    codes: np.ndarray | None,
    preprocess: Preprocess,
    seed: int,
    progress: bool,
) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    n_batches = max(1, len(pixels) // recipe.batch_size)
    n_steps = recipe.epochs * n_batches
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    # One step more than are taken: the schedule is also defined for a single one.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=n_steps + 1)
    targets = torch.from_numpy(np.zeros(len(pixels), dtype=np.int64) if codes is None else codes)
    losses = []
    model.train()
    with progress_bar(total=n_steps, progress=progress) as bar:
        for epoch in range(recipe.epochs):
            total = 0.0
            for rows in torch.tensor_split(torch.randperm(len(pixels), generator=generator), n_batches):
                batch = preprocess(torch.from_numpy(pixels[rows.numpy()]))
                optimiser.zero_grad()
                loss = loss_of(model, batch, targets[rows], generator)
                loss.backward()
                optimiser.step()
                schedule.step()
                total += loss.item() * len(rows)
                bar.update()
            losses.append(total / len(pixels))
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"training: found a loss of {losses[-1]} in epoch {epoch + 1}; expected a finite one. Mend: check the "
                    "preprocessing (pixels in [0, 1])."
                )
    return losses


def _pixels(images: xr.DataArray) -> np.ndarray:
    mend = "Mend: pass Experiment.images."
    dims = tuple(map(str, getattr(images, "dims", ())))
    if dims[:3] != ("presentation", "row", "column") or dims[3:] not in ((), ("channel",)) or images.dtype != np.uint8:
        raise AssemblyError(
            f"images: found {type(images).__name__} with dims {dims}; expected a uint8 DataArray with dims (presentation, row, "
            f"column[, channel]). {mend}"
        )
    if images.sizes["presentation"] < 2 or not 0 < images.size <= _LIMIT:
        raise AssemblyError(
            f"images: found shape {images.shape}, {images.nbytes / 2**30:.1f} GiB; expected at least two with pixels, and at "
            f"most {_LIMIT / 2**30:.0f} GiB. Mend: train on a selection."
        )
    return np.ascontiguousarray(images.values)


def _classes(images: xr.DataArray, labels: str) -> tuple[list[str], np.ndarray]:
    if labels not in images.coords or images.coords[labels].dims != ("presentation",):
        raise AssemblyError(
            f"images: found coordinates {sorted(map(str, images.coords))}; expected the labels {labels!r} on 'presentation'. "
            "Mend: labels='...', or train a model that needs none: conv_vae, conv_contrastive."
        )
    classes, codes = np.unique(images.coords[labels].values.astype(str), return_inverse=True)
    if len(classes) < 2:
        raise AssemblyError(
            f"images: found one class only, {str(classes[0])!r}; expected two or more. Mend: add images."
        )
    return classes.tolist(), codes.astype(np.int64)


def _data(images: xr.DataArray, pixels: np.ndarray, codes: np.ndarray | None) -> dict[str, Any]:
    sha = hashlib.sha256(f"{pixels.shape}|".encode())
    sha.update(pixels.data)
    if codes is not None:
        sha.update(codes.data)
    known = {key: images.attrs[key] for key in ("identifier", "citation", "digests") if key in images.attrs}
    return {"n_images": len(pixels), "shape": list(pixels.shape[1:]), "digest": f"sha256:{sha.hexdigest()}", **known}
