"""Assemblies on disk."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import xarray as xr

from neurobridge.assemblies import AssemblyError, average_repetitions, make_assembly, open_assembly, save_assembly
from neurobridge.assemblies.storage.files import save_variables
from tests.refusals import refused


@pytest.fixture
def assembly():
    rng = np.random.default_rng(0)
    return make_assembly(
        rng.normal(size=(6, 3, 1)).astype(np.float32),
        presentation={
            "stimulus_id": [f"s{i}" for i in range(6)],
            "category_name": ["é", "b"] * 3,
            "variation": [0, 3] * 3,
        },
        neuroid={"neuroid_id": ["n0", "n1", "n2"]},
        time_bin={"time_bin_start": [70], "time_bin_end": [170]},
        attrs={
            "identifier": "made",
            "units": "spikes per second",
            "digests": {"a": "sha256:0"},
            "flag": True,
            "nothing": None,
            "n": 3,
        },
    )


@pytest.mark.parametrize("compress", [True, False])
def test_round_trip_is_identical(assembly, tmp_path, compress):
    path = save_assembly(assembly, tmp_path / "deep" / "made.nc", compress=compress)
    read = open_assembly(path)
    xr.testing.assert_identical(read, assembly)
    assert read.dtype == np.float32
    assert [p.name for p in path.parent.iterdir()] == ["made.nc"]


def test_the_file_holds_one_variable_data_and_flat_coordinates(assembly, tmp_path):
    path = save_assembly(assembly, tmp_path / "made.nc")
    with xr.open_dataset(path) as raw:
        assert list(raw.data_vars) == ["data"]
        assert all(len(raw[name].dims) == 1 for name in raw.coords)


def test_variables_of_a_score_are_written_by_the_same_encoding(tmp_path):
    labels = np.array(["a", 1, None], dtype=object)
    score = xr.Dataset(
        {"raw": ("split", [0.25, np.nan, 0.5]), "kept": ("split", [True, False, True]), "n": ((), 3)},
        coords={"split": [0, 1, 2], "label": ("split", labels), "object name": ("split", ["x", "é", ""])},
        attrs={"metric": "accuracy", "scale_factor": 2.0, "digests": {"a": "sha256:0"}, "nothing": None, "flag": True},
    )
    with xr.open_dataset(save_variables(score, tmp_path / "deep" / "score.nc"), engine="netcdf4") as read:
        np.testing.assert_array_equal(read["raw"].values, score["raw"].values)
        assert read["kept"].values.tolist() == [True, False, True]
        assert int(read["n"]) == 3
        assert read["object_name"].values.tolist() == ["x", "é", ""]
        assert read.sizes == score.sizes
        assert read.attrs["metric"] == "accuracy"
        assert "scale_factor" not in read.attrs
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["score.nc"]


@pytest.mark.parametrize(
    ("odd", "facts"),
    [
        ({"attrs": {"model": print}}, ("'model'", "dataset.attrs")),
        ({"coords": {"label": ("split", [print, 1])}}, ("'label'", "dataset['label']")),
        ({"data_vars": {"raw": ("split", np.array([print, 1]))}}, ("'raw'", "dataset['raw']")),
    ],
)
def test_variables_that_no_file_holds_are_refused_before_the_old_file_goes(tmp_path, odd, facts):
    path = save_variables(xr.Dataset({"raw": ("split", [0.5])}), tmp_path / "score.nc")
    before = path.read_bytes()
    with refused(AssemblyError, *facts):
        save_variables(xr.Dataset(**{"data_vars": {"raw": ("split", [0.5, 1.0])}, **odd}), path)
    assert path.read_bytes() == before


def test_older_names_are_read(assembly, tmp_path):
    old = assembly.assign_coords(image_id=("presentation", assembly["stimulus_id"].values)).drop_vars("stimulus_id")
    old.attrs = {}
    old.to_dataset(name="dicarlo.MajajHong2015.public").to_netcdf(tmp_path / "old.nc")
    read = open_assembly(tmp_path / "old.nc")
    assert read["stimulus_id"].values.tolist() == assembly["stimulus_id"].values.tolist()


def test_a_failed_write_leaves_the_old_file(assembly, tmp_path, monkeypatch):
    path = save_assembly(assembly, tmp_path / "made.nc")
    before = path.read_bytes()

    def broken(self, target, **options):
        with open(target, "wb") as stream:
            stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", broken)
    with pytest.raises(OSError, match="disk full"):
        save_assembly(assembly * 2, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_bad_files_are_refused(assembly, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.nc.*Mend"):
        open_assembly(tmp_path / "nowhere.nc")
    path = save_assembly(assembly, tmp_path / "made.nc")
    (tmp_path / "cut.nc").write_bytes(path.read_bytes()[:2000])
    with pytest.raises(AssemblyError, match=r"cut.nc.*Mend"):
        open_assembly(tmp_path / "cut.nc")
    xr.Dataset({"a": ("x", [1]), "b": ("x", [2])}).to_netcdf(tmp_path / "two.nc")
    with pytest.raises(AssemblyError, match=r"\['a', 'b'\].*Mend"):
        open_assembly(tmp_path / "two.nc")
    with pytest.raises(AssemblyError, match=r"'model'.*Mend"):
        save_assembly(assembly.assign_attrs(model=object()), tmp_path / "made.nc")


def test_files_larger_than_a_chunk_are_read_and_written_lazily(tmp_path, make_random_assembly):
    trials = make_random_assembly(50, 4, n_repetitions=4)
    path = save_assembly(trials.chunk({"presentation": 30, "neuroid": -1}), tmp_path / "trials.nc")
    xr.testing.assert_identical(open_assembly(path), trials)
    lazy = open_assembly(path, chunks={"presentation": 64})
    assert lazy.chunks is not None
    assert lazy.chunks[0] == (64, 64, 64, 8)
    assert lazy["stimulus_id"].values.tolist() == trials["stimulus_id"].values.tolist()
    assert np.allclose(average_repetitions(lazy).values, average_repetitions(trials).values)


def test_a_missing_value_comes_back_as_it_was_written(tmp_path, assembly):
    assembly = assembly.copy()
    assembly.values[4, 1, 0] = np.nan
    read = open_assembly(save_assembly(assembly, tmp_path / "made.nc"))
    np.testing.assert_array_equal(read.values, assembly.values)
    lazy = open_assembly(tmp_path / "made.nc", chunks={"presentation": 2})
    np.testing.assert_array_equal(average_repetitions(lazy).values, average_repetitions(assembly).values)


def test_a_lazy_infinite_value_is_found_when_it_is_read(tmp_path, assembly):
    path = save_assembly(assembly, tmp_path / "made.nc")
    with netCDF4.Dataset(path, "a") as raw:
        raw["data"][4, 1, 0] = np.inf
    lazy = open_assembly(path, chunks={"presentation": 2})
    with pytest.raises(AssemblyError, match=r"1.*'s4'.*'n1'"):
        average_repetitions(lazy)
    with pytest.raises(AssemblyError, match=r"1.*'s4'.*'n1'"):
        open_assembly(path)


@pytest.mark.parametrize("chunks", [None, {"presentation": 7}])
def test_the_order_of_dimensions_in_the_file_does_not_matter(tmp_path, make_random_assembly, chunks):
    assembly = make_random_assembly(20, 5)
    assembly.transpose("neuroid", "presentation").to_dataset(name="data").to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    read = open_assembly(tmp_path / "a.nc", chunks=chunks)
    assert read.dims == ("presentation", "neuroid")
    assert np.array_equal(read.values, assembly.values)
