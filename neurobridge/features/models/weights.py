"""Weights from disk into a model: one loader, strict about names, that never executes what it reads."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

State = dict[str, torch.Tensor]
# Parts of names that torch's own wrappers add: DataParallel and AveragedModel, compile, FSDP, activation checkpoints.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# Counters of training, without a part in evaluation.
_COUNTERS = frozenset({"num_batches_tracked", "n_averaged"})
_DEPTH = 4
_SHOWN = 3


class ModelError(ValueError):
    """A model that cannot be found, or a file that is no weights; the message says what was found, expected and how to mend it."""


def load_weights(model: torch.nn.Module, path: str | os.PathLike[str]) -> torch.nn.Module:
    """Load weights from disk into a model, every entry of both, and give the model back.

    The file may be a state dict or a checkpoint that holds one beside other things (``state_dict``, ``model``, the state of an
    optimiser, numbers of epochs), at any name. Names may have a prefix in front (``backbone.``), and parts that wrappers of torch
    add (``module.``, ``_orig_mod.``). What does not have to be there: counters of batches, tied weights that are there
    under another name, and buffers that the model makes by itself, if they are equal.

    Parameters
    ----------
    model : torch.nn.Module
    path : path
        ``.safetensors``, or a file of ``torch.save``, read with ``weights_only=True``: nothing in it is executed.

    Returns
    -------
    torch.nn.Module
        The model given.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ModelError
        The file wants code executed, is damaged, has other entries than the model (the message names them), or holds two
        sets of weights that fit.

    Examples
    --------
    >>> import torch
    >>> from safetensors.torch import save_file
    >>> save_file({"weight": torch.eye(2), "bias": torch.ones(2)}, "weights.safetensors")
    >>> load_weights(torch.nn.Linear(2, 2), "weights.safetensors").bias.tolist()
    [1.0, 1.0]
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"found no file at {path}; expected weights. Mend: check the path.")
    checkpoint = _read(path)
    states = dict(_states(checkpoint))
    if not states:
        raise ModelError(
            f"{path}: found {type(checkpoint).__name__} without a mapping of names to tensors; expected a state dict, alone or "
            "inside a checkpoint. Mend: torch.save(model.state_dict(), path), or better safetensors."
        )
    fits = {place: _fit(model, state) for place, state in states.items()}
    whole = {place: fit for place, fit in fits.items() if fit.is_whole}
    if not whole:
        raise _misfit(path, model, fits)
    fit = next(iter(whole.values()))
    others = [place for place in whole if not _are_equal(whole[place].state, fit.state)]
    if others:
        raise ModelError(
            f"{path}: found {len(whole)} sets of weights that fit and differ, {sorted(map('.'.join, whole))}; expected one. Mend: "
            f"save one alone, checkpoint = torch.load({str(path)!r}, weights_only=True); "
            f"torch.save({_expression(others[0])}, 'weights.pth'), and load that."
        )
    try:
        model.load_state_dict(fit.state)
    # Of a model with rules of its own for its state.
    except RuntimeError as error:
        raise ModelError(
            f"{path}: found weights that {type(model).__name__} does not take ({error}); expected its entries. Mend: "
            "model.load_state_dict by hand, and give extract the model."
        ) from error
    return model


@dataclass(frozen=True)
class _Fit:
    """A state dict beside the entries of a model, under the model's names.

    Attributes
    ----------
    state : dict of str to tensor
        Entries for the model, where there are no problems.
    missing, unexpected, other : list of str
        Entries of the model that the file lacks; of the file that the model lacks; of another shape or kind of number.
    """

    state: State
    missing: list[str]
    unexpected: list[str]
    other: list[str]

    @property
    def is_whole(self) -> bool:
        return not (self.missing or self.unexpected or self.other)

    @property
    def n_problems(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.other)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with _plain_records():
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    # Damaged bytes end in almost any exception of the unpickler and of the archive.
    except Exception as error:
        raise wants_code(path, error) from error


