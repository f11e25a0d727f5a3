"""The readout of a fused bridge: predictions for new points by the plan, by the map, or by the mean of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.bridge.cost.blocks import SingleTerms
from neurobridge.bridge.fused.candidate import Readout
from neurobridge.bridge.fused.cost import BRIDGE_EPSILON, AnyMap, Blend, binary_unit
from neurobridge.bridge.fused.states import State
from neurobridge.maps.kernel import KernelMap, kernel_map
from neurobridge.maps.linear import LinearMap
from neurobridge.points.arrays import row_blocks
from neurobridge.store.kinds import register

#: Readouts that ask the plan for the mean partner.
READ_BY_PLAN: tuple[Readout, ...] = ("barycentric", "mean")
# With as many partners as these the weights are products of matrices in float32; below, they are summed in float64.
_MANY_PARTNERS = 1000
# Of the kernel map that stands for a plan: points a centre, widths with the share of the curved part, and penalties.
_SAMPLES_OF_A_CENTRE = 10
_SHAPES = ((0.5, 0.9), (0.3, 0.9), (1.0, 0.9))
_ALPHAS = tuple(np.logspace(-6, 0, 13).tolist())
# Elements of a block of weights: they stay in the cache.
_BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class PlanReader:
    """The mean partner of points of one space under a solved plan, with all that does not depend on the points computed once.

    The weight of partner j is, up to a factor that all partners share::

        w_j = exp(o_j + f(x) . z_j) K_j^p,    K_j = sum_q exp(-(d(x, x_q) + d(y_q, y_j)) / 0.05)

    since ``|M x - y|^2`` and ``|x - N y|^2`` are inner products but for a term of x alone, and the softmin bridge cost is a
    logarithm. So a block of points takes three products of matrices, an exponential and a logarithm.

    Attributes
    ----------
    partners : float32 tensor of shape (m, n_dims of the other space)
        From their mean, in units of ``unit``.
    centre : float64 array of shape (n_dims of the other space,)
    unit : float
    offsets : float32 tensor of shape (m,)
        o.
    keys : float32 tensor of shape (n_features, m)
        z.
    kernel : float32 tensor of shape (n_pairs, m), or None
        ``exp(-d(y_q, y_j) / 0.05)``, each column in units of its largest; None where the bridge cost has no weight.
    power : float
        p.
    """

    partners: torch.Tensor
    centre: np.ndarray
    unit: float
    offsets: torch.Tensor
    keys: torch.Tensor
    kernel: torch.Tensor | None
    power: float

    def __call__(self, features: torch.Tensor, kernel: torch.Tensor | None) -> np.ndarray:
        """Return the mean partners, float64 of shape (n_points, n_dims of the other space)."""
        scores = torch.addmm(self.offsets, features, self.keys)
        if self.kernel is not None and kernel is not None:
            scores.add_((kernel @ self.kernel).log_(), alpha=self.power)
        read = torch.softmax(scores, dim=1) @ self.partners
        return read.double().cpu().numpy() * self.unit + self.centre


class BridgeReader:
    """Mean partners of new points of one space, over the plans of a fused bridge that it is read along.

    Parameters
    ----------
    states : sequence of State
        Of one cost: the same maps, temperature and anchors.
    backward : bool
        New points are those of the target.
    """

    def __init__(self, states: Sequence[State], *, backward: bool) -> None:
        self.states, self.backward = states, backward
        first = states[0]
        cost, self.device = first.problem.cost, first.plan.log_v.device
        self.space = cost.target if backward else cost.source
        self.n_dims = (first.problem.X if backward else first.problem.Y).shape[1]
        factors = [
            (each.problem.cost.source_factor if backward else each.problem.cost.target_factor) for each in states
        ]
        self._log_weight = (cost.target_factor if backward else cost.source_factor).log_weight
        self._is_read_by_products = sum(factor.n_points for factor in factors) >= _MANY_PARTNERS
        if not self._is_read_by_products:
            return
        lam, units = first.blend.lam, first.blend.units
        power = (1 - lam) / units[0] * BRIDGE_EPSILON / first.epsilon
        self._features = _Features(first, backward=backward)
        self._readers, self._has_wide_partners = [], False
        for state, factor in zip(states, factors, strict=True):
            kernel, offsets = None, torch.zeros(factor.n_points, dtype=torch.float64, device=self.device)
            if power > 0:
                terms = SingleTerms.of(factor.log_kernel(slice(None), BRIDGE_EPSILON))
                kernel, offsets = terms.terms.T.contiguous(), power * terms.tops
                self._has_wide_partners |= bool(terms.is_wide.any())
            self._readers.append(self._features.reader(state, offsets, kernel, power))

    def __call__(self, new: np.ndarray) -> np.ndarray:
        """Return the mean partners of points of shape (n_new, n_dims), float64 of shape (n_new, n_dims of the other space)."""
        images = np.empty((len(new), self.n_dims))
        # Once for all states: minibatches of one fit share the anchors and the graph.
        for block in row_blocks(len(new), max(len(self.space.anchors), new.shape[1]), budget=1 << 24):
            distances = self.space.of(torch.as_tensor(new[block]), fast=self._is_read_by_products)
            if not self._is_read_by_products or self._has_wide_partners:
                images[block] = self._summed(new[block], distances)
                continue
            images[block] = self._read(new[block], distances)
        return images

    def _read(self, new: np.ndarray, distances: torch.Tensor) -> np.ndarray:
        images, features = np.empty((len(new), self.n_dims)), self._features(new)
        for rows in row_blocks(len(new), len(self._readers[0].offsets), budget=_BLOCK):
            kernel, wide = None, None
            if self._readers[0].kernel is not None:
                logs = distances[rows].double() / -BRIDGE_EPSILON
                kernel, _, wide = SingleTerms.of(logs if self._log_weight is None else logs + self._log_weight)
            read = [reader(features[rows], kernel) for reader in self._readers]
            images[rows] = sum(read) / len(read)
            if wide is not None and bool(wide.any()):
                # Points so far away that float32 does not hold the terms of their softmin.
                far = rows.start + wide.nonzero()[:, 0].cpu().numpy()
                images[far] = self._summed(new[far], distances[far])
        return images

    def _summed(self, new: np.ndarray, distances: torch.Tensor) -> np.ndarray:
        read = [(each.origins if self.backward else each.barycentric)(new, distances) for each in self.states]
        return np.asarray(np.mean(read, axis=0))


class _Features:
    """What the maps of a fused cost read of a point, in a form whose inner products with partners are the scores."""

    def __init__(self, state: State, *, backward: bool) -> None:
        blend: Blend = state.blend
        self.backward, self.epsilon, self.views = backward, state.epsilon, blend.views
        self.lam, self.device = blend.lam, state.plan.log_v.device
        self.inward, self.outward = (blend.backward, blend.forward) if backward else (blend.forward, blend.backward)
        units = blend.units[::-1][:2] if backward else blend.units[1:]
        self.weights = tuple(blend.lam / 2 / unit / state.epsilon for unit in units)
        # |M x - y|^2 and |x - N y|^2 are measured from a centre of each space.
        partners = state.problem.X if backward else state.problem.Y
        self.centre = partners.mean(axis=0)
        self.own_centre = np.asarray(self.outward(partners)).mean(axis=0)
        self.unit = binary_unit(float(np.abs(partners - self.centre).max()) or 1.0)
        self.own_unit = binary_unit(float(np.abs(np.asarray(self.outward(partners)) - self.own_centre).max()) or 1.0)
        self.angle = blend.lam / blend.units[1] / state.epsilon

    def __call__(self, new: np.ndarray) -> torch.Tensor:
        """Return the features of points of shape (n_new, n_dims), float32 of shape (n_new, n_features)."""
        if self.views is not None:
            return self._tensor(_directions(self.views[self.backward](new)))
        features = (new - self.own_centre) / self.own_unit
        if not isinstance(self.inward, LinearMap):
            features = np.hstack([(self.inward(new) - self.centre) / self.unit, features])
        return self._tensor(features)

    def reader(self, state: State, offsets: torch.Tensor, kernel: torch.Tensor | None, power: float) -> PlanReader:
        """Prepare the plan of one state."""
        partners = (state.problem.X if self.backward else state.problem.Y).astype(np.float64, copy=False)
        log_scaling = state.plan.log_u if self.backward else state.plan.log_v
        offsets = offsets + log_scaling
        far = partners - self.centre
        if self.views is not None:
            keys = self.angle * _directions(self.views[not self.backward](partners)).T
        else:
            keys, squares = self._keys(far, np.asarray(self.outward(partners)) - self.own_centre)
            offsets = offsets + torch.as_tensor(squares, device=self.device)
        return PlanReader(
            self._tensor(far / self.unit), self.centre, self.unit, (offsets - offsets.max()).float(),
            self._tensor(keys), kernel, power,
        )  # fmt: skip

    def _keys(self, far: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the keys of partners, (n_features, m), and what does not depend on the point, (m,)."""
        inward, outward = self.weights
        squares = -inward * np.square(far).sum(axis=1) - outward * np.square(images).sum(axis=1)
        keys = 2 * outward * self.own_unit * images.T
        if isinstance(self.inward, LinearMap):
            shift = self.inward(self.own_centre[None])[0] - self.centre
            return keys + 2 * inward * self.own_unit * self.inward.coef @ far.T, squares + 2 * inward * far @ shift
        return np.vstack([2 * inward * self.unit * far.T, keys]), squares

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, device=self.device).float().contiguous()


