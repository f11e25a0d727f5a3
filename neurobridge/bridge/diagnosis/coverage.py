"""The reach of the anchors: distances among them, and from every point to the nearest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from neurobridge.bridge.cost.distances import AnchorDistances
from neurobridge.bridge.cost.factors import Factor
from neurobridge.points.arrays import row_blocks
from neurobridge.points.display import html_repr, short_repr

#: Share of the anchors that lie nearer than the reach to another anchor.
REACH = 0.95
_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, repr=False)
class Coverage:
    """Distances that tell how well the anchors cover the points of one space.

    Lengths are in units of the mean anchor distance.

    Attributes
    ----------
    quantiles : dict of str to float
        5, 50 and 95 % quantiles of the distance from a point that is no anchor to its nearest anchor; NaN if all are anchors.
    reach : float
        95 % quantile of the distance from an anchor to its nearest other anchor.
    beyond : float
        Share of the points farther than ``reach`` from any anchor; about 0.05 if the anchors are drawn like the points; NaN if the
        anchors are a single point.

    Examples
    --------
    Anchors on the first half of the line that the points are on:

    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, diagnose
    >>> X = np.linspace(0, 10, 101)[:, None]
    >>> coverage = diagnose(bridge_cost(X, X, (np.arange(51), np.arange(51))), warn=False).source
    >>> coverage
    Coverage(reach=0.02978, beyond=1, median=0.7594)
    """

    quantiles: dict[str, float]
    reach: float
    beyond: float

    def __repr__(self) -> str:
        return short_repr("Coverage", reach=self.reach, beyond=self.beyond, median=self.quantiles["50%"])

    def _repr_html_(self) -> str:
        quantiles = {f"{level} of distances to the nearest anchor": value for level, value in self.quantiles.items()}
        return html_repr("Coverage", {"reach": self.reach, "beyond": self.beyond, **quantiles})


def anchor_matrix(side: AnchorDistances, factor: Factor, rows: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """Return the distances between the compared anchors of one space, shape (n_compared, n_compared), symmetric."""
    index = torch.as_tensor(rows[compared])
    distances = factor.rows(index.to(side.anchors.device))[:, compared].double().cpu().numpy()
    if not np.isfinite(distances).all():
        # Nearest anchors only were kept: measure again, between anchors alone.
        distances = side.of(side.anchors[compared])[:, compared].double().cpu().numpy()
    return (distances + distances.T) / 2


def cover(factor: Factor, rows: np.ndarray, between: np.ndarray, compared: np.ndarray) -> Coverage:
    """Measure how well the anchors cover the points of one space.

    Parameters
    ----------
    factor : Factor
        Distances of the points to the anchors.
    rows : int array of shape (n_anchors,)
        Rows of the anchors among the points.
    between : array of shape (n_compared, n_compared)
        Distances between anchors, from `anchor_matrix`.
    compared : int array of shape (n_compared,)
        Anchors that ``between`` holds.

    Returns
    -------
    Coverage
    """
    n_anchors = factor.n_anchors
    nearest = np.concatenate([
        factor.rows(block).amin(dim=1).double().cpu().numpy() for block in row_blocks(factor.n_points, n_anchors)
    ])  # fmt: skip
    others = np.delete(nearest, np.unique(rows))
    # One point in several pairs is one anchor here.
    same = rows[compared][:, None] == rows[compared][None, :]
    apart = np.where(same, np.inf, between).min(axis=1)
    apart = apart[np.isfinite(apart)]
    if len(compared) < n_anchors:
        apart = _all_apart(factor, rows)
    reach = float(np.quantile(apart, REACH)) if len(apart) else math.nan
    values = np.quantile(others, _QUANTILES) if len(others) else [math.nan] * len(_QUANTILES)
    quantiles = {f"{level:.0%}": float(value) for level, value in zip(_QUANTILES, values, strict=True)}
    # A single anchor has no reach to speak of.
    beyond = math.nan if not len(apart) else float((others > reach).mean()) if len(others) else 0.0
    return Coverage(quantiles, reach, beyond)


def _all_apart(factor: Factor, rows: np.ndarray) -> np.ndarray:
    """Nearest other anchor of every anchor, in blocks: a sample of anchors would lie farther apart than all do."""
    nearest_others = []
    for block in row_blocks(len(rows), factor.n_anchors):
        distances = factor.rows(torch.as_tensor(rows[block])).double().cpu().numpy()
        distances[rows[block][:, None] == rows[None, :]] = np.inf
        nearest_others.append(distances.min(axis=1))
    apart = np.concatenate(nearest_others)
    return apart[np.isfinite(apart)]
