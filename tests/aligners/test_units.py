"""Aligners do not depend on the units of the points, nor, as flows and bridges, on the form that they come in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from scipy import sparse

from neurobridge import aligners
from neurobridge.aligners import BASELINES, BridgeAligner, partner_kernel_map
from neurobridge.bridge import Candidate, Coupling, bridge_cost, couple, fuse, kernel_map, ridge_map
from neurobridge.flow import ODE, ConditionalFlow, Training
from tests.units import MESSAGE, TYPE, UNITS, check_every_callable_is_tried

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 4))
Y = np.tanh(X @ rng.normal(size=(4, 3))) + 0.1 * rng.normal(size=(50, 3))
PAIRS = np.arange(20), np.arange(20)
FACTORS = [(1e-9, 1.0), (1.0, 1e9), (3.7e4, 1e-7)]
CANDIDATE = Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="linear")
FUSED = {"n_rounds": (1,), "kernel_rounds": (0,), "lams": (0.9,), "epsilons": (0.1,), "n_folds": 2}
ALIGNERS = {
    **BASELINES,
    "fused": lambda: BridgeAligner(map="barycentric", fuse_options=FUSED),
    "factored": lambda: BridgeAligner(map="barycentric", coupling="factored", epsilon=1.0),
    "linear": lambda: BridgeAligner(map="linear", fuse_options=FUSED),
    "exact": lambda: BridgeAligner(map="barycentric", coupling="exact"),
}


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("name", ALIGNERS)
def test_an_aligner_does_not_depend_on_units(name, factors):
    a, b = factors
    here, there = (ALIGNERS[name]().fit(f * X, g * Y, PAIRS) for f, g in ((1.0, 1.0), factors))
    np.testing.assert_allclose(there.transform(a * X) / b, here.transform(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(there.inverse_transform(b * Y) / a, here.inverse_transform(Y), rtol=1e-4, atol=1e-5)
    assert there.score(a * X, b * Y) == pytest.approx(here.score(X, Y), abs=1e-4)


@settings(max_examples=3, deadline=None)
@given(of_x=UNITS, of_y=UNITS)
def test_a_map_to_partners_does_not_depend_on_units(of_x, of_y):
    coupling = couple(bridge_cost(X, Y, PAIRS), epsilon=0.2)
    here, there = (partner_kernel_map(coupling, f * X, g * Y) for f, g in ((1.0, 1.0), (of_x, of_y)))
    np.testing.assert_allclose(there(of_x * X) / of_y, here(X), rtol=1e-5, atol=1e-6)


def test_every_public_function_is_tried():
    tried = {type(make()).__name__ for make in ALIGNERS.values()} | {"partner_kernel_map"}
    without = {
        "AlignerFileError": MESSAGE,
        "AlignerNotFittedError": MESSAGE,
        "Map": TYPE,
        "load": "gives back what was saved, bit by bit",
    }
    tried |= {"CommonSpace"}
    inside = {"AssemblyAligner": "RidgeAligner"}
    check_every_callable_is_tried(aligners, tried=tried, inside=inside, without=without)


def test_a_common_space_follows_units():
    A, B = np.asarray(X), np.asarray(X) @ np.linalg.qr(np.random.default_rng(3).normal(size=(X.shape[1],) * 2))[0]

    def carried(of_a: float, of_b: float) -> np.ndarray:
        space = aligners.CommonSpace(2).fit({"a": of_a * A, "b": of_b * B})
        return space.transform(of_a * A, source="a", target="b") / of_b

    np.testing.assert_allclose(carried(1e-9, 1e6), carried(1.0, 1.0), rtol=1e-5, atol=1e-7)


def flow():
    training = Training(n_steps=3, width=8, depth=1, progress=False)
    return ConditionalFlow(training=training, ode=ODE(method="euler"))


FORMS = {
    "frame": (pd.DataFrame, 0.0),
    "frame with a shuffled index": (lambda A: pd.DataFrame(A, index=np.arange(len(A))[::-1]), 0.0),
    "assembly": (xr.DataArray, 0.0),
    "list": (lambda A: A.tolist(), 0.0),
    "negative strides": (lambda A: A[::-1].copy()[::-1], 0.0),
    "fortran order": (np.asfortranarray, 0.0),
    "big endian": (lambda A: A.astype(">f8"), 0.0),
    "long double": (lambda A: A.astype(np.longdouble), 0.0),
    "objects": (lambda A: A.astype(object), 0.0),
    "masked, nothing under the mask": (np.ma.masked_array, 0.0),
    "tensor": (torch.tensor, 0.0),
    "read-only": (lambda A: np.frombuffer(A.tobytes()).reshape(A.shape), 0.0),
    "half": (lambda A: A.astype(np.float16), 0.02),
    "bfloat16": (lambda A: torch.tensor(A).bfloat16(), 0.2),
}


def results(A, B):
    """Results of the public functions on two clouds: those of flows, costs, plans and maps."""
    coupling = couple(bridge_cost(X, Y, PAIRS), epsilon=0.2)
    trained = flow().fit(A, B, coupling)
    return {
        "flow": trained.transport(A),
        "start": trained.start(A),
        "cost": bridge_cost(A, B, PAIRS, reduce="min").dense(),
        "partners": coupling.barycentric(B),
        "new points": coupling.map(A, B),
        "linear": ridge_map(A, B)(A),
        "fused": fuse(A, B, PAIRS, candidate=CANDIDATE).map(A),
        "kernel": kernel_map(A, B)(A),
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_points_gives_the_same_results(form):
    make, tolerance = FORMS[form]
    expected, other = results(X, Y), results(make(X), make(Y))
    for name, values in other.items():
        values = np.asarray(values.float() if isinstance(values, torch.Tensor) and tolerance else values, dtype=float)
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=max(5 * tolerance, 1e-6), err_msg=name)


REFUSED = {
    "complex": (lambda A: A + 1j * A, "complex128"),
    "complex tensor": (lambda A: torch.tensor(A + 1j * A), "complex128"),
    "sparse": (sparse.csr_matrix, "csr_matrix"),
    "text": (lambda A: A.astype(str), "real numbers"),
    "missing": (lambda A: np.where(np.eye(*A.shape) > 0, np.nan, A), "NaN"),
    "masked": (lambda A: np.ma.masked_array(A, mask=np.eye(*A.shape) > 0), "NaN"),
    "one dimension": (lambda A: A[:, 0], r"shape \(50,\)"),
}
ENTRANCES = {
    "bridge_cost": lambda A, B: bridge_cost(A, B, PAIRS),
    "fuse": lambda A, B: fuse(A, B, PAIRS),
    "ridge_map": ridge_map,
    "kernel_map": kernel_map,
    "flow": lambda A, B: flow().fit(A, B, Coupling.of_pairs(PAIRS, (50, 50))),
    "transport": lambda A, _: flow().fit(X, Y, Coupling.of_pairs(PAIRS, (50, 50))).transport(A),
    "aligner": lambda A, B: BASELINES["ridge"]().fit(A, B, PAIRS),
    "transform": lambda A, _: BASELINES["ridge"]().fit(X, Y, PAIRS).transform(A),
    "couple": lambda A, _: couple(A, method="exact"),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_cloud_of_real_numbers_is_refused_at_every_entrance(entrance, form):
    make, fact = REFUSED[form]
    with pytest.raises(ValueError, match=f"{fact}.*Mend"):
        ENTRANCES[entrance](make(X), make(Y))
