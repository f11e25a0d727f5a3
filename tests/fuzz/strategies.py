"""Drawn inputs: numbers in every array type people hand over, names, ids, labels and damaged bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import dask.array
import numpy as np
import pandas as pd
import scipy.sparse
import torch
import xarray as xr
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

#: The same numbers as another type of array; float16 and bfloat16 hold the drawn numbers exactly.
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda x: x,
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "big-endian": lambda x: x.astype(">f8"),
    "long double": lambda x: x.astype(np.longdouble),
    "int64": lambda x: x.astype(np.int64),
    "uint8": lambda x: x.astype(np.uint8),
    "bool": lambda x: x.astype(bool),
    "complex": lambda x: x.astype(np.complex128),
    "object": lambda x: x.astype(object),
    "text": lambda x: x.astype(str),
    "bytes": lambda x: x.astype("S"),
    "datetime": lambda x: x.astype(np.int64).astype("datetime64[s]"),
    "Fortran order": np.asfortranarray,
    "negative stride": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "every other column": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "read-only": lambda x: _read_only(x),
    "masked": lambda x: np.ma.masked_array(x, mask=np.zeros(x.shape, bool)),
    "masked in places": lambda x: np.ma.masked_array(
        x, mask=np.arange(x.size).reshape(x.shape) % 3 == 0, fill_value=-999.0
    ),
    "nested lists": lambda x: x.tolist(),
    "DataFrame": lambda x: pd.DataFrame(x) if x.ndim == 2 else x,
    "named DataFrame": lambda x: pd.DataFrame(x, columns=[f"c{k}" for k in range(x.shape[1])]) if x.ndim == 2 else x,
    "DataArray": lambda x: xr.DataArray(x),
    "dask": lambda x: dask.array.from_array(x, chunks=2) if x.size else x,
    "memory map": lambda x: _memory_map(x),
    "torch": lambda x: torch.as_tensor(np.ascontiguousarray(x)),
    "torch float32": lambda x: torch.as_tensor(np.ascontiguousarray(x)).float(),
    "torch bfloat16": lambda x: torch.as_tensor(np.ascontiguousarray(x)).bfloat16(),
    "torch with gradient": lambda x: torch.as_tensor(np.ascontiguousarray(x)).requires_grad_(),
    "sparse": lambda x: scipy.sparse.csr_matrix(x) if x.ndim == 2 else x,
    "sparse array": lambda x: scipy.sparse.coo_array(x) if x.ndim == 2 else x,
    "None": lambda x: None,
    "a number": lambda x: 3.5,
    "a string": lambda x: "values",
}

# Quarters up to 15.75 have six significant bits: exact in bfloat16 too.
QUARTERS = st.integers(-63, 63).map(lambda k: k / 4)
ODD_NUMBERS = st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-300, 1e300, -999.0])


class Drawn(NamedTuple):
    """An input in one of the `FORMS`, and the same numbers as float64."""

    form: str
    values: Any
    plain: np.ndarray

    def __repr__(self) -> str:
        return f"{self.form} of {self.plain.shape}: {self.plain.tolist()}"


def _read_only(x: np.ndarray) -> np.ndarray:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


def _memory_map(x: np.ndarray) -> np.ndarray:
    path = Path(tempfile.mkdtemp()) / "x.npy"
    np.save(path, x)
    return np.load(path, mmap_mode="r") if x.size else x


def numbers(
    shape: st.SearchStrategy[tuple[int, ...]] | tuple[int, ...], *, odd: bool = True
) -> st.SearchStrategy[np.ndarray]:
    """Arrays of quarters, sometimes with a NaN, an infinity, or a very large or small number, sometimes all the same."""
    plain = hnp.arrays(np.float64, shape, elements=QUARTERS)
    constant = hnp.arrays(np.float64, shape, elements=st.just(2.5))
    mixed = hnp.arrays(np.float64, shape, elements=QUARTERS | ODD_NUMBERS)
    # Continuous numbers: no two distances are alike.
    shapes = shape if isinstance(shape, st.SearchStrategy) else st.just(shape)
    generic = st.tuples(shapes, st.integers(0, 2**32 - 1)).map(_generic)
    return st.one_of(generic, generic, plain, constant, mixed) if odd else st.one_of(generic, plain)


def _generic(drawn: tuple[tuple[int, ...], int]) -> np.ndarray:
    shape, seed = drawn
    return np.round(np.random.default_rng(seed).normal(size=shape) * 16) / 16


def arrays(shape: Any, *, odd: bool = True) -> st.SearchStrategy[Drawn]:
    """Numbers in every type of array; a form the numbers do not survive (NaN as integers) is left as float64."""

    def wrap(drawn: tuple[str, np.ndarray]) -> Drawn:
        form, plain = drawn
        if form in ("int64", "uint8", "datetime", "bool"):
            plain = np.clip(
                np.nan_to_num(np.round(plain), posinf=1, neginf=0),
                0 if form != "int64" else -63,
                1 if form == "bool" else 63,
            )
        try:
            with np.errstate(all="ignore"):
                values = FORMS[form](plain)
                # What a short form holds of very large and very small numbers.
                if form in ("float16", "float32"):
                    plain = values.astype(np.float64)
                elif form in ("torch float32", "torch bfloat16"):
                    plain = values.double().numpy()
                return Drawn(form, values, plain)
        except (ValueError, TypeError, OverflowError, IndexError):
            return Drawn("float64", plain, plain)

    return st.tuples(st.sampled_from(sorted(FORMS)), numbers(shape, odd=odd)).map(wrap)


NAMES = st.one_of(
    st.sampled_from(
        [
            "stimulus_id",
            "neuroid_id",
            "region",
            "layer",
            "presentation",
            "neuroid",
            "repetition",
            "time_bin",
            "data",
            "x y",
            "a/b",
            "",
            "Unnamed: 0",
            "units",
            "scale_factor",
            "add_offset",
            "_FillValue",
            "missing_value",
            "dtype",
            "calendar",
            "coordinates",
            "name",
            "attrs",
            "values",
            "dims",
            "shape",
            "index",
            "level_0",
            "é",
            "e\u0301",
            "a" * 300,
            "0",
            "_private",
            ".",
            "NaN",
            "\n",
        ]
    ),
    st.text(max_size=8),
)
IDS = st.one_of(
    st.sampled_from(
        [
            "a.png",
            "A.png",
            "a.PNG",
            "a",
            "a ",
            "NA",
            "nan",
            "None",
            "",
            "1",
            "1.0",
            "01",
            "true",
            "café",
            "cafe\u0301",
            "a\tb",
            "a,b",
            '"',
        ]
    ),
    st.integers(-3, 300),
    st.sampled_from([None, np.nan, pd.NaT, pd.NA, 1.0, 1.5, True, b"a.png", np.datetime64("2020-01-01")]),
    st.text(max_size=6),
)
ATTRIBUTES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.complex_numbers(),
    st.lists(st.integers(-5, 5), max_size=3),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2),
    st.sampled_from(
        [
            np.float16(2.5),
            np.float32(1.5),
            np.int8(3),
            np.uint64(2**64 - 1),
            np.bool_(True),
            np.datetime64("2020-01-01"),
            np.timedelta64(3, "ms"),
            np.arange(3),
            np.zeros((2, 2)),
            np.array(["a", "b"]),
            np.array([]),
        ]
    ),
)


@st.composite
def two_spaces(draw: st.DrawFn) -> tuple[xr.DataArray, xr.DataArray]:
    """Two assemblies of up to 24 shared stimuli: healthy ones, or ones with odd values, flat sites and missing labels."""
    healthy = draw(st.booleans())
    n = 24 if healthy else draw(st.sampled_from([0, 1, 2, 3, 4, 8, 12]))
    repeats = draw(st.sampled_from([1, 1, 2]))
    sizes = (6, 8) if healthy else (draw(st.integers(0, 4)), draw(st.integers(1, 3)))
    return _space(draw, n, repeats, sizes[0], healthy), _space(draw, n, repeats, sizes[1], healthy)


def _space(draw: st.DrawFn, n: int, repeats: int, n_columns: int, healthy: bool) -> xr.DataArray:
    values = draw(numbers((n * repeats, n_columns), odd=not healthy))
    labels = [f"c{k % 3}" for k in range(n)] * repeats
    if not healthy and draw(st.booleans()) and values.size:
        values[:, -1] = values[0, -1]
    if not healthy and draw(st.booleans()):
        labels = draw(
            st.lists(st.sampled_from(["x", "y", "", None, np.nan]), min_size=len(labels), max_size=len(labels))
        )
    return xr.DataArray(
        values,
        dims=("presentation", "neuroid"),
        coords={
            "stimulus_id": (
                "presentation",
                np.array([f"s{k}" for k in range(n)] * repeats, dtype=str if n else object),
            ),
            "repetition": ("presentation", np.repeat(np.arange(repeats), n)),
            "object_name": ("presentation", np.array(labels, dtype=object)),
            "neuroid_id": ("neuroid", np.array([f"n{k}" for k in range(n_columns)], dtype=str)),
            "animal": ("neuroid", np.array((["A", "B"] * n_columns)[:n_columns], dtype=str)),
        },
    )


@st.composite
def damage(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes of a file after one fault: cut, bits turned, a stretch zeroed or doubled, or something else altogether."""
    kind = draw(st.sampled_from(["cut", "byte", "bytes", "zeros", "doubled", "other"]))
    if kind == "other":
        return draw(st.binary(max_size=64))
    place = draw(st.integers(0, max(len(whole) - 1, 0)))
    if kind == "cut":
        return whole[:place]
    if kind == "byte":
        return whole[:place] + bytes([draw(st.integers(0, 255))]) + whole[place + 1 :]
    if kind == "bytes":
        new = draw(st.binary(min_size=1, max_size=8))
        return whole[:place] + new + whole[place + len(new) :]
    length = draw(st.integers(1, 64))
    if kind == "zeros":
        return whole[:place] + bytes(length) + whole[place + length :]
    return whole[:place] + whole[place : place + length] + whole[place:]
