"""Rows in blocks, and arrays that must be read so; nothing here imports torch or dask."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np


def row_blocks(n_rows: int, n_columns: int, *, budget: int = 1 << 24) -> list[slice]:
    """Cut rows into blocks of at most ``budget`` elements, so that temporaries stay small.

    Parameters
    ----------
    n_rows : int
    n_columns : int
        Elements a row; 1 where ``budget`` is a number of rows.
    budget : int
        Elements of a block; a block has at least one row.

    Examples
    --------
    >>> row_blocks(5, 10, budget=20)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, budget // max(1, n_columns))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def is_dask(x: Any) -> bool:
    """Tell whether ``x`` is a dask array, without importing dask."""
    # A DataArray has both methods, but dims too, and slices by labels.
    return hasattr(x, "__dask_graph__") and hasattr(x, "map_blocks") and not hasattr(x, "dims")


def is_lazy(x: Any) -> bool:
    """Tell whether an array lies on disk or in a dask graph, so that it must be read block by block."""
    return isinstance(x, np.memmap) or is_dask(x)


def is_zarr(x: Any) -> bool:
    """Tell whether ``x`` is a zarr array, without importing zarr."""
    return type(x).__module__.partition(".")[0] == "zarr" and hasattr(x, "chunks") and hasattr(x, "dtype")


def let_go(x: Any) -> None:
    """Tell the system that the pages of a memory map that were read are not needed: they would count as memory of the process."""
    mapped = getattr(x, "_mmap", None)
    # What was written to a private map would be lost.
    if mapped is not None and getattr(x, "mode", "") == "r" and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
