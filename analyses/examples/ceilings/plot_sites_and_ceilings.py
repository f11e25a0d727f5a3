"""
Every site beside its own ceiling
=================================

A site that is noisy cannot be predicted well by any model. Which sites are predicted badly because the
model is bad, and which because they are noisy? The recordings are real: 50 V4 neurons, 640 images
(``cowley2023-v4-210325``).
"""

# %%
# Reliability of every site, and predictivity by ridge regression from two models.

from typing import Any

import matplotlib.pyplot as plt

import neurobridge as nb

v4: Any = nb.load("cowley2023-v4-210325")
ceiling = nb.internal_consistency(v4.recordings)
recordings = nb.average_repetitions(v4.recordings)
gabor = nb.extract(nb.features.GaborEnergy(), v4.images, ["v1", "v2"])
options: Any = {"ceiling": ceiling["ceiling"], "splits": "kfold,n_splits=5", "n_permutations": 100}
scores = {
    layer: nb.predictivity(nb.select(gabor, layer=layer), recordings, "ridge", **options) for layer in ("v1", "v2")
}

# %%
# Left: reliabilities with their intervals. Right: no site can be above the line.

fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
nb.figures.reliability(ceiling, ax=axes[0])
nb.figures.sites(scores, ax=axes[1], title="real V4, Gabor bank, 5 folds, seed 0")
plt.show()
