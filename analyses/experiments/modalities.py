"""Three modalities: real images of digits (MNIST), spoken digits (fsdd) and captions.

Three frozen encoders, trained without labels: a contrastive net of 20,000 training images, the
first 60 principal components of the training recordings' log-mel spectrograms, and MiniLM on
captions of 400 wordings. A pair is of two things that show the same digit, each in one pair at
most; partners share nothing else. Known are 10 to 1,000 pairs; other points of both spaces are
unpaired. Held-out points are carried over, and the frozen head of the other space, which has seen
that space alone, names their digit. Beside it stands retrieval: the share whose nearest held-out
point of the other space shows their digit.

Every two modalities are aligned in both directions. Sounds are tested twice: on recordings 0 to 4
of each speaker and digit, the published test set, and on all recordings of a speaker who was never
heard, neither paired nor unpaired, six speakers in turn. The labels of the same pairs alone are
compared (logistic regression on the frozen encoder, and a conv net trained end to end on pixels or
on the spectrogram).

Images and sounds are also joined through captions, without any pair of both: each has pairs with
captions, no caption with both. Beside it stand as many direct pairs of an image and a sound.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from neurobridge.aligners import AssemblyAligner, CommonSpace
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study

from .parts.classes import (
    FINDING,
    NAMING,
    Draw,
    carried,
    draw_pairs,
    known_rows,
    make_method,
    named_by_labels,
    score_classes,
    score_names,
)
from .parts.mnist import digits, end_to_end, predict_classes
from .parts.modality_report import (
    BASELINES,
    CHAINED,
    LABELS_ALONE,
    LOGISTIC,
    THROUGH,
    TWICE,
    arrow,
    summary,
)
from .parts.paired import what_ran
from .parts.speech import N_COMPONENTS, N_ENCODER, OFFICIAL, SPEAKERS, digests, sound_pictures, space_of

N_PAIRS = (10, 100, 1000)
#: Pairs with a speaker who was never heard, and of the choice by retrieval.
SOME = 100
#: From this number of pairs on the fused bridge runs with the first seeds alone, as with a speaker who was never heard.
MANY, N_FIRST = 1000, 1
POOL = 1000
EDGES = (("images", "captions"), ("sounds", "captions"), ("images", "sounds"))
#: Steps of the nets that are trained end to end, and dimensions of the common space.
STEPS, N_DIMS = 300, 16


def cells(run: Run) -> list[dict[str, Any]]:
    out = []
    for seed in run.seeds:
        is_first = seed - run.seed < N_FIRST
        out += [{"split": OFFICIAL, "seed": seed, **rest} for rest in work(run, is_first)]
        if is_first:
            speakers = SPEAKERS[:1] if run.quick else SPEAKERS
            out += [{"split": name, "seed": seed, **rest} for name in speakers for rest in work_on_voice(run)]
    return out


def work(run: Run, is_first: bool) -> list[dict[str, Any]]:
    """Return edges, methods and numbers of pairs of the published split, the quick ones first."""
    if run.quick:
        quick = [("images-sounds", name) for name in (NAMING, "ridge", THROUGH[0])] + [
            ("sounds", name) for name in LABELS_ALONE
        ]
        return [{"edge": edge, "method": name, "n_pairs": 50} for edge, name in quick]
    edges = ["-".join(edge) for edge in EDGES]
    out = [(edge, name, n) for edge in edges for n in N_PAIRS for name in BASELINES]
    out += [(edge, name, n) for edge in ("images", "sounds") for n in N_PAIRS for name in LABELS_ALONE]
    out += [("images-sounds", name, n) for n in N_PAIRS for name in CHAINED.values()]
    out += [(edge, FINDING, SOME) for edge in edges]
    fused = [n for n in N_PAIRS if n < MANY or is_first]
    out += [(edge, NAMING, n) for n in fused for edge in edges]
    out += [("images-sounds", TWICE, n) for n in fused]
    return [{"edge": edge, "method": name, "n_pairs": n} for edge, name, n in out]


def work_on_voice(run: Run) -> list[dict[str, Any]]:
    """Return edges, methods and numbers of pairs with a speaker who was never heard."""
    edge = "sounds-captions"
    out = [(edge, name) for name in (() if run.quick else (*BASELINES, NAMING))] + [
        ("sounds", name) for name in LABELS_ALONE
    ]
    out += [("images-sounds", "ridge")] if run.quick else []
    return [{"edge": edge, "method": name, "n_pairs": 50 if run.quick else SOME} for edge, name in out]


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    names = cell["edge"].split("-")
    if cell["method"] in LABELS_ALONE:
        return [{**cell, "direction": names[0], **alone(run, cell)}]
    left, right = (space_of(run, name, cell["split"]) for name in names)
    if cell["method"] in THROUGH:
        forward, backward = carried_through(run, cell)
    else:
        draw = draw_pairs(left, right, cell["n_pairs"], cell["seed"], pool=POOL)
        aligner = fit(cell["method"], draw, right.head, cell["seed"])
        forward, backward = carried(aligner, left.test), carried(aligner, right.test, back=True)
    return [
        {**cell, "direction": arrow(*names), **score_classes(forward, left.test_labels, right, cell["seed"])},
        {**cell, "direction": arrow(*names[::-1]), **score_classes(backward, right.test_labels, left, cell["seed"])},
    ]


def fit(method: str, draw: Draw, head: Any, seed: int) -> AssemblyAligner:
    """Fit an aligner on the pools and pairs of a draw."""
    return make_method(method, seed, head, draw.labels).fit(draw.source, draw.target, draw.rows)


def alone(run: Run, cell: dict[str, Any]) -> dict[str, Any]:
    """Name held-out points by the labels of the same pairs, without another space."""
    space = space_of(run, cell["edge"], cell["split"])
    rows = known_rows(space, cell["n_pairs"], cell["seed"])
    if cell["method"] == LOGISTIC:
        predicted = named_by_labels(space, rows)
    else:
        if cell["edge"] == "images":
            mnist = digits(run)
            train, test = mnist.train[: len(space.train)], mnist.test[: len(space.test)]
        else:
            train, test = sound_pictures(run, cell["split"])
        steps = 50 if run.quick else STEPS
        net = end_to_end(train[np.sort(rows)], augmented=False, seed=cell["seed"], steps=steps)
        predicted = predict_classes(net, test)
    return score_names(predicted, space.test_labels, cell["seed"])


def carried_through(run: Run, cell: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Carry images to sounds, and sounds to images, by pairs of either with captions, which share no caption."""
    n, seed = cell["n_pairs"], cell["seed"]
    spaces = {name: space_of(run, name, cell["split"]) for name in ("images", "captions", "sounds")}
    first = draw_pairs(spaces["images"], spaces["captions"], n, seed, pool=POOL)
    second = draw_pairs(spaces["captions"], spaces["sounds"], n, seed, pool=POOL, skip=(n, 0))
    if cell["method"] == TWICE:
        steps = fit(NAMING, first, spaces["captions"].head, seed), fit(NAMING, second, spaces["sounds"].head, seed)
        to_sounds = carried(steps[1], carried(steps[0], spaces["images"].test))
        to_images = carried(steps[0], carried(steps[1], spaces["sounds"].test, back=True), back=True)
        return to_sounds, to_images
    # The captions of both links are points of one space.
    points = {
        "images": first.source,
        "captions": np.concatenate([first.target, second.source[:n]]),
        "sounds": second.target,
    }
    links = {
        ("images", "captions"): first.rows,
        ("captions", "sounds"): (len(first.target) + np.arange(n), second.rows[1]),
    }
    method: Any = next(key for key, name in CHAINED.items() if name == cell["method"])
    common = CommonSpace(min(N_DIMS, n), method=method, seed=seed).fit(points, links)
    forward = common.transform(spaces["images"].test, "images", "sounds")
    return np.asarray(forward), np.asarray(common.transform(spaces["sounds"].test, "sounds", "images"))


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    return {"note": note(records), **summary(run, records), "digests": digests(run)}


