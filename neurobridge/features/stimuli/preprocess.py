"""From stored pixels to what a model expects, declared once and recorded with the activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch

from neurobridge.assemblies import AssemblyError
from neurobridge.points.conversion import real_array
from neurobridge.points.options import is_choice

# Rec. 601 luma, the weighting that image libraries use for their grey mode.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Preprocess:
    """Steps between the stored pixels and the model, declared once.

    In this order: uint8 to float in [0, 1], channels first, channel conversion, central crop, resize, normalise.

    Parameters
    ----------
    size : int or (int, int), optional
        Height and width in pixels after an antialiased resize, whatever the shape before; None keeps the images' own size.
    mean, std : sequence of float, optional
        Subtracted, then divided by, channel by channel (one value, or one a channel), on the [0, 1] scale.
    grayscale : bool, optional
        True: one luminance channel (Rec. 601). False: three channels, grey images are repeated. None: as
        stored.
    visual_degrees : float, optional
        Width of the images in degrees of visual angle. Recorded, it changes no pixel.
    crop : float, optional
        Side of the central square kept before the resize, as a fraction of the shorter side. 0.875 is what ImageNet models
        are tested with (shorter side to 256, central 224). Default: the whole image.
    interpolation : {"bilinear", "bicubic"}
        Of the resize; bicubic values are clamped to [0, 1].

    Raises
    ------
    ValueError
        A size, std or visual angle that is not positive, mean and std of other lengths than one or three, a crop outside
        (0, 1], or an unknown interpolation.

    Examples
    --------
    >>> import torch
    >>> Preprocess(size=24, grayscale=False)(torch.zeros(2, 48, 48, dtype=torch.uint8)).shape
    torch.Size([2, 3, 24, 24])
    """

    size: int | tuple[int, int] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    grayscale: bool | None = None
    visual_degrees: float | None = None
    crop: float | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.size is not None:
            size = tuple(self.size) if isinstance(self.size, (tuple, list)) else (self.size, self.size)
            if len(size) != 2 or any(type(side) is not int or not 1 <= side < 2**31 for side in size):
                raise ValueError(
                    f"preprocess: found size {self.size!r}; expected a positive number of pixels, or "
                    "(height, width). Mend: e.g. size=224."
                )
            object.__setattr__(self, "size", size)
        for name in ("mean", "std"):
            given = getattr(self, name)
            if given is None:
                continue
            values = tuple(real_array(given, name=name).astype(float).ravel().tolist())
            if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
                raise ValueError(
                    f"preprocess: found {len(values)} values of {name}, {values[:4]}; expected one, finite, or one for each of "
                    "three channels. Mend: e.g. mean=(0.485, 0.456, 0.406)."
                )
            object.__setattr__(self, name, values)
        # Pixels are divided by it in float32, where smaller numbers are zero or have no inverse.
        if self.std is not None and min(self.std) < torch.finfo(torch.float32).tiny:
            raise ValueError(
                f"preprocess: found std {self.std}; expected positive values that float32 holds. Mend: leave std out."
            )
        largest = (1 + max(map(abs, self.mean or (0.0,)))) / min(self.std or (1.0,))
        if largest > torch.finfo(torch.float32).max:
            raise ValueError(
                f"preprocess: found mean {self.mean} and std {self.std}, which take pixels to {largest:.3g}; expected numbers that "
                "float32 holds. Mend: mean and std of pixels between 0 and 1."
            )
        if not isinstance(self.grayscale, bool | np.bool_ | None):
            raise ValueError(
                f"preprocess: found grayscale={self.grayscale!r:.40}; expected True, False or None. Mend: leave it out."
            )
        for name in ("visual_degrees", "crop"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Real):
                raise ValueError(f"preprocess: found {name}={value!r:.40}; expected a number. Mend: leave it out.")
        if self.visual_degrees is not None and not 0 < self.visual_degrees < math.inf:
            raise ValueError(
                f"preprocess: found visual_degrees {self.visual_degrees}; expected a positive angle. "
                "Mend: give the width of the images in degrees, or leave it out."
            )
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(
                f"preprocess: found crop {self.crop}; expected a fraction in (0, 1]. Mend: e.g. 0.875, or leave it out."
            )
        if not is_choice(self.interpolation, ("bilinear", "bicubic")):
            raise ValueError(
                f"preprocess: found interpolation {self.interpolation!r}; expected 'bilinear' or 'bicubic'. Mend: 'bilinear'."
            )

    def __call__(self, pixels: torch.Tensor, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Prepare a batch.

        Parameters
        ----------
        pixels : uint8 tensor of shape (n, height, width) or (n, height, width, channels)
            Stored images, channels last, one or three channels.
        dtype : torch.dtype
            Floating type of the result; the steps are computed in float32 at least.

        Returns
        -------
        tensor of shape (n, channels, height, width)
            What the model is given, on the device of `pixels`.

        Raises
        ------
        AssemblyError
            `mean` or `std` has another length than the images have channels.
        """
        batch = pixels.unsqueeze(-1) if pixels.ndim == 3 else pixels
        # In place from here on: these are passes over every pixel, and `batch` is a copy.
        batch = batch.permute(0, 3, 1, 2).contiguous().to(_at_least_single(dtype)).div_(255)
        if self.grayscale is True and batch.shape[1] == 3:
            batch = (batch * batch.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        elif self.grayscale is False and batch.shape[1] == 1:
            batch = batch.repeat(1, 3, 1, 1)
        if self.crop is not None:
            batch = _central_square(batch, self.crop)
        if self.size is not None and tuple(batch.shape[-2:]) != self.size:
            batch = torch.nn.functional.interpolate(
                batch, size=self.size, mode=self.interpolation, align_corners=False, antialias=True
            )
            if self.interpolation == "bicubic":
                batch = batch.clamp(0, 1)
        if self.mean is not None:
            batch = batch.sub_(self._per_channel("mean", self.mean, batch))
        if self.std is not None:
            batch = batch.div_(self._per_channel("std", self.std, batch))
        return batch.to(dtype).contiguous()

    def record(self) -> dict[str, Any]:
        """Return the settings as plain values, for the attributes of an assembly."""
        return {"scale": "uint8 / 255", "antialias": True, **asdict(self)}

    @staticmethod
    def _per_channel(name: str, values: Sequence[float], batch: torch.Tensor) -> torch.Tensor:
        if len(values) not in (1, batch.shape[1]):
            raise AssemblyError(
                f"preprocess: found {len(values)} values of {name} for images of {batch.shape[1]} "
                "channel(s); expected one a channel. Mend: set grayscale=False to repeat grey images to "
                "three channels, or give one value."
            )
        return batch.new_tensor(values).view(1, -1, 1, 1)


def _at_least_single(dtype: torch.dtype) -> torch.dtype:
    # Resizing has no kernels in half precision on a CPU, and differences of bright pixels would be rounded.
    return dtype if dtype.itemsize >= 4 else torch.float32


def _central_square(batch: torch.Tensor, fraction: float) -> torch.Tensor:
    height, width = batch.shape[-2:]
    side = max(1, round(fraction * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return batch[..., top : top + side, left : left + side]
