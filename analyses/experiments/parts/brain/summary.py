"""Curves, pairs needed, claims and the answer of the brain and model experiment."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurobridge.study.harness import Record
from neurobridge.study.tables import mean_ci, select_records, verdict

from .directions import TO_BRAIN


def dataset_title(fact: Record, dataset: str) -> str:
    """Return the name of a dataset, marked as real or SIMULATED."""
    return f"{dataset} ({'SIMULATED' if fact['simulated'] else 'real'})"


def mean_curve(records: list[Record], method: str, value: str = "r") -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of pairs of a method and its means over seeds."""
    group = select_records(records, method=method)
    counts = sorted({r["n_pairs"] for r in group})
    return np.array(counts), np.array([np.mean([r[value] for r in select_records(group, n_pairs=n)]) for n in counts])


def records_to_brain(dataset: str, records: list[Record]) -> list[Record]:
    """Keep the records of model to brain on the seeds that the fused bridge has.

    The methods are then compared on the same draws.
    """
    of_direction = select_records(records, dataset=dataset, direction=TO_BRAIN)
    seeds = {r["seed"] for r in of_direction if r["method"] == "fused"}
    return [r for r in of_direction if r["seed"] in seeds]


def pairs_needed(dataset: str, records: list[Record]) -> list[Record]:
    """Find, for each number of pairs of ridge, where the fused curve first reaches ridge's r."""
    of_direction = records_to_brain(dataset, records)
    (n_ridge, ridge), (n_fused, fused) = mean_curve(of_direction, "ridge"), mean_curve(of_direction, "fused")
    share = {r["n_pairs"]: r["share"] for r in of_direction}
    rows = []
    for n, r in zip(n_ridge.tolist(), ridge.tolist(), strict=True):
        reaching = np.flatnonzero(fused >= r)
        row: Record = {
            "dataset": dataset,
            "ridge_pairs": n,
            "ridge_r": float(r),
            "share": share[n],
            "fused_pairs": None,
        }
        if not len(reaching):
            rows.append({**row, "shown": f"more than {n_fused[-1]}", "factor": "n/a"})
            continue
        k = int(reaching[0])
        if k == 0:
            rows.append({**row, "shown": f"at most {n_fused[0]}", "factor": f"at least {n / n_fused[0]:.1f}"})
            continue
        fraction = (r - fused[k - 1]) / (fused[k] - fused[k - 1])
        needed = float(np.exp(np.log(n_fused[k - 1]) + fraction * np.log(n_fused[k] / n_fused[k - 1])))
        rows.append({**row, "fused_pairs": needed, "shown": f"{needed:.0f}", "factor": f"{n / needed:.1f}"})
    return rows


def per_count(records: list[Record], counts: list[int], value: str) -> list[str]:
    """Format the mean at each number of pairs."""
    return [f"{np.mean([r[value] for r in select_records(records, n_pairs=n)]):.3f}" for n in counts]


def matched_cells(
    records: list[Record], first: str, second: str, value: str, direction: str | None = None
) -> list[tuple[Record, float, float]]:
    """Match the cells (dataset, direction, pairs, seed) of two methods."""

    def key(record: Record) -> tuple[Any, ...]:
        return record["dataset"], record["direction"], record["n_pairs"], record["seed"]

    second_records = {key(r): r for r in select_records(records, method=second)}
    return [
        (r, r[value], second_records[key(r)][value])
        for r in select_records(records, method=first)
        if key(r) in second_records and r.get(value) is not None and direction in (None, r["direction"])
    ]


def means_by_cell(matched: list[tuple[Record, float, float]]) -> dict[tuple[str, str, int], tuple[float, float]]:
    """Return the means over seeds of both methods, by dataset, direction and number of pairs."""
    groups: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    for record, first_value, second_value in matched:
        groups.setdefault((record["dataset"], record["direction"], record["n_pairs"]), []).append(
            (first_value, second_value)
        )
    return {key: (float(np.mean([a for a, _ in v])), float(np.mean([b for _, b in v]))) for key, v in groups.items()}


