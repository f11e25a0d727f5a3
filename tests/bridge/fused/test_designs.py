"""What the rounds compute with: clouds in principal coordinates, and their ridge, kernel and orthogonal refits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.linear_model import Ridge

from neurobridge.bridge.fused.solving.clouds import Cloud
from neurobridge.bridge.fused.solving.designs import (
    KERNEL_ALPHAS,
    RIDGE_PAIR_WEIGHT,
    KernelDesign,
    OrthogonalDesign,
    Penalties,
    RidgeDesign,
    cosine_distances,
    squared_distances,
    thin_svd,
)
from neurobridge.bridge.fused.solving.rounds import Known
from neurobridge.maps.kernel import kernel_map
from neurobridge.maps.linear import ALPHAS

RNG = np.random.default_rng(0)
PAIRED = torch.arange(7)


def close(ours, theirs, tolerance):
    """Compare by the size of the numbers."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max(), rtol=0)


CLOUDS = {
    "long": RNG.normal(size=(60, 5)) * [5, 4, 3, 2, 1],
    "wide": RNG.normal(size=(9, 30)),
    "far from the origin": RNG.normal(size=(40, 4)) + 1e4,
    "tiny": 1e-9 * RNG.normal(size=(40, 4)),
    "smaller than any square": 1e-200 * RNG.normal(size=(40, 4)),
    "huge": 1e9 * RNG.normal(size=(40, 4)),
    "one dimension": RNG.normal(size=(40, 1)),
    "two points": RNG.normal(size=(2, 6)),
    "constant dimensions": np.c_[RNG.normal(size=(40, 3)), np.ones((40, 2))],
    "of low rank": RNG.normal(size=(50, 2)) @ RNG.normal(size=(2, 20)),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_coordinates_of_a_cloud_lead_back_to_its_points_and_keep_distances(name):
    points = CLOUDS[name]
    cloud = Cloud.of(points)
    size = np.abs(points - points.mean(axis=0)).max()
    assert cloud.coordinates.dtype == torch.float32
    assert cloud.rank <= min(len(points) - 1, points.shape[1])
    assert cloud.rank == np.linalg.matrix_rank((points - points.mean(axis=0)) / size, tol=1e-6)
    np.testing.assert_allclose(cloud.points_of(cloud.coordinates), points, atol=1e-6 * size, rtol=1e-12)
    np.testing.assert_allclose(pdist(cloud.coordinates) * (cloud.unit / size), pdist(points / size), atol=1e-5)
    np.testing.assert_allclose(cloud.axes.T @ cloud.axes, np.eye(cloud.rank), atol=1e-10)
    # From the most to the least variance.
    assert (np.diff(cloud.coordinates.var(dim=0)) <= 1e-6).all()
    rows = np.arange(0, len(points), 2)
    part = cloud.subset(rows)
    np.testing.assert_array_equal(part.coordinates, cloud.coordinates[rows])
    np.testing.assert_allclose(part.coordinates_of(points), cloud.coordinates, atol=1e-6)


def test_a_cloud_of_one_point_many_times_has_one_coordinate_and_stays_finite():
    cloud = Cloud.of(np.full((6, 3), 2.5))
    assert cloud.rank == 1
    np.testing.assert_array_equal(cloud.coordinates, 0)
    np.testing.assert_allclose(cloud.points_of(cloud.coordinates), 2.5)


def test_new_points_are_seen_in_the_directions_of_the_cloud():
    points = CLOUDS["of low rank"]
    cloud = Cloud.of(points)
    outside = points[:5] + RNG.normal(size=(5, 20))
    projected = cloud.points_of(cloud.coordinates_of(outside)) - cloud.centre
    basis = np.linalg.svd(points - points.mean(axis=0))[2][:2]
    np.testing.assert_allclose(projected, (outside - cloud.centre) @ basis.T @ basis, atol=1e-5)


def coordinates(n, rank, seed):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=(n, rank))).float()


