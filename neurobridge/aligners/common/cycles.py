"""Whether maps between several spaces agree with each other, and what each space adds to the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import permutations

import numpy as np
import xarray as xr

from neurobridge.aligners.common.views import Edge, groups_of
from neurobridge.aligners.common.weights import TOGETHER
from neurobridge.points.arrays import Rows


def measure_cycles(
    clouds: Mapping[str, np.ndarray], names: list[str], moved: Callable[[np.ndarray, str, str], np.ndarray]
) -> xr.Dataset:
    """Compare points with their images there and back, and images over a third space with those without.

    Parameters
    ----------
    clouds : mapping of str to array of shape (n_points, n_dims)
        Standardised points of the spaces to start from.
    names : list of str
        All spaces.
    moved : callable
        ``moved(points, source, target)``.

    Returns
    -------
    xarray.Dataset
        ``round_trip`` (source, through) and ``detour`` (source, through, target).
    """
    round_trip = np.full((len(clouds), len(names)), np.nan)
    detour = np.full((len(clouds), len(names), len(names)), np.nan)
    for i, (source, points) in enumerate(clouds.items()):
        images = {name: moved(points, source, name) for name in names if name != source}
        for j, through in enumerate(names):
            if through == source:
                continue
            round_trip[i, j] = _share(moved(images[through], through, source), points)
            for k, target in enumerate(names):
                if target not in (source, through):
                    detour[i, j, k] = _share(moved(images[through], through, target), images[target])
    return xr.Dataset(
        {"round_trip": (("source", "through"), round_trip), "detour": (("source", "through", "target"), detour)},
        coords={"source": list(clouds), "through": names, "target": names},
        attrs={"n_points": [len(points) for points in clouds.values()]},
    )


def _share(image: np.ndarray, truth: np.ndarray) -> float:
    spread = float(np.square(truth - truth.mean(axis=0)).sum())
    return float(np.square(image - truth).sum()) / spread if spread > 0 else float("nan")


def measure_contribution(
    points: Mapping[str, np.ndarray],
    rows: Mapping[Edge, Rows],
    explained: Mapping[Edge, Mapping[str, float]],
    weigh: Callable[[dict[str, np.ndarray], dict[Edge, Rows]], dict[Edge, dict[str, float]]],
) -> xr.Dataset:
    """Weigh the routes again without each space in turn.

    Parameters
    ----------
    points : mapping of str to array of shape (n_points, n_dims)
    rows : mapping of (str, str) to two int arrays
        Pairs.
    explained : mapping of (str, str) to mapping of str to float
        With all spaces.
    weigh : callable
        Gives the same for some of them.

    Returns
    -------
    xarray.Dataset
        As `CommonSpace.contribution` describes it.
    """
    names = list(points)
    n = len(names)
    with_all, without = np.full((n, n), np.nan), np.full((n, n, n), np.nan)
    needed, gain = np.zeros(n, dtype=bool), np.full(n, np.nan)
    for (a, b), shares in explained.items():
        with_all[names.index(a), names.index(b)] = shares[TOGETHER]
    for u, space in enumerate(names):
        others = [name for name in names if name != space]
        kept = {edge: pair for edge, pair in rows.items() if space not in edge}
        needed[u] = len(groups_of(others, list(kept))) > 1
        if needed[u] or len(others) < 2:
            continue
        shares_without = weigh({name: points[name] for name in others}, kept)
        for a, b in permutations(others, 2):
            if (a, b) in shares_without:
                without[u, names.index(a), names.index(b)] = shares_without[a, b][TOGETHER]
        differences = with_all - without[u]
        if np.isfinite(differences).any():
            gain[u] = float(np.nanmean(differences))
    return xr.Dataset(
        {
            "explained": (("source", "target"), with_all),
            "explained_without": (("space", "source", "target"), without),
            "gain": ("space", gain),
            "needed": ("space", needed),
        },
        coords={"space": names, "source": names, "target": names},
    )
