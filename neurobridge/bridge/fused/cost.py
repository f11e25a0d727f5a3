"""The fused cost: the bridge cost blended with how far the maps of both directions miss."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from neurobridge.bridge.average import AverageMap
from neurobridge.bridge.cost.blocks import single_log_product
from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.bridge.cost.protocol import TransposedCost, written_out
from neurobridge.maps.kernel import KernelMap
from neurobridge.maps.linear import LinearMap, ridge_map
from neurobridge.maps.relative import RelativeMap
from neurobridge.maps.spectral import SpectralMap
from neurobridge.points.arrays import Array, Rows
from neurobridge.points.display import html_repr, short_repr
from neurobridge.store.kinds import register

AnyMap = LinearMap | KernelMap | SpectralMap | RelativeMap | AverageMap

#: Temperature of the softmin over bridges; the transport has its own epsilon, in units of the mean fused cost.
BRIDGE_EPSILON = 0.05
_NO_ROWS = np.empty(0, dtype=np.int64)


@register("fused-problem", version=2, upgrades={1: dict})
@dataclass(frozen=True, eq=False, repr=False)
class FusedProblem:
    """Two clouds of points, the pairs among them, and the bridge cost between them.

    Attributes
    ----------
    cost : BridgeCost
        Bridge cost between the points below, shape (n, m).
    X : array of shape (n, n_source_dims)
        Float64; of a plan in minibatches in the precision that was given, and its minibatches in float64.
    Y : array of shape (m, n_target_dims)
        Likewise.
    rows : tuple of two int arrays of shape (n_pairs,)
        Rows of X and of Y that are pairs. The bridge cost leads over all of them, or over some.
    units : tuple of two float
        Lengths of the source and the target space that ridge penalties and rounding are measured in: `unit_of_cloud` of all
        points, of which X and Y may be a part.
    """

    cost: BridgeCost
    X: np.ndarray
    Y: np.ndarray
    rows: Rows
    units: tuple[float, float] = (1.0, 1.0)

    def subset(self, source_rows: np.ndarray, target_rows: np.ndarray) -> FusedProblem:
        """Keep some points, sorted rows with all pairs among them; distances stay those measured among all points."""
        pairs = np.searchsorted(source_rows, self.rows[0]), np.searchsorted(target_rows, self.rows[1])
        return replace(self.without_pairs(source_rows, target_rows), rows=pairs)

    def without_pairs(self, source_rows: np.ndarray, target_rows: np.ndarray) -> FusedProblem:
        """Keep some points in the order of their rows, and no pairs."""
        cost = self.cost.subset(source_rows, target_rows)
        X, Y = (
            side[rows].astype(np.float64, copy=False) for side, rows in ((self.X, source_rows), (self.Y, target_rows))
        )
        return FusedProblem(cost, X, Y, (_NO_ROWS, _NO_ROWS), self.units)

    def ridge_forward(self, source: np.ndarray, target: np.ndarray) -> LinearMap:
        """Fit a ridge map from points of the source space to points of the target space, with one penalty."""
        return ridge_map(source, target, penalty="shared", unit=self.units[0])

    def ridge_backward(self, target: np.ndarray, source: np.ndarray) -> LinearMap:
        """Fit a ridge map from points of the target space to points of the source space, with one penalty."""
        return ridge_map(target, source, penalty="shared", unit=self.units[1])

    def bridge(self) -> torch.Tensor:
        """Write the bridge cost out, float32 tensor of shape (n, m)."""
        return bridge_matrix(self.cost)

    def __repr__(self) -> str:
        return short_repr(
            "FusedProblem",
            f"{len(self.X)} x {len(self.Y)} points",
            f"{self.X.shape[1]} -> {self.Y.shape[1]} dimensions",
            f"{len(self.rows[0])} pairs",
        )

    def _repr_html_(self) -> str:
        facts = {
            "points": f"{len(self.X)} x {len(self.Y)}",
            "dimensions": f"{self.X.shape[1]} -> {self.Y.shape[1]}",
            "pairs": len(self.rows[0]),
        }
        return html_repr("FusedProblem", facts)


def bridge_matrix(cost: BridgeCost) -> torch.Tensor:
    """Write the softmin bridge cost at `BRIDGE_EPSILON` out, float32 (n, m), on the device of the distances."""
    return _bridge_rows(cost, slice(None))


def _bridge_rows(cost: BridgeCost, block: slice | np.ndarray) -> torch.Tensor:
    if cost.source.anchors.dtype == torch.float64:
        return cost.at(BRIDGE_EPSILON).rows(block).float()
    index = block if isinstance(block, slice) else torch.as_tensor(block, device=cost.source_factor.device)
    left = cost.source_factor.log_kernel(index, BRIDGE_EPSILON)
    return single_log_product(left, cost.target_factor.log_kernel(slice(None), BRIDGE_EPSILON)).mul_(-BRIDGE_EPSILON)


@register("fused-blend", version=2, upgrades={1: dict})
@dataclass(frozen=True, eq=False, repr=False)
class Blend:
    """The formula of the fused cost in one round: two maps, their weight, and the unit of each term.

    ``C_fused(x, y) = (1 - lam) C(x, y) / u_0 + lam/2 |M x - y|^2 / u_1 + lam/2 |x - N y|^2 / u_2`` with the bridge cost C,
    the forward map M, the backward map N and the mean values u of the three terms. Where the maps are rotations, both squared
    distances give way to one term, ``1 - cos`` between the turned source point and the target point.

    Attributes
    ----------
    forward, backward : LinearMap or KernelMap
        M from source to target, N from target to source.
    lam : float
        Weight of the maps, in [0, 1].
    units : tuple of three float
        Means of C, of ``|M x - y|^2`` and of ``|x - N y|^2`` over all point pairs of the problem they were taken on; with
        ``views`` the second and the third are that of ``1 - cos``.
    views : tuple of two LinearMap, optional
        From source points and from target points to the coordinates in which the cosine is taken.
    """

    forward: AnyMap
    backward: AnyMap
    lam: float
    units: tuple[float, float, float]
    views: tuple[LinearMap, LinearMap] | None = None

    @classmethod
    def of(
        cls, forward: AnyMap, backward: AnyMap, lam: float, bridge: torch.Tensor, problem: FusedProblem
    ) -> tuple[Blend, torch.Tensor]:
        """Return the blend whose three terms have mean one on a problem, and the fused cost there, shape (n, m)."""
        powers = binary_unit(problem.units[1]), binary_unit(problem.units[0])
        forward_misses, backward_misses = _misses(forward, backward, problem.X, problem.Y, powers, bridge.device)
        units = (
            _positive_mean(bridge, 1.0),
            _positive_mean(forward_misses, problem.units[1] / powers[0]) * powers[0] ** 2,
            _positive_mean(backward_misses, problem.units[0] / powers[1]) * powers[1] ** 2,
        )
        blend = cls(forward, backward, lam, units)
        return blend, blend._sum(bridge, forward_misses, backward_misses, powers)

    def __call__(self, bridge: torch.Tensor, X: np.ndarray, Y: np.ndarray) -> torch.Tensor:
        """Return the fused cost between points X and Y whose bridge cost is given, float32 (n, m); overwrites the bridge cost."""
        if self.views is not None:
            angles = _cosine_distances(self.views[0](X), self.views[1](Y), bridge.device)
            return angles.mul_(self.lam / self.units[1]).add_(bridge, alpha=(1 - self.lam) / self.units[0])
        total, misses = bridge.mul_((1 - self.lam) / self.units[0]), torch.empty_like(bridge)
        sides = (self.forward(X), Y, self.units[1]), (X, self.backward(Y), self.units[2])
        for left, right, unit in sides:
            power = binary_unit(math.sqrt(unit))
            _squared_distances(left, right, power, bridge.device, out=misses)
            total.add_(misses, alpha=self.lam / 2 / (unit / power**2))
        return total

    def _sum(
        self,
        bridge: torch.Tensor,
        forward_misses: torch.Tensor,
        backward_misses: torch.Tensor,
        powers: tuple[float, float],
    ) -> torch.Tensor:
        """Blend the bridge cost and the squared errors, these in units of the squared powers of two."""
        total = bridge * ((1 - self.lam) / self.units[0])
        total.add_(forward_misses, alpha=self.lam / 2 / (self.units[1] / powers[0] ** 2))
        return total.add_(backward_misses, alpha=self.lam / 2 / (self.units[2] / powers[1] ** 2))

    def __repr__(self) -> str:
        maps = f"{type(self.forward).__name__} forward", f"{type(self.backward).__name__} backward"
        return short_repr("Blend", *maps, lam=self.lam, units=self.units)


def binary_unit(length: float) -> float:
    """Return the power of two next below a length.

    Numbers divided by it lie where float32 holds them, and keep all their digits.

    Examples
    --------
    >>> binary_unit(1.0), binary_unit(0.3)
    (1.0, 0.25)
    """
    return math.ldexp(1.0, math.frexp(length)[1] - 1)


def _misses(
    forward: AnyMap, backward: AnyMap, X: np.ndarray, Y: np.ndarray, powers: tuple[float, float], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared errors of both maps between all points, ``|M x - y|^2`` and ``|x - N y|^2``, each (n, m), in squared powers."""
    return (
        _squared_distances(forward(X), Y, powers[0], device),
        _squared_distances(X, backward(Y), powers[1], device),
    )


