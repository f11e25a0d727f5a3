"""Write docs/benchmarks.md from the kept benchmark results.

python analyses/benchmarks_page.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analyses.parts.benchmarks import data, evaluation, planning, quality, transport

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
KEPT = DOCS / "results" / "benchmarks"
HEAD = """# Benchmarks

This page is for readers who choose a method or plan a run. After reading it you will know which method has the best
score on which data, where ours loses, and what each method costs.

`python analyses/benchmarks_page.py` makes the page from `docs/results/benchmarks/`. Each section begins with the
command that measured it. Speed and memory were measured on a machine of two cores (x86-64, 24 GB, no GPU), which was
shared with other work at times. Ratios therefore compare runs that followed each other. Where there are several runs,
numbers are their medians, and the files hold all runs.
"""
#: File of kept results -> what writes its section, in the order of the page.
SECTIONS: dict[str, Callable[[Any], str]] = {
    "alignment_quality": quality.alignment,
    "plan_pairs": planning.planned_pairs,
    "mnist_quality": quality.mnist,
    "no_anchor": quality.without_pairs,
    "coupling": transport.coupling,
    "geodesic_scale": transport.geodesic_scale,
    "fuse_time": transport.fuse_time,
    "fused_scale": transport.fused_scale,
    "road": transport.road,
    "distributed_fuse": transport.distributed_fuse,
    "distributed": transport.distributed,
    "flow_quality": quality.flow_quality,
    "flow": transport.flow,
    "predictivity": evaluation.predictivity,
    "bridge_metric": evaluation.bridge_metric,
    "decoding_time": evaluation.decoding_time,
    "analyses_time": evaluation.analyses_time,
    "compare_models": evaluation.compared_models,
    "features": data.features,
    "repeats": data.repeats,
    "majajhong_public": data.public,
    "simulate_hvm": data.simulation,
}


def kept_results(name: str) -> Any:
    """Read the kept results of a benchmark; None where there are none."""
    file = KEPT / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def page() -> str:
    """Return the text of docs/benchmarks.md."""
    parts = [
        section(results).strip() for name, section in SECTIONS.items() if (results := kept_results(name)) is not None
    ]
    return "\n\n".join([HEAD.strip(), *parts]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
