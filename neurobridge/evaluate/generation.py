"""Generation: latents through a user's frozen decoder, and how faithful what comes out is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, coords_of, validate
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.scores import PERMUTATION, p_value, score_attrs
from neurobridge.evaluate.similarity.distribution import frechet_distance

IMAGES = "images"
GENERATED, RECONSTRUCTED, REAL = "generated", "reconstructed", "real"

Network = Callable[[torch.Tensor], torch.Tensor]


def generate(
    latents: xr.DataArray,
    decoder: Network,
    *,
    image_shape: tuple[int, ...] | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> xr.DataArray:
    """Make an image of every latent with a frozen decoder.

    Parameters
    ----------
    latents : xarray.DataArray
        Assembly, dims ``(presentation, neuroid)``, in the space and the order of the decoder's input: what
        ``BridgeAligner.transform`` gives where the aligner was fitted to the latents of the decoder's own encoder.
    decoder : torch.nn.Module or callable
        From tensors (batch, n_latents), float32 on the module's own device and in its own floating type, to (batch, row, column),
        (batch, channel, row, column), or whatever ``image_shape`` turns into that. A module runs in evaluation mode without
        gradients, and is left as it was.
    image_shape : tuple of int, optional
        ``(row, column)`` or ``(channel, row, column)``, for a decoder whose output is flat.
    batch_size : int
        What a decoder that samples gives depends on it as well.
    seed : int
        Of torch's random numbers, which a decoder that samples draws from. They are as before afterwards.

    Returns
    -------
    xarray.DataArray
        Values as the decoder gives them, float32, dims ``(presentation, row, column)`` or, of several channels,
        ``(presentation, row, column, channel)``; the presentation coordinates of the latents.

    Raises
    ------
    AssemblyError
        The decoder gives another number of images, a shape that is none, or values that are not finite.
    """
    validate(latents, role="latents")
    values = as_matrix(latents, role="latents", dtype=np.float32)
    made = _run(decoder, values, batch_size, "decoder", seed)
    if image_shape is not None:
        if made[0].size != np.prod(image_shape):
            raise AssemblyError(
                f"decoder: found {made[0].size} values an image; expected {int(np.prod(image_shape))} for "
                f"image_shape={tuple(image_shape)}. Mend: give the shape of what the decoder makes."
            )
        made = made.reshape(len(made), *image_shape)
    if made.ndim == 4:
        # Torch puts the channel first, images of this package last.
        made = made[:, 0] if made.shape[1] == 1 else np.moveaxis(made, 1, -1)
    elif made.ndim != 3:
        raise AssemblyError(
            f"decoder: found output of shape {made.shape}; expected (batch, row, column) or (batch, channel, row, column). "
            "Mend: image_shape=(row, column)."
        )
    return xr.DataArray(
        made,
        dims=(PRESENTATION, "row", "column", "channel")[: made.ndim],
        coords=coords_of(latents, PRESENTATION),
        attrs={**latents.attrs, "decoder": getattr(decoder, "__name__", type(decoder).__name__)},
        name=IMAGES,
    )


def generation_fidelity(
    images: xr.DataArray,
    label: str,
    *,
    classifier: Network,
    classes: Sequence[Any],
    features: Network,
    real: xr.DataArray,
    reconstructions: xr.DataArray,
    n_permutations: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
) -> xr.Dataset:
    """Judge generated images with a frozen classifier and a Frechet distance, beside reconstructions of real images.

    Reconstruction is what the decoder makes of real images' own latents: the ceiling of anything that goes through it. Neither the
    classifier nor its features may have been trained on the decoder's images or on ``real``.

    Parameters
    ----------
    images : xarray.DataArray
        Made by `generate`, with the label that was wanted on ``presentation``.
    label : str
        Coordinate on ``presentation`` of all three sets: what the image should show.
    classifier : torch.nn.Module or callable
        From tensors (batch, channel, row, column) to scores (batch, n_classes).
    classes : sequence
        Labels in the order of the classifier's scores.
    features : torch.nn.Module or callable
        From the same tensors to features (batch, n_features), usually of the classifier's last hidden layer.
    real : xarray.DataArray
        Real images, dims ``(presentation, row, column[, channel])``, on the scale of the decoder's; uint8 is divided by 255.
    reconstructions : xarray.DataArray
        Decoded from latents of real images, which may be those of ``real``.
    n_permutations : int
        Size of the null: wanted labels are shuffled.
    seed : int
        Of the null, the halves and torch's random numbers, which are as before afterwards.
    batch_size : int

    Returns
    -------
    xarray.Dataset
        Over ``images`` ("generated", "reconstructed", "real"): ``agreement``, the share that the classifier names as wanted; ``n``;
        and ``frechet``, the distance of their features to those of ``real`` in the features' squared units (for "real" that between
        its two random halves: what sampling alone gives at half the size). ``chance``: mean agreement of the generated images with
        shuffled labels; ``null`` (permutation) all of them; ``p_value``. ``normalized``: generated over reconstructed agreement,
        not clipped.

    Raises
    ------
    AssemblyError
        A label is missing or not among the classes, images of another shape, a classifier that gives other scores than one a class,
        or values that are not finite.

    Notes
    -----
    A Frechet distance falls with the number of images: compare distances of equally many. Features of more dimensions than there
    are images make singular covariances; the distance is still defined, and biased upward.
    """
    sets = {GENERATED: images, RECONSTRUCTED: reconstructions, REAL: real}
    wanted = {name: _labels(one, label, classes, name) for name, one in sets.items()}
    pixels = {name: _pixels(one, name) for name, one in sets.items()}
    shapes = {name: values.shape[1:] for name, values in pixels.items()}
    if len(set(shapes.values())) != 1:
        raise AssemblyError(
            f"found images of shape {shapes}; expected the same (channel, row, column) in all. Mend: resize them first."
        )
    said, seen = {}, {}
    for name, values in pixels.items():
        scores = _run(classifier, values, batch_size, "classifier", seed)
        if scores.shape != (len(values), len(classes)):
            raise AssemblyError(
                f"classifier: found scores of shape {scores.shape}; expected ({len(values)}, {len(classes)}), one a class. Mend: "
                "name the classes in the order of its output."
            )
        said[name] = np.asarray(classes)[scores.argmax(axis=1)]
        seen[name] = _run(features, values, batch_size, "features", seed).reshape(len(values), -1)
    agreement = [float((said[name] == wanted[name]).mean()) for name in sets]
    rng = np.random.default_rng(seed)
    halves = np.array_split(rng.permutation(len(seen[REAL])), 2)
    distances = [
        frechet_distance(seen[GENERATED], seen[REAL]),
        frechet_distance(seen[RECONSTRUCTED], seen[REAL]),
        frechet_distance(*(seen[REAL][half] for half in halves)),
    ]
    null = np.array([(said[GENERATED] == rng.permutation(wanted[GENERATED])).mean() for _ in range(n_permutations)])
    attrs = {
        "metric": f"agreement of {label}, Frechet distance",
        "n_stimuli": images.sizes[PRESENTATION],
        "n_classes": len(classes),
    }
    return xr.Dataset(
        {
            "agreement": (IMAGES, agreement),
            "n": (IMAGES, [len(values) for values in pixels.values()]),
            "frechet": (IMAGES, distances),
            "chance": float(null.mean()) if n_permutations else np.nan,
            "null": (PERMUTATION, null),
            "p_value": p_value(agreement[0], null),
            "normalized": agreement[0] / agreement[1] if agreement[1] else np.nan,
        },
        coords={IMAGES: list(sets)},
        attrs=score_attrs(attrs, 1, n_permutations, seed, (images, real)),
    )


@contextmanager
def _at_rest(network: Network, seed: int) -> Iterator[tuple[torch.device, torch.dtype]]:
    """Evaluation mode without gradients, random numbers from the seed; all as before afterwards.

    Gives where the network lies and its floating type.
    """
    modules = list(network.modules()) if isinstance(network, torch.nn.Module) else []
    training = [module.training for module in modules]
    first = next((p for p in network.parameters() if p.is_floating_point()), None) if modules else None  # type: ignore[attr-defined]
    # A function may hold a module on any of them.
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        for module in modules:
            module.training = False
        with torch.random.fork_rng(devices=cuda), torch.no_grad():
            torch.manual_seed(seed)
            yield (torch.device("cpu"), torch.float32) if first is None else (first.device, first.dtype)
    finally:
        for module, flag in zip(modules, training, strict=True):
            module.training = flag


def _run(network: Network, values: np.ndarray, batch_size: int, role: str, seed: int) -> np.ndarray:
    if batch_size < 1:
        raise AssemblyError(f"found batch_size={batch_size}; expected at least 1. Mend: use 256.")
    parts = []
    with _at_rest(network, seed) as (device, dtype):
        for start in range(0, len(values), batch_size):
            batch = torch.as_tensor(values[start : start + batch_size]).to(device, dtype)
            out = network(batch)
            if not isinstance(out, torch.Tensor) or out.ndim < 2 or len(out) != len(batch):
                shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
                raise AssemblyError(
                    f"{role}: found output {shape} for {len(batch)} inputs; expected a tensor with one row for each. "
                    "Mend: wrap it in a function that returns that tensor alone."
                )
            parts.append(out.detach().float().cpu().numpy())
    result = np.concatenate(parts)
    if not np.isfinite(result).all():
        raise AssemblyError(
            f"{role}: found {int((~np.isfinite(result)).sum())} NaN or infinite values of {result.size}; expected finite ones. "
            "Mend: check that its input is on the scale it was trained on."
        )
    return result


def _labels(images: xr.DataArray, label: str, classes: npt.ArrayLike, role: str) -> np.ndarray:
    found = sorted(str(name) for name, coord in images.coords.items() if coord.dims == (PRESENTATION,))
    if label not in found:
        raise AssemblyError(
            f"{role}: found presentation coordinates {found}; expected {label!r} among them. "
            f"Mend: images.assign_coords({label}=('presentation', labels))."
        )
    labels = np.asarray(images.coords[label].values)
    unknown = ~np.isin(labels, np.asarray(classes))
    if unknown.any():
        raise AssemblyError(
            f"{role}: found {int(unknown.sum())} labels that are not among the classes, e.g. {labels[unknown][0]!r}; expected "
            f"{label!r} among {list(np.asarray(classes)[:10])}. Mend: name the classes as the label does."
        )
    return labels


def _pixels(images: xr.DataArray, role: str) -> np.ndarray:
    """Float32 images of shape (n, channel, row, column)."""
    dims = tuple(map(str, images.dims))
    if dims[:3] != (PRESENTATION, "row", "column") or dims[3:] not in ((), ("channel",)):
        raise AssemblyError(
            f"{role}: found dims {dims}; expected ('presentation', 'row', 'column'[, 'channel']). Mend: transpose or rename them."
        )
    if STIMULUS_ID not in images.coords or images.sizes[PRESENTATION] < 4:
        raise AssemblyError(
            f"{role}: found {images.sizes[PRESENTATION]} images, coordinates {sorted(map(str, images.coords))}; expected at least "
            "4, with stimulus_id. Mend: give more images, or assign stimulus_id."
        )
    values = np.asarray(images.values)
    values = values.astype(np.float32) / 255 if values.dtype == np.uint8 else values.astype(np.float32)
    return np.moveaxis(values, -1, 1) if values.ndim == 4 else values[:, None]
