"""Natural images seen by a real deep network, beside captions and names of classes.

The network is EfficientNet-Lite0 with its ImageNet weights, frozen; its pooled features are computed
once. Text is embedded by MiniLM, frozen.

CIFAR-10 (real): 10,000 training and 2,000 test images, and captions of the ten classes in 288
wordings with several names of each class. A pair is of an image and a caption of its class, each
in one pair at most; 10 to 2,000 (20 %) are known. Test images are carried over, and a head that
was trained on captions alone names them; beside it stands the nearest held-out caption. The same
labels alone are compared: logistic regression on the same features, and a small conv net trained
end to end at 32 x 32 pixels, without and with augmentation, which has no network to start from.

ImageNet sample (real): one image of each of 1,000 classes, and the names of the classes. P classes
are known pairs; of the others 200 are held out, and the rest is dealt to one side each. A held-out
image ranks the names of the held-out classes, none of which was paired. The network has learnt
these classes by their labels, on other images; it has never seen a name.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from neurobridge.flow import OffSupportWarning
from neurobridge.points.ranks import partner_ranks
from neurobridge.study.command import main
from neurobridge.study.harness import Record, Run, Study

from .parts.classes import (
    FINDING,
    NAMING,
    carried,
    draw_pairs,
    known_rows,
    make_method,
    named_by_labels,
    score_classes,
    score_names,
)
from .parts.mnist import end_to_end, predict_classes
from .parts.natural import (
    N_COMPONENTS,
    N_EACH,
    N_TEST_EACH,
    SIDE,
    caption_space,
    cifar_images,
    digests,
    image_space,
    named,
    views,
)
from .parts.natural_report import (
    AUGMENTED,
    BASELINES,
    CIFAR,
    LABELS_ALONE,
    LOGISTIC,
    NET,
    SAMPLE,
    summary,
)
from .parts.paired import what_ran

N_PAIRS = (10, 100, 1000, 2000)
#: Pairs of the choice by retrieval; most pairs of relative representations, which decode as many cosines.
SOME, MOST_RELATIVE = 100, 1000
#: A fifth: the fused bridge runs with the first seed alone.
A_FIFTH = 2000
ALL_LABELS = 10 * N_EACH
#: Seeds of the nets.
N_NETS = 2
POOL = 1500
N_CLASSES = (50, 200, 800)
N_UNSEEN = 200
#: Steps of the nets, and views that augmentation adds up to.
STEPS, N_VIEWS = 300, 5000


def cells(run: Run) -> list[dict[str, Any]]:
    if run.quick:
        return [
            {"set": name, "method": method, "n_pairs": 50, "seed": run.seed}
            for name, method in ((CIFAR, "ridge"), (CIFAR, LOGISTIC), (CIFAR, AUGMENTED), (SAMPLE, "ridge"), (SAMPLE, FINDING))
        ]  # fmt: skip
    out = []
    for k, seed in enumerate(run.seeds):
        work = [
            (CIFAR, name, n)
            for n in N_PAIRS
            for name in (*BASELINES, LOGISTIC)
            if name != "relative" or n <= MOST_RELATIVE
        ]
        work += [(SAMPLE, name, n) for n in N_CLASSES for name in BASELINES]
        if k < N_NETS:
            work += [(CIFAR, name, n) for n in N_PAIRS for name in (NET, AUGMENTED)]
        work += [(CIFAR, NAMING, n) for n in N_PAIRS if n < A_FIFTH]
        work += [(SAMPLE, FINDING, n) for n in N_CLASSES] + [(CIFAR, FINDING, SOME)]
        if k == 0:
            work += [(CIFAR, NAMING, A_FIFTH), *((CIFAR, name, ALL_LABELS) for name in LABELS_ALONE)]
        out += [{"set": name, "method": method, "n_pairs": n, "seed": seed} for name, method, n in work]
    return out


def compute(run: Run, cell: dict[str, Any]) -> list[Record]:
    if cell["set"] == SAMPLE:
        return rank_names(run, cell)
    if cell["method"] in LABELS_ALONE:
        return [{**cell, "direction": "image -> caption", **alone(run, cell)}]
    images, captions = image_space(run), caption_space(run)
    draw = draw_pairs(images, captions, cell["n_pairs"], cell["seed"], pool=POOL)
    aligner = make_method(cell["method"], cell["seed"], captions.head, draw.labels)
    aligner.fit(draw.source, draw.target, draw.rows)
    forward, backward = carried(aligner, images.test), carried(aligner, captions.test, back=True)
    return [
        {**cell, "direction": "image -> caption", **score_classes(forward, images.test_labels, captions, cell["seed"])},
        {
            **cell,
            "direction": "caption -> image",
            **score_classes(backward, captions.test_labels, images, cell["seed"]),
        },
    ]


def alone(run: Run, cell: dict[str, Any]) -> dict[str, Any]:
    """Name the test images by the labels of the same training images, without captions."""
    space = image_space(run)
    rows = known_rows(space, cell["n_pairs"], cell["seed"])
    if cell["method"] == LOGISTIC:
        predicted = named_by_labels(space, rows)
    else:
        images = cifar_images(run, "train")[np.sort(rows)].compute()
        if cell["method"] == AUGMENTED:
            images = views(images, int(np.clip(N_VIEWS // len(rows), 1, 200)), cell["seed"])
        net = end_to_end(images, augmented=False, seed=cell["seed"], steps=20 if run.quick else STEPS)
        predicted = predict_classes(net, cifar_images(run, "test"))
    return score_names(predicted, space.test_labels, cell["seed"])


def rank_names(run: Run, cell: dict[str, Any]) -> list[Record]:
    """Rank the names of classes that were never paired, for their images; and the images, for their names."""
    data = named(run)
    n, seed = len(data.names), cell["seed"]
    rng = np.random.default_rng([seed, 3])
    order = rng.permutation(n)
    unseen, rest = order[: n // 5 if run.quick else N_UNSEEN], order[n // 5 if run.quick else N_UNSEEN :]
    known, others = rest[: cell["n_pairs"]], rest[cell["n_pairs"] :]
    pools = [np.concatenate([known, part]) for part in np.array_split(others, 2)]
    varies = np.ptp(data.images[pools[0]], axis=0) > 0
    images = data.images[:, varies]
    rows = np.arange(len(known)), np.arange(len(known))
    aligner = make_method(cell["method"], seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OffSupportWarning)
        aligner.fit(images[pools[0]], data.names[pools[1]], rows)
    forward, backward = carried(aligner, images[unseen]), carried(aligner, data.names[unseen], back=True)
    all_names = partner_ranks(forward, data.names, unseen).rank
    out = []
    for direction, queries, gallery in (
        ("image -> name", forward, data.names[unseen]), ("name -> image", backward, images[unseen]),
    ):  # fmt: skip
        permutations = np.stack([rng.permutation(len(unseen)) for _ in range(200)])
        ranks = partner_ranks(queries, gallery, permutations=permutations)
        out.append({
            **cell, "direction": direction, **{f"R@{k}": round(float((ranks.rank <= k).mean()), 5) for k in (1, 5, 10)},
            "null_95": round(float(np.quantile((ranks.permuted <= 10).mean(axis=1), 0.95)), 5), "n_test": len(unseen),
        })  # fmt: skip
    out[0]["R@10 of all"] = round(float((all_names <= 10).mean()), 5)
    return out


def finish(run: Run, records: list[Record]) -> dict[str, Any]:
    return {"note": note(records), **summary(run, records), "digests": digests(run)}


def note(records: list[Record]) -> str:
    """Return how it was measured."""
    cifar, sample = ([r for r in records if r["set"] == name] for name in (CIFAR, SAMPLE))
    return (
        f"The data are real: of CIFAR-10 (as JPEG) {10 * N_EACH:,} training and {10 * N_TEST_EACH:,} test images, the first of "
        "each class, and the ImageNet sample with one image a class. EfficientNet-Lite0 with ImageNet weights gives 1,280 pooled "
        f"features; CIFAR-10 images are shown to it whole, resized to {SIDE} x {SIDE} pixels (bicubic), those of ImageNet at 224 x "
        "224 as its own preprocessing says. It was trained on labels of ImageNet, whose classes include many kinds of the "
        f"animals and vehicles of CIFAR-10. For all methods alike, features of CIFAR-10 are reduced to {N_COMPONENTS} principal "
        f"components of the training images and turned by a fixed rotation. A pool holds {POOL:,} points, pairs included (at least "
        f"500 more than the pairs). The settings of '{NAMING}' are chosen by the frozen head of captions on held-out pairs, those "
        f"of '{FINDING}' by retrieval. It was decided before the run that '{NAMING}' is judged by what the head names, and "
        f"'{FINDING}' by what is found. The networks trained end to end have two convolutions and {STEPS} steps; with augmentation "
        f"they see mirrored and shifted views, {N_VIEWS:,} in all and at most 200 of an image. Names of ImageNet are embedded as "
        "'a photo of a <name>'. PLS, spectral ridge, keypoints and fused unbalanced Gromov-Wasserstein were left out to save time. "
        "Intervals are Student's over seeds; a single seed has none. Numbers of pairs that ran, and of seeds, on CIFAR-10: "
        f"{what_ran(cifar)}. On the ImageNet sample: {what_ran(sample)}."
    )


STUDY = Study(
    "natural_images",
    "Natural images and a real deep network: CIFAR-10 and ImageNet's names",
    cells,
    compute,
    finish,
    n_seeds=5,
    extras=("text", "weights"),
    memory_gb=6.0,
)

if __name__ == "__main__":
    main(STUDY)
