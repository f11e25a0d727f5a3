"""Tables of alignment quality: means over seeds, paired differences, and their page in markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from analyses.parts.pages import markdown_table
from neurobridge.evaluate.curves.learning import interval

Record = dict[str, Any]
Row = dict[str, Any]


def mean_and_half(values: Sequence[float]) -> dict[str, float]:
    """Return the mean and half the width of its 95 % Student interval over seeds (NaN for a single seed)."""
    array = np.asarray(values, dtype=float)
    return {"mean": float(array.mean()), "ci95": float(interval(array))}


def table_rows(
    records: Sequence[Record],
    measures: Mapping[str, Mapping[str, str]],
    *,
    ours: Mapping[str, str | None],
    controls: Sequence[str] = (),
) -> list[Row]:
    """Make a row for each set, measure and number of pairs.

    Parameters
    ----------
    records : sequence of dict
        With ``set``, ``n_pairs``, ``seed``, ``method``, ``scores``, ``null`` and ``n_test``.
    measures : mapping of str to mapping of str to str
        Set -> measure -> criterion.
    ours : mapping of str to str or None
        Methods of this package and the criterion they choose by.
    controls : sequence of str
        Methods that no method is compared with.

    Returns
    -------
    list of dict
        ``means`` of every method; ``rival``, the best of the other methods by its mean over the seeds that all of them have;
        ``differences`` of ours to it, paired by seed; ``judged``, that of ours whose criterion is the measure's; ``verdict``:
        "best" where its paired interval lies above 0, "level" where the interval holds 0, "below" else.
    """
    rows = []
    for name, measure, criterion, n_pairs in _row_keys(records, measures):
        group = [r for r in records if r["set"] == name and r["n_pairs"] == n_pairs and "scores" in r]
        values: dict[str, dict[int, float]] = {}
        for record in group:
            values.setdefault(record["method"], {})[record["seed"]] = record["scores"][measure]
        seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
        # A method without all seeds is shown and not compared.
        whole = {method for method, by_seed in values.items() if len(by_seed) == len(seeds)}
        others = [method for method in values if method in whole and method not in ours and method not in controls]
        means = {method: mean_and_half(list(by_seed.values())) for method, by_seed in values.items()}
        rival = max(others, key=lambda method: means[method]["mean"], default=None)
        differences = (
            {}
            if rival is None
            else {
                method: mean_and_half([values[method][seed] - values[rival][seed] for seed in seeds])
                for method in values
                if method in ours and method in whole
            }
        )
        judged = _judged(criterion, [method for method in values if method in whole], ours)
        rows.append({
            "set": name, "measure": measure, "criterion": criterion, "n_pairs": n_pairs, "seeds": seeds,
            "n_test": group[0]["n_test"], "means": means,
            "n_seeds": {method: len(by_seed) for method, by_seed in values.items()},
            "null": float(np.mean([record["null"][measure] for record in group])),
            "rival": rival, "differences": differences, "judged": judged,
            "verdict": verdict(differences[judged]) if judged in differences else None,
        })  # fmt: skip
    return rows


def _row_keys(records: Sequence[Record], measures: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str, str, int]]:
    return [
        (name, measure, criterion, n_pairs)
        for name in measures
        for measure, criterion in measures[name].items()
        for n_pairs in sorted({r["n_pairs"] for r in records if r["set"] == name and "scores" in r})
    ]


def _judged(criterion: str, methods: Sequence[str], ours: Mapping[str, str | None]) -> str | None:
    """Return the method of ours that chooses by a criterion, else the one that chooses by default."""
    chosen_by = {ours[method]: method for method in methods if ours.get(method) is not None}
    return chosen_by.get(criterion, chosen_by.get("correlation", next((m for m in methods if m in ours), None)))


def verdict(difference: Mapping[str, float]) -> str:
    """Judge a paired difference by its 95 % interval; with one seed by its sign alone."""
    half = float(np.nan_to_num(difference["ci95"]))
    return "best" if difference["mean"] > half else "below" if difference["mean"] < -half else "level"


def steps(records: Sequence[Record], measures: Mapping[str, Mapping[str, str]]) -> list[Row]:
    """Compare each number of pairs with the next larger one, method by method, paired by seed.

    With one seed the pairs of a smaller number are among those of a larger one. ``falls``: the whole paired 95 % interval of the
    change lies below 0.
    """
    rows = []
    for name in measures:
        measure = next(iter(measures[name]))
        group = [r for r in records if r["set"] == name and "scores" in r]
        for method in dict.fromkeys(r["method"] for r in group):
            values: dict[int, dict[int, float]] = {}
            for record in group:
                if record["method"] == method:
                    values.setdefault(record["n_pairs"], {})[record["seed"]] = record["scores"][measure]
            for fewer, more in pairwise(sorted(values)):
                seeds = sorted(set(values[fewer]) & set(values[more]))
                if len(seeds) > 1:
                    change = mean_and_half([values[more][seed] - values[fewer][seed] for seed in seeds])
                    rows.append({
                        "set": name, "measure": measure, "method": method, "from": fewer, "to": more, **change,
                        "n_seeds": len(seeds), "falls": change["mean"] < -change["ci95"],
                    })  # fmt: skip
    return rows


def seconds_of(records: Sequence[Record]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the median processor seconds and peak memory of each method, by set."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for name in dict.fromkeys(r["set"] for r in records):
        for method in dict.fromkeys(r["method"] for r in records if r["set"] == name):
            group = [r for r in records if r["set"] == name and r["method"] == method and "scores" in r]
            if group:
                peaks = [r["peak_rss_gb"] for r in group if r["peak_rss_gb"] is not None]
                out.setdefault(name, {})[method] = {
                    "seconds": float(np.median([r["seconds"] for r in group])),
                    "peak_rss_gb": float(max(peaks)) if peaks else float("nan"),
                }
    return out


def format_cell(cell: Mapping[str, float] | None, *, best: bool = False, signed: bool = False) -> str:
    """Format a mean and half the width of its interval."""
    if cell is None:
        return "n/a"
    half = "" if np.isnan(cell["ci95"]) else f" ± {cell['ci95']:.3f}"
    text = f"{cell['mean']:{'+' if signed else ''}.3f}"
    return f"**{text}**{half}" if best else f"{text}{half}"


def markdown(results: Mapping[str, Any]) -> str:
    """Write the tables of kept results: methods down, numbers of pairs across, then the judged differences."""
    parts = []
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in results["rows"]:
        groups.setdefault((row["set"], row["measure"]), []).append(row)
    for (name, measure), rows in groups.items():
        columns = ["method", *(f"{row['n_pairs']} pairs" if row["n_pairs"] else "no pair" for row in rows)]
        methods = list(dict.fromkeys(method for row in rows for method in row["means"]))
        lines = []
        for method in methods:
            cells = []
            for row in rows:
                shown = {m: c["mean"] for m, c in row["means"].items()}
                best = method in shown and shown[method] == max(shown.values())
                few = row["n_seeds"].get(method, 0) < len(row["seeds"])
                cells.append(
                    format_cell(row["means"].get(method), best=best)
                    + (f" ({row['n_seeds'][method]} seeds)" if few and method in row["means"] else "")
                )
            lines.append([method, *cells])
        lines.append(["chance (partners permuted)", *(f"{row['null']:.3f}" for row in rows)])
        for method in dict.fromkeys(method for row in rows for method in row["differences"]):
            lines.append([
                f"{method} less the best other",
                *(
                    f"{format_cell(row['differences'].get(method), signed=True)} ({row['rival']})"
                    + (f": {row['verdict']}" if method == row["judged"] else "")
                    for row in rows
                ),
            ])  # fmt: skip
        title = f"**{results['titles'][name]}: {measure}** (n = {rows[0]['n_test']:,} held out; criterion {rows[0]['criterion']})"
        parts.append(f"{title}\n\n{markdown_table(columns, lines)}")
    return "\n\n".join([*parts, *_closing(results)])


def _closing(results: Mapping[str, Any]) -> list[str]:
    judged = [row for row in results["rows"] if row["verdict"]]
    counts = {name: sum(row["verdict"] == name for row in judged) for name in ("best", "level", "below")}
    below = [
        f"{row['set']}, {row['measure']}, {row['n_pairs']} pairs ({format_cell(row['differences'][row['judged']], signed=True)} "
        f"to {row['rival']})"
        for row in judged
        if row["verdict"] == "below"
    ]
    falls = [
        f"{step['method']} on {step['set']}, {step['from']} to {step['to']} pairs "
        f"({format_cell({'mean': step['mean'], 'ci95': step['ci95']}, signed=True)})"
        for step in results["steps"]
        if step["falls"] and step["method"] in results["ours"]
    ]
    parts = [
        f"There are {len(judged)} cells. BridgeAligner with the criterion of the measure has a higher score than the best other "
        f"method in {counts['best']} cells, a score that the paired 95 % interval over seeds does not distinguish from it in "
        f"{counts['level']}, and a lower score in {counts['below']}. The best other method is chosen on the same seeds, which "
        "favours it." + (f" The score is lower for {'; '.join(below)}." if below else ""),
        "With one seed, the pairs of a smaller number are among those of a larger number. "
        + (
            f"From one number to the next, the score falls by more than its paired interval for {'; '.join(falls)}."
            if falls
            else "No method of ours loses score, beyond the paired interval, as pairs are added."
        ),
    ]
    methods = list(dict.fromkeys(method for by_method in results["seconds"].values() for method in by_method))
    lines = [
        [
            method,
            *(
                f"{cells[method]['seconds']:.1f} / {cells[method]['peak_rss_gb']:.2f}" if method in cells else "n/a"
                for cells in results["seconds"].values()
            ),
        ]
        for method in methods
    ]
    parts.append(
        "The next table gives the processor seconds of a fit with its maps (median over pairs and seeds, one thread) and the peak "
        "memory of the process (GB):\n\n" + markdown_table(["method", *results["seconds"]], lines)
    )
    parts.append(f"Versions measured: {', '.join(results['versions'])}.")
    if results["errors"]:
        parts.append("Not done: " + "; ".join(f"{text} ({count})" for text, count in results["errors"].items()) + ".")
    return parts
