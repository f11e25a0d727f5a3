"""Blocks of rows, so that temporaries stay small."""

from __future__ import annotations


def row_blocks(n_rows: int, n_columns: int, *, budget: int = 1 << 24) -> list[slice]:
    """Cut rows into blocks of at most ``budget`` elements, so temporaries stay small."""
    step = max(1, budget // max(1, n_columns))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]
