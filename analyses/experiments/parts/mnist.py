"""Real MNIST beside captions of many wordings: encoders, pools, and training end to end."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from neurobridge.aligners import AssemblyAligner, BridgeAligner
from neurobridge.aligners.options import Map
from neurobridge.assemblies import Pairs, make_assembly
from neurobridge.bridge import Candidate
from neurobridge.datasets import load
from neurobridge.datasets.files.places import cache_folder
from neurobridge.features import (
    Reference,
    captions_from_templates,
    embed_text,
    extract,
    load_reference,
    save_reference,
    train_reference,
)
from neurobridge.features.references import conv as conv_module
from neurobridge.features.references import recipes as recipes_module
from neurobridge.features.references import training as training_module
from neurobridge.features.references.conv import random_views
from neurobridge.features.references.files import CARD
from neurobridge.flow import OffSupportWarning
from neurobridge.study.harness import Run
from neurobridge.study.methods import make_aligner

from . import classes
from .common import shuffled_accuracies
from .digits import NAMES

DIGITS = list(NAMES)
#: Number of first training digits, on which alone settings were chosen.
N_DEVELOPMENT = 10_000
N_CAPTIONS = 3000
#: Candidate of `fused_aligner`. The squared error of pairs would choose otherwise: it is mostly due to wording.
FUSED = Candidate(lam=0.9, epsilon=0.02, n_rounds=5, readout="kernel", kernel_rounds=1)
#: Encoder of image_text and supervised.
MAIN = "contrastive"
LABEL_ONLY = ("logistic", "kNN")
END_TO_END = ("end to end", "end to end, augmented")
OPENINGS = (
    "somebody wrote", "a child drew", "the clerk noted", "a student copied", "here we see", "this shows", "there is",
    "one can read",
)  # fmt: skip
NOUN_PHRASES = (
    "{a}", "the digit {label}", "the number {label}", "a handwritten {label}", "the numeral {label}",
    "a carefully drawn {label}", "a sketchy {label}", "the figure {label}", "a small {label}", "the symbol {label}",
)  # fmt: skip
SCENES = ("", "on paper", "in ink", "on a white card", "in the corner of a page", "on the blackboard")
WORDINGS = [
    f"{opening} {noun_phrase} {scene}".strip()
    for opening in OPENINGS
    for noun_phrase in NOUN_PHRASES
    for scene in SCENES
]

#: Name -> reference, layer, arguments of its training, which is on images alone.
ENCODERS: dict[str, tuple[str, str, dict[str, int]]] = {
    "contrastive": ("conv_contrastive", "encoder.latents", {"width": 32, "epochs": 12}),
    "contrastive, short": ("conv_contrastive", "encoder.latents", {"width": 16, "epochs": 3}),
    "VAE": ("conv_vae", "encoder.mean", {"epochs": 3}),
}


class Digits(NamedTuple):
    """Images and digits of the official parts."""

    train: xr.DataArray
    test: xr.DataArray
    labels: np.ndarray
    test_labels: np.ndarray
    digests: dict[str, str]


class Captions(NamedTuple):
    """Embedded captions with their digits.

    Those of the pool, and new ones in wordings that nothing was fitted on.
    """

    pool: np.ndarray
    labels: np.ndarray
    new: np.ndarray
    new_labels: np.ndarray


def digits(run: Run) -> Digits:
    """Load MNIST once in a process."""

    def make() -> Digits:
        train, test = (load("mnist", part=part, mirror=run.mirror) for part in ("train", "test"))
        assert train.images is not None
        assert test.images is not None
        labels = [item["category_name"].values.astype(str) for item in (train.images, test.images)]
        digests = {**train.attrs["digests"], **test.attrs["digests"]}
        return Digits(train.images, test.images, labels[0], labels[1], digests)

    return run.once("digits", make)


def kept_reference(name: str, images: xr.DataArray, **arguments: Any) -> Reference:
    """Train a reference, or read it back where the same was trained before.

    The same means: equal code, images and arguments.
    """
    sha = hashlib.sha256(json.dumps([name, arguments], sort_keys=True).encode())
    for module in (conv_module, recipes_module, training_module):
        sha.update(Path(str(module.__file__)).read_bytes())
    sha.update(np.ascontiguousarray(images.values).data)
    folder = cache_folder() / "references" / f"{name}-{sha.hexdigest()[:16]}"
    if not (folder / CARD).exists():
        save_reference(train_reference(name, images, **arguments), folder)
    return load_reference(folder)


def latents(run: Run, encoder: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the latents of the training and of the test images, (60000, d) and (10000, d)."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        name, layer, arguments = ENCODERS[encoder]
        mnist = digits(run)
        if run.quick:
            reference = train_reference(name, mnist.train[:3000], seed=0, epochs=2)
        else:
            reference = kept_reference(name, mnist.train, seed=0, **arguments)
        sides = (mnist.train[: n_images(run)], mnist.test[: 1000 if run.quick else None])
        layer_values = [
            extract(reference.model, item, layer, preprocess=reference.preprocess, batch_size=512) for item in sides
        ]
        return layer_values[0].values.astype(float), layer_values[1].values.astype(float)

    return run.once(f"latents of {encoder}", make)


def captions(run: Run, n: int = 4000) -> Captions:
    """Embed different captions, as many of each digit, in five sixths of the wordings.

    Another 800 are in the remaining wordings.
    """

    def make() -> Captions:
        order = np.random.default_rng(0).permutation(len(WORDINGS))
        cut = len(WORDINGS) * 5 // 6
        out = []
        for part, count in ((order[:cut], n // 10), (order[cut:], 10 if run.quick else 80)):
            table = captions_from_templates(DIGITS, [WORDINGS[k] for k in part], names=NAMES, n_captions=count)
            text = embed_text(table)
            out += [text.values.astype(float), text["category_name"].values.astype(str)]
        return Captions(*out)

    return run.once(f"captions {n}", make)


def reduced_captions(run: Run, text: Captions) -> Captions:
    """Reduce captions to nine dimensions by linear discriminant analysis, which sees the captions of the pool alone."""

    def make() -> Captions:
        axes = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(text.pool, text.labels)
        return text._replace(pool=axes.transform(text.pool), new=axes.transform(text.new))

    return run.once(f"reduced captions {len(text.pool)}", make)


def digit_head(run: Run, text: Captions) -> LogisticRegression:
    """Fit the readout of digits on embedded captions alone, once in a process."""
    key = f"head {len(text.pool)} x {text.pool.shape[1]}"
    return run.once(key, lambda: LogisticRegression(C=100, max_iter=2000).fit(text.pool, text.labels))


def head_accuracy(run: Run, text: Captions) -> float:
    """Return the head's accuracy on captions in new wordings, its ceiling on images."""
    return float(digit_head(run, text).score(text.new, text.new_labels))


