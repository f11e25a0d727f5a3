"""The ground floor: blocks of rows, lazy arrays, and results of the caller's kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neurobridge
from neurobridge.points.arrays import host, same_kind
from neurobridge.points.blocks import is_dask, is_lazy, row_blocks


@given(st.integers(0, 300), st.integers(0, 50), st.integers(1, 200))
def test_blocks_cover_every_row_once_within_the_budget(n, width, budget):
    blocks = row_blocks(n, width, budget=budget)
    np.testing.assert_array_equal(np.concatenate([np.arange(n)[b] for b in blocks] or [np.empty(0)]), np.arange(n))
    assert all((b.stop - b.start) * width <= budget or b.stop - b.start == 1 for b in blocks)
    assert all(b.stop > b.start for b in blocks)


def test_lazy_arrays_are_known(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    mapped, chunked = np.load(tmp_path / "x.npy", mmap_mode="r"), da.ones((3, 2))
    assert [is_lazy(x) for x in (np.ones(2), torch.ones(2), mapped, chunked)] == [False, False, True, True]
    assert [is_dask(x) for x in (mapped, chunked)] == [False, True]


@pytest.mark.parametrize("values", [np.ones(3), torch.ones(3, dtype=torch.float64)])
def test_results_are_of_the_callers_kind(values):
    assert isinstance(same_kind(values, np.zeros(1)), np.ndarray)
    assert isinstance(same_kind(values, torch.zeros(1)), torch.Tensor)
    np.testing.assert_array_equal(host(same_kind(values, torch.zeros(1))), np.ones(3))


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_method_loads_no_dask_and_blocks_load_no_torch():
    # The package's own __init__ stays out of it: what counts is what these rooms import.
    start = (
        "import sys, types; package = types.ModuleType('neurobridge'); "
        f"package.__path__ = [{str(Path(neurobridge.__file__).parent)!r}]; sys.modules['neurobridge'] = package; "
    )
    rooms = "import neurobridge.bridge.cost.bridge, neurobridge.bridge.transport.coupling, neurobridge.maps.kernel; "
    run(start + rooms + "assert 'dask' not in sys.modules, 'dask was imported'")
    run(start + "import neurobridge.points.blocks, neurobridge.points.display; assert 'torch' not in sys.modules")
