"""Files that are damaged, or claim more than they hold, are refused: without the memory that they ask for, and in time."""

from __future__ import annotations

import contextlib
import random
import resource
import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from neurobridge.assemblies import AssemblyError, make_assembly, open_assembly, save_assembly
from neurobridge.assemblies.storage import netcdf
from tests.refusals import refused


@pytest.fixture
def assembly() -> xr.DataArray:
    return make_assembly(
        np.random.default_rng(0).normal(size=(20, 10)),
        presentation={"stimulus_id": [f"s{i}" for i in range(20)], "object_name": ["é", "b"] * 10},
        neuroid={"neuroid_id": [f"n{i}" for i in range(10)]},
    )


def as_version_0_1(assembly: xr.DataArray, path: Path) -> bytes:
    assembly.to_dataset(name="data").to_netcdf(path, engine="netcdf4")
    return path.read_bytes()


def opened_under(path: Path, n_bytes: int) -> subprocess.CompletedProcess[str]:
    """Open a file in a process that may take so many bytes of memory."""
    code = (
        "import re, sys, resource, neurobridge as nb\n"
        # Peak of this process alone: ru_maxrss starts at that of the process it was forked from.
        "peak = lambda: re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({n_bytes}, {n_bytes}))\n"
        "try: nb.open_assembly(sys.argv[1])\n"
        "except nb.assemblies.AssemblyError as error: print('refused', peak(), error)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_damaged_reference_to_text_takes_no_gigabytes(tmp_path, assembly) -> None:
    raw = bytearray(as_version_0_1(assembly, tmp_path / "a.nc"))
    heap = raw.find(b"GCOL")
    # A reference is the length of a text, the address of its heap and its number there.
    reference = raw.find((2).to_bytes(4, "little") + heap.to_bytes(8, "little"))
    assert heap > 0
    assert reference > 0
    raw[reference + 4 + 3] = 127
    (tmp_path / "damaged.nc").write_bytes(raw)
    done = opened_under(tmp_path / "damaged.nc", 8 * 2**30)
    assert done.stdout.startswith("refused"), done.stderr
    assert "damaged.nc" in done.stdout
    assert int(done.stdout.split()[1]) < 1_000_000


def test_a_heap_without_end_is_not_waited_for(tmp_path, assembly) -> None:
    raw = bytearray(as_version_0_1(assembly, tmp_path / "a.nc"))
    first = raw.find(b"GCOL") + 16
    raw[first : first + 2], raw[first + 8 : first + 16] = bytes(2), bytes(8)
    (tmp_path / "damaged.nc").write_bytes(raw)
    with pytest.raises(AssemblyError, match=r"damaged.nc: .*Mend"):
        open_assembly(tmp_path / "damaged.nc")


def test_a_file_that_declares_more_than_it_can_hold_is_refused(tmp_path) -> None:
    with netCDF4.Dataset(tmp_path / "bomb.nc", "w") as file:
        for dim, n in (("presentation", 20000), ("neuroid", 20000)):
            file.createDimension(dim, n)
        file.createVariable("data", "f8", ("presentation", "neuroid"), chunksizes=(20000, 20000))
    assert (tmp_path / "bomb.nc").stat().st_size < 20_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for chunks in (None, {"presentation": 10}):
        with refused(AssemblyError, "bomb.nc", "3052 MiB", "0.0"):
            open_assembly(tmp_path / "bomb.nc", chunks=chunks)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_a_zarr_folder_that_declares_more_than_it_holds_is_refused(tmp_path) -> None:
    zarr = pytest.importorskip("zarr", minversion="3")
    group = zarr.open_group(str(tmp_path / "bomb.zarr"), mode="w", zarr_format=2)
    group.create_array("data", shape=(20000, 20000), chunks=(100, 100), dtype="f8")
    with refused(AssemblyError, "bomb.zarr", "3052 MiB"):
        open_assembly(tmp_path / "bomb.zarr")


def test_only_what_the_library_would_parse_is_read_by_a_process_of_its_own(tmp_path, assembly, monkeypatch) -> None:
    probed = []
    monkeypatch.setattr(netcdf, "read_elsewhere", probed.append)
    raw = as_version_0_1(assembly, tmp_path / "old.nc")
    # HDF5 files may start after a block of the user's.
    for name, content in {"after.nc": bytes(512) + raw, "far.nc": bytes(2048) + raw, "three.nc": b"CDF\x01"}.items():
        (tmp_path / name).write_bytes(content)
        with contextlib.suppress(AssemblyError):
            open_assembly(tmp_path / name)
        assert [path.name for path in probed] == [name]
        probed.clear()
    for content in (b"", b"text", raw[1:], bytes(100) + raw):
        (tmp_path / "none.nc").write_bytes(content)
        with refused(AssemblyError, "none.nc"):
            open_assembly(tmp_path / "none.nc")
    assert probed == []


@pytest.mark.parametrize("compress", [True, False])
def test_any_damage_is_found_or_harmless(tmp_path, assembly, compress) -> None:
    raw = save_assembly(assembly, tmp_path / "a.nc", compress=compress).read_bytes()
    draw = random.Random(0)
    n_refused = 0
    for _ in range(20):
        damaged = bytearray(raw)
        for _ in range(3):
            # The heap and the data lie behind the headers; these are protected, and make up most of a small file.
            damaged[draw.randrange(len(raw))] = draw.choice([0, 127, 255])
        (tmp_path / "b.nc").write_bytes(damaged)
        try:
            read = open_assembly(tmp_path / "b.nc")
        except AssemblyError as error:
            n_refused += "b.nc" in str(error)
        else:
            assert read.shape == assembly.shape
    assert n_refused > 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89HDF\r\n\x1a\n",
        b"\x89HDF\r\n\x1a\n\x02" + bytes(100),
        b"CDF\x01" + b"\xff" * 60,
        b"PK\x03\x04",
        b"text",
    ],
)
def test_what_is_no_netcdf_is_refused_with_its_path(tmp_path, content) -> None:
    (tmp_path / "odd.nc").write_bytes(content)
    with refused(AssemblyError, "odd.nc"):
        open_assembly(tmp_path / "odd.nc")


def test_a_folder_that_is_no_zarr_is_refused(tmp_path) -> None:
    with refused(AssemblyError, tmp_path, ".zgroup"):
        open_assembly(tmp_path)
    pytest.importorskip("zarr", minversion="3")
    (tmp_path / ".zgroup").write_text("{")
    with refused(AssemblyError, tmp_path):
        open_assembly(tmp_path)
