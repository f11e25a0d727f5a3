"""Damaged files, bombs and files that would run code are refused with errors of the package, whatever the format."""

from __future__ import annotations

import json
import pickle
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
import scipy.io

import neurobridge as nb
from neurobridge.assemblies import AssemblyError, inspect_recordings
from neurobridge.store.archives import ArchiveError
from tests.assemblies.readers.files import MAP, PACKAGES, WRITERS, example, tables
from tests.refusals import refused

FILES = [kind for kind in WRITERS if kind not in ("npy, turned", "zarr", "assembly", "MATLAB structures")]


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of the file was run')",))


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_cut_off_is_refused(kind, tmp_path):
    if kind in PACKAGES:
        pytest.importorskip(PACKAGES[kind], reason=f"the extra io brings {PACKAGES[kind]}")
    lab = example(np.random.default_rng(0).normal(size=(40, 8)))
    writer, needed = WRITERS[kind]
    path = writer(lab, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if "table" not in kind else b"\xff\xfe\x00" + whole)
    with refused(ValueError, path.name):
        nb.read_recordings(path, columns=MAP, **tables(lab, needed))
    path.write_bytes(b"")
    with refused(ValueError, path.name):
        nb.read_recordings(path, columns=MAP, **tables(lab, needed))


@pytest.mark.parametrize("write", [np.save, lambda path, array: np.savez(path, data=array)])
def test_python_objects_are_never_read(write, tmp_path):
    path = tmp_path / ("a.npy" if write is np.save else "a.npz")
    write(path, np.array([[Evil(), Evil()], [Evil(), Evil()]], dtype=object))
    with refused(ValueError, path.name):
        nb.read_recordings(path, trials=["a", "b"])
    with refused(ArchiveError, "objects"):
        np.save(tmp_path / "ids.npy", np.array([Evil()], dtype=object))
        nb.read_recordings(np.zeros((1, 2)), trials=tmp_path / "ids.npy")


def test_zarr_that_is_pickled_is_never_read(tmp_path):
    pytest.importorskip("zarr", reason="the extra zarr brings it")
    folder = tmp_path / "evil.zarr"
    folder.mkdir()
    metadata = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None, "fill_value": None, "order": "C",
        "filters": [{"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(metadata))
    (folder / "0").write_bytes(pickle.dumps([Evil()]))
    for read in (nb.read_recordings, inspect_recordings):
        with refused(AssemblyError, ".zarray", "pickled"):
            read(folder)
    (folder / "array").mkdir()
    (folder / ".zarray").rename(folder / "array" / ".zarray")
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    with refused(AssemblyError, "pickled"):
        nb.open_assembly(folder)


def test_bombs_are_refused_before_they_unpack(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = np.lib.format.header_data_from_array_1_0(np.zeros(0))
        with archive.open("rates.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, {**header, "shape": (2**14, 2**10)})
            for _ in range(128):
                stream.write(bytes(2**20))
    with refused(ArchiveError, "bomb.npz"):
        nb.read_recordings(tmp_path / "bomb.npz", trials=["a"])
    packed = zlib.compress(bytes(2**27), 1)
    head = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"
    (tmp_path / "bomb.mat").write_bytes(head + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed)
    with refused(AssemblyError, "bomb.mat", "unpacked"):
        nb.read_recordings(tmp_path / "bomb.mat")


def test_hdf5_that_declares_more_than_it_holds_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py", reason="the extra io brings h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("rates", shape=(2**20, 2**15), dtype="f8", chunks=(1024, 1024), compression="gzip")
    with refused(AssemblyError, "a.h5", "declares"):
        nb.read_recordings(tmp_path / "a.h5")


def test_values_in_other_files_and_links_are_not_followed(tmp_path):
    h5py = pytest.importorskip("h5py", reason="the extra io brings h5py")
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["rates"] = np.arange(6.0).reshape(3, 2)
        file["image_id"] = [1, 2, 3]
        file.create_dataset("outside", shape=(4, 2), dtype="f8", external=[(str(tmp_path / "secret.bin"), 0, 64)])
        file["link"] = h5py.ExternalLink("b.h5", "/x")
        file["round"] = h5py.SoftLink("/")
    recordings = nb.read_recordings(tmp_path / "a.h5")
    assert recordings["stimulus_id"].values.tolist() == ["1", "2", "3"]
    assert any("/outside" in line and "other files" in line for line in recordings.attrs["left_out"])


def test_text_of_a_parquet_table_that_is_no_utf8_is_refused(tmp_path):
    pytest.importorskip("pyarrow", reason="the extra io brings pyarrow")
    path = WRITERS["parquet"][0](example(), tmp_path)
    whole = path.read_bytes()
    assert "caf\u00e9".encode() in whole
    path.write_bytes(whole.replace("caf\u00e9".encode(), b"caf\xff\xff"))
    with refused(AssemblyError, "wide.parquet"):
        nb.read_recordings(path, columns=MAP)


def test_matlab_objects_are_listed_as_unread(tmp_path):
    function = {"f": np.array([[1.0]])}
    scipy.io.savemat(tmp_path / "a.mat", {"rates": np.zeros((3, 2)), "image_id": [1, 2, 3], "s": function, "empty": []})
    recordings = nb.read_recordings(tmp_path / "a.mat", sites=["u", "v"])
    assert recordings.shape == (3, 2)


def test_tables_of_values_are_checked(tmp_path):
    long = pd.DataFrame(
        {"trial": [0, 0, 0], "image": ["a", "a", "a"], "site": ["u", "v", "u"], "rate": [1.0, 2.0, 3.0]}
    )
    with refused(AssemblyError, "1 values beside another", "'u'", "--map trial="):
        nb.read_recordings(long)
    with refused(AssemblyError, "'a'", "'b'", "'0'"):
        nb.read_recordings(long.assign(image=["a", "b", "a"], site=["u", "v", "w"]))
    with refused(AssemblyError, "numbers"):
        nb.read_recordings(long.assign(rate=["x", "y", "z"], site=["u", "v", "w"]))
    with refused(AssemblyError, "no columns of sites"):
        nb.read_recordings(pd.DataFrame({"image": ["a", "b"], "class": ["x", "y"]}))
    with refused(AssemblyError, "without rows"):
        nb.read_recordings(long.iloc[:0])
    wide = nb.read_recordings(pd.DataFrame({"image": ["a", "b"], "v4": [1.0, 2.0], "size": [1, 2]}), variable="v*")
    assert wide["size"].values.tolist() == [1, 2]


def test_a_long_table_may_have_times_gaps_and_tables_beside_it():
    long = pd.DataFrame(
        {
            "trial": [0, 0, 0, 0, 1, 1],
            "site": ["u", "u", "v", "v", "u", "u"],
            "time": [0, 10, 0, 10, 0, 10],
            "rate": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        }
    )
    trials = pd.DataFrame({"trial": [1, 0], "image": ["b", "a"]})
    recordings = nb.read_recordings(long, trials=trials, sites={"site": ["v", "u"], "region": ["IT", "V4"]})
    assert recordings.dims == ("presentation", "neuroid", "time_bin")
    np.testing.assert_array_equal(recordings.values, [[[1, 2], [3, 4]], [[5, 6], [np.nan, np.nan]]])
    assert recordings["stimulus_id"].values.tolist() == ["a", "b"]
    assert recordings["region"].values.tolist() == ["V4", "IT"]
    assert recordings["time_bin_end"].values.tolist() == [10, 20]
    with refused(AssemblyError, "no row for 1 of 2 trial", "'1'"):
        nb.read_recordings(long, trials=trials.iloc[1:])
