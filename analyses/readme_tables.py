"""Write the measured tables into README.md.

After `neurobridge demo --dataset NAME --seeds 3 --out results/NAME` for both real datasets:

    python analyses/readme_tables.py results/cowley2023-v4-210325 results/majajhong2015-it-v6

keeps each run's tables, settings and digests in docs/results/, its figures in docs/figures/, and
rewrites the README's tables from what is kept. Without folders, only the README is rewritten.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from analyses.parts.pages import markdown_table

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs" / "results"
FIGURES = ROOT / "docs" / "figures"


def keep(folder: Path) -> None:
    """Copy what the documentation needs from a results folder."""
    results = json.loads((folder / "scores.json").read_text())
    name = results["run"]["dataset"]
    summary = {key: results[key] for key in ("title", "note", "tables", "ceiling", "run")}
    KEPT.mkdir(parents=True, exist_ok=True)
    FIGURES.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(summary, indent=1) + "\n")
    for figure in ("learning_curve", "decoding", "sites"):
        if (folder / f"{figure}.png").exists():
            shutil.copy(folder / f"{figure}.png", FIGURES / f"{name}-{figure}.png")


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
    """Return the README's text with the tables of the kept results between its markers."""

    def fill(match: re.Match) -> str:
        results = json.loads((KEPT / f"{match[1]}.json").read_text())
        return f"<!-- results: {match[1]} -->\n{markdown(results)}\n<!-- end -->"

    return re.sub(r"<!-- results: (\S+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        keep(Path(argument))
    readme = ROOT / "README.md"
    readme.write_text(with_tables(readme.read_text()))
