"""Assemblies to files and back: netCDF or zarr, by what the path is."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import xarray as xr

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.schema import STIMULUS_ID, validate
from neurobridge.assemblies.storage.layout import (
    Chunks,
    describe_differences,
    from_dataset,
    to_dataset,
    variables_to_dataset,
)
from neurobridge.assemblies.storage.netcdf import open_netcdf, open_zarr, require_zarr, unreadable
from neurobridge.points.options import require_options
from neurobridge.store.atomic import atomic_folder, atomic_path

_LOG = logging.getLogger(__name__)
_ZARR_MARKS = (".zgroup", ".zarray", ".zmetadata", "zarr.json")


def save_assembly(assembly: xr.DataArray, path: str | os.PathLike[str], *, compress: bool = True) -> Path:
    """Write an assembly as netCDF or zarr, atomically: a reader sees the old file or the new one, never half of one.

    What is written is read back the same by `open_assembly`: values, coordinates, and attributes of the assembly and of its
    coordinates, whatever their names and types. The header and the coordinates are read back and compared before the file
    gets its name. A dask-backed assembly is computed and written chunk by chunk.

    The file holds one variable ``data`` and flat coordinates, the layout that Brain-Score's AssemblyLoader reads, and other
    programs read it too:

    - An attribute whose name or value has a meaning of its own in netCDF (``scale_factor``, ``units`` of time, ``a/b``) is kept
      in one attribute of JSON text, ``neurobridge_attrs``. Values that netCDF cannot hold (dict, list, bool, None) are JSON text.
    - A coordinate whose name cannot be a variable's (``object name``, ``data``) has the nearest such name in the file, and its
      own in the attribute ``neurobridge_name``. Dates and durations are integers with CF units. Labels of several types, bytes
      and complex numbers are JSON text.
    - Text in an array of objects or in a pandas array comes back as an array of text, and the byte order is the machine's.
    - A dimension with one coordinate gets a second one in the file, ``<dim>_num``, which `open_assembly` leaves out: without it
      Brain-Score would name the first after the dimension.

    Parameters
    ----------
    assembly : xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``.
    path : path
        Target; one that ends in ``.zarr`` is written as a zarr folder (extra ``zarr``). Missing parent folders are made.
    compress : bool
        Deflate the values (lossless); zarr compresses always.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    AssemblyError
        The assembly does not meet the schema, a coordinate or an attribute cannot be held, or the library fails.
    ImportError
        A zarr path without the package zarr.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from neurobridge.assemblies import make_assembly, open_assembly, save_assembly
    >>> assembly = make_assembly(
    ...     [[1.0, 2.0]], presentation={"stimulus_id": ["a"]}, neuroid={"neuroid_id": ["n0", "n1"]}
    ... )  # simulated
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_assembly(assembly, Path(folder) / "responses.nc")
    ...     read = open_assembly(path)
    >>> path.name
    'responses.nc'
    """
    require_options(compress=compress, error=AssemblyError)
    validate(assembly, allow_missing=True)
    path = Path(path)
    as_zarr = path.suffix == ".zarr"
    if as_zarr:
        require_zarr(path)
    dataset = to_dataset(assembly, typed=not as_zarr)
    if as_zarr:
        with atomic_folder(path) as folder:
            # Format 2: fixed-width text has no settled form in format 3.
            _write(path, dataset.to_zarr, folder, mode="w", zarr_format=2, encoding=_no_fill_values(dataset))
            _compare(assembly, open_zarr(folder), path)
        _LOG.info("wrote %s", path)
        return path
    encoding = _netcdf_encoding(dataset)
    if compress:
        encoding["data"] |= {"zlib": True, "complevel": 4}
    with atomic_path(path) as partial:
        _write(path, dataset.to_netcdf, partial, engine="netcdf4", encoding=encoding)
        with open_netcdf(partial) as written:
            _compare(assembly, written, path)
    _LOG.info("wrote %s", path)
    return path


def save_variables(dataset: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write variables that share coordinates, such as those of a score, as netCDF: encoded and written as `save_assembly` does.

    Parameters
    ----------
    dataset : xarray.Dataset
    path : path
        Target, netCDF. Missing parent folders are made.

    Returns
    -------
    pathlib.Path
        The file written, which `xarray.open_dataset` reads.

    Raises
    ------
    AssemblyError
        A variable, a coordinate or an attribute cannot be held, or the library fails.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from neurobridge.assemblies.storage.files import save_variables
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     score = xr.Dataset({"raw": ("split", [0.8, 0.9])}, attrs={"metric": "accuracy"})
    ...     read = xr.load_dataset(save_variables(score, Path(folder) / "score.nc"))
    >>> read["raw"].values.tolist(), read.attrs["metric"]
    ([0.8, 0.9], 'accuracy')
    """
    path = Path(path)
    stored = variables_to_dataset(dataset, role="dataset")
    with atomic_path(path) as partial:
        _write(path, stored.to_netcdf, partial, engine="netcdf4", encoding=_netcdf_encoding(stored))
    return path


