"""Transport: retracing, chunks, lazy arrays, samples and their spread, and points off the support."""

from __future__ import annotations

import warnings

import dask.array as da
import numpy as np
import pytest
import torch

from neurobridge.bridge import ridge_map
from neurobridge.flow import BASES, SOLVERS, ConditionalFlow, OffSupportWarning, Support, Training
from tests.refusals import refused

undertrained = pytest.mark.filterwarnings("ignore::neurobridge.points.support.OffSupportWarning")


# Not pad backward: five dimensions into three drop what the padding held.
CASES = [(base, d) for base in BASES for d in ("forward", "backward") if (base, d) != ("pad", "backward")]


@undertrained
@pytest.mark.parametrize(("base", "direction"), CASES)
def test_retracing_returns_to_the_start(base, direction, flows):
    X, Y, trained = flows.X, flows.Y, flows.of
    flow, points = trained[base], X if direction == "forward" else Y
    start = flow.start(points, direction)
    retraced = flow.retrace(flow.transport(points, direction, method="dopri5"), points, direction)
    assert retraced.shape == start.shape
    assert np.linalg.norm(retraced - start) / np.linalg.norm(start - start.mean(axis=0)) < 1e-3


@undertrained
def test_a_padded_flow_is_its_own_inverse(flows):
    X, trained = flows.X, flows.of
    flow = trained["pad"]
    forward = flow.transport(X, method="dopri5")
    backward = flow.transport(forward, "backward", method="dopri5")
    assert np.linalg.norm(backward - X) / np.linalg.norm(X - X.mean(axis=0)) < 1e-3
    np.testing.assert_array_equal(flow.start(X), X)


def test_an_affine_path_starts_at_the_ridge_map_of_the_pairs(flows):
    X, Y, trained = flows.X, flows.Y, flows.of
    flow = trained["affine"]
    scales = flow.source_scale_, flow.target_scale_
    linear = ridge_map(scales[0].forward(X[:20]), scales[1].forward(Y[:20]), unit=1.0)
    np.testing.assert_allclose(flow.start(X), scales[1].backward(linear(scales[0].forward(X))), atol=1e-9)


@undertrained
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", list(SOLVERS))
def test_solvers_agree_and_report_their_evaluations(base, method, flows):
    X, trained = flows.X, flows.of
    flow = trained[base]
    reference = flow.transport(X, method="dopri5")
    most = flow.n_evaluations_
    moved = flow.transport(X, method=method)
    tolerance = {"euler": 0.15, "midpoint": 2e-2, "rk4": 2e-3, "dopri5": 0}[method]
    assert np.linalg.norm(moved - reference) <= tolerance * np.linalg.norm(reference - reference.mean(axis=0))
    assert flow.n_evaluations_ == {"euler": 16, "midpoint": 32, "rk4": 64, "dopri5": most}[method]


@undertrained
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("chunk_size", [1, 7, 32, 10_000])
def test_chunks_do_not_change_the_result(base, chunk_size, flows):
    X, trained = flows.X, flows.of
    whole = trained[base].transport(X[:40])
    np.testing.assert_allclose(trained[base].transport(X[:40], chunk_size=chunk_size), whole, rtol=1e-4, atol=1e-4)


@undertrained
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("chunks", [(100, 3), (37, 2)])
def test_dask_arrays_are_moved_block_by_block_when_computed(base, chunks, flows):
    X, trained = flows.X, flows.of
    flow = trained[base]
    lazy = flow.transport(da.from_array(X, chunks=chunks))
    assert isinstance(lazy, da.Array)
    assert lazy.shape == (500, 5)
    assert lazy.chunks[0][0] == chunks[0]
    np.testing.assert_allclose(lazy.compute(scheduler="synchronous"), flow.transport(X), rtol=1e-4, atol=1e-4)
    off = flow.off_support(lazy)
    assert isinstance(off, da.Array)
    np.testing.assert_array_equal(off.compute(scheduler="synchronous"), flow.off_support(flow.transport(X)))


def test_a_lazy_array_is_not_computed_by_asking(flows):
    X, trained = flows.X, flows.of

    def fail(block):
        raise AssertionError("computed")

    lazy = da.from_array(X, chunks=(100, 3)).map_blocks(fail, dtype=float, meta=np.empty((0, 0)))
    assert trained["affine"].transport(lazy).shape == (500, 5)
    with refused(ValueError, "n_samples=3", "dask", "spread"):
        trained["noise"].transport(lazy, n_samples=3)


def test_fitting_reads_dask_and_torch_arrays_as_it_reads_numpy(known):
    X, Y = known.spaces(n=100)
    plain, lazy, tensor = (
        ConditionalFlow(training=Training(n_steps=20, width=32)).fit(*arrays, known.Matching(100))
        for arrays in ((X, Y), (da.from_array(X, chunks=(30, 2)), da.from_array(Y)), (torch.as_tensor(X), Y))
    )
    np.testing.assert_array_equal(plain.losses_, lazy.losses_)
    np.testing.assert_array_equal(plain.losses_, tensor.losses_)


