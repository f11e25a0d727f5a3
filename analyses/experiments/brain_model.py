"""Brain and model, centred on Majaj & Hong: how well a few paired images align them, and what can be read after transport.

Recordings: the public set of Majaj & Hong 2015 (V4 and IT sites, 3,200 images) where its files are at hand, else the simulated HvM
experiment of the same size; one real V4 session with its images (Cowley et al. 2023); 168 real IT sites on 640 high-variation
images (images not public). Model sides: frozen Gabor energies (layer v1), a small contrastive encoder trained on the training
images alone, the generative latents of the stimuli, and, as a second brain, the other half of the IT sites.

A fifth of the stimuli is held out; a share of all stimuli is known in both spaces, and the others are dealt to one space each.
Held-out stimuli are transported, in both directions, and correlated site by site with what was recorded (or computed) there. A
readout trained on the target space's own features of the training stimuli, and frozen, then reads the transported ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies import average_repetitions, drop_constant, select
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, STIMULUS_ID
from neurobridge.datasets import load, locate
from neurobridge.evaluate import Readout, correlate, internal_consistency, train_readout
from neurobridge.evaluate.correlation import pearson
from neurobridge.evaluate.curves.folds import CurveFold, draw_curve_fold
from neurobridge.features import GaborEnergy, Preprocess, extract, train_reference
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.methods import FLOWS, make_aligner
from neurobridge.study.tables import format_mean, mean_ci, select_records, table_of_means, verdict

from .parts.brain_figures import (
    TO_BRAIN,
    TO_MODEL,
    dataset_title,
    decoding_figure,
    how_many_figure,
    learning_figures,
    pairs_needed,
    records_to_brain,
)
from .parts.common import site_halves

PUBLIC, SIMULATED = "majajhong2015.public", "simulated-hvm"
FAST = ("ridge", "procrustes", "pls", "cca", "relative", "keypoints", "bridge", "unbalanced")
N_PERMUTATIONS, N_BOOTSTRAP = 100, 200


class Plan(NamedTuple):
    """The work on a dataset: stimuli, shares of pairs, and for how many seeds the fast methods, fused and the flows."""

    n_stimuli: int
    shares: tuple[float, ...]
    seeds_fast: int
    seeds_fused: int
    flow_shares: tuple[float, ...]


#: The full mode; what is slow has fewer seeds and shares, to stay within the time.
PLANS = {
    "hvm-IT": Plan(3200, (0.01, 0.05, 0.20, 0.50), 2, 1, (0.05,)),
    "hvm-V4": Plan(3200, (0.01, 0.05, 0.20, 0.50), 2, 1, ()),
    "v4-session, Gabor": Plan(640, (0.01, 0.05, 0.10, 0.20, 0.50), 3, 3, (0.20,)),
    "v4-session, contrastive": Plan(640, (0.01, 0.05, 0.20, 0.50), 2, 1, ()),
    "it-v6, latents": Plan(640, (0.01, 0.05, 0.10, 0.20, 0.50), 3, 3, (0.05, 0.20)),
    "it-v6, other sites": Plan(640, (0.01, 0.05, 0.10, 0.20, 0.50), 3, 2, ()),
}
QUICK = {"hvm-IT": Plan(320, (0.05, 0.20), 1, 1, ()), "it-v6, latents": Plan(640, (0.20,), 1, 1, ())}


class Sides(NamedTuple):
    """Both spaces of a dataset, one presentation a stimulus."""

    model: xr.DataArray
    brain: xr.DataArray
    ceiling: xr.DataArray | None
    label: str | None
    simulated: bool
    model_name: str
    digests: dict[str, str]


def plans(run: Run) -> dict[str, Plan]:
    return QUICK if run.quick else PLANS


def n_train(plan: Plan) -> int:
    return plan.n_stimuli * 4 // 5


def cells(run: Run) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for dataset, plan in plans(run).items():
        fast = ("ridge", "bridge") if run.quick else FAST
        out.append({"dataset": dataset, "about": True})
        for seed_index, seed in enumerate(run.seeds[: plan.seeds_fast]):
            for share in plan.shares:
                flows = FLOWS if share in plan.flow_shares and seed_index == 0 else ()
                fused = () if seed_index >= plan.seeds_fused or flows else ("fused",)
                cell = {"dataset": dataset, "seed": seed, "share": share, "n_pairs": round(share * plan.n_stimuli)}
                out += [{**cell, "method": method} for method in (*fast, *fused, *flows)]
            out.append({"dataset": dataset, "seed": seed, "share": 0.8, "n_pairs": n_train(plan), "method": "ridge"})
    return out


def hvm(run: Run) -> tuple[Any, bool]:
    """The real public recordings where their files are at hand, else the simulated ones."""
    if not run.quick and all(locate(PUBLIC, mirror=run.mirror).values()):
        return load(PUBLIC, mirror=run.mirror), False
    size: dict[str, Any] = (
        {"images_per_object": {0: 1, 3: 4}, "n_repetitions": 5, "image_size": 64} if run.quick else {}
    )
    return load(SIMULATED, **size), True


def averaged(trials: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Responses averaged over trials, and their split-half reliability."""
    brain = drop_constant(average_repetitions(trials))
    brain = brain.isel(time_bin=0, drop=True) if brain.ndim == 3 else brain
    trials = select(trials, neuroid_id=brain["neuroid_id"].values)
    return brain, internal_consistency(trials, n_bootstrap=0)["ceiling"]