def _squared_distances(
    A: np.ndarray, B: np.ndarray, power: float, device: torch.device, out: torch.Tensor | None = None
) -> torch.Tensor:
    # Centred before rounding to float32: a common offset would eat the digits of the differences.
    centre = B.mean(axis=0)
    left, right = (torch.as_tensor((side - centre) / power, device=device).float() for side in (A, B))
    product = torch.addmm((right**2).sum(dim=1)[None, :], left, right.T, alpha=-2, out=out)
    return product.add_((left**2).sum(dim=1)[:, None]).clamp_(min=0)


def _cosine_distances(A: np.ndarray, B: np.ndarray, device: torch.device) -> torch.Tensor:
    turned = []
    for side in (A, B):
        length = np.linalg.norm(side, axis=1, keepdims=True)
        turned.append(np.divide(side, length, out=np.zeros_like(side), where=length > 0))
    left, right = (torch.as_tensor(side, device=device).float() for side in turned)
    return 1 - left @ right.T


def _positive_mean(matrix: torch.Tensor, unit: float) -> float:
    # A softmin cost is negative near the anchors; its mean is its unit only while it is positive.
    return max(float(matrix.mean(dtype=torch.float64)), 1e-12 * unit**2)


@register("fused-cost")
@dataclass(frozen=True, eq=False, repr=False)
class FusedCost:
    """The blended cost that a fused plan was solved under, computed by blocks of rows.

    Equation::

        C_fused(x, y) = (1 - lam) C(x, y) / mean C
                        + lam/2 |M x - y|^2 / mean |M x - y|^2 + lam/2 |x - N y|^2 / mean |x - N y|^2

    with the softmin bridge C at temperature 0.05 and the maps M (forward) and N (backward) of the last round; where they are
    rotations, one term ``lam (1 - cos) / mean (1 - cos)`` takes the place of both distances. The means
    are those over the points that the rounds ran on: all points, so that the mean fused cost is 1, or, for a plan in
    minibatches, the first minibatch. All minibatches are solved under this one cost.

    It implements the protocol `Cost`, so that it can be given to `couple`, and is the ``cost`` of `FusedBridge.coupling`.

    Attributes
    ----------
    problem : FusedProblem
        The points and their bridge cost.
    blend : Blend
        The maps, their weight and the three means.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import Candidate, fuse
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> candidate = Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="barycentric")
    >>> cost = fuse(X, X[:, :2], (np.arange(8), np.arange(8)), candidate=candidate).coupling.cost
    >>> cost
    FusedCost(40 x 40, lam=0.9, LinearMap forward, LinearMap backward)
    >>> round(float(cost.dense().mean()), 3)
    1.0
    """

    problem: FusedProblem
    blend: Blend

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, m)``: source points, target points."""
        return len(self.problem.X), len(self.problem.Y)

    @property
    def unit(self) -> float:
        """Unit of epsilon: 1, as every term of the cost is divided by its mean."""
        return 1.0

    @property
    def anchors(self) -> Rows:
        """Source rows and target rows of the pairs."""
        return self.problem.rows

    @property
    def bridge(self) -> BridgeCost:
        """The bridge cost C of the first term."""
        return self.problem.cost

    def rows(self, block: slice | np.ndarray) -> torch.Tensor:
        """Compute the cost of some source points to all target points.

        Parameters
        ----------
        block : slice or int array
            Source rows.

        Returns
        -------
        float32 tensor of shape (n_rows, m)
        """
        bridge = _bridge_rows(self.problem.cost, block)
        return self.blend(bridge, self.problem.X[block], self.problem.Y)

    def subset(self, rows: np.ndarray, columns: np.ndarray) -> FusedCost:
        """Return the same cost between some source points and some target points; it knows no pairs."""
        return FusedCost(self.problem.without_pairs(np.asarray(rows), np.asarray(columns)), self.blend)

    def transposed(self) -> TransposedCost:
        """Exchange source and target: the same numbers, to the last bit, that the plan was solved under."""
        return TransposedCost(self)

    def dense(self, *, memory_limit: float = 2e9) -> Array:
        """Write the cost out as an (n, m) float32 matrix.

        Raises
        ------
        MemoryError
            The matrix would be larger than ``memory_limit`` bytes.
        """
        matrix = written_out(self, memory_limit, mend="read it by rows")
        device = self.problem.cost.torch_device
        return matrix.cpu().numpy() if device is None else matrix.to(device)

    def __repr__(self) -> str:
        maps = f"{type(self.blend.forward).__name__} forward", f"{type(self.blend.backward).__name__} backward"
        return short_repr("FusedCost", "{} x {}".format(*self.shape), f"lam={self.blend.lam:g}", *maps)

    def _repr_html_(self) -> str:
        facts = {
            "points": "{} x {}".format(*self.shape),
            "lam": self.blend.lam,
            "forward map": type(self.blend.forward).__name__,
            "backward map": type(self.blend.backward).__name__,
        }
        return html_repr("FusedCost", facts)
