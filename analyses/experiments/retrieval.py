"""Natural images and text: retrieval between CLIP and MiniLM embeddings over few known pairs.

The data are real: Flickr8k image embeddings (CLIP ViT-B/32) and the captions of the same 1,000
images, embedded by MiniLM, which has seen no image. 200 images are held out with their captions; P
of the others are known pairs, and the rest is dealt to one side each. A moved caption ranks the
200 held-out images by cosine, and a moved image the captions.

Held-out control: the text embeddings of 1,203 class names lie in CLIP's space and are used by no
method. A moved caption is named by its nearest classes; it is right if a class that the caption
mentions is among the first five.

The fused bridge chooses its settings by how well it finds held-out partners (``criterion="retrieval"``):
that setting was named before the run and is judged. Its default, by correlation, stands beside it.
Methods that take seconds a fit run at fewer numbers of pairs, the flows on the first seed alone.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge import figures
from neurobridge.aligners import BASELINES, AssemblyAligner
from neurobridge.datasets import load
from neurobridge.evaluate.curves.folds import draw_curve_fold
from neurobridge.features import embed_text
from neurobridge.points.ranks import rank_of
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.methods import FLOWS, METHODS, make_aligner
from neurobridge.study.panels import curves_of, make_panels, save_panels
from neurobridge.study.tables import format_mean, over_seeds, select_records, table_of_means, verdict

from .parts.classes import FINDING
from .parts.common import cosines
from .parts.paired import difference_tables, paired_differences, tally

N_PAIRS = (10, 20, 50, 100, 200, 400, 800)
#: The setting that is judged.
JUDGED = FINDING
SLOW = (JUDGED, "fused", "fugw")
SLOW_PAIRS = (20, 100, 400)
FLOW_PAIRS = (100,)
N_QUICK = 400
DIRECTIONS = {"caption -> image": "images", "image -> caption": "captions"}


class Spaces(NamedTuple):
    """Both spaces, the embedded class names in CLIP's, and which of them each caption mentions."""

    captions: xr.DataArray
    images: xr.DataArray
    classes: np.ndarray
    mentioned: list[set[int]]
    digests: dict[str, str]


def spaces(run: Run) -> Spaces:
    """Load and embed the data once in a process."""

    def make() -> Spaces:
        flickr: Any
        classes: Any
        flickr, classes = load("clip-flickr8k", mirror=run.mirror), load("clip-class-text", mirror=run.mirror)
        stimuli, images = flickr.stimuli, flickr.activations
        if run.quick:
            stimuli, images = stimuli.iloc[:N_QUICK], images.isel(presentation=slice(N_QUICK))
        text = embed_text(stimuli[["stimulus_id", "caption"]])
        table = classes.stimuli
        words = [
            {name.replace("_", " ").split(" (")[0].lower() for name in (row.category_name, *row.synonyms.split("; "))}
            for row in table.itertuples()
        ]
        mentioned = []
        for line in stimuli["caption"]:
            caption_words = " " + " ".join(re.findall(r"[a-z]+", line.lower())) + " "
            mentioned.append(
                {k for k, names in enumerate(words) if any(f" {name} " in caption_words for name in names)}
            )
        digests = {**flickr.attrs["digests"], **classes.attrs["digests"]}
        return Spaces(text, images, classes.activations.values, mentioned, digests)

    return run.once("spaces", make)


def counts_of(run: Run, method: str, seed: int) -> tuple[int, ...]:
    """Return the numbers of pairs at which a method runs with a seed."""
    if run.quick:
        return (50,) if method == JUDGED else (50, 200) if method == "ridge" else ()
    if method in FLOWS:
        return FLOW_PAIRS if seed == run.seed else ()
    return SLOW_PAIRS if method in SLOW else N_PAIRS


def cells(run: Run) -> list[dict[str, Any]]:
    return [
        {"seed": seed, "n_pairs": n, "method": name}
        for seed in run.seeds
        for name in (JUDGED, *METHODS)
        for n in counts_of(run, name, seed)
    ]


def make_cell_aligner(run: Run, cell: dict[str, Any]) -> AssemblyAligner:
    """Make the aligner of a cell; quick runs fit one candidate."""
    if cell["method"] != JUDGED:
        return make_aligner(cell["method"], cell["seed"])
    one_candidate = {"lams": (0.9,), "epsilons": (0.02,), "n_rounds": (1,), "kernel_rounds": (0,), "n_folds": 2}
    return make_aligner(
        "fused", cell["seed"], criterion="retrieval", **({"fuse_options": one_candidate} if run.quick else {})
    )


def ranks(scores: np.ndarray, true_columns: np.ndarray | None = None) -> np.ndarray:
    """Return the rank (1 is best) of the true column in each row, by default the row's own; ties count half."""
    rows = np.arange(len(scores))
    return rank_of(scores, scores[rows, rows if true_columns is None else true_columns])


def recalls(rank: np.ndarray) -> dict[str, float]:
    """Return recall at 1, 5 and 10, and the median rank."""
    return {**{f"R@{k}": float((rank <= k).mean()) for k in (1, 5, 10)}, "median_rank": float(np.median(rank))}


