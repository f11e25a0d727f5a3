"""
Which categories are confused, and where
========================================

A readout makes mistakes, and their pattern says more than their number. The recordings are SIMULATED: V4
and IT of two simulated animals that see 64 rendered objects of eight categories.
"""

# %%
# The same readout on both regions.

from typing import Any

import matplotlib.pyplot as plt

import neurobridge as nb

experiment: Any = nb.simulate_hvm({3: 3}, n_repetitions=6, image_size=48)
recordings = nb.average_repetitions(experiment.recordings).squeeze()
scores = {
    region: nb.decode(nb.select(recordings, region=region), "category_name", n_permutations=100)
    for region in ("V4", "IT")
}

# %%
# Rows are what was shown, columns what was read.

fig, axes = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
for ax, (region, score) in zip(axes, scores.items(), strict=True):
    summary = nb.aggregate(score)
    nb.figures.confusion(
        score, ax=ax, title=f"simulated {region}: {summary['raw']:.2f}, chance {summary['null_mean']:.2f}"
    )
plt.show()
