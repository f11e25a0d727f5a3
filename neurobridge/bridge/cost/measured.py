"""Measuring a bridge cost: checks what is asked, and has a factor hold the distances of each space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from neurobridge.bridge.cost.bridge import BridgeCost, Reduce
from neurobridge.bridge.cost.distances import AnchorDistances, Anchors
from neurobridge.bridge.cost.distributed import DistributedFactor, check_distributed
from neurobridge.bridge.cost.factors import BLOCK_ELEMENTS, Factor
from neurobridge.bridge.cost.graph import graph_bytes
from neurobridge.bridge.cost.in_memory import DenseFactor, NearestFactor, StreamedFactor
from neurobridge.bridge.cost.metrics import Geometry, Metric, Scale
from neurobridge.bridge.cost.protocol import check_rows
from neurobridge.points.arrays import Array, PointSource, to_tensor
from neurobridge.points.memory import check_memory, named_shortage
from neurobridge.points.options import is_choice, require_options
from neurobridge.points.workers import Runner, job_runner

_FEWER_DISTANCES = "nearest=32 keeps each point's nearest anchors, stream=True keeps no distances"


def bridge_cost(
    X: Array,
    Y: Array,
    pairs: tuple[Array, Array],
    *,
    metric: Metric | tuple[Metric, Metric] = "euclidean",
    scale: Scale = "mean",
    reduce: Reduce = "softmin",
    nearest: int | None = None,
    n_neighbors: int = 10,
    confidence: Array | None = None,
    stream: bool = False,
    distributed: bool = False,
    memory_limit: float = 4e9,
    device: str | torch.device | None = None,
) -> BridgeCost:
    """Measure how far apart points of two spaces are, over the labelled pairs.

    Parameters
    ----------
    X : array of shape (n_source, n_source_dims)
        Points of the source space, paired or not; numpy or torch. A memory map or a dask array is read block by block.
    Y : array of shape (n_target, n_target_dims)
        Points of the target space.
    pairs : tuple of two int arrays of shape (n_pairs,)
        One pair at least; over a single one every path leads through it, and all plans with the same marginals cost the same.
        ``X[pairs[0][p]]`` and ``Y[pairs[1][p]]`` are the same thing seen in both spaces. A point may be in several pairs (many
        images, one caption): its distances are computed and kept once.
    metric : str, callable, or a tuple of two
        Distance inside each space: "euclidean", "sqeuclidean", "cosine", "correlation", "geodesic" (shortest paths on the
        neighbour graph of all points), "precomputed" (X or Y holds the distances to the anchors, (n, n_pairs)), or a function
        from tensors (n, d), (k, d) to distances (n, k). A tuple gives each space its own.
    scale : {"mean", "median", "none"}
        Unit of length of each space, so that epsilon is dimensionless. With ``nearest`` or ``stream`` the median is that of 4,096
        evenly spaced rows (with ``distributed`` too), and the geodesic mean that of paths from 16 anchors.
    reduce : {"softmin", "min"}
        "softmin" makes the Gibbs kernel an exact product of the two factors; "min" is the paper's cost.
    nearest : int, optional
        Keep only this many nearest anchors of each point: memory O((n + m) k). See `BridgeCost.truncation_bound`.
    n_neighbors : int
        Links a point has in the graph of ``metric="geodesic"``.
    confidence : array of shape (n_pairs,), optional
        Weight of each pair in (0, 1], for noisy labels: multiplies its term of the softmin.
    stream : bool
        Keep no distances, compute them again on every pass: memory O(n d) whatever the number of pairs, more time.
    distributed : bool
        Keep the distances on the workers of dask, a task a row chunk: X and Y are dask arrays, and an iteration of the factored
        solver moves vectors of one value a pair. Runs on the active client, or on threads where there is none; the client must
        stay open while the cost and its couplings are used. See `neurobridge.bridge.cost.distributed`. With
        ``metric="geodesic"`` the two spaces are measured on two workers of the active client, and kept here: X and Y may be any
        arrays, and fit into one worker each.
    memory_limit : float
        Bytes the kept distances may take (on all workers together, where ``distributed``).
    device : str, optional
        Where to compute; the device of the input by default.

    Returns
    -------
    BridgeCost

    Raises
    ------
    ValueError
        Mismatched lengths, no pair, a pair outside the data, non-finite values, an unknown option, or options that
        exclude each other.
    MemoryError
        The distances would take more than ``memory_limit``; says how much, and what to use instead.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(60, 4)), rng.normal(size=(50, 6))
    >>> pairs = np.arange(8), np.arange(8)
    >>> bridge_cost(X, Y, pairs, metric=("cosine", "geodesic"), nearest=3)
    BridgeCost(60 x 50, 8 pairs, cosine and geodesic, softmin, 3 nearest anchors)
    >>> shortest = bridge_cost(X, Y, pairs, reduce="min").dense()
    >>> shortest[pairs]
    array([0., 0., 0., 0., 0., 0., 0., 0.])
    """
    geometry = Geometry(metric, scale, n_neighbors)
    return measured_cost(
        X, Y, pairs, geometry, reduce=reduce, nearest=nearest, confidence=confidence, stream=stream,
        distributed=distributed, memory_limit=memory_limit, device=device,
    )  # fmt: skip


def measured_cost(
    X: Array,
    Y: Array,
    pairs: tuple[Array, Array],
    geometry: Geometry,
    *,
    reduce: Reduce = "softmin",
    nearest: int | None = None,
    confidence: Array | None = None,
    stream: bool = False,
    distributed: bool = False,
    memory_limit: float = 4e9,
    device: str | torch.device | None = None,
) -> BridgeCost:
    """Measure both spaces as `bridge_cost` does, with the settings of the distances as one object."""
    if not is_choice(reduce, ("softmin", "min")):
        raise ValueError(f"found reduce={reduce!r}; expected 'softmin' or 'min'. Mend: choose one of them.")
    require_options(nearest=nearest, stream=stream, distributed=distributed, memory_limit=memory_limit)
    if nearest is not None and nearest < 1:
        raise ValueError(f"found nearest={nearest}; expected at least 1 anchor. Mend: nearest=None keeps all of them.")
    if stream and (nearest is not None or geometry.needs_all_points):
        raise ValueError(
            f"found stream=True with nearest={nearest}, metric={geometry.metric!r}; expected nearest=None and distances that "
            "can be computed from two points alone. Mend: stream=False, or nearest=None and metric='euclidean'."
        )
    sides = PointSource.of(X, name="X", device=device), PointSource.of(Y, name="Y", device=device)
    if distributed:
        check_distributed(sides, geometry, stream)
    rows = check_rows(pairs, sides[0].shape[0], sides[1].shape[0])
    log_weight = _log_confidence(confidence, len(rows[0]), reduce, sides[0])
    anchors = Anchors.of(rows[0]), Anchors.of(rows[1])
    kept = sum(_bytes_kept(*side, nearest, stream) for side in zip(sides, anchors, strict=True))
    what = f"a cost of {sides[0].shape[0]} + {sides[1].shape[0]} points and {len(rows[0])} pairs"
    # Distances are measured a block at a time; a few copies of the block are held meanwhile.
    block = 8.0 * BLOCK_ELEMENTS
    mend = _FEWER_DISTANCES
    if "geodesic" in geometry.metrics:
        mend = "metric='euclidean' takes no neighbour graph" + (
            "" if nearest else f"; {_FEWER_DISTANCES.split(',')[0]}"
        )
    working = max(_working_bytes(*side, nearest) for side in zip(sides, anchors, geometry.sides, strict=True))
    check_memory(kept, memory_limit, what, mend=mend, working=kept + max(min(kept, 4 * block), working))
    in_jobs = distributed and geometry.is_graph
    hold = _holder(nearest, stream, distributed and not in_jobs)
    spaces = [*zip(sides, anchors, geometry.sides, strict=True)]
    with named_shortage(what, mend):
        measured = _measured_apart(hold, spaces, job_runner(True)) if in_jobs else (hold(*space) for space in spaces)
        (source, source_factor), (target, target_factor) = measured
    if log_weight is not None:
        # Once: the weight of a pair belongs to the product, not to both factors.
        source_factor = source_factor.weighted(log_weight)
    torch_device = str(X.device) if isinstance(X, torch.Tensor) else None
    return BridgeCost(source, target, source_factor, target_factor, reduce, rows, torch_device)


def _measured_apart(
    hold: Callable[[PointSource, Anchors, Geometry], tuple[AnchorDistances, Factor]],
    sides: Sequence[tuple[PointSource, Anchors, Geometry]],
    run: Runner,
) -> list[tuple[AnchorDistances, Factor]]:
    """Measure both spaces as jobs that do not depend on each other; their points and distances are kept here.

    Parameters
    ----------
    hold : callable
        Measures a space in memory.
    sides : sequence of two tuples
        Its arguments for each side.
    run : Runner
        Where: see `job_runner`.
    """
    here = [(replace(side[0], data=side[0].block(slice(None))), *side[1:]) for side in sides]
    measured = []
    for (points, *_), (space, factor, keeps_distances, is_graph) in zip(
        here, run(_measured_alone, [(hold, *side) for side in here]), strict=True
    ):
        kept = factor if keeps_distances else None, points.data if is_graph else None
        measured.append((replace(space, held=kept[0], graph_points=kept[1]), factor))
    return measured


def _measured_alone(
    hold: Callable[..., tuple[AnchorDistances, Factor]], points: PointSource, anchors: Anchors, geometry: Geometry
) -> tuple[AnchorDistances, Factor, bool, bool]:
    space, factor = hold(points, anchors, geometry)
    # The points need not come back.
    bare = replace(space, held=None, graph_points=None)
    return bare, factor, space.held is not None, space.graph_points is not None


def _holder(
    nearest: int | None, stream: bool, distributed: bool
) -> Callable[[PointSource, Anchors, Geometry], tuple[AnchorDistances, Factor]]:
    """Choose the class that measures and holds the distances of a space."""
    if stream:
        return StreamedFactor.measure
    if distributed:
        return partial(DistributedFactor.measure, nearest=nearest)
    return DenseFactor.measure if nearest is None else partial(NearestFactor.measure, nearest=nearest)


def _bytes_kept(points: PointSource, anchors: Anchors, nearest: int | None, stream: bool) -> float:
    if stream:
        return 0.0
    n_columns = len(anchors.columns)
    if nearest is None:
        return points.shape[0] * n_columns * points.element_size
    return points.shape[0] * min(nearest, n_columns) * (points.element_size + 4.0)


def _working_bytes(points: PointSource, anchors: Anchors, geometry: Geometry, nearest: int | None) -> float:
    """Bytes that the neighbour graph of a space takes while its paths are measured, and its points where they lie on disk."""
    if geometry.metric != "geodesic":
        return 0.0
    (n, n_dims), n_kept = points.shape, min(nearest or len(anchors.columns), len(anchors.columns))
    read = 0.0 if isinstance(points.data, torch.Tensor) else n * n_dims * points.element_size
    return read + graph_bytes(n, n_dims, geometry.n_neighbors, n_kept, nearest=nearest is not None)


def _log_confidence(confidence: Array | None, n_pairs: int, reduce: str, left: PointSource) -> torch.Tensor | None:
    if confidence is None:
        return None
    weight = to_tensor(confidence, name="confidence").double().cpu()
    if reduce != "softmin":
        raise ValueError(
            "found confidence with reduce='min'; expected reduce='softmin', since a minimum has no weights. "
            "Mend: reduce='softmin', or leave out the pairs you do not trust."
        )
    if weight.shape != (n_pairs,):
        raise ValueError(
            f"confidence: found shape {tuple(weight.shape)}; expected ({n_pairs},) values in (0, 1], one "
            "for each pair. Mend: leave it out."
        )
    if not bool(((weight > 0) & (weight <= 1)).all()):
        raise ValueError(
            f"confidence: found shape {tuple(weight.shape)} with values in [{float(weight.min())}, {float(weight.max())}]; "
            f"expected ({n_pairs},) values in (0, 1]. Mend: one for each pair; drop pairs of confidence zero."
        )
    return weight.log().to(left.data.device if isinstance(left.data, torch.Tensor) else left.device or "cpu")
