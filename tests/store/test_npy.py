"""Arrays in npy and npz files: read as numpy reads them, and refused where a header states what the bytes do not bear out."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from neurobridge.store.archives import ArchiveError
from neurobridge.store.npy import ArrayArchive, read_npy

ARRAYS = [
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(6, dtype=">i4"),
    np.array(["a", "bcd"]),
    np.array([(1, 2.0)], dtype=[("n", "i4"), ("x", "f8")]),
    np.zeros((0, 5)),
    np.array(3.0),
    np.array(["2020-01-01"], dtype="datetime64[D]"),
]


def npy_bytes(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_those_that_were_saved(tmp_path, array, save):
    np.save(tmp_path / "a.npy", array)
    save(tmp_path / "a.npz", first=array, second=np.ones(2))
    for mmap in (False, True):
        np.testing.assert_array_equal(read_npy(tmp_path / "a.npy", mmap=mmap), array)
    with ArrayArchive(tmp_path / "a.npz") as arrays:
        assert arrays.names == ["first", "second"]
        assert arrays.header("first")[:2] == (array.shape, array.dtype)
        read, mapped = arrays.read("first"), arrays.map("first")
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype
        assert (mapped is None) == (save is np.savez_compressed)
        if mapped is not None:
            np.testing.assert_array_equal(mapped, array)


def lying(shape):
    """An npy file whose header states a shape that its 24 bytes do not have."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(24)


@pytest.mark.parametrize(
    "data",
    [
        lying((4,)),
        lying((2,)),
        lying((10**15,)),
        lying((2**40, 2**40)),
        lying((-3,)),
        b"",
        b"no array",
        b"\x93NUMPY\x01\x00\xff\xff",
        npy_bytes(np.ones(3))[:40],
        npy_bytes(np.ones(3), version=(3, 0)),
        npy_bytes(np.ones(3)).replace(b"descr", b"d\0scr"),
        npy_bytes(np.array([{}], dtype=object), allow_pickle=True),
    ],
    ids=range(12),
)
def test_other_bytes_are_refused(tmp_path, data):
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    with pytest.raises(ArchiveError) as caught:
        read_npy(path)
    assert str(path) in str(caught.value)
    assert "Mend:" in str(caught.value)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", data)
    with ArrayArchive(tmp_path / "a.npz") as arrays, pytest.raises(ArchiveError) as caught:
        arrays.read("x")
    assert f"{tmp_path / 'a.npz'}: x" in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.npy"):
        read_npy(tmp_path / "gone.npy")
    with pytest.raises(ArchiveError, match=tmp_path.name):
        read_npy(tmp_path)
