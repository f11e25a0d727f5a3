"""
What two models predict of V4, alone and together
=================================================

Two models may predict a region equally well and for different reasons, or for the same one.
Variance partitioning divides what they predict together into what only one of them predicts and
what they share.

The recordings are real: 50 V4 neurons and the 640 images shown (``cowley2023-v4-210325``). The
models are a fixed Gabor energy model and the pixels of the same images.
"""

# %%
# Activations of both models to the same images.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

import neurobridge as nb

v4: Any = nb.load("cowley2023-v4-210325")
recordings = nb.average_repetitions(v4.recordings)
ceiling = nb.internal_consistency(v4.recordings)["ceiling"]
pixels = torch.nn.Sequential()
pixels.add_module("pixels", torch.nn.Identity())
small = nb.features.Preprocess(size=8)
spaces = {
    "Gabor energy": nb.extract(nb.features.GaborEnergy(), v4.images, "v1"),
    "8 x 8 pixels": nb.extract(pixels, v4.images, "pixels", preprocess=small),
}

# %%
# Banded ridge with a band for each space, on held-out images, in units of each neuron's ceiling. The
# sites without a reliable response have no ceiling and stay out of the normalised medians.

parts = nb.partition_variance(spaces, recordings, ceiling=ceiling, n_iter=10, seed=0)
table = parts[["median", "median_low", "median_high", "normalized_median"]].to_dataframe()
print(table.round(3).to_string())
print("R2 of each space and of both:", np.round(parts["r2_median"].values, 3).tolist())

# %%
# The circles have one size: the numbers are the result.

fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
nb.figures.variance_parts(parts, ax=axes[0], title="real V4, 50 neurons, 640 images, 5 folds, seed 0")
axes[1].scatter(parts["value"].sel(part="Gabor energy"), parts["value"].sel(part="8 x 8 pixels"), s=14, color="black")
axes[1].axhline(0, color="0.6", linewidth=1)
axes[1].axvline(0, color="0.6", linewidth=1)
axes[1].set_xlabel("unique to Gabor energy (R$^2$, held-out)")
axes[1].set_ylabel("unique to 8 x 8 pixels (R$^2$, held-out)")
axes[1].set_title("one point a neuron", fontsize="medium")
plt.show()
