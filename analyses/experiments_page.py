"""Write docs/experiments.md and docs/findings.md from the kept results of the experiments.

    python analyses/experiments_page.py [--draw NAME ...] [--mirror DIR]

``--draw`` also draws the figures of an experiment again from its kept records; scores.json stays as it is. The contact sheet of
`generation` shows images that only a run makes, and is left as it was.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from analyses.parts.pages import markdown_table
from analyses.parts.script import run_script
from neurobridge.study import Run

ROOT = Path(__file__).resolve().parents[1]
KEPT, DOCS = ROOT / "docs" / "results", ROOT / "docs"
#: Experiment -> its question, in the order of the pages.
QUESTIONS = {
    "image_text": "Do digits find their captions from few pairs?",
    "generation": "Do captions become the digits they name?",
    "retrieval": "Do natural images and captions find each other?",
    "modalities": "Do images, spoken words and captions of digits find each other?",
    "natural_images": "Do a real deep network's features find captions and names?",
    "brain_model": "How many paired images does a lab need to align a brain and a model?",
    "ablations": "What does each part of the method contribute?",
    "overlap": "Does more overlap of two spaces go with better alignment?",
    "disentanglement": "Do disentangled latents align better?",
    "no_anchors": "Can two spaces be aligned without any pair?",
    "no_pair": "When does alignment without a pair work, and does its verdict know?",
    "scale": "Does it hold at 1.28 million points?",
    "supervised": "Who wins when most images are paired?",
}
#: Answers and verdicts of version 0.1, whose runs had the aligner of that version.
BEFORE = "verdicts_0_1.json"
EXPERIMENTS_HEAD = """# Experiments

This page is for readers who want to check a verdict of the [findings](findings.md). After reading it you will know how
the verdict was reached, from which figures and tables, and with which command you can repeat the experiment.

Each experiment is a script of `analyses/experiments/`. To repeat one:

1. Run `neurobridge run NAME --quick`. This small version shows that the code runs; it supports no claim.
2. Run `neurobridge run NAME` for the full version, or `neurobridge run --all` for all experiments. An interrupted run
   continues where it stopped, and the same seed gives the same numbers. `--jobs N` computes N cells at a time.

Once features are cached, the cells of all experiments take {hours:.1f} hours on one thread; with `--jobs 2` on two cores they take
about half of it by the clock. Measured so: ablations 11 minutes, brain and model 9, generation 10, images and captions 23,
natural images 19, no pair 7, retrieval 12, scale 24, supervised 26 (three seeds).

The tables and figures below are of the full version. `docs/results/NAME/scores.json` holds every record behind them.
Click a title to unfold its table.
"""
FINDINGS_HEAD = """# Findings

This page is for readers who ask which claims hold. After reading it you will know the verdict on each claim of the
paper about bridges (Gholamzadeh & Sajid 2025), and on each claim that we added to it.

Every claim was measured beside the baselines that could beat it. The verdict follows from the records by a rule that
the script of the experiment states, and it holds for these data only. Figures and tables are among the
[experiments](experiments.md).
"""
#: Written by hand from the verdicts below: read it again when an experiment has run again.
IN_SHORT = """## In short

**What does not hold.**

