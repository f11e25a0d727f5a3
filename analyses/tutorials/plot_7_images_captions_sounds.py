"""
Images, captions and sounds through one bridge
==============================================

This page is for someone whose spaces come from different senses. At its end you will be able to bring
three of them into one common space although two have no pair, and to measure whether a sound finds its
image through words.

The data are real: handwritten digits (``mnist``), spoken digits (``fsdd``) and captions that were made
from templates and embedded by MiniLM, a network that has read text alone. Images are pixels and sounds
are spectrograms: no network has seen or heard them together.
"""

# %%
# 1. Three spaces
# ---------------

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import neurobridge as nb

N_IMAGES, N_SOUNDS = 600, 300
rng = np.random.default_rng(0)
digits: Any = nb.load("mnist", part="test")
chosen = np.sort(rng.permutation(10_000)[:N_IMAGES])
pixels = digits.images.isel({digits.images.dims[0]: chosen})
names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
small = pixels.values.reshape(N_IMAGES, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(N_IMAGES, -1)
images = nb.make_assembly(
    small,
    presentation={"stimulus_id": [f"image-{k}" for k in chosen], "digit": pixels["category_name"].values},
    neuroid={"neuroid_id": range(small.shape[1])},
)
spoken: Any = nb.load("fsdd", part="test").sounds
mel = nb.features.log_mel(spoken, n_parts=8)
sounds = nb.make_assembly(
    mel.values,
    presentation={
        "stimulus_id": [f"sound-{k}" for k in range(len(mel))],
        "digit": mel["category_name"].values,
    },
    neuroid={"neuroid_id": range(mel.sizes["neuroid"])},
)

# %%
# Every image and every sound gets a caption of its own wording.


def captioned(assembly: xr.DataArray, seed: int) -> xr.DataArray:
    """Return embedded captions, one for each stimulus, under the same ids."""
    table = nb.features.captions_from_templates(
        assembly["digit"].values.tolist(),
        names={str(k): name for k, name in enumerate(names)},
        stimulus_id=assembly["stimulus_id"].values.tolist(),
        seed=seed,
    )
    return nb.features.embed_text(table)


of_images, of_sounds = captioned(images, 0), captioned(sounds, 1)
captions = nb.make_assembly(
    np.concatenate([of_images.values, of_sounds.values]),
    presentation={"stimulus_id": np.concatenate([of_images["stimulus_id"].values, of_sounds["stimulus_id"].values])},
    neuroid={"neuroid_id": range(of_images.sizes["neuroid"])},
)
print("images", images.shape, "captions", captions.shape, "sounds", sounds.shape)

# %%
# 2. Pairs between some of them
# -----------------------------
# 200 images and 150 sounds are known with their captions. No image is paired with a sound. All others are held out.

known_images, known_sounds = rng.permutation(N_IMAGES)[:200], rng.permutation(len(sounds))[:150]
varying = images.values[known_images].std(axis=0) > 0  # pixels of the border are black in all known images
images = images.isel(neuroid=np.flatnonzero(varying))
pairs = {
    ("images", "captions"): images["stimulus_id"].values[known_images].tolist(),
    ("captions", "sounds"): sounds["stimulus_id"].values[known_sounds].tolist(),
}
held_images = np.setdiff1d(np.arange(N_IMAGES), known_images)
held_sounds = np.setdiff1d(np.arange(len(sounds)), known_sounds)
known_ids = pairs["images", "captions"] + pairs["captions", "sounds"]
spaces = {
    "images": images.isel(presentation=known_images),
    "captions": nb.select(captions, stimulus_id=known_ids),
    "sounds": sounds.isel(presentation=known_sounds),
}
space = nb.aligners.CommonSpace(seed=0).fit(spaces, pairs)
print(space)

# %%
# 3. Does a sound find its image?
# -------------------------------
# Held-out sounds are carried into the space of the images, where a readout that was trained on images names
# the digit. It has never seen a sound. Chance is one in ten.

rows = []
for source, target, test in (
    ("sounds", "images", sounds.isel(presentation=held_sounds)),
    ("images", "sounds", images.isel(presentation=held_images)),
):
    trained = images.isel(presentation=known_images) if target == "images" else sounds.isel(presentation=known_sounds)
    moved = space.transform(test, source=source, target=target)
    moved = moved.assign_coords(digit=("presentation", test["digit"].values))
    score = nb.decoding.cross_decode(trained, moved, "digit", n_permutations=200)
    summary = nb.aggregate(score)
    rows.append({"name": f"{source} to {target}", "accuracy": [summary["raw"]], "chance": summary["null_mean"]})
    print(
        f"{source} to {target}: {summary['raw']:.3f} of {len(test)} held-out named rightly, chance {summary['null_mean']:.3f}"
    )

fig, ax = plt.subplots(figsize=(7, 2.4), layout="constrained")
nb.figures.accuracies(rows, ax=ax, label="10 digits", title="no image paired with a sound; one draw, seed 0")
plt.show()

# %%
# What carried it
# ---------------
# The captions: their own words for a digit are near one another, whatever the wording. What is carried is
# what captions say, the digit, and not how it was written or who spoke it. The three routes and their
# weights are in ``space.weights_``.

print(space.weights_["sounds", "images"])

# %%
# - More animals, models or senses: ``nb.aligners.CommonSpace`` takes any number of spaces.
# - Captions of photographs: the gallery's `retrieval of images by captions
#   <../auto_gallery/comparing/plot_retrieval.html>`_.
