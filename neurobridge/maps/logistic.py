"""Multinomial logistic regression of many problems at a time: time bins, draws of sites, permutations of the labels."""

from __future__ import annotations

import warnings
from collections import deque

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

#: Largest entry of the gradient at the end; class probabilities are then within 1e-4 of the optimum's.
TOLERANCE = 3e-4
#: The same in single precision, in which the first iterations take half the time.
SINGLE_TOLERANCE = 1e-2
#: Pairs of steps and changes of the gradient that the quasi-Newton method keeps.
MEMORY = 6
MAX_ITERATIONS = 5000

#: Steps, changes of the gradient, and their inner products.
Step = tuple[np.ndarray, np.ndarray, np.ndarray]
Steps = deque[Step]


def fit_logistic(
    X: np.ndarray, codes: np.ndarray, n_classes: int, *, tolerance: float = TOLERANCE
) -> tuple[np.ndarray, np.ndarray]:
    r"""Fit multinomial logistic regressions with scikit-learn's penalty at ``C=1``, all at a time.

    Each minimises ``sum_i -log softmax(W x_i + b)[y_i] + ||W||^2 / 2`` (for two classes ``||W||^2``, which is scikit-learn's
    penalty of its one vector of weights ``w = W[1] - W[0]``), by L-BFGS (Nocedal & Wright 2006, algorithm 7.4) with
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
    weights : array of shape (n_problems, n_classes, n_features)
    intercepts : array of shape (n_problems, n_classes)

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.maps.logistic import fit_logistic
    >>> X = np.random.default_rng(0).normal(size=(2, 40, 3))  # simulated
    >>> weights, intercepts = fit_logistic(X, np.arange(40) % 2, 2)
    >>> weights.shape, intercepts.shape
    ((2, 2, 3), (2, 2))
    """
    n_problems, n_samples, n_features = X.shape
    truth = np.broadcast_to(codes, (n_problems, n_samples))[:, None] == np.arange(n_classes)[:, None]
    penalty = 2.0 if n_classes == 2 else 1.0
    # Weights and, in the last column, intercepts.
    theta = np.zeros((n_problems, n_classes, n_features + 1))
    steps: Steps = deque(maxlen=MEMORY)
    coarse = X.astype(np.float32)
    if tolerance < SINGLE_TOLERANCE and np.isfinite(coarse).all():
        single, steps = _minimise(coarse, truth, theta.astype(np.float32), penalty, SINGLE_TOLERANCE, steps)
        theta = single.astype(np.float64)
        steps = deque(((s.astype(float), y.astype(float), sy.astype(float)) for s, y, sy in steps), maxlen=MEMORY)
    theta, _ = _minimise(X, truth, theta, penalty, tolerance, steps)
    largest = np.abs(_objective(X, truth, theta, penalty)[1]).max(axis=(1, 2))
    n_unsolved = int((largest > 10 * tolerance).sum())
    if n_unsolved:
        warnings.warn(
            f"found {n_unsolved} of {n_problems} logistic regressions that did not reach their optimum, the largest gradient "
            f"{largest.max():.2g}; expected {tolerance:g}. Look at the scales of the sites, or use readout='lda'.",
            UserWarning,
            stacklevel=2,
        )
    return theta[:, :, :-1], theta[:, :, -1]


