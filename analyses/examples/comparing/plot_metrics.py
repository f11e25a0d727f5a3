"""
One model, three targets, several metrics
=========================================

Metrics answer different questions. Which of them notice a rotation, stretched dimensions, or noise? The
targets are SIMULATED copies of one model space, each changed in one way.
"""

# %%
# A model, and three targets.

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import neurobridge as nb

rng = np.random.default_rng(0)
n, d = 120, 8
values = rng.normal(size=(n, d)) * np.linspace(2, 0.5, d)


def space(points: np.ndarray) -> xr.DataArray:
    """Return points as an assembly."""
    ids = {"neuroid_id": range(points.shape[1])}
    return nb.make_assembly(points, presentation={"stimulus_id": range(n)}, neuroid=ids)


targets = {
    "turned": values @ np.linalg.qr(rng.normal(size=(d, d)))[0],
    "stretched": values * np.geomspace(0.1, 10, d),
    "noisy": values + 2 * rng.normal(size=(n, d)),
}

# %%
# Regression and canonical correlation do not see an invertible linear change, geometry does, and all see noise.

metrics = ("ridge", "cca", "cka", "rdm", "procrustes")
table = np.array(
    [
        [nb.aggregate(nb.METRICS[metric](space(values), space(points), n_permutations=0))["raw"] for metric in metrics]
        for points in targets.values()
    ]
)
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
for k, (name, family) in enumerate(zip(targets, ("ridge", "pairs", "fused"), strict=True)):
    colour = nb.figures.PALETTE[family]
    ax.bar(np.arange(len(metrics)) + 0.27 * (k - 1), table[k], 0.25, color=colour, label=name)
ax.set_xticks(range(len(metrics)), [*metrics[:-1], "procrustes\n(a distance)"])
ax.set_ylabel("value (1: the same; distance: 0)")
ax.set_title("simulated copies of one space, 120 stimuli, 8 dimensions, seed 0", fontsize="medium")
nb.figures.legend_beside(ax)
plt.show()
