"""Numpy or torch in, the same out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neurobridge.points.blocks import is_lazy, let_go, row_blocks
from neurobridge.points.conversion import real_array, require_real, unlabelled, working_dtype
from neurobridge.points.devices import find_device
from neurobridge.points.display import Displayed, by
from neurobridge.points.memory import check_memory
from neurobridge.store.kinds import register

Array = Any  # numpy.ndarray, torch.Tensor, or (where a function says so) a memory map or dask array
Rows = tuple[np.ndarray, np.ndarray]


def to_tensor(x: Array, *, name: str = "array", device: str | torch.device | None = None) -> torch.Tensor:
    """Return a floating tensor of anything array-like, as `real_array` reads it.

    Its dtype is that of `working_dtype`: float32 where that holds every value of the dtype of ``x``, float64 otherwise.

    Raises
    ------
    ValueError
        The array holds NaN or infinite values, or something else than real numbers.
    """
    if isinstance(x, torch.Tensor):
        require_real(x, name=name)
        tensor = x.detach().resolve_neg()
        tensor = tensor.to(torch.float32 if _fits_float32(tensor.dtype) else torch.float64)
    else:
        array = real_array(x, name=name)
        array = array.astype(working_dtype(array.dtype), copy=False)
        # torch shares the memory but wants it writeable and with positive strides.
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()
        tensor = torch.from_numpy(array)
    tensor = tensor.to(find_device(device)) if device is not None else tensor
    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise ValueError(
            f"{name}: found {bad} NaN or infinite values of {tensor.numel()}; expected finite numbers. "
            "Mend: drop or impute those rows."
        )
    return tensor


def _fits_float32(dtype: torch.dtype) -> bool:
    return dtype.itemsize <= 2 or dtype == torch.float32


def points(x: Array, *, name: str, device: str | torch.device | None = None) -> torch.Tensor:
    """Return ``x`` as a tensor of shape (n_points, n_dims), refusing any other number of dimensions."""
    tensor = to_tensor(x, name=name, device=device)
    _require_points(tensor, name)
    return tensor


def _require_points(x: Array, name: str) -> None:
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(
            f"{name}: found shape {tuple(x.shape)}; expected (n_points, n_dims), neither zero. "
            "Mend: reshape to two dimensions."
        )


def in_memory(x: Array, *, name: str) -> np.ndarray:
    """Return finite points as a matrix of float32 or float64; what lies on disk is read a block at a time.

    Raises
    ------
    ValueError
        Another number of dimensions, none of either, or values that are not finite.
    """
    source = PointSource.of(x, name=name, device="cpu")
    if isinstance(source.data, torch.Tensor):
        return source.data.numpy()
    n_bytes = float(math.prod(source.shape)) * source.element_size
    what = f"{name} of {source.shape[0]} x {source.shape[1]} points in memory"
    check_memory(n_bytes, math.inf, what, mend="keep fewer dimensions, those of the first principal components")
    out = np.empty(source.shape, working_dtype(source.data.dtype))
    for rows, block in source.blocks(source.shape[1]):
        out[rows] = block.numpy()
        let_go(source.data)
    return out


def require_tensor(x: Any, *, name: str) -> torch.Tensor:
    """Return ``x`` as it is, refusing anything but a floating tensor of shape (n_points, n_dims); no value is read.

    Raises
    ------
    ValueError
        Not a tensor, complex or integer numbers, or another number of dimensions.
    """
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.layout != torch.strided or x.ndim != 2:
        kind = f"a tensor of {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__
        raise ValueError(
            f"{name}: found {kind} of shape {tuple(getattr(x, 'shape', ()))}; expected a dense floating tensor of shape "
            f"(n_points, n_dims). Mend: torch.as_tensor({name}, dtype=torch.float32), a row a point."
        )
    return x


def host(X: Array) -> np.ndarray:
    """Return an array or a tensor on any device as a numpy array that torch can share: no stride of it is negative.

    What it holds is not checked, as `real_array` does, but for tensors and masked arrays.
    """
    array = real_array(X) if isinstance(X, (torch.Tensor, np.ma.MaskedArray)) else np.asarray(X)
    return array.copy() if any(stride < 0 for stride in array.strides) else array


def same_kind(values: Array, reference: Array) -> Array:
    """Return values as numpy or torch, whichever the caller passed, and on its device.

    Parameters
    ----------
    values : array
        Numpy or torch.
    reference : array
        The array that the caller passed.

    Examples
    --------
    >>> import torch
    >>> same_kind(np.ones(2), torch.zeros(1))
    tensor([1., 1.], dtype=torch.float64)
    """
    return torch.as_tensor(values).to(reference.device) if isinstance(reference, torch.Tensor) else host(values)


@register("point-source")
@dataclass(frozen=True, eq=False, repr=False)
class PointSource(Displayed):
    """Points read block by block: a tensor in memory, a memory map, or a dask array.

    Values are checked when they are read: at once in memory, on every pass otherwise.
    """

    data: Array
    name: str
    device: str | torch.device | None = None

    def _facts(self) -> dict[str, Any]:
        return {"points": by(*self.shape), "kind": type(self.data).__name__, "name": self.name}

    @classmethod
    def of(cls, x: Array, *, name: str, device: str | torch.device | None = None) -> PointSource:
        """Wrap an array of shape (n_points, n_dims).

        Raises
        ------
        ValueError
            Another number of dimensions, none of either, or (in memory) values that are not finite.
        """
        x = unlabelled(x)
        if not is_lazy(x):
            return cls(points(x, name=name, device=device), name, device)
        require_real(x, name=name)
        _require_points(x, name)
        return cls(x, name, device)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_points, n_dims)``."""
        return int(self.data.shape[0]), int(self.data.shape[1])

    @property
    def element_size(self) -> int:
        """Bytes of a number, as it is worked with."""
        return (
            self.data.element_size() if isinstance(self.data, torch.Tensor) else working_dtype(self.data.dtype).itemsize
        )

    def block(self, rows: slice | np.ndarray | torch.Tensor) -> torch.Tensor:
        """Some rows, as a tensor of shape (n_rows, n_dims)."""
        if isinstance(self.data, torch.Tensor):
            return self.data[rows]
        if isinstance(rows, torch.Tensor):
            rows = rows.cpu().numpy()
        return to_tensor(self.data[rows], name=self.name, device=self.device)

    def slices(self, n_columns: int, *, budget: int = 1 << 21) -> list[slice]:
        """Cut the rows so that ``n_columns`` numbers a row stay within a budget, along the chunks of a dask array."""
        n, chunks = self.shape[0], getattr(self.data, "chunks", None)
        if not chunks:
            return row_blocks(n, n_columns, budget=budget)
        stops = np.cumsum(chunks[0]).tolist()
        cuts = []
        for start, stop in zip([0, *stops], stops, strict=False):
            cuts += [slice(start + s.start, start + s.stop) for s in row_blocks(stop - start, n_columns, budget=budget)]
        return cuts

    def blocks(self, n_columns: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """All rows, block by block."""
        for rows in self.slices(n_columns):
            yield rows, self.block(rows)


def pad_to(X: np.ndarray, n_dims: int) -> np.ndarray:
    """Append zero dimensions to points of shape (n_points, d) until there are ``n_dims``."""
    return np.pad(X, ((0, 0), (0, n_dims - X.shape[1])))


def as_points(X: Any, name: str) -> Any:
    """Return ``X`` as something of shape (n_points, n_dims) that slices by rows.

    Tensors, memory maps and dask arrays stay themselves; anything else becomes the numpy array of `real_array`.

    Raises
    ------
    ValueError
        Not two-dimensional, empty, or something else than real numbers.
    """
    X = unlabelled(X)
    if isinstance(X, torch.Tensor) or is_lazy(X):
        require_real(X, name=name)
    else:
        X = real_array(X, name=name)
    _require_points(X, name)
    return X


def read_rows(X: Any, rows: Any, name: str = "X") -> np.ndarray:
    """Read some rows of what `as_points` returned as float64.

    Raises
    ------
    ValueError
        Values that are NaN or infinite.
    """
    values = real_array(X[rows], name=name).astype(np.float64, copy=False)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name}: found shape {tuple(X.shape)} with NaN or infinite values; expected finite values of shape "
            "(n_points, n_dims). Mend: drop or impute those rows."
        )
    return values


def read_blocks(X: Any, size: int, name: str = "X") -> Iterator[tuple[slice, np.ndarray]]:
    """Read ``X`` in blocks of ``size`` rows, float64, each with the rows it covers."""
    for rows in row_blocks(len(X), 1, budget=size):
        yield rows, read_rows(X, rows, name)
        let_go(X)
