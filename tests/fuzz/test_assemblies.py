"""Labelled data: odd values, ids, labels and coordinates into the functions on assemblies, and through netCDF and back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import strategies as st

import neurobridge as nb
from neurobridge.assemblies import make_assembly, missing_rows, require_storable
from tests.fuzz.campaign import Campaign, attempt
from tests.fuzz.strategies import ATTRIBUTES, IDS, NAMES, Drawn, arrays, numbers

#: Names of what is tried here, for the test of all entrances.
ENTRANCES = (
    "assemblies.make_assembly",
    "assemblies.validate",
    "assemblies.missing_rows",
    "assemblies.require_storable",
    "assemblies.save_assembly",
    "assemblies.open_assembly",
)
SHAPES = st.tuples(st.integers(0, 6), st.integers(0, 4)) | st.tuples(
    st.integers(1, 4), st.integers(1, 3), st.integers(0, 2)
)


def _ids(n: int) -> st.SearchStrategy[list[Any]]:
    plain = st.just([f"s{k}" for k in range(n)])
    return (
        plain
        | plain
        | st.lists(IDS, min_size=n, max_size=n)
        | st.lists(st.sampled_from(["a", "b", "a ", None]), min_size=n, max_size=n)
    )


@st.composite
def raw_assemblies(draw: st.DrawFn) -> tuple[Drawn, dict[str, Any], dict[str, Any]]:
    """Arguments of make_assembly: values of any type, ids, labels and further coordinates."""
    values = draw(arrays(SHAPES))
    shape = values.plain.shape
    n_rows, n_columns = shape[0], shape[1]
    presentation = {"stimulus_id": draw(_ids(n_rows)), **draw(st.dictionaries(NAMES, _ids(n_rows), max_size=2))}
    neuroid = {"neuroid_id": draw(_ids(n_columns)), **draw(st.dictionaries(NAMES, _ids(n_columns), max_size=2))}
    if draw(st.booleans()):
        presentation["object_name"] = draw(_ids(n_rows))
    return values, presentation, neuroid


def _make(drawn: tuple[Drawn, dict[str, Any], dict[str, Any]]) -> xr.DataArray:
    values, presentation, neuroid = drawn
    n_bins = values.plain.shape[2] if values.plain.ndim == 3 else 0
    bins = (
        {"time_bin_start": np.arange(n_bins), "time_bin_end": np.arange(n_bins) + 1} if values.plain.ndim == 3 else None
    )
    with attempt():
        return make_assembly(values.values, presentation=presentation, neuroid=neuroid, time_bin=bins)


def test_make_assembly(campaign: Campaign) -> None:
    def check(drawn: Any) -> None:
        values, presentation, _ = drawn
        assembly = _make(drawn)
        held = np.asarray(assembly.values, dtype=np.float64)
        if values.form == "masked in places":
            assert np.isnan(held[np.ma.getmaskarray(values.values)]).all(), "a masked value became a response"
        else:
            np.testing.assert_array_equal(held, values.plain)
        assert not any(pd.isna(identifier) for identifier in assembly["stimulus_id"].values.tolist()), (
            "a missing id was accepted"
        )
        # Bytes are text to netCDF, and to us.
        given = [i.decode() if isinstance(i, bytes) else i for i in presentation["stimulus_id"]]
        kept = assembly["stimulus_id"].values.tolist()
        same = [a == b or str(a) == str(b) for a, b in zip(given, kept, strict=True)]
        assert all(same), f"ids were changed: {given} to {kept}"
        with attempt():
            nb.assemblies.validate(assembly)
        absent = missing_rows(presentation["stimulus_id"])
        assert not absent.any(), f"accepted ids of which {absent.sum()} are missing"

    campaign.run("assemblies.make_assembly", raw_assemblies(), check)


@st.composite
def attributed(draw: st.DrawFn) -> xr.DataArray:
    """An assembly with attributes, coordinates and encodings of every kind."""
    n_rows, n_columns = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    values = draw(numbers((n_rows, n_columns)))
    if np.abs(values).max(initial=0) < 100:
        values = values.astype(draw(st.sampled_from(["f8", "f4", "f2", ">f4", "i2"])), casting="unsafe")
    assembly = xr.DataArray(
        values,
        dims=("presentation", "neuroid"),
        coords={
            "stimulus_id": ("presentation", [f"s{k}" for k in range(n_rows)]),
            "neuroid_id": ("neuroid", [f"n{k}" for k in range(n_columns)]),
        },
        attrs=draw(st.dictionaries(NAMES, ATTRIBUTES, max_size=3)),
    )
    for dim, size in assembly.sizes.items():
        for name in draw(st.lists(NAMES, max_size=2)):
            column = draw(
                st.lists(IDS, min_size=size, max_size=size)
                | st.sampled_from(
                    [
                        np.arange(size).astype("timedelta64[ms]"),
                        np.arange(size).astype("datetime64[D]"),
                        np.arange(size) % 2 == 0,
                        np.arange(size) + 0.5,
                        pd.Categorical(["a"] * size),
                        np.arange(size).astype(np.float16),
                    ]
                )
            )
            if name in assembly.coords or name in assembly.dims:
                continue
            try:
                assembly = assembly.assign_coords({name: (dim, column)})
            except (TypeError, ValueError):
                continue
            assembly[name].attrs |= draw(st.dictionaries(NAMES, ATTRIBUTES, max_size=1))
    assembly.encoding |= draw(
        st.sampled_from(
            [{}, {"scale_factor": 0.1}, {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -999}, {"zlib": True}]
        )
    )
    return assembly


def _same(saved: Any, read: Any) -> bool:
    """Equality of what was saved and what was read, NaN being NaN."""
    if isinstance(saved, dict):
        return isinstance(read, dict) and saved.keys() == read.keys() and all(_same(saved[k], read[k]) for k in saved)
    try:
        a, b = np.asarray(saved), np.asarray(read)
    except ValueError:
        return bool(saved == read)
    if a.shape != b.shape or ("UO".find(a.dtype.kind) < 0) != ("UO".find(b.dtype.kind) < 0):
        return False
    return all(
        (pd.isna(x) is True and pd.isna(y) is True) or x == y or str(x) == str(y)
        for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    )


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_what_is_saved_is_read_back(campaign: Campaign, suffix: str) -> None:
    if suffix == "zarr":
        pytest.importorskip("zarr", reason="needs zarr 3 and a newer xarray")

    def check(assembly: xr.DataArray) -> None:
        with tempfile.TemporaryDirectory() as folder:
            with attempt():
                assert require_storable(assembly) is assembly
                path = nb.save_assembly(assembly, Path(folder) / f"a.{suffix}")
            read = nb.open_assembly(path).load()
            np.testing.assert_array_equal(np.asarray(read.values, float), np.asarray(assembly.values, float))
            assert set(read.coords) == set(assembly.coords)
            for name in assembly.coords:
                assert read[name].dims == assembly[name].dims
                assert _same(assembly[name].values, read[name].values), (name, assembly[name].values, read[name].values)
                assert _same(dict(assembly[name].attrs), dict(read[name].attrs)), (
                    name,
                    assembly[name].attrs,
                    read[name].attrs,
                )
            kept = {key: value for key, value in read.attrs.items() if key in assembly.attrs}
            assert _same(dict(assembly.attrs), kept), (assembly.attrs, read.attrs)

    campaign.run(f"assemblies.save_assembly and open .{suffix}", attributed(), check)
