"""
When not to believe an alignment without pairs
==============================================

Clouds are made that have more and more in common, from nothing to everything. How does the verdict of an
alignment without pairs follow, and does it ever trust a wrong one?

The clouds are SIMULATED: six clusters of unequal size and place in eight dimensions, 300 points.
"""

# %%
# The second cloud is the first, turned, with noise of growing size.

import warnings

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

NOISE = (0.0, 0.3, 0.6, 1.0, 2.0)


def trial(noise: float, seed: int) -> tuple[float, float, bool]:
    """Return stability beyond chance, the share of points sent to their true neighbourhood, and the verdict."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=3, size=(6, 8))
    label = rng.choice(6, size=300, p=np.arange(1, 7) / 21)
    X = centres[label] + rng.normal(size=(300, 8))
    order = rng.permutation(300)
    copy = X @ np.linalg.qr(rng.normal(size=(8, 8)))[0]
    Y = (copy + noise * copy.std() * rng.normal(size=copy.shape))[order]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nb.bridge.UntrustedAlignmentWarning)
        start = nb.bridge.align_unpaired(X, Y, n_restarts=2, n_null=2, max_rounds=8, seed=seed)
    stability = (start.trust.stability - start.trust.stability_chance) / (1 - start.trust.stability_chance)
    i, j = start.anchors
    true = np.argsort(order)[i]
    distance = np.linalg.norm(Y[j][:, None] - Y[None], axis=2)
    near = distance[np.arange(len(i)), true] <= np.quantile(distance, 0.05, axis=1)
    return stability, float(near.mean()), bool(start.trust.trustworthy)


results = {noise: [trial(noise, seed) for seed in range(2)] for noise in NOISE}

# %%
# Filled points are trusted. Most of them are right, not all: with much noise a stable match can still be
# half wrong. Where a few pairs can be had, use them to check.

fig, ax = plt.subplots(figsize=(7.8, 3.8), layout="constrained")
colour = nb.figures.PALETTE["fused"]
for noise, trials in results.items():
    for stability, right, trusted in trials:
        ax.scatter(stability, right, s=60, facecolor=colour if trusted else "none", edgecolor=colour)
        ax.annotate(f"{noise:g}", (stability, right), textcoords="offset points", xytext=(7, -3), fontsize="x-small")
ax.axvline(0.5, color="black", linestyle=":", label="least stability to be trusted")
ax.scatter([], [], s=60, facecolor=colour, edgecolor=colour, label="trusted")
ax.scatter([], [], s=60, facecolor="none", edgecolor=colour, label="not trusted")
ax.set_xlabel("stability of the restarts, beyond chance (no truth used)")
ax.set_ylabel("anchors in the true neighbourhood")
ax.set_title("simulated clusters; numbers: noise in sd; seeds 0 and 1", fontsize="medium")
nb.figures.legend_beside(ax)
plt.show()
