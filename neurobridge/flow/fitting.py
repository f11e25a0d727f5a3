"""Fit of one velocity field of a flow: its base, its training points, its checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from neurobridge.flow.bases import BASES, MAPS, PointMap, StandardisedMap, VelocityField
from neurobridge.flow.networks import SHARE_HELD_BACK, SpreadVelocity, build_network
from neurobridge.flow.settings import Training, named
from neurobridge.flow.train import Draw, PathPoints, TrainingRecord, train
from neurobridge.maps.linear import ridge_map
from neurobridge.points.arrays import pad_to, read_blocks, read_rows
from neurobridge.points.scale import Standardiser

# Coupled points that mean and spread of starts and ends are read from.
N_SPREAD = 8192
# Width and depth of the network where the base is a map.
SMALL_NETWORK = (128, 2)
# Settings that a checkpoint must agree with, as they are given.
_FINGERPRINT = (
    "width", "depth", "batch_size", "learning_rate", "weight_decay", "ema", "clip", "patience", "validate_every",
    "minibatch_ot", "mixed_precision",
)  # fmt: skip


class PairSampler(Protocol):
    """Protocol of a coupling that a flow can be trained on; `neurobridge.bridge.Coupling` follows it.

    Examples
    --------
    >>> import numpy as np
    >>> class Matching:
    ...     '''Row i of the source belongs to row i of the target.'''
    ...
    ...     anchors = np.arange(20), np.arange(20)
    ...
    ...     def sample(self, n, rng):
    ...         rows = rng.integers(0, 100, n)
    ...         return rows, rows
    >>> isinstance(Matching().sample(3, np.random.default_rng(0)), tuple)
    True
    """

    @property
    def anchors(self) -> tuple[np.ndarray, np.ndarray]:
        """Source and target rows of the labelled pairs, two int arrays of the same length."""

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n pairs: source rows and target rows, two int arrays of shape (n,)."""


@dataclass(frozen=True)
class FieldTrainer:
    """The part of a fit that both directions of a flow share.

    Attributes
    ----------
    base : {"affine", "pad", "noise", "maps"}
    training : Training
    seed : int
    device : torch.device
    chunk_size : int
        Points whose starts are computed at a time.
    """

    base: str
    training: Training
    seed: int
    device: torch.device
    chunk_size: int

    def fit(
        self, start_points: np.ndarray, end_points: np.ndarray, base_map: PointMap | None, draw: Draw, name: str
    ) -> tuple[VelocityField, TrainingRecord]:
        """Train a velocity field from one space to the other.

        Parameters
        ----------
        start_points : float32 array of shape (n, n_start)
        end_points : float32 array of shape (m, n_end)
            Standardised points.
        base_map : callable, optional
            Between standardised points.
        draw : callable
            ``draw(k, rng)`` gives k rows of ``start_points`` and their k rows of ``end_points``.
        name : {"forward", "backward"}
            Of the checkpoint.

        Returns
        -------
        VelocityField, TrainingRecord
        """
        options = self.training.resolved(from_map=self.base == MAPS, on_gpu=self.device.type == "cuda", seed=self.seed)
        sizes = with_small_network(self.training) if self.base == MAPS else self.training
        field = empty_field(
            self.base, start_points.shape[1], end_points.shape[1], base_map, sizes, self.seed, self.device
        )
        starts = None
        if self.base != "noise":
            # Starts that do not change are computed once for all rows; noise is drawn anew at every step.
            start_rows = np.empty((len(start_points), field.n_state), dtype=np.float32)
            for rows, block in read_blocks(start_points, self.chunk_size):
                start_rows[rows] = field.start(block)
            starts = torch.as_tensor(start_rows, device=self.device)
        points = PathPoints(
            starts,
            torch.as_tensor(pad_to(end_points, field.n_state), device=self.device),
            torch.as_tensor(start_points, device=self.device) if field.n_condition else None,
        )
        if starts is not None and self.base == MAPS:
            spread = SpreadVelocity(field.velocity, field.n_state).to(self.device)
            rows_drawn, columns_drawn = draw(N_SPREAD, np.random.default_rng([self.seed, 5]))
            spread.set_spread(starts[rows_drawn], points.ends[columns_drawn])
            if options.validation:
                spread.share.fill_(SHARE_HELD_BACK)
            field = replace(field, velocity=spread)
        if options.checkpoint is None:
            return field, train(field.velocity, points, draw, options)
        first_draws = draw(256, np.random.default_rng([self.seed, 4]))
        fixed_starts = () if starts is None else (starts.cpu().numpy(),)
        record = train(
            field.velocity,
            points,
            draw,
            options,
            checkpoint=(Path(options.checkpoint), name),
            resume=options.resume,
            fingerprint={
                **{key: getattr(self.training, key) for key in _FINGERPRINT},
                "minibatch_cost": _full_name(self.training.minibatch_cost),
                "base": self.base,
                "sigma": options.sigma,
                "n_steps": options.n_steps,
                "validation": options.validation,
                "seed": self.seed,
                "device": self.device.type,
                # The first draws stand for the coupling.
                "data": _digest(start_points, end_points, *first_draws, *fixed_starts),
            },
        )
        return field, record


