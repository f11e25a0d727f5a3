"""Ridge regression and Procrustes rotation on the pairs."""

from __future__ import annotations

import numpy as np

from neurobridge.aligners.base import AssemblyAligner
from neurobridge.bridge import ridge_map
from neurobridge.maps.orthogonal import rotation_and_scales
from neurobridge.points.arrays import pad_to
from neurobridge.store.kinds import register


@register("ridge-aligner")
class RidgeAligner(AssemblyAligner):
    """Ridge regression on the pairs alone, one map for each direction.

    ``min_M sum_p |M x_p - y_p|^2 + sum_j alpha_j |M_j|^2`` over the pairs (x_p, y_p), centred and in standard deviations
    (Hoerl & Kennard 1970). Every target dimension j has its own penalty, that of the least exact leave-one-out error:
    see `neurobridge.bridge.ridge_map`.

    Parameters
    ----------
    seed : int
        Only used to draw pairs when a fraction is given.

    Attributes
    ----------
    maps_ : tuple of two LinearMap
        Forward and backward, in standard deviations of both spaces.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import RidgeAligner
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 5))
    >>> Y = X @ rng.normal(size=(5, 3)) + 0.1 * rng.normal(size=(60, 3))
    >>> aligner = RidgeAligner().fit(X[:40], Y[:40])
    >>> aligner.transform(X[40:]).shape
    (20, 3)
    >>> aligner.score(X[40:], Y[40:]) > 0.95
    True

    As the last step of a scikit-learn pipeline:

    >>> from sklearn.decomposition import PCA
    >>> from sklearn.pipeline import make_pipeline
    >>> make_pipeline(PCA(4), RidgeAligner()).fit(X[:40], Y[:40]).transform(X[40:]).shape
    (20, 3)
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        left, right = X[rows[0]], Y[rows[1]]
        self.maps_ = ridge_map(left, right, unit=1.0), ridge_map(right, left, unit=1.0)

    def _forward(self, X: np.ndarray) -> np.ndarray:
        return self.maps_[0](X)

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        return self.maps_[1](Y)


@register("procrustes-aligner")
class ProcrustesAligner(AssemblyAligner):
    """Rotation, scale and shift of the pairs.

    ``min_{s, R} || s X R - Y ||_F`` with ``R^T R = 1``, X and Y the pairs, centred and in standard deviations (Schonemann
    1966, Psychometrika 31:1): ``R = U V^T`` and ``s = sum S / |X|_F^2`` with the singular values of ``X^T Y = U S V^T``.
    The smaller space is padded with zeros, so that a rotation exists between spaces of different dimensions.

    Parameters
    ----------
    seed : int
        Only used to draw pairs when a fraction is given.

    Attributes
    ----------
    rotation_ : array of shape (n_dims, n_dims)
        R, of the larger space.
    scale_ : tuple of two float
        s forward and backward; each direction has its own least-squares scale.
    means_ : tuple of two arrays of shape (n_dims,)
        Means of the paired source and target points.
    n_dims_ : int
        Dimensions of the larger space.
    n_dims_out_ : tuple of two int
        Dimensions of the source and of the target.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.aligners import ProcrustesAligner
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> X = (X - X.mean(axis=0)) / X.std(axis=0)
    >>> aligner = ProcrustesAligner().fit(X, X[:, ::-1])
    >>> bool(np.allclose(aligner.transform(X), X[:, ::-1]))
    True
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _fit_arrays(self, X: np.ndarray, Y: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> None:
        self.n_dims_ = max(X.shape[1], Y.shape[1])
        left, right = pad_to(X[rows[0]], self.n_dims_), pad_to(Y[rows[1]], self.n_dims_)
        self.means_ = left.mean(axis=0), right.mean(axis=0)
        left, right = left - self.means_[0], right - self.means_[1]
        self.rotation_, self.scale_ = rotation_and_scales(left, right)
        self.n_dims_out_ = X.shape[1], Y.shape[1]

    def _forward(self, X: np.ndarray) -> np.ndarray:
        centred = pad_to(X, self.n_dims_) - self.means_[0]
        return (self.scale_[0] * centred @ self.rotation_ + self.means_[1])[:, : self.n_dims_out_[1]]

    def _backward(self, Y: np.ndarray) -> np.ndarray:
        centred = pad_to(Y, self.n_dims_) - self.means_[1]
        return (self.scale_[1] * centred @ self.rotation_.T + self.means_[0])[:, : self.n_dims_out_[0]]
