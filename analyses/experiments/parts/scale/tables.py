"""Means, tables and claims of the scale experiment, from its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurobridge.study.harness import Record
from neurobridge.study.tables import format_mean, select_records, verdict

from .design import FAILS, KEPT, LINEAR, LOCAL, METRICS, STAGES
from .tasks import READOUTS


def average(records: Sequence[Record], value: str, **wanted: Any) -> float:
    """Return the mean over seeds; NaN where nothing was measured."""
    group = [r[value] for r in select_records(records, **wanted)]
    return float(np.mean(group)) if group else float("nan")


def slope(costs: list[Record], metric: str, n_pairs: int) -> float:
    """Return the log-log slope of peak RSS above the imports, between the two largest sizes."""
    group = select_records(costs, metric=metric, n_pairs=n_pairs)
    across = sorted({r["n"] for r in group})[-2:]
    above = [np.mean([r["rss_gb"] - r["rss_start_gb"] for r in select_records(group, n=n)]) for n in across]
    return float(np.log(above[-1] / above[0]) / np.log(across[-1] / across[0])) if len(across) > 1 else float("nan")


def seconds_text(costs: list[Record], stage: str) -> str:
    """Format the seconds of a stage at the largest size and 100 pairs, and their growth."""
    sizes_of = sorted({r["n"] for r in costs})[-2:]
    out = []
    for metric in METRICS:
        values = [average(costs, f"{stage}_s", metric=metric, n_pairs=100, n=n) for n in sizes_of]
        grows = (
            f" (log-log slope {np.log(values[1] / values[0]) / np.log(sizes_of[1] / sizes_of[0]):.1f})"
            if values[1:]
            else ""
        )
        out.append(f"{metric} {values[-1]:.0f}{grows}")
    return f"{stage} " + " and ".join(out)


def cost_tables(features: list[Record], costs: list[Record]) -> list[dict[str, Any]]:
    """Tabulate seconds by stage, memory, and properties of the plan."""
    settings = sorted({(r["n"], r["metric"], r["n_pairs"]) for r in costs}, key=lambda s: (s[0], s[1], s[2]))
    body, plans = [], []
    for n, metric, n_pairs in settings:
        group = select_records(costs, n=n, metric=metric, n_pairs=n_pairs)
        setting = [f"{n:,}", metric, str(n_pairs)]
        feature_cell = format_mean([r["features_s"] for r in select_records(features, n=n)], 0)
        body.append(
            [
                *setting,
                feature_cell,
                *(format_mean([r[f"{stage}_s"] for r in group if f"{stage}_s" in r], 1) for stage in STAGES),
            ]
        )
        memory = [format_mean([r[value] for r in group], 2) for value in ("rss_start_gb", "rss_transport_gb", "rss_gb")]
        state = [format_mean([r["purity"] for r in group]), f"{np.mean([r['iterations'] for r in group]):.0f}"]
        errors = [f"{max(r[value] for r in group):.1e}" for value in ("marginal_error", "truncation_bound")]
        plans.append([*setting, *memory, *state, *errors])
    same = ["points a side", "metric", "pairs"]
    return [
        {
            "title": "Processor seconds by stage, mean over seeds (features: both sides, shared by all rows of a size)",
            "columns": [*same, "features", *STAGES],
            "rows": body,
        },
        {
            "title": "Peak RSS of the alignment's process (GB: after imports, after transport, at the end), and the plan; purity: "
            "share of drawn pairs of one digit, chance .1",
            "columns": [
                *same,
                "imports",
                "transport",
                "all",
                "purity",
                "iterations",
                "marginal error",
                "truncation bound",
            ],
            "rows": plans,
        },
    ]


def claims_of(scores: list[Record], costs: list[Record], across: list[int]) -> list[dict[str, str]]:
    """Return the verdict and the evidence on each claim."""
    small, large = across[0], across[-1]
    kept_cells, slopes, failing_cells, better_cells = [], [], [], []
    seeds = {r["seed"] for r in select_records(scores, n=large)}
    for metric, n_pairs in sorted({(r["metric"], r["n_pairs"]) for r in select_records(costs, n=large)}):
        slopes.append((f"{metric}, {n_pairs} pairs", slope(costs, metric, n_pairs)))
        for readout in READOUTS[metric]:
            group = [
                r for r in select_records(scores, method=f"{metric}: {readout}", n_pairs=n_pairs) if r["seed"] in seeds
            ]
            kept_cells.append(
                (
                    f"{metric}, {n_pairs} pairs, {readout}",
                    average(group, "accuracy", n=small),
                    average(group, "accuracy", n=large),
                )
            )
    for n_pairs in sorted({r["n_pairs"] for r in select_records(scores, n=large)}):
        group = select_records(scores, n=large, n_pairs=n_pairs)
        flow_values = {f"{m}: flow": average(group, "accuracy", method=f"{m}: flow") for m in METRICS}
        local_values = {
            f"pairs: {readout}": average(group, "accuracy", method=f"pairs: {readout}") for readout in LOCAL
        }
        best_flow = max((value for value in flow_values.values() if value == value), default=float("nan"))
        chance = average(group, "null_95")
        failing_cells += [
            (f"{n_pairs} pairs, {name[7:]}", value, best_flow, chance) for name, value in local_values.items()
        ]
        better_cells += [
            (f"{n_pairs} pairs, {name}", value, max(local_values.values()))
            for name, value in flow_values.items()
            if value == value
        ]
    linear = all(value <= LINEAR for _, value in slopes)
    n_kept = sum(after >= before - KEPT for _, before, after in kept_cells)
    n_failing = sum(value <= max(chance, best_flow - FAILS) for _, value, best_flow, chance in failing_cells)
    return [
        {
            "claim": f"Global alignment by OT keeps its accuracy up to {large:,} x {large:,} points in linear memory",
            "verdict": verdict(n_kept if linear else min(n_kept, len(kept_cells) - 1), len(kept_cells)),
            "evidence": f"at {large:,} at most {KEPT} below the accuracy at {small:,}, same seed: {n_kept} of "
            f"{len(kept_cells)} (all, if peak RSS above the imports has a log-log slope of at most {LINEAR} between "
            "the two largest sizes; half in part): "
            + "; ".join(f"{name} {before:.3f} -> {after:.3f}" for name, before, after in kept_cells)
            + ". Slopes: "
            + "; ".join(f"{name} {value:.2f}" for name, value in slopes),
        },
        {
            "claim": "Local alignment by the pairs alone fails at this size (paper)",
            "verdict": verdict(n_failing, len(failing_cells)),
            "evidence": f"at {large:,} points, at chance or {FAILS} below the better flow on a plan over the same "
            f"pairs: {n_failing} of {len(failing_cells)} (all hold, half in part): "
            + "; ".join(f"{name} {value:.3f} against {best_flow:.3f}" for name, value, best_flow, _ in failing_cells),
        },
        {
            "claim": "Global alignment is better than the best map of the pairs alone at this size",
            "verdict": verdict(sum(flow_value > local_value for _, flow_value, local_value in better_cells), len(better_cells)),
            "evidence": f"at {large:,} points, the flow on the plan above the best of ridge, kernel map and flow of the pairs "
            "(all hold, half in part): " + "; ".join(
                f"{name} {flow_value:.3f} against {local_value:.3f}" for name, flow_value, local_value in better_cells
            ),
        },
    ]  # fmt: skip
