"""Scale: ten thousand to 1.28 million deformed digits a side, from features to accuracy; time, memory, and the pairs alone.

Real MNIST digits, deformed on the fly; no pixel of a deformed digit is kept. A frozen contrastive encoder sees one half of the
training digits, the mean latents of a frozen VAE the other half, and 20, 100 or 1,000 images are known in both. Global alignment is
optimal transport of all points under the bridge cost, in factors that are never multiplied out; local alignment knows the pairs
alone. A digit head that was trained in the target space alone reads test digits that were moved there from the source.

Every alignment runs in a process of its own, so that its peak RSS (imports and mapped files included) is its own. Seconds are those
of the processor. Three seeds at ten thousand points, one above.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from neurobridge.bridge import bridge_cost, couple, kernel_map, ridge_map
from neurobridge.features import extract
from neurobridge.features.references.training import save_reference, train_reference
from neurobridge.flow import ConditionalFlow, Training
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.panels import make_panels, save_panels
from neurobridge.study.tables import format_mean, select_records, table_of_means, verdict

from .parts.common import shuffled_accuracies
from .parts.mnist import ENCODERS, N_DEVELOPMENT, digits, kept_reference
from .parts.scale_spaces import EPSILON, NEAREST, PAIRS, READOUTS, SIDES, load_points, run_task

#: Points a side -> seeds.
SIZES = {10_000: 3, 120_000: 1, 400_000: 1, 1_280_000: 1}
QUICK = {2000: 1}
METRICS = ("euclidean", "geodesic")
LOCAL = ("ridge", "kernel map", "flow")
LABELS = "labels of the pairs, source alone"
STAGES = ("distances", "transport", "map", "kernel map", "draws", "flow")
#: Lost accuracy that counts as kept, accuracy below the best that counts as failing, and log-log slope that counts as linear.
KEPT, FAILS, LINEAR = 0.02, 0.1, 1.1


def sizes(run: Run) -> dict[int, int]:
    return QUICK if run.quick else SIZES


def counts_of(run: Run, n: int, metric: str) -> tuple[int, ...]:
    """Numbers of pairs; the graphs of the geodesic metric are what takes time, and are made once at the larger sizes."""
    if run.quick:
        return (100,)
    return PAIRS if metric == "euclidean" else (20, 100) if n <= 120_000 else (100,)


def cells(run: Run) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for n, n_seeds in sizes(run).items():
        for seed in list(run.seeds)[:n_seeds]:
            out.append({"n": n, "seed": seed, "metric": "pairs"})
            out += [{"n": n, "seed": seed, "metric": m, "n_pairs": p} for m in METRICS for p in counts_of(run, n, m)]
    return out


def seeds_of(run: Run) -> str:
    return ", ".join(f"{min(k, run.n_seeds)} at {n:,}" for n, k in sizes(run).items())


def work_folder(run: Run) -> Path:
    """Where encoders, digits and latents lie; removed at the end."""
    folder = run.out / "work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def target_head(run: Run) -> LogisticRegression:
    """Reads digits in the target space, trained there; with it the frozen encoders and the test digits, once a process."""

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
    """Settings were looked at on the digits before it."""
    return 0 if run.quick else N_DEVELOPMENT


def make_spaces(run: Run, n: int, seed: int) -> dict[str, Any]:
    """Make both spaces and return their facts; the files hold those of one size and seed at a time."""
    target_head(run)
    if run.shared.get("spaces", (0, 0, None))[:2] != (n, seed):
        run.shared["spaces"] = n, seed, run_task("deform", work_folder(run), n=n, seed=seed, first=first_row(run))
    return run.shared["spaces"][2]


def accuracy_scores(run: Run, predicted: np.ndarray) -> dict[str, Any]:
    """Accuracy of what test digits are called, beside shuffled digits and the head on the true latents."""
    truth = digits(run).test_labels[: len(predicted)]
    null = shuffled_accuracies(predicted, truth, np.random.default_rng(0))
    ceiling = float((target_head(run).predict(np.load(work_folder(run) / "test_target.npy")) == truth).mean())
    return {
        "accuracy": float((predicted == truth).mean()), "null_95": float(np.quantile(null, 0.95)), "ceiling": ceiling,
        "n_test": len(truth),
    }  # fmt: skip


def pairs_alone(run: Run, facts: dict[str, Any], n: int, seed: int) -> list[Record]:
    """The pairs alone. The pairs of a seed are the same at every size, so these are computed once."""

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


def average(records: Sequence[Record], value: str, **wanted: Any) -> float:
    """Mean over seeds; NaN where nothing was measured."""
    group = [r[value] for r in select_records(records, **wanted)]
    return float(np.mean(group)) if group else float("nan")


def slope(costs: list[Record], metric: str, n_pairs: int) -> float:
    """Log-log slope of peak RSS above that of the imports, between the two largest sizes."""
    group = select_records(costs, metric=metric, n_pairs=n_pairs)
    across = sorted({r["n"] for r in group})[-2:]
    above = [np.mean([r["rss_gb"] - r["rss_start_gb"] for r in select_records(group, n=n)]) for n in across]
    return float(np.log(above[-1] / above[0]) / np.log(across[-1] / across[0])) if len(across) > 1 else float("nan")


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
        + f" (chance 95 % {average(scores, 'null_95'):.3f}, head on the true latents {average(scores, 'ceiling'):.3f}). At most "
        f"{largest_cost['rss_gb']:.1f} GB ({largest_cost['metric']}, {largest_cost['n_pairs']} pairs); processor seconds there: features "
        f"{average(kinds['features'], 'features_s', n=largest):.0f}, {seconds_text(costs, 'distances')}, {seconds_text(costs, 'transport')}."
    )  # fmt: skip
    note = (
        f"Real data: MNIST digits, deformed on the fly; {kinds['features'][0]['n_bases']:,} base digits a side, none in both but "
        "those of the pairs: at the largest size each is there in many views. Frozen encoders, trained on the training digits "
        "without labels: contrastive latents (width 16, 3 epochs) to VAE means. The head reads target latents of undeformed "
        "training digits; test digits are the official ones, undeformed. The head on the true latents is a reference, no bound: "
        "mean partners are averages, and the source may tell digits better than the target. Mean partner: the plan's formula for "
        "new points, euclidean only; kernel map: kernel ridge from 2,000 points to their mean partners; flow: starts at that map, "
        "trained on 128,000 draws of the plan. "
        f"Epsilon {EPSILON}, {NEAREST} nearest anchors kept, balanced: chosen on the first 10,000 training digits, which no pool "
        "holds. The pairs of a seed are the same at every size, and so is what the pairs alone reach. Seeds by size: "
        f"{seeds_of(run)}; geodesic at 20 pairs up to 120,000 points, at 1,000 pairs not at all. Below 100,000 points "
        "neighbours are searched exactly, which takes longer a point than the approximate search above."
    )
    shutil.rmtree(run.out / "work", ignore_errors=True)
    return {
        "note": note, "answer": answer, "tables": tables, "claims": claims, "figures": figures,
        "digests": digits(run).digests,
    }  # fmt: skip


def seconds_text(costs: list[Record], stage: str) -> str:
    """Tabulate the largest size at 100 pairs, and the growth over the last step."""
    sizes_of = sorted({r["n"] for r in costs})[-2:]
    out = []
    for metric in METRICS:
        values = [average(costs, f"{stage}_s", metric=metric, n_pairs=100, n=n) for n in sizes_of]
        grows = (
            f" (log-log slope {np.log(values[1] / values[0]) / np.log(sizes_of[1] / sizes_of[0]):.1f})"
            if values[1:]
            else ""
        )
        out.append(f"{metric} {values[-1]:.0f}{grows}")
    return f"{stage} " + " and ".join(out)


def cost_tables(features: list[Record], costs: list[Record]) -> list[dict[str, Any]]:
    """Seconds by stage, memory and what the plan is like."""
    settings = sorted({(r["n"], r["metric"], r["n_pairs"]) for r in costs}, key=lambda s: (s[0], s[1], s[2]))
    body, plans = [], []
    for n, metric, n_pairs in settings:
        group = select_records(costs, n=n, metric=metric, n_pairs=n_pairs)
        setting = [f"{n:,}", metric, str(n_pairs)]
        feature_cell = format_mean([r["features_s"] for r in select_records(features, n=n)], 0)
        body.append(
            [
                *setting,
                feature_cell,
                *(format_mean([r[f"{stage}_s"] for r in group if f"{stage}_s" in r], 1) for stage in STAGES),
            ]
        )
        memory = [format_mean([r[value] for r in group], 2) for value in ("rss_start_gb", "rss_transport_gb", "rss_gb")]
        state = [format_mean([r["purity"] for r in group]), f"{np.mean([r['iterations'] for r in group]):.0f}"]
        errors = [f"{max(r[value] for r in group):.1e}" for value in ("marginal_error", "truncation_bound")]
        plans.append([*setting, *memory, *state, *errors])
    same = ["points a side", "metric", "pairs"]
    return [
        {
            "title": "Processor seconds by stage, mean over seeds (features: both sides, shared by all rows of a size)",
            "columns": [*same, "features", *STAGES],
            "rows": body,
        },
        {
            "title": "Peak RSS of the alignment's process (GB: after imports, after transport, at the end), and the plan; purity: "
            "share of drawn pairs of one digit, chance .1",
            "columns": [
                *same,
                "imports",
                "transport",
                "all",
                "purity",
                "iterations",
                "marginal error",
                "truncation bound",
            ],
            "rows": plans,
        },
    ]


def claims_of(scores: list[Record], costs: list[Record], across: list[int]) -> list[dict[str, str]]:
    """Verdicts from the records."""
    small, large = across[0], across[-1]
    kept_cells, slopes, failing_cells, better_cells = [], [], [], []
    seeds = {r["seed"] for r in select_records(scores, n=large)}
    for metric, n_pairs in sorted({(r["metric"], r["n_pairs"]) for r in select_records(costs, n=large)}):
        slopes.append((f"{metric}, {n_pairs} pairs", slope(costs, metric, n_pairs)))
        for readout in READOUTS[metric]:
            group = [
                r for r in select_records(scores, method=f"{metric}: {readout}", n_pairs=n_pairs) if r["seed"] in seeds
            ]
            kept_cells.append(
                (
                    f"{metric}, {n_pairs} pairs, {readout}",
                    average(group, "accuracy", n=small),
                    average(group, "accuracy", n=large),
                )
            )
    for n_pairs in sorted({r["n_pairs"] for r in select_records(scores, n=large)}):
        group = select_records(scores, n=large, n_pairs=n_pairs)
        flow_values = {f"{m}: flow": average(group, "accuracy", method=f"{m}: flow") for m in METRICS}
        local_values = {
            f"pairs: {readout}": average(group, "accuracy", method=f"pairs: {readout}") for readout in LOCAL
        }
        best_flow = max((value for value in flow_values.values() if value == value), default=float("nan"))
        chance = average(group, "null_95")
        failing_cells += [
            (f"{n_pairs} pairs, {name[7:]}", value, best_flow, chance) for name, value in local_values.items()
        ]
        better_cells += [
            (f"{n_pairs} pairs, {name}", value, max(local_values.values()))
            for name, value in flow_values.items()
            if value == value
        ]
    linear = all(value <= LINEAR for _, value in slopes)
    n_kept = sum(after >= before - KEPT for _, before, after in kept_cells)
    n_failing = sum(value <= max(chance, best_flow - FAILS) for _, value, best_flow, chance in failing_cells)
    return [
        {
            "claim": f"Global alignment by OT keeps its accuracy up to {large:,} x {large:,} points in linear memory",
            "verdict": verdict(n_kept if linear else min(n_kept, len(kept_cells) - 1), len(kept_cells)),
            "evidence": f"at {large:,} at most {KEPT} below the accuracy at {small:,}, same seed: {n_kept} of {len(kept_cells)} (all, "
            f"if peak RSS above the imports has a log-log slope of at most {LINEAR} between the two largest sizes; half in part): "
            + "; ".join(f"{name} {before:.3f} -> {after:.3f}" for name, before, after in kept_cells)
            + ". Slopes: "
            + "; ".join(f"{name} {value:.2f}" for name, value in slopes),
        },
        {
            "claim": "Local alignment by the pairs alone fails at this size (paper)",
            "verdict": verdict(n_failing, len(failing_cells)),
            "evidence": f"at {large:,} points, at chance or {FAILS} below the better flow on a plan over the same pairs: {n_failing} "
            f"of {len(failing_cells)} (all hold, half in part): "
            + "; ".join(f"{name} {value:.3f} against {best_flow:.3f}" for name, value, best_flow, _ in failing_cells),
        },
        {
            "claim": "Global alignment is better than the best map of the pairs alone at this size",
            "verdict": verdict(sum(flow_value > local_value for _, flow_value, local_value in better_cells), len(better_cells)),
            "evidence": f"at {large:,} points, the flow on the plan above the best of ridge, kernel map and flow of the pairs "
            "(all hold, half in part): " + "; ".join(f"{name} {flow_value:.3f} against {local_value:.3f}" for name, flow_value, local_value in better_cells),
        },
    ]  # fmt: skip


_MARKS = {"euclidean": ("s", "#0072B2"), "geodesic": ("o", "#D55E00")}
_SHOWN: dict[str, dict[str, Any]] = {
    "geodesic: flow": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    "geodesic: kernel map": {"color": "#D55E00", "marker": "v", "linestyle": "--"},
    "euclidean: flow": {"color": "#0072B2", "marker": "s", "linestyle": "-"},
    "euclidean: kernel map": {"color": "#0072B2", "marker": "^", "linestyle": "--"},
    "pairs: kernel map": {"color": "0.35", "marker": "D", "linestyle": "-."},
    "pairs: flow": {"color": "0.35", "marker": "x", "linestyle": (0, (1, 1))},
    "pairs: ridge": {"color": "0.65", "marker": "P", "linestyle": (0, (4, 2))},
}


def draw_accuracy(run: Run, scores: list[Record], across: list[int], counts: list[int]) -> dict[str, str]:
    figure, axes = make_panels(len(counts), 4.0, columns=len(counts))
    common_seeds = {r["seed"] for r in select_records(scores, n=across[-1])}
    for ax, n_pairs in zip(axes, counts, strict=True):
        for name, style in _SHOWN.items():
            group = select_records(scores, method=name, n_pairs=n_pairs)
            sizes_run = [n for n in across if select_records(group, n=n)]
            if sizes_run:
                # A line goes through the same seeds at every size, or seeds would look like sizes.
                same = [r for r in group if r["seed"] in common_seeds]
                ax.plot(
                    sizes_run, [average(same, "accuracy", n=n) for n in sizes_run], label=name, markersize=5, **style
                )
            for r in (r for r in group if r["seed"] not in common_seeds):
                ax.plot(
                    r["n"] * 0.75, r["accuracy"], color=style["color"], marker=style["marker"], markersize=3, alpha=0.7
                )
        ax.axhline(average(scores, "ceiling"), color="k", linewidth=1, label="head, true latents")
        ax.axhline(average(scores, "null_95"), color="k", linewidth=1, linestyle=":", label="chance, 95 %")
        ax.set(xscale="log", yscale="logit", xlabel="points a side", ylim=(0.09, 0.97), title=f"{n_pairs} pairs")
        ax.set_xlim(across[0] * 0.6, across[-1] * 1.4)
        ax.set_yticks(ticks := [0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95], labels=[f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    axes[0].set_ylabel("accuracy, moved test digits (logit scale)")
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize="small")
    text = f"Real MNIST digits, deformed; {scores[0]['n_test']} test digits; lines: one seed; small: others ({seeds_of(run)})"
    return save_panels(figure, run, "accuracy", text)


def draw_cost(run: Run, features: list[Record], costs: list[Record]) -> dict[str, str]:
    figure, axes = make_panels(2, 5.6)

    def plot_line(ax: Any, group: list[Record], value: str, label: str, **style: Any) -> None:
        sizes_run = sorted({r["n"] for r in group})
        ax.plot(sizes_run, [average(group, value, n=n) for n in sizes_run], label=label, **style)

    plot_line(axes[0], features, "features_s", "features, both sides", color="0.35", marker="D", linestyle="-.")
    for metric, (marker, colour) in _MARKS.items():
        of_metric = select_records(costs, metric=metric, n_pairs=100)
        plot_line(axes[0], of_metric, "distances_s", f"{metric} distances", color=colour, marker=marker)
        plot_line(
            axes[0],
            of_metric,
            "transport_s",
            f"{metric} transport",
            color=colour,
            marker=marker,
            linestyle="--",
            mfc="white",
        )
    plot_line(axes[0], of_metric, "flow_s", "flow", color="0.6", marker="x", linestyle=":")
    for metric, n_pairs in sorted({(r["metric"], r["n_pairs"]) for r in costs}):
        style = {
            "marker": _MARKS[metric][0],
            "color": _MARKS[metric][1],
            "linestyle": {20: ":", 100: "-", 1000: "--"}[n_pairs],
        }
        plot_line(
            axes[1],
            select_records(costs, metric=metric, n_pairs=n_pairs),
            "rss_gb",
            f"{metric}, {n_pairs} pairs",
            **style,
        )
    plot_line(axes[1], features, "rss_gb", "features", color="0.35", marker="D", linestyle="-.")
    axes[1].axhline(average(costs, "rss_start_gb"), color="k", linewidth=1, linestyle=":", label="imports alone")
    last = max(r["n"] for r in costs)
    for ax, top in zip(axes, (average(features, "features_s", n=last), average(costs, "rss_gb", n=last)), strict=True):
        ax.plot([last / 30, last], [top / 30, top], color="0.85", linewidth=4, zorder=0, label="slope 1")
        ax.set(xscale="log", yscale="log", xlabel="points a side")
        ax.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes[0].set(ylabel="processor s", title="time by stage, 100 pairs")
    axes[1].set(ylabel="GB", title="peak RSS of the process")
    text = "Real MNIST digits, deformed; 64 and 32 dimensions; mean over seeds; no n x n matrix is built"
    return save_panels(figure, run, "cost", text)


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
