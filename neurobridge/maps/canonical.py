"""Canonical correlations of paired rows, and the maps of reduced rank they give."""

from __future__ import annotations

import numpy as np

from neurobridge.maps.linear import LinearMap


class CanonicalDesign:
    """Regularised canonical correlations of paired rows, decomposed once for every penalty and number of variates.

    With ``X = U S V^T`` and ``Y = U' S' V'^T`` centred, penalties ``kappa = penalty * mean(S^2)`` (and kappa' of Y) and
    ``D = S / sqrt(S^2 + kappa)``, the regularised canonical correlations are the singular values in
    ``D U^T U' D' = A diag(rho) B^T`` (Hotelling 1936; canonical ridge, Vinod 1976, J. Econometrics 4:147).

    Parameters
    ----------
    X : array of shape (n_samples, n_source_dims)
    Y : array of shape (n_samples, n_target_dims)

    Attributes
    ----------
    rank : int
        Largest number of variates, at least 1.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> bool(np.allclose(CanonicalDesign(X, 2 * X).map(0.0, 3)(X), 2 * X))
    True
    """

    def __init__(self, X: np.ndarray, Y: np.ndarray) -> None:
        self.means = X.mean(axis=0), Y.mean(axis=0)
        self.x, self.y = _thin(X - self.means[0]), _thin(Y - self.means[1])
        self.rank = max(1, min(len(self.x[1]), len(self.y[1])))
        self._rotations: dict[float, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def _lengths(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Return ``sqrt(S^2 + kappa)`` of both sides."""
        squares = self.x[1] ** 2, self.y[1] ** 2
        return tuple(np.sqrt(s + penalty * (s.mean() if len(s) else 0)) for s in squares)  # type: ignore[return-value]

    def rotated(self, penalty: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return A, rho and B^T for one penalty."""
        if penalty not in self._rotations:
            (U, S, _), (U_y, S_y, _) = self.x, self.y
            if len(S) and len(S_y):
                lengths = self._lengths(penalty)
                inner = (S / lengths[0])[:, None] * (U.T @ U_y) * (S_y / lengths[1])
                self._rotations[penalty] = np.linalg.svd(inner, full_matrices=False)
            else:
                # A single pair, or pairs that are all the same point: nothing varies.
                self._rotations[penalty] = np.zeros((len(S), 0)), np.zeros(0), np.zeros((0, len(S_y)))
        return self._rotations[penalty]

    def map(self, penalty: float, k: int) -> LinearMap:
        """Return the prediction of y from the leading k variates of x."""
        A, rho, Bt = self.rotated(penalty)
        lengths = self._lengths(penalty)
        into = self.x[2].T / lengths[0] @ (A[:, :k] * rho[:k])
        out = Bt[:k] * lengths[1] @ self.y[2]
        return LinearMap(into @ out, *self.means, np.full(len(self.means[1]), penalty))


def _thin(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    U, S, Vt = np.linalg.svd(X, full_matrices=False)
    kept = int(np.count_nonzero(S[0] * 1e-10 < S)) if S[0] > 0 else 0
    return U[:, :kept], S[:kept], Vt[:kept]
