"""State on disk: tensors in safetensors, everything else in JSON beside them, every byte covered by a digest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import filelock
import safetensors
import safetensors.torch
import torch

from neurobridge.store.atomic import write_bytes
from neurobridge.store.errors import StateFileError
from neurobridge.store.space import named_full_disk

#: Version 2 was written by neurobridge 0.1; its JSON has no digest of its own.
FORMAT_VERSION = 3
_READABLE = (2, FORMAT_VERSION)

_NO_DIGEST = "0" * 64
_SEAL = re.compile(rb'\A\{\n "digest": "([0-9a-f]{64})"')
# Pauses, in seconds, before a state is read again that is not whole although nothing has replaced it.
_PAUSES = (0.005, 0.02)
# What content that is none of ours makes constructors, parsers and array libraries raise.
_DAMAGE = (
    safetensors.SafetensorError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    AssertionError, MemoryError,
)  # fmt: skip

Read = TypeVar("Read")


def write_state(
    folder: Path,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    header: Mapping[str, Any],
    *,
    kind: str,
    former: re.Pattern[str] | None = None,
) -> Path:
    """Write ``<name>.json`` and the tensors it names; who reads meanwhile, or after a kill, has the old state or the new.

    1. One process at a time writes a state of this name: the others wait for the lock ``.<name>.lock``.
    2. The tensors go to a file named by their own digest, which no other content ever replaces.
    3. Replacing the JSON, which names that file, is the one step that counts.
    4. The files that the former state named are removed. Readers take no lock: one that finds such a file missing reads
       the JSON again (see `whole`).

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
    former : pattern, optional
        Of names of other files and folders that belonged to states of an earlier format and are removed.

    Returns
    -------
    Path
        Of the JSON file.

    Raises
    ------
    DiskFullError
        The disk is full; the former state is as it was, and the new one takes no space.
    """
    plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    payload = safetensors.torch.save(plain)
    digest = hashlib.sha256(payload).hexdigest()
    weights = folder / f"{name}-{digest[:16]}.safetensors"
    contents = {
        "kind": kind,
        "format_version": FORMAT_VERSION,
        "tensors": weights.name,
        "sha256": digest,
        "shapes": {key: list(tensor.shape) for key, tensor in plain.items()},
        **header,
    }
    path = folder / f"{name}.json"
    text = sealed(contents)
    with named_full_disk(path):
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f".{name}.lock"):
            is_new = not weights.exists()
            try:
                if is_new or weights.read_bytes() != payload:
                    write_bytes(weights, payload)
                write_bytes(path, text)
            except BaseException:
                # Nothing names them: they would only take space.
                if is_new:
                    weights.unlink(missing_ok=True)
                raise
            _remove_former(folder, name, weights, former)
    return path


def read_state(
    folder: Path, name: str, *, kind: str, error: type[StateFileError] = StateFileError
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `write_state` wrote, after checking digests, kind, version and shapes.

    Parameters
    ----------
    folder : Path
        May be read-only; nothing is locked.
    name, kind : str
    error : type
        Class of the errors that are raised.

    Raises
    ------
    StateFileError
        Anything does not fit.
    """
    return whole(folder / f"{name}.json", lambda: _read(folder, name, kind, error))


def whole(path: Path, read: Callable[[], Read]) -> Read:
    """Read a state that others may replace meanwhile: again, whenever ``path`` was replaced while reading failed.

    Parameters
    ----------
    path : Path
        The file whose replacement makes a new state.
    read : callable
        Reads the state; raises StateFileError or OSError where it is not whole.
    """
    pauses = list(_PAUSES)
    while True:
        before = _generation(path)
        try:
            return read()
        except (StateFileError, OSError):
            if _generation(path) != before:
                continue
            if not pauses or before is None:
                raise
            # A state may be replaced twice, and be the same again, faster than a clock of the file system ticks.
            time.sleep(pauses.pop(0))


def sealed(contents: Mapping[str, Any]) -> bytes:
    """Return a JSON object with a digest of its own text in front, so that a change of any byte shows.

    Examples
    --------
    >>> print(sealed({"n": 1}).decode())
    {
     "digest": "19546487bd4446bd4b03bae5a70fb2bfb17b45b3bf27ec89e91d47b44ea31004",
     "n": 1
    }
    <BLANKLINE>
    """
    text = json.dumps({"digest": _NO_DIGEST, **contents}, indent=1) + "\n"
    return text.replace(_NO_DIGEST, hashlib.sha256(text.encode()).hexdigest(), 1).encode()


def check_shapes(
    found: Mapping[str, torch.Tensor],
    expected: Mapping[str, tuple[int, ...]],
    where: str,
    error: type[StateFileError] = StateFileError,
) -> None:
    """Refuse tensors whose names or shapes are not the expected ones.

    Raises
    ------
    StateFileError
        With the first few that differ.
    """
    wrong = [
        f"{key} {tuple(found[key].shape) if key in found else 'missing'} != {expected.get(key, 'none')}"
        for key in sorted({*found, *expected})
        if key not in found or key not in expected or tuple(found[key].shape) != tuple(expected[key])
    ]
    if wrong:
        raise error(
            f"{where}: found {len(wrong)} tensors that do not fit ({'; '.join(wrong[:3])}); expected the names and shapes of "
            "the state being loaded. Mend: use the network, width and depth it was trained with, or fit again."
        )


