"""Assemblies: built, validated, refused."""

from __future__ import annotations

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import neurobridge
from neurobridge.assemblies import (
    AssemblyError,
    as_matrix,
    drop_constant,
    make_assembly,
    missing_values,
    require_varying_neuroids,
    select,
    validate,
)
from neurobridge.assemblies.labels import plain
from neurobridge.assemblies.schema import require_unique_stimuli
from tests.refusals import refused


def build(values=None, **changes):
    values = np.arange(12.0).reshape(4, 3) ** 2 if values is None else values
    arguments = {
        "presentation": {"stimulus_id": [f"s{i}" for i in range(values.shape[0])]},
        "neuroid": {"neuroid_id": [f"n{i}" for i in range(values.shape[1])]},
        **changes,
    }
    return make_assembly(values, **arguments)


def test_make_assembly_is_a_plain_flat_dataarray():
    assembly = build(presentation=pd.DataFrame({"stimulus_id": list("abcd"), "variation": [0, 0, 3, 3]}))
    assert type(assembly) is xr.DataArray
    assert assembly.dims == ("presentation", "neuroid")
    assert assembly["stimulus_id"].dtype.kind == "U"
    assert assembly["variation"].dtype.kind == "i"
    assert not any(isinstance(index, pd.MultiIndex) for index in assembly.indexes.values())
    assert validate(assembly) is assembly


def test_time_bins_are_kept_and_one_of_them_is_a_matrix():
    assembly = build(np.ones((4, 3, 1)), time_bin={"time_bin_start": [70], "time_bin_end": [170]})
    assert assembly.dims == ("presentation", "neuroid", "time_bin")
    assert as_matrix(assembly).shape == (4, 3)
    two = build(np.ones((4, 3, 2)), time_bin={"time_bin_start": [70, 80]})
    with pytest.raises(AssemblyError, match=r"2 time.*Mend"):
        as_matrix(two)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (np.array(["a", "b"], dtype=object), "U"),
        (np.array([b"a", b"b"]), "U"),
        (pd.Series(["a", "b"], dtype="string"), "U"),
        (np.array([1, 2], dtype=object), "i"),
        (pd.Categorical(["x", "y"]), "U"),
    ],
)
def test_plain_coordinates_have_plain_dtypes(column, kind):
    assert plain(column).dtype.kind == kind


def nan_at(value):
    values = np.arange(12.0).reshape(4, 3)
    values[1, 2] = value
    return values


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: build(np.ones(3)[:, None][:, :, None, None]),
            r"\(3, 1, 1, 1\).*2 dimensions",
        ),
        (
            lambda: build(presentation={"stimulus_id": ["a"]}),
            r"'stimulus_id'.*\(1,\).*\(4,\)",
        ),
        (lambda: build(presentation={"image": list("abcd")}), r"'stimulus_id'.*'presentation'"),
        (lambda: build(neuroid={"site": list("abc")}), r"'neuroid_id'.*'neuroid'"),
        (
            lambda: build(neuroid={"neuroid_id": list("aab")}),
            r"1 duplicate.*neuroid_id.*'a'",
        ),
        (
            lambda: build(presentation={"stimulus_id": list("aabb"), "repetition": [0, 0, 0, 1]}),
            r"1 duplicate.*stimulus_id",
        ),
        (lambda: build(np.array([["x"] * 3] * 4)), r"<U1"),
        (lambda: validate(build(nan_at(np.nan))), r"1.*12.*'s1'.*'n2'"),
        (lambda: build(nan_at(-np.inf)), r"1.*12.*'s1'.*'n2'"),
        (lambda: validate(np.ones((2, 2))), r"ndarray"),
        (
            lambda: validate(build().T),
            r"\('neuroid', 'presentation'\).*\('presentation', 'neuroid'\)",
        ),
        (lambda: validate(build()[:0]), r"empty.*'presentation'"),
        (
            lambda: validate(
                build()
                .assign_coords(other=("presentation", list("wxyz")))
                .set_index(presentation=["stimulus_id", "other"])
            ),
            r"MultiIndex.*'presentation'",
        ),
        (
            lambda: require_varying_neuroids(build(np.array([[1.0, 2], [1, 3]])), role="recordings"),
            r"1 neuroid.*2 presentations.*'n0'",
        ),
        (
            lambda: require_unique_stimuli(build(presentation={"stimulus_id": list("abca")})),
            r"1 duplicate.*stimulus_id.*'a'",
        ),
    ],
)
def test_bad_assemblies_are_refused_with_found_expected_and_mend(make, message):
    with pytest.raises(AssemblyError, match=message) as caught:
        make()
    assert "Mend: " in str(caught.value)


