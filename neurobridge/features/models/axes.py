"""Axes of the output of a layer: given by the user, or found by changing the images in one way at a time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.assemblies import AssemblyError
from neurobridge.features.models.hooks import Recorder

Axes = tuple[str, ...]
#: What `extract` takes as ``axes``: names of the axes by layer name or pattern.
GivenAxes = Mapping[str, str | Sequence[str]]
PRESENTATION, TOKEN, CHANNEL, ROW, COLUMN = NAMES = ("presentation", "token", "channel", "row", "column")
_USUAL = {2: (PRESENTATION, CHANNEL), 3: (PRESENTATION, TOKEN, CHANNEL), 4: (PRESENTATION, CHANNEL, ROW, COLUMN)}
# Least difference of the two halves of an axis, in units of the whole response, and least ratio to that of other axes.
_LEAST_TREND, _LEAST_RATIO = 0.2, 3.0
_N_DRAWS = 4


class Places(NamedTuple):
    """Axes of an output that follow the tokens, rows and columns of an image; None where none is known to."""

    token: int | None = None
    row: int | None = None
    column: int | None = None


def given_axes(axes: GivenAxes | None, layers: Sequence[str]) -> dict[str, Axes]:
    """Look up the axes that the user gave, layer by layer.

    Parameters
    ----------
    axes : mapping of str to sequence of str, optional
        Layer name or glob pattern to names of axes, a sequence or a text with commas.
    layers : sequence of str
        Names of the layers to record.

    Raises
    ------
    AssemblyError
        A pattern matches no layer or two patterns one layer, or the names are not those of axes.

    Examples
    --------
    >>> given_axes({"norm*": "presentation,row,column,channel"}, ["norm1", "head"])
    {'norm1': ('presentation', 'row', 'column', 'channel')}
    """
    if axes is not None and not isinstance(axes, Mapping):
        raise AssemblyError(
            f"axes: found {type(axes).__name__}; expected names of axes by layer. "
            "Mend: axes={'LAYER': 'presentation,row,column,channel'}."
        )
    named: dict[str, Axes] = {}
    for pattern, names in (axes or {}).items():
        layer_axes = tuple(name.strip() for name in (names.split(",") if isinstance(names, str) else names))
        _check_names(pattern, layer_axes)
        matched = [layer for layer in layers if layer == pattern or fnmatchcase(layer, pattern)]
        if not matched or set(matched) & named.keys():
            raise AssemblyError(
                f"axes: found the pattern {pattern!r}, which matches {matched or 'no layer'}; expected each layer among "
                f"{list(layers)} to be named at most once. Mend: write the names of layers out."
            )
        named |= dict.fromkeys(matched, layer_axes)
    return named


def _check_names(layer: str, axes: Axes) -> None:
    is_known = set(axes) <= set(NAMES) and len(set(axes)) == len(axes) and PRESENTATION in axes and len(axes) > 1
    if not is_known or (TOKEN in axes and {ROW, COLUMN} & set(axes)):
        raise AssemblyError(
            f"axes of layer {layer!r}: found {axes}; expected {PRESENTATION!r} and one or more of {NAMES[1:]}, each once, "
            f"tokens without rows and columns. Mend: axes={{{layer!r}: 'presentation,row,column,channel'}}, in the order "
            "of the output."
        )


def arrange(layer: str, output: torch.Tensor, axes: Axes, n_images: int) -> torch.Tensor:
    """Bring the axes of an output into the order that poolings and labels expect.

    Parameters
    ----------
    layer : str
    output : tensor
    axes : tuple of str
        Names of its axes.
    n_images : int
        Images in the batch.

    Returns
    -------
    tensor of shape (n, channel), (n, token, channel) or (n, channel, row, column)
        An axis that the output lacks has one entry.

    Raises
    ------
    AssemblyError
        The output has another number of axes or images.

    Examples
    --------
    >>> channels_last = torch.zeros(2, 5, 6, 3)
    >>> arrange("norm", channels_last, ("presentation", "row", "column", "channel"), 2).shape
    torch.Size([2, 3, 5, 6])
    """
    shape = tuple(output.shape)
    if len(shape) != len(axes) or shape[axes.index(PRESENTATION)] != n_images:
        raise AssemblyError(
            f"layer {layer!r}: found an output of shape {shape} for {n_images} images; expected the axes {axes}. Mend: "
            f"axes={{{layer!r}: ...}} in the order of the output, or name another layer."
        )
    order = _order(axes)
    arranged = output.permute([axes.index(name) for name in order if name in axes])
    for k, name in enumerate(order):
        if name not in axes:
            arranged = arranged.unsqueeze(k)
    return arranged


def is_in_order(axes: Axes) -> bool:
    """Tell whether `arrange` leaves an output with these axes as it is.

    Examples
    --------
    >>> is_in_order(("presentation", "channel", "row", "column")), is_in_order(("token", "presentation", "channel"))
    (True, False)
    """
    return axes == _order(axes)


def _order(axes: Axes) -> Axes:
    if TOKEN in axes:
        return _USUAL[3]
    return _USUAL[4] if {ROW, COLUMN} & set(axes) else _USUAL[2]


def find_axes(recorder: Recorder, image: torch.Tensor, layers: Sequence[str], *, n_images: int = 1) -> dict[str, Axes]:
    """Name the axes of the outputs of layers by what happens to them when the images change.

    1. The axis that has 2 entries for 2 images and 3 for 3 is that of the images; where the model takes no such batches,
       others are tried, up to the size that it will be run with.
    2. If two or more axes are left, the images are halved, first in height, then in width: the axis that changes with the
       height alone is that of rows, with the width alone that of columns, with both that of tokens. The model may raise in
       these passes; what came before counts.
    3. If that does not tell, halves of the image are replaced by noise: the output changes near the replaced half.
    4. If that does not tell either, the usual order is taken, with a warning.

    Parameters
    ----------
    recorder : Recorder
        Of the model, in evaluation mode.
    image : tensor of shape (1, channels, height, width)
        As the model takes it.
    layers : sequence of str
    n_images : int
        Images in the batches that the model will be run with.

    Returns
    -------
    dict of str to tuple of str
        Without the layers that did not run for two numbers of images; `usual_axes` names those.

    Raises
    ------
    AssemblyError
        The output of a layer has no axis of the images, or several axes follow their number.

    Warns
    -----
    UserWarning
        The usual order was taken for a layer.
    """
    shapes: dict[int, dict[str, tuple[int, ...]]] = {}
    for n in dict.fromkeys((2, 3, 1, n_images, max(1, n_images - 1))):
        shapes[n] = recorder.shapes(_repeated(image, n))
        if sum(set(layers) <= by_layer.keys() for by_layer in shapes.values()) == 2:
            break
    batch_axes: dict[str, int] = {}
    references: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        by_n = {n: by_layer[layer] for n, by_layer in shapes.items() if layer in by_layer}
        if len(by_n) > 1 and len({len(shape) for shape in by_n.values()}) == 1:
            batch_axes[layer] = _batch_axis(layer, by_n)
            references[layer] = next(iter(by_n.values()))
    named = {layer: _USUAL[2] if batch_axes[layer] == 0 else (CHANNEL, PRESENTATION)
             for layer, shape in references.items() if len(shape) == 2}  # fmt: skip
    unclear: set[str] = set()
    for find_places in (_places_by_size, _places_by_noise):
        open_axes = {layer: axis for layer, axis in batch_axes.items() if layer not in named.keys() | unclear}
        places = find_places(recorder, image, open_axes, shapes[2]) if open_axes else {}
        for layer in open_axes:
            place = places.get(layer, Places())
            axes = None if place is None else _named(references[layer], batch_axes[layer], place)
            if axes is not None:
                named[layer] = axes
            elif place is None or place.token is not None:
                # Attention maps, or tokens, heads and channels: there are no names for these, whatever noise shows.
                unclear.add(layer)
    for layer, shape in references.items():
        if layer not in named:
            named[layer] = _in_usual_order(batch_axes[layer], len(shape))
            _warn(layer, shape, named[layer], "its rows, columns and channels cannot be told apart")
    return named


def usual_axes(layer: str, shape: tuple[int, ...], n_images: int) -> Axes:
    """Name the axes of a layer that does not run with other numbers of images, by the usual order, with a warning.

    Raises
    ------
    AssemblyError
        No axis has as many entries as there are images.

    Warns
    -----
    UserWarning
        Always: the order is a guess.
    """
    if n_images not in shape:
        raise _not_of_images(layer, f"the shape {shape} for {n_images} images")
    axes = _in_usual_order(shape.index(n_images), len(shape))
    _warn(layer, shape, axes, f"the model takes no other number of images than {n_images}")
    return axes


def _warn(layer: str, shape: tuple[int, ...], axes: Axes, why: str) -> None:
    order = ",".join(axes)
    warnings.warn(
        f"layer {layer!r}: found an output of shape {shape} whose axes are not certain, as {why}; taken for {order}. "
        f"Mend: axes={{{layer!r}: {order!r}}} if that is right, else in the right order (--axes {layer}={order}).",
        UserWarning,
        stacklevel=2,
    )


def _repeated(image: torch.Tensor, n: int) -> torch.Tensor:
    return image.repeat(n, 1, 1, 1)


def _batch_axis(layer: str, by_n: Mapping[int, tuple[int, ...]]) -> int:
    """Return the axis whose size is the number of images, if it is the only one that changes with it."""
    text = ", ".join(f"{shape} for {n} image{'s' * (n != 1)}" for n, shape in by_n.items())
    follows = [axis for axis, sizes in enumerate(zip(*by_n.values(), strict=True)) if len(set(sizes)) > 1]
    if len(follows) != 1 or any(shape[follows[0]] != n for n, shape in by_n.items()):
        raise _not_of_images(layer, f"the shapes {text}")
    return follows[0]


def _not_of_images(layer: str, text: str) -> AssemblyError:
    return AssemblyError(
        f"layer {layer!r}: found outputs of {text}; expected one axis that has as many entries as there are images, and others "
        "that do not follow it. Mend: name another layer, or wrap it so that it returns one value a unit and image."
    )


def _places_by_size(
    recorder: Recorder, image: torch.Tensor, batch_axes: Mapping[str, int], whole: Mapping[str, tuple[int, ...]]
) -> dict[str, Places | None]:
    """Compare shapes for two whole and two half images; None for a layer of which several axes follow the same side."""
    height, width = image.shape[-2:]
    if height < 2 or width < 2:
        return {}
    low, narrow = (
        recorder.shapes(_repeated(part, 2)) for part in (image[..., : height // 2, :], image[..., : width // 2])
    )
    places: dict[str, Places | None] = {}
    for layer, axis in batch_axes.items():
        if len({len(shapes.get(layer, ())) for shapes in (whole, low, narrow)}) > 1 or layer not in whole:
            continue
        rows, columns = (
            {k for k, size in enumerate(shapes[layer]) if size != whole[layer][k]} for shapes in (low, narrow)
        )
        if axis in rows | columns or len(rows) > 1 or len(columns) > 1:
            places[layer] = None
            continue
        row, column = next(iter(rows), None), next(iter(columns), None)
        places[layer] = Places(token=row) if row == column else Places(row=row, column=column)
    return places


def _places_by_noise(
    recorder: Recorder, image: torch.Tensor, batch_axes: Mapping[str, int], whole: Mapping[str, tuple[int, ...]]
) -> dict[str, Places | None]:
    """Compare the output for an image with those for four copies, each with another half replaced by noise."""
    sums: dict[str, np.ndarray] = {}

    def compare(layer: str, output: torch.Tensor) -> tuple[torch.Tensor, ...]:
        axis = batch_axes.get(layer)
        if axis is not None and output.shape[axis] == 5:
            responses = output.movedim(axis, 0).to("cpu", torch.float32)
            sums[layer] = sums.get(layer, 0.0) + _sums_of_halves((responses[1:] - responses[:1]).abs())
        return ()

    for seed in range(_N_DRAWS):
        with suppress(Exception):
            recorder.run(_with_noisy_halves(image, seed), compare)
    places: dict[str, Places | None] = {}
    for layer, by_axis in sums.items():
        # The axes of the output but that of the images, which its changes do not have.
        axes = [axis for axis in range(len(whole[layer])) if axis != batch_axes[layer]]
        upper, lower, left, right = np.moveaxis(by_axis, 1, 0)
        places[layer] = _outstanding(_trends(upper, lower), _trends(left, right), axes)
    return places


def _with_noisy_halves(image: torch.Tensor, seed: int) -> torch.Tensor:
    """Return an image, and copies with noise as its upper, lower, left and right half."""
    height, width = image.shape[-2:]
    low, high = float(image.min()), float(image.max())
    noise = torch.rand(image.shape[1:], generator=torch.Generator().manual_seed(seed))
    noise = noise.mul_(max(high - low, 1.0)).add_(low).to(image)
    batch = _repeated(image, 5)
    for k, rows in ((1, slice(0, height // 2)), (2, slice((height + 1) // 2, None))):
        batch[k, :, rows] = noise[:, rows]
    for k, columns in ((3, slice(0, width // 2)), (4, slice((width + 1) // 2, None))):
        batch[k, :, :, columns] = noise[:, :, columns]
    return batch


def _sums_of_halves(changes: torch.Tensor) -> np.ndarray:
    """Sum changes of shape (n_changes, ...) over the first and the second half of each axis: (n_axes, n_changes, 2)."""
    sums = np.empty((changes.ndim - 1, len(changes), 2))
    for axis, size in enumerate(changes.shape[1:]):
        by_entry = changes.movedim(axis + 1, 1).flatten(2).sum(dim=2, dtype=torch.float64)
        for k, part in enumerate((slice(0, size // 2), slice((size + 1) // 2, None))):
            sums[axis, :, k] = by_entry[:, part].sum(dim=1)
    return sums


def _trends(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Return how much more the first half of each axis follows the first change than the second half does, from 0 to 2."""
    total = first + second
    is_known = np.isfinite(total) & (total > 0)
    contrast = np.divide(first - second, total, out=np.zeros_like(total), where=is_known)
    return np.abs(contrast[:, 0] - contrast[:, 1]).tolist()


