"""Write the measured tables into docs/measured.md.

After `neurobridge demo --dataset NAME --seeds 3 --out results/NAME` for both real datasets:

    python analyses/readme_tables.py results/cowley2023-v4-210325 results/majajhong2015-it-v6

keeps each run's tables, settings and digests in docs/results/, draws its figures in docs/figures/ from them, and rewrites the
page's tables. Without folders, what was kept before is drawn and written again.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from analyses.parts.pages import markdown_table
from analyses.parts.pictures import save_png
from neurobridge import figures

mpl.use("Agg")

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs" / "results"
FIGURES = ROOT / "docs" / "figures"
PAGE = ROOT / "docs" / "measured.md"


def keep(folder: Path) -> None:
    """Copy what the documentation needs from a results folder."""
    results = json.loads((folder / "scores.json").read_text())
    name = results["run"]["dataset"]
    summary = {key: results[key] for key in ("title", "note", "tables", "ceiling", "run")}
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(summary, indent=1) + "\n")


def draw_decoding(name: str) -> None:
    """Draw the accuracies of a kept run at its largest share of pairs from its tables: means over seeds."""
    results = json.loads((KEPT / f"{name}.json").read_text())
    tables = [table for table in results["tables"] if table["title"].startswith("Decoding")]
    if not tables:
        return
    run = results["run"]
    axes = plt.subplots(1, len(tables), figsize=(14, 4.8), layout="constrained", squeeze=False)[1][0]
    for ax, table in zip(axes, tables, strict=True):
        *_, largest, _ = table["columns"]
        rows = [{"name": row[0], "accuracy": [float(row[-2])], "chance": float(row[-1])} for row in table["rows"]]
        label = table["title"].split()[1]
        figures.accuracies(rows, ax=ax, label=label, title=largest)
    for ax in axes[1:]:
        ax.set_yticks(ax.get_yticks(), labels=[])
    figures.shared_legend(axes)
    figures.panel_letters(axes)
    n = re.search(r"of (\d+) held-out", tables[0]["title"])
    axes[0].figure.supxlabel(_caption(name, n, run), fontsize="small")
    _save(axes[0].figure, f"{name}-decoding")


def _caption(name: str, n: re.Match[str] | None, run: dict) -> str:
    seeds = f"{run['seed']} to {run['seed'] + run['n_seeds'] - 1}"
    return f"{name} (real); n = {n[1] if n else '?'} held-out stimuli; mean over seeds {seeds}"


def _save(figure: Any, name: str) -> None:
    save_png(figure, FIGURES / f"{name}.png")


def draw_curve(name: str) -> None:
    """Draw the learning curve of a kept run from its table: means over seeds, as the table has no more."""
    results = json.loads((KEPT / f"{name}.json").read_text())
    (table,) = (table for table in results["tables"] if "by share (count)" in table["title"])
    columns, run = table["columns"], results["run"]
    shares = [k for k, column in enumerate(columns) if re.fullmatch(r"\d+% \(\d+\)", column)]
    counts = [int(re.search(r"\((\d+)\)", columns[k])[1]) for k in shares]  # type: ignore[index]
    axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)[1]
    for ax, direction in zip(axes, dict.fromkeys(row[0] for row in table["rows"]), strict=True):
        rows = [row for row in table["rows"] if row[0] == direction]
        ceiling = rows[0][columns.index("ceiling on r")]
        figures.learning_curve(
            {row[1]: (counts, [[float(row[k])] for k in shares]) for row in rows}, ax=ax, title=direction,
            ylabel="median Pearson r, held-out stimuli" if ax is axes[0] else "",
            null=max(float(row[columns.index("chance 95%")]) for row in rows),
            ceiling=None if ceiling == "n/a" else float(ceiling),
        )  # fmt: skip
    figures.shared_legend(axes)
    figures.panel_letters(axes)
    held_out = re.search(r"on (\d+) held-out", table["title"])
    axes[0].figure.supxlabel(_caption(name, held_out, run), fontsize="small")
    _save(axes[0].figure, f"{name}-learning_curve")


def markdown(results: dict) -> str:
    """Format the tables of one run, with what they were made from."""
    parts = []
    for table in results["tables"]:
        parts.append(f"**{table['title']}**\n\n{markdown_table(table['columns'], table['rows'])}")
    run = results["run"]
    digests = ", ".join(f"`{file}` {digest[:19]}…" for file, digest in run["digests"].items())
    ceiling = results["ceiling"]
    ceilings = (
        f"median reliability {ceiling['median']:.3f} over {ceiling['n']} sites"
        if ceiling
        else "no trials, so no ceiling"
    )
    parts.append(
        f"{results['note']} Files: {digests}. Ceiling: {ceilings}. Chance: 95th percentile (correlation) or mean (accuracy) of "
        f"{run['n_permutations']} permutations. Seeds {run['seed']} to {run['seed'] + run['n_seeds'] - 1}; "
        f"{run['seconds']:.0f} s, {run['peak_rss_gb']} GB peak on two cores."
    )
    return "\n\n".join(parts)


def with_tables(text: str) -> str:
    """Return the page's text with the tables of the kept results between its markers."""

    def fill(match: re.Match) -> str:
        results = json.loads((KEPT / f"{match[1]}.json").read_text())
        return f"<!-- results: {match[1]} -->\n{markdown(results)}\n<!-- end -->"

    return re.sub(r"<!-- results: (\S+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        keep(Path(argument))
    for kept in ("cowley2023-v4-210325", "majajhong2015-it-v6"):
        draw_curve(kept)
        draw_decoding(kept)
    PAGE.write_text(with_tables(PAGE.read_text()))
