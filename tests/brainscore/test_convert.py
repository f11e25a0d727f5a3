"""Across the border and back: flat here, MultiIndex there, the real reader where it is installed."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neurobridge.assemblies import (
    AssemblyError,
    average_repetitions,
    make_assembly,
    open_assembly,
    save_assembly,
)
from neurobridge.brainscore import from_brainscore, to_brainscore


def recording(*, time_bins: int = 1, seed: int = 0) -> xr.DataArray:
    """Two presentations of each stimulus, in the coordinates of the public Majaj & Hong file."""
    rng = np.random.default_rng(seed)
    n_stimuli, n_neuroids = 6, 4
    n = 2 * n_stimuli
    ids = [f"im{i:03d}" for i in range(n_stimuli)] * 2
    return make_assembly(
        rng.normal(size=(n, n_neuroids, time_bins)).astype("float32"),
        presentation={
            "image_id": ids,
            "stimulus_id": ids,
            "repetition": np.repeat([0, 1], n_stimuli),
            "object_name": [f"object {i % 3}" for i in range(n_stimuli)] * 2,
            "variation": np.tile([0, 3], n_stimuli),
            "ty": rng.normal(size=n),
            "is_face": np.tile([True, False, False], 4),
        },
        neuroid={
            "neuroid_id": [f"Chabo_L_A_{i}" for i in range(n_neuroids)],
            "arr": ["A", "A", "M", "M"],
            "x": np.linspace(-1, 1, n_neuroids),
            "region": ["V4", "V4", "IT", "IT"],
        },
        time_bin={
            "time_bin_start": 70 + 100 * np.arange(time_bins),
            "time_bin_end": 170 + 100 * np.arange(time_bins),
        },
        attrs={"identifier": "dicarlo.Simulated", "n": 3},
    )


def assert_same(got: xr.DataArray, expected: xr.DataArray, *, extra: set[str] = frozenset()) -> None:
    assert type(got) is xr.DataArray
    assert got.dims == expected.dims
    np.testing.assert_array_equal(got.values, expected.values)
    assert set(map(str, got.coords)) - extra == set(map(str, expected.coords))
    for name, coord in expected.coords.items():
        assert got.coords[name].dims == coord.dims
        assert got.coords[name].dtype.kind == coord.dtype.kind
        np.testing.assert_array_equal(got.coords[name].values, coord.values)
    assert not any(isinstance(index, pd.MultiIndex) for index in got.indexes.values())
    assert {key: got.attrs[key] for key in expected.attrs} == expected.attrs


def nested(assembly: xr.DataArray) -> xr.DataArray:
    """Put the coordinates of each dimension into a MultiIndex, as Brain-Score does."""
    columns = {
        str(dim): [str(name) for name, coord in assembly.coords.items() if coord.dims == (dim,)]
        for dim in assembly.dims
    }
    return assembly.set_index(append=True, **columns)


# ---- without the Brain-Score packages


@pytest.mark.parametrize("time_bins", [1, 3])
def test_multiindexes_become_flat_coordinates(time_bins: int) -> None:
    expected = recording(time_bins=time_bins)
    assert isinstance(nested(expected).indexes["presentation"], pd.MultiIndex)
    assert_same(from_brainscore(nested(expected)), expected)


def test_a_flat_assembly_passes_through() -> None:
    assert_same(from_brainscore(recording()), recording())


def test_dimensions_come_out_in_order() -> None:
    expected = recording(time_bins=2)
    assert_same(from_brainscore(nested(expected).transpose("neuroid", "time_bin", "presentation")), expected)


def test_values_stay_lazy() -> None:
    pytest.importorskip("dask.array")
    got = from_brainscore(nested(recording()).chunk({"presentation": 3}))
    assert got.chunks is not None
    assert_same(got.compute(), recording())


def test_image_id_becomes_stimulus_id() -> None:
    old = nested(recording().drop_vars("stimulus_id"))
    assert_same(from_brainscore(old), recording())


def test_only_coordinates_get_their_name_back(make_random_assembly) -> None:
    expected = make_random_assembly(5, 3).drop_vars("category_name")
    lost = expected.set_index(presentation="stimulus_id", neuroid="neuroid_id")
    assert "stimulus_id" not in lost.coords
    assert_same(from_brainscore(lost), expected)


def test_a_squeezed_time_bin_keeps_its_bounds() -> None:
    got = from_brainscore(nested(recording()).squeeze("time_bin"))
    assert got.dims == ("presentation", "neuroid")
    assert int(got.coords["time_bin_start"]) == 70
    assert int(got.coords["time_bin_end"]) == 170
    assert "time_bin" not in got.coords


def test_scalar_coordinates_are_kept() -> None:
    expected = recording().isel(presentation=np.arange(6)).drop_vars(["image_id", "repetition"])
    scalar = nested(expected).assign_coords(experimenter="someone")
    assert str(from_brainscore(scalar).coords["experimenter"].values) == "someone"


def test_scalar_tuples_are_refused() -> None:
    value = np.empty((), dtype=object)
    value[()] = ("a", 1, 2)
    bad = recording().assign_coords(presentation_was=((), value))
    with pytest.raises(AssemblyError, match=r"'presentation_was'.*drop_vars"):
        from_brainscore(bad)


def test_the_stimulus_set_object_is_left_out_so_that_the_rest_can_be_saved(tmp_path) -> None:
    loaded = nested(recording())
    loaded.attrs["stimulus_set"] = pd.DataFrame({"stimulus_id": ["im000"]})
    loaded.attrs["stimulus_set_identifier"] = None
    got = from_brainscore(loaded)
    assert "stimulus_set" not in got.attrs
    assert open_assembly(save_assembly(got, tmp_path / "a.nc")).attrs["stimulus_set_identifier"] is None


def test_flattened_assemblies_can_be_averaged() -> None:
    expected = average_repetitions(recording())
    assert average_repetitions(from_brainscore(nested(recording()))).identical(expected)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.values, "ndarray"),
        (lambda a: nested(a.drop_vars("neuroid_id")), r"'neuroid_id'.*'neuroid'"),
        (
            lambda a: nested(a.drop_vars(["stimulus_id", "image_id"])),
            r"'stimulus_id'.*'presentation'",
        ),
        (lambda a: a.rename(presentation="event"), "'event'"),
    ],
)
def test_what_is_no_assembly_is_refused(spoil, message: str) -> None:
    with pytest.raises(AssemblyError, match=message) as caught:
        from_brainscore(spoil(recording()))
    assert "Mend:" in str(caught.value)


def test_missing_package_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "brainscore_core", None)
    monkeypatch.setitem(sys.modules, "brainscore_core.supported_data_standards.brainio.assemblies", None)
    with pytest.raises(ImportError, match=r"neurobridge\[brainscore\]"):
        to_brainscore(recording())


def test_an_invalid_assembly_does_not_cross() -> None:
    with pytest.raises(AssemblyError, match="NaN or infinite"):
        to_brainscore(recording() * np.nan, xr.DataArray)


# ---- with the real classes and the real reader


@pytest.fixture
def real():
    pytest.importorskip("brainscore_core")
    from brainscore_core.supported_data_standards.brainio import assemblies

    return assemblies


@pytest.mark.brainscore
@pytest.mark.parametrize("time_bins", [1, 2])
def test_round_trip_through_the_real_class(real, time_bins: int) -> None:
    expected = recording(time_bins=time_bins)
    theirs = to_brainscore(expected)
    assert type(theirs) is real.NeuroidAssembly
    for dim in expected.dims:
        assert isinstance(theirs.indexes[dim], pd.MultiIndex)
    theirs.validate()
    assert theirs.attrs == expected.attrs
    assert theirs.sel(region="IT").shape == (12, 2, time_bins)
    assert_same(from_brainscore(theirs), expected)


@pytest.mark.brainscore
def test_another_class_may_be_asked_for(real) -> None:
    assert type(to_brainscore(recording(), real.NeuronRecordingAssembly)) is real.NeuronRecordingAssembly


@pytest.mark.brainscore
def test_an_only_coordinate_keeps_its_name(real, make_random_assembly) -> None:
    expected = make_random_assembly(5, 3)
    theirs = to_brainscore(expected)
    np.testing.assert_array_equal(theirs["neuroid_id"].values, expected.coords["neuroid_id"].values)
    np.testing.assert_array_equal(theirs.multisel(neuroid_id="n1").values, expected.values[:, [1]])
    assert_same(from_brainscore(theirs), expected)


@pytest.mark.brainscore
def test_averages_agree_with_their_groupby(real) -> None:
    expected = recording(time_bins=2)
    theirs = to_brainscore(expected).multi_groupby(["stimulus_id", "object_name"]).mean(dim="presentation")
    theirs = from_brainscore(theirs)
    ours = average_repetitions(expected)
    order = pd.Index(theirs.coords["stimulus_id"].values).get_indexer(ours.coords["stimulus_id"].values)
    np.testing.assert_allclose(theirs.values[order], ours.values, rtol=1e-5, atol=1e-6)


@pytest.mark.brainscore
@pytest.mark.parametrize("entry", ["loader", "from_files"])
def test_the_real_loader_reads_our_file(real, tmp_path, entry: str) -> None:
    expected = recording()
    path = save_assembly(expected, tmp_path / "assy.nc")
    if entry == "loader":
        theirs = real.AssemblyLoader(cls=real.NeuroidAssembly, file_path=path).load()
    else:
        theirs = real.NeuroidAssembly.from_files(
            path,
            stimulus_set_identifier="set",
            stimulus_set=pd.DataFrame({"stimulus_id": [f"im{i:03d}" for i in range(6)]}),
        )
    assert type(theirs) is real.NeuroidAssembly
    for name, coord in expected.coords.items():
        np.testing.assert_array_equal(theirs[name].values, coord.values)
    assert_same(from_brainscore(theirs).compute(), expected)


@pytest.mark.brainscore
def test_the_real_loader_keeps_the_name_of_an_only_coordinate(real, tmp_path, make_random_assembly) -> None:
    expected = make_random_assembly(5, 3)
    path = save_assembly(expected, tmp_path / "assy.nc")
    theirs = real.AssemblyLoader(cls=real.NeuroidAssembly, file_path=path).load()
    np.testing.assert_array_equal(theirs["neuroid_id"].values, expected.coords["neuroid_id"].values)
    assert_same(from_brainscore(theirs).compute(), expected, extra={"neuroid_num"})
    assert_same(open_assembly(path), expected)


@pytest.mark.brainscore
def test_we_read_a_file_that_they_wrote(real, tmp_path) -> None:
    packaging = pytest.importorskip("brainscore_core.supported_data_standards.brainio.packaging")
    expected = recording()
    packaging.write_netcdf(to_brainscore(expected), tmp_path / "theirs.nc")
    assert_same(open_assembly(tmp_path / "theirs.nc"), expected)
