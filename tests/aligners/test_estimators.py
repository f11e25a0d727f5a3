"""What scikit-learn asks of an estimator, where it applies to assemblies: of every aligner there is."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from neurobridge.aligners import BASELINES, AssemblyAligner, BridgeAligner
from neurobridge.flow import Training

FAST = {"training": Training(n_steps=60, width=32, depth=1)}
# What is asked here does not depend on how many candidates are tried.
FEW = {"lams": (0.9, 0.5), "epsilons": (0.05,), "n_rounds": (1,), "kernel_rounds": (0, 1)}
ALIGNERS = {
    "linear": BridgeAligner(map="linear"),
    "fused, barycentric": BridgeAligner(map="barycentric", fuse_options=FEW),
    "fused, flow": BridgeAligner(map="flow", flow_options=FAST, fuse_options=FEW),
    "factored, barycentric": BridgeAligner(coupling="factored", map="barycentric", epsilon=0.2),
    "pairs, flow": BridgeAligner(coupling="pairs", map="flow", flow_options=FAST),
    "sinkhorn, padded flow": BridgeAligner(
        "euclidean", "sinkhorn", "flow", reduce="min", epsilon=0.3, base="pad", flow_options=FAST
    ),
    "exact, barycentric": BridgeAligner(coupling="exact", map="barycentric"),
    "linear cost": BridgeAligner(coupling="sinkhorn", cost="linear", epsilon=0.3, map="barycentric"),
    **{name: kind() for name, kind in BASELINES.items()},
}
every_aligner = pytest.mark.parametrize("aligner", ALIGNERS.values(), ids=ALIGNERS)


@every_aligner
def test_the_life_of_an_estimator(aligner, linear_spaces):
    """One fit for many checks: fitting is what takes the time."""
    source, target = linear_spaces
    given = source.copy(deep=True), target.copy(deep=True)
    estimator = clone(aligner)
    assert estimator is not aligner
    assert estimator.get_params() == aligner.get_params()

    with pytest.raises(NotFittedError):
        estimator.transform(source)
    with pytest.raises(NotFittedError):
        estimator.inverse_transform(target)
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)

    params = copy.deepcopy(estimator.get_params())
    assert estimator.fit(source[:100], target[:100], 0.3) is estimator
    assert estimator.get_params() == params
    check_is_fitted(estimator)
    fitted = [name for name in vars(estimator) if name not in params]
    assert all(name.endswith("_") or name.startswith("_") for name in fitted), fitted

    moved, back = estimator.transform(source[90:]), estimator.inverse_transform(target[90:])
    assert moved.dims == back.dims == ("presentation", "neuroid")
    for name in ("stimulus_id", "category_name"):
        np.testing.assert_array_equal(moved[name], source[90:][name])
    np.testing.assert_array_equal(back["stimulus_id"], target[90:]["stimulus_id"])
    for name in ("neuroid_id", "layer"):
        np.testing.assert_array_equal(moved[name], target[name])
    for name in ("neuroid_id", "region"):
        np.testing.assert_array_equal(back[name], source[name])
    assert moved.attrs["n_pairs"] == 30
    assert np.isfinite(moved.values).all()
    assert np.isfinite(back.values).all()

    # Mapping changes nothing, one presentation at a time gives what all give, and order does not matter.
    np.testing.assert_array_equal(estimator.transform(source[90:]).values, moved.values)
    reverse = estimator.transform(source[90:][::-1])
    np.testing.assert_allclose(reverse.values[::-1], moved.values, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(estimator.transform(source[90:91]).values, moved.values[:1], rtol=1e-4, atol=1e-4)
    for before, after in zip(given, (source, target), strict=True):
        xr.testing.assert_identical(before, after)

    # The same seed gives the same numbers: in a second fit of the same object as in a new one.
    again = estimator.fit(source[:100], target[:100], 0.3)
    np.testing.assert_array_equal(again.transform(source[90:]).values, moved.values)
    np.testing.assert_array_equal(again.inverse_transform(target[90:]).values, back.values)
    new = clone(estimator).fit(source[:100], target[:100], 0.3)
    np.testing.assert_array_equal(new.transform(source[90:]).values, moved.values)


@pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")
@every_aligner
def test_a_parameter_set_after_fitting_is_refused_until_the_next_fit(aligner, linear_spaces):
    source, target = linear_spaces
    estimator = clone(aligner).fit(source[:40], target[:40], 0.5)
    before = estimator.transform(source[90:]).values
    assert estimator.set_params(seed=5) is estimator
    with pytest.raises(NotFittedError, match=r"seed=5.* 0;"):
        estimator.transform(source)
    with pytest.raises(RuntimeError, match="seed=5"):
        estimator.score(source, target)
    np.testing.assert_array_equal(estimator.set_params(seed=0).transform(source[90:]).values, before)
    with pytest.raises(ValueError, match="Invalid parameter 'sede'"):
        estimator.set_params(sede=1)


def test_a_fit_that_fails_leaves_no_old_fit_behind(linear_spaces):
    source, target = linear_spaces

    class Failing(BridgeAligner):
        def _fit_arrays(self, X, Y, rows):
            if len(X) < 40:
                raise ValueError("found too few")
            super()._fit_arrays(X, Y, rows)

    estimator = Failing(map="linear").fit(source[:40], target[:40], 0.5)
    with pytest.raises(ValueError, match="too few"):
        estimator.fit(source[:30], target[:30], 0.5)
    with pytest.raises(NotFittedError):
        estimator.transform(source)


@pytest.mark.parametrize(
    "aligner",
    [
        *ALIGNERS.values(),
        BridgeAligner(
            ("geodesic", "correlation"),
            fuse_options={f"option_{k}": tuple(np.linspace(0, 1, 60)) for k in range(20)},
            flow_options={"training": Training(n_steps=60, width=32, network=dict), "support_quantile": 0.5},
        ),
    ],
    ids=[*ALIGNERS, "options of many values"],
)
def test_the_representation_is_short_and_names_what_was_changed(aligner):
    text = repr(aligner)
    assert len(text) <= 400
    assert text.startswith(type(aligner).__name__)
    defaults = type(aligner)().get_params()
    first = next((name for name, value in aligner.get_params().items() if value != defaults[name]), "")
    assert first in text
    assert first in aligner._repr_html_()


def test_the_html_representation_shows_the_fit(linear_spaces):
    source, target = linear_spaces
    aligner = BridgeAligner(coupling="factored", map="barycentric", epsilon=0.2)
    assert "<th>pairs</th>" not in aligner._repr_html_()
    aligner.fit(source[:60], target[:60], 0.5)
    shown = aligner._repr_mimebundle_()
    assert shown["text/plain"] == repr(aligner)
    assert len(repr(aligner)) <= 400
    for fact in ("<caption>BridgeAligner</caption>", "<th>pairs</th><td>30</td>", "<td>4</td>", "<td>7</td>"):
        assert fact in shown["text/html"]
    chosen = BridgeAligner(map="barycentric", fuse_options=FEW).fit(source[:60], target[:60], 0.5)
    assert "<th>chosen, backward</th>" in chosen._repr_html_()


def test_every_aligner_is_an_assembly_aligner():
    assert all(isinstance(aligner, AssemblyAligner) for aligner in ALIGNERS.values())
    assert BridgeAligner(metric="cosine", epsilon=0.2).set_params(epsilon=0.3).get_params()["epsilon"] == 0.3
