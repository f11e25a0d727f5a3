"""Conditional flow matching between two spaces of any dimensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from neurobridge.bridge.linear import LinearMap, ridge_map
from neurobridge.flow.networks import VelocityMLP
from neurobridge.flow.ode import integrate
from neurobridge.flow.path import PathSample, flow_matching_loss, sample_path

Base = Literal["affine", "pad", "noise"]
Direction = Literal["forward", "backward"]
BASES: tuple[Base, ...] = ("affine", "pad", "noise")


class PairSampler(Protocol):
    """What a flow needs of a coupling."""

    @property
    def anchors(self) -> tuple[np.ndarray, np.ndarray]:
        """Source and target rows of the labelled pairs."""

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n (source row, target row) pairs."""


@dataclass(frozen=True)
class Standardiser:
    """Zero mean and unit variance in each dimension, from training points alone.

    Attributes
    ----------
    mean, std : arrays of shape (n_dims,)
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, X: np.ndarray) -> Standardiser:
        """Take mean and standard deviation of X, shape (n_points, n_dims); constant dimensions keep their unit."""
        std = X.std(axis=0)
        return cls(X.mean(axis=0), np.where(std > 0, std, 1.0))

    def forward(self, X: np.ndarray) -> np.ndarray:
        """Standardise points of shape (n_points, n_dims)."""
        return (X - self.mean) / self.std

    def backward(self, Z: np.ndarray) -> np.ndarray:
        """Undo `forward`."""
        return Z * self.std + self.mean


@dataclass(frozen=True, eq=False)
class _OneWay:
    """A trained velocity field and the base it starts from, in standardised units."""

    velocity: nn.Module
    base: Base
    n_start: int
    n_end: int
    linear: LinearMap | None

    @property
    def n_state(self) -> int:
        return max(self.n_start, self.n_end) if self.base == "pad" else self.n_end

    def start(self, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.base == "affine":
            assert self.linear is not None
            return self.linear(X)
        if self.base == "noise":
            return rng.normal(size=(len(X), self.n_end))
        return pad_to(X, self.n_state)


def pad_to(X: np.ndarray, n_dims: int) -> np.ndarray:
    """Append zero dimensions to points of shape (n_points, d) until there are ``n_dims``."""
    return np.pad(X, ((0, 0), (0, n_dims - X.shape[1])))


class ConditionalFlow:
    """Transport between two spaces by a flow trained on a coupling.

    A velocity field ``v(t, x_t | c)`` is regressed on ``x_1 - x_0`` along straight paths between coupled points.

    Parameters
    ----------
    base : {"affine", "pad", "noise"}
        Where a path starts. "affine": at ``M x``, M the ridge map of the labelled pairs, in the target's space and
        conditioned on x. "pad": at x padded with zeros to the larger dimension. "noise": at a Gaussian sample,
        conditioned on x, so that each source point has a distribution of images.
    width, depth : int
        Size of the velocity network.
    n_steps, batch_size, learning_rate, weight_decay : training of the network with AdamW and a cosine schedule.
    sigma : float
        Width of the path, in standard deviations of the target.
    ema : float
        Decay of the moving average of the weights that is kept for transport.
    method, ode_steps : how transport integrates (see `neurobridge.flow.ode.integrate`).
    seed : int
    device : str, optional
    progress : bool
        Show a progress bar with the loss.

    Attributes
    ----------
    losses_ : array of shape (n_steps,)
        Training loss of the forward field.
    """

    def __init__(
        self,
        base: Base = "affine",
        *,
        width: int = 128,
        depth: int = 2,
        n_steps: int = 1000,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        sigma: float = 0.1,
        ema: float = 0.99,
        method: str = "midpoint",
        ode_steps: int = 16,
        seed: int = 0,
        device: str | None = None,
        progress: bool = False,
    ) -> None:
        if base not in BASES:
            raise ValueError(f"found base {base!r}; expected one of {BASES}. Mend: choose one of them.")
        self.base = base
        self.width = width
        self.depth = depth
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.sigma = sigma
        self.ema = ema
        self.method = method
        self.ode_steps = ode_steps
        self.seed = seed
        self.device = device
        self.progress = progress

    def fit(self, X: np.ndarray, Y: np.ndarray, coupling: PairSampler) -> ConditionalFlow:
        """Train on pairs drawn from a coupling.

        Parameters
        ----------
        X : array of shape (n, n_source_dims)
        Y : array of shape (m, n_target_dims)
            The points the coupling was solved for.
        coupling : Coupling
            Offers ``sample(n, rng)`` and ``anchors``.

        Raises
        ------
        FloatingPointError
            The loss became non-finite.
        """
        X, Y = _matrix(X, "X"), _matrix(Y, "Y")
        self.source_scale_, self.target_scale_ = Standardiser.fit(X), Standardiser.fit(Y)
        left, right = self.source_scale_.forward(X), self.target_scale_.forward(Y)
        i, j = coupling.anchors
        self.forward_, self.losses_ = self._train(left, right, (i, j), coupling.sample)
        # A padded flow is its own inverse, run backward in time. The other bases condition on where they start,
        # so the way back is a second field, trained on the same coupling with the roles exchanged.
        self.backward_ = None
        if self.base != "pad":

            def swapped(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
                rows, columns = coupling.sample(n, rng)
                return columns, rows

            self.backward_, _ = self._train(right, left, (j, i), swapped)
        return self

    def transport(
        self,
        X: np.ndarray,
        direction: Direction = "forward",
        *,
        n_samples: int = 1,
        method: str | None = None,
    ) -> np.ndarray:
        """Move points from one space to the other.

        Parameters
        ----------
        X : array of shape (n_points, n_dims)
            Source points (forward) or target points (backward).
        direction : {"forward", "backward"}
        n_samples : int
            Samples a point is given; more than one only for ``base="noise"``.
        method : str, optional
            ODE solver, instead of the flow's own.

        Returns
        -------
        array of shape (n_points, n_dims_other) or, for several samples, (n_samples, n_points, n_dims_other)

        Raises
        ------
        RuntimeError
            The flow has not been fitted.
        ValueError
            Wrong number of dimensions, unknown direction, several samples from a deterministic base.
        FloatingPointError
            Points left all bounds.
        """
        if not hasattr(self, "forward_"):
            raise RuntimeError(
                "found a flow that is not fitted; expected a trained one. Mend: call fit(X, Y, coupling)."
            )
        if direction not in ("forward", "backward"):
            raise ValueError(f"found direction {direction!r}; expected 'forward' or 'backward'. Mend: choose one.")
        if n_samples != 1 and self.base != "noise":
            raise ValueError(
                f"found n_samples={n_samples} with base={self.base!r}; expected 1, as only base='noise' is random. "
                "Mend: n_samples=1, or ConditionalFlow(base='noise')."
            )
        start, end = self.source_scale_, self.target_scale_
        if direction == "backward":
            start, end = end, start
        X = _matrix(X, "X")
        if X.shape[1] != len(start.mean):
            raise ValueError(
                f"X: found {X.shape[1]} dimensions; expected {len(start.mean)} for {direction} transport. "
                "Mend: pass the neuroids used in fitting."
            )
        Z = start.forward(X)
        rng = np.random.default_rng([self.seed, 1])
        way, reverse = self.forward_, False
        if direction == "backward":
            way, reverse = (self.forward_, True) if self.backward_ is None else (self.backward_, False)
        moved = [
            end.backward(self._integrate(way, Z, rng, reverse, method or self.method)[:, : len(end.mean)])
            for _ in range(n_samples)
        ]
        return moved[0] if n_samples == 1 else np.stack(moved)

    def _integrate(
        self, way: _OneWay, Z: np.ndarray, rng: np.random.Generator, reverse: bool, method: str
    ) -> np.ndarray:
        parameter = next(way.velocity.parameters())
        x = torch.as_tensor(way.start(Z, rng), dtype=parameter.dtype, device=parameter.device)
        condition = None if way.base == "pad" else torch.as_tensor(Z, dtype=x.dtype, device=x.device)

        def field(t: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
            return way.velocity(t.expand(len(state), 1), state, condition)

        span = (1.0, 0.0) if reverse else (0.0, 1.0)
        with torch.inference_mode():
            out = integrate(field, x, t_start=span[0], t_end=span[1], method=method, n_steps=self.ode_steps)
        return out.x.double().cpu().numpy()

    def _train(
        self,
        left: np.ndarray,
        right: np.ndarray,
        anchors: tuple[np.ndarray, np.ndarray],
        sampler: Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]],
    ) -> tuple[_OneWay, np.ndarray]:
        rng = np.random.default_rng([self.seed, 0])
        generator = torch.Generator(device=self.device or "cpu").manual_seed(self.seed)
        linear = ridge_map(left[anchors[0]], right[anchors[1]]) if self.base == "affine" else None
        n_start, n_end = left.shape[1], right.shape[1]
        n_state = max(n_start, n_end) if self.base == "pad" else n_end
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = VelocityMLP(n_state, 0 if self.base == "pad" else n_start, width=self.width, depth=self.depth).to(
                self.device or "cpu"
            )
        way = _OneWay(network, self.base, n_start, n_end, linear)
        # Starts that do not change are computed once for all rows; noise is drawn anew at every step.
        starts = None if self.base == "noise" else self._tensor(way.start(left, rng))
        ends = self._tensor(pad_to(right, n_state) if self.base == "pad" else right)
        conditions = None if self.base == "pad" else self._tensor(left)

        def batch(i: torch.Tensor, j: torch.Tensor) -> tuple[PathSample, torch.Tensor | None]:
            x_1 = ends[j]
            x_0 = torch.randn(x_1.shape, generator=generator, device=x_1.device) if starts is None else starts[i]
            sample = sample_path(x_0, x_1, sigma=self.sigma, generator=generator)
            return sample, None if conditions is None else conditions[i]

        losses = self._optimise(network, batch, sampler, rng)
        return way, losses

    def _optimise(
        self,
        network: nn.Module,
        batch: Callable[[torch.Tensor, torch.Tensor], tuple[PathSample, torch.Tensor | None]],
        sampler: Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]],
        rng: np.random.Generator,
    ) -> np.ndarray:
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.n_steps)
        average = torch.optim.swa_utils.AveragedModel(
            network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(self.ema)
        )
        # Drawing from a plan has a cost per call, not per pair: draw many steps' worth at once.
        steps_drawn = 64
        losses = np.empty(self.n_steps)
        bar = tqdm(range(self.n_steps), desc="flow", disable=not self.progress, leave=False)
        for step in bar:
            if step % steps_drawn == 0:
                rows, columns = sampler(steps_drawn * self.batch_size, rng)
                i_all, j_all = torch.as_tensor(rows), torch.as_tensor(columns)
            here = slice((step % steps_drawn) * self.batch_size, (step % steps_drawn + 1) * self.batch_size)
            sample, condition = batch(i_all[here], j_all[here])
            loss = flow_matching_loss(network, sample, condition)
            losses[step] = float(loss.detach())
            if not np.isfinite(losses[step]):
                raise FloatingPointError(
                    f"found a loss of {losses[step]} at step {step}; expected finite. "
                    f"Mend: lower learning_rate (found {self.learning_rate})."
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(network)
            if step % 50 == 0:
                bar.set_postfix(loss=f"{losses[step]:.3f}")
        network.load_state_dict(average.module.state_dict())
        network.eval().requires_grad_(False)
        return losses

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)


def _matrix(X: Any, name: str) -> np.ndarray:
    array = np.asarray(X.cpu() if isinstance(X, torch.Tensor) else X, dtype=np.float64)
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ValueError(
            f"{name}: found shape {array.shape}{'' if array.ndim != 2 else ' with NaN or infinite values'}; expected "
            "finite values of shape (n_points, n_dims). Mend: drop or impute those rows."
        )
    return array
