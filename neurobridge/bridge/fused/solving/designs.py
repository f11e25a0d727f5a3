"""Refits of the rounds: one cloud decomposed once, then fitted to one set of images after another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch

from neurobridge.maps.linear import ALPHAS
from neurobridge.maps.orthogonal import nearest_rotation

# A pair is known, an image is a guess: its squared error counts this many times in a refit.
RIDGE_PAIR_WEIGHT = 3.0
# Images are averages of the same few targets, so that they count as fewer samples than there are: degrees of freedom count
# this many times in the generalised cross-validation (Cummins, Filloon & Nychka 2001; 1.4 in R's mgcv).
_DEGREE_WEIGHT = 1.5
# Share of the samples that the degrees of freedom leave, at least.
_LEAST_FREE = 0.01
KERNEL_ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0)
KERNEL_MIX = 0.9
KERNEL_CENTRES = 400
# Of a problem of some hundred points a part of its own points is enough.
_CENTRES_SHARE = 2
KERNEL_PAIR_WEIGHT = 10.0
_WIDTH_SAMPLE = 500
# Of so few points the weakest penalty of a curved map is above what float32 loses.
_MOST_IN_FLOAT32 = 1000
# Singular values below this part of the largest are rounding.
_UNSEEN = 1e-5


class CloudMap(Protocol):
    """A map from the coordinates of one cloud to those of another."""

    def __call__(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Map (n_points, rank_in) to (n_points, rank_out)."""
        ...

    def mean_over(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Return the mean of the images of points (n_points, rank_in), shape (rank_out,)."""
        ...


@dataclass(frozen=True, eq=False)
class AffineMap:
    """The map ``z -> (z - centre) coef + image_centre``."""

    coef: torch.Tensor
    centre: torch.Tensor
    image_centre: torch.Tensor
    # Ridge penalty in squared units of the cloud; 0 where there was none.
    alpha: float = 0.0

    def __call__(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Map (n_points, rank_in) to (n_points, rank_out)."""
        return torch.addmm(self.image_centre - self.centre @ self.coef, coordinates, self.coef)

    def mean_over(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Return the mean of the images of points (n_points, rank_in), shape (rank_out,)."""
        return self(coordinates.mean(dim=0, keepdim=True))[0]


class Weights:
    """Weights of the samples of a refit, a pair counting more than an image, with mean one."""

    def __init__(self, n_points: int, paired_rows: torch.Tensor, pair_weight: float, like: torch.Tensor) -> None:
        weight = torch.ones(n_points, dtype=like.dtype, device=like.device)
        weight[paired_rows] = pair_weight
        self.share = weight / weight.sum()
        self.root = (self.share * n_points).sqrt()[:, None]


class Penalties:
    """Ridge penalties of one decomposition, compared by generalised cross-validation.

    With the thin SVD ``W^1/2 (Z - mean) = U S V^T``, ``f = S^2 / (S^2 + alpha)`` and ``df = 1 + sum f``::

        GCV(alpha) = |Y - Y_hat|^2 / (1 - gamma df / n)^2,    gamma = 1.5

    which needs the lengths of ``U^T Y`` alone (Golub, Heath & Wahba 1979), where leave-one-out needs all residuals.

    Parameters
    ----------
    S : tensor of shape (rank,)
    alphas : tuple of float
        Rising, in squared units of the samples.
    n_points : int
    """

    def __init__(self, S: torch.Tensor, alphas: tuple[float, ...], n_points: int) -> None:
        squares, column = S**2, torch.tensor(alphas).to(S)[:, None]
        self.kept = squares / (squares + column)
        self.shrink = S / (squares + column)
        left = 1 - _DEGREE_WEIGHT * (1 + self.kept.sum(dim=1)) / n_points
        # Penalties so weak that the degrees of freedom exceed the samples are not candidates; the strongest always is.
        self._is_candidate = left > _LEAST_FREE
        self._is_candidate[-1] = True
        self._denominator = left.clamp(min=_LEAST_FREE) ** 2

    def best(self, targets: torch.Tensor, projected: torch.Tensor) -> tuple[int, float]:
        """Return the place of the best penalty, and its GCV.

        Parameters
        ----------
        targets : tensor of shape (n, rank_out)
            ``W^1/2 (Y - mean)``.
        projected : tensor of shape (rank, rank_out)
            ``U^T`` times them.
        """
        energy = projected.square().sum(dim=1)
        outside = (targets.square().sum() - energy.sum()).clamp(min=0)
        residual = outside + (1 - self.kept).square() @ energy
        scores = torch.where(self._is_candidate, residual / self._denominator, torch.inf)
        best = int(scores.argmin())
        return best, float(scores[best])


class RidgeDesign:
    """Weighted ridge regression from one cloud, the penalty by generalised cross-validation.

    Parameters
    ----------
    coordinates : tensor of shape (n, rank)
        In units of the cloud, so that penalties do not depend on the units of the points.
    paired_rows : int tensor
    """

    def __init__(self, coordinates: torch.Tensor, paired_rows: torch.Tensor) -> None:
        self.weights = Weights(len(coordinates), paired_rows, RIDGE_PAIR_WEIGHT, coordinates)
        self.centre = self.weights.share @ coordinates
        self.coordinates = coordinates
        self.U, self.S, self.V = thin_svd((coordinates - self.centre) * self.weights.root)
        self._points = self.U / self.weights.root
        self._penalties = Penalties(self.S, ALPHAS, len(coordinates))

    def fit(self, images: torch.Tensor) -> RidgeFit:
        """Fit the map to the images of all points, shape (n, rank_out)."""
        image_centre = self.weights.share @ images
        targets = (images - image_centre).mul_(self.weights.root)
        projected = self.U.T @ targets
        return RidgeFit(self, projected, self._penalties.best(targets, projected)[0], image_centre)

    def coefficients(self, projected: torch.Tensor, penalty: int) -> torch.Tensor:
        """Return the coefficients, shape (rank, rank_out), from the projected targets."""
        return self.V @ (self._penalties.shrink[penalty][:, None] * projected)

    def fitted(self, projected: torch.Tensor, penalty: int, image_centre: torch.Tensor) -> torch.Tensor:
        """Return the values at the points of the fit, shape (n, rank_out), from the projected targets."""
        return torch.addmm(image_centre, self._points, self._penalties.kept[penalty][:, None] * projected)


class RidgeFit:
    """A ridge map of a `RidgeDesign`, whose coefficients are computed when another cloud than that of the fit is mapped."""

    def __init__(self, design: RidgeDesign, projected: torch.Tensor, penalty: int, image_centre: torch.Tensor) -> None:
        self.design, self.projected, self.penalty, self.image_centre = design, projected, penalty, image_centre

    def __call__(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Map (n_points, rank_in) to (n_points, rank_out)."""
        if coordinates is self.design.coordinates:
            return self.design.fitted(self.projected, self.penalty, self.image_centre)
        return self.affine(coordinates)

    def mean_over(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Return the mean of the images of points (n_points, rank_in), shape (rank_out,)."""
        return self.affine.mean_over(coordinates)

    @cached_property
    def affine(self) -> AffineMap:
        """The map written out."""
        coef = self.design.coefficients(self.projected, self.penalty)
        return AffineMap(coef, self.design.centre, self.image_centre, ALPHAS[self.penalty])


class Turn(NamedTuple):
    """The two maps of a rotation, the rotation, and the cross-covariance it was read from, if that of images."""

    forward: AffineMap
    backward: AffineMap
    rotation: torch.Tensor
    covariance: torch.Tensor | None


class OrthogonalDesign:
    """Weighted Procrustes between two clouds whose coordinates are rescaled: a rotation, or whitening and a rotation.

    With ``u = z_x D_x`` and ``v = z_y D_y``, D the standard deviations of the coordinates to the power -power, R is the
    orthogonal matrix that turns u nearest to v, so that ``M z = s z D_x R D_y^-1``: Procrustes for power 0, whitened Procrustes
    for power 1. Both image sets enter the cross-covariance, and a part of the last one stays in it.

    Parameters
    ----------
    source, target : tensors of shape (n, rank)
    paired : tuple of two int tensors
    power : float
        In [0, 1].
    rank : int or None
        Axes kept on each side; None for all.
    """

    def __init__(
        self,
        source: torch.Tensor,
        target: torch.Tensor,
        paired: tuple[torch.Tensor, torch.Tensor],
        power: float,
        rank: int | None,
        pair_weight: float,
        damping: float,
    ) -> None:
        self.paired, self.damping = paired, damping
        self.sides = source, target
        self.centres = source.mean(dim=0), target.mean(dim=0)
        self.scales = tuple(_scales(side, power, rank) for side in self.sides)
        self.views = self.view(source, 0), self.view(target, 1)
        self.weights = tuple(
            Weights(len(side), rows, pair_weight, side) for side, rows in zip(self.sides, paired, strict=True)
        )

    def view(self, coordinates: torch.Tensor, side: int) -> torch.Tensor:
        """Return coordinates of a side (0 source, 1 target), centred and rescaled."""
        scale = self.scales[side]
        return (coordinates - self.centres[side])[:, : len(scale)] * scale

    def start(self) -> Turn:
        """Fit to the pairs alone."""
        (i, j), (u, v) = self.paired, self.views
        # Few pairs span few directions: a small matrix has the same rotation.
        (source_axes, source_part), (target_axes, target_part) = torch.linalg.qr(u[i].T), torch.linalg.qr(v[j].T)
        return self._turned(source_axes @ rotation_of(source_part @ target_part.T) @ target_axes.T, None)

    def refit(self, images: torch.Tensor, origins: torch.Tensor, last: torch.Tensor | None) -> Turn:
        """Fit to the images of both sides, given in the coordinates of the clouds, and to the last cross-covariance."""
        images, origins = self.view(images, 1), self.view(origins, 0)
        (u, v), (source, target) = self.views, self.weights
        covariance = _unit((source.share[:, None] * u).T @ images) + _unit((target.share[:, None] * origins).T @ v)
        if last is not None:
            covariance = self.damping * last + (1 - self.damping) * covariance
        return self._turned(rotation_of(covariance), covariance)

    def _turned(self, rotation: torch.Tensor, kept: torch.Tensor | None) -> Turn:
        (i, j), (u, v) = self.paired, self.views
        forward = self._affine(rotation, u[i], v[j], (0, 1))
        return Turn(forward, self._affine(rotation.T, v[j], u[i], (1, 0)), rotation, kept)

    def _affine(
        self, rotation: torch.Tensor, given: torch.Tensor, known: torch.Tensor, order: tuple[int, int]
    ) -> AffineMap:
        """The least-squares scale on the pairs, and the way back to the coordinates of the clouds."""
        here, there = order
        turned = given @ rotation
        scale = (turned * known).sum() / turned.square().sum().clamp(min=torch.finfo(turned.dtype).tiny)
        coef = torch.zeros(
            (self.sides[here].shape[1], self.sides[there].shape[1]), dtype=given.dtype, device=given.device
        )
        coef[: len(self.scales[here]), : len(self.scales[there])] = (
            scale.clamp(min=1e-6) * self.scales[here][:, None] * rotation / self.scales[there]
        )
        return AffineMap(coef, self.centres[here], self.centres[there])


class KernelDesign:
    """Weighted kernel ridge regression from one cloud: the curved map of the last rounds.

    As `neurobridge.maps.kernel.kernel_map` with one Gaussian width, the median distance, and five penalties, of which
    generalised cross-validation chooses; its features and their decomposition are made once.
    """

    def __init__(self, coordinates: torch.Tensor, paired_rows: torch.Tensor, seed: int) -> None:
        n = len(coordinates)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(coordinates.device)
        few = coordinates[order[:_WIDTH_SAMPLE]]
        distances = torch.pdist(few)
        distances = distances[distances > 0]
        self.width = float(distances.median()) if len(distances) else 1.0
        self.weights = Weights(n, paired_rows, KERNEL_PAIR_WEIGHT, coordinates)
        n_centres = min(KERNEL_CENTRES, max(200, n // _CENTRES_SHARE))
        self.centres = coordinates if n <= n_centres else coordinates[order[:n_centres]]
        values, vectors = torch.linalg.eigh(self._gauss(self.centres).double())
        kept = values > 1e-7 * values[-1]
        self.whiten = (KERNEL_MIX**0.5 * vectors[:, kept] / values[kept].sqrt()).to(coordinates)
        self.x_centre = self.weights.share @ coordinates
        length = (self.weights.share @ (coordinates - self.x_centre).square().sum(dim=1)).sqrt()
        # A cloud whose points are all the same has no linear part.
        self.linear = (1 - KERNEL_MIX) ** 0.5 / (float(length) or 1.0)
        self.coordinates = coordinates
        features = self.features(coordinates)
        self.mean_features = features.mean(dim=0, keepdim=True)
        self.centre = self.weights.share @ features
        dtype = torch.float32 if n <= _MOST_IN_FLOAT32 else torch.float64
        self.U, self.S, self.V = thin_svd((features - self.centre) * self.weights.root, dtype)
        self._penalties = Penalties(self.S, KERNEL_ALPHAS, n)

    def _gauss(self, coordinates: torch.Tensor) -> torch.Tensor:
        return (squared_distances(coordinates, self.centres) / (-2 * self.width**2)).exp()

    def features(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Return the curved and the linear features of points, shape (n_points, n_features)."""
        curved = self._gauss(coordinates) @ self.whiten
        return torch.cat([curved, self.linear * (coordinates - self.x_centre)], dim=1)

    def fit(self, images: torch.Tensor) -> CurvedMap:
        """Fit the map to the images of all points, shape (n, rank_out)."""
        image_centre = self.weights.share @ images
        targets = (images - image_centre).mul_(self.weights.root)
        projected = self.U.T @ targets
        best, error = self._penalties.best(targets, projected)
        readout = AffineMap(self.V @ (self._penalties.shrink[best][:, None] * projected), self.centre, image_centre)
        return CurvedMap(self, readout, KERNEL_ALPHAS[best], error / len(images))


@dataclass(frozen=True, eq=False)
class CurvedMap:
    """A linear readout of the features of a `KernelDesign`."""

    design: KernelDesign
    readout: AffineMap
    alpha: float
    #: Mean squared error by generalised cross-validation.
    error: float

    def __call__(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Map (n_points, rank_in) to (n_points, rank_out)."""
        return self.readout(self.design.features(coordinates))

    def mean_over(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Return the mean of the images of points (n_points, rank_in), shape (rank_out,)."""
        if coordinates is self.design.coordinates:
            return self.readout(self.design.mean_features)[0]
        return self.readout.mean_over(self.design.features(coordinates))

    @property
    def mix(self) -> float:
        """Share of the Gaussian part of the kernel."""
        return KERNEL_MIX


def thin_svd(
    matrix: torch.Tensor, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decompose ``A = U diag(S) V^T`` by the Gram matrix of the shorter side, computed in a given precision.

    Directions shorter than a millionth of the longest, or than four roots of the precision, are left out as rounding: no penalty
    of ridge regression is so weak that they count.
    """
    wide = matrix.to(dtype)
    tall = wide if wide.shape[0] >= wide.shape[1] else wide.T
    values, V = torch.linalg.eigh(tall.T @ tall)
    S, V = values.flip(0).clamp(min=0).sqrt(), V.flip(1)
    rank = max(1, int((max(1e-6, 4 * torch.finfo(dtype).eps ** 0.5) * S[0] < S).sum()))
    S, V = S[:rank], V[:, :rank]
    U = tall @ (V / S.clamp(min=torch.finfo(S.dtype).tiny))
    U, V = (U, V) if tall is wide else (V, U)
    return U.to(matrix), S.to(matrix), V.to(matrix)


def rotation_of(covariance: torch.Tensor) -> torch.Tensor:
    """Return the rotation nearest to a cross-covariance, as `neurobridge.maps.orthogonal.nearest_rotation`, in float32.

    Directions that the covariance has not seen are sent to zero.
    """
    try:
        U, S, Vt = torch.linalg.svd(covariance, full_matrices=False)
        seen = _UNSEEN * S[0] < S
        rotation = U[:, seen] @ Vt[seen]
        if bool(torch.isfinite(rotation).all()):
            return rotation
    except torch.linalg.LinAlgError:
        # The fast driver gives up on some matrices of low rank.
        pass
    turned = nearest_rotation(covariance.double().cpu().numpy(), cutoff=_UNSEEN)
    return torch.as_tensor(turned, device=covariance.device).to(covariance)


def squared_distances(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances between the rows of A and of B."""
    product = torch.addmm(B.square().sum(dim=1)[None, :], A, B.T, alpha=-2)
    return product.add_(A.square().sum(dim=1)[:, None]).clamp_(min=0)


def cosine_distances(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """``1 - cos`` between the rows of A and of B; one for a row of zeros."""
    left, right = (torch.nn.functional.normalize(side, dim=1, eps=1e-12) for side in (A, B))
    return 1 - left @ right.T


def _scales(side: torch.Tensor, power: float, rank: int | None) -> torch.Tensor:
    variance = side.var(dim=0, unbiased=False)
    kept = variance[: min(rank or len(variance), len(variance))]
    return (kept + 0.01 * kept.mean()) ** (-power / 2)


def _unit(matrix: torch.Tensor) -> torch.Tensor:
    length = matrix.norm()
    return matrix / length if float(length) > 0 else matrix
