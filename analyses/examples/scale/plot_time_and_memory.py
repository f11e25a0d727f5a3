"""
Time and memory of transport, with and without the matrix
=========================================================

How long does a plan take, and how much memory, when the n x m matrix is written out and when it is not?
The clouds are SIMULATED.
"""

# %%
# Sinkhorn on the matrix, the same plan from its two factors, and the factors with the nearest anchors alone.

import time

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

COUNTS = (500, 1_000, 2_000, 4_000, 16_000, 32_000)


def seconds(n: int, method: str, nearest: int | None) -> float:
    """Return the processor time of one plan over 64 pairs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 10)).astype(np.float32)
    Y = (X @ rng.normal(size=(10, 12))).astype(np.float32)
    rows = np.arange(64)
    began = time.process_time()
    nb.bridge.couple(nb.bridge.bridge_cost(X, Y, (rows, rows), nearest=nearest), method=method, epsilon=0.2, tol=1e-3)
    return time.process_time() - began


methods = {
    "n x m matrix": ("sinkhorn", None, COUNTS[:3]),
    "two factors": ("factored", None, COUNTS),
    "two factors, 8 nearest anchors": ("factored", 8, COUNTS),
}
seconds(200, "sinkhorn", None)  # the first call loads libraries
times = {name: [seconds(n, method, nearest) for n in counts] for name, (method, nearest, counts) in methods.items()}

# %%
# The matrix costs the square of the number of points, the factors cost the number of points.

fig, ax = plt.subplots(figsize=(8.2, 3.8), layout="constrained")
styles = nb.figures.styles_of(times)
for name, values in times.items():
    ax.loglog(methods[name][2], values, label=name, **styles[name])
ax.set_xlabel("points a side (simulated)")
ax.set_ylabel("processor time of a plan (s)")
nb.figures.legend_beside(ax)
plt.show()
