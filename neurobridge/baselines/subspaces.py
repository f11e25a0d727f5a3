"""PLS and CCA on the pairs, with as many components as predict left-out pairs best."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from neurobridge.aligner import AssemblyAligner
from neurobridge.evaluate.regression import Predict, fit_pls

N_FOLDS = 5
# Brain-Score's PLS has 25 components; more never won on the pairs one has.
PLS_COMPONENTS = (1, 2, 4, 8, 16, 25)
PRINCIPAL = (1, 2, 4, 8, 16, 32, 64)

Key = TypeVar("Key", bound=Hashable)


def folds_of(n: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deal n pairs at random into at most `N_FOLDS` folds, as (train, test) rows."""
    order = np.random.default_rng(seed).permutation(n)
    parts = np.array_split(order, min(N_FOLDS, n))
    return [(np.setdiff1d(order, part), part) for part in parts]


def least_error(errors: Sequence[Mapping[Key, float]]) -> Key:
    """Candidate of least summed error among those that every fold could fit; the first of equals."""
    common = [key for key in errors[0] if all(key in fold for fold in errors)]
    return min(common, key=lambda key: sum(fold[key] for fold in errors))


class PLSAligner(AssemblyAligner):
    """Partial least squares on the pairs, converged, one map for each direction.

    Parameters
    ----------
    n_components : int, optional
        Default: that of 1, 2, 4, 8, 16 and 25 with the least squared error on left-out pairs (five folds), for each direction.
    seed : int
        Of the folds, and of the pairs when a fraction is given.

    Attributes
    ----------
    n_components_ : tuple of two int
        Forward and backward.
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
        counts = self._count(left, right), self._count(right, left)
        self.n_components_ = counts
        self._maps = (
            fit_pls(left, right, n_components=counts[0]),
            fit_pls(right, left, n_components=counts[1]),
        )

    def _count(self, X: np.ndarray, Y: np.ndarray) -> int:
        if self.n_components is not None:
            return self.n_components
        errors = [
            {k: _error(fit_pls(X[a], Y[a], n_components=k), X[b], Y[b]) for k in PLS_COMPONENTS}
            for a, b in folds_of(len(X), self.seed)
        ]
        return least_error(errors)

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self._maps[0](X)

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self._maps[1](Y)


class CCAAligner(AssemblyAligner):
    """Canonical correlations of the pairs' principal components: from x to its canonical variates, from there to y.

    With the leading r principal components of both sides, ``X = U S V^T`` and ``Y = U' S' V'^T`` (centred on the pairs), the
    canonical correlations are the singular values in ``U^T U' = A diag(rho) B^T``, and the best prediction of y from the leading k
    canonical variates of x is ``x V S^-1 A_k diag(rho_k) B_k^T S' V'^T``. Hotelling 1936; on principal components, as in SVCCA,
    Raghu et al. 2017 (arXiv 1706.05806): with fewer pairs than dimensions CCA itself is not defined. With all components the map
    is least squares.

    Parameters
    ----------
    n_principal, n_canonical : int, optional
        r and k above; the rank of the pairs bounds them. Default: those with the least squared error on left-out pairs (five
        folds), for each direction; k is r, r/2 or r/4.
    seed : int
        Of the folds, and of the pairs when a fraction is given.

    Attributes
    ----------
    n_components_ : tuple of two (int, int)
        (r, k), forward and backward.
    correlations_ : array of shape (k,)
        Canonical correlations of the pairs, forward. They were fitted on these pairs: with r near the number of pairs they are 1
        whatever the data.
    """

    def __init__(self, *, n_principal: int | None = None, n_canonical: int | None = None, seed: int = 0) -> None:
        self.n_principal = n_principal
        self.n_canonical = n_canonical
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        for name, value in (("n_principal", self.n_principal), ("n_canonical", self.n_canonical)):
            if value is not None and value < 1:
                raise ValueError(f"found {name}={value}; expected at least 1. Mend: leave it out to have it chosen.")
        left, right = X[rows[0]], Y[rows[1]]
        designs = _Canonical(left, right), _Canonical(right, left)
        chosen = self._chosen(left, right), self._chosen(right, left)
        self.n_components_ = chosen
        self.correlations_ = designs[0].correlations(*chosen[0])
        self._maps = designs[0].map(*chosen[0]), designs[1].map(*chosen[1])

    def _chosen(self, X: np.ndarray, Y: np.ndarray) -> tuple[int, int]:
        candidates = self._candidates(_Canonical(X, Y).rank)
        if len(candidates) == 1:
            return candidates[0]
        errors = []
        for a, b in folds_of(len(X), self.seed):
            design = _Canonical(X[a], Y[a])
            errors.append({c: _error(design.map(*c), X[b], Y[b]) for c in candidates})
        return least_error(errors)

    def _candidates(self, rank: int) -> list[tuple[int, int]]:
        principal = [r for r in PRINCIPAL if r < rank] + [rank] if self.n_principal is None else [self.n_principal]
        pairs = []
        for r in principal:
            canonical = (r, -(-r // 2), -(-r // 4)) if self.n_canonical is None else (self.n_canonical,)
            pairs += [(r, k) for k in canonical]
        return list(dict.fromkeys(pairs))

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self._maps[0](X)

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self._maps[1](Y)


class _Canonical:
    """Principal components of paired rows, decomposed once for every number of components."""

    def __init__(self, X: np.ndarray, Y: np.ndarray) -> None:
        self.means = X.mean(axis=0), Y.mean(axis=0)
        (self.U, self.S, self.Vt), (self.U_y, self.S_y, self.Vt_y) = _thin(X - self.means[0]), _thin(Y - self.means[1])
        self.rank = max(1, len(self.S), len(self.S_y))

    def _rotated(self, r: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not (len(self.S) and len(self.S_y)):
            # A single pair, or pairs that are all the same point: nothing varies.
            return np.zeros((len(self.S[:r]), 0)), np.zeros(0), np.zeros((0, len(self.S_y[:r])))
        A, rho, Bt = np.linalg.svd(self.U[:, :r].T @ self.U_y[:, :r], full_matrices=False)
        return A[:, :k], rho[:k], Bt[:k]

    def correlations(self, r: int, k: int) -> np.ndarray:
        return self._rotated(r, k)[1]

    def map(self, r: int, k: int) -> Predict:
        A, rho, Bt = self._rotated(r, k)
        into = self.Vt[:r].T / self.S[:r] @ (A * rho)
        out = Bt * self.S_y[:r] @ self.Vt_y[:r]
        return lambda new: (new - self.means[0]) @ into @ out + self.means[1]


def _thin(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    U, S, Vt = np.linalg.svd(X, full_matrices=False)
    kept = int(np.count_nonzero(S[0] * 1e-10 < S))
    return U[:, :kept], S[:kept], Vt[:kept]


def _error(predict: Callable[[np.ndarray], Any], X: np.ndarray, Y: np.ndarray) -> float:
    return float(((predict(X) - Y) ** 2).sum())
