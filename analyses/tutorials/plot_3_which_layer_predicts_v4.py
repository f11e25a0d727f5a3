"""
Which layer predicts V4? A real ImageNet network and real recordings
====================================================================

This page is for someone who has recordings of a visual area and wants to know which stage of a network
resembles it. At its end you will be able to take activations of many layers at once, choose a layer
without looking at the images that score it, and draw the profile of all layers.

The recordings are real: 50 V4 neurons of one macaque and the 640 natural images shown
(``cowley2023-v4-210325``, Cowley et al. 2023). The network is real, too: EfficientNet-Lite0 with ImageNet
weights, which come as a package (extra ``weights``).
"""

# %%
# 1. Recordings and their ceiling
# -------------------------------
# Every image was shown in several trials. Their agreement limits what any model can reach.

from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt

import neurobridge as nb

v4: Any = nb.load("cowley2023-v4-210325")
ceiling = nb.internal_consistency(v4.recordings, n_bootstrap=0)["ceiling"]
recordings = nb.average_repetitions(v4.recordings)
print(f"{recordings.sizes['presentation']} images, {recordings.sizes['neuroid']} neurons, "
      f"median reliability {float(ceiling.median()):.2f}")  # fmt: skip

# %%
# 2. Activations of many layers
# -----------------------------
# Layers have the names of the network's modules, and patterns choose several. The images are resized to 128 pixels.
# ``pooling="mean"`` averages each channel over the image, which keeps the arrays small. With the
# default, ``pooling="flatten"``, every position of a feature map is a unit.

network: Any = nb.load_model("weights:efficientnet-lite0")
small = replace(network.preprocess, size=128)
activations = nb.extract(
    network.model,
    v4.images,
    [f"blocks.{k}" for k in (0, 2, 4, 6, 8, 10, 12, 14, 15)],
    pooling="mean",
    preprocess=small,
    identifier=network.identifier,
)
print(activations.sizes["neuroid"], "units of", len(activations.attrs["layers"]), "layers")

# %%
# 3. Choose on some images, score on others
# -----------------------------------------
# The best of nine layers is the maximum of nine noisy scores, so its own cross-validated score is too high.
# ``select_layer`` chooses on 80 % of the images and scores the choice on the rest, once.

choice: Any = nb.select_layer(activations, recordings, regression="ridge", ceiling=ceiling, n_permutations=200, seed=0)
held_out = nb.aggregate(choice.held_out)
print(f"chosen: {choice.layer}; held-out r {held_out['raw']:.2f}, chance {held_out['null_95']:.2f}, "
      f"normalised {held_out['normalized']:.2f}")  # fmt: skip

# %%
# 4. The profile
# --------------

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
nb.figures.plot(choice, ax=ax, title="real V4, 50 neurons, 512 images, EfficientNet-Lite0, seed 0")
plt.show()

# %%
# What to make of it
# ------------------
# - The profile is computed on *training* images; the number to report is the held-out one above.
# - One animal and 50 neurons: the layer next to the best one may win in another session.
#   ``nb.compare_models`` tests differences.
# - Channel means lose where in the image something is. Repeat with ``pooling="flatten"`` and fewer layers before
#   concluding that early layers predict badly.
#
# Next: `how many shared images do I need? <plot_4_how_many_pairs.html>`_; for a score the way Brain-Score
# computes it, `your own torch model, scored <../tutorials/brainscore_user.html>`_.
