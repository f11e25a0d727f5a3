"""Results do not depend on the units of the points: scaled data give scaled results, up to rounding."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings

from neurobridge import bridge
from neurobridge.bridge import (
    SOLVERS,
    BridgeWarning,
    Candidate,
    DenseCost,
    UntrustedAlignmentWarning,
    align_unpaired,
    anchor_distances,
    bridge_cost,
    couple,
    diagnose,
    fuse,
    kernel_map,
    ridge_map,
    self_train,
)
from neurobridge.bridge.cost.dense import linear_cost
from neurobridge.bridge.cost.metrics import METRICS
from tests.units import MESSAGE, PROTOCOL, SETTINGS, UNITS, check_every_callable_is_tried

FACTORS = [(1e-9, 1.0), (3.7e-5, 1e9), (1e-30, 1e30)]
rng = np.random.default_rng(0)
LATENTS = rng.normal(size=(60, 3))
X = LATENTS @ rng.normal(size=(3, 5)) + 0.1 * rng.normal(size=(60, 5))
Y = np.tanh(LATENTS @ rng.normal(size=(3, 4)))
PAIRS = np.arange(14), np.arange(14)


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("metric", [*METRICS, "geodesic"])
@pytest.mark.parametrize("options", [{}, {"nearest": 5}, {"reduce": "min"}], ids=["all", "nearest", "min"])
def test_of_bridge_costs_and_plans(factors, metric, options):
    results = []
    for a, b in ((1.0, 1.0), factors):
        cost = bridge_cost(a * X, b * Y, PAIRS, metric=metric, **options)
        if options.get("reduce") == "min":
            # Many paths over one pair are level: exact plans of the same cost.
            results.append((cost.dense(), couple(cost, method="exact").expected_cost()))
        else:
            results.append((cost.at(0.2).dense(), couple(cost, epsilon=0.2, tol=1e-9).dense()))
    for here, there in zip(*results, strict=True):
        # Shortest paths to the nearest anchors are kept in float32.
        np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-6 if metric == "geodesic" else 1e-9)


#: Powers with which unscaled distances follow the unit of the points.
POWERS = {"euclidean": 1, "sqeuclidean": 2, "cosine": 0, "correlation": 0, "geodesic": 1}


@pytest.mark.parametrize("metric", [*METRICS, "geodesic"])
@settings(max_examples=3, deadline=None)
@given(unit=UNITS)
def test_of_anchor_distances(metric, unit):
    for scale, power in (("mean", 0), ("median", 0), ("none", POWERS[metric])):
        here, there = (
            anchor_distances(f * X, PAIRS[0], metric=metric, scale=scale, n_neighbors=5).fitted for f in (1.0, unit)
        )
        np.testing.assert_allclose(there / unit**power, here, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", sorted({*SOLVERS} - {"factored"}))
@settings(max_examples=3, deadline=None)
@given(unit=UNITS)
def test_of_plans_of_a_matrix(method, unit):
    matrix = bridge_cost(X, Y, PAIRS, reduce="min").dense()[:20, :15]
    here, there = (
        couple(DenseCost(f * matrix, ([0, 1], [0, 1])), method=method, epsilon=0.5, tol=1e-9) for f in (1.0, unit)
    )
    # Many paths over one pair are level: exact plans of the same cost.
    assert there.expected_cost() / unit == pytest.approx(here.expected_cost(), rel=1e-6)
    if method != "exact":
        np.testing.assert_allclose(there.dense(), here.dense(), rtol=1e-5, atol=1e-9)


@settings(max_examples=3, deadline=None)
@given(of_x=UNITS, of_y=UNITS)
def test_of_what_a_coupling_gives(of_x, of_y):
    (here, *images), (there, *moved) = (
        (coupling, coupling.barycentric(g * Y) / g, coupling.map(f * X[:5], g * Y) / g)
        for f, g in ((1.0, 1.0), (of_x, of_y))
        for coupling in [couple(bridge_cost(f * X, g * Y, PAIRS), epsilon=0.2, tol=1e-9)]
    )
    np.testing.assert_allclose(moved[0], images[0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(moved[1], images[1], rtol=1e-6, atol=1e-9)
    assert there.entropy() == pytest.approx(here.entropy(), rel=1e-9)
    assert there.expected_cost() == pytest.approx(here.expected_cost(), rel=1e-6)


@pytest.mark.parametrize("factor", [1e-30, 1e-9, 1e9, 1e25])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "correlation"])
def test_of_costs_in_single_precision(factor, metric):
    small = X.astype(np.float32), Y.astype(np.float32)
    costs = [
        bridge_cost(small[0] * np.float32(f), small[1], PAIRS, metric=metric, reduce="min").dense() for f in (1, factor)
    ]
    np.testing.assert_allclose(costs[1], costs[0], rtol=1e-4, atol=1e-5)


def test_distances_beyond_single_precision_say_so():
    small = X.astype(np.float32), Y.astype(np.float32)
    with pytest.raises(ValueError, match=r"anchor distance.* 0\.0.*float64"):
        bridge_cost(small[0] * np.float32(1e-30), small[1], PAIRS, metric="sqeuclidean")


@pytest.mark.parametrize("factors", FACTORS)
def test_of_maps_of_pairs(factors):
    a, b = factors
    for fit in (ridge_map, lambda A, B: ridge_map(A, B, penalty="shared"), kernel_map):
        here, there = fit(X, Y), fit(a * X, b * Y)
        np.testing.assert_allclose(there(a * X) / b, here(X), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("minibatch_size", [None, 30])
def test_of_the_fused_bridge(factors, minibatch_size):
    a, b = factors
    options = {
        "n_rounds": (1,),
        "kernel_rounds": (0, 1),
        "lams": (0.9, 0.5),
        "epsilons": (0.05,),
        "n_folds": 2,
        "metric": "euclidean",
        "minibatch_size": minibatch_size,
    }
    here, there = (fuse(f * X, g * Y, PAIRS, **options) for f, g in ((1.0, 1.0), factors))
    assert there.candidate == here.candidate
    np.testing.assert_allclose(list(there.errors.values()), list(here.errors.values()), rtol=1e-3)
    np.testing.assert_allclose(there.map(a * X) / b, here.map(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(there.coupling.dense(), here.coupling.dense(), rtol=1e-2, atol=1e-7)
    np.testing.assert_allclose(there.coupling.cost.dense(), here.coupling.cost.dense(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("readout", ["barycentric", "linear", "mean"])
def test_of_a_single_candidate(readout):
    candidate = Candidate(lam=0.5, epsilon=0.05, n_rounds=2, readout=readout)
    maps = [fuse(f * X, Y, PAIRS, candidate=candidate).map(f * X) for f in (1.0, 1e-9)]
    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factors", FACTORS)
def test_of_the_linear_cost(factors):
    here, there = (linear_cost(f * X, g * Y, PAIRS).dense() for f, g in ((1.0, 1.0), factors))
    np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("scale", ["mean", "none"])
def test_of_the_diagnosis(factors, scale):
    reports = []
    for a, b in ((1.0, 1.0), factors):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BridgeWarning)
            cost = bridge_cost(a * X, b * Y, PAIRS, scale=scale)
            reports.append(diagnose(cost, X=a * X, Y=b * Y))
    for name in ("n_directions", "pair_rank", "outliers", "calibration", "overlap", "ridge_r2"):
        values = [np.asarray(getattr(report, name), dtype=float) for report in reports]
        np.testing.assert_allclose(values[1], values[0], rtol=1e-5, atol=1e-9, err_msg=name)
    # Without a scale, lengths keep the unit of the points.
    for side, unit in zip(("source", "target"), factors if scale == "none" else (1.0, 1.0), strict=True):
        here, there = (getattr(report, side) for report in reports)
        assert (there.reach / unit, there.beyond) == pytest.approx((here.reach, here.beyond))
        assert {name: value / unit for name, value in there.quantiles.items()} == pytest.approx(here.quantiles)
    assert reports[1].findings == reports[0].findings


@pytest.mark.parametrize("factors", FACTORS[1:2])
def test_of_an_alignment_without_pairs(factors):
    starts = []
    for a, b in ((1.0, 1.0), factors):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UntrustedAlignmentWarning)
            starts.append(align_unpaired(a * X[:24], b * Y[:24], n_restarts=2, n_null=1, max_rounds=1))
    here, there = starts
    np.testing.assert_array_equal(there.anchors, here.anchors)
    np.testing.assert_allclose(there.map(factors[0] * X) / factors[1], here.map(X), rtol=1e-3, atol=1e-4)
    for name in ("stability", "cycle", "distortions", "null_distortions"):
        assert getattr(there.trust, name) == pytest.approx(getattr(here.trust, name), rel=1e-4), name


@pytest.mark.parametrize("factors", FACTORS)
def test_of_a_self_trained_rotation(factors):
    a, b = factors
    here, there = (self_train(f * X, g * Y, PAIRS) for f, g in ((1.0, 1.0), factors))
    np.testing.assert_allclose(there.rotation, here.rotation, atol=1e-4)
    np.testing.assert_allclose(there.forward(a * X) / b, here.forward(X), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(there.backward(b * Y) / a, here.backward(Y), rtol=1e-3, atol=1e-4)


#: Public callables, with the property test of each.
TRIED = {
    "align_unpaired": test_of_an_alignment_without_pairs,
    "anchor_distances": test_of_anchor_distances,
    "bridge_cost": test_of_bridge_costs_and_plans,
    "couple": test_of_bridge_costs_and_plans,
    "Coupling": test_of_what_a_coupling_gives,
    "DenseCost": test_of_plans_of_a_matrix,
    "diagnose": test_of_the_diagnosis,
    "fuse": test_of_the_fused_bridge,
    "kernel_map": test_of_maps_of_pairs,
    "ridge_map": test_of_maps_of_pairs,
    "self_train": test_of_a_self_trained_rotation,
}
INSIDE = {
    "AnchorDistances": "anchor_distances",
    "BridgeCost": "bridge_cost",
    "Coverage": "diagnose",
    "Diagnostics": "diagnose",
    "FusedBridge": "fuse",
    "FusedCost": "fuse",
    "KernelMap": "kernel_map",
    "LinearMap": "ridge_map",
    "SelfTrainedMap": "self_train",
    "Trust": "align_unpaired",
    "UnpairedStart": "align_unpaired",
    "WrongPairs": "diagnose",
}
WITHOUT = {
    "Candidate": SETTINGS,
    "Cost": PROTOCOL,
    "CostEstimate": "holds seconds and bytes, not points",
    "Criterion": SETTINGS,
    "Geometry": SETTINGS,
    "estimate_cost": "takes sizes, not points",
    **{name: MESSAGE for name in dir(bridge) if name.endswith("Warning")},
}


def test_every_public_function_is_tried():
    check_every_callable_is_tried(bridge, tried=TRIED, inside=INSIDE, without=WITHOUT)
