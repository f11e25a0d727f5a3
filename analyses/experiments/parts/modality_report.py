"""Tables, figures and claims of the three modalities."""

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
from .speech import OFFICIAL

BASELINES = ("ridge", "procrustes", "self-trained", "cca", "relative")
LOGISTIC, NET = "logistic", "end to end"
LABELS_ALONE = (LOGISTIC, NET)
#: Method of CommonSpace -> name.
CHAINED = {"bridge": "through captions", "srm": "through captions, shared response"}
TWICE = "through captions, fused twice"
THROUGH = (*CHAINED.values(), TWICE)
#: Share of the accuracy of all labels on the same encoder that 100 pairs have to reach, and of that on known voices that a new
#: voice has to keep.
REACHED, KEPT = 0.8, 0.8
HEARD = "known voices"
CHANCE_ROW, CEILING_ROW = "chance (95th percentile, shuffled)", "head on its own space (ceiling)"


def arrow(source: str, target: str) -> str:
    """Return the name of a direction."""
    return f"{source} -> {target}"


def with_labels_alone(records: list[Record]) -> list[Record]:
    """Put the naming by labels alone into every direction that starts at its modality."""
    aligned = [r for r in records if r["method"] not in LABELS_ALONE]
    directions = dict.fromkeys((r["split"], r["direction"]) for r in aligned)
    return aligned + [
        {**r, "direction": direction}
        for r in records
        if r["method"] in LABELS_ALONE
        for split, direction in directions
        if split == r["split"] and direction.startswith(f"{r['direction']} ")
    ]


def by_speaker(records: list[Record]) -> list[Record]:
    """Average the seeds of each speaker, direction, method and number of pairs."""
    keys = ("split", "direction", "method", "n_pairs")
    groups = dict.fromkeys(tuple(r[key] for key in keys) for r in records)
    return [
        {**dict(zip(keys, group, strict=True)), "accuracy": mean_of(records, **dict(zip(keys, group, strict=True)))}
        for group in groups
    ]


def summary(run: Run, records: list[Record]) -> dict[str, Any]:
    """Return the answer, tables, claims and figures of all records."""
    records = with_labels_alone(records)
    known = select_records(records, split=OFFICIAL)
    aligned = [r for r in known if r["method"] not in THROUGH]
    directions = list(dict.fromkeys(r["direction"] for r in aligned))
    # A speaker who was never heard is tested where sounds are carried over, or are sought.
    new = by_speaker([r for r in records if r["split"] != OFFICIAL and "sounds" in r["direction"]])
    counts = sorted({r["n_pairs"] for r in known if r["method"] in THROUGH})
    through = [
        r for r in known
        if r["edge"] == "images-sounds" and r["n_pairs"] in counts and r["method"] in (*THROUGH, NAMING, FINDING, "ridge")
    ]  # fmt: skip
    rivals = list(dict.fromkeys(r["method"] for r in aligned if r["method"] in (*BASELINES, *LABELS_ALONE)))
    naming = paired_differences(aligned, "accuracy", NAMING, rivals, ("direction", "n_pairs"))
    finding = paired_differences(aligned, "hit", FINDING, BASELINES, ("direction", "n_pairs"))
    voices = paired_differences(new, "accuracy", NAMING, rivals, ("direction", "n_pairs"), pair="split")
    links = paired_differences(
        through, "accuracy", TWICE, (NAMING, "ridge", *CHAINED.values()), ("direction", "n_pairs")
    )
    tables = direction_tables(run, aligned, directions) + voice_tables(new) + through_tables(run, through)
    compared = (
        (f"{NAMING} less each other method, digits named", naming), (f"{FINDING} less each other method, nearest point", finding),
        (f"Speaker never heard: {NAMING} less each other method, paired by speaker", voices),
        (f"{TWICE} (no image-sound pair) less each other method, digits named", links),
    )  # fmt: skip
    for title, differences in compared:
        tables += difference_tables(title, differences)
    shown = [direction_figure(run, aligned, directions)]
    if run.quick:
        return {"answer": "Quick.", "tables": tables, "claims": [], "figures": shown}
    shown += [voice_figure(run, known, new), through_figure(run, through)]
    claims = claims_of(known, new, naming, finding, voices, links)
    return {
        "answer": answer_of(known, new) + caution(run),
        "tables": tables,
        "claims": negative_first(claims),
        "figures": shown,
    }


