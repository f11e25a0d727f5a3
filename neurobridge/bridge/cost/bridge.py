"""The bridge cost: the shortest way from x to y over a labelled pair."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from neurobridge.bridge.cost.blocks import log_product
from neurobridge.bridge.cost.distances import AnchorDistances, Anchors
from neurobridge.bridge.cost.distributed import DistributedFactor, check_distributed
from neurobridge.bridge.cost.factors import Factor
from neurobridge.bridge.cost.geometry import Geometry, Scale
from neurobridge.bridge.cost.in_memory import DenseFactor, NearestFactor, StreamedFactor
from neurobridge.bridge.cost.metrics import Metric
from neurobridge.bridge.cost.protocol import check_rows, written_out
from neurobridge.points.arrays import Array, PointSource, Rows, row_blocks, to_tensor
from neurobridge.points.display import Displayed, by
from neurobridge.points.memory import check_memory
from neurobridge.store.kinds import fields_of, register

Reduce = Literal["softmin", "min"]


def _state_of_0_1(state: dict[str, Any]) -> dict[str, Any]:
    """Let a graph read its distances from the factor, where they were kept there alone."""
    values = {name: value for name, value in state.items() if name != "reference"}
    for side in ("source", "target"):
        space = values[side]
        if space.graph_points is not None and space.held is None:
            values[side] = replace(space, held=values[f"{side}_factor"])
    return values


@register("bridge-cost", version=2, upgrades={1: _state_of_0_1})
@dataclass(frozen=True, eq=False, repr=False)
class BridgeCost(Displayed):
    """The cost between two spaces, held as its two anchor-distance factors.

    Equation (Gholamzadeh & Sajid 2025; with confidence w_p in each pair, 1 by default)::

        C(x, y)     = min_p [ d_X(x, x_p) + d_Y(y_p, y) ]
        C_eps(x, y) = -eps log sum_p w_p exp(-(d_X(x, x_p) + d_Y(y_p, y)) / eps)

    Attributes
    ----------
    source, target : AnchorDistances
        How points of each space are measured.
    source_factor, target_factor : DenseFactor, NearestFactor, StreamedFactor or DistributedFactor
        What the solvers work on: all anchors, each point's nearest, all of them computed again on every pass, or either of the
        first two on the workers of dask.
    reduce : {"softmin", "min"}
    anchors : tuple of int arrays of shape (n_pairs,)
        Source rows and target rows of the pairs.
    torch_device : str or None
        Device of the tensors that `dense` returns; None where the source points came as numpy, and `dense` returns numpy.
    epsilon : float or None
        Temperature of the softmin; None until `at` sets it, and always None for the minimum.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost
    >>> X, Y = np.array([[0.0], [1.0], [4.0]]), np.array([[0.0, 0.0], [0.0, 2.0]])
    >>> pairs = np.array([0]), np.array([0])
    >>> bridge_cost(X, Y, pairs, scale="none", reduce="min").dense()
    array([[0., 2.],
           [1., 3.],
           [4., 6.]])
    >>> bridge_cost(X, Y, pairs, scale="none").at(0.1)
    BridgeCost(3 x 2, 1 pairs, euclidean, softmin, all distances, epsilon=0.1)

    References
    ----------
    Gholamzadeh & Sajid 2025, equations in `docs/method.md`.
    """

    source: AnchorDistances
    target: AnchorDistances
    source_factor: Factor
    target_factor: Factor
    reduce: Reduce
    anchors: Rows
    torch_device: str | None = None
    epsilon: float | None = None

    def _facts(self) -> dict[str, Any]:
        names = dict.fromkeys((self.source.metric, self.target.metric))
        facts = {
            "points": by(*self.shape),
            "pairs": f"{self.n_anchors} pairs",
            "metric": " and ".join(names),
            "reduce": self.reduce,
            "held": self.source_factor.holding,
        }
        return facts if self.epsilon is None else facts | {"epsilon": self.epsilon}

    def to_state(self) -> dict[str, Any]:
        """Return the state on disk: all but the device of points that are not there."""
        return fields_of(self, without=("torch_device",))

    @classmethod
    def measure(
        cls,
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
        """Measure both spaces: `bridge_cost`, with the settings of the distances as one object."""
        if reduce not in ("softmin", "min"):
            raise ValueError(f"found reduce={reduce!r}; expected 'softmin' or 'min'. Mend: choose one of them.")
        if nearest is not None and nearest < 1:
            raise ValueError(
                f"found nearest={nearest}; expected at least 1 anchor. Mend: nearest=None keeps all of them."
            )
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
        check_memory(
            kept,
            memory_limit,
            f"a cost of {sides[0].shape[0]} + {sides[1].shape[0]} points and {len(rows[0])} pairs",
            mend="nearest=32 keeps each point's nearest anchors, stream=True keeps no distances",
        )
        hold = _holder(nearest, stream, distributed)
        (source, source_factor), (target, target_factor) = (
            hold(*side) for side in zip(sides, anchors, geometry.sides, strict=True)
        )
        if log_weight is not None:
            # Once: the weight of a pair belongs to the product, not to both factors.
            source_factor = source_factor.weighted(log_weight)
        torch_device = str(X.device) if isinstance(X, torch.Tensor) else None
        return cls(source, target, source_factor, target_factor, reduce, rows, torch_device)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``: source points, target points."""
        return self.source_factor.n_points, self.target_factor.n_points

    @property
    def n_anchors(self) -> int:
        """Number of pairs P."""
        return self.source_factor.n_anchors

    @property
    def unit(self) -> float:
        """The cost that epsilon is a fraction of: 1, as distances are in units of the mean or median anchor distance."""
        return 1.0

    def at(self, epsilon: float) -> BridgeCost:
        """Set the temperature of the softmin.

        Parameters
        ----------
        epsilon : float
            In units of the mean anchor distance.

        Returns
        -------
        BridgeCost
            Over the same distances, which are not copied.

        Raises
        ------
        ValueError
            A temperature that is not positive and finite, or a cost with ``reduce="min"``, which has none.
        """
        if self.reduce != "softmin":
            raise ValueError(
                f"found a temperature for a cost with reduce={self.reduce!r}; expected reduce='softmin', as a minimum has none. "
                "Mend: bridge_cost(X, Y, pairs, reduce='softmin'), or leave epsilon out."
            )
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise ValueError(
                f"found epsilon={epsilon}; expected a positive fraction of the mean anchor distance. Mend: cost.at(0.05)."
            )
        return replace(self, epsilon=float(epsilon))

    def transposed(self) -> BridgeCost:
        """Exchange source and target."""
        return replace(
            self,
            source=self.target,
            target=self.source,
            source_factor=self.target_factor,
            target_factor=self.source_factor,
            anchors=self.anchors[::-1],
        )

    def subset(self, rows: np.ndarray, columns: np.ndarray) -> BridgeCost:
        """The cost between some source points and some target points, over the same pairs; it has no anchor rows of its own."""
        none = np.empty(0, dtype=np.int64)
        return replace(
            self,
            source_factor=self.source_factor.subset(torch.as_tensor(rows, device=self.source_factor.device)),
            target_factor=self.target_factor.subset(torch.as_tensor(columns, device=self.target_factor.device)),
            anchors=(none, none),
        )

    def truncation_bound(self, epsilon: float) -> float:
        """Bound what keeping only the nearest anchors leaves out of the Gibbs kernel.

        An anchor is left out of ``K_ij`` only if it is beyond the kept radius of i or of j, so its term is at most
        ``exp(-min(r_i, r_j) / eps)``, and ``|K_ij - K_ij(kept)| <= P exp(-min_i,j (r_i, r_j) / eps)`` (K_ij <= P).

        Returns
        -------
        float
            Zero when every anchor is kept.
        """
        radius = min(self.source_factor.reach, self.target_factor.reach)
        return 0.0 if math.isinf(radius) else self.n_anchors * math.exp(-radius / epsilon)

    def rows(self, block: slice | np.ndarray) -> torch.Tensor:
        """Cost of some source points to all target points, where the distances lie.

        Parameters
        ----------
        block : slice or int array of shape (n_rows,)

        Returns
        -------
        tensor of shape (n_rows, m)
            In the precision of the distances.

        Raises
        ------
        ValueError
            ``reduce="softmin"`` without a temperature.
        """
        index = range(self.shape[0])[block] if isinstance(block, slice) else np.asarray(block)
        m, width = self.shape[1], self.n_anchors
        epsilon = None if self.reduce == "min" else self._temperature()
        right = (
            self.target_factor.rows(slice(None))
            if epsilon is None
            else self.target_factor.log_kernel(slice(None), epsilon)
        )
        # Blocks of the whole cost are those of `dense` in every release, so that its last bits do not move.
        cuts = (
            row_blocks(len(index), m * width)
            if epsilon is None
            else row_blocks(len(index), max(m, width), budget=1 << 23)
        )
        out: torch.Tensor | None = None
        for cut in cuts:
            chosen = index[cut]
            left = self.source_factor.rows(
                slice(chosen.start, chosen.stop, chosen.step)
                if isinstance(chosen, range)
                else torch.as_tensor(chosen, device=self.source_factor.device)
            )
            if out is None:
                out = torch.empty((len(index), m), dtype=left.dtype, device=left.device)
            if epsilon is None:
                out[cut] = (left[:, None, :] + right[None, :, :]).amin(dim=2)
            else:
                out[cut] = -epsilon * log_product(self.source_factor.log_terms(left, epsilon), right)
        return torch.empty((0, m), dtype=right.dtype, device=right.device) if out is None else out

    def entries(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Cost of single pairs of points, without any row of the matrix.

        Parameters
        ----------
        rows, columns : int arrays of shape (n_entries,)

        Returns
        -------
        float64 array of shape (n_entries,)
        """
        left, right = self.source_factor, self.target_factor
        out = np.empty(len(rows))
        for part in row_blocks(len(rows), left.n_anchors, budget=1 << 22):
            i = torch.as_tensor(np.asarray(rows[part], dtype=np.int64), device=left.device)
            j = torch.as_tensor(np.asarray(columns[part], dtype=np.int64), device=right.device)
            if self.reduce == "min":
                out[part] = (left.rows(i) + right.rows(j)).amin(dim=1).cpu().numpy()
            else:
                epsilon = self._temperature()
                paths = left.log_kernel(i, epsilon) + right.log_kernel(j, epsilon)
                out[part] = (-epsilon * torch.logsumexp(paths, dim=1)).cpu().numpy()
        return out

    def dense(self, epsilon: float | None = None, *, memory_limit: float = 2e9) -> Array:
        """Write the cost out.

        Parameters
        ----------
        epsilon : float, optional
            Deprecated: ``cost.at(epsilon).dense()`` says the same.
        memory_limit : float
            Bytes the matrix may take.

        Returns
        -------
        array of shape (n, m)
            Numpy or torch as the source points were.

        Raises
        ------
        MemoryError
            The matrix would be larger than ``memory_limit``.
        ValueError
            ``reduce="softmin"`` without a temperature.
        """
        cost = self
        if epsilon is not None:
            warnings.warn(
                f"dense({epsilon}) is deprecated and goes with version 0.3. Mend: cost.at({epsilon}).dense().",
                DeprecationWarning,
                stacklevel=2,
            )
            # The minimum took a temperature and did not use it.
            cost = self.at(epsilon) if self.reduce == "softmin" else self
        matrix = written_out(cost, memory_limit, mend="use method='factored', which never builds it")
        return matrix.cpu().numpy() if self.torch_device is None else matrix.to(self.torch_device)

    def _temperature(self) -> float:
        if self.epsilon is None:
            raise ValueError(
                "found no epsilon with reduce='softmin'; expected a positive temperature. "
                "Mend: cost.at(0.05), or build the cost with reduce='min'."
            )
        return self.epsilon


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
        stay open while the cost and its couplings are used. See `neurobridge.bridge.cost.distributed`.
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
    return BridgeCost.measure(
        X, Y, pairs, geometry, reduce=reduce, nearest=nearest, confidence=confidence, stream=stream,
        distributed=distributed, memory_limit=memory_limit, device=device,
    )  # fmt: skip


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


def _log_confidence(confidence: Array | None, n_pairs: int, reduce: str, left: PointSource) -> torch.Tensor | None:
    if confidence is None:
        return None
    weight = to_tensor(confidence, name="confidence").double().cpu()
    if reduce != "softmin":
        raise ValueError(
            "found confidence with reduce='min'; expected reduce='softmin', since a minimum has no weights. "
            "Mend: reduce='softmin', or leave out the pairs you do not trust."
        )
    if weight.shape != (n_pairs,) or not bool(((weight > 0) & (weight <= 1)).all()):
        raise ValueError(
            f"confidence: found shape {tuple(weight.shape)} with values in [{float(weight.min())}, {float(weight.max())}]; "
            f"expected ({n_pairs},) values in (0, 1]. Mend: one for each pair; drop pairs of confidence zero."
        )
    return weight.log().to(left.data.device if isinstance(left.data, torch.Tensor) else left.device or "cpu")
