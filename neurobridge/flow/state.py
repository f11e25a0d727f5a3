"""State of a training run: everything that the rest of the run depends on, in memory and on disk."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from neurobridge.flow.errors import FlowFileError
from neurobridge.flow.settings import ResolvedTraining, Training
from neurobridge.store.state import check_shapes, read_state, write_state

KIND = "neurobridge flow checkpoint"


@dataclass(eq=False)
class TrainingState:
    """Everything that the rest of a run depends on."""

    network: nn.Module
    options: ResolvedTraining
    device: torch.device
    step: int = 0
    stopped: bool = False
    stale: int = 0
    best_loss: float = math.inf
    validation_losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.options.seed, 0])
        self.generator = torch.Generator(device=self.device).manual_seed(self.options.seed)
        self.weights = [p for p in self.network.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.weights]
        self.best: list[torch.Tensor] = []
        self.optimiser = make_optimiser(self.weights, self.options, self.device)
        # Gradients in float16 vanish below 6e-8: the loss is scaled up, the gradients back down before they are used.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.options.mixed_precision == "float16")
        self.losses = torch.full((self.options.n_steps,), math.nan, device=self.device)
        self.rows = self.columns = torch.empty(0, dtype=torch.int64, device=self.device)

    def require_finite(self) -> None:
        """Raise FloatingPointError if any loss or averaged weight so far is not finite."""
        not_finite = ~torch.isfinite(self.losses[: self.step])
        if bool(not_finite.any()):
            step = int(not_finite.int().argmax())
            raise self._diverged(f"a loss of {float(self.losses[step])} at step {step}")
        if not all(bool(torch.isfinite(a).all()) for a in self.average):
            raise self._diverged(f"weights that are not finite after step {self.step - 1}")

    def _diverged(self, fact: str) -> FloatingPointError:
        rate = self.options.learning_rate
        return FloatingPointError(
            f"found {fact}, with learning_rate={rate}; expected finite values. "
            f"Mend: training=Training(learning_rate={min(rate / 10, Training.learning_rate):.2g})."
        )

    def judge(self, loss: float) -> None:
        """Keep the averaged weights if they are better than the kept ones.

        Training stops after ``patience`` validations without better weights.
        """
        self.validation_losses.append(loss)
        if loss < self.best_loss:
            self.best_loss, self.stale = loss, 0
            self.best = [a.clone() for a in self.average]
        else:
            self.stale += 1
            self.stopped = self.stale >= self.options.patience

    def finish(self) -> None:
        """Put the weights that are kept into the network."""
        with torch.no_grad():
            for weight, kept in zip(self.weights, self.best or self.average, strict=True):
                weight.copy_(kept)
        self.network.eval().requires_grad_(False)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor of the state, by name."""
        out = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        for k, weight in enumerate(self.weights):
            out[f"average.{k}"] = self.average[k]
            if self.best:
                out[f"best.{k}"] = self.best[k]
            out |= {f"optimiser.{k}.{key}": value for key, value in self.optimiser.state[weight].items()}
        out |= {"losses": self.losses, "generator": self.generator.get_state(), "global": torch.get_rng_state()}
        if self.device.type == "cuda":
            out["cuda"] = torch.cuda.get_rng_state(self.device)
        return out | {"rows": self.rows, "columns": self.columns}

    def write(self, folder: Path, name: str, fingerprint: dict[str, Any]) -> None:
        """Keep the state on disk."""
        header = {
            "fingerprint": fingerprint,
            "step": self.step,
            "stopped": self.stopped,
            "stale": self.stale,
            "best_loss": self.best_loss if self.best else None,
            "validation_losses": self.validation_losses,
            "rng": self.rng.bit_generator.state,
            "scaler": self.scaler.state_dict(),
        }
        write_state(folder, name, self.tensors(), header, kind=KIND)

    def read(self, folder: Path, name: str, fingerprint: dict[str, Any]) -> None:
        """Take the state from disk, refusing one of another run."""
        where = f"{folder / name}.json"
        tensors, header = read_state(folder, name, kind=KIND, error=FlowFileError)
        theirs = dict(header.get("fingerprint") or {})
        differ = [
            f"{key} {theirs.get(key)!r} != {fingerprint.get(key)!r}"
            for key in sorted({*theirs, *fingerprint})
            if theirs.get(key) != fingerprint.get(key)
        ]
        if differ:
            raise FlowFileError(
                f"{where}: found a checkpoint of another run ({'; '.join(differ[:3])}); expected the same data, "
                "coupling and settings. Mend: give another folder, or Training(resume=False) to overwrite it."
            )
        network = {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
        check_shapes(network, {k: tuple(v.shape) for k, v in self.network.state_dict().items()}, where, FlowFileError)
        try:
            self._take(network, tensors, header)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FlowFileError(
                f"{where}: found no usable entry ({type(error).__name__}: {error}); expected a whole checkpoint. "
                "Mend: give another folder, or Training(resume=False) to overwrite it."
            ) from error

    def _take(self, network: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> None:
        self.network.load_state_dict(network)
        n = len(self.weights)
        self.average = [tensors[f"average.{k}"].to(self.device) for k in range(n)]
        self.best = [tensors[f"best.{k}"].to(self.device) for k in range(n)] if "best.0" in tensors else []
        moments = {
            k: {key.split(".", 2)[2]: v for key, v in tensors.items() if key.startswith(f"optimiser.{k}.")}
            for k in range(n)
        }
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        self.losses = tensors["losses"].to(self.device)
        self.generator.set_state(tensors["generator"])
        torch.set_rng_state(tensors["global"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["cuda"], self.device)
        self.rows, self.columns = tensors["rows"].to(self.device), tensors["columns"].to(self.device)
        self.rng.bit_generator.state = header["rng"]
        if header["scaler"]:
            self.scaler.load_state_dict(header["scaler"])
        self.step, self.stopped, self.stale = header["step"], header["stopped"], header["stale"]
        self.best_loss = math.inf if header["best_loss"] is None else header["best_loss"]
        self.validation_losses = header["validation_losses"]


def make_optimiser(weights: Iterable[nn.Parameter], options: Training, device: torch.device) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019), in one kernel where torch has it: a seventh of the time of the loop on a CPU."""
    fused = device.type in ("cpu", "cuda") and tuple(int(k) for k in torch.__version__.split(".")[:2]) >= (2, 4)
    return torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=options.weight_decay, fused=fused)
