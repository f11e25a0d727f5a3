"""
Points that move from one space to another
==========================================

A flow learns a velocity field from a plan, and carries points along it. The clouds are SIMULATED: a ring
becomes two moons, with 20 known pairs.
"""

# %%
# Two clouds, twenty pairs, the plan, and the flow trained on it.

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

rng = np.random.default_rng(0)
angle = rng.uniform(0, 2 * np.pi, size=300)
X = np.column_stack([np.cos(angle), np.sin(angle)]) + rng.normal(scale=0.06, size=(300, 2))
upper = angle < np.pi
Y = np.column_stack([np.cos(angle) + np.where(upper, 0, 1), np.sin(angle) + np.where(upper, 0, 0.45)])
Y = 2 * Y + rng.normal(scale=0.08, size=(300, 2))
rows = rng.permutation(300)[:20]
plan = nb.bridge.couple(nb.bridge.bridge_cost(X, Y, (rows, rows)), epsilon=0.1)
flow = nb.flow.ConditionalFlow("pad", training=nb.flow.Training(n_steps=1000), seed=0).fit(X, Y, plan)

# %%
# Paths from where the flow starts to where it ends.

fig, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
nb.figures.trajectories(flow, X[::2], Y, ax=ax, title="a ring becomes two moons (simulated, 20 pairs, seed 0)")
plt.show()
