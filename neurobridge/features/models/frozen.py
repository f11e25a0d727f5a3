"""A model that leaves as it came, and digests of what it is."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch

from neurobridge.assemblies import AssemblyError
from neurobridge.points.devices import find_device

_LINEAR_MAPS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_OF_EVERY_MODULE = frozenset(vars(torch.nn.Module()))


class Setting(NamedTuple):
    """Device that a frozen model runs on, and the floating type that it takes."""

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
    """Bring a model into evaluation mode, without gradients and with random numbers of its own, and restore it afterwards.

    All is as before afterwards, also when the body raises.

    Raises
    ------
    ValueError
        There is no such device here.
    AssemblyError
        A device is asked for and the model lies on several.
    """
    tensors = [*model.parameters(), *model.buffers()]
    devices = list(dict.fromkeys(tensor.device for tensor in tensors)) or [torch.device("cpu")]
    target = find_device(device) if device is not None else devices[0]
    moves = device is not None and devices != [target]
    if moves and len(devices) > 1:
        raise AssemblyError(
            f"device: found a model spread over {sorted(map(str, devices))}; expected one device to move it "
            "from. Mend: leave device=None."
        )
    training = {module: module.training for module in model.modules()}
    cuda = [target] if target.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        try:
            model.eval()
            if moves:
                model.to(target)
            yield Setting(target, _input_dtype(model))
        finally:
            if moves:
                model.to(devices[0])
            for module, flag in training.items():
                module.training = flag


def _input_dtype(model: torch.nn.Module) -> torch.dtype:
    """Return the floating type of the first convolution or linear map, else of the first tensor of floating type.

    Models of mixed precision keep norms and embeddings in float32 beside weights in half precision.
    """
    maps = [module.weight for module in model.modules() if isinstance(module, _LINEAR_MAPS)]
    for tensor in (*maps, *model.parameters(), *model.buffers()):
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            return tensor.dtype
    return torch.float32


def describe_module(model: torch.nn.Module) -> tuple[str, str]:
    """Return the class of a module and its number of parameters, as phrases of a short representation.

    Examples
    --------
    >>> describe_module(torch.nn.Linear(3, 2))
    ('Linear', '8 parameters')
    """
    return type(model).__name__, f"{sum(p.numel() for p in model.parameters()):,} parameters"


def weights_digest(model: torch.nn.Module) -> str:
    """Return the sha256 of the state dict: names, shapes, dtypes and bytes, sorted by name.

    Parameters
    ----------
    model : torch.nn.Module

    Raises
    ------
    AssemblyError
        The state holds something that is not a dense tensor, which has no bytes to digest.

    Examples
    --------
    >>> import torch
    >>> with torch.no_grad():
    ...     layer = torch.nn.Linear(1, 1)
    ...     layer.weight[:], layer.bias[:] = 1, 0
    >>> weights_digest(layer) == weights_digest(layer.eval())
    True
    """
    sha = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        _add_tensor(sha, name, value)
    return "sha256:" + sha.hexdigest()


def unsaved_digest(model: torch.nn.Module) -> str:
    """Return the sha256 of the parameters and buffers that the state dict leaves out, e.g. buffers that are not persistent.

    Raises
    ------
    AssemblyError
        One of them is not a dense tensor.
    """
    saved = {(name, _place(value)) for name, value in model.state_dict().items()}
    named = chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    sha = hashlib.sha256()
    for name, value in sorted(named, key=itemgetter(0)):
        if (name, _place(value)) not in saved:
            _add_tensor(sha, name, value)
    return "sha256:" + sha.hexdigest()


def attributes_digest(model: torch.nn.Module) -> str:
    """Return the sha256 of the plain attributes of every submodule, as ``gain`` after ``self.gain = 5``.

    Plain are numbers, strings, None, dtypes, tensors and arrays, functions, and tuples, lists, sets, dicts and dataclasses of
    them. Of any other object the type alone is seen.

    Raises
    ------
    AssemblyError
        A tensor among them is not dense.
    """
    sha = hashlib.sha256()
    for name, module in model.named_modules(remove_duplicate=False):
        for attribute, value in sorted(_attributes(module).items()):
            sha.update(f"{name}|{attribute}|{_described(value)}|".encode())
    return "sha256:" + sha.hexdigest()


def _attributes(module: torch.nn.Module) -> dict[str, Any]:
    if isinstance(module, torch.jit.ScriptModule):
        # They live in the interpreter, not in the Python object.
        attributes = {name: getattr(module, name) for name in module._concrete_type.get_attributes()}
    else:
        attributes = vars(module)
    return {name: value for name, value in attributes.items() if name not in _OF_EVERY_MODULE}


def _described(value: Any, inside: tuple[int, ...] = ()) -> str:
    """Describe a value by a text that another value shares if the two are the same, in this process or another."""
    if id(value) in inside:
        return "itself"
    kind, describe = type(value).__qualname__, partial(_described, inside=(*inside, id(value)))
    if isinstance(value, torch.Tensor):
        sha = hashlib.sha256()
        _add_tensor(sha, kind, value)
        return f"{kind} {sha.hexdigest()}"
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{kind} {value.shape} {value.dtype} {content}"
    if value is None or isinstance(value, (int, float, complex, str, bytes, torch.dtype, Enum)):
        return f"{kind} {value!r}"
    if isinstance(value, (tuple, list)):
        return f"{kind} [{', '.join(map(describe, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"{kind} [{', '.join(sorted(map(describe, value)))}]"
    if isinstance(value, Mapping):
        return f"{kind} [{', '.join(f'{describe(key)}: {describe(item)}' for key, item in value.items())}]"
    if isinstance(value, partial):
        return f"{kind} {describe(value.func)} {describe(value.args)} {describe(value.keywords)}"
    if inspect.isroutine(value) or isinstance(value, type):
        return f"{_path(value)} {_source(value)}"
    if is_dataclass(value):
        return f"{kind} {describe({field.name: getattr(value, field.name) for field in fields(value)})}"
    return f"{type(value).__module__}.{kind}"


def _place(value: Any) -> int | None:
    return value.data_ptr() if isinstance(value, torch.Tensor) and value.layout == torch.strided else None


def _add_tensor(sha: Any, name: str, value: Any) -> None:
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        raise AssemblyError(
            f"weights: found {type(value).__name__} under {name!r} in the state of the model; expected dense "
            "tensors. Mend: pass a model without extra state, e.g. one that is not quantised."
        )
    sha.update(f"{name}|{tuple(value.shape)}|{value.dtype}|".encode())
    # A tensor on the meta device has a shape and no bytes.
    if not value.is_meta:
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


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


def _source(code: Any) -> str:
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        # Typed at a prompt: there is no source, and the name must do.
        return _path(code)


def _path(code: Any) -> str:
    return f"{getattr(code, '__module__', None)}.{code.__qualname__}"
