"""Routes from one space to another: the direct map, paths over third spaces, and the common space; weighed on held-out pairs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls
from sklearn.base import clone

from neurobridge.aligners.common.shared import Ends, fit_generalised_procrustes, fit_shared_response
from neurobridge.aligners.common.views import Edge, Views
from neurobridge.maps.linear import LinearMap, ridge_map
from neurobridge.points.progress import progress_bar
from neurobridge.store.kinds import register

DIRECT, PATH, COMMON = "direct", "path", "common"
METHODS = ("bridge", "srm", "procrustes")
#: Stimuli seen in both of two spaces: below, their routes have equal weights; and at the least for a direct map.
FEWEST, LEAST = 10, 2
_MOST_PATHS = 3
_WHITENING = {"bridge": 0.5, "srm": 0.0}


@register("common-atlas")
@dataclass(frozen=True, eq=False)
class Atlas:
    """Maps of several spaces, fitted on some of their shared stimuli.

    Attributes
    ----------
    ends : dict of str to Ends
        Into the common space and out of it.
    direct : dict of (str, str) to LinearMap or fitted aligner
        From the first space to the second, in standard deviations; an aligner maps back as well.
    paths : dict of (str, str) to list of list of str
        The third spaces of each path.
    """

    ends: dict[str, Ends]
    direct: dict[Edge, Any]
    paths: dict[Edge, list[list[str]]]

    def routes(self, edge: Edge) -> list[str]:
        """Return the routes that lead from one space to another."""
        known = {DIRECT: self.joins(edge), PATH: bool(self.paths.get(edge)), COMMON: True}
        return [route for route, there_is in known.items() if there_is]

    def joins(self, edge: Edge) -> bool:
        """Tell whether a direct map leads from one space to another."""
        return edge in self.direct or edge[::-1] in self.direct

    def _step(self, edge: Edge, points: np.ndarray) -> np.ndarray:
        mapping = self.direct.get(edge)
        if mapping is None:
            return np.asarray(self.direct[edge[::-1]].inverse_transform(points))
        return np.asarray(mapping(points) if isinstance(mapping, LinearMap) else mapping.transform(points))

    def along(self, route: str, edge: Edge, points: np.ndarray) -> np.ndarray:
        """Map standardised points of the first space along a route, shape (n_points, n_dims of the second)."""
        if route == DIRECT:
            return self._step(edge, points)
        if route == COMMON:
            return self.ends[edge[1]].decode(self.ends[edge[0]].encode(points))
        images = []
        for path in self.paths[edge]:
            stops, image = [edge[0], *path, edge[1]], points
            for step in itertools.pairwise(stops):
                image = self._step(step, image)
            images.append(image)
        return np.mean(images, axis=0)


def n_seen_in_both(views: Views) -> dict[Edge, int]:
    """Count the shared stimuli that two spaces have both seen, for all ordered pairs of spaces."""
    seen = {name: views.seen(name) for name in views.points}
    return {(a, b): int((seen[a] & seen[b]).sum()) for a in seen for b in seen if a != b}


def fit_atlas(views: Views, n_dims: int, method: str, aligner: Any = None) -> Atlas:
    """Fit the common space, and for "bridge" the direct maps of every two spaces that have seen the same stimuli.

    Parameters
    ----------
    views : Views
        In standard deviations.
    n_dims : int
        Of the common space; not read by "procrustes", whose dimensions are those of the largest space.
    method : {"bridge", "srm", "procrustes"}
    aligner : aligner, optional
        Unfitted, for the direct maps of both directions. Default: ridge regression with one penalty.
    """
    seen = {name: views.of(name) for name in views.points}
    ends = (
        fit_generalised_procrustes(seen, views.points)
        if method == "procrustes"
        else fit_shared_response(seen, views.points, n_dims, _WHITENING[method])
    )
    if method != "bridge":
        return Atlas(ends, {}, {})
    counts = n_seen_in_both(views)
    direct: dict[Edge, Any] = {}
    for (a, b), count in counts.items():
        if count < LEAST or (b, a) in direct:
            continue
        both = views.seen(a) & views.seen(b)
        left, right = seen[a][both], seen[b][both]
        if aligner is None:
            direct[a, b], direct[b, a] = (
                ridge_map(left, right, penalty="shared"),
                ridge_map(right, left, penalty="shared"),
            )
            continue
        clouds = [np.concatenate([paired, _others(views, name, both)]) for name, paired in ((a, left), (b, right))]
        rows = np.arange(count), np.arange(count)
        direct[a, b] = clone(aligner).fit(clouds[0], clouds[1], rows)
    edges = {edge: count for edge, count in counts.items() if edge in direct or edge[::-1] in direct}
    return Atlas(ends, direct, {edge: paths_between(edge, edges) for edge in counts})


def _others(views: Views, name: str, paired: np.ndarray) -> np.ndarray:
    """Return the points of a space that show none of some stimuli."""
    code = views.stimulus[name]
    return views.points[name][~((code >= 0) & paired[code])]


def paths_between(edge: Edge, counts: Mapping[Edge, int]) -> list[list[str]]:
    """Return the shortest paths from one space to another over third spaces, those with the most pairs first.

    Parameters
    ----------
    edge : (str, str)
    counts : mapping of (str, str) to int
        Pairs of every two spaces with a direct map; a path is as good as its step with the fewest.

    Returns
    -------
    list of list of str
        The third spaces of at most three paths of the same length.

    Examples
    --------
    >>> steps = {("a", "b"): 50, ("b", "c"): 9, ("a", "d"): 20, ("d", "c"): 30, ("a", "c"): 5}
    >>> paths_between(("a", "c"), steps)
    [['d'], ['b']]
    """
    reached: list[list[str]] = [[edge[0]]]
    while reached:
        longer = [
            [*path, b]
            for path in reached
            for a, b in counts
            if a == path[-1] and b not in path and (path[-1], b) != edge
        ]
        arrived = [path for path in longer if path[-1] == edge[1]]
        if arrived:
            weakest = {tuple(path): min(counts[step] for step in itertools.pairwise(path)) for path in arrived}
            arrived.sort(key=lambda path: (-weakest[tuple(path)], path))
            return [path[1:-1] for path in arrived[:_MOST_PATHS]]
        reached = longer
    return []


def deal_folds(views: Views, n_folds: int, seed: int) -> list[np.ndarray]:
    """Deal the shared stimuli into folds, those seen in the same spaces evenly; a stimulus is held out in all its spaces."""
    order = np.random.default_rng(seed).permutation(views.n_stimuli)
    pattern = np.unique(
        np.stack([views.seen(name) for name in sorted(views.points)], axis=1), axis=0, return_inverse=True
    )[1]
    order = order[np.argsort(pattern.ravel()[order], kind="stable")]
    return [fold for fold in (np.sort(order[k::n_folds]) for k in range(n_folds)) if len(fold)]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions of held-out shared stimuli.

    Attributes
    ----------
    truth : dict of (str, str) to list of array of shape (n_held_out, n_dims)
        Fold by fold, the views in the second space.
    routes : dict of (str, str) to list of dict of str to array
        Their predictions from the first, by route.
    """

    truth: dict[Edge, list[np.ndarray]]
    routes: dict[Edge, list[dict[str, np.ndarray]]]

    def losses(self, edge: Edge) -> dict[str, float]:
        """Return the squared error of each route that all folds have, as a share of the spread about zero."""
        total = sum(float(np.square(truth).sum()) for truth in self.truth[edge])
        return {
            route: sum(
                float(np.square(by_route[route] - truth).sum())
                for by_route, truth in zip(self.routes[edge], self.truth[edge], strict=True)
            )
            / total
            for route in self._common(edge)
        }

    def _common(self, edge: Edge) -> list[str]:
        return [r for r in (DIRECT, PATH, COMMON) if all(r in by_route for by_route in self.routes[edge])]

    def weights(self, edge: Edge) -> tuple[dict[str, float], float]:
        """Weigh the routes by non-negative least squares on held-out stimuli; and say which share they then explain."""
        names = self._common(edge)
        truth = np.concatenate([part.ravel() for part in self.truth[edge]])
        design = np.stack(
            [np.concatenate([by_route[name].ravel() for by_route in self.routes[edge]]) for name in names], axis=1
        )
        # The normal equations have the same solution and three rows.
        gram = design.T @ design
        root = np.linalg.cholesky(gram + 1e-12 * np.trace(gram) * np.eye(len(names)))
        weights = nnls(root.T, np.linalg.solve(root, design.T @ truth))[0]
        explained = 1 - float(np.square(truth - design @ weights).sum() / np.square(truth).sum())
        return dict(zip(names, map(float, weights), strict=True)), explained


