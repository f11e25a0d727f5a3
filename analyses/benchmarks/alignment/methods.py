"""The methods of the table by name: settings of `BridgeAligner`, baselines, and controls.

A method whose class or parameters this version of the package does not have is not in the registry.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from analyses.benchmarks.alignment.draws import Criterion, Draw
from neurobridge.aligners import BASELINES, BridgeAligner
from neurobridge.bridge import align_unpaired, fuse, kernel_map
from neurobridge.points.scale import Standardiser
from neurobridge.study.methods import BRIDGES

CRITERIA: tuple[Criterion, ...] = ("correlation", "retrieval", "labels", "error")
#: The criterion that `BridgeAligner` has by default.
DEFAULT_CRITERION: Criterion = "correlation"


class Images(NamedTuple):
    """Images of the held-out points of a draw, in the units of its spaces, and what was chosen on the way to them."""

    forward: np.ndarray
    backward: np.ndarray | None = None
    chosen: str = ""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method of the table.

    Attributes
    ----------
    run : callable
        ``run(draw) -> Images``: fits on the pools and pairs of a draw, and maps its held-out points.
    ours : bool
        A method of this package, not a baseline or control.
    control : bool
        A null of the whole fit, which no method is compared with.
    paired : bool
        Needs pairs; the others run where there is none.
    sets : tuple of str, optional
        Sets without size that it runs on; None for all.
    criterion : str, optional
        What the settings of ours are chosen by.
    """

    run: Callable[[Draw], Images]
    ours: bool = False
    control: bool = False
    paired: bool = True
    sets: tuple[str, ...] | None = None
    criterion: Criterion | None = None

    def runs_on(self, draw_set: str, n_pairs: int, criteria: set[Criterion]) -> bool:
        """Return whether the method has a cell: a criterion is tried where a measure goes with it."""
        fits_criterion = self.criterion in (None, DEFAULT_CRITERION) or self.criterion in criteria
        fits_set = self.sets is None or draw_set.partition("@")[0] in self.sets
        return fits_criterion and fits_set and self.paired == (n_pairs > 0)


def from_aligner(make: Callable[[Draw], Any]) -> Callable[[Draw], Images]:
    """Make the run of an aligner on plain arrays."""

    def run(draw: Draw) -> Images:
        aligner = make(draw).fit(draw.source, draw.target, draw.pairs)
        backward = aligner.inverse_transform(draw.target_test) if draw.both_ways else None
        forward = aligner.transform(draw.source_test)
        bridges = getattr(aligner, "fused_", {})
        chosen = "; ".join(f"{direction}: {fused.candidate}" for direction, fused in bridges.items())
        return Images(forward, backward, chosen)

    return run


def bridge(settings: dict[str, Any], criterion: Criterion | None = None) -> Callable[[Draw], Images]:
    """Make the run of a `BridgeAligner`."""
    return from_aligner(lambda draw: BridgeAligner(**settings, **criterion_options(draw, criterion), seed=draw.seed))


def criterion_options(draw: Draw, criterion: Criterion | None) -> dict[str, Any]:
    """Return the options of a `BridgeAligner`; a frozen readout and the classes of the pairs go with "labels"."""
    options: dict[str, Any] = {} if criterion in (None, DEFAULT_CRITERION) else {"criterion": criterion}
    if criterion == "labels":
        assert draw.labels is not None
        # Of the other rows nothing is read.
        labels = np.full(len(draw.target), draw.labels[0])
        labels[draw.pairs[1]] = draw.labels
        options |= {"classifier": draw.classifier, "labels": labels}
    return options


def fuse_on_arrays(draw: Draw) -> Images:
    """Run `fuse` on the points as they are, one unit a space: `BridgeAligner` divides each dimension by its spread."""
    forward = fuse(draw.source, draw.target, draw.pairs, seed=draw.seed)
    backward = forward.map_back(draw.target_test) if draw.both_ways else None
    return Images(forward.map(draw.source_test), backward, str(forward.candidate))


def kernel_ridge(draw: Draw) -> Images:
    """Run kernel ridge of the pairs, on dimensions in standard deviations."""

    def moved(X: np.ndarray, Y: np.ndarray, rows: Any, test: np.ndarray) -> np.ndarray:
        of_x, of_y = Standardiser.fit(X), Standardiser.fit(Y)
        fitted = kernel_map(of_x.forward(X[rows[0]]), of_y.forward(Y[rows[1]]))
        return np.asarray(of_y.backward(fitted(of_x.forward(test))))

    forward = moved(draw.source, draw.target, draw.pairs, draw.source_test)
    backward = moved(draw.target, draw.source, draw.pairs[::-1], draw.target_test) if draw.both_ways else None
    return Images(forward, backward)


def unpaired(draw: Draw) -> Images:
    """Run `align_unpaired` on both pools, without a pair."""
    start = align_unpaired(draw.source, draw.target, seed=draw.seed)
    return Images(start.map(draw.source_test), chosen=f"trustworthy: {start.trustworthy}")


def mixed_pairs(draw: Draw) -> Images:
    """Run ridge on pairs whose partners were permuted: what a whole fit makes of wrong pairs."""
    order = np.random.default_rng([draw.seed, 23]).permutation(draw.n_pairs)
    mixed = replace(draw, pairs=(draw.pairs[0], draw.pairs[1][order]))
    return from_aligner(partial(_seeded, BASELINES["ridge"]))(mixed)


def _seeded(aligner: Callable[..., Any], draw: Draw) -> Any:
    return aligner(seed=draw.seed)


def registry() -> dict[str, Method]:
    """Return all methods that this version of the package has, ours first."""
    # "barycentric" is said, as the default map of version 0.1 is "flow".
    methods = {"fused": Method(run=bridge(BRIDGES["fused"]), ours=True, criterion=DEFAULT_CRITERION)}
    if "criterion" in inspect.signature(BridgeAligner).parameters:
        methods |= {
            f"fused, {criterion}": Method(run=bridge(BRIDGES["fused"], criterion), ours=True, criterion=criterion)
            for criterion in CRITERIA
            if criterion != DEFAULT_CRITERION
        }
    for name in ("fused-flow", "bridge", "unbalanced"):
        methods[name] = Method(run=bridge(BRIDGES[name]), ours=True)
    methods["fuse on arrays"] = Method(run=fuse_on_arrays, ours=True, sets=("mnist", "things", "things-shared"))
    methods["unpaired"] = Method(run=unpaired, ours=True, paired=False)
    for name, baseline in BASELINES.items():
        methods[name] = Method(run=from_aligner(partial(_seeded, baseline)))
    methods["kernel ridge"] = Method(run=kernel_ridge)
    methods["ridge, mixed pairs"] = Method(run=mixed_pairs, control=True)
    return methods
