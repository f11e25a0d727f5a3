"""Refusal before allocation: stated limits, limits of the process and of its control group, and shortages of libraries."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from neurobridge.points import memory
from neurobridge.points.memory import Room, check_memory, named_shortage, room, within_room

# In a process of its own: an address-space limit cannot be taken back where it is a hard one.
_UNDER_A_LIMIT = """
import resource, sys
import numpy as np, torch
from neurobridge.bridge import bridge_cost, couple, fuse
torch.set_num_threads(1)
rng = np.random.default_rng(0)
X, pairs = rng.normal(size=(20_000, 4)), (np.arange(1000), np.arange(1000))
many = rng.normal(size=(400_000, 2)).astype('f')
couple(bridge_cost(X[:99], X[:99], (pairs[0][:9], pairs[1][:9])), max_iter=2)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 150_000_000, resource.RLIM_INFINITY))
for job in (
    lambda: bridge_cost(X, X, pairs),
    lambda: couple(bridge_cost(X[:4000], X[:4000], (pairs[0][:9], pairs[1][:9])), method="sinkhorn"),
    lambda: fuse(X[:4000], X[:4000], (pairs[0][:9], pairs[1][:9]), minibatch_size=None),
    lambda: bridge_cost(many, many, pairs, metric="geodesic", nearest=4),
):
    try:
        job()
    except MemoryError as error:
        print(error)
bridge_cost(X, X, pairs, stream=True)
"""


# Arrays that take no memory themselves, under the limit of a small machine; each job says what fits before it takes anything.
_AT_THREE_GB = """
import sys
import dask.array as da, numpy as np, xarray as xr, torch
import neurobridge as nb
from neurobridge.bridge import fuse, bridge_cost
from neurobridge.evaluate import decode, retrieve
from neurobridge.evaluate.similarity import sliced_wasserstein
torch.set_num_threads(1)
def flat(n, d):
    return np.broadcast_to(np.float32(1), (n, d))
def lazy(n, d):
    values = da.zeros((n, d), dtype="f4", chunks=(2000, d))
    names = {"stimulus_id": np.arange(n), "side": np.arange(n) % 2}
    return nb.make_assembly(values, presentation=names, neuroid={"neuroid_id": np.arange(d)})
pairs = np.arange(100), np.arange(100)
jobs = {
    "sliced": lambda: sliced_wasserstein(flat(60_000_000, 4), flat(60_000_000, 4)),
    "decode": lambda: decode(lazy(20_000, 20_000), "side", n_permutations=0),
    "retrieve": lambda: retrieve(lazy(20_000, 20_000), lazy(20_000, 20_000)),
    "fuse": lambda: fuse(da.zeros((8_000_000, 128), dtype="f4", chunks=(100_000, 128)), flat(1000, 8), pairs),
    "cost": lambda: bridge_cost(da.zeros((8_000_000, 4), dtype="f4", chunks=(100_000, 4)), flat(1000, 4), pairs),
}
for name in sys.argv[1:]:
    try:
        jobs[name]()
    except MemoryError as error:
        print(f"{name}: {error}")
"""
_FITS = {
    "sliced": "X[::10]", "decode": "neuroid=slice(0, 500)", "retrieve": "neurobridge road", "fuse": "principal components",
    "cost": "nearest=32",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is of Linux's util-linux")
def test_at_three_gb_every_large_job_names_what_fits():
    command = ["prlimit", "--as=3000000000", sys.executable, "-W", "ignore", "-c", _AT_THREE_GB, *_FITS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(lines) == list(_FITS)
    for name, line in lines.items():
        assert _FITS[name] in line
        assert "ulimit -v" in line
        assert "alloc" not in line


@pytest.fixture
def roomy(monkeypatch):
    def with_room(n_bytes):
        monkeypatch.setattr(memory, "room", lambda: Room(n_bytes, "a limit", "raise it"))

    return with_room


@pytest.mark.skipif(sys.platform != "linux", reason="address-space limits and /proc are Linux's")
def test_under_an_address_space_limit_a_job_says_what_it_needs_before_it_allocates():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _UNDER_A_LIMIT], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    cost, plan, fused, geodesic = done.stdout.splitlines()
    assert "20000 + 20000 points and 1000 pairs, which needs 0.3" in cost
    for line in (cost, plan, fused, geodesic):
        assert "ulimit -v" in line
        assert "alloc" not in line
    assert "nearest=32" in cost
    assert "stream=True" in cost
    assert "4000 x 4000" in plan
    assert "method='factored'" in plan
    assert "minibatch_size=" in fused
    assert "400000 + 400000" in geodesic
    assert "metric='euclidean'" in geodesic


def test_a_stated_limit_comes_first(roomy):
    roomy(1e9)
    with pytest.raises(MemoryError, match=r"a thing.* 3\.00 GB.* 2\.00 GB.*Mend: less.*memory_limit"):
        check_memory(3e9, 2e9, "a thing", mend="less")


def test_room_counts_whatever_the_stated_limit(roomy):
    roomy(1e9)
    check_memory(0.5e9, 2e9, "a thing")
    with pytest.raises(MemoryError, match=r"a thing.* 1\.50 GB.* 0\.94 GB.* a limit\. Mend: less"):
        check_memory(0.5e9, 2e9, "a thing", mend="less", working=1.5e9)
    assert within_room(5e9) < 1e9
    roomy(1.0)
    check_memory(1e6, 2e9, "a small thing")


@pytest.mark.parametrize(
    ("error", "is_shortage"),
    [
        (MemoryError("Unable to allocate 9. GiB for an array"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shape mismatch"), False),
        (MemoryError("found a cost. Mend: less"), False),
    ],
)
def test_a_shortage_of_a_library_is_named(error, is_shortage):
    expected = (MemoryError, r"a cost, .*ran out.*Mend: less") if is_shortage else (type(error), re.escape(str(error)))
    with pytest.raises(expected[0], match=expected[1]), named_shortage("a cost", "less"):
        raise error


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_are_read_at_every_level(version, tmp_path, monkeypatch):
    names = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    base = tmp_path if version == 2 else tmp_path / "memory"
    job = base / "slurm" / "job7"
    job.mkdir(parents=True)
    unlimited = "max" if version == 2 else str(1 << 62)
    for folder, limit, used, inactive in ((base / "slurm", 2 * 10**9, 10**9, 3 * 10**8), (job, unlimited, 5, 0)):
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {inactive}\n")
    listing = tmp_path / "cgroup"
    listing.write_text("0::/slurm/job7\n" if version == 2 else "5:cpu:/\n4:memory:/slurm/job7\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_MEMBERSHIP", listing)
    monkeypatch.setattr(memory, "_process_rooms", list)
    monkeypatch.setattr(memory, "_free_memory", lambda: 1e12)
    assert room().n_bytes == 1.3e9
    assert "control group" in room().limit