def predict_held_out(
    views: Views, folds: Sequence[np.ndarray], n_dims: Sequence[int], method: str, aligner: Any, progress: bool
) -> dict[int, HeldOut]:
    """Predict every shared stimulus from and in each space that has seen it, by maps fitted without it.

    Parameters
    ----------
    views : Views
    folds : sequence of int array
        Stimuli held out together.
    n_dims : sequence of int
        Dimensions of the common space that are tried.
    method, aligner
        As in `fit_atlas`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict of int to HeldOut
    """
    counts = n_seen_in_both(views)
    out = {k: HeldOut({}, {}) for k in n_dims}
    seen = {name: views.of(name) for name in views.points}
    with progress_bar(total=len(folds) * len(n_dims), desc="common space", progress=progress) as bar:
        for fold in folds:
            kept = views.without(fold)
            direct: Atlas | None = None
            for k in n_dims:
                # Direct maps do not depend on the common space.
                atlas = fit_atlas(kept, k, method, aligner) if direct is None else _with_ends(kept, k, method, direct)
                direct = atlas
                for (a, b), count in counts.items():
                    held = fold[views.seen(a)[fold] & views.seen(b)[fold]]
                    if count < LEAST or not len(held):
                        continue
                    out[k].truth.setdefault((a, b), []).append(seen[b][held])
                    routes = {route: atlas.along(route, (a, b), seen[a][held]) for route in atlas.routes((a, b))}
                    out[k].routes.setdefault((a, b), []).append(routes)
                bar.update()
    return out


def _with_ends(views: Views, n_dims: int, method: str, atlas: Atlas) -> Atlas:
    if method == "procrustes":
        return atlas
    seen = {name: views.of(name) for name in views.points}
    return Atlas(fit_shared_response(seen, views.points, n_dims, _WHITENING[method]), atlas.direct, atlas.paths)
