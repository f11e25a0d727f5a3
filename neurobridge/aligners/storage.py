"""A fitted aligner on disk and back: arrays in safetensors, everything else in JSON, code nowhere."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse

from neurobridge._version import __version__
from neurobridge.bridge import METRICS, AnchorDistances, FusedBridge
from neurobridge.bridge.cost.metrics import distance_function
from neurobridge.flow import ConditionalFlow, FlowFileError
from neurobridge.flow.settings import Settings
from neurobridge.store.state import read_state, write_state

KIND = "neurobridge aligner"
NAME = "aligner"
VERSION = 1
_OURS = "neurobridge."
_PLAIN = (bool, int, float, str)
_TREES = ("tensor", "array", "scalar", "text", "time", "csr", "dict", "list", "tuple", "flow", "object")


class AlignerFileError(ValueError):
    """A saved aligner that does not fit (missing, damaged, of another kind, version or shape), or state that cannot be saved."""


class KeptAligner(NamedTuple):
    """What of an aligner goes to disk: the name of its class, its parameters, its fitted attributes."""

    kind: str
    params: dict[str, Any]
    state: dict[str, Any]


def write_aligner(folder: Path, kept: KeptAligner) -> Path:
    """Write an aligner; whoever reads meanwhile, or after a kill, finds the old one or the new.

    A flow lies in a folder of its own, named by its digest; replacing ``aligner.json``, which names it, is the step that counts.

    Raises
    ------
    AlignerFileError
        The state holds something that is not arrays, text and numbers.
    """
    writer = _Writer(folder)
    code = sorted(name for name, value in kept.params.items() if not _is_plain(value))
    params = {name: writer.tree(value, name) for name, value in kept.params.items() if name not in code}
    header = {
        "aligner_version": VERSION,
        "package_version": __version__,
        "class": kept.kind,
        "params": params,
        "code": code,
        "state": {name: writer.tree(value, name) for name, value in kept.state.items()},
    }
    path = write_state(folder, NAME, writer.tensors, header, kind=KIND)
    for other in folder.glob("flow-*"):
        if other.name not in writer.flows and other.is_dir():
            shutil.rmtree(other)
    return path


def read_aligner(folder: Path, kinds: Mapping[str, type], given: Mapping[str, Any], device: str | None) -> KeptAligner:
    """Read what `write_aligner` wrote.

    Parameters
    ----------
    folder : Path
    kinds : mapping of class name to class
        What may be read.
    given : mapping
        Parameters that are code.
    device : str, optional

    Raises
    ------
    AlignerFileError
        Anything does not fit.
    """
    try:
        tensors, header = read_state(folder, NAME, kind=KIND)
    except FlowFileError as error:
        raise AlignerFileError(str(error)) from error
    where = str(folder / f"{NAME}.json")
    if header.get("aligner_version") != VERSION:
        raise AlignerFileError(
            f"{where}: found aligner version {header.get('aligner_version')!r}; expected {VERSION}. "
            "Mend: load it with the neurobridge that wrote it, or fit again."
        )
    if header.get("class") not in kinds:
        raise AlignerFileError(
            f"{where}: found a {header.get('class')!r}; expected one of {sorted(kinds)}. Mend: load it with its own class, or "
            "AssemblyAligner.load after importing the module that defines it."
        )
    reader = _Reader(folder, where, tensors, given, device)
    try:
        code = list(header["code"])
        params = {name: reader.value(tree) for name, tree in header["params"].items()}
        if sorted(given) != sorted(code):
            raise AlignerFileError(
                f"{where}: found parameters {sorted(given)} given to load; expected {code}: those that are code and not on disk. "
                "Mend: pass exactly these, as they were in fitting."
            )
        state = {name: reader.value(tree) for name, tree in header["state"].items()}
        _check_fit(state, where)
    except (KeyError, TypeError, AttributeError, IndexError, FlowFileError) as error:
        raise AlignerFileError(
            f"{where}: found no usable entry ({type(error).__name__}: {error}); expected a complete aligner. Mend: save it again."
        ) from error
    return KeptAligner(header["class"], params | dict(given), state)


def snapshot(value: Any) -> Any:
    """A parameter as it is now: containers and arrays are copied, what they hold stays the same object."""
    if isinstance(value, dict):
        return {key: snapshot(inner) for key, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(snapshot, value))
    return value.copy() if isinstance(value, np.ndarray) else value


def same_value(left: Any, right: Any) -> bool:
    """Whether two parameters are the same, arrays inside included."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return type(left) is type(right) and np.array_equal(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_value(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_value, left, right))
    return left is right or bool(left == right)


