"""Tables, figures and claims of natural images."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurobridge import figures
from neurobridge.study.harness import Record, Run
from neurobridge.study.panels import curves_of, make_panels, save_panels
from neurobridge.study.tables import over_seeds, select_records, table_of_means, verdict

from .classes import FINDING, NAMING
from .paired import (
    against,
    caution,
    difference_tables,
    least_gains,
    mean_of,
    met_by,
    negative_first,
    paired_differences,
    seeds_of,
    tally,
)

CIFAR, SAMPLE = "CIFAR-10", "ImageNet sample"
BASELINES = ("ridge", "procrustes", "self-trained", "whitened", "cca", "relative")
LOGISTIC, NET, AUGMENTED = "logistic", "end to end", "end to end, augmented"
LABELS_ALONE = (LOGISTIC, NET, AUGMENTED)
#: Share of the training images from which on the paper expects training end to end to win.
A_FIFTH = 2000
CHANCE_ROW, CEILING_ROW = "chance (95th percentile, shuffled)", "head on new captions (ceiling)"
FORWARD, NAMED = "image -> caption", "image -> name"


def summary(run: Run, records: list[Record]) -> dict[str, Any]:
    """Return the answer, tables, claims and figures of all records."""
    cifar, sample = (select_records(records, set=name) for name in (CIFAR, SAMPLE))
    tables = cifar_tables(run, cifar) + sample_tables(run, sample)
    by = ("direction", "n_pairs")
    naming = paired_differences(
        select_records(cifar, direction=FORWARD), "accuracy", NAMING, (*BASELINES, *LABELS_ALONE), by
    )
    finding = paired_differences(cifar, "hit", FINDING, BASELINES, by)
    unseen = paired_differences(sample, "R@10", FINDING, BASELINES, by)
    for title, differences in (
        (f"{NAMING} less each other method, share of images named, paired by seed", naming),
        (f"{FINDING} less each other method, nearest point, paired by seed", finding),
        (f"Unseen classes: {FINDING} less each other method, R@10, paired by seed", unseen),
    ):
        tables += difference_tables(title, differences)
    if run.quick:
        return {"answer": "Quick.", "tables": tables, "claims": [], "figures": [cifar_figure(run, cifar)]}
    return {
        "answer": answer_of(cifar, sample) + caution(run), "tables": tables,
        "claims": negative_first(claims_of(cifar, sample, naming, finding, unseen)),
        "figures": [cifar_figure(run, cifar), sample_figure(run, sample)],
    }  # fmt: skip


def cifar_tables(run: Run, cifar: list[Record]) -> list[dict[str, Any]]:
    """Tabulate what the head names, and what is nearest."""
    tables = []
    for direction in dict.fromkeys(r["direction"] for r in cifar):
        group = select_records(cifar, direction=direction)
        carried_over = [r for r in group if "hit" in r]
        end = f"n = {group[0]['n_test']:,}; {over_seeds(run.seeds)}; n/a: not run"
        extra = {
            CHANCE_ROW: f"{np.mean([r['null_95'] for r in group]):.3f}",
            CEILING_ROW
            if direction == FORWARD
            else "head on test images (ceiling)": f"{carried_over[0]['ceiling']:.3f}",
        }
        title = f"CIFAR-10, {direction}: share that the other space's head names, by pairs or labels; {end}"
        tables.append(table_of_means(title, group, "accuracy", extra=extra))
        title = f"CIFAR-10, {direction}: share whose nearest held-out point shows the class, by pairs; {end}"
        extra = {CHANCE_ROW: f"{np.mean([r['hit_null_95'] for r in carried_over]):.3f}"}
        tables.append(table_of_means(title, carried_over, "hit", extra=extra))
    return tables


def sample_tables(run: Run, sample: list[Record]) -> list[dict[str, Any]]:
    """Tabulate names of unseen classes."""
    tables = []
    for direction in dict.fromkeys(r["direction"] for r in sample):
        group = select_records(sample, direction=direction)
        n_test, end = group[0]["n_test"], over_seeds(run.seeds)
        for k in (1, 5, 10):
            title = f"ImageNet sample, {direction}: R@{k} among {n_test} classes never paired, by paired classes; {end}"
            tables.append(table_of_means(title, group, f"R@{k}", extra={"chance": f"{k / n_test:.3f}"}))
        if direction == NAMED:
            title = f"ImageNet sample, {direction}: R@10 among the names of all classes, paired ones too; {end}"
            tables.append(table_of_means(title, group, "R@10 of all", extra={"chance": "0.010"}))
    return tables


def claims_of(
    cifar: list[Record], sample: list[Record], naming: list[Any], finding: list[Any], unseen: list[Any]
) -> list[dict[str, str]]:
    """Return the verdict and the evidence on each claim."""
    below = [each for each in naming if each["n_pairs"] < A_FIFTH]
    names = select_records(sample, direction=NAMED, method=FINDING)
    above = [r["R@10"] > r["null_95"] for r in names]
    counts = sorted({r["n_pairs"] for r in names})
    chance = 10 / sample[0]["n_test"]
    picked = "against the best of the others, picked by the same draws, which favours it"
    return [
        {
            "claim": "Few captions name natural images at least as well as the labels alone on the same features",
            "verdict": met_by(against(naming, LOGISTIC)),
            "evidence": f"{NAMING} against logistic regression, in all, half or fewer: {tally(against(naming, LOGISTIC))}",
        },
        {
            "claim": "Below a fifth of the pairs, alignment is at least as good as training end to end on the same labels (paper)",
            "verdict": met_by(against(below, NET)),
            "evidence": f"{NAMING} against a small conv net, which starts without the network: {tally(against(below, NET))}",
        },
        {
            "claim": "Below a fifth of the pairs, it is at least as good as training end to end with augmentation",
            "verdict": met_by(against(below, AUGMENTED)),
            "evidence": tally(against(below, AUGMENTED)),
        },
        {
            "claim": "Chosen by labels, the fused bridge names images at least as well as every other alignment of the same pairs",
            "verdict": met_by(least_gains(against(naming, *BASELINES))),
            "evidence": f"{picked}: {tally(least_gains(against(naming, *BASELINES)))}",
        },
        {
            "claim": "Chosen by retrieval, the fused bridge finds captions and images at least as well as every other alignment",
            "verdict": met_by(least_gains(finding)),
            "evidence": f"nearest held-out point, {picked}: {tally(least_gains(finding))}",
        },
        {
            "claim": "Classes that were never paired find their names",
            "verdict": verdict(sum(above), len(above)),
            "evidence": f"{FINDING}, R@10 above the 95 % quantile of permuted names in {sum(above)} of {len(above)} draws; mean "
            + "; ".join(f"{n} classes {mean_of(names, 'R@10', n_pairs=n):.3f}" for n in counts)
            + f", chance {chance:.2f}",
        },
        {
            "claim": "Of classes never paired the fused bridge finds the names better than every other alignment",
            "verdict": met_by(least_gains(unseen)),
            "evidence": f"R@10 both ways, {picked}: {tally(least_gains(unseen))}",
        },
    ]  # fmt: skip


def answer_of(cifar: list[Record], sample: list[Record]) -> str:
    """Return the main numbers in words."""
    forward, names = select_records(cifar, direction=FORWARD), select_records(sample, direction=NAMED)

    def line(records: list[Record], value: str, method: str) -> str:
        counts = sorted({r["n_pairs"] for r in select_records(records, method=method)})
        return ", ".join(f"{n:,}: {mean_of(records, value, method=method, n_pairs=n):.2f}" for n in counts)

    n_names = sample[0]["n_test"]
    return (
        f"Share of CIFAR-10 test images that the head of captions names, by known captions (chance .10): "
        f"{line(forward, 'accuracy', NAMING)}; logistic regression on the same features "
        f"{line(forward, 'accuracy', LOGISTIC)}; end to "
        f"end {line(forward, 'accuracy', NET)}, augmented {line(forward, 'accuracy', AUGMENTED)}; ridge "
        f"{line(forward, 'accuracy', 'ridge')}. Of ImageNet classes that were never paired the name is among the "
        "first ten of "
        f"{n_names}, by paired classes: {line(names, 'R@10', FINDING)} (ridge {line(names, 'R@10', 'ridge')}; chance "
        f"{10 / n_names:.2f})."
    )


def cifar_figure(run: Run, cifar: list[Record]) -> dict[str, str]:
    """Draw naming over the number of pairs, and the nearest points."""
    figure, axes = make_panels(3, 4.8, 4.0)
    forward = [r for r in select_records(cifar, direction=FORWARD) if r["method"] != FINDING]
    panels = [("image -> caption, named by the head", forward, "accuracy", "null_95")]
    for direction in (FORWARD, "caption -> image"):
        group = [r for r in select_records(cifar, direction=direction) if "hit" in r and r["method"] != NAMING]
        panels.append((f"{direction}, nearest", group, "hit", "hit_null_95"))
    for ax, (title, group, value, null) in zip(axes, panels, strict=True):
        ceiling = max(r["ceiling"] for r in group if "ceiling" in r) if value == "accuracy" else None
        figures.learning_curve(
            curves_of(group, value), ax=ax, title=title,
            ylabel="share named right" if value == "accuracy" else "share with its class nearest",
            null=float(np.mean([r[null] for r in group])), ceiling=ceiling,
        )  # fmt: skip
        ax.set_ylim(0, 1.02)
        ax.tick_params(axis="x", rotation=45)
    axes[0].set_xlabel("images with a known caption or label (log scale)")
    figures.shared_legend(axes)
    text = (
        f"Real CIFAR-10 seen by EfficientNet-Lite0, {forward[0]['n_test']:,} test images; {seeds_of(run)}; one seed "
        "of ours from 2,000 on"
    )
    return save_panels(figure, run, "natural_images", text)


def sample_figure(run: Run, sample: list[Record]) -> dict[str, str]:
    """Draw the naming of unseen classes over the number of paired ones."""
    directions = list(dict.fromkeys(r["direction"] for r in sample))
    figure, axes = make_panels(len(directions), 5.0, 4.0)
    for ax, direction in zip(axes, directions, strict=True):
        group = select_records(sample, direction=direction)
        figures.learning_curve(
            curves_of(group, "R@10"), ax=ax, title=direction, ylabel=f"R@10 among {group[0]['n_test']} unseen classes",
            null=float(np.mean([r["null_95"] for r in group])),
        )  # fmt: skip
        ax.set_xlabel("classes paired (log scale)")
        ax.set_ylim(bottom=0)
    figures.shared_legend(axes)
    text = (
        f"Real ImageNet sample, one image a class, EfficientNet-Lite0 and MiniLM; {sample[0]['n_test']} classes "
        "never paired; "
        f"{seeds_of(run)}"
    )
    return save_panels(figure, run, "names", text)
