"""Files and folders that the package writes, read as the results that they hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import xarray as xr

from neurobridge.aligners import load as load_aligner
from neurobridge.assemblies import AssemblyError, open_assembly
from neurobridge.assemblies.storage.values import decode_attrs

#: Name of the file of an experiment's or a demo's results.
RESULTS = "scores.json"
_ALIGNER = "aligner.json"
_FIELDS: dict[str, type] = {"title": str, "note": str, "tables": list, "run": dict}
_TABLE: dict[str, type] = {"title": str, "columns": list, "rows": list}


def read_result(path: str | os.PathLike[str]) -> Any:
    """Read what a file or a folder of the package holds.

    Parameters
    ----------
    path : path
        netCDF of a Score, a learning curve, a ceiling or an assembly; zarr of an assembly; the folder of a saved aligner;
        ``scores.json`` of a demo or an experiment.

    Returns
    -------
    xarray.Dataset, xarray.DataArray, AssemblyAligner or dict

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    AssemblyError, AlignerFileError, ValueError
        The file is damaged, or none of these.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"found nothing at {path}; expected a result that neurobridge wrote. Mend: check the path."
        )
    if path.is_dir():
        return load_aligner(path) if (path / _ALIGNER).exists() else open_assembly(path)
    if path.suffix == ".json":
        return read_results(path)
    dataset = _read_dataset(path)
    is_result = "raw" in dataset or "p_corrected" in dataset
    return dataset if is_result and list(dataset.data_vars) != ["data"] else open_assembly(path)


def _read_dataset(path: Path) -> xr.Dataset:
    try:
        dataset = xr.load_dataset(path, engine="netcdf4", decode_times=False)
        return dataset.assign_attrs(decode_attrs(dataset.attrs))
    except AssemblyError:
        raise
    except Exception as error:
        raise AssemblyError(
            f"{path}: found a file that netCDF cannot read ({type(error).__name__}: {error}); expected a result that neurobridge "
            "wrote. Mend: write it again; neurobridge report FOLDER reads folders."
        ) from error


def read_results(path: Path) -> dict[str, Any]:
    """Read the results of a demo, an experiment or a curve: title, note, tables and run.

    Raises
    ------
    ValueError
        The file is not what they write.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _no_results(path, f"text that is not JSON ({type(error).__name__}: {error})") from error
    if not isinstance(results, dict):
        raise _no_results(path, f"a JSON {type(results).__name__}")
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(results.get(name), kind)]
    if wrong:
        raise _no_results(path, f"fields {sorted(results)}, of which {', '.join(wrong)} cannot be used")
    for number, table in enumerate(results["tables"]):
        if not (isinstance(table, dict) and all(isinstance(table.get(name), kind) for name, kind in _TABLE.items())):
            raise _no_results(path, f"table {number} without {', '.join(_TABLE)}")
        if not all(isinstance(row, list) for row in table["rows"]):
            raise _no_results(path, f"table {number} with rows that are no lists")
    return results


def _no_results(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path}: found {what}; expected {', '.join(_FIELDS)}, as neurobridge demo and neurobridge run write them. "
        f"Mend: neurobridge demo --out FOLDER, then neurobridge report FOLDER."
    )


def is_results(thing: Any) -> bool:
    """Tell whether something is what `read_results` returns."""
    return isinstance(thing, dict) and all(isinstance(thing.get(name), kind) for name, kind in _FIELDS.items())


def results_in(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the results in a folder by their names, and what could not be read, as warnings.

    Raises
    ------
    FileNotFoundError
        The folder holds no result.
    """
    results: dict[str, Any] = {}
    unread: list[str] = []
    if (folder / RESULTS).exists():
        results[RESULTS] = read_results(folder / RESULTS)
    paths = sorted(
        {*folder.glob("*.nc"), *folder.glob("*.zarr"), *(file.parent for file in folder.glob(f"*/{_ALIGNER}"))}
    )
    for path in [folder] if (folder / _ALIGNER).exists() else paths:
        try:
            results[path.stem] = read_result(path)
        except (ValueError, OSError) as error:
            unread.append(f"{path.name} is left out: {error}")
    if not results:
        raise FileNotFoundError(
            f"found no {RESULTS}, no netCDF file and no aligner in {folder}; expected results. "
            f"Mend: neurobridge demo --out {folder}, or neurobridge score SOURCE.nc TARGET.nc --out {folder / 'score.nc'}."
            + "".join(f" {line}" for line in unread)
        )
    return results, unread
