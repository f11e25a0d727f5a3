"""The entrance of arrays: whatever is accepted equals the same data as contiguous float64 numpy; all else is refused."""

from __future__ import annotations

import warnings
from decimal import Decimal

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import neurobridge as nb
from neurobridge.points.arrays import PointSource, as_points, host, read_rows, to_tensor
from neurobridge.points.conversion import is_missing, real_array, working_dtype
from neurobridge.points.scale import Standardiser


def on_disk(values, folder, dtype):
    stored = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=dtype, shape=values.shape)
    stored[:] = values
    return stored


#: The same whole numbers of at most 100 as other programs hand them over.
FORMS = {
    "float16": lambda x, _: x.astype(np.float16),
    "float16, big-endian": lambda x, _: x.astype(">f2"),
    "float32, big-endian": lambda x, _: x.astype(">f4"),
    "float64, big-endian": lambda x, _: x.astype(">f8"),
    "longdouble": lambda x, _: x.astype(np.longdouble),
    "int8": lambda x, _: x.astype(np.int8),
    "int32, big-endian": lambda x, _: x.astype(">i4"),
    "int64": lambda x, _: x.astype(np.int64),
    "columns first": lambda x, _: np.asfortranarray(x),
    "negative strides": lambda x, _: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "every second column": lambda x, _: np.repeat(x, 2, axis=1)[:, ::2],
    "read-only": lambda x, _: np.broadcast_to(x[None], (1, *x.shape))[0],
    "nested lists": lambda x, _: x.tolist(),
    "rows of tensors": lambda x, _: [torch.tensor(row) for row in x],
    "objects": lambda x, _: x.astype(object),
    "decimals": lambda x, _: [[Decimal(int(value)) for value in row] for row in x],
    "masked array without a mask": lambda x, _: np.ma.masked_array(x),
    "DataFrame": lambda x, _: pd.DataFrame(x, index=np.arange(len(x))[::-1]),
    "DataFrame of several types": lambda x, _: pd.DataFrame(
        {k: x[:, k].astype(t) for k, t in enumerate(TYPES[: x.shape[1]])}
    ),
    "DataFrame of extension types": lambda x, _: pd.DataFrame(x).astype("Int64"),
    "DataArray": lambda x, _: xr.DataArray(x, dims=("presentation", "neuroid")),
    "memory map": lambda x, folder: on_disk(x, folder, "<f4"),
    "memory map, big-endian": lambda x, folder: on_disk(x, folder, ">f8"),
    "memory map, turned round": lambda x, folder: on_disk(np.ascontiguousarray(x[::-1]), folder, "<f4")[::-1],
    "dask": lambda x, _: da.from_array(x, chunks=2),
    "dask, big-endian": lambda x, _: da.from_array(x.astype(">f4"), chunks=2),
    "dask in a DataArray": lambda x, _: xr.DataArray(da.from_array(x, chunks=2), dims=("presentation", "neuroid")),
    "tensor": lambda x, _: torch.tensor(x),
    "tensor, transposed": lambda x, _: torch.tensor(x.T.copy()).T,
    "tensor of bfloat16": lambda x, _: torch.tensor(x).bfloat16(),
    "tensor of float16": lambda x, _: torch.tensor(x).half(),
    "tensor of int64": lambda x, _: torch.tensor(x).long(),
    "tensor with a gradient": lambda x, _: torch.tensor(x, requires_grad=True),
    "tensor with a negative bit": lambda x, _: (
        torch.complex(torch.zeros(x.shape).double(), torch.tensor(-x)).conj().imag
    ),
}
TYPES = ["float64", "int16", "float32"]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.integers(1, 7), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_an_accepted_array_equals_the_same_numbers_in_double_precision(tmp_path_factory, form, n, d, seed):
    values = np.random.default_rng(seed).integers(-100, 100, size=(n, d)).astype(np.float64)
    given_form = FORMS[form](values, tmp_path_factory.mktemp("forms"))
    rows = np.random.default_rng(seed).permutation(n)
    np.testing.assert_array_equal(real_array(given_form).astype(np.float64), values)
    np.testing.assert_array_equal(to_tensor(given_form).double().numpy(), values)
    np.testing.assert_array_equal(read_rows(as_points(given_form, "X"), rows), values[rows])
    source = PointSource.of(given_form, name="X")
    np.testing.assert_array_equal(source.block(slice(0, n)).double().numpy(), values)
    assert source.block(slice(0, 1)).element_size() == source.element_size
    np.testing.assert_array_equal(Standardiser.fit(given_form).mean, Standardiser.fit(values).mean)
    assert real_array(given_form).dtype.isnative


@pytest.mark.parametrize("form", sorted(FORMS))
def test_costs_of_any_form_are_those_of_double_precision(tmp_path, form):
    rng = np.random.default_rng(0)
    X, Y = rng.integers(-9, 9, size=(12, 3)).astype(np.float64), rng.normal(size=(12, 2))
    pairs = (np.array([3, 1, 7]), np.array([3, 1, 7]))
    expected = nb.bridge.bridge_cost(X, Y, pairs, reduce="min").dense()
    found = nb.bridge.bridge_cost(FORMS[form](X, tmp_path), Y, pairs, reduce="min").dense()
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-5)


def test_a_frame_is_read_by_rows_where_its_columns_have_the_names_of_rows():
    X = np.random.default_rng(0).normal(size=(20, 4))
    rows = np.array([3, 1, 0, 2])
    np.testing.assert_array_equal(read_rows(as_points(pd.DataFrame(X), "X"), rows), X[rows])


def nested():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])


