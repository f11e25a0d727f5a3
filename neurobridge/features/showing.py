"""Blocks of images shown to a frozen model: here, or on the workers of dask."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from neurobridge.features.forward import Forward
from neurobridge.features.models.axes import Axes
from neurobridge.features.models.frozen import frozen, unsaved_digest, weights_digest
from neurobridge.features.models.hooks import Recorder
from neurobridge.features.reduction import Part, Reduction
from neurobridge.features.stimuli.images import Pixels
from neurobridge.features.stimuli.preprocess import Preprocess
from neurobridge.points.workers import active_client, job_runner, require_workers_device, shared_value

#: Rows of the stimuli, and their pixels.
Block = tuple[slice, Pixels]
#: Activations of one batch after another.
Batches = Iterable[dict[Part, torch.Tensor]]

# Two jobs of one worker share the model, and hooks of one would record the images of the other.
_ONE_JOB = threading.Lock()


class Recording(NamedTuple):
    """A model and what is recorded of it: all that a worker needs beside the pixels.

    Attributes
    ----------
    model : torch.nn.Module
    digests : tuple of two str
        Of its weights and of its buffers that are not saved, which no worker may change.
    layers : tuple of str
    axes : mapping of str to tuple of str
        Of their outputs.
    reductions : mapping of str to Reduction
    preprocess : Preprocess
    batch_size : int
    """

    model: torch.nn.Module
    digests: tuple[str, str]
    layers: tuple[str, ...]
    axes: Mapping[str, Axes]
    reductions: Mapping[str, Reduction]
    preprocess: Preprocess
    batch_size: int


def check_workers(model: torch.nn.Module, device: str | torch.device | None) -> None:
    """Refuse a device that workers may not have, and a run without workers.

    Raises
    ------
    ImportError, ValueError
        No package ``distributed`` or no active client; a device other than the CPU is asked for, or the model lies on one.
    """
    require_workers_device(device)
    active_client()
    elsewhere = sorted({str(each.device) for each in (*model.parameters(), *model.buffers())} - {"cpu"})
    if elsewhere:
        raise ValueError(
            f"model: found weights on {', '.join(elsewhere)} with distributed=True; expected them on the CPU, from where they are "
            "sent to the workers. Mend: model.cpu(), or distributed=False."
        )


def block_seed(seed: int, rows: slice) -> int:
    """Return the seed of a block: by its place, so that it is the same after a resumption as without one."""
    return int(np.random.SeedSequence([seed, rows.start]).generate_state(1)[0])


def recorded_here(blocks: Iterable[Block], forward: Forward, seed: int) -> Generator[tuple[slice, Batches], None, None]:
    """Show one block after another in this process."""
    for rows, pixels in blocks:
        forward.setting.seed(block_seed(seed, rows))
        yield rows, forward(pixels)


def recorded_on_workers(
    blocks: Iterable[Block], model: torch.nn.Module, digests: tuple[str, str], forward: Forward, seed: int
) -> Generator[tuple[slice, Batches], None, None]:
    """Show the blocks on the workers of the active client, several at a time, and give what they recorded in order.

    The model is sent once to each worker; a block whose worker died is shown by another. The axes of `forward` are read when the
    first block has come.
    """
    sent: deque[slice] = deque()

    def jobs() -> Iterator[tuple[object, Pixels, int]]:
        shared = None
        for rows, pixels in blocks:
            if shared is None:
                shared = shared_value(_pickled(Recording(model, digests, *forward.settings)), distributed=True)
            sent.append(rows)
            yield shared, pixels, block_seed(seed, rows)

    for batches in job_runner(True)(record, jobs()):
        # Named tuples come back from workers as plain ones.
        yield sent.popleft(), [{Part(*name): values for name, values in batch.items()} for batch in batches]


def record(pickled: bytes, pixels: Pixels, seed: int) -> list[dict[Part, torch.Tensor]]:
    """Show one block, and return the activations of its batches.

    Parameters
    ----------
    pickled : bytes
        A `Recording`. As bytes it can travel to another worker while the model runs with its hooks here.
    pixels : sequence of images
    seed : int

    Raises
    ------
    RuntimeError
        The model changed its own weights or buffers.
    """
    with _ONE_JOB:
        recording = _loaded(pickled)
        model, digests = recording.model, recording.digests
        with frozen(model, None) as setting, Recorder(model, recording.layers) as recorder:
            setting.seed(seed)
            forward = Forward(
                recorder, recording.layers, axes=recording.axes, reductions=recording.reductions,
                preprocess=recording.preprocess, setting=setting, batch_size=recording.batch_size,
            )  # fmt: skip
            batches = list(forward(pixels))
        require_unchanged(model, digests)
    return batches


def _pickled(recording: Recording) -> bytes:
    """Pickle what is recorded.

    Raises
    ------
    ValueError
        The model, or one of the reductions, cannot be pickled.
    """
    from distributed.protocol.pickle import dumps

    try:
        return bytes(dumps(recording))
    # Any error of the model's own.
    except Exception as error:
        raise ValueError(
            f"model: found a {type(recording.model).__name__} that cannot be pickled with its poolings "
            f"({type(error).__name__}: {error}) with distributed=True; expected one that can be sent to the workers. "
            "Mend: distributed=False."
        ) from error


@lru_cache(maxsize=1)
def _loaded(pickled: bytes) -> Recording:
    """Load what is recorded, once for all blocks of an extraction."""
    from distributed.protocol.pickle import loads

    recording: Recording = loads(pickled)
    return recording


def require_unchanged(model: torch.nn.Module, digests: tuple[str, str]) -> None:
    """Refuse a model whose weights or buffers are other ones than before.

    Raises
    ------
    RuntimeError
    """
    if (weights_digest(model), unsaved_digest(model)) != digests:
        raise RuntimeError(
            "model: found other weights or buffers after the pass than before; expected a frozen model. "
            "Mend: a module updates its state in eval mode; disable that, or pass a copy of the model."
        )
