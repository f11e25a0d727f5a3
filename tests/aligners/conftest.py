"""Two small simulated spaces that a linear map relates, and every aligner there is."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neurobridge.assemblies import make_assembly


def pair_of_spaces(
    n: int = 120, d_source: int = 4, d_target: int = 7, seed: int = 0
) -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d_source))
    Y = X @ rng.normal(size=(d_source, d_target)) + 10
    ids = [f"s{i}" for i in range(n)]
    source = make_assembly(
        X,
        presentation={"stimulus_id": ids, "category_name": [f"c{i % 3}" for i in range(n)]},
        neuroid={"neuroid_id": [f"v{i}" for i in range(d_source)], "region": ["V4"] * d_source},
    )
    target = make_assembly(
        Y,
        presentation={"stimulus_id": ids},
        neuroid={"neuroid_id": [f"m{i}" for i in range(d_target)], "layer": ["relu"] * d_target},
    )
    return source, target


@pytest.fixture
def spaces():
    """The factory `pair_of_spaces`."""
    return pair_of_spaces


@pytest.fixture(scope="session")
def linear_spaces():
    """One draw of it."""
    return pair_of_spaces()
