"""
One cause, several responses
============================

A map sends each point to one place, the mean. Where a stimulus may be followed by one of several
responses, the mean is a response that never occurs. A flow that starts at noise gives a distribution
instead.

The data are SIMULATED: a target that is one of two curves, by chance.
"""

# %%
# The truth has two branches. Every fourth point is paired.

import warnings

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

rng = np.random.default_rng(0)
x = rng.uniform(-1, 1, size=800)
branch = rng.choice([-1.0, 1.0], size=800)
X = np.column_stack([x, rng.normal(scale=0.05, size=800)])
Y = np.column_stack([x, branch * (0.3 + x**2)]) + rng.normal(scale=0.05, size=(800, 2))
rows = np.arange(0, 800, 4)
plan = nb.bridge.Coupling.of_pairs((rows, rows), (800, 800))
flow = nb.flow.ConditionalFlow("noise", training=nb.flow.Training(n_steps=3000), seed=0).fit(X, Y, plan)
ridge = nb.bridge.ridge_map(X[rows], Y[rows])

# %%
# Draws of the flow follow the branches; the ridge map goes between them. Draws that the flow itself
# flags as outside the data are grey.

with warnings.catch_warnings():
    warnings.simplefilter("ignore", nb.flow.OffSupportWarning)  # those are drawn in grey
    drawn = np.asarray(flow.transport(X[::2]))
off = np.asarray(flow.off_support(drawn))
print(f"{int(off.sum())} of {len(off)} draws are flagged as off the support of the target")
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.4), layout="constrained", sharex=True, sharey=True)
for ax, points, name in (
    (axes[0], Y, "target (simulated)"),
    (axes[1], np.asarray(ridge(X[::2])), "ridge map of 200 pairs"),
    (axes[2], drawn, "one draw a point of the flow"),
):
    colour = nb.figures.PALETTE["ridge" if ax is axes[0] else "fused"]
    flagged = off if ax is axes[2] else np.zeros(len(points), dtype=bool)
    ax.scatter(*points[~flagged].T, s=5, color=colour, alpha=0.6)
    ax.scatter(*points[flagged].T, s=5, color="0.6", alpha=0.6)
    ax.set_title(name, fontsize="medium")
    ax.set_xlabel("first response (arbitrary units)")
axes[0].set_ylabel("second response (arbitrary units)")
plt.show()
