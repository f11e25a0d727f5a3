"""Numpy or torch in, the same out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

Array = Any  # numpy.ndarray or torch.Tensor


def to_tensor(x: Array, *, name: str = "array", device: str | torch.device | None = None) -> torch.Tensor:
    """Return a floating tensor of ``x``: float64 stays float64, anything else becomes float32.

    Raises
    ------
    ValueError
        The array holds NaN or infinite values.
    """
    if isinstance(x, torch.Tensor):
        tensor = x.detach()
    else:
        array = np.asarray(x)
        if array.dtype != np.float64:
            array = array.astype(np.float32, copy=False)
        # torch shares the memory but wants it writeable and with positive strides.
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()
        tensor = torch.from_numpy(array)
    if tensor.dtype != torch.float64:
        tensor = tensor.to(torch.float32)
    tensor = tensor.to(device) if device is not None else tensor
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(
            f"{name}: found {bad} NaN or infinite values of {tensor.numel()}; expected finite numbers. "
            "Mend: drop or impute those rows."
        )
    return tensor


def points(x: Array, *, name: str, device: str | torch.device | None = None) -> torch.Tensor:
    """Return ``x`` as a tensor of shape (n_points, n_dims), refusing any other number of dimensions."""
    tensor = to_tensor(x, name=name, device=device)
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(
            f"{name}: found shape {tuple(tensor.shape)}; expected (n_points, n_dims), neither zero. "
            "Mend: reshape to two dimensions."
        )
    return tensor


def same_kind(tensor: torch.Tensor, reference: Array) -> Array:
    """Give a tensor back in the kind (numpy or torch) of the array the caller passed."""
    return tensor if isinstance(reference, torch.Tensor) else tensor.cpu().numpy()


def row_blocks(n_rows: int, n_columns: int, *, budget: int = 1 << 24) -> list[slice]:
    """Cut rows into blocks of at most ``budget`` elements, so temporaries stay small."""
    step = max(1, budget // max(1, n_columns))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