def _directions(points: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return np.divide(points, length, out=np.zeros_like(points), where=length > 0)


@register("distilled")
class Distilled(NamedTuple):
    """A kernel map of the mean partners under the plans of a fused bridge.

    Attributes
    ----------
    map : KernelMap
    agreement : float
        Share of the variance of the mean partners that it explains, of points left out of it one at a time.
    """

    map: KernelMap
    agreement: float


def read_some(reader: BridgeReader, points: np.ndarray, n_centres: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ten times as many points as there are centres, drawn from all of a space, and their mean partners."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(points))[: _SAMPLES_OF_A_CENTRE * n_centres])
    read = points[rows].astype(np.float64)
    return read, reader(read)


def distil(read: np.ndarray, partners: np.ndarray, n_centres: int, seed: int) -> Distilled:
    """Fit a kernel map to the mean partners of some points: it reads any point in ``n_centres`` terms, whatever the plan.

    Parameters
    ----------
    read : array of shape (n, n_dims)
        Points, of `read_some`.
    partners : array of shape (n, n_dims of the other space)
        Their mean partners.
    n_centres : int
    seed : int
        Of the centres.

    Returns
    -------
    Distilled
        The width of the kernel is the best of three by the leave-one-out error of a third of the points and centres.
    """
    third = slice(None, None, 3)
    tried = {
        shape: kernel_map(
            read[third], partners[third], shapes=(shape,), alphas=_ALPHAS, n_centres=max(1, n_centres // 3), seed=seed
        ).loo_error
        for shape in _SHAPES
    }
    shape = min(tried, key=tried.__getitem__)
    fitted = kernel_map(read, partners, shapes=(shape,), alphas=_ALPHAS, n_centres=n_centres, seed=seed)
    variance = float(partners.var(axis=0).sum())
    return Distilled(fitted, 1 - fitted.loo_error / variance if variance > 0 else 0.0)


def predict(
    reader: Callable[[np.ndarray], np.ndarray] | None, mapping: AnyMap, readout: Readout, new: np.ndarray
) -> np.ndarray:
    """Map points by a readout.

    Parameters
    ----------
    reader : callable or None
        Mean partners of points, of the readouts "barycentric" and "mean".
    mapping : LinearMap, KernelMap, SpectralMap, RelativeMap or AverageMap
        Map of the readouts "linear", "kernel" and "mean".
    readout : {"barycentric", "linear", "kernel", "mean"}
        Which of the predictions is returned, see `Candidate`.
    new : array of shape (n_new, n_dims)

    Returns
    -------
    float64 array of shape (n_new, n_dims of the other space)
    """
    if reader is None or readout in ("linear", "kernel"):
        return np.asarray(mapping(new))
    partners = reader(new)
    return partners if readout == "barycentric" else (partners + mapping(new)) / 2
