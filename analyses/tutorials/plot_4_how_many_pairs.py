"""
How many shared images do I need?
=================================

This page is for someone who plans an experiment: images that are shown to an animal are expensive, and images
that are shown to a model cost nothing. At its end you will be able to draw a learning curve over the number of
shared images, read it beside ceiling and chance, and say what unshared images add.

The recordings are real: 50 V4 neurons and 640 images (``cowley2023-v4-210325``). The model is a fixed bank of Gabor
filters. 128 images are held out in every draw; three draws (seeds 0 to 2).
"""

# %%
# 1. The data
# -----------

from typing import Any

import matplotlib.pyplot as plt

import neurobridge as nb

v4: Any = nb.load("cowley2023-v4-210325")
ceiling = nb.internal_consistency(v4.recordings, n_bootstrap=0)["ceiling"]
recordings = nb.average_repetitions(v4.recordings)
model = nb.extract(nb.features.GaborEnergy(), v4.images, "v1")

# %%
# 2. What one point of the curve is
# ---------------------------------
# A fifth of the images is held out. Of the rest, some are pairs; every other image is dealt to one space alone, so that
# no image is in both without being a pair. That is the experiment you would do with so many shared images.

fold = nb.evaluate.draw_curve_fold(model, recordings, 20, seed=0)
n_model, n_recordings = len(fold.source_train), len(fold.target_train)
print(f"{len(fold.pairs)} pairs; {n_model} training images in the model, {n_recordings} in the recordings")
print(f"{len(fold.target_test)} images held out")

# %%
# 3. The curve
# ------------
# Two methods on the same draws: ridge regression on the pairs, which uses nothing else, and the fused
# bridge, which uses all other images as well.

curve = nb.learning_curve(
    model,
    recordings,
    {"ridge": nb.aligners.RidgeAligner(), "fused": nb.BridgeAligner(map="barycentric")},
    n_pairs=(10, 40, 160),
    n_seeds=3,
    ceiling=ceiling,
    n_permutations=100,
    progress=False,
)
print(curve["mean"].round(3).to_pandas().to_string())

# %%
# 4. The figure
# -------------

fig, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
nb.figures.plot(curve, ax=ax, title="real V4, 50 neurons, 128 held-out images, seeds 0 to 2")
plt.show()

# %%
# 5. Read it
# ----------
# - Read across: how many pairs does ridge need to reach what the fused bridge reaches with fewer? That is
#   what unshared images save.
# - Read up: the distance to the ceiling is what is left for better models or more pairs. Here the model is
#   a bank of filters, so that most of it is the model's.
# - Read down: below the chance level nothing was learned.
# - The bars are intervals over three draws. Take ten before deciding on an experiment.
#
# With many pairs the two methods meet: there is little left for unshared images to tell. Where they are no
# help at all, cross-validation chooses ridge, and `benchmarks <../benchmarks.html>`_ has the cases in which
# the bridge loses.