def direction_tables(run: Run, aligned: list[Record], directions: list[str]) -> list[dict[str, Any]]:
    """Tabulate digits that are named, and nearest points that show the digit."""
    tables = []
    for direction in directions:
        group = select_records(aligned, direction=direction)
        carried_over = [r for r in group if "hit" in r]
        end = f"n = {group[0]['n_test']}; {over_seeds(run.seeds)}"
        extra = {
            CHANCE_ROW: f"{np.mean([r['null_95'] for r in group]):.3f}",
            CEILING_ROW: f"{np.mean([r['ceiling'] for r in carried_over]):.3f}",
        }
        title = f"{direction}: share of digits that the other space's head names, by pairs; {end}"
        tables.append(table_of_means(title, group, "accuracy", extra=extra))
        title = f"{direction}: share whose nearest held-out point shows the digit, by pairs; {end}"
        extra = {CHANCE_ROW: f"{np.mean([r['hit_null_95'] for r in carried_over]):.3f}"}
        tables.append(table_of_means(title, carried_over, "hit", extra=extra))
    return tables


def voice_tables(new: list[Record]) -> list[dict[str, Any]]:
    """Tabulate digits that are named of speakers who were never heard: each speaker, and their mean."""
    tables = []
    most = max((r["n_pairs"] for r in new), default=0)
    for direction in dict.fromkeys(r["direction"] for r in new):
        group = select_records(new, direction=direction)
        n_speakers = len({r["split"] for r in group})
        title = f"{direction}: speaker never heard, share of digits named; mean ± 95 % CI over {n_speakers} speakers"
        tables.append(table_of_means(title, group, "accuracy"))
        title = f"{direction}: each speaker never heard, share of digits named with {most} pairs"
        tables.append(table_of_means(title, select_records(group, n_pairs=most), "accuracy", columns="split"))
    return tables


def through_tables(run: Run, through: list[Record]) -> list[dict[str, Any]]:
    """Tabulate images and sounds joined through captions beside direct pairs."""
    names = {NAMING: f"direct pairs, {NAMING}", FINDING: f"direct pairs, {FINDING}", "ridge": "direct pairs, ridge"}
    renamed = [{**r, "method": names.get(r["method"], r["method"])} for r in through]
    return [
        table_of_means(
            f"{direction}, through captions without any image-sound pair, and by as many direct pairs as a link "
            f"has: {what}; "
            f"{over_seeds(run.seeds)}",
            select_records(renamed, direction=direction), value,
        )
        for direction in dict.fromkeys(r["direction"] for r in through)
        for value, what in (("accuracy", "share of digits named"), ("hit", "share whose nearest point shows the digit"))
    ]  # fmt: skip


