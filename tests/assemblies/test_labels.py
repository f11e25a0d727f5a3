"""Labels: columns of one type, and missing values that are never a value."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurobridge.assemblies import (
    AssemblyError,
    Pairs,
    as_matrix,
    average_repetitions,
    drop_missing,
    make_assembly,
    match_stimuli,
    missing_rows,
    resolve_pairs,
    select,
    validate,
)
from neurobridge.assemblies.labels import plain, present_labels
from tests.refusals import refused, warned

VALUES = np.random.default_rng(0).normal(size=(6, 3))
#: Ids of six rows of which the third is missing, as tables and files have them.
WITHOUT_THIRD = {
    "None": ["a", "b", None, "d", "e", "f"],
    "NaN among text": ["a", "b", np.nan, "d", "e", "f"],
    "NaN": [1.0, 2.0, np.nan, 4.0, 5.0, 6.0],
    "blank": ["a", "b", "", "d", "e", "f"],
    "spaces": ["a", "b", " ", "d", "e", "f"],
    "pandas.NA": pd.array(["a", "b", pd.NA, "d", "e", "f"]),
    "Int64": pd.array([1, 2, None, 4, 5, 6], dtype="Int64"),
    "categories": pd.Categorical(["a", "b", None, "d", "e", "f"]),
    "dates": np.array(["2020", "2021", "NaT", "2023", "2024", "2025"], dtype="datetime64[Y]"),
    "masked text": np.ma.masked_array(list("abcdef"), mask=[0, 0, 1, 0, 0, 0]),
    "empty cell": [np.array(["a"]), np.array(["b"]), np.array([]), np.array(["d"]), np.array(["e"]), np.array(["f"])],
}


def assembly(ids, values=VALUES, **presentation):
    neuroid = {"neuroid_id": [f"n{k}" for k in range(np.shape(values)[1])]}
    return make_assembly(values, presentation={"stimulus_id": ids, **presentation}, neuroid=neuroid)


def of_objects(ids):
    """An assembly that nobody has checked, its ids the objects that they are."""
    column = np.empty(len(ids), dtype=object)
    column[:] = ids
    coords = {"stimulus_id": ("presentation", column), "neuroid_id": ("neuroid", [0, 1, 2])}
    return xr.DataArray(VALUES, dims=("presentation", "neuroid"), coords=coords)


@pytest.mark.parametrize("kind", sorted(WITHOUT_THIRD))
def test_a_missing_id_is_counted_named_and_refused(kind):
    ids = WITHOUT_THIRD[kind]
    assert missing_rows(ids).tolist() == [False, False, True, False, False, False]
    with refused(AssemblyError, "1 of 6", "'stimulus_id'", "row 2") as caught:
        assembly(ids)
    assert "missing_rows" in str(caught.value)
    kept = ~missing_rows(ids)
    assert assembly(np.asarray(plain(ids))[kept], VALUES[kept]).sizes["presentation"] == 5


@pytest.mark.parametrize("name", ["neuroid_id", "repetition"])
def test_other_ids_may_not_be_missing_either(name):
    columns = {"neuroid_id": ["x", "y", "z"], "repetition": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}
    columns[name] = [*columns[name][:-1], None]
    with refused(AssemblyError, f"1 of {len(columns[name])}", repr(name)):
        make_assembly(
            VALUES,
            presentation={"stimulus_id": ["a"] * 6, "repetition": columns["repetition"]},
            neuroid={"neuroid_id": columns["neuroid_id"]},
        )


@pytest.mark.parametrize(
    "act",
    [validate, average_repetitions, lambda a: match_stimuli(a, assembly(list("abcdef"))), lambda a: Pairs.shared(a, a)],
)
def test_assemblies_of_elsewhere_are_checked_where_they_enter(act):
    unchecked = of_objects(["a", "b", None, "d", float("nan"), "f"])
    with refused(AssemblyError, "2 of 6", "'stimulus_id'", "rows 2, 4", "drop_missing"):
        act(unchecked)
    assert act(drop_missing(unchecked, "stimulus_id")) is not None


@pytest.mark.parametrize("kind", sorted(WITHOUT_THIRD))
def test_stimuli_without_a_label_are_in_no_pair(kind):
    photos = assembly(list("uvwxyz"), caption=WITHOUT_THIRD[kind])
    with warned(UserWarning, "1 of 6", "'caption'") as caught:
        pairs = Pairs.by_label(photos, photos, "caption")
    assert len(caught) == 2
    assert pairs.source_id.tolist() == pairs.target_id.tolist() == ["u", "v", "x", "y", "z"]
    with refused(AssemblyError, "1 of 6", "'caption'"):
        resolve_pairs(photos, photos, 4, stratify="caption")


def test_labels_that_are_all_missing_pair_nothing():
    photos = assembly(list("uvwxyz"), caption=[None] * 6)
    with refused(AssemblyError, "'caption'", "6 stimuli"):
        Pairs.by_label(photos, photos, "caption")


def test_pairs_have_an_id_on_both_sides():
    with refused(AssemblyError, "2 of 3", "'target_id'", "rows 0, 2"):
        Pairs(["a", "b", "c"], [None, "b", ""])


def test_averages_keep_a_label_that_is_missing_in_all_repetitions_of_a_stimulus():
    trials = assembly(["a", "b", "c"] * 2, caption=["x", None, "z"] * 2, size=[1, None, 3] * 2)
    averaged = average_repetitions(trials)
    assert averaged["caption"].values.tolist() == ["x", "", "z"]
    np.testing.assert_array_equal(averaged["size"].values, [1, np.nan, 3])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([np.array(["airplane"]), np.array(["car"])], ["airplane", "car"]),
        ([np.array([[7]]), np.array([[8]])], [7, 8]),
        ([np.array([np.array(["nested"])], dtype=object)], ["nested"]),
        ([b"caf\xc3\xa9", "car"], ["café", "car"]),
        (np.array([b"a", b"b"]), ["a", "b"]),
        (np.array(["a", "b"], dtype=">U1"), ["a", "b"]),
        (np.array([1, 2], dtype=">i4"), [1, 2]),
        (np.array([0.5, 1.5], dtype=">f2"), [0.5, 1.5]),
        (pd.Series(["b", "a"], index=[1, 0]), ["b", "a"]),
        (pd.Categorical([3, 1]), [3, 1]),
        (torch.tensor([1.5, 2.5]).bfloat16(), [1.5, 2.5]),
        ([True, False], [True, False]),
        ([2**63, 1], [2**63, 1]),
        ([1, "b", 2.5], ["1", "b", "2.5"]),
    ],
)
def test_columns_become_arrays_of_one_type_in_native_order(column, expected):
    found = plain(column)
    assert found.tolist() == expected
    assert found.dtype.isnative
    assert found.dtype.kind in "iufbU"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1, "1"], r"1 \(int\) and '1' \(str\)"),
        (["1.5", 1.5], r"'1.5' \(str\) and 1.5 \(float\)"),
        ([["a", "b"], "c"], r"\['a', 'b'\] in row 0"),
        ([np.array([1, 2]), "c"], r"array\(\[1, 2\]\) in row 0"),
        ([b"\xe9", b"b"], r"row 0.*UTF-8.*latin-1"),
        ([2**70, 1], "1180591620717411303424"),
        ([2**53 + 1, None], "9007199254740993 beside missing"),
        (np.ma.masked_equal([1, 2, 3], 2), "1 masked values of 3"),
    ],
)
def test_columns_that_no_type_holds_are_refused(column, message):
    with pytest.raises(AssemblyError, match=message) as caught:
        plain(column, name="stimulus_id")
    assert str(caught.value).startswith("stimulus_id: found")
    assert "Mend: " in str(caught.value)


def test_a_column_of_a_matrix_is_refused_with_the_call_that_flattens_it():
    with refused(AssemblyError, "(6, 1)", "numpy.ravel(column)"):
        assembly(np.array([[name] for name in "abcdef"]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.text("aN 0\u00e9\u00a0\u200b", max_size=3), st.none(), st.just(float("nan"))), max_size=8))
def test_text_comes_back_and_only_what_is_missing_is_flagged(column):
    flagged = missing_rows(column)
    assert flagged.tolist() == [not isinstance(value, str) or not value.strip() for value in column]
    if not flagged.all():
        kept = [value for value, is_missing in zip(column, flagged, strict=True) if not is_missing]
        assert plain(column)[~flagged].tolist() == kept
        assert present_labels(kept, name="label", role="here").tolist() == kept


@pytest.mark.parametrize("dtype", ["float16", ">f2", ">f4", ">f8", "longdouble", "int16", ">i4", "bool"])
def test_any_type_of_responses_is_averaged_as_in_double_precision(dtype):
    values = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 60, size=(12, 3)).astype(dtype)
    trials = assembly(["a", "b", "c", "d"] * 3, values)
    expected = assembly(["a", "b", "c", "d"] * 3, values.astype(np.float64))
    averaged = average_repetitions(trials)
    np.testing.assert_allclose(averaged.values, average_repetitions(expected).values, rtol=1e-6)
    np.testing.assert_array_equal(as_matrix(trials), expected.values)
    assert averaged.dtype in (np.float32, np.float64)


def test_masked_responses_are_missing_where_the_user_says_so_and_their_fill_value_is_never_read():
    masked = np.ma.masked_equal(np.array([[1.0, -999.0], [2.0, 3.0], [4.0, 5.0]]), -999.0)
    for values in (masked, masked.astype(int)):
        with pytest.raises(
            AssemblyError, match=r"1 masked values of 6.*Mend: make_assembly\(values.astype\(float\).filled"
        ):
            assembly(["a", "b", "c"], values)
        # The mend, as typed.
        held = assembly(["a", "b", "c"], values.astype(float).filled(np.nan)).values
        assert np.array_equal(held, [[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]], equal_nan=True)
    untouched = assembly(["a", "b", "c"], np.ma.masked_array(masked.data))
    assert untouched.values.tolist() == masked.data.tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (VALUES + 1j, "complex128"),
        (VALUES.astype(str), "<U32"),
        (pd.DataFrame({"a": list("abcdef")}), "'a' of type str"),
    ],
)
def test_responses_that_are_no_real_numbers_are_refused(values, message):
    with pytest.raises(AssemblyError, match=message):
        make_assembly(
            values,
            presentation={"stimulus_id": list("abcdef")},
            neuroid={"neuroid_id": range(np.shape(values)[1])},
        )


@pytest.mark.parametrize("kind", [object, "U", "category"])
def test_text_is_selected_whatever_holds_it(kind):
    regions = pd.Categorical(["V4", "IT", "IT"]) if kind == "category" else np.array(["V4", "IT", "IT"], dtype=kind)
    recordings = assembly(list("abcdef")).assign_coords(region=("neuroid", regions))
    assert select(recordings, region="IT").sizes["neuroid"] == 2