@pytest.mark.parametrize(("n", "rank"), [(60, 6), (20, 30)])
@pytest.mark.parametrize("noise", [0.01, 1.0, 30.0])
def test_the_ridge_refit_is_weighted_ridge_with_the_penalty_of_least_generalised_error(n, rank, noise):
    Z = coordinates(n, rank, 1)
    images = Z[:, :3] @ coordinates(3, 4, 2) + noise * coordinates(n, 4, 3) + 5
    design = RidgeDesign(Z, PAIRED)
    fitted = design.fit(images)
    weights = np.ones(n)
    weights[:7] = RIDGE_PAIR_WEIGHT
    weights *= n / weights.sum()
    new = coordinates(8, rank, 4)
    chosen = fitted.affine.alpha
    expected = Ridge(chosen).fit(Z.numpy(), images.numpy(), weights).predict(new.numpy())
    close(fitted(new), expected, 2e-4)
    close(fitted(Z), fitted.affine(Z), 2e-4)
    # The penalty is that of the formula, written out.
    scores = []
    for alpha in ALPHAS:
        ridge = Ridge(alpha, solver="svd").fit(Z.double().numpy(), images.double().numpy(), weights)
        residual = weights @ (images.numpy() - ridge.predict(Z.double().numpy())) ** 2
        root = np.sqrt(weights)[:, None]
        S = np.linalg.svd(root * (Z.double().numpy() - np.average(Z, axis=0, weights=weights)), compute_uv=False)
        left = 1 - 1.5 * (1 + (S**2 / (S**2 + alpha)).sum()) / n
        scores.append(residual.sum() / left**2 if left > 0.01 else np.inf)
    scores = np.asarray(scores)
    assert scores[ALPHAS.index(chosen)] <= 1.001 * scores.min()


def test_as_many_coordinates_as_points_still_have_a_ridge_refit():
    Z = coordinates(5, 4, 0)
    fitted = RidgeDesign(Z, PAIRED[:2]).fit(coordinates(5, 3, 1))
    assert torch.isfinite(fitted(Z)).all()
    flat = RidgeDesign(torch.zeros(5, 1), PAIRED[:2]).fit(coordinates(5, 3, 1))
    assert torch.isfinite(flat(Z[:, :1])).all()


@pytest.mark.parametrize("n", [50, 150])
def test_the_kernel_refit_is_the_kernel_map_of_one_shape(n):
    Z = coordinates(n, 3, 1)
    images = torch.sin(2 * Z) @ coordinates(3, 4, 2) + 0.05 * coordinates(n, 4, 3)
    fitted = KernelDesign(Z, PAIRED, seed=0).fit(images)
    weights = np.ones(n)
    weights[:7] = 10
    known = kernel_map(
        Z.double().numpy(), images.double().numpy(), weights=weights, shapes=((1.0, 0.9),),
        alphas=(0.01, 0.03, 0.1, 0.3, 1.0), n_centres=400,
    )  # fmt: skip
    assert fitted.alpha == known.alpha
    close(fitted(Z), known(Z.double().numpy()), 2e-3)
    close(fitted(3 * Z[:9]), known(3 * Z[:9].double().numpy()), 1e-2)


@pytest.mark.parametrize("n", [50, 150])
def test_the_penalty_of_a_kernel_refit_has_the_least_generalised_cross_validation_error(n):
    Z = coordinates(n, 3, 1)
    images = torch.sin(2 * Z) @ coordinates(3, 4, 2) + 0.5 * coordinates(n, 4, 3)
    design = KernelDesign(Z, PAIRED, seed=0)
    fitted = design.fit(images)
    share, phi = design.weights.share.double().numpy(), design.features(Z).double().numpy()
    root = np.sqrt(n * share)[:, None]
    A, B = root * (phi - share @ phi), root * (images - design.weights.share @ images).double().numpy()
    errors = []
    for alpha in KERNEL_ALPHAS:
        hat = A @ np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T)
        degrees = 1 + np.trace(hat)
        errors.append(np.square(B - hat @ B).sum() / (1 - 1.5 * degrees / n) ** 2 / n if 1.5 * degrees < n else np.inf)
    assert fitted.alpha == KERNEL_ALPHAS[int(np.argmin(errors))]
    assert fitted.error == pytest.approx(min(errors), rel=1e-3)


