"""
What alignment is: cost, plan, map and flow in two dimensions
=============================================================

This page is for a student of the method. At its end you will have seen, in a plane, what a bridge cost
is, what a transport plan makes of it, how a map follows from the plan, and what a flow adds. The
equations are named where they are used, and the `equations page <../equations.html>`_ has all of them.

The data are SIMULATED: two clouds of three groups each, so that everything can be drawn. The target
is a bent and turned copy of the source. 24 points are known in both, the *pairs*.
"""

# %%
# 1. Two spaces and a few pairs
# -----------------------------
# Nothing says that the two spaces have the same axes, units or even dimensions: a response of a neuron
# and the activation of a unit cannot be compared. What can be compared is who is near whom *within* each
# space.

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

rng = np.random.default_rng(0)
n, n_pairs = 240, 24
group = np.arange(n) % 3
centres = np.array([[0.0, 2.0], [2.2, -1.0], [-2.0, -1.4]])
X = centres[group] + rng.normal(scale=0.65, size=(n, 2))


def bend(points: np.ndarray) -> np.ndarray:
    """Bend and turn the plane: what an unknown second system does to the same stimuli."""
    turned = points @ np.array([[0.2, 1.0], [-1.0, 0.2]])
    return np.column_stack([turned[:, 0] + 0.25 * turned[:, 1] ** 2, 1.4 * turned[:, 1]])


Y = bend(X) + rng.normal(scale=0.1, size=(n, 2))
shuffled = rng.permutation(n)
Y = Y[shuffled]  # the rows of the target are in an order of their own
paired = rng.permutation(n)[:n_pairs]
partner = np.argsort(shuffled)  # row of Y that belongs to row i of X: known to us, hidden from the method
pairs = (paired, partner[paired])
COLOURS = np.array([nb.figures.PALETTE[name] for name in ("ridge", "fused", "pairs")])

fig, axes = plt.subplots(1, 2, figsize=(10.2, 3.8), layout="constrained")
for ax, points, of_group, rows, name in (
    (axes[0], X, group, pairs[0], "source"),
    (axes[1], Y, group[shuffled], pairs[1], "target"),
):
    ax.scatter(*points.T, s=10, color=COLOURS[of_group], alpha=0.5)
    ax.scatter(*points[rows].T, s=45, facecolor="none", edgecolor="black", label="known in both")
    ax.set_title(f"{name}: {n} points, {n_pairs} pairs (simulated)", fontsize="medium")
    ax.set_xlabel("first axis (arbitrary units)")
    ax.set_ylabel("second axis (arbitrary units)")
nb.figures.legend_beside(axes[1])
plt.show()

# %%
# 2. The bridge cost
# ------------------
# How far is a point x of the source from a point y of the target? Walk from x to the source side of a pair,
# cross over, and walk on from its target side to y. The cost is the length of the shortest such way,
#
# .. math:: C(x, y) = \min_p \left[ d_X(x, x_p) + d_Y(y_p, y) \right].
#
# The soft minimum of temperature :math:`\varepsilon` averages over pairs that are about as good, and makes the
# cost a product of two thin matrices: memory :math:`O((n + m) P)` and never :math:`n \times m`.

cost = nb.bridge.bridge_cost(X, Y, pairs)
print(cost)
shown = 17
row = cost.at(0.05).dense()[shown]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
axes[0].scatter(*X.T, s=8, color="0.8")
axes[0].scatter(*X[pairs[0]].T, s=30, facecolor="none", edgecolor="black")
axes[0].scatter(*X[shown], s=90, marker="*", color=nb.figures.PALETTE["fused"])
axes[0].set_title("one source point (star) and the pairs", fontsize="medium")
points = axes[1].scatter(*Y.T, s=14, c=row, cmap="viridis_r")
star = {"s": 90, "marker": "*", "facecolor": "none", "edgecolor": nb.figures.PALETTE["fused"], "linewidth": 1.5}
axes[1].scatter(*Y[partner[shown]], **star)
axes[1].set_title("its bridge cost to every target point", fontsize="medium")
fig.colorbar(points, ax=axes[1], label="bridge cost (mean anchor distances)")
for ax in axes:
    ax.set_xlabel("first axis (arbitrary units)")
    ax.set_ylabel("second axis (arbitrary units)")
