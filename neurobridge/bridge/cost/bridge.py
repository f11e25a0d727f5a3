"""The bridge cost: the shortest way from x to y over a labelled pair."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from neurobridge.bridge.cost.blocks import log_product
from neurobridge.bridge.cost.distances import AnchorDistances
from neurobridge.bridge.cost.factors import Factor
from neurobridge.bridge.cost.protocol import written_out
from neurobridge.points.arrays import Array, Rows, row_blocks
from neurobridge.points.display import Displayed, by
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
        # Distances of all points are kept by a graph alone, which reads them.
        source, target = (
            side if side.graph_points is not None else replace(side, held=None) for side in (self.source, self.target)
        )
        return replace(
            self,
            source=source,
            target=target,
            source_factor=self.source_factor.subset(torch.as_tensor(rows, device=self.source_factor.device)),
            target_factor=self.target_factor.subset(torch.as_tensor(columns, device=self.target_factor.device)),
            anchors=(none, none),
        )

    def without_points(self) -> BridgeCost:
        """Return the same cost without the points and distances that its spaces keep: a graph measures no new point then."""
        source, target = (replace(side, held=None, graph_points=None) for side in (self.source, self.target))
        return replace(self, source=source, target=target)

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