def _read(
    folder: Path, name: str, kind: str, error: type[StateFileError]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    path = folder / f"{name}.json"
    if not path.is_file():
        raise error(f"{path}: found no such file; expected a saved {kind}. Mend: check the folder.")
    header = _unsealed(path, kind, error)
    weights = folder / Path(str(header.get("tensors"))).name
    if not weights.is_file():
        raise error(f"{weights}: found no such file; expected the tensors of {path.name}. Mend: copy both files.")
    payload = _bytes_of(weights, error)
    if hashlib.sha256(payload).hexdigest() != header.get("sha256"):
        raise error(
            f"{weights}: found a digest other than the one in {path.name}; expected {str(header.get('sha256'))[:16]}... "
            "Mend: the file is damaged or was exchanged; copy or save it again."
        )
    try:
        tensors = safetensors.torch.load(payload)
        shapes = {str(key): tuple(shape) for key, shape in dict(header["shapes"]).items()}
    except _DAMAGE as problem:
        raise error(
            f"{weights}: found no usable tensors ({type(problem).__name__}: {problem}); expected those of {path.name}. Mend: the "
            "files are damaged; copy or save them again."
        ) from problem
    check_shapes(tensors, shapes, str(path), error)
    return tensors, header


def _unsealed(path: Path, kind: str, error: type[StateFileError]) -> dict[str, Any]:
    """Read a header: JSON of the right kind and version whose digest is that of its text."""
    text = _bytes_of(path, error)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise error(
            f"{path}: found text that is not JSON ({problem}); expected a saved {kind}. Mend: save again."
        ) from problem
    if not isinstance(header, dict) or header.get("kind") != kind:
        found = header.get("kind") if isinstance(header, dict) else type(header).__name__
        raise error(f"{path}: found kind {found!r}; expected {kind!r}. Mend: give the folder of a {kind}.")
    version = header.get("format_version")
    if version not in _READABLE:
        raise error(
            f"{path}: found format version {version!r}; expected {FORMAT_VERSION}. "
            "Mend: load it with the neurobridge that wrote it, or fit again."
        )
    if version == FORMAT_VERSION or "digest" in header:
        seal = _SEAL.match(text)
        digest = seal.group(1).decode() if seal else ""
        if hashlib.sha256(text.replace(digest.encode(), _NO_DIGEST.encode(), 1)).hexdigest() != digest:
            shown = f"the digest {digest[:16]}..." if digest else "no digest"
            raise error(
                f"{path}: found {shown}, which is not that of its text; expected the file as it was saved. Mend: it is damaged or "
                "was altered; copy or save it again."
            )
    return header


@contextlib.contextmanager
def named_damage(where: str, error: type[StateFileError], mend: str = "save it again") -> Iterator[None]:
    """Raise whatever the content of a damaged or altered file runs into as one class of error, with the file's name.

    Parameters
    ----------
    where : str
        The file.
    error : type
        Class of the errors that are raised; errors of this class pass.
    mend : str

    Raises
    ------
    StateFileError
        Of the class ``error``.

    Examples
    --------
    >>> with named_damage("aligner.json", StateFileError):
    ...     {}["means"]
    Traceback (most recent call last):
    neurobridge.store.errors.StateFileError: aligner.json: found no usable entry (KeyError: 'means'); expected a whole file...
    """
    try:
        yield
    except error:
        raise
    except StateFileError as problem:
        raise error(str(problem)) from problem
    except _DAMAGE as problem:
        raise error(
            f"{where}: found no usable entry ({type(problem).__name__}: {problem}); expected a whole file of this package. "
            f"Mend: {mend}."
        ) from problem


def _bytes_of(path: Path, error: type[StateFileError]) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        # Replaced meanwhile: the caller reads again.
        raise
    except OSError as problem:
        raise error(
            f"{path}: found a file that cannot be read ({problem.strerror}); expected one that can. Mend: check its permissions "
            "and the disk, or copy it again."
        ) from problem


def _remove_former(folder: Path, name: str, weights: Path, former: re.Pattern[str] | None) -> None:
    """Remove what former states named, those of version 0.1 included."""
    ours = re.compile(rf"{re.escape(name)}(-[0-9a-f]{{16}}\.safetensors|\.json)(\.partial)?")
    for other in folder.iterdir():
        if other in (weights, folder / f"{name}.json"):
            continue
        if ours.fullmatch(other.name):
            # A reader on Windows may hold it open; the next save removes it then.
            with contextlib.suppress(PermissionError):
                other.unlink(missing_ok=True)
        elif former is not None and former.fullmatch(other.name) and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)


def _generation(path: Path) -> tuple[int, int, int, bytes] | None:
    """Tell one state from the next, None where there is none."""
    try:
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size, path.read_bytes()
    # A name with a null byte is a ValueError.
    except (OSError, ValueError):
        return None
