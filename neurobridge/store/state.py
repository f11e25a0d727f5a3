"""State on disk: tensors in safetensors, everything else in JSON beside them, replaced in one step or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

FORMAT_VERSION = 2


class FlowFileError(ValueError):
    """A saved flow or checkpoint that does not fit: missing, damaged, of another kind, version or shape."""


def write_state(
    folder: Path, name: str, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any], *, kind: str
) -> Path:
    """Write ``<name>.json`` and the tensors it names; whoever reads meanwhile, or after a kill, sees the old state or the new.

    The tensors go to a file named by their own digest; replacing the JSON that points to it is the one step that counts.

    Parameters
    ----------
    folder : Path
        Made if missing.
    name : str
        Several states may share a folder under different names.
    tensors : mapping of str to tensor
    header : mapping
        Anything JSON can hold.
    kind : str
        What this is, checked when it is read.

    Returns
    -------
    Path
        Of the JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    payload = safetensors.torch.save(plain)
    digest = hashlib.sha256(payload).hexdigest()
    weights = folder / f"{name}-{digest[:16]}.safetensors"
    _replace(weights, payload)
    text = {
        "kind": kind,
        "format_version": FORMAT_VERSION,
        "tensors": weights.name,
        "sha256": digest,
        "shapes": {key: list(tensor.shape) for key, tensor in plain.items()},
        **header,
    }
    path = folder / f"{name}.json"
    _replace(path, (json.dumps(text, indent=1) + "\n").encode())
    ours = re.compile(rf"{re.escape(name)}-[0-9a-f]{{16}}\.safetensors(\.partial)?")
    for other in folder.iterdir():
        if ours.fullmatch(other.name) and other != weights:
            other.unlink(missing_ok=True)
    return path


def read_state(folder: Path, name: str, *, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `write_state` wrote, after checking kind, version, digest and shapes.

    Raises
    ------
    FlowFileError
        Anything does not fit.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise FlowFileError(f"{path}: found no such file; expected a saved {kind}. Mend: check the folder.")
    try:
        header = json.loads(path.read_text())
    except ValueError as error:
        raise FlowFileError(
            f"{path}: found text that is not JSON ({error}); expected a saved {kind}. Mend: save again."
        ) from error
    if not isinstance(header, dict) or header.get("kind") != kind:
        found = header.get("kind") if isinstance(header, dict) else type(header).__name__
        raise FlowFileError(f"{path}: found kind {found!r}; expected {kind!r}. Mend: give the folder of a {kind}.")
    if header.get("format_version") != FORMAT_VERSION:
        raise FlowFileError(
            f"{path}: found format version {header.get('format_version')!r}; expected {FORMAT_VERSION}. "
            "Mend: load it with the neurobridge that wrote it, or fit again."
        )
    weights = folder / Path(str(header.get("tensors"))).name
    if not weights.is_file():
        raise FlowFileError(
            f"{weights}: found no such file; expected the tensors of {path.name}. Mend: copy both files."
        )
    payload = weights.read_bytes()
    if hashlib.sha256(payload).hexdigest() != header.get("sha256"):
        raise FlowFileError(
            f"{weights}: found a digest other than the one in {path.name}; expected {str(header.get('sha256'))[:16]}... "
            "Mend: the file is damaged or was exchanged; copy or save it again."
        )
    tensors = safetensors.torch.load(payload)
    check_shapes(tensors, {key: tuple(shape) for key, shape in dict(header.get("shapes") or {}).items()}, str(path))
    return tensors, header


def check_shapes(found: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Refuse tensors whose names or shapes are not the expected ones.

    Raises
    ------
    FlowFileError
        With the first few that differ.
    """
    wrong = [
        f"{key} {tuple(found[key].shape) if key in found else 'missing'} != {expected.get(key, 'none')}"
        for key in sorted({*found, *expected})
        if key not in found or key not in expected or tuple(found[key].shape) != tuple(expected[key])
    ]
    if wrong:
        raise FlowFileError(
            f"{where}: found {len(wrong)} tensors that do not fit ({'; '.join(wrong[:3])}); expected the names and shapes of "
            "the flow being loaded. Mend: use the network, width and depth it was trained with, or fit again."
        )


def _replace(path: Path, payload: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
