"""Reductions of the output of a layer: all units, their mean over positions, the class token, components, a random projection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from neurobridge.assemblies import AssemblyError
from neurobridge.points.options import is_choice, require_count, require_seed


class Reduction(Protocol):
    """A rule that turns the output of a layer into what is kept of it."""

    def __call__(self, layer: str, output: torch.Tensor) -> torch.Tensor:
        """Reduce one batch to (n, channel), (n, token, channel) or (n, channel, row, column)."""

    def record(self) -> str:
        """Return a text that tells it from all others: attribute of the result, part of the key of the cache."""


class Part(NamedTuple):
    """Layer and pooling that columns of a result belong to; the pooling is blank where only one was asked for."""

    layer: str
    pooling: str = ""


def _flatten(layer: str, output: torch.Tensor) -> torch.Tensor:
    return output


def _mean(layer: str, output: torch.Tensor) -> torch.Tensor:
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    return output.mean(dim=1) if output.ndim == 3 else output


def _cls(layer: str, output: torch.Tensor) -> torch.Tensor:
    if output.ndim == 4:
        raise AssemblyError(
            f"layer {layer!r}: found maps of shape {tuple(output.shape)}; expected tokens (n, token, channel), of which the first "
            "is the class token. Mend: use pooling='mean' for maps, or name a layer of a transformer."
        )
    return output[:, 0] if output.ndim == 3 else output


#: What is kept of a layer, by name: all units, their mean over positions, the class token.
POOLINGS: dict[str, Callable[[str, torch.Tensor], torch.Tensor]] = {"flatten": _flatten, "mean": _mean, "cls": _cls}


@dataclass(frozen=True)
class Pooling:
    """One of `POOLINGS`, by name."""

    name: str

    @property
    def label(self) -> str:
        """Name among several poolings."""
        return self.name

    def __call__(self, layer: str, output: torch.Tensor) -> torch.Tensor:
        """Pool one batch."""
        return POOLINGS[self.name](layer, output)

    def record(self) -> str:
        """Return the name."""
        return self.name


@dataclass(frozen=True)
class RandomProjection:
    """Projection of each layer, flattened, on random directions (scikit-learn's transformers; Li, Hastie & Church 2006).

    Distances are kept up to a factor 1 +- eps if ``n_components`` is of the order log(n) / eps^2 (Johnson & Lindenstrauss 1984).
    A layer with at most ``n_components`` units is kept as it is. Each layer has directions of its own, which depend on the seed,
    its name and its size alone.

    Parameters
    ----------
    n_components : int
        Directions a layer.
    kind : {"sparse", "gaussian"}
        Sparse: about sqrt(n_units) units a direction; Gaussian: all of them, n_components x n_units numbers in memory.
    seed : int

    Raises
    ------
    ValueError
        `n_components` below 1, or an unknown `kind`.

    Examples
    --------
    >>> import torch
    >>> RandomProjection(n_components=10)("layer1", torch.ones(2, 8, 5, 5)).shape
    torch.Size([2, 10])
    """

    n_components: int = 1000
    kind: str = "sparse"
    seed: int = 0
    _fitted: dict[tuple[str, int], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_count(self.n_components, name="n_components")
        require_seed(self.seed)
        if not is_choice(self.kind, ("sparse", "gaussian")):
            raise ValueError(f"found kind={self.kind!r}; expected 'sparse' or 'gaussian'. Mend: kind='sparse'.")

    @property
    def label(self) -> str:
        """Name among several poolings."""
        return f"{self.kind}:{self.n_components}"

    def __call__(self, layer: str, output: torch.Tensor) -> torch.Tensor:
        """Project one batch: (n, ...) -> (n, n_components)."""
        flat = output.flatten(1)
        if flat.shape[1] <= self.n_components:
            return flat
        values = flat.to("cpu", torch.float32).numpy()
        projected = np.ascontiguousarray((self._directions(layer, flat.shape[1]) @ values.T).T)
        # A sparse direction would pass over a NaN that it does not touch.
        projected[~np.isfinite(values).all(axis=1)] = np.nan
        return torch.from_numpy(projected)

    def record(self) -> str:
        """Return the settings as JSON."""
        settings = {"kind": self.kind, "n_components": self.n_components, "seed": self.seed}
        return json.dumps({"random_projection": settings}, sort_keys=True)

    def _directions(self, layer: str, n_units: int) -> Any:
        key = (layer, n_units)
        if key not in self._fitted:
            word = int.from_bytes(hashlib.sha256(layer.encode()).digest()[:4], "little")
            state = int(np.random.SeedSequence([self.seed, word]).generate_state(1)[0])
            kind = SparseRandomProjection if self.kind == "sparse" else GaussianRandomProjection
            # Only the number of units of the matrix fitted on is read.
            projection = kind(n_components=self.n_components, random_state=state).fit(
                np.zeros((1, n_units), np.float32)
            )
            self._fitted[key] = projection.components_.astype(np.float32)
        return self._fitted[key]


def as_reduction(pooling: str | Reduction) -> Reduction:
    """Look a pooling up by its name; anything else is taken as it is.

    Raises
    ------
    AssemblyError
        There is no pooling of this name.
    """
    if not isinstance(pooling, str):
        return pooling
    if not is_choice(pooling, POOLINGS):
        raise AssemblyError(
            f"pooling: found {pooling!r}; expected one of {sorted(POOLINGS)}, a RandomProjection, or what fit_pca gives. "
            "Mend: use pooling='flatten'."
        )
    return Pooling(pooling)


def as_reductions(pooling: str | Reduction | Sequence[str | Reduction]) -> dict[str, Reduction]:
    """Look up one pooling, whose label is blank, or several, by their labels.

    The label of several is the name of a pooling, as "mean", or kind and number, as "pca:100"; of a reduction without the
    attribute ``label`` its record.

    Raises
    ------
    AssemblyError
        There is none, or two have the same label.
    """
    if isinstance(pooling, str) or not isinstance(pooling, Sequence):
        return {"": as_reduction(pooling)}
    reductions = [as_reduction(each) for each in pooling]
    labels = [str(getattr(reduction, "label", None) or reduction.record()) for reduction in reductions]
    if not labels or len(set(labels)) < len(labels):
        raise AssemblyError(
            f"pooling: found {labels}; expected one pooling, or several that differ. Mend: e.g. pooling=('mean', 'flatten')."
        )
    return dict(zip(labels, reductions, strict=True))
