"""Write the simulated experiment at the full public size (147,200 x 256 x 1) chunk by chunk: time, peak RSS, and that it reads back.

    python analyses/benchmarks/simulate_hvm.py [--out results/benchmarks/simulate_hvm.json]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from neurobridge.assemblies import average_repetitions, open_assembly, save_assembly
from neurobridge.datasets import simulate_hvm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/simulate_hvm.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        experiment = simulate_hvm(n_repetitions=46, lazy=True, progress=True)
        simulated = time.perf_counter()
        path = save_assembly(experiment.recordings, Path(folder) / "simulated_hvm_public.nc", compress=False)
        written = time.perf_counter()
        row = {
            "simulate_s": simulated - started,
            "write_s": written - simulated,
            "total_s": written - started,
            "file_mb": path.stat().st_size / 1e6,
            "peak_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        }
        averaged = average_repetitions(open_assembly(path, chunks={"presentation": 3200}))
        row["shape_read_back"] = list(averaged.shape)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
