"""Readouts by products of matrices: the same mean partners as sums over the plan, fast, and whole where float32 ends."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurobridge import BridgeAligner
from neurobridge.bridge import Candidate, bridge_cost, fuse
from neurobridge.bridge.cost.blocks import SingleTerms, log_product, single_log_product
from neurobridge.bridge.fused import readout
from neurobridge.bridge.fused.readout import BridgeReader
from tests.bridge.fused.pools import clustered, r2
from tests.refusals import refused

# Clusters this far apart leave the graph in pieces, which is joined and said.
pytestmark = pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning")

CANDIDATES = {
    "ridge": Candidate(lam=0.9, epsilon=0.02, n_rounds=2, readout="mean"),
    "bridge alone": Candidate(lam=0.0, epsilon=0.1, n_rounds=1, readout="barycentric"),
    "curved": Candidate(lam=0.9, epsilon=0.1, n_rounds=1, readout="mean", kernel_rounds=1),
    "orthogonal": Candidate(lam=1.0, epsilon=0.1, n_rounds=2, readout="barycentric", map="orthogonal"),
    "whitened": Candidate(lam=0.6, epsilon=0.1, n_rounds=2, readout="barycentric", map="whitened"),
}
POOLS = clustered(160, bent=True, n_pairs=12, seed=5)


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("size", [None, 60])
def test_products_read_what_sums_read(name, size, monkeypatch):
    if size is not None and CANDIDATES[name].map != "ridge":
        pytest.skip("minibatches are of the ridge family")
    X, Y, pairs, new, truth = POOLS
    X, Y = 1e-3 * X + 7, 50 * Y.astype("f")
    bridge = fuse(X, Y, pairs, metric="euclidean", candidate=CANDIDATES[name], minibatch_size=size)
    sums = bridge.map(1e-3 * new + 7), bridge.map_back(50 * truth)
    monkeypatch.setattr(readout, "_MANY_PARTNERS", 1)
    fresh = replace(bridge)
    products = fresh.map(1e-3 * new + 7), fresh.map_back(50 * truth)
    for ours, theirs in zip(products, sums, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4 * theirs.std())
        assert not np.array_equal(ours, theirs)


def test_points_beyond_the_terms_of_float32_are_summed(monkeypatch):
    X, Y, pairs, new, _ = POOLS
    candidate = Candidate(lam=0.5, epsilon=0.5, n_rounds=1, readout="barycentric")
    bridge = fuse(X, Y, pairs, metric="sqeuclidean", scale="median", candidate=candidate)
    far = np.vstack([new[:20], 60 * new[:5]])
    summed = bridge.map(far)
    monkeypatch.setattr(readout, "_MANY_PARTNERS", 1)
    reader = BridgeReader(bridge._states, backward=False)
    distances = bridge.coupling.cost.bridge.source.of(torch.as_tensor(far))
    assert SingleTerms.of(distances / -0.05).is_wide[20:].any()
    np.testing.assert_allclose(reader(far), summed, rtol=0, atol=1e-3 * summed.std())


def test_a_product_in_float32_is_that_in_float64():
    rng = np.random.default_rng(0)
    left, right = (torch.as_tensor(-rng.gamma(2.0, 12.0, size=(n, 40))) for n in (50, 60))
    close = {"rtol": 0, "atol": 1e-4}
    torch.testing.assert_close(single_log_product(left, right).double(), log_product(left, right), **close)
    # Terms of one row, and then of one column, that float32 does not hold.
    left[3, 1:], right[4, 2:] = left[3, 0] - 200, right[4, 0] - 300
    torch.testing.assert_close(single_log_product(left, right[:4]).double(), log_product(left, right[:4]), **close)
    torch.testing.assert_close(single_log_product(left, right).double(), log_product(left, right), **close)


def test_float32_points_have_the_bridge_of_float64_ones():
    X, Y, pairs, *_ = POOLS
    candidate = Candidate(lam=0.5, epsilon=0.05, n_rounds=1, readout="barycentric")
    double, single = (
        fuse(X.astype(kind), Y.astype(kind), pairs, metric="euclidean", candidate=candidate).coupling.cost
        for kind in ("d", "f")
    )
    np.testing.assert_allclose(single.dense(), double.dense(), atol=1e-3)
    assert bridge_cost(X.astype("f"), Y.astype("f"), pairs).subset(np.arange(5), np.arange(4)).source.held is None


def test_a_kernel_map_stands_for_the_plan_where_it_is_asked_for():
    X, Y, pairs, new, truth = clustered(300, bent=True, n_pairs=12, seed=5)
    candidate = Candidate(lam=0.9, epsilon=0.05, n_rounds=2, readout="mean")
    plan, kernel = (
        fuse(X, Y, pairs, candidate=candidate, minibatch_size=100, readout_centres=centres) for centres in (None, 60)
    )
    assert plan.distilled == (None, None)
    for backward, (points, given) in enumerate(((new, truth), (truth, new))):
        own, other = ((each.map_back if backward else each.map)(points) for each in (kernel, plan))
        agreement = 1 - ((own - other) ** 2).sum() / ((other - other.mean(axis=0)) ** 2).sum()
        assert agreement > 0.97
        assert agreement == pytest.approx(kernel.distilled[backward].agreement, abs=0.03)
        assert r2(own, given) > r2(other, given) - 0.02
    assert "kernel map that explains" in repr(kernel)
    with refused(ValueError, "readout_centres=0", "'auto'"):
        fuse(X, Y, pairs, readout_centres=0)


def test_many_points_are_read_by_a_kernel_map_only_if_it_is_as_good(monkeypatch):
    X, Y, pairs, *_ = clustered(300, bent=True, n_pairs=12, seed=5)
    module = importlib.import_module("neurobridge.bridge.fused.fuse")
    monkeypatch.setattr(module, "_READ_BY_PLAN", 200)
    monkeypatch.setattr(module, "_CENTRES", 30)
    candidate = Candidate(lam=0.9, epsilon=0.05, n_rounds=2, readout="mean")
    for least, taken in ((0.5, True), (1.0, False)):
        monkeypatch.setattr(module, "_LEAST_AGREEMENT", least)
        bridge = fuse(X, Y, pairs, candidate=candidate, minibatch_size=100)
        assert [each is not None for each in bridge.distilled] == [taken, taken]


@pytest.mark.filterwarnings("ignore::neurobridge.flow.OffSupportWarning")
@pytest.mark.parametrize("metric", ["euclidean", "geodesic"])
def test_a_saved_bridge_reads_new_points_as_before(metric, tmp_path):
    X, Y, pairs, new, _ = clustered(300, bent=True, n_pairs=12, seed=5)
    candidate = Candidate(lam=0.9, epsilon=0.05, n_rounds=2, readout="mean")
    sizes = []
    for centres in (None, 20):
        options = {"candidate": candidate, "minibatch_size": 100, "readout_centres": centres}
        aligner = BridgeAligner(metric=metric, fuse_options=options).fit(X, Y, pairs)
        aligner.save(tmp_path / str(centres))
        np.testing.assert_array_equal(
            BridgeAligner.load(tmp_path / str(centres)).transform(new), aligner.transform(new)
        )
        sizes.append(sum(path.stat().st_size for path in (tmp_path / str(centres)).iterdir()))
    assert sizes[1] < sizes[0]
