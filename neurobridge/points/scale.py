"""Standardisation of a point cloud and the length it is measured in, and reading clouds a block of rows at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurobridge.points.arrays import as_points, read_blocks
from neurobridge.points.blocks import row_blocks
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.memory import check_memory
from neurobridge.store.kinds import register

BLOCK = 16384
# A cloud whose unit is 1 to so many digits is standardised, and left as it is to the last bit.
_ONE = 1e-9
# Deviations of a constant cloud from its mean, as a share of the mean.
_ROUNDING = 1e-13
# Elements of a cloud that is measured a block at a time.
_LARGE = 1 << 24


@register("standardiser")
@dataclass(frozen=True, repr=False)
class Standardiser:
    """Scale of a cloud: zero mean and unit variance in each dimension of the training points.

    Attributes
    ----------
    mean, std : arrays of shape (n_dims,)
        In the units of the points.

    Examples
    --------
    >>> import numpy as np
    >>> scale = Standardiser.fit(np.array([[0.0, 10.0], [2.0, 30.0]]))
    >>> scale
    Standardiser(2 dims, std 1 to 10)
    >>> scale.forward(np.array([[3.0, 20.0]])).tolist()
    [[2.0, 0.0]]
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, X: Any) -> Standardiser:
        """Take mean and standard deviation of points; constant dimensions keep their unit.

        Parameters
        ----------
        X : array of shape (n_points, n_dims)
            Numpy, torch or dask; read a block of rows at a time.

        Returns
        -------
        Standardiser
        """
        X = as_points(X, "X")
        total = np.zeros(X.shape[1])
        for _, block in read_blocks(X, BLOCK):
            total += block.sum(axis=0)
        mean = total / len(X)
        squares = np.zeros(X.shape[1])
        for _, block in read_blocks(X, BLOCK):
            squares += np.square(block - mean).sum(axis=0)
        std = np.sqrt(squares / len(X))
        # Rounding leaves a constant dimension a spread of about 1e-16 of its mean, which must not become its unit.
        return cls(mean, np.where(std > 1e-12 * np.abs(mean), std, 1.0))

    def forward(self, X: np.ndarray) -> np.ndarray:
        """Standardise points of shape (n_points, n_dims)."""
        return (X - self.mean) / self.std

    def backward(self, Z: np.ndarray) -> np.ndarray:
        """Undo `forward` for points of shape (n_points, n_dims)."""
        return Z * self.std + self.mean

    def __repr__(self) -> str:
        return short_repr("Standardiser", f"{len(self.mean)} dims", f"std {self.std.min():.3g} to {self.std.max():.3g}")

    def _repr_html_(self) -> str:
        facts = {"dims": len(self.mean), "smallest std": float(self.std.min()), "largest std": float(self.std.max())}
        return html_repr("Standardiser", facts)


def standardised(X: Any, scale: Standardiser) -> np.ndarray:
    """Standardise all rows into one float32 array, a block at a time, so that no float64 copy of X exists."""
    X = as_points(X, "X")
    what = f"{X.shape[0]} x {X.shape[1]} standardised points"
    check_memory(
        4.0 * X.shape[0] * X.shape[1], math.inf, what, mend="keep fewer dimensions, those of the first components"
    )
    out = np.empty(X.shape, dtype=np.float32)
    for rows, block in read_blocks(X, BLOCK):
        out[rows] = scale.forward(block)
    return out


def within_range(X: np.ndarray) -> np.ndarray:
    """Bring values whose squares would leave double precision near one, by a power of two: no digit changes.

    Parameters
    ----------
    X : array of any shape
        Of floating type.

    Returns
    -------
    array of the shape of X
        X itself where its largest magnitude lies between 1e-70 and 1e70, is zero or is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.points.scale import within_range
    >>> (within_range(np.array([3e-200, -4e-200])) ** 2).sum() > 0
    np.True_
    """
    largest = float(np.abs(X).max(initial=0))
    if largest == 0 or 1e-70 < largest < 1e70 or not np.isfinite(largest):
        return X
    return np.asarray(np.ldexp(X, -np.frexp(largest)[1]))


def unit_of_cloud(X: np.ndarray) -> float:
    """Measure the length that a cloud is measured in: the root mean square deviation from its mean, over all dimensions.

    Parameters
    ----------
    X : floating array of shape (n_points, n_dims)

    Returns
    -------
    float
        1.0 for a standardised cloud, and for one whose points are all the same, up to rounding.

    Examples
    --------
    >>> unit_of_cloud(np.array([[3e-9, 4e-9], [-3e-9, -4e-9]])) / 1e-9  # doctest: +ELLIPSIS
    3.535533...
    """
    if X.dtype != np.float64 or X.size > _LARGE:
        return _unit_in_blocks(X)
    mean = X.mean(axis=0)
    deviations = X - mean
    np.abs(deviations, out=deviations)
    peak = float(deviations.max(initial=0.0))
    if peak <= _ROUNDING * float(np.abs(mean).max(initial=0.0)):
        return 1.0
    deviations /= peak
    unit = peak * float(np.sqrt(np.square(deviations, out=deviations).mean()))
    return 1.0 if abs(unit - 1) < _ONE else unit


def _unit_in_blocks(X: np.ndarray) -> float:
    """Measure the unit of a cloud a block of rows at a time, so that no copy of it exists."""
    blocks = row_blocks(*X.shape, budget=1 << 22)
    mean = sum(X[rows].sum(axis=0, dtype=np.float64) for rows in blocks) / len(X)
    peak = max(float(np.abs(X[rows] - mean).max(initial=0.0)) for rows in blocks)
    if peak <= _ROUNDING * float(np.abs(mean).max(initial=0.0)):
        return 1.0
    total = sum(float(np.square((X[rows] - mean) / peak).sum()) for rows in blocks)
    unit = peak * float(np.sqrt(total / X.size))
    return 1.0 if abs(unit - 1) < _ONE else unit