def hvm_sides(run: Run, region: str) -> Sides:
    def make() -> tuple[Any, ...]:
        data, simulated = hvm(run)
        # Real images are 256 x 256: the filters see both sets at one size.
        options: dict[str, Any] = {} if simulated else {"preprocess": Preprocess(size=128)}
        model = drop_constant(extract(GaborEnergy(), data.images, "v1", **options))
        return *averaged(data.recordings), model, simulated, dict(data.attrs["digests"])

    brain, ceiling, model, simulated, digests = run.once("hvm", make)
    rows = {NEUROID: np.flatnonzero(brain["region"].values == region)}
    return Sides(
        model, brain.isel(rows), ceiling.isel(rows), "category_name", simulated, "Gabor energies (v1)", digests
    )


def session_sides(run: Run, kind: str, seed: int) -> Sides:
    def make() -> tuple[Any, ...]:
        data: Any = load("cowley2023-v4-210325", mirror=run.mirror)
        return *averaged(data.recordings), data.images, dict(data.attrs["digests"])

    brain, ceiling, images, digests = run.once("v4", make)
    if kind == "Gabor":
        model = run.once("v4 Gabor", lambda: drop_constant(extract(GaborEnergy(), images, "v1")))
        return Sides(model, brain, ceiling, None, False, "Gabor energies (v1)", digests)

    def trained() -> xr.DataArray:
        test = draw_curve_fold(brain, brain, 2, seed=seed).target_test[STIMULUS_ID].values
        rows = images.isel({PRESENTATION: np.flatnonzero(~np.isin(images[STIMULUS_ID].values, test))})
        reference = train_reference(
            "conv_contrastive", rows, epochs=40, batch_size=128, preprocess=Preprocess(size=32), seed=seed
        )
        return drop_constant(extract(reference.model, images, "encoder.latents", preprocess=reference.preprocess))

    model = run.once(f"v4 contrastive {seed}", trained)
    return Sides(model, brain, ceiling, None, False, "contrastive encoder of the training images", digests)


def it_sides(run: Run, kind: str) -> Sides:
    data: Any = run.once("it", lambda: load("majajhong2015-it-v6", mirror=run.mirror))
    brain, digests = drop_constant(data.recordings), dict(data.attrs["digests"])
    if kind == "latents":
        latents = drop_constant(data.latents)
        return Sides(latents, brain, None, "object_name", False, "generative latents (object, pose)", digests)
    first, second = site_halves(brain)
    return Sides(first, second, None, "object_name", False, "the other half of the IT sites", digests)


def sides(run: Run, dataset: str, seed: int) -> Sides:
    name, _, kind = dataset.partition(", ")
    if name.startswith("hvm"):
        return hvm_sides(run, name.removeprefix("hvm-"))
    return session_sides(run, kind, seed) if name == "v4-session" else it_sides(run, kind)


