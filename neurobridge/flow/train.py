"""Training of a velocity network on draws from a coupling, restartable at any step."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from neurobridge.flow.networks import SpreadVelocity
from neurobridge.flow.ode import integrate
from neurobridge.flow.path import PathSample, Velocity, flow_matching_loss, recouple, sample_path
from neurobridge.flow.settings import ResolvedTraining
from neurobridge.flow.state import TrainingState
from neurobridge.points.progress import progress_bar

Draw = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]
# Drawing from a plan has a cost per call, not per pair: draw many steps' worth at once.
STEPS_DRAWN = 64
# Reading the loss waits for the device, so it is checked every so many steps.
STEPS_WATCHED = 50
N_VALIDATION = 8192
N_MOVED = 1024
# Of the sliced Wasserstein distance that a flow from a map is validated by, and the correlation it may lose.
N_DIRECTIONS = 128
MOST_R_LOST = 0.002
# Share of the validation loss by which the whole network must lower it; for less, the partners it costs weigh more.
CLEAR_GAIN = 0.15


class PathPoints(NamedTuple):
    """Points that paths join and the conditions of the velocity, on the device of the network.

    Attributes
    ----------
    starts : tensor of shape (n, n_state) or None
        Start of the path of each source row; None for noise, drawn anew at every step.
    ends : tensor of shape (m, n_state)
        End of a path, for each target row.
    conditions : tensor of shape (n, n_condition) or None
    """

    starts: torch.Tensor | None
    ends: torch.Tensor
    conditions: torch.Tensor | None


class TrainingRecord(NamedTuple):
    """Record of a training run.

    Attributes
    ----------
    losses : array of shape (n_steps_done,)
    validation_losses : array of shape (n_validations,)
        Of the averaged weights; empty without a validation share.
    resumed_at : int
        Step of the checkpoint that the run continued from; 0 for none.
    """

    losses: np.ndarray
    validation_losses: np.ndarray
    resumed_at: int


def train(
    network: nn.Module,
    points: PathPoints,
    draw: Draw,
    options: ResolvedTraining,
    *,
    checkpoint: tuple[Path, str] | None = None,
    resume: bool = True,
    fingerprint: dict[str, Any] | None = None,
) -> TrainingRecord:
    """Regress a velocity network on coupled pairs, by AdamW under a cosine schedule; leaves the averaged weights in it.

    Parameters
    ----------
    network : nn.Module
        Called as ``network(t, x_t, condition)``; trained in place.
    points : PathPoints
    draw : callable
        ``draw(n, rng)`` gives n source rows and n target rows of the coupling.
    options : ResolvedTraining
    checkpoint : (folder, name), optional
        Where the whole state of training is kept, every ``checkpoint_every`` steps and at the end.
    resume : bool
        Continue from the checkpoint, if there is one; otherwise start again and overwrite it.
    fingerprint : dict, optional
        Facts that a checkpoint must agree with for this run to continue from it.

    Returns
    -------
    TrainingRecord

    Raises
    ------
    FloatingPointError
        Loss or weights became non-finite.
    FlowFileError
        The checkpoint is of another run, or damaged.
    ValueError
        The validation share leaves nothing to train or to validate on.
    """
    device = points.ends.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # A user's network may hold dropout, which draws from the global state.
        torch.manual_seed(options.seed)
        state = TrainingState(network, options, device)
        held_out, validation_set = _hold_out(points, draw, options, device)
        if checkpoint is not None and resume and (checkpoint[0] / f"{checkpoint[1]}.json").is_file():
            state.read(*checkpoint, fingerprint or {})
        resumed_at = state.step
        if validation_set is not None and state.step == 0:
            # The untrained field is the zero field: if training never improves on it, points stay at their base.
            state.judge(_validate(state, validation_set, options))
        network.train()
        bar = progress_bar(
            total=options.n_steps, initial=state.step, desc="flow", progress=options.progress or None, leave=False
        )
        with bar:
            while state.step < options.n_steps and not state.stopped:
                if state.step % STEPS_DRAWN == 0:
                    drawn = _draw_training_pairs(draw, options, state.rng, held_out)
                    state.rows, state.columns = (torch.as_tensor(k, device=device) for k in drawn)
                training_step(state, points, options)
                step = state.step
                if step % STEPS_WATCHED == 0 or step == options.n_steps:
                    state.require_finite()
                    bar.set_postfix(loss=f"{float(state.losses[step - 1]):.3f}")
                if validation_set is not None and (step % options.validate_every == 0 or step == options.n_steps):
                    state.judge(_validate(state, validation_set, options))
                if checkpoint is not None and (
                    step % options.checkpoint_every == 0 or step == options.n_steps or state.stopped
                ):
                    state.require_finite()
                    state.write(*checkpoint, fingerprint or {})
                bar.update()
        state.finish()
        if validation_set is not None and isinstance(network, SpreadVelocity):
            _release(network, state.validation_losses[0], validation_set)
        losses = state.losses[: state.step].double().cpu().numpy()
        return TrainingRecord(losses, np.array(state.validation_losses), resumed_at)


def learning_rate(step: int, options: ResolvedTraining) -> float:
    """Return the rate of a step, on half a cosine from ``learning_rate`` to 0 (Loshchilov & Hutter 2017, eq. 5)."""
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * step / options.n_steps))


def _precision(options: ResolvedTraining, device: torch.device) -> AbstractContextManager[Any]:
    if not options.mixed_precision:
        return nullcontext()
    return torch.autocast(device.type, torch.float16 if options.mixed_precision == "float16" else torch.bfloat16)


def draw_batch(
    points: PathPoints, i: torch.Tensor, j: torch.Tensor, options: ResolvedTraining, generator: torch.Generator
) -> tuple[PathSample, torch.Tensor | None]:
    """Draw points on the paths of coupled rows i and j; returns them and their conditions."""
    x_1 = points.ends[j]
    if points.starts is None:
        x_0 = torch.randn(x_1.shape, generator=generator, device=x_1.device)
    else:
        x_0 = points.starts[i]
        if options.minibatch_ot:
            x_1 = x_1[recouple(x_0, x_1, options.minibatch_cost)]
    condition = None if points.conditions is None else points.conditions[i]
    return sample_path(x_0, x_1, sigma=options.sigma, generator=generator), condition


def training_step(state: TrainingState, points: PathPoints, options: ResolvedTraining) -> None:
    """Take one step of the optimiser on one minibatch."""
    first = state.step % STEPS_DRAWN * options.batch_size
    batch = slice(first, first + options.batch_size)
    sample, condition = draw_batch(points, state.rows[batch], state.columns[batch], options, state.generator)
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(state.step, options)
    state.optimiser.zero_grad(set_to_none=True)
    with _precision(options, state.device):
        loss = flow_matching_loss(state.network, sample, condition)
    state.scaler.scale(loss).backward()
    state.scaler.unscale_(state.optimiser)
    nn.utils.clip_grad_norm_(state.weights, options.clip)
    state.scaler.step(state.optimiser)
    state.scaler.update()
    # The first step replaces the untrained weights, which would otherwise weigh on the average.
    averaged = get_ema_multi_avg_fn(0.0 if state.step == 0 else options.ema)
    averaged(state.average, state.weights, state.step)
    state.losses[state.step] = loss.detach()
    state.step += 1


def _draw_training_pairs(
    draw: Draw, options: ResolvedTraining, rng: np.random.Generator, held_out: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    n = STEPS_DRAWN * options.batch_size
    rows, columns = (np.asarray(k, dtype=np.int64) for k in draw(n, rng))
    if held_out is None:
        return rows, columns
    parts, n_drawn = [], 0
    while True:
        in_training = ~held_out[rows]
        parts.append((rows[in_training], columns[in_training]))
        n_drawn += int(in_training.sum())
        if n_drawn >= n:
            return np.concatenate([p[0] for p in parts])[:n], np.concatenate([p[1] for p in parts])[:n]
        rows, columns = (np.asarray(k, dtype=np.int64) for k in draw(n, rng))


class _Validation(NamedTuple):
    """Held-out draws, judged by the error or the spread of the end points of transport, or by the loss along the path."""

    sample: PathSample
    condition: torch.Tensor | None
    by: Literal["error", "spread", "loss"]


def _hold_out(
    points: PathPoints, draw: Draw, options: ResolvedTraining, device: torch.device
) -> tuple[np.ndarray | None, _Validation | None]:
    """Hold out a share of the source rows; a fixed set of their draws, at fixed times, is the validation set."""
    if options.validation == 0:
        return None, None
    rng = np.random.default_rng([options.seed, 2])
    rows, columns = (np.asarray(k, dtype=np.int64) for k in draw(N_VALIDATION, rng))
    coupled = np.unique(rows)
    n_held = max(1, round(options.validation * len(coupled)))
    if n_held >= len(coupled):
        raise ValueError(
            f"found validation={options.validation} over {len(coupled)} source rows that have partners; expected at least one "
            "row to train on and one to validate on. Mend: validation=0, or more pairs."
        )
    held_out = np.zeros(int(max(rows.max() + 1, _n_rows(points))), dtype=bool)
    held_out[rng.permutation(coupled)[:n_held]] = True
    in_validation = held_out[rows]
    generator = torch.Generator(device=device).manual_seed(options.seed + 1)
    i, j = torch.as_tensor(rows[in_validation], device=device), torch.as_tensor(columns[in_validation], device=device)
    if points.starts is not None and (points.conditions is not None or options.keeps_correlation):
        # A start that is fixed has one end, and the end is what counts. The loss along the path can fall while
        # end points get worse, since late on the path x_t determines x_1.
        i, j = i[:N_MOVED], j[:N_MOVED]
        x_0 = points.starts[i]
        return held_out, _Validation(
            PathSample(torch.zeros_like(x_0[:, :1]), x_0, points.ends[j] - x_0),
            None if points.conditions is None else points.conditions[i],
            "spread" if options.keeps_correlation else "error",
        )
    # Re-coupling belongs to a minibatch; the validation draws are judged as the coupling gave them.
    as_coupled = options.replace(minibatch_ot=False)
    return held_out, _Validation(*draw_batch(points, i, j, as_coupled, generator), "loss")


def _n_rows(points: PathPoints) -> int:
    rows = points.starts if points.starts is not None else points.conditions
    return 0 if rows is None else len(rows)


def _validate(state: TrainingState, validation_set: _Validation, options: ResolvedTraining) -> float:
    sample, condition, by = validation_set
    names = [name for name, p in state.network.named_parameters() if p.requires_grad]
    averaged = dict(zip(names, state.average, strict=True))

    def velocity(t: torch.Tensor, x: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
        return torch.func.functional_call(state.network, averaged, (t, x, c))

    state.network.eval()
    with torch.inference_mode(), _precision(options, state.device):
        if by == "loss":
            loss = float(flow_matching_loss(velocity, sample, condition))
        else:
            loss = _end_loss(velocity, sample, condition, by)
    state.network.train()
    return loss


def _release(velocity: SpreadVelocity, untrained_loss: float, validation_set: _Validation) -> None:
    """Let the whole network act if it brings the ends clearly nearer than the closed form alone; it is held back otherwise."""
    held_back = velocity.share.clone()
    velocity.share.fill_(1.0)
    with torch.inference_mode():
        loss = _end_loss(velocity, validation_set.sample, validation_set.condition, "spread")
    if loss > untrained_loss * (1 - CLEAR_GAIN):
        velocity.share.copy_(held_back)


def _end_loss(
    velocity: Velocity, sample: PathSample, condition: torch.Tensor | None, by: Literal["error", "spread"]
) -> float:
    """Judge the ends of transported starts beside their partners, x_1 = x_0 + dx_t.

    "error" is the mean squared distance from the partner, per dimension; "spread" the squared sliced Wasserstein distance
    between ends and partners, and infinite where the median correlation of a dimension with its partner fell.
    """

    def field(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return velocity(t.expand(len(x), 1), x, condition)

    try:
        end = integrate(field, sample.x_t, method="midpoint", n_steps=4).x
    except FloatingPointError:
        return math.inf  # worse than any other; a fatal divergence shows in the training loss
    partner = sample.x_t + sample.dx_t
    if by == "error":
        return float((end - partner).square().mean())
    if _median_r(end, partner) < _median_r(sample.x_t, partner) - MOST_R_LOST:
        return math.inf
    generator = torch.Generator(device=end.device).manual_seed(0)
    directions = torch.randn((end.shape[1], N_DIRECTIONS), generator=generator, device=end.device)
    projected = [(points @ (directions / directions.norm(dim=0))).sort(dim=0).values for points in (end, partner)]
    return float((projected[0] - projected[1]).square().mean())


def _median_r(x: torch.Tensor, y: torch.Tensor) -> float:
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return float(((x * y).sum(dim=0) / (x.norm(dim=0) * y.norm(dim=0)).clamp(min=1e-12)).median())
