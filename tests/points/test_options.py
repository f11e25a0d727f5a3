"""Options of the right kind pass; the others are refused in the package's own words."""

from __future__ import annotations

import numpy as np
import pytest

from neurobridge.aligners import FUGW, BridgeAligner
from neurobridge.assemblies import average_repetitions, make_assembly, read_table, save_assembly
from neurobridge.bridge import bridge_cost, couple, diagnose, fuse, self_train
from neurobridge.datasets import simulate_hvm
from neurobridge.evaluate import choices, decode, generalise
from neurobridge.evaluate.score.schema import make_score
from neurobridge.evaluate.similarity import cka, crossvalidated_rdm, mmd
from neurobridge.features import GaborEnergy, RandomProjection, extract, load_model
from neurobridge.points.options import (
    KINDS,
    is_choice,
    is_number,
    is_sequence_of,
    is_whole,
    require_options,
    require_share,
)

OF_NO_KIND = [float("nan"), "many", b"x", {}, object(), np.array([[1.0]]), [], [None]]


@pytest.mark.parametrize("name", KINDS)
def test_options_of_no_kind_are_refused_by_name(name):
    for value in OF_NO_KIND:
        if value == "many" and KINDS[name].holds("many"):
            continue
        with pytest.raises(ValueError, match=f"found {name}="):
            require_options(**{name: value})


@pytest.mark.parametrize("name", KINDS)
def test_the_mend_of_an_option_works_when_typed(name):
    require_options(**{name: eval(KINDS[name].example)})
    if KINDS[name].or_none:
        require_options(**{name: None})
    else:
        with pytest.raises(ValueError, match=f"found {name}=None"):
            require_options(**{name: None})


def test_truth_values_are_no_numbers_and_numbers_no_truth_values():
    assert not is_whole(True)
    assert not is_number(np.True_)
    with pytest.raises(ValueError, match="found pinned=1"):
        require_options(pinned=1)
    require_options(pinned=np.False_, epsilon=np.float32(0.1), tol=np.array(1e-3), max_iter=np.int16(4))


def test_whole_numbers_and_seeds_have_bounds():
    for seed in (-1, 2**32, 1.0):
        with pytest.raises(ValueError, match="found seed="):
            require_options(seed=seed)
    for count in (-1, 2**63, 2.0):
        with pytest.raises(ValueError, match="found n_permutations="):
            require_options(n_permutations=count)


def test_shares_lie_between_the_ends():
    for value in (0, 1, -0.5, float("nan"), "x", None, [0.5]):
        with pytest.raises(ValueError, match="found confidence="):
            require_share(value, name="confidence")


def test_sequences_hold_something():
    assert is_sequence_of(is_number, np.array([0.1, 2]))
    assert not is_sequence_of(is_number, np.array([[0.1, 2]]))
    assert not is_sequence_of(is_number, "12")
    assert not is_sequence_of(is_number, {1: 2})


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (lambda X, **options: bridge_cost(X, X, (range(3), range(3)), **options), {"nearest": "x"}),
        (lambda X, **options: bridge_cost(X, X, (range(3), range(3)), **options), {"memory_limit": None}),
        (lambda X, **options: bridge_cost(X, X, (range(3), range(3)), **options), {"device": "x"}),
        (lambda X, **options: couple(np.ones((3, 3)), **options), {"init": 1.5}),
        (lambda X, **options: fuse(X, X, (range(3), range(3)), **options), {"lams": 0.5}),
        (lambda X, **options: fuse(X, X, (range(3), range(3)), **options), {"sought_in": 1}),
        (lambda X, **options: self_train(X, X, (range(3), range(3)), **options), {"damping": "x"}),
        (lambda X, **options: FUGW(**options).fit(X, X), {"epsilon": None}),
        (lambda X, **options: BridgeAligner(**options).fit(X, X), {"fuse_options": 3}),
        (lambda X, **options: BridgeAligner(**options).fit(X, X), {"representation": ["a"]}),
        (lambda X, **options: mmd(X, X, **options), {"bandwidth": None}),
    ],
)
def test_functions_and_aligners_name_the_option(call, option):
    X = np.random.default_rng(0).normal(size=(8, 2))
    ((name, _),) = option.items()
    with pytest.raises(ValueError, match=f"{name}[=: ].*[Ee]xpected"):
        call(X, **option)


def flags():
    """Calls of functions with a switch, each on data that it takes."""
    rng = np.random.default_rng(0)
    labels = {"stimulus_id": np.arange(24) % 12, "repetition": np.arange(24) // 12, "label": np.arange(24) % 2}
    trials = make_assembly(rng.normal(size=(24, 3)), presentation=labels, neuroid={"neuroid_id": range(3)})
    first = trials.isel(presentation=slice(12))
    cost = bridge_cost(rng.normal(size=(8, 2)), rng.normal(size=(8, 2)), (range(5), range(5)))
    images = first.rename(neuroid="row").drop_vars("neuroid_id").expand_dims(column=3, axis=2)
    return {
        "unbiased": lambda **switch: cka(first, first, **switch),
        "whiten": lambda **switch: crossvalidated_rdm(trials, **switch),
        "graded": lambda **switch: choices(first, "label", **switch),
        "equal": lambda **switch: generalise(first, "label", "stimulus_id", **switch),
        "refit": lambda **switch: decode(first, "label", **switch),
        "warn": lambda **switch: diagnose(cost, **switch),
        "pinned": lambda **switch: couple(cost, **switch),
        "skipna": lambda **switch: average_repetitions(trials, **switch),
        "compress": lambda **switch: save_assembly(first, "never-written.nc", **switch),
        "numbers": lambda **switch: read_table("no-such-file.csv", **switch),
        "pretrained": lambda **switch: load_model("python:neurobridge.features:GaborEnergy", **switch),
        "trust": lambda **switch: load_model("python:neurobridge.features:GaborEnergy", **switch),
        "overwrite": lambda **switch: extract(GaborEnergy(), images, "v1", **switch),
        "lazy": lambda **switch: simulate_hvm({0: 1}, n_repetitions=1, image_size=16, **switch),
        "smaller_is_better": lambda **switch: make_score([0.5], ("split",), null=[0.1], attrs={}, **switch),
    }


@pytest.mark.parametrize("value", [np.array([0, 1]), "no", 2, None, []], ids=repr)
@pytest.mark.parametrize("switch", flags())
def test_switches_are_true_or_false(switch, value):
    with pytest.raises(ValueError, match=rf"{switch}[=: ].*expected True or False"):
        flags()[switch](**{switch: value})


@pytest.mark.parametrize("value", [np.array([0, 1]), np.array(["a"]), ["a"], {"a": 1}, 1, 1.5, np.nan, b"a", "b", ""])
@pytest.mark.parametrize("choices", [("a", None), {"a": 1, None: 2}])
def test_what_is_no_choice(value, choices):
    assert not is_choice(value, choices)
    assert is_choice("a", choices)
    assert is_choice(np.str_("a"), choices)
    assert is_choice(None, choices)
    assert not is_choice(None, ("a",))


@pytest.mark.parametrize("value", [np.array([0, 1]), ["sparse"], {}])
def test_arguments_of_another_kind_are_refused_with_the_choices(value):
    X = np.random.default_rng(0).normal(size=(6, 2))
    with pytest.raises(ValueError, match="sparse"):
        RandomProjection(kind=value)
    with pytest.raises(ValueError, match="sinkhorn"):
        couple(bridge_cost(X, X, (range(3), range(3))), method=value)
