"""
Which pairs are wrong?
======================

A tenth of the pairs was mixed up, as happens when trigger lines or file lists are off by a few rows.
Which ones? The pairs are judged by one another, before anything is aligned.

The responses are real (168 sites of macaque IT, ``majajhong2015-it-v6``, dealt into two sets of sites);
six of 60 pairs are exchanged on purpose.
"""

# %%
# Sixty pairs, six of them exchanged.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

recordings: Any = nb.load("majajhong2015-it-v6").recordings
rng = np.random.default_rng(0)
sites, images = rng.permutation(168), rng.permutation(640)[:200]
X, Y = (recordings.values[np.ix_(images, part)] for part in (sites[:84], sites[84:]))
source, target = np.arange(60), np.arange(60)
wrong = rng.permutation(60)[:6]
target[wrong] = np.roll(target[wrong], 1)

# %%
# The diagnosis names suspects. It is told nothing of what was exchanged. The pairs of two noisy populations
# predict one another imprecisely, so that it calls some true pairs suspect as well, and says that it cannot
# tell whether pairs are wrong at all: look at the suspects by hand.

report = nb.bridge.diagnose(nb.bridge.bridge_cost(X, Y, (source, target)), X=X, Y=Y, warn=False)
print(report.summary())
suspects = set(report.outliers.tolist())
print(f"{len(suspects & set(wrong.tolist()))} of {len(wrong)} exchanged pairs among {len(suspects)} suspects")

# %%
# A pair of rank 0 is predicted best by the others; 0.5 is chance.

fig, ax = plt.subplots(figsize=(9, 3.2), layout="constrained")
order = np.argsort(report.pair_rank)
exchanged = np.isin(order, wrong)
ax.bar(np.arange(60)[~exchanged], report.pair_rank[order][~exchanged], color="0.75", label="true pair")
colour = nb.figures.PALETTE["fused"]
ax.bar(np.arange(60)[exchanged], report.pair_rank[order][exchanged], color=colour, hatch="//", label="exchanged pair")
ax.axhline(0.5, label="chance", **nb.figures.CHANCE)
ax.set_xlabel("pair, by rank")
ax.set_ylabel("rank of the true partner")
ax.set_title("real macaque IT, two sets of sites, 60 pairs, seed 0", fontsize="medium")
nb.figures.legend_beside(ax)
plt.show()