def draw_captions(labels: np.ndarray, text: Captions, rng: np.random.Generator) -> np.ndarray:
    """Draw a caption of its digit for every image, as rows of the pool."""
    caption_rows = np.empty(len(labels), dtype=int)
    for digit in DIGITS:
        rows = np.flatnonzero(labels == digit)
        caption_rows[rows] = rng.choice(np.flatnonzero(text.labels == digit), len(rows))
    return caption_rows


def balanced(labels: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return rows of n images in random order, as many of each digit (to one)."""
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), dtype=int)
    for digit in DIGITS:
        digit_rows = order[labels[order] == digit]
        rank[digit_rows] = np.arange(len(digit_rows))
    # The last incomplete round takes digits at random.
    order_by_rank = np.lexsort((rng.random(len(labels)), rank))
    return rng.permutation(order_by_rank[:n])


class Trial(NamedTuple):
    """Both pools as assemblies, the known pairs, and a digit for every caption, told for those of the pairs alone."""

    source: xr.DataArray
    target: xr.DataArray
    pairs: Pairs
    told: np.ndarray


def n_images(run: Run) -> int:
    """Return the number of training images of a run."""
    return 4000 if run.quick else 60_000


def image_order(run: Run, seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """Return the rows of the images, the known ones first, and the generator for further draws.

    The first n rows hold as many of each digit, for every n.
    """
    labels = digits(run).labels[: n_images(run)]
    rng = np.random.default_rng([seed, 11])
    return balanced(labels, len(labels), rng), rng


def draw_trial(
    run: Run, encoder: str, n_pairs: int, seed: int, *, pool: int = 3000, text: Captions | None = None
) -> Trial:
    """Draw known images, a caption for each, and other images of the pool.

    The pairs of a smaller number are among those of a larger one.
    """
    text = text or captions(run, N_CAPTIONS)
    image_latents = latents(run, encoder)[0]
    order, rng = image_order(run, seed)
    caption_rows = draw_captions(digits(run).labels[: n_images(run)], text, rng)
    known_rows = order[:n_pairs]
    other_rows = rng.permutation(order[n_pairs:])[: max(pool - n_pairs, 2 * pool // 3)]
    rows = np.concatenate([known_rows, other_rows])
    pairs = Pairs(
        np.array([f"image-{k}" for k in known_rows]), np.array([f"caption-{k}" for k in caption_rows[known_rows]])
    )
    told = np.full(len(text.labels), DIGITS[0])
    told[caption_rows[known_rows]] = text.labels[caption_rows[known_rows]]
    captioned = assembly(text.pool, "caption", np.arange(len(text.pool)))
    return Trial(assembly(image_latents[rows], "image", rows), captioned, pairs, told)


def assembly(values: np.ndarray, kind: str, numbers: np.ndarray) -> xr.DataArray:
    """Label points with ids."""
    return make_assembly(
        values,
        presentation={"stimulus_id": [f"{kind}-{k}" for k in numbers]},
        neuroid={"neuroid_id": [f"dimension-{k}" for k in range(values.shape[1])]},
    )


def fused_aligner(seed: int, map_name: Map = "barycentric") -> BridgeAligner:
    """Return the fused bridge with fixed settings.

    They were chosen on the first 10,000 training digits; nothing is cross-validated.
    """
    return BridgeAligner(
        coupling="fused", map=map_name, fuse_options={"candidate": FUSED, "minibatch_size": None}, seed=seed
    )


def unbalanced_aligner(seed: int, map_name: Map = "barycentric") -> BridgeAligner:
    """Return the bridge with unbalanced transport.

    It is loose enough that captions of an odd wording may stay without images.
    """
    return BridgeAligner(coupling="factored", map=map_name, unbalanced=0.1, seed=seed)


#: Methods of this package with the settings of these experiments: name -> aligner of a seed.
OURS: dict[str, Callable[[int], AssemblyAligner]] = {
    "pairs": lambda seed: BridgeAligner(coupling="pairs", map="barycentric", seed=seed),
    "pairs-flow": partial(make_aligner, "pairs-flow"),
    "balanced": partial(make_aligner, "bridge"),
    "balanced-flow": partial(make_aligner, "bridge-flow"),
    "unbalanced": unbalanced_aligner,
    "unbalanced-flow": lambda seed: unbalanced_aligner(seed, "flow"),
    "fused": fused_aligner,
    "fused-flow": lambda seed: fused_aligner(seed, "flow"),
    "fused, correlation": partial(make_aligner, "fused"),
}
#: The fused bridge whose settings the frozen head of the digits chooses, by the digits of held-out pairs.
BY_LABELS = classes.NAMING
#: Ending of a method that aligns with captions reduced to the directions that tell digits apart among captions alone.
REDUCED = ", reduced"


def make_method(method: str, seed: int, trial: Trial, head: LogisticRegression) -> AssemblyAligner:
    """Make the aligner of a method; the head is asked by the fused bridge that labels choose alone."""
    return OURS[method](seed) if method in OURS else classes.make_method(method, seed, head, trial.told)


def transported_test(run: Run, encoder: str, aligner: AssemblyAligner, trial: Trial) -> np.ndarray:
    """Transport the test images into the space of the captions, shape (n_test, n_dims)."""
    test = latents(run, encoder)[1]
    with warnings.catch_warnings():
        # Images seldom land on the embedding of a caption; the head only asks for the nearest digit.
        warnings.simplefilter("ignore", OffSupportWarning)
        aligner.fit(trial.source, trial.target, trial.pairs)
        return np.asarray(aligner.transform(assembly(test, "test", np.arange(len(test)))).values)


def predict_from_labels(run: Run, encoder: str, method: str, known_rows: np.ndarray) -> np.ndarray:
    """Predict the test digits from the known images' labels, without captions or transport."""
    train, test = latents(run, encoder)
    scale = StandardScaler().fit(train)
    X, labels = scale.transform(train[known_rows]), digits(run).labels[known_rows]
    if method == "logistic":
        model = LogisticRegression(C=1.0, max_iter=1000)
    else:
        model = KNeighborsClassifier(max(1, min(5, len(known_rows) // 20)), weights="distance")
    return model.fit(X, labels).predict(scale.transform(test))


def accuracy_with_null(predicted: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the accuracy with its permutation null."""
    rng = np.random.default_rng([seed, 13])
    null = shuffled_accuracies(predicted, truth, rng)
    return {
        "accuracy": float((predicted == truth).mean()), "null_mean": float(np.mean(null)),
        "null_95": float(np.quantile(null, 0.95)), "n_test": len(truth),
    }  # fmt: skip


def accuracy_records(run: Run, cell: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the record of a cell: method, encoder, number of pairs and seed."""
    mnist, method, seed = digits(run), cell["method"], cell["seed"]
    known_rows = image_order(run, seed)[0][: cell["n_pairs"]]
    if method in END_TO_END:
        known_images = mnist.train.isel(presentation=known_rows)
        net = end_to_end(known_images, augmented=method != END_TO_END[0], seed=seed, steps=150 if run.quick else 800)
        predicted = predict_classes(net, mnist.test[: 1000 if run.quick else None])
    elif method in LABEL_ONLY:
        predicted = predict_from_labels(run, cell["encoder"], method, known_rows)
    else:
        text = captions(run, N_CAPTIONS)
        if method.endswith(REDUCED):
            text = reduced_captions(run, text)
        head = digit_head(run, text)
        trial = draw_trial(run, cell["encoder"], cell["n_pairs"], seed, text=text)
        aligner = make_method(method.removesuffix(REDUCED), seed, trial, head)
        predicted = head.predict(transported_test(run, cell["encoder"], aligner, trial))
    return [{**cell, **accuracy_with_null(predicted, mnist.test_labels[: len(predicted)], seed)}]


def end_to_end(images: xr.DataArray, *, augmented: bool, seed: int, steps: int = 800) -> Reference:
    """Train a conv net on the labels of these images alone, or on random views of them too.

    There are some 20,000 views, at least one and at most 200 for each image. Training runs until
    the loss is next to nothing: 800 steps, or four passes.
    """
    n = images.sizes["presentation"]
    if augmented:
        images = add_views(images, int(np.clip(20_000 // n, 1, 200)), seed)
        n = images.sizes["presentation"]
    batch = 128 if n >= 3000 else int(np.clip(n // 8, 8, 64))
    epochs = -(-steps * batch // n)
    return train_reference("conv_net", images, seed=seed, batch_size=batch, epochs=max(epochs, 1 if steps < 800 else 4))


def add_views(images: xr.DataArray, copies: int, seed: int) -> xr.DataArray:
    """Add random views of each image."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.from_numpy(np.ascontiguousarray(images.values)).float().div(255)[:, None]
    views = [np.uint8(255 * random_views(pixels, generator)[:, 0].clamp(0, 1).numpy()) for _ in range(copies)]
    labels = np.tile(images["category_name"].values, copies + 1)
    return xr.DataArray(
        np.concatenate([images.values, *views]),
        dims=images.dims,
        coords={"category_name": ("presentation", labels)},
    )


def predict_classes(reference: Reference, images: xr.DataArray) -> np.ndarray:
    """Return the class that a classifier gives each image."""
    scores = extract(reference.model, images, "head", preprocess=reference.preprocess, batch_size=512).values
    return np.asarray(reference.card["classes"])[scores.argmax(axis=1)]
