"""Activations of named layers, through forward hooks, from a model that leaves as it came."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from tqdm.auto import tqdm

from neurobridge.assemblies import AssemblyError, coords_of, make_assembly
from neurobridge.features.preprocess import Preprocess

_LAYOUTS = (("presentation", "row", "column"), ("presentation", "row", "column", "channel"))
_TREE_LINES = 60


def _flatten(output: torch.Tensor) -> torch.Tensor:
    return output


def _mean(output: torch.Tensor) -> torch.Tensor:
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    return output.mean(dim=1) if output.ndim == 3 else output


POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"flatten": _flatten, "mean": _mean}


def extract(
    model: torch.nn.Module,
    images: xr.DataArray,
    layers: str | Sequence[str],
    *,
    batch_size: int = 64,
    preprocess: Preprocess | None = None,
    pooling: str = "flatten",
    device: str | torch.device | None = None,
    seed: int = 0,
    max_bytes: int = 4 * 2**30,
    progress: bool = False,
) -> xr.DataArray:
    """Show images to a frozen model and record the activations of named layers.

    The model runs in evaluation mode and without gradients. Afterwards, also when it raises, the hooks are
    gone, every submodule has its training flag back, the model is on its own device, and torch's random state
    is as before.

    Parameters
    ----------
    model : torch.nn.Module
        Takes a float tensor of shape (n, channels, height, width).
    images : xarray.DataArray
        uint8 pixels, dims ``(presentation, row, column[, channel])``, with a ``stimulus_id`` coordinate on
        ``presentation``. Read batch by batch, so a dask-backed array is never in memory as a whole.
    layers : str or sequence of str
        Names from ``model.named_modules()`` or glob patterns over them (``*`` also crosses dots).
    batch_size : int
        Images a forward pass; the result does not depend on it beyond rounding.
    preprocess : Preprocess, optional
        Default: pixels scaled to [0, 1], nothing else.
    pooling : {"flatten", "mean"}
        Keep every unit, or average over positions.
    device : str or torch.device, optional
        Where to run; default: where the model's weights are.
    seed : int
        Seed of the random numbers that a model draws even in evaluation mode, if any.
    max_bytes : int
        Largest result that is allocated.
    progress : bool
        Show a progress bar.

    Returns
    -------
    xarray.DataArray
        float32 assembly, dims ``(presentation, neuroid)``, with the presentation coordinates of `images` and
        the neuroid coordinates ``neuroid_id`` (``layer.channel.row.column``), ``layer``, ``channel``,
        ``row``, ``column``. An output of shape (n, channel) has row = column = -1; (n, channel, row, column)
        has all three; (n, token, channel) has its token index as row and column = -1. Attributes: those of
        `images`, ``model``, ``weights_digest``, ``architecture_digest`` (of the printed module tree),
        ``preprocessing`` (JSON), ``layers``, ``pooling``.

    Raises
    ------
    AssemblyError
        The images are not images, a layer name matches nothing, a layer gives no usable tensor, an activation
        is NaN or infinite (names layer and stimulus), or the result would exceed `max_bytes`.
    RuntimeError
        The model changed its own weights or buffers during the pass.
    """
    _check_images(images)
    if pooling not in POOLINGS:
        raise AssemblyError(
            f"pooling: found {pooling!r}; expected one of {sorted(POOLINGS)}. Mend: use pooling='flatten'."
        )
    if batch_size < 1:
        raise AssemblyError(f"batch_size: found {batch_size}; expected at least 1. Mend: e.g. batch_size=64.")
    names = match_layers(model, layers)
    preprocess = preprocess or Preprocess()
    digest = weights_digest(model)
    stimulus_ids: list[Any] = images.coords["stimulus_id"].values.tolist()
    n_presentations = images.sizes["presentation"]

    values = np.empty((0, 0), dtype=np.float32)
    neuroids: dict[str, np.ndarray] = {}
    with (
        _frozen(model, device, seed) as (where, dtype),
        tqdm(total=n_presentations, disable=not progress) as bar,
    ):
        for rows, pixels in _batches(images, batch_size):
            batch = preprocess(torch.from_numpy(pixels).to(where), dtype=dtype)
            activations = _run(model, batch, names, POOLINGS[pooling])
            _refuse_non_finite(activations, stimulus_ids[rows])
            flat = np.concatenate([a.flatten(1).numpy() for a in activations.values()], axis=1)
            if not neuroids:
                values = _allocate(n_presentations, flat.shape[1], max_bytes)
                neuroids = _neuroid_coords({name: tuple(a.shape[1:]) for name, a in activations.items()})
            if flat.shape[1] != values.shape[1]:
                raise AssemblyError(
                    f"found {flat.shape[1]} units at stimulus {stimulus_ids[rows][0]!r}, {values.shape[1]} "
                    "before; expected the same for all images. Mend: name layers whose size does not depend "
                    "on the input."
                )
            values[rows] = flat
            bar.update(len(pixels))
    if weights_digest(model) != digest:
        raise RuntimeError(
            "model: found other weights or buffers after the pass than before; expected a frozen model. "
            "Mend: a module updates its state in eval mode; disable that, or pass a copy of the model."
        )
    return make_assembly(
        values,
        presentation={name: column for name, (_, column) in coords_of(images, "presentation").items()},
        neuroid=neuroids,
        attrs={
            **images.attrs,
            "model": type(model).__name__,
            "weights_digest": digest,
            "architecture_digest": "sha256:" + hashlib.sha256(repr(model).encode()).hexdigest(),
            "preprocessing": json.dumps(preprocess.record(), sort_keys=True),
            "layers": names,
            "pooling": pooling,
        },
    )


def match_layers(model: torch.nn.Module, layers: str | Sequence[str]) -> list[str]:
    """Resolve layer names and glob patterns to module names, in the model's order, each once.

    Raises
    ------
    AssemblyError
        A name matches no module; the message suggests near names and lists the tree.
    """
    patterns = [layers] if isinstance(layers, str) else list(layers)
    names = [name for name, _ in model.named_modules() if name]
    if not patterns:
        raise AssemblyError("layers: found an empty list; expected at least one name. Mend: e.g. layers='*'.")
    chosen: set[str] = set()
    for pattern in patterns:
        matched = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
        if not matched:
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "choose a name from the tree."
            raise AssemblyError(
                f"layers: found no layer that matches {pattern!r} in {type(model).__name__}; expected a name "
                f"or a glob pattern of its modules. Mend: {hint}\n{_tree(model)}"
            )
        chosen.update(matched)
    return [name for name in names if name in chosen]


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


def _tree(model: torch.nn.Module) -> str:
    lines = [
        f"{'  ' * name.count('.')}{name} ({type(module).__name__})" for name, module in model.named_modules() if name
    ]
    if not lines:
        name = type(model).__name__
        return f"{name} has no submodules: wrap it as torch.nn.Sequential(model) and name layer '0'."
    rest = [f"... and {len(lines) - _TREE_LINES} more"] if len(lines) > _TREE_LINES else []
    return "\n".join([f"Layers of {type(model).__name__}:", *lines[:_TREE_LINES], *rest])


def _check_images(images: Any) -> None:
    mend = "Mend: pass Experiment.images, or build one with dims (presentation, row, column, channel) and stimulus_id."
    if not isinstance(images, xr.DataArray):
        raise AssemblyError(f"images: found {type(images).__name__}; expected an xarray.DataArray of pixels. {mend}")
    dims = tuple(map(str, images.dims))
    if dims not in _LAYOUTS:
        raise AssemblyError(f"images: found dims {dims}; expected {_LAYOUTS[0]} or {_LAYOUTS[1]}. {mend}")
    if images.dtype != np.uint8:
        raise AssemblyError(
            f"images: found dtype {images.dtype}; expected uint8 pixels in [0, 255]. Mend: keep the pixels "
            "as stored and give scaling and normalisation as preprocess=Preprocess(...)."
        )
    if dims == _LAYOUTS[1] and images.sizes["channel"] not in (1, 3):
        raise AssemblyError(
            f"images: found {images.sizes['channel']} channels; expected 1 (grey) or 3 (RGB). Mend: drop the "
            "alpha channel."
        )
    if 0 in images.shape:
        raise AssemblyError(f"images: found shape {images.shape}; expected at least one pixel of one image. {mend}")
    if isinstance(images.indexes.get("presentation"), pd.MultiIndex):
        raise AssemblyError(
            "images: found a MultiIndex on 'presentation'; expected flat coordinates. "
            "Mend: images.reset_index('presentation')."
        )
    if "stimulus_id" not in images.coords or images.coords["stimulus_id"].dims != ("presentation",):
        raise AssemblyError(
            f"images: found coordinates {sorted(map(str, images.coords))}; expected 'stimulus_id' on "
            "'presentation'. Mend: images.assign_coords(stimulus_id=('presentation', ids))."
        )


def _batches(images: xr.DataArray, batch_size: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield rows and pixels; each chunk is read once, and no more than a batch or a chunk is held."""
    n = images.sizes["presentation"]
    chunks = images.chunks[0] if images.chunks else (batch_size,) * (n // batch_size) + (n % batch_size,)
    edges = [0]
    for stop in np.cumsum(chunks).tolist():
        if len(edges) > 1 and stop - edges[-2] <= batch_size:
            edges[-1] = stop
        elif stop > edges[-1]:
            edges.append(stop)
    for start, stop in pairwise(edges):
        block = images.isel(presentation=slice(start, stop)).values
        for first in range(0, len(block), batch_size):
            pixels = np.array(block[first : first + batch_size], order="C")
            yield slice(start + first, start + first + len(pixels)), pixels


class _Setting(NamedTuple):
    device: torch.device
    dtype: torch.dtype


@contextmanager
def _frozen(model: torch.nn.Module, device: str | torch.device | None, seed: int) -> Iterator[_Setting]:
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
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(where):
                torch.cuda.manual_seed(seed)
        try:
            model.eval()
            if moves:
                model.to(where)
            yield _Setting(where, floating[0] if floating else torch.float32)
        finally:
            if moves:
                model.to(home[0])
            for module, flag in training.items():
                module.training = flag


def _run(
    model: torch.nn.Module,
    batch: torch.Tensor,
    names: Sequence[str],
    pool: Callable[[torch.Tensor], torch.Tensor],
) -> dict[str, torch.Tensor]:
    caught: dict[str, torch.Tensor] = {}
    modules = dict(model.named_modules())

    def catch(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            if name in caught:
                raise AssemblyError(
                    f"layer {name!r}: found more than one call in a forward pass; expected one. "
                    "Mend: name the layers before or after it; its several outputs have no single name."
                )
            tensor = _as_tensor(output, name, len(batch))
            # Copied at once: a later in-place module would overwrite it.
            caught[name] = pool(tensor).to("cpu", torch.float32, copy=True)

        return hook

    handles: list[Any] = []
    try:
        for name in names:
            handles.append(modules[name].register_forward_hook(catch(name)))
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    silent = [name for name in names if name not in caught]
    if silent:
        raise AssemblyError(
            f"layers: found no activation of {silent}; expected each named layer to run in the forward pass. "
            "Mend: leave out layers that forward does not call."
        )
    return {name: caught[name] for name in names}


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


def _refuse_non_finite(activations: Mapping[str, torch.Tensor], stimulus_ids: Sequence[Any]) -> None:
    for name, tensor in activations.items():
        bad = ~torch.isfinite(tensor.flatten(1)).all(dim=1)
        if bad.any():
            stimulus = stimulus_ids[int(bad.nonzero()[0])]
            raise AssemblyError(
                f"layer {name!r}: found NaN or infinite activations for {int(bad.sum())} of {len(bad)} "
                f"images in the batch, first at stimulus {stimulus!r}; expected finite numbers. Mend: check "
                "the preprocessing and the weights, or run the model in float32."
            )


def _neuroid_coords(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    columns: dict[str, list[np.ndarray]] = {key: [] for key in ("layer", "channel", "row", "column")}
    for name, shape in shapes.items():
        grid = np.indices(shape).reshape(len(shape), -1)
        absent = np.full(grid.shape[1], -1)
        axes = {1: ("channel",), 2: ("row", "channel"), 3: ("channel", "row", "column")}[len(shape)]
        place = dict(zip(axes, grid, strict=True))
        columns["layer"].append(np.full(grid.shape[1], name))
        for key in ("channel", "row", "column"):
            columns[key].append(place.get(key, absent))
    joined = {key: np.concatenate(parts) for key, parts in columns.items()}
    ids = ["{}.{}.{}.{}".format(*fields) for fields in zip(*(joined[key].tolist() for key in joined), strict=True)]
    return {"neuroid_id": np.array(ids), **joined}


def _allocate(n: int, n_neuroids: int, max_bytes: int) -> np.ndarray:
    needed = 4 * n * n_neuroids
    if needed > max_bytes:
        raise AssemblyError(
            f"found {n} images x {n_neuroids} units = {needed / 2**30:.1f} GiB; expected at most "
            f"{max_bytes / 2**30:.1f} GiB. Mend: name fewer layers, use pooling='mean', or raise max_bytes."
        )
    return np.empty((n, n_neuroids), dtype=np.float32)
