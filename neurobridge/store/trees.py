"""Values as a JSON tree and the tensors it names, and back: plain data, arrays, sparse matrices and objects of a kind."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import sparse

from neurobridge.store import kinds
from neurobridge.store.errors import StateFileError

_PLAIN = (bool, int, float, str)
_ENTRIES = ("tensor", "array", "scalar", "text", "time", "csr", "dict", "list", "tuple", "kind", "object")


def is_plain(value: Any) -> bool:
    """Tell whether a value is data that a tree can hold without tensors, as a parameter is that is not code.

    Examples
    --------
    >>> is_plain({"n_steps": 5, "metric": ("cosine", None)}), is_plain({"network": print})
    (True, False)
    """
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(inner) for key, inner in value.items())
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    if kinds.name_of(type(value)) is not None:
        return all(map(is_plain, kinds.state_of(value).values()))
    return value is None or isinstance(value, (*_PLAIN, np.generic))


class TreeWriter:
    """Writes values as JSON trees; equal arrays are kept once.

    Attributes
    ----------
    tensors : dict of str to tensor
        What the trees written so far name.

    Examples
    --------
    >>> writer = TreeWriter()
    >>> writer.tree({"n": 2, "mean": np.zeros(2)}, "scale")
    {'dict': [['n', 2], ['mean', {'array': {'name': "000.scale['mean']", 'turned': False}}]]}
    """

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._names: dict[tuple[str, tuple[int, ...], str], str] = {}

    def tree(self, value: Any, where: str) -> Any:
        """Return a value as a tree; ``where`` names it in errors and in the names of its tensors.

        Raises
        ------
        StateFileError
            It holds something that is neither data nor of a kind.
        """
        if value is None or type(value) in _PLAIN:
            return value
        if isinstance(value, torch.Tensor):
            return {"tensor": self._array(value.detach().cpu().numpy(), where)}
        if isinstance(value, np.generic):
            return {"scalar": self.tree(np.asarray(value), where)}
        if isinstance(value, np.ndarray):
            return self._any_array(value, where)
        if sparse.issparse(value):
            matrix = value.tocsr()
            parts = [self.tree(part, where) for part in (matrix.data, matrix.indices, matrix.indptr)]
            return {"csr": parts, "shape": list(matrix.shape)}
        if type(value) is dict:
            pairs = [[self.tree(key, where), self.tree(inner, f"{where}[{key!r}]")] for key, inner in value.items()]
            return {"dict": pairs}
        if type(value) in (list, tuple):
            return {type(value).__name__: [self.tree(inner, f"{where}[{k}]") for k, inner in enumerate(value)]}
        return self._object(value, where)

    def _any_array(self, array: np.ndarray, where: str) -> dict[str, Any]:
        if array.dtype.kind in "OUT":
            return _text(array.astype(str) if array.dtype.kind == "T" else array, where)
        if array.dtype.kind in "mM":
            return {"time": str(array.dtype), "ticks": self.tree(array.view(np.int64), where)}
        if array.dtype.kind not in "biuf":
            raise _unsaveable(where, f"an array of {array.dtype}")
        return {"array": self._array(array, where)}

    def _array(self, array: np.ndarray, where: str) -> dict[str, Any]:
        # Products depend on the order in memory down to the last bit, so it is kept.
        turned = array.ndim == 2 and array.flags.f_contiguous and not array.flags.c_contiguous
        plain = np.ascontiguousarray(array.T if turned else array).reshape(array.T.shape if turned else array.shape)
        key = (plain.dtype.str, plain.shape, hashlib.sha256(plain.tobytes()).hexdigest())
        if key not in self._names:
            self._names[key] = f"{len(self.tensors):03d}.{where}"
            self.tensors[self._names[key]] = torch.as_tensor(plain.copy())
        return {"name": self._names[key], "turned": turned}

    def _object(self, value: Any, where: str) -> dict[str, Any]:
        name = kinds.name_of(type(value))
        if name is None:
            raise _unsaveable(where, f"a {type(value).__module__}.{type(value).__qualname__}")
        state = {key: self.tree(inner, f"{where}.{key}") for key, inner in kinds.state_of(value).items()}
        return {"kind": name, "version": kinds.kind_of(name).version, "state": state}


class TreeReader:
    """Reads what `TreeWriter` wrote, and what version 0.1 wrote.

    Parameters
    ----------
    tensors : mapping of str to tensor
    where : str
        The file, for errors.
    given : mapping of str to value
        Parameters that are code and were passed to ``load``.
    device : str or torch.device, optional
        Where tensors go; arrays stay in memory.

    Examples
    --------
    >>> writer = TreeWriter()
    >>> tree = writer.tree({"n": 2, "mean": np.zeros(2)}, "scale")
    >>> TreeReader(writer.tensors, "scale.json").value(tree)
    {'n': 2, 'mean': array([0., 0.])}
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        where: str,
        given: Mapping[str, Any] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.tensors, self.where, self.given = tensors, where, given or {}
        self.device = torch.device(device or "cpu")

    def value(self, tree: Any) -> Any:
        """Return the value of a tree.

        Raises
        ------
        StateFileError
            The tree is none, or names a kind or a tensor that is not there.
        """
        if not isinstance(tree, dict):
            return tree
        entry = next(iter(tree), "")
        read = getattr(self, f"_{entry}", None) if entry in self.entries else None
        if read is None:
            raise StateFileError(
                f"{self.where}: found an entry of kind {entry!r}; expected one of {list(self.entries)}. Mend: save it again."
            )
        try:
            return read(tree)
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise StateFileError(
                f"{self.where}: found no usable entry ({type(error).__name__}: {error}) under {entry!r}; expected a whole file. "
                "Mend: save it again."
            ) from error

    @property
    def entries(self) -> tuple[str, ...]:
        """Kinds of entries that are read."""
        return _ENTRIES

    def _tensor(self, tree: dict[str, Any]) -> torch.Tensor:
        tensor = self.tensors[tree["tensor"]["name"]].to(self.device)
        return tensor.T if tree["tensor"]["turned"] else tensor

    def _array(self, tree: dict[str, Any]) -> np.ndarray:
        array = self.tensors[tree["array"]["name"]].numpy()
        return array.T if tree["array"]["turned"] else array

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

    def _kind(self, tree: dict[str, Any]) -> Any:
        return self._built(tree["kind"], tree["version"], tree["state"])

    def _object(self, tree: dict[str, Any]) -> Any:
        """Read an object of version 0.1, which is version 1 of every kind."""
        if tree["object"] not in kinds.NAMES_0_1:
            raise StateFileError(
                f"{self.where}: found a {tree['object']!r}; expected a class that version 0.1 wrote. Mend: load it with the "
                "neurobridge that wrote it, or fit again."
            )
        return self._built(tree["object"], 1, tree["fields"])

    def _built(self, name: str, version: int, state: dict[str, Any]) -> Any:
        values = {field: self.value(inner) for field, inner in state.items()}
        try:
            return kinds.build(name, version, values, self.given)
        except StateFileError as error:
            raise type(error)(f"{self.where}: {error}") from error


def _text(array: np.ndarray, where: str) -> dict[str, Any]:
    values = array.ravel().tolist()
    if not all(value is None or isinstance(value, _PLAIN) for value in values):
        raise _unsaveable(where, "an array of objects")
    return {"text": values, "dtype": str(array.dtype), "shape": list(array.shape)}


def _unsaveable(where: str, what: str) -> StateFileError:
    return StateFileError(
        f"{where}: found {what}; expected arrays, text, numbers and what this package makes of them, as nothing is pickled. "
        "Mend: keep the fitted state in arrays."
    )