def claims_of(
    known: list[Record], new: list[Record], naming: list[Any], finding: list[Any], voices: list[Any], links: list[Any]
) -> list[dict[str, str]]:
    """Return the verdict and the evidence on each claim."""
    reached = {
        direction: (mean_of(known, direction=direction, method=NAMING, n_pairs=100), own_head(known, direction))
        for direction in ("sounds -> captions", "images -> sounds", "sounds -> images")
    }
    heard = mean_of(known, direction="sounds -> captions", method=NAMING, n_pairs=100)
    spoken = {
        r["split"]: r["accuracy"]
        for r in select_records(new, direction="sounds -> captions", method=NAMING, n_pairs=100)
    }
    others = least_gains(against(naming, *BASELINES))
    return [
        {
            "claim": "A hundred pairs join sounds to captions and to images nearly as well as all labels (untested in the paper)",
            "verdict": verdict(sum(value >= REACHED * head for value, head in reached.values()), len(reached)),
            "evidence": f"{NAMING}, 100 pairs, at least {REACHED} of the source's own head, trained on all labels: "
            + "; ".join(f"{name} {value:.3f} of {head:.3f}" for name, (value, head) in reached.items()),
        },
        {
            "claim": "A voice that was never heard is understood through captions nearly as well as known ones",
            "verdict": verdict(sum(value >= KEPT * heard for value in spoken.values()), len(spoken)),
            "evidence": f"sounds -> captions, 100 pairs, at least {KEPT} of {heard:.3f} on {HEARD}, {len(spoken)} speakers: "
            + "; ".join(f"{name} {value:.3f}" for name, value in spoken.items()),
        },
        {
            "claim": "Alignment is at least as good as training end to end on the labels of the same pairs",
            "verdict": met_by(against(naming, NET)),
            "evidence": f"{NAMING}, from images or sounds, every, half or fewer of the comparisons: {tally(against(naming, NET))}",
        },
        {
            "claim": "Alignment is at least as good as the labels alone on the same frozen encoder",
            "verdict": met_by(against(naming, LOGISTIC)),
            "evidence": f"{NAMING} against logistic regression: {tally(against(naming, LOGISTIC))}",
        },
        {
            "claim": "For a voice that was never heard, alignment is at least as good as the labels alone",
            "verdict": met_by(against(voices, LOGISTIC)),
            "evidence": f"paired by speaker: {tally(against(voices, LOGISTIC))}",
        },
        {
            "claim": "Chosen by labels, the fused bridge names digits at least as well as every other alignment of the same pairs",
            "verdict": met_by(others),
            "evidence": f"against the best of {', '.join(BASELINES)}, picked by the same draws, which favours it: {tally(others)}",
        },
        {
            "claim": "Chosen by retrieval, the fused bridge finds the digit at least as well as every other alignment",
            "verdict": met_by(least_gains(finding)),
            "evidence": f"nearest held-out point, against the best of the others: {tally(least_gains(finding))}",
        },
        {
            "claim": "Images and sounds meet through captions, without one image-sound pair, as well as by direct pairs",
            "verdict": met_by(against(links, NAMING)),
            "evidence": f"{TWICE} against {NAMING} on as many direct pairs as a link has: {tally(against(links, NAMING))}",
        },
    ]  # fmt: skip


def own_head(known: list[Record], direction: str) -> float:
    """Return the accuracy that the head of the source, trained on all labels, has on its held-out points."""
    source = direction.partition(" ")[0]
    return float(np.mean([r["ceiling"] for r in known if "ceiling" in r and r["direction"].endswith(f"> {source}")]))


def answer_of(known: list[Record], new: list[Record]) -> str:
    """Return the main numbers in words."""
    counts = sorted({r["n_pairs"] for r in known})

    def line(records: list[Record], direction: str, method: str) -> str:
        return ", ".join(
            f"{n:,}: {mean_of(records, direction=direction, method=method, n_pairs=n):.2f}"
            for n in counts
            if select_records(records, direction=direction, method=method, n_pairs=n)
        )

    spoken, pictures = "sounds -> captions", "images -> sounds"
    return (
        "Share of digits named right, by known pairs (chance .10). Spoken digits to captions: "
        f"{line(known, spoken, NAMING)} "
        f"(labels alone on the same encoder {line(known, spoken, LOGISTIC)}; end to end "
        f"{line(known, spoken, NET)}); images to "
        f"captions: {line(known, 'images -> captions', NAMING)}; images to sounds: {line(known, pictures, NAMING)}. "
        "A voice that "
        f"was never heard, mean of six: {line(new, spoken, NAMING)} (labels alone {line(new, spoken, LOGISTIC)}). "
        "Images to "
        f"sounds through captions, without an image-sound pair: {line(known, pictures, TWICE)}."
    )


