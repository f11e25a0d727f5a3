"""The average of maps of the same pairs: what it is of known maps, when it is a candidate, and when it is chosen."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.aligners import BridgeAligner
from neurobridge.bridge import CRITERIA, fuse, ridge_map
from neurobridge.bridge.average import AverageMap, average_maps
from neurobridge.bridge.fused.candidate import AVERAGE, AVERAGED, MAP_FAMILIES, RIDGE, SELF_TRAINED
from neurobridge.bridge.fused.choosing.choice import pick

FAST = {"metric": "euclidean", "n_rounds": (1,), "kernel_rounds": (0,), "lams": (0.9,), "epsilons": (0.05,)}
FIRST = replace(RIDGE, lam=0.9, epsilon=0.05, n_rounds=5)


def _views(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two noisy views of three latents (simulated)."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n, 3))
    source, target = (latents @ rng.normal(size=(3, n_dims)) for n_dims in (9, 7))
    return source + noise * rng.normal(size=source.shape), target + noise * rng.normal(size=target.shape)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.floats(1e-6, 1e6), st.integers(0, 1000))
def test_the_average_of_maps_that_differ_in_scale_is_the_map_at_their_mean_scale(n_maps, n_dims, unit, seed):
    rng = np.random.default_rng(seed)
    points, coef, shift = (
        unit * rng.normal(size=(40, n_dims)),
        rng.normal(size=(n_dims, 3)),
        rng.normal(size=(n_maps, 3)),
    )
    scales = rng.uniform(0.1, 10, n_maps)
    maps = [lambda x, s=s, b=b: s * (x @ coef + unit * b) for s, b in zip(scales, shift, strict=True)]
    average = average_maps(maps, points)
    images = np.mean([mapping(points) for mapping in maps], axis=0)
    np.testing.assert_allclose(
        average(points).mean(axis=0), images.mean(axis=0), rtol=0, atol=1e-9 * np.abs(images).max()
    )
    expected = scales.mean() * (points - points.mean(axis=0)) @ coef
    np.testing.assert_allclose(average(points) - average.mean, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_the_average_of_maps_of_other_pairs_errs_less_than_each():
    source, target = _views(260, 0.5)
    maps = [ridge_map(source[k : k + 12], target[k : k + 12]) for k in (0, 12, 24)]
    new, truth = source[60:], target[60:]
    errors = [np.square(mapping(new) - truth).mean() for mapping in maps]
    assert np.square(average_maps(maps, source[:60])(new) - truth).mean() < min(errors)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("value", [3.0, 0.1, 1.7])
def test_images_that_are_all_alike_count_as_they_are(value, dtype):
    points = np.random.default_rng(0).normal(size=(60, 2)).astype(dtype)
    alike = partial(_constant, value)
    average = average_maps([alike, lambda x: 2 * x], points)
    # Half the spread of the other, and in the average of both half of that.
    centre = points.mean(axis=0)
    np.testing.assert_allclose(average(points), value / 2 + centre + (points - centre) / 2, atol=1e-6)
    np.testing.assert_allclose(average_maps([alike], points)(points), value, rtol=1e-6)


def _constant(value: float, points: np.ndarray) -> np.ndarray:
    return np.full((len(points), 2), value, dtype=points.dtype)


def test_points_go_in_and_out_in_one_kind_and_other_dimensions_are_refused():
    points = np.random.default_rng(0).normal(size=(20, 3))
    average = average_maps([lambda x: x, lambda x: -2 * x], points)
    assert isinstance(average(torch.as_tensor(points)), torch.Tensor)
    np.testing.assert_array_equal(average(torch.as_tensor(points)).numpy(), average(points))
    with pytest.raises(ValueError, match=r"found shape \(20, 2\); expected \(n_points, 3\).*Mend"):
        average(points[:, :2])


def test_an_average_is_a_candidate_among_few_points_for_correlations_alone():
    source, target = _views(130, 0.3)
    pairs = np.arange(14), np.arange(14)
    assert AVERAGE in fuse(source[:100], target, pairs, **FAST).errors_back
    assert AVERAGE not in fuse(source, target, pairs, **FAST).errors
    without = tuple(family for family in MAP_FAMILIES if family != "average")
    assert AVERAGE not in fuse(source[:60], target[:60], pairs, maps=without, **FAST).errors
    named = {"classifier": lambda images: images[:, 0] > 0, "labels": target[:14, 0] > 0}
    for criterion in set(CRITERIA) - {"correlation"}:
        options = FAST | (named if criterion == "labels" else {})
        bridge = fuse(source[:60], target[:60], pairs, criterion=criterion, **options)
        assert AVERAGE not in {**bridge.errors, **bridge.errors_back}


def test_an_average_of_families_that_are_not_there_is_refused():
    source, target = _views(40, 0.3)
    with pytest.raises(ValueError, match=r"'average'.*Mend: add 'relative', 'spectral', or leave maps out"):
        fuse(source, target, (np.arange(8), np.arange(8)), maps=("ridge", "whitened", "average"))


def test_an_average_stays_unless_another_is_better_beyond_chance():
    rng = np.random.default_rng(0)
    average = rng.random(30)
    for gain, chosen in ((0.0, AVERAGE), (-0.2, AVERAGE), (0.2, FIRST)):
        assert pick({FIRST: average - gain, AVERAGE: average}, FIRST, 60) == chosen
    noisy = average + np.where(np.arange(30) % 2, 1.0, -1.05)
    assert noisy.mean() < average.mean()
    assert pick({FIRST: noisy, AVERAGE: average}, FIRST, 60) == AVERAGE
    # Nothing is knowingly worse than ridge of the pairs.
    assert pick({FIRST: average, AVERAGE: average, RIDGE: average - 0.1}, FIRST, 60) == RIDGE


def test_what_is_chosen_is_the_average_of_the_maps_of_the_pairs(tmp_path):
    views = _views(200, 1.0, seed=1)
    (source, new), target = np.split(views[0], [60]), views[1][:60]
    pairs = np.arange(20), np.arange(20)
    bridge = fuse(source, target, pairs, **FAST)
    assert bridge.candidate == bridge.candidate_back == AVERAGE
    assert isinstance(bridge.forward, AverageMap)
    assert len(bridge.forward.maps) == len(AVERAGED)
    images = [mapping(new) for mapping in bridge.forward.maps]
    assert min(np.corrcoef(part.ravel(), bridge.map(new).ravel())[0, 1] for part in images) > 0.8
    np.testing.assert_allclose(bridge.map(new), average_maps(bridge.forward.maps, source)(new))
    # There is a plan to draw from.
    assert bridge.coupling.converged
    assert SELF_TRAINED not in bridge.errors
    few = {name: value for name, value in FAST.items() if name != "metric"}
    aligner = BridgeAligner(metric="euclidean", fuse_options=few).fit(source, target, pairs)
    assert aligner.fused_["forward"].candidate == AVERAGE
    aligner.save(tmp_path / "average")
    np.testing.assert_array_equal(BridgeAligner.load(tmp_path / "average").transform(new), aligner.transform(new))
