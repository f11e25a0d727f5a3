"""Families of maps: relations that each recovers exactly, alone and with a plan, and in which it is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from neurobridge.bridge import Candidate, fuse
from neurobridge.bridge.fused.candidate import ORTHOGONAL, RELATIVE, RIDGE, SELF_TRAINED, SPECTRAL, WHITENED
from neurobridge.maps.relative import relative_map
from tests.bridge.fused.pools import r2

RNG = np.random.default_rng(0)
N_DIMS = 10
# Clusters of a cloud that is wider along some axes than along others.
CENTRES = 3 * RNG.normal(size=(12, N_DIMS))
CLOUD = (CENTRES[np.arange(220) % 12] + RNG.normal(size=(220, N_DIMS))) * np.linspace(3, 1, N_DIMS)
FITTED, NEW = CLOUD[:160], CLOUD[160:]
TURN = np.linalg.qr(RNG.normal(size=(N_DIMS, N_DIMS)))[0]
SHIFT = RNG.normal(size=N_DIMS)
FAST = {"metric": "euclidean", "n_rounds": (1,), "kernel_rounds": (0,), "lams": (0.9,), "epsilons": (0.05,)}


def turned(points):
    return 2.5 * points @ TURN + SHIFT


def shuffled(n, n_pairs, seed=0):
    """The order of the target points, and rows of pairs."""
    order = np.random.default_rng(seed).permutation(n)
    source = np.arange(n_pairs)
    return order, (source, np.argsort(order)[source])


def test_a_rotation_is_recovered_from_as_many_pairs_as_dimensions_and_chosen():
    order, pairs = shuffled(160, 14)
    target = turned(FITTED)
    # A twelfth pair is needed for nothing: ten directions and a mean that all points show.
    bridge = fuse(FITTED, target[order], pairs, maps=("ridge", "orthogonal"), **FAST | {"kernel_rounds": (0, 1)})
    assert bridge.errors[ORTHOGONAL] < 1e-6
    assert bridge.errors[ORTHOGONAL] < bridge.errors[RIDGE]
    assert bridge.candidate.map == bridge.candidate_back.map == "orthogonal"
    assert r2(bridge.map(NEW), turned(NEW)) > 0.99999
    assert r2(bridge.map_back(turned(NEW)), NEW) > 0.99999
    # There is a plan to draw from where no candidate with a plan was chosen.
    assert bridge.coupling.converged


def test_a_rotation_trains_itself_where_partners_are_sought_and_pairs_are_too_few_for_it():
    rng = np.random.default_rng(3)
    cloud = rng.exponential(size=(220, N_DIMS)) * np.linspace(3, 1, N_DIMS)
    order, pairs = shuffled(160, 4)
    images = turned(cloud) + 0.5 * rng.normal(size=cloud.shape)
    space = cloud[:160], images[:160][order], pairs
    options = {**FAST, "lams": (0.5,), "maps": ("ridge", "selftrained")}
    bridge = fuse(*space, criterion="retrieval", **options)
    assert bridge.errors[SELF_TRAINED] < 0.01 < 0.3 < bridge.errors[RIDGE]
    assert bridge.candidate == bridge.candidate_back == SELF_TRAINED
    assert r2(bridge.map(cloud[160:]), turned(cloud[160:])) > 0.99
    assert r2(bridge.map_back(images[160:]), cloud[160:]) > 0.9
    assert SELF_TRAINED not in fuse(*space, **options).errors


@pytest.mark.parametrize("readout", ["linear", "mean", "barycentric"])
def test_a_plan_recovers_the_directions_that_few_pairs_have_not_seen(readout):
    order, pairs = shuffled(160, 5)
    candidate = Candidate(lam=1.0, epsilon=0.02, n_rounds=20, readout=readout, map="orthogonal")
    bridge = fuse(FITTED, turned(FITTED)[order], pairs, metric="euclidean", candidate=candidate)
    least = {"linear": 0.999, "mean": 0.95, "barycentric": 0.8}[readout]
    assert r2(bridge.map(NEW), turned(NEW)) > least
    assert r2(bridge.map_back(turned(NEW)), NEW) > least
    if readout == "linear":
        scaled = bridge.linear.coef @ bridge.linear.coef.T
        np.testing.assert_allclose(scaled, 2.5**2 * np.eye(N_DIMS), atol=0.05 * 2.5**2)


def test_a_whitened_map_recovers_a_linear_relation_of_clouds_with_unequal_axes():
    order, pairs = shuffled(160, 24)
    mix = RNG.normal(size=(N_DIMS, N_DIMS)) * np.linspace(4, 0.2, N_DIMS)
    target = FITTED @ mix
    bridge = fuse(FITTED, target[order], pairs, maps=("ridge", "whitened", "orthogonal"), **FAST)
    assert bridge.errors[WHITENED] < 0.02
    assert bridge.errors[WHITENED] < 0.2 * bridge.errors[ORTHOGONAL]
    candidate = Candidate(lam=1.0, epsilon=0.02, n_rounds=10, readout="linear", map="whitened")
    with_plan = fuse(FITTED, target[order], pairs, metric="euclidean", candidate=candidate)
    plain = fuse(FITTED, target[order], pairs, metric="euclidean", candidate=Candidate(
        lam=1.0, epsilon=0.02, n_rounds=10, readout="linear", map="orthogonal"
    ))  # fmt: skip
    lost = [1 - r2(fitted.map(NEW), NEW @ mix) for fitted in (with_plan, plain)]
    assert lost[0] < 0.5 * lost[1]


def moons(n, seed):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    angle = np.pi * rng.random(n)
    points = np.c_[np.cos(angle), np.sin(angle)]
    points[label == 1] = [1.0, 0.4] - points[label == 1]
    return points + 0.05 * rng.normal(size=(n, 2)), label


def test_spectral_features_tell_two_moons_apart():
    X, label = moons(200, 0)
    # Which moon a point is of decides where its partner is.
    Y = np.c_[2.0 * label - 1, -2.0 * label + 1, 2.0 * label - 1] + 0.05 * RNG.normal(size=(200, 3))
    order, pairs = shuffled(200, 16)
    bridge = fuse(X, Y[order], pairs, **FAST | {"maps": ("ridge", "spectral"), "lams": (1.0,)})
    assert bridge.errors[SPECTRAL] < 0.5 * bridge.errors[RIDGE]
    assert {each.map for each in bridge.errors} == {"ridge", "spectral"}
    new, new_label = moons(100, 1)
    assert bridge.candidate == SPECTRAL
    assert ((bridge.map(new)[:, 0] > 0) == new_label).mean() > 0.95


def test_a_target_of_directions_is_read_from_cosines():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(200, 3))
    X = np.concatenate([half, -half])
    # Of a source point the target tells the direction, and not how far out it lies.
    Y = X / np.linalg.norm(X, axis=1, keepdims=True) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rows = rng.permutation(400)[:30]
    bridge = fuse(X, Y, (rows, rows), **FAST | {"maps": ("ridge", "relative"), "lams": (1.0,)})
    assert bridge.candidate == RELATIVE
    assert bridge.errors[RELATIVE] < 0.01 * bridge.errors[RIDGE]
    np.testing.assert_allclose(bridge.map(X), Y, atol=1e-3)
    np.testing.assert_allclose(bridge.map(X), relative_map(X, Y, (rows, rows))(X), atol=1e-12)


def test_maps_of_a_chosen_family_do_not_depend_on_units_and_rotations():
    order, pairs = shuffled(160, 14)
    target = turned(FITTED)[order]
    other = np.linalg.qr(RNG.normal(size=(N_DIMS, N_DIMS)))[0]
    for family in ("orthogonal", "whitened"):
        candidate = Candidate(lam=0.9, epsilon=0.1, n_rounds=2, readout="linear", map=family)
        plain = fuse(FITTED, target, pairs, metric="euclidean", candidate=candidate).map(NEW)
        scaled = fuse(1e-6 * FITTED @ other, 1e6 * target, pairs, metric="euclidean", candidate=candidate)
        np.testing.assert_allclose(scaled.map(1e-6 * NEW @ other) / 1e6, plain, rtol=0, atol=1e-3 * np.abs(plain).max())


def test_a_plan_in_minibatches_has_ridge_maps_alone():
    _, pairs = shuffled(160, 8)
    candidate = Candidate(lam=1.0, epsilon=0.1, n_rounds=1, readout="linear", map="orthogonal")
    with pytest.raises(ValueError, match=r"map='orthogonal'.*minibatches of 80.*map='ridge'.*Mend"):
        fuse(FITTED, FITTED, pairs, candidate=candidate, minibatch_size=80)
    bridge = fuse(FITTED, FITTED, pairs, minibatch_size=80, n_folds=2, **FAST)
    assert {each.map for each in bridge.errors if each.n_rounds} == {"ridge"}
    assert {each.map for each in bridge.errors} == {"ridge", "orthogonal", "whitened", "spectral", "relative"}


@pytest.mark.parametrize("maps", [(), ("orthogonal",), ("ridge", "affine"), "ridge"])
def test_unknown_families_are_refused(maps):
    with pytest.raises(
        ValueError,
        match=r"maps=.*'ridge'.*'orthogonal', 'whitened', 'spectral', 'relative', 'average', 'selftrained'.*Mend",
    ):
        fuse(FITTED, FITTED, (np.arange(6), np.arange(6)), maps=maps)
