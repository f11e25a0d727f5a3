"""Settings of a flow as frozen objects: what sklearn reads, clones and shows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, fields, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from neurobridge.flow.networks import NetworkFactory
from neurobridge.flow.path import MinibatchCost, squared_distance
from neurobridge.points.display import html_repr, short_repr
from neurobridge.store.kinds import register

Rules = Mapping[str, tuple[Callable[[Any], bool], str]]


@dataclass(frozen=True, repr=False)
class Settings:
    """Frozen settings with the parameter protocol of sklearn; a change makes a new object."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return every setting by name, as sklearn's ``clone`` and ``GridSearchCV`` read them.

        Parameters
        ----------
        deep : bool
            Taken for sklearn's sake; no setting has parameters of its own.

        Returns
        -------
        dict of str to value
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values for some settings.

        Parameters
        ----------
        **changes
            New values, by the name of the setting.

        Raises
        ------
        ValueError
            A name that is no setting, or a value out of range.
        """
        names = [field.name for field in fields(self)]
        unknown = sorted(set(changes) - set(names))
        if unknown:
            raise ValueError(
                f"found {type(self).__name__} settings {unknown}; expected some of {names}. Mend: correct the name."
            )
        return replace(self, **changes)

    def __repr__(self) -> str:
        changed = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {field.name: changed[field.name] for field in fields(self) if changed[field.name] != field.default}
        return short_repr(type(self).__name__, **{name: named(value) for name, value in changed.items()})

    def _repr_html_(self) -> str:
        return html_repr(type(self).__name__, {name: named(value) for name, value in self.get_params().items()})

    def _check(self, rules: Rules) -> None:
        """Raise ValueError for the first setting outside its range; None is in range where it is the default."""
        defaults = {field.name: field.default for field in fields(self)}
        for name, (is_allowed, expected) in rules.items():
            value = getattr(self, name)
            try:
                # An array of one number compares as the number does, and is none.
                allowed = (value is None and defaults[name] is None) or (
                    (not isinstance(value, Sized) or isinstance(value, str)) and bool(is_allowed(value))
                )
            except (TypeError, ValueError):
                allowed = False
            if not allowed:
                raise ValueError(
                    f"found {name}={value!r}; expected {expected}. Mend: leave {name} out for the default of "
                    f"{type(self).__name__}."
                )


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


COUNT: tuple[Callable[[Any], bool], str] = (
    lambda value: isinstance(value, Integral) and int(value) >= 1,
    "a whole number of at least 1",
)
POSITIVE: tuple[Callable[[Any], bool], str] = (lambda value: value > 0, "more than 0")


@register("flow-training")
@dataclass(frozen=True, repr=False, kw_only=True)
class Training(Settings):
    """Settings of the training of a flow's velocity network.

    None stands for a default that depends on the base of the flow, its dimensions or the device.

    Parameters
    ----------
    network : callable, optional
        ``network(n_dims, n_condition)`` gives the module to train, called as ``module(t, x, condition)`` with t of
        shape (batch, 1), x of shape (batch, n_dims) and condition of shape (batch, n_condition), or None where
        n_condition is 0. None for `neurobridge.flow.VelocityMLP`.
    width, depth : int, optional
        Hidden units and residual blocks of the `VelocityMLP`; None for 128 and 2 where the base is a map, and
        `neurobridge.flow.default_size` otherwise.
    n_steps : int, optional
        Steps of the optimiser; None for 100 where the base is a map, and 1000 otherwise.
    batch_size : int
        Coupled points drawn for a step.
    learning_rate, weight_decay : float
        Of AdamW (Loshchilov & Hutter 2019); the rate falls to 0 along half a cosine.
    sigma : float, optional
        Width of the path, in standard deviations of the target; None for 0.5 where the base is a map, which keeps
        each point near its image, and 0.1 otherwise.
    ema : float
        Decay per step, in [0, 1), of the moving average of the weights that is kept for transport.
    clip : float
        Largest norm of the gradient.
    validation : float, optional
        Share of the source rows, in [0, 1), whose draws are kept for validation. The averaged weights with the
        smallest validation loss are kept, and training stops after ``patience`` validations without a smaller one;
        the untrained field, which leaves points at their base, or only gives their cloud the target's spread where the base
        is a map, is the first candidate. An affine flow is judged by the distance of transported points to their partners.
        Where the base is a map, weights are kept if they bring the cloud of transported points nearer to that of their
        partners (sliced Wasserstein, squared) and the median correlation of a dimension with its partner falls by at most
        0.002; 0.4 of the network's velocity is added, and all of it where that brings the cloud nearer by 15 %. The others are
        judged by the loss. 0 trains on all draws for ``n_steps``. The affine base itself is fitted on all pairs. None for 0 in
        `ConditionalFlow`, and 0.2 in `neurobridge.BridgeAligner`.
    patience : int
        Validations without a smaller loss before training stops.
    validate_every : int
        Steps between two validations.
    minibatch_ot : bool
        Solve optimal transport exactly inside each minibatch drawn along the coupling, between starts and ends; not
        with ``base="noise"``.
    minibatch_cost : callable, optional
        ``cost(x_0, x_1)`` of shape (batch, batch) for that; None for the squared distance of start and end.
    mixed_precision : bool or "float16", optional
        Train in bfloat16 where torch deems it safe, or in float16 with a scaled loss, for GPUs without bfloat16; None
        for bfloat16 on a GPU only.
    checkpoint : path, optional
        Folder that keeps the state of training, every ``checkpoint_every`` steps and at the end.
    checkpoint_every : int
        Steps between two checkpoints.
    resume : bool
        Continue from the checkpoint in the folder (refused if it is of another run); False starts again and
        overwrites it.
    progress : bool
        Show a progress bar with the loss.

    Raises
    ------
    ValueError
        A setting out of range.

    Examples
    --------
    >>> Training(n_steps=250, width=128)
    Training(width=128, n_steps=250)
    >>> Training(n_steps=250).replace(validation=0.2).validation
    0.2
    """

    network: NetworkFactory | None = None
    width: int | None = None
    depth: int | None = None
    n_steps: int | None = None
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    sigma: float | None = None
    ema: float = 0.99
    clip: float = 1.0
    validation: float | None = None
    patience: int = 10
    validate_every: int = 50
    minibatch_ot: bool = False
    minibatch_cost: MinibatchCost | None = None
    mixed_precision: bool | Literal["float16"] | None = None
    checkpoint: str | Path | None = None
    checkpoint_every: int = 500
    resume: bool = True
    progress: bool = False

    def __post_init__(self) -> None:
        self._check(
            {
                "width": COUNT,
                "depth": (
                    lambda value: isinstance(value, Integral) and int(value) >= 0,
                    "a whole number of at least 0",
                ),
                "n_steps": COUNT,
                "batch_size": COUNT,
                "learning_rate": POSITIVE,
                "weight_decay": (lambda value: value >= 0, "at least 0"),
                "sigma": (lambda value: value >= 0, "at least 0"),
                "ema": (lambda value: 0 <= value < 1, "in [0, 1)"),
                "clip": POSITIVE,
                "validation": (lambda value: 0 <= value < 1, "in [0, 1)"),
                "patience": COUNT,
                "validate_every": COUNT,
                "mixed_precision": (lambda value: value in (True, False, "float16"), "True, False, 'float16' or None"),
                "checkpoint_every": COUNT,
                "checkpoint": (lambda value: isinstance(value, (str, os.PathLike)), "a folder"),
                **dict.fromkeys(("network", "minibatch_cost"), (callable, "a callable")),
                **dict.fromkeys(("minibatch_ot", "resume", "progress"), (_is_flag, "True or False")),
            }
        )

    # From a map there is less to learn: the closed form of `SpreadVelocity` does most of it, and a longer training costs
    # correlation without bringing the cloud nearer to the target's (development draws, docs/flow.md).
    def resolved(self, *, from_map: bool = False, on_gpu: bool = False, seed: int = 0) -> ResolvedTraining:
        """Fill in every default that depends on the flow.

        Parameters
        ----------
        from_map : bool
            The base of the flow is a fitted map.
        on_gpu : bool
        seed : int
            Of draws, weights and times.

        Returns
        -------
        ResolvedTraining
        """
        given = self.get_params()
        usual = {
            "n_steps": 100 if from_map else 1000,
            "sigma": 0.5 if from_map else 0.1,
            "validation": 0.0,
            "minibatch_cost": squared_distance,
            "mixed_precision": on_gpu,
        }
        filled = {name: value if given[name] is None else given[name] for name, value in usual.items()}
        return ResolvedTraining(**{**given, **filled}, seed=seed, keeps_correlation=from_map)


@dataclass(frozen=True, repr=False, kw_only=True)
class ResolvedTraining(Training):
    """Settings of a training run, with no default left open.

    Attributes
    ----------
    seed : int
        Of draws, weights and times.
    keeps_correlation : bool
        Validation is by the spread of end points, and refuses weights that lower their correlation with their partners.
    """

    n_steps: int = 1000
    sigma: float = 0.1
    validation: float = 0.0
    minibatch_cost: MinibatchCost = squared_distance
    mixed_precision: bool | Literal["float16"] = False
    seed: int = 0
    keeps_correlation: bool = False


def named(value: Any) -> Any:
    """Return the name of a function or class, and any other value as it is."""
    return getattr(value, "__qualname__", type(value).__name__) if callable(value) else value
