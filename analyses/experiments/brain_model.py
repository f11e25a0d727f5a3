"""Brain and model: alignment from few paired images, and readouts after transport.

Recordings:

- the public set of Majaj & Hong 2015 (V4 and IT sites, 3,200 images) where its files are at hand, and
  otherwise a SIMULATED one of the same size (the quick mode simulates a small one);
- a real V4 session with its images (Cowley et al. 2023);
- 168 real IT sites on 640 high-variation images, which are not public.

Model sides are EfficientNet-Lite0 with ImageNet weights (four layers, of which those that are read
are chosen within the pairs; it sees the simulated images, too) and the same network untrained,
frozen Gabor energies (layer v1), the generative latents of the stimuli, and, as a second brain, the other half of the IT sites.

1. A fifth of the stimuli is held out. A share of all stimuli is known in both spaces; the others
   are dealt to one space each.
2. The held-out stimuli are transported in both directions and correlated, site by site, with the
   recorded (or computed) values.
3. A readout is trained in the target space on the features of its own training stimuli and frozen.
   It then reads the transported stimuli.
4. Layers of the networks are profiled on the V4 session, chosen within the training images, and scored
   on the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies import drop_constant, select
from neurobridge.assemblies.schema import NEUROID, PRESENTATION
from neurobridge.datasets import locate
from neurobridge.evaluate import Readout, correlate
from neurobridge.evaluate.correlation import pearson
from neurobridge.evaluate.curves.folds import CurveFold
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.methods import FLOWS, make_aligner
from neurobridge.study.tables import format_mean, select_records, table_of_means

from .parts.brain.directions import TO_BRAIN, TO_MODEL
from .parts.brain.figures import decoding_figure, how_many_figure, learning_figures
from .parts.brain.layers import CHOSEN_ON_THE_SESSION, layer_records, layers_figure, layers_tables, network_claim
from .parts.brain.spaces import PUBLIC, is_hvm, prepare_fold, same_neuroids, sides
from .parts.brain.summary import (
    against_ridge,
    answer,
    dataset_title,
    few_pairs,
    flow_claim,
    frozen_heads,
    pairs_needed,
    per_count,
)

FAST = ("ridge", "procrustes", "relative", "bridge")
FEW = ("ridge", "bridge")
N_PERMUTATIONS, N_BOOTSTRAP = 100, 200


class Plan(NamedTuple):
    """Work on a dataset: stimuli, shares of pairs, seeds by the cost of a method, and the fast methods."""

    n_stimuli: int
    shares: tuple[float, ...]
    seeds_fast: int
    seeds_fused: int
    flow_shares: tuple[float, ...]
    fast: tuple[str, ...] = FAST


#: Plans of the full mode; slow methods have fewer seeds and shares, to stay within the time.
PLANS = {
    # A rotation of 6,528 dimensions takes minutes, and so do 320 pairs of them.
    "v4-session, EfficientNet": Plan(640, (0.0078125, 0.05, 0.10, 0.20), 3, 3, (), ("ridge", "relative", "bridge")),
    "v4-session, Gabor": Plan(640, (0.0078125, 0.05, 0.10, 0.20, 0.50), 2, 2, ()),
    "it-v6, latents": Plan(640, (0.0078125, 0.05, 0.10, 0.20, 0.50), 3, 3, ()),
    "it-v6, other sites": Plan(640, (0.0078125, 0.05, 0.10, 0.20, 0.50), 3, 3, ()),
    "hvm-IT": Plan(3200, (0.01, 0.05, 0.20), 2, 1, (), FEW),
    "hvm-V4": Plan(3200, (0.01, 0.05, 0.20), 2, 1, (), FEW),
}
QUICK = {"hvm-IT": Plan(320, (0.05, 0.20), 1, 1, ()), "it-v6, latents": Plan(640, (0.20,), 1, 1, ())}


def plans(run: Run) -> dict[str, Plan]:
    """Return the plan of every dataset of a run; HvM is simulated where its real recordings are not at hand."""
    if run.quick:
        return QUICK
    real = all(locate(PUBLIC, mirror=run.mirror).values())
    return {name if real or not is_hvm(name) else f"simulated-{name}": plan for name, plan in PLANS.items()}


def n_train(plan: Plan) -> int:
    """Return the number of training stimuli, four fifths of all."""
    return plan.n_stimuli * 4 // 5


def cells(run: Run) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [] if run.quick else [{"layers": True, "seed": seed} for seed in run.seeds]
    for dataset, plan in plans(run).items():
        fast = ("ridge", "bridge") if run.quick else plan.fast
        out.append({"dataset": dataset, "about": True})
        for seed_index, seed in enumerate(run.seeds[: plan.seeds_fast]):
            for share in plan.shares:
                flows = FLOWS if share in plan.flow_shares and seed_index == 0 else ()
                fused = () if seed_index >= plan.seeds_fused or flows else ("fused",)
                cell = {"dataset": dataset, "seed": seed, "share": share, "n_pairs": round(share * plan.n_stimuli)}
                out += [{**cell, "method": method} for method in (*fast, *fused, *flows)]
            out.append({"dataset": dataset, "seed": seed, "share": 0.8, "n_pairs": n_train(plan), "method": "ridge"})
    return out


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    if "layers" in cell:
        return layer_records(run, cell)
    if "about" in cell:
        return [dataset_facts(run, cell["dataset"])]
    spaces = sides(run, cell["dataset"])
    prepared = prepare_fold(run, spaces, cell)
    fold = prepared.fold
    aligner = make_aligner(cell["method"], cell["seed"]).fit(fold.source_train, fold.target_train, fold.pairs)
    records = []
    # The coupling is solved once and serves both of its maps.
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
                record |= chosen_layers(aligner, fold, truth)
            records.append(record)
    return records


def chosen_layers(aligner: Any, fold: CurveFold, truth: xr.DataArray) -> Record:
    """Return the layers that were chosen within the pairs, and the r of ridge on them; nothing for one layer."""
    if "source" not in aligner.representation_:
        return {}
    representation = aligner.representation_["source"]
    read = [name for name, share in representation.shares.items() if share > 0]
    train, test = (select(space, layer=read) for space in (fold.source_train, fold.source_test))
    predicted = make_aligner("ridge").fit(train, fold.target_train, fold.pairs).transform(test)
    truth = drop_constant(truth)
    r = pearson(np.asarray(same_neuroids(predicted, truth).values, dtype=np.float64), truth.values)[0]
    return {"representation": representation.name, "r_ridge_of_chosen": round(float(np.median(r)), 4)}


def dataset_facts(run: Run, dataset: str) -> Record:
    spaces = sides(run, dataset)
    reliability = None if spaces.ceiling is None else float(np.median(spaces.ceiling.values))
    return {
        "about": dataset, "simulated": spaces.simulated, "model_side": spaces.model_name, "label": spaces.label,
        "n_stimuli": spaces.brain.sizes[PRESENTATION], "n_model": spaces.model.sizes[NEUROID],
        "n_sites": spaces.brain.sizes[NEUROID], "reliability": reliability,
        "ceiling": None if reliability is None else round(float(np.sqrt(max(reliability, 0))), 4), "digests": spaces.digests,
    }  # fmt: skip


def correlation_scores(predicted: xr.DataArray, truth: xr.DataArray, ceiling: xr.DataArray | None, seed: int) -> Record:
    """Return the median r over dimensions, its null, and its share of the explainable.

    Dimensions that do not vary among the held-out stimuli are left out.
    """
    truth = drop_constant(truth)
    reliability = None if ceiling is None else same_neuroids(ceiling, truth)
    score = correlate(
        same_neuroids(predicted, truth), truth, ceiling=reliability, n_permutations=N_PERMUTATIONS, seed=seed
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
    """Return the accuracy of the target's frozen head on transported stimuli.

    Beside it stand the source's own head and the ceiling.
    """
    opposite = TO_MODEL if direction == TO_BRAIN else TO_BRAIN
    score = heads[direction].score(moved, n_permutations=N_PERMUTATIONS, seed=seed)
    return {
        "accuracy": round(float(score["raw"].item()), 4),
        "accuracy_null_95": round(float(np.quantile(score["null"].values, 0.95)), 4),
        "accuracy_source": round(float(heads[opposite].score(source, n_permutations=0)["raw"].item()), 4),
        "accuracy_ceiling": round(float(heads[direction].score(truth, n_permutations=0)["raw"].item()), 4),
    }


def beside_ridge(predicted: xr.DataArray, ridge: xr.DataArray, truth: xr.DataArray, seed: int) -> Record:
    """Return the interval of median r less that of ridge on the same pairs.

    It is the 95 % bootstrap interval over the held-out stimuli.
    """
    truth = drop_constant(truth)
    predicted_values, ridge_values, true_values = (
        np.asarray(same_neuroids(space, truth).values, dtype=np.float64) for space in (predicted, ridge, truth)
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
    of_layers = [record for record in records if "layers" in record]
    scored = [record for record in records if "about" not in record and "layers" not in record]
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
            of_chosen = [r for r in paired if "r_ridge_of_chosen" in r]
            if of_chosen:
                extra["ridge on the layers that fused chose"] = [
                    format_mean([r["r_ridge_of_chosen"] for r in select_records(of_chosen, n_pairs=n)]) for n in counts
                ]
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
    if of_layers:
        bound = next(fact["ceiling"] for name, fact in facts.items() if name.startswith("v4-session"))
        figure_list += layers_figure(run, of_layers, bound)
        tables = [*layers_tables(of_layers), *tables]
    names = [name for name in facts if is_hvm(name)]
    hvm_text = f"{', '.join(names)}: the real public set of Majaj & Hong 2015. "
    if any(facts[name]["simulated"] for name in names):
        hvm_text = f"{', '.join(names)}: a {'small ' if run.quick else ''}SIMULATED HvM" + (
            ". "
            if run.quick
            else " of the size of the public set: objects are rendered, the network sees the images, and simulated sites respond "
            f"to them. {PUBLIC} was not at hand: once it is fetched, the same command takes its IT and V4 sites instead. "
        )
    # What is claimed of brains is judged on brains.
    of_brains = [record for record in scored if not facts[record["dataset"]]["simulated"]] or scored
    claims = [against_ridge(of_brains), few_pairs(of_brains), frozen_heads(of_brains)]
    claims += [flow_claim(of_brains)] if any(record["method"] in FLOWS for record in of_brains) else []
    claims += [network_claim(of_layers)] if of_layers else []
    if len(of_brains) < len(scored):
        hvm_text += "Claims are judged on the real recordings alone. "
    digests = {name: value for fact in facts.values() for name, value in fact["digests"].items()}
    note = (
        hvm_text
        + "v4-session is real V4 of Cowley et al. 2023 with its images, which have no labels. it-v6 is real IT, averaged over "
        "trials, and has no ceiling. Its images are not public, so no network can see them: the side of the model is the "
        "generative latents, which hold the name of the object, or the other half of the sites. That half is no second animal: "
        "sites that were recorded together may share noise. "
        + "; ".join(
            f"{name}: {fact['n_stimuli']} stimuli, {fact['n_model']} dimensions of {fact['model_side']}, {fact['n_sites']} sites"
            + (f", median reliability {fact['reliability']:.2f}" if fact["reliability"] is not None else "")
            for name, fact in facts.items()
        )
        + ". Seeds: "
        + "; ".join(
            f"{name}: {plan.seeds_fast} for the fast methods, {plan.seeds_fused} for fused"
            + (f", 1 for flows at {len(plan.flow_shares)} share(s)" if plan.flow_shares else "")
            for name, plan in plans(run).items()
        )
        + ". What is slow has fewer seeds, to save time."
        + (" " + CHOSEN_ON_THE_SESSION if of_layers else "")
    )
    return {
        "note": note, "answer": answer(facts, scored, needed), "tables": tables, "claims": claims, "figures": figure_list,
        "digests": digests,
    }  # fmt: skip


STUDY = Study(
    "brain_model",
    "Brain and model: real V4 with a real network, real IT, and HvM at public size (SIMULATED where it is not at hand)",
    cells,
    compute,
    finish,
    n_seeds=3,
    extras=("weights",),
    memory_gb=3.0,
)

if __name__ == "__main__":
    main(STUDY)
