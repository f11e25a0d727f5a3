"""Generation of images from latents by a frozen decoder, and the fidelity of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neurobridge.assemblies import AssemblyError, as_matrix, coords_of, validate
from neurobridge.assemblies.labels import present_labels
from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.score.schema import make_score, score_attrs
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
        Assembly, dims ``(presentation, neuroid)``, in the space and the order of the decoder's input: the result of
        ``BridgeAligner.transform`` where the aligner was fitted to the latents of the encoder that belongs to the decoder.
    decoder : torch.nn.Module or callable
        From tensors (batch, n_latents), on the module's device and in its floating type (float32 for a function), to
        (batch, row, column), (batch, channel, row, column), or whatever ``image_shape`` turns into that. A module runs in
        evaluation mode without gradients, and is left as it was.
    image_shape : tuple of int, optional
        ``(row, column)`` or ``(channel, row, column)``, for a decoder whose output is flat.
    batch_size : int
        Latents decoded at a time; the output of a decoder that samples depends on it.
    seed : int
        Of torch's random numbers, for a decoder that samples; their state is restored afterwards.

    Returns
    -------
    xarray.DataArray
        Values as the decoder gives them, float32, dims ``(presentation, row, column)`` or, of several channels,
        ``(presentation, row, column, channel)``; the presentation coordinates of the latents.

    Raises
    ------
    AssemblyError
        The decoder gives another number of images, a shape that is not that of images, or values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate import generate
    >>> values = np.random.default_rng(0).normal(size=(6, 3))  # simulated latents of six stimuli
    >>> latents = make_assembly(values, presentation={"stimulus_id": range(6)}, neuroid={"neuroid_id": range(3)})
    >>> decoder = torch.nn.Linear(3, 16)  # untrained: a real decoder belongs to the latents
    >>> generate(latents, decoder, image_shape=(4, 4)).sizes["row"]
    4
    """
    validate(latents, role="latents")
    values = as_matrix(latents, role="latents", dtype=np.float32)
    pixels = _run(decoder, values, batch_size, "decoder", seed)
    if image_shape is not None:
        if pixels[0].size != np.prod(image_shape):
            raise AssemblyError(
                f"decoder: found {pixels[0].size} values an image; expected {int(np.prod(image_shape))} for "
                f"image_shape={tuple(image_shape)}. Mend: give the shape of one image of the decoder."
            )
        pixels = pixels.reshape(len(pixels), *image_shape)
    if pixels.ndim == 4:
        # Torch puts the channel first, images of this package last.
        pixels = pixels[:, 0] if pixels.shape[1] == 1 else np.moveaxis(pixels, 1, -1)
    elif pixels.ndim != 3:
        raise AssemblyError(
            f"decoder: found output of shape {pixels.shape}; expected (batch, row, column) or (batch, channel, row, column). "
            "Mend: image_shape=(row, column)."
        )
    return xr.DataArray(
        pixels,
        dims=(PRESENTATION, "row", "column", "channel")[: pixels.ndim],
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
    """Score generated images by a frozen classifier and a Frechet distance, and compare with reconstructions of real images.

    Reconstructions are decoded from the latents of real images: the ceiling of all images that the decoder can make. Neither the
    classifier nor its features may have been trained on the decoder's images or on ``real``.

    Parameters
    ----------
    images : xarray.DataArray
        Made by `generate`, with the label that was wanted on ``presentation``.
    label : str
        Coordinate on ``presentation`` of all three sets: the class that the image should show.
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
        Score without dims of the generated images: ``raw``, the share that the classifier names as wanted; ``ceiling``, that of
        the reconstructions; ``normalized``, their ratio, not clipped; ``null`` (permutation), the agreement with shuffled labels.
        And over ``images`` ("generated", "reconstructed", "real"): ``agreement``, the same share; ``n``; and ``frechet``, the
        distance of their features to those of ``real`` in the features' squared units (for "real" that between its two random
        halves: the distance that sampling alone gives at half the size).

    Raises
    ------
    AssemblyError
        A label is missing or not among the classes, images of another shape, a classifier that gives other scores than one a class,
        or values that are not finite.

    Notes
    -----
    A Frechet distance falls with the number of images: compare distances of equally many. Features of more dimensions than there
    are images make singular covariances; the distance is still defined, and biased upward.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurobridge.evaluate import generation_fidelity
    >>> labels = np.arange(40) % 2
    >>> def simulated(seed):  # images of two classes, brighter on the left or on the right
    ...     pixels = np.random.default_rng(seed).normal(size=(40, 4, 4)).astype("float32")
    ...     pixels[labels == 0, :, :2] += 1
    ...     pixels[labels == 1, :, 2:] += 1
    ...     coords = {"stimulus_id": ("presentation", np.arange(40)), "side": ("presentation", labels)}
    ...     return xr.DataArray(pixels, dims=("presentation", "row", "column"), coords=coords)
    >>> def features(x):  # mean brightness of the two halves
    ...     return x.unflatten(3, (2, 2)).mean(dim=(1, 2, 4))
    >>> score = generation_fidelity(
    ...     simulated(0), "side", classifier=features, classes=[0, 1], features=features,
    ...     real=simulated(1), reconstructions=simulated(2), n_permutations=50,
    ... )
    >>> float(score["raw"]) > 0.8, float(score["normalized"]) > 0.8
    (True, True)
    """
    sets = {GENERATED: images, RECONSTRUCTED: reconstructions, REAL: real}
    wanted = {name: _labels(array, label, classes, name) for name, array in sets.items()}
    pixels = {name: _pixels(array, name) for name, array in sets.items()}
    shapes = {name: values.shape[1:] for name, values in pixels.items()}
    if len(set(shapes.values())) != 1:
        raise AssemblyError(
            f"found images of shape {shapes}; expected the same (channel, row, column) in all. Mend: resize them first."
        )
    named, seen = {}, {}
    for name, values in pixels.items():
        scores = _run(classifier, values, batch_size, "classifier", seed)
        if scores.shape != (len(values), len(classes)):
            raise AssemblyError(
                f"classifier: found scores of shape {scores.shape}; expected ({len(values)}, {len(classes)}), one a class. Mend: "
                "name the classes in the order of its output."
            )
        named[name] = np.asarray(classes)[scores.argmax(axis=1)]
        seen[name] = _run(features, values, batch_size, "features", seed).reshape(len(values), -1)
    agreement = [float((named[name] == wanted[name]).mean()) for name in sets]
    rng = np.random.default_rng(seed)
    halves = np.array_split(rng.permutation(len(seen[REAL])), 2)
    distances = [
        frechet_distance(seen[GENERATED], seen[REAL]),
        frechet_distance(seen[RECONSTRUCTED], seen[REAL]),
        frechet_distance(*(seen[REAL][half] for half in halves)),
    ]
    null = np.array([(named[GENERATED] == rng.permutation(wanted[GENERATED])).mean() for _ in range(n_permutations)])
    attrs = {
        "metric": f"agreement of {label}, Frechet distance",
        "splits": "all images",
        "n_stimuli": images.sizes[PRESENTATION],
        "n_classes": len(classes),
    }
    return make_score(
        agreement[0],
        null=null,
        ceiling=agreement[1],
        extra={
            "agreement": (IMAGES, agreement),
            "n": (IMAGES, [len(values) for values in pixels.values()]),
            "frechet": (IMAGES, distances),
        },
        coords={IMAGES: list(sets)},
        attrs=score_attrs(attrs, 1, n_permutations, seed, (images, real)),
    )


@contextmanager
def _at_rest(network: Network, seed: int) -> Iterator[tuple[torch.device, torch.dtype]]:
    """Hold a network in evaluation mode without gradients, with random numbers from the seed; all is restored afterwards.

    Yields the network's device and floating type.
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
    names = sorted(str(name) for name, coord in images.coords.items() if coord.dims == (PRESENTATION,))
    if label not in names:
        raise AssemblyError(
            f"{role}: found presentation coordinates {names}; expected {label!r} among them. "
            f"Mend: images.assign_coords({label}=('presentation', labels))."
        )
    mend = f"neurobridge.assemblies.drop_missing(images, {label!r}) leaves them out"
    labels = present_labels(images.coords[label].values, name=label, role=role, mend=mend)
    unknown = ~np.isin(labels, np.asarray(classes))
    if unknown.any():
        raise AssemblyError(
            f"{role}: found {int(unknown.sum())} labels that are not among the classes, e.g. {labels[unknown][0]!r}; expected "
            f"{label!r} among {list(np.asarray(classes)[:10])}. Mend: name the classes as the label does."
        )
    return labels


def _pixels(images: xr.DataArray, role: str) -> np.ndarray:
    """Return float32 images of shape (n, channel, row, column)."""
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
