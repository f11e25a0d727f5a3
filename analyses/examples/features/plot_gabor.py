"""
What a bank of Gabor filters sees
=================================

The energies of Gabor filters are the oldest model of V1 and a good first model of anything visual: they
need no weights. The images are real: those shown to a macaque's V4 (``cowley2023-v4-210325``).
"""

# %%
# Activations of the layer, and where in the table of units a channel lies.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

images: Any = nb.load("cowley2023-v4-210325").images
v1 = nb.extract(nb.features.GaborEnergy(), images, "v1")
print(dict(v1.sizes), [name for name in v1.coords if "neuroid" in v1[name].dims])

# %%
# The images that drive four units most, from left to right.

fig, axes = plt.subplots(4, 1, figsize=(7, 5.4), layout="constrained")
units = np.linspace(0, v1.sizes["neuroid"] - 1, 6).astype(int)[1:5]
for ax, unit in zip(axes, units, strict=True):
    best = np.argsort(-v1.values[:, unit])[:8]
    shown = np.asarray(images[np.sort(best)].values)[np.argsort(np.argsort(best))]
    ax.imshow(np.concatenate(list(shown), axis=1))
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_ylabel(f"unit {unit}", fontsize="small")
fig.suptitle("the eight of 640 real images that drive a unit of the Gabor bank most", fontsize="medium")
plt.show()
