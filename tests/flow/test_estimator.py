"""The flow as an sklearn estimator, its settings, its representations, and the flat keywords of version 0.1."""

from __future__ import annotations

import copy
import pickle
import traceback

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from neurobridge.bridge import ridge_map
from neurobridge.flow import (
    ODE,
    ConditionalFlow,
    Integrated,
    PathSample,
    Spread,
    Standardiser,
    Support,
    Training,
    VelocityMLP,
    integrate,
    sample_path,
)
from neurobridge.flow.moved import MOVED
from tests.refusals import refused

FAST = Training(n_steps=20, width=16, depth=1, batch_size=32)
undertrained = pytest.mark.filterwarnings("ignore::neurobridge.points.support.OffSupportWarning")

# A check that fits calls fit(X, y), and a flow is fitted on two clouds and the coupling between them.
NO_COUPLING = "missing 1 required positional argument: 'coupling'"
EXCEPTIONS = {
    "check_parameters_default_constructible": "the default Training() and ODE() are frozen, so they may be shared",
    "check_do_not_raise_errors_in_init_or_set_params": "takes **flat, the keywords of version 0.1, for a parameter",
}


@parametrize_with_checks([ConditionalFlow(training=FAST)])
def test_checks_of_sklearn(estimator, check):
    name = getattr(check, "func", check).__name__
    if name in EXCEPTIONS:
        pytest.skip(EXCEPTIONS[name])
    try:
        check(estimator)
    except Exception as error:
        if NO_COUPLING not in "".join(traceback.format_exception(error)):
            raise
        pytest.skip("calls fit without a coupling")


@pytest.mark.parametrize("value", [-1, 3.0, "hello", None, [], {}, np.array([1.0])])
@pytest.mark.parametrize("name", ["base", "training", "ode", "support_quantile", "seed", "device"])
def test_parameters_are_stored_as_they_are(name, value):
    assert vars(ConditionalFlow(**{name: value}))[name] is value
    assert vars(ConditionalFlow().set_params(**{name: value}))[name] is value


def test_a_clone_has_the_parameters_and_no_fit(known):
    X, Y = known.spaces(n=40)
    maps = ridge_map(X, Y), ridge_map(Y, X)
    for base in ("pad", maps[0], maps):
        flow = ConditionalFlow(base, training=FAST.replace(network=VelocityMLP), ode=ODE(method="rk4"), seed=3)
        copied = clone(flow.fit(X, Y, known.Matching(40)))
        assert (copied.training, copied.ode, copied.seed) == (flow.training, flow.ode, 3)
        with pytest.raises(NotFittedError):
            check_is_fitted(copied)
        check_is_fitted(flow)
        np.testing.assert_array_equal(copied.fit(X, Y, known.Matching(40)).losses_, flow.losses_)


def test_single_settings_are_set_through_the_flow_and_through_a_pipeline():
    flow = ConditionalFlow(training=FAST, ode=ODE(rtol=1e-3))
    before = flow.training
    Pipeline([("flow", flow)]).set_params(flow__training__n_steps=7, flow__ode__method="euler", flow__seed=4)
    assert flow.training == FAST.replace(n_steps=7)
    assert flow.ode == ODE(method="euler", rtol=1e-3)
    assert flow.seed == 4
    assert before == FAST, "settings objects are frozen"
    assert flow.get_params()["training__n_steps"] == 7
    assert {f"training__{name}" for name in FAST.get_params()} < set(flow.get_params())
    with refused(ValueError, ["steps"], "n_steps"):
        flow.set_params(training__steps=3)
    with pytest.raises(ValueError, match="n_steps=0"):
        flow.set_params(ode__n_steps=0)
    with pytest.raises(ValueError, match="speed"):
        flow.set_params(speed=3)
    assert flow.set_params(training=FAST, training__sigma=0.3).training == FAST.replace(sigma=0.3)


