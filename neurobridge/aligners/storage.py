"""A fitted aligner on disk and back: arrays in safetensors, everything else in JSON, code nowhere."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neurobridge._version import __version__
from neurobridge.flow import ConditionalFlow
from neurobridge.flow.storage import network_of
from neurobridge.store.errors import StateFileError
from neurobridge.store.kinds import NAMES_0_1
from neurobridge.store.state import named_damage, read_state, whole, write_state
from neurobridge.store.trees import TreeReader, TreeWriter, is_plain

KIND = "neurobridge aligner"
NAME = "aligner"
#: Version 1 was written by neurobridge 0.1, which kept a flow in a folder of its own.
VERSION = 2
# Folders of flows, as version 0.1 named them.
_FLOW_FOLDERS = re.compile(r"flow-[0-9a-f]{16}|flow\.partial")


class AlignerFileError(StateFileError):
    """A saved aligner that does not fit (missing, damaged, of another kind, version or shape), or state that cannot be saved."""


class KeptAligner(NamedTuple):
    """The part of an aligner that goes to disk.

    Attributes
    ----------
    kind : str
        Its registered kind, or the name of a class of the user's own.
    version : int
        Of that kind.
    params : dict of str to value
    state : dict of str to value
        Fitted attributes.
    """

    kind: str
    version: int
    params: dict[str, Any]
    state: dict[str, Any]


def write_aligner(folder: Path, kept: KeptAligner) -> Path:
    """Write an aligner; whoever reads meanwhile, or after a kill, finds the old one or the new.

    Raises
    ------
    AlignerFileError
        The state holds something that is not arrays, text and numbers.
    """
    with _aligner_errors():
        writer = TreeWriter()
        code = sorted(name for name, value in kept.params.items() if not is_plain(value))
        params = {name: writer.tree(value, name) for name, value in kept.params.items() if name not in code}
        header = {
            "aligner_version": VERSION,
            "package_version": __version__,
            "class": kept.kind,
            "class_version": kept.version,
            "params": params,
            "code": code,
            "state": {name: writer.tree(value, name) for name, value in kept.state.items()},
        }
        return write_state(folder, NAME, writer.tensors, header, kind=KIND, former=_FLOW_FOLDERS)


def read_aligner(
    folder: Path, accepts: Callable[[str], object], given: Mapping[str, Any], device: str | None
) -> KeptAligner:
    """Read what `write_aligner` wrote.

    Parameters
    ----------
    folder : Path
        May be read-only, and may be written to meanwhile.
    accepts : callable
        Takes a kind; raises AlignerFileError where it may not be read.
    given : mapping
        Parameters that are code.
    device : str, optional

    Raises
    ------
    AlignerFileError
        Anything does not fit.
    """
    with named_damage(str(folder / f"{NAME}.json"), AlignerFileError):
        # Files of version 0.1 name folders of flows, which a new save removes: all of them are read, or all again.
        return whole(folder / f"{NAME}.json", lambda: _read(folder, accepts, given, device))


def snapshot(value: Any) -> Any:
    """Copy a parameter as it is now: containers and arrays are copied, what they hold stays the same object."""
    if isinstance(value, dict):
        return {key: snapshot(inner) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(snapshot, value))
    return value.copy() if isinstance(value, np.ndarray) else value


def same_value(left: Any, right: Any) -> bool:
    """Tell whether two parameters are the same, arrays inside included."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return type(left) is type(right) and np.array_equal(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_value(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_value, left, right))
    return left is right or bool(left == right)