plt.show()

# %%
# The hollow star is the true partner, which the method has not been told. It lies among the cheap points, and it
# is not the cheapest: over one bridge, the cost is a sum, and cannot tell points apart that are as far from the pair.
#
# 3. The plan
# -----------
# A cost alone would send many points to the same target. Optimal transport asks for a plan under which every point
# gives and receives its share,
#
# .. math:: \min_P \langle P, C \rangle + \varepsilon \, \mathrm{KL}(P \,|\, a b^\top),
#    \quad P 1 = a, \; P^\top 1 = b.

fig, axes = plt.subplots(1, 2, figsize=(8.4, 4), layout="constrained")
by_group = np.argsort(group, kind="stable")
for ax, epsilon in zip(axes, (0.05, 0.5), strict=True):
    coupling = nb.bridge.couple(cost, epsilon=epsilon)
    ax.imshow(coupling.dense()[by_group][:, partner[by_group]] ** 0.5, cmap="Greys", interpolation="nearest")
    ax.set_title(f"plan at temperature {epsilon}", fontsize="medium")
    ax.set_xlabel("target point, in the order of true partners")
    ax.set_ylabel("source point, by group")
plt.show()

# %%
# True partners are on the diagonal. A low temperature gives a sharp plan, a high one a plan that is smooth
# and cannot be wrong by much in any single place.
#
# 4. The map
# ----------
# The image of a source point is the mean of its partners under the plan, :math:`T(x) = \sum_j P(j | x)
# y_j`, the barycentric map. The fused bridge adds what the plan does not know: the direction in which a
# linear map of the pairs would send a point. It refits that map on the images of all points, and chooses
# how much of each by cross-validation over the pairs.

truth = Y[partner]
rest = np.setdiff1d(np.arange(n), pairs[0])
ridge = nb.bridge.ridge_map(X[pairs[0]], Y[pairs[1]])
fused = nb.bridge.fuse(X, Y, pairs, seed=0)
images = {
    "ridge on the pairs": ridge(X),
    "bridge, barycentric": np.asarray(nb.bridge.couple(cost, epsilon=0.05).map(X, Y)),
    "fused bridge": np.asarray(fused.map(X)),
}
fig, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained", sharex=True, sharey=True)
for ax, (name, image) in zip(axes, images.items(), strict=True):
    image = np.asarray(image)
    error = ((image - truth)[rest] ** 2).sum() / ((truth - truth.mean(axis=0))[rest] ** 2).sum()
    ax.scatter(*truth.T, s=6, color="0.8")
    ax.scatter(*image.T, s=8, color=COLOURS[group], alpha=0.7)
    ax.set_title(f"{name}: R$^2$ {1 - error:.2f}", fontsize="medium")
    ax.set_xlabel("first axis of the target")
    print(f"{name}: R2 of {len(rest)} points without a partner {1 - error:.3f} (one draw, seed 0)")
axes[0].set_ylabel("second axis of the target")
plt.show()

# %%
# Grey is the truth. Ridge keeps the straight shape of the source, for it is linear; the barycentric map
# bends as the target does and pulls points towards their neighbours' mean.
#
# 5. The flow
# -----------
# A map sends a point at once. A flow moves it along a velocity field that is learned from the plan: on straight paths
# :math:`x_t = (1 - t) x_0 + t x_1` the field is regressed on :math:`x_1 - x_0`. It can be run backward, and started from
# noise it gives a distribution of images instead of one.

plan = nb.bridge.couple(cost, epsilon=0.05)
flow = nb.flow.ConditionalFlow("pad", training=nb.flow.Training(n_steps=600), seed=0).fit(X, Y, plan)
fig, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
nb.figures.trajectories(flow, X[::2], Y, ax=ax, title="paths of 120 source points (simulated)")
plt.show()

# %%
# What next
# ---------
# - How the default aligner chooses among maps: `the method <../method.html>`_.
# - The same on labelled recordings: `how many shared images do I need? <plot_4_how_many_pairs.html>`_
# - No pair at all: `aligning without any pair <plot_8_without_pairs.html>`_.
