"""Names of the layers of a model, patterns over them, and records of their outputs in a forward pass."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

import torch

from neurobridge.assemblies import AssemblyError

#: Gives the tensors to keep of the output of a layer.
Keep = Callable[[str, torch.Tensor], Sequence[torch.Tensor]]
_TREE_LINES = 60


def named_layers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Return the modules that a hook can be put on, by name, in the model's order.

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
    """Split ``"relu@2"`` into ("relu", 2); 0 stands for the only call."""
    base, _, call = name.rpartition("@")
    return (base, int(call)) if call.isdecimal() and int(call) > 0 and base else (name, 0)


def layer_tree(model: torch.nn.Module) -> str:
    """Return an indented list of the layers, at most 60 lines, for a message."""
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


class Recorder:
    """Hooks on named layers, from entering the context to leaving it, whatever happens in between.

    Parameters
    ----------
    model : torch.nn.Module
    layers : sequence of str
        What `match_layers` returned.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    >>> with Recorder(model, ["0", "1"]) as recorder:
    ...     outputs = recorder.run(torch.zeros(2, 1, 2, 2), lambda layer, output: (output.sum(dim=1), output))
    >>> {layer: [tuple(tensor.shape) for tensor in tensors] for layer, tensors in outputs.items()}
    {'0': [(2,), (2, 4)], '1': [(2,), (2, 3)]}
    """

    def __init__(self, model: torch.nn.Module, layers: Sequence[str]) -> None:
        self._model, self._layers = model, list(layers)
        self._handles: list[Any] = []
        self._keep: Keep
        self._kept: dict[str, tuple[torch.Tensor, ...]] = {}
        self._calls: dict[str, int] = {}

    def __enter__(self) -> Recorder:
        modules = named_layers(self._model)
        for layer in self._layers:
            base, call = _split_call(layer)
            self._handles.append(modules[base].register_forward_hook(self._hook(layer, call)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def run(self, batch: torch.Tensor, keep: Keep) -> dict[str, tuple[torch.Tensor, ...]]:
        """Run one batch and return what ``keep(layer, output)`` made of each output.

        Parameters
        ----------
        batch : tensor of shape (n, channels, height, width)
        keep : callable
            Gives the tensors to keep of the output of a layer.

        Returns
        -------
        dict of str to tuple of tensor
            float32 tensors on the CPU that share no memory with the model's.

        Raises
        ------
        AssemblyError
            A layer runs never or more than once in a forward pass, or its output is no usable tensor.
        """
        self._keep = keep
        self._kept.clear()
        self._calls.clear()
        self._model(batch)
        silent = [layer for layer in self._layers if layer not in self._kept]
        if silent:
            raise AssemblyError(
                f"layers: found no activation of {silent}; expected each named layer to run in the forward pass. "
                "Mend: leave out layers that forward does not call."
            )
        return {layer: self._kept[layer] for layer in self._layers}

    def shapes(self, batch: torch.Tensor) -> dict[str, tuple[int, ...]]:
        """Run one batch, which the model may refuse, and return the shape of each output that came before the refusal."""
        shapes: dict[str, tuple[int, ...]] = {}

        def note(layer: str, output: torch.Tensor) -> tuple[torch.Tensor, ...]:
            shapes[layer] = tuple(output.shape)
            return ()

        # Any error of the model's own: the batch is of a size that the user did not give.
        with suppress(Exception):
            self.run(batch, note)
        return shapes

    def _hook(self, layer: str, call: int) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            self._calls[layer] = self._calls.get(layer, 0) + 1
            if call and self._calls[layer] != call:
                return
            if layer in self._kept:
                raise AssemblyError(
                    f"layer {layer!r}: found more than one call in a forward pass; expected one. "
                    f"Mend: name the layers before or after it, or one of its calls, e.g. '{layer}@2' for the second."
                )
            tensor = _as_tensor(output, layer)
            self._kept[layer] = tuple(_apart(kept, tensor) for kept in self._keep(layer, tensor))

        return hook


def _apart(kept: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Return a float32 tensor on the CPU, copied where it shares memory: a later in-place module would overwrite it."""
    kept = kept.to("cpu", torch.float32)
    shared = kept.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    return kept.clone(memory_format=torch.contiguous_format) if shared else kept


def _as_tensor(output: Any, layer: str) -> torch.Tensor:
    parts = [part for part in output if part is not None] if isinstance(output, (tuple, list)) else [output]
    if len(parts) != 1 or not isinstance(parts[0], torch.Tensor):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise AssemblyError(
            f"layer {layer!r}: found an output of type {type(output).__name__} ({kinds}); expected one "
            "tensor, alone or as the only entry of a tuple. Mend: name a layer inside it, or wrap it so that "
            "it returns one tensor."
        )
    tensor = parts[0]
    is_plain = tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_nested or tensor.is_meta)
    if tensor.is_complex() or not is_plain or not 2 <= tensor.ndim <= 4 or tensor.numel() == 0:
        shape = "nested" if tensor.is_nested else tuple(tensor.shape)
        raise AssemblyError(
            f"layer {layer!r}: found an output of shape {shape}, dtype {tensor.dtype} and layout {tensor.layout}; "
            "expected real numbers in memory, of two to four axes, one of them the images. Mend: name another layer, or "
            "wrap it so that it returns one value a unit and image."
        )
    return tensor
