"""Fully supervised: real MNIST with 20 % to 100 % of the training images captioned.

The paper does not treat this regime. Spaces, digit head and test are those of `image_text`, with
thousands of pairs instead of dozens. Compared are true alignment by all pairs (kernel ridge, or a
flow), the linear baselines on all pairs, the labels alone on the frozen encoder, and a conv net
trained end to end on the same labels, without and with augmentation. Alignment gets its best shot:
captions are also reduced before aligning to the nine directions that tell digits apart among
captions alone ("reduced"), and the fused bridge is chosen by the frozen head on the digits of
held-out pairs. It holds n x m matrices and thousands of anchors: it uses 6,000 of the pairs (10 %).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurobridge import figures
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study
from neurobridge.study.panels import BARS, error_bars, make_panels, save_panels
from neurobridge.study.tables import format_mean, mean_ci, over_seeds, select_records, table_of_means, verdict

from .parts.mnist import (
    BY_LABELS,
    END_TO_END,
    LABEL_ONLY,
    MAIN,
    N_CAPTIONS,
    REDUCED,
    accuracy_records,
    captions,
    digits,
    head_accuracy,
    n_images,
)
from .parts.paired import difference_tables, negative_first, paired_differences

SHARES = (0.2, 0.5, 1.0)
FUSED_PAIRS = 6000
PAIRS_REDUCED = "pairs" + REDUCED
FUSED = ("fused", "fused" + REDUCED, BY_LABELS + REDUCED)
OURS = ("pairs", PAIRS_REDUCED, "pairs-flow", *FUSED)
LINEAR = ("ridge", "ridge" + REDUCED, "pls", "cca", "procrustes", "whitened")
# Two standard errors of a difference of accuracies near .99 among 10,000 digits.
MARGIN = 0.002


def counts(run: Run) -> list[int]:
    """Return the numbers of captioned images of a run."""
    return [round(share * n_images(run)) for share in (SHARES[:1] if run.quick else SHARES)]


def cells(run: Run) -> list[dict[str, Any]]:
    methods = (
        ["pairs", PAIRS_REDUCED, "ridge", "logistic", END_TO_END[0]]
        if run.quick
        else ["pairs", PAIRS_REDUCED, *LINEAR, *LABEL_ONLY, *END_TO_END]
    )
    fused = [] if run.quick else [(name, FUSED_PAIRS) for name in FUSED]
    flow = [] if run.quick else [("pairs-flow", n) for n in counts(run)]
    return [
        {"encoder": MAIN, "method": name, "n_pairs": n, "seed": seed}
        for seed in run.seeds
        for name, n in (
            *((name, n) for name in methods for n in counts(run)),
            *fused,
            *(flow if seed == run.seed else []),
        )
    ]


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    return accuracy_records(run, cell)


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    head = head_accuracy(run, captions(run, N_CAPTIONS))
    null_95, n_test = mean_ci([r["null_95"] for r in records])[0], records[0]["n_test"]
    across = counts(run)
    seeds = over_seeds(run.seeds)
    group = [r for r in records if r["n_pairs"] in across]
    capped = {name: [r["accuracy"] for r in select_records(records, method=name)] for name in FUSED}
    capped = {name: values for name, values in capped.items() if values}
    extra: dict[str, Any] = {f"{name} on {FUSED_PAIRS:,} of them": format_mean(each) for name, each in capped.items()}
    tables = [
        table_of_means(
            f"Accuracy on {n_test:,} real test digits, by captioned (or labelled) training images; {seeds}",
            group,
            "accuracy",
            extra={
                **extra,
                "chance (95th percentile, shuffled)": f"{null_95:.3f}",
                "head on new captions (ceiling)": f"{head:.3f}",
            },
        )
    ]
    means = {
        n: {
            name: float(np.mean([r["accuracy"] for r in select_records(group, method=name, n_pairs=n)]))
            for name in dict.fromkeys(r["method"] for r in group)
        }
        for n in across
    }
    for n in across:
        means[n] |= {name: float(np.mean(values)) for name, values in capped.items()}
    our_best = {n: max((value, name) for name, value in means[n].items() if name in OURS) for n in across}
    best_linear = {n: max((value, name) for name, value in means[n].items() if name in LINEAR) for n in across}
    best_of_all = {n: max((value, name) for name, value in means[n].items()) for n in across}

    def line(rival: dict[int, tuple[float, str]]) -> str:
        return "; ".join(
            f"{n:,}: {our_best[n][1]} {our_best[n][0]:.4f}, {rival[n][1]} {rival[n][0]:.4f}" for n in across
        )

    best = {n: our_best[n][1] for n in across}
    named = [
        {**r, "method": "best of ours", "n_pairs": n}
        for n in across
        for r in select_records(records, method=best[n])
        if r["n_pairs"] == n or best[n] in FUSED
    ]
    others = [name for name in dict.fromkeys(r["method"] for r in group) if name not in OURS]
    differences = paired_differences([*named, *group], "accuracy", "best of ours", others, ("n_pairs",))
    tables += difference_tables("Best of ours less each other method: accuracy, paired by seed", differences, None)
    claims = []
    for claim, names in (
        ("With a fifth of the pairs or more, alignment is as good as training end to end", END_TO_END[:1]),
        ("The same, end to end with augmentation", END_TO_END[1:]),
        ("The same, the labels alone on the frozen encoder", LABEL_ONLY),
        ("The same, the best linear map of all pairs", LINEAR),
    ):
        rivals = {n: [(means[n][name], name) for name in names if name in means[n]] for n in across}
        if all(rivals.values()):
            rival = {n: max(values) for n, values in rivals.items()}
            claims.append({
                "claim": claim,
                "verdict": verdict(sum(our_best[n][0] >= rival[n][0] - MARGIN for n in across), len(across)),
                "evidence": f"best of ours at least the other less {MARGIN} (best chosen on the test digits, on both sides): "
                + line(rival),
            })  # fmt: skip
    answer = "Who wins: " + "; ".join(
        f"{n / n_images(run):.0%}: {best_of_all[n][1]} {best_of_all[n][0]:.4f}, best of ours ({our_best[n][1]}) "
        f"{our_best[n][0]:.4f}, best linear map ({best_linear[n][1]}) {best_linear[n][0]:.4f}"
        for n in across
    )
    return {
        "note": (
            f"The data are real MNIST with {n_test:,} test images; the encoder and the captions are those of image_text. The flow "
            "of the pairs was run on the first seed. Kernel ridge of the pairs has 500 centres. The frozen encoder was not chosen "
            "for so many pairs."
        ),
        "answer": answer + f". Chance {null_95:.2f}.",
        "tables": tables,
        "claims": negative_first(claims),
        "figures": [draw(run, group, capped, null_95, head)],
        "digests": digits(run).digests,
    }


def draw(run: Run, group: list[Record], capped: dict[str, list[float]], null_95: float, head: float) -> dict[str, str]:
    """Draw the error against the share of captioned images, on a log scale down from chance."""
    figure, (ax,) = make_panels(1, 7.2, 4.4)
    across = counts(run)
    styles = figures.styles_of(dict.fromkeys(r["method"] for r in group))
    for name in styles:
        counts_run = [n for n in across if select_records(group, method=name, n_pairs=n)]
        values = [[1 - r["accuracy"] for r in select_records(group, method=name, n_pairs=n)] for n in counts_run]
        shares = [n / n_images(run) for n in counts_run]
        means = [np.mean(item) for item in values]
        ax.errorbar(shares, means, yerr=error_bars(values), capsize=2, markersize=6, label=name, **styles[name])
    if capped:
        name = max(capped, key=lambda each: float(np.mean(capped[each])))
        ax.axhline(
            1 - float(np.mean(capped[name])),
            color=figures.PALETTE["fused"],
            linestyle=(0, (1, 2)),
            label=f"{name} on {FUSED_PAIRS:,}",
        )
    ax.axhline(1 - null_95, color="0.5", linestyle="--", linewidth=1, label=f"chance (95th pct.) {1 - null_95:.2f}")
    ax.set_yscale("log")
    ax.set_xlabel("share of the training images with a known caption or label")
    ax.set_ylabel("error on test digits (log scale)")
    ax.set_xticks([n / n_images(run) for n in across], [f"{n / n_images(run):.0%}" for n in across])
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    text = (
        f"Real MNIST, {group[0]['n_test']:,} test digits; {BARS}; "
        f"ceiling: the head on new captions errs in {1 - head:.3f}"
    )
    return save_panels(figure, run, "supervised", text)


STUDY = Study(
    "supervised",
    "Fully supervised: real MNIST with 20 % to 100 % of the images captioned",
    cells,
    compute,
    finish,
    n_seeds=3,
    extras=("text",),
    memory_gb=8.0,
)

if __name__ == "__main__":
    main(STUDY)
