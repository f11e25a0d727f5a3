"""One small array, written in every format that laboratories use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np
import pandas as pd
import scipy.io
import xarray as xr

import neurobridge as nb


class Lab(NamedTuple):
    """Simulated recordings: values (n_trials, n_sites), and what is known of trials and sites."""

    values: np.ndarray
    image_name: list[str]
    category: list[str]
    unit_id: list[str]
    region: list[str]

    @property
    def trials(self) -> pd.DataFrame:
        return pd.DataFrame({"image_name": self.image_name, "category": self.category})

    @property
    def sites(self) -> pd.DataFrame:
        return pd.DataFrame({"unit_id": self.unit_id, "region": self.region})

    @property
    def vectors(self) -> dict[str, list[str]]:
        return {name: getattr(self, name) for name in ("image_name", "category", "unit_id", "region")}

    def assembly(self) -> xr.DataArray:
        counts: dict[str, int] = {}
        repetition = []
        for name in self.image_name:
            repetition.append(counts.get(name, 0))
            counts[name] = repetition[-1] + 1
        extra = {"repetition": repetition} if max(repetition) else {}
        return nb.make_assembly(
            self.values,
            presentation={"stimulus_id": self.image_name, "category": self.category, **extra},
            neuroid={"neuroid_id": self.unit_id, "region": self.region},
        )


def example(values: np.ndarray | None = None) -> Lab:
    if values is None:
        values = np.random.default_rng(0).normal(size=(6, 3)).round(3)
    n_trials, n_sites = values.shape
    names = ["a.png", "b.png", "caf\u00e9.png", "007"]
    return Lab(
        values,
        [names[k % 4] for k in range(n_trials)],
        ["xyzw"[k % 4] for k in range(n_trials)],
        [f"u{k}" for k in range(n_sites)],
        ["V4" if k % 2 else "IT" for k in range(n_sites)],
    )


def cells(texts: list[str], shape: tuple[int, int]) -> np.ndarray:
    column = np.empty(shape, dtype=object)
    column[:] = np.array(texts, dtype=object).reshape(shape)
    return column


def write_npy(lab: Lab, folder: Path) -> Path:
    np.save(folder / "responses.npy", lab.values)
    return folder / "responses.npy"


def write_turned(lab: Lab, folder: Path) -> Path:
    np.save(folder / "turned.npy", lab.values.T)
    return folder / "turned.npy"


def write_npz(lab: Lab, folder: Path) -> Path:
    np.savez_compressed(folder / "day.npz", rates=lab.values, **{k: np.array(v) for k, v in lab.vectors.items()})
    return folder / "day.npz"


def write_matlab(lab: Lab, folder: Path) -> Path:
    shapes = {"image_name": (-1, 1), "category": (1, -1), "unit_id": (-1, 1), "region": (1, -1)}
    n = {name: len(texts) for name, texts in lab.vectors.items()}
    data = {
        name: cells(texts, tuple(n[name] if side < 0 else side for side in shapes[name]))
        for name, texts in lab.vectors.items()
    }
    scipy.io.savemat(
        folder / "day.mat", {"data": {"rates": lab.values, **data}, "note": "simulated"}, do_compression=True
    )
    return folder / "day.mat"


def write_matlab_structs(lab: Lab, folder: Path) -> Path:
    trials = np.zeros((1, len(lab.image_name)), dtype=[("image_name", object), ("category", object)])
    for k, (name, category) in enumerate(zip(lab.image_name, lab.category, strict=True)):
        trials[0, k] = (name, category)
    sites = {"unit_id": cells(lab.unit_id, (1, len(lab.unit_id))), "region": cells(lab.region, (len(lab.region), 1))}
    scipy.io.savemat(folder / "structs.mat", {"trials": trials, "sites": sites, "rates": lab.values})
    return folder / "structs.mat"


def write_matlab73(lab: Lab, folder: Path) -> Path:
    """Write what MATLAB 7.3 does: transposed arrays, characters as numbers, cells as references, 512 bytes before all."""
    import h5py

    path = folder / "day73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("data")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        rates = group.create_dataset("rates", data=lab.values.T)
        rates.attrs["MATLAB_class"] = np.bytes_("double")
        for name, texts in lab.vectors.items():
            references = np.empty((1, len(texts)), dtype=h5py.ref_dtype)
            for k, text in enumerate(texts):
                codes = np.frombuffer(text.encode("utf-16-le"), dtype="<u2").reshape(-1, 1)
                item = file.require_group("#refs#").create_dataset(f"{name}{k}", data=codes)
                item.attrs["MATLAB_class"] = np.bytes_("char")
                references[0, k] = item.ref
            cell = group.create_dataset(name, data=references, dtype=h5py.ref_dtype)
            cell.attrs["MATLAB_class"] = np.bytes_("cell")
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


def write_hdf5(lab: Lab, folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "day.h5", "w") as file:
        group = file.create_group("day1")
        group["rates"] = lab.values
        for name, texts in lab.vectors.items():
            group[name] = texts
    return folder / "day.h5"


def write_zarr(lab: Lab, folder: Path) -> Path:
    import zarr

    group = zarr.open_group(folder / "day.zarr", mode="w", zarr_format=2)
    group.create_array("rates", data=lab.values)
    for name, texts in lab.vectors.items():
        group.create_array(name, data=np.array(texts))
    return folder / "day.zarr"


def _dataset(lab: Lab) -> xr.Dataset:
    along = {"image_name": "trial", "category": "trial", "unit_id": "unit", "region": "unit"}
    coords = {name: (along[name], texts) for name, texts in lab.vectors.items()}
    return xr.Dataset({"rates": (("unit", "trial"), lab.values.T)}, coords=coords)


def write_netcdf(lab: Lab, folder: Path) -> Path:
    _dataset(lab).to_netcdf(folder / "day.nc", engine="netcdf4")
    return folder / "day.nc"


def write_netcdf_group(lab: Lab, folder: Path) -> Path:
    path = folder / "groups.nc"
    with netCDF4.Dataset(path, "w"):
        pass
    _dataset(lab).to_netcdf(path, mode="a", group="monkey/day1", engine="netcdf4")
    return path


def long_table(lab: Lab) -> pd.DataFrame:
    rows = [
        (trial, image, category, unit, region, lab.values[trial, k])
        for trial, (image, category) in enumerate(zip(lab.image_name, lab.category, strict=True))
        for k, (unit, region) in enumerate(zip(lab.unit_id, lab.region, strict=True))
    ]
    return pd.DataFrame(rows, columns=["trial", "image_name", "category", "unit_id", "region", "rate"])


def write_long(lab: Lab, folder: Path) -> Path:
    long_table(lab).to_csv(folder / "long.csv", index=False)
    return folder / "long.csv"


def write_wide(lab: Lab, folder: Path) -> Path:
    lab.trials.assign(**dict(zip(lab.unit_id, lab.values.T, strict=True))).to_csv(folder / "wide.csv", index=False)
    return folder / "wide.csv"


def write_parquet(lab: Lab, folder: Path) -> Path:
    wide = lab.trials.assign(**dict(zip(lab.unit_id, lab.values.T, strict=True)))
    wide.to_parquet(folder / "wide.parquet", engine="pyarrow")
    return folder / "wide.parquet"


def write_own(lab: Lab, folder: Path) -> Path:
    return nb.save_assembly(lab.assembly(), folder / "own.nc")


#: How each format is written, and which tables it needs beside it.
WRITERS: dict[str, tuple[Callable[[Lab, Path], Path], tuple[str, ...]]] = {
    "npy": (write_npy, ("trials", "sites")),
    "npy, turned": (write_turned, ("trials", "sites")),
    "npz": (write_npz, ()),
    "MATLAB": (write_matlab, ()),
    "MATLAB structures": (write_matlab_structs, ()),
    "MATLAB 7.3": (write_matlab73, ()),
    "HDF5": (write_hdf5, ()),
    "zarr": (write_zarr, ()),
    "netCDF": (write_netcdf, ()),
    "netCDF groups": (write_netcdf_group, ()),
    "long table": (write_long, ()),
    "wide table": (write_wide, ("sites",)),
    "parquet": (write_parquet, ("sites",)),
    "assembly": (write_own, ()),
}
#: Packages that formats need.
PACKAGES = {"MATLAB 7.3": "h5py", "HDF5": "h5py", "zarr": "zarr", "parquet": "pyarrow"}
MAP = {"stimulus_id": "image_name"}


def tables(lab: Lab, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(lab, name) for name in names}