def _minimise(
    X: np.ndarray, truth: np.ndarray, theta: np.ndarray, penalty: float, tolerance: float, steps: Steps
) -> tuple[np.ndarray, Steps]:
    """Return minima, array of the shape of theta, and the last steps of every problem.

    A problem whose line search cannot go on stays where it is. Steps of zeros stand for those that were not made.
    """
    solution, active = theta.copy(), np.arange(len(theta))
    value, gradient = _objective(X, truth, theta, penalty)
    rounding = 4 * np.finfo(theta.dtype).eps
    stuck = np.zeros(len(theta), dtype=bool)
    last = [(np.zeros_like(theta), np.zeros_like(theta), np.ones(len(theta), theta.dtype)) for _ in range(MEMORY)]
    for _ in range(MAX_ITERATIONS):
        left = (np.abs(gradient).max(axis=(1, 2)) > tolerance) & ~stuck
        if not left.all():
            _keep(active, theta, steps, solution, last)
            if not left.any():
                break
            active, X, truth = active[left], X[left], truth[left]
            theta, value, gradient = theta[left], value[left], gradient[left]
            steps = deque(((s[left], y[left], sy[left]) for s, y, sy in steps), maxlen=MEMORY)
        direction = _direction(gradient, steps)
        slope = -_dot(direction, gradient)
        size = np.ones(len(active), dtype=theta.dtype)
        while True:
            trial = theta - size[:, None, None] * direction
            trial_value, trial_gradient = _objective(X, truth, trial, penalty)
            # Near the optimum a decrease is below the rounding of the value.
            short = ~(trial_value <= value + 1e-4 * size * slope + rounding * np.abs(value))
            stuck = short & (size < 1e-6)
            if not (short & ~stuck).any():
                break
            size[short] /= 2
        step, change = trial - theta, trial_gradient - gradient
        steps.append((step, change, np.maximum(_dot(step, change), np.finfo(theta.dtype).tiny)))
        theta, value, gradient = trial, trial_value, trial_gradient
    else:
        _keep(active, theta, steps, solution, last)
    return solution, deque(last, maxlen=MEMORY)


def _keep(active: np.ndarray, theta: np.ndarray, steps: Steps, solution: np.ndarray, last: list[Step]) -> None:
    """Write where the active problems are, and their last steps, to the arrays of all problems."""
    solution[active] = theta
    for pair, kept in zip(reversed(steps), reversed(last), strict=False):
        for part, whole in zip(pair, kept, strict=True):
            whole[active] = part


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ijk,ijk->i", a, b)


def _objective(X: np.ndarray, truth: np.ndarray, theta: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Return values, array of shape (n_problems,), and gradients, array of the shape of theta."""
    weights = np.ascontiguousarray(theta[:, :, :-1])
    logits = weights @ X.transpose(0, 2, 1)
    logits += theta[:, :, -1:]
    logits -= logits.max(axis=1, keepdims=True)
    of_truth = np.where(truth, logits, 0).sum(axis=(1, 2))
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    value = np.log(total).sum(axis=(1, 2)) - of_truth + penalty / 2 * _dot(weights, weights)
    logits /= total
    logits -= truth
    gradient = np.empty_like(theta)
    gradient[:, :, :-1] = logits @ X
    gradient[:, :, :-1] += theta.dtype.type(penalty) * weights
    gradient[:, :, -1] = logits.sum(axis=2)
    return value, gradient


def _direction(gradient: np.ndarray, steps: Steps) -> np.ndarray:
    """Multiply the gradient by the approximate inverse Hessian: the two loops of L-BFGS."""
    if not steps:
        return gradient / np.sqrt(_dot(gradient, gradient))[:, None, None]
    q, shares = gradient.copy(), []
    for step, change, product in reversed(steps):
        share = _dot(step, q) / product
        q -= share[:, None, None] * change
        shares.append(share)
    _, change, product = steps[-1]
    squared = _dot(change, change)
    q *= np.divide(product, squared, out=np.ones_like(squared), where=squared > 0)[:, None, None]
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
    >>> from neurobridge.maps.logistic import LogisticReadout
    >>> X = np.array([[-1.0], [-0.5], [0.5], [1.0]])
    >>> LogisticReadout().fit(X, np.array(["a", "a", "b", "b"])).predict([[-3.0], [3.0]]).tolist()
    ['a', 'b']
    """

    def fit(self, X: np.ndarray, y: np.ndarray) -> LogisticReadout:
        """Fit the responses X of shape (n_stimuli, n_sites) of the classes y."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        weights, intercepts = fit_logistic(np.asarray(X, dtype=np.float64)[None], codes, len(self.classes_))
        self.coef_, self.intercept_ = weights[0], intercepts[0]
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
