"""What surrounds the choice of a candidate: the points it rests on, and the maps that it leads to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from neurobridge.bridge.average import average_maps
from neurobridge.bridge.cost.measured import measured_cost
from neurobridge.bridge.cost.metrics import Geometry
from neurobridge.bridge.fused.candidate import (
    AVERAGE,
    AVERAGED,
    KERNEL_RIDGE,
    ORTHOGONAL,
    RELATIVE,
    RIDGE,
    SELF_TRAINED,
    SPECTRAL,
    WHITENED,
    Candidate,
)
from neurobridge.bridge.fused.choosing.criteria import Held, classify_with
from neurobridge.bridge.fused.choosing.folds import some_rows
from neurobridge.bridge.fused.choosing.ledger import whitened_settings
from neurobridge.bridge.fused.cost import AnyMap, FusedProblem
from neurobridge.bridge.fused.result import FusedBridge
from neurobridge.bridge.fused.solving.clouds import Cloud
from neurobridge.bridge.fused.solving.families import CloudProblem, OrthogonalFamily
from neurobridge.bridge.fused.states import State, points_map
from neurobridge.bridge.selftrained import self_train
from neurobridge.maps.kernel import kernel_map
from neurobridge.maps.linear import LinearMap
from neurobridge.maps.relative import relative_map
from neurobridge.maps.spectral import spectral_map
from neurobridge.maps.whitening import WhitenedDesign

# Candidates are compared on a random part of more points than this a side.
_MOST_POINTS = 10_000
# And maps of the pairs alone learn from a random part of more points than this a side.
_MOST_MAPPED = 50_000
# Among so many unpaired points the partner of a held-out point has to be found.
_N_OTHERS = 1000
_SPREAD_POINTS = 2000


def choosing_problem(problem: FusedProblem, clouds: CloudProblem | None, geometry: Geometry, seed: int) -> CloudProblem:
    """Return the problem on which candidates are compared: all points, or all pairs among a random part."""
    if clouds is not None and max(len(problem.X), len(problem.Y)) <= _MOST_POINTS:
        return clouds
    part = _part(problem, _MOST_POINTS, seed)
    if part.cost.n_anchors < len(part.rows[0]):
        # Pairs are left out of folds with their anchors, so that each has one here.
        X, Y = (side.astype(whole.dtype) for side, whole in ((part.X, problem.X), (part.Y, problem.Y)))
        part = replace(part, cost=measured_cost(X, Y, part.rows, geometry, device=part.cost.source_factor.device))
    return CloudProblem.of(part, seed)


def _part(problem: FusedProblem, n_points: int, seed: int) -> FusedProblem:
    """Keep all pairs among a random part of both clouds."""
    rng = np.random.default_rng(seed)
    kept = [
        some_rows(len(points), paired, len(np.unique(paired)) + n_points, rng)
        for points, paired in zip((problem.X, problem.Y), problem.rows, strict=True)
    ]
    return problem.subset(*kept)


def held_pairs(
    problem: CloudProblem, classifier: Any, labels: np.ndarray | None, sought_in: tuple[Any, Any] | None
) -> tuple[Held, Held]:
    """Return what predictions of target points and of source points are compared with, in the axes of the clouds."""
    spaces = (None, None) if sought_in is None else sought_in
    if not (
        isinstance(spaces, Sequence) and len(spaces) == 2 and all(each is None or callable(each) for each in spaces)
    ):
        raise ValueError(
            f"found sought_in={sought_in!r:.60}; expected two functions, from points of either space to points to search among, "
            "or None. Mend: leave it out."
        )
    sides = [
        held_side(cloud, rows.cpu().numpy(), space)
        for cloud, rows, space in (
            (problem.target, problem.rows[1], spaces[1]),
            (problem.source, problem.rows[0], spaces[0]),
        )
    ]
    if labels is None:
        return sides[0], sides[1]
    return replace(sides[0], classify=partial(classify_with, classifier), labels=labels), sides[1]


def held_side(cloud: Cloud, paired: np.ndarray, sought_in: Callable[[np.ndarray], np.ndarray] | None = None) -> Held:
    """Return what predictions of the paired points of a cloud are compared with; ``paired`` are their rows."""
    points = cloud.coordinates.double().cpu().numpy()
    others = np.setdiff1d(np.arange(len(points)), paired)[:_N_OTHERS]
    return Held(points[paired], points[others], cloud.axes * cloud.unit, cloud.centre, sought_in)


def forward_maps(
    chosen: Candidate, problem: FusedProblem, clouds: CloudProblem | None, state: State, seed: int
) -> tuple[LinearMap, AnyMap]:
    """Return the linear map, and the map of the readout: of the pairs, or refitted on the last images."""
    mapping = _pair_map(chosen, problem, clouds, seed, backward=False)
    if isinstance(mapping, LinearMap):
        return mapping, mapping
    linear = (
        state.forward if isinstance(state.forward, LinearMap) else problem.ridge_forward(state.problem.X, state.images)
    )
    return linear, mapping or (state.forward if chosen.kernel_rounds else linear)


def backward_map(
    chosen: Candidate, problem: FusedProblem, clouds: CloudProblem | None, state: State, seed: int
) -> AnyMap:
    """Return the map of the backward readout: of the pairs, or refitted on the last images."""
    return _pair_map(chosen, problem, clouds, seed, backward=True) or state.backward


def _pair_map(
    chosen: Candidate, problem: FusedProblem, clouds: CloudProblem | None, seed: int, *, backward: bool
) -> AnyMap | None:
    """Fit a map of the pairs alone, in the units of the points; None for a candidate with a plan."""
    if chosen.n_rounds:
        return None
    if clouds is None and max(len(problem.X), len(problem.Y)) > _MOST_MAPPED:
        problem = _part(problem, _MOST_MAPPED, seed)
    (X, Y), (i, j) = (problem.X, problem.Y), problem.rows
    if backward:
        (X, Y), (i, j) = (Y, X), (j, i)
    fit_ridge = problem.ridge_backward if backward else problem.ridge_forward

    def turned() -> AnyMap:
        whole = CloudProblem.of(problem, seed) if clouds is None else clouds
        maps = OrthogonalFamily(whole).start()
        mapping = maps.backward if backward else maps.forward
        return points_map(mapping, *((whole.target, whole.source) if backward else (whole.source, whole.target)))

    def whitened() -> AnyMap:
        design = WhitenedDesign(X, Y)
        return design.map(X[i], Y[j], whitened_settings(design, X[i], Y[j], seed))

    def averaged() -> AnyMap:
        return average_maps([fits[replace(RIDGE, map=family)]() for family in AVERAGED], X, seed=seed)

    fits: dict[Candidate, Callable[[], AnyMap]] = {
        RIDGE: lambda: fit_ridge(X[i], Y[j]),
        KERNEL_RIDGE: lambda: kernel_map(X[i], Y[j], seed=seed),
        ORTHOGONAL: turned,
        WHITENED: whitened,
        SPECTRAL: lambda: spectral_map(X[i], Y[j], source_points=X, seed=seed),
        RELATIVE: lambda: relative_map(X, Y, (i, j), seed=seed),
        AVERAGE: averaged,
        SELF_TRAINED: lambda: self_train(X, Y, (i, j), seed=seed).forward,
    }
    return fits[chosen]() if chosen in fits else None


def with_spreads(bridge: FusedBridge, held_out: tuple[float, float] | None) -> FusedBridge:
    """Let images spread as far from the centre of their space as its points do.

    A map that is fitted by squared errors shrinks what it is unsure of towards the centre. For nearest neighbours by the cosine
    from another origin than the centre, as between embeddings of unit length, these images are all alike.

    Parameters
    ----------
    bridge : FusedBridge
    held_out : tuple of two float or None
        The factors of held-out predictions; where nothing was held out, those of the images of the fitted points.
    """
    if held_out is not None:
        return replace(bridge, spreads=held_out)
    problem = bridge._states[0].problem
    spreads = []
    for given, points, mapping in ((problem.X, problem.Y, bridge.map), (problem.Y, problem.X, bridge.map_back)):
        centre = points.mean(axis=0)
        step = max(1, len(given) // _SPREAD_POINTS)
        length = np.sqrt(np.square(np.asarray(mapping(given[::step])) - centre).sum(axis=1).mean())
        spreads.append(float(np.sqrt(np.square(points - centre).sum(axis=1).mean()) / length) if length > 0 else 1.0)
    return replace(bridge, spreads=(spreads[0], spreads[1]))
