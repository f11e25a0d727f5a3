"""How many points and bridges a fused bridge is solved with at once, by what there is room for."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
import torch

from neurobridge.bridge.cost.metrics import Geometry
from neurobridge.points.arrays import Rows
from neurobridge.points.memory import check_memory, within_room
from neurobridge.points.options import is_choice, is_whole
from neurobridge.points.workers import require_workers_device

# The bridge cost, the two squared residuals and the kernel in float32, blocks of it and the plan in float64.
BYTES_PER_ENTRY = 40.0
LARGEST_MINIBATCH = 2000
# Problems of fewer bytes are solved at once without a look at the machine.
_SMALL = 1e8
#: Share of the memory limit that the distances to the anchors may take beside minibatches.
SHARE_OF_DISTANCES = 0.3
_FEWEST_BRIDGES = 16


class MinibatchWarning(UserWarning):
    """The plan was solved in minibatches of the points, since all at once would not fit into the memory limit.

    Examples
    --------
    Solving in minibatches on purpose gives no warning:

    >>> import numpy as np
    >>> from neurobridge.bridge import Candidate, fuse
    >>> X = np.random.default_rng(0).normal(size=(90, 3))
    >>> candidate = Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="linear")
    >>> fuse(X, X, (np.arange(8), np.arange(8)), candidate=candidate, minibatch_size=30).minibatch_size
    30
    """


def check_minibatch_size(
    minibatch_size: int | Literal["auto"] | None, X: np.ndarray, Y: np.ndarray, rows: Rows, memory_limit: float
) -> int | None:
    """Points a side to solve at once; None for all."""
    n, m, n_pairs = len(X), len(Y), max(len(np.unique(side)) for side in rows)
    problem = f"a fused bridge of {n} x {m} points"
    n_bytes = BYTES_PER_ENTRY * n * m
    automatic = is_choice(minibatch_size, ("auto",)) and minibatch_size is not None
    if automatic and n_bytes > _SMALL:
        smallest = f"a fused bridge of {n_pairs} pairs in minibatches of {2 * n_pairs} points"
        check_memory(BYTES_PER_ENTRY * 4 * n_pairs**2, math.inf, smallest, mend="pass fewer pairs")
        memory_limit = within_room(memory_limit)
    if minibatch_size is None or (automatic and n_bytes <= memory_limit):
        mend = "minibatch_size='auto' or minibatch_size=2000 solves in minibatches"
        check_memory(n_bytes, memory_limit, problem, mend=mend)
        return None
    if automatic:
        size = min(LARGEST_MINIBATCH, int(math.sqrt(max(memory_limit, 0) / BYTES_PER_ENTRY)))
        if size < 2 * n_pairs:
            raise MemoryError(
                f"found {n_pairs} pairs and room for minibatches of {size} points a side in {memory_limit / 1e9:.2f} GB; "
                f"expected at least {2 * n_pairs}. Mend: raise memory_limit, or name a minibatch_size."
            )
        warnings.warn(
            f"found {problem}, which needs {n_bytes / 1e9:.2f} GB; expected at most {memory_limit / 1e9:.2f} GB. Solved in "
            f"minibatches of {size} points a side. Mend: minibatch_size={size} says that it is meant, or raise memory_limit.",
            MinibatchWarning,
            stacklevel=4,
        )
        return size
    if not is_whole(minibatch_size, 2 * max(n_pairs, 1)):
        raise ValueError(
            f"found minibatch_size={minibatch_size!r} with {n_pairs} paired points; expected 'auto', None, or a whole number "
            f"of at least {2 * max(n_pairs, 1)}, twice as many. Mend: minibatch_size=2000, or leave it out."
        )
    size, smaller = int(minibatch_size), f"a fused bridge in minibatches of {minibatch_size} points"
    check_memory(BYTES_PER_ENTRY * size**2, memory_limit, smaller, mend="name a smaller minibatch_size")
    return size if size < max(n, m) else None


def check_distributed_minibatches(
    size: int | None, asked: int | str | None, shape: tuple[int, int], device: str | torch.device | None
) -> None:
    """Refuse ``distributed=True`` where there are no minibatches, or no workers that could have the device.

    Raises
    ------
    ValueError
    """
    if size is None:
        raise ValueError(
            f"found distributed=True with minibatch_size={asked!r} and {shape[0]} x {shape[1]} points, which are solved at once; "
            "expected minibatches, which go to the workers. Mend: minibatch_size=2000 or fewer points, or distributed=False."
        )
    require_workers_device(device)


def thinned(rows: Rows, clouds: Rows, geometry: Geometry, memory_limit: float, seed: int) -> Rows:
    """Return the pairs that the bridge cost leads over: all, or as many as leave room for the distances of all points to them.

    Parameters
    ----------
    rows : tuple of two int arrays of shape (n_pairs,)
    clouds : tuple of two arrays of shape (n, n_source_dims) and (m, n_target_dims)
    geometry : Geometry
    memory_limit : float
        Bytes; the distances may take .3 of it.
    seed : int
        Of the draw.

    Returns
    -------
    tuple of two int arrays

    Warns
    -----
    MinibatchWarning
        Some pairs were left out.
    """
    n_pairs, n_points = len(rows[0]), sum(map(len, clouds))
    a_pair = sum(float(len(side)) * side.dtype.itemsize for side in clouds)
    limit = SHARE_OF_DISTANCES * within_room(memory_limit)
    most = max(_FEWEST_BRIDGES, int(limit / a_pair))
    if n_pairs <= most or "precomputed" in geometry.metrics:
        return rows
    warnings.warn(
        f"found {n_pairs} pairs and {n_points} points, whose distances to them need {a_pair * n_pairs / 1e9:.2f} GB; expected at "
        f"most {limit / 1e9:.2f} GB. The bridge cost leads over {most} of the pairs; the maps are fitted on all. "
        f"Mend: memory_limit={a_pair * n_pairs / SHARE_OF_DISTANCES:.1e} leads over all.",
        MinibatchWarning,
        stacklevel=4,
    )
    kept = np.sort(np.random.default_rng(seed).permutation(n_pairs)[:most])
    return rows[0][kept], rows[1][kept]
