"""Does more overlap of two spaces go with better alignment, as Gholamzadeh & Sajid 2025 say?

Pairs of encoders of the same stimuli, as they are: six of real MNIST digits (pixels, three small networks, Gabor energies, MiniLM
captions), real V4 beside pixels and Gabor layers, halves of the real IT sites beside the generative latents of their stimuli, CLIP
beside MiniLM on real Flickr8k, and SIMULATED V4 and IT beside Gabor layers and latents. Apart from these, the pairs with a
recording once more with noise added to the other side, or with its stimuli shuffled.

Overlap is measured on the training stimuli, all of them matched, every dimension in standard deviations; alignment is what 50 of
them as pairs give on held-out stimuli, mean of both directions. Then the rank correlation of the two over encoder pairs, with a
bootstrap interval over pairs and a permutation null.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.stats import rankdata
from sklearn.metrics import r2_score

from neurobridge.aligners import AssemblyAligner
from neurobridge.assemblies import as_matrix, average_repetitions, drop_constant
from neurobridge.assemblies.schema import NEUROID, PRESENTATION
from neurobridge.datasets import load
from neurobridge.evaluate import aggregate, correlate, overlap, procrustes_distance, rdm, train_readout
from neurobridge.evaluate.curves.folds import CurveFold, draw_curve_fold
from neurobridge.evaluate.similarity.rdms import compare_rdms
from neurobridge.evaluate.similarity.relations import MEASURES as STANDARD
from neurobridge.features import GaborEnergy, Preprocess, captions_from_templates, embed_text, extract, train_reference
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.methods import make_aligner
from neurobridge.study.panels import save_panels
from neurobridge.study.tables import format_p, select_records, verdict

from .parts.common import site_halves
from .parts.digits import WORDS

N_PAIRS, N_DRAWS = 50, 2000
MEASURES = (*STANDARD, "rsa", "procrustes")
#: Small is more overlap.
DISTANCES = ("sliced_wasserstein", "procrustes")
ALIGNERS = ("bridge", "fused", "ridge")
ENCODERS = {
    "MNIST": ("pixels", "conv_net", "conv_vae", "conv_contrastive", "gabor", "captions"),
    "V4": ("V4", "pixels", "colour", "v1", "v2"),
    "IT": ("IT half 1", "IT half 2", "latents: object", "latents: pose"),
    "Flickr8k": ("CLIP", "MiniLM"),
    "SIMULATED": ("IT", "V4", "v1", "v2", "latents"),
}
LABELS = {"MNIST": "category_name", "IT": "object_name", "SIMULATED": "category_name"}
RECORDED = ("V4", "IT", "IT half 1")
CHANGES = ("noise 1", "noise 3", "shuffled")
MARKERS = dict(zip(ENCODERS, ("o", "s", "^", "*", "D"), strict=True))
COLOURS = dict(zip(ENCODERS, ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7"), strict=True))


def cells(run: Run) -> list[dict[str, Any]]:
    sets = {"IT": ENCODERS["IT"][:3]} if run.quick else ENCODERS
    out = []
    for name, encoders in sets.items():
        for pair in combinations(encoders, 2):
            changes = CHANGES if pair[0] in RECORDED and not run.quick else ()
            out += [{"set": name, "first": pair[0], "second": pair[1], "change": change} for change in ("", *changes)]
    return out


def encoders_of(run: Run, name: str) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    """Encoders of a set, by name, and the digests of its data."""
    makers = {
        "MNIST": mnist_encoders,
        "V4": v4_encoders,
        "IT": it_encoders,
        "Flickr8k": flickr_encoders,
        "SIMULATED": simulated_encoders,
    }
    return run.once(name, lambda: makers[name](run))


def layer_encoders(
    images: xr.DataArray, layers: tuple[str, ...], *, size: int = 8, preprocess: Preprocess | None = None
) -> dict[str, xr.DataArray]:
    pixels = torch.nn.Sequential()
    pixels.add_module("pixels", torch.nn.Identity())
    return {
        "pixels": extract(pixels, images, "pixels", preprocess=Preprocess(size=size)),
        **{layer: extract(GaborEnergy(), images, layer, preprocess=preprocess) for layer in layers},
    }


def mnist_encoders(run: Run) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    train, test = (load("mnist", part=part, mirror=run.mirror) for part in ("train", "test"))
    images: Any = test.images
    images = images.isel({PRESENTATION: slice(400)})
    training_images: Any = train.images
    training_images = training_images.isel({PRESENTATION: slice(5000)})
    label = LABELS["MNIST"]
    sides = layer_encoders(images, ("v1",), preprocess=Preprocess(size=56))
    sides["gabor"] = sides.pop("v1")
    kinds: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("conv_net", "features", {"labels": label}),
        ("conv_vae", "encoder.mean", {}),
        ("conv_contrastive", "encoder.latents", {}),
    )
    for kind, layer, options in kinds:
        reference = train_reference(kind, training_images, seed=run.seed, **options)
        sides[kind] = extract(reference.model, images, layer, preprocess=reference.preprocess)
    digits = [str(value) for value in images[label].values]
    captions = captions_from_templates(
        [WORDS[digit] for digit in digits], stimulus_id=images["stimulus_id"].values.tolist(), seed=run.seed
    )
    captions[label] = digits
    sides["captions"] = embed_text(captions)
    return sides, {**train.attrs["digests"], **test.attrs["digests"]}


def v4_encoders(run: Run) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    data: Any = load("cowley2023-v4-210325", mirror=run.mirror)
    sides = {"V4": average_repetitions(data.recordings), **layer_encoders(data.images, ("colour", "v1", "v2"))}
    return sides, dict(data.attrs["digests"])


def object_and_pose(latents: xr.DataArray) -> dict[str, xr.DataArray]:
    is_object = np.char.startswith(latents["neuroid_id"].values.astype(str), "object=")
    columns_of = {"object": np.flatnonzero(is_object), "pose": np.flatnonzero(~is_object)}
    return {f"latents: {name}": latents.isel({NEUROID: columns}) for name, columns in columns_of.items()}


def it_encoders(run: Run) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    data: Any = load("majajhong2015-it-v6", mirror=run.mirror)
    halves = site_halves(data.recordings)
    return {"IT half 1": halves[0], "IT half 2": halves[1], **object_and_pose(data.latents)}, dict(
        data.attrs["digests"]
    )


def flickr_encoders(run: Run) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    data: Any = load("clip-flickr8k", mirror=run.mirror)
    text = embed_text(pd.DataFrame(data.stimuli)[["stimulus_id", "caption"]])
    return {"CLIP": data.activations, "MiniLM": text}, dict(data.attrs["digests"])


def simulated_encoders(run: Run) -> tuple[dict[str, xr.DataArray], dict[str, str]]:
    data: Any = load("simulated-hvm", images_per_object={0: 1, 3: 5}, n_repetitions=10, image_size=64, seed=run.seed)
    brain = average_repetitions(data.recordings).isel(time_bin=0, drop=True)
    sides = {region: brain.isel({NEUROID: np.flatnonzero(brain["region"].values == region)}) for region in ("IT", "V4")}
    layers = layer_encoders(data.images, ("v1", "v2"))
    return {**sides, "v1": layers["v1"], "v2": layers["v2"], "latents": data.latents}, dict(data.attrs["digests"])


def change_side(side: xr.DataArray, change: str, rng: np.random.Generator) -> xr.DataArray:
    """Noise in standard deviations of each dimension, or the stimuli in another order."""
    values = np.asarray(side.values, dtype=np.float64)
    if change == "shuffled":
        return side.copy(data=values[rng.permutation(len(values))])
    if change:
        values = values + float(change.split()[1]) * values.std(axis=0) * rng.normal(size=values.shape)
    return side.copy(data=values)


def varying_dimensions(fold: CurveFold) -> CurveFold:
    """Without dimensions that happen to be constant in a pool or among the held-out stimuli, in standard deviations of the pool."""
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
    """Every measure on the training stimuli of the first draw, all of them matched, and the nulls of the standard ones."""
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
    """Held-out r, R^2 and accuracy with `N_PAIRS` pairs, mean of both directions."""
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


def signed_overlap(records: list[Record], measure: str) -> np.ndarray:
    """Overlap, signed so that large is more."""
    return np.array([r["overlap"][measure] for r in records]) * (-1 if measure in DISTANCES else 1)


def alignment_quality(records: list[Record], aligner: str, value: str = "r") -> np.ndarray:
    return np.array([np.mean([draw[value] for draw in r["alignment"][aligner]]) for r in records])


def centred_ranks(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Ranks within each group, scaled to its size and centred; with one group Spearman's ranks."""
    out = np.zeros(len(values))
    for group in np.unique(groups):
        rows = groups == group
        out[rows] = (rankdata(values[rows]) - (rows.sum() + 1) / 2) / max(rows.sum(), 1)
    return out


