"""The factored solver on dask: the same numbers as in memory, little on the wire, and a worker may die."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import torch

from neurobridge.bridge import DisconnectedGraphWarning, bridge_cost, couple
from neurobridge.bridge.cost import distributed, tasks
from neurobridge.bridge.cost.distributed import DistributedFactor
from tests.refusals import refused

N, M, P = 450, 350, 20


@pytest.fixture
def on_threads() -> Iterator:
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def points(dtype: type = np.float64, n: int = N, m: int = M) -> tuple[np.ndarray, np.ndarray, tuple]:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(n, 6)).astype(dtype), rng.normal(size=(m, 4)).astype(dtype)
    # Two pairs share a target point.
    return X, Y, (rng.choice(n, P, replace=False), np.r_[rng.choice(m, P - 1, replace=False), 0][np.r_[: P - 1, 0]])


def lazy(X: np.ndarray, Y: np.ndarray, n_chunks: int = 4) -> tuple[da.Array, da.Array]:
    # Chunks across dimensions as well: they must be joined.
    return da.from_array(X, chunks=(-(-len(X) // n_chunks), 3)), da.from_array(Y, chunks=(-(-len(Y) // n_chunks), -1))


def both(dtype: type = np.float64, *, nearest: int | None, **options) -> tuple:
    X, Y, pairs = points(dtype)
    weight = np.linspace(0.3, 1, P)
    ours = bridge_cost(*lazy(X, Y), pairs, nearest=nearest, confidence=weight, distributed=True)
    theirs = bridge_cost(X, Y, pairs, nearest=nearest, confidence=weight)
    assert isinstance(ours.source_factor, DistributedFactor)
    return couple(ours, **options), couple(theirs, **options), Y


def assert_same(ours, theirs, rtol: float) -> None:
    assert ours.n_iter == theirs.n_iter
    assert ours.converged
    for found, expected in zip(
        (*ours.log_scalings, ours.plan.log_s.numpy(), ours.plan.log_r.numpy(), ours.row_mass, ours.col_mass),
        (*theirs.log_scalings, theirs.plan.log_s.numpy(), theirs.plan.log_r.numpy(), theirs.row_mass, theirs.col_mass),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize(
    ("nearest", "unbalanced"),
    [
        (8, None),
        (None, 1.0),
        pytest.param(None, None, marks=pytest.mark.slow),
        pytest.param(8, 1.0, marks=pytest.mark.slow),
    ],
)
def test_equals_in_memory_on_a_cluster(cluster, nearest, unbalanced):
    ours, theirs, _ = both(nearest=nearest, unbalanced=unbalanced, epsilon=0.2)
    assert_same(ours, theirs, 1e-9)


@pytest.mark.parametrize("nearest", [None, 8])
@pytest.mark.parametrize("unbalanced", [None, 1.0])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_equals_in_memory_on_threads(on_threads, nearest, unbalanced, dtype, rtol):
    ours, theirs, _ = both(dtype, nearest=nearest, unbalanced=unbalanced, epsilon=0.1, tol=1e-5)
    assert_same(ours, theirs, rtol)


@pytest.mark.parametrize("nearest", [None, 8])
def test_plans_read_blocks_from_the_workers(on_threads, nearest):
    ours, theirs, Y = both(nearest=nearest, epsilon=0.1)
    np.testing.assert_allclose(ours.barycentric(Y), theirs.barycentric(Y), atol=1e-9)
    np.testing.assert_allclose(ours.dense(), theirs.dense(), atol=1e-12)
    np.testing.assert_allclose(ours.conditional(np.array([5, -1, 2])), theirs.conditional(np.array([5, -1, 2])))
    assert ours.entropy() == pytest.approx(theirs.entropy())
    assert ours.expected_cost() == pytest.approx(theirs.expected_cost())
    assert ours.cost.truncation_bound(0.1) == pytest.approx(theirs.cost.truncation_bound(0.1))
    i, j = ours.sample(40_000, np.random.default_rng(0))
    mean = np.zeros(N)
    np.add.at(mean, i, Y[j, 0])
    expected = (theirs.dense() @ Y[:, 0]).sum()
    assert mean.sum() / len(i) == pytest.approx(expected, abs=5 * Y[:, 0].std() / np.sqrt(len(i)))


def test_pinned_warm_started_and_any_order_of_rows(on_threads):
    ours, theirs, _ = both(nearest=8, epsilon=0.2, tol=1e-8)
    again = [couple(c.cost, epsilon=0.1, init=c) for c in (ours, theirs)]
    assert_same(*again, 1e-9)
    pinned = [couple(c.cost, epsilon=0.1, pinned=True) for c in (ours, theirs)]
    np.testing.assert_allclose(pinned[0].dense(), pinned[1].dense(), atol=1e-12)
    assert isinstance(pinned[0].plan.rest.cost.source_factor, DistributedFactor)
    rows = np.array([300, 2, 449, 2])
    few = [c.cost.subset(rows, np.arange(5)).at(0.1).dense() for c in (ours, theirs)]
    np.testing.assert_allclose(*few)
    empty = torch.arange(0)
    assert ours.cost.source_factor.rows(empty).shape == theirs.cost.source_factor.rows(empty).shape == (0, P)


@pytest.mark.parametrize("scale", ["median", "none"])
def test_other_units(on_threads, scale):
    X, Y, pairs = points()
    ours = bridge_cost(*lazy(X, Y), pairs, scale=scale, metric=("cosine", "sqeuclidean"), distributed=True)
    theirs = bridge_cost(X, Y, pairs, scale=scale, metric=("cosine", "sqeuclidean"))
    np.testing.assert_allclose(ours.at(0.1).dense(), theirs.at(0.1).dense(), rtol=1e-9)
    assert ours.source.unit == pytest.approx(theirs.source.unit)


def test_anchors_without_mass_are_summed_again_in_the_log_domain(on_threads, monkeypatch):
    X, Y, pairs = points()
    # A pair far from every other point, almost without mass: its share is below what a sum of all keeps.
    far = pairs[0][1], pairs[1][1]
    X[far[0]] += 1e4
    Y[far[1]] += 1e4
    a, b = np.ones(N), np.ones(M)
    a[far[0]] = b[far[1]] = 1e-30
    again = []
    kept = tasks.sum_again
    monkeypatch.setattr(tasks, "sum_again", lambda *inputs: again.append(1) or kept(*inputs))
    options = {"epsilon": 0.5, "tol": 1e-6, "a": a, "b": b}
    ours = couple(bridge_cost(*lazy(X, Y), pairs, scale="none", distributed=True), **options)
    theirs = couple(bridge_cost(X, Y, pairs, scale="none"), **options)
    assert again
    assert_same(ours, theirs, 1e-9)
    assert ours.row_mass[far[0]] == pytest.approx(1e-30 / N, rel=0.1)


def test_many_chunks_are_added_in_groups(on_threads):
    X, Y, pairs = points()
    ours = couple(bridge_cost(*lazy(X, Y, 20), pairs, distributed=True), epsilon=0.3)
    assert_same(ours, couple(bridge_cost(X, Y, pairs), epsilon=0.3), 1e-9)


@pytest.mark.parametrize(("nearest", "scale"), [(None, "mean"), (5, "median")])
def test_geodesic_distances_of_both_spaces_are_measured_on_workers(cluster, nearest, scale):
    X, Y, pairs = points(np.float32)
    options = {"metric": ("geodesic", "geodesic"), "nearest": nearest, "scale": scale, "n_neighbors": 6}
    ours = bridge_cost(lazy(X, Y)[0], Y, pairs, distributed=True, **options)
    theirs = bridge_cost(X, Y, pairs, **options)
    np.testing.assert_array_equal(ours.at(0.1).dense(), theirs.at(0.1).dense())
    assert (ours.source.unit, ours.target.unit) == (theirs.source.unit, theirs.target.unit)
    # New points enter the graph, which is here.
    new = torch.as_tensor(X[:20] + 0.01)
    torch.testing.assert_close(ours.source.of(new), theirs.source.of(new))


def test_warnings_of_a_graph_on_workers_are_given_here(cluster):
    X, Y, pairs = points()
    X[: N // 2] += 1e3
    with pytest.warns(DisconnectedGraphWarning):
        bridge_cost(X, Y, pairs, metric=("geodesic", "euclidean"), n_neighbors=4, distributed=True)


def test_small_chunks_are_joined_for_the_threads_there_are(monkeypatch):
    sizes = [10] * 40 + [7]
    assert distributed.joined(sizes, 1e6) == tuple(sizes), "no client is active"
    monkeypatch.setattr(distributed, "n_worker_threads", lambda: 2)
    together = distributed.joined(sizes, 1e6)
    assert len(together) == 4
    assert sum(together) == sum(sizes)
    assert max(together) - min(together) < 20
    assert set(np.cumsum(together)) <= set(np.cumsum(sizes))
    # As many as the bytes ask for; chunks are never cut.
    assert len(distributed.joined(sizes, 8 * 2.0**28)) == 8
    assert distributed.joined([1000, 3], 1e6) == (1000, 3)
    assert sum(distributed.joined([5, 0, 5], 1e6)) == 10


def test_a_killed_worker_does_not_lose_the_job(killed_worker, monkeypatch):
    X, Y, pairs = points()
    cost = bridge_cost(*lazy(X, Y), pairs, nearest=8, distributed=True)
    calls, compute = [0], distributed._compute

    def kill_once(tasks):
        calls[0] += 1
        if calls[0] == 9:
            killed_worker()
        return compute(tasks)

    monkeypatch.setattr(distributed, "_compute", kill_once)
    ours = couple(cost, epsilon=0.1)
    assert calls[0] > 20, "the worker died after the solve"
    assert_same(ours, couple(bridge_cost(X, Y, pairs, nearest=8), epsilon=0.1), 1e-9)


def travelled(monkeypatch, n: int, unbalanced: float | None) -> tuple[list[int], list[int]]:
    """Bytes of every result and of every graph sent, while a solver iterates."""
    X, Y, pairs = points(n=n, m=n)
    cost = bridge_cost(*lazy(X, Y), pairs, nearest=8, distributed=True)
    came: list[int] = []
    sent: list[int] = []
    compute, persist = distributed._compute, distributed._persist

    def size(tasks) -> int:
        return len(cloudpickle.dumps([dict(task.__dask_graph__()) for task in tasks]))

    def counted_compute(tasks):
        sent.append(size(tasks))
        found = compute(tasks)
        came.append(len(pickle.dumps(found)))
        return found

    def counted_persist(tasks):
        sent.append(size(tasks))
        return persist(tasks)

    def stop(self, state):
        raise StopIteration

    monkeypatch.setattr(distributed, "_compute", counted_compute)
    monkeypatch.setattr(distributed, "_persist", counted_persist)
    step, seen = DistributedFactor.half_step, [0]

    def counted_step(self, *inputs):
        seen[0] += 1
        if seen[0] == 3:  # what is placed before the first iteration travels once
            came.clear()
            sent.clear()
        return step(self, *inputs)

    monkeypatch.setattr(DistributedFactor, "half_step", counted_step)
    monkeypatch.setattr(DistributedFactor, "log_k", stop)
    with pytest.raises(StopIteration):
        couple(cost, epsilon=0.05, max_iter=6, unbalanced=unbalanced)
    monkeypatch.undo()
    return came, sent


@pytest.mark.parametrize("unbalanced", [pytest.param(None, marks=pytest.mark.slow), 1.0])
def test_what_travels_in_an_iteration_does_not_grow_with_points(cluster, monkeypatch, unbalanced):
    few, few_sent = travelled(monkeypatch, 400, unbalanced)
    many, many_sent = travelled(monkeypatch, 4000, unbalanced)
    assert len(few) >= 10
    assert max(many) <= 8 * P + 400, "a result is a vector over anchors and two numbers"
    assert max(many) - max(few) <= 64
    assert max(many_sent) <= 1.1 * max(few_sent)
    assert max(many_sent) < 8 * 4000, "less than one number a point"


def peak_bytes() -> int:
    """Largest memory this process had (Linux)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the kernel's own mark of peak memory")
