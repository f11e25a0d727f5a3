"""The device that a user names, checked before work is sent to it, and the cores at hand."""

from __future__ import annotations

import os

import torch


def find_device(device: str | torch.device, *, name: str = "device") -> torch.device:
    """Return a device after something was put on it.

    Parameters
    ----------
    device : str or torch.device
        E.g. "cpu", "cuda" or "cuda:1".
    name : str
        Name of the argument in messages.

    Raises
    ------
    ValueError
        The name is none that torch knows, or this machine or this build of torch has no such device.

    Examples
    --------
    >>> find_device("cpu")
    device(type='cpu')
    """
    try:
        usable = torch.device(device)
        if usable.type == "meta":
            raise ValueError("a device without values")
        torch.empty(1, device=usable)
    # A torch built without CUDA says so with an AssertionError.
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{name}: found {str(device)!r}, which cannot be used here ({reason}); expected one of {_usable_devices()}. "
            f"Mend: choose one of them, or leave {name} out."
        ) from error
    return usable


def _usable_devices() -> list[str]:
    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def usable_cores() -> int:
    """Return the number of processor cores that this process may use.

    Examples
    --------
    >>> from neurobridge.points.devices import usable_cores
    >>> usable_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
