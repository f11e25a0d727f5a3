"""Choices from a list: whatever is no text and not None is none of them."""

from __future__ import annotations

import numpy as np
import pytest

from neurobridge.bridge import bridge_cost, couple
from neurobridge.features import RandomProjection
from neurobridge.points.options import is_choice


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
