"""Fused bridges whose minibatches are solved by dask workers: the bridge of one process, and a worker may die."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from neurobridge.bridge import Candidate, fuse
from neurobridge.bridge.fused import batches
from neurobridge.bridge.fused.jobs import minibatch
from tests.bridge.fused.pools import clustered
from tests.refusals import refused

X, Y, PAIRS, NEW, TRUTH = (
    side if isinstance(side, tuple) else side.astype(np.float32) for side in clustered(400, n_pairs=12, seed=100)
)
STRAIGHT = Candidate(lam=0.9, epsilon=0.05, n_rounds=2, readout="barycentric")
CURVED = Candidate(lam=0.9, epsilon=0.05, n_rounds=1, readout="mean", kernel_rounds=1)


def fitted(candidate: Candidate = STRAIGHT, **options):
    settings = {"minibatch_size": 100, "metric": "euclidean", "readout_centres": None, **options}
    return fuse(X, Y, PAIRS, candidate=candidate, **settings)


def assert_same(ours, theirs) -> None:
    assert ours.coupling.n_iter == theirs.coupling.n_iter
    assert ours.coupling.marginal_error == pytest.approx(theirs.coupling.marginal_error, rel=1e-3)
    parts = ours.coupling.plan.parts, theirs.coupling.plan.parts
    assert len(parts[0]) == len(parts[1]) == 4
    for left, right in zip(*parts, strict=True):
        np.testing.assert_array_equal(left.source_rows, right.source_rows)
        np.testing.assert_array_equal(left.target_rows, right.target_rows)
        torch.testing.assert_close(left.log_u, right.log_u, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(left.log_v, right.log_v, rtol=1e-5, atol=1e-4)
    for there, here in zip(
        (ours.map(NEW), ours.map_back(TRUTH), ours.linear(NEW)),
        (theirs.map(NEW), theirs.map_back(TRUTH), theirs.linear(NEW)),
        strict=True,
    ):
        np.testing.assert_allclose(there, here, atol=1e-4)


@pytest.mark.parametrize(
    ("candidate", "options"),
    [(STRAIGHT, {"readout_centres": 20}), (CURVED, {"metric": "geodesic", "n_neighbors": 6})],
    ids=["straight", "curved"],
)
@pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning")
def test_equals_one_process(cluster, candidate, options):
    ours, theirs = (fitted(candidate, distributed=where, **options) for where in (True, False))
    assert_same(ours, theirs)
    if ours.distilled[0] is not None:
        assert ours.distilled[0].agreement == pytest.approx(theirs.distilled[0].agreement)
    assert (ours.distilled[1] is None) == (theirs.distilled[1] is None) == ("readout_centres" not in options)


def test_a_killed_worker_does_not_lose_the_job(killed_worker, monkeypatch):
    calls = [0]

    def kill_once(*inputs):
        calls[0] += 1
        if calls[0] == 6:
            killed_worker()
        return minibatch(*inputs)

    monkeypatch.setattr(batches, "minibatch", kill_once)
    ours = fitted(distributed=True)
    assert calls[0] == 12, "two rounds on four minibatches, and then all of them"
    assert_same(ours, fitted())


@pytest.mark.parametrize("metric", ["euclidean", "geodesic"])
@pytest.mark.filterwarnings("ignore::neurobridge.bridge.DisconnectedGraphWarning")
def test_what_is_sent_of_a_minibatch_does_not_grow_with_all_points(metric):
    sizes = []
    for n in (200, 400):
        cost = fuse(
            X[:n], Y[:n], PAIRS, candidate=STRAIGHT, metric=metric, minibatch_size=100, n_neighbors=6
        ).coupling.cost
        rows = np.arange(100)
        sizes.append(len(pickle.dumps(minibatch(cost, (rows, rows)))))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)
    # Points and distances in float32, and the maps.
    assert sizes[0] < 4 * 100 * (X.shape[1] + Y.shape[1] + 2 * 12) + 25_000


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"minibatch_size": None}, ["minibatch_size=None", "400 x 400", "distributed=False"]),
        ({"minibatch_size": "auto"}, ["minibatch_size='auto'", "400 x 400", "distributed=False"]),
        ({"device": "cuda"}, ["device='cuda'", "device=None"]),
        ({}, ["distributed=True", "no client", "client = Client("]),
        ({"distributed": 2}, ["distributed=2"]),
    ],
)
def test_refuses(options, facts):
    with refused(ValueError, *facts):
        fitted(**{"distributed": True, **options})