def grouped_rank_correlation(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    a, b = centred_ranks(x, groups), centred_ranks(y, groups)
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def relabellings(records: list[Record], n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """For each pair the row of the pair that it becomes when the encoders of its set change names at random (Mantel 1967)."""
    row_of = {(r["set"], *sorted((r["first"], r["second"]))): k for k, r in enumerate(records)}
    names = {
        name: sorted({r[side] for r in select_records(records, set=name) for side in ("first", "second")})
        for name in dict.fromkeys(r["set"] for r in records)
    }
    out = []
    for _ in range(n):
        new = {name: dict(zip(old, rng.permutation(old).tolist(), strict=True)) for name, old in names.items()}
        pairs = [(r["set"], *sorted(new[r["set"]][r[side]] for side in ("first", "second"))) for r in records]
        out.append(np.array([row_of[pair] for pair in pairs]))
    return out


def rank_agreement(
    records: list[Record], measure: str, y: np.ndarray, *, within: bool, seed: int, draws: int
) -> Record:
    """Rank correlation with a bootstrap interval over encoder pairs, and a one-sided permutation p."""
    x = signed_overlap(records, measure)
    groups = np.array([r["set"] for r in records]) if within else np.zeros(len(records), dtype=int)
    rng = np.random.default_rng(seed)
    rho = grouped_rank_correlation(x, y, groups)
    rows = [rng.integers(len(x), size=len(x)) for _ in range(draws)]
    bootstrap = [grouped_rank_correlation(x[k], y[k], groups[k]) for k in rows]
    shuffles = relabellings(records, draws, rng) if within else [rng.permutation(len(x)) for _ in range(draws)]
    null = np.array([grouped_rank_correlation(x, y[k], groups) for k in shuffles])
    low, high = np.quantile(bootstrap, [0.025, 0.975])
    return {
        "measure": measure, "rho": rho, "low": float(low), "high": float(high), "null_95": float(np.quantile(null, 0.95)),
        "p": float((1 + (null >= rho).sum()) / (1 + len(null))), "n": len(x),
    }  # fmt: skip


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
        f"Real: MNIST ({len(select_records(plain, set='MNIST'))} encoder pairs), V4 of Cowley et al. 2023 "
        f"({len(select_records(plain, set='V4'))}), IT of Majaj & Hong 2015 ({len(select_records(plain, set='IT'))}), Flickr8k "
        f"({len(select_records(plain, set='Flickr8k'))}). SIMULATED: HvM "
        f"({len(select_records(plain, set='SIMULATED'))}). {len(records) - len(plain)} more with noise or shuffled stimuli, "
        "in rows of their own. "
        "Encoder pairs that share an encoder are not independent: the bootstrap interval is too narrow for that reason, and the "
        "relabelling null within sets is the one that allows for it. The sliced Wasserstein distance is taken after a "
        f"ridge alignment: that it goes with ridge's r is half of it arithmetic. {N_PAIRS} pairs, {run.n_seeds} seed(s), fused one."
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
    draws = record["alignment"]["bridge"]
    if "accuracy" not in draws[0]:
        return "n/a"
    return f"{np.mean([d['accuracy'] for d in draws]):.3f} / {np.mean([d['accuracy_ceiling'] for d in draws]):.3f}"


def repeatability(records: list[Record]) -> str:
    if len(records[0]["alignment"]["bridge"]) < 2 or len(records) < 3:
        return "n/a"
    first, second = ([r["alignment"]["bridge"][k]["r"] for r in records] for k in (0, 1))
    return f"{grouped_rank_correlation(np.array(first), np.array(second), np.zeros(len(records))):.2f}"


def claim_of(text: str, rows: list[Record]) -> Record:
    n_met = sum(r["low"] > 0 and r["p"] < 0.05 for r in rows)
    return {
        "claim": text,
        "verdict": verdict(n_met, len(rows)),
        "evidence": "; ".join(
            f"{r['measure']} rho {r['rho']:.2f} [{r['low']:.2f}, {r['high']:.2f}], {format_p(r['p'])}" for r in rows
        )
        + ". Rule: interval above 0 and p below .05 for every measure holds, for half or more in part. Figure: overlap.png",
    }


def scatter_figure(run: Run, records: list[Record], plain: list[Record], rows: list[Record]) -> dict[str, str]:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 8), sharey=True, layout="constrained")
    for ax, row in zip(axes.flat, rows, strict=True):
        measure = row["measure"]
        noisy = [r for r in records if r["change"]]
        ax.plot([r["overlap"][measure] for r in noisy], alignment_quality(noisy, "bridge"), "x", color="0.6", markersize=4,
                label="noise added or shuffled")  # fmt: skip
        for name in dict.fromkeys(r["set"] for r in plain):
            group = select_records(plain, set=name)
            ax.plot([r["overlap"][measure] for r in group], alignment_quality(group, "bridge"), MARKERS[name], color=COLOURS[name],
                    label=name if name == "SIMULATED" else f"{name} (real)")  # fmt: skip
        chance = float(np.mean([d["null_95"] for r in plain for d in r["alignment"]["bridge"]]))
        ax.axhline(chance, color="0.5", linestyle="--", linewidth=1, label="chance (95th pct.) of r")
        nulls = [r["null"][measure] for r in plain if measure in r["null"]]
        if nulls:
            ax.axvline(
                float(np.mean(nulls)), color="0.5", linestyle=":", linewidth=1, label="overlap of strangers, mean"
            )
        ax.set_xlabel(measure.replace("_", " ") + (" (less is more overlap)" if measure in DISTANCES else ""))
        ax.set_title(
            f"real pairs: rho {row['rho']:.2f} [{row['low']:.2f}, {row['high']:.2f}], {format_p(row['p'])}",
            fontsize="small",
        )
    for ax in axes[:, 0]:
        ax.set_ylabel(f"held-out r of the bridge, {N_PAIRS} pairs")
    axes[0, 0].legend(fontsize="x-small", framealpha=0.8, edgecolor="none")
    text = (
        f"Overlap on training stimuli against held-out r of the bridge, {len(plain)} encoder pairs as they are. "
        "rho: signed so that positive is more overlap, better alignment; ceiling of r is 1 where the target is no recording."
    )
    return save_panels(figure, run, "overlap", text)


