"""Ablations: every part of the method taken out or replaced, one at a time.

There are two settings of real data.

- Images and text: MNIST under a frozen encoder trained without labels, 2,000 images beside 2,000
  embedded captions. Held-out test digits are named by a head that was trained on captions alone.
- Sites: half of the real IT sites predicts the other half; the score is the median r of 128
  held-out stimuli.

100 pairs are known unless stated otherwise. The default is the bridge as the other experiments run
it: geodesic distances, softmin, factored transport, balanced, epsilon .05, read by the plan's own
formula. Couplings without such a formula are compared through one readout, kernel ridge from
points to their mean partners, and with the default through the same readout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurobridge.bridge import couple, kernel_map
from neurobridge.datasets import load
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.tables import format_mean, over_seeds, select_records

from .parts.ablations.claims import answer, claims
from .parts.ablations.design import (
    BALANCED,
    DEFAULT,
    DENSE,
    EPSILONS,
    KERNEL,
    LABELS,
    METRICS,
    MIN,
    N_PAIRS,
    N_SLOW,
    NOISE,
    NOISE_FUSED,
    OUTLIERS,
    PARTS,
    RATIOS,
    RHOS,
    SETTINGS,
    SWEEPS,
    WEAK,
)
from .parts.ablations.figures import draw_parts, draw_sweeps
from .parts.ablations.gains import by_seed, gain, signed, swept
from .parts.ablations.problems import (
    ENCODER,
    IMAGES,
    SITES,
    Problem,
    ceilings,
    cost_of,
    draw_problem,
    it_sites,
    score_flows,
    score_fused,
    score_kernel_readout,
    score_mean_partner,
    score_ridge,
)
from .parts.mnist import digits


def cells(run: Run) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    levels: dict[str, Sequence[float]] = {"n_pairs": N_PAIRS, "noise": NOISE, "ratio": RATIOS, "outliers": (OUTLIERS,)}
    if run.quick:
        levels = {"n_pairs": (20, 40), "noise": (0.0, 0.2), "ratio": (1.0, 5.0), "outliers": (OUTLIERS,)}
    for setting in SETTINGS:
        for seed_index, seed in enumerate(run.seeds):
            shared: dict[str, Any] = {"setting": setting, "seed": seed}
            out += [{**shared, "group": name} for name in ("parts", "epsilon")]
            out += [{**shared, "group": name, "level": level} for name, values in levels.items() for level in values]
            if seed_index < N_SLOW or setting == SITES:
                out += [{**shared, "group": name} for name in ("dense", "flows", "fused")]
                out += [
                    {**shared, "group": "fused", "level": level} for level in NOISE_FUSED if level in levels["noise"]
                ]
    return out


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    group, level = cell["group"], cell.get("level", 0.0)
    options: dict[str, Any] = {"n_pairs": 40} if run.quick else {}
    if group in ("n_pairs", "noise", "ratio", "outliers"):
        options[group] = int(level) if group == "n_pairs" else level
    elif group == "fused":
        options["noise"] = level
    problem = draw_problem(run, cell["setting"], cell["seed"], **options)
    by_part = GROUPS[group](run, problem, cell)
    return [{**cell, "level": level, "part": part, **record} for part, record in by_part.items()]


def cheap_parts(run: Run, problem: Problem, cell: dict[str, Any]) -> dict[str, Record]:
    """Score the parts that are cheap, all on the default's data."""
    seed, cost = cell["seed"], cost_of(problem)
    by_part = {DEFAULT: score_mean_partner(problem, cost), KERNEL: score_kernel_readout(problem, couple(cost), seed)}
    for name in METRICS:
        other_cost = cost_of(problem, metric=name)
        by_part[f"metric: {name}"] = score_mean_partner(problem, other_cost)
        by_part[f"metric: {name}, kernel readout"] = score_kernel_readout(problem, couple(other_cost), seed)
    by_part["coupling: exact"] = score_kernel_readout(problem, couple(cost, method="exact"), seed)
    by_part["coupling: pairs"] = score_pairs(problem, seed)
    for rho in RHOS:
        by_part[f"unbalanced: rho {rho:g}"] = score_mean_partner(problem, cost, unbalanced=rho)
    by_part["map: linear (ridge of the pairs)"] = score_ridge(problem)
    for name, value in ceilings(run, cell["setting"], seed).items():
        by_part[f"reference: {name}"] = {"value": round(value, 4)}
    return by_part


