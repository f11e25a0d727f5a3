"""
Whom does a plan match with whom?
=================================

A plan is a table of numbers until its partners are looked at. Two sets of IT sites would do; here the two
spaces are two encodings of real handwritten digits (``mnist``): pixels, and pixels seen by a bank of
Gabor filters. Forty digits are known in both.
"""

# %%
# 400 test digits in both encodings.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

mnist: Any = nb.load("mnist", part="test")
digits = mnist.images[:400]
pixels = digits.values.reshape(400, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(400, -1)
gabor = nb.extract(nb.features.GaborEnergy(), digits, "v1", preprocess=nb.features.Preprocess(size=48)).values
rows = np.random.default_rng(0).permutation(400)[:40]
plan = nb.bridge.couple(nb.bridge.bridge_cost(pixels, gabor, (rows, rows)), epsilon=0.1)

# %%
# Eight digits that are in no pair, and the three partners with the largest share of their mass.

unknown = np.setdiff1d(np.arange(400), rows)[:8]
fig, ax = plt.subplots(figsize=(4.2, 6.4), layout="constrained")
nb.figures.partners(plan, digits, ax=ax, rows=unknown.tolist(), title="digit, and its likeliest partners")
plt.show()
same = digits["category_name"].values
print(
    "first partner is of the same digit:",
    np.mean([same[i] == same[int(np.argmax(plan.dense()[i]))] for i in np.setdiff1d(np.arange(400), rows)]).round(3),
)
