"""Three modalities: real images of digits (MNIST), spoken digits (fsdd) and captions.

Three frozen encoders, trained without labels: a contrastive net of the 60,000 training images, the
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
from sklearn.base import clone

from neurobridge.aligners import AssemblyAligner, CommonSpace
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study

from .parts.classes import Draw, carried, draw_pairs, known_rows, make_method, score_classes, score_names
from .parts.mnist import digits, end_to_end, predict_classes
from .parts.modality_report import (
    BASELINES,
    CHAINED,
    FINDING,
    LABELS_ALONE,
    LOGISTIC,
    NAMING,
    THROUGH,
    TWICE,
    arrow,
    summary,
)
from .parts.speech import OFFICIAL, SPEAKERS, digests, sound_pictures, space_of

N_PAIRS = (10, 30, 100, 300, 1000)
#: Numbers of pairs with a speaker who was never heard, through captions, and of the choice by retrieval.
FEWER = (10, 100, 1000)
#: Seeds with a speaker who was never heard.
N_NEW = 2
POOL = 1000
EDGES = (("images", "captions"), ("sounds", "captions"), ("images", "sounds"))
#: Steps of the nets that are trained end to end, and dimensions of the common space.
STEPS, N_DIMS = 400, 16


def cells(run: Run) -> list[dict[str, Any]]:
    out = []
    for seed in run.seeds:
        for split in (OFFICIAL, SPEAKERS[0]) if run.quick else (OFFICIAL, *SPEAKERS):
            if split != OFFICIAL and seed - run.seed >= N_NEW:
                continue
            for n in (50,) if run.quick else N_PAIRS if split == OFFICIAL else FEWER:
                out += [{"split": split, "n_pairs": n, "seed": seed, **rest} for rest in work(run, split, n)]
    return out


def work(run: Run, split: str, n_pairs: int) -> list[dict[str, str]]:
    """Return edges and methods of a split and a number of pairs."""
    edges = [edge for edge in EDGES if split == OFFICIAL or "sounds" in edge]
    methods = [NAMING, *BASELINES]
    if split == OFFICIAL and n_pairs in FEWER:
        methods.append(FINDING)
    alone = ("images", "sounds") if split == OFFICIAL else ("sounds",)
    if run.quick:
        methods, edges, alone = [NAMING, "ridge"] if split == OFFICIAL else ["ridge"], edges[-1:], alone[-1:]
    out = [{"edge": "-".join(edge), "method": name} for edge in edges for name in methods]
    out += [{"edge": name, "method": method} for name in alone for method in LABELS_ALONE]
    if split == OFFICIAL and (n_pairs in FEWER or run.quick):
        out += [{"edge": "images-sounds", "method": name} for name in (THROUGH[:1] if run.quick else THROUGH)]
    return out


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
        predicted = clone(space.head).fit(space.train[rows], space.labels[rows]).predict(space.test)
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
    method = next(key for key, name in CHAINED.items() if name == cell["method"])
    common = CommonSpace(min(N_DIMS, n), method=method, seed=seed).fit(points, links)
    to_sounds = common.transform(spaces["images"].test, "images", "sounds")
    return np.asarray(to_sounds), np.asarray(common.transform(spaces["sounds"].test, "sounds", "images"))


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    return {"note": note(run), **summary(run, records), "digests": digests(run)}


def note(run: Run) -> str:
    """Return how it was measured."""
    return (
        f"Real MNIST and Free Spoken Digit Dataset; captions are written from templates of written digits, for sounds too. "
        f"Pools of {POOL} points a side, pairs included (with {N_PAIRS[-1]} pairs a third more). {NAMING}: settings chosen by the "
        f"frozen head on held-out pairs; {FINDING}: by retrieval, at {', '.join(map(str, FEWER))} pairs. The way back of {NAMING} "
        f"is chosen by correlation. Named before the run: {NAMING} is judged by the digits that the head names, {FINDING} by the "
        f"nearest held-out point. Speakers who were never heard: all recordings of one speaker, whose sounds are neither in the "
        f"encoder's training nor paired nor in a pool; six speakers in turn, seeds {run.seed} to {run.seed + N_NEW - 1}, at "
        f"{', '.join(map(str, FEWER))} pairs. Nets trained end to end: two convolutions, {STEPS} steps, no augmentation (with it, for "
        f"images: see image_text). Through captions: as many pairs for each of two links, which is twice as many as direct pairs; "
        f"CommonSpace of {N_DIMS} dimensions, or the fused bridge from images to captions and from captions to sounds. Retrieval: "
        f"cosine; several held-out points show the digit."
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