def test_large_sums_are_not_taken_for_infinities():
    values = np.full((4, 3), 1e38, dtype=np.float32)
    values[0] *= -1
    assert validate(build(values)) is not None


def test_drop_constant_says_how_many():
    kept = drop_constant(build(np.array([[1.0, 2, 5], [1, 3, 5]])))
    assert kept["neuroid_id"].values.tolist() == ["n1"]
    assert kept.attrs["dropped_constant_neuroids"] == 2


def lazy(assembly, rows):
    return assembly.chunk({"presentation": rows, "neuroid": -1})


def test_dask_backed_assemblies_are_checked_when_they_are_read():
    values = np.arange(12.0).reshape(4, 3)
    assert np.array_equal(as_matrix(lazy(build(values), 3)), values)
    values[3, 1] = np.nan
    made = make_assembly(
        dask.array.from_array(values, chunks=(3, 3)),
        presentation={"stimulus_id": [f"s{i}" for i in range(4)]},
        neuroid={"neuroid_id": list("abc")},
    )
    assert made.chunks is not None
    with pytest.raises(AssemblyError, match=r"1.*3.*'s3'.*'b'.*Mend"):
        as_matrix(made)
    assert drop_constant(made.where(made != 1)).sizes["neuroid"] == 3


def test_a_missing_value_is_kept_where_it_is_allowed():
    values = nan_at(np.nan)
    made = build(values)
    assert np.array_equal(made.values, values, equal_nan=True)
    assert validate(made, allow_missing=True) is made
    assert np.array_equal(as_matrix(made, allow_missing=True), values, equal_nan=True)
    assert missing_values(made).sum() == 1
    for refusing in (validate, as_matrix):
        with refused(AssemblyError, "1 NaN", "of 12", "'s1'", "'n2'", "drop_incomplete(assembly)"):
            refusing(made)
        names = {"neurobridge": neurobridge, "assembly": made}
        assert refusing(eval("neurobridge.assemblies.drop_incomplete(assembly, max_missing=0.5)", names)) is not None


def test_infinite_values_are_made_missing_by_the_mend():
    with refused(AssemblyError, "1 infinite", "'s1'", "'n2'") as caught:
        build(nan_at(np.inf))
    names = {"numpy": np, "values": nan_at(np.inf)}
    exec(str(caught.value).split("Mend: ")[1].split(", which")[0], names)
    assert np.isnan(build(names["values"]).values).sum() == 1


def test_constant_neuroids_are_found_across_chunks():
    values = np.array([[1.0, 5, 2], [1, 5, 2], [1, 5, 3], [2, 5, 3]])
    assert drop_constant(lazy(build(values), 1))["neuroid_id"].values.tolist() == ["n0", "n2"]


def test_select_combines_conditions():
    assembly = build(
        presentation={"stimulus_id": list("abcd"), "variation": [0, 3, 3, 6]},
        neuroid={"neuroid_id": ["n0", "n1", "n2"], "region": ["V4", "IT", "IT"], "animal": ["A", "A", "B"]},
    )
    part = select(assembly, region="IT", animal=["A", "B"], variation=[3, 6])
    assert part["neuroid_id"].values.tolist() == ["n1", "n2"]
    assert part["stimulus_id"].values.tolist() == ["b", "c", "d"]
    bins = build(np.ones((4, 3, 2)), time_bin={"time_bin_start": [70, 80]})
    assert select(bins, time_bin_start=80).sizes["time_bin"] == 1
    with pytest.raises(AssemblyError, match=r"'layer'.*Mend"):
        select(assembly, layer="v1")
    with pytest.raises(AssemblyError, match=r"region='MT'.*V4.*Mend"):
        select(assembly, region="MT")
    with refused(AssemblyError, "variation='3'", "int64"):
        select(assembly, variation="3")
