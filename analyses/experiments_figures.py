"""Draw the figures of docs/experiments.md again from the kept records of the experiments.

    python analyses/experiments_figures.py [NAME ...] --mirror DIR

Nothing is computed anew; scores.json stays as it is. The contact sheet of `generation` shows images that only a run makes, and is
left as it was without them.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import typer

from analyses.experiments_page import KEPT, QUESTIONS
from analyses.parts.script import run_script
from neurobridge.study import Run

mpl.use("Agg")


def draw_again(name: str, mirror: Path | None) -> list[str]:
    """Draw the figures of one experiment from its records, and return their files."""
    study: Any = importlib.import_module(f"analyses.experiments.{name}").STUDY
    results = json.loads((KEPT / name / "scores.json").read_text(encoding="utf-8"))
    facts = results["run"]
    run = Run(
        quick=facts["quick"], seed=facts["seed"], n_seeds=facts["n_seeds"], out=KEPT / name, mirror=mirror
    )  # fmt: skip
    try:
        study.finish(run, results["records"])
    except FileNotFoundError as error:
        print(f"{name}: not drawn, for {error.filename} is kept by a run alone")
    for suffix in ("svg", "pdf"):
        for file in run.out.glob(f"*.{suffix}"):
            file.unlink()
    return sorted(file.name for file in run.out.glob("*.png"))


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Experiments; all by default.")] = None,
    mirror: Annotated[Path | None, typer.Option("--mirror", help="Folder with the real data files.")] = None,
) -> None:
    for name in names or QUESTIONS:
        print(name, ", ".join(draw_again(name, mirror)))


if __name__ == "__main__":
    run_script(main, __doc__)
