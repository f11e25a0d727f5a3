"""A device that exists nowhere: tensors that compute on the CPU but refuse to meet tensors of the CPU, as those of a GPU do.

Run as a script it checks what `test_gpu` checks on a GPU.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "far"
_INDEXED = {"index.Tensor", "index_put_.default", "index_put.default", "_index_put_impl_.default"}
_COPIES = {"copy_.default", "_to_copy.default"}


def register() -> torch.device:
    """Make the device known; once in a process."""
    if not hasattr(torch, NAME):
        torch.utils.backend_registration._setup_privateuseone_for_python_backend(NAME)
    return torch.device(NAME, 0)


class FarTensor(torch.Tensor):
    """A tensor that says it lies on the far device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> FarTensor:
        out = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=torch.device(NAME, 0)
        )
        out.inner = inner
        return out

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("matmul", "__matmul__") and args[0].dim() == 1 and args[1].dim() == 2:
            # Torch removes a dimension of this product in place, which a wrapper cannot follow.
            return (args[0][None] @ args[1])[0]
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _apply(func, args, kwargs or {})


class Far(TorchDispatchMode):
    """While it is on, tensors can be made on the far device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _apply(func, args, kwargs or {})


def _apply(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = str(func).removeprefix("aten.")
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    far = [isinstance(leaf, FarTensor) for leaf in tensors]
    near = [leaf for leaf, is_far in zip(tensors, far, strict=True) if not is_far and leaf.dim()]
    if (
        any(far)
        and near
        and name not in _COPIES
        and not (name in _INDEXED and far[0] and len(far) - sum(far) <= len(args[1]))
    ):
        raise RuntimeError(f"{name}: expected all tensors on one device, found the far device and the CPU")
    device = kwargs.get("device")
    to_far = any(far)
    if device is not None:
        to_far = torch.device(device).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu"), "pin_memory": False} if to_far else kwargs
    elif name == "copy_.default":
        to_far = far[0]
    inner_args, inner_kwargs = tree_map(lambda x: x.inner if isinstance(x, FarTensor) else x, (args, kwargs))
    out = func(*inner_args, **inner_kwargs)
    changed = {id(x.inner): x for x in tensors if isinstance(x, FarTensor)}

    def wrapped(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not to_far:
            return x
        return changed.get(id(x)) if id(x) in changed else FarTensor(x)

    return tree_map(wrapped, out)


def main() -> None:
    spec = importlib.util.spec_from_file_location("test_gpu", Path(__file__).with_name("test_gpu.py"))
    checks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    register()
    with Far():
        far, near = torch.as_tensor(checks.X, device=NAME), torch.as_tensor(checks.X)
        for mixture in (lambda: far + near, far.numpy):
            try:
                mixture()
            except RuntimeError:
                continue
            raise AssertionError("found tensors of two devices in one operation; expected a refusal")
        assert ((2 * far).cpu() == 2 * near).all()
        print("refuses")
        for number, options in enumerate(checks.OPTIONS):
            checks.check_couplings(NAME, (checks.PAIRS, checks.MANY)[number % 2], options)
        print("couplings")
        for options in checks.FUSED:
            checks.check_fused(NAME, options, 1e-5)
        print("fused")


if __name__ == "__main__":
    main()
