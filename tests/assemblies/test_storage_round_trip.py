"""What is written is read back the same: attributes, names, dtypes and encodings, in netCDF and in zarr."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neurobridge.assemblies import AssemblyError, make_assembly, open_assembly, require_storable, save_assembly
from neurobridge.assemblies.storage.columns import as_column, same_column
from neurobridge.assemblies.storage.values import differing_attrs
from tests.refusals import refused

SUFFIXES = [".nc"] + ([".zarr"] if importlib.util.find_spec("zarr") else [])
RESERVED = [
    "scale_factor", "add_offset", "dtype", "units", "missing_value", "_FillValue", "coordinates", "calendar", "bounds",
    "valid_range", "_Unsigned", "_Encoding", "NAME", "CLASS", "_ARRAY_DIMENSIONS", "neurobridge_attrs", "neurobridge_format",
    "companion_of", "a/b", "a b", "", "größe", "axis", "source", "standard_name", "grid_mapping", "long_name", "flag_values",
]  # fmt: skip
NAMES = [
    "object name", "size/deg", " note", "data", "Unnamed: 0", "string5", "größe", "1st", "a", "A", "", ".", "..", "x" * 300,
    "presentation", "neuroid_num", "presentation_num", "values", "dtype", "time_bin", "index", "scale_factor",
    "coordinates", "neurobridge_name",
]  # fmt: skip


def small(values: Any = None, *, attrs: Any = None, columns: Any = None, n: int = 4) -> xr.DataArray:
    values = np.random.default_rng(0).normal(size=(n, 2)) if values is None else values
    assembly = make_assembly(
        values, presentation={"stimulus_id": [f"s{i}" for i in range(n)]}, neuroid={"neuroid_id": ["n0", "n1"]}
    )
    assembly = assembly.assign_coords({name: ("presentation", column) for name, column in (columns or {}).items()})
    return assembly.assign_attrs(attrs or {})


def assert_same(read: xr.DataArray, given: xr.DataArray) -> None:
    np.testing.assert_array_equal(read.values, given.values)
    assert read.dtype == given.dtype.newbyteorder("=")
    assert differing_attrs(given.attrs, read.attrs) == []
    assert set(read.coords) == set(given.coords)
    for name, coord in given.coords.items():
        assert same_column(as_column(coord.values), read.coords[name].values), name
        assert differing_attrs(coord.attrs, read.coords[name].attrs) == []


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.sampled_from(
        [
            np.float16(2.5), np.float32(0.1), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True), np.str_("a"), 2**70, "json:{}",
            "days since 2000-01-01", "seconds since stimulus onset", "ms", "seconds", "µV", "a\0b", "\ud800",
            np.datetime64("2000-01-01"), np.timedelta64(3, "ms"), np.datetime64("NaT"), pd.NA,
        ]
    ),
)  # fmt: skip
ARRAYS = st.sampled_from(
    [
        np.arange(3.0), np.array([1.5]), np.array([]), np.eye(2), np.arange(3, dtype=">i2"), np.array(["a", "bc"]),
        np.array([True]), np.array([1, "a", None], dtype=object), np.array([1 + 2j]), np.array([np.nan, np.inf]),
        np.float16([1, 2]), np.array(3),
    ]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.just("__tuple__"), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(RESERVED) | st.text(max_size=5) | st.integers() | st.tuples(st.integers(), st.text(max_size=2))
ATTRS = st.dictionaries(KEYS, VALUES, max_size=4)
N = 4
COLUMNS = st.one_of(
    st.lists(st.text(max_size=5), min_size=N, max_size=N),
    st.lists(st.binary(max_size=3), min_size=N, max_size=N).map(lambda cells: np.array(cells, dtype="S3")),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=N, max_size=N).map(np.array),
    st.lists(st.floats(), min_size=N, max_size=N).map(np.array),
    st.lists(st.floats(width=16), min_size=N, max_size=N).map(lambda cells: np.array(cells, dtype=np.float16)),
    st.lists(st.booleans(), min_size=N, max_size=N).map(np.array),
    st.lists(st.complex_numbers(), min_size=N, max_size=N).map(np.array),
    st.lists(st.integers(-(2**40), 2**40) | st.none(), min_size=N, max_size=N).map(
        lambda cells: np.array(["NaT" if cell is None else cell for cell in cells], dtype="timedelta64[ns]")
    ),
    st.lists(st.integers(-(2**40), 2**40) | st.none(), min_size=N, max_size=N).map(
        lambda cells: np.array(["NaT" if cell is None else cell for cell in cells], dtype="datetime64[ns]")
    ),
    st.lists(st.sampled_from([1, "1", None, 2.5, True, b"a", pd.NA, (1, "a")]), min_size=N, max_size=N).map(
        lambda cells: pd.Series([*cells, object()]).to_numpy()[:-1]
    ),
    st.sampled_from(["i1", "u1", ">i2", "u4", "u8", ">f4", "f4"]).map(lambda kind: np.arange(N).astype(kind)),
)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    attrs=ATTRS,
    columns=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), st.tuples(COLUMNS, ATTRS), max_size=3),
    kind=st.sampled_from(["f8", "f4", "f2", ">f8", "i8", "u1", ">i2", "?"]),
    packing=st.sampled_from([{}, {"scale_factor": 0.1, "dtype": "int16"}, {"_FillValue": 0.0}, {"units": "x"}]),
)
@example(attrs=dict.fromkeys(RESERVED, 0.195), columns={}, kind="f8", packing={})
@example(
    attrs={}, columns={name: (["a"] * N, {"units": "days since 2000-01-01"}) for name in NAMES}, kind="f8", packing={}
)
def test_every_assembly_comes_back_as_it_was(tmp_path, suffix, attrs, columns, kind, packing) -> None:
    columns = {
        name: column
        for name, column in columns.items()
        if name not in ("stimulus_id", "neuroid_id", "neuroid", "time_bin")
    }
    if "presentation" in columns:
        # An index, which pandas has for some dtypes alone.
        columns["presentation"] = (["a", "b", "c", "d"], columns["presentation"][1])
    assembly = small(
        np.arange(2.0 * N).reshape(N, 2).astype(kind), attrs=attrs, columns={k: c for k, (c, _) in columns.items()}
    )
    for name, (_, of_column) in columns.items():
        assembly.coords[name].attrs = of_column
    assembly.encoding = packing
    path = save_assembly(assembly, tmp_path / f"a{suffix}")
    # A file that is left to the garbage collector is closed at any moment, also while a thread of dask reads another: HDF5 crashes.
    for chunks in (None, {"presentation": 2}):
        with contextlib.closing(open_assembly(path, chunks=chunks)) as read:
            assert_same(read, assembly)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells which files are open on Linux alone")
def test_closing_an_assembly_that_is_read_in_pieces_closes_its_file(tmp_path) -> None:
    def is_open() -> bool:
        return path.resolve() in {each.resolve() for each in Path("/proc/self/fd").iterdir()}

    path = save_assembly(small(), tmp_path / "a.nc")
    read = open_assembly(path, chunks={"presentation": 2})
    np.testing.assert_array_equal(read.values, small().values)
    assert is_open()
    read.close()
    assert not is_open()
    # One that is read now leaves nothing open.
    np.testing.assert_array_equal(open_assembly(path).values, small().values)
    assert not is_open()


def test_packing_of_the_file_that_an_assembly_came_from_is_not_used_again(tmp_path) -> None:
    with netCDF4.Dataset(tmp_path / "packed.nc", "w") as file:
        for dim, n in (("presentation", 4), ("neuroid", 2)):
            file.createDimension(dim, n)
            file.createVariable({"presentation": "stimulus_id", "neuroid": "neuroid_id"}[dim], "i4", (dim,))[:] = range(
                n
            )
        values = file.createVariable("data", "i2", ("presentation", "neuroid"), fill_value=-1)
        values.scale_factor, values.add_offset, values.coordinates = 0.5, 10.0, "stimulus_id neuroid_id"
        values[:] = np.arange(8.0).reshape(4, 2)
    packed = open_assembly(tmp_path / "packed.nc")
    assert packed.values.tolist() == np.arange(8.0).reshape(4, 2).tolist()
    assert packed.attrs == {}
    changed = packed.copy(data=packed.values + 1e4 * np.pi)
    for compress in (True, False):
        assert_same(open_assembly(save_assembly(changed, tmp_path / "again.nc", compress=compress)), changed)


def test_plain_attributes_and_labels_are_read_by_other_programs(tmp_path) -> None:
    times = np.array([0, 1, 2, 3], dtype="datetime64[s]").astype("datetime64[ns]")
    assembly = small(
        attrs={"citation": "é 1999", "n": 3, "rate": 0.5, "sizes": np.arange(3), "units": "µV", "flags": [True]}
    )
    assembly = assembly.assign_coords(
        {"shown at": ("presentation", times), "seen": ("presentation", [True, False] * 2)}
    )
    path = save_assembly(assembly, tmp_path / "a.nc")
    with netCDF4.Dataset(path) as file:
        data = file["data"]
        assert (data.citation, data.n, data.rate, data.sizes.tolist(), data.units) == (
            "é 1999",
            3,
            0.5,
            [0, 1, 2],
            "µV",
        )
        assert data.flags == "json:[true]"
        assert file["stimulus_id"][:].tolist() == ["s0", "s1", "s2", "s3"]
    with xr.open_dataset(path) as dataset:
        assert dataset["shown_at"].values.astype("datetime64[ns]").tolist() == times.tolist()
        assert dataset["seen"].values.tolist() == [True, False] * 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_durations_of_time_bins_keep_their_unit(tmp_path, suffix) -> None:
    start = np.array([70, 170], "timedelta64[ms]")
    ids = {"presentation": {"stimulus_id": ["a", "b"]}, "neuroid": {"neuroid_id": [0]}}
    bins = {"time_bin_start": start, "time_bin_end": start + np.timedelta64(100, "ms")}
    assembly = make_assembly(np.ones((2, 1, 2)), **ids, time_bin=bins)
    read = open_assembly(save_assembly(assembly, tmp_path / f"a{suffix}"))
    assert_same(read, assembly)
    assert_same(open_assembly(save_assembly(read.isel(time_bin=0), tmp_path / f"b{suffix}")), assembly.isel(time_bin=0))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (np.array(["V4", "IT", "IT", ""], dtype=object), ["V4", "IT", "IT", ""]),
        (pd.Categorical(["V4", "IT", "IT", "V4"]), ["V4", "IT", "IT", "V4"]),
        (pd.Categorical([3, 1, 1, 3]), [3, 1, 1, 3]),
        (pd.array([1, 2, 3, 4], dtype="Int64"), [1, 2, 3, 4]),
        (pd.array(["a", "b", "c", "d"], dtype="string"), ["a", "b", "c", "d"]),
        (pd.array([True, False, True, True], dtype="boolean"), [True, False, True, True]),
        (np.array([1, pd.NA, 3, 4], dtype=object), [1, pd.NA, 3, 4]),
    ],
)
def test_columns_of_pandas_are_written(tmp_path, column, expected) -> None:
    read = open_assembly(save_assembly(small(columns={"label": np.asarray(column)}), tmp_path / "a.nc"))
    assert [type(value) for value in read["label"].values.tolist()] == [type(value) for value in expected]
    assert all(
        value is pd.NA if other is pd.NA else value == other
        for value, other in zip(read["label"].values.tolist(), expected, strict=True)
    )


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (np.array([object()] * 4), "object"),
        (np.array([pd.Timestamp("2000-01-01", tz="UTC")] * 4, dtype=object), "Timestamp"),
        (np.arange(4, dtype=np.longdouble), str(np.dtype(np.longdouble))),
        (np.zeros(4, dtype="i4,f4"), "[('f0'"),
    ],
)
def test_what_cannot_be_held_is_refused_with_its_name(tmp_path, column, name) -> None:
    with refused(AssemblyError, "'odd'", name, "assembly.assign_coords"):
        save_assembly(small(columns={"odd": column}), tmp_path / "a.nc")
    assert list(tmp_path.iterdir()) == []


def test_attributes_that_cannot_be_held_are_refused_with_their_name() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for value in (object(), {1, 2}, [print], np.ma.masked_array([1, 2], [True, False]), circle, np.longdouble(1)):
        with refused(AssemblyError, "'odd'", "assembly.attrs['odd'] = str"):
            require_storable(small(attrs={"odd": value}))
        assembly = small()
        assembly.coords["stimulus_id"].attrs["odd"] = value
        with refused(AssemblyError, "'stimulus_id'", "'odd'", "assembly['stimulus_id'].attrs"):
            require_storable(assembly)


def test_files_that_another_program_wrote_anew_are_read_by_its_conventions(tmp_path) -> None:
    times = np.array(["2000-01-01", "2000-01-02", "2000-01-03", "2000-01-04"], dtype="datetime64[ns]")
    path = save_assembly(small(columns={"shown at": times}), tmp_path / "a.nc")
    with xr.open_dataset(path) as dataset:
        dataset = dataset.load()
    dataset["shown_at"].encoding = {"units": "hours since 1999-12-31", "dtype": "int64"}
    dataset["data"].encoding = {"scale_factor": 0.001, "dtype": "int32", "_FillValue": -(2**31)}
    dataset.to_netcdf(tmp_path / "b.nc", engine="netcdf4")
    read = open_assembly(tmp_path / "b.nc")
    assert read["shown at"].values.tolist() == times.tolist()
    np.testing.assert_allclose(read.values, small().values, atol=0.001)


def test_a_unit_in_words_is_no_date(tmp_path) -> None:
    dataset = small().assign_attrs(units="days since 2000-01-01").to_dataset(name="r")
    dataset = dataset.assign_coords(onset=("presentation", np.arange(4.0), {"units": "seconds since stimulus onset"}))
    dataset.to_netcdf(tmp_path / "a.nc", engine="netcdf4")
    read = open_assembly(tmp_path / "a.nc")
    assert (read.dtype, read.attrs["units"]) == (np.float64, "days since 2000-01-01")
    assert (read["onset"].values.tolist(), read["onset"].attrs) == (
        [0, 1, 2, 3],
        {"units": "seconds since stimulus onset"},
    )


@pytest.mark.parametrize("dims", [("presentation", "neuroid"), ("presentation", "presentation")])
def test_one_name_for_two_columns_is_refused(dims) -> None:
    columns: dict[str, dict[Any, Any]] = {
        "presentation": {"stimulus_id": ["a", "b"]},
        "neuroid": {"neuroid_id": [0, 1]},
    }
    columns[dims[0]]["1"] = [0, 1]
    columns[dims[1]][1] = [2, 3]
    with refused(AssemblyError, "'1'", repr(dims[1]), repr(dims[0])):
        make_assembly(np.ones((2, 2)), **columns)
    with refused(AssemblyError, "'neuroid'", "'presentation'"):
        make_assembly(
            np.ones((2, 2)), presentation={"stimulus_id": ["a", "b"], "neuroid": [0, 1]}, neuroid={"neuroid_id": [0, 1]}
        )


def test_a_file_replaced_in_its_place_is_read_anew(tmp_path) -> None:
    first, second = small(), small(n=6)
    path = save_assembly(first, tmp_path / "a.nc")
    lazy = open_assembly(path, chunks={"presentation": 2})
    save_assembly(second, path)
    assert_same(open_assembly(path), second)
    assert_same(open_assembly(path, chunks={}), second)
    assert_same(lazy, first)
