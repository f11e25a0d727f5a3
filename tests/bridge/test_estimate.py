"""Estimates of time and memory: they grow with every size, know the sizes of known jobs, and agree with what is measured."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.bridge import bridge_cost, couple, estimate, estimate_cost
from tests.refusals import refused

OPTIONS = st.fixed_dictionaries(
    {"metric": st.sampled_from(["euclidean", "geodesic"]), "nearest": st.sampled_from([None, 8]),
     "method": st.sampled_from(["factored", "fused"]), "n_threads": st.just(1)}
)  # fmt: skip


@pytest.fixture(autouse=True)
def known_machine(request, monkeypatch):
    if "slow" not in request.keywords:
        monkeypatch.setattr(estimate, "_calibration", lambda: estimate._REFERENCE_SECONDS)


@settings(max_examples=60, deadline=None)
@given(st.integers(500, 10**6), st.integers(2, 300), st.integers(10, 900), OPTIONS, st.floats(1.2, 3))
def test_more_points_cost_more_and_sides_are_alike(n, dims, pairs, options, times):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "_calibration", lambda: estimate._REFERENCE_SECONDS)
        small = estimate_cost(n, 2 * n, dims, pairs, **options)
        assert estimate_cost(2 * n, n, dims, pairs, **options).seconds == pytest.approx(small.seconds)
        assert small.seconds == pytest.approx(sum(small.stages.values()))
        # A problem that is just solved at once may cost more than a larger one in minibatches.
        if options["method"] == "factored" and n > 20_000:
            large = estimate_cost(int(times * n), int(2 * times * n), dims, pairs, **options)
            assert large.seconds > small.seconds
            assert large.n_bytes > small.n_bytes
        assert estimate_cost(n, 2 * n, dims, pairs, **{**options, "n_threads": 2}).seconds < small.seconds


def test_an_estimate_says_whether_it_fits_and_what_it_is():
    small, vast = estimate_cost(1000, 1000, 8, 20), estimate_cost(10**9, 10**9, 512, 1000)
    assert small.fits
    assert not vast.fits
    assert "GB" in repr(small)


def test_sizes_that_are_none_are_refused():
    with refused(ValueError, "pairs", 0):
        estimate_cost(10, 10, 3, 0)
    with refused(ValueError, "'manhattan'", "geodesic"):
        estimate_cost(10, 10, 3, 2, metric="manhattan")
    with refused(ValueError, "'dense'", "factored"):
        estimate_cost(10, 10, 3, 2, method="dense")


_MEASURED = """
import time, numpy as np, torch
torch.set_num_threads(1)
from neurobridge.bridge import bridge_cost
from neurobridge.study.machine import peak_rss
rng = np.random.default_rng(0)
X, Y = (rng.normal(size=(60_000, 16)).astype("f") for _ in range(2))
bridge_cost(X[:20_000], Y[:20_000], (np.arange(300), np.arange(300)), metric="geodesic", nearest=8)
started = time.process_time()
bridge_cost(X, Y, (np.arange(300), np.arange(300)), metric="geodesic", nearest=8)
print(time.process_time() - started, peak_rss())
"""


@pytest.mark.slow
def test_time_and_memory_of_a_geodesic_cost_are_near_those_measured():
    pytest.importorskip("numba", reason="the extra `ann` is not installed")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _MEASURED], capture_output=True, text=True, check=True)
    seconds, n_bytes = map(float, done.stdout.split())
    expected = estimate_cost(60_000, 60_000, 16, 300, metric="geodesic", nearest=8, n_threads=1)
    assert 0.5 < n_bytes / expected.n_bytes < 2
    # Another machine, or a busy one, is farther from the constants than the one they were measured on.
    assert 1 / 3 < seconds / expected.stages["distances"] < 3


@pytest.mark.slow
def test_time_of_a_coupling_is_near_that_measured():
    rng = np.random.default_rng(0)
    X, Y = (rng.normal(size=(80_000, 32)).astype("f") for _ in range(2))
    started = time.process_time()
    couple(bridge_cost(X, Y, (np.arange(500), np.arange(500)), nearest=32), epsilon=0.05)
    seconds = time.process_time() - started
    assert 1 / 3 < seconds / estimate_cost(80_000, 80_000, 32, 500, nearest=32, n_threads=1).seconds < 3
