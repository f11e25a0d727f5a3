"""The aligner of the bridge: cost, coupling and map in one."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Literal

import numpy as np

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.aligners.estimator import AlignerNotFittedError
from neurobridge.aligners.options import Map, check_options, read_labels
from neurobridge.aligners.partners import FusedMap, PartnerMap, partner_kernel_map
from neurobridge.aligners.representations import (
    ALL,
    Representation,
    in_units,
    layer_groups,
    read_columns,
    representations,
    weights_of_sides,
)
from neurobridge.aligners.spaces import DIRECTIONS, ENDS
from neurobridge.aligners.storage import same_value
from neurobridge.bridge import Coupling, Criterion, FusedBridge, Geometry, couple, fuse, ridge_map
from neurobridge.bridge.cost.dense import linear_cost
from neurobridge.bridge.cost.measured import measured_cost
from neurobridge.bridge.cost.metrics import Metric, Scale
from neurobridge.bridge.fused.candidate import describe_candidate
from neurobridge.bridge.fused.choosing.criteria import check_criterion, classify_with
from neurobridge.flow import Base, ConditionalFlow, Direction, OffSupportWarning
from neurobridge.flow.bases import PointMap
from neurobridge.points.arrays import Rows
from neurobridge.points.options import is_choice
from neurobridge.store.kinds import register


@register("bridge-aligner", version=2, upgrades={1: lambda state: {**state, "representation_": {}}})
class BridgeAligner(AssemblyAligner):
    """Align two spaces over a few labelled pairs: cost, coupling, map.

    1. Cost: distances inside each space to the paired points give the bridge cost (a soft minimum by default)
       ``C(x, y) = min_p [d_X(x, x_p) + d_Y(y_p, y)]`` (Gholamzadeh & Sajid 2025, arXiv 2505.12322).
    2. Coupling: optimal transport of all points under that cost, paired or not.
    3. Map: the mean partner, or the map that cross-validation chose beside it, moves fitted and new points; or a flow that is
       trained on the coupling, and starts there.

    Parameters
    ----------
    metric : str, callable, or a tuple of two
        Distance inside each space, or inside the source and inside the target: see `neurobridge.bridge.bridge_cost`.
    coupling : {"fused", "factored", "sinkhorn", "exact", "pairs"}
        "fused" joins the bridge cost with maps of the pairs, chosen by cross-validation over the pairs in both directions at
        once: see `neurobridge.bridge.fuse`. "pairs" is the paper's true alignment, the labelled pairs alone, and
        measures no distances; the others are its global alignment, transport of all points under the bridge cost.
    map : {"barycentric", "flow", "linear"}
        Where points go:

        - "barycentric", the default: to their mean partner. New points have one by the candidate that cross-validation chose
          under "fused", which may read the refitted map instead, and by the plan's own formula under "factored"; "sinkhorn",
          "exact" and "pairs" have no formula, and there kernel ridge regression from the source points to their mean partners
          (Seguy et al. 2018) moves all points, fitted ones too: see `neurobridge.aligners.partner_kernel_map`.
        - "flow": to the end of their path in a flow trained on the coupling; for sampling, inverting and generating.
        - "linear": to their image under the ridge map of the pairs, whatever the coupling.

        A fitted aligner may be switched from "flow" to the others by ``set_params``, and between those two.
    criterion : {"correlation", "error", "retrieval", "labels"}
        What the map of a fused coupling is chosen for, on held-out pairs: the correlation of single dimensions, the squared
        error, finding the partner among all points, or the label that ``classifier`` gives: see `neurobridge.bridge.fuse`.
    classifier : callable, or object with ``predict``, optional
        With ``criterion="labels"``: frozen, from target points in the units of the target, (n_points, n_target_dims), to labels.
    labels : str or array of shape (n_target,), optional
        With ``criterion="labels"``: the presentation coordinate of the target that holds the labels, or the label of every
        target row; only those of pairs are read.
    representation : str
        With ``coupling="fused"``: what is read of an assembly whose neuroids have several values of ``layer``, or of
        ``layer`` and ``pooling``.

        - "auto": the layers that predict the other space best, by cross-validation over the pairs under the criterion: one,
          the best few together, or all of them. "balanced" is what others have to beat by one standard error. See
          `neurobridge.aligners.representations.choose_representation`.
        - "balanced": all, each with a share of the variance proportional to the square root of its number of neuroids.
        - "equal": all, each with the same share.
        - "all": every neuroid alike, whatever its layer, as of arrays.
        - the name of a layer, or "layer/pooling": that one, of every side that has it.

        It is what a direction reads. What it gives is complete: `inverse_transform` returns all neuroids of the source,
        by a bridge of its own if `transform` reads some of its layers only.
    cost : {"bridge", "linear"}
        "linear" is an ablation, the cost of how far a map of the pairs misses, without any bridge. Under "fused" the two
        terms of the maps in the fused cost alone, under "sinkhorn" and "exact" ``|M x - y|^2`` over its mean, M ridge;
        the others have no such cost.
    epsilon : float, optional
        Temperature of the softmin and of the transport, in units of the mean anchor distance, .05 by default; of the
        transport alone, in units of the mean cost and .02 by default, with ``cost="linear"``. Under "fused" the one temperature
        that is tried, in units of the mean fused cost; by default cross-validation chooses among those of the criterion.
    unbalanced : float, optional
        Weight rho of the KL penalty on the marginals; None for balanced transport.
    reduce, scale, nearest, n_neighbors
        See `neurobridge.bridge.bridge_cost`.
    base : {"auto", "affine", "pad", "noise", "barycentric"}
        Where a flow starts: see `neurobridge.flow.ConditionalFlow`. "barycentric": at the image of ``map="barycentric"``,
        in both directions, so that the flow moves the cloud of these images onto the target's. "auto" is "barycentric" under
        ``coupling="fused"``, otherwise "affine".
    fuse_options : dict, optional
        Further arguments of `neurobridge.bridge.fuse`, e.g. ``minibatch_size`` and ``memory_limit`` for many points, or
        ``lams``; with ``coupling="fused"`` only.
    flow_options : dict, optional
        Further arguments of `neurobridge.flow.ConditionalFlow`, e.g. ``{"training": Training(n_steps=250)}``. A fifth of
        the coupling decides when training stops (``validation=0.2``) unless they give another share.
    support_quantile : float
        A mapped presentation is off the support if it is further from its nearest training point of that space than this
        quantile of the same distance among the training points.
    seed : int
        Of the folds, the kernel centres, the flow, and of the pairs when a fraction is given.
    device : str, optional
        Where distances are measured and flows are trained; None for "cpu".

    Attributes
    ----------
    coupling_ : Coupling
        With ``map="linear"``, and after loading, there is none.
    fused_ : dict of str to FusedBridge
        With ``coupling="fused"`` only: "forward" and "backward" name the same bridge, with the candidates that were chosen
        and the losses of all; or two, if a direction reads some layers only, and then that of "backward" is solved when it
        is first needed.
    representation_ : dict of str to Representation
        What is read of the "source" and of the "target", for those that have several layers, and the losses of everything
        that was compared.
    flow_ : ConditionalFlow
        Where the aligner was fitted with ``map="flow"``.
    maps_ : dict of str to callable
        The maps made so far that are read from the coupling or the pairs, e.g. "barycentric-forward", of points
        (n_points, n_source_dims) to (n_points, n_target_dims) in standard deviations.
    training_ : tuple
        Source and target points in standard deviations, and the pairs as rows; none after loading.
    pairs_ : Pairs, or tuple of two int arrays of shape (n_pairs,)
        The pairs used.

    Raises
    ------
    ValueError
        By `fit`: an unknown option, options that the chosen parts do not take, or labels that are not one a row of the target.

    Notes
    -----
    A saved aligner holds the map it was saved with, and cannot be switched to another after loading.

    References
    ----------
    Gholamzadeh & Sajid 2025, Model alignment using inter-modal bridges (arXiv 2505.12322).
    Seguy, Damodaran, Flamary, Courty, Rolet & Blondel 2018, Large-scale optimal transport and mapping estimation, ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge import BridgeAligner
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 3))
    >>> Y = X @ rng.normal(size=(3, 4))
    >>> aligner = BridgeAligner(coupling="factored", epsilon=0.2)
    >>> aligner.fit(X[:50], Y[:50], pairs=(np.arange(20), np.arange(20)))
    BridgeAligner(coupling='factored', epsilon=0.2)
    >>> aligner.transform(X[50:]).shape
    (10, 4)
    >>> aligner.coupling_.converged
    True
    """

    _warns = True

    def __init__(
        self,
        metric: Metric | tuple[Metric, Metric] = "geodesic",
        coupling: str = "fused",
        map: Map = "barycentric",
        *,
        criterion: Criterion = "correlation",
        classifier: Any = None,
        labels: Any = None,
        representation: str = "auto",
        cost: Literal["bridge", "linear"] = "bridge",
        epsilon: float | None = None,
        unbalanced: float | None = None,
        reduce: Literal["softmin", "min"] = "softmin",
        scale: Scale = "mean",
        nearest: int | None = None,
        n_neighbors: int = 10,
        base: Base | Literal["auto", "barycentric"] = "auto",
        fuse_options: dict[str, Any] | None = None,
        flow_options: dict[str, Any] | None = None,
        support_quantile: float = 0.99,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        self.metric = metric
        self.coupling = coupling
        self.map = map
        self.criterion = criterion
        self.classifier = classifier
        self.labels = labels
        self.representation = representation
        self.cost = cost
        self.epsilon = epsilon
        self.unbalanced = unbalanced
        self.reduce = reduce
        self.scale = scale
        self.nearest = nearest
        self.n_neighbors = n_neighbors
        self.base = base
        self.fuse_options = fuse_options
        self.flow_options = flow_options
        self.support_quantile = support_quantile
        self.seed = seed
        self.device = device

    @property
    def fused_(self) -> dict[str, FusedBridge]:
        """The fused bridges solved so far, by direction; none after loading, as their plans are not on disk."""
        if getattr(self, "training_", None) is None:
            return {}
        maps = {direction: self.maps_.get(_map_name("barycentric", direction)) for direction in DIRECTIONS}
        return {direction: made.bridge for direction, made in maps.items() if isinstance(made, FusedMap)}

    def _before_fit(self, source: Any, target: Any) -> None:
        """Read the layers of both sides, and the labels of the target."""
        sides = {"source": source, "target": target}
        self.groups_ = {} if is_choice(self.representation, (ALL,)) else layer_groups(sides)
        self.labels_ = read_labels(self.labels, target)

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: Rows) -> None:
        check_options(self)
        self.training_ = X, Y, rows
        self.maps_: dict[str, PointMap] = {}
        self.representation_: dict[str, Representation] = {}
        if self.map == "linear":
            self._make_maps()
            return
        # Before anything is solved: what the flow refuses is refused now.
        base = self._base()
        flow = self._make_flow(base if base != "barycentric" else "affine") if self.map == "flow" else None
        if self.coupling == "fused":
            self.representation_ = self._choose_representations()
            self._make_fused_map("forward")
            self.coupling_ = self.fused_["forward"].coupling
        else:
            self.coupling_ = self._couple(X, Y, rows)
        if flow is None:
            self._make_maps()
            return
        if base == "barycentric":
            flow = self._make_flow(tuple(self._map_of("barycentric", direction) for direction in DIRECTIONS))
        self.flow_ = flow.fit(X, Y, self.coupling_)

    def _base(self) -> Any:
        automatic = "barycentric" if self.coupling == "fused" else "affine"
        return automatic if is_choice(self.base, ("auto",)) and self.base else self.base

    def _make_flow(self, base: Any) -> ConditionalFlow:
        options = {"support_quantile": self.support_quantile, **(self.flow_options or {})}
        flow = ConditionalFlow(base, seed=self.seed, device=self.device, **options)
        flow.check_settings()
        return flow.set_params(training__validation=0.2) if flow.training.validation is None else flow

    def _couple(self, X: np.ndarray, Y: np.ndarray, rows: Rows) -> Coupling:
        if self.coupling == "pairs":
            return Coupling.of_pairs(rows, (len(X), len(Y)))
        if self.cost == "linear":
            epsilon = 0.02 if self.epsilon is None else self.epsilon
            return couple(linear_cost(X, Y, rows), method=self.coupling, epsilon=epsilon, unbalanced=self.unbalanced)
        geometry = Geometry(self.metric, self.scale, self.n_neighbors)
        cost = measured_cost(X, Y, rows, geometry, reduce=self.reduce, nearest=self.nearest, device=self.device)
        epsilon = 0.05 if self.epsilon is None else self.epsilon
        return couple(cost, method=self.coupling, epsilon=epsilon, unbalanced=self.unbalanced)

    def _choose_representations(self) -> dict[str, Representation]:
        X, Y, rows = self.training_
        labels = None if self.labels_ is None else self.labels_[rows[1]]
        check_criterion(self.criterion, self.classifier, labels, len(rows[0]))
        return representations(
            self.representation, self.groups_, {"source": X, "target": Y}, rows, self.criterion,
            {"source": self.source_scale_, "target": self.target_scale_},
            None if self.classifier is None else partial(classify_with, self.classifier), labels, seed=self.seed,
        )  # fmt: skip

    def _make_fused_map(self, direction: Direction) -> None:
        """Solve the fused bridge of a direction; it serves the other one as well, if that reads and gives the same layers."""
        weights = {each: weights_of_sides(self.groups_, self.representation_, *ENDS[each]) for each in DIRECTIONS}
        bridge = self._fuse(weights[direction])
        for each in DIRECTIONS:
            if each == direction or same_value(weights[each], weights[direction]):
                ends = (weights[each].get(role) for role in ENDS[each])
                self.maps_[_map_name("barycentric", each)] = FusedMap(bridge, each == "backward", *ends)

    def _fuse(self, weights: dict[str, np.ndarray]) -> FusedBridge:
        X, Y, rows = self.training_
        options: dict[str, Any] = {} if self.epsilon is None else {"epsilons": (self.epsilon,)}
        if self.cost == "linear":
            options["lams"] = (1.0,)
        source, target = weights.get("source"), weights.get("target")
        criterion = self.criterion
        if criterion == "labels" and target is not None and not target.all():
            # The bridge of the way back: the classifier reads all layers of the target, and chooses nothing there.
            criterion = "correlation"
        if self.labels_ is not None and criterion == self.criterion:
            options["labels"] = self.labels_[rows[1]]
        in_own_units = [
            partial(in_units, scale=scale, weights=factors)
            for scale, factors in ((self.source_scale_, source), (self.target_scale_, target))
        ]
        if self.classifier is not None and criterion == self.criterion:
            options["classifier"] = lambda images: classify_with(self.classifier, in_own_units[1](images))
        if criterion == "retrieval":
            options["sought_in"] = tuple(in_own_units)
        options |= self.fuse_options or {}
        return fuse(
            read_columns(X, source), read_columns(Y, target), rows, metric=self.metric, scale=self.scale,
            n_neighbors=self.n_neighbors, criterion=criterion, seed=self.seed, device=self.device, **options,
        )  # fmt: skip

    def _make_maps(self) -> None:
        # Under "fused" one is there, and the bridge of the way back, if it is another one, waits until it is needed.
        if self.map == "linear" or self.coupling != "fused":
            for direction in DIRECTIONS:
                self._map_of(self.map, direction)

    def _map_of(self, kind: Map, direction: Direction) -> PointMap:
        """Return one direction of a map that is read from the coupling or the pairs, made when first asked for."""
        name = _map_name(kind, direction)
        if name not in self.maps_:
            if getattr(self, "training_", None) is None:
                raise AlignerNotFittedError(
                    f"found map={kind!r} asked of an aligner that was saved with another; expected that one, as the "
                    "training points are not on disk. Mend: set it back, or fit again."
                )
            self.maps_[name] = self._make_map(kind, direction)
        return self.maps_[name]

    def _make_map(self, kind: Map, direction: Direction) -> PointMap:
        X, Y, rows = self.training_
        backward = direction == "backward"
        if backward:
            X, Y, rows = Y, X, rows[::-1]
        if kind == "linear":
            return ridge_map(X[rows[0]], Y[rows[1]], unit=1.0)
        if self.coupling == "fused":
            self._make_fused_map(direction)
            return self.maps_[_map_name(kind, direction)]
        coupling = self.coupling_.transposed() if backward else self.coupling_
        if self.coupling == "factored":
            return PartnerMap(coupling, Y)
        return partner_kernel_map(coupling, X, Y, seed=self.seed)

    def _maps_rows_alone(self) -> bool:
        # A sample of noise belongs to its row.
        return self.map != "flow" or self._base() != "noise"

    def _compares_directions_alone(self) -> bool:
        return self.criterion == "retrieval"

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self._transport(X, "forward")

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self._transport(Y, "backward")

    def _transport(self, points: np.ndarray, direction: Direction) -> np.ndarray:
        if self.map != "flow":
            return self._map_of(self.map, direction)(points)
        with warnings.catch_warnings():
            # `transform` warns of every map alike.
            warnings.simplefilter("ignore", OffSupportWarning)
            return self.flow_.transport(points, direction)

    def _is_served(self, name: str, fitted: Any, now: Any) -> bool:
        # A coupling serves every map that is read from it; a flow has to be trained.
        return name == "map" and (now == "linear" or (now == "barycentric" and fitted == "flow"))

    def _state_to_save(self) -> dict[str, Any]:
        """Return what the map needs; plans and training points stay behind."""
        left_out = ("flow_", "coupling_", "training_", "maps_", "labels_", "groups_")
        kept = {name: value for name, value in super()._state_to_save().items() if name not in left_out}
        if self.map == "flow":
            return kept | {"maps_": {}, "flow_": self.flow_}
        return kept | {"maps_": {_map_name(self.map, each): self._map_of(self.map, each) for each in DIRECTIONS}}

    def _facts(self) -> dict[str, Any]:
        facts = super()._facts()
        if hasattr(self, "coupling_"):
            facts["coupling converged"] = self.coupling_.converged
        for role, chosen in getattr(self, "representation_", {}).items():
            facts[f"read of the {role}"] = str(chosen)
        for direction, bridge in self.fused_.items():
            chosen = bridge.candidate if direction == "forward" else bridge.candidate_back
            facts[f"chosen, {direction}"] = "none" if chosen is None else describe_candidate(chosen)
        return facts


def _map_name(kind: Map, direction: Direction) -> str:
    return f"{kind}-{direction}"