def against_ridge(scored: list[Record]) -> Record:
    """Judge whether the fused bridge predicts better than ridge."""
    results = matched_cells(scored, "fused", "ridge", "r")
    by_cell = means_by_cell(results)
    n_wins = sum(a > b for a, b in by_cell.values())
    with_interval = [r for r, _, _ in results if "over_ridge_low" in r]
    n_above, n_below = (
        sum(r["over_ridge_low"] > 0 for r in with_interval),
        sum(r["over_ridge_high"] < 0 for r in with_interval),
    )
    worst_cell = min(by_cell.items(), key=lambda item: item[1][0] - item[1][1])
    return {
        "claim": "The fused bridge predicts held-out stimuli better than ridge on the same pairs",
        "verdict": verdict(n_wins, len(by_cell)),
        "evidence": f"mean r above ridge's in {n_wins} of {len(by_cell)} cells (dataset, direction, pairs); to the "
        f"brain, the bootstrap interval over held-out stimuli is above 0 in {n_above} and below in {n_below} of "
        f"{len(with_interval)} draws; worst cell {worst_cell[0]}: {worst_cell[1][0]:.3f} against "
        f"{worst_cell[1][1]:.3f}. Rule: all cells hold, half or more in part. Figure: brain_model.png",
    }


def few_pairs(scored: list[Record]) -> Record:
    """Judge whether a fifth of the images as pairs is enough."""
    shares = []
    for dataset in dict.fromkeys(r["dataset"] for r in scored):
        of_dataset = records_to_brain(dataset, scored)
        best = np.mean([r["r"] for r in of_dataset if r["n_pairs"] == max(o["n_pairs"] for o in of_dataset)])
        shares.append(
            (
                dataset,
                float(
                    np.mean([r["r"] for r in of_dataset if r["method"] == "fused" and r["share"] == 0.2] or [0]) / best
                ),
            )
        )
    n_met = sum(share >= 0.9 for _, share in shares)
    return {
        "claim": "A fifth of the images as pairs gives the predictivity of all of them",
        "verdict": verdict(n_met, len(shares)),
        "evidence": "fused with 20 % of the images as pairs, as a share of the r of ridge with all training images as pairs: "
        + ", ".join(f"{name} {share:.3f}" for name, share in shares)
        + ". Rule: at least .9 on all holds, on half or more in part. Figure: brain_model.png",
    }


def frozen_heads(scored: list[Record]) -> Record:
    """Judge whether frozen readouts read transported stimuli."""
    decoded = [r for r in scored if r["method"] == "fused" and "accuracy" in r]
    n_above = sum(r["accuracy"] > r["accuracy_null_95"] for r in decoded)
    means = means_by_cell(matched_cells(scored, "fused", "ridge", "accuracy"))
    n_wins = sum(a >= b for a, b in means.values())
    return {
        "claim": "A frozen readout of one space reads the stimuli transported from the other",
        "verdict": verdict(n_above, len(decoded)),
        "evidence": f"accuracy above the 95 % quantile of the null in {n_above} of {len(decoded)} fused draws; at "
        f"least that of ridge in {n_wins} of {len(means)} cells. "
        "Rule: above chance in all holds, in half or more in part. Figure: decoding.png",
    }


def flow_claim(scored: list[Record]) -> Record:
    """Judge whether flows transport as well as the barycentric map."""
    means = means_by_cell(matched_cells(scored, "fused-flow", "fused", "r"))
    n_wins = sum(a >= b for a, b in means.values())
    return {
        "claim": "Flow matching on the coupling transports at least as well as the barycentric map",
        "verdict": verdict(n_wins, len(means)),
        "evidence": "fused-flow against fused, r: "
        + "; ".join(f"{d}, {direction}, {n} pairs {a:.3f} / {b:.3f}" for (d, direction, n), (a, b) in means.items())
        + ". Rule: all cells hold, half or more in part",
    }


def answer(facts: dict[str, Record], scored: list[Record], needed_pairs: list[Record]) -> str:
    """Summarise model to brain in a paragraph."""
    parts = []
    for dataset, fact in facts.items():
        group = [r for r in records_to_brain(dataset, scored) if r["share"] == 0.2]
        fused, ridge = (mean_ci([r["r"] for r in select_records(group, method=name)])[0] for name in ("fused", "ridge"))
        needed = next((row for row in needed_pairs if row["dataset"] == dataset and row["share"] == 0.2), None)
        parts.append(
            f"{dataset_title(fact, dataset)}: with {group[0]['n_pairs']} pairs fused r {fused:.3f}, ridge {ridge:.3f}"
            + (f" (fused needs {needed['shown']} for ridge's)" if needed else "")
        )
    return "Model to brain, held-out stimuli. " + "; ".join(parts) + "."
