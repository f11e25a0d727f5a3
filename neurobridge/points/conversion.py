"""Conversion of anything array-like into real numbers: the one entrance of data; imports no torch."""

from __future__ import annotations

import sys
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from neurobridge.points.blocks import is_dask, is_zarr

# Errors that the conversions of other libraries raise for what they cannot convert.
_CONVERSION_ERRORS = (ValueError, TypeError, RuntimeError, OverflowError, NotImplementedError)
_REAL_KINDS = "biuf"
_MENDS = {
    "c": "{name}.real, or numpy.abs({name})",
    "U": "numpy.asarray({name}, dtype='float64'), where the text reads as numbers",
    "S": "numpy.asarray({name}, dtype='float64'), where the text reads as numbers",
    "M": "({name} - {name}.min()) / numpy.timedelta64(1, 's') gives seconds",
    "m": "{name} / numpy.timedelta64(1, 's') gives seconds",
    "V": "numpy.stack([{name}[field] for field in {name}.dtype.names], axis=-1), of records of numbers",
}


def is_tensor(x: Any) -> bool:
    """Tell whether ``x`` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def unlabelled(x: Any) -> Any:
    """Return the array within an ``xarray.DataArray``, a zarr array as a dask array, and anything else as it is."""
    if is_zarr(x):
        import dask.array as da

        return da.from_array(x, chunks=x.chunks, name=False)
    return x.data if hasattr(x, "dims") and hasattr(x, "data") else x


def is_missing(value: Any) -> bool:
    """Tell whether a single object stands for "no value": None, NaN, NaT, ``pandas.NA``, ``numpy.ma.masked``.

    Examples
    --------
    >>> [is_missing(value) for value in (None, float("nan"), np.datetime64("NaT"), "NA", 0)]
    [True, True, True, False, False]
    """
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, (float, np.floating, Decimal)):
        return bool(value != value)
    return isinstance(value, (np.datetime64, np.timedelta64)) and bool(np.isnat(value))


def working_dtype(dtype: npt.DTypeLike) -> np.dtype:
    """Return the floating type that numbers of a dtype are computed in.

    That is float32 where it holds every value of the dtype (bool, integers of at most 16 bits, float16, float32), and
    float64 otherwise.

    Parameters
    ----------
    dtype : dtype
        Of real numbers, in any byte order.

    Examples
    --------
    >>> [working_dtype(dtype).name for dtype in ("float16", ">f4", "uint8", "int32", "float64", "longdouble")]
    ['float32', 'float32', 'float32', 'float64', 'float64', 'float64']
    """
    promoted = np.promote_types(np.dtype(dtype).newbyteorder("="), np.float32)
    return np.dtype(np.float32) if promoted == np.float32 else np.dtype(np.float64)


def require_real(x: Any, *, name: str = "array", error: type[ValueError] = ValueError) -> None:
    """Refuse, without reading a value, an array or tensor that holds something else than real numbers.

    Parameters
    ----------
    x : numpy, dask or torch array
    name : str
        Name of the argument in messages.
    error : class
        ValueError or a subclass of it.

    Raises
    ------
    ValueError
        Of the class ``error``: complex numbers, text, dates, records; a sparse, quantised or empty ("meta") tensor.
    """
    if is_tensor(x):
        _require_real_tensor(x, name, error)
        return
    dtype = np.dtype(x.dtype)
    if dtype.kind in _REAL_KINDS or dtype.kind == "O" or _casts_to_float(dtype):
        return
    mend = _MENDS.get(dtype.kind, "numpy.asarray({name}, dtype='float64')").format(name=name)
    raise error(f"{name}: found dtype {dtype}; expected real numbers. Mend: {mend}.")


def real_array(x: Any, *, name: str = "array", error: type[ValueError] = ValueError) -> np.ndarray:
    """Return anything array-like as a numpy array of real numbers in the byte order of this machine.

    Parameters
    ----------
    x : array-like
        Numpy array of any layout or byte order, masked array, memory map, nested lists, torch tensor on any device,
        dask array (computed), ``xarray.DataArray``, pandas or other frame.
    name : str
        Name of the argument in messages.
    error : class
        Class of the errors: ValueError or a subclass of it.

    Returns
    -------
    array of the shape of ``x``
        Of a bool, integer or floating dtype. Nothing is copied where nothing has to change. Masked and missing values
        (None, ``pandas.NA``) are NaN. Numbers of other libraries become float32 (bfloat16, float8) or float64.

    Raises
    ------
    ValueError
        Of the class ``error``: complex numbers, text, dates or other objects; sparse matrices; rows of different
        lengths; masked integers, for which there is no NaN.

    Examples
    --------
    >>> real_array([[1, 2], [3, None]]).tolist()
    [[1.0, 2.0], [3.0, nan]]
    >>> real_array(np.array([1.5, 2.5], dtype=">f2")[::-1]).dtype
    dtype('float16')
    """
    if is_tensor(x):
        return _host_tensor(x, name, error)
    x = unlabelled(x)
    if is_dask(x):
        require_real(x, name=name, error=error)
        return real_array(x.compute(), name=name, error=error)
    if hasattr(x, "toarray") or hasattr(x, "todense"):
        raise error(
            f"{name}: found {_kind(x)}; expected a dense array. Mend: {name}.to"
            f"{'array' if hasattr(x, 'toarray') else 'dense'}()."
        )
    try:
        if isinstance(x, (list, tuple)) and any(isinstance(row, np.ma.MaskedArray) for row in x):
            x = np.ma.array(x)
        array = x if isinstance(x, np.ndarray) else np.asarray(x)
    except _CONVERSION_ERRORS as cause:
        raise error(
            f"{name}: found {_kind(x)}, which is no array ({cause}); expected numbers, the rows of one length. "
            "Mend: numpy.stack(rows), with rows of one length."
        ) from cause
    require_real(array, name=name, error=error)
    if isinstance(array, np.ma.MaskedArray):
        array = _unmasked(array, name, error)
    if array.dtype == object:
        return _numbers_of_objects(array, name, error)
    if array.dtype.kind not in _REAL_KINDS:
        return np.asarray(array, dtype=np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        # What is beyond float64 becomes infinite, and is refused where finite numbers are asked for.
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(array, dtype=np.float64)
    return np.asarray(array, dtype=array.dtype.newbyteorder("="))


def _unmasked(array: np.ma.MaskedArray, name: str, error: type[ValueError]) -> np.ndarray:
    mask = np.ma.getmaskarray(array)
    if not mask.any():
        return np.asarray(array.data)
    if array.dtype == object:
        objects = np.array(array.data)
        objects[mask] = None
        return objects
    if array.dtype.kind != "f":
        raise error(
            f"{name}: found {int(mask.sum())} masked values of {mask.size} in an array of {array.dtype}, for which there is "
            f"no NaN; expected a value everywhere. Mend: leave out the rows that have one, "
            f"{name}[~numpy.ma.getmaskarray({name}).any(axis=1)]."
        )
    return np.asarray(array.filled(np.nan))


def _numbers_of_objects(array: np.ndarray, name: str, error: type[ValueError]) -> np.ndarray:
    numbers = np.empty(array.size, dtype=np.float64)
    for position, value in enumerate(array.ravel().tolist()):
        if is_missing(value):
            numbers[position] = np.nan
        elif isinstance(value, (Real, np.bool_, Decimal)):
            try:
                numbers[position] = float(value)
            except OverflowError as cause:
                raise error(
                    f"{name}: found an integer of {len(str(value))} digits; expected numbers within float64. "
                    "Mend: leave it out."
                ) from cause
        else:
            raise error(
                f"{name}: found {value!r:.60} of type {type(value).__name__} among objects; expected real numbers. "
                f"Mend: leave out what is no number, or numpy.asarray({name}, dtype='float64') where it is text that reads as one."
            )
    return numbers.reshape(array.shape)


def _require_real_tensor(x: Any, name: str, error: type[ValueError]) -> None:
    torch = sys.modules["torch"]
    if x.is_complex():
        raise error(f"{name}: found dtype {x.dtype}; expected real numbers. Mend: {name}.real, or {name}.abs().")
    if x.is_nested:
        raise error(f"{name}: found a nested tensor; expected rows of one length. Mend: torch.stack({name}.unbind()).")
    if x.layout != torch.strided:
        raise error(f"{name}: found a tensor of layout {x.layout}; expected a dense one. Mend: {name}.to_dense().")
    if x.is_quantized:
        raise error(f"{name}: found a quantised tensor, {x.dtype}; expected numbers. Mend: {name}.dequantize().")
    if x.is_meta:
        raise error(
            f"{name}: found a tensor on the device 'meta', which holds no values; expected values. Mend: load them."
        )


def _host_tensor(x: Any, name: str, error: type[ValueError]) -> np.ndarray:
    _require_real_tensor(x, name, error)
    tensor = x.detach().cpu().resolve_neg()
    try:
        return tensor.numpy()
    except TypeError:
        # bfloat16 and the kinds of float8, which numpy does not have; float32 holds all their values.
        return tensor.float().numpy()


def _casts_to_float(dtype: np.dtype) -> bool:
    """Tell a dtype of numbers that numpy does not know itself, such as bfloat16 of ml_dtypes."""
    return (
        dtype.kind == "V"
        and dtype.names is None
        and dtype.name != f"void{8 * dtype.itemsize}"
        and np.can_cast(dtype, "f4")
    )


def _kind(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__name__}"
