"""Differences of two methods, paired by seed, and corrected for their number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from neurobridge.evaluate.comparison.statistics import holm
from neurobridge.study.harness import Record, Run
from neurobridge.study.tables import mean_ci, select_records, verdict

#: Level of the corrected p values.
LEVEL = 0.05


def paired_differences(
    records: Sequence[Record], value: str, ours: str, rivals: Iterable[str], by: Sequence[str], pair: str = "seed"
) -> list[dict[str, Any]]:
    """Compare a method with others in every group, over the draws that both have.

    Parameters
    ----------
    records : sequence of dict
        With ``method``, `value`, `pair` and the fields of `by`.
    value : str
        Field that is compared; larger is better.
    ours : str
    rivals : iterable of str
    by : sequence of str
        Fields that make a group.
    pair : str
        Field that names the draw.

    Returns
    -------
    list of dict
        The fields of the group, ``rival``, ``mean`` of ours less the rival's, ``half`` of its 95 % Student interval, ``n``
        draws, ``p`` of the paired t test (two-sided; NaN for a single draw) and ``corrected``, by Holm over all of the list.
    """
    out = []
    groups = dict.fromkeys(tuple(record[name] for name in by) for record in records if record["method"] == ours)
    for group in groups:
        of_group = select_records(records, **dict(zip(by, group, strict=True)))
        our_values = {r[pair]: r[value] for r in of_group if r["method"] == ours and value in r}
        for rival in rivals:
            values = {r[pair]: r[value] for r in of_group if r["method"] == rival and value in r}
            draws = [key for key in our_values if key in values]
            if draws:
                differences = [our_values[key] - values[key] for key in draws]
                mean, half = mean_ci(differences)
                out.append({
                    **dict(zip(by, group, strict=True)), "rival": rival, "mean": mean, "half": half, "n": len(draws),
                    "p": t_test(differences),
                })  # fmt: skip
    tested = [k for k, each in enumerate(out) if np.isfinite(each["p"])]
    corrected = holm(np.array([out[k]["p"] for k in tested])) if tested else np.empty(0)
    for each in out:
        each["corrected"] = float("nan")
    for k, p_value in zip(tested, corrected, strict=True):
        out[k]["corrected"] = float(p_value)
    return out


def t_test(differences: Sequence[float]) -> float:
    """Return the two-sided p of the mean of paired differences; NaN for one, 1 where all are zero."""
    if len(differences) < 2:
        return float("nan")
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def format_difference(difference: dict[str, Any]) -> str:
    """Format a difference with its interval, and a star where its corrected p lies below .05."""
    half = "" if np.isnan(difference["half"]) else f" ± {difference['half']:.3f}"
    star = "*" if difference["corrected"] < LEVEL else ""
    return f"{difference['mean']:+.3f}{half}{star}"


def difference_table(
    title: str, differences: Sequence[dict[str, Any]], *, rows: str = "rival", columns: str = "n_pairs"
) -> dict[str, Any]:
    """Tabulate differences: a row a rival, a column a number of pairs."""
    across = sorted({each[columns] for each in differences})
    body = []
    for name in dict.fromkeys(each[rows] for each in differences):
        cells = {each[columns]: format_difference(each) for each in differences if each[rows] == name}
        body.append([name, *(cells.get(key, "n/a") for key in across)])
    return {"title": title, "columns": [rows, *map(str, across)], "rows": body}


def difference_tables(
    title: str, differences: Sequence[dict[str, Any]], split: str | None = "direction"
) -> list[dict[str, Any]]:
    """Tabulate differences, with the test in the title; a table for every value of a field, or one of all."""
    title = f"{title}; * p < .05, t test, Holm over {len(differences)} comparisons"
    if split is None:
        return [difference_table(title, differences)] if differences else []
    return [
        difference_table(f"{value}. {title}", [each for each in differences if each[split] == value])
        for value in dict.fromkeys(each[split] for each in differences)
    ]


def least_gains(
    differences: Sequence[dict[str, Any]], by: Sequence[str] = ("direction", "n_pairs")
) -> list[dict[str, Any]]:
    """Keep the rival of each group that ours is above by least."""
    groups = dict.fromkeys(tuple(each[name] for name in by) for each in differences)
    return [
        min(select_records(differences, **dict(zip(by, group, strict=True))), key=lambda each: each["mean"])
        for group in groups
    ]


def against(differences: Sequence[dict[str, Any]], *rivals: str) -> list[dict[str, Any]]:
    """Keep the differences to some rivals."""
    return [each for each in differences if each["rival"] in rivals]


def met_by(differences: Sequence[dict[str, Any]]) -> str:
    """Judge a claim by the share of comparisons in which ours is not below."""
    return verdict(sum(each["mean"] >= 0 for each in differences), len(differences))


def mean_of(records: list[Record], value: str = "accuracy", **wanted: Any) -> float:
    """Return the mean of a field over the records with the wanted fields; NaN without any."""
    values = [r[value] for r in select_records(records, **wanted)]
    return float(np.mean(values)) if values else float("nan")


def tally(differences: Sequence[dict[str, Any]]) -> str:
    """Count where ours is above and below, and where that survives the correction."""
    above = [each for each in differences if each["mean"] > 0]
    below = [each for each in differences if each["mean"] < 0]
    sure = [sum(each["corrected"] < LEVEL for each in side) for side in (above, below)]
    n_tested = sum(np.isfinite(each["p"]) for each in differences)
    gains = [each["mean"] for each in differences]
    size = f", by {np.median(gains):+.3f} at the median ({min(gains):+.3f} to {max(gains):+.3f})" if gains else ""
    return (
        f"above in {len(above)} and below in {len(below)} of {len(differences)} comparisons{size}; beyond chance after Holm's "
        f"correction in {sure[0]} and {sure[1]} of the {n_tested} with two draws or more"
    )


def negative_first(claims: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Sort claims: what does not hold, what holds in part, what holds; a claim without a comparison is left out."""
    order = ["does not hold here", "holds in part", "holds"]
    judged = [claim for claim in claims if not re.search(" of 0 (comparisons|draws)", claim["evidence"])]
    return sorted(judged, key=lambda claim: order.index(claim["verdict"]))


def what_ran(records: Sequence[Record]) -> str:
    """List the numbers of pairs at which each method ran, and with how many seeds."""
    by_method: dict[str, dict[int, set[int]]] = {}
    for record in records:
        by_method.setdefault(record["method"], {}).setdefault(record["n_pairs"], set()).add(record["seed"])
    methods: dict[str, list[str]] = {}
    for method, by_count in by_method.items():
        text = ", ".join(f"{n:,} ({len(seeds)})" for n, seeds in sorted(by_count.items()))
        methods.setdefault(text, []).append(method)
    return "; ".join(
        f"{' and '.join(names) if len(names) < 3 else ', '.join(names)}: {text}" for text, names in methods.items()
    )


def seeds_of(run: Run) -> str:
    """Describe the bars of a figure."""
    return (
        f"seed {run.seed}"
        if run.n_seeds == 1
        else f"seeds {run.seeds.start}-{run.seeds.stop - 1}, bars are their range"
    )


def caution(run: Run) -> str:
    """Say what a run of a single seed cannot tell; nothing of several seeds."""
    return " Measured with one seed: verdicts rest on single draws, without an interval." if run.n_seeds == 1 else ""