MASKED = np.ma.masked_equal(np.array([[1.0, -999.0], [2.0, 3.0]]), -999.0)
REFUSED = {
    "complex": (np.ones((2, 2)) + 1j, "complex128"),
    "complex tensor": (torch.ones(2, 2) + 1j, "complex64"),
    "complex dask": (da.ones((2, 2)) + 1j, "complex128"),
    "sparse": (sparse.csr_matrix(np.eye(2)), r"toarray\(\)"),
    "sparse array": (sparse.coo_array(np.eye(2)), r"toarray\(\)"),
    "sparse tensor": (torch.eye(2).to_sparse(), r"to_dense\(\)"),
    "tensor without values": (torch.empty(2, 2, device="meta"), "meta"),
    "nested tensor": (nested(), "nested"),
    "text": (np.array([["1", "2"]]), "<U1"),
    "bytes": (np.array([[b"1"]]), r"\|S1"),
    "text among objects": (np.array([[1.0, "a"]], dtype=object), "'a' of type str"),
    "DataFrame with text": (pd.DataFrame({"a": ["x"], "b": [1]}), "'x' of type str"),
    "dates": (np.array([["2020-01-01"]], dtype="datetime64[D]"), "datetime64"),
    "records": (np.zeros((2, 1), dtype=[("a", "f8")]), "records"),
    "rows of different lengths": ([[1, 2], [3]], "inhomogeneous"),
    "a huge integer": ([[10**400, 1]], "401 digits"),
    "Dataset": (xr.Dataset({"a": ("x", [1.0])}), "Dataset"),
    "dict": ({"a": 1}, "dict"),
    "masked integers": (MASKED.astype(int), "1 masked values of 4"),
    "masked integers in dask": (da.from_array(MASKED.astype(int), chunks=2), "1 masked values of 4"),
    "masked": (MASKED, "NaN"),
    "rows that are masked": ([MASKED[0], MASKED[1]], "NaN"),
    "masked in dask": (da.from_array(MASKED, chunks=2), "NaN"),
    "None": ([[1.0, None]], "NaN"),
    "NA": (pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), "NaN"),
    "beyond double precision": (np.array([[np.longdouble("1e400")]]), "NaN or infinite"),
    "one dimension": (np.ones(3), r"shape \(3,\)"),
    "no rows": (np.ones((0, 3)), r"shape \(0, 3\)"),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_anything_else_is_refused_with_its_name_and_a_mend(kind):
    values, message = REFUSED[kind]
    for read in (
        lambda: read_rows(as_points(values, "X"), slice(None)),
        lambda: PointSource.of(values, name="X").block(slice(None)),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            read()
        assert "X: found" in str(caught.value)
        assert "Mend: " in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "mend"),
    [
        ("complex", lambda X: X.real),
        ("sparse", lambda X: X.toarray()),
        ("sparse tensor", lambda X: X.to_dense()),
        ("text", lambda X: np.asarray(X, dtype="float64")),
        ("records", lambda X: np.stack([X[field] for field in X.dtype.names], axis=-1)),
        ("masked integers", lambda X: X[~np.ma.getmaskarray(X).any(axis=1)]),
    ],
)
def test_the_mends_that_the_messages_name_work(kind, mend):
    assert to_tensor(mend(REFUSED[kind][0])).dtype in (torch.float32, torch.float64)


def test_masked_and_missing_values_are_nan_and_never_what_lies_under_the_mask():
    assert np.isnan(real_array(MASKED)[0, 1])
    assert np.isnan(real_array([[1, None], [pd.NA, np.ma.masked]])).tolist() == [[False, True], [True, True]]
    assert not is_missing("NA")
    assert is_missing(pd.NaT)
    with pytest.raises(ValueError, match="1 masked values"):
        host(np.ma.masked_equal([1, 2, 3], 2))


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "float16", "float32", "int32", "uint64", "float64", "longdouble"]
)
def test_the_working_precision_holds_every_value(dtype):
    chosen = working_dtype(dtype)
    exact_in_single = np.can_cast(dtype, np.float32, casting="safe")
    assert chosen == (np.float32 if exact_in_single else np.float64)


def test_what_torch_shares_has_no_negative_stride():
    assert torch.from_numpy(host(np.arange(6.0).reshape(3, 2)[::-1]))[0].tolist() == [4.0, 5.0]
    assert host(torch.ones(2).bfloat16()).dtype == np.float32


@pytest.mark.parametrize("fit", [nb.bridge.ridge_map, nb.bridge.kernel_map])
def test_maps_take_matrices_of_real_numbers(fit):
    X = np.random.default_rng(0).normal(size=(8, 3))
    fitted = fit(X, X[:, :2])
    for values, message in (
        (X[:, 0], r"X of shape \(8,\)"),
        (X + 1j, "complex128"),
        (np.ma.masked_greater(X, 1), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(values, X[:, :2])
    for values, message in (
        (X[0], r"shape \(3,\); expected \(n_points, 3\)"),
        (X[:, :2], r"\(8, 2\)"),
        (X + 1j, "complex"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted(values)
    np.testing.assert_array_equal(fitted(pd.DataFrame(X)), fitted(X))


@pytest.mark.parametrize("measure", ["linear_cka", "procrustes_distance", "frechet_distance", "mmd", "compare_rdms"])
def test_measures_of_arrays_take_real_numbers(measure):
    X = np.random.default_rng(0).uniform(size=(12, 2))
    first, second = (X[:, 0], X[:, 1]) if measure == "compare_rdms" else (X, X[::-1])
    compare = getattr(nb.similarity, measure)
    with pytest.raises(ValueError, match=r"complex128.*Mend"):
        compare(first + 1j, second)
    with pytest.raises(ValueError, match=r"dtype <U6.*Mend"):
        compare("values", second)
    assert compare(torch.tensor(first), second) == compare(first, second)
