"""Banded ridge: agreement with himalaya, useless bands, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import neurobridge as nb
from neurobridge.assemblies import AssemblyError
from neurobridge.evaluate import aggregate
from neurobridge.evaluate.banded import ALPHAS, fit_banded
from neurobridge.evaluate.regression import fit_ridge
from neurobridge.points.scale import unit_of_cloud

himalaya_ridge = pytest.importorskip("himalaya.ridge", reason="the extra `himalaya`")


def simulated(n, sizes=(8, 40), loud=10.0, n_sites=6, seed=0):
    """Sites that are linear in the first band; the second is louder and useless. Labels are interleaved."""
    rng = np.random.default_rng(seed)
    useful, useless = rng.normal(size=(n, sizes[0])), loud * rng.normal(size=(n, sizes[1]))
    Y = useful @ rng.normal(size=(sizes[0], n_sites)) / np.sqrt(sizes[0]) + 0.5 * rng.normal(size=(n, n_sites))
    order = rng.permutation(sum(sizes))
    bands = np.repeat(["useful", "useless"], sizes)[order]
    return np.hstack([useful, useless])[:, order], Y, bands


def median_r(predicted, Y):
    return float(np.median([np.corrcoef(predicted[:, k], Y[:, k])[0, 1] for k in range(Y.shape[1])]))


def by_himalaya(X, Y, bands, new, n_iter):
    """Features of each band in units of its own spread, by himalaya alone."""
    unit = np.empty(X.shape[1])
    for band in np.unique(bands):
        unit[bands == band] = unit_of_cloud(X[:, bands == band])
    options = {"n_iter": n_iter, "alphas": ALPHAS, "progress_bar": False, "warn": False}
    groups = (bands == "useless").astype(int)
    model = himalaya_ridge.GroupRidgeCV(groups, solver_params=options, fit_intercept=True, random_state=0)
    return model.fit(X / unit, Y).predict(new / unit)


def test_predictions_are_those_of_himalaya():
    X, Y, bands = simulated(90)
    X, Y = X + 3, Y - 2
    ours = fit_banded(X[:70], Y[:70], bands=bands, n_iter=6)(X[70:])
    np.testing.assert_allclose(ours, by_himalaya(X[:70], Y[:70], bands, X[70:], 6), rtol=1e-9)


def test_the_unit_of_a_band_and_the_order_of_features_change_nothing():
    X, Y, bands = simulated(80)
    before = fit_banded(X[:60], Y[:60], bands=bands, n_iter=4)(X[60:])
    scaled, order = np.where(bands == "useful", 1e-9, 1e6) * X, np.random.default_rng(1).permutation(X.shape[1])
    after = fit_banded(scaled[:60][:, order], Y[:60], bands=bands[order], n_iter=4)(scaled[60:][:, order])
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_a_loud_useless_band_ruins_ridge_and_not_this():
    X, Y, bands = simulated(120, sizes=(8, 160))
    train, test = slice(90), slice(90, 120)
    banded, ridge = (
        fit(X[train], Y[train])(X[test]) for fit in (lambda X, Y: fit_banded(X, Y, bands=bands), fit_ridge)
    )
    alone = fit_ridge(X[train][:, bands == "useful"], Y[train])(X[test][:, bands == "useful"])
    assert median_r(ridge, Y[test]) < 0.4
    assert median_r(banded, Y[test]) == pytest.approx(median_r(alone, Y[test]), abs=0.05)


def test_one_band_is_ridge():
    X, Y, _ = simulated(80, sizes=(8, 1), loud=1.0)
    banded, ridge = fit_banded(X, Y, bands=["all"] * 9)(X), fit_ridge(X, Y)(X)
    # The penalty is chosen by folds here and by leave-one-out there.
    assert median_r(banded, ridge) > 0.999


def assemblies(n=60):
    X, Y, bands = simulated(n)
    stimuli = {"stimulus_id": range(n)}
    model = nb.make_assembly(X, presentation=stimuli, neuroid={"neuroid_id": range(48), "layer": bands, "kind": bands})
    return model, nb.make_assembly(Y, presentation=stimuli, neuroid={"neuroid_id": range(6)})


def test_predictivity_takes_bands_by_name_and_says_so():
    model, brain = assemblies()
    options = {"splits": "kfold,n_splits=3", "n_permutations": 0, "n_iter": 5}
    by_layer = nb.predictivity(model, brain, "banded", **options)
    by_kind = nb.predictivity(model, brain, "banded", bands="kind", **options)
    np.testing.assert_array_equal(by_layer["raw"].values, by_kind["raw"].values)
    assert by_layer.attrs["metric"] == "banded, bands=layer, n_iter=5, pearson"
    ridge = nb.predictivity(model, brain, "ridge", splits="kfold,n_splits=3", n_permutations=0)
    assert aggregate(by_layer)["raw"] > aggregate(ridge)["raw"] + 0.2


def test_what_is_no_band_is_refused(monkeypatch):
    model, brain = assemblies()
    with pytest.raises(AssemblyError, match=r"'kind', 'layer'.*bands='depth'.*bands='kind'"):
        nb.predictivity(model, brain, "banded", bands="depth")
    with pytest.raises(AssemblyError, match=r"bands='layer'.*assign_coords\(layer"):
        nb.predictivity(model.drop_vars(["layer", "kind"]), brain, "banded")
    with pytest.raises(ValueError, match=r"bands of shape \(3,\) for 48 features"):
        fit_banded(model.values, brain.values, bands=[0, 1, 2])
    with pytest.raises(ValueError, match=r"4 samples and n_folds=5.*n_folds=4"):
        fit_banded(model.values[:4], brain.values[:4], bands=model["layer"].values)
    monkeypatch.setitem(sys.modules, "himalaya.ridge", None)
    with pytest.raises(ModuleNotFoundError, match=r"no package himalaya.*neurobridge\[himalaya\]"):
        nb.predictivity(model, brain, "banded")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_useful_features_beside_six_hundred_louder_ones():
    """Simulated: 800 stimuli, 20 sites with a signal as large as the noise; settings as in the table of docs/evaluation.md."""
    X, Y, bands = simulated(800, sizes=(100, 600), n_sites=20)
    train, test = slice(640), slice(640, 800)
    ours = fit_banded(X[train], Y[train], bands=bands, n_iter=10)(X[test])
    np.testing.assert_allclose(ours, by_himalaya(X[train], Y[train], bands, X[test], 10), rtol=1e-7, atol=1e-9)
    print(median_r(ours, Y[test]), median_r(fit_ridge(X[train], Y[train])(X[test]), Y[test]))
    assert median_r(ours, Y[test]) > 0.7
    assert median_r(fit_ridge(X[train], Y[train])(X[test]), Y[test]) < 0.1