def test_the_kind_of_array_is_given_back(flows):
    X, trained = flows.X, flows.of
    moved = trained["affine"].transport(torch.as_tensor(X, dtype=torch.float32))
    assert isinstance(moved, torch.Tensor)
    assert moved.dtype == torch.float32
    np.testing.assert_allclose(moved.numpy(), trained["affine"].transport(X), rtol=1e-3, atol=1e-3)


@undertrained
def test_noise_gives_a_spread_of_samples(known):
    X, Y = known.spaces(n=400)
    flow = ConditionalFlow("noise", training=Training(n_steps=150, width=64)).fit(X, Y, known.Independent(400))
    samples = flow.transport(X[:50], n_samples=40)
    assert samples.shape == (40, 50, 5)
    # The target does not depend on the source here: every source's samples spread like the whole target.
    np.testing.assert_allclose(samples.std(axis=0).mean(axis=0), Y.std(axis=0), rtol=0.25)
    spread = flow.spread(X[:50], n_samples=40)
    np.testing.assert_allclose(spread.mean, samples.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(spread.std, samples.std(axis=0, ddof=1), atol=1e-5)
    np.testing.assert_allclose(flow.start(X[:50], sample=1).mean(axis=0), Y.mean(axis=0), atol=4 * Y.std() / 50**0.5)
    with pytest.raises(ValueError, match=r"n_samples=1;"):
        flow.spread(X[:50], n_samples=1)
    with refused(ValueError, "n_samples=32", "'affine'"):
        ConditionalFlow(training=Training(n_steps=1)).fit(X, Y, known.Matching(400)).spread(X)


@undertrained
def test_samples_of_a_point_do_not_depend_on_its_chunk(flows):
    X, trained = flows.X, flows.of
    X = np.tile(X, (5, 1))
    assert len(X) > 2048
    whole = trained["noise"].transport(X, n_samples=2, chunk_size=5000)
    np.testing.assert_allclose(trained["noise"].transport(X, n_samples=2, chunk_size=999), whole, rtol=1e-4, atol=1e-4)
    lazy = trained["noise"].transport(da.from_array(X, chunks=(700, 3))).compute(scheduler="synchronous")
    np.testing.assert_allclose(lazy, whole[0], rtol=1e-4, atol=1e-4)
    assert not np.allclose(whole[0], whole[1])


@pytest.mark.parametrize("n_dims", [1, 10, 200])
def test_the_support_takes_in_its_own_cloud_at_the_stated_quantile(n_dims):
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(4000, n_dims))
    support = Support.fit(cloud[:2000], quantile=0.95)
    share = float(support.off(cloud[2000:]).mean())
    assert abs(share - 0.05) < 0.02
    assert support.off(cloud[2000:] + 100).all()
    assert not support.off(cloud[:2000]).any()
    assert support.expected(2000) > support.off(cloud[2000:]).sum()


def test_a_cloud_of_one_point_has_a_support():
    support = Support.fit(np.zeros((1, 4)))
    assert support.off(np.array([[0.0, 0, 0, 0], [9, 9, 9, 9]])).tolist() == [False, True]


def test_points_on_the_support_raise_no_warning(flows):
    X, trained = flows.X, flows.of
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = trained["affine"].transport(X)
    assert trained["affine"].off_support(moved).mean() < 0.05
    assert not trained["affine"].off_support(trained["affine"].transport(flows.Y, "backward"), "backward")[0]


def test_one_point_far_off_is_reported_among_many_that_are_not(flows):
    X, Y, trained = flows.X, flows.Y, flows.of
    flow = trained["affine"]
    far = X.copy()
    far[7] += 1e4
    with pytest.warns(OffSupportWarning, match=r"of 500\b"):
        moved = flow.transport(far)
    off = flow.off_support(moved)
    assert off.shape == (500,)
    assert off[7]
    assert flow.off_support(Y).mean() <= 0.02


@pytest.fixture(scope="module")
def flow_of_20_pairs(known):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 32)), rng.normal(size=(20, 128))
    return ConditionalFlow("pad", training=Training(n_steps=300)).fit(X, Y, known.Matching(20)), Y


@pytest.mark.parametrize("distance", [3.0, 10.0, 100.0, 1e4, 1e12, 1e30])
def test_a_padded_flow_of_20_pairs_stays_bounded_or_warns(distance, flow_of_20_pairs):
    # The prototype's flow reached 1e26 far off its data, in silence.
    flow, Y = flow_of_20_pairs
    queries = distance * np.random.default_rng(1).normal(size=(200, 32))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            moved = flow.transport(queries)
        except FloatingPointError:
            assert distance >= 10
            return
    if not any(issubclass(w.category, OffSupportWarning) for w in caught):
        assert np.abs(moved).max() < 2 * np.abs(Y).max()
    else:
        assert flow.off_support(moved).any()
    assert distance < 10 or caught
