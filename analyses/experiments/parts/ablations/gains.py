"""Gains of each part and lines of each sweep, from the ablations' records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurobridge.study.harness import Record
from neurobridge.study.tables import mean_ci, select_records

from .design import EPSILONS, PARTS


def by_seed(records: Sequence[Record], part: str, **wanted: Any) -> dict[int, float]:
    """Return the values of a part by seed."""
    return {r["seed"]: r["value"] for r in select_records(records, part=part, **wanted)}


def gains(first: dict[int, float], second: dict[int, float]) -> list[float]:
    """Return the differences on the seeds that both have."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def gain(records: Sequence[Record], setting: str, part: str) -> list[float]:
    """Return a part's differences to the part that it is compared with, by seed."""
    plain = [r for r in select_records(records, setting=setting) if r["group"] in ("parts", "dense", "flows", "fused")]
    plain = select_records(plain, level=0.0)
    return gains(by_seed(plain, part), by_seed(plain, PARTS[part]))


def signed(values: Sequence[float]) -> str:
    """Format a mean with its sign and interval."""
    mean, half = mean_ci(values)
    return f"{mean:+.3f}" if np.isnan(half) else f"{mean:+.3f} ± {half:.3f}"


def swept(records: Sequence[Record], setting: str, name: str) -> dict[str, dict[float, list[float]]]:
    """Return the values of a sweep: line -> level -> values over seeds.

    The epsilons share a cost and are told apart by the field ``part``.
    """
    of_setting = select_records(records, setting=setting)
    if name == "epsilon":
        return {
            "bridge": {
                float(e): list(by_seed(of_setting, e, group=name).values()) for e in map("{:g}".format, EPSILONS)
            }
        }
    of_sweep = select_records(of_setting, group=name)
    lines = {
        part: {
            level: list(by_seed(of_sweep, part, level=level).values())
            for level in sorted({r["level"] for r in select_records(of_sweep, part=part)})
        }
        for part in dict.fromkeys(r["part"] for r in of_sweep)
    }
    if name == "noise":
        levels = sorted({r["level"] for r in select_records(of_setting, group="fused")})
        lines["fused"] = {
            level: list(by_seed(of_setting, "fused", group="fused", level=level).values()) for level in levels
        }
    if name == "ratio":
        # Outliers stand at level -1, beside the ratios.
        for part, line in lines.items():
            line[-1.0] = list(by_seed(of_setting, part, group="outliers").values())
    return lines