def with_small_network(training: Training) -> Training:
    """Return the training of a flow from a map: beside the closed form, which carries all dimensions, a small network."""
    width, depth = (
        default if given is None else given
        for given, default in zip((training.width, training.depth), SMALL_NETWORK, strict=True)
    )
    return training.replace(width=width, depth=depth)


def empty_field(
    base: str,
    n_start: int,
    n_end: int,
    base_map: PointMap | None,
    training: Training,
    seed: int,
    device: torch.device,
) -> VelocityField:
    """Return a velocity field with an untrained network."""
    sizes = VelocityField(torch.nn.Identity(), base, n_start, n_end, base_map)
    network = build_network(
        training.network, sizes.n_state, sizes.n_condition,
        width=training.width, depth=training.depth, seed=seed, device=device,
    )  # fmt: skip
    return VelocityField(network, base, n_start, n_end, base_map)


def base_maps(
    base: Any, X: Any, Y: Any, coupling: PairSampler, scales: tuple[Standardiser, Standardiser]
) -> tuple[PointMap | None, PointMap | None]:
    """Return the maps whose images are the starts, forward and backward, between standardised points."""
    if base == "affine":
        i, j = coupling.anchors
        source, target = scales[0].forward(read_rows(X, i)), scales[1].forward(read_rows(Y, j, "Y"))
        return ridge_map(source, target, unit=1.0), ridge_map(target, source, unit=1.0)
    if isinstance(base, str):
        return None, None
    forward, backward = as_pair(base)
    return (
        StandardisedMap(forward, *scales),
        None if backward is None else StandardisedMap(backward, *scales[::-1]),
    )


def as_pair(base: Any) -> tuple[PointMap, PointMap | None]:
    """Return a base of maps as (forward, backward), the latter None for a single map."""
    return base if isinstance(base, tuple) else (base, None)


def base_name(base: Any) -> str:
    """Return the name of a base: its own, or "maps"."""
    return base if isinstance(base, str) else MAPS


def show_base(base: Any) -> str:
    """Return a base as it is shown in messages and representations."""
    if isinstance(base, tuple):
        return f"({', '.join(map(show_base, base))})"
    return repr(base) if isinstance(base, (str, int, float, type(None))) else str(named(base))


def is_base(base: Any) -> bool:
    """Return True for a named base, a callable, or a tuple of two callables."""
    if isinstance(base, tuple):
        return len(base) == 2 and all(callable(point_map) for point_map in base)
    return callable(base) or (isinstance(base, str) and base in BASES)


def _full_name(function: Any) -> str | None:
    return function and f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
