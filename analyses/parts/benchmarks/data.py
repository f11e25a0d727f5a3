"""Sections on the time and memory of activations, recordings and simulations."""

from __future__ import annotations

import statistics
from typing import Any

from analyses.parts.pages import markdown_table as table


def features(results: dict[str, Any]) -> str:
    names = {
        "bare": "bare forward pass on batches in memory", "loop": "hand-written hook loop", "memory": "`extract`, in memory",
        "stream": "`extract`, streamed to netCDF",
    }  # fmt: skip
    rows = []
    for case in ("resnet18", "small"):
        for task, row in results[case]["tasks"].items():
            rows.append([f"{case}, {names[task]}", f"{row['images_per_s']:.1f}", f"{row['of_bare']:.2f}"])
    flat = ", ".join(f"{row['peak_rss_gb']:.2f} GB for {row['n_stimuli']:,}" for row in results["memory"])
    large, little = results["resnet18"], results["small"]
    workers = results["workers"]
    process_seconds, worker_seconds = (statistics.median(workers["seconds"][where]) for where in ("process", "workers"))
    return f"""## Features: extraction beside the bare forward pass

`analyses/benchmarks/features.py`

{large["n_images"]} images of {large["size"]} pixels are passed through a ResNet-18 (random weights), and
{little["n_images"]:,} images of {little["size"]} pixels through a network so small that decoding the files takes
longer than the model. All rows except the bare forward pass read and decode the files.

{table(["what", "images a second", "of bare"], rows)}

The peak memory (RSS) of an extraction to netCDF is {flat} stimuli. thingsvision is not compared, because its release
requires a torchvision that cannot be installed with this torch.

`extract(..., distributed=True)` on {workers["n_workers"]} dask workers of one thread each showed {workers["n_images"]}
images to the ResNet-18 in {worker_seconds:.1f} s, and one process of one thread in {process_seconds:.1f} s:
{workers["ratio"]:.2f} times as fast (median of {workers["runs"]} turns; largest relative difference
{workers["largest_relative_difference"]:.0e}).
"""


def repeats(results: dict[str, Any]) -> str:
    rows = [
        [name.replace("_", " "), f"{row['seconds']:.2f}", f"{row['peak_rss_gb']:.2f}", row["n_runs"]]
        for name, row in results["rows"].items()
        if isinstance(row, dict)
    ]
    ratios = [
        f"{key.removeprefix('ratio_')} {value:.1f}"
        for key, value in results["rows"].items()
        if key.startswith("ratio_")
    ]
    ratio_text = f"\n\nThe time of Brain-Score, as a multiple of ours, is: {', '.join(ratios)}." if ratios else ""
    return f"""## Repetitions: 147,200 x 256 to 3,200 x 256, and split-half consistency over 10 splits

`analyses/benchmarks/repeats.py`

The data are simulated noise. The assembly itself, {3200 * 46 * 256 * 4 / 1e9:.2f} GB, is part of the peak.

{table(["what", "seconds", "peak RSS (GB)", "runs"], rows)}{ratio_text}
"""


def public(results: dict[str, Any]) -> str:
    rows = [
        [step, f"{results[step]['seconds']:.2f}", f"{results[step]['peak_rss_gb']:.2f}"]
        for step in ("fetch", "load", "lazy")
    ]
    return f"""## MajajHong2015.public: a file of its layout and size (148,480 x 256 x 1)

`analyses/benchmarks/majajhong_public.py`

The file holds {results["values"]}, and it was served from the same machine.

{table(["what", "seconds", "peak RSS (GB)"], rows)}
"""


def simulation(results: dict[str, Any]) -> str:
    return f"""## The simulated HvM experiment at public size (147,200 presentations)

`analyses/benchmarks/simulate_hvm.py`

The simulation takes {results["total_s"]:.0f} s and {results["peak_rss_gb"]:.2f} GB of memory at its peak (RSS), and
writes {results["file_mb"]:.0f} MB in {results["chunks"]} chunks.
"""