class PreparedFold(NamedTuple):
    """A fold, the frozen readouts of both spaces, and what ridge predicts in the brain's."""

    fold: CurveFold
    heads: dict[str, Readout]
    ridge: xr.DataArray


def prepare_fold(run: Run, spaces: Sides, cell: dict[str, Any]) -> PreparedFold:
    """The fold of a cell; the last one is kept, as the methods follow each other on it."""
    key = cell["dataset"], cell["seed"], cell["n_pairs"]
    if run.shared.get("drawn", (None,))[0] != key:
        fold = draw_curve_fold(
            spaces.model, spaces.brain, cell["n_pairs"], seed=cell["seed"], stratify=spaces.label and "object_name"
        )
        # A dimension that happens to be constant in a pool cannot be scaled.
        model, brain = drop_constant(fold.source_train), drop_constant(fold.target_train)
        fold = CurveFold(
            model, brain, _same_neuroids(fold.source_test, model), _same_neuroids(fold.target_test, brain), fold.pairs
        )
        heads = {}
        if spaces.label:
            heads = {
                side: train_readout(train, spaces.label, readout="lda", seed=cell["seed"])
                for side, train in ((TO_MODEL, model), (TO_BRAIN, brain))
            }
        ridge = make_aligner("ridge", cell["seed"]).fit(model, brain, fold.pairs).transform(fold.source_test)
        run.shared["drawn"] = key, PreparedFold(fold, heads, ridge)
    return run.shared["drawn"][1]


def _same_neuroids(test: xr.DataArray, train: xr.DataArray) -> xr.DataArray:
    return test.isel({NEUROID: np.isin(test["neuroid_id"].values, train["neuroid_id"].values)})


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    if "about" in cell:
        return [dataset_facts(run, cell["dataset"])]
    spaces = sides(run, cell["dataset"], cell["seed"])
    prepared = prepare_fold(run, spaces, cell)
    fold = prepared.fold
    aligner = make_aligner(cell["method"], cell["seed"]).fit(fold.source_train, fold.target_train, fold.pairs)
    records = []
    # One coupling serves both of its maps: it is solved once.
    for method in (cell["method"], "fused") if cell["method"] == "fused-flow" else (cell["method"],):
        if method != cell["method"]:
            aligner.set_params(map="barycentric")
        moved = {
            TO_BRAIN: (aligner.transform(fold.source_test), fold.target_test, fold.source_test),
            TO_MODEL: (aligner.inverse_transform(fold.target_test), fold.source_test, fold.target_test),
        }
        for direction, (predicted, truth, source) in moved.items():
            ceiling = spaces.ceiling if direction == TO_BRAIN else None
            record = {
                **cell,
                "method": method,
                "direction": direction,
                **correlation_scores(predicted, truth, ceiling, cell["seed"]),
            }
            if prepared.heads:
                record |= readout_scores(prepared.heads, direction, predicted, truth, source, cell["seed"])
            if method == "fused" and direction == TO_BRAIN:
                record |= beside_ridge(predicted, prepared.ridge, truth, cell["seed"])
            records.append(record)
    return records


def dataset_facts(run: Run, dataset: str) -> Record:
    spaces = sides(run, dataset, run.seed)
    reliability = None if spaces.ceiling is None else float(np.median(spaces.ceiling.values))
    return {
        "about": dataset, "simulated": spaces.simulated, "model_side": spaces.model_name, "label": spaces.label,
        "n_stimuli": spaces.brain.sizes[PRESENTATION], "n_model": spaces.model.sizes[NEUROID],
        "n_sites": spaces.brain.sizes[NEUROID], "reliability": reliability,
        "ceiling": None if reliability is None else round(float(np.sqrt(max(reliability, 0))), 4), "digests": spaces.digests,
    }  # fmt: skip


def correlation_scores(predicted: xr.DataArray, truth: xr.DataArray, ceiling: xr.DataArray | None, seed: int) -> Record:
    """Median r over the dimensions that vary among the held-out stimuli, its null, and its share of the explainable."""
    truth = drop_constant(truth)
    reliability = None if ceiling is None else _same_neuroids(ceiling, truth)
    score = correlate(
        _same_neuroids(predicted, truth), truth, ceiling=reliability, n_permutations=N_PERMUTATIONS, seed=seed
    )
    normalised = score["normalized"].values
    return {
        "r": round(float(np.median(score["raw"].values)), 4),
        "null_95": round(float(np.quantile(score["null"].values, 0.95)), 4),
        "normalized": round(float(np.nanmedian(normalised)), 4) if np.isfinite(normalised).any() else None,
    }


