"""Kernels of the similarity of two spaces: CKA, canonical correlations, Procrustes distance.

They take plain arrays. Each ``*_scorer(X, Y)`` prepares the terms that a permutation does not change and returns
``score(order)``, the value when the rows of Y are taken in that order: the permutation null then costs one cross term a draw.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurobridge.evaluate.correlation import unit_columns
from neurobridge.points.conversion import real_array
from neurobridge.points.memory import check_memory
from neurobridge.points.options import require_options
from neurobridge.points.scale import within_range

Scorer = Callable[[np.ndarray | slice], float]


def _checked(X: np.ndarray, Y: np.ndarray, min_stimuli: int, name_of_measure: str) -> tuple[np.ndarray, np.ndarray]:
    X, Y = (real_array(A, name=f"{name_of_measure}, {side} array").astype(np.float64, copy=False) for side, A in
            (("first", X), ("second", Y)))  # fmt: skip
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y) or len(X) < min_stimuli:
        raise ValueError(
            f"{name_of_measure}: found arrays of shape {X.shape} and {Y.shape}; expected two with the same rows, at "
            f"least {min_stimuli}. "
            "Mend: match the stimuli first, or hold out more of them."
        )
    centred = []
    for name, A in (("first", X), ("second", Y)):
        if not np.isfinite(A).all():
            raise ValueError(
                f"{name_of_measure}: found {int((~np.isfinite(A)).sum())} NaN or infinite values in the {name} array, the first "
                f"in row {int((~np.isfinite(A)).any(axis=1).argmax())}; expected finite ones. "
                "Mend: leave these rows out of both arrays."
            )
        A = within_range(A)
        if not unit_columns(A)[1].any():
            raise ValueError(
                f"{name_of_measure}: found no variance in the {name} array of shape {A.shape}; expected responses that vary over "
                "stimuli. Mend: leave this space out, or take stimuli to which it responds differently."
            )
        centred.append(A - A.mean(axis=0))
    return centred[0], centred[1]


def cka_scorer(X: np.ndarray, Y: np.ndarray, *, unbiased: bool = True, memory_limit: float = 4e9) -> Scorer:
    """Prepare linear centred kernel alignment, ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))``, K = X X^T, L = Y Y^T.

    Biased: ``HSIC = tr(H K H L)`` (Kornblith et al. 2019, eq. 3). Unbiased: the U-statistic of Song et al. 2007, with diagonals
    left out, which is zero on average for independent data, however many features there are (Murphy et al. 2024, arXiv
    2405.01012); it can be negative.

    ``tr(K L)`` is ``||X^T Y||_F^2`` of d x e numbers where these are fewer than n^2; of wider arrays K and L are built once, n x n
    each, and L is permuted.

    Parameters
    ----------
    X : array of shape (n_stimuli, n_features)
    Y : array of shape (n_stimuli, n_other_features)
    unbiased : bool
    memory_limit : float
        Bytes, above which it refuses: 24 n_stimuli^2 where K and L are built, else 8 times the largest of n_features
        n_other_features and the squares of n_features and n_other_features, each at most n_stimuli^2.

    Returns
    -------
    callable
        ``score(order)``.

    Raises
    ------
    ValueError
        Fewer than four stimuli, different numbers of them, values that are not finite, no variance, or (without bias) stimuli
        that are all equally far apart.
    MemoryError
        More than ``memory_limit`` is needed.
    """
    X, Y = _checked(X, Y, 4, "cka")
    n, crossed = len(X), X.shape[1] * Y.shape[1]
    wide = crossed > n * n
    needed = 8.0 * (3 * n * n if wide else max(crossed, *(min(n, A.shape[1]) ** 2 for A in (X, Y))))
    check_memory(
        needed,
        memory_limit,
        f"cka of {n} stimuli with {X.shape[1]} and {Y.shape[1]} features",
        mend="take fewer stimuli, project the features to fewer",
    )
    if wide:
        K, L = X @ X.T, Y @ Y.T
        self_products = [float(np.vdot(G, G)) for G in (K, L)]
    else:
        self_products = [_squared_norm_of_gram(A) for A in (X, Y)]
    dx, dy = (np.square(A).sum(axis=1) for A in (X, Y))

    def cross(order: np.ndarray | slice) -> float:
        if not wide:
            product = X.T @ Y[order]
            return float(np.vdot(product, product))
        rows = np.arange(n)[order]
        return float(np.vdot(K, L[np.ix_(rows, rows)]))

    self_similarity = [_hsic(value, d, d, unbiased) for value, d in zip(self_products, (dx, dy), strict=True)]
    # Less than rounding leaves of the terms that cancel: stimuli that are all equally far apart.
    floor = [1e-12 * value / (n * (n - 3) if unbiased else 1) for value in self_products]
    for name, value, least in zip(("first", "second"), self_similarity, floor, strict=True):
        if not value > least:
            raise ValueError(
                f"cka: found a self-similarity of {value:.3g} in the {name} array of {n} stimuli; expected it above zero, for "
                "stimuli at different distances from each other. Mend: use more stimuli, or unbiased=False."
            )
    norm = np.sqrt(self_similarity[0] * self_similarity[1])
    return lambda order: float(_hsic(cross(order), dx, dy[order], unbiased) / norm)


def _squared_norm_of_gram(A: np.ndarray) -> float:
    gram = A @ A.T if A.shape[1] > len(A) else A.T @ A
    return float(np.vdot(gram, gram))


def _hsic(cross: float, dx: np.ndarray, dy: np.ndarray, unbiased: bool) -> float:
    """Compute HSIC of centred arrays from ``tr(K L)`` and the diagonals of K and L."""
    if not unbiased:
        return cross
    n = len(dx)
    # Rows of K sum to zero before the diagonal goes, so K 1 = -diag.
    trace, sums, rows = cross - dx @ dy, dx.sum() * dy.sum(), dx @ dy
    return float((trace + sums / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)) / (n * (n - 3)))


def linear_cka(X: np.ndarray, Y: np.ndarray, *, unbiased: bool = True, memory_limit: float = 4e9) -> float:
    """Compute the linear centred kernel alignment of two arrays, ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))``.

    K = X X^T and L = Y Y^T of centred arrays. ``unbiased=False``: ``HSIC = tr(H K H L)`` (Kornblith et al. 2019, equation 3).
    ``unbiased=True``: the U-statistic of Song et al. 2007, with the diagonals left out.

    Parameters
    ----------
    X : array of shape (n_stimuli, n_features)
    Y : array of shape (n_stimuli, n_other_features)
    unbiased : bool
        The estimator that is zero on average for unrelated data, or Kornblith's.
    memory_limit : float
        Bytes, above which it refuses.

    Returns
    -------
    float
        1 for spaces that differ by a rotation and a scale.

    Raises
    ------
    ValueError
        Fewer than four stimuli, different numbers of them, or no variance.
    MemoryError
        More than ``memory_limit`` is needed.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.similarity import linear_cka
    >>> X = np.random.default_rng(0).normal(size=(50, 3))  # simulated
    >>> round(linear_cka(X, 2 * X[:, ::-1]), 3)
    1.0
    """
    require_options(unbiased=unbiased, memory_limit=memory_limit)
    return cka_scorer(X, Y, unbiased=unbiased, memory_limit=memory_limit)(slice(None))


def procrustes_scorer(X: np.ndarray, Y: np.ndarray) -> Scorer:
    """Prepare the angular Procrustes distance ``arccos(||X^T Y||_* / (||X||_F ||Y||_F))``, in radians, between 0 and pi/2.

    Both arrays are centred; the smallest angle over all rotations and reflections of one onto the other, the smaller space padded
    with zeros (Williams et al. 2021, arXiv 2110.14739). A metric: symmetric, zero for rotations and scalings, triangle inequality.

    Parameters
    ----------
    X : array of shape (n_stimuli, n_features)
    Y : array of shape (n_stimuli, n_other_features)

    Returns
    -------
    callable
        ``score(order)``.

    Raises
    ------
    ValueError
        Fewer than two stimuli, different numbers of them, or no variance.
    """
    X, Y = _checked(X, Y, 2, "procrustes")
    # Only the row spaces matter: with more features than stimuli, n x n coordinates have the same inner products.
    X, Y = (A if A.shape[1] <= len(A) else _row_space(A) for A in (X, Y))
    X, Y = X / np.linalg.norm(X), Y / np.linalg.norm(Y)
    return lambda order: float(np.arccos(np.clip(np.linalg.svd(X.T @ Y[order], compute_uv=False).sum(), 0, 1)))


def _row_space(A: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(A @ A.T)
    return vectors * np.sqrt(np.maximum(values, 0))


def procrustes_distance(X: np.ndarray, Y: np.ndarray) -> float:
    """Compute the angular Procrustes distance ``arccos(||X^T Y||_* / (||X||_F ||Y||_F))`` of two centred arrays.

    The smallest angle over all rotations and reflections of one onto the other (Williams et al. 2021, arXiv 2110.14739).

    Parameters
    ----------
    X : array of shape (n_stimuli, n_features)
    Y : array of shape (n_stimuli, n_other_features)

    Returns
    -------
    float
        In radians, between 0 and pi/2.

    Raises
    ------
    ValueError
        Fewer than two stimuli, different numbers of them, or no variance.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.similarity import procrustes_distance
    >>> X = np.random.default_rng(0).normal(size=(50, 3))  # simulated
    >>> round(procrustes_distance(X, 2 * X[:, ::-1]), 3)
    0.0
    """
    return procrustes_scorer(X, Y)(slice(None))


def fit_cca(
    X: np.ndarray, Y: np.ndarray, *, n_components: int | None = None, variance: float | None = None
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Fit the canonical directions of two arrays: the projections that correlate most (Hotelling 1936).

    Both spaces are whitened on their principal components and the singular vectors of ``U_X^T U_Y`` turn them onto each other. With
    ``variance`` only the leading components that hold that share of it are kept: SVCCA (Raghu et al. 2017, arXiv 1706.05806).

    Parameters
    ----------
    X : array of shape (n_stimuli, n_features)
    Y : array of shape (n_stimuli, n_other_features)
    n_components : int, optional
        Canonical pairs at most; default all.
    variance : float, optional
        Share in (0, 1]; default: all components above rounding.

    Returns
    -------
    project_x, project_y : callables
        Map (n, n_features) to (n, n_pairs); pair k of both is correlated by the k-th singular value on the fitted stimuli.

    Raises
    ------
    ValueError
        Fewer than three stimuli, no variance, or ``variance`` or ``n_components`` out of range.
    """
    if (variance is not None and not 0 < variance <= 1) or (n_components is not None and n_components < 1):
        raise ValueError(
            f"cca: found variance={variance}, n_components={n_components}; expected a share in (0, 1] and at least one pair. "
            "Mend: variance=0.99."
        )
    means = np.mean(X, axis=0), np.mean(Y, axis=0)
    X, Y = _checked(X, Y, 3, "cca")
    (u, to_u), (v, to_v) = _whitened(X, variance), _whitened(Y, variance)
    left, _, right = np.linalg.svd(u.T @ v, full_matrices=False)
    A, B = to_u @ left[:, :n_components], to_v @ right.T[:, :n_components]
    return lambda new: (new - means[0]) @ A, lambda new: (new - means[1]) @ B


def _whitened(X: np.ndarray, variance: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return orthonormal principal scores (n, k), and the map (n_features, k) that gives them."""
    tall = len(X) >= X.shape[1]
    values, vectors = np.linalg.eigh(X.T @ X if tall else X @ X.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = int((values > values[0] * max(X.shape) * np.finfo(np.float64).eps).sum())
    if variance is not None:
        share = np.cumsum(np.maximum(values, 0)) / np.maximum(values, 0).sum()
        kept = min(kept, int(np.searchsorted(share, variance - 1e-12)) + 1)
    values, vectors = values[:kept], vectors[:, :kept]
    root = np.sqrt(values)
    if tall:
        return X @ (vectors / root), vectors / root
    return vectors, X.T @ (vectors / values)