- When most stimuli are paired, little is left to gain. With all labels a network trained end to end on shifted images
  names digits best ([many pairs](#who-wins-when-most-images-are-paired)), and with half the images of a recording as pairs
  the fused bridge gains -.002 to +.016 of correlation on ridge regression
  ([recordings](#how-many-paired-images-does-a-lab-need-to-align-a-brain-and-a-model)).
- A fifth of the images as pairs is not as good as all of them: it gives .84 to .94 of the correlation.
- Transport of all points alone, as the paper proposes it, is better than a smooth map of the pairs in fewer than half of
  the comparisons; geodesic distances are no better than Euclidean ones; one wrong pair in five costs accuracy
  ([parts of the method](#what-does-each-part-of-the-method-contribute)).
- A hundred pairs do not join spoken digits to captions and images as well as all labels do, and the labels of the same
  pairs, used directly, are better ([sounds](#do-images-spoken-words-and-captions-of-digits-find-each-other)).
- Without any pair, two groups of people who judged the same objects align. Captions and images hardly do (.08 to .18 of the
  partners among the first ten of 400, chance .025), halves of a V4 recording do not, and halves of an IT recording did in
  one of three draws. A verdict of trust was right every time, but not every alignment that worked was trusted
  ([no pair](#when-does-alignment-without-a-pair-work-and-does-its-verdict-know)).
- Latents that are disentangled align better in part of the comparisons, but not for that reason: turning their axes
  changes nothing ([disentanglement](#do-disentangled-latents-align-better)).

**What works, and from how many pairs.**

- *Recordings and models.* On real V4 and IT with 32 to 128 of 640 images as pairs the fused bridge correlates better with
  held-out responses than ridge on the same pairs, by up to .04: it needs 17 to 21 pairs for what ridge reaches with 32, and
  97 to 124 for what ridge reaches with 128. With five pairs only the sites of the same recording are predicted well (.51).
- *Images of digits and captions.* Twenty captions name .93 of the digits, a hundred .97; a network trained on the same
  labels names .48 and .77, and .67 and .94 with shifted images.
- *Photographs and captions.* With twenty pairs .44 of the partners are among the first ten of 200, with a hundred .70
  (chance .05; the best baseline .33 and .56).
- *Names of classes that were never paired.* With 200 paired ImageNet classes .29 of the unseen names are among the first
  ten of 200 (the best baseline .20, ridge .09, chance .05).

**Where ridge is enough.** For recordings, from about half the images on. On six real sets ridge regression reaches nine
tenths of its own score on all pairs with 92 to 470 of them
([rule of thumb](benchmarks.md#how-many-pairs-plan_pairs-beside-numbers-of-pairs-that-its-pilot-did-not-have)). Where
partners or names are sought, other maps are better with hundreds of pairs, too.

**What the paper's claims are worth.** Few pairs suffice against training end to end: true for images of digits and for
natural images; for spoken digits true of sounds and captions from a hundred pairs on. Transport of all points improves on
the pairs: true of the fused bridge, not of transport alone. Unbalanced transport withstands unequal classes and outliers:
true if its weight is small (.03). Spaces that overlap more align better: true of 32 pairs of real encoders. Geodesic
distances are better: not in general; they are at a million points and a hundred pairs (one draw). The pairs alone fail at a
million points: they do not.
"""
CHANGES_HEAD = """## What changed since version 0.1

The aligner of version 0.2 has map families and a criterion, and new baselines stand beside it (self-trained, whitened and
spectral maps, fused unbalanced Gromov-Wasserstein)."""


def kept_results(name: str) -> dict[str, Any] | None:
    """Read the kept results of an experiment; None where there are none."""
    path = KEPT / name / "scores.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _figure(name: str, figure: dict[str, str]) -> str:
    return f"![{figure['caption']}](results/{name}/{figure['file']})\n\n*{figure['caption']}*"


def _run_text(results: dict[str, Any]) -> str:
    run = results["run"]
    seeds = (
        f"seed {run['seed']}" if run["n_seeds"] == 1 else f"seeds {run['seed']} to {run['seed'] + run['n_seeds'] - 1}"
    )
    return (
        f"The run used {seeds}. Its cells took {run['seconds'] / 60:.0f} minutes together, each on one thread, and at most "
        f"{run['peak_rss_gb']:.2g} GB of memory."
    )


def _digest_lines(results: dict[str, Any]) -> str:
    digests = results.get("digests") or {}
    return "".join(f"\n- `{name}`: `{digest}`" for name, digest in digests.items())


def _unfolding(summary: str, text: str) -> str:
    """Return text that is shown when its summary is clicked, on the site and in a repository's viewer."""
    return f"<details>\n<summary>{summary}</summary>\n\n{text}\n\n</details>"


def experiments() -> str:
    """Return the text of docs/experiments.md."""
    kept = {name: results for name in QUESTIONS if (results := kept_results(name)) is not None}
    seconds = [results["run"]["seconds"] for results in kept.values()]
    parts = [EXPERIMENTS_HEAD.format(hours=sum(seconds) / 3600).strip()]
    for name, results in kept.items():
        question = QUESTIONS[name]
        parts += [f"## {question}", f"`neurobridge run {name}`: {results['title']}. {_run_text(results)}"]
        parts += ["\n".join(f"- **{claim['verdict']}**: {claim['claim']}." for claim in results["claims"])]
        parts += [_figure(name, figure) for figure in results.get("figures", [])]
        parts += [_unfolding("How it was measured", results["note"])]
        parts += [
            _unfolding(table["title"], markdown_table(table["columns"], table["rows"])) for table in results["tables"]
        ]
        data = _digest_lines(results)
        parts += [_unfolding("Data files and their digests", data.strip())] if data else []
    return "\n\n".join(parts) + "\n"


def is_before(results: dict[str, Any]) -> bool:
    """Tell whether results are those of version 0.1."""
    return bool(results["run"]["neurobridge"] == "0.1.0")


def changes(before: dict[str, Any], results: dict[str, Any]) -> list[str]:
    """Name the verdicts that differ from those of version 0.1, and the claims that it did not judge."""
    verdicts = {claim["claim"]: claim["verdict"] for claim in before["claims"]}
    lines = []
    for claim in results["claims"]:
        last = verdicts.get(claim["claim"])
        if last is None:
            lines.append(f"- {claim['claim']}: **{claim['verdict']}** (not judged before).")
        elif last != claim["verdict"]:
            lines.append(f"- {claim['claim']}: **{claim['verdict']}** (before: {last}).")
    return lines or ["- No verdict changed."]


def since_before(before: dict[str, Any]) -> str:
    """Return the section on what changed since version 0.1, for the experiments that both versions ran."""
    parts, old = [], []
    for name, question in QUESTIONS.items():
        if (results := kept_results(name)) is None:
            continue
        if is_before(results):
            old.append(f"`{name}`")
        elif name in before:
            parts += [f"**{question}**", "\n".join(changes(before[name], results))]
    left = f" Not measured again, with the aligner of version 0.1: {', '.join(old)}." if old else ""
    return "\n\n".join([f"{CHANGES_HEAD}{left} Verdicts that differ:", *parts])


def findings() -> str:
    """Return the text of docs/findings.md."""
    before = json.loads((KEPT / BEFORE).read_text(encoding="utf-8"))
    parts = [FINDINGS_HEAD.strip(), IN_SHORT.strip()]
    for name, question in QUESTIONS.items():
        if (results := kept_results(name)) is None:
            parts += [f"## {question}", "Not measured yet."]
            continue
        figures = ", ".join(
            f"[{figure['file']}](results/{name}/{figure['file']})" for figure in results.get("figures", [])
        )
        lines = [f"- **{claim['verdict']}**: {claim['claim']}." for claim in results["claims"]]
        evidence = [f"{k}. {claim['claim']}: {claim['evidence']}" for k, claim in enumerate(results["claims"], start=1)]
        parts += [f"## {question}", results["answer"], "\n".join(lines)]
        parts += [_unfolding("Rules and evidence", "\n".join(evidence))]
        if name in before and not is_before(results):
            parts += [_unfolding("What version 0.1 measured", before[name]["answer"])]
        parts += [f"Figures: {figures}."]
    return "\n\n".join([*parts, since_before(before)]) + "\n"


PAGES = {"experiments.md": experiments, "findings.md": findings}


def draw_again(name: str, mirror: Path | None) -> list[str]:
    """Draw the figures of one experiment from its records, and return their files."""
    import matplotlib as mpl

    mpl.use("Agg")
    study: Any = importlib.import_module(f"analyses.experiments.{name}").STUDY
    results = json.loads((KEPT / name / "scores.json").read_text(encoding="utf-8"))
    facts = results["run"]
    run = Run(quick=facts["quick"], seed=facts["seed"], n_seeds=facts["n_seeds"], out=KEPT / name, mirror=mirror)
    try:
        study.finish(run, results["records"])
    except FileNotFoundError as error:
        print(f"{name}: not drawn, for {error.filename} is kept by a run alone")
    # Pages show the PNG.
    for suffix in ("svg", "pdf"):
        for file in run.out.glob(f"*.{suffix}"):
            file.unlink()
    return sorted(file.name for file in run.out.glob("*.png"))


def main(
    draw: Annotated[list[str] | None, typer.Option("--draw", help="Experiments whose figures are drawn again.")] = None,
    mirror: Annotated[Path | None, typer.Option("--mirror", help="Folder with the real data files.")] = None,
) -> None:
    for name in draw or ():
        print(name, ", ".join(draw_again(name, mirror)))
    for file, page in PAGES.items():
        (DOCS / file).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    run_script(main, __doc__)
