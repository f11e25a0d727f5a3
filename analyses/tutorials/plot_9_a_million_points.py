"""
A million points, and a cluster
===============================

This page is for someone with more points than fit into a matrix. At its end you will be able to say
before a run how much memory and time it takes, choose between keeping distances and computing them again,
and run the same lines on a dask cluster.

The data are SIMULATED clouds; only time and memory matter here.
"""

# %%
# 1. Why no n x m matrix is needed
# --------------------------------
# Under the softmin bridge cost the kernel of transport is a product of two thin matrices, of n and m rows
# and one column a pair. A solver step is two products with them: time and memory are O((n + m) P) instead
# of O(n m).

import time

import dask.array
import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb


def clouds(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return two simulated clouds of n points in 16 and 24 dimensions and 100 pairs."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 16)).astype(np.float32)
    Y = (X @ rng.normal(size=(16, 24)) / 4 + 0.5 * rng.normal(size=(n, 24))).astype(np.float32)
    rows = rng.permutation(n)[:100]
    return X, Y, (rows, rows)


# %%
# 2. Refused before it starts
# ---------------------------
# A method that would write the matrix out says how much it needs, before it allocates anything.

X, Y, pairs = clouds(100_000)
try:
    nb.bridge.couple(nb.bridge.bridge_cost(X, Y, pairs), method="sinkhorn")
except MemoryError as error:
    print(error)

# %%
# 3. Time grows with the number of points
# ---------------------------------------
# Distances to the 16 nearest of 100 anchors are kept. All numbers are measured here, when this page was built.

counts, seconds = (10_000, 100_000, 1_000_000), []
for n in counts:
    X, Y, pairs = clouds(n)
    began = time.process_time()
    coupling = nb.bridge.couple(nb.bridge.bridge_cost(X, Y, pairs, nearest=16), epsilon=0.05)
    seconds.append(time.process_time() - began)
    print(f"{n:>9,} points a side: {seconds[-1]:6.2f} s of processor time, {coupling.n_iter} iterations")
dense_gb = [n * n * 4 / 1e9 for n in counts]
kept_gb = [2 * n * 16 * (4 + 8) / 1e9 for n in counts]
fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
colour = nb.figures.PALETTE["fused"]
axes[0].loglog(counts, seconds, "o-", color=colour)
axes[0].set_ylabel("processor time (s)")
axes[1].loglog(counts, dense_gb, "s--", color="0.4", label="n x m matrix, float32")
axes[1].loglog(counts, kept_gb, "o-", color=colour, label="16 nearest anchors of 100")
axes[1].set_ylabel("memory of the distances (GB)")
nb.figures.legend_beside(axes[1])
for ax in axes:
    ax.set_xlabel("points a side (simulated)")
plt.show()

# %%
# 4. Images of new points
# -----------------------
# The plan is never written out either: a new point needs only its distances to the pairs, and its image is
# a mean of target points.

new = clouds(1_000, seed=1)[0]
print("images:", np.asarray(coupling.map(new, Y)).shape)

# %%
# 5. Larger than memory, and a cluster
# ------------------------------------
# Memory maps and dask arrays are read block by block. ``stream=True`` keeps no distances at all.
# ``distributed=True`` keeps them on the workers: with ``client =
# dask.distributed.Client("scheduler:8786")`` the following lines run on a cluster unchanged, and without a
# client on threads, as here.

X, Y, pairs = clouds(20_000)
blocks = dask.array.from_array(X, chunks=(5_000, -1)), dask.array.from_array(Y, chunks=(5_000, -1))
spread = nb.bridge.couple(nb.bridge.bridge_cost(*blocks, pairs, distributed=True), epsilon=0.2)
local = nb.bridge.couple(nb.bridge.bridge_cost(X, Y, pairs), epsilon=0.2)
difference = np.abs(np.asarray(spread.map(new, Y)) - np.asarray(local.map(new, Y))).max()
print(f"largest difference between workers and one process: {difference:.1e}")

# %%
# What next
# ---------
# - 1.28 million points a side on two cores, with time and memory: `benchmarks <../benchmarks.html>`_.
# - The default aligner fuses many points in minibatches: `the method <../method.html>`_.