def readout_scores(
    heads: dict[str, Readout], direction: str, moved: xr.DataArray, truth: xr.DataArray, source: xr.DataArray, seed: int
) -> Record:
    """Accuracy of the target's frozen head on what was transported, beside the source's own head and the ceiling."""
    opposite = TO_MODEL if direction == TO_BRAIN else TO_BRAIN
    score = heads[direction].score(moved, n_permutations=N_PERMUTATIONS, seed=seed)
    return {
        "accuracy": round(float(score["raw"].item()), 4),
        "accuracy_null_95": round(float(np.quantile(score["null"].values, 0.95)), 4),
        "accuracy_source": round(float(heads[opposite].score(source, n_permutations=0)["raw"].item()), 4),
        "accuracy_ceiling": round(float(heads[direction].score(truth, n_permutations=0)["raw"].item()), 4),
    }


def beside_ridge(predicted: xr.DataArray, ridge: xr.DataArray, truth: xr.DataArray, seed: int) -> Record:
    """Median r less that of ridge on the same pairs, with a 95 % bootstrap interval over the held-out stimuli."""
    truth = drop_constant(truth)
    predicted_values, ridge_values, true_values = (
        np.asarray(_same_neuroids(space, truth).values, dtype=np.float64) for space in (predicted, ridge, truth)
    )
    rng = np.random.default_rng([seed, 5])
    n = len(true_values)
    gains = []
    for _ in range(N_BOOTSTRAP):
        rows = rng.integers(n, size=n)
        gains.append(
            np.median(pearson(predicted_values[rows], true_values[rows])[0])
            - np.median(pearson(ridge_values[rows], true_values[rows])[0])
        )
    low, high = np.quantile(gains, [0.025, 0.975])
    return {"over_ridge_low": round(float(low), 4), "over_ridge_high": round(float(high), 4)}


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    facts = {record["about"]: record for record in records if "about" in record}
    scored = [record for record in records if "about" not in record]
    tables, needed = [], []
    for dataset, fact in facts.items():
        group = select_records(scored, dataset=dataset)
        n_all_pairs = max(r["n_pairs"] for r in group)
        seeds = "mean ± 95 % CI where there is more than one seed"
        for direction in (TO_BRAIN, TO_MODEL):
            of_direction = select_records(group, direction=direction)
            paired = [r for r in of_direction if r["n_pairs"] < n_all_pairs]
            counts = sorted({r["n_pairs"] for r in paired})
            title = (
                f"{dataset_title(fact, dataset)}, {direction}: {{}} of {fact['n_stimuli'] // 5} held-out "
                f"stimuli, by pairs; {seeds}"
            )
            extra: dict[str, Any] = {
                f"ridge, all {n_all_pairs} training stimuli paired": format_mean(
                    [r["r"] for r in of_direction if r["n_pairs"] == n_all_pairs]
                ),
                "chance (95 % of the null)": [
                    f"{max(r['null_95'] for r in select_records(paired, n_pairs=n)):.3f}" for n in counts
                ],
            }
            ceiling = fact["ceiling"] if direction == TO_BRAIN else None
            extra["ceiling (root of the median reliability)"] = "n/a" if ceiling is None else f"{ceiling:.3f}"
            tables.append(table_of_means(title.format("median r"), paired, "r", extra=extra))
            if fact["label"]:
                tables.append(
                    table_of_means(
                        title.format(f"accuracy of {fact['label']} by the target's frozen head"),
                        paired,
                        "accuracy",
                        extra={
                            "source's own head, before transport": per_count(paired, counts, "accuracy_source"),
                            "ceiling: the head on true features": per_count(paired, counts, "accuracy_ceiling"),
                            "chance (95 % of the null)": per_count(paired, counts, "accuracy_null_95"),
                        },
                    )
                )
        needed += pairs_needed(dataset, group)
    tables.append({
        "title": "Pairs that fused needs for what ridge reaches with N pairs (model -> brain; between counts, "
        "straight lines in log N)",
        "columns": ["dataset", "ridge pairs N", "ridge r", "fused pairs", "ridge pairs per fused pair"],
        "rows": [[r["dataset"], str(r["ridge_pairs"]), f"{r['ridge_r']:.3f}", r["shown"], r["factor"]] for r in needed],
    })  # fmt: skip
    figure_list = [*how_many_figure(run, facts, scored, needed), *learning_figures(run, facts, scored)]
    figure_list += decoding_figure(run, facts, scored)
    simulated = any(fact["simulated"] for fact in facts.values())
    hvm_text = "SIMULATED HvM of the public size" if simulated else "the real public set of Majaj & Hong 2015"
    if run.quick:
        hvm_text = "a small SIMULATED HvM"
    claims = [against_ridge(scored), few_pairs(scored), frozen_heads(scored), flow_claim(scored)]
    digests = {name: value for fact in facts.values() for name, value in fact["digests"].items()}
    note = (
        f"hvm-IT and hvm-V4: {hvm_text}"
        + (f" ({PUBLIC} was not at hand; the same command runs it once it is fetched)" if simulated else "")
        + ". v4-session: real V4 of Cowley et al. 2023 with its images, no labels. it-v6: real IT, trial-averaged, "
        "so no ceiling; its images are not public: "
        "the model side is the generative latents (which hold the object's name) or the other half of the "
        "sites (not a second animal: sites recorded together may share noise). "
        + "; ".join(
            f"{name}: {fact['n_stimuli']} stimuli, {fact['n_model']} dimensions of {fact['model_side']}, {fact['n_sites']} sites"
            + (f", median reliability {fact['reliability']:.2f}" if fact["reliability"] is not None else "")
            for name, fact in facts.items()
        )
        + ". Seeds: "
        + "; ".join(
            f"{name}: {plan.seeds_fast} for the fast methods, {plan.seeds_fused} for fused, 1 for flows at "
            f"{len(plan.flow_shares)} share(s)"
            for name, plan in plans(run).items()
        )
        + ". Fewer for what is slow, to keep the full mode within its time."
    )
    return {
        "note": note, "answer": answer(facts, scored, needed), "tables": tables, "claims": claims, "figures": figure_list,
        "digests": digests,
    }  # fmt: skip


