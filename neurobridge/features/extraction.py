"""Activations of named layers, from a model that leaves as it came, into memory or a file."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from neurobridge.assemblies import AssemblyError
from neurobridge.assemblies.storage.netcdf import require_zarr
from neurobridge.features.forward import Forward, refuse_non_finite
from neurobridge.features.models.axes import GivenAxes, given_axes
from neurobridge.features.models.frozen import (
    architecture_digest,
    attributes_digest,
    code_digest,
    frozen,
    unsaved_digest,
    weights_digest,
)
from neurobridge.features.models.hooks import Recorder, match_layers
from neurobridge.features.reduction import Reduction, as_reductions
from neurobridge.features.showing import (
    Batches,
    Block,
    check_workers,
    recorded_here,
    recorded_on_workers,
    require_unchanged,
)
from neurobridge.features.stimuli.collections import Root, Stimuli
from neurobridge.features.stimuli.images import Source, as_source, read_ahead
from neurobridge.features.stimuli.preprocess import Preprocess
from neurobridge.features.storage import DTYPES, KEY, Memory, Partial, check_result, extraction_key, find_done
from neurobridge.points.options import is_choice, require_count, require_options
from neurobridge.points.progress import progress_bar

_LOG = logging.getLogger(__name__)


def extract(
    model: torch.nn.Module,
    stimuli: Stimuli,
    layers: str | Sequence[str],
    *,
    root: Root = None,
    batch_size: int = 64,
    preprocess: Preprocess | None = None,
    pooling: str | Reduction | Sequence[str | Reduction] = "flatten",
    axes: GivenAxes | None = None,
    dtype: str = "float32",
    identifier: str | None = None,
    out: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    workers: int = 1,
    distributed: bool = False,
    device: str | torch.device | None = None,
    seed: int = 0,
    max_bytes: int = 4 * 2**30,
    progress: bool = False,
) -> xr.DataArray:
    """Show images to a frozen model and record the activations of named layers.

    The model runs in evaluation mode and without gradients. Afterwards, also when it raises, the hooks are
    gone, every submodule has its training flag back, the model is on its own device, and torch's random state
    is as before. Images are read by threads of their own while the model computes.

    Parameters
    ----------
    model : torch.nn.Module
        Takes a float tensor of shape (n, channels, height, width).
    stimuli : DataArray, DataFrame, array, path, or sequence of paths
        uint8 pixels, dims ``(presentation, row, column[, channel])``, with a ``stimulus_id`` coordinate on
        ``presentation``; read batch by batch, so a dask-backed array is never in memory as a whole. Or a table
        with ``stimulus_id`` and ``file`` (or ``filename``), whose images are read as RGB. Or what needs no table: a folder, a
        glob, a zip or a list of image files, whose ``stimulus_id`` is the name of the file with its extension; a csv or parquet
        file, also one of trials, whose ids are found among the files of `root` with or without extension; a StimulusSet of
        Brain-Score; a plain uint8 array, whose ids are the numbers of its rows.
    layers : str or sequence of str
        Names from ``model.named_modules()`` or glob patterns over them (``*`` also crosses dots).
    root : path or uint8 array, optional
        For a table: the folder of the files, the zip whose members they are, or their pixels, of shape (n_rows, row, column
        [, channel]). The folder of a csv by default.
    batch_size : int
        Images a forward pass; the result does not depend on it beyond rounding. Halved, with a warning, where memory runs out.
    preprocess : Preprocess, optional
        Default: pixels scaled to [0, 1], nothing else. Images of several sizes need ``Preprocess(size=...)``.
    pooling : {"flatten", "mean", "cls"}, RandomProjection or LayerPCA, or a sequence of them
        Keep every unit, average over positions, take the first token, or project (see `fit_pca`).
        Several, as ``("mean", "flatten")``, are taken from one forward pass: the units of each layer
        come in the order given, and their coordinate ``pooling`` says which they are ("mean",
        "sparse:1000", "pca:100").
    axes : mapping of str to sequence of str, optional
        Names of the axes of an output, in its own order, by layer name or pattern: ``"presentation"`` and ``"channel"``,
        ``"row"``, ``"column"`` or ``"token"``, e.g. ``{"norm": "presentation,row,column,channel"}``. Axes that are not given
        are found by a few passes with two and three images, with half an image and with half of the pixels replaced by noise.
        A layer may put the images on any axis and the channels first or last.
    dtype : {"float32", "float16"}
        Of the stored values. netCDF has no float16: stream it to ``.zarr``.
    identifier : str, optional
        Name of the model in the attributes; default: its class.
    out : path, optional
        Stream to this file (``.nc``, or ``.zarr`` with the extra ``zarr``) and return it dask-backed. A killed extraction goes
        on where it was; a finished one is opened as it is.
    cache : path, optional
        Folder for `out`, the file's name being the extraction key: the digest of weights, buffers, plain attributes of the modules
        (numbers, strings, tensors, functions, containers of them), code, stimuli, preprocessing, layers, pooling, dtype and seed.
        A model that changes its attributes while it runs has a new key afterwards.
    overwrite : bool
        Replace a file at `out` that belongs to another extraction.
    workers : int
        Threads that read images ahead; 0 reads them when they are needed.
    distributed : bool
        Show blocks of images on the workers of the active dask client, which have best one thread each. The model is sent once to
        each worker, the pixels are read here and sent block by block, and a block whose worker died is shown by another. At most
        two blocks a worker and one more are under way. The values are those of one process, up to rounding.
    device : str or torch.device, optional
        Where to run; default: where the model's weights are.
    seed : int
        Seed of the random numbers that a model draws even in evaluation mode, if any; drawn afresh for each block of stimuli
        that is read, so that they do follow the batch size.
    max_bytes : int
        Largest result that is allocated in memory.
    progress : bool
        Show a progress bar.

    Returns
    -------
    xarray.DataArray
        Assembly, dims ``(presentation, neuroid)``, with the presentation coordinates of `stimuli` and
        the neuroid coordinates ``neuroid_id`` (``layer.channel.row.column``), ``layer``, ``channel``,
        ``row``, ``column``, in the order (channel, row, column) or (token, channel) whatever the order of
        the output; with several poolings also ``pooling``, in ``neuroid_id`` after the layer. An output of
        shape (n, channel) has row = column = -1; (n, channel, row, column)
        has all three; (n, token, channel) has its token index as row and column = -1. Attributes: those of
        `stimuli`, ``model``, ``weights_digest``, ``architecture_digest`` (of the printed module tree),
        ``preprocessing`` (JSON), ``visual_degrees`` where declared, ``layers``, ``pooling``, ``axes`` (JSON) where
        they were given; of a streamed result also ``stimuli_digest`` and ``extraction_key``.

    Raises
    ------
    AssemblyError
        The stimuli are not images, or differ in size; a layer name matches nothing; a layer gives no usable tensor, or one
        without an axis of the images; an activation is NaN or infinite (names layer and stimulus); the result would exceed
        `max_bytes` or the disk; or another file is at `out`.
    MemoryError
        There is not enough memory for a single image.
    ValueError
        ``distributed=True`` without an active client, with a model or a `device` other than the CPU, or with a model that cannot be
        pickled.
    ImportError
        ``distributed=True`` without the package ``distributed``.
    RuntimeError
        The model changed its own weights or buffers, also those that are not persistent, during the pass.

    Warns
    -----
    UserWarning
        The axes of a layer could not be found and the usual order was taken, e.g. of a model that takes images of one size only
        and mixes all their parts; or memory ran out and the batch was halved.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import neurobridge as nb
    >>> pixels = np.random.default_rng(0).integers(0, 255, (6, 48, 48)).astype(np.uint8)
    >>> ids = ("presentation", [f"image{k}" for k in range(6)])
    >>> images = xr.DataArray(pixels, dims=("presentation", "row", "column"), coords={"stimulus_id": ids})
    >>> activations = nb.extract(nb.features.GaborEnergy(n_scales=2), images, ["colour", "v1"], progress=False)
    >>> activations.shape, sorted(set(activations["layer"].values.tolist()))
    ((6, 208), ['colour', 'v1'])

    Two poolings of one forward pass:

    >>> both = nb.extract(nb.features.GaborEnergy(n_scales=2), images, "v1", pooling=("mean", "flatten"))
    >>> {name: int((both["pooling"] == name).sum()) for name in ("mean", "flatten")}
    {'mean': 12, 'flatten': 192}
    """
    require_options(overwrite=overwrite, progress=progress, distributed=distributed, error=AssemblyError)
    _check_arguments(batch_size, workers, dtype, out, cache)
    if distributed:
        check_workers(model, device)
    reductions = as_reductions(pooling)
    several = "" not in reductions
    records = [reduction.record() for reduction in reductions.values()]
    source = as_source(stimuli, root)
    names = match_layers(model, layers)
    named_axes = given_axes(axes, names)
    preprocess = preprocess or Preprocess()
    digest, unsaved = weights_digest(model), unsaved_digest(model)
    attrs: dict[str, Any] = {
        **source.attrs,
        "model": identifier or type(model).__name__,
        "weights_digest": digest,
        "architecture_digest": architecture_digest(model),
        "preprocessing": json.dumps(preprocess.record(), sort_keys=True),
        "layers": names,
        "pooling": records if several else records[0],
    }
    if preprocess.visual_degrees is not None:
        attrs["visual_degrees"] = preprocess.visual_degrees
    if named_axes:
        attrs["axes"] = json.dumps(named_axes, sort_keys=True)
    for reduction in reductions.values():
        if check := getattr(reduction, "check", None):
            check(names, attrs)
    check_result(source.coords, attrs, to_file=out is not None or cache is not None, with_pooling=several)

    def fill(sink: Memory | Partial, skip: int, blocks: Sequence[slice]) -> xr.DataArray:
        started = time.perf_counter()
        _LOG.info(
            "showing %d stimuli to %s: %d layers, batches of %d, %d stimuli already done",
            len(source), attrs["model"], len(names), batch_size, sink.n_done,
        )  # fmt: skip
        recorder = Recorder(model, names)
        # A model that is sent to workers has no hooks: they record with their own.
        throughout, at_first = (nullcontext(), recorder) if distributed else (recorder, nullcontext())
        with frozen(model, device) as setting, throughout:
            forward = Forward(
                recorder,
                names,
                axes=named_axes,
                reductions=reductions,
                preprocess=preprocess,
                setting=setting,
                batch_size=batch_size,
            )
            with closing(read_ahead(source, blocks[skip:], workers)) as reader:
                checked = _checked(reader, source, sink, forward, reductions, at_first, every_axis=distributed)
                recorded = (
                    recorded_on_workers(checked, model, (digest, unsaved), forward, seed)
                    if distributed
                    else recorded_here(checked, forward, seed)
                )
                # Closed at once where a block is refused: workers would go on with the next ones.
                with closing(recorded):
                    _keep(recorded, source, sink, progress=progress)
        require_unchanged(model, (digest, unsaved))
        activations = sink.finish(source.coords, attrs)
        _LOG.info(
            "activations of %s: %d stimuli, %d units, %d blocks read, %.2f s",
            attrs["model"], *activations.shape, len(blocks) - skip, time.perf_counter() - started,
        )  # fmt: skip
        return activations

    blocks = source.blocks(batch_size)
    if out is None and cache is None:
        return fill(Memory(len(source), dtype, max_bytes), 0, blocks)

    attrs["stimuli_digest"] = source.digest()
    identity = (
        "weights_digest",
        "architecture_digest",
        "stimuli_digest",
        "preprocessing",
        "layers",
        "pooling",
        "model",
    )
    key = extraction_key(
        **{name: attrs[name] for name in identity},
        unsaved=unsaved,
        axes=named_axes,
        attributes=attributes_digest(model),
        code=code_digest(model),
        dtype=dtype,
        seed=seed,
    )
    attrs[KEY] = key
    suffix = ".nc" if dtype == "float32" else ".zarr"
    path = Path(out) if out is not None else Path(str(cache)) / f"{key.removeprefix('sha256:')}{suffix}"
    with Partial(path, key, len(source), dtype) as partial:
        finished = find_done(path, key, overwrite=overwrite)
        if finished is not None:
            partial.discard()
            _LOG.info("read %s: this extraction is finished", path)
            return finished
        n_done = partial.resume()
        skip = sum(rows.stop <= n_done for rows in blocks)
        partial.rewind(blocks[skip - 1].stop if skip else 0)
        return fill(partial, skip, blocks)


def _check_arguments(batch_size: int, workers: int, dtype: str, out: Any, cache: Any) -> None:
    require_count(batch_size, name="batch_size", error=AssemblyError)
    require_count(workers, name="workers", at_least=0, error=AssemblyError)
    if not is_choice(dtype, DTYPES):
        raise AssemblyError(f"dtype: found {dtype!r}; expected one of {DTYPES}. Mend: dtype='float32'.")
    if out is not None and cache is not None:
        raise AssemblyError("found both out and cache; expected one of them. Mend: leave one out.")
    if out is not None and Path(out).suffix not in (".nc", ".zarr"):
        raise AssemblyError(f"out: found {str(out)!r}; expected a name that ends in .nc or .zarr. Mend: add '.nc'.")
    if out is not None and dtype == "float16" and Path(out).suffix == ".nc":
        raise AssemblyError(
            f"out: found {str(out)!r} for float16; expected .zarr, as netCDF has no such type. Mend: a .zarr path, or "
            "dtype='float32'."
        )
    zarr = Path(out) if out is not None else Path("cache.zarr") if cache is not None and dtype == "float16" else None
    if zarr is not None and zarr.suffix == ".zarr":
        require_zarr(zarr)


def _checked(
    reader: Iterator[Block],
    source: Source,
    sink: Memory | Partial,
    forward: Forward,
    reductions: Mapping[str, Reduction],
    at_first: AbstractContextManager[Any],
    *,
    every_axis: bool,
) -> Iterator[Block]:
    """Pass on blocks whose images have the size of the first; the first block also determines the axes of the layers."""
    ids = source.coords["stimulus_id"].tolist()
    watches = [each.watch for each in reductions.values() if hasattr(each, "watch")]
    for k, (rows, pixels) in enumerate(reader):
        if sink.image_shape is None:
            sink.image_shape = pixels[0].shape
        forward.check_sizes(pixels, ids[rows], sink.image_shape)
        for watch in watches:
            watch(pixels, ids[rows])
        if k == 0:
            with at_first:
                forward.learn_axes(pixels, every=every_axis)
        yield rows, pixels


def _keep(recorded: Iterator[tuple[slice, Batches]], source: Source, sink: Memory | Partial, *, progress: bool) -> None:
    """Write the activations of one block after another."""
    ids = source.coords["stimulus_id"].tolist()
    with progress_bar(total=len(source), initial=sink.n_done, progress=progress, unit="image") as bar:
        for rows, batches in recorded:
            row = rows.start
            for activations in batches:
                batch_ids = ids[row : row + len(next(iter(activations.values())))]
                refuse_non_finite(activations, batch_ids)
                sink.write(row, activations, batch_ids)
                row += len(batch_ids)
                bar.update(len(batch_ids))
            sink.commit(row)
            _LOG.debug("%d of %d stimuli shown", row, len(source))
