"""The check of planned numbers of pairs as a section of a page."""

from __future__ import annotations

from typing import Any

from analyses.parts.pages import markdown_table

HEADS = [
    "pairs", "plans", "score held", "plain", "error of r", "pilot's last", "pairs held", "factor", "no upper bound",
]  # fmt: skip


def planned_pairs(results: dict[str, Any]) -> str:
    """Return the section of the page of benchmarks, from what `analyses/benchmarks/plan_pairs.py` kept."""
    widened, plain = (
        {row["multiple"]: row for row in results["summary"] if row["widened"] == flag} for flag in (True, False)
    )
    rows = []
    for multiple, row in widened.items():
        low, middle, high = ("unlimited" if factor is None else f"{factor:.1f}" for factor in row["factor"])
        rows.append([
            f"{multiple} x", f"{row['n']} ({row['sets']} sets)",
            f"{row['score_covered']:.2f}", f"{plain[multiple]['score_covered']:.2f}",
            f"{row['score_error']:.3f}", f"{row['as_if_flat']:.3f}", f"{row['pairs_covered']:.2f}",
            f"{middle} ({low} to {high})", f"{row['unlimited']:.2f}",
        ])  # fmt: skip
    needed = [
        [name, f"{each['n_stimuli']:,}", f"{each['curve']['mean'][-1]:.3f}",
         *(f"{number:.0f}" for number in each["needed"].values()), f"{each['exponent']:.2f}"]
        for name, each in results["sets"].items()
    ]  # fmt: skip
    seeds = results["seeds"]
    recorded = [r for r in results["records"] if r["widened"] and r["set"].startswith(("V4", "IT"))]
    held = {
        multiple: sum(r["low"] <= r["truth"] <= r["high"] for r in recorded if r["multiple"] == multiple)
        for multiple in widened
    }
    counts = {multiple: sum(r["multiple"] == multiple for r in recorded) for multiple in widened}
    on_recordings = ", ".join(f"{held[multiple]} of {counts[multiple]} at {multiple} x" for multiple in widened)
    return f"""## How many pairs: `plan_pairs` beside numbers of pairs that its pilot did not have

`analyses/benchmarks/plan_pairs.py --mirror DIR`

The sets are real, the aligner is ridge, and the seeds are {seeds[0]} to {seeds[-1]}. A pilot is an eighth or a quarter
of the stimuli of a set. The true score at two, four and eight times its pairs is the mean of twenty draws of the whole
set. The columns are:

- "score held": the share of plans whose 95 % interval contains the true score; "plain": the same share for a bootstrap
  of draws without widening;
- "error of r": the error of the planned score; "pilot's last": the error of assuming that the score with all pairs of
  the pilot stays the same;
- "pairs held": the share of plans whose 95 % interval contains the true number of pairs;
- "factor": the planned over the true number of pairs (median, and the 10 % and 90 % quantiles);
- "no upper bound": the share of plans whose interval of the number of pairs has no upper bound.

{markdown_table(HEADS, rows)}

The intervals contain the true value less often than they claim, although more often than the plain bootstrap. On V4
and IT alone they contained the score in {on_recordings}. The misses are curves that flatten faster than a power law
(MNIST, THINGS): there the planned score is too high. The table below gives a rule of thumb: with ridge, a few hundred
pairs reach nine tenths of the score of the whole set.

It shows the number of pairs with which ridge reaches a share of its score with four fifths of all stimuli paired, and
the exponent of the power law:

{markdown_table(["set", "stimuli", "r with all pairs", "half", "eight tenths", "nine tenths", "exponent"], needed)}

![Pairs needed on every set, and errors of the plans](figures/plan_pairs.png)
"""