def _outstanding(by_rows: list[float], by_columns: list[float], axes: list[int]) -> Places:
    """Return the axes that follow the upper and lower, and the left and right halves of an image."""

    def leader(trends: list[float], least: float) -> int | None:
        *others, largest = sorted(trends)
        is_clear = largest >= max(least, _LEAST_RATIO * max(others, default=0.0))
        return axes[trends.index(largest)] if is_clear else None

    row, column = leader(by_rows, _LEAST_TREND), leader(by_columns, _LEAST_TREND)
    if len(axes) > 2:
        return Places() if row == column else Places(row=row, column=column)
    # A map without channels is rare: without the clearest of signs these are tokens, in the order of rows or columns.
    sharp = {leader(trends, 3 * _LEAST_TREND) for trends in (by_rows, by_columns)} - {None}
    if len(sharp) == 2:
        return Places(row=row, column=column)
    return Places(token=row if column is None or max(by_rows) >= max(by_columns) else column)


def _named(shape: tuple[int, ...], batch_axis: int, places: Places) -> Axes | None:
    """Name all axes from the places that are known; None where more than one answer is left."""
    others = [axis for axis in range(len(shape)) if axis not in (batch_axis, *places)]
    wide = [axis for axis in others if shape[axis] > 1]
    names = {batch_axis: PRESENTATION}
    names |= {axis: name for name, axis in places._asdict().items() if axis is not None}
    if len(wide) > 1 or (places.token is not None and len(others) > 1):
        return None
    if len(shape) == 3 and len(names) == 2 and places.token is None:
        # One of rows and columns beside channels, as tokens are; or nothing is known but that one axis has a single entry.
        is_known = {axis: TOKEN for axis in (places.row, places.column) if axis is not None}
        names = {batch_axis: PRESENTATION, **is_known}
    unused = [name for name in (CHANNEL, ROW, COLUMN) if name not in names.values()]
    if len(shape) == 3:
        unused = [name for name in (CHANNEL, TOKEN) if name not in names.values()]
    for axis in [*wide, *(axis for axis in others if axis not in wide)]:
        names[axis] = unused.pop(0)
    return tuple(names[axis] for axis in range(len(shape)))


def _in_usual_order(batch_axis: int, n_axes: int) -> Axes:
    names = list(_USUAL[n_axes][1:])
    names.insert(batch_axis, PRESENTATION)
    return tuple(names)
