"""Results print in one short line, and as a table in a notebook."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import torch

from neurobridge.bridge import (
    Coupling,
    DenseCost,
    Geometry,
    anchor_distances,
    bridge_cost,
    couple,
    kernel_map,
    ridge_map,
)
from neurobridge.bridge.cost.dense import linear_cost
from neurobridge.bridge.cost.distances import Anchors
from neurobridge.bridge.cost.distributed import ChunkedState
from neurobridge.bridge.cost.protocol import TransposedCost
from neurobridge.bridge.transport.solvers import Problem, Solution
from neurobridge.points.arrays import PointSource
from neurobridge.points.display import LIMIT, Displayed, html_repr, short_repr
from neurobridge.points.scale import Standardiser
from neurobridge.points.support import Support

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(600, 40)), RNG.normal(size=(500, 60))
PAIRS = (np.arange(80), np.arange(80))


def shown() -> dict[str, object]:
    cost = bridge_cost(X, Y, PAIRS, metric=("cosine", "geodesic")).at(0.1)
    near, streamed = bridge_cost(X, Y, PAIRS, nearest=5), bridge_cost(X, Y, PAIRS, stream=True)
    lazy = [da.from_array(side, chunks=(200, -1)) for side in (X, Y)]
    spread = bridge_cost(*lazy, PAIRS, distributed=True)
    factored = couple(near, epsilon=0.5)
    exact = couple(linear_cost(X, Y, PAIRS), method="exact")
    sinkhorn = couple(bridge_cost(X, Y, PAIRS), method="sinkhorn", epsilon=0.5)
    pinned = couple(bridge_cost(X, Y, PAIRS), epsilon=0.5, pinned=True)
    problem = Problem(cost, exact.a, exact.b, 0.1, 1.0, 1e-6, 10, 1e9)
    return {
        "BridgeCost": cost, "DenseCost": DenseCost(np.ones((300, 200)), PAIRS), "TransposedCost": TransposedCost(cost),
        "DenseFactor": cost.source_factor, "NearestFactor": near.source_factor, "StreamedFactor": streamed.source_factor,
        "DistributedFactor": spread.source_factor, "ChunkedState": ChunkedState((None,) * 40),
        "Anchors": Anchors.of(PAIRS[0]), "AnchorDistances": anchor_distances(torch.as_tensor(X), PAIRS[0]),
        "Geometry": Geometry(("cosine", "geodesic")), "Problem": problem, "Solution": Solution(exact.plan, 3, 1e-7),
        "Coupling": factored, "SparsePlan": exact.plan, "DensePlan": sinkhorn.plan, "FactoredPlan": factored.plan,
        "PinnedPlan": pinned.plan, "LinearMap": ridge_map(X[:80], Y[:80]), "KernelMap": kernel_map(X[:80], Y[:80]),
        "PointSource": PointSource.of(lazy[0], name="X"), "Standardiser": Standardiser.fit(X),
        "Support": Support.fit(X),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore::neurobridge.bridge.cost.graph.DisconnectedGraphWarning")
def test_every_result_prints_in_a_line():
    results = shown()
    for name, value in results.items():
        text = repr(value)
        assert text.startswith(f"{name}("), text
        assert len(text) <= LIMIT, text
        assert "\n" not in text
        assert "array" not in text.replace("from_array", "")
        if isinstance(value, Displayed):
            html = value._repr_html_()
            assert html.startswith(f"<table><caption>{name}</caption>")
            assert html.count("<tr>") == len(value._facts())
    assert repr(results["Coupling"]).startswith("Coupling(600 x 500, factored, converged in ")
    assert repr(Coupling.of_pairs(PAIRS, (90, 80))) == "Coupling(90 x 80, pairs, converged)"
    assert repr(results["BridgeCost"]) == (
        "BridgeCost(600 x 500, 80 pairs, cosine and geodesic, softmin, all distances, epsilon=0.1)"
    )


def test_all_displayed_classes_of_these_rooms_are_tried():
    def below(kind: type) -> set[str]:
        inner = {name for child in kind.__subclasses__() for name in below(child)}
        own = (
            {kind.__name__}
            if kind.__module__.startswith(("neurobridge.bridge.cost", "neurobridge.bridge.transport"))
            else set()
        )
        return inner | own

    assert below(Displayed) - {"Factor"} <= set(shown())


def test_long_facts_are_cut_and_text_is_escaped():
    assert len(short_repr("Long", *["x" * 90] * 10, values=list(range(100)))) <= LIMIT
    assert "&lt;b&gt;" in html_repr("Name", {"<b>": 1})
