"""A model that leaves as it came, and digests of what it is."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from neurobridge.assemblies import AssemblyError


class Setting(NamedTuple):
    """Where a frozen model runs, and the floating type it takes."""

    device: torch.device
    dtype: torch.dtype

    def seed(self, seed: int) -> None:
        """Seed the generators that the model would draw from."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)


@contextmanager
def frozen(model: torch.nn.Module, device: str | torch.device | None) -> Iterator[Setting]:
    """Evaluation mode, no gradients, random state of its own; all as before afterwards, also when the body raises.

    Raises
    ------
    AssemblyError
        A device is asked for and the model lies on several.
    """
    tensors = [*model.parameters(), *model.buffers()]
    home = list(dict.fromkeys(tensor.device for tensor in tensors)) or [torch.device("cpu")]
    floating = [tensor.dtype for tensor in tensors if tensor.is_floating_point()]
    where = torch.device(device) if device is not None else home[0]
    moves = device is not None and home != [where]
    if moves and len(home) > 1:
        raise AssemblyError(
            f"device: found a model spread over {sorted(map(str, home))}; expected one device to move it "
            "from. Mend: leave device=None."
        )
    training = {module: module.training for module in model.modules()}
    cuda = [where] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        try:
            model.eval()
            if moves:
                model.to(where)
            yield Setting(where, floating[0] if floating else torch.float32)
        finally:
            if moves:
                model.to(home[0])
            for module, flag in training.items():
                module.training = flag


def weights_digest(model: torch.nn.Module) -> str:
    """Return the sha256 of the state dict: names, shapes, dtypes and bytes, sorted by name.

    Raises
    ------
    AssemblyError
        The state holds something that is not a dense tensor, which has no bytes to digest.
    """
    sha = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise AssemblyError(
                f"weights: found {type(value).__name__} under {name!r} in the state dict; expected dense "
                "tensors. Mend: pass a model without extra state, e.g. one that is not quantised."
            )
        sha.update(f"{name}|{tuple(value.shape)}|{value.dtype}|".encode())
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return "sha256:" + sha.hexdigest()


def architecture_digest(model: torch.nn.Module) -> str:
    """Return the sha256 of the printed module tree."""
    return "sha256:" + hashlib.sha256(repr(model).encode()).hexdigest()


def code_digest(model: torch.nn.Module) -> str:
    """Return the sha256 of the model's code: source of each module class and its bases outside torch, graph of each program.

    Two models with the same weights and the same printed tree can differ in what ``forward`` does; this tells them apart where
    the source is at hand.
    """
    parts: set[str] = set()
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            parts.add(module.code if hasattr(module, "forward") else "")
        elif isinstance(graph := getattr(module, "graph", None), torch.fx.Graph):
            parts.add(str(graph))
        else:
            parts |= {
                _source(kind) for kind in type(module).__mro__ if not kind.__module__.startswith(("torch.", "builtins"))
            }
    return "sha256:" + hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        # Typed at a prompt: there is no source, and the name must do.
        return f"{kind.__module__}.{kind.__qualname__}"
