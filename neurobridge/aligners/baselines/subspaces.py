"""PLS and CCA on the pairs, with the components and the penalty that predict left-out pairs best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.maps.canonical import CanonicalDesign
from neurobridge.maps.folds import folds_of, least_error
from neurobridge.maps.linear import LinearMap
from neurobridge.maps.pls import Predict, fit_pls
from neurobridge.store.kinds import register

# Brain-Score's PLS has 25 components; more never won on the pairs one has.
PLS_COMPONENTS = (1, 2, 4, 8, 16, 25)
CCA_PENALTIES = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)


def affine(predict: Predict, X: np.ndarray, Y: np.ndarray) -> LinearMap:
    """Write an affine prediction that takes the mean of X to that of Y as a map that can be kept: its values at the axes."""
    means = X.mean(axis=0), Y.mean(axis=0)
    coef = predict(means[0] + np.eye(X.shape[1])) - means[1]
    return LinearMap(coef, *means, np.full(Y.shape[1], np.nan))


@register("pls-aligner")
class PLSAligner(AssemblyAligner):
    """Partial least squares on the pairs, converged, one map for each direction.

    The components are directions of the source, one after the other, whose projections have the largest covariance with
    the target; the target is regressed on them (improved kernel algorithm 2 of Dayal & MacGregor 1997, J. Chemometrics
    11:73).

    Parameters
    ----------
    n_components : int, optional
        Default: that of 1, 2, 4, 8, 16 and 25 with the least squared error on left-out pairs (five folds), for each
        direction.
    seed : int
        Of the folds, and of the pairs when a fraction is given.

    Attributes
    ----------
    n_components_ : tuple of two int
        Forward and backward.
    maps_ : tuple of two LinearMap
        Forward and backward, in standard deviations of both spaces.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import PLSAligner
    >>> rng = np.random.default_rng(0)
    >>> latents = rng.normal(size=(60, 2))
    >>> X, Y = latents @ rng.normal(size=(2, 8)), latents @ rng.normal(size=(2, 5))
    >>> PLSAligner(n_components=2).fit(X[:40], Y[:40]).score(X[40:], Y[40:]) > 0.99
    True

    The number of components by scikit-learn's grid search:

    >>> from sklearn.model_selection import GridSearchCV
    >>> GridSearchCV(PLSAligner(), {"n_components": [1, 2]}, cv=3).fit(X, Y).best_params_
    {'n_components': 2}
    """

    def __init__(self, *, n_components: int | None = None, seed: int = 0) -> None:
        self.n_components = n_components
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        if self.n_components is not None and self.n_components < 1:
            raise ValueError(
                f"found n_components={self.n_components}; expected at least 1. Mend: leave it out to have it chosen."
            )
        left, right = X[rows[0]], Y[rows[1]]
        counts = self._choose_count(left, right), self._choose_count(right, left)
        self.n_components_ = counts
        self.maps_ = (
            affine(fit_pls(left, right, n_components=counts[0]), left, right),
            affine(fit_pls(right, left, n_components=counts[1]), right, left),
        )

    def _choose_count(self, X: np.ndarray, Y: np.ndarray) -> int:
        if self.n_components is not None:
            return self.n_components
        errors = [
            {k: _error(fit_pls(X[train], Y[train], n_components=k), X[test], Y[test]) for k in PLS_COMPONENTS}
            for train, test in folds_of(len(X), self.seed)
        ]
        return least_error(errors)

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self.maps_[0](X)

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self.maps_[1](Y)


@register("cca-aligner")
class CCAAligner(AssemblyAligner):
    """Regularised canonical correlations of the pairs: from x to its canonical variates, and from these to y.

    With ``X = U S V^T`` and ``Y = U' S' V'^T`` centred on the pairs, penalties ``kappa = penalty * mean(S^2)`` (and kappa'
    of Y) and ``D = S / sqrt(S^2 + kappa)``, the regularised canonical correlations are the singular values in ``D U^T U' D'
    = A diag(rho) B^T`` (Hotelling 1936; canonical ridge, Vinod 1976, J. Econometrics 4:147), and y is predicted from the
    leading k variates of x by ``x V (S^2 + kappa)^(-1/2) A_k diag(rho_k) B_k^T (S'^2 + kappa')^(1/2) V'^T``. Without a
    penalty and with all variates this is least squares, with a penalty and all variates ridge regression; fewer variates
    make it of reduced rank.

    Parameters
    ----------
    penalty : float, optional
        In units of the mean squared singular value; 0 is plain CCA, defined for fewer dimensions than pairs.
    n_canonical : int, optional
        k above; the rank of the pairs bounds it. Default, for both parameters: those with the least squared error on
        left-out pairs (five folds), for each direction; of penalties 0, .01, .1, 1, 10 and 100, and of the rank and its
        half, quarter and eighth.
    seed : int
        Of the folds, and of the pairs when a fraction is given.

    Attributes
    ----------
    chosen_ : tuple of two (float, int)
        (penalty, k), forward and backward.
    correlations_ : array of shape (k,)
        Regularised canonical correlations of the pairs, forward. They were fitted on these pairs: without a penalty and
        with more dimensions than pairs they are 1 whatever the data.
    maps_ : tuple of two LinearMap
        Forward and backward, in standard deviations of both spaces.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import CCAAligner
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 4))
    >>> Y = X[:, :2] @ rng.normal(size=(2, 3))
    >>> aligner = CCAAligner(penalty=0.0, n_canonical=2).fit(X[:40], Y[:40])
    >>> aligner.correlations_.round(3).tolist()
    [1.0, 1.0]
    >>> aligner.score(X[40:], Y[40:]) > 0.99
    True
    """

    def __init__(self, *, penalty: float | None = None, n_canonical: int | None = None, seed: int = 0) -> None:
        self.penalty = penalty
        self.n_canonical = n_canonical
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        if self.n_canonical is not None and self.n_canonical < 1:
            raise ValueError(
                f"found n_canonical={self.n_canonical}; expected at least 1. Mend: leave it out to have it chosen."
            )
        if self.penalty is not None and not self.penalty >= 0:
            raise ValueError(
                f"found penalty={self.penalty}; expected at least 0. Mend: leave it out to have it chosen."
            )
        left, right = X[rows[0]], Y[rows[1]]
        self.chosen_ = self._choose(left, right), self._choose(right, left)
        forward, backward = CanonicalDesign(left, right), CanonicalDesign(right, left)
        self.correlations_ = forward.rotated(self.chosen_[0][0])[1][: self.chosen_[0][1]]
        self.maps_ = forward.map(*self.chosen_[0]), backward.map(*self.chosen_[1])

    def _choose(self, X: np.ndarray, Y: np.ndarray) -> tuple[float, int]:
        rank = CanonicalDesign(X, Y).rank
        penalties = CCA_PENALTIES if self.penalty is None else (self.penalty,)
        counts = [-(-rank // share) for share in (1, 2, 4, 8)] if self.n_canonical is None else [self.n_canonical]
        candidates = [(penalty, k) for penalty in penalties for k in dict.fromkeys(counts)]
        if len(candidates) == 1:
            return candidates[0]
        errors = []
        for train, test in folds_of(len(X), self.seed):
            design = CanonicalDesign(X[train], Y[train])
            errors.append({candidate: _error(design.map(*candidate), X[test], Y[test]) for candidate in candidates})
        return least_error(errors)

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self.maps_[0](X)

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self.maps_[1](Y)


def _error(predict: Callable[[np.ndarray], Any], X: np.ndarray, Y: np.ndarray) -> float:
    return float(((predict(X) - Y) ** 2).sum())