def rank_figure(run: Run, results: dict[str, list[Record]]) -> dict[str, str]:
    from matplotlib import pyplot as plt

    names = [name for name in results if name.split(",")[0] in ("real", "within sets", "recordings") or "less" in name]
    figure, ax = plt.subplots(figsize=(9, 0.75 * len(names) + 1.8), layout="constrained")
    markers = ("o", "s", "^", "D", "v", "P")
    for k, measure in enumerate(MEASURES):
        rows = [next(r for r in results[name] if r["measure"] == measure) for name in names]
        heights = np.arange(len(names)) + (k - 2.5) * 0.12
        rho = np.array([r["rho"] for r in rows])
        # A percentile interval need not hold the estimate.
        bars = np.array([[max(r["rho"] - r["low"], 0) for r in rows], [max(r["high"] - r["rho"], 0) for r in rows]])
        ax.errorbar(
            rho, heights, xerr=bars, fmt=markers[k], markersize=5, capsize=2, color=f"{0.12 * k:.2f}", label=measure
        )
    for k, name in enumerate(names):
        bound = float(np.mean([r["null_95"] for r in results[name]]))
        ax.plot(
            [bound, bound],
            [k - 0.45, k + 0.45],
            color="#D55E00",
            linestyle="--",
            label="chance (95 % of the null)" if k == 0 else None,
        )
    ax.axvline(0, color="0.5", linewidth=1)
    ax.axvline(1, color="black", linewidth=1, linestyle=":", label="ceiling: the same ranks")
    ax.set_yticks(range(len(names)), labels=[f"{name} (n = {results[name][0]['n']})" for name in names])
    ax.invert_yaxis()
    ax.set_xlabel("Spearman correlation of overlap with alignment, 95 % bootstrap interval over encoder pairs")
    ax.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    caption = "Rank correlation of every overlap measure with alignment, by group of encoder pairs."
    return save_panels(figure, run, "ranks", caption)


STUDY = Study(
    "overlap",
    "Overlap against alignment: real encoders, recordings and embeddings, and SIMULATED HvM",
    cells, compute, finish, n_seeds=2, extras=("text",),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
