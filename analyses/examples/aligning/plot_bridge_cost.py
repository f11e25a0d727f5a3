"""
The landscape of a bridge cost
==============================

How far is each place of one space from a point of the other, when the only ways lead over four pairs? The
data are SIMULATED: two planes, so that the cost can be drawn as a landscape.
"""

# %%
# Four pairs, and one point of the source.

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

anchors_x = np.array([[0.0, 0.0], [2.0, 0.5], [0.5, 2.0], [2.5, 2.5]])
anchors_y = np.array([[2.4, 0.2], [2.1, 2.3], [0.2, 0.6], [0.4, 2.6]])
point = np.array([[1.6, 1.0]])
side = np.linspace(-0.5, 3.2, 90)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
X, Y = np.concatenate([anchors_x, point]), np.concatenate([anchors_y, grid])
cost = nb.bridge.bridge_cost(X, Y, (np.arange(4), np.arange(4)), scale="none")

# %%
# The minimum of the paper and the soft minimum that the solver uses. A higher temperature rounds the
# landscape off. (It also lowers it, by at most the temperature times log 4, which is added back here.)

fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", sharey=True)
hard = nb.bridge.bridge_cost(X, Y, (np.arange(4), np.arange(4)), scale="none", reduce="min")
for ax, landscape, name in (
    (axes[0], hard.dense()[4, 4:], "minimum over pairs"),
    (axes[1], cost.at(0.1).dense()[4, 4:], "soft, temperature 0.1"),
    (axes[2], cost.at(1.0).dense()[4, 4:] + np.log(4), "soft, temperature 1"),
):
    drawn = ax.contourf(side, side, landscape.reshape(90, 90), levels=14, cmap="viridis_r")
    ax.scatter(*anchors_y.T, s=60, facecolor="none", edgecolor="black", linewidth=1.5, label="target side of a pair")
    ax.set_title(name, fontsize="medium")
    ax.set_xlabel("first axis (arbitrary units)")
    ax.set_aspect("equal")
axes[0].set_ylabel("second axis (arbitrary units)")
fig.colorbar(drawn, ax=axes, label="bridge cost of the point")
nb.figures.shared_legend(axes, loc="outside lower center")
plt.show()
