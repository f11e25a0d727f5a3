"""Options of functions and aligners: of their kind, or refused before the work."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import neurobridge as nb
from neurobridge import aligners, bridge, decoding, flow, similarity
from tests.fuzz.campaign import Campaign, attempt
from tests.fuzz.test_settings import VALUES

_RNG = np.random.default_rng(0)
X, Y = _RNG.normal(size=(24, 3)), _RNG.normal(size=(24, 2))
PAIRS = (np.arange(8), np.arange(8))
COST = bridge.bridge_cost(X, Y, PAIRS)
IDS = [f"s{number}" for number in range(24)]
LABELS = {"stimulus_id": IDS, "object_name": list("abc") * 8}
SPACE = nb.make_assembly(X, presentation=LABELS, neuroid={"neuroid_id": range(3), "layer": ["l"] * 3})
OTHER = nb.make_assembly(Y, presentation=LABELS, neuroid={"neuroid_id": range(2)})
TRIALS = nb.make_assembly(
    np.concatenate([X, X + _RNG.normal(size=X.shape)]),
    presentation={"stimulus_id": IDS * 2, "repetition": [0] * 24 + [1] * 24},
    neuroid={"neuroid_id": range(3)},
)
SMALL = {"lams": (0.9,), "epsilons": (0.1,), "n_rounds": (1,), "kernel_rounds": (0,), "maps": ("ridge",)}
# Options that are data in disguise, or change what is written or shown.
_LEFT_OUT = {"self", "pairs", "stream", "distributed", "progress", "journal", "keep", "flow_options"}


def _call(function: Callable[..., Any], *given: Any, **small: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return what has the options, and a call of it with some of them."""
    return function, lambda **options: function(*given, **{**small, **options})


def _fit(cls: Any, **small: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return cls, lambda **options: cls(**{**small, **options}).fit(X, Y, pairs=PAIRS).transform(X)


def _flow(**options: Any) -> Any:
    small = {"base": "affine", "training": flow.Training(n_steps=2, width=8, depth=1)}
    known = bridge.Coupling.of_pairs(PAIRS, (24, 24))
    return flow.ConditionalFlow(**{**small, **options}).fit(X, Y, known).transport(X)


CALLS = {
    "bridge.bridge_cost options": _call(bridge.bridge_cost, X, Y, PAIRS),
    "bridge.couple options": _call(bridge.couple, COST),
    "bridge.fuse options": _call(bridge.fuse, X, Y, PAIRS, **SMALL),
    "bridge.align_unpaired options": _call(
        bridge.align_unpaired, X, Y, n_restarts=2, n_null=1, max_rounds=1, n_anchors=4
    ),
    "bridge.self_train options": _call(bridge.self_train, X, Y, PAIRS, n_rounds=1),
    "bridge.ridge_map options": _call(bridge.ridge_map, X, Y),
    "bridge.kernel_map options": _call(bridge.kernel_map, X, Y),
    "bridge.diagnose options": _call(bridge.diagnose, COST, n_permutations=19),
    "flow.ConditionalFlow options": (flow.ConditionalFlow, _flow),
    "similarity.linear_cka options": _call(similarity.linear_cka, X, Y),
    "similarity.mmd options": _call(similarity.mmd, X, X + 1),
    "similarity.sliced_wasserstein options": _call(similarity.sliced_wasserstein, X, X),
    "similarity.cka options": _call(similarity.cka, SPACE, OTHER, n_permutations=5),
    "similarity.rsa options": _call(similarity.rsa, SPACE, OTHER, n_permutations=5),
    "similarity.procrustes options": _call(similarity.procrustes, SPACE, OTHER, n_permutations=5),
    "evaluate.predictivity options": _call(nb.predictivity, SPACE, OTHER, regression="ridge", n_permutations=5),
    "evaluate.retrieve options": _call(nb.retrieve, SPACE, SPACE, n_permutations=5, n_bootstrap=5),
    "evaluate.compare_models options": _call(
        nb.compare_models, {"a": SPACE, "b": OTHER}, OTHER, metrics=("ridge",), n_bootstrap=5
    ),
    "evaluate.correlate options": _call(nb.correlate, OTHER, OTHER + 0.1, n_permutations=5),
    "decoding.decode options": _call(decoding.decode, SPACE, "object_name", n_permutations=5),
    "evaluate.internal_consistency options": _call(nb.internal_consistency, TRIALS, n_bootstrap=5, n_splits=3),
    "evaluate.select_layer options": _call(nb.select_layer, SPACE, OTHER, regression="ridge", n_permutations=5),
    "evaluate.learning_curve options": _call(
        nb.learning_curve, SPACE, OTHER, {"ridge": aligners.RidgeAligner()}, n_pairs=(4,), n_seeds=1, n_permutations=5,
        progress=False,
    ),
    "evaluate.aggregate options": _call(nb.aggregate, nb.predictivity(SPACE, OTHER, "ridge", n_permutations=5)),
    "aligners.BridgeAligner options": _fit(nb.BridgeAligner, fuse_options=SMALL),
    **{f"aligners.{cls.__name__} options": _fit(cls) for cls in aligners.BASELINES.values()},
}  # fmt: skip
ENTRANCES = list(CALLS)


@st.composite
def _options(draw: st.DrawFn, function: Callable[..., Any]) -> dict[str, Any]:
    """Draw one or two options of a function that have a default."""
    parameters = inspect.signature(function).parameters
    names = [
        name
        for name, parameter in parameters.items()
        if parameter.default is not parameter.empty and name not in _LEFT_OUT
    ]
    return {
        name: draw(VALUES | st.sampled_from([parameters[name].default]))
        for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    }


def _too_much(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) > 1e4


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_options(campaign: Campaign, entrance: str) -> None:
    function, call = CALLS[entrance]

    def check(options: dict[str, Any]) -> None:
        counts = {name: value for name, value in options.items() if name.startswith(("n_", "max_"))}
        if any(map(_too_much, counts.values())):
            return
        with attempt(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = call(**options)
        if isinstance(result, (float, np.ndarray)):
            assert np.isfinite(result).all()

    campaign.run(entrance, _options(function), check)