def direction_figure(run: Run, aligned: list[Record], directions: list[str]) -> dict[str, str]:
    """Draw digits that are named over the number of pairs, a panel a direction."""
    figure, axes = make_panels(len(directions), 4.6, 3.7, columns=3)
    for ax, direction in zip(axes, directions, strict=True):
        group = [r for r in select_records(aligned, direction=direction) if r["method"] != FINDING]
        figures.learning_curve(
            curves_of(group, "accuracy"), ax=ax, title=direction, ylabel="digits named right (share)",
            null=float(np.mean([r["null_95"] for r in group])),
            ceiling=float(np.mean([r["ceiling"] for r in group if "ceiling" in r])),
        )  # fmt: skip
        ax.set_ylim(0, 1.02)
    figures.shared_legend(axes)
    sizes = ", ".join(
        f"{d.partition(' ')[0]} {n}"
        for d, n in {r["direction"].partition(" ")[0]: r["n_test"] for r in aligned}.items()
    )
    text = f"Real MNIST, spoken digits and captions; held out: {sizes}; {seeds_of(run)}"
    return save_panels(figure, run, "modalities", text)


def voice_figure(run: Run, known: list[Record], new: list[Record]) -> dict[str, str]:
    """Draw each speaker who was never heard beside known voices, with the most pairs."""
    most = max(r["n_pairs"] for r in new)
    directions = ("sounds -> captions", "captions -> sounds")
    figure, axes = make_panels(len(directions), 5.4, 3.9)
    speakers = list(dict.fromkeys(r["split"] for r in new))
    methods = (NAMING, *BASELINES, *LABELS_ALONE)
    styles = figures.styles_of(methods)
    for ax, direction in zip(axes, directions, strict=True):
        for k, method in enumerate(methods):
            values = [mean_of(known, direction=direction, method=method, n_pairs=most)]
            values += [mean_of(new, direction=direction, method=method, n_pairs=most, split=name) for name in speakers]
            places = np.arange(len(values)) + (k - (len(methods) - 1) / 2) * 0.09
            ax.plot(places, values, label=method, markersize=6, **{**styles[method], "linestyle": "none"})
        ax.axvline(0.5, color="0.8", linewidth=1)
        ax.axhline(0.1, label="chance 0.10", **figures.CHANCE)
        ax.set_xticks(range(len(speakers) + 1), [HEARD, *speakers], rotation=30, ha="right")
        ax.set_ylim(0, 1.02)
        ax.set_ylabel("digits named right (share)")
        ax.set_title(direction)
    figures.shared_legend(axes)
    text = (
        f"Real spoken digits, {most} pairs; right of the line: 500 recordings of a speaker never heard, seed "
        f"{run.seed}; "
        "known voices: mean of seeds"
    )
    return save_panels(figure, run, "speakers", text)


def through_figure(run: Run, through: list[Record]) -> dict[str, str]:
    """Draw images and sounds joined through captions beside direct pairs."""
    figure, axes = make_panels(2, 5.0, 3.8)
    shown = [r for r in through if r["method"] != FINDING]
    for ax, direction in zip(axes, dict.fromkeys(r["direction"] for r in shown), strict=True):
        group = select_records(shown, direction=direction)
        figures.learning_curve(
            curves_of(group, "accuracy"), ax=ax, title=direction, ylabel="digits named right (share)",
            null=float(np.mean([r["null_95"] for r in group])), ceiling=float(np.mean([r["ceiling"] for r in group])),
        )  # fmt: skip
        ax.set_xlabel("pairs, direct or of each link (log scale)")
        ax.set_ylim(0, 1.02)
    figures.shared_legend(axes)
    text = (
        f"Real MNIST and spoken digits; through captions: no image-sound pair; ridge and {NAMING}: direct pairs; "
        f"n = {max(r['n_test'] for r in through):,} images, {min(r['n_test'] for r in through)} sounds; {seeds_of(run)}"
    )
    return save_panels(figure, run, "through_captions", text)
