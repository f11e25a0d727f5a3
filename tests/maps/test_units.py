"""Maps do not depend on the units of their points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.maps.canonical import CanonicalDesign
from neurobridge.maps.kernel import kernel_map
from neurobridge.maps.orthogonal import rotation_and_scales
from neurobridge.maps.pls import fit_pls

FITS = {
    "kernel_map": lambda X, Y: kernel_map(X, Y, n_centres=20),
    "CanonicalDesign": lambda X, Y: CanonicalDesign(X, Y).map(0.1, 2),
    "fit_pls": lambda X, Y: fit_pls(X, Y, n_components=2),
}


@pytest.mark.parametrize("name", sorted(FITS))
@settings(max_examples=20, deadline=None)
@given(of_x=st.floats(-15, 9), of_y=st.floats(-15, 9))
def test_a_map_does_not_depend_on_units(name, of_x, of_y):
    rng, fit = np.random.default_rng(0), FITS[name]
    X = rng.normal(size=(30, 4)) * [1, 2, 3, 50]
    Y = X @ rng.normal(size=(4, 3)) + rng.normal(size=(30, 3))
    expected = fit(X[:25], Y[:25])(X)
    moved = fit(10**of_x * X[:25], 10**of_y * Y[:25])(10**of_x * X) / 10**of_y
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(exponent=st.floats(-15, 9))
def test_a_rotation_does_not_depend_on_units(exponent):
    rng, unit = np.random.default_rng(0), 10**exponent
    X, Y = rng.normal(size=(2, 20, 3))
    rotation, scales = rotation_and_scales(X, Y)
    turned, moved = rotation_and_scales(unit * X, Y)
    np.testing.assert_allclose(turned, rotation, atol=1e-9)
    np.testing.assert_allclose([moved[0] * unit, moved[1] / unit], scales)