@pytest.mark.parametrize("settings", [Training(), FAST, ODE(), ODE(method="rk4", chunk_size=7)])
def test_settings_are_values(settings):
    assert clone(settings) == settings == copy.deepcopy(settings) == pickle.loads(pickle.dumps(settings))
    assert type(settings)(**settings.get_params()) == settings
    assert hash(settings) == hash(settings.replace())
    with pytest.raises(AttributeError):
        settings.n_steps = 3


@pytest.mark.parametrize(("from_map", "n_steps", "sigma"), [(False, 1000, 0.1), (True, 100, 0.5)])
def test_open_defaults_depend_on_the_base_and_the_device(from_map, n_steps, sigma):
    resolved = Training(width=8).resolved(from_map=from_map, on_gpu=True, seed=3)
    assert (resolved.n_steps, resolved.sigma, resolved.width, resolved.seed) == (n_steps, sigma, 8, 3)
    assert (resolved.validation, resolved.mixed_precision) == (0.0, True)
    kept = Training(n_steps=7, sigma=0.0, validation=0.3, mixed_precision=False).resolved(
        from_map=from_map, on_gpu=True
    )
    assert (kept.n_steps, kept.sigma, kept.validation, kept.mixed_precision) == (7, 0.0, 0.3, False)


@undertrained
def test_transport_changes_nothing_but_the_count_of_its_evaluations(known):
    X, Y = known.spaces(n=40)
    flow = ConditionalFlow(training=FAST).fit(X, Y, known.Matching(40))
    flow.transport(X)
    before = dict(vars(flow))
    flow.transport(X, method="euler")
    flow.spread, flow.start(X), flow.off_support(Y), flow.retrace(Y, X), repr(flow)
    assert {name for name in before if before[name] is not vars(flow)[name]} == {"n_evaluations_"}
    assert before.keys() == vars(flow).keys()


@undertrained
def test_a_fitted_flow_survives_pickling(known):
    X, Y = known.spaces(n=40)
    flow = ConditionalFlow(training=FAST).fit(X, Y, known.Matching(40))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(flow)).transport(X), flow.transport(X))


def test_a_fit_that_fails_leaves_the_old_fit(known):
    X, Y = known.spaces(n=40)
    flow = ConditionalFlow(training=FAST).fit(X, Y, known.Matching(40))
    before = dict(vars(flow))
    with pytest.raises(ValueError, match="trainable"):
        flow.set_params(training__network=lambda n_dims, n_condition: torch.nn.Identity()).fit(
            X**2, Y, known.Matching(40)
        )
    assert all(vars(flow)[name] is value for name, value in before.items() if name != "training")


def test_representations_are_short_and_say_the_facts(known):
    X, Y = known.spaces(n=60)
    fitted = ConditionalFlow((ridge_map(X, Y), ridge_map(Y, X)), training=FAST).fit(X, Y, known.Matching(60))
    long = Training(
        **{**FAST.get_params(), "network": VelocityMLP, "checkpoint": "a/" * 300, "sigma": 1 / 3, "validation": 0.2},
    )
    shown = {
        ConditionalFlow(): ("'affine'", "not fitted"),
        ConditionalFlow(lambda points: points, training=long, ode=ODE(method="rk4")): ("not fitted",),
        fitted: ("LinearMap", "3 -> 5", "20 steps", f"{fitted.losses_[-1]:.4g}"),
        fitted.forward_: ("maps", "3 -> 5"),
        fitted.forward_.base_map: ("LinearMap", "3 -> 5"),
        fitted.support_["forward"]: ("60 x 5", "0.99"),
        Training(): ("Training()",),
        FAST: ("n_steps=20", "width=16"),
        long: ("VelocityMLP",),
        FAST.resolved(): ("n_steps=20",),
        ODE(): ("ODE()",),
        ODE(method="rk4"): ("rk4",),
        VelocityMLP(5000, 300): ("5000", "300", "width=1024"),
    }
    unhashable = [
        (fitted.source_scale_, ("3 dims",)),
        (sample_path(torch.zeros(7, 2), torch.ones(7, 2)), ("7 x 2",)),
        (integrate(lambda t, x: x, torch.ones(4, 3), n_steps=5), ("4 x 3", "10")),
        (Spread(np.zeros((2000, 3)), np.ones((2000, 3))), ("2000 x 3",)),
        (Support.fit(np.zeros((1, 900))), ("1 x 900",)),
    ]
    for value, facts in [*shown.items(), *unhashable]:
        for text in (repr(value), str(value)):
            assert len(text) <= 400
            assert "\n" not in text
            assert all(fact in text for fact in facts), text
        if value is not fitted.forward_.base_map:
            table = value._repr_html_()
            assert table.startswith("<table>")
            assert type(value).__name__ in table
    kinds = {type(value) for value in shown} | {type(value) for value, _ in unhashable}
    assert kinds > {ConditionalFlow, Training, ODE, VelocityMLP, Support, Standardiser, PathSample, Integrated, Spread}
    assert "table" in fitted._repr_mimebundle_()["text/html"]


