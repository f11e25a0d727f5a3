"""A curved map of the pairs: kernel ridge regression with leave-one-out choice of the kernel and the penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist, pdist

from neurobridge.maps.linear import Decomposition, best_shared_penalty, checked_samples, mapped_points
from neurobridge.points.arrays import Array, same_kind
from neurobridge.points.blocks import row_blocks
from neurobridge.points.conversion import real_array
from neurobridge.points.display import Displayed
from neurobridge.points.options import require_options
from neurobridge.store.kinds import register

#: (width, mix): width in units of the median distance, mix the share of the curved part; mix 0 is ridge.
SHAPES: tuple[tuple[float, float], ...] = ((1.0, 0.9), (1.0, 0.5), (0.5, 0.9), (2.0, 0.9), (1.0, 0.0))
ALPHAS: tuple[float, ...] = tuple(np.logspace(-4, 1, 16).tolist())

# Leverages beyond it belong to samples that nothing else predicts; dividing by what is left would let them decide alone.
_CAP = 1 - 1e-3
_SAMPLE = 500
_FEW = 5000


@register("kernel-map")
@dataclass(frozen=True, eq=False, repr=False)
class KernelMap(Displayed):
    """A smooth map ``x -> k(x, centres) @ kernel_coef + (x - x_mean) @ coef + y_mean``, k Gaussian.

    Attributes
    ----------
    centres : array of shape (n_centres, n_source_dims)
    kernel_coef : array of shape (n_centres, n_target_dims)
    coef : array of shape (n_source_dims, n_target_dims)
    x_mean : array of shape (n_source_dims,)
    y_mean : array of shape (n_target_dims,)
    width : float
        ``k(x, c) = exp(-|x - c|^2 / (2 width^2))``, in the units of the source.
    mix : float
        Share of the Gaussian part of the kernel; 0 is ridge.
    alpha : float
        Penalty, in units of the kernel's diagonal.
    loo_error : float
        Mean squared leave-one-out residual, summed over target dimensions; of the curved maps of a fused bridge its estimate by
        generalised cross-validation.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import kernel_map
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> curve = kernel_map(X, X**2)
    >>> bool(np.abs(curve(X) - X**2).max() < 0.01)
    True
    """

    centres: np.ndarray
    kernel_coef: np.ndarray
    coef: np.ndarray
    x_mean: np.ndarray
    y_mean: np.ndarray
    width: float
    mix: float
    alpha: float
    loo_error: float

    def _facts(self) -> dict[str, Any]:
        return {
            "dims": f"{len(self.coef)} to {self.coef.shape[1]} dims", "centres": f"{len(self.centres)} centres",
            "width": self.width, "mix": self.mix, "alpha": self.alpha, "loo_error": self.loo_error,
        }  # fmt: skip

    def __call__(self, X: Array) -> Array:
        """Map points of shape (n_points, n_source_dims) to (n_points, n_target_dims); numpy or torch, and the same out."""
        points = mapped_points(X, len(self.x_mean))
        images = (points - self.x_mean) @ self.coef + self.y_mean
        if self.mix:
            # As many as these are measured from their middle by a product of matrices, in blocks.
            gauss = _gauss if len(points) <= _FEW else _product_gauss
            for rows in row_blocks(len(points), len(self.centres), budget=1 << 20):
                images[rows] += gauss(points[rows], self.centres, self.width) @ self.kernel_coef
        return same_kind(images, X)


def kernel_map(
    X: Array,
    Y: Array,
    *,
    weights: Array | None = None,
    shapes: Sequence[tuple[float, float]] = SHAPES,
    alphas: tuple[float, ...] = ALPHAS,
    n_centres: int = 500,
    seed: int = 0,
) -> KernelMap:
    """Fit a kernel ridge map from X to Y; kernel and penalty by exact leave-one-out error, shared by all target dimensions.

    The kernel is ``mix exp(-|x - x'|^2 / 2 w^2) + (1 - mix) (x - mean) . (x' - mean) / mean |x - mean|^2``: curved near the
    samples, linear away from them. It is written as features ``phi(x) = [sqrt(mix) k(x, C) K_CC^(-1/2), sqrt(1 - mix) x']``, so
    that the cost is that of ridge on ``n_centres + n_source_dims`` features (Nystroem; Williams & Seeger 2001). With at most
    ``n_centres`` samples every sample is a centre and the result is exact kernel ridge.

    Parameters
    ----------
    X : array of shape (n_samples, n_source_dims)
    Y : array of shape (n_samples, n_target_dims)
    weights : array of shape (n_samples,), optional
        Of the samples' squared errors; equal by default.
    shapes : sequence of (width, mix)
        Kernels to choose from: width in units of the median distance between samples.
    alphas : tuple of float
        Penalties to choose from.
    n_centres : int
        Most centres of the Gaussian part.
    seed : int
        Of the choice of centres.

    Returns
    -------
    KernelMap

    Raises
    ------
    ValueError
        Lengths differ, fewer than two samples, weights that are not positive, a width not positive or a mix outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import kernel_map
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> kernel_map(X, np.sin(X), n_centres=20)(X[:3]).shape
    (3, 2)

    References
    ----------
    Williams & Seeger 2001, *Using the Nystroem method to speed up kernel machines*.
    """
    require_options(shapes=shapes, alphas=alphas, n_centres=n_centres, seed=seed)
    X, Y = checked_samples(X, Y)
    if not shapes or any(width <= 0 or not 0 <= mix <= 1 for width, mix in shapes) or n_centres < 1:
        raise ValueError(
            f"found shapes={tuple(shapes)}, n_centres={n_centres}; expected (width, mix) with width > 0 and mix in [0, 1], and at "
            "least one centre. Mend: leave them out for the defaults."
        )
    share = np.full(len(X), 1 / len(X)) if weights is None else real_array(weights, name="weights").astype(np.float64)
    if share.shape != (len(X),) or not (np.isfinite(share) & (share > 0)).all():
        raise ValueError(
            f"weights: found shape {share.shape}; expected {len(X)} positive numbers, one a sample. Mend: drop samples of weight 0."
        )
    share = share / share.sum()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    centres = X if len(X) <= n_centres else X[order[:n_centres]]
    few = X if len(X) <= _SAMPLE else X[order[:_SAMPLE]]
    # Duplicated samples have no distance to learn a width from.
    distances = pdist(few)
    if not np.isfinite(distances).all():
        raise ValueError(
            f"X: found values up to {np.abs(X).max():.3g}; expected ones whose squares float64 holds. "
            "Mend: divide X by its largest absolute value."
        )
    median = float(np.median(distances[distances > 0])) if (distances > 0).any() else 1.0
    fits = [_fit(X, Y, share, centres, width * median, mix, alphas) for width, mix in shapes]
    return min(fits, key=lambda fit: fit.loo_error)


def _gauss(X: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    return np.exp(cdist(X, centres, "sqeuclidean") / (-2 * width**2))


def _product_gauss(X: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    # Exponentials of torch use the vector units, and all its threads.
    middle = centres.mean(axis=0)
    left, right = (torch.from_numpy((side - middle) / width) for side in (X, centres))
    exponent = torch.addmm(right.square().sum(dim=1) / -2, left, right.T)
    exponent -= left.square().sum(dim=1)[:, None] / 2
    return exponent.clamp_(max=0).exp_().numpy()


def _fit(
    X: np.ndarray,
    Y: np.ndarray,
    share: np.ndarray,
    centres: np.ndarray,
    width: float,
    mix: float,
    alphas: tuple[float, ...],
) -> KernelMap:
    x_mean, y_mean = share @ X, share @ Y
    length = float(np.sqrt(share @ ((X - x_mean) ** 2).sum(axis=1))) or 1.0
    linear = np.sqrt(1 - mix) / length
    whiten = np.zeros((len(centres), 0))
    if mix:
        values, vectors = np.linalg.eigh(_gauss(centres, centres, width))
        kept = values > 1e-10 * values[-1]
        whiten = np.sqrt(mix) * vectors[:, kept] / np.sqrt(values[kept])
    curved = _gauss(X, centres, width) @ whiten if mix else np.zeros((len(X), 0))
    features = np.hstack([curved, linear * (X - x_mean)])
    middle = share @ features
    # Weighted ridge is ridge on rows scaled by the root of their weight, relative to an equal share.
    root = np.sqrt(share * len(X))[:, None]
    rows, targets = root * (features - middle), root * (Y - y_mean)
    samples = Decomposition.of(rows, min(alphas))
    best, error = best_shared_penalty(samples, targets, alphas, share, cap=_CAP)
    coef = samples.coef(targets, alphas[best])
    n_curved = whiten.shape[1]
    # The features' mean goes into the offset, so that mapping a point needs no feature of its own.
    offset = y_mean - middle @ coef
    return KernelMap(
        centres, whiten @ coef[:n_curved], linear * coef[n_curved:], x_mean, offset, width, mix, alphas[best],
        error / len(X),
    )  # fmt: skip