def test_of_many_points_a_part_are_centres():
    Z = coordinates(900, 2, 1)
    design = KernelDesign(Z, PAIRED, seed=0)
    assert len(design.centres) == 400
    images = torch.sin(2 * Z)
    assert float((design.fit(images)(Z) - images).square().mean()) < 1e-3


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_rotation_between_rescaled_coordinates_is_recovered(power):
    turn = torch.as_tensor(np.linalg.qr(RNG.normal(size=(5, 5)))[0]).float()
    source = coordinates(400, 5, 0) * torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    source = source - source.mean(dim=0)
    # The map of the design's own form.
    variance = source.var(dim=0, unbiased=False)
    target = source * (variance + 0.01 * variance.mean()) ** (-power / 2) @ turn
    pairs = torch.arange(9), torch.arange(9)
    if power == 0:
        design = OrthogonalDesign(source, 3 * target, pairs, power, None, 10.0, 0.5)
        turned = design.start()
        close(turned.forward(source), 3 * target, 1e-4)
        close(turned.backward(3 * target), source, 1e-4)
        close(turned.rotation, turn, 1e-4)
    design = OrthogonalDesign(source, target, pairs, power, None, 10.0, 0.5)
    if power == 1:
        # The target is nearly white: rescaled once more it stays what it is.
        close(design.start().forward(source), target, 0.1)
    refitted = design.refit(target, source, None)
    np.testing.assert_allclose(refitted.rotation @ refitted.rotation.T, np.eye(5), atol=1e-5)
    # A second refit to the same images, with half of the first in it, changes nothing.
    again = design.refit(target, source, refitted.covariance)
    close(again.rotation, refitted.rotation, 1e-4)


def test_directions_that_no_pair_has_seen_stay_out_of_a_rotation():
    source = coordinates(50, 6, 0)
    design = OrthogonalDesign(source, source[:, :4], (torch.arange(3), torch.arange(3)), 0.0, None, 10.0, 0.5)
    turned = design.start()
    assert np.linalg.matrix_rank(turned.rotation, tol=1e-3) == 3
    assert turned.forward(source).shape == (50, 4)
    assert turned.backward(source[:, :4]).shape == (50, 6)


@pytest.mark.parametrize("shape", [(30, 6), (6, 30), (5, 5), (4, 1)])
def test_the_thin_decomposition_is_that_of_the_matrix(shape):
    matrix = coordinates(*shape, 0)
    U, S, V = thin_svd(matrix)
    close(U * S @ V.T, matrix, 1e-5)
    close(S, np.linalg.svd(matrix, compute_uv=False), 1e-5)
    np.testing.assert_allclose(U.T @ U, np.eye(len(S)), atol=1e-5)
    assert len(thin_svd(torch.zeros(shape))[1]) == 1


def test_features_of_few_points_are_decomposed_in_float32_without_their_rounding():
    # Gaussian features, whose singular values fall far below what float32 can tell.
    design = KernelDesign(coordinates(500, 3, 0), torch.arange(20), 0)
    features = (design.features(design.coordinates) - design.centre) * design.weights.root
    U, S, _ = thin_svd(features, torch.float32)
    np.testing.assert_allclose(U.T @ U, np.eye(len(S)), atol=0.1)
    close(S[:20], np.linalg.svd(features.double(), compute_uv=False)[:20], 1e-4)
    images = coordinates(500, 2, 1)
    exact = KernelDesign(design.coordinates, torch.arange(20), 0)
    exact.U, exact.S, exact.V = thin_svd(features)
    exact._penalties = Penalties(exact.S, KERNEL_ALPHAS, 500)
    assert len(exact.S) > len(S)
    new = coordinates(50, 3, 2)
    close(design.fit(images)(new), exact.fit(images)(new), 1e-3)


def test_distances_are_those_of_their_definition():
    A, B = coordinates(7, 4, 0), coordinates(5, 4, 1)
    np.testing.assert_allclose(squared_distances(A, B), ((A[:, None] - B[None]) ** 2).sum(dim=2), rtol=1e-4, atol=1e-5)
    cosines = torch.nn.functional.cosine_similarity(A[:, None], B[None], dim=2)
    np.testing.assert_allclose(cosine_distances(A, B), 1 - cosines, atol=1e-6)
    np.testing.assert_array_equal(cosine_distances(torch.zeros(1, 4), B), 1)


def test_images_of_paired_points_are_their_partners_or_the_mean_of_several():
    partners = coordinates(4, 2, 0)
    images = Known(torch.tensor([3, 0, 3, 1]), partners, 6).pin(torch.zeros(6, 2))
    expected = np.zeros((6, 2))
    expected[0], expected[1], expected[3] = partners[1], partners[3], (partners[0] + partners[2]) / 2
    np.testing.assert_allclose(images, expected, rtol=1e-6)
