"""
Two groups of people, one space of meanings
===========================================

1,854 objects have a place in a space fitted to judgements of women, and another in a space fitted to
those of men. The labels of the objects are taken away. Can geometry alone say which object is which?

The judgements are real (``things-similarity``). One draw, seed 0.
"""

# %%
# Rows of the second space are shuffled. The alignment says itself whether to trust it.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

women: Any = nb.load("things-similarity", group="female")
men: Any = nb.load("things-similarity", group="male")
order = np.random.default_rng(0).permutation(1854)
X, Y = women.activations.values, men.activations.values[order]
start = nb.bridge.align_unpaired(X, Y, n_restarts=2, n_null=2, seed=0)
print(start.trust)

# %%
# Every object is sent by the rotation that was trained without a pair. How many objects are nearer to its
# image than the right one?

image = np.asarray(start.bridge.forward(X))
unit = [points / np.linalg.norm(points, axis=1, keepdims=True) for points in (image, Y)]
similarity = unit[0] @ unit[1].T
true = np.argsort(order)
rank = 1 + (similarity > similarity[np.arange(1854), true][:, None]).sum(axis=1)

fig, ax = plt.subplots(figsize=(7.6, 3.8), layout="constrained")
k = np.arange(1, 1855)
ax.plot(k, (rank[:, None] <= k).mean(axis=0), color=nb.figures.PALETTE["unbalanced"], label="without a pair")
ax.plot(k, k / 1854, label="chance, k / 1854", **nb.figures.CHANCE)
ax.set_xscale("log")
ax.set_xlabel("k (rank of the right object, of 1,854)")
ax.set_ylabel("share of objects with a rank of at most k")
ax.set_title("real similarity judgements, no object known in both, seed 0", fontsize="medium")
nb.figures.legend_beside(ax)
plt.show()
print(f"R@1 {np.mean(rank == 1):.3f}, R@10 {np.mean(rank <= 10):.3f}, chance {1 / 1854:.4f} and {10 / 1854:.4f}")
