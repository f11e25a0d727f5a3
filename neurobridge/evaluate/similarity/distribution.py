"""Distances between two clouds of points as distributions, without pairs."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import ot
from scipy.linalg import qr, svdvals
from scipy.spatial.distance import cdist, pdist

from neurobridge.points.blocks import row_blocks
from neurobridge.points.conversion import real_array
from neurobridge.points.memory import check_memory
from neurobridge.points.options import is_choice, is_number, require_options

# The median distance is taken over this many points of each cloud, the kernel over as many rows at a time.
N_MEDIAN, BLOCK = 2000, 2048
# Coordinates along a direction, their order, and quantiles of both clouds at all masses; bytes that all directions may take.
_BYTES_OF_A_DIRECTION, _DIRECTIONS_AT_ONCE = 80.0, 5e8


def sliced_wasserstein(X: np.ndarray, Y: np.ndarray, *, n_projections: int = 500, p: int = 2, seed: int = 0) -> float:
    """Compute the sliced Wasserstein distance of order p: ``(mean over directions u of W_p(X u, Y u)^p)^(1/p)``.

    Bonneel et al. 2015 (J. Math. Imaging Vis. 51); by POT.

    Parameters
    ----------
    X : array of shape (n, d)
    Y : array of shape (m, d)
    n_projections : int
        Directions drawn evenly on the sphere.
    p : int
    seed : int
        Of the directions; the same seed gives the same directions whatever the points.

    Returns
    -------
    float
        In the units of X and Y.

    Raises
    ------
    ValueError
        Points that are not finite or of different dimensions, fewer than one projection, or p below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.similarity import sliced_wasserstein
    >>> X = np.random.default_rng(0).normal(size=(50, 3))  # simulated
    >>> round(sliced_wasserstein(X, X), 3), round(sliced_wasserstein(X, X + [3, 0, 0]), 1)  # near 3 / sqrt(3)
    (0.0, 1.8)
    """
    require_options(n_projections=n_projections, p=p, seed=seed)
    # What has no shape is checked, or refused, once it is an array.
    shapes = [side.shape for side in (X, Y) if np.ndim(getattr(side, "shape", 0)) == 1 and len(side.shape) == 2]
    n_points, n_numbers = sum(shape[0] for shape in shapes), sum(map(math.prod, shapes))
    check_memory(
        8.0 * n_numbers + _BYTES_OF_A_DIRECTION * n_points, math.inf, f"a sliced Wasserstein distance of {n_points} points",
        mend="sliced_wasserstein(X[::10], Y[::10]) takes a tenth of the points",
    )  # fmt: skip
    X, Y = _clouds(X, Y)
    if n_projections < 1 or p < 1:
        raise ValueError(
            f"found n_projections={n_projections}, p={p}; expected at least 1 each. Mend: leave them out for 500 and 2."
        )
    at_once = max(1, int(_DIRECTIONS_AT_ONCE / (_BYTES_OF_A_DIRECTION * (len(X) + len(Y)))))
    if n_projections <= at_once:
        return float(ot.sliced_wasserstein_distance(X, Y, n_projections=n_projections, p=p, seed=seed))
    # The same directions, some at a time.
    directions = ot.sliced.get_random_projections(X.shape[1], n_projections, seed)
    total = 0.0
    for part in row_blocks(n_projections, 1, budget=at_once):
        some = directions[:, part]
        total += float(ot.sliced_wasserstein_distance(X, Y, projections=some, p=p)) ** p * some.shape[1]
    return float((total / n_projections) ** (1 / p))


def mmd(X: np.ndarray, Y: np.ndarray, *, bandwidth: float | Literal["median"] = "median") -> float:
    """Estimate the squared maximum mean discrepancy under ``k(x, y) = exp(-||x - y||^2 / (2 bandwidth^2))``, without bias.

    Gretton et al. 2012 (JMLR 13), equation 3: the mean of k within X and within Y, pairs of different points alone, less twice
    its mean between them. Its expectation is 0 for two samples of one distribution, so a value may be negative.

    Parameters
    ----------
    X : array of shape (n, d)
    Y : array of shape (m, d)
    bandwidth : float or "median"
        In the units of X and Y. "median" is the median distance between points of both clouds together (up to 2,000 of each, evenly
        spaced rows). To compare several clouds with one, give all the same bandwidth: `median_distance` of that one.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        Points that are not finite or of different dimensions, fewer than two in a cloud, or a bandwidth that is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.similarity import mmd
    >>> X = np.random.default_rng(0).normal(size=(50, 3))  # simulated
    >>> mmd(X, X + 5, bandwidth=1.0) > 0.1, mmd(X[:25], X[25:]) < 0.1
    (True, True)
    """
    if not (is_number(bandwidth) or is_choice(bandwidth, ("median",))) or bandwidth is None:
        raise ValueError(f"found bandwidth={bandwidth!r:.60}; expected a number or 'median'. Mend: bandwidth='median'.")
    X, Y = _clouds(X, Y)
    width = median_distance(np.concatenate([_spaced(X), _spaced(Y)])) if bandwidth == "median" else float(bandwidth)
    if not 1e-150 < width < 1e150:
        raise ValueError(
            f"found bandwidth {width}; expected more than 0, and a square that float64 holds. Mend: give such a number, or "
            "points that are not all the same."
        )
    within = [(_kernel_sum(Z, Z, width) - len(Z)) / (len(Z) * (len(Z) - 1)) for Z in (X, Y)]
    return float(sum(within) - 2 * _kernel_sum(X, Y, width) / (len(X) * len(Y)))


def median_distance(X: np.ndarray) -> float:
    """Return the median Euclidean distance between different points of X, shape (n, d).

    At most 4,000 evenly spaced rows are used.
    """
    return float(np.median(pdist(_spaced(np.asarray(X, dtype=np.float64), 2 * N_MEDIAN))))


def frechet_distance(X: np.ndarray, Y: np.ndarray) -> float:
    """Compute the squared Frechet distance of two Gaussians with the clouds' means and covariances.

    ``||m_X - m_Y||^2 + tr(S_X + S_Y - 2 (S_X S_Y)^(1/2))``: Dowson & Landau 1982 (J. Multivar. Anal. 12); equation 6 of
    Heusel et al. 2017 (arXiv 1706.08500). Covariances may be singular.

    Parameters
    ----------
    X : array of shape (n, d)
    Y : array of shape (m, d)

    Returns
    -------
    float
        In the squared units of X and Y.

    Raises
    ------
    ValueError
        Points that are not finite or of different dimensions, or fewer than two in a cloud.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.similarity import frechet_distance
    >>> X = np.random.default_rng(0).normal(size=(50, 3))  # simulated
    >>> round(frechet_distance(X, X + [3, 0, 0]), 3)  # equal covariances: the squared distance of the means
    9.0
    """
    X, Y = _clouds(X, Y)
    means = X.mean(axis=0), Y.mean(axis=0)
    # With S = R'R the trace of (S_X S_Y)^(1/2) is the sum of the singular values of R_X R_Y': no root of a singular matrix.
    roots = [
        qr((Z - mean) / np.sqrt(len(Z) - 1), mode="r", check_finite=False)[0][: Z.shape[1]]
        for Z, mean in zip((X, Y), means, strict=True)
    ]
    spread = sum(float(np.square(root).sum()) for root in roots)
    shared = float(svdvals(roots[0] @ roots[1].T, check_finite=False).sum())
    return max(0.0, float(np.square(means[0] - means[1]).sum()) + spread - 2 * shared)


def _clouds(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    X, Y = (real_array(Z, name=name).astype(np.float64, copy=False) for name, Z in (("X", X), ("Y", Y)))
    for name, Z in (("X", X), ("Y", Y)):
        if Z.ndim != 2 or len(Z) < 2 or Z.shape[1] == 0 or not np.isfinite(Z).all():
            raise ValueError(
                f"{name}: found shape {Z.shape}, finite: {bool(np.isfinite(Z).all())}; expected finite points of shape (n_points, "
                "n_dims), two or more. Mend: pass a matrix of points, with rows that hold NaN dropped."
            )
    if X.shape[1] != Y.shape[1]:
        raise ValueError(
            f"found {X.shape[1]} dimensions in X and {Y.shape[1]} in Y; expected as many. "
            "Mend: map one of them into the space of the other first."
        )
    return X, Y


def _spaced(X: np.ndarray, max_rows: int = N_MEDIAN) -> np.ndarray:
    return X if len(X) <= max_rows else X[np.linspace(0, len(X) - 1, max_rows).astype(int)]


def _kernel_sum(X: np.ndarray, Y: np.ndarray, width: float) -> float:
    total = 0.0
    for rows in row_blocks(len(X), 1, budget=BLOCK):
        square = cdist(X[rows], Y, "sqeuclidean")
        total += float(np.exp(square / (-2 * width**2), out=square).sum())
    return total
