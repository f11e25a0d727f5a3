"""How much each route counts: the dimension of the common space and the weights, chosen on held-out stimuli."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from neurobridge.aligners.common.routes import (
    COMMON,
    DIRECT,
    FEWEST,
    METHODS,
    PATH,
    Atlas,
    deal_folds,
    n_seen_in_both,
    predict_held_out,
)
from neurobridge.aligners.common.views import Edge, Views
from neurobridge.points.options import is_choice

TOGETHER = "together"
_MOST_DIMS = 64

Shares = dict[Edge, dict[str, float]]


class Weighed(NamedTuple):
    """What held-out stimuli say.

    Attributes
    ----------
    n_dims : int
        Dimensions of the common space with the least error over all spaces.
    weights : dict of (str, str) to dict of str to float
        Of every route, between spaces that have seen enough stimuli in common.
    explained : dict of (str, str) to dict of str to float
        Share of the variance that each route explains, and all "together".
    """

    n_dims: int
    weights: Shares
    explained: Shares


def check_parameters(space: Any) -> None:
    """Refuse parameters of a `CommonSpace` that are out of range.

    Raises
    ------
    ValueError
        Names the parameter and its value.
    """
    if not is_choice(space.method, METHODS):
        raise ValueError(f"found method {space.method!r}; expected one of {list(METHODS)}. Mend: choose one of them.")
    for name, least in (("n_dims", 1), ("n_folds", 2)):
        value = getattr(space, name)
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least
        if not whole and (name != "n_dims" or value is not None):
            raise ValueError(f"found {name}={value!r}; expected a whole number, at least {least}. Mend: leave it out.")
    if space.aligner is not None and space.method != "bridge":
        raise ValueError(
            f"found aligner={space.aligner!r} with method={space.method!r}, which has no direct maps; expected 'bridge'. "
            "Mend: leave it out."
        )
    if not 0 < space.support_quantile <= 1:
        raise ValueError(f"found support_quantile={space.support_quantile}; expected in (0, 1]. Mend: use 0.99.")


def weigh_routes(views: Views, space: Any, progress: bool) -> Weighed:
    """Choose the dimension of the common space, and weigh the routes.

    Parameters
    ----------
    views : Views
        In standard deviations.
    space : CommonSpace
        Read by the names of its parameters.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        More dimensions than the shared stimuli or the spaces allow.
    """
    folds = deal_folds(views, space.n_folds, space.seed)
    tried = _dims_tried(views, space.n_dims, len(folds), space.method)
    held_out = predict_held_out(views, folds, tried, space.method, space.aligner, progress)
    loss = {
        k: float(np.mean([held.losses(edge)[COMMON] for edge in held.truth])) if held.truth else 0.0
        for k, held in held_out.items()
    }
    n_dims = min(tried, key=loss.__getitem__)
    chosen, counts = held_out[n_dims], n_seen_in_both(views)
    weights, explained = {}, {}
    for edge in chosen.truth:
        if counts[edge] >= FEWEST:
            weights[edge], together = chosen.weights(edge)
            alone = {route: 1 - lost for route, lost in chosen.losses(edge).items()}
            explained[edge] = alone | {TOGETHER: together}
    return Weighed(n_dims, weights, explained)


def _dims_tried(views: Views, n_dims: int | None, n_folds: int, method: str) -> list[int]:
    most = views.n_stimuli - -(-views.n_stimuli // n_folds) - 1
    largest = max(values.shape[1] for values in views.points.values())
    if n_dims is not None:
        if n_dims > min(most, largest) and method != "procrustes":
            raise ValueError(
                f"found n_dims={n_dims} with {views.n_stimuli} shared stimuli and {largest} dimensions of the largest space; "
                f"expected at most {min(most, largest)}. Mend: leave it out, or pair more stimuli."
            )
        return [int(n_dims)]
    powers = [2**power for power in range(7) if 2**power <= min(largest, most // 2, _MOST_DIMS)]
    return [powers[-1]] if method == "procrustes" else powers[1:] or [1]


def complete_weights(weights: Shares, atlas: Atlas, edges: Mapping[Edge, int], method: str) -> Shares:
    """Give weights to the routes that nothing weighs as well; a baseline has one route, which is taken as it is."""
    if method != "bridge":
        return {edge: {COMMON: 1.0} for edge in edges}
    complete = {}
    for edge in edges:
        equal = dict.fromkeys(atlas.routes(edge), 1 / len(atlas.routes(edge)))
        complete[edge] = weights.get(edge) or _borrowed(edge, weights, atlas) or equal
    return complete


def _borrowed(edge: Edge, weights: Shares, atlas: Atlas) -> dict[str, float]:
    """Weigh a path against the common space as its steps are weighed; nothing where a direct map or no such step is."""
    paths = [(edge[0], *path, edge[1]) for path in atlas.paths.get(edge, ())]
    steps = [weights[step] for path in paths for step in pairwise(path) if step in weights]
    share = {PATH: sum(w.get(DIRECT, 0.0) for w in steps), COMMON: sum(w.get(COMMON, 0.0) for w in steps)}
    total = sum(share.values())
    if DIRECT in atlas.routes(edge) or not total > 0:
        return {}
    return {route: value / total for route, value in share.items()}
