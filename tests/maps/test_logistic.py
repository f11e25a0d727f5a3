"""Logistic regressions solved several at a time, beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from neurobridge.maps import logistic
from neurobridge.maps.logistic import LogisticReadout, fit_logistic

# scikit-learn's own calls of scipy, where the two are of different years.
pytestmark = pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")


def problems(n, d, n_classes, n_problems, gap, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % n_classes)
    mixing = rng.normal(size=(d, d)) * np.exp(-np.arange(d) / 5) / 3
    X = rng.normal(size=(n_problems, n, d)) @ mixing.T + 0.5 * rng.normal(size=(n_problems, n, d))
    X += np.linspace(0, gap, n_problems)[:, None, None] * rng.normal(size=(n_classes, d))[codes]
    return (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True), codes


def probabilities(X, weights, intercepts):
    logits = X @ weights.transpose(0, 2, 1) + intercepts[:, None]
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("n", "d", "n_classes", "gap"), [(60, 20, 4, 1.0), (50, 5, 2, 0.0), (40, 60, 3, 1.0), (40, 10, 5, 6.0)]
)
def test_probabilities_are_those_of_scikit_learns_optimum(n, d, n_classes, gap):
    X, codes = problems(n, d, n_classes, 3, gap)
    weights, intercepts = fit_logistic(X, codes, n_classes)
    expected = np.stack([LogisticRegression(tol=1e-9, max_iter=10_000).fit(x, codes).predict_proba(x) for x in X])
    assert np.abs(probabilities(X, weights, intercepts) - expected).max() < 1e-4


def test_a_problem_does_not_depend_on_those_beside_it():
    X, codes = problems(60, 8, 3, 4, 2.0)
    together = fit_logistic(X, codes, 3)[0]
    alone = np.concatenate([fit_logistic(x[None], codes, 3)[0] for x in X])
    assert np.allclose(together, alone, atol=1e-5)


def test_each_problem_may_have_labels_of_its_own():
    X, codes = problems(40, 4, 2, 1, 0.0)
    both = np.stack([codes, 1 - codes])
    weights, _ = fit_logistic(np.broadcast_to(X, (2, *X.shape[1:])), both, 2)
    assert np.allclose(weights[0], weights[1][::-1], atol=1e-5)


def test_the_gradient_is_the_derivative_of_the_value():
    rng = np.random.default_rng(0)
    X, codes = problems(20, 3, 3, 1, 1.0)
    truth = (codes == np.arange(3)[:, None])[None]
    theta, step = rng.normal(size=(1, 3, 4)), 1e-6 * rng.normal(size=(1, 3, 4))
    gradient = logistic._objective(X, truth, theta, 1.0)[1]
    up, down = (logistic._objective(X, truth, theta + sign * step, 1.0)[0][0] for sign in (1, -1))
    assert (up - down) / 2 == pytest.approx((gradient * step).sum(), rel=1e-5)


def test_what_is_not_solved_is_told(monkeypatch):
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 2)
    X, codes = problems(60, 10, 3, 2, 1.0)
    with pytest.warns(UserWarning, match=r"2 of 2 logistic"):
        fit_logistic(X, codes, 3)


def test_the_readout_is_a_classifier_of_labels():
    X, codes = problems(40, 4, 3, 1, 4.0)
    labels = np.array(["a", "b", "c"])[codes]
    readout, peer = LogisticReadout().fit(X[0], labels), LogisticRegression(tol=1e-9).fit(X[0], labels)
    assert np.array_equal(readout.predict(X[0]), peer.predict(X[0]))
    assert np.allclose(readout.predict_proba(X[0]), peer.predict_proba(X[0]), atol=1e-4)
