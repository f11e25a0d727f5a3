"""Plain arrays of every type into the rooms that take them: refused, or finite and equal to the same numbers as float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from neurobridge import aligners, bridge, decoding, evaluate, flow, similarity
from tests.fuzz.campaign import Campaign, Refused, attempt
from tests.fuzz.strategies import Drawn, arrays

SHAPES = st.tuples(st.integers(0, 9), st.integers(0, 4)) | st.just((12, 2)) | st.sampled_from([(5,), (), (2, 3, 2)])
LARGE = st.tuples(st.integers(20, 24), st.integers(1, 3))
#: Those that refuse a dozen points.
OF_MANY_POINTS = {"bridge.align_unpaired"}
PAIRED = st.tuples(st.integers(6, 12), st.integers(1, 4))
#: Attributes that every Score has.
ATTRS = {
    "metric": "r",
    "splits": "given",
    "n_stimuli": 9,
    "n_splits": 1,
    "n_permutations": 0,
    "seed": 0,
    "digests": "{}",
    "version": "0",
}
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


def _partner_map(X: Any, n: int) -> Any:
    coupling = bridge.couple(bridge.bridge_cost(X, TARGET, _pairs(n)), epsilon=0.1)
    return aligners.partner_kernel_map(coupling, X, TARGET)(X)


def _flow(X: Any, n: int) -> Any:
    coupling = bridge.Coupling.of_pairs((np.arange(n), np.arange(n)), (n, n))
    return flow.ConditionalFlow("affine", **QUICK).fit(X, TARGET[:n], coupling).transport(X)


def _fused(X: Any, n: int) -> Any:
    options: dict[str, Any] = {"lams": (0.5,), "epsilons": (0.1,), "n_rounds": (1,), "kernel_rounds": (0,)}
    fused = bridge.fuse(X, TARGET, _pairs(n), metric="euclidean", **options)
    assert fused.coupling.converged is (fused.coupling.marginal_error <= 1e-3)
    return fused.map(X)


def _unpaired(X: Any, n: int) -> Any:
    small: dict[str, Any] = {"n_anchors": 4, "n_restarts": 2, "n_null": 1, "max_rounds": 1, "n_neighbors": 3}
    start = bridge.align_unpaired(X, np.vstack([TARGET, TARGET[::-1] + 1.0]), **small)
    assert all(len(set(rows.tolist())) == len(rows) for rows in start.anchors), "an anchor is in two pairs"
    assert ((start.confidence > 0) & (start.confidence <= 1)).all()
    return start.map(X)


def _diagnosed(X: Any, n: int) -> Any:
    cost = bridge.bridge_cost(X, TARGET, _pairs(n))
    coupling = bridge.couple(cost, epsilon=0.1)
    facts = bridge.diagnose(cost, coupling, X=X, Y=TARGET, n_permutations=19, warn=False).to_dict()
    # None stands for what is not defined with so few points.
    return [
        facts["n_directions"] or 0.0,
        facts["loo_rank"] or 0.0,
        *(facts[side]["reach"] for side in ("source", "target")),
    ]


def _read_coupling(X: Any, n: int) -> Any:
    coupling = bridge.couple(bridge.bridge_cost(X, TARGET, _pairs(n)), epsilon=0.1)
    rows, columns = coupling.sample(5, np.random.default_rng(0))
    assert max(rows, default=0) < n
    assert max(columns, default=0) < len(TARGET)
    plan = _numbers(coupling.dense())
    assert (plan >= 0).all()
    np.testing.assert_allclose(plan.sum(), 1, atol=1e-5)
    np.testing.assert_allclose(plan, _numbers(coupling.transposed().dense()).T, atol=1e-7)
    return np.concatenate([_numbers(coupling.barycentric(TARGET)).ravel(), [coupling.entropy()]])


def _anchor_distances(X: Any, n: int) -> Any:
    distances = _numbers(bridge.anchor_distances(X, _pairs(n)[0]).fitted)
    assert (distances >= 0).all()
    return distances


def _support(X: Any, n: int) -> Any:
    support = flow.Support.fit(X)
    return [support.radius, support.extent, *support.distance(support.points)]


def _tensor(X: Any) -> Any:
    """Turn plain float64 into the tensor that is asked for; all other forms stay what they are.

    Tensors are computed with in their own precision and unchecked: short ones and those beyond the squares of float64 are not
    drawn here.
    """
    if isinstance(X, torch.Tensor):
        hypothesis.assume(X.dtype.itemsize > 2)
    if isinstance(X, (torch.Tensor, np.ndarray)) and getattr(X, "dtype", None) in (
        torch.float64,
        torch.float32,
        np.dtype("f8"),
    ):
        hypothesis.assume(bool((abs(X) < 1e15).all()))
    plain = type(X) is np.ndarray and X.dtype == np.dtype("f8") and X.dtype.isnative and min(X.strides, default=0) >= 0
    return torch.tensor(X) if plain else X


def _path(X: Any, n: int) -> Any:
    return flow.sample_path(_tensor(X), _tensor(X), generator=torch.Generator().manual_seed(0)).x_t


def _loss(X: Any, n: int) -> Any:
    sample = flow.sample_path(_tensor(X), _tensor(TARGET[:n]), generator=torch.Generator().manual_seed(0))
    assert float(flow.flow_matching_loss(lambda t, x, c: sample.dx_t, sample, None)) == 0
    return flow.flow_matching_loss(lambda t, x, c: 0 * x, sample, None)


def _recoupled(x_0: Any, n: int) -> Any:
    order = _numbers(flow.recouple(_tensor(x_0), _tensor(x_0))).astype(int)
    assert sorted(order.tolist()) == list(range(n)), "an assignment is a permutation"
    # Of a cloud with itself no point moves.
    return np.linalg.norm(_numbers(_tensor(x_0))[order] - _numbers(_tensor(x_0)))


def _choices_of_trials(X: Any, n: int) -> Any:
    table = decoding.tabulate_choices(np.arange(n), X, X)
    np.testing.assert_allclose(table.values.sum(axis=1), 1)
    return decoding.confusion(table).values


#: Takes the drawn array and the number of its rows; named after what is called.
OF_ALL_NUMBERS: dict[str, Entrance] = {
    "bridge.bridge_cost": _cost,
    "bridge.anchor_distances": _anchor_distances,
    "bridge.DenseCost": lambda X, n: bridge.DenseCost(X).transposed().dense(),
    "bridge.couple factored": _coupling("factored", epsilon=0.1),
    "bridge.couple factored unbalanced": _coupling("factored", epsilon=0.1, unbalanced=1.0),
    "bridge.couple exact": _coupling("exact"),
    "bridge.couple sinkhorn": _coupling("sinkhorn", epsilon=0.1),
    "bridge.couple a matrix": lambda X, n: bridge.couple(X, method="exact").expected_cost(),
    "bridge.Coupling read": _read_coupling,
    "bridge.fuse": _fused,
    "bridge.align_unpaired": _unpaired,
    "bridge.self_train": lambda X, n: bridge.self_train(X, TARGET, _pairs(n), n_rounds=2, n_neighbors=2).forward(X),
    "bridge.diagnose": _diagnosed,
    "bridge.ridge_map": lambda X, n: bridge.ridge_map(X, TARGET[:n])(X),
    "bridge.kernel_map": lambda X, n: bridge.kernel_map(X, TARGET[:n])(X),
    "aligners.partner_kernel_map": _partner_map,
    "aligners.BridgeAligner": _bridge_aligner,
    "aligners.CommonSpace": lambda X, n: (
        aligners.CommonSpace(1, n_folds=2).fit({"a": X, "b": TARGET}, {("a", "b"): _pairs(n)}).transform(X, "a", "b")
    ),
    "flow.ConditionalFlow": _flow,
    "flow.Standardiser": lambda X, n: flow.Standardiser.fit(X).forward(TARGET[:, :1]),
    "flow.Support": _support,
    "flow.flow_matching_loss": _loss,
    "flow.recouple": _recoupled,
    "flow.squared_distance": lambda X, n: flow.squared_distance(_tensor(X), _tensor(X))[:, :1],
    "flow.integrate": lambda X, n: flow.integrate(lambda t, x: -x, _tensor(X), n_steps=2).x,
    "similarity.linear_cka": lambda X, n: similarity.linear_cka(X, TARGET[:n]),
    "similarity.procrustes_distance": lambda X, n: similarity.procrustes_distance(X, TARGET[:n]),
    "similarity.frechet_distance": lambda X, n: similarity.frechet_distance(X, TARGET),
    "similarity.mmd": lambda X, n: similarity.mmd(X, TARGET),
    "similarity.sliced_wasserstein": lambda X, n: similarity.sliced_wasserstein(X, TARGET),
    "similarity.compare_rdms": lambda X, n: similarity.compare_rdms(X, X),
    "similarity.compare_rsa_models": lambda X, n: (
        similarity.compare_rsa_models({"m": X}, {"a": X, "b": X}, comparator="cosine", n_bootstrap=20)["raw"].values
    ),
    "similarity.rdm_noise_ceiling": lambda X, n: similarity.rdm_noise_ceiling(X),
    "decoding.consistency": lambda X, n: decoding.consistency((X, X), (X, X), n_permutations=5)["raw"].values,
    "decoding.tabulate_choices": _choices_of_trials,
    **{f"aligners.{cls.__name__}": _baseline(name) for name, cls in sorted(aligners.BASELINES.items())},
}
#: A value for each number, NaN for one that is missing.
ELEMENTWISE: dict[str, Entrance] = {
    "flow.sample_path": _path,
    "evaluate.spearman_brown": lambda X, n: evaluate.spearman_brown(X),
    "decoding.dprime": lambda X, n: decoding.dprime(X, 0.5, cap=9.0),
    "evaluate.make_score": lambda X, n: evaluate.make_score(X, ("a", "b"), attrs=ATTRS)["raw"].values,
}
#: Those that document that missing values are left out.
LEAVES_OUT_MISSING = {"decoding.consistency"}
ENTRANCES = {**OF_ALL_NUMBERS, **ELEMENTWISE}
MASKED = ("masked", "masked in places")
# Of numbers that lie far outside the data's units, single precision leaves about this much.
TOLERANCE = 2e-3
# What is given in eight bits comes back in eight bits.
TOLERANCES = {"torch bfloat16": 2**-7}


def _unmasked(drawn: Drawn) -> np.ndarray:
    """Drawn numbers with NaN where they are masked."""
    return np.where(np.ma.getmaskarray(drawn.values), np.nan, drawn.plain)


@pytest.mark.parametrize("entrance", list(OF_ALL_NUMBERS))
def test_refused_or_equal_to_float64(campaign: Campaign, entrance: str) -> None:
    call = OF_ALL_NUMBERS[entrance]

    def check(drawn: Drawn) -> None:
        n_rows = len(drawn.plain) if drawn.plain.ndim else 0
        with attempt():
            result = _numbers(call(drawn.values, n_rows))
        assert np.isfinite(result).all(), f"accepted, with {np.sum(~np.isfinite(result))} numbers that are not finite"
        left_out = entrance in LEAVES_OUT_MISSING and drawn.form in MASKED
        try:
            with attempt():
                plain = _numbers(call(_unmasked(drawn) if left_out else drawn.plain, n_rows))
        except Refused as refusal:
            hypothesis.assume(left_out or drawn.form != "masked in places")
            raise AssertionError(f"accepted as {drawn.form}, refused as float64: {refusal}") from refusal
        assert result.shape == plain.shape
        assert left_out or drawn.form != "masked in places", "masked values were taken for values"
        scale = max(np.abs(plain).max(initial=0), 1e-12)
        np.testing.assert_allclose(result / scale, plain / scale, atol=TOLERANCES.get(drawn.form, TOLERANCE))

    campaign.run(entrance, arrays(SHAPES) | arrays(LARGE if entrance in OF_MANY_POINTS else PAIRED), check)


@pytest.mark.parametrize("entrance", list(ELEMENTWISE))
def test_a_value_for_each_number(campaign: Campaign, entrance: str) -> None:
    """What is NaN or masked gives NaN; all other numbers give those of float64."""
    call = ELEMENTWISE[entrance]

    def check(drawn: Drawn) -> None:
        # Neither holds the drawn numbers.
        hypothesis.assume(drawn.form not in ("None", "a number"))
        with attempt():
            result = _numbers(call(drawn.values, 0))
        plain = _unmasked(drawn) if drawn.form in MASKED else drawn.plain
        with attempt():
            expected = _numbers(call(plain, 0))
        # Nested lists of nothing have no second dimension.
        if not plain.size:
            assert not result.size
            return
        np.testing.assert_allclose(result, expected, rtol=TOLERANCE)
        assert np.isnan(expected[np.isnan(plain)]).all(), "a missing number has a value"

    campaign.run(entrance, arrays(SHAPES) | arrays(PAIRED), check)