def per_count(records: list[Record], counts: list[int], value: str) -> list[str]:
    return [f"{np.mean([r[value] for r in select_records(records, n_pairs=n)]):.3f}" for n in counts]


def matched_cells(
    records: list[Record], first: str, second: str, value: str, direction: str | None = None
) -> list[tuple[Record, float, float]]:
    """Cells (dataset, direction, pairs, seed) that both methods have, with their values."""

    def key(record: Record) -> tuple[Any, ...]:
        return record["dataset"], record["direction"], record["n_pairs"], record["seed"]

    second_records = {key(r): r for r in select_records(records, method=second)}
    return [
        (r, r[value], second_records[key(r)][value])
        for r in select_records(records, method=first)
        if key(r) in second_records and r.get(value) is not None and direction in (None, r["direction"])
    ]


def means_by_cell(matched: list[tuple[Record, float, float]]) -> dict[tuple[str, str, int], tuple[float, float]]:
    """Means over seeds of both methods, by dataset, direction and number of pairs."""
    groups: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    for record, first_value, second_value in matched:
        groups.setdefault((record["dataset"], record["direction"], record["n_pairs"]), []).append(
            (first_value, second_value)
        )
    return {key: (float(np.mean([a for a, _ in v])), float(np.mean([b for _, b in v]))) for key, v in groups.items()}