def wants_code(path: Path, error: Exception) -> ModelError:
    """Return the error for a file that cannot be read as tensors alone."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # What follows in torch's own messages advises to execute the file.
    sentence = lines[0].partition(". ")[0]
    return ModelError(
        f"{path}: found a file that cannot be read as weights alone ({sentence}); expected tensors, with no pickled code in it, "
        "which is never executed. Mend: fetch a damaged file again; where it is trusted, save model.state_dict() as safetensors."
    )


def _plain_records() -> AbstractContextManager[Any]:
    """Allow what published checkpoints keep beside weights and no code: arguments of the command line, single numbers."""
    allow = getattr(torch.serialization, "safe_globals", None)
    if allow is None:
        return nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(kind)) for kind in ("float32", "float64", "int32", "int64", "bool")]
    old_name = (scalar, "numpy.core.multiarray.scalar")
    return allow([argparse.Namespace, np.dtype, scalar, old_name, *dtypes])


def _states(checkpoint: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], State]]:
    """Yield every mapping of names to tensors in a checkpoint, with the keys that lead to it."""
    if not isinstance(checkpoint, Mapping) or len(place) > _DEPTH:
        return
    state = {key: value for key, value in checkpoint.items() if isinstance(key, str) and torch.is_tensor(value)}
    if state:
        yield place, state
    for key, value in checkpoint.items():
        if isinstance(key, str):
            yield from _states(value, (*place, key))


def _fit(model: torch.nn.Module, state: State) -> _Fit:
    """Compare a state dict with a model under each renaming that makes sense, and return the best of them."""
    wanted = {name: value for name, value in model.state_dict().items() if torch.is_tensor(value)}
    best: _Fit | None = None
    for without in (frozenset[str](), _WRAPPERS):
        ours, theirs = _renamed(wanted, without), _renamed(state, without)
        if ours is None or theirs is None:
            continue
        for our_prefix, their_prefix in _prefixes(ours, theirs):
            renamed = {_moved(name, their_prefix, our_prefix): value for name, value in theirs.items()}
            fit = _compared(model, ours, renamed)
            if best is None or fit.n_problems < best.n_problems:
                best = fit
    assert best is not None
    return best


def _renamed(state: State, without: frozenset[str]) -> dict[str, tuple[str, torch.Tensor]] | None:
    """Leave parts out of names; None where two names come to be the same."""
    renamed = {".".join(part for part in name.split(".") if part not in without): (name, state[name]) for name in state}
    return renamed if len(renamed) == len(state) else None


def _prefixes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what may stand in front of all names of the model, and of the file, and not of the other."""
    pairs = [("", "")]
    pairs += [("", prefix) for prefix in _in_front(theirs, ours)]
    pairs += [(prefix, "") for prefix in _in_front(ours, theirs)]
    return list(dict.fromkeys(pairs))


def _in_front(names: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[str]:
    # The longest say most: a name of one part, as "weight", ends many others.
    longest = sorted((name for name in others if not _is_counter(name)), key=len, reverse=True)[:3]
    for other in longest:
        yield from (name.removesuffix(other) for name in names if name.endswith(f".{other}"))


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTERS


def _moved(name: str, their_prefix: str, our_prefix: str) -> str:
    return our_prefix + name.removeprefix(their_prefix) if name.startswith(their_prefix) else name


def _compared(
    model: torch.nn.Module,
    ours: Mapping[str, tuple[str, torch.Tensor]],
    theirs: Mapping[str, tuple[str, torch.Tensor]],
) -> _Fit:
    state = {our_name: theirs[name][1] for name, (our_name, _) in ours.items() if name in theirs}
    by_storage = {_storage(value): our_name for our_name, value in ours.values() if our_name in state}
    by_storage.pop(None, None)
    missing = []
    for our_name, value in ours.values():
        if our_name in state:
            continue
        if _is_counter(our_name):
            state[our_name] = torch.zeros_like(value)
        elif (tied := by_storage.get(_storage(value))) is not None:
            state[our_name] = state[tied]
        else:
            missing.append(our_name)
    made = dict(model.named_buffers())
    unexpected = [
        their_name
        for name, (their_name, value) in theirs.items()
        if name not in ours
        and not _is_counter(name)
        and not (name in made and _are_equal({"": value}, {"": made[name]}))
    ]
    other = [name for name, value in ours.values() if name in state and _kind(state[name]) != _kind(value)]
    return _Fit(state, missing, unexpected, other)


def _storage(value: torch.Tensor) -> tuple[Any, ...] | None:
    """Return what two tensors share that are tied; None for one without bytes."""
    if value.data_ptr() == 0:
        return None
    return value.device, value.data_ptr(), tuple(value.shape), value.stride()


def _kind(value: torch.Tensor) -> tuple[tuple[int, ...], bool, bool]:
    return tuple(value.shape), value.is_floating_point(), value.is_complex()


def _are_equal(one_state: State, other_state: State) -> bool:
    return all(torch.equal(value.cpu(), other_state[name].cpu()) for name, value in one_state.items())


def _expression(place: tuple[str, ...]) -> str:
    return "checkpoint" + "".join(f"[{key!r}]" for key in place)


def _misfit(path: Path, model: torch.nn.Module, fits: Mapping[tuple[str, ...], _Fit]) -> ModelError:
    place, fit = min(fits.items(), key=lambda item: (item[1].n_problems, -len(item[1].state)))
    inside = f" in {_expression(place)}" if place else ""

    def listed(names: list[str]) -> str:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"{sorted(names)[:_SHOWN]}{more}"

    return ModelError(
        f"{path}: found{inside} {len(fit.missing)} missing entries {listed(fit.missing)}, {len(fit.unexpected)} unexpected "
        f"{listed(fit.unexpected)} and {len(fit.other)} of another shape or kind of number {listed(fit.other)}; expected the "
        f"entries of {type(model).__name__}, after a prefix as 'module.' or inside 'state_dict' or not. Mend: build the "
        "model that the weights belong to, or save the entries of this model alone, torch.save({name: value, ...}, 'weights.pth')."
    )