def nearest_classes(embedded: np.ndarray, classes: np.ndarray) -> list[set[int]]:
    """Return the five nearest classes of every point."""
    return [set(five.tolist()) for five in np.argsort(-cosines(embedded, classes), axis=1)[:, :5]]


def share_named(nearest: list[set[int]], mentioned: list[set[int]]) -> float:
    """Return the share of captions with a mentioned class among the five nearest."""
    return float(np.mean([bool(five & true_classes) for five, true_classes in zip(nearest, mentioned, strict=True)]))


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    loaded = spaces(run)
    fold = draw_curve_fold(loaded.captions, loaded.images, cell["n_pairs"], seed=cell["seed"])
    aligner = make_cell_aligner(run, cell).fit(fold.source_train, fold.target_train, fold.pairs)
    transports = {
        "caption -> image": (aligner.transform(fold.source_test).values, fold.target_test.values),
        "image -> caption": (aligner.inverse_transform(fold.target_test).values, fold.source_test.values),
    }
    rng = np.random.default_rng([cell["seed"], cell["n_pairs"]])
    records = []
    for direction, (queries, gallery) in transports.items():
        scores = cosines(queries, gallery)
        null = [recalls(ranks(scores, rng.permutation(len(scores))))["R@10"] for _ in range(200)]
        records.append({
            **cell, "direction": direction, **recalls(ranks(scores)), "null_mean": float(np.mean(null)),
            "null_95": float(np.quantile(null, 0.95)), "n_test": len(scores),
        })  # fmt: skip
    row_of = {stimulus: k for k, stimulus in enumerate(loaded.images["stimulus_id"].values)}
    mentioned = [loaded.mentioned[row_of[stimulus]] for stimulus in fold.target_test["stimulus_id"].values]
    rows = np.flatnonzero([bool(classes) for classes in mentioned])
    mentioned = [mentioned[k] for k in rows]
    nearest = nearest_classes(transports["caption -> image"][0][rows], loaded.classes)
    null = [share_named([nearest[k] for k in rng.permutation(len(rows))], mentioned) for _ in range(200)]
    records.append({
        **cell, "direction": "class name", "named": share_named(nearest, mentioned), "null_mean": float(np.mean(null)),
        "null_95": float(np.quantile(null, 0.95)), "n_test": len(rows),
        "true_embedding": share_named(nearest_classes(fold.target_test.values[rows], loaded.classes), mentioned),
    })  # fmt: skip
    return records


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    tables, n_test = [], records[0]["n_test"]
    seeds = over_seeds(run.seeds)
    for direction in DIRECTIONS:
        group = select_records(records, direction=direction)
        for value, chance in (
            ("R@1", 1 / n_test),
            ("R@5", 5 / n_test),
            ("R@10", 10 / n_test),
            ("median_rank", (n_test + 1) / 2),
        ):
            tables.append(
                table_of_means(
                    f"{direction}: {value.replace('_', ' ')} among {n_test}, by known pairs; {seeds}",
                    group,
                    value,
                    extra={"chance": f"{chance:.4g}"},
                )
            )
    control = select_records(records, direction="class name")
    counts = sorted({record["n_pairs"] for record in control})
    tables.append(
        table_of_means(
            f"Held-out control: share of {control[0]['n_test']} captions named rightly (top 5 of 1,203 classes); {seeds}",
            control,
            "named",
            extra={
                "chance 95": [format_mean([r["null_95"] for r in select_records(control, n_pairs=n)]) for n in counts],
                "true image embedding ": format_mean([r["true_embedding"] for r in control]),
            },
        )
    )
    aligned = [r for r in records if r["direction"] in DIRECTIONS]
    rivals = [name for name in METHODS if name not in FLOWS]
    differences = paired_differences(aligned, "R@10", JUDGED, rivals, ("direction", "n_pairs"))
    tables += difference_tables(f"{JUDGED} less each other method, R@10, paired by seed", differences)
    draw(run, records)
    means, control_means = mean_scores(records, "R@10"), mean_scores(records, "named")
    recall_rows, naming_rows = beside_baselines(means), beside_baselines(control_means)
    chance = float(np.mean([r["null_95"] for r in control]))
    claims = [
        {
            "claim": "Chosen by retrieval, the fused bridge finds images and captions better than every baseline on the same pairs",
            "verdict": verdict_on_gains(
                [fused_value - baseline_value for _, fused_value, _, baseline_value in recall_rows]
            ),
            "evidence": evidence_of("R@10, mean of both directions and seeds", recall_rows) + f"; {tally(differences)}",
        },
        {
            "claim": "It carries captions into CLIP's space so that class names, which no method has seen, are found",
            "verdict": verdict_on_gains([fused_value - chance for _, fused_value, _, _ in naming_rows]),
            "evidence": f"above the 95 % quantile of chance ({chance:.3f}) at every, some or no number of pairs; "
            + evidence_of("named rightly, mean over seeds", naming_rows),
        },
    ]
    tenth = 10 / n_test
    answer = (
        f"R@10 among {n_test} held-out real images and captions (mean of both directions, chance {tenth:.2f}): "
        + "; ".join(
            f"{n} pairs: {JUDGED} {fused_value:.2f}, best baseline ({name}) {baseline_value:.2f}"
            for n, fused_value, name, baseline_value in recall_rows
        )
        + ". Class names, used by no method, are among the first five for "
        + "; ".join(
            f"{fused_value:.2f} of captions at {n} pairs ({name} {baseline_value:.2f})"
            for n, fused_value, name, baseline_value in naming_rows
        )
        + f" (chance {chance:.2f}, true image embedding {np.mean([r['true_embedding'] for r in control]):.2f})."
    )
    note = (
        f"The data are real: Flickr8k, {spaces(run).images.sizes['presentation']} images with one caption each. The source holds "
        "MiniLM embeddings of the captions (384 dimensions), the target CLIP ViT-B/32 embeddings of the images (512 dimensions). "
        f"{n_test} images and their captions are held out and reach no fit. To save time, {', '.join(map(repr, SLOW))} were run at "
        f"{', '.join(map(str, SLOW_PAIRS))} pairs only, and the flows at {', '.join(map(str, FLOW_PAIRS))} pairs on the first seed."
    )
    shown = {
        "file": "retrieval.png",
        "caption": f"Real Flickr8k: R@10 among {n_test} both ways, and naming of classes that no method has seen, by known pairs.",
    }
    return {
        "note": note, "answer": answer, "tables": tables, "claims": claims, "figures": [shown], "digests": spaces(run).digests,
    }  # fmt: skip


