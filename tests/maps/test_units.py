"""Maps do not depend on the units of their points; lengths and errors follow them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from neurobridge import maps
from neurobridge.maps.canonical import CanonicalDesign
from neurobridge.maps.kernel import kernel_map
from neurobridge.maps.linear import Decomposition, RidgeDesign, best_shared_penalty, leave_one_out, ridge_map
from neurobridge.maps.orthogonal import nearest_rotation, rotation_and_scales, svd
from neurobridge.maps.pls import centred, fit_pls, linear_predictor
from neurobridge.maps.principal import PrincipalCoordinates, checked_cloud
from neurobridge.maps.relative import Decoder, cosines, relative_map
from neurobridge.maps.spectral import nearest, spectral_map
from neurobridge.maps.whitened import whitened_map
from neurobridge.maps.whitening import WhitenedDesign, WhitenedSettings
from neurobridge.points.scale import unit_of_cloud
from tests.units import SETTINGS, UNITS, check_every_callable_is_tried

rng = np.random.default_rng(0)
X = rng.normal(size=(30, 4)) * [1, 2, 3, 50]
Y = X @ rng.normal(size=(4, 3)) + rng.normal(size=(30, 3))


def of_design(X, Y):
    return RidgeDesign(X, unit=unit_of_cloud(X)).shared(Y)


def of_predictor(X, Y):
    X, Y, x_mean, y_mean = centred(X, Y)
    return linear_predictor(np.linalg.lstsq(X, Y, rcond=None)[0], x_mean, y_mean)


FITS = {
    "kernel_map": lambda X, Y: kernel_map(X, Y, n_centres=20),
    "ridge_map": ridge_map,
    "ridge_map, one penalty": lambda X, Y: ridge_map(X, Y, penalty="shared"),
    "RidgeDesign": of_design,
    "CanonicalDesign": lambda X, Y: CanonicalDesign(X, Y).map(0.1, 2),
    "fit_pls": lambda X, Y: fit_pls(X, Y, n_components=2),
    "linear_predictor": of_predictor,
    "whitened_map": lambda X, Y: whitened_map(X[:20], Y[:20], source_points=X, target_points=Y),
    "WhitenedDesign": lambda X, Y: WhitenedDesign(X, Y).map(X[:20], Y[:20], WhitenedSettings(rank=2)),
    "spectral_map": lambda X, Y: spectral_map(X[:20], Y[:20], source_points=X, n_features=3),
    "relative_map": lambda X, Y: relative_map(X, Y, (np.arange(20), np.arange(20))),
}


def left_out(X, Y):
    """Samples, targets, penalties in units of the columns, and leverages of the mean."""
    unit = unit_of_cloud(X)
    alphas = (unit**2, 10 * unit**2)
    samples = Decomposition.of(X - X.mean(axis=0), alphas[0])
    return samples, Y - Y.mean(axis=0), alphas, np.full(len(X), 1 / len(X))


def errors(X, Y):
    return leave_one_out(*left_out(X, Y), cap=0.999)


def best_error(X, Y):
    return best_shared_penalty(*left_out(X, Y), cap=0.999)[1]


#: Results that follow the units of X and of Y, with their powers.
FOLLOWING = {
    "unit_of_cloud": (1, 0, lambda X, Y: unit_of_cloud(X)),
    "leave_one_out": (0, 2, errors),
    "best_shared_penalty": (0, 2, best_error),
    "svd": (1, 1, lambda X, Y: svd(X.T @ Y)[1]),
    "nearest_rotation": (0, 0, lambda X, Y: nearest_rotation(X.T @ Y)),
    "centred": (1, 0, lambda X, Y: centred(X, Y)[0]),
    "PrincipalCoordinates": (0, 0, lambda X, Y: np.abs(PrincipalCoordinates(*checked_cloud(X, None, "X")).of(X))),
    "nearest": (0, 0, lambda X, Y: nearest(X, X, 3)[0]),
    "cosines": (0, 0, lambda X, Y: cosines(X - X.mean(axis=0), X[:5])),
    "Decoder": (0, 1, lambda X, Y: Decoder(cosines(X - X.mean(axis=0), X[:5]), Y).at(0.1).coef),
}
INSIDE = {
    "as_few_columns": "ridge_map",
    "Decomposition": "leave_one_out",
    "KernelMap": "kernel_map",
    "LinearMap": "ridge_map",
    "RelativeMap": "relative_map",
    "SpectralFeatures": "spectral_map",
    "SpectralMap": "spectral_map",
    "choose_whitened": "whitened_map",
    "spectral_features": "spectral_map",
}
CHECK = "checks and converts arrays, and changes no number"
WITHOUT = dict.fromkeys(("checked_samples", "mapped_points", "checked_cloud", "checked_weights"), CHECK) | {
    "WhitenedSettings": SETTINGS,
    **dict.fromkeys(("LogisticReadout", "fit_logistic"), "penalised in the unit of X; readouts standardise it before"),
    "folds_of": "deals rows, and sees no number",
    "least_error": "compares numbers of one unit",
    "whitened_candidates": SETTINGS,
}


@pytest.mark.parametrize("name", sorted(FITS))
@settings(max_examples=20, deadline=None)
@given(of_x=UNITS, of_y=UNITS)
def test_a_map_does_not_depend_on_units(name, of_x, of_y):
    fit = FITS[name]
    expected = fit(X[:25], Y[:25])(X)
    moved = fit(of_x * X[:25], of_y * Y[:25])(of_x * X) / of_y
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(FOLLOWING))
@settings(max_examples=20, deadline=None)
@given(of_x=UNITS, of_y=UNITS)
def test_a_length_follows_its_unit(name, of_x, of_y):
    x_power, y_power, measure = FOLLOWING[name]
    expected = measure(X, Y)
    moved = measure(of_x * X, of_y * Y) / (of_x**x_power * of_y**y_power)
    np.testing.assert_allclose(moved, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


@settings(max_examples=10, deadline=None)
@given(unit=UNITS)
def test_a_rotation_does_not_depend_on_units(unit):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 20, 3))
    rotation, scales = rotation_and_scales(X, Y)
    turned, moved = rotation_and_scales(unit * X, Y)
    np.testing.assert_allclose(turned, rotation, atol=1e-9)
    np.testing.assert_allclose([moved[0] * unit, moved[1] / unit], scales)


def test_every_public_function_is_tried():
    tried = {name.split(",")[0] for name in (*FITS, *FOLLOWING)} | {"rotation_and_scales"}
    check_every_callable_is_tried(maps, tried=tried, inside=INSIDE, without=WITHOUT)
