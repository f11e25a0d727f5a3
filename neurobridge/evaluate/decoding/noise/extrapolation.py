"""Accuracy of choices among several classes as a function of noise, and its limit without noise; on arrays alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import ndtr

#: Candidates: accuracies from chance to 1, and ratios of the noise variance of a trial to that of the signal.
N_ACCURACIES = 401
RATIOS = np.concatenate([[0.0], np.geomspace(0.01, 1000, 91)])
# Beyond, the accuracy is 1 in double precision for any number of classes that is in use.
_LARGEST = 12.0
_SENSITIVITIES = np.linspace(0, _LARGEST, 2401)
_NODES, _WEIGHTS = hermegauss(61)


@lru_cache(maxsize=16)
def _accuracies(n_classes: int) -> np.ndarray:
    """Return the accuracy at each of ``_SENSITIVITIES``."""
    shifted = _NODES[:, None] + _SENSITIVITIES
    return np.asarray(_WEIGHTS / _WEIGHTS.sum() @ ndtr(shifted) ** (n_classes - 1))


def choice_accuracy(sensitivity: np.ndarray, n_classes: int) -> np.ndarray:
    r"""Return the accuracy of an unbiased choice among classes, ``integral of phi(x - d) Phi(x)^(n_classes - 1) dx``.

    The evidence for the true class exceeds that for each other one by ``d`` standard deviations of both on average (Green & Swets
    1966, Signal detection theory and psychophysics).

    Parameters
    ----------
    sensitivity : array of any shape
        ``d``, from 0 (chance) on.
    n_classes : int

    Returns
    -------
    array of the shape of sensitivity

    Examples
    --------
    >>> import numpy as np
    >>> choice_accuracy(np.array([0.0, 1.0]), 2).round(3).tolist()  # the second is Phi(1 / sqrt(2))
    [0.5, 0.76]
    """
    return np.interp(sensitivity, _SENSITIVITIES, _accuracies(n_classes))


def extrapolate_accuracy(accuracy: np.ndarray, n_averaged: np.ndarray, n_classes: int) -> np.ndarray:
    r"""Estimate the accuracy on responses without noise from those on averages of few trials.

    The noise of an average of k trials has 1 / k of the variance of a trial's, so that the sensitivity falls to

        d_k = d / sqrt(1 + q / k),    accuracy_k = A(d_k)

    with A of `choice_accuracy` and q the ratio of the noise variance of a trial to the variance that responses without noise have
    about the evidence for their class. The accuracy ``A(d)`` and q with the least squared error over all k are returned.

    Parameters
    ----------
    accuracy : array of shape (n_samples, n_counts)
        Values of several samples, e.g. time bins or bootstrap draws.
    n_averaged : array of shape (n_counts,)
        k.
    n_classes : int

    Returns
    -------
    array of shape (n_samples,)
        From chance to 1.

    Examples
    --------
    >>> import numpy as np
    >>> k = np.array([1, 2, 4, 8])
    >>> observed = choice_accuracy(2 / np.sqrt(1 + 3 / k), 4)
    >>> limit = extrapolate_accuracy(observed[None], k, 4)
    >>> bool(abs(limit - choice_accuracy(np.array(2.0), 4)) < 0.01)
    True
    """
    limits = np.linspace(1 / n_classes, 1, N_ACCURACIES)
    at_limit = np.interp(limits, _accuracies(n_classes), _SENSITIVITIES)
    shrunk = at_limit[:, None, None] / np.sqrt(1 + RATIOS[:, None] / n_averaged)
    expected = choice_accuracy(shrunk, n_classes).reshape(-1, len(n_averaged))
    errors = np.square(expected).sum(axis=1) - 2 * accuracy @ expected.T
    return np.asarray(limits[errors.argmin(axis=1) // len(RATIOS)])