def test_memory_of_a_worker_is_its_share_and_a_block():
    from distributed import Client, LocalCluster

    n, k, chunk = 1_000_000, 8, 50_000
    X, Y = (da.random.default_rng(seed).normal(size=(n, 8), chunks=(chunk, -1)).astype("f4") for seed in (0, 1))
    rows = np.arange(200)
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "2GB", "dashboard_address": ":0"}
    with LocalCluster(**options) as local, Client(local) as client:
        client.run(lambda: __import__("neurobridge.bridge.cost.distributed"))
        before = client.run(peak_bytes)
        cost = bridge_cost(X, Y, (rows, rows), nearest=k, distributed=True)
        assert couple(cost, epsilon=0.1, tol=1e-2).converged
        grown = max(peak - before[worker] for worker, peak in client.run(peak_bytes).items())
    # Of both spaces: distances, columns, radius, and three float64 a point; all distances would be 800 MB a worker.
    share = 2 * n * (8 * k + 4 + 3 * 8) / 2
    assert grown < 1.5 * share + 150e6


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda X, Y: {"X": X.compute()}, ["X: ", "Tensor", "dask.array.from_array"]),
        (lambda X, Y: {"Y": Y.compute()}, ["Y: ", "Tensor", "dask.array.from_array"]),
        (lambda X, Y: {"metric": "geodesic"}, ["no client", "distributed=False"]),
        (lambda X, Y: {"metric": ("euclidean", "precomputed")}, ["'precomputed'", "metric='euclidean'"]),
        (lambda X, Y: {"metric": "manhattan"}, ["metric", "'manhattan'", "'euclidean'"]),
        (lambda X, Y: {"stream": True}, ["stream=True", "stream=False"]),
        (lambda X, Y: {"device": "cuda"}, ["device='cuda'", "device=None"]),
        (lambda X, Y: {"X": X[X[:, 0] > 0]}, ["X: ", "array.compute_chunk_sizes()"]),
        (lambda X, Y: {"X": X * np.nan}, ["X: ", "NaN"]),
        (lambda X, Y: {"X": X * 0}, ["mean", "0.0"]),
    ],
)  # fmt: skip
def test_refuses(on_threads, change, facts):
    X, Y, pairs = points()
    inputs = dict(zip("XY", lazy(X, Y), strict=True))
    with refused(ValueError, *facts):
        bridge_cost(**{**inputs, "pairs": pairs, "distributed": True, **change(*inputs.values())})


def test_needs_the_extra(monkeypatch):
    X, Y, pairs = points()
    monkeypatch.setitem(sys.modules, "distributed", None)
    with refused(ImportError, "distributed=True", "'neurobridge[distributed]'"):
        bridge_cost(*lazy(X, Y), pairs, distributed=True)


def test_refuses_more_than_the_workers_may_keep(on_threads):
    X, Y, pairs = points()
    with refused(MemoryError, "nearest=32"):
        bridge_cost(*lazy(X, Y), pairs, distributed=True, memory_limit=1e4)


def test_empty_chunks_and_dead_ends(on_threads):
    X, Y, pairs = points()
    ragged = da.concatenate([da.from_array(X[:100]), da.from_array(X[:0]), da.from_array(X[100:])])
    cost = bridge_cost(ragged, lazy(X, Y)[1], pairs, distributed=True)
    assert cost.source_factor.sizes == (100, N - 100)
    np.testing.assert_allclose(cost.at(0.1).dense(), bridge_cost(X, Y, pairs).at(0.1).dense())
