"""A full disk says so, keeps nothing of what was written, and the next save works."""

from __future__ import annotations

import errno
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from neurobridge.aligners import AssemblyAligner, RidgeAligner
from neurobridge.store import atomic, space
from neurobridge.store.atomic import atomic_folder, atomic_path, sweep_partials, write_bytes
from neurobridge.store.errors import DiskFullError


def fitted(factor=1.0):
    X = np.random.default_rng(0).normal(size=(30, 4))
    return RidgeAligner().fit(X, factor * X[:, :3])


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.suffix != ".lock"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("failing", [".safetensors", ".json"])
def test_a_save_without_space_leaves_the_former_state_and_the_next_one_works(code, failing, tmp_path, monkeypatch):
    fitted().save(tmp_path)
    before, plain = contents(tmp_path), Path.write_bytes

    def write(path, payload):
        if failing in path.name:
            plain(path, payload[: len(payload) // 2])
            raise OSError(code, os.strerror(code))
        return plain(path, payload)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(DiskFullError, match=r"found .*expected room.*Mend") as caught:
        fitted(2.0).save(tmp_path)
    assert caught.value.errno == code
    assert contents(tmp_path) == before
    monkeypatch.setattr(Path, "write_bytes", plain)
    fitted(2.0).save(tmp_path)
    assert len(contents(tmp_path)) == 2
    assert AssemblyAligner.load(tmp_path).maps_[0].coef.sum() == pytest.approx(fitted(2.0).maps_[0].coef.sum())


@pytest.mark.skipif(sys.platform != "linux", reason="file-size limits of POSIX")
def test_a_file_above_the_size_limit_of_the_process_says_so(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(DiskFullError, match=r"large\.raw.*ulimit -f"):
            write_bytes(tmp_path / "large.raw", bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert write_bytes(tmp_path / "large.raw", bytes(20_000)).stat().st_size == 20_000


@pytest.mark.parametrize("writer", [atomic_path, atomic_folder])
def test_a_writer_that_hides_the_error_of_the_system_is_asked_whether_a_little_fits(writer, tmp_path, monkeypatch):
    monkeypatch.setattr(space, "_probed", lambda folder: errno.ENOSPC)
    with pytest.raises(DiskFullError, match="no space left"), writer(tmp_path / "scores.nc"):
        raise RuntimeError("NetCDF: HDF error")
    monkeypatch.setattr(space, "_probed", lambda folder: None)
    with pytest.raises(RuntimeError, match="NetCDF: HDF error"), writer(tmp_path / "scores.nc"):
        raise RuntimeError("NetCDF: HDF error")
    assert list(tmp_path.iterdir()) == []


def test_the_probe_leaves_nothing(tmp_path):
    assert space._probed(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the start of a process is read from /proc")
def test_a_partial_older_than_the_process_that_now_has_its_number_is_swept(tmp_path, monkeypatch):
    partial = tmp_path / f".a.raw.{os.getpid()}-{atomic._machine()}00000000.partial"
    partial.write_bytes(b"half")
    assert time.time() - 86_400 < atomic._start_of(os.getpid()) <= time.time() + 1
    assert sweep_partials(tmp_path) == []
    monkeypatch.setattr(atomic, "_start_of", lambda pid: time.time() + 3600)
    assert sweep_partials(tmp_path) == [partial]


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_a_file_restored_in_place_is_read(kind, tmp_path):
    fitted().save(tmp_path)
    path = next(tmp_path.glob(f"*.{kind}"))
    whole, times = path.read_bytes(), path.stat()
    for damaged in (whole[:-5], b"", whole.replace(b"0", b"1")):
        with open(path, "r+b") as file:
            file.truncate(0)
            file.write(damaged)
        with pytest.raises(ValueError, match="Mend"):
            AssemblyAligner.load(tmp_path)
        # The same inode, and the times of before.
        with open(path, "r+b") as file:
            file.truncate(0)
            file.write(whole)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert AssemblyAligner.load(tmp_path).maps_[0].coef.shape == (4, 3)