def score_pairs(problem: Problem, seed: int) -> Record:
    """Score the paper's true alignment: the pairs alone, through the kernel readout."""
    return problem.score(kernel_map(problem.X[problem.rows[0]], problem.Y[problem.rows[1]], seed=seed)(problem.X_test))


def dense_plans(run: Run, problem: Problem, cell: dict[str, Any]) -> dict[str, Record]:
    """Score dense plans, the only ones that can replace the softmin by the minimum."""
    return {
        part: score_kernel_readout(problem, couple(cost_of(problem, reduce=reduce), method="sinkhorn"), cell["seed"])
        for part, reduce in ((DENSE, "softmin"), (MIN, "min"))
    }


def flow_maps(run: Run, problem: Problem, cell: dict[str, Any]) -> dict[str, Record]:
    """Score flows from both bases."""
    by_part = score_flows(problem, run, cell["seed"])
    return {"map: flow from ridge": by_part["ridge"], "map: flow from the barycentric map": by_part["barycentric"]}


def over_epsilons(run: Run, problem: Problem, cell: dict[str, Any]) -> dict[str, Record]:
    """Score the default at every epsilon."""
    cost = cost_of(problem)
    return {f"{epsilon:g}": score_mean_partner(problem, cost, epsilon=epsilon) for epsilon in EPSILONS}


def over_pairs(run: Run, problem: Problem, cell: dict[str, Any]) -> dict[str, Record]:
    """Score bridge and pairs alone at one number of pairs, or with a share of them wrong."""
    cost = cost_of(problem)
    by_part = {
        "bridge": score_mean_partner(problem, cost),
        "bridge, kernel readout": score_kernel_readout(problem, couple(cost), cell["seed"]),
        "pairs, kernel readout": score_pairs(problem, cell["seed"]),
        "ridge": score_ridge(problem),
    }
    if cell["group"] == "n_pairs":
        by_part["bridge, euclidean"] = score_mean_partner(problem, cost_of(problem, metric="euclidean"))
    return by_part


def over_imbalance(run: Run, problem: Problem, cell: dict[str, Any]) -> dict[str, Record]:
    """Score balanced and unbalanced transport on pools that differ."""
    cost = cost_of(problem)
    return {
        (BALANCED if rho is None else f"rho {rho:g}"): score_mean_partner(problem, cost, unbalanced=rho)
        for rho in (None, *RHOS)
    }


