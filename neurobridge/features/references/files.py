"""A reference model in a folder, with its card: safetensors and JSON, no pickle."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import torch
from safetensors.torch import save_file

from neurobridge.features.models.card import card_page
from neurobridge.features.models.frozen import describe_module, weights_digest
from neurobridge.features.models.weights import load_weights
from neurobridge.features.references.recipes import REFERENCES
from neurobridge.features.stimuli.preprocess import Preprocess
from neurobridge.points.display import html_repr, short_repr
from neurobridge.store.atomic import atomic_path, write_text
from neurobridge.store.errors import StateFileError
from neurobridge.store.state import whole

CARD, PAGE = "card.json", "README.md"
#: Weights as version 0.1 named them.
WEIGHTS_0_1 = "model.safetensors"
_WEIGHTS = re.compile(r"model(-[0-9a-f]{16})?\.safetensors")


class ReferenceFileError(StateFileError):
    """A folder that does not hold a whole reference model; the message says what was found, expected and how to mend it."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A frozen reference model and what is known of it.

    Attributes
    ----------
    model : torch.nn.Module
        In evaluation mode, no parameter asks for gradients.
    card : dict
        Plain values: name, arguments, seed, data and its digest, losses, weights digest. No date or machine in it: the same
        seed, data and threads give the same card.

    Examples
    --------
    >>> import neurobridge as nb
    >>> reference = nb.features.Reference(nb.features.GaborEnergy(), {"name": "gabor_energy"})
    >>> reference
    Reference('gabor_energy', GaborEnergy, 0 parameters)
    """

    model: torch.nn.Module
    card: dict[str, Any]

    def __repr__(self) -> str:
        training = self.card.get("training") or {}
        facts = {name: training[name] for name in ("seed", "epochs") if name in training}
        return short_repr("Reference", repr(self.card["name"]), *describe_module(self.model), **facts)

    def _repr_html_(self) -> str:
        kind, size = describe_module(self.model)
        return html_repr(f"Reference {self.card['name']}", {"model": kind, "size": size, **self.card})

    @property
    def preprocess(self) -> Preprocess:
        """Return the preprocessing of the training images; give it to `extract`."""
        return Preprocess(**self.card["preprocessing"])


def save_reference(reference: Reference, folder: str | os.PathLike[str]) -> Path:
    """Write weights (safetensors), card (JSON) and model card (markdown) into a folder.

    The weights lie in a file named by their digest. Replacing ``card.json``, which has that digest, is the one step that
    counts: whoever reads meanwhile, or after a kill, finds the old reference or the new one.

    Parameters
    ----------
    reference : Reference
    folder : path
        Made if missing.

    Returns
    -------
    pathlib.Path
        The folder.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import neurobridge as nb
    >>> pixels = np.random.default_rng(0).integers(0, 255, (6, 48, 48)).astype(np.uint8)
    >>> ids = ("presentation", [f"image{k}" for k in range(6)])
    >>> images = xr.DataArray(pixels, dims=("presentation", "row", "column"), coords={"stimulus_id": ids})
    >>> reference = nb.features.train_reference("conv_vae", images, epochs=1, progress=False)
    >>> (nb.features.save_reference(reference, "vae") / "card.json").exists()
    True
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in reference.model.state_dict().items()}
    text = json.dumps(reference.card, indent=1, sort_keys=True)
    weights = _weights_file(folder, reference.card)
    with filelock.FileLock(folder / ".card.lock"):
        with atomic_path(weights) as partial:
            save_file(state, partial)
        write_text(folder / PAGE, card_page(reference.card))
        write_text(folder / CARD, text + "\n")
        for other in folder.iterdir():
            if _WEIGHTS.fullmatch(other.name) and other != weights:
                other.unlink()
    return folder


def load_reference(folder: str | os.PathLike[str]) -> Reference:
    """Read a reference that `save_reference` wrote; it comes back frozen.

    Parameters
    ----------
    folder : path
        As given to `save_reference`.

    Returns
    -------
    Reference

    Raises
    ------
    ReferenceFileError
        A file is missing or broken, or the weights are not those of the card.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import neurobridge as nb
    >>> pixels = np.random.default_rng(0).integers(0, 255, (6, 48, 48)).astype(np.uint8)
    >>> ids = ("presentation", [f"image{k}" for k in range(6)])
    >>> images = xr.DataArray(pixels, dims=("presentation", "row", "column"), coords={"stimulus_id": ids})
    >>> reference = nb.features.train_reference("conv_vae", images, epochs=1, progress=False)
    >>> _ = nb.features.save_reference(reference, "vae")
    >>> nb.features.load_reference("vae").card == reference.card
    True
    """
    folder = Path(folder)
    return whole(folder / CARD, lambda: _load(folder))


def _load(folder: Path) -> Reference:
    mend = "Mend: train it again, neurobridge features train NAME --out FOLDER."
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        model = REFERENCES[card["name"]].build(**card["arguments"])
        weights = _weights_file(folder, card)
        load_weights(model, weights if weights.exists() else folder / WEIGHTS_0_1)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        lines = str(error).splitlines() or [""]
        raise ReferenceFileError(
            f"{folder}: found no whole reference model ({type(error).__name__}: {lines[0]}); expected {CARD} and the weights "
            f"that it names. {mend}"
        ) from error
    if (digest := weights_digest(model)) != card.get("weights_digest"):
        raise ReferenceFileError(
            f"{folder}: found weights with the digest {digest}; expected the card's {card.get('weights_digest')}. {mend}"
        )
    return Reference(freeze(model), card)


def _weights_file(folder: Path, card: Mapping[str, Any]) -> Path:
    return folder / f"model-{str(card['weights_digest']).rpartition(':')[2][:16]}.safetensors"


def freeze(model: torch.nn.Module) -> torch.nn.Module:
    """Bring a model into evaluation mode, without gradients, and give it back."""
    return model.eval().requires_grad_(False)
