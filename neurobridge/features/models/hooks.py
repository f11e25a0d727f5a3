"""Named layers: which there are, which a pattern means, and what they put out in a forward pass."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch

from neurobridge.assemblies import AssemblyError

Reduce = Callable[[str, torch.Tensor], torch.Tensor]
_TREE_LINES = 60


def named_layers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Modules that a hook can be put on, by name, in the model's order.

    TorchScript runs in an interpreter of its own, which calls no hooks: a script module and what is inside it are left out.
    """
    layers: dict[str, torch.nn.Module] = {}
    closed: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(prefix) for prefix in closed):
            continue
        if isinstance(module, torch.jit.ScriptModule):
            closed.append(f"{name}." if name else "")
        elif name:
            layers[name] = module
    return layers


def match_layers(model: torch.nn.Module, layers: str | Sequence[str]) -> list[str]:
    """Resolve layer names and glob patterns to module names, in the model's order, each once.

    A module that runs several times in a forward pass, as the ReLU of a torchvision ResNet block does, has no single output:
    ``"layer4.0.relu@2"`` is that of its second call.

    Parameters
    ----------
    model : torch.nn.Module
    layers : str or sequence of str
        Names of ``model.named_modules()``, or patterns with ``*``, ``?`` and ``[...]``.

    Raises
    ------
    AssemblyError
        A name matches no module; the message suggests near names and lists the tree.

    Examples
    --------
    >>> import neurobridge as nb
    >>> match_layers(nb.features.GaborEnergy(), "v*")
    ['v1', 'v2']
    """
    patterns = [layers] if isinstance(layers, str) else list(layers)
    names = list(named_layers(model))
    if not patterns:
        raise AssemblyError("layers: found an empty list; expected at least one name. Mend: e.g. layers='*'.")
    chosen: set[tuple[str, int]] = set()
    for pattern in patterns:
        base, call = _split_call(pattern)
        matched = [name for name in names if name == base or fnmatchcase(name, base)]
        if not matched:
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "choose a name from the tree."
            raise AssemblyError(
                f"layers: found no layer that matches {pattern!r} in {type(model).__name__}; expected a name "
                f"or a glob pattern of its modules. Mend: {hint}\n{layer_tree(model)}"
            )
        chosen.update((name, call) for name in matched)
    rank = {name: k for k, name in enumerate(names)}
    ordered = sorted(chosen, key=lambda each: (rank[each[0]], each[1]))
    return [f"{name}@{call}" if call else name for name, call in ordered]


def _split_call(name: str) -> tuple[str, int]:
    """``"relu@2"`` -> ("relu", 2); 0 stands for the only call."""
    base, _, call = name.rpartition("@")
    return (base, int(call)) if call.isdecimal() and int(call) > 0 and base else (name, 0)


def layer_tree(model: torch.nn.Module) -> str:
    """Indented list of the layers, at most 60 lines, for a message."""
    if isinstance(model, torch.jit.ScriptModule):
        return (
            "A TorchScript program shows no layers to hooks, only its output: wrap it as "
            "neurobridge.features.Program(model) and name layer 'output'."
        )
    layers = named_layers(model)
    lines = [f"{'  ' * name.count('.')}{name} ({type(module).__name__})" for name, module in layers.items()]
    if not lines:
        name = type(model).__name__
        return f"{name} has no submodules: wrap it as torch.nn.Sequential(model) and name layer '0'."
    rest = [f"... and {len(lines) - _TREE_LINES} more"] if len(lines) > _TREE_LINES else []
    script = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
    note = ["(TorchScript inside: its layers call no hooks and cannot be recorded)"] if script else []
    return "\n".join([f"Layers of {type(model).__name__}:", *lines[:_TREE_LINES], *rest, *note])


@contextmanager
def recording(
    model: torch.nn.Module, names: Sequence[str], reduce: Reduce
) -> Iterator[Callable[[torch.Tensor], dict[str, torch.Tensor]]]:
    """Hook the named layers; the hooks are gone afterwards, whatever happens.

    Yields a function that runs one batch of shape (n, channels, height, width) and gives what ``reduce(layer, output)`` made of
    each output: float tensors on the CPU that share no memory with the model's.

    Raises
    ------
    AssemblyError
        A layer runs never or more than once in a forward pass, or puts out no usable tensor.
    """
    modules = named_layers(model)
    caught: dict[str, torch.Tensor] = {}
    calls: dict[str, int] = {}
    n_images = 0

    def catch(name: str, call: int) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            if call and calls[name] != call:
                return
            if name in caught:
                raise AssemblyError(
                    f"layer {name!r}: found more than one call in a forward pass; expected one. "
                    f"Mend: name the layers before or after it, or one of its calls, e.g. '{name}@2' for the second."
                )
            tensor = _as_tensor(output, name, n_images)
            reduced = reduce(name, tensor)
            kept = reduced.to("cpu", torch.float32)
            # Copied at once where memory is shared: a later in-place module would overwrite it.
            shared = kept.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
            caught[name] = kept.clone(memory_format=torch.contiguous_format) if shared else kept

        return hook

    def run(batch: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal n_images
        caught.clear()
        calls.clear()
        n_images = len(batch)
        model(batch)
        silent = [name for name in names if name not in caught]
        if silent:
            raise AssemblyError(
                f"layers: found no activation of {silent}; expected each named layer to run in the forward pass. "
                "Mend: leave out layers that forward does not call."
            )
        return {name: caught[name] for name in names}

    handles: list[Any] = []
    try:
        for name in names:
            base, call = _split_call(name)
            handles.append(modules[base].register_forward_hook(catch(name, call)))
        yield run
    finally:
        for handle in handles:
            handle.remove()


def _as_tensor(output: Any, name: str, n: int) -> torch.Tensor:
    parts = [part for part in output if part is not None] if isinstance(output, (tuple, list)) else [output]
    if len(parts) != 1 or not isinstance(parts[0], torch.Tensor):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise AssemblyError(
            f"layer {name!r}: found an output of type {type(output).__name__} ({kinds}); expected one "
            "tensor, alone or as the only entry of a tuple. Mend: name a layer inside it, or wrap it so that "
            "it returns one tensor."
        )
    tensor = parts[0]
    if tensor.is_complex() or not 2 <= tensor.ndim <= 4 or tensor.shape[0] != n:
        raise AssemblyError(
            f"layer {name!r}: found an output of shape {tuple(tensor.shape)} and dtype {tensor.dtype} for "
            f"{n} images; expected real numbers of shape (n, channel), (n, token, channel) or (n, channel, "
            "row, column). Mend: name another layer, or wrap it so that the batch comes first."
        )
    return tensor
