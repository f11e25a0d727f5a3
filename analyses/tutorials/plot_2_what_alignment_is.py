"""
What alignment is: cost, plan, map and flow in two dimensions
=============================================================

This page is for a student of the method. At its end you will have seen, in a plane, what a bridge cost
is, which transport plan follows from it, how a map follows from the plan, and what a flow adds. The
equations are named where they are used, and the `equations page <../equations.html>`_ has all of them.

The data are SIMULATED: two clouds of three groups each, so that everything can be drawn. The target
is a bent and turned copy of the source. 24 points are known in both, the *pairs*.
"""

# %%
# 1. Two spaces and a few pairs
# -----------------------------
# The two spaces need not have the same axes, units or dimensions: the response of a neuron and the
# activation of a unit cannot be compared. Distances *within* each space can be: they tell which points are
# near which.

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

rng = np.random.default_rng(0)
n, n_pairs = 240, 24
group = np.arange(n) % 3
centres = np.array([[0.0, 2.0], [2.2, -1.0], [-2.0, -1.4]])
X = centres[group] + rng.normal(scale=0.65, size=(n, 2))


def bend(points: np.ndarray) -> np.ndarray:
    """Bend and turn the plane, as an unknown second system might."""
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
# How far is a point x of the source from a point y of the target? Go from x to the source point of a pair,
# cross over to its target point at no cost, and go on from there to y. The cost is the length of the shortest such
# path,
#
# .. math:: C(x, y) = \min_p \left[ d_X(x, x_p) + d_Y(y_p, y) \right].
#
# The minimum is over the P pairs, and distances are in units of the mean distance to their points. The soft minimum of
# temperature :math:`\varepsilon`, in the same unit, averages over paths of similar length. Then the kernel
# :math:`e^{-C / \varepsilon}` of the transport is a product of two thin matrices, so that memory is
# :math:`O((n + m) P)` and the :math:`n \times m` matrix is never needed.

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
# The hollow star is the true partner, which is hidden from the method. It is among the cheap points (27 of
# the 240 are cheaper) and not the cheapest: over one pair the cost is a sum, and cannot
# distinguish points that are equally far from the pair.
#
# 3. The plan
# -----------
# If every point took its cheapest partner, many would share a target and others would have none. A transport plan
# :math:`\pi` is a matrix of probabilities, of which :math:`\pi_{ij}` is the mass that goes from source point i to
# target point j. Optimal transport finds the plan of least mean cost under which every point sends and receives its
# share, here :math:`a_i = 1/n` and :math:`b_j = 1/m`; the second term keeps it smooth,
#
# .. math:: \min_\pi \langle \pi, C \rangle + \varepsilon \, \mathrm{KL}(\pi \,|\, a b^\top),
#    \quad \pi 1 = a, \; \pi^\top 1 = b.

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
# True partners are on the diagonal. A low temperature gives a sharp plan; a high one spreads the mass of every point
# over many partners.
#
# 4. The map
# ----------
# The image of a source point is the mean of its partners under the plan, :math:`T(x_i) = \sum_j \pi_{ij} y_j /
# \sum_j \pi_{ij}`. This is the barycentric map. The fused bridge adds directions, which distances do not contain:
#
# 1. Fit a forward and a backward map to the pairs.
# 2. Solve for the plan under a cost that is part bridge cost, part error of the two maps.
# 3. Refit both maps on all points and their images under the plan, and go back to step 2, for some rounds.
#
# Cross-validation over the pairs chooses the weight of the maps, the temperature, the number of rounds, and the
# family of the maps, which may be curved.

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
# Grey is the truth. Ridge regression is linear and keeps the straight shape of the source. The barycentric map bends
# as the target does and pulls points towards the mean of their neighbours. The fused bridge bends and does not pull.
# The titles give R\ :sup:`2` of the points without a partner, in one draw; the gains on real recordings are smaller
# (`measured on real recordings <../measured.html>`_).
#
# 5. The flow
# -----------
# A map gives an image in one step. A flow moves a point along a velocity field that is learned from the plan. Partners
# :math:`(x_0, x_1)` are drawn from the plan, and on the straight paths :math:`x_t = (1 - t) x_0 + t x_1` between them
# the field is regressed on :math:`x_1 - x_0`. A flow can be run backward, and started from noise it gives a
# distribution of images instead of one. Here it starts at the source points themselves (base "pad", for spaces
# of like dimension).

plan = nb.bridge.couple(cost, epsilon=0.05)
flow = nb.flow.ConditionalFlow("pad", training=nb.flow.Training(n_steps=600), seed=0).fit(X, Y, plan)
fig, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
nb.figures.trajectories(flow, X[::2], Y, ax=ax, title="paths of 120 source points (simulated)")
plt.show()
error = ((flow.transport(X) - truth)[rest] ** 2).sum() / ((truth - truth.mean(axis=0))[rest] ** 2).sum()
print(f"flow: R2 of {len(rest)} points without a partner {1 - error:.3f} (one draw, seed 0)")

# %%
# Take a flow for samples, for an inverse, or for moved points that are spread out as the target is. For predictions
# take the map: `the flow <../flow.html>`_ has the numbers.
#
# What next
# ---------
# - How the default aligner chooses among maps, which criterion to choose, and how many pairs are needed: `the method
#   <../method.html>`_.
# - Whether to believe an alignment: `diagnostics <../diagnostics.html>`_.
# - The same on labelled recordings: `how many shared images do I need? <plot_4_how_many_pairs.html>`_
# - No pair at all: `aligning without any pair <plot_8_without_pairs.html>`_.
