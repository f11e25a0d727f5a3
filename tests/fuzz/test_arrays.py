"""Plain arrays of every type into the rooms that take them: refused, or finite and equal to the same numbers as float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from neurobridge import aligners, bridge, flow, similarity
from tests.fuzz.campaign import Campaign, Refused, attempt
from tests.fuzz.strategies import Drawn, arrays

SHAPES = st.tuples(st.integers(0, 9), st.integers(0, 4)) | st.just((12, 2)) | st.sampled_from([(5,), (), (2, 3, 2)])
PAIRED = st.tuples(st.integers(6, 12), st.integers(1, 4))
TARGET = np.round(np.random.default_rng(7).normal(size=(12, 2)) * 16) / 16
Entrance = Callable[[Any, int], Any]
QUICK: dict[str, Any] = {
    "training": flow.Training(n_steps=3, width=8, depth=1, validation=0.0),
    "ode": flow.ODE(n_steps=2),
}


def _pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(min(n, 5))
    return rows, rows


def _numbers(value: Any) -> np.ndarray:
    """Numbers of a result, whatever type of array it is."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)


def _cost(X: Any, n: int) -> Any:
    return bridge.bridge_cost(X, TARGET, _pairs(n)).at(0.1).dense()


def _coupling(method: str, **options: Any) -> Entrance:
    def expected_cost(X: Any, n: int) -> Any:
        return bridge.couple(bridge.bridge_cost(X, TARGET, _pairs(n)), method=method, **options).expected_cost()

    return expected_cost


def _baseline(name: str) -> Entrance:
    def transform(X: Any, n: int) -> Any:
        return aligners.BASELINES[name]().fit(X, TARGET, pairs=_pairs(n)).transform(X)

    return transform


def _bridge_aligner(X: Any, n: int) -> Any:
    aligner = aligners.BridgeAligner(metric="euclidean", coupling="factored", map="barycentric", epsilon=0.1)
    return aligner.fit(X, TARGET, pairs=_pairs(n)).transform(X)


def _flow(X: Any, n: int) -> Any:
    coupling = bridge.Coupling.of_pairs((np.arange(n), np.arange(n)), (n, n))
    return flow.ConditionalFlow("affine", **QUICK).fit(X, TARGET[:n], coupling).transport(X)


#: Takes the drawn array and the number of its rows.
ENTRANCES: dict[str, Entrance] = {
    "bridge_cost": _cost,
    "couple factored": _coupling("factored", epsilon=0.1),
    "couple factored unbalanced": _coupling("factored", epsilon=0.1, unbalanced=1.0),
    "couple exact": _coupling("exact"),
    "couple sinkhorn": _coupling("sinkhorn", epsilon=0.1),
    "couple a matrix": lambda X, n: bridge.couple(X, method="exact").expected_cost(),
    "ridge_map": lambda X, n: bridge.ridge_map(X, TARGET[:n])(X),
    "kernel_map": lambda X, n: bridge.kernel_map(X, TARGET[:n])(X),
    "BridgeAligner": _bridge_aligner,
    "ConditionalFlow": _flow,
    "linear_cka": lambda X, n: similarity.linear_cka(X, TARGET[:n]),
    "procrustes_distance": lambda X, n: similarity.procrustes_distance(X, TARGET[:n]),
    "frechet_distance": lambda X, n: similarity.frechet_distance(X, TARGET),
    "mmd": lambda X, n: similarity.mmd(X, TARGET),
    "sliced_wasserstein": lambda X, n: similarity.sliced_wasserstein(X, TARGET),
    "compare_rdms": lambda X, n: similarity.compare_rdms(X, X),
    **{f"{name} aligner": _baseline(name) for name in sorted(aligners.BASELINES)},
}
# Of numbers that lie far outside the data's units, single precision leaves about this much.
TOLERANCE = 2e-3


@pytest.mark.parametrize("entrance", list(ENTRANCES))
def test_refused_or_equal_to_float64(campaign: Campaign, entrance: str) -> None:
    call = ENTRANCES[entrance]

    def check(drawn: Drawn) -> None:
        n_rows = len(drawn.plain) if drawn.plain.ndim else 0
        with attempt():
            result = _numbers(call(drawn.values, n_rows))
        assert np.isfinite(result).all(), f"accepted, with {np.sum(~np.isfinite(result))} numbers that are not finite"
        try:
            with attempt():
                plain = _numbers(call(drawn.plain, n_rows))
        except Refused as refusal:
            hypothesis.assume(drawn.form != "masked in places")
            raise AssertionError(f"accepted as {drawn.form}, refused as float64: {refusal}") from refusal
        assert result.shape == plain.shape
        assert drawn.form != "masked in places", "masked values were taken for values"
        scale = max(np.abs(plain).max(initial=0), 1e-12)
        np.testing.assert_allclose(result / scale, plain / scale, atol=TOLERANCE)

    campaign.run(f"arrays: {entrance}", arrays(SHAPES) | arrays(PAIRED), check)
