"""Scale: ten thousand to 1.28 million deformed digits a side.

The digits are real MNIST digits, deformed on the fly; no deformed image is kept. A frozen
contrastive encoder sees one half of the training digits, the encoder of a frozen VAE the other
half, and 20, 100 or 1,000 images are known in both. Global alignment is optimal transport of all
points under the bridge cost, in factors that are never multiplied out. Local alignment uses the
pairs alone. A readout of digits, trained in the target space alone, reads test digits that were
moved there.

Every alignment runs in a process of its own, so that its peak RSS (with imports and mapped files)
is its own. Seconds are processor seconds. There are three seeds at ten thousand points, and one
above.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from neurobridge.bridge import bridge_cost, couple, kernel_map, ridge_map
from neurobridge.features import extract, save_reference, train_reference
from neurobridge.flow import ConditionalFlow, Training
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.tables import format_mean, select_records, table_of_means

from .parts.common import shuffled_accuracies
from .parts.mnist import ENCODERS, N_DEVELOPMENT, digits, kept_reference
from .parts.scale.design import LABELS, LOCAL, METRICS, counts_of, seeds_of, sizes
from .parts.scale.figures import draw_accuracy, draw_cost
from .parts.scale.tables import average, claims_of, cost_tables, seconds_text
from .parts.scale.tasks import EPSILON, NEAREST, READOUTS, SIDES, load_points, run_task


def cells(run: Run) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for n, n_seeds in sizes(run).items():
        for seed in list(run.seeds)[:n_seeds]:
            out.append({"n": n, "seed": seed, "metric": "pairs"})
            out += [{"n": n, "seed": seed, "metric": m, "n_pairs": p} for m in METRICS for p in counts_of(run, n, m)]
    return out


def work_folder(run: Run) -> Path:
    """Make this process's folder of encoders, digits and latents, which is removed at the end."""
    folder = run.out / "work" / str(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def target_head(run: Run) -> LogisticRegression:
    """Train the readout of digits in the target space, once in a process.

    The frozen encoders and the test digits are written along with it.
    """

    def make() -> LogisticRegression:
        mnist, folder = digits(run), work_folder(run)
        train, test = mnist.train[: 4000 if run.quick else None], mnist.test[: 1000 if run.quick else None]
        labels = mnist.labels[: len(train)]
        np.save(folder / "images.npy", train.values)
        np.save(folder / "digits.npy", np.unique(labels, return_inverse=True)[1].astype(np.uint8))
        rows = slice(first_row(run), first_row(run) + 20_000)
        for side, encoder in zip(SIDES, ("contrastive, short", "VAE"), strict=True):
            name, layer, arguments = ENCODERS[encoder]
            if run.quick:
                reference = train_reference(name, train[:3000], seed=0, epochs=1)
            else:
                reference = kept_reference(name, train, seed=0, **arguments)
            save_reference(reference, folder / side)
            layer_values = [
                extract(reference.model, item, layer, preprocess=reference.preprocess, batch_size=512).values
                for item in ((test,) if side == "source" else (test, train[rows]))
            ]
            np.save(folder / f"test_{side}.npy", layer_values[0].astype(np.float32))
        return LogisticRegression(C=100, max_iter=1000).fit(layer_values[1], labels[rows])

    return run.once("head", make)


def flow_steps(run: Run) -> int | None:
    """Return the steps of a flow's training; None for the default."""
    return 100 if run.quick else None


def first_row(run: Run) -> int:
    """Return the first row that a run may use; settings were chosen on the digits before it."""
    return 0 if run.quick else N_DEVELOPMENT


def make_spaces(run: Run, n: int, seed: int) -> dict[str, Any]:
    """Make both spaces and return their facts.

    The files hold those of one size and seed at a time.
    """
    target_head(run)
    if run.shared.get("spaces", (0, 0, None))[:2] != (n, seed):
        run.shared["spaces"] = n, seed, run_task("deform", work_folder(run), n=n, seed=seed, first=first_row(run))
    return run.shared["spaces"][2]


def accuracy_scores(run: Run, predicted: np.ndarray) -> dict[str, Any]:
    """Return the accuracy of predicted digits, its null, and the head on the true latents."""
    truth = digits(run).test_labels[: len(predicted)]
    null = shuffled_accuracies(predicted, truth, np.random.default_rng(0))
    ceiling = float((target_head(run).predict(np.load(work_folder(run) / "test_target.npy")) == truth).mean())
    return {
        "accuracy": float((predicted == truth).mean()), "null_95": float(np.quantile(null, 0.95)), "ceiling": ceiling,
        "n_test": len(truth),
    }  # fmt: skip


def pairs_alone(run: Run, facts: dict[str, Any], n: int, seed: int) -> list[Record]:
    """Score the pairs alone.

    The pairs of a seed are the same at every size, so that this is computed once.
    """

    def make() -> list[Record]:
        test, digit_names, out = np.load(work_folder(run) / "test_source.npy"), np.unique(digits(run).labels), []
        for n_pairs in sorted({p for metric in METRICS for p in counts_of(run, n, metric)}):
            (X, Y), (source_digits, _) = load_points(work_folder(run), facts["dims"], n, n_pairs)
            X, Y = (np.array(side[:n_pairs], dtype=float) for side in (X, Y))
            rows = (np.arange(n_pairs), np.arange(n_pairs))
            flow = ConditionalFlow("affine", training=Training(validation=0.2, n_steps=flow_steps(run)), seed=seed)
            flow.fit(X, Y, couple(bridge_cost(X, Y, rows), method="pairs"))
            moved = [ridge_map(X, Y)(test), kernel_map(X, Y, seed=seed)(test), flow.transport(test)]
            predictions = {
                f"pairs: {readout}": target_head(run).predict(item) for readout, item in zip(LOCAL, moved, strict=True)
            }
            predictions[LABELS] = (
                LogisticRegression(max_iter=1000).fit(X, digit_names[source_digits[:n_pairs]]).predict(test)
            )
            out += [
                {"n_pairs": n_pairs, "method": readout, **accuracy_scores(run, item)}
                for readout, item in predictions.items()
            ]
        return out

    return [{"kind": "accuracy", "n": n, "seed": seed, **r} for r in run.once(f"local {seed}", make)]


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    n, seed = cell["n"], cell["seed"]
    facts = make_spaces(run, n, seed)
    if cell["metric"] == "pairs":
        features = {key: value for key, value in facts.items() if key != "dims"}
        return [{"kind": "features", "n": n, "seed": seed, **features}, *pairs_alone(run, facts, n, seed)]
    costs = run_task("align", work_folder(run), dims=facts["dims"], n_steps=flow_steps(run), **cell)
    moved = np.load(work_folder(run) / "moved.npz")
    base = {"n": n, "seed": seed, "n_pairs": cell["n_pairs"]}
    return [
        {"kind": "cost", **base, "metric": cell["metric"], **costs},
        *(
            {
                "kind": "accuracy",
                **base,
                "method": f"{cell['metric']}: {readout}",
                **accuracy_scores(run, target_head(run).predict(moved[readout])),
            }
            for readout in READOUTS[cell["metric"]]
        ),
    ]


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    kinds = {kind: select_records(records, kind=kind) for kind in ("features", "accuracy", "cost")}
    scores, costs = kinds["accuracy"], kinds["cost"]
    across, counts = sorted({r["n"] for r in scores}), sorted({r["n_pairs"] for r in scores})
    largest = across[-1]
    tables = []
    for n_pairs in counts:
        group = sorted(select_records(scores, n_pairs=n_pairs), key=lambda r: r["n"])
        extra = {
            title: [format_mean([r[value] for r in select_records(group, n=n)]) for n in across]
            for title, value in (("chance 95", "null_95"), ("head on the true target latents", "ceiling"))
        }
        title = (
            f"Accuracy on {group[0]['n_test']} test digits by points a side, {n_pairs} pairs; mean ± 95 % CI over seeds"
        )
        tables.append(table_of_means(title, group, "accuracy", columns="n", extra=extra))
    tables += cost_tables(kinds["features"], costs)
    claims = claims_of(scores, costs, across)
    figures = [draw_accuracy(run, scores, across, counts), draw_cost(run, kinds["features"], costs)]
    lines = []
    for n_pairs in counts:
        group = select_records(scores, n_pairs=n_pairs, n=largest)
        flow_accuracy = {m: average(group, "accuracy", method=f"{m}: flow") for m in METRICS}
        shown = ", ".join(f"flow on the {m} plan {value:.3f}" for m, value in flow_accuracy.items() if value == value)
        best_local = max(
            (f"pairs: {readout}" for readout in LOCAL), key=lambda readout: average(group, "accuracy", method=readout)
        )
        lines.append(
            f"{n_pairs} pairs: {shown}, the pairs alone {average(group, 'accuracy', method=best_local):.3f} ({best_local[7:]}), "
            f"a classifier of the source on the pairs' labels {average(group, 'accuracy', method=LABELS):.3f}"
        )
    largest_cost = max(select_records(costs, n=largest), key=lambda r: r["rss_gb"])
    answer = (
        f"With {largest:,} points a side (real deformed digits, seeds: {sizes(run)[largest]}), accuracy of moved test digits: "
        + "; ".join(lines)
        + f" (chance 95 % {average(scores, 'null_95'):.3f}, head on the true latents "
        f"{average(scores, 'ceiling'):.3f}). At most {largest_cost['rss_gb']:.1f} GB ({largest_cost['metric']}, "
        f"{largest_cost['n_pairs']} pairs); processor seconds there: features "
        f"{average(kinds['features'], 'features_s', n=largest):.0f}, {seconds_text(costs, 'distances')}, "
        f"{seconds_text(costs, 'transport')}."
    )  # fmt: skip
    note = (
        "The data are real MNIST digits, deformed as they are read. Each side has "
        f"{kinds['features'][0]['n_bases']:,} base digits, and none is on both sides but those of the pairs; at the largest size "
        "each is there in many views. The encoders are frozen and were trained on the training digits without labels: contrastive "
        "latents (width 16, 3 epochs) are carried to the means of a VAE. The head reads target latents of undeformed training "
        "digits, and the test digits are the official ones, undeformed. The head on the true latents is a reference and no bound: "
        "mean partners are averages, and the source may tell digits apart better than the target. 'Mean partner' is the formula "
        "of the plan for new points (under Euclidean distances only); 'kernel map' is kernel ridge regression from 2,000 points to "
        "their mean partners; 'flow' starts at this map and is trained on 128,000 draws from the plan. The temperature "
        f"({EPSILON}), the number of nearest anchors that are kept ({NEAREST}) and balanced transport were chosen on the first "
        "10,000 training digits, which no pool holds. The pairs of a seed are the same at every size, and so is what the pairs "
        f"alone reach. Seeds by size: {seeds_of(run)}. Geodesic distances were run at 20 pairs up to 120,000 points, and at 1,000 "
        "pairs not at all. Below 100,000 points neighbours are searched exactly, which takes longer per point than the "
        "approximate search above."
    )
    shutil.rmtree(run.out / "work", ignore_errors=True)
    return {
        "note": note, "answer": answer, "tables": tables, "claims": claims, "figures": figures,
        "digests": digits(run).digests,
    }  # fmt: skip


STUDY = Study(
    "scale",
    "Ten thousand to 1.28 million points a side: real MNIST digits, deformed on the fly",
    cells,
    compute,
    finish,
    n_seeds=3,
    extras=("ann",),
    memory_gb=6.0,
    disk_gb=2.0,
)

if __name__ == "__main__":
    main(STUDY)