def _check_fit(state: Mapping[str, Any], where: str) -> None:
    """The parts of every aligner must agree on how many neuroids there are."""
    sizes = {}
    for side, direction in (("source", "backward"), ("target", "forward")):
        scale, labels = state[f"{side}_scale_"], state[f"{side}_neuroids_"]
        sizes[side] = {
            # Rows and columns of arrays have no labels.
            **({} if labels is None else {"neuroid labels": len(labels["neuroid_id"][1])}),
            "means": len(scale.mean),
            "standard deviations": len(scale.std),
            "support": state["support_"][direction].points.shape[1],
        }
        if isinstance(flow := state.get("flow_"), ConditionalFlow):
            sizes[side]["flow"] = len(getattr(flow, f"{side}_scale_").mean)
    for side, found in sizes.items():
        if len(set(found.values())) != 1:
            raise AlignerFileError(
                f"{where}: found for the {side} {', '.join(f'{n} {what}' for what, n in found.items())}; expected as many of each. "
                "Mend: the file was altered or mixed with another's; save it again."
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, Settings):
        return all(map(_is_plain, value.get_params().values()))
    return value is None or isinstance(value, (*_PLAIN, np.generic))


class _Writer:
    """Turns values into a JSON tree and the tensors it names; equal arrays are kept once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tensors: dict[str, torch.Tensor] = {}
        self.flows: set[str] = set()
        self._names: dict[tuple[str, tuple[int, ...], str], str] = {}

    def tree(self, value: Any, where: str) -> Any:
        if value is None or type(value) in _PLAIN:
            return value
        if isinstance(value, torch.Tensor):
            return {"tensor": self._array(value.detach().cpu().numpy(), where)}
        if isinstance(value, np.generic):
            return {"scalar": self.tree(np.asarray(value), where)}
        if isinstance(value, np.ndarray):
            if value.dtype.kind in "OUT":
                return self._text(value.astype(str) if value.dtype.kind == "T" else value, where)
            if value.dtype.kind in "mM":
                return {"time": str(value.dtype), "ticks": self.tree(value.view(np.int64), where)}
            if value.dtype.kind not in "biuf":
                raise _unsaveable(where, f"an array of {value.dtype}")
            return {"array": self._array(value, where)}
        if sparse.issparse(value):
            matrix = value.tocsr()
            parts = [self.tree(part, where) for part in (matrix.data, matrix.indices, matrix.indptr)]
            return {"csr": parts, "shape": list(matrix.shape)}
        if isinstance(value, dict):
            pairs = [[self.tree(key, where), self.tree(inner, f"{where}[{key!r}]")] for key, inner in value.items()]
            return {"dict": pairs}
        if isinstance(value, ConditionalFlow):
            return self._flow(value)
        if type(value) in (list, tuple):
            return {type(value).__name__: [self.tree(inner, f"{where}[{k}]") for k, inner in enumerate(value)]}
        return self._object(value, where)

    def _array(self, array: np.ndarray, where: str) -> dict[str, Any]:
        # Products depend on the order in memory down to the last bit, so it is kept.
        turned = array.ndim == 2 and array.flags.f_contiguous and not array.flags.c_contiguous
        plain = np.ascontiguousarray(array.T if turned else array).reshape(array.T.shape if turned else array.shape)
        key = (plain.dtype.str, plain.shape, hashlib.sha256(plain.tobytes()).hexdigest())
        if key not in self._names:
            self._names[key] = f"{len(self.tensors):03d}.{where}"
            self.tensors[self._names[key]] = torch.as_tensor(plain.copy())
        return {"name": self._names[key], "turned": turned}

    def _text(self, array: np.ndarray, where: str) -> dict[str, Any]:
        values = array.ravel().tolist()
        if not all(value is None or isinstance(value, _PLAIN) for value in values):
            raise _unsaveable(where, "an array of objects")
        return {"text": values, "dtype": str(array.dtype), "shape": list(array.shape)}

    def _flow(self, flow: ConditionalFlow) -> dict[str, Any]:
        partial = self.folder / "flow.partial"
        shutil.rmtree(partial, ignore_errors=True)
        digest = hashlib.sha256(flow.save(partial).read_bytes()).hexdigest()
        home = self.folder / f"flow-{digest[:16]}"
        if home.exists():
            shutil.rmtree(partial)
        else:
            partial.replace(home)
        self.flows.add(home.name)
        base = None if isinstance(flow.base, str) else self.tree(flow.base, "base")
        return {"flow": home.name, "sha256": digest, "base": base}

    def _object(self, value: Any, where: str) -> dict[str, Any]:
        kind = type(value)
        if not kind.__module__.startswith(_OURS) or not _has_fields(value):
            raise _unsaveable(where, f"a {kind.__module__}.{kind.__qualname__}")
        fields = _fields_of(value)
        if isinstance(value, AnchorDistances):
            fields |= {"function": None}
        if isinstance(value, FusedBridge):
            # Its n x m plan: what moves points is beside it.
            fields |= {"coupling": None}
        return {
            "object": f"{kind.__module__}:{kind.__qualname__}",
            "fields": {name: self.tree(inner, f"{where}.{name}") for name, inner in fields.items()},
        }


class _Reader:
    """Undoes `_Writer`."""

    def __init__(
        self,
        folder: Path,
        where: str,
        tensors: Mapping[str, torch.Tensor],
        given: Mapping[str, Any],
        device: str | None,
    ) -> None:
        self.folder, self.where, self.tensors, self.given = folder, where, tensors, given
        self.device = torch.device(device or "cpu")

    def value(self, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        kind = next(iter(tree), "")
        if kind not in _TREES:
            raise KeyError(f"an entry of kind {kind!r}")
        return getattr(self, f"_{kind}")(tree)

    def _tensor(self, tree: dict[str, Any]) -> torch.Tensor:
        found = self.tensors[tree["tensor"]["name"]].to(self.device)
        return found.T if tree["tensor"]["turned"] else found

    def _array(self, tree: dict[str, Any]) -> np.ndarray:
        found = self.tensors[tree["array"]["name"]].numpy()
        return found.T if tree["array"]["turned"] else found

    def _scalar(self, tree: dict[str, Any]) -> Any:
        return self.value(tree["scalar"])[()]

    def _text(self, tree: dict[str, Any]) -> np.ndarray:
        return np.array(tree["text"], dtype=tree["dtype"]).reshape(tree["shape"])

    def _time(self, tree: dict[str, Any]) -> np.ndarray:
        return self.value(tree["ticks"]).view(tree["time"])

    def _csr(self, tree: dict[str, Any]) -> sparse.csr_matrix:
        return sparse.csr_matrix(tuple(self.value(part) for part in tree["csr"]), shape=tuple(tree["shape"]))

    def _dict(self, tree: dict[str, Any]) -> dict[Any, Any]:
        return {self.value(key): self.value(inner) for key, inner in tree["dict"]}

    def _list(self, tree: dict[str, Any]) -> list[Any]:
        return [self.value(inner) for inner in tree["list"]]

    def _tuple(self, tree: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(self.value(inner) for inner in tree["tuple"])

    def _flow(self, tree: dict[str, Any]) -> ConditionalFlow:
        home = self.folder / Path(tree["flow"]).name
        header = home / "flow.json"
        if not header.is_file() or hashlib.sha256(header.read_bytes()).hexdigest() != tree["sha256"]:
            raise AlignerFileError(
                f"{home}: found no flow, or another than the aligner was saved with; expected the one {self.where} names. "
                "Mend: copy the whole folder, or save it again."
            )
        options = self.given.get("flow_options") or {}
        network = options["training"].network if "training" in options else options.get("network")
        base = self.value(tree["base"])
        return ConditionalFlow.load(home, network=network, base=base, device=str(self.device))

    def _object(self, tree: dict[str, Any]) -> Any:
        fields = {name: self.value(inner) for name, inner in tree["fields"].items()}
        kind = self._class(tree["object"])
        expected = _field_names(kind)
        if expected is not None and set(expected) != set(fields):
            raise AlignerFileError(
                f"{self.where}: found a {kind.__name__} of {sorted(fields)}; expected {sorted(expected)}. "
                "Mend: load it with the neurobridge that wrote it, or fit again."
            )
        if issubclass(kind, tuple):
            return kind(**fields)
        made = kind.__new__(kind)
        for name, inner in fields.items():
            object.__setattr__(made, name, inner)
        return self._rewired(made)

    def _rewired(self, made: Any) -> Any:
        """Give distances back the code they measure with."""
        own = isinstance(made, AnchorDistances) and made.metric not in (*METRICS, "geodesic", "precomputed")
        return dataclasses.replace(made, function=self._function(made.metric)) if own else made

    def _function(self, metric: str) -> Callable[..., torch.Tensor]:
        given = self.given.get("metric")
        candidates = {
            distance_function(one)[0]: one for one in (given if isinstance(given, tuple) else (given,)) if one
        }
        if metric not in candidates:
            raise AlignerFileError(
                f"{self.where}: found the metric {metric!r}, a function; expected it among {sorted(candidates)}. "
                "Mend: load(folder, metric=...) with the function of fitting, under its own name."
            )
        return distance_function(candidates[metric])[1]

    def _class(self, name: str) -> type:
        module, _, qualname = name.partition(":")
        found: Any = sys.modules.get(module) if module.startswith(_OURS) else None
        for part in qualname.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, type) or found.__module__ != module:
            raise AlignerFileError(
                f"{self.where}: found a {name!r}; expected a class of this neurobridge. Mend: load it with the neurobridge that "
                "wrote it, or fit again."
            )
        return found


def _field_names(kind: type) -> tuple[str, ...] | None:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return getattr(kind, "_fields", None)


def _has_fields(value: Any) -> bool:
    return _field_names(type(value)) is not None or bool(getattr(value, "__dict__", None))


def _fields_of(value: Any) -> dict[str, Any]:
    names = _field_names(type(value))
    return dict(vars(value)) if names is None else {name: getattr(value, name) for name in names}


def _unsaveable(where: str, what: str) -> AlignerFileError:
    return AlignerFileError(
        f"{where}: found {what}; expected arrays, text, numbers and what this package makes of them, as nothing is pickled. "
        "Mend: keep the fitted state in arrays."
    )