GROUPS = {
    "parts": cheap_parts,
    "dense": dense_plans,
    "flows": flow_maps,
    "fused": lambda run, problem, cell: {"fused": score_fused(problem, run, cell["seed"])},
    "epsilon": over_epsilons,
    "n_pairs": over_pairs,
    "noise": over_pairs,
    "ratio": over_imbalance,
    "outliers": over_imbalance,
}


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    n_test = {s: next(r["n_test"] for r in select_records(records, setting=s) if "n_test" in r) for s in SETTINGS}
    chance = {
        s: float(np.mean([r["null_95"] for r in select_records(records, setting=s) if "null_95" in r]))
        for s in SETTINGS
    }
    references = {
        s: {
            part.removeprefix("reference: "): list(by_seed(records, part, setting=s).values())
            for part in dict.fromkeys(
                r["part"] for r in select_records(records, setting=s) if r["part"].startswith("reference")
            )
        }
        for s in SETTINGS
    }
    tables = [contributions(run, records, chance, references), *sweeps(run, records)]
    figures = [draw_parts(run, records, n_test), draw_sweeps(run, records, chance, references, n_test)]
    flickr8k: Any = load("clip-flickr8k", mirror=run.mirror)
    note = (
        (
            "Quick mode: 400 images and captions, 500 test digits, 40 pairs. What follows is of the full mode. "
            if run.quick
            else ""
        )
        + "Two settings of real data were used, and both spaces were divided by their standard deviations. In the first, MNIST "
        f"images under the frozen encoder '{ENCODER}' (trained without labels) are aligned with captions: 2,000 training images "
        f"and 2,000 different captions. {n_test[IMAGES]} test digits are then named by a head that was fitted on captions alone. "
        "In the second, 84 of 168 real IT sites predict the other 84 on "
        f"{n_test[SITES]} held-out stimuli; as all sites were recorded together, shared noise counts as signal. "
        "With imbalance r, half of the digits (for sites: of the categories, among the unpaired stimuli) are r times rarer in "
        "the target. With outliers, a fifth of the target consists of captions of photographs (Flickr8k); for sites, outliers are "
        "simulated by dealing the responses of each site anew. A wrong pair joins an image with the caption of another digit, or "
        "two different stimuli. Everything is computed on arrays by bridge_cost, couple, kernel_map, ridge_map, fuse and "
        "ConditionalFlow. On images, dense plans, flows and the fused bridge (with a small grid) were run on the first "
        f"{N_SLOW} seeds. {WEAK} was the best of six settings on the development digits; all other settings are the defaults of "
        "the package."
    )
    return {
        "note": note, "answer": answer(records), "tables": tables, "claims": claims(records), "figures": figures,
        "digests": {**digits(run).digests, **it_sites(run)[3], **flickr8k.attrs["digests"]},
    }  # fmt: skip


def contributions(
    run: Run, records: list[Record], chance: dict[str, float], references: dict[str, dict[str, list[float]]]
) -> dict[str, Any]:
    """Tabulate value and difference of each part in each setting."""
    plain = [r for r in select_records(records, level=0.0) if r["group"] in ("parts", "dense", "flows", "fused")]
    rows = []
    for part in (DEFAULT, *PARTS):
        row = [part, PARTS.get(part, "")]
        for setting in SETTINGS:
            values = list(by_seed(plain, part, setting=setting).values())
            row += [format_mean(values), "" if part == DEFAULT else signed(gain(records, setting, part))]
        rows.append(row)
    rows.append(["chance (95 % of the null)", "", *(text for s in SETTINGS for text in (f"{chance[s]:.3f}", ""))])
    for k, setting in enumerate(SETTINGS):
        for name, values in references[setting].items():
            rows.append([f"ceiling: {name}", "", *["", ""] * k, format_mean(values), "", *["", ""] * (1 - k)])
    columns = [text for s in SETTINGS for text in (LABELS[s], "difference")]
    return {
        "title": f"What each part contributes: the part replaced, and the difference to what it is compared with, paired over "
        f"seeds; {over_seeds(run.seeds)} (images: dense plans, flows and fused {N_SLOW} seeds)",
        "columns": ["part", "compared with", *columns],
        "rows": rows,
    }


def sweeps(run: Run, records: list[Record]) -> list[dict[str, Any]]:
    """Tabulate each sweep in each setting."""
    tables = []
    for name, title in SWEEPS.items():
        for setting in SETTINGS:
            lines = swept(records, setting, name)
            levels = sorted({level for line in lines.values() for level in line}, key=lambda v: (v < 0, v))
            tables.append({
                "title": f"{LABELS[setting]} by {title}; {over_seeds(run.seeds)}",
                "columns": ["", *("20 % outliers" if level < 0 else f"{level:g}" for level in levels)],
                "rows": [[part, *(format_mean(line.get(level, [])) for level in levels)] for part, line in lines.items()],
            })  # fmt: skip
    return tables


STUDY = Study(
    "ablations",
    "Ablations: what each part contributes, on real digits with captions and on real IT sites",
    cells,
    compute,
    finish,
    n_seeds=5,
    extras=("text",),
)

if __name__ == "__main__":
    main(STUDY)