def _read(folder: Path, accepts: Callable[[str], object], given: Mapping[str, Any], device: str | None) -> KeptAligner:
    tensors, header = read_state(folder, NAME, kind=KIND, error=AlignerFileError)
    where = str(folder / f"{NAME}.json")
    if header.get("aligner_version") not in (1, VERSION):
        raise AlignerFileError(
            f"{where}: found aligner version {header.get('aligner_version')!r}; expected {VERSION}. "
            "Mend: load it with the neurobridge that wrote it, or fit again."
        )
    name = str(header.get("class"))
    kind = NAMES_0_1.get(name, name) if header["aligner_version"] == 1 else name
    accepts(kind)
    reader = _Reader(folder, where, tensors, given, device)
    with named_damage(where, AlignerFileError):
        code = list(header["code"])
        params = {name: reader.value(tree) for name, tree in header["params"].items()}
        if sorted(given) != sorted(code):
            raise AlignerFileError(
                f"{where}: found parameters {sorted(given)} given to load; expected {code}: those that are code and not on disk. "
                "Mend: pass exactly these, as they were in fitting."
            )
        state = {name: reader.value(tree) for name, tree in header["state"].items()}
        _check_fit(state, where)
    return KeptAligner(kind, header.get("class_version", 1), params | dict(given), state)


def _check_fit(state: Mapping[str, Any], where: str) -> None:
    """Refuse parts that do not agree on how many neuroids there are."""
    if "scales_" in state:
        _check_spaces(state, where)
        return
    sizes = {}
    for side, direction in (("source", "backward"), ("target", "forward")):
        scale, labels = state[f"{side}_scale_"], state[f"{side}_neuroids_"]
        sizes[side] = {
            # Columns of arrays have no labels.
            **({} if labels is None else {"neuroid labels": len(labels["neuroid_id"][1])}),
            "means": len(scale.mean),
            "standard deviations": len(scale.std),
            "support": state["support_"][direction].points.shape[1],
        }
        if isinstance(flow := state.get("flow_"), ConditionalFlow):
            sizes[side]["flow"] = len(getattr(flow, f"{side}_scale_").mean)
    _refuse_unequal({f"the {side}": counts for side, counts in sizes.items()}, where)


def _check_spaces(state: Mapping[str, Any], where: str) -> None:
    """Refuse several spaces whose parts do not agree."""
    sizes = {}
    for name, scale in state["scales_"].items():
        labels = state["neuroids_"][name]
        sizes[f"the space {name!r}"] = {
            **({} if labels is None else {"neuroid labels": len(labels["neuroid_id"][1])}),
            "means": len(scale.mean),
            "standard deviations": len(scale.std),
            "support": state["supports_"][name].points.shape[1],
        }
    _refuse_unequal(sizes, where)


def _refuse_unequal(sizes: Mapping[str, Mapping[str, int]], where: str) -> None:
    for side, counts in sizes.items():
        if len(set(counts.values())) != 1:
            shown = ", ".join(f"{n} {what}" for what, n in counts.items())
            raise AlignerFileError(
                f"{where}: found for {side} {shown}; expected as many of each. "
                "Mend: the file was altered or mixed with another's; save it again."
            )


@contextlib.contextmanager
def _aligner_errors() -> Iterator[None]:
    """Raise what does not fit as an AlignerFileError, whatever part of the state it was."""
    try:
        yield
    except AlignerFileError:
        raise
    except StateFileError as error:
        raise AlignerFileError(str(error)) from error


class _Reader(TreeReader):
    """Reads trees, and the flows that version 0.1 kept in folders of their own."""

    def __init__(
        self, folder: Path, where: str, tensors: Mapping[str, Any], given: Mapping[str, Any], device: str | None
    ) -> None:
        super().__init__(tensors, where, {**given, "device": device}, device)
        self.folder = folder

    @property
    def entries(self) -> tuple[str, ...]:
        """Kinds of entries that are read."""
        return (*super().entries, "flow")

    def _flow(self, tree: dict[str, Any]) -> ConditionalFlow:
        home = self.folder / Path(tree["flow"]).name
        header = home / "flow.json"
        if not header.is_file() or hashlib.sha256(header.read_bytes()).hexdigest() != tree["sha256"]:
            raise AlignerFileError(
                f"{home}: found no flow, or another than the aligner was saved with; expected the one {self.where} names. "
                "Mend: copy the whole folder, or save it again."
            )
        network = network_of(self.given.get("flow_options") or {})
        base = self.value(tree["base"])
        return ConditionalFlow.load(home, network=network, base=base, device=self.given["device"])
