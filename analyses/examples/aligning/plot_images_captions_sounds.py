"""
Images and sounds, joined through captions
==========================================

Handwritten digits have captions, and so have spoken ones; no image has a sound. Can an image find the
sound of its digit all the same, through the captions, and what would direct pairs have been worth?

The data are real: MNIST images (``mnist``), spoken digits of six people (``fsdd``), and written captions
that MiniLM has embedded. A pair is of things that show the same digit, each drawn once: the partners
share nothing but the digit.
"""

# %%
# Three spaces: pixels, sentences and spectra. 200 images and 200 sounds are held out.

from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

SEEDS = range(5)
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
mnist: Any = nb.load("mnist", part="test")
pixels = mnist.images.values[:600].reshape(600, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(600, -1)
pixels = pixels[:, (pixels > 0).mean(axis=0) > 0.05]
spoken: Any = nb.load("fsdd").sounds
sounds = nb.features.log_mel(spoken, n_parts=4)
sounds = sounds.isel(presentation=np.random.default_rng(0).permutation(len(sounds))[:600])
starts = ("a", "the", "someone's", "a clear", "a hasty", "one more", "a child's", "my", "a nice", "the last")
templates = [f"{start} {noun} {{}}" for start, noun in product(starts, ("digit", "number", "figure", "sign for"))]
texts = [(template.format(name), digit) for template in templates for digit, name in enumerate(NAMES)]
captions = nb.features.embed_text([text for text, _ in texts])
of_space = {
    "images": mnist.stimuli["category_name"].to_numpy()[:600].astype(str),
    "captions": np.array([str(digit) for _, digit in texts]),
    "sounds": sounds["digit"].values.astype(str),
}
spaces = {"images": pixels.astype(float), "captions": captions.values, "sounds": sounds.values}


def partners(left: str, right: str, rows: dict[str, np.ndarray], n: int, rng: np.random.Generator) -> tuple:
    """Draw pairs of one digit, as many of each digit, no row twice."""
    pairs = []
    for digit in map(str, range(10)):
        pools = [rng.permutation(rows[name][of_space[name][rows[name]] == digit]) for name in (left, right)]
        pairs += list(zip(*(pool[: n // 10] for pool in pools), strict=True))
    first, second = np.array(pairs).T
    return first, second


def hits(moved: Any, searched: np.ndarray, scale: np.ndarray, wanted: np.ndarray, digits: np.ndarray) -> float:
    """Return the share of images whose nearest sound, by the cosine in standard deviations of ``scale``, is of their digit."""
    left, right = ((values - scale.mean(axis=0)) / scale.std(axis=0) for values in (moved, searched))
    similarity = left @ right.T / np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))
    return float((digits[similarity.argmax(axis=1)] == wanted).mean())


# %%
# Maps through the captions by CommonSpace and the shared response, of 16 dimensions; beside them a map of as many direct pairs of
# an image and a sound, and of pairs with shuffled partners.


def run(seed: int, n: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    rows = {name: rng.permutation(len(space)) for name, space in spaces.items()}
    held_out = {name: rows[name][:200] for name in ("images", "sounds")}
    train = {name: rows[name][200:] if name in held_out else rows[name] for name in rows}
    # Captions of images and captions of sounds are different ones, twenty of each digit.
    half = {
        "images": {**train, "captions": np.arange(200)},
        "sounds": {**train, "captions": np.arange(200, 400)},
    }
    direct = partners("images", "sounds", train, n, rng)
    pairs = {(name, "captions"): partners(name, "captions", half[name], n, rng) for name in ("images", "sounds")}
    # The fit sees what is not held out.
    place = {name: np.full(len(space), -1) for name, space in spaces.items()}
    for name, of_train in train.items():
        place[name][of_train] = np.arange(len(of_train))
    known = {name: spaces[name][train[name]] for name in spaces}
    local = {
        edge: tuple(place[name][side] for name, side in zip(edge, both, strict=True)) for edge, both in pairs.items()
    }
    query, searched = (spaces[name][held_out[name]] for name in ("images", "sounds"))
    wanted, digits = (of_space[name][held_out[name]] for name in ("images", "sounds"))
    shares = {}
    for method in ("bridge", "srm"):
        space = nb.aligners.CommonSpace(16, method=method, seed=seed).fit(known, local)
        shares[method] = hits(space.transform(query, "images", "sounds"), searched, known["sounds"], wanted, digits)
    ends = place["images"][direct[0]], place["sounds"][direct[1]]
    for name, right in (("direct", ends[1]), ("shuffled", rng.permutation(ends[1]))):
        aligner = nb.aligners.RidgeAligner().fit(known["images"], known["sounds"], (ends[0], right))
        shares[name] = hits(aligner.transform(query), searched, known["sounds"], wanted, digits)
    return shares


counts = (20, 60, 200)
runs = {n: [run(seed, n) for seed in SEEDS] for n in counts}
for n, of_seeds in runs.items():
    print(n, {key: round(float(np.mean([shares[key] for shares in of_seeds])), 3) for key in of_seeds[0]})

# %%
# The nearest of 200 sounds is of the right digit for more images than by chance, though no image was paired with
# a sound. With 200 pairs a link the captions are worth more than as many direct pairs; with 20 and 60 the shared
# response alone is better than the weighed routes, whose direct maps have too few pairs.

labels = {
    "direct": "ridge, direct pairs",
    "bridge": "CommonSpace",
    "srm": "shared response",
    "shuffled": "direct pairs, shuffled",
}
styles = nb.figures.styles_of(labels.values())
fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for key, label in labels.items():
    share = np.array([[shares[key] for shares in of_seeds] for of_seeds in runs.values()])
    ax.errorbar(
        counts,
        share.mean(axis=1),
        yerr=share.std(axis=1, ddof=1),
        markersize=4,
        capsize=2,
        label=label,
        **styles[label],
    )
ax.axhline(0.1, label="chance", **nb.figures.CHANCE)
ax.set_xscale("log")
ax.set_xticks(counts, [str(n) for n in counts])
ax.minorticks_off()
ax.set_xlabel("pairs of images and captions, and as many of sounds and captions")
ax.set_ylabel("share with a sound of their digit nearest")
ax.set_ylim(0, 1)
ax.set_title(
    "Images find sounds through captions: real MNIST and spoken digits,\n"
    "200 held-out images and sounds, 5 seeds, bars: SD of seeds",
    fontsize="medium",
)
nb.figures.legend_beside(ax)
plt.show()
