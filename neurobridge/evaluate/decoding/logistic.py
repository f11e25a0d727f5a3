"""Multinomial logistic regression of many problems at a time: time bins, draws of sites, permutations of the labels."""

from __future__ import annotations

from collections import deque

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

#: Largest entry of the gradient at the end; class probabilities are then within 1e-4 of the optimum's.
TOLERANCE = 3e-4
#: Pairs of steps and changes of the gradient that the quasi-Newton method keeps.
MEMORY = 6
MAX_ITERATIONS = 5000


def fit_logistic(
    X: np.ndarray, codes: np.ndarray, n_classes: int, *, tolerance: float = TOLERANCE
) -> tuple[np.ndarray, np.ndarray]:
    r"""Fit multinomial logistic regressions with scikit-learn's penalty at ``C=1``, all at a time.

    Each minimises ``sum_i -log softmax(x_i W + b)[y_i] + ||W||^2 / 2`` (for two classes ``||W||^2``, which is scikit-learn's
    penalty of its one vector of weights ``w = W[:, 1] - W[:, 0]``), by L-BFGS (Nocedal & Wright 2006, algorithm 7.4) with
    backtracking (their algorithm 3.1) and a step of its own for each problem. The objective is strictly convex in W, so the
    optimum does not depend on the method.

    Parameters
    ----------
    X : array of shape (n_problems, n_samples, n_features)
        May be a broadcast view.
    codes : array of int of shape (n_samples,) or (n_problems, n_samples)
        Class of each sample, 0 to ``n_classes`` - 1.
    n_classes : int
    tolerance : float
        Largest absolute entry of the gradient at which a problem is solved.

    Returns
    -------
    weights : array of shape (n_problems, n_features, n_classes)
    intercepts : array of shape (n_problems, 1, n_classes)

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.decoding.logistic import fit_logistic
    >>> X = np.random.default_rng(0).normal(size=(2, 40, 3))  # simulated
    >>> weights, intercepts = fit_logistic(X, np.arange(40) % 2, 2)
    >>> weights.shape, intercepts.shape
    ((2, 3, 2), (2, 1, 2))
    """
    n_problems, n_samples, n_features = X.shape
    codes = np.broadcast_to(codes, (n_problems, n_samples))
    onehot = (codes[..., None] == np.arange(n_classes)).astype(np.float64)
    penalty = 2.0 if n_classes == 2 else 1.0
    # Weights and, in the last row, intercepts.
    solution = np.zeros((n_problems, n_features + 1, n_classes))
    active = np.arange(n_problems)
    theta = solution.copy()
    value, gradient = _objective(X, onehot, theta, penalty)
    steps: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque(maxlen=MEMORY)
    for _ in range(MAX_ITERATIONS):
        solved = np.abs(gradient).max(axis=(1, 2)) <= tolerance
        if solved.any():
            solution[active] = theta
            left = ~solved
            if not left.any():
                break
            active, X, onehot = active[left], X[left], onehot[left]
            theta, value, gradient = theta[left], value[left], gradient[left]
            steps = deque(((s[left], y[left], sy[left]) for s, y, sy in steps), maxlen=MEMORY)
        direction = _direction(gradient, steps)
        slope = -_dot(direction, gradient)
        size = np.ones(len(active))
        while True:
            trial = theta - size[:, None, None] * direction
            trial_value, trial_gradient = _objective(X, onehot, trial, penalty)
            # Near the optimum a decrease is below the rounding of the value.
            short = trial_value > value + 1e-4 * size * slope + 1e-13 * np.abs(value)
            if not short.any() or size.min() < 1e-12:
                break
            size[short] /= 2
        step, change = trial - theta, trial_gradient - gradient
        steps.append((step, change, np.maximum(_dot(step, change), np.finfo(float).tiny)))
        theta, value, gradient = trial, trial_value, trial_gradient
    solution[active] = theta
    return solution[:, :-1], solution[:, -1:]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ijk,ijk->i", a, b)


def _objective(X: np.ndarray, onehot: np.ndarray, theta: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Return values, array of shape (n_problems,), and gradients, array of the shape of theta."""
    weights = theta[:, :-1]
    logits = X @ weights
    logits += theta[:, -1:]
    logits -= logits.max(axis=-1, keepdims=True)
    of_truth = _dot(logits, onehot)
    np.exp(logits, out=logits)
    total = logits.sum(axis=-1, keepdims=True)
    value = np.log(total).sum(axis=(1, 2)) - of_truth + penalty / 2 * _dot(weights, weights)
    logits /= total
    logits -= onehot
    gradient = np.empty_like(theta)
    np.matmul(X.transpose(0, 2, 1), logits, out=gradient[:, :-1])
    gradient[:, :-1] += penalty * weights
    gradient[:, -1] = logits.sum(axis=1)
    return value, gradient


def _direction(gradient: np.ndarray, steps: deque[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """Multiply the gradient by the approximate inverse Hessian: the two loops of L-BFGS."""
    if not steps:
        return gradient / np.sqrt(_dot(gradient, gradient))[:, None, None]
    q, shares = gradient.copy(), []
    for step, change, product in reversed(steps):
        share = _dot(step, q) / product
        q -= share[:, None, None] * change
        shares.append(share)
    _, change, product = steps[-1]
    q *= (product / np.maximum(_dot(change, change), np.finfo(float).tiny))[:, None, None]
    for (step, change, product), share in zip(steps, reversed(shares), strict=True):
        q += (share - _dot(change, q) / product)[:, None, None] * step
    return q


class LogisticReadout(ClassifierMixin, BaseEstimator):
    """Multinomial logistic regression with the penalty of scikit-learn's `LogisticRegression` at ``C=1``.

    It is solved to probabilities within 1e-4 of the optimum's, where scikit-learn's default tolerance leaves some 1e-3, and is the
    regression that `fit_logistic` solves for many time bins at a time.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    coef_ : array of shape (n_classes, n_features)
    intercept_ : array of shape (n_classes,)

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.decoding.logistic import LogisticReadout
    >>> X = np.array([[-1.0], [-0.5], [0.5], [1.0]])
    >>> LogisticReadout().fit(X, np.array(["a", "a", "b", "b"])).predict([[-3.0], [3.0]]).tolist()
    ['a', 'b']
    """

    def fit(self, X: np.ndarray, y: np.ndarray) -> LogisticReadout:
        """Fit the responses X of shape (n_stimuli, n_sites) of the classes y."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        weights, intercepts = fit_logistic(np.asarray(X, dtype=np.float64)[None], codes, len(self.classes_))
        self.coef_, self.intercept_ = weights[0].T, intercepts[0, 0]
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the logits of responses: array of shape (n_stimuli, n_classes)."""
        return np.asarray(X) @ self.coef_.T + self.intercept_

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return class probabilities: array of shape (n_stimuli, n_classes)."""
        logits = self.decision_function(X)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]
