"""Does more overlap of two spaces go with better alignment (Gholamzadeh & Sajid 2025)?

The pairs of encoders see the same stimuli: six encoders of real MNIST digits (pixels, three small
networks, Gabor energies, MiniLM captions), real V4 beside pixels and Gabor layers, halves of the
real IT sites beside the generative latents of their stimuli, CLIP beside MiniLM on real Flickr8k,
and SIMULATED V4 and IT beside Gabor layers and latents. Pairs with a recording are measured again,
and reported apart, with noise added to the other side or with its stimuli shuffled.

Overlap is measured on the training stimuli, all of them matched, each dimension in standard
deviations. Alignment is the score on held-out stimuli with 50 known pairs, mean of both
directions. The result is their rank correlation over encoder pairs, with a bootstrap interval over
pairs and a permutation null.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr
from sklearn.metrics import r2_score

from neurobridge.aligners import AssemblyAligner
from neurobridge.assemblies import as_matrix, drop_constant
from neurobridge.assemblies.schema import NEUROID, PRESENTATION
from neurobridge.evaluate import aggregate, correlate, overlap, procrustes_distance, rdm, train_readout
from neurobridge.evaluate.curves.folds import CurveFold, draw_curve_fold
from neurobridge.evaluate.similarity.comparators import compare_rdms
from neurobridge.evaluate.similarity.relations import MEASURES as STANDARD
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.methods import make_aligner
from neurobridge.study.tables import format_p, select_records, verdict

from .parts.overlap.agreement import MEASURES, N_DRAWS, N_PAIRS, alignment_quality, rank_agreement, repeatability
from .parts.overlap.encoders import ENCODERS, LABELS, encoders_of
from .parts.overlap.figures import rank_figure, scatter_figure

ALIGNERS = ("bridge", "fused", "ridge")
RECORDED = ("V4", "IT", "IT half 1")
CHANGES = ("noise 1", "noise 3", "shuffled")


def cells(run: Run) -> list[dict[str, Any]]:
    sets = {"IT": ENCODERS["IT"][:3]} if run.quick else ENCODERS
    out = []
    for name, encoders in sets.items():
        for pair in combinations(encoders, 2):
            changes = CHANGES if pair[0] in RECORDED and not run.quick else ()
            out += [{"set": name, "first": pair[0], "second": pair[1], "change": change} for change in ("", *changes)]
    return out


def change_side(side: xr.DataArray, change: str, rng: np.random.Generator) -> xr.DataArray:
    """Add noise in standard deviations of each dimension, or shuffle the stimuli."""
    values = np.asarray(side.values, dtype=np.float64)
    if change == "shuffled":
        return side.copy(data=values[rng.permutation(len(values))])
    if change:
        values = values + float(change.split()[1]) * values.std(axis=0) * rng.normal(size=values.shape)
    return side.copy(data=values)


def varying_dimensions(fold: CurveFold) -> CurveFold:
    """Keep the dimensions that vary in a pool and among the held-out stimuli.

    They are returned in standard deviations of the pool.
    """
    sides = []
    for train, test in ((fold.source_train, fold.source_test), (fold.target_train, fold.target_test)):
        values = [np.asarray(part.values, dtype=np.float64) for part in (train, test)]
        varying = np.flatnonzero((np.ptp(values[0], axis=0) > 0) & (np.ptp(values[1], axis=0) > 0))
        mean, sd = values[0][:, varying].mean(axis=0), values[0][:, varying].std(axis=0)
        sides.append([
            part.isel({NEUROID: varying}).copy(data=(array[:, varying] - mean) / sd)
            for part, array in zip((train, test), values, strict=True)
        ])  # fmt: skip
    return CurveFold(sides[0][0], sides[1][0], sides[0][1], sides[1][1], fold.pairs)


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    sides, digests = encoders_of(run, cell["set"])
    first = sides[cell["first"]]
    second = change_side(sides[cell["second"]], cell["change"], np.random.default_rng(run.seed))
    first, second = drop_constant(first), drop_constant(second)
    record: Record = {**cell, "digests": digests if not cell["change"] else {}, "overlap": {}, "alignment": {}}
    record["overlap"], record["null"] = overlap_scores(first, second, run.seed, quick=run.quick)
    for name in ALIGNERS:
        if name == "fused" and cell["change"]:
            continue
        seeds = run.seeds[:1] if name == "fused" else run.seeds
        record["alignment"][name] = [
            alignment_scores(make_aligner(name, seed), first, second, cell["set"], seed) for seed in seeds
        ]
    return [record]


def overlap_scores(
    first: xr.DataArray, second: xr.DataArray, seed: int, *, quick: bool
) -> tuple[dict[str, float], Record]:
    """Return every measure on the training stimuli, all of them matched, and the nulls.

    The stimuli are those of the first draw; only the standard measures have nulls.
    """
    first_fold = draw_curve_fold(first, second, 2, seed=seed)
    n_all_pairs = first_fold.source_train.sizes[PRESENTATION] + first_fold.target_train.sizes[PRESENTATION] - 2
    fold = varying_dimensions(draw_curve_fold(first, second, n_all_pairs, seed=seed))
    X, Y = fold.source_train, fold.target_train
    score = overlap(X, Y, n_permutations=20 if quick else 50, n_alignments=3, n_projections=100, seed=seed)
    results = dict(zip(STANDARD, score["raw"].values.tolist(), strict=True))
    pairs = np.triu_indices(X.sizes[PRESENTATION], 1)
    results["rsa"] = compare_rdms(rdm(X).values[pairs], rdm(Y).values[pairs])
    results["procrustes"] = procrustes_distance(as_matrix(X), as_matrix(Y))
    null = dict(zip(STANDARD, aggregate(score, n_bootstrap=0)["null_mean"].values.tolist(), strict=True))
    return {k: round(v, 4) for k, v in results.items()}, {k: round(v, 4) for k, v in null.items()}


def alignment_scores(
    aligner: AssemblyAligner, first: xr.DataArray, second: xr.DataArray, name: str, seed: int
) -> Record:
    """Return held-out r, R^2 and accuracy with `N_PAIRS` pairs, mean of both directions."""
    fold = varying_dimensions(draw_curve_fold(first, second, N_PAIRS, seed=seed))
    aligner.fit(fold.source_train, fold.target_train, fold.pairs)
    transports = [
        (aligner.transform(fold.source_test), fold.target_train, fold.target_test),
        (aligner.inverse_transform(fold.target_test), fold.source_train, fold.source_test),
    ]
    scores = [correlate(moved, truth, n_permutations=50, seed=seed) for moved, _, truth in transports]
    r2 = [r2_score(truth.values, moved.values, multioutput="variance_weighted") for moved, _, truth in transports]
    out = {
        "r": float(np.mean([np.median(score["raw"].values) for score in scores])),
        "R2": float(np.mean(r2)),
        "null_95": float(np.mean([np.quantile(score["null"].values, 0.95) for score in scores])),
    }
    label = LABELS.get(name)
    if label:
        heads = [train_readout(train, label, readout="lda", seed=seed) for _, train, _ in transports]
        accuracies = [
            head.score(moved, n_permutations=0)["raw"].item()
            for head, (moved, _, _) in zip(heads, transports, strict=True)
        ]
        ceilings = [
            head.score(truth, n_permutations=0)["raw"].item()
            for head, (_, _, truth) in zip(heads, transports, strict=True)
        ]
        out |= {"accuracy": float(np.mean(accuracies)), "accuracy_ceiling": float(np.mean(ceilings))}
    return {key: round(value, 4) for key, value in out.items()}


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    plain = select_records(records, change="")
    real = [r for r in plain if r["set"] != "SIMULATED"]
    labelled = [r for r in plain if "accuracy" in r["alignment"]["bridge"][0]]
    large_sets = [r for r in plain if len(select_records(plain, set=r["set"])) >= 6]
    with_noise = [r for r in records if r["first"] in RECORDED]
    fused_gain = alignment_quality(plain, "fused") - alignment_quality(plain, "ridge")
    groups: dict[str, tuple[list[Record], np.ndarray, bool]] = {}
    for aligner in ALIGNERS:
        groups[f"real, r of {aligner}"] = real, alignment_quality(real, aligner), False
        groups[f"real and simulated, r of {aligner}"] = plain, alignment_quality(plain, aligner), False
        groups[f"real and simulated, R^2 of {aligner}"] = plain, alignment_quality(plain, aligner, "R2"), False
        groups[f"labelled sets, accuracy of {aligner}"] = (
            labelled,
            alignment_quality(labelled, aligner, "accuracy"),
            False,
        )
        groups[f"within sets, r of {aligner}"] = large_sets, alignment_quality(large_sets, aligner), True
    groups["r of fused less r of ridge"] = plain, fused_gain, False
    groups["recordings, noise and shuffled added, r of bridge"] = (
        with_noise,
        alignment_quality(with_noise, "bridge"),
        False,
    )
    groups = {name: group for name, group in groups.items() if len(group[0]) >= 3}
    results = {
        name: [
            rank_agreement(members, m, y, within=within, seed=run.seed, draws=100 if run.quick else N_DRAWS)
            for m in MEASURES
        ]
        for name, (members, y, within) in groups.items()
    }
    columns = ["alignment quality", "encoder pairs", *MEASURES]
    tables = [
        {
            "title": "Spearman correlation of overlap (signed: large is more) with alignment on held-out stimuli, "
            "95 % bootstrap interval over encoder pairs, one-sided permutation p (within sets: encoders relabelled)",
            "columns": columns,
            "rows": [
                [
                    name,
                    str(rows[0]["n"]),
                    *[f"{r['rho']:.2f} [{r['low']:.2f}, {r['high']:.2f}] {format_p(r['p'])}" for r in rows],
                ]
                for name, rows in results.items()
            ]
            + [
                [
                    "chance: 95 % of the null, real, r of bridge",
                    "",
                    *[f"{r['null_95']:.2f}" for r in next(iter(results.values()))],
                ]
            ]
            + [["ceiling: rank correlation of two draws' r", str(len(plain)), *[repeatability(plain)] * len(MEASURES)]],
        },
        {
            "title": f"Every encoder pair as it is: overlap, and held-out r with {N_PAIRS} pairs (mean of both "
            "directions and of the seeds)",
            "columns": ["pair", *MEASURES, *(f"r {name}" for name in ALIGNERS), "accuracy bridge / ceiling"],
            "rows": [
                [
                    f"{r['set']}: {r['first']} - {r['second']}",
                    *[f"{r['overlap'][m]:.3f}" for m in MEASURES],
                    *[f"{alignment_quality([r], name)[0]:.3f}" for name in ALIGNERS],
                    accuracy_text(r),
                ]
                for r in plain
            ],
        },
    ]
    claims = [
        claim_of("More overlap goes with better alignment, over real encoder pairs", results["real, r of bridge"]),
        claim_of("... among the encoders of one set of stimuli", results.get("within sets, r of bridge", [])),
        claim_of("Overlap tells where the fused bridge gains on ridge", results["r of fused less r of ridge"]),
    ]
    main_rows = results["real, r of bridge"]
    shown = ", ".join(f"{r['measure']} {r['rho']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for r in main_rows)
    answer = (
        f"Over {main_rows[0]['n']} real encoder pairs, rank correlation of overlap with the bridge's held-out r: "
        f"{shown}: the paper's claim {claims[0]['verdict']}; within sets it {claims[1]['verdict']}."
    )
    figure_list = [scatter_figure(run, records, plain, main_rows), rank_figure(run, results)]
    note = (
        f"The real pairs of spaces come from MNIST ({len(select_records(plain, set='MNIST'))} pairs of encoders), V4 of Cowley et "
        f"al. 2023 ({len(select_records(plain, set='V4'))}), IT of Majaj & Hong 2015 "
        f"({len(select_records(plain, set='IT'))}) and Flickr8k ({len(select_records(plain, set='Flickr8k'))}). "
        f"{len(select_records(plain, set='SIMULATED'))} are of SIMULATED HvM recordings. {len(records) - len(plain)} more have "
        "added noise or shuffled stimuli, and stand in rows of their own. Pairs that share an encoder are not independent, so the "
        "bootstrap interval is too narrow; the null that relabels pairs within their set allows for this. The sliced "
        "Wasserstein distance is taken after a ridge alignment, so a part of its correlation with the r of ridge is built in. "
        f"{N_PAIRS} pairs were known; most measures have {run.n_seeds} seed(s), the fused bridge one."
    )
    digests = {name: value for r in records for name, value in r["digests"].items()}
    return {
        "note": note,
        "answer": answer,
        "tables": tables,
        "claims": claims,
        "figures": figure_list,
        "digests": digests,
    }


def accuracy_text(record: Record) -> str:
    """Format the accuracy of the bridge and its ceiling."""
    draws = record["alignment"]["bridge"]
    if "accuracy" not in draws[0]:
        return "n/a"
    return f"{np.mean([d['accuracy'] for d in draws]):.3f} / {np.mean([d['accuracy_ceiling'] for d in draws]):.3f}"


def claim_of(text: str, rows: list[Record]) -> Record:
    """Return the verdict and the evidence on a claim."""
    n_met = sum(r["low"] > 0 and r["p"] < 0.05 for r in rows)
    return {
        "claim": text,
        "verdict": verdict(n_met, len(rows)),
        "evidence": "; ".join(
            f"{r['measure']} rho {r['rho']:.2f} [{r['low']:.2f}, {r['high']:.2f}], {format_p(r['p'])}" for r in rows
        )
        + ". Rule: interval above 0 and p below .05 for every measure holds, for half or more in part. Figure: overlap.png",
    }


STUDY = Study(
    "overlap",
    "Overlap against alignment: real encoders, recordings and embeddings, and SIMULATED HvM",
    cells, compute, finish, n_seeds=2, extras=("text",),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
