"""Batches of images through a frozen model: prepared, halved where memory runs out, checked for finite activations."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from neurobridge.assemblies import AssemblyError
from neurobridge.features.models.axes import Axes, arrange, find_axes, usual_axes
from neurobridge.features.models.frozen import Setting
from neurobridge.features.models.hooks import Recorder
from neurobridge.features.reduction import Part, Reduction
from neurobridge.features.stimuli.images import Pixels
from neurobridge.features.stimuli.preprocess import Preprocess


class Forward:
    """Runs batches through the model; a batch that memory is too small for is halved, and so are those after it.

    Parameters
    ----------
    recorder : Recorder
        Of the layers in `layers`.
    layers : sequence of str
    axes : mapping of str to tuple of str
        Of the layers whose axes the user gave; `learn_axes` finds the others.
    reductions : mapping of str to Reduction
        Applied to each output, in the order of axes of `arrange`, by label.
    preprocess : Preprocess
    setting : Setting
        Device and floating type of the model.
    batch_size : int
    """

    def __init__(
        self,
        recorder: Recorder,
        layers: Sequence[str],
        *,
        axes: Mapping[str, Axes],
        reductions: Mapping[str, Reduction],
        preprocess: Preprocess,
        setting: Setting,
        batch_size: int,
    ) -> None:
        self._recorder, self._layers, self._axes = recorder, list(layers), dict(axes)
        self._reductions, self._preprocess = dict(reductions), preprocess
        self.setting, self._size = setting, batch_size
        self._n_images = 0

    @property
    def settings(self) -> tuple[tuple[str, ...], dict[str, Axes], dict[str, Reduction], Preprocess, int]:
        """Layers, axes as far as they are known, reductions, preprocessing and batch size."""
        return tuple(self._layers), dict(self._axes), dict(self._reductions), self._preprocess, self._size

    def learn_axes(self, pixels: Pixels, *, every: bool = False) -> None:
        """Find the axes of all layers that the user did not name, with the first of the images given.

        Parameters
        ----------
        pixels : sequence of images
        every : bool
            Give the usual axes to those that cannot be found now, not with their first batch.
        """
        unnamed = [layer for layer in self._layers if layer not in self._axes]
        if unnamed:
            n_images = min(self._size, len(pixels))
            self._axes |= find_axes(self._recorder, self._prepare(pixels[:1]), unnamed, n_images=n_images)
        if every and not self._axes.keys() >= set(self._layers):
            self._run(pixels[: self._size])

    def __call__(self, pixels: Pixels) -> Iterator[dict[Part, torch.Tensor]]:
        """Yield the activations of one batch after another, by layer and pooling.

        Raises
        ------
        MemoryError
            There is not enough memory for a single image.
        """
        n_done = 0
        while n_done < len(pixels):
            batch = pixels[n_done : n_done + self._size]
            activations = self._run(batch)
            # Not in the except clause, where the traceback keeps the tensors of the failed pass alive.
            if activations is None:
                if self.setting.device.type == "cuda":
                    torch.cuda.empty_cache()
                if len(batch) == 1:
                    raise MemoryError(
                        f"found too little memory on {self.setting.device} for a batch of one image; expected room for its forward "
                        "pass. Mend: Preprocess(size=...) with fewer pixels, fewer layers, or another device."
                    )
                self._size = len(batch) // 2
                warnings.warn(
                    f"out of memory with a batch of {len(batch)} images on {self.setting.device}: going on with {self._size}.",
                    stacklevel=5,
                )
                continue
            yield {
                Part(layer, pooling): values
                for layer, by_pooling in activations.items()
                for pooling, values in zip(self._reductions, by_pooling, strict=True)
            }
            n_done += len(batch)

    def check_sizes(self, pixels: Pixels, ids: Sequence[Any], first_shape: tuple[int, ...]) -> None:
        """Refuse images of other sizes than the first, unless all are resized to one.

        Raises
        ------
        AssemblyError
            An image has another shape than `first_shape`.
        """
        if self._preprocess.size is not None or (isinstance(pixels, np.ndarray) and pixels.shape[1:] == first_shape):
            return
        for image, stimulus in zip(pixels, ids, strict=True):
            if image.shape != first_shape:
                raise AssemblyError(
                    f"stimulus {stimulus!r}: found an image of {image.shape[0]} x {image.shape[1]} pixels, the first of "
                    f"{first_shape[0]} x {first_shape[1]}; expected one size. Mend: preprocess=Preprocess(size=...)."
                )

    def _run(self, batch: Pixels) -> dict[str, tuple[torch.Tensor, ...]] | None:
        """Return the activations of a batch; None where memory runs out."""
        self._n_images = len(batch)
        try:
            return self._recorder.run(self._prepare(batch), self._keep)
        except _out_of_memory():
            return None
        except RuntimeError as error:
            # The CPU allocator raises a plain RuntimeError.
            if "can't allocate memory" in str(error) or "not enough memory" in str(error):
                return None
            raise

    def _keep(self, layer: str, output: torch.Tensor) -> list[torch.Tensor]:
        if layer not in self._axes:
            self._axes[layer] = usual_axes(layer, tuple(output.shape), self._n_images)
        axes = self._axes[layer]
        arranged = arrange(layer, output, axes, self._n_images)
        return [self._reduced(layer, arranged, axes, reduction) for reduction in self._reductions.values()]

    def _reduced(self, layer: str, arranged: torch.Tensor, axes: Axes, reduction: Reduction) -> torch.Tensor:
        if check := getattr(reduction, "check_axes", None):
            check(layer, axes)
        reduced = reduction(layer, arranged)
        if not 2 <= reduced.ndim <= 4 or len(reduced) != self._n_images or reduced.numel() == 0:
            raise AssemblyError(
                f"pooling: found an output of shape {tuple(reduced.shape)} for {self._n_images} images of layer {layer!r}; "
                "expected (n, channel), (n, token, channel) or (n, channel, row, column), not empty. Mend: return such a shape."
            )
        return reduced

    def _prepare(self, batch: Pixels) -> torch.Tensor:
        device, dtype = self.setting
        if isinstance(batch, np.ndarray):
            return self._preprocess(torch.from_numpy(batch).to(device), dtype=dtype)
        images = [self._preprocess(torch.from_numpy(image[None].copy()).to(device), dtype=dtype) for image in batch]
        return torch.cat(images)


def _out_of_memory() -> type[RuntimeError]:
    # torch before 2.5 has it under cuda alone.
    return getattr(torch, "OutOfMemoryError", None) or torch.cuda.OutOfMemoryError


def refuse_non_finite(activations: Mapping[Part, torch.Tensor], stimulus_ids: Sequence[Any]) -> None:
    """Refuse NaN and infinite activations.

    Raises
    ------
    AssemblyError
        Names the layer and the first stimulus.
    """
    for (layer, _), values in activations.items():
        # One fast reduction decides; each value is only looked at where it, or the sum of many large ones, is not finite.
        if np.isfinite(float(values.sum())):
            continue
        is_bad = ~torch.isfinite(values.flatten(1)).all(dim=1)
        if is_bad.any():
            stimulus = stimulus_ids[int(is_bad.nonzero()[0])]
            raise AssemblyError(
                f"layer {layer!r}: found NaN or infinite activations for {int(is_bad.sum())} of {len(is_bad)} "
                f"images in the batch, first at stimulus {stimulus!r}; expected finite numbers. Mend: check "
                "the preprocessing and the weights, or run the model in float32."
            )