def note(records: list[Record]) -> str:
    """Return how it was measured."""
    known, new = ([r for r in records if (r["split"] == OFFICIAL) == is_known] for is_known in (True, False))
    return (
        "The images are real MNIST and the sounds the real Free Spoken Digit Dataset; captions, for sounds too, are written "
        "from templates for written digits. The encoders saw no labels: a small contrastive network was trained on "
        f"{N_ENCODER:,} training images; sounds are the first {N_COMPONENTS} principal components of the training recordings' "
        "log-mel spectrograms, turned by a fixed rotation; captions are embedded by MiniLM. A pool holds "
        f"{POOL:,} points, pairs included (a third more where {MANY:,} are pairs). The settings of '{NAMING}' are chosen by the "
        f"frozen head on held-out pairs, its way back by correlation, and those of '{FINDING}' by retrieval. It was decided before "
        f"the run that '{NAMING}' is judged by the digits that the head names, and '{FINDING}' by the nearest held-out point (by "
        "cosine; several held-out points show the same digit). For a speaker who was never heard, all recordings of one speaker "
        "are neither in the training of the encoder nor paired nor in a pool; this is done for six speakers in turn, with pairs of "
        f"sounds and captions. The networks that are trained end to end have two convolutions and {STEPS} steps, without "
        "augmentation (image_text shows what it adds for images). Through captions each of the two links has as many pairs, twice "
        f"as many as direct alignment; the links are joined by a CommonSpace of {N_DIMS} dimensions, or by two fused bridges, from "
        "images to captions and from captions to sounds. Intervals are Student's over seeds; a single seed has none. Numbers of "
        f"pairs that ran, and of seeds: {what_ran(known)}. With a speaker never heard: {what_ran(new)}."
    )


STUDY = Study(
    "modalities",
    "Three modalities: real images of digits, spoken digits and captions",
    cells,
    compute,
    finish,
    n_seeds=5,
    extras=("text",),
    memory_gb=6.0,
)

if __name__ == "__main__":
    main(STUDY)