def test_flat_keywords_of_version_0_1_warn_and_train_the_same_flow(known):
    X, Y = known.spaces(n=40)
    new = ConditionalFlow("pad", training=FAST, ode=ODE(method="rk4", n_steps=3), seed=2)
    with pytest.warns(DeprecationWarning, match=r"Mend: write (training|ode)=") as warned:
        old = ConditionalFlow("pad", n_steps=20, width=16, depth=1, batch_size=32, method="rk4", ode_steps=3, seed=2)
    texts = [str(w.message) for w in warned]
    assert len(texts) == 2
    assert "training=Training(n_steps=20, width=16, depth=1, batch_size=32)" in texts[0]
    assert "ode=ODE(method='rk4', n_steps=3)" in texts[1]
    assert all(w.filename == __file__ for w in warned)
    assert (old.training, old.ode) == (new.training, new.ode)
    for flow in (old, new):
        flow.fit(X, Y, known.Matching(40))
    np.testing.assert_array_equal(old.losses_, new.losses_)


def test_flat_keywords_change_the_settings_that_are_given():
    with pytest.warns(DeprecationWarning, match=r"training=Training\(n_steps=9\)"):
        flow = ConditionalFlow(training=Training(validation=0.2), n_steps=9)
    assert flow.training == Training(validation=0.2, n_steps=9)
    with pytest.raises(TypeError, match=r"\['n_stepz'\].*Mend"):
        ConditionalFlow(n_stepz=9)


@pytest.mark.parametrize("name", sorted(MOVED))
def test_flat_attributes_of_version_0_1_warn_and_are_read_and_set(name):
    holder, setting = MOVED[name]
    flow = ConditionalFlow()
    values = {
        "n_steps": 7, "ode_steps": 8, "method": "rk4", "sigma": 0.2, "checkpoint": "folder", "mixed_precision": "float16",
        "minibatch_ot": True, "resume": True, "progress": True, "network": torch.nn.Identity, "minibatch_cost": torch.cdist,
    }  # fmt: skip
    is_count = isinstance(getattr(getattr(flow, holder), setting), int) or name in ("width", "depth")
    value = values.get(name, 3 if is_count else 0.5)
    with pytest.warns(DeprecationWarning, match=rf"set_params\({holder}__{setting}="):
        setattr(flow, name, value)
    with pytest.warns(DeprecationWarning, match=rf"{holder}\.{setting}"):
        assert getattr(flow, name) == value
    assert getattr(getattr(flow, holder), setting) == value
    assert name not in vars(flow)


def test_the_keywords_of_version_0_1_are_all_known():
    old = {
        "width", "depth", "network", "n_steps", "batch_size", "learning_rate", "weight_decay", "sigma", "ema", "clip",
        "validation", "patience", "validate_every", "minibatch_ot", "minibatch_cost", "mixed_precision", "method", "ode_steps",
        "rtol", "atol", "chunk_size", "checkpoint", "checkpoint_every", "resume", "progress",
    }  # fmt: skip
    assert set(MOVED) == old
    with pytest.raises(AttributeError, match="speed"):
        ConditionalFlow().speed  # noqa: B018