def draw(run: Run, records: list[Record]) -> None:
    """Draw retrieval in both directions, and the naming of classes."""
    figure, axes = make_panels(3)
    control = select_records(records, direction="class name")
    panel = [(direction, select_records(records, direction=direction), "R@10") for direction in DIRECTIONS]
    for ax, (title, group, value) in zip(
        axes, [*panel, ("class names, used by no method", control, "named")], strict=True
    ):
        figures.learning_curve(
            curves_of([r for r in group if r["method"] != "unbalanced"], value),
            ax=ax,
            ylabel=f"R@10 among {group[0]['n_test']}" if value == "R@10" else "named rightly (top 5 of 1,203)",
            null=float(np.mean([r["null_95"] for r in group])),
            ceiling=1.0 if value == "R@10" else float(np.mean([r["true_embedding"] for r in group])),
            title=title,
        )
        ax.legend().remove()
    handles, labels = axes[0].get_legend_handles_labels()
    control_handles, control_labels = axes[2].get_legend_handles_labels()
    extra = [k for k, label in enumerate(control_labels) if label not in labels]
    figure.legend(
        [*handles, *(control_handles[k] for k in extra)],
        [*labels, *(f"{control_labels[k]} (names)" for k in extra)],
        loc="outside right upper",
        fontsize="small",
        frameon=False,
    )
    caption = (
        f"Real Flickr8k, CLIP images and MiniLM captions; {panel[0][1][0]['n_test']} held out; seeds "
        f"{run.seeds.start}-{run.seeds.stop - 1}, bars are their range; dotted line of naming: "
        "the true image embeddings, a reference"
    )
    save_panels(figure, run, "retrieval", caption)


def mean_scores(records: list[Record], value: str) -> dict[int, dict[str, float]]:
    """Return means over seeds and directions: number of pairs -> method -> mean."""
    group = [r for r in records if value in r]
    return {
        n: {
            method: float(np.mean([r[value] for r in select_records(group, n_pairs=n, method=method)]))
            for method in dict.fromkeys(r["method"] for r in select_records(group, n_pairs=n))
        }
        for n in sorted({r["n_pairs"] for r in group})
    }


def beside_baselines(means: dict[int, dict[str, float]]) -> list[tuple[int, float, str, float]]:
    """Return pairs, the judged setting, and the best baseline, where the former ran."""
    out = []
    for n, by_method in means.items():
        if JUDGED in by_method:
            best = max((m for m in by_method if m in BASELINES), key=lambda m: by_method[m])
            out.append((n, by_method[JUDGED], best, by_method[best]))
    return out


def verdict_on_gains(gains: list[float]) -> str:
    """Judge gains at every, some or no number of pairs."""
    return verdict(sum(gain > 0 for gain in gains), len(gains), part=0)


def evidence_of(quantity: str, rows: list[tuple[int, float, str, float]]) -> str:
    """Format the rule and the values behind a verdict."""
    lines = "; ".join(
        f"{n} pairs: {JUDGED} {fused_value:.3f}, best baseline {name} {baseline_value:.3f}"
        for n, fused_value, name, baseline_value in rows
    )
    return f"{quantity}, higher at every, some or no number of pairs (the baseline is the best of all on the same stimuli): {lines}"


STUDY = Study(
    "retrieval",
    "Natural images and text: real Flickr8k, CLIP and MiniLM",
    cells,
    compute,
    finish,
    n_seeds=5,
    extras=("text",),
)

if __name__ == "__main__":
    main(STUDY)