def _no_fill_values(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Give an encoding without fill values: each value is one."""
    return {str(name): {"_FillValue": None} for name in dataset.variables}


def _netcdf_encoding(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    # Characters and not strings: HDF5 keeps strings in a heap without checksums.
    texts = (str(name) for name, variable in dataset.variables.items() if variable.dtype.kind == "U")
    return {**_no_fill_values(dataset), **{name: {"dtype": "S1"} for name in texts}}


def _write(path: Path, writer: Any, target: Path, **options: Any) -> None:
    try:
        writer(target, **options)
    except RuntimeError as error:
        # Other errors may be those of a lazy assembly's own code.
        if not str(error).startswith("NetCDF"):
            raise
        raise AssemblyError(
            f"{path}: found a failure of the netCDF library while it wrote ({error}); expected a whole file. Mend: look for free "
            "space on the disk, or write elsewhere."
        ) from error


def _compare(assembly: xr.DataArray, written: xr.Dataset, path: Path) -> None:
    read = from_dataset(written, role=str(path), chunks={})
    differences = describe_differences(assembly, read)
    if differences:
        raise AssemblyError(
            f"{path}: found that these come back otherwise than they were given: {', '.join(differences)}; expected the same. "
            "Mend: convert them to text or numbers, or drop them (assembly.drop_vars, assembly.attrs.pop)."
        )


def open_assembly(path: str | os.PathLike[str], *, chunks: Chunks = None) -> xr.DataArray:
    """Read an assembly from netCDF or zarr, whatever the name of its variable and the order of its dimensions.

    A folder is read as zarr, a file as netCDF. ``image_id`` is copied to ``stimulus_id`` where the file is older than that name.

    Parameters
    ----------
    path : path
    chunks : mapping of dimension to size, or "auto", optional
        Read lazily, as dask chunks: for files larger than memory. The values are then checked as they are read, the
        file stays open until ``close()`` of the assembly, and chunks should span all neuroids, e.g.
        ``{"presentation": 4096}``. A function is called with the assembly and gives the mapping. Default: read everything now.

    Returns
    -------
    xarray.DataArray
        Dims ``(presentation, neuroid[, time_bin])``, flat coordinates.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    AssemblyError
        The file cannot be read, declares far more values than it can hold, has several variables, or does not meet the schema.
    ImportError
        A zarr folder without the package zarr.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from neurobridge.assemblies import make_assembly, open_assembly, save_assembly
    >>> assembly = make_assembly(
    ...     [[1.0, 2.0]], presentation={"stimulus_id": ["a"]}, neuroid={"neuroid_id": ["n0", "n1"]}
    ... )  # simulated
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_assembly(assembly, Path(folder) / "responses.nc")
    ...     read = open_assembly(path)
    >>> read.identical(assembly)
    True
    """
    path = Path(path)
    # Unlike that of pathlib, it answers for names that no file can have.
    if not os.path.exists(path):
        raise FileNotFoundError(f"found no file at {path}; expected an assembly, netCDF or zarr. Mend: check the path.")
    if path.is_dir():
        if not any((path / mark).exists() for mark in _ZARR_MARKS):
            raise AssemblyError(
                f"{path}: found a folder without {', '.join(_ZARR_MARKS)}; expected a zarr folder or a netCDF file. "
                "Mend: name the file in it, or the folder that ends in .zarr."
            )
        dataset = open_zarr(path)
    else:
        dataset = open_netcdf(path)
    try:
        assembly = from_dataset(dataset, role=str(path), chunks=chunks)
    except AssemblyError:
        dataset.close()
        raise
    except Exception as error:
        dataset.close()
        raise unreadable(path, error) from error
    if chunks is None:
        dataset.close()
    if STIMULUS_ID not in assembly.coords and "image_id" in assembly.coords:
        image_id = assembly.coords["image_id"]
        assembly = assembly.assign_coords({STIMULUS_ID: (image_id.dims, image_id.values)})
    _LOG.info("read %s: %s of %s", path, "x".join(map(str, assembly.shape)), assembly.dtype)
    read = validate(assembly, role=str(path), allow_missing=True)
    if chunks is not None:
        read.set_close(dataset.close)
    return read