def against_ridge(scored: list[Record]) -> Record:
    results = matched_cells(scored, "fused", "ridge", "r")
    by_cell = means_by_cell(results)
    n_wins = sum(a > b for a, b in by_cell.values())
    with_interval = [r for r, _, _ in results if "over_ridge_low" in r]
    n_above, n_below = (
        sum(r["over_ridge_low"] > 0 for r in with_interval),
        sum(r["over_ridge_high"] < 0 for r in with_interval),
    )
    worst_cell = min(by_cell.items(), key=lambda item: item[1][0] - item[1][1])
    return {
        "claim": "The fused bridge predicts held-out stimuli better than ridge on the same pairs",
        "verdict": verdict(n_wins, len(by_cell)),
        "evidence": f"mean r above ridge's in {n_wins} of {len(by_cell)} cells (dataset, direction, pairs); to the "
        f"brain, the bootstrap interval over held-out stimuli is above 0 in {n_above} and below in {n_below} of {len(with_interval)} draws; "
        f"worst cell {worst_cell[0]}: "
        f"{worst_cell[1][0]:.3f} against {worst_cell[1][1]:.3f}. Rule: all cells hold, half or more in part. Figure: brain_model.png",
    }


def few_pairs(scored: list[Record]) -> Record:
    shares = []
    for dataset in dict.fromkeys(r["dataset"] for r in scored):
        of_dataset = records_to_brain(dataset, scored)
        best = np.mean([r["r"] for r in of_dataset if r["n_pairs"] == max(o["n_pairs"] for o in of_dataset)])
        shares.append(
            (
                dataset,
                float(
                    np.mean([r["r"] for r in of_dataset if r["method"] == "fused" and r["share"] == 0.2] or [0]) / best
                ),
            )
        )
    n_met = sum(share >= 0.9 for _, share in shares)
    return {
        "claim": "A fifth of the images as pairs gives the predictivity of all of them",
        "verdict": verdict(n_met, len(shares)),
        "evidence": "fused with 20 % of the images as pairs, as a share of the r of ridge with all training images as pairs: "
        + ", ".join(f"{name} {share:.3f}" for name, share in shares)
        + ". Rule: at least .9 on all holds, on half or more in part. Figure: brain_model.png",
    }


def frozen_heads(scored: list[Record]) -> Record:
    decoded = [r for r in scored if r["method"] == "fused" and "accuracy" in r]
    n_above = sum(r["accuracy"] > r["accuracy_null_95"] for r in decoded)
    means = means_by_cell(matched_cells(scored, "fused", "ridge", "accuracy"))
    n_wins = sum(a >= b for a, b in means.values())
    return {
        "claim": "A frozen readout of one space reads the stimuli transported from the other",
        "verdict": verdict(n_above, len(decoded)),
        "evidence": f"accuracy above the 95 % quantile of the null in {n_above} of {len(decoded)} fused draws; at "
        f"least that of ridge in {n_wins} of {len(means)} cells. "
        "Rule: above chance in all holds, in half or more in part. Figure: decoding.png",
    }


def flow_claim(scored: list[Record]) -> Record:
    means = means_by_cell(matched_cells(scored, "fused-flow", "fused", "r"))
    n_wins = sum(a >= b for a, b in means.values())
    return {
        "claim": "Flow matching on the coupling transports at least as well as the barycentric map",
        "verdict": verdict(n_wins, len(means)),
        "evidence": "fused-flow against fused, r: "
        + "; ".join(f"{d}, {direction}, {n} pairs {a:.3f} / {b:.3f}" for (d, direction, n), (a, b) in means.items())
        + ". Rule: all cells hold, half or more in part",
    }


def answer(facts: dict[str, Record], scored: list[Record], needed_pairs: list[Record]) -> str:
    parts = []
    for dataset, fact in facts.items():
        group = [r for r in records_to_brain(dataset, scored) if r["share"] == 0.2]
        fused, ridge = (mean_ci([r["r"] for r in select_records(group, method=name)])[0] for name in ("fused", "ridge"))
        needed = next((row for row in needed_pairs if row["dataset"] == dataset and row["share"] == 0.2), None)
        parts.append(
            f"{dataset_title(fact, dataset)}: with {group[0]['n_pairs']} pairs fused r {fused:.3f}, ridge {ridge:.3f}"
            + (f" (fused needs {needed['shown']} for ridge's)" if needed else "")
        )
    return "Model to brain, held-out stimuli. " + "; ".join(parts) + "."


STUDY = Study(
    "brain_model",
    "Brain and model: real V4 and IT, and HvM at public size (SIMULATED where the real set is not at hand)",
    cells,
    compute,
    finish,
    n_seeds=3,
    memory_gb=3.0,
)

if __name__ == "__main__":
    main(STUDY)
