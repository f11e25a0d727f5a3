"""Flows do not depend on the units of the points; paths, losses and spreads follow them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from neurobridge import flow
from neurobridge.bridge import ridge_map
from neurobridge.flow import (
    BASES,
    ODE,
    SOLVERS,
    ConditionalFlow,
    Standardiser,
    Support,
    Training,
    flow_matching_loss,
    integrate,
    recouple,
    sample_path,
    squared_distance,
)
from tests.units import MESSAGE, PROTOCOL, SETTINGS, TYPE, UNITS, check_every_callable_is_tried

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 4))
Y = np.tanh(X @ rng.normal(size=(4, 3))) + 0.1 * rng.normal(size=(50, 3))
ENDS = torch.tensor(X), torch.tensor(X[::-1].copy())
FACTORS = [(1e-9, 1.0), (1.0, 1e9), (3.7e4, 1e-7)]


class Diagonal:
    """The coupling of each row with itself."""

    anchors = np.arange(20), np.arange(20)

    def sample(self, n, rng):
        rows = rng.integers(0, 20, n)
        return rows, rows


def fitted(base, X, Y):
    if base == "maps":
        base = ridge_map(X, Y), ridge_map(Y, X)
    training = Training(n_steps=3, width=8, depth=1, progress=False)
    return ConditionalFlow(base, training=training, ode=ODE(method="euler")).fit(X, Y, Diagonal())


@pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")
@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("base", [*BASES, "maps"])
def test_of_a_flow(base, factors):
    a, b = factors
    here, there = (fitted(base, f * X, g * Y) for f, g in ((1.0, 1.0), factors))
    np.testing.assert_allclose(there.transport(a * X) / b, here.transport(X), rtol=1e-3, atol=1e-3)
    back = [trained.transport(g * Y, "backward") for trained, g in ((here, 1.0), (there, b))]
    np.testing.assert_allclose(back[1] / a, back[0], rtol=1e-3, atol=1e-3)
    unit_of_start = a if base == "pad" else b
    np.testing.assert_allclose(there.start(a * X) / unit_of_start, here.start(X), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(there.off_support(b * Y), here.off_support(Y))
    if base == "noise":
        spreads = here.spread(X, n_samples=3), there.spread(a * X, n_samples=3)
        for name in ("mean", "std"):
            values, moved = (getattr(spread, name) for spread in spreads)
            np.testing.assert_allclose(moved / b, values, rtol=1e-3, atol=1e-3)


def drawn(x_0, x_1, unit):
    return sample_path(x_0, x_1, sigma=0.1 * unit, generator=torch.Generator().manual_seed(0))


def loss(x_0, x_1, unit):
    return flow_matching_loss(lambda t, x, condition: -x, drawn(x_0, x_1, unit), None)


#: Results of points and of one length beside them, with the power of the unit that they follow.
FOLLOWING = {
    "sample_path": (1, lambda *ends: torch.cat(drawn(*ends)[1:])),
    "flow_matching_loss": (2, loss),
    "squared_distance": (2, lambda x_0, x_1, unit: squared_distance(x_0, x_1)),
    "recouple": (0, lambda x_0, x_1, unit: recouple(x_0, x_1)),
    **{
        f"integrate {method}": (
            1,
            lambda x_0, x_1, unit, method=method: (
                integrate(lambda t, x: x_1 - t * x, x_0, method=method, n_steps=3, atol=1e-6 * unit).x
            ),
        )
        for method in SOLVERS
    },
    "Support": (1, lambda x_0, x_1, unit: Support.fit(x_0.numpy()).distance(x_1.numpy()[:5] + unit)),
    "Standardiser": (0, lambda x_0, x_1, unit: Standardiser.fit(x_0.numpy()).forward(x_1.numpy())),
}


@pytest.mark.parametrize("name", sorted(FOLLOWING))
@settings(max_examples=5, deadline=None)
@given(unit=UNITS)
def test_a_length_follows_its_unit(name, unit):
    power, measure = FOLLOWING[name]
    values, moved = (np.asarray(measure(*(f * end for end in ENDS), f), dtype=float) for f in (1.0, unit))
    np.testing.assert_allclose(moved / unit**power, values, rtol=1e-5, atol=1e-6)


def test_every_public_function_is_tried():
    without = {
        "Base": TYPE,
        "Direction": TYPE,
        "FlowFileError": MESSAGE,
        "FlowNotFittedError": MESSAGE,
        "ODE": SETTINGS + "; its tolerances are of standardised points",
        "OffSupportWarning": MESSAGE,
        "PairSampler": PROTOCOL,
        "Training": SETTINGS + "; its sigma is of standardised points",
        "default_size": SETTINGS,
    }
    inside = {
        "Integrated": "integrate",
        "PathSample": "sample_path",
        "Spread": "ConditionalFlow",
        "VelocityMLP": "ConditionalFlow",
    }
    tried = {name.split()[0] for name in FOLLOWING} | {"ConditionalFlow"}
    check_every_callable_is_tried(flow, tried=tried, inside=inside, without=without)
