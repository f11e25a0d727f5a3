"""Write the simulated experiment at the full public size (147,200 x 256 x 1), chunk by chunk.

    python analyses/benchmarks/simulate_hvm.py [--out results/benchmarks/simulate_hvm.json]

Stated limits: 180 s and 1.5 GB, from nothing to the closed file. The file's layout is read with
netCDF4 itself and compared with that of MajajHong2015.public: one variable, its dimensions and
type, flat coordinates of the same names. Exits with 1 if one of them does not hold.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import netCDF4
import typer

from analyses.parts.script import run_script
from neurobridge.assemblies import average_repetitions, open_assembly, save_assembly
from neurobridge.datasets import simulate_hvm
from neurobridge.store.atomic import write_json
from neurobridge.study.machine import peak_rss

LIMIT_S, LIMIT_GB = 180.0, 1.5
DIMENSIONS = {"presentation": 147_200, "neuroid": 256, "time_bin": 1}
COORDINATES = {
    "presentation": {
        "image_id", "stimulus_id", "repetition", "object_name", "category_name", "variation", "size", "s", "ty", "tz", "rxy", "rxz",
        "ryz", "rxy_semantic", "rxz_semantic", "ryz_semantic", "background_id",
    },
    "neuroid": {"neuroid_id", "arr", "col", "row", "hemisphere", "subregion", "animal", "x", "y", "region"},
    "time_bin": {"time_bin_start", "time_bin_end"},
}  # fmt: skip


def differences(path: Path) -> list[str]:
    """List the differences of the file from the real layout."""
    results = []
    with netCDF4.Dataset(path) as file:
        sizes = {name: len(dimension) for name, dimension in file.dimensions.items()}
        if {name: sizes.get(name) for name in DIMENSIONS} != DIMENSIONS:
            results.append(f"dimensions {sizes}")
        data = [name for name, variable in file.variables.items() if len(variable.dimensions) > 1]
        if len(data) != 1:
            results.append(f"variables {data}")
        for name in data:
            variable = file.variables[name]
            if variable.dimensions != tuple(DIMENSIONS) or variable.dtype != "float32":
                results.append(f"{name} {variable.dimensions} {variable.dtype}")
        for dimension, names in COORDINATES.items():
            flat = {name for name, variable in file.variables.items() if variable.dimensions == (dimension,)}
            results += [f"no {name} on {dimension}" for name in sorted(names - flat)]
    return results


def main(
    out_file: Annotated[Path, typer.Option("--out")] = Path("results/benchmarks/simulate_hvm.json"),
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        experiment: Any = simulate_hvm(n_repetitions=46, lazy=True, progress=True)
        simulated = time.perf_counter()
        path = save_assembly(experiment.recordings, Path(folder) / "simulated_hvm_public.nc", compress=False)
        written = time.perf_counter()
        row: dict[str, Any] = {
            "simulate_s": simulated - started,
            "write_s": written - simulated,
            "total_s": written - started,
            "file_mb": path.stat().st_size / 1e6,
            "peak_rss_gb": peak_rss() / 1e9,
            "chunks": len(experiment.recordings.chunks[0]),
            "differences_from_the_real_layout": differences(path),
        }
        averaged = average_repetitions(open_assembly(path, chunks={"presentation": 3200}))
        row["shape_averaged_from_the_file"] = list(averaged.shape)
    row["holds"] = (
        row["total_s"] <= LIMIT_S and row["peak_rss_gb"] <= LIMIT_GB and not row["differences_from_the_real_layout"]
    )
    write_json(row, out_file)
    print(json.dumps(row, indent=1))
    sys.exit(not row["holds"])


if __name__ == "__main__":
    run_script(main, __doc__)
